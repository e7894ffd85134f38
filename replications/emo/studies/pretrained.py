"""A pretrained model whose training goes on, on text of one kind, with each loss: one code on two cores and on a card.

All arms go on from one checkpoint. Weights that were shipped in four bits are first repaired by maximum likelihood, on
text of another kind, so that no arm gains by that. Where only the last layers are trained, head and embedding are
frozen, and the states that enter those layers are computed once for each window.

Dimension letters: N windows, T time (context), V vocabulary, D width.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from paperkit.config import StrictModel
from paperkit.hardware import Hardware
from paperkit.models.language_model import even_windows, random_windows
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.texts import Split
from paperkit.training import train, warmup_cosine
from paperkit.tuning import LogRange, Search
from replications.emo.loss import UnitEmbedding
from replications.emo.studies import weights
from replications.emo.studies.arms import cross_entropy, objective
from replications.emo.studies.costs import within_deciles
from replications.emo.studies.generation import Generation, measure_generation
from replications.emo.studies.measuring import Quality, quality, report

EXPERIMENT, START = "continued", "continued_start"
STARTS = ("as_shipped", "repaired")
TOKENS_AT_ONCE = 512  # in an evaluation
REPAIR_SEED = 0
WARMUP_SHARE = 0.1


class Repair(StrictModel):
    """Maximum likelihood before the arms part, with the batches' size of the task."""

    corpus: weights.Corpus  # of another kind than the task's
    steps: int = Field(ge=3)
    lr: PositiveFloat


class Task(StrictModel):
    """What is trained and on what; what a run's configuration holds beside the learning rate."""

    model: weights.Model
    corpus: weights.Corpus
    trainable_layers: PositiveInt | None  # the last so many and the final norm; null: all of the model
    context: PositiveInt  # tokens a window
    batch: PositiveInt  # windows a step
    steps: int = Field(ge=3)
    repair: Repair | None  # null where the weights are whole
    validation_windows: PositiveInt  # evenly spaced
    test_windows: PositiveInt
    glove: bool  # whether GloVe's vectors give a second cost, to be measured under
    generation: Generation | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.repair and self.repair.corpus == self.corpus:
            message = f"repair.corpus {self.repair.corpus} must be another than the corpus of the task"
            raise ValueError(message)
        if self.model == "gpt2" and self.trainable_layers:
            message = "trainable_layers must be null for gpt2: its last layers alone are not trained here"
            raise ValueError(message)
        return self


class Pretrained(StrictModel):
    """The study: which arms, with which rates, on how many seeds."""

    task: Task
    lr: LogRange
    num_trials: PositiveInt  # of each arm, a power of two
    arms: Mapping[str, PositiveInt]  # with the number of seeds of each; "emo_glove" has the rate of "emo"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "emo_glove" in self.arms and not self.task.glove:
            message = "arms has emo_glove, and task.glove is false; set it to true"
            raise ValueError(message)
        unknown = sorted(set(self.task.generation.arms if self.task.generation else ()) - set(self.arms))
        if unknown:
            message = f"task.generation.arms has {unknown}, which are not in arms {sorted(self.arms)}"
            raise ValueError(message)
        return self

    def require(self) -> None:
        """Refuse to start without weights, vectors or texts; FileNotFoundError names them and the remedy."""
        weights.MODELS[self.task.model].require()
        weights.require_corpus(self.task.corpus)
        if self.task.glove:
            weights.require_packages()

    def searches(self) -> list[Search]:
        """List the searches, one an arm; trials write no texts."""
        task = self.task.model_dump(exclude={"generation"})
        return [
            Search(EXPERIMENT, arm, task, {"lr": self.lr}, self.num_trials, "loss_nats")
            for arm in self.arms
            if arm != "emo_glove"
        ]

    def reports(self, points: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[Run]:
        """List the reported runs, seed by seed, from the selected point of each search; first both starts."""
        task, start = self.task.model_dump(), self.task.model_dump(exclude={"generation"})
        rates = {search.arm: point["lr"] for search, point in zip(self.searches(), points, strict=True)}
        return [Run(START, arm, seeds[0], start) for arm in STARTS[: 2 if self.task.repair else 1]] + [
            Run(EXPERIMENT, arm, seed, {**task, "lr": rates[arm.removesuffix("_glove")]})
            for number, seed in enumerate(seeds)
            for arm, seeds_of_arm in self.arms.items()
            if number < seeds_of_arm
        ]


def measure_pretrained(run: Run) -> Iterator[Measurement]:
    """Train (or, of the starts, do not), and report validation and test; some arms then write texts."""
    task, start = Task.from_config(run.config), _start(run)
    steps = 0 if run.experiment == START else task.steps
    if run.experiment == START:
        start.restore(run.arm)
    elif not start.trained(run):
        yield from (Measurement(split, steps, "loss_nats", math.nan) for split in ("validation", "test"))
        return
    costs = {"head": start.cost} | ({"glove": start.glove} if task.glove else {})
    yield from report(start.quality("validation", {}), start.quality("test", costs), steps)
    if task.generation and run.arm in task.generation.arms:
        documents = {split: weights.texts(task.model, task.corpus, split) for split in ("validation", "test")}
        seed = seeds_of(run.seed)[2]
        yield from measure_generation(start.model, start.frozen, documents, task.generation, seed, steps)


def measure_pretrained_trial(run: Run) -> Iterator[Measurement]:
    """Train, and look only at what may select: the validation loss, never the test split."""
    start = _start(run)
    loss = start.quality("validation", {}).loss if start.trained(run) else math.nan
    yield Measurement("validation", run.config["steps"], "loss_nats", loss)


class Whole(nn.Module):
    """All of a model: token ids (N, T) to logits (N, T, V)."""

    def __init__(self, model: Any) -> None:
        """Keep the model."""
        super().__init__()
        self.model = model

    @property
    def trainable(self) -> list[nn.Parameter]:
        """All parameters, a tied matrix once."""
        return list(self.model.parameters())

    def forward(self, tokens_NT: Tensor) -> Tensor:
        """Return logits."""
        return self.model(tokens_NT, use_cache=False).logits

    def entering(self, tokens_NT: Tensor) -> Tensor:
        """Return what enters what is trained: the tokens."""
        return tokens_NT


class LastLayers(nn.Module):
    """The last layers of a Llama: states that enter them (N, T, D) to logits (N, T, V), through its frozen head."""

    def __init__(self, model: Any, number: int) -> None:
        """Keep the model, whose first layers are not called by `forward`."""
        super().__init__()
        self.model, layers = model, model.model.layers
        self.first, self.last = layers[:-number], layers[-number:]

    @property
    def trainable(self) -> list[nn.Parameter]:
        """The parameters of the last layers and of the final norm."""
        return [*self.last.parameters(), *self.model.model.norm.parameters()]

    def forward(self, states_NTD: Tensor) -> Tensor:
        """Return logits."""
        return self.model.lm_head(self.model.model.norm(self._through(self.last, states_NTD)))

    @torch.no_grad()
    def entering(self, tokens_NT: Tensor) -> Tensor:
        """Return the states that enter the last layers."""
        parts = tokens_NT.split(max(1, TOKENS_AT_ONCE // tokens_NT.shape[1]))
        device = self.model.lm_head.weight.device
        return torch.cat([
            self._through(self.first, self.model.model.embed_tokens(part.to(device))).cpu() for part in parts
        ])  # fmt: skip

    def _through(self, layers: Any, states_NTD: Tensor) -> Tensor:
        positions = torch.arange(states_NTD.shape[1], device=states_NTD.device)[None]
        angles = self.model.model.rotary_emb(states_NTD, positions)
        for layer in layers:
            # Without a mask, its attention is causal.
            states_NTD = layer(states_NTD, position_ids=positions, position_embeddings=angles)
        return states_NTD


class Start:
    """The checkpoint that all arms go on from, made once in a process, and what enters its trained part.

    Attributes:
        model: Of transformers; trained in place, and given back its weights before each training.
        cost: From the head of the start.
    """

    def __init__(self, task: Task, hardware: Hardware) -> None:
        """Load the weights, and repair them."""
        self.task, self.hardware = task, hardware
        self.model: Any = weights.MODELS[task.model].make().to(hardware.device)
        number = task.trainable_layers
        self.network = LastLayers(self.model, number) if number else Whole(self.model)
        self.model.requires_grad_(False)
        for parameter in self.network.trainable:
            parameter.requires_grad_(True)
        self._entered: dict[Any, list[tuple[Tensor, Tensor]]] = {}
        self._weights = {"as_shipped": self._copy()}
        if task.repair:
            batches = self._batches(task.repair.corpus, REPAIR_SEED, task.repair.steps)
            self._fit(batches, cross_entropy, task.repair.lr)
            self._entered.clear()
        self._weights[STARTS[-1]] = self._copy()
        self.cost = UnitEmbedding(self.model.lm_head.weight)
        # Products in half precision where training has them.
        half = hardware.precision == "bfloat16"
        self._cost_in_training = UnitEmbedding(self.model.lm_head.weight, torch.bfloat16) if half else self.cost

    @cached_property
    def frozen(self) -> nn.Module:
        """A copy of the model that stays at the start, made where texts are written."""
        network = copy.deepcopy(self.network)
        _put(self._weights[STARTS[-1]], network.trainable)
        return network.model

    @property
    def glove(self) -> UnitEmbedding:
        """The cost from GloVe's vectors."""
        return _glove(self.task.model, self.model.config.vocab_size).to(self.hardware.device)

    def restore(self, name: str) -> None:
        """Put the weights of one of `STARTS` in their place."""
        _put(self._weights[name], self.network.trainable)

    def trained(self, run: Run) -> bool:
        """Train from the start with the loss of an arm; tell whether it did not diverge."""
        self.restore(STARTS[-1])
        dropout, data, permutation = seeds_of(run.seed)
        torch.manual_seed(dropout)  # where a model has some
        cost, loss = self._cost_in_training, objective(run.arm)
        if run.arm.endswith("_permuted"):
            cost = cost.permuted(within_deciles(self._counts, permutation).to(cost.rows.device))
        elif run.arm.endswith("_glove"):
            cost = self.glove
        batches = self._batches(self.task.corpus, data, self.task.steps)
        return self._fit(batches, lambda z, t: loss(z, t, cost), run.config["lr"])

    def quality(self, split: Split, costs: Mapping[str, UnitEmbedding]) -> Quality:
        """Measure the model's predictions on even windows of a split."""
        task = self.task
        if split not in self._entered:
            number = task.validation_windows if split == "validation" else task.test_windows
            windows = even_windows(weights.stream(task.model, task.corpus, split), context=task.context, number=number)
            self._entered[split] = [(self.network.entering(windows[0]), windows[1])]
        ((entering, targets),) = self._entered[split]
        self.network.eval()
        return quality(self._predictions(entering, targets), costs)

    @torch.no_grad()
    def _predictions(self, entering: Tensor, targets_NT: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        windows, device = max(1, TOKENS_AT_ONCE // self.task.context), self.hardware.device
        for some, of_some in zip(entering.split(windows), targets_NT.split(windows), strict=True):
            yield self.network(some.to(device)).flatten(0, 1), of_some.flatten().to(device)

    def _batches(self, corpus: weights.Corpus, seed: int, steps: int) -> list[tuple[Tensor, Tensor]]:
        """Draw the batches of a seed, the same ones for every arm; what enters the trained part is computed once."""
        if (corpus, seed) not in self._entered:
            task = self.task
            tokens = weights.stream(task.model, corpus, "train")
            drawn = random_windows(tokens, context=task.context, batch=task.batch, steps=steps, seed=seed)
            self._entered[corpus, seed] = [(self.network.entering(inputs), targets) for inputs, targets in drawn]
        return self._entered[corpus, seed]

    def _fit(
        self, batches: Sequence[tuple[Tensor, Tensor]], loss: Callable[[Tensor, Tensor], Tensor], lr: float
    ) -> bool:
        # As the original's script: no decay, no clipping.
        optimizer = torch.optim.AdamW(self.network.trainable, lr=lr, weight_decay=0.0, fused=True)
        schedule = warmup_cosine(optimizer, steps=len(batches), warmup_steps=int(WARMUP_SHARE * len(batches)))
        steps = train(self.network, batches, loss, optimizer, schedule=schedule, hardware=self.hardware)
        return all(math.isfinite(step.loss) for step in steps)

    @cached_property
    def _counts(self) -> np.ndarray:
        """How often each token is in the training texts of the repair and of the task."""
        corpora = [self.task.corpus, *([self.task.repair.corpus] if self.task.repair else ())]
        tokens = torch.cat([weights.stream(self.task.model, corpus, "train") for corpus in corpora])
        return np.bincount(tokens.numpy(), minlength=self.model.config.vocab_size)

    def _copy(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.network.trainable]


@torch.no_grad()
def _put(copies: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> None:
    for parameter, kept in zip(parameters, copies, strict=True):
        parameter.copy_(kept)


def _start(run: Run) -> Start:
    task = Task.from_config({**run.config, "generation": None})  # trials have none, and their start is the same
    return _made(task.model_dump_json(), Hardware.from_config(run.config))


@cache
def _made(task: str, hardware: Hardware) -> Start:
    return Start(Task.model_validate_json(task), hardware)


@cache
def _glove(model: weights.Model, vocabulary: int) -> UnitEmbedding:
    return weights.glove_cost(model, vocabulary)

"""A pretrained encoder that learns to classify: is a low rank as good as full training, where a model is no toy?

A text is a piece of a speech, its class the time in which it was given; speeches of one split are in no other. The
last layers are trained under a linear classifier over the mean of their states; those below are computed once.

Dimension letters: N texts, T tokens, D width, C classes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from paperkit.config import StrictModel
from paperkit.datasets import read_table
from paperkit.hardware import Hardware
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.texts import Split
from paperkit.training import train
from paperkit.tuning import Search, Tuned
from replications.lora_optimizer.optimizer import linear_weights
from replications.lora_optimizer.studies import weights
from replications.lora_optimizer.studies.arms import Arm, Together, optimizer_of
from replications.lora_optimizer.studies.forms import equality

PRIMARY = ("full", "lora_8")
LONG = 4
ALPHA = 16.0
AT_ONCE = 32  # texts in an evaluation
FIRST_YEAR = 1790
KEPT = torch.float16  # states of the layers below, of which there are many
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Task(StrictModel):
    """What is trained and on what; what a run's configuration holds beside the rate."""

    model: weights.Model
    trainable_layers: PositiveInt | None  # the last so many; null: all
    classes: Literal["periods", "sections", "sst2"] = "periods"  # of speeches; documentation; GLUE's sentences
    years: PositiveInt = 25  # of a period
    tokens: int = Field(ge=4)  # of a text, with the two special ones
    texts: Mapping[Split, PositiveInt]  # evenly spaced among all of a split
    batch: PositiveInt
    steps: int = Field(ge=10)
    head_lr: PositiveFloat  # of the classifier, in every arm


class Encoder(StrictModel):
    """The study: which arms, with which rates, on how many seeds."""

    task: Task
    rates: list[float] = Field(min_length=1)  # a power of two
    arms: list[str]  # beside the primary ones
    num_seeds: PositiveInt
    num_exploratory_seeds: PositiveInt
    num_variation_seeds: PositiveInt
    equality_steps: int = Field(ge=0)  # of the comparison with factors inside the network; 0: none

    def require(self) -> None:
        """Refuse to start without weights or texts."""
        weights.require(self.task.model, (self.task.classes,))

    def searches(self) -> list[Search]:
        """List the searches, one an arm."""
        task = self.task.model_dump()
        return [
            Search("encoder", arm, task, {"lr": self.rates}, len(self.rates), "loss_nats")
            for arm in (*PRIMARY, *self.arms)
        ]

    def reports(self, tuned: Sequence[Tuned], seeds: Sequence[int]) -> list[Run]:
        """List the reported runs, the longest first."""
        points = {s.arm: {**s.task, **t.best()} for s, t in zip(self.searches(), tuned, strict=True)}
        few = seeds[: self.num_variation_seeds]
        longer = {"steps": LONG * self.task.steps}
        runs = [Run(f"encoder_{LONG}_times", arm, seed, points[arm] | longer) for seed in few for arm in PRIMARY]
        runs += [Run("encoder_all", "full", seed, points["full"] | {"others": True}) for seed in few]
        # By X1 the scale is a statement about the size of the start: at this rate the first step is the same.
        scaled = {"alpha": ALPHA, "lr": points["lora_8"]["lr"] * 8 / ALPHA}
        runs += [Run("encoder_alpha", "lora_8", seed, points["lora_8"] | scaled) for seed in few]
        for arm, config in points.items():
            number = self.num_seeds if arm in PRIMARY else self.num_exploratory_seeds
            runs += [Run("encoder", arm, seed, config) for seed in seeds[:number]]
        runs += [Run("encoder", "head", seed, points["full"]) for seed in seeds[: self.num_seeds]]
        if self.equality_steps:
            config = points["lora_8"] | {"equality_steps": self.equality_steps}
            runs.append(Run("encoder_equality", "lora_8", seeds[0], config))
        return runs


class Classifier(nn.Module):
    """Layers of an encoder, and a linear classifier over the mean of their states."""

    def __init__(self, model: Any, layers: int | None, classes: int) -> None:
        """Take the last layers, or all; the classifier starts at zero, for every arm alike."""
        super().__init__()
        self.model, every = model, model.encoder.layer
        first = len(every) - (layers or len(every))
        self.below, self.layers = every[:first], every[first:]
        self.head = nn.Linear(model.config.hidden_size, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, states_NTD: Tensor) -> Tensor:
        """Map to logits what enters the trained layers; a last column has 1 where there is a token, else 0."""
        states_NTD = states_NTD.to(self.head.weight.dtype)
        there_NT1 = states_NTD[..., -1:]
        states_NTD = _through(self.layers, states_NTD[..., :-1], there_NT1)
        return self.head((states_NTD * there_NT1).sum(1) / there_NT1.sum(1))

    @torch.no_grad()
    def entering(self, tokens_NT: Tensor) -> Tensor:
        """Return the states that enter the trained layers, and whether there is a token."""
        device, padding, parts = self.head.weight.device, self.model.config.pad_token_id, []
        for part in tokens_NT.to(device).split(AT_ONCE):
            there_NT1 = (part != padding)[..., None].float()
            states = _through(self.below, self.model.embeddings(part), there_NT1)
            parts.append(torch.cat([states, there_NT1], -1).to(KEPT))
        return torch.cat(parts)


def _through(layers: Any, states_NTD: Tensor, there_NT1: Tensor) -> Tensor:
    mask_N11T = None if bool(there_NT1.all()) else there_NT1.bool().mT[:, None]
    for layer in layers:
        states_NTD = layer(states_NTD, mask_N11T)
    return states_NTD


class Texts(NamedTuple):
    """Texts of a split: what enters the trained layers (N, T, D), and the class of each (N,)."""

    entering: Tensor
    labels: Tensor


class Start:
    """The pretrained network, loaded once in a process, and given back its weights before each training."""

    def __init__(self, task: Task, hardware: Hardware) -> None:
        """Load the weights; pass all texts through the layers that stay."""
        self.task, self.hardware = task, hardware
        pieces = {split: cut(task, split) for split in SPLITS}
        classes = 1 + max(int(labels.max()) for _, labels in pieces.values())
        model = weights.encoder(task.model)
        self.network = Classifier(model, task.trainable_layers, classes).to(hardware.device)
        self.network.eval()
        self.texts = {
            split: Texts(self.network.entering(tokens), labels) for split, (tokens, labels) in pieces.items()
        }
        self._kept = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.matrices = linear_weights(self.network.layers)
        self.others = [p for p in self.network.layers.parameters() if p.ndim != 2]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the pretrained weights and the empty classifier in their place."""
        for name, parameter in self.network.named_parameters():
            parameter.copy_(self._kept[name])

    def batches(self, run: Run) -> list[tuple[Tensor, Tensor]]:
        """Draw the batches of a seed: every pass is a permutation."""
        task, texts, rng = self.task, self.texts["train"], np.random.default_rng(seeds_of(run.seed)[1])
        needed, steps = run.config["steps"] * task.batch, run.config["steps"]
        passes = np.concatenate([rng.permutation(len(texts.labels)) for _ in range(-(-needed // len(texts.labels)))])
        order = torch.from_numpy(passes[:needed].reshape(steps, task.batch))
        return [(texts.entering[rows], texts.labels[rows]) for rows in order]

    def trained(self, run: Run) -> Iterator[int]:
        """Train from the start with an arm; yield the steps taken, and end early where the loss is no number."""
        self.restore()
        others = self.others if run.config.get("others") else []
        taken = {*(p for _, p in self.matrices), *others, *self.network.head.parameters()}
        for parameter in self.network.parameters():
            parameter.requires_grad_(parameter in taken)
        steps, seed = run.config["steps"], seeds_of(run.seed)[2]
        own: list[torch.optim.Optimizer] = []
        if run.arm != "head":
            own = optimizer_of(run.arm, self.matrices, run.config, steps=steps, seed=seed, others=others).optimizers
        head = torch.optim.AdamW(self.network.head.parameters(), lr=self.task.head_lr, weight_decay=0.0)
        optimizer = Together([*own, head], steps)
        loss = functional.cross_entropy
        for step in train(self.network, self.batches(run), loss, optimizer, hardware=self.hardware):
            if not math.isfinite(step.loss):
                return
            yield step.number

    def equality(self, run: Run) -> Iterator[Measurement]:
        """Train the optimizer form and factors inside the network on the same batches, in float64."""
        self.restore()
        self.network.double()
        self.network.requires_grad_(False)
        for _, parameter in self.matrices:
            parameter.requires_grad_(True)
        loss, seed, steps = functional.cross_entropy, seeds_of(run.seed)[2], run.config["equality_steps"]
        nn.init.normal_(self.network.head.weight, generator=torch.Generator().manual_seed(seed))
        found = equality(self.network, self.matrices, self.batches(run)[:steps], loss, Arm.of(run.arm).rank, seed)
        self.network.float()
        for name, value in zip(("difference_ratio", "control_ratio"), found, strict=True):
            yield Measurement("none", steps, name, value)

    @torch.no_grad()
    def quality(self, split: Split) -> tuple[float, float]:
        """Return loss and accuracy on a split."""
        self.network.eval()
        texts, device = self.texts[split], self.hardware.device
        logits = torch.cat([self.network(part.to(device)).cpu() for part in texts.entering.split(AT_ONCE)])
        return (
            float(functional.cross_entropy(logits, texts.labels)),
            float((logits.argmax(1) == texts.labels).double().mean()),
        )


def cut(task: Task, split: Split) -> tuple[Tensor, Tensor]:
    """Return texts as tokens (N, T), between the two special ones and padded behind, and the class of each (N,)."""
    encode, length = weights.tokens_of(task.model), task.tokens - 2
    pieces: list[np.ndarray] = []
    labels: list[int] = []
    if task.classes == "sst2":
        for text, label in weights.sst2(split):
            pieces.append(encode(text)[:length])
            labels.append(label)
    else:
        for text, label in documents(task, split):
            tokens = encode(text)
            whole = tokens[: len(tokens) // length * length].reshape(-1, length)
            pieces += list(whole)
            labels += [label] * len(whole)
    first, last, padding = weights.SPECIAL[task.model]
    chosen = np.linspace(0, len(labels) - 1, task.texts[split]).astype(int)
    tokens = np.full((len(chosen), task.tokens), padding)
    for row, place in enumerate(chosen):
        framed = [first, *pieces[place], last]
        tokens[row, : len(framed)] = framed
    return torch.from_numpy(tokens), torch.tensor(labels)[chosen]


def documents(task: Task, split: Split) -> list[tuple[str, int]]:
    """Return whole documents of a split and the class of each."""
    if task.classes == "periods":
        table = read_table("sotu", columns=["year", "text"], split=split)
        labels = [(int(year) - FIRST_YEAR) // task.years for year in table["year"]]
    else:
        table, train = (read_table("python_docs", columns=["path", "text"], split=of) for of in (split, "train"))
        sections = sorted({path.partition("/")[0] for path in train["path"]})
        labels = [sections.index(path.partition("/")[0]) for path in table["path"]]
    return list(zip(table["text"], labels, strict=True))


def measure_encoder(run: Run) -> Iterator[Measurement]:
    """Report loss and accuracy of the test split, and validation loss half-way; of a trial only what may select."""
    task = Task.from_config(run.config).model_copy(update={"steps": 10})  # longer runs have the same start
    start = _made(task.model_dump_json(), Hardware.from_config(run.config))
    steps, is_trial = run.config["steps"], run.experiment.endswith("_search")
    if run.experiment.endswith("_equality"):
        yield from start.equality(run)
        return
    taken = 0
    for taken in start.trained(run):
        if run.arm == "full" and taken == steps // 2 and not is_trial:
            yield Measurement("validation", taken, "half_way_loss_nats", start.quality("validation")[0])
    splits: tuple[Split, ...] = ("validation",) if is_trial else ("validation", "test")
    for split in splits:
        loss, accuracy = start.quality(split) if taken == steps else (math.nan, math.nan)
        yield Measurement(split, steps, "loss_nats", loss)
    if not is_trial:
        yield Measurement("test", steps, "accuracy_points", 100 * accuracy)


@cache
def _made(task: str, hardware: Hardware) -> Start:
    return Start(Task.model_validate_json(task), hardware)

"""A tiny GPT trained on one kind of text, then continued on another with each loss: the task of C5, C6 and X1.

Both texts are read with one tokenizer, that of both. Training from scratch is by maximum likelihood, once a seed, and
all arms of the seed go on from it; the cost is a snapshot of its head.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.stats import spearmanr
from torch import Tensor

from paperkit.config import StrictModel
from paperkit.datasets import read_table
from paperkit.models.language_model import even_windows, random_windows
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.texts import Split, TextModel, token_stream
from paperkit.training import train, warmup_cosine
from paperkit.tuning import LogRange, Search
from replications.emo.loss import UnitEmbedding
from replications.emo.studies.arms import cross_entropy, objective
from replications.emo.studies.costs import pmi_vectors, within_deciles
from replications.emo.studies.measuring import Quality, quality, report, select

Domain = Literal["sotu", "python_docs"]
BOTH = "sotu_and_python_docs"
PRIMARY = ("mle", "emo", "emo_permuted", "mle_plus_4_energy", "emo_energy")
JOINTLY = PRIMARY[:3]  # also with a rate chosen by the loss after one temperature, and under each variation
LONG = 4
FREQUENT = 500  # tokens whose pairs tell how much a head knows
EVALUATED_AT_ONCE = 32  # windows


class Task(TextModel):
    """The model and both of its trainings; what a run's configuration holds."""

    batch: int = Field(ge=1)  # windows a step
    pretraining_steps: int = Field(ge=2)
    pretraining_lr: float = Field(gt=0)
    pretrained_on: Domain = "python_docs"
    continued_on: Domain = "sotu"
    steps: int = Field(ge=2)  # of the continued training
    evaluation_windows: int = Field(ge=1)
    curve_points: int = Field(default=0, ge=0, le=50)  # evaluations of the validation loss along a run


class Continued(StrictModel):
    """The study: primary arms on all seeds, and under which changes they are compared again."""

    task: Task
    lr: LogRange
    num_trials: int = Field(ge=1)
    exploratory: list[str] = Field(default=[])  # arms beside the primary ones
    num_seeds: int = Field(ge=1)
    num_exploratory_seeds: int = Field(default=3, ge=1)
    num_variation_seeds: int = Field(default=3, ge=1)  # of the longer horizon, the other order, other tokenizers
    vocabularies: list[int] = Field(default=[])  # of other tokenizers (C11)

    def searches(self) -> list[Search]:
        """List the searches; those of a loss after its temperature look at trials that are there already."""
        task, space = self.task.model_dump() | {"corpus": BOTH, "curve_points": 0}, {"lr": self.lr}
        arms = (*PRIMARY, "label_smoothing", *self.exploratory)
        raw = [Search("continued", arm, task, space, self.num_trials, "loss_nats") for arm in arms]
        return raw + [replace(search, metric="tempered_loss_nats") for search in raw if search.arm in JOINTLY]

    def reports(self, points: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[Run]:
        """List the reported runs from the selected point of each search, heavy runs first."""
        usual, rates = [], {}
        for search, point in zip(self.searches(), points, strict=True):
            jointly = search.metric == "tempered_loss_nats"
            number = self.num_exploratory_seeds if search.arm in self.exploratory else self.num_seeds
            config = {**search.task, "curve_points": self.task.curve_points, **point}
            name = "continued_tempered" if jointly else "continued"
            usual += [Run(name, search.arm, seed, config) for seed in seeds[:number]]
            if not jointly:
                rates[search.arm] = config
        usual += [Run("continued", "emo_pmi", seed, rates["emo"]) for seed in seeds[: self.num_seeds]]
        return self._variations(rates, seeds[: self.num_variation_seeds]) + usual

    def _variations(self, rates: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> list[Run]:
        """List the runs under other conditions, at the rates that were selected under the usual ones."""
        changes: dict[str, dict[str, Any]] = {
            f"continued_{LONG}_times": {"steps": LONG * self.task.steps},
            "continued_swapped": {
                "pretrained_on": self.task.continued_on, "continued_on": self.task.pretrained_on
            },
        }  # fmt: skip
        runs = [
            Run(name, arm, seed, rates[arm] | change)
            for name, change in changes.items()
            for seed in seeds
            for arm in JOINTLY
        ]
        return runs + [
            Run(f"continued_vocabulary_{size}", arm, seed, rates[arm] | {"vocabulary": size})
            for size in self.vocabularies
            for seed in seeds
            for arm in ("mle", "emo")
        ]


def measure_continued(run: Run) -> Iterator[Measurement]:
    """Continue the training and report: curve, both splits at the end, and the start's loss."""
    model, cost = _start(run)
    task = Task.from_config(run.config)
    cost_of_head = _cost("", model, run)
    yield Measurement("none", 0, "parameters", sum(parameter.numel() for parameter in model.parameters()))
    yield Measurement("none", 0, "head_and_counts_correlation", _alike(cost_of_head, task))
    start = _quality(task, model, "test", {})
    yield Measurement("test", 0, "loss_nats", start.loss)
    yield Measurement("test", 0, "entropy_nats", start.entropy)
    yield from _continue(run, model, cost)
    costs = {"training": cost_of_head, "pmi": _cost("pmi", model, run)}
    yield from report(_quality(task, model, "validation", {}), _quality(task, model, "test", costs), task.steps)


def measure_continued_trial(run: Run) -> Iterator[Measurement]:
    """Continue the training, and look only at what may select: never at the test split."""
    model, cost = _start(run)
    task = Task.from_config(run.config)
    yield from _continue(run, model, cost)
    yield from select(_quality(task, model, "validation", {}), task.steps)


def _start(run: Run) -> tuple[TinyGPT, UnitEmbedding]:
    """Make the model that a run starts from, and the cost that it uses."""
    task = Task.from_config(run.config)
    model = task.make(tied=True)
    pretraining = task.model_dump(exclude={"steps", "continued_on", "evaluation_windows", "curve_points"})
    model.load_state_dict(_pretrained(run.seed, tuple(pretraining.items())))
    return model, _cost(run.arm.rpartition("_")[2], model, run)


@lru_cache(maxsize=32)
def _pretrained(seed: int, items: tuple[tuple[str, Any], ...]) -> dict[str, Tensor]:
    """Train from scratch on the first text; a worker does it once for all arms of a seed."""
    of = dict(items)
    initialisation, data, _ = seeds_of(seed)
    torch.manual_seed(initialisation)
    task = TextModel.from_config(of)
    model, steps = task.make(tied=True), of["pretraining_steps"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=of["pretraining_lr"], weight_decay=0.1)
    batches = random_windows(
        domain_stream(of["pretrained_on"], "train", task.vocabulary),
        context=task.context, batch=of["batch"], steps=steps, seed=data,
    )  # fmt: skip
    schedule = warmup_cosine(optimizer, steps=steps, warmup_steps=steps // 10)
    for _step in train(model, batches, cross_entropy, optimizer, schedule=schedule, max_gradient_norm=1.0):
        pass
    return model.state_dict()


def _continue(run: Run, model: TinyGPT, cost: UnitEmbedding) -> Iterator[Measurement]:
    """Train on the second text with the arm's loss; report some points on the way."""
    task, loss = Task.from_config(run.config), objective(run.arm)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.config["lr"], weight_decay=0.0)
    # Not the batches of the first training's seed: other draws, and the same ones for all arms.
    data = int(np.random.SeedSequence((seeds_of(run.seed)[1], 1)).generate_state(1)[0])
    stream = domain_stream(task.continued_on, "train", task.vocabulary)
    batches = random_windows(stream, context=task.context, batch=task.batch, steps=task.steps, seed=data)
    schedule = warmup_cosine(optimizer, steps=task.steps, warmup_steps=task.steps // 10)
    curve = {round(task.steps * point / (task.curve_points + 1)) for point in range(1, task.curve_points + 1)}
    steps = train(model, batches, lambda z, t: loss(z, t, cost), optimizer, schedule=schedule, max_gradient_norm=1.0)
    for step in steps:
        if step.number in curve:
            of = _quality(task, model, "validation", {})
            yield Measurement("validation", step.number, "loss_nats", of.loss)
            yield Measurement("validation", step.number, "entropy_nats", of.entropy)


def _cost(name: str, model: TinyGPT, run: Run) -> UnitEmbedding:
    """Return the cost of that name, and else a snapshot of the head that the run starts from."""
    task = Task.from_config(run.config)
    if name == "pmi":
        return _pmi(task.vocabulary, task.width)
    head = UnitEmbedding(model.head.weight)
    if name != "permuted":
        return head
    return head.permuted(within_deciles(_counts(task.vocabulary), seeds_of(run.seed)[2]))


def _alike(head: UnitEmbedding, task: Task) -> float:
    """Return the rank correlation of the cosines of two costs over pairs of frequent tokens."""
    frequent = np.argsort(-_counts(task.vocabulary), kind="stable")[:FREQUENT]
    pairs = np.triu_indices(len(frequent), 1)
    cosines = [cost.rows[frequent] @ cost.rows[frequent].T for cost in (head, _pmi(task.vocabulary, task.width))]
    return float(spearmanr(*(of_pairs.numpy()[pairs] for of_pairs in cosines)).statistic)


@cache
def _pmi(vocabulary: int, width: int) -> UnitEmbedding:
    with warnings.catch_warnings():
        # Of tokens that the training texts never have: no text of theirs is predicted.
        warnings.filterwarnings("ignore", message=".*rows of the embedding are zero")
        return UnitEmbedding(pmi_vectors(token_stream("train", vocabulary, BOTH), vocabulary, width))


@cache
def _counts(vocabulary: int) -> np.ndarray:
    return np.bincount(token_stream("train", vocabulary, BOTH).numpy(), minlength=vocabulary)


@cache
def domain_stream(domain: Domain, split: Split, vocabulary: int) -> Tensor:
    """Return the tokens of one of the two texts, read with the tokenizer of both, shape (tokens,)."""
    stream = token_stream(split, vocabulary, BOTH)
    # Before each text stands token 0, and the speeches come first.
    speeches = len(read_table("sotu", columns=["year"], split=split))
    documentation = int((stream == 0).nonzero()[speeches])
    return stream[:documentation] if domain == "sotu" else stream[documentation:]


def _quality(task: Task, model: TinyGPT, split: Split, costs: dict[str, UnitEmbedding]) -> Quality:
    stream = domain_stream(task.continued_on, split, task.vocabulary)
    inputs, targets = even_windows(stream, context=task.context, number=task.evaluation_windows)
    model.eval()
    with torch.no_grad():
        parts = zip(inputs.split(EVALUATED_AT_ONCE), targets.split(EVALUATED_AT_ONCE), strict=True)
        return quality(((model(some).flatten(0, 1), of_some.flatten()) for some, of_some in parts), costs)

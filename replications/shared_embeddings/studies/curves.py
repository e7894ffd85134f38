"""Training a small GPT with one of the heads, and the numbers of its curve that were fixed with the claims."""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Literal, Self, get_args

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from paperkit import texts
from paperkit.config import StrictModel
from paperkit.datasets import read_table
from paperkit.hardware import Hardware
from paperkit.models.language_model import even_windows
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.training import train, warmup_cosine
from paperkit.tuning import Search
from replications.shared_embeddings.embedding import HEADS, ShuffleHead, initial_sigma, token_cross_entropy
from replications.shared_embeddings.studies.language_model import (
    EvenWidth,
    factorise,
    make_gpt,
    require_whole_heads,
    unigram_entropy,
)

EARLY_STEPS, LATE_SHARE, WINDOW, BELOW_UNIGRAM_NATS = 40, 0.25, 10, 0.5
BETAS = (0.9, 0.99)
SUMMARIES = ("area_nats", "early_area_nats", "late_area_nats", "steps_to_threshold")
# Heads of embedding.HEADS; the scaled one with the table's learning rate times sqrt(d); and the untied model whose
# tables are factorised to the parameters of a shared one.
Arm = Literal[
    "tied", "small_sigma", "untied", "orthogonal", "half_swap", "shuffle", "signed_swap", "scaled", "learnable_scale",
    "scaled_table_rate", "factorised",
]  # fmt: skip
ARMS: tuple[Arm, ...] = get_args(Arm)
HEAD_OF = {"scaled_table_rate": "scaled", "factorised": "untied"}
Seeds = Annotated[list[NonNegativeInt], Field(min_length=1)]


class Training(texts.TextTraining):
    """The task: model, horizon, what is looked at."""

    # The corpus "sotu_and_python_docs" means here the documentation alone, with a tokenizer trained on both texts.
    width: EvenWidth
    positions: bool  # learned positions start at the embedding's standard deviation, or at 0
    windows: PositiveInt  # in an evaluation, evenly spaced over a split
    training_tokens: NonNegativeInt  # length of the training text from its start; 0 for all of it
    evaluations: int = Field(ge=1, le=20)  # along the run, the last at its end
    curve: bool  # whether the training curve is reported, as means over parts of the run

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.evaluations > self.steps:
            message = f"evaluations {self.evaluations} must be at most steps = {self.steps}"
            raise ValueError(message)
        if 0 < self.training_tokens < 2 * self.context:
            message = f"training_tokens {self.training_tokens} must be 0 or at least two contexts, {2 * self.context}"
            raise ValueError(message)
        return self

    def stream(self, split: texts.Split) -> Tensor:
        """Tokens of a split."""
        tokens = texts.token_stream(split, self.vocabulary, self.corpus)
        if self.corpus != "sotu_and_python_docs":
            return tokens
        # A separator, 0, stands before each text, and the speeches come first.
        speeches = len(read_table("sotu", columns=["split"], split=split))
        return tokens[(tokens == 0).nonzero()[speeches].item() :]

    @property
    def text(self) -> Tensor:
        """Tokens of the training text, or of the part of it that a run may see."""
        return self.stream("train")[: self.training_tokens or None]

    def even_windows(self, split: texts.Split, number: int) -> tuple[Tensor, Tensor]:
        """Cut evenly spaced windows out of a split: inputs and targets, each of shape (number, context)."""
        return even_windows(self.stream(split), context=self.context, number=number)


class Tuned(StrictModel):
    """Training curves of heads that are tuned, all from one list, and of others at the rate of one of these."""

    task: Training
    rates: list[PositiveFloat] = Field(min_length=1)  # peaks, each a trial of each head; their number a power of two
    tuned: list[Arm] = Field(min_length=1)
    at_rate_of: dict[Arm, Arm]
    seeds: Seeds  # of the report

    @model_validator(mode="after")
    def _has_rates(self) -> Self:
        number = len(self.rates)
        if number & (number - 1):
            message = f"rates {self.rates} are {number}; their number must be a power of two (1, 2, 4, 8 …)"
            raise ValueError(message)
        unknown = sorted(set(self.at_rate_of.values()) - set(self.tuned))
        if unknown:
            message = f"at_rate_of names {', '.join(unknown)}, not among those that are tuned: {', '.join(self.tuned)}"
            raise ValueError(message)
        return self

    def searches(self) -> list[Search]:
        """List the heads that are tuned; a Sobol sequence over a list of as many choices takes each once."""
        space = {"lr": self.rates}
        return [Search("long", arm, self.task.in_runs, space, len(self.rates), "loss_nats") for arm in self.tuned]

    def runs(self, selected: Mapping[str, float]) -> Iterator[Run]:
        """List the reports; `selected` holds the rate of each head that was tuned."""
        rates = {arm: selected[arm] for arm in self.tuned} | {
            arm: selected[other] for arm, other in self.at_rate_of.items()
        }
        for (arm, lr), seed in product(rates.items(), self.seeds):
            yield Run("long", arm, seed, {**self.task.in_runs, "lr": lr})


class FixedRates(StrictModel):
    """Training curves at rates that a search of the first version selected."""

    task: Training
    rates: dict[Arm, PositiveFloat] = Field(min_length=1)  # peak of each head
    seeds: Seeds

    def runs(self, experiment: str) -> Iterator[Run]:
        """List the runs."""
        for (arm, lr), seed in product(self.rates.items(), self.seeds):
            yield Run(experiment, arm, seed, {**self.task.in_runs, "lr": lr})


class Widths(StrictModel):
    """Plain tying against half swap at several widths (X5), at such rates."""

    task: Training  # its width is replaced by each of `widths`
    widths: list[EvenWidth] = Field(min_length=2)
    rates: dict[Arm, list[PositiveFloat]] = Field(min_length=1)  # peaks, in the order of the widths
    seeds: Seeds

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        require_whole_heads(self.widths, self.task)
        for arm, rates in self.rates.items():
            if len(rates) != len(self.widths):
                message = f"{len(rates)} rates of {arm} for {len(self.widths)} widths"
                raise ValueError(message)
        return self

    def runs(self) -> Iterator[Run]:
        """List the runs, the widest first."""
        for arm, rates in self.rates.items():
            for (width, lr), seed in product(sorted(zip(self.widths, rates, strict=True), reverse=True), self.seeds):
                yield Run("widths", arm, seed, {**self.task.in_runs, "width": width, "lr": lr})


def measure_curve(run: Run) -> Iterator[Measurement]:
    """Train, and report the curve's summaries, and validation and test loss."""
    return _measurements(run, ("validation", "test"))


def measure_trial(run: Run) -> Iterator[Measurement]:
    """Train as `measure_curve` does, and look only at what may select: the validation loss, never the test split."""
    return _measurements(run, ("validation",))


def _measurements(run: Run, splits: tuple[texts.Split, ...]) -> Iterator[Measurement]:
    """Yield losses of the splits at the end (loss_nats), at the best evaluation on validation, and the summaries."""
    task, model = Training.from_config(run.config), make_model(run).to(Hardware.from_config(run.config).device)
    evaluated = [round(task.steps * part / task.evaluations) for part in range(1, task.evaluations + 1)]
    losses: list[float] = []
    found: dict[texts.Split, list[float]] = {split: [] for split in splits}
    for loss in training(run, model):
        if not math.isfinite(loss):
            yield from _diverged(task, splits)
            return
        losses.append(loss)
        if len(losses) in evaluated:
            for split in splits:
                found[split].append(task.loss(model, split, task.windows))
    best = int(np.argmin(found["validation"]))
    for split in splits:
        yield Measurement(split, task.steps, "loss_nats", found[split][-1])
        yield Measurement(split, task.steps, "best_loss_nats", found[split][best])
    if splits == ("validation",):
        return
    for metric, value in summaries(np.array(losses), threshold_of(task)).items():
        yield Measurement("train", task.steps, metric, value)
    yield Measurement("none", task.steps, "parameters", float(sum(p.numel() for p in model.parameters())))
    if task.curve:
        for end, mean in curve_parts(np.array(losses)).items():
            yield Measurement("train", end, "part_loss_nats", mean)


def _diverged(task: Training, splits: tuple[texts.Split, ...]) -> Iterator[Measurement]:
    for split in splits:
        yield Measurement(split, task.steps, "loss_nats", math.nan)
        yield Measurement(split, task.steps, "best_loss_nats", math.nan)
    if splits != ("validation",):
        yield from (Measurement("train", task.steps, metric, math.nan) for metric in SUMMARIES)


def summaries(losses: np.ndarray, threshold: float) -> dict[str, float]:
    """Describe a training curve, in nats, by the numbers fixed with the claims."""
    # losses: shape (steps,). steps_to_threshold is steps + 1 if the threshold is never reached.
    means = np.convolve(losses, np.ones(WINDOW) / WINDOW, mode="valid") if len(losses) >= WINDOW else np.array([])
    below = np.flatnonzero(means <= threshold)
    return {
        "area_nats": float(losses.mean()),
        "early_area_nats": float(losses[:EARLY_STEPS].mean()),
        "late_area_nats": float(losses[-math.ceil(LATE_SHARE * len(losses)) :].mean()),
        "steps_to_threshold": float(below[0] + WINDOW if len(below) else len(losses) + 1),
    }


def curve_parts(losses: np.ndarray) -> dict[int, float]:
    """Average a curve over parts, by the last step of each: 5 steps at first, then a twentieth of the run."""
    long = max(5, len(losses) // 20)
    ends = [*range(5, EARLY_STEPS + 1, 5), *range(EARLY_STEPS + long, len(losses) + 1, long)]
    ends = [end for end in ends if end <= len(losses)]
    starts = [0, *ends[:-1]]
    return {end: float(losses[start:end].mean()) for start, end in zip(starts, ends, strict=True)}


def threshold_of(task: Training) -> float:
    """Return the loss in nats a token to reach: half a nat below the entropy of the token frequencies."""
    return unigram_entropy(task.text) - BELOW_UNIGRAM_NATS


def make_model(run: Run) -> TinyGPT:
    """Make the model of an arm; arms of one seed share all initial numbers but for sigma and what is their own."""
    task, name = Training.from_config(run.config), HEAD_OF.get(run.arm, run.arm)
    torch.manual_seed(seeds_of(run.seed)[0])
    sigma = initial_sigma(task.vocabulary, task.width, name)
    gpt = make_gpt(task, sigma=sigma, positions=task.positions, branches=False)
    if run.arm == "factorised":
        factorise(gpt, task)
        return gpt
    # Two groups, and not the square root of the width, at which the shuffle would warn.
    gpt.head = ShuffleHead(gpt.token_embedding, groups=2) if name == "shuffle" else HEADS[name](gpt.token_embedding)
    return gpt


def make_optimizer(model: TinyGPT, run: Run) -> torch.optim.Optimizer:
    """Make Adam without decay; one arm has the learning rate of the token table times sqrt(d)."""
    table = getattr(model.token_embedding, "weight", None)
    rest = [p for p in model.parameters() if p is not table]
    scale = math.sqrt(run.config["width"]) if run.arm == "scaled_table_rate" else 1.0
    groups = [{"params": rest, "lr": run.config["lr"]}]
    if table is not None:
        groups.append({"params": [table], "lr": run.config["lr"] * scale})
    return torch.optim.Adam(groups, lr=run.config["lr"], betas=BETAS, fused=True)


def training(run: Run, model: TinyGPT) -> Iterator[float]:
    """Train with warm-up and half a cosine, arms of one seed on the same windows; yield each loss before its step."""
    # Gradients are not clipped: that would act on the heads differently, whose gradients differ in size at first.
    task = Training.from_config(run.config)
    optimizer = make_optimizer(model, run)
    schedule = warmup_cosine(optimizer, steps=task.steps, warmup_steps=task.warmup_steps)
    batches = task.batches(seeds_of(run.seed)[1])
    hardware = Hardware.from_config(run.config)
    for step in train(model, batches, float32_loss, optimizer, schedule=schedule, hardware=hardware):
        yield step.loss


def float32_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats, in float32 also where the logits are products in half precision."""
    return token_cross_entropy(logits.float(), targets)

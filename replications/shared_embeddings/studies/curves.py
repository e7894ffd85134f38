"""Training a small GPT with one of the heads, and what is read off its curve.

The numbers that describe a curve were fixed with the claims: mean training loss over all steps (area), over the first
40 (early area) and over the last quarter (late area); the first step at which the mean of the last 10 losses lies half
a nat below the entropy of the token frequencies.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from paperkit.config import StrictModel
from paperkit.hardware import Hardware
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.texts import Split, TextTraining
from paperkit.training import train, warmup_cosine
from paperkit.tuning import LogRange, Search
from replications.shared_embeddings.embedding import HEADS, ShuffleHead, initial_sigma, token_cross_entropy
from replications.shared_embeddings.studies.language_model import (
    EvenWidth,
    Multiply,
    ScaledEmbedding,
    factorise,
    make_gpt,
    unigram_entropy,
)

EARLY_STEPS, LATE_SHARE, WINDOW, BELOW_UNIGRAM_NATS = 40, 0.25, 10, 0.5
BETAS = (0.9, 0.99)
SUMMARIES = ("area_nats", "early_area_nats", "late_area_nats", "steps_to_threshold")
# Heads of embedding.HEADS, and the untied model whose tables are factorised to the parameters of a shared one.
SOURCE_ARMS = ("tied", "small_sigma", "untied", "orthogonal", "half_swap", "shuffle")
ARMS = (*SOURCE_ARMS, "signed_swap", "scaled", "learnable_scale", "factorised")
# Searches with the seeds of their reports.
Searches = Iterator[tuple[Search, Sequence[int]]]


class Training(TextTraining):
    """The task: model, horizon, what is looked at."""

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

    @property
    def text(self) -> Tensor:
        """Tokens of the training text, or of the part of it that a run may see."""
        return super().text[: self.training_tokens or None]


class Curves(StrictModel):
    """The training curves of all heads, the factorial and the factorised model (C6 to C8, C10, X3, X4, X7 to X9)."""

    task: Training
    num_trials: PositiveInt  # of each arm, a power of two
    num_other_seeds: NonNegativeInt  # of the arms that are not the source's, and of the factorial; 0 leaves them out

    def searches(self, seeds: Sequence[int], lr: LogRange) -> Searches:
        """List the arms."""
        for arm in ARMS if self.num_other_seeds else SOURCE_ARMS:
            search = Search("curves", arm, self.task.in_runs, {"lr": lr}, self.num_trials, "loss_nats")
            yield search, seeds if arm in SOURCE_ARMS else seeds[: self.num_other_seeds]

    def factorial(self, seeds: Sequence[int], lr: float) -> Iterator[Run]:
        """List the cells between the tied head and small sigma; the arm says which of logits, input, step change."""
        # With r = (log n) / sqrt(d), small sigma is the tied head with logits times r, input times r, and the table's
        # learning rate divided by r (step 18 of the derivation). lr: half swap's, which is none of the corners'.
        ratio = initial_sigma(self.task.vocabulary, self.task.width, "small_sigma") * math.sqrt(self.task.width)
        settings = {**self.task.in_runs, "curve": False, "lr": lr}
        for seed in seeds[: self.num_other_seeds]:
            for logits, inputs, step in product((0, 1), repeat=3):
                factors = {
                    "head": "tied",
                    "logit_scale": ratio**logits,
                    "input_scale": ratio**inputs,
                    "table_lr_scale": ratio**-step,
                }
                yield Run("factorial", f"{logits}{inputs}{step}", seed, {**settings, "factors": factors})


def measure_curve(run: Run) -> Iterator[Measurement]:
    """Train, and report the curve's summaries, and validation and test loss; `factors` of the factorial apply."""
    return _measurements(run, ("validation", "test"))


def measure_trial(run: Run) -> Iterator[Measurement]:
    """Train as `measure_curve` does, and look only at what may select: the validation loss, never the test split."""
    return _measurements(run, ("validation",))


def _measurements(run: Run, splits: tuple[Split, ...]) -> Iterator[Measurement]:
    """Yield losses of the splits at the end (loss_nats), at the best evaluation on validation, and the summaries."""
    task, model = Training.from_config(run.config), make_model(run).to(Hardware.from_config(run.config).device)
    evaluated = [round(task.steps * part / task.evaluations) for part in range(1, task.evaluations + 1)]
    losses: list[float] = []
    found: dict[Split, list[float]] = {split: [] for split in splits}
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


def _diverged(task: Training, splits: tuple[Split, ...]) -> Iterator[Measurement]:
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
    task, factors = Training.from_config(run.config), run.config.get("factors", {})
    torch.manual_seed(seeds_of(run.seed)[0])
    name = "untied" if run.arm == "factorised" else factors.get("head", run.arm)
    sigma = initial_sigma(task.vocabulary, task.width, name)
    gpt = make_gpt(task, sigma=sigma, positions=task.positions, branches=False)
    if run.arm == "factorised":
        factorise(gpt, task)
        return gpt
    # Two groups, and not the square root of the width, at which the shuffle would warn.
    head = ShuffleHead(gpt.token_embedding, groups=2) if name == "shuffle" else HEADS[name](gpt.token_embedding)
    if factors:
        assert isinstance(gpt.token_embedding, ScaledEmbedding), "make_gpt gives the embedding a scale"
        gpt.token_embedding.scale = factors["input_scale"]
        gpt.head = nn.Sequential(Multiply(factors["logit_scale"]), head)
    else:
        gpt.head = head
    return gpt


def make_optimizer(model: TinyGPT, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Make Adam without decay, the token table's learning rate times `table_lr_scale` of a cell of the factorial."""
    table = getattr(model.token_embedding, "weight", None)
    rest = [p for p in model.parameters() if p is not table]
    scale = config.get("factors", {}).get("table_lr_scale", 1.0)
    groups = [{"params": rest, "lr": config["lr"]}]
    if table is not None:
        groups.append({"params": [table], "lr": config["lr"] * scale})
    return torch.optim.Adam(groups, lr=config["lr"], betas=BETAS, fused=True)


def training(run: Run, model: TinyGPT) -> Iterator[float]:
    """Train with warm-up and half a cosine, arms of one seed on the same windows; yield each loss before its step."""
    # Gradients are not clipped: that would act on the heads differently, whose gradients differ in size at first.
    task = Training.from_config(run.config)
    optimizer = make_optimizer(model, run.config)
    schedule = warmup_cosine(optimizer, steps=task.steps, warmup_steps=task.warmup_steps)
    batches = task.batches(seeds_of(run.seed)[1])
    hardware = Hardware.from_config(run.config)
    for step in train(model, batches, float32_loss, optimizer, schedule=schedule, hardware=hardware):
        yield step.loss


def float32_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats, in float32 also where the logits are products in half precision."""
    return token_cross_entropy(logits.float(), targets)

"""A tiny GPT over State of the Union speeches: the task of the headline claim.

Dimension letters: B batch, T time (context), V vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.nn import functional

from paperkit.config import StrictModel
from paperkit.models.language_model import windows_at
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.speeches import Split, token_stream
from paperkit.training import Step, train, warmup_cosine
from replications.lion.tasks.arms import make_optimizer
from replications.lion.tasks.box import places_in_box


class LanguageModel(StrictModel):
    """The task: model, text windows, horizon. The same for both arms."""

    vocabulary: int = Field(ge=257, le=65_535)  # of the byte-level BPE, trained on the training speeches
    width: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    context: int = Field(ge=1)  # tokens a window
    batch: int = Field(ge=1)  # windows a step
    steps: int = Field(ge=2)
    warmup_steps: int = Field(ge=0)  # of the linear rise; half a cosine follows
    max_gradient_norm: float = Field(gt=0)  # L2 norm of all gradients at which they are clipped
    evaluation_windows: int = Field(ge=1)  # in a final evaluation, evenly spaced over a split
    curve_windows: int = Field(ge=1)  # in each evaluation of the learning curve
    curve_points: int = Field(ge=1, le=50)  # evaluations along a run

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.width % self.heads:
            message = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(message)
        if self.warmup_steps > self.steps - 2:
            message = f"warmup_steps {self.warmup_steps} must be at most steps - 2 = {self.steps - 2}"
            raise ValueError(message)
        if self.curve_points > self.steps:
            message = f"curve_points {self.curve_points} must be at most steps = {self.steps}"
            raise ValueError(message)
        return self


def measure_language_model(run: Run) -> Iterator[Measurement]:
    """Train a tiny GPT from scratch: validation loss along the run, both losses at its end, in nats a token."""
    return _losses(run, make_model(run), ("validation", "test"))


def measure_language_model_and_box(run: Run) -> Iterator[Measurement]:
    """Measure as `measure_language_model` does, and where the weights stand in the box at the end."""
    model = make_model(run)
    yield from _losses(run, model, ("validation", "test"))
    yield from places_in_box(model, run.config["weight_decay"], run.config["steps"])


def measure_language_model_trial(run: Run) -> Iterator[Measurement]:
    """Train as `measure_language_model` does, and look only at what may select: never at the test split."""
    return _losses(run, make_model(run), ("validation",))


def _losses(run: Run, model: TinyGPT, splits: Sequence[Split]) -> Iterator[Measurement]:
    task = task_of(run)
    curve = {round(task.steps * point / task.curve_points) for point in range(1, task.curve_points)}
    for step in training(run, model, make_optimizer(run.arm, model, run.config)):
        if not math.isfinite(step.loss):
            yield from (Measurement(split, task.steps, "loss_nats", math.nan) for split in splits)
            return
        if step.number in curve:
            loss = evaluate(model, task, "validation", task.curve_windows)
            yield Measurement("validation", step.number, "loss_nats", loss)
    for split in splits:
        yield Measurement(split, task.steps, "loss_nats", evaluate(model, task, split, task.evaluation_windows))


def task_of(run: Run) -> LanguageModel:
    """Return the part of a run's configuration that is the task, checked."""
    return LanguageModel(**{name: run.config[name] for name in LanguageModel.model_fields})


def make_model(run: Run) -> TinyGPT:
    """Make the model of a run, head and embedding apart; arms of one seed start from the same weights."""
    task, (initialisation, _, _) = task_of(run), seeds_of(run.seed)
    torch.manual_seed(initialisation)
    return TinyGPT(
        vocabulary=task.vocabulary, width=task.width, layers=task.layers, heads=task.heads, context=task.context
    )  # fmt: skip


def training(run: Run, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Step]:
    """Train: warm-up and half a cosine, clipped gradients; arms of one seed see the same windows."""
    task, (_, order, _) = task_of(run), seeds_of(run.seed)
    yield from train(
        model, batches(token_stream("train", task.vocabulary), task, order), next_token_loss, optimizer,
        schedule=warmup_cosine(optimizer, steps=task.steps, warmup_steps=task.warmup_steps),
        max_gradient_norm=task.max_gradient_norm,
    )  # fmt: skip


def next_token_loss(logits_BTV: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy in nats a token."""
    return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


def batches(stream: torch.Tensor, task: LanguageModel, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Draw windows uniformly with replacement; the same seed gives both arms the same windows."""
    # Inputs and targets (one token later), each of shape (B, T).
    starts = np.random.default_rng(seed).integers(len(stream) - task.context, size=(task.steps, task.batch))
    for row in starts:
        yield windows_at(stream, row, task.context)


@torch.no_grad()
def evaluate(model: torch.nn.Module, task: LanguageModel, split: Split, windows: int) -> float:
    """Mean cross-entropy in nats a token over evenly spaced windows of a split, the same ones for every run."""
    model.eval()
    stream = token_stream(split, task.vocabulary)
    starts = np.linspace(0, len(stream) - task.context - 1, windows).astype(np.int64)
    total = 0.0
    for part in np.array_split(starts, math.ceil(windows / 64)):
        inputs, targets = windows_at(stream, part, task.context)
        total += next_token_loss(model(inputs), targets).item() * len(part)
    return total / windows

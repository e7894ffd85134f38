"""A tiny GPT over State of the Union speeches: what the studies of the headline claim and of relatives train."""

import math
from collections.abc import Container, Generator, Iterator, Sequence
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import nn

from paperkit.hardware import Hardware
from paperkit.models.language_model import next_token_loss
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.texts import Split, TextTraining
from paperkit.training import Step, train, warmup_cosine
from replications.lion.studies.arms import make_optimizer
from replications.lion.studies.box import places_in_box
from replications.lion.studies.updates import compare_updates


class LanguageModel(TextTraining):
    """The task: model, text windows, horizon. The same for both arms."""

    max_gradient_norm: float = Field(gt=0)  # L2 norm of all gradients at which they are clipped
    evaluation_windows: int = Field(ge=1)  # in a final evaluation, evenly spaced over a split
    curve_windows: int = Field(ge=1)  # in each evaluation of the learning curve
    curve_points: int = Field(ge=1, le=50)  # evaluations along a run

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.curve_points > self.steps:
            message = f"curve_points {self.curve_points} must be at most steps = {self.steps}"
            raise ValueError(message)
        return self


def measure_language_model(run: Run) -> Iterator[Measurement]:
    """Train a tiny GPT from scratch: validation loss along the run, both losses at its end, in nats a token."""
    return _losses(run, make_model(run), ("validation", "test"))


def measure_language_model_and_box(run: Run) -> Iterator[Measurement]:
    """Measure as `measure_language_model` does, and the model's size and where its weights stand in the box."""
    model = make_model(run)
    yield Measurement("none", 0, "parameters", sum(parameter.numel() for parameter in model.parameters()))
    yield from _losses(run, model, ("validation", "test"))
    yield from places_in_box(model, run.config["weight_decay"], run.config["steps"])


def measure_language_model_trial(run: Run) -> Iterator[Measurement]:
    """Train as `measure_language_model` does, and look only at what may select: never at the test split."""
    return _losses(run, make_model(run), ("validation",))


def measure_language_model_updates(run: Run) -> Iterator[Measurement]:
    """Compare updates along a run, arm "adamw" or "cautious_lion"."""
    model = make_model(run)
    optimizer = make_optimizer(run.arm, model, run.config)
    return compare_updates(model, optimizer, training(run, model, optimizer), run.config["window"])


def _losses(run: Run, model: TinyGPT, splits: Sequence[Split]) -> Iterator[Measurement]:
    task = LanguageModel.from_config(run.config)
    curve = {round(task.steps * point / task.curve_points) for point in range(1, task.curve_points)}
    yield from losses(task, model, training(run, model, make_optimizer(run.arm, model, run.config)), splits, curve)


def losses(
    task: LanguageModel, model: nn.Module, steps: Iterator[Step], splits: Sequence[Split], curve: Container[int] = ()
) -> Generator[Measurement, None, bool]:
    """Train; yield the validation loss at some steps and the losses of the splits at the end; whether it diverged."""
    for step in steps:
        if not math.isfinite(step.loss):
            yield from (Measurement(split, task.steps, "loss_nats", math.nan) for split in splits)
            return True
        if step.number in curve:
            loss = task.loss(model, "validation", task.curve_windows)
            yield Measurement("validation", step.number, "loss_nats", loss)
    for split in splits:
        yield Measurement(split, task.steps, "loss_nats", task.loss(model, split, task.evaluation_windows))
    return False


def make_model(run: Run, *, tied: bool = False) -> TinyGPT:
    """Make the model of a run; arms of one seed start from the same weights."""
    torch.manual_seed(seeds_of(run.seed)[0])
    return LanguageModel.from_config(run.config).make(tied=tied).to(Hardware.from_config(run.config).device)


def training(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Step]:
    """Train: warm-up and half a cosine, clipped gradients; arms of one seed see the same windows."""
    task = LanguageModel.from_config(run.config)
    yield from train(
        model, task.batches(seeds_of(run.seed)[1]), next_token_loss, optimizer,
        schedule=warmup_cosine(optimizer, steps=task.steps, warmup_steps=task.warmup_steps),
        max_gradient_norm=task.max_gradient_norm, hardware=Hardware.from_config(run.config),
    )  # fmt: skip

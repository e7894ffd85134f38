"""Handwritten digits at nine shifts each by a small perceptron: what the batch sweep and the ablation train."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.training import Step, train, warmup_cosine
from replications.lion.studies.arms import make_optimizer
from replications.lion.studies.updates import compare_updates

Split = Literal["train", "validation", "test"]
SIDE = 8
NUM_VALIDATION = NUM_TEST = 359  # a fifth each
SPLIT_SEED = 0


class Digits(StrictModel):
    """The task, at several batch sizes."""

    hidden: int = Field(ge=1)  # width of the hidden layer
    samples_seen: int = Field(ge=1)  # in a run, the same at every batch size: a larger batch means fewer steps
    batches: list[int] = Field(min_length=2)  # each divides samples_seen

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        for batch in self.batches:
            if batch < 1 or self.samples_seen % batch or self.samples_seen // batch < 2:
                message = f"batch {batch} must divide samples_seen {self.samples_seen} into at least 2 steps"
                raise ValueError(message)
        return self

    def at(self, batch: int) -> dict[str, Any]:
        """Return the task at one batch size, as part of a run's configuration."""
        return {"hidden": self.hidden, "samples_seen": self.samples_seen, "batch": batch}


def measure_digits(run: Run) -> Iterator[Measurement]:
    """Train the perceptron from scratch; measure loss in nats and share of wrong answers at the end."""
    return _losses(run, ("validation", "test"))


def measure_digits_trial(run: Run) -> Iterator[Measurement]:
    """Train as `measure_digits` does, and look only at what may select: never at the test split."""
    return _losses(run, ("validation",))


def _losses(run: Run, splits: Sequence[Split]) -> Iterator[Measurement]:
    model = make_model(run)
    for step in training(run, model, make_optimizer(run.arm, model, run.config)):
        if not math.isfinite(step.loss):
            yield from (Measurement(split, num_steps(run), "nll_nats", math.nan) for split in splits)
            return
    for split in splits:
        nll, error = evaluate(model, split)
        yield Measurement(split, num_steps(run), "nll_nats", nll)
        yield Measurement(split, num_steps(run), "error_share", error)


def measure_digits_updates(run: Run) -> Iterator[Measurement]:
    """Compare updates along a run, arm "adamw"."""
    model = make_model(run)
    optimizer = make_optimizer(run.arm, model, run.config)
    return compare_updates(model, optimizer, training(run, model, optimizer), run.config["window"])


def make_model(run: Run) -> nn.Sequential:
    """Make the perceptron of a run, one hidden layer with ReLU; arms of one seed start from the same weights."""
    torch.manual_seed(seeds_of(run.seed)[0])
    hidden, pixels = run.config["hidden"], SIDE * SIDE
    return nn.Sequential(nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def training(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Step]:
    """Train: half a cosine down to zero, no clipping; arms of one seed see the same batches."""
    schedule = warmup_cosine(optimizer, steps=num_steps(run), warmup_steps=0)
    dtype = next(model.parameters()).dtype
    data = ((pixels.to(dtype), labels) for pixels, labels in batches(run.config, seeds_of(run.seed)[1]))
    yield from train(model, data, functional.cross_entropy, optimizer, schedule=schedule)


def num_steps(run: Run) -> int:
    """Return the optimizer steps of a run."""
    return run.config["samples_seen"] // run.config["batch"]


def batches(config: Mapping[str, Any], seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Go through the shifted images in a new random order each epoch, the same at every batch size."""
    # Pixels in [-1, 1], shape (batch, 64), and labels, shape (batch,).
    pixels, labels = shifted_images()
    generator = np.random.default_rng(seed)
    epochs = math.ceil(config["samples_seen"] / len(labels))
    order = np.concatenate([generator.permutation(len(labels)) for _ in range(epochs)])
    for index in torch.from_numpy(order[: config["samples_seen"]]).view(-1, config["batch"]):
        yield pixels[index], labels[index]


@torch.no_grad()
def evaluate(model: nn.Module, split: Split) -> tuple[float, float]:
    """Mean cross-entropy in nats and share of wrong answers over a whole split, images not shifted."""
    model.eval()
    pixels, labels = images(split)
    logits = model(pixels.to(next(model.parameters()).dtype))
    wrong = (logits.argmax(1) != labels).double().mean()
    return functional.cross_entropy(logits, labels).item(), wrong.item()


@functools.cache
def shifted_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return every training image at its nine shifts by up to one pixel, the border filled with background."""
    # Pixels, shape (9 n, 64), and labels, shape (9 n,).
    pixels, labels = images("train")
    padded = functional.pad(pixels.view(-1, SIDE, SIDE), (1, 1, 1, 1), value=-1.0)
    shifts = [padded[:, i : i + SIDE, j : j + SIDE].flatten(1) for i in range(3) for j in range(3)]
    return torch.cat(shifts), labels.repeat(9)


@functools.cache
def images(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images of a split, drawn by class once and for all."""
    # Pixels in [-1, 1], shape (n, 64), float32, and labels, shape (n,), int64.
    pixels, labels = load_digits(return_X_y=True)
    draw = functools.partial(train_test_split, random_state=SPLIT_SEED)
    rest, test = draw(np.arange(len(labels)), test_size=NUM_TEST, stratify=labels)
    learnt, validation = draw(rest, test_size=NUM_VALIDATION, stratify=labels[rest])
    index = {"train": learnt, "validation": validation, "test": test}[split]
    return torch.from_numpy((pixels[index] / 8 - 1).astype(np.float32)), torch.from_numpy(labels[index])

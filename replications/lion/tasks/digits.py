"""Handwritten digits by a small perceptron: cheap enough to tune at every batch size.

The images are those of scikit-learn (8 × 8 pixels, UCI's optical recognition of handwritten digits). Each training
image stands in the data nine times, shifted by up to one pixel: without this the perceptron learns them by heart
within the fixed number of samples, and the loss is then that of over-confidence, least for who learns least.
"""

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
from replications.lion.tasks.arms import make_optimizer
from replications.lion.tasks.box import BoxBound, places_in_box

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


def measure_constraint(run: Run) -> Iterator[Measurement]:
    """Train with a decay, and compare every weight with the bound of derivation step 6 after every step."""
    # In float64: the bound is attained, and in float32 rounding alone goes beyond it by some 1e-6 of the box.
    # `box_decay` is the λ whose box is looked at: the run's own, or, as a control that must break the bound, one that
    # the run does not apply. Yields the largest excess in half-widths of the box, the loss, the places in the box.
    peak = run.config["lr"] * run.config["box_decay"]
    if peak > 1:
        message = (
            f"learning rate {run.config['lr']} times box decay {run.config['box_decay']} is {peak:.3g}, above 1, "
            "where the bound of step 6 does not hold; lower ablation.box_decays, or ablation.box.lr.high"
        )
        raise ValueError(message)
    model, decay = make_model(run).double(), run.config["box_decay"]
    optimizer = make_optimizer(run.arm, model, run.config)
    bound, largest = BoxBound(model, decay), -math.inf
    lr = optimizer.param_groups[0]["lr"]
    for step in training(run, model, optimizer):
        if not math.isfinite(step.loss):
            yield Measurement("none", step.number, "box_excess", math.nan)
            return
        largest = max(largest, bound.excess(lr))
        lr = optimizer.param_groups[0]["lr"]  # the schedule has set it for the next step
    yield Measurement("none", num_steps(run), "box_excess", largest)
    yield Measurement("test", num_steps(run), "nll_nats", evaluate(model, "test")[0])
    yield from places_in_box(model, run.config["weight_decay"], num_steps(run))


def measure_flatness(run: Run) -> Iterator[Measurement]:
    """Stop at a given training loss, then disturb every weight in proportion to its size: θ + ε |θ| z, z normal."""
    # Looks at the loss every `every` steps, averages `draws` of z at each ε; all diverged if the loss is not reached.
    model = make_model(run)
    reached = math.nan
    for step in training(run, model, make_optimizer(run.arm, model, run.config)):
        if step.number % run.config["every"] == 0:
            reached = evaluate(model, "train")[0]
            if reached <= run.config["train_nll"]:
                break
    stopped = reached <= run.config["train_nll"]
    yield Measurement("train", 0, "nll_nats", reached if stopped else math.nan)
    start, (initialisation, _, _) = evaluate(model, "test")[0], seeds_of(run.seed)
    yield Measurement("test", 0, "nll_nats", start if stopped else math.nan)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    for size in run.config["perturbations"]:
        losses = []
        for draw in range(run.config["draws"]):
            noise = np.random.default_rng([initialisation, draw])
            for name, p in model.named_parameters():
                z = torch.from_numpy(noise.standard_normal(p.shape, dtype=np.float32))
                p.data.copy_(weights[name] + size * weights[name].abs() * z)
            losses.append(evaluate(model, "test")[0])
        yield Measurement("test", 0, f"perturbed_{size:g}_nll_nats", float(np.mean(losses)) if stopped else math.nan)


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

"""Betas, box and flatness on digits at one batch size (C7, C12r, C14r)."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pydantic import Field

from paperkit.runs import Measurement, Run, Runner, execute, seeds_of
from paperkit.stage import Tables
from paperkit.tuning import Search, tune
from replications.lion.studies.arms import ARMS, make_optimizer
from replications.lion.studies.box import BoxBound, places_in_box
from replications.lion.studies.digits import (
    Digits,
    evaluate,
    make_model,
    measure_digits,
    measure_digits_trial,
    num_steps,
    training,
)
from replications.lion.studies.search import Betas, Count, Positive, Searches, Study, best_points, pairs


class Ablation(Study):
    """What is compared at which settings."""

    batch: Count  # one of the sweep's
    num_seeds: Count  # of each pair
    betas: list[Betas] = Field(min_length=1)  # pairs compared (C12)
    box_decays: list[Positive] = Field(min_length=1)  # λ of the box (C7)
    num_box_seeds: Count  # of each λ
    train_nll: Positive  # training loss at which both arms stop before they are disturbed (C14)
    every: Count  # steps between two looks at it
    perturbations: list[Positive] = Field(min_length=1)  # relative sizes of the disturbance
    draws: Count  # disturbances averaged at each size


def run_ablation(study: Ablation, digits: Digits, search: Searches, fresh: Sequence[int], runner: Runner) -> Tables:
    """Compare betas, each pair tuned; walk along λ with Lion's best learning rate; disturb the weights."""
    task, seeds = digits.at(study.batch), fresh[: study.num_seeds]
    with_betas = [
        Search(
            f"betas_{betas[0]:g}_{betas[1]:g}", "lion", task, {**search.space("lion", study.box), "betas": [betas]},
            study.num_trials, "nll_nats",
        )
        for betas in study.betas
    ]  # fmt: skip
    of_both = search.of_arms("flatness", ARMS, task, study, "nll_nats")
    tuned, trials = tune(runner, measure_digits_trial, [*with_betas, *of_both], search)
    grid = []
    for of, of_betas in zip(with_betas, tuned, strict=False):
        grid += pairs(of.experiment, {"lion": {**task, **of_betas.best()}}, seeds)
    best = best_points(of_both, tuned[len(with_betas) :], task)
    walls = []
    for decay in study.box_decays:
        # The control applies no decay and is held against the same box.
        for experiment, applied in (("constraint", decay), ("constraint_control", 0.0)):
            point = {**best["lion"], "weight_decay": applied, "box_decay": decay}
            walls += pairs(experiment, {"lion": point}, seeds[: study.num_box_seeds])
    disturbance = {name: getattr(study, name) for name in ("train_nll", "every", "perturbations", "draws")}
    stopped = pairs("flatness", {arm: {**best[arm], **disturbance} for arm in ARMS}, seeds)
    runs = [
        *execute(runner, measure_digits, grid),
        *execute(runner, measure_constraint, walls),
        *execute(runner, measure_flatness, stopped),
    ]
    return Tables(runs, trials)


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

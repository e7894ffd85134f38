"""Scales of attention compared: rows of random scores, and a small GPT trained at several scales.

A seed is a block of random rows, or a training run: arms of one seed share initial weights and windows.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from paperkit.config import StrictModel
from paperkit.models.language_model import next_token_loss
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Rows, Run, Runner, execute, seeds_of
from paperkit.stage import StageConfig, Tables, main
from paperkit.texts import TextTraining
from paperkit.training import train, warmup_cosine
from paperkit.tuning import LogRange, Search, Tuned, Tuning, tune
from replications.attention_scale.attention import (
    CosineBlock,
    ScaledBlock,
    parameter_groups,
    score_statistics,
    with_blocks,
)
from replications.attention_scale.scale import annealed_optimum, row_statistics

FINAL_FRACTION = 0.1  # of the learning rate, at the end of the cosine
ADAM_BETAS = (0.9, 0.98)
TIMES_LONGER = 4
QUANTILES = (0.05, 0.1, 0.5)
SCALES = np.geomspace(0.5, 16, 26)  # every fifth doubles
COMPARED = (1, 2, 4, 8)  # scales at which two estimators are compared


class Arm(StrictModel):
    """What differs between arms: the scale of the scores, or what a scale does to the query map."""

    scale: PositiveFloat = 1.0  # α in α / sqrt(d), or the factor of a cosine
    spread: PositiveFloat = 1.0  # factor of the initial query weights
    query_rate: PositiveFloat = 1.0  # factor of the query map's learning rate
    cosine: bool = False  # whether scores are cosines


class Task(TextTraining):
    """A training run; the same for all arms."""

    max_gradient_norm: PositiveFloat | None  # L2 norm at which gradients are clipped; None for no clipping
    evaluation_windows: PositiveInt  # evenly spaced over a split
    curve_points: Annotated[int, Field(ge=1, le=50)]  # evaluations along a reported run


class Study(StrictModel):
    """One comparison: every arm is tuned over the same learning rates, at the horizon that is reported."""

    changes: dict[str, Any] = Field(default={})  # of the task that all studies share
    arms: Annotated[dict[str, Arm], Field(min_length=2)]  # the first two are those of a primary claim
    num_seeds: PositiveInt  # the first so many of `seeds`
    num_varied_seeds: NonNegativeInt = 0  # of each variation of the first two arms


class Blocks(StrictModel):
    """Rows of standard normal scores."""

    lengths: list[Annotated[int, Field(ge=2)]]
    rows: Annotated[int, Field(ge=2)]  # a block
    num_blocks: PositiveInt


class Config(StageConfig):
    """One profile of params.yaml."""

    tuning: Tuning
    lr: LogRange  # peak learning rate, of every search
    num_trials: PositiveInt
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    task: Task
    studies: dict[str, Study]
    random_rows: Blocks | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.tuning.refuse_shared({"seeds": self.seeds})
        for name, study in self.studies.items():
            self.task_of(study)
            if max(study.num_seeds, study.num_varied_seeds) > len(self.seeds):
                message = f"studies.{name} asks for {study.num_seeds} seeds; there are {len(self.seeds)}"
                raise ValueError(message)
        return self

    def task_of(self, study: Study) -> Task:
        """Return the task of a study, checked."""
        return Task(**{**self.task.model_dump(), **study.changes})


def run(config: Config, runner: Runner) -> Tables:
    """Sample rows, tune every arm of every study in one race, and report on fresh seeds."""
    runs: Rows = []
    if config.random_rows:
        blocks = config.random_rows
        grid = [
            Run("random_rows", f"n_{n}", block, {"n": n, "rows": blocks.rows})
            for n in blocks.lengths
            for block in range(blocks.num_blocks)
        ]
        runs += execute(runner, measure_rows, grid)
    searches = [
        Search(
            name, arm, {**config.task_of(study).in_runs, **settings.model_dump()}, {"lr": config.lr},
            config.num_trials, "loss_nats",
        )
        for name, study in config.studies.items()
        for arm, settings in study.arms.items()
    ]  # fmt: skip
    tuned, trials = tune(runner, measure_trial, searches, config.tuning)
    found = {(of.experiment, of.arm): outcome for of, outcome in zip(searches, tuned, strict=True)}
    tasks = {(of.experiment, of.arm): of.task for of in searches}
    for name, study in config.studies.items():
        points = {arm: {**tasks[name, arm], **found[name, arm].best()} for arm in study.arms}
        grid = _pairs(name, points, config.seeds[: study.num_seeds])
        if study.num_varied_seeds:
            grid += _variations(name, points, found, config.seeds[: study.num_varied_seeds])
        runs += execute(runner, measure, grid)
    return Tables(runs, trials)


def _pairs(experiment: str, points: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> list[Run]:
    return [Run(experiment, arm, seed, point) for seed in seeds for arm, point in points.items()]


def _variations(
    name: str, points: Mapping[str, Mapping[str, Any]], tuned: Mapping[tuple[str, str], Tuned], seeds: Sequence[int]
) -> list[Run]:
    """List the runs of the first two arms for four times as long, at one rate, and from half of the trials."""
    first, second = list(points)[:2]
    both = {arm: points[arm] for arm in (first, second)}
    longer = {
        arm: {**point, **{key: TIMES_LONGER * point[key] for key in ("steps", "warmup_steps")}}
        for arm, point in both.items()
    }
    half = {arm: {**point, **tuned[name, arm].best(len(tuned[name, arm].points) // 2)} for arm, point in both.items()}
    return [
        *_pairs(f"{name}_longer", longer, seeds),
        *_pairs(f"{name}_half_search", half, seeds),
        *_pairs(f"{name}_same_rate", {second: {**points[second], "lr": points[first]["lr"]}}, seeds),
    ]


def measure_trial(run: Run) -> Iterator[Measurement]:
    """Train, and look only at what may select."""
    yield from _trained(run, curve=False, splits=("validation",))


def measure(run: Run) -> Iterator[Measurement]:
    """Train; measure validation loss and scores along the run, and both losses at its end."""
    yield from _trained(run, curve=True, splits=("validation", "test"))


def make_model(run: Run) -> TinyGPT:
    """Make the model of a run; arms of one seed start from the same draws."""
    arm = Arm.from_config(run.config)
    torch.manual_seed(seeds_of(run.seed)[0])
    model = Task.from_config(run.config).make()
    return with_blocks(model, CosineBlock if arm.cosine else ScaledBlock, scale=arm.scale, spread=arm.spread)


def _trained(run: Run, *, curve: bool, splits: Sequence[Any]) -> Iterator[Measurement]:
    task, model = Task.from_config(run.config), make_model(run)
    groups = parameter_groups(model, run.config["lr"], Arm.from_config(run.config).query_rate)
    optimizer = torch.optim.Adam(groups, betas=ADAM_BETAS)
    schedule = warmup_cosine(
        optimizer, steps=task.steps, warmup_steps=task.warmup_steps, final_fraction=FINAL_FRACTION
    )
    looks = {round(task.steps * point / task.curve_points) for point in range(1, task.curve_points + 1)}
    if curve:
        yield Measurement("none", 0, "parameters", sum(parameter.numel() for parameter in model.parameters()))
        for at_start in _scores(task, model, 0):
            yield at_start
            yield replace(at_start, metric=f"initial_{at_start.metric}")
    for step in train(
        model, task.batches(seeds_of(run.seed)[1]), next_token_loss, optimizer, schedule=schedule,
        max_gradient_norm=task.max_gradient_norm or math.inf,
    ):  # fmt: skip
        if not math.isfinite(step.loss):
            yield from (Measurement(split, task.steps, "loss_nats", math.nan) for split in splits)
            return
        if curve and step.number in looks:
            yield from _scores(task, model, step.number)
            if step.number < task.steps:
                loss = task.loss(model, "validation", max(1, task.evaluation_windows // 4))
                yield Measurement("validation", step.number, "loss_nats", loss)
    for split in splits:
        yield Measurement(split, task.steps, "loss_nats", task.loss(model, split, task.evaluation_windows))


def _scores(task: Task, model: TinyGPT, step: int) -> Iterator[Measurement]:
    inputs, _ = task.even_windows("validation", 8)
    width, mass = score_statistics(model, inputs)
    yield Measurement("none", step, "score_sd", width)
    yield Measurement("none", step, "gradient_mass", mass)


def measure_rows(run: Run) -> Iterator[Measurement]:
    """Measure which rows the post's optimum is best for, along a grid of scales."""
    n, rng = run.config["n"], np.random.default_rng([run.config["n"], seeds_of(run.seed)[2]])
    chunks = [
        _along_scales(rng.standard_normal((min(500, run.config["rows"] - start), n)))
        for start in range(0, run.config["rows"], 500)
    ]
    mass, mean_score = (np.concatenate([chunk[part] for chunk in chunks], axis=1) for part in (0, 1))
    # The last row is that of the post's own optimum; a row's largest is taken over the grid.
    mass, mean_score, at_optimum = mass[:-1], mean_score[:-1], mass[-1]
    fitted = 0.84 * math.sqrt(math.log(n))
    for share in QUANTILES:
        curve = np.quantile(mass, share, axis=1)
        for step, value in enumerate(curve):
            yield Measurement("none", step, f"mass_q{round(100 * share):02d}", float(value))
        yield Measurement("none", 0, f"best_for_q{round(100 * share):02d}_ratio", peak(curve) / fitted)
    for step, value in enumerate(mean_score.mean(axis=1)):
        yield Measurement("none", step, "mass_mean", float(value))
    yield Measurement("none", 0, "typical_share", float(np.median(at_optimum / mass.max(axis=0))))
    own = SCALES[mass.argmax(axis=0)]
    yield Measurement("none", 0, "own_optimum_above_share", float(np.mean(own > annealed_optimum(math.log(n)))))
    for scale in COMPARED:
        of_scale = int(np.argmin(np.abs(SCALES - scale)))
        f, score = mass[of_scale], mean_score[of_scale]
        residual = f.var() * (1 - np.corrcoef(f, score - f)[0, 1] ** 2)
        yield Measurement("none", 0, f"variance_ratio_{scale}", float(f.var() / score.var()))
        yield Measurement("none", 0, f"best_variance_ratio_{scale}", float(f.var() / residual))


def _along_scales(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return f and Σ p s at every scale of the grid and, last, at the post's optimum: (2, scales + 1, rows)."""
    scales = [*SCALES, float(annealed_optimum(math.log(scores.shape[1])))]
    of_scales = [row_statistics(scores, scale) for scale in scales]
    return np.array([[found[name] for found in of_scales] for name in ("mass", "mean_score")])


def peak(curve: NDArray[np.float64]) -> float:
    """Return the scale at which a curve over the grid is largest: the vertex of a parabola through five points."""
    centre = int(np.clip(np.argmax(curve), 2, len(curve) - 3))
    near = slice(centre - 2, centre + 3)
    a, b, _ = np.polyfit(np.log(SCALES[near]), curve[near], 2)
    return float(np.exp(-b / (2 * a)))


if __name__ == "__main__":
    main(Config, run, stage="attention_scale", module="replications.attention_scale.experiment", tables=["sotu"])

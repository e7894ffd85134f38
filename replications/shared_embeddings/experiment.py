"""Shared output embeddings: every study behind claims.yaml, one function each.

What is trained and measured stands in `tasks/`; here is who is compared, tuned with which budget, on which seeds.
Every arm of a study gets the same trials of the learning rate; the validation loss at the reported horizon selects,
and the selected rate is run again on fresh seeds, paired between arms. All trials form one grid and all reported runs
another, heavy runs first, so that the workers end together.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import Tables, main
from paperkit.tuning import LogRange, Search, Tuning, tune
from replications.shared_embeddings.embedding import initial_sigma
from replications.shared_embeddings.tasks.curves import Training, measure_curve, measure_trial
from replications.shared_embeddings.tasks.identities import (
    MAPS,
    TOKENS,
    measure_scores,
    measure_self_logits,
)
from replications.shared_embeddings.tasks.initial_loss import measure_initial_loss
from replications.shared_embeddings.tasks.language_model import LanguageModel, measure_first_loss
from replications.shared_embeddings.tasks.rare_rows import ARMS as LION_ARMS
from replications.shared_embeddings.tasks.rare_rows import RareRows, measure_rare_rows

SOURCE_ARMS = ("tied", "small_sigma", "untied", "orthogonal", "half_swap", "shuffle")
OTHER_ARMS = ("signed_swap", "scaled", "learnable_scale")
WIDTH_ARMS = ("tied", "half_swap")
PASSES_ARMS = ("half_swap", "untied")
SCORES = ("tied", "half_swap", "signed_swap", "orthogonal")
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Configuration = dict[str, Any]


class Rates(Tuning):
    """What all searches share."""

    lr: LogRange  # peak, the same for every arm; widths and passes have ranges of their own


class InitialLoss(StrictModel):
    """The grid of simulated bigram models (C2 to C4)."""

    vocabularies: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    widths: list[Annotated[int, Field(ge=2, multiple_of=2)]] = Field(min_length=1)
    sigmas: list[Annotated[float, Field(gt=0)]]  # constant ones, beside each head's own
    inputs: Count  # pairs of tokens a model
    num_seeds: Count


class FirstLoss(StrictModel):
    """Untrained GPTs (C5)."""

    size: LanguageModel  # its width is replaced by each of `widths`
    widths: list[Annotated[int, Field(ge=2, multiple_of=2)]] = Field(min_length=1)
    windows: Count  # of the validation split
    gradient_windows: Count  # for the gradient's norm
    num_seeds: Count


class Curves(StrictModel):
    """The training curves of all heads, the factorial and the factorised model (C6 to C8, C10, X3, X4, X7 to X9)."""

    task: Training
    num_trials: Count  # of each arm, a power of two
    num_other_seeds: Count  # of the heads that are not the source's, of the factorial, and of the factorised model


class Widths(StrictModel):
    """Plain tying against half swap at several widths (X5)."""

    task: Training  # its width is replaced by each of `widths`
    widths: list[Annotated[int, Field(ge=2, multiple_of=2)]] = Field(min_length=2)
    lr: LogRange  # peak, the same for both arms and all widths
    num_trials: Count  # of each arm at each width, a power of two
    seeds: list[Seed] = Field(min_length=1)  # of its report


class Passes(StrictModel):
    """Several passes over a small text (C11)."""

    task: Training
    lr: LogRange
    num_trials: Count  # of each arm, a power of two
    seeds: list[Seed] = Field(min_length=1)  # of its report


class Lion(StrictModel):
    """Rows of rare tokens under Lion (C9)."""

    task: RareRows
    num_seeds: Count


class Config(StrictModel):
    """One profile of params.yaml."""

    search: Rates
    seeds: list[Seed] = Field(min_length=1)  # fresh; studies without seeds of their own take the first so many
    initial_loss: InitialLoss
    first_loss: FirstLoss
    curves: Curves
    widths: Widths
    passes: Passes
    lion: Lion

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        reported = {"seeds": self.seeds, "widths.seeds": self.widths.seeds, "passes.seeds": self.passes.seeds}
        self.search.refuse_shared(reported)
        for path in ("initial_loss", "first_loss", "curves", "widths", "passes", "lion"):
            for name, value in getattr(self, path):
                if name == "num_trials" and value & (value - 1):
                    message = f"{path}.num_trials {value} must be a power of two (1, 2, 4, 8, 16 …)"
                    raise ValueError(message)
                if name.startswith("num_") and name.endswith("seeds") and value > len(self.seeds):
                    message = f"{path}.{name} {value} must be at most the number of seeds, {len(self.seeds)}"
                    raise ValueError(message)
        heads = self.first_loss.size.heads, self.widths.task.heads
        for path, of_path, number in zip(("first_loss", "widths"), (self.first_loss, self.widths), heads, strict=True):
            refused = [width for width in of_path.widths if width % number]
            if refused:
                message = f"{path}.widths {refused} must be multiples of heads {number}"
                raise ValueError(message)
        return self


def run(config: Config, runner: Runner) -> Tables:
    """Run every study."""
    studies = [*width_searches(config), *curve_searches(config), *passes_searches(config)]
    tuned, trials = tune(runner, measure_run, [search for search, _ in studies], config.search)
    best = [of_arm.best() for of_arm in tuned]
    reports = [
        Run(of.experiment, of.arm, seed, {**of.task, **point})
        for (of, seeds), point in zip(studies, best, strict=True)
        for seed in seeds
    ]
    rates = {(of.experiment, of.arm): point["lr"] for (of, _), point in zip(studies, best, strict=True)}
    grid = [
        *reports,
        *factorial(config, rates["curves", "half_swap"]),
        *untrained(config),
        *lion(config),
        *derivation(),
    ]
    return Tables(execute(runner, measure_run, grid), trials)


Searches = Iterator[tuple[Search, Sequence[int]]]


def width_searches(config: Config) -> Searches:
    """List the arms of the width sweep with the seeds of their reports, the widest first."""
    study = config.widths
    space = {"lr": study.lr}
    for width in sorted(study.widths, reverse=True):
        task = {**study.task.model_dump(), "width": width}
        for arm in WIDTH_ARMS:
            search = Search("widths", arm, task, space, study.num_trials, "loss_nats", label={"width": width})
            yield search, study.seeds


def curve_searches(config: Config) -> Searches:
    """List the arms of the training curves, and the factorised model, with the seeds of their reports."""
    study = config.curves
    few = config.seeds[: study.num_other_seeds]
    task, space = study.task.model_dump(), {"lr": config.search.lr}
    for arm in (*SOURCE_ARMS, *OTHER_ARMS, "factorised"):
        seeds = config.seeds if arm in SOURCE_ARMS else few
        yield Search("curves", arm, task, space, study.num_trials, "loss_nats"), seeds


def passes_searches(config: Config) -> Searches:
    """List the arms of several passes over a small text; the best loss on the way selects, not that at the end."""
    study = config.passes
    task, space = study.task.model_dump(), {"lr": study.lr}
    for arm in PASSES_ARMS:
        yield Search("passes", arm, task, space, study.num_trials, "best_loss_nats"), study.seeds


def factorial(config: Config, lr: float) -> Iterator[Run]:
    """List the cells between the tied head and small sigma; the arm says which of logits, input, step are changed."""
    # With r = (log n) / sqrt(d), small sigma is the tied head with logits times r, input times r, and the table's
    # learning rate divided by r (step 18 of the derivation). lr: half swap's, which is none of the corners'.
    task = config.curves.task
    ratio = initial_sigma(task.vocabulary, task.width, "small_sigma") * math.sqrt(task.width)
    settings = {**task.model_dump(), "curve": False, "lr": lr}
    for seed in config.seeds[: config.curves.num_other_seeds]:
        for logits, inputs, step in product((0, 1), repeat=3):
            factors = {
                "head": "tied",
                "logit_scale": ratio**logits,
                "input_scale": ratio**inputs,
                "table_lr_scale": ratio**-step,
            }
            yield Run("factorial", f"{logits}{inputs}{step}", seed, {**settings, "factors": factors})


def untrained(config: Config) -> Iterator[Run]:
    """List the untrained models: GPTs, then simulated bigram models, the largest first."""
    study, grid = config.first_loss, config.initial_loss
    for width, seed in product(sorted(study.widths, reverse=True), config.seeds[: study.num_seeds]):
        for positions, branches in product((True, False), repeat=2):
            settings = {
                **study.size.model_dump(), "width": width, "positions": positions, "branches": branches,
                "windows": study.windows, "gradient_windows": study.gradient_windows,
            }  # fmt: skip
            yield Run("first_loss", "all_heads", seed, settings)
    sizes = product(sorted(grid.vocabularies, reverse=True), sorted(grid.widths, reverse=True))
    for (n, d), seed in product(sizes, config.seeds[: grid.num_seeds]):
        yield Run("initial_loss", "own", seed, {"n": n, "d": d, "inputs": grid.inputs})
        for sigma in grid.sigmas:
            yield Run("initial_loss", "constant", seed, {"n": n, "d": d, "inputs": grid.inputs, "sigma": sigma})


def lion(config: Config) -> Iterator[Run]:
    """List the bigram models under Lion."""
    for seed, arm in product(config.seeds[: config.lion.num_seeds], LION_ARMS):
        yield Run("rare_rows", arm, seed, config.lion.task.model_dump())


def derivation() -> Iterator[Run]:
    """List what the figures of the derivation show."""
    yield from (Run("scores", name, 0, {"row": row}) for name in SCORES for row in range(TOKENS))
    yield from (Run("self_logits", name, 0, {}) for name in MAPS)


MEASURES: dict[str, Callable[[Run], Iterable[Measurement]]] = {
    "widths": measure_curve,
    "curves": measure_curve,
    "passes": measure_curve,
    "factorial": measure_curve,
    "first_loss": measure_first_loss,
    "initial_loss": measure_initial_loss,
    "rare_rows": measure_rare_rows,
    "scores": measure_scores,
    "self_logits": measure_self_logits,
}


def measure_run(run: Run) -> Iterable[Measurement]:
    """Measure a run of any study, or a trial ("_search" behind its name): one function, so that all form one grid."""
    return measure_trial(run) if run.experiment.endswith("_search") else MEASURES[run.experiment](run)


if __name__ == "__main__":
    main(Config, run, stage="shared_embeddings", module="replications.shared_embeddings.experiment", tables=["sotu"])

"""What the studies share: declared boxes, equal searches, and reports paired by seed."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from paperkit.config import StrictModel
from paperkit.runs import Measure, Rows, Run, Runner
from paperkit.tuning import LogRange, Search, Tuned, Tuning, ledger
from replications.lion.studies.arms import WITH_ONE_BETA

Configuration = dict[str, Any]
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[list[Beta], Field(min_length=2, max_length=2)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]


def _power_of_two(number: int) -> int:
    if number & (number - 1):
        message = "it must be a power of two (1, 2, 4, 8, 16 …)"
        raise ValueError(message)
    return number


PowerOfTwo = Annotated[int, Field(ge=1), AfterValidator(_power_of_two)]


class Box(StrictModel):
    """The declared ranges of a study; the same for all its arms."""

    lr: LogRange  # peak learning rate
    weight_decay: LogRange  # the decay coefficient λ: a step shrinks matrices by 1 - lr·λ


class Study(StrictModel):
    """What a study with a box says about its searches."""

    box: Box
    num_trials: PowerOfTwo  # of each search: of each arm, at each batch size or pair of betas


class Searches(Tuning):
    """What all searches share: each arm may choose what every other may."""

    betas: list[Betas] = Field(min_length=1)  # pairs among which every arm chooses
    single_betas: list[Beta]  # as many for the arms that have one beta; equal pairs are what they are

    @model_validator(mode="after")
    def _fair(self) -> Self:
        if len(self.betas) != len(self.single_betas):
            message = f"betas has {len(self.betas)} pairs and single_betas {len(self.single_betas)}; make them as many"
            raise ValueError(message)
        return self

    def space(self, arm: str, box: Box) -> dict[str, Any]:
        """Return what is searched for one arm: a range or list of choices for each hyper-parameter."""
        pairs_of_arm = [[beta, beta] for beta in self.single_betas] if arm in WITH_ONE_BETA else self.betas
        return {"lr": box.lr, "weight_decay": box.weight_decay, "betas": pairs_of_arm}

    def of_arms(
        self, experiment: str, arms: Sequence[str], task: Configuration, study: Study, metric: str, **label: Any
    ) -> list[Search]:
        """Declare the searches of a comparison: the same trials of the same box for every arm."""
        return [
            Search(experiment, arm, task, self.space(arm, study.box), study.num_trials, metric, label) for arm in arms
        ]


def best_points(
    searches: Sequence[Search], tuned: Sequence[Tuned], task: Configuration, budget: int | None = None
) -> dict[str, Configuration]:
    """Return the task at the selected point of each arm."""
    return {of.arm: {**task, **of_arm.best(budget)} for of, of_arm in zip(searches, tuned, strict=True)}


NUM_CHOSEN_AGAIN = 2


def choose_again(
    runner: Runner,
    measure: Measure,
    searches: Sequence[Search],
    tuned: Sequence[Tuned],
    seeds: Sequence[int],
    allowed: Callable[[Mapping[str, Any]], bool] = lambda _point: True,
) -> tuple[list[Tuned], Rows]:
    """Run the two best allowed points of earlier races under a changed task on all tuning seeds; the mean selects."""
    chosen = [_best_first(of_arm, allowed)[:NUM_CHOSEN_AGAIN] for of_arm in tuned]
    places = [(of, place, seed) for of, points in enumerate(chosen) for place in range(len(points)) for seed in seeds]
    grid = [
        Run(f"{searches[of].experiment}_search", searches[of].arm, seed, {**searches[of].task, **chosen[of][place]})
        for of, place, seed in places
    ]
    losses: list[list[dict[int, float]]] = [[{} for _ in points] for points in chosen]
    for (of, place, seed), rows in zip(places, runner(measure, grid), strict=True):
        metric = searches[of].metric
        *_, last = (row["value"] for row in rows if (row["split"], row["metric"]) == ("validation", metric))
        losses[of][place][seed] = math.nan if last is None else last
    again = [Tuned(*outcome) for outcome in zip(chosen, losses, strict=True)]
    return again, [
        row for of, of_arm in zip(searches, again, strict=True) for row in ledger(of, of_arm, runner.profile)
    ]


def _best_first(tuned: Tuned, allowed: Callable[[Mapping[str, Any]], bool]) -> list[Mapping[str, Any]]:
    """Sort the allowed trials of a race that did not diverge: those on more tuning seeds first, then by mean loss."""
    ranked = [
        (-len(losses), fmean(losses.values()), trial)
        for trial, (point, losses) in enumerate(zip(tuned.points, tuned.losses, strict=True))
        if allowed(point) and math.isfinite(fmean(losses.values()))
    ]
    return [tuned.points[trial] for *_, trial in sorted(ranked)]


def pairs(experiment: str, points: Mapping[str, Configuration], seeds: Sequence[int]) -> list[Run]:
    """List the runs of a report: all arms on the same seeds."""
    return [Run(experiment, arm, seed, point) for seed in seeds for arm, point in points.items()]

"""What the studies share: declared boxes, equal searches, and reports paired by seed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from paperkit.config import StrictModel
from paperkit.runs import Run
from paperkit.tuning import LogRange, Search, Tuned, Tuning
from replications.lion.studies.arms import VARIANTS

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
    """What all searches share."""

    betas: Mapping[str, list[Betas]]  # candidate pairs of each arm; an arm with one beta has it twice

    @model_validator(mode="after")
    def _fair(self) -> Self:
        candidates = {arm: len(self.betas.get(arm, [])) for arm in VARIANTS}
        if 0 in candidates.values() or len(set(candidates.values())) > 1:
            message = f"betas gives {candidates} candidate pairs; each arm needs the same number, at least one"
            raise ValueError(message)
        return self

    def space(self, arm: str, box: Box) -> dict[str, Any]:
        """Return what is searched for one arm: a range or list of choices for each hyper-parameter."""
        return {"lr": box.lr, "weight_decay": box.weight_decay, "betas": self.betas[arm]}

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


def pairs(experiment: str, points: Mapping[str, Configuration], seeds: Sequence[int]) -> list[Run]:
    """List the runs of a report: all arms on the same seeds."""
    return [Run(experiment, arm, seed, point) for seed in seeds for arm, point in points.items()]

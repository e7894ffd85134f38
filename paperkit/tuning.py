"""Equal-budget search: the same number of trials from the same space for every arm, all of them kept.

Trials are the points of one scrambled Sobol sequence, so the first n trials are themselves a fair search with
budget n (needed for "verdict against budget"), and no arm's luck of the draw differs from another's. A search is a
race: all trials run on one tuning seed, the best quarter on every other, and the mean selects; one seed alone would
pick the lucky trial of the noisier arm.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.stats import qmc

from paperkit.config import StrictModel
from paperkit.runs import Measure, Rows, Run, Runner

MIN_FINALISTS = 4


class LogRange(StrictModel):
    """An interval searched uniformly in the logarithm.

    Attributes:
        low: Smallest value, positive.
        high: Largest value, greater than `low`.
    """

    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            message = f"low {self.low} must be less than high {self.high}"
            raise ValueError(message)
        return self

    def at(self, fraction: float) -> float:
        """Return the point at a fraction of the way, in the logarithm.

        Args:
            fraction: From 0 (low) to 1 (high).

        Returns:
            low^(1 - fraction) * high^fraction, rounded to four significant digits (a reader can type it), but
            not out of the range.
        """
        typed = float(f"{self.low ** (1 - fraction) * self.high**fraction:.4g}")
        return min(max(typed, self.low), self.high)

    def fraction(self, value: float) -> float:
        """Return where a value lies, in the logarithm.

        Args:
            value: A positive number.

        Returns:
            0 at `low`, 1 at `high`.
        """
        return float(np.log(value / self.low) / np.log(self.high / self.low))


Space = Mapping[str, LogRange | Sequence[Any]]


def draw_trials(space: Space, *, num_trials: int, seed: int) -> list[dict[str, Any]]:
    """Draw hyper-parameters: a scrambled Sobol sequence over log-ranges and lists of choices.

    Args:
        space: A `LogRange` or a list of choices for each hyper-parameter.
        num_trials: Number of points, a power of two (a Sobol sequence is balanced only there).
        seed: Seed of the scrambling.

    Returns:
        One configuration a trial.

    Raises:
        ValueError: If the space is empty or the number is no power of two.

    Example:
        >>> draw_trials({"lr": LogRange(low=1e-4, high=1e-2)}, num_trials=2, seed=0)
        [{'lr': 0.0006605}, {'lr': 0.003215}]
    """
    if not space:
        message = "the space is empty; name at least one hyper-parameter"
        raise ValueError(message)
    if num_trials < 1 or num_trials & (num_trials - 1):
        message = f"num_trials is {num_trials}; it must be a power of two (1, 2, 4, 8, 16 …)"
        raise ValueError(message)
    points = qmc.Sobol(len(space), rng=np.random.default_rng(seed)).random(num_trials)
    return [
        {name: _value(axis, fraction) for (name, axis), fraction in zip(space.items(), point, strict=True)}
        for point in points
    ]


def select(losses: Sequence[float]) -> int:
    """Return the trial with the least loss; a loss that is not finite never wins.

    Args:
        losses: Validation loss of each trial, in the order drawn.

    Returns:
        Index of the best trial; of equal ones, the first drawn.

    Raises:
        ValueError: If every trial diverged.
    """
    finite = np.where(np.isfinite(losses), losses, np.inf)
    if not np.isfinite(finite).any():
        message = f"all {len(losses)} trials diverged; move the search space to smaller learning rates"
        raise ValueError(message)
    return int(np.argmin(finite))


def at_edge(config: Mapping[str, Any], space: Space, *, share: float = 0.05) -> bool:
    """Tell whether a point lies in the outermost share of a searched range: then the space must be extended.

    Args:
        config: A trial's hyper-parameters.
        space: What was searched.
        share: Width of the edge as a share of the range's logarithm, at each end.

    Returns:
        True if any log-range's value lies in its edge.
    """
    ranges = {name: axis for name, axis in space.items() if isinstance(axis, LogRange)}
    fractions = [axis.fraction(config[name]) for name, axis in ranges.items()]
    return any(fraction < share or fraction > 1 - share for fraction in fractions)


class Tuning(StrictModel):
    """What all searches of a replication share.

    Attributes:
        draw_seed: Seed of the Sobol sequence.
        seeds: Tuning seeds, of initialisation and data order; all trials run on the first, finalists on every one.
    """

    draw_seed: Annotated[int, Field(ge=0)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            message = f"seeds {self.seeds} must differ from each other"
            raise ValueError(message)
        return self

    def refuse_shared(self, reported: Mapping[str, Sequence[int]]) -> None:
        """Refuse seeds of a report on which something was tuned, or that repeat.

        Args:
            reported: Seeds by the name of their key in params.yaml.

        Raises:
            ValueError: Where seeds are shared; names key and seeds.
        """
        for name, seeds in reported.items():
            if len(set(seeds)) < len(seeds) or set(seeds) & set(self.seeds):
                message = f"{name} {seeds} must differ from each other and from the tuning seeds {self.seeds}"
                raise ValueError(message)


@dataclass(frozen=True)
class Search:
    """The search of one arm.

    Attributes:
        experiment: What it is for; its trials are runs of "<experiment>_search".
        arm: What is tuned.
        task: Configuration that all trials share.
        space: What is searched.
        num_trials: Budget, a power of two.
        metric: Validation metric that selects, by its last value; ends in its unit.
        label: Part of the task to write into the ledger, where searches of one name differ in it.
    """

    experiment: str
    arm: str
    task: Mapping[str, Any]
    space: Space
    num_trials: int
    metric: str
    label: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tuned:
    """The outcome of one search.

    Attributes:
        points: Hyper-parameters of each trial, in the order drawn.
        losses: For each trial the validation loss by tuning seed; not finite where it diverged.
    """

    points: Sequence[Mapping[str, Any]]
    losses: Sequence[Mapping[int, float]]

    def best_trial(self, budget: int | None = None) -> int:
        """Return the trial with the least mean loss among those on the most tuning seeds.

        Args:
            budget: Look at the first so many trials only; None for all.

        Returns:
            Its index; of equal ones, the first drawn.

        Raises:
            ValueError: If every trial diverged.

        Example:
            >>> Tuned([{}, {}, {}], [{7: 1.0, 8: 9.0}, {7: 2.0, 8: 2.0}, {7: 3.0}]).best_trial()
            1
        """
        means = [fmean(of_trial.values()) for of_trial in self.losses[:budget]]
        raced = [
            len(of_trial) if math.isfinite(mean) else 0 for of_trial, mean in zip(self.losses, means, strict=False)
        ]
        return select([mean if number == max(raced) else math.nan for mean, number in zip(means, raced, strict=True)])

    def best(self, budget: int | None = None) -> dict[str, Any]:
        """Return the hyper-parameters of the best trial, see `best_trial`."""
        return dict(self.points[self.best_trial(budget)])


def tune(runner: Runner, measure: Measure, searches: Sequence[Search], tuning: Tuning) -> tuple[list[Tuned], Rows]:
    """Run a race for every arm: all trials as one grid, then the finalists on the other tuning seeds as another.

    The finalists of an arm are the best quarter of its trials on the first tuning seed, and at least four.

    Args:
        runner: Executes runs in worker processes.
        measure: What a trial measures; never on the test split.
        searches: One for each arm of each study.
        tuning: Seeds.

    Returns:
        For each search its outcome, and the rows of `trials.csv`.

    Raises:
        ValueError: If a space is empty, or every trial of a search diverged.
    """
    points = [draw_trials(of.space, num_trials=of.num_trials, seed=tuning.draw_seed) for of in searches]
    first, *others = tuning.seeds
    losses: list[list[dict[int, float]]] = [[{} for _ in of_search] for of_search in points]

    def measured(trials: Sequence[tuple[int, int, int]]) -> None:
        grid = [
            Run(
                f"{searches[of].experiment}_search", searches[of].arm, seed, {**searches[of].task, **points[of][trial]}
            )
            for of, trial, seed in trials
        ]
        for (of, trial, seed), rows in zip(trials, runner(measure, grid), strict=True):
            losses[of][trial][seed] = _last_value(rows, searches[of].metric)

    measured([(of, trial, first) for of, of_search in enumerate(points) for trial in range(len(of_search))])
    if others:
        finalists = [_finalists([of_trial[first] for of_trial in of_search]) for of_search in losses]
        measured([(of, trial, seed) for of, chosen in enumerate(finalists) for trial in chosen for seed in others])
    tuned = [Tuned(*outcome) for outcome in zip(points, losses, strict=True)]
    ledgers = (ledger(search, outcome, runner.profile) for search, outcome in zip(searches, tuned, strict=True))
    return tuned, list(chain.from_iterable(ledgers))


def ledger(search: Search, tuned: Tuned, profile: str) -> Rows:
    """Write down every trial of a search on every tuning seed, diverged ones too, as rows of `trials.csv`.

    Args:
        search: The search.
        tuned: Its outcome.
        profile: Profile of the search.

    Returns:
        Rows; exactly one trial is selected, on all its seeds.

    Raises:
        ValueError: If every trial diverged.
    """
    best = tuned.best_trial()
    return [
        {
            "profile": profile, "experiment": search.experiment, "arm": search.arm, "trial": number, "seed": seed,
            "config": {**point, **search.label}, "metric": search.metric, "value": loss,
            "status": "ok" if math.isfinite(loss) else "diverged",
            "selected": number == best, "at_edge": at_edge(point, search.space),
        }
        for number, (point, of_trial) in enumerate(zip(tuned.points, tuned.losses, strict=True))
        for seed, loss in of_trial.items()
    ]  # fmt: skip


def _finalists(losses: Sequence[float]) -> list[int]:
    """Return the trials that run on every tuning seed; a diverged one is none."""
    finite = [trial for trial, loss in enumerate(losses) if math.isfinite(loss)]
    best_first = sorted(finite, key=lambda trial: losses[trial])
    return sorted(best_first[: max(MIN_FINALISTS, len(losses) // 4)])


def _last_value(rows: Rows, metric: str) -> float:
    chosen = [row for row in rows if row["split"] == "validation" and row["metric"] == metric]
    last = max(chosen, key=lambda row: row["step"])
    return math.nan if last["value"] is None else last["value"]


def _value(axis: LogRange | Sequence[Any], fraction: float) -> Any:
    if isinstance(axis, LogRange):
        return axis.at(fraction)
    return axis[int(fraction * len(axis))]

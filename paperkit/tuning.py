"""Equal-budget search: the same number of trials from the same space for every arm, all of them kept.

Trials are the points of one scrambled Sobol sequence, so the first n trials are themselves a fair search with
budget n (needed for "verdict against budget"), and no arm's luck of the draw differs from another's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.stats import qmc

from paperkit.config import StrictModel


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


def ledger(
    *,
    profile: str,
    experiment: str,
    metric: str,
    seed: int,
    space: Space,
    trials: Mapping[str, Sequence[tuple[Mapping[str, Any], float]]],
) -> list[dict[str, Any]]:
    """Write down every trial of every arm, diverged ones too, as rows of `trials.csv`.

    Args:
        profile: Profile of the search.
        experiment: Experiment it was made for.
        metric: Name of the validation metric that selects; ends in its unit.
        seed: Seed of initialisation and data order in all trials.
        space: What was searched.
        trials: For each arm its (hyper-parameters, validation loss), in the order drawn.

    Returns:
        Rows; exactly one in each arm is selected.
    """
    rows = []
    for arm, outcomes in trials.items():
        best = select([loss for _, loss in outcomes])
        for number, (config, loss) in enumerate(outcomes):
            rows.append({
                "profile": profile, "experiment": experiment, "arm": arm, "trial": number, "seed": seed,
                "config": dict(config), "metric": metric, "value": loss,
                "status": "ok" if np.isfinite(loss) else "diverged",
                "selected": number == best, "at_edge": at_edge(config, space),
            })  # fmt: skip
    return rows


def _value(axis: LogRange | Sequence[Any], fraction: float) -> Any:
    if isinstance(axis, LogRange):
        return axis.at(fraction)
    return axis[int(fraction * len(axis))]

"""What another race would have selected: the part of a tuned difference that an interval over fresh seeds cannot see.

Two races over noise end at two settings, whose losses do differ a little, and a test over fresh seeds compares these
settings, not the methods. A placebo (`replications.placebo`) measured what that costs: nearly one wrong word of ten
instead of one of twenty. The ledger of the race says how noisy it was, so that the interval can be widened by it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from paperkit.claims.rules import Difference
from paperkit.tuning import MIN_FINALISTS

RACES = 1000  # drawn anew; the standard error of the variance is then below a twentieth of it


def selection_variance(losses: Sequence[Mapping[int, float]]) -> float | None:
    """Return the variance, over races, of the true loss of what a race selects.

    A parametric bootstrap of one race. Its losses are taken as ℓ_is = μ_i + b_s + e_is: trial i, tuning seed s, which
    all trials share, and e of variance σ². The finalists, on all seeds, give μ_i (their means), b_s and
    σ² = Σ e² / ((F - 1)(S - 1)); a trial on the first seed only has μ_i = ℓ_i1 - b_1. Races with new e then select as
    `paperkit.tuning.tune` does, and the variance is that of μ at the selected trial.

    Args:
        losses: For each trial its validation loss by tuning seed, see `paperkit.tuning.Tuned`. A trial with a loss
            that is not finite is never selected.

    Returns:
        Variance in the square of the loss's unit; None with one tuning seed or one finalist, which show no noise.

    Example:
        >>> selection_variance([{1: 0.25, 2: 0.75, 3: 0.5}, {1: 5.25, 2: 5.5, 3: 5.75}, {1: 9.0}])
        0.0
    """
    seeds = sorted(set().union(*losses))
    first = next(seed for seed in seeds if all(seed in of_trial for of_trial in losses))
    table = np.array([[of_trial.get(seed, np.nan) for seed in seeds] for of_trial in losses], dtype=float)
    raced, alive = np.isfinite(table).all(axis=1), np.isfinite(table[:, seeds.index(first)])
    num_raced, num_seeds = table[raced].shape
    if min(num_raced, num_seeds) < 2:
        return None
    means, shifts = table[raced].mean(axis=1), table[raced].mean(axis=0) - table[raced].mean()
    noise = table[raced] - means[:, None] - shifts
    sd = np.sqrt((noise**2).sum() / ((num_raced - 1) * (num_seeds - 1)))
    true = table[:, seeds.index(first)] - shifts[seeds.index(first)]
    true[raced] = means
    true = true[alive]
    drawn = true + sd * np.random.default_rng(0).standard_normal((RACES, num_seeds, len(true)))
    finalists = np.argsort(drawn[:, 0], axis=1)[:, : max(MIN_FINALISTS, len(losses) // 4)]
    best = np.take_along_axis(drawn.mean(axis=1), finalists, axis=1).argmin(axis=1)
    variance = true[np.take_along_axis(finalists, best[:, None], axis=1)].var(ddof=1)
    return float(f"{variance:.6g}")  # a bootstrap says no more, and the last bits differ between machines


def variance_of_difference(trials: pd.DataFrame, said: Difference) -> float | None:
    """Add up the selection variances of the two arms of a difference.

    Args:
        trials: `trials.csv`.
        said: The difference of a metric.

    Returns:
        Variance in the square of the metric's unit; None where the metric did not select an arm, or not in a single
        race with noise that shows.
    """
    found = []
    for experiment, arm in ((said.experiment, said.of), (said.minus_experiment or said.experiment, said.minus)):
        rows = trials[trials["experiment"].eq(experiment) & trials["arm"].eq(arm) & trials["metric"].eq(said.metric)]
        losses: dict[int, dict[int, float]] = {trial: {} for trial in rows["trial"]}
        for trial, seed, loss in zip(rows["trial"], rows["seed"], rows["value"], strict=True):
            losses[trial][seed] = loss
        is_one_race = 0 < len(rows) == sum(map(len, losses.values()))
        found.append(selection_variance(list(losses.values())) if is_one_race else None)
    return None if None in found else sum(found)

"""Intervals over seeds, equivalence, multiplicity and seed counts: thin names over statsmodels and scipy.

The unit is a training run: every function takes one number a seed (a difference between two arms that share
initialisation and data order, or a slope). Symbols: x̄ mean, s standard deviation (n − 1), n seeds, t_q(ν) the
q quantile of Student's t with ν degrees of freedom, b bound, m margin.

Nothing here depends on the unit: values are divided by a power of two beforehand, which rounds nothing, so that
no square under- or overflows.

No percentile bootstrap: over 3, 5 or 10 seeds it covers about 74, 85 and 89 % instead of 95
(simulated for this project; for 3 seeds a test enumerates all resamples).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

# Nodes for the mean over s: the integrand falls from 1 to 0, so the error is at most 1 / (2 · nodes).
_NODES = 2000


@dataclass(frozen=True)
class Interval:
    """Mean over seeds with its two-sided t intervals, in the unit of the values.

    Attributes:
        estimate: x̄.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        low90: Lower end of the 90 % interval (the one that decides equivalence at the 5 % level).
        high90: Upper end of the 90 % interval.
        n: Number of seeds, at least 2.
        p: Two-sided p of "the mean equals the bound", in [0, 1].
    """

    estimate: float
    low: float
    high: float
    low90: float
    high90: float
    n: int
    p: float


def paired_interval(differences: ArrayLike, bound: float = 0.0) -> Interval | None:
    """Return the paired t interval of one number a seed.

    x̄ ± t_{0.975}(n − 1) · s / √n, with t_{0.95} for the 90 % interval, and
    p = 2 P(T_{n−1} > |x̄ − b| · √n / s).

    Args:
        differences: One finite number a seed, shape (n,).
        bound: Value b that p is computed against; the interval does not depend on it.

    Returns:
        The interval; None for a single seed, which says nothing about its own spread. Seeds that agree to the
        last bit give an interval of zero length, with p = 1 if they equal the bound and p = 0 if not.

    Raises:
        ValueError: If there is no value, one is NaN or infinite, or an end of the interval leaves the range of
            float64.

    Example:
        >>> interval = paired_interval([0.1, 0.3, 0.2])
        >>> round(interval.low, 3), round(interval.high, 3), round(interval.p, 3)
        (-0.048, 0.448, 0.074)
        >>> paired_interval([0.1]) is None
        True
    """
    values = _finite_values("differences", differences, minimum=1)
    _require_finite("bound", bound)
    if len(values) == 1:
        return None
    # Equal values are caught before statsmodels: the rounded mean would leave a spread of one last bit.
    if (values == values[0]).all():
        point = float(values[0])
        return Interval(point, point, point, point, point, len(values), float(point == bound))
    exponent = _exponent(values)
    summary = _summary(_times_power_of_two(values, -exponent))
    wide, narrow = summary.tconfint_mean(alpha=0.05), summary.tconfint_mean(alpha=0.10)
    scaled = np.array([summary.mean, *wide, *narrow])
    ends = _times_power_of_two(scaled, exponent)
    if not np.array_equal(_times_power_of_two(ends, -exponent), scaled):
        message = f"differences are of size 2^{exponent}, and their interval leaves float64; give them another unit"
        raise ValueError(message)
    estimate, low, high, low90, high90 = ends.tolist()
    p = summary.ttest_mean(_times_power_of_two(bound, -exponent))[1]
    return Interval(estimate, low, high, low90, high90, n=len(values), p=float(p))


def widened(interval: Interval, variance: float) -> Interval:
    """Return the interval with a variance added to that of its estimate.

    Args:
        interval: A paired interval.
        variance: In the square of its unit.

    Returns:
        x̄ ± t √(s²/n + variance), with the t of n - 1 degrees of freedom; estimate, n and p as before.
    """
    ends = {}
    for low, high, level in (("low", "high", 0.975), ("low90", "high90", 0.95)):
        t = stats.t.ppf(level, interval.n - 1)
        half = np.hypot((getattr(interval, high) - getattr(interval, low)) / 2, t * np.sqrt(variance))
        ends |= {low: float(interval.estimate - half), high: float(interval.estimate + half)}
    return replace(interval, **ends)


def equivalence_p(differences: ArrayLike, margin: float, bound: float = 0.0) -> float:
    """Return the p of two one-sided tests (TOST) that the mean lies within a margin of the bound.

    max(P(T_{n−1} > (x̄ − b + m) · √n / s), P(T_{n−1} < (x̄ − b − m) · √n / s)); it is below 0.05 exactly where
    the 90 % interval lies inside (b − m, b + m). Schuirmann, J. Pharmacokin. Biopharm. 15 (1987).

    Args:
        differences: One finite number a seed, shape (n,), n at least 2.
        margin: m, the smallest difference that would matter; positive, in the unit of the differences.
        bound: b, the value the mean is said to equal.

    Returns:
        The larger of the two one-sided p; for zero spread 0 inside the margin and 1 outside.

    Raises:
        ValueError: If there are fewer than two values, one is not finite, or the margin is not positive.

    Example:
        >>> round(equivalence_p([0.01, -0.02, 0.00, 0.01], margin=0.1), 4)
        0.0004
    """
    values = _finite_values("differences", differences, minimum=2)
    _require_positive("margin", margin)
    _require_finite("bound", bound)
    if (values == values[0]).all():
        return float(abs(float(values[0]) - bound) >= margin)
    exponent = _exponent(values)
    low, high = _times_power_of_two([bound - margin, bound + margin], -exponent)
    return float(_summary(_times_power_of_two(values, -exponent)).ttost_mean(low, high)[0])


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's step-down adjusted p-values, in the order given.

    For sorted p_(1) ≤ … ≤ p_(k): adjusted p_(i) = max_{j ≤ i} min(1, (k − j + 1) · p_(j)).
    Holm, Scand. J. Statist. 6 (1979).

    Args:
        p_values: One p a hypothesis, shape (k,), each in [0, 1].

    Returns:
        Adjusted p-values, shape (k,); below 0.05 means rejected with a family-wise error of 5 %.

    Raises:
        ValueError: If there is no p, or one is not in [0, 1].

    Example:
        >>> [round(float(p), 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    values = _finite_values("p_values", p_values, minimum=1)
    if values.min() < 0 or values.max() > 1:
        message = f"p_values holds {values.tolist()}; a p-value lies in [0, 1]"
        raise ValueError(message)
    # As statsmodels' multipletests, which takes a third of a second a call, since it collects garbage.
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(np.arange(len(values), 0, -1) * values[order])
    return np.minimum(adjusted, 1.0)


def seeds_needed(sd: float, margin: float, power: float = 0.8, alpha: float = 0.05, equivalence: bool = False) -> int:
    """Return the number of paired seeds that a margin needs, from a pilot's standard deviation.

    For an effect: the least n at which a true mean of m puts the whole (1 − α) interval above zero with the
    wanted power (noncentral t). For equivalence: the least n at which a true mean of zero passes both
    one-sided tests at level α, E_s[2 Φ(m √n / σ − t_{1−α}(n − 1) · s / σ) − 1]₊ with
    (n − 1) s² / σ² ~ χ²_{n−1}.

    Args:
        sd: Standard deviation σ of the difference between seeds, positive; a pilot's s is itself uncertain
            (with 5 seeds the true σ may well be twice as large).
        margin: m, positive, in the unit of sd.
        power: Wanted probability of the verdict, in (0, 1).
        alpha: Error level, in (0, 0.5).
        equivalence: Plan for "no difference" or "equivalent" instead of for an effect.

    Returns:
        Seeds, at least 2. The reporting standard asks for at least 5 whatever this says.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> seeds_needed(sd=0.1, margin=0.1), seeds_needed(sd=0.1, margin=0.1, equivalence=True)
        (10, 11)
    """
    _require_between("power", power, 0.0, 1.0)
    achieved = partial(achieved_power, sd, margin, alpha=alpha, equivalence=equivalence)
    upper = 2
    while achieved(upper) < power:
        upper *= 2
    return bisect_left(range(upper), power, lo=2, key=achieved)


def achieved_power(sd: float, margin: float, n: int, alpha: float = 0.05, equivalence: bool = False) -> float:
    """Return the power that n paired seeds give a margin, the quantity that `seeds_needed` plans with.

    Args:
        sd: Standard deviation σ of the difference between seeds, positive.
        margin: m, positive, in the unit of sd.
        n: Seeds, at least 2.
        alpha: Error level, in (0, 0.5).
        equivalence: Power of "no difference" at a true mean of zero instead of an effect at a true mean of m.

    Returns:
        Probability of the verdict, in [0, 1].

    Raises:
        ValueError: If sd, margin or alpha is out of its range.

    Example:
        >>> round(achieved_power(sd=0.1, margin=0.1, n=10), 2), round(achieved_power(sd=0.1, margin=0.1, n=5), 2)
        (0.8, 0.4)
    """
    _require_positive("sd", sd)
    _require_positive("margin", margin)
    _require_between("alpha", alpha, 0.0, 0.5)
    return (_equivalence_power if equivalence else _effect_power)(margin / sd, alpha, n)


def _exponent(values: NDArray[np.float64]) -> int:
    return math.frexp(np.abs(values).max())[1]


def _times_power_of_two(values: ArrayLike, exponent: int) -> NDArray[np.float64]:
    # A bound beyond float64 in the values' own scale is as good as infinite: p is 0 then.
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(values, exponent)


def _summary(values: NDArray[np.float64]) -> Any:
    # Any: statsmodels has no types, and what a checker infers for its cached attributes is wrong.
    return DescrStatsW(values)


def _effect_power(effect: float, alpha: float, n: int) -> float:
    # One tail of α/2: a significant effect in the wrong direction is no success.
    return float(TTestPower().power(effect, n, alpha / 2, alternative="larger"))


def _equivalence_power(effect: float, alpha: float, n: int) -> float:
    quantiles = (np.arange(_NODES) + 0.5) / _NODES
    spread = np.sqrt(stats.chi2.ppf(quantiles, n - 1) / (n - 1))
    reach = effect * np.sqrt(n) - stats.t.ppf(1 - alpha, n - 1) * spread
    return float(np.mean(np.clip(2 * stats.norm.cdf(reach) - 1, 0, None)))


def _finite_values(name: str, values: ArrayLike | Sequence[float], minimum: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        message = f"{name} has shape {array.shape}; give one number a seed, shape (n,)"
        raise ValueError(message)
    if len(array) < minimum:
        message = f"{name} has {len(array)} values and needs at least {minimum}; run more seeds"
        raise ValueError(message)
    if not np.isfinite(array).all():
        position = int(np.argmin(np.isfinite(array)))
        message = (
            f"{name}[{position}] is {array[position]}; only finite numbers are allowed: "
            "fix a value for diverged seeds beforehand (diverged_value in claims.yaml)"
        )
        raise ValueError(message)
    return array


def _require_finite(name: str, value: float) -> None:
    if not np.isfinite(value):
        message = f"{name} is {value}; give a finite number"
        raise ValueError(message)


def _require_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        message = f"{name} is {value}; give a finite number above 0"
        raise ValueError(message)


def _require_between(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        message = f"{name} is {value}; give a number strictly between {low} and {high}"
        raise ValueError(message)

"""Relative errors: of equalities, and of bounds, where only an excess counts; and a bound that is wrong on purpose."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replications.wasserstein_bound.bound import WassersteinBound


def excess(value: ArrayLike, bound: ArrayLike, floor: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Excess of each value over its bound, relative to the value: max(0, value - floor - bound) / value.

    Returns:
        The excess, of values > 0, bounds that may be 0 or inf, and what the same sampler gives for the exact score.

    Raises:
        ValueError: If a value is not positive.
    """
    value = np.asarray(value, dtype=np.float64)
    if not (value > 0).all():
        message = f"value has the value {value.min():g}: pass numbers > 0 (an exact sampler has no excess)"
        raise ValueError(message)
    return np.maximum(0.0, value - np.asarray(floor) - np.asarray(bound)) / value


def largest_excess(value: ArrayLike, bound: ArrayLike) -> float:
    """Largest `excess` of values over their bounds."""
    return float(excess(value, bound).max())


def room(value: ArrayLike, bound: ArrayLike) -> float:
    """Least room below a bound, max(0, 1 - value / bound), in [0, 1]: the control of a refutation."""
    return max(0.0, float(np.min(1 - np.asarray(value) / np.asarray(bound))))


def relative_error(value: ArrayLike, expected: ArrayLike) -> float:
    """Largest |value / expected - 1|."""
    return float(np.max(np.abs(np.asarray(value) / np.asarray(expected) - 1)))


def halved(bound: WassersteinBound) -> NDArray[np.float64]:
    """A negative control: half of what the score's error adds, and the offset; too small where a bound is attained."""
    return bound.score_term / 2 + bound.offset

"""Relative errors: of equalities, and of bounds, where only an excess counts; and a bound that is wrong on purpose."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replications.wasserstein_bound.bound import WassersteinBound


def excess_in_bounds(value: ArrayLike, bound: ArrayLike) -> float:
    """Largest excess of values over their bounds, relative to the bounds: max(0, value / bound - 1)."""
    return max(0.0, float(np.max(np.asarray(value) / np.asarray(bound) - 1)))


def excess_in_distances(distance: ArrayLike, bound: ArrayLike, floor: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Excess of each distance over its bound, relative to the distance: max(0, distance - floor - bound) / distance.

    Args:
        distance: Distances > 0, any shape: of one that is not positive the ratio would say nothing.
        bound: Their bounds, in the same unit; may be inf.
        floor: What the same numerical sampler gives for the exact score.

    Returns:
        The excess, 0 where the bound holds, the broadcast shape.

    Raises:
        ValueError: If a distance is not positive.
    """
    distance = np.asarray(distance, dtype=np.float64)
    if not (distance > 0).all():
        message = f"distance has the value {distance.min():g}: pass numbers > 0 (an exact sampler has no excess)"
        raise ValueError(message)
    return np.maximum(0.0, distance - np.asarray(floor) - np.asarray(bound)) / distance


def relative_error(value: ArrayLike, expected: ArrayLike) -> float:
    """Largest |value / expected - 1|."""
    return float(np.max(np.abs(np.asarray(value) / np.asarray(expected) - 1)))


def halved(bound: WassersteinBound) -> NDArray[np.float64]:
    """A negative control: half of what the score's error adds, and the offset; too small where a bound is attained."""
    return bound.score_term / 2 + bound.offset

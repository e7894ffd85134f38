"""By how much a distance is above what bounds it, the one number that every sweep reports; and its control."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replications.wasserstein_bound.bound import WassersteinBound

__all__ = ["excess", "halved"]


def excess(distance: ArrayLike, bound: ArrayLike, floor: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Return max(0, distance - floor - bound) / distance, the relative violation of a bound: 0 where it holds."""
    # floor: what the same numerical sampler gives for the exact score, in the unit of the distance. A bound may be
    # inf; of a distance that is not positive the ratio would say nothing.
    distance = np.asarray(distance, dtype=np.float64)
    if not (distance > 0).all():
        message = f"distance has the value {distance.min():g}: pass numbers > 0 (an exact sampler has no excess)"
        raise ValueError(message)
    return np.maximum(0.0, distance - np.asarray(floor) - np.asarray(bound)) / distance


def halved(bound: WassersteinBound) -> NDArray[np.float64]:
    """Return a bound that is wrong on purpose: half of what the score's error adds, and the offset."""
    # A sweep that holds a case in which the bound is attained has to see it violated.
    return bound.score_term / 2 + bound.offset

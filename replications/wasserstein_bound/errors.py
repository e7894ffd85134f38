"""Relative errors: of equalities, and of bounds, where only an excess counts."""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["excess", "relative_error"]


def excess(value: ArrayLike, bound: ArrayLike) -> float:
    """Largest relative excess of values over their bounds, max(0, value / bound - 1); 0 when all bounds hold."""
    return max(0.0, float(np.max(np.asarray(value) / np.asarray(bound) - 1)))


def relative_error(value: ArrayLike, expected: ArrayLike) -> float:
    """Largest |value / expected - 1|."""
    return float(np.max(np.abs(np.asarray(value) / np.asarray(expected) - 1)))

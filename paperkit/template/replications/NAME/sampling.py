"""The average of some of N numbers, drawn with or without replacement: the method, which imports nothing of ours."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["averages", "variance_of_average"]


def variance_of_average(numbers: ArrayLike, n: int, *, replace: bool) -> float:
    """Return the variance of the average of n of the numbers: S²/n, times (N - n)/(N - 1) without replacement.

    Args:
        numbers: The population, shape (N,), N at least 2; S² is its variance with the divisor N.
        n: How many are drawn, in [1, N].
        replace: Whether a number can be drawn twice.

    Returns:
        The variance, in the square of the numbers' unit.

    Raises:
        ValueError: If n is outside [1, N].

    Example:
        >>> variance_of_average([0.0, 2.0], 2, replace=True), variance_of_average([0.0, 2.0], 2, replace=False)
        (0.5, 0.0)
    """
    population = np.asarray(numbers, dtype=float)
    size = len(population)
    if not 1 <= n <= size:
        message = f"n must be in [1, {size}], the number of numbers, not {n}"
        raise ValueError(message)
    return float(population.var() / n * (1.0 if replace else (size - n) / (size - 1)))


def averages(drawn: ArrayLike) -> NDArray[np.float64]:
    """Average each draw: shape (draws, n) to (draws,)."""
    return np.asarray(drawn, dtype=float).mean(axis=-1)

"""The probability that n random points lie in one sector of angle θ, and the smallest sector of given points."""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["probability_gaps_below", "probability_in_sector", "smallest_sector"]


def probability_in_sector(n: int, angle: ArrayLike) -> NDArray[np.float64]:
    """Return P(n uniform points of a disc lie in some closed sector with its apex at the centre), (10) of the post.

    One term n (θ/2π)^(n-1) up to the half circle; beyond it the alternating sum where that cannot cancel, else 1 - Q.

    Args:
        n: Number of points, at least 1.
        angle: θ in radians, in [0, 2π], any shape.

    Returns:
        Probabilities, of the shape of angle; 1 everywhere for n = 1.

    Raises:
        ValueError: If n is not a whole number of at least 1, or an angle is NaN or outside [0, 2π].

    Example:
        >>> float(probability_in_sector(4, np.pi)), float(probability_in_sector(4, 2 * np.pi))
        (0.5, 1.0)
    """
    _require_points(n)
    share = np.asarray(angle, dtype=float) / (2 * np.pi)
    if not np.all((share >= 0) & (share <= 1)):
        message = f"angle must be in [0, 2π] radians, not {angle}"
        raise ValueError(message)
    return np.vectorize(lambda each: _in_share(n, float(each)), otypes=[float])(share)


def _in_share(n: int, share: float) -> float:
    """Return the probability for a sector that is this share of the circle."""
    if n == 1 or share == 1:
        return 1.0
    if share > 0.5 and n * share ** (n - 1) > 0.5:
        return 1 - probability_gaps_below(n, 1 - share)
    total, sign, choices = 0.0, 1, float(n)
    for k in range(1, n + 1):
        base = k * share - (k - 1)  # 1 - kx, without the rounding of x = 1 - share
        term = choices * max(base, 0.0) ** (n - 1)
        total += sign * term
        if term <= 1e-18 * total:
            break
        sign, choices = -sign, choices * (n - k) / (k + 1)
    return total


def probability_gaps_below(n: int, x: float) -> float:
    """Return Q = P(all n gaps between n uniform points of a circle are at most x), x a share of the circle.

    With R_m(t) = P(m gaps of a length t x are all at most x), Q = R_n(1/x); from the recursion of B-splines (de Boor)
    R_m(t) = R_{m-1}(t) + (m - t)/t (1 - 1/t)^(m-2) R_{m-1}(t - 1) for 1 < t < m; no term is negative.

    Args:
        n: Number of points, at least 1.
        x: Longest gap allowed, a finite number; Q is exactly 0 for n x < 1 and 1 for x >= 1.

    Returns:
        Q, to about 1e-13 relative where it is above 1e-300 and n at most 1000.

    Raises:
        ValueError: If n is not a whole number of at least 1, or x is not finite.

    Example:
        >>> round(probability_gaps_below(2, 0.75), 12), probability_gaps_below(3, 0.25)
        (0.5, 0.0)
    """
    _require_points(n)
    if not math.isfinite(x):
        message = f"x must be finite, not {x}"
        raise ValueError(message)
    if x >= 1 or n * x < 0.5:
        return float(x >= 1)
    exact = Fraction(x)
    levels = math.ceil(1 / exact)
    if levels > n:
        return 0.0
    # 1/x, 1/x - 1, … down to the one in (0, 1] (R = 1); their distance from the next whole number, to full precision.
    short = float(levels / (1 / exact) - 1) / x
    t = np.arange(levels, 1, -1) - short
    log_ratio = np.log1p(-np.minimum(1 / t, 1 - 2.0**-53))
    r = np.zeros(levels)
    r[-1] = 1.0
    for m in range(2, n + 1):
        first = max(levels - m, 0)  # above it t >= m, and R is 0
        gap = np.arange(m - levels + first, m - 1) + short
        r[first:-1] += gap / t[first:] * np.exp((m - 2) * log_ratio[first:]) * r[first + 1 :]
    return float(r[0])


def smallest_sector(points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the smallest sector with its apex at the origin that holds all points of a set, in O(n log n).

    Args:
        points: Shape (…, n, 2), n at least 1.

    Returns:
        Its angle and the direction of its first edge (the sector lies counter-clockwise of it), in radians, shape (…).

    Raises:
        ValueError: If the shape is another, or a point is not finite or lies at the origin, where it has no direction.

    Example:
        >>> angle, edge = smallest_sector([[1, 0], [0, 1], [1, 1]])
        >>> float(angle / np.pi), float(edge)
        (0.5, 0.0)
    """
    array = np.asarray(points, dtype=float)
    if array.ndim < 2 or array.shape[-1] != 2 or array.shape[-2] < 1:
        message = f"points must have the shape (…, n, 2) with n at least 1, not {array.shape}"
        raise ValueError(message)
    if not (np.isfinite(array).all() and array.any(axis=-1).all()):
        message = "points must be finite and away from the origin"
        raise ValueError(message)
    directions = np.sort(np.arctan2(array[..., 1], array[..., 0]), axis=-1)
    gaps = np.diff(directions, axis=-1, append=directions[..., :1] + 2 * np.pi)
    longest = gaps.argmax(axis=-1)
    edge = np.take_along_axis(directions, np.expand_dims((longest + 1) % array.shape[-2], -1), axis=-1)[..., 0]
    return 2 * np.pi - gaps.max(axis=-1), edge


def _require_points(n: int) -> None:
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
        message = f"n must be a whole number of at least 1, not {n!r}"
        raise ValueError(message)

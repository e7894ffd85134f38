"""How dense a vector is: indices in (0, 1], small where it is sparse, and the order that they all respect.

Letters: x is the vector of absolute values, n its length, M_p = (mean of x^p)^(1/p). All functions take absolute
values, work along the last axis in float64, and ignore scale. Equation numbers are those of kexue.fm/archives/9595.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

__all__ = ["compare", "gini_density", "hill_density", "lorenz", "power_mean_ratio"]

Floats = NDArray[np.float64]


def power_mean_ratio(x: ArrayLike, q: float = 1.0, p: float = 2.0) -> Floats:
    """Return S*(q, p) = M_q / M_p, equation (15); q = 1 is (13), q = 1 with p = inf is mean over maximum (1).

    Args:
        x: Shape (..., n), any sign.
        q: Smaller exponent, above 0. Robin Hood's axiom holds for q <= 1 <= p only.
        p: Larger exponent, above q; inf gives the maximum.

    Returns:
        Shape (...), from n^(1/p - 1/q) (one entry is not zero) to 1 (all are equal).

    Raises:
        ValueError: If not 0 < q < p, or a vector is empty, zero or not finite.

    Example:
        >>> round(float(power_mean_ratio([1, 2, 3, 4, 7])), 4)
        0.8554
    """
    if not 0 < q < p:
        message = f"exponents q = {q}, p = {p}: 0 < q < p is needed"
        raise ValueError(message)
    x = _scaled(x)  # the maximum is 1
    numerator = (x**q).mean(-1) ** (1 / q)
    return numerator if p == np.inf else numerator / (x**p).mean(-1) ** (1 / p)


def gini_density(x: ArrayLike) -> Floats:
    """Return 1 - Gini = sum_i (2 (n - i) + 1) x_(i) / (n sum x), with x_(1) <= ... <= x_(n).

    Args:
        x: Shape (..., n), any sign.

    Returns:
        Shape (...), from 1/n to 1: twice the area below the Lorenz curve.

    Raises:
        ValueError: If a vector is empty, zero or not finite.

    Example:
        >>> float(gini_density([0, 0, 0, 5]))
        0.25
    """
    x = np.sort(_scaled(x), axis=-1)
    n = x.shape[-1]
    return x @ np.arange(2 * n - 1.0, 0, -2) / (n * x.sum(-1))


def hill_density(x: ArrayLike, order: float = 1.0) -> Floats:
    """Return exp(H_p) / n with Renyi's entropy H_p of x / sum x, equation (20): the share of entries that count.

    Args:
        x: Shape (..., n), any sign.
        order: p above 0; 1 is Shannon's entropy (19), with 0 log 0 = 0; inf takes the largest share alone.

    Returns:
        Shape (...), from 1/n to 1.

    Raises:
        ValueError: If the order is not above 0, or a vector is empty, zero or not finite.

    Example:
        >>> float(hill_density([1, 1, 0, 0], order=2))
        0.5
    """
    if not order > 0:
        message = f"order {order}: it must be above 0"
        raise ValueError(message)
    x = _scaled(x)
    total, n = x.sum(-1), x.shape[-1]
    if order == 1:
        return np.exp(entr(x / total[..., None]).sum(-1)) / n
    # In logarithms, and with a largest entry of 1: no power under- or overflows, whatever the order.
    exponent = (np.log(total) - np.log((x**order).sum(-1)) / order) * (order / (order - 1) if order < np.inf else 1)
    return np.exp(exponent) / n


def lorenz(x: ArrayLike) -> Floats:
    """Return the Lorenz curve L(k/n): the share of the total that the k smallest entries hold.

    Args:
        x: Shape (..., n), any sign.

    Returns:
        Shape (..., n + 1), from 0 to 1, convex.

    Raises:
        ValueError: If a vector is empty, zero or not finite.

    Example:
        >>> lorenz([3, 1]).tolist()
        [0.0, 0.25, 1.0]
    """
    sums = np.cumsum(np.sort(_scaled(x), axis=-1), axis=-1)
    return np.concatenate([np.zeros_like(sums[..., :1]), sums / sums[..., -1:]], axis=-1)


def compare(x: ArrayLike, y: ArrayLike, depth: float = 1e-9) -> Literal["sparser", "denser", "equal", "incomparable"]:
    """Compare two vectors by their Lorenz curves, the only order on which all perfect indices agree.

    Args:
        x: Shape (n,), any sign.
        y: Shape (m,); m may differ from n.
        depth: Curves that differ by no more than this count as equal there, in shares of the total.

    Returns:
        What x is beside y: "equal" holds for multiples and clones; "incomparable" where the curves cross.

    Raises:
        ValueError: If a vector is empty, zero, not finite or not one-dimensional, or the depth is negative.

    Example:
        >>> compare([4, 0, 0], [1, 1]), compare([5, 5, 2], [6, 3, 3])
        ('sparser', 'incomparable')
    """
    curves = [lorenz(x), lorenz(y)]
    if curves[0].ndim != 1 or curves[1].ndim != 1 or not depth >= 0:
        message = f"x has {curves[0].ndim} axes, y {curves[1].ndim}, depth is {depth}: one axis each, and depth >= 0"
        raise ValueError(message)
    grids = [np.linspace(0, 1, len(curve)) for curve in curves]
    u = np.union1d(*grids)
    difference = np.interp(u, grids[0], curves[0]) - np.interp(u, grids[1], curves[1])
    above, below = difference.max() > depth, difference.min() < -depth
    if above and below:
        return "incomparable"
    return "denser" if above else "sparser" if below else "equal"


def _scaled(x: ArrayLike) -> Floats:
    """Take absolute values, with a largest entry of 1; refuse what has no sparsity."""
    x = np.abs(np.asarray(x, dtype=np.float64))
    largest = x.max(-1, keepdims=True) if x.ndim and x.shape[-1] else np.zeros(1)
    if not (np.isfinite(largest) & (largest > 0)).all():
        message = f"x of shape {x.shape}: a vector is empty, zero or not finite; its sparsity is not defined"
        raise ValueError(message)
    return x / largest

"""Exact Wasserstein distances W_2: on the line by quantiles, between Gaussians in closed form, between point clouds.

W_2(p, q)^2 is the least E |x - y|^2 over all couplings of x ~ p and y ~ q. On the line the coupling that pairs equal
quantiles is optimal; for Gaussians it is a linear map (Bures); for point clouds it is a linear programme, which POT
solves exactly. Distances carry the unit of x.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import ot
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from scipy.special import ndtr

from replications.wasserstein_bound.arguments import Array, covariance_root, finite, probabilities, sample

LEVEL_LIMIT = 8.0  # a standard normal has 1e-15 beyond
MAX_PIVOTS = 10_000_000
LARGE_FLOOR = 0.5  # of the plain distance; more makes the debiased one mostly noise


# --- On the line -----------------------------------------------------------------------------------------------


def quantile_distance(first: ArrayLike, second: ArrayLike) -> float:
    """W_2 of two samples, (n,) and (m,), exactly: W_2^2 = int_0^1 (F^-1(u) - G^-1(u))^2 du, over the merged levels."""
    x, y = np.sort(sample("first", first, 1)), np.sort(sample("second", second, 1))
    if len(x) == len(y):
        return float(np.sqrt(np.mean((x - y) ** 2)))
    # Levels in units of 1 / (n m) are whole numbers: no rounding decides which quantile a level belongs to.
    ends = np.unique(np.concatenate([np.arange(1, len(x) + 1) * len(y), np.arange(1, len(y) + 1) * len(x)]))
    lengths = np.diff(ends, prepend=0) / (len(x) * len(y))
    gaps = x[(ends - 1) // len(y)] - y[(ends - 1) // len(x)]
    return float(np.sqrt(lengths @ gaps**2))


def normal_levels(num_levels: int) -> tuple[Array, Array]:
    """Levels z, uniform on [-8, 8], at which to compare quantile functions, and their weights; both (num_levels,).

    With u = Phi(z) int_0^1 h(F^-1(u)) du is the trapezoidal sum of a function that dies out with all its derivatives;
    levels (i + 1/2) / n would cut the tails off. Where quantiles jump, the error is spacing times jump.

    Returns:
        z and weights, whose sum is 1.

    Raises:
        ValueError: If there are fewer than two levels.
    """
    if num_levels < 2:
        message = f"num_levels is {num_levels}: at least 2 are needed"
        raise ValueError(message)
    z = np.linspace(-LEVEL_LIMIT, LEVEL_LIMIT, num_levels)
    weights = np.exp(-(z**2) / 2)
    return z, weights / weights.sum()


def quantile_function_distance(first: ArrayLike, second: ArrayLike, weights: ArrayLike) -> float:
    """W_2 of two laws on the line from their quantiles at the same levels: W_2^2 = sum_i weights_i (x_i - y_i)^2.

    Returns:
        W_2 >= 0, for increasing quantiles and weights of `normal_levels`, all of shape (n,).

    Raises:
        ValueError: If the shapes differ, the weights do not sum to 1 to within 1e-6, or the quantiles decrease.
    """
    x, y = sample("first", first, 1), sample("second", second, 1)
    weights = probabilities("weights", weights)
    if not x.shape == y.shape == weights.shape:
        message = f"shapes differ: {x.shape}, {y.shape}, weights {weights.shape}; take both at the same levels"
        raise ValueError(message)
    for name, values in (("first", x), ("second", y)):
        fall = float(np.diff(values).min())
        if fall < -1e-9 * (1 + np.abs(values).max()):
            message = (
                f"{name} decreases by {-fall:g}: quantiles are sorted; a flow map that crosses itself needs more steps"
            )
            raise ValueError(message)
    return float(np.sqrt(weights @ (x - y) ** 2))


def cell_quantiles(edges: ArrayLike, masses: ArrayLike, z: ArrayLike) -> Array:
    """Quantiles at the levels Phi(z), any shape, of a law that is uniform within each cell.

    Returns:
        Quantiles, of masses (k,) of cells with edges (k + 1,); the upper half keeps the digits of the upper tail.

    Raises:
        ValueError: If the shapes do not fit or the masses do not sum to 1 to within 1e-6.
    """
    edges, masses, z = finite("edges", edges), probabilities("masses", masses), finite("z", z)
    if edges.shape != (len(masses) + 1,):
        message = f"edges have shape {edges.shape}, masses {masses.shape}: k cells have k + 1 edges"
        raise ValueError(message)
    below, above = np.append(0, masses.cumsum()), np.append(0, masses[::-1].cumsum())
    tail = ndtr(-np.abs(z))
    return np.where(z < 0, np.interp(tail, below, edges), -np.interp(tail, above, -edges[::-1]))


# --- Gaussians -------------------------------------------------------------------------------------------------


def bures_distance(
    first_mean: ArrayLike, first_covariance: ArrayLike, second_mean: ArrayLike, second_covariance: ArrayLike
) -> Array:
    """W_2 of two Gaussians: W_2^2 = |m - m'|^2 + tr(S + S' - 2 (S^(1/2) S' S^(1/2))^(1/2)).

    Computed as |S^(1/2) - S'^(1/2) U|, Frobenius norm, with U the orthogonal factor of S'^(1/2) S^(1/2): the same
    number without the trace formula's cancellation, which leaves an error of 1e-8 when the two are close.

    Returns:
        W_2, shape (...), for means of shape (..., d) and covariances of shape (..., d, d), of any rank.

    Raises:
        ValueError: If the dimensions differ, or a covariance is asymmetric or has an eigenvalue below 0, by more than
            1e-8 of its largest entry.
    """
    root = covariance_root("first_covariance", first_covariance)
    other = covariance_root("second_covariance", second_covariance)
    difference = finite("first_mean", first_mean) - finite("second_mean", second_mean)
    if not root.shape[-1] == other.shape[-1] == difference.shape[-1]:
        message = f"dimensions differ: covariances {root.shape}, {other.shape}, means {difference.shape}"
        raise ValueError(message)
    left, _, right = np.linalg.svd(other @ root)
    gap = root - other @ (left @ right)
    return np.sqrt((difference**2).sum(axis=-1) + (gap**2).sum(axis=(-2, -1)))


# --- Point clouds ----------------------------------------------------------------------------------------------


def point_cloud_distance(first: ArrayLike, second: ArrayLike) -> float:
    """W_2 of the empirical measures of samples (n, d) and (m, d), exactly, by POT's network simplex; O(n^3) at worst.

    As an estimate of the distance of the laws it is biased upwards, by an amount that falls like n^(-1/d) for d > 4:
    see `debiased_distance`. Squared distances are of differences, and not |x|^2 - 2 x.y + |y|^2, whose rounding is as
    large as the points are far from the origin; and in the unit of the largest difference, so that none overflows.

    Returns:
        W_2 >= 0.

    Raises:
        ValueError: If the dimensions differ, or two points are farther apart than float64 can say.
        RuntimeError: If the solver gives up; what it returns then is no distance.
    """
    x, y = sample("first", first, 2), sample("second", second, 2)
    if x.shape[1] != y.shape[1]:
        message = f"first has dimension {x.shape[1]}, second {y.shape[1]}: compare samples of the same dimension"
        raise ValueError(message)
    largest = cdist(x, y, "chebyshev").max()
    if not np.isfinite(largest):
        message = "first and second hold points that are farther apart than float64 can say: divide both by a number"
        raise ValueError(message)
    exponent = np.frexp(largest)[1]
    squares = cdist(np.ldexp(x, -exponent), np.ldexp(y, -exponent), "sqeuclidean")  # a power of two rounds nothing
    with warnings.catch_warnings():  # raised below instead
        warnings.simplefilter("ignore")
        squared, report = ot.emd2([], [], squares, numItermax=MAX_PIVOTS, log=True)
    if report["warning"] is not None:
        message = f"no distance of {len(x)} and {len(y)} points: {report['warning'].strip()}; take fewer points"
        raise RuntimeError(message)
    return float(np.ldexp(np.sqrt(max(float(squared), 0.0)), exponent))


@dataclass(frozen=True)
class DebiasedDistance:
    """A distance estimated from samples: debiased, plain, and the floor, what two samples of one law are apart."""

    value: float
    plain: float
    floor: float


def debiased_distance(
    first: ArrayLike, second: ArrayLike, first_again: ArrayLike, second_again: ArrayLike
) -> DebiasedDistance:
    """W_2 of two laws from two independent samples of each: (max(0, W^2(x, y) - (W^2(x, x') + W^2(y, y')) / 2))^(1/2).

    The subtraction takes off what two samples of one law are apart; all of shape (n, d). The result is an estimate,
    neither an upper nor a lower bound: use quantiles or closed forms to test tightness.

    Returns:
        The estimate, the plain distance and its floor; a RuntimeWarning says when that exceeds half of the plain one.
    """
    plain = point_cloud_distance(first, second)
    within = point_cloud_distance(first, first_again) ** 2 + point_cloud_distance(second, second_again) ** 2
    floor = float(np.sqrt(within / 2))
    if floor > LARGE_FLOOR * plain:
        message = f"the floor {floor:.3g} exceeds half of the distance {plain:.3g}: draw larger samples"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return DebiasedDistance(float(np.sqrt(max(plain**2 - within / 2, 0.0))), plain, floor)

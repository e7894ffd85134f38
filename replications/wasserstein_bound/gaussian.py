"""Gaussian data and scores affine in x under a variance-preserving schedule: closed forms, exact distances.

One dimension, vectorised over cases: data N(m_0, v_0), so that p_t = N(mu, v) with mu = alpha m_0 and
v = alpha^2 v_0 + 1 - alpha^2, score -(x - mu) / v, and a model s(x, t) = k(t) x + c(t), whose one-sided Lipschitz
constant is exactly k. The exact score is k = -1 / v, c = mu / v. In d dimensions K(t) is a matrix, symmetric or not.

The reverse process dy = (f - w s) dt + sigma dw with w = (1 + eta^2) beta / 2 and sigma^2 = eta^2 beta is affine too,
hence its marginals are Gaussian; with rate = beta / 2 + w k and I = exp int_0^t rate,
    mean at 0     = I(T) m_T + int I w c dt,
    variance at 0 = I(T)^2 v_T + int I^2 sigma^2 dt.
Axes written (...) are cases; the last axis runs over the n times. What is out of its range or NaN is refused by
ValueError (`arguments`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad

from replications.wasserstein_bound.arguments import (
    Array,
    covariance,
    definite_covariance,
    finite,
    grid_of_times,
    nonnegative,
    on_grid,
    positive,
)
from replications.wasserstein_bound.bound import growth_rate, log_growth, score_weight
from replications.wasserstein_bound.schedule import VariancePreserving


def forward_moments(
    schedule: VariancePreserving, t: ArrayLike, mean: ArrayLike, variance: ArrayLike
) -> tuple[Array, Array]:
    """Mean alpha m_0 and variance alpha^2 v_0 + 1 - alpha^2 of p_t, (..., n), of numbers m_0 and v_0 > 0 or (...)."""
    alpha = schedule.alpha(t)
    mean, variance = finite("mean", mean)[..., None], positive("variance", variance)[..., None]
    return alpha * mean, alpha**2 * variance + schedule.noise_variance(t)


def exact_affine_score(mean_t: ArrayLike, variance_t: ArrayLike) -> tuple[Array, Array]:
    """Slope k = -1 / v and intercept c = mu / v of the score k x + c of N(mu, v), shape of mu and v > 0."""
    variance_t = positive("variance_t", variance_t)
    return -1 / variance_t, np.asarray(mean_t) / variance_t


def affine_score_error(mean_t: ArrayLike, variance_t: ArrayLike, slope: ArrayLike, intercept: ArrayLike) -> Array:
    """Error e of an affine score, (..., n) like mu, v > 0, k and c: e^2 = v (1 / v + k)^2 + (k mu + c)^2."""
    mean_t, variance_t = finite("mean_t", mean_t), positive("variance_t", variance_t)
    slope, intercept = finite("slope", slope), finite("intercept", intercept)
    return np.hypot(np.sqrt(variance_t) * (1 / variance_t + slope), slope * mean_t + intercept)


def reverse_moments(
    schedule: VariancePreserving,
    t: ArrayLike,
    slope: ArrayLike,
    intercept: ArrayLike,
    *,
    prior_mean: ArrayLike,
    prior_variance: ArrayLike,
    eta: ArrayLike = 1.0,
) -> tuple[Array, Array]:
    """Mean and variance of q at the first time of the grid, for an affine score, by the formulas of the module.

    The integrals are trapezoidal sums on the grid, as in `bound`, so that an equality between W_2 and its bound holds
    to rounding on any grid; both depend on the grid by O(n^-2). `slope` k and `intercept` c are of shape (..., n), the
    moments of q_T and eta >= 0 numbers or of shape (...).

    Returns:
        Mean and variance, both of shape (...).
    """
    t = grid_of_times(t)
    slope, intercept = on_grid("slope", slope, t), on_grid("intercept", intercept, t)
    prior_mean, prior_variance = finite("prior_mean", prior_mean), positive("prior_variance", prior_variance)
    beta, eta = schedule.beta(t), nonnegative("eta", eta)
    rate = growth_rate(diffusion_squared=beta, score_slope=slope, drift_slope=schedule.drift_slope(t), eta=eta)
    growth = np.exp(log_growth(t, rate))
    last = growth[..., -1]
    mean = last * prior_mean + np.trapezoid(growth * score_weight(beta, eta) * intercept, t, axis=-1)
    noise = eta[..., None] ** 2 * beta
    return mean, last**2 * prior_variance + np.trapezoid(growth**2 * noise, t, axis=-1)


def gaussian_distance(
    first_mean: ArrayLike, first_variance: ArrayLike, second_mean: ArrayLike, second_variance: ArrayLike
) -> Array:
    """W_2 of two Gaussians on the line, the hypotenuse of the differences of means and standard deviations > 0."""
    first, second = positive("first_variance", first_variance), positive("second_variance", second_variance)
    difference = finite("first_mean", first_mean) - finite("second_mean", second_mean)
    # The difference of the variances, not of their roots, is what is known well when the two are close.
    return np.hypot(difference, (first - second) / (np.sqrt(first) + np.sqrt(second)))


def gaussian_kl(
    first_mean: ArrayLike, first_variance: ArrayLike, second_mean: ArrayLike, second_variance: ArrayLike
) -> Array:
    """KL(first | second) of two Gaussians on the line, in nats: ((m - m')^2 / v' + r - 1 - log r) / 2, r = v / v'."""
    first, second = positive("first_variance", first_variance), positive("second_variance", second_variance)
    difference = finite("first_mean", first_mean) - finite("second_mean", second_mean)
    excess = (first - second) / second
    return (difference**2 / second + excess - np.log1p(excess)) / 2


def exact_score_growth(schedule: VariancePreserving, t: ArrayLike, variance: ArrayLike, eta: ArrayLike = 1.0) -> Array:
    """Log I of the exact score: I = alpha^(eta^2) (v_0 / v)^((1 + eta^2) / 2).

    For int_0^t beta / v = log(v / (alpha^2 v_0)). eta = 1: alpha v_0 / v. eta = 0: (v_0 / v)^(1/2), the ratio of
    standard deviations, since the flow map is x -> mu_0 + (x - mu) (v_0 / v)^(1/2).

    Returns:
        log I, shape (..., n), for n times; v_0 > 0 and eta >= 0 are numbers or of shape (...).
    """
    eta = nonnegative("eta", eta)[..., None]
    _, variance_t = forward_moments(schedule, t, 0.0, variance)
    log_ratio = np.log(np.asarray(variance, dtype=np.float64)[..., None] / variance_t)
    return -(eta**2) * schedule.integrated_beta(t) / 2 + (1 + eta**2) / 2 * log_ratio


def constant_shift_distance(schedule: VariancePreserving, variance: float, shift: float, eta: float = 1.0) -> float:
    """W_2(p_0, q_0) for Gaussian data, the model grad log p_t + c and q_T = p_T: here the bound T4 is attained.

    The samples are shifted by c int w I dt. With u = log(alpha / sqrt(v)) the integral is
        int w I dt = (1 + eta^2) v_0^((1 + eta^2)/2) int exp(eta^2 u) (1 - (v_0 - 1) exp(2 u))^(-1/2) du,
    from u at T to u at 0, elementary for eta = 1 (an arcsine; in alpha an artanh) and for eta = 0 (a logarithm, which
    diverges like log(1 / alpha_T) with the horizon), and done by adaptive quadrature.

    Returns:
        |c| int_0^T w I dt, for v_0 > 0 and eta >= 0.
    """
    positive("variance", variance)
    finite("shift", shift)
    p = float(nonnegative("eta", eta)) ** 2
    _, last = forward_moments(schedule, np.array([schedule.horizon]), 0.0, variance)
    late = -float(schedule.integrated_beta(schedule.horizon)) / 2 - np.log(last[0]) / 2
    early = -np.log(variance) / 2
    integral = quad(
        lambda u: np.exp(p * u) / np.sqrt(1 - (variance - 1) * np.exp(2 * u)), late, early, epsabs=0, epsrel=1e-12
    )[0]
    return float(abs(shift) * (1 + p) * variance ** ((1 + p) / 2) * integral)


# --- d dimensions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MatrixScore:
    """A score s = K(t) x + c(t) on the times of a grid: K (..., n, d, d), symmetric or not, and c (..., n, d)."""

    matrices: Array
    intercepts: Array

    def __post_init__(self) -> None:
        """Refuse NaN, inf and shapes that do not fit."""
        finite("matrices", self.matrices)
        finite("intercepts", self.intercepts)
        if self.matrices.shape[:-1] != self.intercepts.shape or self.matrices.shape[-1] != self.matrices.shape[-2]:
            message = (
                f"matrices have shape {self.matrices.shape}, intercepts {self.intercepts.shape}: "
                "pass (..., n, d, d) and (..., n, d)"
            )
            raise ValueError(message)


def matrix_forward_moments(
    schedule: VariancePreserving, t: ArrayLike, mean: ArrayLike, data_covariance: ArrayLike
) -> tuple[Array, Array]:
    """Mean and covariance of p_t for data N(m_0, S_0): alpha m_0 and alpha^2 S_0 + (1 - alpha^2) 1.

    Returns:
        Shapes (..., n, d) and (..., n, d, d), for n times, m_0 of shape (..., d) and S_0 of shape (..., d, d).

    Raises:
        ValueError: If the shapes do not fit.
    """
    matrix, mean = covariance("data_covariance", data_covariance), finite("mean", mean)
    if mean.shape[-1:] != matrix.shape[-1:]:
        message = f"mean has shape {mean.shape}, data_covariance {matrix.shape}: pass (..., d) and (..., d, d)"
        raise ValueError(message)
    alpha, noise = schedule.alpha(t), schedule.noise_variance(t)
    identity = np.eye(matrix.shape[-1])
    return (
        alpha[:, None] * mean[..., None, :],
        alpha[:, None, None] ** 2 * matrix[..., None, :, :] + noise[:, None, None] * identity,
    )


def matrix_exact_score(means_t: Array, covariances_t: Array) -> MatrixScore:
    """The score of N(mu, S): K = -S^-1, c = S^-1 mu, for mu of shape (..., n, d) and S of shape (..., n, d, d)."""
    inverse = np.linalg.inv(definite_covariance("covariances_t", covariances_t))
    return MatrixScore(np.asarray(-inverse, dtype=np.float64), np.einsum("...ij,...j->...i", inverse, means_t))


def matrix_score_error(means_t: Array, covariances_t: Array, score: MatrixScore) -> Array:
    """Error e of an affine score, (..., n): e^2 = tr((S^-1 + K) S (S^-1 + K)^T) + |K mu + c|^2, S definite."""
    matrix = definite_covariance("covariances_t", covariances_t)
    difference = np.linalg.inv(matrix) + score.matrices
    spread = np.einsum("...ij,...jk,...ik->...", difference, matrix, difference)
    offset = np.einsum("...ij,...j->...i", score.matrices, means_t) + score.intercepts
    return np.sqrt(np.maximum(spread, 0) + (offset**2).sum(axis=-1))


def matrix_score_slope(score: MatrixScore) -> Array:
    """L_s of an affine score: the largest eigenvalue of (K + K^T) / 2, shape (..., n)."""
    symmetric = (score.matrices + np.swapaxes(score.matrices, -1, -2)) / 2
    return np.asarray(np.linalg.eigvalsh(symmetric)[..., -1], dtype=np.float64)


def matrix_reverse_moments(
    schedule: VariancePreserving,
    t: ArrayLike,
    score: MatrixScore,
    *,
    prior_mean: ArrayLike,
    prior_covariance: ArrayLike,
    eta: float = 1.0,
) -> tuple[Array, Array]:
    """Mean and covariance of q at the first time, for an affine score, by Runge-Kutta of order 4 on their equations.

    In tau = T - t, with A = beta / 2 + w K: m' = A m + w c and C' = A C + C A^T + sigma^2. A step spans two intervals
    of the grid, whose middle node serves the inner stages; it is taken in the index, by dt / di.

    Returns:
        Shapes (..., d) and (..., d, d), as the moments of q_T have, for n odd times as `time_grid` gives them.

    Raises:
        ValueError: If n is even or not that of the score.
    """
    t = grid_of_times(t)
    if len(t) % 2 == 0 or score.matrices.shape[-3] != len(t):
        message = f"t has {len(t)} times and the score {score.matrices.shape[-3]}: pass the same odd number of both"
        raise ValueError(message)
    mean, matrix = finite("prior_mean", prior_mean), covariance("prior_covariance", prior_covariance)
    beta = schedule.beta(t)
    w, noise = score_weight(beta, eta), eta**2 * beta
    identity = np.eye(matrix.shape[-1])
    pace = np.gradient(t, edge_order=2)  # dt / di, exact for times quadratic in the index
    drift = pace[:, None, None] * (beta[:, None, None] / 2 * identity + w[:, None, None] * score.matrices)
    push = (pace * w)[:, None] * score.intercepts

    def change(i: int, mean: Array, matrix: Array) -> tuple[Array, Array]:
        product = drift[..., i, :, :] @ matrix
        return (
            np.einsum("...ij,...j->...i", drift[..., i, :, :], mean) + push[..., i, :],
            product + np.swapaxes(product, -1, -2) + pace[i] * noise[i] * identity,
        )

    for i in range(len(t) - 1, 0, -2):  # a step of 2 in the index
        first = change(i, mean, matrix)
        second = change(i - 1, mean + first[0], matrix + first[1])
        third = change(i - 1, mean + second[0], matrix + second[1])
        fourth = change(i - 2, mean + 2 * third[0], matrix + 2 * third[1])
        mean = mean + (first[0] + 2 * second[0] + 2 * third[0] + fourth[0]) / 3
        matrix = matrix + (first[1] + 2 * second[1] + 2 * third[1] + fourth[1]) / 3
    return mean, matrix

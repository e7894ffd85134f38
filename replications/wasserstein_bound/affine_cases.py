"""Gaussian data with affine scores that are wrong: the cases in which distance, divergence and bounds are exact."""

# How many parts a starred tuple has, and what ArrayLike becomes in a product, is not known.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import WassersteinBound, kl_upper_bound, wasserstein_upper_bound
from replications.wasserstein_bound.gaussian import (
    affine_score_error,
    exact_affine_score,
    forward_moments,
    gaussian_distance,
    gaussian_kl,
    reverse_moments,
)
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid


@dataclass(frozen=True)
class AffineCases:
    """Gaussian data with affine scores that are wrong in slope and intercept; k cases, or one without that axis."""

    schedule: VariancePreserving
    t: Array  # shape (n,)
    mean: ArrayLike  # m_0, shape (k,)
    variance: ArrayLike  # v_0, shape (k,)
    slope: Array  # of the scores, shape (k, n)
    intercept: Array  # of the scores, shape (k, n)
    prior_mean: ArrayLike  # of q_T, shape (k,)
    prior_variance: ArrayLike  # of q_T, shape (k,)

    @property
    def moments(self) -> tuple[Array, Array]:
        """Mean and variance of p_t, shape (k, n)."""
        return forward_moments(self.schedule, self.t, self.mean, self.variance)

    @property
    def score_error(self) -> Array:
        """e, shape (k, n)."""
        return affine_score_error(*self.moments, self.slope, self.intercept)

    @property
    def bound_arguments(self) -> dict[str, Array]:
        """What the bounds of W_2 take, but t and eta."""
        last = (each[..., -1] for each in self.moments)
        prior = gaussian_distance(*last, self.prior_mean, self.prior_variance)
        error = {"score_error": self.score_error, "score_slope": self.slope}
        return {**self.schedule.coefficients(self.t), **error, "prior_distance": prior}

    def sample_moments(self, eta: ArrayLike) -> tuple[Array, Array]:
        """Mean and variance of q_0, shape (k,)."""
        prior = {"prior_mean": self.prior_mean, "prior_variance": self.prior_variance}
        return reverse_moments(self.schedule, self.t, self.slope, self.intercept, **prior, eta=eta)

    def bound(self, eta: ArrayLike) -> WassersteinBound:
        """The bound T4 of W_2(p_0, q_0)."""
        return wasserstein_upper_bound(self.t, **self.bound_arguments, eta=eta)

    def distance(self, eta: ArrayLike) -> Array:
        """W_2(p_0, q_0), shape (k,)."""
        return gaussian_distance(self.mean, self.variance, *self.sample_moments(eta))

    def kl(self, eta: ArrayLike) -> Array:
        """KL(p_0 | q_0) in nats, shape (k,)."""
        return gaussian_kl(self.mean, self.variance, *self.sample_moments(eta))

    def kl_bound(self, eta: ArrayLike) -> Array:
        """The bound T7 of the same divergence for a process of noise eta, shape (k,)."""
        prior = gaussian_kl(*(each[..., -1] for each in self.moments), self.prior_mean, self.prior_variance)
        beta = self.schedule.beta(self.t)
        return kl_upper_bound(self.t, diffusion_squared=beta, score_error=self.score_error, eta=eta, prior_kl=prior)


def affine_case(
    schedule: VariancePreserving,
    t: Array,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    scale: ArrayLike = 1.0,
    shift: ArrayLike = 0.0,
    from_normal: ArrayLike = False,
) -> AffineCases:
    """The exact score times a factor, plus a shift, both of shape (k, n); sampled from p_T, or from N(0, 1)."""
    mean_t, variance_t = forward_moments(schedule, t, mean, variance)
    slope, intercept = exact_affine_score(mean_t, variance_t)
    prior = np.where(from_normal, 0.0, mean_t[..., -1]), np.where(from_normal, 1.0, variance_t[..., -1])
    return AffineCases(schedule, t, mean, variance, slope * scale, intercept * scale + shift, *prior)


def random_affine_cases(seed: int, num_cases: int, num_times: int = 4001) -> AffineCases:
    """Draw k cases: m_0 standard normal, v_0 in [0.05, 4], slopes wrong by 60 % at most; half start from N(0, 1)."""
    rng = np.random.default_rng(seed)
    schedule = VariancePreserving()
    t = time_grid(schedule, num_times)
    mean = rng.standard_normal(num_cases)
    variance = np.exp(rng.uniform(np.log(0.05), np.log(4), num_cases))

    def wave(size: float) -> Array:
        amplitude, phase = rng.uniform(0, size, (2, num_cases, 1)), rng.uniform(0, 2 * np.pi, (num_cases, 1))
        frequency = rng.integers(0, 4, (num_cases, 1)) * np.pi
        return amplitude[0] * np.cos(frequency * t + phase) + amplitude[1] - size / 2

    scale, from_normal = 1 + wave(0.4), rng.random(num_cases) < 0.5
    return affine_case(schedule, t, mean, variance, scale=scale, shift=wave(0.5), from_normal=from_normal)

"""Gaussians in several dimensions: random covariances, scores with a random error that need not be a gradient."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from paperkit.runs import Measurement, Run
from replications.wasserstein_bound.bound import WassersteinBound, wasserstein_upper_bound
from replications.wasserstein_bound.distances import bures_distance
from replications.wasserstein_bound.gaussian import (
    MatrixScore,
    matrix_exact_score,
    matrix_forward_moments,
    matrix_reverse_moments,
    matrix_score_error,
    matrix_score_slope,
)
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid
from replications.wasserstein_bound.tasks.affine_sweep import ETA_OF
from replications.wasserstein_bound.tasks.excess import excess, halved

__all__ = ["measure_dimension", "measure_rotation"]

Array = NDArray[np.float64]

SCHEDULE = VariancePreserving()
LEAST_VARIANCE, LARGEST_VARIANCE = 0.1, 2.0


def measure_dimension(run: Run) -> Iterator[Measurement]:
    """Hold W2 against T4 for one random Gaussian in d dimensions, its score off by a random affine function."""
    # The covariance has log-uniform eigenvalues and random axes. The error is A x + b with independent normal entries,
    # of variance size² / d in A and size² in b, so that each coordinate is as wrong in any d.
    size, d = run.config["size"], run.config["dimension"]
    rng = np.random.default_rng([run.seed, run.config["case"], d])
    matrix = size * rng.standard_normal((d, d)) / np.sqrt(d)
    yield from _held_against_bound(run, rng, d, matrix, size * rng.standard_normal(d))


def measure_rotation(run: Run) -> Iterator[Measurement]:
    """Hold W2 against T4 for a random Gaussian of the plane whose model score has a part that rotates."""
    # Such a score is the gradient of nothing; only the symmetric part of its Jacobian enters L_s. `size` is the
    # largest rate of rotation.
    rng = np.random.default_rng([run.seed, run.config["case"]])
    rate = run.config["size"] * rng.uniform(-1, 1)
    matrix = rate * np.array([[0.0, -1.0], [1.0, 0.0]]) + 0.1 * rng.standard_normal((2, 2))
    # Every fourth case is a pure shift, which attains the bound where the covariance is a multiple of 1.
    pure_shift = run.config["case"] % 4 == 0
    yield from _held_against_bound(run, rng, 2, matrix * (not pure_shift), 0.3 * rng.standard_normal(2), pure_shift)


def _held_against_bound(
    run: Run, rng: np.random.Generator, d: int, matrix: Array, shift: Array, isotropic: bool = False
) -> Iterator[Measurement]:
    eta, t = ETA_OF[run.arm], time_grid(SCHEDULE, run.config["num_times"])
    mean, covariance = rng.standard_normal(d) / np.sqrt(d), _random_covariance(rng, d, isotropic)
    means_t, covariances_t = matrix_forward_moments(SCHEDULE, t, mean, covariance)
    exact = matrix_exact_score(means_t, covariances_t)
    model = MatrixScore(exact.matrices + matrix, exact.intercepts + shift)
    prior = means_t[-1], covariances_t[-1]
    distance, floor = (_distance(mean, covariance, t, score, prior, eta) for score in (model, exact))
    bound = _bound(t, means_t, covariances_t, model, eta)
    yield Measurement("none", 0, "distance_w2", distance)
    yield Measurement("none", 0, "bound_w2", float(bound.value))
    yield Measurement("none", 0, "excess", float(excess(distance, bound.value, floor)))
    yield Measurement("none", 0, "control_excess", float(excess(distance, halved(bound), floor)))


def _random_covariance(rng: np.random.Generator, d: int, isotropic: bool) -> Array:
    """Log-uniform eigenvalues (one for all if isotropic), axes uniform among the rotations."""
    logs = rng.uniform(np.log(LEAST_VARIANCE), np.log(LARGEST_VARIANCE), 1 if isotropic else d)
    axes, triangle = np.linalg.qr(rng.standard_normal((d, d)))
    axes = axes * np.sign(np.diag(triangle))
    product = (axes * np.exp(np.broadcast_to(logs, d))) @ axes.T
    return (product + product.T) / 2


def _bound(t: Array, means_t: Array, covariances_t: Array, model: MatrixScore, eta: float) -> WassersteinBound:
    return wasserstein_upper_bound(
        t, diffusion_squared=SCHEDULE.beta(t), score_error=matrix_score_error(means_t, covariances_t, model),
        score_slope=matrix_score_slope(model), drift_slope=SCHEDULE.drift_slope(t), eta=eta,
    )  # fmt: skip


def _distance(
    mean: Array, covariance: Array, t: Array, score: MatrixScore, prior: tuple[Array, Array], eta: float
) -> float:
    samples = matrix_reverse_moments(SCHEDULE, t, score, prior_mean=prior[0], prior_covariance=prior[1], eta=eta)
    return float(bures_distance(mean, covariance, *samples))

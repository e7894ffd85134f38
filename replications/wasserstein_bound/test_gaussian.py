import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from replications.wasserstein_bound.affine_cases import random_affine_cases
from replications.wasserstein_bound.bound import wasserstein_upper_bound
from replications.wasserstein_bound.distances import bures_distance
from replications.wasserstein_bound.errors import largest_excess
from replications.wasserstein_bound.gaussian import (
    MatrixScore,
    affine_score_error,
    constant_shift_distance,
    gaussian_kl,
    matrix_exact_score,
    matrix_forward_moments,
    matrix_reverse_moments,
    matrix_score_error,
    matrix_score_slope,
    reverse_moments,
)
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid

SCHEDULE = VariancePreserving()
etas = st.floats(0, 2)
variances = st.floats(0.05, 4)


# --- The bound holds, and fails without its assumptions ---------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(2, 3), etas)
@settings(max_examples=60, deadline=None)
def test_the_bound_holds_for_matrix_scores_that_rotate(seed, d, eta) -> None:
    rng = np.random.default_rng(seed)
    t = time_grid(SCHEDULE, 401)
    root = rng.standard_normal((d, d))
    data = root @ root.T + 0.1 * np.eye(d)
    means, covariances = matrix_forward_moments(SCHEDULE, t, rng.standard_normal(d), data)
    exact = matrix_exact_score(means, covariances)
    error = 0.5 * rng.standard_normal((d, d)) * np.cos(3 * t)[:, None, None]
    score = MatrixScore(exact.matrices + error, exact.intercepts + 0.3 * rng.standard_normal(d))
    prior = rng.standard_normal(d), np.eye(d)
    end = matrix_reverse_moments(SCHEDULE, t, score, prior_mean=prior[0], prior_covariance=prior[1], eta=eta)
    known = {"score_error": matrix_score_error(means, covariances, score), "score_slope": matrix_score_slope(score)}
    apart = bures_distance(means[-1], covariances[-1], *prior)
    bound = wasserstein_upper_bound(t, **SCHEDULE.coefficients(t), **known, eta=eta, prior_distance=apart)
    assert float(bures_distance(means[0], covariances[0], *end)) <= float(bound.value) * (1 + 1e-4)


def test_dropping_an_assumption_breaks_the_bound() -> None:
    cases = random_affine_cases(0, 400, 1001)
    arguments = cases.bound_arguments
    distance = cases.distance(0.0)
    assert largest_excess(distance, cases.bound(0.0).value) <= 1e-5
    for change in (
        {"eta": 1.0},  # the SDE's weight for the ODE's samples
        {"drift_slope": -arguments["drift_slope"]},  # the constant of f for that of -f
        {"score_slope": arguments["score_slope"] - 2},  # a typical slope for the supremum
        {"prior_distance": 0.0 * arguments["prior_distance"], "score_error": arguments["score_error"] / 2},
    ):
        wrong = wasserstein_upper_bound(cases.t, **{**arguments, "eta": 0.0, **change}).value
        assert (distance > wrong * 1.01).sum() > 10


# --- Closed forms -------------------------------------------------------------------------------------------------


@given(st.floats(-3, 3), variances, st.floats(-3, 3), variances)
@settings(deadline=None)
def test_the_error_of_an_affine_score_and_kl_are_expectations(mean, variance, other, other_variance) -> None:
    z = np.linspace(-9, 9, 2001)
    weights = norm.pdf(z) / norm.pdf(z).sum()
    x = mean + np.sqrt(variance) * z
    slope, intercept = -1 / other_variance, other / other_variance
    squared = weights @ (-(x - mean) / variance - slope * x - intercept) ** 2
    assert float(affine_score_error(mean, variance, slope, intercept)) == pytest.approx(np.sqrt(squared), abs=1e-9)
    kl = weights @ (norm.logpdf(x, mean, np.sqrt(variance)) - norm.logpdf(x, other, np.sqrt(other_variance)))
    assert float(gaussian_kl(mean, variance, other, other_variance)) == pytest.approx(kl, rel=1e-7, abs=1e-9)


def test_matrices_that_are_diagonal_give_the_one_dimensional_moments() -> None:
    t = time_grid(SCHEDULE, 2001)
    variance, mean = np.array([0.25, 2.0]), np.array([1.0, -0.5])
    means, covariances = matrix_forward_moments(SCHEDULE, t, mean, np.diag(variance))
    exact = matrix_exact_score(means, covariances)
    score = MatrixScore(exact.matrices * 1.2, exact.intercepts + 0.1)
    end = matrix_reverse_moments(SCHEDULE, t, score, prior_mean=np.zeros(2), prior_covariance=np.eye(2), eta=0.5)
    for i in range(2):
        affine = score.matrices[:, i, i], score.intercepts[:, i]
        line = reverse_moments(SCHEDULE, t, *affine, prior_mean=0.0, prior_variance=1.0, eta=0.5)
        assert float(end[0][i]) == pytest.approx(float(line[0]), abs=2e-6)
        assert float(end[1][i, i]) == pytest.approx(float(line[1]), abs=2e-6)
    assert abs(end[1][0, 1]) < 1e-14


def test_matrix_moments_with_the_exact_score_return_the_data_to_the_order_of_the_steps() -> None:
    data = np.array([[1.0, 0.6], [0.6, 0.5]])
    errors = []
    for num_times in (101, 201):
        t = time_grid(SCHEDULE, num_times)
        means, covariances = matrix_forward_moments(SCHEDULE, t, np.array([1.0, 2.0]), data)
        end = matrix_reverse_moments(
            SCHEDULE, t, matrix_exact_score(means, covariances), prior_mean=means[-1], prior_covariance=covariances[-1]
        )
        errors.append(float(np.abs(end[1] - data).max()))
    assert errors[1] < 1e-5
    assert errors[0] / errors[1] > 10  # order 4 gives 16


def test_a_rotation_adds_to_the_error_but_not_to_the_slope() -> None:
    t = time_grid(SCHEDULE, 11)
    means, covariances = matrix_forward_moments(SCHEDULE, t, np.zeros(2), np.eye(2))
    exact = matrix_exact_score(means, covariances)
    score = MatrixScore(exact.matrices + 3 * np.array([[0.0, 1.0], [-1.0, 0.0]]), exact.intercepts)
    np.testing.assert_allclose(matrix_score_slope(score), -1)
    np.testing.assert_allclose(matrix_score_error(means, covariances, score), np.sqrt(18))


def test_the_shift_of_the_sde_is_an_artanh_and_that_of_the_ode_a_logarithm() -> None:
    v, c, alpha = 0.25, 0.3, float(SCHEDULE.alpha(1.0))
    root = np.sqrt(1 - v)
    expected = 2 * c * v / root * (np.arctanh(root) - np.arctanh(alpha * root))
    assert constant_shift_distance(SCHEDULE, v, c) == pytest.approx(expected, rel=1e-12)
    ends = [np.log(a / (1 + np.sqrt(1 + (v - 1) * a**2))) for a in (alpha, 1.0)]
    ode = c * np.sqrt(v) * (ends[1] - ends[0])
    assert constant_shift_distance(SCHEDULE, v, c, 0.0) == pytest.approx(ode, rel=1e-12)
    assert constant_shift_distance(SCHEDULE, 1.0, c) == pytest.approx(2 * c * (1 - alpha), rel=1e-12)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from replications.wasserstein_bound.gaussian import (
    MatrixScore,
    affine_score_error,
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


def test_a_rotation_adds_to_the_error_but_neither_to_the_slope_nor_to_the_covariance() -> None:
    t = time_grid(SCHEDULE, 401)
    means, covariances = matrix_forward_moments(SCHEDULE, t, np.zeros(2), np.eye(2))
    exact = matrix_exact_score(means, covariances)
    score = MatrixScore(exact.matrices + 3 * np.array([[0.0, 1.0], [-1.0, 0.0]]), exact.intercepts)
    np.testing.assert_allclose(matrix_score_slope(score), -1)
    np.testing.assert_allclose(matrix_score_error(means, covariances, score), np.sqrt(18))
    end = matrix_reverse_moments(SCHEDULE, t, score, prior_mean=np.zeros(2), prior_covariance=np.eye(2))
    np.testing.assert_allclose(end[1], np.eye(2), atol=1e-4)

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from replications.wasserstein_bound import distances
from replications.wasserstein_bound.distances import (
    bures_distance,
    cell_quantiles,
    debiased_distance,
    normal_levels,
    point_cloud_distance,
    quantile_distance,
    quantile_function_distance,
)

values = st.floats(-10, 10)
samples = st.integers(2, 12).flatmap(lambda n: arrays(np.float64, n, elements=values))


def _covariance(seed: int, d: int) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((d, d))
    return root @ root.T + 0.05 * np.eye(d)


# --- On the line -----------------------------------------------------------------------------------------------


@given(samples, samples)
@settings(max_examples=60, deadline=None)
def test_the_quantile_distance_is_pots_also_for_unequal_sizes(x, y) -> None:
    expected = np.sqrt(max(float(ot.emd2_1d(x, y)), 0.0))
    assert quantile_distance(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert quantile_distance(x, y) == pytest.approx(point_cloud_distance(x[:, None], y[:, None]), rel=1e-6, abs=1e-6)
    assert quantile_distance(x, y) >= wasserstein_distance(x, y) * (1 - 1e-9) - 1e-12  # W_1 <= W_2


def test_levels_integrate_the_quantiles_of_gaussians_exactly_where_the_midpoint_rule_cuts_the_tails() -> None:
    z, weights = normal_levels(201)
    assert quantile_function_distance(2 * z + 1, z, weights) == pytest.approx(np.sqrt(2), rel=1e-12)
    assert weights.sum() == pytest.approx(1, rel=1e-15)


def test_quantiles_of_cells_are_those_of_the_law_down_to_the_tails() -> None:
    edges = np.linspace(-9, 9, 3601)
    centres = (edges[1:] + edges[:-1]) / 2
    masses = np.exp(-((centres - 0.5) ** 2) / 2)  # not symmetric: the lower tail is not the upper one
    z = np.array([-4.0, -1.0, 0.0, 2.0, 4.0])
    np.testing.assert_allclose(cell_quantiles(edges, masses / masses.sum(), z), z + 0.5, atol=1e-4)


# --- Gaussians -------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_bures_is_pots_and_symmetric(seed, d) -> None:
    rng = np.random.default_rng(seed)
    first, second = (rng.standard_normal(d), _covariance(seed, d)), (rng.standard_normal(d), _covariance(seed + 1, d))
    expected = ot.gaussian.bures_wasserstein_distance(first[0], second[0], first[1], second[1])
    assert float(bures_distance(*first, *second)) == pytest.approx(float(expected), rel=1e-7)
    assert float(bures_distance(*second, *first)) == pytest.approx(float(expected), rel=1e-7)


def test_bures_keeps_its_digits_for_close_covariances_where_the_trace_formula_does_not() -> None:
    cov, zero = np.diag([1.0, 2.0]), np.zeros(2)
    assert float(bures_distance(zero, cov, zero, cov * (1 + 2e-10))) == pytest.approx(1e-10 * 3**0.5, rel=1e-4)


def test_bures_takes_covariances_of_any_rank() -> None:
    # Of rank 2: eigvalsh and eigh round its least eigenvalue to different signs, so one saw no fault and one a NaN.
    singular = np.array([[5.0, -7, 7], [-7, 10, -9], [7, -9, 13]])
    zero, identity = np.zeros(3), np.eye(3)
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(singular), 0))
    expected = np.sqrt(((roots - 1) ** 2).sum())
    assert float(bures_distance(zero, singular, zero, identity)) == pytest.approx(expected, rel=1e-7)
    assert float(bures_distance(zero, identity, zero, singular)) == pytest.approx(expected, rel=1e-7)
    assert float(bures_distance(zero, singular, zero, singular)) == pytest.approx(0, abs=1e-7)
    assert float(bures_distance(zero, np.zeros((3, 3)), zero, identity)) == pytest.approx(np.sqrt(3), rel=1e-14)


def test_an_eigenvalue_below_zero_counts_as_zero_up_to_the_tolerance_and_is_refused_beyond_it() -> None:
    def least(value: float) -> float:
        return float(bures_distance([0, 0], np.diag([1.0, value]), [0, 0], np.eye(2)))

    assert least(-2e-15) == least(-9e-9) == pytest.approx(1, rel=1e-14)
    with pytest.raises(ValueError, match="eigenvalue -2e-08: pass a matrix without negative eigenvalues"):
        least(-2e-8)


# --- Point clouds ----------------------------------------------------------------------------------------------


def test_point_clouds_agree_with_the_assignment_problem() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 60, 3))
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    rows, columns = linear_sum_assignment(cost)
    assert point_cloud_distance(x, y) == pytest.approx(np.sqrt(cost[rows, columns].mean()), rel=1e-9)
    assert point_cloud_distance(x, x[::-1]) == pytest.approx(0, abs=1e-7)


def test_points_far_from_the_origin_are_as_far_apart_as_near_it() -> None:
    # POT's own cost expands the square and gives 0 here, and 0.011 for two equal clouds at 1e6.
    assert point_cloud_distance([[1e8], [1e8]], [[1e8 + 0.1], [1e8 + 0.1]]) == pytest.approx(0.1, rel=1e-6)
    cloud = np.random.default_rng(2).standard_normal((50, 2))
    assert point_cloud_distance(cloud + 1e6, cloud + 1e6) == 0
    near, far = (point_cloud_distance(cloud + shift, cloud[::-1] * 2 + shift) for shift in (0.0, 2.0**20))
    assert far == pytest.approx(near, rel=1e-8)


def test_no_square_overflows_and_none_vanishes() -> None:
    x, y = np.random.default_rng(3).standard_normal((2, 50, 2))
    expected = point_cloud_distance(x, y)
    for power in (500, -500):
        scaled = point_cloud_distance(np.ldexp(x, power), np.ldexp(y, power))
        assert np.ldexp(scaled, -power) == pytest.approx(expected, rel=1e-12)
    assert point_cloud_distance(x, y * 1e155) == pytest.approx(1e155 * np.sqrt((y**2).sum(axis=1).mean()), rel=1e-12)


def test_a_solver_that_gives_up_is_an_error_and_no_distance(monkeypatch) -> None:
    x, y = np.random.default_rng(4).standard_normal((2, 50, 2))
    monkeypatch.setattr(distances, "MAX_PIVOTS", 5)
    with pytest.raises(RuntimeError, match="no distance of 50 and 50 points: numItermax reached"):
        point_cloud_distance(x, y)


def test_debiasing_takes_the_floor_off_and_is_near_the_truth() -> None:
    rng = np.random.default_rng(1)
    x, x_again, y, y_again = rng.standard_normal((4, 300, 2))
    estimate = debiased_distance(x, y + 1, x_again, y_again + 1)
    assert abs(estimate.value - np.sqrt(2)) < abs(estimate.plain - np.sqrt(2)) + 0.05
    assert 0.1 < estimate.floor < 0.5
    with pytest.warns(RuntimeWarning, match="draw larger samples"):
        same = debiased_distance(x, y, x_again, y_again)
    assert same.value < same.plain

import numpy as np
import pytest

from replications.wasserstein_bound.schedule import VariancePreserving, constant_rate, time_grid


def test_noise_variance_keeps_its_digits_near_zero_where_one_minus_alpha_squared_loses_them() -> None:
    schedule, t = VariancePreserving(), 1e-14
    assert float(schedule.noise_variance(t)) == pytest.approx(0.1 * t, rel=1e-9)
    assert abs((1 - float(schedule.alpha(t)) ** 2) / (0.1 * t) - 1) > 0.01


def test_the_grid_is_quadratic_and_ends_at_the_horizon() -> None:
    grid = time_grid(constant_rate(1.0, 4.0), 5)
    np.testing.assert_allclose(grid, [0, 0.25, 1, 2.25, 4])
    assert time_grid(VariancePreserving(), 3, start=0.005)[0] == 0.005

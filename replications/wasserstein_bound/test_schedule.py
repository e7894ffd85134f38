import numpy as np
import pytest
from scipy.integrate import quad

from replications.wasserstein_bound.schedule import VariancePreserving, constant_rate, time_grid

SCHEDULES = [VariancePreserving(), VariancePreserving(0.5, 3.0, 2.0), constant_rate(4.0, 0.7)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_alpha_is_the_exponential_of_minus_half_the_integrated_rate(schedule) -> None:
    for t in (0.1, schedule.horizon):
        integral = quad(lambda r: float(schedule.beta(r)), 0, t)[0]
        assert float(schedule.alpha(t)) == pytest.approx(np.exp(-integral / 2), rel=1e-12)
        assert float(schedule.alpha(t)) ** 2 + float(schedule.noise_variance(t)) == pytest.approx(1, rel=1e-15)


def test_noise_variance_keeps_its_digits_near_zero_where_one_minus_alpha_squared_loses_them() -> None:
    schedule, t = VariancePreserving(), 1e-14
    assert float(schedule.noise_variance(t)) == pytest.approx(0.1 * t, rel=1e-9)
    assert abs((1 - float(schedule.alpha(t)) ** 2) / (0.1 * t) - 1) > 0.01


def test_the_grid_is_quadratic_and_ends_at_the_horizon() -> None:
    grid = time_grid(constant_rate(1.0, 4.0), 5)
    np.testing.assert_allclose(grid, [0, 0.25, 1, 2.25, 4])
    assert time_grid(VariancePreserving(), 3, start=0.005)[0] == 0.005

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replications.wasserstein_bound.distances import normal_levels
from replications.wasserstein_bound.mixture import Perturbation, SymmetricMixture
from replications.wasserstein_bound.schedule import VariancePreserving

SCHEDULE = VariancePreserving()
mixtures = st.builds(SymmetricMixture, st.just(SCHEDULE), st.floats(0, 2), st.floats(0.05, 1))
times = st.floats(0, 1)


@given(mixtures, times, st.floats(-4, 4))
@settings(deadline=None)
def test_the_score_is_the_derivative_of_the_log_density(mixture, t, x) -> None:
    step = 1e-5
    difference = (mixture.log_density(x + step, t) - mixture.log_density(x - step, t)) / (2 * step)
    assert float(mixture.score(x, t)) == pytest.approx(float(difference), rel=1e-5, abs=1e-5)


@given(mixtures, times)
@settings(deadline=None)
def test_no_slope_of_the_score_exceeds_l_s_which_is_attained_at_zero(mixture, t) -> None:
    x = np.linspace(-5, 5, 4001)
    slopes = np.diff(mixture.score(x, t)) / np.diff(x)
    supremum = float(mixture.score_slope(t))
    scale = 1 + abs(supremum) + (mixture.mean / mixture.variance) ** 2
    assert slopes.max() <= supremum + 1e-9 * scale
    h = 1e-6
    assert float(mixture.score(h, t) - mixture.score(-h, t)) / (2 * h) == pytest.approx(supremum, rel=1e-6, abs=1e-6)


@given(mixtures, times)
@settings(max_examples=30, deadline=None)
def test_quantiles_are_odd_increasing_and_have_the_moments_of_the_mixture(mixture, t) -> None:
    z, weights = normal_levels(2001)
    x = mixture.quantiles(z, t)
    np.testing.assert_allclose(x, -x[::-1], atol=1e-12)
    assert (np.diff(x) > 0).all()
    m, v = mixture.moments(t)
    assert weights @ x**2 == pytest.approx(float(m**2 + v), rel=2e-3)  # steep between clusters


@given(mixtures, times, st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 5))
@settings(max_examples=30, deadline=None)
def test_the_error_of_a_perturbation_is_its_root_mean_square(mixture, t, shift, amplitude, frequency) -> None:
    perturbation = Perturbation(shift, amplitude, frequency)
    m, v = mixture.moments(t)
    z, weights = normal_levels(2001)
    squared = sum(weights @ perturbation(sign * m + np.sqrt(v) * z) ** 2 for sign in (-1, 1)) / 2
    assert float(perturbation.error(mixture, t)) ** 2 == pytest.approx(squared, rel=1e-9, abs=1e-12)
    x = np.linspace(-3, 3, 1001)
    assert np.abs(np.diff(perturbation(x)) / np.diff(x)).max() <= perturbation.slope + 1e-9

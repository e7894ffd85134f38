import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from replications.wasserstein_bound.bound import (
    kl_upper_bound,
    log_integral,
    score_matching_gap,
    wasserstein_corollary_bound,
    wasserstein_upper_bound,
)

T = np.linspace(0, 1, 201)
GOOD = {"diffusion_squared": 2.0, "score_error": 0.1, "score_slope": -0.5, "drift_slope": 1.0}

rates = st.floats(-30, 30)


def test_the_two_terms_add_up_and_a_sweep_equals_its_cases() -> None:
    slopes = np.linspace(-3, 3, 4)[:, None] * np.ones_like(T)
    etas, priors = np.array([0.0, 0.5, 1.0, 2.0]), np.array([0.0, 0.1, 0.2, 0.3])
    sweep = wasserstein_upper_bound(T, **{**GOOD, "score_slope": slopes}, eta=etas, prior_distance=priors)
    np.testing.assert_allclose(sweep.score_term + sweep.offset, sweep.value, rtol=1e-12)
    assert sweep.value.shape == (4,)
    assert sweep.log_growth.shape == (4, 201)
    for slope, eta, prior, value in zip(slopes, etas, priors, sweep.value, strict=True):
        case = wasserstein_upper_bound(T, **{**GOOD, "score_slope": slope}, eta=eta, prior_distance=prior)
        assert float(case.value) == pytest.approx(value, rel=1e-14)


def test_the_bound_of_a_growth_of_ten_to_the_691_is_a_finite_logarithm() -> None:
    slope = 691 * np.log(10) / 2.0
    bound = wasserstein_upper_bound(T, **{**GOOD, "score_slope": slope, "drift_slope": 0.0}, prior_distance=1.0)
    assert float(bound.log_growth[-1]) / np.log(10) == pytest.approx(691)
    assert 680 < float(bound.log_value) / np.log(10) < 692
    corollary = wasserstein_corollary_bound(T, **{**GOOD, "score_slope": slope, "drift_slope": 0.0})
    assert np.isfinite(corollary.log_value)
    with pytest.warns(RuntimeWarning, match="use its logarithm"):
        assert float(bound.value) == np.inf


@given(st.lists(st.floats(-2000, 2000), min_size=201, max_size=201))
@settings(max_examples=30, deadline=None)
def test_the_logarithm_of_an_integral_is_scipys_weighted_logsumexp(logs) -> None:
    weights = np.gradient(T)
    weights[[0, -1]] /= 2
    assert float(log_integral(T, logs)) == pytest.approx(float(logsumexp(logs, b=weights)), rel=1e-12, abs=1e-12)


def test_the_kl_factor_is_one_at_eta_one_and_its_least_value_there() -> None:
    etas = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
    bounds = kl_upper_bound(T, diffusion_squared=2.0, score_error=0.3, eta=etas)
    np.testing.assert_allclose(bounds / 0.09, (1 + etas**2) ** 2 / (4 * etas**2), rtol=1e-12)
    assert bounds.argmin() == 2


def test_a_point_mass_has_no_gap_and_scores_that_are_too_large_have_a_negative_one() -> None:
    assert float(score_matching_gap(0.2, score_second_moment=5.0)) == 0
    assert float(score_matching_gap(0.2, score_second_moment=4.0, num_dimensions=3)) == pytest.approx(11.0)

import pytest

from replications.wasserstein_bound import checks_of_corrections, checks_of_theorems
from replications.wasserstein_bound.affine_cases import random_affine_cases
from replications.wasserstein_bound.checks import CHECKS
from replications.wasserstein_bound.errors import excess

TOLERANCES = {
    "step_s1_marginals": 1e-8,
    "step_s2_noise_cancels": 1e-2,
    "step_s3_pointwise": 1e-9,
    "step_s4_growth": 1e-6,
    "step_s5_gronwall": 1e-6,
    "step_s6_coupling": 1e-6,
    "step_s7_corollary": 1e-6,
    "step_s8_prior_offset": 1e-6,
    "step_s9_conditional_loss": 1e-6,
    "theorem_t1_sde": 1e-6,
    "theorem_t4_every_noise": 1e-6,
    "theorem_t5_ode_lemma": 1e-6,
    "theorem_t7_kl": 1e-6,
    "growth_of_mixture": 1e-5,
    "correction_1_ode_weight": 1e-6,
    "correction_2_sign_of_time": 1e-6,
    "correction_3_extra_term": 1e-9,
    "correction_4_weight_of_time": 1e-6,
    "correction_5_trained_loss": 1e-3,
    "kl_route_to_a_shift": 1e-6,
    "sde_is_not_always_nearer": 1e-6,
}
CONTROL_AT_LEAST = 0.1


def test_every_check_has_a_tolerance() -> None:
    assert list(CHECKS) == list(TOLERANCES)


@pytest.mark.parametrize("name", TOLERANCES)
def test_the_statement_holds_and_its_control_does_not(name) -> None:
    outcome = CHECKS[name]()
    assert 0 <= outcome.max_error <= TOLERANCES[name]
    assert outcome.control_error > CONTROL_AT_LEAST


@pytest.mark.parametrize("name", ["step_s2_noise_cancels", "theorem_t7_kl"])
def test_checks_are_deterministic(name) -> None:
    assert CHECKS[name]() == CHECKS[name]()


def test_a_bound_with_half_of_the_growth_rate_fails_the_theorems(monkeypatch) -> None:
    def halved(t, *, score_slope, drift_slope, **others):
        return checks_of_corrections.wasserstein_upper_bound(
            t, score_slope=score_slope / 2, drift_slope=drift_slope / 2, **others
        )

    monkeypatch.setattr(checks_of_theorems, "wasserstein_upper_bound", halved)
    assert CHECKS["theorem_t1_sde"]().max_error > 0.1


def test_an_excess_is_relative_and_not_negative() -> None:
    assert excess([1.0, 3.0], [2.0, 2.0]) == 0.5
    assert excess([1.0], [2.0]) == 0


def test_random_cases_differ_with_the_seed_and_hold_both_priors() -> None:
    first, second = random_affine_cases(0, 20, 11), random_affine_cases(1, 20, 11)
    assert (first.mean != second.mean).all()
    assert 0 < (first.prior_variance == 1).sum() < 20

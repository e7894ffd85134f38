"""The parts that need no training: what they measure is right in cases with an answer, and a wrong bound is seen."""

import numpy as np
import pytest

from paperkit.runs import Run
from replications.wasserstein_bound.schedule import ConstantRate, VariancePreserving
from replications.wasserstein_bound.tasks import affine_sweep, closed_forms, dimensions, mixtures, offset, stationary
from replications.wasserstein_bound.tasks.affine_sweep import measure_affine_cases, measure_noise_family, random_case
from replications.wasserstein_bound.tasks.dimensions import measure_dimension, measure_rotation
from replications.wasserstein_bound.tasks.discretisation import measure_discretisation
from replications.wasserstein_bound.tasks.excess import excess
from replications.wasserstein_bound.tasks.identities import IDENTITIES, measure_identity
from replications.wasserstein_bound.tasks.mixtures import measure_growth, measure_mixture, measure_slack
from replications.wasserstein_bound.tasks.offset import measure_offset

BLOCK = {"num_cases": 12, "num_times": 1001}
ONE_CLUSTER = {"mean": 0.0, "variance": 1.0, "perturbation": {"shift": 0.2}, "num_steps": 200}
GAUSSIAN = {"mean": 1.0, "variance": 0.25}
AT_ONCE = set(closed_forms.CLOSED_FORM_CHECKS) - {"conditional_gap", "shift_attains_bound"} | {
    *stationary.STATIONARY_CHECKS
}
VIOLATED = {  # statements of the post: their error is the violation
    "ode_with_full_weight",
    "sde_is_nearer",
    "constant_of_plus_drift",
    "weight_increases",
    "conditional_bound_of_exact_score",
    "kl_of_almost_an_ode",
    "mixture_offset_rise",
}


def numbers(measure, run, step=0):
    return {each.metric: each.value for each in measure(run) if each.step == step}


# --- Excess ------------------------------------------------------------------------------------------------------


def test_excess_is_relative_to_the_distance_and_zero_below_bound_and_floor():
    assert excess([2.0, 2.0, 2.0], [1.0, 3.0, 1.5], [0.0, 0.0, 0.5]).tolist() == [0.5, 0.0, 0.0]


@pytest.mark.parametrize("distance", [0.0, -1.0, np.nan])
def test_a_distance_without_a_size_is_refused(distance):
    with pytest.raises(ValueError, match="distance"):
        excess(distance, 1.0)


# --- Random Gaussians --------------------------------------------------------------------------------------------


def test_cases_are_a_function_of_the_seed_and_the_samplers_of_a_seed_share_them():
    first, again, other = (random_case(np.random.default_rng(seed), 101) for seed in (3, 3, 4))
    assert np.array_equal(first.slope, again.slope)
    assert first.variance != other.variance
    sde, ode = (list(measure_affine_cases(Run("affine", arm, 3, BLOCK))) for arm in ("sde", "ode"))
    assert [each.metric for each in sde[:24]] == [each.metric for each in ode[:24]]
    assert sde != ode


def test_cases_are_of_several_schedules_priors_and_kinds():
    cases = [random_case(np.random.default_rng(seed), 101) for seed in range(60)]
    assert len({case.schedule for case in cases}) == 3
    assert {isinstance(case.schedule, ConstantRate) for case in cases} == {True, False}
    from_prior = [(case.prior_mean, case.prior_variance) == (0.0, 1.0) for case in cases]
    assert 10 < sum(from_prior) < 50
    scaled = [not np.allclose(case.slope, -1 / case.variance_t) for case in cases]
    swings = [np.ptp(case.slope * case.variance_t) > 1e-6 for case in cases]
    assert 10 < sum(scaled) < 60
    assert 5 < sum(swings) < sum(scaled)


def test_a_score_is_wrong_by_a_shift_or_a_scale_or_both():
    kinds = set()
    for seed in range(40):
        case = random_case(np.random.default_rng(seed), 101)
        scaled = not np.allclose(case.slope * case.variance_t, -1)
        # What is left of the score at the mean of p_t is the shift.
        shifted = not np.allclose(case.slope * case.mean_t + case.intercept, 0, atol=1e-9)
        kinds.add((scaled, shifted))
    assert kinds == {(True, False), (False, True), (True, True)}


@pytest.mark.parametrize("arm", ["sde", "ode"])
def test_no_random_case_violates_the_bound_and_the_halved_bound_is_seen_to_fail(arm):
    found = numbers(measure_affine_cases, Run("affine", arm, 5, BLOCK))
    assert found["excess"] < 1e-5
    assert found["control_excess"] > 0.1
    assert found["corollary_shortfall"] == 0
    assert found["corollary_control"] > 0.1
    assert ("kl_excess" in found) == (arm == "sde")


def test_a_bound_that_is_too_small_would_be_reported(monkeypatch):
    whole = affine_sweep.wasserstein_upper_bound
    monkeypatch.setattr(
        affine_sweep, "wasserstein_upper_bound", lambda t, **known: whole(t, **{**known, "score_slope": -50.0})
    )
    assert numbers(measure_affine_cases, Run("affine", "sde", 5, BLOCK))["excess"] > 0.1


def test_the_family_of_noises_has_no_kl_bound_for_the_ode():
    config = {**BLOCK, "num_cases": 3}
    without, with_it = (
        numbers(measure_noise_family, Run("noise_family", "x", 0, {**config, "eta": eta})) for eta in (0.0, 0.5)
    )
    assert "kl_excess" not in without
    assert with_it["kl_excess"] == 0
    assert max(without["excess"], with_it["excess"]) < 1e-5


@pytest.mark.parametrize("arm", ["sde", "ode"])
def test_a_shift_of_an_isotropic_gaussian_attains_the_bound_in_the_plane_too(arm):
    found = numbers(measure_rotation, Run("rotation", arm, 0, {"case": 0, "num_times": 1001, "size": 2.0}))
    assert found["distance_w2"] == pytest.approx(found["bound_w2"], rel=1e-5)


def test_a_rotating_score_is_not_symmetric_and_stays_within_its_bound():
    found = numbers(measure_rotation, Run("rotation", "sde", 0, {"case": 1, "num_times": 401, "size": 2.0}))
    assert found["excess"] == 0
    assert found["distance_w2"] > 1e-3


def test_covariances_have_the_declared_range_of_eigenvalues_and_random_axes():
    rng = np.random.default_rng(0)
    drawn = [dimensions._random_covariance(rng, 3, isotropic=False) for _ in range(50)]
    values = np.linalg.eigvalsh(drawn)
    assert dimensions.LEAST_VARIANCE - 1e-9 < values.min() < values.max() < dimensions.LARGEST_VARIANCE + 1e-9
    assert np.abs([each[0, 1] for each in drawn]).min() > 1e-6


def test_in_one_dimension_the_case_is_the_line():
    found = numbers(
        measure_dimension, Run("dimension", "ode", 0, {"case": 0, "num_times": 401, "size": 0.2, "dimension": 1})
    )
    assert found["excess"] == 0
    assert 0 < found["distance_w2"] <= found["bound_w2"]


# --- Mixtures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "expected"), [("ode", 0.2 * (-np.log(VariancePreserving().alpha(1.0)))), ("sde", None)]
)
def test_one_cluster_with_a_shifted_score_attains_the_bound(arm, expected):
    found = numbers(measure_mixture, Run("mixture", arm, 0, ONE_CLUSTER))
    exact = expected if expected is not None else 2 * 0.2 * (1 - VariancePreserving().alpha(1.0))
    assert found["distance_w2"] == pytest.approx(float(exact), rel=5e-3)
    assert 10 ** found["log10_bound_w2"] == pytest.approx(float(exact), rel=1e-6)
    assert found["control_excess"] > 0.4


def test_factors_of_the_slack_multiply_to_it_and_the_supremum_costs_most_between_modes():
    config = {"mean": 1.0, "variance": 0.25, "perturbation": {"shift": 0.2}, "num_steps": 300, "num_pairs": 500}
    found = numbers(measure_slack, Run("slack", "sde", 0, config))
    assert found["log10_distance_w2"] < found["log10_bound_w2"]
    assert found["log10_bound_w2"] - found["log10_averaged_bound_w2"] > 0.5
    again, other = (numbers(measure_slack, Run("slack", "sde", seed, config)) for seed in (0, 1))
    assert again == found
    assert other["log10_coupled_w2"] != found["log10_coupled_w2"]


def test_growth_of_modes_far_apart_is_followed_as_a_logarithm():
    rows = list(measure_growth(Run("growth", "sde", 0, {"mean": 0.5, "variance": 1.5625e-4})))
    assert max(each.value for each in rows if each.metric == "log10_growth") > 600
    assert len({each.step for each in rows}) == mixtures.NUM_CURVE_POINTS <= 50


# --- Schedules ---------------------------------------------------------------------------------------------------


def test_the_offset_falls_with_the_horizon_and_bounds_the_distance():
    runs = [Run("offset", "sde", 0, {**GAUSSIAN, "horizon": horizon, "eta": 1.0}) for horizon in (0.1, 0.5, 1.0)]
    found = [numbers(offset.measure_offset, run) for run in runs]
    offsets = [each["offset_w2"] for each in found]
    assert offsets == sorted(offsets, reverse=True)
    assert all(each["distance_w2"] <= each["offset_w2"] * (1 + 1e-6) <= each["contraction_bound_w2"] for each in found)
    assert found[-1]["constant_at_horizon"] == pytest.approx(-1, abs=1e-3)
    assert numbers(measure_offset, runs[0])["offset_w2"] == offsets[0]


def test_more_time_steps_come_nearer_and_one_step_is_worked_out_by_hand():
    def distance(num_steps, eta):
        run = Run("discretisation", "x", 0, {**GAUSSIAN, "num_steps": num_steps, "eta": eta})
        return numbers(measure_discretisation, run)["distance_w2"]

    assert distance(200, 1.0) < distance(50, 1.0) < distance(10, 1.0)
    schedule = VariancePreserving()
    alpha, beta = float(schedule.alpha(1.0)), float(schedule.beta(1.0))
    mean, variance = alpha, alpha**2 * 0.25 + 1 - alpha**2
    # One step of the ODE from p_T: x + β (x - (x - mean) / variance) / 2, an affine map.
    factor = 1 + beta / 2 * (1 - 1 / variance)
    end_mean, end_sd = mean + beta / 2 * mean, abs(factor) * variance**0.5
    assert distance(1, 0.0) == pytest.approx(np.hypot(end_mean - 1.0, end_sd - 0.5), rel=1e-9)


# --- Checks ------------------------------------------------------------------------------------------------------


def test_every_check_has_a_name_of_its_own():
    parts = (closed_forms.CLOSED_FORM_CHECKS, stationary.STATIONARY_CHECKS)
    assert not set(parts[0]) & set(parts[1])
    assert {*parts[0], *parts[1]} < set(IDENTITIES)


@pytest.mark.parametrize("name", sorted(AT_ONCE - VIOLATED))
def test_a_statement_holds_where_its_control_fails(name):
    found = numbers(measure_identity, Run("identities", name, 0, {}))
    assert found["max_error"] < 1e-6 < found["control_error"]


def test_the_gap_of_the_losses_is_a_matter_of_sampling_error_and_its_second_term_is_not():
    found = numbers(measure_identity, Run("identities", "conditional_gap", 0, {}))
    assert found["max_error"] < 4 < found["control_error"]


@pytest.mark.parametrize("name", sorted(VIOLATED))
def test_a_statement_of_the_post_is_violated_in_both_cases(name):
    found = numbers(measure_identity, Run("identities", name, 0, {}))
    assert min(found.values()) > 0.05


def test_the_stationary_case_has_the_closed_forms_of_the_page():
    rows = numbers(stationary.measure_stationary_shift, Run("stationary", "both", 0, {"rates": [4.0]}))
    assert rows["ode_w2_over_shift"] == pytest.approx(2.0, rel=1e-6)
    assert rows["half_weight_bound_over_shift"] == pytest.approx(2.0, rel=1e-6)
    assert rows["sde_w2_over_shift"] == pytest.approx(2 * (1 - np.exp(-2)), rel=1e-6)
    assert rows["full_weight_bound_over_shift"] == pytest.approx(2 * (1 - np.exp(-2)), rel=1e-6)

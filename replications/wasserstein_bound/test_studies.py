"""The studies that need no training: what they measure is right in cases with an answer, and a wrong bound is seen."""

import numpy as np
import pytest

from paperkit.runs import Run
from replications.wasserstein_bound.schedule import VariancePreserving
from replications.wasserstein_bound.studies import controls, gaussians, mixtures, schedules

BLOCK = {"num_cases": 12, "num_times": 1001}
CLUSTERS = {"mean": 1.0, "variance": 0.25, "perturbation": {"shift": 0.2}, "num_steps": 300}
ONE_CLUSTER = {**CLUSTERS, "mean": 0.0, "variance": 1.0, "num_steps": 200}
SAMPLERS = pytest.mark.parametrize("arm", ["sde", "ode"])


def numbers(measure, arm="sde", seed=0, **config):
    return {each.metric: each.value for each in measure(Run("study", arm, seed, config)) if each.step == 0}


# --- Random Gaussians --------------------------------------------------------------------------------------------


def case(seed):
    return gaussians.random_case(np.random.default_rng(seed), 101)


def is_scaled(scale):
    return not np.allclose(scale, -1)


def test_a_score_is_wrong_by_a_shift_or_a_scale_or_both():
    kinds = set()
    for seed in range(40):
        drawn = case(seed)
        mean_t, variance_t = drawn.moments
        # What is left of the score at the mean of p_t is the shift.
        shifted = not np.allclose(drawn.slope * mean_t + drawn.intercept, 0, atol=1e-9)
        kinds.add((is_scaled(drawn.slope * variance_t), shifted))
    assert kinds == {(True, False), (False, True), (True, True)}


@SAMPLERS
def test_no_random_case_violates_the_bound_and_the_halved_bound_is_seen_to_fail(arm):
    found = numbers(gaussians.measure_affine_cases, arm, 5, **BLOCK)
    assert found["excess"] < 1e-5
    assert found["control_excess"] > 0.1
    assert found["corollary_shortfall"] == 0
    assert found["corollary_control"] > 0.1
    assert ("kl_excess" in found) == (arm == "sde")


def test_the_family_of_noises_has_no_kl_bound_for_the_ode():
    config = {**BLOCK, "num_cases": 3}
    without, with_it = (numbers(gaussians.measure_noise_family, "x", **config, eta=eta) for eta in (0.0, 0.5))
    assert "kl_excess" not in without
    assert with_it["kl_excess"] == 0
    assert max(without["excess"], with_it["excess"]) < 1e-5


@SAMPLERS
def test_a_shift_of_an_isotropic_gaussian_attains_the_bound_in_the_plane_too(arm):
    found = numbers(gaussians.measure_rotation, arm, case=0, num_times=1001, size=2.0)
    assert found["distance_w2"] == pytest.approx(found["bound_w2"], rel=1e-5)


# --- Mixtures ----------------------------------------------------------------------------------------------------


@SAMPLERS
def test_one_cluster_with_a_shifted_score_attains_the_bound(arm):
    found = numbers(mixtures.measure_mixture, arm, **ONE_CLUSTER)
    alpha = float(VariancePreserving().alpha(1.0))
    exact = {"ode": -0.2 * np.log(alpha), "sde": 2 * 0.2 * (1 - alpha)}[arm]
    assert found["distance_w2"] == pytest.approx(exact, rel=5e-3)
    assert 10 ** found["log10_bound_w2"] == pytest.approx(exact, rel=1e-6)
    assert found["control_excess"] > 0.4


def test_factors_of_the_slack_multiply_to_it_and_the_supremum_costs_most_between_modes():
    found, again, other = (numbers(mixtures.measure_slack, seed=seed, **CLUSTERS, num_pairs=500) for seed in (0, 0, 1))
    assert found["log10_distance_w2"] < found["log10_bound_w2"]
    assert found["log10_bound_w2"] - found["log10_averaged_bound_w2"] > 0.5
    assert again == found
    assert other["log10_coupled_w2"] != found["log10_coupled_w2"]


# --- Schedules ---------------------------------------------------------------------------------------------------


def test_the_offset_falls_with_the_horizon_and_bounds_the_distance():
    config = {**schedules.GAUSSIAN, "eta": 1.0}
    found = [numbers(schedules.measure_offset, **config, horizon=horizon) for horizon in (0.1, 0.5, 1.0)]
    offsets = [each["offset_w2"] for each in found]
    assert offsets == sorted(offsets, reverse=True)
    assert all(each["distance_w2"] <= each["offset_w2"] * (1 + 1e-6) <= each["contraction_bound_w2"] for each in found)
    assert found[-1]["constant_at_horizon"] == pytest.approx(-1, abs=1e-3)


def test_more_time_steps_come_nearer_and_one_step_is_worked_out_by_hand():
    def distance(num_steps, eta):
        config = {**schedules.GAUSSIAN, "num_steps": num_steps, "eta": eta}
        return numbers(schedules.measure_discretisation, **config)["distance_w2"]

    assert distance(200, 1.0) < distance(50, 1.0) < distance(10, 1.0)
    schedule = VariancePreserving()
    alpha, beta = float(schedule.alpha(1.0)), float(schedule.beta(1.0))
    mean, variance = alpha, alpha**2 * 0.25 + 1 - alpha**2
    # One step of the ODE from p_T: x + β (x - (x - mean) / variance) / 2, an affine map.
    factor = 1 + beta / 2 * (1 - 1 / variance)
    end_mean, end_sd = mean + beta / 2 * mean, abs(factor) * variance**0.5
    assert distance(1, 0.0) == pytest.approx(np.hypot(end_mean - 1.0, end_sd - 0.5), rel=1e-9)


def test_the_stationary_case_has_the_closed_forms_of_the_page():
    assert numbers(schedules.measure_stationary_shift, "both", rates=[4.0]) == pytest.approx(
        {
            "beta_times_horizon": 4.0,
            "ode_w2_over_shift": 2.0,
            "half_weight_bound_over_shift": 2.0,
            "sde_w2_over_shift": 2 * (1 - np.exp(-2)),
            "full_weight_bound_over_shift": 2 * (1 - np.exp(-2)),
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("name", controls.CONTROLS)
def test_the_control_of_a_sweep_breaks_its_statement_in_both_cases(name):
    found = numbers(controls.measure_control, name)
    assert set(found) == {"max_error", "control_error"}
    assert min(found.values()) > 0.05


def test_in_one_dimension_the_case_is_the_line():
    found = numbers(gaussians.measure_dimension, "ode", case=0, num_times=401, size=0.2, dimension=1)
    assert found["excess"] == 0
    assert 0 < found["distance_w2"] <= found["bound_w2"]


def test_growth_of_modes_far_apart_is_followed_as_a_logarithm():
    rows = list(mixtures.measure_growth(Run("growth", "sde", 0, {"mean": 0.5, "variance": 1.5625e-4})))
    assert max(each.value for each in rows if each.metric == "log10_growth") > 600
    assert len({each.step for each in rows}) == mixtures.NUM_CURVE_POINTS <= 50

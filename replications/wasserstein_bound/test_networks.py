"""The tasks that train score networks measure what they say: exact answers for networks whose answer is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from paperkit.config import ConfigError, parse
from paperkit.runs import Run
from replications.wasserstein_bound.schedule import VariancePreserving
from replications.wasserstein_bound.score_network import ScoreNetwork, noise_level
from replications.wasserstein_bound.studies import network_in_plane, network_on_line, score_training
from replications.wasserstein_bound.studies.measuring import ETA_OF

LINE = {
    "mean": 1.0, "variance": 0.25, "t_min": 0.005, "width": 6, "depth": 1, "batch": 32, "lr": 0.03,
    "checkpoints": [5, 24], "num_times": 13, "flow_steps": 20, "diffusion_steps": 40, "num_pairs": 40,
}  # fmt: skip
PLANE = {
    "mean": 1.0, "variance": 0.25, "t_min": 0.005, "width": 6, "depth": 1, "batch": 32,
    "lr": 0.01, "weight_decay": 0.01, "checkpoints": [24], "num_times": 4, "sampler_steps": 10,
    "num_points": 30, "num_probes": 10, "num_ascents": 2, "ascent_steps": 3,
}  # fmt: skip
SCHEDULE = VariancePreserving()


class ExactNoise(nn.Module):
    """The best prediction of the noise in the mixture, by coordinate, with a constant added to its score."""

    def __init__(self, settings, shift=0.0):
        super().__init__()
        self.settings, self.shift = settings, shift
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, inputs):
        level, x = inputs[..., -1:], inputs[..., :-1]
        noise = noise_level(level)
        m = self.settings.mean * noise_level(-level)
        v = noise_level(-level) ** 2 * self.settings.variance + noise**2
        return -noise * ((m * torch.tanh(m * x / v) - x) / v + self.shift)


def line(**changes):
    return network_on_line.LearnedScore(**{**LINE, **changes})


def plane(**changes):
    return network_in_plane.PlaneScore(**{**PLANE, **changes})


def on_line(seed=0, arm="one_run", **changes):
    return list(network_on_line.measure_learned_score(Run("trained", arm, seed, {**LINE, **changes})))


def in_plane(arm="plain", seed=0, **changes):
    return list(network_in_plane.measure_plane_score(Run("techniques", arm, seed, {**PLANE, **changes})))


def values(measurements, step):
    return {each.metric: each.value for each in measurements if each.step == step}


# --- Times and training ----------------------------------------------------------------------------------------


def test_uniform_log_ratios_are_times_with_the_density_of_the_likelihood_weight_and_uniform_times_are_uniform():
    # λ = g² on the score is g² / σ² on the noise; draws must fall before t in proportion to its integral.
    t = np.linspace(0.005, 1, 200_001)
    density = SCHEDULE.beta(t) / SCHEDULE.noise_variance(t)
    mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    for draw, expected in (
        (score_training.uniform_in_log_snr, mass / mass[-1]),
        (score_training.uniform_in_time, (t - 0.005) / 0.995),
    ):
        draws = draw(SCHEDULE, 0.005)(np.random.default_rng(0), 200_000)
        for time in (0.02, 0.1, 0.5):
            share = np.mean(draws > score_training.log_snr(SCHEDULE, time))
            assert share == pytest.approx(np.interp(time, t, expected), abs=0.005)


def test_a_network_as_a_score_is_its_noise_over_the_level():
    settings = line()
    score = score_training.network_score(ExactNoise(settings), SCHEDULE)
    x = np.linspace(-3, 3, 11)
    for t in (0.005, 0.2, 1.0):
        np.testing.assert_allclose(score(x[:, None], t)[:, 0], settings.mixture.score(x, t), rtol=1e-9)


# --- On the line -----------------------------------------------------------------------------------------------


def test_the_error_of_a_shifted_exact_score_is_the_shift():
    settings = line()
    for shift in (0.0, 0.3):
        error = network_on_line.score_error(settings, ExactNoise(settings, shift), settings.times)
        np.testing.assert_allclose(error, shift, atol=1e-9)


def test_a_certificate_is_the_largest_slope_of_the_score():
    settings = line(num_times=13)
    torch.manual_seed(0)
    network = ScoreNetwork(dimension=1, width=6, depth=1).double()
    score = network_on_line.line_score(settings, network)
    x = np.linspace(-60, 60, 60_001)
    for t, certificate in zip(settings.times, network_on_line.slopes(settings, network), strict=True):
        found = np.diff(score(x, t)).max() / (x[1] - x[0])
        assert found <= certificate.upper + 1e-9
        assert certificate.upper <= found + 0.02 * (1 + abs(found))


def test_samplers_of_the_exact_score_reach_the_data_at_t_min_and_those_of_a_wrong_one_do_not():
    settings = line(flow_steps=60, diffusion_steps=200)
    score, wrong = (network_on_line.line_score(settings, ExactNoise(settings, shift)) for shift in (0.0, 0.3))
    for eta, floor in ((0.0, 1e-4), (1.0, 5e-3)):
        exact = network_on_line.distance(settings, score, eta, from_normal=False)
        assert exact < floor
        assert abs(network_on_line.distance(settings, score, eta, from_normal=True) - exact) < 1e-3
        assert network_on_line.distance(settings, wrong, eta, from_normal=True) > 0.1


def test_a_run_on_the_line_obeys_the_bound_and_breaks_the_control():
    found = on_line()
    assert found == on_line()
    assert found != on_line(seed=1)
    assert all(math.isfinite(each.value) for each in found)
    for step in LINE["checkpoints"]:
        numbers = values(found, step)
        for name in ETA_OF:
            assert numbers[f"excess_{name}"] == 0.0
            assert numbers[f"control_excess_{name}"] > 0.5
            assert math.log10(numbers[f"distance_w2_{name}"]) < numbers[f"log10_bound_w2_{name}"]
            assert numbers[f"log10_averaged_bound_w2_{name}"] <= numbers[f"log10_bound_w2_{name}"] + 0.05
    curves = [sum(metric.startswith("slope_at_t") for metric in values(found, step)) for step in LINE["checkpoints"]]
    assert curves == [0, 13]


def test_a_run_of_its_own_ends_where_its_rate_is_zero_and_one_run_passes_there_with_a_high_rate():
    # The first 24 steps of a run of 240 are not those of a run of 24.
    own, passing = on_line(arm="annealed", checkpoints=[24]), on_line(checkpoints=[24, 240])
    assert {each.metric for each in own} == {each.metric for each in passing if each.step == 24}
    assert values(own, 24)["score_loss"] != values(passing, 24)["score_loss"]


def test_the_averaged_slope_of_a_linear_score_is_its_slope():
    # Gaussian data N(0, 1): the exact score is -x, whose slope is -1 at every pair; so B_c = B.
    settings = line(mean=0.0, variance=1.0, num_pairs=20)
    network = ExactNoise(settings, 0.2)
    averaged = network_on_line.averaged_bounds(settings, network, 0)
    t = settings.grid(settings.diffusion_steps + 1)
    terms = network_on_line.bound_terms(settings, network, t)
    for name, eta in ETA_OF.items():
        bound = network_on_line.wasserstein_upper_bound(t, score_slope=-1.0, eta=eta, **terms)
        assert averaged[f"log10_averaged_bound_w2_{name}"] == pytest.approx(float(bound.log_value) / math.log(10))


def test_training_lowers_the_loss_far_below_that_of_a_network_hardly_trained():
    found = on_line(checkpoints=[22, 300], lr=0.03, width=16, batch=128)
    assert values(found, 300)["score_loss"] < 0.5 * values(found, 22)["score_loss"]


# --- In the plane ----------------------------------------------------------------------------------------------


def test_the_error_in_the_plane_is_summed_over_coordinates():
    settings = plane()
    error = network_in_plane.score_error(settings, ExactNoise(settings, 0.3))
    np.testing.assert_allclose(error, 0.3 * 2**0.5, rtol=1e-6)


def test_clouds_of_the_exact_score_are_near_and_those_of_a_wrong_one_are_not():
    settings = plane(num_points=200, sampler_steps=100)
    scores = (score_training.network_score(ExactNoise(settings, shift), SCHEDULE) for shift in (0.0, 1.0))
    near, far = (network_in_plane.cloud_distances(settings, settings.draw, score, 0) for score in scores)
    for name in ("ode", "sde"):
        assert near[f"debiased_w2_{name}"] < 0.25 < 0.5 < far[f"debiased_w2_{name}"]
        assert near[f"debiased_w2_{name}"] < near[f"plain_w2_{name}"]


@pytest.mark.parametrize("arm", network_in_plane.ARMS)
def test_a_run_in_the_plane_repeats_itself_and_arms_differ_in_their_technique_alone(arm):
    found = in_plane(arm)
    assert found == in_plane(arm)
    assert all(math.isfinite(each.value) for each in found)
    plain = in_plane("plain")
    assert values(found, 0) == values(plain, 0)  # the same clouds
    if arm != "plain":
        assert values(found, 24)["score_loss"] != values(plain, 24)["score_loss"]
    assert values(found, 24)["ascent_gain"] >= 0


@pytest.mark.parametrize("run", [on_line, in_plane])
def test_a_diverged_run_reports_a_loss_that_is_no_number(run):
    found = [each for each in run(lr=1e200, checkpoints=[24]) if each.step]
    assert [(each.step, each.metric) for each in found] == [(24, "score_loss")]
    assert math.isnan(found[0].value)


@pytest.mark.parametrize(
    ("checkpoints", "told"),
    [
        ([30, 10], "must increase, the last to at least 22"),
        ([5], "must increase"),
        ([30, 30], "30 stands in it twice"),
    ],
)
def test_checkpoints_out_of_order_or_too_early_are_refused(checkpoints, told):
    with pytest.raises(ConfigError, match=rf"checkpoints.* {told}"):
        parse(network_on_line.LearnedScore, {**LINE, "checkpoints": checkpoints}, source="params.yaml")


def test_a_trial_ends_with_the_loss_of_the_run_that_it_chooses():
    for module, study, settings in (
        (network_on_line, on_line, {**LINE, "checkpoints": [24]}),
        (network_in_plane, in_plane, PLANE),
    ):
        (trial,) = module.measure_trial(Run("x_search", "plain", 0, settings))
        assert (trial.split, trial.step, trial.metric) == ("validation", 24, "score_loss")
        assert trial.value == values(study(checkpoints=[24]), 24)["score_loss"]

"""The study of the source's own point sets measures what it says: exact answers for networks whose answer is known."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paperkit.config import read_profile
from paperkit.runs import Run
from replications.wasserstein_bound.experiment import Config
from replications.wasserstein_bound.finite_data import finite_data_score
from replications.wasserstein_bound.score_network import noise_level
from replications.wasserstein_bound.studies import finite_sets

PARAMS = Path(__file__).with_name("params.yaml")
TWO_POINTS = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)


class ExactNoise(nn.Module):
    """The best prediction of the noise in a finite data set, with a constant added to its score."""

    def __init__(self, data, shift=0.0):
        super().__init__()
        self.data, self.shift = data, shift
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, inputs):
        level = inputs[0, -1]
        return -noise_level(level) * (finite_data_score(self.data, inputs[:, :-1], level) + self.shift)


@pytest.fixture(scope="module")
def tiny():
    return read_profile(Config, PARAMS, "smoke").finite_sets


@pytest.fixture(scope="module")
def paper():
    return read_profile(Config, PARAMS, "paper")


def measured(settings, arm="moons", seed=0, **changes):
    run = Run("finite_set", arm, seed, settings.model_copy(update=changes).model_dump())
    return list(finite_sets.measure_finite_set(run))


def checkpoint(settings, shift):
    network, exact = ExactNoise(TWO_POINTS, shift), finite_sets.exact_scores(settings, TWO_POINTS, 0)
    return finite_sets.checkpoint(settings, network, TWO_POINTS, exact, 0)


def test_training_lowers_the_loss_and_equal_seeds_give_equal_numbers(tiny):
    long = measured(tiny, checkpoints=[22, 300], batch=64)
    loss = {each.step: each.value for each in long if each.metric == "score_loss"}
    assert loss[300] < 0.95 * loss[22]  # the same points at both
    first = measured(tiny)
    assert first == measured(tiny)
    assert first != measured(tiny, seed=1)
    assert first != measured(tiny, max_gradient_norm=0.01)
    assert all(math.isfinite(each.value) for each in first)


def test_the_loss_of_a_shifted_exact_score_is_that_of_the_shift(tiny):
    # J = ½ ∫ β ‖c‖² dt, ∫ β = 10.05 but for what lies before t_min; the grid of three times is coarse.
    settings = tiny.model_copy(update={"num_times": 41})
    assert float(checkpoint(settings, 0.0)["score_loss"]) == pytest.approx(0, abs=1e-12)
    assert float(checkpoint(settings, 0.3)["score_loss"]) == pytest.approx(0.3**2 * 10.05, rel=1e-3)


def test_the_slope_of_two_points_is_found_from_below_and_nearly_is_that_of_their_mixture(tiny):
    search = {"num_probes": 300, "num_ascents": 10, "ascent_steps": 20}
    settings = tiny.model_copy(update={"t_min": 0.1, **search})
    noise = noise_level(finite_sets.level_at(settings.t_min)).item() ** 2
    exact = (1 - noise) / noise**2 - 1 / noise  # at the middle, along the line through both
    found = float(checkpoint(settings, 0.0)["slope_at_start"])
    assert 0.95 * exact < found <= exact * (1 + 1e-9)


def test_data_sets_are_those_of_the_notebook_whatever_the_seed():
    clusters, moons = finite_sets.four_clusters(), finite_sets.moons()
    assert clusters.shape == (4000, 2)
    assert moons.shape == (5000, 2)
    assert len({tuple(corner) for corner in np.sign(clusters)}) == 4
    assert (np.abs(clusters) - 0.5).std() == pytest.approx(0.0125, rel=0.05)
    assert np.array_equal(clusters, finite_sets.four_clusters())
    assert np.array_equal(moons, finite_sets.moons())


def test_the_paper_block_has_the_size_of_the_notebook_and_names_no_other_study(paper):
    settings = paper.finite_sets
    assert settings.checkpoints[-1] * settings.batch == 1000 * 4000 == 800 * 5000
    assert (settings.width, settings.depth) == (64, 3)
    assert set(paper.model_dump(exclude_defaults=True)) == {"finite_sets", "finite_set_seeds"}

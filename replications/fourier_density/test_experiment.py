from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from paperkit.config import read_profile
from replications.fourier_density import figures
from replications.fourier_density.experiment import (
    PICTURE,
    Config,
    changed_setting,
    fit_arm,
    largest_degree,
    most_components,
    space_of,
)
from replications.fourier_density.targets import TARGETS, divergence, mode_f1, targets

CONFIG = read_profile(Config, Path(__file__).with_name("params.yaml"), "cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_a_density_and_its_samples_follow_it(name):
    target = targets()[name]
    mass = np.exp(target.log_pdf) * target.lengths
    assert mass.sum() == pytest.approx(1, abs=1e-6)
    drawn = target.draw(20_000, np.random.default_rng(0))
    below = [mass[target.points < point].sum() for point in (-1, 0, 1.5)]
    np.testing.assert_allclose([np.mean(drawn < point) for point in (-1, 0, 1.5)], below, atol=0.015)


def test_the_divergence_is_zero_from_itself_and_the_textbooks_from_a_wider_law():
    claw = targets()["claw"]
    assert divergence(claw, lambda y: np.interp(y, claw.points, claw.log_pdf)) == pytest.approx(0, abs=1e-12)
    uniform = targets()["steps"]  # against one plateau of equal mass
    heights = np.array([0.1, 0.35, 0.05, 0.3, 0.2])
    assert divergence(uniform, lambda y: np.full(len(y), -np.log(5))) == pytest.approx(heights @ np.log(5 * heights))


def test_false_modes_cost_as_much_as_missing_ones():
    claw = targets()["claw"]
    assert mode_f1(claw, lambda y: np.interp(y, claw.points, claw.log_pdf)) == 1
    assert mode_f1(claw, lambda y: -(y**2) / 2) == pytest.approx(2 * 1 / (5 + 1))
    assert mode_f1(claw, lambda y: np.log(1.01 + np.sin(40 * y))) < 0.5


def test_arms_have_as_many_parameters_as_the_budget_allows_and_no_more():
    for budget in CONFIG.parameters.values():
        assert budget - 2 <= 2 * largest_degree(budget) + 3 <= budget
        assert budget - 2 <= 3 * most_components(budget) - 1 <= budget
    assert space_of("adam_wide", 77, CONFIG.boxes)["components"] == [9, 17, 26]
    assert space_of("fourier_tanh", 77, CONFIG.boxes)["degree"] == [12, 25, 37]


def test_a_variation_changes_only_what_an_arm_has():
    assert changed_setting({"degree": 12}, {"degree": 37, "floor": 1e-4, "starts": 5}) == {"degree": 37, "starts": 5}


@pytest.mark.parametrize("arm", ["adam_linear", "adam_wide"])
def test_adam_ends_near_what_lbfgs_finds(arm):
    y = targets()["claw"].draw(500, np.random.default_rng(0))
    task = {"degree": 6, "half_width": 2.0, "softness": 0.1, "gamma": 0.0, "components": 3, "floor": 1e-3}
    task |= {"rate": 0.05, "steps": 500, "batch": 128}
    other = arm.replace("adam_linear", "fourier_linear").replace("adam_wide", "gradient_wide")
    losses = [-fit_arm(name, y, task, 0).density.log_pdf(y).mean() for name in (arm, other)]
    assert losses[0] == pytest.approx(losses[1], abs=0.06)


def test_the_picture_is_drawn_where_its_density_was_kept():
    assert np.array_equal(figures.PICTURE, PICTURE)

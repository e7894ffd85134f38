"""The study of what holds at every step: equality, second order, variance, largest rate, on sizes of seconds."""

from math import sqrt
from pathlib import Path

import pytest

from paperkit.config import read_yaml
from paperkit.runs import Run
from replications.lora_optimizer import figures
from replications.lora_optimizer.studies.forms import INPUTS, OUTPUTS, Forms, measure_forms

CPU = read_yaml(Path(__file__).with_name("params.yaml"))["cpu"]


def measured(part, arm, **config):
    return {(m.step, m.metric): m.value for m in measure_forms(Run(f"forms_{part}", arm, 3, config))}


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-10), ("float32", 1e-2)])
def test_both_forms_are_equal_to_rounding_and_not_without_the_scale(dtype, bound):
    found = measured("equality", dtype, steps=[1, 3])
    assert max(found[step, "difference_ratio"] for step in (1, 3)) < bound < 0.05 < found[3, "control_ratio"]


def test_the_second_order_is_nothing_at_first_and_grows_with_the_rate():
    small, large = (measured("second_order", "lr", steps=2, lr=lr) for lr in (0.1, 0.2))
    assert small[1, "second_order_share"] == 0  # B is
    # On the second step B is in proportion to the rate, so the share is to its square.
    assert large[2, "second_order_share"] == pytest.approx(4 * small[2, "second_order_share"], rel=0.2)


def test_the_variance_of_draws_is_that_of_the_formula():
    draws = 2000
    found = measured("variance", "resampled_2", rank=2, draws=draws)
    formulas = {"one_sided": (INPUTS + 1) / 2, "two_sided": (INPUTS + OUTPUTS + 2) / 8}
    for side, formula in formulas.items():
        assert found[1, f"{side}_variance_ratio"] == pytest.approx(formula, rel=5 / sqrt(draws))


def test_a_larger_rank_stands_a_larger_rate():
    low, high = (measured("cliff", "resampled", rank=r, steps=20)[20, "largest_lr"] for r in (1, 16))
    assert 0 < low < high < 2


def test_runs_take_the_first_seeds():
    study = Forms.model_validate(CPU["forms"])
    assert {run.seed for run in study.runs(CPU["seeds"])} == set(CPU["seeds"][: study.num_seeds])


def test_the_figure_draws_theory_for_the_matrix_that_is_measured():
    assert (figures.INPUTS, figures.OUTPUTS) == (INPUTS, OUTPUTS)

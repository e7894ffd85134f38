"""A check as a run: which one is executed, and that a failing one is not made to pass."""

import math

import pytest

from paperkit.checks import Check
from paperkit.identities import measure_check
from paperkit.runs import Measurement, Run

CHECKS = {"holds": lambda: Check(1e-16, 0.3), "fails": lambda: Check(0.5, math.nan)}


def test_the_arm_names_the_check_and_both_errors_are_measured():
    run = Run("identities", "holds", 0, {})
    assert list(measure_check(run, CHECKS)) == [
        Measurement("none", 0, "max_error", 1e-16),
        Measurement("none", 0, "control_error", 0.3),
    ]


def test_errors_are_passed_on_as_they_are():
    of, control = measure_check(Run("identities", "fails", 0, {}), CHECKS)
    assert of.value == 0.5
    assert math.isnan(control.value)


def test_a_check_that_is_not_there_is_an_error_that_names_it():
    with pytest.raises(KeyError, match="missing"):
        list(measure_check(Run("identities", "missing", 0, {}), CHECKS))

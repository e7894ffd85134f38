"""The notebook's formula gives what its cells give, and its grid what a search by hand finds."""

import numpy as np
import pytest

from replications.wasserstein_bound.notebook import BETA, SIGNAL, Clusters, log_growth_and_intercept


def test_the_schedule_is_the_sigmoid_of_ten_steps_and_keeps_most_of_the_signal() -> None:
    assert len(BETA) == 10
    assert pytest.approx([1e-5 + 0.00999 / (1 + np.exp(6)), 1e-5 + 0.00999 / (1 + np.exp(-6))]) == BETA[[0, -1]]
    assert SIGNAL[-1] == pytest.approx(np.exp(-BETA.sum()), rel=1e-3)
    assert SIGNAL[-1] > 0.94


def test_growth_and_intercept_of_a_constant_are_sums_by_hand_and_a_large_one_does_not_overflow() -> None:
    growth, intercept = log_growth_and_intercept(np.full(10, 3.0))
    log_i = 3.5 * np.cumsum(BETA)
    assert growth == pytest.approx(log_i[-1], rel=1e-14)
    assert intercept == pytest.approx(0.5 * np.log(2 * (BETA * np.exp(log_i) ** 2).sum()), rel=1e-12)
    growth, intercept = log_growth_and_intercept(np.full(10, 1e6))
    assert np.isfinite(intercept)
    assert intercept == pytest.approx(growth + 0.5 * np.log(2 * BETA[-1]), rel=1e-9)


def test_the_largest_quotient_is_that_of_a_loop_over_pairs() -> None:
    data, axis = Clusters(), np.array([0.0, 0.1, 0.5])
    points = [np.array([x, y]) for x in axis for y in axis]
    step = 4
    found = max(
        (data.score(p)[step] - data.score(q)[step]) @ (p - q) / ((p - q) @ (p - q))
        for p in points for q in points if p is not q
    )  # fmt: skip
    assert data.on_grid(axis)[step] == pytest.approx(found, rel=1e-12)

from fractions import Fraction

import numpy as np
import pytest

from replications.sector_points.checks import exact_sum
from replications.sector_points.experiment import in_one_sector
from replications.sector_points.sector import probability_gaps_below, probability_in_sector, smallest_sector


@pytest.mark.parametrize(("n", "share"), [(2, 0.4), (4, 0.5), (30, 0.95), (30, 0.55), (1000, 0.993)])
def test_the_probability_is_the_exact_sum_on_both_of_its_ways(n, share):
    exact = float(exact_sum(n, 1 - Fraction(share)))
    assert probability_in_sector(n, [2 * np.pi * share]) == pytest.approx([exact], rel=1e-15 * n + 1e-14, abs=0)


def test_the_ends_are_exact():
    assert probability_in_sector(1, 0.0) == 1
    assert probability_in_sector(2, [[0.0, 2 * np.pi]]).tolist() == [[0.0, 1.0]]
    assert probability_gaps_below(7, 1 / 7.5) == 0


@pytest.mark.soak
def test_values_do_not_underflow_on_the_way():  # as those of the recursion not scaled to probabilities do
    n, x = 5000, 7.5 / 5000
    assert probability_gaps_below(n, x) == pytest.approx(1 - float(exact_sum(n, x)), rel=1e-11, abs=0)


def test_the_smallest_sector_holds_all_points_and_no_smaller_one_does():
    points = np.random.default_rng(1).standard_normal((50, 5, 2))
    angle, edge = smallest_sector(points)
    for each, size, start in zip(points, angle, edge, strict=True):
        turn = (np.arctan2(each[:, 1], each[:, 0]) - start) % (2 * np.pi)
        assert turn.max() == pytest.approx(size)
        assert [in_one_sector(each[None], size + extra)[0] for extra in (-1e-9, 1e-9)] == [False, True]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: probability_in_sector(0, 1.0), "n must be"),
        (lambda: probability_in_sector(2.5, 1.0), "n must be"),
        (lambda: probability_in_sector(3, [1.0, np.nan]), "angle"),
        (lambda: probability_in_sector(3, 7.0), "angle"),
        (lambda: probability_gaps_below(3, np.inf), "x must be"),
        (lambda: smallest_sector([[0.0, 0.0]]), "origin"),
        (lambda: smallest_sector([1.0, 2.0]), "shape"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=name):
        call()

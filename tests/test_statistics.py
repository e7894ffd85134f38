"""paperkit.statistics: power by simulation, equality with scipy and statsmodels, invariances."""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from paperkit.statistics import Interval, achieved_power, equivalence_p, holm, paired_interval, seeds_needed

REPLICATES = 20_000
unhurried = settings(deadline=None)  # the machine is shared


def simulated_seeds(n: int, mean: float = 0.0, sd: float = 1.0) -> np.ndarray:
    return np.random.default_rng([20261122, n]).normal(mean, sd, (REPLICATES, n))


def interval_of(values: object, bound: float = 0.0) -> Interval:
    interval = paired_interval(values, bound)
    assert interval is not None
    return interval


def test_one_seed_has_no_interval():
    assert paired_interval([0.2]) is None


@pytest.mark.parametrize(("bound", "p"), [(0.1, 1.0), (0.0, 0.0)])
def test_equal_seeds_give_an_interval_of_no_length(bound, p):
    # 0.1 three times: a rounded mean and its spread of one last bit must not reach the verdict.
    assert interval_of([0.1, 0.1, 0.1], bound) == Interval(0.1, 0.1, 0.1, 0.1, 0.1, 3, p)


@pytest.mark.parametrize(("value", "p"), [(0.05, 0.0), (0.1, 1.0), (0.3, 1.0), (-0.1, 1.0)])
def test_equal_seeds_are_equivalent_only_strictly_inside_the_margin(value, p):
    assert equivalence_p([value] * 4, margin=0.1) == p


def test_holm_equals_that_of_statsmodels_with_ties_too(monkeypatch):
    # multipletests collects garbage at each call: half a second in a process that has tested much.
    monkeypatch.setattr(gc, "collect", lambda: 0)
    for p_values in np.random.default_rng(0).integers(0, 12, (200, 5)) / 11:
        np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1], rtol=1e-15)


def simulated_power(n, sd, margin, equivalence):
    test = stats.ttest_1samp(simulated_seeds(n, 0.0 if equivalence else margin, sd), 0, axis=1)
    if not equivalence:
        return float(np.mean(test.confidence_interval(0.95).low > 0))
    narrow = test.confidence_interval(0.90)
    return float(np.mean((-margin < narrow.low) & (narrow.high < margin)))


@pytest.mark.parametrize("equivalence", [False, True])
@pytest.mark.parametrize(("sd", "margin"), [(0.1, 0.1), (0.1, 0.06), (0.2, 0.3)])
def test_the_seeds_needed_reach_the_power_and_one_fewer_does_not(sd, margin, equivalence):
    n = seeds_needed(sd, margin, equivalence=equivalence)
    assert simulated_power(n, sd, margin, equivalence) > 0.79
    assert simulated_power(n - 1, sd, margin, equivalence) < 0.81


def test_the_seeds_for_an_effect_agree_with_statsmodels():
    solved = TTestPower().solve_power(effect_size=0.5, power=0.9, alpha=0.05, alternative="two-sided")
    assert seeds_needed(sd=2.0, margin=1.0, power=0.9) == int(np.ceil(solved))


@pytest.mark.parametrize("equivalence", [False, True])
def test_the_seeds_needed_are_the_fewest_that_achieve_the_power(equivalence):
    n = seeds_needed(0.1, 0.08, power=0.9, equivalence=equivalence)
    achieved = [achieved_power(0.1, 0.08, seeds, equivalence=equivalence) for seeds in (n - 1, n)]
    assert achieved[0] < 0.9 <= achieved[1]


def test_an_enormous_effect_needs_two_seeds_and_a_small_one_many():
    assert seeds_needed(sd=1e-6, margin=1.0) == 2
    assert seeds_needed(sd=1e-6, margin=1.0, equivalence=True) == 2
    assert 370 < seeds_needed(sd=0.137, margin=0.02) < 380


values_of_seeds = st.lists(st.integers(-1000, 1000), min_size=2, max_size=12).map(lambda v: np.array(v) / 100)
ENDS = ("estimate", "low", "high", "low90", "high90")


@unhurried
@given(
    values_of_seeds.filter(lambda values: np.ptp(values) > 0),
    st.integers(-300, 300).map(lambda b: b / 100 + 0.001),
    st.integers(1, 800).map(lambda m: m / 100 + 0.001),
)
def test_interval_p_and_both_one_sided_tests_equal_those_of_scipy(values, bound, margin):
    ours, test = interval_of(values, bound), stats.ttest_1samp(values, bound)
    wide, narrow = test.confidence_interval(0.95), test.confidence_interval(0.90)
    expected = [values.mean(), wide.low, wide.high, narrow.low, narrow.high]
    np.testing.assert_allclose([getattr(ours, end) for end in ENDS], expected, rtol=1e-9, atol=1e-12)
    assert (ours.n, ours.p) == (len(values), pytest.approx(test.pvalue, rel=1e-6))
    above = stats.ttest_1samp(values, bound - margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, bound + margin, alternative="less").pvalue
    assert equivalence_p(values, margin, bound) == pytest.approx(max(above, below), rel=1e-6)


@unhurried
@given(values_of_seeds, st.integers(-500, 500).map(lambda b: b / 100), st.integers(-900, 900))
def test_a_power_of_two_as_unit_changes_no_bit(values, bound, exponent):
    before = interval_of(values, bound)
    after = interval_of(np.ldexp(values, exponent), np.ldexp(bound, exponent))
    assert [getattr(after, end) for end in ENDS] == [np.ldexp(getattr(before, end), exponent) for end in ENDS]
    assert after.p == before.p
    margins = 0.5, float(np.ldexp(0.5, exponent))
    scaled = equivalence_p(np.ldexp(values, exponent), margins[1], np.ldexp(bound, exponent))
    assert scaled == equivalence_p(values, margins[0], bound)


def test_a_bound_far_beyond_the_seeds_is_excluded_and_one_far_below_them_is_zero():
    assert interval_of([1e-200, 2e-200, 4e-200], bound=1e200).p == 0
    assert interval_of([1e200, 2e200, 4e200], bound=1e-200).p == interval_of([1e200, 2e200, 4e200]).p
    assert equivalence_p([1e-200, 2e-200], margin=1e200) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_interval([]), "differences has 0 values and needs at least 1"),
        (lambda: paired_interval([0.1, float("nan")]), r"differences\[1\] is nan; only finite"),
        (lambda: paired_interval([float("inf"), 0.1]), r"differences\[0\] is inf; only finite"),
        (lambda: paired_interval([[0.1, 0.2]]), r"differences has shape \(1, 2\)"),
        (lambda: paired_interval([0.1, 0.2], float("nan")), "bound is nan"),
        (
            lambda: paired_interval([1e308, -1e308]),
            r"size 2\^1024, and their interval leaves float64",
        ),
        (lambda: paired_interval([5e-324, 1e-322]), r"size 2\^-1069.*give them another unit"),
        (lambda: achieved_power(0.0, 0.1, 5), "sd is 0.0"),
        (lambda: equivalence_p([0.1], 0.1), "differences has 1 values and needs at least 2; run more seeds"),
        (lambda: equivalence_p([0.1, 0.2], 0), "margin is 0; give a finite number above 0"),
        (lambda: equivalence_p([0.1, 0.2], 0.1, float("inf")), "bound is inf"),
        (lambda: holm([]), "p_values has 0 values"),
        (lambda: holm([0.1, 1.2]), r"p_values holds \[0.1, 1.2\]"),
        (lambda: holm([-0.1]), r"p_values holds \[-0.1\]"),
        (lambda: holm([0.1, float("nan")]), r"p_values\[1\] is nan"),
        (lambda: seeds_needed(0.0, 0.1), "sd is 0.0"),
        (lambda: seeds_needed(0.1, -1.0), "margin is -1.0"),
        (lambda: seeds_needed(0.1, float("inf")), "margin is inf"),
        (lambda: seeds_needed(0.1, 0.1, power=1.0), "power is 1.0"),
        (lambda: seeds_needed(0.1, 0.1, alpha=0.5), "alpha is 0.5"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()

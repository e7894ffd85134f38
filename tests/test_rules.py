"""paperkit.claims.rules: from the numbers of a test to its word, its p, its reason and what would turn the word."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperkit.claims.rules import EffectTest, Verdict, evaluate, vary
from paperkit.results import ResultsError
from paperkit.statistics import Interval
from tests.made_up_claims import EQUIVALENT, GREATER, IDENTITY, LESS, REPORT, SLOPE, WITHIN, judged, parsed, seeds


def interval(low, low90, estimate, high90, high):
    return Interval(estimate, low, high, low90, high90, n=8, p=0.5)


# low, low90, estimate, high90, high, for margin 1; the order decides where two conditions are true at once.
# Multiples of 1/8, so that adding a bound keeps every boundary exact.
EFFECTS = [
    ((-0.5, -0.375, -0.25, -0.25, -0.125), "contradicted"),  # and the 90 % interval inside the margin
    ((-0.5, -0.375, -0.25, -0.125, 0.0), "no difference"),  # u = 0 is not below 0
    ((0.125, 0.25, 1.0, 1.75, 1.875), "holds"),  # x = m
    ((0.125, 0.25, 0.875, 1.75, 1.875), "holds, smaller"),
    ((0.125, 0.25, 0.375, 0.5, 0.75), "holds, smaller"),  # and the 90 % interval inside the margin
    ((0.0, 0.25, 0.375, 0.5, 0.75), "no difference"),  # l = 0 is not above 0
    ((-1.25, -0.875, 0.0, 0.875, 1.25), "no difference"),  # the 95 % interval may leave the margin
    ((-1.25, -1.0, 0.0, 0.875, 1.25), "inconclusive"),  # the margin itself is outside
    ((-1.25, -0.875, 0.0, 1.0, 1.25), "inconclusive"),
    ((-1.0, 0.5, 1.5, 2.5, 4.0), "inconclusive"),
    ((0.0, 0.0, 0.0, 0.0, 0.0), "no difference"),  # seeds without spread
]


@pytest.mark.parametrize(("ends", "word"), EFFECTS)
@pytest.mark.parametrize("bound", [0.0, 4.0, -0.5])
def test_a_claimed_effect_is_judged_in_the_stated_order(ends, word, bound):
    greater = EffectTest.model_validate(GREATER | {"bound": bound, "margin": 1.0})
    less = EffectTest.model_validate(LESS | {"bound": bound, "margin": 1.0})
    assert greater.judge(interval(*(bound + end for end in ends))) == word
    assert less.judge(interval(*(bound - end for end in reversed(ends)))) == word


INTERVALS = [
    (SLOPE, (0.01, 0.02, 0.03, 0.04, 0.05), "holds"),
    (SLOPE, (0.0, 0.02, 0.03, 0.04, 0.05), "inconclusive"),
    (SLOPE, (-0.05, -0.04, -0.03, -0.02, 0.0), "inconclusive"),
    (SLOPE, (-0.05, -0.04, -0.03, -0.02, -0.01), "contradicted"),
    (EQUIVALENT, (-0.12, -0.09, 0.0, 0.09, 0.12), "holds"),
    (EQUIVALENT, (0.01, 0.02, 0.03, 0.04, 0.05), "holds"),  # a difference, but one that does not matter
    (EQUIVALENT, (-0.12, -0.1, 0.0, 0.09, 0.12), "inconclusive"),
    (EQUIVALENT, (-0.12, -0.09, 0.0, 0.1, 0.12), "inconclusive"),
    (EQUIVALENT, (0.1, 0.12, 0.15, 0.18, 0.2), "contradicted"),
    (EQUIVALENT, (0.09, 0.12, 0.15, 0.18, 0.2), "inconclusive"),
    (EQUIVALENT, (-0.2, -0.18, -0.15, -0.12, -0.1), "contradicted"),
    (EQUIVALENT, (-0.2, -0.18, -0.15, -0.12, -0.09), "inconclusive"),
    (WITHIN, (0.4, 0.45, 0.5, 0.55, 0.6), "holds"),
    (WITHIN, (0.39, 0.45, 0.5, 0.55, 0.6), "inconclusive"),
    (WITHIN, (0.4, 0.45, 0.5, 0.55, 0.61), "inconclusive"),
    (WITHIN, (0.6, 0.65, 0.7, 0.75, 0.8), "inconclusive"),
    (WITHIN, (0.61, 0.65, 0.7, 0.75, 0.8), "contradicted"),
    (WITHIN, (0.1, 0.2, 0.25, 0.3, 0.4), "inconclusive"),
    (WITHIN, (0.1, 0.2, 0.25, 0.3, 0.39), "contradicted"),
]


@pytest.mark.parametrize(("test", "ends", "word"), INTERVALS)
def test_sign_equality_and_range_are_judged_by_the_ends(test, ends, word):
    assert parsed(test).judge(interval(*ends)) == word


# --- rounding decides nothing -------------------------------------------------------------------------------

ROUNDED = [4.33 - 4.28, 4.39 - 4.34]  # 0.05 twice, were it not for the last bits
SUM = [0.1 + 0.2] * 5  # above 0.3 by one bit
BY_ROUNDING = [
    (SLOPE | {"bound": 0.05}, ROUNDED),
    (GREATER | {"bound": 0.05}, ROUNDED),
    (LESS | {"bound": 0.05}, ROUNDED),
    (EQUIVALENT | {"margin": 0.05}, ROUNDED),
    (SLOPE | {"bound": 0.3}, SUM),
    (LESS | {"bound": 0.3}, SUM),
    (GREATER | {"margin": 0.3}, SUM),
    (EQUIVALENT | {"margin": 0.3}, SUM),
    (WITHIN | {"low": 0.3}, SUM),
    (WITHIN | {"low": 0.1, "high": 0.3}, SUM),
]


def scaled(test, exponent):
    """Give the numbers of a test the unit 2^exponent."""
    numbers = {key: value for key, value in test.items() if isinstance(value, int | float)}
    return test | {key: float(np.ldexp(value, exponent)) for key, value in numbers.items()} | {"pilot_sd": None}


@pytest.mark.parametrize(("test", "numbers"), BY_ROUNDING)
@pytest.mark.parametrize("exponent", [0, -600, 600])
def test_rounding_decides_nothing_and_the_reason_says_so(test, numbers, exponent):
    result = judged(scaled(test, exponent), np.ldexp(numbers, exponent))
    assert (result.verdict, result.p) == ("inconclusive", 1.0)
    assert "rounding would decide between " in result.reason


@pytest.mark.parametrize(("test", "numbers"), BY_ROUNDING)
@pytest.mark.parametrize("gap", [-1e-6, 1e-6])
def test_a_small_gap_that_is_no_rounding_decides(test, numbers, gap):
    assert "rounding" not in judged(test, np.add(numbers, gap)).reason


hundredths = st.integers(-60, 60).map(lambda number: number / 100)
equal_seeds = st.builds(lambda value, n: [value] * n, hundredths, st.integers(2, 7))


@settings(deadline=None)
@given(
    st.sampled_from([GREATER, LESS, SLOPE, EQUIVALENT, WITHIN]),
    st.lists(hundredths, min_size=2, max_size=7) | equal_seeds,
    hundredths,
    st.integers(-700, 700),
)
def test_words_and_p_are_free_of_the_unit(test, numbers, bound, exponent):
    test = test if test is WITHIN else test | {"bound": bound}
    before, after = judged(test, numbers), judged(scaled(test, exponent), np.ldexp(numbers, exponent))
    assert (after.verdict, after.p) == (before.verdict, before.p)
    flips = before.record["flip"], after.record["flip"]
    assert flips[0]["without"] == flips[1]["without"]
    assert flips[1]["value"] == (flips[0]["value"] and np.ldexp(flips[0]["value"], exponent))


# --- how little turns a word --------------------------------------------------------------------------------

THRESHOLDS = [
    (GREATER, "margin", [0.2, 0.05], 0.2),
    (LESS | {"bound": 0.5}, "margin", [0.2, 0.05], 0.3),
    (GREATER, "bound", [0.06, 0.05], 0.01),
    (LESS | {"bound": 0.5}, "bound", [0.44, 0.05], 0.49),
    (SLOPE, "bound", [0.2, 0.05], 0.15),
    (LESS | {"margin": None}, "bound", [-0.2, 0.05], -0.15),
    (GREATER, "bound", [-0.2, 0.05], -0.15),
    (LESS, "bound", [0.2, 0.05], 0.15),
    (EQUIVALENT, "margin", [0.2, 0.05], 0.15),
    (EQUIVALENT, "margin", [-0.2, 0.05], 0.15),
    (WITHIN, "bound", [0.48, 0.05], 0.43),
    (WITHIN, "bound", [0.52, 0.05], 0.57),
    (WITHIN, "bound", [0.8, 0.05], 0.75),
    (WITHIN, "bound", [0.2, 0.05], 0.25),
]


@pytest.mark.parametrize(("test", "threshold", "numbers", "value"), THRESHOLDS)
def test_the_flip_distance_names_where_the_word_falls(test, threshold, numbers, value):
    result = judged(test, seeds(*numbers))
    flip = result.record["flip"]
    assert (flip["threshold"], flip["value"]) == (threshold, pytest.approx(value))
    moved = ("margin",) if threshold == "margin" else ("bound", "low", "high")
    key = min((key for key in moved if test.get(key) is not None), key=lambda key: abs(test[key] - value))
    words = {judged(test | {key: value + step}, seeds(*numbers)).verdict for step in (-1e-6, 1e-6)}
    assert result.verdict in words
    assert len(words) == 2


@pytest.mark.parametrize(("test", "word"), [(GREATER, "no difference"), (EQUIVALENT, "holds")])
@pytest.mark.parametrize("estimate", [-0.02, 0.02])
def test_equality_falls_at_the_margin_that_the_90_percent_interval_reaches(test, word, estimate):
    result = judged(test, seeds(estimate, 0.06))
    assert result.verdict == word
    reached = max(-result.record["low90"], result.record["high90"])
    assert result.record["flip"] == {"without": [], "threshold": "margin", "value": pytest.approx(reached)}


@pytest.mark.parametrize(
    ("numbers", "without"),
    [
        ([0.3, 0.0, 0.09, 0.08, 0.1, 0.09, 0.11, 0.1], [0]),  # a mean of 0.109, of 0.081 without the first
        ([0.2, 0.2001], [0, 1]),
    ],
)
def test_the_seeds_are_named_without_which_the_word_would_be_another(numbers, without):
    result = judged(GREATER, numbers)
    assert result.verdict == "holds"
    assert result.record["flip"]["without"] == without


@pytest.mark.parametrize(
    ("test", "numbers"), [(REPORT, [0.1, 0.2]), (GREATER, [0.1]), (GREATER, []), (GREATER, [0.1, 0.2, float("nan")])]
)
def test_a_test_without_a_word_has_no_flip_distance(test, numbers):
    assert "flip" not in judged(test, numbers).record


def test_an_inconclusive_test_has_no_word_that_could_fall():
    flip = judged(GREATER, seeds(0.0, 0.2)).record["flip"]
    assert flip == {"without": [], "threshold": None, "value": None}


UNDER_VARIATION = [
    (GREATER, [0.2, 0.05], "holds", [[0.15, 0.3]], [[0.05, 0.2], [0.05, 0.01], [-0.2, 0.05]]),
    (LESS, [-0.2, 0.05], "holds", [[-0.15, 0.3]], [[-0.05, 0.2], [0.2, 0.05]]),
    (LESS | {"bound": 0.5}, [0.3, 0.05], "holds", [[0.35, 0.3]], [[0.45, 0.2], [0.7, 0.05]]),
    (SLOPE, [0.2, 0.05], "holds", [[0.01, 0.2], [-0.01, 0.2]], [[-0.2, 0.05]]),
    (GREATER, [0.06, 0.05], "holds, smaller", [[0.01, 0.2], [-0.01, 0.2], [0.3, 0.1]], [[-0.06, 0.05]]),
    (GREATER, [-0.2, 0.05], "contradicted", [[-0.15, 0.3]], [[-0.05, 0.2], [-0.05, 0.01], [0.06, 0.05]]),
    (GREATER, [-0.06, 0.05], "contradicted", [[-0.01, 0.1], [0.01, 0.1]], [[0.06, 0.05]]),
    (SLOPE, [-0.2, 0.05], "contradicted", [[-0.01, 0.1], [0.01, 0.1]], [[0.06, 0.05]]),
    (GREATER, [0.0, 0.1], "no difference", [[0.05, 0.5], [-0.05, 0.5]], [[0.15, 0.5], [-0.15, 0.5]]),
    (EQUIVALENT, [0.0, 0.05], "holds", [[0.05, 0.5]], [[0.15, 0.5], [-0.15, 0.5]]),
    (EQUIVALENT | {"bound": 0.5}, [0.5, 0.05], "holds", [[0.55, 0.5]], [[0.65, 0.5]]),
    (EQUIVALENT, [0.2, 0.05], "contradicted", [[0.15, 0.5]], [[0.05, 0.2]]),
    (WITHIN, [0.5, 0.05], "holds", [[0.55, 0.5]], [[0.65, 0.5], [0.35, 0.5]]),
    (WITHIN, [0.8, 0.05], "contradicted", [[0.65, 0.5]], [[0.55, 0.5]]),
]


@pytest.mark.parametrize(("test", "numbers", "word", "standing", "flipping"), UNDER_VARIATION)
def test_a_variation_flips_the_word_where_it_denies_what_decided(test, numbers, word, standing, flipping):
    def under(other):
        return vary(parsed(test), judged(test, seeds(*numbers)), Verdict(word), pd.Series(seeds(*other)))[1]

    assert [under(other) for other in standing] == [False] * len(standing)
    assert [under(other) for other in flipping] == [True] * len(flipping)


# --- identities, and what an estimand must return -----------------------------------------------------------


def checks(*errors, names=("signum",)):
    table = zip(("max_error", "control_error"), np.reshape(errors, (-1, len(names))).tolist(), strict=False)
    return pd.DataFrame(dict(table), index=list(names))


@pytest.mark.parametrize(("error", "word"), [(0.0, "holds"), (1e-12, "holds"), (1.1e-12, "contradicted")])
def test_an_identity_holds_up_to_its_tolerance(error, word):
    result = evaluate(parsed(IDENTITY), checks(error, 0.5))
    assert result.verdict == word
    assert result.record == IDENTITY | {
        "unit": None, "max_error": error, "control_error": 0.5, "control_failed": True
    }  # fmt: skip


def test_the_worst_check_and_the_weakest_control_stand_for_an_identity():
    result = evaluate(parsed(IDENTITY), checks(0.0, 1e-3, 0.0, 0.5, 0.4, 0.3, names="abc"))
    assert result.verdict == "contradicted"
    assert (result.record["max_error"], result.record["control_error"]) == (1e-3, 0.3)
    assert "check b" in result.reason


@pytest.mark.parametrize(
    ("test", "returned", "message"),
    [
        (GREATER, [0.1, 0.2], "estimand gap returned list; it must return a Series"),
        (GREATER, pd.Series([0.1, 0.2], index=[0, 0]), "estimand gap .*without repetition"),
        (GREATER, pd.Series([0.1, 0.2], index=["a", "b"]), "estimand gap .*whole-number seeds"),
        (GREATER, pd.Series([0.1, float("inf")]), "estimand gap is infinite"),
        (GREATER, pd.Series([1.7e308, -1.7e308]), r"estimand gap: .*size 2\^1024, .*give them another unit"),
        (IDENTITY, pd.Series([0.1]), "estimand algebra returned Series .*must return a DataFrame with"),
        (IDENTITY, checks(0.1), "estimand algebra returned DataFrame .*must return a DataFrame with"),
        (IDENTITY, checks(0.1, float("nan")), "estimand algebra .*finite and at least 0"),
        (IDENTITY, checks(float("inf"), 1.0), "estimand algebra .*finite and at least 0"),
        (IDENTITY, checks(-0.1, 1.0), "estimand algebra .*finite and at least 0"),
        (IDENTITY, checks(1e-15, 0.0), "estimand algebra, check signum: the negative control passes"),
        (IDENTITY, checks(1e-15, 1e-12), "estimand algebra, check signum: the negative control passes"),
    ],
)
def test_an_estimand_that_breaks_its_contract_is_refused_by_name(test, returned, message):
    with pytest.raises(ResultsError, match=message):
        evaluate(parsed(test), returned)


@pytest.mark.parametrize(("test", "empty"), [(GREATER, pd.Series()), (IDENTITY, pd.DataFrame())])
def test_an_empty_table_without_columns_is_an_experiment_that_was_not_run(test, empty):
    result = evaluate(parsed(test), empty)
    assert (result.verdict, result.seeds) == (None, {})
    assert result.reason.startswith("not yet run: ")


def test_seeds_are_sorted_whatever_the_estimand_returns():
    result = evaluate(parsed(GREATER), pd.Series(seeds(0.2, 0.05, 5), index=[14, 10, 12, 11, 13]))
    assert result.record["seeds"] == [10, 11, 12, 13, 14]


def test_a_range_is_kept_beside_the_interval():
    record = judged(WITHIN, seeds(0.5, 0.05)).record
    assert (record["range"], record["low"]) == ([0.4, 0.6], pytest.approx(0.45))

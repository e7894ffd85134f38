import numpy as np
import pytest

from paperkit.statistics import achieved_power, paired_interval
from replications.placebo.chances import RULES, WORDS, _intervals, chances, differ
from replications.placebo.experiment import declared


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [3, 8])
def test_a_word_has_the_averages_for_which_the_chain_gives_it(rule, n):
    test = declared(RULES, n, 1.0)[RULES.index(rule)].tests[0]
    shape = np.linspace(-1, 1, n)
    shape /= shape.std(ddof=1)
    for s in (0.05, 0.4, 0.9, 2.5):
        unit = paired_interval(s * shape)
        for average in np.linspace(-4, 4, 97) + 0.011:
            said = test.judge(paired_interval(average + s * shape)).replace(", ", "_").replace(" ", "_")
            parts = {word: _intervals(rule, word, unit.high, unit.high90, 1.0) for word in WORDS[rule]}
            sign = -1 if rule == "less" else 1
            found = [word for word in parts if any(low < sign * average < high for low, high in parts[word])]
            assert found == [said] * (said != "inconclusive")


@pytest.mark.parametrize("equivalence", [True, False])
def test_the_declared_power_is_the_chance_of_the_word(equivalence):
    for n in (5, 8):
        found = chances("equivalent" if equivalence else "greater", n=n, sd=0.9, mean=1.0 - equivalence, margin=1.0)
        declared_power = achieved_power(0.9, 1.0, n, equivalence=equivalence)
        assert found["holds"] + found.get("holds_smaller", 0) == pytest.approx(declared_power, abs=2e-3)


def test_less_mirrors_greater():
    arguments = {"n": 5, "sd": 0.7, "margin": 1.0, "selection_sd": 0.2}
    assert chances("less", mean=-0.6, **arguments) == pytest.approx(chances("greater", mean=0.6, **arguments))


def test_what_two_searches_add_raises_the_level_more_with_more_seeds():
    levels = [differ(chances("slope", n=n, sd=1.0, mean=0.0, margin=1.0, selection_sd=0.5)) for n in (3, 5, 8, 20)]
    assert levels == sorted(levels)
    assert levels[0] > 0.05

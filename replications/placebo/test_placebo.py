from pathlib import Path

import numpy as np
import pytest

from paperkit.config import read_profile
from paperkit.runs import Run
from replications.placebo import experiment
from replications.placebo.chances import WORDS
from replications.placebo.experiment import (
    AGAIN,
    MAIN,
    Config,
    broken_bootstrap,
    conditions,
    declared,
    judge,
    measure,
    measure_report,
    repeat,
)

SETTING = read_profile(Config, Path(__file__).with_name("params.yaml"), "smoke").setting


def changed(**changes):
    return SETTING.model_copy(update=changes)


def test_names_that_share_everything_agree_to_the_last_bit_and_the_chain_says_so():
    gaps, same, _ = repeat(7, changed(own=[]))
    assert same
    assert not gaps.any()
    words = dict(zip(WORDS, judge(declared(tuple(WORDS), 8, 0.02), [gaps]), strict=True))
    assert words["equivalent"] == words["within"] == words["not_worse"] == "holds"
    # Differences of exactly zero leave it to rounding on which side of zero they lie.
    assert words["greater"] == words["less"] == words["slope"] == "inconclusive"


def test_what_is_planted_moves_every_difference_by_one_margin_and_no_selection():
    (plain, same, _), (planted, still_same, _) = repeat(7, SETTING), repeat(7, changed(planted=1.0))
    np.testing.assert_allclose(planted - plain, SETTING.margin, atol=1e-12)
    assert still_same == same


def test_every_race_and_the_report_have_seeds_of_their_own_within_those_of_the_repetition(monkeypatch):
    seen, measure_loss = {"validation": set(), "test": set()}, experiment.measure_loss
    noted = lambda run, split: seen[split].add(run.seed) or measure_loss(run, split)  # noqa: E731
    monkeypatch.setattr(experiment, "measure_loss", noted)
    repeat(7, changed(races=8))
    assert seen["validation"] == {700 + 10 * race + seed for race in range(8) for seed in range(3)}
    assert seen["test"] == set(range(790, 798))


def test_the_second_name_may_be_made_to_report_with_the_setting_of_the_first():
    apart = next(number for number in range(50) if not repeat(number, SETTING)[1])
    gaps, *_ = repeat(apart, changed(own=[], second_reports="that of the first"))
    assert not gaps.any()


def test_picking_on_reported_seeds_never_makes_the_second_name_look_worse():
    for number in range(5):
        picked, *_ = repeat(number, changed(second_reports="the best reported"))
        assert picked.mean() <= repeat(number, SETTING)[0].mean()


def test_training_takes_the_loss_far_below_that_of_guessing():
    task = {"images": 200, "steps": 60, "batch": 16, "own": [], "planted_nats": 0.0, "lr": 5.0, "decay": 1e-4}
    assert next(measure_report(Run("placebo", "first", 3, task))).value < 0.5


def test_three_seeds_are_judged_as_if_they_were_enough():
    assert judge(declared(("greater",), 3, 0.1), [np.array([0.20, 0.21, 0.22])]) == ["holds"]


def test_a_family_of_four_is_corrected_together():
    clear = np.array([0.30, 0.06, 0.02, 0.25, 0.01, 0.09, 0.0, 0.12])
    noise = np.array([0.1, -0.1] * 4)
    assert judge(declared(("greater",), 8, 0.1), [clear]) == ["holds"]
    words = judge(declared(("greater",) * 4, 8, 0.1, primary=True), [clear, noise, noise, noise])
    assert words[0] == "inconclusive"


def test_a_word_that_another_race_could_turn_is_fragile():
    gap, tight = np.array([0.10, 0.13, 0.12, 0.09, 0.11, 0.14, 0.12, 0.10]), {1: [0.5, 0.6], 2: [2.5, 2.6]}
    losses = {"clear": tight, "noisy": {1: [0.5, 0.8], 2: [0.9, 0.7]}}
    ledgers = {
        race: [
            {"arm": name, "metric": "loss_nats", "trial": trial, "seed": seed, "value": loss}
            for name in experiment.NAMES
            for trial, of_trial in of_race.items()
            for seed, loss in enumerate(of_trial)
        ]
        for race, of_race in losses.items()
    }
    claims = declared(("greater",), 8, 0.1, primary=True)
    assert judge(claims, [gap], [ledgers["clear"]]) == ["holds"]
    assert judge(claims, [gap], [ledgers["noisy"]]) == ["holds_fragile"]


def test_the_bootstrap_is_too_narrow_for_five_normal_seeds():
    gaps = np.random.default_rng(0).standard_normal((400, 5))
    assert broken_bootstrap(gaps, 1, resamples=500) > 0.1


@pytest.mark.parametrize("name", conditions(SETTING))
def test_a_block_measures_the_share_of_every_word(name):
    config = {**SETTING.model_dump(), **conditions(SETTING)[name], "repetitions": 4}
    shares = {one.metric: one.value for one in measure(Run("placebo", name, 1, config))}
    assert all(0 <= value <= 1 for metric, value in shares.items() if metric.endswith("_share"))
    if name.startswith(AGAIN):
        assert shares["greater_8_differ_share"] <= shares["greater_8_differ_or_fragile_share"]
    for rule in WORDS if name in MAIN[:2] else ("greater", "equivalent"):
        assert sum(shares[f"{rule}_8_{word}_share"] for word in WORDS[rule]) <= 1

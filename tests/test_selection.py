"""What another race would have selected, and the interval with that in it."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paperkit.claims import selection
from paperkit.claims.declarations import Claim
from paperkit.claims.rules import Difference
from paperkit.claims.selection import selection_variance, variance_of_difference
from paperkit.claims.verdicts import ANOTHER_RACE, judge_runs
from paperkit.runs import Runner
from paperkit.statistics import paired_interval, widened
from paperkit.tuning import LogRange, Search, Tuning, tune
from tests.made_up_claims import GREATER, claim, primary, seeds

SAID = Difference(experiment="lm", of="lion", minus="adamw", metric="loss_nats", split="test")
CLOSE = [{1: 0.0, 2: 0.2}, {1: 0.3, 2: 0.1}]  # means 0.1 and 0.2; σ² = 4 · 0.1²


def table(losses=CLOSE, arms=("lion", "adamw"), **changes):
    rows = [
        {"experiment": "lm", "arm": arm, "metric": "loss_nats", "trial": trial, "seed": seed, "value": loss} | changes
        for arm in arms
        for trial, of_trial in enumerate(losses)
        for seed, loss in of_trial.items()
    ]
    return pd.DataFrame(rows)


def test_two_settings_swap_as_often_as_the_normal_law_says(monkeypatch):
    monkeypatch.setattr(selection, "RACES", 200_000)
    swapped = stats.norm.sf(0.1 / (0.2 * math.sqrt(2 / 2)))  # the difference of two means over two seeds
    assert selection_variance(CLOSE) == pytest.approx(0.1**2 * swapped * (1 - swapped), rel=0.02)


def test_a_race_without_noise_always_selects_the_same():
    assert selection_variance([{1: 0.0, 2: 1.0}, {1: 0.1, 2: 1.1}, {1: 0.2}]) == 0.0


def test_noise_that_all_trials_share_selects_nothing():
    shifted = [{seed: loss + 10 * seed for seed, loss in of_trial.items()} for of_trial in CLOSE]
    assert selection_variance(shifted) == pytest.approx(selection_variance(CLOSE), rel=1e-5)


def test_a_diverged_trial_is_never_selected():
    assert selection_variance([*CLOSE, {1: math.nan}, {1: 9.0, 2: math.nan}]) == pytest.approx(
        selection_variance([*CLOSE, {1: 9.0}]), rel=0.2
    )


@pytest.mark.parametrize("losses", [[{1: 0.0}, {1: 0.1}], [{1: 0.0, 2: 0.1}, {1: 0.1}]])
def test_one_tuning_seed_or_one_finalist_shows_no_noise(losses):
    assert selection_variance(losses) is None


def test_the_bootstrap_of_one_race_finds_the_variance_between_races():
    # Sixty races with noise of their own over one flat bowl: what they truly select, against what each of them says.
    class Bowl(Runner):
        def __call__(self, measure, runs):  # noqa: ARG002
            noise = np.random.default_rng([runs[0].seed, len(runs)]).normal(0, 0.05, len(runs))
            losses = [math.log(run.config["lr"]) ** 2 + e for run, e in zip(runs, noise, strict=True)]
            row = {"split": "validation", "step": 1, "metric": "loss_nats"}
            return [[row | {"value": loss}] for loss in losses]

    space, true, said = {"lr": LogRange(low=0.3, high=3.0)}, [], []
    for race in range(60):
        tuning = Tuning(draw_seed=0, seeds=[1000 * race + seed for seed in range(1, 4)])
        search = Search("lm", "lion", {}, space, 16, "loss_nats")
        (tuned,), _ = tune(Bowl("toy", "smoke", {}, 1), lambda _: [], [search], tuning)
        true.append(math.log(tuned.best()["lr"]) ** 2)
        said.append(selection_variance(tuned.losses))
    assert 0.5 < np.mean(said) / np.var(true, ddof=1) < 2


def test_the_variances_of_both_arms_add_up():
    assert variance_of_difference(table(), SAID) == pytest.approx(2 * selection_variance(CLOSE))


@pytest.mark.parametrize(
    "trials",
    [
        table(metric="score_loss"),
        table(experiment="another"),
        table(arms=("lion",)),
        pd.concat([table(), table()]),
        table(losses=[{1: 0.0}, {1: 0.1}]),
    ],
    ids=["another metric", "another experiment", "one arm untuned", "several searches", "one tuning seed"],
)
def test_where_no_single_race_by_this_metric_selected_nothing_is_said(trials):
    assert variance_of_difference(trials, SAID) is None


def test_a_widened_interval_has_the_variances_of_both():
    interval = paired_interval([0.1, 0.3, 0.2, 0.2])
    wide = widened(interval, 0.01)
    half = stats.t.ppf(0.975, 3) * math.sqrt(np.var([0.1, 0.3, 0.2, 0.2], ddof=1) / 4 + 0.01)
    assert (wide.low, wide.high) == pytest.approx((0.2 - half, 0.2 + half))
    assert wide.high90 - wide.low90 < wide.high - wide.low
    same = widened(interval, 0.0)
    assert (same.low, same.high, same.p) == pytest.approx((interval.low, interval.high, interval.p))


@pytest.mark.parametrize(
    ("gap", "trials", "word", "why"),
    [
        (seeds(0.2, 0.05), table(losses=[{1: 0.0, 2: 1.0}, {1: 5.0, 2: 6.0}]), "holds", "the word stands."),
        (seeds(0.15, 0.05), table(), "holds, fragile", 'with another race in it the word would be "inconclusive".'),
        (seeds(0.0, 0.09), table(), "no difference, fragile", 'the word would be "inconclusive".'),
        (seeds(0.0, 0.3), table(), "inconclusive", "the claim has no word that could flip."),
    ],
)
def test_a_tuned_difference_is_read_with_another_race_in_its_interval(gap, trials, word, why):
    content = primary(GREATER | {"difference": SAID.model_dump()})
    runs, estimands = pd.DataFrame({"profile": ["cpu"]}), {"gap": lambda _: pd.Series(gap)}
    (record,) = judge_runs([Claim.model_validate(content)], runs, estimands, num_primary=1, trials=trials)
    (read,) = record["robustness"]
    assert (record["verdict"], read["name"]) == (word, ANOTHER_RACE)
    assert read["why"].endswith(why)
    assert read["low"] <= record["tests"][0]["low"]


def test_a_claim_that_is_not_primary_or_not_tuned_has_no_such_reading():
    runs, estimands = pd.DataFrame({"profile": ["cpu"]}), {"gap": lambda _: pd.Series(seeds(0.2, 0.05))}
    tuned = GREATER | {"difference": SAID.model_dump()}
    for content, trials in ((claim(tuned), table()), (primary(tuned), None), (primary(GREATER), table())):
        (record,) = judge_runs([Claim.model_validate(content)], runs, estimands, num_primary=1, trials=trials)
        assert "robustness" not in record

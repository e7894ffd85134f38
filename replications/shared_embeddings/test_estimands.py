"""Each estimand gives the number that the claim speaks of, on runs made by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from paperkit.results import RUNS_COLUMNS, canonical_json
from replications.shared_embeddings import estimands


def table(*rows):
    """Make runs of rows (experiment, arm, seed, config, split, step, metric, value)."""
    records = [
        {
            "profile": "cpu", "experiment": experiment, "arm": arm, "seed": seed, "config": canonical_json(config),
            "split": split, "step": step, "metric": metric, "value": value,
            "status": "diverged" if math.isnan(value) else "ok",
        }
        for experiment, arm, seed, config, split, step, metric, value in rows
    ]  # fmt: skip
    return pd.DataFrame(records, columns=list(RUNS_COLUMNS))


def curve(arm, seed, metric, value, *, split="train", experiment="curves", step=400, **config):
    return (experiment, arm, seed, config, split, step, metric, value)


def values(series):
    return {int(seed): round(float(value), 9) for seed, value in series.items()}


def test_areas_are_compared_in_percent_of_their_mean():
    runs = table(curve("shuffle", 0, "area_nats", 5.05), curve("half_swap", 0, "area_nats", 4.95))
    assert values(estimands.area_percent_shuffle(runs)) == {0: 2.0}


def test_the_crossing_step_is_the_last_at_which_small_sigma_is_below():
    def parts(arm, losses):
        return [curve(arm, 0, "part_loss_nats", loss, step=20 * (i + 1)) for i, loss in enumerate(losses)]

    for below, expected in (([8, 5, 4, 3], 40.0), ([9, 9, 9, 9], 0.0), ([1, 1, 1, 1], 80.0), ([9, 5, 9, 3], 40.0)):
        runs = table(*parts("small_sigma", below), *parts("half_swap", [9, 6, 4, 2]))
        assert values(estimands.crossing_step(runs)) == {0: expected}


def test_main_effects_are_those_the_cells_were_made_with():
    effects = {"logits": -0.5, "input": 0.2, "step": 0.3}
    rows = []
    for number in range(8):
        digits = f"{number:03b}"
        loss = 5 + sum(effect for digit, effect in zip(digits, effects.values(), strict=True) if digit == "1")
        # An interaction of two factors moves no main effect of the third, and is halved in their own.
        loss += 0.1 * (digits[:2] == "11")
        rows += [
            curve(digits, 0, "early_area_nats", loss, experiment="factorial"),
            curve(digits, 0, "loss_nats", 2 * loss, experiment="factorial", split="test"),
        ]
    runs = table(*rows)
    assert values(estimands.early_effect_logits(runs)) == {0: -0.45}
    assert values(estimands.early_effect_input(runs)) == {0: 0.25}
    assert values(estimands.early_effect_step(runs)) == {0: 0.3}
    assert values(estimands.final_effect_step(runs)) == {0: 0.6}
    assert values(estimands.early_logits_less_input(runs)) == {0: -0.7}
    lost = runs.assign(value=runs["value"].where(runs["arm"].ne("010")))
    assert math.isnan(estimands.early_effect_step(lost)[0])


def test_the_slope_over_widths_is_that_of_the_difference_on_the_logarithm():
    rows = []
    for width in (64, 128, 256, 512):
        cost = 0.1 * math.log(width / 64)
        for arm, value in (("tied", 5 + cost), ("half_swap", 5.0)):
            rows.append(curve(arm, 0, "area_nats", value, experiment="widths", width=width))
            rows.append(curve(arm, 0, "early_area_nats", 50.0 * value, experiment="widths", width=width))
    runs = table(*rows)
    assert values(estimands.width_slope(runs)) == {0: 0.1}
    assert values(estimands.narrow_area_percent(runs)) == {0: 0.0}
    cost = 0.1 * math.log(8)
    assert values(estimands.wide_area_percent(runs))[0] == pytest.approx(100 * cost / (5 + cost / 2))


def cell(n, d, sigma, **losses):
    """One simulated model: `sigma` None where each head has its own."""
    arm, config = ("own", {"n": n, "d": d}) if sigma is None else ("constant", {"n": n, "d": d, "sigma": sigma})
    return [("initial_loss", arm, 0, config, "none", 0, f"{name}_nats", value) for name, value in losses.items()]


def tied(n, d, sigma, measured, refined, source):
    return cell(n, d, sigma, tied_loss=measured, tied_predicted=refined, source_formula=source)


LOG_N = math.log(1000)
CURED = {f"{name}_loss": LOG_N + 0.5 for name in estimands.REMEDIES}
INITIAL_LOSSES = {
    # Only sqrt(256) = 16 is above log n + 1 = 7.9.
    "the source's formula where the self-logit rules": (
        [
            *tied(1000, 256, None, 16.3, 16.0, 16.0),
            *tied(1000, 16, None, 9.0, 7.5, 7.0),
            *tied(1000, 64, 0.02, 9.9, 6.9, 6.9),
        ],
        {"post_formula_error": 0.3},
    ),
    # d s^2 is 1 and 5.12.
    "the refined formula where the sum averages itself out": (
        [*tied(1000, 256, None, 16.3, 16.1, 16.0), *tied(1000, 512, 0.1, 60.0, 51.0, 51.2)],
        {"refined_formula_error": 0.2},
    ),
    "the nearer formula where the two differ": (
        [
            *tied(1000, 16, None, 7.5, 7.5, 7.0),
            *tied(1000, 32, None, 7.1, 7.6, 7.1),
            *tied(1000, 256, None, 16.0, 16.2, 16.2),
        ],
        {"refined_is_nearer": 0.5},
    ),
    "small sigma against log n and log 2n": (
        [*cell(1000, 64, None, small_sigma_loss=LOG_N + 1.1), *cell(1000, 512, None, small_sigma_loss=LOG_N + 0.7)],
        {
            "small_sigma_least": 0.7,
            "small_sigma_largest": 1.1,
            "small_sigma_distance": LOG_N + 0.7 - math.log(1999),
        },
    ),
    "the worst cure in the worst cell": (
        [
            *cell(1000, 64, None, **CURED, tied_loss=99.0),
            *cell(1000, 128, None, **{**CURED, "shuffle_loss": LOG_N + 0.7}),
        ],
        {"remedies_excess": 0.2},
    ),
    "the untied start wide against log n, calm against its formula": (
        [
            *cell(1000, 64, None, untied_loss=LOG_N + 9.0, untied_predicted=LOG_N + 8.9),
            *cell(1000, 512, 0.1, untied_loss=LOG_N + 2.0, untied_predicted=LOG_N + 2.56),
        ],
        {"untied_above_log_n": 2.0, "untied_formula_error": 0.1},
    ),
}


@pytest.mark.parametrize("judged", INITIAL_LOSSES)
def test_the_initial_loss_is_judged_in_the_cells_that_the_claim_speaks_of(judged):
    cells, expected = INITIAL_LOSSES[judged]
    found = {name: values(getattr(estimands, name)(table(*cells)))[0] for name in expected}
    assert found == pytest.approx(expected)


def gpt(width, positions, branches, **metrics):
    config = {"vocabulary": 100, "width": width, "positions": positions, "branches": branches}
    return [("first_loss", "all_heads", 0, config, "validation", 0, name, value) for name, value in metrics.items()]


def test_the_blow_up_is_held_against_the_self_logit_where_that_counts():
    # sqrt(d/2) - log 100 is 11.39 at 512, 3.39 at 128 and -0.6 at 32.
    runs = table(
        *gpt(512, True, False, tied_loss_nats=15.0, untied_loss_nats=5.0),
        *gpt(128, True, False, tied_loss_nats=8.0, untied_loss_nats=5.0),
        *gpt(32, True, False, tied_loss_nats=5.1, untied_loss_nats=5.0),
        *gpt(512, True, True, tied_loss_nats=6.0, untied_loss_nats=5.0),
        *gpt(512, False, False, tied_loss_nats=99.0, untied_loss_nats=5.0),
    )
    assert values(estimands.blow_up_ratio(runs))[0] == pytest.approx(
        min(10 / (16 - math.log(100)), 3 / (8 - math.log(100)))
    )
    refined = math.log(math.exp(16) + 100 * math.exp(0.5)) - math.log(100) - 0.5
    assert values(estimands.blow_up_ratio_refined(runs))[0] == pytest.approx(10 / refined)
    assert values(estimands.blow_up_elsewhere(runs)) == {0: 0.1}
    assert values(estimands.blow_up_with_branches(runs)) == {0: 0.1}


def test_repeated_tokens_lower_the_expected_first_loss():
    expected = np.logaddexp(8, math.log(99) + 0.5) - 0.1 * 8
    runs = table(*gpt(64, False, False, tied_loss_nats=expected + 0.03, repeated_share=0.1))
    assert values(estimands.gpt_formula_error(runs)) == {0: 0.03}

"""What estimands are made of: a diverged run stays NaN, an experiment that was not run gives nothing."""

import math

import numpy as np
import pandas as pd
import pytest

from paperkit.estimands import configured, difference, identity_errors, of_arm, slopes, summarised
from paperkit.results import RUNS_COLUMNS, ResultsError, canonical_json


def table(*rows):
    records = [
        {"profile": "cpu", "experiment": experiment, "arm": arm, "seed": seed, "config": canonical_json({"batch": 8}),
         "split": split, "step": 1, "metric": metric, "value": value,
         "status": "diverged" if math.isnan(value) else "ok"}
        for experiment, arm, seed, split, metric, value in rows
    ]  # fmt: skip
    return pd.DataFrame(records, columns=list(RUNS_COLUMNS))


def test_the_errors_of_a_check_are_those_of_its_arm():
    runs = table(
        ("identities", "step_1", 0, "none", "max_error", 1e-16),
        ("identities", "step_1", 0, "none", "control_error", 2.0),
        ("identities", "step_2", 0, "none", "max_error", 5.0), ("other", "step_1", 0, "none", "max_error", 7.0),
    )  # fmt: skip
    errors = identity_errors(runs, "step_1")
    assert errors[["max_error", "control_error"]].to_numpy().tolist() == [[1e-16, 2.0]]
    assert identity_errors(runs, "step_3").empty


def test_a_metric_of_an_arm_keeps_its_seeds_and_what_diverged():
    runs = table(
        ("lm", "lion", 3, "test", "loss_nats", 4.5), ("lm", "lion", 4, "test", "loss_nats", math.nan),
        ("lm", "lion", 3, "validation", "loss_nats", 9.0), ("lm", "adamw", 3, "test", "loss_nats", 9.0),
        ("lm", "lion", 3, "test", "area_nats", 9.0), ("digits", "lion", 3, "test", "loss_nats", 9.0),
    )  # fmt: skip
    values = of_arm(runs, "lm", "lion", "loss_nats", "test")
    assert values.index.tolist() == [3, 4]
    assert values[3] == 4.5
    assert math.isnan(values[4])
    assert of_arm(runs.iloc[:0], "lm", "lion", "loss_nats").empty
    with pytest.raises(ResultsError, match="loss_nats of lm/lion has several last values a seed; name a split"):
        of_arm(runs, "lm", "lion", "loss_nats")


def test_of_a_curve_the_last_value_counts_also_where_it_diverged():
    points = [(3, 0, 9.0), (3, 20, 4.0), (3, 10, 6.0), (4, 0, 9.0), (4, 20, math.nan)]
    runs = table(*(("lm", "lion", seed, "test", "loss_nats", loss) for seed, _, loss in points))
    values = of_arm(runs.assign(step=[step for _, step, _ in points]), "lm", "lion", "loss_nats")
    assert values[3] == 4
    assert math.isnan(values[4])


def test_a_run_that_diverged_before_a_metric_was_measured_is_not_lost():
    runs = table(("lm", "lion", 3, "test", "head_share", 0.5), ("lm", "lion", 4, "test", "loss_nats", math.nan))
    values = of_arm(runs, "lm", "lion", "head_share")
    assert values.index.tolist() == [3, 4]
    assert (values[3], math.isnan(values[4])) == (0.5, True)


def test_a_difference_is_taken_on_the_seeds_that_both_arms_have():
    runs = table(
        *(("lm", "adamw", seed, "test", "loss_nats", loss) for seed, loss in ((1, 5.0), (2, 6.0), (3, math.nan))),
        *(("lm", "lion", seed, "test", "loss_nats", loss) for seed, loss in ((3, 4.0), (2, 4.5), (9, 1.0))),
        ("lm", "lion", 2, "validation", "loss_nats", 9.0), ("untuned", "lion", 2, "test", "loss_nats", 5.5),
    )  # fmt: skip
    gap = difference(runs, "lm", "adamw", "lion", "loss_nats", "test")
    assert gap.index.tolist() == [2, 3]
    assert (gap[2], math.isnan(gap[3])) == (1.5, True)
    assert difference(runs, "lm", "adamw", "lion", "loss_nats", "test", "untuned").to_dict() == {2: 0.5}
    assert difference(runs, "lm", "adamw", "tiger", "loss_nats", "test").empty


def test_a_configured_number_stands_at_its_row():
    runs = table(("lm", "lion", 3, "test", "loss_nats", 4.5)).set_axis([17])
    assert configured(runs, "batch").to_dict() == {17: 8.0}
    assert configured(runs.iloc[:0], "batch").empty
    with pytest.raises(KeyError, match="width"):
        configured(runs, "width")


def test_slopes_are_fitted_within_a_seed_and_a_diverged_point_spoils_its_seed_alone():
    index = pd.MultiIndex.from_product([[2, 5], [1, 2, 3]], names=["seed", "batch"])
    x, y = pd.Series([1.0, 2, 3, 1, 2, 3], index), pd.Series([5.0, 3, 1, 0, math.nan, 1], index)
    fitted = slopes(x, y)
    assert fitted[2] == pytest.approx(-2)
    assert math.isnan(fitted[5])
    assert math.isnan(slopes(x[:1], y[:1])[2])
    assert slopes(x[:0], y[:0]).empty


@pytest.mark.parametrize(("summary", "expected"), [("min", 1), ("max", 4), ("mean", 2.5), ("median", 2.5), ("sum", 5)])
def test_a_summary_never_leaves_a_diverged_run_out(summary, expected):
    values, seeds = pd.Series([1.0, 4.0, 2.0, math.nan]), pd.Series([0, 0, 1, 1])
    found = summarised(values, seeds, summary)
    assert found[0] == expected
    assert np.isnan(found[1])
    assert summarised(values[:0], seeds[:0], summary).empty

"""The estimands give the number that was put into synthetic runs, and say plainly when there is none."""

import numpy as np
import pandas as pd
import pytest

from paperkit.results import RUNS_COLUMNS, canonical_json
from replications.lion import estimands

NOTHING = pd.DataFrame(columns=list(RUNS_COLUMNS)).astype({"seed": "int64", "value": "float64"})


def table(rows):
    defaults = {"profile": "cpu", "config": {}, "split": "test", "step": 0, "status": "ok"}
    full = [{**defaults, **row} for row in rows]
    return pd.DataFrame([{**row, "config": canonical_json(row["config"])} for row in full], columns=list(RUNS_COLUMNS))


@pytest.mark.parametrize("name", ["lm_gap", "batch_gap_slope", "lr_ratio_slope", "rare_row_gap"])
def test_an_experiment_not_yet_run_gives_no_seed(name):
    other = table([{"experiment": "other", "arm": "lion", "seed": 0, "metric": "loss_nats", "value": 1.0}])
    assert getattr(estimands, name)(NOTHING).empty
    assert getattr(estimands, name)(other).empty


def test_lm_gap_is_positive_where_lion_is_better_and_nan_where_a_run_diverged():
    rows = [
        {"experiment": "lm_quality", "arm": arm, "seed": seed, "metric": "loss_nats", "value": value}
        for arm, values in {"adamw": [3.0, 3.5], "lion": [2.8, np.nan]}.items()
        for seed, value in enumerate(values)
    ]
    validation = {**rows[0], "split": "validation", "value": 99.0}
    gap = estimands.lm_gap(table([*rows, validation]))
    assert gap[0] == pytest.approx(0.2)
    assert np.isnan(gap[1])


def test_batch_gap_slope_recovers_the_slope_put_in():
    rows = [
        {
            "experiment": "digits_batch", "arm": arm, "seed": seed, "metric": "nll_nats", "config": {"batch": batch},
            "value": 0.1 * (batch ** (-0.25 - 0.01 * seed) if arm == "lion" else 1),
        }
        for seed in (0, 1) for batch in (16, 64, 256, 1024) for arm in ("adamw", "lion")
    ]  # fmt: skip
    assert estimands.batch_gap_slope(table(rows)).to_dict() == pytest.approx({0: -0.25, 1: -0.26})


def learning_rate_curves(best_of):
    lrs = np.geomspace(1e-4, 1e-1, 13)
    return [
        {
            "experiment": "digits_learning_rate", "arm": arm, "seed": 0, "metric": "nll_nats", "split": "validation",
            "config": {"batch": batch, "lr": lr}, "value": np.exp(np.log(lr / best_of(arm, batch)) ** 2),
        }
        for batch in (16, 64, 256) for arm in ("adamw", "lion") for lr in lrs
    ]  # fmt: skip


def test_lr_ratio_slope_recovers_the_slope_put_in_between_the_points_of_the_grid():
    slope = estimands.lr_ratio_slope(
        table(learning_rate_curves(lambda arm, batch: 1e-2 if arm == "adamw" else 1e-3 * (batch / 16) ** 0.3))
    )
    assert slope.to_dict() == pytest.approx({0: -0.3}, abs=1e-6)


def test_an_optimum_at_the_end_of_the_grid_is_no_number():
    slope = estimands.lr_ratio_slope(table(learning_rate_curves(lambda arm, _: 1e-2 if arm == "adamw" else 1e-4)))
    assert slope.isna().all()


def test_rare_row_gap_is_lion_minus_adamw():
    rows = [
        {"experiment": "lm_embedding", "arm": arm, "seed": 3, "metric": "rare_share", "value": value, "split": "none"}
        for arm, value in {"adamw": 0.1, "lion": 0.7}.items()
    ]
    assert estimands.rare_row_gap(table(rows)).to_dict() == pytest.approx({3: 0.6})


def test_time_ratios_take_the_fastest_of_each_side():
    step_s = {
        "adamw_fused": 2.0,
        "adamw_foreach": 9.0,
        "lion_for_loop": 4.0,
        "lion_foreach": 3.5,
        "lion_pytorch": 3.0,
        "lion_fused": 1.0,
    }
    timings = table([
        {"experiment": "step_time", "arm": arm, "seed": 0, "metric": "step_s", "value": value}
        for arm, value in step_s.items()
    ])
    assert estimands.pure_torch_time_ratio(timings).to_dict() == {0: 1.5}
    assert estimands.kernel_time_ratio(timings).to_dict() == {0: 0.5}


def test_identity_errors_picks_one_check():
    rows = [
        {"experiment": "identities", "arm": arm, "seed": 0, "metric": metric, "value": value, "split": "none"}
        for arm, metric, value in (
            ("step_1_magnitude", "max_error", 1e-15),
            ("step_1_magnitude", "control_error", 0.3),
            ("state_bytes", "max_error", 0.0),
            ("state_bytes", "control_error", 0.5),
        )
    ]
    found = estimands.step_1_magnitude(table(rows))
    assert found[["max_error", "control_error"]].to_numpy().tolist() == [[1e-15, 0.3]]

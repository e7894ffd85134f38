"""The estimands give the number that was put into synthetic runs, and say plainly when there is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paperkit.claims.declarations import load_estimands, read_claims
from paperkit.results import RUNS_COLUMNS, canonical_json
from replications.lion import estimands, figures

NOTHING = pd.DataFrame(columns=list(RUNS_COLUMNS)).astype({"seed": "int64", "value": "float64"})
CLAIMS = read_claims(Path(__file__).with_name("claims.yaml"))
ESTIMANDS = load_estimands("replications.lion.estimands", CLAIMS)
SEEDS = (0, 1)
BATCHES = (16, 64, 256)


def table(rows):
    defaults = {"profile": "cpu", "config": {}, "split": "test", "step": 0, "status": "ok"}
    full = [{**defaults, **row} for row in rows]
    return pd.DataFrame([{**row, "config": canonical_json(row["config"])} for row in full], columns=list(RUNS_COLUMNS))


# --- A table of runs with a known answer to everything ---------------------------------------------------------

TEST_LOSSES = {  # nats
    "variants": {"adamw": 4.0, "lion": 3.8},
    "lr_factor_0.5": {"adamw": 4.5, "lion": 4.0},
    "lr_factor_2": {"adamw": 4.3, "lion": 4.1},
}
FLATNESS = {"adamw": (0.2, 0.5, 9.0), "lion": (0.25, 0.4, 0.3)}  # at rest, disturbed by 0.1, by 0.2

EXPECTED = {  # one of each function: what its other names differ in shows in the committed verdicts
    "batch_gap_slope": -0.25, "batch_error_slope": 0.02, "update_ratio_slope": -0.15,
    "lr_ratio_slope": -0.3, "best_rate_slope_spline": -0.3, "best_rate_slope_argmin": -0.3,
    "digits_sensitivity_gap": (0.6 - 1.0) * np.log(2) ** 2, "rate_ratio_beside_k": np.log(10) + 0.15 * np.log(4),
    "lazy_rows_row_ratio": 0.5, "sensitivity_gap": (0.2 + 0.3) / 2 - (0.5 + 0.3) / 2,
    "masked_share": 0.4, "late_update_size": 0.3, "late_update_beside_noise": 0.3 / np.sqrt(2 / np.pi * 0.1 / 1.9),
    "single_beta_cost": 0.2, "narrow_box_cost": 0.7, "flatness_gap": 0.3 - 0.15,
}  # fmt: skip
# Of what is read off a grid: in steps, or between its points.
TOLERANCES = {"best_rate_slope_spline": 2e-3, "best_rate_slope_argmin": 0.15}


def row(experiment, arm, seed, metric, value, **more):
    return {"experiment": experiment, "arm": arm, "seed": seed, "metric": metric, "value": value, **more}


def language_model_rows(seed):
    # What the seed adds is common to both arms: it cancels where arms are paired, and nowhere else.
    for experiment, losses in TEST_LOSSES.items():
        for arm, loss in losses.items():
            yield row(experiment, arm, seed, "loss_nats", loss + seed)
            yield row(experiment, arm, seed, "loss_nats", 99.0, split="validation")
    for counts, rms in {"0": 7.0, "1_9": 1.0, "10_29": 6.0, "100": 2.0}.items():
        yield row("lm_embedding", "lion_lazy_rows", seed, f"embedding_{counts}_rms", rms * (1 + seed), split="none")


def digits_rows(seed):
    for batch in BATCHES:
        for arm in ("adamw", "lion"):
            nll = 0.1 * (1 + seed) * (batch**-0.25 if arm == "lion" else 1)
            yield row("batch_sweep", arm, seed, "nll_nats", nll, config={"batch": batch})
            yield row("batch_sweep", arm, seed, "nll_nats", batch, config={"batch": batch}, split="validation")
            error = (0.02 if arm == "lion" else 0.0) * np.log(batch) + seed
            yield row("batch_sweep", arm, seed, "error_share", error, config={"batch": batch})
        for step, factor in ((20, 0.5), (30, 1.0), (40, 10.0 * batch)):
            k = factor * batch**-0.15
            yield row("batch_updates", "adamw", seed, "update_ratio", k, step=step, config={"batch": batch})
        yield row("batch_updates", "adamw", seed, "masked_share", batch, config={"batch": batch})
    for pair, log_loss in {"0.9_0.99": 0.0, "0.965_0.965": 0.2}.items():
        yield row(f"betas_{pair}", "lion", seed, "nll_nats", (1 + seed) * np.exp(log_loss))
        yield row(f"betas_{pair}", "lion", seed, "nll_nats", 5.0, split="validation")
    for decay, log_loss in {0.3: 3.0, 1.0: 0.0, 10.0: 4.0, 30.0: 0.7}.items():
        settings = {"weight_decay": decay, "box_decay": decay}
        yield row("constraint", "lion", seed, "nll_nats", (1 + seed) * np.exp(log_loss), config=settings)
        yield row("constraint", "lion", seed, "box_excess", -0.1, config=settings, split="none")
    for arm, (rest, disturbed, more) in FLATNESS.items():
        yield row("flatness", arm, seed, "nll_nats", rest + seed)
        yield row("flatness", arm, seed, "nll_nats", 0.15, split="train")
        yield row("flatness", arm, seed, "perturbed_0.1_nll_nats", disturbed + seed)
        yield row("flatness", arm, seed, "perturbed_0.2_nll_nats", more)


def learning_rate_rows(seed, best=lambda arm, batch: 1e-2 if arm == "adamw" else 1e-3 * (batch / 16) ** 0.3):
    for batch in BATCHES:
        for arm in ("adamw", "lion"):
            for lr in np.geomspace(1e-4, 1e-1, 13):
                curvature = 0.6 if arm == "lion" else 1.0
                nll = (1 + seed) * np.exp(curvature * np.log(lr / best(arm, batch)) ** 2)
                settings = {"batch": batch, "lr": lr}
                yield row("learning_rate_sweep", arm, seed, "nll_nats", nll, split="validation", config=settings)
                yield row("learning_rate_sweep", arm, seed, "nll_nats", lr, config=settings)


def update_rows(seed):
    for step, size in ((1, 0.99), (20, 0.6), (200, 0.3)):
        yield row("updates", "adamw", seed, "adamw_mean_abs", size, step=step, config={"betas": [0.9, 0.95]})
    for step, share in ((20, 0.3), (100, 0.5)):
        yield row("updates", "cautious_lion", seed, "masked_share", share, step=step)
        yield row("updates", "adamw", seed, "masked_share", 0.9, step=step)


def all_rows():
    makers = (language_model_rows, digits_rows, learning_rate_rows, update_rows)
    return [each for seed in SEEDS for maker in makers for each in maker(seed)]


RUNS = table(all_rows())


@pytest.mark.parametrize("name", EXPECTED)
def test_an_estimand_gives_the_number_put_in_for_each_seed(name):
    found = ESTIMANDS[name](RUNS)
    assert found.to_dict() == pytest.approx(dict.fromkeys(SEEDS, EXPECTED[name]), abs=TOLERANCES.get(name, 1e-6))


@pytest.mark.parametrize("name", ESTIMANDS)
def test_an_experiment_not_yet_run_gives_no_seed(name):
    other = table([row("other", "lion", 0, "loss_nats", 1.0)])
    assert ESTIMANDS[name](NOTHING).empty
    assert ESTIMANDS[name](other).empty


def diverge(rows, experiment, arm, **settings):
    """Let the run of seed 1 diverge, and report what its task then reports."""
    for each in rows:
        ours = (each["experiment"], each["arm"], each["seed"]) == (experiment, arm, 1)
        if not ours or not settings.items() <= each.get("config", {}).items():
            yield each
        elif experiment in ("updates", "batch_updates"):
            if each.get("step", 0) <= 30:  # measured before
                yield each
        elif (experiment, each["metric"]) != ("constraint", "nll_nats"):
            yield {**each, "value": np.nan, "status": "diverged"}
    if experiment in ("updates", "batch_updates"):
        for metric in ("update_ratio", "masked_share", "adamw_mean_abs"):
            yield row(experiment, arm, 1, metric, np.nan, step=57, status="diverged", config=settings)


@pytest.mark.parametrize(
    ("name", "experiment", "arm", "settings"),
    [
        ("batch_gap_slope", "batch_sweep", "lion", {"batch": 256}),
        ("lr_ratio_slope", "learning_rate_sweep", "lion", {"batch": 64}),
        ("digits_sensitivity_gap", "learning_rate_sweep", "lion", {"batch": 64}),
        ("update_ratio_slope", "batch_updates", "adamw", {"batch": 16}),
        ("lazy_rows_row_ratio", "lm_embedding", "lion_lazy_rows", {}),
        ("sensitivity_gap", "lr_factor_2", "adamw", {}),
        ("sensitivity_gap", "variants", "lion", {}),
        ("masked_share", "updates", "cautious_lion", {}),
        ("late_update_size", "updates", "adamw", {}),
        ("single_beta_cost", "betas_0.965_0.965", "lion", {}),
        ("single_beta_cost", "betas_0.9_0.99", "lion", {}),
        ("narrow_box_cost", "constraint", "lion", {"weight_decay": 30.0}),
        ("flatness_gap", "flatness", "adamw", {}),
    ],
)
def test_a_diverged_seed_is_no_number_and_the_others_keep_theirs(name, experiment, arm, settings):
    found = ESTIMANDS[name](table(list(diverge(all_rows(), experiment, arm, **settings))))
    assert found[0] == pytest.approx(EXPECTED[name], abs=1e-6)
    assert np.isnan(found[1])


def best_at(adamw, lion):
    return lambda arm, _: {"adamw": adamw, "lion": lion}[arm]


@pytest.mark.parametrize(
    ("best", "largest_lr", "is_number"),
    [
        pytest.param(best_at(1e-2, 1e-4), 1.0, False, id="an optimum at the end of the grid"),
        # The best rate is the grid's 1e-2; 1.8e-2 and 3.2e-2 are the two points above it.
        pytest.param(best_at(1e-2, 1e-2), 4e-2, True, id="rates far from the best diverged"),
        pytest.param(best_at(1e-2, 1e-2), 2e-2, False, id="a rate next to the best diverged"),
    ],
)
def test_a_best_rate_is_a_number_only_inside_the_grid_and_away_from_rates_that_diverged(best, largest_lr, is_number):
    runs = table([
        {**each, "value": np.nan if each["config"]["lr"] > largest_lr else each["value"]}
        for each in learning_rate_rows(0, best=best)
    ])
    for found in (estimands.lr_ratio_slope(runs), estimands.digits_sensitivity_gap(runs)):
        assert list(found.index) == [0]
        assert found.notna().all() == is_number


@pytest.mark.parametrize(
    ("excess", "control", "max_error", "control_error"),  # of each seed in two boxes
    [
        pytest.param([[-0.5, 1e-9], [-0.2, 3e-9]], [[0.4, 7.0], [0.2, 9.0]], 3e-9, 0.2, id="the largest of all runs"),
        pytest.param([[-0.5, -0.1]], [[0.4, 7.0]], 0.0, 0.4, id="every weight inside"),
        pytest.param([[-0.5, -0.1], [-0.2, np.nan]], [[0.4, 7.0], [0.2, 9.0]], np.nan, 0.2, id="a run diverged"),
    ],
)
def test_box_excess_is_held_against_the_least_of_the_controls(excess, control, max_error, control_error):
    rows = [
        row(experiment, "lion", seed, "box_excess", value, split="none", config={"box_decay": decay})
        for experiment, values in (("constraint", excess), ("constraint_control", control))
        for seed, of_seed in enumerate(values)
        for decay, value in zip((1.0, 30.0), of_seed, strict=True)
    ]
    (found,) = estimands.box_excess(table(rows))[["max_error", "control_error"]].to_numpy().tolist()
    assert found == pytest.approx([max_error, control_error], nan_ok=True, rel=0, abs=0)


def test_a_curve_meets_a_loss_between_two_points_and_the_best_of_some_losses_is_expected_over_all_subsets():
    curve = pd.Series([4.0, 3.0, 2.0], index=[0, 10, 20])
    assert [figures.steps_to(curve, target) for target in (2.5, 4.0)] == [15, 0]
    assert np.isnan(figures.steps_to(curve, 1.0))
    assert figures.expected_best(np.array([3.0, 1.0, 2.0])) == pytest.approx([2, 4 / 3, 1])


STEP_S = {
    "adamw_fused": 2.0, "adamw_foreach": 9.0, "adamw_for_loop": 5.0, "lion_for_loop": 4.0, "lion_foreach": 3.5,
    "lion_pytorch": 3.0, "lion_fused": 1.0,
}  # fmt: skip
TRAINING_STEP_S = {"adamw_fused": 4.0, "lion_fused": 3.0, "lion_for_loop": 1.0}
BYTES_PER_S = {"scale": 10.0, "axpy": 25.0, "sgd_momentum": 16.0}


def clock_readings():
    """Two rounds; the machine is half as fast in the second, and its memory a quarter."""
    for number, (slower, narrower) in enumerate([(1, 1), (2, 4)]):
        for arm, seconds in STEP_S.items():
            yield row("step_time", arm, number, "step_s", slower * seconds)
            yield row("step_time", arm, number, "minimal_bytes", 20.0 if arm.startswith("lion") else 28.0)
        for arm, seconds in TRAINING_STEP_S.items():
            yield row("training_step", arm, number, "training_step_s", slower * seconds)
        for arm, speed in BYTES_PER_S.items():
            yield row("bandwidth", arm, number, "bytes_per_s", speed / narrower)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pure_torch_time_ratio", {0: 1.5, 1: 1.5}),  # the fastest of each side
        ("loop_time_ratio", {0: 0.8, 1: 0.8}),  # each against its like
        ("kernel_time_ratio", {0: 0.5, 1: 0.5}),
        ("whole_step_time_ratio", {0: 0.75, 1: 0.75}),
        ("kernel_share_of_bandwidth", {0: 20 / 25, 1: 10 / (25 / 4)}),  # the fastest sweep of the same round
    ],
)
def test_clock_readings_are_compared_within_a_round(name, expected):
    assert ESTIMANDS[name](table(list(clock_readings()))).to_dict() == pytest.approx(expected)

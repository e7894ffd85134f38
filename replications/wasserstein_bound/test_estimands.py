"""The estimands give the number that was put into synthetic runs, and say plainly when there is none."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paperkit.claims.declarations import load_estimands, read_claims
from paperkit.results import RUNS_COLUMNS, canonical_json
from replications.wasserstein_bound import estimands

ESTIMANDS = load_estimands(
    "replications.wasserstein_bound.estimands", read_claims(Path(__file__).with_name("claims.yaml"))
)
SEEDS = (0, 1)
STEPS = (30, 100, 400, 1600)  # the first is left out of slopes
LENGTHS = tuple(100 * 2**doublings for doublings in range(8))


def row(experiment, arm, seed, metric, value, *, config=None, step=0):
    run = ("cpu", experiment, arm, seed, canonical_json(config or {}))
    return dict(zip(RUNS_COLUMNS, (*run, "none", step, metric, value, "ok"), strict=True))


def table(rows):
    return pd.DataFrame(rows, columns=list(RUNS_COLUMNS))


# --- A table of runs with a known answer to everything ----------------------------------------------------------


def network_rows(experiment, arm, seed, steps):
    """J falls as 1 / step; slopes on log J are 0.5 + seed / 10 (SDE), 0.25 (ODE), 0.3 (bound)."""
    # Step 30 lies off the lines. The supremum is 0.75 of the slack.
    rows = []
    for step in steps:
        loss, off = 100 / step, 50.0 if step < 100 else 1.0
        numbers = {
            "score_loss": loss,
            "distance_w2_sde": off * loss ** (0.5 + seed / 10),
            "distance_w2_ode": off * 2 * loss**0.25,
            "log10_bound_w2_sde": math.log10(off * 8 * loss**0.3),
            "log10_bound_w2_ode": math.log10(off * 4 * loss**0.3),
            "excess_sde": 1e-4 if step == 400 and seed else 0.0,
            "excess_ode": 0.0,
            "control_excess_sde": 0.7,
            "control_excess_ode": 0.9,
            "slope_at_horizon": -0.9 - step / 1e6,
        }
        log_distance, log_bound = math.log10(numbers["distance_w2_ode"]), numbers["log10_bound_w2_ode"]
        numbers["log10_averaged_bound_w2_ode"] = log_bound - 0.75 * (log_bound - log_distance)
        rows += [row(experiment, arm, seed, name, value, step=step) for name, value in numbers.items()]
    return rows


def learned_rows(seed):
    return network_rows("learned", "network", seed, STEPS) + network_rows("trained", "annealed", seed, LENGTHS)


def sweep_rows(seed):
    rows = []
    for arm in ("ode", "sde"):
        block = {"excess": 1e-8 * seed, "control_excess": 0.5, "corollary_shortfall": 0.0, "corollary_control": 0.3}
        rows += [row("affine", arm, seed, name, value) for name, value in {**block, "kl_excess": 0.0}.items()]
        for case in range(4):  # the SDE is nearer in three of four
            distance = 1.0 if arm == "ode" else (2.0 if case == 0 else 0.5)
            above = arm == "sde" and case == 0
            rows.append(row("affine", arm, seed, "distance_w2", distance, step=case))
            rows.append(row("affine", arm, seed, "bound_w2", (0.8 if above else 2) * distance, step=case))
        for d in (1, 8):
            for case in range(2):
                config, bound = {"dimension": d, "case": case}, (1 + case) * d**0.4
                found = {"distance_w2": 1.0, "bound_w2": bound}
                rows += [row("dimension", arm, seed, name, value, config=config) for name, value in found.items()]
        for mean in (1.0, 2.0):  # the second must not be taken
            logs = {"log10_bound_w2": 1.0, "log10_averaged_bound_w2": 0.2 * mean, "log10_distance_w2": 0.0}
            config = {"mean": mean, "variance": 0.25}
            rows += [row("slack", arm, seed, name, value, config=config) for name, value in logs.items()]
    for arm, end in {"plain": (1, 0.5), "spectral_norm": (0.9, 0.6)}.items():
        for step in (10, 20):
            for name, value in zip(("log10_estimated_bound_w2_sde", "debiased_w2_sde"), end, strict=True):
                rows.append(row("techniques", arm, seed, name, step / 20 * value, step=step))
    return rows


def finite_set_rows(seed):
    """J falls as 1 / step; W2 of the SDE is 0 in the end, that of the ODE rises in seed 1; log B has slope -0.2."""
    # Step 30 lies off the lines.
    rows = []
    for step in STEPS:
        loss, off = 100 / step, 50.0 if step < 100 else 1.0
        numbers = {
            "score_loss": loss,
            "debiased_w2_sde": 1.0 if step == 100 else 0.0,
            "debiased_w2_ode": loss ** (1 - 2 * seed),
            "plain_w2_sde": loss,
            "log10_estimated_bound_w2_sde": math.log10(100 * off * loss**-0.2),
        }
        rows += [row("finite_set", "four_clusters", seed, name, value, step=step) for name, value in numbers.items()]
    return rows


def deterministic_rows():
    rows = []
    for arm, factor in (("ode", 3.0), ("sde", 1.0)):
        for horizon, offset in ((0.1, 0.75), (0.3, 0.15), (1.0, 1e-5)):
            numbers = {"offset_w2": factor * offset, "distance_w2": 0.9 * factor * offset + 2e-7 * (horizon == 1)}
            numbers["constant_at_horizon"], config = -1 - 1e-4 / horizon**3, {"horizon": horizon}
            rows += [row("offset", arm, 0, name, value, config=config) for name, value in numbers.items()]
        for count in (10, 100, 1000):
            value = 9.0 if count == 10 else factor / count
            rows.append(row("discretisation", arm, 0, "distance_w2", value, config={"num_steps": count}))
        for step, slope in ((0, 50.0), (1, -1.0002)):
            rows.append(row("growth", arm, 0, "score_slope", slope, step=step, config={"mean": 1.0, "variance": 0.1}))
    for name in ("kl_of_almost_an_ode", "mixture_offset_rise"):
        rows += [row("identities", name, 0, "max_error", 1e-9), row("identities", name, 0, "control_error", 0.6)]
    return rows


OF_A_SEED = (learned_rows, sweep_rows, finite_set_rows)
RUNS = table([*deterministic_rows(), *(each for seed in SEEDS for rows in OF_A_SEED for each in rows(seed))])

EXPECTED = {  # some of each function: what its other names differ in shows in the committed verdicts
    "training_slope_sde": [0.5, 0.6], "training_slope_ode": [0.25] * 2, "bound_slope_sde": [0.3] * 2,
    "median_slope_sde": [0.5, 0.6], "supremum_share_ode": [0.75] * 2,
    "distance_ode_over_sde": [math.log(2 * (1 / 16) ** (0.25 - p)) for p in (0.5, 0.6)],
    # J is 2 to the power of minus 0 to 7; W2 of the ODE over that of the SDE is 2 J^(0.25 - p).
    "annealed_distance_ode_over_sde": [math.log(2) * (1 + 3.5 * (p - 0.25)) for p in (0.5, 0.6)],
    "bound_sde_over_ode": [math.log(2)] * 2, "learned_constant_at_horizon": [-0.9016] * 2,
    "annealed_choice": [0.0] * 2, "sde_nearer_share": [0.75] * 2, "slack_slope_on_dimension": [0.4] * 2,
    "mixture_supremum_share": [0.8] * 2, "above_diagonal_share": [1 / 8] * 2, "above_diagonal_most": [0.2] * 2,
    "annealed_wrong_share": [1.0] * 2,
    "tuned_spectral_norm_bound_change": [-0.1 * math.log(10)] * 2, "tuned_spectral_norm_distance_change": [0.1] * 2,
    # Ranks of W2 against 1, 2, 3: two zeros share theirs.
    "clusters_rank_sde": [0.75**0.5] * 2, "clusters_rank_ode": [1.0, -1.0], "clusters_bound_slope": [-0.2] * 2,
    "clusters_looseness": [2 + 1.2 * math.log10(16)] * 2,
}  # fmt: skip
# Errors and controls of the checks that are not one run.
EXPECTED_CHECKS = {
    "affine_excess": (1e-8, 0.5), "corollary_order": (0, 0.3), "kl_excess": (0, 1e-9), "trained_excess": (1e-4, 0.9),
    "offset_rise": (0, 1e-9), "offset_at_horizon": (1e-5, 0.15), "offset_bounds_distance": (0, 0.4 * 3 * 0.75),
    "constant_at_horizon": (2e-4, 1e-4 / 0.027), "discretisation_order": (0, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_an_estimand_gives_the_number_put_in_for_each_seed(name):
    values = ESTIMANDS[name](RUNS)
    assert list(values.index) == list(SEEDS)
    np.testing.assert_allclose(values, EXPECTED[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EXPECTED_CHECKS)
def test_a_check_gives_its_error_and_that_of_its_control(name):
    errors = ESTIMANDS[name](RUNS)[["max_error", "control_error"]]
    np.testing.assert_allclose(errors, [EXPECTED_CHECKS[name]], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["training_slope_sde", "bound_sde_over_ode", "annealed_choice", "median_slope_sde", "annealed_wrong_share"]
)
def test_a_diverged_network_is_no_number_and_the_other_keeps_its_own(name):
    of_networks = RUNS["experiment"].isin(["learned", "trained"]) & RUNS["arm"].isin(["network", "annealed"])
    runs = RUNS[~((RUNS["seed"] == 1) & of_networks & (RUNS["step"] > 100))]
    ends = (("learned", "network", STEPS[-1]), ("trained", "annealed", LENGTHS[-1]))
    lost = [row(experiment, arm, 1, "score_loss", math.nan, step=step) for experiment, arm, step in ends]
    lost = table(lost).assign(status="diverged")
    values = ESTIMANDS[name](pd.concat([runs, lost], ignore_index=True))
    np.testing.assert_allclose(values, [EXPECTED[name][0], math.nan], atol=1e-12)


def test_a_ranking_is_wrong_where_the_sampler_of_smaller_bound_has_the_larger_distance():
    def networks(distance_ode, bound_ode):
        return table(
            [
                row("trained", "annealed", 7, metric, value, step=100 * (place + 1))
                for metric, values in (
                    ("score_loss", [1.0] * 4), ("distance_w2_sde", [1.0] * 4), ("log10_bound_w2_sde", [1.0] * 4),
                    ("distance_w2_ode", distance_ode), ("log10_bound_w2_ode", bound_ode),
                )
                for place, value in enumerate(values)
            ]
        )  # fmt: skip

    runs = networks([2.0, 2.0, 0.5, 0.5], [0.5, 1.5, 0.5, 1.5])  # wrong, right, right, wrong
    assert ESTIMANDS["annealed_wrong_share"](runs).to_dict() == {7: 0.5}
    assert [ESTIMANDS[name](runs)[7] for name in ("wrong_share_first", "wrong_share_second")] == [1.0, 0.0]


def test_the_median_of_slopes_is_moved_little_by_one_length():
    moved = (RUNS["metric"] == "distance_w2_ode") & (RUNS["step"] == LENGTHS[-1]) & (RUNS["experiment"] == "trained")
    runs = RUNS.assign(value=RUNS["value"].where(~moved, 100.0))
    assert ESTIMANDS["median_slope_ode"](runs)[0] == pytest.approx(0.25, abs=1e-9)
    assert ESTIMANDS["annealed_slope_ode"](runs)[0] < 0


def test_a_bound_that_chooses_a_worse_checkpoint_than_the_loss_costs_their_ratio():
    least = (RUNS["metric"] == "log10_bound_w2_sde") & (RUNS["step"] == 100)
    runs = RUNS.assign(value=RUNS["value"].where(~least, -9.0))
    # W2 of the SDE is J to the power 0.5, J being 1 at step 100 and 1 / 16 at the end.
    assert estimands.choice_by_bound_over_loss(runs)[0] == pytest.approx(math.log(4))
    assert estimands.annealed_choice(runs)[0] == pytest.approx(math.log(128) / 2)

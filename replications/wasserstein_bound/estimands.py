"""From runs to one number a seed, or to the errors of a check; `claims.yaml` names these functions.

An estimand of an experiment that has not been run is empty. NaN marks a seed whose network diverged. A seed is a
block of random cases, a draw of coupled pairs, or a network. Logarithms are natural unless a metric's name says
otherwise.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from paperkit.estimands import configured, slopes

LN_10 = math.log(10)
# Slopes along training leave the first steps out, in which J falls from an arbitrary start (claims.yaml).
FIRST_STEP = 100
LEAST_DISCRETISATION_STEPS = 50


# --- Checks: one row, the largest error and that of the control -------------------------------------------------


def sweep_excess(
    runs: pd.DataFrame, experiment: str, metric: str = "excess", control: str = "control_excess"
) -> pd.DataFrame:
    """Return the largest violation of a bound over a sweep, and that of the bound that is wrong on purpose."""
    # Both relative. The control's largest value, since one violation is enough to show that the sweep sees it.
    rows = runs[runs["experiment"] == experiment]
    return _one_check(rows[rows["metric"] == metric]["value"], rows[rows["metric"] == control]["value"])


affine_excess = partial(sweep_excess, experiment="affine")
rotation_excess = partial(sweep_excess, experiment="rotation")
noise_family_excess = partial(sweep_excess, experiment="noise_family")
dimension_excess = partial(sweep_excess, experiment="dimension")
mixture_excess = partial(sweep_excess, experiment="mixture")
corollary_order = partial(affine_excess, metric="corollary_shortfall", control="corollary_control")


def kl_excess(runs: pd.DataFrame, experiment: str = "affine", control: str = "max_error") -> pd.DataFrame:
    """Return the largest violation of T7, and that by a process for which its factor is too small (C11)."""
    # Both against the SDE's bound. In check "kl_of_almost_an_ode", "max_error" is the ODE's, "control_error" that of
    # η = ¼.
    found = runs[(runs["experiment"] == experiment) & (runs["metric"] == "kl_excess")]["value"]
    wrong = runs[(runs["arm"] == "kl_of_almost_an_ode") & (runs["metric"] == control)]["value"]
    return _one_check(found, wrong)


kl_noise_family_excess = partial(kl_excess, experiment="noise_family", control="control_error")


def learned_excess(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the largest violation of T4 by a network on the line, over checkpoints, seeds and samplers (X6)."""
    # The control holds W2 against the offset alone.
    rows = runs[runs["experiment"] == "learned"]
    found, control = (
        rows[rows["metric"].isin([f"{name}_ode", f"{name}_sde"])]["value"] for name in ("excess", "control_excess")
    )
    return _one_check(found, control)


def offset_rise(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the largest relative rise of the offset from one horizon to the next (C3)."""
    # The control is the smaller rise of check "mixture_offset_rise".
    rises = [np.diff(offsets) / offsets.iloc[:-1] for _, offsets in _offsets(runs)["offset_w2"].groupby(level="arm")]
    control = runs[(runs["arm"] == "mixture_offset_rise")]["value"]
    return _one_check(pd.Series(np.concatenate([[], *rises])), control.nsmallest(1))


def offset_at_horizon(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the SDE's offset at T = 1, in units of x; the control is that at T = 0.3 (C3)."""
    offsets = _offsets(runs)["offset_w2"]
    return _one_check(*(_at(offsets, "sde", horizon) for horizon in (1.0, 0.3)))


def offset_bounds_distance(runs: pd.DataFrame) -> pd.DataFrame:
    """Return by how much W2 exceeds the offset, the score being exact; the control is half of the offset (C3)."""
    table = _offsets(runs)
    return _one_check(*(table["distance_w2"] - factor * table["offset_w2"] for factor in (1.0, 0.5)))


def constant_at_horizon(runs: pd.DataFrame) -> pd.DataFrame:
    """Return how far the exact score's one-sided constant at T = 1 is from -1; the control is T = 0.3 (C4)."""
    # Of a Gaussian in experiment "offset", of mixtures at the last point of experiment "growth".
    gaussian = _offsets(runs)["constant_at_horizon"]
    rows = runs[(runs["experiment"] == "growth") & (runs["metric"] == "score_slope")]
    mixtures = rows[rows["step"] == rows["step"].max()]["value"]
    found = pd.concat([_at(gaussian, "sde", 1.0), mixtures])
    return _one_check((found + 1).abs(), (_at(gaussian, "sde", 0.3) + 1).abs())


def discretisation_order(runs: pd.DataFrame) -> pd.DataFrame:
    """Return how far the slope of log W2 on the log number of steps is from -1; the control is from -1/2 (X5)."""
    rows = runs[(runs["experiment"] == "discretisation") & (runs["arm"] == "sde")]
    steps = configured(rows, "num_steps")
    rows, steps = rows[steps >= LEAST_DISCRETISATION_STEPS], steps[steps >= LEAST_DISCRETISATION_STEPS]
    if rows.empty:
        return _one_check(rows["value"], rows["value"])
    slope = np.polyfit(np.log(steps), np.log(rows["value"]), 1)[0]
    return _one_check(pd.Series([abs(slope + 1)]), pd.Series([abs(slope + 0.5)]))


# --- Blocks of random cases -------------------------------------------------------------------------------------


def sde_nearer_share(runs: pd.DataFrame) -> pd.Series:
    """Return the share of cases in which the SDE's W2 is below the ODE's, with the same score (C12b)."""
    rows = runs[(runs["experiment"] == "affine") & (runs["metric"] == "distance_w2")]
    table = rows.pivot(index=["seed", "step"], columns="arm", values="value").reindex(columns=["ode", "sde"])
    return (table["sde"] < table["ode"]).astype(float).groupby(level="seed").mean()


def slack_slope_on_dimension(runs: pd.DataFrame) -> pd.Series:
    """Return how log(B / W2) of the SDE changes with the logarithm of the dimension (X9)."""
    rows = runs[(runs["experiment"] == "dimension") & (runs["arm"] == "sde")]
    table = rows.pivot(index=["seed", "config"], columns="metric", values="value").reset_index("config")
    slack = table.reindex(columns=["bound_w2", "distance_w2"]).astype(float)
    return slopes(np.log(configured(table, "dimension")), np.log(slack["bound_w2"] / slack["distance_w2"]))


def mixture_supremum_share(runs: pd.DataFrame) -> pd.Series:
    """Return the share of the SDE's log(B / W2) that is log(B / B_c), two modes at ±1 of variance ¼ (X11)."""
    rows = runs[(runs["experiment"] == "slack") & (runs["arm"] == "sde")]
    rows = rows[(configured(rows, "mean") == 1.0) & (configured(rows, "variance") == 0.25)]
    logs = rows.pivot(index="seed", columns="metric", values="value").astype(float)
    logs = logs.reindex(columns=["log10_bound_w2", "log10_averaged_bound_w2", "log10_distance_w2"])
    return _share(*(logs[name] for name in logs))


# --- Networks on the line ---------------------------------------------------------------------------------------


def training_slope(runs: pd.DataFrame, log_of: Callable[[pd.DataFrame], pd.Series]) -> pd.Series:
    """Return the slope of a logarithm on log J along training, from step 100 on (C2b, C9, C13)."""
    # NaN where a network diverged.
    table = _checkpoints(runs, FIRST_STEP)
    return slopes(np.log(table["score_loss"]), log_of(table))


training_slope_sde = partial(training_slope, log_of=lambda table: np.log(table["distance_w2_sde"]))
training_slope_ode = partial(training_slope, log_of=lambda table: np.log(table["distance_w2_ode"]))
bound_slope_sde = partial(training_slope, log_of=lambda table: LN_10 * table["log10_bound_w2_sde"])


def supremum_share_ode(runs: pd.DataFrame) -> pd.Series:
    """Return the share of log(B / W2) of the ODE that is log(B / B_c) at the end of training (X1)."""
    # 1 where B_c is W2, above 1 where it is below (B_c carries the samplers' error of the pairs).
    end = _end_of_training(runs)
    log_distance = np.log10(end["distance_w2_ode"])
    return _share(end["log10_bound_w2_ode"], end["log10_averaged_bound_w2_ode"], log_distance)


def distance_ode_over_sde(runs: pd.DataFrame) -> pd.Series:
    """Return the log ratio of W2, ODE over SDE, at the end of training: positive where the SDE is nearer (X2)."""
    end = _end_of_training(runs)
    return np.log(end["distance_w2_ode"] / end["distance_w2_sde"])


def bound_sde_over_ode(runs: pd.DataFrame) -> pd.Series:
    """Return the log ratio of the bounds, SDE over ODE, at the end: positive where the bound favours the ODE (X2)."""
    end = _end_of_training(runs)
    return LN_10 * (end["log10_bound_w2_sde"] - end["log10_bound_w2_ode"])


def learned_constant_at_horizon(runs: pd.DataFrame) -> pd.Series:
    """Return the trained network's certified one-sided constant at T, the upper end of its enclosure (C4b)."""
    return _end_of_training(runs)["slope_at_horizon"]


def choice_by_bound_over_loss(runs: pd.DataFrame) -> pd.Series:
    """Return the log ratio of W2 (SDE): checkpoint of least bound over checkpoint of least J (X10)."""

    # From step 100 on. 0 where both choose the same, positive where the bound chooses the worse one.
    def chosen(of_seed: pd.DataFrame, criterion: str) -> float:
        """Return log W2 of the SDE where a criterion is least."""
        if of_seed[[criterion, "distance_w2_sde"]].isna().any(axis=None):
            return float("nan")
        return math.log(of_seed["distance_w2_sde"][of_seed[criterion].idxmin()])

    ratios = {
        seed: chosen(of_seed, "log10_bound_w2_sde") - chosen(of_seed, "score_loss")
        for seed, of_seed in _checkpoints(runs, FIRST_STEP).groupby(level="seed")
    }
    return pd.Series(ratios, dtype=float, index=pd.Index(ratios, dtype=int))


# --- Networks in the plane: estimates ---------------------------------------------------------------------------


def technique_change(runs: pd.DataFrame, arm: str, metric: str, factor: float = 1.0) -> pd.Series:
    """Return technique minus plain, in a number at the end of training in the plane, on the same seeds (C10)."""
    # factor: the number's unit in the result.
    rows = runs[(runs["experiment"] == "learned_2d") & (runs["metric"] == metric)]
    end = rows[rows["step"] == rows["step"].max()]
    table = end.pivot(index="seed", columns="arm", values="value").astype(float).reindex(columns=["plain", arm])
    return factor * (table[arm] - table["plain"])


technique_bound_change = partial(technique_change, metric="log10_estimated_bound_w2_sde", factor=LN_10)
technique_distance_change = partial(technique_change, metric="debiased_w2_sde")

spectral_norm_bound_change = partial(technique_bound_change, arm="spectral_norm")
spectral_norm_distance_change = partial(technique_distance_change, arm="spectral_norm")
weight_decay_bound_change = partial(technique_bound_change, arm="weight_decay")
weight_decay_distance_change = partial(technique_distance_change, arm="weight_decay")
likelihood_weight_bound_change = partial(technique_bound_change, arm="likelihood_weight")
likelihood_weight_distance_change = partial(technique_distance_change, arm="likelihood_weight")


# --- The source's own point sets: estimates ---------------------------------------------------------------------


def finite_set_rank(runs: pd.DataFrame, data_set: str, sampler: str) -> pd.Series:
    """Return Spearman's rank correlation of debiased W2 with J along training, from step 100 on (C9b)."""
    # The slope of ranks in units of their standard deviations. Equal distances, zeros for example, share a rank.
    ranks = _finite_set(runs, data_set).groupby(level="seed").rank()
    by_seed = ranks.groupby(level="seed")
    standard = (ranks - by_seed.transform("mean")) / by_seed.transform("std")
    return slopes(standard["score_loss"], standard[f"debiased_w2_{sampler}"])


def finite_set_bound_slope(runs: pd.DataFrame, data_set: str) -> pd.Series:
    """Return the slope of the log of the SDE's estimated bound on log J along training, from step 100 on (C13b)."""
    table = _finite_set(runs, data_set)
    return slopes(np.log(table["score_loss"]), LN_10 * table["log10_estimated_bound_w2_sde"])


def finite_set_looseness(runs: pd.DataFrame, data_set: str) -> pd.Series:
    """Return log10 of the SDE's estimated bound over plain W2 at the end of training (X16)."""
    table = _finite_set(runs, data_set).reset_index("step")
    end = table[table["step"] == table["step"].max()]
    return end["log10_estimated_bound_w2_sde"] - np.log10(end["plain_w2_sde"])


clusters_rank_sde = partial(finite_set_rank, data_set="four_clusters", sampler="sde")
clusters_rank_ode = partial(finite_set_rank, data_set="four_clusters", sampler="ode")
moons_rank_sde = partial(finite_set_rank, data_set="moons", sampler="sde")
moons_rank_ode = partial(finite_set_rank, data_set="moons", sampler="ode")
clusters_bound_slope = partial(finite_set_bound_slope, data_set="four_clusters")
moons_bound_slope = partial(finite_set_bound_slope, data_set="moons")
clusters_looseness = partial(finite_set_looseness, data_set="four_clusters")
moons_looseness = partial(finite_set_looseness, data_set="moons")


# --- Tables -----------------------------------------------------------------------------------------------------

OF_A_SAMPLER = ("distance_w2", "log10_bound_w2", "log10_averaged_bound_w2")
CHECKPOINT_METRICS = [
    *("score_loss", "slope_at_horizon"),
    *(f"{name}_{arm}" for name in OF_A_SAMPLER for arm in ("ode", "sde")),
]


def _checkpoints(runs: pd.DataFrame, first: int = 0) -> pd.DataFrame:
    """Return what was measured along training: index seed and step, one column a metric."""
    rows = runs[(runs["experiment"] == "learned") & runs["metric"].isin(CHECKPOINT_METRICS) & (runs["step"] >= first)]
    table = rows.pivot(index=["seed", "step"], columns="metric", values="value").astype(float)
    return table.reindex(columns=CHECKPOINT_METRICS)


def _end_of_training(runs: pd.DataFrame) -> pd.DataFrame:
    table = _checkpoints(runs).reset_index("step")
    return table[table["step"] == table["step"].max()]


FINITE_SET_METRICS = [
    *("score_loss", "log10_estimated_bound_w2_sde", "plain_w2_sde"),
    *("debiased_w2_sde", "debiased_w2_ode"),
]


def _finite_set(runs: pd.DataFrame, data_set: str) -> pd.DataFrame:
    """Return what was measured along training on one of the source's point sets: index seed and step."""
    rows = runs[(runs["experiment"] == "finite_set") & (runs["arm"] == data_set) & (runs["step"] >= FIRST_STEP)]
    table = rows.pivot(index=["seed", "step"], columns="metric", values="value").astype(float)
    return table.reindex(columns=FINITE_SET_METRICS)


def _offsets(runs: pd.DataFrame) -> pd.DataFrame:
    """Return experiment "offset": index arm and horizon, in this order."""
    rows = runs[runs["experiment"] == "offset"]
    rows = rows.assign(horizon=configured(rows, "horizon"))
    table = rows.pivot(index=["arm", "horizon"], columns="metric", values="value").astype(float)
    return table.reindex(columns=["offset_w2", "distance_w2", "constant_at_horizon"]).sort_index()


def _at(values: pd.Series, arm: str, horizon: float) -> pd.Series:
    return values[[key == (arm, horizon) for key in values.index]]


def _one_check(found: pd.Series, control: pd.Series) -> pd.DataFrame:
    """Return the largest error, at least 0, and the largest of the control; empty if one of them has not been run."""
    if found.empty or control.empty:
        return pd.DataFrame(columns=["max_error", "control_error"])
    # NumPy's maximum, since Python's would make NaN an error of 0.
    errors = {"max_error": np.maximum(0.0, found.max(skipna=False)), "control_error": control.max(skipna=False)}
    return pd.DataFrame(errors, index=["sweep"])


def _share(log_bound: pd.Series, log_averaged: pd.Series, log_distance: pd.Series) -> pd.Series:
    return (log_bound - log_averaged) / (log_bound - log_distance)

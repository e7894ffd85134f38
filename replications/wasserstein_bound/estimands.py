"""From runs to one number a seed (NaN: diverged), or to the errors of a check; empty where nothing has been run."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import theilslopes

from paperkit.estimands import configured, level, slopes, summarised

LN_10 = math.log(10)
# Ranks along a training leave the first steps out, in which J falls from an arbitrary start (claims.yaml).
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


def trained_excess(runs: pd.DataFrame, experiment: str = "trained") -> pd.DataFrame:
    """Return the largest violation of T4 by a network on the line, over arms, lengths, seeds and samplers (X6r)."""
    # The control holds W2 against the offset alone.
    rows = runs[runs["experiment"] == experiment]
    found, control = (
        rows[rows["metric"].isin([f"{name}_ode", f"{name}_sde"])]["value"] for name in ("excess", "control_excess")
    )
    return _one_check(found, control)


learned_excess = partial(trained_excess, experiment="learned")


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


def above_diagonal(runs: pd.DataFrame, summary: str) -> pd.Series:
    """Return how many cases have a W2 above their bound ("mean"), or by what share of W2 at most ("max") (X18)."""
    rows = runs[(runs["experiment"] == "affine") & runs["metric"].isin(["distance_w2", "bound_w2"])]
    table = rows.pivot(index=["seed", "arm", "step"], columns="metric", values="value").astype(float)
    table = table.reindex(columns=["distance_w2", "bound_w2"])
    above = (1 - table["bound_w2"] / table["distance_w2"]).clip(lower=0.0)
    return summarised((above > 0).astype(float) if summary == "mean" else above, level(above, "seed"), summary)


above_diagonal_share = partial(above_diagonal, summary="mean")
above_diagonal_most = partial(above_diagonal, summary="max")


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


def _median_slopes(x: pd.Series, y: pd.Series) -> pd.Series:
    """Return the median of the slopes between two points, by seed: an outlier among the lengths moves it little."""
    pairs = pd.DataFrame({"x": x, "y": y}).groupby(level="seed")
    fitted = {
        seed: theilslopes(of["y"], of["x"])[0] if of.notna().all(axis=None) and len(of) > 1 else math.nan
        for seed, of in pairs
    }
    return pd.Series(fitted, dtype=float, index=pd.Index(fitted, dtype=int))


def log_distance(table: pd.DataFrame, sampler: str) -> pd.Series:
    """Return log W2 of a sampler."""
    return np.log(table[f"distance_w2_{sampler}"])


def log_bound(table: pd.DataFrame, sampler: str) -> pd.Series:
    """Return log B of a sampler."""
    return LN_10 * table[f"log10_bound_w2_{sampler}"]


def training_slope(
    runs: pd.DataFrame,
    log_of: Callable[[pd.DataFrame, str], pd.Series],
    sampler: str,
    fit: Callable[[pd.Series, pd.Series], pd.Series] = slopes,
    **which: Any,
) -> pd.Series:
    """Return the slope of a logarithm on log J over lengths of training (C9r, C13r, C2br)."""
    table = trained(runs, **which)
    return fit(np.log(table["score_loss"]), log_of(table, sampler))


def supremum_share(runs: pd.DataFrame, sampler: str, **which: Any) -> pd.Series:
    """Return the share of log(B / W2) that is log(B / B_c), both summed over lengths of training (X1r)."""
    # 1 where B_c is W2, above 1 where it is below (B_c carries the samplers' error of the pairs). The sums, since a
    # share by length has a small denominator where the bound is tight.
    table = trained(runs, **which)
    columns = (log_bound(table, sampler), LN_10 * table[f"log10_averaged_bound_w2_{sampler}"])
    return _share(*(summarised(each, level(each, "seed"), "sum") for each in (*columns, log_distance(table, sampler))))


def annealed_distance_ode_over_sde(runs: pd.DataFrame, **which: Any) -> pd.Series:
    """Return the mean over lengths of log(W2 of the ODE / W2 of the SDE): positive where the SDE is nearer (C12c)."""
    nearer, _ = _sde_ahead(trained(runs, **which))
    return summarised(nearer, level(nearer, "seed"), "mean")


def bounds_apart(runs: pd.DataFrame, **which: Any) -> pd.Series:
    """Return the mean over lengths of log(B of the SDE / B of the ODE): positive where the bound favours the ODE."""
    _, favoured = _sde_ahead(trained(runs, **which))
    return summarised(favoured, level(favoured, "seed"), "mean")


def annealed_wrong_share(runs: pd.DataFrame, **which: Any) -> pd.Series:
    """Return the share of lengths at which the sampler of smaller bound has the larger W2 (X2r)."""
    wrong = ranked_wrongly(trained(runs, **which))
    return summarised(wrong, level(wrong, "seed"), "mean")


def ranked_wrongly(table: pd.DataFrame) -> pd.Series:
    """Return 1 where the sampler of smaller bound has the larger W2, else 0; NaN where a network diverged."""
    nearer, favoured = _sde_ahead(table)
    return (nearer * favoured > 0).astype(float).where((nearer * favoured).notna())


def _sde_ahead(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return log(W2 of the ODE / W2 of the SDE) and log(B of the SDE / B of the ODE)."""
    distance = log_distance(table, "ode") - log_distance(table, "sde")
    return distance, log_bound(table, "sde") - log_bound(table, "ode")


def constant_at_horizon_of_networks(runs: pd.DataFrame, **which: Any) -> pd.Series:
    """Return the networks' certified one-sided constant at T, the upper end of its enclosure (C4br)."""
    return trained(runs, **which).reset_index("step")["slope_at_horizon"]


def annealed_choice(runs: pd.DataFrame, **which: Any) -> pd.Series:
    """Return the log ratio of W2 (SDE): length of least bound over length of least J (X10r)."""

    # 0 where both choose the same, positive where the bound chooses the worse one.
    def chosen(of_seed: pd.DataFrame, criterion: str) -> float:
        """Return log W2 of the SDE where a criterion is least."""
        if of_seed[[criterion, "distance_w2_sde"]].isna().any(axis=None):
            return float("nan")
        return math.log(of_seed["distance_w2_sde"][of_seed[criterion].idxmin()])

    ratios = {
        seed: chosen(of_seed, "log10_bound_w2_sde") - chosen(of_seed, "score_loss")
        for seed, of_seed in trained(runs, **which).groupby(level="seed")
    }
    return pd.Series(ratios, dtype=float, index=pd.Index(ratios, dtype=int))


# Slices of an arm's lengths, the shortest first.
SHORTEST, LONGEST, ALL_BUT_LAST, END = slice(0, 4), slice(4, None), slice(0, -1), slice(-1, None)

annealed_slope_sde = partial(training_slope, log_of=log_distance, sampler="sde")
annealed_slope_ode = partial(training_slope, log_of=log_distance, sampler="ode")
one_run_slope_sde = partial(annealed_slope_sde, arm="one_run")
one_run_slope_ode = partial(annealed_slope_ode, arm="one_run")
longer_slope_sde = partial(annealed_slope_sde, arm="longer")
longer_slope_ode = partial(annealed_slope_ode, arm="longer")
median_slope_sde = partial(annealed_slope_sde, fit=_median_slopes)
median_slope_ode = partial(annealed_slope_ode, fit=_median_slopes)
lower_rate_slope_sde = partial(annealed_slope_sde, arm="lower_rate")
lower_rate_slope_ode = partial(annealed_slope_ode, arm="lower_rate")
overlapping_slope_sde = partial(annealed_slope_sde, arm="overlapping")
overlapping_slope_ode = partial(annealed_slope_ode, arm="overlapping")

annealed_bound_slope_sde = partial(training_slope, log_of=log_bound, sampler="sde")
annealed_bound_slope_ode = partial(training_slope, log_of=log_bound, sampler="ode")
one_run_bound_slope_sde = partial(annealed_bound_slope_sde, arm="one_run")
unannealed_bound_slope_sde = partial(annealed_bound_slope_sde, arm="one_run", lengths=ALL_BUT_LAST)
shortest_bound_slope_sde = partial(annealed_bound_slope_sde, lengths=SHORTEST)
longest_bound_slope_sde = partial(annealed_bound_slope_sde, lengths=LONGEST)
longer_bound_slope_sde = partial(annealed_bound_slope_sde, arm="longer")
median_bound_slope_sde = partial(annealed_bound_slope_sde, fit=_median_slopes)
lower_rate_bound_slope_sde = partial(annealed_bound_slope_sde, arm="lower_rate")
overlapping_bound_slope_sde = partial(annealed_bound_slope_sde, arm="overlapping")

annealed_supremum_share_ode = partial(supremum_share, sampler="ode")
annealed_supremum_share_sde = partial(supremum_share, sampler="sde")
end_supremum_share_ode = partial(annealed_supremum_share_ode, lengths=END)
shortest_supremum_share_ode = partial(annealed_supremum_share_ode, lengths=SHORTEST)
one_run_supremum_share_ode = partial(annealed_supremum_share_ode, arm="one_run")
longer_supremum_share_ode = partial(annealed_supremum_share_ode, arm="longer")
lower_rate_supremum_share_ode = partial(annealed_supremum_share_ode, arm="lower_rate")
overlapping_supremum_share_ode = partial(annealed_supremum_share_ode, arm="overlapping")

wrong_share_first = partial(annealed_wrong_share, lengths=slice(0, 1))
wrong_share_second = partial(annealed_wrong_share, lengths=slice(1, 2))
wrong_share_third = partial(annealed_wrong_share, lengths=slice(2, 3))
wrong_share_fourth = partial(annealed_wrong_share, lengths=slice(3, 4))
wrong_share_fifth = partial(annealed_wrong_share, lengths=slice(4, 5))
wrong_share_sixth = partial(annealed_wrong_share, lengths=slice(5, 6))
wrong_share_seventh = partial(annealed_wrong_share, lengths=slice(6, 7))
wrong_share_eighth = partial(annealed_wrong_share, lengths=slice(7, 8))
one_run_wrong_share = partial(annealed_wrong_share, arm="one_run")
longer_wrong_share = partial(annealed_wrong_share, arm="longer")
lower_rate_wrong_share = partial(annealed_wrong_share, arm="lower_rate")
overlapping_wrong_share = partial(annealed_wrong_share, arm="overlapping")

end_distance_ode_over_sde = partial(annealed_distance_ode_over_sde, lengths=END)
end_bound_sde_over_ode = partial(bounds_apart, lengths=END)
annealed_constant_at_horizon = partial(constant_at_horizon_of_networks, lengths=END)

# Of the superseded claims: checkpoints of one run, from step 100 on.
LEARNED = {"experiment": "learned", "arm": "network", "first": FIRST_STEP}
training_slope_sde = partial(annealed_slope_sde, **LEARNED)
training_slope_ode = partial(annealed_slope_ode, **LEARNED)
bound_slope_sde = partial(annealed_bound_slope_sde, **LEARNED)
supremum_share_ode = partial(end_supremum_share_ode, **LEARNED)
distance_ode_over_sde = partial(end_distance_ode_over_sde, **LEARNED)
bound_sde_over_ode = partial(end_bound_sde_over_ode, **LEARNED)
learned_constant_at_horizon = partial(annealed_constant_at_horizon, **LEARNED)
choice_by_bound_over_loss = partial(annealed_choice, **LEARNED)


# --- Networks in the plane: estimates ---------------------------------------------------------------------------


def technique_change(
    runs: pd.DataFrame, arm: str, metric: str, factor: float = 1.0, experiment: str = "techniques"
) -> pd.Series:
    """Return technique minus plain, in a number at the end of training in the plane, on the same seeds (C10r)."""
    # factor: the number's unit in the result.
    rows = runs[(runs["experiment"] == experiment) & (runs["metric"] == metric)]
    end = rows[rows["step"] == rows["step"].max()]
    table = end.pivot(index="seed", columns="arm", values="value").astype(float).reindex(columns=["plain", arm])
    return factor * (table[arm] - table["plain"])


technique_bound_change = partial(technique_change, metric="log10_estimated_bound_w2_sde", factor=LN_10)
technique_distance_change = partial(technique_change, metric="debiased_w2_sde")

tuned_spectral_norm_bound_change = partial(technique_bound_change, arm="spectral_norm")
tuned_spectral_norm_distance_change = partial(technique_distance_change, arm="spectral_norm")
tuned_weight_decay_bound_change = partial(technique_bound_change, arm="weight_decay")
tuned_weight_decay_distance_change = partial(technique_distance_change, arm="weight_decay")
tuned_likelihood_weight_bound_change = partial(technique_bound_change, arm="likelihood_weight")
tuned_likelihood_weight_distance_change = partial(technique_distance_change, arm="likelihood_weight")

# Of the superseded claims.
spectral_norm_bound_change = partial(tuned_spectral_norm_bound_change, experiment="learned_2d")
spectral_norm_distance_change = partial(tuned_spectral_norm_distance_change, experiment="learned_2d")
weight_decay_bound_change = partial(tuned_weight_decay_bound_change, experiment="learned_2d")
weight_decay_distance_change = partial(tuned_weight_decay_distance_change, experiment="learned_2d")
likelihood_weight_bound_change = partial(tuned_likelihood_weight_bound_change, experiment="learned_2d")
likelihood_weight_distance_change = partial(tuned_likelihood_weight_distance_change, experiment="learned_2d")


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
    *("score_loss", "slope_at_horizon", "slope_largest"),
    *(f"{name}_{arm}" for name in OF_A_SAMPLER for arm in ("ode", "sde")),
]


def trained(
    runs: pd.DataFrame,
    *,
    experiment: str = "trained",
    arm: str = "annealed",
    first: int = 1,
    lengths: slice = slice(None),
) -> pd.DataFrame:
    """Return what was measured of networks on the line: index seed and step, one column a metric."""
    # first: of the steps that count. lengths: which of those, in their order.
    rows = runs[(runs["experiment"] == experiment) & (runs["arm"] == arm) & (runs["step"] >= first)]
    rows = rows[rows["metric"].isin(CHECKPOINT_METRICS)]
    table = rows.pivot(index=["seed", "step"], columns="metric", values="value").astype(float)
    steps = level(table, "step")
    kept = steps.isin(sorted(set(steps))[lengths])
    return table.reindex(columns=CHECKPOINT_METRICS)[kept]


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

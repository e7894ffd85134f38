"""Numbers that a line of claims.yaml cannot say: readings at equal gain, slopes on the rank, counts."""

import json
import re
from functools import partial

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator
from scipy.stats import spearmanr

from paperkit.estimands import configured, difference, level, of_arm, slopes

FULL, EIGHT = "full", "resampled_8"


def at_equal_gain(
    runs: pd.DataFrame, experiment: str, of: str, minus: str, place: int, metric: str = "source_loss_nats"
) -> pd.Series:
    """Read a metric of two arms at one of the gains that were fixed beforehand; return the difference by seed."""
    rows = runs[runs["experiment"] == experiment]
    both = {
        arm: {seed: _read(of_seed, place, metric) for seed, of_seed in rows[rows["arm"] == arm].groupby("seed")}
        for arm in (of, minus)
    }
    first, second = (pd.Series(values, dtype=float) for values in both.values())
    return first.sub(second).loc[first.index.intersection(second.index)]


def _read(rows: pd.DataFrame, place: int, metric: str) -> float:
    """Read one arm's curve of one seed, NaN where it does not reach the gain."""
    gain, value = (_by_rate(rows, name) for name in ("gain_nats", metric))
    curve = pd.DataFrame({"gain": gain, "value": value}).dropna().sort_index()
    at = json.loads(rows["config"].iloc[0])["gains"][place]
    if curve.empty or curve["gain"].max() < at:
        return float("nan")
    # Up to the rate that gains most: beyond it, more is forgotten for less. A rate of zero gains and forgets nothing.
    branch = curve.iloc[: int(curve["gain"].argmax()) + 1].query("gain > 0").sort_values("gain")
    start = _by_rate(rows, "start_source_loss_nats").iloc[0] if metric == "source_loss_nats" else 0.0
    return float(PchipInterpolator([0.0, *branch["gain"]], [start, *branch["value"]])(at))


def _by_rate(rows: pd.DataFrame, metric: str) -> pd.Series:
    of = rows[(rows["split"] == "test") & (rows["metric"] == metric)]
    return pd.Series(of["value"].to_numpy(dtype=float), index=configured(of, "lr").to_numpy())


# A quarter, a half and three quarters of what the weaker arm can gain; without a word, the last.
forgetting_of_sgd = partial(at_equal_gain, experiment="frontier_sgd", of="sgd", minus=EIGHT, place=2)
forgetting_of_sgd_at_half = partial(forgetting_of_sgd, place=1)
forgetting_of_sgd_at_a_quarter = partial(forgetting_of_sgd, place=0)
forgetting_of_sgd_4_times = partial(forgetting_of_sgd, experiment="frontier_sgd_4_times")
forgetting_of_sgd_all = partial(forgetting_of_sgd, experiment="frontier_sgd_all")
forgetting_of_full = partial(at_equal_gain, experiment="frontier_adam", of=FULL, minus="lora_4", place=2)
forgetting_with_decay = partial(forgetting_of_full, of="lora_4", minus="lora_4_decay")
forgetting_of_full_over_rank_4 = partial(forgetting_of_full, experiment="continued")
forgetting_of_full_over_rank_64 = partial(forgetting_of_full_over_rank_4, minus="lora_64")
drift_of_full_over_rank_4 = partial(forgetting_of_full_over_rank_4, metric="source_drift_nats")


def rank_trend(runs: pd.DataFrame) -> pd.Series:
    """Return the rank correlation of LoRA's rank with minus its test loss, by seed."""
    by_rank = _by_rank(runs, "adapt", "lora")
    if not by_rank:
        return pd.Series(dtype=float)
    table = pd.concat(by_rank, axis=1, join="inner")  # primary ranks have more seeds than the others
    return table.apply(lambda of: float(spearmanr(of.index, -of).statistic), axis=1)


def penalty_slope(runs: pd.DataFrame, capped: bool = True) -> pd.Series:
    """Return the slope of the log of the penalty on minus the log of the rank, by seed, at a quarter of SGD's rate.

    The penalty is the loss above SGD's at the same rate; if `capped`, a run that ends above its start counts as it.
    """
    start = of_arm(runs, "penalty", "sgd", "start_loss_nats", "test")
    best, found = of_arm(runs, "penalty", "sgd", "loss_nats", "test"), {}
    for rank, losses in _by_rank(runs, "penalty", "resampled").items():
        penalty = (losses.fillna(np.inf).clip(upper=start) if capped else losses) - best
        found[rank] = np.log(penalty.where(penalty > 0))  # below SGD's own loss there is no logarithm
    if not found:
        return pd.Series(dtype=float)
    logs = pd.concat(found, names=["rank", "seed"])
    return slopes(-np.log(level(logs, "rank").astype(float)), logs)


penalty_slope_uncapped = partial(penalty_slope, capped=False)


def loss_of_resampling_over_slower_sgd(runs: pd.DataFrame) -> pd.Series:
    """Return the loss of rank 8 at 0.34 minus SGD at 0.8, by seed; there SGD scatters less than at its best."""
    rows = runs[(runs["experiment"] == "frontier_sgd") & (runs["metric"] == "gain_nats")]
    rates = configured(rows, "lr")
    slower, projected = (
        rows[(rows["arm"] == arm) & (rates == lr)].set_index("seed")["value"]
        for arm, lr in (("sgd", 0.8), (EIGHT, 0.34))
    )
    return slower.sub(projected)  # both from one start


def _by_rank(runs: pd.DataFrame, experiment: str, kind: str) -> dict[int, pd.Series]:
    names = runs.loc[runs["experiment"] == experiment, "arm"].unique()
    ranks = {int(found[1]): name for name in names if (found := re.fullmatch(rf"{kind}_(\d+)", name))}
    return {rank: of_arm(runs, experiment, name, "loss_nats", "test") for rank, name in sorted(ranks.items())}


def signs_cure_layer_norm(runs: pd.DataFrame) -> pd.Series:
    """Return by how much random signs help more with LayerNorm than with RMSNorm, at rank 1."""
    gains = [difference(runs, name, "ones_1", "signs_1", "loss_nats", "test") for name in ("adapt", "adapt_rms")]
    return gains[0].sub(gains[1]).loc[gains[0].index.intersection(gains[1].index)]


def steps_to_the_same_loss(runs: pd.DataFrame) -> pd.Series:
    """Return the steps of equal rates over those of the best ratio to the last loss of equal rates, on validation."""
    rows = runs[(runs["experiment"] == "adapt_ratio") & (runs["split"] == "validation")]
    found = {}
    for seed, of_seed in rows.groupby("seed"):
        curves = {arm: of.set_index("step")["value"].sort_index() for arm, of in of_seed.groupby("arm")}
        last, curve = curves["equal_rates"].iloc[-1], curves["best_ratio"]
        after = np.append(curve <= last, True).argmax()
        around = curve.iloc[max(after - 1, 0) : after + 1]  # where it crosses; one end, if before or never
        ratio = curve.index[-1] / np.interp(-last, -around, around.index)
        found[seed] = ratio if np.isfinite([last, *curve]).all() else np.nan
    return pd.Series(found, dtype=float)


def second_half_of_full(runs: pd.DataFrame) -> pd.Series:
    """Return what the second half of full training's steps takes off its validation loss."""
    half, end = (of_arm(runs, "encoder", FULL, metric, "validation") for metric in ("half_way_loss_nats", "loss_nats"))
    return half - end


def both_forms_on_an_encoder(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the difference of the optimizer form to factors inside the network; without the scale as control."""
    table = runs[runs["experiment"] == "encoder_equality"].pivot(index="arm", columns="metric", values="value")
    return table.rename(columns={"difference_ratio": "max_error", "control_ratio": "control_error"})


def moments_counted(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the relative error of 2r(n + m) for the moments of the optimizer form; of 2nm as control."""
    rows = runs[runs["experiment"].str.startswith("costs_") & runs["arm"].isin(["optimizer_form", "incremental"])]
    table = rows.pivot_table(index=["experiment", "arm"], columns="metric", values="value")
    if table.empty:
        return pd.DataFrame()
    errors = [(table[f"moments_of_{name}_bytes"] / table["moment_bytes"] - 1).abs() for name in ("factors", "full")]
    return pd.DataFrame({"max_error": errors[0].max(), "control_error": errors[1].min()}, index=["counted"])


def activations_kept(runs: pd.DataFrame) -> pd.DataFrame:
    """Return how far the activations kept by LoRA inside are from full training's, r <= d/32; control: largest r."""
    rows = runs[runs["experiment"].str.startswith("costs_") & (runs["metric"] == "activation_bytes")]
    if rows.empty:
        return pd.DataFrame()
    table = rows.pivot_table(index="experiment", columns="arm", values="value")
    shares = np.array([int(rank) / int(width) for width, rank in (name.split("_")[1:] for name in table.index)])
    errors = (table["inside"] / table["full"] - 1).abs().to_numpy()
    found = {"max_error": errors[shares <= 1 / 32].max(), "control_error": errors[shares.argmax()]}
    return pd.DataFrame(found, index=["counted"])

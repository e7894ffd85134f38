"""From runs to one number a seed, where a line of `claims.yaml` cannot say it.

An estimand of an experiment that has not been run is empty. NaN marks a seed in which a run diverged.
"""

from functools import partial

import numpy as np
import pandas as pd

from paperkit.estimands import configured, level, of_arm, slopes, summarised


def box_excess(runs: pd.DataFrame) -> pd.DataFrame:
    """Largest excess over the bound of step 6 on digits, in half-widths of the box, never below 0 (C7a)."""
    # The control is the least excess in experiment "constraint_control": no decay, the same box.
    rows = runs[runs["metric"] == "box_excess"]
    if rows.empty:
        return pd.DataFrame(columns=["max_error", "control_error"])
    excess = {name: of_name["value"].to_numpy() for name, of_name in rows.groupby("experiment")}
    # NumPy's maximum, since Python's would make a diverged run (NaN) one inside the box.
    errors = {
        "max_error": np.maximum(0, excess["constraint"].max()),
        "control_error": excess["constraint_control"].min(),
    }
    return pd.DataFrame(errors, index=["box_excess"])


def batch_gap_slope(runs: pd.DataFrame) -> pd.Series:
    """Slope of log(test loss Lion / AdamW) on log batch, by seed (C5); negative where Lion gains with the batch."""
    rows = runs[(runs["experiment"] == "batch_sweep") & (runs["split"] == "test") & (runs["metric"] == "nll_nats")]
    losses = _by_arm(rows.assign(batch=configured(rows, "batch")), "batch")
    return _slope_on_log_batch(np.log(losses["lion"] / losses["adamw"]))


def lr_ratio_slope(runs: pd.DataFrame) -> pd.Series:
    """Slope of log(best learning rate AdamW / Lion) on log batch, by seed (C4); negative where the ratio falls."""
    # The best learning rate is the vertex of a parabola through log loss against log learning rate at the least loss
    # and its two neighbours on each side: the grid's own minimum would move in steps.
    best = _parabolas(runs)["vertex"].unstack("arm").reindex(columns=["adamw", "lion"])
    return _slope_on_log_batch(best["adamw"] - best["lion"])


def digits_sensitivity_gap(runs: pd.DataFrame) -> pd.Series:
    """How much more Lion's log loss rises than AdamW's at half and twice the best learning rate (C13b)."""
    # By the parabolas of `lr_ratio_slope`: with curvature a the rise is a (log 2)² on both sides. Mean over batches.
    rises = _parabolas(runs)["curvature"].unstack("arm").reindex(columns=["adamw", "lion"]) * np.log(2) ** 2
    gap = rises["lion"] - rises["adamw"]
    return summarised(gap, level(gap, "seed"), "mean")


def update_ratio_slope(runs: pd.DataFrame) -> pd.Series:
    """Slope of the log median k (displacement Lion / AdamW) on log batch, by seed (X9); negative where k falls."""
    rows = runs[(runs["experiment"] == "batch_updates") & (runs["metric"] == "update_ratio")]
    medians = rows.assign(batch=configured(rows, "batch")).groupby(["seed", "batch"])["value"].median(skipna=False)
    return _slope_on_log_batch(np.log(medians))


def row_ratio(runs: pd.DataFrame, arm: str) -> pd.Series:
    """Root mean square of rows whose token came 1 to 9 times over that of 100 and more, of a remedy, by seed (C9)."""
    rare, frequent = (of_arm(runs, "lm_embedding", arm, f"embedding_{counts}_rms") for counts in ("1_9", "100"))
    return rare / frequent


lazy_rows_row_ratio = partial(row_ratio, arm="lion_lazy_rows")
tied_row_ratio = partial(row_ratio, arm="lion_tied")
half_swapped_row_ratio = partial(row_ratio, arm="lion_half_swapped")
adamw_embedding_row_ratio = partial(row_ratio, arm="lion_adamw_embedding")


def sensitivity_gap(runs: pd.DataFrame) -> pd.Series:
    """Rise of the test loss at half and twice the own best learning rate, mean of both, Lion minus AdamW (C13)."""
    moved = {arm: [_test_losses(runs, f"lr_factor_{f}", arm) for f in ("0.5", "2")] for arm in ("lion", "adamw")}
    lion, adamw = (sum(moved[arm]) / 2 - _test_losses(runs, "variants", arm) for arm in ("lion", "adamw"))
    return lion - adamw


def masked_share(runs: pd.DataFrame) -> pd.Series:
    """Share of entries that the cautious rule masks, mean over the run, by seed (C16c)."""
    rows = runs[(runs["experiment"] == "updates") & (runs["arm"] == "cautious_lion")]
    rows = rows[rows["metric"] == "masked_share"]
    return summarised(rows["value"], rows["seed"], "mean")


def update_size(runs: pd.DataFrame, step: int) -> pd.Series:
    """AdamW's mean |u| in learning rates after `step` steps, over entries that have had a gradient, by seed (C15)."""
    rows = runs[(runs["experiment"] == "updates") & (runs["arm"] == "adamw") & (runs["metric"] == "adamw_mean_abs")]
    # A run that diverged before this step has no number there.
    return rows.pivot(index="seed", columns="step", values="value").reindex(columns=[step])[step]


first_update_size = partial(update_size, step=1)
late_update_size = partial(update_size, step=200)


def log_loss_ratio(runs: pd.DataFrame, pair: str, reference: str = "0.9_0.99") -> pd.Series:
    """log(digits' test loss under one pair of betas / under the reference), by seed (C12); positive: worse."""
    losses = (of_arm(runs, f"betas_{name}", "lion", "nll_nats", "test") for name in (pair, reference))
    return np.log(next(losses)) - np.log(next(losses))


single_beta_cost = partial(log_loss_ratio, pair="0.965_0.965")
stable_betas_change = partial(log_loss_ratio, pair="0.95_0.98")
reversed_betas_cost = partial(log_loss_ratio, pair="0.99_0.9")


def narrow_box_cost(runs: pd.DataFrame) -> pd.Series:
    """log(Lion's test loss on digits at λ = 30 / at λ = 1), by seed (C7b); positive where the narrow box costs."""
    rows = runs[(runs["experiment"] == "constraint") & (runs["metric"] == "nll_nats")]
    rows = rows.assign(weight_decay=configured(rows, "weight_decay"))
    losses = rows.pivot(index="seed", columns="weight_decay", values="value").reindex(columns=[1.0, 30.0])
    return np.log(losses[30.0] / losses[1.0])


def flatness_gap(runs: pd.DataFrame, metric: str = "perturbed_0.1_nll_nats") -> pd.Series:
    """Rise of the test loss under a disturbance of the weights, AdamW minus Lion in nats, by seed (C14)."""
    # Both from equal training loss; positive where Lion's minimum is flatter.
    rise = {
        arm: of_arm(runs, "flatness", arm, metric) - of_arm(runs, "flatness", arm, "nll_nats", "test")
        for arm in ("adamw", "lion")
    }
    return rise["adamw"] - rise["lion"]


def pure_torch_time_ratio(timings: pd.DataFrame) -> pd.Series:
    """Step time of the best pure-PyTorch Lion over the fastest AdamW's, by round (C3)."""
    return _time_ratio(timings, ("lion_for_loop", "lion_foreach", "lion_pytorch"))


def kernel_time_ratio(timings: pd.DataFrame) -> pd.Series:
    """Step time of the compiled Lion over the fastest AdamW's, by round (X2)."""
    return _time_ratio(timings, ("lion_fused",))


def whole_step_time_ratio(timings: pd.DataFrame) -> pd.Series:
    """Time of a whole training step with the compiled Lion over that with the fused AdamW, by round (X11)."""
    steps = clock_readings(timings, "training_step", "training_step_s")
    steps = steps.reindex(columns=["adamw_fused", "lion_fused"])
    return steps["lion_fused"] / steps["adamw_fused"]


def kernel_share_of_bandwidth(timings: pd.DataFrame) -> pd.Series:
    """Share of the memory bandwidth that the compiled Lion's step uses at its least traffic, by round (X13)."""
    # The bandwidth is that of the fastest sweep in the same round: a slower one would only flatter the kernel.
    bandwidth = clock_readings(timings, "bandwidth", "bytes_per_s").max(axis=1)
    bytes_moved = clock_readings(timings, "step_time", "minimal_bytes").reindex(columns=["lion_fused"])
    seconds = clock_readings(timings, "step_time", "step_s").reindex(columns=["lion_fused"])
    return (bytes_moved / seconds)["lion_fused"] / bandwidth


def clock_readings(timings: pd.DataFrame, experiment: str, metric: str) -> pd.DataFrame:
    """Arrange one metric: index round, one column an arm."""
    rows = timings[(timings["experiment"] == experiment) & (timings["metric"] == metric)]
    return rows.pivot(index="seed", columns="arm", values="value").astype(float)


def _time_ratio(timings: pd.DataFrame, lions: tuple[str, ...]) -> pd.Series:
    steps = clock_readings(timings, "step_time", "step_s")
    adamws = [arm for arm in steps.columns if arm.startswith("adamw_")]
    return steps.reindex(columns=list(lions)).min(axis=1) / steps[adamws].min(axis=1)


def _test_losses(runs: pd.DataFrame, experiment: str, arm: str) -> pd.Series:
    """Return the final test loss of a language model, by seed."""
    return of_arm(runs, experiment, arm, "loss_nats", "test")


def _by_arm(rows: pd.DataFrame, *levels: str) -> pd.DataFrame:
    """Pair the arms: index seed (and levels), one column an arm; NaN where a run diverged."""
    table = rows.pivot(index=["seed", *levels], columns="arm", values="value").astype(float)
    return table.reindex(columns=["adamw", "lion"])


def _slope_on_log_batch(values: pd.Series) -> pd.Series:
    """Return the least-squares slope of values (index seed, batch) on log batch, by seed."""
    return slopes(np.log(level(values, "batch")), values)


def _parabolas(runs: pd.DataFrame) -> pd.DataFrame:
    """Fit each curve of log loss against log learning rate; index seed, batch, arm."""
    chosen = (runs["experiment"] == "learning_rate_sweep") & (runs["split"] == "validation")
    rows = runs[chosen & (runs["metric"] == "nll_nats")]
    rows = rows.assign(batch=configured(rows, "batch"), log_lr=np.log(configured(rows, "lr")))
    keys = ["seed", "batch", "arm"]
    fits = {key: _parabola(curve) for key, curve in rows.groupby(keys)}
    index = pd.MultiIndex.from_tuples(fits, names=keys)
    return pd.DataFrame(list(fits.values()), index=index, columns=["vertex", "curvature"], dtype=float)


def _parabola(curve: pd.DataFrame) -> tuple[float, float]:
    """Return the log learning rate of least loss and the curvature there, or NaN at the end of the grid."""
    ordered = curve.sort_values("log_lr")
    log_lr, log_loss = ordered["log_lr"].to_numpy(), np.log(ordered["value"].to_numpy())
    least = int(np.nanargmin(log_loss)) if np.isfinite(log_loss).any() else 0
    near = slice(max(0, least - 2), least + 3)
    x, y = log_lr[near], log_loss[near]
    if least in (0, len(log_loss) - 1) or np.isnan(y).any():
        return float("nan"), float("nan")
    curvature, slope, _ = np.polyfit(x, y, 2)
    return (float(-slope / (2 * curvature)), float(curvature)) if curvature > 0 else (float("nan"), float("nan"))

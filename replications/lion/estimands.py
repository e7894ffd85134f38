"""From runs to one number a seed (NaN: diverged), where a line of `claims.yaml` cannot say it; empty if not run."""

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy.interpolate import make_smoothing_spline

from paperkit.estimands import configured, level, of_arm, slopes, summarised

# From a curve, log learning rates and log losses in ascending order, to a number.
Reading = Callable[[np.ndarray, np.ndarray], float]


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


def batch_gap_slope(runs: pd.DataFrame, experiment: str = "batch_sweep", split: str = "test") -> pd.Series:
    """Slope of log(loss Lion / AdamW) on log batch, by seed (C5, C5r); negative where Lion gains with the batch."""
    losses = np.log(_on_digits(runs, experiment, split, "nll_nats"))
    return _slope_on_log_batch(losses["lion"] - losses["adamw"])


batch_gap_slope_longer = partial(batch_gap_slope, experiment="batch_sweep_longer")
batch_gap_slope_budget = partial(batch_gap_slope, experiment="batch_sweep_budget")
batch_gap_slope_validation = partial(batch_gap_slope, split="validation")


def batch_error_slope(runs: pd.DataFrame) -> pd.Series:
    """Slope of the difference of shares of wrong answers, Lion minus AdamW, on log batch, by seed (C5r)."""
    shares = _on_digits(runs, "batch_sweep", "test", "error_share")
    return _slope_on_log_batch(shares["lion"] - shares["adamw"])


def vertex(log_lr: np.ndarray, log_loss: np.ndarray, reach: int = 2) -> float:
    """Return the log learning rate of least loss, by a parabola through the least and `reach` neighbours a side."""
    return _parabola(log_lr, log_loss, reach)[0]


def argmin(log_lr: np.ndarray, log_loss: np.ndarray) -> float:
    """Return the log learning rate of the point with the least loss, or NaN at the end of the grid."""
    least = _inner_least(log_loss)
    return float("nan") if least is None else float(log_lr[least])


def spline_minimum(log_lr: np.ndarray, log_loss: np.ndarray, reach: int = 6) -> float:
    """Return where a smoothing spline is least, smoothness by generalised cross-validation; NaN at the grid's end."""
    least = _inner_least(log_loss)
    if least is None:
        return float("nan")
    near = slice(max(0, least - reach), least + reach + 1)
    x, y = log_lr[near], log_loss[near]
    if len(x) < 5 or np.isnan(y).any():
        return float("nan")
    fine = np.linspace(x[0], x[-1], 1001)
    return float(fine[np.argmin(make_smoothing_spline(x, y)(fine))])


def lr_ratio_slope(
    runs: pd.DataFrame, best: Reading = vertex, experiment: str = "learning_rate_sweep", split: str = "validation"
) -> pd.Series:
    """Slope of log(best learning rate AdamW / Lion) on log batch, by seed (C4); negative where the ratio falls."""
    return _slope_on_log_batch(log_rate_ratio(runs, best, experiment, split))


# On the grid of C4r, of factors of the root of two, four neighbours a side span a factor of 16.
best_vertex = partial(vertex, reach=4)
best_rate_slope = partial(lr_ratio_slope, best=best_vertex)
best_rate_slope_three_points = partial(lr_ratio_slope, best=partial(vertex, reach=1))
best_rate_slope_wide = partial(lr_ratio_slope, best=partial(vertex, reach=6))
best_rate_slope_spline = partial(lr_ratio_slope, best=spline_minimum)
best_rate_slope_argmin = partial(lr_ratio_slope, best=argmin)
best_rate_slope_test = partial(lr_ratio_slope, best=best_vertex, split="test")
# Every second rate: two neighbours span the same factor.
best_rate_slope_longer = partial(lr_ratio_slope, experiment="learning_rate_sweep_longer")


def rate_ratio_beside_k(runs: pd.DataFrame) -> pd.Series:
    """log(best learning rate AdamW / Lion) minus the log of the measured k, mean over batches, by seed (X17)."""
    gap = log_rate_ratio(runs, best_vertex) - np.log(median_k(runs))
    return summarised(gap, level(gap, "seed"), "mean")


def digits_sensitivity_gap(runs: pd.DataFrame, reach: int = 2) -> pd.Series:
    """How much more Lion's log loss rises than AdamW's at half and twice the best learning rate (C13b, C13br)."""
    # By the parabolas of `lr_ratio_slope`: with curvature a the rise is a (log 2)² on both sides. Mean over batches.
    curves = _read_curves(runs, lambda x, y: _parabola(x, y, reach)[1], "learning_rate_sweep", "validation")
    gap = (curves["lion"] - curves["adamw"]) * np.log(2) ** 2
    return summarised(gap, level(gap, "seed"), "mean")


curvature_gap = partial(digits_sensitivity_gap, reach=4)


def update_ratio_slope(runs: pd.DataFrame) -> pd.Series:
    """Slope of the log median k (displacement Lion / AdamW) on log batch, by seed (X9); negative where k falls."""
    return _slope_on_log_batch(np.log(median_k(runs)))


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


def late_update_beside_noise(runs: pd.DataFrame) -> pd.Series:
    """AdamW's mean |u| after 200 steps over that of pure Gaussian noise (step 9), by seed (X16)."""
    rows = runs[(runs["experiment"] == "updates") & (runs["arm"] == "adamw")].drop_duplicates("seed")
    beta1 = pd.Series([json.loads(text)["betas"][0] for text in rows["config"]], index=rows["seed"], dtype=float)
    return late_update_size(runs) / np.sqrt(2 / np.pi * (1 - beta1) / (1 + beta1))


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
    """Step time of the best pure-PyTorch Lion over the fastest AdamW's, by round (C3); unlike means are compared."""
    return _time_ratio(timings, ("lion_for_loop", "lion_foreach", "lion_pytorch"))


def like_for_like(timings: pd.DataFrame, kind: str) -> pd.Series:
    """Step time of our Lion over AdamW's, both as a loop, in foreach, or in a compiled kernel, by round (C3r)."""
    steps = clock_readings(timings, "step_time", "step_s").reindex(columns=[f"lion_{kind}", f"adamw_{kind}"])
    return steps[f"lion_{kind}"] / steps[f"adamw_{kind}"]


loop_time_ratio = partial(like_for_like, kind="for_loop")
foreach_time_ratio = partial(like_for_like, kind="foreach")
compiled_time_ratio = partial(like_for_like, kind="fused")


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


def median_k(runs: pd.DataFrame) -> pd.Series:
    """Return the median of the measured k along a run; index seed, batch."""
    rows = runs[(runs["experiment"] == "batch_updates") & (runs["metric"] == "update_ratio")]
    return rows.assign(batch=configured(rows, "batch")).groupby(["seed", "batch"])["value"].median(skipna=False)


def log_rate_ratio(
    runs: pd.DataFrame, best: Reading, experiment: str = "learning_rate_sweep", split: str = "validation"
) -> pd.Series:
    """Return log(best learning rate AdamW / Lion); index seed, batch."""
    rates = _read_curves(runs, best, experiment, split)
    return rates["adamw"] - rates["lion"]


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


def _on_digits(runs: pd.DataFrame, experiment: str, split: str, metric: str) -> pd.DataFrame:
    """Arrange a metric of the batch sweep: index seed, batch, one column an arm."""
    rows = runs[(runs["experiment"] == experiment) & (runs["split"] == split) & (runs["metric"] == metric)]
    return _by_arm(rows.assign(batch=configured(rows, "batch")), "batch")


def _read_curves(runs: pd.DataFrame, reading: Reading, experiment: str, split: str) -> pd.DataFrame:
    """Read a number off each curve of log loss against log learning rate; index seed, batch, one column an arm."""
    chosen = (runs["experiment"] == experiment) & (runs["split"] == split) & (runs["metric"] == "nll_nats")
    rows = runs[chosen]
    rows = rows.assign(batch=configured(rows, "batch"), log_lr=np.log(configured(rows, "lr"))).sort_values("log_lr")
    keys = ["seed", "batch", "arm"]
    numbers = {
        key: reading(curve["log_lr"].to_numpy(), np.log(curve["value"].to_numpy(dtype=float)))
        for key, curve in rows.groupby(keys)
    }
    index = pd.MultiIndex.from_tuples(numbers, names=keys)
    table = pd.Series(list(numbers.values()), index=index, dtype=float).unstack("arm")
    return table.reindex(columns=["adamw", "lion"])


def _inner_least(log_loss: np.ndarray) -> int | None:
    """Return the place of the least loss, or None at the end of the grid."""
    least = int(np.nanargmin(log_loss)) if np.isfinite(log_loss).any() else 0
    return None if least in (0, len(log_loss) - 1) else least


def _parabola(log_lr: np.ndarray, log_loss: np.ndarray, reach: int) -> tuple[float, float]:
    """Return the log learning rate of least loss and the curvature there, or NaN at the end of the grid."""
    least = _inner_least(log_loss)
    if least is None:
        return float("nan"), float("nan")
    near = slice(max(0, least - reach), least + reach + 1)
    x, y = log_lr[near], log_loss[near]
    if np.isnan(y).any():
        return float("nan"), float("nan")
    curvature, slope, _ = np.polyfit(x, y, 2)
    return (float(-slope / (2 * curvature)), float(curvature)) if curvature > 0 else (float("nan"), float("nan"))

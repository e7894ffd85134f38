"""From runs to one number a seed; `claims.yaml` names these functions.

An estimand of an experiment that has not been run is empty. NaN marks a seed in which a run diverged.
"""

import json
from functools import partial

import numpy as np
import pandas as pd


def identity_errors(runs: pd.DataFrame, check: str) -> pd.DataFrame:
    """Return the error of one check of the derivation, and that of its negative control.

    Args:
        runs: `runs.csv`.
        check: Name of the check in `derivation.py`.

    Returns:
        One row, columns max_error and control_error.
    """
    rows = runs[(runs["experiment"] == "identities") & (runs["arm"] == check)]
    return rows.pivot(index="arm", columns="metric", values="value")


step_1_magnitude = partial(identity_errors, check="step_1_magnitude")
step_2_first_step = partial(identity_errors, check="step_2_first_step")
step_3_signum = partial(identity_errors, check="step_3_signum")
step_4_other_form = partial(identity_errors, check="step_4_other_form")
step_5_scale_invariance = partial(identity_errors, check="step_5_scale_invariance")
step_6_box_bound = partial(identity_errors, check="step_6_box_bound")
step_7_constrained_optimum = partial(identity_errors, check="step_7_constrained_optimum")
state_bytes = partial(identity_errors, check="state_bytes")


def lm_gap(runs: pd.DataFrame) -> pd.Series:
    """Return by how much Lion's final test loss is below AdamW's (C6).

    Args:
        runs: `runs.csv`; experiment "lm_quality".

    Returns:
        AdamW minus Lion in nats a token, by seed; positive where Lion is better.
    """
    rows = runs[(runs["experiment"] == "lm_quality") & (runs["split"] == "test") & (runs["metric"] == "loss_nats")]
    losses = _by_arm(rows)
    return losses["adamw"] - losses["lion"]


def batch_gap_slope(runs: pd.DataFrame) -> pd.Series:
    """Return how the log ratio of test losses Lion / AdamW changes with the logarithm of the batch (C5).

    Args:
        runs: `runs.csv`; experiment "digits_batch", metric "nll_nats" on the test split, `batch` in the config.

    Returns:
        Least-squares slope by seed; negative where Lion gains with the batch.
    """
    rows = runs[(runs["experiment"] == "digits_batch") & (runs["split"] == "test") & (runs["metric"] == "nll_nats")]
    losses = _by_arm(rows.assign(batch=_configured(rows, "batch")), "batch")
    return _slope_on_log_batch(np.log(losses["lion"] / losses["adamw"]))


def lr_ratio_slope(runs: pd.DataFrame) -> pd.Series:
    """Return how the log ratio of best learning rates AdamW / Lion changes with the logarithm of the batch (C4).

    The best learning rate is the vertex of a parabola through log loss against log learning rate at the least
    loss and its two neighbours on each side: the grid's own minimum would move in steps.

    Args:
        runs: `runs.csv`; experiment "digits_learning_rate", metric "nll_nats" on the validation split, `batch`
            and `lr` in the config, the same learning rates for both arms.

    Returns:
        Least-squares slope by seed; negative where the ratio falls.
    """
    chosen = (runs["experiment"] == "digits_learning_rate") & (runs["split"] == "validation")
    rows = runs[chosen & (runs["metric"] == "nll_nats")]
    rows = rows.assign(batch=_configured(rows, "batch"), log_lr=np.log(_configured(rows, "lr")))
    vertices = {key: _vertex(curve) for key, curve in rows.groupby(["seed", "batch", "arm"])}
    best = pd.Series(vertices, index=pd.MultiIndex.from_tuples(vertices, names=["seed", "batch", "arm"]), dtype=float)
    ratios = best.unstack("arm").reindex(columns=["adamw", "lion"])
    return _slope_on_log_batch(ratios["adamw"] - ratios["lion"])


def rare_row_gap(runs: pd.DataFrame) -> pd.Series:
    """Return how much larger Lion's share of embedding entries near the wall is, in rows of rare tokens (C8).

    Args:
        runs: `runs.csv`; experiment "lm_embedding", metric "rare_share": entries of rows seen 1 to 9 times above
            0.8 (q^T |θ₀| + (1 - q^T) / λ), q = 1 - ηλ, as a share of all entries of those rows.

    Returns:
        Lion minus AdamW by seed.
    """
    rows = runs[(runs["experiment"] == "lm_embedding") & (runs["metric"] == "rare_share")]
    shares = _by_arm(rows)
    return shares["lion"] - shares["adamw"]


def pure_torch_time_ratio(timings: pd.DataFrame) -> pd.Series:
    """Return the best pure-PyTorch Lion's step time over the fastest AdamW's (C3).

    Args:
        timings: `timings.csv`; metric "step_s", arms named optimizer_implementation.

    Returns:
        Ratio by round.
    """
    return _time_ratio(timings, ("lion_for_loop", "lion_foreach", "lion_pytorch"))


def kernel_time_ratio(timings: pd.DataFrame) -> pd.Series:
    """Return the compiled Lion's step time over the fastest AdamW's (X2).

    Args:
        timings: `timings.csv`; metric "step_s", arms named optimizer_implementation.

    Returns:
        Ratio by round.
    """
    return _time_ratio(timings, ("lion_fused",))


def _time_ratio(timings: pd.DataFrame, lions: tuple[str, ...]) -> pd.Series:
    steps = timings[timings["metric"] == "step_s"].pivot(index="seed", columns="arm", values="value")
    adamws = [arm for arm in steps.columns if arm.startswith("adamw_")]
    return steps.reindex(columns=list(lions)).min(axis=1) / steps[adamws].min(axis=1)


def _by_arm(rows: pd.DataFrame, *levels: str) -> pd.DataFrame:
    """Pair the arms: index seed (and levels), one column an arm; NaN where a run diverged."""
    table = rows.pivot(index=["seed", *levels], columns="arm", values="value").astype(float)
    return table.reindex(columns=["adamw", "lion"])


def _configured(rows: pd.DataFrame, key: str) -> pd.Series:
    return rows["config"].map(lambda text: float(json.loads(text)[key])).astype(float)


def _slope_on_log_batch(values: pd.Series) -> pd.Series:
    """Return the least-squares slope of values (index seed, batch) on log batch, by seed."""
    by_seed = values.groupby(level="seed")
    return by_seed.apply(lambda y: np.polyfit(np.log(y.index.get_level_values("batch")), y, 1)[0]).astype(float)


def _vertex(curve: pd.DataFrame) -> float:
    """Return the log learning rate of least loss, or NaN where the minimum lies at the end of the grid."""
    ordered = curve.sort_values("log_lr")
    log_lr, log_loss = ordered["log_lr"].to_numpy(), np.log(ordered["value"].to_numpy())
    least = int(np.nanargmin(log_loss)) if np.isfinite(log_loss).any() else 0
    near = slice(max(0, least - 2), least + 3)
    x, y = log_lr[near], log_loss[near]
    if least in (0, len(log_loss) - 1) or np.isnan(y).any():
        return float("nan")
    curvature, slope, _ = np.polyfit(x, y, 2)
    return float(-slope / (2 * curvature)) if curvature > 0 else float("nan")

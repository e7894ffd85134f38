"""What estimands of several replications are made of: from `runs.csv` to one number a seed, or to a check's errors.

NaN marks a seed in which a run diverged, and must not get lost on the way: no mean here leaves it out. An experiment
that has not been run gives an empty result.
"""

import json

import numpy as np
import pandas as pd

from paperkit.results import ResultsError


def identity_errors(runs: pd.DataFrame, check: str) -> pd.DataFrame:
    """Return the error of one check of the derivation, and that of its negative control.

    Args:
        runs: `runs.csv`; experiment "identities".
        check: Name of the check, an arm of the experiment.

    Returns:
        One row, columns max_error and control_error.
    """
    rows = runs[(runs["experiment"] == "identities") & (runs["arm"] == check)]
    return rows.pivot(index="arm", columns="metric", values="value")


def of_arm(runs: pd.DataFrame, experiment: str, arm: str, metric: str, split: str | None = None) -> pd.Series:
    """Return one metric of one arm: one value a run, the last of a curve.

    Args:
        runs: `runs.csv`.
        experiment: Name of the experiment.
        arm: What is compared.
        metric: Name of the metric.
        split: Split of the metric; None where it has only one.

    Returns:
        Value by seed; NaN also for a run that diverged before it was measured.

    Raises:
        ResultsError: If a seed has several values at its last step.

    Example:
        >>> columns = ["experiment", "arm", "seed", "split", "metric", "value", "status"]
        >>> runs = pd.DataFrame([("lm", "lion", 3, "test", "loss_nats", 4.5, "ok")], columns=columns)
        >>> of_arm(runs, "lm", "lion", "loss_nats", "test").to_dict()
        {3: 4.5}
    """
    of_run = (runs["experiment"] == experiment) & (runs["arm"] == arm)
    chosen = of_run & (runs["metric"] == metric)
    rows = runs[chosen if split is None else chosen & (runs["split"] == split)]
    if pd.Index(rows["seed"]).has_duplicates:
        rows = rows[rows["step"] == rows.groupby("seed")["step"].transform("max")]
    seeds = pd.Index(rows["seed"])
    if seeds.has_duplicates:
        message = f"{metric} of {experiment}/{arm} has several last values a seed; name a split, or write an estimand"
        raise ResultsError(message)
    values = pd.Series(np.asarray(rows["value"], dtype=float), index=seeds)
    lost = pd.Index(runs[of_run & (runs["status"] == "diverged")]["seed"]).difference(seeds)
    return pd.concat([values, pd.Series(np.nan, index=lost)]) if len(lost) else values


def difference(
    runs: pd.DataFrame,
    experiment: str,
    of: str,
    minus: str,
    metric: str,
    split: str | None = None,
    minus_experiment: str | None = None,
) -> pd.Series:
    """Return one metric of one arm minus that of another, on the seeds that both have.

    Args:
        runs: `runs.csv`.
        experiment: Name of the experiment.
        of: Arm.
        minus: Arm it is held against.
        metric: Name of the metric, see `of_arm`.
        split: Split of the metric; None where it has only one.
        minus_experiment: Experiment of the second arm, where it is another one.

    Returns:
        Difference by seed; NaN where one of the two runs diverged.

    Example:
        >>> columns = ["experiment", "arm", "seed", "split", "metric", "value", "status"]
        >>> rows = [("lm", arm, 3, "test", "loss_nats", loss, "ok") for arm, loss in (("adamw", 4.5), ("lion", 4.0))]
        >>> difference(pd.DataFrame(rows, columns=columns), "lm", "adamw", "lion", "loss_nats").to_dict()
        {3: 0.5}
    """
    first = of_arm(runs, experiment, of, metric, split)
    second = of_arm(runs, minus_experiment or experiment, minus, metric, split)
    return first.sub(second).loc[first.index.intersection(second.index)]


def configured(rows: pd.DataFrame, key: str) -> pd.Series:
    """Read a number from the configuration of each row.

    Args:
        rows: Rows of `runs.csv`.
        key: Its name in the configuration.

    Returns:
        The number, with the rows' index.
    """
    return pd.Series([json.loads(text)[key] for text in rows["config"]], index=rows.index, dtype=float)


def level(values: pd.Series | pd.DataFrame, name: str) -> pd.Series:
    """Return a level of an index as a series beside the values.

    Args:
        values: Indexed by several levels.
        name: One of them, for example "seed".

    Returns:
        The level, with the values' index.

    Example:
        >>> index = pd.MultiIndex.from_tuples([(7, 64), (7, 128)], names=["seed", "width"])
        >>> level(pd.Series([0.5, 0.25], index), "width").tolist()
        [64, 128]
    """
    return values.index.get_level_values(name).to_series(values.index)


def slopes(x: pd.Series, y: pd.Series) -> pd.Series:
    """Fit a line within each seed by least squares.

    Args:
        x: Numbers whose index has a level "seed".
        y: Numbers of the same index.

    Returns:
        Slope of y on x by seed; NaN where either has a NaN, or there is one point only.

    Example:
        >>> index = pd.MultiIndex.from_product([[7], [0, 1, 2]], names=["seed", "step"])
        >>> float(slopes(pd.Series([0.0, 1, 2], index), pd.Series([1.0, 3, 5], index)).round(9)[7])
        2.0
    """
    fitted = {}
    for seed, of_seed in pd.DataFrame({"x": x, "y": y}).groupby(level="seed"):
        sound = of_seed.notna().all(axis=None) and len(of_seed) > 1
        fitted[seed] = float(np.polyfit(of_seed["x"], of_seed["y"], 1)[0]) if sound else float("nan")
    return pd.Series(fitted, dtype=float, index=pd.Index(fitted, dtype=int, name="seed"))


def summarised(values: pd.Series, seeds: pd.Series, summary: str) -> pd.Series:
    """Put several numbers of a seed into one.

    Args:
        values: Numbers.
        seeds: The seed of each, with the same index.
        summary: "min", "max", "mean", "median" or "sum"; NaN if one of a seed's numbers is.

    Returns:
        Number by seed.

    Example:
        >>> summarised(pd.Series([1.0, 2.0, np.nan]), pd.Series([0, 0, 1]), "max").to_dict()
        {0: 2.0, 1: nan}
    """
    return pd.Series(values.groupby(seeds).agg(lambda of: getattr(of, summary)(skipna=False)), dtype=float)

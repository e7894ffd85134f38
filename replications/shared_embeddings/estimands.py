"""From runs to one number a seed; `claims.yaml` names these functions.

An estimand of an experiment that has not been run is empty. NaN marks a seed in which a run diverged.
"""

import json
from functools import partial

import numpy as np
import pandas as pd

REMEDIES = ("untied", "orthogonal", "half_swap", "shuffle")


# --- The derivation ------------------------------------------------------------------------------------------------


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


step_1_norm = partial(identity_errors, check="step_1_norm")
step_1_as_written = partial(identity_errors, check="step_1_as_written")
step_1_corrected = partial(identity_errors, check="step_1_corrected")
step_2_inner_product = partial(identity_errors, check="step_2_inner_product")
step_2_as_written = partial(identity_errors, check="step_2_as_written")
step_2_corrected = partial(identity_errors, check="step_2_corrected")
step_3_uniform_reference = partial(identity_errors, check="step_3_uniform_reference")
step_4_tied_loss = partial(identity_errors, check="step_4_tied_loss")
step_5_crossover = partial(identity_errors, check="step_5_crossover")
step_6_small_sigma = partial(identity_errors, check="step_6_small_sigma")
step_7_untied_loss = partial(identity_errors, check="step_7_untied_loss")
step_8_trace_rule = partial(identity_errors, check="step_8_trace_rule")
step_9_symmetry = partial(identity_errors, check="step_9_symmetry")
step_10_as_written = partial(identity_errors, check="step_10_as_written")
step_10_split_tables = partial(identity_errors, check="step_10_split_tables")
step_11_gradient_parts = partial(identity_errors, check="step_11_gradient_parts")
step_12_positions = partial(identity_errors, check="step_12_positions")
step_13_parameters = partial(identity_errors, check="step_13_parameters")
step_14_constant_sign = partial(identity_errors, check="step_14_constant_sign")
step_15_as_written = partial(identity_errors, check="step_15_as_written")
step_15_gradient_limit = partial(identity_errors, check="step_15_gradient_limit")
step_16_fixed_points = partial(identity_errors, check="step_16_fixed_points")
step_17_rotation = partial(identity_errors, check="step_17_rotation")
step_18_three_factors = partial(identity_errors, check="step_18_three_factors")


# --- The initial loss, simulated (C2 to C4) ------------------------------------------------------------------------


def initial_losses(runs: pd.DataFrame) -> pd.DataFrame:
    """Arrange the simulated initial losses.

    Args:
        runs: `runs.csv`; experiment "initial_loss".

    Returns:
        One row a cell and seed: seed, n, d, sigma (NaN where each head has its own), and a column a metric.
    """
    rows = runs[runs["experiment"] == "initial_loss"]
    configs = pd.DataFrame([json.loads(text) for text in rows["config"]], index=rows.index)
    table = rows.join(configs.reindex(columns=["n", "d", "sigma"])).assign(sigma=lambda t: t["sigma"].astype(float))
    index = ["seed", "arm", "n", "d", "sigma"]
    # A pivot drops keys that are NaN: each head's own sigma is written as 0 meanwhile.
    cells = table.fillna({"sigma": 0.0}).pivot(index=index, columns="metric", values="value").reset_index()
    return cells.assign(sigma=cells["sigma"].replace(0.0, np.nan))


def _tied_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the tied head, at 1/sqrt(d) and at constant sigma, with the errors of both formulas."""
    cells = initial_losses(runs)
    if cells.empty:
        return cells
    tied = cells.assign(
        sigma=cells["sigma"].fillna(1 / np.sqrt(cells["d"])),
        refined=(cells["tied_loss_nats"] - cells["tied_predicted_nats"]).abs(),
        source=(cells["tied_loss_nats"] - cells["source_formula_nats"]).abs(),
        apart=(cells["tied_predicted_nats"] - cells["source_formula_nats"]).abs(),
    )
    return tied[["seed", "n", "d", "sigma", "refined", "source", "apart"]]


def _by_seed(cells: pd.DataFrame, values: pd.Series, summary: str) -> pd.Series:
    # skipna=False: a model that diverged must not vanish from the largest error.
    return values.groupby(cells["seed"]).agg(lambda of: getattr(of, summary)(skipna=False)).astype(float)


def post_formula_error(runs: pd.DataFrame) -> pd.Series:
    """Return the largest error of log(e^(d s) + n - 1) where d s is at least log n + 1 (C2).

    Args:
        runs: `runs.csv`.

    Returns:
        Nats, by seed.
    """
    cells = _tied_cells(runs)
    if cells.empty:
        return _nothing()
    cells = cells[cells["d"] * cells["sigma"] >= np.log(cells["n"]) + 1]
    return _by_seed(cells, cells["source"], "max")


def refined_formula_error(runs: pd.DataFrame) -> pd.Series:
    """Return the largest error of the refined formula where d s^2 is at most 4 (C2).

    Args:
        runs: `runs.csv`.

    Returns:
        Nats, by seed.
    """
    cells = _tied_cells(runs)
    if cells.empty:
        return _nothing()
    cells = cells[cells["d"] * cells["sigma"] ** 2 <= 4]
    return _by_seed(cells, cells["refined"], "max")


def refined_is_nearer(runs: pd.DataFrame) -> pd.Series:
    """Return the share of cells in which the refined formula is nearer than the source's, where they differ by 0.05.

    Args:
        runs: `runs.csv`.

    Returns:
        Share, by seed.
    """
    cells = _tied_cells(runs)
    if cells.empty:
        return _nothing()
    cells = cells[cells["apart"] > 0.05]
    return _by_seed(cells, (cells["refined"] < cells["source"]).astype(float), "mean")


def small_sigma_excess(runs: pd.DataFrame, over: str, summary: str, least_width: int = 0) -> pd.Series:
    """Return how far the loss at s = (log n)/d lies from a reference (C3).

    Args:
        runs: `runs.csv`.
        over: "log_n", or "log_2n" for the distance from log(2n - 1).
        summary: "min" or "max" over the cells of a seed.
        least_width: Smallest width that counts.

    Returns:
        Nats, by seed.
    """
    cells = initial_losses(runs)
    cells = cells[cells["arm"].eq("own") & cells["d"].ge(least_width)]
    if cells.empty:
        return _nothing()
    losses = cells["small_sigma_loss_nats"]
    references = np.log(cells["n"]) if over == "log_n" else np.log(2 * cells["n"] - 1)
    return _by_seed(cells, losses - references if over == "log_n" else (losses - references).abs(), summary)


small_sigma_least = partial(small_sigma_excess, over="log_n", summary="min")
small_sigma_largest = partial(small_sigma_excess, over="log_n", summary="max")
small_sigma_distance = partial(small_sigma_excess, over="log_2n", summary="max", least_width=512)


def remedies_excess(runs: pd.DataFrame) -> pd.Series:
    """Return the largest excess of a remedied head's loss over log n + 1/2, at s = 1/sqrt(d) (C4).

    Args:
        runs: `runs.csv`.

    Returns:
        Nats, by seed.
    """
    cells = initial_losses(runs)
    cells = cells[cells["arm"].eq("own")]
    if cells.empty:
        return _nothing()
    worst = cells[[f"{name}_loss_nats" for name in REMEDIES]].max(axis=1, skipna=False)
    return _by_seed(cells, worst - np.log(cells["n"]) - 0.5, "max")


def untied_above_log_n(runs: pd.DataFrame) -> pd.Series:
    """Return the largest excess of the untied loss over log n from d = 512 on, at every sigma of the grid (C4b).

    Args:
        runs: `runs.csv`.

    Returns:
        Nats, by seed.
    """
    cells = initial_losses(runs)
    cells = cells[cells["d"].ge(512)]
    return _nothing() if cells.empty else _by_seed(cells, cells["untied_loss_nats"] - np.log(cells["n"]), "max")


def untied_formula_error(runs: pd.DataFrame) -> pd.Series:
    """Return the largest error of log n + d s^2 / 2 for the untied head where d s^2 is at most 4 (C4b).

    Args:
        runs: `runs.csv`.

    Returns:
        Nats, by seed.
    """
    cells = initial_losses(runs)
    if cells.empty:
        return _nothing()
    sigma = cells["sigma"].fillna(1 / np.sqrt(cells["d"]))
    cells = cells[cells["d"] * sigma**2 <= 4]
    return _by_seed(cells, (cells["untied_loss_nats"] - cells["untied_predicted_nats"]).abs(), "max")


# --- Untrained GPTs (C5) -------------------------------------------------------------------------------------------


def first_losses(runs: pd.DataFrame) -> pd.DataFrame:
    """Arrange the first losses of GPTs.

    Args:
        runs: `runs.csv`; experiment "first_loss".

    Returns:
        One row a model: seed, vocabulary, width, positions, branches, and a column a metric.
    """
    rows = runs[runs["experiment"] == "first_loss"]
    keys = ["vocabulary", "width", "positions", "branches"]
    configs = pd.DataFrame([json.loads(text) for text in rows["config"]], index=rows.index).reindex(columns=keys)
    return rows.join(configs).pivot(index=["seed", *keys], columns="metric", values="value").reset_index()


def _blow_up(runs: pd.DataFrame, branches: bool = False) -> pd.DataFrame:
    """Return predicted and measured excess of the tied head, with positions; predicted from the self-logit alone."""
    models = first_losses(runs)
    if models.empty:
        return models
    models = models[models["positions"].eq(True) & models["branches"].eq(branches)]
    return models.assign(
        predicted=np.sqrt(models["width"] / 2) - np.log(models["vocabulary"]),
        measured=models["tied_loss_nats"] - models["untied_loss_nats"],
    )


def blow_up_ratio(runs: pd.DataFrame) -> pd.Series:
    """Return the least ratio of tied minus untied to sqrt(d/2) - log n, over widths where that is above 1 nat (C5).

    Args:
        runs: `runs.csv`.

    Returns:
        Ratio, by seed.
    """
    models = _blow_up(runs)
    if models.empty:
        return _nothing()
    models = models[models["predicted"] > 1]
    return _by_seed(models, models["measured"] / models["predicted"], "min")


def blow_up_elsewhere(runs: pd.DataFrame) -> pd.Series:
    """Return the least tied minus untied at the other widths (C5).

    Args:
        runs: `runs.csv`.

    Returns:
        Nats, by seed.
    """
    models = _blow_up(runs)
    if models.empty:
        return _nothing()
    models = models[models["predicted"] <= 1]
    return _by_seed(models, models["measured"], "min")


def gpt_formula_error(runs: pd.DataFrame) -> pd.Series:
    """Return the largest error of the bigram formula for a GPT without positions, repeated tokens counted (C5b).

    log(e^(sqrt d) + (n - 1) e^(1/2)) - r sqrt(d), with r the share of tokens that repeat the one before.

    Args:
        runs: `runs.csv`.

    Returns:
        Nats, by seed.
    """
    models = first_losses(runs)
    if models.empty:
        return _nothing()
    models = models[models["positions"].eq(False) & models["branches"].eq(False)]
    self_logit = np.sqrt(models["width"].astype(float))
    formula = np.logaddexp(self_logit, np.log(models["vocabulary"] - 1.0) + 0.5)
    expected = formula - models["repeated_share"] * self_logit
    return _by_seed(models, (models["tied_loss_nats"] - expected).abs(), "max")


def blow_up_with_branches(runs: pd.DataFrame) -> pd.Series:
    """Return the tied head's excess with usual residual branches over that with zero ones, at the widest (C5c).

    Args:
        runs: `runs.csv`.

    Returns:
        Share, by seed.
    """
    usual, zero = (_blow_up(runs, branches) for branches in (True, False))
    if usual.empty or zero.empty:
        return _nothing()
    widest = [
        models[models["width"] == models["width"].max()].set_index("seed")["measured"] for models in (usual, zero)
    ]
    return widest[0] / widest[1]


# --- Training curves (C6 to C8, C10, X3, X7 to X9) -----------------------------------------------------------------


def gap(
    runs: pd.DataFrame, minuend: str, subtrahend: str, metric: str, split: str, experiment: str = "curves"
) -> pd.Series:
    """Return the difference of two arms on the seeds that both have.

    Args:
        runs: `runs.csv`.
        minuend: Arm.
        subtrahend: Arm it is held against.
        metric: For example "area_nats" (train) or "loss_nats" (test).
        split: Split of the metric.
        experiment: Name of the study.

    Returns:
        First minus second, by seed.
    """
    values = [_of_arm(runs, experiment, arm, metric, split) for arm in (minuend, subtrahend)]
    seeds = values[0].index.intersection(values[1].index)
    return values[0][seeds] - values[1][seeds]


def percent_gap(runs: pd.DataFrame, arm: str, reference: str = "half_swap") -> pd.Series:
    """Return the difference of two areas in percent of their mean (C7).

    Args:
        runs: `runs.csv`.
        arm: Arm.
        reference: Arm it is held against.

    Returns:
        Percent, by seed; positive where the arm's training loss is higher.
    """
    difference = gap(runs, arm, reference, "area_nats", "train")
    level = _of_arm(runs, "curves", reference, "area_nats", "train")[difference.index] + difference / 2
    return 100 * difference / level


_area = partial(gap, minuend="small_sigma", metric="area_nats", split="train")
small_sigma_area_untied = partial(_area, subtrahend="untied")
small_sigma_area_orthogonal = partial(_area, subtrahend="orthogonal")
small_sigma_area_half_swap = partial(_area, subtrahend="half_swap")
small_sigma_area_shuffle = partial(_area, subtrahend="shuffle")

_steps = partial(gap, minuend="small_sigma", metric="steps_to_threshold", split="train")
small_sigma_steps_untied = partial(_steps, subtrahend="untied")
small_sigma_steps_orthogonal = partial(_steps, subtrahend="orthogonal")
small_sigma_steps_half_swap = partial(_steps, subtrahend="half_swap")
small_sigma_steps_shuffle = partial(_steps, subtrahend="shuffle")

_early = partial(gap, minuend="small_sigma", metric="early_area_nats", split="train")
small_sigma_early_untied = partial(_early, subtrahend="untied")
small_sigma_early_orthogonal = partial(_early, subtrahend="orthogonal")
small_sigma_early_half_swap = partial(_early, subtrahend="half_swap")
small_sigma_early_shuffle = partial(_early, subtrahend="shuffle")
small_sigma_late_half_swap = partial(
    gap, minuend="small_sigma", subtrahend="half_swap", metric="late_area_nats", split="train"
)

_final = partial(gap, metric="loss_nats", split="test")
small_sigma_final_untied = partial(_final, minuend="small_sigma", subtrahend="untied")
small_sigma_final_orthogonal = partial(_final, minuend="small_sigma", subtrahend="orthogonal")
small_sigma_final_half_swap = partial(_final, minuend="small_sigma", subtrahend="half_swap")
small_sigma_final_shuffle = partial(_final, minuend="small_sigma", subtrahend="shuffle")
final_small_sigma_half_swap = small_sigma_final_half_swap
final_small_sigma_shuffle = small_sigma_final_shuffle
final_half_swap_shuffle = partial(_final, minuend="half_swap", subtrahend="shuffle")
final_half_swap_orthogonal = partial(_final, minuend="half_swap", subtrahend="orthogonal")
final_half_swap_untied = partial(_final, minuend="half_swap", subtrahend="untied")
final_tied_half_swap = partial(_final, minuend="tied", subtrahend="half_swap")
final_half_swap_signed_swap = partial(_final, minuend="half_swap", subtrahend="signed_swap")
final_half_swap_scaled = partial(_final, minuend="half_swap", subtrahend="scaled")
final_half_swap_learnable_scale = partial(_final, minuend="half_swap", subtrahend="learnable_scale")
iso_gain = partial(_final, minuend="half_swap", subtrahend="factorised")

area_percent_shuffle = partial(percent_gap, arm="shuffle")
area_percent_orthogonal = partial(percent_gap, arm="orthogonal")
area_percent_shuffle_orthogonal = partial(percent_gap, arm="shuffle", reference="orthogonal")
area_percent_untied = partial(percent_gap, arm="untied")
area_percent_signed_swap = partial(percent_gap, arm="signed_swap")


def crossing_step(runs: pd.DataFrame) -> pd.Series:
    """Return the step up to which small sigma's training loss, from the first step on, lies below half swap's (X3).

    Args:
        runs: `runs.csv`; metric "part_loss_nats", means over parts of a run at the last step of each.

    Returns:
        Last step of the last part before small sigma is above for good, by seed; 0 if it always is, the horizon if
        it is below in the last part.
    """
    parts = [
        runs[(runs["experiment"] == "curves") & (runs["arm"] == arm) & (runs["metric"] == "part_loss_nats")].pivot(
            index="seed", columns="step", values="value"
        )
        for arm in ("small_sigma", "half_swap")
    ]
    if parts[0].empty or parts[1].empty:
        return _nothing()
    difference = parts[0] - parts[1]
    return difference.apply(lambda of: max((step for step in of.index if of[step] < 0), default=0), axis=1).astype(
        float
    )


# --- The factorial (X4) --------------------------------------------------------------------------------------------


def main_effect(runs: pd.DataFrame, factor: str, metric: str, split: str) -> pd.Series:
    """Return the main effect of one of the three things that small sigma changes.

    Args:
        runs: `runs.csv`; experiment "factorial", arms of three digits: logits, input, step changed or not.
        factor: "logits", "input" or "step".
        metric: "early_area_nats" (train) or "loss_nats" (test).
        split: Split of the metric.

    Returns:
        Mean of the four cells with the change minus mean of the four without, by seed.
    """
    position = ("logits", "input", "step").index(factor)
    rows = runs[(runs["experiment"] == "factorial") & (runs["metric"] == metric) & (runs["split"] == split)]
    if rows.empty:
        return _nothing()
    signs = rows["arm"].str[position].map({"0": -0.25, "1": 0.25})
    effects = (rows["value"] * signs).groupby(rows["seed"]).agg(lambda of: of.sum(skipna=False))
    return effects.astype(float)


_early_effect = partial(main_effect, metric="early_area_nats", split="train")
early_effect_logits = partial(_early_effect, factor="logits")
early_effect_input = partial(_early_effect, factor="input")
early_effect_step = partial(_early_effect, factor="step")
_final_effect = partial(main_effect, metric="loss_nats", split="test")
final_effect_logits = partial(_final_effect, factor="logits")
final_effect_input = partial(_final_effect, factor="input")
final_effect_step = partial(_final_effect, factor="step")


def early_logits_less_input(runs: pd.DataFrame) -> pd.Series:
    """Return the early main effect of smaller logits minus that of the smaller input, by seed in nats (X4)."""
    return early_effect_logits(runs) - early_effect_input(runs)


def early_logits_less_step(runs: pd.DataFrame) -> pd.Series:
    """Return the early main effect of smaller logits minus that of the larger step, by seed in nats (X4)."""
    return early_effect_logits(runs) - early_effect_step(runs)


def final_step_less_logits(runs: pd.DataFrame) -> pd.Series:
    """Return the final main effect of the larger step minus that of smaller logits, by seed in nats (X4b)."""
    return final_effect_step(runs) - final_effect_logits(runs)


def final_step_less_input(runs: pd.DataFrame) -> pd.Series:
    """Return the final main effect of the larger step minus that of the smaller input, by seed in nats (X4b)."""
    return final_effect_step(runs) - final_effect_input(runs)


# --- Widths (X5), passes (C11), rare rows (C9, X6) -----------------------------------------------------------------


def width_gaps(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what plain tying costs against half swap at each width (X5).

    Args:
        runs: `runs.csv`; experiment "widths", metric "area_nats".

    Returns:
        Index seed and width, columns difference (nats) and percent (of the mean of both).
    """
    rows = runs[(runs["experiment"] == "widths") & (runs["metric"] == "area_nats")]
    widths = rows["config"].map(lambda text: json.loads(text)["width"]).astype(int)
    areas = rows.assign(width=widths).pivot(index=["seed", "width"], columns="arm", values="value")
    areas = areas.reindex(columns=["tied", "half_swap"]).astype(float)
    difference = areas["tied"] - areas["half_swap"]
    return pd.DataFrame({"difference": difference, "percent": 100 * difference / areas.mean(axis=1, skipna=False)})


def width_slope(runs: pd.DataFrame) -> pd.Series:
    """Return the least-squares slope of the difference of areas, tied minus half swap, on log d (X5).

    Args:
        runs: `runs.csv`.

    Returns:
        Nats a unit of log width, by seed.
    """
    differences = width_gaps(runs)["difference"]
    if differences.empty:
        return _nothing()
    by_seed = differences.groupby(level="seed")
    return by_seed.apply(lambda y: np.polyfit(np.log(y.index.get_level_values("width")), y, 1)[0]).astype(float)


def area_percent_at(runs: pd.DataFrame, narrowest: bool) -> pd.Series:
    """Return tied minus half swap in percent of their mean area, at the narrowest or widest model (X5b).

    Args:
        runs: `runs.csv`.
        narrowest: Which end.

    Returns:
        Percent, by seed.
    """
    percent = width_gaps(runs)["percent"]
    if percent.empty:
        return _nothing()
    widths = percent.index.get_level_values("width")
    return percent.xs(widths.min() if narrowest else widths.max(), level="width")


narrow_area_percent = partial(area_percent_at, narrowest=True)
wide_area_percent = partial(area_percent_at, narrowest=False)

# The test loss where the validation loss is least along the run.
passes_gain = partial(
    gap, minuend="untied", subtrahend="half_swap", metric="best_loss_nats", split="test", experiment="passes"
)


def largest_entry(runs: pd.DataFrame, arm: str, rows: str) -> pd.Series:
    """Return the largest entry of the input rows of a class of tokens under Lion (C9, X6).

    Args:
        runs: `runs.csv`; experiment "rare_rows".
        arm: Head.
        rows: "unseen" or "rare".

    Returns:
        Share of the wall 1/decay, by seed.
    """
    return _of_arm(runs, "rare_rows", arm, f"{rows}_largest", "none")


lion_rare_tied = partial(largest_entry, arm="tied", rows="rare")
lion_rare_half_swap = partial(largest_entry, arm="half_swap", rows="rare")
lion_rare_untied = partial(largest_entry, arm="untied", rows="rare")
lion_unseen_tied = partial(largest_entry, arm="tied", rows="unseen")
lion_unseen_half_swap = partial(largest_entry, arm="half_swap", rows="unseen")
lion_unseen_untied = partial(largest_entry, arm="untied", rows="unseen")


def _of_arm(runs: pd.DataFrame, experiment: str, arm: str, metric: str, split: str) -> pd.Series:
    """Return one metric of one arm by seed; NaN where a run diverged."""
    chosen = (runs["experiment"] == experiment) & (runs["arm"] == arm) & (runs["metric"] == metric)
    return runs[chosen & (runs["split"] == split)].set_index("seed")["value"].astype(float)


def _nothing() -> pd.Series:
    return pd.Series(dtype=float, index=pd.Index([], dtype="int64", name="seed"))

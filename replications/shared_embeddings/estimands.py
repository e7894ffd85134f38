"""From runs to one number a seed (NaN: diverged); empty where an experiment has not been run."""

import json
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from paperkit.estimands import configured, difference, level, of_arm, slopes, summarised

REMEDIES = ("untied", "orthogonal", "half_swap", "shuffle")


# --- The initial loss, simulated (C2 to C4) ------------------------------------------------------------------------

INITIAL_LOSS_METRICS = (
    "tied_loss_nats", "tied_predicted_nats", "source_formula_nats", "small_sigma_loss_nats", "untied_predicted_nats",
    *(f"{name}_loss_nats" for name in REMEDIES),
)  # fmt: skip


def initial_losses(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per simulated model and seed: n, d, sigma (NaN: each head's own), and a column per metric."""
    rows = runs[runs["experiment"] == "initial_loss"]
    configs = pd.DataFrame([json.loads(text) for text in rows["config"]], index=rows.index)
    table = rows.join(configs.reindex(columns=["n", "d", "sigma"])).assign(sigma=lambda t: t["sigma"].astype(float))
    index = ["seed", "arm", "n", "d", "sigma"]
    # A pivot drops keys that are NaN: each head's own sigma is written as 0 meanwhile.
    cells = table.fillna({"sigma": 0.0}).pivot(index=index, columns="metric", values="value")
    cells = cells.reindex(columns=list(INITIAL_LOSS_METRICS)).astype(float).reset_index()
    return cells.assign(sigma=cells["sigma"].replace(0.0, np.nan)).astype({"n": float, "d": float})


def _usual_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the cells, at 1/sqrt(d) where each head has its own sigma (as plain tying and the untied head do)."""
    cells = initial_losses(runs)
    return cells.assign(sigma=cells["sigma"].fillna(1 / np.sqrt(cells["d"])))


def _own_cells(runs: pd.DataFrame) -> pd.DataFrame:
    cells = initial_losses(runs)
    return cells[cells["arm"].eq("own")]


def post_formula_error(runs: pd.DataFrame) -> pd.Series:
    """Return the largest error of log(e^(d s) + n - 1) where d s is at least log n + 1, in nats (C2)."""
    cells = _usual_cells(runs)
    cells = cells[cells["d"] * cells["sigma"] >= np.log(cells["n"]) + 1]
    return summarised((cells["tied_loss_nats"] - cells["source_formula_nats"]).abs(), cells["seed"], "max")


def _formula_error(runs: pd.DataFrame, head: str) -> pd.Series:
    """Return the largest error of a head's refined formula where d s^2 is at most 4, in nats (C2, C4b)."""
    cells = _usual_cells(runs)
    cells = cells[cells["d"] * cells["sigma"] ** 2 <= 4]
    return summarised((cells[f"{head}_loss_nats"] - cells[f"{head}_predicted_nats"]).abs(), cells["seed"], "max")


refined_formula_error = partial(_formula_error, head="tied")
untied_formula_error = partial(_formula_error, head="untied")


def refined_is_nearer(runs: pd.DataFrame) -> pd.Series:
    """Return the share of cells in which the refined formula is nearer than the source's, of those 0.05 apart (C2)."""
    cells = _usual_cells(runs)
    cells = cells[(cells["tied_predicted_nats"] - cells["source_formula_nats"]).abs() > 0.05]
    refined, source = (
        (cells["tied_loss_nats"] - cells[formula]).abs() for formula in ("tied_predicted_nats", "source_formula_nats")
    )
    return summarised((refined < source).astype(float), cells["seed"], "mean")


def _small_sigma_excess(runs: pd.DataFrame, summary: str) -> pd.Series:
    """Return the least or largest excess of the loss at s = (log n)/d over log n, in nats (C3)."""
    cells = _own_cells(runs)
    return summarised(cells["small_sigma_loss_nats"] - np.log(cells["n"]), cells["seed"], summary)


small_sigma_least = partial(_small_sigma_excess, summary="min")
small_sigma_largest = partial(_small_sigma_excess, summary="max")


def small_sigma_distance(runs: pd.DataFrame) -> pd.Series:
    """Return the largest distance of the loss at s = (log n)/d from log(2n - 1), from d = 512 on, in nats (C3)."""
    cells = _own_cells(runs)
    cells = cells[cells["d"].ge(512)]
    return summarised((cells["small_sigma_loss_nats"] - np.log(2 * cells["n"] - 1)).abs(), cells["seed"], "max")


def remedies_excess(runs: pd.DataFrame) -> pd.Series:
    """Return the largest excess of a remedied head's loss over log n + 1/2, at s = 1/sqrt(d), in nats (C4)."""
    cells = _own_cells(runs)
    worst = cells[[f"{name}_loss_nats" for name in REMEDIES]].max(axis=1, skipna=False)
    return summarised(worst - np.log(cells["n"]) - 0.5, cells["seed"], "max")


def untied_above_log_n(runs: pd.DataFrame) -> pd.Series:
    """Return the largest excess of the untied loss over log n from d = 512 on, at every sigma, in nats (C4b)."""
    cells = initial_losses(runs)
    cells = cells[cells["d"].ge(512)]
    return summarised(cells["untied_loss_nats"] - np.log(cells["n"]), cells["seed"], "max")


# --- Untrained GPTs (C5) -------------------------------------------------------------------------------------------


def first_losses(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per untrained GPT: seed, vocabulary, width, positions, branches, and metrics of the claims."""
    rows = runs[runs["experiment"] == "first_loss"]
    keys = ["vocabulary", "width", "positions", "branches"]
    configs = pd.DataFrame([json.loads(text) for text in rows["config"]], index=rows.index).reindex(columns=keys)
    table = rows.join(configs).pivot(index=["seed", *keys], columns="metric", values="value")
    metrics = ["tied_loss_nats", "untied_loss_nats", "half_swap_loss_nats", "repeated_share"]
    models = table.reindex(columns=metrics).astype(float).reset_index()
    return models.astype({"vocabulary": float, "width": float})


def _blow_up(
    runs: pd.DataFrame,
    *,
    branches: bool = False,
    positions: bool = True,
    reference: str = "untied",
    refined: bool = False,
) -> pd.DataFrame:
    """Return measured excess of the tied head, and predicted: from the self-logit alone, or by the refined formula."""
    models = first_losses(runs)
    models = models[models["positions"].eq(positions) & models["branches"].eq(branches)]
    self_logit, log_n = np.sqrt(models["width"] / (2 if positions else 1)), np.log(models["vocabulary"])
    return models.assign(
        predicted=np.logaddexp(self_logit - 0.5 - log_n, 0.0) if refined else self_logit - log_n,
        measured=models["tied_loss_nats"] - models[f"{reference}_loss_nats"],
    )


def blow_up_ratio(runs: pd.DataFrame, **what: Any) -> pd.Series:
    """Return the least ratio of tied minus untied to sqrt(d/2) - log n, over widths where that is above 1 nat (C5)."""
    models = _blow_up(runs, **what)
    models = models[models["predicted"] > 1]
    return summarised(models["measured"] / models["predicted"], models["seed"], "min")


blow_up_ratio_half_swap = partial(blow_up_ratio, reference="half_swap")
blow_up_ratio_no_positions = partial(blow_up_ratio, positions=False)
blow_up_ratio_refined = partial(blow_up_ratio, refined=True)


def blow_up_elsewhere(runs: pd.DataFrame, **what: Any) -> pd.Series:
    """Return the least tied minus untied at the other widths, in nats (C5)."""
    models = _blow_up(runs, **what)
    models = models[models["predicted"] <= 1]
    return summarised(models["measured"], models["seed"], "min")


blow_up_elsewhere_half_swap = partial(blow_up_elsewhere, reference="half_swap")
blow_up_elsewhere_no_positions = partial(blow_up_elsewhere, positions=False)


def gpt_formula_error(runs: pd.DataFrame) -> pd.Series:
    """Return the largest error of the bigram formula for a GPT without positions, repeated tokens counted (C5b)."""
    # log(e^(sqrt d) + (n - 1) e^(1/2)) - r sqrt(d), with r the share of tokens that repeat the one before; in nats.
    models = first_losses(runs)
    models = models[models["positions"].eq(False) & models["branches"].eq(False)]
    self_logit = np.sqrt(models["width"])
    formula = np.logaddexp(self_logit, np.log(models["vocabulary"] - 1.0) + 0.5)
    expected = formula - models["repeated_share"] * self_logit
    return summarised((models["tied_loss_nats"] - expected).abs(), models["seed"], "max")


def blow_up_with_branches(runs: pd.DataFrame) -> pd.Series:
    """Return the tied head's excess with usual residual branches as a share of that with zero ones, widest (C5c)."""
    usual, zero = (_blow_up(runs, branches=branches) for branches in (True, False))
    widest = [
        models[models["width"] == models["width"].max()].set_index("seed")["measured"] for models in (usual, zero)
    ]
    return widest[0] / widest[1]


# --- Training curves (C6 to C8, C10, X3, X7 to X9) -----------------------------------------------------------------


def percent_gap(
    runs: pd.DataFrame, arm: str, reference: str = "half_swap", experiment: str = "curves", metric: str = "area_nats"
) -> pd.Series:
    """Return arm minus reference, their areas in percent of the mean of both (C7), by seed."""
    gap = difference(runs, experiment, arm, reference, metric, "train")
    middle = of_arm(runs, experiment, reference, metric, "train")[gap.index] + gap / 2
    return 100 * gap / middle


_long_percent = partial(percent_gap, experiment="long")
long_area_percent_shuffle = partial(_long_percent, arm="shuffle")
long_area_percent_orthogonal = partial(_long_percent, arm="orthogonal")
long_area_percent_shuffle_orthogonal = partial(_long_percent, arm="shuffle", reference="orthogonal")
long_area_percent_untied = partial(_long_percent, arm="untied")
long_late_percent_shuffle = partial(_long_percent, arm="shuffle", metric="late_area_nats")
short_area_percent_shuffle = partial(percent_gap, arm="shuffle", experiment="short")
other_text_area_percent_shuffle = partial(percent_gap, arm="shuffle", experiment="other_text")
area_percent_shuffle = partial(percent_gap, arm="shuffle")
area_percent_orthogonal = partial(percent_gap, arm="orthogonal")
area_percent_shuffle_orthogonal = partial(percent_gap, arm="shuffle", reference="orthogonal")
area_percent_untied = partial(percent_gap, arm="untied")
area_percent_signed_swap = partial(percent_gap, arm="signed_swap")


def crossing_step(runs: pd.DataFrame) -> pd.Series:
    """Return the step up to which small sigma's training loss, from the first step on, lies below half swap's (X3)."""
    # The last step of the last part before it is above for good: 0 if it always is, the horizon if it is below in the
    # last part, NaN if a run diverged. "part_loss_nats" holds means over parts of a run at the last step of each.
    rows = runs[(runs["experiment"] == "curves") & (runs["metric"] == "part_loss_nats")]
    small_sigma, half_swap = (
        rows[rows["arm"] == arm].pivot(index="seed", columns="step", values="value")
        for arm in ("small_sigma", "half_swap")
    )
    difference = (small_sigma - half_swap).astype(float)
    steps = difference.columns.to_numpy(dtype=float)
    last = (steps * (difference.to_numpy() < 0)).max(axis=1, initial=0)
    return pd.Series(last, index=difference.index).where(difference.notna().all(axis=1))


# --- The factorial (X4) --------------------------------------------------------------------------------------------


def main_effect(runs: pd.DataFrame, factor: str, metric: str, split: str) -> pd.Series:
    """Return the main effect of one of the three things that small sigma changes: "logits", "input" or "step"."""
    # Arms have three digits, logits, input, step changed or not: mean of four cells with the change minus four
    # without.
    position = ("logits", "input", "step").index(factor)
    rows = runs[(runs["experiment"] == "factorial") & (runs["metric"] == metric) & (runs["split"] == split)]
    signs = rows["arm"].str[position].map({"0": -0.25, "1": 0.25})
    return summarised(rows["value"].astype(float) * signs.astype(float), rows["seed"], "sum")


_early_effect = partial(main_effect, metric="early_area_nats", split="train")
early_effect_logits = partial(_early_effect, factor="logits")
early_effect_input = partial(_early_effect, factor="input")
early_effect_step = partial(_early_effect, factor="step")
_final_effect = partial(main_effect, metric="loss_nats", split="test")
final_effect_logits = partial(_final_effect, factor="logits")
final_effect_input = partial(_final_effect, factor="input")
final_effect_step = partial(_final_effect, factor="step")


def effect_gap(runs: pd.DataFrame, of: str, minus: str, metric: str, split: str) -> pd.Series:
    """Return the main effect of one of the three things minus that of another, by seed in nats (X4, X4b)."""
    return main_effect(runs, of, metric, split) - main_effect(runs, minus, metric, split)


_early_gap = partial(effect_gap, metric="early_area_nats", split="train")
early_logits_less_input = partial(_early_gap, of="logits", minus="input")
early_logits_less_step = partial(_early_gap, of="logits", minus="step")
_final_gap = partial(effect_gap, metric="loss_nats", split="test")
final_step_less_logits = partial(_final_gap, of="step", minus="logits")
final_step_less_input = partial(_final_gap, of="step", minus="input")


# --- Widths (X5), passes (C11), rare rows (C9, X6) -----------------------------------------------------------------


def width_gaps(runs: pd.DataFrame) -> pd.DataFrame:
    """Return by seed and width what plain tying costs against half swap: nats, and percent of the mean (X5)."""
    rows = runs[(runs["experiment"] == "widths") & (runs["metric"] == "area_nats")]
    areas = rows.assign(width=configured(rows, "width")).pivot(index=["seed", "width"], columns="arm", values="value")
    areas = areas.reindex(columns=["tied", "half_swap"]).astype(float)
    difference = areas["tied"] - areas["half_swap"]
    return pd.DataFrame({"difference": difference, "percent": 100 * difference / areas.mean(axis=1, skipna=False)})


def width_slope(runs: pd.DataFrame) -> pd.Series:
    """Return the slope of the difference of areas, tied minus half swap, on log d, in nats a unit (X5)."""
    differences = width_gaps(runs)["difference"]
    return slopes(np.log(level(differences, "width")), differences)


def area_percent_at(runs: pd.DataFrame, narrowest: bool) -> pd.Series:
    """Return tied minus half swap in percent of their mean area, at the narrowest or widest model (X5b)."""
    percent = width_gaps(runs)["percent"]
    widths = level(percent, "width")
    return percent[widths == (widths.min() if narrowest else widths.max())].droplevel("width")


narrow_area_percent = partial(area_percent_at, narrowest=True)
wide_area_percent = partial(area_percent_at, narrowest=False)

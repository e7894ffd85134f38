"""Figures of the Lion page, drawn from results alone."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paperkit.estimands import configured
from paperkit.results import read_json, read_runs, read_trials
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders
from replications.lion.betas import LION_BETAS
from replications.lion.estimands import best_vertex, clock_readings, log_rate_ratio, median_k
from replications.lion.noise import gaussian_drift_ratio

COLOUR = {"adamw": COLOURS[0], "lion": COLOURS[1]}
NAME = {"adamw": "AdamW", "lion": "Lion"}
EMBEDDED = {
    **NAME,
    "lion_adamw_embedding": "AdamW for the embedding alone",
    "lion_half_swapped": "Lion, tied, half swap",
    "lion_lazy_rows": "Lion, lazy rows",
    "lion_tied": "Lion, tied",
}
# Derivation step 8: AdamW's learning rate over Lion's for equal drift under small, Gaussian-noisy gradients.
GAUSSIAN_RATIO = round(gaussian_drift_ratio(LION_BETAS), 2)


def draw(results: Path, figures: Path) -> None:
    """Draw the figures of what has been run from a folder of results into another one, as SVG."""
    runs, trials = read_runs(results / "runs.csv"), read_trials(results / "trials.csv")
    verdicts = read_json(results / "verdicts.json")
    tests = {claim["id"]: claim["tests"] for claim in verdicts["claims"]}
    clock = results / "timings.csv"
    timings = read_runs(clock) if clock.exists() else runs.iloc[:0]
    headline = trials[trials["experiment"] == "lm_quality"]
    by_experiment = {
        "portrait": lambda: draw_portrait(runs, figures / "portrait.svg"),
        "drift": lambda: draw_drift(runs, figures / "drift.svg"),
        "lm_quality": lambda: (
            draw_loss_curves(runs, figures / "loss_curves.svg"),
            draw_paired_gap(tests["C6r"][0], runs, figures / "paired_gap.svg"),
            draw_search(headline, figures / "search.svg"),
        ),
        "lm_budget_8": lambda: draw_verdict_against_budget(headline, tests, figures / "verdict_against_budget.svg"),
        "batch_sweep": lambda: draw_batch_sweep(runs, figures / "batch_sweep.svg"),
        "variants": lambda: draw_variants(runs, figures / "variants.svg"),
        "lm_updates": lambda: draw_update_sizes(runs, figures / "update_sizes.svg"),
        "lm_embedding": lambda: draw_rows(runs, figures / "embedding_rows.svg"),
        "constraint": lambda: draw_box(runs, figures / "box.svg"),
        "flatness": lambda: draw_flatness(runs, figures / "flatness.svg"),
        "step_time": lambda: (
            draw_step_time(timings, figures / "timing_step.svg"),
            draw_roofline(timings, figures / "timing_roofline.svg"),
        ),
    }
    made = {*runs["experiment"], *timings["experiment"]}
    for experiment, draw_its in by_experiment.items():
        if experiment in made:
            draw_its()


def draw_portrait(runs: pd.DataFrame, path: Path) -> None:
    """Draw the paths of both optimizers on a quadratic of two weights, with the box that decay gives Lion."""
    rows = runs[runs["experiment"] == "portrait"]
    question, shown = "Where does decay lead?", "one path of each optimizer on one quadratic; nothing is random"
    with drawing(path, question=question, shown=shown, height_in=3.6) as (_, (axes,)):
        for arm, of_arm in rows.groupby("arm"):
            points = of_arm.pivot(index="step", columns="metric", values="value")
            axes.plot(points["x"], points["y"], "o-", markersize=2, linewidth=0.8, color=COLOUR[arm], label=NAME[arm])
        settings = json.loads(rows["config"].iloc[0])
        wall = 1 / settings["weight_decay"]
        corners = wall * np.array([(1, 1), (1, -1), (-1, -1), (-1, 1), (1, 1)])
        axes.plot(*corners.T, color="black", linewidth=1, label="box of half-width 1/λ")
        axes.plot(*settings["minimum"], "*", color=COLOURS[2], markersize=11, label="minimum without decay")
        axes.set(xlabel="first weight (no unit)", ylabel="second weight (no unit)", aspect="equal")
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def draw_drift(runs: pd.DataFrame, path: Path) -> None:
    """Draw the mean step against the signal, formula and simulation, and the ratio for noise of several shapes."""
    rows = runs[runs["experiment"] == "drift"]
    drift = rows.assign(rho=configured(rows, "rho")).pivot(index="rho", columns="metric", values="value")
    shapes = runs[runs["experiment"] == "noise"].pivot(index="seed", columns="arm", values="value")
    question = "How much further does Lion drift than AdamW when gradients are noisy?"
    shown = f"left: lines are formulas, points simulations; right: one point a seed, n = {len(shapes)}"
    with drawing(path, question=question, shown=shown, columns=2) as (_, (left, right)):
        for arm, colour in COLOUR.items():
            left.plot(drift.index, drift[f"{arm}_predicted"], color=colour, label=f"{NAME[arm]}, formula")
            left.plot(drift.index, drift[f"{arm}_simulated"], "o", color=colour, markersize=4, label="simulated")
        left.set(xscale="log", yscale="log", xlabel="mean / standard deviation ρ", ylabel="mean step / learning rate")
        left.legend()
        for position, shape in enumerate(shapes.mean().sort_values().index):
            right.plot(np.full(len(shapes), position), shapes[shape], "o", color=COLOURS[1], alpha=0.6)
        names = [shape.replace("_", "\n") for shape in shapes.mean().sort_values().index]
        right.axhline(GAUSSIAN_RATIO, color=NEUTRAL, linewidth=0.8)
        right.set_xticks(range(len(names)), names)
        right.set(xlabel="shape of the noise", ylabel="ratio of mean steps, Lion / AdamW", ylim=(0, None))


def draw_loss_curves(runs: pd.DataFrame, path: Path) -> None:
    """Draw validation loss along training, the steps to AdamW's loss at 3/4 of them, and the gap at both lengths."""
    curves = _validation_curves(runs, "lm_quality")
    steps = curves["adamw"].index.to_numpy()
    target = curves["adamw"].loc[steps[3 * len(steps) // 4 - 1]].median()
    gaps = [curves["adamw"] - curves["lion"]]
    if "lm_quality_longer" in set(runs["experiment"]):
        longer = _validation_curves(runs, "lm_quality_longer")
        gaps.append(longer["adamw"] - longer["lion"])
    question = "Which optimizer lowers the validation loss faster?"
    counts = " and ".join(str(gap.shape[1]) for gap in gaps)
    shown = f"points: one seed, n = {counts}; lines: means"
    with drawing(path, question=question, shown=shown, columns=3) as (_, (left, middle, right)):
        for arm, table in curves.items():
            left.plot(table.index, table, "o", markersize=2, color=COLOUR[arm], alpha=0.4)
            left.plot(table.index, table.mean(axis=1), color=COLOUR[arm], linewidth=2, label=NAME[arm])
        left.axhline(target, color=NEUTRAL, linewidth=0.8, linestyle=":")
        left.set(xlabel="optimizer steps", ylabel="validation loss (nats a token)")
        left.legend()
        for position, (arm, table) in enumerate(curves.items()):
            reached = [steps_to(table[seed], target) for seed in table]
            middle.plot(np.full(len(reached), position), reached, "o", color=COLOUR[arm], alpha=0.6)
            never = sum(np.isnan(reached))
            middle.annotate(f"never: {never}", (position, 0.02), xycoords=("data", "axes fraction"), ha="center")
        middle.set_xticks(range(len(curves)), [NAME[arm] for arm in curves])
        middle.set(xlabel="optimizer", ylabel="steps to the dotted loss", xlim=(-0.6, 1.6), ylim=(0, steps[-1] * 1.05))
        for gap, colour in zip(gaps, COLOURS[2:], strict=False):
            right.plot(gap.index, gap, "o", markersize=2, color=colour, alpha=0.4)
            right.plot(gap.index, gap.mean(axis=1), color=colour, linewidth=2, label=f"{gap.index[-1]} steps")
        right.axhline(0, color=NEUTRAL, linewidth=0.8)
        right.set(xlabel="optimizer steps", ylabel="AdamW − Lion (nats a token)", ylim=(-0.3, 0.05), xscale="log")
        right.legend()


def _validation_curves(runs: pd.DataFrame, experiment: str) -> dict[str, pd.DataFrame]:
    """Arrange the validation losses of the language model, by arm: index step, one column a seed."""
    rows = runs[(runs["experiment"] == experiment) & (runs["split"] == "validation")]
    by_arm = rows.groupby("arm")
    return {str(arm): of_arm.pivot(index="step", columns="seed", values="value") for arm, of_arm in by_arm}


def steps_to(curve: pd.Series, target: float) -> float:
    """Return the step at which a falling curve first meets a target, between two points by a line; NaN if never."""
    below = np.flatnonzero(curve.to_numpy() <= target)
    if not len(below):
        return float("nan")
    first = below[0]
    if first == 0:
        return float(curve.index[0])
    high, low = curve.iloc[first - 1], curve.iloc[first]
    start, end = curve.index[first - 1], curve.index[first]
    return float(start + (end - start) * (high - target) / (high - low))


def draw_paired_gap(test: dict, runs: pd.DataFrame, path: Path) -> None:
    """Draw the difference of test losses of every seed, with its mean, its 95 % interval and the margin (C6r)."""
    final = runs[(runs["experiment"] == "lm_quality") & (runs["split"] == "test")]
    losses = final.pivot(index="seed", columns="arm", values="value")
    gaps = losses["adamw"] - losses["lion"]
    question = "Does Lion reach a lower test loss than AdamW?"
    shown = f"one point a seed, n = {len(gaps)}; square: mean with its 95 % interval; above 0 Lion is better"
    with drawing(path, question=question, shown=shown, height_in=3.0) as (_, (axes,)):
        axes.axhspan(-test["margin"], test["margin"], color=NEUTRAL, alpha=0.12, linewidth=0, label="margin")
        axes.axhline(0, color=NEUTRAL, linewidth=0.8)
        axes.plot(np.arange(len(gaps)), gaps, "o", color=COLOURS[2], label="one seed")
        if test["low"] is not None:
            _draw_interval(axes, len(gaps), test, label="mean, 95 %")
        axes.set_xticks([*range(len(gaps)), len(gaps)], [*map(str, gaps.index), "mean"])
        reach = 1.3 * max(test["margin"], gaps.abs().max())
        axes.set(xlabel="seed", ylabel="AdamW − Lion (nats a token)", ylim=(-reach, reach))
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def draw_search(trials: pd.DataFrame, path: Path) -> None:
    """Draw every trial in the searched box, coloured by validation loss; the selected one is ringed."""
    # One row a trial and tuning seed: a race runs all trials on one seed, the best quarter on every other.
    by_trial = trials.groupby(["arm", "config", "selected"])["value"]
    table = by_trial.agg(loss=lambda losses: losses.mean(skipna=False), seeds="size").reset_index()
    configs = pd.DataFrame([json.loads(text) for text in table["config"]])
    table = table.join(configs[["lr", "weight_decay"]])
    scale = {"vmin": table["loss"].min(), "vmax": table["loss"].quantile(0.8)}
    question = "Was the box wide enough, and where is the best point in it?"
    number, seeds = table.groupby("arm").size().max(), _counts(table["seeds"])
    shown = f"one point a trial, {number} of each optimizer; colour: mean over tuning seeds, {seeds}; ring: selected"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.4) as (figure, panels):
        for axes, (arm, rows) in zip(panels, table.groupby("arm"), strict=True):
            points = axes.scatter(
                rows["lr"], rows["weight_decay"], c=rows["loss"], cmap="viridis_r", s=45, edgecolors=NEUTRAL, **scale
            )
            failed, best = rows[rows["loss"].isna()], rows[rows["selected"]]
            if len(failed):
                axes.scatter(failed["lr"], failed["weight_decay"], marker="x", color="black")
            axes.scatter(best["lr"], best["weight_decay"], s=140, facecolors="none", edgecolors="black")
            axes.set(xscale="log", yscale="log", title=NAME[arm])
            axes.set(xlabel="peak learning rate", ylabel="weight decay λ")
        figure.colorbar(points, ax=panels, label="validation loss (nats a token)", extend="max")


def draw_verdict_against_budget(trials: pd.DataFrame, tests: dict, path: Path) -> None:
    """Draw the expected best validation loss of n trials, and the gap on fresh seeds at smaller budgets (X10r)."""
    # The expectation is exact over all subsets of the trials made (Dodge et al. 2019, without replacement), on the
    # tuning seed that all of them ran on.
    trials = trials[trials["seed"] == trials["seed"].mode()[0]]
    judged = {int(test["estimand"].rpartition("_")[2]): test for test in tests["X10r"]}
    judged[trials.groupby("arm").size().max()] = tests["C6r"][0]
    question = "Would a smaller tuning budget have turned the verdict?"
    seeds = _counts(test["n"] for test in judged.values())
    shown = f"left: all trials on one tuning seed; right: mean over {seeds} seeds with its 95 % interval"
    with drawing(path, question=question, shown=shown, columns=2) as (_, (left, right)):
        for arm, rows in trials.groupby("arm"):
            expected = expected_best(rows["value"].fillna(np.inf).to_numpy())
            budgets = np.arange(1, len(expected) + 1)
            left.plot(budgets, expected, "o-", markersize=3, color=COLOUR[arm], label=NAME[arm])
        _limit_to_finite(left, trials["value"])
        left.set(xlabel="trials of each arm", ylabel="expected best validation loss\n(nats a token)", xscale="log")
        left.legend()
        for budget, test in judged.items():
            if test["low"] is not None:
                _draw_interval(right, budget, test)
        right.axhline(0, color=NEUTRAL, linewidth=0.8)
        right.set(xscale="log", xlabel="trials of each arm", ylabel="AdamW − Lion on fresh seeds\n(nats a token)")
        right.set_xticks(sorted(judged), [str(budget) for budget in sorted(judged)], minor=False)
        right.minorticks_off()


def expected_best(losses: np.ndarray) -> np.ndarray:
    """Return the expected minimum of n losses drawn without replacement, for n = 1 … N; inf diverged."""
    ordered, total = np.sort(losses), len(losses)
    expected = []
    for size in range(1, total + 1):
        # Probability that rank i is the least of the subset, by the ratio of successive binomials.
        weight, weights = size / total, []
        for rank in range(total):
            weights.append(weight)
            weight *= max(0, total - rank - size) / (total - rank - 1) if rank < total - 1 else 0
        used = np.array(weights) > 0
        expected.append(float(np.dot(np.array(weights)[used], ordered[used])))
    return np.array(expected)


def draw_batch_sweep(runs: pd.DataFrame, path: Path) -> None:
    """Draw the quality gap, and best learning rates beside the measured ratio k, against the batch."""
    rows = runs[(runs["experiment"] == "batch_sweep") & (runs["split"] == "test") & (runs["metric"] == "nll_nats")]
    losses = rows.assign(batch=configured(rows, "batch")).pivot(index=["batch", "seed"], columns="arm", values="value")
    measured = median_k(runs).swaplevel()
    of_rates = np.exp(log_rate_ratio(runs, best_vertex)).swaplevel()
    curves = runs[(runs["experiment"] == "learning_rate_sweep") & (runs["split"] == "validation")]
    curves = curves[curves["metric"] == "nll_nats"]
    curves = curves.assign(batch=configured(curves, "batch"), lr=configured(curves, "lr"))
    means = np.log(curves["value"]).groupby([curves["arm"], curves["batch"], curves["lr"]]).mean()
    batches = sorted(losses.index.get_level_values("batch").unique())
    question = "Does Lion gain, and its learning rate near AdamW's, as the batch grows?"
    seeds = [losses.groupby("batch").size().min(), measured.groupby("batch").size().min()]
    shown = f"points: seeds, n = {seeds[0]} left and {seeds[1]} in the middle; line: mean with 95 % intervals"
    with drawing(path, question=question, shown=shown, columns=3, height_in=3.2) as (_, (left, middle, right)):
        _draw_by_batch(left, losses["lion"] / losses["adamw"], COLOURS[2])
        left.axhline(1, color=NEUTRAL, linewidth=0.8)
        left.set(ylabel="test loss, Lion / AdamW")
        _draw_by_batch(middle, measured, COLOURS[3], label="measured k")
        _draw_by_batch(middle, of_rates, COLOURS[4], label="best rates")
        middle.axhline(GAUSSIAN_RATIO, color=NEUTRAL, linewidth=0.8)
        middle.set(ylabel="ratio, see legend", ylim=(0, None))
        middle.legend()
        for arm, colour in COLOUR.items():
            best = means[arm].groupby("batch").idxmin().map(lambda key: key[1])
            right.plot(best.index, best, "s--", color=colour, markersize=4, linewidth=0.8, label=NAME[arm])
        right.set(xscale="log", yscale="log", xlabel="batch size", ylabel="best learning rate")
        right.legend()
        for axes in (left, middle, right):
            axes.set_xticks(batches, [f"{batch:g}" for batch in batches])
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def _draw_by_batch(axes: Axes, values: pd.Series, colour: str, label: str | None = None) -> None:
    """Draw one point a seed and the mean with its interval, against the batch; indexed by batch and seed."""
    axes.plot(values.index.get_level_values("batch"), values, "o", color=colour, alpha=0.35, markersize=4)
    intervals = {batch: paired_interval(of_batch) for batch, of_batch in values.groupby("batch")}
    means = values.groupby("batch").mean()
    axes.plot(means.index, means, "-", color=colour, label=label)
    for batch, interval in intervals.items():
        if interval is not None:
            _draw_bar(axes, batch, interval.low, interval.high, colour)
    axes.set(xscale="log", xlabel="batch size")


def draw_variants(runs: pd.DataFrame, path: Path) -> None:
    """Draw each relative's test loss, and how the loss rises off the best learning rate."""
    finals = runs[(runs["split"] == "test") & (runs["metric"] == "loss_nats")]
    tuned = finals[finals["experiment"] == "variants"].pivot(index="seed", columns="arm", values="value")
    untuned = finals[finals["experiment"] == "cautious_untuned"].set_index("seed")["value"]
    table = tuned.assign(**{"cautious_lion_at_Lion's_settings": untuned})
    question = "Which relative trains best, and what does a wrong learning rate cost?"
    shown = f"one point a seed, n = {len(tuned)}; marks and lines: means"
    with drawing(path, question=question, shown=shown, columns=2) as (_, (left, right)):
        order = table.mean().sort_values().index
        for position, arm in enumerate(order):
            _draw_row(left, table[arm], table[arm].mean(), position, COLOUR.get(arm, COLOURS[2]))
        left.set_yticks(range(len(order)), [_row_name(arm) for arm in order])
        left.set(xlabel="test loss (nats a token)", ylabel="optimizer, tuned")
        for arm, colour in COLOUR.items():
            points = {1.0: np.zeros(len(tuned))}
            for experiment in finals["experiment"].unique():
                if experiment.startswith("lr_factor_"):
                    chosen = finals[(finals["experiment"] == experiment) & (finals["arm"] == arm)]
                    points[float(experiment.rpartition("_")[2])] = chosen.set_index("seed")["value"] - tuned[arm]
            factors = sorted(points)
            right.plot(factors, [np.mean(points[f]) for f in factors], "-", color=colour, label=NAME[arm])
            for factor in factors:
                right.plot(np.full(len(tuned), factor), points[factor], "o", color=colour, alpha=0.4, markersize=4)
        right.set(xscale="log", xlabel="learning rate / own best", ylabel="rise of the test loss (nats a token)")
        right.set_xticks([0.5, 1, 2], ["½", "1", "2"])
        right.minorticks_off()
        right.legend()


def draw_update_sizes(runs: pd.DataFrame, path: Path) -> None:
    """Draw how AdamW's mean update shrinks from sign descent, and the measured ratio k along the headline run."""
    small, headline = runs[runs["experiment"] == "updates"], runs[runs["experiment"] == "lm_updates"]
    question = "How long is AdamW near sign descent, and what is k in a language model?"
    seeds = [small["seed"].nunique(), headline["seed"].nunique()]
    shown = f"left: one line a seed, n = {seeds[0]}; right: median over weights, n = {seeds[1]}"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.0) as (_, (left, right)):
        sizes = small[small["metric"] == "adamw_mean_abs"].pivot(index="step", columns="seed", values="value")
        left.plot(sizes.index, sizes, "o-", color=COLOUR["adamw"], alpha=0.4, markersize=3)
        left.set(xscale="log", xlabel="optimizer steps", ylabel="mean |u| of AdamW (learning rates)", ylim=(0, 1.05))
        ratios = headline[headline["metric"] == "update_ratio"]
        right.plot(ratios["step"], ratios["value"], "o-", color=COLOURS[3], label="language model")
        right.axhline(GAUSSIAN_RATIO, color=NEUTRAL, linewidth=0.8, label="Gaussian noise")
        right.set(xlabel="optimizer steps", ylabel="measured ratio k", ylim=(0, None))
        right.legend()


def draw_rows(runs: pd.DataFrame, path: Path) -> None:
    """Draw the size of embedding and head rows by how often their token came."""
    rows = runs[runs["experiment"] == "lm_embedding"]
    classes = ["0", "1_9", "10_29", "30_99", "100"]
    names = ["0", "1-9", "10-29", "30-99", "100+"]
    arms = sorted(rows["arm"].unique())
    question = "Whose embedding rows drift to the bound of weight decay?"
    shown = f"small points: one seed, n = {rows['seed'].nunique()}; lines: means"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.4) as (_, panels):
        for axes, matrix in zip(panels, ("embedding", "head"), strict=True):
            for number, arm in enumerate(arms):
                of_arm = rows[rows["arm"] == arm]
                reach = of_arm[of_arm["metric"] == f"{matrix}_reach"]["value"]
                if reach.empty:
                    continue
                of_matrix = of_arm[of_arm["metric"].str.startswith(f"{matrix}_")]
                named = of_matrix.pivot(index="seed", columns="metric", values="value")
                sizes = named[[f"{matrix}_{label}_rms" for label in classes]] / reach.mean()
                axes.plot(range(5), sizes.T, "o", markersize=2, color=COLOURS[number], alpha=0.4)
                axes.plot(range(5), sizes.mean(), "s-", color=COLOURS[number], label=EMBEDDED[arm])
            axes.axhline(1, color="black", linewidth=0.8)
            axes.set_xticks(range(5), names)
            axes.set(xlabel="times the token came", title=f"{matrix} rows", yscale="log")
            axes.set_ylabel("RMS of a row / farthest it can go")
        # Tied arms have no head of their own: the head's panel has room for the names of all.
        panels[1].set_ylim(0.002, 1.3)
        panels[1].legend(*panels[0].get_legend_handles_labels(), loc="lower left")


def draw_box(runs: pd.DataFrame, path: Path) -> None:
    """Draw where the weights stand in the box: on digits for each λ, and in the language model."""
    shares = runs[runs["metric"].str.startswith("box_share_")]
    shares = shares.assign(place=shares["metric"].str.rpartition("_")[2].astype(float) + 0.05)
    digits = shares[shares["experiment"] == "constraint"]
    digits = digits.assign(decay=configured(digits, "weight_decay"))
    model = shares[shares["experiment"] == "lm_quality"]
    question = "Where in the box do the weights stand?"
    shown = (
        f"means over n = {digits['seed'].nunique()} (left) and {model['seed'].nunique()} seeds (right); "
        "a line ends where no weight is left"
    )
    with drawing(path, question=question, shown=shown, columns=2) as (_, (left, right)):
        for number, (decay, of_decay) in enumerate(digits.groupby("decay")):
            mean = _positive_means(of_decay)
            left.plot(mean.index, mean, "o-", markersize=3, color=COLOURS[number], label=f"λ = {decay:g}")
        for arm, of_arm in model.groupby("arm"):
            mean = _positive_means(of_arm)
            right.plot(mean.index, mean, "o-", markersize=3, color=COLOUR[arm], label=NAME[arm])
        for axes, title in ((left, "Lion on digits"), (right, "language model, tuned")):
            axes.set(xlabel="|λ θ|, the wall being at 1", yscale="log", ylim=(1e-6, 1.2), title=title)
            axes.set_ylabel("share of weights in a tenth of the box")
            axes.legend()


def draw_flatness(runs: pd.DataFrame, path: Path) -> None:
    """Draw the rise of the test loss when all weights are disturbed, from equal training loss."""
    rows = runs[(runs["experiment"] == "flatness") & (runs["split"] == "test")]
    question = "Are Lion's minima flatter?"
    shown = f"means over n = {rows['seed'].nunique()} seeds; bars: 95 % intervals"
    with drawing(path, question=question, shown=shown, height_in=3.0) as (_, (axes,)):
        for arm, of_arm in rows.groupby("arm"):
            table = of_arm.pivot(index="seed", columns="metric", values="value").dropna()
            sizes = sorted(float(name.split("_")[1]) for name in table if name.startswith("perturbed_"))
            rises = table[[f"perturbed_{size:g}_nll_nats" for size in sizes]].sub(table["nll_nats"], axis=0)
            intervals = [paired_interval(rises[name]) for name in rises] if len(rises) > 1 else []
            axes.plot(sizes, rises.mean(), "o-", color=COLOUR[arm], label=NAME[arm])
            for size, interval in zip(sizes, intervals, strict=False):
                if interval is not None:
                    _draw_bar(axes, size, interval.low, interval.high, COLOUR[arm])
        axes.axhline(0, color=NEUTRAL, linewidth=0.8)
        axes.set(xlabel="disturbance ε, relative to each weight", ylabel="rise of the test loss (nats)")
        axes.legend()


def draw_step_time(timings: pd.DataFrame, path: Path) -> None:
    """Draw the time of one step of every implementation: one point a round."""
    table = clock_readings(timings, "step_time", "step_s") * 1e3
    order = table.median().sort_values().index
    question = "Which implementation takes the least time for a step?"
    shown = f"one point a round, n = {len(table)}; marks: medians"
    with drawing(path, question=question, shown=shown, height_in=3.0) as (_, (axes,)):
        for position, arm in enumerate(order):
            _draw_row(axes, table[arm], table[arm].median(), position, COLOUR[arm.split("_")[0]])
        axes.set_yticks(range(len(order)), [_row_name(arm) for arm in order])
        axes.set(xlabel="time of one step (ms), one thread", ylabel="implementation", xlim=(0, None))


def draw_roofline(timings: pd.DataFrame, path: Path) -> None:
    """Draw the bandwidth each implementation achieves at its least traffic, beside that of plain memory sweeps."""
    # The line is the roof: the median over rounds of the fastest sweep, its band their range.
    moved = clock_readings(timings, "step_time", "minimal_bytes")
    achieved = moved / clock_readings(timings, "step_time", "step_s") / 1e9
    sweeps = clock_readings(timings, "bandwidth", "bytes_per_s") / 1e9
    roof = sweeps.max(axis=1)
    order = [*achieved.median().sort_values().index, *sweeps.median().sort_values().index]
    question = "How near does a step come to the memory's bandwidth?"
    shown = f"one point a round, n = {len(sweeps)}; marks: medians"
    with drawing(path, question=question, shown=shown, height_in=3.6) as (_, (axes,)):
        axes.axvspan(roof.min(), roof.max(), color=NEUTRAL, alpha=0.12, linewidth=0)
        axes.axvline(roof.median(), color=NEUTRAL, linewidth=1, label="fastest sweep: median, range")
        for position, arm in enumerate(order):
            colour = NEUTRAL if arm in sweeps else COLOUR[arm.split("_")[0]]
            rounds = sweeps[arm] if arm in sweeps else achieved[arm]
            _draw_row(axes, rounds, rounds.median(), position, colour)
        names = [f"Sweep: {arm.replace('_', ' ')}" if arm in sweeps else _row_name(arm) for arm in order]
        axes.set_yticks(range(len(order)), names)
        axes.set(xlabel="least bytes moved / time (GB/s), one thread", ylabel="implementation", xlim=(0, None))
        axes.legend(loc="lower right")


def _draw_row(axes: Axes, values: pd.Series, middle: float, position: int, colour: str) -> None:
    """Draw one point a seed or round in a horizontal row, and mark the middle."""
    axes.plot(values, np.full(len(values), position), "o", color=colour, alpha=0.5)
    axes.plot(middle, position, "|", color="black", markersize=14)


def _draw_interval(axes: Axes, x: float, test: dict, label: str | None = None) -> None:
    """Draw the estimate of a judged test with its 95 % interval."""
    reach = [[test["estimate"] - test["low"]], [test["high"] - test["estimate"]]]
    axes.errorbar([x], [test["estimate"]], yerr=reach, fmt="s", color="black", capsize=4, label=label)


def _draw_bar(axes: Axes, x: float, low: float, high: float, colour: str) -> None:
    """Draw an interval as a broad faint bar, behind the line that it belongs to."""
    axes.plot([x, x], [low, high], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt", zorder=1.5)


def _positive_means(shares: pd.DataFrame) -> pd.Series:
    """Average over seeds by place in the box; NaN, which draws nothing, where no seed has a weight."""
    means = shares.groupby("place")["value"].mean()
    return means.where(means > 0)


def _counts(numbers: Iterable[int]) -> str:
    """Write the least and the greatest of some counts, or the one that they all are."""
    distinct = sorted(set(numbers))
    return str(distinct[0]) if len(distinct) == 1 else f"{distinct[0]} to {distinct[-1]}"


def _row_name(arm: str) -> str:
    text = " ".join(NAME.get(word, word) for word in arm.split("_"))
    return f"{text[0].upper()}{text[1:]}"


def _limit_to_finite(axes: Axes, values: pd.Series) -> None:
    finite = values[np.isfinite(values)]
    axes.set_ylim(finite.min() - 0.05, finite.quantile(0.75) + 0.05)


if __name__ == "__main__":
    draw(*folders())

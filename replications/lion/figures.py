"""Figures of the Lion page, drawn from results alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paperkit.results import read_json, read_runs, read_trials
from paperkit.style import COLOURS, NEUTRAL, drawing

RESULTS, FIGURES = Path("results/lion"), Path("figures/lion")
COLOUR = {"adamw": COLOURS[0], "lion": COLOURS[1]}
NAME = {"adamw": "AdamW", "lion": "Lion"}


def draw(results: Path, figures: Path) -> None:
    """Draw all figures.

    Args:
        results: Folder of the results.
        figures: Folder to write SVG files into.
    """
    runs, trials = read_runs(results / "runs.csv"), read_trials(results / "trials.csv")
    verdicts = read_json(results / "verdicts.json")
    draw_loss_curves(runs, figures / "loss_curves.svg")
    draw_paired_gap(
        next(c for c in verdicts["claims"] if c["id"] == "C6")["tests"][0], runs, figures / "paired_gap.svg"
    )
    draw_search(trials, figures / "search.svg")
    draw_verdict_against_budget(trials, figures / "verdict_against_budget.svg")
    draw_step_time(read_runs(results / "timings.csv"), figures / "timing_step.svg")


def draw_loss_curves(runs: pd.DataFrame, path: Path) -> None:
    """Draw validation loss along training: one thin line a seed, one thick mean line an arm.

    Args:
        runs: `runs.csv`.
        path: SVG file to write.
    """
    rows = runs[(runs["experiment"] == "lm_quality") & (runs["split"] == "validation")]
    with drawing(path) as (_, (axes,)):
        for arm, of_arm in rows.groupby("arm"):
            table = of_arm.pivot(index="step", columns="seed", values="value")
            axes.plot(table.index, table, color=COLOUR[arm], alpha=0.25, linewidth=0.7)
            axes.plot(table.index, table.mean(axis=1), color=COLOUR[arm], linewidth=2, label=NAME[arm])
        axes.set(xlabel="optimizer steps", ylabel="validation loss (nats a token)")
        axes.legend(title=f"{rows['seed'].nunique()} seeds each")


def draw_paired_gap(test: dict, runs: pd.DataFrame, path: Path) -> None:
    """Draw the difference of test losses of every seed, with its mean, its 95 % interval and the margin.

    Args:
        test: The judged test of C6 from `verdicts.json`.
        runs: `runs.csv`.
        path: SVG file to write.
    """
    final = runs[(runs["experiment"] == "lm_quality") & (runs["split"] == "test")]
    losses = final.pivot(index="seed", columns="arm", values="value")
    gaps = losses["adamw"] - losses["lion"]
    with drawing(path, height_in=2.6) as (_, (axes,)):
        axes.axhspan(-test["margin"], test["margin"], color=NEUTRAL, alpha=0.12, linewidth=0, label="margin")
        axes.axhline(0, color=NEUTRAL, linewidth=0.8)
        axes.plot(np.arange(len(gaps)), gaps, "o", color=COLOURS[2], label="one seed")
        if test["low"] is not None:
            middle, reach = test["estimate"], [[test["estimate"] - test["low"]], [test["high"] - test["estimate"]]]
            axes.errorbar([len(gaps)], [middle], yerr=reach, fmt="s", color="black", capsize=4, label="mean, 95 %")
        axes.set_xticks([*range(len(gaps)), len(gaps)], [*map(str, gaps.index), "mean"])
        axes.set(xlabel="seed", ylabel="AdamW - Lion (nats)")
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def draw_search(trials: pd.DataFrame, path: Path) -> None:
    """Draw every trial in the searched box, coloured by validation loss; the selected one is ringed.

    Args:
        trials: `trials.csv`.
        path: SVG file to write.
    """
    configs = pd.DataFrame([json.loads(text) for text in trials["config"]], index=trials.index)
    table = trials.join(configs[["lr", "weight_decay"]])
    scale = {"vmin": table["value"].min(), "vmax": table["value"].quantile(0.8)}
    with drawing(path, columns=2) as (figure, panels):
        for axes, (arm, rows) in zip(panels, table.groupby("arm"), strict=True):
            points = axes.scatter(rows["lr"], rows["weight_decay"], c=rows["value"], cmap="viridis_r", s=45, **scale)
            failed, best = rows[rows["status"] == "diverged"], rows[rows["selected"]]
            axes.scatter(failed["lr"], failed["weight_decay"], marker="x", color="black", label="diverged")
            axes.scatter(
                best["lr"], best["weight_decay"], s=140, facecolors="none", edgecolors="black", label="selected"
            )
            axes.set(xscale="log", yscale="log", xlabel="peak learning rate", title=NAME[arm])
        panels[0].set_ylabel("weight decay λ")
        figure.colorbar(points, ax=panels, label="validation loss (nats a token)", extend="max")


def draw_verdict_against_budget(trials: pd.DataFrame, path: Path) -> None:
    """Draw the expected best validation loss of n trials, for every n: would another budget turn the order?

    The expectation is exact over all subsets of the trials made (Dodge et al. 2019, without replacement).

    Args:
        trials: `trials.csv`.
        path: SVG file to write.
    """
    with drawing(path) as (_, (axes,)):
        for arm, rows in trials.groupby("arm"):
            expected = expected_best(rows["value"].fillna(np.inf).to_numpy())
            budgets = np.arange(1, len(expected) + 1)
            axes.plot(budgets, expected, "o-", markersize=3, color=COLOUR[arm], label=NAME[arm])
        _limit_to_finite(axes, trials["value"])
        axes.set(xlabel="trials of each arm", ylabel="expected best validation loss (nats)", xscale="log")
        axes.legend()


def expected_best(losses: np.ndarray) -> np.ndarray:
    """Return the expected minimum of n losses drawn without replacement, for n = 1 … N.

    With sorted losses l₁ ≤ … ≤ l_N the minimum of a random subset of n is l_i with probability
    C(N - i, n - 1) / C(N, n).

    Args:
        losses: Losses of all N trials; infinite where diverged.

    Returns:
        Shape (N,); infinite while a subset of only diverged trials is possible.

    Example:
        >>> expected_best(np.array([3.0, 1.0, 2.0])).round(3).tolist()
        [2.0, 1.333, 1.0]
    """
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


def draw_step_time(timings: pd.DataFrame, path: Path) -> None:
    """Draw the time of one step of every implementation: one point a round.

    Args:
        timings: `timings.csv`.
        path: SVG file to write.
    """
    table = timings.pivot(index="seed", columns="arm", values="value") * 1e3
    order = table.median().sort_values().index
    with drawing(path, height_in=2.6) as (_, (axes,)):
        for position, arm in enumerate(order):
            colour = COLOUR[arm.split("_")[0]]
            axes.plot(table[arm], np.full(len(table), position), "o", color=colour, alpha=0.5)
            axes.plot(table[arm].median(), position, "|", color="black", markersize=14)
        axes.set_yticks(range(len(order)), [arm.replace("_", " ") for arm in order])
        axes.set(xlabel="time of one step (ms), one thread", xlim=(0, None))


def _limit_to_finite(axes: Axes, values: pd.Series) -> None:
    finite = values[np.isfinite(values)]
    axes.set_ylim(finite.min() - 0.05, finite.quantile(0.75) + 0.05)


if __name__ == "__main__":
    draw(RESULTS, FIGURES)

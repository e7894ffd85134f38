"""Figures of the page, drawn from results and from the formulas."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paperkit.estimands import of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders
from replications.attention_scale.scale import annealed_mass, annealed_optimum, cosine_optimum, exact_means

SCALES = np.geomspace(0.5, 16, 26)  # the grid of the random rows
ROWS = 512
LENGTHS = 2 ** np.arange(7, 14)
QUANTILES = {"q05": "5 % quantile", "q10": "10 % quantile", "q50": "median"}
LAWS = {
    "1": lambda _n: 1.0,
    "2.5": lambda _n: 2.5,
    "0.84 √log n": lambda n: 0.84 * np.sqrt(np.log(n)),
    "log n / log 512": lambda n: np.log(n) / np.log(512),
    "2.5 log n / log 512": lambda n: 2.5 * np.log(n) / np.log(512),
}
STUDIES = {
    "short": (
        "context 64",
        {"scale_0_5": "0.5", "scale_1": "1", "scale_1_38": "1.38", "scale_2_5": "2.5", "scale_5": "5"},
    ),
    "long_rows": ("context 256", {"scale_1": "1", "scale_1_71": "1.71", "scale_2_5": "2.5"}),
}
SCALE_COLOURS = dict(zip(("0.5", "1", "1.38", "2.5", "5", "1.71"), COLOURS, strict=True))
CELLS = {"neither": "neither", "rate": "rate × 2.5", "spread": "initial weights × 2.5", "both": "both"}


def draw(results: Path, figures: Path) -> None:
    """Draw all figures."""
    runs = read_runs(results / "runs.csv")
    draw_mass(runs, figures / "mass.svg")
    draw_annealing(figures / "annealing.svg")
    draw_optimum(runs, figures / "optimum.svg")
    draw_cosine(figures / "cosine.svg")
    draw_entropy(figures / "entropy.svg")
    draw_training(runs, figures / "training.svg")
    draw_factorial(runs, figures / "factorial.svg")


def curve_of(runs: pd.DataFrame, arm: str, metric: str) -> np.ndarray:
    """Return a curve over the grid of scales, averaged over blocks of random rows."""
    rows = runs[runs["experiment"].eq("random_rows") & runs["arm"].eq(arm) & runs["metric"].eq(metric)]
    return rows.groupby("step")["value"].mean().to_numpy()


def draw_mass(runs: pd.DataFrame, path: Path) -> None:
    """Draw the mean gradient, its approximation and its quantiles against the scale."""
    question = "Is there a scale at which softmax's gradient is largest?"
    shown = "512 normal scores; mean: exact; quantiles: over all sampled rows; crosses: where (6) is largest"
    with drawing(path, question=question, shown=shown, height_in=3.6) as (_, (axes,)):
        axes.plot(SCALES, [exact_means(scale, ROWS).mass for scale in SCALES], label="mean", linewidth=2.5)
        below = SCALES[annealed_mass(SCALES, ROWS) > -0.5]
        axes.plot(below, annealed_mass(below, ROWS), label="approximation (6)")
        for name, label in QUANTILES.items():
            axes.plot(SCALES, curve_of(runs, f"n_{ROWS}", f"mass_{name}"), label=label, linewidth=1)
        axes.plot(
            SCALES, np.minimum(SCALES, np.sqrt(2 * np.log(ROWS))), ":", color=NEUTRAL, label="min(α, √(2 log n))"
        )
        optimum = float(annealed_optimum(np.log(ROWS)))
        axes.plot(optimum, float(annealed_mass(optimum, ROWS)), "x", color=COLOURS[1], markersize=9)
        axes.set(xlabel="scale α, in units of 1/√d", ylabel="α (1 - Σ p²)", xscale="log", ylim=(-0.2, 4))
        axes.minorticks_off()
        axes.set_xticks([0.5, 1, 2, 4, 8, 16], ["0.5", "1", "2", "4", "8", "16"])
        axes.legend(fontsize=7)


def draw_annealing(path: Path) -> None:
    """Draw how far the approximation is off."""
    question = "Where does the approximation break?"
    shown = "computed; dots: where the approximation is largest; dashed: half of the freezing point, √(log n / 2)"
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        shares = np.linspace(0.1, 1.2, 23)
        for n, colour in zip((64, 512, 4096), COLOURS, strict=False):
            root = np.sqrt(np.log(n))
            errors = [1 - annealed_mass(share * root, n) / exact_means(share * root, n).mass for share in shares]
            axes.plot(shares, errors, color=colour, label=f"n = {n}")
            share = float(annealed_optimum(np.log(n))) / root
            axes.plot(share, np.interp(share, shares, errors), "o", color=colour)
        axes.axvline(np.sqrt(0.5), color=NEUTRAL, linestyle="--", linewidth=1)
        axes.set(xlabel="α / √log n", ylabel="share of the mean that (6) lacks", ylim=(-0.05, 1.2))
        axes.legend()


def draw_optimum(runs: pd.DataFrame, path: Path) -> None:
    """Draw which rows the maximum of the approximation is best for."""
    question = "Which rows is the post's scale best for?"
    shown = "points: largest of the quantile over scales, mean over blocks; line: maximum of (6)"
    lengths = sorted({int(arm.removeprefix("n_")) for arm in runs.loc[runs["experiment"] == "random_rows", "arm"]})
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        fitted = 0.84 * np.sqrt(np.log(lengths))
        for name, label in QUANTILES.items():
            ratios = [of_arm(runs, "random_rows", f"n_{n}", f"best_for_{name}_ratio").mean() for n in lengths]
            axes.plot(lengths, fitted * ratios, "o-", markersize=4, label=label)
        axes.plot(lengths, annealed_optimum(np.log(lengths)), color=NEUTRAL, label="maximum of (6)")
        axes.set(xlabel="scores in a row n", ylabel="best scale α", xscale="log", yscale="log")
        axes.minorticks_off()
        axes.set_xticks(lengths, [str(n) for n in lengths])
        axes.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        axes.legend()


def draw_cosine(path: Path) -> None:
    """Draw the maxima for cosines with both fits."""
    question = "For cosines, log n or √log n?"
    shown = "points: maxima of the approximation; dashed: c log n; solid: c √log n, by least squares"
    fitted, drawn = 400 * np.arange(1, 51), np.geomspace(40, 20_000, 25)
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        for d, colour in zip((64, 128, 512), COLOURS, strict=False):
            axes.plot(drawn, [cosine_optimum(n, d) for n in drawn], ".", color=colour, label=f"d = {d}")
            optima = np.array([cosine_optimum(n, d) for n in fitted])
            for power, style in ((1.0, "--"), (0.5, "-")):
                x = np.log(fitted) ** power
                constant = x @ optima / (x @ x)
                axes.plot(drawn, constant * np.log(drawn) ** power, style, color=colour, linewidth=1)
        axes.set(xlabel="scores in a row n", ylabel="best factor of a cosine", xscale="log")
        axes.legend()


def draw_entropy(path: Path) -> None:
    """Draw the entropy against n for several laws of the scale."""
    question = "Which law of the scale keeps the entropy?"
    shown = "exact means over rows of normal scores; legend: α as a function of n"
    with drawing(path, question=question, shown=shown, height_in=3.6) as (_, (axes,)):
        for label, law in LAWS.items():
            axes.plot(
                LENGTHS, [exact_means(float(law(n)), int(n)).entropy for n in LENGTHS], "o-", markersize=3, label=label
            )
        axes.set(xlabel="scores in a row n", ylabel="entropy of the weights (nats)", xscale="log", ylim=(0, None))
        axes.legend(fontsize=7)


def draw_training(runs: pd.DataFrame, path: Path) -> None:
    """Draw learning curves by scale."""
    question = "Does a larger gradient train faster?"
    shown = "means over seeds, each scale at its own tuned learning rate; legend: scale in units of 1/√d"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.6) as (_, panels):
        for axes, (study, (title, arms)) in zip(panels, STUDIES.items(), strict=True):
            for arm, label in arms.items():
                of_study = runs["experiment"].eq(study) & runs["arm"].eq(arm) & runs["metric"].eq("loss_nats")
                curve = runs[of_study & runs["split"].eq("validation")].groupby("step")["value"].mean()
                axes.plot(curve.index, curve, "o-", markersize=3, label=label, color=SCALE_COLOURS[label])
            axes.set(title=title, xlabel="step", ylabel="validation loss (nats a byte)")
            axes.legend(fontsize=7)


def draw_factorial(runs: pd.DataFrame, path: Path) -> None:
    """Draw the four cells: what a scale changes at the start, and in a step."""
    question = "Wider scores, or larger steps?"
    shown = "dots: seeds; bars: means with 95 % intervals; each cell at its own tuned rate; context 64, 250 steps"
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        for place, arm in enumerate(CELLS):
            draw_cell(axes, place, of_arm(runs, "factorial", arm, "loss_nats", "test"))
        axes.set_xticks(range(len(CELLS)), list(CELLS.values()))
        axes.set(xlabel="what is multiplied, of the query map alone", ylabel="test loss (nats a byte)")


def draw_cell(axes: Axes, place: int, losses: pd.Series) -> None:
    """Draw the seeds of a cell and their mean with its interval."""
    axes.plot(np.full(len(losses), place), losses, "o", color=COLOURS[place], markersize=4, alpha=0.6)
    if interval := paired_interval(losses):
        ends = [[interval.estimate - interval.low], [interval.high - interval.estimate]]
        axes.errorbar([place + 0.15], [interval.estimate], yerr=ends, fmt="s", color=COLOURS[place], capsize=3)


if __name__ == "__main__":
    draw(*folders())

"""Figures of the page, drawn from results alone."""

from pathlib import Path

import numpy as np
import pandas as pd

from paperkit.estimands import of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import NEUTRAL, drawing, folders


def draw(results: Path, figures: Path) -> None:
    """Draw all figures."""
    runs = read_runs(results / "runs.csv")
    draw_probability(runs, figures / "probability.svg")
    draw_limit(runs, figures / "limit.svg")


def draw_probability(runs: pd.DataFrame, path: Path) -> None:
    """Draw the formula against the angle, and the shares of thrown points."""
    question = "How fast do points become certain to share a sector beyond the half circle?"
    thrown = {4: 180, 6: 240, 12: 300, 30: 330}  # degrees by number of points
    shown = "lines: formula (10); dots: mean share of 16 batches, 95 % intervals smaller than a dot"
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        for n in (3, 4, 6, 12, 30):
            curve = runs[(runs["experiment"] == "curve") & (runs["arm"] == f"n_{n}")].sort_values("step")
            axes.plot(curve["step"], curve["value"], label=f"{n} points")
            share = paired_interval(of_arm(runs, f"thrown_{n}", "disc", "share")) if n in thrown else None
            if share:
                axes.plot(thrown[n], share.estimate, "o", color=axes.lines[-1].get_color())
                axes.vlines(thrown[n], share.low, share.high, color=axes.lines[-1].get_color())
        axes.set(xlabel="angle of the sector (degrees)", ylabel="probability", xticks=range(0, 361, 60))
        axes.legend()


def draw_limit(runs: pd.DataFrame, path: Path) -> None:
    """Draw the exact law of the longest gap and its Gumbel limit."""
    question = "Is the law of the longest gap already its limit for a hundred points?"
    shown = "exact probability that the longest gap x exceeds a length, no seeds; grey: 1 - exp(-n exp(-nx))"
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        z = np.linspace(-2, 6, 200)
        axes.plot(z, 1 - np.exp(-np.exp(-z)), color=NEUTRAL, linestyle="--", label="Gumbel limit")
        for n in (10, 100, 4000):
            law = (runs["experiment"] == "limit") & (runs["metric"] == "probability")
            rows = runs[law & (runs["arm"] == f"n_{n}")].sort_values("step")
            axes.plot(rows["step"] / 10 - 2, rows["value"], label=f"{n} points")
        axes.set(xlabel="nx - log n", ylabel="probability of a longer gap")
        axes.legend()


if __name__ == "__main__":
    draw(*folders())

"""Figures of the page, drawn from results alone."""

from pathlib import Path

import numpy as np
import pandas as pd

from paperkit.estimands import of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, drawing, folders

PENALTIES = {"l1": "l₁", "l1_over_l2": "l₁/l₂", "reweighted": "reweighted l₁"}
DEPTHS = {"crossing_1e9_share": "1e-9", "crossing_1e3_share": "0.001", "crossing_share": "0.01"}


def draw(results: Path, figures: Path) -> None:
    """Draw all figures."""
    runs = read_runs(results / "runs.csv")
    draw_recovery(runs, figures / "recovery.svg")
    draw_crossing(runs, figures / "crossing.svg")


def draw_recovery(runs: pd.DataFrame, path: Path) -> None:
    """Draw the recovered share against the number of non-zero entries, one panel a kind of magnitudes."""
    question = "When does the better index make the better penalty?"
    shown = "means over seeds, n = 8, 30 problems each; bars: 95 % intervals; exact data, 40 equations, 128 unknowns"
    titles = {"spread": "magnitudes over one decade", "flat": "equal magnitudes"}
    with drawing(path, question=question, shown=shown, columns=2) as (_, panels):
        for axes, (kind, title) in zip(panels, titles.items(), strict=True):
            counts = sorted(int(name.split("_")[1]) for name in set(runs["experiment"]) if name.startswith(kind))
            for number, (arm, label) in enumerate(PENALTIES.items()):
                rates = [of_arm(runs, f"{kind}_{count}", arm, "recovered_share") for count in counts]
                intervals = [paired_interval(rate) for rate in rates]
                ends = [(i.estimate - i.low, i.high - i.estimate) if i else (0, 0) for i in intervals]
                x = np.array(counts) + 0.15 * (number - 1)
                means = [rate.mean() for rate in rates]
                axes.errorbar(x, means, np.transpose(ends), fmt="o-", markersize=3, capsize=2, label=label)
            axes.set(
                title=title, xlabel="non-zero entries k", ylabel="share of problems recovered", ylim=(-0.03, 1.03)
            )
        panels[0].legend()


def draw_crossing(runs: pd.DataFrame, path: Path) -> None:
    """Draw the share of pairs of rows that cross, by scale and depth."""
    question = "How often can the axioms not tell which of two rows is sparser?"
    shown = (
        "one point a block of 224 images, n = 8; all pairs of a block; "
        "curves cross by more than the depth on both sides"
    )
    rows = runs[runs["experiment"] == "rows"]
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        scales = sorted({arm for arm in rows["arm"] if arm.startswith("scale_")})
        for colour, (metric, label) in zip(COLOURS, DEPTHS.items(), strict=False):
            for place, arm in enumerate(scales):
                values = of_arm(runs, "rows", arm, metric)
                first = label if place == 0 else None
                axes.plot(np.full(len(values), place), values, "o", alpha=0.6, markersize=4, color=colour, label=first)
        axes.set_xticks(range(len(scales)), [arm.removeprefix("scale_") for arm in scales])
        axes.set(xlabel="scale of the logits", ylabel="share of pairs that cross", ylim=(0, 0.85))
        axes.legend(title="deeper than", ncols=3, fontsize=7)


if __name__ == "__main__":
    draw(*folders())

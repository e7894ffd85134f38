"""Figures of the page, drawn from results alone."""

from pathlib import Path

import numpy as np
import pandas as pd

from paperkit.estimands import of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders

NAMES = {"rounds": "the post's rounds", "rejection": "with rejection", "proportional": "proportional", "ours": "ours"}


def draw(results: Path, figures: Path) -> None:
    """Draw all figures."""
    runs = read_runs(results / "runs.csv")
    draw_orders(runs, figures / "orders.svg")
    draw_places(runs, figures / "places.svg")
    clock = results / "timings.csv"
    if clock.exists() and (timings := read_runs(clock))["seed"].nunique() > 1:  # one round has no interval
        draw_costs(timings, figures / "costs.svg")


def draw_orders(runs: pd.DataFrame, path: Path) -> None:
    """Draw how often each order of four lines comes out."""
    question = "Which of the 24 orders of four lines can come out?"
    shown = "share in 12,000 shuffles of two chunks of two lines, one seed; line: 1/24"
    with drawing(path, question=question, shown=shown, columns=2) as (_, panels):
        for axes, law in zip(panels, ("rounds", "ours"), strict=True):
            rows = runs[(runs["experiment"] == "four_lines") & (runs["arm"] == law)].sort_values("step")
            axes.bar(rows["step"] + 1, rows["value"], label=NAMES[law], color=COLOURS[law == "ours"])
            axes.axhline(1 / 24, color=NEUTRAL, linewidth=1)
            axes.set(title=NAMES[law], xlabel="order, from 1 2 3 4 to 4 3 2 1", ylabel="share", ylim=(0, 0.08))


def draw_places(runs: pd.DataFrame, path: Path) -> None:
    """Draw where in the output the lines of a last chunk of half the size are."""
    question = "Does the last chunk, half as long as the others, come early?"
    shown = "lines of the last of 20 chunks in each twentieth of the output, over those by chance; mean of the seeds"
    rows = runs[(runs["experiment"] == "short_last") & (runs["metric"] == "last_chunk_density_ratio")]
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        for law in ("rounds", "rejection", "ours"):
            mean = rows[rows["arm"] == law].groupby("step")["value"].mean()
            axes.plot((mean.index + 0.5) / len(mean), mean, "o-", markersize=4, label=NAMES[law])
        axes.set(xlabel="place in the output", ylabel="lines of the last chunk (ratio)", ylim=(0, None))
        axes.legend()


ARMS = {
    "shuf": "GNU shuf", "bucket_8": "ours, sorting 8 MiB at once", "ours": "ours, 32 MiB",
    "bucket_128": "ours, 128 MiB", "one_bucket": "ours, all at once", "proportional": "proportional draws",
}  # fmt: skip


def draw_costs(timings: pd.DataFrame, path: Path) -> None:
    """Draw CPU time over that of the post's scheme, and peak memory."""
    question = "What does a uniform order cost, and how much memory should one give it?"
    shown = "one file of long lines; mean of 7 rounds, bars: 95 % intervals; line: the post's scheme"
    with drawing(path, question=question, shown=shown, columns=2) as (_, panels):
        for axes, metric, label in zip(
            panels, ("cpu_s", "peak_mib"), ("CPU time (ratio)", "peak memory (MiB)"), strict=True
        ):
            of = {arm: of_arm(timings, "long_lines", arm, metric) for arm in (*ARMS, "post")}
            norm = of["post"] if metric == "cpu_s" else 1
            found = [interval for arm in ARMS if (interval := paired_interval(of[arm] / norm))]
            values = np.array([
                (each.estimate, each.estimate - each.low, each.high - each.estimate) for each in found
            ]).T
            axes.errorbar(values[0], range(len(ARMS)), xerr=values[1:], fmt="o", markersize=4, capsize=2)
            axes.axvline(1 if metric == "cpu_s" else of["post"].mean(), color=NEUTRAL, linewidth=1)
            axes.set_yticks(range(len(ARMS)), list(ARMS.values()))
            axes.invert_yaxis()
            axes.set(xlabel=label, ylabel="command", xlim=(0, None))
        panels[1].set_yticklabels([])


if __name__ == "__main__":
    draw(*folders())

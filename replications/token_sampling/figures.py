"""Figures of the page, drawn from results alone."""

from pathlib import Path

import pandas as pd

from paperkit.estimands import of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import drawing, folders


def draw(results: Path, figures: Path) -> None:
    """Draw all figures."""
    draw_errors(read_runs(results / "runs.csv"), figures / "errors.svg")


def draw_errors(runs: pd.DataFrame, path: Path) -> None:
    """Draw the squared error against the size of a draw, for both arms."""
    question = "Does an average err less without replacement?"
    shown = "dots: mean over seeds; bars: 95 % intervals; 20 numbers"
    # runs.csv also holds the checks of the derivation, as experiment "identities".
    experiments = {int(name.removeprefix("draws_")): name for name in runs["experiment"] if name.startswith("draws_")}
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        for arm in ("with_replacement", "without_replacement"):
            found = {n: paired_interval(of_arm(runs, experiments[n], arm, "squared_error")) for n in experiments}
            drawn = {n: interval for n, interval in sorted(found.items()) if interval}
            means = [interval.estimate for interval in drawn.values()]
            bars = [
                [interval.estimate - interval.low for interval in drawn.values()],
                [interval.high - interval.estimate for interval in drawn.values()],
            ]
            axes.errorbar(list(drawn), means, yerr=bars, fmt="o-", label=arm.replace("_", " "))
        axes.set(xlabel="numbers in a draw", ylabel="squared error / S²", yscale="log")
        axes.legend()


if __name__ == "__main__":
    draw(*folders())

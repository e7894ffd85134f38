"""Figures of the page, drawn from results alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paperkit.estimands import of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders
from replications.fourier_density.targets import PICTURE, targets

LABELS = {
    "fourier_linear": "Fourier, linear map",
    "fourier_tanh": "Fourier, tanh map",
    "em_kmeans": "mixture, EM, k-means++",
    "gradient_kmeans": "mixture, L-BFGS, k-means++",
    "em_wide": "mixture, EM, wide",
    "gradient_wide": "mixture, L-BFGS, wide",
    "kde": "kernel density",
}


def draw(results: Path, figures: Path) -> None:
    """Draw all figures."""
    runs = read_runs(results / "runs.csv")
    draw_picture(runs, figures / "picture.svg")
    draw_arms(runs, figures / "start_or_optimiser.svg")
    draw_targets(runs, figures / "targets.svg")
    draw_capacity(runs, figures / "capacity.svg")


def draw_picture(runs: pd.DataFrame, path: Path) -> None:
    """Draw the densities of one seed over a part of the comb."""
    with drawing(path, question="What do 77 parameters buy?", shown="one seed; a part of the comb") as (_, (axes,)):
        comb = targets()["comb25"]
        near = (comb.points > PICTURE[0]) & (comb.points < PICTURE[-1])
        axes.plot(comb.points[near], np.exp(comb.log_pdf[near]), color=NEUTRAL, linewidth=3, alpha=0.4, label="truth")
        for arm, colour in zip(("fourier_linear", "em_kmeans", "gradient_wide"), COLOURS, strict=False):
            rows = runs[runs["metric"].eq("picture_density") & runs["arm"].eq(arm)].sort_values("step")
            axes.plot(PICTURE, rows["value"], color=colour, linewidth=1, label=LABELS[arm])
        axes.set(xlabel="y", ylabel="density")
        axes.legend()


def draw_seeds(axes: Axes, place: float, values: Sequence[float], colour: str, label: str | None = None) -> None:
    """Draw each seed, and mean and interval over them."""
    axes.plot(np.full(len(values), place), values, "o", color=colour, alpha=0.4, markersize=3, label=label)
    interval = paired_interval(values)
    if interval:
        ends = [[interval.estimate - interval.low], [interval.high - interval.estimate]]
        axes.errorbar([place + 0.2], [interval.estimate], ends, fmt="s", color=colour, markersize=4, capsize=2)


def draw_arms(runs: pd.DataFrame, path: Path) -> None:
    """Draw log KL of every arm on the comb, by seed."""
    question = "Optimiser or start: what makes a mixture fail on the comb?"
    shown = "dots: one seed each; squares: means with 95 % intervals"
    with drawing(path, question=question, shown=shown, height_in=3.8) as (_, (axes,)):
        for place, arm in enumerate(LABELS):
            values = of_arm(runs, "comb25", arm, "kl_log", "test").to_numpy()
            draw_seeds(axes, place, values, COLOURS[0] if arm.startswith("fourier") else COLOURS[1])
        axes.set_xticks(range(len(LABELS)), [label.replace(", ", "\n") for label in LABELS.values()], fontsize=7)
        axes.set(xlabel="density", ylabel="log KL")


def draw_targets(runs: pd.DataFrame, path: Path) -> None:
    """Draw log KL of every family, by target."""
    all_names = {"comb25": "comb", "claw": "claw", "steps": "plateaus", "t3": "Student's t₃"}
    names = {target: name for target, name in all_names.items() if target in set(runs["experiment"])}
    arms = ("fourier_linear", "fourier_tanh", "em_kmeans", "gradient_wide", "kde")
    question, shown = "When is the Fourier density the right choice?", "one dot a seed; squares: means, 95 % intervals"
    with drawing(path, question=question, shown=shown, height_in=3.8) as (_, (axes,)):
        for number, (arm, colour) in enumerate(zip(arms, COLOURS, strict=False)):
            for place, target in enumerate(names):
                values = of_arm(runs, target, arm, "kl_log", "test").to_numpy()
                draw_seeds(axes, place + 0.15 * number - 0.3, values, colour, LABELS[arm] if place == 0 else None)
        axes.set_xticks(range(len(names)), list(names.values()))
        axes.set(xlabel="target", ylabel="log KL")
        axes.legend(ncols=2, fontsize=7)


def draw_capacity(runs: pd.DataFrame, path: Path) -> None:
    """Draw log KL of the Fourier density on the comb against its degree, beside the mixture by EM."""
    start = "comb25_degree_"
    degrees = sorted(int(name.removeprefix(start)) for name in set(runs["experiment"]) if name.startswith(start))
    question = "How high a degree does a comb of 25 teeth need?"
    shown = "dots: one seed each; squares: means with 95 % intervals; 2N + 3 parameters; line: EM, 77 parameters"
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        for degree in degrees:
            values = of_arm(runs, f"{start}{degree}", "fourier_linear", "kl_log").to_numpy()
            draw_seeds(axes, degree, values, COLOURS[0])
        axes.axhline(float(of_arm(runs, "comb25", "em_kmeans", "kl_log", "test").mean()), color=NEUTRAL, linewidth=1)
        axes.set(xlabel="degree N", ylabel="log KL")


if __name__ == "__main__":
    draw(*folders())

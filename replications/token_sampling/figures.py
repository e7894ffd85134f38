"""Figures of the page, drawn from results alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paperkit.estimands import of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, drawing, folders

WINDOWS = {"english": ("English, 10 characters", 10), "chinese": ("Chinese, 20 characters", 20)}
ALGORITHMS = {
    "sigmoid": "sigmoid rule (9768)",
    "reservoir_of_scores": "reservoir of scores",
    "perfect": "one sweep (9811)",
    "powered_prefix": "tokenizers",
    "nbest_64": "64 best",
}
SPEEDS = {
    "viterbi": "ours, Viterbi",
    "filter_sample": "ours, filter and walk",
    "online_one": "ours, one sweep",
    "sp_viterbi": "SentencePiece, Viterbi",
    "sp_ffbs": "SentencePiece, sampling",
    "sp_nbest_64": "SentencePiece, 64 best",
    "hf_viterbi": "tokenizers, Viterbi",
    "hf_sample": "tokenizers, sampling",
}


def draw(results: Path, figures: Path) -> None:
    """Draw all figures; that of speeds where they were measured."""
    runs = read_runs(results / "runs.csv")
    draw_laws(runs, figures / "laws.svg")
    draw_inflation(runs, figures / "inflation.svg")
    draw_mass(runs, figures / "mass.svg")
    if (results / "timings.csv").is_file():
        draw_speed(read_runs(results / "timings.csv"), figures / "speed.svg")


def _alphas(runs: pd.DataFrame, experiment: str, suffix: str) -> list[str]:
    metrics = set(runs[runs["experiment"] == experiment]["metric"])
    return sorted(name.removesuffix(suffix) for name in metrics if name.endswith(suffix))


def _alpha(tag: str) -> float:
    return float(tag.removeprefix("alpha_").replace("_", "."))


def _curve(axes: Axes, x: Sequence[float], values: Sequence[pd.Series], label: str, style: str) -> None:
    """Draw means over seeds with 95 % intervals."""
    intervals = [paired_interval(one) for one in values]
    ends = [(i.estimate - i.low, i.high - i.estimate) if i else (0, 0) for i in intervals]
    means = [one.mean() for one in values]
    axes.errorbar(x, means, np.transpose(ends), fmt=style, markersize=3, capsize=2, label=label)


def draw_laws(runs: pd.DataFrame, path: Path) -> None:
    """Draw the distance of each algorithm's law from the exact one against alpha."""
    question = "Which algorithm draws the right law?"
    shown = "means over vocabularies, bars: 95 % intervals; laws by enumeration, 24 windows each; 0 is exact"
    with drawing(path, question=question, shown=shown, columns=2) as (_, panels):
        for axes, (corpus, (title, length)) in zip(panels, WINDOWS.items(), strict=True):
            experiment = f"laws_{corpus}_{length}"
            tags = _alphas(runs, experiment, "_tv")
            for arm, label in ALGORITHMS.items():
                values = [of_arm(runs, experiment, arm, f"{tag}_tv") for tag in tags]
                _curve(axes, [_alpha(tag) for tag in tags], values, label, "o-")
            axes.set(title=title, xlabel="alpha", ylabel="total variation from exact", ylim=(-0.03, 1))
        panels[0].legend()


def draw_inflation(runs: pd.DataFrame, path: Path) -> None:
    """Draw how many more pieces random segmentations have, by alpha."""
    question = "What does alpha do to real text?"
    shown = "means over vocabularies, bars: 95 % intervals; expected pieces of 60 lines, computed without draws"
    arms = {"perfect": "all segmentations", "nbest_512": "512 best", "nbest_64": "64 best"}
    with drawing(path, question=question, shown=shown, columns=2) as (_, panels):
        for axes, corpus in zip(panels, WINDOWS, strict=True):
            experiment = f"inflation_{corpus}_300"
            tags = _alphas(runs, experiment, "_inflation")
            for arm, label in arms.items():
                values = [of_arm(runs, experiment, arm, f"{tag}_inflation") for tag in tags]
                _curve(axes, [_alpha(tag) for tag in tags], values, label, "o-")
            for mark in (0.05, 0.1, 0.2):
                axes.axhline(mark, linewidth=0.6, linestyle=":", color="#555555")
            title = f"{corpus.capitalize()}, lines of 300 characters"
            axes.set(title=title, xlabel="alpha", ylabel="more pieces than the best (share)", xscale="log")
            axes.set_yscale("log")
        panels[0].legend()


def draw_mass(runs: pd.DataFrame, path: Path) -> None:
    """Draw the mass of the 64 best against the length."""
    question = "How much of the lattice do 64 segmentations cover?"
    shown = "means over vocabularies, 60 lines each; the line at 0 would be all of it"
    with drawing(path, question=question, shown=shown, columns=2) as (_, panels):
        for axes, corpus in zip(panels, WINDOWS, strict=True):
            rows = runs[runs["experiment"] == f"mass_{corpus}"]
            for tag in _alphas(runs, f"mass_{corpus}", "_log_mass_nats"):
                means = rows[rows["metric"] == f"{tag}_log_mass_nats"].groupby("step")["value"].mean()
                axes.plot(means.index, means.to_numpy(), "o-", markersize=3, label=f"alpha {_alpha(tag):g}")
            axes.set(title=corpus.capitalize(), xlabel="characters", ylabel="log share of the 64 best (nats)")
        panels[0].legend()


def draw_speed(timings: pd.DataFrame, path: Path) -> None:
    """Draw the speed of each arm, deterministic and random."""
    question = "What does a draw cost?"
    shown = "one point a round; bytes of text a CPU second, one thread; alpha 0.1"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.6) as (_, panels):
        for axes, corpus in zip(panels, WINDOWS, strict=True):
            for place, arm in enumerate(SPEEDS):
                speeds = of_arm(timings, f"speed_{corpus}", arm, "bytes_per_s") / 1e6
                colour = COLOURS[0] if arm.endswith("viterbi") else COLOURS[1]
                axes.plot(speeds, np.full(len(speeds), -place), "o", alpha=0.6, markersize=4, color=colour)
            axes.set_yticks(
                -np.arange(len(SPEEDS)), list(SPEEDS.values()) if corpus == "english" else [""] * len(SPEEDS)
            )
            axes.set(title=corpus.capitalize(), xlabel="MB a second", ylabel="arm", xscale="log")


if __name__ == "__main__":
    draw(*folders())

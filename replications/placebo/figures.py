"""Figures of the page, drawn from results alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from paperkit.estimands import of_arm
from paperkit.results import read_runs
from paperkit.style import NEUTRAL, drawing, folders
from replications.placebo.chances import WORDS, chances

INTACT = {
    "the chain, 8 seeds": ("nothing_there", "greater_8_differ"),
    "5 seeds": ("nothing_there", "greater_5_differ"),
    "3 seeds": ("nothing_there", "greater_3_differ"),
    "four claims, after Holm": ("nothing_there", "family_differ"),
}
CONDITIONS = {
    "both with one setting": "one_setting",
    "a race for each seed": "a_race_for_each_seed",
    "nothing shared": "nothing_shared",
    "one tuning seed": "one_tuning_seed",
    "four times as many trials": "many_trials",
    "four times as long": "four_times_as_long",
}
INTACT |= {label: (arm, "greater_8_differ") for label, arm in CONDITIONS.items()}
FIRM = {
    "another race read, 8 seeds": ("again_nothing_there", "greater_8_differ"),
    "… 5 seeds": ("again_nothing_there", "greater_5_differ"),
    "… four claims, after Holm": ("again_nothing_there", "family_differ"),
    "… nothing shared": ("again_nothing_shared", "greater_8_differ"),
    "… four times as many trials": ("again_many_trials", "greater_8_differ"),
    "… four times as long": ("again_four_times_as_long", "greater_8_differ"),
}
BROKEN = {f"bootstrap, {n} seeds": ("nothing_there", f"bootstrap_{n}_differ") for n in (8, 5, 3)}
BROKEN["a look after each of 5 to 8"] = ("nothing_there", "peeking_differ")
BROKEN["picked on reported seeds"] = ("picked_on_reported_seeds", "greater_8_differ")


def draw(results: Path, figures: Path) -> None:
    """Draw all figures."""
    runs = read_runs(results / "runs.csv")
    draw_wrong_words(runs, figures / "differ.svg")
    draw_words(runs, figures / "words.svg")


def exact(runs: pd.DataFrame, arm: str, metric: str) -> tuple[float, float, float]:
    """Return a share over all repetitions, with its Clopper-Pearson interval."""
    shares = of_arm(runs, "placebo", arm, f"{metric}_share")
    config = json.loads(runs.loc[runs["arm"] == arm, "config"].iloc[0])
    number = config["repetitions"] // (4 if metric == "family_differ" else 1) * len(shares)
    found = stats.binomtest(round(float(shares.mean()) * number), number)
    ends = found.proportion_ci(0.95, method="exact")
    return found.statistic, ends.low, ends.high


def draw_rates(axes: Axes, places: Sequence[float], rates: Sequence[tuple[float, float, float]], **how: str) -> None:
    """Draw shares with their intervals, one below the other."""
    share, low, high = np.transpose(rates)
    axes.errorbar(share, places, xerr=[share - low, high - share], fmt="o", markersize=4, capsize=2, **how)


def draw_wrong_words(runs: pd.DataFrame, path: Path) -> None:
    """Draw how often two names of one method are said to differ, by the chain and by broken ones."""
    question = "How often does the chain say that two names of one method differ?"
    shown = "shares of all repetitions; bars: exact 95 % intervals; line: 5 %"
    groups = {"words that are not fragile": FIRM, "all words": INTACT, "broken chains": BROKEN}
    with drawing(path, question=question, shown=shown, height_in=5.4) as (_, (axes,)):
        names: list[str] = []
        for label, rows in groups.items():
            places = range(len(names), len(names) + len(rows))
            draw_rates(axes, places, [exact(runs, *row) for row in rows.values()], label=label)
            names += rows
        axes.axvline(0.05, color=NEUTRAL, linewidth=1)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel='share said to "differ"', ylabel="chain", xlim=(0, None))
        axes.legend()


def draw_words(runs: pd.DataFrame, path: Path) -> None:
    """Draw how often each rule gives each word, beside what normal differences alone would give."""
    question = "Which words does each rule give when nothing, or one margin, is there?"
    shown = "8 seeds; dots: shares with exact 95 % intervals; ticks: normal differences of the same spread"
    labels = [(rule, word) for rule, words in WORDS.items() for word in words]
    places = range(len(labels))
    with drawing(path, question=question, shown=shown, height_in=4.6, columns=2) as (_, panels):
        for axes, (arm, title, margins) in zip(panels, TRUTHS, strict=True):
            draw_rates(axes, places, [exact(runs, arm, f"{rule}_8_{word}") for rule, word in labels])
            axes.plot(expected_words(runs, arm, margins), places, "|", color=NEUTRAL, markersize=9)
            axes.set(title=title, xlabel="share of repetitions", ylabel="rule: word", xlim=(-0.02, 1.02))
            axes.set_yticks(places, [f"{rule}: {word}".replace("_", " ") for rule, word in labels], fontsize=7)
            axes.invert_yaxis()
        panels[1].set_yticklabels([])


TRUTHS = (("nothing_there", "nothing is there", 0.0), ("one_margin", "one margin is planted", 1.0))


def expected_words(runs: pd.DataFrame, arm: str, margins: float) -> list[float]:
    """Return the chance of each word of each rule, for normal differences with the spread that was measured."""
    margin = json.loads(runs.loc[runs["arm"] == arm, "config"].iloc[0])["margin"]
    sd = float(np.sqrt((of_arm(runs, "placebo", arm, "between_seeds_sd_nats") ** 2).mean()))
    of_rules = [chances(rule, n=8, sd=sd, mean=margins * margin, margin=margin) for rule in WORDS]
    return [p for words in of_rules for p in words.values()]


if __name__ == "__main__":
    draw(*folders())

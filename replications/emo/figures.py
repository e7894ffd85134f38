"""Figures of the page on EMO, drawn from results alone; those of the derivation from its formulas."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from paperkit.estimands import difference, of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders

NAME = {
    "mle": "MLE",
    "emo": "mode 1",
    "emo_clamped": "mode 1, bound 3",
    "emo_weighted": "mode 2",
    "emo_permuted": "mode 1, permuted cost",
    "emo_random": "mode 1, random cost",
    "emo_pmi": "mode 1, cost of counts",
    "emo_glove": "mode 1, cost of GloVe",
    "emo_energy": "mode 1 with d",
    "mle_plus_4_energy": "MLE + 4 d",
    "label_smoothing": "label smoothing",
    "mixce": "MixCE",
    "total_variation": "total variation",
}
COLOUR = dict(
    zip(
        ("emo", "emo_energy", "mle_plus_4_energy", "emo_random", "emo_weighted", "label_smoothing"),
        COLOURS,
        strict=True,
    )
)
Floats = NDArray[np.float64]


def draw(results: Path, figures: Path) -> None:
    """Draw all figures of a profile; the world of synonyms and the formulas belong to the least one."""
    runs = read_runs(results / "runs.csv")
    draw_continued(runs, figures / "continued.svg")
    if "fixed_points" not in set(runs["experiment"]):
        return
    draw_gradients(figures / "gradients.svg")
    draw_fixed_points(runs, figures / "fixed_points.svg")
    draw_sizes(runs, figures / "sizes.svg")
    draw_noise(runs, figures / "noise.svg")


def gradients(p: Floats, costs: Floats, target: int) -> dict[str, Floats]:
    """Return the gradients on the logits of each loss: what a step of gradient descent takes away."""
    m, e = -np.log(p[target]), p @ costs
    of_m = p - np.eye(len(p))[target]
    of_e = p * (costs - e)
    return {"MLE": of_m, "e": of_e, "mode 1": (of_m + m / e * of_e) / 2, "mode 2": of_e + e / m * of_m}


def draw_gradients(path: Path) -> None:
    """Draw one context's gradients token by token, and the target's against its probability."""
    question = "Which tokens does a step push up, and how hard?"
    shown = "formulas; left: the target has probability 0.1, a synonym 0.3; costs rise from left to right"
    costs = np.array([0.0, 0.1, 0.5, 0.9, 1.0, 1.1])
    p = np.array([0.1, 0.3, 0.2, 0.2, 0.15, 0.05])
    with drawing(path, question=question, shown=shown, columns=2) as (_, (bars, lines)):
        for place, (name, gradient) in enumerate(gradients(p, costs, 0).items()):
            bars.bar(np.arange(len(p)) + 0.2 * (place - 1.5), -gradient, 0.2, label=name, color=COLOURS[place])
        bars.set_xticks(range(len(p)), [f"{cost:g}" for cost in costs])
        bars.axhline(0, color=NEUTRAL, linewidth=0.8)
        bars.set(xlabel="cost of the token to the target", ylabel="push on its logit")
        bars.legend(fontsize=8)
        of_target = np.geomspace(1e-4, 0.999, 200)
        rest = p[1:] / p[1:].sum()
        pushes = [gradients(np.array([q, *(1 - q) * rest]), costs, 0) for q in of_target]
        for place, name in enumerate(pushes[0]):
            lines.plot(of_target, [-push[name][0] for push in pushes], color=COLOURS[place])
        lines.set(xscale="log", yscale="log", xlabel="probability of the target", ylabel="push on the target's logit")


def draw_fixed_points(runs: pd.DataFrame, path: Path) -> None:
    """Draw by how much the entropy of each loss's fixed point misses that of the truth."""
    question = "Where does each loss lead with endless data?"
    arms = [arm for arm in NAME if arm in set(runs[runs["experiment"] == "fixed_points"]["arm"])]
    found = {arm: of_arm(runs, "fixed_points", arm, "entropy_gap_nats") for arm in arms}
    shown = f"one dot a random truth of 64 tokens, n = {len(found['mle'])}; 0: the entropy of the truth"
    with drawing(path, question=question, shown=shown, height_in=2.8) as (_, (axes,)):
        for place, values in enumerate(found.values()):
            axes.plot(values, np.full(len(values), -place), "o", color=COLOURS[0], markersize=4)
        axes.set_yticks([-place for place in range(len(arms))], [NAME[arm] for arm in arms])
        axes.axvline(0, color=NEUTRAL, linewidth=0.8)
        axes.set(xlabel="entropy of the fixed point minus that of the truth (nats)", ylabel="loss")


def draw_sizes(runs: pd.DataFrame, path: Path) -> None:
    """Draw the distance to the truth, each loss's minus MLE's, against the number of pairs."""
    question = "Is a model nearer to the truth than MLE's, and does that last as data grow?"
    shown = "means over seeds, bars: 95 % intervals; below 0: nearer to the truth than MLE"
    panels = {"as trained": r"synonyms_(\d+)", "with the best temperature": r"synonyms_(\d+)_tempered"}
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.8) as (_, both):
        for axes, (title, pattern) in zip(both, panels.items(), strict=True):
            names = {int(found[1]): name for name in set(runs["experiment"]) if (found := re.fullmatch(pattern, name))}
            for arm in COLOUR:
                gaps = {size: difference(runs, names[size], arm, "mle", "kl_nats", "test") for size in sorted(names)}
                _intervals(axes, gaps, COLOUR[arm], NAME[arm])
            axes.axhline(0, color=NEUTRAL, linewidth=0.8)
            axes.set(
                xscale="log", xlabel="pairs, a fifth of them held out", title=title, ylabel="KL, minus MLE's (nats)"
            )
            axes.set_xticks(sorted(names), [f"{size:,}" for size in sorted(names)], rotation=45)
            axes.minorticks_off()
        both[0].legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, 1.02), labelspacing=0.2)
        both[0].set_ylim(-0.1, 0.5)


def draw_noise(runs: pd.DataFrame, path: Path) -> None:
    """Draw how the gain of mode 1 goes with the noise in its cost."""
    question = "How good must the cost be?"
    shown = "means over seeds, bars: 95 % intervals; below 0: nearer to the truth than MLE"
    with drawing(path, question=question, shown=shown, height_in=2.8) as (_, (axes,)):
        for place, (label, suffix) in enumerate({"as trained": "", "with the best temperature": "_tempered"}.items()):
            pattern = rf"synonyms_noise_([\d.]+){suffix}"
            names = {
                float(found[1]): name for name in set(runs["experiment"]) if (found := re.fullmatch(pattern, name))
            }
            # MLE has no cost: its runs are those of the least size.
            mle = min(
                (name for name in set(runs["experiment"]) if re.fullmatch(rf"synonyms_\d+{suffix}", name)), key=_size
            )
            gaps = {
                noise: difference(runs, names[noise], "emo", "mle", "kl_nats", "test", mle) for noise in sorted(names)
            }
            _intervals(axes, gaps, COLOURS[place], label)
        axes.axhline(0, color=NEUTRAL, linewidth=0.8)
        axes.set(xlabel="noise in the cost's vectors, relative to the classes'", ylabel="KL, mode 1 minus MLE (nats)")
        axes.legend()


def draw_continued(runs: pd.DataFrame, path: Path) -> None:
    """Draw what each loss does to a language model that goes on training: every seed minus MLE's."""
    question = "What does each loss do to a language model, against MLE?"
    arms = [arm for arm in NAME if arm != "mle" and arm in set(runs[runs["experiment"] == "continued"]["arm"])]
    shown = "one dot a seed, minus the MLE model of the same seed; nats a token of test text"
    metrics = {
        "loss_nats": "cross-entropy",
        "tempered_loss_nats": "after one temperature",
        "entropy_nats": "entropy",
    }
    height = 1.2 + 0.26 * len(arms)
    with drawing(path, question=question, shown=shown, columns=len(metrics), height_in=height) as (_, panels):
        for axes, (metric, label) in zip(panels, metrics.items(), strict=True):
            for place, arm in enumerate(arms):
                gap = difference(runs, "continued", arm, "mle", metric, "test")
                axes.plot(gap, np.full(len(gap), -place), "o", color=COLOURS[0], markersize=3)
            axes.axvline(0, color=NEUTRAL, linewidth=0.8)
            first = axes is panels[0]
            axes.set_yticks([-place for place in range(len(arms))], [NAME[arm] for arm in arms] if first else [])
            axes.set(xlabel=label, ylabel="loss" if first else " ")


def _size(experiment: str) -> int:
    return int(experiment.split("_")[1])


def _intervals(axes: Axes, gaps: dict, colour: str, label: str) -> None:
    found = {at: interval for at, gap in gaps.items() if (interval := paired_interval(gap))}
    means = [interval.estimate for interval in found.values()]
    low, high = ([abs(getattr(i, end) - i.estimate) for i in found.values()] for end in ("low", "high"))
    axes.errorbar(list(found), means, yerr=[low, high], fmt="o-", color=colour, label=label, markersize=4)


if __name__ == "__main__":
    draw(*folders())

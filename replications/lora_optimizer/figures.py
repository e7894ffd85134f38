"""Figures of the page on LoRA as an optimizer, drawn from results alone."""

import re
from collections.abc import Mapping
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paperkit.estimands import configured, difference
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders

INPUTS, OUTPUTS = 16, 24  # of the matrix in studies/forms.py, which a figure must not import: it loads torch
NAME = {
    "lora_4_a0": "A at zero",
    "lora_4_both": "neither at zero",
    "lora_4_ga": "along the gradient",
    "lora_4_frozen": "A frozen",
    "lora_4_frozen_serial": "A frozen, drawn 4 times",
    "lora_4_serial": "LoRA after LoRA, 4 times",
    "galore_4": "GaLore",
    "ones_4": "additive, ones",
    "signs_4": "additive, signs",
}
HELD = {
    "gradient_bytes": "gradients",
    "moment_bytes": "moments",
    "factor_bytes": "factors and start",
    "activation_bytes": "activations",
}
FORM = {
    "full": "full training",
    "inside": "LoRA inside the network",
    "optimizer_form": "optimizer form",
    "incremental": "optimizer form, no start kept",
    "released": "and gradients released",
    "galore": "GaLore",
}
FRONTIERS = {
    "frontier_sgd": ("sgd", "resampled_8"),
    "frontier_adam": ("full", "lora_4", "lora_4_decay"),
    "continued": ("full", "lora_4", "lora_64"),
}
FRONTIER_ARMS = {
    "sgd": "SGD",
    "resampled_8": "SGD, projections of rank 8 drawn anew",
    "full": "full training",
    "lora_4": "LoRA, rank 4",
    "lora_4_decay": "LoRA, rank 4, decay",
    "lora_64": "LoRA, rank 64",
}
# Title, boxes with their places, arrows between boxes, backpropagation, multiply-adds.
DIAGRAMS: list[tuple[str, dict[str, tuple[float, float]], list[str], str, str]] = [
    (
        "Full training: X W",
        {"X": (0, 0), "X W": (2.5, 0), "W": (2.5, -1.2), "Y": (6.5, 0)},
        ["X > X W", "W > X W > Y"],
        "G = X' dY;  dX = dY W'",
        "3 n m",
    ),
    (
        "LoRA merged, or as an optimizer: X (W0 + A B)",
        {"X": (0, 0), "X W": (2.5, 0), "Y": (6.5, 0), "A, B": (0, -1.2), "W = W0 + A B": (2.5, -1.2)},
        ["X > X W", "A, B > W = W0 + A B > X W > Y"],
        "G = X' dY;  dX = dY W';  then G B', A' G",
        "3 n m + 3 n m r / t",
    ),
    (
        "LoRA inside the network: X W0 + (X A) B",
        {"X": (0, 0), "X W0": (2.5, 0), "X A": (2.5, -1.2), "(X A) B": (4.5, -1.2), "+": (4.5, 0), "Y": (6.5, 0)},
        ["X > X W0", "X > X A > (X A) B > +", "X W0 > + > Y"],
        "X' (dY B'), (X A)' dY, dX, without G",
        "2 n m + 3 r (n + m)",
    ),
]
TRAINED = ("W", "A, B", "X A", "(X A) B")


def draw(results: Path, figures: Path) -> None:
    """Draw all figures whose runs a profile has."""
    runs = read_runs(results / "runs.csv")
    drawn = {
        "adapt": (draw_ranks, draw_variants, draw_signs, draw_penalty, draw_forgetting, draw_costs),
        "continued": (draw_forgetting,),
        "forms_cliff": (draw_forms, draw_equality, draw_second_order, draw_projection_variance),
        "encoder": (draw_encoder,),
    }
    present = set(runs["experiment"])
    for function in [each for experiment in drawn if experiment in present for each in drawn[experiment]]:
        function(runs, figures / f"{function.__name__.removeprefix('draw_')}.svg")


def draw_ranks(runs: pd.DataFrame, path: Path) -> None:
    """Draw the test loss against the rank, above full training's."""
    shown = "every rank at its own rate; means over seeds, bars: 95 % intervals; 64 is the full rank"
    with drawing(path, question="How much rank does it take?", shown=shown) as (_, (axes,)):
        _ranks_drawn(axes, runs, "adapt", "lora", "full", "LoRA")
        axes.axhline(0, color=NEUTRAL, linewidth=0.8)
        axes.set(ylabel="loss above full training's (nats)")


def draw_penalty(runs: pd.DataFrame, path: Path) -> None:
    """Draw the price of resampling against the rank, beside the slope that its variance predicts."""
    shown = "means over seeds, bars: 95 % intervals; all at a quarter of SGD's rate; line: 1 / r through the last"
    with drawing(path, question="What does resampling cost, and as its variance?", shown=shown) as (_, (axes,)):
        means = _ranks_drawn(axes, runs, "penalty", "resampled", "sgd", "measured")
        last, x = max(means), np.array(sorted(means), dtype=float)
        axes.plot(x, means[last] * last / x, "--", color=NEUTRAL, label="1 / r")
        axes.set_yscale("symlog", linthresh=1e-3)  # a difference may be below zero
        axes.set(ylabel="loss above SGD's (nats)")
        axes.legend()


def draw_variants(runs: pd.DataFrame, path: Path) -> None:
    """Draw every variant of rank 4 against LoRA of rank 4, seed by seed."""
    shown = "one dot a seed, each variant at its own rate; left of 0: better than LoRA of rank 4"
    arms = [arm for arm in NAME if arm in set(runs.loc[runs["experiment"] == "adapt", "arm"])]
    gaps = {NAME[arm]: difference(runs, "adapt", arm, "lora_4", "loss_nats", "test") for arm in arms}
    with drawing(path, question="Which variant of rank 4 is better?", shown=shown, height_in=3.4) as (_, (axes,)):
        _rows(axes, gaps, xlabel="test loss minus that of LoRA (nats)", ylabel="variant")


def draw_signs(runs: pd.DataFrame, path: Path) -> None:
    """Draw what random signs gain with each norm."""
    shown, norms = (
        "one dot a seed; rank 1; each pattern at its own rate",
        {"LayerNorm": "adapt", "RMSNorm": "adapt_rms"},
    )
    gaps = {n: difference(runs, name, "ones_1", "signs_1", "loss_nats", "test") for n, name in norms.items()}
    question = "Is the additive form blind behind a norm?"
    with drawing(path, question=question, shown=shown, height_in=2.4) as (_, (axes,)):
        _rows(axes, gaps, xlabel="loss of ones minus loss of random signs (nats)", ylabel="norm")


def draw_encoder(runs: pd.DataFrame, path: Path) -> None:
    """Draw the accuracy of the encoder, each arm's minus full training's."""
    arms = {"head": "classifier alone", "lora_1": "rank 1", "lora_8": "rank 8"}
    gaps = {name: difference(runs, "encoder", arm, "full", "accuracy_points", "test") for arm, name in arms.items()}
    shown, question = "one dot a seed; grey: within 1.5 points", "Is a low rank as good on a pretrained encoder?"
    with drawing(path, question=question, shown=shown, height_in=2.6) as (_, (axes,)):
        axes.axvspan(-1.5, 1.5, color=NEUTRAL, alpha=0.15, linewidth=0)
        _rows(axes, gaps, xlabel="test accuracy minus full training's (points)", ylabel="trained")


def draw_forgetting(runs: pd.DataFrame, path: Path) -> None:
    """Draw the loss on the source against the gain on the target, one point a rate."""
    shown = "one point a rate, mean over seeds, joined in the order of rates; lower right is better"
    question = "What does a gain on the new text cost on the old one?"
    experiments = [name for name in FRONTIERS if name in set(runs["experiment"])]
    with drawing(path, question=question, shown=shown, columns=len(experiments), height_in=3.6) as (_, panels):
        for axes, experiment in zip(panels, experiments, strict=True):
            for place, arm in enumerate(FRONTIERS[experiment]):
                rows = runs[(runs["experiment"] == experiment) & (runs["arm"] == arm)]
                means = rows["value"].groupby([rows["metric"], configured(rows, "lr")]).mean()
                points = means["gain_nats"], means["source_loss_nats"]
                axes.plot(*points, "o-", color=COLOURS[place], markersize=3, label=FRONTIER_ARMS[arm])
            axes.set(xlabel="gain on the target (nats)", ylabel="loss on the source (nats)")
            axes.legend(fontsize=8)


def draw_costs(runs: pd.DataFrame, path: Path) -> None:
    """Draw what a step holds in memory, and how many operations it takes, by form."""
    rows = runs[runs["experiment"].str.startswith("costs_")]
    counted = rows.pivot(index=["experiment", "arm"], columns="metric", values="value")
    sizes = sorted(tuple(map(int, name.split("_")[1:])) for name in counted.index.levels[0])
    width = max(sizes)[0]
    by_rank = {rank: counted.loc[f"costs_{width}_{rank}"] for of, rank in sizes if of == width}
    middle = list(by_rank)[len(by_rank) // 2]
    shown = f"counted; two layers, width {width}; left: rank {middle}"
    with drawing(path, question="What does each form save?", shown=shown, columns=2, height_in=3.6) as (_, panels):
        bars, lines = panels
        below = np.zeros(len(FORM))
        for place, (metric, name) in enumerate(HELD.items()):
            held = by_rank[middle].loc[list(FORM), metric].to_numpy() / 2**20
            bars.barh(list(FORM.values()), held, left=below, color=COLOURS[place], label=name)
            below += held
        bars.tick_params("y", labelsize=7)
        bars.invert_yaxis()
        bars.set(xlabel="MiB beside the weights", ylabel="form")
        bars.legend(fontsize=7, loc="upper right", bbox_to_anchor=(1, -0.2), ncols=2)
        for place, arm in enumerate(("inside", "incremental")):
            ratios = [of["flops"][arm] / of["flops"]["full"] for of in by_rank.values()]
            lines.plot(list(by_rank), ratios, "o-", color=COLOURS[place], label=FORM[arm])
        lines.axhline(1, color=NEUTRAL, linewidth=0.8)
        lines.set(xscale="log", xlabel="rank", ylabel="operations over full training's")
        lines.legend(fontsize=7)


def draw_forms(_: pd.DataFrame, path: Path) -> None:
    """Draw what each form computes, one below the other, and the multiply-adds of a token."""
    note = "orange: trained; multiply-adds a token, forward and backward; n inputs, m outputs, rank r, t tokens a step"
    style = {"arrowstyle": "-|>", "color": NEUTRAL, "shrinkA": 0, "shrinkB": 0}
    with drawing(path, question="Where do the forms of LoRA differ?", shown=note, height_in=6.6) as (_, (axes,)):
        for place, (name, boxes, arrows, backward, operations) in enumerate(DIAGRAMS):
            top = -3.7 * place
            axes.text(-0.4, top + 0.9, name, fontsize=11, fontweight="bold", va="center")
            patches, at = {}, {text: (x, top + y) for text, (x, y) in boxes.items()}
            for text, centre in at.items():
                box = {"boxstyle": "round,pad=0.4", "edgecolor": COLOURS[1] if text in TRAINED else NEUTRAL}
                drawn = axes.text(*centre, text, ha="center", va="center", fontsize=11, bbox=box | {"fc": "none"})
                patches[text] = drawn.get_bbox_patch()
            for start, end in chain.from_iterable(pairwise(arrow.split(" > ")) for arrow in arrows):
                ends = {"patchA": patches[start], "patchB": patches[end]}
                axes.annotate("", at[end], at[start], arrowprops=style | ends)
            axes.text(-0.4, top - 2.05, f"backward: {backward}", fontsize=10, va="center", color=NEUTRAL)
            axes.text(6.9, top - 2.05, operations, fontsize=11, va="center", ha="right", color=COLOURS[0])
        axes.set(xlim=(-0.5, 7), ylim=(-9.7, 1.4), xlabel="flow", ylabel="form")
        axes.axis("off")


def draw_equality(runs: pd.DataFrame, path: Path) -> None:
    """Draw how far the optimizer form is from factors inside the network, and from those of another scale."""
    shown = "AdamW, rank 4; largest difference of a weight over the largest change; mean and range of seeds"
    rows = runs[runs["experiment"] == "forms_equality"]
    with drawing(path, question="Are both forms equal?", shown=shown) as (_, (axes,)):
        for place, dtype in enumerate(("float64", "float32")):
            _band(axes, rows[(rows["arm"] == dtype) & (rows["metric"] == "difference_ratio")], COLOURS[place], dtype)
        control = rows[(rows["arm"] == "float64") & (rows["metric"] == "control_ratio")]
        _band(axes, control, NEUTRAL, "control: half the scale")
        axes.set(xscale="log", yscale="log", xlabel="step", ylabel="difference over change (ratio)")
        axes.legend(loc=(0.02, 0.26))


def draw_second_order(runs: pd.DataFrame, path: Path) -> None:
    """Draw the share of a step of SGD that the post leaves out."""
    shown = "SGD on factors of rank 4, B from zero, always the same batch; mean and range of seeds; nothing at step 1"
    rows = runs[(runs["experiment"] == "forms_second_order") & (runs["step"] > 1)]
    with drawing(path, question="How much of a step is of second order?", shown=shown) as (_, (axes,)):
        for place, (lr, of_rate) in enumerate(rows.groupby(configured(rows, "lr"))):
            _band(axes, of_rate, COLOURS[place], f"rate {lr:g}")
        axes.set(yscale="log", xlabel="step", ylabel="second-order term over step (share)")
        axes.legend(loc="lower right")


def draw_projection_variance(runs: pd.DataFrame, path: Path) -> None:
    """Draw the variance of a resampled step, and the largest rate that it leaves, beside what theory says."""
    shown = f"dots: measured, one a seed; lines: theory; gradient {OUTPUTS} x {INPUTS}; right: descent on |W|² / 2"
    question = "How noisy is a resampled step, and what rate does it stand?"
    with drawing(path, question=question, shown=shown, columns=2) as (_, panels):
        ranks = np.array(sorted(configured(runs[runs["experiment"] == "forms_cliff"], "rank").unique()), dtype=float)
        variances = {"one_sided": (INPUTS + 1) / ranks, "two_sided": (INPUTS + OUTPUTS + 2) / (4 * ranks)}
        for place, (side, theory) in enumerate(variances.items()):
            found = runs[runs["metric"] == f"{side}_variance_ratio"]
            _dots(panels[0], found, ranks, theory, COLOURS[place], side.replace("_", "-"))
        largest = runs[runs["metric"] == "largest_lr"]
        _dots(panels[1], largest, ranks, 2 / (1 + variances["two_sided"]), COLOURS[1], "two-sided")
        panels[1].axhline(2, color=NEUTRAL, linewidth=0.8, linestyle="--", label="SGD itself")
        for axes, label in zip(panels, ("variance over squared mean", "largest rate"), strict=True):
            axes.set(xscale="log", yscale="log", xlabel="rank", ylabel=label)
            axes.set_xticks(ranks, [f"{rank:g}" for rank in ranks])
        panels[0].legend(loc="upper right")
        panels[1].legend(loc="lower right")
        panels[0].set_yticks(ticks := [0.5, 1, 2, 5, 10, 20], [f"{tick:g}" for tick in ticks])
        panels[1].set_yticks(ticks := [0.2, 0.5, 1, 2], [f"{tick:g}" for tick in ticks])
        for axes in panels:
            axes.minorticks_off()


def _rows(axes: Axes, gaps: Mapping[str, pd.Series], **labels: str) -> None:
    for place, gap in enumerate(gaps.values()):
        axes.plot(gap, np.full(len(gap), -place), "o", color=COLOURS[0], markersize=4)
    axes.axvline(0, color=NEUTRAL, linewidth=0.8)
    axes.set_yticks([-place for place in range(len(gaps))], list(gaps))
    axes.set(ylim=(-len(gaps) + 0.5, 0.5), **labels)


def _band(axes: Axes, rows: pd.DataFrame, colour: str, label: str) -> None:
    of_step = rows.groupby("step")["value"]
    axes.plot(of_step.mean(), "o-", color=colour, markersize=3, label=label)
    axes.fill_between(of_step.min().index, of_step.min(), of_step.max(), color=colour, alpha=0.2, linewidth=0)


def _dots(axes: Axes, rows: pd.DataFrame, ranks: np.ndarray, theory: np.ndarray, colour: str, label: str) -> None:
    axes.plot(configured(rows, "rank"), rows["value"], "o", color=colour, markersize=4, label=label)
    axes.plot(ranks, theory, color=colour, linewidth=0.8)


def _ranks_drawn(axes: Axes, runs: pd.DataFrame, name: str, kind: str, minus: str, label: str) -> dict[int, float]:
    """Draw means and intervals of the loss above that of an arm; return the means by rank."""
    ranks = _ranks(runs, name, kind)
    gaps = {rank: difference(runs, name, arm, minus, "loss_nats", "test") for rank, arm in ranks.items()}
    found = {rank: interval for rank, gap in sorted(gaps.items()) if (interval := paired_interval(gap))}
    means = [interval.estimate for interval in found.values()]
    low, high = ([abs(getattr(i, end) - i.estimate) for i in found.values()] for end in ("low", "high"))
    axes.errorbar(list(found), means, yerr=[low, high], fmt="o-", color=COLOURS[0], label=label, markersize=4)
    axes.set(xscale="log", xlabel="rank")
    axes.set_xticks(list(ranks), [str(rank) for rank in ranks])
    axes.minorticks_off()
    return {rank: float(gap.mean()) for rank, gap in sorted(gaps.items())}


def _ranks(runs: pd.DataFrame, experiment: str, kind: str) -> dict[int, str]:
    names = runs.loc[runs["experiment"] == experiment, "arm"].unique()
    return {int(name.split("_")[1]): name for name in sorted(names) if re.fullmatch(rf"{kind}_\d+", name)}


if __name__ == "__main__":
    draw(*folders())

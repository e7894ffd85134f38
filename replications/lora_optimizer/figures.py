"""Figures of the page on LoRA as an optimizer, drawn from results alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paperkit.estimands import configured, difference, of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders

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


def draw(results: Path, figures: Path) -> None:
    """Draw all figures whose runs a profile has."""
    runs = read_runs(results / "runs.csv")
    experiments = set(runs["experiment"])
    if "adapt" in experiments:
        draw_ranks(runs, figures / "ranks.svg")
        draw_variants(runs, figures / "variants.svg")
        draw_signs(runs, figures / "signs.svg")
        draw_penalty(runs, figures / "penalty.svg")
        pairs = {"frontier_sgd": ("sgd", "resampled_8"), "frontier_adam": ("full", "lora_4", "lora_4_decay")}
        draw_frontiers(runs, pairs, figures / "forgetting.svg")
        draw_costs(runs, figures / "costs.svg")
    if "continued" in experiments:
        draw_frontiers(runs, {"continued": ("full", "lora_4", "lora_64")}, figures / "forgetting.svg")
    if "encoder" in experiments:
        draw_encoder(runs, figures / "encoder.svg")


def draw_ranks(runs: pd.DataFrame, path: Path) -> None:
    """Draw the test loss against the rank, above full training's."""
    shown = "every rank at its own rate; means over seeds, bars: 95 % intervals; 64 is the full rank"
    with drawing(path, question="How much rank does it take?", shown=shown) as (_, (axes,)):
        ranks = _ranks(runs, "adapt", "lora")
        _intervals(
            axes, {r: difference(runs, "adapt", arm, "full", "loss_nats", "test") for r, arm in ranks.items()}, "LoRA"
        )
        axes.axhline(0, color=NEUTRAL, linewidth=0.8)
        axes.set(xscale="log", xlabel="rank", ylabel="loss above full training's (nats)")
        axes.set_xticks(list(ranks), [str(rank) for rank in ranks])
        axes.minorticks_off()


def draw_variants(runs: pd.DataFrame, path: Path) -> None:
    """Draw every variant of rank 4 against LoRA of rank 4, seed by seed."""
    shown = "one dot a seed, each variant at its own rate; left of 0: better than LoRA of rank 4"
    arms = [arm for arm in NAME if arm in set(runs.loc[runs["experiment"] == "adapt", "arm"])]
    with drawing(path, question="Which variant of rank 4 is better?", shown=shown, height_in=3.4) as (_, (axes,)):
        for place, arm in enumerate(arms):
            gap = difference(runs, "adapt", arm, "lora_4", "loss_nats", "test")
            axes.plot(gap, np.full(len(gap), -place), "o", color=COLOURS[0], markersize=4)
        axes.axvline(0, color=NEUTRAL, linewidth=0.8)
        axes.set_yticks([-place for place in range(len(arms))], [NAME[arm] for arm in arms])
        axes.set(xlabel="test loss minus that of LoRA (nats)", ylabel="variant")


def draw_signs(runs: pd.DataFrame, path: Path) -> None:
    """Draw what random signs gain with each norm."""
    shown = "one dot a seed; rank 1; each pattern at its own rate"
    with drawing(path, question="Is the additive form blind behind a norm?", shown=shown, height_in=2.4) as (
        _,
        (axes,),
    ):
        for place, name in enumerate(("adapt", "adapt_rms")):
            gap = difference(runs, name, "ones_1", "signs_1", "loss_nats", "test")
            axes.plot(gap, np.full(len(gap), -place), "o", color=COLOURS[0], markersize=4)
        axes.axvline(0, color=NEUTRAL, linewidth=0.8)
        axes.set_yticks([0, -1], ["LayerNorm", "RMSNorm"])
        axes.set_ylim(-1.5, 0.5)
        axes.set(xlabel="loss of ones minus loss of random signs (nats)", ylabel="norm")


def draw_penalty(runs: pd.DataFrame, path: Path) -> None:
    """Draw the price of resampling against the rank, beside the slope that its variance predicts."""
    ranks = _ranks(runs, "penalty", "resampled")
    gaps = {rank: difference(runs, "penalty", arm, "sgd", "loss_nats", "test") for rank, arm in ranks.items()}
    shown = "means over seeds, bars: 95 % intervals; all at a quarter of SGD's rate; line: 1 / r through the last"
    with drawing(path, question="What does resampling cost, and as its variance?", shown=shown) as (_, (axes,)):
        _intervals(axes, gaps, "measured")
        last, x = max(gaps), np.array(sorted(gaps), dtype=float)
        axes.plot(x, gaps[last].mean() * last / x, "--", color=NEUTRAL, label="1 / r")
        axes.set_yscale("symlog", linthresh=1e-3)  # a difference may be below zero
        axes.set(xscale="log", xlabel="rank", ylabel="loss above SGD's (nats)")
        axes.set_xticks(list(ranks), [str(rank) for rank in ranks])
        axes.minorticks_off()
        axes.legend()


def draw_frontiers(runs: pd.DataFrame, arms: Mapping[str, Sequence[str]], path: Path) -> None:
    """Draw the loss on the source against the gain on the target, one point a rate."""
    shown = "one point a rate, mean over seeds, joined in the order of rates; lower right is better"
    question = "What does a gain on the new text cost on the old one?"
    with drawing(path, question=question, shown=shown, columns=len(arms), height_in=3.6) as (_, panels):
        for axes, (experiment, compared) in zip(panels, arms.items(), strict=True):
            for place, arm in enumerate(compared):
                points = []
                for metric in ("gain_nats", "source_loss_nats"):
                    chosen = (runs["experiment"] == experiment) & (runs["arm"] == arm) & (runs["metric"] == metric)
                    rows = runs[chosen]
                    points.append(rows["value"].groupby(configured(rows, "lr")).mean())
                axes.plot(*points, "o-", color=COLOURS[place], markersize=3, label=arm.replace("_", " "))
            axes.set(xlabel="gain on the target (nats)", ylabel="loss on the source (nats)")
            axes.legend(fontsize=8)


def draw_costs(runs: pd.DataFrame, path: Path) -> None:
    """Draw what a step holds in memory, and how many operations it takes, by form."""
    names = sorted({name for name in runs["experiment"] if name.startswith("costs_")}, key=_size)
    width = max(_size(name)[0] for name in names)
    of_width = [name for name in names if _size(name)[0] == width]
    middle = of_width[len(of_width) // 2]
    shown = f"counted; two layers, width {width}; left: rank {_size(middle)[1]}"
    with drawing(path, question="What does each form save?", shown=shown, columns=2, height_in=3.6) as (
        _,
        (bars, lines),
    ):
        rows = (
            runs[(runs["experiment"] == middle)].pivot(index="arm", columns="metric", values="value").loc[list(FORM)]
        )
        below = np.zeros(len(rows))
        for place, (metric, name) in enumerate(HELD.items()):
            held = rows[metric].to_numpy() / 2**20
            bars.barh(np.arange(len(rows)), held, left=below, color=COLOURS[place], label=name)
            below += held
        bars.set_yticks(range(len(rows)), list(FORM.values()), fontsize=7)
        bars.invert_yaxis()
        bars.set(xlabel="MiB beside the weights", ylabel="form")
        bars.legend(fontsize=7)
        for place, arm in enumerate(("inside", "incremental")):
            ratio = {_size(name)[1]: _flops(runs, name, arm) / _flops(runs, name, "full") for name in of_width}
            lines.plot(list(ratio), list(ratio.values()), "o-", color=COLOURS[place], label=FORM[arm])
        lines.axhline(1, color=NEUTRAL, linewidth=0.8)
        lines.set(xscale="log", xlabel="rank", ylabel="operations over full training's")
        lines.legend(fontsize=7)


def draw_encoder(runs: pd.DataFrame, path: Path) -> None:
    """Draw the accuracy of the encoder, each arm's minus full training's."""
    shown = "one dot a seed; grey: within 1.5 points"
    arms = {"head": "classifier alone", "lora_1": "rank 1", "lora_8": "rank 8"}
    question = "Is a low rank as good on a pretrained encoder?"
    with drawing(path, question=question, shown=shown, height_in=2.6) as (_, (axes,)):
        axes.axvspan(-1.5, 1.5, color=NEUTRAL, alpha=0.15, linewidth=0)
        for place, arm in enumerate(arms):
            gap = difference(runs, "encoder", arm, "full", "accuracy_points", "test")
            axes.plot(gap, np.full(len(gap), -place), "o", color=COLOURS[0], markersize=4)
        axes.set_yticks([-place for place in range(len(arms))], list(arms.values()))
        axes.set(xlabel="test accuracy minus full training's (points)", ylabel="trained")


def _ranks(runs: pd.DataFrame, experiment: str, kind: str) -> dict[int, str]:
    arms = [name.split("_") for name in runs.loc[runs["experiment"] == experiment, "arm"].unique()]
    return {int(parts[1]): "_".join(parts) for parts in sorted(arms, key=str) if parts[0] == kind and len(parts) == 2}


def _size(name: str) -> tuple[int, int]:
    width, rank = name.split("_")[1:]
    return int(width), int(rank)


def _flops(runs: pd.DataFrame, experiment: str, arm: str) -> float:
    return float(of_arm(runs, experiment, arm, "flops").iloc[0])


def _intervals(axes: Axes, gaps: Mapping[int, pd.Series], label: str) -> None:
    found = {at: interval for at, gap in sorted(gaps.items()) if (interval := paired_interval(gap))}
    means = [interval.estimate for interval in found.values()]
    low, high = ([abs(getattr(i, end) - i.estimate) for i in found.values()] for end in ("low", "high"))
    axes.errorbar(list(found), means, yerr=[low, high], fmt="o-", color=COLOURS[0], label=label, markersize=4)


if __name__ == "__main__":
    draw(*folders())

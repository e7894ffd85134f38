"""Figures of the page on shared embeddings, drawn from results alone."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from paperkit.estimands import configured
from paperkit.results import read_json, read_runs, read_trials
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders

NAME = {
    "tied": "tied",
    "small_sigma": "small σ",
    "untied": "untied",
    "orthogonal": "projection",
    "half_swap": "half swap",
    "shuffle": "shuffle",
    "signed_swap": "signed swap",
    "scaled": "scaled",
    "learnable_scale": "learnable scale",
    "factorised": "factorised",
    "shuffle_square": "shuffle, g = √d",
}
# What a figure of maps, not of heads, calls them.
MAP = {"tied": "identity", "orthogonal": "random rotation", "shuffle": "shuffle, g = 2"}
SOURCE_ARMS = tuple(NAME)[:6]
COLOUR = dict(zip(SOURCE_ARMS, COLOURS, strict=False))
SHUFFLE_WIDTHS = (64, 256)
EARLY_SHOWN, NEAR_NATS, SHOWN_NATS = 40, 0.2, (-0.08, 0.12)  # steps; nats; nats


def draw(results: Path, figures: Path) -> None:
    """Draw all figures."""
    runs, trials = read_runs(results / "runs.csv"), read_trials(results / "trials.csv")
    tests = {claim["id"]: claim["tests"] for claim in read_json(results / "verdicts.json")["claims"]}
    draw_initial_loss(runs, figures / "initial_loss.svg")
    draw_first_loss(runs, figures / "first_loss.svg")
    draw_scores(runs, figures / "scores.svg")
    draw_self_logits(runs, figures / "self_logits.svg")
    draw_curves(runs, figures / "curves.svg")
    draw_search(trials, figures / "search.svg")
    draw_gaps(tests, figures / "gaps.svg")
    draw_fixed_points(figures / "fixed_points.svg")
    draw_widths(runs, figures / "widths.svg")
    draw_rare_rows(runs, figures / "rare_rows.svg")


def draw_initial_loss(runs: pd.DataFrame, path: Path) -> None:
    """Draw how far above log n simulated models start, against the width, with both formulas and the cross-over."""
    rows = runs[(runs["experiment"] == "initial_loss") & (runs["arm"] == "own")]
    rows = rows.assign(n=configured(rows, "n"), d=configured(rows, "d"))
    vocabularies = sorted(rows["n"].unique())
    question = "How far above log n does each head start?"
    shown = f"points: simulated, means over n = {rows['seed'].nunique()} seeds; lines: formulas for the tied head"
    with drawing(path, question=question, shown=shown, columns=len(vocabularies), height_in=3.6) as (figure, panels):
        for axes, n in zip(panels, vocabularies, strict=True):
            means = rows[rows["n"] == n].groupby(["metric", "d"])["value"].mean().unstack("d")
            widths = means.columns.to_numpy()
            for place, arm in enumerate(SOURCE_ARMS):
                # The last four start at the same level: side by side, or only one would be seen.
                at = widths * (1.06 ** (place - 3.5) if place > 1 else 1)
                axes.plot(at, means.loc[f"{arm}_loss_nats"] - np.log(n), "o", color=COLOUR[arm], markersize=3.5)
            fine = np.geomspace(widths.min(), widths.max(), 100)
            source = np.logaddexp(np.sqrt(fine), np.log(n - 1)) - np.log(n)
            refined = np.logaddexp(np.sqrt(fine), np.log(n - 1) + 0.5) - np.log(n)
            axes.plot(fine, source, "--", color="black", linewidth=0.8)
            axes.plot(fine, refined, "-", color="black", linewidth=0.8)
            axes.axvline((np.log(n) + 0.5) ** 2, color=NEUTRAL, linewidth=0.8, linestyle=":")
            axes.set(xscale="log", yscale="log", xlabel="width d", title=f"n = {n:g}", ylim=(0.2, 40))
            axes.set_ylabel("initial loss - log n (nats)")
            axes.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
            axes.minorticks_off()
            axes.set_xticks(widths, [f"{width:g}" for width in widths])
        marks = [Line2D([], [], marker="o", linestyle="", color=COLOUR[arm], markersize=4) for arm in SOURCE_ARMS]
        lines = [Line2D([], [], color="black", linewidth=0.8, linestyle=style) for style in ("--", "-")]
        lines.append(Line2D([], [], color=NEUTRAL, linewidth=0.8, linestyle=":"))
        names = [*(NAME[arm] for arm in SOURCE_ARMS), "source's formula", "refined", "cross-over d*"]
        figure.legend([*marks, *lines], names, loc="outside right center", fontsize=8)


def draw_first_loss(runs: pd.DataFrame, path: Path) -> None:
    """Draw the first loss of untrained GPTs against the width, with and without positions and branches."""
    rows = runs[(runs["experiment"] == "first_loss") & runs["metric"].str.endswith("_loss_nats")]
    keys = ("width", "positions", "branches")
    configs = pd.DataFrame([json.loads(text) for text in rows["config"]], index=rows.index)
    rows = rows.join(configs[[*keys, "vocabulary"]])
    question = "Does an untrained transformer start as badly as the bigram model?"
    shown = f"means over n = {rows['seed'].nunique()} seeds; solid: no positions; dashed: learned ones; grey: log n"
    with drawing(path, question=question, shown=shown, columns=2) as (_, panels):
        for axes, branches in zip(panels, (False, True), strict=True):
            for positions, style in ((False, "o-"), (True, "s--")):
                chosen = rows[rows["branches"].eq(branches) & rows["positions"].eq(positions)]
                means = chosen.groupby(["metric", "width"])["value"].mean().unstack("width")
                for arm in ("tied", "untied", "half_swap"):
                    label = None if positions else NAME[arm]
                    values = means.loc[f"{arm}_loss_nats"]
                    # Larger and open, or half swap's marks would cover it.
                    look = (
                        {"markersize": 8, "fillstyle": "none"} if arm == "untied" else {"markersize": 4, "zorder": 3}
                    )
                    axes.plot(values.index, values, style, color=COLOUR[arm], label=label, **look)
            axes.axhline(np.log(rows["vocabulary"].iloc[0]), color=NEUTRAL, linewidth=0.8)
            axes.set(xscale="log", xlabel="width d", title="usual branches" if branches else "zero branches")
            axes.set_ylabel("first loss (nats a token)")
            axes.set_xticks(sorted(rows["width"].unique()), [f"{width:g}" for width in sorted(rows["width"].unique())])
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        limits = [limit for axes in panels for limit in axes.get_ylim()]
        for axes in panels:
            axes.set_ylim(min(limits), max(limits))
        panels[1].legend(loc="upper left")


def draw_scores(runs: pd.DataFrame, path: Path) -> None:
    """Draw the initial scores between a few tokens as heat maps."""
    rows = runs[runs["experiment"] == "scores"]
    rows = rows.assign(row=configured(rows, "row"))
    arms = [arm for arm in ("tied", "half_swap", "signed_swap", "orthogonal") if arm in set(rows["arm"])]
    question = "Which token does an untrained model expect next?"
    shown = "one random table of 20 tokens at d = 64, σ = 1/8; colour: score of the next token after the input token"
    with drawing(path, question=question, shown=shown, columns=len(arms), height_in=2.2) as (figure, panels):
        for axes, arm in zip(panels, arms, strict=True):
            scores = rows[rows["arm"] == arm].pivot(index="row", columns="step", values="value")
            # pcolormesh: an image would be written as a bitmap.
            mesh = axes.pcolormesh(scores.to_numpy(), cmap="RdBu_r", vmin=-8, vmax=8)
            axes.set(title=MAP.get(arm, NAME[arm]), xticks=[], yticks=[], aspect="equal")
            axes.invert_yaxis()
            axes.set(xlabel="next token", ylabel="input token")
        figure.colorbar(mesh, ax=panels, label="score", shrink=0.8)


def draw_self_logits(runs: pd.DataFrame, path: Path) -> None:
    """Draw the distribution of the self-logit under each map, with the predicted mean."""
    rows = runs[runs["experiment"] == "self_logits"]
    predicted = {"tied": 8.0, "shuffle": 2 / 8, "shuffle_square": 8 / 8, "half_swap": 0.0, "signed_swap": 0.0}
    arms = [arm for arm in NAME if arm in set(rows["arm"])]
    question = "How large is a token's own logit under each map?"
    shown = "20 000 tokens at d = 64, σ = 1/8; thick: middle half; thin: 90 %; ticks: σ tr P, where P is fixed"
    with drawing(path, question=question, shown=shown, height_in=2.8) as (_, (axes,)):
        for position, arm in enumerate(arms):
            of_arm = rows[(rows["arm"] == arm) & (rows["metric"] == "self_logit_percentile")]
            at = of_arm.set_index("step")["value"]
            axes.plot([at[5], at[95]], [position, position], color=COLOURS[0], linewidth=1.5)
            axes.plot([at[25], at[75]], [position, position], color=COLOURS[0], linewidth=5)
            if arm in predicted:
                axes.plot(predicted[arm], position, "|", color="black", markersize=14)
        axes.set_yticks(range(len(arms)), [MAP.get(arm, NAME[arm]) for arm in arms])
        axes.set(xlabel="self-logit (nats)", ylabel="map P")


def draw_curves(runs: pd.DataFrame, path: Path) -> None:
    """Draw the beginning of the training curves of the source's heads, and their distance from half swap."""
    rows = runs[(runs["experiment"] == "long") & (runs["metric"] == "part_loss_nats")]
    tables = {arm: rows[rows["arm"] == arm].pivot(index="step", columns="seed", values="value") for arm in SOURCE_ARMS}
    question = "Who is fast, and when?"
    shown = f"means over parts of a run and n = {rows['seed'].nunique()} seeds; bands: 95 %, paired by seed"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.4) as (_, (early, whole)):
        for arm, table in tables.items():
            begun = table[table.index <= EARLY_SHOWN]
            early.plot(begun.index, begun.mean(axis=1), "o-", color=COLOUR[arm], markersize=2.5, label=NAME[arm])
            gaps = table - tables["half_swap"]
            whole.plot(gaps.index, gaps.mean(axis=1), color=COLOUR[arm], linewidth=1.3)
            intervals = {step: paired_interval(of_step) for step, of_step in gaps.iterrows() if of_step.notna().all()}
            bounds = pd.DataFrame(
                {step: (of.low, of.high) for step, of in intervals.items() if of is not None}, index=["low", "high"]
            )
            whole.fill_between(bounds.columns, *bounds.to_numpy(), color=COLOUR[arm], alpha=0.15, linewidth=0)
        early.set(xlabel="optimizer steps", ylabel="training loss (nats a token)")
        early.legend(loc="upper right")
        whole.set(xlabel="optimizer steps", ylabel="training loss - half swap's (nats)")
        # Linear near half swap: all heads but the plainly tied one end there.
        whole.set_yscale("symlog", linthresh=NEAR_NATS)
        ticks = [-0.2, -0.1, 0, 0.1, 0.2, 0.5, 1, 2, 5]
        whole.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        whole.minorticks_off()


def draw_search(trials: pd.DataFrame, path: Path) -> None:
    """Draw the validation loss against the learning rate for every head that was tuned."""
    rows = trials[trials["experiment"] == "long"]
    rows = rows.assign(lr=configured(rows, "lr"))
    question = "Do all heads want the same learning rate?"
    shown = f"points: means over {rows['seed'].nunique()} tuning seeds; small: each seed; rings: selected"
    with drawing(path, question=question, shown=shown, height_in=3.2) as (_, (axes,)):
        for place, arm in enumerate(arm for arm in SOURCE_ARMS if arm in set(rows["arm"])):
            of_arm = rows[rows["arm"] == arm]
            axes.plot(of_arm["lr"], of_arm["value"], "o", color=COLOUR[arm], markersize=2, alpha=0.5)
            means = of_arm.groupby("lr")["value"].mean()
            axes.plot(means.index, means, "o-", color=COLOUR[arm], markersize=4, label=NAME[arm])
            best = means[means.index.isin(of_arm[of_arm["selected"]]["lr"])]
            # Rings grow, or one would hide another.
            axes.plot(best.index, best, "o", color=COLOUR[arm], markersize=10 + 3 * place, fillstyle="none")
        axes.set(xscale="log", xlabel="peak learning rate", ylabel="validation loss (nats a token)")
        rates = sorted(rows["lr"].unique())
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def draw_gaps(tests: dict, path: Path) -> None:
    """Draw the judged differences of areas and final losses, with their margins of equality."""
    areas = [test for claim in ("C7r", "C7br", "C7cr", "X7") for test in tests[claim] if test["unit"] == "percent"]
    finals = [test for claim in ("C8r", "C8br", "C8cr", "C8dr", "X7", "X9") for test in tests[claim]]
    finals = [test for test in finals if test["unit"] == "nats"]
    counts = [test["n"] for test in (*areas, *finals) if test["n"]]
    question = "Are the heads equally good, or only not shown to differ?"
    shown = f"paired, n = {_counts(counts)} seeds; thick: 90 % interval (decides equality); thin: 95 %; grey: margin"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.6) as (_, (left, right)):
        _forest(left, areas, "area (%)", "area_percent_")
        _forest(right, finals, "final test loss (nats)", "final_")
        right.set_xlim(*SHOWN_NATS)
        for position, test in enumerate(finals):
            if test["low"] is not None and test["high"] < SHOWN_NATS[0]:
                right.annotate(f"← {test['estimate']:.2f}", (SHOWN_NATS[0], position), va="center", fontsize=8)


def _forest(axes: Axes, judged: list[dict], label: str, prefix: str) -> None:
    axes.axvspan(-judged[0]["margin"], judged[0]["margin"], color=NEUTRAL, alpha=0.12, linewidth=0)
    axes.axvline(0, color=NEUTRAL, linewidth=0.8)
    for position, test in enumerate(judged):
        _interval(axes, test, position)
    names = [_difference(test["estimand"], prefix) for test in judged]
    axes.set_yticks(range(len(judged)), names, fontsize=8)
    axes.set(xlabel=label, ylabel="first - second head")
    axes.invert_yaxis()


def _difference(estimand: str, prefix: str) -> str:
    """Name a difference of two arms; of one arm alone, from half swap."""
    long = estimand.startswith("long_")
    arms = estimand.removeprefix("long_").removeprefix(prefix)
    pairs = [(a, b) for a in NAME for b in NAME if arms == f"{a}_{b}"] or [(arms, "half_swap")]
    return " - ".join(NAME[arm] for arm in pairs[0]) + ("" if long else "\n(400 steps)")


def _interval(axes: Axes, test: dict, position: float) -> None:
    """Draw the estimate of a judged test with its 95 % interval, and the 90 % one thicker."""
    if test["low"] is None:
        return
    axes.plot([test["low"], test["high"]], [position, position], color=COLOURS[0], linewidth=1)
    axes.plot([test["low90"], test["high90"]], [position, position], color=COLOURS[0], linewidth=3)
    axes.plot(test["estimate"], position, "s", color="black", markersize=3)


def draw_fixed_points(path: Path) -> None:
    """Draw how many coordinates a shuffle leaves in place, by the number of groups; no measurement."""
    question = "How many coordinates does a shuffle leave in place?"
    shown = "by the formula; nothing is random"
    with drawing(path, question=question, shown=shown, columns=len(SHUFFLE_WIDTHS), height_in=2.4) as (_, panels):
        for axes, d in zip(panels, SHUFFLE_WIDTHS, strict=True):
            groups = [g for g in range(2, d) if d % g == 0]
            axes.bar(range(len(groups)), [np.gcd(g - 1, d // g - 1) + 1 for g in groups], color=COLOURS[0])
            axes.set_xticks(range(len(groups)), [str(g) for g in groups])
            axes.set(xlabel="number of groups g", ylabel="fixed points", title=f"d = {d}")


def draw_widths(runs: pd.DataFrame, path: Path) -> None:
    """Draw what plain tying costs against half swap, by the width: first loss and area."""
    rows = runs[runs["experiment"] == "widths"]
    rows = rows.assign(width=configured(rows, "width"), vocabulary=configured(rows, "vocabulary"))
    cross = (np.log(rows["vocabulary"].iloc[0]) + 0.5) ** 2
    metrics = {"early_area_nats": "mean training loss, first 40 steps", "area_nats": "mean training loss, all steps"}
    question = "From which width on does plain tying cost?"
    shown = f"one point a seed, n = {rows['seed'].nunique()}; line: mean; bars: 95 % intervals; dashed: d*"
    with drawing(path, question=question, shown=shown, columns=2, height_in=2.9) as (_, panels):
        for axes, (metric, title) in zip(panels, metrics.items(), strict=True):
            table = rows[rows["metric"] == metric].pivot(index=["width", "seed"], columns="arm", values="value")
            gaps = table["tied"] - table["half_swap"]
            axes.plot(gaps.index.get_level_values("width"), gaps, "o", color=COLOURS[0], alpha=0.35, markersize=4)
            means = gaps.groupby("width").mean()
            axes.plot(means.index, means, "-", color=COLOURS[0])
            for width, of_width in gaps.groupby("width"):
                interval = paired_interval(of_width) if of_width.notna().all() else None
                if interval is not None:
                    axes.plot([width, width], [interval.low, interval.high], color=COLOURS[0], linewidth=3, alpha=0.3)
            axes.axhline(0, color=NEUTRAL, linewidth=0.8)
            axes.axvline(cross, color=NEUTRAL, linewidth=0.8, linestyle="--")
            axes.set(xscale="log", xlabel="width d", ylabel="tied - half swap (nats)", title=title)
            axes.set_xticks(means.index, [f"{width:g}" for width in means.index])
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def draw_rare_rows(runs: pd.DataFrame, path: Path) -> None:
    """Draw the largest entry of the input rows by class of token under Lion."""
    rows = runs[runs["experiment"] == "rare_rows"]
    classes = ("unseen", "rare", "frequent")
    question = "Whose rows go to the wall under Lion?"
    shown = f"largest entry of the input rows; one point a seed, n = {rows['seed'].nunique()}; line: the wall 1/λ"
    with drawing(path, question=question, shown=shown, height_in=2.8) as (_, (axes,)):
        for number, arm in enumerate(("tied", "half_swap", "untied")):
            for position, name in enumerate(classes):
                chosen = rows[(rows["arm"] == arm) & (rows["metric"] == f"{name}_largest")]["value"]
                at = np.full(len(chosen), position + 0.2 * (number - 1))
                label = NAME[arm] if position == 0 else None
                axes.plot(at, chosen, "o", color=COLOUR[arm], alpha=0.6, label=label)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks(range(3), classes)
        axes.set(xlabel="tokens", ylabel="largest entry (shares of 1/λ)", ylim=(0, None))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _counts(numbers: Iterable[int]) -> str:
    """Write the least and the greatest of some counts, or the one that they all are."""
    distinct = sorted(set(numbers))
    return str(distinct[0]) if len(distinct) == 1 else f"{distinct[0]} to {distinct[-1]}"


if __name__ == "__main__":
    draw(*folders())

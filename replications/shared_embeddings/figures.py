"""Figures of the page on shared embeddings, drawn from results alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paperkit.results import read_json, read_runs, read_trials
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing

RESULTS, FIGURES = Path("results/shared_embeddings"), Path("figures/shared_embeddings")
NAME = {
    "tied": "tied",
    "small_sigma": "(log n)/d",
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
SOURCE_ARMS = ("tied", "small_sigma", "untied", "orthogonal", "half_swap", "shuffle")
OTHER_ARMS = ("signed_swap", "scaled", "learnable_scale", "factorised")
COLOUR = dict(zip((*SOURCE_ARMS, *OTHER_ARMS), (*COLOURS, *COLOURS), strict=False))
SHUFFLE_WIDTHS = (64, 256)


def draw(results: Path, figures: Path) -> None:
    """Draw all figures.

    Args:
        results: Folder of the results.
        figures: Folder to write SVG files into.
    """
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
    draw_factorial(tests, figures / "factorial.svg")
    draw_widths(runs, figures / "widths.svg")
    draw_rare_rows(runs, figures / "rare_rows.svg")


def draw_initial_loss(runs: pd.DataFrame, path: Path) -> None:
    """Draw the simulated initial loss against the width, with both formulas and the cross-over (figure 1).

    Args:
        runs: `runs.csv`; experiment "initial_loss".
        path: SVG file to write.
    """
    rows = runs[(runs["experiment"] == "initial_loss") & (runs["arm"] == "own")]
    rows = rows.assign(n=_configured(rows, "n"), d=_configured(rows, "d"))
    vocabularies = sorted(rows["n"].unique())
    with drawing(path, columns=len(vocabularies)) as (figure, panels):
        for axes, n in zip(panels, vocabularies, strict=True):
            means = rows[rows["n"] == n].groupby(["metric", "d"])["value"].mean().unstack("d")
            widths = means.columns.to_numpy()
            for arm in SOURCE_ARMS:
                losses = means.loc[f"{arm}_loss_nats"]
                axes.plot(widths, losses, "o", color=COLOUR[arm], markersize=4, label=NAME[arm])
            fine = np.geomspace(widths.min(), widths.max(), 100)
            source = np.logaddexp(np.sqrt(fine), np.log(n - 1))
            refined = np.logaddexp(np.sqrt(fine), np.log(n - 1) + 0.5)
            axes.plot(fine, source, "--", color="black", linewidth=0.8, label="tied: source's formula")
            axes.plot(fine, refined, "-", color="black", linewidth=0.8, label="tied: refined")
            axes.axhline(np.log(n), color=NEUTRAL, linewidth=0.8)
            axes.axhline(np.log(2 * n - 1), color=NEUTRAL, linewidth=0.8, linestyle=":")
            axes.axvline((np.log(n) + 0.5) ** 2, color=NEUTRAL, linewidth=0.8, linestyle="--")
            axes.set(xscale="log", xlabel="width d", title=f"n = {n:g}")
            axes.set_xticks(widths, [f"{width:g}" for width in widths])
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panels[0].set_ylabel("initial loss (nats a token)")
        figure.legend(*panels[0].get_legend_handles_labels(), ncols=4, loc="outside lower center")


def draw_first_loss(runs: pd.DataFrame, path: Path) -> None:
    """Draw the first loss of untrained GPTs against the width, with and without positions and branches.

    Args:
        runs: `runs.csv`; experiment "first_loss".
        path: SVG file to write.
    """
    rows = runs[(runs["experiment"] == "first_loss") & runs["metric"].str.endswith("_loss_nats")]
    keys = ("width", "positions", "branches")
    configs = pd.DataFrame([json.loads(text) for text in rows["config"]], index=rows.index)
    rows = rows.join(configs[[*keys, "vocabulary"]])
    with drawing(path, columns=2) as (_, panels):
        for axes, branches in zip(panels, (False, True), strict=True):
            for positions, style in ((False, "o-"), (True, "s--")):
                chosen = rows[rows["branches"].eq(branches) & rows["positions"].eq(positions)]
                means = chosen.groupby(["metric", "width"])["value"].mean().unstack("width")
                for arm in ("tied", "untied", "half_swap"):
                    label = f"{NAME[arm]}, {'positions' if positions else 'no positions'}"
                    values = means.loc[f"{arm}_loss_nats"]
                    axes.plot(values.index, values, style, color=COLOUR[arm], markersize=4, label=label)
            axes.axhline(np.log(rows["vocabulary"].iloc[0]), color=NEUTRAL, linewidth=0.8)
            axes.set(xscale="log", xlabel="width d", title="usual branches" if branches else "zero branches")
            axes.set_xticks(sorted(rows["width"].unique()), [f"{width:g}" for width in sorted(rows["width"].unique())])
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panels[0].set_ylabel("first loss (nats a token)")
        panels[0].legend(fontsize=7)


def draw_scores(runs: pd.DataFrame, path: Path) -> None:
    """Draw the initial scores between a few tokens as heat maps (figure 2).

    Args:
        runs: `runs.csv`; experiment "scores".
        path: SVG file to write.
    """
    rows = runs[runs["experiment"] == "scores"]
    rows = rows.assign(row=_configured(rows, "row"))
    arms = [arm for arm in ("tied", "half_swap", "signed_swap", "orthogonal") if arm in set(rows["arm"])]
    with drawing(path, columns=len(arms), height_in=2.2) as (figure, panels):
        for axes, arm in zip(panels, arms, strict=True):
            scores = rows[rows["arm"] == arm].pivot(index="row", columns="step", values="value")
            # pcolormesh: an image would be written as a bitmap.
            mesh = axes.pcolormesh(scores.to_numpy(), cmap="RdBu_r", vmin=-8, vmax=8)
            axes.set(title=NAME[arm], xticks=[], yticks=[], aspect="equal")
            axes.invert_yaxis()
            axes.set_xlabel("next token")
        panels[0].set_ylabel("input token")
        figure.colorbar(mesh, ax=panels, label="score", shrink=0.8)


def draw_self_logits(runs: pd.DataFrame, path: Path) -> None:
    """Draw the distribution of the self-logit under each map, with the predicted mean (figure 3).

    Args:
        runs: `runs.csv`; experiment "self_logits".
        path: SVG file to write.
    """
    rows = runs[runs["experiment"] == "self_logits"]
    predicted = {"tied": 8.0, "shuffle": 2 / 8, "shuffle_square": 8 / 8, "half_swap": 0.0, "signed_swap": 0.0}
    arms = [arm for arm in NAME if arm in set(rows["arm"])]
    with drawing(path, height_in=2.6) as (_, (axes,)):
        for position, arm in enumerate(arms):
            of_arm = rows[(rows["arm"] == arm) & (rows["metric"] == "self_logit_percentile")]
            at = of_arm.set_index("step")["value"]
            axes.plot([at[5], at[95]], [position, position], color=COLOURS[0], linewidth=1.5)
            axes.plot([at[25], at[75]], [position, position], color=COLOURS[0], linewidth=5)
            if arm in predicted:
                axes.plot(predicted[arm], position, "|", color="black", markersize=14)
        axes.set_yticks(range(len(arms)), [NAME[arm] for arm in arms])
        axes.set(xlabel="self-logit at d = 64, s = 1/8: middle half and 90 %, predicted mean")


def draw_curves(runs: pd.DataFrame, path: Path) -> None:
    """Draw the training curves of the source's heads, the beginning apart (figure 4).

    Args:
        runs: `runs.csv`; experiment "curves", metric "part_loss_nats".
        path: SVG file to write.
    """
    rows = runs[(runs["experiment"] == "curves") & (runs["metric"] == "part_loss_nats")]
    tables = {arm: rows[rows["arm"] == arm].pivot(index="step", columns="seed", values="value") for arm in SOURCE_ARMS}
    last = max(table.index.max() for table in tables.values())
    with drawing(path, columns=2) as (_, (early, whole)):
        for arm, table in tables.items():
            for axes in (early, whole):
                axes.plot(table.index, table, color=COLOUR[arm], alpha=0.12, linewidth=0.6)
                axes.plot(table.index, table.mean(axis=1), color=COLOUR[arm], linewidth=1.5, label=NAME[arm])
        early.set(xlim=(0, min(60, last)), xlabel="optimizer steps", ylabel="training loss (nats a token)")
        whole.set(xlim=(min(40, last / 2), last), xlabel="optimizer steps")
        late = pd.concat(tables.values(), axis=1)
        late = late[late.index > last / 8].to_numpy()
        whole.set_ylim(np.nanmin(late) - 0.05, np.nanmax(late) + 0.05)
        early.legend(title=f"{rows['seed'].nunique()} seeds")


def draw_search(trials: pd.DataFrame, path: Path) -> None:
    """Draw the validation loss against the learning rate for every head (figure 5).

    Args:
        trials: `trials.csv`; experiment "curves".
        path: SVG file to write.
    """
    rows = trials[trials["experiment"] == "curves"]
    rows = rows.assign(lr=_configured(rows, "lr"))
    with drawing(path, columns=2) as (_, panels):
        for arm, of_arm in rows.groupby("arm"):
            axes = panels[0 if arm in SOURCE_ARMS else 1]
            points = of_arm.sort_values("lr")
            colour = COLOUR[arm]
            axes.plot(points["lr"], points["value"], "o-", color=colour, markersize=3, label=NAME[arm])
            best = points[points["selected"]]
            axes.plot(best["lr"], best["value"], "o", color=colour, markersize=9, fillstyle="none")
        finite = rows["value"].dropna()
        for axes in panels:
            axes.set(
                xscale="log", xlabel="peak learning rate", ylim=(finite.min() - 0.03, finite.quantile(0.9) + 0.03)
            )
            axes.legend(fontsize=7)
        panels[0].set_ylabel("validation loss (nats a token)")


def draw_gaps(tests: dict, path: Path) -> None:
    """Draw the judged differences of areas and final losses, with their margins of equality (figure 6).

    Args:
        tests: Judged tests by claim from `verdicts.json`.
        path: SVG file to write.
    """
    areas = [test for claim in ("C7", "C7b", "C7c", "X7") for test in tests[claim] if test["unit"] == "percent"]
    finals = [test for claim in ("C8", "C8b", "C8c", "C8d", "X7", "X8", "X9") for test in tests[claim]]
    finals = [test for test in finals if test["unit"] == "nats"]
    with drawing(path, columns=2, height_in=3.6) as (_, (left, right)):
        _forest(left, areas, "areas (%)", "area_percent_")
        _forest(right, finals, "final test losses (nats)", "final_")


def _forest(axes: Axes, judged: list[dict], label: str, prefix: str) -> None:
    axes.axvspan(-judged[0]["margin"], judged[0]["margin"], color=NEUTRAL, alpha=0.12, linewidth=0)
    axes.axvline(0, color=NEUTRAL, linewidth=0.8)
    for position, test in enumerate(judged):
        _interval(axes, test, position)
    names = [_difference(test["estimand"].removeprefix(prefix)) for test in judged]
    axes.set_yticks(range(len(judged)), names, fontsize=7)
    axes.set(xlabel=label)


def _difference(arms: str) -> str:
    """Name a difference of two arms; of one arm alone, from half swap."""
    pairs = [(a, b) for a in NAME for b in NAME if arms == f"{a}_{b}"] or [(arms, "half_swap")]
    return " - ".join(NAME[arm] for arm in pairs[0])


def _interval(axes: Axes, test: dict, position: float) -> None:
    """Draw the estimate of a judged test with its 95 % interval, and the 90 % one thicker."""
    if test["low"] is None:
        return
    axes.plot([test["low"], test["high"]], [position, position], color=COLOURS[0], linewidth=1)
    axes.plot([test["low90"], test["high90"]], [position, position], color=COLOURS[0], linewidth=3)
    axes.plot(test["estimate"], position, "s", color="black", markersize=4)


def draw_fixed_points(path: Path) -> None:
    """Draw how many coordinates a shuffle leaves in place, by the number of groups (figure 7); no measurement.

    Args:
        path: SVG file to write.
    """
    with drawing(path, columns=len(SHUFFLE_WIDTHS), height_in=2.2) as (_, panels):
        for axes, d in zip(panels, SHUFFLE_WIDTHS, strict=True):
            groups = [g for g in range(2, d) if d % g == 0]
            axes.bar(range(len(groups)), [np.gcd(g - 1, d // g - 1) + 1 for g in groups], color=COLOURS[0])
            axes.set_xticks(range(len(groups)), [str(g) for g in groups])
            axes.set(xlabel="groups g", title=f"d = {d}")
        panels[0].set_ylabel("fixed points")


def draw_factorial(tests: dict, path: Path) -> None:
    """Draw the main effects of the three things that small sigma changes.

    Args:
        tests: Judged tests by claim from `verdicts.json`; X4c.
        path: SVG file to write.
    """
    with drawing(path, columns=2, height_in=2.2) as (_, panels):
        for axes, when in zip(panels, ("early", "final"), strict=True):
            judged = [test for test in tests["X4c"] if test["estimand"].startswith(when)]
            for position, test in enumerate(judged):
                _interval(axes, test, position)
            axes.axvline(0, color=NEUTRAL, linewidth=0.8)
            label = {"early": "area of the first 40 steps", "final": "final test loss"}[when]
            axes.set(xlabel=f"effect on the {label} (nats)", ylim=(-0.5, 2.5))
        panels[0].set_yticks(range(3), ["smaller logits", "smaller input", "larger relative step"])
        panels[1].set_yticks(range(3), [""] * 3)


def draw_widths(runs: pd.DataFrame, path: Path) -> None:
    """Draw what plain tying costs against half swap, by the width: first loss and area.

    Args:
        runs: `runs.csv`; experiment "widths".
        path: SVG file to write.
    """
    rows = runs[runs["experiment"] == "widths"]
    rows = rows.assign(width=_configured(rows, "width"), vocabulary=_configured(rows, "vocabulary"))
    cross = (np.log(rows["vocabulary"].iloc[0]) + 0.5) ** 2
    metrics = {"early_area_nats": "area of the first 40 steps", "area_nats": "whole area"}
    with drawing(path, columns=2, height_in=2.6) as (_, panels):
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
            axes.set(xscale="log", xlabel="width d", title=title)
            axes.set_xticks(means.index, [f"{width:g}" for width in means.index])
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panels[0].set_ylabel("tied - half swap (nats)")


def draw_rare_rows(runs: pd.DataFrame, path: Path) -> None:
    """Draw the largest entry of the input rows by class of token under Lion (figure 8).

    Args:
        runs: `runs.csv`; experiment "rare_rows".
        path: SVG file to write.
    """
    rows = runs[runs["experiment"] == "rare_rows"]
    classes = ("unseen", "rare", "frequent")
    with drawing(path, height_in=2.4) as (_, (axes,)):
        for number, arm in enumerate(("tied", "half_swap", "untied")):
            for position, name in enumerate(classes):
                chosen = rows[(rows["arm"] == arm) & (rows["metric"] == f"{name}_largest")]["value"]
                at = np.full(len(chosen), position + 0.2 * (number - 1))
                label = NAME[arm] if position == 0 else None
                axes.plot(at, chosen, "o", color=COLOUR[arm], alpha=0.6, label=label)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks(range(3), [f"{name} tokens" for name in classes])
        axes.set(ylabel="largest entry / wall", ylim=(0, None))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _configured(rows: pd.DataFrame, key: str) -> pd.Series:
    return rows["config"].map(lambda text: float(json.loads(text)[key])).astype(float)


if __name__ == "__main__":
    draw(RESULTS, FIGURES)

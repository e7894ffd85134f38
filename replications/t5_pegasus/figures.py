"""Figures of the page on T5-PEGASUS, drawn from results alone; the worked pseudo-summary from a text of our own."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from rapidfuzz.distance import LCSseq

from paperkit.estimands import of_arm
from paperkit.results import read_runs
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders
from replications.t5_pegasus.estimands import CHECKPOINTS, JUDGED, ONE, at, by_labels
from replications.t5_pegasus.pseudo_summary import pseudo_summary, segments

NAME = {
    "none": "no pretraining", "span": "span corruption", "mismatched": "mismatched sources",
    "pegasus": "pseudo-summaries", "trigram": "trigram",
}  # fmt: skip
COLOUR = dict(zip(NAME, (*(COLOURS[place] for place in (3, 1, 2, 0)), NEUTRAL), strict=True))
MARKER = dict(zip(NAME, "Ds^ox", strict=True))
ARMS, OTHERS = tuple(NAME)[:4], tuple(NAME)[:3]
HEADS = {"headings": "with the copy head", "headings_plain": "without it"}
FEW = (10,)  # labels that are shown and do not decide
ZERO = 3  # where no labels stand on a logarithmic axis
DECODING = {"": "greedy", "beam_2_": "beam of 2", "beam_3_": "beam of 3", "no_repeat_": "greedy, no pair twice"}
BASELINES = {f"lead_{k}": f"first {k} characters" for k in (8, 16, 24)}
BASELINES |= {"oracle_clause": "best clause (oracle)", "random": "another's heading"}
RULES = {"pegasus": "LCS, as coded", "as_written": "LCS, as written", "longest": "longest first", "random": "random"}
SCORES = {"1": "ROUGE-1", "2": "ROUGE-2", "l": "ROUGE-L"}
# su2021t5pegasus, section on few labels: T5 PEGASUS and mT5 on CSL with one beam, points by numbers of labels.
REPORTED = {
    "1": {10: (57.66, 27.00), 100: (62.78, 54.62), 1_000: (65.28, 61.52), 10_000: (69.87, 69.00)},
    "2": {10: (47.52, 17.95), 100: (52.30, 42.78), 1_000: (54.54, 50.38), 10_000: (59.80, 58.74)},
    "l": {10: (55.85, 26.62), 100: (60.87, 55.33), 1_000: (63.12, 59.91), 10_000: (67.68, 66.96)},
}
# A window as the arms have it, of at most 96 characters and cut at commas too.
WINDOW = (
    "安装系统之前，请先备份重要的数据。安装程序会询问磁盘如何分区，选错分区会丢失原有的数据。"
    "如果不熟悉分区，可以让安装程序自动完成。安装完成以后，重新启动计算机，就可以使用新的系统。"
)
IN_ENGLISH = (
    "Before you install the system,", "first back up important data.", "The installer asks how to partition the disk;",
    "a wrong partition loses the data on it.", "If you do not know partitions,", "let the installer do it on its own.",
    "When it has installed all,", "start the computer again,", "and use the new system.",
)  # fmt: skip
Intervals = Mapping[float, pd.Series]


def draw(results: Path, figures: Path) -> None:
    """Draw all figures whose runs a profile has; the worked pseudo-summary belongs to the rules."""
    runs = read_runs(results / "runs.csv")
    experiments = set(runs["experiment"])
    if "headings" in experiments:
        draw_losses(runs, figures / "losses.svg")
        draw_gains(runs, figures / "gains.svg")
        draw_compute(runs, figures / "compute.svg")
        draw_rouge(runs, figures / "rouge.svg")
        draw_source(runs, figures / "source.svg")
        draw_reported(runs, figures / "reported.svg")
    if "rules" in experiments:
        draw_tokens(runs, figures / "tokens.svg")
        draw_rules(runs, figures / "rules.svg")
        draw_worked(figures / "worked.svg")


def draw_worked(path: Path) -> None:
    """Draw how the greedy choice makes a pseudo-summary, clause by clause."""
    pieces = segments(WINDOW, 12, "\n。，")
    pair = pseudo_summary(pieces)
    question = "Which clauses become the pseudo-summary?"
    shown = "numbers: LCS of source and target if a clause is moved; the first of the largest (bold) is moved"
    # Not imported: zhplot would make its font that of all figures.
    font = distribution("zhplot").locate_file("zhplot/fonts/NotoSansSC-Regular.ttf")
    chinese = FontProperties(fname=str(font), size=11)
    rest, moved = list(range(len(pieces))), []
    with drawing(path, question=question, shown=shown, height_in=3.6) as (_, (axes,)):
        while not set(pair.picked) <= set(moved):
            sides = {i: ([j for j in rest if j != i], sorted([*moved, i])) for i in rest}
            texts = {i: ["".join(pieces[j] for j in side) for side in both] for i, both in sides.items()}
            overlaps = {i: LCSseq.similarity(*both) for i, both in texts.items()}
            best, at = max(rest, key=overlaps.__getitem__), 5.35 + 0.7 * len(moved)
            for i in range(len(pieces)):
                weight = "bold" if i == best else "normal"
                axes.text(at, -i, str(overlaps.get(i, "–")), ha="center", va="center", fontweight=weight)
            moved.append(best)
            rest.remove(best)
            ratio = len(texts[best][1]) / len(texts[best][0])
            axes.text(at, 1, f"move {len(moved)}", ha="center", va="center")
            axes.text(at, -len(pieces), f"{ratio:.2f}", ha="center", va="center")
        for i, (piece, english) in enumerate(zip(pieces, IN_ENGLISH, strict=True)):
            axes.text(0.05, -i, piece, fontproperties=chinese, va="center")
            axes.text(2.5, -i, english, fontsize=8, va="center")
        for i in pair.picked:
            axes.axhspan(-i - 0.5, -i + 0.5, color=COLOURS[1], alpha=0.3, linewidth=0)
        axes.text(4.95, -len(pieces), "target / source, stop above 0.25:", ha="right", va="center")
        axes.axhline(0.5, color=NEUTRAL, linewidth=0.8)
        axes.axhline(0.5 - len(pieces), color=NEUTRAL, linewidth=0.8)
        axes.set(xlim=(0, 6.35), ylim=(-len(pieces) - 0.6, 1.5), xlabel="clause", ylabel="move")
        axes.axis("off")


def draw_losses(runs: pd.DataFrame, path: Path) -> None:
    """Draw the loss against the number of labels, by arm, with the copy head and without it."""
    heads = _present(runs)
    question = "Which pretraining writes headings best, from how many labels?"
    shown = "means over seeds, bars: 95 % intervals; 0 labels: not to scale; the trigram sees no source"
    with drawing(path, question=question, shown=shown, columns=len(heads), height_in=3.8) as (_, panels):
        panels[0].set_yscale("log")
        for axes, (experiment, title) in zip(panels, heads.items(), strict=True):
            axes.sharey(panels[0])
            for arm in NAME:
                table = by_labels(runs, "baselines" if arm == "trigram" else experiment, arm)
                kept = [n for n in table if experiment == "headings" or n in JUDGED]
                _intervals(axes, {max(labels, ZERO): table[labels] for labels in kept}, arm)
            _label_axis(axes, (0, *FEW, *JUDGED) if experiment == "headings" else JUDGED)
            axes.set(title=title, ylabel="loss (nats a character)" if axes is panels[0] else " ")
        low, high = panels[0].get_ylim()
        ticks = [tick for tick in (1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 15, 20) if low < tick < high]
        panels[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panels[-1].legend(loc="upper right", fontsize=8)


def draw_gains(runs: pd.DataFrame, path: Path) -> None:
    """Draw by how much each other arm's loss lies above that of pseudo-summaries, against the number of labels."""
    heads = _present(runs)
    question = "Do pseudo-summaries gain most where labels are few?"
    shown = "loss of another arm minus that of pseudo-summaries; means over seeds, bars: 95 % intervals, paired"
    with drawing(path, question=question, shown=shown, columns=len(heads), height_in=3.6) as (_, panels):
        for axes, (experiment, title) in zip(panels, heads.items(), strict=True):
            axes.sharey(panels[0])
            for place, arm in enumerate(OTHERS):
                gaps = by_labels(runs, experiment, arm) - by_labels(runs, experiment, "pegasus")
                dodge = 1.06 ** (place - 1)
                _intervals(axes, {labels * dodge: gaps[labels] for labels in gaps if labels}, arm, "over ")
            _label_axis(axes, (*FEW, *JUDGED) if experiment == "headings" else JUDGED)
            axes.axhline(0, color=NEUTRAL, linewidth=0.8)
            axes.set(title=title, ylabel="gain (nats a character)" if axes is panels[0] else " ")
        panels[-1].legend(fontsize=8)


def draw_tokens(runs: pd.DataFrame, path: Path) -> None:
    """Draw tokens a character against the number of words in the vocabulary."""
    question = "How much shorter do words make a text?"
    shown = "counted once on the test split, with words of jieba's that training text has"
    arms = [arm for arm in set(runs.loc[runs["experiment"] == "tokens", "arm"]) if re.fullmatch(r"words_\d+", arm)]
    words = {int(arm.removeprefix("words_")): arm for arm in arms}
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        for place, (text, label) in enumerate({"body": "sections", "title": "headings"}.items()):
            lengths = [
                of_arm(runs, "tokens", words[number], f"{text}_tokens_per_character").iloc[0]
                for number in sorted(words)
            ]
            axes.plot(sorted(words), lengths, "os"[place] + "-", color=COLOURS[place], label=label, markersize=4)
        axes.set(xlabel="words in the vocabulary, beside all characters", ylabel="tokens a character")
        axes.set_xticks(sorted(words), [f"{number:,}" for number in sorted(words)])
        axes.legend()


def draw_compute(runs: pd.DataFrame, path: Path) -> None:
    """Draw loss and gain with 200 labels against the steps of pretraining."""
    question = "Where does longer pretraining lead?"
    shown = f"{ONE} labels, copy head; means over seeds, bars: 95 % intervals; right: paired by seed"
    config = runs.loc[(runs["experiment"] == "headings") & (runs["arm"] == "pegasus"), "config"].iloc[0]
    whole = max(map(int, json.loads(config)["labels"]))
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.8) as (_, (losses, gains)):
        found = {arm: {whole * share: _at_one(runs, arm, part) for part, share in CHECKPOINTS.items()} for arm in NAME}
        for place, arm in enumerate(NAME):
            if arm in ("none", "trigram"):
                style = ":" if arm == "none" else "--"
                losses.axhline(found[arm][whole].mean(), color=COLOUR[arm], linestyle=style, label=NAME[arm])
            else:
                _intervals(losses, found[arm], arm)
            if arm != "pegasus":
                gaps = {
                    steps * 1.03 ** (place - 2): found[arm][steps] - found["pegasus"][steps] for steps in found[arm]
                }
                _intervals(gains, gaps, arm, "over ")
        gains.axhline(0, color=NEUTRAL, linewidth=0.8)
        for axes, label in ((losses, "loss (nats a character)"), (gains, "gain (nats a character)")):
            axes.set(xscale="log", xlabel="steps of pretraining", ylabel=label)
            axes.set_xticks(list(found["pegasus"]), [f"{steps:,.0f}" for steps in found["pegasus"]])
            axes.minorticks_off()
            axes.set_ylim(top=axes.get_ylim()[1] + 0.45 * np.ptp(axes.get_ylim()))  # for the legend
            axes.legend(loc="upper right", fontsize=7)


def draw_rules(runs: pd.DataFrame, path: Path) -> None:
    """Draw what each rule takes out of documents, and how much of it the rest has too."""
    question = "Does the choice of sentences find what the rest says again?"
    shown = "means over documents of the source's size; the random rule: one dot a seed"
    kinds = {"picked_characters_share": "characters", "picked_segments_share": "segments"}
    with drawing(path, question=question, shown=shown, columns=2, height_in=2.8) as (_, (overlap, taken)):
        for row, rule in enumerate(RULES):
            values = of_arm(runs, "rules", rule, "common_subsequence_share")
            overlap.plot(values, np.full(len(values), -row), "o", color=COLOURS[0], markersize=5)
            for place, (metric, label) in enumerate(kinds.items()):
                values, mark = of_arm(runs, "rules", rule, metric), "os"[place]
                rows = np.full(len(values), -row)
                taken.plot(values, rows, mark, color=COLOURS[place], markersize=5, label="" if row else label)
        taken.axvline(0.25, color=NEUTRAL, linewidth=0.8, linestyle="--", label="a quarter")
        taken.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=3, fontsize=7, handletextpad=0.2)
        for axes in (overlap, taken):
            first = axes is overlap
            axes.set_yticks([-row for row in range(len(RULES))], list(RULES.values()) if first else [])
            axes.set(ylim=(0.5 - len(RULES), 0.5), ylabel="rule" if first else " ")
        overlap.set(xlabel="share of the target in the LCS with the rest")
        taken.set(xlabel="share of a document that is moved")


def draw_rouge(runs: pd.DataFrame, path: Path) -> None:
    """Draw the scores of generated headings beside those of headings that need no model."""
    labels = int(by_labels(runs, "headings", "pegasus").columns.max())
    question = "Does any model write better headings than copying the beginning?"
    shown = f"after {labels:,} labels; means over seeds, bars: 95 % intervals; dashed: the first 16 characters"
    arms, rows = ARMS[::-1], [*(NAME[arm] for arm in ARMS[::-1]), *BASELINES.values()]
    with drawing(path, question=question, shown=shown, columns=3, height_in=4.8) as (figure, panels):
        for axes, (score, name) in zip(panels, SCORES.items(), strict=True):
            for place, (prefix, label) in enumerate(DECODING.items()):
                tables = [by_labels(runs, "headings", arm, metric=f"{prefix}rouge_{score}_points") for arm in arms]
                values = {0.2 * (1.5 - place) - row: table[labels] for row, table in enumerate(tables)}
                _errorbar(axes, values, COLOURS[place], "os^D"[place], label, "none", across=True)
            copied = {arm: of_arm(runs, "baselines", arm, f"rouge_{score}_points").iloc[0] for arm in BASELINES}
            axes.plot(list(copied.values()), -np.arange(len(arms), len(rows)), "d", color=NEUTRAL, markersize=5)
            axes.axvline(copied["lead_16"], color=NEUTRAL, linewidth=0.8, linestyle="--")
            first = axes is panels[0]
            axes.set_yticks([-row for row in range(len(rows))], rows if first else [])
            axes.set(xlabel=f"{name} (points)", ylabel="heading" if first else " ", ylim=(0.5 - len(rows), 0.5))
            axes.set_xlim(left=0)
        panels[0].set_title(" ")  # the room of the legend
        keys = panels[0].get_legend_handles_labels()
        figure.legend(*keys, loc="upper center", bbox_to_anchor=(0.5, 0.955), ncols=len(DECODING), fontsize=8)


def draw_source(runs: pd.DataFrame, path: Path) -> None:
    """Draw the loss with a heading's own source and with another document's, and the share that is copied."""
    question = "What is the source worth to a model?"
    shown = f"left: means over {JUDGED[0]} to {JUDGED[-1]:,} labels; dashed: trigram; right: bars are 95 % intervals"
    heads = _present(runs)
    rows = [(experiment, arm) for experiment in heads for arm in reversed(ARMS)]
    height = 1.8 + 0.25 * len(rows)
    with drawing(path, question=question, shown=shown, columns=2, height_in=height) as (_, (losses, copied)):
        for row, (experiment, arm) in enumerate(rows):
            own, exchanged = (
                by_labels(runs, experiment, arm, metric=metric).reindex(columns=JUDGED).mean(axis=None)
                for metric in ("loss_nats", "exchanged_loss_nats")
            )
            losses.plot([own, exchanged], [-row, -row], color=COLOUR[arm])
            losses.plot(own, -row, MARKER[arm], color=COLOUR[arm], markersize=5, label="" if row else "own source")
            ring = {"color": COLOUR[arm], "markerfacecolor": "none", "markersize": 9}
            losses.plot(exchanged, -row, "o", label="" if row else "another's", **ring)
        trigram = by_labels(runs, "baselines", "trigram").reindex(columns=JUDGED).mean(axis=None)
        losses.axvline(trigram, color=NEUTRAL, linewidth=0.8, linestyle="--")
        names = [NAME[arm] + ("" if experiment == "headings" else ", plain") for experiment, arm in rows]
        losses.set_yticks([-row for row in range(len(rows))], names, fontsize=8)
        losses.set(xlabel="loss (nats a character)", ylabel="pretraining", ylim=(0.5 - len(rows), 0.5))
        losses.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, fontsize=8, handletextpad=0.1)
        for arm in ARMS:
            table = by_labels(runs, "headings", arm, metric="copied_share")
            _intervals(copied, {max(labels, ZERO): table[labels] for labels in table}, arm)
        _label_axis(copied, (0, *FEW, *JUDGED))
        copied.set(ylabel="copied share of a heading")
        copied.set_ylim(bottom=0)


def draw_reported(runs: pd.DataFrame, path: Path) -> None:
    """Draw the source's gain over mT5 beside our gain over span corruption, in the source's scores."""
    question = "Is our gain in ROUGE like the one that the source reports?"
    shown = "left: no seeds or intervals given; right: means over seeds, bars: 95 % intervals; scales differ"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.6) as (_, (theirs, ours)):
        for place, (score, name) in enumerate(SCORES.items()):
            table = REPORTED[score]
            gains = [new - old for new, old in table.values()]
            theirs.plot(list(table), gains, "os^"[place] + "-", color=COLOURS[place], label=name, markersize=4)
            pegasus, span = (
                by_labels(runs, "headings", arm, metric=f"pltrdy_{score}_points") for arm in ("pegasus", "span")
            )
            gaps = {n * 1.06 ** (place - 1): of_seeds for n, of_seeds in (pegasus - span).items() if n}
            _errorbar(ours, gaps, COLOURS[place], "os^"[place], name)
        _label_axis(ours, (*FEW, *JUDGED))
        theirs.set(xscale="log", xlabel="labels", ylabel="gain (points)", title="reported: over mT5, CSL")
        theirs.set_xticks(list(REPORTED["1"]), [f"{labels:,}" for labels in REPORTED["1"]])
        theirs.minorticks_off()
        ours.set(ylabel=" ", title="ours: over span corruption, greedy")
        for axes in (theirs, ours):
            axes.axhline(0, color=NEUTRAL, linewidth=0.8)
        theirs.legend(fontsize=8)


def _present(runs: pd.DataFrame) -> dict[str, str]:
    return {name: title for name, title in HEADS.items() if name in set(runs["experiment"])}


def _at_one(runs: pd.DataFrame, arm: str, part: str) -> pd.Series:
    return at(runs, arm, part=part, experiment="baselines" if arm == "trigram" else "headings")


def _label_axis(axes: Axes, numbers: Sequence[int]) -> None:
    axes.set(xscale="log", xlabel="labels")
    axes.set_xticks([max(number, ZERO) for number in numbers], [f"{number:,}" for number in numbers])
    axes.minorticks_off()


def _intervals(axes: Axes, values: Intervals, arm: str, before: str = "") -> None:
    _errorbar(axes, values, COLOUR[arm], MARKER[arm], before + NAME[arm], "--" if arm == "trigram" else "-")


def _errorbar(
    axes: Axes, values: Intervals, colour: str, marker: str, label: str, line: str = "-", *, across: bool = False
) -> None:
    """Draw means with intervals, each at its place; one of whose seeds a run diverged is left out."""
    sound = {at: of_seeds for at, of_seeds in values.items() if of_seeds.notna().all()}
    found = {at: interval for at, of_seeds in sound.items() if (interval := paired_interval(of_seeds))}
    means = [interval.estimate for interval in found.values()]
    ends = [[abs(getattr(i, end) - i.estimate) for i in found.values()] for end in ("low", "high")]
    style = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4, "linewidth": 1.3, "label": label}
    if across:
        axes.errorbar(means, list(found), xerr=ends, **style)
    else:
        axes.errorbar(list(found), means, yerr=ends, **style)


if __name__ == "__main__":
    draw(*folders())

"""paperkit.style: a figure's bytes depend on what it shows, and it loads nothing from elsewhere."""

import csv
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from paperkit.style import COLOURS, LEAST_ALPHA, NEUTRAL, WIDTH_IN, drawing

ROOT = Path(__file__).parents[1]
SCRIPT = """\
import sys
from pathlib import Path
from paperkit.style import drawing

with drawing(Path(sys.argv[1]), columns=2, question="Which?", shown="n = 3") as (figure, (left, right)):
    left.plot([0, 1, 2], [1, 3, 2], label="Lion λ")
    left.fill_between([0, 1, 2], [0, 1, 1], [2, 4, 3], alpha=0.2)
    left.errorbar([0, 1], [1, 2], yerr=0.5, marker="o")
    left.legend()
    left.set(xlabel="steps", ylabel="loss in nats")
    right.scatter([1, 2], [3, 4], clip_on=True)
    right.set(xlabel="steps", ylabel="loss in nats", yscale="log", title="right")
"""
WORDS = {"question": "Does it rise?", "shown": "one line, no seeds"}
LABELS = {"xlabel": "step", "ylabel": "height (m)"}
HREF = "{http://www.w3.org/1999/xlink}href"


def draw_line(path: Path, end: float = 1.0, labels=LABELS, **words: str) -> Path:
    with drawing(path, **(WORDS | words)) as (_, (axes,)):
        axes.plot([0, 1], [0, end], label="line")
        axes.scatter([0], [0])
        axes.legend()
        axes.set(**labels)
    return path


def draw_half(path: Path) -> None:
    with drawing(path, **WORDS) as (_, (axes,)):
        axes.plot([0, 1], [5, 5])
        axes.plot([0, 1], [5])


@pytest.fixture(scope="module")
def drawn_by_fresh_processes(tmp_path_factory) -> list[bytes]:
    """The same figure from two processes with different hash seeds, at once."""
    paths = [tmp_path_factory.mktemp("process") / "curves.svg" for _ in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, path],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(number), "MPLBACKEND": "agg"},
        )
        for number, path in enumerate(paths)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    return [path.read_bytes() for path in paths]


def test_two_fresh_processes_draw_the_same_bytes(drawn_by_fresh_processes):
    first, second = drawn_by_fresh_processes
    assert len(first) > 10_000
    assert first == second


def test_other_content_gives_other_bytes(tmp_path):
    assert draw_line(tmp_path / "a.svg").read_bytes() != draw_line(tmp_path / "a.svg", end=2.0).read_bytes()


def test_there_is_no_date_in_a_figure(drawn_by_fresh_processes):
    text = drawn_by_fresh_processes[0].decode()
    assert "<dc:date>" not in text
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b", text)


def external_references(text: str) -> list[str]:
    """Everything a browser would fetch: namespaces and the document type are names, and are not fetched."""
    elements = list(ElementTree.fromstring(text).iter())
    found = [element.tag for element in elements if element.tag.rpartition("}")[2] in {"image", "script"}]
    links = [element.get(name, "#") for element in elements for name in (HREF, "href", "src")]
    styles = " ".join(part for element in elements for part in (*element.attrib.values(), element.text or ""))
    fetched = re.findall(r"url\((?!#)[^)]*\)|@import[^;]*", styles)
    return found + [link for link in links if not link.startswith("#")] + fetched


def test_a_figure_refers_to_nothing_outside_itself(drawn_by_fresh_processes):
    text = drawn_by_fresh_processes[0].decode()
    assert 'href="#' in text  # there are references, and all of them point inside
    assert external_references(text) == []


def test_text_is_drawn_as_paths_so_that_no_font_is_needed(drawn_by_fresh_processes):
    root = ElementTree.fromstring(drawn_by_fresh_processes[0])
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "text" not in tags
    assert "path" in tags


def test_a_figure_has_the_width_of_the_page_and_the_height_asked_for(tmp_path):
    with drawing(tmp_path / "new" / "a.svg", height_in=2.0, columns=3, **WORDS) as (figure, axes):
        assert tuple(figure.get_size_inches()) == (WIDTH_IN, 2.0)
        assert len(axes) == 3
        for panel in axes:
            panel.set(**LABELS)
    root = ElementTree.fromstring((tmp_path / "new" / "a.svg").read_text())
    assert (root.get("width"), root.get("height")) == (f"{72 * WIDTH_IN:g}pt", "144pt")


def test_arms_get_the_colours_of_the_palette_in_order(tmp_path):
    with drawing(tmp_path / "a.svg", **WORDS) as (_, (axes,)):
        lines = [axes.plot([0, 1], [0, number])[0].get_color() for number in range(len(COLOURS))]
        axes.set(**LABELS)
    assert lines == list(COLOURS)
    assert len(set(COLOURS)) == len(COLOURS)


def test_an_error_while_drawing_leaves_the_old_figure_and_no_open_one(tmp_path):
    path = draw_line(tmp_path / "a.svg")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="same first dimension"):
        draw_half(path)
    assert path.read_bytes() == before
    assert plt.get_fignums() == []


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were(tmp_path):
    before = dict(mpl.rcParams)
    draw_line(tmp_path / "a.svg")
    assert dict(mpl.rcParams) == before


def test_the_settings_of_the_reader_do_not_change_a_figure(tmp_path):
    plain = draw_line(tmp_path / "a.svg").read_bytes()
    with mpl.rc_context({"lines.linewidth": 7.0, "savefig.bbox": "tight", "axes.facecolor": "red", "font.size": 20}):
        assert draw_line(tmp_path / "a.svg").read_bytes() == plain


# --- the numbers drawn, and what hides them -------------------------------------------------------------------


def test_the_numbers_drawn_stand_in_a_csv_beside_the_figure(tmp_path):
    with drawing(tmp_path / "a.svg", **WORDS, columns=2) as (_, (left, right)):
        left.plot([0, 1], [2, 1 / 3], label="Lion")
        left.plot([0, 1], [4, float("nan")], color=COLOURS[0], alpha=0.1)  # a seed of Lion's
        left.errorbar([0.5], [7], yerr=[[1], [2]], fmt="o", label="mean", capsize=3)
        left.scatter([8], [9], color=COLOURS[2], label="dot")
        left.axhline(5, color="black")
        left.fill_between([0, 1], [0, 0], [1, 1], color="grey")
        right.bar([0, 1], [3, 4])
        right.axvspan(0.2, 0.4, color="grey")
        right.pcolormesh([[1.5, 2.5]])
        right.set(title="right", xlabel="arm", ylabel="loss", xticks=[0, 1], xticklabels=["Lion", "Adam\nW"])
        left.set(**LABELS)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert {(row["panel"], row["x_axis"], row["y_axis"]) for row in rows} == {
        ("1", "step", "height (m)"),
        ("right", "arm", "loss"),
    }
    written = {(row["panel"], row["series"], row["mark"], row["x"], row["y"], row["value"]) for row in rows}
    assert written >= {
        ("1", "Lion", "line 1", "1", "0.333333", ""),
        ("1", "Lion", "line 2", "0", "4", ""),
        ("1", "mean", "points 1", "0.5", "7", ""),
        ("1", "mean", "interval 1", "0.5", "6", ""),
        ("1", "mean", "interval 1", "0.5", "9", ""),
        ("1", "dot", "points 2", "8", "9", ""),
        ("1", "", "line 3", "", "5", ""),
        ("1", "", "band 1", "1", "1", ""),
        ("right", "Lion", "bar 1", "Lion", "3", ""),
        ("right", "Lion", "bar 2", "Adam W", "4", ""),
        ("right", "", "range 1", "0.2", "", ""),
        ("right", "", "map 1", "0.5", "0.5", "1.5"),
    }


@pytest.mark.parametrize("title", ["", "a panel"])
def test_a_legend_over_data_moves_above_its_panel_and_the_figure_grows(tmp_path, title):
    with drawing(tmp_path / "a.svg", **WORDS, height_in=2.0) as (figure, (axes,)):
        axes.plot([0, 1], [0, 1], label="rising")
        axes.set(**LABELS, title=title)
        axes.legend(loc="center")
    lowest = axes.title.get_window_extent().y1 if title else axes.bbox.y1
    assert axes.get_legend().get_window_extent().y0 >= lowest - 1
    assert figure.get_figheight() > 2.0
    with drawing(tmp_path / "b.svg", **WORDS, height_in=2.0) as (figure, (axes,)):
        axes.plot([0, 1], [0, 1], label="rising")
        axes.set(**LABELS)
        axes.legend(loc="lower right")
    assert axes.get_legend().get_window_extent().y1 < axes.bbox.y1
    assert figure.get_figheight() == 2.0


def test_the_one_legend_of_several_panels_moves_between_the_title_and_the_panels(tmp_path):
    with drawing(tmp_path / "a.svg", **WORDS, columns=2) as (figure, panels):
        for axes in panels:
            axes.plot([0, 1], [0, 1], label="rising")
            axes.plot([0, 1], [1, 0], label="falling")
            axes.set(**LABELS)
        panels[1].legend(loc="center")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert panels[1].get_legend() is None
    assert legend.get_window_extent().y1 <= figure.texts[0].get_window_extent().y0
    assert legend.get_window_extent().y0 >= panels[0].bbox.y1
    words = [text.get_window_extent() for text in legend.get_texts()]
    assert words[0].y0 == words[1].y0  # side by side


def test_lines_of_single_seeds_are_not_too_faint_for_a_dark_page(tmp_path):
    with drawing(tmp_path / "a.svg", **WORDS) as (_, (axes,)):
        axes.plot([0, 1], [0, 1], alpha=0.1)
        axes.plot([0, 1], [1, 0])
        axes.set(**LABELS)
    assert [line.get_alpha() for line in axes.lines] == [LEAST_ALPHA, 1.0]


# --- what a reader must be told ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "labels", "complaint"),
    [
        ({"question": "Loss against steps"}, LABELS, "is no question"),
        ({"question": ""}, LABELS, "is no question"),
        ({"shown": " "}, LABELS, "say what a mark stands for"),
        ({"question": f"Does it {'really ' * 20}rise?"}, LABELS, "wider than the figure; shorten it"),
        ({"shown": "one line of a single run, no seeds, " * 5}, LABELS, "wider than the figure; shorten it"),
        ({}, {"xlabel": "step"}, "panel 1 has no y label"),
        ({}, {"ylabel": "height (m)"}, "panel 1 has no x label"),
    ],
)
def test_a_figure_that_says_too_little_or_too_much_is_not_saved(tmp_path, words, labels, complaint):
    path = tmp_path / "a.svg"
    with pytest.raises(ValueError, match=rf"figure a\.svg: .*{complaint}"):
        draw_line(path, labels=labels, **words)
    assert not path.exists()
    assert plt.get_fignums() == []


def test_question_and_explanation_are_drawn_and_the_ground_is_not(tmp_path):
    path = draw_line(tmp_path / "a.svg")
    with drawing(tmp_path / "b.svg", **WORDS) as (figure, (axes,)):
        axes.set(**LABELS)
        assert {text.get_text() for text in figure.texts} == set(WORDS.values())
    assert not re.search(r"fill: #fff", path.read_text())


# --- colours: contrast on the page in both themes, and distance for every common colour vision ---------------
# Viewers' matrices on linear RGB: Machado, Oliveira and Fernandes 2009, severity 1. Filter: the W3C's Filter Effects
# specification, hue-rotate(180deg) on the turned over colour, as book/_static/verdicts.css has it.

VISIONS = {
    "common": np.eye(3),
    "protan": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]
    ]),
    "deutan": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]
    ]),
    "tritan": np.array([
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]
    ]),
}  # fmt: skip
GROUNDS = {"light": "#ffffff", "dark": "#121212"}


def rgb(colour) -> np.ndarray:
    return np.array(mpl.colors.to_rgb(colour))


def shown_in(theme, colour) -> np.ndarray:
    if theme == "light":
        return rgb(colour)
    # -1 + 2 w in each row: half a turn about grey, w the filter's weights of luminance.
    half_turn = -np.eye(3) + 2 * np.array([0.213, 0.715, 0.072])
    return np.clip(half_turn @ (1 - rgb(colour)), 0, 1)


def linear(colour) -> np.ndarray:
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def contrast(one, other) -> float:
    darker, lighter = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def lab(light) -> np.ndarray:
    to_xyz = np.array([
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ])
    xyz = to_xyz @ light / np.array([0.95047, 1, 1.08883])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def least_distance(colours, theme, vision) -> float:
    seen = [lab(np.clip(VISIONS[vision] @ linear(shown_in(theme, colour)), 0, 1)) for colour in colours]
    return min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2))


@pytest.mark.parametrize("theme", GROUNDS)
def test_lines_reach_a_contrast_of_3_and_words_one_of_4_5(theme):
    ground = rgb(GROUNDS[theme])
    assert [colour for colour in COLOURS if contrast(shown_in(theme, colour), ground) < 3] == []
    assert min(contrast(shown_in(theme, colour), ground) for colour in (NEUTRAL, "black")) >= 4.5


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", GROUNDS)
def test_any_two_colours_can_be_told_apart(theme, vision):
    assert least_distance(COLOURS, theme, vision) >= 25

"""paperkit.style: a figure's bytes depend on what it shows, and it loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from paperkit.style import COLOURS, WIDTH_IN, drawing

ROOT = Path(__file__).parents[1]
SCRIPT = """\
import sys
from pathlib import Path
from paperkit.style import drawing

with drawing(Path(sys.argv[1]), columns=2) as (figure, (left, right)):
    left.plot([0, 1, 2], [1, 3, 2], label="Lion λ")
    left.fill_between([0, 1, 2], [0, 1, 1], [2, 4, 3], alpha=0.2)
    left.errorbar([0, 1], [1, 2], yerr=0.5, marker="o")
    left.legend()
    right.scatter([1, 2], [3, 4], clip_on=True)
    right.set(xlabel="steps", yscale="log", title="loss in nats")
"""
HREF = "{http://www.w3.org/1999/xlink}href"


def draw_line(path: Path, end: float = 1.0) -> Path:
    with drawing(path) as (_, (axes,)):
        axes.plot([0, 1], [0, end], label="line")
        axes.scatter([0], [0])
        axes.legend()
    return path


def draw_half(path: Path) -> None:
    with drawing(path) as (_, (axes,)):
        axes.plot([0, 1], [5, 5])
        axes.plot([0, 1], [5])


@pytest.fixture(scope="module")
def drawn_by_fresh_processes(tmp_path_factory) -> list[bytes]:
    """The same figure from three processes with different hash seeds, at once."""
    paths = [tmp_path_factory.mktemp("process") / "curves.svg" for _ in range(3)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, path],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(number), "MPLBACKEND": "agg"},
        )
        for number, path in enumerate(paths)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    return [path.read_bytes() for path in paths]


def test_three_fresh_processes_draw_the_same_bytes(drawn_by_fresh_processes) -> None:
    first, second, third = drawn_by_fresh_processes
    assert len(first) > 10_000
    assert first == second == third


def test_without_the_salt_and_the_date_left_out_the_bytes_differ(tmp_path) -> None:
    written = []
    for number in range(2):
        figure, axes = plt.subplots()
        axes.plot([0, 1], [0, 1])
        with mpl.rc_context({"svg.hashsalt": None}):
            figure.savefig(tmp_path / f"{number}.svg", metadata={"Date": None})
        plt.close(figure)
        written.append((tmp_path / f"{number}.svg").read_bytes())
    assert written[0] != written[1]


def test_other_content_gives_other_bytes(tmp_path) -> None:
    assert draw_line(tmp_path / "a.svg").read_bytes() != draw_line(tmp_path / "a.svg", end=2.0).read_bytes()


def test_there_is_no_date_in_a_figure(drawn_by_fresh_processes) -> None:
    text = drawn_by_fresh_processes[0].decode()
    assert "<dc:date>" not in text
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b", text)


def external_references(text: str) -> list[str]:
    """Everything a browser would fetch: namespaces and the document type are names, and are not fetched."""
    root = ElementTree.fromstring(text)
    found = [element.tag for element in root.iter() if element.tag.rpartition("}")[2] in {"image", "script", "use"}]
    found = [tag for tag in found if not tag.endswith("use")]
    for element in root.iter():
        links = [element.get(name) for name in (HREF, "href", "src")]
        found += [link for link in links if link is not None and not link.startswith("#")]
        found += re.findall(
            r"url\((?!#)[^)]*\)|@import[^;]*", " ".join([*element.attrib.values(), element.text or ""])
        )
    return found


def test_a_figure_refers_to_nothing_outside_itself(drawn_by_fresh_processes) -> None:
    text = drawn_by_fresh_processes[0].decode()
    assert 'href="#' in text  # there are references, and all of them point inside
    assert external_references(text) == []


@pytest.mark.parametrize(
    "foreign",
    [
        '<a href="https://example.org/x"/>',
        '<image href="#inside"/>',
        '<style>@import "x.css";</style>',
        '<rect style="fill: url(x.svg#a)"/>',
    ],
)
def test_a_reference_to_the_outside_would_be_found(drawn_by_fresh_processes, foreign: str) -> None:
    text = drawn_by_fresh_processes[0].decode()
    assert external_references(text) == []
    assert external_references(text.replace("</svg>", f"{foreign}</svg>"))


def test_text_is_drawn_as_paths_so_that_no_font_is_needed(drawn_by_fresh_processes) -> None:
    root = ElementTree.fromstring(drawn_by_fresh_processes[0])
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "text" not in tags
    assert "path" in tags


def test_a_figure_has_the_width_of_the_page_and_the_height_asked_for(tmp_path) -> None:
    with drawing(tmp_path / "new" / "a.svg", height_in=2.0, columns=3) as (figure, axes):
        assert tuple(figure.get_size_inches()) == (WIDTH_IN, 2.0)
        assert len(axes) == 3
    root = ElementTree.fromstring((tmp_path / "new" / "a.svg").read_text())
    assert (root.get("width"), root.get("height")) == (f"{72 * WIDTH_IN:g}pt", "144pt")


def test_arms_get_the_colours_of_the_palette_in_order(tmp_path) -> None:
    with drawing(tmp_path / "a.svg") as (_, (axes,)):
        lines = [axes.plot([0, 1], [0, number])[0].get_color() for number in range(len(COLOURS))]
    assert lines == list(COLOURS)
    assert len(set(COLOURS)) == len(COLOURS)


def test_an_error_while_drawing_leaves_the_old_figure_and_no_open_one(tmp_path) -> None:
    path = draw_line(tmp_path / "a.svg")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="same first dimension"):
        draw_half(path)
    assert path.read_bytes() == before
    assert plt.get_fignums() == []


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were(tmp_path) -> None:
    before = dict(mpl.rcParams)
    draw_line(tmp_path / "a.svg")
    assert dict(mpl.rcParams) == before


def test_the_settings_of_the_reader_do_not_change_a_figure(tmp_path) -> None:
    plain = draw_line(tmp_path / "a.svg").read_bytes()
    with mpl.rc_context({"lines.linewidth": 7.0, "savefig.bbox": "tight", "axes.facecolor": "red", "font.size": 20}):
        assert draw_line(tmp_path / "a.svg").read_bytes() == plain

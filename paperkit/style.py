"""How figures look, and how they are saved so that equal results give equal bytes.

A figure has no ground of its own. The book shows it as it is on a light page, and on a dark one with its lightness
turned over and its hues kept (`filter: invert(1) hue-rotate(180deg)`); standing alone it is meant for white paper.
"""

import argparse
import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection, LineCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Transform

WIDTH_IN = 6.4
# For arms, in this order: blue, orange, green, pink, olive, light blue. Chosen so that any two lie at least 25 apart
# in CIELAB for common, protan, deutan and tritan vision, and that each has a contrast of 3 on the page, light and
# dark (tests/test_style.py computes both).
COLOURS = ("#1f34cd", "#de7600", "#00734f", "#c47cb1", "#4b4e00", "#5d8eff")
NEUTRAL = "#555555"
_RC = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.prop_cycle": cycler(color=COLOURS),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}
# Fainter lines, of single seeds say, cannot be seen on a dark page.
LEAST_ALPHA = 0.4
COLUMNS = ("panel", "x_axis", "y_axis", "series", "mark", "x", "y", "value")


def folders() -> tuple[Path, Path]:
    """Read on a command line of which folder of results figures are drawn.

    Returns:
        Folder of the results, and that of the figures.

    Raises:
        SystemExit: If the command line names none.
    """
    parser = argparse.ArgumentParser(description="Draw the figures of a replication.")
    parser.add_argument("name", help="folder below results/, such as lion or lion_gpu")
    name = parser.parse_args().name
    return Path("results") / name, Path("figures") / name


@contextmanager
def drawing(
    path: Path, *, question: str, shown: str, height_in: float = 3.2, columns: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Open a figure in the house style; when the block ends, save it as SVG, and as CSV the numbers drawn.

    A legend that lies over data moves above its panel, and the figure grows by its height.

    Args:
        path: SVG file to write, and beside it the CSV; its name seeds the identifiers inside, so that equal content
            is equal bytes.
        question: What the figure answers, in one line; its title.
        shown: What a mark stands for: points, number of seeds, intervals, in one line below the panels.
        height_in: Height in inches of the panels, title and line below included; the width is `WIDTH_IN`.
        columns: Number of panels side by side.

    Yields:
        The figure and its axes.

    Raises:
        ValueError: If the title is no question, it is not said what is shown, one of the two is wider than the
            figure, or a panel ends without a label on one of its axes.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "line.svg"
        >>> with drawing(target, question="Does it rise?", shown="one run, no seeds") as (figure, (axes,)):
        ...     lines = axes.plot([0, 1], [0, 1])
        ...     texts = axes.set(xlabel="step", ylabel="height (m)")
        >>> target.read_text()[:5]
        '<?xml'
    """
    if not question.endswith("?"):
        message = f"figure {path.name}: its title {question!r} is no question; ask what the figure answers"
        raise ValueError(message)
    if not shown.strip():
        message = f"figure {path.name}: say what a mark stands for, such as 'one point a seed, n = 8; bars: 95 %'"
        raise ValueError(message)
    # From the defaults, not from the reader's own matplotlibrc.
    with plt.style.context(["default", {**_RC, "svg.hashsalt": path.stem}]):
        figure, grid = plt.subplots(1, columns, figsize=(WIDTH_IN, height_in), squeeze=False)
        panels = list(grid[0])
        figure.suptitle(question, x=0.01, ha="left", fontsize=10, fontweight="bold")
        figure.supxlabel(shown, x=0.01, ha="left", fontsize=8, color=NEUTRAL)
        try:
            yield figure, panels
            _require_labels(path, panels)
            _require_room(path, figure)
            for line in (line for axes in panels for line in axes.lines):
                line.set_alpha(max(line.get_alpha() or 1.0, LEAST_ALPHA))
            _clear_legends(figure, panels)
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, format="svg", metadata={"Date": None})
            if (numbers := drawn_numbers(panels)).count("\n") > 1:  # a sketch of boxes has none
                path.with_suffix(".csv").write_text(numbers, encoding="utf-8")
        finally:
            plt.close(figure)


def _require_labels(path: Path, panels: list[Axes]) -> None:
    for number, axes in enumerate(panels, start=1):
        for name, label in (("x", axes.get_xlabel()), ("y", axes.get_ylabel())):
            if not label:
                message = f"figure {path.name}: panel {number} has no {name} label; name the quantity and its unit"
                raise ValueError(message)


def _require_room(path: Path, figure: Figure) -> None:
    for text in figure.texts:
        if text.get_window_extent().x1 > figure.bbox.x1:
            message = f"figure {path.name}: {text.get_text()!r} is wider than the figure; shorten it"
            raise ValueError(message)


def drawn_numbers(panels: list[Axes]) -> str:
    """Write the numbers that panels show as CSV.

    Args:
        panels: The axes of a figure.

    Returns:
        A row for each point, corner or end of a bar, with six digits: its panel (by title, else by number), the names
        of the axes, the series (the legend's word, also for unnamed marks of its colour), the mark, and x, y; of a
        map of colours the value too. Places with a name on the axis have this name for a number. A coordinate that
        is no number of the axis, such as the ends of a line across the panel, is left out.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    anywhere = {colour: label for axes in reversed(panels) for colour, label in _legend_words(axes).items()}
    for number, axes in enumerate(panels, start=1):
        labels = (" ".join(label.split()) for label in (axes.get_xlabel(), axes.get_ylabel()))
        frame = axes.get_title() or str(number), *labels
        places = _place_names(axes.xaxis), _place_names(axes.yaxis)
        named, counts = anywhere | _legend_words(axes), Counter()
        for artist, kind, points in _marks(axes):
            counts[kind] += 1
            label = str(artist.get_label())
            series = named.get(_colour(artist), "") if label.startswith("_") or not label else label
            for x, y, *value in points.tolist():
                names = places if kind != "range" else ({}, {})
                cells = [_cell(x, names[0]), _cell(y, names[1]), *(_cell(part, {}) for part in value or [math.nan])]
                if any(cells):
                    writer.writerow([*frame, series, f"{kind} {counts[kind]}", *cells])
    return text.getvalue()


def _legend_words(axes: Axes) -> dict[str, str]:
    """The word for each colour; of several the first."""
    handles, labels = axes.get_legend_handles_labels()
    return {_colour(handle): label for handle, label in zip(reversed(handles), reversed(labels), strict=True)}


def _marks(axes: Axes) -> Iterator[tuple[Artist, str, np.ndarray]]:
    """Take all that is drawn from data: the artist, its kind, and its points (columns x, y and of a map the value)."""
    caps = {cap for bars in axes.containers if isinstance(bars, ErrorbarContainer) for cap in bars.lines[1]}
    for line in axes.lines:
        if line not in caps:
            kind = "line" if line.get_linestyle() not in ("None", "none", "") else "points"
            yield line, kind, _in_data(axes, line.get_transform(), np.asarray(line.get_xydata(), dtype=float))
    for collection in axes.collections:
        if isinstance(collection, QuadMesh):
            corners = np.asarray(collection.get_coordinates())
            centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
            values = np.asarray(collection.get_array()).reshape(-1, 1)
            yield collection, "map", np.hstack([centres.reshape(-1, 2), values])
        elif isinstance(collection, PathCollection):
            yield collection, "points", np.ma.getdata(collection.get_offsets()).reshape(-1, 2)
        else:
            kind = "interval" if isinstance(collection, LineCollection) else "band"
            for path in collection.get_paths():
                yield collection, kind, _in_data(axes, collection.get_transform(), np.asarray(path.vertices))
    upright = {
        bar: bars.orientation == "vertical"
        for bars in axes.containers
        if isinstance(bars, BarContainer)
        for bar in bars
    }
    for patch in axes.patches:
        if isinstance(patch, Rectangle):
            (left, low), width, height = patch.get_xy(), patch.get_width(), patch.get_height()
            if patch in upright:
                end = (left + width / 2, low + height) if upright[patch] else (left + width, low + height / 2)
                yield patch, "bar", np.array([end], dtype=float)
            else:
                corners = np.array([(left, low), (left + width, low + height)], dtype=float)
                yield patch, "range", _in_data(axes, patch.get_data_transform(), corners)


def _in_data(axes: Axes, transform: Transform, points: np.ndarray) -> np.ndarray:
    """Keep the coordinates that are numbers of an axis; others, of a line across the panel say, become NaN."""
    is_data = transform.contains_branch_separately(axes.transData)
    return np.where(is_data, points, math.nan)


def _place_names(axis: Axis) -> dict[float, str]:
    """Names at places of an axis; none where the axis shows numbers (matplotlib formats given names by a function)."""
    if not isinstance(axis.get_major_formatter(), FuncFormatter):
        return {}
    texts = [" ".join(label.get_text().split()) for label in axis.get_ticklabels()]
    names = dict(zip(axis.get_majorticklocs().tolist(), texts, strict=False))
    return {} if all(_is_number(name) for name in names.values()) else names


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _cell(value: float, names: Mapping[float, str]) -> str:
    """Write a number with six digits, or the name of the place that it is nearest to."""
    if not math.isfinite(value):
        return ""
    nearest = min(names, key=lambda place: abs(place - value), default=math.inf)
    return names[nearest] if abs(nearest - value) < 0.5 else f"{value:.6g}"


def _colour(artist: Artist | ErrorbarContainer | BarContainer) -> str:
    """Name the colour of a mark, whatever its opacity; none for what has several."""
    if isinstance(artist, ErrorbarContainer):
        artist = artist.lines[2][0]
    if isinstance(artist, BarContainer):
        artist = artist.patches[0]
    if isinstance(artist, Line2D):
        return to_hex(artist.get_color())
    colours = artist.get_edgecolor() if isinstance(artist, LineCollection) else artist.get_facecolor()  # pyright: ignore[reportAttributeAccessIssue]
    rows = np.atleast_2d(np.asarray(colours, dtype=float))
    return to_hex(rows[0]) if len(rows) == 1 else ""


def _clear_legends(figure: Figure, panels: list[Axes]) -> None:
    """Move legends off data: one for all panels below the figure's title, others above their panels."""
    figure.draw_without_rendering()
    legends = [(axes, legend) for axes in panels if (legend := axes.get_legend()) is not None]
    covering = [(axes, legend) for axes, legend in legends if _covers_data(axes, legend)]
    if covering and len(legends) == 1 < len(panels):
        _put_below_title(figure, *covering[0])
        return
    added = max((_put_above(figure, axes, legend) for axes, legend in covering), default=0.0)
    figure.set_figheight(figure.get_figheight() + added)


def _put_below_title(figure: Figure, axes: Axes, legend: Legend) -> None:
    moved = figure.legend(**_entries(axes, legend, figure.bbox.width), loc="upper left", borderaxespad=0.2)
    legend.remove()
    added, title = (
        drawn.get_window_extent(figure.canvas.get_renderer()).height / figure.dpi  # pyright: ignore[reportAttributeAccessIssue]
        for drawn in (moved, figure.texts[0])
    )
    height = figure.get_figheight() + added
    figure.set_figheight(height)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - added / height))  # pyright: ignore[reportCallIssue, reportOptionalMemberAccess]
    moved.set_bbox_to_anchor((0, 1 - 1.6 * title / height), transform=figure.transFigure)


def _put_above(figure: Figure, axes: Axes, legend: Legend) -> float:
    """Put a legend above its panel and the panel's title; return its height."""
    top = axes.transAxes.inverted().transform(axes.title.get_window_extent().p1)[1] if axes.get_title() else 1.0
    entries = _entries(axes, legend, axes.bbox.width)
    moved = axes.legend(**entries, loc="lower left", bbox_to_anchor=(0, top), borderaxespad=0.2)
    figure.draw_without_rendering()
    return moved.get_window_extent().height / figure.dpi


def _entries(axes: Axes, legend: Legend, width: float) -> dict[str, Any]:
    """Take over what a legend says, in as many columns as a width has room for."""
    handles, labels = axes.get_legend_handles_labels()
    texts = [text.get_text() for text in legend.get_texts()]
    if labels != texts:
        handles, labels = [handle for handle in legend.legend_handles if handle is not None], texts
    columns = max(1, min(len(texts), int(width // legend.get_window_extent().width)))
    size, title = legend.get_texts()[0].get_fontsize(), legend.get_title().get_text() or None
    return {"handles": handles, "labels": labels, "title": title, "fontsize": size, "ncols": columns}


def _covers_data(axes: Axes, legend: Legend) -> bool:
    box = legend.get_window_extent()
    paths = [(line.get_path(), line.get_transform()) for line in axes.lines]
    paths += [(patch.get_path(), patch.get_transform()) for patch in axes.patches]
    paths += [(path, drawn.get_transform()) for drawn in _extended(axes) for path in drawn.get_paths()]
    dots = [drawn for drawn in axes.collections if isinstance(drawn, PathCollection)]
    points = [drawn.get_offset_transform().transform(drawn.get_offsets()) for drawn in dots]
    return any(path.transformed(place).intersects_bbox(box, filled=False) for path, place in paths) or any(
        box.contains(*point) for of_one in points for point in of_one
    )


def _extended(axes: Axes) -> list[Collection]:
    return [drawn for drawn in axes.collections if not isinstance(drawn, PathCollection)]

"""How figures look, and how they are saved so that equal results give equal bytes.

A figure has no ground of its own. The book shows it as it is on a light page, and on a dark one with its lightness
turned over and its hues kept (`filter: invert(1) hue-rotate(180deg)`); standing alone it is meant for white paper.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    """Open a figure in the house style and save it as SVG when the block ends.

    Args:
        path: SVG file to write; its name seeds the identifiers inside, so that equal content is equal bytes.
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
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, format="svg", metadata={"Date": None})
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

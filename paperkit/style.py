"""How figures look, and how they are saved so that equal results give equal bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

WIDTH_IN = 6.4
# Okabe and Ito's palette, distinguishable with every common colour vision; in this order for arms.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
NEUTRAL = "#555555"
_RC = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.prop_cycle": cycler(color=COLOURS),
    "legend.frameon": False,
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}


@contextmanager
def drawing(path: Path, *, height_in: float = 3.2, columns: int = 1) -> Iterator[tuple[Figure, list]]:
    """Open a figure in the house style and save it as SVG when the block ends.

    Args:
        path: SVG file to write; its name seeds the identifiers inside, so that equal content is equal bytes.
        height_in: Height in inches; the width is `WIDTH_IN`.
        columns: Number of panels side by side.

    Yields:
        The figure and its axes.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "line.svg"
        >>> with drawing(target) as (figure, (axes,)):
        ...     lines = axes.plot([0, 1], [0, 1])
        >>> target.read_text()[:5]
        '<?xml'
    """
    # From the defaults, not from the reader's own matplotlibrc.
    with plt.style.context(["default", {**_RC, "svg.hashsalt": path.stem}]):
        figure, axes = plt.subplots(1, columns, figsize=(WIDTH_IN, height_in), squeeze=False)
        try:
            yield figure, list(axes[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, format="svg", metadata={"Date": None})
        finally:
            plt.close(figure)

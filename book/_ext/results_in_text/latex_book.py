"""The book through LaTeX (`make pdf`), which does not read SVG: Chromium prints each figure as PDF."""

import re
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms.images import ImageConverter

_SIZE = re.compile(r'width="([\d.]+)pt" height="([\d.]+)pt"')  # as matplotlib writes it
_BARE = "<style>@page { margin: 0 } body { margin: 0 } svg { display: block }</style>"
_OPEN: dict[str, Any] = {}


class FigureAsPdf(ImageConverter):
    """Make the PDF of a figure where there is a Chromium; else Sphinx says that the builder cannot show it."""

    conversion_rules = [("image/svg+xml", "application/pdf")]  # noqa: RUF012 - as Sphinx declares it

    def is_available(self) -> bool:
        """Look for a browser."""
        return shutil.which("chromium") is not None

    def convert(self, _from: Any, _to: Any) -> bool:
        """Print one figure on a sheet of its own size."""
        drawing = Path(_from).read_text(encoding="utf-8")
        size = _SIZE.search(drawing)
        if size is None:
            return False
        if not _OPEN:
            _OPEN["playwright"] = sync_playwright().start()
            chromium = _OPEN["playwright"].chromium
            _OPEN["browser"] = chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = _OPEN["browser"].new_page()
        page.set_content(_BARE + drawing.partition("?>")[2])
        width, height = (f"{float(points) / 72}in" for points in size.groups())
        page.pdf(path=str(_to), page_ranges="1", width=width, height=height)
        page.close()
        return True


def close(app: Sphinx, exception: Exception | None) -> None:  # noqa: ARG001 - an event
    """End the browser."""
    if _OPEN:
        _OPEN.pop("browser").close()
        _OPEN.pop("playwright").stop()


def setup(app: Sphinx) -> None:
    """Register the converter, which works for builders that cannot show SVG."""
    app.add_post_transform(FigureAsPdf)
    app.connect("build-finished", close)

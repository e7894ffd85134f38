"""The book through LaTeX (`make pdf`), which does not read SVG: Chromium prints each figure as PDF."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from sphinx.transforms.post_transforms.images import ImageConverter

_SIZE = re.compile(r'width="([\d.]+)pt" height="([\d.]+)pt"')  # as matplotlib writes it
_BARE = "<style>@page {{ margin: 0; size: {}pt {}pt }} body {{ margin: 0 }} svg {{ display: block }}</style>"
_QUIETLY = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")


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
        with tempfile.TemporaryDirectory() as scratch:
            page = Path(scratch, "figure.html")
            page.write_text(_BARE.format(*size.groups()) + drawing.partition("?>")[2], encoding="utf-8")
            command = ["chromium", *_QUIETLY, f"--user-data-dir={scratch}/profile", f"--print-to-pdf={_to}", page]
            subprocess.run(command, check=True, capture_output=True)
        return True

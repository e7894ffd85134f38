"""Cells as a notebook, and the book as LaTeX: no TeX is needed to write it, but Chromium for the figures."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.built_book import BOOK, needs_browser
from tests.tiny_book import BIBLIOGRAPHY

pytestmark = pytest.mark.filterwarnings("ignore:.*OptionParser.*:DeprecationWarning")
SIZE = 'xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt"'
DRAWING = f'<?xml version="1.0"?>\n<svg {SIZE}><path d="M0 0h9"/></svg>'
PAGE = """It is {result}`lion/verdicts:C6.tests[0]` better: {verdict}`lion:C6`.

```{headline} lion
```

```{claims} lion
```

```{result-figure} lion/a.svg
:alt: A line.

The line rises.
```

```{run-cell}
print(1)
```
"""


def test_the_cells_of_a_page_are_a_notebook(tiny):
    cell = "```{run-cell}\nprint(%d)\n```"
    html = tiny.build(f"{cell % 1}\n\n## Later\n\n{cell % 2}")
    (address,) = set(re.findall(r'href="([^"]+\.ipynb)"', html))
    notebook = nbformat.read(tiny.output / address, as_version=4)
    nbformat.validate(notebook)
    code = [one for one in notebook.cells if one.cell_type == "code"]
    assert [(one.source, one.outputs[0].text) for one in code] == [("print(1)", "1\n"), ("print(2)", "2\n")]
    assert notebook.cells[3].source == "## Later"


@needs_browser
def test_a_page_becomes_latex_and_its_figure_a_pdf_of_one_sheet(tiny):
    tiny.write_figure("lion/a.svg", DRAWING)
    tex = tiny.build(PAGE + BIBLIOGRAPHY, builder="latex")
    assert r"\sphinxincludegraphics" in tex
    assert "{{a}.pdf}" in tex
    drawn = (tiny.output / "a.pdf").read_bytes()
    assert drawn.startswith(b"%PDF")
    assert b"/Count 1" in drawn


@needs_browser
@pytest.mark.soak
def test_the_whole_book_becomes_latex_without_a_warning(tmp_path):
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [sys.executable, jupyter_book, "build", BOOK, "--builder", "latex", "--path-output", tmp_path]
    done = subprocess.run([*command, "-W", "-n", "--keep-going"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "_build/latex/scientific_spaces_replications.tex").is_file()

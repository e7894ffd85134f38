"""The cells of a page as a notebook beside the built page, with what they printed when the book was built."""

from pathlib import Path

import nbformat
from docutils import nodes
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.application import Sphinx

from results_in_text.nodes import block
from results_in_text.pages import download_link

_KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
_HOW = "From the page “{page}”. Put this file into the folder of a clone, and run it there, after `make repro`."


def offer_notebook(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Write the notebook of a page that has cells, and link to it below each of them."""
    shown = [node for node in doctree.findall(nodes.container) if "run-cell" in node["classes"]]
    if app.builder.format != "html" or not shown:
        return
    cells = [new_markdown_cell(_HOW.format(page=app.env.titles[docname].astext()), id="page")]
    for number, node in enumerate(shown, start=1):
        code, printed = (found.astext() for found in node.findall(nodes.literal_block))
        section = next(node.parent.findall(nodes.title))
        output = new_output("stream", name="stdout", text=f"{printed}\n")
        cells += [
            new_markdown_cell(f"## {section.astext()}", id=f"section-{number}"),
            new_code_cell(code, outputs=[output], execution_count=number, id=f"cell-{number}"),
        ]
        node += block(download_link(docname, f"notebooks/{docname}.ipynb", "notebook"), css="figure-files")
    file = Path(app.outdir, "downloads", "notebooks", f"{docname}.ipynb")
    file.parent.mkdir(parents=True, exist_ok=True)
    notebook = new_notebook(cells=cells, metadata={"kernelspec": _KERNEL})
    file.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")

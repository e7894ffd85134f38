"""The directive `result-figure`: a numbered figure drawn from results, which stands outside the book's folder."""

import os
import posixpath
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from results_in_text.code_pages import Code
from results_in_text.page_notes import depend_on
from results_in_text.posts import page_of
from results_in_text.result_cards import pass_through


class figure_files(nodes.General, nodes.Element):  # docutils finds a node's visitor by the name of its class
    """The line below a figure: attributes `script` (an address or empty), `numbers` (a download or empty)."""


class ResultFigure(Figure, SphinxDirective):
    """Directive `result-figure`: argument `name/file.svg` below the figures root, content the caption.

    Its label follows from the path: lion/loss_curves.svg is figure-lion-loss-curves.
    """

    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Make the figure."""
        path = Path(self.config.figures_root, self.arguments[0])
        if not path.is_file():
            message = f"{self.get_location()}: figure {path} is missing; `dvc repro` draws it"
            raise ExtensionError(message)
        if "alt" not in self.options or not self.content:
            message = f"{self.get_location()}: figure {self.arguments[0]} needs :alt: and a caption"
            raise ExtensionError(message)
        code = Code(Path(self.config.replications_root).parent, page_of(path.parent.name))
        self.options["name"] = nodes.make_id(f"figure-{self.arguments[0].removesuffix('.svg')}")
        # Sphinx itself copies the file, notes it as a dependency of the page, and links what has a width to the file.
        self.arguments[0] = self._from_page(path)
        self.options["class"] = ["result-figure", "dark-light"]
        self.options["width"] = _WIDTH
        figure, *others = super().run()
        numbers = path.with_suffix(".csv")
        figure += figure_files(
            script=code.figure(path.name),
            numbers=self._download(numbers) if numbers.is_file() else "",
        )
        return [figure, *others]

    def _from_page(self, path: Path) -> str:
        return os.path.relpath(path, Path(self.env.doc2path(self.env.docname)).parent).replace(os.sep, "/")

    def _download(self, path: Path) -> str:
        file, _ = self.env.relfn2path(self._from_page(path))
        depend_on(self.env, Path(file))
        return self.env.dlfiles.add_file(self.env.docname, file)


# paperkit.style.WIDTH_IN in points; on a phone the page is narrower, and the image with it.
_WIDTH = "460.8pt"


def visit_figure_files(translator: HTML5Translator, node: figure_files) -> None:
    """Write the line: where the figure's script, numbers and drawing are."""
    builder, here = translator.builder, translator.builder.current_docname
    # The image stands before the line: its address is already that of the file as copied.
    links = {"SVG": next(iter(node.parent.findall(nodes.image)))["uri"]}
    if node["numbers"]:
        links = {"numbers (CSV)": posixpath.join(builder.dlpath, node["numbers"]), **links}
    if node["script"]:
        links = {"script": f"{'../' * here.count('/')}{node['script']}", **links}
    line = " · ".join(f'<a href="{href}">{text}</a>' for text, href in links.items())
    translator.body.append(f'<p class="figure-files">{line}</p>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the directive and its line of links."""
    other = (pass_through, pass_through)
    app.add_node(figure_files, html=(visit_figure_files, pass_through), latex=other, text=other)
    app.add_directive("result-figure", ResultFigure)

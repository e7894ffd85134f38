"""The directive `result-figure`: a numbered figure drawn from results, which stands outside the book's folder."""

import os
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.directives.patches import Figure
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


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
        self.options["name"] = nodes.make_id(f"figure-{self.arguments[0].removesuffix('.svg')}")
        # Sphinx itself copies the file and notes it as a dependency of the page.
        page_folder = Path(self.env.doc2path(self.env.docname)).parent
        self.arguments[0] = os.path.relpath(path, page_folder).replace(os.sep, "/")
        self.options["class"] = ["result-figure", "dark-light"]
        return super().run()

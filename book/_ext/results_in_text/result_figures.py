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
    """Directive `result-figure`: argument `name/file.svg` below the figures root, content the caption."""

    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "name": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Make the figure."""
        path = Path(self.config.figures_root, self.arguments[0])
        missing = [option for option in self.option_spec if option not in self.options]
        if not path.is_file():
            message = f"{self.get_location()}: figure {path} is missing; `dvc repro` draws it"
            raise ExtensionError(message)
        if missing or not self.content:
            message = (
                f"{self.get_location()}: figure {self.arguments[0]} lacks {', '.join([*missing, 'or a caption'])}; "
                "give :alt:, :name: and a caption"
            )
            raise ExtensionError(message)
        # Sphinx itself copies the file and notes it as a dependency of the page.
        page_folder = Path(self.env.doc2path(self.env.docname)).parent
        self.arguments[0] = os.path.relpath(path, page_folder).replace(os.sep, "/")
        self.options["class"] = ["result-figure", "dark-light"]
        return super().run()

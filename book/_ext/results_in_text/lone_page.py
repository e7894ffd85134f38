"""A book whose root is a replication's page: that page alone, as `paperkit.pages` builds it for `make check`.

What it says of pages that were left out cannot be a link; all that is its own is checked as in the whole book.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from results_in_text.of_replication import replication_of
from results_in_text.posts import page_of


def is_left_out(app: Sphinx, folder: str) -> bool:
    """Tell whether a book of one page alone leaves out the results of a folder."""
    return replication_of(app.config.root_doc) not in (None, page_of(folder))


def unlink(app: Sphinx, env: BuildEnvironment, node: nodes.Element, content: nodes.Element) -> nodes.Element | None:
    """Show a reference to the list of citations as plain text where that page was left out."""
    left_out = "cite" not in env.found_docs and replication_of(app.config.root_doc)
    return nodes.inline("", "", content) if left_out and node["reftarget"].startswith("cite-") else None


def setup(app: Sphinx) -> None:
    """Connect with the search for targets."""
    app.connect("missing-reference", unlink)

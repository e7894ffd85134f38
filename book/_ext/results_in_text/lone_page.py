"""A book whose root is a replication's page: its pages alone, as `paperkit.pages` builds them for `make check`.

What it says of pages that were left out cannot be a link; all that is its own is checked as in the whole book.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

from results_in_text.of_replication import replication_of
from results_in_text.posts import page_of


def is_left_out(app: Sphinx, folder: str) -> bool:
    """Tell whether a book of one replication alone leaves out the results of a folder."""
    return replication_of(app.config.root_doc) not in (None, page_of(folder))


def unlink(app: Sphinx, doctree: nodes.document) -> None:
    """Show references to pages that were left out as plain text."""
    name = replication_of(app.config.root_doc)
    if name is None:
        return
    of_others = re.compile(rf"cite-|(claim|erratum)-(?!{name.replace('_', '-')}-)")
    for node in list(doctree.findall(pending_xref)):
        target = node["reftarget"]
        is_page = node.get("refdomain") == "doc" and Path(app.srcdir, f"{target}.md").is_file()
        if of_others.match(target) or (is_page and target not in app.env.found_docs):
            node.replace_self(nodes.inline("", "", *(node.children or [nodes.Text(target)])))


def setup(app: Sphinx) -> None:
    """Connect with the reading of pages."""
    app.connect("doctree-read", unlink)

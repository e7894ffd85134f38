"""What helps readers find and read: the board of verdicts, the map of posts, search, and roles for screen readers."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from results_in_text.bilingual_search import SearchEnglishAndChinese
from results_in_text.posts_map import PostsMap
from results_in_text.result_cards import pass_through
from results_in_text.run_cells import RunCell
from results_in_text.tables import depart_facet, facet, visit_facet
from results_in_text.verdict_board import VerdictBoard, VerdictTable

# What the theme and docutils write, and what WCAG 2.1 wants instead.
_REPAIRS = {
    # ARIA 1.2 has given this role up; the entries stand in a list.
    'role="doc-biblioentry"': 'role="listitem"',
    # What scrolls has to be reachable by keyboard.
    '<div class="pst-scrollable-table-container">': '<div class="pst-scrollable-table-container" tabindex="0">',
    '<figure class="align-default"': '<figure tabindex="0" class="align-default"',
}


def repair_roles(
    app: Sphinx,  # noqa: ARG001 - Sphinx passes five arguments
    pagename: str,  # noqa: ARG001
    templatename: str,  # noqa: ARG001
    context: dict[str, Any],
    doctree: nodes.document | None,  # noqa: ARG001
) -> None:
    """Mend the HTML of a page where docutils and the theme leave out readers with a keyboard or a screen reader."""
    for found, wanted in _REPAIRS.items():
        context["body"] = context.get("body", "").replace(found, wanted)


def label_toggles(
    app: Sphinx,  # noqa: ARG001 - Sphinx passes five arguments
    pagename: str,  # noqa: ARG001
    templatename: str,  # noqa: ARG001
    context: dict[str, Any],
    doctree: nodes.document | None,  # noqa: ARG001
) -> None:
    """Name what unfolds in the contents: the theme gives it an icon alone."""
    contents = context.get("generate_toctree_html")
    if contents is None:
        return

    def labelled(*arguments: Any, **options: Any) -> str:
        return str(contents(*arguments, **options)).replace("<summary>", '<summary aria-label="Pages below this one">')

    context["generate_toctree_html"] = labelled


def setup(app: Sphinx) -> None:
    """Register everything with Sphinx."""
    app.add_node(
        facet, html=(visit_facet, depart_facet), latex=(pass_through, pass_through), text=(pass_through, pass_through)
    )
    app.add_directive("verdict-table", VerdictTable)
    app.add_directive("verdict-board", VerdictBoard)
    app.add_directive("posts-map", PostsMap)
    app.add_directive("run-cell", RunCell)
    app.add_search_language(SearchEnglishAndChinese)
    app.connect("html-page-context", repair_roles)
    app.connect("html-page-context", label_toggles, priority=900)  # after the theme has made them

"""What helps readers find and read: the board of verdicts, the map of posts, search, and roles for screen readers."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from results_in_text.bilingual_search import SearchEnglishAndChinese
from results_in_text.posts_map import PostsMap
from results_in_text.result_cards import pass_through
from results_in_text.run_cells import RunCell, run_ahead
from results_in_text.tables import depart_facet, facet, visit_facet
from results_in_text.verdict_board import Answers, VerdictBoard

# What the theme and docutils write, and what WCAG 2.1 wants instead.
_REPAIRS = {
    # ARIA 1.2 has given this role up; the entries stand in a list.
    'role="doc-biblioentry"': 'role="listitem"',
    # What scrolls has to be reachable by keyboard.
    '<div class="pst-scrollable-table-container">': '<div class="pst-scrollable-table-container" tabindex="0">',
    # What unfolds in the contents has an icon alone.
    '<summary><span class="toctree-toggle"': '<summary aria-label="Pages below this one"><span class="toctree-toggle"',
}


def _repaired(html: str) -> str:
    for found, wanted in _REPAIRS.items():
        html = html.replace(found, wanted)
    return html


def repair_roles(
    app: Sphinx,  # noqa: ARG001 - Sphinx passes five arguments
    pagename: str,  # noqa: ARG001
    templatename: str,  # noqa: ARG001
    context: dict[str, Any],
    doctree: nodes.document | None,  # noqa: ARG001
) -> None:
    """Mend the HTML of a page where docutils and the theme leave out readers with a keyboard or a screen reader."""
    context["body"] = _repaired(context.get("body", ""))
    if contents := context.get("generate_toctree_html"):
        context["generate_toctree_html"] = lambda *names, **options: _repaired(str(contents(*names, **options)))


def share_contents(
    app: Sphinx,
    pagename: str,
    templatename: str,  # noqa: ARG001
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Make the contents once for all pages of one depth that are made from files: none of them is in it."""
    if doctree is None:
        made, kept = context["toctree"], app.env.temp_data.setdefault("contents", {})

        def shared(**options: Any) -> str:
            key = pagename.count("/"), *options.items()
            if key not in kept:
                kept[key] = made(**options)
            return kept[key]

        context["toctree"] = shared


def setup(app: Sphinx) -> None:
    """Register everything with Sphinx."""
    app.add_node(
        facet, html=(visit_facet, depart_facet), latex=(pass_through, pass_through), text=(pass_through, pass_through)
    )
    app.add_directive("answers", Answers)
    app.add_directive("verdict-board", VerdictBoard)
    app.add_directive("posts-map", PostsMap)
    app.add_directive("run-cell", RunCell)
    app.connect("env-before-read-docs", run_ahead)
    app.add_search_language(SearchEnglishAndChinese)
    app.connect("html-page-context", share_contents, priority=400)  # before the theme takes the contents
    app.connect("html-page-context", repair_roles, priority=900)  # after the theme has made the contents

"""Nodes of a page that only the book has, and the HTML they become: live numbers and their cards, badges, tables.

A live number is a link to its provenance, and has a card that hovering, focus or a tap shows: a list of facts at the
page's end, hidden until `result_card.js` shows it. `aria-describedby` ties it to the number, so that a screen reader
reads it without any script. Numbers of one test share one card.
"""

import posixpath
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator
from sphinx.writers.latex import LaTeXTranslator

from paperkit.answers import Record
from results_in_text.records import VERDICT_CLASSES, BookDataError, Facts, verdict_words

Row = list[list[nodes.Node]]
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


# docutils finds a node's visitor by the name of its class.
class result_value(nodes.inline):
    """A number that came from results/: `address`, `spec` (the format asked for), `page` and `anchor`, `facts`."""


class quoted_value(nodes.inline):
    """A number that a source reports; attribute `facts`."""


class result_cards(nodes.General, nodes.Element):
    """All cards of a page, attribute `cards`: facts by id."""


class facet(nodes.inline):
    """What a row can be filtered by, and its column sorted by; the HTML carries both as data."""


class folded(nodes.General, nodes.Element):
    """Content that opens on a click; its first child is the line that is always seen."""


class always_seen(nodes.General, nodes.TextElement):
    """The line of a `folded` that is always seen."""


class figure_files(nodes.General, nodes.Element):
    """The line below a figure: attributes `script` (an address or empty), `numbers` (a download or empty)."""


def give_cards(app: Sphinx, doctree: nodes.document, docname: str) -> None:  # noqa: ARG001 - an event
    """Give each number of a page its card, and put the cards at the page's end."""
    cards: list[Facts] = []
    for node in doctree.findall(lambda found: isinstance(found, result_value | quoted_value)):
        if node["facts"] not in cards:
            cards.append(node["facts"])
        node["card"] = f"card-{cards.index(node['facts']) + 1}"
    if cards:
        doctree += result_cards(cards={f"card-{number}": facts for number, facts in enumerate(cards, start=1)})


def _element(node: result_value) -> str:
    """Name the element of a live number: a link may not stand in a link."""
    parent = node.parent
    while parent is not None and not isinstance(parent, nodes.reference):
        parent = parent.parent
    return "a" if parent is None else "span"


def visit_result_value(translator: HTML5Translator, node: result_value) -> None:
    """Open the link to the provenance."""
    described = {"data-address": node["address"], "data-format": node["spec"], "aria-describedby": node["card"]}
    element = _element(node)
    if element == "a":
        target = translator.builder.get_relative_uri(translator.builder.current_docname, node["page"])
        described["href"] = f"{target}#{node['anchor']}"
    translator.body.append(translator.starttag(node, element, "", CLASS="result", **described))


def depart_result_value(translator: HTML5Translator, node: result_value) -> None:
    """Close what was opened."""
    translator.body.append(f"</{_element(node)}>")


def visit_quoted_value(translator: HTML5Translator, node: quoted_value) -> None:
    """Open the span, which can be focused for its card."""
    described = {"tabindex": "0", "aria-describedby": node["card"]}
    translator.body.append(translator.starttag(node, "span", "", CLASS="reported", **described))


def visit_facet(translator: HTML5Translator, node: facet) -> None:
    """Open the span, with the facet's name, its value and the sort key as data."""
    data = {f"data-{key}": node[key] for key in ("facet", "value", "order")}
    translator.body.append(translator.starttag(node, "span", "", **data))


def depart_span(translator: HTML5Translator, node: nodes.inline) -> None:  # noqa: ARG001 - docutils calls it so
    """Close a span."""
    translator.body.append("</span>")


def visit_result_cards(translator: HTML5Translator, node: result_cards) -> None:
    """Write the cards, hidden."""
    write = translator.body.append
    write('<div class="result-cards">\n')
    for card, facts in node["cards"].items():
        write(f'<div class="result-card" id="{card}" role="tooltip" hidden><dl>')
        for name, text in facts:
            write(f"<dt>{translator.encode(name)}</dt><dd>{translator.encode(text)}</dd>")
        write("</dl></div>\n")
    write("</div>\n")
    raise nodes.SkipNode


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


def visit_folded(translator: HTML5Translator, node: folded | always_seen) -> None:
    """Open the HTML element of a folded block or of its line."""
    translator.body.append(translator.starttag(node, _FOLDED[type(node)], ""))


def depart_folded(translator: HTML5Translator, node: folded | always_seen) -> None:
    """Close it."""
    translator.body.append(f"</{_FOLDED[type(node)]}>\n")


def end_line(translator: LaTeXTranslator, node: always_seen) -> None:  # noqa: ARG001 - docutils calls it so
    """End the line that stands above what HTML folds."""
    translator.body.append("\n\n")


def pass_through(translator: Any, node: nodes.Node) -> None:
    """Write nothing of its own: builders other than HTML show only the text."""


_FOLDED = {folded: "details", always_seen: "summary"}
_PASS = (pass_through, pass_through)
_HTML = {
    result_value: (visit_result_value, depart_result_value),
    quoted_value: (visit_quoted_value, depart_span),
    facet: (visit_facet, depart_span),
    result_cards: (visit_result_cards, pass_through),
    figure_files: (visit_figure_files, pass_through),
    folded: (visit_folded, depart_folded),
    always_seen: (visit_folded, depart_folded),
}


def setup(app: Sphinx) -> None:
    """Register the nodes with every writer, and the cards with the page's end."""
    for node, visitors in _HTML.items():
        latex = (pass_through, end_line) if node is always_seen else _PASS
        app.add_node(node, html=visitors, latex=latex, text=_PASS)
    # After 500, when references to other pages have their texts.
    app.connect("doctree-resolved", give_cards, priority=600)


# --- what directives put together ------------------------------------------------------------------------------


def verdict_badge(claim: Record) -> nodes.inline:
    """Make the badge of a claim: a dashed border marks an exploratory one, a dotted border a fragile verdict."""
    verdict = claim["verdict"]
    if verdict not in VERDICT_CLASSES:
        known = ", ".join(word for word in VERDICT_CLASSES if word)
        message = f"claim {claim['id']} has the verdict {verdict!r}; allowed: {known}, or null"
        raise BookDataError(message)
    classes = ["verdict", f"verdict-{VERDICT_CLASSES[verdict]}", *["verdict-exploratory"] * claim["exploratory"]]
    text = verdict_words(claim)
    return nodes.inline(text, text, classes=classes)


def facet_paragraph(name: str, value: str, *shown: nodes.Node, order: str | None = None) -> nodes.paragraph:
    """Make a paragraph that says by what its row can be filtered and sorted."""
    # The order of the first facet in a cell counts; it is compared as text, by default the value in small letters.
    key = value.lower() if order is None else order
    return nodes.paragraph("", "", facet("", "", *(shown or [nodes.Text(value)]), facet=name, value=value, order=key))


def block(*parts: nodes.Node | str, css: str = "", **attributes: Any) -> nodes.paragraph:
    """Make a paragraph of nodes and plain texts."""
    made = [nodes.Text(part) if isinstance(part, str) else part for part in parts]
    return nodes.paragraph("", "", *made, **({"classes": [css]} if css else {}), **attributes)


def paragraph(text: str) -> nodes.paragraph:
    """Make a paragraph in which no number is broken at its minus or its exponent."""
    parts = filter(None, _NUMBER.split(text))
    return block(*(nodes.inline("", part, classes=["result"]) if _NUMBER.fullmatch(part) else part for part in parts))


def table(headings: list[str], rows: list[Row], *, css_class: str, widths: list[int]) -> nodes.table:
    """Make a table; the linter leaves alone what is generated."""
    group = nodes.tgroup(cols=len(headings))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead("", _table_row([[paragraph(heading)] for heading in headings]))
    group += nodes.tbody("", *map(_table_row, rows))
    return nodes.table("", group, classes=[css_class, "colwidths-given"], generated=True)


def _table_row(cells: Row) -> nodes.row:
    return nodes.row("", *[nodes.entry("", *cell) for cell in cells])

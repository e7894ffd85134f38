"""Nodes of a page that only the book has, and the HTML they become: live numbers and their cards, badges, tables.

A live number is a link to its provenance, and has a card that hovering, focus or a tap shows: a list of facts at the
page's end, hidden until `result_card.js` shows it. `aria-describedby` ties it to the number, so that a screen reader
reads it without any script. Numbers of one test share one card.
"""

import posixpath
import re
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import traverse_parent
from sphinx.writers.html5 import HTML5Translator

from paperkit.answers import Record
from results_in_text.records import VERDICT_CLASSES, verdict_words

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
    cards: dict[tuple[tuple[str, str], ...], str] = {}
    for node in doctree.findall(lambda found: isinstance(found, result_value | quoted_value)):
        node["card"] = cards.setdefault(tuple(node["facts"]), f"card-{len(cards) + 1}")
    if cards:
        doctree += result_cards(cards={card: facts for facts, card in cards.items()})


def _tag_of(node: nodes.Node) -> str:
    """Name the HTML element of a node; a link may not stand in a link."""
    if not isinstance(node, result_value):
        return {folded: "details", always_seen: "summary"}.get(type(node), "span")
    return "span" if any(traverse_parent(node, nodes.reference)) else "a"


def _open(translator: HTML5Translator, node: nodes.Element) -> None:
    """Open the element: a number as a link to its provenance, a facet with all that it says as data."""
    tag, described = _tag_of(node), {}
    if isinstance(node, result_value):
        described = {"data-address": node["address"], "data-format": node["spec"], "CLASS": "result"}
        if tag == "a":
            target = translator.builder.get_relative_uri(translator.builder.current_docname, node["page"])
            described["href"] = f"{target}#{node['anchor']}"
    elif isinstance(node, quoted_value):
        described = {"tabindex": "0", "CLASS": "reported"}
    elif isinstance(node, facet):
        described = {f"data-{key}": node[key] for key in ("facet", "value", "order")}
    if "card" in node:
        described["aria-describedby"] = node["card"]
    translator.body.append(translator.starttag(node, tag, "", **described))


def _close(translator: HTML5Translator, node: nodes.Element) -> None:
    translator.body.append(f"</{_tag_of(node)}>" + "\n" * isinstance(node, folded | always_seen))


def _write_cards(translator: HTML5Translator, node: result_cards) -> None:
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


def _write_files(translator: HTML5Translator, node: figure_files) -> None:
    """Write the line: where the figure's script, numbers and drawing are."""
    builder = translator.builder
    links = {
        "script": node["script"] and f"{'../' * builder.current_docname.count('/')}{node['script']}",
        "numbers (CSV)": node["numbers"] and posixpath.join(builder.dlpath, node["numbers"]),
        # The image stands before the line: its address is already that of the file as copied.
        "SVG": next(iter(node.parent.findall(nodes.image)))["uri"],
    }
    line = " · ".join(f'<a href="{href}">{text}</a>' for text, href in links.items() if href)
    translator.body.append(f'<p class="figure-files">{line}</p>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the nodes with every writer, and the cards with the page's end."""

    def nothing(*_: Any) -> None: ...

    def end_line(translator: Any, _: nodes.Node) -> None:
        translator.body.append("\n\n")  # above what HTML folds

    elements = dict.fromkeys((result_value, quoted_value, facet, folded, always_seen), (_open, _close))
    for node, html in {**elements, result_cards: (_write_cards, None), figure_files: (_write_files, None)}.items():
        latex = end_line if node is always_seen else nothing
        app.add_node(node, html=html, latex=(nothing, latex), text=(nothing, nothing))
    # After 500, when references to other pages have their texts.
    app.connect("doctree-resolved", give_cards, priority=600)


def verdict_badge(claim: Record) -> nodes.inline:
    """Make the badge of a claim: a dashed border marks an exploratory one, a dotted border a fragile verdict."""
    word, text = VERDICT_CLASSES[claim["verdict"]], verdict_words(claim)
    classes = ["verdict", f"verdict-{word}", *["verdict-exploratory"] * claim["exploratory"]]
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


def fold(line: Sequence[nodes.Node], *content: nodes.Node, css: str) -> folded:
    """Make what opens on a click on its line."""
    return folded("", always_seen("", "", *line), *content, classes=[css])


def paragraph(text: str) -> nodes.paragraph:
    """Make a paragraph in which no number is broken at its minus or its exponent."""
    parts = filter(None, _NUMBER.split(text))
    return block(*(nodes.inline("", part, classes=["result"]) if _NUMBER.fullmatch(part) else part for part in parts))


def table(headings: list[str], rows: list[Row], *, css_class: str, widths: list[int]) -> nodes.table:
    """Make a table; the linter leaves alone what is generated."""

    def row(cells: Row) -> nodes.row:
        return nodes.row("", *[nodes.entry("", *cell) for cell in cells])

    columns = [nodes.colspec(colwidth=width) for width in widths]
    head = nodes.thead("", row([[paragraph(heading)] for heading in headings]))
    group = nodes.tgroup("", *columns, head, nodes.tbody("", *map(row, rows)), cols=len(headings))
    return nodes.table("", group, classes=[css_class, "colwidths-given"], generated=True)


def bullets(*items: nodes.Node, **attributes: Any) -> nodes.bullet_list:
    """Make a list of paragraphs."""
    return nodes.bullet_list("", *[nodes.list_item("", item) for item in items], **attributes)

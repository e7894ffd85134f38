"""Tables that a page makes from results: numbers that do not break, and what a script sorts and filters by."""

import re
from typing import Any

from docutils import nodes
from sphinx.writers.html5 import HTML5Translator

Row = list[list[nodes.Node]]
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


class facet(nodes.inline):  # docutils finds a node's visitor by the name of its class
    """What a row can be filtered by, and its column sorted by; the HTML carries both as data."""


def visit_facet(translator: HTML5Translator, node: facet) -> None:
    """Open the span, with the facet's name, its value and the sort key as data."""
    data = {f"data-{key}": node[key] for key in ("facet", "value", "order")}
    translator.body.append(translator.starttag(node, "span", "", **data))


def depart_facet(translator: HTML5Translator, node: facet) -> None:  # noqa: ARG001 - docutils calls it so
    """Close the span."""
    translator.body.append("</span>")


def facet_paragraph(name: str, value: str, *shown: nodes.Node, order: str | None = None) -> nodes.paragraph:
    """Make a paragraph that says by what its row can be filtered and sorted."""
    # The order of the first facet in a cell counts; it is compared as text, by default the value in small letters.
    key = value.lower() if order is None else order
    return nodes.paragraph("", "", facet("", "", *(shown or [nodes.Text(value)]), facet=name, value=value, order=key))


def paragraph(text: str) -> nodes.paragraph:
    """Make a paragraph in which no number is broken at its minus or its exponent."""
    parts: list[Any] = [
        nodes.inline(part, part, classes=["result"]) if _NUMBER.fullmatch(part) else nodes.Text(part)
        for part in filter(None, _NUMBER.split(text))
    ]
    return nodes.paragraph(text, "", *parts)


def table(headings: list[str], rows: list[Row], *, css_class: str, widths: list[int]) -> nodes.table:
    """Make a table."""
    group = nodes.tgroup(cols=len(headings))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead("", _table_row([[paragraph(heading)] for heading in headings]))
    group += nodes.tbody("", *[_table_row(row) for row in rows])
    return nodes.table("", group, classes=[css_class, "colwidths-given"], generated=True)


def _table_row(cells: Row) -> nodes.row:
    return nodes.row("", *[nodes.entry("", *cell) for cell in cells])

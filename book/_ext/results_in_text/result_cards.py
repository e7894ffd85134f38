"""A number of a page as a link to its provenance, and the card that hovering, focus or a tap shows.

The card is a list of facts at the end of the page, hidden until `result_card.js` shows it; `aria-describedby` ties
it to the number, so a screen reader reads it without any script. Numbers of one test share one card.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from results_in_text.provenance_files import Facts


class result_value(nodes.inline):  # docutils finds a node's visitor by the name of its class
    """A number that came from results/."""

    # Attributes: `address`, `spec` (the format asked for, or empty), `page` and `anchor` of its provenance, `facts`.


class quoted_value(nodes.inline):
    """A number that a source reports; attribute `facts`."""


class result_cards(nodes.General, nodes.Element):
    """All cards of a page, attribute `cards`: facts by id."""


def anchor(*parts: str) -> str:
    """Make an id for HTML: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(filter(None, parts)).lower()).strip("-")


def give_cards(app: Sphinx, doctree: nodes.document, docname: str) -> None:  # noqa: ARG001 - an event
    """Give each number of a page its card, and put the cards at the page's end."""
    cards: dict[str, Facts] = {}
    for node in doctree.findall(lambda found: isinstance(found, result_value | quoted_value)):
        known = [card for card, facts in cards.items() if facts == node["facts"]]
        card = known[0] if known else f"card-{len(cards) + 1}"
        cards[card] = node["facts"]
        node["card"] = card
    if cards:
        doctree += result_cards(cards=cards)


def visit_result_value(translator: HTML5Translator, node: result_value) -> None:
    """Open the link to the provenance."""
    described = {"data-address": node["address"], "data-format": node["spec"], "aria-describedby": node["card"]}
    if any(isinstance(parent, nodes.reference) for parent in _ancestors(node)):
        # A link may not stand in a link.
        translator.body.append(translator.starttag(node, "span", "", CLASS="result", **described))
        return
    target = translator.builder.get_relative_uri(translator.builder.current_docname, node["page"])
    href = f"{target}#{node['anchor']}"
    translator.body.append(translator.starttag(node, "a", "", CLASS="result", href=href, **described))


def depart_result_value(translator: HTML5Translator, node: result_value) -> None:
    """Close what was opened."""
    linked = any(isinstance(parent, nodes.reference) for parent in _ancestors(node))
    translator.body.append("</span>" if linked else "</a>")


def visit_quoted_value(translator: HTML5Translator, node: quoted_value) -> None:
    """Open the span, which can be focused for its card."""
    described = {"tabindex": "0", "aria-describedby": node["card"]}
    translator.body.append(translator.starttag(node, "span", "", CLASS="reported", **described))


def depart_quoted_value(translator: HTML5Translator, node: quoted_value) -> None:  # noqa: ARG001 - docutils calls it so
    """Close the span."""
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


def pass_through(translator: Any, node: nodes.Node) -> None:
    """Write nothing of its own: builders other than HTML show only the text."""


def setup(app: Sphinx) -> None:
    """Register the nodes with every writer, and the cards with the page's end."""
    other = {"latex": (pass_through, pass_through), "text": (pass_through, pass_through)}
    app.add_node(result_value, html=(visit_result_value, depart_result_value), **other)
    app.add_node(quoted_value, html=(visit_quoted_value, depart_quoted_value), **other)
    app.add_node(result_cards, html=(visit_result_cards, pass_through), **other)
    # After 500, when references to other pages have their texts.
    app.connect("doctree-resolved", give_cards, priority=600)


def _ancestors(node: nodes.Node) -> list[nodes.Node]:
    found, parent = [], node.parent
    while parent is not None:
        found.append(parent)
        parent = parent.parent
    return found

"""The role `given`: the verdicts for which a sentence was written; and a linter of findings that do not say them.

What stands above the section "Results" says what was found. A paragraph or caption there that names a claim, by a
number, a badge or its id, is given the claim's verdict, so that it cannot survive a word that has changed.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxRole

from paperkit.answers import changed_words, given_verdicts, read_records
from paperkit.results import ResultsError
from results_in_text.of_replication import replication_of
from results_in_text.page_notes import depend_on, is_result_page, line_of, note_problem
from results_in_text.result_cards import result_value
from results_in_text.result_roles import Output

_ADDRESS = re.compile(r"(\w+)/(?:timing_)?verdicts:(\w+)")
_ID = re.compile(r"(?<![\w-])[CX]\d+[a-z]?r?(?![\w-])")


class given(nodes.inline):  # named like the role
    """Verdicts (attribute `verdicts`) for which the block around it was written; nobody sees it."""


class GivenRole(SphinxRole):
    """Role `given`: verdicts such as `lion:C6 contradicted; lion:C4 holds`, after what was written for them."""

    def run(self) -> Output:
        """Compare the words with those of now, and note the files as dependencies of the page."""
        results = Path(self.config.results_root)
        try:
            verdicts = [(folder, claim) for folder, claim, _ in given_verdicts(self.text)]
            changed = changed_words(results, self.text)
        except ResultsError as error:
            source, line = self.get_source_info()
            message = f"{source}:{line}: role given, {self.text!r}: {error}"
            raise ExtensionError(message) from error
        for sentence in changed:
            note_problem(self.env, self.lineno, f"this line states an outcome, and {sentence}")
        for folder, _ in verdicts:
            depend_on(self.env, *(results / folder).glob("*verdicts.json"))
        return [given(verdicts=verdicts)], []


def lint_findings(app: Sphinx, doctree: nodes.document) -> None:
    """Note every finding that names a claim without its verdict, and take the marks out of the page."""
    name = replication_of(app.env.docname)
    if name and is_result_page(app.env) and app.env.docname.endswith(f"/{name}"):
        results = Path(app.config.results_root)
        for block in _findings(doctree):
            said = {verdict for mark in block.findall(given) for verdict in mark["verdicts"]}
            ids = {claim for _, claim in said}
            named = [
                (of or name, claim)
                for of, claim in _named(block)
                if (of, claim) not in said and (of or claim not in ids)
            ]
            words = [(of, claim, _word(results, of, claim)) for of, claim in dict.fromkeys(named)]
            wanted = "; ".join(f"{of}:{claim} {word}" for of, claim, word in words if word)
            if wanted:
                note_problem(app.env, line_of(block), f"this line states an outcome: end it with {{given}}`{wanted}`")
    for mark in list(doctree.findall(given)):
        mark.parent.remove(mark)


def _findings(doctree: nodes.document) -> list[nodes.Element]:
    """List the paragraphs and captions above the section "Results", outside tables; none without such a section."""
    found: list[nodes.Element] = []
    for node in doctree.findall():
        if isinstance(node, nodes.title) and node.astext() == "Results":
            return found
        in_table = any(isinstance(parent, nodes.table) for parent in _above(node))
        if isinstance(node, nodes.paragraph | nodes.caption) and not in_table:
            found.append(node)
    return []


def _above(node: nodes.Node) -> Iterator[nodes.Node]:
    while (parent := node.parent) is not None:
        yield parent
        node = parent


def _named(block: nodes.Element) -> Iterator[tuple[str | None, str]]:
    """Find the claims that a block names, with their folders of results; an id alone has none."""
    for node in block.findall():
        if isinstance(node, result_value) and (match := _ADDRESS.match(node["address"])):
            yield match[1], match[2]
        elif isinstance(node, nodes.inline) and "judged" in node:
            yield node["judged"]
        elif isinstance(node, nodes.Text):
            yield from ((None, claim) for claim in _ID.findall(node.astext()))


def _word(results: Path, folder: str, claim: str) -> str | None:
    """Return the word of a claim; None where none can change: no such claim, no verdict, or it was superseded."""
    try:
        record = read_records(results / folder).get(claim, {})
    except ResultsError:
        return None
    return None if "superseded_by" in record else record.get("verdict")


def setup(app: Sphinx) -> None:
    """Register the role, and the linter with the reading of pages."""
    app.add_role("given", GivenRole())
    app.connect("doctree-read", lint_findings)

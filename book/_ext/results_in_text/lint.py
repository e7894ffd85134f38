"""A page of results types no result, and says for which verdicts its sentences were written; else the build stops.

What a number is, no program can know, so an author says it by a role. CONTRIBUTING, "Writing a page", says what looks
like a result and what is left alone; plain whole numbers are, since they count steps and optimizers. What stands above
the section "Results" says what was found: a paragraph or caption there that names a claim, by a number, a badge or its
id, is given the claim's verdict, so that it cannot survive a word that has changed.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import traverse_parent

from results_in_text.nodes import quoted_value, result_value
from results_in_text.pages import note_problem, replication_of
from results_in_text.records import judged_folders, page_of, read_verdicts
from results_in_text.roles import given

_SIGN = "[-+−±]"
_UNIT = r"""(?:
    [%％‰]|per\ cent|percent|percentage\ points?|pp|
    nats?|bits?|bytes?|[kMGT]i?B|B|
    s|ms|µs|us|ns|seconds?|minutes?|hours?|days?|
    times|fold|×(?!\s?\d)|
    [kMGTP]?FLOPs?(?:/s)?|[kMG]?Hz|W|J|°C|
    parameters|weights|tokens|samples|epochs|steps|micro-steps|rounds|
    seeds?|runs?|trials?
)(?![A-Za-z0-9_/])"""
# Words are of ASCII letters here: Chinese stands beside a number without a space.
_NUMBER = re.compile(
    rf"""
    (?<![A-Za-z0-9_.§#-])                  # not inside a word, a version or an identifier
    (?P<sign>{_SIGN}\s?)?
    (?P<digits>\d+(?:[\s,]\d{{3}}(?!\d))*(?:\.\d+)?|\.\d+)
    (?P<exponent>[eE][-+−]?\d+|\s?[×·]\s?10[\^⁻⁰-⁹−-]?\S*|⁻[⁰¹²³⁴-⁹]+)?
    (?![A-Za-z0-9_.]*[A-Za-z0-9_])         # 8x8, 2.13.0, float32 are names
    (?P<unit>[\s -]?{_UNIT})?
    """,
    re.VERBOSE,
)
_COUNT = re.compile(r"\b(?P<name>[np])\s*(?:=|<|>|≤|≥|≈)\s*$")
_PLACE = re.compile(
    r"(?:\b(?:tables?|figures?|figs?\.?|equations?|eqs?\.?|sections?|secs?\.?|theorems?|lemmas?|propositions?|corollar(?:y|ies)|"
    r"chapters?|appendix|algorithms?|page|pages|pp?\.|arxiv:?|versions?|steps?|no\.|python|pytorch|torch)|§)\s?$",
    re.IGNORECASE,
)
_LEVEL = re.compile(
    r"\b(?:90|95|99)(?:\.\d+)?\s?(?:%|per\ cent|percent)(?=[\s-](?:confidence\s)?(?:intervals?|bands?|level))"
    r"|\b(?:19|20)\d\d-\d\d-\d\d\b|\b\d\d:\d\d\b"
)
# What LaTeX writes around a number that is no mathematics of its own.
_DRESS = re.compile(r"\\(?:text|mathrm|mathbf|,|;|!|:|%|times|cdot|pm|mp|approx|sim|le|ge|quad|[{}])|[{}$~]")
_SKIPPED = (
    nodes.literal_block, nodes.math_block, nodes.comment, nodes.label, nodes.citation_reference,
    nodes.footnote_reference, nodes.system_message, result_value, quoted_value,
)  # fmt: skip
_MORE_THAN_MATHS = re.compile(
    r"\^\^|\\(?:href|require|style|class|cssId|data|input|include|csname|catcode|openin|openout|read|write|[egx]?def|let"
    r"|(?:re)?new(?:command|environment)|providecommand)(?![A-Za-z])"  # a digit ends a command: \write18
)
_STAND_IN = "\N{OBJECT REPLACEMENT CHARACTER}"  # part of no number and no unit
_ADDRESS = re.compile(r"(\w+)/(?:timing_)?verdicts:(\w+)")
_ID = re.compile(r"(?<![\w-])[CX]\d+[a-z]?r?(?![\w-])")


def result_like(text: str) -> list[str]:
    """Find the numbers of a plain text that could be results, with sign and unit."""
    text = _LEVEL.sub(lambda match: "_" * len(match[0]), text)
    found = []
    for match in _NUMBER.finditer(text):
        before = text[: match.start()]
        is_more = (
            "." in match["digits"] or match["exponent"] or match["unit"] or match["sign"] or _COUNT.search(before)
        )
        if is_more and (match["unit"] or not _PLACE.search(before)):
            found.append(" ".join(match[0].split()))
    return found


def _disguised(node: nodes.Node) -> str:
    """Return the text of a formula or a piece of code that is nothing but numbers; else nothing."""
    text = node.astext()
    plain = _DRESS.sub(" ", text) if isinstance(node, nodes.math) else text
    return "" if re.search(r"[A-Za-zα-ωΑ-Ω\\_^]", re.sub(r"\d[eE][-+]?\d", "", plain)) else plain


def seen_texts(node: nodes.Node) -> Iterator[tuple[nodes.Node, str]]:
    """Walk through what a reader sees and an author typed."""
    # The text of a paragraph comes at once, so that a number and its unit stay together.
    if _is_not_typed(node):
        return
    if isinstance(node, nodes.image) and node.get("alt"):
        yield node, node["alt"]
    if isinstance(node, nodes.TextElement):
        yield node, "".join(map(_typed, node.children))
        return
    for child in node.children:
        yield from seen_texts(child)


def _typed(node: nodes.Node) -> str:
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, nodes.math | nodes.literal):
        return _disguised(node) or _STAND_IN
    return _STAND_IN if _is_not_typed(node) else "".join(map(_typed, node.children))


def _is_not_typed(node: Any) -> bool:
    roles = {"constant", "verdict"} & {*node.get("classes", [])}
    return bool(isinstance(node, _SKIPPED) or roles or node.get("generated") or node.get("refdomain") == "cite")


def measured_texts(root: Path, name: str) -> dict[str, float]:
    """Collect the values of a replication's verdicts, by address; nothing where there are no verdicts."""
    every = {folder: read_verdicts(root, folder) for folder in judged_folders(root) if page_of(folder) == name}
    return {
        f"{folder}/verdicts:{claim['id']}.tests[{place}].{key}": test[key]
        for folder, verdicts in every.items()
        for claim in verdicts.claims.values()
        if claim["kind"] != "timing"  # its values are others at every reading, and would meet a constant by chance
        for place, test in enumerate(claim["tests"])
        for key in ("estimate", "low", "high", "max_error")
        if isinstance(test.get(key), float)
    }


def typed_results(text: str, measured: dict[str, float]) -> list[str]:
    """Find numbers of three digits or more that equal a measured value to all their digits, with its address."""
    found = []
    for number in re.findall(r"\d+\.\d+", text):
        decimals = len(number.partition(".")[2])
        if len(number.replace(".", "").lstrip("0")) >= 3:
            same = (address for address, value in measured.items() if f"{abs(value):.{decimals}f}" == number)
            found += [f"{number} is {address}" for address in list(same)[:1]]
    return found


def lint_numbers(app: Sphinx, doctree: nodes.document) -> None:
    """Note every typed number of a page of results that could be a result."""
    env, name = app.env, replication_of(app.env.docname)
    if not name:
        return
    in_words = {nodes.title: " in a heading", nodes.image: " in the description of an image"}
    for node, text in seen_texts(doctree):
        said, where = " ".join(text.split()), in_words.get(type(node), "")
        for number in result_like(text):
            remedy = "say it in words, or move it to the text"
            if not where:
                remedy = (
                    f"{{result}}`name/file:path` if we measured it, {{reported}}`{number} <key, where>` if a source "
                    f"did, {{constant}}`{number}` if it belongs to the text"
                )
            place = said.find(number)
            around = said[max(0, place - 30) : place + len(number) + 30]
            note_problem(env, node, f"typed number {number!r}{where} (… {around} …): {remedy}")
    measured = measured_texts(Path(app.config.results_root), name)
    for node in doctree.findall(nodes.Element):
        if isinstance(node, nodes.math | nodes.math_block) or "constant" in node.get("classes", []):
            for sentence in typed_results(node.astext(), measured):
                remedy = "write it with {result} (if it is a coincidence, give more digits)"
                note_problem(env, node, f"{sentence}, typed by hand: {remedy}")


def lint_findings(app: Sphinx, doctree: nodes.document) -> None:
    """Note every finding that names a claim without its verdict, and take the marks out of the page."""
    name, results = replication_of(app.env.docname), Path(app.config.results_root)
    if name and app.env.docname.endswith(f"/{name}"):
        claims = {folder: read_verdicts(results, folder).claims for folder in judged_folders(results)}
        for finding in _findings(doctree):
            said = {verdict for mark in finding.findall(given) for verdict in mark["verdicts"]}
            # An id alone is of this page's replication, or of the one whose verdict is given.
            said |= {(None, claim) for _, claim in said}
            records = {
                f"{of or name}:{claim}": claims.get(of or name, {}).get(claim, {})
                for of, claim in _named(finding)
                if (of, claim) not in said
            }
            # No word can change where there is no such claim, no verdict, or it was superseded.
            lasting = {key: record for key, record in records.items() if "superseded_by" not in record}
            if wanted := "; ".join(f"{key} {of['verdict']}" for key, of in lasting.items() if of.get("verdict")):
                problem = f"this line states an outcome: end it with {{given}}`{wanted}`"
                note_problem(app.env, finding, problem)
    for mark in list(doctree.findall(given)):
        mark.parent.remove(mark)


def _findings(doctree: nodes.document) -> list[nodes.Element]:
    """List the paragraphs and captions above the section "Results", outside tables; none without such a section."""
    found: list[nodes.Element] = []
    for node in doctree.findall():
        if isinstance(node, nodes.title) and node.astext() == "Results":
            return found
        if isinstance(node, nodes.paragraph | nodes.caption) and not any(traverse_parent(node, nodes.table)):
            found.append(node)
    return []


def _named(block: nodes.Element) -> Iterator[tuple[str | None, str]]:
    """Find the claims that a block names, with their folders of results; an id alone has none."""
    for node in block.findall():
        if isinstance(node, result_value) and (match := _ADDRESS.match(node["address"])):
            yield match[1], match[2]
        elif isinstance(node, nodes.inline) and "judged" in node:
            yield node["judged"]
        elif isinstance(node, nodes.Text):
            yield from ((None, claim) for claim in _ID.findall(node.astext()))


def refuse_what_loads_or_runs(app: Sphinx, doctree: nodes.document) -> None:
    """Note images of other hosts, and mathematics that is a link, reads files or asks MathJax or TeX for more."""
    for image in doctree.findall(nodes.image):
        if "://" in image["uri"]:
            note_problem(app.env, image, f"image {image['uri']} lies on another host; put it into the book")
    for formula in doctree.findall(lambda node: isinstance(node, nodes.math | nodes.math_block)):
        for command in _MORE_THAN_MATHS.findall(formula.astext()):
            note_problem(app.env, formula, f"{command} in mathematics: remove it, or write a link beside it")

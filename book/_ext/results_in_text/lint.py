"""A page of results types no result, and says for which verdicts its sentences were written; else the build stops.

What a number is, no program can know, so an author says it by a role. CONTRIBUTING, "Writing a page", says what looks
like a result and what is left alone; plain whole numbers are, since they count steps and optimizers. What stands above
the section "Results" says what was found: a paragraph or caption there that names a claim, by a number, a badge or its
id, is given the claim's verdict, so that it cannot survive a word that has changed.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from paperkit.results import ResultsError
from results_in_text.nodes import quoted_value, result_value
from results_in_text.pages import is_result_page, note_problem, replication_of
from results_in_text.records import read_all_verdicts, read_verdicts
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
    if isinstance(node, _SKIPPED) or (isinstance(node, nodes.Element) and _is_no_text(node)):
        return
    if isinstance(node, nodes.image) and node.get("alt"):
        yield node, node["alt"]
    if isinstance(node, nodes.TextElement):
        yield node, "".join(_pieces(node))
        return
    for child in node.children:
        yield from seen_texts(child)


def _pieces(node: nodes.Node) -> Iterator[str]:
    for child in node.children:
        if isinstance(child, nodes.Text):
            yield child.astext()
        elif isinstance(child, nodes.math | nodes.literal):
            # A stand-in that is part of no number and no unit.
            yield _disguised(child) or "\N{OBJECT REPLACEMENT CHARACTER}"
        elif isinstance(child, _SKIPPED) or _is_no_text(child):
            yield "\N{OBJECT REPLACEMENT CHARACTER}"
        else:
            yield from _pieces(child)


def _is_no_text(node: nodes.Element) -> bool:
    roles = {"constant", "verdict"} & set(node.get("classes", []))
    return bool(roles or node.get("generated") or node.get("refdomain") == "cite")


def measured_texts(root: Path, name: str) -> dict[str, float]:
    """Collect the values of a replication's verdicts, by address; nothing where there are no verdicts."""
    try:
        every = read_all_verdicts(root, name)
    except ResultsError:
        return {}
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
    env = app.env
    if not is_result_page(env):
        return
    for node, text in seen_texts(doctree):
        for number in result_like(text):
            said = " ".join(text.split())
            place = said.find(number)
            typed = f"typed number {number!r}", f"(… {said[max(0, place - 30) : place + len(number) + 30]} …):"
            if isinstance(node, nodes.image | nodes.title):
                what = "a heading" if isinstance(node, nodes.title) else "the description of an image"
                problem = f"{typed[0]} in {what} {typed[1]} say it in words, or move it to the text"
            else:
                problem = (
                    f"{' '.join(typed)} {{result}}`name/file:path` if we measured it, {{reported}}`{number} <key, "
                    f"where>` if a source did, {{constant}}`{number}` if it belongs to the text"
                )
            note_problem(env, node, problem)
    measured = measured_texts(Path(app.config.results_root), replication_of(env.docname) or "")
    for node in doctree.findall(nodes.Element):
        if isinstance(node, nodes.math | nodes.math_block) or "constant" in node.get("classes", []):
            for sentence in typed_results(node.astext(), measured):
                problem = (
                    f"{sentence}, typed by hand: write it with {{result}} (if it is a coincidence, give more digits)"
                )
                note_problem(env, node, problem)


# --- findings --------------------------------------------------------------------------------------------------


def lint_findings(app: Sphinx, doctree: nodes.document) -> None:
    """Note every finding that names a claim without its verdict, and take the marks out of the page."""
    name, results = replication_of(app.env.docname), Path(app.config.results_root)
    if name and is_result_page(app.env) and app.env.docname.endswith(f"/{name}"):
        for finding in _findings(doctree):
            said = {verdict for mark in finding.findall(given) for verdict in mark["verdicts"]}
            ids = {claim for _, claim in said}
            named = dict.fromkeys(
                (of or name, claim)
                for of, claim in _named(finding)
                if (of, claim) not in said and (of or claim not in ids)
            )
            words = {(of, claim): _word(results, of, claim) for of, claim in named}
            if wanted := "; ".join(f"{of}:{claim} {word}" for (of, claim), word in words.items() if word):
                problem = f"this line states an outcome: end it with {{given}}`{wanted}`"
                note_problem(app.env, finding, problem)
    for mark in list(doctree.findall(given)):
        mark.parent.remove(mark)


def _findings(doctree: nodes.document) -> list[nodes.Element]:
    """List the paragraphs and captions above the section "Results", outside tables; none without such a section."""
    found: list[nodes.Element] = []
    for node in doctree.findall():
        if isinstance(node, nodes.title) and node.astext() == "Results":
            in_tables = {part for made in doctree.findall(nodes.table) for part in made.findall(nodes.paragraph)}
            return [block for block in found if block not in in_tables]
        if isinstance(node, nodes.paragraph | nodes.caption):
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


def _word(results: Path, folder: str, claim: str) -> str | None:
    """Return the word of a claim; None where none can change: no such claim, no verdict, or it was superseded."""
    try:
        record = read_verdicts(results, folder).claims.get(claim, {})
    except ResultsError:
        return None
    return None if "superseded_by" in record else record.get("verdict")


# --- safety ----------------------------------------------------------------------------------------------------


def refuse_what_loads_or_runs(app: Sphinx, doctree: nodes.document) -> None:
    """Note images of other hosts, and mathematics that is a link or asks MathJax for more than mathematics."""
    for image in doctree.findall(nodes.image):
        if "://" in image["uri"]:
            note_problem(app.env, image, f"image {image['uri']} lies on another host; put it into the book")
    for formula in doctree.findall(lambda node: isinstance(node, nodes.math | nodes.math_block)):
        for command in re.findall(r"\\(?:href|require|style|class|cssId|data)\b", formula.astext()):
            note_problem(app.env, formula, f"{command} in mathematics: remove it, or write a link beside it")


def setup(app: Sphinx) -> None:
    """Connect the linters with the reading of pages."""
    for linter in (lint_findings, lint_numbers, refuse_what_loads_or_runs):
        app.connect("doctree-read", linter)

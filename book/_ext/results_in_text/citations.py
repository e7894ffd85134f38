"""How a claim is cited (BibTeX, LaTeX macros with its numbers), and the files below downloads/ for readers to fetch.

There is one folder for each folder of results, and names do not change. `OFFERED` says what each file holds; results,
errata.yaml and figures are copied as they are. What is written for TeX can be read by any engine.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pylatexenc import latexencode
from pylatexenc.latexencode import UnicodeToLatexConversionRule as Rule

from paperkit.answers import word_of
from paperkit.config import read_yaml
from paperkit.written import rounded
from results_in_text import records
from results_in_text.numbers_changed import Change
from results_in_text.records import estimand_names, measured_lines, stop, tests_of
from results_in_text.yaml_files import misfits, refuse

OFFERED = {
    "claims.json": "every claim, test, citation and earlier value",
    "claims.csv": "one row a test, in full precision",
    "claims.bib": "a BibTeX entry for each claim",
    "claims.tex": "LaTeX macros with all numbers",
    "table.tex": "the table of verdicts, for booktabs",
}
# What the file of macros and each macro to copy begin with: looking up a name that is not there is an error in TeX.
LOOK_UP = r"""\providecommand*{\replicated}[2]{%
  \ifcsname replicated/#1/#2\endcsname\csname replicated/#1/#2\endcsname
  \else\errmessage{No #2 of #1: see the list of its names in the file of macros}\fi}"""
_OF_CLAIM = ("claim", "version", "commit", "kind", "family", "verdict", "superseded_by", "statement", "of")
_OF_TEST = (
    "estimand", "rule", "bound", "margin", "estimate", "low", "high", "low90", "high90", "n", "unit", "p", "p_holm",
    "max_error", "tolerance", "control_error",
)  # fmt: skip
_OF_MACROS = [
    ("value", "estimate"), ("value", "max_error"), ("low", "low"), ("high", "high"), ("tolerance", "tolerance"),
    ("control", "control_error"),
]  # fmt: skip
_COLUMNS = "@{}l" + "".join(rf">{{\raggedright\arraybackslash}}p{{{part}\linewidth}}" for part in (0.42, 0.14, 0.28))
# BibTeX counts braces even behind a backslash, and pylatexenc 2.11 writes some letters as others. Those that have no
# command stay as they are, like Chinese: files are UTF-8.
_OWN = {
    "{": r"\ensuremath{\lbrace}",
    "}": r"\ensuremath{\rbrace}",
    "ħ": r"\ensuremath{\hbar}",
    "Ű": r"\H{U}",
    "ű": r"\H{u}",
}
_OWN |= {letter: letter for letter in "ĦĸĿŀŉŦŧ"}
_ENCODER = latexencode.UnicodeToLatexEncoder(
    conversion_rules=[
        Rule(latexencode.RULE_DICT, {ord(letter): text for letter, text in _OWN.items()}),
        # What TeX would join to a dash or a quotation mark; a straight quote is written as two apostrophes.
        Rule(latexencode.RULE_REGEX, [(re.compile(r"([-'])(?=\1)|'(?=\")|[?!`](?=`)"), r"\g<0>{}")]),
        "defaults",
    ],
    unknown_char_policy="keep",
    unknown_char_warning=False,
    replacement_latex_protection="braces",
)


class Edition(NamedTuple):
    """What CITATION.cff says of the book."""

    title: str
    author: str
    version: str
    address: str | None  # where the book stands on the net; None while it stands nowhere
    doi: str = ""


class Citation(NamedTuple):
    """One claim as it is cited."""

    folder: str  # below results/
    claim: dict[str, Any]  # its entry in verdicts.json
    provenance: dict[str, Any]  # the record of the run that its numbers come from
    edition: Edition

    @property
    def id(self) -> str:
        """The id that never changes, such as lion/C6."""
        return f"{self.folder}/{self.claim['id']}"

    @property
    def page(self) -> str:
        """The page with the claim's row, relative to the book's root and without suffix."""
        return f"replications/{records.page_of(self.folder)}"

    @property
    def anchor(self) -> str:
        """The anchor of the claim's row on its page."""
        return records.target_of(self.folder, self.claim["id"])

    @property
    def commit(self) -> str:
        """The commit of the code that ran, abbreviated; with a note where it ran with uncommitted changes."""
        return records.commit_text(self.provenance)

    @property
    def standing(self) -> str:
        """The verdict, and the claim that was judged in its place if there is one."""
        verdict, successor = word_of(self.claim), self.claim.get("superseded_by")
        return f"{verdict}, superseded by {self.folder}/{successor}" if successor else verdict


def read_edition(path: Path, address: str | None) -> Edition:
    """Read what every citation says of the book, from CITATION.cff."""
    content = read_yaml(path)
    try:
        names = [of.get("name") or f"{of['given-names']} {of['family-names']}" for of in content["authors"]]
        version, doi = str(content["version"]), content.get("doi", "")
        return Edition(content["title"], " and ".join(names), version, address or None, doi)
    except KeyError as error:
        stop(f"{path} has no {error}; a citation needs title, authors (a name each) and version", error)


def read_citations(results: Path, folder: str, edition: Edition) -> list[Citation]:
    """Read all that can be cited of one folder of results; clock readings bear the commit of their own run."""
    cited = []
    for claim in records.read_verdicts(results, folder).claims.values():
        file, _ = records.split_address(records.claim_address(folder, claim))
        record = records.read_json(records.provenance_file(results, file))
        cited.append(Citation(folder, claim, record, edition))
    return cited


def bibtex(citation: Citation) -> str:
    """Write the BibTeX entry of a claim, for classic BibTeX as well as for biber."""
    claim, edition = citation.claim, citation.edition
    year, month = citation.provenance["started"].split("-")[:2]
    place = f"{citation.page}.html#{citation.anchor}"
    address = f"{edition.address.rstrip('/')}/{place}" if edition.address else ""
    where = f"\\texttt{{{escaped(address)}}}" if address else escaped(place)
    measured = "; ".join(map(escaped, measured_lines(claim["tests"])))
    notes = [f"Verdict: {escaped(citation.standing)}", f"Measured: {measured}"]
    if claim["verdict"] == "corrected":
        notes.append(f"As corrected: {escaped(claim['correction']['statement']).removesuffix('.')}")
    notes.append(f"Commit \\texttt{{{escaped(citation.commit)}}}")
    fields = {
        "author": f"{{{escaped(edition.author)}}}",
        "title": f"{{Claim {escaped(citation.id)}: {escaped(claim['statement']).removesuffix('.')}}}",
        "howpublished": f"{escaped(edition.title)}, version {escaped(edition.version)}, {where}",
        "year": str(int(year)),
        "month": str(int(month)),
        "version": escaped(edition.version),
        "note": ". ".join(notes),
    }
    fields |= {name: text for name, text in (("url", address), ("doi", edition.doi)) if text}
    lines = [f"  {name:<12} = {{{value}}}," for name, value in fields.items()]
    key = f"ssr-{citation.folder}-{claim['id']}".replace("_", "-")
    return "\n".join([f"@misc{{{key},", *lines, "}"])


def macros(citation: Citation) -> str:
    r"""Write the numbers of a claim as LaTeX definitions, to be used as \replicated{lion/C6}{value}."""
    said = f"% {citation.id}, version {citation.edition.version}, commit {citation.commit}: {citation.standing}"
    values = macro_values(citation).items()
    lines = [f"\\expandafter\\def\\csname replicated/{name}\\endcsname{{{value}}}" for name, value in values]
    # What follows a percent sign may not leave its line, whatever its parts hold.
    return "\n".join([" ".join(said.split()), *lines])


def macro_values(citation: Citation) -> dict[str, str]:
    """Return every name that a paper can look up for a claim, such as lion/C6/value, and its LaTeX."""
    # Names hold letters, digits, hyphens and slashes only: nothing that a LaTeX package makes active. With several
    # tests their names stand between claim and field.
    tests, name = [test for _, test in tests_of(citation.claim)], citation.id.replace("_", "-")
    values = {
        f"{name}/verdict": escaped(word_of(citation.claim)),
        f"{name}/commit": f"\\texttt{{{escaped(citation.commit)}}}",
        f"{name}/version": escaped(citation.edition.version),
    }
    for test in tests:
        prefix = name if len(tests) == 1 else f"{name}/{test['estimand'].replace('_', '-')}"
        text = rounded(test)
        fields = {"n": text["n"]} if "n" in text else {}
        fields |= {field: number(text[key]) for field, key in _OF_MACROS if key in text}
        if "estimate" in text:
            fields["interval"] = interval(text["low"], text["high"])
        if test["unit"]:
            fields["unit"] = escaped(test["unit"])
        values |= {f"{prefix}/{field}": value for field, value in fields.items()}
    return values


def escaped(text: str) -> str:
    """Write plain text, in which nothing is markup, in LaTeX: ASCII, apart from letters that have no such form."""
    return _ENCODER.unicode_to_latex(text)


def number(text: str) -> str:
    """Write a printed number so that its minus is a minus and its exponent an exponent, in text and in maths."""
    return f"\\ensuremath{{{_digits(text)}}}"


def interval(low: str, high: str) -> str:
    """Write an interval for text and for maths; its comma is braced, since packages make it active."""
    return f"\\ensuremath{{[{_digits(low)}{{,}}\\,{_digits(high)}]}}"


def _digits(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}\\times 10^{{{int(exponent)}}}" if exponent else mantissa


def write_downloads(
    folder: Path, citations: Sequence[Citation], changes: Sequence[Change], *, profile: str, sources: Sequence[Path]
) -> None:
    """Write all files of one folder of results; what lies in `sources` is copied as it is."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    for path in (path for source in sources for path in sorted(source.glob("*"))):
        # The numbers of a figure are fetched below it.
        is_data = path.suffix in (".csv", ".json", ".yaml") and not path.with_suffix(".svg").exists()
        if is_data or path.suffix == ".svg":
            shutil.copyfile(path, folder / ("figures" if path.suffix == ".svg" else ".") / path.name)
    record = claims_record(citations, changes, profile)
    what = f"claims of {citations[0].folder} do not fit book/schemas/claims.schema.json:"
    refuse(what, misfits(record, "claims.schema.json"))
    texts = {
        "claims.json": json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "claims.csv": claims_csv(citations),
        "claims.bib": "\n\n".join(map(bibtex, citations)) + "\n",
        "claims.tex": macro_file(citations),
        "table.tex": latex_table(citations),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def claims_record(citations: Sequence[Citation], changes: Sequence[Change], profile: str) -> dict[str, Any]:
    """Return the content of claims.json, which claims.schema.json describes."""
    edition = citations[0].edition
    claims = [
        {
            "cite_as": citation.id,
            "page": f"{citation.page}.html",
            "anchor": citation.anchor,
            "commit": citation.provenance["commit"],
            "run": citation.provenance["started"],
            "measured": measured_lines(citation.claim["tests"]),
            "earlier": [change for change in changes if change["claim"] == citation.id],
            **citation.claim,
        }
        for citation in citations
    ]
    frame = {"schema": 1, "title": edition.title, "version": edition.version}
    return {**frame, "replication": citations[0].folder, "profile": profile, "claims": claims}


def claims_csv(citations: Sequence[Citation]) -> str:
    """Return all tests as CSV in full precision, one row a test; an empty cell says that nothing was measured."""
    columns, rows = [*_OF_CLAIM, *_OF_TEST], []
    for one in citations:
        cited = {"claim": one.id, "version": one.edition.version, "commit": one.provenance["commit"]}
        of_statement = {**one.claim, **cited, "of": "statement"}
        of_correction = {**of_statement, **one.claim.get("correction", {}), "of": "correction"}
        for place, test in tests_of(one.claim):
            cells = (of_correction if place.startswith("correction") else of_statement) | test
            rows.append([_no_formula(cells.get(column)) for column in columns])
    return pd.DataFrame(rows, columns=columns, dtype=object).to_csv(index=False, lineterminator="\n")


def _no_formula(cell: Any) -> Any:
    """Mark a text that a spreadsheet would take for a formula; numbers stay."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r")) else cell


def macro_file(citations: Sequence[Citation]) -> str:
    """Return a LaTeX file with the macros of all claims."""
    call = f"\\replicated{{{citations[0].id.replace('_', '-')}}}{{verdict}}"
    usage = f"% \\input this file, then write {call}; a name that is not here is an error."
    return "\n".join([usage, LOOK_UP, *map(macros, citations)]) + "\n"


def latex_table(citations: Sequence[Citation]) -> str:
    """Return the table of verdicts as LaTeX: a longtable, one row a claim, each test on a line of the last column."""
    edition, rows = citations[0].edition, []
    for one in citations:
        tests = one.claim["tests"]
        lines = (escaped(name) + _measured(test) for name, test in zip(estimand_names(tests), tests, strict=True))
        cells = map(escaped, (one.id, one.claim["statement"], one.standing))
        rows.append([*cells, r" \newline ".join(lines)])
    lead = " ".join(f"% {edition.title}, version {edition.version}.".split())
    table = pd.DataFrame(rows, columns=["claim", "statement", "verdict", "measured"])
    made = table.to_latex(index=False, escape=False, longtable=True, column_format=f"{_COLUMNS}@{{}}")
    return f"{lead} Needs \\usepackage{{booktabs,longtable,array}}.\n{made}"


def _measured(test: dict[str, Any]) -> str:
    text = rounded(test)
    if "max_error" in text:
        return f"error {number(text['max_error'])}, tolerance {number(text['tolerance'])}"
    if "estimate" not in text:
        return f"no interval, $n = {text['n']}$" if text else "not run"
    unit = f" {escaped(test['unit'])}" if test["unit"] else ""
    return f"{number(text['estimate'])} {interval(text['low'], text['high'])}{unit}, $n = {text['n']}$"

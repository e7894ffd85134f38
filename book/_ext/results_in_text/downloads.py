"""Files that a reader can fetch from the built book: results, claims, citations, tables and figures.

They stand below downloads/, one folder for each folder of results, under names that do not change. What each holds
stands beside its name in `_OFFERED` of citation_list.py; results, errata.yaml and figures are copied as they are.
"""

import csv
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from paperkit.written import rounded
from results_in_text.checked_yaml import SCHEMAS, BookDataError, misfits
from results_in_text.citations import LOOK_UP, Citation, bibtex, macros
from results_in_text.latex_text import escaped, interval, latex, number
from results_in_text.numbers_changed import Change

_TEST_COLUMNS = (
    "estimand", "rule", "bound", "margin", "estimate", "low", "high", "low90", "high90", "n", "unit", "p", "p_holm",
    "max_error", "tolerance", "control_error",
)  # fmt: skip


def write_downloads(
    folder: Path, citations: Sequence[Citation], changes: Iterable[Change], *, profile: str, sources: Sequence[Path]
) -> list[str]:
    """Write all files of one folder of results; what lies in `sources` is copied as it is."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    for path in (path for source in sources for path in _data_files(source)):
        shutil.copyfile(path, folder / ("figures" if path.suffix == ".svg" else ".") / path.name)
    record = claims_record(citations, list(changes), profile)
    problems = misfits(record, "claims.schema.json")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        message = f"claims of {citations[0].folder} do not fit book/schemas/claims.schema.json:\n{lines}"
        raise BookDataError(message)
    texts = {
        "claims.json": json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "claims.csv": claims_csv(citations),
        "claims.bib": bibtex_file(citations),
        "claims.tex": macro_file(citations),
        "table.tex": latex_table(citations),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def copy_schemas(folder: Path) -> None:
    """Copy the JSON schemas, so that a reader can check what was fetched."""
    shutil.copytree(SCHEMAS, folder, dirs_exist_ok=True)


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
            "measured": citation.measured,
            "earlier": [change for change in changes if change["claim"] == citation.id],
            **citation.claim,
        }
        for citation in citations
    ]
    frame = {"schema": 1, "title": edition.title, "version": edition.version}
    return {**frame, "replication": citations[0].folder, "profile": profile, "claims": claims}


def claims_csv(citations: Sequence[Citation]) -> str:
    """Return all tests as CSV in full precision, one row a test; an empty cell says that nothing was measured."""
    text = io.StringIO()
    shared = ["claim", "version", "commit", "kind", "family", "verdict", "superseded_by", "statement", "of"]
    writer = csv.DictWriter(text, [*shared, *_TEST_COLUMNS], restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for citation in citations:
        claim = citation.claim
        row = {"claim": citation.id, "version": citation.edition.version, "commit": citation.provenance["commit"]}
        row |= {key: claim.get(key) for key in ("kind", "family", "verdict", "superseded_by", "statement")}
        correction = claim.get("correction", {"statement": "", "tests": []})
        corrected = {"statement": correction["statement"], "of": "correction"}
        rows = [{**row, "of": "statement", **test} for test in claim["tests"]]
        rows += [{**row, **corrected, **test} for test in correction["tests"]]
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Keep a text from being a formula, as spreadsheets take what begins so; numbers stay."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def bibtex_file(citations: Sequence[Citation]) -> str:
    """Return a BibTeX file with an entry a claim."""
    return "\n\n".join(map(bibtex, citations)) + "\n"


def macro_file(citations: Sequence[Citation]) -> str:
    """Return a LaTeX file with the macros of all claims."""
    example = citations[0].id.replace("_", "-")
    usage = (
        f"% \\input this file, then write \\replicated{{{example}}}{{verdict}}; a name that is not here is an error."
    )
    return "\n".join([usage, LOOK_UP, *map(macros, citations)]) + "\n"


def latex_table(citations: Sequence[Citation]) -> str:
    """Return the table of verdicts as LaTeX: a longtable, one row a claim, each test on a line of the last column."""
    edition = citations[0].edition
    rows = [
        " & ".join([escaped(one.id), latex(one.claim["statement"]), escaped(one.standing), _measured_cell(one)])
        + r" \\"
        for one in citations
    ]
    head = r"claim & statement & verdict & measured \\"
    return "\n".join([
        " ".join(f"% {edition.title}, version {edition.version}.".split())
        + r" Needs \usepackage{booktabs,longtable,array}.",
        r"\begin{longtable}{@{}l>{\raggedright}p{0.42\linewidth}>{\raggedright}p{0.14\linewidth}"
        r">{\raggedright\arraybackslash}p{0.28\linewidth}@{}}",
        r"\toprule",
        head,
        r"\midrule",
        r"\endhead",
        *rows,
        r"\bottomrule",
        r"\end{longtable}",
        "",
    ])


def _measured_cell(citation: Citation) -> str:
    tests = citation.claim["tests"]
    names = [f"{escaped(test['estimand'].replace('_', ' '))}: " if len(tests) > 1 else "" for test in tests]
    return r" \newline ".join(name + _measured(test) for name, test in zip(names, tests, strict=True))


def _measured(test: dict[str, Any]) -> str:
    text = rounded(test)
    if "max_error" in text:
        return f"error {number(text['max_error'])}, tolerance {number(text['tolerance'])}"
    if "estimate" not in text:
        return f"no interval, $n = {text['n']}$" if text else "not run"
    unit = f" {escaped(test['unit'])}" if test["unit"] else ""
    return f"{number(text['estimate'])} {interval(text['low'], text['high'])}{unit}, $n = {text['n']}$"


def _data_files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.glob("*") if path.suffix in (".csv", ".json", ".yaml", ".svg"))
    # The numbers of a figure are fetched below it.
    return [path for path in files if path.suffix == ".svg" or not path.with_suffix(".svg").exists()]

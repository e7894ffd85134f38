"""How one claim is cited: its id, a BibTeX entry, and LaTeX macros with its numbers."""

from pathlib import Path
from typing import Any, NamedTuple

from paperkit.config import ConfigError, read_yaml
from paperkit.written import rounded
from results_in_text.checked_yaml import BookDataError
from results_in_text.claim_tables import claim_target
from results_in_text.latex_text import escaped, interval, latex, number
from results_in_text.posts import page_of
from results_in_text.provenance_files import commit_text, provenance_file, read_provenance
from results_in_text.results_files import claim_address, read_verdicts, split_address
from results_in_text.written_values import measured_lines

# What the file of macros and each macro to copy begin with: looking up a name that is not there is an error in TeX.
LOOK_UP = r"""\providecommand*{\replicated}[2]{%
  \ifcsname replicated/#1/#2\endcsname\csname replicated/#1/#2\endcsname
  \else\errmessage{No #2 of #1: see the list of its names in the file of macros}\fi}"""


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
        return f"replications/{page_of(self.folder)}"

    @property
    def anchor(self) -> str:
        """The anchor of the claim's row on its page."""
        return claim_target(self.folder, self.claim["id"])

    @property
    def commit(self) -> str:
        """The commit of the code that ran, abbreviated; with a note where it ran with uncommitted changes."""
        return commit_text(self.provenance)

    @property
    def lead(self) -> str:
        """A comment of LaTeX that says what follows; on one line, whatever its parts hold."""
        said = f"% {self.id}, version {self.edition.version}, commit {self.commit}: {self.standing}"
        return " ".join(said.split())

    @property
    def measured(self) -> list[str]:
        """What was measured, one line a test, as the claim's row prints it."""
        return measured_lines(self.claim["tests"])

    @property
    def verdict(self) -> str:
        """The verdict, in words also where there is none."""
        return self.claim["verdict"] or "no verdict"

    @property
    def standing(self) -> str:
        """The verdict, and the claim that was judged in its place if there is one."""
        successor = self.claim.get("superseded_by")
        return f"{self.verdict}, superseded by {self.folder}/{successor}" if successor else self.verdict


def read_edition(path: Path, address: str | None) -> Edition:
    """Read what every citation says of the book, from CITATION.cff."""
    try:
        content = read_yaml(path)
        names = [
            author.get("name") or f"{author['given-names']} {author['family-names']}" for author in content["authors"]
        ]
        version, doi = str(content["version"]), content.get("doi", "")
        return Edition(content["title"], " and ".join(names), version, address or None, doi)
    except ConfigError as error:
        raise BookDataError(str(error)) from error
    except KeyError as error:
        message = f"{path} has no {error}; a citation needs title, authors (a name each) and version"
        raise BookDataError(message) from error


def read_citations(results: Path, folder: str, edition: Edition) -> list[Citation]:
    """Read all that can be cited of one folder of results; clock readings bear the commit of their own run."""
    return [
        Citation(folder, claim, read_provenance(provenance_file(results, file)), edition)
        for claim in read_verdicts(results, folder).claims
        for file, _ in [split_address(claim_address(folder, claim))]
    ]


def bibtex(citation: Citation) -> str:
    """Write the BibTeX entry of a claim, for classic BibTeX as well as for biber."""
    claim, edition = citation.claim, citation.edition
    year, month = citation.provenance["started"].split("-")[:2]
    place = f"{citation.page}.html#{citation.anchor}"
    address = f"{edition.address.rstrip('/')}/{place}" if edition.address else ""
    where = f"\\texttt{{{escaped(address)}}}" if address else escaped(place)
    measured = "; ".join(escaped(line) for line in citation.measured)
    notes = [f"Verdict: {escaped(citation.standing)}", f"Measured: {measured}"]
    if claim["verdict"] == "corrected":
        notes.append(f"As corrected: {latex(claim['correction']['statement']).removesuffix('.')}")
    notes.append(f"Commit \\texttt{{{escaped(citation.commit)}}}")
    fields = {
        "author": f"{{{escaped(edition.author)}}}",
        "title": f"{{Claim {escaped(citation.id)}: {latex(claim['statement']).removesuffix('.')}}}",
        "howpublished": f"{escaped(edition.title)}, version {escaped(edition.version)}, {where}",
        "year": str(int(year)),
        "month": str(int(month)),
        "version": escaped(edition.version),
        "note": ". ".join(notes),
    }
    fields |= {name: text for name, text in (("url", address), ("doi", edition.doi)) if text}
    lines = [f"  {name:<12} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@misc{{{bibtex_key(citation)},", *lines, "}"])


def bibtex_key(citation: Citation) -> str:
    """Return the key of a claim's BibTeX entry, such as ssr-lion-C6: letters, digits and hyphens."""
    return f"ssr-{citation.folder}-{citation.claim['id']}".replace("_", "-")


def macros(citation: Citation) -> str:
    r"""Write the numbers of a claim as LaTeX definitions, to be used as \replicated{lion/C6}{value}."""
    lines = [
        f"\\expandafter\\def\\csname replicated/{name}\\endcsname{{{value}}}"
        for name, value in macro_values(citation).items()
    ]
    return "\n".join([citation.lead, *lines])


def macro_values(citation: Citation) -> dict[str, str]:
    """Return every name that a paper can look up for a claim, such as lion/C6/value, and its LaTeX."""
    # Names hold letters, digits, hyphens and slashes only: nothing that a LaTeX package makes active. With several
    # tests their names stand between claim and field.
    claim, name = citation.claim, citation.id.replace("_", "-")
    tests = claim["tests"] + claim.get("correction", {}).get("tests", [])
    values = {
        f"{name}/verdict": escaped(citation.verdict),
        f"{name}/commit": f"\\texttt{{{escaped(citation.commit)}}}",
        f"{name}/version": escaped(citation.edition.version),
    }
    for test in tests:
        prefix = name if len(tests) == 1 else f"{name}/{test['estimand'].replace('_', '-')}"
        values |= {f"{prefix}/{field}": value for field, value in _fields(test).items()}
    return values


def _fields(test: dict[str, Any]) -> dict[str, str]:
    text = rounded(test)
    fields = {"n": text["n"]} if "n" in text else {}
    if "max_error" in text:
        keys = {"value": "max_error", "tolerance": "tolerance", "control": "control_error"}
        fields |= {field: number(text[key]) for field, key in keys.items()}
    if "estimate" in text:
        fields |= {
            field: number(text[key]) for field, key in {"value": "estimate", "low": "low", "high": "high"}.items()
        }
        fields["interval"] = interval(text["low"], text["high"])
    if test["unit"]:
        fields["unit"] = escaped(test["unit"])
    return fields

"""Errors found in the sources: replications/<name>/errata.yaml, checked against results and bibliography."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from paperkit.results import ResultsError
from results_in_text.checked_yaml import BookDataError, read_checked_yaml
from results_in_text.results_files import Verdicts, claim_with_id, read_verdicts

SEVERITIES = ("conclusion", "statement", "wording")  # the gravest first; the schema says what they mean
UNDECIDED = ("inconclusive", "not tested at this scale", None)


class Evidence(NamedTuple):
    """What shows that a source errs."""

    kind: str  # check, claim, derivation or reading
    text: str  # name of the check, id of the claim, or MyST
    claim: dict[str, Any] | None  # the one named, or that has the check among its tests; None for the other kinds

    @property
    def stands(self) -> bool:
        """Whether it shows anything: a claim that is not decided does not."""
        return self.claim is None or self.claim["verdict"] not in UNDECIDED


class Erratum(NamedTuple):
    """One error in a source."""

    replication: str  # the one that found it
    content: dict[str, Any]  # the entry of errata.yaml
    evidence: list[Evidence]  # looked up

    @property
    def target(self) -> str:
        """The anchor, such as erratum-lion-e3."""
        return f"erratum-{self.replication}-{self.content['id']}".lower().replace("_", "-")


def read_errata(replications: Path, results: Path, name: str, bib_keys: Collection[str]) -> list[Erratum]:
    """Read the errata of one replication, in the file's order; all that is wrong with them is named at once."""
    path = replications / name / "errata.yaml"
    entries = read_checked_yaml(path, "errata.schema.json")["errata"]
    try:
        verdicts = read_verdicts(results, name)
    except ResultsError as error:
        message = f"{path}: {error}"
        raise BookDataError(message) from error
    repeated = [entry for entry, count in Counter(entry["id"] for entry in entries).items() if count > 1]
    problems = [f"id {entry} is given twice; an id is never reused" for entry in repeated]
    errata = []
    for entry in entries:
        try:
            errata.append(Erratum(name, entry, _evidence(entry, verdicts, bib_keys)))
        except (BookDataError, ResultsError) as error:
            problems.append(f"{entry['id']}: {error}")
    problems = problems or _corrected_without_erratum(verdicts, errata)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        message = f"{path}:\n{lines}"
        raise BookDataError(message)
    return errata


def names_with_errata(replications: Path, results: Path) -> list[str]:
    """List the replications that have an errata.yaml, or a corrected claim, so that they must have one."""
    written = {path.parent.name for path in replications.glob("*/errata.yaml")}
    judged = (
        path.parent.name for path in results.glob("*/verdicts.json") if (replications / path.parent.name).is_dir()
    )
    corrected = {name for name in judged if _corrected(read_verdicts(results, name))}
    return sorted(written | corrected)


def _evidence(entry: dict[str, Any], verdicts: Verdicts, bib_keys: Collection[str]) -> list[Evidence]:
    bib = entry["source"]["bib"]
    if bib not in bib_keys:
        message = f"source.bib {bib!r} is not in the bibliography; add it to references.bib, or mend the key"
        raise BookDataError(message)
    evidence = [_looked_up(kind, text, verdicts) for item in entry["evidence"] for kind, text in item.items()]
    if not any(one.stands for one in evidence):
        words = ", ".join(f"{one.text} {one.claim['verdict'] or 'no verdict'}" for one in evidence if one.claim)
        message = (
            f"its evidence is undecided ({words}), so nothing shows the error; name other evidence, or drop the entry"
        )
        raise BookDataError(message)
    return evidence


def _looked_up(kind: str, text: str, verdicts: Verdicts) -> Evidence:
    if kind == "claim":
        return Evidence(kind, text, claim_with_id(verdicts, text))
    if kind == "check":
        return Evidence(kind, text, _claim_with_check(verdicts, text))
    return Evidence(kind, text, None)


def _claim_with_check(verdicts: Verdicts, check: str) -> dict[str, Any]:
    """Find the claim that executes a check: one of its tests, or of its correction's, is an identity of that name."""
    checks = {}
    for claim in verdicts.claims:
        tests = claim["tests"] + claim.get("correction", {}).get("tests", [])
        checks |= {test["estimand"]: claim for test in tests if test["rule"] == "identity"}
    if check not in checks:
        message = f"no executed check {check!r} in {verdicts.files[0].parent}; there are {', '.join(checks) or 'none'}"
        raise BookDataError(message)
    return checks[check]


def _corrected(verdicts: Verdicts) -> list[str]:
    return [claim["id"] for claim in verdicts.claims if claim["verdict"] == "corrected"]


def _corrected_without_erratum(verdicts: Verdicts, errata: list[Erratum]) -> list[str]:
    named = {one.claim["id"] for erratum in errata for one in erratum.evidence if one.claim}
    return [
        f"claim {claim_id} has the verdict corrected and is the evidence of no entry; add one"
        for claim_id in _corrected(verdicts)
        if claim_id not in named
    ]

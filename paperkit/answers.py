"""What a replication says that it found (about.yaml), bound to the verdicts for which it was written.

A number of the book is live, and the sentence round it is not. So a sentence that states an outcome is given
verdicts, "lion:C6 contradicted; lion:C4 holds", and where a word is another one now, whoever prints it says so and
stops. For each primary claim about.yaml has a sentence for every word that its rule can give; they are kept for the
claim that is judged in its place.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paperkit.claims.declarations import Claim
from paperkit.claims.rules import FRAGILE, EffectTest, Verdict
from paperkit.config import read_yaml
from paperkit.profiles import PROFILES, results_name
from paperkit.results import ResultsError, read_json

Record = dict[str, Any]  # of a claim in verdicts.json
Judged = tuple[dict[str, str], str, Record]  # what about.yaml says of a claim, the folder that judges it, its record
_GIVEN = re.compile(r"(?P<folder>\w+):(?P<claim>\w+) (?P<word>\S.*)")
# Words that no author has to foresee: what to say then does not depend on the claim.
_ALWAYS = {
    Verdict.CORRECTED: "The statement is wrong as written; the corrected one holds.",
    Verdict.NOT_TESTED: "Not tested: what was run is too small for this claim.",
}


def read_about(root: Path, name: str) -> dict[str, Any]:
    """Read what a replication is about and what it found."""
    return read_yaml(root / "replications" / name / "about.yaml")


def title_of(page: Path) -> str:
    """Return the title of a replication's page; its name while there is none."""
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") if page.is_file() else page.stem


def read_records(folder: Path) -> dict[str, Record]:
    """Read the verdicts of a folder of results, those of clock readings included, by claim."""
    files = [folder / "verdicts.json", *folder.glob("timing_verdicts.json")]
    return {record["id"]: record for file in files for record in read_json(file)["claims"]}


def record_of(records: Mapping[str, Record], claim: str) -> Record:
    """Find the record of a claim, or of the one that was judged in its place."""
    while claim in records and "superseded_by" in records[claim]:
        claim = records[claim]["superseded_by"]
    if claim not in records:
        message = f"no claim {claim!r}; there are {', '.join(records)}"
        raise ResultsError(message)
    return records[claim]


def word_of(record: Record) -> str:
    """Say the verdict of a claim in a word."""
    return record["verdict"] or "no verdict"


def given_verdicts(text: str) -> Iterator[tuple[str, str, str]]:
    """Read the verdicts for which a sentence was written: folder of results, claim and word of each."""
    for part in text.split(";"):
        match = _GIVEN.fullmatch(" ".join(part.split()))
        if match is None:
            message = f"{part.strip()!r} is no verdict; write `lion:C6 contradicted`, with a semicolon before the next"
            raise ResultsError(message)
        yield match["folder"], match["claim"], match["word"]


def changed_words(results: Path, given: str) -> list[str]:
    """Say which verdicts are not those for which a sentence was written.

    Args:
        results: The folder of all results.
        given: Verdicts such as "lion:C6 contradicted; lion:C4 holds".

    Returns:
        A clause for each word that has changed; none for those of a smoke run, which decides nothing.

    Raises:
        ResultsError: If `given` cannot be read, or there is no such claim.
    """
    changed = []
    for folder, claim, word in given_verdicts(given):
        profile, records = read_json(results / folder / "verdicts.json")["profile"], read_records(results / folder)
        now = record_of(records, claim)
        if profile == "smoke" or (now["id"], word_of(now)) == (claim, word):
            continue
        what = f"is {word_of(now)!r} now" if now["id"] == claim else f"was judged again as {now['id']}"
        changed.append(f"it was written for {folder}:{claim} {word!r}, which {what}: read it again, and mend `given`")
    return changed


def answer_of(root: Path, name: str) -> str:
    """Return the answer of a replication, unless its verdicts are others than when it was written."""
    answer = read_about(root, name)["answer"]
    if changed := changed_words(root / "results", answer["given"]):
        message = f"replications/{name}/about.yaml, answer: {'; '.join(changed)}"
        raise ResultsError(message)
    return answer["text"]


def primary_records(about: Mapping[str, Any], records: Mapping[str, Record]) -> list[tuple[dict[str, str], Record]]:
    """Pair the primary claims with what about.yaml says of each, in its order; one that it leaves out is last."""
    said = {record_of(records, claim)["id"]: words for claim, words in about["claims"].items() if claim in records}
    primary = {key: record for key, record in records.items() if record["family"] == "primary"}
    order = [*(key for key in said if key in primary), *(key for key in primary if key not in said)]
    return [(said.get(key, {}), primary[key]) for key in order]


def primary_claims(root: Path, name: str) -> list[Judged]:
    """List the primary claims of a replication as front page and README show and count them: each once.

    Args:
        root: The repository.
        name: A replication with results.

    Returns:
        What about.yaml says of each claim, in its order; the folder of results that judges it; its record there.
    """
    folders = [root / "results" / results_name(name, profile) for profile in PROFILES[1:]]
    every = {folder.name: read_records(folder) for folder in folders if (folder / "verdicts.json").is_file()}
    return [
        (words, *where_judged(every, name, of)) for words, of in primary_records(read_about(root, name), every[name])
    ]


def where_judged(every: Mapping[str, Mapping[str, Record]], folder: str, claim: Record) -> tuple[str, Record]:
    """Take a claim from the first of a replication's folders that could test it, where the one given could not."""
    if claim["verdict"] != Verdict.NOT_TESTED:
        return folder, claim
    found = ((other, records[claim["id"]]) for other, records in every.items() if claim["id"] in records)
    return next((pair for pair in found if pair[1]["verdict"] != Verdict.NOT_TESTED), (folder, claim))


def sentence_for(words: Mapping[str, str], record: Record) -> str:
    """Say in a sentence what the verdict of a primary claim means; a fragile one means what it means without that."""
    word = word_of(record).removesuffix(FRAGILE)
    if sentence := {**_ALWAYS, **words}.get(word):
        return sentence
    message = f"about.yaml has no sentence for claim {record['id']} with the verdict {word!r}; write one"
    raise ResultsError(message)


def words_that_can_come(claim: Claim) -> set[str]:
    """List the words that the rules of a claim can give, without those that need no sentence of their own."""
    has_margin = any(isinstance(test, EffectTest) and test.margin is not None for test in claim.deciding)
    words = {Verdict.HOLDS, Verdict.CONTRADICTED, Verdict.INCONCLUSIVE}
    return {str(word) for word in words | ({Verdict.HOLDS_SMALLER, Verdict.NO_DIFFERENCE} if has_margin else set())}

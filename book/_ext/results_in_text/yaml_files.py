"""YAML files that pages print, checked against the JSON schemas in book/schemas: posts, about.yaml, errata."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator
from referencing import Registry

from paperkit.config import read_yaml
from paperkit.results import ResultsError
from results_in_text import records
from results_in_text.records import once_a_file, stop

SCHEMAS = Path(__file__).parents[2] / "schemas"
SEVERITIES = ("conclusion", "statement", "wording")  # the gravest first; the schema says what they mean
_UNDECIDED = ("inconclusive", "not tested at this scale", None)


@once_a_file
def read_checked_yaml(path: Path, schema: str) -> Any:
    """Read a YAML file once for as long as it stays, and check it against its schema; every misfit is named."""
    content = read_yaml(path)
    refuse(f"{path} does not fit book/schemas/{schema}:", misfits(content, schema))
    return content


def refuse(what: str, problems: Collection[str]) -> None:
    """Name all problems at once, if there are some."""
    if problems:
        stop("\n  ".join([what, *problems]))


def misfits(content: Any, schema: str) -> list[str]:
    """Say where decoded content does not fit a schema: one line a misfit, with its place."""
    lines = []
    for error in sorted(_validator(schema).iter_errors(content), key=lambda error: list(map(str, error.path))):
        said = error.message if len(error.message) < 300 else f"{error.message[:200]} … {error.message[-90:]}"
        lines.append(f"{'.'.join(map(str, error.absolute_path)) or 'the file'}: {said}")
    return lines


@cache
def _validator(schema: str) -> Draft202012Validator:
    files = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in SCHEMAS.glob("*.json")}
    known: Registry[Any] = Registry().with_contents(files.items())  # one may name another
    return Draft202012Validator(files[schema], registry=known, format_checker=Draft202012Validator.FORMAT_CHECKER)


class Posts(NamedTuple):
    """The posts and what has become of them."""

    topics: dict[str, str]
    replications: dict[str, dict[str, Any]]
    posts: list[dict[str, Any]]

    def topic_of(self, folder: str) -> str:
        """Return the topic of a replication: that of its first post, "other" where it has none."""
        lead = self.about(folder)["posts"][:1]
        return self.topics[next((post["topic"] for post in self.posts if [post["archive"]] == lead), "other")]

    def about(self, folder: str) -> dict[str, Any]:
        """Return what about.yaml says of the replication of a folder of results."""
        name = records.page_of(folder)
        if name not in self.replications:
            stop(f"replications/{name}/about.yaml is missing; it names the posts and the question of results/{folder}")
        return self.replications[name]


def read_posts(path: Path, results: Path, replications: Path) -> Posts:
    """Read posts.yaml, and find which of them a replication's about.yaml takes up."""
    content = read_checked_yaml(path, "posts.schema.json")
    files = sorted(replications.glob("*/about.yaml"))
    about = {file.parent.name: read_checked_yaml(file, "about.schema.json") for file in files}
    refuse(f"{path} is wrong:", list(_contradictions(content, about)))
    taken = {number: name for name, entry in about.items() for number in entry["posts"]}
    posts = [{"state": "later"} | post for post in content["posts"]]
    for post in posts:
        if name := taken.get(post["archive"]):
            parts = (results / name / "verdicts.json", path.parent / "replications" / f"{name}.md")
            post |= {"replication": name, "state": "done" if all(part.is_file() for part in parts) else "in work"}
    return Posts(content["topics"], about, posts)


def _contradictions(content: dict[str, Any], about: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Say where posts.yaml contradicts itself, and which post a replication names that is not there or another's."""
    numbers = Counter(post["archive"] for post in content["posts"])
    yield from (f"post {number} is given twice" for number, count in numbers.items() if count > 1)
    for post in content["posts"]:
        number, state = post["archive"], post.get("state")
        if post["topic"] not in content["topics"]:
            yield f"post {number}: no topic {post['topic']!r}; there are {', '.join(content['topics'])}"
        if (state == "in work") != ("replication" in post):
            yield f"post {number} is {state!r}: name a replication for 'in work', and for no other"
        if (state == "nothing to run") != (not post["kinds"]):
            yield f"post {number}: `kinds` is empty exactly where there is nothing to run"
    named: dict[int, str] = {}
    for name, number in ((name, number) for name, entry in about.items() for number in entry["posts"]):
        if number not in numbers:
            yield f"replications/{name}/about.yaml names post {number}; add it to the list"
        if number in named:
            yield f"post {number} is named by {named[number]} and {name}; leave it to one"
        named[number] = name


class Evidence(NamedTuple):
    """What shows that a source errs."""

    kind: str  # check, claim, derivation or reading
    text: str  # name of the check, id of the claim, or MyST
    claim: dict[str, Any] | None  # the one named, or that has the check among its tests; None for the other kinds


class Erratum(NamedTuple):
    """One error in a source."""

    replication: str  # the one that found it
    content: dict[str, Any]  # the entry of errata.yaml
    evidence: list[Evidence]  # looked up


def read_errata(replications: Path, results: Path, name: str, bib_keys: Collection[str]) -> list[Erratum]:
    """Read the errata of one replication, in the file's order; all that is wrong with them is named at once."""
    path = replications / name / "errata.yaml"
    entries = read_checked_yaml(path, "errata.schema.json")["errata"]
    claims = records.read_verdicts(results, name).claims
    repeated = [entry for entry, count in Counter(entry["id"] for entry in entries).items() if count > 1]
    problems, errata = [f"id {entry} is given twice; an id is never reused" for entry in repeated], []
    for entry in entries:
        try:
            errata.append(Erratum(name, entry, _evidence(entry, claims, bib_keys)))
        except ResultsError as error:
            problems.append(f"{entry['id']}: {error}")
    named = {one.claim["id"] for erratum in errata for one in erratum.evidence if one.claim}
    silent = [
        f"claim {claim_id} has the verdict corrected and is the evidence of no entry; add one"
        for claim_id, claim in claims.items()
        if claim["verdict"] == "corrected" and claim_id not in named
    ]
    refuse(f"{path}:", problems or silent)
    return errata


def names_with_errata(replications: Path, results: Path) -> list[str]:
    """List the replications that have an errata.yaml, or a corrected claim, so that they must have one."""
    names = {path.parent.name for path in replications.glob("*/errata.yaml")}
    judged = (name for name in records.judged_folders(results) if (replications / name).is_dir())
    verdicts = {name: records.read_verdicts(results, name).claims.values() for name in judged}
    corrected = {name for name, claims in verdicts.items() for claim in claims if claim["verdict"] == "corrected"}
    return sorted(names | corrected)


def _evidence(entry: dict[str, Any], claims: dict[str, Any], bib_keys: Collection[str]) -> list[Evidence]:
    bib = entry["source"]["bib"]
    if bib not in bib_keys:
        stop(f"source.bib {bib!r} is not in the bibliography; add it to references.bib, or mend the key")
    # Of several claims the last: one that is corrected by a check names it after the one that it tests.
    checks = records.identities(dict(reversed(claims.items())))
    evidence = []
    for kind, text in (part for item in entry["evidence"] for part in item.items()):
        claim = records.claim_with_id(claims, text) if kind == "claim" else None
        if kind == "check":
            if text not in checks:
                stop(f"no executed check {text!r}; there are {', '.join(checks) or 'none'}")
            claim, _, _ = checks[text]
        evidence.append(Evidence(kind, text, claim))
    undecided = [one for one in evidence if one.claim and one.claim["verdict"] in _UNDECIDED]
    if len(undecided) == len(evidence):
        words = ", ".join(f"{one.text} {one.claim['verdict'] or 'no verdict'}" for one in undecided if one.claim)
        stop(
            f"its evidence is undecided ({words}), so nothing shows the error; name other evidence, or drop the entry"
        )
    return evidence

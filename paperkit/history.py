"""Which came first, a claim's rule or its result: read from git, which nobody edits by accident.

A rule is what decides: kind, family, profile, min_seeds, tests (without pilot_sd), gate, the tests of a correction,
and the variations of `robustness`, with all defaults. Statement, source and reported value are no part of it.

* A rule stands in a commit before that of its first result: a test with n > 0 or a max_error, a variation with n > 0.
* From then on it stays. It may be replaced only if the claim keeps it under `amended:`, as it stood, with the reason.
* A number that claims.yaml only names (a function of estimands.py) may later be said in place under the same name.
  What is said in place is part of the rule.
* `superseded_by` may be set at any time; the claim may then leave its family.
* A variation may be added after its claim's first result, since it can only weaken the word; but its own first number
  comes in a later commit. Where the runs can already tell it, it does not: verdicts.json is committed as claims.yaml
  makes it. A variation of a claim that has a result is not taken back. Another race is read of every claim alike, and
  declared by none.

What lies on disk counts as one more commit, not yet made. Of a branch that was squashed nobody can tell what came
first, and it is refused: merge it. Old claims are read by today's model, which may get new keys with defaults; a claim
that no longer fits it counts as absent, and its result as one without a rule.
"""

import io
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from paperkit.claims.declarations import Claim, ClaimsFile
from paperkit.claims.verdicts import ANOTHER_RACE
from paperkit.config import ConfigError, UniqueKeyLoader, parse
from paperkit.profiles import PROFILES, results_name
from paperkit.results import read_json

_SAID = {"check", "value", "difference"}
_FRAME = ("id", "statement", "source", "reported")

# A claim's id, or a claim's id and the name of one of its variations.
Key = tuple[str, ...]


class Commit(NamedTuple):
    """A commit and its day (UTC); both empty for what lies on disk, not yet committed."""

    hash: str
    date: str

    def __str__(self) -> str:
        """Write day and short hash."""
        return f"{self.date} ({self.hash[:10]})" if self.hash else "not yet committed"


class Dates(NamedTuple):
    """When a claim's rule was committed, when its first result (None where there is none), and why it was amended."""

    rule: Commit
    result: Commit | None
    amended: tuple[str, ...]


class History(NamedTuple):
    """The dates of every claim of a replication by its id, and what is wrong with them, a sentence each."""

    dates: dict[str, Dates]
    problems: list[str]


def no_history(root: Path) -> str | None:
    """Say why there is no history to check.

    Args:
        root: The repository's root.

    Returns:
        A clause for a line such as "not checked: ..."; None where the whole history is there.
    """
    try:
        told = _git(root, "rev-parse", "--show-prefix", "--is-shallow-repository", "HEAD").decode().splitlines()
    except FileNotFoundError:
        return "git is not installed"
    except subprocess.CalledProcessError as error:
        return f"git finds no commit here ({error.stderr.decode().partition(chr(10))[0]})"
    prefix, shallow, _ = told
    if prefix:
        return "this folder lies in a repository that is not its own"
    return "a shallow clone; `git fetch --unshallow` brings the rest" if shallow == "true" else None


def read_history(root: Path, name: str) -> History:
    """Find when the rules of a replication were committed, and which of them did not stand before their results.

    Args:
        root: The repository's root; its whole history is there (`no_history` gives None).
        name: Folder of the replication.

    Returns:
        Dates of the claims on disk, and problems; each names claim and remedy.
    """
    claims_path = f"replications/{name}/claims.yaml"
    folders = list(dict.fromkeys(f"results/{results_name(name, profile)}" for profile in PROFILES))
    verdicts = [f"{folder}/{file}.json" for folder in folders for file in ("verdicts", "timing_verdicts")]
    points = _points(root, claims_path, verdicts)
    now = points[-1]
    written = _claims_in(_on_disk(root / claims_path))
    claims = {claim["id"]: claim for claim in written if (claim.get("id"),) in now.rules}
    kept, problems = _kept(claims, points)
    problems += _moves(points, kept, claims_path)
    problems += _uncommitted(root, folders)
    dates = {
        claim_id: Dates(
            points[now.since[claim_id,]].commit,
            points[now.first[claim_id,]].commit if (claim_id,) in now.first else None,
            tuple(entry["why"] for entry in claim.get("amended", ())),
        )
        for claim_id, claim in claims.items()
    }
    return History(dates, problems)


@dataclass(frozen=True)
class _Rule:
    """What decides a claim, or one of its variations."""

    criterion: dict[str, Any]
    # The number of each estimand, as it is said in place.
    said: dict[str, Any]
    superseded: bool = field(default=False, compare=False)

    def stands_in(self, later: "_Rule | None") -> bool:
        """Tell whether a later rule decides as this one; that of a superseded claim may have left its family."""
        if later is None:
            return False
        family = {"family": later.criterion["family"]} if later.superseded else {}
        same_numbers = all(later.said.get(name) == number for name, number in self.said.items())
        return same_numbers and self.criterion | family == later.criterion


@dataclass(frozen=True)
class _Point:
    """A commit: its rules, since which point each stands, and at which point each had its first result."""

    commit: Commit
    rules: dict[Key, _Rule]
    since: dict[Key, int]
    first: dict[Key, int]


def _points(root: Path, claims_path: str, verdicts: Sequence[str]) -> list[_Point]:
    """Read the history, the oldest first and what lies on disk last; a point is named by its place."""
    paths = [claims_path, *verdicts]
    commits = _commits(root, paths)
    texts = committed(root, [f"{commit.hash}:{path}" for commit, _ in commits for path in paths])
    rules_in, measured_in = cache(_rules_in), cache(_measured_in)
    points: list[_Point] = []
    last = [len(commits) - 1] if commits else []
    for commit, parents in [*commits, (Commit("", ""), last)]:
        written, *judged = [next(texts) if commit.hash else _on_disk(root / path) for path in paths]
        rules, measured = rules_in(written), set[Key]().union(*map(measured_in, judged))
        before = [points[parent] for parent in parents]
        since = {
            key: min(
                (point.since[key] for point in before if key in point.rules and point.rules[key].stands_in(rule)),
                default=len(points),
            )
            for key, rule in rules.items()
        }
        first = {
            key: min((point.first[key] for point in before if key in point.first), default=len(points))
            for key in measured.union(*(point.first for point in before))
        }
        points.append(_Point(commit, rules, since, first))
    return points


def _moves(points: Sequence[_Point], kept: Mapping[str, list[dict[Key, _Rule]]], path: str) -> Iterator[str]:
    """Find results that came before their rule, and rules that changed after their claim's first result."""
    now = points[-1]
    for key, place in now.first.items():
        declared_later = any(key not in rules for rules in kept.get(key[0], ()))
        if points[place].since.get(key, place) == place and not declared_later:
            yield (
                f"{_named(key)}: the first result is {points[place].commit}, and no earlier commit holds the rule; "
                "commit a rule before it is run (a branch that is not yet merged can be split)"
            )
    for key in dict.fromkeys(key for point in points for key in point.rules):
        for point in points:
            rule = point.rules.get(key) if key[:1] in point.first else None
            amended = any(rules.get(key) == rule for rules in kept.get(key[0], ()))
            if rule is not None and not rule.stands_in(now.rules.get(key)) and not amended:
                yield (
                    f"{_named(key)}: the rule as of {point.commit} has changed or gone since, and the claim's first "
                    f"result is {points[now.first[key[:1]]].commit}; restore it and add a new claim, or keep the old "
                    f"rule (`git show {point.commit.hash[:10]}:{path}`) in the claim's `amended:` with the reason"
                )
                break


def _kept(
    claims: Mapping[str, dict[str, Any]], points: Sequence[_Point]
) -> tuple[dict[str, list[dict[Key, _Rule]]], list[str]]:
    """Read the rules that claims keep under `amended`; one that never stood is a problem."""
    kept: dict[str, list[dict[Key, _Rule]]] = {}
    problems = []
    for claim_id, claim in claims.items():
        stood = [{key: rule for key, rule in point.rules.items() if key[0] == claim_id} for point in points]
        for number, entry in enumerate(claim.get("amended", ()), start=1):
            source = f"claim {claim_id}, amended criterion {number}"
            try:
                rules = _rules_of({key: claim[key] for key in _FRAME} | entry["criterion"], source)
            except ConfigError as error:
                problems.append(str(error))
                continue
            if rules not in stood:
                problems.append(f"{source}: no commit holds it; write it as it stood in claims.yaml")
            kept.setdefault(claim_id, []).append(rules)
    return kept, problems


def _uncommitted(root: Path, folders: Sequence[str]) -> list[str]:
    """Name the records of runs that began while claims.yaml was not committed; old records do not say it."""
    paths = [f"{folder}/{file}.json" for folder in folders for file in ("provenance", "timing_provenance")]
    records = {path: read_json(root / path) for path in paths if (root / path).is_file()}
    return [
        f"{path}: claims.yaml was not committed when this run began; commit it, then rerun the stage"
        for path, record in records.items()
        if "claims" in record and record["claims"]["commit"] is None
    ]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # pyright: ignore[reportGeneralTypeIssues]
    """The fast loader of YAML where it was built, with the numbers of paperkit.config."""

    yaml_implicit_resolvers = UniqueKeyLoader.yaml_implicit_resolvers


def decoded(text: bytes) -> Any:
    """Read YAML, fast.

    Args:
        text: Of a file that a tool or an earlier commit wrote.

    Returns:
        The decoded content.
    """
    return _Loader(text).get_single_data()


def _claims_in(text: bytes) -> Sequence[dict[str, Any]]:
    """Read claims.yaml of any time; there is no claim in one that cannot be read, since nobody can mend it now."""
    try:
        return parse(ClaimsFile, decoded(text), source="claims.yaml").claims
    except (yaml.YAMLError, ConfigError):
        return ()


def _rules_in(text: bytes) -> dict[Key, _Rule]:
    rules: dict[Key, _Rule] = {}
    for content in _claims_in(text):
        try:
            rules |= _rules_of(content, "claims.yaml")
        except ConfigError:
            continue
    return rules


def _rules_of(content: Mapping[str, Any], source: str) -> dict[Key, _Rule]:
    """Take the rule of a claim and those of its variations, with all defaults."""
    claim = parse(Claim, content, source=source)
    tests = {"tests": claim.tests, "correction": claim.corrected, "gate": (claim.gate,) if claim.gate else ()}
    criterion = claim.model_dump(include={"kind", "family", "profile", "min_seeds"})
    for key, parts in tests.items():
        criterion[key] = [part.model_dump(exclude={*_SAID, "pilot_sd"}) for part in parts]
    said = {part.estimand: part.said for parts in tests.values() for part in parts if part.said}
    rules: dict[Key, _Rule] = {(claim.id,): _Rule(criterion, said, superseded=claim.superseded_by is not None)}
    for part in claim.robustness:
        said = {part.estimand: part.said} if part.said else {}
        rules[claim.id, part.name] = _Rule(part.model_dump(exclude=_SAID), said)
    return rules


def _measured_in(text: bytes) -> set[Key]:
    """Name the claims and the variations of a file of verdicts that have a number."""
    try:
        claims = json.loads(text)["claims"]
    except ValueError:  # not there, or not mergeable when it was committed
        return set()
    measured: set[Key] = set()
    for claim in claims:
        tests = claim["tests"] + claim.get("correction", {"tests": []})["tests"]
        if any(test.get("n") or test.get("max_error") is not None for test in tests):
            measured.add((claim["id"],))
        varied = (one["name"] for one in claim.get("robustness", ()) if one["n"])
        measured |= {(claim["id"], name) for name in varied if name != ANOTHER_RACE}
    return measured


def _commits(root: Path, paths: Sequence[str]) -> list[tuple[Commit, list[int]]]:
    """List the commits that changed one of the paths, oldest first, each with the places of its parents."""
    walk = ("rev-list", "--simplify-merges", "--date-order", "--reverse", "--parents", "--timestamp", "HEAD", "--")
    listed = _git(root, *walk, *paths)
    commits: list[tuple[Commit, list[int]]] = []
    places: dict[str, int] = {}
    for line in listed.decode().splitlines():
        seconds, name, *parents = line.split()
        places[name] = len(commits)
        date = datetime.fromtimestamp(int(seconds), UTC).date().isoformat()
        commits.append((Commit(name, date), [places[parent] for parent in parents]))
    return commits


def committed(root: Path, names: Sequence[str]) -> Iterator[bytes]:
    """Read what git holds.

    Args:
        root: The repository's root.
        names: Of commits, or of files in them, such as "1a2b3c:params.yaml".

    Yields:
        The content of each; empty where there is none.
    """
    listed = io.BytesIO(_git(root, "cat-file", "--batch", text="".join(f"{name}\n" for name in names)))
    for _ in names:
        header = listed.readline()
        size = 0 if header.endswith(b" missing\n") else int(header.split()[-1]) + 1
        yield listed.read(size)[:-1]


def _on_disk(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _git(root: Path, *arguments: str, text: str = "") -> bytes:
    # These commands obey no setting of the user.
    command, environment = ["git", "-C", str(root), *arguments], environment_without_git()
    return subprocess.run(command, input=text.encode(), env=environment, capture_output=True, check=True).stdout


def environment_without_git() -> dict[str, str]:
    """Leave out GIT_DIR and its like, which within a hook name another repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _named(key: Key) -> str:
    return f"claim {key[0]}" + (f", variation {key[1]!r}" if key[1:] else "")

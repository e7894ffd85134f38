"""The record of results that moved: numbers_changed.yaml, from which part of CHANGELOG.md is written.

`make changes SINCE=<commit> WHY="..."` compares the results of that commit with those on disk, as the book prints
them, adds an entry for each claim that moved, and writes the part of CHANGELOG.md anew.
"""

import argparse
import datetime
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from paperkit.answers import word_of
from paperkit.config import ConfigError, UniqueKeyLoader
from paperkit.results import ResultsError
from results_in_text.records import SHORT_COMMIT, measured_lines, stop
from results_in_text.yaml_files import read_checked_yaml

ROOT = Path(__file__).parents[3]
# No comments of HTML, which the book shows as text: definitions of links that nothing uses, and no reader sees.
BEGIN, END = "[numbers changed, begin]: #", "[numbers changed, end]: #"


class _Dumper(yaml.SafeDumper):
    """Quotes what would be read as a number: PyYAML's own, of YAML 1.1, leaves 0123456789 as it is."""

    yaml_implicit_resolvers = UniqueKeyLoader.yaml_implicit_resolvers


State = dict[str, Any]
Change = dict[str, Any]


def read_changes(path: Path, more: Sequence[Change] = ()) -> list[Change]:
    """Read numbers_changed.yaml, the oldest entry first, then more; each begins where its claim's last one ended."""
    changes = [*read_checked_yaml(path, "numbers_changed.schema.json")["numbers_changed"], *more]
    moved_to: dict[str, str] = {}
    for change in changes:
        claim, old = change["claim"], _printed(change["old"])
        if moved_to.setdefault(claim, old) != old:
            stop(f"{path}: {claim} had moved to {moved_to[claim]}, and its next entry begins at {old}")
        moved_to[claim] = _printed(change["new"])
    return changes


def states_of(results: Path | zipfile.Path) -> dict[str, State]:
    """Return what every claim, by id such as lion/C6, says: commit of the code, verdict and measured lines."""
    states = {}
    for folder in sorted(results.iterdir(), key=lambda folder: folder.name):
        for timing in ("timing_", ""):
            if not (folder / f"{timing}verdicts.json").is_file():
                continue
            record = json.loads((folder / f"{timing}provenance.json").read_text(encoding="utf-8"))
            for claim in json.loads((folder / f"{timing}verdicts.json").read_text(encoding="utf-8"))["claims"]:
                states[f"{folder.name}/{claim['id']}"] = {
                    "commit": (record["commit"] or "unknown")[:SHORT_COMMIT],
                    "verdict": word_of(claim),
                    "measured": measured_lines(claim["tests"]),
                }
    return states


def states_in(commit: str, repository: Path = ROOT) -> dict[str, State]:
    """Return what every claim said in a commit."""
    archive = zipfile.ZipFile(io.BytesIO(_git(repository, "archive", "--format=zip", commit, "results")))
    return states_of(zipfile.Path(archive, "results/"))


def moved(
    old: Mapping[str, State], new: Mapping[str, State], *, kept_in: str, why: str, date: datetime.date
) -> list[Change]:
    """Compare two states of all claims: an entry for each that prints another verdict or other numbers."""
    # A claim's first result is none, nor is a claim that was withdrawn.
    frame = {"date": date.isoformat(), "why": why}
    return [
        {"claim": claim, **frame, "old": {**state, "kept_in": kept_in[:SHORT_COMMIT]}, "new": new[claim]}
        for claim, state in old.items()
        if claim in new
        and not all(line.endswith("not run") for line in state["measured"])
        and _printed(state) != _printed(new[claim])
    ]


def with_changes(changelog: str, changes: Sequence[Change]) -> str:
    """Put the entries between the two marks of CHANGELOG.md: one item a day and reason, the newest first."""
    before, _, rest = changelog.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        stop(f"CHANGELOG.md lacks the marks {BEGIN} and {END}; put both under the heading Numbers changed")
    groups = [(key, list(group)) for key, group in groupby(changes, lambda change: (change["date"], change["why"]))]
    lines = []
    for (date, why), group in reversed(groups):
        lines.append(f"- {date}: {why}")
        lines += [f"  - {one['claim']}: from {_printed(one['old'])} to {_printed(one['new'])}" for one in group]
    return "\n".join([f"{before}{BEGIN}", *lines, "", f"{END}{after}"])


def _printed(state: State) -> str:
    return f"{'; '.join(state['measured'])} ({state['verdict']})"


def _git(repository: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=True)
    except subprocess.CalledProcessError as error:
        said = f"git {' '.join(arguments)}: {error.stderr.decode().strip()}"
        stop(f"{said}; name a commit of this repository, with its history", error)
    return done.stdout


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """Run the command line; what is refused ends it with a message and exit code 1."""
    parser = argparse.ArgumentParser(prog="make changes", description="Record the results that moved.")
    parser.add_argument("--since", help="commit with the old results; without it only CHANGELOG.md is written anew")
    parser.add_argument("--why", help="one sentence: why they moved")
    options = parser.parse_args(arguments)
    record, changelog = root / "numbers_changed.yaml", root / "CHANGELOG.md"
    try:
        if options.since:
            _record_moves(root, record, options.since, (options.why or "").strip())
        text = with_changes(changelog.read_text(encoding="utf-8"), read_changes(record))
        changelog.write_text(text, encoding="utf-8")
    except (ResultsError, ConfigError) as error:
        sys.exit(f"error: {error}")


def _record_moves(root: Path, record: Path, since: str, why: str) -> None:
    """Add an entry for each claim that moved since a commit."""
    if not why:
        stop("WHY is missing: say in one sentence why the results moved")
    commit = _git(root, "rev-parse", "--verify", f"{since}^{{commit}}").decode().strip()
    today = datetime.datetime.now(datetime.UTC).date()
    old, new = states_in(commit, root), states_of(root / "results")
    changes = moved(old, new, kept_in=commit, why=why, date=today)
    if not changes:
        stop(f"no claim prints anything else than in {since}")
    read_changes(record, changes)  # which stops before a line is written if they do not follow from the record
    added = yaml.dump(changes, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    record.write_text(f"{record.read_text(encoding='utf-8').rstrip()}\n{added}", encoding="utf-8")
    print(f"{len(changes)} claims moved: {', '.join(change['claim'] for change in changes)}")


if __name__ == "__main__":
    main()

"""What was run again, and what was broken on purpose: receipts of `make verify`, and the record of `make soak`."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from docutils import nodes

from paperkit.config import StrictModel, parse, read_yaml
from paperkit.prediction import next_run
from paperkit.results import read_json
from results_in_text.nodes import Row, block, paragraph, table
from results_in_text.pages import BookDirective, depend_on, download_link
from results_in_text.records import stop

RECEIPTS = "receipts"
RECORD = f"{RECEIPTS}/broken_on_purpose.json"  # tests/recorded.py writes it
FAULTS = "faults.yaml"


class Fault(StrictModel):
    """A kind of fault that was tried: what was done, what came of it then, what comes of it now, and who shows it."""

    tried: str
    then: str
    now: str
    tests: list[str]


class Faults(StrictModel):
    """The content of faults.yaml."""

    faults: list[Fault]


def expected_next(values: Mapping[str, float | None] | None) -> str:
    """Say in which interval one more seed should land; nothing where the seeds cannot tell."""
    interval = next_run(pd.Series(dict(values or {}), dtype=float))
    return f"[{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""


def receipts_of(repository: Path, folder: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Read the receipts of the results as they are, by file, the oldest first; those of earlier results are not."""
    paths = sorted((repository / RECEIPTS / folder).glob("*.json"))
    receipts = {path.name: read_json(path) for path in paths}
    return {name: each for name, each in receipts.items() if each["against"]["started"] == record["started"]}


def reruns_text(receipts: Sequence[Mapping[str, Any]]) -> str:
    """Say how often results were run again, on how many classes of machines, and how far a seed has moved."""
    if not receipts:
        return "These results were not yet rerun from a clean clone (`make verify`)."
    where = {(each["device"] or {}).get("name", each["machine_class"]) for each in receipts}
    moved = [metric["drift_sd"] for each in receipts for metric in each["metrics"].values()]
    drift = max((each for each in moved if each is not None), default=0.0)
    outcomes = ", ".join(dict.fromkeys(each["outcome"] for each in receipts))
    times, classes = _count(len(receipts), "time"), _count(len(where), "class", "classes")
    return (
        f"Rerun {times} from a clean clone on {classes} of machines, with the outcome *{outcomes}*; largest drift of "
        f"a seed: {drift:.2g} standard deviations between seeds."
    )


def rerun_lines(directive: BookDirective, folder: str, record: Mapping[str, Any]) -> nodes.paragraph:
    """Make the line about receipts, with links to them."""
    repository = directive.replications.parent
    receipts = receipts_of(repository, folder, record)
    # Not on their folder, which Sphinx would take for a file that is gone; `make book` reads all pages again.
    depend_on(directive.env, *(repository / RECEIPTS / folder / name for name in receipts))
    line = block(*directive.inline(reruns_text([*receipts.values()])), generated=True)
    for name in receipts:
        link = download_link(directive.env.docname, f"{folder}/{name}", f"Receipt of {name[:10]}")
        line += [nodes.Text(" "), link, nodes.Text(".")]
    return line


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or f'{one}s'}"


class BrokenOnPurpose(BookDirective, name="broken-on-purpose"):
    """Directive `broken-on-purpose`: the faults of faults.yaml, and what the tests named there did when last run."""

    def _make(self) -> list[nodes.Node]:
        repository = self.replications.parent
        faults = parse(Faults, read_yaml(repository / FAULTS), source=FAULTS).faults
        record = read_json(repository / RECORD)["tests"]
        depend_on(self.env, repository / FAULTS, repository / RECORD)
        rows: list[Row] = []
        for fault in faults:
            if missing := [test for test in fault.tests if test not in record]:
                stop(f"{RECORD} has no outcome of {missing[0]}; run it with `-p tests.recorded`")
            shown = [_outcome(test, record[test]) for test in fault.tests]
            rows.append([*([self.line(text)] for text in (fault.tried, fault.then, fault.now)), shown])
        headings = ["What we did", "What happened at first", "What happens now", "What shows it, when last run"]
        return [table(headings, rows, css_class="broken-on-purpose", widths=[24, 24, 24, 28])]


class Soak(BookDirective, name="soak"):
    """Directive `soak`: the tests that the suite has no time for, and how they ended when last run."""

    def _make(self) -> list[nodes.Node]:
        path = self.replications.parent / RECORD
        depend_on(self.env, path)
        tests = read_json(path)["tests"]
        # What lacks something on the machine, such as a graphics card, was skipped.
        soak = {test: one for test, one in tests.items() if one["soak"] and one["passed"] + one["failed"]}
        rows: list[Row] = [
            [[block(*_named(test))], [paragraph(_cases(outcome))], [paragraph(f"{outcome['seconds']:.0f} s")]]
            for test, outcome in sorted(soak.items())
        ]
        headings = ["Test", "Cases passed", "Took"]
        total = sum(outcome["seconds"] for outcome in soak.values()) / 60
        days = [f"{date.fromisoformat(outcome['on']):%-d %B %Y}" for outcome in soak.values()]
        when = f"last run on {' and '.join(dict.fromkeys(days))}"
        said = f"Together {_count(len(rows), 'test')}, {when}, took {_count(round(total), 'minute')}."
        made = table(headings, rows, css_class="soak", widths=[66, 20, 14])
        return [made, block(said, generated=True)]


def _outcome(test: str, outcome: Mapping[str, Any]) -> nodes.paragraph:
    return block(*_named(test), f": {_cases(outcome)}, {outcome['seconds']:.0f} s")


def _named(test: str) -> list[nodes.Node | str]:
    """Write the name of a test as the sentence that it is, which a narrow page can break, and its file."""
    file, _, name = test.partition("::")
    return [f"{name.removeprefix('test_').replace('_', ' ')} (", nodes.literal("", file), ")"]


def _cases(outcome: Mapping[str, Any]) -> str:
    skipped = f", {outcome['skipped']} not run on this machine" if outcome["skipped"] else ""
    return f"{outcome['passed']} of {outcome['passed'] + outcome['failed']}{skipped}"

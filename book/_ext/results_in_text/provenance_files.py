"""Who made a results file: the record of its stage, what a reader should know of it, and how to see its code."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from paperkit.provenance import content_hash
from paperkit.results import ResultsError, read_json
from results_in_text.written_values import WrittenValue

Facts = list[tuple[str, str]]

SHORT_COMMIT = 10
_NEEDED = ("stage", "command", "profile", "commit", "dirty", "started", "machine_class", "deps")


def provenance_file(root: Path, file: str) -> Path:
    """Name the record of the stage that made a results file, given without suffix: lion/timing_verdicts, say."""
    folder, _, stem = file.rpartition("/")
    return root / folder / ("timing_provenance.json" if stem.startswith("timing") else "provenance.json")


def read_provenance(path: Path) -> dict[str, Any]:
    """Read the record of a stage, with at least the keys that a page shows."""
    record = read_json(path)
    lacking = [key for key in _NEEDED if key not in record]
    if lacking:
        message = f"{path} lacks {', '.join(lacking)}; rerun its stage, which writes it"
        raise ResultsError(message)
    return record


def stage_facts(record: Mapping[str, Any]) -> Facts:
    """Say where a result comes from, shortly."""
    return [
        ("profile", record["profile"]),
        ("stage", record["stage"]),
        ("command", record["command"]),
        ("inputs", "; ".join(_inputs(record["deps"]))),
        ("commit", commit_text(record)),
        ("date", record["started"][:10]),
        ("machine", record["machine_class"]),
    ]


def value_facts(value: WrittenValue) -> Facts:
    """Say what stands behind one value, shortly."""
    test = value.test
    if not test:
        return []
    if test["rule"] == "identity":
        return [
            ("claim", f"{value.claim}, identity {test['estimand']}"),
            ("largest error", f"{test['max_error']!r}, tolerance {test['tolerance']!r}"),
            ("control", f"{test['control_error']!r}, must exceed the tolerance"),
        ]
    unit = f" {test['unit']}" if test["unit"] else ""
    facts = [("claim", f"{value.claim}, estimand {test['estimand']}"), ("estimate", f"{test['estimate']!r}{unit}")]
    if test["low"] is not None and test["high"] is not None:
        facts.append(("95 % interval", f"{test['low']:.6g} to {test['high']:.6g}{unit}"))
    seeds = ", ".join(map(str, test.get("seeds", [])))
    return [*facts, ("seeds", f"n = {test['n']}" + (f": {seeds}" if seeds else ""))]


def commit_text(record: Mapping[str, Any]) -> str:
    """Name the commit of the code that ran, and say if it was not all committed."""
    if record["commit"] is None:
        return "unknown: run outside a git repository"
    return record["commit"][:SHORT_COMMIT] + (", with changes not yet committed" if record["dirty"] else "")


def current_hash(repository: Path, path: str, profile: str) -> str | None:
    """Hash a dependency as it is now, as the provenance does; None if it is not there (data are not in git)."""
    file = repository / path
    return _hash_of(file, profile, file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None


@cache
def _hash_of(file: Path, profile: str, *_changes_with: int) -> str:
    """Hash a file once for as long as it stays: each of a derivation's checks asks for all the files behind it."""
    return content_hash(file, profile)


def _inputs(deps: Mapping[str, str]) -> list[str]:
    data = [f"{path} md5 {digest[:8]}" for path, digest in sorted(deps.items()) if path.startswith("data/")]
    code = {path: digest for path, digest in sorted(deps.items()) if not path.startswith("data/")}
    together = hashlib.md5("".join(f"{path} {digest}\n" for path, digest in code.items()).encode()).hexdigest()
    return [*data, f"{len(code)} files of code and parameters, hash of their list {together[:8]}"]

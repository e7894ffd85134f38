"""Why two verdicts of one claim differ: `python -m paperkit explain lion/C6 --against other/verdicts.json`.

The other file may be of another profile, machine or commit. What lies beside it is compared too: provenance and runs.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paperkit.config import ConfigError
from paperkit.explain import find_verdict, tests_of
from paperkit.results import read_json, read_runs

MAX_VALUES = 6  # of one setting in a line
# What a claim's record declares of a test; the rest was measured.
DECLARED = ("estimand", "rule", "bound", "margin", "range", "tolerance", "unit", "seeds")
# What of a record of provenance may decide a number, or says where it was made.
MADE_BY = ("commit", "machine_class", "device", "kernels", "environment", "threads", "workers", "deps", "versions")


def differences(root: Path, address: str, against: Path) -> list[str]:
    """Compare the settings behind a claim with those behind another file of verdicts.

    Args:
        root: The repository.
        address: Folder of results and claim.
        against: Another verdicts.json. Provenance and runs are compared where they lie beside it.

    Returns:
        The two words, then one line a setting that differs: "name: here | there".

    Raises:
        ConfigError: If one of the two has no such claim.
    """
    folder, record = find_verdict(root, address)
    other = _claim_in(against, record["id"])
    here, there = _settings(folder, record), _settings(against.parent, other)
    keys = [key for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)]
    lines = [f"{key}: {_short(here.get(key))} | {_short(there.get(key))}" for key in keys]
    words = f"{address}: {record['verdict']} | {other['verdict']}"
    return [words, *(lines or ["no setting differs"])]


def _claim_in(file: Path, claim_id: str) -> dict[str, Any]:
    try:
        records = {record["id"]: record for record in read_json(file)["claims"]}
    except (KeyError, TypeError) as error:
        message = f"{file} holds no verdicts: it has no list `claims` with an `id` each"
        raise ConfigError(message) from error
    if claim_id not in records:
        message = f"{file} has no verdict of {claim_id}; it has {', '.join(records)}"
        raise ConfigError(message)
    return records[claim_id]


def _settings(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what may differ behind a claim: its rule and seeds, what made the runs, and the runs' configurations."""
    settings = {f"{place}.{key}": test[key] for place, test in tests_of(record) for key in DECLARED if key in test}
    prefix, table = ("timing_", "timings.csv") if record["kind"] == "timing" else ("", "runs.csv")
    made = folder / f"{prefix}provenance.json"
    if made.is_file():
        content = read_json(made)
        settings |= _flat({key: content.get(key) for key in MADE_BY})
    if (folder / table).is_file():
        values: dict[str, set[str]] = {}
        for config in read_runs(folder / table)["config"].unique():
            for key, value in _flat(json.loads(config), "config").items():
                values.setdefault(key, set()).add(json.dumps(value))
        settings |= {key: sorted(found) for key, found in values.items()}
    return settings


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Name what lies in nested mappings by its path."""
    return dict(_leaves(content, before))


def _leaves(content: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, content


def _short(value: Any) -> str:
    if isinstance(value, list):
        more = f", … ({len(value)} values)" if len(value) > MAX_VALUES else ""
        return ", ".join(map(str, value[:MAX_VALUES])) + more
    return "not there" if value is None else str(value)

"""The one format that crosses from experiments to verdicts, figures and the book.

Tables are CSV with fixed columns, sorted rows, shortest round-trip floats and LF, so that equal results
are equal bytes. Everything else is JSON with sorted keys and without NaN. No torch in here: estimands,
figures and the book read results where torch need not be installed.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import pandas as pd

RUNS_COLUMNS = ("profile", "experiment", "arm", "seed", "config", "split", "step", "metric", "value", "status")
TRIALS_COLUMNS = (
    "profile",
    "experiment",
    "arm",
    "trial",
    "seed",
    "config",
    "metric",
    "value",
    "status",
    "selected",
    "at_edge",
)
COSTS_COLUMNS = ("experiment", "arm", "runs", "cpu_s", "peak_mib")
STATUSES = ("ok", "diverged")
_INTEGERS = ("seed", "step", "trial")
_FLAGS = ("selected", "at_edge")


class ResultsError(ValueError):
    """A results file or row does not have the fixed form; the message names it and the remedy."""


def canonical_json(content: object) -> str:
    """Return the one JSON text of a configuration: sorted keys, no spaces, shortest floats.

    Args:
        content: Anything JSON can hold, without NaN or infinity.

    Returns:
        One line of JSON; equal configurations give equal text.

    Raises:
        ResultsError: If a value is NaN, infinite, or not JSON.

    Example:
        >>> canonical_json({"lr": 0.001, "arm": "lion"})
        '{"arm":"lion","lr":0.001}'
    """
    try:
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        message = f"not canonical JSON ({error}): {content!r}; use finite numbers, text, lists and mappings"
        raise ResultsError(message) from error


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically: sorted keys, one-space indent, no NaN, final newline.

    Args:
        path: File to replace.
        content: Anything JSON can hold.

    Raises:
        ResultsError: If a value is NaN, infinite, or not JSON. The old file then stays as it was.
    """
    canonical_json(content)
    text = json.dumps(content, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    replace_text(path, text)


def read_json(path: Path) -> Any:
    """Read a JSON result.

    Args:
        path: File to read.

    Returns:
        The decoded content.

    Raises:
        ResultsError: If the file is missing or damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"{path} is missing; `dvc repro` makes it"
        raise ResultsError(message) from error
    except ValueError as error:
        message = f"{path} is not JSON ({error}); restore it with git, or run `dvc repro --force` on its stage"
        raise ResultsError(message) from error


def write_runs(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write measurements (`runs.csv`, `timings.csv`), sorted by all columns.

    Args:
        path: File to replace.
        rows: One mapping a measurement with exactly the keys of `RUNS_COLUMNS`; `config` is a mapping or its
            canonical JSON; `value` is None or NaN only where `status` is "diverged".

    Raises:
        ResultsError: If a key is missing or unknown, a value is not finite in an "ok" row, a whole number needs more
            than 64 bits, a text has a carriage return (no reader of CSV gives it back), or two rows are of one thing.
    """
    _write_table(path, rows, RUNS_COLUMNS)


def write_trials(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the ledger of a search (`trials.csv`), sorted by all columns.

    Args:
        path: File to replace.
        rows: One mapping a trial with exactly the keys of `TRIALS_COLUMNS`.

    Raises:
        ResultsError: As `write_runs`.
    """
    _write_table(path, rows, TRIALS_COLUMNS)


def write_costs(path: Path, costs: Iterable[Mapping[str, Any]]) -> None:
    """Write what runs took (`costs.csv`), by experiment and arm; no two executions write the same.

    Args:
        path: File to replace.
        costs: One mapping a run: experiment, arm, cpu_s (processor seconds), peak_mib (largest memory).
    """
    table = pd.DataFrame(costs, columns=["experiment", "arm", "cpu_s", "peak_mib"])
    of_arm = table.groupby(["experiment", "arm"], as_index=False)
    summed = of_arm.agg(runs=("cpu_s", "size"), cpu_s=("cpu_s", "sum"), peak_mib=("peak_mib", "max"))
    replace_text(path, summed.round(2).to_csv(index=False, columns=list(COSTS_COLUMNS), lineterminator="\n"))


def read_runs(path: Path) -> pd.DataFrame:
    """Read measurements.

    Args:
        path: A file made by `write_runs`.

    Returns:
        One row a measurement, columns `RUNS_COLUMNS`; `value` is NaN where the run diverged.

    Raises:
        ResultsError: If the file is missing or damaged, or its columns are others.
    """
    return _read_table(path, RUNS_COLUMNS)


def read_trials(path: Path) -> pd.DataFrame:
    """Read the ledger of a search.

    Args:
        path: A file made by `write_trials`.

    Returns:
        One row a trial, columns `TRIALS_COLUMNS`; `selected` and `at_edge` are booleans.

    Raises:
        ResultsError: If the file is missing or damaged, or its columns are others.
    """
    return _read_table(path, TRIALS_COLUMNS)


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old file or the new one.

    Args:
        path: File to replace; its folder is made.
        text: New content; written as UTF-8 with LF.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)


def _write_table(path: Path, rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> None:
    records = [_checked(row, columns) for row in rows]
    table = pd.DataFrame(records, columns=list(columns))
    _refuse_duplicates(path, table)
    table = table.sort_values(list(columns), kind="stable")
    # repr of a Python float is its shortest round-trip form; pandas' own formatter is not guaranteed to be.
    table["value"] = [("" if pd.isna(value) else repr(float(value))) for value in table["value"]]
    replace_text(path, table.to_csv(index=False, lineterminator="\n"))


def _checked(row: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
    missing, unknown = set(columns) - set(row), set(row) - set(columns)
    if missing or unknown:
        message = f"row {dict(row)!r}: missing keys {sorted(missing)}, unknown keys {sorted(unknown)}"
        raise ResultsError(message)
    for column in set(_INTEGERS) & set(columns):
        if not isinstance(row[column], Integral) or not -(2**63) <= row[column] < 2**63:
            message = f"{column} {row[column]!r} in row {dict(row)!r}; allowed: whole numbers of 64 bits"
            raise ResultsError(message)
    if torn := [column for column in columns if "\r" in str(row[column])]:
        message = f"{torn[0]} {row[torn[0]]!r} in row {dict(row)!r}; allowed: text without a carriage return"
        raise ResultsError(message)
    if row["status"] not in STATUSES:
        message = f"status {row['status']!r} in row {dict(row)!r}; allowed: {', '.join(STATUSES)}"
        raise ResultsError(message)
    value = math.nan if row["value"] is None else float(row["value"])
    if row["status"] == "ok" and not math.isfinite(value):
        message = f"value {row['value']!r} in an ok row {dict(row)!r}; a run without a number is 'diverged'"
        raise ResultsError(message)
    config = row["config"]
    text = config if isinstance(config, str) else canonical_json(config)
    return {**row, "config": text, "value": value if math.isfinite(value) else math.nan}


def _refuse_duplicates(path: Path, table: pd.DataFrame) -> None:
    keys = [column for column in table.columns if column not in ("value", "status", *_FLAGS)]
    repeated = table[table.duplicated(keys)]
    if len(repeated):
        message = f"{path}: {len(repeated)} rows measure the same thing twice, first {repeated.iloc[0].to_dict()}"
        raise ResultsError(message)


def _read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    kinds = {**dict.fromkeys(columns, str), **dict.fromkeys(_INTEGERS, "int64"), **dict.fromkeys(_FLAGS, "bool")}
    try:
        # Only an empty value is missing: an arm may be called "None" or "NA".
        table = pd.read_csv(
            path, dtype={**kinds, "value": "float64"}, keep_default_na=False, na_values={"value": [""]}
        )
    except FileNotFoundError as error:
        message = f"{path} is missing; `dvc repro` makes it"
        raise ResultsError(message) from error
    except ValueError as error:  # ParserError, EmptyDataError and UnicodeDecodeError too
        message = f"{path} cannot be read ({error}); restore it with git, or rerun its stage"
        raise ResultsError(message) from error
    if tuple(table.columns) != columns:
        message = f"{path} has columns {list(table.columns)}, expected {list(columns)}; rerun its stage"
        raise ResultsError(message)
    sound = table["value"].abs().lt(math.inf) & table["status"].eq("ok") | table["status"].eq("diverged")
    damaged = table[~sound]
    if len(damaged):
        row = damaged.iloc[0].to_dict()
        message = f"{path} is damaged, first in {row}; restore it with git, or rerun its stage"
        raise ResultsError(message)
    return table

"""A plugin of pytest, `-p tests.recorded`: notes how the tests that were run ended, for "What we broke on purpose".

Tests that are run in pieces are noted in one record, each with its commit and day.
"""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from paperkit.results import read_json, write_json

RECORD = Path(__file__).resolve().parents[1] / "receipts/broken_on_purpose.json"
_noted: dict[str, dict] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test's cases by how they ended, and add up the seconds of set-up, call and end."""
    test = report.nodeid.partition("[")[0]
    outcome = _noted.setdefault(test, {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0, "soak": False})
    outcome["seconds"] = round(outcome["seconds"] + report.duration, 1)
    outcome["soak"] |= "soak" in report.keywords
    if report.when == "call" or not report.passed:
        outcome[report.outcome] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the record; workers of pytest-xdist leave it to the process that started them."""
    if hasattr(session.config, "workerinput") or not _noted:
        return
    head = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(head, cwd=RECORD.parent, capture_output=True, text=True, check=True).stdout.strip()
    made = {"commit": commit, "on": datetime.now(UTC).date().isoformat()}
    tests = read_json(RECORD)["tests"] if RECORD.exists() else {}
    write_json(RECORD, {"schema": 1, "tests": tests | {test: outcome | made for test, outcome in _noted.items()}})

"""Every check of every derivation errs as its committed run did, and its control fails."""

import importlib
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from paperkit.claims.declarations import read_claims
from paperkit.estimands import identity_errors
from paperkit.identities import ChecksOf
from paperkit.pipeline import found_replications, has
from paperkit.results import read_runs
from paperkit.runs import Measurement, Run

ROOT = Path(__file__).parents[1]
MODULES = {
    name: importlib.import_module(f"replications.{name}.checks")
    for name in found_replications(ROOT)
    if has(ROOT, name, "checks")
}
TOLERANCES = {
    (name, test.estimand): test.tolerance
    for name in MODULES
    for claim in read_claims(ROOT / "replications" / name / "claims.yaml")
    for test in (*claim.tests, *claim.corrected)
    if test.rule == "identity" and test.check
}


@cache
def committed_runs(name: str) -> pd.DataFrame:
    return read_runs(ROOT / "results" / name / "runs.csv")


def test_every_check_decides_a_claim_and_every_claim_s_check_is_there():
    assert {(name, check) for name, module in MODULES.items() for check in module.CHECKS} == TOLERANCES.keys()


@pytest.mark.parametrize(("name", "check"), TOLERANCES, ids=[f"{name}: {check}" for name, check in TOLERANCES])
def test_a_check_errs_as_committed_and_its_control_is_beyond_its_tolerance(name, check):
    tolerance, found = TOLERANCES[name, check], MODULES[name].CHECKS[check]()
    committed = identity_errors(committed_runs(name), check)["max_error"].item()
    assert found.max_error >= 0
    assert (found.max_error <= tolerance) == (committed <= tolerance)
    assert found.max_error == pytest.approx(committed, rel=0.01, abs=1e-6)  # what is drawn is drawn from fixed seeds
    assert found.control_error > max(tolerance, 0.01)  # by far more than rounding


def test_a_run_of_a_check_measures_its_error_and_that_of_its_control(monkeypatch, tmp_path):
    (tmp_path / "toy_checks.py").write_text(
        "from paperkit.checks import Check, by_name\n"
        "def half(): return Check(1e-16, 0.3)\n"
        "def slip(): return Check(0.5, float('inf'))\n"
        "CHECKS = by_name(half, slip)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    checks = ChecksOf("toy_checks")
    assert list(checks.runs()) == [Run("identities", "half", 0, {}), Run("identities", "slip", 0, {})]
    measured = [Measurement("none", 0, "max_error", 0.5), Measurement("none", 0, "control_error", float("inf"))]
    assert list(checks(checks.runs()[1])) == measured

"""A check of a derivation as a run; that each errs as committed is asked of every smoke run (tests/test_smoke.py)."""

from paperkit.identities import ChecksOf
from paperkit.runs import Measurement, Run


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

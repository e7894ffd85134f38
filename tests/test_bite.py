"""A rule that no data could break is no rule: other data give every test of every claim another word."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from paperkit.claims.declarations import Claim, load_estimands, read_claims
from paperkit.claims.rules import (
    AnyTest,
    EffectTest,
    EquivalenceTest,
    IdentityTest,
    RangeTest,
    ReportTest,
    SeedTest,
    Verdict,
    evaluate,
)
from paperkit.claims.verdicts import tables_of

ROOT = Path(__file__).resolve().parents[1]
# Other data are at most so many times as large as those that were seen: a share that may reach 50 breaks any rule.
PLAUSIBLE = 100
# What may be seen of these units, however small a value is here.
LARGEST = {"correlation": 1.0, "share of the output": 1.0}


@cache
def claims_of(name: str) -> tuple[Claim, ...]:
    return read_claims(ROOT / "replications" / name / "claims.yaml")


@cache
def tables(name: str, table: str) -> list[tuple[pd.DataFrame, list[Claim]]]:
    return list(tables_of(ROOT / "results" / name, table, claims_of(name)))


def judged_claims() -> list[tuple[str, str]]:
    names = sorted(path.parent.name for path in ROOT.glob("replications/*/claims.yaml"))
    return [(name, claim.id) for name in names for claim in claims_of(name)]


def word(test: SeedTest | IdentityTest, values: object) -> Verdict | None:
    return evaluate(test, values).verdict


def bites(test: SeedTest, values: pd.Series) -> bool:
    """Say whether seed values mirrored about the bound, moved there, or moved beyond the margin give another word."""
    if isinstance(test, RangeTest):
        middle, reach = (test.low + test.high) / 2, (test.high - test.low) / 2
    else:
        assert isinstance(test, EffectTest | EquivalenceTest)
        middle, reach = test.bound, test.margin or 0.0
    if values.empty or values.isna().any():  # not yet run, or diverged: made-up seeds stand in
        values = pd.Series(middle + (reach or 1.0) * np.linspace(0.5, 1.5, 5))
    beyond = 2 * reach + 10 * np.ptp(values)
    others = [2 * middle - values, *(values - values.mean() + middle + step for step in (0.0, -beyond, beyond))]
    limit = LARGEST.get(test.unit, 0.0)
    plausible = [other for other in others if other.abs().max() <= max(limit, PLAUSIBLE * values.abs().max())]
    return any(word(test, other) is not word(test, values) for other in plausible)


def identity_bites(test: IdentityTest, checks: pd.DataFrame) -> bool:
    """Say whether no error holds, and one just above the tolerance contradicts."""
    if checks.empty:  # not yet run
        checks = pd.DataFrame({"control_error": [2 * test.tolerance + 1]})
    words = [word(test, checks.assign(max_error=error)) for error in (0.0, np.nextafter(test.tolerance, np.inf))]
    return words == [Verdict.HOLDS, Verdict.CONTRADICTED]


@pytest.mark.parametrize(("name", "claim_id"), judged_claims())
def test_every_test_of_a_claim_would_get_another_word_from_other_data(name, claim_id):
    claim = next(claim for claim in claims_of(name) if claim.id == claim_id)
    of_kind = tables(name, "timings.csv" if claim.kind == "timing" else "runs.csv")
    runs = next(runs for runs, some in of_kind if claim in some)
    estimands = load_estimands(f"replications.{name}.estimands", [claim])
    for test in (*claim.tests, *claim.corrected, *((claim.gate,) if claim.gate else ())):
        values = estimands[test.estimand](runs)
        if isinstance(test, IdentityTest):
            assert identity_bites(test, values), test.estimand
        elif not isinstance(test, ReportTest):
            assert bites(test, values), test.estimand


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "greater", "bound": -1e6, "margin": 0.1},
        {"rule": "within", "low": -1e6, "high": 1e6},
        {"rule": "equivalent", "bound": 0.4, "margin": 1e6},
    ],
)
def test_a_rule_that_nothing_could_break_is_caught(rule):
    test = TypeAdapter(AnyTest).validate_python({"estimand": "share", "unit": "share"} | rule)
    assert not bites(test, pd.Series([0.41, 0.44, 0.4, 0.43, 0.42]))


def test_an_identity_whose_judge_is_blind_is_caught(monkeypatch):
    test = IdentityTest(estimand="algebra", rule="identity", tolerance=1e-12)
    monkeypatch.setattr(IdentityTest, "judge", lambda *_: Verdict.HOLDS)
    assert not identity_bites(test, pd.DataFrame({"max_error": [1e-15], "control_error": [0.5]}))

"""A rule that no data could break is no rule: other data give every test of every claim another word."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paperkit.claims.declarations import Claim, load_estimands, read_claims
from paperkit.claims.rules import (
    EffectTest,
    EquivalenceTest,
    IdentityTest,
    RangeTest,
    ReportTest,
    SeedTest,
    Verdict,
    evaluate,
)
from paperkit.results import read_runs
from paperkit.statistics import Interval

ROOT = Path(__file__).resolve().parents[1]
# Other data are at most so many times as large as those that were seen: a share that may reach 50 breaks any rule.
PLAUSIBLE = 100


@cache
def claims_of(name: str) -> tuple[Claim, ...]:
    return read_claims(ROOT / "replications" / name / "claims.yaml")


@cache
def runs_of(name: str, table: str) -> pd.DataFrame:
    return read_runs(ROOT / "results" / name / table)


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
    plausible = [other for other in others if other.abs().max() <= PLAUSIBLE * values.abs().max()]
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
    runs = runs_of(name, "timings.csv" if claim.kind == "timing" else "runs.csv")
    estimands = load_estimands(f"replications.{name}.estimands", [claim])
    for test in (*claim.tests, *claim.corrected, *((claim.gate,) if claim.gate else ())):
        values = estimands[test.estimand](runs)
        if isinstance(test, IdentityTest):
            assert identity_bites(test, values), test.estimand
        elif not isinstance(test, ReportTest):
            assert bites(test, values), test.estimand


# --- rules that nothing could break are caught --------------------------------------------------------------

SHARES = pd.Series([0.41, 0.44, 0.4, 0.43, 0.42])
NOT_RUN = pd.Series(dtype=float)


class Prejudiced(EffectTest):
    """A rule that ignores its values."""

    def judge(self, interval: Interval) -> Verdict:  # noqa: ARG002
        """Hold."""
        return Verdict.HOLDS


def effect(rule: type[EffectTest] = EffectTest, *, bound: float = 0.3, margin: float | None = 0.1) -> EffectTest:
    return rule(estimand="share", rule="greater", bound=bound, margin=margin, unit="share")


def within(low: float, high: float) -> RangeTest:
    return RangeTest(estimand="share", rule="within", low=low, high=high, unit="share")


def equivalent(margin: float) -> EquivalenceTest:
    return EquivalenceTest(estimand="share", rule="equivalent", bound=0.4, margin=margin, unit="share")


@pytest.mark.parametrize(
    "test", [effect(), effect(margin=None), effect(bound=0.42), within(0.4, 0.6), equivalent(0.1)]
)
@pytest.mark.parametrize("values", [SHARES, -SHARES, NOT_RUN, SHARES.where(SHARES > 0.4)])
def test_an_honest_rule_bites(test, values):
    assert bites(test, values)


@pytest.mark.parametrize(
    "test",
    [
        effect(Prejudiced),
        effect(bound=-1e6),
        effect(bound=1e6),
        within(-1e6, 1e6),
        within(-1e308, 7e307),
        equivalent(1e6),
    ],
)
def test_a_rule_that_nothing_could_break_is_caught(test):
    assert not bites(test, SHARES)


def test_an_identity_whose_judge_is_blind_is_caught(monkeypatch):
    test = IdentityTest(estimand="algebra", rule="identity", tolerance=1e-12)
    checks = pd.DataFrame({"max_error": [1e-15], "control_error": [0.5]})
    assert identity_bites(test, checks)
    assert identity_bites(test, checks.head(0))
    monkeypatch.setattr(IdentityTest, "judge", lambda *_: Verdict.HOLDS)
    assert not identity_bites(test, checks)

"""The rules that turn intervals into verdicts: pure functions of numbers that were fixed beforehand.

Three levels: one test (`judge_effect`, `judge_equivalence`, `judge_range`, `judge_identity`), one claim
(`judge_claim`), and the primary claims of a replication together (`correct_for_multiplicity`).
Symbols: x estimate, [l, u] 95 % interval, [l90, u90] 90 % interval, m margin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from paperkit.statistics import Interval, holm

PROFILES = ("smoke", "cpu", "pretrained", "gpu", "paper")
LEVEL = 0.05
MIN_SEEDS_FOR_A_VERDICT = 5


class Verdict(StrEnum):
    """Every word a claim can get, `FRAGILE` aside; the book and the README use no other."""

    HOLDS = "holds"
    HOLDS_SMALLER = "holds, smaller"
    CONTRADICTED = "contradicted"
    NO_DIFFERENCE = "no difference"
    INCONCLUSIVE = "inconclusive"
    CORRECTED = "corrected"
    NOT_TESTED = "not tested at this scale"


# Follows a word that a declared variation flips.
FRAGILE = ", fragile"
# The words that say something about the claim, and so can flip; "corrected" has no variations of its own.
FIRM = (Verdict.HOLDS, Verdict.HOLDS_SMALLER, Verdict.CONTRADICTED, Verdict.NO_DIFFERENCE)

# The worst first: a claim is as good as its worst test.
SEVERITY = (
    Verdict.CONTRADICTED,
    Verdict.INCONCLUSIVE,
    Verdict.NO_DIFFERENCE,
    Verdict.HOLDS_SMALLER,
    Verdict.HOLDS,
)


@dataclass(frozen=True)
class Finding:
    """What one test found.

    Attributes:
        estimand: Name of the function that gave the numbers.
        sentence: The numbers and what they mean, one sentence.
        verdict: None where the test has none: rule `report`, or no interval.
        p: p of the test the verdict rests on; None without an interval, and for identities and reports.
        num_seeds: Seeds run; 0 if the experiment has not been run, None for identities, which need none.
        diverged: Seeds that have no number because a reported arm diverged.
        is_report: Whether the rule is `report`.
    """

    estimand: str
    sentence: str
    verdict: Verdict | None = None
    p: float | None = None
    num_seeds: int | None = None
    diverged: tuple[int, ...] = ()
    is_report: bool = False


@dataclass(frozen=True)
class Judgement:
    """What a claim gets.

    Attributes:
        verdict: None for claims that only report, and for exploratory ones with too few seeds.
        reason: Why, with the numbers.
        p: The p that enters Holm's correction; 1 unless tests with enough seeds decided.
        p_holm: Adjusted p; None outside the primary family.
    """

    verdict: Verdict | None
    reason: str
    p: float = 1.0
    p_holm: float | None = None


def oriented(interval: Interval, bound: float, direction: int) -> Interval:
    """Return the effect in the claimed direction, minus the bound.

    Args:
        interval: Interval of the quantity itself.
        bound: Value the claim compares with.
        direction: 1 if the claim says "greater", -1 if it says "less".

    Returns:
        direction · (interval − bound); above 0 means as claimed.

    Example:
        >>> claimed = oriented(Interval(2.0, 1.0, 4.0, 1.5, 3.0, 5, 0.01), bound=5.0, direction=-1)
        >>> claimed.low, claimed.estimate, claimed.high
        (1.0, 3.0, 4.0)
    """
    low, high = sorted(direction * (end - bound) for end in (interval.low, interval.high))
    low90, high90 = sorted(direction * (end - bound) for end in (interval.low90, interval.high90))
    estimate = direction * (interval.estimate - bound)
    return replace(interval, estimate=estimate, low=low, high=high, low90=low90, high90=high90)


def judge_effect(effect: Interval, margin: float | None) -> Verdict:
    """Judge a claimed effect.

    In this order: u < 0 contradicted; l > 0 and x ≥ m holds; l > 0 and x < m holds, smaller;
    −m < l90 and u90 < m no difference; else inconclusive. Without a margin (slopes, non-inferiority):
    u < 0 contradicted, l > 0 holds, else inconclusive.

    Args:
        effect: Effect in the claimed direction, minus the bound (see `oriented`).
        margin: m, the least effect that matters; positive, or None.

    Returns:
        The verdict of this test.

    Example:
        >>> judge_effect(Interval(0.2, 0.1, 0.3, 0.12, 0.28, 8, 0.002), margin=0.25).value
        'holds, smaller'
    """
    if effect.high < 0:
        return Verdict.CONTRADICTED
    if effect.low > 0:
        return Verdict.HOLDS if margin is None or effect.estimate >= margin else Verdict.HOLDS_SMALLER
    if margin is not None and -margin < effect.low90 and effect.high90 < margin:
        return Verdict.NO_DIFFERENCE
    return Verdict.INCONCLUSIVE


def judge_equivalence(difference: Interval, margin: float) -> Verdict:
    """Judge a claim of equality (two one-sided tests).

    Holds if −m < l90 and u90 < m; contradicted if the 95 % interval lies outside (−m, m); else inconclusive.

    Args:
        difference: Quantity minus the bound.
        margin: m, the largest difference that does not matter; positive.

    Returns:
        The verdict of this test.
    """
    if -margin < difference.low90 and difference.high90 < margin:
        return Verdict.HOLDS
    if difference.low >= margin or difference.high <= -margin:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def judge_range(interval: Interval, low: float, high: float) -> Verdict:
    """Judge a claim that a quantity lies in a range.

    Holds if [l, u] lies inside [low, high]; contradicted if the two are disjoint; else inconclusive.

    Args:
        interval: Interval of the quantity.
        low: Least value the claim allows.
        high: Largest value the claim allows.

    Returns:
        The verdict of this test.
    """
    if low <= interval.low and interval.high <= high:
        return Verdict.HOLDS
    if interval.low > high or interval.high < low:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def judge_identity(max_error: float, control_error: float, tolerance: float) -> Verdict:
    """Judge an identity by its largest error.

    Args:
        max_error: Largest error over all checks of the identity.
        control_error: Smallest error over the negative controls: variants that break the identity.
        tolerance: Largest error that counts as rounding.

    Returns:
        Holds if max_error ≤ tolerance, else contradicted.

    Raises:
        ValueError: If a control passes: a check that cannot fail proves nothing.

    Example:
        >>> judge_identity(max_error=1e-15, control_error=0.3, tolerance=1e-12).value
        'holds'
    """
    if control_error <= tolerance:
        message = (
            f"the negative control passes: control_error {control_error} is within tolerance {tolerance}; "
            "make the control break the identity, or tighten the tolerance"
        )
        raise ValueError(message)
    return Verdict.HOLDS if max_error <= tolerance else Verdict.CONTRADICTED


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a claim whose tests must all hold.

    Args:
        verdicts: One word a test, at least one, each in `SEVERITY`.

    Returns:
        The worst: contradicted, inconclusive, no difference, holds smaller, holds.

    Example:
        >>> worst([Verdict.HOLDS, Verdict.NO_DIFFERENCE]).value
        'no difference'
    """
    return min(verdicts, key=SEVERITY.index)


def judge_claim(
    findings: Sequence[Finding],
    *,
    correction: Sequence[Finding] = (),
    gate: Finding | None = None,
    claim_profile: str,
    runs_profile: str,
    min_seeds: int,
    exploratory: bool,
) -> Judgement:
    """Judge one claim, before the correction for multiplicity.

    The profile is looked at first, then the gate, whether the tests have been run, the number of seeds, diverged
    seeds, the tests themselves, and last whether a corrected statement holds where the original is contradicted.

    Args:
        findings: One finding a test, at least one.
        correction: Findings of the corrected statement; empty if there is none.
        gate: What has to hold for the claim to be testable on these runs; None if nothing has to.
        claim_profile: The least profile that may judge the claim.
        runs_profile: Profile of the runs.
        min_seeds: Seeds needed for a word other than inconclusive.
        exploratory: Whether the claim gets no word below five seeds.

    Returns:
        Verdict and reason.
    """
    if PROFILES.index(runs_profile) < PROFILES.index(claim_profile):
        reason = f"The claim needs profile {claim_profile}; the runs are of profile {runs_profile}."
        return Judgement(Verdict.NOT_TESTED, reason)
    if gate is not None and gate.verdict not in (Verdict.HOLDS, Verdict.HOLDS_SMALLER):
        return Judgement(Verdict.NOT_TESTED, f"The gate of the claim is closed: {gate.sentence}")
    original = _judge_tests(findings, min_seeds, exploratory)
    if original.verdict is not Verdict.CONTRADICTED or not correction:
        return original
    corrected = _judge_tests(correction, min_seeds, exploratory)
    if corrected.verdict is not Verdict.HOLDS:
        return replace(original, reason=f"{original.reason} The corrected statement: {corrected.reason}")
    reason = f"As written: {original.reason} As corrected: {corrected.reason}"
    return Judgement(Verdict.CORRECTED, reason, max(original.p, corrected.p))


def correct_for_multiplicity(primary: Mapping[str, Judgement], num_declared: int) -> dict[str, Judgement]:
    """Apply Holm's correction over all declared primary claims.

    Declared claims that are not among the judgements enter with p = 1. A word that says something about the
    claim (all but inconclusive and not tested) becomes inconclusive where the adjusted p is above 5 %. This
    includes contradicted, since p is two-sided, and no difference, whose p is that of the one-sided tests.

    Args:
        primary: Judgements by claim id.
        num_declared: Number of primary claims in claims.yaml, judged here or not.

    Returns:
        The judgements with `p_holm` set, and downgraded where needed.
    """
    if not primary:
        return {}
    p_values = [judgement.p for judgement in primary.values()]
    adjusted = holm(p_values + [1.0] * (num_declared - len(primary)))
    return {
        claim_id: _downgraded(judgement, float(p_holm), num_declared)
        for (claim_id, judgement), p_holm in zip(primary.items(), adjusted, strict=False)
    }


def _downgraded(judgement: Judgement, p_holm: float, num_declared: int) -> Judgement:
    silent = (Verdict.INCONCLUSIVE, Verdict.NOT_TESTED)
    if judgement.verdict in silent or p_holm <= LEVEL:
        return replace(judgement, p_holm=p_holm)
    reason = (
        f'Alone the verdict would be "{judgement.verdict}", but over {num_declared} primary claims '
        f"Holm's adjusted p is {p_holm:.3g}, above {LEVEL}. {judgement.reason}"
    )
    return Judgement(Verdict.INCONCLUSIVE, reason, judgement.p, p_holm)


def _judge_tests(findings: Sequence[Finding], min_seeds: int, exploratory: bool) -> Judgement:
    judging = [finding for finding in findings if not finding.is_report]
    seeds = [finding.num_seeds for finding in findings if finding.num_seeds is not None]
    everything = " ".join(finding.sentence for finding in findings)
    if not judging:
        return Judgement(None, f"Reported without a verdict: {everything}")
    if exploratory and seeds and min(seeds) < MIN_SEEDS_FOR_A_VERDICT:
        few = f"no verdict word below {MIN_SEEDS_FOR_A_VERDICT} seeds, and there are {min(seeds)}."
        return Judgement(None, f"Exploratory: {few} {everything}")
    obstacle = _obstacle(findings, seeds, min_seeds)
    if obstacle:
        return Judgement(Verdict.INCONCLUSIVE, obstacle)
    verdict = worst([finding.verdict for finding in judging if finding.verdict is not None])
    deciding = " ".join(finding.sentence for finding in judging if finding.verdict is verdict)
    reason = f"Exploratory: {deciding}" if exploratory else deciding
    return Judgement(verdict, reason, _claim_p(judging, verdict))


def _obstacle(findings: Sequence[Finding], seeds: Sequence[int], min_seeds: int) -> str | None:
    """Say what keeps the tests from being judged."""
    not_run = [finding.estimand for finding in findings if finding.num_seeds == 0]
    if not_run:
        return f"not yet run: there is no run for {', '.join(not_run)}."
    if seeds and min(seeds) < min_seeds:
        return f"The claim needs {min_seeds} seeds and there are {min(seeds)}."
    diverged = [finding for finding in findings if finding.diverged]
    if diverged:
        where = "; ".join(f"{finding.estimand}: seeds {list(finding.diverged)}" for finding in diverged)
        return f"A reported arm diverged ({where}), and claims.yaml fixes no value for a diverged seed."
    return None


def _claim_p(judging: Sequence[Finding], verdict: Verdict) -> float:
    """Return the p that a claim's verdict rests on.

    All tests must hold, so a claim is supported at the largest p of its tests (intersection-union). One
    failed test suffices to contradict it, so there the smallest p of the contradicting tests counts, times
    the number of tests (Bonferroni): the largest would let a second, noisy test hide a refutation.
    """
    p_values = [finding.p for finding in judging if finding.p is not None]
    if verdict is not Verdict.CONTRADICTED:
        return max(p_values, default=1.0)
    contradicting = [finding.p for finding in judging if finding.verdict is verdict and finding.p is not None]
    return min(1.0, len(p_values) * min(contradicting, default=1.0))

"""The rules a claim's test can name in claims.yaml: what each declares, and how it turns numbers into a finding.

A rule is a model of its keys that answers for an interval: its verdict, the p that verdict rests on, what it means
in words, where the word would fall, and what another interval would have to say against it. `evaluate` applies a
test to what its estimand returned, and checks that first; `vary` reads another estimand by the same test.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from paperkit.config import StrictModel
from paperkit.results import ResultsError
from paperkit.statistics import Interval, equivalence_p, paired_interval
from paperkit.verdicts import (
    FIRM,
    LEVEL,
    SEVERITY,
    Finding,
    Verdict,
    judge_effect,
    judge_equivalence,
    judge_identity,
    judge_range,
    oriented,
    worst,
)

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
EstimandName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Seeds = NDArray[np.float64]

# Numbers nearer to each other than this, relative to the largest of them, differ by rounding.
ROUNDING = 1e-9
# Fewer seeds are shown and flip nothing.
MIN_SEEDS_OF_A_VARIATION = 3


class Plan(NamedTuple):
    """What the number of seeds has to detect; see `paperkit.statistics.achieved_power`."""

    margin: float
    alpha: float
    equivalence: bool


class Threshold(NamedTuple):
    """The margin, or the bound, at which a test's word would fall; both None if it has no word that could."""

    threshold: Literal["margin", "bound"] | None = None
    value: float | None = None


class ClaimsModel(StrictModel):
    """Part of claims.yaml; an unknown key is refused together with the keys that are allowed there."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, content: Any) -> Any:
        allowed = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = sorted(map(str, set(content) - allowed)) if isinstance(content, dict) else []
        if unknown:
            message = f"unknown key {unknown[0]!r}; allowed here: {', '.join(sorted(allowed))}"
            raise ValueError(message)
        return content


class SeedTest(ClaimsModel):
    """A test on one number a seed; each rule answers the methods below."""

    estimand: EstimandName
    unit: Text
    diverged_value: float | None = None
    pilot_sd: Positive | None = None

    def plan(self) -> Plan | None:
        """Return what the seeds have to detect; None where nothing says how large an effect matters."""
        raise NotImplementedError

    def judge(self, interval: Interval) -> Verdict | None:
        """Return the verdict of an interval; None if the rule has no word."""
        raise NotImplementedError

    def deciding_p(self, values: Seeds, verdict: Verdict | None) -> float | None:
        """Return the p of the test that the verdict rests on: below 0.05 exactly where the interval decides."""
        raise NotImplementedError

    def meaning(self, interval: Interval, verdict: Verdict | None) -> str:
        """Say in words what the interval means."""
        raise NotImplementedError

    def falls_at(self, interval: Interval, verdict: Verdict) -> Threshold:
        """Say where the verdict of the interval would fall."""
        raise NotImplementedError

    def objection(self, word: Verdict, own: Interval, varied: Interval) -> str | None:
        """Say what the interval of a variation has against the word that the test's own interval got."""
        raise NotImplementedError


class EffectTest(SeedTest):
    """The number is above ("greater") or below ("less") the bound, by at least the margin to hold in full."""

    rule: Literal["greater", "less"]
    bound: float
    margin: Positive | None

    def plan(self) -> Plan | None:
        """Detect an effect of the margin."""
        return None if self.margin is None else Plan(self.margin, LEVEL, equivalence=False)

    def judge(self, interval: Interval) -> Verdict:
        """Orient the interval in the claimed direction and judge it, see `judge_effect`."""
        return judge_effect(self._effect(interval), self.margin)

    def deciding_p(self, values: Seeds, verdict: Verdict | None) -> float:
        """Return the two-sided p against the bound; for "no difference" that of the equivalence test.

        The two null hypotheses (no effect; an effect of at least the margin) exclude each other, so choosing
        between their p costs no error.
        """
        if verdict is Verdict.NO_DIFFERENCE and self.margin is not None:
            return equivalence_p(values, self.margin, self.bound)
        return _two_sided_p(values, [self.bound])

    def meaning(self, interval: Interval, verdict: Verdict | None) -> str:
        """Say where the interval lies, seen from the bound and the margin."""
        claimed, opposite = self._sides()
        if verdict is Verdict.CONTRADICTED:
            return f"it lies {opposite} {self.bound:g}, against the claim"
        if verdict is Verdict.NO_DIFFERENCE:
            return f"{_inner(interval)} lies within ±{self.margin:g} of {self.bound:g}"
        if verdict is Verdict.INCONCLUSIVE:
            wide = "" if self.margin is None else f", and {_inner(interval)} leaves ±{self.margin:g} of it"
            return f"it contains {self.bound:g}{wide}"
        size = "but the effect is below" if verdict is Verdict.HOLDS_SMALLER else "and the effect reaches"
        effect = "" if self.margin is None else f", {size} the margin {self.margin:g}"
        return f"it lies {claimed} {self.bound:g}{effect}"

    def falls_at(self, interval: Interval, verdict: Verdict) -> Threshold:
        """Return the effect as margin, the least margin of equality, or the interval's end as bound."""
        effect = self._effect(interval)
        if verdict is Verdict.INCONCLUSIVE:
            return Threshold()
        if verdict is Verdict.NO_DIFFERENCE:
            return Threshold("margin", max(-effect.low90, effect.high90))
        if verdict is Verdict.HOLDS and self.margin is not None:
            return Threshold("margin", effect.estimate)
        above = (self.rule == "greater") == (verdict is not Verdict.CONTRADICTED)
        return Threshold("bound", interval.low if above else interval.high)

    def objection(self, word: Verdict, own: Interval, varied: Interval) -> str | None:
        """Compare sign and size of the variation's effect with what decided."""
        effect, margin = self._effect(varied), np.inf if self.margin is None else self.margin
        claimed, opposite = self._sides()
        if word is Verdict.NO_DIFFERENCE:
            return None if abs(effect.estimate) < margin else f"it lies outside ±{margin:g} of {self.bound:g}"
        if word is Verdict.CONTRADICTED:
            if effect.low > 0:
                return f"its interval lies {claimed} {self.bound:g}, as claimed"
            below = abs(self._effect(own).estimate) >= margin and effect.estimate > -margin
            return f"the effect against the claim is below the margin {margin:g}" if below else None
        if effect.high < 0:
            return f"its interval lies {opposite} {self.bound:g}, against the claim"
        below = word is Verdict.HOLDS and self.margin is not None and effect.estimate < margin
        return f"the effect is below the margin {margin:g}" if below else None

    def _effect(self, interval: Interval) -> Interval:
        return oriented(interval, self.bound, 1 if self.rule == "greater" else -1)

    def _sides(self) -> tuple[str, str]:
        return ("above", "below") if self.rule == "greater" else ("below", "above")


class EquivalenceTest(SeedTest):
    """The number differs from the bound by less than the margin."""

    rule: Literal["equivalent"]
    bound: float = 0.0
    margin: Positive

    def plan(self) -> Plan:
        """Detect equality within the margin."""
        return Plan(self.margin, LEVEL, equivalence=True)

    def judge(self, interval: Interval) -> Verdict:
        """Judge the difference from the bound, see `judge_equivalence`."""
        return judge_equivalence(oriented(interval, self.bound, 1), self.margin)

    def deciding_p(self, values: Seeds, verdict: Verdict | None) -> float:
        """Return the larger one-sided p; for "contradicted" the two-sided p against the nearer margin.

        With the larger one-sided p (near 1 there) no primary claim of equality could ever be contradicted.
        """
        if verdict is Verdict.CONTRADICTED:
            return _two_sided_p(values, [self.bound - self.margin, self.bound + self.margin])
        return equivalence_p(values, self.margin, self.bound)

    def meaning(self, interval: Interval, verdict: Verdict | None) -> str:
        """Say where the intervals lie, seen from the margins."""
        margins = f"±{self.margin:g} of {self.bound:g}"
        if verdict is Verdict.HOLDS:
            return f"{_inner(interval)} lies within {margins}"
        if verdict is Verdict.CONTRADICTED:
            return f"it lies outside {margins}"
        return f"it reaches into {margins}, and {_inner(interval)} leaves it"

    def falls_at(self, interval: Interval, verdict: Verdict) -> Threshold:
        """Return the margin that the deciding interval just reaches."""
        difference = oriented(interval, self.bound, 1)
        if verdict is Verdict.HOLDS:
            return Threshold("margin", max(-difference.low90, difference.high90))
        if verdict is Verdict.CONTRADICTED:
            return Threshold("margin", max(difference.low, -difference.high))
        return Threshold()

    def objection(self, word: Verdict, own: Interval, varied: Interval) -> str | None:  # noqa: ARG002
        """Ask whether the variation's estimate lies on the other side of the margins."""
        inside = abs(varied.estimate - self.bound) < self.margin
        side = "within" if inside else "outside"
        return None if inside == (word is Verdict.HOLDS) else f"it lies {side} ±{self.margin:g} of {self.bound:g}"


class RangeTest(SeedTest):
    """The number lies in [low, high]."""

    rule: Literal["within"]
    low: float
    high: float

    @model_validator(mode="after")
    def _refuse_empty_range(self) -> "RangeTest":
        if self.low >= self.high:
            message = f"key 'low' ({self.low}) is not below key 'high' ({self.high}); give low < high"
            raise ValueError(message)
        return self

    def plan(self) -> Plan:
        """Detect the middle of the range; the 95 % interval has to fit, so each end has half the level."""
        return Plan((self.high - self.low) / 2, LEVEL / 2, equivalence=True)

    def judge(self, interval: Interval) -> Verdict:
        """Compare the interval with the range, see `judge_range`."""
        return judge_range(interval, self.low, self.high)

    def deciding_p(self, values: Seeds, verdict: Verdict | None) -> float:  # noqa: ARG002
        """Return the two-sided p against the nearer end: it decides inside (both ends) and outside alike."""
        return _two_sided_p(values, [self.low, self.high])

    def meaning(self, interval: Interval, verdict: Verdict | None) -> str:  # noqa: ARG002
        """Say how the interval lies to the range."""
        where = {Verdict.HOLDS: "inside", Verdict.CONTRADICTED: "outside", Verdict.INCONCLUSIVE: "across an end of"}
        return f"it lies {where[verdict or Verdict.INCONCLUSIVE]} the range [{self.low:g}, {self.high:g}]"

    def falls_at(self, interval: Interval, verdict: Verdict) -> Threshold:
        """Return the interval's end that the nearer end of the range would have to pass."""
        if verdict is Verdict.INCONCLUSIVE:
            return Threshold()
        nearer_low = interval.low - self.low <= self.high - interval.high
        return Threshold("bound", interval.low if nearer_low == (verdict is Verdict.HOLDS) else interval.high)

    def objection(self, word: Verdict, own: Interval, varied: Interval) -> str | None:  # noqa: ARG002
        """Ask whether the variation's estimate lies on the other side of the range's ends."""
        inside = self.low <= varied.estimate <= self.high
        side = "inside" if inside else "outside"
        return None if inside == (word is Verdict.HOLDS) else f"it lies {side} the range [{self.low:g}, {self.high:g}]"


class ReportTest(SeedTest):
    """The number is reported with its interval, without a verdict."""

    rule: Literal["report"]

    def plan(self) -> None:
        """Plan nothing: nothing is tested."""

    def judge(self, interval: Interval) -> None:
        """Give no word."""

    def deciding_p(self, values: Seeds, verdict: Verdict | None) -> None:
        """Give no p: nothing is tested."""

    def meaning(self, interval: Interval, verdict: Verdict | None) -> str:  # noqa: ARG002
        """Say that nothing is tested."""
        return "reported, not tested"


class IdentityTest(ClaimsModel):
    """Every check stays within the tolerance, and every negative control exceeds it."""

    estimand: EstimandName
    rule: Literal["identity"]
    tolerance: Annotated[float, Field(ge=0)]
    unit: Text | None = None


DecidingTest = Annotated[EffectTest | EquivalenceTest | RangeTest, Field(discriminator="rule")]
AnyTest = Annotated[EffectTest | EquivalenceTest | RangeTest | ReportTest | IdentityTest, Field(discriminator="rule")]


@dataclass(frozen=True)
class Outcome:
    """One evaluated test: what the verdict needs, its entry in verdicts.json, and its interval if it has one."""

    finding: Finding
    record: dict[str, Any]
    interval: Interval | None = None


def evaluate(test: SeedTest | IdentityTest, values: object) -> Outcome:
    """Apply a test to what its estimand returned.

    Args:
        test: The test of claims.yaml.
        values: For rule identity a DataFrame with one row a check and the columns max_error and
            control_error; for the others a Series with one float a seed, indexed by seed, NaN where a reported
            arm diverged. Empty if the experiment has not been run.

    Returns:
        Finding and entry; numbers that were not measured are None.

    Raises:
        ResultsError: If the values have another form, or the negative control of an identity passes.
    """
    if isinstance(test, IdentityTest):
        return _evaluate_checks(test, _checks(test, values))
    return _evaluate_seeds(test, _seed_values(test, values))


def vary(
    name: str, test: SeedTest, outcome: Outcome, verdict: Verdict | None, estimand: str, values: object
) -> dict[str, Any]:
    """Read a variation of a test: does the claim's word stand under it?

    Args:
        name: What is varied.
        test: Test of the claim that the variation is read by.
        outcome: Its own outcome.
        verdict: The claim's verdict, after the correction for multiplicity.
        estimand: The variation's estimand.
        values: What the estimand returned, see `evaluate`.

    Returns:
        Entry of verdicts.json. `flips` is None with fewer than three seeds, without an interval, where nothing
        but rounding decides, and where the claim has no word that this test could flip.

    Raises:
        ResultsError: If the values have another form.
    """
    varied = test.model_copy(update={"estimand": estimand})
    by_seed = _seed_values(varied, values)
    found = _evaluate_seeds(varied, by_seed)
    ends = {end: found.record[end] for end in ("estimate", "low", "high", "n")}
    flips, why = _flips(varied, outcome, verdict, found, np.array(list(by_seed.values())))
    return {"name": name, "estimand": estimand, "of": test.estimand, "flips": flips, "why": why} | ends


def _flips(
    test: SeedTest, own: Outcome, verdict: Verdict | None, found: Outcome, numbers: Seeds
) -> tuple[bool | None, str]:
    word = own.finding.verdict
    if found.interval is None:
        return None, found.finding.sentence
    measured = _numbers(test, found.interval)
    if found.interval.n < MIN_SEEDS_OF_A_VARIATION:
        return None, f"{measured}: fewer than {MIN_SEEDS_OF_A_VARIATION} seeds decide nothing."
    if verdict not in FIRM or word is None or own.interval is None:
        return None, f"{measured}: the claim has no word that could flip."
    if verdict is Verdict.CONTRADICTED and word is not verdict:
        return None, f"{measured}: the claim is contradicted by another test."
    # Where another test made the claim smaller or showed no difference, no margin of this one decided.
    decided = Verdict.HOLDS_SMALLER if word is Verdict.HOLDS and verdict is not word else word
    shifts = _shifts(test, numbers)
    objections = [
        test.objection(decided, oriented(own.interval, one, 1), oriented(found.interval, other, 1))
        for one, other in product(shifts, shifts)
    ]
    if len({objection is None for objection in objections}) > 1:
        return None, f"{measured}: rounding would decide whether the word stands."
    against = objections[0]
    return against is not None, f"{measured}: {against or 'the word stands'}."


def _evaluate_seeds(test: SeedTest, values: dict[int, float]) -> Outcome:
    diverged = tuple(seed for seed, value in values.items() if np.isnan(value))
    finding = Finding(
        test.estimand,
        _not_run(test.estimand),
        num_seeds=len(values),
        diverged=diverged,
        is_report=isinstance(test, ReportTest),
    )
    record = _seed_record(test, list(values))
    if not values:
        return Outcome(finding, record)
    if diverged:
        sentence = f"{test.estimand}: no number for seeds {list(diverged)}, where a reported arm diverged."
        return Outcome(replace(finding, sentence=sentence), record)
    numbers = np.array(list(values.values()))
    interval = _interval(test, numbers)
    if interval is None:
        sentence = f"{test.estimand} = {numbers[0]:.4g} {test.unit}, one seed: no interval."
        return Outcome(replace(finding, sentence=sentence), record | {"estimate": float(numbers[0])})
    words = _words(test, numbers, interval)
    verdict = _word(words)
    p = test.deciding_p(numbers, verdict) if len(words) == 1 else 1.0
    meaning = test.meaning(interval, verdict) if len(words) == 1 else f"rounding would decide between {_quoted(words)}"
    record |= {end: getattr(interval, end) for end in ("estimate", "low", "high", "low90", "high90")} | {"p": p}
    if verdict is not None:
        needed = _needed_seeds(test, values, verdict)
        record["flip"] = {"without": needed} | test.falls_at(interval, verdict)._asdict()
    sentence = f"{_numbers(test, interval)}: {meaning}."
    return Outcome(replace(finding, sentence=sentence, verdict=verdict, p=p), record, interval)


def _interval(test: SeedTest, numbers: Seeds) -> Interval | None:
    try:
        return paired_interval(numbers)
    except ValueError as error:
        message = f"estimand {test.estimand}: {error}"
        raise ResultsError(message) from error


def _shifts(test: SeedTest, numbers: Seeds) -> tuple[float, float, float]:
    """Return the shifts that rounding may make: none, and one either way."""
    declared = test.model_dump(include={"bound", "margin", "low", "high"}).values()
    largest = max(abs(number) for number in (*numbers.tolist(), *declared) if number is not None)
    return 0.0, -ROUNDING * largest, ROUNDING * largest


def _words(test: SeedTest, numbers: Seeds, interval: Interval) -> set[Verdict | None]:
    """Return the words that the interval gets within rounding, as a rule one."""
    return {test.judge(oriented(interval, shift, 1)) for shift in _shifts(test, numbers)}


def _word(words: set[Verdict | None]) -> Verdict | None:
    return next(iter(words)) if len(words) == 1 else Verdict.INCONCLUSIVE


def _quoted(words: set[Verdict | None]) -> str:
    return " and ".join(f'"{word}"' for word in SEVERITY if word in words)


def _needed_seeds(test: SeedTest, values: dict[int, float], verdict: Verdict) -> list[int]:
    """Name the seeds without which the word would be another (one seed alone has none)."""
    return [seed for seed in values if _word_without(test, values, seed) is not verdict]


def _word_without(test: SeedTest, values: dict[int, float], left_out: int) -> Verdict | None:
    numbers = np.array([value for seed, value in values.items() if seed != left_out])
    interval = _interval(test, numbers)
    return None if interval is None else _word(_words(test, numbers, interval))


def _seed_record(test: SeedTest, seeds: list[int]) -> dict[str, Any]:
    declared = test.model_dump(include={"estimand", "rule", "unit", "bound", "margin"})
    empty = ("bound", "margin", "estimate", "low", "high", "low90", "high90", "p", "p_holm")
    record = dict.fromkeys(empty) | declared | {"n": len(seeds), "seeds": seeds}
    # low and high of a declared range would collide with the ends of the interval.
    return record | {"range": [test.low, test.high]} if isinstance(test, RangeTest) else record


def _seed_values(test: SeedTest, values: object) -> dict[int, float]:
    if not isinstance(values, pd.Series):
        message = f"estimand {test.estimand} returned {type(values).__name__}; it must return a Series"
        raise ResultsError(message)
    if len(values) and (values.index.has_duplicates or not pd.api.types.is_integer_dtype(values.index.dtype)):
        message = (
            f"estimand {test.estimand} has index {list(values.index)}; it must hold one number a seed, indexed "
            "by whole-number seeds without repetition"
        )
        raise ResultsError(message)
    by_seed = {int(seed): float(value) for seed, value in zip(values.index, values.tolist(), strict=True)}
    if np.isinf(list(by_seed.values())).any():
        message = f"estimand {test.estimand} is infinite in {by_seed}; mark a diverged seed by NaN"
        raise ResultsError(message)
    fill = test.diverged_value
    return {seed: fill if fill is not None and np.isnan(value) else value for seed, value in sorted(by_seed.items())}


def _evaluate_checks(test: IdentityTest, checks: dict[str, tuple[float, float]]) -> Outcome:
    record: dict[str, Any] = test.model_dump() | dict.fromkeys(("max_error", "control_error", "control_failed"))
    if not checks:
        return Outcome(Finding(test.estimand, _not_run(test.estimand), num_seeds=0), record)
    verdict = worst([_check_verdict(test, name, *errors) for name, errors in checks.items()])
    largest = max(checks, key=lambda name: checks[name][0])
    max_error, control_error = checks[largest][0], min(control for _, control in checks.values())
    relation = "at most" if verdict is Verdict.HOLDS else "above"
    sentence = (
        f"{test.estimand}: the largest error is {max_error:.3g} (check {largest}), {relation} the tolerance "
        f"{test.tolerance:.3g}; the negative control errs by {control_error:.3g}."
    )
    measured = {"max_error": max_error, "control_error": control_error, "control_failed": True}
    return Outcome(Finding(test.estimand, sentence, verdict), record | measured)


def _check_verdict(test: IdentityTest, name: str, max_error: float, control_error: float) -> Verdict:
    try:
        return judge_identity(max_error, control_error, test.tolerance)
    except ValueError as error:
        message = f"estimand {test.estimand}, check {name}: {error}"
        raise ResultsError(message) from error


def _checks(test: IdentityTest, values: object) -> dict[str, tuple[float, float]]:
    columns = ["max_error", "control_error"]
    if isinstance(values, pd.DataFrame) and values.empty:
        return {}
    if not isinstance(values, pd.DataFrame) or not set(columns) <= set(values.columns):
        found = f"{type(values).__name__} with {list(getattr(values, 'columns', []))}"
        message = f"estimand {test.estimand} returned {found}; it must return a DataFrame with {columns}"
        raise ResultsError(message)
    pairs = zip(values["max_error"].tolist(), values["control_error"].tolist(), strict=True)
    checks = {str(name): (float(a), float(b)) for name, (a, b) in zip(values.index, pairs, strict=True)}
    if not all(0 <= error < np.inf for errors in checks.values() for error in errors):
        message = f"estimand {test.estimand} has errors {checks}; they must be finite and at least 0"
        raise ResultsError(message)
    return checks


def _two_sided_p(values: Seeds, ends: Sequence[float]) -> float:
    intervals = [paired_interval(values, end) for end in ends]
    return max((interval.p for interval in intervals if interval is not None), default=1.0)


def _not_run(estimand: str) -> str:
    return f"not yet run: there is no run for {estimand}."


def _numbers(test: SeedTest, interval: Interval) -> str:
    outer = f"[{interval.low:.4g}, {interval.high:.4g}]"
    return f"{test.estimand} = {interval.estimate:.4g} {test.unit}, 95 % interval {outer}, n = {interval.n}"


def _inner(interval: Interval) -> str:
    return f"the 90 % interval [{interval.low90:.4g}, {interval.high90:.4g}]"

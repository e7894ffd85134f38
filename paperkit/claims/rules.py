"""The rules a test of a claim can name, and how they turn numbers into words.

A rule is a model of its keys that answers for an interval: its verdict, the p that verdict rests on, what it means
in words, where the word would fall, and what another interval would have to say against it.
Symbols: x estimate, [l, u] 95 % interval, [l90, u90] 90 % interval, m margin.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from paperkit.config import StrictModel
from paperkit.estimands import difference, identity_errors, of_arm
from paperkit.results import ResultsError
from paperkit.statistics import Interval, equivalence_p, paired_interval, widened

LEVEL = 0.05
# Numbers nearer to each other than this, relative to the largest of them, differ by rounding.
ROUNDING = 1e-9
# Fewer seeds of a variation are shown and flip nothing.
MIN_SEEDS_OF_A_VARIATION = 3

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
EstimandName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Seeds = NDArray[np.float64]
# What is said in place: a function of `paperkit.estimands`, and its arguments beside the runs.
Said = tuple[Callable[..., Any], dict[str, Any]]


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
class Result:
    """What came of a test, or of a claim with all its tests.

    Attributes:
        verdict: None where there is no word: rule `report`, no interval, an exploratory claim with too few seeds.
        reason: The numbers and what they mean.
        p: p of the test that the verdict rests on; of a claim 1 unless tests with enough seeds decided.
        p_holm: p of a primary claim after Holm's correction.
        record: Of a test, its entry in verdicts.json.
        seeds: Of a test, the number of each seed, NaN where it diverged; None for an identity, which needs none.
        interval: Of a test, where it has one.
    """

    verdict: Verdict | None
    reason: str
    p: float | None = None
    p_holm: float | None = None
    record: dict[str, Any] = field(default_factory=dict)
    seeds: dict[int, float] | None = None
    interval: Interval | None = None

    @property
    def diverged(self) -> list[int]:
        """Seeds that have no number because a reported arm diverged."""
        return [seed for seed, value in (self.seeds or {}).items() if np.isnan(value)]


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


class Value(ClaimsModel):
    """One metric of one arm, see `paperkit.estimands.of_arm`."""

    experiment: Text
    arm: Text
    metric: Text
    split: Text | None = None


class Difference(ClaimsModel):
    """One metric of one arm minus that of another, see `paperkit.estimands.difference`."""

    experiment: Text
    of: Text
    minus: Text
    metric: Text
    split: Text | None = None
    minus_experiment: Text | None = None


class Named(ClaimsModel):
    """A number by its name: said in place, or a function of estimands.py."""

    estimand: EstimandName

    @property
    def said(self) -> Said | None:
        """What is said in place; None where estimands.py has it."""
        return None


class NumberOfSeeds(Named):
    """One number a seed."""

    value: Value | None = None
    difference: Difference | None = None

    @model_validator(mode="after")
    def _refuse_two_numbers(self) -> "NumberOfSeeds":
        if self.value and self.difference:
            message = "keys 'value' and 'difference' both say the number; keep one"
            raise ValueError(message)
        return self

    @property
    def said(self) -> Said | None:
        """See `Named.said`."""
        if self.value:
            return of_arm, self.value.model_dump()
        return (difference, self.difference.model_dump()) if self.difference else None


def spelled_out(content: Any) -> Any:
    """Give what is said in place its defaults: a name, and the rule of an identity."""
    if not isinstance(content, dict):
        return content
    if "check" in content:
        return {"estimand": content["check"], "rule": "identity"} | content
    said = content.get("value") or content.get("difference")
    if not isinstance(said, dict):
        return content
    arms = (said.get("of"), "minus", said.get("minus")) if "minus" in said else (said.get("arm"),)
    name = "_".join(str(word) for word in (*arms, said.get("metric")))
    return {"estimand": re.sub("[^a-z0-9]+", "_", name.lower())} | content


class Plan(NamedTuple):
    """What the number of seeds has to detect; see `paperkit.statistics.achieved_power`."""

    margin: float
    alpha: float
    equivalence: bool


class Threshold(NamedTuple):
    """The margin, or the bound, at which a test's word would fall; both None if it has no word that could."""

    threshold: Literal["margin", "bound"] | None = None
    value: float | None = None


class SeedTest(NumberOfSeeds):
    """A test on one number a seed. It has no word as it stands; a rule that decides answers the methods below."""

    unit: Text
    diverged_value: float | None = None
    pilot_sd: Positive | None = None

    def plan(self) -> Plan | None:
        """Return what the seeds have to detect; None where nothing says how large an effect matters."""

    def judge(self, interval: Interval) -> Verdict | None:
        """Return the verdict of an interval."""

    def deciding_p(self, values: Seeds, verdict: Verdict | None) -> float | None:
        """Return the p of the test that the verdict rests on: below 0.05 exactly where the interval decides."""

    def meaning(self, interval: Interval, verdict: Verdict | None) -> str:  # noqa: ARG002
        """Say in words what the interval means."""
        return "reported, not tested"

    def falls_at(self, interval: Interval, verdict: Verdict) -> Threshold:  # noqa: ARG002
        """Say where the verdict of the interval would fall."""
        return Threshold()

    def objection(self, word: Verdict, own: Interval, varied: Interval) -> str | None:
        """Say what the interval of a variation has against the word that the test's own interval got."""


class ReportTest(SeedTest):
    """The number is reported with its interval, without a verdict."""

    rule: Literal["report"]


class EffectTest(SeedTest):
    """The number is above ("greater") or below ("less") the bound, by at least the margin to hold in full."""

    rule: Literal["greater", "less"]
    bound: float
    margin: Positive | None

    def plan(self) -> Plan | None:
        """Detect an effect of the margin."""
        return None if self.margin is None else Plan(self.margin, LEVEL, equivalence=False)

    def judge(self, interval: Interval) -> Verdict:
        """Judge the effect, in the claimed direction and minus the bound."""
        # In this order: u < 0 contradicted; l > 0 and x ≥ m holds; l > 0 and x < m holds, smaller; −m < l90 and
        # u90 < m no difference; else inconclusive. Without a margin: u < 0 contradicted, l > 0 holds.
        effect, margin = self._effect(interval), self.margin
        if effect.high < 0:
            return Verdict.CONTRADICTED
        if effect.low > 0:
            return Verdict.HOLDS if margin is None or effect.estimate >= margin else Verdict.HOLDS_SMALLER
        if margin is not None and -margin < effect.low90 and effect.high90 < margin:
            return Verdict.NO_DIFFERENCE
        return Verdict.INCONCLUSIVE

    def deciding_p(self, values: Seeds, verdict: Verdict | None) -> float:
        """Return the two-sided p against the bound; for "no difference" that of the equivalence test."""
        # The two null hypotheses (no effect; an effect of at least the margin) exclude each other, so choosing between
        # their p costs no error.
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
        return _oriented(interval, self.bound, 1 if self.rule == "greater" else -1)

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
        """Judge by two one-sided tests: −m < l90 and u90 < m holds; [l, u] outside (−m, m) contradicted."""
        gap = _oriented(interval, self.bound, 1)
        if -self.margin < gap.low90 and gap.high90 < self.margin:
            return Verdict.HOLDS
        return Verdict.CONTRADICTED if max(gap.low, -gap.high) >= self.margin else Verdict.INCONCLUSIVE

    def deciding_p(self, values: Seeds, verdict: Verdict | None) -> float:
        """Return the larger one-sided p; for "contradicted" the two-sided p against the nearer margin."""
        # With the larger one-sided p (near 1 there) no primary claim of equality could ever be contradicted.
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
        gap = _oriented(interval, self.bound, 1)
        if verdict is Verdict.HOLDS:
            return Threshold("margin", max(-gap.low90, gap.high90))
        return Threshold("margin", max(gap.low, -gap.high)) if verdict is Verdict.CONTRADICTED else Threshold()

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
        """Judge by the 95 % interval: inside the range holds, disjoint from it contradicted."""
        if self.low <= interval.low and interval.high <= self.high:
            return Verdict.HOLDS
        outside = interval.low > self.high or interval.high < self.low
        return Verdict.CONTRADICTED if outside else Verdict.INCONCLUSIVE

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


class IdentityTest(Named):
    """Every check stays within the tolerance, and every negative control exceeds it."""

    rule: Literal["identity"]
    tolerance: Annotated[float, Field(ge=0)]
    unit: Text | None = None
    check: EstimandName | None = None

    @model_validator(mode="after")
    def _refuse_two_names(self) -> "IdentityTest":
        if self.check not in (None, self.estimand):
            message = f"keys 'check' ({self.check!r}) and 'estimand' ({self.estimand!r}) name two things; keep one"
            raise ValueError(message)
        return self

    @property
    def said(self) -> Said | None:
        """See `Named.said`."""
        return (identity_errors, {"check": self.check}) if self.check else None

    def judge(self, max_error: float) -> Verdict:
        """Judge the largest error: up to the tolerance it is rounding."""
        return Verdict.HOLDS if max_error <= self.tolerance else Verdict.CONTRADICTED


_Deciding = Annotated[EffectTest | EquivalenceTest | RangeTest, Field(discriminator="rule")]
_Any = Annotated[EffectTest | EquivalenceTest | RangeTest | ReportTest | IdentityTest, Field(discriminator="rule")]
DecidingTest = Annotated[_Deciding, BeforeValidator(spelled_out)]
AnyTest = Annotated[_Any, BeforeValidator(spelled_out)]


# --- From numbers to words ------------------------------------------------------------------------------------------


def evaluate(test: SeedTest | IdentityTest, values: object) -> Result:
    """Apply a test to what its estimand returned.

    Args:
        test: The test of claims.yaml.
        values: For rule identity a DataFrame with one row a check and the columns max_error and
            control_error; for the others a Series with one float a seed, indexed by seed, NaN where a reported
            arm diverged. Empty if the experiment has not been run.

    Returns:
        The result; numbers of its record that were not measured are None.

    Raises:
        ResultsError: If the values have another form, or the negative control of an identity passes.
    """
    if isinstance(test, IdentityTest):
        return _evaluate_checks(test, _checks(test, values))
    return _evaluate_seeds(test, _seed_values(test, values))


def _evaluate_checks(test: IdentityTest, checks: dict[str, tuple[float, float]]) -> Result:
    record = test.model_dump(exclude={"check"}) | dict.fromkeys(("max_error", "control_error", "control_failed"))
    if not checks:
        return Result(None, not_run(test.estimand), record=record, seeds={})
    largest, weakest = (max(checks, key=lambda name: checks[name][0]), min(checks, key=lambda name: checks[name][1]))
    max_error, control_error = checks[largest][0], checks[weakest][1]
    if control_error <= test.tolerance:
        message = (
            f"estimand {test.estimand}, check {weakest}: the negative control passes: control_error {control_error} "
            f"is within tolerance {test.tolerance}; make the control break the identity, or tighten the tolerance"
        )
        raise ResultsError(message)
    verdict = test.judge(max_error)
    relation = "at most" if verdict is Verdict.HOLDS else "above"
    reason = (
        f"{test.estimand}: the largest error is {max_error:.3g} (check {largest}), {relation} the tolerance "
        f"{test.tolerance:.3g}; the negative control errs by {control_error:.3g}."
    )
    measured = {"max_error": max_error, "control_error": control_error, "control_failed": True}
    return Result(verdict, reason, record=record | measured)


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


def _evaluate_seeds(test: SeedTest, seeds: dict[int, float]) -> Result:
    record = _seed_record(test, list(seeds))
    result = Result(None, not_run(test.estimand), record=record, seeds=seeds)
    if not seeds:
        return result
    if result.diverged:
        reason = f"{test.estimand}: no number for seeds {result.diverged}, where a reported arm diverged."
        return replace(result, reason=reason)
    numbers = np.array(list(seeds.values()))
    interval = _interval(test, numbers)
    if interval is None:
        reason = f"{test.estimand} = {numbers[0]:.4g} {test.unit}, one seed: no interval."
        return replace(result, reason=reason, record=record | {"estimate": float(numbers[0])})
    words = _words(test, numbers, interval)
    verdict = _word(words)
    p = test.deciding_p(numbers, verdict) if len(words) == 1 else 1.0
    meaning = test.meaning(interval, verdict) if len(words) == 1 else f"rounding would decide between {_quoted(words)}"
    record |= {end: getattr(interval, end) for end in ("estimate", "low", "high", "low90", "high90")} | {"p": p}
    if verdict is not None:
        needed = [seed for seed in seeds if _word_without(test, seeds, seed) is not verdict]
        record["flip"] = {"without": needed} | test.falls_at(interval, verdict)._asdict()
    return Result(verdict, f"{_numbers(test, interval)}: {meaning}.", p, record=record, seeds=seeds, interval=interval)


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


def _seed_record(test: SeedTest, seeds: list[int]) -> dict[str, Any]:
    declared = test.model_dump(include={"estimand", "rule", "unit", "bound", "margin"})
    empty = ("bound", "margin", "estimate", "low", "high", "low90", "high90", "p", "p_holm")
    record = dict.fromkeys(empty) | declared | {"n": len(seeds), "seeds": seeds}
    # low and high of a declared range would collide with the ends of the interval.
    return record | {"range": [test.low, test.high]} if isinstance(test, RangeTest) else record


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
    return {test.judge(_oriented(interval, shift, 1)) for shift in _shifts(test, numbers)}


def _word(words: set[Verdict | None]) -> Verdict | None:
    return next(iter(words)) if len(words) == 1 else Verdict.INCONCLUSIVE


def _quoted(words: set[Verdict | None]) -> str:
    return " and ".join(f'"{word}"' for word in SEVERITY if word in words)


def _word_without(test: SeedTest, seeds: dict[int, float], left_out: int) -> Verdict | None:
    """Return the word without a seed (one seed alone has none)."""
    numbers = np.array([value for seed, value in seeds.items() if seed != left_out])
    interval = _interval(test, numbers)
    return None if interval is None else _word(_words(test, numbers, interval))


def _oriented(interval: Interval, bound: float, direction: int) -> Interval:
    """Return direction · (interval − bound): with the claimed direction, 1 or -1, above 0 means as claimed."""
    low, high = sorted(direction * (end - bound) for end in (interval.low, interval.high))
    low90, high90 = sorted(direction * (end - bound) for end in (interval.low90, interval.high90))
    estimate = direction * (interval.estimate - bound)
    return replace(interval, estimate=estimate, low=low, high=high, low90=low90, high90=high90)


def _two_sided_p(values: Seeds, ends: Sequence[float]) -> float:
    intervals = [paired_interval(values, end) for end in ends]
    return max((interval.p for interval in intervals if interval is not None), default=1.0)


def not_run(estimand: str) -> str:
    """Say that an experiment has not been run."""
    return f"not yet run: there is no run for {estimand}."


def _numbers(test: SeedTest, interval: Interval) -> str:
    outer = f"[{interval.low:.4g}, {interval.high:.4g}]"
    return f"{test.estimand} = {interval.estimate:.4g} {test.unit}, 95 % interval {outer}, n = {interval.n}"


def _inner(interval: Interval) -> str:
    return f"the 90 % interval [{interval.low90:.4g}, {interval.high90:.4g}]"


def vary(test: SeedTest, own: Result, verdict: Verdict | None, values: object) -> tuple[Result, bool | None, str]:
    """Read a variation of a test: does the claim's word stand under it?

    Args:
        test: Test of the claim, with the variation's estimand.
        own: Result of the test itself.
        verdict: The claim's verdict, after the correction for multiplicity.
        values: What the variation's estimand returned, see `evaluate`.

    Returns:
        The variation's own result; whether it flips the word (None with fewer than three seeds, without an interval,
        where nothing but rounding decides, and where the claim has no word that this test could flip); and why.
    """
    word, found = own.verdict, evaluate(test, values)
    if found.interval is None or found.seeds is None:
        return found, None, found.reason
    measured = _numbers(test, found.interval)
    if found.interval.n < MIN_SEEDS_OF_A_VARIATION:
        return found, None, f"{measured}: fewer than {MIN_SEEDS_OF_A_VARIATION} seeds decide nothing."
    if silent := _cannot_flip(own, verdict):
        return found, None, f"{measured}: {silent}."
    assert word is not None, "a word was ruled out above"
    assert own.interval is not None, "a word comes of an interval"
    # Where another test made the claim smaller or showed no difference, no margin of this one decided.
    decided = Verdict.HOLDS_SMALLER if word is Verdict.HOLDS and verdict is not word else word
    shifts = _shifts(test, np.array(list(found.seeds.values())))
    objections = [
        test.objection(decided, _oriented(own.interval, one, 1), _oriented(found.interval, other, 1))
        for one, other in product(shifts, shifts)
    ]
    if len({objection is None for objection in objections}) > 1:
        return found, None, f"{measured}: rounding would decide whether the word stands."
    return found, objections[0] is not None, f"{measured}: {objections[0] or 'the word stands'}."


def vary_by_search(
    test: SeedTest, own: Result, verdict: Verdict | None, variance: float
) -> tuple[Result, bool | None, str]:
    """Widen the interval of a test by what another race might have selected: does the claim's word stand?

    Args:
        test: Test of the claim.
        own: Its result; it has an interval.
        verdict: The claim's verdict, after the correction for multiplicity.
        variance: That of the difference between races, see `paperkit.claims.selection`.

    Returns:
        As `vary`; the word flips where the wider interval would not have given it.
    """
    assert own.interval is not None, "only an interval can be widened"
    wide = widened(own.interval, variance)
    found = replace(own, record=own.record | {"low": wide.low, "high": wide.high})
    measured = _numbers(test, wide)
    if silent := _cannot_flip(own, verdict):
        return found, None, f"{measured}: {silent}."
    word = test.judge(wide)
    stands = "the word stands" if word is own.verdict else f'with another race in it the word would be "{word}"'
    return found, word is not own.verdict, f"{measured}: {stands}."


def _cannot_flip(own: Result, verdict: Verdict | None) -> str | None:
    if verdict not in FIRM or own.verdict is None:
        return "the claim has no word that could flip"
    return "the claim is contradicted by another test" if Verdict.CONTRADICTED is verdict is not own.verdict else None

"""The rules a claim's test can name in claims.yaml: what each declares, and how it turns numbers into a finding.

A rule is a model of its keys with three answers: the verdict of an interval, the p that verdict rests on, and
what it means in words. `evaluate` applies a test to what its estimand returned, and checks that first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from paperkit.config import StrictModel
from paperkit.results import ResultsError
from paperkit.statistics import Interval, equivalence_p, paired_interval
from paperkit.verdicts import (
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
    """A test on one number a seed; each rule answers the three methods."""

    estimand: EstimandName
    unit: Text
    diverged_value: float | None = None

    def judge(self, interval: Interval) -> Verdict | None:
        """Return the verdict of an interval; None if the rule has no word."""
        raise NotImplementedError

    def deciding_p(self, values: Seeds, verdict: Verdict | None) -> float | None:
        """Return the p of the test that the verdict rests on: below 0.05 exactly where the interval decides."""
        raise NotImplementedError

    def meaning(self, interval: Interval, verdict: Verdict | None) -> str:
        """Say in words what the interval means."""
        raise NotImplementedError


class EffectTest(SeedTest):
    """The number is above ("greater") or below ("less") the bound, by at least the margin to hold in full."""

    rule: Literal["greater", "less"]
    bound: float
    margin: Positive | None

    def judge(self, interval: Interval) -> Verdict:
        """Orient the interval in the claimed direction and judge it, see `judge_effect`."""
        return judge_effect(oriented(interval, self.bound, 1 if self.rule == "greater" else -1), self.margin)

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
        claimed, opposite = ("above", "below") if self.rule == "greater" else ("below", "above")
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


class EquivalenceTest(SeedTest):
    """The number differs from the bound by less than the margin."""

    rule: Literal["equivalent"]
    bound: float = 0.0
    margin: Positive

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


class ReportTest(SeedTest):
    """The number is reported with its interval, without a verdict."""

    rule: Literal["report"]

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


AnyTest = Annotated[EffectTest | EquivalenceTest | RangeTest | ReportTest | IdentityTest, Field(discriminator="rule")]


@dataclass(frozen=True)
class Outcome:
    """One evaluated test: what the verdict needs, and its entry in verdicts.json."""

    finding: Finding
    record: dict[str, Any]


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
    interval = paired_interval(numbers)
    if interval is None:
        sentence = f"{test.estimand} = {numbers[0]:.4g} {test.unit}, one seed: no interval."
        return Outcome(replace(finding, sentence=sentence), record | {"estimate": float(numbers[0])})
    verdict = test.judge(interval)
    p = test.deciding_p(numbers, verdict)
    measured = {end: getattr(interval, end) for end in ("estimate", "low", "high", "low90", "high90")}
    sentence = f"{_numbers(test, interval)}: {test.meaning(interval, verdict)}."
    return Outcome(replace(finding, sentence=sentence, verdict=verdict, p=p), record | measured | {"p": p})


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
    nearest = min(ends, key=lambda end: abs(end - float(values.mean())))
    interval = paired_interval(values, nearest)
    return 1.0 if interval is None else interval.p


def _not_run(estimand: str) -> str:
    return f"not yet run: there is no run for {estimand}."


def _numbers(test: SeedTest, interval: Interval) -> str:
    outer = f"[{interval.low:.4g}, {interval.high:.4g}]"
    return f"{test.estimand} = {interval.estimate:.4g} {test.unit}, 95 % interval {outer}, n = {interval.n}"


def _inner(interval: Interval) -> str:
    return f"the 90 % interval [{interval.low90:.4g}, {interval.high90:.4g}]"

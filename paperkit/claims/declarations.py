"""What claims.yaml declares: claims, where they stand, and the tests that decide them."""

import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, model_validator

from paperkit.claims.rules import (
    AnyTest,
    ClaimsModel,
    DecidingTest,
    EstimandName,
    IdentityTest,
    Named,
    NumberOfSeeds,
    ReportTest,
    SeedTest,
    Text,
    spelled_out,
)
from paperkit.config import ConfigError, parse, read_yaml
from paperkit.profiles import PROFILES
from paperkit.statistics import achieved_power, seeds_needed

MIN_SEEDS_FOR_A_VERDICT = 5
MAX_PRIMARY = 4
MIN_POWER = 0.8

ClaimId = Annotated[str, Field(pattern=r"^[CX]\d+[a-z]?r?$")]
Estimand = Callable[[pd.DataFrame], Any]
# strict=False lets a YAML list become a tuple; its elements stay strict.
Tests = Annotated[tuple[AnyTest, ...], Field(strict=False, min_length=1)]


class Source(ClaimsModel):
    """Where the claim stands: key in references.bib (null for our own claims), and the place in that source."""

    bib: Text | None
    where: Text


class Reported(ClaimsModel):
    """What the source reports: a number, a text such as "3 to 10", or null."""

    value: float | Text | None
    unit: Text | None
    unverified: bool


class Correction(ClaimsModel):
    """The statement as it should read, and the tests it must pass."""

    statement: Text
    tests: Tests


class Variation(NumberOfSeeds):
    """Something else that could have been done, under which the verdict is read again."""

    name: Text
    of: EstimandName | None = None

    _name = model_validator(mode="before")(spelled_out)


class Amendment(ClaimsModel):
    """A criterion that was changed after a result, and why."""

    criterion: dict[str, Any]
    why: Text


class Claim(ClaimsModel):
    """One claim and the rule that decides it."""

    id: ClaimId
    statement: Text
    source: Source
    reported: Reported = Reported(value=None, unit=None, unverified=False)
    kind: Literal["identity", "experiment", "timing", "exploratory"]
    family: Literal["primary"] | None = None
    profile: Literal[PROFILES]  # pyright: ignore[reportInvalidTypeForm] - a tuple of words is allowed there
    min_seeds: Annotated[int, Field(ge=1)]
    tests: Tests
    correction: Correction | None = None
    gate: DecidingTest | None = None
    robustness: Annotated[tuple[Variation, ...], Field(strict=False)] = ()
    superseded_by: ClaimId | None = None
    underpowered: Text | None = None
    amended: Annotated[tuple[Amendment, ...], Field(strict=False)] = ()

    @model_validator(mode="before")
    @classmethod
    def _follow_the_rule(cls, content: Any) -> Any:
        """Let the rule of the tests say kind, profile and seeds where the claim does not."""
        if not isinstance(content, dict):
            return content
        tests = content["tests"] if isinstance(content.get("tests"), list) else []
        if any(isinstance(test, dict) and spelled_out(test).get("rule") == "identity" for test in tests):
            return {"kind": "identity", "profile": "smoke", "min_seeds": 1} | content
        return {"kind": "experiment", "profile": "cpu", "min_seeds": MIN_SEEDS_FOR_A_VERDICT} | content

    @property
    def is_primary(self) -> bool:
        """Whether it belongs to the family over which Holm's correction runs."""
        return self.family == "primary" and self.superseded_by is None

    @property
    def corrected(self) -> tuple[AnyTest, ...]:
        """The tests of the corrected statement."""
        return self.correction.tests if self.correction else ()

    @property
    def deciding(self) -> tuple[SeedTest, ...]:
        """Its tests on seeds that have a word."""
        return tuple(test for test in self.tests if not isinstance(test, IdentityTest | ReportTest))

    @property
    def numbers(self) -> dict[str, Named]:
        """All that names a number, by its place in the claim, such as "correction.tests[0]"."""
        lists = {"tests": self.tests, "correction.tests": self.corrected, "robustness": self.robustness}
        placed: dict[str, Named] = {f"{key}[{place}]": part for key in lists for place, part in enumerate(lists[key])}
        return placed | {"gate": self.gate} if self.gate else placed


class ClaimsFile(ClaimsModel):
    """The frame of claims.yaml; claims are parsed one by one, so that an error names its claim."""

    version: Literal[1] = Field(alias="schema")
    claims: Annotated[tuple[dict[str, Any], ...], Field(strict=False, min_length=1)]


def read_claims(path: Path) -> tuple[Claim, ...]:
    """Read and check claims.yaml.

    Args:
        path: The file.

    Returns:
        Its claims, in the file's order.

    Raises:
        ConfigError: If a key is unknown or missing, a value has the wrong type or is out of range, ids repeat,
            there are more than four primary claims, a primary claim has too few seeds for the power it needs and
            does not say why, or the parts of a claim contradict each other.
    """
    frame = parse(ClaimsFile, read_yaml(path), source=str(path))
    claims = tuple(
        parse(Claim, content, source=f"{path}, claim {content.get('id', f'number {number} (no id)')}")
        for number, content in enumerate(frame.claims, start=1)
    )
    count = Counter(claim.id for claim in claims)
    problems = [f"claim {claim.id}: {problem}" for claim in claims for problem in _problems(claim, set(count))]
    problems += [f"claim {name}: key 'id' is given twice; ids are unique" for name in count if count[name] > 1]
    primary = [claim.id for claim in claims if claim.is_primary]
    if len(primary) > MAX_PRIMARY:
        problems.append(f"{len(primary)} claims have family 'primary' ({', '.join(primary)}); at most {MAX_PRIMARY}")
    if problems:
        message = "\n".join(f"{path}, {problem}" for problem in problems)
        raise ConfigError(message)
    return claims


def _problems(claim: Claim, ids: set[str]) -> list[str]:
    """Say where the parts of a claim do not fit together, and what too few seeds cannot detect."""
    rules, corrected = ([test.rule for test in tests] for tests in (claim.tests, claim.corrected))
    deciding = [test.estimand for test in claim.deciding]
    is_primary, has_p = claim.family == "primary", claim.kind in ("experiment", "timing")
    few = has_p and claim.min_seeds < MIN_SEEDS_FOR_A_VERDICT
    found = [
        (
            claim.id.startswith("C") and claim.source.bib is None,
            "key 'source.bib' is null; allowed only for our own claims (X…)",
        ),
        (
            any((rule == "identity") != (claim.kind == "identity") for rule in rules + corrected),
            f"kind {claim.kind!r} with rules {rules + corrected}; rule and kind identity go together",
        ),
        (
            few,
            f"key 'min_seeds' has value {claim.min_seeds}; at least {MIN_SEEDS_FOR_A_VERDICT} for kind "
            f"{claim.kind!r} (with fewer the claim is of kind 'exploratory')",
        ),
        (
            is_primary and not has_p,
            f"family 'primary' with kind {claim.kind!r}; allowed: experiment, timing (Holm needs a p)",
        ),
        (
            is_primary and set(rules) == {"report"},
            "family 'primary' with rule 'report' only; a primary claim needs a test that decides",
        ),
        (
            claim.correction is not None and {"report"} in (set(rules), set(corrected)),
            "key 'correction' with rule 'report' only; both statements need a test that decides",
        ),
        (
            bool(claim.robustness) and not is_primary,
            "key 'robustness' without family 'primary'; only a primary claim declares variations",
        ),
        (
            claim.superseded_by is not None and claim.superseded_by not in ids - {claim.id},
            f"key 'superseded_by' has value {claim.superseded_by!r}; name another claim of the file",
        ),
    ]
    found += [
        (
            variation.of not in (deciding if len(deciding) > 1 else [None, *deciding]),
            f"key 'robustness', {variation.name!r}: key 'of' has value {variation.of!r}; name the estimand of the "
            f"test that is varied: {', '.join(deciding)}",
        )
        for variation in claim.robustness
    ]
    planned = claim.is_primary and claim.kind == "experiment" and not claim.underpowered
    weak = [_weakness(test, claim.min_seeds) for test in claim.deciding if planned]
    return [problem for is_there, problem in found if is_there] + list(filter(None, weak))


def _weakness(test: SeedTest, num_seeds: int) -> str | None:
    """Say whether a test has too few seeds for what it has to detect."""
    plan, remedy = test.plan(), "or say in key 'underpowered' why fewer are accepted"
    if plan is None:
        return None
    if test.pilot_sd is None:
        return f"test {test.estimand} has no key 'pilot_sd'; give a pilot's standard deviation between seeds, {remedy}"
    power = achieved_power(test.pilot_sd, n=num_seeds, **plan._asdict())
    if power >= MIN_POWER:
        return None
    needed = seeds_needed(test.pilot_sd, power=MIN_POWER, **plan._asdict())
    return (
        f"test {test.estimand}: key 'min_seeds' has value {num_seeds}, which at 'pilot_sd' {test.pilot_sd:g} gives a "
        f"power of {power:.2f} for {plan.margin:g} {test.unit}; {MIN_POWER} takes {needed} seeds: take them, {remedy}"
    )


def load_estimands(module_name: str, claims: Sequence[Claim]) -> dict[str, Estimand]:
    """Load every number that the claims name.

    Args:
        module_name: For example "replications.lion.estimands"; it need not exist where all is said in place.
        claims: Claims whose tests, corrections, gates and variations name the numbers.

    Returns:
        By name, functions of a table of runs.

    Raises:
        ConfigError: If the module has no such function (the message lists those it has), or a name stands for two
            things.
        ModuleNotFoundError: If what the module imports is not there.
    """
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        module = ModuleType(module_name)
    said: dict[str, Any] = {}
    estimands: dict[str, Estimand] = {}
    for claim in claims:
        for part in claim.numbers.values():
            name, function = part.estimand, getattr(module, part.estimand, None)
            if said.setdefault(name, part.said) != part.said or (part.said and function is not None):
                message = (
                    f"claim {claim.id}: {name!r} stands for two things in claims.yaml and {module_name}; "
                    "say it once, or give one of them another name in key 'estimand'"
                )
                raise ConfigError(message)
            if part.said:
                estimands[name] = partial(part.said[0], **part.said[1])
            elif callable(function):
                estimands[name] = function
            else:
                message = (
                    f"claim {claim.id}: key 'estimand' has value {name!r}, which {module_name} does "
                    f"not define; defined: {', '.join(_functions_of(module))}"
                )
                raise ConfigError(message)
    return estimands


def _functions_of(module: ModuleType) -> list[str]:
    return sorted(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))

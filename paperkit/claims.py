"""From claims.yaml and runs to verdicts: `python -m paperkit.claims <name> [--timing]`.

claims.yaml says beforehand which number decides a claim and by which rule; the replication's estimands.py
computes that number for each seed; paperkit.rules and paperkit.verdicts judge it. Nothing here knows a
replication: estimands are loaded by name. What can be refused is refused before the first estimand runs.
"""

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from paperkit.config import ConfigError, parse, read_yaml
from paperkit.results import ResultsError, read_runs, write_json
from paperkit.rules import (
    AnyTest,
    ClaimsModel,
    DecidingTest,
    EstimandName,
    IdentityTest,
    Outcome,
    ReportTest,
    SeedTest,
    Text,
    evaluate,
    vary,
)
from paperkit.statistics import achieved_power, seeds_needed
from paperkit.verdicts import (
    FRAGILE,
    MIN_SEEDS_FOR_A_VERDICT,
    PROFILES,
    Judgement,
    correct_for_multiplicity,
    judge_claim,
)

MAX_PRIMARY = 4
MIN_POWER = 0.8

Estimand = Callable[[pd.DataFrame], Any]
# strict=False lets a YAML list become a tuple; its elements stay strict.
Tests = Annotated[tuple[AnyTest, ...], Field(strict=False, min_length=1)]


ClaimId = Annotated[str, Field(pattern=r"^[CX]\d+[a-z]?r?$")]


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


class Variation(ClaimsModel):
    """Something else that could have been done, under which the verdict is read again."""

    name: Text
    estimand: EstimandName
    of: EstimandName | None = None


class Amendment(ClaimsModel):
    """A criterion that was changed after a result, and why."""

    criterion: dict[str, Any]
    why: Text


class Claim(ClaimsModel):
    """One claim and the rule that decides it."""

    id: ClaimId
    statement: Text
    source: Source
    reported: Reported
    kind: Literal["identity", "experiment", "timing", "exploratory"]
    family: Literal["primary"] | None
    profile: Literal["smoke", "cpu", "pretrained", "gpu", "paper"]
    min_seeds: Annotated[int, Field(ge=1)]
    tests: Tests
    correction: Correction | None = None
    gate: DecidingTest | None = None
    robustness: Annotated[tuple[Variation, ...], Field(strict=False)] = ()
    superseded_by: ClaimId | None = None
    underpowered: Text | None = None
    amended: Annotated[tuple[Amendment, ...], Field(strict=False)] = ()

    @property
    def is_primary(self) -> bool:
        """Whether it belongs to the family over which Holm's correction runs."""
        return self.family == "primary" and self.superseded_by is None

    @property
    def deciding(self) -> tuple[SeedTest, ...]:
        """Its tests on seeds that have a word."""
        return tuple(test for test in self.tests if not isinstance(test, IdentityTest | ReportTest))

    def varied(self, variation: Variation) -> SeedTest:
        """Return the test that a variation is read by."""
        return next(test for test in self.deciding if variation.of in (None, test.estimand))


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
    problems = [
        f"claim {claim.id}: {problem}" for claim in claims for problem in _contradictions(claim) + _weaknesses(claim)
    ]
    repeated = [claim_id for claim_id, count in Counter(claim.id for claim in claims).items() if count > 1]
    problems += [f"claim {claim_id}: key 'id' is given twice; ids are unique" for claim_id in repeated]
    problems += [
        f"claim {claim.id}: key 'superseded_by' has value {claim.superseded_by!r}; name another claim of the file"
        for claim in claims
        if claim.superseded_by and claim.superseded_by not in {other.id for other in claims} - {claim.id}
    ]
    primary = [claim.id for claim in claims if claim.is_primary]
    if len(primary) > MAX_PRIMARY:
        problems.append(f"{len(primary)} claims have family 'primary' ({', '.join(primary)}); at most {MAX_PRIMARY}")
    if problems:
        message = "\n".join(f"{path}, {problem}" for problem in problems)
        raise ConfigError(message)
    return claims


def load_estimands(module_name: str, claims: Sequence[Claim]) -> dict[str, Estimand]:
    """Load every function that the claims name.

    Args:
        module_name: For example "replications.lion.estimands".
        claims: Claims whose tests, corrections, gates and variations name the functions.

    Returns:
        Functions by name.

    Raises:
        ConfigError: If the module has no such function; the message lists those it has.
    """
    module = importlib.import_module(module_name)
    estimands: dict[str, Estimand] = {}
    for claim in claims:
        for name in _estimands_of(claim):
            function = getattr(module, name, None)
            if not callable(function):
                message = (
                    f"claim {claim.id}: key 'estimand' has value {name!r}, which {module_name} does "
                    f"not define; defined: {', '.join(_functions_of(module))}"
                )
                raise ConfigError(message)
            estimands[name] = function
    return estimands


def judge_runs(
    claims: Sequence[Claim], runs: pd.DataFrame, estimands: Mapping[str, Estimand], *, num_primary: int
) -> list[dict[str, Any]]:
    """Judge claims on one table of runs.

    Args:
        claims: Claims to judge, of kind timing or of the other kinds.
        runs: Table in the form of runs.csv, of one profile.
        estimands: Functions by name, see `load_estimands`.
        num_primary: Primary claims declared in the whole claims.yaml and not superseded; those not in `claims`
            count with p = 1, so that verdicts.json does not depend on a clock.

    Returns:
        One entry of verdicts.json for each claim, in the order given.

    Raises:
        ResultsError: If the runs are of several profiles, an estimand breaks its contract, or the negative
            control of an identity passes.
    """
    profile = profile_of(runs)
    judgements: dict[str, Judgement] = {}
    outcomes: dict[str, tuple[list[Outcome], list[Outcome]]] = {}
    for claim in claims:
        tests = [evaluate(test, estimands[test.estimand](runs)) for test in claim.tests]
        corrected = claim.correction.tests if claim.correction else ()
        correction = [evaluate(test, estimands[test.estimand](runs)) for test in corrected]
        outcomes[claim.id] = (tests, correction)
        judgements[claim.id] = judge_claim(
            [outcome.finding for outcome in tests],
            correction=[outcome.finding for outcome in correction],
            gate=evaluate(claim.gate, estimands[claim.gate.estimand](runs)).finding if claim.gate else None,
            claim_profile=claim.profile,
            runs_profile=profile,
            min_seeds=claim.min_seeds,
            exploratory=claim.kind == "exploratory",
        )
    primary = {claim.id: judgements[claim.id] for claim in claims if claim.is_primary}
    judgements |= correct_for_multiplicity(primary, num_primary)
    return [
        _claim_record(claim, judgements[claim.id], *outcomes[claim.id])
        | _robustness(claim, judgements[claim.id], outcomes[claim.id][0], runs, estimands)
        for claim in claims
    ]


def profile_of(runs: pd.DataFrame) -> str:
    """Return the one profile of a table of runs.

    Args:
        runs: Table in the form of runs.csv.

    Returns:
        One of `paperkit.verdicts.PROFILES`.

    Raises:
        ResultsError: If there is no run, more than one profile, or an unknown one.
    """
    profiles = sorted(map(str, runs["profile"].unique()))
    if len(profiles) != 1 or profiles[0] not in PROFILES:
        found = ", ".join(profiles) or "no run at all"
        message = f"column 'profile' of the runs: {found}; allowed is one of {', '.join(PROFILES)}: rerun the stage"
        raise ResultsError(message)
    return profiles[0]


def headline_numbers(claim_records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the numbers of metrics.json: the first test of each claim, without what has not been measured.

    Args:
        claim_records: Entries of verdicts.json.

    Returns:
        Claim id to estimate, low, high, n, or to max_error.
    """
    keys = ("estimate", "low", "high", "n", "max_error")
    return {
        record["id"]: {key: record["tests"][0][key] for key in keys if record["tests"][0].get(key) is not None}
        for record in claim_records
    }


def write_verdicts(name: str, *, timing: bool) -> None:
    """Judge a replication's claims and write its verdicts.

    Reads replications/<name>/claims.yaml and results/<name>/runs.csv; writes verdicts.json and metrics.json
    beside the runs. With timing, reads timings.csv and writes timing_verdicts.json only.

    Args:
        name: Folder of the replication.
        timing: Judge the claims of kind timing instead of all others.

    Raises:
        ResultsError: If the runs are missing; the message names the stage that makes them.
    """
    claims = read_claims(Path("replications") / name / "claims.yaml")
    estimands = load_estimands(f"replications.{name}.estimands", claims)
    results = Path("results") / name
    table, stage = ("timings.csv", f"{name}_timing") if timing else ("runs.csv", name)
    if not (results / table).exists():
        message = f"{results / table} is missing; run `dvc repro {stage}`"
        raise ResultsError(message)
    runs = read_runs(results / table)
    judged = [claim for claim in claims if (claim.kind == "timing") == timing]
    num_primary = sum(claim.is_primary for claim in claims)
    records = judge_runs(judged, runs, estimands, num_primary=num_primary)
    verdicts = {"schema": 1, "replication": name, "profile": profile_of(runs), "claims": records}
    write_json(results / ("timing_verdicts.json" if timing else "verdicts.json"), verdicts)
    if not timing:
        write_json(results / "metrics.json", headline_numbers(records))


def _contradictions(claim: Claim) -> list[str]:
    """Say where the parts of a claim do not fit together."""
    rules = [test.rule for test in claim.tests]
    corrected = [test.rule for test in claim.correction.tests] if claim.correction else []
    problems = []
    if claim.id.startswith("C") and claim.source.bib is None:
        problems.append("key 'source.bib' is null; allowed only for our own claims (X…)")
    if any((rule == "identity") != (claim.kind == "identity") for rule in rules + corrected):
        problems.append(f"kind {claim.kind!r} with rules {rules + corrected}; rule and kind identity go together")
    if claim.kind in ("experiment", "timing") and claim.min_seeds < MIN_SEEDS_FOR_A_VERDICT:
        problems.append(
            f"key 'min_seeds' has value {claim.min_seeds}; at least {MIN_SEEDS_FOR_A_VERDICT} for kind "
            f"{claim.kind!r} (with fewer the claim is of kind 'exploratory')"
        )
    if claim.family == "primary" and claim.kind not in ("experiment", "timing"):
        problems.append(f"family 'primary' with kind {claim.kind!r}; allowed: experiment, timing (Holm needs a p)")
    if claim.family == "primary" and set(rules) == {"report"}:
        problems.append("family 'primary' with rule 'report' only; a primary claim needs a test that decides")
    if claim.correction and (set(rules) == {"report"} or set(corrected) == {"report"}):
        problems.append("key 'correction' with rule 'report' only; both statements need a test that decides")
    if claim.robustness and claim.family != "primary":
        problems.append("key 'robustness' without family 'primary'; only a primary claim declares variations")
    deciding = [test.estimand for test in claim.deciding]
    known = deciding if len(deciding) > 1 else [None, *deciding]
    return problems + [
        f"key 'robustness', {variation.name!r}: key 'of' has value {variation.of!r}; name the estimand of the test "
        f"that is varied: {', '.join(deciding)}"
        for variation in claim.robustness
        if variation.of not in known
    ]


def _weaknesses(claim: Claim) -> list[str]:
    """Say which tests of a primary experiment have too few seeds for what they have to detect."""
    if not claim.is_primary or claim.kind != "experiment" or claim.underpowered:
        return []
    return [problem for test in claim.deciding if (problem := _weakness(test, claim.min_seeds))]


def _weakness(test: SeedTest, num_seeds: int) -> str | None:
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


def _estimands_of(claim: Claim) -> list[str]:
    tests = claim.tests + (claim.correction.tests if claim.correction else ())
    gate = (claim.gate,) if claim.gate else ()
    return [part.estimand for part in (*tests, *gate, *claim.robustness)]


def _functions_of(module: ModuleType) -> list[str]:
    return sorted(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))


def _claim_record(
    claim: Claim, judgement: Judgement, tests: Sequence[Outcome], correction: Sequence[Outcome]
) -> dict[str, Any]:
    written = claim.model_dump(include={"id", "kind", "statement", "source", "reported"})
    said = {"superseded_by": claim.superseded_by, "underpowered": claim.underpowered}
    record = {
        **written,
        **{key: text for key, text in said.items() if text is not None},
        "family": "primary" if claim.is_primary else None,
        "verdict": None if judgement.verdict is None else judgement.verdict.value,
        "reason": judgement.reason,
        "exploratory": claim.kind == "exploratory",
        "tests": [_with_holm(outcome.record, judgement.p_holm) for outcome in tests],
    }
    if claim.correction is None:
        return record
    corrected = [_with_holm(outcome.record, judgement.p_holm) for outcome in correction]
    return record | {"correction": {"statement": claim.correction.statement, "tests": corrected}}


def _robustness(
    claim: Claim,
    judgement: Judgement,
    outcomes: Sequence[Outcome],
    runs: pd.DataFrame,
    estimands: Mapping[str, Estimand],
) -> dict[str, Any]:
    """Read the claim under its variations, and mark a word that one of them flips."""
    if not claim.robustness:
        return {}
    variations = []
    for variation in claim.robustness:
        test, values = claim.varied(variation), estimands[variation.estimand](runs)
        outcome = outcomes[claim.tests.index(test)]
        variations.append(vary(variation.name, test, outcome, judgement.verdict, variation.estimand, values))
    flipping = [variation["name"] for variation in variations if variation["flips"]]
    if not flipping:
        return {"robustness": variations}
    reason = f"{judgement.reason} The word flips under {', '.join(flipping)}."
    return {"robustness": variations, "verdict": f"{judgement.verdict}{FRAGILE}", "reason": reason}


def _with_holm(record: dict[str, Any], p_holm: float | None) -> dict[str, Any]:
    """Give the claim's adjusted p to each of its tests that has a p."""
    return {**record, "p_holm": p_holm} if record.get("p") is not None else record


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a refused file ends it with a message and exit code 1.

    Args:
        arguments: Command line without the program; None takes it from the process.
    """
    parser = argparse.ArgumentParser(prog="python -m paperkit.claims", description="Judge a replication's claims.")
    parser.add_argument("name", help="folder of the replication, for example lion")
    parser.add_argument("--timing", action="store_true", help="judge the claims of kind timing, from timings.csv")
    options = parser.parse_args(arguments)
    try:
        write_verdicts(options.name, timing=options.timing)
    except (ConfigError, ResultsError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

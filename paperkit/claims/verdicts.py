"""From tests to the word of a claim, from runs to verdicts.json."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from paperkit.claims.declarations import (
    MIN_SEEDS_FOR_A_VERDICT,
    Claim,
    Estimand,
    load_estimands,
    read_claims,
)
from paperkit.claims.rules import (
    FRAGILE,
    LEVEL,
    SEVERITY,
    Result,
    Verdict,
    evaluate,
    not_run,
    vary,
    vary_by_search,
)
from paperkit.claims.selection import variance_of_difference
from paperkit.profiles import ABOVE, PROFILES, replication_and_profile
from paperkit.results import ResultsError, read_runs, read_trials, write_json
from paperkit.statistics import holm

ANOTHER_RACE = "another race over the same trials"  # a variation of every tuned difference, see `selection`
SUPERSEDED = "superseded"  # folder below results/<name>/, of runs that are kept for superseded claims


def judge_claim(
    claim: Claim, tests: Sequence[Result], corrected: Sequence[Result], gate: Result | None, profile: str
) -> Result:
    """Judge one claim by the results of its tests, before the correction for multiplicity."""
    # The profile is looked at first, then the gate, whether the tests have been run, the number of seeds, diverged
    # seeds, the tests themselves, and last whether a corrected statement holds where the original is contradicted.
    if PROFILES.index(profile) < PROFILES.index(claim.profile):
        reason = f"The claim needs profile {claim.profile}; the runs are of profile {profile}."
        return Result(Verdict.NOT_TESTED, reason, 1.0)
    if gate is not None and gate.verdict not in (Verdict.HOLDS, Verdict.HOLDS_SMALLER):
        return Result(Verdict.NOT_TESTED, f"The gate of the claim is closed: {gate.reason}", 1.0)
    original = _judge_tests(claim, tests)
    if original.verdict is not Verdict.CONTRADICTED or not corrected:
        return original
    correction = _judge_tests(claim, corrected)
    if correction.verdict is not Verdict.HOLDS:
        return replace(original, reason=f"{original.reason} The corrected statement: {correction.reason}")
    reason = f"As written: {original.reason} As corrected: {correction.reason}"
    return Result(Verdict.CORRECTED, reason, max(original.p or 0.0, correction.p or 0.0))


def _judge_tests(claim: Claim, tests: Sequence[Result]) -> Result:
    judging = [test for test in tests if test.record["rule"] != "report"]
    num_seeds = min((len(test.seeds) for test in tests if test.seeds is not None), default=None)
    everything = " ".join(test.reason for test in tests)
    exploratory = claim.kind == "exploratory"
    if not judging:
        return Result(None, f"Reported without a verdict: {everything}", 1.0)
    if exploratory and num_seeds is not None and num_seeds < MIN_SEEDS_FOR_A_VERDICT:
        few = f"no verdict word below {MIN_SEEDS_FOR_A_VERDICT} seeds, and there are {num_seeds}."
        return Result(None, f"Exploratory: {few} {everything}", 1.0)
    if obstacle := _obstacle(claim, tests, num_seeds):
        return Result(Verdict.INCONCLUSIVE, obstacle, 1.0)
    verdict = min((test.verdict for test in judging if test.verdict is not None), key=SEVERITY.index)
    deciding = " ".join(test.reason for test in judging if test.verdict is verdict)
    return Result(verdict, f"Exploratory: {deciding}" if exploratory else deciding, _claim_p(judging, verdict))


def _obstacle(claim: Claim, tests: Sequence[Result], num_seeds: int | None) -> str | None:
    """Say what keeps the tests from being judged."""
    if missing := [test.record["estimand"] for test in tests if test.seeds == {}]:
        return not_run(", ".join(missing))
    if num_seeds is not None and num_seeds < claim.min_seeds:
        return f"The claim needs {claim.min_seeds} seeds and there are {num_seeds}."
    where = "; ".join(f"{test.record['estimand']}: seeds {test.diverged}" for test in tests if test.diverged)
    return f"A reported arm diverged ({where}), and claims.yaml fixes no value for a diverged seed." if where else None


def _claim_p(judging: Sequence[Result], verdict: Verdict) -> float:
    """Return the p that a claim's verdict rests on."""
    # All tests must hold, so a claim is supported at the largest p of its tests (intersection-union). One failed test
    # suffices to contradict it, so there the smallest p of the contradicting tests counts, times the number of tests
    # (Bonferroni): the largest would let a second, noisy test hide a refutation.
    p_values = [test.p for test in judging if test.p is not None]
    if verdict is not Verdict.CONTRADICTED:
        return max(p_values, default=1.0)
    contradicting = [test.p for test in judging if test.verdict is verdict and test.p is not None]
    return min(1.0, len(p_values) * min(contradicting, default=1.0))


def correct_for_multiplicity(primary: Mapping[str, Result], num_declared: int) -> dict[str, Result]:
    """Apply Holm's correction over all declared primary claims; those that are not judged here enter with p = 1."""
    # A word that says something about the claim (all but inconclusive and not tested) becomes inconclusive where the
    # adjusted p is above 5 %. This includes contradicted, since p is two-sided, and no difference, whose p is that of
    # the one-sided tests.
    if not primary:
        return {}
    p_values = [1.0 if result.p is None else result.p for result in primary.values()]
    adjusted = holm(p_values + [1.0] * (num_declared - len(primary)))
    return {
        claim_id: _downgraded(result, float(p_holm), num_declared)
        for (claim_id, result), p_holm in zip(primary.items(), adjusted, strict=False)
    }


def _downgraded(result: Result, p_holm: float, num_declared: int) -> Result:
    silent = (Verdict.INCONCLUSIVE, Verdict.NOT_TESTED)
    if result.verdict in silent or p_holm <= LEVEL:
        return replace(result, p_holm=p_holm)
    reason = (
        f'Alone the verdict would be "{result.verdict}", but over {num_declared} primary claims '
        f"Holm's adjusted p is {p_holm:.3g}, above {LEVEL}. {result.reason}"
    )
    return replace(result, verdict=Verdict.INCONCLUSIVE, reason=reason, p_holm=p_holm)


def judge_runs(
    claims: Sequence[Claim],
    runs: pd.DataFrame,
    estimands: Mapping[str, Estimand],
    *,
    num_primary: int,
    trials: pd.DataFrame | None = None,
) -> list[dict[str, Any]]:
    """Judge claims on one table of runs.

    Args:
        claims: Claims to judge, of kind timing or of the other kinds.
        runs: Table in the form of runs.csv, of one profile.
        estimands: Functions by name, see `load_estimands`.
        num_primary: Primary claims declared in the whole claims.yaml and not superseded; those not in `claims`
            count with p = 1, so that verdicts.json does not depend on a clock.
        trials: Table in the form of trials.csv, if anything was tuned.

    Returns:
        One entry of verdicts.json for each claim, in the order given. Above the committed profile there is none for a
        claim that needs a larger one, or that has a test without runs.
    """
    profile = profile_of(runs)
    if profile in ABOVE:
        claims = [claim for claim in claims if _has_runs(claim, runs, estimands, profile)]
    results: dict[str, Result] = {}
    parts: dict[str, tuple[list[Result], list[Result]]] = {}
    for claim in claims:
        tests, corrected, gate = (
            [evaluate(test, estimands[test.estimand](runs)) for test in of_kind]
            for of_kind in (claim.tests, claim.corrected, (claim.gate,) if claim.gate else ())
        )
        parts[claim.id] = tests, corrected
        results[claim.id] = judge_claim(claim, tests, corrected, gate[0] if gate else None, profile)
    primary = {claim.id: results[claim.id] for claim in claims if claim.is_primary}
    results |= correct_for_multiplicity(primary, num_primary)
    return [
        _claim_record(claim, results[claim.id], *parts[claim.id])
        | _robustness(claim, results[claim.id], parts[claim.id][0], runs, estimands, trials)
        for claim in claims
    ]


def _has_runs(claim: Claim, runs: pd.DataFrame, estimands: Mapping[str, Estimand], profile: str) -> bool:
    """Tell whether a profile can judge a claim: it is large enough, and has runs for each of the claim's tests."""
    is_large = PROFILES.index(claim.profile) <= PROFILES.index(profile)
    return is_large and all(len(estimands[test.estimand](runs)) for test in claim.tests)


def profile_of(runs: pd.DataFrame) -> str:
    """Return the one profile of a table of runs."""
    profiles = sorted(map(str, runs["profile"].unique()))
    if len(profiles) != 1 or profiles[0] not in PROFILES:
        found = ", ".join(profiles) or "no run at all"
        message = f"column 'profile' of the runs: {found}; allowed is one of {', '.join(PROFILES)}: rerun the stage"
        raise ResultsError(message)
    return profiles[0]


def _claim_record(
    claim: Claim, result: Result, tests: Sequence[Result], corrected: Sequence[Result]
) -> dict[str, Any]:
    written = claim.model_dump(include={"id", "kind", "statement", "source", "reported"})
    said = {"superseded_by": claim.superseded_by, "underpowered": claim.underpowered}
    record = {
        **written,
        **{key: text for key, text in said.items() if text is not None},
        "family": "primary" if claim.is_primary else None,
        "verdict": None if result.verdict is None else result.verdict.value,
        "reason": result.reason,
        "exploratory": claim.kind == "exploratory",
        "tests": [_with_holm(test.record, result.p_holm) for test in tests],
    }
    if claim.correction is None:
        return record
    corrections = [_with_holm(test.record, result.p_holm) for test in corrected]
    return record | {"correction": {"statement": claim.correction.statement, "tests": corrections}}


def _with_holm(record: dict[str, Any], p_holm: float | None) -> dict[str, Any]:
    """Give the claim's adjusted p to each of its tests that has a p."""
    return {**record, "p_holm": p_holm} if record.get("p") is not None else record


def _robustness(
    claim: Claim,
    result: Result,
    tests: Sequence[Result],
    runs: pd.DataFrame,
    estimands: Mapping[str, Estimand],
    trials: pd.DataFrame | None,
) -> dict[str, Any]:
    """Read a claim under its variations and the noise of its searches, and mark a word that one of them flips."""
    own = {test.estimand: (test, tests[claim.tests.index(test)]) for test in claim.deciding}
    read = []
    for variation in claim.robustness:
        test, of_test = own[variation.of or next(iter(own))]
        varied = test.model_copy(update={"estimand": variation.estimand})
        read.append((
            variation.name,
            test,
            varied,
            vary(varied, of_test, result.verdict, estimands[varied.estimand](runs)),
        ))
    for test, of_test in own.values():
        if not claim.is_primary or trials is None or test.difference is None or of_test.interval is None:
            continue
        variance = variance_of_difference(trials, test.difference)
        if variance is not None:
            read.append((ANOTHER_RACE, test, test, vary_by_search(test, of_test, result.verdict, variance)))
    if not read:
        return {}
    variations = [
        {"name": name, "estimand": varied.estimand, "of": test.estimand, "flips": flips, "why": why}
        | {end: found.record[end] for end in ("estimate", "low", "high", "n")}
        for name, test, varied, (found, flips, why) in read
    ]
    flipping = [variation["name"] for variation in variations if variation["flips"]]
    if not flipping:
        return {"robustness": variations}
    reason = f"{result.reason} The word flips under {', '.join(flipping)}."
    return {"robustness": variations, "verdict": f"{result.verdict}{FRAGILE}", "reason": reason}


def tables_of(results: Path, table: str, claims: Sequence[Claim]) -> Iterator[tuple[pd.DataFrame, list[Claim]]]:
    """Yield the runs of a folder with the claims that they judge.

    Args:
        results: Folder of results.
        table: runs.csv or timings.csv.
        claims: Claims to be judged by it.

    Yields:
        The table and the claims; then, if `results` has a folder superseded/ with such a table, that one and the
        superseded claims, whose experiments are run no more.
    """
    kept = results / SUPERSEDED / table
    old = [claim for claim in claims if claim.superseded_by is not None] if kept.exists() else []
    yield read_runs(results / table), [claim for claim in claims if claim not in old]
    if old:
        yield read_runs(kept), old


def headline_numbers(claim_records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the numbers of metrics.json by claim: of its first test what has been measured."""
    keys = ("estimate", "low", "high", "n", "max_error")
    return {
        record["id"]: {key: record["tests"][0][key] for key in keys if record["tests"][0].get(key) is not None}
        for record in claim_records
    }


def write_verdicts(results_name: str, *, timing: bool) -> None:
    """Judge a replication's claims on one folder of results and write its verdicts.

    Reads replications/<name>/claims.yaml, results/<results_name>/runs.csv and, if there, trials.csv; writes
    verdicts.json and metrics.json beside the runs. With timing, reads timings.csv and writes timing_verdicts.json
    only. Where superseded claims have runs of their own is said at `tables_of`.

    Args:
        results_name: Folder below results/, see `paperkit.profiles.results_name`.
        timing: Judge the claims of kind timing instead of all others.

    Raises:
        ResultsError: If the runs are missing; the message names the stage that makes them.
    """
    name, of_profile = replication_and_profile(results_name)
    claims = read_claims(Path("replications") / name / "claims.yaml")
    estimands = load_estimands(f"replications.{name}.estimands", claims)
    results = Path("results") / results_name
    table, stage = ("timings.csv", f"{name}_timing") if timing else ("runs.csv", name)
    if not (results / table).exists():
        remedy = f"make {of_profile} NAME={name}" if of_profile in ABOVE else f"dvc repro {stage}"
        message = f"{results / table} is missing; run `{remedy}`"
        raise ResultsError(message)
    judged = [claim for claim in claims if (claim.kind == "timing") == timing]
    num_primary = sum(claim.is_primary for claim in claims)
    tables = list(tables_of(results, table, judged))
    trials = read_trials(results / "trials.csv") if (results / "trials.csv").exists() else None
    found = {
        record["id"]: record
        for runs, some in tables
        for record in judge_runs(some, runs, estimands, num_primary=num_primary, trials=trials)
    }
    records = [found[claim.id] for claim in judged if claim.id in found]
    verdicts = {"schema": 1, "replication": name, "profile": profile_of(tables[0][0]), "claims": records}
    write_json(results / ("timing_verdicts.json" if timing else "verdicts.json"), verdicts)
    if not timing:
        write_json(results / "metrics.json", headline_numbers(records))

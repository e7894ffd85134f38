"""paperkit.claims: from YAML text and a table of runs to the words in verdicts.json."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter
from scipy import stats

import paperkit
from paperkit.claims.__main__ import main
from paperkit.claims.declarations import PROFILES, Claim, load_estimands, read_claims
from paperkit.claims.rules import (
    AnyTest,
    EffectTest,
    EquivalenceTest,
    RangeTest,
    Result,
    Verdict,
    evaluate,
    vary,
)
from paperkit.claims.verdicts import judge_claim
from paperkit.config import ConfigError
from paperkit.results import write_runs
from paperkit.statistics import Interval, achieved_power, equivalence_p, paired_interval, seeds_needed

GREATER = {"estimand": "gap", "rule": "greater", "bound": 0, "margin": 0.1, "unit": "nats", "pilot_sd": 0.04}
LESS = GREATER | {"rule": "less"}
SLOPE = GREATER | {"margin": None}
EQUIVALENT = {"estimand": "gap", "rule": "equivalent", "margin": 0.1, "unit": "nats", "pilot_sd": 0.04}
WITHIN = {"estimand": "gap", "rule": "within", "low": 0.4, "high": 0.6, "unit": "ratio", "pilot_sd": 0.04}
REPORT = {"estimand": "gap", "rule": "report", "unit": "nats"}
IDENTITY = {"estimand": "algebra", "rule": "identity", "tolerance": 1e-12}
OTHER = GREATER | {"estimand": "other_gap"}

VALUE = {"experiment": "lm", "arm": "lion", "metric": "loss_nats", "split": "test"}
DIFFERENCE = {"experiment": "lm", "of": "adamw", "minus": "lion", "metric": "loss_nats", "split": "test"}
FULL = {"rule": "greater", "bound": 0, "margin": None, "unit": "nats"}
CHECK = {"check": "signum", "tolerance": 1e-12}

Numbers = Mapping[int, float] | Sequence[float]


def claim(claim_id: str = "C1", *tests: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a valid claim of claims.yaml; a change to `...` leaves the key out."""
    content = {
        "id": claim_id,
        "statement": "The gap is positive.",
        "source": {"bib": "toy2026", "where": "Table 1"},
        "reported": {"value": 0.2, "unit": "nats", "unverified": False},
        "kind": "experiment",
        "family": None,
        "profile": "smoke",
        "min_seeds": 5,
        "tests": [dict(test) for test in tests or (GREATER,)],
    } | changes
    return {key: value for key, value in content.items() if value is not ...}


def identity(**changes: Any) -> dict[str, Any]:
    return claim("C9", IDENTITY, kind="identity", min_seeds=1, **changes)


def seeds(estimate: float, half_width: float, n: int = 8) -> list[float]:
    """Return n numbers with this mean and this half-width of the 95 % interval."""
    shape = np.linspace(-1, 1, n)
    standard = (shape - shape.mean()) / shape.std(ddof=1)
    sd = half_width * np.sqrt(n) / stats.t.ppf(0.975, n - 1)
    return list(estimate + sd * standard)


def parsed(test: Mapping[str, Any]) -> Any:
    return TypeAdapter(AnyTest).validate_python(test)


def judged(test: Mapping[str, Any], numbers: Sequence[float]) -> Result:
    """Judge a single test on numbers of the seeds 0, 1, …"""
    return evaluate(parsed(test), pd.Series(numbers, dtype=float))


def run_rows(experiment: str, numbers: Numbers, profile: str) -> list[dict[str, Any]]:
    by_seed = numbers if isinstance(numbers, Mapping) else dict(enumerate(numbers))
    return [
        {
            "profile": profile,
            "experiment": experiment,
            "arm": "difference",
            "seed": seed,
            "config": {},
            "split": "test",
            "step": 100,
            "metric": "gap_nats",
            "value": value,
            "status": "diverged" if np.isnan(value) else "ok",
        }
        for seed, value in by_seed.items()
    ]


def identity_rows(max_error: float, control_error: float) -> list[dict[str, Any]]:
    fixed = {"profile": "smoke", "experiment": "identities", "arm": "signum", "seed": 0, "config": {}}
    fixed |= {"split": "none", "step": 0, "status": "ok"}
    errors = {"max_error": max_error, "control_error": control_error}
    return [fixed | {"metric": metric, "value": value} for metric, value in errors.items()]


def by_seed(experiment: str) -> Callable[[pd.DataFrame], pd.Series]:
    def estimand(runs: pd.DataFrame) -> pd.Series:
        return runs[runs["experiment"] == experiment].set_index("seed")["value"]

    return estimand


def algebra(runs: pd.DataFrame) -> pd.DataFrame:
    checks = runs[runs["experiment"] == "identities"]
    return checks.pivot(index="arm", columns="metric", values="value")


class Toy:
    """A repository with one replication, `toy`, judged through the command line."""

    def __init__(self, root: Path, estimands: ModuleType) -> None:
        self.root = root
        self.estimands = estimands
        (root / "replications" / "toy").mkdir(parents=True)
        self.write_runs([])

    def write_claims(self, *claims: Mapping[str, Any]) -> Path:
        path = self.root / "replications" / "toy" / "claims.yaml"
        path.write_text(yaml.safe_dump({"schema": 1, "claims": list(claims)}), encoding="utf-8")
        return path

    def write_runs(self, rows: list[dict[str, Any]], *, profile: str = "smoke", table: str = "runs.csv") -> None:
        # One run that no claim looks at gives the table its profile.
        write_runs(self.root / "results" / "toy" / table, [*rows, *run_rows("unrelated", [0.0], profile)])

    def read(self, file: str) -> Any:
        return json.loads((self.root / "results" / "toy" / file).read_text(encoding="utf-8"))

    def verdicts(self) -> dict[str, dict[str, Any]]:
        main(["toy"])
        return {record["id"]: record for record in self.read("verdicts.json")["claims"]}

    def judge(self, content: Mapping[str, Any], *, profile: str = "smoke", **gaps: Numbers) -> dict[str, Any]:
        """Judge a single claim on numbers by experiment."""
        self.write_claims(content)
        rows = [row for name, numbers in gaps.items() for row in run_rows(name, numbers, profile)]
        self.write_runs(rows, profile=profile)
        return self.verdicts()[content["id"]]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    module = ModuleType("replications.toy.estimands")
    module.algebra = algebra
    for name in ("gap", "other_gap", "third_gap", "fourth_gap"):
        setattr(module, name, by_seed(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    return Toy(tmp_path, module)


# --- every word, through the whole path ---------------------------------------------------------------------


CORRECTION = {"statement": "The gap is negative.", "tests": [LESS]}
WORDS = [
    ("holds", claim(), seeds(0.2, 0.05)),
    ("holds, smaller", claim(), seeds(0.06, 0.05)),
    ("contradicted", claim(), seeds(-0.2, 0.05)),
    ("no difference", claim(), seeds(0.0, 0.1)),
    ("inconclusive", claim(), seeds(0.0, 0.2)),
    ("corrected", claim(correction=CORRECTION), seeds(-0.2, 0.05)),
    ("not tested at this scale", claim(profile="paper"), seeds(0.2, 0.05)),
]


def test_the_table_of_words_holds_every_verdict() -> None:
    assert {word for word, _, _ in WORDS} == {verdict.value for verdict in Verdict}


@pytest.mark.parametrize(("word", "content", "numbers"), WORDS, ids=[word for word, _, _ in WORDS])
def test_every_word_is_reached_from_yaml_and_runs(
    toy: Toy, word: str, content: dict[str, Any], numbers: list[float]
) -> None:
    record = toy.judge(content, gap=numbers)
    assert record["verdict"] == word
    assert record["reason"].endswith(".")


def test_the_output_has_exactly_the_form_of_the_reporting_standard(toy: Toy) -> None:
    record = toy.judge(claim(family="primary"), gap=seeds(0.2, 0.05))
    verdicts = toy.read("verdicts.json")
    assert {key: verdicts[key] for key in ("schema", "replication", "profile")} == {
        "schema": 1,
        "replication": "toy",
        "profile": "smoke",
    }
    keys = {"id", "kind", "family", "statement", "source", "reported", "verdict", "reason", "exploratory", "tests"}
    assert set(record) == keys
    assert record["source"] == {"bib": "toy2026", "where": "Table 1"}
    assert record["reported"] == {"value": 0.2, "unit": "nats", "unverified": False}
    assert record["exploratory"] is False
    interval = paired_interval(seeds(0.2, 0.05))
    assert interval is not None
    measured = {end: getattr(interval, end) for end in ("estimate", "low", "high", "low90", "high90", "p")}
    assert record["tests"] == [
        {"estimand": "gap", "rule": "greater", "unit": "nats", "bound": 0.0, "margin": 0.1, "n": 8}
        | {"seeds": list(range(8)), "p_holm": interval.p}
        | {"flip": {"without": [], "threshold": "margin", "value": pytest.approx(0.2)}}
        | {key: pytest.approx(value, rel=1e-9) for key, value in measured.items()}
    ]


def test_the_output_is_written_with_sorted_keys_and_a_final_newline(toy: Toy) -> None:
    toy.judge(claim(), gap=seeds(0.2, 0.05))
    text = (toy.root / "results/toy/verdicts.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def test_metrics_hold_the_first_test_of_each_claim_that_was_measured(toy: Toy) -> None:
    toy.write_claims(claim("C1", GREATER, OTHER), claim("C2", OTHER), identity())
    toy.write_runs(run_rows("gap", seeds(0.2, 0.05), "smoke") + identity_rows(1e-15, 0.5))
    main(["toy"])
    metrics = toy.read("metrics.json")
    assert metrics["C1"] == {
        "estimate": pytest.approx(0.2),
        "low": pytest.approx(0.15),
        "high": pytest.approx(0.25),
        "n": 8,
    }
    assert metrics["C2"] == {"n": 0}
    assert metrics["C9"] == {"max_error": 1e-15}


def test_the_module_runs_as_a_command_with_estimands_from_the_working_directory(toy: Toy) -> None:
    toy.write_claims(claim())
    toy.write_runs(run_rows("gap", seeds(0.2, 0.05), "smoke"))
    for folder in ("replications", "replications/toy"):
        (toy.root / folder / "__init__.py").touch()
    estimand = "def gap(runs):\n    return runs[runs['experiment'] == 'gap'].set_index('seed')['value']\n"
    (toy.root / "replications/toy/estimands.py").write_text(estimand, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path(paperkit.__file__).parents[1])}
    command = [sys.executable, "-m", "paperkit.claims", "toy"]
    done = subprocess.run(command, cwd=toy.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert toy.read("verdicts.json")["claims"][0]["verdict"] == "holds"


# --- one test: rules and their precedence -------------------------------------------------------------------


def interval(low: float, low90: float, estimate: float, high90: float, high: float) -> Interval:
    return Interval(estimate, low, high, low90, high90, n=8, p=0.5)


# low, low90, estimate, high90, high, for margin 1; the order decides where two conditions are true at once.
# Multiples of 1/8, so that adding a bound keeps every boundary exact.
EFFECTS = [
    ((-0.5, -0.375, -0.25, -0.25, -0.125), "contradicted"),  # and the 90 % interval inside the margin
    ((-0.5, -0.375, -0.25, -0.125, 0.0), "no difference"),  # u = 0 is not below 0
    ((0.125, 0.25, 1.0, 1.75, 1.875), "holds"),  # x = m
    ((0.125, 0.25, 0.875, 1.75, 1.875), "holds, smaller"),
    ((0.125, 0.25, 0.375, 0.5, 0.75), "holds, smaller"),  # and the 90 % interval inside the margin
    ((0.0, 0.25, 0.375, 0.5, 0.75), "no difference"),  # l = 0 is not above 0
    ((-1.25, -0.875, 0.0, 0.875, 1.25), "no difference"),  # the 95 % interval may leave the margin
    ((-1.25, -1.0, 0.0, 0.875, 1.25), "inconclusive"),  # the margin itself is outside
    ((-1.25, -0.875, 0.0, 1.0, 1.25), "inconclusive"),
    ((-1.0, 0.5, 1.5, 2.5, 4.0), "inconclusive"),
    ((0.0, 0.0, 0.0, 0.0, 0.0), "no difference"),  # seeds without spread
]


@pytest.mark.parametrize(("ends", "word"), EFFECTS)
@pytest.mark.parametrize("bound", [0.0, 4.0, -0.5])
def test_a_claimed_effect_is_judged_in_the_stated_order(ends: tuple[float, ...], word: str, bound: float) -> None:
    greater = EffectTest.model_validate(GREATER | {"bound": bound, "margin": 1.0})
    less = EffectTest.model_validate(LESS | {"bound": bound, "margin": 1.0})
    assert greater.judge(interval(*(bound + end for end in ends))) == word
    assert less.judge(interval(*(bound - end for end in reversed(ends)))) == word


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ((0.01, 0.02, 0.03, 0.04, 0.05), "holds"),
        ((0.0, 0.02, 0.03, 0.04, 0.05), "inconclusive"),
        ((-0.05, -0.04, -0.03, -0.02, 0.0), "inconclusive"),
        ((-0.05, -0.04, -0.03, -0.02, -0.01), "contradicted"),
    ],
)
def test_without_a_margin_only_the_sign_is_judged(ends: tuple[float, ...], word: str) -> None:
    assert EffectTest.model_validate(SLOPE).judge(interval(*ends)) == word


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ((-0.12, -0.09, 0.0, 0.09, 0.12), "holds"),
        ((0.01, 0.02, 0.03, 0.04, 0.05), "holds"),  # a difference, but one that does not matter
        ((-0.12, -0.1, 0.0, 0.09, 0.12), "inconclusive"),
        ((-0.12, -0.09, 0.0, 0.1, 0.12), "inconclusive"),
        ((0.1, 0.12, 0.15, 0.18, 0.2), "contradicted"),
        ((0.09, 0.12, 0.15, 0.18, 0.2), "inconclusive"),
        ((-0.2, -0.18, -0.15, -0.12, -0.1), "contradicted"),
        ((-0.2, -0.18, -0.15, -0.12, -0.09), "inconclusive"),
    ],
)
def test_a_claim_of_equality_is_judged_by_its_margins(ends: tuple[float, ...], word: str) -> None:
    assert EquivalenceTest.model_validate(EQUIVALENT).judge(interval(*ends)) == word


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ((0.4, 0.45, 0.5, 0.55, 0.6), "holds"),
        ((0.39, 0.45, 0.5, 0.55, 0.6), "inconclusive"),
        ((0.4, 0.45, 0.5, 0.55, 0.61), "inconclusive"),
        ((0.6, 0.65, 0.7, 0.75, 0.8), "inconclusive"),
        ((0.61, 0.65, 0.7, 0.75, 0.8), "contradicted"),
        ((0.1, 0.2, 0.25, 0.3, 0.4), "inconclusive"),
        ((0.1, 0.2, 0.25, 0.3, 0.39), "contradicted"),
    ],
)
def test_a_range_is_judged_by_the_95_percent_interval(ends: tuple[float, ...], word: str) -> None:
    assert RangeTest.model_validate(WITHIN).judge(interval(*ends)) == word


def test_a_range_is_kept_in_the_output_beside_the_interval(toy: Toy) -> None:
    record = toy.judge(claim("C1", WITHIN), gap=seeds(0.5, 0.05))
    assert record["verdict"] == "holds"
    assert record["tests"][0]["range"] == [0.4, 0.6]
    assert record["tests"][0]["low"] == pytest.approx(0.45)


def test_a_report_has_an_interval_and_no_verdict_word(toy: Toy) -> None:
    record = toy.judge(claim("C1", REPORT), gap=seeds(0.5, 0.05))
    assert record["verdict"] is None
    assert record["tests"][0]["low"] == pytest.approx(0.45)
    assert record["tests"][0]["p"] is None
    assert "0.5 nats" in record["reason"]


finite = st.integers(-8, 8).map(lambda number: number / 4)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    ends = sorted(draw(st.lists(finite, min_size=5, max_size=5)))
    return Interval(ends[2], ends[0], ends[4], ends[1], ends[3], draw(st.integers(2, 40)), draw(st.floats(0, 1)))


def restated_effect(i: Interval, m: float) -> str:
    steps = [
        ("contradicted", i.high < 0),
        ("holds", i.low > 0 and i.estimate >= m),
        ("holds, smaller", i.low > 0 and i.estimate < m),
        ("no difference", -m < i.low90 and i.high90 < m),
        ("inconclusive", True),
    ]
    return next(word for word, met in steps if met)


def restated_equality(i: Interval, m: float) -> str:
    steps = [
        ("holds", max(abs(i.low90), abs(i.high90)) < m),
        ("contradicted", i.low >= m or i.high <= -m),
        ("inconclusive", True),
    ]
    return next(word for word, met in steps if met)


@settings(deadline=None, max_examples=400)
@given(intervals(), st.integers(1, 8).map(lambda m: m / 4), st.integers(2, 40), st.floats(0, 1))
def test_a_verdict_depends_only_on_the_ends_the_estimate_and_the_margin(
    i: Interval, m: float, n: int, p: float
) -> None:
    greater = EffectTest.model_validate(GREATER | {"margin": m})
    equality = EquivalenceTest.model_validate(EQUIVALENT | {"margin": m})
    twin = Interval(i.estimate, i.low, i.high, i.low90, i.high90, n, p)
    assert greater.judge(i) == greater.judge(twin) == restated_effect(i, m)
    assert equality.judge(i) == equality.judge(twin) == restated_equality(i, m)


# --- rounding decides nothing -------------------------------------------------------------------------------


ROUNDED = [4.33 - 4.28, 4.39 - 4.34]  # 0.05 twice, were it not for the last bits
SUM = [0.1 + 0.2] * 5  # above 0.3 by one bit
BY_ROUNDING = [
    (SLOPE | {"bound": 0.05}, ROUNDED),
    (GREATER | {"bound": 0.05}, ROUNDED),
    (LESS | {"bound": 0.05}, ROUNDED),
    (EQUIVALENT | {"margin": 0.05}, ROUNDED),
    (SLOPE | {"bound": 0.3}, SUM),
    (LESS | {"bound": 0.3}, SUM),
    (GREATER | {"margin": 0.3}, SUM),
    (EQUIVALENT | {"margin": 0.3}, SUM),
    (WITHIN | {"low": 0.3}, SUM),
    (WITHIN | {"low": 0.1, "high": 0.3}, SUM),
]


@pytest.mark.parametrize(("test", "numbers"), BY_ROUNDING)
@pytest.mark.parametrize("exponent", [0, -600, 600])
def test_rounding_decides_nothing_and_the_reason_says_so(
    test: dict[str, Any], numbers: list[float], exponent: int
) -> None:
    result = judged(scaled(test, exponent), np.ldexp(numbers, exponent))
    assert (result.verdict, result.p) == ("inconclusive", 1.0)
    assert "rounding would decide between " in result.reason


@pytest.mark.parametrize(("test", "numbers"), BY_ROUNDING)
@pytest.mark.parametrize("gap", [-1e-6, 1e-6])
def test_a_small_gap_that_is_no_rounding_decides(test: dict[str, Any], numbers: list[float], gap: float) -> None:
    assert "rounding" not in judged(test, np.add(numbers, gap)).reason


def test_a_primary_claim_that_rounding_would_decide_counts_with_p_one(toy: Toy) -> None:
    record = toy.judge(claim("C1", SLOPE | {"bound": 0.3}, family="primary"), gap=SUM)
    assert record["verdict"] == "inconclusive"
    assert record["reason"].endswith('rounding would decide between "contradicted" and "holds".')
    assert (record["tests"][0]["p"], record["tests"][0]["p_holm"]) == (1.0, 1.0)


def scaled(test: Mapping[str, Any], exponent: int) -> dict[str, Any]:
    """Give the numbers of a test the unit 2^exponent."""
    return {
        key: float(np.ldexp(value, exponent)) if isinstance(value, int | float) else value
        for key, value in test.items()
        if key != "pilot_sd"
    }


hundredths = st.integers(-60, 60).map(lambda number: number / 100)


@settings(deadline=None)
@given(
    st.sampled_from([GREATER, LESS, SLOPE, EQUIVALENT, WITHIN]),
    st.one_of(
        st.lists(hundredths, min_size=2, max_size=7),
        st.builds(lambda value, n: [value] * n, hundredths, st.integers(2, 7)),
    ),
    hundredths,
    st.integers(-700, 700),
)
def test_words_and_p_are_free_of_the_unit(
    test: dict[str, Any], numbers: list[float], bound: float, exponent: int
) -> None:
    test = test if test is WITHIN else test | {"bound": bound}
    before, after = judged(test, numbers), judged(scaled(test, exponent), np.ldexp(numbers, exponent))
    assert (after.verdict, after.p) == (before.verdict, before.p)
    flips = before.record["flip"], after.record["flip"]
    assert flips[0]["without"] == flips[1]["without"]
    assert flips[1]["value"] == (flips[0]["value"] and np.ldexp(flips[0]["value"], exponent))


def test_an_interval_beyond_float64_is_refused_by_estimand(toy: Toy) -> None:
    toy.estimands.gap = lambda _: pd.Series([1.7e308, 1.7e308, 0.0, -1.7e308, -1.7e308])
    toy.write_claims(claim())
    with pytest.raises(SystemExit, match=r"estimand gap: differences are of size 2\^1024, .*give them another unit"):
        main(["toy"])


# --- how little turns a word --------------------------------------------------------------------------------


THRESHOLDS = [
    (GREATER, "margin", [0.2, 0.05], 0.2),
    (LESS | {"bound": 0.5}, "margin", [0.2, 0.05], 0.3),
    (GREATER, "bound", [0.06, 0.05], 0.01),
    (LESS | {"bound": 0.5}, "bound", [0.44, 0.05], 0.49),
    (SLOPE, "bound", [0.2, 0.05], 0.15),
    (LESS | {"margin": None}, "bound", [-0.2, 0.05], -0.15),
    (GREATER, "bound", [-0.2, 0.05], -0.15),
    (LESS, "bound", [0.2, 0.05], 0.15),
    (EQUIVALENT, "margin", [0.2, 0.05], 0.15),
    (EQUIVALENT, "margin", [-0.2, 0.05], 0.15),
    (WITHIN, "bound", [0.48, 0.05], 0.43),
    (WITHIN, "bound", [0.52, 0.05], 0.57),
    (WITHIN, "bound", [0.8, 0.05], 0.75),
    (WITHIN, "bound", [0.2, 0.05], 0.25),
]


@pytest.mark.parametrize(("test", "threshold", "numbers", "value"), THRESHOLDS)
def test_the_flip_distance_names_where_the_word_falls(
    test: dict[str, Any], threshold: str, numbers: list[float], value: float
) -> None:
    outcome = judged(test, seeds(*numbers))
    flip = outcome.record["flip"]
    assert (flip["threshold"], flip["value"]) == (threshold, pytest.approx(value))
    moved = {"margin": "margin"} if threshold == "margin" else {"bound": "bound", "low": "low", "high": "high"}
    key = min((key for key in moved if test.get(key) is not None), key=lambda key: abs(test[key] - value))
    words = {judged(test | {key: value + step}, seeds(*numbers)).verdict for step in (-1e-6, 1e-6)}
    assert outcome.verdict in words
    assert len(words) == 2


@pytest.mark.parametrize(("test", "word"), [(GREATER, "no difference"), (EQUIVALENT, "holds")])
@pytest.mark.parametrize("estimate", [-0.02, 0.02])
def test_equality_falls_at_the_margin_that_the_90_percent_interval_reaches(
    test: dict[str, Any], word: str, estimate: float
) -> None:
    outcome = judged(test, seeds(estimate, 0.06))
    assert outcome.verdict == word
    reached = max(-outcome.record["low90"], outcome.record["high90"])
    assert outcome.record["flip"] == {"without": [], "threshold": "margin", "value": pytest.approx(reached)}


def test_the_seeds_are_named_without_which_the_word_would_be_another() -> None:
    numbers = [0.3, 0.0, 0.09, 0.08, 0.1, 0.09, 0.11, 0.1]  # a mean of 0.109, of 0.081 without the first
    outcome = judged(GREATER, numbers)
    assert outcome.verdict == "holds"
    assert outcome.record["flip"]["without"] == [0]


def test_a_word_of_two_seeds_stands_without_neither() -> None:
    assert judged(GREATER, [0.2, 0.2001]).record["flip"]["without"] == [0, 1]


@pytest.mark.parametrize(
    ("test", "numbers"), [(REPORT, [0.1, 0.2]), (GREATER, [0.1]), (GREATER, []), (GREATER, [0.1, 0.2, float("nan")])]
)
def test_a_test_without_a_word_has_no_flip_distance(test: dict[str, Any], numbers: list[float]) -> None:
    assert "flip" not in judged(test, numbers).record


def test_an_inconclusive_test_has_no_word_that_could_fall() -> None:
    flip = judged(GREATER, seeds(0.0, 0.2)).record["flip"]
    assert flip == {"without": [], "threshold": None, "value": None}


# --- the same claim under its variations --------------------------------------------------------------------


def varied(*variations: str, **changes: Any) -> dict[str, Any]:
    names = variations or ("other_gap",)
    content = claim("C1", family="primary", robustness=[{"name": f"as {name}", "estimand": name} for name in names])
    return content | changes


UNDER_VARIATION = [
    (GREATER, [0.2, 0.05], "holds", [[0.15, 0.3]], [[0.05, 0.2], [0.05, 0.01], [-0.2, 0.05]]),
    (LESS, [-0.2, 0.05], "holds", [[-0.15, 0.3]], [[-0.05, 0.2], [0.2, 0.05]]),
    (LESS | {"bound": 0.5}, [0.3, 0.05], "holds", [[0.35, 0.3]], [[0.45, 0.2], [0.7, 0.05]]),
    (SLOPE, [0.2, 0.05], "holds", [[0.01, 0.2], [-0.01, 0.2]], [[-0.2, 0.05]]),
    (GREATER, [0.06, 0.05], "holds, smaller", [[0.01, 0.2], [-0.01, 0.2], [0.3, 0.1]], [[-0.06, 0.05]]),
    (GREATER, [-0.2, 0.05], "contradicted", [[-0.15, 0.3]], [[-0.05, 0.2], [-0.05, 0.01], [0.06, 0.05]]),
    (GREATER, [-0.06, 0.05], "contradicted", [[-0.01, 0.1], [0.01, 0.1]], [[0.06, 0.05]]),
    (SLOPE, [-0.2, 0.05], "contradicted", [[-0.01, 0.1], [0.01, 0.1]], [[0.06, 0.05]]),
    (GREATER, [0.0, 0.1], "no difference", [[0.05, 0.5], [-0.05, 0.5]], [[0.15, 0.5], [-0.15, 0.5]]),
    (EQUIVALENT, [0.0, 0.05], "holds", [[0.05, 0.5]], [[0.15, 0.5], [-0.15, 0.5]]),
    (EQUIVALENT | {"bound": 0.5}, [0.5, 0.05], "holds", [[0.55, 0.5]], [[0.65, 0.5]]),
    (EQUIVALENT, [0.2, 0.05], "contradicted", [[0.15, 0.5]], [[0.05, 0.2]]),
    (WITHIN, [0.5, 0.05], "holds", [[0.55, 0.5]], [[0.65, 0.5], [0.35, 0.5]]),
    (WITHIN, [0.8, 0.05], "contradicted", [[0.65, 0.5]], [[0.55, 0.5]]),
]


@pytest.mark.parametrize(("test", "numbers", "word", "standing", "flipping"), UNDER_VARIATION)
def test_a_variation_flips_the_word_where_it_denies_what_decided(
    test: dict[str, Any],
    numbers: list[float],
    word: str,
    standing: list[list[float]],
    flipping: list[list[float]],
) -> None:
    def under(other: list[float]) -> bool | None:
        return vary(parsed(test), judged(test, seeds(*numbers)), Verdict(word), pd.Series(seeds(*other)))[1]

    assert [under(other) for other in standing] == [False] * len(standing)
    assert [under(other) for other in flipping] == [True] * len(flipping)


@pytest.mark.parametrize(
    ("word", "estimate", "half_width"),
    [("holds", 0.2, 0.05), ("holds, smaller", 0.06, 0.05), ("contradicted", -0.2, 0.05), ("no difference", 0.0, 0.1)],
)
def test_a_word_that_a_variation_flips_is_fragile(toy: Toy, word: str, estimate: float, half_width: float) -> None:
    own, opposite = seeds(estimate, half_width), seeds(-estimate or 0.2, half_width)
    stands = toy.judge(varied(), gap=own, other_gap=own)
    assert (stands["verdict"], stands["robustness"][0]["flips"]) == (word, False)
    assert stands["robustness"][0]["why"].endswith(": the word stands.")
    flips = toy.judge(varied(), gap=own, other_gap=opposite)
    assert (flips["verdict"], flips["robustness"][0]["flips"]) == (f"{word}, fragile", True)
    assert flips["reason"] == f"{stands['reason']} The word flips under as other_gap."


def test_a_variation_is_written_with_its_numbers_and_a_reason(toy: Toy) -> None:
    record = toy.judge(varied(), gap=seeds(0.2, 0.05), other_gap=seeds(0.06, 0.05))
    assert record["robustness"] == [
        {"name": "as other_gap", "estimand": "other_gap", "of": "gap", "n": 8, "flips": True}
        | {"estimate": pytest.approx(0.06), "low": pytest.approx(0.01), "high": pytest.approx(0.11)}
        | {"why": "other_gap = 0.06 nats, 95 % interval [0.01, 0.11], n = 8: the effect is below the margin 0.1."}
    ]


@pytest.mark.parametrize(
    ("other", "n", "why"),
    [
        ([0.0, -0.1], 2, "fewer than 3 seeds decide nothing."),
        ([-0.1], 1, "one seed: no interval."),
        ([], 0, "not yet run: there is no run for other_gap."),
        ([*seeds(-0.2, 0.05), float("nan")], 9, "no number for seeds [8], where a reported arm diverged."),
        ([0.1] * 5, 5, "rounding would decide whether the word stands."),
    ],
)
def test_a_variation_that_decides_nothing_leaves_the_word(toy: Toy, other: Numbers, n: int, why: str) -> None:
    record = toy.judge(varied(), gap=seeds(0.2, 0.05), other_gap=other)
    assert record["verdict"] == "holds"
    assert (record["robustness"][0]["flips"], record["robustness"][0]["n"]) == (None, n)
    assert record["robustness"][0]["why"].endswith(why)


def test_three_seeds_of_a_variation_decide(toy: Toy) -> None:
    assert toy.judge(varied(), gap=seeds(0.2, 0.05), other_gap=seeds(0.0, 0.1, 3))["verdict"] == "holds, fragile"


@pytest.mark.parametrize(
    ("changes", "numbers", "word"),
    [
        ({}, seeds(0.0, 0.2), "inconclusive"),
        ({"min_seeds": 9}, seeds(0.2, 0.05), "inconclusive"),
        ({"profile": "gpu"}, seeds(0.2, 0.05), "not tested at this scale"),
        ({"correction": CORRECTION}, seeds(-0.2, 0.05), "corrected"),
    ],
)
def test_a_claim_without_a_firm_word_has_none_that_could_flip(
    toy: Toy, changes: dict[str, Any], numbers: list[float], word: str
) -> None:
    record = toy.judge(varied(**changes), gap=numbers, other_gap=[-value for value in numbers])
    assert record["verdict"] == word
    assert record["robustness"][0]["flips"] is None
    assert record["robustness"][0]["why"].endswith("the claim has no word that could flip.")


def test_a_word_that_fails_holm_cannot_flip(toy: Toy) -> None:
    verdicts = judge_primary(toy, varied(), PRIMARY[2], gap=seeds_with_p(0.03), other_gap=seeds(-0.2, 0.05))
    assert verdicts["C1"]["verdict"] == "inconclusive"
    assert verdicts["C1"]["robustness"][0]["flips"] is None


def of_two(other: Mapping[str, Any] = OTHER) -> dict[str, Any]:
    variations = [
        {"name": f"of {name}", "estimand": estimand, "of": name}
        for name, estimand in (("gap", "third_gap"), ("other_gap", "fourth_gap"))
    ]
    return claim("C1", GREATER, other, family="primary", robustness=variations)


def test_each_variation_is_read_by_the_test_that_it_varies(toy: Toy) -> None:
    firm, weak = seeds(0.2, 0.05), seeds(0.05, 0.01)
    record = toy.judge(of_two(OTHER | {"margin": None}), gap=firm, other_gap=firm, third_gap=firm, fourth_gap=weak)
    assert [(variation["of"], variation["flips"]) for variation in record["robustness"]] == [
        ("gap", False),
        ("other_gap", False),
    ]
    record = toy.judge(of_two(), gap=firm, other_gap=firm, third_gap=firm, fourth_gap=weak)
    assert [variation["flips"] for variation in record["robustness"]] == [False, True]
    assert record["reason"].endswith(" The word flips under of other_gap.")


def test_a_test_that_did_not_contradict_cannot_save_the_claim(toy: Toy) -> None:
    against = seeds(-0.2, 0.05)
    record = toy.judge(of_two(), gap=against, other_gap=seeds(0.2, 0.05), third_gap=against, fourth_gap=against)
    assert record["verdict"] == "contradicted"
    assert [variation["flips"] for variation in record["robustness"]] == [False, None]
    assert record["robustness"][1]["why"].endswith("the claim is contradicted by another test.")


def test_where_another_test_made_the_claim_smaller_no_margin_of_this_one_decides(toy: Toy) -> None:
    firm, small = seeds(0.2, 0.05), seeds(0.06, 0.05)
    record = toy.judge(of_two(), gap=firm, other_gap=small, third_gap=small, fourth_gap=small)
    assert record["verdict"] == "holds, smaller"
    assert [variation["flips"] for variation in record["robustness"]] == [False, False]
    record = toy.judge(of_two(), gap=firm, other_gap=small, third_gap=seeds(-0.2, 0.05), fourth_gap=small)
    assert record["verdict"] == "holds, smaller, fragile"


def test_variations_add_nothing_to_the_family(toy: Toy) -> None:
    record = toy.judge(varied(), gap=seeds_with_p(0.03), other_gap=seeds(0.15, 0.3))
    assert record["verdict"] == "holds"
    assert record["tests"][0]["p_holm"] == pytest.approx(0.03)


# --- what must hold before a claim can be tested ------------------------------------------------------------


OPEN = GREATER | {"estimand": "other_gap", "bound": 0.5, "margin": 0.1}
GATES = [
    (OPEN, seeds(0.9, 0.1), True),
    (OPEN | {"margin": 1.0}, seeds(0.9, 0.1), True),  # "holds, smaller"
    (OPEN, seeds(0.1, 0.1), False),
    (OPEN, seeds(0.5, 0.9), False),
    (OPEN, seeds(0.5, 0.1), False),  # "no difference"
    (OPEN | {"rule": "less"}, seeds(0.1, 0.1), True),
    (EQUIVALENT | {"estimand": "other_gap"}, seeds(0.0, 0.05), True),
    (EQUIVALENT | {"estimand": "other_gap"}, seeds(0.3, 0.05), False),
    (WITHIN | {"estimand": "other_gap"}, seeds(0.5, 0.05), True),
    (WITHIN | {"estimand": "other_gap"}, seeds(0.9, 0.05), False),
    (OPEN, [], False),
    (OPEN, [*seeds(0.9, 0.1), float("nan")], False),
]


@pytest.mark.parametrize(("gate", "numbers", "is_open"), GATES)
def test_a_claim_is_tested_only_through_an_open_gate(
    toy: Toy, gate: dict[str, Any], numbers: Numbers, is_open: bool
) -> None:
    record = toy.judge(claim(gate=gate), gap=seeds(0.2, 0.05), other_gap=numbers)
    assert record["verdict"] == ("holds" if is_open else "not tested at this scale")
    assert record["reason"].startswith("The gate of the claim is closed: ") != is_open


def test_the_gate_is_looked_at_after_the_profile_and_before_the_seeds(toy: Toy) -> None:
    content = claim(gate=OPEN, profile="gpu", min_seeds=50)
    closed = seeds(0.15, 0.1)
    assert "needs profile gpu" in toy.judge(content, gap=seeds(0.2, 0.05), other_gap=closed)["reason"]
    record = toy.judge(content | {"profile": "smoke"}, gap=seeds(0.2, 0.05), other_gap=closed)
    assert record["reason"] == (
        "The gate of the claim is closed: other_gap = 0.15 nats, 95 % interval [0.05, 0.25], n = 8: "
        "it lies below 0.5, against the claim."
    )
    assert record["tests"][0]["estimate"] == pytest.approx(0.2)


# --- identities ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "word"), [(0.0, "holds"), (1e-12, "holds"), (1.1e-12, "contradicted")])
def test_an_identity_holds_up_to_its_tolerance(toy: Toy, error: float, word: str) -> None:
    toy.write_claims(identity())
    toy.write_runs(identity_rows(error, 0.5))
    record = toy.verdicts()["C9"]
    assert record["verdict"] == word
    assert record["tests"] == [
        IDENTITY | {"unit": None, "max_error": error, "control_error": 0.5, "control_failed": True}
    ]


@pytest.mark.parametrize("control", [0.0, 1e-12])
def test_an_identity_whose_control_passes_stops_the_build(
    toy: Toy, control: float, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.write_claims(identity())
    toy.write_runs(identity_rows(1e-15, control))
    with pytest.raises(SystemExit) as stop:
        main(["toy"])
    assert "estimand algebra, check signum: the negative control passes" in str(stop.value)
    assert not (toy.root / "results/toy/verdicts.json").exists()


def test_the_worst_check_and_the_weakest_control_stand_for_an_identity(toy: Toy) -> None:
    checks = pd.DataFrame({"max_error": [0.0, 1e-3, 0.0], "control_error": [0.5, 0.4, 0.3]}, index=list("abc"))
    toy.estimands.algebra = lambda _: checks
    toy.write_claims(identity())
    record = toy.verdicts()["C9"]
    assert record["verdict"] == "contradicted"
    assert (record["tests"][0]["max_error"], record["tests"][0]["control_error"]) == (1e-3, 0.3)
    assert "check b" in record["reason"]


# --- one claim: several tests, seeds, divergence, profile, correction ---------------------------------------


@pytest.mark.parametrize("profile", ["cpu", "pretrained", "gpu", "paper"])
def test_a_larger_profile_than_the_claim_needs_may_judge_it(toy: Toy, profile: str) -> None:
    record = toy.judge(claim(profile="cpu"), profile=profile, gap=seeds(0.2, 0.05))
    assert record["verdict"] == "holds"
    assert toy.read("verdicts.json")["profile"] == profile


MENDED = {"statement": "The other gap is positive.", "tests": [OTHER]}
FIRM, SMALL, EQUAL, WIDE, AGAINST = (
    seeds(*numbers) for numbers in ((0.2, 0.05), (0.06, 0.05), (0.0, 0.1), (0.0, 0.2), (-0.2, 0.05))
)
BOTH, EXPLORATORY = claim("C1", GREATER, OTHER), claim(kind="exploratory", min_seeds=1)
JUDGED: dict[str, tuple[dict[str, Any], Numbers, Numbers, str | None, str]] = {
    "non-inferiority is greater with a negative bound": (
        *(claim("C1", SLOPE | {"bound": -0.05}), seeds(-0.01, 0.03), [], "holds", ""),
    ),
    "and may not be shown": (claim("C1", SLOPE | {"bound": -0.05}), seeds(-0.01, 0.05), [], "inconclusive", ""),
    "equality with another value": (claim("C1", EQUIVALENT | {"bound": 0.5}), seeds(0.5, 0.05), [], "holds", ""),
    "or not": (claim("C1", EQUIVALENT | {"bound": 0.5}), seeds(0.0, 0.05), [], "contradicted", ""),
    "both tests hold": (BOTH, FIRM, FIRM, "holds", ""),
    "one is smaller": (BOTH, FIRM, SMALL, "holds, smaller", ""),
    "one shows no difference": (BOTH, SMALL, EQUAL, "no difference", ""),
    "one says nothing": (BOTH, WIDE, EQUAL, "inconclusive", ""),
    "one is contradicted": (BOTH, WIDE, AGAINST, "contradicted", ""),
    "a report decides nothing": (claim("C1", GREATER, REPORT | {"estimand": "other_gap"}), FIRM, AGAINST, "holds", ""),
    "profile before seeds": (
        *(claim(profile="paper", min_seeds=50), [float("nan"), 1.0], [], "not tested at this scale", "paper"),
    ),
    "profile of a report": (claim("C1", REPORT, profile="cpu"), [1.0], [], "not tested at this scale", "cpu"),
    "profile of an exploration": (EXPLORATORY | {"profile": "cpu"}, [1.0], [], "not tested at this scale", "cpu"),
    "too few seeds": (
        *(claim(min_seeds=8), seeds(0.2, 0.05, 7), [], "inconclusive", "The claim needs 8 seeds and there are 7."),
    ),
    "too few of one test": (BOTH | {"min_seeds": 7}, FIRM, seeds(0.2, 0.05, 6), "inconclusive", "there are 6"),
    "too few before diverged": (claim(), [float("nan"), 1.0], [], "inconclusive", "needs 5 seeds"),
    "an exploration of five seeds": (EXPLORATORY, seeds(0.2, 0.05, 5), [], "holds", "Exploratory: gap"),
    "an exploration that asks for more": (EXPLORATORY | {"min_seeds": 6}, seeds(0.2, 0.05, 5), [], "inconclusive", ""),
    "an exploration that has not been run": (EXPLORATORY, [], [], None, "not yet run"),
    "a correction that holds": (claim(correction=MENDED), AGAINST, FIRM, "corrected", ""),
    "one that is smaller": (claim(correction=MENDED), AGAINST, SMALL, "contradicted", ""),
    "one that is not shown": (claim(correction=MENDED), AGAINST, WIDE, "contradicted", ""),
    "one that has not been run": (claim(correction=MENDED), AGAINST, [], "contradicted", ""),
    "one that is not needed": (claim(correction=MENDED), FIRM, FIRM, "holds", ""),
    "one of what is not contradicted": (claim(correction=MENDED), WIDE, FIRM, "inconclusive", ""),
}


@pytest.mark.parametrize("case", JUDGED)
def test_a_claim_is_judged_by_profile_seeds_its_worst_test_and_a_correction(toy: Toy, case: str) -> None:
    content, gap, other, word, reason = JUDGED[case]
    record = toy.judge(content, gap=gap, other_gap=other)
    assert record["verdict"] == word
    assert reason in record["reason"]
    if len(gap) > 1 and not np.isnan(gap).any():
        assert record["tests"][0]["estimate"] == pytest.approx(np.mean(gap))


def test_a_diverged_seed_makes_a_claim_inconclusive_and_is_not_dropped(toy: Toy) -> None:
    record = toy.judge(claim(), gap=[*seeds(0.2, 0.05), float("nan")])
    assert record["verdict"] == "inconclusive"
    assert "gap: seeds [8]" in record["reason"]
    test = record["tests"][0]
    assert (test["n"], test["seeds"], test["estimate"], test["low"]) == (9, list(range(9)), None, None)


def test_a_value_fixed_beforehand_stands_for_a_diverged_seed(toy: Toy) -> None:
    content = claim("C1", GREATER | {"diverged_value": 0.25})
    numbers = seeds(0.2, 0.05)
    record = toy.judge(content, gap=[*numbers, float("nan")])
    assert record["verdict"] == "holds"
    assert record["tests"][0]["estimate"] == pytest.approx(np.mean([*numbers, 0.25]))
    assert record["tests"][0]["n"] == 9


def test_a_claim_that_has_not_been_run_is_inconclusive(toy: Toy) -> None:
    toy.write_claims(claim("C1", GREATER, OTHER), identity())
    toy.write_runs(run_rows("gap", seeds(0.2, 0.05), "smoke"))
    verdicts = toy.verdicts()
    assert verdicts["C1"]["verdict"] == "inconclusive"
    assert verdicts["C1"]["reason"] == "not yet run: there is no run for other_gap."
    assert verdicts["C1"]["tests"][1]["n"] == 0
    assert verdicts["C9"]["verdict"] == "inconclusive"
    assert verdicts["C9"]["reason"].startswith("not yet run:")
    assert verdicts["C9"]["tests"][0]["control_failed"] is None


def test_an_estimand_may_return_empty_tables_without_columns(toy: Toy) -> None:
    toy.estimands.gap, toy.estimands.algebra = lambda _: pd.Series(), lambda _: pd.DataFrame()
    toy.write_claims(claim(), identity())
    assert {record["verdict"] for record in toy.verdicts().values()} == {"inconclusive"}


def test_an_identity_can_be_corrected(toy: Toy) -> None:
    toy.estimands.corrected_algebra = lambda runs: algebra(runs).assign(max_error=0.0)
    tests = [IDENTITY | {"estimand": "corrected_algebra"}]
    toy.write_claims(identity(correction={"statement": "With the factor 1/2.", "tests": tests}))
    toy.write_runs(identity_rows(0.1, 0.5))
    assert toy.verdicts()["C9"]["verdict"] == "corrected"


@pytest.mark.parametrize("n", [1, 2, 4])
def test_an_exploratory_claim_below_five_seeds_has_no_word_but_a_reason(toy: Toy, n: int) -> None:
    numbers = seeds(0.2, 0.05, n) if n > 1 else [0.2]
    record = toy.judge(claim(kind="exploratory", min_seeds=1), gap=numbers)
    assert record["verdict"] is None
    assert record["exploratory"] is True
    assert f"no verdict word below 5 seeds, and there are {n}." in record["reason"]
    assert record["tests"][0]["estimate"] == pytest.approx(0.2)
    assert (record["tests"][0]["low"] is None) == (n == 1)


# --- Holm's correction over the primary claims --------------------------------------------------------------


def seeds_with_p(p: float, estimate: float = 0.2, n: int = 8) -> list[float]:
    """Return n numbers whose two-sided p against 0 is the one given."""
    half_width = abs(estimate) * stats.t.ppf(0.975, n - 1) / stats.t.isf(p / 2, n - 1)
    return seeds(estimate, half_width, n)


PRIMARY = [
    claim(f"C{number}", GREATER | {"estimand": estimand}, family="primary")
    for number, estimand in enumerate(("gap", "other_gap", "third_gap", "fourth_gap"), start=1)
]


def judge_primary(toy: Toy, *claims: Mapping[str, Any], **gaps: Numbers) -> dict[str, dict[str, Any]]:
    toy.write_claims(*claims)
    toy.write_runs([row for name, numbers in gaps.items() for row in run_rows(name, numbers, "smoke")])
    return toy.verdicts()


def test_primary_claims_that_have_not_been_run_count_with_p_one(toy: Toy) -> None:
    alone = judge_primary(toy, PRIMARY[0], gap=seeds_with_p(0.03))["C1"]
    assert (alone["verdict"], alone["tests"][0]["p_holm"]) == ("holds", pytest.approx(0.03))
    verdicts = judge_primary(toy, *PRIMARY, gap=seeds_with_p(0.03))
    assert verdicts["C1"]["tests"][0]["p"] == pytest.approx(0.03)
    assert verdicts["C1"]["tests"][0]["p_holm"] == pytest.approx(0.12)
    assert verdicts["C1"]["verdict"] == "inconclusive"
    assert 'Alone the verdict would be "holds"' in verdicts["C1"]["reason"]
    assert verdicts["C2"]["reason"].startswith("not yet run")
    assert verdicts["C2"]["tests"][0]["p_holm"] is None


def test_a_primary_claim_that_passes_holm_keeps_its_word(toy: Toy) -> None:
    gaps = {"gap": 0.001, "other_gap": 0.015, "third_gap": 0.02, "fourth_gap": 0.04}
    verdicts = judge_primary(toy, *PRIMARY, **{name: seeds_with_p(p) for name, p in gaps.items()})
    p_holm = [verdicts[f"C{number}"]["tests"][0]["p_holm"] for number in (1, 2, 3, 4)]
    assert p_holm == pytest.approx([0.004, 0.045, 0.045, 0.045])
    assert {record["verdict"] for record in verdicts.values()} == {"holds"}


PAIR = claim("C1", GREATER, OTHER, family="primary")
CLOCK = claim("C3", GREATER | {"estimand": "third_gap"}, kind="timing", family="primary")
REFUTED = seeds_with_p(0.001, estimate=-0.2)
HOLM: dict[str, tuple[list[dict[str, Any]], Numbers, Numbers, str, float | None]] = {
    "outside the family nothing is corrected": ([claim("C1"), *PRIMARY[1:]], seeds_with_p(0.03), [], "holds", None),
    "contradicted, and weak": (PRIMARY[:2], seeds_with_p(0.04, estimate=-0.2), [], "inconclusive", 0.08),
    "contradicted, and strong": (PRIMARY[:2], REFUTED, [], "contradicted", 0.002),
    "the larger p of two tests": ([PAIR, PRIMARY[2]], seeds_with_p(0.001), seeds_with_p(0.02), "holds", 0.04),
    "too large": ([PAIR, PRIMARY[2]], seeds_with_p(0.001), seeds_with_p(0.03), "inconclusive", 0.06),
    # Two tests: Bonferroni within the claim, whatever the noise of the other.
    "one refuted test of two": ([PAIR], REFUTED, seeds(0.0, 0.5), "contradicted", 0.002),
    "both p of a correction": (
        *([PRIMARY[0] | {"correction": MENDED}, PRIMARY[2]], REFUTED, seeds_with_p(0.02), "corrected", 0.04),
    ),
    "too large in the correction": (
        *([PRIMARY[0] | {"correction": MENDED}, PRIMARY[2]], REFUTED, seeds_with_p(0.03), "inconclusive", 0.06),
    ),
    "a claim of the other table": ([PRIMARY[0], CLOCK], seeds_with_p(0.03), [], "inconclusive", 0.06),
}


@pytest.mark.parametrize("case", HOLM)
def test_a_claim_enters_holm_with_the_p_that_its_word_rests_on(toy: Toy, case: str) -> None:
    claims, gap, other, word, p_holm = HOLM[case]
    record = judge_primary(toy, *claims, gap=gap, other_gap=other)["C1"]
    assert record["verdict"] == word
    tests = record["tests"] + record.get("correction", {"tests": []})["tests"]
    assert all(test["p_holm"] == (p_holm and pytest.approx(p_holm)) for test in tests)


def test_no_difference_enters_holm_with_the_p_of_the_two_one_sided_tests(toy: Toy) -> None:
    numbers = seeds(0.0, 0.1)
    verdicts = judge_primary(toy, PRIMARY[0], gap=numbers)
    assert verdicts["C1"]["verdict"] == "no difference"
    expected = equivalence_p(numbers, margin=0.1)
    assert 0.0125 < expected < 0.05
    assert verdicts["C1"]["tests"][0]["p"] == pytest.approx(expected)
    assert judge_primary(toy, *PRIMARY, gap=numbers)["C1"]["verdict"] == "inconclusive"
    assert judge_primary(toy, *PRIMARY, gap=seeds(0.0, 0.02))["C1"]["verdict"] == "no difference"


def test_equality_enters_holm_with_the_larger_p_and_can_still_be_contradicted(toy: Toy) -> None:
    equal = [claim("C1", EQUIVALENT, family="primary"), *PRIMARY[1:]]
    numbers = seeds(0.01, 0.02)
    held = judge_primary(toy, *equal, gap=numbers)["C1"]
    assert (held["verdict"], held["tests"][0]["p"]) == ("holds", pytest.approx(equivalence_p(numbers, 0.1)))
    unequal = seeds(-0.2, 0.02)
    refuted = judge_primary(toy, *equal, gap=unequal)["C1"]
    assert refuted["verdict"] == "contradicted"
    assert refuted["tests"][0]["p"] == pytest.approx(stats.ttest_1samp(unequal, -0.1).pvalue)


@pytest.mark.parametrize(("estimate", "word"), [(0.41, "inconclusive"), (0.5, "holds"), (0.8, "contradicted")])
def test_a_range_enters_holm_with_the_p_against_its_nearer_end(toy: Toy, estimate: float, word: str) -> None:
    numbers = seeds(estimate, 0.04)
    record = judge_primary(toy, claim("C1", WITHIN, family="primary"), *PRIMARY[1:], gap=numbers)["C1"]
    nearer = 0.4 if estimate < 0.5 else 0.6
    assert record["verdict"] == word
    assert record["tests"][0]["p"] == pytest.approx(stats.ttest_1samp(numbers, nearer).pvalue)


def test_a_primary_claim_with_too_few_seeds_counts_with_p_one(toy: Toy) -> None:
    few = PRIMARY[1] | {"min_seeds": 9}
    verdicts = judge_primary(toy, PRIMARY[0], few, gap=seeds_with_p(0.03), other_gap=seeds_with_p(0.0001))
    assert verdicts["C2"]["tests"][0]["p"] == pytest.approx(0.0001)
    assert verdicts["C2"]["tests"][0]["p_holm"] == 1.0
    assert verdicts["C1"]["tests"][0]["p_holm"] == pytest.approx(0.06)


# --- clock readings -----------------------------------------------------------------------------------------


def test_timing_claims_are_judged_from_timings_and_written_apart(toy: Toy) -> None:
    toy.write_claims(claim("C1"), claim("C3", OTHER, kind="timing"))
    toy.write_runs(run_rows("gap", seeds(0.2, 0.05), "smoke") + run_rows("other_gap", seeds(-1, 0.1), "smoke"))
    toy.write_runs(run_rows("other_gap", seeds(0.2, 0.05), "cpu"), profile="cpu", table="timings.csv")
    main(["toy"])
    assert [record["id"] for record in toy.read("verdicts.json")["claims"]] == ["C1"]
    assert not (toy.root / "results/toy/timing_verdicts.json").exists()
    before = (toy.root / "results/toy/verdicts.json").read_bytes(), toy.read("metrics.json")
    main(["toy", "--timing"])
    timing = toy.read("timing_verdicts.json")
    assert timing["profile"] == "cpu"
    assert [(record["id"], record["verdict"]) for record in timing["claims"]] == [("C3", "holds")]
    assert ((toy.root / "results/toy/verdicts.json").read_bytes(), toy.read("metrics.json")) == before


# --- bad input ----------------------------------------------------------------------------------------------


VARIATION = [{"name": "long", "estimand": "gap"}]
BAD_CLAIMS = [
    (claim(colour="red"), ["claim C1", "unknown key 'colour'", "allowed here: amended, correction, family, gate, id"]),
    (
        claim("C1", GREATER | {"margn": 1}),
        ["claim C1", "unknown key 'margn'", "bound, difference, diverged_value, estimand"],
    ),
    (claim(source={"bib": "a", "wher": "b"}), ["claim C1", "source", "unknown key 'wher'; allowed here: bib, where"]),
    (claim(statement=...), ["claim C1", "key 'statement' is missing"]),
    (claim(source={"bib": "a"}), ["claim C1", "key 'source.where' is missing"]),
    (claim("C1", {key: GREATER[key] for key in GREATER if key != "margin"}), ["tests.0", "margin' is missing"]),
    (claim(id=...), ["claim number 1 (no id)", "key 'id' is missing"]),
    (claim(min_seeds="8"), ["claim C1", "key 'min_seeds' has value '8'", "valid integer"]),
    (claim(min_seeds=True), ["key 'min_seeds' has value True", "valid integer"]),
    (claim(min_seeds=0), ["key 'min_seeds' has value 0", "greater than or equal to 1"]),
    (claim(min_seeds=4), ["claim C1", "key 'min_seeds' has value 4; at least 5", "exploratory"]),
    (claim(kind="experimental"), ["key 'kind' has value 'experimental'", "'identity', 'experiment', 'timing'"]),
    (claim(family="secondary"), ["key 'family' has value 'secondary'", "'primary'"]),
    (claim(profile="tpu"), ["key 'profile' has value 'tpu'", "'smoke', 'cpu', 'pretrained', 'gpu' or 'paper'"]),
    (claim("C1", GREATER | {"margin": 0}), ["tests.0", "margin' has value 0", "greater than 0"]),
    (claim("C1", GREATER | {"margin": -0.1}), ["margin' has value -0.1", "greater than 0"]),
    (claim("C1", EQUIVALENT | {"margin": None}), ["margin' has value None", "valid number"]),
    (claim("C1", GREATER | {"bound": "0"}), ["bound' has value '0'", "valid number"]),
    (claim("C1", GREATER | {"bound": float("nan")}), ["bound' has value nan", "finite"]),
    (claim("C1", GREATER | {"rule": "bigger"}), ["'bigger'", "'greater', 'less', 'equivalent', 'within'"]),
    (claim("C1", GREATER | {"estimand": "Gap!"}), ["estimand' has value 'Gap!'", "pattern"]),
    (claim("C1", WITHIN | {"low": 0.6}), ["tests.0", "key 'low' (0.6) is not below key 'high' (0.6)"]),
    (claim("C1", WITHIN | {"low": 0.7}), ["key 'low' (0.7) is not below key 'high' (0.6)"]),
    (claim(tests=[]), ["key 'tests' has value []", "at least 1"]),
    (claim("D1"), ["claim D1", "key 'id' has value 'D1'", "[CX]"]),
    (claim("C1ab"), ["key 'id' has value 'C1ab'"]),
    (claim("C"), ["key 'id' has value 'C'"]),
    (claim(source={"bib": None, "where": "ours"}), ["claim C1", "key 'source.bib' is null", "X"]),
    (claim("C1", IDENTITY), ["claim C1", "kind 'experiment' with rules ['identity']"]),
    (claim(kind="identity"), ["claim C1", "kind 'identity' with rules ['greater']"]),
    (claim("C1", IDENTITY | {"tolerance": -1.0}, kind="identity"), ["tolerance' has value -1.0"]),
    (claim(kind="exploratory", family="primary"), ["family 'primary' with kind 'exploratory'"]),
    (identity(family="primary"), ["claim C9", "family 'primary' with kind 'identity'"]),
    (claim("C1", REPORT, family="primary"), ["family 'primary' with rule 'report' only"]),
    (claim(correction={"statement": "s", "tests": [REPORT]}), ["key 'correction' with rule 'report' only"]),
    (claim(correction={"statement": "s", "tests": []}), ["correction.tests' has value []"]),
    (claim(gate=REPORT), ["claim C1", "key 'gate'", "'report'"]),
    (claim(gate=GREATER | {"margn": 1}), ["gate", "unknown key 'margn'"]),
    (claim(superseded_by="C1"), ["claim C1: key 'superseded_by' has value 'C1'; name another claim of the file"]),
    (claim(superseded_by="C7r"), ["claim C1: key 'superseded_by' has value 'C7r'; name another claim"]),
    (claim(robustness=VARIATION), ["claim C1: key 'robustness' without family 'primary'"]),
    (varied(robustness=[{"estimand": "gap"}]), ["key 'robustness.0.name' is missing"]),
    (varied(tests=[GREATER, OTHER]), ["'as other_gap': key 'of' has value None", "varied: gap, other_gap"]),
    (
        varied(robustness=[VARIATION[0] | {"of": "third_gap"}]),
        ["key 'robustness', 'long': key 'of' has value 'third_gap'; name the estimand of the test", "varied: gap"],
    ),
    (
        claim("C1", CHECK | {"estimand": "b"}, kind="identity"),
        ["keys 'check' ('signum') and 'estimand' ('b') name two"],
    ),
    (claim("C1", FULL | {"value": VALUE, "difference": DIFFERENCE}), ["keys 'value' and 'difference' both say"]),
    (
        claim("C1", FULL | {"difference": {"of": "a", "experiment": "lm", "metric": "x"}}),
        ["difference.minus' is missing"],
    ),
    (claim("C1", FULL | {"value": "loss"}), ["estimand' is missing", "value' has value 'loss'"]),
    (claim(tests=3), ["key 'tests' has value 3"]),
    (claim(underpowered=""), ["key 'underpowered' has value ''"]),
    (claim(amended=[{"criterion": {}}]), ["key 'amended.0.why' is missing"]),
    (claim("C1", GREATER | {"pilot_sd": 0}), ["pilot_sd' has value 0", "greater than 0"]),
]


@pytest.mark.parametrize(("content", "fragments"), BAD_CLAIMS, ids=[text[-1] for _, text in BAD_CLAIMS])
def test_a_bad_claim_is_refused_by_file_claim_key_and_value_before_any_computing(
    toy: Toy, content: dict[str, Any], fragments: list[str]
) -> None:
    def computed(runs: pd.DataFrame) -> pd.Series:
        message = "an estimand ran before the claims were checked"
        raise AssertionError(message)

    toy.estimands.gap = computed
    path = toy.write_claims(claim("C2"), content) if "id" in content else toy.write_claims(content)
    with pytest.raises(SystemExit) as stop:
        main(["toy"])
    assert stop.value.code != 0
    for fragment in ["replications/toy/claims.yaml", *fragments]:
        assert fragment in str(stop.value)
    with pytest.raises(ConfigError):
        read_claims(path)


# --- enough seeds for what has to be detected ---------------------------------------------------------------


def unpiloted(test: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in test.items() if key != "pilot_sd"} | changes


@pytest.mark.parametrize(
    ("test", "plan"),
    [
        (GREATER, {}),
        (LESS | {"bound": 7.0}, {}),
        (EQUIVALENT, {"equivalence": True}),
        (WITHIN, {"equivalence": True, "alpha": 0.025}),
    ],
)
def test_a_primary_experiment_with_too_few_seeds_is_refused_with_the_seeds_it_needs(
    toy: Toy, test: dict[str, Any], plan: dict[str, Any]
) -> None:
    needed = seeds_needed(0.12, 0.1, **plan)
    path = toy.write_claims(claim("C1", test | {"pilot_sd": 0.12}, family="primary", min_seeds=needed - 1))
    with pytest.raises(ConfigError) as refusal:
        read_claims(path)
    power = achieved_power(0.12, 0.1, needed - 1, **plan)
    assert (
        f"claim C1: test gap: key 'min_seeds' has value {needed - 1}, which at 'pilot_sd' 0.12 gives a power of "
        f"{power:.2f} for 0.1 {test['unit']}; 0.8 takes {needed} seeds: take them, or say in key 'underpowered' why"
    ) in str(refusal.value)
    read_claims(toy.write_claims(claim("C1", test | {"pilot_sd": 0.12}, family="primary", min_seeds=needed)))


@pytest.mark.parametrize("test", [GREATER, EQUIVALENT, WITHIN])
def test_a_primary_experiment_without_a_pilot_is_refused(toy: Toy, test: dict[str, Any]) -> None:
    path = toy.write_claims(claim("C1", OTHER, unpiloted(test), family="primary"))
    with pytest.raises(
        ConfigError, match=r"claim C1: test gap has no key 'pilot_sd'; give a pilot's standard deviation"
    ):
        read_claims(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"family": None},
        {"kind": "timing"},
        {"tests": [unpiloted(SLOPE)]},
        {"tests": [GREATER, REPORT]},
        {"underpowered": "No pilot was run."},
        {"superseded_by": "C2"},
    ],
)
def test_what_plans_no_seeds_needs_no_pilot(toy: Toy, changes: dict[str, Any]) -> None:
    content = claim("C1", unpiloted(GREATER), family="primary")
    read_claims(toy.write_claims(content | changes, claim("C2")))
    with pytest.raises(ConfigError, match="pilot_sd"):
        read_claims(toy.write_claims(content, claim("C2")))


# --- claims that are judged again ---------------------------------------------------------------------------


def test_a_superseded_claim_keeps_its_rule_and_word_and_leaves_the_family(toy: Toy) -> None:
    old = PRIMARY[0] | {"superseded_by": "C1r"}
    again = claim("C1r", OTHER, family="primary")
    verdicts = judge_primary(toy, old, again, gap=seeds_with_p(0.04), other_gap=seeds_with_p(0.04))
    assert (verdicts["C1"]["verdict"], verdicts["C1"]["superseded_by"]) == ("holds", "C1r")
    assert (verdicts["C1"]["family"], verdicts["C1"]["tests"][0]["p_holm"]) == (None, None)
    assert (verdicts["C1r"]["family"], verdicts["C1r"]["tests"][0]["p_holm"]) == ("primary", pytest.approx(0.04))
    assert "superseded_by" not in verdicts["C1r"]
    read_claims(toy.write_claims(*PRIMARY[1:], old, again))  # four that are not superseded


def test_what_was_amended_is_kept_as_declared(toy: Toy) -> None:
    amended = [{"criterion": {"margin": 0.2}, "why": "The margin was in other units."}]
    read = read_claims(toy.write_claims(claim(amended=amended)))[0].amended[0]
    assert (read.criterion, read.why) == ({"margin": 0.2}, "The margin was in other units.")


# --- defaults, and what is said in place --------------------------------------------------------------------

ARMS = [(seed, arm, value) for seed in range(8) for arm, value in (("adamw", 3.0 + seed / 90), ("lion", 2.8))]
SHORT = {"reported": ..., "kind": ..., "family": ..., "profile": ..., "min_seeds": ...}


def test_kind_profile_and_seeds_follow_from_the_rule(toy: Toy) -> None:
    said = toy.write_claims(claim("C1", SLOPE, **SHORT), claim("C2", CHECK, **SHORT), claim("C9", IDENTITY, **SHORT))
    read = {claim.id: claim.model_dump(include={*SHORT}) for claim in read_claims(said)}
    nothing = {"family": None, "reported": {"value": None, "unit": None, "unverified": False}}
    assert read["C1"] == {"kind": "experiment", "profile": "cpu", "min_seeds": 5} | nothing
    assert read["C2"] == read["C9"] == {"kind": "identity", "profile": "smoke", "min_seeds": 1} | nothing


@pytest.mark.parametrize(
    ("said", "name", "estimate"),
    [
        ({"difference": DIFFERENCE}, "adamw_minus_lion_loss_nats", 0.2 + 3.5 / 90),
        ({"difference": DIFFERENCE, "estimand": "lm_gap"}, "lm_gap", 0.2 + 3.5 / 90),
        ({"difference": DIFFERENCE | {"minus_experiment": "other"}}, "adamw_minus_lion_loss_nats", 2 + 3.5 / 90),
        ({"value": VALUE}, "lion_loss_nats", 2.8),
        ({"value": VALUE | {"arm": "Lion 2"}}, "lion_2_loss_nats", None),
    ],
)
def test_a_number_is_said_in_place_of_a_function(
    toy: Toy, said: dict[str, Any], name: str, estimate: float | None
) -> None:
    head = {"profile": "smoke", "config": {}, "split": "test", "step": 1, "metric": "loss_nats", "status": "ok"}
    rows = [
        head | {"experiment": experiment, "arm": arm, "seed": seed, "value": value - less}
        for experiment, less in (("lm", 0), ("other", 1.8))
        for seed, arm, value in ARMS
    ]
    toy.write_claims(claim("C1", FULL | said))
    toy.write_runs(rows)
    test = toy.verdicts()["C1"]["tests"][0]
    assert (test["estimand"], test["estimate"]) == (name, estimate and pytest.approx(estimate))
    assert not {"value", "difference"} & set(test)


def test_an_identity_names_its_check(toy: Toy) -> None:
    toy.write_claims(claim("C1", CHECK, **SHORT))
    toy.write_runs(identity_rows(1e-15, 0.5))
    record = toy.verdicts()["C1"]
    assert (record["verdict"], record["tests"][0]["estimand"]) == ("holds", "signum")
    assert "check" not in record["tests"][0]


def test_gate_and_variations_are_said_in_place(toy: Toy) -> None:
    robustness = [{"name": "the loss itself", "value": VALUE}]
    content = claim("C1", GREATER, family="primary", gate=FULL | {"value": VALUE}, robustness=robustness)
    (read,) = read_claims(toy.write_claims(content))
    assert read.gate
    assert read.robustness[0].estimand == read.gate.estimand == "lion_loss_nats"


@pytest.mark.parametrize(
    "tests",
    [
        [FULL | {"estimand": "gap", "value": VALUE}],
        [FULL | {"difference": DIFFERENCE}, FULL | {"difference": DIFFERENCE | {"experiment": "other"}}],
    ],
)
def test_a_name_that_stands_for_two_things_is_refused(toy: Toy, tests: list[dict[str, Any]]) -> None:
    claims = read_claims(toy.write_claims(claim(tests=tests)))
    with pytest.raises(ConfigError, match=r"claim C1: '.*' stands for two things in claims\.yaml and"):
        load_estimands("replications.toy.estimands", claims)


# --- what is written fits its schema ------------------------------------------------------------------------

SCHEMA = json.loads((Path(__file__).parents[1] / "book/schemas/verdicts.schema.json").read_text(encoding="utf-8"))


def test_every_new_key_fits_the_schema_and_nothing_else_does(toy: Toy) -> None:
    full = varied("other_gap", "third_gap", id="C1r", underpowered="No pilot was run.", gate=GREATER)
    old = claim("C1", EQUIVALENT, family="primary", superseded_by="C1r", profile="gpu")
    gaps = {"gap": seeds(0.2, 0.05), "other_gap": seeds(-0.2, 0.05)}
    record = judge_primary(toy, old, full, claim("C2", WITHIN), claim("C3", REPORT), identity(), **gaps)["C1r"]
    assert (record["verdict"], record["underpowered"]) == ("holds, fragile", "No pilot was run.")
    assert [variation["flips"] for variation in record["robustness"]] == [True, None]
    content = toy.read("verdicts.json")
    validator = Draft202012Validator(SCHEMA)
    validator.validate(content)
    for part in ("robustness", "tests"):
        content["claims"][1][part][0]["surplus"] = 1
        assert not validator.is_valid(content)
        del content["claims"][1][part][0]["surplus"]
    assert validator.is_valid(content)


def test_the_schema_and_claims_yaml_know_every_profile() -> None:
    assert SCHEMA["properties"]["profile"]["enum"] == list(PROFILES) == ["smoke", "cpu", "pretrained", "gpu", "paper"]


def test_a_replication_of_identities_alone_is_judged(toy: Toy) -> None:
    toy.write_claims(identity())
    write_runs(toy.root / "results/toy/runs.csv", identity_rows(1e-15, 0.5))
    assert toy.verdicts()["C9"]["verdict"] == "holds"
    assert toy.read("metrics.json") == {"C9": {"max_error": 1e-15}}


def test_our_own_claim_needs_no_entry_in_the_bibliography(toy: Toy) -> None:
    path = toy.write_claims(claim("X2b", source={"bib": None, "where": "ours"}))
    assert read_claims(path)[0].source.bib is None


def test_repeated_ids_and_a_fifth_primary_claim_are_refused(toy: Toy) -> None:
    path = toy.write_claims(*PRIMARY, claim("C1", family="primary"))
    with pytest.raises(ConfigError) as refusal:
        read_claims(path)
    assert "claim C1: key 'id' is given twice" in str(refusal.value)
    assert "5 claims have family 'primary' (C1, C2, C3, C4, C1); at most 4" in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema: 2\nclaims: [{id: C1}]\n", "key 'schema' has value 2"),
        ("schema: 1\nclaims: []\n", "key 'claims'"),
        ("schema: 1\nclaims: [C1]\n", "valid dictionary"),
        ("schema: 1\nclaims: [{id: C1}]\nnotes: x\n", "unknown key 'notes'; allowed here: claims, schema"),
        ("- C1\n", "dictionary"),
    ],
)
def test_a_bad_frame_is_refused(toy: Toy, text: str, message: str) -> None:
    path = toy.write_claims(claim())
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_claims(path)


def test_an_unknown_estimand_is_refused_with_those_there_are_before_any_computing(toy: Toy) -> None:
    toy.write_claims(claim(), claim("C2", GREATER | {"estimand": "gab"}, kind="timing"))
    (toy.root / "results/toy/runs.csv").unlink()
    with pytest.raises(SystemExit) as stop:
        main(["toy"])
    assert "claim C2: key 'estimand' has value 'gab'" in str(stop.value)
    assert "defined: algebra, fourth_gap, gap, other_gap, third_gap" in str(stop.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"correction": {"statement": "s", "tests": [GREATER | {"estimand": "gab"}]}},
        {"gate": GREATER | {"estimand": "gab"}},
        {"family": "primary", "robustness": [{"name": "long", "estimand": "gab"}]},
    ],
)
def test_an_unknown_estimand_beside_the_tests_is_refused(toy: Toy, changes: dict[str, Any]) -> None:
    toy.write_claims(claim(**changes))
    with pytest.raises(SystemExit, match="'gab'"):
        main(["toy"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy"], "results/toy/runs.csv is missing; run `dvc repro toy`"),
        (["toy", "--timing"], "dvc repro toy_timing`"),
    ],
)
def test_missing_runs_name_the_stage_that_makes_them(toy: Toy, arguments: list[str], message: str) -> None:
    toy.write_claims(claim())
    (toy.root / "results/toy/runs.csv").unlink()
    with pytest.raises(SystemExit, match=message):
        main(arguments)


def test_an_unknown_replication_is_refused(toy: Toy) -> None:
    with pytest.raises(SystemExit, match=r"replications/lyon/claims\.yaml is missing"):
        main(["lyon"])


def test_runs_of_two_profiles_or_none_or_an_unknown_one_are_refused(toy: Toy) -> None:
    toy.write_claims(claim())
    for profiles, found in [(["cpu", "smoke"], "cpu, smoke"), ([], "no run at all"), (["tpu"], "tpu")]:
        rows = [row for profile in profiles for row in run_rows("gap", [0.1], profile)]
        write_runs(toy.root / "results/toy/runs.csv", rows)
        with pytest.raises(SystemExit, match=f"column 'profile' of the runs: {found}; allowed is one of smoke"):
            main(["toy"])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([0.1, 0.2], "estimand gap returned list; it must return a Series"),
        (pd.Series([0.1, 0.2], index=[0, 0]), "without repetition"),
        (pd.Series([0.1, 0.2], index=["a", "b"]), "whole-number seeds"),
        (pd.Series([0.1, float("inf")]), "estimand gap is infinite"),
    ],
)
def test_an_estimand_that_breaks_its_contract_is_refused_by_name(toy: Toy, returned: object, message: str) -> None:
    toy.estimands.gap = lambda _: returned
    toy.write_claims(claim())
    with pytest.raises(SystemExit, match=message):
        main(["toy"])


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        (pd.Series([0.1]), "must return a DataFrame with"),
        (pd.DataFrame({"max_error": [0.1]}), "must return a DataFrame with"),
        (pd.DataFrame({"max_error": [0.1], "control_error": [float("nan")]}), "finite and at least 0"),
        (pd.DataFrame({"max_error": [float("inf")], "control_error": [1.0]}), "finite and at least 0"),
        (pd.DataFrame({"max_error": [-0.1], "control_error": [1.0]}), "finite and at least 0"),
    ],
)
def test_an_identity_that_breaks_its_contract_is_refused_by_name(toy: Toy, checks: object, message: str) -> None:
    toy.estimands.algebra = lambda _: checks
    toy.write_claims(identity())
    with pytest.raises(SystemExit, match=f"estimand algebra .*{message}"):
        main(["toy"])


def test_seeds_are_sorted_whatever_the_estimand_returns(toy: Toy) -> None:
    toy.estimands.gap = lambda _: pd.Series(seeds(0.2, 0.05, 5), index=[14, 10, 12, 11, 13])
    toy.write_claims(claim())
    assert toy.verdicts()["C1"]["tests"][0]["seeds"] == [10, 11, 12, 13, 14]


def test_the_reason_carries_the_numbers_of_the_deciding_test_only(toy: Toy) -> None:
    record = toy.judge(claim("C1", GREATER, OTHER), gap=seeds(0.2, 0.05), other_gap=seeds(0.06, 0.05))
    assert record["reason"] == (
        "other_gap = 0.06 nats, 95 % interval [0.01, 0.11], n = 8: it lies above 0, but the effect is below "
        "the margin 0.1."
    )


def test_a_claim_is_judged_without_files_or_tables() -> None:
    found = Result(Verdict.HOLDS, "gap = 0.2.", 0.01, record={"rule": "greater"}, seeds=dict.fromkeys(range(8), 0.2))
    assert judge_claim(Claim.model_validate(claim()), [found], [], None, "cpu") == Result("holds", "gap = 0.2.", 0.01)

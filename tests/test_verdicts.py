"""paperkit.claims.verdicts: from the tests of a claim to its word, from YAML and runs to verdicts.json."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from scipy import stats

import paperkit
from paperkit.claims.__main__ import main
from paperkit.claims.declarations import Claim
from paperkit.claims.rules import Result, Verdict
from paperkit.claims.verdicts import judge_claim
from paperkit.profiles import PROFILES
from paperkit.results import write_runs
from paperkit.statistics import equivalence_p, paired_interval
from tests.made_up_claims import (
    EQUIVALENT,
    ESTIMANDS,
    GREATER,
    IDENTITY,
    LESS,
    OTHER,
    REPORT,
    SLOPE,
    WITHIN,
    claim,
    identity,
    made_up_rows,
    primary,
    seeds,
    varied,
)

SCHEMA = json.loads((Path(__file__).parents[1] / "book/schemas/verdicts.schema.json").read_text(encoding="utf-8"))
NAN = float("nan")
FIRM, SMALL, EQUAL, WIDE, AGAINST = (
    seeds(*numbers) for numbers in ((0.2, 0.05), (0.06, 0.05), (0.0, 0.1), (0.0, 0.2), (-0.2, 0.05))
)


def with_p(p, estimate=0.2, n=8):
    """Numbers of seeds whose two-sided p against 0 is the one given."""
    half_width = abs(estimate) * stats.t.ppf(0.975, n - 1) / stats.t.isf(p / 2, n - 1)
    return seeds(estimate, half_width, n)


# --- a claim by profile, gate, seeds, its worst test and a correction ---------------------------------------

MENDED = claim(correction={"statement": "The other gap is positive.", "tests": [OTHER]})
CORRECTED = {"statement": "The gap is negative.", "tests": [LESS]}
BOTH, EXPLORATORY = claim(GREATER, OTHER), claim(kind="exploratory", min_seeds=1)
ABOVE, EQUALITY = claim(SLOPE | {"bound": -0.05}), claim(EQUIVALENT | {"bound": 0.5})
OPEN = GREATER | {"estimand": "other_gap", "bound": 0.5, "margin": 0.1}
CLOSED, UNTESTED = "The gate of the claim is closed: ", "not tested at this scale"


def gated(**changes):
    return claim(gate=OPEN | changes)


JUDGED = {
    "the effect reaches the margin": (claim(), FIRM, [], "holds", ""),
    "it does not": (claim(), SMALL, [], "holds, smaller", ""),
    "it is of the other sign": (claim(), AGAINST, [], "contradicted", ""),
    "there is none": (claim(), EQUAL, [], "no difference", ""),
    "nothing is shown": (claim(), WIDE, [], "inconclusive", ""),
    "the correction of a sign": (claim(correction=CORRECTED), AGAINST, [], "corrected", ""),
    "rounding": (
        *(claim(SLOPE | {"bound": 0.3}), [0.1 + 0.2] * 5, [], "inconclusive"),
        'rounding would decide between "contradicted" and "holds".',
    ),
    "non-inferiority is greater with a negative bound": (ABOVE, seeds(-0.01, 0.03), [], "holds", ""),
    "and may not be shown": (ABOVE, seeds(-0.01, 0.05), [], "inconclusive", ""),
    "equality with another value": (EQUALITY, seeds(0.5, 0.05), [], "holds", ""),
    "or not": (EQUALITY, seeds(0.0, 0.05), [], "contradicted", ""),
    "a report": (claim(REPORT), FIRM, [], None, "0.2 nats"),
    "both tests hold": (BOTH, FIRM, FIRM, "holds", ""),
    "one is smaller": (
        *(BOTH, FIRM, SMALL, "holds, smaller"),
        "other_gap = 0.06 nats, 95 % interval [0.01, 0.11], n = 8: it lies above 0, but the effect is below "
        "the margin 0.1.",
    ),
    "one shows no difference": (BOTH, SMALL, EQUAL, "no difference", ""),
    "one says nothing": (BOTH, WIDE, EQUAL, "inconclusive", ""),
    "one is contradicted": (BOTH, WIDE, AGAINST, "contradicted", ""),
    "one has not been run": (BOTH, FIRM, [], "inconclusive", "not yet run: there is no run for other_gap."),
    "a report decides nothing": (claim(GREATER, REPORT | {"estimand": "other_gap"}), FIRM, AGAINST, "holds", ""),
    "profile before seeds": (claim(profile="paper", min_seeds=50), [NAN, 1.0], [], UNTESTED, "paper"),
    "profile of a report": (claim(REPORT, profile="cpu"), [1.0], [], UNTESTED, "cpu"),
    "profile of an exploration": (EXPLORATORY | {"profile": "cpu"}, [1.0], [], UNTESTED, "cpu"),
    "too few seeds": (
        *(claim(min_seeds=8), seeds(0.2, 0.05, 7), [], "inconclusive", "The claim needs 8 seeds and there are 7."),
    ),
    "too few of one test": (BOTH | {"min_seeds": 7}, FIRM, seeds(0.2, 0.05, 6), "inconclusive", "there are 6"),
    "too few before diverged": (claim(), [NAN, 1.0], [], "inconclusive", "needs 5 seeds"),
    "a diverged seed": (claim(), [*FIRM, NAN], [], "inconclusive", "gap: seeds [8]"),
    "one that has a number": (claim(GREATER | {"diverged_value": 0.25}), [*FIRM, NAN], [], "holds", "n = 9"),
    "an exploration of five seeds": (EXPLORATORY, seeds(0.2, 0.05, 5), [], "holds", "Exploratory: gap"),
    "an exploration that asks for more": (EXPLORATORY | {"min_seeds": 6}, seeds(0.2, 0.05, 5), [], "inconclusive", ""),
    "an exploration of one seed": (EXPLORATORY, [0.2], [], None, "no verdict word below 5 seeds, and there are 1."),
    "of four": (EXPLORATORY, seeds(0.2, 0.05, 4), [], None, "no verdict word below 5 seeds, and there are 4."),
    "an exploration that has not been run": (EXPLORATORY, [], [], None, "not yet run"),
    "a correction that holds": (MENDED, AGAINST, FIRM, "corrected", ""),
    "one that is smaller": (MENDED, AGAINST, SMALL, "contradicted", ""),
    "one that is not shown": (MENDED, AGAINST, WIDE, "contradicted", ""),
    "one that has not been run": (MENDED, AGAINST, [], "contradicted", ""),
    "one that is not needed": (MENDED, FIRM, FIRM, "holds", ""),
    "one of what is not contradicted": (MENDED, WIDE, FIRM, "inconclusive", ""),
    "an open gate": (gated(), FIRM, seeds(0.9, 0.1), "holds", ""),
    "a gate of a smaller effect": (gated(margin=1.0), FIRM, seeds(0.9, 0.1), "holds", ""),
    "a gate of less": (gated(rule="less"), FIRM, seeds(0.1, 0.1), "holds", ""),
    "a gate of equality": (claim(gate=EQUIVALENT | {"estimand": "other_gap"}), FIRM, seeds(0.0, 0.05), "holds", ""),
    "a gate of a range": (claim(gate=WITHIN | {"estimand": "other_gap"}), FIRM, seeds(0.5, 0.05), "holds", ""),
    "a gate that is contradicted": (
        *(gated(), FIRM, seeds(0.15, 0.1), UNTESTED),
        f"{CLOSED}other_gap = 0.15 nats, 95 % interval [0.05, 0.25], n = 8: it lies below 0.5, against the claim.",
    ),
    "a gate that is not shown": (gated(), FIRM, seeds(0.5, 0.9), UNTESTED, CLOSED),
    "a gate without difference": (gated(), FIRM, seeds(0.5, 0.1), UNTESTED, CLOSED),
    "a gate that has not been run": (gated(), FIRM, [], UNTESTED, CLOSED),
    "a gate that diverged": (gated(), FIRM, [*seeds(0.9, 0.1), NAN], UNTESTED, CLOSED),
    "a gate before seeds": (gated() | {"min_seeds": 50}, FIRM, seeds(0.1, 0.1), UNTESTED, CLOSED),
    "a profile before its gate": (gated() | {"profile": "gpu"}, FIRM, seeds(0.1, 0.1), UNTESTED, "needs profile gpu"),
}


@pytest.mark.parametrize("case", JUDGED)
def test_a_claim_is_judged_by_profile_gate_seeds_its_worst_test_and_a_correction(toy, case):
    content, gap, other, word, reason = JUDGED[case]
    record = toy.judge(content, gap=gap, other_gap=other)
    assert record["verdict"] == word
    assert record["exploratory"] == (content["kind"] == "exploratory")
    assert reason in record["reason"]
    assert record["reason"].endswith(".")
    if len(gap) > 1 and not np.isnan(gap).any():
        assert record["tests"][0]["estimate"] == pytest.approx(np.mean(gap))


@pytest.mark.parametrize("profile", ["cpu", "pretrained", "gpu", "paper"])
def test_a_larger_profile_than_the_claim_needs_may_judge_it(toy, profile):
    assert toy.judge(claim(profile="cpu"), profile=profile, gap=FIRM)["verdict"] == "holds"
    assert toy.read("verdicts.json")["profile"] == profile


def test_a_diverged_seed_is_not_dropped_and_counts_with_the_value_fixed_beforehand(toy):
    (test,) = toy.judge(claim(), gap=[*FIRM, NAN])["tests"]
    assert (test["n"], test["seeds"], test["estimate"], test["low"]) == (9, list(range(9)), None, None)
    (test,) = toy.judge(claim(GREATER | {"diverged_value": 0.25}), gap=[*FIRM, NAN])["tests"]
    assert (test["n"], test["estimate"]) == (9, pytest.approx(np.mean([*FIRM, 0.25])))


@pytest.mark.parametrize(("content", "ends"), [(claim(REPORT), (0.15, None)), (EXPLORATORY, (None, None))])
def test_what_has_no_word_still_has_its_numbers(toy, content, ends):
    (test,) = toy.judge(content, gap=[0.2] if ends[0] is None else FIRM)["tests"]
    assert test["estimate"] == pytest.approx(0.2)
    assert (test["low"], test["p"]) == (ends[0] and pytest.approx(ends[0]), ends[1])


def test_an_identity_is_judged_corrected_or_not_yet_run(toy):
    toy.estimands.corrected_algebra = lambda runs: toy.estimands.algebra(runs).assign(max_error=0.0)
    correction = {"statement": "With the factor 1/2.", "tests": [IDENTITY | {"estimand": "corrected_algebra"}]}
    assert toy.judge(identity(), algebra=(1e-15, 0.5))["verdict"] == "holds"
    assert toy.judge(identity(correction=correction), algebra=(0.1, 0.5))["verdict"] == "corrected"
    record = toy.judge(identity())
    assert (record["verdict"], record["tests"][0]["control_failed"]) == ("inconclusive", None)
    assert record["reason"].startswith("not yet run:")


def test_an_identity_whose_control_passes_stops_the_build(toy):
    with pytest.raises(SystemExit, match="estimand algebra, check signum: the negative control passes"):
        toy.judge(identity(), algebra=(1e-15, 0.0))
    assert not (toy.results / "verdicts.json").exists()


def test_a_claim_is_judged_without_files_or_tables():
    found = Result(Verdict.HOLDS, "gap = 0.2.", 0.01, record={"rule": "greater"}, seeds=dict.fromkeys(range(8), 0.2))
    assert judge_claim(Claim.model_validate(claim()), [found], [], None, "cpu") == Result("holds", "gap = 0.2.", 0.01)


# --- the same claim under its variations --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "own"),
    [("holds", FIRM), ("holds, smaller", SMALL), ("contradicted", AGAINST), ("no difference", EQUAL)],
)
def test_a_word_that_a_variation_flips_is_fragile(toy, word, own):
    opposite = FIRM if word == "no difference" else [-number for number in own]
    stands = toy.judge(varied(), gap=own, other_gap=own)
    assert (stands["verdict"], stands["robustness"][0]["flips"]) == (word, False)
    assert stands["robustness"][0]["why"].endswith(": the word stands.")
    flips = toy.judge(varied(), gap=own, other_gap=opposite)
    assert (flips["verdict"], flips["robustness"][0]["flips"]) == (f"{word}, fragile", True)
    assert flips["reason"] == f"{stands['reason']} The word flips under as other_gap."


def test_a_variation_is_written_with_its_numbers_and_a_reason(toy):
    assert toy.judge(varied(), gap=FIRM, other_gap=SMALL)["robustness"] == [
        {"name": "as other_gap", "estimand": "other_gap", "of": "gap", "n": 8, "flips": True}
        | {"estimate": pytest.approx(0.06), "low": pytest.approx(0.01), "high": pytest.approx(0.11)}
        | {"why": "other_gap = 0.06 nats, 95 % interval [0.01, 0.11], n = 8: the effect is below the margin 0.1."}
    ]


NO_WORD = "the claim has no word that could flip."
SILENT = {
    "two seeds": ({}, FIRM, [0.0, -0.1], "holds", "fewer than 3 seeds decide nothing."),
    "one seed": ({}, FIRM, [-0.1], "holds", "one seed: no interval."),
    "no seed": ({}, FIRM, [], "holds", "not yet run: there is no run for other_gap."),
    "a diverged seed": ({}, FIRM, [*AGAINST, NAN], "holds", "no number for seeds [8], where a reported arm diverged."),
    "rounding": ({}, FIRM, [0.1] * 5, "holds", "rounding would decide whether the word stands."),
    "a claim that shows nothing": ({}, WIDE, FIRM, "inconclusive", NO_WORD),
    "a claim of few seeds": ({"min_seeds": 9}, FIRM, AGAINST, "inconclusive", NO_WORD),
    "a claim not tested": ({"profile": "gpu"}, FIRM, AGAINST, "not tested at this scale", NO_WORD),
    "a corrected claim": ({"correction": CORRECTED}, AGAINST, FIRM, "corrected", NO_WORD),
}


@pytest.mark.parametrize("case", SILENT)
def test_a_variation_that_decides_nothing_leaves_the_word(toy, case):
    changes, own, other, word, why = SILENT[case]
    record = toy.judge(varied(**changes), gap=own, other_gap=other)
    assert record["verdict"] == word
    assert (record["robustness"][0]["flips"], record["robustness"][0]["n"]) == (None, len(other))
    assert record["robustness"][0]["why"].endswith(why)


def test_three_seeds_of_a_variation_decide(toy):
    assert toy.judge(varied(), gap=FIRM, other_gap=seeds(0.0, 0.1, 3))["verdict"] == "holds, fragile"


OF_TWO = [
    {"name": f"of {name}", "estimand": estimand, "of": name}
    for name, estimand in (("gap", "third_gap"), ("other_gap", "fourth_gap"))
]
WEAK = seeds(0.05, 0.01)


@pytest.mark.parametrize(
    ("other", "numbers", "word", "flips", "reason"),
    [
        (OTHER | {"margin": None}, (FIRM, FIRM, FIRM, WEAK), "holds", [False, False], ""),
        (OTHER, (FIRM, FIRM, FIRM, WEAK), "holds, fragile", [False, True], "The word flips under of other_gap."),
        (OTHER, (AGAINST, FIRM, AGAINST, AGAINST), "contradicted", [False, None], ""),
        # Where the other test made the claim smaller, no margin of this one decided.
        (OTHER, (FIRM, SMALL, SMALL, SMALL), "holds, smaller", [False, False], ""),
        (OTHER, (FIRM, SMALL, AGAINST, SMALL), "holds, smaller, fragile", [True, False], ""),
    ],
)
def test_each_variation_is_read_by_the_test_that_it_varies(toy, other, numbers, word, flips, reason):
    content = primary(GREATER, other, robustness=OF_TWO)
    record = toy.judge(content, **dict(zip(ESTIMANDS, numbers, strict=True)))
    assert record["verdict"] == word
    assert [(variation["of"], variation["flips"]) for variation in record["robustness"]] == [
        ("gap", flips[0]),
        ("other_gap", flips[1]),
    ]
    assert record["reason"].endswith(reason)
    contradicted = record["robustness"][1]["why"].endswith("the claim is contradicted by another test.")
    assert contradicted == (flips[1] is None)


# --- Holm's correction over the primary claims --------------------------------------------------------------

PRIMARY = [
    primary(GREATER | {"estimand": estimand}, id=f"C{number}") for number, estimand in enumerate(ESTIMANDS, start=1)
]
PAIR = primary(GREATER, OTHER)
CLOCK = primary(GREATER | {"estimand": "third_gap"}, id="C3", kind="timing")
REFUTED = with_p(0.001, estimate=-0.2)
MENDED_FIRST = PRIMARY[0] | {"correction": MENDED["correction"]}
HOLM = {
    "outside the family nothing is corrected": ([claim(), *PRIMARY[1:]], with_p(0.03), [], "holds", None),
    "alone in the family": (PRIMARY[:1], with_p(0.03), [], "holds", 0.03),
    "three that have not been run": (PRIMARY, with_p(0.03), [], "inconclusive", 0.12),
    "a variation adds nothing": ([varied()], with_p(0.03), seeds(0.15, 0.3), "holds", 0.03),
    "contradicted, and weak": (PRIMARY[:2], with_p(0.04, estimate=-0.2), [], "inconclusive", 0.08),
    "contradicted, and strong": (PRIMARY[:2], REFUTED, [], "contradicted", 0.002),
    "the larger p of two tests": ([PAIR, PRIMARY[2]], with_p(0.001), with_p(0.02), "holds", 0.04),
    "too large": ([PAIR, PRIMARY[2]], with_p(0.001), with_p(0.03), "inconclusive", 0.06),
    # Two tests: Bonferroni within the claim, whatever the noise of the other.
    "one refuted test of two": ([PAIR], REFUTED, seeds(0.0, 0.5), "contradicted", 0.002),
    "both p of a correction": ([MENDED_FIRST, PRIMARY[2]], REFUTED, with_p(0.02), "corrected", 0.04),
    "too large in the correction": ([MENDED_FIRST, PRIMARY[2]], REFUTED, with_p(0.03), "inconclusive", 0.06),
    "a claim of the other table": ([PRIMARY[0], CLOCK], with_p(0.03), [], "inconclusive", 0.06),
    "one of too few seeds": (
        *([PRIMARY[0], PRIMARY[1] | {"min_seeds": 9}], with_p(0.03), with_p(0.0001), "inconclusive", 0.06),
    ),
    "rounding": ([primary(SLOPE | {"bound": 0.3})], [0.1 + 0.2] * 5, [], "inconclusive", 1.0),
}


@pytest.mark.parametrize("case", HOLM)
def test_a_claim_enters_holm_with_the_p_that_its_word_rests_on(toy, case):
    claims, gap, other, word, p_holm = HOLM[case]
    record = toy.judge(*claims, gap=gap, other_gap=other)
    assert record["verdict"] == word
    tests = record["tests"] + record.get("correction", {"tests": []})["tests"]
    assert all(test["p_holm"] == (p_holm and pytest.approx(p_holm)) for test in tests)


def test_what_holm_takes_away_is_said_with_the_word_that_it_would_have_been(toy):
    record = toy.judge(*PRIMARY, gap=with_p(0.03))
    assert record["tests"][0]["p"] == pytest.approx(0.03)
    assert 'Alone the verdict would be "holds"' in record["reason"]
    second = toy.read("verdicts.json")["claims"][1]
    assert (second["reason"][:11], second["tests"][0]["p_holm"]) == ("not yet run", None)


def test_a_word_that_fails_holm_cannot_flip(toy):
    record = toy.judge(varied(), PRIMARY[2], gap=with_p(0.03), other_gap=AGAINST)
    assert (record["verdict"], record["robustness"][0]["flips"]) == ("inconclusive", None)


def test_a_primary_claim_that_passes_holm_keeps_its_word(toy):
    toy.judge(*PRIMARY, **{name: with_p(p) for name, p in zip(ESTIMANDS, (0.001, 0.015, 0.02, 0.04), strict=True)})
    records = toy.read("verdicts.json")["claims"]
    assert [record["tests"][0]["p_holm"] for record in records] == pytest.approx([0.004, 0.045, 0.045, 0.045])
    assert {record["verdict"] for record in records} == {"holds"}


NEAR_EQUAL, UNEQUAL = seeds(0.01, 0.02), seeds(-0.2, 0.02)
RANGE = [seeds(estimate, 0.04) for estimate in (0.41, 0.5, 0.8)]


@pytest.mark.parametrize(
    ("test", "numbers", "word", "p"),
    [
        (GREATER, seeds(0.0, 0.02), "no difference", equivalence_p(seeds(0.0, 0.02), 0.1)),
        (EQUIVALENT, NEAR_EQUAL, "holds", equivalence_p(NEAR_EQUAL, 0.1)),
        (EQUIVALENT, UNEQUAL, "contradicted", stats.ttest_1samp(UNEQUAL, -0.1).pvalue),
        (WITHIN, RANGE[0], "inconclusive", stats.ttest_1samp(RANGE[0], 0.4).pvalue),
        (WITHIN, RANGE[1], "holds", stats.ttest_1samp(RANGE[1], 0.6).pvalue),
        (WITHIN, RANGE[2], "contradicted", stats.ttest_1samp(RANGE[2], 0.6).pvalue),
    ],
)
def test_equality_and_range_enter_holm_with_the_p_of_what_decided(toy, test, numbers, word, p):
    record = toy.judge(primary(test), *PRIMARY[1:], gap=numbers)
    assert (record["verdict"], record["tests"][0]["p"]) == (word, pytest.approx(p))


def test_no_difference_that_fails_holm_is_inconclusive(toy):
    assert 0.0125 < equivalence_p(EQUAL, margin=0.1) < 0.05
    assert toy.judge(PRIMARY[0], gap=EQUAL)["verdict"] == "no difference"
    assert toy.judge(*PRIMARY, gap=EQUAL)["verdict"] == "inconclusive"


def test_a_superseded_claim_keeps_its_rule_and_word_and_leaves_the_family(toy):
    again = primary(OTHER, id="C1r")
    old = toy.judge(PRIMARY[0] | {"superseded_by": "C1r"}, again, gap=with_p(0.04), other_gap=with_p(0.04))
    assert (old["verdict"], old["superseded_by"], old["family"]) == ("holds", "C1r", None)
    assert old["tests"][0]["p_holm"] is None
    new = toy.read("verdicts.json")["claims"][1]
    assert (new["family"], new["tests"][0]["p_holm"]) == ("primary", pytest.approx(0.04))
    assert "superseded_by" not in new


def test_superseded_claims_alone_are_judged_from_the_runs_that_were_kept_for_them(toy):
    toy.declare(primary() | {"superseded_by": "C1r"}, primary(id="C1r"))
    toy.measure(gap=AGAINST)
    toy.measure(gap=FIRM, table="superseded/runs.csv")
    found = toy.verdicts()
    assert (found["C1"]["verdict"], found["C1r"]["verdict"]) == ("holds", "contradicted")
    assert list(found) == ["C1", "C1r"]


# --- what is written ----------------------------------------------------------------------------------------


def test_the_output_has_exactly_the_form_of_the_reporting_standard(toy):
    record = toy.judge(primary(), gap=FIRM)
    interval = paired_interval(FIRM)
    measured = {end: getattr(interval, end) for end in ("estimate", "low", "high", "low90", "high90", "p")}
    written = {key: claim()[key] for key in ("id", "kind", "statement", "source", "reported")}
    assert record | {"reason": ""} == written | {
        "family": "primary", "verdict": "holds", "reason": "", "exploratory": False,
        "tests": [
            {"estimand": "gap", "rule": "greater", "unit": "nats", "bound": 0.0, "margin": 0.1, "n": 8}
            | {"seeds": list(range(8)), "p_holm": interval.p}
            | {"flip": {"without": [], "threshold": "margin", "value": pytest.approx(0.2)}}
            | {key: pytest.approx(value, rel=1e-9) for key, value in measured.items()}
        ],
    }  # fmt: skip
    text = (toy.results / "verdicts.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert json.loads(text) == {"schema": 1, "replication": "toy", "profile": "smoke", "claims": [record]}


def test_metrics_hold_the_first_test_of_each_claim_that_was_measured(toy):
    toy.judge(BOTH, claim(OTHER, id="C2"), identity(), gap=FIRM, algebra=(1e-15, 0.5))
    first = {"estimate": pytest.approx(0.2), "low": pytest.approx(0.15), "high": pytest.approx(0.25), "n": 8}
    assert toy.read("metrics.json") == {"C1": first, "C2": {"n": 0}, "C9": {"max_error": 1e-15}}


def test_a_replication_of_identities_alone_is_judged(toy):
    toy.declare(identity())
    write_runs(toy.results / "runs.csv", made_up_rows("algebra", (1e-15, 0.5), "smoke"))
    assert toy.verdicts()["C9"]["verdict"] == "holds"


def test_every_new_key_fits_the_schema_and_nothing_else_does(toy):
    full = varied("other_gap", "third_gap", id="C1r", underpowered="No pilot was run.", gate=GREATER)
    old = primary(EQUIVALENT, superseded_by="C1r", profile="gpu")
    others = claim(WITHIN, id="C2"), claim(REPORT, id="C3"), identity()
    record = toy.judge(full, old, *others, gap=FIRM, other_gap=AGAINST)
    assert (record["verdict"], record["underpowered"]) == ("holds, fragile", "No pilot was run.")
    assert [variation["flips"] for variation in record["robustness"]] == [True, None]
    content = toy.read("verdicts.json")
    validator = Draft202012Validator(SCHEMA)
    validator.validate(content)
    for part in ("robustness", "tests"):
        content["claims"][0][part][0]["surplus"] = 1
        assert not validator.is_valid(content)
        del content["claims"][0][part][0]["surplus"]


def test_the_schema_and_claims_yaml_know_every_profile():
    assert SCHEMA["properties"]["profile"]["enum"] == list(PROFILES) == ["smoke", "cpu", "pretrained", "gpu", "paper"]


def test_timing_claims_are_judged_from_timings_and_written_apart(toy):
    toy.declare(claim(), claim(OTHER, id="C3", kind="timing"))
    toy.measure(gap=FIRM, other_gap=seeds(-1, 0.1))
    toy.measure(profile="cpu", table="timings.csv", other_gap=FIRM)
    assert list(toy.verdicts()) == ["C1"]
    assert not (toy.results / "timing_verdicts.json").exists()
    before = toy.read("verdicts.json"), toy.read("metrics.json")
    main(["toy", "--timing"])
    timing = toy.read("timing_verdicts.json")
    assert timing["profile"] == "cpu"
    assert [(record["id"], record["verdict"]) for record in timing["claims"]] == [("C3", "holds")]
    assert (toy.read("verdicts.json"), toy.read("metrics.json")) == before


@pytest.mark.parametrize(("timing", "file"), [([], "verdicts"), (["--timing"], "timing_verdicts")])
def test_a_profile_above_the_committed_one_judges_what_it_has_runs_of_and_leaves_the_rest_out(toy, timing, file):
    kind = {"kind": "timing"} if timing else {}
    first, second = primary(**kind), primary(GREATER, OTHER, id="C2", **kind)
    toy.declare(first, second, identity(), claim(id="C3", profile="paper", **kind))
    toy.measure(gap=with_p(0.03))
    rows = made_up_rows("gap", with_p(0.03), "gpu")
    write_runs(toy.root / "results/toy_gpu" / ("timings.csv" if timing else "runs.csv"), rows)
    main(["toy_gpu", *timing])
    content = toy.read(f"../toy_gpu/{file}.json")
    (record,) = content["claims"]
    assert (content["replication"], content["profile"], record["id"]) == ("toy", "gpu", "C1")
    # Holm's correction counts the second, which has no runs there, with p = 1.
    assert (record["verdict"], record["tests"][0]["p_holm"]) == ("inconclusive", pytest.approx(0.06))
    assert not (toy.results / f"{file}.json").exists()


def test_the_module_runs_as_a_command_with_estimands_from_the_working_directory(toy):
    toy.declare(claim())
    toy.measure(gap=FIRM)
    for folder in ("replications", "replications/toy"):
        (toy.root / folder / "__init__.py").touch()
    estimand = "def gap(runs):\n    return runs[runs['experiment'] == 'gap'].set_index('seed')['value']\n"
    (toy.root / "replications/toy/estimands.py").write_text(estimand, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path(paperkit.__file__).parents[1])}
    command = [sys.executable, "-m", "paperkit.claims", "toy"]
    done = subprocess.run(command, cwd=toy.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert toy.read("verdicts.json")["claims"][0]["verdict"] == "holds"


# --- runs that cannot be judged -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy"], "results/toy/runs.csv is missing; run `dvc repro toy`"),
        (["toy", "--timing"], "dvc repro toy_timing`"),
        (["toy_gpu"], "results/toy_gpu/runs.csv is missing; run `make gpu NAME=toy`"),
        (["lyon"], r"replications/lyon/claims\.yaml is missing"),
    ],
)
def test_a_missing_file_is_named_with_the_stage_that_makes_it(toy, arguments, message):
    toy.declare(claim())
    (toy.results / "runs.csv").unlink()
    with pytest.raises(SystemExit, match=message):
        main(arguments)


@pytest.mark.parametrize(
    ("profiles", "found"), [(["cpu", "smoke"], "cpu, smoke"), ([], "no run at all"), (["tpu"], "tpu")]
)
def test_runs_of_two_profiles_or_none_or_an_unknown_one_are_refused(toy, profiles, found):
    toy.declare(claim())
    rows = [row for profile in profiles for row in made_up_rows("gap", [0.1], profile)]
    write_runs(toy.results / "runs.csv", rows)
    with pytest.raises(SystemExit, match=f"column 'profile' of the runs: {found}; allowed is one of smoke"):
        main(["toy"])

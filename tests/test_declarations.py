"""paperkit.claims.declarations: what claims.yaml may say, its defaults, and what is refused before any computing."""

import pytest

from paperkit.claims.__main__ import main
from paperkit.claims.declarations import load_estimands, read_claims
from paperkit.config import ConfigError
from paperkit.results import write_runs
from paperkit.runs import Run
from paperkit.statistics import achieved_power, seeds_needed
from tests.made_up_claims import (
    EQUIVALENT,
    GREATER,
    IDENTITY,
    LESS,
    OTHER,
    REPORT,
    SLOPE,
    WITHIN,
    claim,
    identity,
    primary,
    varied,
)
from tests.made_up_runs import made_up_row

VALUE = {"experiment": "lm", "arm": "lion", "metric": "loss_nats", "split": "test"}
DIFFERENCE = {"experiment": "lm", "of": "adamw", "minus": "lion", "metric": "loss_nats", "split": "test"}
FULL = {"rule": "greater", "bound": 0, "margin": None, "unit": "nats"}
CHECK = {"check": "signum", "tolerance": 1e-12}


def without(test, key):
    return {name: value for name, value in test.items() if name != key}


# --- bad input ----------------------------------------------------------------------------------------------

VARIATION = {"name": "long", "estimand": "gap"}
BAD_CLAIMS = [
    (claim(colour="red"), ["claim C1", "unknown key 'colour'", "allowed here: amended, correction, family, gate, id"]),
    (
        claim(GREATER | {"margn": 1}),
        ["claim C1", "unknown key 'margn'", "bound, difference, diverged_value, estimand"],
    ),
    (claim(statement=...), ["claim C1", "key 'statement' is missing"]),
    (claim(source={"bib": "a"}), ["claim C1", "key 'source.where' is missing"]),
    (claim(without(GREATER, "margin")), ["tests.0", "margin' is missing"]),
    (claim(id=...), ["claim number 2 (no id)", "key 'id' is missing"]),
    (claim(min_seeds=0), ["key 'min_seeds' has value 0", "greater than or equal to 1"]),
    (claim(min_seeds=4), ["claim C1", "key 'min_seeds' has value 4; at least 5", "exploratory"]),
    (claim(kind="experimental"), ["key 'kind' has value 'experimental'", "'identity', 'experiment', 'timing'"]),
    (claim(family="secondary"), ["key 'family' has value 'secondary'", "'primary'"]),
    (claim(profile="tpu"), ["key 'profile' has value 'tpu'", "'smoke', 'cpu', 'pretrained', 'gpu' or 'paper'"]),
    (claim(GREATER | {"margin": 0}), ["tests.0", "margin' has value 0", "greater than 0"]),
    (claim(EQUIVALENT | {"margin": None}), ["margin' has value None", "valid number"]),
    (claim(GREATER | {"bound": float("nan")}), ["bound' has value nan", "finite"]),
    (claim(GREATER | {"rule": "bigger"}), ["'bigger'", "'greater', 'less', 'equivalent', 'within'"]),
    (claim(GREATER | {"estimand": "Gap!"}), ["estimand' has value 'Gap!'", "pattern"]),
    (claim(WITHIN | {"low": 0.6}), ["tests.0", "key 'low' (0.6) is not below key 'high' (0.6)"]),
    (claim(tests=[]), ["key 'tests' has value []", "at least 1"]),
    (claim(id="D1"), ["claim D1", "key 'id' has value 'D1'", "[CX]"]),
    (claim(id="C"), ["key 'id' has value 'C'"]),
    (claim(source={"bib": None, "where": "ours"}), ["claim C1", "key 'source.bib' is null", "X"]),
    (claim(IDENTITY), ["claim C1", "kind 'experiment' with rules ['identity']"]),
    (claim(kind="identity"), ["claim C1", "kind 'identity' with rules ['greater']"]),
    (claim(IDENTITY | {"tolerance": -1.0}, kind="identity"), ["tolerance' has value -1.0"]),
    (primary(kind="exploratory"), ["family 'primary' with kind 'exploratory'"]),
    (identity(family="primary"), ["claim C9", "family 'primary' with kind 'identity'"]),
    (primary(REPORT), ["family 'primary' with rule 'report' only"]),
    (claim(correction={"statement": "s", "tests": [REPORT]}), ["key 'correction' with rule 'report' only"]),
    (claim(gate=REPORT), ["claim C1", "key 'gate'", "'report'"]),
    (claim(superseded_by="C1"), ["claim C1: key 'superseded_by' has value 'C1'; name another claim of the file"]),
    (claim(superseded_by="C7r"), ["claim C1: key 'superseded_by' has value 'C7r'; name another claim"]),
    (claim(correction={"statement": "s", "tests": []}), ["correction.tests' has value []"]),
    (claim(underpowered=""), ["key 'underpowered' has value ''"]),
    (claim(robustness=[VARIATION]), ["claim C1: key 'robustness' without family 'primary'"]),
    (varied(robustness=[{"estimand": "gap"}]), ["key 'robustness.0.name' is missing"]),
    (varied(tests=[GREATER, OTHER]), ["'as other_gap': key 'of' has value None", "varied: gap, other_gap"]),
    (
        varied(robustness=[VARIATION | {"of": "third_gap"}]),
        ["key 'robustness', 'long': key 'of' has value 'third_gap'; name the estimand of the test", "varied: gap"],
    ),
    (claim(CHECK | {"estimand": "b"}, kind="identity"), ["keys 'check' ('signum') and 'estimand' ('b') name two"]),
    (claim(FULL | {"value": VALUE, "difference": DIFFERENCE}), ["keys 'value' and 'difference' both say"]),
    (claim(FULL | {"difference": without(DIFFERENCE, "minus")}), ["difference.minus' is missing"]),
    (claim(amended=[{"criterion": {}}]), ["key 'amended.0.why' is missing"]),
    (claim(GREATER | {"pilot_sd": 0}), ["pilot_sd' has value 0", "greater than 0"]),
]


@pytest.mark.parametrize(("content", "fragments"), BAD_CLAIMS, ids=[text[-1] for _, text in BAD_CLAIMS])
def test_a_bad_claim_is_refused_by_file_claim_key_and_value(toy, content, fragments):
    with pytest.raises(ConfigError) as refusal:
        read_claims(toy.declare(claim(id="C2"), content))
    for fragment in ["replications/toy/claims.yaml", *fragments]:
        assert fragment in str(refusal.value)


def test_a_bad_claim_ends_the_command_before_any_estimand_runs(toy):
    toy.estimands.gap = lambda _: pytest.fail("an estimand ran before the claims were checked")
    with pytest.raises(SystemExit, match=r"^error: .*claims\.yaml, claim C1:\n.*min_seeds"):
        toy.judge(claim(id="C2"), claim(min_seeds=0))


def test_repeated_ids_and_a_fifth_primary_claim_are_refused_at_once(toy):
    path = toy.declare(*(primary(id=f"C{number}") for number in (1, 2, 3, 4, 1)))
    with pytest.raises(ConfigError) as refusal:
        read_claims(path)
    assert "claim C1: key 'id' is given twice" in str(refusal.value)
    assert "5 claims have family 'primary' (C1, C2, C3, C4, C1); at most 4" in str(refusal.value)


def test_a_fifth_primary_claim_may_be_a_superseded_one(toy):
    superseded = primary(id="C5", superseded_by="C1")
    read_claims(toy.declare(*(primary(id=f"C{number}") for number in (1, 2, 3, 4)), superseded))


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
def test_a_bad_frame_is_refused(tmp_path, text, message):
    path = tmp_path / "claims.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_claims(path)


UNKNOWN = GREATER | {"estimand": "gab"}


@pytest.mark.parametrize(
    "content",
    [
        claim(UNKNOWN, kind="timing"),
        claim(correction={"statement": "s", "tests": [UNKNOWN]}),
        claim(gate=UNKNOWN),
        varied("gab"),
    ],
)
def test_an_unknown_estimand_is_refused_with_those_there_are_before_any_computing(toy, content):
    toy.declare(content)
    (toy.results / "runs.csv").unlink()
    with pytest.raises(SystemExit, match="claim C1: key 'estimand' has value 'gab'") as stop:
        main(["toy"])
    assert "defined: algebra, fourth_gap, gap, other_gap, third_gap" in str(stop.value)


# --- enough seeds for what has to be detected ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "plan"),
    [
        (GREATER, {}),
        (LESS | {"bound": 7.0}, {}),
        (EQUIVALENT, {"equivalence": True}),
        (WITHIN, {"equivalence": True, "alpha": 0.025}),
    ],
)
def test_a_primary_experiment_with_too_few_seeds_is_refused_with_the_seeds_it_needs(toy, test, plan):
    needed = seeds_needed(0.12, 0.1, **plan)
    power = achieved_power(0.12, 0.1, needed - 1, **plan)
    with pytest.raises(ConfigError) as refusal:
        read_claims(toy.declare(primary(test | {"pilot_sd": 0.12}, min_seeds=needed - 1)))
    assert (
        f"claim C1: test gap: key 'min_seeds' has value {needed - 1}, which at 'pilot_sd' 0.12 gives a power of "
        f"{power:.2f} for 0.1 {test['unit']}; 0.8 takes {needed} seeds: take them, or say in key 'underpowered' why"
    ) in str(refusal.value)
    read_claims(toy.declare(primary(test | {"pilot_sd": 0.12}, min_seeds=needed)))


@pytest.mark.parametrize("test", [GREATER, EQUIVALENT, WITHIN])
def test_a_primary_experiment_without_a_pilot_is_refused(toy, test):
    message = r"claim C1: test gap has no key 'pilot_sd'; give a pilot's standard deviation"
    with pytest.raises(ConfigError, match=message):
        read_claims(toy.declare(primary(OTHER, without(test, "pilot_sd"))))


@pytest.mark.parametrize(
    "changes",
    [
        {"family": None},
        {"kind": "timing"},
        {"tests": [without(SLOPE, "pilot_sd")]},
        {"tests": [GREATER, REPORT]},
        {"underpowered": "No pilot was run."},
        {"superseded_by": "C2"},
    ],
)
def test_what_plans_no_seeds_needs_no_pilot(toy, changes):
    read_claims(toy.declare(primary(without(GREATER, "pilot_sd")) | changes, claim(id="C2")))


# --- defaults, and what is said in place --------------------------------------------------------------------

SHORT = dict.fromkeys(("reported", "kind", "family", "profile", "min_seeds"), ...)


@pytest.mark.parametrize(
    ("test", "kind", "profile", "min_seeds"),
    [(SLOPE, "experiment", "cpu", 5), (CHECK, "identity", "smoke", 1), (IDENTITY, "identity", "smoke", 1)],
)
def test_kind_profile_and_seeds_follow_from_the_rule(toy, test, kind, profile, min_seeds):
    (read,) = read_claims(toy.declare(claim(test, **SHORT)))
    assert read.model_dump(include={*SHORT}) == {
        "kind": kind, "profile": profile, "min_seeds": min_seeds, "family": None,
        "reported": {"value": None, "unit": None, "unverified": False},
    }  # fmt: skip


def test_what_may_be_left_open_or_was_amended_is_kept_as_declared(toy):
    amended = {"criterion": {"margin": 0.2}, "why": "The margin was in other units."}
    ours = claim(id="X2b", source={"bib": None, "where": "ours"}, amended=[amended])
    (read,) = read_claims(toy.declare(ours))
    assert (read.source.bib, read.amended[0].model_dump()) == (None, amended)


def rows_of_arms(experiment, less):
    return [
        made_up_row(Run(experiment, arm, seed, {}), "test", 1, "loss_nats", value - less, profile="smoke")
        for seed in range(8)
        for arm, value in (("adamw", 3.0 + seed / 90), ("lion", 2.8))
    ]


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
def test_a_number_is_said_in_place_of_a_function(toy, said, name, estimate):
    toy.declare(claim(FULL | said))
    write_runs(toy.results / "runs.csv", [*rows_of_arms("lm", 0), *rows_of_arms("other", 1.8)])
    test = toy.verdicts()["C1"]["tests"][0]
    assert (test["estimand"], test["estimate"]) == (name, estimate and pytest.approx(estimate))
    assert not {"value", "difference"} & set(test)


def test_an_identity_names_its_check(toy):
    record = toy.judge(claim(CHECK, **SHORT), algebra=(1e-15, 0.5))
    assert (record["verdict"], record["tests"][0]["estimand"]) == ("holds", "signum")
    assert "check" not in record["tests"][0]


def test_gate_and_variations_are_said_in_place(toy):
    variation = {"name": "the loss itself", "value": VALUE}
    (read,) = read_claims(toy.declare(primary(gate=FULL | {"value": VALUE}, robustness=[variation])))
    assert read.robustness[0].estimand == read.gate.estimand == "lion_loss_nats"


@pytest.mark.parametrize(
    "tests",
    [
        [FULL | {"estimand": "gap", "value": VALUE}],
        [FULL | {"difference": DIFFERENCE}, FULL | {"difference": DIFFERENCE | {"experiment": "other"}}],
    ],
)
def test_a_name_that_stands_for_two_things_is_refused(toy, tests):
    claims = read_claims(toy.declare(claim(*tests)))
    with pytest.raises(ConfigError, match=r"claim C1: '.*' stands for two things in claims\.yaml and"):
        load_estimands("replications.toy.estimands", claims)

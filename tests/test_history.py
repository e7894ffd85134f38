"""paperkit.history: a rule that is not older than its first result is found, and so is one that moved since."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from paperkit.claims.verdicts import ANOTHER_RACE
from paperkit.history import Commit, no_history, read_history
from tests import tiny_book
from tests.made_up_claims import GREATER, IDENTITY, claim
from tests.tiny_repository import commit, git

RULE = {"kind": "experiment", "family": "primary", "profile": "cpu", "min_seeds": 5, "tests": [GREATER]}
HORIZON = {"name": "horizon x 4", "estimand": "long_gap"}
MOVED = {"tests": [GREATER | {"margin": 5}]}
MOVED_AGAIN = {"tests": [GREATER | {"margin": 6}]}

DIFFERENCE = {"experiment": "lm", "of": "adamw", "minus": "lion", "metric": "loss_nats", "split": "test"}
SAID = {"tests": [GREATER | {"difference": DIFFERENCE}]}

Step = Callable[[Path], object]


def declare(*changes: dict[str, Any], name: str = "toy") -> Step:
    """Write claims.yaml: the claim with changes, once for each."""
    text = yaml.safe_dump({"schema": 1, "claims": [claim(**(RULE | change)) for change in changes]})
    return write(f"replications/{name}/claims.yaml", text)


def measure(n: int = 8, *, file: str = "toy/verdicts", **verdict: Any) -> Step:
    """Write verdicts of the claim, with a number where n is not 0."""
    record = {"id": "C1", "tests": [{"n": n}]} | verdict
    return write(f"results/{file}.json", json.dumps({"schema": 1, "claims": [record]}))


def write(file: str, text: str) -> Step:
    def apply(root: Path) -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)

    return apply


def rewrite(old: str, new: str) -> Step:
    """Write a number of claims.yaml in another way."""

    def apply(root: Path) -> None:
        text = (root / "replications/toy/claims.yaml").read_text()
        assert old in text
        (root / "replications/toy/claims.yaml").write_text(text.replace(old, new))

    return apply


def kept(*criteria: dict[str, Any]) -> dict[str, Any]:
    """Say that criteria were amended."""
    return {"amended": [{"criterion": RULE | criterion, "why": "It was ill-posed."} for criterion in criteria]}


def measure_variation(n: int) -> Step:
    return measure(robustness=[{"name": HORIZON["name"], "n": n}])


def run(*arguments: str) -> Step:
    return lambda root: git(root, *arguments)


SIDE, MAIN = run("checkout", "-b", "side", "HEAD~1"), run("checkout", "main")
MERGE_SIDE, MERGE_MAIN = run("merge", "--no-ff", "side"), run("merge", "--no-ff", "main")


def problems_after(root: Path, *steps: Step) -> list[str]:
    for step in steps:
        step(root)
    return read_history(root, "toy").problems


DECLARED, MEASURED, MOVE = ((step, commit) for step in (declare({}), measure(), declare(MOVED)))
FIRST = (*DECLARED, *MEASURED)
AT_SCALE = measure(file="toy_paper/verdicts")
ROBUST = {"robustness": [HORIZON]}
SHORT = {"reported": ..., "kind": ..., "profile": ..., "min_seeds": ...}
PROVEN = {"kind": "identity", "family": None, "tests": [IDENTITY]}
MENDED = PROVEN | {"correction": {"statement": "It is not.", "tests": [IDENTITY]}}
CHECKED_TEST = {"max_error": 0.0}
CHECKED = (declare(PROVEN), commit, measure(tests=[CHECKED_TEST]), commit)

SOUND: dict[str, tuple[Step, ...]] = {
    "a rule before its result": FIRST,
    "a rule that moved before its result": (*DECLARED, *MOVE, *MEASURED),
    "a rule that was rerun": (*FIRST, measure(9), commit),
    "a rule that moved while verdicts had no number": (declare({}), measure(0), commit, *MOVE, *MEASURED),
    "another wording": (*FIRST, declare({"statement": "It is.", "source": {"bib": None, "where": "x"}})),
    "a default that is written out": (*FIRST, declare({"tests": [GREATER | {"diverged_value": None}]})),
    "defaults that are left out": (*FIRST, declare(SHORT)),
    "a check that is said in place": (
        *(*CHECKED, declare(PROVEN | {"family": ..., "tests": [{"check": "algebra", "tolerance": 1e-12}]})),
    ),
    "a difference that is said in place": (*FIRST, declare(SAID), commit, declare(SAID | SHORT), commit),
    "a variation that is said in place": (
        *(declare(ROBUST), commit, measure_variation(3), commit),
        declare({"robustness": [HORIZON | {"difference": DIFFERENCE}]}),
    ),
    "another race, which no claim declares": (
        *(*FIRST, measure(robustness=[{"name": ANOTHER_RACE, "n": 8}]), commit),
    ),
    "a number written in another way": (*FIRST, declare({"tests": [GREATER | {"bound": 0.0}]})),
    "a claim added later": (*FIRST, declare({}, {"id": "C2"}), commit),
    "an identity": CHECKED,
    "an identity whose tolerance is written in another way": (*CHECKED, rewrite("1.0e-12", "1e-12")),
    "the pilot's spread": (*FIRST, declare({"tests": [GREATER | {"pilot_sd": 0.1}], "underpowered": "Too dear."})),
    "a claim that is superseded": (*FIRST, declare({"superseded_by": "C1r"}, {"id": "C1r"}), commit),
    "one that leaves its family": (*FIRST, declare({"superseded_by": "C1r", "family": None}, {"id": "C1r"}), commit),
    "an amended rule": (*FIRST, declare(MOVED | kept({})), commit),
    "a rule amended twice": (
        *(*FIRST, declare(MOVED | kept({})), commit),
        *(declare(MOVED_AGAIN | kept({}, MOVED)), commit),
    ),
    "variations from the start": (declare(ROBUST), commit, measure_variation(3), commit),
    "a variation added and then run": (
        *(*FIRST, declare(ROBUST), measure_variation(0), commit, measure_variation(3), commit),
    ),
    "a variation whose number was known, with the reason": (
        *(*FIRST, declare(ROBUST | kept({})), measure_variation(3), commit),
    ),
    "a branch that is merged": (*(commit, commit, SIDE, *FIRST, MAIN, write("other", ""), commit, MERGE_SIDE),),
    "two branches with results of one rule": (*FIRST, SIDE, AT_SCALE, commit, MERGE_MAIN),
    "a file that was broken once": (*FIRST, write("replications/toy/claims.yaml", "a: b: c"), commit, declare({})),
    "verdicts that were broken once": (*FIRST, write("results/toy/verdicts.json", "<<<<"), commit, measure()),
    "a run that began with its claims committed": (
        *(*FIRST, write("results/toy/provenance.json", '{"claims": {"sha256": "0", "commit": "1"}}')),
    ),
    "an old record of a run": (*FIRST, write("results/toy/provenance.json", "{}")),
}


@pytest.mark.parametrize("case", SOUND)
def test_a_rule_that_stood_before_its_result_and_stands_still_is_no_problem(case, tmp_path):
    commit(tmp_path)
    assert problems_after(tmp_path, *SOUND[case]) == []


CHANGES: dict[str, dict[str, Any]] = {
    "another estimand": {"tests": [GREATER | {"estimand": "other_gap"}]},
    "another rule": {"tests": [GREATER | {"rule": "less"}]},
    "another bound": {"tests": [GREATER | {"bound": 1}]},
    "no margin": {"tests": [GREATER | {"margin": None}]},
    "another unit": {"tests": [GREATER | {"unit": "bits"}]},
    "a value of diverged runs": {"tests": [GREATER | {"diverged_value": 0.0}]},
    "another test beside it": {"tests": [GREATER, GREATER | {"estimand": "other_gap"}]},
    "another range": {"tests": [{"estimand": "gap", "rule": "within", "low": 0, "high": 1, "unit": "nats"}]},
    "another kind": {"kind": "timing"},
    "no family": {"family": None},
    "another profile": {"profile": "smoke"},
    "fewer seeds": {"min_seeds": 4},
    "a correction": {"correction": {"statement": "It is.", "tests": [GREATER | {"bound": -1}]}},
    "a gate": {"gate": GREATER},
    "a superseded claim that moved": {"superseded_by": "C1r"} | MOVED,
}


@pytest.mark.parametrize(("case", "committed"), [*((case, True) for case in CHANGES), ("another bound", False)])
def test_a_rule_that_changes_after_its_result_is_refused(case, committed, tmp_path):
    (problem,) = problems_after(tmp_path, *FIRST, declare(CHANGES[case]), *(commit,) * committed)
    measured = git(tmp_path, "log", "--format=%h", "--abbrev=10", "--reverse").splitlines()[1]
    assert problem == (
        f"claim C1: the rule as of 2026-01-01 ({measured}) has changed or gone since, and the claim's first result is "
        f"2026-01-01 ({measured}); restore it and add a new claim, or keep the old rule "
        f"(`git show {measured}:replications/toy/claims.yaml`) in the claim's `amended:` with the reason"
    )


SUPERSEDED = {"superseded_by": "C2", "family": None}
GONE, LATE = "claim C1: the rule as of", "no earlier commit holds the rule; commit a rule before it is run"
VARIATION = "claim C1, variation 'horizon x 4'"

REFUSED: dict[str, tuple[tuple[Step, ...], str]] = {
    "a rule and its result in one commit": ((declare({}), measure(), commit), LATE),
    "a result before its rule": ((measure(), commit, declare({}), commit), LATE),
    "a rule that moves in the commit of its result": ((*DECLARED, declare(MOVED), *MEASURED), LATE),
    "a rule and its result that are both uncommitted": ((declare({}), measure()), f"not yet committed, and {LATE}"),
    "a rule that moved and came back": ((*FIRST, declare(MOVED), commit, declare({}), commit), GONE),
    "a tolerance that moves": ((*CHECKED, declare(PROVEN | {"tests": [IDENTITY | {"tolerance": 1e-3}]})), GONE),
    "a correction's test that moves": (
        (
            *(declare(MENDED), commit, measure(tests=[], correction={"tests": [CHECKED_TEST]}), commit),
            declare(MENDED | {"correction": {"statement": "It is.", "tests": [IDENTITY | {"tolerance": 1e-3}]}}),
        ),
        GONE,
    ),
    "a clock reading": ((declare({}), measure(file="toy/timing_verdicts"), commit), LATE),
    "a result at another scale": ((declare({}), AT_SCALE, commit), LATE),
    "a claim that is gone": ((*FIRST, declare({"id": "C2"}), commit), GONE),
    "a claim that takes its place in the family again": (
        (*FIRST, declare(SUPERSEDED, {"id": "C2"}), commit, declare({}, {"id": "C2"})),
        GONE,
    ),
    "an amended rule that is not the old one": (
        (*FIRST, declare(MOVED | kept(MOVED_AGAIN))),
        "claim C1, amended criterion 1: no commit holds it",
    ),
    "an amended rule of which one is not kept": (
        (*FIRST, declare(MOVED | kept({})), commit, declare(MOVED_AGAIN | kept({}))),
        GONE,
    ),
    "an amended rule that cannot be read": (
        (*FIRST, declare(MOVED | kept({"min_seeds": "five"}))),
        "claim C1, amended criterion 1:\n  key 'min_seeds' has value 'five'",
    ),
    "a variation whose number is there when it is declared": (
        (*FIRST, declare(ROBUST), measure_variation(3), commit),
        f"{VARIATION}: the first result is",
    ),
    "a variation that is taken back": (
        (declare(ROBUST), commit, measure_variation(0), commit, declare({})),
        f"{VARIATION}: the rule as of",
    ),
    "a difference that moves": (
        (*FIRST, declare(SAID), commit, declare({"tests": [GREATER | {"difference": DIFFERENCE | {"minus": "x"}}]})),
        GONE,
    ),
    "a difference that is only named again": ((*FIRST, declare(SAID), commit, declare({})), GONE),
    "a difference of a variation that moves": (
        (
            *(declare({"robustness": [HORIZON | {"difference": DIFFERENCE}]}), commit, measure(), commit),
            declare({"robustness": [HORIZON | {"difference": DIFFERENCE | {"of": "tiger"}}]}),
        ),
        f"{VARIATION}: the rule as of",
    ),
    "a variation that is changed": (
        (declare(ROBUST), commit, measure(), commit, declare({"robustness": [HORIZON | {"estimand": "short_gap"}]})),
        f"{VARIATION}: the rule as of",
    ),
    "a rule that moved on a branch that knew no result": ((*FIRST, SIDE, *MOVE, MERGE_MAIN), GONE),
    "a result that a merge threw away": (
        (
            *(*DECLARED, commit, SIDE, *MEASURED, MAIN, run("merge", "--strategy=ours", "side")),
            *(*MOVE, *MEASURED),
        ),
        GONE,
    ),
    "a run that began before its claims were committed": (
        (*FIRST, write("results/toy/provenance.json", '{"claims": {"sha256": "0", "commit": null}}')),
        "results/toy/provenance.json: claims.yaml was not committed when this run began",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_came_in_the_wrong_order_is_refused(case, tmp_path):
    commit(tmp_path)
    steps, message = REFUSED[case]
    found = problems_after(tmp_path, *steps)
    assert any(message in problem for problem in found), found


def test_dates_are_those_of_the_rule_as_it_stands_and_of_the_first_number(tmp_path):
    declare({})(tmp_path)
    commit(tmp_path, "2026-01-01")
    declare(MOVED)(tmp_path)
    rule = commit(tmp_path, "2026-01-02")
    declare(MOVED | {"statement": "It is."}, {"id": "C2"})(tmp_path)
    measure(0)(tmp_path)
    other = commit(tmp_path, "2026-01-03")
    measure()(tmp_path)
    result = commit(tmp_path, "2026-01-04")
    measure(9)(tmp_path)
    commit(tmp_path, "2026-01-05")
    declare(MOVED, {"id": "C2"}, {"id": "C3"})(tmp_path)
    dates = read_history(tmp_path, "toy").dates
    assert dates["C1"] == (Commit(rule, "2026-01-02"), Commit(result, "2026-01-04"), ())
    assert dates["C2"] == (Commit(other, "2026-01-03"), None, ())
    assert dates["C3"] == (Commit("", ""), None, ())


def test_a_claim_that_is_superseded_keeps_the_date_of_its_rule(tmp_path):
    problems_after(tmp_path, *FIRST)
    declare(SUPERSEDED, {"id": "C2"})(tmp_path)
    commit(tmp_path, "2026-02-01")
    assert read_history(tmp_path, "toy").dates["C1"].rule.date == "2026-01-01"


@pytest.mark.parametrize(("into", "other"), [("main", "side"), ("side", "main")])
def test_of_two_branches_the_earlier_counts(into, other, tmp_path):
    commit(tmp_path)
    declare({})(tmp_path)
    commit(tmp_path, "2026-01-04")
    measure()(tmp_path)
    commit(tmp_path, "2026-01-06")
    run("checkout", "-b", "side", "HEAD~2")(tmp_path)
    declare({})(tmp_path)
    rule = commit(tmp_path, "2026-01-03")
    measure(file="toy_paper/verdicts")(tmp_path)
    result = commit(tmp_path, "2026-01-05")
    git(tmp_path, "checkout", into)
    git(tmp_path, "merge", other)
    dates, problems = read_history(tmp_path, "toy")
    assert dates["C1"] == (Commit(rule, "2026-01-03"), Commit(result, "2026-01-05"), ())
    assert problems == []


def test_an_amended_claim_says_why_and_has_the_date_of_its_new_rule(tmp_path):
    problems_after(tmp_path, *FIRST)
    declare(MOVED | kept({}))(tmp_path)
    rule = commit(tmp_path, "2026-02-01")
    dates = read_history(tmp_path, "toy").dates["C1"]
    assert dates.rule == (rule, "2026-02-01")
    assert dates.amended == ("It was ill-posed.",)


def test_a_git_hook_that_names_another_repository_does_not_lead_astray(tmp_path, monkeypatch):
    problems_after(tmp_path, *FIRST)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert no_history(tmp_path) is None
    assert read_history(tmp_path, "toy").dates["C1"].result


def test_where_the_history_is_not_whole_the_reason_is_said(tmp_path, monkeypatch):
    whole, shallow, exported = (tmp_path / name for name in ("whole", "shallow", "exported"))
    whole.mkdir()
    problems_after(whole, *FIRST)
    assert no_history(whole) is None
    assert no_history(whole / "results") == "this folder lies in a repository that is not its own"
    git(tmp_path, "clone", "--depth=1", "file:" + f"//{whole}", str(shallow))
    assert no_history(shallow) == "a shallow clone; `git fetch --unshallow` brings the rest"
    shutil.copytree(whole, exported, ignore=shutil.ignore_patterns(".git"))
    assert no_history(exported) == (
        "git finds no commit here (fatal: not a git repository (or any of the parent directories): .git)"
    )
    git(exported, "init")
    assert "git finds no commit here (fatal: ambiguous argument 'HEAD'" in str(no_history(exported))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert no_history(whole) == "git is not installed"


# --- the book ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*OptionParser.*:DeprecationWarning")
def test_a_page_says_when_the_rule_and_the_first_result_of_each_claim_were_committed(tiny):
    root = tiny.source.parent
    declare({}, {"id": "X1"}, name="lion")(root)
    assert "Rule committed" not in tiny.build(tiny_book.CLAIMS), "there is no history yet"
    rule = commit(root, "2026-01-01")[:10]
    tiny.write_verdicts([tiny_book.claim("C1"), tiny_book.claim("C2")])
    result = commit(root, "2026-01-02")[:10]
    tiny.write_verdicts([tiny_book.claim("X1", kind="timing")], file="timing_verdicts")
    rows = tiny.build(tiny_book.CLAIMS).split('id="claim-lion-')[1:]
    lines = {row[:2]: re.findall(r'class="rule-dates">(.*?)</p>', row) for row in rows}
    assert lines == {
        "c1": [f"Rule committed on 2026-01-01 ({rule}), first result on 2026-01-02 ({result})."],
        "c2": [],
        "x1": [f"Rule committed on 2026-01-01 ({rule}), first result not yet committed."],
    }

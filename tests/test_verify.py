"""What `python -m paperkit verify` says of reruns that are the same, nearly the same, and not the same."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from paperkit.claims.declarations import read_claims
from paperkit.claims.verdicts import write_verdicts
from paperkit.config import ConfigError
from paperkit.pipeline import found_replications
from paperkit.prediction import DRIFTED, EXPECTED, IDENTICAL, NONDETERMINISTIC, next_run, numbers_by_seed
from paperkit.results import read_json, read_runs, write_runs
from paperkit.verify import run_stage, verify
from tests.tiny_repository import commit

ROOT = Path(__file__).resolve().parents[1]
NAME = "sector_points"
FILES = (f"replications/{NAME}/claims.yaml", *(f"results/{NAME}/{file}" for file in ("runs.csv", "provenance.json")))

Change = Callable[[pd.DataFrame], pd.DataFrame]


# --- a rerun in which a table was changed by hand -------------------------------------------------------------------


def of_seeds(runs: pd.DataFrame) -> pd.Series:
    """Mark what claim C5 is judged by for 30 points in a disc."""
    return (runs["experiment"] == "thrown_30") & (runs["arm"] == "disc") & (runs["metric"] == "share_minus_formula")


def shifted(by: float) -> Change:
    """Move these numbers by a multiple of their standard deviation."""

    def change(runs: pd.DataFrame) -> pd.DataFrame:
        values = runs["value"].where(of_seeds(runs))
        return runs.assign(value=runs["value"] + values.notna() * by * values.std())

    return change


def rounded(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.assign(value=runs["value"] * (1 + 1e-15))


def without_them(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[~of_seeds(runs)]


def rerun_with(*changes: Change) -> Callable[..., None]:
    """Run no stage, but change its table and judge it: with each run of it by the next change."""
    waiting = iter(changes)

    def run(clone: Path, folder: str, workers: int | None, hash_seed: int) -> None:
        path = clone / "results" / folder / "runs.csv"
        write_runs(path, next(waiting)(read_runs(path)).to_dict("records"))
        with chdir(clone):
            write_verdicts(folder, timing=False)

    return run


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The claims and the results of a replication, committed."""
    root = tmp_path / "work"
    for file in FILES:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, root / file)
    with chdir(root):
        write_verdicts(NAME, timing=False)
    commit(root)
    return root


def outcome_of(root: Path, *changes: Change, address: str = NAME, **settings) -> tuple[str, list[str], bool]:
    """Verify with changes; return the word, the lines below it, and whether the command ends well."""
    said: list[str] = []
    sound = verify(root, address, run=rerun_with(*changes), say=lambda line: said.append(line.strip()), **settings)
    return said[0].removeprefix(f"{address}: "), said[1:-1], sound


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda runs: runs, IDENTICAL),
        (rounded, EXPECTED),
        (shifted(0.5), EXPECTED),
        (shifted(-2.0), EXPECTED),
        (shifted(4.0), DRIFTED),
        (shifted(-40.0), DRIFTED),
        (without_them, DRIFTED),
    ],
)
def test_a_rerun_gets_its_word_from_bytes_words_and_the_interval_of_its_seeds(change, word, repository):
    assert outcome_of(repository, change)[::2] == (word, word != DRIFTED)


def test_a_number_outside_its_interval_is_named_with_both_values(repository):
    _, lines, _ = outcome_of(repository, shifted(4.0))
    assert len(lines) == 1
    assert re.fullmatch(r"C5\.tests\[3\]: was \S+, is \S+; expected in \[\S+, \S+\]", lines[0])


def test_a_word_that_has_changed_is_named(repository):
    _, lines, _ = outcome_of(repository, shifted(-40.0))
    assert lines[0].startswith("C5: was holds, is contradicted")


def test_a_claim_is_not_blamed_for_what_another_one_did(repository):
    assert outcome_of(repository, shifted(4.0), address=f"{NAME}/C1")[::2] == (EXPECTED, True)
    assert outcome_of(repository, shifted(4.0), address=f"{NAME}/C5")[::2] == (DRIFTED, False)


def test_reruns_that_differ_among_themselves_are_nondeterministic(repository):
    word, lines, sound = outcome_of(repository, rounded, rounded, workers=(1, 2))
    assert (word, sound) == (NONDETERMINISTIC, False)
    assert [line.partition(",")[0] for line in lines] == ["workers 1", "workers 2"]


def test_a_receipt_says_what_ran_where_and_how_far_each_number_moved(repository):
    outcome_of(repository, shifted(0.5))
    (path,) = (repository / "receipts" / NAME).iterdir()
    receipt, made = read_json(path), read_json(repository / f"results/{NAME}/provenance.json")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-[a-z0-9-]+\.json", path.name)
    assert {key: receipt[key] for key in ("commit", "machine_class", "lock_sha256", "wall_s", "cpu_s", "threads")} == {
        key: made[key] for key in ("commit", "machine_class", "lock_sha256", "wall_s", "cpu_s", "threads")
    }
    assert receipt["tables"] == {"runs.csv": False}
    assert receipt["metrics"]["C5.tests[3]"]["drift_sd"] == pytest.approx(0.5)
    assert receipt["metrics"]["C5.tests[0]"]["drift_sd"] == 0
    assert receipt["outcome"] == EXPECTED


def test_the_working_tree_is_left_alone(repository):
    before = {path: path.read_bytes() for path in repository.rglob("results/*/*")}
    outcome_of(repository, shifted(4.0))
    assert {path: path.read_bytes() for path in repository.rglob("results/*/*")} == before


@pytest.mark.parametrize(
    ("address", "message"),
    [("nothing", "results/nothing holds no verdicts"), (f"{NAME}/C99", "has no verdict of 'C99'; it has C1, ")],
)
def test_what_is_not_there_is_refused_before_anything_runs(address, message, repository):
    with pytest.raises(ConfigError, match=message):
        outcome_of(repository, address=address)


def test_without_history_there_is_nothing_to_clone(repository):
    shutil.rmtree(repository / ".git")
    with pytest.raises(ConfigError, match="a clean clone cannot be made: git finds no commit here"):
        outcome_of(repository)


# --- the interval ---------------------------------------------------------------------------------------------------


def test_of_the_committed_seeds_each_left_out_95_of_100_lie_in_the_interval_of_the_others():
    inside = []
    for name in found_replications(ROOT):
        claims, results = read_claims(ROOT / f"replications/{name}/claims.yaml"), ROOT / "results" / name
        for values in numbers_by_seed(claims, name, results).values():
            if len(values) >= 5 and not values.isna().any():
                others = {seed: next_run(values.drop(seed)) for seed in values.index}
                inside += [low <= values[seed] <= high for seed, (low, high) in others.items()]
    assert len(inside) > 1000
    assert sum(inside) / len(inside) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, float("nan"), 2.0]])
def test_without_two_seeds_or_with_one_that_diverged_there_is_no_interval(values):
    assert next_run(pd.Series(values, dtype=float)) is None


# --- stages that really run -----------------------------------------------------------------------------------------


def trained(root: Path, name: str) -> Path:
    """Commit a copy of a small replication with results of its smoke profile."""
    for package in ("paperkit", "replications"):
        (root / package).mkdir(parents=True)
        shutil.copyfile(ROOT / package / "__init__.py", root / package / "__init__.py")
    ignored = shutil.ignore_patterns("__pycache__", "template", "models")
    shutil.copytree(ROOT / "paperkit", root / "paperkit", ignore=ignored, dirs_exist_ok=True)
    shutil.copytree(ROOT / "replications" / name, root / "replications" / name, ignore=ignored)
    shutil.copyfile(ROOT / "requirements.lock", root / "requirements.lock")
    (root / ".gitignore").write_text("__pycache__/\n.paperkit/\n")
    commit(root)
    at_smoke(root, name, 1, 0)
    commit(root)
    return root


at_smoke = partial(run_stage, profile="smoke")


def test_a_stage_that_runs_again_in_a_clean_clone_is_identical(tmp_path):
    name = "bounded_shuffle"  # the quickest
    root = trained(tmp_path / "work", name)
    said: list[str] = []
    assert verify(root, name, run=at_smoke, say=said.append)
    assert said[0] == f"{name}: {IDENTICAL}"
    (path,) = (root / "receipts" / name).iterdir()
    assert read_json(path)["environment"]["PYTHONHASHSEED"] == "0"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("planted", "settings"),
    [
        ("share += hash('points') % 1000 * 1e-9", {"hash_seeds": (0, 1)}),
        ("THROWN.setdefault(0, []).append(n); share += len(THROWN[0]) * 1e-9", {"workers": (1, 2)}),
    ],
)
def test_hidden_nondeterminism_is_smoked_out(planted, settings, tmp_path):
    root = trained(tmp_path / "work", NAME)
    path = root / f"replications/{NAME}/experiment.py"
    line = '    yield Measurement("none", 0, "share", share)\n'
    assert line in path.read_text()
    path.write_text(path.read_text().replace(line, f"    {planted}\n{line}"))
    commit(root)
    said: list[str] = []
    assert not verify(root, NAME, run=at_smoke, say=said.append, **settings)
    assert said[0] == f"{NAME}: {NONDETERMINISTIC}", json.dumps(said)

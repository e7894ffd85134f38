"""What `python -m paperkit doctor` finds in a copy that was damaged, file by file."""

import json
from pathlib import Path

import pytest

from paperkit import doctor
from paperkit.completeness import problems
from paperkit.doctor import (
    CACHE,
    OF_ALL,
    OF_REPLICATIONS,
    OF_RESULTS,
    REMOTE,
    cache_problems,
    data_problems,
    environment_problems,
    examine,
    remote_problems,
    stage_problems,
)
from paperkit.history import no_history
from paperkit.provenance import file_md5, pinned_versions
from tests.tiny_repository import commit, git

ROOT = Path(__file__).resolve().parents[1]
RECEIPT = next((ROOT / "receipts/sparsity").iterdir()).relative_to(ROOT)


def stored(root: Path, folder: str, content: bytes, suffix: str = "") -> tuple[Path, str]:
    """Keep content as DVC does; return its file and its hash."""
    whole = root / "whole"
    whole.write_bytes(content)
    digest = file_md5(whole)
    path = root / folder / digest[:2] / f"{digest[2:]}{suffix}"
    path.parent.mkdir(parents=True)
    return whole.rename(path), f"{digest}{suffix}"


@pytest.fixture
def copy(tmp_path):
    """A repository with one table, in data/, in the cache and in the remote."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/text.parquet").write_bytes(b"rows")
    _, table = stored(tmp_path, CACHE, b"rows")
    stored(tmp_path, REMOTE, b"rows")
    listing = json.dumps([{"md5": table, "relpath": "text.parquet"}]).encode()
    _, folder = stored(tmp_path, REMOTE, listing, ".dir")
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {folder}\n  path: data\n")
    return tmp_path


def test_a_sound_copy_has_no_problems(copy):
    assert [rule(copy, "") for rule in (data_problems, cache_problems, remote_problems)] == [[], [], []]


@pytest.mark.parametrize("content", [b"rowt", None])
def test_a_table_that_was_damaged_or_lost_is_named_with_its_remedy(content, copy):
    table = copy / "data/text.parquet"
    table.unlink() if content is None else table.write_bytes(content)
    (problem,) = data_problems(copy, "")
    assert problem.startswith("data/text.parquet is not the table that data.dvc names: ")
    assert problem.endswith("then `make pull`")


@pytest.mark.parametrize(
    ("folder", "rule", "remedy"),
    [
        (CACHE, cache_problems, "remove it and `data`, then `make pull`"),
        (REMOTE, remote_problems, "`git checkout -- "),
    ],
)
def test_one_flipped_bit_in_an_object_is_found(folder, rule, remedy, copy):
    path = next(path for path in sorted((copy / folder).glob("*/*")) if path.suffix != ".dir")
    path.chmod(0o644)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    (problem,) = rule(copy, "")
    assert problem.startswith(f"{path.relative_to(copy)} is not what its name says: {remedy}")


@pytest.mark.parametrize("suffix", [".dir", ""])
def test_an_object_that_is_lost_is_named(suffix, copy):
    path = next(path for path in sorted((copy / REMOTE).glob("*/*")) if path.suffix == suffix)
    path.unlink()
    place = path.relative_to(copy)
    assert problems(remote_problems, copy, "") == [f"{place} is missing: `git checkout -- {place}`"]


def test_the_committed_data_and_this_environment_are_sound():
    assert [rule(ROOT, "") for rule in (data_problems, remote_problems, environment_problems)] == [[], [], []]


def test_a_library_of_another_version_or_none_is_named(tmp_path):
    numpy = pinned_versions(ROOT / "requirements.lock")["numpy"]
    (tmp_path / "requirements.lock").write_text(
        f"numpy=={numpy}\npandas==0.1 \\\n    --hash=x\nno-such-library==1.0\n"
    )
    (tmp_path / "pyproject.toml").write_text('dependencies = ["torch==1.0"]\n')
    found = environment_problems(tmp_path, "")
    assert [problem.partition(" is ")[0] for problem in found] == ["pandas", "no-such-library", "torch"]
    assert "missing, and the lock names 1.0: remove .venv/.ready, then `make setup`" in found[1]


def test_a_stage_that_is_not_that_of_the_lock_is_named(tmp_path):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  toy:\n    cmd: echo toy\n    deps: [code.py]\n")
    (tmp_path / "code.py").write_text("")
    (problem,) = stage_problems(tmp_path, "")
    assert "toy is out of date (changed deps code.py modified): `make repro`" in problem


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """This repository as it is committed, with its history."""
    if reason := no_history(ROOT):
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("clone") / "repository"
    git(ROOT, "clone", "--quiet", "--shared", ".", str(root))
    for setting in ("user.name=A", "user.email=a@example.org"):
        git(root, "config", *setting.split("="))
    return root


@pytest.mark.parametrize(
    ("rule", "of", "file", "old", "new", "told"),
    [
        ("shared files", "", "book/_toc.yml", "/sparsity", "/sparseness", "book/_toc.yml is not what the replicatio"),
        ("history", "sparsity", "replications/sparsity/claims.yaml", "margin: ", "margin: 1", "changed or gone since"),
        ("results", "sparsity", "results/sparsity/runs.csv", ",ok", ",diverged", "runs.csv is not what provenance.j"),
        ("code", "sparsity", "replications/sparsity/experiment.py", "(", "(*(),", "experiment.py changed since prove"),
        ("verdicts", "sparsity", "results/sparsity/verdicts.json", '"holds"', '"contradicted"', "first at claims["),
        ("receipts", "sparsity", RECEIPT, '"identical"', '"drifted"', "says 'drifted', which its own numbers do not"),
    ],
)
def test_what_is_planted_in_a_clone_is_found_by_its_comparison(rule, of, file, old, new, told, clone):
    comparison = (OF_ALL | OF_REPLICATIONS | OF_RESULTS)[rule]
    assert comparison(clone, of) == []
    head = git(clone, "rev-parse", "HEAD").strip()
    text = (clone / file).read_text()
    (clone / file).write_text(text.replace(old, new, 1))
    commit(clone)
    problems = comparison(clone, of)
    git(clone, "reset", "--quiet", "--hard", head)
    assert len(problems) == 1, problems
    assert told in problems[0]


def test_everything_is_asked_and_counted(tmp_path, monkeypatch):
    (tmp_path / "replications/toy").mkdir(parents=True)
    (tmp_path / "replications/toy/claims.yaml").touch()
    (tmp_path / "results/toy").mkdir(parents=True)
    monkeypatch.setattr(doctor, "OF_ALL", {"data": lambda *_: ["lost", "damaged"]})
    monkeypatch.setattr(doctor, "OF_REPLICATIONS", {"history": lambda *_: []})
    monkeypatch.setattr(doctor, "OF_RESULTS", {"verdicts": lambda _, name: [f"{name} has moved"]})
    said = []
    assert not examine(tmp_path, said.append)
    assert said[:5] == ["data:", "  - lost", "  - damaged", "history: complete", "verdicts:"]
    assert said[5] == "  - toy: toy has moved"
    assert said[-1] == "3 things to do."


def test_a_copy_without_a_difference_is_said_to_be_sound(tmp_path, monkeypatch):
    for rules in ("OF_ALL", "OF_REPLICATIONS", "OF_RESULTS"):
        monkeypatch.setattr(doctor, rules, {})
    said = []
    assert examine(tmp_path, said.append)
    assert said[-1] == "All is as it is written."

"""paperkit.equivalence: code that moves no number retrains nothing, and only then."""

import json
from pathlib import Path

import pytest
import yaml

from paperkit.config import ConfigError
from paperkit.equivalence import accept, unproven
from paperkit.history import no_history
from paperkit.provenance import EQUIVALENT, code_hash, content_hash
from tests.tiny_repository import commit

ROOT = Path(__file__).parents[1]
CODE = "replications/toy/experiment.py"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stage that writes the number that its code returns."""
    stage = {"cmd": "python -m replications.toy.experiment --profile cpu", "deps": [CODE, "data/a.parquet"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"toy": stage}}))
    (tmp_path / "replications/toy").mkdir(parents=True)
    (tmp_path / CODE).write_text("def value():\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(clone: Path, name: str) -> None:
    scope: dict = {}
    exec((clone / CODE).read_text(), scope)
    results = clone / "results" / name
    results.mkdir(parents=True)
    (results / "runs.csv").write_text(str(scope["value"]()))
    (results / "provenance.json").write_text('{"outs": {"runs.csv": ""}}')


def test_a_change_that_moves_no_number_is_noted_and_taken_for_the_code_before(repository):
    before, since = code_hash(Path(CODE)), commit(repository)
    Path(CODE).write_text("def value():\n    one = 1\n    return one\n")
    changed = commit(repository)
    assert content_hash(Path(CODE), "cpu") != before
    after = code_hash(Path(CODE))
    assert accept(repository, since, "A name for one.", run=run) == {CODE: [before, after]}
    assert content_hash(Path(CODE), "cpu") == before

    commit(repository)
    Path(CODE).write_text("def value():\n    return 2 - 1\n")
    commit(repository)
    assert accept(repository, changed, "Another one.", run=run) == {CODE: [after, code_hash(Path(CODE))]}
    assert content_hash(Path(CODE), "cpu") == before
    assert [change["why"] for change in yaml.safe_load(EQUIVALENT.read_text())["changes"]] == [
        "A name for one.",
        "Another one.",
    ]


def test_a_change_that_moves_a_number_is_refused_and_nothing_is_noted(repository):
    since = commit(repository)
    Path(CODE).write_text("def value():\n    return 1.5\n")
    commit(repository)
    with pytest.raises(ConfigError, match=r"results/toy/runs.csv has other bytes with the new code: train the stage"):
        accept(repository, since, "It looks harmless.", run=run)
    assert not EQUIVALENT.exists()


def test_code_that_is_not_committed_or_in_another_file_is_refused(repository):
    since = commit(repository)
    Path(CODE).write_text("def value():\n    return 2 - 1\n")
    with pytest.raises(ConfigError, match="commit the code first"):
        accept(repository, since, "A sum.", run=run)
    stages = yaml.safe_load(Path("dvc.yaml").read_text())
    stages["stages"]["toy"]["deps"].append("replications/toy/more.py")
    Path("dvc.yaml").write_text(yaml.safe_dump(stages))
    commit(repository)
    with pytest.raises(
        ConfigError, match=r"imports other files than before \(replications/toy/more.py\): train it again"
    ):
        accept(repository, since, "A sum.", run=run)


def test_a_note_is_unproven_until_a_stage_was_trained_with_the_code_and_gave_the_same_bytes(repository):
    since = commit(repository)
    Path(CODE).write_text("def value():\n    return 2 - 1\n")
    commit(repository)
    accept(repository, since, "A sum.", run=run)
    (said,) = unproven(repository)
    assert said.startswith(f"{CODE}: no rerun bears out")

    for folder in ("receipts/toy", "results/toy"):
        (repository / folder).mkdir(parents=True)
    (repository / "results/toy/provenance.json").write_text(json.dumps({"deps": {CODE: ""}}))
    receipt = {"results": "toy", "outcome": "identical", "commit": commit(repository)}
    for changes, proven in (({"commit": since}, False), ({"outcome": "as expected"}, False), ({}, True)):
        (repository / "receipts/toy/a.json").write_text(json.dumps(receipt | changes))
        assert (unproven(repository) == []) is proven


@pytest.mark.skipif(no_history(ROOT) is not None, reason="no history")
def test_each_change_that_is_noted_here_was_borne_out_by_a_whole_stage():
    assert unproven(ROOT) == []

"""What `python -m paperkit explain` says of a committed verdict, and of two that differ."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from paperkit.__main__ import main
from paperkit.config import ConfigError
from paperkit.differences import differences
from paperkit.explain import explain, rule_text
from paperkit.results import read_json, write_json
from tests.made_up_claims import EQUIVALENT, GREATER, REPORT, SLOPE, WITHIN, judged

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("Statement", "Rule", "Seeds", "Estimate", "Word", "What would flip it", "Measured by")


@pytest.mark.parametrize("address", ["lion/C6", "sparsity/C6", "sector_points/C1", "lora_optimizer/C7"])
def test_a_verdict_is_walked_from_its_statement_to_the_code_that_measured_it(address):
    text = explain(ROOT, address)
    folder, _, claim_id = address.partition("/")
    verdicts = read_json(ROOT / f"results/{folder}/verdicts.json")["claims"]
    record = next(claim for claim in verdicts if claim["id"] == claim_id)
    assert text.splitlines()[0] == f"{address}: {record['verdict']}"
    assert tuple(re.findall(r"^\d\. (.+)", text, flags=re.MULTILINE)) == STEPS
    flat = " ".join(text.split())
    assert " ".join(record["statement"].split()) in flat
    assert " ".join(record["reason"].split()) in flat
    assert f"commit {read_json(ROOT / f'results/{folder}/provenance.json')['commit'][:10]}" in flat
    assert all(variation["name"] in flat for variation in record.get("robustness", []))


def test_a_function_of_estimands_py_is_named_with_its_line():
    text = " ".join(explain(ROOT, "lora_optimizer/C7").split())
    place = re.search(r"forgetting_of_sgd: replications/lora_optimizer/estimands\.py, line (\d+)", text)
    lines = (ROOT / "replications/lora_optimizer/estimands.py").read_text().splitlines()
    assert lines[int(place[1]) - 1].startswith("forgetting_of_sgd = ")


def test_the_rule_of_every_committed_claim_can_be_said():
    for path in ROOT.glob("results/*/*verdicts.json"):
        for claim in read_json(path)["claims"]:
            assert all(rule_text(test) for test in claim["tests"])


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (GREATER, "gap is greater than 0 by at least 0.1 nats"),
        (SLOPE, "gap is greater than 0, by however little, nats"),
        (EQUIVALENT, "gap is within 0.1 of 0 nats"),
        (WITHIN, "gap lies in [0.4, 0.6] ratio"),
        (REPORT, "gap is reported, and decides nothing"),
    ],
)
def test_a_rule_is_said_in_words(test, words):
    assert rule_text(judged(test, [0.1, 0.2, 0.3, 0.2, 0.1]).record) == words


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("lion/C99", "results/lion has no verdict of 'C99'; it has C1, "),
        ("lion", "results/lion has no verdict of ''; it has C1, "),
        ("tiger/C6", "results/tiger holds no verdicts; say one of attention_scale, "),
    ],
)
def test_a_claim_that_is_not_there_is_refused_with_those_that_are(address, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        explain(ROOT, address)


def test_the_command_says_what_is_wrong_and_ends_with_1(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paperkit", "explain", "lion/C99"])
    assert main() == 1
    assert capsys.readouterr().err.startswith("lion/C99: results/lion has no verdict of 'C99'")


# --- two verdicts of one claim --------------------------------------------------------------------------------------


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A copy of the results of a replication."""
    return Path(shutil.copytree(ROOT / "results/sector_points", tmp_path / "sector_points"))


def compared(other: Path) -> list[str]:
    return differences(ROOT, "sector_points/C5", other / "verdicts.json")


def test_the_same_results_differ_in_nothing(other):
    assert compared(other) == ["sector_points/C5: holds | holds", "no setting differs"]


def test_a_setting_of_the_runs_that_differs_is_named_with_both_values(other):
    path = other / "runs.csv"
    path.write_text(path.read_text().replace('""batch"":100000', '""batch"":1000'))
    assert compared(other)[1:] == ["config.batch: 100000 | 1000"]


def test_what_made_the_runs_and_what_the_rule_asks_are_compared(other):
    write_json(other / "provenance.json", read_json(other / "provenance.json") | {"machine_class": "another"})
    content = read_json(other / "verdicts.json")
    claim = next(claim for claim in content["claims"] if claim["id"] == "C5")
    claim["tests"][1]["margin"], claim["verdict"] = 0.001, "inconclusive"
    write_json(other / "verdicts.json", content)
    words, *lines = compared(other)
    assert words == "sector_points/C5: holds | inconclusive"
    assert [line.partition(":")[0] for line in lines] == ["machine_class", "tests[1].margin"]


def test_a_file_alone_is_compared_by_its_rule(other):
    (other / "runs.csv").unlink()
    (other / "provenance.json").unlink()
    assert all(line.endswith("not there") for line in compared(other)[1:])


def test_a_file_without_the_claim_is_refused(other):
    for content, told in (({"claims": []}, "has no verdict of C5"), ({"claims": 3}, "holds no verdicts")):
        (other / "verdicts.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=told):
            compared(other)

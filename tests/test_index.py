"""`results/index.json` fits its published schema, and says what the files of verdicts say."""

import json
from pathlib import Path

import pytest
from results_in_text.yaml_files import misfits

from paperkit.index import INDEX, index_json
from paperkit.results import read_json

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def index():
    return read_json(ROOT / INDEX)


def test_the_index_is_what_make_pipeline_writes():
    assert (ROOT / INDEX).read_text(encoding="utf-8") == index_json(ROOT), "run `make pipeline`"


def test_the_index_fits_its_schema(index):
    assert misfits(index, "index.schema.json") == []


def test_every_claim_of_every_file_of_verdicts_is_in_the_index(index):
    files = [*ROOT.glob("results/*/verdicts.json"), *ROOT.glob("results/*/timing_verdicts.json")]
    claims = {f"{file.parent.name}/{claim['id']}": claim for file in files for claim in read_json(file)["claims"]}
    assert index["claims"].keys() == claims.keys()
    assert all(claims[key].items() <= index["claims"][key].items() for key in claims)


def test_a_post_names_the_claims_of_the_replication_that_takes_it_up(index):
    assert "lion/C6" in index["posts"]["9473"]["claims"]
    assert {index["claims"][key]["replication"] for key in index["posts"]["9473"]["claims"]} == {"lion"}


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index["claims"]["lion/C6"].pop("machine_class"),
        lambda index: index["claims"]["lion/C6"].update(verdict="true"),
        lambda index: index["claims"]["lion/C6"].update(more=1),
        lambda index: index["claims"].update({"lion C6": index["claims"]["lion/C6"]}),
        lambda index: index["posts"]["9473"].update(claims=["C6"]),
        lambda index: index.pop("posts"),
    ],
)
def test_what_does_not_fit_is_named(change, index):
    change(index)
    assert len(misfits(json.loads(json.dumps(index)), "index.schema.json")) == 1

"""The paper profile works as a whole at a tiny size on the CPU, on files and in a cache of the hub's form."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning_fabric import Fabric

from paperkit.config import ConfigError, parse, read_profile
from paperkit.estimands import difference
from paperkit.full_scale import Session
from paperkit.results import read_runs, read_trials
from paperkit.runs import Run
from replications.shared_embeddings import paper
from tests.two_processes import (
    paragraphs,
    place_in_cache,
    read_cache_alone,
    run_tiny,
    tiny_in_one_process,
    write_tokenizer,
)

PARAMS = Path(__file__).with_name("paper.yaml")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder for HF_HOME with every file that the profile reads, made of noise."""
    home, generator = tmp_path_factory.mktemp("hub"), np.random.default_rng(0)
    for file in paper.FILES:
        path = place_in_cache(home, file)
        if file == paper.TOKENIZER:
            write_tokenizer(generator, path)
        else:
            pq.write_table(pa.table({"text": paragraphs(generator, 40)}), path)
    return home


@pytest.fixture
def cache(hub, monkeypatch):
    read_cache_alone(monkeypatch, hub)


@pytest.fixture
def tiny():
    return tiny_in_one_process(paper.Settings, PARAMS)


@pytest.fixture
def fabric():
    return Fabric(accelerator="cpu", devices=1)


def executed(settings, fabric, kept, run):
    session = Session(fabric, paper.MODULE, "smoke", kept)
    return session(paper.Study(fabric, settings, paper.Text.load()).measure, run)


def test_the_whole_study_runs_in_two_processes_and_its_rows_are_judged_by_the_same_estimands(
    hub, cache, tiny, fabric, tmp_path
):
    run_tiny(paper.MODULE, tmp_path, hub)
    runs, trials = read_runs(tmp_path / "results/runs.csv"), read_trials(tmp_path / "results/trials.csv")
    assert set(runs["profile"]) == {"smoke"}
    gap = difference(runs, "curves", "small_sigma", "half_swap", "area_nats", "train")
    assert list(gap.index) == [0, 1]
    assert gap.notna().all()
    assert trials.groupby("arm").size().to_dict() == dict.fromkeys(paper.ARMS, 1)
    # Two processes that did not exchange their gradients would end elsewhere than one.
    rows = runs[(runs["experiment"] == "curves") & (runs["arm"] == "half_swap") & (runs["seed"] == 0)]
    (lr,) = {json.loads(text)["lr"] for text in rows["config"]}
    alone = executed(tiny, fabric, tmp_path / "alone", Run("curves", "half_swap", 0, {"lr": lr}))
    expected = {(row["split"], row["metric"]): row["value"] for row in alone}
    for row in rows.itertuples():
        assert row.value == pytest.approx(expected[row.split, row.metric], rel=1e-4)


def test_a_run_does_not_depend_on_how_its_batch_is_dealt(cache, tiny, fabric, tmp_path):
    run = Run("curves", "half_swap", 0, {"lr": 1e-2})
    whole = tiny.model_copy(update={"micro_batch": 8})
    values = [
        [row["value"] for row in executed(each, fabric, tmp_path / str(i), run)]
        for i, each in enumerate((tiny, whole))
    ]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-4)


def test_a_trial_never_looks_at_the_test_split(cache, tiny, fabric, tmp_path):
    first = executed(tiny, fabric, tmp_path, Run("curves", "tied", 0, {"lr": 1e-2}))
    trial = executed(tiny, fabric, tmp_path, Run("curves_search", "tied", 0, {"lr": 1e-2}))
    assert [(row["split"], row["value"]) for row in trial] == [("validation", first[0]["value"])]
    assert {row["split"] for row in first} == {"train", "validation", "test"}


def test_a_diverged_run_is_recorded(cache, tiny, fabric, tmp_path):
    rows = executed(tiny, fabric, tmp_path, Run("curves", "tied", 0, {"lr": 1e30}))
    assert {row["status"] for row in rows} == {"diverged"}
    assert {row["metric"] for row in rows} >= {"loss_nats", "area_nats"}


def test_the_model_is_tied_and_its_logits_are_float32(cache, tiny):
    torch.manual_seed(0)
    model = paper.Model("half_swap", tiny.size(300)).to(torch.bfloat16)
    assert model.gpt.head.weight is model.gpt.token_embedding.weight
    assert model(torch.zeros(1, 4, dtype=torch.int64)).dtype == torch.float32


def test_every_file_is_required_before_anything_is_trained(tmp_path, monkeypatch, tiny):
    assert tiny.files == paper.FILES
    read_cache_alone(monkeypatch, tmp_path)
    told = r"^shared_embeddings_paper: tokenizer\.json of the model openai-community/gpt2.*hf download"
    with pytest.raises(SystemExit, match=told):
        paper.main(["--settings", "tiny", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"run_seed": 1}, "from run_seed 1"),
        ({"num_trials": 3}, "power of two"),
        ({"batch": 7, "micro_batch": 2}, "batch 7 cannot be dealt"),
        ({"warmup_steps": 3}, "warmup_steps 3 must be at most"),
        ({"heads": 3}, "width 16 must be a multiple of heads 3"),
        ({"width": 15}, "width"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(tiny, changes, told):
    with pytest.raises(ConfigError, match=told):
        parse(paper.Settings, {**tiny.model_dump(), **changes}, source="paper.yaml")


def test_the_paper_block_is_the_source_s_size():
    settings = read_profile(paper.Settings, PARAMS, "paper")
    assert (settings.width, settings.layers, len(settings.seeds)) == (768, 12, 11)

"""A pretrained model whose training goes on, by one code for all scales: here a made-up Llama, and a made-up GPT-2."""

import json
import re
import tomllib
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from paperkit.hardware import ON_CPU
from paperkit.runs import Run
from replications.emo.studies import generation, pretrained, weights
from replications.emo.studies.pretrained import (
    EXPERIMENT,
    START,
    LastLayers,
    Pretrained,
    Start,
    Task,
    Whole,
    measure_pretrained,
)

ROOT = Path(__file__).parents[2]
WORDS = {"sotu": "peace union states congress war people", "python_docs": "def class import return none yield"}
GENERATION = {
    "arms": ["emo"], "texts": 32, "prefix_tokens": 4, "new_tokens": 12, "temperatures": [0.8, 1.0],
    "top_ps": [0.9, 1.0], "clusterings": 2,
}  # fmt: skip
TASK = {
    "model": "tiny", "corpus": "sotu", "trainable_layers": 2, "context": 16, "batch": 4, "steps": 12,
    "repair": {"corpus": "python_docs", "steps": 12, "lr": 3e-3}, "validation_windows": 40, "test_windows": 40,
    "glove": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def made_up_texts(monkeypatch):
    """Read short texts of a few words in the place of tables, and forget what was made of others."""

    def documents(corpus, split):
        rng = np.random.default_rng(len(split))
        return [" ".join(rng.choice(WORDS[corpus].split(), 60)) for _ in range(12)]

    caches = (weights.texts, weights.stream, weights._tokenizer, pretrained._made)
    monkeypatch.setattr(weights, "_documents", documents)
    with ExitStack() as after:
        for cached in caches:
            cached.cache_clear()
            after.callback(cached.cache_clear)
        yield


def measured(run: Run) -> dict[tuple[str, str], float]:
    return {(of.split, of.metric): of.value for of in measure_pretrained(run)}


def study_of(arms: dict[str, int], **changes) -> Pretrained:
    return Pretrained(task={**TASK, **changes}, lr={"low": 1e-4, "high": 1e-2}, num_trials=4, arms=arms)


def run_of(arm: str, **changes) -> Run:
    return Run(EXPERIMENT, arm, 900, {**TASK, "lr": 3e-3, **changes})


# --- the trained part -----------------------------------------------------------------------------------------------


def test_the_last_layers_give_the_model_s_own_logits_and_gradients():
    model, tokens = weights.MODELS["tiny"].make(), torch.arange(48).view(3, 16)
    last, whole = LastLayers(model, 2), Whole(model)
    gradients = []
    for network in (last, whole):
        logits = network(network.entering(tokens))
        gradients.append(torch.autograd.grad(logits.square().sum(), last.trainable))
        torch.testing.assert_close(logits, model(tokens).logits)
    torch.testing.assert_close(*gradients)


def test_only_the_last_layers_and_the_norm_move():
    start = Start(Task.from_config(TASK), ON_CPU)
    before = {name: p.clone() for name, p in start.model.named_parameters()}
    assert start.trained(run_of("emo"))
    moved = {name for name, p in start.model.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[2] for name in moved if "layers" in name} == {"1", "2"}
    assert {name for name in moved if "layers" not in name} == {"model.norm.weight"}


@pytest.mark.parametrize("layers", [2, None])
def test_every_arm_starts_from_one_repaired_checkpoint(layers):
    first = measured(run_of("mle", trainable_layers=layers))
    others = [measured(run_of(arm, trainable_layers=layers)) for arm in ("emo", "emo_permuted", "mle_plus_4_energy")]
    assert measured(run_of("mle", trainable_layers=layers)) == first
    (trial,) = pretrained.measure_pretrained_trial(run_of("mle", trainable_layers=layers))
    assert (trial.split, trial.value) == ("validation", first["validation", "loss_nats"])
    assert len({of["test", "loss_nats"] for of in (first, *others)}) == 4
    starts = [
        measured(Run(START, name, 900, {**TASK, "trainable_layers": layers}))["test", "loss_nats"]
        for name in pretrained.STARTS
    ]
    assert starts[0] > starts[1] > first["test", "loss_nats"]


@pytest.mark.parametrize("arm", ["emo_permuted", "emo_energy"])  # all of their code, and both autograd functions
def test_half_precision_on_parts_of_a_batch_learns_what_float32_learns(arm):
    # The profile gpu's way, on a processor; evaluations are float32 in any case.
    whole = {"trainable_layers": None}
    single = measured(run_of(arm, **whole))
    half = measured(run_of(arm, **whole, precision="bfloat16", micro_batch=3))
    assert half["test", "loss_nats"] == pytest.approx(single["test", "loss_nats"], rel=0.01)
    assert half != single


def test_a_run_that_diverges_says_so():
    assert all(np.isnan(value) for value in measured(run_of("mle", lr=1e30)).values())


def test_searches_and_runs_fit_together():
    study = study_of({"mle": 2, "emo": 2, "emo_glove": 1}, glove=True)
    assert [search.arm for search in study.searches()] == ["mle", "emo"]
    runs = study.reports([{"lr": 1e-3}, {"lr": 2e-3}], [7, 8])
    assert [(run.experiment, run.arm, run.seed, run.config.get("lr")) for run in runs] == [
        (START, "as_shipped", 7, None), (START, "repaired", 7, None),
        (EXPERIMENT, "mle", 7, 1e-3), (EXPERIMENT, "emo", 7, 2e-3), (EXPERIMENT, "emo_glove", 7, 2e-3),
        (EXPERIMENT, "mle", 8, 1e-3), (EXPERIMENT, "emo", 8, 2e-3),
    ]  # fmt: skip
    json.dumps([dict(run.config) for run in runs])


@pytest.mark.parametrize(
    ("task", "arm", "message"),
    [
        ({"repair": {"corpus": "sotu", "steps": 3, "lr": 1e-3}}, "mle", "repair.corpus sotu"),
        ({"model": "gpt2"}, "mle", "trainable_layers must be null"),
        ({}, "emo_glove", "task.glove is false"),
        ({"generation": GENERATION}, "mle", r"has \['emo'\]"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(task, arm, message):
    with pytest.raises(ValueError, match=message):
        study_of({arm: 1}, **task)


# --- weights --------------------------------------------------------------------------------------------------------


def test_the_extra_its_lock_and_the_code_name_the_same_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lock = (ROOT / "requirements-pretrained.lock").read_text("utf-8")
    extra = dict(pin.split("==") for pin in project["optional-dependencies"]["pretrained"])
    assert extra.items() >= weights.PACKAGES.items()
    assert dict(re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", lock, re.M)) == extra
    assert lock.count("\n") == 2 * len(extra)


def test_missing_packages_are_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(weights, "PACKAGES", {"no-such-weights": "1.0", "numpy": "0.1"})
    with pytest.raises(FileNotFoundError, match=r"no-such-weights==1.0, numpy==0.1 .*make pretrained NAME=emo"):
        study_of({"mle": 1}, model="smollm2").require()


def test_a_token_without_a_vector_costs_one_to_all(monkeypatch, tmp_path):
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(["Peace peace war"] * 9, vocab_size=280, show_progress=False)
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"index": ["war", "peace"]}), tmp_path / "data/glove_6B_index.parquet")
    np.save(tmp_path / "data/glove_6B_50d_emb.npy", np.array([[1, 0], [3, 4]], np.float32))
    monkeypatch.setattr(weights, "_folder", lambda _: tmp_path)
    monkeypatch.setattr(weights, "_tokenizer", lambda _: tokenizer)
    rows = weights.glove_cost("smollm2", tokenizer.get_vocab_size()).rows
    peace, war = tokenizer.encode(" peace").ids, tokenizer.encode(" war").ids
    assert len(peace) == len(war) == 1
    assert rows[war[0]] @ rows[peace[0]] == pytest.approx(0.6)
    assert (rows[0] @ rows.T == 0).all()


def write_gpt2(home: Path) -> None:
    """Write a tiny GPT-2, its tokenizer and a made-up WikiText-2 to where the hub's cache has them."""
    rows = [f" = Stone {i} = \n" if i % 5 == 0 else " the stone church of the valley \n" for i in range(60)]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(rows, vocab_size=270, show_progress=False)
    for file in (*weights.GPT2, *weights.WIKITEXT_2.values()):
        path = home / f"{file.kind}s--{file.repository.replace('/', '--')}" / "snapshots" / file.revision / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.name == "tokenizer.json":
            tokenizer.save(str(path))
        elif file.kind == "dataset":
            pq.write_table(pa.table({"text": rows}), path)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 280}
    folder = home / "models--openai-community--gpt2" / "snapshots" / weights.GPT2[0].revision
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)


def test_gpt2_of_the_hub_is_trained_and_writes_by_the_same_code(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    changes = {"corpus": "wikitext_2", "trainable_layers": None, "repair": None, "generation": GENERATION}
    study = study_of({"mle": 1, "emo": 1}, model="gpt2", **changes)
    with pytest.raises(FileNotFoundError, match=r"config\.json .*hf download"):
        study.require()
    write_gpt2(tmp_path)
    monkeypatch.setitem(weights.MODELS, "gpt2", weights.MODELS["gpt2"]._replace(separator=0))
    study.require()
    start, _, emo = study.reports([{"lr": 3e-3}] * 2, [900])
    assert len(weights.texts("gpt2", "wikitext_2", "test")) == 12  # articles
    found = measured(emo)
    assert found["test", "loss_nats"] < measured(start)["test", "loss_nats"]
    assert 0 <= found["test", "mauve_score"] <= found["test", "gold_mauve_score"] <= 1
    assert found["none", "decoding_temperature_ratio"] in GENERATION["temperatures"]


@pytest.mark.soak
def test_smollm2_predicts_speeches_and_its_repair_helps(monkeypatch):
    pytest.importorskip("gguf", reason="`make weights` has not been run")
    monkeypatch.undo()
    repair = {"corpus": "python_docs", "steps": 8, "lr": 1e-4}
    small = {**TASK, "model": "smollm2", "context": 64, "repair": repair, "validation_windows": 8, "test_windows": 8}
    losses = [measured(Run(START, name, 900, small))["test", "loss_nats"] for name in pretrained.STARTS]
    assert losses[1] < losses[0] < 4.5


# --- what is written ------------------------------------------------------------------------------------------------


def test_the_score_is_one_for_identical_samples_near_zero_for_disjoint_ones_and_falls_between():
    rng = np.random.default_rng(0)
    gold, far = rng.normal(size=(2, 256, 8)) + np.array([0, 20])[:, None, None]
    scores = [generation.mauve_score(np.concatenate([far[:n], gold[n:]]), gold, 3) for n in (0, 64, 128, 192, 256)]
    assert scores[0] == pytest.approx(1, abs=1e-9)
    assert scores[-1] < 0.03
    assert (np.diff(scores) < -0.05).all()


def test_the_score_is_symmetric_and_high_for_two_samples_of_one_law():
    one, other = np.random.default_rng(0).normal(size=(2, 512, 4)) + 1
    assert generation.mauve_score(one, other, 5) == pytest.approx(generation.mauve_score(other, one, 5), abs=0.03)
    assert generation.mauve_score(one, other, 5) > 0.85


def test_sampling_repeats_and_its_cache_changes_nothing():
    model = weights.MODELS["tiny"].make()
    prefixes = torch.arange(20).view(4, 5)
    written = generation.sample(model, prefixes, 6, 1.0, 0.9, seed=3)
    assert torch.equal(written, generation.sample(model, prefixes, 6, 1.0, 0.9, seed=3))
    assert not torch.equal(written, generation.sample(model, prefixes, 6, 1.0, 0.9, seed=4))
    greedy = generation.sample(model, prefixes, 6, 1e-6, 1.0, seed=3)
    for length in range(5, 11):
        whole = torch.cat([prefixes, greedy], 1)[:, : length + 1]
        assert torch.equal(model(whole[:, :-1]).logits[:, -1].argmax(1), whole[:, -1])


def test_the_nucleus_is_the_smallest_set_that_reaches_its_share():
    p = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    assert (generation.nucleus(p, 0.7) > 0).tolist() == [[False, True, False, True]]
    assert (generation.nucleus(p, 0.8) > 0).tolist() == [[False, True, True, True]]
    assert generation.nucleus(p, 1.0) is p


def test_divergence_distinct_and_repetition_of_known_texts():
    a, b = torch.tensor([[0, 1, 0, 1]]), torch.tensor([[2, 3, 2, 3]])
    assert generation.unigram_divergence(a, a) == 0
    assert generation.unigram_divergence(a, b) == pytest.approx(np.log(2))
    assert generation.distinct_share(a.unfold(1, 2, 1).flatten(0, 1)) == pytest.approx(2 / 3)
    assert generation.repetition_share(torch.arange(10)[None]) == 0
    assert generation.repetition_share(torch.zeros(2, 8, dtype=torch.long)) == pytest.approx(0.8)

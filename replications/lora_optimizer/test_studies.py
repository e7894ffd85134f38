"""The studies: arms part only in how they step, trials never see the test split, gains are fixed before use."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from tokenizers import ByteLevelBPETokenizer
from torch import nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaModel

from paperkit.config import read_yaml
from paperkit.hardware import ON_CPU
from paperkit.runs import Run
from paperkit.tuning import Tuned
from replications.lora_optimizer import estimands, experiment, figures
from replications.lora_optimizer.factors import linear_weights
from replications.lora_optimizer.studies import adaptation, continued, encoder, weights
from replications.lora_optimizer.studies.adaptation import PRIMARY, RATIOS, Adaptation
from replications.lora_optimizer.studies.arms import optimizer_of
from replications.lora_optimizer.studies.costs import measure_costs
from replications.lora_optimizer.studies.encoder import Encoder
from replications.lora_optimizer.studies.frontier import Frontier, drift

PARAMS = Path(__file__).with_name("params.yaml")
PROFILES = read_yaml(PARAMS)
SMOKE = PROFILES["smoke"]
TASK = {**SMOKE["adaptation"]["task"], "vocabulary": 300, "pretraining_steps": 4, "curve_points": 0}
CLASSES = SMOKE["encoder"]["task"]
CONTINUED = {
    "model": "tiny", "source": "python_docs", "target": "sotu", "context": 8, "batch": 2, "steps": 10,
    "repair": {"steps": 10, "lr": 1e-3}, "evaluation_windows": 4,
}  # fmt: skip
ARMS = (
    "full", "lora_4", "lora_4_a0", "lora_4_both", "lora_4_ga", "lora_4_frozen", "lora_4_serial", "lora_4_ratio_16",
    "lora_4_decay", "ones_1", "signs_1", "galore_4", "sgd", "resampled_8",
)  # fmt: skip
COLUMNS = ["experiment", "arm", "seed", "config", "split", "step", "metric", "value", "status"]


@pytest.fixture(autouse=True)
def few_texts(monkeypatch):
    """Made-up texts in the place of tables, whose tokenizer takes long."""

    def stream(split, vocabulary, corpus):
        rng = np.random.default_rng(len(split))
        texts = [np.append(0, rng.zipf(1.5, 200) % (vocabulary - 1) + 1) for _ in range(5)]
        return torch.from_numpy(np.concatenate(texts))

    speeches = pd.DataFrame({"year": [1790, 2020], "text": ["peace and union " * 40, "jobs and people " * 40]})
    monkeypatch.setattr(adaptation, "token_stream", stream)
    monkeypatch.setattr(adaptation, "read_table", lambda *_, **__: speeches)
    pages = pd.DataFrame({"path": ["library/a.rst", "faq.rst"], "text": ["return none " * 40, "why is it so " * 40]})
    monkeypatch.setattr(encoder, "read_table", lambda name, **_: speeches if name == "sotu" else pages)
    monkeypatch.setattr(weights, "_documents", lambda corpus, split: [f"{corpus} {split} of words " * 20])
    for cached in (adaptation.domain_stream, adaptation._pretrained, weights.stream, encoder._made, continued._made):
        cached.cache_clear()


def measured(arm, name="adapt", seed=3, measure=adaptation.measure_adaptation, **changes):
    run = Run(name, arm, seed, {**TASK, "lr": 1e-2, **changes})
    return {(m.split, m.metric): m.value for m in measure(run)}


# --- adaptation ------------------------------------------------------------------------------------------------------


def test_arms_of_a_seed_start_alike_and_end_apart():
    ends = {arm: measured(arm)["test", "loss_nats"] for arm in ARMS}
    assert len(set(ends.values())) == len(ARMS)
    assert measured("lora_4")["test", "loss_nats"] == ends["lora_4"]
    starts = {seed: measured("sgd", seed=seed)["test", "start_loss_nats"] for seed in (3, 4)}
    assert starts[3] == measured("full")["test", "start_loss_nats"] != starts[4]


@pytest.mark.parametrize("arm", ["sgd", "resampled_8", "full", "lora_4", "ones_4"])
@pytest.mark.parametrize("others", [False, True])
def test_only_matrices_move_unless_others_are_trained_too(arm, others):
    run = Run("adapt", arm, 3, {**TASK, "lr": 1e-1, "others": others})
    model, start = adaptation._started(run), adaptation._started(run)
    for _ in adaptation._adapted(run, model):
        pass
    named = zip(model.named_parameters(), start.parameters(), strict=True)
    moved = {name for (name, after), before in named if not torch.equal(after, before)}
    matrices = {name for name, _ in linear_weights(model)}
    assert moved >= matrices
    assert (moved == matrices) != others


def test_a_trial_never_sees_the_test_split():
    trial = measured("lora_4", "adapt_search", measure=experiment.measure_run)
    target = measured("sgd", "frontier_sgd_targets", measure=experiment.measure_run)
    assert {split for split, _ in (*trial, *target)} == {"validation"}


def test_a_run_that_diverges_says_so():
    assert not np.isfinite(measured("sgd", lr=1e30)["test", "loss_nats"])
    assert not np.isfinite(
        measured("sgd", "frontier_sgd", measure=adaptation.measure_frontier, lr=1e30)["test", "gain_nats"]
    )


def test_a_larger_scale_of_a_start_with_b_zero_is_a_larger_rate_for_sgd_like_bases():
    plain, scaled = measured("lora_4", lr=1e-3), measured("lora_4", lr=1e-3, alpha=16.0)
    assert scaled["test", "loss_nats"] < plain["test", "loss_nats"]


def test_full_training_has_the_direction_of_itself_and_a_low_rank_not_quite():
    of = measured("lora_4", "geometry", full_lr=1e-2)
    assert 0 < of["none", "direction_cosine"] < 1
    assert 0 < of["none", "second_order_share"] < 0.5
    same = measured("lora_16", "geometry", full_lr=1e-2)
    assert same["none", "direction_cosine"] > of["none", "direction_cosine"]


def test_the_schedule_reaches_both_factors_and_ends_at_zero():
    model = nn.Linear(4, 3, bias=False)
    optimizer = optimizer_of("lora_2_ratio_16", linear_weights(model), {"lr": 0.1}, steps=10, seed=0)
    for _ in range(10):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    before = model.weight.clone()
    optimizer.optimizers[0].param_groups[0]["lr"] = 0.0
    optimizer.optimizers[0].step()
    assert torch.equal(model.weight, before)


def tuned_of(search, lucky=()):
    lowest = 1.0 if search.arm in lucky else 2.0
    return Tuned([{"lr": lr} for lr in search.space["lr"]], [{1000: lowest}, {1000: 3.0}])


def test_reports_are_paired_and_take_the_rate_of_their_own_search():
    study = Adaptation.model_validate(SMOKE["adaptation"])
    outcomes = [tuned_of(search, {"lora_4_ratio_16"}) for search in study.searches()]
    runs = study.reports(outcomes, [5, 6])
    assert len({(r.experiment, r.arm, r.seed) for r in runs}) == len(runs)
    for arm in PRIMARY:
        name = "adapt_sgd" if arm in PRIMARY[:2] else "adapt"
        assert [r.seed for r in runs if (r.experiment, r.arm) == (name, arm)] == [5, 6]
    longer = [r for r in runs if r.experiment == "adapt_4_times"]
    assert {r.config["steps"] for r in longer} == {40}
    assert {r.arm for r in longer} == {*PRIMARY, "full"}
    ratios = {r.arm: r.config["as"] for r in runs if r.experiment == "adapt_ratio"}
    assert ratios == {"equal_rates": RATIOS[0], "best_ratio": "lora_4_ratio_16"}
    (slow,) = {r.config["lr"] for r in runs if r.experiment == "penalty"}
    assert slow == study.sgd_rates[0] / 4


# --- forgetting ------------------------------------------------------------------------------------------------------


def test_gains_are_shares_of_what_the_weakest_arm_gains_at_its_best_rate():
    frontier = Frontier("frontier_x", {"strong": [1.0, 2.0], "weak": [1.0, 2.0]}, {"steps": 3}, 1)
    best = {("strong", 1.0): 0.9, ("strong", 2.0): 0.5, ("weak", 1.0): 0.2, ("weak", 2.0): 0.4}
    runs = frontier.target_runs([1000, 1001])
    rows = [
        [{"arm": r.arm, "config": r.config, "value": best[r.arm, r.config["lr"]] + (r.seed - 1000.5) / 10}]
        for r in runs
    ]
    assert frontier.gains(rows) == [0.1, 0.2, 0.3]
    assert [r.seed for r in frontier.runs([0.1], [5, 6])] == [5] * 4


def curve(arm, points, gains=(0.1, 0.2, 0.3)):
    return [
        ("frontier_sgd", arm, 1, f'{{"gains": {list(gains)}, "lr": {lr}}}', "test", 9, metric, value, "ok")
        for lr, (gain, loss) in enumerate(points, start=1)
        for metric, value in (("gain_nats", gain), ("source_loss_nats", loss), ("start_source_loss_nats", 3.0))
    ]


def test_forgetting_is_read_at_equal_gain_on_the_branch_below_the_best_rate():
    sgd = curve("sgd", [(0.2, 3.2), (0.4, 3.4), (0.3, 5.0)])  # the last rate is beyond the best, and not read
    runs = pd.DataFrame(sgd + curve("resampled_8", [(0.3, 3.6), (0.1, 7.0)]), columns=COLUMNS)
    assert estimands.forgetting_of_sgd(runs).to_dict() == pytest.approx({1: 3.3 - 3.6})
    assert estimands.forgetting_of_sgd_at_a_quarter(runs).to_dict() == pytest.approx({1: 3.1 - 3.2})
    short = pd.DataFrame(sgd + curve("resampled_8", [(0.25, 3.6)]), columns=COLUMNS)
    assert np.isnan(estimands.forgetting_of_sgd(short)[1])
    assert estimands.forgetting_of_sgd(runs.iloc[:0]).empty


def test_the_price_of_resampling_has_the_slope_of_its_variance():
    rows = [("sgd", "start_loss_nats", 9.0), ("sgd", "loss_nats", 4.0)]
    rows += [(f"resampled_{r}", "loss_nats", 4 + 0.2 / r) for r in (1, 2, 4, 8, 16)]
    runs = pd.DataFrame(
        [("penalty", arm, 1, "{}", "test", 9, metric, value, "ok") for arm, metric, value in rows], columns=COLUMNS
    )
    assert estimands.penalty_slope(runs)[1] == pytest.approx(1)
    assert estimands.penalty_slope(runs.iloc[:0]).empty


def test_a_model_has_not_drifted_from_itself():
    start, model = (
        adaptation._make(adaptation.Task.from_config(TASK)),
        adaptation._make(adaptation.Task.from_config(TASK)),
    )
    tokens = torch.arange(32).view(2, 16)
    assert drift(start, model, tokens) > 0.01
    model.load_state_dict(start.state_dict())
    assert drift(start, model, tokens) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_pretrained_model_is_continued_from_one_repaired_checkpoint(precision):
    run = Run("continued", "lora_4", 3, {**CONTINUED, "lr": 1e-2, "precision": precision, "gains": [0.1]})
    found, again = ({m.metric: m.value for m in continued.measure_continued(run)} for _ in range(2))
    assert found == again
    assert found["gain_nats"] > 0
    full = {m.metric: m.value for m in continued.measure_continued(Run("continued", "full", 3, run.config))}
    assert full["start_source_loss_nats"] == found["start_source_loss_nats"]
    assert full["gain_nats"] != found["gain_nats"]


# --- the encoder -----------------------------------------------------------------------------------------------------


def run_of(arm, name="encoder", **changes):
    return Run(name, arm, 3, {**CLASSES, "lr": 1e-2, **changes})


def test_the_layers_below_are_computed_once_and_padding_changes_nothing():
    start = encoder.Start(encoder.Task.from_config(CLASSES), ON_CPU)
    tokens, _ = encoder.cut(start.task, "test")
    padded = functional.pad(tokens, (0, 3), value=weights.SPECIAL["tiny_encoder"][2])
    nn.init.normal_(start.network.head.weight)
    states = start.network.model(tokens).last_hidden_state.mean(1)
    for some in (tokens, padded):
        logits = start.network(start.network.entering(some))
        torch.testing.assert_close(logits, start.network.head(states), atol=0.02, rtol=0.02)


def test_encoder_arms_share_their_start_and_only_their_matrices_and_head_move():
    found = {
        arm: {m.metric: m.value for m in encoder.measure_encoder(run_of(arm))} for arm in ("head", "full", "lora_8")
    }
    assert len({of["loss_nats"] for of in found.values()}) == 3
    assert {m.metric: m.value for m in encoder.measure_encoder(run_of("full"))} == found["full"]
    (trial,) = encoder.measure_encoder_trial(run_of("full"))
    assert (trial.split, trial.step) == ("validation", 10)
    wrong = {m.metric: m.value for m in encoder.measure_encoder(run_of("full", lr=1e30))}
    assert np.isnan(wrong["accuracy_points"])


def test_a_class_is_a_period_or_a_section():
    task = encoder.Task.from_config({**CLASSES, "years": 10})
    assert {label for _, label in encoder.documents(task, "test")} == {0, 23}
    sections = task.model_copy(update={"classes": "sections"})
    assert [label for _, label in encoder.documents(sections, "test")] == [1, 0]


def test_both_forms_are_one_on_an_encoder_and_not_without_the_scale():
    run = run_of("lora_8", "encoder_equality", equality_steps=4)
    equal, control = (m.value for m in encoder.measure_encoder(run))
    assert equal < 1e-12 < 0.1 < control


def test_searches_and_runs_of_the_encoder_fit_together():
    study = Encoder.model_validate(SMOKE["encoder"])
    runs = study.reports([Tuned([{"lr": 0.8}], [{1000: 1.0}]) for _ in study.searches()], [5, 6])
    (scaled,) = [r for r in runs if r.experiment == "encoder_alpha"]
    assert (scaled.config["lr"], scaled.config["alpha"]) == (0.4, 16.0)
    assert [r.seed for r in runs if (r.experiment, r.arm) == ("encoder", "lora_8")] == [5, 6]


# --- scales, costs, figures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_a_configuration(profile):
    experiment.Config.model_validate(PROFILES[profile])


def test_models_of_the_hub_are_trained_by_the_same_code(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="hf download"):
        weights.require("roberta", ("sst2",))
    rows = [f" = Stone {i} = \n" if i % 5 == 0 else " the stone church of the valley \n" for i in range(60)]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(rows, vocab_size=270, show_progress=False)
    monkeypatch.setattr(weights, "HELD_OUT", 10)
    models = {
        "gpt2": GPT2LMHeadModel(GPT2Config(
            n_embd=16, n_layer=2, n_head=2, n_positions=64, vocab_size=280, bos_token_id=0, eos_token_id=0
        )),
        "roberta": RobertaModel(RobertaConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=280,
            max_position_embeddings=64,
        ), add_pooling_layer=False),
    }  # fmt: skip
    for file in (*weights.HUB["gpt2"], *weights.HUB["roberta"], *weights.WIKITEXT_2.values(), *weights.SST2.values()):
        path = (
            tmp_path / f"{file.kind}s--{file.repository.replace('/', '--')}" / "snapshots" / file.revision / file.name
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.name == "tokenizer.json":
            tokenizer.save(str(path))
        elif file.kind == "dataset":
            pq.write_table(pa.table({"text": rows, "sentence": rows, "label": [i % 2 for i in range(60)]}), path)
    for name, model in models.items():
        model.save_pretrained(weights.HUB[name][2].path().parent)  # beside the tokenizer
    weights.require("roberta", ("sst2",))
    texts = {"classes": "sst2", "model": "roberta", "trainable_layers": None}
    found = {m.metric: m.value for m in encoder.measure_encoder(run_of("lora_8", **texts))}
    assert 0 <= found["accuracy_points"] <= 100
    task = {**CONTINUED, "model": "gpt2", "source": "wikitext_2", "target": "wikitext_2", "repair": None, "lr": 1e-2}
    of = {m.metric: m.value for m in continued.measure_continued(Run("continued", "lora_4", 3, task))}
    assert of["gain_nats"] > 0


@pytest.mark.parametrize("rank", [2, 4])
def test_what_a_form_holds_is_what_its_formula_says(rank):
    forms = {}
    for arm in ("full", "inside", "optimizer_form", "incremental", "released", "galore"):
        run = Run(f"costs_16_{rank}", arm, 0, {"width": 16, "rank": rank, "tokens": 8})
        forms[arm] = {m.metric: m.value for m in measure_costs(run)}
    for arm in ("inside", "optimizer_form", "incremental", "released"):
        assert forms[arm]["moment_bytes"] == forms[arm]["moments_of_factors_bytes"]
    assert forms["full"]["moment_bytes"] == forms["full"]["moments_of_full_bytes"]
    assert forms["released"]["gradient_bytes"] == 4 * 4 * 16 * 16  # the largest matrix alone
    assert forms["optimizer_form"]["activation_bytes"] == forms["full"]["activation_bytes"]
    assert forms["inside"]["flops"] < forms["full"]["flops"] < forms["incremental"]["flops"]


def test_figures_find_the_ranks_by_their_names():
    runs = pd.DataFrame([("adapt", arm) for arm in ("lora_16", "lora_4_ga", "lora_2")], columns=["experiment", "arm"])
    assert figures._ranks(runs, "adapt", "lora") == {2: "lora_2", 16: "lora_16"}

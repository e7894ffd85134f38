"""The studies: arms part only in how they step, trials never see the test split, gains are fixed before use."""

from math import sqrt
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
from paperkit.hub import HubFile
from paperkit.runs import Run
from paperkit.tuning import Tuned
from replications.lora_optimizer import estimands, experiment, figures
from replications.lora_optimizer.optimizer import linear_weights
from replications.lora_optimizer.studies import adaptation, continued, encoder, weights
from replications.lora_optimizer.studies.adaptation import PRIMARY, RATIOS, Adaptation
from replications.lora_optimizer.studies.arms import optimizer_of
from replications.lora_optimizer.studies.forms import INPUTS, OUTPUTS, Forms
from replications.lora_optimizer.studies.frontier import Frontier, drift

SMOKE, CPU = (read_yaml(Path(__file__).with_name("params.yaml"))[profile] for profile in ("smoke", "cpu"))
TASK = {**SMOKE["adaptation"]["task"], "vocabulary": 300, "pretraining_steps": 4, "curve_points": 0, "lr": 1e-2}
CLASSES = {**SMOKE["encoder"]["task"], "lr": 1e-2}
CONTINUED = {
    "model": "tiny", "source": "python_docs", "target": "sotu", "context": 8, "batch": 2, "steps": 10,
    "repair": {"steps": 10, "lr": 1e-3}, "evaluation_windows": 4, "lr": 1e-2,
}  # fmt: skip
ARMS = (*PRIMARY, *SMOKE["adaptation"]["arms"], "lora_4_ratio_16", "lora_4_decay")


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


def measured(name, arm, config=TASK, *, seed=3, **changes):
    """Return what a run reports last of each metric; its split is in `splits`."""
    rows = list(experiment.measure_run(Run(name, arm, seed, {**config, **changes})))
    return {row.metric: row.value for row in rows} | {"splits": {row.split for row in rows}}


def test_arms_of_a_seed_start_alike_and_end_apart():
    ends = {arm: measured("adapt", arm)["loss_nats"] for arm in ARMS}
    assert len(set(ends.values())) == len(ARMS)
    assert measured("adapt", "lora_4")["loss_nats"] == ends["lora_4"]
    starts = {seed: measured("adapt", "sgd", seed=seed)["start_loss_nats"] for seed in (3, 4)}
    assert starts[3] == measured("adapt", "full")["start_loss_nats"] != starts[4]


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
    for name, config in (("adapt_search", TASK), ("frontier_sgd_targets", TASK), ("encoder_search", CLASSES)):
        assert measured(name, "lora_4", config)["splits"] == {"validation"}


def test_a_run_that_diverges_says_so():
    for name, config in (("adapt", TASK), ("frontier_sgd", TASK), ("encoder", CLASSES)):
        found = measured(name, "full", config, lr=1e30)
        assert not np.isfinite(found.get("accuracy_points", found["gain_nats" if "frontier" in name else "loss_nats"]))


def test_a_larger_scale_of_a_start_with_b_zero_is_a_larger_rate_for_sgd_like_bases():
    plain, scaled = (measured("adapt", "lora_4", lr=1e-3, **alpha) for alpha in ({}, {"alpha": 16.0}))
    assert scaled["loss_nats"] < plain["loss_nats"]


def test_full_training_has_the_direction_of_itself_and_a_low_rank_not_quite():
    low, high = (measured("geometry", arm, full_lr=1e-2) for arm in ("lora_4", "lora_16"))
    assert 0 < low["direction_cosine"] < high["direction_cosine"] < 1
    assert 0 < low["second_order_share"] < 0.5


def test_the_schedule_reaches_both_factors_and_ends_at_zero():
    model = nn.Linear(4, 3, bias=False)
    optimizer = optimizer_of("lora_2_ratio_16", linear_weights(model), {"lr": 0.1}, steps=10, seed=0)
    for _ in range(11):
        before = model.weight.clone()
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    assert torch.equal(model.weight, before)


def test_reports_are_paired_and_take_the_rate_of_their_own_search():
    study = Adaptation.model_validate(SMOKE["adaptation"])
    losses = {"lora_4_ratio_16": 1.0}  # at the first rate; all others have 2
    tuned = [
        Tuned([{"lr": lr} for lr in search.space["lr"]], [{1000: losses.get(search.arm, 2.0)}, {1000: 3.0}])
        for search in study.searches()
    ]
    runs = study.reports(tuned, [5, 6])
    assert len({(r.experiment, r.arm, r.seed) for r in runs}) == len(runs)
    for arm in PRIMARY:
        name = "adapt_sgd" if arm in PRIMARY[:2] else "adapt"
        assert [r.seed for r in runs if (r.experiment, r.arm) == (name, arm)] == [5, 6]
    longer = {(r.arm, r.config["steps"]) for r in runs if r.experiment == "adapt_4_times"}
    assert longer == {(arm, 40) for arm in (*PRIMARY, "full")}
    ratios = {r.arm: r.config["as"] for r in runs if r.experiment == "adapt_ratio"}
    assert ratios == {"equal_rates": RATIOS[0], "best_ratio": "lora_4_ratio_16"}
    assert {r.config["lr"] for r in runs if r.experiment == "penalty"} == {study.sgd_rates[0] / 4}


def test_gains_are_shares_of_what_the_weakest_arm_gains_at_its_best_rate():
    frontier = Frontier("frontier_x", {"strong": [1.0, 2.0], "weak": [1.0, 2.0]}, {"steps": 3}, 1)
    best = {("strong", 1.0): 0.9, ("strong", 2.0): 0.5, ("weak", 1.0): 0.2, ("weak", 2.0): 0.4}
    rows = [
        [{"arm": r.arm, "config": r.config, "value": best[r.arm, r.config["lr"]] + (r.seed - 1000.5) / 10}]
        for r in frontier.target_runs([1000, 1001])
    ]
    assert frontier.gains(rows) == [0.1, 0.2, 0.3]
    assert [r.seed for r in frontier.runs([0.1], [5, 6])] == [5] * 4


def table(experiment_name, **points):
    """Make runs of one seed, one a rate, from the gains and losses of each arm."""
    columns = ["experiment", "arm", "seed", "config", "split", "step", "metric", "value", "status"]
    rows = [
        (experiment_name, arm, 1, f'{{"gains": [0.1, 0.2, 0.3], "lr": {lr}}}', "test", 9, metric, value, "ok")
        for arm, of_arm in points.items()
        for lr, found in enumerate(of_arm, start=1)
        for metric, value in found.items()
    ]
    return pd.DataFrame(rows, columns=columns)


def test_forgetting_is_read_at_equal_gain_on_the_branch_below_the_best_rate():
    def curves(**points):
        names = "gain_nats", "source_loss_nats", "start_source_loss_nats"
        of = {arm: [dict(zip(names, (*p, 3.0), strict=True)) for p in of_arm] for arm, of_arm in points.items()}
        return table("frontier_sgd", **of)

    sgd = [(0.2, 3.2), (0.4, 3.4), (0.3, 5.0)]  # the last rate is beyond the best, and not read
    runs = curves(sgd=sgd, resampled_8=[(0.3, 3.6), (0.1, 7.0)])
    assert estimands.forgetting_of_sgd(runs).to_dict() == pytest.approx({1: 3.3 - 3.6})
    assert estimands.forgetting_of_sgd_at_a_quarter(runs).to_dict() == pytest.approx({1: 3.1 - 3.2})
    assert np.isnan(estimands.forgetting_of_sgd(curves(sgd=sgd, resampled_8=[(0.25, 3.6)]))[1])
    assert estimands.forgetting_of_sgd(runs.iloc[:0]).empty


def test_the_price_of_resampling_has_the_slope_of_its_variance():
    resampled = {f"resampled_{r}": [{"loss_nats": 4 + 0.2 / r}] for r in (1, 2, 4, 8, 16)}
    runs = table("penalty", sgd=[{"start_loss_nats": 9.0, "loss_nats": 4.0}], **resampled)
    assert estimands.penalty_slope(runs)[1] == pytest.approx(1)
    assert estimands.penalty_slope(runs.iloc[:0]).empty


def test_a_model_has_not_drifted_from_itself():
    start, model = (adaptation._make(adaptation.Task.from_config(TASK)) for _ in range(2))
    tokens = torch.arange(32).view(2, 16)
    assert drift(start, model, tokens) == pytest.approx(drift(start, model, tokens.repeat(9, 1)), rel=1e-5)
    assert drift(start, model, tokens) > 0.01
    model.load_state_dict(start.state_dict())
    assert drift(start, model, tokens) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_pretrained_model_is_continued_from_one_repaired_checkpoint(precision):
    changes = {"precision": precision, "gains": [0.1]}
    found, again, full = (measured("continued", arm, CONTINUED, **changes) for arm in ("lora_4", "lora_4", "full"))
    assert found == again
    assert found["gain_nats"] > 0
    assert full["start_source_loss_nats"] == found["start_source_loss_nats"]
    assert full["gain_nats"] != found["gain_nats"]


def test_the_layers_below_are_computed_once_and_padding_changes_nothing():
    start = encoder.Start(encoder.Task.from_config(CLASSES), ON_CPU)
    tokens, _ = encoder.cut(start.task, "test")
    for _, weight in linear_weights(start.network):  # else attention is too weak to tell
        nn.init.normal_(weight, std=0.3)
    expected = start.network.head(start.network.model(tokens).last_hidden_state.mean(1))
    for padding in (0, 3):
        padded = functional.pad(tokens, (0, padding), value=weights.SPECIAL["tiny_encoder"][2])
        torch.testing.assert_close(start.network(start.network.entering(padded)), expected, atol=0.02, rtol=0.02)


def test_encoder_arms_share_their_start_and_only_their_matrices_and_head_move():
    found = {arm: measured("encoder", arm, CLASSES) for arm in ("head", "full", "lora_8")}
    assert len({of["loss_nats"] for of in found.values()}) == 3
    assert measured("encoder", "full", CLASSES) == found["full"]


def test_a_class_is_a_period_or_a_section():
    task = encoder.Task.from_config({**CLASSES, "years": 10})
    assert {label for _, label in encoder.documents(task, "test")} == {0, 23}
    sections = task.model_copy(update={"classes": "sections"})
    assert [label for _, label in encoder.documents(sections, "test")] == [1, 0]


def test_both_forms_are_one_on_an_encoder_and_not_without_the_scale():
    found = measured("encoder_equality", "lora_8", CLASSES, equality_steps=4)
    assert found["difference_ratio"] < 1e-12 < 0.1 < found["control_ratio"]


def test_searches_and_runs_of_the_encoder_fit_together():
    study = encoder.Encoder.model_validate(SMOKE["encoder"])
    runs = study.reports([Tuned([{"lr": 0.8}], [{1000: 1.0}]) for _ in study.searches()], [5, 6])
    (scaled,) = [r.config for r in runs if r.experiment == "encoder_alpha"]
    assert (scaled["lr"], scaled["alpha"]) == (0.4, 16.0)
    assert [r.seed for r in runs if (r.experiment, r.arm) == ("encoder", "lora_8")] == [5, 6]


def test_models_of_the_hub_are_trained_by_the_same_code(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="hf download"):
        weights.require("roberta", ("sst2",))
    monkeypatch.setattr(HubFile, "path", lambda file: tmp_path / file.repository.replace("/", "-") / file.name)
    monkeypatch.setattr(weights, "HELD_OUT", 10)
    rows = [f" = Stone {i} = \n" if i % 5 == 0 else " the stone church of the valley \n" for i in range(60)]
    for file in (*weights.WIKITEXT_2.values(), *weights.SST2.values()):
        file.path().parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": rows, "sentence": rows, "label": [i % 2 for i in range(60)]}), file.path())
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(rows, vocab_size=270, show_progress=False)
    sizes = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 280, "bos_token_id": 0,
        "eos_token_id": 0, "max_position_embeddings": 64,
    }  # fmt: skip
    roberta = RobertaModel(RobertaConfig(**sizes, intermediate_size=32), add_pooling_layer=False)
    for name, model in {"gpt2": GPT2LMHeadModel(GPT2Config(**sizes)), "roberta": roberta}.items():
        folder = weights.HUB[name][2].path().parent
        model.save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
    found = measured("encoder", "lora_8", CLASSES, classes="sst2", model="roberta", trainable_layers=None)
    assert 0 <= found["accuracy_points"] <= 100
    texts = {"source": "wikitext_2", "target": "wikitext_2", "repair": None}
    assert measured("continued", "lora_4", CONTINUED, model="gpt2", gains=[0.1], **texts)["gain_nats"] > 0


@pytest.mark.parametrize("rank", [2, 4])
def test_what_a_form_holds_is_what_its_formula_says(rank):
    config = {"width": 16, "rank": rank, "tokens": 8}
    full, inside, optimizer_form, incremental, released, _ = (
        measured(f"costs_16_{rank}", arm, config)
        for arm in ("full", "inside", "optimizer_form", "incremental", "released", "galore")
    )
    for form in (inside, optimizer_form, incremental, released):
        assert form["moment_bytes"] == form["moments_of_factors_bytes"]
    assert full["moment_bytes"] == full["moments_of_full_bytes"]
    assert released["gradient_bytes"] == 4 * 4 * 16 * 16  # the largest matrix alone
    assert optimizer_form["activation_bytes"] == full["activation_bytes"]
    assert inside["flops"] < full["flops"] < incremental["flops"]


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-10), ("float32", 1e-2)])
def test_both_forms_are_equal_to_rounding_and_not_without_the_scale(dtype, bound):
    for steps in ([1], [1, 3]):
        found = measured("forms_equality", dtype, {"steps": steps})
        assert found["difference_ratio"] < bound < 0.05
    assert found["control_ratio"] > 0.05


def test_the_second_order_is_nothing_at_first_and_grows_with_the_rate():
    config = {"steps": 2, "lr": 0.1}
    small, large = (measured("forms_second_order", "lr", config, lr=lr)["second_order_share"] for lr in (0.1, 0.2))
    assert measured("forms_second_order", "lr", config, steps=1)["second_order_share"] == 0  # B is
    # On the second step B is in proportion to the rate, so the share is to its square.
    assert large == pytest.approx(4 * small, rel=0.2)


def test_the_variance_of_draws_is_that_of_the_formula():
    found = measured("forms_variance", "resampled_2", {"rank": 2, "draws": 2000})
    formulas = {"one_sided": (INPUTS + 1) / 2, "two_sided": (INPUTS + OUTPUTS + 2) / 8}
    for side, formula in formulas.items():
        assert found[f"{side}_variance_ratio"] == pytest.approx(formula, rel=5 / sqrt(2000))


def test_a_larger_rank_stands_a_larger_rate():
    low, high = (measured("forms_cliff", "resampled", {"rank": r, "steps": 20})["largest_lr"] for r in (1, 16))
    assert 0 < low < high < 2


def test_runs_take_the_first_seeds():
    study = Forms.model_validate(CPU["forms"])
    assert {run.seed for run in study.runs(CPU["seeds"])} == set(CPU["seeds"][: study.num_seeds])


def test_figures_find_the_ranks_by_their_names_and_draw_theory_for_the_matrix_that_is_measured():
    assert (figures.INPUTS, figures.OUTPUTS) == (INPUTS, OUTPUTS)
    runs = pd.DataFrame([("adapt", arm) for arm in ("lora_16", "lora_4_ga", "lora_2")], columns=["experiment", "arm"])
    assert figures._ranks(runs, "adapt", "lora") == {2: "lora_2", 16: "lora_16"}

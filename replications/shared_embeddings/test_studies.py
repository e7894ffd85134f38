"""The studies train and measure what they say; made-up text and few steps keep them cheap."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from paperkit import texts
from paperkit.runs import Run, seeds_of
from replications.shared_embeddings.embedding import initial_sigma, predicted_initial_loss
from replications.shared_embeddings.studies import (
    curves,
    drawings,
    first_loss,
    initial_loss,
    language_model,
    rare_rows,
)
from tests.made_up_text import made_up_stream

TEXT = {
    "vocabulary": 300, "width": 16, "layers": 1, "heads": 2, "context": 16, "batch": 4, "steps": 12,
    "warmup_steps": 2, "positions": False, "windows": 8, "training_tokens": 0, "evaluations": 3, "curve": True,
}  # fmt: skip
LION = {
    "vocabulary": 16, "width": 8, "batch": 16, "steps": 300, "rare_probability": 0.005, "lr": 1e-2,
    "weight_decay": 1.0,
}  # fmt: skip
FIRST = {
    "vocabulary": 300, "width": 256, "layers": 1, "heads": 2, "context": 16, "positions": False, "branches": False,
    "windows": 64, "gradient_windows": 2,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def made_up_text():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "token_stream", made_up_stream)
        yield


def curve_run(arm, seed=0, **changes):
    return Run("curves", arm, seed, {**TEXT, "lr": 1e-2, **changes})


def values(measurements):
    return {(each.split, each.metric, each.step): each.value for each in measurements}


@cache
def measured(arm, seed=0):
    return list(curves.measure_curve(curve_run(arm, seed)))


# --- Training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", curves.ARMS)
def test_the_same_run_gives_the_same_numbers_and_another_seed_others(arm):
    assert measured(arm) == list(curves.measure_curve(curve_run(arm)))
    assert measured(arm) != measured(arm, seed=1)
    assert all(math.isfinite(each.value) for each in measured(arm))


def test_half_precision_and_micro_batches_change_a_run_by_rounding_alone():
    for changes in ({"precision": "bfloat16"}, {"micro_batch": 3}):
        coarse = list(curves.measure_curve(curve_run("half_swap", **changes)))
        assert coarse != measured("half_swap")
        assert values(coarse) == pytest.approx(values(measured("half_swap")), rel=0.01)


def test_arms_of_a_seed_share_batches_and_initial_numbers():
    windows = []
    for arm in curves.ARMS:
        run = curve_run(arm, seed=5)
        windows.append([x for x, _ in curves.Training.from_config(run.config).batches(seeds_of(5)[1])])
        model = curves.make_model(run)
        torch.testing.assert_close(
            model.blocks[0].mlp_input.weight, curves.make_model(curve_run("tied", 5)).blocks[0].mlp_input.weight
        )
        if arm != "factorised":
            unit = model.token_embedding.weight / initial_sigma(300, 16, curves.HEAD_OF.get(arm, arm))
            tied = curves.make_model(curve_run("tied", 5)).token_embedding.weight * 4
            torch.testing.assert_close(unit, tied)
    assert all(torch.equal(torch.stack(of_arm), torch.stack(windows[0])) for of_arm in windows)


def test_residual_branches_start_at_zero_and_positions_where_they_are_told():
    size = language_model.LanguageModel(vocabulary=300, width=16, layers=2, heads=2, context=16)
    tokens = torch.arange(12).view(1, 12)
    for positions, branches in ((False, False), (True, False), (False, True)):
        torch.manual_seed(0)
        gpt = language_model.make_gpt(size, sigma=0.25, positions=positions, branches=branches)
        bigram = gpt.final_norm(gpt.token_embedding(tokens))
        assert torch.allclose(gpt(tokens), bigram, atol=1e-6) == (not positions and not branches)
    torch.manual_seed(0)
    gpt = language_model.make_gpt(size, sigma=0.5, positions=True, branches=False)
    assert float(gpt.position_embedding.weight.detach().std()) == pytest.approx(0.5, rel=0.15)
    assert float(gpt.token_embedding.weight.detach().std()) == pytest.approx(0.5, rel=0.05)


def test_a_run_learns_and_reports_its_parameters():
    found = values(curves.measure_curve(curve_run("half_swap", steps=60)))
    assert found["test", "loss_nats", 60] < math.log(300) - 0.5
    counts = {
        arm: values(measured(arm))["none", "parameters", 12]
        for arm in ("tied", "half_swap", "shuffle", "small_sigma", "untied", "orthogonal", "factorised")
    }
    assert counts["tied"] == counts["half_swap"] == counts["shuffle"] == counts["small_sigma"]
    assert counts["untied"] - counts["tied"] == 300 * 16
    assert counts["orthogonal"] - counts["tied"] == 256
    inner = language_model.factorised_width(300, 16)
    assert 0 <= counts["tied"] - counts["factorised"] < 2 * (300 + 16)
    assert counts["factorised"] - counts["tied"] == 2 * inner * 316 - 300 * 16


def test_a_diverged_run_reports_no_number():
    found = list(curves.measure_curve(curve_run("tied", lr=1e30)))
    assert {(each.split, each.metric) for each in found} >= {("test", "loss_nats"), ("train", "area_nats")}
    assert all(math.isnan(each.value) for each in found)
    assert all(each.split == "validation" for each in curves.measure_trial(curve_run("tied", lr=1e30)))


def test_a_trial_is_the_same_run_and_never_looks_at_the_test_split(monkeypatch):
    report = [each for each in measured("tied") if each.split == "validation"]
    right = curves.Training.loss

    def loss_but_for_test(task, model, split, windows):
        assert split == "validation", "a trial looks at the test split"
        return right(task, model, split, windows)

    monkeypatch.setattr(curves.Training, "loss", loss_but_for_test)
    with pytest.raises(AssertionError, match="looks at the test split"):
        list(curves.measure_curve(curve_run("tied")))
    assert list(curves.measure_trial(curve_run("tied"))) == report


def test_the_best_evaluation_is_chosen_on_validation_and_read_on_test(monkeypatch):
    made_up = {"validation": iter([3.0, 1.0, 2.0]), "test": iter([30.0, 20.0, 10.0])}
    monkeypatch.setattr(curves.Training, "loss", lambda _task, _model, split, _windows: next(made_up[split]))
    found = values(curves.measure_curve(curve_run("tied")))
    assert (found["validation", "best_loss_nats", 12], found["test", "best_loss_nats", 12]) == (1.0, 20.0)
    assert (found["validation", "loss_nats", 12], found["test", "loss_nats", 12]) == (2.0, 10.0)


def test_summaries_describe_the_curve_as_the_claims_fixed_it():
    losses = np.concatenate([np.full(40, 6.0), np.full(60, 4.0)])
    found = curves.summaries(losses, threshold=5.1)
    assert found["area_nats"] == pytest.approx(4.8)
    assert found["early_area_nats"] == 6.0
    assert found["late_area_nats"] == 4.0
    # Ten losses have a mean of 5 when five of them are 4.
    assert found["steps_to_threshold"] == 45
    assert curves.summaries(losses, threshold=3.0)["steps_to_threshold"] == 101
    assert curves.summaries(losses[:5], threshold=9.0)["steps_to_threshold"] == 6


@pytest.mark.parametrize("steps", [12, 80, 256, 400])
def test_parts_of_a_curve_are_few_and_average_to_what_they_cover(steps):
    losses = np.random.default_rng(0).random(steps)
    parts = curves.curve_parts(losses)
    assert len(parts) <= 30
    ends = np.array(list(parts))
    lengths = np.diff(ends, prepend=0)
    assert np.dot(lengths, list(parts.values())) / ends[-1] == pytest.approx(losses[: ends[-1]].mean())


def test_the_scaled_head_starts_as_plain_tying_and_moves_its_table_by_as_much_with_its_own_rate():
    losses, tables = {}, {}
    for arm in ("tied", "scaled", "scaled_table_rate"):
        run = curve_run(arm, steps=4)
        model = curves.make_model(run)
        start = model.token_embedding.weight.detach().clone()
        losses[arm] = list(curves.training(run, model))
        tables[arm] = float((model.token_embedding.weight.detach() - start).norm() / start.norm())
    assert losses["scaled"][0] == losses["scaled_table_rate"][0] == pytest.approx(losses["tied"][0], rel=1e-4)
    assert tables["scaled_table_rate"] == pytest.approx(tables["tied"], rel=0.1)
    assert tables["scaled"] < 0.4 * tables["tied"]


def test_the_other_text_is_what_follows_the_speeches(monkeypatch):
    speeches = {"train": 2, "validation": 1, "test": 1}
    joined = {split: torch.tensor([0, 7, 8] * number + [0, 5] * 40 + [0, 6]) for split, number in speeches.items()}
    monkeypatch.setattr(texts, "token_stream", lambda split, _vocabulary, _corpus: joined[split])
    monkeypatch.setattr(curves, "read_table", lambda _name, columns, split: [columns] * speeches[split])
    task = curves.Training(**TEXT | {"corpus": "sotu_and_python_docs"})
    for split in speeches:
        assert task.stream(split).tolist() == [0, 5] * 40 + [0, 6]
        assert 7 not in task.even_windows(split, 4)[0]
    assert torch.equal(task.text, task.stream("train"))
    assert 7 in curves.Training(**TEXT).stream("train")
    assert task.in_runs["corpus"] == "sotu_and_python_docs"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"evaluations": 13}, "evaluations 13 must be at most steps = 12"),
        ({"training_tokens": 31}, "training_tokens 31 must be 0 or at least two contexts, 32"),
    ],
)
def test_a_task_out_of_range_is_refused_by_name(changes, told):
    with pytest.raises(ValueError, match=told):
        curves.Training(**{**TEXT, **changes})


# --- Untrained models ----------------------------------------------------------------------------------------------


def test_an_untrained_gpt_starts_at_the_bigram_formula():
    found = {
        each.metric: each.value for each in first_loss.measure_first_loss(Run("first_loss", "all_heads", 0, FIRST))
    }
    expected = predicted_initial_loss(300, 256, 1 / 16, "tied") - 16 * found["repeated_share"]
    assert found["repeated_share"] > 0.02
    # Few tokens make up most of this text, and the norm of each one's row moves the mean.
    assert found["tied_loss_nats"] == pytest.approx(expected, abs=0.6)
    for name in ("untied", "orthogonal", "half_swap", "shuffle"):
        assert found[f"{name}_loss_nats"] == pytest.approx(math.log(300) + 0.5, abs=0.3)
    assert found["tied_gradient_norm"] > found["half_swap_gradient_norm"]


def test_the_simulated_losses_are_near_their_predictions():
    for arm, config in (("own", {}), ("constant", {"sigma": 0.05})):
        run = Run("initial_loss", arm, 0, {"n": 1000, "d": 64, "inputs": 512, **config})
        found = {each.metric: each.value for each in initial_loss.measure_initial_loss(run)}
        names = initial_loss.ARMS[arm]
        assert {f"{name}_loss_nats" for name in names} <= set(found)
        for name in names:
            assert found[f"{name}_loss_nats"] == pytest.approx(found[f"{name}_predicted_nats"], abs=0.25)
        assert list(initial_loss.measure_initial_loss(run)) == list(initial_loss.measure_initial_loss(run))


# --- Rare rows, figures --------------------------------------------------------------------------------------------


def test_an_unseen_token_is_neither_input_nor_target_and_half_of_the_targets_follow():
    task, follows = rare_rows.Bigram(**{**LION, "batch": 20_000}), np.arange(16)[::-1]
    inputs, targets = rare_rows.draw_pairs(np.random.default_rng(0), task, follows)
    assert max(inputs.max(), targets.max()) < rare_rows.token_classes(16)["unseen"].start
    # Where the fixed function leads to an unseen token, the token itself follows.
    fixed = np.where(follows[inputs] >= 14, inputs, follows[inputs])
    assert 0.5 < (targets == fixed).mean() < 0.75


def test_an_untied_row_that_never_comes_only_decays_and_the_bound_is_kept():
    found = {}
    for arm in rare_rows.ARMS:
        rows = list(rare_rows.measure_rare_rows(Run("rare_rows", arm, 0, LION)))
        found[arm] = {each.metric: each.value for each in rows}
    assert rows == list(rare_rows.measure_rare_rows(Run("rare_rows", arm, 0, LION)))
    decayed = (1 - 1e-2) ** 300
    torch.manual_seed(0)
    start = torch.randn(16, 8)[14:] / math.sqrt(8)
    assert found["untied"]["unseen_largest"] == pytest.approx(decayed * float(start.abs().max()), rel=1e-3)
    for of_arm in found.values():
        assert all(value <= 1 + 2 * decayed for value in of_arm.values())
    # What pushes unseen rows is the output side, which a shared table has.
    assert found["tied"]["unseen_largest"] > 3 * found["untied"]["unseen_largest"]


def test_scores_and_self_logits_are_those_of_the_map():
    for arm in ("tied", "half_swap", "signed_swap"):
        rows = [
            [each.value for each in drawings.measure_scores(Run("scores", arm, 0, {"row": row}))]
            for row in range(drawings.TOKENS)
        ]
        sign = -1 if arm == "signed_swap" else 1
        np.testing.assert_allclose(rows, sign * np.transpose(rows), atol=1e-12)
    means = {
        arm: next(iter(drawings.measure_self_logits(Run("self_logits", arm, 0, {})))).value for arm in drawings.MAPS
    }
    assert means["tied"] == pytest.approx(8, abs=0.1)
    assert means["shuffle_square"] == pytest.approx(1, abs=0.05)
    assert means["shuffle"] == pytest.approx(0.25, abs=0.05)
    assert means["signed_swap"] == pytest.approx(0, abs=1e-9)

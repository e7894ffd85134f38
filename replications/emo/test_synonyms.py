"""The truth of the synthetic synonyms, the exact distances to it, and what the arms of a seed share."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from paperkit.runs import Run, seeds_of
from paperkit.tuning import LogRange
from replications.emo.loss import UnitEmbedding
from replications.emo.studies import synonyms
from replications.emo.studies.arms import objective
from replications.emo.studies.synonyms import ARMS, SELECTIONS, Synonyms, Task

SETTING = {
    "classes": 4, "synonyms": 3, "cost_width": 6, "width": 12, "batch": 64, "steps": 60, "evaluate_every": 10,
    "held_out_share": 0.2,
}  # fmt: skip
STUDY = Synonyms(
    task=SETTING, sizes=[200, 400], cost_noise=0.5, noises=[0.0, 2.0], middle=400, lr=LogRange(low=1e-3, high=1e-1),
    num_trials=2, num_seeds=2, num_exploratory_seeds=1, num_long_seeds=1,
)  # fmt: skip


def run_of(arm="mle", **changes):
    config = {**SETTING, "pairs": 400, "cost_noise": 0.5, "lr": 0.02, "selection": "raw", **changes}
    return Run("synonyms_400", arm, 3, config)


@cache
def world_of(**changes):
    return synonyms.make_world(Task.from_config(run_of(**changes).config), 3)


def values(measurements):
    return {(each.split, each.metric): each.value for each in measurements}


def test_the_truth_is_a_distribution_whose_parts_are_those_of_classes_and_synonyms():
    p = np.exp(world_of().log_p).reshape(12, 4, 3)
    np.testing.assert_allclose(p.sum((1, 2)), 1, rtol=1e-12)
    of_classes, within = p.sum(2), p / p.sum(2, keepdims=True)
    np.testing.assert_allclose(of_classes, of_classes[::3].repeat(3, 0), rtol=1e-12)  # x counts by its class
    np.testing.assert_allclose(within, within[:1].repeat(12, 0), rtol=1e-12)  # B does not depend on x
    # The entropy is that of the class and that of the synonym given the class.
    parts = -(of_classes * np.log(of_classes)).sum(1) - of_classes @ (within[0] * np.log(within[0])).sum(1)
    gap = synonyms.distances(world_of().log_p, np.zeros((12, 12)))["entropy_gap_nats"]
    assert gap == pytest.approx(math.log(12) - parts.mean(), rel=1e-12)


def test_the_distances_are_those_of_a_plain_loop():
    log_p, logits = world_of().log_p, np.random.default_rng(0).standard_normal((12, 12))
    p, q = np.exp(log_p), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = synonyms.distances(log_p, logits + 5)
    cells = list(zip(p.ravel().tolist(), q.ravel().tolist(), strict=True))
    kl, reverse = (sum(a * math.log(a / b) for a, b in some) / 12 for some in (cells, [(b, a) for a, b in cells]))
    total_variation = sum(abs(a - b) for a, b in cells) / 24
    assert list(found.values())[:3] == pytest.approx([kl, reverse, total_variation], rel=1e-12)


def test_n_pairs_of_the_truth_count_the_held_out_ones_which_are_never_trained_on():
    world, larger = world_of(), world_of(pairs=40_000)
    assert (len(world.held_out), len(world.training)) == (80, 320)
    drawn, of_larger = (np.concatenate([of.held_out, of.training]) for of in (world, larger))
    np.testing.assert_array_equal(drawn, of_larger[:400])  # a larger N adds pairs
    seen, expected = np.bincount(of_larger @ [12, 1], minlength=144), 40_000 * np.exp(world.log_p).ravel() / 12
    assert (np.abs(seen - expected) / np.sqrt(expected)).max() < 4.5
    assert world.batches.max() == 319  # the batches index the training pairs alone
    np.testing.assert_array_equal(np.sort(world.batches.ravel()[:320]), np.arange(320))  # a pass sees each once


@pytest.mark.parametrize("arm", [*ARMS, *synonyms.EXPLORATORY])
def test_arms_of_a_seed_share_world_batches_and_initialisation_and_take_the_steps_that_autograd_takes(arm):
    # The world is drawn without an arm, and so is that which is looked at here.
    run, world = run_of(arm, steps=5, evaluate_every=5), world_of(steps=5, evaluate_every=5)
    _, found = next(synonyms.logits_on_the_way(run, world))
    initial = torch.from_numpy(np.random.default_rng(seeds_of(run.seed)[0]).standard_normal((24, 12))).float()
    inputs, outputs = (torch.nn.Parameter(synonyms.INITIAL * part) for part in initial.split(12))
    bias = torch.nn.Parameter(torch.zeros(12))
    optimizer = torch.optim.Adam([inputs, outputs, bias], lr=0.02)
    cost = UnitEmbedding(world.random if arm == "emo_random" else world.true)
    for batch in world.batches:
        x, y = torch.from_numpy(world.training[batch]).T
        optimizer.zero_grad()
        objective(arm)(inputs[x] @ outputs.T + bias, y, cost).backward()
        optimizer.step()
    torch.testing.assert_close(found, (inputs @ outputs.T + bias).detach(), rtol=1e-3, atol=1e-4)


def test_mle_on_many_pairs_approaches_the_truth_and_a_good_cost_without_debiasing_stays_away():
    many = {"pairs": 30_000, "held_out_share": 0.1, "batch": 256, "steps": 400, "evaluate_every": 50, "lr": 0.005}
    kl = {arm: values(synonyms.measure_synonyms(run_of(arm, **many)))["test", "kl_nats"] for arm in ("mle", "emo")}
    assert kl["mle"] < 0.01 < 0.05 < kl["emo"]


def test_held_out_losses_are_the_cross_entropy_after_a_temperature():
    logits, pairs = torch.randn(12, 12, generator=torch.Generator().manual_seed(0)), world_of().held_out
    x, y = torch.from_numpy(pairs).T
    for at in (synonyms.AT_ONE, 345):
        expected = torch.nn.functional.cross_entropy(logits[x].double() * synonyms.FINE[at], y)
        assert synonyms.held_out_losses(logits, pairs)[at] == pytest.approx(float(expected), abs=1e-5)


def test_a_trial_has_the_losses_of_both_reports_the_tempered_one_not_larger_and_divergence_gives_nan(monkeypatch):
    found = {name: values(synonyms.measure_synonyms(run_of("emo", selection=name))) for name in ("raw", "tempered")}
    losses = {("validation", metric): found[name]["validation", metric] for name, metric in SELECTIONS.items()}
    assert values(synonyms.measure_synonyms_trial(run_of("emo"))) == losses
    assert losses["validation", "tempered_loss_nats"] < losses["validation", "loss_nats"]
    assert found["raw"]["none", "temperature_ratio"] == 1 < found["tempered"]["none", "temperature_ratio"]
    monkeypatch.setattr(synonyms, "objective", lambda _: lambda logits, *_: logits.sum() * math.nan)
    diverged = values(synonyms.measure_synonyms(run_of("emo")))
    assert diverged.keys() == found["raw"].keys()
    assert all(math.isnan(value) for value in diverged.values())


def test_both_selections_share_their_trials_and_every_arm_is_reported_under_both():
    searches = STUDY.searches()
    trials = [(of.experiment, of.arm, tuple(of.task.items())) for of in searches]
    assert all(trials.count(trial) == 2 for trial in trials)
    runs = STUDY.reports([{"lr": 0.01 * (k + 1)} for k in range(len(searches))], [7, 8, 9])
    assert len({(run.experiment, run.arm, run.seed) for run in runs}) == len(runs) == 2 * 2 * (2 * 10 + 2 + 1) + 4
    assert (runs[0].experiment, runs[0].config["steps"]) == ("synonyms_400_long", 240)
    usual = next(run for run in runs if (run.experiment, run.arm) == ("synonyms_400", "mle"))
    assert runs[0].config["lr"] == usual.config["lr"] / 4

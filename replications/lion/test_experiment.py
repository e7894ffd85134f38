"""The experiment compares what it says it compares."""

from pathlib import Path

import numpy as np
import pytest
import torch

from paperkit.config import ConfigError, parse, read_profile
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Run
from replications.lion import experiment
from replications.lion.estimands import step_1_magnitude
from replications.lion.optimizer import Lion

PARAMS = Path(__file__).with_name("params.yaml")


@pytest.fixture(scope="module")
def smoke():
    return read_profile(experiment.Config, PARAMS, "smoke")


@pytest.fixture
def language_run(smoke):
    def make(arm, seed, **changes):
        task = smoke.language_model.model_dump()
        point = {"lr": 3e-3, "weight_decay": 0.1, "betas": [0.9, 0.99]}
        return Run("lm_quality", arm, seed, {**task, **point, **changes})

    return make


def test_the_same_run_gives_the_same_numbers_and_another_seed_others(language_run):
    first = list(experiment.measure_language_model(language_run("lion", 0)))
    assert first == list(experiment.measure_language_model(language_run("lion", 0)))
    assert first != list(experiment.measure_language_model(language_run("lion", 1)))


def test_arms_of_a_seed_share_initialisation_and_batches(language_run):
    frozen = {"lr": 0.0}  # nothing is learnt, so any difference would come from initialisation or windows
    losses = {arm: list(experiment.measure_language_model(language_run(arm, 5, **frozen))) for arm in experiment.ARMS}
    assert losses["adamw"] == losses["lion"]


def test_a_run_learns(language_run):
    measured = list(experiment.measure_language_model(language_run("adamw", 0, steps=60)))
    final = {m.split: m.value for m in measured if m.step == 60}
    assert final["test"] < np.log(512) - 0.5


def test_a_diverged_run_reports_no_number_for_both_splits(language_run):
    measured = list(experiment.measure_language_model(language_run("adamw", 0, lr=1e30)))
    final = [m for m in measured if m.step == 20]
    assert {m.split for m in final} == {"validation", "test"}
    assert all(np.isnan(m.value) for m in final)


def test_both_arms_decay_the_same_tensors():
    model = TinyGPT(vocabulary=300, width=8, layers=1, heads=2, context=4)
    config = {"lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.99]}
    adamw, lion = (experiment.make_optimizer(arm, model, config) for arm in experiment.ARMS)
    assert isinstance(lion, Lion)
    for one, other in zip(adamw.param_groups, lion.param_groups, strict=True):
        assert one["weight_decay"] == other["weight_decay"]
        assert [id(p) for p in one["params"]] == [id(p) for p in other["params"]]


def test_the_cpu_profile_gives_both_arms_one_box_and_reports_seeds_that_did_not_select():
    config = read_profile(experiment.Config, PARAMS, "cpu")
    spaces = [config.search.space(arm) for arm in experiment.ARMS]
    assert spaces[0]["lr"] == spaces[1]["lr"]
    assert spaces[0]["weight_decay"] == spaces[1]["weight_decay"]
    assert len(spaces[0]["betas"]) == len(spaces[1]["betas"])
    assert config.search.run_seed not in config.seeds
    assert len(set(config.seeds)) == len(config.seeds) >= 8


def test_windows_of_a_split_stay_inside_it(smoke):
    stream = experiment.token_stream("test", 512)
    inputs, targets = next(experiment.batches(stream, smoke.language_model, seed=0))
    assert inputs.shape == targets.shape == (smoke.language_model.batch, smoke.language_model.context)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert int(stream.max()) < 512


@pytest.mark.parametrize(
    ("block", "changes", "told"),
    [
        ("language_model", {"heads": 0}, "heads"),
        ("language_model", {"heads": 3}, "width 32 must be a multiple of heads 3"),
        ("language_model", {"warmup_steps": 19}, "warmup_steps 19 must be at most steps - 2 = 18"),
        ("language_model", {"curve_points": 21}, "curve_points 21 must be at most steps = 20"),
        ("search", {"num_trials": 3}, "num_trials 3 must be a power of two"),
        ("search", {"betas": {"adamw": [[0.9, 0.95]]}}, "each of .* needs the same number"),
        ("search", {"betas": {"adamw": [[0.9]], "lion": [[0.9, 0.99]]}}, "betas.adamw"),
        ("search", {"betas": {"adamw": [[0.9, 1.0]], "lion": [[0.9, 0.99]]}}, "betas.adamw"),
        ("search", {"run_seed": 2}, "must differ from each other and from search.run_seed 2"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_runs(smoke, block, changes, told):
    content = smoke.model_dump()
    with pytest.raises(ConfigError, match=told):
        parse(experiment.Config, {**content, block: {**content[block], **changes}}, source="params.yaml")


def test_every_check_has_an_estimand():
    names = {
        name
        for name in experiment.CHECKS
        if not hasattr(__import__("replications.lion.estimands", fromlist=["x"]), name)
    }
    assert not names
    assert step_1_magnitude.keywords == {"check": "step_1_magnitude"}

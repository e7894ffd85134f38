import math
from pathlib import Path

import numpy as np
import pytest
import torch

from paperkit.config import ConfigError, parse, read_profile, read_yaml
from paperkit.runs import Run
from replications.attention_scale import timing
from replications.attention_scale.experiment import Config, make_model, measure, measure_rows, measure_trial
from replications.attention_scale.scale import annealed_optimum, cosine_optimum

PARAMS = Path(__file__).with_name("params.yaml")
CONFIG = read_profile(Config, PARAMS, "smoke")


def task(study, arm, **changes):
    chosen = CONFIG.studies[study]
    return {**CONFIG.task_of(chosen).in_runs, **chosen.arms[arm].model_dump(), "lr": 0.01, **changes}


def test_the_scales_compared_are_the_posts_optima_for_half_of_the_context():
    config = read_profile(Config, PARAMS, "cpu")
    for study, arm in (("short", "scale_1_38"), ("long_rows", "scale_1_71")):
        half = config.task_of(config.studies[study]).context // 2
        assert config.studies[study].arms[arm].scale == pytest.approx(annealed_optimum(math.log(half)), abs=5e-3)
    cosine, sizes = config.studies["cosine"].arms, config.task
    head = sizes.width // sizes.heads
    assert cosine["cosine_optimum"].scale == pytest.approx(cosine_optimum(sizes.context // 2, head), abs=5e-3)
    assert cosine["cosine_root"].scale == pytest.approx(math.sqrt(head), abs=5e-3)


def test_arms_of_a_seed_start_from_the_same_weights_but_for_the_spread():
    plain, spread = (make_model(Run("factorial", arm, 3, task("factorial", arm))) for arm in ("neither", "spread"))
    for (name, first), second in zip(plain.state_dict().items(), spread.state_dict().values(), strict=True):
        torch.testing.assert_close(second, first * (2.5 if name.endswith("query.weight") else 1.0))


@pytest.mark.soak
def test_a_trial_never_looks_at_the_test_text_and_a_report_does():
    run = Run("short", "scale_1", 0, task("short", "scale_1"))
    assert {(m.split, m.metric) for m in measure_trial(run)} == {("validation", "loss_nats")}
    found = {(m.split, m.metric, m.step): m.value for m in measure(run)}
    steps = run.config["steps"]
    assert 3 < found["test", "loss_nats", steps] < 5.6
    assert {step for split, metric, step in found if metric == "score_sd"} == {0, steps // 2, steps}


@pytest.mark.soak
def test_a_run_that_diverges_says_so_and_ends():
    *_, last = measure_trial(Run("short", "scale_1", 0, task("short", "scale_1", lr=1e30)))
    assert math.isnan(last.value)


def test_random_rows_have_the_quantiles_of_their_gradients():
    found = [m for m in measure_rows(Run("random_rows", "n_16", 0, {"n": 16, "rows": 400})) if m.metric == "mass_q50"]
    assert len(found) == 26
    assert found[0].value == pytest.approx(0.5 * (1 - 1 / 16), abs=0.02)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("seeds", [1000, 1], "must differ"),
        ("studies", {"short": {"arms": {"one": {}, "two": {}}, "num_seeds": 3}}, "there are 1"),
        ("task", {"width": 15}, "multiple of heads"),
        ("studies", {"short": {"arms": {"one": {}}, "num_seeds": 1}}, "studies.short.arms"),
        ("studies", {"short": {"arms": {"one": {"scale": 0.0}, "two": {}}, "num_seeds": 1}}, "scale"),
        ("studies", {"short": {"changes": {"context": 0}, "arms": {"one": {}, "two": {}}, "num_seeds": 1}}, "context"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(key, value, told):
    block = read_yaml(PARAMS)["smoke"]
    changed = {**block, key: {**block[key], **value} if key == "task" else value}
    with pytest.raises(ConfigError, match=told):
        parse(Config, changed, source="params.yaml")


def test_a_timing_round_gives_one_ratio():
    settings = read_profile(timing.Config, PARAMS.with_name("timing.yaml"), "smoke")
    run = Run("scale_argument", "attention", 0, settings.model_dump(exclude={"hardware", "rounds"}))
    (found,) = timing.measure(run)
    assert np.isfinite(found.value)
    assert found.value > 0

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from paperkit.runs import Run
from replications.emo.estimands import size_slope, vocabulary_slope
from replications.emo.loss import UnitEmbedding
from replications.emo.studies import continued, from_scratch
from replications.emo.studies.arms import OBJECTIVES, objective
from replications.emo.studies.continued import (
    BOTH,
    Continued,
    domain_stream,
    measure_continued,
    measure_continued_trial,
)
from replications.emo.studies.costs import pmi_vectors, within_deciles
from replications.emo.studies.fixed_points import measure_fixed_point
from replications.emo.studies.measuring import quality

VOCABULARY = 300
TASK = {
    "corpus": BOTH, "vocabulary": VOCABULARY, "width": 8, "layers": 1, "heads": 2, "context": 8, "batch": 2,
    "pretraining_steps": 4, "pretraining_lr": 1e-2, "steps": 4, "evaluation_windows": 4, "curve_points": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_texts(monkeypatch):
    """Two speeches and three pages, where the real ones take the tokenizer half a minute."""

    def stream(split, vocabulary, corpus):
        rng = np.random.default_rng(len(split))
        texts = [np.append(0, rng.zipf(1.5, 200) % (vocabulary - 1) + 1) for _ in range(5)]
        return torch.from_numpy(np.concatenate(texts))

    monkeypatch.setattr(continued, "token_stream", stream)
    monkeypatch.setattr(continued, "read_table", lambda *_, **__: pd.DataFrame(index=range(2)))
    for cached in (continued.domain_stream, continued._pretrained, continued._pmi, continued._counts):
        cached.cache_clear()


def measured(arm, seed=3, measure=measure_continued, **task):
    run = Run("continued", arm, seed, TASK | {"lr": 1e-2} | task)
    return {(m.split, m.step, m.metric): m.value for m in measure(run)}


@pytest.fixture(scope="module")
def logits_and_targets():
    torch.manual_seed(0)
    logits = 2 * torch.randn(3000, 40)
    # Drawn from a distribution that is flatter than the predictions: the best inverse temperature is 0.8.
    return logits, torch.distributions.Categorical(logits=0.8 * logits).sample()


def test_quality_agrees_with_a_computation_by_hand(logits_and_targets):
    logits, targets = logits_and_targets
    cost = UnitEmbedding(torch.randn(40, 5))
    parts = zip(logits.split(1000), targets.split(1000), strict=True)
    of = quality(parts, {"own": cost})
    p = logits.double().softmax(1)
    assert of.loss == pytest.approx(float(functional.cross_entropy(logits.double(), targets)), abs=1e-6)
    assert of.entropy == pytest.approx(float(-(p * p.log()).sum(1).mean()), abs=1e-6)
    assert of.accuracy == pytest.approx(float((p.argmax(1) == targets).double().mean()))
    assert of.overconfidence == pytest.approx(float(p.max(1).values.mean()) - of.accuracy, abs=1e-6)
    costs = 1 - cost.rows.double() @ cost.rows.double().T
    assert of.costs["own"] == pytest.approx(float((p * costs[targets]).sum(1).mean()), abs=1e-5)


def test_the_best_temperature_undoes_too_sharp_predictions(logits_and_targets):
    logits, targets = logits_and_targets
    of = quality([(logits, targets)], {})
    assert of.best_beta == pytest.approx(0.8, abs=0.03)
    for beta in (0.77, 0.8, 1.31):
        by_hand = float(functional.cross_entropy(beta * logits.double(), targets))
        assert of.loss_at(beta) == pytest.approx(by_hand, abs=2e-4)


def test_calibration_error_is_near_zero_of_calibrated_predictions_alone(logits_and_targets):
    logits, targets = logits_and_targets
    assert quality([(0.8 * logits, targets)], {}).calibration_error < 0.03
    assert quality([(2 * logits, targets)], {}).calibration_error > 0.1


def test_every_objective_is_a_mean_over_tokens_whose_gradient_reaches_the_logits():
    logits, cost = torch.randn(2, 3, 7, requires_grad=True), UnitEmbedding(torch.randn(7, 4))
    targets = torch.randint(7, (2, 3))
    for name, loss in OBJECTIVES.items():
        twice = loss(torch.cat([logits, logits]), torch.cat([targets, targets]), cost)
        assert torch.allclose(twice, loss(logits, targets, cost)), name
        (gradient,) = torch.autograd.grad(twice, logits)
        assert gradient.abs().sum() > 0, name


def test_an_arm_with_another_cost_has_the_objective_of_its_name():
    assert objective("emo_permuted") is objective("emo_pmi") is OBJECTIVES["emo"]
    assert objective("emo_weighted") is OBJECTIVES["emo_weighted"]


def test_a_permutation_stays_within_deciles_of_frequency():
    counts = np.random.default_rng(0).integers(1000, size=200)
    order = within_deciles(counts, 1).numpy()
    deciles = np.argsort(np.argsort(counts, kind="stable")) // 20
    assert sorted(order) == list(range(200))
    assert (deciles[order] == deciles).all()
    assert (order != np.arange(200)).mean() > 0.8


def test_word_vectors_of_counts_find_words_of_one_company():
    # Tokens 0 to 4 stand between 10 and 11, tokens 5 to 9 between 12 and 13.
    rng = np.random.default_rng(0)
    words = [(10, rng.integers(5), 11) if rng.random() < 0.5 else (12, 5 + rng.integers(5), 13) for _ in range(4000)]
    rows = functional.normalize(pmi_vectors(torch.tensor(np.array(words).reshape(-1)), 14, 4)[:10])
    cosines = rows @ rows.T
    assert cosines[:5, :5].min() > cosines[:5, 5:10].max()


def test_the_two_texts_are_what_was_joined():
    parts = [domain_stream(domain, "test", VOCABULARY) for domain in ("sotu", "python_docs")]
    assert torch.equal(torch.cat(parts), continued.token_stream("test", VOCABULARY, BOTH))
    assert [int((part == 0).sum()) for part in parts] == [2, 3]
    assert all(int(part[0]) == 0 for part in parts)


def test_arms_of_a_seed_start_from_one_model_and_then_part():
    mle, emo, other = measured("mle"), measured("emo"), measured("mle", seed=4)
    start, end = ("test", 0, "loss_nats"), ("test", 4, "loss_nats")
    assert mle[start] == emo[start] != other[start]
    assert mle[end] != emo[end]


def test_a_run_reports_its_curve_and_a_trial_never_sees_the_test_split():
    of = measured("emo_permuted")
    assert ("validation", 1, "loss_nats") in of
    assert ("test", 4, "transport_pmi_cost") in of
    trial = measured("emo", measure=measure_continued_trial)
    assert {split for split, _, metric in trial if metric.endswith("loss_nats")} == {"validation"}


def test_a_run_that_diverges_says_so_and_a_trial_never_wins():
    assert np.isnan(measured("mle", lr=1e30)["test", 4, "loss_nats"])
    assert np.isnan(measured("mle", lr=1e30, measure=measure_continued_trial)["validation", 4, "loss_nats"])


def test_reports_are_paired_and_take_the_rate_of_their_own_search():
    study = Continued(
        task=TASK, lr={"low": 1e-3, "high": 1e-1}, num_trials=2, num_seeds=2, num_variation_seeds=1, vocabularies=[280]
    )
    points = [{"lr": 0.01 + number / 1000} for number, _ in enumerate(study.searches())]
    runs = study.reports(points, [5, 6])
    for search, point in zip(study.searches(), points, strict=True):
        name = "continued_tempered" if search.metric == "tempered_loss_nats" else "continued"
        found = [run for run in runs if (run.experiment, run.arm) == (name, search.arm)]
        assert [run.seed for run in found] == [5, 6]
        assert {run.config["lr"] for run in found} == {point["lr"]}
    longer = [run for run in runs if run.experiment == "continued_4_times"]
    assert {run.config["steps"] for run in longer} == {16}
    assert len({(r.experiment, r.arm, r.seed) for r in runs}) == len(runs)


def test_a_loss_is_learned_when_nine_tenths_of_its_own_improvement_are_there(monkeypatch):
    world = SimpleNamespace(held_out=np.array([[0, 1], [1, 0]]), log_p=np.zeros((2, 2)), true=torch.eye(2))
    run = Run("scratch_sgd", "mle", 1, {"optimizer": "sgd", "lr": 1.0})
    # The logit of the right token; its loss log(1 + exp(-x)) falls by a half, then to almost nothing.
    tables = [(step, torch.tensor([[0.0, x], [x, 0.0]])) for step, x in ((10, 0.88), (20, 5.0), (30, 5.1))]
    monkeypatch.setattr(from_scratch, "logits_on_the_way", lambda *_: iter(tables))
    monkeypatch.setattr(from_scratch, "make_world", lambda *_: world)
    monkeypatch.setattr(from_scratch.Task, "from_config", lambda *_: None)
    found = {m.metric: m.value for m in from_scratch.measure_scratch(run)}
    assert found["own_improvement_steps"] == 20
    assert found["own_loss_ratio"] == pytest.approx(np.log1p(np.exp(-5.1)) / np.log(2), rel=1e-4)


def test_a_fixed_point_of_mle_is_the_truth_and_that_of_mode_2_is_not():
    config = {"steps": 60, "tokens": 200}
    mle, weighted = (
        {m.metric: m.value for m in measure_fixed_point(Run("fixed_points", arm, 1, config))}
        for arm in ("mle", "emo_weighted")
    )
    assert mle["kl_nats"] == pytest.approx(0, abs=1e-5)
    assert weighted["kl_nats"] > 0.1
    assert mle["gradient_ratio"] < 1e-2


@pytest.mark.parametrize(
    ("estimand", "experiment", "metric"),
    [(size_slope, "synonyms_{}_tempered", "kl_nats"), (vocabulary_slope, "continued_vocabulary_{}", "loss_nats")],
)
def test_a_slope_is_that_of_the_gain_on_the_logarithm_of_the_size(estimand, experiment, metric):
    rows = [
        (experiment.format(size), arm, seed, "test", metric, value, "ok")
        for seed in (1, 2)
        for size in (100, 200, 400)
        for arm, value in (("mle", 5 - seed * np.log(size)), ("emo", 5.0))
    ]
    runs = pd.DataFrame(rows, columns=["experiment", "arm", "seed", "split", "metric", "value", "status"])
    assert estimand(runs).to_dict() == pytest.approx({1: -1, 2: -2})
    assert estimand(runs.iloc[:0]).empty

"""The studies train and measure what they say; made-up text and few steps keep them cheap."""

import copy
import itertools
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from paperkit import texts
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Run
from paperkit.training import Step, train
from replications.lion.noise import adamw_drift, gaussian_drift_ratio, lion_drift
from replications.lion.optimizer import Lion
from replications.lion.studies import ablation, arms, box, derivation, digits, embedding, language_model, updates
from replications.lion.variants import LazyLion, Tiger
from tests.made_up_text import made_up_stream

POINT = {"lr": 1e-2, "weight_decay": 0.1, "betas": [0.9, 0.9]}  # equal betas: some arms have one only
TEXT = {
    "vocabulary": 300, "width": 16, "layers": 1, "heads": 2, "context": 16, "batch": 4, "steps": 12,
    "warmup_steps": 2, "max_gradient_norm": 1.0, "evaluation_windows": 32, "curve_windows": 8, "curve_points": 3,
}  # fmt: skip
ROWS = {**TEXT, "warmup_steps": 0, "total_decay": 1.2, "embedding_lr": 3e-2, "lr": 1e-2}
IMAGES = {"hidden": 8, "samples_seen": 960, "batch": 32}
TASKS = {
    "language_model": (language_model.measure_language_model, {**TEXT, **POINT}),
    "language_model_and_box": (language_model.measure_language_model_and_box, {**TEXT, **POINT}),
    "language_model_trial": (language_model.measure_language_model_trial, {**TEXT, **POINT}),
    "digits": (digits.measure_digits, {**IMAGES, **POINT}),
    "digits_trial": (digits.measure_digits_trial, {**IMAGES, **POINT}),
    "embedding": (embedding.measure_embedding, ROWS),
    "embedding_trial": (embedding.measure_embedding_trial, ROWS),
    "constraint": (ablation.measure_constraint, {**IMAGES, **POINT, "box_decay": 0.1}),
}


@pytest.fixture(scope="module", autouse=True)
def made_up_text():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "token_stream", made_up_stream)
        yield


def measured(task, arm, seed=0, **changes):
    measure, config = TASKS[task]
    return list(measure(Run(task, arm, seed, {**config, **changes})))


def values(measurements):
    return {(each.split, each.metric): each.value for each in measurements}


# --- Every task ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_same_run_gives_the_same_numbers_and_another_seed_others(task):
    first = measured(task, "lion")
    assert first == measured(task, "lion")
    assert first != measured(task, "lion", seed=1)
    assert all(math.isfinite(each.value) for each in first)


@pytest.mark.parametrize(("task", "module"), [("language_model", language_model), ("digits", digits)])
def test_arms_of_a_seed_share_initialisation_and_batches(task, module):
    losses = {}
    for arm, seed in [*((arm, 5) for arm in arms.OPTIMIZERS), ("lion", 6)]:
        # Nothing is learnt: the loss of a step is that of the first weights on the batch of the step.
        run = Run(task, arm, seed, {**TASKS[task][1], "lr": 0.0})
        model = module.make_model(run)
        losses[arm, seed] = [
            step.loss for step in module.training(run, model, arms.make_optimizer(arm, model, run.config))
        ]
    other = losses.pop(("lion", 6))
    assert all(of_arm == losses["adamw", 5] for of_arm in losses.values())
    assert other != losses["adamw", 5]
    assert len(set(other)) == len(other)


def test_a_run_learns():
    text = values(measured("language_model", "adamw", steps=60))
    assert text["test", "loss_nats"] < math.log(300) - 0.5
    for arm in ("adamw", "lion"):
        images = values(measured("digits", arm, samples_seen=6400, hidden=16, lr=1e-2 if arm == "adamw" else 3e-3))
        assert images["test", "error_share"] < 0.5
        assert images["test", "nll_nats"] < math.log(10) - 0.5


@pytest.mark.parametrize("task", ["language_model", "digits", "embedding"])
def test_a_diverged_run_reports_no_number_for_both_splits_at_the_end(task):
    found = measured(task, "adamw", lr=1e30, weight_decay=0.0)
    losses = [each for each in found if each.metric in ("loss_nats", "nll_nats")]
    assert [each.split for each in losses] == ["validation", "test"]
    assert {each.step for each in losses} == {30 if task == "digits" else 12}
    assert all(math.isnan(each.value) for each in found)


def test_a_diverged_run_has_a_row_without_number_for_each_metric_of_its_rows_and_no_head_if_tied():
    for arm, names in (("adamw", ("embedding", "head")), ("lion_tied", ("embedding",))):
        found = values(measured("embedding", arm, lr=1e30, embedding_lr=1e30))
        rows = {metric for split, metric in found if split == "none"}
        metrics = ("rms", *embedding.BEYOND)
        assert rows == {
            f"{name}_{label}_{metric}" for name in names for label in embedding.CLASSES for metric in metrics
        }


@pytest.mark.parametrize("task", ["language_model", "digits", "embedding"])
def test_a_trial_is_the_same_run_and_never_looks_at_the_test_split(task, monkeypatch):
    def refuses(evaluate):
        def evaluate_but_for_test(*args):
            assert "test" not in args, "a trial looks at the test split"
            return evaluate(*args)

        return evaluate_but_for_test

    report = [each for each in measured(task, "lion") if each.split == "validation"]
    monkeypatch.setattr(digits, "evaluate", refuses(digits.evaluate))
    monkeypatch.setattr(language_model.LanguageModel, "loss", refuses(language_model.LanguageModel.loss))
    with pytest.raises(AssertionError, match="looks at the test split"):
        measured(task, "lion")
    assert measured(f"{task}_trial", "lion") == report
    (diverged,) = measured(f"{task}_trial", "adamw", lr=1e30, weight_decay=0.0)
    assert (diverged.split, math.isnan(diverged.value)) == ("validation", True)


def test_the_loss_is_measured_along_a_run_and_at_its_end_and_the_box_after_the_same_run():
    losses, (size, *with_box) = measured("language_model", "lion"), measured("language_model_and_box", "lion")
    places = [(each.split, each.step) for each in losses]
    assert places == [("validation", 4), ("validation", 8), ("validation", 12), ("test", 12)]
    assert size.metric == "parameters"
    assert with_box[: len(losses)] == losses
    assert [each.metric for each in with_box[len(losses) :]] == [f"box_share_0.{tenth}" for tenth in range(10)]
    assert sum(each.value for each in with_box[len(losses) :]) == pytest.approx(1)


# --- Arms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", arms.OPTIMIZERS)
def test_every_arm_decays_all_matrices_alike_and_no_vector(arm):
    model = TinyGPT(vocabulary=300, width=8, layers=1, heads=2, context=4)
    optimizer = arms.make_optimizer(arm, model, POINT)
    decays = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {p: POINT["weight_decay"] if p.ndim >= 2 else 0.0 for p in model.parameters()}
    assert {group["lr"] for group in optimizer.param_groups} == {POINT["lr"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(decays)


def test_tiger_scales_embeddings_row_by_row_and_nothing_else():
    model = TinyGPT(vocabulary=300, width=8, layers=1, heads=2, context=4)
    tiger = arms.make_optimizer("tiger", model, POINT)
    assert isinstance(tiger, Tiger)
    row_wise = {p for group in tiger.param_groups if group["row_wise_rms"] for p in group["params"]}
    assert row_wise == {model.token_embedding.weight, model.position_embedding.weight}


@pytest.mark.parametrize("arm", ["signum", "tiger"])
def test_an_arm_with_one_beta_refuses_two_different_ones(arm):
    with pytest.raises(ValueError, match=r"betas are \(0.9, 0.99\); this optimizer has one beta"):
        arms.make_optimizer(arm, nn.Linear(2, 2), {**POINT, "betas": [0.9, 0.99]})


# --- Digits ----------------------------------------------------------------------------------------------------


def test_the_splits_are_all_images_once_and_each_holds_every_class_in_proportion():
    pixels, labels = load_digits(return_X_y=True)
    splits = {split: digits.images(split) for split in ("train", "validation", "test")}
    together = np.concatenate([np.column_stack([8 * (x.numpy() + 1), y]) for x, y in splits.values()])
    everything = np.column_stack([pixels, labels])
    assert np.array_equal(np.unique(together, axis=0, return_counts=True)[0], np.unique(everything, axis=0))
    assert len(together) == len(everything) == len(np.unique(everything, axis=0))
    for x, y in splits.values():
        expected = np.bincount(labels) * len(y) / len(labels)
        assert np.abs(np.bincount(y) - expected).max() < 1
        assert x.abs().max() == 1
    assert [len(splits[split][1]) for split in ("validation", "test")] == [359, 359]


def test_every_training_image_comes_at_its_nine_shifts_with_background_at_the_border():
    pixels, labels = digits.images("train")
    square = pixels.numpy().reshape(-1, 8, 8)
    shifted, their_labels = digits.shifted_images()
    blocks = shifted.numpy().reshape(9, -1, 8, 8)
    assert torch.equal(their_labels.view(9, -1), labels.expand(9, -1))
    found = []
    for down, right in itertools.product((-1, 0, 1), repeat=2):
        expected = np.pad(square, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
        expected = expected[:, 1 - down : 9 - down, 1 - right : 9 - right]
        found.append([number for number, block in enumerate(blocks) if np.array_equal(block, expected)])
    assert sorted(found) == [[number] for number in range(9)]


def test_the_same_samples_come_in_the_same_order_at_each_batch_size():
    num_images = len(digits.shifted_images()[1])
    seen = num_images // 64 * 64 + 64  # a little more than an epoch
    orders = [
        torch.cat([
            torch.cat([x, y[:, None]], dim=1) for x, y in digits.batches({"samples_seen": seen, "batch": b}, 3)
        ])
        for b in (16, 64)
    ]
    assert len(orders[0]) == seen
    assert torch.equal(*orders)
    other = next(digits.batches({"samples_seen": seen, "batch": 64}, 4))[0]
    assert not torch.equal(other, orders[0][:64, :-1])


# --- The box ---------------------------------------------------------------------------------------------------


def matrix(entries):
    model = nn.Linear(len(entries[0]), len(entries), bias=True).double()
    model.weight.data = torch.tensor(entries, dtype=torch.float64)
    model.bias.data.fill_(1e9)  # vectors do not decay, and have no box
    return model


def test_the_bound_follows_a_schedule_step_by_step():
    decay, rates = 3.0, [0.05, 0.3, 0.01, 0.0, 0.2]
    starts = torch.randn(3, 4, dtype=torch.float64)
    model = matrix(starts.tolist())
    bound, farthest = box.BoxBound(model, decay), starts.abs()
    for lr in rates:
        farthest = (1 - lr * decay) * farthest + lr  # as far out as one step can go
        model.weight.data.normal_()
        excess = (model.weight.detach().abs() - farthest).max()
        assert bound.excess(lr) == pytest.approx(decay * float(excess), abs=1e-12)


@pytest.mark.parametrize("decay", [1.0, 30.0])
def test_training_stays_within_the_bound_and_its_control_breaks_it(decay):
    changes = {"lr": 3e-2, "betas": [0.9, 0.99], "box_decay": decay}
    kept = values(measured("constraint", "lion", weight_decay=decay, **changes))
    broken = values(measured("constraint", "lion", weight_decay=0.0, **changes))
    assert kept["none", "box_excess"] <= 1e-12
    assert broken["none", "box_excess"] > 1e-3
    assert ("none", "box_share_0.0") in kept
    assert ("none", "box_share_0.0") not in broken  # its own box, that of no decay, has no walls
    assert math.isfinite(kept["test", "nll_nats"])


def test_a_learning_rate_too_large_for_the_box_is_refused():
    measured("constraint", "lion", lr=1e-2, weight_decay=100.0, box_decay=100.0)  # η λ = 1 is allowed
    with pytest.raises(ValueError, match=r"0\.01 times box decay 101\.0 is 1\.01, above 1.*lower ablation"):
        measured("constraint", "lion", lr=1e-2, weight_decay=101.0, box_decay=101.0)


def test_a_diverged_run_has_no_excess():
    found = measured("constraint", "adamw", lr=1e200, weight_decay=0.0, box_decay=1e-200)
    assert [each.metric for each in found] == ["box_excess"]
    assert math.isnan(found[0].value)


def test_places_are_shares_of_the_tenths_of_the_box_and_the_last_holds_the_outside():
    model = matrix([[0.0, 0.04, -0.06, 0.49], [-0.51, 0.5, 7.0, 0.449]])
    shares = {each.metric: each.value for each in box.places_in_box(model, weight_decay=2.0, step=3)}
    expected = dict.fromkeys([f"box_share_0.{tenth}" for tenth in range(10)], 0.0)
    expected |= {"box_share_0.0": 2 / 8, "box_share_0.1": 1 / 8, "box_share_0.8": 1 / 8, "box_share_0.9": 4 / 8}
    assert shares == expected


@pytest.mark.parametrize(("weight", "decay"), [(1.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_without_decay_or_after_divergence_there_are_no_places(weight, decay):
    assert not list(box.places_in_box(matrix([[weight, 1.0]]), decay, step=1))


# --- Flatness --------------------------------------------------------------------------------------------------

DISTURBANCE = {"train_nll": 1.9, "every": 5, "perturbations": [0.0, 0.5], "draws": 3}


def flatness(**changes):
    config = {**IMAGES, **POINT, **DISTURBANCE, "samples_seen": 1920, "hidden": 16, "lr": 3e-2, **changes}
    return ablation.measure_flatness(Run("flatness", "adamw", 0, config))


def test_a_run_that_does_not_reach_the_loss_has_no_number():
    found = list(flatness(train_nll=1e-9))
    assert len(found) == 2 + len(DISTURBANCE["perturbations"])
    assert all(math.isnan(each.value) for each in found)


def test_no_disturbance_raises_nothing_and_a_large_one_does():
    found = values(flatness())
    assert found["train", "nll_nats"] <= DISTURBANCE["train_nll"]
    assert found["test", "perturbed_0_nll_nats"] == pytest.approx(found["test", "nll_nats"], abs=1e-12)
    assert found["test", "perturbed_0.5_nll_nats"] > found["test", "nll_nats"]


def test_every_weight_is_disturbed_in_proportion_to_its_size(monkeypatch):
    models = []
    make_model = digits.make_model
    monkeypatch.setattr(ablation, "make_model", lambda run: models.append(make_model(run)) or models[0])
    disturbed = flatness(perturbations=[0.5], draws=1)
    next(disturbed)  # the loss on train: training has stopped
    before = copy.deepcopy(models[0])
    list(disturbed)
    z = torch.cat([
        ((now - then) / (0.5 * then.abs())).detach().flatten()
        for now, then in zip(models[0].parameters(), before.parameters(), strict=True)
    ])
    assert float(z.mean()) == pytest.approx(0, abs=0.15)
    assert float(z.std()) == pytest.approx(1, abs=0.1)
    assert len(z.unique()) > 0.9 * len(z)


# --- Embedding rows --------------------------------------------------------------------------------------------


def watched_run(arm):
    """Measure an arm, and keep model, data and optimizers of its training."""
    seen = {}

    def watched(model, data, loss, optimizer, **options):
        starts = [model.token_embedding.weight.detach().clone(), model.head.weight.detach().clone()]
        seen.update(model=model, data=data, optimizers=optimizer.optimizers, starts=starts)
        yield from train(model, data, loss, optimizer, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "train", watched)
        seen["values"] = {metric: value for (_, metric), value in values(measured("embedding", arm)).items()}
    return seen


@pytest.fixture(scope="module")
def watched(made_up_text):
    return {arm: watched_run(arm) for arm in embedding.ARMS}


def test_every_arm_shrinks_every_matrix_by_one_and_the_same_factor_over_a_run(watched):
    expected = (1 - ROWS["total_decay"] / ROWS["steps"]) ** ROWS["steps"]
    for seen in watched.values():
        groups = [group for optimizer in seen["optimizers"] for group in optimizer.param_groups]
        decays = {p: group["lr"] * group["weight_decay"] for group in groups for p in group["params"]}
        assert set(decays) == set(seen["model"].parameters())
        assert sum(len(group["params"]) for group in groups) == len(decays)
        for p, decay in decays.items():
            assert (1 - decay) ** ROWS["steps"] == pytest.approx(expected if p.ndim >= 2 else 1)


def test_the_embedding_has_the_optimizer_and_the_rate_of_its_arm(watched):
    kinds = {"adamw": torch.optim.AdamW, "lion": Lion, "lazy_lion": LazyLion}
    for arm, (moves_embedding, _, moves_rest) in embedding.ARMS.items():
        of_embedding, of_rest = watched[arm]["optimizers"]
        assert type(of_embedding) is kinds[moves_embedding]
        assert type(of_rest) is kinds[moves_rest]
        (group,) = of_embedding.param_groups
        assert [id(p) for p in group["params"]] == [id(watched[arm]["model"].token_embedding.weight)]
        assert (group["lr"], group["betas"]) == (ROWS["embedding_lr"], (0.9, 0.99))
        assert {(g["lr"], g["betas"]) for g in of_rest.param_groups} == {(ROWS["lr"], (0.9, 0.99))}


def test_all_arms_start_from_the_same_embedding_and_see_the_same_windows_and_tied_ones_have_no_head(watched):
    first = watched["adamw"]
    for arm, seen in watched.items():
        assert torch.equal(seen["starts"][0], first["starts"][0])
        assert all(torch.equal(*pair) for pair in zip(tokens_of(seen, 0), tokens_of(first, 0), strict=True))
        model, tying = seen["model"], embedding.ARMS[arm][1]
        assert (model.head.weight is model.token_embedding.weight) == (tying is not None)
        assert ("head_1_9_share" in seen["values"]) == (tying is None)


def tokens_of(seen, side):
    return [pair[side] for pair in seen["data"]]


def test_swapped_halves_are_an_output_matrix_whose_halves_have_changed_places(watched):
    model = watched["lion_half_swapped"]["model"]
    plain = TinyGPT(vocabulary=300, width=16, layers=1, heads=2, context=16, tied=True)
    plain.load_state_dict(model.state_dict())
    hidden = []
    plain.final_norm.register_forward_hook(lambda *call: hidden.append(call[-1]))
    tokens = torch.arange(32).view(2, 16)
    logits = plain(tokens)
    left, right = plain.token_embedding.weight.split(8, dim=1)
    torch.testing.assert_close(model(tokens), hidden[0] @ torch.cat([right, left], dim=1).T)
    assert not torch.allclose(model(tokens), logits, atol=1e-2)


@pytest.mark.parametrize("arm", embedding.ARMS)
def test_rows_are_classed_by_how_often_their_token_came_and_measured_class_by_class(watched, arm):
    seen = watched[arm]
    matrices = [("embedding", seen["model"].token_embedding.weight, seen["starts"][0], 0, ROWS["embedding_lr"])]
    if embedding.ARMS[arm][1] is None:
        matrices.append(("head", seen["model"].head.weight, seen["starts"][1], 1, ROWS["lr"]))
    for name, weight, start, side, lr in matrices:
        tokens, counts = np.concatenate([t.numpy().ravel() for t in tokens_of(seen, side)]), np.zeros(300, dtype=int)
        np.add.at(counts, tokens, 1)
        decay, q, reach = ROWS["total_decay"] / (lr * 12), 1 - ROWS["total_decay"] / 12, 0.0
        for _ in range(12):
            reach = q * reach + lr  # pushed one way all the time
        wall = q**12 * np.abs(start.numpy()) + (1 - q**12) / decay
        for label, (low, high) in {**embedding.CLASSES, "100": (100, 10**9)}.items():
            rows = np.flatnonzero((low <= counts) & (counts <= high))
            entries = weight.detach().numpy().astype(np.float64)[rows]
            assert len(rows)
            expected = {
                "rms": np.sqrt((entries**2).mean()), "rows": len(rows),
                "share": (np.abs(entries) > 0.8 * wall[rows]).mean(),
                "half_share": (np.abs(entries) > 0.5 * wall[rows]).mean(),
            }  # fmt: skip
            found = {metric: seen["values"][f"{name}_{label}_{metric}"] for metric in expected}
            assert found == pytest.approx(expected)
        assert seen["values"][f"{name}_reach"] == pytest.approx(reach)


# --- Updates ---------------------------------------------------------------------------------------------------


class Fixed:
    """Steps of an optimizer on given gradients of one matrix; keeps the matrix before and after each."""

    def __init__(self, arm, gradients, **changes):
        self.config = {**POINT, "betas": [0.9, 0.99], **changes}
        self.gradients = torch.tensor(np.array(gradients), dtype=torch.float64)
        self.model = nn.Linear(self.gradients.shape[-1], 1, bias=False).double()
        self.optimizer = arms.make_optimizer(arm, self.model, self.config)
        self.weights = [self.model.weight.detach().clone()]

    def steps(self):
        for number, gradient in enumerate(self.gradients, start=1):
            self.model.weight.grad = gradient.clone()[None]
            self.optimizer.step()
            self.weights.append(self.model.weight.detach().clone())
            yield Step(number, 1.0, None)

    def compare(self, window):
        """Give the measured values by metric and step."""
        found = {}
        for each in updates.compare_updates(self.model, self.optimizer, self.steps(), window):
            found.setdefault(each.metric, {})[each.step] = each.value
        return found

    def updates(self):
        """Give (θ (1 - η λ) - θ') / η of every step."""
        lr, decay = self.config["lr"], self.config["weight_decay"]
        return [((1 - lr * decay) * then - now)[0].numpy() / lr for then, now in pairwise(self.weights)]


def lion_signs(gradients):
    momentum, signs = np.zeros(len(gradients[0])), []
    for g in gradients:
        signs.append(np.sign(0.9 * momentum + 0.1 * g))
        momentum = 0.99 * momentum + 0.01 * g
    return signs


def test_adamws_update_is_what_torchs_adamw_has_moved_apart_from_decay():
    gradients = np.random.default_rng(0).normal(0.3, 1, size=(12, 7))
    run = Fixed("adamw", gradients, weight_decay=0.5)
    found, moved, signs = run.compare(window=4), run.updates(), lion_signs(gradients)
    early = {step: np.abs(moved[step - 1]).mean() for step in (1, 2, 3, 5, 10)}
    assert found["adamw_mean_abs"] == pytest.approx(early, rel=1e-9)
    ratios = {}
    for end in (8, 12):  # the first window is left out
        lion, adamw = (np.square(np.sum(each[end - 4 : end], axis=0)).sum() for each in (signs, moved))
        ratios[end] = np.sqrt(lion / adamw)
    assert found["update_ratio"] == pytest.approx(ratios, rel=1e-9)


def test_the_masked_share_is_that_of_the_entries_the_cautious_rule_leaves_in_place():
    rng = np.random.default_rng(1)
    gradients = rng.normal(0.2, 1, size=(20, 500)) * (rng.random((20, 500)) < 0.7)
    betas = (0.95, 0.6)  # far from Lion's own
    run = Fixed("cautious_lion", gradients, weight_decay=0.0, betas=list(betas))
    found, moved = run.compare(window=1), run.updates()
    assert set(found) == {"masked_share"}
    had_gradient = np.cumsum(gradients != 0, axis=0) > 0
    shares = {step: (moved[step - 1] == 0)[had_gradient[step - 1]].mean() for step in range(1, 21)}
    assert found["masked_share"] == pytest.approx(shares)
    assert 0.1 < shares[20] < 0.9


@pytest.mark.parametrize(
    ("measure", "task"),
    [(language_model.measure_language_model_updates, TEXT), (digits.measure_digits_updates, IMAGES)],
)
def test_updates_are_compared_along_a_run_and_a_diverged_one_has_none(measure, task):
    config = {**task, **POINT, "window": 4}
    found = list(measure(Run("updates", "adamw", 0, config)))
    assert {each.metric for each in found} == {"update_ratio", "masked_share", "adamw_mean_abs"}
    assert all(each.value > 0 for each in found)
    first = next(each for each in found if (each.metric, each.step) == ("adamw_mean_abs", 1))
    assert 0.95 < first.value <= 1
    diverged = list(measure(Run("updates", "adamw", 0, {**config, "lr": 1e30, "weight_decay": 0.0})))
    nothing = [each for each in diverged if math.isnan(each.value)]
    assert {each.metric for each in nothing} == {"update_ratio", "masked_share", "adamw_mean_abs"}
    assert len(nothing) == 3


# --- The derivation as runs ------------------------------------------------------------------------------------


def test_noise_and_drift_are_simulated_by_seed_beside_their_formulas():
    ratios = [each.value for seed in (0, 1) for each in derivation.measure_noise(Run("noise", "gaussian", seed, {}))]
    assert ratios[0] != ratios[1]
    assert ratios == pytest.approx([gaussian_drift_ratio((0.9, 0.99))] * 2, rel=0.3)
    found = values(derivation.measure_drift(Run("drift", "gaussian", 0, {"rho": 1.0})))
    for arm, formula in (("lion", lion_drift(1.0, (0.9, 0.99))), ("adamw", adamw_drift(1.0))):
        assert found["none", f"{arm}_predicted"] == pytest.approx(float(formula))
        assert found["none", f"{arm}_simulated"] == pytest.approx(float(formula), rel=0.05)


def test_the_portrait_starts_where_told_and_lion_ends_at_the_wall_of_the_box():
    config = {
        "curvatures": [1.0, 20.0], "minimum": [2.0, 0.5], "start": [-1.5, 1.8], "lr": 0.1, "weight_decay": 1.0,
        "steps": 60,
    }  # fmt: skip
    found = list(derivation.measure_portrait(Run("portrait", "lion", 0, config)))
    path = {(each.metric, each.step): each.value for each in found}
    assert (path["x", 0], path["y", 0]) == (-1.5, 1.8)
    assert sorted(step for metric, step in path if metric == "x") == list(range(61))
    assert path["x", 60] == pytest.approx(1, abs=0.01)  # the free minimum is at 2
    assert abs(path["y", 1] - (1.8 * 0.9 - 0.1)) < 1e-12

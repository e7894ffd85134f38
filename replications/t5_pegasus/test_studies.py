"""The studies: arms part only in what they are pretrained on, and choices are made without the test split."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from paperkit.config import read_yaml
from paperkit.hardware import ON_CPU
from paperkit.runs import Run
from paperkit.tuning import Tuned
from replications.t5_pegasus import estimands, experiment
from replications.t5_pegasus.spans import span_corruption
from replications.t5_pegasus.studies import headings, pretraining, transfer
from replications.t5_pegasus.studies.corpus import training_texts
from replications.t5_pegasus.studies.headings import PRIMARY, Headings
from replications.t5_pegasus.studies.pretraining import (
    Seq2Seq,
    Task,
    examples,
    padded,
    pairs_of_windows,
    pretrained,
    tokenizer_of,
)
from replications.t5_pegasus.studies.transfer import FineTuning, Titled, copied_share, fine_tuned, titled

SMOKE = read_yaml(Path(__file__).with_name("params.yaml"))["smoke"]
TASK = Task(**SMOKE["headings"]["task"])
TUNING = FineTuning(**SMOKE["headings"]["fine_tuning"])


@pytest.fixture(scope="module", autouse=True)
def few_training_texts():
    """One text in ten, where the real ones take the tokenizer seconds."""
    cached = (pretraining.tokenizer_of, pretraining.pairs_of_windows, pretraining._encoded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "training_texts", lambda table: training_texts(table)[::10])
        for function in cached:
            function.cache_clear()
        yield
    for function in cached:
        function.cache_clear()


def new_model(**changes):
    torch.manual_seed(1)
    return Seq2Seq(TASK.model_copy(update=changes), ON_CPU)


def some_pairs(number=50):
    return titled("zh_docs", "train", "modern", 0).ids.rows(range(number))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def texts(rows):
    return [tuple(x for x in row.tolist() if x) for row in rows]


# --- what arms are pretrained on ------------------------------------------------------------------------------------


def test_mismatched_sources_are_those_of_other_documents_beside_the_same_targets():
    pegasus, mismatched = (examples(TASK, arm, 5) for arm in ("pegasus", "mismatched"))
    assert torch.equal(pegasus.target, mismatched.target)
    own, other = texts(pegasus.source), texts(mismatched.source)
    assert sorted(own) == sorted(other)
    pieces, documents = pairs_of_windows("modern")
    order = np.random.default_rng(5).permutation(len(pieces))[: TASK.num_windows]
    of_source = {source: documents[i] for source, i in zip(own, order, strict=True)}
    assert all(of_source[source] != documents[i] for source, i in zip(other, order, strict=True))


def test_all_arms_see_the_same_windows_in_the_same_order():
    tokenizer = tokenizer_of("modern", 0)
    pegasus, span, random = (examples(TASK, arm, 5) for arm in ("pegasus", "span", "random"))
    ignored = {0, 1, 2, 3, *tokenizer.convert_tokens_to_ids([f"[unused{k}]" for k in range(1, 25)])}
    for row in range(TASK.num_windows):
        # Characters, since Latin letters of neighbouring segments may join to a word.
        found = [
            sorted(
                character
                for part in arm
                for token in tokenizer.convert_ids_to_tokens([x for x in part[row].tolist() if x not in ignored])
                for character in token.removeprefix("##")
            )
            for arm in (pegasus, random, span)
        ]
        assert found[0] == found[1] == found[2]


def test_modern_text_comes_first_where_both_are_read(monkeypatch):
    pieces, documents = pairs_of_windows("modern")
    tokenizer = tokenizer_of("modern", 0)
    both = [pieces[3], *pieces[:3]] * 4, ["poems/a", "zh_docs/a", "zh_docs/b", "zh_descriptions/c"] * 4
    monkeypatch.setattr(pretraining, "pairs_of_windows", lambda text: both if text == "both" else (pieces, documents))
    monkeypatch.setattr(pretraining, "tokenizer_of", lambda *_: tokenizer)
    task = TASK.model_copy(update={"text": "both", "num_windows": 14})
    (poem, _), sources = (
        pretraining.encode(tokenizer, *pretraining.RULES["pegasus"](pieces[3])[:2]),
        texts(examples(task, "pegasus", 5).source),
    )
    assert [source == tuple(poem) for source in sources] == [False] * 12 + [True] * 2


def test_spans_refuse_no_length_and_are_drawn_anew():
    drawn = np.random.default_rng(0)
    sources = [tuple(span_corruption(range(100, 160), range(1, 9), drawn)[0]) for _ in range(20)]
    assert {len(source) for source in sources} == {60 - 9 + 3}
    assert len(set(sources)) > 15


def test_every_pair_comes_once_before_one_comes_again_and_rows_of_a_batch_are_alike():
    lengths = np.random.default_rng(1).integers(1, 30, 64)
    pairs = padded([[1] * k for k in lengths], [[k + 1] * k for k in lengths])
    batches = list(pairs.batches(4, 32, seed=2))
    first = sorted(int((row != 0).sum()) for batch in batches[:16] for row in batch.target)
    assert first == sorted(lengths)
    assert np.mean([np.ptp((batch.target != 0).sum(1).numpy()) for batch in batches]) < 4
    assert [b.target.tolist() for b in pairs.batches(4, 32, seed=2)] == [b.target.tolist() for b in batches]


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copying", [True, False])
def test_a_loss_does_not_depend_on_padding_and_is_the_mean_over_tokens(copying):
    model, pairs = new_model(copying=copying), some_pairs(9)
    together = model.nats(pairs)
    alone = np.concatenate([model.nats(pairs.rows([row])) for row in range(9)])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    mean = together.sum() / int((pairs.target != 0).sum())
    assert model.loss(*pairs).item() == pytest.approx(mean, rel=1e-5)


def test_the_copied_share_is_that_of_the_gates():
    model, pairs = new_model(), some_pairs(70)
    with torch.no_grad():
        model.t5.copy_head.gate.zero_()
        model.t5.copy_head.bias.fill_(-2)
    assert copied_share(model, pairs) == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)


def test_fine_tuning_between_snapshots_changes_nothing_of_the_pretraining():
    def ends(adapt):
        for model in pretrained(TASK, "pegasus", 1e-3, [2, 4], (1, 2), ON_CPU):
            if adapt:
                fine_tuned(model, some_pairs(), TUNING, seed=3)
        return weights(model)

    assert torch.equal(ends(True), ends(False))


def test_fine_tuning_keeps_the_weights_that_are_best_on_its_own_validation_labels():
    model, pairs = new_model(), some_pairs()
    before = weights(model)
    tuning = TUNING.model_copy(update={"rates": [1e-3, 1e-2], "most_updates": 20, "patience": 3})
    found = fine_tuned(model, pairs, tuning, seed=3)
    assert torch.equal(weights(model), before)
    validation = pairs.rows(range(10))
    start = model.nats(validation).sum()
    model.load_state_dict(found.state)
    assert model.nats(validation).sum() < start
    assert found.updates > 0


def test_training_that_only_harms_leaves_the_model_as_it_was(monkeypatch):
    def harm(model, *_):
        for update in range(1, 5):
            model.t5.lm_head.weight.data.normal_(std=10)
            yield update

    monkeypatch.setattr(transfer, "_updates", harm)
    model = new_model()
    found = fine_tuned(model, some_pairs(), TUNING, seed=3)
    assert found.updates == 0
    assert torch.equal(
        weights(model), torch.cat([v.flatten() for k, v in found.state.items() if k in dict(model.named_parameters())])
    )


def test_ten_labels_all_train_for_a_fixed_number_of_updates():
    model = new_model()
    assert fine_tuned(model, some_pairs(10), TUNING, seed=3)[1:] == (TUNING.fixed_rate, TUNING.fixed_updates)


def test_losses_are_averaged_over_titles_then_documents_and_ends_count():
    rows = pd.DataFrame({"document": ["a", "a", "b"], "title": ["一二三", "一", "四 五"], "body": ["x"] * 3})
    test = Titled(padded([[1]] * 3, [[1]] * 3), rows)
    assert test.loss(np.array([4.0, 4.0, 9.0])) == pytest.approx(((1 + 2) / 2 + 3) / 2)
    assert test.loss(np.array([4.0, 4.0, 9.0]), np.array([True, False, True])) == pytest.approx((1 + 3) / 2)
    assert test.first().rows.title.tolist() == ["一二三", "四 五"]


def test_sources_are_exchanged_between_documents_and_titles_stay():
    test = titled("zh_docs", "test", "modern", 0)
    other = test.exchanged()
    assert torch.equal(other.target, test.ids.target)
    assert np.mean([a == b for a, b in zip(texts(other.source), texts(test.ids.source), strict=True)]) < 0.01


# --- runs and grids -------------------------------------------------------------------------------------------------


def grid():
    study = Headings(**SMOKE["headings"] | {"num_titles": 8})
    tuned = [Tuned([{"lr": rate}], [{1000: 1.0}]) for rate in (1e-3, 2e-3, 4e-3)]
    return study, study.reports(tuned, [7])


def test_arms_of_an_experiment_differ_in_their_rate_alone():
    _, runs = grid()
    for name in ("headings", "headings_plain"):
        configs = {run.arm: dict(run.config) for run in runs if run.experiment == name}
        assert set(configs) == set(PRIMARY)
        assert [configs[arm].pop("lr") for arm in PRIMARY] == [None, 1e-3, 2e-3, 4e-3]
        labels = configs.pop("none")["labels"]
        assert list(labels) == ["0"]
        assert labels["0"] == configs["span"]["labels"]["8"]
        assert all(config == configs["span"] for config in configs.values())


def test_a_trial_never_looks_at_the_test_split(monkeypatch):
    def seen(table, split, *rest):
        assert split != "test"
        return titled(table, split, *rest)

    monkeypatch.setattr(headings, "titled", seen)
    study, _ = grid()
    (search, *_) = study.searches()
    (row,) = experiment.measure_run(Run("headings_search", search.arm, 3, {**search.task, "lr": 1e-3}))
    assert (row.split, row.metric) == ("validation", "loss_nats")


def test_a_run_reports_every_number_of_labels_and_repeats_itself():
    _, runs = grid()
    run = next(run for run in runs if (run.experiment, run.arm) == ("headings", "pegasus"))
    rows = list(experiment.measure_run(run))
    by_metric = pd.DataFrame(rows).groupby("metric")["step"].apply(list)
    assert by_metric["loss_nats"] == by_metric["copied_share"] == by_metric["rouge_l_points"] == [0, 10, 50]
    assert by_metric["quarter_loss_nats"] == by_metric["beam_3_rouge_l_points"] == [50]
    assert list(experiment.measure_run(run)) == rows


def test_mismatched_gets_a_new_copy_head_before_it_is_fine_tuned_and_pegasus_in_one_variation(monkeypatch):
    heads = []

    def seen(model, *_):
        heads.append(model.t5.copy_head.bias.item())
        return transfer.Found(model.state_dict(), 0.0, 0)

    monkeypatch.setattr(headings, "fine_tuned", seen)
    for judge in ("_judged", "_seen"):  # what is judged is not asked here
        monkeypatch.setattr(headings, judge, lambda *_, **__: ())
    _, runs = grid()
    for run in runs:
        if run.experiment == "headings" and run.arm in {"pegasus", "mismatched"}:
            heads.clear()
            reported = [row.metric for row in experiment.measure_run(run)]
            new = sum(head == 1.0 for head in heads)  # the bias begins at 1
            varied = {"pegasus": "new", "mismatched": "own"}[run.arm]
            assert reported.count(f"{varied}_copy_head_loss_nats") == 1
            assert new == (1 if run.arm == "pegasus" else len(heads) - 1)


def test_the_trigram_has_a_loss_for_each_number_of_labels_that_falls():
    _, runs = grid()
    run = next(run for run in runs if run.arm == "trigram")
    losses = [row.value for row in experiment.measure_run(run) if row.metric == "loss_nats"]
    assert losses == sorted(losses, reverse=True)
    assert 3 < losses[0] < 4.5


def test_titles_that_share_text_with_training_are_told_apart():
    share = transfer.independent("zh_docs").mean()
    assert 0.7 < share < 0.95


@pytest.mark.parametrize(("path", "change", "message"), [
    ("headings", {"num_plain_seeds": 3}, "headings.num_plain_seeds 3 must be at most the number of seeds, 1"),
    ("search", {"seeds": [0]}, "must differ from each other and from the tuning seeds"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_refused(path, change, message):
    with pytest.raises(ValueError, match=message):
        experiment.Config(**{**SMOKE, path: {**SMOKE[path], **change}})


# --- estimands ------------------------------------------------------------------------------------------------------


def made_up():
    rows = []
    for arm, base, fall in (("pegasus", 3.0, 0.1), ("mismatched", 3.5, 0.2), ("span", 4.0, 0.4)):
        for part in ("", "half_", "quarter_"):
            for labels in (50, 200, 1000):
                value = (
                    base - fall * np.log(labels) + {"": 0, "half_": 0.1, "quarter_": 0.2}[part] * (arm == "pegasus")
                )
                rows.append(("headings", arm, 3, "test", labels, f"{part}loss_nats", value, "ok"))
                rows.append(("headings", arm, 3, "test", labels, f"{part}exchanged_loss_nats", value + 0.7, "ok"))
    rows += [("baselines", "trigram", 3, "test", labels, "loss_nats", 3.0, "ok") for labels in (0, 50, 200, 1000)]
    return pd.DataFrame(rows, columns=["experiment", "arm", "seed", "split", "step", "metric", "value", "status"])


def test_gains_slopes_and_shares_are_those_of_losses_that_were_made_up():
    runs, mean = made_up(), np.log([50, 200, 1000]).mean()
    assert estimands.gain_over_span(runs)[3] == pytest.approx(1 - 0.3 * mean)
    assert estimands.slope_over_span(runs)[3] == pytest.approx(-0.3)
    assert estimands.gain_over_mismatched_quarter(runs)[3] == pytest.approx(0.5 - 0.1 * mean - 0.2)
    assert estimands.gain_over_trigram(runs)[3] == pytest.approx(0.1 * mean)
    assert estimands.use_by_pegasus(runs)[3] == pytest.approx(0.7)
    assert estimands.trend_of_source(runs)[3] == pytest.approx(0.1)
    assert estimands.share_of_language(runs)[3] == pytest.approx((0.5 - 0.2 * mean) / (1 - 0.3 * mean))


def test_a_seed_without_a_number_has_no_gain_and_an_experiment_that_was_not_run_none_at_all():
    runs = made_up()
    lost = runs[~((runs.arm == "span") & (runs.step == 200) & (runs.metric == "loss_nats"))]
    assert np.isnan(estimands.gain_over_span(lost)[3])
    assert estimands.gain_over_span_poems(runs).empty
    assert estimands.published_gain_10(runs).empty

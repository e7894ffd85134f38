"""The paper profile works as a whole at a tiny size on the CPU, on files and in a cache of the hub's form."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from tokenizers import Tokenizer
from torch import nn

from paperkit.config import ConfigError, parse, read_profile
from paperkit.estimands import difference
from paperkit.full_scale import Session
from paperkit.results import read_runs, read_trials, write_runs, write_trials
from paperkit.runs import Run
from replications.lion import paper
from replications.lion.studies import full_scale
from replications.lion.vit import VisionTransformer
from tests.two_processes import (
    paragraphs,
    place_in_cache,
    read_cache_alone,
    run_tiny,
    tiny_in_one_process,
    write_tokenizer,
)

PARAMS = Path(__file__).with_name("paper.yaml")
POINT = {"lr": 3e-3, "weight_decay": 0.1, "betas": [0.9, 0.99]}
TASKS = ("language", "vision")


def png(generator):
    file = io.BytesIO()
    Image.fromarray(generator.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder for HF_HOME with every file that the profile reads, made of noise."""
    home, generator = tmp_path_factory.mktemp("hub"), np.random.default_rng(0)
    for file in full_scale.FILES:
        path = place_in_cache(home, file)
        if file == full_scale.TOKENIZER:
            write_tokenizer(generator, path)
        elif "wikitext" in file.name:
            pq.write_table(pa.table({"text": paragraphs(generator, 40)}), path)
        else:
            images = [{"bytes": png(generator), "path": None} for _ in range(60)]
            labels = generator.integers(100, size=60)
            pq.write_table(pa.table({"img": images, "fine_label": labels, "coarse_label": labels // 5}), path)
    return home


@pytest.fixture(scope="module", autouse=True)
def offline(hub):
    with pytest.MonkeyPatch.context() as patch:
        read_cache_alone(patch, hub)
        yield


@pytest.fixture(scope="module")
def tiny():
    return tiny_in_one_process(paper.Settings, PARAMS)


@pytest.fixture(scope="module")
def fabric(tiny):
    return Fabric(**tiny.hardware.model_dump())


@pytest.fixture(scope="module")
def tasks(tiny):
    cpu = torch.device("cpu")
    return {
        "language": full_scale.LanguageTask.load(tiny.language_model, cpu),
        "vision": full_scale.VisionTask.load(tiny.vision, cpu),
    }


@pytest.fixture(scope="module")
def tables(tiny, fabric, tmp_path_factory):
    return paper.run(tiny, Session(fabric, paper.MODULE, "smoke", tmp_path_factory.mktemp("kept")))


def changed(task, **values):
    """The same data with other settings."""
    return type(task)(**{**vars(task), "settings": task.settings.model_copy(update=values)})


def trained(fabric, task, arm, seed=0, **point):
    run = Run(task.report, arm, seed, {"batch": task.settings.batches[0], **POINT, **point})
    return list(paper.measure(fabric, task, run))


def test_the_tables_have_the_form_that_claims_are_judged_from(tables, tiny, tmp_path):
    write_runs(tmp_path / "runs.csv", tables.runs)
    write_trials(tmp_path / "trials.csv", tables.trials)
    runs, trials = read_runs(tmp_path / "runs.csv"), read_trials(tmp_path / "trials.csv")
    gap = difference(runs, "lm_quality", "adamw", "lion", "loss_nats", "test")
    assert gap.index.tolist() == tiny.seeds
    assert gap.notna().all()
    assert len(trials) == 2 * 2 * 3  # trials, arms, and the language model beside two batch sizes
    assert trials["selected"].sum() == 2 * 3
    assert set(runs["profile"]) == set(trials["profile"]) == {"smoke"}


def test_both_experiments_report_every_metric_of_every_arm_seed_and_batch(tables, tiny):
    runs = pd.DataFrame(tables.runs)
    runs["batch"] = [config["batch"] for config in runs["config"]]
    last = runs.drop_duplicates(["experiment", "arm", "seed", "batch", "split", "metric"])
    counts = last.groupby(["experiment", "split", "metric"]).size().to_dict()
    assert counts == {
        ("lm_search", "validation", "loss_nats"): 2,
        ("lm_quality", "validation", "loss_nats"): 4,
        ("lm_quality", "test", "loss_nats"): 4,
        ("batch_search", "validation", "nll_nats"): 4,
        ("batch_search", "validation", "accuracy"): 4,
        **{
            ("batch_sweep", split, metric): 8
            for split in ("validation", "test")
            for metric in ("nll_nats", "accuracy")
        },
    }
    assert all(set(POINT) | {"precision"} <= set(config) for config in runs["config"])
    assert set(runs.loc[runs["experiment"] == "lm_quality", "step"]) == {3, 6}


def test_selection_takes_the_trial_of_least_final_validation_loss_at_each_batch(tables):
    runs, trials = pd.DataFrame(tables.runs), pd.DataFrame(tables.trials)
    ends = runs[runs["experiment"].str.endswith("_search")].to_dict("records")
    for trial in trials.to_dict("records"):
        of_trial = [r for r in ends if r["arm"] == trial["arm"] and trial["config"].items() <= r["config"].items()]
        losses = {r["step"]: r["value"] for r in of_trial if r["metric"] == trial["metric"]}
        assert trial["value"] == losses[max(losses)]
    trials["batch"] = [config["batch"] for config in trials["config"]]
    best = trials.loc[trials.groupby(["experiment", "arm", "batch"])["value"].idxmin()]
    assert best["selected"].all()


def test_what_is_reported_was_run_with_the_selected_trial(tables):
    selected = [trial for trial in tables.trials if trial["selected"]]
    reported = [row for row in tables.runs if row["experiment"] in {"lm_quality", "batch_sweep"}]
    for row in reported:
        (trial,) = (
            trial
            for trial in selected
            if (trial["experiment"], trial["arm"], trial["config"]["batch"])
            == (row["experiment"], row["arm"], row["config"]["batch"])
        )
        assert trial["config"].items() <= row["config"].items()
    assert any(trial["trial"] != 0 for trial in selected)  # else the first trial would do as well


def test_a_killed_study_goes_on_with_the_runs_that_are_left_and_ends_with_the_same_numbers(
    tables, tiny, fabric, tmp_path, monkeypatch
):
    executed, measure = [], paper.measure
    session = Session(fabric, paper.MODULE, "smoke", tmp_path)

    def dies_in_the_sixth_run(fabric, task, run):
        if len(executed) == 5:
            raise KeyboardInterrupt
        executed.append(run)
        yield from measure(fabric, task, run)

    def counts(fabric, task, run):
        executed.append(run)
        yield from measure(fabric, task, run)

    monkeypatch.setattr(paper, "measure", dies_in_the_sixth_run)
    with pytest.raises(KeyboardInterrupt):
        paper.run(tiny, session)
    monkeypatch.setattr(paper, "measure", counts)
    resumed = paper.run(tiny, session)
    assert len(executed) == 4 + 4 + 2 * (4 + 4)  # no two runs have the same key
    assert resumed == tables


@pytest.mark.parametrize("name", TASKS)
def test_equal_seeds_give_equal_numbers_and_other_seeds_others(name, fabric, tasks):
    first = trained(fabric, tasks[name], "lion")
    assert first == trained(fabric, tasks[name], "lion")
    assert first != trained(fabric, tasks[name], "lion", seed=1)


@pytest.mark.parametrize("name", TASKS)
def test_arms_of_a_seed_share_initialisation_and_batches(name, fabric, tasks, monkeypatch):
    seen = {arm: [] for arm in paper.ARMS}
    examples = type(tasks[name]).examples
    for arm, batches in seen.items():
        monkeypatch.setattr(
            type(tasks[name]),
            "examples",
            lambda task, split, rows, to=batches: to.append(rows) or examples(task, split, rows),
        )
        batches.append(trained(fabric, tasks[name], arm, lr=0.0))  # nothing is learnt: losses differ by the start only
    adamw, lion = seen.values()
    assert adamw[-1] == lion[-1]
    assert len(adamw) == len(lion)
    assert all(torch.equal(one, other) for one, other in zip(adamw[:-1], lion[:-1], strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_accumulated_parts_give_the_gradient_of_the_whole_batch(name, fabric, tasks):
    gradients = []
    for part in (1, 2, 4):
        task = changed(tasks[name], micro_batch=part)
        torch.manual_seed(0)
        model = task.new_model()
        model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.0))
        norm = paper.take_step(fabric, task, model, optimizer, task.draws(0, 4)[0])
        gradients.append([torch.tensor(norm), *(p.grad for p in model.parameters())])
    assert gradients[0][0] > task.settings.max_gradient_norm  # so they have been clipped, too
    clipped = nn.utils.get_total_norm(gradients[0][1:])
    assert clipped.item() == pytest.approx(task.settings.max_gradient_norm, rel=1e-4)
    torch.testing.assert_close(gradients[0], gradients[2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("arm", paper.ARMS)
def test_a_run_learns(name, arm, fabric, tasks):
    longer = {"language": {"steps": 60}, "vision": {"samples_seen": 400}}[name]
    task = changed(tasks[name], **longer)
    task = type(task)(**{**vars(task), **_judged_on_training_data(task)})
    before, after = (trained(fabric, task, arm, lr=lr)[-1 if name == "language" else -2] for lr in (0.0, 3e-3))
    assert after.value < before.value - 0.3


def _judged_on_training_data(task):
    field = "tokens" if isinstance(task, full_scale.LanguageTask) else "images"
    return {field: dict.fromkeys(full_scale.SPLITS, getattr(task, field)["train"])}


@pytest.mark.parametrize("name", TASKS)
def test_a_diverged_run_reports_no_number_for_every_metric_of_every_split(name, fabric, tasks):
    measured = trained(fabric, tasks[name], "adamw", lr=1e30)
    assert {(m.split, m.metric) for m in measured} == {
        (split, metric) for split in ("validation", "test") for metric in tasks[name].metrics
    }
    assert all(np.isnan(m.value) for m in measured)


def test_mixed_precision_trains_too(tiny, tasks):
    mixed = Fabric(**{**tiny.hardware.model_dump(), "precision": "bf16-mixed"})
    exact = Fabric(**tiny.hardware.model_dump())
    one, other = (trained(fabric, tasks["vision"], "adamw")[0].value for fabric in (mixed, exact))
    assert one != other
    assert one == pytest.approx(other, rel=0.05)


def test_every_batch_size_sees_the_same_samples_in_the_same_order(tasks):
    small, large = (tasks["vision"].draws(3, batch) for batch in (4, 16))
    assert (small.shape, large.shape) == ((16, 4, 4), (4, 16, 4))
    assert torch.equal(small.flatten(0, 1), large.flatten(0, 1))
    images = len(tasks["vision"].images["train"].labels)
    assert sorted(small.flatten(0, 1)[:images, 0].tolist()) == list(range(images))


def test_crops_and_flips_are_those_of_the_padded_image(tasks):
    task = tasks["vision"]
    padded = task.images["train"].pixels.numpy()
    rows = torch.tensor([[5, 0, 8, 0], [7, 3, 2, 1]], dtype=torch.int32)
    inputs, labels = task.examples("train", rows)
    expected = [padded[5, 0:32, 8:40], padded[7, 3:35, 2:34][:, ::-1]]
    found = ((inputs + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(found, np.stack(expected))
    assert labels.tolist() == task.images["train"].labels[[5, 7]].tolist()
    assert padded[:, :4].max() == 0


def test_images_are_evaluated_as_they_are_and_once_each(tasks, hub):
    task = tasks["vision"]
    inputs, labels = task.examples("test", task.everything("test"))
    table = pq.read_table(full_scale.TEST_IMAGES.path())
    assert labels.tolist() == table["fine_label"].to_pylist()
    first = np.asarray(Image.open(io.BytesIO(table["img"][0]["bytes"].as_py())))
    np.testing.assert_allclose(inputs[0].permute(1, 2, 0), first / 127.5 - 1, atol=1e-6)
    held_out = {image.numpy().tobytes() for image in task.images["validation"].pixels}
    kept = {image.numpy().tobytes() for image in task.images["train"].pixels}
    assert (len(held_out), len(kept), held_out & kept) == (6, 54, set())


def test_rows_encoded_one_by_one_are_the_whole_text_encoded(tasks):
    tokenizer = Tokenizer.from_file(str(full_scale.TOKENIZER.path()))
    rows = [row for file in full_scale.TEXT["train"] for row in pq.read_table(file.path())["text"].to_pylist()]
    assert tasks["language"].tokens["train"].tolist() == tokenizer.encode("".join(rows)).ids


def test_windows_are_consecutive_tokens_and_evaluation_covers_a_split_once(tasks):
    task = tasks["language"]
    context, tokens = task.settings.context, task.tokens["test"]
    inputs, targets = task.examples("test", task.everything("test"))
    assert torch.equal(inputs.flatten(), tokens[: inputs.numel()].long())
    assert torch.equal(targets.flatten(), tokens[1 : inputs.numel() + 1].long())
    assert len(tokens) - 1 - inputs.numel() < context
    drawn = task.draws(0, 500)
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) + context < len(task.tokens["train"])


def test_two_processes_give_the_numbers_of_one(tables, hub, tmp_path):
    output = run_tiny(paper.MODULE, tmp_path, hub)
    assert output.count("lm_quality") == 4  # rank 0 alone speaks
    keys = ["experiment", "arm", "trial", "seed", "config"]
    write_trials(tmp_path / "one.csv", tables.trials)
    one, two = (read_trials(tmp_path / name).set_index(keys)["value"] for name in ("one.csv", "results/trials.csv"))
    np.testing.assert_allclose(two, one.loc[two.index], rtol=1e-3)


def test_every_file_is_required_before_anything_is_trained(tmp_path, monkeypatch, tiny):
    assert tiny.files == full_scale.FILES
    read_cache_alone(monkeypatch, tmp_path)
    with pytest.raises(
        SystemExit, match=r"^lion_paper: tokenizer\.json of the model openai-community/gpt2.*hf download"
    ):
        paper.main(["--settings", "tiny", "--out", str(tmp_path / "results")])


def test_the_paper_block_is_gpt2_small_and_vit_tiny_with_equal_budgets():
    settings = read_profile(paper.Settings, PARAMS, "paper")
    with torch.device("meta"):
        gpt2 = full_scale.LanguageTask(settings.language_model, 50_257, {}).new_model()
        vit = full_scale.VisionTask(settings.vision, {}).new_model()
    assert sum(p.numel() for p in gpt2.parameters()) == 124_439_808  # as published for GPT-2
    assert 5.3e6 < sum(p.numel() for p in vit.parameters()) < 5.5e6
    for search in (settings.language_model_search, settings.vision_search):
        assert [len(search.points(arm)) for arm in paper.ARMS] == [16, 16]
    assert len(settings.seeds) >= 8


def test_blocks_of_the_vision_transformer_start_from_different_weights():
    model = VisionTransformer(side=8, patch=4, width=8, layers=2, heads=2, classes=3)
    first, second = (block.linear1.weight for block in model.blocks)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("sizes", "told"), [({"patch": 3}, "side 8 of patch 3"), ({"heads": 3}, "width 8 of heads 3")]
)
def test_the_vision_transformer_refuses_sizes_that_do_not_fit(sizes, told):
    fitting = {"side": 8, "patch": 4, "width": 8, "layers": 1, "heads": 2, "classes": 3}
    with pytest.raises(ValueError, match=told):
        VisionTransformer(**{**fitting, **sizes})


@pytest.mark.parametrize(
    ("block", "changes", "told"),
    [
        ("hardware", {"devices": 3}, "batch 8 cannot be dealt to devices 3 in equal parts of micro_batch 2"),
        ("language_model", {"micro_batch": 3}, "batch 8 cannot be dealt to devices 1 in equal parts of micro_batch 3"),
        ("language_model", {"heads": 3}, "width 16 must be a multiple of heads 3"),
        ("language_model", {"curve_points": 7}, "curve_points 7 must be at most steps = 6"),
        ("vision", {"batches": [4, 12]}, "batch 12 must divide samples_seen 64"),
        ("vision", {"batches": [4, 32]}, "batch 32 must divide samples_seen 64 into at least 4 steps"),
        ("vision_search", {"num_trials": 3}, "num_trials 3 must be a power of two"),
        ("vision_search", {"betas": {"adamw": [[0.9, 0.95]]}}, "each of .* needs the same number"),
        ("language_model_search", {"run_seed": 1}, "must differ from the run_seed"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny, block, changes, told):
    content = tiny.model_dump()
    with pytest.raises(ConfigError, match=told):
        parse(paper.Settings, {**content, block: {**content[block], **changes}}, source="paper.yaml")

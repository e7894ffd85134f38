"""The paper profile works as a whole at a tiny size on the CPU, and measures what it says on finite data."""

import io
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import nn

from paperkit.config import ConfigError, parse, read_profile
from paperkit.full_scale import Session
from paperkit.results import read_runs, write_runs
from paperkit.runs import Run
from replications.wasserstein_bound import paper
from replications.wasserstein_bound.finite_data import finite_data_score
from replications.wasserstein_bound.score_network import noise_level
from replications.wasserstein_bound.studies import finite_data_evaluation as evaluation
from replications.wasserstein_bound.studies import full_scale
from replications.wasserstein_bound.studies.score_training import log_snr
from tests.two_processes import place_in_cache, read_cache_alone, run_tiny, tiny_in_one_process

PARAMS = Path(__file__).with_name("paper.yaml")


class ExactNoise(nn.Module):
    """The best prediction of the noise in a finite data set, with a constant added to its score."""

    def __init__(self, data, shift=0.0):
        super().__init__()
        self.data, self.shift = data, shift
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, inputs):
        level = inputs[0, -1]
        return -noise_level(level) * (finite_data_score(self.data, inputs[:, :-1], level) + self.shift)


@pytest.fixture(scope="module")
def tiny():
    return tiny_in_one_process(paper.Settings, PARAMS)


@pytest.fixture(scope="module")
def fabric(tiny):
    return Fabric(**tiny.hardware.model_dump())


@pytest.fixture(scope="module")
def tables(tiny, fabric, tmp_path_factory):
    return paper.run(tiny, Session(fabric, paper.MODULE, "smoke", tmp_path_factory.mktemp("kept")))


def measured(fabric, task, settings, seed=0, **changes):
    data = torch.from_numpy(full_scale.DATA_SETS[task.data]())
    run = Run(f"paper_{task.data}", "plain", seed, {})
    return list(paper.measure(fabric, task.model_copy(update=changes), data, settings, run))


def test_every_task_seed_and_checkpoint_is_measured_by_finite_numbers(tables, tiny, tmp_path):
    write_runs(tmp_path / "runs.csv", tables.runs)
    runs = read_runs(tmp_path / "runs.csv")
    assert set(runs["profile"]) == {"smoke"}
    assert set(runs["status"]) == {"ok"}
    for task in tiny.tasks:
        of_task = runs[runs["experiment"] == f"paper_{task.data}"]
        assert sorted(set(of_task["step"])) == task.checkpoints
        assert sorted(set(of_task["seed"])) == tiny.seeds
        counts = of_task.groupby(["seed", "step"])["metric"].nunique()
        assert set(counts) == {4 + 4 + 4}
    assert (runs["value"].abs() < math.inf).all()


def test_a_killed_study_goes_on_with_the_runs_that_are_left_and_ends_with_the_same_numbers(
    tables, tiny, fabric, tmp_path, monkeypatch
):
    executed, measure = [], paper.measure
    session = Session(fabric, paper.MODULE, "smoke", tmp_path)

    def dies_in_the_third_run(fabric, task, data, settings, run):
        if len(executed) == 2:
            raise KeyboardInterrupt
        executed.append(run)
        yield from measure(fabric, task, data, settings, run)

    monkeypatch.setattr(paper, "measure", dies_in_the_third_run)
    with pytest.raises(KeyboardInterrupt):
        paper.run(tiny, session)
    executed.clear()
    assert paper.run(tiny, session) == tables
    assert len(executed) == 2  # of four: no two runs have the same key


def test_training_lowers_the_loss_and_equal_seeds_give_equal_numbers(tiny, fabric):
    task = tiny.points[0]
    long = measured(fabric, task, tiny.evaluation, checkpoints=[22, 300], batch=64)
    loss = {each.step: each.value for each in long if each.metric == "score_loss"}
    assert loss[300] < 0.95 * loss[22]  # the same points at both
    first = measured(fabric, task, tiny.evaluation)
    assert first == measured(fabric, task, tiny.evaluation)
    assert first != measured(fabric, task, tiny.evaluation, seed=1)


def test_a_diverged_run_reports_a_loss_that_is_no_number(tiny, fabric):
    found = measured(fabric, tiny.points[0], tiny.evaluation, lr=1e30)
    assert [(each.step, each.metric) for each in found] == [(30, "score_loss")]
    assert math.isnan(found[0].value)


@pytest.fixture(scope="module")
def two_points():
    return torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_error_of_a_shifted_exact_score_is_the_shift(two_points, tiny, shift):
    network = ExactNoise(two_points, shift)
    for t in (0.01, 0.3, 1.0):
        error = evaluation.score_error(network, two_points, tiny.evaluation, t, np.random.default_rng(0))
        assert error == pytest.approx(shift * 2**0.5, abs=1e-9)


@pytest.mark.parametrize("t", [0.1, 0.3, 1.0])
def test_the_slope_of_two_points_is_that_of_their_mixture(two_points, tiny, t):
    settings = tiny.evaluation.model_copy(update={"num_probes": 400, "power_iterations": 60, "most_points": 400})
    network = ExactNoise(two_points)
    monkey = evaluation.score  # float32 probes against float64 data: the network is evaluated in float64 here
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "score", lambda network, x, level: monkey(network, x.double(), level.double()))
        found = evaluation.slope_estimate(network, two_points, settings, t, np.random.default_rng(0))
    noise = noise_level(torch.tensor(float(log_snr(evaluation.SCHEDULE, t)), dtype=torch.float64)).item() ** 2
    exact = (1 - noise) / noise**2 - 1 / noise  # at the middle, along the line through both
    assert found <= exact + 1e-6 * (1 + abs(exact))  # the level is rounded to float32 on its way
    assert found == pytest.approx(exact, rel=0.05, abs=0.05)


def test_the_distance_of_the_exact_scores_samples_is_small_and_that_of_a_wrong_score_is_not(tiny):
    data = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 2)))
    settings = tiny.evaluation.model_copy(update={"num_samples": 150, "sampler_steps": [100]})
    exact, wrong = (
        evaluation.cloud_distances(ExactNoise(data, shift), data, settings, np.random.default_rng(0))
        for shift in (0.0, 1.5)
    )
    for name in ("ode", "sde"):
        key = f"debiased_w2_{name}_100_steps"
        assert exact[key] < 0.3 < 0.6 < wrong[key]
        assert exact[key] <= exact[f"plain_w2_{name}_100_steps"]


def test_the_prior_is_not_nearer_than_its_bound_says():
    data = torch.from_numpy(np.random.default_rng(0).normal(3.0, 0.1, size=(50, 2)))
    mean_apart = 0.00657 * np.linalg.norm(data.numpy().mean(axis=0))
    assert mean_apart < evaluation.prior_distance(data) < 1.01 * mean_apart


def test_parts_of_a_batch_give_the_gradient_of_the_whole(fabric):
    class HalfOfTwo:
        """One of two processes; their gradients are averaged by hand."""

        def __init__(self, rank):
            self.global_rank, self.world_size = rank, 2

        def __getattr__(self, name):
            return getattr(fabric, name)

    torch.manual_seed(0)
    inputs, noise, gradients = torch.randn(8, 3), torch.randn(8, 2), []
    for each in (fabric, HalfOfTwo(0), HalfOfTwo(1)):
        torch.manual_seed(1)
        model = nn.Linear(3, 2)
        model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.0))
        paper.take_step(each, model, optimizer, inputs, noise, 1e9)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(gradients[0], (gradients[1] + gradients[2]) / 2)


def test_data_sets_are_those_of_the_notebook():
    clusters, moons = full_scale.four_clusters(), full_scale.moons()
    assert clusters.shape == (4000, 2)
    assert moons.shape == (5000, 2)
    corners = {tuple(corner) for corner in np.sign(clusters)}
    assert len(corners) == 4
    assert (np.abs(clusters) - 0.5).std() == pytest.approx(0.0125, rel=0.05)
    assert full_scale.digits().shape == (1797, 64)
    assert np.array_equal(clusters, full_scale.four_clusters())


def test_mnist_is_read_from_a_cache_of_the_hubs_form(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(5, 28, 28), dtype=np.uint8)
    images = []
    for image in pixels:
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        images.append({"bytes": png.getvalue(), "path": None})
    pq.write_table(pa.table({"image": images, "label": list(range(5))}), place_in_cache(tmp_path, full_scale.MNIST))
    read_cache_alone(monkeypatch, tmp_path)
    np.testing.assert_allclose((full_scale.mnist() + 1) * 127.5, pixels.reshape(5, -1), atol=1e-9)


def test_the_file_of_mnist_is_required_before_anything_is_trained_where_a_task_reads_it(tmp_path, monkeypatch, tiny):
    assert list(tiny.files) == []
    read_cache_alone(monkeypatch, tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SystemExit, match=r"^wasserstein_bound_paper: .*of the dataset ylecun/mnist.*hf download"):
        paper.main(["--out", str(tmp_path / "results")])


def test_two_processes_give_the_numbers_of_one(tables, tmp_path):
    output = run_tiny(paper.MODULE, tmp_path, tmp_path)
    assert output.count("paper_digits") == 2  # rank 0 alone speaks
    keys = ["experiment", "arm", "seed", "config", "split", "step", "metric"]
    write_runs(tmp_path / "one.csv", tables.runs)
    one, two = (read_runs(tmp_path / name).set_index(keys)["value"] for name in ("one.csv", "results/runs.csv"))
    np.testing.assert_allclose(two, one.loc[two.index], rtol=1e-3, atol=1e-3)


def test_the_paper_block_has_the_size_of_the_notebook():
    settings = read_profile(paper.Settings, PARAMS, "paper")
    assert [task.data for task in settings.tasks] == ["four_clusters", "moons", "mnist"]
    clusters = settings.points[0]
    assert clusters.checkpoints[-1] * clusters.batch == 1000 * len(full_scale.four_clusters())
    with torch.device("meta"):
        parameters = sum(p.numel() for p in settings.images[0].new_network().parameters())
    assert 1e6 < parameters < 4e6


@pytest.mark.parametrize(
    ("block", "changes", "told"),
    [
        ("hardware", {"devices": 3}, "batch 16 of four_clusters cannot be dealt to devices 3 equally"),
        ("evaluation", {"sampler_steps": []}, "evaluation.sampler_steps"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny, block, changes, told):
    content = tiny.model_dump()
    with pytest.raises(ConfigError, match=told):
        parse(paper.Settings, {**content, block: {**content[block], **changes}}, source="paper.yaml")


@pytest.mark.parametrize("checkpoints", [[30, 10], [5]])
def test_checkpoints_out_of_order_or_too_early_are_refused(tiny, checkpoints):
    content = tiny.model_dump()
    content["points"][0]["checkpoints"] = checkpoints
    with pytest.raises(ConfigError, match=r"checkpoints \[.*\] must increase, the last to at least 22"):
        parse(paper.Settings, content, source="paper.yaml")

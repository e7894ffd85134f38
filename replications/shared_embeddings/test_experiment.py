"""Every study compares what it says it compares; a made-up runner stands in for all training."""

import json
import math
import zlib
from pathlib import Path

import pytest

from paperkit import runs as paperkit_runs
from paperkit.config import ConfigError, parse, read_profile
from paperkit.estimands import difference
from paperkit.results import canonical_json, read_runs, read_trials, write_runs, write_trials
from paperkit.runs import Runner
from replications.shared_embeddings import experiment, figures
from tests.hub_files import VOCABULARY, hub_files
from tests.made_up_runs import InThisProcess, changed, made_up_row

FOLDER = Path(__file__).parent
COMMITTED = FOLDER.parents[1] / "results/shared_embeddings"
PARAMS = FOLDER / "params.yaml"
BEST_RATE = {"small_sigma": 2.6e-3, "half_swap": 3.7e-3, "shuffle": 5.2e-3}
CURVES = ("long", "widths", *experiment.AT_FIXED_RATES)


def wiggle(run):
    text = canonical_json([run.experiment.removesuffix("_search"), run.arm, run.seed, run.config])
    return zlib.crc32(text.encode()) / 2**32


def made_up_loss(run):
    """Least near the best rate of the arm, and never the same twice."""
    return 5 + math.log(run.config["lr"] / BEST_RATE.get(run.arm, 3e-3)) ** 2 + wiggle(run) / 100


class MadeUpRunner:
    """Keeps the runs it is asked for, and makes up rows; test losses are least where validation's are largest."""

    profile = "cpu"

    def __init__(self):
        self.asked = []

    def __call__(self, measure, runs):
        assert measure is experiment.measure_run
        self.asked.append(list(runs))
        return [[made_up_row(run, *measured) for measured in self._measured(run)] for run in runs]

    def runs(self, name):
        return [run for grid in self.asked for run in grid if run.experiment == name]

    def _measured(self, run):
        if run.experiment not in CURVES and not run.experiment.endswith("_search"):
            return [("none", 0, "any", 1.0)]
        steps, loss = run.config["steps"], made_up_loss(run)
        validation = [("validation", steps, "loss_nats", loss), ("validation", steps, "best_loss_nats", 10 / loss)]
        return [*validation, ("test", steps, "loss_nats", 10 / loss)]


@pytest.fixture(scope="module")
def smoke():
    return read_profile(experiment.Config, PARAMS, "smoke")


@pytest.fixture(scope="module")
def cpu():
    return read_profile(experiment.Config, PARAMS, "cpu")


@pytest.fixture(scope="module")
def runner():
    return MadeUpRunner()


@pytest.fixture(scope="module")
def tables(cpu, runner):
    return experiment.run(cpu, runner)


# --- Settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("seeds", [1, 1], r"seeds.* 1 stands in it twice"),
        ("search.seeds", [1], r"and from the tuning seeds \[1\]"),
        ("long.rates", [1e-3, 2e-3, 3e-3], "are 3; their number must be a power of two"),
        ("long.at_rate_of", {"tied": "untied"}, "at_rate_of names untied, not among those that are tuned"),
        ("short.rates", {"swapped": 1e-3}, "short.rates"),
        ("other_text.seeds", [1000], r"other_text.seeds \[1000\] must differ"),
        ("widths.rates", {"tied": [1e-3]}, "1 rates of tied for 2 widths"),
        ("first_loss.num_seeds", 3, "first_loss.num_seeds 3"),
        ("initial_loss.sigmas", [0.0], "initial_loss.sigmas"),
        ("lion.task.vocabulary", 20, "lion.task.vocabulary"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(smoke, path, value, told):
    with pytest.raises(ConfigError, match=told):
        parse(experiment.Config, changed(smoke, path, value), source="params.yaml")


@pytest.mark.parametrize(("study", "sizes"), [("widths", "task"), ("first_loss", "size")])
def test_widths_that_the_attention_heads_do_not_divide_are_refused(smoke, study, sizes):
    content = changed(smoke, f"{study}.{sizes}.heads", 4)
    content[study]["widths"] = [16, 18]
    with pytest.raises(ConfigError, match=rf"'{study}' .* widths \[18\] must be multiples of heads 4"):
        parse(experiment.Config, content, source="params.yaml")


# --- Profiles ------------------------------------------------------------------------------------------------------


NAMED_OTHERWISE = {
    "initial_loss": {"initial_loss", "scores", "self_logits"},
    "long": {"long_search", "long"},
    "lion": {"rare_rows"},
}


@pytest.mark.parametrize("study", ["initial_loss", "first_loss", "lion", *CURVES])
def test_a_profile_runs_the_studies_that_it_names_and_no_other(smoke, study):
    block = smoke.model_dump(include={"search", "seeds", study})
    runner = MadeUpRunner()
    experiment.run(parse(experiment.Config, block, source="params.yaml"), runner)
    assert {run.experiment for grid in runner.asked for run in grid} == NAMED_OTHERWISE.get(study, {study})


def test_the_paper_profile_trains_the_source_s_heads_on_files_of_the_hub_by_the_same_code(tmp_path, monkeypatch):
    paper = read_profile(experiment.Config, PARAMS, "paper")
    size = paper.long.task
    assert (size.width, size.layers, size.vocabulary, len(paper.long.seeds)) == (768, 12, 50257, 11)
    assert set(paper.long.tuned) == set(figures.SOURCE_ARMS)
    content = paper.model_dump()
    content["hardware"] |= {"device": "cpu", "micro_batch": 3}
    content["long"] |= {"rates": [1e-3], "seeds": [0, 1]}
    content["long"]["task"] |= {
        "vocabulary": VOCABULARY, "width": 16, "layers": 1, "heads": 2, "context": 16, "batch": 4, "steps": 6,
        "warmup_steps": 1, "windows": 5,
    }  # fmt: skip
    tiny = parse(experiment.Config, content, source="params.yaml")
    monkeypatch.setattr(paperkit_runs, "ProcessPoolExecutor", InThisProcess)
    with hub_files(tmp_path, "wikitext_103"):
        tiny.require()
        tables = experiment.run(tiny, Runner("tiny", "paper", {}, 1, kept=tmp_path, hardware=tiny.hardware))
    write_runs(tmp_path / "runs.csv", tables.runs)
    found = read_runs(tmp_path / "runs.csv")
    assert set(found["experiment"]) == {"long"}
    assert set(found["arm"]) == set(paper.long.tuned)
    assert difference(found, "long", "small_sigma", "half_swap", "area_nats", "train").notna().sum() == 2
    settings = json.loads(found["config"][0])
    assert {"corpus": "wikitext_103", "precision": "bfloat16", "micro_batch": 3}.items() <= settings.items()
    assert [(row["arm"], row["seed"]) for row in tables.trials] == [
        (arm, seed) for arm in paper.long.tuned for seed in paper.search.seeds
    ]


def test_a_missing_text_is_named_before_anything_is_trained(smoke, tmp_path):
    config = parse(experiment.Config, changed(smoke, "widths.task.corpus", "wikitext_103"), source="params.yaml")
    with hub_files(tmp_path), pytest.raises(FileNotFoundError, match=r"tokenizer\.json .*hf download"):
        config.require()


# --- Grids ---------------------------------------------------------------------------------------------------------


def test_the_cpu_profile_makes_the_runs_and_trials_of_the_committed_results(tables, tmp_path):
    write_runs(tmp_path / "runs.csv", tables.runs)
    write_trials(tmp_path / "trials.csv", tables.trials)
    runs, committed = read_runs(tmp_path / "runs.csv"), read_runs(COMMITTED / "runs.csv")
    committed = committed[committed["experiment"] != "identities"]  # the stage runs the checks
    keys = ["experiment", "arm", "seed", "config"]
    assert set(runs[keys[:3]].itertuples(index=False)) == set(committed[keys[:3]].itertuples(index=False))
    tuned = ["long", "long_search"]
    runs, committed = (each[~each["experiment"].isin(tuned)] for each in (runs, committed))
    assert set(runs[keys].itertuples(index=False)) == set(committed[keys].itertuples(index=False))
    trials, committed = read_trials(tmp_path / "trials.csv"), read_trials(COMMITTED / "trials.csv")
    assert set(trials[keys].itertuples(index=False)) == set(committed[keys].itertuples(index=False))


def test_the_rate_with_the_least_validation_loss_is_reported_on_fresh_paired_seeds(cpu, runner, tables):
    selected = BEST_RATE | {"tied": 2.6e-3, "untied": 3.7e-3, "orthogonal": 3.7e-3}
    for arm, rate in selected.items():
        reports = [run for run in runner.runs("long") if run.arm == arm]
        assert [run.seed for run in reports] == [200, 201, 202, 203, 204]
        assert {run.config["lr"] for run in reports} == {rate}
    assert len(runner.runs("long")) == 5 * len(selected)

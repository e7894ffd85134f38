"""Every study compares what it says it compares; a made-up runner stands in for all training."""

import json
import math
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from paperkit import runs as paperkit_runs
from paperkit.claims.declarations import load_estimands, read_claims
from paperkit.claims.verdicts import judge_runs
from paperkit.config import ConfigError, parse, read_profile
from paperkit.estimands import difference
from paperkit.results import canonical_json, read_runs, read_trials, write_json, write_runs, write_trials
from paperkit.runs import Runner
from paperkit.tuning import at_edge
from replications.shared_embeddings import experiment, figures
from replications.shared_embeddings.embedding import HEADS
from replications.shared_embeddings.studies import curves, passes, widths
from tests.hub_files import VOCABULARY, hub_files
from tests.made_up_runs import InThisProcess, changed, made_up_row

FOLDER = Path(__file__).parent
PARAMS, CLAIMS = FOLDER / "params.yaml", read_claims(FOLDER / "claims.yaml")
BEST_RATE = {"tied": 2e-3, "half_swap": 6e-3, "untied": 4e-3}


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
        if run.experiment in ("widths", "curves", "passes", "factorial") or run.experiment.endswith("_search"):
            return self._curve(run)
        if run.experiment == "initial_loss":
            losses = [(f"{name}_{kind}_nats", 8 + wiggle(run)) for name in HEADS for kind in ("loss", "predicted")]
            return [("none", 0, name, value) for name, value in [*losses, ("source_formula_nats", 9.0)]]
        if run.experiment == "first_loss":
            names = ("tied_loss_nats", "untied_loss_nats", "half_swap_loss_nats", "repeated_share")
            return [("validation", 0, name, 1 + len(name) + wiggle(run)) for name in names]
        if run.experiment == "rare_rows":
            return [("none", 1, f"{name}_largest", wiggle(run)) for name in ("unseen", "rare", "frequent")]
        if run.experiment == "scores":
            return [("none", j, "score", wiggle(run)) for j in range(3)]
        at = [("none", percent, "self_logit_percentile", percent / 10) for percent in range(5, 100, 10)]
        return [("none", 0, "self_logit_mean", 0.0), *at]

    def _curve(self, run):
        steps, loss = run.config["steps"], made_up_loss(run)
        rows = [
            ("validation", steps, "loss_nats", loss),
            ("validation", steps, "best_loss_nats", 10 / loss),
        ]
        if run.experiment.endswith("_search"):
            return rows
        rows += [("test", steps, name, 10 / loss) for name in ("loss_nats", "best_loss_nats")]
        rows += [("train", steps, name, 3 + loss) for name in curves.SUMMARIES]
        if run.config["curve"]:
            rows += [("train", end, "part_loss_nats", 7 + wiggle(run)) for end in curves.curve_parts(np.zeros(steps))]
        return rows


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


@pytest.fixture(scope="module")
def folder(tables, tmp_path_factory):
    path = tmp_path_factory.mktemp("results")
    write_runs(path / "runs.csv", tables.runs)
    write_trials(path / "trials.csv", tables.trials)
    return path


@pytest.fixture(scope="module")
def runs(folder):
    return read_runs(folder / "runs.csv")


# --- Settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("seeds", [], "seeds"),
        ("seeds", [1, 1], r"seeds \[1, 1\] must differ from each other"),
        ("search.seeds", [1], r"and from the tuning seeds \[1\]"),
        ("search.lr", {"low": 1e-2, "high": 1e-3}, "low 0.01 must be less than high 0.001"),
        ("curves.num_trials", 3, "curves.num_trials 3 must be a power of two"),
        ("widths.num_trials", 6, "widths.num_trials 6 must be a power of two"),
        ("passes.num_trials", 5, "passes.num_trials 5 must be a power of two"),
        ("curves.num_other_seeds", 3, "curves.num_other_seeds 3 must be at most the number of seeds, 2"),
        ("widths.seeds", [4, 4], r"widths.seeds \[4, 4\] must differ from each other"),
        ("passes.seeds", [1000], r"passes.seeds \[1000\] must differ .* from the tuning seeds \[1000\]"),
        ("passes.seeds", [], "passes.seeds"),
        ("widths.lr", {"low": 1e-2, "high": 1e-3}, "low 0.01 must be less than high 0.001"),
        ("passes.lr", {"low": 0.0, "high": 1e-3}, "passes.lr.low"),
        ("first_loss.num_seeds", 3, "first_loss.num_seeds 3"),
        ("initial_loss.num_seeds", 3, "initial_loss.num_seeds 3"),
        ("lion.num_seeds", 3, "lion.num_seeds 3"),
        ("first_loss.widths", [15], "first_loss.widths"),
        ("widths.widths", [16], "widths.widths"),
        ("widths.task.heads", 3, "width 16 must be a multiple of heads 3"),
        ("initial_loss.vocabularies", [1], "initial_loss.vocabularies"),
        ("initial_loss.sigmas", [0.0], "initial_loss.sigmas"),
        ("lion.task.vocabulary", 20, "lion.task.vocabulary"),
        ("lion.task.rare_probability", 0.5, "rare_probability"),
        ("curves.task.clip", 1.0, "clip.* unknown"),
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


@pytest.mark.parametrize(
    ("study", "experiments"),
    [
        ("initial_loss", {"initial_loss", "scores", "self_logits"}),
        ("first_loss", {"first_loss"}),
        ("curves", {"curves_search", "curves", "factorial"}),
        ("widths", {"widths_search", "widths"}),
        ("passes", {"passes_search", "passes"}),
        ("lion", {"rare_rows"}),
    ],
)
def test_a_profile_runs_the_studies_that_it_names_and_no_other(smoke, study, experiments):
    runner, content = MadeUpRunner(), smoke.model_dump(include={"search", "seeds", study})
    experiment.run(parse(experiment.Config, content, source="params.yaml"), runner)
    assert {run.experiment for grid in runner.asked for run in grid} == experiments


def test_the_paper_profile_trains_the_source_s_heads_on_files_of_the_hub_by_the_same_code(tmp_path, monkeypatch):
    paper = read_profile(experiment.Config, PARAMS, "paper")
    size = paper.curves.task
    assert (size.width, size.layers, size.vocabulary, len(paper.seeds)) == (768, 12, 50257, 11)
    content = paper.model_dump() | {"seeds": [0, 1]}
    content["hardware"] |= {"device": "cpu", "micro_batch": 3}
    content["curves"]["num_trials"] = 1
    content["curves"]["task"] |= {
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
    assert set(found["experiment"]) == {"curves"}
    assert set(found["arm"]) == set(curves.SOURCE_ARMS)
    assert difference(found, "curves", "small_sigma", "half_swap", "area_nats", "train").notna().sum() == 2
    settings = json.loads(found["config"][0])
    assert {"corpus": "wikitext_103", "precision": "bfloat16", "micro_batch": 3}.items() <= settings.items()
    assert [(row["arm"], row["seed"]) for row in tables.trials] == [
        (arm, seed) for arm in curves.SOURCE_ARMS for seed in paper.search.seeds
    ]


@pytest.mark.parametrize("study", ["curves", "widths", "passes"])
def test_a_missing_text_is_named_before_anything_is_trained(smoke, study, tmp_path):
    config = parse(experiment.Config, changed(smoke, f"{study}.task.corpus", "wikitext_103"), source="params.yaml")
    with hub_files(tmp_path), pytest.raises(FileNotFoundError, match=r"tokenizer\.json .*hf download"):
        config.require()


def test_a_missing_device_is_named_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OSError, match="ask for a CUDA device"):
        read_profile(experiment.Config, PARAMS, "paper").require()


# --- Claims --------------------------------------------------------------------------------------------------------


ESTIMANDS = load_estimands("replications.shared_embeddings.estimands", CLAIMS)


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.kind != "identity"], ids=lambda claim: claim.id)
def test_the_cpu_profile_runs_the_seeds_that_a_claim_asks_for_and_without_runs_an_estimand_is_empty(claim, runs):
    for test in (*claim.tests, *claim.corrected):
        assert ESTIMANDS[test.estimand](runs).notna().sum() >= claim.min_seeds
        assert len(ESTIMANDS[test.estimand](runs.iloc[:0])) == 0


# --- Grids ---------------------------------------------------------------------------------------------------------


def test_all_trials_are_one_grid_and_all_reports_another(runner, tables):
    trials, reports = runner.asked
    assert all(run.experiment.endswith("_search") for run in trials)
    assert not any(run.experiment.endswith("_search") for run in reports)


def test_every_arm_of_a_study_gets_the_same_rates_on_the_seed_that_is_not_reported(cpu, runner, tables):
    searched = {}
    for run in runner.asked[0]:
        key = run.experiment, run.config["width"]
        searched.setdefault(key, {}).setdefault(run.arm, []).append(run.config["lr"])
        assert [run.seed] == cpu.search.seeds
    assert len(searched) == 2 + len(cpu.widths.widths)
    for by_arm in searched.values():
        rates = list(by_arm.values())
        assert all(of_arm == rates[0] for of_arm in rates)
        assert len(set(rates[0])) == len(rates[0])
    assert set(searched["curves_search", 128]) == set(curves.ARMS)


@pytest.mark.parametrize(
    ("study", "arms", "best"),
    # The made-up best loss on the way, which selects in passes, is least where the last loss is largest.
    [("curves", curves.SOURCE_ARMS, min), ("widths", widths.ARMS, min), ("passes", passes.ARMS, max)],
)
def test_the_rate_with_the_least_validation_loss_is_reported_on_fresh_paired_seeds(
    cpu, runner, tables, study, arms, best
):
    seeds = getattr(getattr(cpu, study), "seeds", cpu.seeds)
    widths_of_study = {run.config["width"] for run in runner.runs(study)}
    for arm, width in product(arms, widths_of_study):
        trials, reports = (
            [run for run in runner.runs(name) if (run.arm, run.config["width"]) == (arm, width)]
            for name in (f"{study}_search", study)
        )
        assert all(run.config == best(trials, key=made_up_loss).config for run in reports)
        assert [run.seed for run in reports] == seeds


@pytest.mark.parametrize(("study", "searched"), [("curves", "search"), ("widths", "widths"), ("passes", "passes")])
def test_each_study_searches_its_own_range_and_its_measures_edges_by_it(cpu, runner, folder, study, searched):
    space = getattr(cpu, searched).lr
    rates = [run.config["lr"] for run in runner.runs(f"{study}_search")]
    assert min(rates) < 1.6 * space.low
    assert all(space.low <= rate <= space.high for rate in rates)
    trials = read_trials(folder / "trials.csv")
    for row in trials[trials["experiment"] == study].itertuples():
        assert row.at_edge == at_edge({"lr": json.loads(row.config)["lr"]}, {"lr": space})


def test_the_factorial_changes_each_factor_by_the_ratio_of_the_sigmas(cpu, runner, tables):
    cells = {run.arm: run.config for run in runner.runs("factorial") if run.seed == 0}
    assert len(cells) == 8
    ratio = math.log(2048) / math.sqrt(128)
    rate = next(run.config["lr"] for run in runner.runs("curves") if run.arm == "half_swap")
    for arm, config in cells.items():
        logits, inputs, step = map(int, arm)
        assert config["lr"] == rate
        expected = (ratio**logits, ratio**inputs, ratio**-step)
        factors = config["factors"]
        assert (factors["logit_scale"], factors["input_scale"], factors["table_lr_scale"]) == pytest.approx(expected)


def test_the_ledger_keeps_every_trial_and_one_selected_of_each_arm(cpu, folder):
    trials = read_trials(folder / "trials.csv")
    width = trials["config"].map(lambda text: json.loads(text).get("width", 0)).rename("width")
    groups = trials.groupby(["experiment", "arm", width])
    assert set(groups["selected"].sum()) == {1}
    expected = {"curves": cpu.curves.num_trials, "widths": cpu.widths.num_trials, "passes": cpu.passes.num_trials}
    for (name, _, _), size in groups.size().items():
        assert size == expected[name]


def test_results_stay_small_enough_for_git(folder, runs):
    assert (folder / "runs.csv").stat().st_size < 2_000_000
    points = runs.groupby(["experiment", "arm", "seed", "config"])["step"].nunique()
    assert points.max() <= 50


# --- Figures -------------------------------------------------------------------------------------------------------


def test_figures_are_drawn_from_results_alone_and_byte_for_byte_the_same(folder, runs, tmp_path):
    write_json(folder / "verdicts.json", {"claims": judge_runs(CLAIMS, runs, ESTIMANDS, num_primary=4)})
    for name in ("once", "again"):
        figures.draw(folder, tmp_path / name)
    drawn = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert len(drawn) == 11
    for name in drawn:
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()

"""Every study compares what it says it compares; a made-up runner stands in for all training."""

import json
import math
import zlib
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
from replications.shared_embeddings import experiment, figures
from replications.shared_embeddings.embedding import HEADS
from replications.shared_embeddings.studies import curves
from tests.hub_files import VOCABULARY, hub_files
from tests.made_up_runs import InThisProcess, changed, made_up_row

FOLDER = Path(__file__).parent
SUPERSEDED = FOLDER.parents[1] / "results/shared_embeddings/superseded"
PARAMS, CLAIMS = FOLDER / "params.yaml", read_claims(FOLDER / "claims.yaml")
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
        if run.experiment in CURVES or run.experiment.endswith("_search"):
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
        ("seeds", [1, 1], r"seeds.* 1 stands in it twice"),
        ("search.seeds", [1], r"and from the tuning seeds \[1\]"),
        ("long.rates", [1e-3, 2e-3, 3e-3], "are 3; their number must be a power of two"),
        ("long.rates", [0.0, 1e-3], "long.rates"),
        ("long.tuned", ["half_swap", "sigma"], "long.tuned"),
        ("long.at_rate_of", {"tied": "untied"}, "at_rate_of names untied, not among those that are tuned"),
        ("short.rates", {"swapped": 1e-3}, "short.rates"),
        ("short.rates", {"half_swap": -1e-3}, "short.rates"),
        ("other_text.seeds", [1000], r"other_text.seeds \[1000\] must differ"),
        ("widths.seeds", [4, 4], r"widths.seeds.* 4 stands in it twice"),
        ("passes.seeds", [1000], r"passes.seeds \[1000\] must differ .* from the tuning seeds \[1000\]"),
        ("passes.seeds", [], "passes.seeds"),
        ("widths.rates", {"tied": [1e-3]}, "1 rates of tied for 2 widths"),
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
        ("long", {"long_search", "long"}),
        ("short", {"short"}),
        ("curves", {"curves"}),
        ("other_text", {"other_text"}),
        ("widths", {"widths"}),
        ("passes", {"passes"}),
        ("lion", {"rare_rows"}),
    ],
)
def test_a_profile_runs_the_studies_that_it_names_and_no_other(smoke, study, experiments):
    runner, content = MadeUpRunner(), smoke.model_dump(include={"search", "seeds", study})
    experiment.run(parse(experiment.Config, content, source="params.yaml"), runner)
    assert {run.experiment for grid in runner.asked for run in grid} == experiments


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


@pytest.mark.parametrize("study", CURVES)
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
def test_the_runs_have_the_seeds_that_a_claim_asks_for_and_without_runs_an_estimand_is_empty(claim, runs):
    rows = read_runs(SUPERSEDED / "runs.csv") if claim.superseded_by else runs
    for test in (*claim.tests, *claim.corrected):
        assert ESTIMANDS[test.estimand](rows).notna().sum() >= claim.min_seeds
        assert len(ESTIMANDS[test.estimand](rows.iloc[:0])) == 0
    for variation in claim.robustness:
        assert ESTIMANDS[variation.estimand](rows).notna().sum() >= 3


def test_a_primary_claim_is_read_under_variations_of_each_kind():
    horizon_text_metric = {"C6r": ("400 steps", "other text"), "C7r": ("400 steps", "other text", "last quarter")}
    horizon_text_metric |= {"C8r": ("400 steps", "validation loss", "last quarter"), "C5": ("half swap", "positions")}
    for claim in (claim for claim in CLAIMS if claim.is_primary):
        names = " ".join(variation.name for variation in claim.robustness)
        assert all(kind in names for kind in horizon_text_metric[claim.id])


# --- Grids ---------------------------------------------------------------------------------------------------------


def test_the_race_takes_every_rate_of_one_list_once_on_three_seeds_that_are_not_reported(cpu, runner, tables):
    searched = {}
    for run in (run for grid in runner.asked[:2] for run in grid):
        assert run.experiment == "long_search"
        searched.setdefault((run.arm, run.seed), []).append(run.config["lr"])
    assert searched.keys() == {(arm, seed) for arm in cpu.long.tuned for seed in cpu.search.seeds}
    assert all(sorted(rates) == cpu.long.rates for rates in searched.values())
    ratios = np.divide(cpu.long.rates[1:], cpu.long.rates[:-1])
    assert ratios == pytest.approx([math.sqrt(2)] * 3, rel=0.01)
    assert not any(run.experiment.endswith("_search") for run in runner.asked[2])


def test_the_rate_with_the_least_validation_loss_is_reported_on_fresh_paired_seeds(cpu, runner, tables):
    selected = BEST_RATE | {"tied": 2.6e-3, "untied": 3.7e-3, "orthogonal": 3.7e-3}
    for arm, rate in selected.items():
        reports = [run for run in runner.runs("long") if run.arm == arm]
        assert [run.seed for run in reports] == [200, 201, 202, 203, 204]
        assert {run.config["lr"] for run in reports} == {rate}
    assert len(runner.runs("long")) == 5 * len(selected)


@pytest.mark.parametrize("study", ["curves", "widths", "passes"])
def test_fixed_rates_are_those_that_the_old_search_selected_on_a_seed_that_is_not_reported(study, runner, tables):
    """Its widths have a rate each; a head that was not searched has that of plain tying."""
    trials = read_trials(SUPERSEDED / "trials.csv")
    old = trials[(trials["experiment"] == study) & trials["selected"]]
    points = [json.loads(text) for text in old["config"]]
    selected = {(arm, point.get("width")): point["lr"] for arm, point in zip(old["arm"], points, strict=True)}
    found = [*runner.runs(study), *((runner.runs("short") + runner.runs("other_text")) if study == "curves" else ())]
    for run in found:
        arm = {"scaled_table_rate": "tied"}.get(run.arm, run.arm)
        assert run.config["lr"] == selected[arm, run.config["width"] if study == "widths" else None]
        assert run.seed not in set(old["seed"])


def test_what_was_not_judged_again_has_the_runs_that_it_had(runner, tables):
    """Seeds and settings, by number: exploratory claims that keep their ids."""
    for study, arms, seeds in (("curves", 4, range(5)), ("passes", 2, range(11, 20)), ("widths", 8, range(11, 16))):
        assert sorted(run.seed for run in runner.runs(study)) == sorted([*seeds] * arms)
    assert {run.config["steps"] for run in runner.runs("curves")} == {400}


def test_the_ledger_keeps_every_trial_and_one_selected_of_each_arm(cpu, folder):
    trials = read_trials(folder / "trials.csv")
    groups = trials.groupby(["experiment", "arm"])
    assert set(groups["selected"].sum()) == {len(cpu.search.seeds)}
    assert groups.size().to_dict() == {("long", arm): 4 * len(cpu.search.seeds) for arm in cpu.long.tuned}


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
    assert len(drawn) == 20  # ten figures, and the numbers of each as CSV
    for name in drawn:
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()

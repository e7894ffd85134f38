"""Every study compares what it says it compares; a made-up runner stands in for all training."""

import json
import math
import zlib
from pathlib import Path
from statistics import fmean

import pytest

from paperkit import runs as paperkit_runs
from paperkit.claims.declarations import load_estimands, read_claims
from paperkit.config import ConfigError, parse, read_profile
from paperkit.hardware import Hardware
from paperkit.results import canonical_json, read_runs, read_trials, write_runs, write_trials
from paperkit.runs import Runner
from paperkit.tuning import LogRange, Search, Tuned
from replications.lion import experiment
from replications.lion.studies.arms import ARMS, VARIANTS
from replications.lion.studies.embedding import ARMS as EMBEDDING_ARMS
from replications.lion.studies.language_model import measure_language_model_trial
from replications.lion.studies.search import NUM_CHOSEN_AGAIN, choose_again
from tests.hub_files import VOCABULARY, hub_files
from tests.made_up_runs import InThisProcess, changed, made_up_row

FOLDER = Path(__file__).parent
COMMITTED = FOLDER.parents[1] / "results/lion"
PARAMS = FOLDER / "params.yaml"
RATIOS = [2.0, 3.0, 40.0]  # of displacements in successive windows: median 3, mean 15
# Rows (split, step, metric, value) of what is not tuned.
FIXED_ROWS = {
    "measure_constraint": [("none", 0, "box_excess", 0.0), ("test", 0, "nll_nats", 1.0)],
    "measure_noise": [("none", 0, "drift_ratio", 7.0)],
    "measure_drift": [("none", 0, "lion_simulated", 0.1)],
    "measure_portrait": [("none", 0, "x", 1.0)],
    "measure_flatness": [("train", 0, "nll_nats", 0.1), ("test", 0, "perturbed_0.1_nll_nats", 2.0)],
}
SEARCHED = ("lr", "weight_decay", "betas", "embedding_lr")
# Of the made-up loss; inside the grids of all searches.
BEST_RATES = {"adamw": 1e-2, "lion": 1e-3, "cautious_lion": 4e-3}


def made_up_loss(run):
    """Least near the best rate of the arm, and never the same twice."""
    wiggle = zlib.crc32(canonical_json([run.arm, run.seed, run.config]).encode()) / 2**32
    return 1 + math.log(run.config["lr"] / BEST_RATES.get(run.arm, 2e-3)) ** 2 + wiggle / 100


class MadeUpRunner:
    """Keeps the runs it is asked for, and makes up their rows.

    Only the validation loss at the end is `loss_of` the run. What could be taken for it, the loss half-way, another
    metric, the test loss of a report, is least where it is largest.
    """

    profile = "cpu"

    def __init__(self, loss_of=made_up_loss):
        self.loss_of, self.asked = loss_of, []

    def __call__(self, measure, runs):
        self.asked += [(measure.__name__, run) for run in runs]
        return [[made_up_row(run, *measured) for measured in self.rows(measure.__name__, run)] for run in runs]

    def runs(self, name):
        return [run for _, run in self.asked if run.experiment == name]

    def best(self, name, arm, *, first=None, **task):
        """Return the searched part of the trial that has the least mean validation loss of those on most seeds."""
        trials = {}
        for run in self.runs(f"{name}_search"):
            if run.arm == arm and task.items() <= run.config.items():
                trials.setdefault(canonical_json(point_of(run.config)), []).append(run)
        drawn = list(trials.values())[:first]
        raced = [of_trial for of_trial in drawn if len(of_trial) == max(map(len, drawn))]
        return point_of(min(raced, key=lambda of_trial: fmean(map(self.loss_of, of_trial)))[0].config)

    def rows(self, measure, run):
        if measure in FIXED_ROWS:
            return FIXED_ROWS[measure]
        steps = run.config.get("steps") or run.config["samples_seen"] // run.config["batch"]
        if measure.endswith("_updates"):
            ends = range(2 * run.config["window"], steps + 1, run.config["window"])
            ratios = [("none", step, "update_ratio", RATIOS[number % 3]) for number, step in enumerate(ends)]
            masked = [("none", step, "masked_share", 0.4) for step in ends]
            return [*masked, *(ratios if run.arm == "adamw" else ())]
        metric, loss = "nll_nats" if "digits" in measure else "loss_nats", self.loss_of(run)
        decoy = ("error_share", steps) if "digits" in measure else (metric, steps // 2)
        rows = [("validation", decoy[1], decoy[0], 10 / loss), ("validation", steps, metric, loss)]
        return rows if measure.endswith("_trial") else [*rows, ("test", steps, metric, 10 / loss)]


def point_of(config):
    return {name: config[name] for name in SEARCHED if name in config}


@pytest.fixture(scope="module")
def cpu():
    return read_profile(experiment.Config, PARAMS, "cpu")


@pytest.fixture(scope="module")
def runner():
    return MadeUpRunner()


@pytest.fixture(scope="module")
def tables(cpu, runner):
    return experiment.run(cpu, runner)


# --- Settings --------------------------------------------------------------------------------------------------

PAIR = [0.9, 0.99]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("seeds", [0, 1, 1], r"seeds.* 1 stands in it twice"),
        ("search.seeds", [11], r"study_seeds .* from the tuning seeds \[11\]"),
        ("derivation.noise_seeds", [1000], r"derivation.noise_seeds \[1000\] must differ .* tuning seeds \[1000\]"),
        ("study_seeds", [2, 10], r"seeds and study_seeds share \[2\]"),
        ("headline.box.lr", {"low": 1e-2, "high": 1e-3}, "headline.box.lr.*low 0.01 must be less than high 0.001"),
        ("search.betas", [PAIR], "betas has 1 pairs and single_betas 4; make them as many"),
        ("search.betas", [[0.9, 1.0], PAIR, PAIR, PAIR], "search.betas"),
        ("search.single_betas", [0.9, 0.9, 0.9, 1.0], "search.single_betas"),
        ("headline.task.curve_points", 21, "curve_points 21 must be at most steps = 20"),
        ("headline.num_trials", 3, "headline.num_trials.* 3.*power of two"),
        ("headline.budgets", [1, 4], "budgets .* must be at most num_trials 2"),
        ("headline.num_budget_seeds", 4, "headline.num_budget_seeds 4 must be at most the number of seeds, 3"),
        ("headline.warmup_steps", 19, "warmup_steps 19 must be at most task.steps - 2 = 18"),
        ("variants.num_seeds", 3, "variants.num_seeds 3 must be at most the number of seeds, 2"),
        ("variants.lr_factors", [0.0], "variants.lr_factors"),
        ("batch_sweep.task.batches", [48, 64], "batch 48 must divide samples_seen 1280"),
        ("batch_sweep.task.batches", [64, 1280], "into at least 2 steps"),
        ("batch_sweep.budget", 4, "budget 4 must be at most num_trials 2"),
        ("ablation.batch", 32, r"ablation.batch 32 must be one of \[16, 64\]"),
        ("ablation.num_box_seeds", 3, "ablation.num_box_seeds 3"),
        ("embedding.num_variation_seeds", 3, "embedding.num_variation_seeds 3"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(path, value, told):
    smoke = read_profile(experiment.Config, PARAMS, "smoke")
    with pytest.raises(ConfigError, match=told):
        parse(experiment.Config, changed(smoke, path, value), source="params.yaml")


def test_all_arms_choose_from_one_box_and_one_list_of_betas_at_every_scale(cpu):
    assert all(pair in cpu.search.betas for pair in ([0.9, 0.95], [0.9, 0.99], [0.95, 0.98], [0.9, 0.999]))
    for profile in ("gpu", "paper"):
        search = read_profile(experiment.Config, PARAMS, profile).search
        assert (search.betas, search.single_betas) == (cpu.search.betas, cpu.search.single_betas)
    for study in (cpu.headline, cpu.variants, cpu.batch_sweep, cpu.ablation):
        for arm in VARIANTS:
            single = [[beta, beta] for beta in cpu.search.single_betas]
            betas = single if arm in ("signum", "tiger") else cpu.search.betas
            space = {"lr": study.box.lr, "weight_decay": study.box.weight_decay, "betas": betas}
            assert cpu.search.space(arm, study.box) == space


# --- Searches --------------------------------------------------------------------------------------------------


def test_the_cpu_profile_makes_the_runs_and_trials_of_the_committed_results(tables, tmp_path):
    write_runs(tmp_path / "runs.csv", tables.runs)
    write_trials(tmp_path / "trials.csv", tables.trials)
    runs, committed = read_runs(tmp_path / "runs.csv"), read_runs(COMMITTED / "runs.csv")
    committed = committed[committed["experiment"] != "identities"]  # the stage runs the checks

    def compared(run):  # all but what a search has found
        task = {name: value for name, value in json.loads(run.config).items() if name not in SEARCHED}
        return *run[:3], run.config if run.experiment.startswith("learning_rate_sweep") else canonical_json(task)

    keys = ["experiment", "arm", "seed", "config"]
    asked, ran = ({compared(run) for run in each[keys].itertuples(index=False)} for each in (runs, committed))
    assert asked == ran
    measured = ["experiment", "split", "metric"]
    assert set(runs[measured].itertuples(index=False)) <= set(committed[measured].itertuples(index=False))
    trials, committed = read_trials(tmp_path / "trials.csv"), read_trials(COMMITTED / "trials.csv")
    assert trials[keys[:3]].value_counts().to_dict() == committed[keys[:3]].value_counts().to_dict()


def test_a_search_looks_at_no_test_split(runner, tables):
    assert all(measure.endswith("_trial") == run.experiment.endswith("_search") for measure, run in runner.asked)


def tasks_of(cpu, name):
    return [{"batch": batch} for batch in cpu.batch_sweep.task.batches] if "batch" in name else [{}]


@pytest.mark.parametrize(
    ("name", "earlier", "arms"),
    [
        ("lm_quality_longer", "lm_quality", {"adamw": "adamw", "lion": "lion"}),
        ("lm_shorter_list", "lm_quality", {"adamw": "adamw", "lion": "lion"}),
        ("lm_corrected", "lm_quality", {"corrected_lion": "lion"}),
        ("batch_sweep_longer", "batch_sweep", {"adamw": "adamw", "lion": "lion"}),
    ],
)
def test_a_variation_chooses_again_between_the_two_best_allowed_points_of_the_race_on_every_tuning_seed(
    cpu, runner, tables, name, earlier, arms
):
    for task in tasks_of(cpu, name):
        for arm, of_race in arms.items():
            trials = [run for run in runner.runs(f"{name}_search") if run.arm == arm]
            trials = [run for run in trials if task.items() <= run.config.items()]
            points = {canonical_json(point_of(run.config)) for run in trials}
            assert len(trials) == len(cpu.search.seeds) * len(points) == len(cpu.search.seeds) * NUM_CHOSEN_AGAIN
            if name == "lm_shorter_list":
                assert all(run.config["betas"] != [0.9, 0.95] for run in trials)
            else:
                assert canonical_json(runner.best(earlier, of_race, **task)) in points


def test_of_points_chosen_again_one_on_more_tuning_seeds_comes_first_and_a_diverged_one_never():
    losses = [{7: 1.0}, {7: 2.0, 8: 3.0}, {7: 2.0, 8: math.nan}, {7: 2.0, 8: 2.5}, {7: 0.5}]
    tuned = Tuned([{"lr": number} for number in range(1, 6)], losses)
    search = Search("again", "lion", {"steps": 2}, {"lr": LogRange(low=1e-3, high=1e-1)}, 2, "loss_nats")
    runner = MadeUpRunner(lambda run: 1 + run.config["lr"])
    for allowed, expected in ((lambda _point: True, [4, 2]), (lambda point: point["lr"] not in (2, 4), [5, 1])):
        (again,), rows = choose_again(runner, measure_language_model_trial, [search], [tuned], [7, 8], allowed)
        assert [point["lr"] for point in again.points] == expected
        assert again.best() == {"lr": min(expected)}
        assert [row["seed"] for row in rows] == [7, 8, 7, 8]


# --- Reports ---------------------------------------------------------------------------------------------------


def reported(runner, name, arm, **task):
    """Give the searched part of what was run under a name; one point on all seeds."""
    runs = [run for run in runner.runs(name) if run.arm == arm and task.items() <= run.config.items()]
    points = [point_of(run.config) for run in runs]
    assert points
    assert all(point == points[0] for point in points)
    return points[0]


TUNED = {
    **dict.fromkeys(("lm_quality", "lm_quality_longer", "lm_shorter_list", "batch_sweep", "batch_sweep_longer"), ARMS),
    **{"variants": VARIANTS, "flatness": ARMS, "betas_0.99_0.9": ("lion",), "lm_embedding": EMBEDDING_ARMS},
    "lm_corrected": ("corrected_lion",),
}
AT_A_POINT = [  # a report, its arm, and the search and arm whose selected point it takes
    *((name, arm, name, arm) for name, arms in TUNED.items() for arm in arms),
    *(("lm_other_warmup", arm, "lm_quality", arm) for arm in ARMS),
    *(("lm_embedding_longer", arm, "lm_embedding", arm) for arm in ARMS),
    *(("updates", arm, "variants", arm) for arm in ("adamw", "cautious_lion")),
    ("lm_embedding_lions_rates", "adamw", "lm_embedding", "lion"),
    ("lm_updates", "adamw", "lm_quality", "adamw"),
    ("batch_updates", "adamw", "batch_sweep", "adamw"),
    ("cautious_untuned", "cautious_lion", "variants", "lion"),
]


@pytest.mark.parametrize(("name", "arm", "search", "of"), AT_A_POINT)
def test_a_report_is_at_the_point_that_the_final_validation_loss_selects(cpu, runner, tables, name, arm, search, of):
    for task in tasks_of(cpu, name):
        assert reported(runner, name, arm, **task) == runner.best(search, of, **task)


def test_a_budget_of_n_trials_selects_among_the_first_n(cpu, runner, tables):
    budgets = cpu.headline.budgets
    chosen = {budget: [runner.best("lm_quality", arm, first=budget) for arm in ARMS] for budget in budgets}
    assert len({canonical_json(points) for points in chosen.values()}) > 1
    for budget, points in chosen.items():
        of_budget = {row["arm"]: row["config"] for row in tables.runs if row["experiment"] == f"lm_budget_{budget}"}
        assert [point_of(of_budget[arm]) for arm in ARMS] == points


def test_the_transferred_point_divides_by_the_median_ratio_and_keeps_the_product_of_rate_and_decay(runner, tables):
    adamw, moved = runner.best("lm_quality", "adamw"), reported(runner, "lm_transfer", "lion")
    assert moved["lr"] == pytest.approx(adamw["lr"] / 3)
    assert moved["lr"] * moved["weight_decay"] == pytest.approx(adamw["lr"] * adamw["weight_decay"])
    assert moved["betas"] == [0.9, 0.99]


def test_sensitivity_moves_the_learning_rate_alone_off_each_arms_own_best(cpu, runner, tables):
    for factor in cpu.variants.lr_factors:
        for arm in ARMS:
            best, moved = runner.best("variants", arm), reported(runner, f"lr_factor_{factor:g}", arm)
            assert moved == {**best, "lr": pytest.approx(factor * best["lr"])}


def test_the_ablation_fixes_betas_and_walks_along_the_decay_at_lions_rate(cpu, runner, tables):
    ablation, best = cpu.ablation, runner.best("flatness", "lion")
    for pair in ablation.betas:
        name = f"betas_{pair[0]:g}_{pair[1]:g}"
        assert all(run.config["betas"] == pair for run in [*runner.runs(f"{name}_search"), *runner.runs(name)])
    for name, applied in (("constraint", 1), ("constraint_control", 0)):
        assert {run.config["box_decay"] for run in runner.runs(name)} == set(ablation.box_decays)
        for run in runner.runs(name):
            assert run.config["lr"] == best["lr"]
            assert run.config["weight_decay"] == applied * run.config["box_decay"]


# --- Larger scales -------------------------------------------------------------------------------------------------


def test_the_blocks_of_larger_scales_run_the_headline_alone_through_the_same_code(tmp_path, monkeypatch):
    monkeypatch.setattr(paperkit_runs, "ProcessPoolExecutor", InThisProcess)
    paper = read_profile(experiment.Config, PARAMS, "paper")
    sizes = {"vocabulary": VOCABULARY, "width": 8, "layers": 1, "heads": 2, "context": 8, "batch": 7, "steps": 4}
    times = {"warmup_steps": 1, "evaluation_windows": 4, "curve_windows": 2, "curve_points": 2}
    task = paper.headline.task.model_copy(update=sizes | times)
    headline = paper.headline.model_copy(update={"task": task, "num_trials": 2})
    hardware = Hardware(precision="bfloat16", micro_batch=3)
    tiny = paper.model_copy(update={"headline": headline, "hardware": hardware, "seeds": [0, 1]})
    with hub_files(tmp_path, "wikitext_103"):
        tiny.require()
        tables = experiment.run(tiny, Runner("tiny", "paper", {}, 1, kept=tmp_path, hardware=hardware))
    write_runs(tmp_path / "runs.csv", tables.runs)
    found = read_runs(tmp_path / "runs.csv")
    claims = [claim for claim in read_claims(FOLDER / "claims.yaml") if not claim.superseded_by]
    gap = load_estimands("replications.lion.estimands", claims)["lm_gap"](found)
    assert sorted(gap.index) == [0, 1]
    assert set(found["experiment"]) == {"lm_quality"}
    assert set(found[found["metric"] == "parameters"]["value"]) == {2 * VOCABULARY * 8 + 8 * 8 + 888}
    settings = json.loads(found["config"][0])
    assert {"corpus": "wikitext_103", "precision": "bfloat16", "micro_batch": 3}.items() <= settings.items()
    raced = {(row["arm"], row["seed"]) for row in tables.trials}
    assert raced == {(arm, seed) for arm in ARMS for seed in paper.search.seeds}

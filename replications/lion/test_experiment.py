"""Every study compares what it says it compares; a made-up runner stands in for all training."""

import json
import math
import zlib
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from paperkit import runs as paperkit_runs
from paperkit.claims.declarations import load_estimands, read_claims
from paperkit.config import ConfigError, parse, read_profile
from paperkit.hardware import Hardware
from paperkit.results import canonical_json, read_runs, read_trials, write_runs, write_trials
from paperkit.runs import Runner
from paperkit.tuning import LogRange, Search, Tuned
from replications.lion import experiment
from replications.lion.noise import NOISES
from replications.lion.studies.arms import ARMS, VARIANTS
from replications.lion.studies.embedding import ARMS as EMBEDDING_ARMS
from replications.lion.studies.embedding import BEYOND, CLASSES
from replications.lion.studies.language_model import measure_language_model_trial
from replications.lion.studies.search import NUM_CHOSEN_AGAIN, choose_again
from replications.lion.studies.updates import EARLY_STEPS
from replications.lion.studies.variants import run_variants
from tests.hub_files import VOCABULARY, hub_files
from tests.made_up_runs import InThisProcess, changed, made_up_row

FOLDER = Path(__file__).parent
PARAMS = FOLDER / "params.yaml"
CLAIMS = [claim for claim in read_claims(FOLDER / "claims.yaml") if not claim.superseded_by]
RATIOS = [2.0, 3.0, 40.0]  # of displacements in successive windows: median 3, mean 15
# Rows (split, step, metric, value) of what is not tuned.
FIXED_ROWS = {
    "measure_constraint": [("none", 0, "box_excess", 0.0), ("test", 0, "nll_nats", 1.0)],
    "measure_noise": [("none", 0, "drift_ratio", 7.0)],
    "measure_drift": [("none", 0, "lion_simulated", 0.1)],
    "measure_portrait": [("none", 0, "x", 1.0)],
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
        rows = getattr(self, measure.__name__, lambda _: FIXED_ROWS[measure.__name__])
        return [[made_up_row(run, *measured) for measured in rows(run)] for run in runs]

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

    def measure_language_model_trial(self, run):
        steps, loss = run.config["steps"], self.loss_of(run)
        return [("validation", steps // 2, "loss_nats", opposite(loss)), ("validation", steps, "loss_nats", loss)]

    def measure_language_model(self, run):
        test = ("test", run.config["steps"], "loss_nats", opposite(self.loss_of(run)))
        return [*self.measure_language_model_trial(run), test]

    measure_language_model_and_box = measure_language_model

    def measure_digits_trial(self, run):
        steps, loss = run.config["samples_seen"] // run.config["batch"], self.loss_of(run)
        return [("validation", steps, "error_share", opposite(loss)), ("validation", steps, "nll_nats", loss)]

    def measure_digits(self, run):
        steps = run.config["samples_seen"] // run.config["batch"]
        # A sweep of rates selects nothing: there the test loss may be read like the validation loss.
        test_loss = self.loss_of(run) if run.experiment.startswith("learning") else opposite(self.loss_of(run))
        test = {"nll_nats": test_loss, "error_share": self.loss_of(run)}
        return [*self.measure_digits_trial(run), *(("test", steps, *each) for each in test.items())]

    def measure_embedding_trial(self, run):
        return [("validation", run.config["steps"], "loss_nats", self.loss_of(run))]

    def measure_embedding(self, run):
        steps = run.config["steps"]
        metrics = [
            f"{name}_{label}_{metric}"
            for name in ("embedding", "head") for label in CLASSES for metric in ("rms", *BEYOND)
        ]  # fmt: skip
        test = ("test", steps, "loss_nats", opposite(self.loss_of(run)))
        return [*self.measure_embedding_trial(run), test, *(("none", steps, metric, 0.5) for metric in metrics)]

    def measure_language_model_updates(self, run):
        return self._updates(run, run.config["steps"])

    def measure_digits_updates(self, run):
        return self._updates(run, run.config["samples_seen"] // run.config["batch"])

    def measure_flatness(self, run):
        perturbed = [("test", 0, f"perturbed_{size:g}_nll_nats", 2.0) for size in run.config["perturbations"]]
        return [("train", 0, "nll_nats", 0.1), ("test", 0, "nll_nats", 1.0), *perturbed]

    def _updates(self, run, steps):
        ends = range(2 * run.config["window"], steps + 1, run.config["window"])
        ratios = [("none", step, "update_ratio", RATIOS[number % 3]) for number, step in enumerate(ends)]
        masked = [("none", step, "masked_share", 0.4) for step in ends]
        sizes = [("none", step, "adamw_mean_abs", 0.5) for step in EARLY_STEPS if step <= steps]
        return [*ratios, *masked, *(sizes if run.arm == "adamw" else [])]


def opposite(loss):
    return None if loss is None else 10 / loss


def point_of(config):
    return {name: config[name] for name in SEARCHED if name in config}


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
def runs(tables, tmp_path_factory):
    path = tmp_path_factory.mktemp("lion") / "runs.csv"
    write_runs(path, tables.runs)
    return read_runs(path)


@pytest.fixture(scope="module")
def trials(tables, tmp_path_factory):
    path = tmp_path_factory.mktemp("lion") / "trials.csv"
    write_trials(path, tables.trials)
    return read_trials(path)


# --- Settings --------------------------------------------------------------------------------------------------


PAIR = [0.9, 0.99]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("seeds", [], "seeds"),
        ("seeds", [0, 1, 1], r"seeds.* 1 stands in it twice"),
        ("study_seeds", [], "study_seeds"),
        ("study_seeds", [10, 10], r"study_seeds.* 10 stands in it twice"),
        ("search.seeds", [2], r"seeds .* from the tuning seeds \[2\]"),
        ("search.seeds", [11], r"study_seeds .* from the tuning seeds \[11\]"),
        ("search.draw_seed", -1, "search.draw_seed"),
        ("headline.box.lr", {"low": 1e-2, "high": 1e-3}, "headline.box.lr.*low 0.01 must be less than high 0.001"),
        ("variants.box.weight_decay", {"low": 0.0, "high": 1.0}, "variants.box.weight_decay.low"),
        ("batch_sweep.box.weight_decay", {"low": math.nan, "high": 1.0}, "batch_sweep.box.weight_decay.low"),
        ("ablation.box", {"lr": {"low": 1e-3, "high": 1e-2}}, "ablation.box.weight_decay.* missing"),
        ("embedding.lr", {"low": 1e-3, "high": 1e-3}, "embedding.lr"),
        ("search.betas", [PAIR], "betas has 1 pairs and single_betas 4; make them as many"),
        ("search.betas", {"adamw": [PAIR], "lion": [PAIR]}, "search.betas"),
        ("search.betas", [], "search.betas"),
        ("search.betas", [[0.9, 1.0], PAIR, PAIR, PAIR], "search.betas"),
        ("search.single_betas", [0.9, 0.9, 0.9, 1.0], "search.single_betas"),
        ("search.warmup", 3, "search.warmup.* unknown"),
        ("headline.task.heads", 0, "headline.task.heads"),
        ("headline.task.heads", 3, "width 32 must be a multiple of heads 3"),
        ("headline.task.warmup_steps", 19, "warmup_steps 19 must be at most steps - 2 = 18"),
        ("headline.task.curve_points", 21, "curve_points 21 must be at most steps = 20"),
        ("headline.task.vocabulary", 256, "headline.task.vocabulary"),
        ("headline.num_trials", 3, "headline.num_trials.* 3.*power of two"),
        ("headline.budgets", [1, 4], "budgets .* must be at most num_trials 2"),
        ("headline.budgets", [0], "headline.budgets"),
        ("headline.num_budget_seeds", 4, "headline.num_budget_seeds 4 must be at most the number of seeds, 3"),
        ("headline.num_transfer_seeds", 4, "headline.num_transfer_seeds 4"),
        ("headline.window", 0, "headline.window"),
        ("headline.warmup_steps", 19, "warmup_steps 19 must be at most task.steps - 2 = 18"),
        ("headline.num_longer_seeds", 4, "headline.num_longer_seeds 4"),
        ("headline.num_variation_seeds", 4, "headline.num_variation_seeds 4"),
        ("variants.num_trials", 6, "variants.num_trials.* 6.*power of two"),
        ("variants.num_seeds", 3, "variants.num_seeds 3 must be at most the number of seeds, 2"),
        ("variants.lr_factors", [0.0], "variants.lr_factors"),
        ("variants.task.heads", 5, "width 32 must be a multiple of heads 5"),
        ("batch_sweep.task.batches", [16], "batch_sweep.task.batches"),
        ("batch_sweep.task.batches", [48, 64], "batch 48 must divide samples_seen 1280"),
        ("batch_sweep.task.batches", [64, 1280], "into at least 2 steps"),
        ("batch_sweep.task.batches", [0, 64], "batch 0 must divide"),
        ("batch_sweep.num_trials", 12, "batch_sweep.num_trials.* 12.*power of two"),
        ("batch_sweep.num_seeds", 3, "batch_sweep.num_seeds 3"),
        ("batch_sweep.num_rate_seeds", 3, "batch_sweep.num_rate_seeds 3"),
        ("batch_sweep.num_rates", 4, "batch_sweep.num_rates"),
        ("batch_sweep.budget", 4, "budget 4 must be at most num_trials 2"),
        ("batch_sweep.num_longer_seeds", 3, "batch_sweep.num_longer_seeds 3"),
        ("ablation.batch", 32, r"ablation.batch 32 must be one of \[16, 64\]"),
        ("ablation.num_trials", 10, "ablation.num_trials.* 10.*power of two"),
        ("ablation.num_seeds", 3, "ablation.num_seeds 3"),
        ("ablation.num_box_seeds", 3, "ablation.num_box_seeds 3"),
        ("ablation.betas", [[0.9, 0.99, 0.999]], "ablation.betas"),
        ("ablation.box_decays", [1.0, 0.0], "ablation.box_decays"),
        ("ablation.train_nll", 0.0, "ablation.train_nll"),
        ("ablation.perturbations", [-0.1], "ablation.perturbations"),
        ("ablation.draws", 0, "ablation.draws"),
        ("embedding.num_trials", 7, "embedding.num_trials.* 7.*power of two"),
        ("embedding.num_seeds", 3, "embedding.num_seeds 3"),
        ("embedding.total_decay", 0.0, "embedding.total_decay"),
        ("embedding.task.steps", 1, "embedding.task.steps"),
        ("embedding.num_variation_seeds", 3, "embedding.num_variation_seeds 3"),
        ("derivation.noise_seeds", [], "derivation.noise_seeds"),
        ("derivation.noise_seeds", [1000], r"derivation.noise_seeds \[1000\] must differ .* tuning seeds \[1000\]"),
        ("study_seeds", [2, 10], r"seeds and study_seeds share \[2\]"),
        ("variants.lr_factors", [], "variants.lr_factors"),
        ("ablation.betas", [], "ablation.betas"),
        ("ablation.box_decays", [], "ablation.box_decays"),
        ("ablation.perturbations", [], "ablation.perturbations"),
        ("embedding.embedding_lr", {"low": 1e-3, "high": 1e-3}, "embedding.embedding_lr"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(smoke, path, value, told):
    with pytest.raises(ConfigError, match=told):
        parse(experiment.Config, changed(smoke, path, value), source="params.yaml")


def test_all_arms_choose_from_one_box_and_one_list_of_betas_at_every_scale():
    lists = [cpu_or_larger.search for cpu_or_larger in read_blocks("cpu", "gpu", "paper")]
    assert all((each.betas, each.single_betas) == (lists[0].betas, lists[0].single_betas) for each in lists)
    (cpu,) = read_blocks("cpu")
    for study in (cpu.headline, cpu.variants, cpu.batch_sweep, cpu.ablation):
        spaces = {arm: cpu.search.space(arm, study.box) for arm in VARIANTS}
        for arm, space in spaces.items():
            single = [[beta, beta] for beta in cpu.search.single_betas]
            assert (space["lr"], space["weight_decay"]) == (study.box.lr, study.box.weight_decay)
            assert space["betas"] == (single if arm in ("signum", "tiger") else cpu.search.betas)


def test_the_list_holds_the_pairs_that_the_sources_name(cpu):
    assert all(pair in cpu.search.betas for pair in ([0.9, 0.95], [0.9, 0.99], [0.95, 0.98], [0.9, 0.999]))


def read_blocks(*profiles):
    return [read_profile(experiment.Config, PARAMS, profile) for profile in profiles]


def test_the_cpu_profile_steps_through_rates_by_the_root_of_two(cpu):
    sweep = cpu.batch_sweep
    assert (sweep.rates.high / sweep.rates.low) ** (1 / (sweep.num_rates - 1)) == pytest.approx(2**0.5, rel=1e-3)
    assert len(sweep.task.batches) == 5


def test_the_cpu_profile_trains_on_digits_for_400_steps_at_the_largest_batch(cpu):
    task = cpu.batch_sweep.task
    assert task.samples_seen // max(task.batches) >= 400


# --- Claims ----------------------------------------------------------------------------------------------------


ESTIMANDS = load_estimands("replications.lion.estimands", CLAIMS)


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.kind != "timing"], ids=lambda claim: claim.id)
def test_the_cpu_profile_runs_at_least_the_seeds_that_a_claim_asks_for(claim, runs):
    for test in (*claim.tests, *claim.corrected):
        values = ESTIMANDS[test.estimand](runs)
        if test.rule == "identity":
            if test.check:
                continue  # the stage runs it
            assert values[["max_error", "control_error"]].notna().all(axis=None)
            assert len(values) == 1
        else:
            assert values.notna().sum() >= claim.min_seeds


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.is_primary], ids=lambda claim: claim.id)
def test_the_cpu_profile_runs_three_seeds_or_more_of_each_variation(claim, runs):
    for variation in claim.robustness:
        assert ESTIMANDS[variation.estimand](runs).notna().sum() >= 3, variation.name


# --- Searches --------------------------------------------------------------------------------------------------


CHOSEN_AGAIN = ("lm_quality_longer", "lm_shorter_list", "lm_corrected", "batch_sweep_longer")


def searches(runner):
    """Give the trials of each search and batch size, by arm."""
    found = {}
    for _, run in runner.asked:
        if run.experiment.endswith("_search"):
            name = run.experiment, run.config["batch"]
            found.setdefault(name, {}).setdefault(run.arm, []).append(run)
    return found


def test_every_arm_of_a_search_gets_the_same_trials_of_the_same_box_on_the_seed_that_is_not_reported(
    cpu, runner, tables
):
    found = {name: by_arm for name, by_arm in searches(runner).items() if not name[0].startswith(CHOSEN_AGAIN)}
    assert len(found) == 1 + len(cpu.batch_sweep.task.batches) + 1 + 1 + len(cpu.ablation.betas) + 1
    first, *_ = cpu.search.seeds
    for by_arm in found.values():
        points = [
            [
                tuple(run.config.get(name) for name in ("lr", "weight_decay", "embedding_lr"))
                for run in of_arm if run.seed == first
            ]
            for of_arm in by_arm.values()
        ]  # fmt: skip
        assert all(of_arm == points[0] for of_arm in points)
        assert len(set(points[0])) == len(points[0])
        assert {run.seed for of_arm in by_arm.values() for run in of_arm} == set(cpu.search.seeds)
    assert not {*cpu.search.seeds} & {*cpu.seeds}


@pytest.mark.parametrize(
    ("name", "study", "arms"),
    [
        ("lm_quality", "headline", ARMS),
        ("variants", "variants", VARIANTS),
        ("batch_sweep", "batch_sweep", ARMS),
        ("flatness", "ablation", ARMS),
        ("betas_0.9_0.99", "ablation", ("lion",)),
        ("betas_0.965_0.965", "ablation", ("lion",)),
        ("betas_0.95_0.98", "ablation", ("lion",)),
        ("betas_0.99_0.9", "ablation", ("lion",)),
        ("lm_embedding", "embedding", tuple(EMBEDDING_ARMS)),
    ],
)
def test_the_ledger_keeps_every_trial_and_one_selected_of_each_arm(cpu, trials, name, study, arms):
    rows = trials[trials["experiment"] == name]
    batches = rows["config"].map(lambda text: json.loads(text).get("batch", 0))
    assert batches.nunique() == (len(cpu.batch_sweep.task.batches) if name == "batch_sweep" else 1)
    groups = rows.groupby([batches.rename("batch"), "arm"])
    assert {arm for _, arm in groups.groups} == set(arms)
    number = getattr(cpu, study).num_trials
    for _, of_arm in groups:
        means = of_arm.groupby("trial")["value"].agg(["mean", "size"])
        raced = means[means["size"] == len(cpu.search.seeds)]
        assert (len(means), len(raced)) == (number, max(4, number // 4))
        assert set(of_arm[of_arm["selected"]]["trial"]) == {raced["mean"].idxmin()}


def test_the_points_of_an_arm_take_the_pairs_of_betas_of_that_arm_in_one_order(cpu, runner, tables):
    by_arm = searches(runner)["variants_search", cpu.variants.task.batch]
    first, *_ = cpu.search.seeds
    places = []
    for arm, of_arm in by_arm.items():
        choices = cpu.search.space(arm, cpu.variants.box)["betas"]
        places.append([choices.index(run.config["betas"]) for run in of_arm if run.seed == first])
    assert all(of_arm == places[0] for of_arm in places)
    assert set(places[0]) == set(range(len(cpu.search.betas)))


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
    for task in [{"batch": batch} for batch in cpu.batch_sweep.task.batches] if "batch" in name else [{}]:
        for arm, of_race in arms.items():
            trials = [run for run in runner.runs(f"{name}_search") if run.arm == arm]
            trials = [run for run in trials if task.items() <= run.config.items()]
            points = {canonical_json(point_of(run.config)) for run in trials}
            assert len(trials) == len(cpu.search.seeds) * len(points) == len(cpu.search.seeds) * NUM_CHOSEN_AGAIN
            if name == "lm_shorter_list":
                assert all(run.config["betas"] != [0.9, 0.95] for run in trials)
            else:
                assert canonical_json(runner.best(earlier, of_race, **task)) in points
            assert reported(runner, name, arm, **task) == runner.best(name, arm, **task)


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


def reported(runner, name, arm, **task):
    """Give the searched part of what was run under a name; one point on all seeds."""
    runs = [run for run in runner.runs(name) if run.arm == arm and task.items() <= run.config.items()]
    points = [point_of(run.config) for run in runs]
    assert points
    assert all(point == points[0] for point in points)
    return points[0]


@pytest.mark.parametrize(
    ("name", "arms"),
    [
        ("lm_quality", ARMS),
        ("variants", VARIANTS),
        ("flatness", ARMS),
        ("betas_0.99_0.9", ("lion",)),
        ("lm_embedding", EMBEDDING_ARMS),
    ],
)
def test_the_final_validation_loss_selects_what_is_reported(runner, tables, name, arms):
    for arm in arms:
        assert reported(runner, name, arm) == runner.best(name, arm)


def test_each_batch_size_reports_what_its_own_search_selected(cpu, runner, tables):
    for batch in cpu.batch_sweep.task.batches:
        for arm in ARMS:
            best = runner.best("batch_sweep", arm, batch=batch)
            assert reported(runner, "batch_sweep", arm, batch=batch) == best
        assert reported(runner, "batch_updates", "adamw", batch=batch) == runner.best(
            "batch_sweep", "adamw", batch=batch
        )


def test_both_rates_of_the_embedding_study_are_searched(cpu, runner, tables):
    for run in runner.runs("lm_embedding_search"):
        assert set(point_of(run.config)) == {"lr", "embedding_lr"}
        for name, rate in point_of(run.config).items():
            box = getattr(cpu.embedding, name)
            assert box.low <= rate <= box.high


def test_a_diverged_trial_is_kept_in_the_ledger_and_never_selected(smoke):
    def loss_of(run):
        return None if run.config["lr"] > 5e-3 else made_up_loss(run)

    runner = MadeUpRunner(loss_of)
    config = parse(experiment.Config, changed(smoke, "variants.num_trials", 8), source="test")
    tables = run_variants(config.variants, config.search, config.study_seeds, runner)
    rows = [row for row in tables.trials if row["config"]["lr"] > 5e-3]
    assert rows
    assert {(row["status"], row["selected"]) for row in rows} == {("diverged", False)}
    assert all(run.config["lr"] <= 5e-3 for run in runner.runs("variants"))


# --- Reports ---------------------------------------------------------------------------------------------------


def test_all_arms_of_a_report_run_on_the_same_fresh_seeds(cpu, runs):
    assert not {*cpu.seeds, *cpu.study_seeds} & {*cpu.search.seeds}
    head, ablation, sweep = cpu.headline, cpu.ablation, cpu.batch_sweep
    both, lion, adamw = {"adamw", "lion"}, {"lion"}, {"adamw"}
    of_headline = {
        "lm_quality": (both, len(cpu.seeds)),
        **{f"lm_budget_{budget}": (both, head.num_budget_seeds) for budget in head.budgets},
        "lm_transfer": (lion, head.num_transfer_seeds),
        "lm_quality_longer": (both, head.num_longer_seeds),
        "lm_shorter_list": (both, head.num_variation_seeds),
        "lm_corrected": ({"corrected_lion"}, head.num_variation_seeds),
        "lm_other_warmup": (both, head.num_variation_seeds),
    }
    of_studies = {
        "variants": (set(VARIANTS), cpu.variants.num_seeds),
        "cautious_untuned": ({"cautious_lion"}, cpu.variants.num_seeds),
        **{f"lr_factor_{factor:g}": (both, cpu.variants.num_seeds) for factor in cpu.variants.lr_factors},
        "updates": ({"adamw", "cautious_lion"}, cpu.variants.num_seeds),
        "batch_sweep": (both, sweep.num_seeds),
        "batch_sweep_budget": (both, sweep.num_budget_seeds),
        "batch_sweep_longer": (both, sweep.num_longer_seeds),
        "learning_rate_sweep": (both, sweep.num_rate_seeds),
        "learning_rate_sweep_longer": (both, sweep.num_longer_seeds),
        "batch_updates": (adamw, sweep.num_rate_seeds),
        **{f"betas_{first:g}_{second:g}": (lion, ablation.num_seeds) for first, second in ablation.betas},
        "constraint": (lion, ablation.num_box_seeds),
        "constraint_control": (lion, ablation.num_box_seeds),
        "flatness": (both, ablation.num_seeds),
        "lm_embedding": (set(EMBEDDING_ARMS), cpu.embedding.num_seeds),
        "lm_embedding_longer": (both, cpu.embedding.num_variation_seeds),
        "lm_embedding_lions_rates": (adamw, cpu.embedding.num_variation_seeds),
    }
    seeds = {
        name: {arm: sorted(of_arm["seed"].unique()) for arm, of_arm in of_name.groupby("arm")}
        for name, of_name in runs.groupby("experiment")
    }
    for expected, fresh in ((of_headline, cpu.seeds), (of_studies, cpu.study_seeds)):
        for name, (arms, number) in expected.items():
            assert seeds.pop(name) == dict.fromkeys(arms, fresh[:number])
    assert seeds.pop("lm_updates") == {"adamw": cpu.search.seeds[:1]}
    assert seeds.pop("noise") == dict.fromkeys(NOISES, cpu.derivation.noise_seeds)
    assert set(seeds) == {"drift", "portrait"}


def test_a_budget_of_n_trials_selects_among_the_first_n(cpu, runner, runs):
    rows = runs[(runs["experiment"].str.startswith("lm_budget_")) & (runs["seed"] == cpu.seeds[0])]
    budgets = cpu.headline.budgets
    chosen = {budget: [runner.best("lm_quality", arm, first=budget) for arm in ARMS] for budget in budgets}
    assert len({canonical_json(points) for points in chosen.values()}) > 1
    for budget, points in chosen.items():
        of_budget = rows[rows["experiment"] == f"lm_budget_{budget}"].groupby("arm")["config"].first()
        assert [point_of(json.loads(of_budget[arm])) for arm in ARMS] == points


def test_the_transferred_point_divides_by_the_median_ratio_and_keeps_the_product_of_rate_and_decay(runner, tables):
    adamw, moved = runner.best("lm_quality", "adamw"), reported(runner, "lm_transfer", "lion")
    (probe,) = runner.runs("lm_updates")
    assert point_of(probe.config) == adamw
    assert moved["lr"] == pytest.approx(adamw["lr"] / 3)
    assert moved["lr"] * moved["weight_decay"] == pytest.approx(adamw["lr"] * adamw["weight_decay"])
    assert moved["betas"] == [0.9, 0.99]


def test_the_reports_of_a_language_model_differ_in_nothing_but_what_was_searched(cpu, runner, tables):
    task, longer, warmup = cpu.headline.task.in_runs, {"steps": 2400, "warmup_steps": 120}, {"warmup_steps": 120}
    changed_in = {"lm_quality_longer": longer, "lm_other_warmup": warmup}
    for name in ("lm_quality", "lm_transfer", "lm_budget", "lm_shorter_list", "lm_corrected", *changed_in):
        for run in runner.runs(name):
            others = {key: value for key, value in run.config.items() if key not in SEARCHED}
            assert others == {**task, **changed_in.get(name, {})}


def test_another_warm_up_is_run_at_the_selected_points(runner, tables):
    for arm in ARMS:
        assert reported(runner, "lm_other_warmup", arm) == runner.best("lm_quality", arm)


def test_the_embedding_runs_four_times_as_long_and_adamw_at_lions_rates_in_the_same_proportion_to_the_wall(
    cpu, runner, tables
):
    for arm in ("adamw", "lion"):
        assert reported(runner, "lm_embedding_longer", arm) == runner.best("lm_embedding", arm)
    assert reported(runner, "lm_embedding_lions_rates", "adamw") == runner.best("lm_embedding", "lion")
    assert {run.config["steps"] for run in runner.runs("lm_embedding_longer")} == {4 * cpu.embedding.task.steps}
    assert {run.config["total_decay"] for run in runner.runs("lm_embedding_longer")} == {cpu.embedding.total_decay}


def test_sensitivity_moves_the_learning_rate_alone_off_each_arms_own_best(cpu, runner, tables):
    assert 1.0 not in cpu.variants.lr_factors
    for factor in cpu.variants.lr_factors:
        for arm in ARMS:
            best = runner.best("variants", arm)
            moved = reported(runner, f"lr_factor_{factor:g}", arm)
            assert moved == {**best, "lr": pytest.approx(factor * best["lr"])}


def test_untuned_caution_runs_at_lions_point(runner, tables):
    assert reported(runner, "cautious_untuned", "cautious_lion") == runner.best("variants", "lion")
    assert runner.best("variants", "lion") != runner.best("variants", "cautious_lion")


def test_updates_are_looked_at_along_each_arms_own_best_run(runner, tables):
    for arm in ("adamw", "cautious_lion"):
        assert reported(runner, "updates", arm) == runner.best("variants", arm)


def test_learning_rate_curves_share_a_grid_over_the_declared_range_without_decay(cpu, runner, tables):
    sweep = cpu.batch_sweep
    for batch in sweep.task.batches:
        runs = [run for run in runner.runs("learning_rate_sweep") if run.config["batch"] == batch]
        grids = {
            arm: sorted({run.config["lr"] for run in runs if run.arm == arm}) for arm in ARMS
        }  # fmt: skip
        assert grids["adamw"] == grids["lion"]
        assert grids["lion"] == pytest.approx(
            np.geomspace(sweep.rates.low, sweep.rates.high, sweep.num_rates), rel=1e-3
        )
        assert {run.config["weight_decay"] for run in runs} == {0.0}
        longer = [run for run in runner.runs("learning_rate_sweep_longer") if run.config["batch"] == batch]
        at_an_end = batch in (sweep.task.batches[0], sweep.task.batches[-1])
        assert sorted({run.config["lr"] for run in longer}) == (grids["lion"][::2] if at_an_end else [])
        assert all(run.config["samples_seen"] == 4 * sweep.task.samples_seen for run in longer)


def test_each_pair_of_betas_is_tuned_with_that_pair(cpu, runner, tables):
    for pair in cpu.ablation.betas:
        name = f"betas_{pair[0]:g}_{pair[1]:g}"
        trials = runner.runs(f"{name}_search")
        assert all(run.config["betas"] == pair for run in [*trials, *runner.runs(name)])
        assert {run.arm for run in trials} == {"lion"}


def test_the_walk_along_the_decay_keeps_lions_rate_and_its_control_applies_none_in_the_same_box(cpu, runner, tables):
    best = runner.best("flatness", "lion")
    walls = {name: runner.runs(name) for name in ("constraint", "constraint_control")}
    for name, runs in walls.items():
        assert {run.config["box_decay"] for run in runs} == set(cpu.ablation.box_decays)
        assert {run.config["lr"] for run in runs} == {best["lr"]}
        assert len(runs) == len(cpu.ablation.box_decays) * cpu.ablation.num_box_seeds, name
    assert all(run.config["weight_decay"] == run.config["box_decay"] for run in walls["constraint"])
    assert all(run.config["weight_decay"] == 0 for run in walls["constraint_control"])


def test_both_arms_are_stopped_and_disturbed_alike(cpu, runner, tables):
    ablation = cpu.ablation
    expected = (ablation.train_nll, ablation.every, ablation.perturbations, ablation.draws)
    disturbed = [
        tuple(run.config[name] for name in ("train_nll", "every", "perturbations", "draws"))
        for run in runner.runs("flatness")
    ]
    assert all(each == expected for each in disturbed)


def test_every_study_measures_what_its_name_says_and_no_trial_looks_at_the_test_split(runner, tables):
    measures = {}
    for measure, run in runner.asked:
        measures.setdefault(measure, set()).add(run.experiment)
    pairs = {"betas_0.9_0.99", "betas_0.965_0.965", "betas_0.95_0.98", "betas_0.99_0.9"}
    relatives = {"variants", "cautious_untuned", "lr_factor_0.5", "lr_factor_2"}
    # What flatness disturbs is tuned like everything else on digits.
    digits_trials = {f"{name}_search" for name in ("batch_sweep", "batch_sweep_longer", "flatness", *pairs)}
    varied = {"lm_quality_longer", "lm_shorter_list", "lm_corrected"}
    assert measures == {
        "measure_language_model_trial": {
            "lm_quality_search", "variants_search", *(f"{name}_search" for name in varied)
        },
        "measure_digits_trial": digits_trials,
        "measure_embedding_trial": {"lm_embedding_search"},
        "measure_language_model": {"lm_budget", "lm_other_warmup", *varied, *relatives},
        "measure_language_model_and_box": {"lm_quality", "lm_transfer"},
        "measure_language_model_updates": {"lm_updates", "updates"},
        "measure_digits": {
            "batch_sweep", "batch_sweep_budget", "batch_sweep_longer", "learning_rate_sweep",
            "learning_rate_sweep_longer", *pairs,
        },
        "measure_digits_updates": {"batch_updates"},
        "measure_constraint": {"constraint", "constraint_control"},
        "measure_flatness": {"flatness"},
        "measure_embedding": {"lm_embedding", "lm_embedding_longer", "lm_embedding_lions_rates"},
        "measure_noise": {"noise"},
        "measure_drift": {"drift"},
        "measure_portrait": {"portrait"},
    }  # fmt: skip


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
    gap = load_estimands("replications.lion.estimands", CLAIMS)["lm_gap"](found)
    assert sorted(gap.index) == [0, 1]
    assert set(found["experiment"]) == {"lm_quality"}
    assert set(found[found["metric"] == "parameters"]["value"]) == {2 * VOCABULARY * 8 + 8 * 8 + 888}
    settings = json.loads(found["config"][0])
    assert {"corpus": "wikitext_103", "precision": "bfloat16", "micro_batch": 3}.items() <= settings.items()
    assert {(row["arm"], row["seed"]) for row in tables.trials} == {
        (arm, seed) for arm in ARMS for seed in paper.search.seeds
    }


@pytest.mark.parametrize("profile", ["gpu", "paper"])
def test_a_larger_scale_asks_for_a_device_and_tunes_in_a_race_on_seeds_of_its_own(profile, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    block = read_profile(experiment.Config, PARAMS, profile)
    with pytest.raises(OSError, match="ask for a CUDA device"):
        block.require()
    assert len(block.search.seeds) == 3
    assert len(block.seeds) == next(claim.min_seeds for claim in CLAIMS if claim.id == "C6r")

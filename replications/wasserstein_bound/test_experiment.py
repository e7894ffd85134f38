"""Every study asks for the runs that its claims need; a made-up runner stands in for all computation."""

from collections import Counter
from pathlib import Path

import pytest

from paperkit.config import ConfigError, parse, read_profile
from paperkit.results import read_runs, read_trials, write_runs, write_trials
from replications.wasserstein_bound import experiment
from replications.wasserstein_bound.checks import CHECKS
from tests.made_up_runs import changed, made_up_row

FOLDER = Path(__file__).parent
PARAMS = FOLDER / "params.yaml"
COMMITTED = FOLDER.parents[1] / "results/wasserstein_bound"


class MadeUpRunner:
    """Keeps the runs it is asked for, with what is to be measured."""

    profile = "cpu"

    def __init__(self):
        self.asked = []

    def __call__(self, measure, runs):
        self.asked += [(measure.__name__, run) for run in runs]
        return [[made_up_row(run, "validation", 1, "score_loss", 1.0)] for run in runs]

    def runs(self, name):
        return [run for _, run in self.asked if run.experiment == name]


@pytest.fixture(scope="module")
def cpu():
    return read_profile(experiment.Config, PARAMS, "cpu")


@pytest.fixture(scope="module")
def runner(cpu):
    runner = MadeUpRunner()
    runner.tables = experiment.run(cpu, runner)
    return runner


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("learned_seeds", [3, 3], "learned_seeds"),
        ("learned_2d_seeds", [1000], "tuning seeds"),
        ("search", None, "search is missing"),
        ("horizons", [0.3, 0.1], "increase"),
        ("mixtures.num_slack_seeds", 99, "num_slack_seeds"),
        ("sweeps.num_plane_times", 100, "odd"),
        ("sweeps.num_cases", 51, "num_cases"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(path, value, told):
    smoke = read_profile(experiment.Config, PARAMS, "smoke")
    with pytest.raises(ConfigError, match=told):
        parse(experiment.Config, changed(smoke, path, value), source="smoke")


@pytest.mark.parametrize("name", experiment.SEEDS_OF)
def test_a_study_without_seeds_is_refused(name):
    content = read_profile(experiment.Config, PARAMS, "smoke").model_dump(exclude={name})
    with pytest.raises(ConfigError, match=f"{name} are missing: "):
        parse(experiment.Config, content, source="smoke")


def test_a_profile_runs_the_studies_that_it_names_alone():
    runner = MadeUpRunner()
    experiment.run(read_profile(experiment.Config, PARAMS, "paper"), runner)
    assert Counter(run.arm for _, run in runner.asked) == {"four_clusters": 5, "moons": 5}
    assert {name for name, _ in runner.asked} == {"measure_finite_set"}


def test_the_cpu_profile_makes_the_runs_and_trials_of_the_committed_results(runner, tmp_path):
    write_runs(tmp_path / "runs.csv", runner.tables.runs)
    write_trials(tmp_path / "trials.csv", runner.tables.trials)
    runs, committed = read_runs(tmp_path / "runs.csv"), read_runs(COMMITTED / "runs.csv")
    keys = ["experiment", "arm", "seed", "config"]
    committed = committed[~committed["arm"].isin(CHECKS)]  # the stage runs them
    assert set(runs[keys[:3]].itertuples(index=False)) == set(committed[keys[:3]].itertuples(index=False))
    tuned = ["trained", "techniques"]  # at a rate that a race selects
    runs, committed = (each[~each["experiment"].isin(tuned)] for each in (runs, committed))
    assert set(runs[keys].itertuples(index=False)) == set(committed[keys].itertuples(index=False))
    trials, committed = read_trials(tmp_path / "trials.csv"), read_trials(COMMITTED / "trials.csv")
    assert trials[keys[:3]].value_counts().to_dict() == committed[keys[:3]].value_counts().to_dict()


@pytest.mark.parametrize(
    "name", ["affine", "rotation", "dimension", "mixture", "slack", "growth", "offset", "discretisation"]
)
def test_both_samplers_run_every_case(runner, name):
    cases = [
        (run.seed, str({key: value for key, value in run.config.items() if key != "eta"})) for run in runner.runs(name)
    ]
    assert set(Counter(cases).values()) == {2}
    assert {run.arm for run in runner.runs(name)} == {"ode", "sde"}


def test_a_sampler_has_the_noise_of_its_name_and_slack_is_factored_for_a_pure_shift(runner):
    for name in ("offset", "discretisation"):
        assert {(run.arm, run.config["eta"]) for run in runner.runs(name)} == {("ode", 0.0), ("sde", 1.0)}
    shifts = [run.config["perturbation"] for run in runner.runs("slack")]
    assert {(each["amplitude"], each["shift"]) for each in shifts} == {(0.0, 0.2)}


def test_every_technique_in_the_plane_runs_on_the_same_seeds_with_the_same_settings(cpu, runner):
    runs = runner.runs("techniques")
    assert set(Counter((run.seed, str(run.config)) for run in runs).values()) == {len({run.arm for run in runs})}
    assert {run.seed for run in runs} == set(cpu.learned_2d_seeds)
    assert {run.arm for run in runs} == {"plain", "spectral_norm", "weight_decay", "likelihood_weight"}


def test_each_of_eight_lengths_of_training_has_a_run_of_its_own_and_variations_differ_in_one_setting(cpu, runner):
    lengths, runs = cpu.learned.checkpoints, runner.runs("trained")
    assert lengths == [100, 170, 290, 490, 830, 1400, 2400, 4000]  # the variations of X2r name them
    of_arm = {arm: [run for run in runs if run.arm == arm] for arm in {run.arm for run in runs}}
    assert {tuple(run.config["checkpoints"]) for run in of_arm["annealed"]} == {(length,) for length in lengths}
    assert {run.config["checkpoints"][0] for run in of_arm["longer"]} == {4 * length for length in lengths}
    assert [run.config["checkpoints"] for run in of_arm["one_run"]] == [lengths] * 5
    settings = of_arm["annealed"][0].config
    for arm, key in (("longer", ""), ("lower_rate", "lr"), ("overlapping", "variance"), ("one_run", "")):
        assert {run.seed for run in of_arm[arm]} == {*cpu.learned_seeds[:5]}
        for run in of_arm[arm]:
            changed_keys = {name for name in settings if run.config[name] != settings[name]}
            assert changed_keys - {"checkpoints"} == ({key} if key else set())

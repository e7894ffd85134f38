"""Every study asks for the runs that its claims need; a made-up runner stands in for all computation."""

import json
from collections import Counter
from pathlib import Path

import pytest

from paperkit.config import ConfigError, parse, read_profile
from paperkit.results import canonical_json, read_runs, read_trials, write_runs, write_trials
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


def test_the_cpu_profile_makes_the_runs_and_trials_of_the_committed_results(tmp_path):
    tables = experiment.run(read_profile(experiment.Config, PARAMS, "cpu"), MadeUpRunner())
    write_runs(tmp_path / "runs.csv", tables.runs)
    write_trials(tmp_path / "trials.csv", tables.trials)
    runs, committed = read_runs(tmp_path / "runs.csv"), read_runs(COMMITTED / "runs.csv")
    committed = committed[~committed["arm"].isin(CHECKS)]  # the stage runs them

    def compared(run):  # all but the rate, where a race selects it
        tuned = run.experiment in ("trained", "techniques")
        return *run[:3], canonical_json(json.loads(run.config) | ({"lr": None} if tuned else {}))

    keys = ["experiment", "arm", "seed", "config"]
    asked, ran = ({compared(run) for run in each[keys].itertuples(index=False)} for each in (runs, committed))
    assert asked == ran
    trials, committed = read_trials(tmp_path / "trials.csv"), read_trials(COMMITTED / "trials.csv")
    assert trials[keys[:3]].value_counts().to_dict() == committed[keys[:3]].value_counts().to_dict()

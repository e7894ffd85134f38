"""Every study asks for the runs that its claims need; a made-up runner stands in for all computation."""

from collections import Counter
from pathlib import Path

import pytest

from paperkit.claims.declarations import read_claims
from paperkit.claims.rules import IdentityTest
from paperkit.config import ConfigError, parse, read_profile
from replications.wasserstein_bound import experiment
from replications.wasserstein_bound.studies.controls import CONTROLS
from tests.made_up_runs import changed

FOLDER = Path(__file__).parent
PARAMS = FOLDER / "params.yaml"
CLAIMS = read_claims(FOLDER / "claims.yaml")
TUNING_SEED = 1000
WRITTEN_WITH = range(10)


class MadeUpRunner:
    """Keeps the runs it is asked for, with what is to be measured."""

    profile = "cpu"

    def __init__(self):
        self.asked = []

    def __call__(self, measure, runs):
        self.asked += [(measure.__name__, run) for run in runs]
        return [[{"experiment": run.experiment}] for run in runs]

    def runs(self, name):
        return [run for _, run in self.asked if run.experiment == name]


@pytest.fixture(scope="module")
def cpu():
    return read_profile(experiment.Config, PARAMS, "cpu")


@pytest.fixture(scope="module")
def runner(cpu):
    runner = MadeUpRunner()
    tables = experiment.run(cpu, runner)
    assert len(tables.runs) == len(runner.asked)
    assert not tables.trials
    return runner


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("seeds", [1, 1], "seeds"),
        ("learned_seeds", [3, 3], "learned_seeds"),
        ("horizons", [0.3, 0.1], "increase"),
        ("mixtures.num_slack_seeds", 99, "num_slack_seeds"),
        ("sweeps.num_plane_times", 100, "odd"),
        ("sweeps.num_cases", 51, "num_cases"),
        ("mixtures.clusters", [{"mean": 1.0, "variance": 0.0}], "variance"),
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


def test_reported_seeds_are_neither_those_the_code_was_written_with_nor_that_of_the_learning_rate(cpu):
    for name in ("seeds", "learned_seeds", "learned_2d_seeds", "finite_set_seeds"):
        assert not {*getattr(cpu, name)} & {*WRITTEN_WITH, TUNING_SEED}


def test_the_cpu_profile_runs_at_least_the_seeds_that_a_claim_asks_for(cpu):
    for claim in CLAIMS:
        if not isinstance(claim.tests[0], IdentityTest):
            in_the_plane = claim.id.startswith("C10")
            on_the_line = claim.id in ("C9", "C13", "X1", "X2", "C2b", "C4b", "X10")
            seeds = cpu.learned_2d_seeds if in_the_plane else cpu.learned_seeds if on_the_line else cpu.seeds
            assert len(seeds) >= claim.min_seeds, claim.id
    assert cpu.mixtures.num_slack_seeds >= 5


def test_the_sweep_has_800_affine_cases_48_rotations_18_mixtures_and_the_family_of_noises(cpu, runner):
    affine = runner.runs("affine")
    assert sum(run.config["num_cases"] for run in affine) >= 800
    assert Counter(run.arm for run in affine)["sde"] == len(affine) / 2
    assert len({run.config["case"] for run in runner.runs("rotation")}) >= 48
    mixtures = {
        (run.config["mean"], run.config["variance"], str(run.config["perturbation"])) for run in runner.runs("mixture")
    }
    assert len(mixtures) >= 18
    assert {run.config["eta"] for run in runner.runs("noise_family")} >= {0, 0.25, 0.5, 1, 1.5, 2}
    assert {run.config["dimension"] for run in runner.runs("dimension")} == {1, 2, 8, 32}


@pytest.mark.parametrize(
    "name", ["affine", "rotation", "dimension", "mixture", "slack", "growth", "offset", "discretisation"]
)
def test_both_samplers_run_every_case(runner, name):
    cases = [
        (run.seed, str({key: value for key, value in run.config.items() if key != "eta"})) for run in runner.runs(name)
    ]
    assert set(Counter(cases).values()) == {2}
    assert {run.arm for run in runner.runs(name)} == {"ode", "sde"}


def test_a_sampler_has_the_noise_of_its_name(runner):
    for name in ("offset", "discretisation"):
        assert {(run.arm, run.config["eta"]) for run in runner.runs(name)} == {("ode", 0.0), ("sde", 1.0)}


def test_the_sweep_of_mixtures_holds_a_case_in_which_the_bound_is_attained(runner):
    # One cluster and a pure shift: without it the control of the sweep could not fail.
    assert any(
        run.config["mean"] == 0 and run.config["perturbation"]["amplitude"] == 0 for run in runner.runs("mixture")
    )


def test_slack_is_factored_for_a_pure_shift(runner):
    assert {run.config["perturbation"]["amplitude"] for run in runner.runs("slack")} == {0.0}
    assert {run.config["perturbation"]["shift"] for run in runner.runs("slack")} == {0.2}


def test_every_technique_in_the_plane_runs_on_the_same_seeds_with_the_same_settings(cpu, runner):
    runs = runner.runs("learned_2d")
    assert set(Counter((run.seed, str(run.config)) for run in runs).values()) == {len({run.arm for run in runs})}
    assert {run.seed for run in runs} == set(cpu.learned_2d_seeds)
    assert {run.arm for run in runs} == {"plain", "spectral_norm", "weight_decay", "likelihood_weight"}


def test_networks_on_the_line_have_at_least_eight_checkpoints_for_their_slopes(cpu):
    assert sum(step >= 100 for step in cpu.learned.checkpoints) >= 8


def test_the_controls_of_sweeps_are_executed_once(runner):
    assert Counter(run.arm for run in runner.runs("identities")) == dict.fromkeys(CONTROLS, 1)


def test_studies_measure_what_their_names_say(runner):
    measured = {run.experiment: name for name, run in runner.asked}
    assert measured == {
        "learned": "measure_learned_score",
        "learned_2d": "measure_plane_score",
        "identities": "measure_control",
        "stationary": "measure_stationary_shift",
        "affine": "measure_affine_cases",
        "noise_family": "measure_noise_family",
        "rotation": "measure_rotation",
        "dimension": "measure_dimension",
        "mixture": "measure_mixture",
        "slack": "measure_slack",
        "growth": "measure_growth",
        "offset": "measure_offset",
        "discretisation": "measure_discretisation",
    }

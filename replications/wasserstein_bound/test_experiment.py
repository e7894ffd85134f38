"""Every study asks for the runs that its claims need; a made-up runner stands in for all computation."""

from collections import Counter
from pathlib import Path

import pytest

from paperkit.claims.declarations import read_claims
from paperkit.claims.rules import IdentityTest
from paperkit.config import ConfigError, parse, read_profile
from replications.wasserstein_bound import experiment
from replications.wasserstein_bound.studies.controls import CONTROLS
from replications.wasserstein_bound.studies.network_in_plane import ARMS
from tests.made_up_runs import changed

FOLDER = Path(__file__).parent
PARAMS = FOLDER / "params.yaml"
CLAIMS = read_claims(FOLDER / "claims.yaml")
WRITTEN_WITH = range(10)


class MadeUpRunner:
    """Keeps the runs it is asked for, with what is to be measured."""

    profile = "cpu"

    def __init__(self):
        self.asked = []

    def __call__(self, measure, runs):
        self.asked += [(measure.__name__, run) for run in runs]
        return [
            [{"experiment": run.experiment, "split": "validation", "metric": "score_loss", "step": 1, "value": 1.0}]
            for run in runs
        ]

    def runs(self, name):
        return [run for _, run in self.asked if run.experiment == name]


@pytest.fixture(scope="module")
def cpu():
    return read_profile(experiment.Config, PARAMS, "cpu")


@pytest.fixture(scope="module")
def runner(cpu):
    runner = MadeUpRunner()
    tables = experiment.run(cpu, runner)
    searched = [run for _, run in runner.asked if run.experiment.endswith("_search")]
    assert len(tables.runs) == len(runner.asked) - len(searched)
    assert len(tables.trials) == len(searched)
    return runner


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("seeds", [1, 1], "seeds"),
        ("learned_seeds", [1000], "tuning seeds"),
        ("learned_2d_seeds", [1000], "tuning seeds"),
        ("search", None, "search is missing"),
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


def test_reported_seeds_are_not_those_the_code_was_written_with_and_those_of_networks_are_fresh(cpu):
    for name in ("seeds", "learned_seeds", "learned_2d_seeds", "finite_set_seeds"):
        assert not {*getattr(cpu, name)} & {*WRITTEN_WITH}
    assert min(*cpu.learned_seeds, *cpu.learned_2d_seeds) >= 200


def test_the_cpu_profile_runs_at_least_the_seeds_that_a_claim_asks_for(cpu):
    for claim in CLAIMS:
        if not (isinstance(claim.tests[0], IdentityTest) or claim.superseded_by or claim.id == "X17"):
            in_the_plane = claim.id.startswith("C10")
            on_the_line = claim.id in ("C9r", "C13r", "X1r", "X2r", "C2br", "C4br", "X10r", "C12c", "X19")
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
    runs = runner.runs("techniques")
    assert set(Counter((run.seed, str(run.config)) for run in runs).values()) == {len({run.arm for run in runs})}
    assert {run.seed for run in runs} == set(cpu.learned_2d_seeds)
    assert {run.arm for run in runs} == {"plain", "spectral_norm", "weight_decay", "likelihood_weight"}


def test_every_technique_chooses_from_the_same_rates_in_a_race_on_three_seeds(cpu, runner):
    trials = runner.runs("techniques_search")
    rates = {arm: {(run.seed, run.config["lr"]) for run in trials if run.arm == arm} for arm in ARMS}
    assert len({frozenset(of_arm) for of_arm in rates.values()}) == 1
    assert Counter(seed for seed, _ in rates["plain"]) == {1000: 8, 1001: 4, 1002: 4}
    assert {run.seed for run in trials + runner.runs("trained_search")} == set(cpu.search.seeds)


def test_each_of_eight_lengths_of_training_has_a_run_of_its_own_and_variations_differ_in_one_setting(cpu, runner):
    lengths, runs = cpu.learned.checkpoints, runner.runs("trained")
    assert lengths == [100, 170, 290, 490, 830, 1400, 2400, 4000]  # the variations of X2r name them
    of_arm = {arm: [run for run in runs if run.arm == arm] for arm in {run.arm for run in runs}}
    assert {arm: len(of) for arm, of in of_arm.items()} == {
        "annealed": 96, "longer": 40, "lower_rate": 40, "overlapping": 40, "one_run": 5,
    }  # fmt: skip
    assert {tuple(run.config["checkpoints"]) for run in of_arm["annealed"]} == {(length,) for length in lengths}
    assert {run.config["checkpoints"][0] for run in of_arm["longer"]} == {4 * length for length in lengths}
    assert [run.config["checkpoints"] for run in of_arm["one_run"]] == [lengths] * 5
    settings = of_arm["annealed"][0].config
    for arm, key in (("longer", ""), ("lower_rate", "lr"), ("overlapping", "variance"), ("one_run", "")):
        assert {run.seed for run in of_arm[arm]} == {*cpu.learned_seeds[:5]}
        for run in of_arm[arm]:
            changed_keys = {name for name in settings if run.config[name] != settings[name]}
            assert changed_keys - {"checkpoints"} == ({key} if key else set())


def test_the_controls_of_sweeps_are_executed_once(runner):
    assert Counter(run.arm for run in runner.runs("identities")) == dict.fromkeys(CONTROLS, 1)


def test_studies_measure_what_their_names_say(runner):
    measured = {run.experiment: name for name, run in runner.asked}
    assert measured == {
        "trained": "measure_learned_score",
        "trained_search": "measure_trial",
        "techniques": "measure_plane_score",
        "techniques_search": "measure_trial",
        "notebook": "measure_notebook",
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

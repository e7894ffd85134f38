"""What `python -m paperkit plan` says that a run will take, against what runs took; and what seeds detect."""

import pytest
from scipy.stats import norm

from paperkit.__main__ import main
from paperkit.completeness import folders_of_results
from paperkit.config import ConfigError
from paperkit.pipeline import found_replications
from paperkit.plan import estimate, plan, smallest_effect
from paperkit.results import read_json, write_costs, write_json, write_runs
from paperkit.runs import Run
from paperkit.statistics import achieved_power
from tests.made_up_runs import made_up_row
from tests.test_verify import ROOT

FOLDERS = [ROOT / "results" / folder for name in found_replications(ROOT) for folder in folders_of_results(ROOT, name)]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_a_stage_took_is_what_its_costs_estimate(folder):
    made = read_json(folder / "provenance.json")
    if made["cpu_s"] < 0.7 * made["workers"] * made["wall_s"]:
        pytest.skip("the machine was busy with other work, which no estimate knows of")
    assert 1 / 1.5 < made["wall_s"] / estimate(folder, made["workers"]).wall_s < 1.5


@pytest.fixture
def folder(tmp_path):
    """Two arms of three seeds, five trials of one of them, and a check."""
    runs = [Run("lm", arm, seed, {}) for arm in ("lion", "adamw") for seed in (1, 2, 3)]
    runs += [Run("identities", "signum", 0, {})]
    write_runs(tmp_path / "runs.csv", [made_up_row(run, "test", 10, "loss_nats", 1.0) for run in runs])
    took = [("lm", "lion")] * 8 + [("lm", "adamw")] * 3
    costs = [{"experiment": of, "arm": arm, "cpu_s": 10.0, "peak_mib": 100.0} for of, arm in took]
    check = {"experiment": "identities", "arm": "signum", "cpu_s": 1.0, "peak_mib": 300.0}
    write_costs(tmp_path / "costs.csv", [*costs, check])
    write_json(tmp_path / "provenance.json", {"device": None, "wall_s": 60.0, "workers": 2})
    return tmp_path


def test_more_seeds_cost_more_runs_but_no_more_trials_and_checks(folder):
    assert (estimate(folder, 2).runs, estimate(folder, 2).cpu_s) == (12, 111.0)
    assert (estimate(folder, 2, 6).runs, estimate(folder, 2, 6).cpu_s) == (18, 171.0)


def test_more_workers_take_less_time_and_more_memory(folder):
    assert estimate(folder, 4).wall_s < estimate(folder, 2).wall_s
    assert (estimate(folder, 2).peak_mib, estimate(folder, 4).peak_mib) == (600.0, 1200.0)


def test_on_a_gpu_the_time_of_the_last_run_is_scaled(folder):
    write_json(folder / "provenance.json", {"device": {"name": "a card"}, "wall_s": 60.0, "workers": 2})
    assert estimate(folder, 16).gpu_s == estimate(folder, 1).gpu_s == pytest.approx(60)
    assert estimate(folder, 1, 6).gpu_s == pytest.approx(60 * 171 / 111)


@pytest.mark.parametrize("equivalence", [False, True])
@pytest.mark.parametrize("n", [2, 5, 20])
def test_the_smallest_effect_is_found_with_a_power_of_eight_tenths(n, equivalence):
    least = smallest_effect(0.3, n, 0.05, equivalence=equivalence)
    assert achieved_power(0.3, least, n, equivalence=equivalence) == pytest.approx(0.8, abs=1e-6)


def test_with_many_seeds_the_smallest_effect_is_the_one_of_the_normal_law():
    quantiles = norm.ppf(0.975) + norm.ppf(0.8)
    assert smallest_effect(1.0, 10_000, 0.05, equivalence=False) == pytest.approx(quantiles / 100, rel=1e-3)


def test_a_plan_names_time_memory_and_what_the_seeds_detect():
    text = plan(ROOT, "sparsity", "cpu", 8)
    assert "runs, " in text
    assert "GiB of memory" in text
    assert "C6, recovery_gain_spread: 8 seeds detect " in text


def test_a_plan_of_all_names_each_replication_that_has_run():
    text = plan(ROOT, None, "pretrained", None)
    assert [name for name in found_replications(ROOT) if f"{name}_pretrained, from its run of" in text] == [
        name for name in found_replications(ROOT) if (ROOT / f"results/{name}_pretrained/costs.csv").is_file()
    ]


@pytest.mark.parametrize(
    ("name", "profile", "message"),
    [
        ("tiger", "cpu", "replications/tiger is not there; there are attention_scale, "),
        ("sparsity", "paper", "results/sparsity_paper has no costs.csv: nothing is measured"),
        ("sparsity", "smoke", "nothing is kept of a smoke run"),
    ],
)
def test_what_was_never_measured_is_not_estimated(name, profile, message):
    with pytest.raises(ConfigError, match=message):
        plan(ROOT, name, profile, None)


@pytest.mark.parametrize("command", [["plan", "lion", "--seeds", "0"], ["verify", "lion", "--workers", "2,-1"]])
def test_numbers_of_seeds_and_workers_start_at_one(command, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["paperkit", *command])
    with pytest.raises(SystemExit):
        main()
    assert "is no whole number from 1 on" in capsys.readouterr().err

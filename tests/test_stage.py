"""paperkit.stage: what does not fit is refused before anything runs, and results change only at the end."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from dvc.repo import Repo
from pydantic import Field

from paperkit.config import StrictModel
from paperkit.datasets import write_table
from paperkit.reproduction import reproduce
from paperkit.results import read_json, read_runs, read_trials
from paperkit.runs import INSTRUCTION_SET, Measurement, Run, Runner, available_workers
from paperkit.stage import TIMING, StageConfig, Tables, main
from tests.made_up_runs import TORCH
from tests.tiny_repository import commit

ROOT = Path(__file__).parents[1]
SOUND = "smoke:\n  model: {width: 8}\n  seeds: 2\ncpu:\n  model: {width: 64}\n  seeds: 10\n"
OLD = {"runs.csv": "old runs", "trials.csv": "old trials", "provenance.json": "{}"}
TOY = """\
from pathlib import Path

from pydantic import Field

from paperkit.config import StrictModel
from paperkit.stage import StageConfig, Tables, main


class Config(StageConfig):
    width: int = Field(ge=1)


def run(config, runner):
    Path("it_ran").touch()
    return Tables(runs=[])


if __name__ == "__main__":
    main(Config, run, stage="toy", module="toy_of_stage", tables=["python_docs"])
"""


class Model(StrictModel):
    width: int = Field(ge=1)


class Config(StageConfig):
    model: Model
    seeds: int = Field(ge=1)


def row(seed: int, **changes: Any) -> dict[str, Any]:
    return {
        "profile": "smoke", "experiment": "e", "arm": "a", "seed": seed, "config": {}, "split": "test", "step": 1,
        "metric": "loss_nats", "value": 1.5, "status": "ok", **changes,
    }  # fmt: skip


TRIAL = {
    "profile": "smoke", "experiment": "e", "arm": "a", "trial": 0, "seed": 0, "config": {}, "metric": "loss_nats",
    "value": 1.5, "status": "ok", "selected": True, "at_edge": False,
}  # fmt: skip


class Experiment:
    """Notes what it was given, and hands over rows without training anything."""

    def __init__(
        self, runs: list[dict] | None = None, trials: list[dict] | None = None, error: BaseException | None = None
    ) -> None:
        self.calls: list[tuple[Config, Runner]] = []
        self.runs, self.trials, self.error = runs, [TRIAL] if trials is None else trials, error

    def __call__(self, config: Config, runner: Runner) -> Tables:
        self.calls.append((config, runner))
        runner.folder.mkdir(parents=True, exist_ok=True)
        (runner.folder / "kept.json").write_text("[]")
        if self.error is not None:
            raise self.error
        runs = [row(seed) for seed in range(config.seeds)] if self.runs is None else self.runs
        return Tables(runs=runs, trials=self.trials)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module, its parameters, data and committed results, as the current one."""
    (tmp_path / "toy_of_stage.py").write_text(TOY)
    (tmp_path / "params.yaml").write_text(SOUND)
    (tmp_path / "timing.yaml").write_text("smoke:\n  model: {width: 1}\n  seeds: 3\n")
    (tmp_path / "requirements.lock").write_text("numpy==1.0\n")
    (tmp_path / "claims.yaml").write_text("schema: 1\n")
    write_table("python_docs", [{"path": "a.rst", "text": "A.", "split": "train"}], tmp_path / "data")
    (tmp_path / "results" / "toy").mkdir(parents=True)
    for name, text in OLD.items():
        (tmp_path / "results" / "toy" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paperkit.provenance.distributions", list)  # slow to read, and tested elsewhere
    monkeypatch.setattr("paperkit.runs._prepare_worker", int)  # no torch in the workers: nothing is computed
    monkeypatch.setattr("paperkit.runs.kernels_in_use", dict)
    yield tmp_path
    sys.modules.pop("toy_of_stage", None)


def stage(experiment: Any, profile: str = "smoke", **options: Any) -> None:
    arguments = ["--profile", profile, "--out", "results/toy"]
    settings = {"stage": "toy", "module": "toy_of_stage", "tables": ["python_docs"], "arguments": arguments}
    main(Config, experiment, **{**settings, **options})


def committed() -> dict[str, str]:
    return {path.name: path.read_text() for path in Path("results/toy").iterdir()}


def refused(profile: str = "smoke", **options: Any) -> str:
    """Returns the message of a stage that must neither run nor touch its results."""
    experiment = Experiment()
    with pytest.raises(SystemExit) as ended:
        stage(experiment, profile, **options)
    assert isinstance(ended.value.code, str)  # Python prints a text to stderr and exits with 1
    assert experiment.calls == []
    assert committed() == OLD
    assert not Path(".paperkit").exists()
    return ended.value.code


# Refusals


def test_a_table_with_a_flipped_bit_is_refused_wherever_that_is(folder) -> None:
    content = (folder / "data/python_docs.parquet").read_bytes()
    listing = [{"relpath": "python_docs.parquet", "md5": hashlib.md5(content).hexdigest()}]
    (folder / ".dvcstore/files/md5/0a").mkdir(parents=True)
    (folder / ".dvcstore/files/md5/0a/bc.dir").write_text(json.dumps(listing))
    (folder / "data.dvc").write_text("outs:\n- {md5: 0abc.dir, path: data}\n")
    for bit in random.Random(0).sample(range(8 * len(content)), 9):  # Parquet reads many such flips as other text
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / "data/python_docs.parquet").write_bytes(damaged)
        assert "toy: data/python_docs.parquet is not the table that data.dvc names: remove" in refused(), bit
    (folder / "data/python_docs.parquet").write_bytes(content)
    stage(Experiment())


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(folder) -> None:
    experiment = Experiment()
    with pytest.raises(SystemExit, match=r"toy: .*results/toy/runs.csv"):
        stage(experiment, arguments=["--profile", "smoke", "--out", "results/toy/runs.csv"])
    assert experiment.calls == []


@pytest.mark.parametrize(
    ("params", "options", "told"),
    [
        (SOUND.replace("width: 8", "width: 0"), {}, ["params.yaml, profile smoke", "key 'model.width' has value 0"]),
        (SOUND.replace("width: 64", "width: .nan"), {}, ["params.yaml, profile cpu", "'model.width' has value nan"]),
        (SOUND, {"profile": "paper"}, ["params.yaml: profile 'paper' is not defined; defined: smoke, cpu"]),
        (None, {}, ["params.yaml is missing; restore it with git"]),
        (SOUND, {"tables": ["wikitext"]}, ["table is 'wikitext'; known are"]),
        (SOUND, {"tables": ["sotu"]}, ["data/sotu.parquet is missing", "dvc pull"]),
    ],
)
def test_what_is_refused_leaves_committed_results_untouched(folder, params, options, told) -> None:
    (folder / "params.yaml").unlink() if params is None else (folder / "params.yaml").write_text(params)
    message = refused(**options)
    for part in ("toy: ", *told):
        assert part in message


@pytest.mark.parametrize("arguments", [[], ["--profile", "smoke"], ["--out", "x"], ["--profile", "a", "--seed", "1"]])
def test_a_wrong_command_line_exits_with_two_and_says_how_it_is_used(folder, arguments, capsys) -> None:
    experiment = Experiment()
    with pytest.raises(SystemExit) as ended:
        stage(experiment, arguments=arguments)
    assert ended.value.code == 2
    assert "usage: toy" in capsys.readouterr().err
    assert experiment.calls == []


def test_a_refused_stage_is_a_process_that_fails_with_the_message_and_no_traceback(folder) -> None:
    (folder / "params.yaml").write_text("smoke: {width: 0}\n")
    command = [sys.executable, "-m", "toy_of_stage", "--profile", "smoke", "--out", "results/toy"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "toy: params.yaml, profile smoke:\n  key 'width' has value 0; Input should be" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "it_ran").exists()
    assert committed() == OLD


# Failures on the way


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (ArithmeticError("in a run"), ArithmeticError, ""),
        (KeyboardInterrupt(), SystemExit, "toy: stopped; finished runs are kept, and the same command goes on"),
    ],
)
def test_an_error_in_the_experiment_leaves_committed_results_and_kept_runs(
    folder, error, raised, said, capsys
) -> None:
    with pytest.raises(raised):
        stage(Experiment(error=error))
    assert said in capsys.readouterr().err
    assert committed() == OLD
    assert Path(".paperkit/runs/toy/smoke/kept.json").exists()


@pytest.mark.parametrize("broken", [{"runs": [row(0, value=None)]}, {"trials": [{**TRIAL, "value": None}]}])
def test_rows_that_are_refused_leave_all_committed_results_and_kept_runs(folder, broken) -> None:
    with pytest.raises(ValueError, match="ok row"):
        stage(Experiment(**broken))
    assert committed() == OLD
    assert Path(".paperkit/runs/toy/smoke/kept.json").exists()


def test_code_that_is_edited_while_it_runs_publishes_nothing(folder) -> None:
    def experiment(config: Config, runner: Runner) -> Tables:
        (folder / "toy_of_stage.py").write_text(TOY.replace("ge=1", "ge=0"))
        return Experiment()(config, runner)

    with pytest.raises(SystemExit, match=r"toy: changed while it ran: toy_of_stage\.py; nothing is published"):
        stage(experiment)
    assert committed() == OLD
    assert Path(".paperkit/runs/toy/smoke/kept.json").exists()


def test_a_second_process_of_one_profile_is_told_who_runs_it(folder) -> None:
    second = Experiment()

    def first(config: Config, runner: Runner) -> Tables:
        with pytest.raises(SystemExit, match=rf"toy is running already \(smoke, process {os.getpid()}, since"):
            stage(second)
        stage(Experiment(), "cpu")
        return Experiment()(config, runner)

    stage(first)
    assert second.calls == []


def test_the_kept_runs_of_another_profile_stay(folder) -> None:
    with pytest.raises(ArithmeticError):
        stage(Experiment(error=ArithmeticError()), "cpu")
    stage(Experiment())
    assert Path(".paperkit/runs/toy/cpu/kept.json").exists()


# A stage that ends well


def test_a_stage_that_ends_well_replaces_its_results_and_forgets_its_runs(folder) -> None:
    experiment = Experiment()
    stage(experiment, "cpu")
    assert len(read_runs(Path("results/toy/runs.csv"))) == 10
    assert read_trials(Path("results/toy/trials.csv"))["selected"].tolist() == [True]
    assert sorted(committed()) == ["costs.csv", "provenance.json", "runs.csv", "trials.csv"]
    assert not Path(".paperkit/runs/toy").exists()
    ((config, runner),) = experiment.calls
    assert config == Config(model=Model(width=64), seeds=10)
    assert (runner.stage, runner.profile, runner.workers) == ("toy", "cpu", available_workers())
    assert read_json(Path("results/toy/provenance.json"))["profile"] == "cpu"
    assert (runner.instruction_set, list(runner.inputs)) == (INSTRUCTION_SET, ["python_docs"])


def test_where_nothing_is_tuned_there_is_no_ledger(folder) -> None:
    (folder / "results/toy/trials.csv").unlink()
    stage(Experiment(trials=[]))
    assert sorted(committed()) == ["costs.csv", "provenance.json", "runs.csv"]
    assert set(read_json(Path("results/toy/provenance.json"))["outs"]) == {"runs.csv"}


def test_what_the_runs_took_is_summed_by_experiment_and_arm(folder) -> None:
    def experiment(config: Config, runner: Runner) -> Tables:
        runs = [Run("e", arm, seed, {}) for seed in range(3) for arm in ("a", "b")]
        return Tables(runs=list(chain.from_iterable(runner(measure_seed, runs))))

    stage(experiment)
    costs = pd.read_csv("results/toy/costs.csv")
    assert list(costs.columns) == ["experiment", "arm", "runs", "cpu_s", "peak_mib"]
    assert costs[["experiment", "arm", "runs"]].values.tolist() == [["e", "a", 3], ["e", "b", 3]]
    assert (costs["peak_mib"] > 1).all()


def test_results_of_this_very_code_are_left_alone_and_rerun_does_not_care(folder, capsys, monkeypatch) -> None:
    first, second, third = Experiment(), Experiment(), Experiment()
    stage(first)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("results/toy").iterdir()}
    (folder / "toy_of_stage.py").write_text(f"# A comment.\n{TOY}")
    stage(second)
    assert second.calls == []
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("results/toy").iterdir()} == before
    assert "nothing to do (see make rerun)" in capsys.readouterr().out
    monkeypatch.setenv("PAPERKIT_RERUN", "1")
    stage(third)
    assert len(third.calls) == 1


def change_data(_: Path) -> None:
    write_table("python_docs", [{"path": "a.rst", "text": "B.", "split": "train"}])


CHANGES = {
    "constant": lambda folder: (folder / "toy_of_stage.py").write_text(TOY.replace("ge=1", "ge=0")),
    "parameter": lambda folder: (folder / "params.yaml").write_text(SOUND.replace("seeds: 2", "seeds: 3")),
    "data": change_data,
    "result": lambda folder: (folder / "results/toy/runs.csv").write_text("edited"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_anything_that_counts_runs_again_and_runs_are_kept_under_their_data(folder, change) -> None:
    before, after = Experiment(), Experiment()
    stage(before)
    CHANGES[change](folder)
    stage(after)
    assert (before.calls[0][1].inputs != after.calls[0][1].inputs) == (change == "data")


def test_the_record_says_what_ran_on_what(folder) -> None:
    stage(Experiment())
    record = read_json(Path("results/toy/provenance.json"))
    assert set(record["deps"]) == {"toy_of_stage.py", "params.yaml", "data/python_docs.parquet"}
    assert (record["threads"], record["workers"]) == (1, available_workers())
    assert record["environment"].items() >= INSTRUCTION_SET.items()
    assert set(record["outs"]) == {"runs.csv", "trials.csv"}
    assert record["command"].startswith("python ")


def test_a_timing_stage_has_one_worker_no_pins_and_files_of_its_own(folder) -> None:
    experiment = Experiment()
    experiment.trials = []  # a clock tunes nothing
    stage(experiment, kind=TIMING)
    runner = experiment.calls[0][1]
    assert (runner.workers, dict(runner.instruction_set)) == (1, {})
    assert len(read_runs(Path("results/toy/timings.csv"))) == 3
    record = json.loads(Path("results/toy/timing_provenance.json").read_text())
    assert not INSTRUCTION_SET.items() & record["environment"].items()
    assert ("timing.yaml" in record["deps"], "params.yaml" in record["deps"]) == (True, False)
    assert {name: text for name, text in committed().items() if name in OLD} == OLD


HALF = """\
from paperkit.checks import Check, by_name


def half():
    return Check(0.5 - 1 / 2, 0.2)


CHECKS = by_name(half)
"""


def test_a_stage_ends_with_the_checks_beside_its_module_and_depends_on_them(folder) -> None:
    files = {"__init__.py": "", "experiment.py": TOY, "checks.py": HALF, "claims.yaml": "schema: 1\n"}
    files |= {"params.yaml": SOUND, "timing.yaml": SOUND}
    (folder / "toy_package").mkdir()
    for name, text in files.items():
        (folder / "toy_package" / name).write_text(text)
    stage(Experiment(runs=[row(0)]), module="toy_package.experiment")
    runs = read_runs(Path("results/toy/runs.csv"))
    errors = {"max_error": 0.0, "control_error": 0.2}
    assert runs[runs["experiment"] == "identities"].set_index("metric")["value"].to_dict() == errors
    assert len(runs) == 3
    deps = read_json(Path("results/toy/provenance.json"))["deps"]
    assert "toy_package/checks.py" in deps
    (folder / "toy_package/checks.py").write_text(HALF.replace("1 / 2", "1 / 3"))
    changed = Experiment()
    stage(changed, module="toy_package.experiment")
    assert len(changed.calls) == 1
    stage(Experiment(trials=[]), module="toy_package.experiment", kind=TIMING)
    assert "identities" not in set(read_runs(Path("results/toy/timings.csv"))["experiment"])


def measure_seed(run: Run) -> Iterator[Measurement]:
    yield Measurement("none", 0, "pid_count", os.getpid())


def test_an_experiment_trains_through_the_runner_it_is_given(folder) -> None:
    def experiment(config: Config, runner: Runner) -> Tables:
        runs = [Run("e", "a", seed, {"width": config.model.width}) for seed in range(config.seeds)]
        return Tables(runs=list(chain.from_iterable(runner(measure_seed, runs))))

    stage(experiment, kind=TIMING)
    written = read_runs(Path("results/toy/timings.csv"))
    assert written["seed"].tolist() == [0, 1, 2]
    assert written["config"].unique().tolist() == ['{"width":1}']
    workers = {int(pid) for pid in written["value"]}
    assert os.getpid() not in workers
    assert not any(map(psutil.pid_exists, workers))
    assert not Path(".paperkit/runs/toy").exists()


# Through DVC, as a reader runs it

PIPELINE = """\
stages:
  toy:
    cmd: python -m toy_of_stage --profile smoke --out results/toy
    deps: [toy_of_stage.py, data/python_docs.parquet]
    params: [params.yaml: [smoke]]
    outs: [results/toy/runs.csv: {cache: false, persist: true}]
"""


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's own, of a library that it uses
def test_dvc_retrains_after_a_change_of_a_constant_and_not_after_one_of_a_comment(folder, monkeypatch) -> None:
    (folder / "params.yaml").write_text("smoke: {width: 8}\n")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "torch.py").write_text(TORCH)
    for name in OLD:
        (folder / "results/toy" / name).unlink()
    commit(folder)
    Repo.init(str(folder)).close()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def repro(code: str) -> bool:
        (folder / "toy_of_stage.py").write_text(code)
        assert reproduce(folder)
        trained = (folder / "it_ran").exists()
        (folder / "it_ran").unlink(missing_ok=True)
        return trained

    assert repro(TOY)
    made = (folder / "results/toy/runs.csv").stat().st_mtime_ns
    assert not repro(f'"""What it is."""\n\n# Why.\n{TOY}')
    assert (folder / "results/toy/runs.csv").stat().st_mtime_ns == made
    assert repro(TOY.replace("ge=1", "ge=2"))


def test_a_profile_above_cpu_has_its_own_name_and_leaves_the_checks_out(folder):
    (folder / "checks.py").write_text("raise ImportError\n")
    (folder / "params.yaml").write_text(SOUND + "gpu:\n  model: {width: 1}\n  seeds: 1\n")
    experiment = Experiment([row(0, profile="gpu")], [])
    stage(experiment, "gpu")
    assert [runner.stage for _, runner in experiment.calls] == ["toy_gpu"]
    record = read_json(Path("results/toy/provenance.json"))
    assert (record["stage"], record["profile"], record["device"]) == ("toy_gpu", "gpu", None)


def test_a_device_that_is_not_there_is_refused_before_anything_runs(folder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (folder / "params.yaml").write_text(SOUND + "gpu:\n  hardware: {device: cuda}\n  model: {width: 1}\n  seeds: 1\n")
    assert "ask for a CUDA device, and torch" in refused("gpu")


def test_hardware_says_how_many_workers_there_are_and_what_enters_a_run(folder):
    hardware = "hardware: {precision: bfloat16, micro_batch: 4, workers: 3}"
    (folder / "params.yaml").write_text(SOUND + f"gpu:\n  {hardware}\n  model: {{width: 1}}\n  seeds: 1\n")
    experiment = Experiment([row(0, profile="gpu")], [])
    stage(experiment, "gpu")
    ((_, runner),) = experiment.calls
    assert runner.workers == 3
    assert runner.hardware.in_runs == {"precision": "bfloat16", "micro_batch": 4}

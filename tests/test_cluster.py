"""paperkit.cluster: a real scheduler and two workers give the bytes of local processes, or refuse by name."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky import ProcessPoolExecutor

from paperkit.cluster import OtherWorkerError
from paperkit.datasets import data_hash
from paperkit.runs import CLUSTER, Run, Runner, code_hashes
from tests.made_up_runs import TORCH

ROOT = Path(__file__).parents[1]
TOY = """\
import os
import signal
import time
from pathlib import Path

import numpy as np

from paperkit.runs import Measurement


def measure(run):
    with Path("executed.log").open("a") as log:
        log.write(f"{run.seed} {os.getpid()} {os.getppid()}\\n")
    if run.arm == "slow":
        time.sleep(0.3)  # so that the other worker has its share
    if run.arm == "killing" and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    matrix = np.random.default_rng(run.seed).standard_normal((64, 64))
    yield Measurement("test", 1, "product_nats", float((matrix @ matrix).sum()))
"""
# What the workers of the test have set and no other process has, unless a test sets it.
OF_WORKERS = {"MKL_VML_MODE": "1"}
# What only the stage has set, and its runs get.
OF_STAGE = {"OPENBLAS_CORETYPE": "Haswell"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stage")
    (folder / "toy.py").write_text(TOY)
    (folder / "torch.py").write_text(TORCH)
    (folder / "paperkit").symlink_to(ROOT / "paperkit")
    (folder / "data").mkdir()
    (folder / "data/sotu.parquet").write_text("a table")
    return folder


@pytest.fixture(scope="module")
def scheduler(folder) -> Iterator[str]:
    """The address of a scheduler on loopback that has two workers, started as a user does."""
    (folder / "scheduler.log").touch()
    environment = {**os.environ, **OF_WORKERS}

    def start(*arguments: str) -> subprocess.Popen:
        with (folder / "scheduler.log").open("a") as log:
            command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard", "--host", "127.0.0.1"]
            return subprocess.Popen(command, cwd=folder, env=environment, stderr=log)

    processes = [start("scheduler", "--port", "0", "--scheduler-file", "scheduler.json")]
    processes += [start("worker", "--scheduler-file", "scheduler.json", "--nworkers", "2", "--nthreads", "1")]
    while (log := (folder / "scheduler.log").read_text()).count("Register worker addr") < 2:
        assert not any(process.poll() for process in processes), log
        time.sleep(0.05)
    yield log.split("Scheduler at:")[1].split()[0]
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def here(folder) -> list[Any]:
    """What one local process measures."""
    with pytest.MonkeyPatch.context() as patch:
        stage_starts(folder, patch)
        return rows_of("quick", folder / "kept here")


@pytest.fixture
def there(folder, scheduler, monkeypatch, tmp_path) -> Callable[..., list[Any]]:
    """Lets the workers measure, in the environment of a test."""
    stage_starts(folder, monkeypatch)
    monkeypatch.setenv(CLUSTER, scheduler)
    (folder / "executed.log").unlink(missing_ok=True)
    return lambda arm, **inputs: rows_of(arm, tmp_path / "kept", **inputs)


def stage_starts(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    for name, value in {**OF_WORKERS, **OF_STAGE}.items():
        patch.setenv(name, value)
    code_hashes.cache_clear()  # as in a new process


def rows_of(arm: str, kept: Path, **inputs: str) -> list[Any]:
    import toy

    runner = Runner("toy", "smoke", {"sotu": data_hash("sotu"), **inputs}, 1, kept=kept)
    try:
        rows = runner(toy.measure, [Run("quality", arm, seed, {}) for seed in range(8)])
        assert runner.workers == (2 if CLUSTER in os.environ else 1)
    finally:
        runner.close()
    return [[{**row, "arm": ""} for row in of_run] for of_run in rows]


def logged(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "executed.log").read_text().splitlines()]


def test_two_workers_give_what_one_local_process_gives(here, there, folder):
    assert there("slow") == here
    assert len({row["value"] for rows in here for row in rows}) == 8
    seeds, processes, workers = zip(*logged(folder), strict=True)
    assert sorted(seeds) == list("01234567")
    assert len(set(processes)) == len(set(workers)) == 2
    assert str(os.getpid()) not in {*processes, *workers}


def test_a_worker_killed_in_mid_run_changes_nothing(here, there, folder):
    assert there("killing") == here
    assert (folder / "killed").exists()
    assert len(logged(folder)) > len(here)  # the run that was cut off stands there twice


DIFFERING = r"""a worker on .*, in .*, is not as the stage:
  code: toy is \w{64} for the stage, \w{64} here; start the worker in the stage's folder, .*
  inputs: sotu is a{64} for the stage, \w{64} here; .* `dvc pull` .*
  environment: MKL_VML_MODE is None for the stage, 1 here; set it alike, .*"""


def test_all_that_differs_is_refused_by_name_and_an_edit_needs_no_other_workers(here, there, folder, monkeypatch):
    code_hashes("toy")  # the stage has loaded its code
    (folder / "toy.py").write_text(TOY.replace(".sum()", ".size"))
    with monkeypatch.context() as patch:
        patch.delenv("MKL_VML_MODE")
        with pytest.raises(OtherWorkerError, match=DIFFERING):
            there("quick", sotu="a" * 64)
    assert not (folder / "executed.log").exists()

    code_hashes.cache_clear()
    assert {row["value"] for rows in there("quick") for row in rows} == {64.0**2}
    (folder / "toy.py").write_text(TOY)
    code_hashes.cache_clear()
    assert there("quick") == here


def test_clock_readings_stay_on_this_machine(monkeypatch):
    monkeypatch.setenv(CLUSTER, "tcp://127.0.0.1:1")
    assert isinstance(Runner("lion_timing", "smoke", {}, 1, instruction_set={})._executor, ProcessPoolExecutor)

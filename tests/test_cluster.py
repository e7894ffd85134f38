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
# A torch that is loaded at once: the bytes of the toy are those of NumPy's kernels.
TOY_TORCH = """\
from types import SimpleNamespace

backends = SimpleNamespace(cpu=SimpleNamespace(get_cpu_capability=lambda: "AVX2"))


def set_num_threads(number): pass


def use_deterministic_algorithms(on): pass
"""
# What the workers of the test have set and no other process has, unless a test sets it.
OF_WORKERS = {"MKL_VML_MODE": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stage")
    (folder / "toy.py").write_text(TOY)
    (folder / "torch.py").write_text(TOY_TORCH)
    (folder / "data").mkdir()
    (folder / "data/sotu.parquet").write_text("a table")
    return folder


@pytest.fixture(scope="module")
def scheduler(folder) -> Iterator[str]:
    """The address of a scheduler on loopback that has two workers, started as a user does."""
    (folder / "scheduler.log").touch()
    environment = {**os.environ, **OF_WORKERS, "PYTHONPATH": f"{folder}:{ROOT}"}

    def start(*arguments: str) -> subprocess.Popen:
        with (folder / "scheduler.log").open("a") as log:
            command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard", "--host", "127.0.0.1"]
            return subprocess.Popen(command, cwd=folder, env=environment, stderr=log)

    processes = [start("scheduler", "--port", "0", "--scheduler-file", "scheduler.json")]
    processes += [start("worker", "--scheduler-file", "scheduler.json", "--nworkers", "2", "--nthreads", "1")]
    while "Scheduler at:" not in (log := (folder / "scheduler.log").read_text()):
        assert processes[0].poll() is None, log
        time.sleep(0.05)
    yield log.split("Scheduler at:")[1].split()[0]
    for process in reversed(processes):
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def rows_of(folder, scheduler, monkeypatch, tmp_path) -> Iterator[Callable[..., Any]]:
    """Executes eight runs of the toy, on the cluster unless told otherwise."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    import toy

    for name, value in OF_WORKERS.items():
        monkeypatch.setenv(name, value)
    runners = []

    def execute(arm: str, *, cluster: bool = True, **changes: Any) -> Any:
        if cluster:
            monkeypatch.setenv(CLUSTER, scheduler)
        inputs = {"sotu": data_hash("sotu")}
        settings = {
            "stage": "toy",
            "profile": "smoke",
            "inputs": inputs,
            "workers": 1,
            "kept": tmp_path / str(cluster),
        }
        runners.append(Runner(**{**settings, **changes}))
        return runners[-1](toy.measure, [Run("quality", arm, seed, {}) for seed in range(8)])

    yield execute
    for each in runners:
        if "_executor" in vars(each):
            each.close()
    code_hashes.cache_clear()
    del sys.modules["toy"]


def logged(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "executed.log").read_text().splitlines()]


def test_two_workers_give_what_one_local_process_gives(rows_of, folder):
    here = rows_of("slow", cluster=False)
    (folder / "executed.log").unlink()
    assert rows_of("slow") == here
    assert len({row["value"] for rows in here for row in rows}) == 8
    seeds, processes, workers = zip(*logged(folder), strict=True)
    assert sorted(seeds) == list("01234567")
    assert len(set(processes)) == len(set(workers)) == 2
    assert str(os.getpid()) not in {*processes, *workers}


def test_a_worker_killed_in_mid_run_changes_nothing(rows_of, folder):
    here = [[row | {"arm": "killing"} for row in rows] for rows in rows_of("quick", cluster=False)]
    (folder / "executed.log").unlink()
    assert rows_of("killing") == here
    assert (folder / "killed").exists()
    assert len(logged(folder)) > len(here)  # the run that was cut off stands there twice


def test_a_variable_that_only_the_workers_have_is_refused_by_name(rows_of, monkeypatch):
    monkeypatch.delenv("MKL_VML_MODE")
    with pytest.raises(
        OtherWorkerError, match="environment: MKL_VML_MODE is None for the stage, 1 here; set it alike"
    ):
        rows_of("quick")


def test_a_variable_that_only_the_stage_has_goes_with_the_run(rows_of, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert rows_of("quick") == rows_of("quick", cluster=False)


def test_other_data_are_refused_by_name(rows_of):
    with pytest.raises(OtherWorkerError, match=r"inputs: sotu is a{64} for the stage, \w{64} here; .*dvc pull"):
        rows_of("quick", inputs={"sotu": "a" * 64})


def test_data_that_a_worker_lacks_are_refused_by_name(rows_of):
    with pytest.raises(FileNotFoundError, match=r"data/poems.parquet is missing; run `dvc pull`"):
        rows_of("quick", inputs={"poems": "a" * 64})


def test_other_code_is_refused_and_the_next_stage_finds_workers_with_the_new_one(rows_of, folder):
    rows_of("quick")
    (folder / "toy.py").write_text(TOY.replace(".sum()", ".max()"))
    try:
        with pytest.raises(
            OtherWorkerError, match=r"code: toy is \w{64} for the stage, \w{64} here; start the worker"
        ):
            rows_of("slow")
        code_hashes.cache_clear()  # as in a new process
        assert len(rows_of("slow")) == 8
    finally:
        (folder / "toy.py").write_text(TOY)


def test_clock_readings_stay_on_this_machine(monkeypatch):
    monkeypatch.setenv(CLUSTER, "tcp://127.0.0.1:1")
    assert isinstance(Runner("lion_timing", "smoke", {}, 1, instruction_set={})._executor, ProcessPoolExecutor)

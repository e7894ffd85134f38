"""paperkit.runs: only workers compute, finished runs are kept, and a killed stage ends with the same bytes."""

import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from paperkit import runs as runs_module
from paperkit.provenance import import_closure, kernels_in_use
from paperkit.runs import (
    ALLOCATOR,
    INSTRUCTION_SET,
    Measurement,
    Run,
    Runner,
    available_workers,
    code_hashes,
    execute,
    run_key,
    seeds_of,
)
from tests.made_up_runs import TORCH, InThisProcess

ROOT = Path(__file__).parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


# What the workers execute (a worker imports this module)


def report_process(run: Run) -> Iterator[Measurement]:
    import torch

    facts = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "torch_threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "avx2_kernels": "AVX2" in torch.backends.cpu.get_cpu_capability(),
        "pinned": all(os.environ.get(name) == value for name, value in INSTRUCTION_SET.items()),
        "keeps_memory": all(os.environ.get(name) == value for name, value in ALLOCATOR.items()),
        **{name: float(os.environ[name]) for name in THREAD_VARIABLES},
    }
    yield from (Measurement("none", 0, name, value) for name, value in facts.items())


def draw(run: Run) -> Iterator[Measurement]:
    """Notes that it was executed, and gives a number that depends on the run alone."""
    with Path(run.config["log"]).open("a") as log:
        log.write(f"{run.arm} {run.seed} {os.getpid()}\n")
    time.sleep(0.02 * (run.seed % 2))  # even seeds overtake odd ones
    if run.arm == "failing" and not Path(run.config["repaired"]).exists():
        message = f"seed {run.seed} cannot be drawn"
        raise ArithmeticError(message)
    if run.arm == "diverging":
        yield Measurement("train", 1, "loss_nats", 1.0)
        yield from (Measurement(split, 9, "loss_nats", bad) for split, bad in BAD.items())
        return
    yield Measurement("test", 9, "loss_nats", random.Random(f"{run.arm} {run.seed}").random())


BAD = {"train": float("nan"), "validation": float("inf"), "test": -float("inf")}


# Set-up


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    made: list[Runner] = []

    def make(**changes: Any) -> Runner:
        settings = {"stage": "toy", "profile": "smoke", "inputs": {"table": "a" * 64}, "workers": 1}
        made.append(Runner(**{**settings, "kept": tmp_path / "kept", **changes}))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real worker processes that do not load torch: they start in a third of the time."""
    monkeypatch.setattr(runs_module, "_prepare_worker", int)
    monkeypatch.setattr(runs_module, "kernels_in_use", dict)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(runs_module, "kernels_in_use", dict)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "executed.log"
    path.touch()
    return path


def executed(log: Path) -> list[tuple[str, int]]:
    return [(arm, int(seed)) for arm, seed, _ in map(str.split, log.read_text().splitlines())]


def pids(log: Path) -> set[int]:
    return {int(line.split()[2]) for line in log.read_text().splitlines()}


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # nobody buries the orphans in a container
    except psutil.NoSuchProcess:
        return False


def grid(log: Path, seeds: int = 4, arms: tuple[str, ...] = ("adamw", "lion")) -> list[Run]:
    config = {"log": str(log), "repaired": str(log.with_name("repaired"))}
    return [Run("quality", arm, seed, config) for seed in range(seeds) for arm in arms]


@pytest.fixture
def executed_after(runner, log, here) -> Callable[..., int]:
    """Runs a grid of two arms in this process, and counts what was executed since the test began."""

    def count(measure: Any = draw, seeds: int = 1, **settings: Any) -> int:
        runner(**settings)(measure, grid(log, seeds))
        return len(executed(log))

    return count


# Processes


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict[str, float]]:
    """What two runs in the one worker of a real runner report about their process."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        for name in THREAD_VARIABLES:
            patch.delenv(name, raising=False)  # conftest.py has set them
        one = Runner("processes", "smoke", {}, 1, kept=folder / "kept")
        # Two calls: the second finds the worker of the first.
        rows = [row for seed in range(2) for row in one(report_process, [Run("e", "a", seed, {})])]
    one.close()
    return [{row["metric"]: row["value"] for row in each} for each in rows]


def test_runs_are_executed_in_one_worker_that_serves_the_next_grid_too_and_never_in_the_parent_process(processes):
    assert len({each["pid"] for each in processes}) == 1
    assert os.getpid() not in {each["pid"] for each in processes}
    assert {each["parent"] for each in processes} == {os.getpid()}


KEPT: list[bytes] = []  # in a worker


def keep_much(run: Run) -> Iterator[Measurement]:
    """A run that leaves 400 MB behind, and lasts longer than the time between two looks of loky's."""
    KEPT.append(b"x" * (run.seed * 400_000_000))
    time.sleep(1.1)
    yield Measurement("none", 0, "pid_count", os.getpid())


def test_a_worker_that_has_loaded_much_is_kept(tmp_path):
    one = Runner("growing", "smoke", {}, 1, kept=tmp_path)
    measured = one(keep_much, [Run("e", "a", seed, {}) for seed in (0, 1, 2)])
    one.close()
    assert len({rows[0]["value"] for rows in measured}) == 1


@pytest.mark.parametrize(
    "fact", ["torch_threads", *THREAD_VARIABLES, "pinned", "avx2_kernels", "deterministic", "keeps_memory"]
)
def test_a_worker_has_one_thread_pinned_kernels_deterministic_algorithms_and_keeps_memory(processes, fact):
    assert [each[fact] for each in processes] == [1, 1]


def test_the_pins_of_the_workers_are_not_set_in_the_parent(processes):
    assert not any(os.environ.get(name) == value for name, value in INSTRUCTION_SET.items())


def test_there_is_at_least_one_worker_and_no_more_than_cores():
    assert 1 <= available_workers() <= (os.cpu_count() or 1)


# Order, number of workers, rows


def test_results_stand_in_the_order_of_the_grid_whatever_the_number_of_workers(runner, log, light, tmp_path):
    runs = grid(log)
    results = [runner(workers=workers, kept=tmp_path / f"kept{workers}")(draw, runs) for workers in (1, 2)]
    assert results[0] == results[1]
    assert [(rows[0]["arm"], rows[0]["seed"]) for rows in results[0]] == [(run.arm, run.seed) for run in runs]
    assert sorted(executed(log)) == sorted(2 * [(run.arm, run.seed) for run in runs])
    assert len(pids(log)) == 3  # one worker, then two: the equality compared different set-ups
    assert os.getpid() not in pids(log)


def test_a_closed_runner_has_no_worker_left(runner, log, light):
    one = runner()
    one(draw, grid(log, seeds=1))
    (worker,) = pids(log)
    assert alive(worker)
    one.close()
    assert not alive(worker)


def test_a_row_has_the_columns_of_the_run_the_measurement_and_the_status(runner, log, here):
    runs = grid(log, seeds=1)
    (row,), _ = runner()(draw, runs)
    value = random.Random("adamw 0").random()
    assert row == {
        "profile": "smoke", "experiment": "quality", "arm": "adamw", "seed": 0, "config": runs[0].config,
        "split": "test", "step": 9, "metric": "loss_nats", "value": value, "status": "ok",
    }  # fmt: skip


def test_a_number_that_is_not_finite_is_a_diverged_outcome_and_not_a_crash(runner, log, here):
    for _ in range(2):  # as executed, and as kept
        (rows,) = runner()(draw, grid(log, seeds=1, arms=("diverging",)))
        assert [(row["split"], row["value"], row["status"]) for row in rows] == [
            ("train", 1.0, "ok"),
            ("train", None, "diverged"),
            ("validation", None, "diverged"),
            ("test", None, "diverged"),
        ]
    assert len(executed(log)) == 1


def test_rows_of_all_runs_are_one_list_in_the_order_of_the_grid(runner, log, here):
    runs = grid(log, arms=("diverging", "adamw"))
    rows = execute(runner(), draw, runs)
    assert [row for of_run in runner()(draw, runs) for row in of_run] == rows
    assert [(row["arm"], row["seed"]) for row in rows] == [
        (run.arm, run.seed) for run in runs for _ in range(4 if run.arm == "diverging" else 1)
    ]


# Seeds


def test_derived_seeds_stay_as_they_are_since_every_committed_number_hangs_on_them():
    assert seeds_of(0) == (2968811710, 3677149159, 745650761)
    assert seeds_of(11) == (1926383459, 914257217, 2880094716)


def test_what_is_random_in_a_run_does_not_share_a_seed_with_anything_else():
    derived = [each for seed in range(1000) for each in seeds_of(seed)]
    assert len(set(derived)) == len(derived)


# Finished runs


@pytest.mark.parametrize("workers", [1, 2])
def test_finished_runs_are_kept_with_what_they_took_and_not_executed_again(runner, log, here, workers):
    one, other = runner(), runner(workers=workers)
    assert one(draw, grid(log)) == other(draw, grid(log))
    assert len(executed(log)) == len(one.costs) == 8
    assert one.costs == other.costs
    assert {(cost.experiment, cost.arm) for cost in one.costs.values()} == {("quality", "adamw"), ("quality", "lion")}


def test_only_the_runs_that_are_missing_are_executed(runner, log, here):
    runner()(draw, grid(log, seeds=2))
    rows = runner()(draw, grid(log, seeds=4))
    assert executed(log) == [(run.arm, run.seed) for run in grid(log)]
    assert [each[0]["seed"] for each in rows] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_run_that_stands_in_the_grid_twice_is_executed_once_and_returned_twice(runner, log, here):
    rows = runner()(draw, [*grid(log, seeds=1), *grid(log, seeds=1)])
    assert executed(log) == [("adamw", 0), ("lion", 0)]
    assert rows[:2] == rows[2:]


def another_value(text: str) -> str:
    finished = json.loads(text)
    finished["measurements"][0]["value"] = 0.5
    return json.dumps(finished)


# A file cut to nothing, or of JSON that is no run.
ALWAYS = [lambda _, text=text: text for text in ("", "[]", "5", "{}")]


@pytest.mark.parametrize("damage", [lambda text: text[:-3], lambda text: "\0" * len(text), *ALWAYS, another_value])
def test_a_damaged_kept_file_is_executed_again(runner, log, here, damage):
    first = runner()(draw, grid(log, seeds=2))
    file = sorted(runner().folder.iterdir())[0]
    sound = file.read_text()
    file.write_text(damage(sound))
    assert runner()(draw, grid(log, seeds=2)) == first
    assert len(executed(log)) == 5
    assert json.loads(file.read_text())["measurements"] == json.loads(sound)["measurements"]


def test_what_is_kept_of_one_run_is_not_taken_for_another(runner, log, here):
    first = runner()(draw, grid(log, seeds=2))
    one, other, *_ = sorted(runner().folder.iterdir())
    one.write_bytes(other.read_bytes())
    assert runner()(draw, grid(log, seeds=2)) == first
    assert len(executed(log)) == 5


def test_a_half_written_file_beside_the_kept_ones_is_not_taken_for_a_finished_run(runner, executed_after):
    executed_after()
    file = next(runner().folder.iterdir())
    file.rename(file.with_name(f".{file.name}.123.partial"))  # what a kill within the write leaves
    assert executed_after() == 3


def test_forgetting_removes_the_runs_of_this_stage_only(runner, executed_after):
    assert executed_after() + executed_after(stage="toy_timing") == 2 + 4
    for _ in range(2):  # the second time nothing is left to remove
        runner().forget()
    assert (executed_after(stage="toy_timing"), executed_after()) == (4, 6)


# One time in fifty loky's manager thread dies of a KeyError once it has killed its workers: noise on stderr, no more.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_in_one_run_surfaces_and_the_finished_ones_are_kept(runner, log, light):
    runs = [*grid(log, seeds=2), *grid(log, seeds=1, arms=("failing",)), *grid(log, seeds=5, arms=("late",))]
    one = runner()
    with pytest.raises(ArithmeticError, match="seed 0 cannot be drawn"):
        one(draw, runs)
    assert not any(map(alive, pids(log)))
    kept = [json.loads(file.read_text())["measurements"][0]["value"] for file in runner().folder.iterdir()]
    assert {random.Random(f"{arm} {seed}").random() for arm in ("adamw", "lion") for seed in (0, 1)} <= set(kept)
    before = executed(log)
    log.with_name("repaired").touch()
    rows = one(draw, runs)
    assert len(rows) == len(runs)
    again = executed(log)[len(before) :]
    assert ("failing", 0) in again
    assert not {(run.arm, run.seed) for run in runs[:4]} & set(again)


# The key


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": {"table": "b" * 64}},
        {"inputs": {"table": "a" * 64, "other": "a" * 64}},
        {"instruction_set": {}},
        {"instruction_set": {**INSTRUCTION_SET, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}},
        {"profile": "cpu"},
    ],
)
def test_other_data_pins_or_profile_execute_the_runs_again(executed_after, changes):
    assert (executed_after(), executed_after(**changes)) == (2, 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("kernels_in_use", lambda: {"BLAS": "openblas SkylakeX"}), ("numerical_versions", dict), ("THREADS", 2)],
)
def test_other_kernels_versions_or_threads_execute_the_runs_again(executed_after, monkeypatch, name, value):
    executed_after()
    monkeypatch.setattr(runs_module, name, value)
    assert executed_after() == 4


CHANGE_NUMBERS = ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "MKL_VML_MODE", "PYTHONHASHSEED")


@pytest.mark.parametrize("name", [*CHANGE_NUMBERS, *INSTRUCTION_SET, "OMP_NUM_THREADS", "NUMBA_CACHE_DIR", "HOME"])
def test_only_a_variable_that_changes_numbers_and_is_not_pinned_executes_the_runs_again(
    executed_after, monkeypatch, name
):
    monkeypatch.setenv(name, "one")
    executed_after()
    monkeypatch.setenv(name, "another")  # a stage that was killed, and resumed elsewhere
    assert executed_after() == (4 if name in CHANGE_NUMBERS else 2)


TOY_CODE = """\
from pathlib import Path

from paperkit.runs import Measurement


def measure(run):
    with Path(run.config["log"]).open("a") as log:
        log.write(f"{run.arm} {run.seed} 0\\n")
    yield Measurement("none", 0, "one", 1.0)


def another(run):
    yield from measure(run)
"""


@pytest.fixture
def toy_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of its own whose code can be changed."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "toy_code.py").write_text(TOY_CODE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    import toy_code

    code_hashes.cache_clear()
    yield toy_code
    code_hashes.cache_clear()
    del sys.modules["toy_code"]


@pytest.mark.parametrize(("addition", "executed_in_all"), [("", 2), ("\n# why", 2), ("\nx = 1", 4)])
def test_changed_code_executes_the_runs_again_in_the_next_process_and_a_comment_does_not(
    executed_after, toy_code, addition, executed_in_all
):
    executed_after(toy_code.measure)
    Path(toy_code.__file__).write_text(TOY_CODE + addition)
    code_hashes.cache_clear()  # as in a new process
    assert executed_after(toy_code.measure) == executed_in_all


def test_code_changed_while_a_stage_runs_is_not_taken_for_what_its_workers_loaded(executed_after, toy_code):
    executed_after(toy_code.measure)
    Path(toy_code.__file__).write_text(TOY_CODE.replace("1.0", "2.0"))
    assert executed_after(toy_code.measure, seeds=2) == 4  # by the loaded code, and kept under it
    code_hashes.cache_clear()
    assert executed_after(toy_code.measure, seeds=2) == 8


def test_another_function_of_the_same_module_has_runs_of_its_own(executed_after, toy_code):
    assert (executed_after(toy_code.measure), executed_after(toy_code.another)) == (2, 4)


def test_the_key_tells_apart_everything_that_a_run_depends_on():
    run = Run("quality", "lion", 0, {"lr": 0.1, "steps": 10})
    others = [
        Run("search", "lion", 0, {"lr": 0.1, "steps": 10}),
        Run("quality", "adamw", 0, {"lr": 0.1, "steps": 10}),
        Run("quality", "lion", 1, {"lr": 0.1, "steps": 10}),
        Run("quality", "lion", 0, {"lr": 0.10000000000000002, "steps": 10}),
        Run("quality", "lion", 0, {"lr": 0.1, "steps": 10, "batch": 1}),
    ]
    keys = {run_key(each, {"code": {"a": "0"}}) for each in (run, *others)} | {run_key(run, {"code": {"a": "1"}})}
    assert len(keys) == len(others) + 2
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)


def test_the_key_does_not_depend_on_the_order_of_a_configuration():
    run, same = (Run("e", "a", 0, config) for config in ({"lr": 0.1, "steps": 3}, {"steps": 3, "lr": 0.1}))
    assert run_key(run, {"x": 1, "y": 2}) == run_key(same, {"y": 2, "x": 1})


def test_a_change_in_an_imported_module_changes_the_hashes_of_the_importing_one(tmp_path, monkeypatch):
    before = code_hashes("paperkit.runs")
    assert list(before) == list(import_closure("paperkit.runs"))
    changed = tmp_path / "results.py"
    changed.write_bytes(runs_module.module_file("paperkit.results").read_bytes() + b"\nx = 1\n")
    find = runs_module.module_file
    monkeypatch.setattr(runs_module, "module_file", lambda name: changed if name == "paperkit.results" else find(name))
    code_hashes.cache_clear()
    after = code_hashes("paperkit.runs")
    code_hashes.cache_clear()
    assert {name for name in before if after[name] != before[name]} == {"paperkit.results"}


# What runs take


def busy(run: Run) -> Iterator[Measurement]:
    import numpy

    table = numpy.ones(run.config["mib"] * 2**17)
    end = time.process_time() + run.config["cpu_s"]
    while time.process_time() < end:
        pass
    yield Measurement("none", 0, "sum", float(table[-1]))


def test_processor_time_and_peak_memory_of_a_run_are_noted(runner, light):
    one = runner()
    one(busy, [Run("e", arm, 0, {"mib": mib, "cpu_s": s}) for arm, mib, s in (("small", 1, 0.0), ("large", 100, 0.3))])
    costs = {cost.arm: cost for cost in one.costs.values()}
    assert 0.3 <= costs["large"].cpu_s < 3
    assert costs["small"].cpu_s < 0.3
    assert costs["large"].peak_mib > costs["small"].peak_mib + 80


def test_a_worker_names_its_kernels(runner):
    kernels = runner().kernels
    assert set(kernels) == {"BLAS", "NumPy", "torch"}
    assert kernels["torch"] == "AVX2"  # as pinned, on every processor
    assert kernels["BLAS"] == kernels_in_use()["BLAS"]


# A real kill

TOY_STAGE = """\
import os
import random
import time
from itertools import chain
from pathlib import Path

from paperkit.runs import Measurement, Run
from paperkit.stage import StageConfig, Tables, main


class Config(StageConfig):
    seeds: int
    pause_s: float


def measure(run):
    with Path("executed.log").open("a") as log:
        log.write(f"{run.arm} {run.seed} {os.getpid()}\\n")
    time.sleep(run.config["pause_s"])
    yield Measurement("none", 0, f"seed_of_{measure.__module__}_count", run.seed)
    yield Measurement("test", 1, "loss_nats", random.Random(f"{run.arm} {run.seed}").random())


def run(config, runner):
    runs = [Run("quality", arm, seed, config.model_dump()) for seed in range(config.seeds) for arm in ("b", "a")]
    return Tables(runs=list(chain.from_iterable(runner(measure, runs))))


if __name__ == "__main__":
    main(Config, run, stage="toy_stage", module="toy_stage")
"""
NUM_RUNS = 14


def start_stage(folder: Path, *, by: Sequence[str] = (), code: str = TOY_STAGE, **variables: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    (folder / "toy_stage.py").write_text(code)
    (folder / "torch.py").write_text(TORCH)
    (folder / "params.yaml").write_text(f"smoke: {{seeds: {NUM_RUNS // 2}, pause_s: 0.2}}\n")
    (folder / "requirements.lock").write_text("numpy==1.0\n")
    (folder / "claims.yaml").write_text("schema: 1\n")
    command = [sys.executable, "-m", "toy_stage", "--profile", "smoke", "--out", "results/toy_stage"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1", **variables}
    with (folder / "stderr").open("w") as stderr:
        return subprocess.Popen([*by, *command], cwd=folder, env=environment, stderr=stderr)


def results_of(folder: Path, process: subprocess.Popen) -> Path:
    assert process.wait(timeout=120) == 0, (folder / "stderr").read_text()
    return folder / "results" / "toy_stage"


def wait_until(condition: Any, *, timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """The folder of a stage whose process was killed after some of its runs."""
    folder = tmp_path_factory.mktemp("a killed stage")
    process = start_stage(folder)
    try:
        assert wait_until(lambda: len(kept_files(folder)) >= 3, timeout_s=120), (folder / "stderr").read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return folder


def kept_files(folder: Path) -> list[Path]:
    return sorted((folder / ".paperkit/runs/toy_stage/smoke").glob("*.json"))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_stage_goes_on_where_it_was_and_ends_with_the_same_bytes(killed, tmp_path):
    workers = pids(killed / "executed.log")
    assert workers
    assert wait_until(lambda: not any(map(alive, workers)), timeout_s=10), "workers outlive their killed stage"
    assert not (killed / "results").exists()
    finished = {path.name: path.read_text() for path in kept_files(killed)}
    assert 3 <= len(finished) < NUM_RUNS

    (killed / "executed.log").unlink()
    uninterrupted = tmp_path / "uninterrupted"
    processes = {folder: start_stage(folder) for folder in (killed, uninterrupted)}
    results, expected = (results_of(folder, process) for folder, process in processes.items())
    assert len(executed(killed / "executed.log")) == NUM_RUNS - len(finished)
    assert not (killed / ".paperkit/runs/toy_stage").exists()

    assert len(executed(uninterrupted / "executed.log")) == NUM_RUNS
    assert (results / "runs.csv").read_bytes() == (expected / "runs.csv").read_bytes()
    table = (results / "runs.csv").read_text()
    assert len(table.splitlines()) == 1 + 2 * NUM_RUNS
    # `python -m` calls the module __main__, whose imports could not be found: the runs know it by its real name.
    assert table.count("seed_of_toy_stage_count") == NUM_RUNS


@pytest.mark.parametrize(
    "starts",
    [
        "import subprocess, sys; subprocess.run(sys.argv[1:])",
        # As `python -m paperkit repro` under dash, which stays between DVC and its stage.
        "import os, subprocess, sys; os.environ['PAPERKIT_STARTER'] = str(os.getpid())\n"
        "subprocess.run(['sh', '-c', '\"$@\"; :', 'sh', *sys.argv[1:]])",
    ],
)
def test_a_stage_ends_when_the_dvc_that_started_it_is_killed(starts, tmp_path):
    folder = tmp_path / "a stage"
    dvc = start_stage(folder, by=[sys.executable, "-c", starts], DVC_STAGE="toy_stage")
    try:
        assert wait_until(lambda: kept_files(folder), timeout_s=120), (folder / "stderr").read_text()
    finally:
        dvc.terminate()
        dvc.wait()
    assert wait_until(lambda: not any(map(alive, pids(folder / "executed.log"))), timeout_s=10)
    assert "dvc has ended, and this stage with it" in (folder / "stderr").read_text()
    assert len(kept_files(folder)) < NUM_RUNS
    assert not (folder / "results/toy_stage/runs.csv").exists()


# An inner product, whose last bits are those of the kernel that OpenBLAS chooses.
PRODUCT = TOY_STAGE.replace("import random", "import numpy as np").replace(
    'random.Random(f"{run.arm} {run.seed}").random()',
    "float(np.subtract(*(np.random.default_rng(run.seed).normal(size=(2, 300)))) @ np.arange(300.0))",
)


@pytest.mark.soak
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels named are those of x86-64")
def test_a_stage_killed_under_one_kernel_and_resumed_under_another_has_the_bytes_of_the_other(tmp_path):
    one, other = ({"code": PRODUCT, "OPENBLAS_CORETYPE": kernel} for kernel in ("Haswell", "Prescott"))
    killed = tmp_path / "killed"
    process = start_stage(killed, **one)
    try:
        assert wait_until(lambda: len(kept_files(killed)) >= 3, timeout_s=120), (killed / "stderr").read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert wait_until(lambda: not any(map(alive, pids(killed / "executed.log"))), timeout_s=30)
    (killed / "executed.log").unlink()
    tables = {}
    for folder, setting in ((tmp_path / "one", one), (tmp_path / "other", other), (killed, other)):
        tables[folder.name] = (results_of(folder, start_stage(folder, **setting)) / "runs.csv").read_bytes()
    assert tables["one"] != tables["other"]  # else the kernels would not matter here
    assert tables["killed"] == tables["other"]
    assert len(executed(killed / "executed.log")) == NUM_RUNS  # what the first kernel had computed was not taken

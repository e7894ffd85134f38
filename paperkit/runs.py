"""A grid of runs executed in parallel processes; each finished run is kept at once.

A run is one (experiment, arm, hyper-parameters, seed). Its measurements are a function of the run, of the
code it imports, of the data, of the versions of numerical libraries and of the kernels they choose, and of nothing
else: these are its key. A stage that was killed finds its finished runs under their keys and ends with the same bytes.
"""

import fcntl
import hashlib
import importlib
import json
import math
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky import ProcessPoolExecutor, cpu_count, process_executor
from tqdm import tqdm

from paperkit.hardware import ON_CPU, Hardware
from paperkit.provenance import (
    code_hash,
    import_closure,
    kernels_in_use,
    module_file,
    number_environment,
    numerical_versions,
)
from paperkit.results import canonical_json, replace_text

THREADS = 1
# Kernels are chosen at run time by instruction set, and round differently. AVX2 is what every x86-64 machine
# of the last decade has. OpenBLAS and NumPy are left as their users have them: what they chose is in a run's key.
INSTRUCTION_SET = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "MKL_CBWR": "",  # as if unset, whatever the user has: COMPATIBLE moves every matrix product
}
# glibc gives large blocks back to the system as soon as they are free, and a training step asks for the same ones
# again: the page faults took a fifth of a step of a small model. No value depends on these.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(THREADS)
)

# Address of a Dask scheduler, such as tcp://host:8786, whose workers execute the runs.
CLUSTER = "PAPERKIT_DASK"


@dataclass(frozen=True)
class Run:
    """One unit of work and of statistics.

    Attributes:
        experiment: Name of the experiment within its replication, for example "lm_quality".
        arm: What is compared, for example "lion".
        seed: Seed of initialisation and data order; arms of the same seed are paired.
        config: Everything else that the run depends on; JSON content.
    """

    experiment: str
    arm: str
    seed: int
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Measurement:
    """One number that a run reports; a value that is not finite says that the run diverged.

    Attributes:
        split: "train", "validation", "test", or "none".
        step: Optimizer steps taken before it.
        metric: Name that ends in its unit, for example "loss_nats".
        value: The number.
    """

    split: str
    step: int
    metric: str
    value: float


@dataclass(frozen=True)
class Cost:
    """What a run took; two executions of one run differ in it.

    Attributes:
        experiment: Of the run.
        arm: Of the run.
        cpu_s: Processor time in seconds.
        peak_mib: Largest memory of its process during the run, in MiB, with what earlier runs have freed.
    """

    experiment: str
    arm: str
    cpu_s: float
    peak_mib: float


Measure = Callable[[Run], Iterable[Measurement]]
Rows = list[dict[str, Any]]


def seeds_of(seed: int) -> tuple[int, int, int]:
    """Derive what is random in a run from its seed, so that arms of one seed share it: they are paired.

    Args:
        seed: Seed of the run.

    Returns:
        Seeds of the initialisation, of the data and their order, and of what is drawn for measurements.

    Example:
        >>> len({derived for seed in range(100) for derived in seeds_of(seed)})
        300
    """
    initialisation, data, measurements = np.random.SeedSequence(seed).generate_state(3)
    return int(initialisation), int(data), int(measurements)


@dataclass(frozen=True)
class Runner:
    """Executes the runs of one stage in worker processes.

    Attributes:
        stage: Name of the stage; finished runs are kept in a folder of that name.
        profile: Written into every row.
        inputs: Hash of each data table that the stage reads.
        workers: Number of processes.
        instruction_set: Environment variables that pin the kernels chosen at run time.
        allocator: Environment variables that keep the workers' memory; no part of a run's key.
        kept: Folder of finished runs of all stages.
        costs: What each run has taken that was returned, by its key.
        hardware: On what the runs compute; what of it may change a number becomes part of each run.
    """

    stage: str
    profile: str
    inputs: Mapping[str, str]
    workers: int
    instruction_set: Mapping[str, str] = field(default_factory=INSTRUCTION_SET.copy)
    allocator: Mapping[str, str] = field(default_factory=ALLOCATOR.copy)
    kept: Path = Path(".paperkit/runs")
    costs: dict[str, Cost] = field(default_factory=dict)
    hardware: Hardware = ON_CPU

    @property
    def folder(self) -> Path:
        """Where the finished runs of this stage and profile are kept."""
        return self.kept / self.stage / self.profile

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder of kept runs.

        Raises:
            SystemExit: If another process of this stage and profile holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "held_by").open("a+", encoding="utf-8") as holder:
            try:
                fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder.seek(0)
                message = f"{self.stage} is running already ({self.profile}, {holder.read()}): wait for it, or end it"
                raise SystemExit(message) from error
            holder.truncate(0)
            print(f"process {os.getpid()}, since {datetime.now(UTC):%H:%M} UTC", end="", file=holder, flush=True)
            yield

    def __call__(self, measure: Measure, runs: Sequence[Run]) -> list[Rows]:
        """Execute the runs that are not kept yet, and return the measurements of all.

        Args:
            measure: A module-level function from a run to its measurements, or an object that is called as one and
                names the `module` of its code; it runs in a worker process.
            runs: The grid; a run that stands in it twice is executed once.

        Returns:
            For each run of the grid, in its order, its rows of `runs.csv`.
        """
        measure = _importable(measure)
        runs = [replace(run, config={**run.config, **self.hardware.in_runs}) for run in runs]
        common = self._common_key(measure)
        keys = [run_key(run, common) for run in runs]
        grid = dict(zip(keys, runs, strict=True))
        self._execute(measure, {key: run for key, run in grid.items() if _kept(self._file(key)) is None})
        return [self._rows(key, grid[key]) for key in keys]

    @cached_property
    def environment(self) -> dict[str, str]:
        """Environment variables of a worker that may change a number."""
        return number_environment({**self.instruction_set, **_ONE_THREAD, **self.hardware.environment})

    @cached_property
    def kernels(self) -> dict[str, str]:
        """Kernels that a worker computes with, asked of a worker."""
        return self._executor.submit(kernels_in_use).result()

    def forget(self) -> None:
        """Remove the kept runs of this profile: it has ended well, and the next `--force` must really run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # another profile may have runs there
            self.folder.parent.rmdir()

    def close(self) -> None:
        """End the worker processes; a later call starts new ones."""
        self._executor.shutdown()
        del self.__dict__["_executor"]

    @property
    def worker_environment(self) -> dict[str, str]:
        """Environment variables that a worker is started with."""
        return {**self.instruction_set, **self.allocator, **_ONE_THREAD, **self.hardware.environment}

    @cached_property
    def _executor(self) -> ProcessPoolExecutor:
        if address := os.environ.get(CLUSTER):
            # By its name, so that it is no part of a stage's code: where a run is executed changes no number.
            return importlib.import_module("paperkit.cluster").connect(address, self)
        # One pool for all calls: what a worker has loaded (torch, a tokenised corpus) serves the next grid too.
        return ProcessPoolExecutor(
            max_workers=self.workers,
            env=self.worker_environment,
            initializer=_prepare_worker,
            initargs=(os.getpid(),),
        )

    def _execute(self, measure: Measure, missing: Mapping[str, Run]) -> None:
        if not missing:
            return
        with tqdm(total=len(missing), desc=self.stage, unit="run") as bar:
            try:
                for key, finished in _finished(self._executor, measure, missing, ahead=2 * self.workers):
                    sealed = finished | {"seal": _seal(key, finished)}
                    replace_text(self._file(key), canonical_json(sealed) + "\n")
                    bar.update()
            except BaseException:
                # Without this, an error in the first run would be shown only after the last one.
                self._executor.shutdown(kill_workers=True)
                del self.__dict__["_executor"]
                raise

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _rows(self, key: str, run: Run) -> list[dict[str, Any]]:
        finished = _kept(self._file(key))
        assert finished is not None, f"run {key} was executed but is not kept"
        self.costs[key] = Cost(run.experiment, run.arm, **finished["cost"])
        head = {"profile": self.profile, **asdict(run)}
        return [{**head, **m, "status": "diverged" if m["value"] is None else "ok"} for m in finished["measurements"]]

    def _common_key(self, measure: Measure) -> dict[str, Any]:
        module = getattr(measure, "module", measure.__module__)
        return {
            "measure": f"{module}.{getattr(measure, '__qualname__', type(measure).__qualname__)}",
            "code": code_hashes(module),
            "versions": numerical_versions(),
            "inputs": dict(self.inputs),
            "environment": self.environment,
            "kernels": self.kernels,
            "device": self.hardware.describe(),
            "threads": THREADS,
            "profile": self.profile,
        }


def execute(runner: Callable[[Measure, Sequence[Run]], list[Rows]], measure: Measure, runs: Sequence[Run]) -> Rows:
    """Execute runs, and put their rows in one list.

    Args:
        runner: A `Runner`.
        measure: What a run measures.
        runs: The grid.

    Returns:
        Rows of `runs.csv`.
    """
    return list(chain.from_iterable(runner(measure, runs)))


def run_key(run: Run, common: Mapping[str, Any]) -> str:
    """Name a run by all that its measurements depend on.

    Args:
        run: The run.
        common: What it shares with the other runs of its stage; JSON content.

    Returns:
        SHA-256, 64 hexadecimal digits.
    """
    text = canonical_json({**common, "run": asdict(run)})
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_hashes(module: str) -> dict[str, str]:
    """Hash the code of every module in the import closure, once: workers do not see what is changed later.

    Args:
        module: Full name.

    Returns:
        Hash of each source file, see `code_hash`, by module name.
    """
    return {name: code_hash(module_file(name)) for name in import_closure(module)}


def available_workers() -> int:
    """Count the cores this process may use (containers and affinity masks included).

    Returns:
        At least 1.
    """
    return cpu_count()


def _importable(measure: Measure) -> Measure:
    """Under `python -m`, a module's functions belong to `__main__`: workers need them by their real name."""
    if measure.__module__ != "__main__":
        return measure
    spec = sys.modules["__main__"].__spec__
    assert spec is not None, "a stage is started with `python -m`"
    return getattr(importlib.import_module(spec.name), measure.__qualname__)


def _prepare_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import torch  # not at the top: the parent process never computes

    # A worker that has loaded a corpus does not leak. loky would end it, and with one worker then wait for ever.
    process_executor._MAX_MEMORY_LEAK_SIZE = math.inf
    torch.set_num_threads(THREADS)
    # As use_deterministic_algorithms(True), which loads torch's compiler too, for a second: it has a variable instead.
    torch.set_deterministic_debug_mode("error")


def _end_with(parent: int) -> None:
    """End this worker when its parent was killed: by itself it would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _finished(
    executor: ProcessPoolExecutor, measure: Measure, missing: Mapping[str, Run], *, ahead: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each run as it finishes; few are submitted ahead, for with a full queue loky fails to kill its workers."""
    waiting = iter(missing.items())
    submitted: dict[Future, str] = {}
    while True:
        for key, run in islice(waiting, ahead - len(submitted)):
            submitted[executor.submit(_measured, measure, run)] = key
        if not submitted:
            return
        done, _ = wait(submitted, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda each: each.exception() is not None):  # keep what is finished, then fail
            yield submitted.pop(future), future.result()


def _measured(measure: Measure, run: Run) -> dict[str, Any]:
    _forget_peak()
    start = time.process_time()
    measurements = [{**asdict(m), "value": float(m.value) if math.isfinite(m.value) else None} for m in measure(run)]
    cost = {"cpu_s": round(time.process_time() - start, 3), "peak_mib": round(_peak_kib() / 1024, 1)}
    return {"measurements": measurements, "cost": cost}


def _forget_peak() -> None:
    """Let the kernel note the largest memory of this process anew, where it can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_kib() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _kept(path: Path) -> dict[str, Any] | None:
    """Read a finished run; a file that is damaged, edited, or another run's counts as missing."""
    try:
        finished = json.loads(path.read_text(encoding="utf-8"))
        seal = finished.pop("seal")
        return finished if seal == _seal(path.stem, finished) else None
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def _seal(key: str, finished: Mapping[str, Any]) -> str:
    """Hash what is kept of a run, together with the run's key."""
    return hashlib.sha256(f"{key} {canonical_json(finished)}".encode()).hexdigest()

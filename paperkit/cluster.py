"""Runs on the workers of a Dask scheduler: who starts workers, where and how many is the user's business.

A worker starts in the stage's own folder (clusters share a file system), or in a checkout of the same commit with the
same `data/`. Neither code nor data are sent: a worker hashes what it has, and refuses a run whose key says otherwise.
It computes in a process of its own, which is set up as a local one whatever the environment the worker started in.
"""

import multiprocessing
import os
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor

from paperkit.datasets import data_hash
from paperkit.hardware import Hardware
from paperkit.provenance import kernels_in_use, machine_class, number_environment, numerical_versions
from paperkit.runs import CLUSTER, Measure, Run, Runner, _measured, _prepare_worker, code_hashes

# Seconds after which a process without work ends, and leaves memory and GPU to others.
_IDLE_S = 300
# threadpoolctl sets it where it is imported: in every worker of Dask, and in a stage at some time.
_BY_IMPORTS = {"KMP_DUPLICATE_LIB_OK": "True"}
# What a worker compares with the key of a run, and what to do where it differs.
_REMEDIES = {
    "code": "start the worker in the stage's folder, or in a checkout of the same commit",
    "inputs": "start the worker in the stage's folder, or say `dvc pull` where it starts",
    "versions": "start the worker with the stage's .venv, or with one made of the same lock",
    "environment": "set it alike, or nowhere, where stage and worker start",
    "kernels": "let all workers be machines of one kind",
    "device": "start stage and workers on machines with one kind of GPU and driver",
    "machine": "start stage and workers on machines of one kind",
}


class OtherWorkerError(RuntimeError):
    """A worker would compute other numbers than a run's key says; the message names what differs, and the remedy."""


class Cluster:
    """What a `Runner` submits to in place of a pool of local processes.

    Dask gives the run of a worker that was killed to another one.

    Args:
        address: Of the scheduler.
        runner: Whose runs are executed.
    """

    def __init__(self, address: str, runner: Runner) -> None:
        """Connect, and wait for a first worker."""
        from distributed import Client  # not at the top: the processes that compute need no Dask

        self._client = Client(address, set_as_default=False)
        self._client.wait_for_workers(1)
        self.workers = sum(self._client.nthreads().values())  # pyright: ignore[reportAttributeAccessIssue]
        self._executor = self._client.get_executor(pure=False)
        environment = {**_BY_IMPORTS, **runner.environment}
        # Each client has processes of its own: they load the code as it is now.
        self._environment = {**environment, **runner.worker_environment, "PAPERKIT_CLIENT": self._client.id}
        self._hardware = runner.hardware

        def key(measure: Measure) -> dict[str, Any]:
            told = {"environment": environment, "machine": machine_class(runner.kernels)}
            return runner._common_key(measure) | told

        self._key = cache(key)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Let a worker execute a function.

        Args:
            function: Of a module that it can import.
            *arguments: What the function gets.

        Returns:
            Where its result will be.
        """
        if function is _measured:
            function, arguments = _measured_there, (self._key(arguments[0]), self._hardware, *arguments)
        return self._executor.submit(_in_own_process, self._environment, function, *arguments)

    def shutdown(self, *, kill_workers: bool = False) -> None:
        """Leave the cluster; its workers end the runs they have begun, and wait for the next client.

        Args:
            kill_workers: Whether to drop what is not finished.
        """
        self._executor.shutdown(wait=not kill_workers)
        self._client.close()


def connect(address: str, runner: Runner) -> Cluster | ProcessPoolExecutor:
    """Let a cluster execute the runs of a stage.

    Args:
        address: Of a Dask scheduler.
        runner: Of the stage; its number of workers becomes the cluster's.

    Returns:
        What takes its runs: local processes for clock readings, which need a machine to themselves.
    """
    if not runner.instruction_set:
        del os.environ[CLUSTER]
        return runner._executor
    cluster = Cluster(address, runner)
    object.__setattr__(runner, "workers", cluster.workers)  # twice as many runs are submitted at a time
    return cluster


def _in_own_process(environment: dict[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    multiprocessing.current_process().daemon = False  # Dask's workers are, and daemons may have no children
    pool = get_reusable_executor(
        1, timeout=_IDLE_S, env=environment, initializer=_prepare_worker, initargs=(os.getpid(),)
    )
    return pool.submit(function, *arguments).result()


def _measured_there(key: Mapping[str, Any], hardware: Hardware, measure: Measure, run: Run) -> dict[str, Any]:
    module = getattr(measure, "module", measure.__module__)
    here = _conditions(module, tuple(key["inputs"]), hardware)  # pyright: ignore[reportArgumentType]
    differing = [
        f"{part}: {_unlike(key[part], here[part])}; {remedy}"
        for part, remedy in _REMEDIES.items()
        if here[part] != key[part]
    ]
    if differing:
        message = "\n  ".join([f"a worker on {platform.node()}, in {Path.cwd()}, is not as the stage:", *differing])
        raise OtherWorkerError(message)
    return _measured(measure, run)


@cache
def _conditions(module: str, tables: tuple[str, ...], hardware: Hardware) -> dict[str, Any]:
    kernels = kernels_in_use()
    return {
        "code": code_hashes(module),
        "inputs": {name: data_hash(name) for name in tables},
        "versions": numerical_versions(),
        "environment": number_environment({}),
        "kernels": kernels,
        "device": hardware.describe(),
        "machine": machine_class(kernels),
    }


def _unlike(stage: Any, here: Any) -> str:
    if not isinstance(stage, dict) or not isinstance(here, dict):
        return f"{stage} for the stage, {here} here"
    names = [name for name in sorted({*stage, *here}) if stage.get(name) != here.get(name)]
    return ", ".join(f"{name} is {_unlike(stage.get(name), here.get(name))}" for name in names)

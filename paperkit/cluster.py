"""A Dask scheduler in place of local processes: who starts workers, where, and how many is the user's business."""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from joblib.externals.loky import get_reusable_executor

# Seconds after which a process without work ends, and leaves memory and GPU to others.
_IDLE_S = 300


class Cluster:
    """Submits functions to the workers of a Dask scheduler, each of which computes in a process of its own.

    That process is set up as a local one is, whatever the environment in which the worker started. Dask gives
    the run of a worker that was killed to another.

    Args:
        address: Of the scheduler.
        environment: Variables of the processes.
        prepare: What a new process calls with the number of its parent.
    """

    def __init__(self, address: str, environment: Mapping[str, str], prepare: Callable[[int], None]) -> None:
        """Connect. Each client has processes of its own, so that they load the code as it is now."""
        from distributed import Client  # not at the top: a laptop needs no Dask

        self._client = Client(address, set_as_default=False)
        self._executor = self._client.get_executor(pure=False)
        self._process = {**environment, "PAPERKIT_CLIENT": self._client.id}, prepare

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Let a worker execute a function.

        Args:
            function: Of a module that it can import.
            *arguments: What the function gets.

        Returns:
            Where its result will be.
        """
        return self._executor.submit(_in_own_process, *self._process, function, *arguments)

    def shutdown(self, *, kill_workers: bool = False) -> None:
        """Leave the cluster, whose workers end what they have begun and wait for the next client.

        Args:
            kill_workers: Whether to drop what is not finished.
        """
        self._executor.shutdown(wait=not kill_workers)
        self._client.close()


def _in_own_process(
    environment: dict[str, str], prepare: Callable[[int], None], function: Callable[..., Any], *arguments: Any
) -> Any:
    multiprocessing.current_process().daemon = False  # Dask's workers are, and daemons may have no children
    pool = get_reusable_executor(1, timeout=_IDLE_S, env=environment, initializer=prepare, initargs=(os.getpid(),))
    return pool.submit(function, *arguments).result()

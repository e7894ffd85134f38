"""Stages run by DVC, without its hints: `python -m paperkit repro [NAME]` (`make repro`, `make one`, `make rerun`).

A profile that not every machine can run is run by `python -m paperkit at gpu NAME` (`make gpu`), and then told to DVC.
"""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import Lock
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from paperkit.config import ConfigError, read_yaml, refuse_settings
from paperkit.pipeline import TRAINS, has, write_pipeline
from paperkit.profiles import ABOVE, results_name
from paperkit.stage import INTERRUPTED, RERUN, STARTER, TIMING, TRAINING

# A replication's own stages, with its name alone or as a key: lion, lion_timing, verdicts@lion, verdicts@lion_gpu.
_OF = rf"(\w+@)?{{}}(_timing)?(_({'|'.join(ABOVE)}))?"
PARAMS = {"experiment": TRAINING.params, "timing": TIMING.params}
# The largest setting of ours is two million tokens. A width of 10**9 would fill the memory after hours of tuning.
LARGEST_SETTING = 10**8


def reproduce(root: Path, name: str | None = None, *, again: bool = False) -> bool:
    """Run the stages that are out of date.

    Args:
        root: The repository.
        name: A replication, whose stages alone are run; None for all.
        again: Train again what is up to date, too (and judge and draw nothing).

    Returns:
        Whether they ran to their end, and were not stopped by Ctrl-C.

    Raises:
        ConfigError: If the replication has no stage, or a stage fails; its command has said why. Also where no worker
            process could start, or a setting is absurd.
    """
    _require_locks()
    _require_settings(root, name or "*")
    logging.getLogger("dvc").setLevel(logging.WARNING)
    logging.getLogger("dvc.stage.run").setLevel(logging.INFO)  # which stage runs, and its command
    if again:
        os.environ[RERUN] = "1"
    os.environ[STARTER] = str(os.getpid())
    try:
        with Repo(str(root)) as repo:
            stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage) and not stage.frozen]
            names = [str(stage.name) for stage in stages]
            of_name = [each for each in names if name is None or re.fullmatch(_OF.format(name), each)]
            targets = [each for each in of_name if not (again and "@" in each)]
            if not targets:
                message = f"no stage is called {name}; is replications/{name} there, and `make pipeline` up to date?"
                raise ConfigError(message)
            repo.reproduce(targets=targets, single_item=again, force=again)  # pyright: ignore[reportCallIssue]
    except DvcException as error:
        # A stage that is still loading its libraries is ended by the signal itself, which is 2.
        if re.search(rf"exited with ({INTERRUPTED}|-2)$", str(error.__cause__)):
            return False
        message = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise ConfigError(message) from error
    return True


def run_at(root: Path, name: str, profile: str) -> bool:
    """Run a replication at a profile above cpu, tell DVC of its results, then judge and draw them.

    A stage that is frozen in dvc.yaml is one that DVC does not run; so its module is started here, and says first what
    this machine lacks.

    Args:
        root: The repository.
        name: The replication.
        profile: One of `profiles.ABOVE`.

    Returns:
        Whether all of it ran to its end.

    Raises:
        ConfigError: If the replication has no such profile, no worker process could start, or a setting is absurd.
    """
    _require_locks()
    folder = root / "replications" / name
    roles = [role for role in TRAINS if has(root, name, role) and profile in read_yaml(folder / PARAMS[role])]
    if not roles:
        message = f"replications/{name} has no profile {profile}: no block of that name in its {TRAINING.params}"
        raise ConfigError(message)
    _require_settings(root, name)
    results = results_name(name, profile)
    for role in roles:
        module = f"replications.{name}.{role}"
        command = [sys.executable, "-m", module, "--profile", profile, "--out", f"results/{results}"]
        if subprocess.run(command, cwd=root, check=False).returncode:
            return False
    write_pipeline(root)
    with Repo(str(root)) as repo:
        for role in roles:
            repo.commit(results_name(name + TRAINS[role], profile), force=True)
    # Of this folder alone: a cpu stage that is out of date on this machine is not what was asked for.
    return reproduce(root, results)


def _require_locks() -> None:
    """Refuse to start where no worker process could: a stage would end with the number of the error alone."""
    try:
        Lock()
    except OSError as error:
        message = (
            f"worker processes keep their locks in /dev/shm, and none can be made there ({error}): free or enlarge it "
            "(of a container: --shm-size), and let this user write to it"
        )
        raise ConfigError(message) from error


def _require_settings(root: Path, name: str) -> None:
    """Refuse what no machine could run or no table could hold, at any depth, before anything runs."""
    for path in sorted(root.glob(f"replications/{name}/*.yaml")):
        if path.name in PARAMS.values():
            settings = read_yaml(path)
            try:
                refuse_settings(settings)
            except ValueError as error:
                message = f"{path.relative_to(root)}: {error}"
                raise ConfigError(message) from error
            for key, value in _values(settings, ""):
                if isinstance(value, int | float) and abs(value) > LARGEST_SETTING and "seed" not in key:
                    message = f"{path.relative_to(root)}: {key} is {value}, more than {LARGEST_SETTING:.0e}"
                    raise ConfigError(message)


def _values(content: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield key and value of all that stands in settings, at any depth."""
    yield key, content
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for part, value in parts:
        yield from _values(value, f"{key}.{part}".removeprefix("."))

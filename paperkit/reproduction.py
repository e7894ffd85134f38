"""Stages run by DVC, without its hints: `python -m paperkit repro [NAME]` (`make repro`, `make one`, `make rerun`)."""

import logging
import os
import re
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from paperkit.config import ConfigError
from paperkit.profiles import ABOVE
from paperkit.stage import INTERRUPTED, RERUN

# A replication's own stages, with its name alone or as a key: lion, lion_timing, verdicts@lion, verdicts@lion_gpu.
_OF = rf"(\w+@)?{{}}(_timing)?(_({'|'.join(ABOVE)}))?"


def reproduce(root: Path, name: str | None = None, *, again: bool = False) -> bool:
    """Run the stages that are out of date.

    Args:
        root: The repository.
        name: A replication, whose stages alone are run; None for all.
        again: Train again what is up to date, too (and judge and draw nothing).

    Returns:
        Whether they ran to their end, and were not stopped by Ctrl-C.

    Raises:
        ConfigError: If the replication has no stage, or a stage fails; its command has said why.
    """
    logging.getLogger("dvc").setLevel(logging.WARNING)
    logging.getLogger("dvc.stage.run").setLevel(logging.INFO)  # which stage runs, and its command
    if again:
        os.environ[RERUN] = "1"
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
        if str(error.__cause__).endswith(f"exited with {INTERRUPTED}"):
            return False
        message = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise ConfigError(message) from error
    return True

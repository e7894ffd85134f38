"""Is this copy sound? `python -m paperkit doctor` (`make doctor`): what differs from what is written, and what to do.

It trains nothing and repairs nothing. What is asked of each replication are rules of `completeness`.
"""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from paperkit.completeness import (
    Rule,
    folders_of_results,
    history_problems,
    problems,
    provenance_problems,
    receipts_problems,
    recomputation_problems,
    registration_problems,
    results_problems,
)
from paperkit.config import read_yaml
from paperkit.datasets import pinned_tables
from paperkit.history import no_history
from paperkit.pipeline import found_replications
from paperkit.provenance import file_md5, pinned_versions
from paperkit.readiness import tell

_OBJECTS = "files/md5"  # of a cache or a remote of DVC: an object's name is its hash, cut after two digits
CACHE, REMOTE = f".dvc/cache/{_OBJECTS}", f".dvcstore/{_OBJECTS}"


def data_problems(root: Path, _: str) -> list[str]:
    """Compare the tables with the hashes that data.dvc names."""
    return [
        f"data/{name} is not the table that data.dvc names: remove the folder data, then `make pull`"
        for name, digest in pinned_tables(root).items()
        if not (root / "data" / name).is_file() or file_md5(root / "data" / name) != digest
    ]


def cache_problems(root: Path, _: str) -> list[str]:
    """Compare the objects of DVC's cache with their names."""
    remedy = "remove it and `data`, then `make pull`"
    return [f"{path} is not what its name says: {remedy}" for path in _damaged(root, CACHE)]


def remote_problems(root: Path, _: str) -> list[str]:
    """Compare the objects of the remote inside the repository with their names; name those that data.dvc lacks."""
    pointer = root / "data.dvc"
    named = [out["md5"] for out in read_yaml(pointer)["outs"]] if pointer.is_file() else []
    paths = [f"{REMOTE}/{digest[:2]}/{digest[2:]}" for digest in (*named, *pinned_tables(root).values())]
    lost = [f"{path} is missing: `git checkout -- {path}`" for path in paths if not (root / path).is_file()]
    return lost + [f"{path} is not what its name says: `git checkout -- {path}`" for path in _damaged(root, REMOTE)]


def environment_problems(root: Path, _: str) -> list[str]:
    """Compare the installed libraries with the lock, and torch with pyproject.toml."""
    lock = root / "requirements.lock"
    pins = re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pins += re.findall(r'"(torch)==([^"]+)"', (root / "pyproject.toml").read_text(encoding="utf-8"))
    installed = pinned_versions(lock)
    remedy = "remove .venv/.ready, then `make setup`"
    # The label of a build is no other version: torch for a CPU is 2.13.0+cpu.
    found = {name: (installed.get(name, "missing").partition("+")[0], version) for name, version in pins}
    return [
        f"{name} is {here}, and the lock names {version}: {remedy}"
        for name, (here, version) in found.items()
        if here != version
    ]


def stage_problems(root: Path, _: str) -> list[str]:
    """Ask DVC which stages are not those of dvc.lock."""
    logging.getLogger("dvc").setLevel(logging.ERROR)  # without a line for each frozen stage
    with Repo(str(root)) as repo:
        changed = repo.status()
    remedy = "`make repro`, which takes seconds where nothing that matters has changed"
    return [f"{stage} is out of date ({_written(what)}): {remedy}" for stage, what in changed.items()]


def _written(changes: Any) -> str:
    """Write what DVC found changed: mappings of kinds to mappings of paths, or words."""
    if isinstance(changes, dict):
        return ", ".join(f"{key} {_written(value)}" for key, value in changes.items())
    return ", ".join(map(_written, changes)) if isinstance(changes, list) else str(changes)


# Of the repository, of each replication, and of each folder of results.
OF_ALL: dict[str, Rule] = {
    "data": data_problems,
    "cache of DVC": cache_problems,
    "remote of DVC": remote_problems,
    "environment": environment_problems,
    "shared files": registration_problems,
    "stages": stage_problems,
}
OF_REPLICATIONS: dict[str, Rule] = {"history": history_problems}
OF_RESULTS: dict[str, Rule] = {
    "results": results_problems,
    "code": provenance_problems,
    "verdicts": recomputation_problems,
    "receipts": receipts_problems,
}


def examine(root: Path, say: Callable[[str], object] = print) -> bool:
    """Say what of a copy differs from what is written down, and what to do.

    Args:
        root: The repository, whose packages are those that Python imports.
        say: Takes each line.

    Returns:
        Whether nothing differs.
    """
    names = found_replications(root)
    folders = [folder for name in names for folder in folders_of_results(root, name)]
    asked = [(what, rule, [""]) for what, rule in OF_ALL.items()]
    asked += [(what, rule, names) for what, rule in OF_REPLICATIONS.items()]
    asked += [(what, rule, folders) for what, rule in OF_RESULTS.items()]
    number = sum(
        tell(say, what, [f"{of}: {line}" if of else line for of in each for line in problems(rule, root, of)])
        for what, rule, each in asked
    )
    if reason := no_history(root):
        say(f"history: not checked: {reason}")
    say(f"{number} things to do." if number else "All is as it is written.")
    return not number


def _damaged(root: Path, folder: str) -> Iterator[str]:
    for path in sorted((root / folder).glob("*/*")):
        if path.parent.name + path.name.removesuffix(".dir") != file_md5(path):
            yield path.relative_to(root).as_posix()

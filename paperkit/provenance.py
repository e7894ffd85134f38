"""Where a result comes from: code, command, machine class, versions, inputs. In git, but no stage's out."""

import hashlib
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from paperkit.results import write_json

# What a stage itself rewrites; a change there does not make the code that ran another code.
_OUTPUTS = ("results", "figures", "receipts", ".paperkit", "dvc.lock")


class Provenance:
    """Notes the start of a stage, and writes down at its end what it ran on.

    Args:
        stage: Name of the stage.
        command: The command as typed.
        profile: Profile of the stage.
        deps: Files the results depend on, relative to the repository; hashed now, since they may change while it runs.

    Example:
        >>> provenance = Provenance("lion", ["python", "-m", "replications.lion.experiment"], "smoke", deps=[])
        >>> provenance.stage
        'lion'
    """

    def __init__(self, stage: str, command: Iterable[str], profile: str, *, deps: Iterable[Path]) -> None:
        """Start the clocks, read the commit and hash the files: the code that runs is the code at the start."""
        self.stage = stage
        self._deps = {dep.as_posix(): hashlib.md5(dep.read_bytes()).hexdigest() for dep in sorted(deps)}
        self._head = {
            "stage": stage,
            "command": " ".join(command),
            "profile": profile,
            "commit": _git("rev-parse", "HEAD"),
            "dirty": _is_dirty(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._wall, self._cpu = time.monotonic(), _cpu_s()

    def write(
        self,
        path: Path,
        *,
        workers: int,
        threads: int,
        isa: Mapping[str, str],
        lock: Path,
    ) -> None:
        """Write the record.

        Args:
            path: JSON file to replace.
            workers: Processes used.
            threads: Threads in each.
            isa: Instruction-set pins in force.
            lock: File that pins the versions.
        """
        record: dict[str, Any] = {
            **self._head,
            "wall_s": round(time.monotonic() - self._wall, 1),
            "cpu_s": round(_cpu_s() - self._cpu, 1),
            "machine_class": machine_class(),
            "cores": os.cpu_count(),
            "workers": workers,
            "threads": threads,
            "isa": dict(isa),
            "versions": pinned_versions(lock),
            "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
            "deps": self._deps,
        }
        write_json(path, record)


def machine_class() -> str:
    """Name the class of machines within which results agree byte for byte: vendor, architecture, libc.

    Returns:
        For example "GenuineIntel x86_64 glibc-2.36".
    """
    return f"{_cpu_vendor()} {platform.machine()} {'-'.join(platform.libc_ver())}"


def pinned_versions(lock: Path) -> dict[str, str]:
    """Return the installed version of torch and of every library that the lock pins.

    Args:
        lock: File of lines "name==version".

    Returns:
        Version by name, as installed here (which may differ from the pin, and then shows).
    """
    names = {
        "torch",
        *re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(encoding="utf-8"), flags=re.MULTILINE),
    }
    installed = {_normal(found.name): found.version for found in distributions() if found.name}
    return {name: installed[_normal(name)] for name in sorted(names) if _normal(name) in installed}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _cpu_vendor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"^vendor_id\s*:\s*(\S+)", text, flags=re.MULTILINE)
    return found.group(1) if found else platform.processor() or "unknown"


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # an exported archive has no history
    return done.stdout.strip()


def _is_dirty() -> bool | None:
    status = _git("status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in _OUTPUTS))
    return None if status is None else bool(status)

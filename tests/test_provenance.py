"""paperkit.provenance: what a result ran on, with nothing about who or where."""

import hashlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml

from paperkit.provenance import Provenance, machine_class, pinned_versions

FIELDS = {
    "stage", "command", "profile", "commit", "dirty", "started", "wall_s", "cpu_s", "machine_class",
    "cores", "workers", "threads", "isa", "versions", "lock_sha256", "deps",
}  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with code and results in it, as the current folder."""
    (tmp_path / "requirements.lock").write_text("numpy==0.0.1\n")
    (tmp_path / "code.py").write_text("x = 1\n")
    for folder in ("results/toy", "figures/toy", "receipts"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "old").write_text("1")
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    monkeypatch.chdir(tmp_path)
    # Reading the versions of all installed packages takes longer than all the rest; one test does.
    monkeypatch.setattr("paperkit.provenance.distributions", list)
    return tmp_path


def record(deps: Sequence[Path] = (Path("code.py"),), **changes: Any) -> dict[str, Any]:
    settings = {
        "workers": 2, "threads": 1, "isa": {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "lock": Path("requirements.lock"),
    }  # fmt: skip
    provenance = Provenance("toy", ["python", "-m", "toy", "--profile", "cpu"], "cpu", deps=deps)
    provenance.write(Path("provenance.json"), **{**settings, **changes})
    return json.loads(Path("provenance.json").read_text())


def is_dirty() -> bool | None:
    return record()["dirty"]


def test_the_record_has_exactly_the_fields_of_the_design(repository) -> None:
    assert set(record()) == FIELDS


def test_the_record_says_what_it_was_told(repository) -> None:
    written = record()
    assert (written["stage"], written["profile"]) == ("toy", "cpu")
    assert written["command"] == "python -m toy --profile cpu"
    assert (written["workers"], written["threads"], written["isa"]) == (2, 1, {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert written["cores"] == os.cpu_count()


def test_the_record_has_the_hashes_of_lock_and_dependencies(repository) -> None:
    written = record(deps=[Path("results/toy/old"), Path("code.py")])
    assert written["lock_sha256"] == hashlib.sha256(Path("requirements.lock").read_bytes()).hexdigest()
    assert written["deps"] == {
        "code.py": hashlib.md5(b"x = 1\n").hexdigest(),
        "results/toy/old": hashlib.md5(b"1").hexdigest(),
    }


def test_commit_and_hashes_are_those_at_the_start(repository) -> None:
    started = git(repository, "rev-parse", "HEAD")
    provenance = Provenance("toy", ["python"], "cpu", deps=[Path("code.py")])
    (repository / "code.py").write_text("x = 2\n")
    git(repository, "commit", "--quiet", "--all", "--message", "while it ran")
    provenance.write(Path("p.json"), workers=1, threads=1, isa={}, lock=Path("requirements.lock"))
    written = json.loads(Path("p.json").read_text())
    assert written["commit"] == started != git(repository, "rev-parse", "HEAD")
    assert written["deps"] == {"code.py": hashlib.md5(b"x = 1\n").hexdigest()}


def test_a_clean_work_tree_is_not_dirty(repository) -> None:
    assert is_dirty() is False


@pytest.mark.parametrize(
    "output", ["results/toy/old", "results/toy/new", "figures/toy/old", "figures/a.svg", "receipts/old", "dvc.lock"]
)
def test_changed_outputs_do_not_make_the_code_dirty(repository, output) -> None:
    (repository / output).write_text("changed")
    assert git(repository, "status", "--porcelain")
    assert is_dirty() is False


@pytest.mark.parametrize("source", ["code.py", "new.py", "requirements.lock", "replications/results.py"])
def test_changed_code_is_dirty(repository, source) -> None:
    path = repository / source
    path.parent.mkdir(exist_ok=True)
    path.write_text(path.read_text() + "\n" if path.exists() else "")
    assert is_dirty() is True


def test_deleted_code_is_dirty(repository) -> None:
    (repository / "code.py").unlink()
    assert record(deps=[])["dirty"] is True


def test_outside_a_repository_the_commit_is_null(repository, monkeypatch) -> None:
    (repository / ".git").rename(repository / "no.git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.parent))
    written = record()
    assert (written["commit"], written["dirty"]) == (None, None)
    assert set(written) == FIELDS


def test_the_clocks_measure_this_stage(repository) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    provenance = Provenance("toy", ["python"], "cpu", deps=[])
    time.sleep(0.2)
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    provenance.write(Path("p.json"), workers=1, threads=1, isa={}, lock=Path("requirements.lock"))
    written = json.loads(Path("p.json").read_text())
    assert written["wall_s"] >= 0.4
    assert 0.2 <= written["cpu_s"] <= written["wall_s"]
    started = datetime.fromisoformat(written["started"])
    assert started.utcoffset() == timedelta(0)
    assert before <= started <= datetime.now(UTC)


def test_the_time_of_ended_workers_counts(repository) -> None:
    provenance = Provenance("toy", ["python"], "cpu", deps=[])
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    provenance.write(Path("p.json"), workers=1, threads=1, isa={}, lock=Path("requirements.lock"))
    assert json.loads(Path("p.json").read_text())["cpu_s"] >= 0.4


def test_the_name_of_the_host_is_not_in_the_record(repository, monkeypatch) -> None:
    name = "secret-host-7"
    system = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((system.sysname, name, *system[2:])))
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    monkeypatch.setattr(platform, "_uname_cache", None)
    assert platform.node() == name  # the name could get in
    assert name not in json.dumps(record())


def test_the_machine_class_names_vendor_architecture_and_libc() -> None:
    assert re.fullmatch(r"\S+ \S+ \S+", machine_class())
    assert f" {platform.machine()} " in machine_class()
    assert machine_class().endswith("-".join(platform.libc_ver()))


def test_versions_are_those_installed_not_those_pinned(tmp_path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1 \\\n    --hash=sha256:ab\nPyYAML==6\nnot-installed==1\n")
    versions = pinned_versions(lock)
    assert versions == {"PyYAML": yaml.__version__, "numpy": numpy.__version__, "torch": version("torch")}
    assert versions["numpy"] != "0.0.1"

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
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml

from paperkit.config import ConfigError
from paperkit.provenance import (
    NUMERICAL,
    Provenance,
    code_hash,
    content_hash,
    fingerprint,
    import_closure,
    is_made,
    kernels_in_use,
    machine_class,
    module_file,
    number_environment,
    numerical_versions,
    pinned_versions,
)
from tests.tiny_repository import commit, git

ROOT = Path(__file__).parents[1]
FIELDS = {
    "stage", "command", "profile", "commit", "dirty", "started", "wall_s", "cpu_s", "machine_class", "kernels",
    "cores", "workers", "threads", "environment", "versions", "lock_sha256", "deps", "fingerprint", "device", "outs",
    "claims",
}  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with code and results in it, as the current folder."""
    (tmp_path / "requirements.lock").write_text("numpy==0.0.1\n")
    (tmp_path / "code.py").write_text("x = 1\n")
    for folder in ("results/toy", "figures/toy", "receipts"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "old").write_text("1")
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    # Reading the versions of all installed packages takes longer than all the rest; one test does.
    monkeypatch.setattr("paperkit.provenance.distributions", list)
    return tmp_path


MADE_WITH = {"outs": (), "workers": 2, "threads": 1, "environment": {}, "kernels": {"torch": "AVX2"}}


def written_by(provenance: Provenance, **changes: Any) -> dict[str, Any]:
    provenance.write(Path("provenance.json"), **(MADE_WITH | changes))
    return json.loads(Path("provenance.json").read_text())


def record(*, claims: Path | None = None, **changes: Any) -> dict[str, Any]:
    command = ["python", "-m", "toy", "--profile", "cpu"]
    return written_by(Provenance("toy", command, "cpu", deps={"code.py": "0a"}, claims=claims), **changes)


def test_the_record_has_exactly_the_fields_of_the_design_and_says_what_it_was_told(repository):
    Path("runs.csv").write_text("made")
    written = record(outs=["runs.csv"])
    assert set(written) == FIELDS
    told = {"stage": "toy", "profile": "cpu", "command": "python -m toy --profile cpu", "deps": {"code.py": "0a"}}
    told |= {"workers": 2, "threads": 1, "kernels": {"torch": "AVX2"}, "cores": os.cpu_count()}
    told["lock_sha256"] = hashlib.sha256(Path("requirements.lock").read_bytes()).hexdigest()
    told["outs"] = {"runs.csv": hashlib.md5(b"made").hexdigest()}
    assert {key: written[key] for key in told} == told


def test_commit_and_claims_are_those_at_the_start(repository):
    (repository / "claims.yaml").write_text("schema: 1\n")
    started = commit(repository)
    provenance = Provenance("toy", ["python"], "cpu", deps={}, claims=Path("claims.yaml"))
    (repository / "claims.yaml").write_text("schema: 2\n")
    commit(repository)  # while it ran
    written = written_by(provenance)
    assert written["commit"] == started
    assert written["claims"] == {"sha256": hashlib.sha256(b"schema: 1\n").hexdigest(), "commit": started}


@pytest.mark.parametrize("state", ["never committed", "changed since"])
def test_claims_that_are_not_committed_have_no_commit(repository, state):
    claims = repository / "claims.yaml"
    claims.write_text("schema: 1\n")
    if state == "changed since":
        commit(repository)
        claims.write_text("schema: 1 # a comment\n")
    assert record(claims=Path("claims.yaml"))["claims"]["commit"] is None


# What decides whether a stage has to run


def test_what_stands_beside_a_record_is_made_until_code_data_or_tables_change(repository):
    Path("runs.csv").write_text("made")
    record(outs=["runs.csv"])
    path = Path("provenance.json")

    deps = {"code.py": "0a"}
    assert is_made(path, "cpu", deps)
    assert not is_made(path, "smoke", deps)
    assert not is_made(path, "cpu", {"code.py": "0b"})
    assert not is_made(Path("missing.json"), "cpu", deps)
    Path("runs.csv").write_text("edited by hand")
    assert not is_made(path, "cpu", deps)
    Path("runs.csv").unlink()
    assert not is_made(path, "cpu", deps)


def test_another_version_of_a_numerical_library_changes_the_fingerprint_and_of_another_does_not():
    versions = {"numpy": "2.4.6", "torch": "2.13.0+cpu", "tqdm": "1"}
    known = fingerprint("cpu", {"code.py": "0a"}, versions)
    assert fingerprint("cpu", {"code.py": "0a"}, {**versions, "tqdm": "2"}) == known
    assert fingerprint("cpu", {"code.py": "0a"}, {**versions, "torch": "2.13.0"}) == known
    assert fingerprint("cpu", {"code.py": "0a"}, {**versions, "numpy": "2.5.0"}) != known


def test_every_numerical_library_is_installed_under_its_name():
    assert list(numerical_versions()) == list(NUMERICAL)


CODE = '''\
"""What it is."""


class A:
    """An A."""

    def f(self, x=1):
        """Add."""
        return x + 1.0
'''


def hash_of(folder: Path, code: str) -> str:
    (folder / "code.py").write_bytes(code.encode())
    return code_hash(folder / "code.py")


@pytest.mark.parametrize(
    "changed",
    [
        CODE.replace('"""Add."""', '"""Add one, see\n        the page."""'),
        CODE.replace('        """Add."""\n', ""),
        CODE.replace('"""What it is."""\n', ""),
        CODE.replace("return", "# why\n        return"),
        CODE.replace("x + 1.0", "(x   +\n                1.0)"),
        CODE.replace("\n", "\r\n"),
        CODE.replace("1.0", "1.00"),
    ],
)
def test_docstrings_comments_and_layout_leave_the_hash_of_code(tmp_path, changed):
    assert changed != CODE
    assert hash_of(tmp_path, changed) == hash_of(tmp_path, CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.0", "1.1"), ("1.0", "1"), ("x + 1.0", "1.0 + x"), ("x=1", "x=2"), ("class A", "class B"),
        ("return x", "'no docstring'\n        return x"), ("def f", "async def f"),
    ],
)  # fmt: skip
def test_another_meaning_changes_the_hash_of_code(tmp_path, old, new):
    assert hash_of(tmp_path, CODE.replace(old, new, 1)) != hash_of(tmp_path, CODE)


def test_the_hash_of_code_is_the_same_in_every_python():
    # Taken with Python 3.11, 3.12 and 3.13; the fingerprint of a result made elsewhere must be known here.
    path = Path(__file__).parent / "fixtures/hashed_code.py"
    assert code_hash(path) == "52674c9eada220d156d8336376a6b707a02c02c87d3cf9595782bd489cf7f736"


def test_of_parameters_only_the_block_of_the_profile_counts(tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("smoke: {steps: 1}\ncpu: {steps: 2, lr: 0.1}\n")
    before = {profile: content_hash(params, profile) for profile in ("smoke", "cpu")}
    params.write_text("# why\nsmoke: {steps: 3}\ncpu:\n  lr: 1.0e-1\n  steps: 2\n")
    assert content_hash(params, "cpu") == before["cpu"]
    assert content_hash(params, "smoke") != before["smoke"]


def test_data_count_by_their_bytes_as_dvc_knows_them(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"bytes")
    assert content_hash(tmp_path / "a.parquet", "cpu") == hashlib.md5(b"bytes").hexdigest()


def test_the_import_closure_of_an_experiment_is_all_that_can_change_its_numbers():
    closure = import_closure("replications.lion.experiment")
    assert {
        "paperkit.config", "paperkit.datasets", "paperkit.models.tiny_gpt", "paperkit.results", "paperkit.runs",
        "paperkit.stage", "paperkit.training", "paperkit.tuning", "replications.lion.experiment",
        "replications.lion.optimizer",
    } <= set(closure)  # fmt: skip
    assert closure == tuple(sorted(closure))


def test_judging_and_drawing_are_not_in_the_import_closure_of_an_experiment():
    outside = {"paperkit.claims.verdicts", "paperkit.statistics", "paperkit.style", "replications.lion.estimands"}
    assert all(module_file(name).is_file() for name in outside)  # they exist: their absence below means something
    assert not outside & set(import_closure("replications.lion.experiment"))


def test_a_module_of_no_package_of_ours_stands_for_itself():
    assert import_closure("yaml") == ("yaml",)


@pytest.mark.parametrize("name", ["paperkit.absent", "sys"])
def test_a_module_without_a_source_file_is_refused_by_name(name):
    with pytest.raises(ModuleNotFoundError, match=f"no source file for module {name}"):
        module_file(name)


# The state of the code


OUTPUTS = ("results/toy/old", "results/toy/new", "figures/toy/old", "figures/a.svg", "receipts/old", "dvc.lock")
SOURCES = ("code.py", "new.py", "requirements.lock", "replications/results.py")


@pytest.mark.parametrize("file", [None, *OUTPUTS, *SOURCES])
def test_changed_code_is_dirty_and_changed_outputs_are_not(repository, file):
    if file is not None:
        (repository / file).parent.mkdir(exist_ok=True)
        (repository / file).write_text("changed")
        assert git(repository, "status", "--porcelain")
    assert record()["dirty"] is (file in SOURCES)


def test_deleted_code_is_dirty(repository):
    (repository / "code.py").unlink()
    assert record()["dirty"] is True


def test_a_git_that_refuses_is_quoted_and_no_commit_is_null_in_silence(repository):
    (repository / ".git/HEAD").write_text("")
    with pytest.raises(ConfigError, match=r"git cannot say which code this is: fatal: not a git repository"):
        record()


def test_outside_a_repository_the_commit_is_null(repository, monkeypatch):
    (repository / ".git").rename(repository / "no.git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.parent))
    written = record()
    assert (written["commit"], written["dirty"]) == (None, None)
    assert set(written) == FIELDS


def test_the_clocks_measure_this_stage(repository):
    before = datetime.now(UTC).replace(microsecond=0)
    provenance = Provenance("toy", ["python"], "cpu", deps={})
    time.sleep(0.2)
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    written = written_by(provenance)
    assert written["wall_s"] >= 0.4
    assert 0.2 <= written["cpu_s"] <= written["wall_s"]
    started = datetime.fromisoformat(written["started"])
    assert started.utcoffset() == timedelta(0)
    assert before <= started <= datetime.now(UTC)


def test_the_time_of_ended_workers_counts(repository):
    provenance = Provenance("toy", ["python"], "cpu", deps={})
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert written_by(provenance)["cpu_s"] >= 0.4


def test_the_name_of_the_host_is_not_in_the_record(repository, monkeypatch):
    name = "secret-host-7"
    system = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((system.sysname, name, *system[2:])))
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    monkeypatch.setattr(platform, "_uname_cache", None)
    assert platform.node() == name  # the name could get in
    assert name not in json.dumps(record())


def test_the_machine_class_names_vendor_architecture_libc_and_kernels():
    machine, *kernels = machine_class({"BLAS": "openblas Haswell", "torch": "AVX2"}).split(", ")
    assert re.fullmatch(r"\S+ \S+ \S+", machine)
    assert f" {platform.machine()} " in machine
    assert machine.endswith("-".join(platform.libc_ver()))
    assert kernels == ["BLAS openblas Haswell", "torch AVX2"]


def test_kernels_are_those_that_the_environment_chooses():
    program = "from paperkit.provenance import kernels_in_use as k; import json; print(json.dumps(k()))"
    chosen = {"ATEN_CPU_CAPABILITY": "default", "NPY_DISABLE_CPU_FEATURES": "X86_V4"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={**os.environ, **chosen}, cwd=ROOT, capture_output=True, text=True, check=True)
    kernels = json.loads(done.stdout)
    assert (kernels["BLAS"], kernels["torch"]) == (kernels_in_use()["BLAS"], "DEFAULT")
    assert "X86_V4" not in kernels["NumPy"]


def test_variables_that_change_numbers_are_recorded_and_places_are_not(monkeypatch):
    for name in ("MKL_CBWR", "OPENBLAS_CORETYPE", "NUMBA_CACHE_DIR", "TORCH_HOME", "EDITOR"):
        monkeypatch.setenv(name, "x")
    seen = number_environment({"MKL_CBWR": ""})
    assert (seen["MKL_CBWR"], seen["OPENBLAS_CORETYPE"]) == ("", "x")
    assert not {"NUMBA_CACHE_DIR", "TORCH_HOME", "EDITOR"} & set(seen)


def test_versions_are_those_installed_not_those_pinned(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1 \\\n    --hash=sha256:ab\nPyYAML==6\nnot-installed==1\n")
    versions = pinned_versions(lock)
    assert versions == {"PyYAML": yaml.__version__, "numpy": numpy.__version__, "torch": version("torch")}
    assert versions["numpy"] != "0.0.1"

"""The DVC remote that lies in the repository: safe against damage, the same everywhere, silent to the network."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
from dvc.repo import Repo

from paperkit.__main__ import main
from paperkit.config import ConfigError
from paperkit.pipeline import BEGIN, END
from paperkit.reproduction import reproduce, run_at
from tests.tiny_repository import NO_GIT, commit, git

ROOT = Path(__file__).resolve().parents[1]
STORE = ".dvcstore"
PIPELINE = "stages:\n  toy:\n    cmd: echo toy\n"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A repository with DVC set up as it is here."""
    (tmp_path / STORE / "files/md5/0a").mkdir(parents=True)
    (tmp_path / STORE / "files/md5/0a/b").write_bytes(b"bytes\r\n")
    (tmp_path / ".dvc").mkdir()
    for name in (".dvc/config", ".gitattributes", ".dvcignore"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    commit(tmp_path)
    return tmp_path


def test_the_remote_lies_in_the_repository_and_damage_is_noticed_and_nothing_is_reported():
    config = ConfigParser()
    config.read(ROOT / ".dvc/config", encoding="utf-8")
    remote = config[f"'remote \"{config['core']['remote']}\"'"]
    assert (remote["url"], remote["verify"], config["core"]["analytics"]) == (f"../{STORE}", "true", "false")


def test_dvc_does_not_see_what_changes_without_a_change_of_results():
    paths = ("paperkit/__pycache__/runs.cpython-311.pyc", "results/any/provenance.json")
    paths += ("results/any/timing_provenance.json", "results/any/costs.csv")
    with Repo(str(ROOT)) as repo:
        assert [path for path in paths if not repo.dvcignore.check_ignore(str(ROOT / path)).match] == []


def test_a_clone_with_the_line_ends_of_windows_has_the_same_bytes(toy):
    files = git(toy, "ls-files").splitlines()
    assert {"dvc.yaml", ".gitattributes", f"{STORE}/files/md5/0a/b"} < {*files}
    git(toy, "clone", "--quiet", "-c", "core.autocrlf=true", ".", "clone")
    for path in files:
        assert (toy / "clone" / path).read_bytes() == (toy / path).read_bytes(), path


# --- `python -m paperkit repro`: DVC without its hints ---------------------------------------------------------------

STAGES = """\
stages:
  toy: {cmd: echo 1 > toy.txt, outs: [toy.txt: {cache: false}]}
  verdicts:
    foreach: [toy]
    do: {cmd: echo 2 > judged.txt, deps: ["${item}.txt"], outs: [judged.txt: {cache: false}]}
  toys: {cmd: echo it is broken >&2; exit 3}
  stopped: {cmd: exit 130}
  starting: {cmd: kill -INT $$}
"""


@pytest.fixture
def ended_by_sigint() -> Iterator[None]:
    """Let SIGINT end what is started, also where these tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def repro(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run stages of a repository that is not this one."""
    (root / "dvc.yaml").write_text(STAGES, encoding="utf-8")
    command = [sys.executable, "-m", "paperkit", "repro", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_the_stages_of_one_replication_run_alone_again_only_what_trains_and_dvc_gives_no_hints(toy):
    done = repro(toy, "toy")
    assert done.returncode == 0
    assert (done.stdout + done.stderr).splitlines() == [
        "Running stage 'toy':",
        "> echo 1 > toy.txt",
        "Running stage 'verdicts@toy':",
        "> echo 2 > judged.txt",
    ]
    again = repro(toy, "toy", "--again")
    assert (again.stdout + again.stderr).splitlines() == ["Running stage 'toy':", "> echo 1 > toy.txt"]


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's own, of a library that it uses
@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("toys", 1, "failed to reproduce 'toys'"),
        ("stopped", 130, ""),
        ("starting", 130, ""),
        ("lion", 1, "no stage is called lion"),
    ],
)
def test_a_stage_that_fails_is_named_and_one_that_was_stopped_needs_no_word(
    name, status, message, toy, monkeypatch, capfd, ended_by_sigint
):
    (toy / "dvc.yaml").write_text(STAGES, encoding="utf-8")
    monkeypatch.chdir(toy)
    monkeypatch.setattr(sys, "argv", ["paperkit", "repro", name])
    assert main() == status
    said = "".join(capfd.readouterr())
    assert message in said
    assert ("failed" in said) == (name == "toys")


def test_an_archive_without_git_runs_its_stages(toy):
    (toy / ".git").rename(toy / "no.git")
    refused = repro(toy, "toy")
    assert (refused.returncode, "not a git repository" in refused.stderr) == (1, True)
    (toy / ".dvc/config.local").write_text(NO_GIT, encoding="utf-8")
    assert repro(toy, "toy").returncode == 0
    assert (toy / "judged.txt").exists()


def test_dvc_opens_no_socket_but_on_loopback(toy, sockets):
    for command in ("pull", "repro", "status"):
        subprocess.run([sys.executable, "-m", "dvc", "--quiet", command], cwd=toy, check=True, timeout=100)
    assert sockets.read_text() == ""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")])
def test_a_memory_that_holds_no_lock_is_named_before_a_stage_runs(error, toy, monkeypatch):
    def refuse():
        raise error

    monkeypatch.setattr("paperkit.reproduction.Lock", refuse)
    with pytest.raises(ConfigError, match=rf"/dev/shm.*{error.strerror}.*--shm-size"):
        reproduce(toy)
    with pytest.raises(ConfigError, match="/dev/shm"):
        run_at(toy, "new", "gpu")


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ("cpu: {model: {width: 1000000000}}", "cpu.model.width is 1000000000"),
        ("cpu: {steps: [2, 1000000000]}", "cpu.steps.1 is 1000000000"),
        ("cpu: {seeds: [1000000000], lr: 1.0e+9}", "cpu.lr is 1000000000.0"),
        ("cpu: {study: {seeds: [[9223372036854775808]]}}", "cpu.study.seeds.0.0: 9223372036854775808"),
        ("cpu: {rates: {sgd: [0.1, 0.1]}}", r"cpu.rates.sgd: 0.1 stands in it twice"),
    ],
)
def test_an_absurd_setting_at_any_depth_is_refused_by_name_before_a_stage_runs(params, named, toy):
    (toy / "replications/toy").mkdir(parents=True)
    (toy / "replications/toy/experiment.py").touch()
    (toy / "replications/toy/params.yaml").write_text(params)
    with pytest.raises(ConfigError, match=f"replications/toy/params.yaml: {named}"):
        reproduce(toy)
    with pytest.raises(ConfigError, match=named):
        run_at(toy, "toy", "cpu")


def test_a_command_that_needs_more_than_the_core_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "paperkit.doctor", None)  # as where DVC is not installed
    monkeypatch.setattr(sys, "argv", ["paperkit", "doctor"])
    assert main() == 1
    assert "requirements-core.lock has not all that this command needs; `make setup`" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["pipeline"], ["check", "lion"], ["new", "ox", "--post", "1"]])
def test_ctrl_c_ends_a_command_without_a_traceback(command, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    for name in ("pipeline.write_pipeline", "readiness.check", "new.write_new"):
        monkeypatch.setattr(f"paperkit.{name}", stop)
    monkeypatch.setattr(sys, "argv", ["paperkit", *command])
    try:
        status = main()
    except KeyboardInterrupt:  # would stop the tests
        status = None
    assert status == 130


# --- `python -m paperkit at gpu NAME`: what DVC cannot run -----------------------------------------------------------

EXPERIMENT = """\
import pathlib, sys

def main(*, stage, module):
    out = pathlib.Path(sys.argv[4])
    out.mkdir(parents=True)
    (out / "runs.csv").write_text(" ".join(sys.argv[1:]))
    sys.exit(pathlib.Path("status").exists())

main(stage="new", module="replications.new.experiment")
"""


@pytest.fixture
def with_gpu(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A replication with a block `gpu`, whose results nobody judges."""
    texts = {
        "replications/__init__.py": "",
        "replications/new/experiment.py": EXPERIMENT,
        "replications/new/params.yaml": "cpu: {}\ngpu: {}\n",
        "params.yaml": "profile: cpu\n",
        "README.md": f"<!-- {BEGIN} -->\n<!-- {END} -->\n",
        "book/_toc.yml": f"  # {BEGIN}\n  # {END}\n",
    }
    for name, text in texts.items():
        (toy / name).parent.mkdir(parents=True, exist_ok=True)
        (toy / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr("paperkit.pipeline.import_closure", lambda module: (module,) * ("new" in module))
    monkeypatch.chdir(toy)  # DVC looks for a stage by its name there
    monkeypatch.setattr("paperkit.reproduction.reproduce", lambda _root, name: name == "new_gpu")
    return toy


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's own, of a library that it uses
def test_a_profile_that_dvc_does_not_run_is_run_and_then_known_to_it(with_gpu):
    assert run_at(with_gpu, "new", "gpu")
    made = with_gpu / "results/new_gpu/runs.csv"
    assert made.read_text() == "--profile gpu --out results/new_gpu"
    with Repo(str(with_gpu)) as repo:
        (stage,) = (stage for stage in repo.index.stages if stage.addressing == "new_gpu")
        assert stage.frozen
        assert stage.outs[0].hash_info.value == hashlib.md5(made.read_bytes()).hexdigest()


def test_a_run_that_was_refused_leaves_the_pipeline_as_it_is(with_gpu):
    (with_gpu / "status").touch()
    assert not run_at(with_gpu, "new", "gpu")
    assert (with_gpu / "dvc.yaml").read_text() == PIPELINE


def test_a_replication_without_the_profile_is_refused(with_gpu):
    with pytest.raises(ConfigError, match=r"replications/new has no profile paper: no block of that name"):
        run_at(with_gpu, "new", "paper")

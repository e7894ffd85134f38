"""The DVC remote that lies in the repository: safe against damage, the same everywhere, silent to the network."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path, PureWindowsPath

import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from paperkit.__main__ import main
from paperkit.config import ConfigError
from paperkit.pipeline import BEGIN, END
from paperkit.reproduction import reproduce, run_at
from tests.tiny_repository import NO_GIT, git

ROOT = Path(__file__).resolve().parents[1]
STORE = ".dvcstore"
CONFIG = """\
[core]
    remote = embedded
    analytics = false
['remote "embedded"']
    url = ../.dvcstore
    verify = true
"""
PIPELINE = "stages:\n  toy:\n    cmd: echo toy\n"


def config_problems(root: Path) -> list[str]:
    """Check the settings of .dvc/config that a clone relies on."""
    config = ConfigParser()
    config.read(root / ".dvc/config", encoding="utf-8")
    name = config.get("core", "remote", fallback=None)
    remote = f"'remote \"{name}\"'"
    url = config.get(remote, "url", fallback="")
    found = []
    if name is None or not config.has_section(remote):
        found.append(f"core.remote is {name}, which is not a remote of .dvc/config")
    if config.get("core", "analytics", fallback=None) != "false":
        found.append("core.analytics is not false: DVC would report to its makers")
    if config.get(remote, "verify", fallback=None) != "true":
        found.append("verify is not true: `dvc pull` would take a damaged object without a word")
    if "://" in url or Path(url).is_absolute() or PureWindowsPath(url).drive or not url:
        found.append(f"url is {url!r}, not a path relative to .dvc")
    elif (root / ".dvc" / url).resolve() != (root / STORE).resolve():
        found.append(f"url is {url!r}, which is not {STORE} in the repository")
    return found


def attribute_problems(root: Path) -> list[str]:
    """Check that git leaves the bytes of the remote alone."""
    command = ["git", "check-attr", "-z", "text", "diff", "--", f"{STORE}/files/md5/00/0"]
    fields = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    state = dict(zip(fields[1::3], fields[2::3], strict=False))
    return [
        f".gitattributes: {STORE} has {name} {value}; mark it binary"
        for name, value in state.items()
        if value != "unset"
    ]


def damaged_objects(root: Path) -> list[str]:
    """Name the objects of the remote whose content is not that of their name."""
    objects = (path for path in (root / STORE).glob("files/md5/??/*") if path.is_file())
    return [
        path.relative_to(root).as_posix()
        for path in objects
        if hashlib.md5(path.read_bytes()).hexdigest() != (path.parent.name + path.name).removesuffix(".dir")
    ]


def seen_by_dvc(root: Path) -> list[str]:
    """Name what DVC must not see, but does: bytecode and provenance change without a change of results."""
    paths = (
        "paperkit/__pycache__/runs.cpython-311.pyc",
        "results/any/provenance.json",
        "results/any/timing_provenance.json",
        "results/any/costs.csv",
    )
    with Repo(str(root)) as repo:
        return [path for path in paths if not repo.dvcignore.check_ignore(str(root / path)).match]


def stage_names(root: Path) -> list[str]:
    """Read dvc.yaml as DVC does; raises if it cannot be read."""
    with Repo(str(root)) as repo:
        return [stage.name for stage in repo.index.stages if isinstance(stage, PipelineStage)]


CHECKS: dict[str, Callable[[Path], list[str]]] = {
    "config": config_problems,
    "attributes": attribute_problems,
    "objects": damaged_objects,
    "ignored": seen_by_dvc,
}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A repository with DVC set up as it should be."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".dvc").mkdir()
    content = b"bytes\r\n"
    digest = hashlib.md5(content).hexdigest()
    stored = tmp_path / STORE / "files/md5" / digest[:2] / digest[2:]
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content)
    texts = {
        ".dvc/config": CONFIG,
        ".gitattributes": f"{STORE}/** binary\n",
        ".dvcignore": "__pycache__\nprovenance.json\ntiming_provenance.json\ncosts.csv\n",
        "dvc.yaml": PIPELINE,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("check", CHECKS)
def test_dvc_is_set_up_for_clones_without_credentials(check):
    assert CHECKS[check](ROOT) == []


def test_the_remote_holds_the_data():
    assert any((ROOT / STORE).glob("files/md5/??/*"))


def test_dvc_can_read_the_pipeline():
    assert "lion" in stage_names(ROOT)


@pytest.mark.parametrize("check", CHECKS)
def test_a_good_set_up_passes(check, toy):
    assert CHECKS[check](toy) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("verify = true", "", "verify is not true"),
        ("verify = true", "verify = false", "verify is not true"),
        ("analytics = false", "", "analytics is not false"),
        ("analytics = false", "analytics = true", "analytics is not false"),
        ("remote = embedded", "remote = other", "not a remote"),
        ("remote = embedded", "", "not a remote"),
        ("../.dvcstore", "s3://bucket", "not a path relative"),
        ("../.dvcstore", "/srv/.dvcstore", "not a path relative"),
        ("../.dvcstore", "C:/store", "not a path relative"),
        ("../.dvcstore", ".dvcstore", "not .dvcstore in the repository"),
        ("../.dvcstore", "../../.dvcstore", "not .dvcstore in the repository"),
    ],
)
def test_a_wrong_setting_of_the_remote_is_found(old, new, message, toy):
    (toy / ".dvc/config").write_text(CONFIG.replace(old, new), encoding="utf-8")
    assert any(message in problem for problem in config_problems(toy))


@pytest.mark.parametrize("text", ["", "* text=auto\n", f"{STORE}/** text\n"])
def test_a_remote_that_git_could_change_is_found(text, toy):
    (toy / ".gitattributes").write_text(text, encoding="utf-8")
    assert attribute_problems(toy)


def test_a_damaged_object_is_found(toy):
    stored = next((toy / STORE).glob("files/md5/??/*"))
    stored.write_bytes(stored.read_bytes().replace(b"\r\n", b"\n"))
    assert damaged_objects(toy) == [stored.relative_to(toy).as_posix()]


def test_a_clone_with_the_line_ends_of_windows_has_the_same_bytes(toy):
    (toy / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    git(toy, "add", "--all")
    git(toy, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "--message=all")
    files = git(toy, "ls-files").splitlines()
    assert {"dvc.yaml", ".gitattributes"} < {*files}
    git(toy, "clone", "--quiet", "-c", "core.autocrlf=true", ".", "clone")
    for path in files:
        assert (toy / "clone" / path).read_bytes() == (toy / path).read_bytes(), path


@pytest.mark.parametrize("line", ["__pycache__", "provenance.json", "costs.csv"])
def test_a_missing_line_of_dvcignore_is_found(line, toy):
    lines = [other for other in (toy / ".dvcignore").read_text(encoding="utf-8").split() if other != line]
    (toy / ".dvcignore").write_text("\n".join(lines), encoding="utf-8")
    assert len(seen_by_dvc(toy)) == 1


@pytest.mark.parametrize(
    "text", ["stages: [", "stages:\n  toy: {command: echo}\n", "stages:\n  toy: {cmd: '${nothing}'}\n"]
)
def test_a_pipeline_that_cannot_be_read_is_refused(text, toy):
    assert stage_names(toy) == ["toy"]
    (toy / "dvc.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DvcException):
        stage_names(toy)


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
    name, status, message, toy, monkeypatch, capfd
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
    ],
)
def test_an_absurd_size_but_for_a_seed_is_refused_by_name_before_a_stage_runs(params, named, toy):
    (toy / "replications/toy").mkdir(parents=True)
    (toy / "replications/toy/experiment.py").touch()
    (toy / "replications/toy/params.yaml").write_text(params)
    with pytest.raises(ConfigError, match=f"replications/toy/params.yaml: {named}"):
        reproduce(toy)
    with pytest.raises(ConfigError, match=named):
        run_at(toy, "toy", "cpu")


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
        stages = {stage.addressing: stage for stage in repo.index.stages}
        stage = stages["new_gpu"]
        assert stage.frozen
        assert stage.outs[0].hash_info.value == hashlib.md5(made.read_bytes()).hexdigest()


def test_a_run_that_was_refused_leaves_the_pipeline_as_it_is(with_gpu):
    (with_gpu / "status").touch()
    assert not run_at(with_gpu, "new", "gpu")
    assert (with_gpu / "dvc.yaml").read_text() == PIPELINE


def test_a_replication_without_the_profile_is_refused(with_gpu):
    with pytest.raises(ConfigError, match=r"replications/new has no profile paper: no block of that name"):
        run_at(with_gpu, "new", "paper")

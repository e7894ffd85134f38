"""What the pipeline costs when there is nothing to do: our `dvc repro` and `dvc status` against DVC's own start-up."""

import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.repo import Repo

from benchmarks.measuring import times_s

ROOT = Path(__file__).resolve().parents[1]
DVC = Path(sys.executable).with_name("dvc")
ROUNDS = 5
MAX_RATIO_TO_NO_PIPELINE = 3.0
NOTHING_TO_DO = ("Data and pipelines are up to date.", "There are no data or pipelines tracked")


def run(folder: Path, *command: str | Path) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def new_repository(folder: Path) -> Path:
    folder.mkdir()
    run(folder, "git", "init", "--quiet")
    run(folder, DVC, "init", "--quiet")
    run(folder, DVC, "config", "core.analytics", "false")
    return folder


@pytest.fixture(scope="module")
def no_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_repository(tmp_path_factory.mktemp("peer") / "no pipeline")
    (folder / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_repository(tmp_path_factory.mktemp("ours") / "a copy")
    listed = run(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    data = (path.relative_to(ROOT).as_posix() for path in (ROOT / "data").glob("*.parquet"))
    for name in (*listed.split("\0"), *data):
        if name and (ROOT / name).is_file() and not name.startswith(".dvc"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    shutil.copyfile(ROOT / ".dvcignore", folder / ".dvcignore")
    # Outs count as current (`dvc commit`), so nothing trains; for one that has not been made an empty file stands in.
    with Repo(str(folder)) as repo:
        outs = [Path(out.fs_path) for stage in repo.index.stages for out in stage.outs]
    for out in outs:
        out.parent.mkdir(parents=True, exist_ok=True)
        if not out.exists():
            out.touch()
    run(folder, DVC, "commit", "--force", "--quiet")
    return folder


def repro(folder: Path) -> Callable[[], str]:
    return lambda: run(folder, DVC, "repro")


def status(folder: Path) -> Callable[[], str]:
    return lambda: run(folder, DVC, "status")


def did_nothing(output: str) -> bool:
    return any(sentence in output for sentence in NOTHING_TO_DO)


@pytest.mark.parametrize("command", [repro, status], ids=["repro", "status"])
def test_nothing_to_do_takes_little_more_than_dvc_itself(command, pipeline, no_pipeline) -> None:
    ours, peer = command(pipeline), command(no_pipeline)
    assert did_nothing(ours())
    assert did_nothing(peer())
    times = times_s({"ours": ours, "no pipeline": peer}, ROUNDS)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["ours"] / medians["no pipeline"]
    print({name: f"{median:.2f} s" for name, median in medians.items()}, f"ratio {ratio:.2f}")
    assert ratio <= MAX_RATIO_TO_NO_PIPELINE


def test_a_changed_dependency_is_something_to_do(pipeline) -> None:
    """The negative control of `did_nothing`: last, since it changes the copy."""
    with (pipeline / "paperkit/results.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert not did_nothing(status(pipeline)())

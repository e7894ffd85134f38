"""The commands of the Makefile explain themselves, and a wrong Python is refused before anything is installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_repository import NO_GIT, commit

ROOT = Path(__file__).resolve().parents[1]


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make on the Makefile of a folder, free of the variables of a make that runs these tests."""
    command = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "-u", "PYTHON", "make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def targets(makefile: str) -> set[str]:
    """Name the targets that a reader can type; files and special targets are none."""
    return set(re.findall(r"^([A-Za-z][\w-]*)\s*:(?!=)", makefile, flags=re.MULTILINE))


def undocumented(folder: Path) -> set[str]:
    """Name the targets that `make help` does not list with a sentence."""
    done = make(folder, "help")
    assert done.returncode == 0, done.stderr
    listed = set(re.findall(r"^([\w-]+) +\S", done.stdout, flags=re.MULTILINE))
    return targets((folder / "Makefile").read_text(encoding="utf-8")) - listed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the Makefile in a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    shutil.copyfile(ROOT / "Makefile", folder / "Makefile")
    return folder


def interpreter(path: Path, version: tuple[int, int, int]) -> Path:
    """Write an interpreter that is this one, but says it is of another version."""
    dotted = ".".join(map(str, version))
    code = f"import sys; sys.version_info = {(*version, 'final', 0)}; exec(sys.argv[1])"
    return write_program(
        path,
        f'[ "$1" = --version ] && echo "Python {dotted}" && exit',
        f'exec "{sys.executable}" -c "{code}" "$2"',
    )


def test_help_lists_every_target(folder):
    assert {"repro", "one", "rerun", "new", "check", "pipeline", "test", "soak", "book", "bench", "data"} <= targets(
        (folder / "Makefile").read_text(encoding="utf-8")
    )
    assert undocumented(folder) == set()


def test_help_is_what_make_alone_shows(folder):
    assert make(folder).stdout == make(folder, "help").stdout


def test_a_target_without_a_sentence_is_found(folder):
    with (folder / "Makefile").open("a", encoding="utf-8") as makefile:
        makefile.write("\nsecret:\n\t@true\n")
    assert undocumented(folder) == {"secret"}


@pytest.mark.parametrize("name", ["python", "another python"])
@pytest.mark.parametrize("version", [(3, 10, 0), (3, 12, 1), (4, 11, 0)])
def test_a_python_of_another_version_is_refused_with_what_to_do(version, name, folder):
    python = interpreter(folder / name, version)
    done = make(folder, "check-python", f"PYTHON={python}")
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr
    assert f"Python {'.'.join(map(str, version))}" in done.stderr
    assert "make PYTHON=" in done.stderr


@pytest.mark.parametrize("name", ["python", "another python"])
def test_a_python_of_the_right_version_is_accepted(name, folder):
    python = interpreter(folder / name, (3, 11, 2))
    done = make(folder, "check-python", f"PYTHON={python}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_python_that_is_not_there_is_named(folder):
    done = make(folder, "check-python", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert re.search(r"needs Python 3\.11.*no-such-python", done.stderr)


def test_set_up_checks_the_python_before_it_makes_anything(folder):
    for name in ("requirements.lock", "requirements-torch.lock", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    done = make(folder, "setup", f"PYTHON={interpreter(folder / 'python', (3, 14, 0))}")
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr
    assert not (folder / ".venv").exists()


def test_a_pdf_without_tex_is_refused_in_a_line_that_says_what_to_install(folder):
    done = make(folder, "pdf", "PATH=/nowhere")
    assert done.returncode != 0
    assert "make pdf needs xelatex" in done.stderr.splitlines()[0]
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("target", ["check", "one", "new"])
def test_a_command_for_one_replication_asks_which(target, folder):
    (folder / "bin").mkdir()
    done = make(folder, "-o", "setup", "-o", "pull", target)
    assert done.returncode != 0
    assert f"make {target} NAME=" in done.stderr


def book_is_built(folder: Path) -> bool:
    """Say whether `make repro` builds the book, where its other commands do nothing."""
    done = make(folder, "repro")
    assert done.returncode == 0, done.stderr
    return "Book: up to date" not in done.stdout


NOTES = 'mkdir -p book/_build; echo "$*" >> called'


def write_program(path: Path, *lines: str) -> Path:
    """Write a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def ready(folder: Path) -> Path:
    """A folder whose environment is there: its Python notes how it is called; no program beside it can be started."""
    for name in ("python", "dvc", "jupyter-book"):
        write_program(folder / ".venv/bin" / name, "exit 1" if name != "python" else NOTES)
    (folder / ".dvc").mkdir()
    locks = ("requirements.lock", "requirements-torch.lock", "pyproject.toml")
    for name in (*locks, "tests/test_book.py", "results/runs.csv", ".venv/.ready"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / ".gitignore").write_text("/book/_build\n/.venv\n/called\n", encoding="utf-8")
    return folder


def test_the_book_is_built_again_only_where_an_input_of_it_has_changed(ready):
    commit(ready)
    assert [book_is_built(ready) for _ in range(2)] == [True, False]
    for file, is_input in (("results/runs.csv", True), ("tests/test_book.py", False), ("page two.md", True)):
        (ready / file).write_text("new", encoding="utf-8")
        assert book_is_built(ready) == is_input, file
        assert not book_is_built(ready), file


def test_the_book_is_built_always_where_git_does_not_tell_what_has_changed(ready):
    assert [book_is_built(ready) for _ in range(2)] == [True, True]


def test_a_clone_that_was_moved_starts_programs_by_its_python(ready):
    assert book_is_built(ready)
    called = (ready / "called").read_text().splitlines()
    assert "-m dvc --quiet pull" in called
    assert ".venv/bin/jupyter-book build book --all -W -n --keep-going --quiet" in called


@pytest.mark.parametrize("is_archive", [True, False])
def test_dvc_is_told_that_an_archive_has_no_git(is_archive, ready):
    if not is_archive:
        commit(ready)
    assert make(ready, "pull").returncode == 0
    settings = ready / ".dvc/config.local"
    assert settings.exists() == is_archive
    if is_archive:
        assert settings.read_text() == NO_GIT


def test_data_that_cannot_be_fetched_are_named_with_the_remedy(ready):
    write_program(ready / ".venv/bin/python", "exit 1")
    done = make(ready, "repro")
    assert done.returncode != 0
    assert "git checkout -- .dvcstore && rm -rf .dvc/cache data && make pull" in done.stderr


def test_the_lock_is_installed_before_torch_so_that_all_that_torch_asks_for_has_a_hash(folder):
    for name in ("requirements.lock", "requirements-torch.lock", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    making = ['[ "$2" = venv ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python', NOTES]
    done = make(folder, "-o", "check-python", "setup", f"PYTHON={write_program(folder / 'python', *making)}")
    assert done.returncode == 0, done.stderr
    _, lock, wheel, torch, of_torch = (folder / "called").read_text().splitlines()
    assert lock.endswith("install --no-deps --require-hashes -r requirements.lock")
    assert re.fullmatch(r"-m pip download --no-deps --dest .venv/torch torch==[\d.]+", wheel)
    assert torch.endswith("--no-index --find-links .venv/torch --require-hashes -r requirements-torch.lock")
    assert re.fullmatch(r"-m pip install torch==[\d.]+", of_torch)

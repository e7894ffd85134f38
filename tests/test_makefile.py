"""The commands of the Makefile explain themselves, and a wrong Python is refused before anything is installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    lines = [
        "#!/bin/sh",
        f'[ "$1" = --version ] && echo "Python {dotted}" && exit',
        f'exec "{sys.executable}" -c "{code}" "$2"',
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_help_lists_every_target(folder):
    assert {"repro", "rerun", "pipeline", "check", "test", "book", "bench", "data"} <= targets(
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
@pytest.mark.parametrize("version", [(3, 9, 18), (3, 10, 0), (3, 12, 1), (3, 14, 0), (4, 11, 0)])
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
    assert "needs Python 3.11" in done.stderr
    assert "no-such-python" in done.stderr


def test_set_up_checks_the_python_before_it_makes_anything(folder):
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    done = make(folder, "setup", f"PYTHON={interpreter(folder / 'python', (3, 14, 0))}")
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr
    assert not (folder / ".venv").exists()

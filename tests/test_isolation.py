"""Tests write nowhere but in their own folders, also where git is told to work in the contributor's repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# They commit, and read git's status, in folders of their own.
USERS_OF_GIT = ("tests/test_provenance.py", "-k", "deleted_code or not_committed")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def contributor(tmp_path: Path) -> Path:
    """A repository with one commit, and a home whose git signs every commit and has a hook that refuses it."""
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "--quiet")
    (work / "file").write_text("1")
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "Mine")
    hook = tmp_path / "hooks/pre-commit"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    settings = f"[commit]\n\tgpgsign = true\n[user]\n\tsigningkey = none\n[core]\n\thooksPath = {hook.parent}\n"
    (tmp_path / ".gitconfig").write_text(settings)
    return work


def test_tests_that_use_git_leave_a_contributors_repository_and_settings_alone(contributor):
    exported = {"GIT_DIR": str(contributor / ".git"), "GIT_INDEX_FILE": str(contributor / ".git/index")}
    home = {"HOME": str(contributor.parent), "GIT_CONFIG_GLOBAL": str(contributor.parent / ".gitconfig")}
    before = (git(contributor, "log", "--format=%H"), (contributor / ".git/config").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *USERS_OF_GIT],
        cwd=ROOT, env={**os.environ, **exported, **home}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert (git(contributor, "log", "--format=%H"), (contributor / ".git/config").read_text()) == before
    assert git(contributor, "status", "--porcelain") == ""

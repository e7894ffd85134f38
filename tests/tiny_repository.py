"""A git repository of a few files, for tests; it obeys neither the user's settings nor a hook's environment."""

import os
import subprocess
from pathlib import Path

# What `make` tells DVC in an archive, which has no git.
NO_GIT = "[core]\n    no_scm = true\n"


def git(root: Path, *arguments: str, day: str = "2026-01-01") -> str:
    """Run git in a folder, on a day."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_COMMITTER_DATE": f"{day}T12:00:00Z"}
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, env=environment | settings, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(root: Path, day: str = "2026-01-01") -> str:
    """Commit all that lies in a folder; name the commit."""
    if not (root / ".git").exists():
        git(root, "init", "--quiet", "--template=", "--initial-branch=main")
        for setting in ("user.name=A", "user.email=a@example.org", "commit.gpgsign=false"):
            git(root, "config", *setting.split("="))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message=all", day=day)
    return git(root, "rev-parse", "HEAD")

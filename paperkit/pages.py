"""The pages of a replication in the book: what is found there and what is claimed, and the derivation beside it."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

SECTIONS = (
    "What we found",
    "Results",
    "How we ran it, and how it differs",
    "All claims",
    "Corrections to the sources",
    "What would change our mind",
    "Run it again, and cite it",
)
_TOC = """\
format: jb-book
root: replications/{name}
chapters:
- file: replications/{name}/derivation
- file: references
"""


def page_sources(root: Path, name: str) -> list[Path]:
    """Name the pages of a replication that are there: its own, then those below it."""
    pages = root / "book/replications"
    own = pages / f"{name}.md"
    return [path for path in (own, *sorted((pages / name).glob("*.md"))) if path.is_file()]


def lone_page_problems(root: Path, name: str) -> list[str]:
    """Build the pages of one replication, and no other, as strictly as the whole book."""
    with tempfile.TemporaryDirectory() as scratch:
        toc = Path(scratch, "toc.yml")
        toc.write_text(_TOC.format(name=name), encoding="utf-8")
        strictly = ("--toc", str(toc), "--path-output", scratch, "-W", "-n", "--keep-going", "--quiet")
        command = [sys.executable, str(Path(sys.executable).with_name("jupyter-book")), "build", "book", *strictly]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return []
    plain = re.sub(r"\x1b\[[\d;]*m", "", done.stderr)
    said = (
        line.replace(f"{root}/", "") for line in plain.splitlines() if re.search(r"\.md:\d+: |WARNING|ERROR", line)
    )
    return list(dict.fromkeys(said)) or [plain.strip()[-1500:] or "jupyter-book says nothing"]

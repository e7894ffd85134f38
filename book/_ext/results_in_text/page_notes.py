"""What is noted of each page while it is read: problems, which stop the build together at its end, and equations."""

import fnmatch
import subprocess
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from paperkit.history import environment_without_git

# A build that stopped at the first problem would show an author one typed number at a time.
PROBLEMS, EQUATIONS, DESCRIBED, COUNTS = "problems", "equations", "described checks", "counts of equations"


def notes(env: BuildEnvironment, kind: str) -> dict[str, list[Any]]:
    """Return the notes of one kind (`PROBLEMS`, `EQUATIONS`, `DESCRIBED` or `COUNTS`) by page."""
    return _all_notes(env).setdefault(kind, {})


def note(env: BuildEnvironment, kind: str, content: Any) -> None:
    """Note something of the page that is being read."""
    notes(env, kind).setdefault(env.docname, []).append(content)


def note_problem(env: BuildEnvironment, line: int | None, sentence: str) -> None:
    """Note a problem of the page that is being read; the build will stop when all pages have been read."""
    note(env, PROBLEMS, f"{env.doc2path(env.docname)}:{line or 1}: {sentence}")


def depend_on(env: BuildEnvironment, *files: Path) -> None:
    """Read the page again when a file changes; Sphinx would read it at every build for one that is not there."""
    for file in files:
        if file.is_file():
            env.note_dependency(str(file))


def find_outdated(app: Sphinx, env: BuildEnvironment, *_: set[str]) -> set[str]:
    """Have all pages read again where a file came or went, or claims or results were committed."""
    roots = [Path(app.config[key]) for key in ("results_root", "figures_root", "replications_root")]
    git = ("git", "-C", str(roots[2].parent), "log", "-1", "--format=%H", "--", *map(str, roots))
    last = subprocess.run(git, env=environment_without_git(), capture_output=True, check=False).stdout
    now = last, sorted(env.found_docs), sorted(str(path) for root in roots for path in root.glob("*/*.*"))
    before, env.files_there = getattr(env, "files_there", None), now  # pyright: ignore[reportAttributeAccessIssue]
    return env.found_docs if now != before else set()


def is_result_page(env: BuildEnvironment) -> bool:
    """Tell whether the page that is being read reports results, so that the rules of such pages bind it."""
    return any(fnmatch.fnmatch(env.docname, pattern) for pattern in env.config.result_pages)


def line_of(node: nodes.Node | None) -> int | None:
    """Find the line of a node, or of the nearest node around it that knows one."""
    while node is not None and not node.line:
        node = node.parent
    return node.line if node is not None else None


def stop_on_problems(app: Sphinx, env: BuildEnvironment) -> list[str]:  # noqa: ARG001 - an event
    """Stop the build if a page has problems, before the environment is kept: the next build reads the page again."""
    problems = [problem for of_page in notes(env, PROBLEMS).values() for problem in of_page]
    if problems:
        message = "\n".join([f"{len(problems)} problems on pages of results", *problems])
        raise ExtensionError(message)
    # A page that counts is written again, since the one that is counted may have changed.
    return list(notes(env, COUNTS))


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:  # noqa: ARG001 - an event
    """Forget what was noted of a page that is about to be read again, or is gone."""
    for of_kind in _all_notes(env).values():
        of_kind.pop(docname, None)


def merge(app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment) -> None:  # noqa: ARG001 - an event
    """Take over what another reading process noted."""
    for kind, of_kind in _all_notes(other).items():
        notes(env, kind).update({page: found for page, found in of_kind.items() if page in docnames})


def setup(app: Sphinx) -> None:
    """Connect the notes with a build."""
    app.add_config_value("result_pages", ["replications/*"], "env", list)
    app.connect("env-get-outdated", find_outdated)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", stop_on_problems)


def _all_notes(env: BuildEnvironment) -> dict[str, dict[str, list[Any]]]:
    if not hasattr(env, "page_notes"):
        env.page_notes = {}  # pyright: ignore[reportAttributeAccessIssue]
    return env.page_notes  # pyright: ignore[reportAttributeAccessIssue]

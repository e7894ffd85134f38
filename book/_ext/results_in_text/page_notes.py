"""What is noted of each page while it is read: problems, which stop the build together at its end, and equations."""

import fnmatch
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

# A build that stopped at the first problem would show an author one typed number at a time.
PROBLEMS, EQUATIONS, DESCRIBED = "problems", "equations", "described checks"


def notes(env: BuildEnvironment, kind: str) -> dict[str, list[Any]]:
    """Return the notes of one kind (`PROBLEMS`, `EQUATIONS` or `DESCRIBED`) by page."""
    return _all_notes(env).setdefault(kind, {})


def note(env: BuildEnvironment, kind: str, content: Any) -> None:
    """Note something of the page that is being read."""
    notes(env, kind).setdefault(env.docname, []).append(content)


def note_problem(env: BuildEnvironment, line: int | None, sentence: str) -> None:
    """Note a problem of the page that is being read; the build will stop when all pages have been read."""
    note(env, PROBLEMS, f"{env.doc2path(env.docname)}:{line or 1}: {sentence}")


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
    return []


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
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", stop_on_problems)


def _all_notes(env: BuildEnvironment) -> dict[str, dict[str, list[Any]]]:
    if not hasattr(env, "page_notes"):
        env.page_notes = {}  # pyright: ignore[reportAttributeAccessIssue]
    return env.page_notes  # pyright: ignore[reportAttributeAccessIssue]

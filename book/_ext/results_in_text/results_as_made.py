"""Results are printed only as their runs give them: verdicts are judged again, tables compared with their record."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from paperkit.results import ResultsError
from results_in_text.code_runner import kept_answer
from results_in_text.lone_page import is_left_out
from results_in_text.posts import page_of


def answer_about(results: Path, repository: Path, folder: str) -> dict[str, Any]:
    """Say what is wrong with a folder of results ("problems"), and which runs stand behind its claims ("behind")."""
    code = repository / "replications" / page_of(folder)
    if not all((code / file).is_file() for file in ("claims.yaml", "experiment.py")):
        return {"problems": [], "behind": {}}
    shared = (Path(__file__).parents[3] / "paperkit").rglob("*.py")
    own = (*code.rglob("*.y*ml"), *code.rglob("*.py"), *(results / folder).rglob("*.*"))
    return kept_answer(repository, "results", folder, depends=[*own, *shared])


def refuse_what_was_not_made(app: Sphinx) -> None:
    """Stop the build before a page is read where verdicts or tables were edited by hand, or are out of date."""
    root, repository = Path(app.config.results_root), Path(app.config.replications_root).parent
    names = sorted(path.parent.name for path in root.glob("*/verdicts.json"))
    folders = [name for name in names if not is_left_out(app, name)]
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each asks a process, and waits for it
            answers = list(pool.map(lambda folder: answer_about(root, repository, folder), folders))
    except ResultsError as error:
        message = f"results cannot be judged again: {error}"
        raise ExtensionError(message) from error
    if found := [problem for answer in answers for problem in answer["problems"]]:
        message = "\n".join(["results are not what their runs give, and no page is made of them:", *found])
        raise ExtensionError(message)


def setup(app: Sphinx) -> None:
    """Connect with the start of a build."""
    app.connect("builder-inited", refuse_what_was_not_made)

"""The directive `run-cell`: a few lines of Python on a page, run when the book is built, with what they print.

The lines run as a reader runs them: a fresh `python` in the root of the repository. One thread, the instruction set of
the committed results and a fixed hash seed make the output the same at every build.
"""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from paperkit.runs import INSTRUCTION_SET
from results_in_text.page_notes import depend_on

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
# A cell is to take 5 s; on a busy machine the same work counts for more.
CPU_LIMIT_S = 10
_WALL_LIMIT_S = 300
_CELL = re.compile(r"^```\{run-cell\}\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
_RUNNING: dict[tuple[str, Path], "Future[str]"] = {}


class RunCell(SphinxDirective):
    """Directive `run-cell`: content is Python that imports a replication and prints something."""

    has_content = True
    option_spec: ClassVar[dict] = {}

    def run(self) -> list[nodes.Node]:
        """Run the cell, and note the code it imports and the results it opens as dependencies of the page."""
        code = "\n".join(self.content)
        repository = Path(self.config.replications_root).parent
        try:
            running = _RUNNING.pop((code, repository), None)
            printed = running.result() if running else run_code(code, repository)
        except ValueError as error:
            message = f"{self.get_location()}: directive run-cell: {error}"
            raise ExtensionError(message) from error
        imported = [f"replications/{name}/**/*.py" for name in re.findall(r"replications\.(\w+)", code)]
        for pattern in imported + re.findall(r'"(results/[^"]+)"', code):
            depend_on(self.env, *repository.glob(pattern))
        shown = nodes.literal_block(code, code, language="python")
        output = nodes.literal_block(printed, printed, language="none", classes=["run-cell-output"])
        how = nodes.paragraph("", "Run when this book was built, and by you: paste it into ")
        how += [nodes.literal("", "python"), nodes.Text(" in a clone, after "), nodes.literal("", "make repro")]
        how += nodes.Text(". It prints:")
        return [nodes.container("", shown, how, output, classes=["run-cell"])]


def run_code(code: str, repository: Path) -> str:
    """Run Python in a process of its own; failing, warning, printing nothing and taking too long are refused."""
    if not code.strip():
        message = "there is nothing to run; write a few lines that import the replication and print something"
        raise ValueError(message)
    environment = {**os.environ, **INSTRUCTION_SET, **_ONE_THREAD, "PYTHONHASHSEED": "0", "PYTHONPATH": "."}
    # A shell limits the processor time of what it becomes.
    command = ["sh", "-c", 'ulimit -t "$0"; exec "$@"', str(CPU_LIMIT_S), sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, cwd=repository, env=environment, timeout=_WALL_LIMIT_S, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        message = f"it took more than {_WALL_LIMIT_S} s; a cell is to take 5"
        raise ValueError(message) from error
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        message = f"it took {CPU_LIMIT_S} s of processor time; a cell is to take 5, so do less"
        raise ValueError(message)
    if done.returncode or done.stderr.strip():
        message = f"it failed or warned, in {repository}:\n{done.stderr.strip()[-2000:]}"
        raise ValueError(message)
    if not done.stdout.strip():
        message = "it printed nothing; a reader sees only what is printed"
        raise ValueError(message)
    return done.stdout.rstrip()


def run_ahead(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Begin with the cells of all pages that will be read, beside the reading, which waits for the one it comes to."""
    repository = Path(app.config.replications_root).parent
    pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1))
    for name in docnames:
        for code in _CELL.findall(Path(env.doc2path(name)).read_text(encoding="utf-8")):
            _RUNNING[code, repository] = pool.submit(run_code, code, repository)
    pool.shutdown(wait=False)

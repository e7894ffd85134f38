"""The directive `run-cell`: a few lines of Python on a page, run when the book is built, with what they print.

The lines run as a reader runs them: a fresh `python` in the root of the repository. One thread, the instruction set of
the committed results and a fixed hash seed make the output the same at every build.
"""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from paperkit.runs import INSTRUCTION_SET

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
# A cell is to take 5 s; on a busy machine the same work counts for more.
CPU_LIMIT_S = 10
_WALL_LIMIT_S = 300


class RunCell(SphinxDirective):
    """Directive `run-cell`: content is Python that imports a replication and prints something."""

    has_content = True
    option_spec: ClassVar[dict] = {}

    def run(self) -> list[nodes.Node]:
        """Run the cell, and note the code it imports and the results it opens as dependencies of the page."""
        code = "\n".join(self.content)
        repository = Path(self.config.replications_root).parent
        try:
            printed = run_code(code, repository)
        except ValueError as error:
            message = f"{self.get_location()}: directive run-cell: {error}"
            raise ExtensionError(message) from error
        imported = [f"replications/{name}/**/*.py" for name in re.findall(r"replications\.(\w+)", code)]
        for pattern in imported + re.findall(r'"(results/[^"]+)"', code):
            for path in sorted(repository.glob(pattern)):
                self.env.note_dependency(str(path))
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
    before = _children_cpu_s()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=repository, env=environment, capture_output=True, text=True, check=False, timeout=_WALL_LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        message = f"it took more than {_WALL_LIMIT_S} s; a cell is to take 5"
        raise ValueError(message) from error
    spent = _children_cpu_s() - before
    if done.returncode or done.stderr.strip():
        message = f"it failed or warned, in {repository}:\n{done.stderr.strip()[-2000:]}"
        raise ValueError(message)
    if not done.stdout.strip():
        message = "it printed nothing; a reader sees only what is printed"
        raise ValueError(message)
    if spent > CPU_LIMIT_S:
        message = f"it took {spent:.0f} s of processor time; a cell is to take 5, so do less"
        raise ValueError(message)
    return done.stdout.rstrip()


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

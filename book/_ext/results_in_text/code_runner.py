"""What the book asks of a replication's code, in a process of its own: `python -m results_in_text.code_runner`.

A process of its own, since the code may be of another checkout than the one that Sphinx has imported, a test's for
example; since torch would stay in the memory of the build; and since checks are to run as the stage runs them: one
thread, the same instruction set. The folder it starts in is the repository.
"""

import argparse
import hashlib
import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from paperkit.completeness import problems, recomputation_problems, results_problems
from paperkit.provenance import code_hash, import_closure, module_file
from paperkit.results import ResultsError, replace_text
from paperkit.runs import INSTRUCTION_SET
from results_in_text.runs_behind import runs_behind

TIME_LIMIT_S = 600
# Answers are kept here under the hash of all that they depend on; git ignores the folder.
_KEPT = Path(".paperkit/book")


class CodeRunError(ResultsError):
    """A replication's code could not be run; the message says which and how it ended."""


def ask_code(repository: Path, question: str, name: str, *arguments: str) -> Any:
    """Ask a replication's code for its "derivation", "checks" or "results", in a process of its own."""
    paths = [str(repository), *(str(Path(__file__).parents[place]) for place in (1, 3))]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    environment = {**os.environ, **INSTRUCTION_SET, **threads, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "results_in_text.code_runner", question, name, *arguments]
    try:
        done = subprocess.run(
            command, cwd=repository, env=environment, capture_output=True, text=True, check=True, timeout=TIME_LIMIT_S
        )
    except subprocess.SubprocessError as error:
        end = str(getattr(error, "stderr", None) or error).strip()[-1500:]
        message = f"the code of {name} could not answer {question!r} ({' '.join(arguments)}):\n{end}"
        raise CodeRunError(message) from error
    return json.loads(done.stdout.splitlines()[-1])


def kept_answer(repository: Path, question: str, name: str, *arguments: str, depends: Iterable[Path]) -> Any:
    """Ask as `ask_code` does, unless the same was asked of the same files before: `depends`, all that matter."""
    key = hashlib.sha256(json.dumps([question, name, *arguments]).encode())
    own = Path(__file__), Path(__file__).with_name("runs_behind.py"), repository / "requirements.lock"
    for path in sorted({*depends, *own}):
        key.update(path.read_bytes() if path.is_file() else b"none")
    kept = repository / _KEPT / f"{key.hexdigest()}.json"
    digest, _, answer = kept.read_bytes().partition(b"\n") if kept.is_file() else (b"", b"", b"")
    if digest != _digest(answer):  # not asked before, or damaged
        answer = json.dumps(ask_code(repository, question, name, *arguments)).encode()
        replace_text(kept, f"{_digest(answer).decode()}\n{answer.decode()}")
    return json.loads(answer)


def _digest(answer: bytes) -> bytes:
    return hashlib.sha256(answer).hexdigest().encode()


def derivation(name: str) -> dict[str, Any]:
    """Say what checks a derivation has, what they say of themselves, and of what code they are made: hash by path."""
    module = f"replications.{name}.checks"
    files = (module_file(imported) for imported in import_closure(module))
    here = Path.cwd().resolve()
    closure = {
        path.resolve().relative_to(here).as_posix(): code_hash(path)
        for path in files
        if path.resolve().is_relative_to(here)
    }
    known = importlib.import_module(module).CHECKS
    docstrings = {
        check: inspect.getdoc(function) or "" for check, function in known.items() if inspect.isfunction(function)
    }
    return {"checks": list(known), "closure": closure, "docstrings": docstrings}


def checks(name: str, wanted: Sequence[str]) -> dict[str, dict[str, float]]:
    """Run checks of a derivation, by their names in `CHECKS`."""
    known = importlib.import_module(f"replications.{name}.checks").CHECKS
    outcomes = {check: known[check]() for check in wanted}
    return {
        check: {"max_error": float(outcome.max_error), "control_error": float(outcome.control_error)}
        for check, outcome in outcomes.items()
    }


def results(folder: str) -> dict[str, Any]:
    """Judge a folder of results again; say what is wrong with it, and which runs stand behind its claims."""
    rules = results_problems, recomputation_problems
    found = [problem for rule in rules for problem in problems(rule, Path.cwd(), folder)]
    return {"problems": found, "behind": {} if found else runs_behind(folder)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer one question on the last line of the standard output, as JSON."""
    parser = argparse.ArgumentParser(prog="results_in_text.code_runner")
    parser.add_argument("question", choices=["derivation", "checks", "results"])
    parser.add_argument("name")
    parser.add_argument("checks", nargs="*")
    options = parser.parse_args(arguments)
    answers = {
        "derivation": lambda: derivation(options.name),
        "checks": lambda: checks(options.name, options.checks),
        "results": lambda: results(options.name),
    }
    print(json.dumps(answers[options.question]()))


if __name__ == "__main__":
    main()

"""What the book asks of a replication's code, in a process of its own: `python -m results_in_text.code_runner`.

A process of its own, since the code may be of another checkout than the one that Sphinx has imported, a test's for
example; since torch would stay in the memory of the build; and since checks are to run as the stage runs them: one
thread, the same instruction set. The folder it starts in is the repository.

Which runs stand behind a claim is found by leaving runs out and looking whether the number moves: an estimand is a
function of the whole table of runs and filters for itself, so no list says what it reads. Experiments are left out,
and within those that matter arms. What an estimand looks at without effect is not found: of implementations that it
compares by their best, only the best.
"""

import hashlib
import importlib
import inspect
import json
import math
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from paperkit.profiles import replication_and_profile
from paperkit.provenance import code_hash, import_closure, module_file
from paperkit.results import ResultsError, replace_text
from paperkit.runs import INSTRUCTION_SET
from results_in_text.records import stop

Estimand = Callable[[pd.DataFrame], Any]

TIME_LIMIT_S = 600
# A cell is to take 5 s; on a busy machine the same work counts for more.
CPU_LIMIT_S = 10
_CELL_LIMIT_S = 300
# Answers are kept here under the hash of all that they depend on; git ignores the folder.
_KEPT = Path(".paperkit/book")
_PAPERKIT = Path(__file__).parents[3] / "paperkit"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def _python(
    repository: Path, *arguments: str, timeout: int, cpu_limit: int | str = "unlimited", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Start Python in a repository as a stage does: one thread, the instruction set of the committed results."""
    environment = {**os.environ, **INSTRUCTION_SET, **dict.fromkeys(_THREADS, "1"), **variables}
    # A shell limits the processor time of what it becomes.
    command = ["sh", "-c", 'ulimit -t "$0"; exec "$@"', str(cpu_limit), sys.executable, *arguments]
    return subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, check=False, timeout=timeout
    )


def ask_code(repository: Path, question: str, name: str, *arguments: str) -> Any:
    """Ask a replication's code for its "derivation", "checks" or "results", in a process of its own."""
    paths = os.pathsep.join(map(str, (repository, Path(__file__).parents[1], _PAPERKIT.parent)))
    program = ("-m", "results_in_text.code_runner", question, name, *arguments)
    try:
        done = _python(repository, *program, timeout=TIME_LIMIT_S, PYTHONPATH=paths)
        done.check_returncode()
    except subprocess.SubprocessError as error:
        end = str(getattr(error, "stderr", None) or error).strip()[-1500:]
        message = f"the code of {name} could not answer {question!r} ({' '.join(arguments)}):\n{end}"
        raise ResultsError(message) from error
    return json.loads(done.stdout.splitlines()[-1])


def kept_answer(repository: Path, question: str, name: str, *arguments: str, depends: Iterable[Path]) -> Any:
    """Ask as `ask_code` does, unless the same was asked of the same files before: `depends`, all that matter."""
    key = hashlib.sha256(json.dumps([question, name, *arguments]).encode())
    for path in sorted({*depends, Path(__file__), repository / "requirements.lock"}):
        key.update(path.read_bytes() if path.is_file() else b"none")
    kept = repository / _KEPT / f"{key.hexdigest()}.json"
    digest, _, answer = kept.read_bytes().partition(b"\n") if kept.is_file() else (b"", b"", b"")
    if digest != _digest(answer):  # not asked before, or damaged
        answer = json.dumps(ask_code(repository, question, name, *arguments)).encode()
        replace_text(kept, f"{_digest(answer).decode()}\n{answer.decode()}")
    return json.loads(answer)


def _digest(answer: bytes) -> bytes:
    return hashlib.sha256(answer).hexdigest().encode()


def about_results(results: Path, repository: Path, folder: str) -> dict[str, Any]:
    """Say what is wrong with a folder of results ("problems"), and which runs stand behind its claims ("behind")."""
    code = repository / "replications" / replication_and_profile(folder)[0]
    if not all((code / file).is_file() for file in ("claims.yaml", "experiment.py")):
        return {"problems": [], "behind": {}}
    own = (*code.rglob("*.y*ml"), *code.rglob("*.py"), *(results / folder).rglob("*.*"))
    return kept_answer(repository, "results", folder, depends=[*own, *_PAPERKIT.rglob("*.py")])


def about_derivation(repository: Path, name: str) -> dict[str, Any]:
    """Say what checks a derivation has, what they say of themselves, and the hashes of the code behind them."""
    folder = repository / "replications" / name
    if not (folder / "checks.py").is_file():
        stop(f"{folder / 'checks.py'} is missing; a check stands there, in CHECKS")
    return kept_answer(repository, "derivation", name, depends=[*folder.rglob("*.py"), *_PAPERKIT.glob("**/*.py")])


def run_cell(code: str, repository: Path) -> str:
    """Run Python as a reader runs it; failing, warning, printing nothing and taking too long are refused."""
    if not code.strip():
        stop("there is nothing to run; write a few lines that import the replication and print something")
    run = {"timeout": _CELL_LIMIT_S, "cpu_limit": CPU_LIMIT_S, "PYTHONHASHSEED": "0", "PYTHONPATH": "."}
    try:
        done = _python(repository, "-c", code, **run)
    except subprocess.TimeoutExpired as error:
        stop(f"it took more than {_CELL_LIMIT_S} s; a cell is to take 5", error)
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        stop(f"it took {CPU_LIMIT_S} s of processor time; a cell is to take 5, so do less")
    if done.returncode or done.stderr.strip():
        stop(f"it failed or warned, in {repository}:\n{done.stderr.strip()[-2000:]}")
    if not done.stdout.strip():
        stop("it printed nothing; a reader sees only what is printed")
    return done.stdout.rstrip()


# --- in the process that answers -------------------------------------------------------------------------------


def derivation(name: str) -> dict[str, Any]:
    """Say what checks a derivation has, what they say of themselves, and of what code they are made: hash by path."""
    module = f"replications.{name}.checks"
    files = (module_file(imported).resolve() for imported in import_closure(module))
    here = Path.cwd().resolve()
    closure = {path.relative_to(here).as_posix(): code_hash(path) for path in files if path.is_relative_to(here)}
    known = importlib.import_module(module).CHECKS
    said = {check: inspect.getdoc(function) or "" for check, function in known.items() if inspect.isfunction(function)}
    return {"checks": list(known), "closure": closure, "docstrings": said}


def checks(name: str, *wanted: str) -> dict[str, dict[str, float]]:
    """Run checks of a derivation, by their names in `CHECKS`."""
    known = importlib.import_module(f"replications.{name}.checks").CHECKS
    outcomes = {check: known[check]() for check in wanted}
    return {
        check: {"max_error": float(outcome.max_error), "control_error": float(outcome.control_error)}
        for check, outcome in outcomes.items()
    }


def results(folder: str) -> dict[str, Any]:
    """Judge a folder of results again; say what is wrong with it, and which runs stand behind its claims."""
    # Loaded where it is asked for: for the other questions it would take longer than their answers.
    from paperkit.completeness import problems, recomputation_problems, results_problems

    rules = results_problems, recomputation_problems
    found = [problem for rule in rules for problem in problems(rule, Path.cwd(), folder)]
    return {"problems": found, "behind": {} if found else runs_behind(folder)}


def runs_behind(folder: str) -> dict[str, dict[str, Any]]:
    """Look behind every test of a folder of results, by claim and place of the test, such as C6.tests[0]."""
    from paperkit.claims.declarations import load_estimands, read_claims
    from paperkit.claims.verdicts import tables_of

    name, _ = replication_and_profile(folder)
    claims = read_claims(Path(f"replications/{name}/claims.yaml"))
    estimands = load_estimands(f"replications.{name}.estimands", claims)
    found: dict[str, dict[str, Any]] = {}
    for file, timing in (("runs.csv", False), ("timings.csv", True)):
        path = Path(f"results/{folder}/{file}")
        if path.exists():
            judged = [claim for claim in claims if (claim.kind == "timing") == timing]
            for runs, some in tables_of(path.parent, file, judged):
                likely: list[Any] = []  # experiments and arms
                numbers = {f"{claim.id}.{place}": number for claim in some for place, number in claim.numbers.items()}
                for place, number in numbers.items():
                    if number.said:
                        likely = ["identities", *number.said[1].values()]
                    found[place] = behind_estimand(estimands[number.estimand], runs, likely)
                    arms = found[place]["arms"]
                    likely = [*arms, *chain.from_iterable(arms.values())]
    return found


def behind_estimand(estimand: Estimand, runs: pd.DataFrame, likely: Sequence[Any]) -> dict[str, Any]:
    """Look behind one estimand: its values by seed, arms by experiment, number of rows."""
    whole = _outcome(estimand, runs)

    def gives(table: pd.DataFrame) -> bool:
        return _outcome(estimand, table) == whole

    def smaller(table: pd.DataFrame, kept: pd.Series) -> pd.DataFrame:
        """Keep only some rows where they alone give the number: the less is read, the faster."""
        return table[kept] if not kept.all() and gives(table[kept]) else table

    def needed(table: pd.DataFrame, names: pd.Series) -> list[str]:
        """Find what cannot be left out: by halves, for most matter to no claim; what likely matters one by one."""

        def among(some: list[str]) -> list[str]:
            if not some or gives(table[~names.isin(some)]):
                return []
            middle = len(some) // 2
            return among(some[:middle]) + among(some[middle:]) if middle else some

        there = sorted(names.dropna().unique())
        if set(there) <= set(likely):
            return [name for name in there if not gives(table[names != name])]
        return among(there)

    runs = smaller(runs, runs["experiment"].isin(likely))
    experiments = needed(runs, runs["experiment"])
    runs = smaller(runs, runs["experiment"].isin(experiments))
    runs = smaller(runs, runs["arm"].isin(likely))
    of_arms = {experiment: runs["arm"].where(runs["experiment"] == experiment) for experiment in experiments}
    arms = {experiment: needed(runs, names) for experiment, names in of_arms.items()}
    rows = sum(int(names.isin(arms[experiment]).sum()) for experiment, names in of_arms.items())
    return {"values": whole, "arms": arms, "rows": rows}


def _outcome(estimand: Estimand, runs: pd.DataFrame) -> dict[str, float | None] | None:
    try:
        with warnings.catch_warnings():
            # Means of nothing are expected here.
            warnings.simplefilter("ignore")
            outcome = estimand(runs)
    except Exception:
        return None
    numbers = outcome.iloc[0] if isinstance(outcome, pd.DataFrame) and len(outcome) else outcome
    if isinstance(numbers, pd.DataFrame):
        return {}
    return {str(key): float(value) if math.isfinite(value) else None for key, value in numbers.items()}


if __name__ == "__main__":
    print(json.dumps({"derivation": derivation, "checks": checks, "results": results}[sys.argv[1]](*sys.argv[2:])))

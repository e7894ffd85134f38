"""`python -m paperkit check NAME` (`make check NAME=lion`): all that a replication lacks, whole and at once.

It asks the rules of `completeness`, lints, and runs what a replication has: its tests, its stages at smoke scale in a
copy, its pages.
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, product
from pathlib import Path

from paperkit.completeness import RULES, RULES_OF_RESULTS, Rule, folders_of_results, problems, tolerances
from paperkit.datasets import read_table, write_table
from paperkit.estimands import identity_errors
from paperkit.history import no_history
from paperkit.pages import lone_page_problems
from paperkit.pipeline import found_replications, has, main_call
from paperkit.results import read_json, read_runs, write_json

# CPU seconds that smoke run, tests and page of a replication may take (a large one has a folder studies/ or tasks/, a
# middle one tunes what it compares), beyond those of one that does next to nothing: the start of Python, torch, pytest
# and Sphinx; a stage of clock readings starts one program more. Measured idle these are 9 and 3; where other processes
# share the cores, the same work counts half as much again.
MAX_CPU_S = {"small": 8, "middle": 20, "large": 40}
STARTING_CPU_S, STARTING_TIMING_CPU_S = 14, 5
# Runs modules as `python -m` does, in one Python, and says which: to load what they need takes longer than their work.
IN_TURN = """\
import json, runpy, sys
for command in json.loads(sys.argv[1]):
    print("\\0" + command, file=sys.stderr, flush=True)
    sys.argv = command.split()[2:]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def smoke_problems(root: Path, name: str) -> list[str]:
    """Run all stages of one replication at smoke scale in a copy: nothing of its kept runs or results is touched."""
    with tempfile.TemporaryDirectory(prefix="a copy ") as folder:
        return _smoke_problems(root, name, Path(folder))


def draft_problems(root: Path, name: str) -> list[str]:
    """Run at smoke scale, and build the pages from what comes out: those of a replication without results."""
    with tempfile.TemporaryDirectory(prefix="a copy ") as scratch:
        folder = Path(scratch)
        found = _smoke_problems(root, name, folder)
        if found:
            return found
        shutil.copytree(root / "book", folder / "book", ignore=shutil.ignore_patterns("_build", "__pycache__"))
        for file in ("CITATION.cff", "numbers_changed.yaml"):
            shutil.copyfile(root / file, folder / file)
        record = folder / "results" / name / "provenance.json"
        write_json(record, read_json(record) | {"commit": "0" * 40})  # a copy has none, and pages may name it
        return lone_page_problems(folder, name)


def _smoke_problems(root: Path, name: str, folder: Path) -> list[str]:
    for package in ("paperkit", "replications"):
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(root / "requirements.lock", folder / "requirements.lock")
    timing = has(root, name, "timing")
    modules = ["experiment", *["timing"] * timing]
    files = [root / f"replications/{name}/{module}.py" for module in modules]
    named = [main_call(file.read_text(encoding="utf-8"), file.name).get("tables", ()) for file in files]
    _make_small_data(root / "data", folder / "data", {*chain.from_iterable(named)})
    steps = [f"replications.{name}.{module} --profile smoke --out results/{name}" for module in modules]
    steps += [f"paperkit.claims {name}", *[f"paperkit.claims {name} --timing"] * timing]
    steps += [f"replications.{name}.figures {name}"] * has(root, name, "figures")
    done = _python(folder, "-c", IN_TURN, json.dumps([f"python -m {step}" for step in steps]))
    if done.returncode:
        command, _, said = done.stderr.rpartition("\0")[2].partition("\n")
        return [f"`{command}` fails: {_cause(said)}"]
    found = [
        f"claim {claim['id']} is {claim['verdict']!r} at smoke scale: let its `profile` in claims.yaml be cpu"
        for claim in read_json(folder / f"results/{name}/verdicts.json")["claims"]
        if claim["kind"] == "experiment" and claim["verdict"] != "not tested at this scale"
    ]
    if has(root, name, "figures") and not list((folder / "figures" / name).glob("*.svg")):
        found.append("figures.py draws no .svg from results at smoke scale")
    if (folder / ".paperkit/runs" / name).exists():
        found.append("the stage has ended and kept its runs: let experiment.py call paperkit.stage.main")
    return found + _identity_problems(root, name, folder)


def _identity_problems(root: Path, name: str, copy: Path) -> list[str]:
    """Compare the checks of the derivation with their committed runs: what is drawn there comes from fixed seeds."""
    files = [folder / f"results/{name}/runs.csv" for folder in (copy, root)]
    if not all(file.exists() for file in files):
        return []
    smoke, committed = (read_runs(file) for file in files)
    found = []
    for check, tolerance in tolerances(root, name).items():
        now, then = (identity_errors(runs, check) for runs in (smoke, committed))
        if now.empty or then.empty:
            found.append(f"the check {check} is not in both runs.csv: run `make one NAME={name}`")
            continue
        error, control, was = now["max_error"].item(), now["control_error"].item(), then["max_error"].item()
        same_side = (error <= tolerance) == (was <= tolerance)
        if not (same_side and error >= 0 and math.isclose(error, was, rel_tol=0.01, abs_tol=1e-6)):
            found.append(f"the check {check} errs by {error:.3g}, its committed run by {was:.3g}")
        if not control > max(tolerance, 0.01):  # by far more than rounding
            found.append(f"the control of the check {check} errs by {control:.3g} alone: it cannot fail")
    return found


def _make_small_data(source: Path, target: Path, tables: set[str]) -> None:
    """Write every tenth row of what the stages name, since to learn tokenizers takes longer than the rest they do.

    Only that is compared with data.dvc, and known to DVC. Tables below a MiB stay whole.
    """
    target.mkdir()
    for table in tables:
        rows = read_table(table, source)
        every = 10 if (source / f"{table}.parquet").stat().st_size > 2**20 else 1
        write_table(table, rows.loc[rows.groupby("split").cumcount() % every == 0].to_dict("records"), target)


def _run_suite(root: Path, name: str) -> subprocess.CompletedProcess[str]:
    quiet = ("-q", "--tb=no", "-p", "no:cacheprovider", "--durations=3", "--durations-min=0.5")
    return _python(root, "-m", "pytest", f"replications/{name}", *quiet)


def _failures(done: subprocess.CompletedProcess[str]) -> list[str]:
    if done.returncode == 0:
        return []
    failed = re.findall(r"^(?:FAILED|ERROR) (.+)", done.stdout, flags=re.MULTILINE)
    return [f"a test fails: {line}" for line in failed] or [f"pytest stops: {_cause(done.stderr + done.stdout)}"]


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # One worker, since the other core runs the tests; wide, since pytest cuts its lines at the width of the terminal.
    environment = {**os.environ, "TQDM_DISABLE": "1", "LOKY_MAX_CPU_COUNT": "1", "COLUMNS": "500"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _cause(stderr: str) -> str:
    """Say in a line why a command has failed: its message, or the end of its traceback with the place."""
    message, traceback, _ = stderr.partition("Traceback (most recent call last):")
    if not traceback:
        return message.strip() or "it says nothing"
    places = re.findall(r'File "[^"]*?((?:paperkit|replications)/[^"]+)", line (\d+)', stderr)
    place = " ({}, line {})".format(*places[-1]) if places else ""
    return f"{stderr.strip().splitlines()[-1]}{place}"


def style_problems(root: Path, name: str) -> list[str]:
    """Run linter, formatter and type checker over a replication's folder."""
    folder, found = f"replications/{name}", []
    for module, *options in (("ruff", "check", "-q", "--output-format=concise"), ("ruff", "format", "--check", "-q")):
        done = _python(root, "-m", module, *options, folder)
        found += [line for line in (done.stdout + done.stderr).splitlines() if line]
    done = _python(root, "-m", "basedpyright", folder)
    return found + [line.strip().replace(f"{root}/", "") for line in done.stdout.splitlines() if " - error: " in line]


def check(root: Path, name: str, say: Callable[[str], object] = print) -> bool:
    """Say everything that a replication lacks, whole and at once.

    Args:
        root: The repository.
        name: The replication.
        say: Takes each line.

    Returns:
        Whether nothing is missing. Results that have not been made yet are named, and are no fault.
    """
    if name not in found_replications(root):
        say(f"replications/{name} is not there; there are {', '.join(found_replications(root))}")
        return False
    folders = folders_of_results(root, name)
    # In a process of their own, on a second core, whose children's processor time is theirs alone.
    with ProcessPoolExecutor(max_workers=1) as pool:
        slow_rules = SLOW_RULES if folders else SLOW_RULES_OF_A_DRAFT
        slow = {what: pool.submit(_measured, rule, root, name) for what, rule in slow_rules.items()}
        number = tell(say, "style and types", problems(style_problems, root, name))
        number += sum(tell(say, what, problems(rule, root, name)) for what, rule in RULES.items())
        of_results = product(folders, RULES_OF_RESULTS.items())
        number += sum(tell(say, f"{what} of {of}", problems(rule, root, of)) for of, (what, rule) in of_results)
        before = _cpu_s_of_children()
        suite = _run_suite(root, name)
        cpu_s = {"tests": _cpu_s_of_children() - before}
        number += tell(say, "tests", _failures(suite))
        for what, running in slow.items():
            cpu_s[what], found = running.result()
            number += tell(say, what, found)
    number += tell(say, "processor time", _cost_problems(root, name, cpu_s, suite.stdout), _listed(cpu_s))
    if not folders:
        say(
            f"results: none yet; commit claims.yaml, then run `make one NAME={name}` and commit results, figures and "
            "dvc.lock"
        )
    elif no_history(root):
        say(f"history: not checked: {no_history(root)}")
    say(f"{name}: {number} things are missing." if number else f"{name}: nothing is missing.")
    return not number


SLOW_RULES: dict[str, Rule] = {"smoke run": smoke_problems, "page, built alone": lone_page_problems}
SLOW_RULES_OF_A_DRAFT: dict[str, Rule] = {"smoke run, and the page from it": draft_problems}


def _measured(rule: Rule, root: Path, name: str) -> tuple[float, list[str]]:
    before = _cpu_s_of_children()
    found = problems(rule, root, name)
    return _cpu_s_of_children() - before, found


def _cpu_s_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _listed(cpu_s: Mapping[str, float]) -> str:
    return ", ".join(f"{what} {seconds:.0f} s" for what, seconds in cpu_s.items())


def _cost_problems(root: Path, name: str, cpu_s: Mapping[str, float], report: str) -> list[str]:
    """Say which tests to take out of the suite where the replication's share of it is too long."""
    folder = root / "replications" / name
    tunes = "paperkit.tuning" in (folder / "experiment.py").read_text(encoding="utf-8")
    is_large = any((folder / part).is_dir() for part in ("studies", "tasks"))
    size = "large" if is_large else "middle" if tunes else "small"
    starting = STARTING_CPU_S + STARTING_TIMING_CPU_S * has(root, name, "timing")
    share, most = sum(cpu_s.values()) - starting, MAX_CPU_S[size]
    if share <= most:
        return []
    slowest = re.findall(r"^([\d.]+s) (?:call|setup) +(.+)", report, flags=re.MULTILINE)
    tests = "; ".join(f"{seconds} {test}" for seconds, test in slowest) or "none above 0.5 s"
    return [
        f"{_listed(cpu_s)}: {share:.0f} s of one core beyond starting the programs; at most {most} for a {size} "
        f"replication: let the smoke block of params.yaml do less, or mark slow tests `soak` (slowest: {tests})"
    ]


def tell(say: Callable[[str], object], what: str, found: list[str], fine: str = "complete") -> int:
    """Say what a rule has found, a line each, or that all is well; return how many lines."""
    say(f"{what}: {fine if not found else ''}".rstrip())
    for problem in found:
        say("  - " + problem.replace("\n", "\n    "))
    return len(found)

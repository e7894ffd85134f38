"""What makes a replication complete: `python -m paperkit check NAME` (`make check NAME=lion`).

A rule is a function of the repository's root and a replication's name that says, a sentence each, what is wrong. The
test suite holds every replication to the same rules.
"""

import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from paperkit.claims.declarations import read_claims
from paperkit.claims.rules import IdentityTest
from paperkit.claims.verdicts import write_verdicts
from paperkit.config import ConfigError, read_yaml
from paperkit.datasets import SPLITS, read_table, write_table
from paperkit.history import no_history, read_history
from paperkit.pages import SECTIONS, lone_page_problems, page_sources
from paperkit.pipeline import TRAINS, found_replications, has, read_text, written_files
from paperkit.provenance import NUMERICAL, content_hash, file_md5, fingerprint
from paperkit.results import ResultsError, read_json, read_runs, read_trials, write_json

COMMITTED_PROFILE = "cpu"
MAX_RUNS_BYTES = 2_000_000
MAX_CURVE_POINTS = 50
# A machine's BLAS and vector units move the last digits of a statistic, and an end of an interval may lie near zero.
ROUNDING, NOTHING = 1e-9, 1e-12
FILES = ("__init__.py", "about.yaml", "claims.yaml", "experiment.py", "params.yaml")
ROLES = (*TRAINS, "estimands", "figures", "__init__")
RESULTS = ("runs.csv", "metrics.json", "verdicts.json", "provenance.json", "costs.csv")
TIMING_RESULTS = ("timings.csv", "timing_verdicts.json", "timing_provenance.json")
MIN_TUNING_SEEDS = 3
# Tuned on one seed, Lion moreover from two lists of betas, before race and one list were the rule; a claim of theirs
# that is judged again is tuned by both.
TUNED_BEFORE_THE_RACE = ("lion", "shared_embeddings")
FORBIDDEN_NAME = re.compile(r"(utils?|helpers?|misc|common|base|managers?)|.+_(utils?|helpers?|misc|v\d+)")
# CPU seconds that smoke run, tests and page of a replication may take (a large one has a folder studies/ or tasks/),
# beyond those of one that does next to nothing: the start of Python, torch, pytest and Sphinx.
MAX_CPU_S = {"small": 8, "large": 40}
STARTING_CPU_S = 16
Rule = Callable[[Path, str], list[str]]


def missing(root: Path, folder: str, names: tuple[str, ...]) -> list[str]:
    """Name the files that a folder lacks."""
    return [f"{folder}/{name} is missing" for name in names if not (root / folder / name).is_file()]


def shape_problems(root: Path, name: str) -> list[str]:
    """Check the folder: its files, an algorithm with a test, both profiles that are needed."""
    folder = root / "replications" / name
    needed = FILES + ("timing.yaml",) * has(root, name, "timing")
    needed += ("claims_pretrained.yaml",) * has(root, name, "pretrained")
    found = missing(root, f"replications/{name}", needed)
    modules = {path.stem for path in folder.glob("*.py")} - {*ROLES}
    if not any(f"test_{module}" in modules for module in modules):
        found.append(f"replications/{name} has no <algorithm>.py with a test_<algorithm>.py beside it")
    for params in ("params.yaml", "timing.yaml"):
        if (folder / params).exists():
            lacking = {"smoke", "cpu"} - set(read_yaml(folder / params))
            found += [f"replications/{name}/{params} has no block {block}" for block in sorted(lacking)]
    return found


def registration_problems(root: Path, _: str) -> list[str]:
    """Check that the shared files are what `make pipeline` writes from the folders."""
    return [
        f"{path} is not what the replications' folders and results say: run `make pipeline`"
        for path, text in written_files(root).items()
        if read_text(root / path) != text
    ]


def page_problems(root: Path, name: str) -> list[str]:
    """Check that both pages are there, and that the first has the sections of all; `make pipeline` lists the pages."""
    found = missing(root, "book/replications", (f"{name}.md", f"{name}/derivation.md"))
    text = read_text(root / "book/replications" / f"{name}.md")
    sections = tuple(re.findall(r"^## (.+)", text, flags=re.MULTILINE))
    if text and sections != SECTIONS:
        found.append(f"book/replications/{name}.md has the sections {sections}; it needs exactly {SECTIONS}")
    return found


def results_problems(root: Path, name: str) -> list[str]:
    """Check that the results are committed, and that each table is as its stage has written it."""
    found = missing(root, f"results/{name}", RESULTS + TIMING_RESULTS * has(root, name, "timing"))
    folder = root / "results" / name
    for record in sorted(folder.glob("*provenance.json")):
        outs = read_json(record).get("outs", {})
        written = {table: file_md5(folder / table) if (folder / table).exists() else None for table in outs}
        found += [
            f"results/{name}/{table} is not what {record.name} says its stage has written: `git checkout` both, or "
            "rerun the stage"
            for table in outs
            if written[table] != outs[table]
        ]
    made = {table for record in folder.glob("*provenance.json") for table in read_json(record).get("outs", {})}
    known = made | {*RESULTS, *TIMING_RESULTS}
    return found + [
        f"results/{name}/{path.name} is of no stage" for path in folder.iterdir() if path.name not in known
    ]


def figures_problems(root: Path, name: str) -> list[str]:
    """Check that every figure is on a page of the replication, and that every figure there is drawn."""
    text = "\n".join(map(read_text, page_sources(root, name)))
    shown = set(re.findall(r"^[`:]{3,}\{result-figure\}\s+(\S+)", text, flags=re.MULTILINE))
    drawn = {path.relative_to(root / "figures").as_posix() for path in (root / "figures" / name).glob("*.svg")}
    found = [f"figure {path} is drawn but on no page" for path in sorted(drawn - shown)]
    found += [f"figure {path} is on a page but not drawn" for path in sorted(shown - drawn)]
    return [*found, f"figures/{name} holds no .svg"] if has(root, name, "figures") and not drawn else found


def claims_problems(root: Path, name: str) -> list[str]:
    """Check that claims.yaml is well formed, that its primary claims have the power they need, and its sources."""
    path = root / "replications" / name / "claims.yaml"
    cited = {claim.source.bib for claim in read_claims(path)} - {None}
    files = [root / "book/references.bib", *root.glob("replications/*/references.bib")]
    known = {key for file in files for key in re.findall(r"^@\w+\{([^,\s]+),", read_text(file), flags=re.MULTILINE)}
    return [f"claims.yaml cites {key}, which is not in replications/{name}/references.bib" for key in cited - known]


def checks_problems(root: Path, name: str) -> list[str]:
    """Check that each check of the derivation decides a claim, and that each check that a claim names is there."""
    claims = read_claims(root / "replications" / name / "claims.yaml")
    tests = [test for claim in claims for test in (*claim.tests, *claim.corrected) if isinstance(test, IdentityTest)]
    named = {test.check for test in tests} - {None}
    there = set(import_module(f"replications.{name}.checks").CHECKS) if has(root, name, "checks") else set()
    return [
        *(f"claims.yaml names the check {check}, which CHECKS of checks.py does not have" for check in named - there),
        *(f"the check {check} decides no claim: name it in claims.yaml, or remove it" for check in there - named),
    ]


def posts_problems(root: Path, name: str) -> list[str]:
    """Check that about.yaml names posts of book/posts.yaml."""
    known = {post["archive"] for post in read_yaml(root / "book/posts.yaml")["posts"]}
    posts = read_yaml(root / "replications" / name / "about.yaml")["posts"]
    return [f"about.yaml names post {post}; add it to book/posts.yaml" for post in posts if post not in known]


def verdicts_problems(root: Path, name: str) -> list[str]:
    """Check that each claim is judged where it belongs, in the words of claims.yaml."""
    claims = read_claims(root / "replications" / name / "claims.yaml")
    found = []
    for file, timing in [("verdicts.json", False)] + [("timing_verdicts.json", True)] * has(root, name, "timing"):
        declared = {claim.id: claim.statement for claim in claims if (claim.kind == "timing") == timing}
        judged = {claim["id"]: claim["statement"] for claim in read_json(root / "results" / name / file)["claims"]}
        different = {key for key in declared.keys() | judged.keys() if declared.get(key) != judged.get(key)}
        found += [f"results/{name}/{file}, claim {key}: not as in claims.yaml" for key in sorted(different)]
    return found


def recomputation_problems(root: Path, name: str) -> list[str]:
    """Check that the committed verdicts are what paperkit.claims makes of the committed runs."""
    # Words exactly, numbers up to the last digits, which BLAS and vector units round differently.
    tables: dict[str, tuple[str, ...]] = {"runs.csv": ("verdicts.json", "metrics.json")}
    if has(root, name, "timing"):
        tables["timings.csv"] = ("timing_verdicts.json",)
    made = [f"results/{name}/{file}" for files in tables.values() for file in files]
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        for file in (f"replications/{name}/claims.yaml", *(f"results/{name}/{table}" for table in tables)):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            if (root / file).exists():
                shutil.copyfile(root / file, file)
        for table in tables:
            write_verdicts(name, timing=table == "timings.csv")
        recomputed = {file: read_json(Path(file)) for file in made}
    return [
        f"{file} is not what {name}'s runs and claims.yaml give, first at{path}: run `dvc repro` and commit what it "
        "changes; if it changes nothing, the file was edited by hand: `git checkout` it and run `dvc repro` again"
        for file, content in recomputed.items()
        if (path := first_difference(content, read_json(root / file)))
    ]


def first_difference(expected: Any, found: Any, path: str = "") -> str | None:
    """Say where two JSON contents differ by more than rounding."""
    if isinstance(expected, float) and isinstance(found, float):
        return None if math.isclose(expected, found, rel_tol=ROUNDING, abs_tol=NOTHING) else path
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        parts = [(expected[key], found[key], f"{path} {key}") for key in expected]
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        names = [one.get("id", number) if isinstance(one, dict) else number for number, one in enumerate(expected)]
        parts = [(*pair, f"{path}[{name}]") for *pair, name in zip(expected, found, names, strict=True)]
    else:
        return None if expected == found else path
    return next(filter(None, (first_difference(*part) for part in parts)), None)


def profile_problems(root: Path, name: str) -> list[str]:
    """Check that what is committed was run at the profile of committed results."""
    folder = root / "results" / name
    profiles = {file: {read_json(folder / file)["profile"]} for file in ("verdicts.json", "provenance.json")}
    profiles["runs.csv"] = set(read_runs(folder / "runs.csv")["profile"])
    if (folder / "trials.csv").exists():
        profiles["trials.csv"] = set(read_trials(folder / "trials.csv")["profile"])
    if has(root, name, "timing"):
        profiles["timings.csv"] = set(read_runs(folder / "timings.csv")["profile"])
        profiles["timing_verdicts.json"] = {read_json(folder / "timing_verdicts.json")["profile"]}
    return [
        f"results/{name}/{file} says profile {', '.join(sorted(found)) or 'nothing'}, not {COMMITTED_PROFILE}"
        for file, found in profiles.items()
        if found != {COMMITTED_PROFILE}
    ]


def size_problems(root: Path, name: str) -> list[str]:
    """Check that the runs stay small enough for git, and their curves coarse enough."""
    path = root / "results" / name / "runs.csv"
    runs = read_runs(path)
    by_run = runs.groupby(["experiment", "arm", "seed", "config"])["step"]
    points = {run: len(set(steps)) for run, steps in by_run}
    found = [
        f"{path.name}: {run} has {count} curve points" for run, count in points.items() if count > MAX_CURVE_POINTS
    ]
    size = path.stat().st_size
    return [*found, f"{path.name} has {size} bytes, more than {MAX_RUNS_BYTES}"] if size > MAX_RUNS_BYTES else found


def provenance_problems(root: Path, name: str) -> list[str]:
    """Check that each record belongs to the code and parameters as they are, and to the versions that it names."""
    found = []
    for path in sorted((root / "results" / name).glob("*provenance.json")):
        record = read_json(path)
        known = {dep: root / dep for dep in record["deps"] if not dep.startswith("data/")}
        changed = [
            dep
            for dep, file in known.items()
            if not file.exists() or content_hash(file, record["profile"]) != record["deps"][dep]
        ]
        if changed:
            found.append(f"results/{name}: {', '.join(changed)} changed since {path.name}; rerun {record['stage']}")
        # The record has the names of the lock, which may write POT in small letters.
        versions = {name.lower(): version for name, version in record["versions"].items()}
        numerical = {name: versions[name.lower()] for name in NUMERICAL if name.lower() in versions}
        if record["fingerprint"] != fingerprint(record["profile"], record["deps"], numerical):
            found.append(
                f"results/{name}/{path.name} was edited by hand: its fingerprint is of other code or versions"
            )
    return found


def tuning_problems(root: Path, name: str) -> list[str]:
    """Check that no tuning seed is reported, that arms chose from one list, and that what was selected was raced."""
    folder = root / "results" / name
    if not (folder / "trials.csv").exists():
        return []
    trials, runs = read_trials(folder / "trials.csv"), read_runs(folder / "runs.csv")
    found = []
    for experiment, of_search in trials.groupby("experiment"):
        shared = set(of_search["seed"]) & set(runs.loc[runs["experiment"] == experiment, "seed"])
        found += [f"results/{name}: {experiment} was tuned and is reported on seed {seed}" for seed in sorted(shared)]
        lists = {str(arm): frozenset(of_arm["config"]) for arm, of_arm in of_search.groupby("arm")}
        if len(set(lists.values())) > 1 and name not in TUNED_BEFORE_THE_RACE:
            found.append(f"results/{name}: {experiment}: the arms {', '.join(lists)} were not tuned from one list")
    if name in TUNED_BEFORE_THE_RACE:
        return found
    arm: Any  # a pair
    for arm, selected in trials[trials["selected"]].groupby(["experiment", "arm"]):
        number = len(set(selected["seed"]))
        if number < MIN_TUNING_SEEDS:
            found.append(
                f"results/{name}: {', '.join(map(str, arm))} was selected on {number} tuning seeds; a race needs three"
            )
    return found


def history_problems(root: Path, name: str) -> list[str]:
    """Check in git that every rule was committed before its first result, and stands."""
    return [] if no_history(root) else read_history(root, name).problems


def older_versions(root: Path, name: str) -> dict[str, str]:
    """Compare the versions that made a result with the lock, by name: "then -> now". To report, not to refuse."""
    pinned = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (root / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    )
    versions = read_json(root / "results" / name / "provenance.json").get("versions", {})
    return {
        library: f"{then} -> {pinned[library]}"
        for library, then in versions.items()
        if library in pinned and pinned[library] != then
    }


def orphans(root: Path) -> list[str]:
    """Name pages, results and figures whose replication is gone."""
    known = set(found_replications(root))
    known_results = known | {f"{name}_pretrained" for name in known}
    pages = (path for path in (root / "book/replications").glob("*.md") if path.stem not in known)
    folders = (path for kind in ("book/replications", "results", "figures") for path in (root / kind).glob("*/"))
    stale = [*pages, *(path for path in folders if path.name not in known_results)]
    return [f"{path.relative_to(root).as_posix()} belongs to no replication" for path in stale]


def forbidden_names(root: Path) -> list[str]:
    """Name the Python files and folders whose name says nothing."""
    paths = (
        path
        for top in ("paperkit", "build_data", "replications", "tests", "benchmarks", "book/_ext")
        for path in _code(root / top)
    )
    return sorted(path.relative_to(root).as_posix() for path in paths if FORBIDDEN_NAME.fullmatch(path.stem))


def _code(folder: Path) -> Iterator[Path]:
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return (path for path in paths if path.is_dir() or path.suffix == ".py")


# What a replication has before its first result, and what its results have to fit.
RULES: dict[str, Rule] = {
    "shape": shape_problems,
    "registration": registration_problems,
    "claims": claims_problems,
    "checks": checks_problems,
    "posts": posts_problems,
    "page": page_problems,
}
RULES_OF_RESULTS: dict[str, Rule] = {
    "results": results_problems,
    "figures": figures_problems,
    "verdicts": verdicts_problems,
    "recomputation": recomputation_problems,
    "profile": profile_problems,
    "size": size_problems,
    "provenance": provenance_problems,
    "tuning": tuning_problems,
    "history": history_problems,
}


def problems(rule: Rule, root: Path, name: str) -> list[str]:
    """Ask one rule.

    Args:
        rule: One of `RULES`, `RULES_OF_RESULTS` or those that run something.
        root: The repository.
        name: The replication.

    Returns:
        What is wrong, a sentence each; a file that is missing or damaged is one of them, not an error.
    """
    try:
        return rule(root, name)
    except (ResultsError, ConfigError, FileNotFoundError) as error:
        return [str(error).replace(f"{root}/", "")]
    except Exception as error:  # whatever a replication's own code raises is for its author to read
        return [f"this could not be checked: {type(error).__name__}: {error}"]


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
    _make_small_data(root / "data", folder / "data")
    for step in _smoke_steps(root, name):
        done = _python(folder, *step)
        if done.returncode:
            return [f"`python -m {' '.join(step)}` fails: {_cause(done.stderr)}"]
    found = [
        f"claim {claim['id']} is {claim['verdict']!r} at smoke scale: let its `profile` in claims.yaml be cpu"
        for claim in read_json(folder / f"results/{name}/verdicts.json")["claims"]
        if claim["kind"] == "experiment" and claim["verdict"] != "not tested at this scale"
    ]
    if has(root, name, "figures") and not list((folder / "figures" / name).glob("*.svg")):
        found.append("figures.py draws no .svg from results at smoke scale")
    if (folder / ".paperkit/runs" / name).exists():
        found.append("the stage has ended and kept its runs: let experiment.py call paperkit.stage.main")
    return found


def _smoke_steps(root: Path, name: str) -> Iterator[tuple[str, ...]]:
    out = ("--profile", "smoke", "--out", f"results/{name}")
    yield (f"replications.{name}.experiment", *out)
    yield ("paperkit.claims", name)
    if has(root, name, "timing"):
        yield (f"replications.{name}.timing", *out)
        yield ("paperkit.claims", name, "--timing")
    if has(root, name, "figures"):
        yield (f"replications.{name}.figures",)


def _make_small_data(source: Path, target: Path) -> None:
    """Link the tables; of the speeches take every tenth: training a tokenizer on all takes twice as long."""
    target.mkdir()
    for table in source.glob("*.parquet"):
        if table.stem != "sotu":
            (target / table.name).symlink_to(table.resolve())
    if not (source / "sotu.parquet").exists():
        return
    few = pd.concat([read_table("sotu", source, split=split).iloc[::10] for split in SPLITS])
    write_table("sotu", few.to_dict("records"), target)


def _run_suite(root: Path, name: str) -> subprocess.CompletedProcess[str]:
    quiet = ("-q", "--tb=no", "-p", "no:cacheprovider", "--durations=3", "--durations-min=0.5")
    return _python(root, "pytest", f"replications/{name}", *quiet)


def _failures(done: subprocess.CompletedProcess[str]) -> list[str]:
    if done.returncode == 0:
        return []
    failed = re.findall(r"^(?:FAILED|ERROR) (.+)", done.stdout, flags=re.MULTILINE)
    return [f"a test fails: {line}" for line in failed] or [f"pytest stops: {_cause(done.stderr + done.stdout)}"]


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # One worker, since the other core runs the tests; wide, since pytest cuts its lines at the width of the terminal.
    environment = {**os.environ, "TQDM_DISABLE": "1", "LOKY_MAX_CPU_COUNT": "1", "COLUMNS": "500"}
    command = [sys.executable, "-m", *arguments]
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
        done = _python(root, module, *options, folder)
        found += [line for line in (done.stdout + done.stderr).splitlines() if line]
    done = _python(root, "basedpyright", folder)
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
    has_results = (root / "results" / name).is_dir()
    # In a process of their own, on a second core, whose children's processor time is theirs alone.
    with ProcessPoolExecutor(max_workers=1) as pool:
        slow_rules = SLOW_RULES if has_results else SLOW_RULES_OF_A_DRAFT
        slow = {what: pool.submit(_measured, rule, root, name) for what, rule in slow_rules.items()}
        number = _tell(say, "style and types", problems(style_problems, root, name))
        rules = RULES | (RULES_OF_RESULTS if has_results else {})
        number += sum(_tell(say, what, problems(rule, root, name)) for what, rule in rules.items())
        before = _cpu_s_of_children()
        suite = _run_suite(root, name)
        cpu_s = {"tests": _cpu_s_of_children() - before}
        number += _tell(say, "tests", _failures(suite))
        for what, running in slow.items():
            cpu_s[what], found = running.result()
            number += _tell(say, what, found)
    number += _tell(say, "processor time", _cost_problems(root, name, cpu_s, suite.stdout), _listed(cpu_s))
    if not has_results:
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
    size = "large" if any((folder / part).is_dir() for part in ("studies", "tasks")) else "small"
    share, most = sum(cpu_s.values()) - STARTING_CPU_S, MAX_CPU_S[size]
    if share <= most:
        return []
    slowest = re.findall(r"^([\d.]+s) (?:call|setup) +(.+)", report, flags=re.MULTILINE)
    tests = "; ".join(f"{seconds} {test}" for seconds, test in slowest) or "none above 0.5 s"
    return [
        f"{_listed(cpu_s)}: {share:.0f} s of one core beyond starting the programs; at most {most} for a {size} "
        f"replication: let the smoke block of params.yaml do less, or mark slow tests `soak` (slowest: {tests})"
    ]


def _tell(say: Callable[[str], object], what: str, found: list[str], fine: str = "complete") -> int:
    say(f"{what}: {fine if not found else ''}".rstrip())
    for problem in found:
        say("  - " + problem.replace("\n", "\n    "))
    return len(found)

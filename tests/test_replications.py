"""What holds for every replication: found on disk, so that none is forgotten and none has to be listed here.

A check is a function of a repository's root and a replication's name that returns what is wrong. Each is run on the
committed tree, and on a toy repository that is broken on purpose.
"""

import math
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

import replications
from paperkit.claims.declarations import read_claims
from paperkit.claims.verdicts import write_verdicts
from paperkit.config import ConfigError, read_yaml
from paperkit.history import no_history, read_history
from paperkit.provenance import code_hash, content_hash, file_md5, fingerprint
from paperkit.results import (
    ResultsError,
    read_json,
    read_runs,
    read_trials,
    write_costs,
    write_json,
    write_runs,
    write_trials,
)
from tests.tiny_repository import commit

ROOT = Path(__file__).resolve().parents[1]
COMMITTED_PROFILE = "cpu"
MAX_RUNS_BYTES = 2_000_000
MAX_CURVE_POINTS = 50
# A machine's BLAS and vector units move the last digits of a statistic, and an end of an interval may lie near zero.
ROUNDING, NOTHING = 1e-9, 1e-12
FILES = ("__init__.py", "README.md", "claims.yaml", "experiment.py", "params.yaml", "estimands.py")
ROLES = ("experiment", "timing", "pretrained", "estimands", "figures", "__init__")
RESULTS = ("runs.csv", "metrics.json", "verdicts.json", "provenance.json", "costs.csv")
TIMING_RESULTS = ("timings.csv", "timing_verdicts.json", "timing_provenance.json")
MIN_TUNING_SEEDS = 3
# Tuned on one seed before the race was the rule; a claim of theirs that is judged again is tuned by a race.
TUNED_ON_ONE_SEED = ("lion", "shared_embeddings")
FORBIDDEN_NAME = re.compile(r"(utils?|helpers?|misc|common|base|managers?)|.+_(utils?|helpers?|misc|v\d+)")
Check = Callable[[Path, str], list[str]]


def found_replications(root: Path) -> list[str]:
    """Name the folders of replications/ that hold anything but bytecode (an `__init__.py` may be what is missing)."""
    folders = (path for path in sorted((root / "replications").glob("*/")) if path.name != "__pycache__")
    return [folder.name for folder in folders if any("__pycache__" not in path.parts for path in folder.glob("*.*"))]


def has(root: Path, name: str, role: str) -> bool:
    """Say whether a replication has one of the optional modules."""
    return (root / "replications" / name / f"{role}.py").exists()


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


def registration_problems(root: Path, name: str) -> list[str]:
    """Check the entries in params.yaml and the stages in dvc.yaml."""
    lists, stages = read_yaml(root / "params.yaml"), read_yaml(root / "dvc.yaml")["stages"]
    entries = {"replications": (True, name)}
    for role, entry in (("timing", "timed"), ("pretrained", "pretrained")):
        entries[entry] = (has(root, name, role), f"{name}_{role}")
    found = []
    for entry, (expected, _) in [*entries.items(), ("drawn", (has(root, name, "figures"), ""))]:
        if (name in lists[entry]) != expected:
            found.append(f"params.yaml, list {entry}: {name} {'is missing' if expected else 'has no module for it'}")
    for expected, stage in entries.values():
        if (stage in stages) != expected:
            found.append(f"dvc.yaml: stage {stage} {'is missing' if expected else 'has no module'}")
    return found


def page_problems(root: Path, name: str) -> list[str]:
    """Check that the page is there and in the table of contents."""
    found = missing(root, "book/replications", (f"{name}.md",))
    if f"replications/{name}" not in set(_listed_pages(read_yaml(root / "book/_toc.yml"))):
        found.append(f"book/_toc.yml does not list replications/{name}")
    return found


def _listed_pages(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from (node[key] for key in ("root", "file") if key in node)
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _listed_pages(child)


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
    """Check that every figure is on the page, and that every figure of the page is drawn."""
    page = root / "book/replications" / f"{name}.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    shown = set(re.findall(r"^[`:]{3,}\{result-figure\}\s+(\S+)", text, flags=re.MULTILINE))
    drawn = {path.relative_to(root / "figures").as_posix() for path in (root / "figures" / name).glob("*.svg")}
    found = [f"figure {path} is drawn but not on the page" for path in sorted(drawn - shown)]
    found += [f"figure {path} is on the page but not drawn" for path in sorted(shown - drawn)]
    return [*found, f"figures/{name} holds no .svg"] if has(root, name, "figures") and not drawn else found


def claims_problems(root: Path, name: str) -> list[str]:
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
    """Check that the committed verdicts are what paperkit.claims makes of the committed runs: words exactly, numbers
    up to the last digits, which BLAS and vector units round differently.
    """
    tables = {"runs.csv": ("verdicts.json", "metrics.json")}
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
    points = runs.groupby(["experiment", "arm", "seed", "config"])["step"].nunique()
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
        if record["fingerprint"] != fingerprint(record["profile"], record["deps"], record["versions"]):
            found.append(
                f"results/{name}/{path.name} was edited by hand: its fingerprint is of other code or versions"
            )
    return found


def tuning_problems(root: Path, name: str) -> list[str]:
    """Check that no tuning seed is reported, and that what was selected was raced."""
    folder = root / "results" / name
    if not (folder / "trials.csv").exists():
        return []
    trials, runs = read_trials(folder / "trials.csv"), read_runs(folder / "runs.csv")
    found = []
    for experiment, of_search in trials.groupby("experiment"):
        shared = set(of_search["seed"]) & set(runs.loc[runs["experiment"] == experiment, "seed"])
        found += [f"results/{name}: {experiment} was tuned and is reported on seed {seed}" for seed in sorted(shared)]
    for (experiment, arm), selected in trials[trials["selected"]].groupby(["experiment", "arm"]):
        number = selected["seed"].nunique()
        if number < MIN_TUNING_SEEDS and name not in TUNED_ON_ONE_SEED:
            found.append(
                f"results/{name}: {experiment}, {arm} was selected on {number} tuning seeds; a race needs three"
            )
    return found


def history_problems(root: Path, name: str) -> list[str]:
    """Check in git that every rule was committed before its first result, and stands."""
    reason = no_history(root)
    if reason:
        pytest.skip(f"not checked: {reason}")
    return read_history(root, name).problems


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
    """Name entries, pages, results and figures whose replication is gone."""
    lists, known = read_yaml(root / "params.yaml"), set(found_replications(root))
    known_results = known | {f"{name}_pretrained" for name in known}
    found = [
        f"params.yaml, list {entry}: {name} has no folder"
        for entry in ("replications", "drawn", "timed", "pretrained")
        for name in lists[entry]
        if name not in known
    ]
    pages = (path for path in (root / "book/replications").glob("*.md") if path.stem not in known)
    folders = (path for kind in ("results", "figures") for path in (root / kind).glob("*/"))
    stale = [*pages, *(path for path in folders if path.name not in known_results)]
    return found + [f"{path.relative_to(root).as_posix()} belongs to no replication" for path in stale]


def forbidden_names(root: Path) -> list[str]:
    """Name the Python files and folders whose name says nothing."""
    paths = (
        path for top in ("paperkit", "replications", "tests", "benchmarks", "book/_ext") for path in _code(root / top)
    )
    return sorted(path.relative_to(root).as_posix() for path in paths if FORBIDDEN_NAME.fullmatch(path.stem))


def _code(folder: Path) -> Iterator[Path]:
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return (path for path in paths if path.is_dir() or path.suffix == ".py")


CHECKS: dict[str, Check] = {
    "shape": shape_problems,
    "registration": registration_problems,
    "page": page_problems,
    "results": results_problems,
    "figures": figures_problems,
    "claims": claims_problems,
    "recomputation": recomputation_problems,
    "profile": profile_problems,
    "size": size_problems,
    "provenance": provenance_problems,
    "tuning": tuning_problems,
    "history": history_problems,
}


def problems(check: str, root: Path, name: str) -> list[str]:
    """Run one check; a file that is missing or damaged is a problem, not an error of the test."""
    try:
        return CHECKS[check](root, name)
    except (ResultsError, ConfigError) as error:
        return [str(error)]


@pytest.mark.parametrize("name", found_replications(ROOT))
@pytest.mark.parametrize("check", CHECKS)
def test_every_replication_is_complete_and_consistent(check, name):
    assert problems(check, ROOT, name) == []


def test_a_replication_is_found():
    assert found_replications(ROOT)


def test_nothing_belongs_to_a_replication_that_is_gone():
    assert orphans(ROOT) == []


def test_no_file_has_a_name_that_says_nothing():
    assert forbidden_names(ROOT) == []


@pytest.mark.parametrize("name", found_replications(ROOT))
def test_results_from_older_versions_are_reported(name, record_property):
    older = older_versions(ROOT, name)
    record_property("older_versions", older)
    print(f"{name}: {older or 'made with the versions of the lock'}")


# --- the same checks on a toy repository, whole and broken --------------------------------------------------------

TOY = {
    "params.yaml": "profile: cpu\nreplications: [toy]\ndrawn: [toy]\ntimed: [toy]\npretrained: []\n",
    "dvc.yaml": "stages:\n  toy: {cmd: a}\n  toy_timing: {cmd: b}\n",
    "requirements.lock": "numpy==2.4.6 \\\n    --hash=sha256:0\n",
    "book/_toc.yml": "root: index\nparts:\n- chapters:\n  - file: replications/toy\n",
    "book/replications/toy.md": "# Toy\n\n```{result-figure} toy/gap.svg\n:name: gap\nCaption.\n```\n",
    "figures/toy/gap.svg": "<svg/>\n",
    "paperkit/runs.py": "",
    "replications/__init__.py": "",
    **{f"replications/toy/{file}": "" for file in ("__init__.py", "README.md", "experiment.py", "figures.py")},
    **{f"replications/toy/{file}": "" for file in ("timing.py", "mean.py", "test_mean.py")},
    "replications/toy/params.yaml": "smoke: {steps: 1}\ncpu: {steps: 2}\n",
    "replications/toy/timing.yaml": "smoke: {rounds: 1}\ncpu: {rounds: 2}\n",
    "replications/toy/estimands.py": (
        "def gap(runs):\n"
        "    table = runs[runs['step'] == 2].pivot(index='seed', columns='arm', values='value')\n"
        "    return table['new'] - table['old']\n"
    ),
    "replications/toy/claims.yaml": "schema: 1\nclaims:\n"
    + "".join(
        f"- {{id: {key}, statement: {key} is so., source: {{bib: null, where: ours}}, kind: {kind},\n"
        f"   family: {family}, reported: {{value: null, unit: null, unverified: false}}, profile: cpu, min_seeds: 5,\n"
        "   tests: [{estimand: gap, rule: greater, bound: 0, margin: 0.1, unit: nats, pilot_sd: 0.02}]}\n"
        for key, kind, family in (("X1", "experiment", "primary"), ("X2", "timing", "null"))
    ),
}


def rows(profile: str = "cpu", points: int = 2) -> list[dict[str, Any]]:
    """Make runs of two arms and five seeds, in which the new arm is better by 1 on average."""
    return [
        {"profile": profile, "experiment": "quality", "arm": arm, "seed": seed, "config": {}, "split": "test"}
        | {"step": step, "metric": "score", "value": gain + seed * (0.1 + 0.01 * gain), "status": "ok"}
        for arm, gain in (("old", 0.0), ("new", 1.0))
        for seed in range(5)
        for step in range(1, points + 1)
    ]


def trials(seeds: tuple[int, ...] = (1000, 1001, 1002), experiment: str = "quality") -> list[dict[str, Any]]:
    """Make the ledger of a search with one trial, selected on these seeds."""
    return [
        {"profile": "cpu", "experiment": experiment, "arm": "new", "trial": 0, "seed": seed, "config": {}}
        | {"metric": "score", "value": 1.0, "status": "ok", "selected": True, "at_edge": False}
        for seed in seeds
    ]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with one replication, complete and consistent."""
    root = tmp_path_factory.mktemp("toy")
    for file, text in TOY.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text, encoding="utf-8")
    commit(root)
    results = root / "results/toy"
    write_runs(results / "runs.csv", rows())
    write_runs(results / "timings.csv", rows())
    write_trials(results / "trials.csv", trials())
    write_costs(results / "costs.csv", [])
    for file, tables in (
        ("provenance.json", ("runs.csv", "trials.csv")),
        ("timing_provenance.json", ("timings.csv",)),
    ):
        deps = {"replications/toy/mean.py": code_hash(root / "replications/toy/mean.py"), "data/text.parquet": "0a"}
        versions = {"numpy": "2.4.6"}
        record = {"stage": "toy", "profile": "cpu", "versions": versions, "deps": deps}
        outs = {table: file_md5(results / table) for table in tables}
        write_json(results / file, record | {"fingerprint": fingerprint("cpu", deps, versions), "outs": outs})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replications, "__path__", [*replications.__path__, str(root / "replications")])
        with chdir(root):
            write_verdicts("toy", timing=False)
            write_verdicts("toy", timing=True)
        commit(root)
        yield root
    for module in ("replications.toy", "replications.toy.estimands"):
        sys.modules.pop(module)


@pytest.fixture
def broken(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy repository that a test may break."""
    return Path(shutil.copytree(toy, tmp_path / "toy"))


def remove(*files: str) -> Callable[[Path], None]:
    """Make a break that removes files."""
    return lambda root: [(root / file).unlink() for file in files]


def change(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Make a break that changes a text."""

    def apply(root: Path) -> None:
        text = (root / file).read_text(encoding="utf-8")
        assert old in text
        (root / file).write_text(text.replace(old, new), encoding="utf-8")

    return apply


def write(file: str, text: str = "") -> Callable[[Path], None]:
    """Make a break that adds a file."""

    def apply(root: Path) -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text, encoding="utf-8")

    return apply


def rerun(file: str, **settings: Any) -> Callable[[Path], None]:
    """Make a break that replaces a table of measurements."""
    return lambda root: write_runs(root / "results/toy" / file, rows(**settings))


def retrial(seeds: tuple[int, ...]) -> Callable[[Path], None]:
    """Make a break that replaces the ledger."""
    return lambda root: write_trials(root / "results/toy/trials.csv", trials(seeds))


def move_estimate(factor: float) -> Callable[[Path], None]:
    """Make a break that multiplies the committed estimate."""

    def apply(root: Path) -> None:
        verdicts = read_json(root / "results/toy/verdicts.json")
        verdicts["claims"][0]["tests"][0]["estimate"] *= factor
        write_json(root / "results/toy/verdicts.json", verdicts)

    return apply


BREAKS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    **{f"no {file}": ("shape", remove(f"replications/toy/{file}"), f"{file} is missing") for file in FILES},
    "no timing.yaml": ("shape", remove("replications/toy/timing.yaml"), "timing.yaml is missing"),
    "no pretrained claims": ("shape", write("replications/toy/pretrained.py"), "claims_pretrained.yaml is missing"),
    "no algorithm": ("shape", remove("replications/toy/mean.py"), "no <algorithm>.py"),
    "no test of the algorithm": ("shape", remove("replications/toy/test_mean.py"), "no <algorithm>.py"),
    "no smoke block": ("shape", change("replications/toy/params.yaml", "smoke:", "tiny:"), "no block smoke"),
    "no cpu block": ("shape", change("replications/toy/timing.yaml", "cpu:", "gpu:"), "no block cpu"),
    "no list entry": (
        "registration",
        change("params.yaml", "replications: [toy]", "replications: []"),
        "list replications",
    ),
    "not listed as timed": ("registration", change("params.yaml", "timed: [toy]", "timed: []"), "list timed"),
    "timed without a clock": ("registration", remove("replications/toy/timing.py"), "has no module"),
    "pretrained not listed": (
        "registration",
        write("replications/toy/pretrained.py"),
        "stage toy_pretrained is missing",
    ),
    "no stage": ("registration", change("dvc.yaml", "toy:", "other:"), "stage toy is missing"),
    "no timing stage": ("registration", change("dvc.yaml", "toy_timing:", "other:"), "stage toy_timing is missing"),
    "no page": ("page", remove("book/replications/toy.md"), "toy.md is missing"),
    "page not in the contents": (
        "page",
        change("book/_toc.yml", "replications/toy", "replications/other"),
        "_toc.yml",
    ),
    **{
        f"no {file}": ("results", remove(f"results/toy/{file}"), f"{file} is missing")
        for file in RESULTS + TIMING_RESULTS
    },
    "a figure nobody sees": ("figures", write("figures/toy/extra.svg"), "not on the page"),
    "a figure that is not drawn": ("figures", remove("figures/toy/gap.svg"), "not drawn"),
    "no figure at all": ("figures", remove("figures/toy/gap.svg", "book/replications/toy.md"), "holds no .svg"),
    "a claim reworded later": (
        "claims",
        change("replications/toy/claims.yaml", "X1 is so", "X1 is not so"),
        "claim X1",
    ),
    "a claim added later": ("claims", change("results/toy/verdicts.json", '"X1"', '"X3"'), "claim X1"),
    "a timing claim reworded": ("claims", change("replications/toy/claims.yaml", "X2 is so", "X2 was so"), "claim X2"),
    "an experiment called timing": (
        "claims",
        change("replications/toy/claims.yaml", "experiment", "timing"),
        "claim X1",
    ),
    "a verdict typed by hand": (
        "recomputation",
        change("results/toy/verdicts.json", '"holds"', '"contradicted"'),
        "first at claims[X1] verdict",
    ),
    "a timing verdict typed by hand": (
        "recomputation",
        change("results/toy/timing_verdicts.json", '"holds"', '"contradicted"'),
        "timing_verdicts.json is not what",
    ),
    "a metric typed by hand": (
        "recomputation",
        change("results/toy/metrics.json", '"n": 5', '"n": 6'),
        "metrics.json is not what",
    ),
    "a statistic moved by more than rounding": ("recomputation", move_estimate(1 + 1e-8), "tests[0] estimate"),
    "runs typed by hand": (
        "recomputation",
        change("results/toy/runs.csv", "test,2,score,1.0,ok", "test,2,score,1.5,ok"),
        "verdicts.json is not what",
    ),
    "a rule changed after the verdict": (
        "recomputation",
        change("replications/toy/claims.yaml", "margin: 0.1", "margin: 5"),
        "verdicts.json is not what",
    ),
    "no runs to recompute from": ("recomputation", remove("results/toy/runs.csv"), "runs.csv is missing"),
    "smoke runs committed": ("profile", rerun("runs.csv", profile="smoke"), "runs.csv says profile smoke"),
    "smoke timings committed": ("profile", rerun("timings.csv", profile="smoke"), "timings.csv says profile smoke"),
    "smoke verdicts committed": (
        "profile",
        change("results/toy/verdicts.json", '"profile": "cpu"', '"profile": "smoke"'),
        "verdicts.json says profile smoke",
    ),
    "smoke provenance committed": (
        "profile",
        change("results/toy/provenance.json", '"profile": "cpu"', '"profile": "smoke"'),
        "provenance.json says profile smoke",
    ),
    "a curve too fine": ("size", rerun("runs.csv", points=MAX_CURVE_POINTS + 1), "51 curve points"),
    "runs too large": (
        "size",
        change("results/toy/runs.csv", "\n", "\n" * (MAX_RUNS_BYTES // 20)),
        "more than 2000000",
    ),
    "a criterion moved after its result": (
        "history",
        change("replications/toy/claims.yaml", "margin: 0.1", "margin: 5"),
        "claim X1: the rule as of",
    ),
    "a table edited by hand": (
        "results",
        change("results/toy/trials.csv", "score,1.0", "score,2.0"),
        "trials.csv is not what provenance.json says",
    ),
    "a table that is gone": ("results", remove("results/toy/trials.csv"), "trials.csv is not what"),
    "a table of no stage": ("results", write("results/toy/more.csv"), "more.csv is of no stage"),
    "code changed since": ("provenance", write("replications/toy/mean.py", "x = 1\n"), "mean.py changed since"),
    "code that is gone": ("provenance", remove("replications/toy/mean.py"), "mean.py changed since"),
    "versions edited by hand": (
        "provenance",
        change("results/toy/provenance.json", '"numpy": "2.4.6"', '"numpy": "2.4.5"'),
        "was edited by hand",
    ),
    "a tuning seed reported": ("tuning", retrial((0, 1001, 1002)), "reported on seed 0"),
    "selected on too few seeds": ("tuning", retrial((1000, 1001)), "selected on 2 tuning seeds"),
    "not listed as drawn": ("registration", change("params.yaml", "drawn: [toy]", "drawn: []"), "list drawn"),
}


@pytest.mark.parametrize("check", CHECKS)
def test_the_toy_repository_passes(check, toy):
    assert problems(check, toy, "toy") == []


@pytest.mark.parametrize("case", BREAKS)
def test_what_is_broken_on_purpose_is_found(case, broken):
    check, break_it, message = BREAKS[case]
    break_it(broken)
    assert any(message in problem for problem in problems(check, broken, "toy"))


def test_every_check_is_broken_on_purpose():
    assert {check for check, _, _ in BREAKS.values()} == set(CHECKS)


def test_the_last_digits_of_a_statistic_may_differ_between_machines(broken):
    move_estimate(1 + 1e-12)(broken)
    assert recomputation_problems(broken, "toy") == []


def test_a_replication_of_derivations_alone_needs_neither_figure_nor_ledger(broken):
    remove("replications/toy/figures.py", "figures/toy/gap.svg", "results/toy/trials.csv")(broken)
    change("params.yaml", "drawn: [toy]", "drawn: []")(broken)
    change("book/replications/toy.md", "{result-figure} toy/gap.svg", "{note}")(broken)
    record = read_json(broken / "results/toy/provenance.json")
    write_json(broken / "results/toy/provenance.json", record | {"outs": {"runs.csv": record["outs"]["runs.csv"]}})
    assert [problem for check in CHECKS for problem in problems(check, broken, "toy")] == []


def test_a_comment_leaves_a_record_as_good_as_it_was(broken):
    write("replications/toy/mean.py", '"""What it is."""\n# Why.\n')(broken)
    assert provenance_problems(broken, "toy") == []


def test_a_seed_that_another_experiment_was_tuned_on_may_be_reported(broken):
    write_trials(broken / "results/toy/trials.csv", trials((0, 1, 2), experiment="another"))
    assert tuning_problems(broken, "toy") == []


def test_a_curve_of_fifty_points_is_allowed(broken):
    rerun("runs.csv", points=MAX_CURVE_POINTS)(broken)
    assert size_problems(broken, "toy") == []


def test_a_folder_without_an_init_file_is_found_and_one_of_bytecode_is_not(broken):
    write("replications/new/loss.py")(broken)
    write("replications/gone/__pycache__/loss.cpython-311.pyc")(broken)
    write("replications/__pycache__/old.cpython-311.pyc")(broken)
    assert found_replications(broken) == ["new", "toy"]


@pytest.mark.parametrize(
    "break_it",
    [
        change("params.yaml", "[toy]", "[toy, ghost]"),
        write("book/replications/ghost.md"),
        write("results/ghost/runs.csv"),
        write("figures/ghost/gap.svg"),
    ],
    ids=["list", "page", "results", "figures"],
)
def test_leftovers_of_a_replication_are_found(break_it, broken):
    assert orphans(broken) == []
    break_it(broken)
    assert any("ghost" in problem for problem in orphans(broken))


@pytest.mark.parametrize(
    "file",
    [
        "paperkit/utils.py",
        "paperkit/manager.py",
        "paperkit/text_utils.py",
        "replications/toy/base.py",
        "replications/toy/loss_v2.py",
        "replications/toy/helpers/loss.py",
        "tests/common.py",
        "benchmarks/misc.py",
    ],
)
def test_a_name_that_says_nothing_is_found(file, broken):
    assert forbidden_names(broken) == []
    write(file)(broken)
    assert len(forbidden_names(broken)) == 1


@pytest.mark.parametrize(
    ("expected", "found", "where"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0 + 1e-11]}, None),
        ({"low": 3e-17}, {"low": -2e-17}, None),
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0 + 1e-8]}, " a[1]"),
        ({"a": [1.0]}, {"a": [1.0, 2.0]}, " a"),
        ({"a": None}, {"a": 1.0}, " a"),
        ({"n": 5}, {"n": 6}, " n"),
        (
            {"claims": [{"id": "C1", "verdict": "holds"}]},
            {"claims": [{"id": "C1", "verdict": "Holds"}]},
            " claims[C1] verdict",
        ),
    ],
)
def test_numbers_are_compared_up_to_rounding_and_words_exactly(expected, found, where):
    assert first_difference(expected, found) == where


def test_an_older_version_is_reported(broken):
    assert older_versions(broken, "toy") == {}
    change("requirements.lock", "2.4.6", "2.5.0")(broken)
    assert older_versions(broken, "toy") == {"numpy": "2.4.6 -> 2.5.0"}

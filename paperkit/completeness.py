"""What makes a replication complete: rules that `make check` asks, and the test suite of every replication.

A rule is a function of the repository's root and the name of a replication, or of one of its folders of results, that
says, a sentence each, what is wrong.
"""

import hashlib
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir
from importlib import import_module
from pathlib import Path
from typing import Any

from paperkit.answers import read_about, record_of, words_that_can_come
from paperkit.claims.declarations import read_claims
from paperkit.claims.rules import IdentityTest
from paperkit.claims.verdicts import SUPERSEDED, write_verdicts
from paperkit.config import ConfigError, read_yaml
from paperkit.history import committed, decoded, no_history, read_history
from paperkit.pages import SECTIONS, page_sources
from paperkit.pipeline import TRAINS, found_replications, has, read_text, written_files
from paperkit.prediction import IDENTICAL, outcome_of
from paperkit.profiles import ABOVE, PROFILES, replication_and_profile, results_name
from paperkit.provenance import NUMERICAL, content_hash, file_md5, fingerprint
from paperkit.results import ResultsError, read_json, read_runs, read_trials

MAX_RUNS_BYTES = 3_000_000  # git keeps a twentieth of that
MAX_CURVE_POINTS = 50
# A machine's BLAS and vector units move the last digits of a statistic, and an end of an interval may lie near zero.
ROUNDING, NOTHING = 1e-9, 1e-12
FILES = ("__init__.py", "about.yaml", "claims.yaml", "experiment.py", "params.yaml")
ROLES = (*TRAINS, "estimands", "figures", "__init__")
RESULTS = ("runs.csv", "metrics.json", "verdicts.json", "provenance.json", "costs.csv")
TIMING_RESULTS = ("timings.csv", "timing_verdicts.json", "timing_provenance.json")
MIN_TUNING_SEEDS = 3
# What these methods are forbids one list; theirs is as long. One beta: as many as the others have pairs, at the same
# other settings. A density that is no Gaussian mixture: it has neither components nor a floor of variances.
WITH_A_LIST_OF_THEIR_OWN = {
    "lion": ("signum", "tiger"),
    "fourier_density": ("fourier_linear", "fourier_tanh", "adam_linear", "kde"),
}
FORBIDDEN_NAME = re.compile(r"(utils?|helpers?|misc|common|base|managers?)|.+_(utils?|helpers?|misc|v\d+)")
Rule = Callable[[Path, str], list[str]]


def missing(root: Path, folder: str, names: tuple[str, ...]) -> list[str]:
    """Name the files that a folder lacks."""
    return [f"{folder}/{name} is missing" for name in names if not (root / folder / name).is_file()]


def shape_problems(root: Path, name: str) -> list[str]:
    """Check the folder: its files, an algorithm with a test, both profiles that are needed."""
    folder = root / "replications" / name
    found = missing(root, f"replications/{name}", FILES + ("timing.yaml",) * has(root, name, "timing"))
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


def has_timings(root: Path, name: str) -> bool:
    """Say whether a folder of results has clock readings, or should have them."""
    return has(root, name, "timing") or (root / "results" / name / TIMING_RESULTS[0]).is_file()


def results_problems(root: Path, name: str) -> list[str]:
    """Check that the results are committed, and that each table is as its stage has written it."""
    found = missing(root, f"results/{name}", RESULTS + TIMING_RESULTS * has_timings(root, name))
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
    known = made | {*RESULTS, *TIMING_RESULTS, SUPERSEDED}
    return found + [
        f"results/{name}/{path.name} is of no stage: remove it" for path in folder.iterdir() if path.name not in known
    ]


def figures_problems(root: Path, name: str) -> list[str]:
    """Check that every figure is on a page of the replication, and that every figure there is drawn."""
    replication, _ = replication_and_profile(name)
    text = "\n".join(map(read_text, page_sources(root, replication)))
    shown = set(re.findall(rf"^[`:]{{3,}}\{{result-figure\}}\s+({name}/\S+)", text, flags=re.MULTILINE))
    drawn = {path.relative_to(root / "figures").as_posix() for path in (root / "figures" / name).glob("*.svg")}
    found = [f"figure {path} is drawn but on no page" for path in sorted(drawn - shown)]
    found += [f"figure {path} is on a page but not drawn" for path in sorted(shown - drawn)]
    return [*found, f"figures/{name} holds no .svg"] if has(root, replication, "figures") and not drawn else found


def claims_problems(root: Path, name: str) -> list[str]:
    """Check that claims.yaml is well formed, that primary claims have power and variations, and its sources."""
    path = root / "replications" / name / "claims.yaml"
    claims = read_claims(path)
    cited = {claim.source.bib for claim in claims} - {None}
    files = [root / "book/references.bib", *root.glob("replications/*/references.bib")]
    known = {key for file in files for key in re.findall(r"^@\w+\{([^,\s]+),", read_text(file), flags=re.MULTILINE)}
    lone = [claim.id for claim in claims if claim.is_primary and not claim.robustness]
    return [
        *(f"claims.yaml cites {key}, which is not in replications/{name}/references.bib" for key in cited - known),
        *(f"the primary claim {key} has no key 'robustness'; say what could turn its verdict" for key in lone),
    ]


def tolerances(root: Path, name: str) -> dict[str, float]:
    """Read the tolerance of each check of the derivation that a claim names."""
    claims = read_claims(root / "replications" / name / "claims.yaml")
    tests = [test for claim in claims for test in (*claim.tests, *claim.corrected) if isinstance(test, IdentityTest)]
    return {test.check: test.tolerance for test in tests if test.check}


def checks_problems(root: Path, name: str) -> list[str]:
    """Check that each check of the derivation decides a claim, and that each check that a claim names is there."""
    named = tolerances(root, name).keys()
    there = set(import_module(f"replications.{name}.checks").CHECKS) if has(root, name, "checks") else set()
    return [
        *(f"claims.yaml names the check {check}, which CHECKS of checks.py does not have" for check in named - there),
        *(f"the check {check} decides no claim: name it in claims.yaml, or remove it" for check in there - named),
    ]


def about_problems(root: Path, name: str) -> list[str]:
    """Check that about.yaml names posts of book/posts.yaml, and says of each primary claim what a word would mean."""
    known = {post["archive"] for post in read_yaml(root / "book/posts.yaml")["posts"]}
    about = read_about(root, name)
    claims = read_claims(root / "replications" / name / "claims.yaml")
    records = {claim.id: claim.model_dump(include={"id", "superseded_by"}, exclude_none=True) for claim in claims}
    said = {record_of(records, key)["id"]: set(words) for key, words in about["claims"].items() if key in records}
    found = [f"names post {post}; add it to book/posts.yaml" for post in about["posts"] if post not in known]
    found += [f"speaks of claim {key}, which claims.yaml lacks" for key in about["claims"] if key not in records]
    for claim in claims:
        words, needed = said.get(claim.id, set()), {"claim", "number", *words_that_can_come(claim)}
        if claim.is_primary:
            found += [f"has no {word!r} for claim {claim.id}" for word in sorted(needed - words)]
            found += [
                f"has {word!r} for claim {claim.id}, whose rule cannot give it" for word in sorted(words - needed)
            ]
    return [f"about.yaml {problem}" for problem in found]


def verdicts_problems(root: Path, name: str) -> list[str]:
    """Check that each claim is judged where it belongs, in the words of claims.yaml."""
    replication, profile = replication_and_profile(name)
    claims = read_claims(root / "replications" / replication / "claims.yaml")
    found = []
    for file, timing in [("verdicts.json", False)] + [("timing_verdicts.json", True)] * has_timings(root, name):
        declared = {claim.id: claim.statement for claim in claims if (claim.kind == "timing") == timing}
        judged = {claim["id"]: claim["statement"] for claim in read_json(root / "results" / name / file)["claims"]}
        # Above the committed profile those without runs are left out; the recomputation says which.
        known = judged.keys() if profile in ABOVE else declared.keys() | judged.keys()
        different = {key for key in known if declared.get(key) != judged.get(key)}
        found += [f"results/{name}/{file}, claim {key}: not as in claims.yaml" for key in sorted(different)]
    return found


def recomputation_problems(root: Path, name: str) -> list[str]:
    """Check that the committed verdicts are what paperkit.claims makes of the committed runs."""
    # Words exactly, numbers up to the last digits, which BLAS and vector units round differently.
    tables: dict[str, tuple[str, ...]] = {"runs.csv": ("verdicts.json", "metrics.json")}
    if has_timings(root, name):
        tables["timings.csv"] = ("timing_verdicts.json",)
    claims = f"replications/{replication_and_profile(name)[0]}/claims.yaml"
    made = [f"results/{name}/{file}" for files in tables.values() for file in files]
    read = ["trials.csv", *(f"{of}{table}" for of in ("", f"{SUPERSEDED}/") for table in tables)]
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        for file in (claims, *(f"results/{name}/{table}" for table in read)):
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
    """Check that what is committed was run at the profile that its folder names."""
    _, profile = replication_and_profile(name)
    folder = root / "results" / name
    profiles = {file: {read_json(folder / file)["profile"]} for file in ("verdicts.json", "provenance.json")}
    profiles["runs.csv"] = set(read_runs(folder / "runs.csv")["profile"])
    if (folder / "trials.csv").exists():
        profiles["trials.csv"] = set(read_trials(folder / "trials.csv")["profile"])
    if has_timings(root, name):
        profiles["timings.csv"] = set(read_runs(folder / "timings.csv")["profile"])
        profiles["timing_verdicts.json"] = {read_json(folder / "timing_verdicts.json")["profile"]}
    return [
        f"results/{name}/{file} says profile {', '.join(sorted(found)) or 'nothing'}, not {profile}"
        for file, found in profiles.items()
        if found != {profile}
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
    """Check each record against the code as it is, the versions it names, the commit it names, and dvc.lock."""
    # A frozen stage cannot run again without its device: its record belongs to the code of the commit that it names.
    stages, locked = (decoded((root / file).read_bytes())["stages"] for file in ("dvc.yaml", "dvc.lock"))
    claims = f"replications/{replication_and_profile(name)[0]}/claims.yaml"
    found = []
    for path in sorted((root / "results" / name).glob("*provenance.json")):
        record = read_json(path)
        frozen = stages.get(record["stage"], {}).get("frozen", False)
        code = {dep: digest for dep, digest in record["deps"].items() if not dep.startswith("data/")}
        changed = [dep for dep, digest in code.items() if _hash_now(root / dep, record["profile"]) != digest]
        if changed and not frozen:
            found.append(f"results/{name}: {', '.join(changed)} changed since {path.name}; rerun {record['stage']}")
        if frozen and record["dirty"] is not False:
            found.append(f"results/{name}/{path.name}: the code that ran was not all committed; commit it, then rerun")
        said = [*_unlike_itself(record), *_unlike_the_lock(record, locked.get(record["stage"], {}))]
        if record["dirty"] is False and not no_history(root):
            said += _unlike_its_commit(root, record, claims, code, changed)
        found += [f"results/{name}/{path.name}: {what}" for what in said]
    return found


def _hash_now(file: Path, profile: str) -> str | None:
    return content_hash(file, profile) if file.exists() else None


def _unlike_itself(record: dict[str, Any]) -> Iterator[str]:
    # The record has the names of the lock, which may write POT in small letters.
    versions = {name.lower(): version for name, version in record["versions"].items()}
    numerical = {name: versions[name.lower()] for name in NUMERICAL if name.lower() in versions}
    if record["fingerprint"] != fingerprint(record["profile"], record["deps"], numerical):
        yield "edited by hand: its fingerprint is of other code or versions"
    kernels = ", ".join(f"{library} {chosen}" for library, chosen in record["kernels"].items())
    if not record["machine_class"].endswith(kernels):
        yield "edited by hand: its machine class has other kernels than it lists"


def _unlike_the_lock(record: dict[str, Any], locked: dict[str, Any]) -> Iterator[str]:
    """Compare tables and data with what DVC has noted of the stage."""
    noted = {entry["path"]: entry["md5"] for key in ("deps", "outs") for entry in locked.get(key, ())}
    outs = {Path(path).name: digest for path, digest in noted.items() if path.startswith("results/")}
    data = {path: digest for path, digest in noted.items() if path.startswith("data/")}
    said = {path: digest for path, digest in record["deps"].items() if path.startswith("data/")}
    for what in sorted(dict(outs.items() ^ record["outs"].items()) | dict(data.items() ^ said.items())):
        yield f"{what} is another one in dvc.lock; `git checkout` both, or rerun {record['stage']}"


def _unlike_its_commit(
    root: Path, record: dict[str, Any], claims: str, code: dict[str, str], changed: list[str]
) -> Iterator[str]:
    """Check in git that the commits which a record names hold what ran."""
    commit, of_claims = record["commit"], record["claims"]["commit"]
    named = (f"{commit}:requirements.lock", f"{of_claims}:{claims}", *(f"{commit}:{dep}" for dep in code))
    ran, lock, declared, *texts = committed(root, [commit, *named])
    if not ran:
        yield f"git has no commit {commit}; rerun {record['stage']} (a branch with results is merged, never squashed)"
        return
    if hashlib.sha256(lock).hexdigest() != record["lock_sha256"]:
        yield f"requirements.lock in commit {commit[:10]} is not the one that it names"
    if of_claims and hashlib.sha256(declared).hexdigest() != record["claims"]["sha256"]:
        yield f"claims.yaml in commit {of_claims[:10]} is not the one that it names"
    with tempfile.TemporaryDirectory() as scratch:
        for (dep, digest), text in zip(code.items(), texts, strict=True):
            if dep not in changed and (root / dep).read_bytes() == text:
                continue
            file = Path(scratch, Path(dep).name)
            file.write_bytes(text)
            if (not text and file.suffix != ".py") or content_hash(file, record["profile"]) != digest:
                yield f"{dep} in commit {commit[:10]} is not what ran; rerun {record['stage']}"


def receipts_problems(root: Path, folder: str) -> list[str]:
    """Check that a receipt's word is that of its numbers; "identical" takes the bytes that are committed."""
    record, found = read_json(root / "results" / folder / "provenance.json"), []
    for path in sorted((root / "receipts" / folder).glob("*.json")):
        receipt = read_json(path)
        word = outcome_of(receipt)
        is_of_these = receipt["against"]["started"] == record["started"]
        same_bytes = all(rerun["tables"] == record["outs"] for rerun in receipt["reruns"])
        if receipt["outcome"] != word or (word == IDENTICAL and is_of_these and not same_bytes):
            found.append(
                f"{path.relative_to(root)} says {receipt['outcome']!r}, which its own numbers do not: "
                f"run `make verify NAME={folder}` again"
            )
    return found


def tuning_problems(root: Path, name: str) -> list[str]:
    """Check that no tuning seed is reported, that arms chose from one list, and that what was selected was raced."""
    folder = root / "results" / name
    if not (folder / "trials.csv").exists():
        return []
    trials, runs = read_trials(folder / "trials.csv"), read_runs(folder / "runs.csv")
    apart = WITH_A_LIST_OF_THEIR_OWN.get(replication_and_profile(name)[0], ())
    lists: Any = {key: frozenset(of_arm["config"]) for key, of_arm in trials.groupby(["experiment", "arm"])}
    found = []
    for experiment, of_search in trials.groupby("experiment"):
        shared = set(of_search["seed"]) & set(runs.loc[runs["experiment"] == experiment, "seed"])
        found += [f"results/{name}: {experiment} was tuned and is reported on seed {seed}" for seed in sorted(shared)]
        arms = [arm for arm in dict.fromkeys(of_search["arm"]) if arm not in apart]
        of_arms = [lists[experiment, arm] for arm in arms]
        # As many of each arm's points out of an earlier search, which is judged by itself, are a fair second choice.
        again = len({*map(len, of_arms)}) == 1 and all(
            any(mine < points for (_, other), points in lists.items() if other == arm)
            for arm, mine in zip(arms, of_arms, strict=True)
        )
        if len(set(of_arms)) > 1 and not again:
            found.append(f"results/{name}: {experiment}: the arms {', '.join(arms)} were not tuned from one list")
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
    known_results = {results_name(name, profile) for name in known for profile in PROFILES}
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


def folders_of_results(root: Path, name: str) -> list[str]:
    """Name the folders below results/ that hold results of a replication, that of the committed profile first."""
    names = dict.fromkeys(results_name(name, profile) for profile in PROFILES)
    return [folder for folder in names if (root / "results" / folder).is_dir()]


# What a replication has before its first result, and what each of its folders of results has to fit.
RULES: dict[str, Rule] = {
    "shape": shape_problems,
    "registration": registration_problems,
    "claims": claims_problems,
    "checks": checks_problems,
    "about": about_problems,
    "page": page_problems,
    "history": history_problems,
}
RULES_OF_RESULTS: dict[str, Rule] = {
    "results": results_problems,
    "figures": figures_problems,
    "verdicts": verdicts_problems,
    "recomputation": recomputation_problems,
    "profile": profile_problems,
    "size": size_problems,
    "provenance": provenance_problems,
    "receipts": receipts_problems,
    "tuning": tuning_problems,
}


def problems(rule: Rule, root: Path, name: str) -> list[str]:
    """Ask one rule.

    Args:
        rule: One of `RULES`, `RULES_OF_RESULTS` or those that run something.
        root: The repository.
        name: The replication; for one of `RULES_OF_RESULTS` the folder of results.

    Returns:
        What is wrong, a sentence each; a file that is missing or damaged is one of them, not an error.
    """
    try:
        return rule(root, name)
    except (ResultsError, ConfigError, FileNotFoundError) as error:
        return [str(error).replace(f"{root}/", "")]
    except Exception as error:  # whatever a replication's own code raises is for its author to read
        return [f"this could not be checked: {type(error).__name__}: {error}"]

"""What tools write of every replication (`make pipeline`): dvc.yaml, contents, README's answers, the index.

A replication is registered because its folder exists. A stage depends on what its module imports and reads: less would
leave stale results, more would retrain for nothing.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from paperkit import stage as stages_of
from paperkit.claims.verdicts import SUPERSEDED
from paperkit.config import ConfigError, read_yaml
from paperkit.index import INDEX, index_json
from paperkit.profiles import ABOVE, results_name
from paperkit.provenance import import_closure
from paperkit.readme import answers_table, board_picture
from paperkit.results import replace_text
from paperkit.stage import TRIALS, Kind

# Modules with a stage that trains or reads a clock, and what is added to the replication's name.
TRAINS = {"experiment": "", "timing": "_timing"}
BEGIN, END = "written by `make pipeline`: begin", "written by `make pipeline`: end"
HEADER = """\
# Written by `make pipeline` from the folders of replications/ and from what each stage's module imports.
# persist: true because DVC deletes other outs before it runs a command: a refused configuration would lose committed
# results. Figures are not persisted, so that none outlives the code that drew it.
"""


def found_replications(root: Path) -> list[str]:
    """Name the folders of replications/ that hold anything but bytecode (an `__init__.py` may be what is missing)."""
    folders = (path for path in sorted((root / "replications").glob("*/")) if path.name != "__pycache__")
    return [folder.name for folder in folders if any("__pycache__" not in path.parts for path in folder.glob("*.*"))]


def has(root: Path, name: str, role: str) -> bool:
    """Say whether a replication has one of the modules that are found by their name."""
    return (root / "replications" / name / f"{role}.py").is_file()


def written_files(root: Path) -> dict[str, str]:
    """Write the shared files that follow from the replications' folders, without touching the disk.

    Args:
        root: The repository; its packages have to be those that Python imports.

    Returns:
        Text by path relative to the root.

    Raises:
        ConfigError: If a stage's module calls `main` with a wrong name, or a file has lost the lines between which its
            part is written.
        ResultsError: If the verdicts are not those for which a replication's answer was written.
    """
    return {
        "dvc.yaml": dvc_yaml(root),
        "book/_toc.yml": _between(root / "book/_toc.yml", f"  # {BEGIN}\n", f"  # {END}\n", _contents(root)),
        "README.md": _between(
            root / "README.md",
            f"<!-- {BEGIN} -->\n",
            f"<!-- {END} -->\n",
            answers_table(root, found_replications(root)),
        ),
        "book/board.svg": board_picture(root, found_replications(root)),
        INDEX: index_json(root),
    }


def write_pipeline(root: Path) -> list[str]:
    """Bring the shared files up to date.

    Args:
        root: The repository.

    Returns:
        Paths of the files that have changed.
    """
    changed = {path: text for path, text in written_files(root).items() if read_text(root / path) != text}
    for path, text in changed.items():
        replace_text(root / path, text)
    return list(changed)


def read_text(path: Path) -> str:
    """Read a text file; one that is missing is empty."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def dvc_yaml(root: Path) -> str:
    """Write dvc.yaml: a stage for each module that trains or reads a clock, then verdicts and figures of all."""
    stages: dict[str, Any] = {}
    made_by: dict[str, dict[str, str]] = {role: {} for role in TRAINS}  # replication by folder of results
    for name in found_replications(root):
        for role in TRAINS:
            if has(root, name, role):
                for results, stage, content in _training_stages(root, name, role):
                    stages[stage] = content
                    made_by[role][results] = name
    trained, timed = made_by["experiment"], made_by["timing"]
    drawn = {results: name for results, name in trained.items() if has(root, name, "figures")}
    verdicts = {"outs": _outs("results/${key}/verdicts.json"), "metrics": _outs("results/${key}/metrics.json")}
    timings = {"outs": _outs("results/${key}/timing_verdicts.json")}
    figures = {"outs": [{"figures/${key}": {"cache": False}}]}
    groups = {
        "verdicts": (trained, "paperkit.claims ${key}", verdicts),
        "timing_verdicts": (timed, "paperkit.claims ${key} --timing", timings),
        "figures": (drawn, "replications.${item.of}.figures ${key}", figures),
    }
    for group, (members, module, made) in groups.items():
        if members:
            deps = {results: _deps_of_results(root, results, name, group) for results, name in members.items()}
            stages[group] = _for_each(f"python -m {module}", members, deps, made)
    content = {"vars": ["params.yaml"], "stages": stages}
    return HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=119)


def _training_stages(root: Path, name: str, role: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield folder of results, name and content of a module's stages: the default profile's, and those above."""
    stage, module, folder = name + TRAINS[role], f"replications.{name}.{role}", f"replications/{name}"
    source = read_text(root / folder / f"{role}.py")
    call = main_call(source, f"{folder}/{role}.py")
    for key, wanted in (("stage", stage), ("module", module)):
        if call.get(key) != wanted:
            message = f"{folder}/{role}.py: main({key}={call.get(key)!r}); by its folder it is {wanted!r}"
            raise ConfigError(message)
    kind: Kind = getattr(stages_of, call.get("kind", "TRAINING"))
    checks = [f"replications.{name}.{kind.checks}"] if kind.checks and has(root, name, kind.checks) else []
    params = f"{folder}/{kind.params}"

    def content(results: str, profile: str, modules: list[str]) -> dict[str, Any]:
        closure = {imported for each in modules for imported in import_closure(each)}
        # What imports the race need not write a ledger; once there are results, one sees whether it does.
        made = root / "results" / results
        tunes = "paperkit.tuning" in closure and ((made / TRIALS).is_file() or not (made / kind.runs).is_file())
        tables = [kind.runs, *[TRIALS] * tunes]
        return {
            "desc": (ast.get_docstring(ast.parse(source)) or stage).partition("\n")[0],
            "cmd": f"python -m {module} --profile {profile} --out results/{results}",
            "deps": sorted([*(f"data/{table}.parquet" for table in call.get("tables", ())), *_files(root, closure)]),
            "params": [{params: [profile]}],
            "outs": [out for table in tables for out in _outs(f"results/{results}/{table}")],
        }

    yield name, stage, content(name, "${profile}", [module, *checks])
    for profile in read_yaml(root / params):
        results = results_name(name, profile)
        if profile in call.get("everywhere", ()):
            yield results, results_name(stage, profile), content(results, profile, [module])
        # DVC cannot be asked to run it, and without its outputs a frozen stage would stop `dvc repro`.
        elif profile in ABOVE and (root / "results" / results / kind.runs).is_file():
            yield results, results_name(stage, profile), {"frozen": True} | content(results, profile, [module])


def main_call(source: str, path: str) -> dict[str, Any]:
    """Return the keywords of a module's call of `main`: literals by value, names by name.

    Args:
        source: Text of the module.
        path: Where it stands, for errors.

    Returns:
        Value by keyword.

    Raises:
        ConfigError: If there is not exactly one call, or a keyword is neither.

    Example:
        >>> main_call('main(Config, run, stage="toy", tables=["x"], kind=TIMING)', "toy.py")
        {'stage': 'toy', 'tables': ['x'], 'kind': 'TIMING'}
    """
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "main"
    ]
    if len(calls) != 1:
        message = f"{path}: {len(calls)} calls of main; a stage's module has one"
        raise ConfigError(message)
    keywords = {keyword.arg: keyword.value for keyword in calls[0].keywords if keyword.arg}
    try:
        return {
            key: value.id if isinstance(value, ast.Name) else ast.literal_eval(value)
            for key, value in keywords.items()
        }
    except ValueError as error:
        message = f"{path}: the keywords of main are literals or names, since the pipeline is written from them"
        raise ConfigError(message) from error


def _deps_of_results(root: Path, folder_of_results: str, name: str, group: str) -> set[str]:
    """List what verdicts or figures are made from."""
    folder, results = f"replications/{name}", f"results/{folder_of_results}"
    if group == "figures":
        # The folder, since each replication draws from what it has; provenance is in .dvcignore.
        return {results, *_files(root, import_closure(f"replications.{name}.figures"))}
    table = "timings.csv" if group == "timing_verdicts" else "runs.csv"
    # paperkit.claims loads the estimands by name, which no import shows.
    estimands = import_closure(f"replications.{name}.estimands") if has(root, name, "estimands") else ()
    code = _files(root, {*import_closure("paperkit.claims.__main__"), *estimands})
    others = [f"{results}/{SUPERSEDED}/{table}", *[f"{results}/trials.csv"] * (group == "verdicts")]
    there = [path for path in others if (root / path).is_file()]
    return {f"{folder}/claims.yaml", f"{results}/{table}", *there, *code}


def _files(root: Path, modules: tuple[str, ...] | set[str]) -> Iterator[str]:
    """Name the files of modules, packages included."""
    for module in modules:
        path = module.replace(".", "/")
        yield f"{path}/__init__.py" if (root / path).is_dir() else f"{path}.py"


def _outs(path: str) -> list[dict[str, Any]]:
    return [{path: {"cache": False, "persist": True}}]


def _for_each(
    command: str, members: Mapping[str, str], deps: Mapping[str, set[str]], made: dict[str, Any]
) -> dict[str, Any]:
    """Make one group of stages, whose names are those of dvc.lock: verdicts@lion."""
    # DVC has one list of deps for all of a group. It holds what any of them has from paperkit (they take seconds). Of
    # their own folders, what only some depend on is named by keys; one that has fewer repeats another dep.
    templates = {
        key: {
            re.sub(
                rf"(?<=^replications/){of}(?=/|$)", "${item.of}", re.sub(rf"(?<=^results/){key}(?=/|$)", "${key}", dep)
            )
            for dep in deps[key]
        }
        for key, of in members.items()
    }
    own_to_all = set.intersection(*templates.values())
    shared = sorted(own_to_all | {dep for of in templates.values() for dep in of if "${" not in dep})
    more = {key: sorted(own - set(shared)) for key, own in templates.items()}
    places = range(max(map(len, more.values())))
    keys = {
        key: {"of": members[key]}
        | {
            f"dep_{place}": [*own, *shared[:1] * len(places)][place]
            .replace("${key}", key)
            .replace("${item.of}", members[key])
            for place in places
        }
        for key, own in more.items()
    }
    listed = [*shared, *(f"${{item.dep_{place}}}" for place in places)]
    return {"foreach": keys, "do": {"cmd": command, "deps": listed, **made}}


def _contents(root: Path) -> str:
    """List the pages of the replications, those in a page's folder below it."""
    lines = []
    for name in found_replications(root):
        pages = root / "book/replications"
        if (pages / f"{name}.md").is_file():
            below = [f"    - file: replications/{name}/{path.stem}\n" for path in sorted((pages / name).glob("*.md"))]
            lines += [f"  - file: replications/{name}\n", *["    sections:\n"] * bool(below), *below]
    return "".join(lines)


def _between(path: Path, begin: str, end: str, part: str) -> str:
    """Replace what stands between two lines of a file."""
    head, found, rest = read_text(path).partition(begin)
    _, also_found, tail = rest.partition(end)
    if not (found and also_found):
        message = f"{path.name} has lost the lines {begin.strip()!r} and {end.strip()!r}; restore them with git"
        raise ConfigError(message)
    return f"{head}{begin}{part}{end}{tail}"

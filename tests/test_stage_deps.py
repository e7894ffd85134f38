"""A stage depends on what its module imports and reads: less leaves stale results, more retrains for nothing."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.stage import PipelineStage

from paperkit import stage as stage_kinds
from paperkit.config import read_yaml
from paperkit.provenance import import_closure, module_file
from paperkit.stage import TRIALS, Kind

ROOT = Path(__file__).resolve().parents[1]
TRAINS = re.compile(r"replications\.\w+\.(?:experiment|timing|pretrained)")


@dataclass(frozen=True)
class Stage:
    """What dvc.yaml says about one stage, templates resolved.

    Attributes:
        name: For example "lion" or "verdicts@lion".
        command: As DVC runs it.
        deps: Files and folders, parameter files left out.
        params: Keys read from each parameter file.
        outs: Whether each out is cached, and whether it is kept while the command runs.
    """

    name: str
    command: str
    deps: frozenset[str]
    params: dict[str, tuple[str, ...]]
    outs: dict[str, tuple[bool, bool]]

    @property
    def module(self) -> str:
        """The module that the command runs."""
        return self.command.split("python -m ")[1].split()[0]

    @property
    def code(self) -> frozenset[str]:
        """The dependencies that are code."""
        return frozenset(dep for dep in self.deps if dep.endswith(".py"))

    @property
    def inputs(self) -> frozenset[str]:
        """The dependencies that are not code."""
        return self.deps - self.code


def read_stages(root: Path) -> dict[str, Stage]:
    """Read all stages of dvc.yaml as DVC understands them."""
    with Repo(str(root)) as repo:
        return {stage.name: _stage(stage) for stage in repo.index.stages if isinstance(stage, PipelineStage)}


def _stage(stage: PipelineStage) -> Stage:
    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    return Stage(
        name=stage.name,
        command=stage.cmd,
        deps=frozenset(dep.def_path for dep in stage.deps if dep not in params),
        params={dep.def_path: tuple(dep.params) for dep in params},
        outs={out.def_path: (out.use_cache, out.persist) for out in stage.outs},
    )


def problems(stage: Stage) -> list[str]:
    """Say where a stage differs from what its module needs and makes."""
    found = list(_differences("code", stage.code, _code(stage)))
    if TRAINS.fullmatch(stage.module):
        found += _training_problems(stage)
    elif stage.module == "paperkit.claims":
        name, table = _judged(stage)
        found += _differences("inputs", stage.inputs, {f"replications/{name}/claims.yaml", f"results/{name}/{table}"})
    elif not stage.inputs or not all(f"{path}/".startswith(_results(stage)) for path in stage.inputs):
        found.append(f"inputs {sorted(stage.inputs)}: figures are drawn from {_results(stage)} and from nothing else")
    found += [
        f"out {path} goes to DVC's cache; add cache: false" for path, (cached, _) in stage.outs.items() if cached
    ]
    return [f"stage {stage.name}: {problem}" for problem in found]


def _differences(what: str, listed: frozenset[str], needed: set[str]) -> Iterator[str]:
    if needed - listed:
        yield f"{what} lack {sorted(needed - listed)}"
    if listed - needed:
        yield f"{what} have {sorted(listed - needed)} too much"


def _code(stage: Stage) -> set[str]:
    if stage.module == "paperkit.claims":  # a package, which loads the estimands by name, as no import shows
        names = f"{stage.module}.__main__", f"replications.{_judged(stage)[0]}.estimands"
        modules = {*import_closure(names[0]), *import_closure(names[1])}
    else:
        modules = set(import_closure(stage.module))
    return {module_file(module).relative_to(ROOT).as_posix() for module in modules}


def _judged(stage: Stage) -> tuple[str, str]:
    """Return the replication that a verdict stage judges, and the table it reads."""
    arguments = stage.command.split(stage.module)[1].split()
    return arguments[0], "timings.csv" if "--timing" in arguments else "runs.csv"


def _results(stage: Stage) -> str:
    return f"results/{stage.module.split('.')[1]}/"


def _training_problems(stage: Stage) -> Iterator[str]:
    call = main_call(module_file(stage.module).read_text(encoding="utf-8"))
    kind: Kind = getattr(stage_kinds, call.get("kind", "TRAINING"))
    closure = import_closure(stage.module)
    folder = Path(*stage.module.split(".")[:-1])
    profile = read_yaml(ROOT / "params.yaml")["profile"]
    results = f"results/{folder.name}" if "pretrained" not in stage.module else f"results/{folder.name}_pretrained"
    expected = {
        "command": (stage.command, f"python -m {stage.module} --profile {profile} --out {results}"),
        "main(stage=…)": (call["stage"], stage.name),
        "main(module=…)": (call["module"], stage.module),
        "params": (stage.params, {(folder / kind.params).as_posix(): (profile,)}),
        "outs, as (cache, persist)": (
            stage.outs,
            {f"{results}/{table}": (False, True) for table in (kind.runs, *[TRIALS] * ("paperkit.tuning" in closure))},
        ),
    }
    yield from _differences("inputs", stage.inputs, {f"data/{table}.parquet" for table in call.get("tables", ())})
    yield from (
        f"{what}: {found!r}, expected {wanted!r}" for what, (found, wanted) in expected.items() if found != wanted
    )


def main_call(source: str) -> dict[str, Any]:
    """Return the keywords of a module's call of `main`: literals by value, names by name."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "main"
    ]
    assert len(calls) == 1, f"{len(calls)} calls of main; a stage's module has one"
    return {
        keyword.arg: keyword.value.id if isinstance(keyword.value, ast.Name) else ast.literal_eval(keyword.value)
        for keyword in calls[0].keywords
        if keyword.arg
    }


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    """The stages of this repository."""
    return read_stages(ROOT)


def first(stages: dict[str, Stage], module: str) -> Stage:
    """Return the first stage whose module matches a pattern."""
    return next(stage for stage in stages.values() if re.fullmatch(module, stage.module))


KINDS = {
    "training": r"replications\.\w+\.experiment",
    "timing": r"replications\.\w+\.timing",
    "verdicts": r"paperkit\.claims",
    "figures": r"replications\.\w+\.figures",
}


def test_every_stage_lists_what_its_module_imports_and_reads(stages):
    assert [problem for stage in stages.values() for problem in problems(stage)] == []


def test_every_kind_of_stage_is_there(stages):
    assert all(first(stages, module) for module in KINDS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_any_missing_dependency_is_found(kind, stages):
    stage = first(stages, KINDS[kind])
    assert stage.deps
    for dep in stage.deps:
        assert any(
            dep in problem or "inputs []" in problem for problem in problems(replace(stage, deps=stage.deps - {dep}))
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dep", ["paperkit/ingest.py", "requirements.lock", "data/unread.parquet"])
def test_a_dependency_too_much_is_found(kind, dep, stages):
    stage = first(stages, KINDS[kind])
    assert any(dep in problem for problem in problems(replace(stage, deps=stage.deps | {dep})))


@pytest.mark.parametrize("kind", ["training", "timing"])
@pytest.mark.parametrize(
    ("field", "change", "named"),
    [
        ("params", lambda _: {}, "params"),
        ("params", lambda params: dict.fromkeys(params, ("paper",)), "params"),
        ("outs", lambda outs: dict.fromkeys(outs, (False, False)), "persist"),
        ("outs", lambda outs: dict.fromkeys(outs, (True, True)), "cache: false"),
        ("outs", lambda _: {}, "outs"),
        ("name", lambda _: "another", "main(stage=…)"),
        ("command", lambda command: command.replace("results/", "elsewhere/"), "command"),
    ],
    ids=["no params", "params of another profile", "not persisted", "cached", "no outs", "name", "folder"],
)
def test_a_training_stage_with_wrong_settings_is_found(kind, field, change, named, stages):
    stage = first(stages, KINDS[kind])
    wrong = replace(stage, **{field: change(getattr(stage, field))})
    assert any(named in problem for problem in problems(wrong))


def test_the_tables_of_a_call_are_read_from_its_source():
    source = (
        'if __name__ == "__main__":\n    main(Config, run, stage="toy", module="a.b", tables=["x", "y"], kind=TIMING)'
    )
    assert main_call(source) == {"stage": "toy", "module": "a.b", "tables": ["x", "y"], "kind": "TIMING"}


def test_tables_that_are_no_literal_are_refused():
    with pytest.raises(ValueError, match="malformed node"):
        main_call("main(Config, run, tables=sorted(TABLES))")

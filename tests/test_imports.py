"""Who may import whom: the contracts of pyproject.toml hold, and each of them breaks when it is broken on purpose."""

import subprocess
import sys
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.protected import ProtectedContract

from tests.import_contracts import ForbiddenOutsideTests, ProtectedOutsideTests

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("paperkit", "build_data", "replications")
CONFIGURATION = read_configuration(str(ROOT / "pyproject.toml"))
CONTRACT_TYPES = {
    "forbidden": ForbiddenContract,
    "protected": ProtectedContract,
    "independence": IndependenceContract,
    "forbidden_outside_tests": ForbiddenOutsideTests,
    "protected_outside_tests": ProtectedOutsideTests,
}
# A second and a third replication stand beside the real ones, to show that nothing has to be added for them.
SECOND = """
    bound: paperkit.checks paperkit.models.tiny_gpt
    estimands: paperkit.statistics
    experiment: paperkit.runs second.loss
    figures: paperkit.style second.formula
    formula: numpy
    loss: torch
    settings: paperkit.config
    studies.width: paperkit.runs second.loss
    tasks.digits: paperkit.runs second.loss
    test_loss: paperkit.tuning second.experiment second.figures second.loss
    timing: paperkit.runs
"""
NO_REPLICATION = "paperkit imports no replication"
INDEPENDENT = "replications are independent of each other"
ONLY_FOUR = "estimands and figures import only results, statistics, style and what estimands share"
NO_TORCH = "estimands and figures need no torch"
NOTHING_OF_OURS = "algorithms import nothing of paperkit but models"
MODELS = "models import nothing of ours"
NOBODY_BUILDS = "nobody imports what builds data"
ONLY_DATASETS = "what builds data imports only datasets and config"
PROTECTED = "nobody imports an experiment, a clock or figures"
TASKS = "only what trains or reads a clock imports studies, tasks and settings"
BREAKS = {
    "paperkit.claims.rules -> replications": [NO_REPLICATION],
    "paperkit.history -> second.loss": [NO_REPLICATION],
    "paperkit.datasets -> build_data.archives": [NOBODY_BUILDS],
    "second.experiment -> build_data.parsers": [NOBODY_BUILDS],
    "build_data.parsers -> paperkit.runs": [ONLY_DATASETS],
    "build_data.ingest -> second.loss": [ONLY_DATASETS],
    "second.loss -> paperkit": [NOTHING_OF_OURS],
    "second.loss -> paperkit.results": [NOTHING_OF_OURS],
    "second.bound -> paperkit.identities": [NOTHING_OF_OURS],
    "paperkit.models.tiny_gpt -> paperkit.config": [MODELS],
    "replications.second -> paperkit.runs": [NOTHING_OF_OURS],
    "second.loss -> second.tasks.digits": [TASKS],
    "second.loss -> second.settings": [TASKS],
    "second.loss -> second.studies.width": [TASKS],
    "second.tasks.digits -> second.experiment": [PROTECTED],
    "second.figures -> paperkit.claims.declarations": [ONLY_FOUR],
    "second.estimands -> paperkit.config": [ONLY_FOUR],
    "second.figures -> second.bound": [ONLY_FOUR, NO_TORCH],
    "second.figures -> torch": [NO_TORCH],
    "paperkit.statistics -> torch": [NO_TORCH],
    "second.figures -> second.studies.width": [ONLY_FOUR, NO_TORCH, TASKS],
    "second.bound -> second.experiment": [PROTECTED],
    "second.experiment -> second.timing": [PROTECTED],
    "second.experiment -> second.figures": [PROTECTED],
    "second.bound -> replications.third.bound": [INDEPENDENT],
}


def whole(module: str) -> str:
    return f"replications.{module}" if module.startswith("second") else module


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """The imports of this repository, and of two replications that are made up."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    for line in SECOND.split("\n")[1:-1]:
        importer, _, imports = line.strip().partition(": ")
        for imported in imports.split():
            for name in ("second", "third"):
                pair = whole(f"second.{importer}"), whole(imported)
                of = [module.replace("replications.second", f"replications.{name}") for module in pair]
                graph.add_import(importer=of[0], imported=of[1])
    for name in ("second", "second.studies", "second.tasks", "third", "third.studies", "third.tasks"):
        graph.add_module(f"replications.{name}")
    return graph


def broken_contracts(graph: grimp.ImportGraph) -> Iterable[str]:
    for options in CONFIGURATION["contracts_options"]:
        kind = CONTRACT_TYPES[options["type"]]
        contract = kind(options["name"], CONFIGURATION["session_options"], options)
        if not contract.check(deepcopy(graph), verbose=False).kept:
            yield contract.name


def test_all_contracts_are_kept_and_a_new_replication_and_its_tests_need_no_line_in_them(graph):
    assert list(broken_contracts(graph)) == []


@pytest.mark.parametrize("case", BREAKS)
def test_a_forbidden_import_breaks_its_contract_and_no_other(case, graph):
    importer, imported = map(whole, case.split(" -> "))
    assert {importer, imported} <= graph.modules
    changed = deepcopy(graph)
    changed.add_import(importer=importer, imported=imported)
    assert sorted(broken_contracts(changed)) == sorted(BREAKS[case])


def test_every_contract_is_broken_on_purpose():
    names = {options["name"] for options in CONFIGURATION["contracts_options"]}
    assert {contract for contracts in BREAKS.values() for contract in contracts} == names


def test_estimands_and_figures_load_no_torch():
    paths = [path for name in ("estimands", "figures") for path in ROOT.glob(f"replications/*/{name}.py")]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    assert modules
    program = f"import sys\nimport {', '.join(modules)}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_init_file_is_empty():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    assert [path for path in files if path.stat().st_size] == []

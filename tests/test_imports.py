"""Who may import whom: the contracts of pyproject.toml hold, and each of them breaks when it is broken on purpose."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("paperkit", "build_data", "replications")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = [contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]]
# A second replication stands beside the real ones, to show that nothing has to be added for it.
SECOND = {
    "__init__.py": "",
    "loss.py": "import torch\n",
    "bound.py": "from paperkit.checks import Check\nfrom paperkit.models import tiny_gpt\n",
    "formula.py": "import numpy\n",
    "experiment.py": "from paperkit.runs import Run\nfrom replications.second.loss import torch\n",
    "tasks/__init__.py": "",
    "studies/__init__.py": "",
    "studies/width.py": "from paperkit.runs import Run\nfrom replications.second.loss import torch\n",
    "settings.py": "from paperkit import config\n\nCONFIG = config\n",
    "tasks/digits.py": "from paperkit.runs import Run\nfrom replications.second.loss import torch\n",
    "timing.py": "from paperkit.runs import Run\n",
    "estimands.py": "from paperkit.statistics import holm\n",
    "figures.py": "from paperkit.style import drawing\nfrom replications.second import formula\n",
    "test_loss.py": "from paperkit.tuning import select\nfrom replications.second import experiment, figures, loss\n",
}
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
BREAKS = [
    ("paperkit/claims/rules.py", "import replications", [NO_REPLICATION]),
    ("paperkit/history.py", "from replications.second import loss", [NO_REPLICATION]),
    ("paperkit/datasets.py", "from build_data import archives", [NOBODY_BUILDS]),
    ("replications/second/experiment.py", "from build_data import parsers", [NOBODY_BUILDS]),
    ("build_data/parsers.py", "from paperkit.runs import Run", [ONLY_DATASETS]),
    ("build_data/ingest.py", "from replications.second import loss", [ONLY_DATASETS]),
    ("replications/second/loss.py", "import paperkit", [NOTHING_OF_OURS]),
    ("replications/second/loss.py", "from paperkit import results", [NOTHING_OF_OURS]),
    ("replications/second/bound.py", "from paperkit.identities import ChecksOf", [NOTHING_OF_OURS]),
    ("paperkit/models/tiny_gpt.py", "from paperkit import config", [MODELS]),
    ("replications/second/loss.py", "def late():\n    import paperkit.training", [NOTHING_OF_OURS]),
    ("replications/second/__init__.py", "from paperkit.runs import Run", [NOTHING_OF_OURS]),
    ("replications/second/loss.py", "from replications.second.tasks import digits", [TASKS]),
    ("replications/second/loss.py", "from replications.second import settings", [TASKS]),
    ("replications/second/loss.py", "from replications.second.studies import width", [TASKS]),
    ("replications/second/tasks/digits.py", "from replications.second import experiment", [PROTECTED]),
    ("replications/second/figures.py", "from paperkit.claims import read_claims", [ONLY_FOUR]),
    ("replications/second/estimands.py", "import paperkit.config", [ONLY_FOUR]),
    ("replications/second/figures.py", "from replications.second import bound", [ONLY_FOUR, NO_TORCH]),
    ("replications/second/figures.py", "import torch", [NO_TORCH]),
    ("replications/second/estimands.py", "from torch import nn", [NO_TORCH]),
    ("paperkit/statistics.py", "import torch", [NO_TORCH]),
    ("replications/second/figures.py", "from replications.second.studies import width", [ONLY_FOUR, NO_TORCH, TASKS]),
    ("replications/second/bound.py", "from replications.second import experiment", [PROTECTED]),
    ("replications/second/experiment.py", "from replications.second import timing", [PROTECTED]),
    ("replications/second/experiment.py", "from replications.second import figures", [PROTECTED]),
    ("replications/second/bound.py", "import replications.third.bound", [INDEPENDENT]),
]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with a second and a third replication in it."""
    root = tmp_path_factory.mktemp("packages")
    for package in PACKAGES:
        for source in python_files(ROOT / package):
            target = root / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for name, text in SECOND.items():
        for replication in ("second", "third"):
            path = root / "replications" / replication / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("second", replication), encoding="utf-8")
    (root / "tests").mkdir()
    shutil.copyfile(ROOT / "tests/import_contracts.py", root / "tests/import_contracts.py")
    shutil.copyfile(ROOT / "pyproject.toml", root / "pyproject.toml")
    return root


@pytest.fixture
def broken(packages: Path, tmp_path: Path) -> Path:
    """A copy of `packages` that a test may break."""
    return Path(shutil.copytree(packages, tmp_path / "packages"))


def python_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files of a folder."""
    return (path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts)


def verdicts_of_the_linter(root: Path) -> dict[str, str]:
    """Return KEPT or BROKEN for every contract, as `lint-imports` prints them."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    found = re.findall(r"^(.+?) (KEPT|BROKEN)\b", done.stdout, flags=re.MULTILINE)
    assert found, f"lint-imports did not get as far as its contracts:\n{done.stdout}{done.stderr}"
    assert (done.returncode != 0) == ("BROKEN" in dict(found).values()), done.stdout
    return dict(found)


def torch_free_modules(root: Path) -> list[str]:
    """Name the modules that must run where torch is not installed."""
    paths = [path for name in ("estimands", "figures") for path in sorted(root.glob(f"replications/*/{name}.py"))]
    return [".".join(path.relative_to(root).with_suffix("").parts) for path in paths]


def first_to_load_torch(root: Path, modules: Sequence[str]) -> str | None:
    """Import modules one after the other in a fresh process; name the first after which torch is loaded."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: print('CULPRIT', name); break\n"
    )
    # "." stands first on the path of `python -c`, so a copy of the packages wins over the installed ones.
    command = [sys.executable, "-c", program, *modules]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.split()[1] if done.stdout.startswith("CULPRIT") else None


def init_files_with_content(root: Path) -> list[str]:
    """Name the `__init__.py` files that are not empty."""
    files = [path for package in PACKAGES for path in python_files(root / package) if path.name == "__init__.py"]
    assert files, f"no __init__.py below {root}"
    return [path.relative_to(root).as_posix() for path in files if path.stat().st_size]


def test_all_contracts_are_kept():
    assert verdicts_of_the_linter(ROOT) == dict.fromkeys(CONTRACTS, "KEPT")


def test_a_new_replication_and_its_tests_need_no_line_in_the_contracts(packages):
    assert verdicts_of_the_linter(packages) == dict.fromkeys(CONTRACTS, "KEPT")


@pytest.mark.parametrize(
    ("path", "line", "contracts"), BREAKS, ids=[f"{path}: {line}".replace("\n", " ") for path, line, _ in BREAKS]
)
def test_a_forbidden_import_breaks_its_contract_and_no_other(path, line, contracts, broken):
    file = broken / path
    file.write_text(f"{file.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    found = verdicts_of_the_linter(broken)
    assert sorted(name for name, word in found.items() if word == "BROKEN") == sorted(contracts)


def test_every_contract_is_broken_on_purpose():
    assert {contract for _, _, contracts in BREAKS for contract in contracts} == set(CONTRACTS)


def test_estimands_and_figures_load_no_torch():
    modules = torch_free_modules(ROOT)
    assert modules
    assert first_to_load_torch(ROOT, modules) is None


def test_every_init_file_is_empty():
    assert init_files_with_content(ROOT) == []


def test_a_re_export_in_an_init_file_is_noticed_though_the_linter_does_not(broken):
    (broken / "torch.py").write_text("class Tensor: ...\n", "utf-8")  # stands for the library, and loads at once
    (broken / "replications/second/__init__.py").write_text("from replications.second.loss import torch\n", "utf-8")
    assert init_files_with_content(broken) == ["replications/second/__init__.py"]
    assert first_to_load_torch(broken, torch_free_modules(broken)) == "replications.second.estimands"
    assert set(verdicts_of_the_linter(broken).values()) == {"KEPT"}

"""One set of pins in all files, nothing of one machine in any file, and no loader that runs what it reads."""

import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from itertools import chain
from pathlib import Path

import grimp
import pytest
import yaml
from packaging.requirements import Requirement

from paperkit import config, history
from paperkit.config import read_yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = read_yaml(ROOT / "environment.yml")
APART = "torch"  # its wheel differs by platform (CPU, CUDA): installed after the lock, from one with a hash a wheel
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([A-Za-z0-9.+!_-]+)")
LOCKED = re.compile(rf"{PIN.pattern}(?: ; [^\\]+)?(?: --hash=sha256:[0-9a-f]{{64}})+")
# Registries are named by their package managers' configuration, which differs from machine to machine.
REGISTRIES = {"pypi": "org", "pythonhosted": "org", "npmjs": "org|com", "anaconda": "org|com", "yarnpkg": "com"}
REGISTRY = re.compile(
    "|".join(rf"\b{name}\.(?:{ends})\b" for name, ends in REGISTRIES.items())
    + r"|\bdownload\.pytorch\.org\b|\bdeb\.debian\.org\b|\bcrates\.io\b|\bproxy\.golang\.org\b"
)
FOLDERS = ("work", "opt", "root", "home")
MACHINE_PATH = re.compile(rf"(?<![\w.~$}}/-])/(?:{'|'.join(FOLDERS)})/|\bfile:/{{2}}")
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\b(?:gh[pousr]|npm|hf)_[A-Za-z0-9]{30,}"
    r"|\bgithub_pat_\w{22,}|\bxox[abprs]-[\w-]{10,}|\bsk-[\w-]{20,}|\bpypi-[\w-]{50,}|://[^/\s:@]+:[^/\s:@$<{]+@"
)
# What ruff's S301, S302, S506 and banned-api do not see of what runs code while it reads a file.
RUNS_CODE = re.compile(r"\.to_pickle\(|allow_pickle\s*=\s*True|torch\.load\((?!.*weights_only=True)")


# --- pins -----------------------------------------------------------------------------------------------------------


def normal(name: str) -> str:
    """Spell a distribution's name the one way (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str], form: re.Pattern[str] = PIN) -> dict[str, str]:
    """Return version by name; refuse a line that is no exact pin."""
    found = {line: form.fullmatch(line) for line in lines}
    loose = [line[:80] for line, match in found.items() if match is None]
    assert not loose, f"not pinned as name==version (in the lock with SHA-256 hashes): {loose}"
    return {normal(match[1]): match[2] for match in found.values() if match}


def entries(lock: Path) -> list[str]:
    """Return the lines of a lock, each with its hashes."""
    lines = lock.read_text("utf-8").replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip() and not line.startswith("#")]


def locked_pins(lock: Path) -> dict[str, str]:
    """Return the pins of a lock; refuse an entry without hashes, and an option such as an index address."""
    return pins(entries(lock), LOCKED)


LOCK, CORE = locked_pins(ROOT / "requirements.lock"), locked_pins(ROOT / "requirements-core.lock")


def test_the_files_of_pins_agree():
    conda = next(part["pip"] for part in CONDA["dependencies"] if isinstance(part, Mapping))
    extras = PROJECT["optional-dependencies"]
    # Weights are installed for `make pretrained` alone.
    extras_of_the_lock = (extras[name] for name in extras if name != "pretrained")
    project = pins([*PROJECT["dependencies"], *chain.from_iterable(extras_of_the_lock)])
    assert pins(conda) == project
    assert {name: LOCK.get(name) for name in project} == project | {APART: None}
    assert locked_pins(ROOT / "requirements-torch.lock") == {APART: project[APART]}
    assert CORE.items() >= (pins(PROJECT["dependencies"]).items() - {(APART, project[APART])})
    assert locked_pins(ROOT / "requirements-cluster.lock").items() >= pins(extras["cluster"]).items()


@pytest.mark.parametrize("part", ["core", "cluster"])
def test_the_lock_of_a_part_is_a_part_of_the_lock(part):
    whole, of_part = (set(entries(ROOT / name)) for name in ("requirements.lock", f"requirements-{part}.lock"))
    assert of_part < whole


def test_the_core_has_what_runs_import_and_none_of_the_tools_round_them():
    graph = grimp.build_graph("paperkit", "replications", include_external_packages=True, cache_dir=None)
    roots = {name for name in graph.modules if name.startswith("replications.") and ".test_" not in name}
    imported = set().union(*map(graph.find_upstream_modules, roots | {"paperkit.claims.__main__"}))
    of_module = metadata.packages_distributions()
    needed = {normal(name) for module in imported for name in of_module.get(module, ())}
    assert {"numpy", "transformers", "matplotlib"} < needed
    assert needed - {*CORE, APART} == {"triton"}  # where there is a GPU, torch brings it
    assert not {"dvc", "jupyter-book", "playwright", "pytest"} & CORE.keys()


def test_what_has_no_exact_version_and_in_the_lock_no_hash_is_refused():
    lines = ("numpy==2.4.6", "numpy==2.4.6 --hash=md5:0", "--index-url x", "numpy>=2")
    requirements = ("numpy", "numpy>=2", "numpy==2.*", "numpy @ git+ssh://x")
    for form, refused in ((LOCKED, lines), (PIN, requirements)):
        for line in refused:
            with pytest.raises(AssertionError, match="not pinned"):
                pins([line], form)


def unlocked(names: set[str]) -> set[str]:
    """Name what these libraries ask for here, but for optional parts, and is none of them."""
    asked = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):  # of another system
            asked[name] = [Requirement(text) for text in metadata.requires(name) or ()]
    return {
        f"{name}: {one.name}"
        for name, all_of_it in asked.items()
        for one in all_of_it
        if normal(one.name) not in names and (one.marker is None or one.marker.evaluate({"extra": ""}))
    }


@pytest.mark.parametrize("lock", [LOCK, CORE])
def test_a_lock_holds_all_that_it_and_torch_ask_for_since_it_is_installed_without_looking(lock):
    names = {*lock, APART}
    assert unlocked(names) == set()
    assert unlocked(names - {"sympy"}) == {"torch: sympy"}


def test_conda_gets_the_python_of_the_lock():
    assert "python=3.11" in CONDA["dependencies"]
    assert PROJECT["requires-python"] == ">=3.11,<3.12"


# --- what belongs to one machine ------------------------------------------------------------------------------------


def repository_files(root: Path) -> list[Path]:
    """List what is in git, or would be: tracked and new files, without the objects of the DVC remote."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = (root / name for name in sorted(set(names)) if name and not name.startswith(".dvcstore/"))
    return [path for path in paths if path.is_file()]


def texts(root: Path) -> Iterator[tuple[str, str]]:
    """Yield path and content of the text files."""
    for path in repository_files(root):
        content = path.read_bytes()
        if b"\0" not in content:
            yield path.relative_to(root).as_posix(), content.decode("utf-8", errors="replace")


def machine_traces(root: Path) -> list[str]:
    """Name the lines that hold a registry's host, an absolute path or a secret."""
    return [
        f"{path}:{number}: {found[0]}"
        for path, text in texts(root)
        for number, line in enumerate(text.splitlines(), start=1)
        for found in [REGISTRY.search(line) or MACHINE_PATH.search(line) or SECRET.search(line)]
        if found
    ]


def test_no_file_names_a_registry_a_path_of_this_machine_or_a_secret():
    assert machine_traces(ROOT) == []


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository without a file."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("/ignored.txt\n", encoding="utf-8")
    return tmp_path


def test_a_folder_that_is_ignored_is_ignored_as_a_link_too(repository, tmp_path_factory):
    ignored = (ROOT / ".gitignore").read_text("utf-8")
    (repository / ".gitignore").write_text(ignored, encoding="utf-8")
    names = [Path(name) for name in re.findall(r"^/([\w./]+)$", ignored, flags=re.MULTILINE)]
    assert len(names) > 5
    for name in names:
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).symlink_to(tmp_path_factory.getbasetemp())
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout == "?? .gitignore\n"


HOSTS = [f"{name}.{end}" for name, ends in REGISTRIES.items() for end in ends.split("|")]
TRACES = [
    *(f"https://{host}/simple" for host in HOSTS),
    *(f"see files.{HOSTS[1]}", "download.pytorch." + "org/whl"),
    *(f"{before}/{folder}/main" for folder in FOLDERS for before in ("", "data: ", '"', "=", "(")),
    "file:" + "//tmp",
    *(f"-----BEGIN {kind}PRIVATE KEY-----" for kind in ("", "RSA ", "OPENSSH ")),
    *(key + "a1" * 30 for key in ("gh" + "p_", "hf" + "_", "npm" + "_", "sk" + "-", "py" + "pi-", "xox" + "b-")),
    *("AK" + "IA" + "A1" * 8, "git" + "hub_pat_" + "a" * 22, "https://me:" + "word@host.example"),
]


def test_a_trace_of_a_machine_is_found_and_what_is_none_left_alone(repository):
    others = [f"example.org/{FOLDERS[3]}/page", f"~/{FOLDERS[0]}/x", f"$HOME/{FOLDERS[0]}/x", "/path/to/python3.11"]
    (repository / "page.md").write_text("\n".join(others + TRACES), encoding="utf-8")
    for path, content in {"ignored.txt": b"", "table.bin": b"\0", ".dvcstore/object": b""}.items():
        (repository / path).parent.mkdir(exist_ok=True)
        (repository / path).write_bytes(content + HOSTS[0].encode())
    lines = range(len(others) + 1, len(others) + len(TRACES) + 1)
    assert [found.split(": ")[0] for found in machine_traces(repository)] == [f"page.md:{line}" for line in lines]


# --- loaders that run what they read --------------------------------------------------------------------------------


def test_no_file_is_read_by_a_loader_that_runs_code():
    planted = ("table.to_pickle{0}path)", "torch.load{0}path)", "np.load{0}path, allow_pickle={1})")
    assert all(RUNS_CODE.search(call.format("(", "True")) for call in planted)
    assert [path for path, text in texts(ROOT) if path.endswith(".py") and RUNS_CODE.search(text)] == []


@pytest.mark.parametrize("loader", [config.UniqueKeyLoader, history._Loader])
def test_the_two_yaml_loaders_are_safe_ones(loader):
    assert issubclass(loader, yaml.constructor.SafeConstructor)
    assert not issubclass(loader, yaml.constructor.FullConstructor)  # the parent of the unsafe ones

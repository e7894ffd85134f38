"""Where a result comes from: code, parameters, data, versions, kernels, command. In git, but no stage's out.

What the numbers depend on is hashed as it acts: of code the syntax tree without docstrings, of parameters the block of
the profile. A comment, a docstring or another layout changes nothing and retrains nothing.
"""

import ast
import hashlib
import importlib.util
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import grimp

from paperkit.config import ConfigError, read_yaml
from paperkit.results import canonical_json, read_json, write_json

PACKAGES = ("paperkit", "replications")
# Libraries whose version may change a number; that of a progress bar may not.
NUMERICAL = (
    "llvmlite", "numba", "numpy", "pandas", "POT", "pyarrow", "scikit-learn", "scipy", "tokenizers", "torch",
)  # fmt: skip
# Environment variables that choose kernels, precision, threads or hash seeds; not those that name places.
_CHOOSES = re.compile(r"(ATEN|BLIS|CUBLAS|CUDNN|DNNL|GLIBC|KMP|MKL|NPY|NUMBA|NVIDIA|OMP|ONEDNN|OPENBLAS|TORCH)_.+")
_IS_PLACE = re.compile(r"(CACHE|DIR|FILE|HOME|LOG|PATH|VERBOSE)")
# What a stage itself rewrites; a change there does not make the code that ran another code.
_OUTPUTS = ("results", "figures", "receipts", ".paperkit", "dvc.lock")
# Changes of code that were shown to change no number, see `paperkit.equivalence`.
EQUIVALENT = Path("equivalent_code.yaml")


class Provenance:
    """Notes the start of a stage, and writes down at its end what it ran on.

    Args:
        stage: Name of the stage.
        command: The command as typed.
        profile: Profile of the stage.
        deps: What the results depend on, see `dependencies`.
        claims: The claims that the results will decide; None where there are none.
        lock: File that pins the versions.

    Example:
        >>> provenance = Provenance("lion", ["python", "-m", "replications.lion.experiment"], "smoke", deps={})
        >>> provenance.stage
        'lion'
    """

    def __init__(
        self,
        stage: str,
        command: Iterable[str],
        profile: str,
        *,
        deps: Mapping[str, str],
        claims: Path | None = None,
        lock: Path = Path("requirements.lock"),
    ) -> None:
        """Start the clocks, and read commit and claims: what runs is the code as it is at the start."""
        self.stage = stage
        self._head = {
            "stage": stage,
            "command": " ".join(command),
            "profile": profile,
            "commit": _git("rev-parse", "HEAD"),
            "dirty": _is_dirty(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "claims": _committed_file(claims) if claims else None,
            "deps": dict(deps),
            "fingerprint": fingerprint(profile, deps, numerical_versions()),
            "versions": pinned_versions(lock),
            "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
        }
        self._wall, self._cpu = time.monotonic(), _cpu_s()

    def write(
        self,
        path: Path,
        *,
        outs: Iterable[str],
        workers: int,
        threads: int,
        environment: Mapping[str, str],
        kernels: Mapping[str, str],
        device: Mapping[str, str] | None = None,
    ) -> None:
        """Write the record.

        Args:
            path: JSON file to replace.
            outs: Names of the tables that the stage has written beside it.
            workers: Processes used.
            threads: Threads in each.
            environment: Variables that change numbers, see `number_environment`.
            kernels: See `kernels_in_use`.
            device: What the runs computed on, if that is no CPU.
        """
        record: dict[str, Any] = {
            **self._head,
            "wall_s": round(time.monotonic() - self._wall, 1),
            "cpu_s": round(_cpu_s() - self._cpu, 1),
            "machine_class": machine_class(kernels),
            "cores": os.cpu_count(),
            "workers": workers,
            "threads": threads,
            "environment": dict(environment),
            "kernels": dict(kernels),
            "device": device,
            "outs": {name: file_md5(path.with_name(name)) for name in outs},
        }
        write_json(path, record)


def is_made(record: Path, profile: str, deps: Mapping[str, str]) -> bool:
    """Say whether results are what a stage would make: same fingerprint, tables as written.

    Args:
        record: Provenance beside the results; it may be missing.
        profile: Profile of the stage.
        deps: What the results would depend on, see `dependencies`.

    Returns:
        Whether there is nothing to do.
    """
    if not record.exists():
        return False
    made = read_json(record)
    files = {record.with_name(name): digest for name, digest in made.get("outs", {}).items()}
    whole = all(file.exists() and file_md5(file) == digest for file, digest in files.items())
    return whole and made.get("fingerprint") == fingerprint(profile, deps, numerical_versions())


def dependencies(modules: Iterable[str], params: Path, profile: str, tables: Iterable[str]) -> dict[str, str]:
    """Hash all that the numbers of a stage depend on, but for versions and kernels.

    Args:
        modules: Full names of the modules that run; what they import of ours, directly or not, counts.
        params: Its file of parameters, relative to the repository.
        profile: Block of it that is read.
        tables: Names of the data tables it reads.

    Returns:
        Hash by path relative to the repository, see `content_hash`.
    """
    code = {module_file(name).relative_to(Path.cwd()) for module in modules for name in import_closure(module)}
    data = [Path("data") / f"{name}.parquet" for name in tables]
    return {path.as_posix(): content_hash(path, profile) for path in sorted([*code, params, *data])}


def content_hash(path: Path, profile: str) -> str:
    """Hash what a file means to a stage.

    Args:
        path: Code, parameters or data.
        profile: Block that counts of a file of parameters.

    Returns:
        Of code see `code_hash`, and of code that was shown to give the same numbers as an older one the hash of that;
        of parameters the SHA-256 of their block, of data the MD5 that DVC knows them by.
    """
    if path.suffix == ".py":
        return oldest_code(code_hash(path), older_code(EQUIVALENT))
    if path.suffix == ".yaml":
        return hashlib.sha256(canonical_json(read_yaml(path)[profile]).encode()).hexdigest()
    return file_md5(path)


def code_hash(path: Path) -> str:
    """Hash the syntax tree of a Python file without its docstrings: comments and layout leave it as it is.

    Empty fields are left out, so that Python 3.12, whose functions have one more, gives the same hash as 3.11.

    Args:
        path: The file.

    Returns:
        SHA-256, 64 hexadecimal digits.
    """
    return _hash_of_code(path.read_bytes())


@cache
def _hash_of_code(source: bytes) -> str:
    return hashlib.sha256(repr(_meaning(ast.parse(source))).encode()).hexdigest()


def older_code(path: Path) -> dict[str, str]:
    """Read which code gives the same numbers as an older one.

    Args:
        path: `equivalent_code.yaml`; it may be missing.

    Returns:
        Hash of the older code by that of the newer one, see `code_hash`.
    """
    return _older_code(path.resolve(), path.stat().st_mtime_ns) if path.exists() else {}


def oldest_code(digest: str, older: Mapping[str, str]) -> str:
    """Go back to the oldest code that gives the same numbers.

    Args:
        digest: Hash of code.
        older: See `older_code`.

    Returns:
        Hash of that code.

    Example:
        >>> oldest_code("c", {"c": "b", "b": "a"})
        'a'
    """
    while digest in older:
        digest = older[digest]
    return digest


def fingerprint(profile: str, deps: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Put all that makes a stage's numbers, on machines of one class, into one hash.

    Args:
        profile: Profile of the stage.
        deps: See `dependencies`.
        versions: Of numerical libraries; others are left out.

    Returns:
        SHA-256, 64 hexadecimal digits.
    """
    # Without the label of a build: torch's wheel for a CPU and that for a GPU are one version.
    numerical = {name: versions[name].partition("+")[0] for name in NUMERICAL if name in versions}
    content = {"profile": profile, "deps": dict(deps), "versions": numerical}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


@cache
def import_closure(module: str) -> tuple[str, ...]:
    """List our own modules that a module imports, directly or not, itself included.

    Args:
        module: Full name, for example "replications.lion.experiment".

    Returns:
        Sorted module names.

    Example:
        >>> import_closure("paperkit.results")
        ('paperkit.results',)
    """
    if not module.startswith(PACKAGES):
        return (module,)
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return tuple(sorted({module, *graph.find_upstream_modules(module)}))


def module_file(module: str) -> Path:
    """Find the source file of a module.

    Args:
        module: Full name.

    Returns:
        Its path.

    Raises:
        ModuleNotFoundError: If there is no such module with a source file.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.has_location:
        message = f"no source file for module {module}"
        raise ModuleNotFoundError(message)
    return Path(spec.origin)


def number_environment(pins: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that may change a number, as a process with these pins sees them.

    Args:
        pins: Variables that are set for the process.

    Returns:
        Value by name, sorted.
    """
    seen = {**os.environ, **pins}
    chosen = (name for name in seen if _CHOOSES.fullmatch(name) and not _IS_PLACE.search(name))
    return {name: seen[name] for name in sorted({*chosen, *({"PYTHONHASHSEED"} & seen.keys())})}


def kernels_in_use() -> dict[str, str]:
    """Name the kernels that this process computes with: libraries choose them by processor and environment.

    Returns:
        Kernels of "BLAS" (NumPy's and SciPy's), "NumPy" and "torch"; for example "openblas Haswell", "X86_V3 X86_V4",
        "AVX2".
    """
    import scipy.linalg  # noqa: F401  # loads SciPy's BLAS
    import torch
    from numpy.lib.introspect import opt_func_info
    from threadpoolctl import threadpool_info

    blas = [each for each in threadpool_info() if each["user_api"] == "blas"]
    targets = {of_type["current"] for of_function in opt_func_info().values() for of_type in of_function.values()}
    return {
        "BLAS": " ".join(sorted({f"{each['internal_api']} {each.get('architecture', '?')}" for each in blas})),
        "NumPy": " ".join(sorted(target for target in targets if not target.startswith("baseline"))) or "baseline",
        "torch": torch.backends.cpu.get_cpu_capability(),
    }


def machine_class(kernels: Mapping[str, str]) -> str:
    """Name the class of machines within which results agree byte for byte: vendor, architecture, libc, kernels.

    Args:
        kernels: See `kernels_in_use`.

    Returns:
        For example "GenuineIntel x86_64 glibc-2.36, BLAS openblas Haswell, NumPy X86_V3, torch AVX2".
    """
    machine = f"{_cpu_vendor()} {platform.machine()} {'-'.join(platform.libc_ver())}"
    return ", ".join([machine, *(f"{library} {chosen}" for library, chosen in kernels.items())])


def numerical_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that may change a number.

    Returns:
        Version by name, without what is not installed.
    """
    return {name: installed for name in NUMERICAL if (installed := _installed(name))}


def pinned_versions(lock: Path) -> dict[str, str]:
    """Return the installed version of torch and of every library that the lock pins.

    Args:
        lock: File of lines "name==version".

    Returns:
        Version by name, as installed here (which may differ from the pin, and then shows).
    """
    names = {
        "torch",
        *re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(encoding="utf-8"), flags=re.MULTILINE),
    }
    installed = {_normal(found.name): found.version for found in distributions() if found.name}
    return {name: installed[_normal(name)] for name in sorted(names) if _normal(name) in installed}


def file_md5(path: Path) -> str:
    """Hash a file as DVC does.

    Args:
        path: The file.

    Returns:
        MD5, 32 hexadecimal digits.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _meaning(node: object) -> object:
    """Reduce a syntax tree to names, fields and values, without positions, docstrings and empty fields."""
    if isinstance(node, list):
        return [_meaning(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if documented and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = fields["body"][1:]
    filled = [(name, _meaning(value)) for name, value in fields.items() if value is not None and value != []]
    return type(node).__name__, filled


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _cpu_vendor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"^vendor_id\s*:\s*(\S+)", text, flags=re.MULTILINE)
    return found.group(1) if found else platform.processor() or "unknown"


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@cache
def _older_code(path: Path, _: int) -> dict[str, str]:
    return {after: before for change in read_yaml(path)["changes"] for before, after in change["code"].values()}


def _git(*arguments: str) -> str | None:
    if not Path(".git").exists():
        return None  # an exported archive has no history
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"git cannot say which code this is: {done.stderr.strip()}"
        raise ConfigError(message)
    return done.stdout.strip()


def _committed_file(path: Path) -> dict[str, str | None]:
    """Hash a file, and name the last commit that changed it; null if it is not committed as it is."""
    changed = _git("status", "--porcelain", "--", str(path))
    commit = _git("log", "-1", "--format=%H", "--", str(path)) if changed == "" else None
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "commit": commit or None}


def _is_dirty() -> bool | None:
    status = _git("status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in _OUTPUTS))
    return None if status is None else bool(status)

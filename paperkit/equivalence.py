"""Code that gives the same numbers as an older one: `python -m paperkit accept --since COMMIT --why TEXT`.

Results are of the code that their record names. A change of shared code that moves no number, such as a clearer error
or a lock on a folder, would cost hours of training in every stage that imports it; so nobody would make it. It costs
minutes where it is shown that it moves none: each stage that imports changed code runs its smoke profile with the code
before and after, and must write the same bytes. The change is then noted in equivalent_code.yaml, by which
`paperkit.provenance` takes the new code for the old one. A smoke run is short. So a note needs a receipt of `verify`
too: a whole stage that was trained with the new code, and gave the bytes of the old one (`unproven`).
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from paperkit.config import ConfigError, read_yaml
from paperkit.history import committed, environment_without_git
from paperkit.prediction import IDENTICAL
from paperkit.provenance import EQUIVALENT, code_hash, file_md5, older_code, oldest_code
from paperkit.results import read_json, replace_text
from paperkit.verify import pull_data, run_stage

HEAD = """\
# Changes of code that move no number, so that results of the code before are results of the code after: hashes of each
# file's code before and after, and of the tables that both write at smoke scale. Written by `make accept`, see
# paperkit/equivalence.py; each needs a receipt of `make verify` after it, below receipts/.
"""


def run_smoke(clone: Path, stage: str) -> None:
    """Run the smoke profile of a stage in a clone."""
    run_stage(clone, stage, None, 0, "smoke")


def accept(root: Path, since: str, why: str, *, run: Callable[[Path, str], None] = run_smoke) -> dict[str, list[str]]:
    """Show at smoke scale that changed code gives the numbers of the code before, and note it.

    Args:
        root: The repository; what it holds of code is committed.
        since: Commit with the code before, whose results are those that are committed.
        why: One sentence.
        run: Runs the smoke profile of a stage in a clone.

    Returns:
        Hashes before and after by file.

    Raises:
        ConfigError: If code is not committed, a stage imports other files than before, or writes other tables.
    """
    if _git(root, "status", "--porcelain", "--", "*.py", "*.yaml"):
        message = "commit the code first: what is shown here is shown of a commit"
        raise ConfigError(message)
    with tempfile.TemporaryDirectory(prefix="two clones ") as scratch:
        clones = {when: Path(scratch, when) for when in ("before", "after")}
        for clone in clones.values():
            _git(root, "clone", "--quiet", str(root), str(clone))
        _git(clones["before"], "checkout", "--quiet", since)
        stages = dict(_changed_stages(clones["before"], clones["after"], root))
        tables = {}
        for name in stages:
            print(f"{name}: its smoke profile with the code before and after", flush=True)
            for clone in clones.values():
                pull_data(clone)
                run(clone, name)
            results = [clone / "results" / name for clone in clones.values()]
            tables[name] = {
                table: file_md5(results[1] / table) for table in read_json(results[1] / "provenance.json")["outs"]
            }
            if moved := [table for table, digest in tables[name].items() if file_md5(results[0] / table) != digest]:
                message = f"results/{name}/{moved[0]} has other bytes with the new code: train the stage again"
                raise ConfigError(message)
    code = {path: hashes for changed in stages.values() for path, hashes in changed.items()}
    note = {"since": _git(root, "rev-parse", since), "date": f"{datetime.now(UTC):%Y-%m-%d}", "why": why}
    noted = [*_noted(root), note | {"code": code, "smoke": tables}]
    replace_text(root / EQUIVALENT, HEAD + yaml.safe_dump({"schema": 1, "changes": noted}, sort_keys=False, width=119))
    return code


def unproven(root: Path) -> list[str]:
    """Say which noted change no receipt bears out: of a stage that imports the file, run after the change, identical.

    Args:
        root: The repository, with its history.

    Returns:
        A line for each file of a change.
    """
    receipts = [read_json(path) for path in sorted(root.glob("receipts/*/*.json"))]
    shown: set[str] = set()
    older = older_code(root / EQUIVALENT)
    for receipt in receipts:
        if receipt["outcome"] != IDENTICAL:
            continue
        deps = [
            dep
            for dep in read_json(root / "results" / receipt["results"] / "provenance.json")["deps"]
            if dep.endswith(".py")
        ]
        with tempfile.TemporaryDirectory() as scratch:
            for text in committed(root, [f"{receipt['commit']}:{dep}" for dep in deps]):
                file = Path(scratch, "code.py")
                file.write_bytes(text)
                digest = code_hash(file)
                while digest in older:
                    shown.add(digest)
                    digest = older[digest]
    return [
        f"{path}: no rerun bears out that its change of {change['date']} moves no number; "
        "`make verify` a stage that imports it"
        for change in _noted(root)
        for path, (_, after) in change["code"].items()
        if after not in shown
    ]


def _noted(root: Path) -> list[dict[str, Any]]:
    return read_yaml(root / EQUIVALENT)["changes"] if (root / EQUIVALENT).exists() else []


def _changed_stages(before: Path, after: Path, root: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Find the training stages whose code has changed, and the hashes of each file's code before and after."""
    older = older_code(root / EQUIVALENT)
    stages = [read_yaml(clone / "dvc.yaml")["stages"] for clone in (before, after)]
    for name, stage in stages[1].items():
        if stage.get("frozen") or ".experiment " not in str(stage.get("cmd")):
            continue
        code = [{dep for dep in each[name]["deps"] if dep.endswith(".py")} for each in stages]
        if code[0] != code[1]:
            message = f"{name} imports other files than before ({', '.join(code[0] ^ code[1])}): train it again"
            raise ConfigError(message)
        hashes = {path: [code_hash(clone / path) for clone in (before, after)] for path in sorted(code[1])}
        changed = {
            path: pair for path, pair in hashes.items() if oldest_code(pair[0], older) != oldest_code(pair[1], older)
        }
        if changed:
            yield name, changed


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=environment_without_git(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        message = f"git {arguments[0]}: {done.stderr.strip()}"
        raise ConfigError(message)
    return done.stdout.strip()

"""Train again in a clean clone, and compare: `python -m paperkit verify lion` (`make verify NAME=lion`).

* identical: the tables have the same bytes, and the verdicts the same words.
* as expected: the words are the same, and every number that a claim is judged by lies where its seeds say that a next
  run lies in 95 of 100 cases (`paperkit.prediction.next_run`). So it is on another class of machines.
* drifted: a word has changed, or a number lies elsewhere.
* nondeterministic: two of the reruns, with other workers or another hash seed, gave other bytes on this very machine.

A receipt is written to receipts/<folder of results>/. Clock readings are outside all this.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dvc.repo import Repo

from paperkit.claims.declarations import Claim, read_claims
from paperkit.config import ConfigError
from paperkit.explain import find_verdict
from paperkit.history import environment_without_git, no_history
from paperkit.pipeline import found_replications
from paperkit.prediction import (
    DRIFTED,
    EXPECTED,
    IDENTICAL,
    NONDETERMINISTIC,
    next_run,
    numbers_by_seed,
    outcome_of,
)
from paperkit.profiles import COMMITTED, replication_and_profile, results_name
from paperkit.provenance import NUMERICAL, file_md5
from paperkit.results import read_json, write_json
from paperkit.stage import RERUN

ROUNDING = 1e-9  # relative; an interval may have no length
# What a receipt takes over from the record of the rerun, and from that of the committed run.
_MADE = (
    "stage", "profile", "commit", "started", "lock_sha256", "machine_class", "device", "kernels", "environment",
    "cores", "threads", "wall_s", "cpu_s",
)  # fmt: skip
_AGAINST = ("commit", "started", "machine_class", "device", "lock_sha256")

# Runs the stage of a folder of results in a clone, with so many workers (None: all cores) and a hash seed.
RunStage = Callable[[Path, str, int | None, int], None]


def run_stage(clone: Path, folder: str, workers: int | None, hash_seed: int, profile: str | None = None) -> None:
    """Train again what a folder of results holds, on at most so many processes (None: all cores), and judge it."""
    name, own = replication_and_profile(folder)
    environment = _own_environment() | {RERUN: "1", "PYTHONHASHSEED": str(hash_seed)}
    environment |= {"LOKY_MAX_CPU_COUNT": str(workers)} if workers else {}
    stage = (f"replications.{name}.experiment", "--profile", profile or own, "--out", f"results/{folder}")
    for arguments in (stage, ("paperkit.claims", folder)):
        if subprocess.run([sys.executable, "-m", *arguments], cwd=clone, env=environment, check=False).returncode:
            message = f"`python -m {' '.join(arguments)}` fails in a clean clone"
            raise ConfigError(message)


def pull_data(clone: Path) -> None:
    """Fetch the data of a clone, if it has any and they are not there yet."""
    if (clone / "data.dvc").is_file() and not (clone / "data").exists():
        with Repo(str(clone)) as repo:
            repo.pull()


def verify(
    root: Path,
    address: str | None,
    workers: Sequence[int | None] = (None,),
    hash_seeds: Sequence[int] = (0,),
    *,
    run: RunStage = run_stage,
    say: Callable[[str], object] = print,
) -> bool:
    """Rerun a folder of results, that of a claim, or all of cpu in a clean clone; say whether all is as expected."""
    folder, _, claim_id = (address or "").partition("/")
    if claim_id:
        find_verdict(root, f"{folder}/{claim_id}")
    folders = [folder] if folder else [results_name(name, COMMITTED) for name in found_replications(root)]
    if missing := [each for each in folders if not (root / "results" / each / "verdicts.json").is_file()]:
        message = f"results/{missing[0]} holds no verdicts: there is nothing to compare a rerun with"
        raise ConfigError(message)
    if reason := no_history(root):
        message = f"a clean clone cannot be made: {reason}"
        raise ConfigError(message)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="a clone ") as scratch:
        clone = Path(scratch, "repository")
        subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], env=_own_environment(), check=True)
        for each in folders:
            receipt = _verified(clone, each, list(product(workers, hash_seeds)), run)
            path = root / "receipts" / each / f"{receipt['started'][:10]}-{_slug(receipt)}.json"
            write_json(path, receipt)
            outcomes.append(_outcome_for(receipt, claim_id))
            say(f"{each}{'/' * bool(claim_id)}{claim_id}: {outcomes[-1]}")
            for line in _lines(receipt, claim_id):
                say(f"  {line}")
            say(f"  receipt: {path.relative_to(root)}")
    return set(outcomes) <= {IDENTICAL, EXPECTED}


def compare(claims: Sequence[Claim], name: str, committed: Path, rerun: Path) -> dict[str, Any]:
    """Compare a folder of results with what a rerun has made of it.

    Args:
        claims: Of the replication.
        name: Folder of the replication.
        committed: Folder of results.
        rerun: Another such folder.

    Returns:
        "tables", whether each has the same bytes; "verdicts", the two words of each claim; "metrics", of each number
        that a claim is judged by both means, the interval for a next run, the largest drift of a seed in standard
        deviations, and whether the rerun lies inside (None where there is no interval).
    """
    tables = {
        table: (rerun / table).is_file() and file_md5(rerun / table) == file_md5(committed / table)
        for table in ("runs.csv", "trials.csv")
        if (committed / table).is_file()
    }
    before, after = (_words(folder) for folder in (committed, rerun))
    verdicts = {claim: [word, after.get(claim)] for claim, word in before.items()}
    timeless = [claim for claim in claims if claim.kind != "timing"]
    old, new = (numbers_by_seed(timeless, name, folder) for folder in (committed, rerun))
    metrics = {place: _metric(values, new[place]) for place, values in old.items() if len(values)}
    return {"tables": tables, "verdicts": verdicts, "metrics": metrics}


def _metric(old: pd.Series, new: pd.Series) -> dict[str, Any]:
    expected, before, after = next_run(old), old.to_numpy(dtype=float), new.to_numpy(dtype=float)
    means = {"committed": _finite(before.mean()), "rerun": _finite(after.mean()) if len(after) else None}
    if expected is None:
        return means | dict.fromkeys(("low", "high", "inside", "drift_sd"))
    (low, high), sd = expected, before.std(ddof=1)
    drift = np.abs((new - old).dropna().to_numpy(dtype=float)).max(initial=0.0)
    slack = ROUNDING * np.abs(before).max()
    inside = means["rerun"] is not None and low - slack <= means["rerun"] <= high + slack
    return means | {"low": low, "high": high, "inside": bool(inside), "drift_sd": drift / sd if sd > 0 else None}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _words(folder: Path) -> dict[str, str | None]:
    return {claim["id"]: claim["verdict"] for claim in read_json(folder / "verdicts.json")["claims"]}


def _own_environment() -> dict[str, str]:
    """Leave out what names the modules or the repository of another place."""
    return {key: value for key, value in environment_without_git().items() if key != "PYTHONPATH"}


def _verified(clone: Path, folder: str, settings: Iterable[tuple[int | None, int]], run: RunStage) -> dict[str, Any]:
    """Rerun a folder of results in a clone under each setting, and write down what came of it."""
    name, _ = replication_and_profile(folder)
    claims, results = read_claims(clone / f"replications/{name}/claims.yaml"), clone / "results" / folder
    committed = clone.with_name(f"{folder} committed")
    shutil.copytree(results, committed)
    against = read_json(committed / "provenance.json")
    if any(dep.startswith("data/") for dep in against["deps"]):
        pull_data(clone)
    reruns = []
    for workers, hash_seed in settings:
        run(clone, folder, workers, hash_seed)
        tables = {table: file_md5(results / table) for table in against["outs"]}
        reruns.append({"workers": workers, "hash_seed": hash_seed, "tables": tables})
    made = read_json(results / "provenance.json")
    versions = {library: made["versions"][library] for library in NUMERICAL if library in made["versions"]}
    heads = {"schema": 1, "results": folder, "versions": versions, "reruns": reruns}
    heads |= {key: made[key] for key in _MADE} | {"against": {key: against[key] for key in _AGAINST}}
    receipt = heads | compare(claims, name, committed, results)
    return receipt | {"outcome": outcome_of(receipt)}


def _outcome_for(receipt: Mapping[str, Any], claim_id: str) -> str:
    """Say what came of the one claim that was asked for; of all where none was."""
    stands = claim_id and receipt["outcome"] == DRIFTED and not _lines(receipt, claim_id)
    return EXPECTED if stands else receipt["outcome"]


def _lines(receipt: Mapping[str, Any], claim_id: str) -> list[str]:
    """Say what has changed beyond what was expected."""
    lines = [
        f"{claim}: was {before}, is {after}"
        for claim, (before, after) in receipt["verdicts"].items()
        if before != after and claim_id in ("", claim)
    ]
    lines += [
        f"{place}: was {_number(metric['committed'])}, is {_number(metric['rerun'])}; expected in "
        f"[{_number(metric['low'])}, {_number(metric['high'])}]"
        for place, metric in receipt["metrics"].items()
        if metric["inside"] is False and claim_id in ("", place.partition(".")[0])
    ]
    if receipt["outcome"] == NONDETERMINISTIC:
        lines += [
            f"workers {each['workers'] or 'all'}, hash seed {each['hash_seed']}: {each['tables']}"
            for each in receipt["reruns"]
        ]
    return lines


def _number(value: float | None) -> str:
    return "not there" if value is None else f"{value:.4g}"


def _slug(receipt: Mapping[str, Any]) -> str:
    """Name the class of machines, or the device, as a file is named."""
    where = (receipt["device"] or {"name": receipt["machine_class"]})["name"]
    return re.sub(r"[^a-z0-9]+", "-", where.lower()).strip("-")

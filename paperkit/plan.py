"""What a run costs before it is run, and what its seeds can detect: `python -m paperkit plan lion --seeds 20`.

Costs are those of the last run (costs.csv, provenance.json), arm by arm: an estimate is a measurement, scaled. Where a
profile was never run there is nothing to scale, and its block of params.yaml says what is known.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from paperkit.claims.declarations import MIN_POWER, Claim, read_claims
from paperkit.config import ConfigError
from paperkit.pipeline import found_replications
from paperkit.profiles import results_name
from paperkit.results import read_json, read_runs
from paperkit.runs import available_workers
from paperkit.statistics import achieved_power

STARTING_S = 6.0  # of a stage beyond its runs: the start of Python and torch in every worker


@dataclass(frozen=True)
class Estimate:
    """What a stage takes.

    Attributes:
        runs: Runs, trials of searches and checks included.
        cpu_s: Processor seconds of all of them.
        wall_s: Seconds from start to end.
        gpu_s: Of these, on a GPU; 0 where there is none.
        peak_mib: Largest memory of a worker times the number of workers.
    """

    runs: int
    cpu_s: float
    wall_s: float
    gpu_s: float
    peak_mib: float


def estimate(folder: Path, workers: int, seeds: int | None = None) -> Estimate:
    """Scale what the last run took.

    Args:
        folder: Of results.
        workers: Processes that will run at a time.
        seeds: Seeds of each arm that has several; None for those of the last run. What a search or a check took does
            not depend on them.

    Returns:
        The estimate. Arms of one seed (checks, curves) stay at one.

    Raises:
        ConfigError: If there is no last run.
    """
    if not (folder / "costs.csv").is_file():
        message = (
            f"results/{folder.name} has no costs.csv: nothing is measured; its block of params.yaml says what is known"
        )
        raise ConfigError(message)
    costs = pd.read_csv(folder / "costs.csv", dtype={"experiment": str, "arm": str}, keep_default_na=False)
    arms = costs.set_index(["experiment", "arm"]).index
    reported = read_runs(folder / "runs.csv").groupby(["experiment", "arm"])
    seeds_of, configs = (reported[key].nunique().reindex(arms, fill_value=0).to_numpy() for key in ("seed", "config"))
    more = np.where(seeds_of > 1, seeds - seeds_of, 0) if seeds else 0
    ran, took = costs["runs"].to_numpy(), costs["cpu_s"].to_numpy()
    runs = ran + more * configs
    cpu_s, peak_mib = float((took / ran * runs).sum()), float(costs["peak_mib"].to_numpy().max())
    made = read_json(folder / "provenance.json")
    if made["device"]:  # runs share the device, whose seconds nobody counts one by one
        gpu_s = made["wall_s"] * cpu_s / float(took.sum())
        return Estimate(int(runs.sum()), cpu_s, gpu_s, gpu_s, peak_mib * made["workers"])
    return Estimate(int(runs.sum()), cpu_s, STARTING_S + cpu_s / workers, 0.0, peak_mib * workers)


def smallest_effect(pilot_sd: float, n: int, alpha: float, *, equivalence: bool) -> float:
    """Return the smallest margin that n seeds detect with the power that a primary claim needs.

    Args:
        pilot_sd: Standard deviation between seeds.
        n: Seeds, at least 2.
        alpha: Error level.
        equivalence: Whether equality is to be detected instead of an effect.

    Returns:
        The margin, in the unit of the standard deviation.

    Example:
        >>> round(smallest_effect(0.1, 10, 0.05, equivalence=False), 3)
        0.1
    """

    def missing_power(log_margin: float) -> float:
        return MIN_POWER - achieved_power(1.0, math.exp(log_margin), n, alpha, equivalence)

    return pilot_sd * math.exp(float(brentq(missing_power, -10, 10)))  # pyright: ignore[reportArgumentType]


def plan(root: Path, name: str | None, profile: str, seeds: int | None) -> str:
    """Say what a run of a replication will take on this machine, and what its seeds can detect.

    Args:
        root: The repository.
        name: The replication; None for all that have run at the profile.
        profile: One of `paperkit.profiles.PROFILES`.
        seeds: Of each arm; None for those of the last run.

    Returns:
        Lines of text.

    Raises:
        ConfigError: If the replication is not there, or has not run at the profile.
    """
    known = found_replications(root)
    if name not in (None, *known):
        message = f"replications/{name} is not there; there are {', '.join(known)}"
        raise ConfigError(message)
    folders = {each: root / "results" / results_name(each, profile) for each in ([name] if name else known)}
    if name is None:
        folders = {each: folder for each, folder in folders.items() if (folder / "costs.csv").is_file()}
    return "\n".join(line for each, folder in folders.items() for line in _lines(root, each, folder, profile, seeds))


def _lines(root: Path, name: str, folder: Path, profile: str, seeds: int | None) -> Iterator[str]:
    if profile == "smoke":
        message = f"{name}: nothing is kept of a smoke run, which takes seconds; `make check NAME={name}` measures it"
        raise ConfigError(message)
    workers = available_workers()
    will, made = estimate(folder, workers, seeds), read_json(folder / "provenance.json")
    then = estimate(folder, made["workers"])
    yield f"{folder.name}, from its run of {made['started'][:10]} on {made['machine_class'].partition(',')[0]}:"
    gpu = f", {_hours(will.gpu_s)} of a GPU" if will.gpu_s else ""
    yield f"  {will.runs} runs, {_hours(will.cpu_s)} of one core{gpu}"
    yield f"  {_hours(will.wall_s)} here with {workers} workers; at most {will.peak_mib / 1024:.1f} GiB of memory"
    happened, ratio = _hours(made["wall_s"]), made["wall_s"] / then.wall_s
    yield f"  that run took {happened} with {made['workers']} workers, {ratio:.2f} times what is estimated for it"
    for claim in read_claims(root / f"replications/{name}/claims.yaml"):
        yield from (f"  {line}" for line in _detectable(claim, seeds))


def _detectable(claim: Claim, seeds: int | None) -> Iterator[str]:
    n = seeds or claim.min_seeds
    for test in claim.deciding:
        if claim.is_primary and test.pilot_sd and (wanted := test.plan()) and n > 1:
            least = smallest_effect(test.pilot_sd, n, wanted.alpha, equivalence=wanted.equivalence)
            enough = "enough" if least <= wanted.margin else "too few"
            yield (
                f"{claim.id}, {test.estimand}: {n} seeds detect {least:.3g} {test.unit} with a power of {MIN_POWER}; "
                f"{enough} for its margin of {wanted.margin:g}"
            )


def _hours(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

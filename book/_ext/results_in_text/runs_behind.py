"""Which runs stand behind a claim: found by leaving runs out and looking whether the number moves.

An estimand is a function of the whole table of runs and filters for itself, so no list says what it reads. Here each
experiment is left out in turn, and within those that matter each arm. What moves the outcome, or makes it impossible,
stands behind it.
"""

import importlib
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from paperkit.claims import Claim, read_claims
from paperkit.results import read_runs

Estimand = Callable[[pd.DataFrame], Any]


def runs_behind(name: str) -> dict[str, dict[str, Any]]:
    """Look behind every test of a replication.

    Args:
        name: The replication.

    Returns:
        By claim and place of the test, such as "C6.tests[0]": `values` (the estimand by seed), `arms` (arms by
        experiment) and `rows` (how many rows of the table these are).
    """
    estimands = importlib.import_module(f"replications.{name}.estimands")
    claims = read_claims(Path(f"replications/{name}/claims.yaml"))
    found = {}
    for file, timing in (("runs.csv", False), ("timings.csv", True)):
        path = Path(f"results/{name}/{file}")
        if path.exists():
            runs = read_runs(path)
            without = _without(runs, "experiment")
            for claim in claims:
                if (claim.kind == "timing") == timing:
                    found |= {
                        f"{claim.id}.{place}": _behind(getattr(estimands, estimand), runs, without)
                        for place, estimand in _places(claim)
                    }
    return found


def behind_estimand(estimand: Estimand, runs: pd.DataFrame) -> dict[str, Any]:
    """Look behind one estimand.

    Args:
        estimand: From runs to one number a seed, or to one row with max_error and control_error.
        runs: The whole table.

    Returns:
        `values`, `arms` and `rows`, see `runs_behind`.

    Example:
        >>> table = pd.DataFrame({"experiment": ["a", "a", "b"], "arm": ["x", "y", "x"], "seed": 0})
        >>> table["value"] = [1.0, 2.0, 3.0]
        >>> behind_estimand(lambda runs: runs[runs["arm"] == "y"].set_index("seed")["value"], table)
        {'values': {'0': 2.0}, 'arms': {'a': ['y']}, 'rows': 1}
    """
    return _behind(estimand, runs, _without(runs, "experiment"))


def _without(runs: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    return {str(value): runs[runs[column] != value] for value in runs[column].unique()}


def _behind(estimand: Estimand, runs: pd.DataFrame, without: dict[str, pd.DataFrame]) -> dict[str, Any]:
    whole = _outcome(estimand, runs)
    arms: dict[str, list[str]] = {}
    for experiment, others in without.items():
        if _outcome(estimand, others) != whole:
            rows = runs[runs["experiment"] == experiment]
            of_experiment = {arm: pd.concat([others, rest]) for arm, rest in _without(rows, "arm").items()}
            arms[experiment] = [arm for arm, rest in of_experiment.items() if _outcome(estimand, rest) != whole]
    chosen = pd.Series(False, index=runs.index)
    for experiment, of_experiment in arms.items():
        chosen |= (runs["experiment"] == experiment) & runs["arm"].isin(of_experiment)
    return {"values": whole, "arms": arms, "rows": int(chosen.sum())}


def _places(claim: Claim) -> list[tuple[str, str]]:
    places = [(f"tests[{number}]", test.estimand) for number, test in enumerate(claim.tests)]
    corrected = claim.correction.tests if claim.correction else ()
    return places + [(f"correction.tests[{number}]", test.estimand) for number, test in enumerate(corrected)]


def _outcome(estimand: Estimand, runs: pd.DataFrame) -> dict[str, float | None] | None:
    try:
        with warnings.catch_warnings():
            # Means of nothing are expected here.
            warnings.simplefilter("ignore")
            outcome = estimand(runs)
    except Exception:
        return None
    numbers = outcome.iloc[0] if isinstance(outcome, pd.DataFrame) and len(outcome) else outcome
    if isinstance(numbers, pd.DataFrame):
        return {}
    return {str(key): float(value) if math.isfinite(value) else None for key, value in numbers.items()}

"""Which runs stand behind a claim: found by leaving runs out and looking whether the number moves.

An estimand is a function of the whole table of runs and filters for itself, so no list says what it reads. Here
experiments are left out, and within those that matter arms. What moves the outcome, or makes it impossible, stands
behind it. What an estimand looks at without effect does not: of implementations that it compares by their best, only
the best.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paperkit.claims.declarations import load_estimands, read_claims
from paperkit.claims.verdicts import tables_of
from paperkit.profiles import replication_and_profile

Estimand = Callable[[pd.DataFrame], Any]


def runs_behind(folder: str) -> dict[str, dict[str, Any]]:
    """Look behind every test of a folder of results, by claim and place of the test, such as C6.tests[0]."""
    name, _ = replication_and_profile(folder)
    claims = read_claims(Path(f"replications/{name}/claims.yaml"))
    estimands = load_estimands(f"replications.{name}.estimands", claims)
    found = {}
    for file, timing in (("runs.csv", False), ("timings.csv", True)):
        path = Path(f"results/{folder}/{file}")
        if path.exists():
            judged = [claim for claim in claims if (claim.kind == "timing") == timing]
            found |= {
                f"{claim.id}.{place}": behind_estimand(estimands[number.estimand], runs)
                for runs, some in tables_of(path.parent, file, judged)
                for claim in some
                for place, number in claim.numbers.items()
            }
    return found


def behind_estimand(estimand: Estimand, runs: pd.DataFrame) -> dict[str, Any]:
    """Look behind one estimand: its values by seed, the arms by experiment, and how many rows these are."""
    whole = _outcome(estimand, runs)
    codes, names = pd.factorize(runs["experiment"])
    experiments = _needed(range(len(names)), codes, lambda rest: _outcome(estimand, runs[rest]) != whole)
    arms: dict[str, list[str]] = {}
    chosen = np.zeros(len(runs), dtype=bool)
    for experiment in sorted(experiments, key=lambda place: str(names[place])):
        # Arms of other experiments have the code -1, and are never left out.
        of_experiment, known = pd.factorize(runs["arm"].where(codes == experiment))
        needed = _needed(range(len(known)), of_experiment, lambda rest: _outcome(estimand, runs[rest]) != whole)
        arms[str(names[experiment])] = sorted(str(known[place]) for place in needed)
        chosen |= np.isin(of_experiment, needed)
    return {"values": whole, "arms": arms, "rows": int(chosen.sum())}


def _needed(places: Sequence[int], codes: np.ndarray, moves: Callable[[np.ndarray], bool]) -> list[int]:
    """Find what cannot be left out, by halves: most experiments have nothing to do with a claim."""
    if not places or not moves(~np.isin(codes, places)):
        return []
    if len(places) == 1:
        return list(places)
    middle = len(places) // 2
    return _needed(places[:middle], codes, moves) + _needed(places[middle:], codes, moves)


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

"""A replication, `toy`, with claims and numbers to order: what the tests of paperkit.claims share."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic import TypeAdapter
from scipy import stats

from paperkit.claims.__main__ import main
from paperkit.claims.rules import AnyTest, Result, evaluate
from paperkit.results import write_runs
from paperkit.runs import Run
from tests.made_up_runs import made_up_row

GREATER = {"estimand": "gap", "rule": "greater", "bound": 0, "margin": 0.1, "unit": "nats", "pilot_sd": 0.04}
LESS = GREATER | {"rule": "less"}
SLOPE = GREATER | {"margin": None}
EQUIVALENT = {"estimand": "gap", "rule": "equivalent", "margin": 0.1, "unit": "nats", "pilot_sd": 0.04}
WITHIN = {"estimand": "gap", "rule": "within", "low": 0.4, "high": 0.6, "unit": "ratio", "pilot_sd": 0.04}
REPORT = {"estimand": "gap", "rule": "report", "unit": "nats"}
IDENTITY = {"estimand": "algebra", "rule": "identity", "tolerance": 1e-12}
OTHER = GREATER | {"estimand": "other_gap"}
ESTIMANDS = ("gap", "other_gap", "third_gap", "fourth_gap")

Numbers = Mapping[int, float] | Sequence[float]


def claim(*tests: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a valid claim of claims.yaml, of a test on `gap` if none is given; `...` leaves a key out."""
    content = {
        "id": "C1",
        "statement": "The gap is positive.",
        "source": {"bib": "toy2026", "where": "Table 1"},
        "reported": {"value": 0.2, "unit": "nats", "unverified": False},
        "kind": "experiment",
        "family": None,
        "profile": "smoke",
        "min_seeds": 5,
        "tests": [dict(test) for test in tests or (GREATER,)],
    } | changes
    return {key: value for key, value in content.items() if value is not ...}


def primary(*tests: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return claim(*tests, family="primary", **changes)


def identity(**changes: Any) -> dict[str, Any]:
    return claim(IDENTITY, kind="identity", min_seeds=1, **{"id": "C9"} | changes)


def varied(*estimands: str, **changes: Any) -> dict[str, Any]:
    """Return a primary claim with variations, `other_gap` if none is given."""
    names = estimands or ("other_gap",)
    return primary(robustness=[{"name": f"as {name}", "estimand": name} for name in names]) | changes


def seeds(estimate: float, half_width: float, n: int = 8) -> list[float]:
    """Return n numbers with this mean and this half-width of the 95 % interval."""
    shape = np.linspace(-1, 1, n)
    standard = (shape - shape.mean()) / shape.std(ddof=1)
    sd = half_width * np.sqrt(n) / stats.t.ppf(0.975, n - 1)
    return list(estimate + sd * standard)


def parsed(test: Mapping[str, Any]) -> Any:
    return TypeAdapter(AnyTest).validate_python(test)


def judged(test: Mapping[str, Any], numbers: Sequence[float]) -> Result:
    """Judge a single test on numbers of the seeds 0, 1, …"""
    return evaluate(parsed(test), pd.Series(numbers, dtype=float))


def made_up_rows(name: str, numbers: Numbers, profile: str) -> list[dict[str, Any]]:
    """Return rows of runs.csv for an estimand of `ESTIMANDS` (numbers by seed), or for the two errors of `algebra`."""
    if name == "algebra":
        check = Run("identities", "signum", 0, {})
        errors = zip(("max_error", "control_error"), numbers, strict=True)
        return [made_up_row(check, "none", 0, metric, value, profile=profile) for metric, value in errors]
    by_seed = numbers if isinstance(numbers, Mapping) else dict(enumerate(numbers))
    return [
        made_up_row(
            Run(name, "difference", seed, {}), "test", 100, "gap_nats", None if np.isnan(value) else value,
            profile=profile,
        )
        for seed, value in by_seed.items()
    ]  # fmt: skip


def _by_seed(experiment: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda runs: runs[runs["experiment"] == experiment].set_index("seed")["value"]


def _algebra(runs: pd.DataFrame) -> pd.DataFrame:
    checks = runs[runs["experiment"] == "identities"]
    return checks.pivot(index="arm", columns="metric", values="value")


class Toy:
    """A repository with one replication, `toy`, judged through the command line."""

    def __init__(self, root: Path) -> None:
        self.root, self.results = root, root / "results/toy"
        self.estimands = ModuleType("replications.toy.estimands")
        self.estimands.algebra = _algebra
        for name in ESTIMANDS:
            setattr(self.estimands, name, _by_seed(name))
        (root / "replications/toy").mkdir(parents=True)
        self.measure()

    def declare(self, *claims: Mapping[str, Any]) -> Path:
        path = self.root / "replications/toy/claims.yaml"
        path.write_text(yaml.safe_dump({"schema": 1, "claims": list(claims)}), encoding="utf-8")
        return path

    def measure(self, *, profile: str = "smoke", table: str = "runs.csv", **numbers: Numbers) -> None:
        """Write the runs of each estimand; one that no claim looks at gives the table its profile."""
        rows = [row for name in numbers for row in made_up_rows(name, numbers[name], profile)]
        write_runs(self.results / table, [*rows, *made_up_rows("unrelated", [0.0], profile)])

    def read(self, file: str) -> Any:
        return json.loads((self.results / file).read_text(encoding="utf-8"))

    def verdicts(self) -> dict[str, dict[str, Any]]:
        main(["toy"])
        return {record["id"]: record for record in self.read("verdicts.json")["claims"]}

    def judge(self, *claims: Mapping[str, Any], profile: str = "smoke", **numbers: Numbers) -> dict[str, Any]:
        """Judge claims on numbers by estimand; return the record of the first."""
        self.declare(*claims)
        self.measure(profile=profile, **numbers)
        return self.verdicts()[claims[0]["id"]]

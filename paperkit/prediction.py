"""What the seeds of a claim's number say about its next run, and what came of one that was made."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from paperkit.claims.declarations import Claim, load_estimands
from paperkit.claims.rules import SeedTest
from paperkit.claims.verdicts import tables_of

IDENTICAL, EXPECTED, DRIFTED, NONDETERMINISTIC = "identical", "as expected", "drifted", "nondeterministic"


def numbers_by_seed(claims: Sequence[Claim], name: str, results: Path) -> dict[str, pd.Series]:
    """Compute every number that claims are judged by, from the runs of one folder of results.

    Args:
        claims: Of one replication.
        name: Folder of the replication.
        results: Folder of results; a table that it lacks gives no numbers.

    Returns:
        One number a seed by claim and place of the test, such as "C6.tests[0]", empty where nothing was run, NaN where
        a seed diverged and claims.yaml fixes no value for it. Identities have no seeds, and are left out.
    """
    estimands = load_estimands(f"replications.{name}.estimands", claims)
    return {
        f"{claim.id}.{place}": estimands[test.estimand](runs).astype(float).fillna(_of_diverged(test))
        for table, timing in (("runs.csv", False), ("timings.csv", True))
        if (results / table).exists()
        for runs, some in tables_of(results, table, [each for each in claims if (each.kind == "timing") == timing])
        for claim in some
        for place, test in claim.numbers.items()
        if isinstance(test, SeedTest)
    }


def next_run(values: pd.Series) -> tuple[float, float] | None:
    """Return the interval that holds one further seed in 95 of 100 cases: m ± t_{0.975}(n − 1) · s · √(1 + 1/n).

    Args:
        values: One number a seed.

    Returns:
        Its ends; None with fewer than two seeds, or where one diverged.

    Example:
        >>> low, high = next_run(pd.Series([0.1, 0.3, 0.2]))
        >>> round(low, 2), round(high, 2)
        (-0.3, 0.7)
    """
    numbers = values.to_numpy(dtype=float)
    n = len(numbers)
    if n < 2 or np.isnan(numbers).any():
        return None
    mean, reach = numbers.mean(), stats.t.ppf(0.975, n - 1) * numbers.std(ddof=1) * math.sqrt(1 + 1 / n)
    return float(mean - reach), float(mean + reach)


def _of_diverged(test: SeedTest) -> float:
    return math.nan if test.diverged_value is None else test.diverged_value


def outcome_of(rerun: Mapping[str, Any]) -> str:
    """Say what came of a rerun.

    Args:
        rerun: A receipt's "tables", "verdicts" and "metrics" (see `paperkit.verify.compare`), and its "reruns".

    Returns:
        One of the four words above.
    """
    if any(each["tables"] != rerun["reruns"][0]["tables"] for each in rerun["reruns"]):
        return NONDETERMINISTIC
    same_words = all(one == other for one, other in rerun["verdicts"].values())
    if same_words and all(rerun["tables"].values()):
        return IDENTICAL
    inside = all(metric["inside"] is not False for metric in rerun["metrics"].values())
    return EXPECTED if same_words and inside else DRIFTED

"""The notebook's constants on the exact score of its own clusters: suprema, its grid, and a wider one (X17)."""

from collections.abc import Iterator

from paperkit.runs import Measurement, Rows, Run, Runner, execute
from replications.wasserstein_bound.notebook import QUADRANT, SQUARE, Clusters, log_growth_and_intercept
from replications.wasserstein_bound.studies.measuring import measured

ARMS = {
    "supremum": lambda data: data.suprema,
    "quadrant": lambda data: data.on_grid(QUADRANT),
    "square": lambda data: data.on_grid(SQUARE),
}


def run(runner: Runner) -> Rows:
    """Evaluate the notebook's formula for each way to find the constants."""
    return execute(runner, measure_notebook, [Run("notebook", arm, 0, {}) for arm in ARMS])


def measure_notebook(run: Run) -> Iterator[Measurement]:
    """Measure log I(T), and the intercept of the line."""
    log_growth, intercept = log_growth_and_intercept(ARMS[run.arm](Clusters()))
    return measured(0, {"log_growth": log_growth, "intercept": intercept})

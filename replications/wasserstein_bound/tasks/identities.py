"""Every equality and inequality that needs no training as a run: its error and that of its negative control."""

from collections.abc import Iterator

from paperkit.runs import Measurement, Run
from replications.wasserstein_bound.tasks.closed_forms import CLOSED_FORM_CHECKS
from replications.wasserstein_bound.tasks.stationary import STATIONARY_CHECKS

__all__ = ["IDENTITIES", "measure_identity"]

IDENTITIES = {**CLOSED_FORM_CHECKS, **STATIONARY_CHECKS}


def measure_identity(run: Run) -> Iterator[Measurement]:
    """Execute the check that the arm names, and its negative control."""
    check = IDENTITIES[run.arm]()
    yield Measurement("none", 0, "max_error", check.max_error)
    yield Measurement("none", 0, "control_error", check.control_error)

"""The checks of a derivation as runs of the experiment "identities"."""

from collections.abc import Callable, Iterator, Mapping

from paperkit.checks import Check
from paperkit.runs import Measurement, Run

__all__ = ["measure_check"]


def measure_check(run: Run, checks: Mapping[str, Callable[[], Check]]) -> Iterator[Measurement]:
    """Execute one check of a derivation, and its negative control, as a run of experiment "identities".

    Args:
        run: Its arm names the check.
        checks: All checks of the replication by name.

    Yields:
        The check's error ("max_error"), and the error of the deliberately wrong variant ("control_error").

    Example:
        >>> run = Run("identities", "half", 0, {})
        >>> [m.value for m in measure_check(run, {"half": lambda: Check(0.5 - 1 / 2, 0.5 - 1 / 3)})]
        [0.0, 0.16666666666666669]
    """
    check = checks[run.arm]()
    yield Measurement("none", 0, "max_error", check.max_error)
    yield Measurement("none", 0, "control_error", check.control_error)

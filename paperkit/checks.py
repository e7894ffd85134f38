"""Outcome of an executed check of a derivation. Imports nothing, so that a derivation runs without the rest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Check", "Checks", "by_name"]


@dataclass(frozen=True)
class Check:
    """Outcome of a check: both sides of an equation were computed, then again with one ingredient wrong on purpose.

    Attributes:
        max_error: Largest deviation from the statement, relative where the quantity has a scale; for an inequality the
            largest violation, never below 0.
        control_error: The same with one ingredient wrong; must be far larger, since a check that cannot fail proves
            nothing.
    """

    max_error: float
    control_error: float


Checks = Mapping[str, Callable[[], Check]]


def by_name(*checks: Callable[[], Check]) -> dict[str, Callable[[], Check]]:
    """List the checks of a module: what a stage executes, claims name and pages show.

    Args:
        checks: Functions without arguments.

    Returns:
        The functions by their own names.

    Example:
        >>> def half() -> Check:
        ...     return Check(0.5 - 1 / 2, 0.5 - 1 / 3)
        >>> list(by_name(half))
        ['half']
    """
    return {check.__name__: check for check in checks}

"""Outcome of an executed check of a derivation. Imports nothing, so that a derivation runs without the rest."""

from dataclasses import dataclass

__all__ = ["Check"]


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

"""What a check of the derivation is."""

from dataclasses import dataclass

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """Outcome of a check.

    Attributes:
        max_error: Largest deviation from the statement, relative where the quantity has a scale; for an inequality the
            largest violation, relative to the bound and never below 0.
        control_error: The same with one ingredient wrong; must be far larger.
    """

    max_error: float
    control_error: float

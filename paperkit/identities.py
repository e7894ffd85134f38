"""The checks of a derivation as runs of the experiment "identities": a stage executes all that its folder names."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paperkit.checks import Checks
from paperkit.runs import Measurement, Run

__all__ = ["EXPERIMENT", "ChecksOf"]

EXPERIMENT = "identities"


@dataclass(frozen=True)
class ChecksOf:
    """Executes the checks in `CHECKS` of a module, one a run.

    Attributes:
        module: Full name, for example "replications.lion.checks".

    Example:
        >>> ChecksOf("replications.lion.checks").runs()[0]
        Run(experiment='identities', arm='step_1_magnitude', seed=0, config={})
    """

    module: str

    def runs(self) -> Sequence[Run]:
        """List a run for each check; its arm names the check.

        Returns:
            The runs, in the order of `CHECKS`.
        """
        return [Run(EXPERIMENT, name, 0, {}) for name in self._checks()]

    def __call__(self, run: Run) -> Iterator[Measurement]:
        """Execute a check and its negative control.

        Args:
            run: Its arm names the check.

        Yields:
            The check's error ("max_error"), and the error of the deliberately wrong variant ("control_error").
        """
        check = self._checks()[run.arm]()
        yield Measurement("none", 0, "max_error", check.max_error)
        yield Measurement("none", 0, "control_error", check.control_error)

    def _checks(self) -> Checks:
        return importlib.import_module(self.module).CHECKS

"""The bound against distances that are known exactly: every study behind claims.yaml.

`studies/` has one module a study: its settings, what is measured, and which cases with which seeds. All but the
networks is closed form or quadrature. A seed is a block of random cases, a draw of coupled pairs, or the
initialisation and data order of a network.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from paperkit.runs import Runner
from paperkit.stage import StageConfig, Tables, main
from replications.wasserstein_bound.studies import (
    controls,
    gaussians,
    mixtures,
    network_in_plane,
    network_on_line,
    schedules,
)

Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]


class Config(StageConfig):
    """One profile of params.yaml."""

    seeds: Seeds  # of the blocks of random cases, and of the pairs
    sweeps: gaussians.Sweeps
    mixtures: mixtures.Mixtures
    horizons: list[Positive]  # T at which the offset is computed, increasing
    num_steps: list[Annotated[int, Field(ge=1)]]  # time steps of the discretised sampler
    stationary_rates: Annotated[list[Positive], Field(max_length=50)]  # β T of the counterexample's curves
    learned: network_on_line.LearnedScore
    learned_seeds: Seeds
    learned_2d: network_in_plane.PlaneScore
    learned_2d_seeds: Seeds  # the same for every arm

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name in ("seeds", "learned_seeds", "learned_2d_seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                message = f"{name} {getattr(self, name)} must differ from each other"
                raise ValueError(message)
        if sorted(set(self.horizons)) != self.horizons:
            message = f"horizons {self.horizons} must increase"
            raise ValueError(message)
        if self.mixtures.num_slack_seeds > len(self.seeds):
            message = (
                f"mixtures.num_slack_seeds {self.mixtures.num_slack_seeds} must be at most {len(self.seeds)}, the "
                "number of seeds"
            )
            raise ValueError(message)
        return self


def run(config: Config, runner: Runner) -> Tables:
    """Run every study, the longest runs first, so that no worker is idle at the end; nothing is tuned here."""
    return Tables([
        *network_in_plane.run(config.learned_2d, config.learned_2d_seeds, runner),
        *network_on_line.run(config.learned, config.learned_seeds, runner),
        *gaussians.run(config.sweeps, config.seeds, runner),
        *mixtures.run(config.mixtures, config.seeds, runner),
        *schedules.run(config.horizons, config.num_steps, config.stationary_rates, runner),
        *controls.run(runner),
    ])


if __name__ == "__main__":
    main(Config, run, stage="wasserstein_bound", module="replications.wasserstein_bound.experiment")

"""The bound against distances that are known exactly: every study behind claims.yaml, a module each in `studies/`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from paperkit.runs import Runner
from paperkit.stage import StageConfig, Tables, main
from paperkit.tuning import Tuning
from replications.wasserstein_bound.studies import (
    controls,
    finite_sets,
    gaussians,
    mixtures,
    network_in_plane,
    network_on_line,
    notebook,
    schedules,
)
from replications.wasserstein_bound.studies.finite_sets import FiniteSets
from replications.wasserstein_bound.studies.mixtures import Mixtures

Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
SEEDS_OF = {
    "seeds": ("sweeps", "mixtures"),
    "learned_seeds": ("learned",),
    "learned_2d_seeds": ("learned_2d",),
    "finite_set_seeds": ("finite_sets",),
}


class Config(StageConfig):
    """One profile of params.yaml."""

    seeds: Seeds = Field(default=[])  # of the blocks of random cases, and of the pairs
    sweeps: gaussians.Sweeps | None = None
    mixtures: Mixtures | None = None
    horizons: list[Positive] = Field(default=[])  # T at which the offset is computed, increasing
    num_steps: list[Annotated[int, Field(ge=1)]] = Field(default=[])  # time steps of the discretised sampler
    # β T of the counterexample's curves
    stationary_rates: Annotated[list[Positive], Field(max_length=50)] = Field(default=[])
    search: Tuning | None = None  # of the learning rates of learned and learned_2d
    learned: network_on_line.LineStudy | None = None
    learned_seeds: Seeds = Field(default=[])
    learned_2d: network_in_plane.PlaneStudy | None = None
    learned_2d_seeds: Seeds = Field(default=[])  # the same for every arm
    finite_sets: FiniteSets | None = None
    finite_set_seeds: Seeds = Field(default=[])  # the same for every data set

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, studies in SEEDS_OF.items():
            if any(getattr(self, study) for study in studies) and not getattr(self, name):
                message = f"{name} are missing: {' and '.join(studies)} run on them"
                raise ValueError(message)
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                message = f"{name} {getattr(self, name)} must differ from each other"
                raise ValueError(message)
        if self.learned or self.learned_2d:
            if self.search is None:
                message = "search is missing: learned and learned_2d tune their learning rates"
                raise ValueError(message)
            self.search.refuse_shared({"learned_seeds": self.learned_seeds, "learned_2d_seeds": self.learned_2d_seeds})
        if sorted(set(self.horizons)) != self.horizons:
            message = f"horizons {self.horizons} must increase"
            raise ValueError(message)
        if self.mixtures and self.mixtures.num_slack_seeds > len(self.seeds):
            message = (
                f"mixtures.num_slack_seeds {self.mixtures.num_slack_seeds} must be at most {len(self.seeds)}, the "
                "number of seeds"
            )
            raise ValueError(message)
        return self


def run(config: Config, runner: Runner) -> Tables:
    """Run every study named, the longest runs first, so that no worker is idle at the end."""
    rows, trials = [], []
    if config.finite_sets:
        rows += finite_sets.run(config.finite_sets, config.finite_set_seeds, runner)
    studies = (
        (network_on_line.run, config.learned, config.learned_seeds),
        (network_in_plane.run, config.learned_2d, config.learned_2d_seeds),
    )
    for run_study, study, seeds in studies:
        if study and config.search:
            tables = run_study(study, seeds, config.search, runner)
            rows += tables.runs
            trials += tables.trials
    if config.sweeps:
        rows += gaussians.run(config.sweeps, config.seeds, runner) + controls.run(runner) + notebook.run(runner)
    if config.mixtures:
        rows += mixtures.run(config.mixtures, config.seeds, runner)
    return Tables(rows + schedules.run(config.horizons, config.num_steps, config.stationary_rates, runner), trials)


if __name__ == "__main__":
    main(
        Config,
        run,
        stage="wasserstein_bound",
        module="replications.wasserstein_bound.experiment",
        everywhere=["paper"],
    )

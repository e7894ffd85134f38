"""The bound against distances that are known exactly: every study behind claims.yaml, one function each.

What is computed or trained stands in `tasks/`; here is which cases, with which seeds. All but the networks is closed
form or quadrature. A seed is a block of random cases, a draw of coupled pairs, or the initialisation and data order of
a network.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from paperkit.config import StrictModel
from paperkit.runs import Rows, Run, Runner, execute
from paperkit.stage import Tables, main
from replications.wasserstein_bound.tasks.affine_sweep import measure_affine_cases, measure_noise_family
from replications.wasserstein_bound.tasks.dimensions import measure_dimension, measure_rotation
from replications.wasserstein_bound.tasks.discretisation import measure_discretisation
from replications.wasserstein_bound.tasks.identities import IDENTITIES, measure_identity
from replications.wasserstein_bound.tasks.learned_score import LearnedScore, measure_learned_score
from replications.wasserstein_bound.tasks.learned_score_2d import ARMS, PlaneScore, measure_plane_score
from replications.wasserstein_bound.tasks.mixtures import measure_growth, measure_mixture, measure_slack
from replications.wasserstein_bound.tasks.offset import measure_offset
from replications.wasserstein_bound.tasks.stationary import measure_stationary_shift

SAMPLERS = {"ode": 0.0, "sde": 1.0}
# Data of the offset and of the time steps: N(1, 1/4).
GAUSSIAN = {"mean": 1.0, "variance": 0.25}


def _odd(value: int) -> int:
    if value % 2 == 0:
        message = f"{value} must be odd: a step spans two intervals of the grid"
        raise ValueError(message)
    return value


Count = Annotated[int, Field(ge=1)]
OddCount = Annotated[int, Field(ge=3), AfterValidator(_odd)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0)]


class Clusters(StrictModel):
    """A symmetric mixture of two Gaussians."""

    mean: NotNegative  # half the distance of the clusters, in units of x; 0 is one Gaussian
    variance: Positive  # of each cluster


class ScoreError(StrictModel):
    """What is added to an exact score: shift + amplitude sin(frequency x)."""

    shift: float = 0.0  # in units of a score, 1 / x
    amplitude: float = 0.0  # in units of a score
    frequency: float = 1.0  # in radians per unit of x


class Sweeps(StrictModel):
    """Random Gaussians."""

    # Affine cases on the line in a block; each is run with both samplers
    num_cases: Annotated[int, Field(ge=1, le=50)]
    num_times: Count  # of the grid on the line
    etas: list[NotNegative]  # noise of the reverse processes, relative to g
    num_family_cases: Count  # affine cases in a block for each of them
    num_rotations: Count  # cases in the plane with a score that rotates
    rotation: Positive  # largest rate of rotation
    dimensions: list[Count]  # of the Gaussians with random covariances
    num_dimension_cases: Count  # in a block for each dimension
    num_plane_times: OddCount  # of the grid of the cases in the plane; fine, since a shift attains the bound there
    num_dimension_times: OddCount  # of the grid in several dimensions
    matrix_error: Positive  # size of the random error of their scores


class Mixtures(StrictModel):
    """Two clusters with a perturbed score."""

    clusters: list[Clusters]  # to sample from
    far_clusters: list[Clusters]  # of which only I is followed
    errors: list[ScoreError]  # perturbations of the score
    num_steps: Count  # of the samplers
    num_pairs: Count  # of the paths that share their noise
    num_slack_seeds: Count  # draws of these pairs


class Config(StrictModel):
    """One profile of params.yaml."""

    seeds: list[Seed] = Field(min_length=1)  # of the blocks of random cases, and of the pairs
    sweeps: Sweeps
    mixtures: Mixtures
    horizons: list[Positive]  # T at which the offset is computed, increasing
    num_steps: list[Count]  # time steps of the discretised sampler
    stationary_rates: Annotated[list[Positive], Field(max_length=50)]  # β T of the counterexample's curves
    learned: LearnedScore  # the network on the line
    learned_seeds: list[Seed] = Field(min_length=1)
    learned_2d: PlaneScore  # the network in the plane
    learned_2d_seeds: list[Seed] = Field(min_length=1)  # the same for every arm

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
    """Run every study; nothing is tuned here."""
    studies = (run_learned, run_identities, run_sweeps, run_mixtures, run_schedules)
    return Tables([row for study in studies for row in study(config, runner)])


def run_identities(config: Config, runner: Runner) -> Rows:
    """Execute the checks, and draw the counterexample's curves."""
    curve = Run("stationary", "both", 0, {"rates": config.stationary_rates})
    return [
        *execute(runner, measure_identity, [Run("identities", name, 0, {}) for name in IDENTITIES]),
        *execute(runner, measure_stationary_shift, [curve]),
    ]


def run_sweeps(config: Config, runner: Runner) -> Rows:
    """Compare distance and bound over random Gaussians."""
    sweeps = config.sweeps
    block = {"num_cases": sweeps.num_cases, "num_times": sweeps.num_times}
    affine = [Run("affine", arm, seed, block) for seed in config.seeds for arm in SAMPLERS]
    family = [
        Run("noise_family", f"eta_{eta:g}", seed, {**block, "num_cases": sweeps.num_family_cases, "eta": eta})
        for seed in config.seeds
        for eta in sweeps.etas
    ]
    rotation = [
        Run(
            "rotation",
            arm,
            config.seeds[0],
            {"case": case, "size": sweeps.rotation, "num_times": sweeps.num_plane_times},
        )
        for case in range(sweeps.num_rotations)
        for arm in SAMPLERS
    ]
    random_matrix = {"size": sweeps.matrix_error, "num_times": sweeps.num_dimension_times}
    dimension = [
        Run("dimension", arm, seed, {**random_matrix, "case": case, "dimension": d})
        for d in sweeps.dimensions
        for seed in config.seeds
        for case in range(sweeps.num_dimension_cases)
        for arm in SAMPLERS
    ]
    return [
        *execute(runner, measure_affine_cases, affine),
        *execute(runner, measure_noise_family, family),
        *execute(runner, measure_rotation, rotation),
        *execute(runner, measure_dimension, dimension),
    ]


def run_mixtures(config: Config, runner: Runner) -> Rows:
    """Compare distance and bound over mixtures; factor the slack; follow I and the weight w I."""
    study = config.mixtures
    clusters = [each.model_dump() for each in study.clusters]
    far = [each.model_dump() for each in study.far_clusters]
    errors = [each.model_dump() for each in study.errors]
    sampled = [
        Run("mixture", arm, 0, {**data, "perturbation": error, "num_steps": study.num_steps})
        for data in clusters
        for error in errors
        for arm in SAMPLERS
    ]
    # The first error alone, a shift: it is the one whose bound is attained when there is one cluster.
    coupled = {"perturbation": errors[0], "num_steps": study.num_steps, "num_pairs": study.num_pairs}
    slack = [
        Run("slack", arm, seed, {**data, **coupled})
        for data in clusters
        for seed in config.seeds[: study.num_slack_seeds]
        for arm in SAMPLERS
    ]
    growth = [Run("growth", arm, 0, data) for data in (*clusters, *far) for arm in SAMPLERS]
    return [
        *execute(runner, measure_mixture, sampled),
        *execute(runner, measure_slack, slack),
        *execute(runner, measure_growth, growth),
    ]


def run_schedules(config: Config, runner: Runner) -> Rows:
    """Compute the offset against the horizon, and W2 against the number of time steps."""
    offset = [
        Run("offset", arm, 0, {**GAUSSIAN, "horizon": horizon, "eta": eta})
        for horizon in config.horizons
        for arm, eta in SAMPLERS.items()
    ]
    steps = [
        Run("discretisation", arm, 0, {**GAUSSIAN, "num_steps": count, "eta": eta})
        for count in config.num_steps
        for arm, eta in SAMPLERS.items()
    ]
    return [*execute(runner, measure_offset, offset), *execute(runner, measure_discretisation, steps)]


def run_learned(config: Config, runner: Runner) -> Rows:
    """Train the networks and measure them along training."""
    line = [Run("learned", "network", seed, config.learned.model_dump()) for seed in config.learned_seeds]
    plane = [
        Run("learned_2d", arm, seed, config.learned_2d.model_dump())
        for seed in config.learned_2d_seeds
        for arm in ARMS
    ]
    # The longest runs first, so that no worker is idle at the end.
    return [
        *execute(runner, measure_plane_score, plane),
        *execute(runner, measure_learned_score, line),
    ]


if __name__ == "__main__":
    main(Config, run, stage="wasserstein_bound", module="replications.wasserstein_bound.experiment")

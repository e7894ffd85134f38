"""Two clusters on the line: distance, bound, and where the slack between them comes from."""

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Rows, Run, Runner, execute
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import WassersteinBound, score_weight, wasserstein_upper_bound
from replications.wasserstein_bound.errors import excess, halved
from replications.wasserstein_bound.mixture import Perturbation, SymmetricMixture
from replications.wasserstein_bound.samplers import Score, coupled_paths
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid
from replications.wasserstein_bound.studies.measuring import ETA_OF, measured, sampled_distance

NUM_BOUND_TIMES = 20_001
NUM_LEVELS = 2001
NUM_CELLS = 1600
NUM_CURVE_POINTS = 31


class Clusters(StrictModel):
    """A symmetric mixture of two Gaussians."""

    mean: float = Field(ge=0)  # half the distance of the clusters, in units of x; 0 is one Gaussian
    variance: float = Field(gt=0)  # of each cluster


class ScoreError(StrictModel):
    """What is added to an exact score: shift + amplitude sin(frequency x)."""

    shift: float = 0.0  # in units of a score, 1 / x
    amplitude: float = 0.0  # in units of a score
    frequency: float = 1.0  # in radians per unit of x


class Mixtures(StrictModel):
    """Which clusters, with which errors of the score."""

    clusters: list[Clusters]  # to sample from
    far_clusters: list[Clusters]  # of which only I is followed
    errors: list[ScoreError]  # perturbations of the score
    num_steps: int = Field(ge=1)  # of the samplers
    num_pairs: int = Field(ge=1)  # of the paths that share their noise
    num_slack_seeds: int = Field(ge=1)  # draws of these pairs


def run(settings: Mixtures, seeds: Sequence[int], runner: Runner) -> Rows:
    """Compare distance and bound; factor the slack; follow I and the weight w I."""
    clusters, far = ([each.model_dump() for each in group] for group in (settings.clusters, settings.far_clusters))
    errors, steps = [each.model_dump() for each in settings.errors], {"num_steps": settings.num_steps}
    sampled = [
        Run("mixture", arm, 0, {**data, **steps, "perturbation": error})
        for data in clusters
        for error in errors
        for arm in ETA_OF
    ]
    # The first error alone, a shift: it is the one whose bound is attained when there is one cluster.
    coupled = {**steps, "perturbation": errors[0], "num_pairs": settings.num_pairs}
    slack = [
        Run("slack", arm, seed, {**data, **coupled})
        for data in clusters
        for seed in seeds[: settings.num_slack_seeds]
        for arm in ETA_OF
    ]
    growth = [Run("growth", arm, 0, data) for data in (*clusters, *far) for arm in ETA_OF]
    return [
        *execute(runner, measure_mixture, sampled),
        *execute(runner, measure_slack, slack),
        *execute(runner, measure_growth, growth),
    ]


def measure_mixture(run: Run) -> Iterator[Measurement]:
    """Hold W2 against T4 for a mixture with a perturbed score from q_T = p_T, without Monte Carlo."""
    eta, mixture, perturbation, score = _setting(run)
    distance, floor = (_distance(run, mixture, each, eta) for each in (score, mixture.score))
    bound = _bound(mixture, perturbation, eta)
    numbers = {
        "distance_w2": distance,
        "floor_w2": floor,
        "log10_bound_w2": bound.log_value / np.log(10),
        "log10_growth_max": bound.log_growth.max() / np.log(10),
        "excess": excess(distance, bound.value, floor),
        "control_excess": excess(distance, halved(bound), floor),
    }
    return measured(0, numbers)


def measure_slack(run: Run) -> Iterator[Measurement]:
    """Factor the slack of the bound: W2 <= R <= B_c <= B, by pairs of paths that share their noise."""
    # R is the root mean square distance of the pairs at t = 0, B_c the bound whose L_s is replaced by the slope
    # averaged over the pairs. W2 / R is what the coupling costs, R / B_c what Cauchy and Schwarz cost, B_c / B what
    # the supremum costs. All as logarithms to base 10.
    eta, mixture, perturbation, score = _setting(run)
    schedule, rng = mixture.schedule, np.random.default_rng(run.seed)
    t = time_grid(schedule, run.config["num_steps"] + 1)
    start = mixture.draw(rng, (run.config["num_pairs"],), schedule.horizon)
    paths = coupled_paths(schedule, mixture.score, score, start, start, t, eta=eta, rng=rng)
    error = perturbation.error(mixture, t)
    averaged = wasserstein_upper_bound(
        t, **schedule.coefficients(t), score_error=error, score_slope=paths.slope, eta=eta
    )
    numbers = {
        "log10_distance_w2": np.log10(_distance(run, mixture, score, eta)),
        "log10_coupled_w2": np.log10(paths.distance[0]),
        "log10_averaged_bound_w2": averaged.log_value / np.log(10),
        "log10_bound_w2": _bound(mixture, perturbation, eta).log_value / np.log(10),
    }
    return measured(0, numbers)


def measure_growth(run: Run) -> Iterator[Measurement]:
    """Follow L_s, I and the weight w I of the exact score over t, in closed form however far apart the modes are."""
    # At each of a few times; step is their number.
    eta, mixture, _, _ = _setting(run)
    t = time_grid(mixture.schedule, NUM_BOUND_TIMES)
    slope, log_i = mixture.score_slope(t), _bound(mixture, Perturbation(), eta).log_growth
    weight = np.log(score_weight(mixture.schedule.beta(t), eta)) + log_i
    for number, index in enumerate(np.linspace(0, len(t) - 1, NUM_CURVE_POINTS).astype(int)):
        logs = {"log10_growth": log_i[index] / np.log(10), "log10_weight": weight[index] / np.log(10)}
        yield from measured(number, {"t": t[index], "score_slope": slope[index], **logs})


def _setting(run: Run) -> tuple[float, SymmetricMixture, Perturbation, Score]:
    """The sampler's noise, the data, the score's error and the wrong score."""
    mixture = SymmetricMixture(VariancePreserving(), run.config["mean"], run.config["variance"])
    perturbation = Perturbation(**run.config.get("perturbation", {}))
    return ETA_OF[run.arm], mixture, perturbation, lambda x, t: mixture.score(x, t) + perturbation(x)


def _bound(mixture: SymmetricMixture, perturbation: Perturbation, eta: float) -> WassersteinBound:
    t = time_grid(mixture.schedule, NUM_BOUND_TIMES)
    slope = mixture.score_slope(t) + perturbation.slope
    known = {**mixture.schedule.coefficients(t), "score_error": perturbation.error(mixture, t), "score_slope": slope}
    return wasserstein_upper_bound(t, **known, eta=eta)


def _distance(run: Run, mixture: SymmetricMixture, score: Score, eta: float) -> float:
    t: Array = time_grid(mixture.schedule, run.config["num_steps"] + 1)
    return sampled_distance(mixture, score, eta, t, num_levels=NUM_LEVELS, num_cells=NUM_CELLS)

"""Score networks in the plane, by several techniques that may tighten the bound; L_s, B estimated from below."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import SupportsFloat

import numpy as np
import torch
from pydantic import Field

from paperkit.runs import Measurement, Run, Runner, execute, seeds_of
from paperkit.stage import Tables
from paperkit.tuning import Tuning, tune
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import score_loss, wasserstein_upper_bound
from replications.wasserstein_bound.distances import debiased_distance
from replications.wasserstein_bound.lipschitz import SlopeEstimate, estimated_score_slope
from replications.wasserstein_bound.samplers import Score, euler_maruyama
from replications.wasserstein_bound.score_network import ScoreNetwork, SpectralScoreNetwork, score
from replications.wasserstein_bound.studies.measuring import ETA_OF, measured
from replications.wasserstein_bound.studies.score_training import (
    SCHEDULE,
    MixtureTraining,
    RatesToTry,
    ScoreTraining,
    log10,
    log_snr,
    loss_and_slopes,
    measured_training,
    network_score,
    uniform_in_log_snr,
    uniform_in_time,
)

DrawAt = Callable[[np.random.Generator, int, float], Array]  # points of p_t, by their number and t
ProbesAt = Callable[[np.random.Generator, float], Array]  # by t

REACH = 6.0  # of the grid for e(t), in units of x
NUM_ERROR_POINTS = 81  # a side
# Half-width of the square of probes beside points of p_t. The theorem's supremum is over the whole plane; a network
# is steepest where it extrapolates; probes within 4 miss it (many of the largest slopes lay at that edge).
BOX = 12.0


ARMS = ("plain", "spectral_norm", "weight_decay", "likelihood_weight")


class PlaneMeasurement(ScoreTraining):
    """What is estimated of a network in the plane at a checkpoint, whatever the data are."""

    sampler_steps: int = Field(ge=1)  # of Euler and Maruyama's scheme
    num_points: int = Field(ge=2)  # of a cloud; four clouds are drawn for a distance
    num_probes: int = Field(ge=4)  # points where slopes are evaluated at each time; half from p_t, half from a box
    num_ascents: int = Field(ge=1)  # at each time
    ascent_steps: int = Field(ge=1)  # of an ascent


class PlaneTask(PlaneMeasurement, MixtureTraining):
    """Data, network, training and measurement, but for the learning rate."""

    weight_decay: float = Field(ge=0)  # in the arm of that name

    def draw(self, rng: np.random.Generator, count: int, t: float = 0.0) -> Array:
        """Draw points of p_t, shape (count, 2)."""
        return self.mixture.draw(rng, (count, 2), t)


class PlaneScore(PlaneTask):
    """All settings of one run."""

    lr: float = Field(gt=0)  # peak, of AdamW


class PlaneStudy(PlaneTask, RatesToTry):
    """The task, and the search for each arm's rate."""


def run(study: PlaneStudy, seeds: Sequence[int], search: Tuning, runner: Runner) -> Tables:
    """Tune the rate of each technique, then train a network by each on each seed and measure it."""
    task = study.model_dump(include=set(PlaneTask.model_fields))
    tuned, trials = tune(runner, measure_trial, [study.search("techniques", arm, task) for arm in ARMS], search)
    best = {arm: {**task, **of_arm.best()} for arm, of_arm in zip(ARMS, tuned, strict=True)}
    grid = [Run("techniques", arm, seed, best[arm]) for seed in seeds for arm in ARMS]
    return Tables(execute(runner, measure_plane_score, grid), trials)


def measure_trial(run: Run) -> Iterator[Measurement]:
    """Train a network by the technique that the arm names, and measure its J at the end alone."""
    settings = PlaneScore(**run.config)

    def measure(network: ScoreNetwork, _step: int) -> dict[str, SupportsFloat]:
        beta, error = SCHEDULE.beta(settings.times), score_error(settings, network)
        return {"score_loss": score_loss(settings.times, loss_weight=beta, score_error=error)}

    settings = settings.model_copy(update={"checkpoints": settings.checkpoints[-1:]})
    yield from trained(settings, run.arm, run.seed, measure, split="validation")


def measure_plane_score(run: Run) -> Iterator[Measurement]:
    """Train a network by the technique that the arm names, and measure it at every checkpoint."""
    # At step 0 the distances of the exact score's samples.
    settings = PlaneScore(**run.config)
    *_, cloud_seed = seeds_of(run.seed)
    floors = cloud_distances(settings, settings.draw, settings.mixture.score, cloud_seed)
    yield from measured(0, {f"floor_{metric}": value for metric, value in floors.items()})
    measure = lambda network, _step: checkpoint(settings, network, cloud_seed)  # noqa: E731
    yield from trained(settings, run.arm, run.seed, measure)


def trained(
    settings: PlaneScore,
    arm: str,
    seed: int,
    measure: Callable[[ScoreNetwork, int], Mapping[str, SupportsFloat]],
    split: str = "none",
) -> Iterator[Measurement]:
    """Train a network by a technique, and report what is measured of it at every checkpoint."""
    initialisation, data_seed, _ = seeds_of(seed)
    torch.manual_seed(initialisation)
    kind = SpectralScoreNetwork if arm == "spectral_norm" else ScoreNetwork
    network = kind(dimension=2, width=settings.width, depth=settings.depth).double()
    decay = settings.weight_decay if arm == "weight_decay" else 0.0
    draw_log_snr = uniform_in_log_snr if arm == "likelihood_weight" else uniform_in_time
    yield from measured_training(
        settings,
        network,
        torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=decay),
        partial(measure, network),
        draw=settings.draw,
        draw_log_snr=draw_log_snr(SCHEDULE, settings.t_min),
        seed=data_seed,
        split=split,
    )


def checkpoint(settings: PlaneTask, network: ScoreNetwork, seed: int) -> dict[str, SupportsFloat]:
    """Measure loss, slopes, estimated bounds and distances of a network as it is."""
    schedule, t = settings.mixture.schedule, settings.times
    half = settings.num_probes // 2

    def probes(rng: np.random.Generator, time: float) -> Array:
        return np.concatenate([settings.draw(rng, half, time), rng.uniform(-BOX, BOX, (half, 2))])

    prior = 2**0.5 * settings.prior_distance  # a product of laws: squared distances of the coordinates add up
    error, estimates = score_error(settings, network), slopes(settings, probes, network, seed)
    slope = np.array([each.value for each in estimates])
    numbers = loss_and_slopes(settings, error, slope)
    numbers["ascent_gain"] = max(each.value - each.probe_value for each in estimates)
    numbers["share_at_edge"] = np.mean([each.at_edge for each in estimates])
    terms = {**schedule.coefficients(t), "score_error": error, "score_slope": slope, "prior_distance": prior}
    for name, eta in ETA_OF.items():
        numbers[f"log10_estimated_bound_w2_{name}"] = log10(wasserstein_upper_bound(t, **terms, eta=eta))
    return numbers | cloud_distances(settings, settings.draw, network_score(network, schedule), seed)


def score_error(settings: PlaneTask, network: torch.nn.Module) -> Array:
    """Integrate e(t)² = ∫ p_t ‖∇ log p_t − s‖² dx by the trapezoidal rule in both coordinates."""
    # e is summed over the coordinates, shape (num_times,).
    mixture = settings.mixture
    learned = network_score(network, mixture.schedule)
    axis = np.linspace(-REACH, REACH, NUM_ERROR_POINTS)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    squares = []
    for time in settings.times.tolist():
        masses = np.exp(mixture.log_density(points, time).sum(axis=1)) * (axis[1] - axis[0]) ** 2
        squares.append(masses @ ((mixture.score(points, time) - learned(points, time)) ** 2).sum(axis=1))
    return np.sqrt(squares)


def slopes(settings: PlaneMeasurement, probes: ProbesAt, network: torch.nn.Module, seed: int) -> list[SlopeEstimate]:
    """Estimate L_s at each time, from below, from points where the search starts."""
    rng = np.random.default_rng(seed)
    effort = {"num_ascents": settings.num_ascents, "num_steps": settings.ascent_steps}
    estimates = []
    for time in settings.times.tolist():
        level = torch.tensor(float(log_snr(SCHEDULE, time)), dtype=torch.float64)
        with warnings.catch_warnings():  # that the best lies at the box's edge is reported as a number instead
            warnings.simplefilter("ignore", RuntimeWarning)
            field = lambda x, level=level: score(network, x, level)  # noqa: E731
            estimates.append(estimated_score_slope(field, probes(rng, time), **effort))
    return estimates


def cloud_distances(settings: PlaneMeasurement, draw: DrawAt, model: Score, seed: int) -> dict[str, float]:
    """Estimate W2 between p_{t_min} and what both samplers make of a score."""
    # The debiased one, the plain one, and what two samples of one law give. seed: of reference points, prior and
    # noise: the same for every score.
    t, numbers = settings.grid(settings.sampler_steps + 1), {}
    for name, eta in ETA_OF.items():
        rng = np.random.default_rng(seed)
        data = draw(rng, 2 * settings.num_points, settings.t_min)
        start = rng.standard_normal((2 * settings.num_points, 2))
        samples = euler_maruyama(SCHEDULE, model, start, t, eta=eta, rng=rng)
        (reference, again), (cloud, cloud_again) = np.split(data, 2), np.split(samples, 2)
        with warnings.catch_warnings():  # a floor that is large beside the distance is reported as a number instead
            warnings.simplefilter("ignore", RuntimeWarning)
            apart = debiased_distance(reference, cloud, again, cloud_again)
        names = {"debiased_w2": apart.value, "plain_w2": apart.plain, "same_law_w2": apart.floor}
        numbers |= {f"{metric}_{name}": value for metric, value in names.items()}
    return numbers

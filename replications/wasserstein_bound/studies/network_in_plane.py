"""Score networks in the plane, by several techniques that may tighten the bound: an illustration with estimates.

Data are four clusters, the product of two symmetric mixtures. J is an integral against the exact p_t. L_s is sought
among probes and by ascent from the best, hence estimated from below, and so is the bound made with it. W2 is that of
point clouds from Euler and Maruyama's scheme, less what two samples of one law are apart; the exact score run in the
same way gives the floor. Everything is float64, and networks are measured in evaluation mode.

Arms, all with AdamW, compared by seed (initialisation, data, probes, reference points and noise are shared):

* `plain`: loss on the noise, times drawn uniformly, no decay;
* `spectral_norm`: the same with `SpectralScoreNetwork`;
* `weight_decay`: the same with the decay 0.01 of AdamW, which the authors' notebook has by default;
* `likelihood_weight`: plain, but λ = g² by drawing ℓ uniformly.

The learning rates of params.yaml were chosen for each arm by the final J on seed 1000, which must not be reported,
among 0.01, 0.03 and 0.1 (spectral_norm: 0.003 to 0.3).
"""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, seeds_of
from replications.wasserstein_bound.bound import score_loss, wasserstein_upper_bound
from replications.wasserstein_bound.distances import debiased_distance, normal_levels, quantile_function_distance
from replications.wasserstein_bound.lipschitz import SlopeEstimate, estimated_score_slope
from replications.wasserstein_bound.samplers import Score, euler_maruyama
from replications.wasserstein_bound.schedule import time_grid
from replications.wasserstein_bound.score_network import ScoreNetwork, SpectralScoreNetwork, score
from replications.wasserstein_bound.tasks.denoising import (
    ScoreTraining,
    log_snr,
    network_score,
    training,
    uniform_in_log_snr,
    uniform_in_time,
)

__all__ = ["ARMS", "PlaneScore", "measure_plane_score"]

Array = NDArray[np.float64]

ARMS = ("plain", "spectral_norm", "weight_decay", "likelihood_weight")
ETAS = {"ode": 0.0, "sde": 1.0}
REACH = 6.0  # of the grid for e(t), in units of x
NUM_ERROR_POINTS = 81  # a side
# Half-width of the square of probes beside points of p_t. The theorem's supremum is over the whole plane; a network
# is steepest where it extrapolates; probes within 4 miss it (many of the largest slopes lay at that edge).
BOX = 12.0
NUM_LEVELS = 501


class Rates(StrictModel):
    """Peak learning rate of each arm."""

    plain: float = Field(gt=0)
    spectral_norm: float = Field(gt=0)
    weight_decay: float = Field(gt=0)
    likelihood_weight: float = Field(gt=0)


class PlaneScore(ScoreTraining):
    """Data, network, training and measurement of one run."""

    lr: Rates  # peak, of AdamW
    weight_decay: float = Field(ge=0)  # in the arm of that name
    sampler_steps: int = Field(ge=1)  # of Euler and Maruyama's scheme
    num_points: int = Field(ge=2)  # of a cloud; four clouds are drawn for a distance
    num_probes: int = Field(ge=4)  # points where slopes are evaluated at each time; half from p_t, half from a box
    num_ascents: int = Field(ge=1)  # at each time
    ascent_steps: int = Field(ge=1)  # of an ascent


def measure_plane_score(run: Run) -> Iterator[Measurement]:
    """Train a network by the technique that the arm names, and measure it at every checkpoint."""
    # At step 0 the distances of the exact score's samples; at each checkpoint J, the estimated slopes, and for each
    # sampler the estimated bound as a logarithm, the debiased and plain W2 and what two samples of one law give.
    settings = PlaneScore(**run.config)
    mixture = settings.mixture
    initialisation, data_seed, cloud_seed = seeds_of(run.seed)
    torch.manual_seed(initialisation)
    kind = SpectralScoreNetwork if run.arm == "spectral_norm" else ScoreNetwork
    network = kind(dimension=2, width=settings.width, depth=settings.depth).double()
    decay = settings.weight_decay if run.arm == "weight_decay" else 0.0
    draw_log_snr = uniform_in_log_snr if run.arm == "likelihood_weight" else uniform_in_time
    steps = training(
        network,
        lambda rng, count: mixture.draw(rng, (count, 2)),
        draw_log_snr(mixture.schedule, settings.t_min),
        torch.optim.AdamW(network.parameters(), lr=getattr(settings.lr, run.arm), weight_decay=decay),
        batch=settings.batch,
        steps=settings.checkpoints[-1],
        seed=data_seed,
    )
    for metric, value in cloud_distances(settings, mixture.score, cloud_seed).items():
        yield Measurement("none", 0, f"floor_{metric}", value)
    for step in steps:
        if not math.isfinite(step.loss):
            yield Measurement("none", settings.checkpoints[-1], "score_loss", math.nan)
            return
        if step.number in settings.checkpoints:
            network.eval()
            for metric, value in checkpoint(settings, network, cloud_seed).items():
                yield Measurement("none", step.number, metric, value)


def checkpoint(settings: PlaneScore, network: ScoreNetwork, seed: int) -> dict[str, float]:
    """Measure loss, slopes, estimated bounds and distances of a network as it is."""
    mixture, t = settings.mixture, settings.times
    schedule = mixture.schedule
    z, weights = normal_levels(NUM_LEVELS)
    # A product of laws: squared distances of the coordinates add up.
    prior = 2**0.5 * quantile_function_distance(mixture.quantiles(z, schedule.horizon), z, weights)
    error, estimates = score_error(settings, network), slopes(settings, network, seed)
    slope = np.array([each.value for each in estimates])
    numbers = {
        "score_loss": float(score_loss(t, loss_weight=schedule.beta(t), score_error=error)),
        "slope_largest": float(slope.max()),
        "slope_at_start": float(slope[0]),
        "slope_at_horizon": float(slope[-1]),
        "ascent_gain": max(each.value - each.probe_value for each in estimates),
        "share_at_edge": float(np.mean([each.at_edge for each in estimates])),
    }
    for name, eta in ETAS.items():
        bound = wasserstein_upper_bound(
            t, diffusion_squared=schedule.beta(t), score_error=error, score_slope=slope,
            drift_slope=schedule.drift_slope(t), eta=eta, prior_distance=prior,
        )  # fmt: skip
        numbers[f"log10_estimated_bound_w2_{name}"] = float(bound.log_value) / math.log(10)
    return numbers | cloud_distances(settings, network_score(network, schedule), seed)


def score_error(settings: PlaneScore, network: ScoreNetwork) -> Array:
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


def slopes(settings: PlaneScore, network: ScoreNetwork, seed: int) -> list[SlopeEstimate]:
    """Estimate L_s at each time, from below."""
    rng, half = np.random.default_rng(seed), settings.num_probes // 2
    estimates = []
    for time in settings.times.tolist():
        probes = np.concatenate([settings.mixture.draw(rng, (half, 2), time), rng.uniform(-BOX, BOX, (half, 2))])
        level = torch.tensor(float(log_snr(settings.mixture.schedule, time)), dtype=torch.float64)
        with warnings.catch_warnings():  # that the best lies at the box's edge is reported as a number instead
            warnings.simplefilter("ignore", RuntimeWarning)
            estimates.append(
                estimated_score_slope(
                    lambda x, level=level: score(network, x, level),
                    probes,
                    num_ascents=settings.num_ascents,
                    num_steps=settings.ascent_steps,
                )
            )
    return estimates


def cloud_distances(settings: PlaneScore, model: Score, seed: int) -> dict[str, float]:
    """Estimate W2 between p_{t_min} and what both samplers make of a score."""
    # The debiased one, the plain one, and what two samples of one law give. seed: of reference points, prior and
    # noise: the same for every score.
    mixture, schedule, numbers = settings.mixture, settings.mixture.schedule, {}
    t = time_grid(schedule, settings.sampler_steps + 1, start=settings.t_min)
    for name, eta in ETAS.items():
        rng = np.random.default_rng(seed)
        data = mixture.draw(rng, (2 * settings.num_points, 2), settings.t_min)
        start = rng.standard_normal((2 * settings.num_points, 2))
        samples = euler_maruyama(schedule, model, start, t, eta=eta, rng=rng)
        (reference, again), (cloud, cloud_again) = np.split(data, 2), np.split(samples, 2)
        with warnings.catch_warnings():  # a floor that is large beside the distance is reported as a number instead
            warnings.simplefilter("ignore", RuntimeWarning)
            distance = debiased_distance(reference, cloud, again, cloud_again)
        numbers |= {
            f"debiased_w2_{name}": distance.value,
            f"plain_w2_{name}": distance.plain,
            f"same_law_w2_{name}": distance.floor,
        }
    return numbers

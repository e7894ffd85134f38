"""What is measured of a score network that was trained on a finite set of points, in any dimension.

J is held against the exact score of the noised set. L_s is estimated from below, by power iteration at noised points
and between them. W2 is that of point clouds, less what two samples of one law are apart. Everywhere `data` are points
on the device, shape (n, d), float64, and networks are in evaluation mode.
"""

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from paperkit.config import StrictModel
from replications.wasserstein_bound.bound import score_loss, wasserstein_upper_bound
from replications.wasserstein_bound.distances import point_cloud_distance
from replications.wasserstein_bound.finite_data import finite_data_score
from replications.wasserstein_bound.power_iteration import largest_symmetric_eigenvalue
from replications.wasserstein_bound.samplers import euler_maruyama
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid
from replications.wasserstein_bound.score_network import noised, score
from replications.wasserstein_bound.studies.score_training import log_snr, network_score

__all__ = ["SCHEDULE", "Evaluation", "checkpoint"]

ETAS = {"ode": 0.0, "sde": 1.0}
SCHEDULE = VariancePreserving()


class Evaluation(StrictModel):
    """What is measured at a checkpoint."""

    t_min: float = Field(gt=0, lt=1)  # where sampling stops
    num_times: int = Field(ge=2)  # of the bound's integrals, dense near t_min
    num_points: int = Field(ge=1)  # of p_t for e(t), at each time
    # Points where the largest eigenvalue is sought at each time; half lie between pairs of data
    num_probes: int = Field(ge=2)
    power_iterations: int = Field(ge=1)  # products in each of two iterations
    num_samples: int = Field(ge=2)  # points of a cloud; four clouds make a distance
    # Steps of Euler and Maruyama's scheme; each number is a sampler of its own
    sampler_steps: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    most_points: int = Field(ge=1)  # handled at once


def checkpoint(network: nn.Module, data: Tensor, evaluation: Evaluation, seed: int) -> dict[str, float]:
    """Measure loss, slopes, estimated bounds and distances of a network as it is."""
    # seed: of points, probes and clouds: the same at every checkpoint.
    rng = np.random.default_rng(seed)
    t = time_grid(SCHEDULE, evaluation.num_times, start=evaluation.t_min)
    error = np.array([score_error(network, data, evaluation, time, rng) for time in t.tolist()])
    slope = np.array([slope_estimate(network, data, evaluation, time, rng) for time in t.tolist()])
    numbers = {
        "score_loss": float(score_loss(t, loss_weight=SCHEDULE.beta(t), score_error=error)),
        "slope_largest": float(slope.max()),
        "slope_at_start": float(slope[0]),
        "slope_at_horizon": float(slope[-1]),
    }
    for name, eta in ETAS.items():
        bound = wasserstein_upper_bound(
            t, diffusion_squared=SCHEDULE.beta(t), score_error=error, score_slope=slope,
            drift_slope=SCHEDULE.drift_slope(t), eta=eta, prior_distance=prior_distance(data),
        )  # fmt: skip
        numbers[f"log10_estimated_bound_w2_{name}"] = float(bound.log_value) / math.log(10)
        numbers[f"log10_growth_max_{name}"] = float(bound.log_growth.max()) / math.log(10)
    return numbers | cloud_distances(network, data, evaluation, rng)


def score_error(network: nn.Module, data: Tensor, evaluation: Evaluation, t: float, rng: np.random.Generator) -> float:
    """Return e(t), summed over coordinates, against the exact score of the noised data set, over points of p_t."""
    level = torch.tensor(float(log_snr(SCHEDULE, t)), dtype=torch.float64, device=data.device)
    points, learned = noised_points(data, level, evaluation.num_points, rng), network_score(network, SCHEDULE)
    squares = 0.0
    for part in points.split(evaluation.most_points):
        difference = finite_data_score(data, part, level).cpu().numpy() - learned(part.cpu().numpy(), t)
        squares += (difference**2).sum()
    return math.sqrt(squares / len(points))


def slope_estimate(
    network: nn.Module, data: Tensor, evaluation: Evaluation, t: float, rng: np.random.Generator
) -> float:
    """Estimate L_s(t) from below: the largest eigenvalue found at points of p_t and at noised points between data."""
    level = torch.tensor(float(log_snr(SCHEDULE, t)), dtype=torch.float64, device=data.device)
    half = evaluation.num_probes // 2
    ends = data[torch.from_numpy(rng.integers(len(data), size=(2, half))).to(data.device)]
    share = torch.from_numpy(rng.uniform(size=(half, 1))).to(data.device)
    between = share * ends[0] + (1 - share) * ends[1]
    probes = torch.cat([noised_points(data, level, half, rng), noised_points(between, level, half, rng)]).float()
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    return max(
        largest_symmetric_eigenvalue(
            lambda x: score(network, x, level.float()),
            part,
            iterations=evaluation.power_iterations,
            generator=generator,
        )
        .max()
        .item()
        for part in probes.split(evaluation.most_points)
    )


def noised_points(data: Tensor, level: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Draw points of p_t, the law of the noised data set, shape (count, d), where level is ℓ(t)."""
    chosen = data[torch.from_numpy(rng.integers(len(data), size=count)).to(data.device)]
    return noised(chosen, level.expand(count), torch.from_numpy(rng.standard_normal(chosen.shape)).to(data.device))


def prior_distance(data: Tensor) -> float:
    """Bound W2(p_T, N(0, I)) from above by the coupling x_T = α x_0 + σ ε with ε."""
    # The coupling's own distance at T is (α² E‖x_0‖² + (1 − σ)² d)^½.
    alpha, sigma = float(SCHEDULE.alpha(SCHEDULE.horizon)), math.sqrt(SCHEDULE.noise_variance(SCHEDULE.horizon))
    return math.sqrt(alpha**2 * data.square().sum(dim=1).mean().item() + (1 - sigma) ** 2 * data.shape[1])


def cloud_distances(
    network: nn.Module, data: Tensor, evaluation: Evaluation, rng: np.random.Generator
) -> dict[str, float]:
    """Estimate W2 between p_{t_min} and the samplers' points, plain and debiased, by sampler and number of steps."""
    level = torch.tensor(float(log_snr(SCHEDULE, evaluation.t_min)), dtype=torch.float64, device=data.device)
    reference, again = (
        noised_points(data, level, 2 * evaluation.num_samples, rng)
        .cpu()
        .numpy()
        .reshape(2, evaluation.num_samples, -1)
    )
    within, learned, numbers = point_cloud_distance(reference, again), network_score(network, SCHEDULE), {}
    for steps in evaluation.sampler_steps:
        t = time_grid(SCHEDULE, steps + 1, start=evaluation.t_min)
        for name, eta in ETAS.items():
            start = rng.standard_normal((2 * evaluation.num_samples, data.shape[1]))
            first, second = np.split(euler_maruyama(SCHEDULE, learned, start, t, eta=eta, rng=rng), 2)
            plain = point_cloud_distance(reference, first)
            bias = (within**2 + point_cloud_distance(first, second) ** 2) / 2
            numbers[f"plain_w2_{name}_{steps}_steps"] = plain
            numbers[f"debiased_w2_{name}_{steps}_steps"] = math.sqrt(max(plain**2 - bias, 0.0))
    return numbers

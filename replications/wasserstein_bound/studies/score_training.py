"""Denoising training of a score network, and the network as a score for the numerical samplers.

The network predicts the noise in x_t. With ℓ(t) = log(α²/σ²), dℓ = −β/σ² dt, and the weight λ in the score's own loss
½∫ λ E‖∇ log p − s‖² dt, drawing ℓ uniformly is λ = g² = β exactly; drawing t uniformly is λ = σ², the plain loss on
the noise. So the two weights differ in where the times are drawn, and in nothing else.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from paperkit.config import StrictModel
from paperkit.training import Step, train, warmup_cosine
from replications.wasserstein_bound.mixture import SymmetricMixture
from replications.wasserstein_bound.schedule import Schedule, VariancePreserving, time_grid
from replications.wasserstein_bound.score_network import joined, noised, score

__all__ = [
    "WARMUP_STEPS",
    "ScoreTraining",
    "log_snr",
    "network_score",
    "training",
    "uniform_in_log_snr",
    "uniform_in_time",
]

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]

WARMUP_STEPS = 20
MOST_POINTS = 8192  # evaluated at once


class ScoreTraining(StrictModel):
    """Data, network and training of one run, whatever is measured."""

    mean: float = Field(ge=0)  # clusters lie at ±mean in each coordinate, in units of x
    variance: float = Field(gt=0)  # of each cluster and coordinate
    t_min: float = Field(gt=0, lt=1)  # where sampling stops
    width: int = Field(ge=1)  # units of a hidden layer
    depth: int = Field(ge=1)  # hidden layers
    batch: int = Field(ge=1)  # points a step
    # Steps after which everything is measured, the last at the end of training
    checkpoints: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    num_times: int = Field(ge=2)  # of the bound's integrals, dense near t_min

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if sorted(set(self.checkpoints)) != self.checkpoints or self.checkpoints[-1] < WARMUP_STEPS + 2:
            message = f"checkpoints {self.checkpoints} must increase, the last to at least {WARMUP_STEPS + 2}"
            raise ValueError(message)
        return self

    @property
    def mixture(self) -> SymmetricMixture:
        """One coordinate of the data under the usual schedule."""
        return SymmetricMixture(VariancePreserving(), self.mean, self.variance)

    @property
    def times(self) -> Array:
        """Times of the bound's integrals, shape (num_times,)."""
        return time_grid(self.mixture.schedule, self.num_times, start=self.t_min)


def log_snr(schedule: Schedule, t: ArrayLike) -> Array:
    """Return ℓ(t) = log(α² / σ²) = −log(exp(∫₀ᵗ β) − 1) for t > 0 of any shape."""
    return -np.log(np.expm1(schedule.integrated_beta(t)))


def uniform_in_log_snr(schedule: Schedule, t_min: float) -> Draw:
    """Return draws of ℓ, uniform between its values at T and t_min > 0: the weight λ = g²."""
    low, high = log_snr(schedule, schedule.horizon), log_snr(schedule, t_min)
    return lambda rng, count: rng.uniform(low, high, count)


def uniform_in_time(schedule: Schedule, t_min: float) -> Draw:
    """Return draws of ℓ at uniform times in [t_min, T], t_min > 0: the plain loss on the noise."""
    return lambda rng, count: log_snr(schedule, rng.uniform(t_min, schedule.horizon, count))


def training(
    network: nn.Module,
    draw_data: Draw,
    draw_log_snr: Draw,
    optimizer: torch.optim.Optimizer,
    *,
    batch: int,
    steps: int,
    seed: int,
) -> Iterator[Step]:
    """Train: a short linear rise of the learning rate, then half a cosine down to zero; no clipping."""
    # The network predicts noise from `joined` inputs; each point has its own time and noise. draw_data gives shape
    # (batch, d), draw_log_snr ℓ of shape (batch,); the optimizer's learning rate is the peak. At least
    # WARMUP_STEPS + 2 steps.
    schedule = warmup_cosine(optimizer, steps=steps, warmup_steps=WARMUP_STEPS)
    rng, dtype = np.random.default_rng(seed), next(network.parameters()).dtype

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(steps):
            data = draw_data(rng, batch)
            drawn = (data, draw_log_snr(rng, batch), rng.standard_normal(data.shape))
            x_0, levels, noise = (torch.from_numpy(each).to(dtype) for each in drawn)
            yield joined(noised(x_0, levels, noise), levels), noise

    yield from train(network, batches(), functional.mse_loss, optimizer, schedule=schedule)


def network_score(network: nn.Module, schedule: Schedule) -> Callable[[Array, float], Array]:
    """Give a network the form that `samplers` takes, on whatever device and in whatever precision it is."""
    # Points of shape (n, d), and a time, to the score there, float64.
    weight = next(network.parameters())

    @torch.no_grad()
    def evaluated(x: Array, t: float) -> Array:
        level = torch.tensor(float(log_snr(schedule, t)), dtype=torch.float64).to(weight)
        parts = torch.from_numpy(x).split(MOST_POINTS)
        return torch.cat([score(network, part.to(weight), level) for part in parts]).double().cpu().numpy()

    return evaluated

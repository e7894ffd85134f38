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
    """Data, network and training of one run, whatever is measured.

    Attributes:
        mean: Clusters lie at ±mean in each coordinate, in units of x.
        variance: Of each cluster and coordinate.
        t_min: Where sampling stops.
        width: Units of a hidden layer.
        depth: Hidden layers.
        batch: Points a step.
        checkpoints: Steps after which everything is measured, the last at the end of training.
        num_times: Times of the bound's integrals, dense near t_min.
    """

    mean: float = Field(ge=0)
    variance: float = Field(gt=0)
    t_min: float = Field(gt=0, lt=1)
    width: int = Field(ge=1)
    depth: int = Field(ge=1)
    batch: int = Field(ge=1)
    checkpoints: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    num_times: int = Field(ge=2)

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
    """Return ℓ(t) = log(α² / σ²) = −log(exp(∫₀ᵗ β) − 1).

    Args:
        schedule: Gives the integral.
        t: Times > 0, any shape.

    Returns:
        ℓ, shape of `t`.

    Example:
        >>> from replications.wasserstein_bound.schedule import VariancePreserving
        >>> round(float(log_snr(VariancePreserving(), 1.0)), 2)
        -10.05
    """
    return -np.log(np.expm1(schedule.integrated_beta(t)))


def uniform_in_log_snr(schedule: Schedule, t_min: float) -> Draw:
    """Return draws of ℓ, uniform between its values at T and t_min: the weight λ = g².

    Args:
        schedule: Gives ℓ.
        t_min: Where sampling stops, > 0.

    Returns:
        Function of a generator and a number of draws.
    """
    low, high = log_snr(schedule, schedule.horizon), log_snr(schedule, t_min)
    return lambda rng, count: rng.uniform(low, high, count)


def uniform_in_time(schedule: Schedule, t_min: float) -> Draw:
    """Return draws of ℓ at uniform times in [t_min, T]: the plain loss on the noise.

    Args:
        schedule: Gives ℓ.
        t_min: Where sampling stops, > 0.

    Returns:
        Function of a generator and a number of draws.
    """
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
    """Train: a short linear rise of the learning rate, then half a cosine down to zero; no clipping.

    Args:
        network: Trained in place; it predicts noise from `joined` inputs.
        draw_data: Gives points of the data, shape (batch, d).
        draw_log_snr: Gives ℓ, shape (batch,).
        optimizer: Its learning rate is the peak.
        batch: Points a step, each with its own time and noise.
        steps: Optimizer steps, at least `WARMUP_STEPS` + 2.
        seed: Of data, times and noise.

    Yields:
        The step just taken.
    """
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
    """Give a network the form that `samplers` takes, on whatever device and in whatever precision it is.

    Args:
        network: Predicts noise; in evaluation mode, if that differs from training mode.
        schedule: Gives ℓ(t).

    Returns:
        Function of points, shape (n, d), and a time, to the score there, float64.
    """
    weight = next(network.parameters())

    @torch.no_grad()
    def evaluated(x: Array, t: float) -> Array:
        level = torch.tensor(float(log_snr(schedule, t)), dtype=torch.float64).to(weight)
        parts = torch.from_numpy(x).split(MOST_POINTS)
        return torch.cat([score(network, part.to(weight), level) for part in parts]).double().cpu().numpy()

    return evaluated

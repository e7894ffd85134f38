"""Denoising training of a score network, and the network as a score for the numerical samplers; all in float64.

The network predicts the noise in x_t. With ℓ(t) = log(α²/σ²), dℓ = −β/σ² dt, and the weight λ in the score's own loss
½∫ λ E‖∇ log p − s‖² dt, drawing ℓ uniformly is λ = g² = β exactly; drawing t uniformly is λ = σ², the plain loss on
the noise. Sampling starts at N(0, I) and stops at t_min: the statement is about p_{t_min} and q_{t_min}.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Self, SupportsFloat

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from paperkit.config import StrictModel
from paperkit.runs import Measurement
from paperkit.training import train, warmup_cosine
from paperkit.tuning import LogRange, Search
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import WassersteinBound, score_loss
from replications.wasserstein_bound.distances import normal_levels, quantile_function_distance
from replications.wasserstein_bound.mixture import SymmetricMixture
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid
from replications.wasserstein_bound.score_network import joined, noised, score
from replications.wasserstein_bound.studies.measuring import measured

Draw = Callable[[np.random.Generator, int], Array]

SCHEDULE = VariancePreserving()
WARMUP_STEPS = 20
MOST_POINTS = 8192  # evaluated at once
NUM_LEVELS = 501  # of quantile functions


class ScoreTraining(StrictModel):
    """Network and training of one run, whatever the data are and whatever is measured."""

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
    def times(self) -> Array:
        """Times of the bound's integrals, shape (num_times,)."""
        return self.grid(self.num_times)

    def grid(self, num_times: int) -> Array:
        """Times from t_min to T, shape (num_times,)."""
        return time_grid(SCHEDULE, num_times, start=self.t_min)


class RatesToTry(StrictModel):
    """The range of peak learning rates of a study, the same for each of its arms."""

    lr: LogRange
    num_trials: int = Field(ge=1)  # of each arm; a power of two

    def search(self, experiment: str, arm: str, task: Mapping[str, Any]) -> Search:
        """Look for the rate of the least J, which is exact: no sample of a test set enters."""
        return Search(experiment, arm, task, {"lr": self.lr}, self.num_trials, "score_loss")


class MixtureTraining(ScoreTraining):
    """Training on a mixture of two clusters in each coordinate."""

    mean: float = Field(ge=0)  # clusters lie at ±mean in each coordinate, in units of x
    variance: float = Field(gt=0)  # of each cluster and coordinate

    @property
    def mixture(self) -> SymmetricMixture:
        """One coordinate of the data under the usual schedule."""
        return SymmetricMixture(SCHEDULE, self.mean, self.variance)

    @property
    def prior_distance(self) -> float:
        """W2(p_T, N(0, 1)) of one coordinate, from quantiles, in units of x."""
        z, weights = normal_levels(NUM_LEVELS)
        return quantile_function_distance(self.mixture.quantiles(z, self.mixture.schedule.horizon), z, weights)


def log_snr(schedule: VariancePreserving, t: ArrayLike) -> Array:
    """Return ℓ(t) = log(α² / σ²) = −log(exp(∫₀ᵗ β) − 1) for t > 0 of any shape."""
    return -np.log(np.expm1(schedule.integrated_beta(t)))


def uniform_in_log_snr(schedule: VariancePreserving, t_min: float) -> Draw:
    """Return draws of ℓ, uniform between its values at T and t_min > 0: the weight λ = g²."""
    low, high = log_snr(schedule, schedule.horizon), log_snr(schedule, t_min)
    return lambda rng, count: rng.uniform(low, high, count)


def uniform_in_time(schedule: VariancePreserving, t_min: float) -> Draw:
    """Return draws of ℓ at uniform times in [t_min, T], t_min > 0: the plain loss on the noise."""
    return lambda rng, count: log_snr(schedule, rng.uniform(t_min, schedule.horizon, count))


def measured_training(
    settings: ScoreTraining,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    measure: Callable[[int], Mapping[str, SupportsFloat]],
    *,
    draw: Draw,
    draw_log_snr: Draw,
    seed: int,
    max_gradient_norm: float = math.inf,
    split: str = "none",
) -> Iterator[Measurement]:
    """Train, and report what `measure` finds at each checkpoint; J alone, as NaN, if training diverges."""
    # The learning rate rises linearly for a few steps, then falls to zero on half a cosine. The network predicts noise
    # from `joined` inputs; each point has its own time and noise. draw gives data, shape (batch, d); draw_log_snr
    # gives ℓ, shape (batch,).
    steps, rng = settings.checkpoints[-1], np.random.default_rng(seed)
    schedule = warmup_cosine(optimizer, steps=steps, warmup_steps=WARMUP_STEPS)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(steps):
            data = draw(rng, settings.batch)
            drawn = (data, draw_log_snr(rng, settings.batch), rng.standard_normal(data.shape))
            x_0, levels, noise = (torch.from_numpy(each) for each in drawn)
            yield joined(noised(x_0, levels, noise), levels), noise

    clipping = {"max_gradient_norm": max_gradient_norm}
    for step in train(network, batches(), functional.mse_loss, optimizer, schedule=schedule, **clipping):
        if not math.isfinite(step.loss):
            yield from measured(steps, {"score_loss": math.nan}, split=split)
            return
        if step.number in settings.checkpoints:
            network.eval()
            yield from measured(step.number, measure(step.number), split=split)


def network_score(network: nn.Module, schedule: VariancePreserving) -> Callable[[Array, float], Array]:
    """Give a network the form that `samplers` takes, on whatever device and in whatever precision it is."""
    # Points of shape (n, d), and a time, to the score there, float64.
    weight = next(network.parameters())

    @torch.no_grad()
    def evaluated(x: Array, t: float) -> Array:
        level = torch.tensor(float(log_snr(schedule, t)), dtype=torch.float64).to(weight)
        parts = torch.from_numpy(x).split(MOST_POINTS)
        return torch.cat([score(network, part.to(weight), level) for part in parts]).double().cpu().numpy()

    return evaluated


def loss_and_slopes(settings: ScoreTraining, error: Array, slope: Array) -> dict[str, SupportsFloat]:
    """J, and L_s where it is largest, at t_min and at T, from e and L_s at the settings' times."""
    beta = SCHEDULE.beta(settings.times)
    return {
        "score_loss": score_loss(settings.times, loss_weight=beta, score_error=error),
        "slope_largest": slope.max(),
        "slope_at_start": slope[0],
        "slope_at_horizon": slope[-1],
    }


def log10(bound: WassersteinBound) -> float:
    """Logarithm of a bound to base 10."""
    return float(bound.log_value) / math.log(10)

"""Variance-preserving noise schedules, in closed form.

The forward process is dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw for t in [0, T]; given x_0 its state is
x_t = alpha_t x_0 + sqrt(1 - alpha_t^2) eps with alpha_t = exp(-1/2 int_0^t beta) (Song et al., arXiv 2011.13456, the
VP process). Letters: beta rate, alpha factor of the signal, g^2 = beta squared diffusion, f = -beta x / 2 drift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from replications.wasserstein_bound.arguments import Array, finite, nonnegative, positive


@dataclass(frozen=True)
class VariancePreserving:
    """Rate beta(t) = beta_min + (beta_max - beta_min) t, positive up to the horizon T > 0; times have any shape."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    horizon: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a schedule that is not positive."""
        positive("horizon", self.horizon)
        positive("beta_min", self.beta_min)
        finite("beta_max", self.beta_max)
        positive("beta at the horizon, beta_min + (beta_max - beta_min) horizon", self.beta(self.horizon))

    def beta(self, t: ArrayLike) -> Array:
        """Give the rate, the squared diffusion g(t)^2, shape of `t`."""
        return self.beta_min + (self.beta_max - self.beta_min) * np.asarray(t, dtype=np.float64)

    def integrated_beta(self, t: ArrayLike) -> Array:
        """int_0^t beta = beta_min t + (beta_max - beta_min) t^2 / 2, shape of `t`."""
        t = np.asarray(t, dtype=np.float64)
        return t * (self.beta_min + (self.beta_max - self.beta_min) * t / 2)

    def alpha(self, t: ArrayLike) -> Array:
        """Give the factor of the signal, exp(-1/2 int_0^t beta), in (0, 1]."""
        return np.exp(-self.integrated_beta(t) / 2)

    def noise_variance(self, t: ArrayLike) -> Array:
        """Variance of the noise: 1 - alpha(t)^2, by expm1, so that it is exact to the last digits near t = 0."""
        return -np.expm1(-self.integrated_beta(t))

    def drift_slope(self, t: ArrayLike) -> Array:
        """One-sided Lipschitz constant of **-f**, here beta / 2: the reverse process runs against the drift."""
        return self.beta(t) / 2

    def coefficients(self, t: ArrayLike) -> dict[str, Array]:
        """g^2 and the constant of -f, under the names that the functions of `bound` give them."""
        return {"diffusion_squared": self.beta(t), "drift_slope": self.drift_slope(t)}


def constant_rate(rate: float = 1.0, horizon: float = 1.0) -> VariancePreserving:
    """The Ornstein-Uhlenbeck process, beta(t) = rate > 0 up to T > 0; ValueError if one of the two is not positive."""
    positive("rate", rate)
    return VariancePreserving(rate, rate, horizon)


def time_grid(schedule: VariancePreserving, num_points: int, start: float = 0.0) -> Array:
    """Times from `start` to T, dense near the start where scores change fast: t = start + (T - start) u^2, u uniform.

    Returns:
        Times, shape (num_points,), increasing.

    Raises:
        ValueError: If there are fewer than two points or `start` lies outside [0, T).
    """
    if num_points < 2:
        message = f"num_points is {num_points}: a grid needs at least 2 points"
        raise ValueError(message)
    if nonnegative("start", start) >= schedule.horizon:
        message = f"start is {start:g}: it must lie before the horizon {schedule.horizon:g}"
        raise ValueError(message)
    return start + (schedule.horizon - start) * np.linspace(0, 1, num_points) ** 2

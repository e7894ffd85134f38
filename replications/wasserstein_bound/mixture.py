"""Data with two clusters: the symmetric mixture of two Gaussians on the line, its products, and perturbed scores.

Data p_0 = N(mu, s^2) / 2 + N(-mu, s^2) / 2. Under a variance-preserving schedule p_t is the same with m = alpha mu and
v = alpha^2 s^2 + 1 - alpha^2; its score is (m tanh(m x / v) - x) / v. The largest slope of the score lies at
x = 0, between the clusters where there is next to no mass: L_s = (m / sqrt(v))^2 / v - 1 / v.

All functions of x act coordinate by coordinate: applied to points of d coordinates they describe the product of d such
mixtures, with 2^d clusters, whose score has the *same* L_s, and whose second moments are d times as large.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr

from replications.wasserstein_bound.arguments import Array, finite, nonnegative, positive
from replications.wasserstein_bound.distances import normal_levels
from replications.wasserstein_bound.schedule import VariancePreserving

NUM_BISECTIONS = 100


@dataclass(frozen=True)
class SymmetricMixture:
    """The noised mixture: `mean` mu >= 0 is half the distance of the clusters, `variance` s^2 > 0 that of each."""

    schedule: VariancePreserving
    mean: float
    variance: float

    def __post_init__(self) -> None:
        """Refuse a negative mean and a variance that is not positive."""
        nonnegative("mean", self.mean)
        positive("variance", self.variance)

    def moments(self, t: ArrayLike) -> tuple[Array, Array]:
        """Mean m and variance v of the clusters at time t, each the shape of `t`."""
        alpha = self.schedule.alpha(t)
        return alpha * self.mean, alpha**2 * self.variance + self.schedule.noise_variance(t)

    def score(self, x: ArrayLike, t: ArrayLike) -> Array:
        """Score (m tanh(m x / v) - x) / v, the broadcast shape of `x` and `t`."""
        m, v = self.moments(t)
        x = np.asarray(x, dtype=np.float64)
        return (m * np.tanh(m * x / v) - x) / v

    def score_slope(self, t: ArrayLike) -> Array:
        """L_s = m^2 / v^2 - 1 / v, exactly, shape of `t`."""
        m, v = self.moments(t)
        return (m / v) ** 2 - 1 / v

    def log_density(self, x: ArrayLike, t: ArrayLike) -> Array:
        """Log p_t(x) of one coordinate, the broadcast shape of `x` and `t`."""
        m, v = self.moments(t)
        x = np.asarray(x, dtype=np.float64)
        exponents = -((x - m) ** 2) / (2 * v), -((x + m) ** 2) / (2 * v)
        return np.logaddexp(*exponents) - np.log(8 * np.pi * v) / 2

    def quantiles(self, z: ArrayLike, t: float) -> Array:
        """The x below which there is as much of p_t as a standard normal has below z; shape of `z`."""
        # Levels are given by z, not by a probability, so that both tails keep their digits. Found by bisection.
        m, v = self.moments(t)
        z = finite("z", z)
        sd, depth = np.sqrt(v), -np.abs(z)  # the lower half; the upper one is its mirror image
        target = log_ndtr(depth)
        low, high = sd * depth - m, np.minimum(0.0, sd * depth + m)
        for _ in range(NUM_BISECTIONS):
            middle = (low + high) / 2
            log_cdf = np.logaddexp(log_ndtr((middle - m) / sd), log_ndtr((middle + m) / sd)) - np.log(2)
            below = log_cdf < target
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return -np.sign(z) * (low + high) / 2

    def score_second_moment(self, t: ArrayLike) -> Array:
        """E |grad log p_t|^2 of one coordinate, shape of `t`, by quadrature over one cluster (both give the same)."""
        m, v = self.moments(t)
        z, weights = normal_levels(1001)
        m, v = m[..., None], v[..., None]
        x = m + np.sqrt(v) * z
        return ((m * np.tanh(m * x / v) - x) / v) ** 2 @ weights

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], t: float = 0.0) -> Array:
        """Independent draws of p_t; shape (n, d) gives n points of the product of d mixtures."""
        m, v = self.moments(t)
        return m * rng.choice([-1.0, 1.0], shape) + np.sqrt(v) * rng.standard_normal(shape)


@dataclass(frozen=True)
class Perturbation:
    """Error added to a score, coordinate by coordinate: delta(x) = shift + amplitude sin(frequency x), in 1 / x."""

    shift: float = 0.0
    amplitude: float = 0.0
    frequency: float = 1.0

    def __post_init__(self) -> None:
        """Refuse NaN and inf."""
        for name in ("shift", "amplitude", "frequency"):
            finite(name, getattr(self, name))

    @property
    def slope(self) -> float:
        """Supremum of the derivative, abs(a k); added to L_s a constant of the perturbed score, exact for a k > 0."""
        return abs(self.amplitude * self.frequency)

    def __call__(self, x: ArrayLike) -> Array:
        """delta(x), shape of `x`."""
        return self.shift + self.amplitude * np.sin(self.frequency * np.asarray(x, dtype=np.float64))

    def error(self, mixture: SymmetricMixture, t: ArrayLike) -> Array:
        """e(t) = (E delta^2)^(1/2) of one coordinate, shape of `t`: c^2 + a^2 (1 - cos(2 k m) exp(-2 k^2 v)) / 2."""
        # The sine's own mean vanishes by symmetry.
        m, v = mixture.moments(t)
        k = self.frequency
        cosine = np.cos(2 * k * m) * np.exp(-2 * k**2 * v)
        return np.sqrt(self.shift**2 + self.amplitude**2 * (1 - cosine) / 2)

"""The line in the authors' notebook, from any one-sided constants, and the exact score of its four clusters.

Ten steps of a discrete chain: β_i = 1e-5 + (1e-2 − 1e-5) σ(u_i) with u_i from −6 to 6, ᾱ_i = ∏ (1 − β_j). The notebook
sets log I_i = Σ_{j ≤ i} β_j (L_j + ½) and draws log W₂ = ½ log J + ½ log(2 Σ β_i I_i²), labelled as an upper bound.
Its L_i is the largest of (s(x) − s(y))·(x − y) / |x − y|² over pairs of a grid of 10 × 10 points of [0, 0.9]².

The clusters are N((±½, ±½), 0.0125² 1) with equal weights, a product of two symmetric mixtures. At step i, by
coordinate, s = (m tanh(m x / v) − x) / v with m = ½ √ᾱ, v = 0.0125² ᾱ + 1 − ᾱ; its constant is (m / v)² − 1 / v, at 0.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp

from replications.wasserstein_bound.arguments import Array

BETA = 1e-5 + (1e-2 - 1e-5) * expit(np.linspace(-6, 6, 10))
SIGNAL = np.cumprod(1 - BETA)  # ᾱ
SD = 0.0125
# Axes of the notebook's grid, and of one with its spacing over all four clusters.
QUADRANT, SQUARE = (0.1 * np.arange(first, 10) for first in (0, -9))


@dataclass(frozen=True)
class Clusters:
    """Clusters around (±centre, ±centre) of standard deviation 0.0125, noised by each step; centre 0: one cluster."""

    centre: float = 0.5

    @property
    def moments(self) -> tuple[Array, Array]:
        """Centre m and variance v of a coordinate at each step, both of shape (10,)."""
        return self.centre * np.sqrt(SIGNAL), SD**2 * SIGNAL + 1 - SIGNAL

    @property
    def suprema(self) -> Array:
        """L_s of the exact score at each step, shape (10,)."""
        m, v = self.moments
        return (m / v) ** 2 - 1 / v

    def score(self, x: Array) -> Array:
        """The exact score at each step, by coordinate, shape (10, *x.shape)."""
        m, v = (each.reshape(-1, *[1] * x.ndim) for each in self.moments)
        return (m * np.tanh(m * x / v) - x) / v

    def on_grid(self, axis: Array) -> Array:
        """The largest quotient over pairs of points of the grid axis × axis at each step, shape (10,)."""
        points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        first, second = np.triu_indices(len(points), k=1)
        apart, scores = points[first] - points[second], self.score(points)
        products = ((scores[:, first] - scores[:, second]) * apart).sum(axis=-1)
        return np.max(products / (apart**2).sum(axis=-1), axis=-1)


def log_growth_and_intercept(constants: Array) -> tuple[float, float]:
    """The notebook's log I(T), and the intercept of its line, of one constant a step, shape (10,)."""
    log_i = np.cumsum(BETA * (constants + 0.5))
    return float(log_i[-1]), float(logsumexp(2 * log_i, b=2 * BETA)) / 2

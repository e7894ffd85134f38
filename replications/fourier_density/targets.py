"""Densities on the line that are known exactly, and the divergence of a model from them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import find_peaks

from replications.fourier_density.mixture import Mixture

__all__ = ["TARGETS", "Target", "divergence", "mode_f1", "modes", "targets"]

Floats = NDArray[np.float64]
CELLS = 8000
HEIGHTS = np.array([0.1, 0.35, 0.05, 0.3, 0.2])  # of the plateaus of `steps`, one unit wide each, from -2.5 to 2.5
PROMINENCE = 0.02  # of a mode, in shares of the density's maximum
NEAR = 0.1  # how far from a true mode a found one may lie


@dataclass(frozen=True)
class Target:
    """Points that cover the support, the length each stands for, log-density there, and how samples are drawn."""

    points: Floats
    lengths: Floats
    log_pdf: Floats
    draw: Callable[[int, np.random.Generator], Floats]


def _mixture(weights: Floats, means: Floats, widths: Floats) -> Target:
    law = Mixture(weights / weights.sum(), means, widths**2)
    edges = np.linspace((means - 9 * widths).min(), (means + 9 * widths).max(), CELLS + 1)
    points = (edges[1:] + edges[:-1]) / 2

    def draw(size: int, rng: np.random.Generator) -> Floats:
        chosen = rng.choice(len(means), size, p=law.weights)
        return rng.normal(means[chosen], widths[chosen])

    return Target(points, np.diff(edges), law.log_pdf(points), draw)


def _comb() -> Target:
    rng = np.random.default_rng(25)  # of the target, the same for all seeds
    means = np.linspace(-6, 6, 25) + rng.uniform(-0.08, 0.08, 25)
    return _mixture(rng.dirichlet(np.ones(25)), means, np.full(25, 0.09))


def _steps() -> Target:
    edges = np.linspace(-2.5, 2.5, CELLS + 1)
    points = (edges[1:] + edges[:-1]) / 2

    def draw(size: int, rng: np.random.Generator) -> Floats:
        return rng.choice(len(HEIGHTS), size, p=HEIGHTS) + rng.uniform(-2.5, -1.5, size)

    return Target(points, np.diff(edges), np.log(HEIGHTS[np.floor(points + 2.5).astype(int)]), draw)


def _student() -> Target:
    edges = np.sinh(np.linspace(-7, 7, CELLS + 1))  # to ±548, beyond which lies 1e-8
    points = (edges[1:] + edges[:-1]) / 2

    def draw(size: int, rng: np.random.Generator) -> Floats:
        return rng.standard_t(3, size)

    return Target(points, np.diff(edges), stats.t.logpdf(points, 3), draw)


@cache
def targets() -> dict[str, Target]:
    """Return all targets; claw and skewed are Marron and Wand's (1992) numbers 10 and 3."""
    halves = np.asarray((2 / 3) ** np.arange(8), dtype=np.float64)
    claw = np.array([0.5, *[0.1] * 5]), np.array([0, -1, -0.5, 0, 0.5, 1]), np.array([1, *[0.1] * 5])
    return {
        "comb25": _comb(),
        "skewed": _mixture(np.ones(8), np.float64(3) * (halves - 1), halves),
        "claw": _mixture(*claw),
        "steps": _steps(),
        "t3": _student(),
    }


TARGETS = tuple(targets())


def divergence(target: Target, log_pdf: Callable[[Floats], Floats]) -> float:
    """Return KL(target, model) in nats, by the midpoint rule on the target's cells."""
    mass = np.exp(target.log_pdf) * target.lengths
    return float(mass @ (target.log_pdf - log_pdf(target.points)))


def modes(points: Floats, pdf: Floats) -> Floats:
    """Return the places of the peaks that rise by the declared share of the maximum above their surroundings."""
    return points[find_peaks(pdf, prominence=PROMINENCE * pdf.max())[0]]


def mode_f1(target: Target, log_pdf: Callable[[Floats], Floats]) -> float:
    """Return F1 of the modes found: each true one matches at most one found within `NEAR`, from the left."""
    true, found = modes(target.points, np.exp(target.log_pdf)), modes(target.points, np.exp(log_pdf(target.points)))
    matched, free = 0, list(found)
    for mode in true:
        near = [place for place in free if abs(place - mode) <= NEAR]
        if near:
            free.remove(min(near, key=lambda place, mode=mode: abs(place - mode)))
            matched += 1
    return 2 * matched / (len(true) + len(found))

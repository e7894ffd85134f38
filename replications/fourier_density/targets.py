"""Densities on the line that are known exactly, and the divergence of a model from them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats
from scipy.signal import find_peaks

from replications.fourier_density.density import Floats
from replications.fourier_density.mixture import Mixture

CELLS = 8000
PICTURE = np.linspace(-0.1, 2.1, 50)  # where the density of the picture's seed is kept
HEIGHTS = np.array([0.1, 0.35, 0.05, 0.3, 0.2])  # of the plateaus of `steps`, one unit wide each, from -2.5 to 2.5
PROMINENCE = 0.02  # of a mode, in shares of the density's maximum
NEAR = 0.1  # how far from a true mode a found one may lie


Draw = Callable[[int, np.random.Generator], Floats]


@dataclass(frozen=True)
class Target:
    """Points that cover the support, the length each stands for, log-density there, and how samples are drawn."""

    points: Floats
    lengths: Floats
    log_pdf: Floats
    draw: Draw


def _of_cells(edges: Floats, log_pdf: Callable[[Floats], Floats], draw: Draw) -> Target:
    points = (edges[1:] + edges[:-1]) / 2
    return Target(points, np.diff(edges), log_pdf(points), draw)


def _mixture(weights: Floats, means: Floats, widths: Floats) -> Target:
    law = Mixture(weights / weights.sum(), means, widths**2)

    def draw(size: int, rng: np.random.Generator) -> Floats:
        chosen = rng.choice(len(means), size, p=law.weights)
        return rng.normal(means[chosen], widths[chosen])

    edges = np.linspace((means - 9 * widths).min(), (means + 9 * widths).max(), CELLS + 1)
    return _of_cells(edges, law.log_pdf, draw)


@cache
def targets() -> dict[str, Target]:
    """Return all targets; claw and skewed are Marron and Wand's (1992) numbers 10 and 3."""
    of_comb = np.random.default_rng(25)  # the same for all seeds
    teeth = np.linspace(-6, 6, 25) + of_comb.uniform(-0.08, 0.08, 25)
    halves = np.asarray((2 / 3) ** np.arange(8), dtype=np.float64)
    claw = np.array([0.5, *[0.1] * 5]), np.array([0, -1, -0.5, 0, 0.5, 1]), np.array([1, *[0.1] * 5])
    return {
        "comb25": _mixture(of_comb.dirichlet(np.ones(25)), teeth, np.full(25, 0.09)),
        "skewed": _mixture(np.ones(8), np.float64(3) * (halves - 1), halves),
        "claw": _mixture(*claw),
        "steps": _of_cells(
            np.linspace(-2.5, 2.5, CELLS + 1),
            lambda y: np.log(HEIGHTS[np.floor(y + 2.5).astype(int)]),
            lambda size, rng: rng.choice(len(HEIGHTS), size, p=HEIGHTS) + rng.uniform(-2.5, -1.5, size),
        ),
        "t3": _of_cells(
            np.sinh(np.linspace(-7, 7, CELLS + 1)),  # to ±548, beyond which lies 1e-8
            lambda y: stats.t.logpdf(y, 3),
            lambda size, rng: rng.standard_t(3, size),
        ),
    }


TARGETS = tuple(targets())


def divergence(target: Target, log_pdf: Callable[[Floats], Floats]) -> float:
    """Return KL(target, model) in nats, by the midpoint rule on the target's cells."""
    mass = np.exp(target.log_pdf) * target.lengths
    return float(mass @ (target.log_pdf - log_pdf(target.points)))


def modes(points: Floats, pdf: Floats) -> Floats:
    """Return the places of the peaks that rise by `PROMINENCE` above their surroundings."""
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

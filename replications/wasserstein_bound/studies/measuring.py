"""What several studies do alike: name numbers, and take a sampler's distance from the data without Monte Carlo."""

from collections.abc import Iterator, Mapping
from typing import SupportsFloat

import numpy as np
from scipy.special import ndtr

from paperkit.runs import Measurement
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.distances import cell_quantiles, normal_levels, quantile_function_distance
from replications.wasserstein_bound.mixture import SymmetricMixture
from replications.wasserstein_bound.samplers import Score, probability_flow, reverse_masses

ETA_OF = {"ode": 0.0, "sde": 1.0}  # the arms of every study that compares the samplers
REACH = 9.0  # of cells and grids on the line, in units of x: nearly all of p_t lies within 4


def measured(step: int, numbers: Mapping[str, SupportsFloat], split: str = "none") -> Iterator[Measurement]:
    """Report numbers by metric; those of split "validation" choose a setting."""
    return (Measurement(split, step, metric, float(value)) for metric, value in numbers.items())


def sampled_distance(
    mixture: SymmetricMixture,
    score: Score,
    eta: float,
    t: Array,
    *,
    num_levels: int,
    num_cells: int,
    from_normal: bool = False,
) -> float:
    """W2 between the data and the samples at the first time of t, from p_T or N(0, 1)."""
    # The flow carries quantiles, which is exact but for its steps; the SDE is its Fokker-Planck equation on cells.
    z, weights = normal_levels(num_levels)
    last = mixture.schedule.horizon
    if eta == 0:
        start = z if from_normal else mixture.quantiles(z, last)
        samples = probability_flow(mixture.schedule, score, start, t)
    else:
        edges = np.linspace(-REACH, REACH, num_cells + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        masses = np.diff(ndtr(edges)) if from_normal else np.exp(mixture.log_density(middles, last))
        masses = reverse_masses(mixture.schedule, score, edges, masses / masses.sum(), t, eta=eta)
        samples = cell_quantiles(edges, masses, z)
    return quantile_function_distance(mixture.quantiles(z, t[0]), samples, weights)

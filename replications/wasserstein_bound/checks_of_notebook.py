"""The constant in the authors' notebook: what its grid finds of the score that its training aims at."""

import numpy as np

from paperkit.checks import Check, by_name
from replications.wasserstein_bound.errors import largest_excess, relative_error
from replications.wasserstein_bound.notebook import QUADRANT, Clusters, log_growth_and_intercept


def notebook_grid() -> Check:
    """By what share log I(T) by the suprema of the exact score exceeds that by the notebook's grid: four clusters."""
    # Control, a case in which the grid serves: one cluster, whose score is linear; 1 where both agree.
    (supremum, grid), (one, one_on_grid) = (
        [log_growth_and_intercept(constants)[0] for constants in (data.suprema, data.on_grid(QUADRANT))]
        for data in (Clusters(), Clusters(centre=0.0))
    )
    return Check(largest_excess(supremum, grid), max(0.0, 1 - relative_error(one_on_grid, one)))


def notebook_supremum() -> Check:
    """The closed form of the suprema against the largest difference quotient on a fine line, by step, relative."""
    # The quotients' step is a small part of the strip between the clusters, v / m; the line holds x = 0. Control: the
    # largest quotient over the notebook's grid.
    data, x = Clusters(), np.linspace(-1, 1, 4001)
    m, v = data.moments
    found = []
    for number, step in enumerate(1e-4 * v / m):
        rise = data.score(x + step)[number] - data.score(x - step)[number]
        found.append(np.max(rise) / (2 * step))
    on_grid = data.on_grid(QUADRANT)
    return Check(relative_error(found, data.suprema), float(np.min(np.abs(on_grid / data.suprema - 1))))


CHECKS = by_name(notebook_grid, notebook_supremum)

"""The derivation as checks that run: each computes both sides of an equation, and again with one ingredient wrong."""

import itertools

import numpy as np

from paperkit.checks import Check, by_name
from replications.NAME.sampling import averages, variance_of_average

__all__ = ["CHECKS"]


def step_1_variance() -> Check:
    """The variance over all draws of n of 7 numbers, listed, is the formula's; control: drawn with replacement."""
    numbers, errors = np.random.default_rng(1).standard_normal(7), []
    for n in range(1, 8):
        listed = averages(list(itertools.combinations(numbers, n))).var()
        errors.append([abs(listed - variance_of_average(numbers, n, replace=wrong)) for wrong in (False, True)])
    return Check(*np.max(errors, axis=0).tolist())


CHECKS = by_name(step_1_variance)

"""What the prior's error leaves at the end: the offset I(T) W2(p_T, N(0, 1)) against T, with the exact score."""

from collections.abc import Iterator

import numpy as np

from paperkit.runs import Measurement, Run
from replications.wasserstein_bound.bound import offset_upper_bound, wasserstein_upper_bound
from replications.wasserstein_bound.gaussian import (
    exact_affine_score,
    forward_moments,
    gaussian_distance,
    reverse_moments,
)
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid

__all__ = ["measure_offset"]

NUM_TIMES = 20_001


def measure_offset(run: Run) -> Iterator[Measurement]:
    """Compute offset and distance for Gaussian data, the exact score and the prior N(0, 1) at one horizon."""
    # The score has no error, so the offset is the whole bound. With it T3's bound of the offset, and the one-sided
    # constant of the score at T.
    config = run.config
    mean, variance, eta = config["mean"], config["variance"], config["eta"]
    schedule = VariancePreserving(horizon=config["horizon"])
    t = time_grid(schedule, NUM_TIMES)
    mean_t, variance_t = forward_moments(schedule, t, mean, variance)
    slope, intercept = exact_affine_score(mean_t, variance_t)
    beta = schedule.beta(t)
    bound = wasserstein_upper_bound(
        t, diffusion_squared=beta, score_error=0.0, score_slope=slope, drift_slope=schedule.drift_slope(t), eta=eta,
        prior_distance=gaussian_distance(mean_t[-1], variance_t[-1], 0.0, 1.0),
    )  # fmt: skip
    samples = reverse_moments(schedule, t, slope, intercept, prior_mean=0.0, prior_variance=1.0, eta=eta)
    contracted = offset_upper_bound(
        t, diffusion_squared=beta, score_slope=slope, eta=eta,
        data_prior_distance=gaussian_distance(mean, variance, 0.0, 1.0),
    )  # fmt: skip
    numbers = {
        "offset_w2": bound.offset,
        "distance_w2": gaussian_distance(mean, variance, *samples),
        "contraction_bound_w2": contracted,
        "constant_at_horizon": slope[-1],
    }
    for name, value in numbers.items():
        yield Measurement("none", 0, name, float(np.squeeze(value)))

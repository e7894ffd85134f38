"""What time steps cost, which no bound here knows: Euler's scheme with the exact score, its moments in closed form."""

from collections.abc import Iterator

import numpy as np

from paperkit.runs import Measurement, Run
from replications.wasserstein_bound.bound import score_weight
from replications.wasserstein_bound.gaussian import exact_affine_score, forward_moments, gaussian_distance
from replications.wasserstein_bound.schedule import VariancePreserving

__all__ = ["measure_discretisation"]


def measure_discretisation(run: Run) -> Iterator[Measurement]:
    """Run Euler and Maruyama's scheme (Euler's for η = 0) on Gaussian data from q_T = p_T; the bound would be zero."""
    # A step of length h from t is y - h (f - w s) + σ √h z with the coefficients at t, which keeps a Gaussian
    # Gaussian: m' = m + h (β m / 2 + w (k m + c)) and v' = (1 + h (β / 2 + w k))² v + h σ².
    config, schedule = run.config, VariancePreserving()
    num_steps, eta = config["num_steps"], config["eta"]
    t = np.linspace(0.0, schedule.horizon, num_steps + 1)
    mean_t, variance_t = forward_moments(schedule, t, config["mean"], config["variance"])
    slope, intercept = exact_affine_score(mean_t, variance_t)
    beta, h = schedule.beta(t), schedule.horizon / num_steps
    w = score_weight(beta, eta)
    mean, variance = mean_t[-1], variance_t[-1]
    for i in range(num_steps, 0, -1):
        rate = beta[i] / 2 + w[i] * slope[i]
        mean = mean + h * (rate * mean + w[i] * intercept[i])
        variance = (1 + h * rate) ** 2 * variance + h * eta**2 * beta[i]
    distance = gaussian_distance(config["mean"], config["variance"], mean, variance)
    yield Measurement("none", 0, "distance_w2", float(distance))

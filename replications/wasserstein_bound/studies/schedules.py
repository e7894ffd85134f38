"""What the prior's error leaves, what time steps cost, and the example of corrections 1 and 4, in closed form."""

from collections.abc import Iterator, Sequence

import numpy as np

from paperkit.runs import Measurement, Rows, Run, Runner, execute
from replications.wasserstein_bound.bound import offset_upper_bound, score_weight, wasserstein_upper_bound
from replications.wasserstein_bound.checks_of_stationary_data import SHIFT, stationary_bound, stationary_distance
from replications.wasserstein_bound.gaussian import (
    exact_affine_score,
    forward_moments,
    gaussian_distance,
    reverse_moments,
)
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid
from replications.wasserstein_bound.studies.measuring import ETA_OF, measured

NUM_TIMES = 20_001
GAUSSIAN = {"mean": 1.0, "variance": 0.25}  # data of the offset and of the time steps


def run(horizons: Sequence[float], step_counts: Sequence[int], rates: Sequence[float], runner: Runner) -> Rows:
    """Compute the offset against T, W2 against the number of time steps, and the counterexample's curves."""
    samplers = [(arm, {**GAUSSIAN, "eta": eta}) for arm, eta in ETA_OF.items()]
    offset = [Run("offset", arm, 0, {**known, "horizon": each}) for each in horizons for arm, known in samplers]
    steps = [
        Run("discretisation", arm, 0, {**known, "num_steps": each}) for each in step_counts for arm, known in samplers
    ]
    stationary = [Run("stationary", "both", 0, {"rates": list(rates)})] if rates else []
    return [
        *execute(runner, measure_offset, offset),
        *execute(runner, measure_discretisation, steps),
        *execute(runner, measure_stationary_shift, stationary),
    ]


def measure_offset(run: Run) -> Iterator[Measurement]:
    """Compute offset and distance for Gaussian data, the exact score and the prior N(0, 1) at one horizon."""
    # The score has no error, so the offset is the whole bound. With it T3's bound of the offset, and the one-sided
    # constant of the score at T.
    data, eta = (run.config["mean"], run.config["variance"]), run.config["eta"]
    schedule = VariancePreserving(horizon=run.config["horizon"])
    t = time_grid(schedule, NUM_TIMES)
    mean_t, variance_t = forward_moments(schedule, t, *data)
    slope, intercept = exact_affine_score(mean_t, variance_t)
    prior = gaussian_distance(mean_t[-1], variance_t[-1], 0.0, 1.0)
    known = {**schedule.coefficients(t), "score_slope": slope}
    bound = wasserstein_upper_bound(t, **known, score_error=0.0, eta=eta, prior_distance=prior)
    samples = reverse_moments(schedule, t, slope, intercept, prior_mean=0.0, prior_variance=1.0, eta=eta)
    apart, beta = gaussian_distance(*data, 0.0, 1.0), known["diffusion_squared"]
    contracted = offset_upper_bound(t, diffusion_squared=beta, score_slope=slope, eta=eta, data_prior_distance=apart)
    numbers = {
        "offset_w2": bound.offset,
        "distance_w2": gaussian_distance(*data, *samples),
        "contraction_bound_w2": contracted,
        "constant_at_horizon": slope[-1],
    }
    return measured(0, {name: np.squeeze(value) for name, value in numbers.items()})


def measure_discretisation(run: Run) -> Iterator[Measurement]:
    """Run Euler and Maruyama's scheme (Euler's for η = 0) on Gaussian data from q_T = p_T; the bound would be zero."""
    # A step of length h from t is y - h (f - w s) + σ √h z with the coefficients at t, which keeps a Gaussian
    # Gaussian: m' = m + h (β m / 2 + w (k m + c)) and v' = (1 + h (β / 2 + w k))² v + h σ².
    schedule, data = VariancePreserving(), (run.config["mean"], run.config["variance"])
    num_steps, eta = run.config["num_steps"], run.config["eta"]
    t = np.linspace(0.0, schedule.horizon, num_steps + 1)
    mean_t, variance_t = forward_moments(schedule, t, *data)
    slope, intercept = exact_affine_score(mean_t, variance_t)
    beta, h = schedule.beta(t), schedule.horizon / num_steps
    w = score_weight(beta, eta)
    mean, variance = mean_t[-1], variance_t[-1]
    for i in range(num_steps, 0, -1):
        rate = beta[i] / 2 + w[i] * slope[i]
        mean = mean + h * (rate * mean + w[i] * intercept[i])
        variance = (1 + h * rate) ** 2 * variance + h * eta**2 * beta[i]
    return measured(0, {"distance_w2": gaussian_distance(*data, mean, variance)})


def measure_stationary_shift(run: Run) -> Iterator[Measurement]:
    """Draw the curves behind corrections 1 and 4 of the page: distances and bounds against β T, in units of c."""
    for number, rate in enumerate(run.config["rates"]):
        numbers = {
            "ode_w2_over_shift": stationary_distance(rate, 0.0) / SHIFT,
            "sde_w2_over_shift": stationary_distance(rate, 1.0) / SHIFT,
            "full_weight_bound_over_shift": stationary_bound(rate, 1.0) / SHIFT,
            "half_weight_bound_over_shift": stationary_bound(rate, 0.0) / SHIFT,
        }
        yield from measured(number, {"beta_times_horizon": rate, **numbers})

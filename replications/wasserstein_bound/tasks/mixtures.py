"""Two clusters on the line: distance, bound, and where the slack between them comes from."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from paperkit.runs import Measurement, Run
from replications.wasserstein_bound.bound import WassersteinBound, score_weight, wasserstein_upper_bound
from replications.wasserstein_bound.distances import cell_quantiles, normal_levels, quantile_function_distance
from replications.wasserstein_bound.mixture import Perturbation, SymmetricMixture
from replications.wasserstein_bound.samplers import Score, coupled_paths, probability_flow, reverse_masses
from replications.wasserstein_bound.schedule import Schedule, VariancePreserving, time_grid
from replications.wasserstein_bound.tasks.affine_sweep import ETA_OF
from replications.wasserstein_bound.tasks.excess import excess, halved

__all__ = ["measure_growth", "measure_mixture", "measure_slack"]

Array = NDArray[np.float64]

NUM_BOUND_TIMES = 20_001
NUM_LEVELS = 2001
REACH = 9.0  # the cells' outer edge, in units of x
NUM_CELLS = 1600
NUM_CURVE_POINTS = 31


def measure_mixture(run: Run) -> Iterator[Measurement]:
    """Hold W2 against T4 for a mixture with a perturbed score from q_T = p_T, without Monte Carlo."""
    # W2, its floor (the exact score's W2), the bound as a logarithm, the largest log10 I, the excess and its control.
    eta, mixture, perturbation = _setting(run)
    distance = _sampled_distance(mixture, _perturbed(mixture, perturbation), eta, run.config["num_steps"])
    floor = _sampled_distance(mixture, mixture.score, eta, run.config["num_steps"])
    bound = _bound(mixture, perturbation, eta)
    numbers = {
        "distance_w2": distance,
        "floor_w2": floor,
        "log10_bound_w2": float(bound.log_value) / np.log(10),
        "log10_growth_max": float(bound.log_growth.max()) / np.log(10),
        "excess": float(excess(distance, bound.value, floor)),
        "control_excess": float(excess(distance, halved(bound), floor)),
    }
    for name, value in numbers.items():
        yield Measurement("none", 0, name, value)


def measure_slack(run: Run) -> Iterator[Measurement]:
    """Factor the slack of the bound: W2 <= R <= B_c <= B, by pairs of paths that share their noise."""
    # R is the root mean square distance of the pairs at t = 0, B_c the bound whose L_s is replaced by the slope
    # averaged over the pairs. W2 / R is what the coupling costs, R / B_c what Cauchy and Schwarz cost, B_c / B what
    # the supremum costs. All as logarithms to base 10.
    eta, mixture, perturbation = _setting(run)
    model, rng = _perturbed(mixture, perturbation), np.random.default_rng(run.seed)
    t = time_grid(mixture.schedule, run.config["num_steps"] + 1)
    start = mixture.draw(rng, (run.config["num_pairs"],), mixture.schedule.horizon)
    paths = coupled_paths(mixture.schedule, mixture.score, model, start, start, t, eta=eta, rng=rng)
    averaged = wasserstein_upper_bound(
        t, diffusion_squared=mixture.schedule.beta(t), score_error=perturbation.error(mixture, t),
        score_slope=paths.slope, drift_slope=mixture.schedule.drift_slope(t), eta=eta,
    )  # fmt: skip
    numbers = {
        "log10_distance_w2": np.log10(_sampled_distance(mixture, model, eta, run.config["num_steps"])),
        "log10_coupled_w2": np.log10(paths.distance[0]),
        "log10_averaged_bound_w2": float(averaged.log_value) / np.log(10),
        "log10_bound_w2": float(_bound(mixture, perturbation, eta).log_value) / np.log(10),
    }
    for name, value in numbers.items():
        yield Measurement("none", 0, name, float(value))


def measure_growth(run: Run) -> Iterator[Measurement]:
    """Follow L_s, I and the weight w I of the exact score over t, in closed form however far apart the modes are."""
    # At each of a few times (step is their number): t, L_s, log10 I, and log10 (w I).
    eta, mixture, _ = _setting(run)
    t = _bound_times(mixture.schedule)
    slope = mixture.score_slope(t)
    bound = wasserstein_upper_bound(
        t, diffusion_squared=mixture.schedule.beta(t), score_error=1.0, score_slope=slope,
        drift_slope=mixture.schedule.drift_slope(t), eta=eta,
    )  # fmt: skip
    weight = np.log(score_weight(mixture.schedule.beta(t), eta)) + bound.log_growth
    for number, index in enumerate(np.linspace(0, len(t) - 1, NUM_CURVE_POINTS).astype(int)):
        yield Measurement("none", number, "t", float(t[index]))
        yield Measurement("none", number, "score_slope", float(slope[index]))
        yield Measurement("none", number, "log10_growth", float(bound.log_growth[index]) / np.log(10))
        yield Measurement("none", number, "log10_weight", float(weight[index]) / np.log(10))


def _setting(run: Run) -> tuple[float, SymmetricMixture, Perturbation]:
    mixture = SymmetricMixture(VariancePreserving(), run.config["mean"], run.config["variance"])
    return ETA_OF[run.arm], mixture, Perturbation(**run.config.get("perturbation", {}))


def _perturbed(mixture: SymmetricMixture, perturbation: Perturbation) -> Score:
    return lambda x, t: mixture.score(x, t) + perturbation(x)


def _bound_times(schedule: Schedule) -> Array:
    return time_grid(schedule, NUM_BOUND_TIMES)


def _bound(mixture: SymmetricMixture, perturbation: Perturbation, eta: float) -> WassersteinBound:
    t = _bound_times(mixture.schedule)
    return wasserstein_upper_bound(
        t, diffusion_squared=mixture.schedule.beta(t), score_error=perturbation.error(mixture, t),
        score_slope=mixture.score_slope(t) + perturbation.slope, drift_slope=mixture.schedule.drift_slope(t), eta=eta,
    )  # fmt: skip


def _sampled_distance(mixture: SymmetricMixture, score: Score, eta: float, num_steps: int) -> float:
    """W2 of the samples from p_T: quantiles carried by the flow, or cell masses by the Fokker-Planck equation."""
    schedule = mixture.schedule
    z, weights = normal_levels(NUM_LEVELS)
    data, t = mixture.quantiles(z, 0.0), time_grid(schedule, num_steps + 1)
    if eta == 0:
        samples = probability_flow(schedule, score, mixture.quantiles(z, schedule.horizon), t)
    else:
        edges = np.linspace(-REACH, REACH, NUM_CELLS + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        density = np.exp(mixture.log_density(middles, schedule.horizon))
        masses = reverse_masses(schedule, score, edges, density / density.sum(), t, eta=eta)
        samples = cell_quantiles(edges, masses, z)
    return quantile_function_distance(data, samples, weights)

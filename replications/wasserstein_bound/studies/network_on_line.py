"""A score network on the line along its training, with nothing estimated: loss, constants, bound and distances.

Data are a symmetric mixture of two Gaussians, whose noised marginals and scores are known. At each checkpoint:

* e(t) and J = ½∫ β e² dt are integrals against the exact p_t on a grid (no denoising loss, no samples);
* L_s(t) is certified on the whole line by interval arithmetic, at every time of a grid;
* W2 compares quantile functions: the ODE carries those of N(0, 1), the SDE is its Fokker-Planck equation.

Sampling starts at N(0, 1) and stops at t_min: the statement is about p_{t_min} and q_{t_min}, so every integral
starts there and W2 is that to p_{t_min}. Time steps and cells are outside the theorem; the floor, the W2 of the same
samplers with the exact score from p_T, says what they add. Between the grid's times L_s is not certified. Everything
is float64. The learning rate of params.yaml was chosen by the final J on seed 1000, which must not be reported, among
0.003, 0.01, 0.03 and 0.1.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtr, ndtri

from paperkit.runs import Measurement, Run, seeds_of
from replications.wasserstein_bound.bound import (
    WassersteinBound,
    score_loss,
    score_weight,
    wasserstein_corollary_bound,
    wasserstein_upper_bound,
)
from replications.wasserstein_bound.distances import cell_quantiles, normal_levels, quantile_function_distance
from replications.wasserstein_bound.lipschitz import SlopeCertificate, certified_score_slope
from replications.wasserstein_bound.samplers import Score, coupled_paths, probability_flow, reverse_masses
from replications.wasserstein_bound.schedule import time_grid
from replications.wasserstein_bound.score_network import LOG_SNR_SCALE, ScoreNetwork
from replications.wasserstein_bound.tasks.denoising import (
    ScoreTraining,
    log_snr,
    network_score,
    training,
    uniform_in_log_snr,
)
from replications.wasserstein_bound.tasks.excess import excess

__all__ = ["LearnedScore", "measure_learned_score"]

Array = NDArray[np.float64]

ETAS = {"ode": 0.0, "sde": 1.0}
NUM_LEVELS = 501
REACH = 9.0  # of cells and of the grid for e(t), in units of x: nearly all of p_t lies within 4
NUM_CELLS = 800
NUM_ERROR_POINTS = 361
NUM_CURVE_TIMES = 13
TOLERANCE = 0.01  # of a certificate, relative to 1 + |L_s|


class LearnedScore(ScoreTraining):
    """Data, network, training and measurement of one run."""

    lr: float = Field(gt=0)  # peak, of Adam
    num_times: int = Field(ge=NUM_CURVE_TIMES)  # of the bound's integrals, dense near t_min
    flow_steps: int = Field(ge=1)  # Runge-Kutta steps of the ODE sampler
    diffusion_steps: int = Field(ge=1)  # of the Fokker-Planck equation and of the coupled pairs
    num_pairs: int = Field(ge=2)  # coupled pairs at the last checkpoint


def measure_learned_score(run: Run) -> Iterator[Measurement]:
    """Train a network and measure it at every checkpoint."""
    # At step 0 the prior's distance and the samplers' floors; at each checkpoint J, the slopes, and for each sampler
    # W2, the logarithms of bound, offset and corollary, and the excess with its control (the offset alone as bound);
    # at the last also the bound with the slope averaged over coupled pairs, and e, L_s and w I e at a few times.
    settings = LearnedScore(**run.config)
    mixture = settings.mixture
    initialisation, data_seed, pair_seed = seeds_of(run.seed)
    torch.manual_seed(initialisation)
    network = ScoreNetwork(dimension=1, width=settings.width, depth=settings.depth).double()
    steps = training(
        network,
        lambda rng, count: mixture.draw(rng, (count, 1)),
        uniform_in_log_snr(mixture.schedule, settings.t_min),
        torch.optim.Adam(network.parameters(), lr=settings.lr),
        batch=settings.batch,
        steps=settings.checkpoints[-1],
        seed=data_seed,
    )
    floors = {
        name: sampled_distance(settings, mixture.score, eta, exact_prior=True) for name, eta in ETAS.items()
    }  # fmt: skip
    yield Measurement("none", 0, "prior_w2", prior_distance(settings))
    yield from (Measurement("none", 0, f"floor_w2_{name}", floor) for name, floor in floors.items())
    for step in steps:
        if not math.isfinite(step.loss):
            yield Measurement("none", settings.checkpoints[-1], "score_loss", math.nan)
            return
        if step.number in settings.checkpoints:
            certificates = slopes(settings, network)
            numbers = checkpoint(settings, network, certificates, floors)
            if step.number == settings.checkpoints[-1]:
                numbers |= averaged_bounds(settings, network, pair_seed) | curves(settings, network, certificates)
            yield from (Measurement("none", step.number, metric, value) for metric, value in numbers.items())


def checkpoint(
    settings: LearnedScore, network: ScoreNetwork, certificates: Sequence[SlopeCertificate], floors: dict[str, float]
) -> dict[str, float]:
    """Measure loss, constants, bounds and distances of a network as it is; logarithms are to base 10."""
    # floors: W2 of each sampler with the exact score.
    t, upper = settings.times, np.array([each.upper for each in certificates])
    terms = bound_terms(settings, network, t) | {"score_slope": upper}
    numbers = {
        "score_loss": float(score_loss(t, score_error=terms["score_error"], loss_weight=terms["diffusion_squared"])),
        "slope_largest": float(upper.max()),
        "slope_at_start": float(upper[0]),
        "slope_at_horizon": float(upper[-1]),
        "slope_uncertain": max(each.upper - each.attained for each in certificates),
    }
    score = network_score(network, settings.mixture.schedule)
    for name, eta in ETAS.items():
        distance = sampled_distance(settings, score, eta, exact_prior=False)
        bound = wasserstein_upper_bound(t, eta=eta, **terms)
        numbers |= {
            f"distance_w2_{name}": distance,
            f"log10_bound_w2_{name}": _log10(bound),
            f"log10_corollary_w2_{name}": _log10(wasserstein_corollary_bound(t, eta=eta, **terms)),
            f"log10_offset_w2_{name}": float(bound.log_offset) / math.log(10),
            f"log10_growth_max_{name}": float(bound.log_growth.max()) / math.log(10),
            f"excess_{name}": float(excess(distance, bound.value, floors[name])),
            f"control_excess_{name}": float(excess(distance, bound.offset, floors[name])),
        }
    return numbers


def bound_terms(settings: LearnedScore, network: ScoreNetwork, t: Array) -> dict[str, Any]:
    """Return what the bound needs beside L_s and η, as keyword arguments of `wasserstein_upper_bound`."""
    schedule = settings.mixture.schedule
    return {
        "diffusion_squared": schedule.beta(t),
        "drift_slope": schedule.drift_slope(t),
        "score_error": score_error(settings, network, t),
        "prior_distance": prior_distance(settings),
    }


def score_error(settings: LearnedScore, network: ScoreNetwork, t: Array) -> Array:
    """Integrate e(t)² = ∫ p_t (∂ log p_t − s)² dx by the trapezoidal rule, very exact for smooth functions."""
    # t and e: shape (n,).
    x = np.linspace(-REACH, REACH, NUM_ERROR_POINTS)
    score = network_score(network, settings.mixture.schedule)
    learned = np.stack([score(x[:, None], time)[:, 0] for time in t])
    masses = np.exp(settings.mixture.log_density(x, t[:, None])) * (x[1] - x[0])
    return np.sqrt((masses * (settings.mixture.score(x, t[:, None]) - learned) ** 2).sum(axis=1))


def slopes(settings: LearnedScore, network: ScoreNetwork) -> list[SlopeCertificate]:
    """Certify L_s at each of the settings' times."""
    schedule = settings.mixture.schedule
    features = log_snr(schedule, settings.times) / LOG_SNR_SCALE
    factors = -1 / np.sqrt(schedule.noise_variance(settings.times))
    return [
        certified_score_slope(network.layers, [1.0, 0.0], [0.0, feature], factor=factor, tolerance=TOLERANCE)
        for feature, factor in zip(features.tolist(), factors.tolist(), strict=True)
    ]


def prior_distance(settings: LearnedScore) -> float:
    """Return W2(p_T, N(0, 1)) from quantiles, in units of x."""
    z, weights = normal_levels(NUM_LEVELS)
    return quantile_function_distance(settings.mixture.quantiles(z, settings.mixture.schedule.horizon), z, weights)


def sampled_distance(settings: LearnedScore, score: Score, eta: float, *, exact_prior: bool) -> float:
    """Return W2 between p_{t_min} and what a sampler makes of a score, without Monte Carlo, in units of x."""
    # The score takes points of shape (n, 1), or of shape (n,) if it acts on each number alone. exact_prior: start at
    # p_T in place of N(0, 1).
    mixture, schedule = settings.mixture, settings.mixture.schedule
    z, weights = normal_levels(NUM_LEVELS)
    start = mixture.quantiles(z, schedule.horizon) if exact_prior else z
    num_steps = settings.diffusion_steps if eta else settings.flow_steps
    t = time_grid(schedule, num_steps + 1, start=settings.t_min)
    if eta == 0:
        samples = probability_flow(schedule, score, start[:, None], t)[:, 0]
    else:
        edges = np.linspace(-REACH, REACH, NUM_CELLS + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        masses = np.exp(mixture.log_density(middles, schedule.horizon)) if exact_prior else np.diff(ndtr(edges))
        columns = lambda x, time: score(x[:, None], time)[:, 0]  # noqa: E731
        masses = reverse_masses(schedule, columns, edges, masses / masses.sum(), t, eta=eta)
        samples = cell_quantiles(edges, masses, z)
    return quantile_function_distance(mixture.quantiles(z, settings.t_min), samples, weights)


def averaged_bounds(settings: LearnedScore, network: ScoreNetwork, seed: int) -> dict[str, float]:
    """Bound W2 with the slope averaged over coupled pairs in place of its supremum L_s; logarithms to base 10."""
    # The pairs start at equal quantiles of p_T and N(0, 1), and share the noise of the seed.
    mixture, schedule = settings.mixture, settings.mixture.schedule
    t = time_grid(schedule, settings.diffusion_steps + 1, start=settings.t_min)
    score, terms = network_score(network, schedule), bound_terms(settings, network, t)
    z = ndtri((np.arange(settings.num_pairs) + 0.5) / settings.num_pairs)[:, None]
    numbers = {}
    for name, eta in ETAS.items():
        start, rng = mixture.quantiles(z, schedule.horizon), np.random.default_rng(seed)
        paths = coupled_paths(schedule, mixture.score, score, start, z, t, eta=eta, rng=rng)
        bound = wasserstein_upper_bound(t, score_slope=paths.slope, eta=eta, **terms)
        numbers[f"log10_averaged_bound_w2_{name}"] = _log10(bound)
    return numbers


def curves(
    settings: LearnedScore, network: ScoreNetwork, certificates: Sequence[SlopeCertificate]
) -> dict[str, float]:
    """Follow e, L_s, the exact score's L_s and the integrands w I e over a few times, which end the metric's name."""
    t, slope = settings.times, np.array([each.upper for each in certificates])
    terms, exact = bound_terms(settings, network, t), settings.mixture.score_slope(t)
    bounds = {name: wasserstein_upper_bound(t, eta=eta, score_slope=slope, **terms) for name, eta in ETAS.items()}
    numbers = {}
    for i in np.linspace(0, len(t) - 1, NUM_CURVE_TIMES).astype(int):
        at, error = f"at_t_{t[i]:.4f}", float(terms["score_error"][i])
        numbers |= {f"error_{at}": error, f"slope_{at}": float(slope[i]), f"exact_slope_{at}": float(exact[i])}
        for name, eta in ETAS.items():
            weight = score_weight(terms["diffusion_squared"][i], eta)[0]
            numbers[f"integrand_{name}_{at}"] = float(weight * np.exp(bounds[name].log_growth[i]) * error)
    return numbers


def _log10(bound: WassersteinBound) -> float:
    return float(bound.log_value) / math.log(10)

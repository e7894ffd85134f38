"""Random Gaussian data with random affine scores on the line: bound and distance in closed form, for many cases.

A case draws data N(m, v), a schedule, a prior, and a score that is wrong by a constant shift, by a scale, or by both
with either of them swinging in time. Both samplers run each case, so that they are compared with the same score.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paperkit.runs import Measurement, Run
from replications.wasserstein_bound.bound import (
    kl_upper_bound,
    wasserstein_corollary_bound,
    wasserstein_upper_bound,
)
from replications.wasserstein_bound.gaussian import (
    affine_score_error,
    exact_affine_score,
    forward_moments,
    gaussian_distance,
    gaussian_kl,
    reverse_moments,
)
from replications.wasserstein_bound.schedule import ConstantRate, Schedule, VariancePreserving, time_grid
from replications.wasserstein_bound.tasks.excess import excess, halved

__all__ = ["ETA_OF", "measure_affine_cases", "measure_noise_family"]

Array = NDArray[np.float64]

ETA_OF = {"ode": 0.0, "sde": 1.0}
SCHEDULES = (VariancePreserving(), VariancePreserving(horizon=0.5), ConstantRate(rate=8.0))
ROUNDING = 1e-6


@dataclass(frozen=True)
class AffineCase:
    """One random case on its grid of times."""

    schedule: Schedule
    t: Array  # shape (n,)
    mean: float  # of the data
    variance: float  # of the data
    mean_t: Array  # of p_t, shape (n,)
    variance_t: Array  # of p_t, shape (n,)
    slope: Array  # of the model's score, shape (n,)
    intercept: Array  # of the model's score, shape (n,)
    prior_mean: float  # of q_T
    prior_variance: float  # of q_T


def random_case(rng: np.random.Generator, num_times: int) -> AffineCase:
    """Draw a case."""
    schedule = SCHEDULES[rng.integers(len(SCHEDULES))]
    mean, variance = rng.uniform(-2, 2), np.exp(rng.uniform(np.log(0.05), np.log(4)))
    t = time_grid(schedule, num_times)
    mean_t, variance_t = (each for each in forward_moments(schedule, t, mean, variance))
    swing = np.cos(2 * np.pi * (rng.integers(0, 4) * t / schedule.horizon + rng.uniform()))
    scale = rng.uniform(-0.3, 0.3) * swing ** rng.integers(0, 2)
    shift = rng.uniform(-0.5, 0.5) * swing ** rng.integers(0, 2)
    kind = rng.integers(3)  # shift, scale, both
    scale, shift = scale * (kind > 0), shift * (kind != 1)
    slope, intercept = exact_affine_score(mean_t, variance_t)
    prior = (float(mean_t[-1]), float(variance_t[-1])) if rng.integers(2) else (0.0, 1.0)
    return AffineCase(
        schedule, t, mean, variance, mean_t, variance_t,
        slope * (1 + scale), intercept * (1 + scale) + shift, *prior,
    )  # fmt: skip


def measure_affine_cases(run: Run) -> Iterator[Measurement]:
    """Hold W2 against its bound over one block of random cases, with one sampler."""
    # W2 and bound of each case (its number as step); then over the block the largest excess over T4 with its control,
    # the largest shortfall of the corollary T2 below T4 with its control, and shares; for the SDE also its KL bound.
    eta, rng = ETA_OF[run.arm], np.random.default_rng(run.seed)
    cases = [random_case(rng, run.config["num_times"]) for _ in range(run.config["num_cases"])]
    rows = [_compare(case, eta) for case in cases]
    for number, row in enumerate(rows):
        yield Measurement("none", number, "distance_w2", row["distance"])
        yield Measurement("none", number, "bound_w2", row["bound"])
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    yield from _block(columns, run.arm)


def _block(of: dict[str, Array], arm: str) -> Iterator[Measurement]:
    distance, bound, floor = of["distance"], of["bound"], of["floor"]
    numbers = {
        "excess": excess(distance, bound, floor).max(),
        "control_excess": excess(distance, of["wrong_bound"], floor).max(),
        "corollary_shortfall": np.max(1 - of["corollary"] / bound),
        "corollary_control": np.max(1 - of["wrong_corollary"] / bound),
        "median_tightness": np.median(distance / bound),
        "kl_failure_share": np.mean(of["kl"] > of["kl_bound"] * (1 + ROUNDING) + of["kl_floor"]),
        "full_weight_failure_share": np.mean(distance - floor > of["full_weight_bound"] * (1 + ROUNDING)),
        "increasing_weight_share": np.mean(of["weight_increases"]),
    }
    if arm == "sde":
        numbers |= {
            "kl_excess": excess(of["kl"], of["kl_bound"], of["kl_floor"]).max(),
            "looser_by_kl_share": np.mean(of["by_kl"] > bound),
            "median_by_kl_over_bound": np.median(of["by_kl"] / bound),
        }
    for name, value in numbers.items():
        yield Measurement("none", 0, name, float(np.maximum(value, 0.0)))


def _compare(case: AffineCase, eta: float) -> dict[str, float]:
    """Compute every distance and bound of one case."""
    mean, variance = _samples(case, case.slope, case.intercept, eta, (case.prior_mean, case.prior_variance))
    start = (float(case.mean_t[-1]), float(case.variance_t[-1]))
    exact = _samples(case, *exact_affine_score(case.mean_t, case.variance_t), eta, start)
    known = _known_of_score(case)
    prior = gaussian_distance(*start, case.prior_mean, case.prior_variance)
    prior_kl = gaussian_kl(*start, case.prior_mean, case.prior_variance)
    bound = wasserstein_upper_bound(case.t, **known, eta=eta, prior_distance=prior)
    corollary = wasserstein_corollary_bound(case.t, **known, eta=eta, prior_distance=prior)
    full_weight = wasserstein_upper_bound(case.t, **known, eta=1.0, prior_distance=prior)
    beta, error = known["diffusion_squared"], known["score_error"]
    # The SDE's bound for either sampler: for the ODE there is none, and this one is what fails.
    kl_bound = kl_upper_bound(case.t, diffusion_squared=beta, score_error=error, eta=1.0, prior_kl=prior_kl)
    return {
        "distance": float(gaussian_distance(case.mean, case.variance, mean, variance)),
        "floor": float(gaussian_distance(case.mean, case.variance, *exact)),
        "bound": float(bound.value),
        "wrong_bound": float(halved(bound)),
        "corollary": float(corollary.value),
        "wrong_corollary": float(corollary.score_term) / np.sqrt(2) + float(corollary.offset),
        "full_weight_bound": float(full_weight.value),
        "kl": float(gaussian_kl(case.mean, case.variance, mean, variance)),
        "kl_floor": float(gaussian_kl(case.mean, case.variance, *exact)),
        "kl_bound": float(kl_bound),
        "by_kl": float(np.sqrt(2 * variance * kl_bound)),
        "weight_increases": float(np.all(np.diff(np.log(beta) + bound.log_growth) >= 0)),
    }


def _known_of_score(case: AffineCase) -> dict[str, Array]:
    return {
        "diffusion_squared": case.schedule.beta(case.t),
        "score_error": affine_score_error(case.mean_t, case.variance_t, case.slope, case.intercept),
        "score_slope": case.slope,
        "drift_slope": case.schedule.drift_slope(case.t),
    }


def _samples(
    case: AffineCase, slope: Array, intercept: Array, eta: float, prior: tuple[float, float]
) -> tuple[float, float]:
    mean, variance = reverse_moments(
        case.schedule, case.t, slope, intercept, prior_mean=prior[0], prior_variance=prior[1], eta=eta
    )
    return float(mean), float(variance)


def measure_noise_family(run: Run) -> Iterator[Measurement]:
    """Hold W2 against T4, and KL against T7, for one noise of the reverse process over a block of random cases."""
    # The largest excess over T4 with its control, the median of W2 / bound, and for η > 0 the excess over T7 with its
    # control, the factor of T7 left out of a divergence that attains it.
    eta, rng = run.config["eta"], np.random.default_rng(run.seed)
    cases = [random_case(rng, run.config["num_times"]) for _ in range(run.config["num_cases"])]
    rows = [_compare(case, eta) for case in cases]
    of = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    yield Measurement("none", 0, "excess", float(excess(of["distance"], of["bound"], of["floor"]).max()))
    yield Measurement("none", 0, "control_excess", float(excess(of["distance"], of["wrong_bound"], of["floor"]).max()))
    yield Measurement("none", 0, "median_tightness", float(np.median(of["distance"] / of["bound"])))
    if eta > 0:
        bounds = np.array([_kl_bound(case, eta) for case in cases])
        yield Measurement("none", 0, "kl_excess", float(excess(of["kl"], bounds, of["kl_floor"]).max()))


def _kl_bound(case: AffineCase, eta: float) -> float:
    known = _known_of_score(case)
    prior_kl = gaussian_kl(case.mean_t[-1], case.variance_t[-1], case.prior_mean, case.prior_variance)
    beta, error = known["diffusion_squared"], known["score_error"]
    return float(kl_upper_bound(case.t, diffusion_squared=beta, score_error=error, eta=eta, prior_kl=prior_kl))

"""Random Gaussian data with random affine scores, on the line and in several dimensions, in closed form."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Rows, Run, Runner, execute
from replications.wasserstein_bound.affine_cases import AffineCases, affine_case
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import wasserstein_corollary_bound, wasserstein_upper_bound
from replications.wasserstein_bound.distances import bures_distance
from replications.wasserstein_bound.errors import excess, halved
from replications.wasserstein_bound.gaussian import (
    MatrixScore,
    matrix_exact_score,
    matrix_forward_moments,
    matrix_reverse_moments,
    matrix_score_error,
    matrix_score_slope,
)
from replications.wasserstein_bound.schedule import VariancePreserving, constant_rate, time_grid
from replications.wasserstein_bound.studies.measuring import ETA_OF, measured

SCHEDULE = VariancePreserving()
SCHEDULES = (SCHEDULE, VariancePreserving(horizon=0.5), constant_rate(8.0))
ROUNDING = 1e-6
LEAST_VARIANCE, LARGEST_VARIANCE = 0.1, 2.0  # eigenvalues of the covariances


def _odd(value: int) -> int:
    if value % 2 == 0:
        message = f"{value} must be odd: a step spans two intervals of the grid"
        raise ValueError(message)
    return value


OddCount = Annotated[int, Field(ge=3), AfterValidator(_odd)]


class Sweeps(StrictModel):
    """How many cases of which kind."""

    # Affine cases on the line in a block; each is run with both samplers
    num_cases: int = Field(ge=1, le=50)
    num_times: int = Field(ge=1)  # of the grid on the line
    etas: list[Annotated[float, Field(ge=0)]]  # noise of the reverse processes, relative to g
    num_family_cases: int = Field(ge=1)  # affine cases in a block for each of them
    num_rotations: int = Field(ge=1)  # cases in the plane with a score that rotates
    rotation: float = Field(gt=0)  # largest rate of rotation
    dimensions: list[Annotated[int, Field(ge=1)]]  # of the Gaussians with random covariances
    num_dimension_cases: int = Field(ge=1)  # in a block for each dimension
    num_plane_times: OddCount  # of the grid of the cases in the plane; fine, since a shift attains the bound there
    num_dimension_times: OddCount  # of the grid in several dimensions
    matrix_error: float = Field(gt=0)  # size of the random error of their scores


def run(settings: Sweeps, seeds: Sequence[int], runner: Runner) -> Rows:
    """Compare distance and bound over all cases."""
    block = {"num_cases": settings.num_cases, "num_times": settings.num_times}
    family = {**block, "num_cases": settings.num_family_cases}
    plane = {"size": settings.rotation, "num_times": settings.num_plane_times}
    matrix = {"size": settings.matrix_error, "num_times": settings.num_dimension_times}
    cases = range(settings.num_dimension_cases)
    return [
        *execute(runner, measure_affine_cases, [Run("affine", arm, seed, block) for seed in seeds for arm in ETA_OF]),
        *execute(
            runner,
            measure_noise_family,
            [Run("noise_family", f"eta_{eta:g}", s, {**family, "eta": eta}) for s in seeds for eta in settings.etas],
        ),
        *execute(
            runner,
            measure_rotation,
            [
                Run("rotation", arm, seeds[0], {**plane, "case": case})
                for case in range(settings.num_rotations)
                for arm in ETA_OF
            ],
        ),
        *execute(
            runner,
            measure_dimension,
            [
                Run("dimension", arm, seed, {**matrix, "case": case, "dimension": d})
                for d in settings.dimensions
                for seed in seeds
                for case in cases
                for arm in ETA_OF
            ],
        ),
    ]


# --- On the line -----------------------------------------------------------------------------------------------


def random_case(rng: np.random.Generator, num_times: int) -> AffineCases:
    """Draw a case."""
    schedule = SCHEDULES[rng.integers(len(SCHEDULES))]
    mean, variance = rng.uniform(-2, 2), np.exp(rng.uniform(np.log(0.05), np.log(4)))
    t = time_grid(schedule, num_times)
    swing = np.cos(2 * np.pi * (rng.integers(0, 4) * t / schedule.horizon + rng.uniform()))
    scale = rng.uniform(-0.3, 0.3) * swing ** rng.integers(0, 2)
    shift = rng.uniform(-0.5, 0.5) * swing ** rng.integers(0, 2)
    kind = rng.integers(3)  # shift, scale, both
    scale, shift = 1 + scale * (kind > 0), shift * (kind != 1)
    return affine_case(schedule, t, mean, variance, scale=scale, shift=shift, from_normal=not rng.integers(2))


def measure_affine_cases(run: Run) -> Iterator[Measurement]:
    """Hold W2 against its bound over one block of random cases, with one sampler."""
    # W2 and bound of each case (its number as step); then over the block the largest excess over T4 with its control,
    # the largest shortfall of the corollary T2 below T4 with its control, and shares; for the SDE also its KL bound.
    of = _compared(_cases(run), ETA_OF[run.arm])
    distance, bound, floor = of["distance"], of["bound"], of["floor"]
    for number in range(len(bound)):
        yield from measured(number, {"distance_w2": distance[number], "bound_w2": bound[number]})
    yield from measured(
        0,
        {
            **_excesses(of),
            "corollary_shortfall": np.maximum(0.0, np.max(1 - of["corollary"] / bound)),
            "corollary_control": np.max(1 - of["wrong_corollary"] / bound),
            "kl_failure_share": np.mean(of["kl"] > of["kl_bound"] * (1 + ROUNDING) + of["kl_floor"]),
            "full_weight_failure_share": np.mean(distance - floor > of["full_weight_bound"] * (1 + ROUNDING)),
            "increasing_weight_share": np.mean(of["weight_increases"]),
        },
    )
    if run.arm == "sde":
        by_kl = {
            "kl_excess": excess(of["kl"], of["kl_bound"], of["kl_floor"]).max(),
            "looser_by_kl_share": np.mean(of["by_kl"] > bound),
            "median_by_kl_over_bound": np.median(of["by_kl"] / bound),
        }
        yield from measured(0, by_kl)


def measure_noise_family(run: Run) -> Iterator[Measurement]:
    """Hold W2 against T4, and KL against T7, for one noise of the reverse process over a block of random cases."""
    eta, cases = run.config["eta"], _cases(run)
    of = _compared(cases, eta)
    yield from measured(0, _excesses(of))
    if eta > 0:
        bounds = np.array([case.kl_bound(eta) for case in cases])
        yield from measured(0, {"kl_excess": excess(of["kl"], bounds, of["kl_floor"]).max()})


def _cases(run: Run) -> list[AffineCases]:
    rng = np.random.default_rng(run.seed)
    return [random_case(rng, run.config["num_times"]) for _ in range(run.config["num_cases"])]


def _excesses(of: dict[str, Array]) -> dict[str, float]:
    """Largest excess over T4, that of the wrong bound, and the median of distance over bound."""
    return {
        "excess": excess(of["distance"], of["bound"], of["floor"]).max(),
        "control_excess": excess(of["distance"], of["wrong_bound"], of["floor"]).max(),
        "median_tightness": float(np.median(of["distance"] / of["bound"])),
    }


def _compared(cases: Sequence[AffineCases], eta: float) -> dict[str, Array]:
    """Compute every distance and bound of each case, by name."""
    rows = [_compare(case, eta) for case in cases]
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def _compare(case: AffineCases, eta: float) -> dict[str, Array | float]:
    exact = affine_case(case.schedule, case.t, case.mean, case.variance)
    bound, corollary = case.bound(eta), wasserstein_corollary_bound(case.t, **case.bound_arguments, eta=eta)
    # The SDE's bound for either sampler: for the ODE there is none, and this one is what fails.
    kl_bound = case.kl_bound(1.0)
    return {
        "distance": case.distance(eta),
        "floor": exact.distance(eta),
        "bound": bound.value,
        "wrong_bound": halved(bound),
        "corollary": corollary.value,
        "wrong_corollary": corollary.score_term / np.sqrt(2) + corollary.offset,
        "full_weight_bound": case.bound(1.0).value,
        "kl": case.kl(eta),
        "kl_floor": exact.kl(eta),
        "kl_bound": kl_bound,
        "by_kl": np.sqrt(2 * case.sample_moments(eta)[1] * kl_bound),
        "weight_increases": np.all(np.diff(np.log(case.schedule.beta(case.t)) + bound.log_growth) >= 0),
    }


# --- In several dimensions -------------------------------------------------------------------------------------


def measure_dimension(run: Run) -> Iterator[Measurement]:
    """Hold W2 against T4 for one random Gaussian in d dimensions, its score off by a random affine function."""
    # The covariance has log-uniform eigenvalues and random axes. The error is A x + b with independent normal entries,
    # of variance size² / d in A and size² in b, so that each coordinate is as wrong in any d.
    size, d = run.config["size"], run.config["dimension"]
    rng = np.random.default_rng([run.seed, run.config["case"], d])
    matrix = size * rng.standard_normal((d, d)) / np.sqrt(d)
    return _held_against_bound(run, rng, matrix, size * rng.standard_normal(d))


def measure_rotation(run: Run) -> Iterator[Measurement]:
    """Hold W2 against T4 for a random Gaussian of the plane whose model score has a part that rotates."""
    # Such a score is the gradient of nothing; only the symmetric part of its Jacobian enters L_s. `size` is the
    # largest rate of rotation.
    rng = np.random.default_rng([run.seed, run.config["case"]])
    rate = run.config["size"] * rng.uniform(-1, 1)
    matrix = rate * np.array([[0.0, -1.0], [1.0, 0.0]]) + 0.1 * rng.standard_normal((2, 2))
    # Every fourth case is a pure shift, which attains the bound where the covariance is a multiple of 1.
    pure_shift = run.config["case"] % 4 == 0
    return _held_against_bound(run, rng, matrix * (not pure_shift), 0.3 * rng.standard_normal(2), pure_shift)


def _held_against_bound(
    run: Run, rng: np.random.Generator, matrix: Array, shift: Array, isotropic: bool = False
) -> Iterator[Measurement]:
    eta, t, d = ETA_OF[run.arm], time_grid(SCHEDULE, run.config["num_times"]), len(shift)
    mean, covariance = rng.standard_normal(d) / np.sqrt(d), random_covariance(rng, d, isotropic)
    means_t, covariances_t = matrix_forward_moments(SCHEDULE, t, mean, covariance)
    exact = matrix_exact_score(means_t, covariances_t)
    model = MatrixScore(exact.matrices + matrix, exact.intercepts + shift)
    prior = {"prior_mean": means_t[-1], "prior_covariance": covariances_t[-1]}
    distance, floor = (
        float(bures_distance(mean, covariance, *matrix_reverse_moments(SCHEDULE, t, score, **prior, eta=eta)))
        for score in (model, exact)
    )
    error = matrix_score_error(means_t, covariances_t, model)
    known = {**SCHEDULE.coefficients(t), "score_error": error, "score_slope": matrix_score_slope(model)}
    bound = wasserstein_upper_bound(t, **known, eta=eta)
    numbers = {
        "distance_w2": distance,
        "bound_w2": bound.value,
        "excess": excess(distance, bound.value, floor),
        "control_excess": excess(distance, halved(bound), floor),
    }
    return measured(0, numbers)


def random_covariance(rng: np.random.Generator, d: int, isotropic: bool) -> Array:
    """Draw log-uniform eigenvalues (one for all if isotropic) and axes that are uniform among the rotations."""
    logs = rng.uniform(np.log(LEAST_VARIANCE), np.log(LARGEST_VARIANCE), 1 if isotropic else d)
    axes, triangle = np.linalg.qr(rng.standard_normal((d, d)))
    axes = axes * np.sign(np.diag(triangle))
    product = (axes * np.exp(np.broadcast_to(logs, d))) @ axes.T
    return (product + product.T) / 2

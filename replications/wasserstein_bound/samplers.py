"""Samplers of the reverse process, without Monte Carlo on the line, and pairs of paths that share their noise.

The reverse process dy = (f - w s) dt + sigma dw runs from T to 0 under a variance-preserving schedule: f = -beta x /
2, w = (1 + eta^2) beta / 2, sigma^2 = eta^2 beta. In tau = T - t its drift is beta x / 2 + w s.

A score is any callable (x, t) -> s with x an array, t a number, and s of the shape of x; a score of another shape or
one that is not finite is refused by ValueError, and so are arguments out of their range (`arguments`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_banded

from replications.wasserstein_bound.arguments import Array, finite, grid_of_times, nonnegative, positive
from replications.wasserstein_bound.bound import score_weight
from replications.wasserstein_bound.schedule import VariancePreserving

Score = Callable[[Array, float], Array]


def _evaluated(score: Score, x: Array, t: float) -> Array:
    values = np.asarray(score(x, t), dtype=np.float64)
    if values.shape != x.shape or not np.isfinite(values).all():
        message = (
            f"the score at t = {t:g} has shape {values.shape} for points of shape {x.shape}, or is NaN or inf: "
            "return one finite number for each coordinate, or start the grid of times later"
        )
        raise ValueError(message)
    return values


def probability_flow(schedule: VariancePreserving, score: Score, start: ArrayLike, t: ArrayLike) -> Array:
    """Points at the first time, carried from T by the ODE x' = -beta (x + s(x, t)) / 2; Runge-Kutta of order 4.

    On the line the map is increasing: given quantiles of q_T it returns those of q_0, exactly but for the steps, one
    for each interval of t, (k,); `time_grid(schedule, 1501)` is ample.

    Returns:
        Points at the first time, shape of `start`.
    """
    t, x = grid_of_times(t), finite("start", start)

    def velocity(x: Array, time: float) -> Array:
        return float(schedule.beta(time)) / 2 * (x + _evaluated(score, x, time))

    for late, early in zip(t[:0:-1], t[-2::-1], strict=True):
        step, middle = late - early, (late + early) / 2
        first = velocity(x, late)
        second = velocity(x + step / 2 * first, middle)
        third = velocity(x + step / 2 * second, middle)
        fourth = velocity(x + step * third, early)
        x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
    return x


def _bernoulli(z: Array) -> Array:
    """Z / (exp(z) - 1), 1 at z = 0."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.where(np.abs(z) < 1e-10, 1.0, z / np.expm1(z))


def reverse_masses(
    schedule: VariancePreserving, score: Score, edges: ArrayLike, masses: ArrayLike, t: ArrayLike, *, eta: float = 1.0
) -> Array:
    """Law of the reverse SDE at the first time, on equal cells of the line, from that at T; eta > 0.

    Solves the Fokker-Planck equation dq/dtau = -((beta x / 2 + w s) q)' + sigma^2 / 2 q'' with the fluxes of
    Scharfetter and Gummel and implicit Euler steps: the masses stay positive and keep their sum, no mass crosses the
    outer edges. The error is O(cell width^2) + O(step); measure the floor by running the exact score. `edges`,
    (k + 1,), are wide enough for all of q, for example [-9, 9] in 1600 cells.

    Returns:
        Probability of each cell at the first time, shape (k,).

    Raises:
        ValueError: If the cells are unequal.
    """
    t, edges, mass = grid_of_times(t), finite("edges", edges), nonnegative("masses", masses)
    widths = np.diff(edges)
    if edges.shape != (len(mass) + 1,) or widths.min() <= 0 or np.ptp(widths) > 1e-9 * widths.mean():
        message = f"edges of shape {edges.shape} for {mass.shape} masses: pass k + 1 increasing, equally spaced edges"
        raise ValueError(message)
    width, faces = widths.mean(), edges[1:-1]
    positive("eta", eta)
    banded = np.zeros((3, len(mass)))
    for late, early in zip(t[:0:-1], t[-2::-1], strict=True):
        middle = (late + early) / 2
        beta = schedule.beta(middle)
        drift = beta / 2 * faces + float(score_weight(beta, eta)[0]) * _evaluated(score, faces, middle)
        diffusion = float(eta**2 * beta / 2)
        peclet = drift * width / diffusion
        rate = (late - early) * diffusion / width**2
        up, down = rate * _bernoulli(-peclet), rate * _bernoulli(peclet)  # from cell i to i + 1, and back
        banded[0, 1:], banded[2, :-1] = -down, -up
        banded[1] = 1.0
        banded[1, :-1] += up
        banded[1, 1:] += down
        mass = np.asarray(solve_banded((1, 1), banded, mass, check_finite=False), dtype=np.float64)
    return mass


def euler_maruyama(
    schedule: VariancePreserving,
    score: Score,
    start: ArrayLike,
    t: ArrayLike,
    *,
    eta: float = 1.0,
    rng: np.random.Generator,
) -> Array:
    """Points at the first time, carried from T by the Euler-Maruyama method, in any dimension.

    x <- x + h (beta x / 2 + w s(x, t)) + (eta^2 beta h)^(1/2) xi, coefficients at the late end of the step.

    Returns:
        Points at the first time, shape of `start`.
    """
    t, x = grid_of_times(t), finite("start", start)
    nonnegative("eta", eta)
    for late, early in zip(t[:0:-1], t[-2::-1], strict=True):
        step, beta = late - early, float(schedule.beta(late))
        x = x + step * (beta / 2 * x + (1 + eta**2) / 2 * beta * _evaluated(score, x, late))
        if eta:
            x = x + np.sqrt(eta**2 * beta * step) * rng.standard_normal(x.shape)
    return x


@dataclass(frozen=True)
class CoupledPaths:
    """Two reverse processes driven by the same noise, seen at the k times of the grid, and the points at the first.

    `distance` is R = (E |x - y|^2)^(1/2), `slope` E[(x - y).(s(x) - s(y))] / E |x - y|^2 (where x = y that of the next
    earlier time), `score_error` an estimate of e from the points x.
    """

    distance: Array
    slope: Array
    score_error: Array
    true_points: Array
    model_points: Array


def coupled_paths(
    schedule: VariancePreserving,
    true_score: Score,
    model_score: Score,
    true_start: ArrayLike,
    model_start: ArrayLike,
    t: ArrayLike,
    *,
    eta: float = 1.0,
    rng: np.random.Generator,
) -> CoupledPaths:
    """Synchronous coupling: x with the true score and y with the model's, driven by the same noise.

    Steps S2 to S5 of the derivation: the noise cancels in x - y. With l(t) = `slope` in place of the supremum L_s,
    R(0) <= wasserstein_upper_bound(t, score_slope=paths.slope, score_error=e, ...) for the same eta: it explains the
    slack of L_s, it does not predict. Euler-Maruyama: errors of O(step), and of O(n^(-1/2)) by sampling. The starts,
    points of p_T and q_T, (n, d) or (n,), are coupled optimally: the same points when q_T = p_T, sorted on the line.

    Returns:
        R, l and e at the times of the grid, and the final points.

    Raises:
        ValueError: If the shapes differ.
    """
    t, x, y = grid_of_times(t), finite("true_start", true_start), finite("model_start", model_start)
    nonnegative("eta", eta)
    if x.shape != y.shape:
        message = f"true_start has shape {x.shape}, model_start {y.shape}: pairs of points have the same shape"
        raise ValueError(message)
    distance, slope, error = np.empty_like(t), np.empty_like(t), np.empty_like(t)
    for i in range(len(t) - 1, -1, -1):
        gap, model_at_x = x - y, _evaluated(model_score, x, t[i])
        true_at_x, model_at_y = _evaluated(true_score, x, t[i]), _evaluated(model_score, y, t[i])
        squared = (gap**2).sum() / len(x)
        distance[i] = np.sqrt(squared)
        slope[i] = (gap * (model_at_x - model_at_y)).sum() / len(x) / squared if squared > 0 else np.nan
        error[i] = np.sqrt(((true_at_x - model_at_x) ** 2).sum() / len(x))
        if i:
            step, beta = t[i] - t[i - 1], float(schedule.beta(t[i]))
            noise = np.sqrt(eta**2 * beta * step) * rng.standard_normal(x.shape) if eta else 0.0
            x = x + step * beta / 2 * (x + (1 + eta**2) * true_at_x) + noise
            y = y + step * beta / 2 * (y + (1 + eta**2) * model_at_y) + noise
    known = np.flatnonzero(np.isfinite(slope))
    if len(known):
        slope[known[-1] + 1 :] = slope[known[-1]]
    slope[np.isnan(slope)] = 0.0  # x = y throughout: any slope will do
    return CoupledPaths(distance, slope, error, x, y)

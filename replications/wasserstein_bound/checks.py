"""The bound W_2(p_0, q_0) <= int w I e dt + I(T) W_2(p_T, q_T): steps S1 to S6 of the page, executed."""

from collections.abc import Iterator

import numpy as np
from scipy.integrate import solve_ivp

from paperkit.checks import Check, Checks, by_name
from replications.wasserstein_bound import (
    checks_of_closed_forms,
    checks_of_corrections,
    checks_of_notebook,
    checks_of_stationary_data,
    checks_of_theorems,
)
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import log_growth
from replications.wasserstein_bound.distances import quantile_distance
from replications.wasserstein_bound.errors import largest_excess, relative_error
from replications.wasserstein_bound.mixture import Perturbation, SymmetricMixture
from replications.wasserstein_bound.samplers import coupled_paths
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid

SCHEDULE = VariancePreserving()
ETAS = (0.0, 0.5, 1.0, 2.0)
MIXTURE = SymmetricMixture(SCHEDULE, 1.0, 0.25)
PERTURBATION = Perturbation(shift=0.2, amplitude=0.2, frequency=3)


def step_s1_marginals() -> Check:
    """S1: with the exact score every eta leads from p_T to p_0; means and variances of Gaussians, by an ODE solver."""
    # m' = (-beta / 2 + w / v_t) m - w mu_t / v_t and V' = 2 (-beta / 2 + w / v_t) V - sigma^2, integrated from T to 0.
    # Absolute error of mean and variance at 0; tolerance 1e-8: the solver's, at relative 1e-11 per step.
    # Control: w = g^2 for every eta, as if the reverse SDE's factor held for all; eta = 0, 1/2 and 2, the least.
    mean, variance = 1.3, 0.25

    def error(eta: float, weight: float) -> float:
        def change(t: float, moments: Array) -> list[float]:
            beta, alpha = float(SCHEDULE.beta(t)), float(SCHEDULE.alpha(t))
            mean_t, variance_t = alpha * mean, alpha**2 * variance + float(SCHEDULE.noise_variance(t))
            slope = -beta / 2 + weight * beta / variance_t
            push = weight * beta * mean_t / variance_t
            return [slope * moments[0] - push, 2 * slope * moments[1] - eta**2 * beta]

        alpha = float(SCHEDULE.alpha(1.0))
        start = [alpha * mean, alpha**2 * variance + float(SCHEDULE.noise_variance(1.0))]
        path = solve_ivp(change, (1.0, 0.0), start, method="DOP853", rtol=1e-11, atol=1e-13)
        return max(abs(path.y[0, -1] - mean), abs(path.y[1, -1] - variance))

    return Check(max(error(eta, (1 + eta**2) / 2) for eta in ETAS), min(error(eta, 1.0) for eta in ETAS if eta != 1))


def _pairs(
    mixture: SymmetricMixture, perturbation: Perturbation, eta: float, num_steps: int, *, shared: bool = True
) -> Iterator[tuple[float, Array, Array]]:
    """Time and the points x and y of 500 pairs on their way from T, all from q_T = p_T; Euler-Maruyama."""
    rng = np.random.default_rng(1)
    t = time_grid(SCHEDULE, num_steps + 1)
    x = y = mixture.draw(rng, (500,), 1.0)
    yield t[-1], x, y
    for late, early in zip(t[:0:-1], t[-2::-1], strict=True):
        step, beta = late - early, float(SCHEDULE.beta(late))
        noise = eta * np.sqrt(beta * step) * rng.standard_normal((2, 500))
        w = (1 + eta**2) / 2 * beta
        x_score, y_score = mixture.score(x, late), mixture.score(y, late) + perturbation(y)
        x = x + step * (beta / 2 * x + w * x_score) + noise[0]
        y = y + step * (beta / 2 * y + w * y_score) + noise[0 if shared else 1]
        yield early, x, y


def step_s2_noise_cancels() -> Check:
    """S2: under shared noise the difference of two paths has no quadratic variation; it is O(step) of the noise's."""
    # 500 pairs, 1000 steps, perturbed score of two clusters, eta = 1. The sum of the squared increments of D, relative
    # to 2 int sigma^2 dt, which is its value for independent noises. Tolerance 1e-2: it is of order 1 / steps.
    # Control: independent noises.

    def variation(shared: bool) -> float:
        gaps = np.stack([x - y for _, x, y in _pairs(MIXTURE, PERTURBATION, 1.0, 1000, shared=shared)])
        total = (np.diff(gaps, axis=0) ** 2).mean(axis=1).sum()
        return float(total / (2 * SCHEDULE.integrated_beta(1.0)))

    return Check(variation(True), variation(False))


def step_s3_pointwise() -> Check:
    """S3: the inequality for one pair of points, at 100 000 random pairs in three dimensions."""
    # The product of three mixtures of two clusters, score with an error that is no gradient: a rotation A x,
    # antisymmetric, which adds nothing to L_s, and a bounded one. The violation is relative to the sum of the
    # magnitudes of the terms. Tolerance 1e-9: rounding.
    # Control: the slope of the typical point, -1 / v_t, in place of the supremum L_s: no bound.
    rng = np.random.default_rng(2)
    perturbation = Perturbation(shift=0.1, amplitude=0.3, frequency=2)
    rotation = np.array([[0.0, 1.0, -0.5], [-1.0, 0.0, 2.0], [0.5, -2.0, 0.0]])

    def violation(supremum: bool) -> float:
        largest = 0.0
        for t in (0.01, 0.05, 0.2, 0.7):
            x, y = 2 * rng.standard_normal((2, 25_000, 3))
            near = slice(0, 12_500)  # half of the pairs close to each other
            y[near] = x[near] / 4 + 0.1 * y[near]
            beta = float(SCHEDULE.beta(t))
            model_x, model_y = (MIXTURE.score(u, t) + perturbation(u) + u @ rotation for u in (x, y))
            gap, error = x - y, MIXTURE.score(x, t) - model_x
            slope = MIXTURE.score_slope(t) if supremum else -1 / MIXTURE.moments(t)[1]
            terms = beta / 2 * (gap**2).sum(1), beta * (gap * (MIXTURE.score(x, t) - model_y)).sum(1)
            squared = (gap**2).sum(1)
            upper = (beta / 2 + beta * (float(slope) + perturbation.slope)) * squared
            upper = upper + beta * np.sqrt(squared * (error**2).sum(1))
            scale = np.abs(terms[0]) + np.abs(terms[1]) + beta * np.sqrt(squared * (error**2).sum(1))
            largest = max(largest, float(((terms[0] + terms[1] - upper) / scale).max()))
        return max(largest, 0.0)

    return Check(violation(True), violation(False))


def step_s4_growth() -> Check:
    """S4: -dR/dt <= (l_-f + w L_s) R + w e, on pairs carried by shared noise; dR/dt without differences."""
    # R dR/dt = E D.dD/dt is evaluated exactly on the points of the moment, and so is e; no step size enters. A
    # constant shift of the score of one Gaussian gives equality: its error counts both sides. Perturbed scores of two
    # clusters give the inequality. Relative to the right side's terms. Tolerance 1e-6: rounding.
    # Control: half the error's term, w e / 2, in the case of equality.
    errors, controls = [], []
    for eta in ETAS:
        one_cluster = SymmetricMixture(SCHEDULE, 0.0, 0.25)
        for mixture, perturbation in ((one_cluster, Perturbation(shift=0.3)), (MIXTURE, PERTURBATION)):
            for t, x, y in _pairs(mixture, perturbation, eta, 100):
                gap, beta = x - y, float(SCHEDULE.beta(t))
                distance = np.sqrt(np.mean(gap**2))
                if distance == 0:  # R' has no meaning where all pairs coincide, at T
                    continue
                w = (1 + eta**2) / 2 * beta
                drift = -beta / 2 * gap - w * (mixture.score(x, t) - mixture.score(y, t) - perturbation(y))
                left = -np.mean(gap * drift) / distance
                growth = (beta / 2 + w * (float(mixture.score_slope(t)) + perturbation.slope)) * distance
                push = w * np.sqrt(np.mean(perturbation(x) ** 2))
                scale = np.abs(growth) + push
                if mixture is one_cluster:
                    errors.append(abs(left - growth - push) / scale)
                    controls.append(abs(left - growth - push / 2) / scale)
                else:
                    errors.append(max(0.0, (left - growth - push) / scale))
    return Check(float(max(errors)), float(np.median(controls)))


def step_s5_gronwall() -> Check:
    """S5: the equality case -dR/dt = rate R + w e, by an ODE solver, is R(0) = I(T) R(T) + int w I e dt."""
    # A rate that changes sign and an error that oscillates. Tolerance 1e-6: the trapezoidal rule on 20 001 points.
    # Control: I taken from t to T, exp int_t^T, the factor for a process that runs forwards.
    t, last = np.linspace(0, 1, 20_001), 0.4

    def rate(t: Array | float) -> Array:
        return np.asarray(3 * np.cos(5 * np.asarray(t)) + 1)

    def push(t: Array | float) -> Array:
        return np.asarray(0.3 + 0.2 * np.sin(9 * np.asarray(t)))

    path = solve_ivp(lambda t, r: -rate(t) * r - push(t), (1.0, 0.0), [last], method="DOP853", rtol=1e-12, atol=1e-14)
    log_i = log_growth(t, rate(t))
    values = []
    for log_factor in (log_i, log_i[-1] - log_i):
        values.append(np.exp(log_i[-1]) * last + np.trapezoid(np.exp(log_factor) * push(t), t))
    return Check(relative_error(values[0], path.y[0, -1]), relative_error(values[1], path.y[0, -1]))


def step_s6_coupling() -> Check:
    """S6: the pairs' R bounds W_2 of the two clouds, and is equal to it at T if the pairs start optimally."""
    # 500 points of N(0.5, 1) and N(0, 2), sorted, then carried by shared noise and two scores. W_2 of the clouds by
    # quantiles, exactly. Error: excess of W_2 over R at the end, and relative error of R(T). Tolerance 1e-6: rounding.
    # Control: pairs that start in opposite order.
    rng = np.random.default_rng(3)
    x, y = np.sort(rng.standard_normal(500) + 0.5), np.sort(np.sqrt(2) * rng.standard_normal(500))

    def model(x: Array, t: float) -> Array:
        return MIXTURE.score(x, t) + PERTURBATION(x)

    t, errors, controls = time_grid(SCHEDULE, 201), [], []
    for eta in ETAS:
        for start, results in ((y, errors), (y[::-1], controls)):
            paths = coupled_paths(SCHEDULE, MIXTURE.score, model, x, start, t, eta=eta, rng=rng)
            end = largest_excess(quantile_distance(paths.true_points, paths.model_points), paths.distance[0])
            results.append(max(end, relative_error(paths.distance[-1], quantile_distance(x, y))))
    return Check(max(errors), min(controls))


CHECKS: Checks = {
    **by_name(
        step_s1_marginals,
        step_s2_noise_cancels,
        step_s3_pointwise,
        step_s4_growth,
        step_s5_gronwall,
        step_s6_coupling,
    ),
    **checks_of_theorems.CHECKS,
    **checks_of_closed_forms.CHECKS,
    **checks_of_corrections.CHECKS,
    **checks_of_stationary_data.CHECKS,
    **checks_of_notebook.CHECKS,
}

"""Equalities that a Gaussian or a mixture gives in closed form, each with its error and that of its control."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp

from paperkit.checks import Check, by_name
from replications.wasserstein_bound.affine_cases import AffineCases, affine_case
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import (
    log_growth,
    score_loss,
    score_matching_gap,
    score_weight,
    wasserstein_upper_bound,
)
from replications.wasserstein_bound.errors import relative_error, room
from replications.wasserstein_bound.gaussian import (
    affine_score_error,
    constant_shift_distance,
    exact_affine_score,
    exact_score_growth,
    forward_moments,
)
from replications.wasserstein_bound.mixture import SymmetricMixture
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid

SCHEDULE = VariancePreserving()
NUM_TIMES = 40_001
VARIANCES = (0.05, 0.25, 1.0, 4.0)
MEAN, SHIFT = 1.0, 0.3


def _case(schedule: VariancePreserving, variance: float, **wrong: ArrayLike) -> AffineCases:
    return affine_case(schedule, time_grid(schedule, NUM_TIMES), MEAN, variance, **wrong)


def shift_attains_bound() -> Check:
    """W2 = B = c ∫ w I, which has a closed form, for a constant shift of the score and four η."""
    # Control: a score 20 % too steep, SDE.
    errors, cases = [], {variance: _case(SCHEDULE, variance, shift=SHIFT) for variance in VARIANCES}
    for variance in VARIANCES:
        for eta in (0.0, 0.5, 1.0, 2.0):
            case, closed = cases[variance], constant_shift_distance(SCHEDULE, variance, SHIFT, eta)
            bound = case.bound(eta).value
            errors += [relative_error(case.distance(eta), bound), relative_error(bound, closed)]
    controls = [_case(SCHEDULE, variance, scale=1.2) for variance in VARIANCES]
    return Check(max(errors), min(relative_error(case.distance(1.0), case.bound(1.0).value) for case in controls))


def growth_of_exact_score() -> Check:
    """Log I of Gaussians; ∫ g² I² = v₀ - I_T² v_T (SDE); and I_T = p_T(0) / p₀(0) of mixtures (ODE)."""
    # Control: η exchanged.
    t = time_grid(SCHEDULE, NUM_TIMES)
    beta, drift = SCHEDULE.beta(t), SCHEDULE.drift_slope(t)
    right, wrong = [], []
    for variance in VARIANCES:
        variance_t = forward_moments(SCHEDULE, t, 0.0, variance)[1]
        growths = {eta: log_growth(t, drift - score_weight(beta, eta) / variance_t) for eta in (0.0, 1.0)}
        for eta, growth in growths.items():
            right.append(np.max(np.abs(growth - exact_score_growth(SCHEDULE, t, variance, eta=eta))))
            wrong.append(np.max(np.abs(growth - exact_score_growth(SCHEDULE, t, variance, eta=1 - eta))))
        noise = np.trapezoid(beta * np.exp(2 * growths[1.0]), t)
        right.append(abs(noise - variance + np.exp(2 * growths[1.0][-1]) * variance_t[-1]))
    for mean, variance in ((1.0, 0.25), (1.0, 0.1)):
        mixture = SymmetricMixture(SCHEDULE, mean, variance)
        growth = float(log_growth(t, drift + beta / 2 * mixture.score_slope(t))[-1])
        right.append(abs(growth - float(mixture.log_density(0.0, 1.0) - mixture.log_density(0.0, 0.0))))
    return Check(float(max(right)), float(min(wrong)))


def shift_slope() -> Check:
    """Slope of log W2 on log J for a scaled shift, minus ½, both samplers."""
    # Control: from N(0, 1) at T = 0.3, where the offset rules.

    def distance_from_half(schedule: VariancePreserving, from_prior: bool) -> list[float]:
        cases = [_case(schedule, 0.25, shift=c, from_normal=from_prior) for c in (0.01, 0.03, 0.1, 0.3)]
        beta = schedule.beta(cases[0].t)
        losses = [score_loss(case.t, loss_weight=beta, score_error=case.score_error) for case in cases]
        slopes = []
        for eta in (0.0, 1.0):
            distances = [case.distance(eta) for case in cases]
            slopes.append(abs(float(np.polyfit(np.log(losses), np.log(distances), 1)[0]) - 0.5))
        return slopes

    return Check(
        max(distance_from_half(SCHEDULE, False)), min(distance_from_half(VariancePreserving(horizon=0.3), True))
    )


def _conditional_loss(t: Array, variance: float, shift: float) -> tuple[Array, Array, Array]:
    """Compute the conditional loss of the exact score of N(1, v) plus a shift, its constant, and the plain loss."""
    # By the moments of (x₀, ε), independently of the plain loss.
    mean_t, variance_t = forward_moments(SCHEDULE, t, MEAN, variance)
    k, c = exact_affine_score(mean_t, variance_t)
    c = c + shift
    noise = SCHEDULE.noise_variance(t)
    conditional = 1 / noise + 2 * k + k**2 * (variance_t + mean_t**2) + 2 * k * c * mean_t + c**2
    constant = score_matching_gap(noise, score_second_moment=1 / variance_t)
    return conditional, constant, affine_score_error(mean_t, variance_t, k, c) ** 2


def _bound_from(t: Array, squared_error: Array, variance: float) -> float:
    variance_t = forward_moments(SCHEDULE, t, 0.0, variance)[1]
    error = np.sqrt(np.maximum(squared_error, 0.0))
    bound = wasserstein_upper_bound(t, **SCHEDULE.coefficients(t), score_error=error, score_slope=-1 / variance_t)
    return float(bound.value)


def conditional_bound_of_exact_score() -> Check:
    """The bound from the conditional loss where W2 is zero, data N(1, ¼), SDE from t = 0.001."""
    # Control, a case in which the statement holds: data at one point (but for a variance of 1e-16), where both losses
    # agree. By what share its bound lies below that of variance ¼; if no bound vanished, it would be far from 1.
    t = time_grid(SCHEDULE, NUM_TIMES, start=1e-3)
    wide, point = (_bound_from(t, _conditional_loss(t, variance, 0.0)[0], variance) for variance in (0.25, 1e-16))
    return Check(wide, room(point, wide))


def conditional_bound_corrected() -> Check:
    """The bound from the conditional loss less its constant equals that from the plain loss."""
    # Control: not subtracted.
    t = time_grid(SCHEDULE, NUM_TIMES, start=1e-3)
    conditional, constant, plain = _conditional_loss(t, 0.25, SHIFT)
    right = _bound_from(t, plain, 0.25)
    corrected, wrong = _bound_from(t, conditional - constant, 0.25), _bound_from(t, conditional, 0.25)
    return Check(abs(corrected / right - 1), abs(wrong / right - 1))


def conditional_gap() -> Check:
    """Conditional minus plain loss against its constant, in standard errors of a million draws."""
    # Three scores at three times. Control: the constant without its second term, d / (1 - α²).
    rng, mixture = np.random.default_rng(2023), SymmetricMixture(SCHEDULE, 1.0, 0.25)
    right, wrong = [], []
    for t in (0.05, 0.2, 0.6):
        noise = float(SCHEDULE.noise_variance(t))
        moment = float(mixture.score_second_moment(t))
        gap = float(score_matching_gap(noise, score_second_moment=moment))
        x_0, eps = mixture.draw(rng, (1_000_000,)), rng.standard_normal(1_000_000)
        x = float(SCHEDULE.alpha(t)) * x_0 + np.sqrt(noise) * eps
        exact = mixture.score(x, t)
        for model in (exact, np.zeros_like(x), np.sin(3 * x) - x):
            differences = (-eps / np.sqrt(noise) - model) ** 2 - (exact - model) ** 2
            error = differences.std() / np.sqrt(len(x))
            right.append(abs(differences.mean() - gap) / error)
            wrong.append(abs(differences.mean() - gap - moment) / error)
    return Check(float(max(right)), float(min(wrong)))


def shared_noise_growth() -> Check:
    """With one Brownian motion in both reverse SDEs, d E|x - y|² / dτ is 2 E[(x - y)·(difference of drifts)]."""
    # x has the exact score of N(1, ¼), y the same 30 % steeper and shifted. Their joint moments follow an ODE in
    # τ = T - t, whose noise enters var x, var y and cov(x, y) alike.
    # Control: independent noises, cov(x, y) without it.
    scale, shift = 1.3, 0.3

    def drifts(tau: float) -> tuple[float, float, float, float, float]:
        t = np.array([SCHEDULE.horizon - tau])
        mean_t, variance_t = forward_moments(SCHEDULE, t, MEAN, 0.25)
        k, c = (float(each[0]) for each in exact_affine_score(mean_t, variance_t))
        beta = float(SCHEDULE.beta(t)[0])
        return beta / 2 + beta * k, beta * c, beta / 2 + beta * scale * k, beta * (scale * c + shift), beta

    def moving(tau: float, state: Array, shared: float) -> Array:
        a, p, b, q, noise = drifts(tau)
        m, n, x, y, both = state
        means = a * m + p, b * n + q
        return np.array([*means, 2 * a * x + noise, 2 * b * y + noise, (a + b) * both + shared * noise])

    def squared_gap(state: Array) -> float:
        m, n, x, y, both = state
        return float(x + y - 2 * both + (m - n) ** 2)

    def error(shared: float) -> float:
        mean_t, variance_t = forward_moments(SCHEDULE, np.array([SCHEDULE.horizon]), MEAN, 0.25)
        m, v = float(mean_t[0]), float(variance_t[0])
        solver = {"rtol": 1e-11, "atol": 1e-12, "dense_output": True, "method": "DOP853"}
        path = solve_ivp(moving, (0, 0.999), [m, m, v, v, v], args=(shared,), **solver)
        step, errors = 1e-4, []
        for tau in np.linspace(0.1, 0.9, 9):
            squared = [squared_gap(path.sol(tau + side)) for side in (step, -step)]
            m, n, x, y, both = path.sol(tau)
            a, p, b, q, _ = drifts(float(tau))
            # E[(x - y)((a x + p) - (b y + q))] by second moments.
            drift = a * (x - both) - b * (both - y) + (m - n) * (a * m + p - b * n - q)
            errors.append(abs((squared[0] - squared[1]) / (2 * step) - 2 * drift))
        return max(errors)

    return Check(error(1.0), error(0.0))


CHECKS = by_name(
    shift_attains_bound,
    growth_of_exact_score,
    shift_slope,
    conditional_bound_of_exact_score,
    conditional_bound_corrected,
    conditional_gap,
    shared_noise_growth,
)

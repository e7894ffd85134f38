"""From the derivation to the theorems T1 to T7 (steps S7 to S9); 1e-6 is what the trapezoidal rule leaves."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from paperkit.checks import Check, by_name
from replications.wasserstein_bound.affine_cases import AffineCases, affine_case, random_affine_cases
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import (
    log_growth,
    ode_lemma_bound,
    offset_upper_bound,
    score_matching_gap,
    wasserstein_corollary_bound,
    wasserstein_upper_bound,
)
from replications.wasserstein_bound.distances import normal_levels, quantile_function_distance
from replications.wasserstein_bound.errors import largest_excess, relative_error
from replications.wasserstein_bound.gaussian import (
    constant_shift_distance,
    exact_score_growth,
    forward_moments,
    gaussian_distance,
    reverse_moments,
)
from replications.wasserstein_bound.mixture import Perturbation, SymmetricMixture
from replications.wasserstein_bound.schedule import VariancePreserving, constant_rate, time_grid

SCHEDULE = VariancePreserving()
NUM_TIMES = 20_001
NUM_CASES = 60
ETAS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
SHIFT = 0.3


def _shifted_gaussian(variance: float, shift: ArrayLike) -> AffineCases:
    """N(0, v_0), the exact score plus a shift c(t), and q_T = p_T."""
    return affine_case(SCHEDULE, time_grid(SCHEDULE, NUM_TIMES), 0.0, variance, shift=shift)


def theorem_t1_sde() -> Check:
    """T1, the SDE: W_2 <= int g^2 I e + I(T) W_2(p_T, q_T) for random affine scores; = for a constant shift."""
    # Relative excess over 60 cases, and error of the equality for three variances.
    # Control: the ODE's w = g^2 / 2 for the SDE's samples, in the case of equality.
    cases = random_affine_cases(11, NUM_CASES)
    errors, controls = [largest_excess(cases.distance(1.0), cases.bound(1.0).value)], []
    for variance in (0.25, 1.0, 3.0):
        case = _shifted_gaussian(variance, SHIFT)
        errors.append(relative_error(case.bound(1.0).value, case.distance(1.0)))
        controls.append(relative_error(case.bound(0.0).value, case.distance(1.0)))
    return Check(max(errors), min(controls))


def theorem_t4_every_noise() -> Check:
    """T4, eta >= 0: random affine scores do not exceed it, a constant shift attains it, as its closed form says."""
    # Relative excess over 60 cases for each of six eta, and errors of the equality and the closed form.
    # Control: w = g^2 whatever eta, violated by the ODE's samples of N(0, 1) under a shift, beta T = 20.
    errors = []
    for number, eta in enumerate(ETAS):
        cases = random_affine_cases(20 + number, NUM_CASES)
        errors.append(largest_excess(cases.distance(eta), cases.bound(eta).value))
        for variance in (0.25, 1.0, 3.0):
            case, closed = _shifted_gaussian(variance, SHIFT), constant_shift_distance(SCHEDULE, variance, SHIFT, eta)
            errors.append(relative_error(case.distance(eta), closed))
            errors.append(relative_error(case.bound(eta).value, closed))
    schedule = constant_rate(20.0)
    t = time_grid(schedule, 2001)
    wrong = wasserstein_upper_bound(t, **schedule.coefficients(t), score_error=SHIFT, score_slope=-1.0, eta=1.0)
    distance = constant_shift_distance(schedule, 1.0, SHIFT, eta=0.0)
    return Check(max(errors), largest_excess(distance, wrong.value))


def step_s7_corollary() -> Check:
    """S7 and T2: T4 <= T2, with equality exactly for lambda e proportional to w I; W_2 attains T2 there."""
    # A shift c(t) = w I / lambda of the exact score, for lambda = g^2 and lambda = 1 - alpha^2 (plus a little),
    # eta = 1 and 0; and random affine scores, where T4 must not exceed T2.
    # Control: J for 2 J, the factor that is lost when the loss is defined without its half.
    cases = random_affine_cases(31, NUM_CASES)
    errors, controls = [], []
    for eta in (0.0, 1.0):
        corollary = wasserstein_corollary_bound(cases.t, **cases.bound_arguments, eta=eta)
        errors.append(largest_excess(cases.bound(eta).value, corollary.value))
        t = time_grid(SCHEDULE, NUM_TIMES)
        growth = np.exp(exact_score_growth(SCHEDULE, t, 0.25, eta))
        for weight in (SCHEDULE.beta(t), SCHEDULE.noise_variance(t) + 0.01):
            shift = (1 + eta**2) / 2 * SCHEDULE.beta(t) * growth / weight
            case = _shifted_gaussian(0.25, shift)
            bound = wasserstein_corollary_bound(t, **case.bound_arguments, eta=eta, loss_weight=weight).value
            errors.append(relative_error(bound, case.distance(eta)))
            controls.append(relative_error(bound / np.sqrt(2), case.distance(eta)))
    return Check(max(errors), min(controls))


def step_s8_prior_offset() -> Check:
    """S8 and T3: I(T) W_2(p_T, N(0, 1)) <= W_2(p_0, N(0, 1)) exp int w L_s, since noising contracts W_2."""
    # Contraction for two-cluster mixtures, W_2 by quantiles; attained by N(m, 1), whose samples with the exact score
    # end m exp int w L_s away from the data for eta = 1 and 0.
    # Control: a contraction by exp(-int beta), that of the variance.
    z, weights = normal_levels(2001)
    errors, controls = [], []
    for horizon in (0.3, 0.6, 1.0):
        schedule = VariancePreserving(horizon=horizon)
        alpha = float(schedule.alpha(horizon))
        for mean, variance in ((1.0, 0.25), (0.5, 0.05), (2.0, 1.0)):
            mixture = SymmetricMixture(schedule, mean, variance)
            start, end = (quantile_function_distance(mixture.quantiles(z, t), z, weights) for t in (0.0, horizon))
            errors.append(largest_excess(end, alpha * start))
        t = time_grid(schedule, NUM_TIMES)
        for eta in (0.0, 1.0):
            mean_t, _ = forward_moments(schedule, t, 1.5, 1.0)
            moments = reverse_moments(schedule, t, -1.0, mean_t, prior_mean=0.0, prior_variance=1.0, eta=eta)
            bound = offset_upper_bound(
                t, diffusion_squared=schedule.beta(t), score_slope=-1.0, eta=eta, data_prior_distance=1.5
            )
            # The mean that is missing at 0 is a small difference at T = 1, hence measured against the data's own.
            errors.append(abs(float(gaussian_distance(1.5, 1.0, *moments)) - float(bound.item())))
            last = gaussian_distance(mean_t[-1], 1.0, 0.0, 1.0)
            controls.append(largest_excess(last, alpha**2 * 1.5))
    return Check(float(max(errors)), float(min(controls)))


def step_s9_conditional_loss() -> Check:
    """S9, T6: conditional minus plain score matching is d / (1 - alpha^2) - E |grad log p_t|^2, whatever the model."""
    # Both losses by quadrature (at rounding), two clusters, three times, three models: the exact score, a perturbed
    # one, -3 x.
    # Control: the gap taken as d / (1 - alpha^2), the conditional score's own second moment.
    mixture, perturbation = SymmetricMixture(SCHEDULE, 1.0, 0.1), Perturbation(shift=0.2, amplitude=0.4, frequency=3)
    z, weights = normal_levels(401)
    noise, both = z[None, :], weights[:, None] * weights[None, :]
    errors, controls = [], []
    for t in (0.05, 0.1, 0.4):
        alpha, variance = float(SCHEDULE.alpha(t)), float(SCHEDULE.noise_variance(t))
        models: tuple[Callable[[Array], Array], ...] = (
            lambda x, t=t: mixture.score(x, t),
            lambda x, t=t: mixture.score(x, t) + perturbation(x),
            lambda x: -3 * x,
        )
        gap = score_matching_gap(variance, score_second_moment=mixture.score_second_moment(t))
        for model in models:
            conditional = plain = 0.0
            for centre in (-1.0, 1.0):  # clusters
                x = alpha * (centre + np.sqrt(0.1) * z[:, None]) + np.sqrt(variance) * noise
                conditional += float((both * (-noise / np.sqrt(variance) - model(x)) ** 2).sum()) / 2
                plain += float((both * (mixture.score(x, t) - model(x)) ** 2).sum()) / 2
            errors.append(relative_error(conditional - plain, float(gap)))
            controls.append(relative_error(conditional - plain, 1 / variance))
    return Check(max(errors), min(controls))


def theorem_t5_ode_lemma() -> Check:
    """T5, two ODEs run from T to 0: x' = -K x + c and y' = -K y end c (exp(K T) - 1) / K apart, as the lemma says."""
    # With a prior distance r besides, r exp(K T) is added. K = 2, 0.5 and -1; the constant of -g is K.
    # Control: the constant of +g, -K, which the post asks for.
    t, push, prior = np.linspace(0, 1, NUM_TIMES), 0.5, 0.1
    errors, controls = [], []
    for rate in (2.0, 0.5, -1.0):
        gap = push * np.expm1(rate) / rate + prior * np.exp(rate)
        for slope, results in ((rate, errors), (-rate, controls)):
            bound = ode_lemma_bound(t, drift_error=push, reverse_slope=slope, prior_distance=prior)
            results.append(relative_error(bound.value, gap))
    return Check(max(errors), min(controls))


def theorem_t7_kl() -> Check:
    """T7: KL(p_0 | q_0) <= (1 + eta^2)^2 / (4 eta^2) J + KL(p_T | q_T) for eta > 0, over random affine scores."""
    # 400 cases for each of five eta.
    # Control: the factor left out at eta = 1/4 (it is 4.5), where many cases exceed J + KL.
    errors, controls = [], []
    for number, eta in enumerate((0.1, 0.25, 0.5, 1.0, 2.0)):
        cases = random_affine_cases(40 + number, 400, num_times=1001)
        errors.append(largest_excess(cases.kl(eta), cases.kl_bound(eta)))
        if eta == 0.25:
            controls.append(largest_excess(cases.kl(eta), cases.kl_bound(1.0)))
    return Check(max(errors), min(controls))


def growth_of_mixture() -> Check:
    """Two clusters on the line, exact score: the ODE's I(T) is p_T(0) / p_0(0), densities between the clusters."""
    # L_s is attained at 0, and d log p_t(0) / dt = beta / 2 + beta L_s / 2 by the Fokker-Planck equation. Up to 80
    # standard deviations between the clusters, where I(T) is 10^346: compared as logarithms. Tolerance 1e-5: the
    # trapezoidal rule.
    # Control: the SDE's I, whose logarithm is about twice as large.
    t = time_grid(SCHEDULE, NUM_TIMES)
    errors, controls = [], []
    for mean, variance in ((1.0, 0.1), (1.5, 0.25), (0.5, 0.0125**2)):
        mixture = SymmetricMixture(SCHEDULE, mean, variance)
        expected = mixture.log_density(0.0, 1.0) - mixture.log_density(0.0, 0.0)
        for eta, results in ((0.0, errors), (1.0, controls)):
            rate = SCHEDULE.drift_slope(t) + (1 + eta**2) / 2 * SCHEDULE.beta(t) * mixture.score_slope(t)
            results.append(relative_error(log_growth(t, rate)[-1], expected))
    return Check(max(errors), min(controls))


CHECKS = by_name(
    step_s7_corollary,
    step_s8_prior_offset,
    step_s9_conditional_loss,
    theorem_t1_sde,
    theorem_t4_every_noise,
    theorem_t5_ode_lemma,
    theorem_t7_kl,
    growth_of_mixture,
)

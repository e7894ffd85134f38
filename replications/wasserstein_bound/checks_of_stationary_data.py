"""The exact counterexamples to the post, most of them on data N(0, 1), which the forward process leaves alone.

With constant β and the score -x + c, p_t is N(0, 1) for all t, L_s is -1, and e is c. With y = β T / 2 the ODE ends
c y away from the data, the SDE 2 c (1 - exp(-y)). Where a statement is the post's, the error is by how much it is
violated, and the control is the room left in a case in which it holds.
"""

import numpy as np
from scipy.optimize import brentq

from paperkit.checks import Check, by_name
from replications.wasserstein_bound.bound import ode_lemma_bound, score_weight, wasserstein_upper_bound
from replications.wasserstein_bound.errors import largest_excess, room
from replications.wasserstein_bound.gaussian import exact_score_growth, gaussian_distance, reverse_moments
from replications.wasserstein_bound.schedule import VariancePreserving, constant_rate, time_grid

SHIFT = 0.3
NUM_TIMES = 20_001
RATES = (0.5, 1.0, 2.0, 5.0, 20.0)  # β, with T = 1


def stationary_distance(rate: float, eta: float) -> float:
    """W2 between the data and the samples, by the library, not by the closed form."""
    schedule = constant_rate(rate)
    t = time_grid(schedule, NUM_TIMES)
    samples = reverse_moments(schedule, t, -1.0, SHIFT, prior_mean=0.0, prior_variance=1.0, eta=eta)
    return float(gaussian_distance(0.0, 1.0, *samples))


def stationary_bound(rate: float, eta: float) -> float:
    """The bound T4 of that distance."""
    schedule = constant_rate(rate)
    t = time_grid(schedule, NUM_TIMES)
    bound = wasserstein_upper_bound(t, **schedule.coefficients(t), score_error=SHIFT, score_slope=-1.0, eta=eta)
    return float(bound.value)


def ode_with_full_weight() -> Check:
    """The ODE's W2 against the bound with g², the SDE's (η = 1): violated at β T = 20. Control: holds at 1."""
    violated, held = ((stationary_distance(rate, 0.0), stationary_bound(rate, 1.0)) for rate in (20.0, 1.0))
    return Check(largest_excess(*violated), room(*held))


def ode_with_half_weight() -> Check:
    """The ODE's W2 against the bound with g² / 2: equal. Control: g²."""
    right = [abs(stationary_distance(rate, 0.0) / stationary_bound(rate, 0.0) - 1) for rate in RATES]
    wrong = [abs(stationary_distance(rate, 0.0) / stationary_bound(rate, 1.0) - 1) for rate in RATES]
    return Check(max(right), min(wrong))


def sde_is_nearer() -> Check:
    """By how much the SDE ends farther away than the ODE, at β T = 1. Control: it is nearer at 10."""
    violated, held = ((stationary_distance(rate, 1.0), stationary_distance(rate, 0.0)) for rate in (1.0, 10.0))
    return Check(largest_excess(*violated), room(*held))


def nearer_sampler_closed_form() -> Check:
    """Distances c y and 2 c (1 - exp(-y)), and their equality at the root. Control: the two formulas exchanged."""
    right, wrong = [], []
    for rate in RATES:
        y = rate / 2
        ode, sde = SHIFT * y, 2 * SHIFT * -np.expm1(-y)
        right += [abs(stationary_distance(rate, 0.0) / ode - 1), abs(stationary_distance(rate, 1.0) / sde - 1)]
        wrong += [abs(stationary_distance(rate, 0.0) / sde - 1), abs(stationary_distance(rate, 1.0) / ode - 1)]
    root = 2 * brentq(lambda y: y + 2 * np.expm1(-y), 1.0, 3.0, xtol=1e-14)
    return Check(max(*right, abs(stationary_distance(root, 0.0) / stationary_distance(root, 1.0) - 1)), min(wrong))


def _lemma(constant: float, rate: float = 2.0) -> tuple[float, float]:
    """Gap and bound of x' = -K x + c and y' = -K y, both from the same point at T = 1 down to 0; c = 1 / 2."""
    push, t = 0.5, np.linspace(0, 1, NUM_TIMES)
    gap = push * np.expm1(rate) / rate
    return gap, float(ode_lemma_bound(t, drift_error=push, reverse_slope=constant * rate).value)


def constant_of_plus_drift() -> Check:
    """The gap against the bound with the constant of +g, which is -K: violated at K = 2. Control: holds at K = -2."""
    return Check(largest_excess(*_lemma(-1.0)), room(*_lemma(-1.0, rate=-2.0)))


def constant_of_minus_drift() -> Check:
    """The gap equals the bound with the constant of -g, which is K. Control: that of +g."""
    (gap, right), (_, wrong) = _lemma(1.0), _lemma(-1.0)
    return Check(abs(right / gap - 1), abs(wrong / gap - 1))


def weight_increases() -> Check:
    """By how much g² I falls below an earlier value, exact score of N(0, 1), SDE. Control: it rises to T = 0.3."""
    weights = []
    for horizon in (1.0, 0.3):
        schedule = VariancePreserving(horizon=horizon)
        t = time_grid(schedule, NUM_TIMES)
        weights.append(schedule.beta(t) * np.exp(exact_score_growth(schedule, t, 1.0, eta=1.0)))
    falling, rising = weights
    risen = 1 - rising[0] / rising[-1] if (np.diff(rising) > 0).all() else 0.0
    return Check(float(np.max(1 - falling / np.maximum.accumulate(falling))), float(risen))


def weight_derivative() -> Check:
    """(log w I)' = (log g²)' + l + w L_s, by central differences, three variances, SDE and ODE. Control: without l."""
    schedule, step = VariancePreserving(), 1e-5
    t = np.linspace(0.05, 0.999, 500)
    right, wrong = [], []
    for variance in (0.25, 1.0, 4.0):
        for eta in (0.0, 1.0):
            logs = [
                np.log(schedule.beta(t + side)) + exact_score_growth(schedule, t + side, variance, eta=eta)
                for side in (step, -step)
            ]
            measured = (logs[0] - logs[1]) / (2 * step)
            variance_t = schedule.alpha(t) ** 2 * variance + schedule.noise_variance(t)
            beta = schedule.beta(t)
            without = (schedule.beta_max - schedule.beta_min) / beta - score_weight(beta, eta) / variance_t
            right.append(np.max(np.abs(measured - without - schedule.drift_slope(t))))
            wrong.append(np.max(np.abs(measured - without)))
    return Check(float(max(right)), float(min(wrong)))


CHECKS = by_name(
    ode_with_full_weight,
    ode_with_half_weight,
    sde_is_nearer,
    nearer_sampler_closed_form,
    constant_of_plus_drift,
    constant_of_minus_drift,
    weight_increases,
    weight_derivative,
)

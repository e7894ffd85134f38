"""The exact counterexamples to the post, most of them on data that the forward process leaves alone.

Data N(0, 1), constant β and the score -x + c: p_t is N(0, 1) for all t, L_s is -1, and e is c. With y = β T / 2 the
ODE ends c y away from the data, the SDE 2 c (1 - exp(-y)).

Each check returns its largest error and that of its control. Where the statement is the post's, the error is by how
much it is violated, and the control a second case that violates it.
"""

from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq

from paperkit.checks import Check, by_name
from paperkit.runs import Measurement, Run
from replications.wasserstein_bound.bound import ode_lemma_bound, score_weight, wasserstein_upper_bound
from replications.wasserstein_bound.gaussian import exact_score_growth, gaussian_distance, reverse_moments
from replications.wasserstein_bound.schedule import ConstantRate, VariancePreserving, time_grid
from replications.wasserstein_bound.tasks.excess import excess

__all__ = ["STATIONARY_CHECKS", "measure_stationary_shift"]

SHIFT = 0.3
NUM_TIMES = 20_001
RATES = (0.5, 1.0, 2.0, 5.0, 20.0)  # β, with T = 1


def _distance(rate: float, eta: float) -> float:
    """W2 between the data and the samples, by the library, not by the closed form."""
    schedule = ConstantRate(rate=rate)
    t = time_grid(schedule, NUM_TIMES)
    samples = reverse_moments(schedule, t, -1.0, SHIFT, prior_mean=0.0, prior_variance=1.0, eta=eta)
    return float(gaussian_distance(0.0, 1.0, *samples))


def _bound(rate: float, eta: float) -> float:
    schedule = ConstantRate(rate=rate)
    t = time_grid(schedule, NUM_TIMES)
    bound = wasserstein_upper_bound(
        t, diffusion_squared=schedule.beta(t), score_error=SHIFT, score_slope=-1.0,
        drift_slope=schedule.drift_slope(t), eta=eta,
    )  # fmt: skip
    return float(bound.value)


def ode_with_full_weight() -> Check:
    """The ODE's W2 against the bound with g², which is the SDE's (η = 1): violated at β T = 20, and at 5."""
    first, second = (float(excess(_distance(rate, 0.0), _bound(rate, 1.0))) for rate in (20.0, 5.0))
    return Check(first, second)


def ode_with_half_weight() -> Check:
    """The ODE's W2 against the bound with g² / 2: equal. Control: g²."""
    right = [abs(_distance(rate, 0.0) / _bound(rate, 0.0) - 1) for rate in RATES]
    wrong = [abs(_distance(rate, 0.0) / _bound(rate, 1.0) - 1) for rate in RATES]
    return Check(max(right), min(wrong))


def sde_is_nearer() -> Check:
    """By how much the SDE ends farther away than the ODE, at β T = 1, and at 0.5."""
    first, second = (float(excess(_distance(rate, 1.0), _distance(rate, 0.0))) for rate in (1.0, 0.5))
    return Check(first, second)


def nearer_sampler_closed_form() -> Check:
    """Distances c y and 2 c (1 - exp(-y)), and their equality at the root. Control: the two formulas exchanged."""
    right, wrong = [], []
    for rate in RATES:
        y = rate / 2
        ode, sde = SHIFT * y, 2 * SHIFT * -np.expm1(-y)
        right += [abs(_distance(rate, 0.0) / ode - 1), abs(_distance(rate, 1.0) / sde - 1)]
        wrong += [abs(_distance(rate, 0.0) / sde - 1), abs(_distance(rate, 1.0) / ode - 1)]
    root = 2 * brentq(lambda y: y + 2 * np.expm1(-y), 1.0, 3.0, xtol=1e-14)
    return Check(max(*right, abs(_distance(root, 0.0) / _distance(root, 1.0) - 1)), min(wrong))


def _lemma(constant: float) -> tuple[float, float]:
    """Gap and bound of x' = -K x + c and y' = -K y, both from the same point at T = 1 down to 0; K = 2, c = 1 / 2."""
    rate, push, t = 2.0, 0.5, np.linspace(0, 1, NUM_TIMES)
    gap = push * np.expm1(rate) / rate
    return gap, float(ode_lemma_bound(t, drift_error=push, reverse_slope=constant * rate).value)


def constant_of_plus_drift() -> Check:
    """The gap against the bound with the constant of +g, which is -K, and with 0: both are violated."""
    first, second = (float(excess(*_lemma(constant))) for constant in (-1.0, 0.0))
    return Check(first, second)


def constant_of_minus_drift() -> Check:
    """The gap equals the bound with the constant of -g, which is K. Control: that of +g."""
    errors = []
    for constant in (1.0, -1.0):
        gap, bound = _lemma(constant)
        errors.append(abs(bound / gap - 1))
    return Check(errors[0], errors[1])


def weight_increases() -> Check:
    """By how much g² I falls below its largest earlier value, exact score of N(0, 1), and of N(0, ¼), SDE."""
    schedule = VariancePreserving()
    t = time_grid(schedule, NUM_TIMES)
    falls = []
    for variance in (1.0, 0.25):
        weight = schedule.beta(t) * np.exp(exact_score_growth(schedule, t, variance, eta=1.0))
        falls.append(float(np.max(1 - weight / np.maximum.accumulate(weight))))
    return Check(falls[0], falls[1])


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


STATIONARY_CHECKS = by_name(
    ode_with_full_weight,
    ode_with_half_weight,
    sde_is_nearer,
    nearer_sampler_closed_form,
    constant_of_plus_drift,
    constant_of_minus_drift,
    weight_increases,
    weight_derivative,
)


def measure_stationary_shift(run: Run) -> Iterator[Measurement]:
    """Draw the curves behind corrections 1 and 4 of the page: distances and bounds against β T, in units of c."""
    for number, rate in enumerate(run.config["rates"]):
        yield Measurement("none", number, "beta_times_horizon", rate)
        yield Measurement("none", number, "ode_w2_over_shift", _distance(rate, 0.0) / SHIFT)
        yield Measurement("none", number, "sde_w2_over_shift", _distance(rate, 1.0) / SHIFT)
        yield Measurement("none", number, "full_weight_bound_over_shift", _bound(rate, 1.0) / SHIFT)
        yield Measurement("none", number, "half_weight_bound_over_shift", _bound(rate, 0.0) / SHIFT)

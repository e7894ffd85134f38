"""Upper bounds of the distance between data and samples of a diffusion model, from the error of its score.

Kwon, Fan and Lee, arXiv 2212.06359 (here T1 to T3), Su Jianlin, archive 9467 of kexue.fm (T5) and 9509 (T6), Song et
al., arXiv 2101.09258 (T7); T4 contains T1 and T5 and is derived in `checks`.

Setting. Data p_0 are noised by dx = f dt + g dw, with marginals p_t, t in [0, T]. Samples are drawn from q_T and
follow the reverse process dy = (f - w s) dt + sigma dw, from T to 0, with marginals q_t, where

    s        model of the score grad log p_t;
    sigma    = eta g: eta = 1 is the reverse SDE, eta = 0 the probability-flow ODE;
    w        = (g^2 + sigma^2) / 2 = (1 + eta^2) g^2 / 2;
    e(t)     = (E_{p_t} |grad log p_t - s|^2)^(1/2), the error of the score, summed over coordinates;
    L_s(t)   one-sided Lipschitz constant of s, (s(x) - s(y)).(x - y) <= L_s |x - y|^2, the supremum over all x and y
             of the largest eigenvalue of the symmetric part of the Jacobian; it may be negative;
    l_-f(t)  the same constant of -f: the process runs against f. Variance preserving: beta / 2;
    I(t)     = exp int_0^t (l_-f + w L_s), the growth of a distance on its way from t to 0.

Integrals are trapezoidal sums on the grid of times that is given; I is kept as its logarithm, since log10 I reaches
700 for data with separated clusters. Shapes: the last axis of every function of time runs over the n times; axes
before it, written (...), are cases that broadcast. Distances carry the unit of x. What is out of its range or NaN is
refused by ValueError (`arguments`).
"""

# How many parts broadcast_arrays has is not known.
# pyright: reportCallIssue=false

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import cumulative_trapezoid

from replications.wasserstein_bound.arguments import Array, grid_of_times, nonnegative, on_grid, positive

LOG_LARGEST = math.log(np.finfo(np.float64).max)


@dataclass(frozen=True)
class WassersteinBound:
    """A bound of W_2(p_0, q_0): logarithms of int w I e dt and I(T) W_2(p_T, q_T), (...), and of I, (..., n)."""

    log_score_term: Array
    log_offset: Array
    log_growth: Array

    @property
    def log_value(self) -> Array:
        """Natural logarithm of the bound, shape (...); -inf for a bound of zero. Never overflows."""
        return np.logaddexp(self.log_score_term, self.log_offset)

    @property
    def value(self) -> Array:
        """The bound, shape (...); inf with a RuntimeWarning beyond 1.8e308, where `log_value` is to be used."""
        return _exponential(self.log_value)

    @property
    def score_term(self) -> Array:
        """Int w I e dt, shape (...)."""
        return _exponential(self.log_score_term)

    @property
    def offset(self) -> Array:
        """I(T) W_2(p_T, q_T), shape (...)."""
        return _exponential(self.log_offset)


def _exponential(log_values: Array) -> Array:
    if (log_values > LOG_LARGEST).any():
        message = f"a bound of 10^{log_values.max() / math.log(10):.0f} is beyond float64: use its logarithm"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    with np.errstate(over="ignore"):
        return np.exp(log_values)


def _logarithm(values: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(values)


def _over_time(values: Array, t: Array) -> Array:
    """The values with a last axis as long as t, also where they are constant."""
    return np.broadcast_to(values, np.broadcast_shapes(values.shape, t.shape))


def log_integral(t: ArrayLike, log_values: ArrayLike) -> Array:
    """Log of the trapezoidal integral of exp(log_values) over t without overflow, (..., n) to (...); -inf allowed."""
    t, log_values = grid_of_times(t), np.asarray(log_values, dtype=np.float64)
    if np.isnan(log_values).any() or (log_values == np.inf).any():
        message = "log_values contains NaN or +inf: pass finite logarithms, or -inf for an integrand of 0"
        raise ValueError(message)
    log_values = _over_time(log_values, t)
    weights = (np.diff(t, prepend=t[0]) + np.diff(t, append=t[-1])) / 2
    largest = log_values.max(axis=-1)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    return shift + _logarithm(np.exp(log_values - shift[..., None]) @ weights)


def score_weight(diffusion_squared: ArrayLike, eta: ArrayLike) -> Array:
    """Coefficient of the score in the reverse drift, w = (1 + eta^2) g^2 / 2; g^2 of shape (..., n), eta of (...)."""
    squared, eta = positive("diffusion_squared", diffusion_squared), nonnegative("eta", eta)
    return (1 + eta[..., None] ** 2) / 2 * squared


def growth_rate(
    *, diffusion_squared: ArrayLike, score_slope: ArrayLike, drift_slope: ArrayLike, eta: ArrayLike = 1.0
) -> Array:
    """Rate at which two coupled paths may part, d log I / dt = l_-f + w L_s, shape (..., n), per unit time."""
    return np.asarray(drift_slope) + score_weight(diffusion_squared, eta) * np.asarray(score_slope)


def log_growth(t: ArrayLike, rate: ArrayLike) -> Array:
    """Log I(t) = int_0^t rate, by the cumulative trapezoidal rule, shape (..., n); t is (n,), the rate (..., n)."""
    t = grid_of_times(t)
    return cumulative_trapezoid(_over_time(on_grid("rate", rate, t), t), t, initial=0.0, axis=-1)


def _log_weight_and_growth(
    t: Array, diffusion_squared: ArrayLike, score_slope: ArrayLike, drift_slope: ArrayLike, eta: ArrayLike
) -> tuple[Array, Array]:
    """Log w and log I."""
    slope, drift = on_grid("score_slope", score_slope, t), on_grid("drift_slope", drift_slope, t)
    squared = on_grid("diffusion_squared", diffusion_squared, t)
    rate = growth_rate(diffusion_squared=squared, score_slope=slope, drift_slope=drift, eta=eta)
    return _logarithm(score_weight(squared, eta)), log_growth(t, rate)


def _log_error(name: str, values: ArrayLike, t: Array) -> Array:
    return _logarithm(nonnegative(name, on_grid(name, values, t)))


def _log_offset(log_i: Array, prior_distance: ArrayLike) -> Array:
    return log_i[..., -1] + _logarithm(nonnegative("prior_distance", prior_distance))


def _bound(log_score_term: Array, log_i: Array, prior_distance: ArrayLike) -> WassersteinBound:
    return WassersteinBound(*np.broadcast_arrays(log_score_term, _log_offset(log_i, prior_distance)), log_i)


def wasserstein_upper_bound(
    t: ArrayLike,
    *,
    diffusion_squared: ArrayLike,
    score_error: ArrayLike,
    score_slope: ArrayLike,
    drift_slope: ArrayLike,
    eta: ArrayLike = 1.0,
    prior_distance: ArrayLike = 0.0,
) -> WassersteinBound:
    """Theorem T4: W_2(p_0, q_0) <= int_0^T w I e dt + I(T) W_2(p_T, q_T), for every eta >= 0.

    eta = 1 is T1, the theorem of arXiv 2212.06359, with g^2 in both places. eta = 0 is the bound of the
    probability-flow ODE, with g^2 / 2 in both; the post takes g^2 there, which is wrong (`checks`, correction 1).

    Assumptions: s and -f are one-sided Lipschitz in x for each t, with constants integrable over t; g is bounded above
    and below; both reverse processes have strong solutions up to t = 0, that of the exact score with the marginals
    p_t. If the grid starts at t_0 > 0, the statement is about p_{t_0} and q_{t_0}. The discretisation of a sampler is
    outside the theorem.
    The slope of `samplers.coupled_paths` as `score_slope` gives the sharper bound of the derivation, step S5, whose
    slope is averaged over the coupling instead of being a supremum.

    Args:
        t: Times, shape (n,), increasing, from 0 (or t_0) to T.
        diffusion_squared: g^2 > 0, shape (..., n) or a number; `schedule.coefficients(t)` gives it and `drift_slope`.
        score_error: e >= 0, shape (..., n) or a number; the root of the expected squared norm, not its mean over d.
        score_slope: L_s, shape (..., n) or a number.
        drift_slope: l_-f, the constant of -f, shape (..., n) or a number.
        eta: sigma / g >= 0, a number or shape (...).
        prior_distance: W_2(p_T, q_T) >= 0, a number or shape (...).

    Returns:
        The bound with its two terms and log I.
    """
    t = grid_of_times(t)
    log_w, log_i = _log_weight_and_growth(t, diffusion_squared, score_slope, drift_slope, eta)
    return _bound(log_integral(t, log_w + log_i + _log_error("score_error", score_error, t)), log_i, prior_distance)


def wasserstein_corollary_bound(
    t: ArrayLike,
    *,
    diffusion_squared: ArrayLike,
    score_error: ArrayLike,
    score_slope: ArrayLike,
    drift_slope: ArrayLike,
    eta: ArrayLike = 1.0,
    prior_distance: ArrayLike = 0.0,
    loss_weight: ArrayLike | None = None,
) -> WassersteinBound:
    """Corollary T2: W_2(p_0, q_0) <= (2 J_lambda int w^2 I^2 / lambda dt)^(1/2) + I(T) W_2(p_T, q_T).

    T4 with the Cauchy-Schwarz inequality; J_lambda = 1/2 int lambda e^2 dt is the training loss with weight lambda.
    Never below T4; equal to it exactly if lambda e is proportional to w I. Arguments are those of
    `wasserstein_upper_bound`; `loss_weight` is lambda > 0, (..., n) or a number; None means g^2.

    Returns:
        The bound with its two terms and log I.
    """
    t = grid_of_times(t)
    log_w, log_i = _log_weight_and_growth(t, diffusion_squared, score_slope, drift_slope, eta)
    weight = on_grid("loss_weight", diffusion_squared if loss_weight is None else loss_weight, t)
    log_weight = _logarithm(positive("loss_weight", weight))
    log_loss = log_integral(t, log_weight + 2 * _log_error("score_error", score_error, t))  # of 2 J
    return _bound((log_loss + log_integral(t, 2 * (log_w + log_i) - log_weight)) / 2, log_i, prior_distance)


def offset_upper_bound(
    t: ArrayLike,
    *,
    diffusion_squared: ArrayLike,
    score_slope: ArrayLike,
    eta: ArrayLike = 1.0,
    data_prior_distance: ArrayLike,
) -> Array:
    """T3, variance preserving with prior N(0, 1): I(T) W_2(p_T, q_T) <= W_2(p_0, N(0, 1)) exp int w L_s dt.

    Noising contracts W_2 to its own stationary law N(0, 1) by exp(-1/2 int beta), which cancels the drift's part of
    I(T). Arguments are those of `wasserstein_upper_bound`, t from 0 on, and W_2(p_0, N(0, 1)) >= 0.

    Returns:
        Bound of the offset, shape (...).
    """
    _, log_i = _log_weight_and_growth(grid_of_times(t), diffusion_squared, score_slope, 0.0, eta)
    return _exponential(_log_offset(log_i, data_prior_distance))


def ode_lemma_bound(
    t: ArrayLike, *, drift_error: ArrayLike, reverse_slope: ArrayLike, prior_distance: ArrayLike = 0.0
) -> WassersteinBound:
    """Lemma T5: for x' = a_t(x) and y' = b_t(y) from T to 0, W_2(p_0, q_0) <= int I e dt + I(T) W_2(p_T, q_T).

    Archive 9467, "W <= score matching", the two inequalities before the return to diffusion models (a and b are f and
    g there). I = exp int_0^t L with L the one-sided constant of **-b_t**, since time runs backwards: the post asks for
    that of b_t, which is wrong (`checks`, correction 2). `drift_error` is (E_{p_t} |a_t - b_t|^2)^(1/2) >= 0,
    `reverse_slope` L; both of shape (..., n) or numbers.

    Returns:
        The bound with its two terms and log I.
    """
    t = grid_of_times(t)
    log_i = log_growth(t, on_grid("reverse_slope", reverse_slope, t))
    return _bound(log_integral(t, log_i + _log_error("drift_error", drift_error, t)), log_i, prior_distance)


def score_loss(t: ArrayLike, *, loss_weight: ArrayLike, score_error: ArrayLike) -> Array:
    """J_lambda = 1/2 int lambda(t) e(t)^2 dt, the score-matching loss, shape (...); with lambda = g^2 in nats."""
    t = grid_of_times(t)
    weight = nonnegative("loss_weight", on_grid("loss_weight", loss_weight, t))
    error = nonnegative("score_error", on_grid("score_error", score_error, t))
    return np.asarray(np.trapezoid(_over_time(weight * error**2, t), t, axis=-1) / 2)


def kl_upper_bound(
    t: ArrayLike,
    *,
    diffusion_squared: ArrayLike,
    score_error: ArrayLike,
    eta: ArrayLike = 1.0,
    prior_kl: ArrayLike = 0.0,
) -> Array:
    """T7: KL(p_0 | q_0) <= (1 + eta^2)^2 / (4 eta^2) J + KL(p_T | q_T), with J = 1/2 int g^2 e^2 dt and eta > 0.

    Girsanov: the drifts differ by w (grad log p - s) and the noise is eta g, so that the paths' divergence is
    1/2 int w^2 / (eta g)^2 e^2 dt, and marginals lose information. eta = 1, factor 1, is theorem 1 of arXiv
    2101.09258. There is no such bound for the ODE: the factor grows without limit as eta -> 0. Arguments are those of
    `wasserstein_upper_bound`, and `prior_kl`, KL(p_T | q_T) >= 0, in nats.

    Returns:
        The bound in nats, shape (...).
    """
    eta = positive("eta", eta)
    loss = score_loss(t, loss_weight=positive("diffusion_squared", diffusion_squared), score_error=score_error)
    return ((1 + eta**2) / (2 * eta)) ** 2 * loss + nonnegative("prior_kl", prior_kl)


def score_matching_gap(noise_variance: ArrayLike, *, score_second_moment: ArrayLike, num_dimensions: int = 1) -> Array:
    """T6: conditional minus plain score-matching loss, d / v - E_{p_t} |grad log p_t|^2, the same for every model.

    Archive 9509; Vincent, 2011. With x_t = alpha x_0 + sqrt(v) eps the conditional score is -eps / sqrt(v), of second
    moment d / v, and its mean given x_t is grad log p_t. The gap is therefore >= 0. As t -> 0 it grows like d / (beta
    t) for smooth data, so that int g^2 gap dt diverges like d log(1 / t_0): the corollary T2 with lambda = g^2 bounds
    nothing with the *trained* loss. v = 1 - alpha_t^2 > 0; moments are summed over the d coordinates; any shape.

    Returns:
        The gap, shape of the arguments.
    """
    variance = positive("noise_variance", noise_variance)
    moment = nonnegative("score_second_moment", score_second_moment)
    return positive("num_dimensions", num_dimensions) / variance - moment

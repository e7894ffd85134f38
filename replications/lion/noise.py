"""What Lion and AdamW do to a constant mean gradient under noise: closed forms, and simulations to hold them against.

One coordinate with gradients g_t = mu + sigma z_t, z_t independent of each other, of mean 0 and variance 1, and
rho = mu / sigma >= 0. In the steady state Lion's interpolation is a moving average of all gradients::

    c_t = sum_{j>=0} w_j g_{t-j},   w_0 = 1 - b1,   w_j = b1 (1 - b2) b2^(j-1),   sum_j w_j = 1

Drift is the mean of the update, diffusion its variance per step over a long time; both for eta = 1. AdamW's update
is u = mhat / sqrt(vhat), as eps -> 0.

Four kinds of gradients, each of noise variance 1 in every step, so that rho is the mean:

* gaussian, laplace, student_t3 (three degrees of freedom, divided by its standard deviation sqrt 3): mu + z;
* sparse: zero but for a share p = 0.02 of the steps, and then mu / p + z / sqrt(p) with Gaussian z. The mean
  vanishes together with the noise: that is the embedding row of a rare token;
* impulsive: mu + B z / sqrt(p). The same rare noise, but on a mean that is always there.

`betas` are (b1, b2), each in [0, 1); `rho` and `lags` (k >= 1) have any shape, and the result has it; drifts and root
mean squares of updates are in learning rates a step, diffusions in their squares. An unknown noise is a ValueError.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy.optimize import root_scalar
from scipy.signal import lfilter
from scipy.special import erf

from replications.lion.betas import ADAMW_BETAS, LION_BETAS

__all__ = [
    "NOISES",
    "adamw_drift",
    "adamw_update_rms",
    "approximate_equilibrium_rms",
    "autocorrelation",
    "deviation_factor",
    "diffusion",
    "drift_ratio",
    "equilibrium_rms",
    "gaussian_drift_ratio",
    "lion_drift",
    "mean_sign_of_batch",
    "noisy_optimum",
    "sign_autocorrelation",
    "simulated_diffusions",
    "simulated_drifts",
    "simulated_equilibrium_rms",
    "simulated_mean_signs",
    "simulated_optimum",
    "simulated_update_rms",
]

Betas = tuple[float, float]
Array = np.ndarray

SPARSE_SHARE = 0.02
BLOCK_ELEMENTS = 2**19  # of a simulation; about ten float64 arrays of this size live at once, 40 MB
MEMORIES = 40  # a sum over lags stops where b2^k = e^-40, far below rounding
BURN_IN_MEMORIES = 10  # a simulation forgets its start to e^-10


# --- Closed forms ----------------------------------------------------------------------------------------------


def deviation_factor(betas: Betas) -> float:
    """Standard deviation s of c over that of g, (0, 1]: s^2 = sum_j w_j^2 = (1 - b1)^2 + b1^2 (1 - b2) / (1 + b2)."""
    beta1, beta2 = betas
    return math.sqrt((1 - beta1) ** 2 + beta1**2 * (1 - beta2) / (1 + beta2))


def autocorrelation(lags: Array, betas: Betas) -> Array:
    """Autocorrelation of c under independent noise, in [0, 1).

    rho_k = (a h b2^(k-1) + h^2 b2^k / (1 - b2^2)) / s^2 with a = 1 - b1, h = b1 (1 - b2), from sum_j w_j w_{j+k}.

    Returns:
        rho_k, shape of `lags`.
    """
    beta1, beta2 = betas
    fresh, older = 1 - beta1, beta1 * (1 - beta2)
    powers = np.power(float(beta2), np.asarray(lags) - 1)
    return powers * (fresh * older + older**2 * beta2 / (1 - beta2**2)) / deviation_factor(betas) ** 2


def sign_autocorrelation(lags: Array, betas: Betas) -> Array:
    """Autocorrelation of sign(c) under Gaussian noise without a mean: (2 / pi) asin(rho_k), the arcsine law."""
    return 2 / np.pi * np.arcsin(autocorrelation(lags, betas))


def lion_drift(rho: Array | float, betas: Betas) -> Array | float:
    """Mean of sign(c) under Gaussian noise: erf(rho / (s sqrt 2)), since c is normal of mean mu, deviation s sigma."""
    return erf(rho / (deviation_factor(betas) * math.sqrt(2)))


def adamw_drift(rho: Array | float) -> Array | float:
    """Mean of AdamW's update as b2 -> 1, whatever b1 and the added noise: rho / sqrt(1 + rho^2), E g / sqrt(E g^2)."""
    return rho / np.sqrt(1 + np.square(rho))


def gaussian_drift_ratio(betas: Betas) -> float:
    """Lion's drift over AdamW's as rho -> 0, Gaussian noise: sqrt(2 / pi) / s, at least 0.80."""
    return math.sqrt(2 / math.pi) / deviation_factor(betas)


def drift_ratio(noise: str, betas: Betas) -> float:
    """Lion's drift over AdamW's as rho -> 0 and AdamW's b2 -> 1, for any of the noises; b1 and b2 in (0, 1).

    E sign(c) = (2 / pi) int_0^inf Im Phi(t) / t dt (Gil-Pelaez) with Phi(t) = prod_j phi(w_j t) the characteristic
    function of c. AdamW's drift is rho to first order, so the ratio is the derivative at rho = 0::

        (2 / pi) int_0^inf prod_j phi_0(w_j t) sum_j w_j r(w_j t) dt

    phi_0 belongs to the noise alone; r(t) = E[g'(mu) exp(i t g)] / phi_0(t) at mu = 0 is 1 where the noise is added to
    the mean, and the ratio then is 2 f(0), with f the density of the noise part of c: tails raise f(0). Gaussian noise
    gives sqrt(2 / pi) / s. Sparse gradients have r(t) = exp(-t^2 / 2p) / phi_0(t), which makes the ratio
    sqrt(2 / (pi p)) E[sum_j w_j B_j / sqrt(sum_j w_j^2 B_j)], with B_j = 1 for a share p of the steps.

    Returns:
        The ratio; infinite for impulsive noise with p <= 1 - b2, when the memory of c may hold no impulse at all.

    Example:
        >>> [round(drift_ratio(noise, (0.9, 0.99)), 2) for noise in NOISES]
        [6.73, 7.8, 8.52, 11.72, 18.04]
    """
    _check_noise(noise)
    beta1, beta2 = betas
    # 2 f(0) is an integral over Phi, which falls like a power of t, and no faster than 1 / t in this case.
    if noise == "impulsive" and beta2 <= 1 - SPARSE_SHARE:
        return math.inf
    num_weights = math.ceil(MEMORIES / (1 - beta2))
    weights = np.append(1 - beta1, beta1 * (1 - beta2) * beta2 ** np.arange(num_weights))
    # As an integral over log t it is smooth and dies out at both ends, where the trapezoid rule is exact in effect.
    step = 0.05
    log_t = np.arange(-24.0, -math.log(weights[-1]), step)
    return float(2 / np.pi * step * sum(_integrand(noise, weights * t) for t in np.exp(log_t)))


def _integrand(noise: str, scaled: Array) -> float:
    """Integrand of `drift_ratio` over log t, at w_j t: product of the phi_0 times the sum of w_j t r."""
    noise_part = CHARACTERISTIC_FUNCTIONS[noise](scaled)
    # The Gaussian factor exp(-t^2 / 2p) alone, for the steps with a gradient.
    response = np.exp(-np.square(scaled) / (2 * SPARSE_SHARE)) / noise_part if noise == "sparse" else 1.0
    return float(noise_part.prod() * np.sum(scaled * response))


def _rare_normal(t: Array) -> Array:
    """Characteristic function of B z / sqrt(p), B = 1 with probability p."""
    return 1 - SPARSE_SHARE + SPARSE_SHARE * np.exp(-np.square(t) / (2 * SPARSE_SHARE))


CHARACTERISTIC_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "gaussian": lambda t: np.exp(-np.square(t) / 2),
    "laplace": lambda t: 1 / (1 + np.square(t) / 2),
    "student_t3": lambda t: (1 + t) * np.exp(-t),
    "sparse": _rare_normal,
    "impulsive": _rare_normal,
}
NOISES = tuple(CHARACTERISTIC_FUNCTIONS)


def diffusion(betas: Betas) -> float:
    """Variance per step of Lion's summed updates over a long time, Gaussian noise without a mean; AdamW's is 1.

    M = 1 + 2 sum_{k>=1} (2 / pi) asin(rho_k). AdamW's 1 holds as b2 -> 1: its update is a moving average of z_t whose
    weights sum to 1, so b1 delays the noise and does not change its sum.

    Returns:
        M >= 1.
    """
    return 1 + 2 * float(sign_autocorrelation(_lags(betas), betas).sum())


def _lags(betas: Betas) -> Array:
    """Lags after which the autocorrelation is below rounding."""
    return np.arange(1, math.ceil(MEMORIES / (1 - betas[1])) + 1)


def adamw_update_rms(rho: Array | float, beta1: float) -> Array | float:
    """RMS of AdamW's update as b2 -> 1: sqrt((rho^2 + (1 - b1) / (1 + b1)) / (rho^2 + 1)), in (0, 1]; Lion's is 1."""
    return np.sqrt((np.square(rho) + (1 - beta1) / (1 + beta1)) / (np.square(rho) + 1))


def equilibrium_rms(lr: float, weight_decay: float, betas: Betas) -> float:
    """Root mean square of a weight that Lion moves by Gaussian noise alone, at constant learning rate.

    theta = -eta sum_j q^j sign(c_{t-j}) with q = 1 - eta lambda in (0, 1), hence
    RMS^2 = eta^2 / (1 - q^2) (1 + 2 sum_k q^k (2 / pi) asin(rho_k)).

    Returns:
        The RMS, below 1 / lambda.
    """
    shrinkage = 1 - lr * weight_decay
    lags = _lags(betas)
    factor = 1 + 2 * float((shrinkage**lags * sign_autocorrelation(lags, betas)).sum())
    return lr * math.sqrt(factor / (1 - shrinkage**2))


def approximate_equilibrium_rms(lr: float, weight_decay: float, betas: Betas) -> float:
    """The same for eta lambda much smaller than 1 - b2: sqrt(eta M / (2 lambda)); too large otherwise."""
    return math.sqrt(lr * diffusion(betas) / (2 * weight_decay))


def mean_sign_of_batch(rho: float, batch_sizes: Array) -> Array:
    """Mean sign of a gradient averaged over B >= 1 samples, Gaussian noise, rho of one: erf(rho sqrt(B) / sqrt 2)."""
    return erf(rho * np.sqrt(batch_sizes) / math.sqrt(2))


def noisy_optimum(minimum: float, weight_decay: float, noise: float, betas: Betas) -> float:
    """Where Lion rests on f(theta) = (theta - a)^2 / 2 under Gaussian gradient noise of deviation sigma, as eta -> 0.

    There the mean of the update is zero: erf(f' / (s sigma sqrt 2)) = -lambda theta, which is
    f'(theta) = -s sigma sqrt(2) erfinv(lambda theta). Without noise this is clip(a, -1 / lambda, 1 / lambda).

    Returns:
        theta, between -1 / lambda and 1 / lambda.
    """
    width = deviation_factor(betas) * noise * math.sqrt(2)
    # In u = erfinv(lambda theta), which has a zero in reach also where theta rounds to the wall.
    reach = (abs(minimum) + 1 / weight_decay) / width
    found = root_scalar(lambda u: erf(u) / weight_decay - minimum + width * u, bracket=(-reach, reach))
    return float(erf(found.root) / weight_decay)


# --- Simulations -----------------------------------------------------------------------------------------------


def simulated_drifts(
    noise: str,
    rho: float,
    betas: Betas = LION_BETAS,
    adamw_betas: Betas = ADAMW_BETAS,
    *,
    num_coordinates: int = 1000,
    num_steps: int = 4000,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean update of Lion and of AdamW under the same gradients.

    AdamW is the real one with eps -> 0: it starts at zero, with bias corrections, and its second moment follows the
    gradients. Averaged are the steps that come later than 10 / (1 - b2), b2 being Lion's. The noise of every
    coordinate is used twice, with both signs, so that for small rho the two nearly cancel.

    Returns:
        Lion's drift and AdamW's.
    """
    _check_noise(noise)
    burn_in = _burn_in(betas)
    totals = np.zeros(2)
    for mean, deviation in _gradients(noise, rho, num_coordinates, burn_in + num_steps, seed):
        for gradients in (mean + deviation, mean - deviation):
            totals[0] += np.sign(_interpolations(gradients, betas)[:, burn_in:]).sum()
            totals[1] += _adamw_updates(gradients, adamw_betas)[:, burn_in:].sum()
    lion, adamw = totals / (2 * num_coordinates * num_steps)
    return float(lion), float(adamw)


def simulated_update_rms(
    rho: float,
    beta1: float,
    beta2: float = ADAMW_BETAS[1],
    *,
    num_coordinates: int = 500,
    num_steps: int = 4000,
    seed: int = 0,
) -> float:
    """Root mean square of AdamW's update under Gaussian noise, later than 10 / (1 - b1) + 1000 steps."""
    burn_in = 1000 + _burn_in((0.0, beta1))
    total = 0.0
    for mean, deviation in _gradients("gaussian", rho, num_coordinates, burn_in + num_steps, seed):
        total += np.square(_adamw_updates(mean + deviation, (beta1, beta2))[:, burn_in:]).sum()
    return math.sqrt(total / (num_coordinates * num_steps))


def simulated_diffusions(
    noise: str,
    betas: Betas = LION_BETAS,
    adamw_betas: Betas = ADAMW_BETAS,
    *,
    num_coordinates: int = 800,
    num_windows: int = 20,
    seed: int = 0,
) -> tuple[float, float]:
    """Variance per step of the summed updates of Lion and AdamW, without a mean gradient.

    With S_T the sum over T steps, (Var S_3T - Var S_T) / 2T at T = 4 memories 1 / (1 - b2). The difference removes
    the constant by which Var S_T lags behind M T; what is left is below 1 %. Relative standard error:
    2 / sqrt(num_coordinates num_windows).

    Returns:
        Lion's diffusion and AdamW's.
    """
    _check_noise(noise)
    burn_in = _burn_in(betas)
    short = math.ceil(4 / (1 - max(betas[1], adamw_betas[0])))
    long = 3 * short
    totals = np.zeros(2)
    for _, gradients in _gradients(noise, 0.0, num_coordinates, burn_in + num_windows * long, seed):
        updates = np.sign(_interpolations(gradients, betas)), _adamw_updates(gradients, adamw_betas)
        windows = np.stack(updates)[:, :, burn_in:].reshape(2, -1, num_windows, long)
        long_sums, short_sums = windows.sum(axis=3), windows[..., :short].sum(axis=3)
        totals += (np.square(long_sums) - np.square(short_sums)).sum(axis=(1, 2))
    lion, adamw = totals / (num_coordinates * num_windows * (long - short))
    return float(lion), float(adamw)


def simulated_equilibrium_rms(
    lr: float, weight_decay: float, betas: Betas, *, num_coordinates: int = 1000, seed: int = 0
) -> float:
    """RMS of weights under Lion and Gaussian noise, from 0: over memories 1 / (eta lambda) four to nine."""
    memory = math.ceil(1 / (lr * weight_decay))
    burn_in = _burn_in(betas)
    total = 0.0
    for _, gradients in _gradients("gaussian", 0.0, num_coordinates, burn_in + 9 * memory, seed):
        directions = np.sign(_interpolations(gradients, betas)[:, burn_in:])
        thetas = np.asarray(lfilter([-lr], [1, lr * weight_decay - 1], directions))
        total += np.square(thetas[:, 3 * memory :]).sum()
    return math.sqrt(total / (num_coordinates * 6 * memory))


def simulated_mean_signs(rho: float, batch_sizes: list[int], *, num_batches: int = 20_000, seed: int = 0) -> Array:
    """Mean sign of gradients averaged over batches; sizes increase, each a multiple of the one before."""
    largest = batch_sizes[-1]
    totals = np.zeros(len(batch_sizes))
    for mean, deviation in _gradients("gaussian", rho, num_batches, largest, seed):
        means, size = mean + deviation, 1
        for index, batch_size in enumerate(batch_sizes):
            means = means.reshape(len(means), -1, batch_size // size).mean(axis=2)
            size = batch_size
            totals[index] += np.sign(means).sum()
    return totals / (num_batches * (largest // np.array(batch_sizes)))


def simulated_optimum(
    minimum: float,
    weight_decay: float,
    noise: float,
    betas: Betas,
    *,
    lr: float = 5e-4,
    num_coordinates: int = 2000,
    num_steps: int = 10_000,
    seed: int = 0,
) -> float:
    """Mean of weights that Lion trains on (theta - a)^2 / 2 under Gaussian noise, from a; the later half."""
    (beta1, beta2), rng = betas, np.random.default_rng(seed)
    theta, momentum, total = np.full(num_coordinates, minimum), np.zeros(num_coordinates), 0.0
    for step in range(num_steps):
        gradient = theta - minimum + noise * rng.standard_normal(num_coordinates)
        direction = np.sign(beta1 * momentum + (1 - beta1) * gradient)
        momentum = beta2 * momentum + (1 - beta2) * gradient
        theta = theta - lr * (direction + weight_decay * theta)
        if step >= num_steps // 2:
            total += theta.mean()
    return total / (num_steps - num_steps // 2)


def _check_noise(noise: str) -> None:
    """Refuse unknown noises."""
    if noise not in NOISES:
        message = f"there is no noise {noise!r}; choose one of {', '.join(NOISES)}"
        raise ValueError(message)


def _burn_in(betas: Betas) -> int:
    """Steps after which the momentum has forgotten its start."""
    return math.ceil(BURN_IN_MEMORIES / (1 - betas[1]))


def _gradients(
    noise: str, rho: float, num_coordinates: int, num_steps: int, seed: int
) -> Iterator[tuple[Array | float, Array]]:
    """Blocks of coordinates: the mean of each gradient and its deviation from it, shape (coordinates, steps)."""
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_ELEMENTS // num_steps)
    for start in range(0, num_coordinates, block):
        yield _sample(noise, rho, (min(block, num_coordinates - start), num_steps), rng)


def _sample(noise: str, rho: float, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Array | float, Array]:
    """Means of the gradients, and symmetric deviations of variance 1 from them."""
    if noise == "gaussian":
        return rho, rng.standard_normal(shape)
    if noise == "laplace":
        return rho, rng.laplace(scale=math.sqrt(0.5), size=shape)
    if noise == "student_t3":
        return rho, rng.standard_t(3, size=shape) / math.sqrt(3)
    present = rng.random(shape) < SPARSE_SHARE
    deviations = np.zeros(shape)
    deviations[present] = rng.standard_normal(int(present.sum())) / math.sqrt(SPARSE_SHARE)
    return (rho / SPARSE_SHARE * present if noise == "sparse" else rho), deviations


def _moving_average(values: Array, beta: float) -> Array:
    """Exponential moving average along the last axis, from zero."""
    return np.asarray(lfilter([1 - beta], [1, -beta], values))


def _interpolations(gradients: Array, betas: Betas) -> Array:
    """Lion's c_t along the last axis, from m_0 = 0."""
    beta1, beta2 = betas
    momenta = _moving_average(gradients, beta2)
    interpolations = (1 - beta1) * gradients
    interpolations[:, 1:] += beta1 * momenta[:, :-1]
    return interpolations


def _adamw_updates(gradients: Array, betas: Betas) -> Array:
    """AdamW's mhat_t / sqrt(vhat_t) along the last axis; 0 before the first gradient that is not 0."""
    steps = np.arange(1, gradients.shape[1] + 1)
    first = _moving_average(gradients, betas[0]) / (1 - betas[0] ** steps)
    second = _moving_average(np.square(gradients), betas[1]) / (1 - betas[1] ** steps)
    return first / np.sqrt(second + np.finfo(float).tiny)

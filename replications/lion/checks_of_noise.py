"""Steps 8 to 11 of the derivation, and step 7 under noise: closed forms of `noise` against simulations."""

import numpy as np

from paperkit.checks import Check, by_name
from replications.lion import noise
from replications.lion.betas import LION_BETAS

__all__ = ["CHECKS"]

RHOS = (0.1, 0.3, 1.0, 3.0)
# Small enough that Lion's drift is linear in it; noise is used with both signs, so that little of it is left.
SMALL_RHO = 0.005
TAILS = ("laplace", "student_t3")
MEMORY = 2000  # steps; 0.99^2000 = 2e-9


def _error(observed: object, predicted: object) -> float:
    """Largest relative error."""
    return float(np.max(np.abs(np.divide(observed, predicted) - 1)))  # pyright: ignore[reportArgumentType, reportCallIssue]


def step_7_noisy_optimum() -> Check:
    """Under gradient noise Lion rests where f' = -s sigma sqrt(2) erfinv(lambda theta), as eta -> 0."""
    # On (theta - a)^2 / 2, with a inside the box but for the third case. A small eta leaves a bias below a percent.
    # Control: the optimum without noise, clip(a, -1 / lambda, 1 / lambda); it must fail in every case.
    cases = ((0.5, 1.0, 5.0), (0.5, 1.0, 1.0), (1.5, 1.0, 5.0), (0.3, 2.0, 5.0), (-0.8, 0.5, 2.0))
    pairs = (LION_BETAS, LION_BETAS, LION_BETAS, (0.95, 0.98), (0.9, 0.95))
    rests = [noise.simulated_optimum(*case, betas) for case, betas in zip(cases, pairs, strict=True)]
    predicted = [noise.noisy_optimum(*case, betas) for case, betas in zip(cases, pairs, strict=True)]
    noiseless = [np.clip(minimum, -1 / decay, 1 / decay) for minimum, decay, _ in cases]
    return Check(_error(rests, predicted), float(np.min(np.abs(np.divide(rests, noiseless) - 1))))


def step_8_drift() -> Check:
    """Mean update under Gaussian noise: Lion erf(rho / (s sqrt 2)), AdamW rho / sqrt(1 + rho^2)."""
    # AdamW's form is the limit b2 -> 1 and is held against b2 = 0.999.
    # Control: the momentum in the place of c, whose s^2 is (1 - b2) / (1 + b2).
    rhos = np.array(RHOS)
    simulated = np.array([noise.simulated_drifts("gaussian", rho, num_steps=3000) for rho in RHOS]).T
    adamw = noise.adamw_drift(rhos)
    momentum = noise.lion_drift(rhos, (LION_BETAS[1], LION_BETAS[1]))
    return Check(_error(simulated, [noise.lion_drift(rhos, LION_BETAS), adamw]), _error(simulated, [momentum, adamw]))


def step_8_heavy_tails() -> Check:
    """Small means in noise with heavy tails: drift of Lion / rho -> (2 / pi) int_0^inf prod_j phi(w_j t) dt."""
    # AdamW's drift in the limit b2 -> 1 is rho, so this is the ratio k_0. Control: k_0 of Gaussian noise.
    simulated = [noise.simulated_drifts(name, SMALL_RHO, num_steps=8000)[0] / SMALL_RHO for name in TAILS]
    gaussian = noise.gaussian_drift_ratio(LION_BETAS)
    return Check(
        _error(simulated, [noise.drift_ratio(name, LION_BETAS) for name in TAILS]), _error(simulated, gaussian)
    )


def step_8_sparse_gradients() -> Check:
    """Small means of gradients present in a share p of the steps: sqrt(2 / (pi p)) E[sum w B / sqrt(sum w^2 B)]."""
    # The expectation is drawn here, over the patterns B that the memory of c may hold. Held against it are a
    # simulation of Lion, and the integral over characteristic functions, another way to the same number.
    # Control: the expectation left out, sqrt(2 / (pi p)), which is a lower bound.
    (beta1, beta2), share = LION_BETAS, noise.SPARSE_SHARE
    weights = np.append(1 - beta1, beta1 * (1 - beta2) * beta2 ** np.arange(MEMORY))
    present = np.random.default_rng(0).random((20_000, len(weights)), dtype=np.float32) < share
    bound = np.sqrt(2 / (np.pi * share))
    expected = bound * np.mean(present @ weights / np.sqrt(present @ np.square(weights)))
    simulated = noise.simulated_drifts("sparse", SMALL_RHO, num_steps=8000)[0] / SMALL_RHO
    observed = [simulated, noise.drift_ratio("sparse", LION_BETAS)]
    return Check(_error(observed, expected), float(np.min(np.abs(np.divide(observed, bound) - 1))))


def step_8_diffusion() -> Check:
    """Variance of T summed updates over T, for T -> inf: Lion 1 + 2 sum (2 / pi) asin(rho_k), AdamW 1."""
    # rho_k is the autocorrelation of c and (2 / pi) asin(rho_k) that of its sign; noise is Gaussian, without a mean.
    # Control: rho_k without the arcsine law; 1 + 2 sum rho_k is 1 / s^2, as the weights in c sum to 1.
    pairs = ((0.9, 0.99), (0.95, 0.98), (0.9, 0.9), (0.965, 0.965))
    simulated = [noise.simulated_diffusions("gaussian", betas) for betas in pairs]
    predicted = [(noise.diffusion(betas), 1.0) for betas in pairs]
    of_interpolation = [(noise.deviation_factor(betas) ** -2, 1.0) for betas in pairs]
    return Check(_error(simulated, predicted), _error(simulated, of_interpolation))


def step_9_update_rms() -> Check:
    """Root mean square of AdamW's update, b2 -> 1: sqrt((rho^2 + (1 - b1) / (1 + b1)) / (rho^2 + 1))."""
    # Held against b2 = 0.999. Lion's is 1 by step 1. Control: rho left out, as if gradients were pure noise.
    cases = [(rho, beta1) for rho in (0.0, 0.5, 2.0) for beta1 in (0.9, 0.95)]
    simulated = [noise.simulated_update_rms(rho, beta1) for rho, beta1 in cases]
    pure_noise = [noise.adamw_update_rms(0.0, beta1) for _, beta1 in cases]
    return Check(
        _error(simulated, [noise.adamw_update_rms(rho, beta1) for rho, beta1 in cases]), _error(simulated, pure_noise)
    )


def step_10_equilibrium() -> Check:
    """Weights under pure noise end at RMS^2 = eta^2 / (1 - q^2) (1 + 2 sum_k q^k (2 / pi) asin(rho_k))."""
    # The last case has AdamW's (0.01, 0.5) divided and multiplied by 6.75.
    # Control: independent signs, RMS^2 = eta^2 / (1 - q^2); it is right for b1 = 0 alone.
    cases = (
        (1e-2, 0.5, (0.9, 0.99)),
        (1e-3, 0.5, (0.9, 0.99)),
        (1e-3, 0.5, (0.95, 0.98)),
        (1e-3, 0.5, (0.9, 0.9)),
        (1e-3, 0.5, (0.0, 0.99)),
        (1e-2 / 6.75, 0.5 * 6.75, (0.9, 0.99)),
    )
    simulated = [noise.simulated_equilibrium_rms(*case, num_coordinates=_num_coordinates(*case)) for case in cases]
    independent = [lr / np.sqrt(1 - (1 - lr * decay) ** 2) for lr, decay, _ in cases]
    return Check(_error(simulated, [noise.equilibrium_rms(*case) for case in cases]), _error(simulated, independent))


def _num_coordinates(lr: float, weight_decay: float, _betas: tuple[float, float]) -> int:
    """As many coordinates as cost a fixed number of steps: short memories of the weights allow more."""
    return min(5000, int(1.5e6 * lr * weight_decay))


def step_11_batch_size() -> Check:
    """Mean sign of the mean gradient of B samples: erf(rho sqrt(B) / sqrt 2), for one sample's rho."""
    # Control: sqrt(2 / pi) rho sqrt(B), the square-root law without its end.
    rho, sizes = 0.1, [1, 4, 16, 64, 256, 1024]
    simulated = noise.simulated_mean_signs(rho, sizes)
    square_root = np.sqrt(2 / np.pi) * rho * np.sqrt(sizes)
    return Check(_error(simulated, noise.mean_sign_of_batch(rho, np.array(sizes))), _error(simulated, square_root))


CHECKS = by_name(
    step_7_noisy_optimum,
    step_8_drift,
    step_8_heavy_tails,
    step_8_sparse_gradients,
    step_8_diffusion,
    step_9_update_rms,
    step_10_equilibrium,
    step_11_batch_size,
)

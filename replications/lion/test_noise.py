import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from replications.lion import noise
from replications.lion.noise import NOISES
from replications.lion.optimizer import Lion
from replications.lion.test_optimizer import follow

LIMITS = {  # betas: ratio of drifts and diffusion under Gaussian noise
    (0.9, 0.99): (6.73, 45.9),
    (0.95, 0.98): (7.40, 58.1),
    (0.9, 0.9): (3.48, 13.3),
    (0.965, 0.965): (5.98, 39.0),
}
PAIRS = [*LIMITS, (0.0, 0.99), (0.99, 0.0)]


def weights(betas, num=5000):
    """Weights of Lion's direction, by running its recursion on one unit gradient."""
    direction, momentum = [], 0.0
    for gradient in [1.0] + [0.0] * num:
        direction.append(betas[0] * momentum + (1 - betas[0]) * gradient)
        momentum = betas[1] * momentum + (1 - betas[1]) * gradient
    return np.array(direction)


# --- Closed forms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("betas", [*PAIRS, (0.42, 0.9999), (0.43, 0.9999), (0.5, 0.9)])
def test_the_ratio_of_drifts_goes_to_one_and_falls_at_every_signal_only_if_s_squared_is_at_most_a_third(betas) -> None:
    rhos = np.geomspace(1e-4, 1e3, 3000)
    ratios = np.divide(noise.lion_drift(rhos, betas), noise.adamw_drift(rhos))
    assert (ratios[0], ratios[-1]) == pytest.approx((noise.gaussian_drift_ratio(betas), 1.0), rel=1e-5)
    falls = bool((np.diff(ratios) < 1e-13).all())
    assert falls == (noise.deviation_factor(betas) ** 2 <= 1 / 3)


@pytest.mark.parametrize(("betas", "expected"), LIMITS.items())
def test_the_limits_under_gaussian_noise(betas, expected) -> None:
    ratio = noise.gaussian_drift_ratio(betas)
    assert ratio == pytest.approx(expected[0], abs=5e-3)
    assert noise.diffusion(betas) == pytest.approx(expected[1], abs=0.05)
    assert noise.drift_ratio("gaussian", betas) == pytest.approx(ratio, rel=1e-9)


def sparse_ratio(present_noise, betas):
    """Ratio of drifts for sparse gradients whose noise, where present, is symmetric with this characteristic function.

    (2 sqrt(p) / pi) int_0^inf sum_j w_j phi(w_j t) prod_{i != j} (1 - p + p phi(w_i t)) dt, over log t.
    """
    w, share, step = weights(betas, 4000), noise.SPARSE_SHARE, 0.05
    total = 0.0
    for t in np.exp(np.arange(-16, 14, step)):
        phi = noise.CHARACTERISTIC_FUNCTIONS[present_noise](w * t)
        either = 1 - share + share * phi
        total += t * step * either.prod() * (w * phi / either).sum()
    return 2 * math.sqrt(share) / math.pi * total


def test_the_ratio_of_rare_gradients_is_for_normal_noise_in_the_steps_that_have_one() -> None:
    assert sparse_ratio("gaussian", (0.9, 0.99)) == pytest.approx(noise.drift_ratio("sparse", (0.9, 0.99)), rel=1e-6)
    assert sparse_ratio("laplace", (0.9, 0.99)) == pytest.approx(13.8, abs=0.05)
    assert sparse_ratio("student_t3", (0.9, 0.99)) == pytest.approx(15.6, abs=0.05)


@pytest.mark.parametrize(
    ("name", "density"), [("laplace", stats.laplace(scale=0.5**0.5)), ("student_t3", stats.t(3, scale=3**-0.5))]
)
def test_the_characteristic_functions_belong_to_densities_of_variance_one(name, density) -> None:
    assert density.var() == pytest.approx(1)
    for t in (0.3, 1.0, 4.0):
        direct, _ = integrate.quad(lambda x, t=t: 2 * density.pdf(x) * math.cos(t * x), 0, 200, limit=2000)
        assert noise.CHARACTERISTIC_FUNCTIONS[name](np.array(t)) == pytest.approx(direct, abs=1e-5)


def test_the_approximate_equilibrium_is_the_limit_of_slow_decay() -> None:
    for lr, tolerance in ((1e-5, 0.01), (1e-7, 1e-4)):
        exact = noise.equilibrium_rms(lr, 0.5, (0.9, 0.99))
        assert noise.approximate_equilibrium_rms(lr, 0.5, (0.9, 0.99)) == pytest.approx(exact, rel=tolerance)


LION, BATCHES = (0.9, 0.99), np.array([1, 100])
FORMULAS = {  # four digits
    "drift ratio where the memory may hold no impulse": (noise.drift_ratio("impulsive", (0.95, 0.98)), math.inf),
    "update under pure noise": (noise.adamw_update_rms(0.0, 0.9), 0.2294),
    "weights under noise alone": (noise.equilibrium_rms(1e-3, 0.5, LION), 0.2093),
    "signs of batches": (noise.mean_sign_of_batch(0.1, BATCHES), [0.0797, 0.6827]),
    "rest under noise": (noise.noisy_optimum(0.5, 1.0, 5.0, LION), 0.2841),
    "no noise, no rest outside the box": (noise.noisy_optimum(3.0, 1.0, 1e-9, LION), 1.0),
}


@pytest.mark.parametrize("what", FORMULAS)
def test_a_formula_gives_its_number(what) -> None:
    found, expected = FORMULAS[what]
    assert found == pytest.approx(expected, abs=1e-4)


# --- Simulations -----------------------------------------------------------------------------------------------


def steps_of(make, gradients):
    """What each step of an optimizer with learning rate 1 subtracts; shape (coordinates, steps)."""
    param = torch.nn.Parameter(torch.zeros(len(gradients), dtype=torch.float64))
    values = follow(make([param], lr=1.0), param, list(torch.tensor(gradients.T)))
    return -torch.stack([torch.zeros_like(values[0]), *values], dim=1).diff(dim=1).numpy()


def test_the_simulated_updates_are_those_of_the_optimizers() -> None:
    gradients = np.random.default_rng(0).standard_normal((5, 200))
    lion = partial(Lion, betas=(0.95, 0.98))
    adamw = partial(torch.optim.AdamW, betas=(0.9, 0.99), eps=0.0, weight_decay=0.0)
    np.testing.assert_array_equal(np.sign(noise._interpolations(gradients, (0.95, 0.98))), steps_of(lion, gradients))
    np.testing.assert_allclose(noise._adamw_updates(gradients, (0.9, 0.99)), steps_of(adamw, gradients), atol=1e-12)


@pytest.mark.parametrize("name", NOISES)
def test_gradients_have_the_mean_they_should_and_deviations_of_variance_one(name) -> None:
    mean, deviation = noise._sample(name, 0.3, (1000, 1000), np.random.default_rng(1))
    assert np.mean(mean) == pytest.approx(0.3, rel=0.03)
    assert abs(deviation.mean()) < 0.005
    assert np.square(deviation).mean() == pytest.approx(1, rel=0.05)
    if name == "sparse":
        assert ((mean != 0) == (deviation != 0)).all()
        assert np.mean(mean != 0) == pytest.approx(noise.SPARSE_SHARE, rel=0.03)


def test_an_odd_number_of_blocks_changes_no_count(monkeypatch) -> None:
    # Signs all positive: any miscounted block would show as a mean other than 1.
    monkeypatch.setattr(noise, "BLOCK_ELEMENTS", 3 * 1300)
    lion, _ = noise.simulated_drifts("gaussian", 10.0, num_coordinates=10, num_steps=300)
    assert lion == 1.0
    np.testing.assert_array_equal(noise.simulated_mean_signs(10.0, [1, 2, 8], num_batches=1000), 1.0)


def test_a_simulation_stays_below_200_megabytes() -> None:
    tracemalloc.start()
    try:
        noise.simulated_drifts("sparse", 0.1)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "function", [lambda: noise.drift_ratio("cauchy", (0.9, 0.99)), lambda: noise.simulated_drifts("cauchy", 0.1)]
)
def test_unknown_noise_is_refused_by_name(function) -> None:
    with pytest.raises(ValueError, match="no noise 'cauchy'; choose one of gaussian"):
        function()

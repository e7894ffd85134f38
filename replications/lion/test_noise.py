import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch

from replications.lion import noise
from replications.lion.noise import NOISES
from replications.lion.optimizer import Lion
from replications.lion.test_optimizer import follow

# --- Closed forms ----------------------------------------------------------------------------------------------


PAIRS = [(0.9, 0.99), (0.9, 0.9), (0.0, 0.99), (0.99, 0.0), (0.42, 0.9999), (0.43, 0.9999), (0.5, 0.9)]


@pytest.mark.parametrize("betas", PAIRS)
def test_the_ratio_of_drifts_goes_to_one_and_falls_at_every_signal_only_if_s_squared_is_at_most_a_third(betas) -> None:
    rhos = np.geomspace(1e-4, 1e3, 3000)
    ratios = np.divide(noise.lion_drift(rhos, betas), noise.adamw_drift(rhos))
    assert (ratios[0], ratios[-1]) == pytest.approx((noise.gaussian_drift_ratio(betas), 1.0), rel=1e-5)
    falls = bool((np.diff(ratios) < 1e-13).all())
    assert falls == (noise.deviation_factor(betas) ** 2 <= 1 / 3)


def test_the_approximate_equilibrium_is_the_limit_of_slow_decay() -> None:
    for lr, tolerance in ((1e-5, 0.01), (1e-7, 1e-4)):
        exact = noise.equilibrium_rms(lr, 0.5, (0.9, 0.99))
        assert noise.approximate_equilibrium_rms(lr, 0.5, (0.9, 0.99)) == pytest.approx(exact, rel=tolerance)


def test_a_memory_that_may_hold_no_impulse_and_a_minimum_outside_the_box_without_noise() -> None:
    assert noise.drift_ratio("impulsive", (0.95, 0.98)) == math.inf
    assert noise.noisy_optimum(3.0, 1.0, 1e-9, (0.9, 0.99)) == pytest.approx(1)


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

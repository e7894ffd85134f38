import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replications.lion import checks, checks_of_arithmetic, trajectory
from replications.lion.checks import CHECKS
from replications.lion.checks_of_arithmetic import (
    adamw_further_update,
    rounds_to_itself,
    stuck_units,
)
from replications.lion.optimizer import Lion, lion_update


def test_a_lion_that_takes_the_sign_of_the_new_momentum_fails_the_checks_that_concern_it(monkeypatch) -> None:
    def wrong_update(gradient, momentum, *, beta1, beta2):
        following = momentum * beta2 + gradient * (1 - beta2)
        return following.sign(), following

    monkeypatch.setattr(checks, "lion_update", wrong_update)
    assert CHECKS["step_4_other_form"]().max_error > 0.1


def test_a_lion_that_decays_after_the_step_fails_the_checks_that_concern_it(monkeypatch) -> None:
    class DecaysAfter(Lion):
        def step(self, closure=None):
            decays = [group["weight_decay"] for group in self.param_groups]
            for group in self.param_groups:
                group["weight_decay"] = 0.0
            super().step(closure)
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay
                for param in group["params"]:
                    param.data.mul_(1 - group["lr"] * decay)

    monkeypatch.setattr(trajectory, "Lion", DecaysAfter)
    for name in ("step_1_magnitude", "step_6_box_bound", "step_12_sparse_rows"):
        assert CHECKS[name]().max_error > 1e-3
    assert CHECKS["step_3_signum"]().max_error == 0  # without decay nothing changes


def test_without_decaying_updates_there_is_no_bound() -> None:
    with pytest.raises(ValueError, match=r"b1\^2 >= b2"):
        adamw_further_update((0.95, 0.9))


def test_in_bfloat16_a_long_memory_is_stuck_among_normal_numbers() -> None:
    with pytest.raises(ValueError, match="normal numbers"):
        stuck_units(0.9981, torch.bfloat16)


def test_the_momentum_stops_at_half_the_memory_up_to_ties() -> None:
    assert [stuck_units(0.99, dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32)] == [50, 50, 50]
    assert [stuck_units(0.965, dtype) for dtype in (torch.float16, torch.float32, torch.float64)] == [14, 14, 14]
    assert stuck_units(0.99, torch.float64) == 49  # 0.99 in float64 is just below 99/100, in float32 just above
    assert stuck_units(0.4, torch.float32) == 0


def test_flushing_subnormal_numbers_ends_the_drift() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        momentum, direction = torch.tensor([1e-37]), torch.zeros(1)
        for _ in range(300):
            direction, momentum = lion_update(torch.zeros(1), momentum, beta1=0.9, beta2=0.99)
    finally:
        torch.set_flush_denormal(False)
    assert momentum.item() == 0 == direction.item()


def test_a_momentum_that_rounds_towards_zero_fails_the_check(monkeypatch) -> None:
    def rounding_down(gradient, momentum, *, beta1, beta2):
        direction, following = lion_update(gradient, momentum, beta1=beta1, beta2=beta2)
        return direction, torch.where(following == momentum, torch.zeros_like(momentum), following)

    monkeypatch.setattr(checks_of_arithmetic, "lion_update", rounding_down)
    assert CHECKS["step_13_momentum_never_zero"]().max_error == 0


@given(st.integers(1, 0x7BFE), st.integers(1, 0x7BFE), st.booleans())
def test_a_float16_rounds_to_itself_exactly_when_numpy_says_so(value_bits, change_bits, upwards) -> None:
    value, change = np.array([value_bits, change_bits], dtype=np.int16).view(np.float16)
    with np.errstate(over="ignore"):
        moved = value + change if upwards else value - change
    changes = torch.tensor(float(change), dtype=torch.float64)
    assert rounds_to_itself(torch.tensor([value]), changes, upwards=upwards).item() == (moved == value)

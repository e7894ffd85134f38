import pytest
import torch

from replications.lion.checks_of_arithmetic import adamw_further_update, stuck_units
from replications.lion.optimizer import lion_update


def test_without_decaying_updates_there_is_no_bound() -> None:
    with pytest.raises(ValueError, match=r"b1\^2 >= b2"):
        adamw_further_update((0.95, 0.9))


def test_in_bfloat16_a_long_memory_is_stuck_among_normal_numbers() -> None:
    with pytest.raises(ValueError, match="normal numbers"):
        stuck_units(0.9981, torch.bfloat16)


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

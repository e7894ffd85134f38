import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from replications.lion import derivation
from replications.lion.derivation import CHECKS, Check, box_bound
from replications.lion.optimizer import Lion

TOLERANCES = {
    "step_1_magnitude": 1e-12,
    "step_2_first_step": 1e-12,
    "step_3_signum": 0.0,
    "step_4_other_form": 1e-12,
    "step_5_scale_invariance": 0.0,
    "step_6_box_bound": 1e-12,
    "step_7_constrained_optimum": 1e-3,
    "state_bytes": 1e-3,
}
CONTROL_AT_LEAST = 0.1  # of a learning rate, or of the quantity itself: no control passes by a hair


def test_every_check_has_a_tolerance() -> None:
    assert list(CHECKS) == list(TOLERANCES)


@pytest.mark.parametrize("name", TOLERANCES)
def test_the_statement_holds_and_its_control_does_not(name) -> None:
    check = CHECKS[name]()
    assert 0 <= check.max_error <= TOLERANCES[name]
    assert check.control_error > CONTROL_AT_LEAST


@pytest.mark.parametrize("name", ["step_1_magnitude", "step_3_signum", "step_4_other_form"])
def test_checks_are_deterministic(name) -> None:
    assert CHECKS[name]() == CHECKS[name]()


def test_a_check_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Check(0.0, 1.0).max_error = 1.0  # type: ignore[misc]


def test_a_lion_that_takes_the_sign_of_the_new_momentum_fails_the_checks_that_concern_it(monkeypatch) -> None:
    def wrong_update(gradient, momentum, *, beta1, beta2):
        following = momentum * beta2 + gradient * (1 - beta2)
        return following.sign(), following

    monkeypatch.setattr(derivation, "lion_update", wrong_update)
    assert CHECKS["step_4_other_form"]().max_error > CONTROL_AT_LEAST


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

    monkeypatch.setattr(derivation, "Lion", DecaysAfter)
    for name in ("step_1_magnitude", "step_6_box_bound"):
        assert CHECKS[name]().max_error > TOLERANCES[name]
    assert CHECKS["step_3_signum"]().max_error == 0  # without decay nothing changes


@settings(deadline=None, max_examples=50)
@given(
    start=st.lists(st.floats(-10, 10), min_size=1, max_size=5),
    lr=st.floats(1e-4, 1.0),
    effective_decay=st.floats(1e-4, 0.999),
    seed=st.integers(0, 2**31),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_no_gradient_leads_out_of_the_bound(start, lr, effective_decay, seed, betas) -> None:
    weight_decay, num_steps = effective_decay / lr, 20
    theta_0 = torch.tensor(start, dtype=torch.float64)
    param = Parameter(theta_0.clone())
    optimizer = Lion([param], lr=lr, betas=betas, weight_decay=weight_decay, fused=False)
    bounds = box_bound(theta_0, torch.arange(num_steps + 1, dtype=torch.float64), lr=lr, weight_decay=weight_decay)
    rounding = 1e-13 * (theta_0.abs() + 1 / weight_decay)
    rng = torch.Generator().manual_seed(seed)
    for bound in bounds[1:]:
        param.grad = torch.randn(len(start), generator=rng, dtype=torch.float64) + 1
        optimizer.step()
        assert (param.abs() <= bound + rounding).all()


@given(st.floats(-10, 10), st.floats(1e-3, 1.0), st.floats(1e-3, 1.0))
def test_the_bound_starts_at_theta_and_ends_at_the_edge_of_the_box(theta_0, lr, effective_decay) -> None:
    weight_decay = effective_decay / lr
    steps = torch.tensor([0.0, 1e9], dtype=torch.float64)
    first, last = box_bound(torch.tensor([theta_0], dtype=torch.float64), steps, lr=lr, weight_decay=weight_decay)
    assert first.item() == abs(theta_0)
    assert last.item() == pytest.approx(1 / weight_decay, rel=1e-9)

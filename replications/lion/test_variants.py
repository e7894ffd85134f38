"""What the variants compute; what every optimizer promises stands in test_conventions.py."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from replications.lion.optimizer import Lion
from replications.lion.test_optimizer import (
    after_steps,
    assert_a_later_backward_pass_is_refused,
    beta,
    bits,
    bits_of,
    follow,
    random_parameters,
    single_and_double,
    take_steps,
    with_gradient,
)
from replications.lion.variants import (
    CautiousLion,
    CorrectedLion,
    LazyLion,
    Signum,
    Tiger,
    lazy_lion_step,
    tiger_step,
)


def random_gradients(num: int, shape: tuple[int, ...], seed: int = 3) -> list[Tensor]:
    return [torch.tensor(each) for each in np.random.default_rng(seed).standard_normal((num, *shape))]


def float64_parameter(shape: tuple[int, ...] = (6, 5), seed: int = 0) -> Parameter:
    return random_parameters([shape], dtype=torch.float64, seed=seed)[0]


# --- Against the equations of the sources ----------------------------------------------------------------------


def signum_in_numpy(theta, gradients):
    """Signum of arXiv 1802.04434 with decoupled decay."""
    momentum = np.zeros_like(theta)
    for gradient in gradients:
        momentum = 0.8 * momentum + 0.2 * gradient
        theta = theta - 1e-2 * (np.sign(momentum) + 0.3 * theta)
        yield theta


def cautious_lion_in_numpy(theta, gradients):
    """C-Lion of arXiv 2411.16085."""
    momentum = np.zeros_like(theta)
    for gradient in gradients:
        direction = np.sign(0.9 * momentum + 0.1 * gradient)
        mask = direction * gradient > 0
        theta = theta - 1e-2 * (direction * mask * theta.size / (mask.sum() + 1) + 0.3 * theta)
        momentum = 0.99 * momentum + 0.01 * gradient
        yield theta


def tiger_in_numpy(theta, gradients, *, k=1, kind="kernel", center=0.0, beta=0.965):
    """Equations (1) to (6) of kexue.fm/archives/9512, with t from 1 as there."""
    momentum, lr = np.zeros_like(theta), 1e-2
    for t, gradient in enumerate(gradients, start=1):
        if np.isnan(gradient).any():
            theta = (theta - center) * 0.99 + center
        else:
            first, last = (t - 1) % k == 0, t % k == 0
            momentum = ((beta - 1) * first + 1) * momentum + (1 - beta) * gradient / k
            if kind == "vector":
                eta, decay = 0.5 * lr, 0.0
            else:
                axis = {"kernel": None, "embedding": tuple(range(1, theta.ndim))}[kind]
                eta, decay = lr * np.sqrt(np.mean(theta**2, axis=axis, keepdims=True)), 0.3
            theta = theta - last * eta * (np.sign(momentum) + decay * theta)
        yield theta


TIGERS = {  # shape, options, what the source calls it
    "kernel": ((6, 5), {}, {"kind": "kernel"}),
    "embedding": ((4, 3, 2), {"row_wise_rms": True}, {"kind": "embedding"}),
    "gain": ((7,), {"center": 1.0}, {"kind": "vector", "center": 1.0}),
    "number": ((), {}, {"kind": "vector"}),
    "vector of an embedding": ((7,), {"row_wise_rms": True}, {"kind": "vector"}),
}
SOURCES = {  # shape, optimizer, equations
    "Signum": ((6, 5), partial(Signum, beta=0.8), signum_in_numpy),
    "CautiousLion": ((6, 5), partial(CautiousLion, betas=(0.9, 0.99)), cautious_lion_in_numpy),
    **{
        f"Tiger, {name}, {k} micro-steps": (
            shape,
            partial(Tiger, accumulation_steps=k, **options),
            partial(tiger_in_numpy, k=k, **named),
        )
        for name, (shape, options, named) in TIGERS.items()
        for k in (1, 3)
    },
}


@pytest.mark.parametrize(("shape", "make", "equations"), SOURCES.values(), ids=SOURCES)
def test_a_variant_equals_the_equations_of_its_source_in_numpy(shape, make, equations) -> None:
    param, gradients = float64_parameter(shape), random_gradients(60, shape)
    gradients[20].view(-1)[0] = 0.0  # where nothing has a sign of its own
    if isinstance(equations, partial):  # Tiger has a rule for NaN. With 3 micro-steps these are
        for spoiled in (4, 6, 11, 12, 13):  # middle, first, last, first, middle.
            gradients[spoiled].view(-1)[-1] = math.nan
    theirs = list(equations(param.detach().numpy().copy(), [each.numpy() for each in gradients]))
    ours = follow(make([param], lr=1e-2, weight_decay=0.3), param, gradients)
    np.testing.assert_allclose(torch.stack(ours).numpy(), theirs, rtol=1e-12, atol=1e-14)


@single_and_double
def test_lazy_lion_is_lion_bit_for_bit_while_no_row_is_zero(dtype) -> None:
    outcomes = [bits_of(*after_steps(make, dtype=dtype)) for make in (LazyLion, Lion)]
    assert outcomes[0] == outcomes[1]


# --- Tiger -----------------------------------------------------------------------------------------------------


def test_a_micro_step_that_moves_nothing_spoils_no_backward_pass() -> None:
    assert_a_later_backward_pass_is_refused(partial(Tiger, accumulation_steps=2), num_quiet_steps=1)


def test_each_tensor_counts_the_micro_steps_in_which_it_had_a_gradient() -> None:
    always, sometimes = with_gradient(torch.zeros(1), torch.ones(1)), Parameter(torch.zeros(1))
    optimizer = Tiger([always, sometimes], lr=1.0, accumulation_steps=2)
    positions = []
    for gradient in (None, *torch.ones(3, 1)):
        sometimes.grad = gradient
        optimizer.step()
        positions.append((always.item(), sometimes.item()))
    assert positions == [(0, 0), (-0.5, 0), (-0.5, -0.5), (-1, -0.5)]


def test_a_matrix_of_zeros_never_moves_under_tiger_and_with_row_wise_rms_no_row_of_zeros() -> None:
    whole, zeros, partly = Parameter(torch.zeros(4, 3)), Parameter(torch.zeros(4, 3)), Parameter(torch.eye(3))
    with torch.no_grad():
        partly[1] = 0.0
    take_steps(Tiger([whole], lr=0.1), 20)
    take_steps(Tiger([zeros, partly], lr=0.1, row_wise_rms=True), 20)
    assert not any(each.any() for each in (whole, zeros, partly[1]))
    assert (partly[[0, 2]] != torch.eye(3)[[0, 2]]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("row_wise_rms", [False, True])
def test_tiny_weights_of_low_precision_have_a_step_size(dtype, row_wise_rms) -> None:
    theta, gradient = torch.full((3, 4), 1e-4, dtype=dtype), torch.ones(3, 4, dtype=dtype)
    moved, _ = tiger_step(theta, gradient, torch.zeros_like(theta), lr=0.5, row_wise_rms=row_wise_rms)
    assert moved.dtype is dtype
    torch.testing.assert_close(moved.float(), torch.full((3, 4), 0.5e-4), rtol=1e-2, atol=1e-6)


# --- Lazy Lion -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_vector_has_no_rows_so_lazy_lion_steps_on_as_lion(shape) -> None:
    gradients, found = [torch.ones(shape), torch.zeros(shape), torch.zeros(shape)], []
    for make in (LazyLion, Lion):
        param = Parameter(torch.ones(shape))
        found.append(follow(make([param], lr=0.25, weight_decay=0.5), param, gradients)[-1])
    assert torch.equal(*found)
    assert (found[0] < 0.2).all()


tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([0.0, -0.0, 1.0, -3.0]), min_size=width, max_size=width), min_size=1
    )
)


@settings(deadline=None)
@given(tables, beta, beta, st.floats(0, 1), st.floats(0, 1))
def test_the_other_rows_move_under_lazy_lion_as_if_the_absent_ones_were_not_there(table, b1, b2, lr, decay) -> None:
    gradient = torch.tensor(table, dtype=torch.float64)[:, None]
    theta, momentum = torch.linspace(-2, 3, gradient.numel()).double().view_as(gradient), gradient.flip(0) + 0.5
    options = {"lr": lr, "beta1": b1, "beta2": b2, "weight_decay": decay}
    moved, following = lazy_lion_step(theta, gradient, momentum, **options)
    present = gradient.flatten(1).any(1)
    alone = lazy_lion_step(theta[present], gradient[present], momentum[present], **options)
    assert bits([moved[present], following[present]]) == bits(list(alone))
    assert bits([moved[~present], following[~present]]) == bits([theta[~present], momentum[~present]])


# --- Bias-corrected Lion ---------------------------------------------------------------------------------------


def test_the_corrected_momentum_is_lions_over_one_minus_the_power_of_its_beta() -> None:
    beta1, beta2, lr, decay = 0.9, 0.99, 0.01, 0.5
    theta, momentum = np.linspace(-1, 1, 30).reshape(6, 5), np.zeros((6, 5))
    parameter, gradients = Parameter(torch.tensor(theta)), random_gradients(40, (6, 5))
    optimizer = CorrectedLion([parameter], lr, (beta1, beta2), decay)
    for done, gradient in enumerate(gradients):
        g = gradient.numpy()
        corrected = momentum / (1 - beta2**done) if done else momentum
        theta = (1 - lr * decay) * theta - lr * np.sign(beta1 * corrected + (1 - beta1) * g)
        momentum = beta2 * momentum + (1 - beta2) * g
        parameter.grad = gradient
        optimizer.step()
    np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        optimizer.state[parameter]["exp_avg"].numpy(), momentum / (1 - beta2 ** len(gradients)), rtol=1e-10
    )
    assert (optimizer.param_groups[0]["betas"], optimizer.param_groups[0]["steps"]) == ((beta1, beta2), 40)

import io
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lion_pytorch.cautious_lion import Lion as LionPytorchCautious
from torch import Tensor
from torch.nn import Parameter

from replications.lion.optimizer import Lion, SignOptimizer, lion_update
from replications.lion.test_optimizer import SAME_AS_ADAMW, bits, message_of, momenta, random_parameters, take_steps
from replications.lion.variants import (
    CautiousLion,
    LazyLion,
    Signum,
    Tiger,
    cautious_lion_update,
    lazy_lion_step,
    signum_update,
    tiger_step,
    tiger_step_size,
)

VARIANTS = {"Signum": Signum, "Tiger": Tiger, "CautiousLion": CautiousLion, "LazyLion": LazyLion}
WITH_ONE_BETA = (Signum, Tiger)
PROPAGATE_NAN = (Signum, CautiousLion, LazyLion)

every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
variants_that_propagate_nan = pytest.mark.parametrize("variant", PROPAGATE_NAN)


def random_gradients(num: int, shape: tuple[int, ...], seed: int = 3) -> list[Tensor]:
    return [torch.tensor(each) for each in np.random.default_rng(seed).standard_normal((num, *shape))]


def float64_parameter(shape: tuple[int, ...] = (6, 5), seed: int = 0) -> Parameter:
    return random_parameters([shape], dtype=torch.float64, seed=seed)[0]


def follow(optimizer: torch.optim.Optimizer, param: Parameter, gradients: list[Tensor]) -> list[Tensor]:
    """The values of one parameter after each gradient."""
    values = []
    for gradient in gradients:
        param.grad = gradient
        optimizer.step()
        values.append(param.detach().clone())
    return values


# --- Signum ----------------------------------------------------------------------------------------------------


def test_signum_equals_its_equations_in_numpy() -> None:
    param, gradients = float64_parameter(), random_gradients(60, (6, 5))
    theta, momentum = param.detach().numpy().copy(), np.zeros((6, 5))
    ours = follow(Signum([param], lr=1e-2, beta=0.8, weight_decay=0.3), param, gradients)
    for value, gradient in zip(ours, gradients, strict=True):
        momentum = 0.8 * momentum + 0.2 * gradient.numpy()
        theta = theta - 1e-2 * (np.sign(momentum) + 0.3 * theta)
        np.testing.assert_allclose(value.numpy(), theta, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [0.0, 0.9, 0.965])
def test_signum_is_lion_with_equal_betas_bit_for_bit(dtype, beta) -> None:
    params, peers = random_parameters(dtype=dtype), random_parameters(dtype=dtype)
    signum = Signum(params, lr=1e-2, beta=beta, weight_decay=0.1)
    lion = Lion(peers, lr=1e-2, betas=(beta, beta), weight_decay=0.1)
    take_steps(signum, 100)
    take_steps(lion, 100)
    assert bits(params) == bits(peers)
    assert bits(momenta(signum)) == bits(momenta(lion))


def test_signum_is_not_lion_where_the_betas_differ() -> None:
    params, peers = random_parameters(), random_parameters()
    take_steps(Signum(params, lr=1e-2, beta=0.9), 20)
    take_steps(Lion(peers, lr=1e-2, betas=(0.9, 0.99)), 20)
    assert bits(params) != bits(peers)


def test_signum_steps_along_the_sign_of_the_momentum_buffer_of_torch_sgd() -> None:
    # SGD's buffer is g + beta g' + beta^2 g'' ..., which is Signum's average divided by 1 - beta.
    param, peer, gradients = float64_parameter(), float64_parameter(), random_gradients(50, (6, 5))
    start = param.detach().clone()
    ours = [start, *follow(Signum([param], lr=1.0, beta=0.9), param, gradients)]
    sgd = torch.optim.SGD([peer], lr=0.0, momentum=0.9)
    for before, after, gradient in zip(ours, ours[1:], gradients, strict=False):
        follow(sgd, peer, [gradient])
        assert torch.equal((before - after).round(), sgd.state[peer]["momentum_buffer"].sign())


def test_signum_takes_the_sign_after_the_average_was_updated() -> None:
    direction, momentum = signum_update(torch.tensor([-1.0]), torch.tensor([0.5]), beta=0.5)
    assert (direction.item(), momentum.item()) == (-1.0, -0.25)  # the sign before was +1


# --- Tiger -----------------------------------------------------------------------------------------------------


def source_of_tiger(
    theta: np.ndarray, gradients: list[Tensor], *, lr, beta=0.965, decay=0.01, k=1, kind="kernel", center=0.0
) -> list[np.ndarray]:
    """Equations (1) to (6) of kexue.fm/archives/9512 over a whole run, with t from 1 as there."""
    momentum, values = np.zeros_like(theta), []
    for t, gradient in enumerate((each.numpy() for each in gradients), start=1):
        if np.isnan(gradient).any():
            theta = (theta - center) * 0.99 + center
        else:
            first, last = (t - 1) % k == 0, t % k == 0
            momentum = ((beta - 1) * first + 1) * momentum + (1 - beta) * gradient / k
            axes = {"kernel": None, "embedding": -1}
            if kind == "vector":
                eta, lam = 0.5 * lr, 0.0
            else:
                eta, lam = lr * np.sqrt(np.mean(theta**2, axis=axes[kind], keepdims=True)), decay
            theta = theta - last * eta * (np.sign(momentum) + lam * theta)
        values.append(theta)
    return values


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    ("shape", "kind", "options"),
    [
        ((6, 5), "kernel", {}),
        ((6, 5), "embedding", {"row_wise_rms": True}),
        ((7,), "vector", {"center": 1.0}),
        ((), "vector", {}),
        ((7,), "vector", {"row_wise_rms": True}),
    ],
)
def test_tiger_equals_the_equations_of_the_source_in_numpy_gradients_of_nan_included(shape, kind, options, k) -> None:
    param, gradients = float64_parameter(shape), random_gradients(40, shape)
    for spoiled in (4, 6, 11, 12, 13):  # with k = 3: middle, first, last, first, middle
        gradients[spoiled].view(-1)[-1] = math.nan
    theirs = source_of_tiger(
        param.detach().numpy().copy(), gradients, lr=0.1, decay=0.3, k=k, kind=kind, center=options.get("center", 0.0)
    )
    optimizer = Tiger([param], lr=0.1, weight_decay=0.3, accumulation_steps=k, **options)
    for ours, value in zip(follow(optimizer, param, gradients), theirs, strict=True):
        np.testing.assert_allclose(ours.numpy(), value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(6, 5), (9,)])
def test_four_micro_steps_of_tiger_are_one_step_on_the_mean_gradient(shape) -> None:
    param, peer, gradients = float64_parameter(shape), float64_parameter(shape), random_gradients(40, shape)
    means = [sum(gradients[start : start + 4]) / 4 for start in range(0, 40, 4)]
    accumulating, stepping = Tiger([param], lr=0.1, accumulation_steps=4), Tiger([peer], lr=0.1)
    accumulated, whole = follow(accumulating, param, gradients), follow(stepping, peer, means)
    assert max((ours - theirs).abs().max().item() for ours, theirs in zip(accumulated[3::4], whole, strict=True)) == 0
    assert len({value.numpy().tobytes() for value in whole}) == 10  # all ten steps moved something
    # The momenta differ by the order of the sums; theta would not show a missing 1/k, since sign(m) = sign(4 m).
    torch.testing.assert_close(momenta(accumulating), momenta(stepping), rtol=1e-13, atol=1e-15)


def test_tiger_moves_in_the_last_micro_step_only_and_needs_no_second_buffer() -> None:
    param = float64_parameter()
    start = param.detach().clone()
    optimizer = Tiger([param], lr=0.1, accumulation_steps=4)
    values = [start, *follow(optimizer, param, random_gradients(12, (6, 5)))]
    moved = [not torch.equal(before, after) for before, after in itertools.pairwise(values)]
    assert moved == 3 * [False, False, False, True]
    tensors = [each for each in optimizer.state[param].values() if isinstance(each, Tensor)]
    assert [tensor.shape for tensor in tensors] == [param.shape]


def test_a_micro_step_that_moves_nothing_spoils_no_backward_pass() -> None:
    weight, entry = Parameter(torch.ones(3)), torch.ones(3, requires_grad=True)
    loss = (weight * entry).sum()
    loss.backward(retain_graph=True)
    optimizer = Tiger([weight], lr=0.1, accumulation_steps=2)
    optimizer.step()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_each_tensor_counts_the_micro_steps_in_which_it_had_a_gradient() -> None:
    always, sometimes = (Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = Tiger([always, sometimes], lr=1.0, accumulation_steps=2)
    positions = []
    for step in range(4):
        always.grad = torch.ones(1)
        sometimes.grad = torch.ones(1) if step > 0 else None
        optimizer.step()
        positions.append((always.item(), sometimes.item()))
    assert positions == [(0, 0), (-0.5, 0), (-0.5, -0.5), (-1, -0.5)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step_size_of_a_matrix_is_its_rms_of_all_or_of_each_row(dtype) -> None:
    for shape in ((6, 5), (4, 3, 2, 2)):
        theta = float64_parameter(shape).detach().to(dtype)
        array = theta.double().numpy()
        rows = np.sqrt((array**2).reshape(len(array), -1).mean(1)).reshape(-1, *(1 for _ in shape[1:]))
        rtol = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
        whole = tiger_step_size(theta, lr=0.1)
        np.testing.assert_allclose(np.asarray(whole), 0.1 * np.sqrt((array**2).mean()), rtol=rtol)
        by_row = tiger_step_size(theta, lr=0.1, row_wise_rms=True)
        np.testing.assert_allclose(np.asarray(by_row), 0.1 * rows, rtol=rtol)


def test_on_vectors_tiger_is_signum_with_half_the_lr_and_no_decay_bit_for_bit() -> None:
    params, peers = (random_parameters([(), (9,), (0,)]) for _ in range(2))
    take_steps(Tiger(params, lr=0.1, beta=0.9, weight_decay=0.5), 30)
    take_steps(Signum(peers, lr=0.05, beta=0.9), 30)
    assert bits(params) == bits(peers)


def test_a_matrix_of_zeros_never_moves_under_tiger_and_with_row_wise_rms_no_row_of_zeros() -> None:
    zeros, partly = Parameter(torch.zeros(4, 3)), Parameter(torch.eye(3))
    with torch.no_grad():
        partly[1] = 0.0
    take_steps(Tiger([zeros, partly], lr=0.1, row_wise_rms=True), 20)
    assert torch.equal(zeros, torch.zeros(4, 3))
    assert torch.equal(partly[1], torch.zeros(3))
    assert (partly[[0, 2]] != torch.eye(3)[[0, 2]]).all()
    whole = Parameter(torch.zeros(4, 3))
    take_steps(Tiger([whole], lr=0.1), 20)
    assert torch.equal(whole, torch.zeros(4, 3))


@pytest.mark.parametrize("row_wise_rms", [False, True])
@pytest.mark.parametrize("scale", [2.0**-7, 2.0**9])
def test_scaling_a_matrix_scales_its_path_under_tiger_without_decay(row_wise_rms, scale) -> None:
    params, scaled = float64_parameter(), float64_parameter()
    scaled.data.mul_(scale)
    for param in (params, scaled):
        take_steps(Tiger([param], lr=0.1, weight_decay=0.0, row_wise_rms=row_wise_rms), 30)
    assert torch.equal(params * scale, scaled)


@pytest.mark.parametrize(("center", "expected"), [(0.0, [1.98, -0.99]), (1.0, [1.99, -0.98])])
def test_a_gradient_of_nan_shrinks_its_tensor_towards_the_center_and_keeps_the_momentum(center, expected) -> None:
    param, other = Parameter(torch.tensor([2.0, -1.0])), Parameter(torch.zeros(1))
    optimizer = Tiger([param, other], lr=0.5, center=center)
    optimizer.state[param] = {"exp_avg": torch.tensor([0.25, -8.0])}
    param.grad, other.grad = torch.tensor([math.nan, 1.0]), torch.ones(1)
    optimizer.step()
    np.testing.assert_allclose(param.detach().numpy(), expected, rtol=1e-6)
    assert optimizer.state[param]["exp_avg"].tolist() == [0.25, -8.0]
    assert other.item() == -0.25  # the other tensor took its step


def test_infinite_gradients_are_no_matter_of_tigers_rule_for_nan() -> None:
    param = Parameter(torch.zeros(1))
    values = follow(Tiger([param], lr=1.0), param, [torch.tensor([sign * math.inf]) for sign in (1, -1)])
    assert values[0].item() == -0.5
    assert values[1].isnan()  # inf - inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("row_wise_rms", [False, True])
def test_tiny_weights_of_low_precision_have_a_step_size(dtype, row_wise_rms) -> None:
    param = Parameter(torch.full((3, 4), 1e-4, dtype=dtype))
    param.grad = torch.ones_like(param)
    Tiger([param], lr=0.5, row_wise_rms=row_wise_rms).step()
    moved, _ = tiger_step(param.detach(), param.grad, torch.zeros_like(param), lr=0.5, row_wise_rms=row_wise_rms)
    assert moved.dtype is param.dtype is dtype
    torch.testing.assert_close(param.float(), torch.full((3, 4), 0.5e-4), rtol=1e-2, atol=1e-6)


def test_tiger_does_not_warn_of_a_decay_that_is_relative_to_the_weights() -> None:
    param = Parameter(torch.full((2, 2), 0.125))
    param.grad = torch.zeros(2, 2)
    Tiger([param], lr=2.0, weight_decay=1.0).step()  # a warning would be an error
    assert torch.equal(param, torch.full((2, 2), 0.125 * (1 - 2 * 0.125)))


# --- Cautious Lion ---------------------------------------------------------------------------------------------


def test_cautious_lion_equals_its_equations_in_numpy() -> None:
    param, gradients = float64_parameter(), random_gradients(60, (6, 5))
    theta, momentum, masked = param.detach().numpy().copy(), np.zeros((6, 5)), 0
    ours = follow(CautiousLion([param], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.3), param, gradients)
    for value, gradient in zip(ours, (each.numpy() for each in gradients), strict=True):
        direction = np.sign(0.9 * momentum + 0.1 * gradient)
        mask = direction * gradient > 0
        theta = theta - 1e-2 * (direction * mask * 30 / (mask.sum() + 1) + 0.3 * theta)
        momentum = 0.99 * momentum + 0.01 * gradient
        masked += (~mask).sum()
        np.testing.assert_allclose(value.numpy(), theta, rtol=1e-13, atol=1e-15)
    assert 100 < masked < 1700  # of 1800


def test_cautious_lion_takes_the_steps_of_lion_pytorch_times_n_over_n_plus_one() -> None:
    # lion-pytorch divides the mask by its mean, the paper by its sum plus 1 over d. Gradients do not depend on theta
    # here, so both have the same momentum and the same mask in each step.
    param, peer, gradients = float64_parameter(), float64_parameter(), random_gradients(40, (6, 5))
    start = param.detach().clone()
    ours = [start, *follow(CautiousLion([param], lr=1.0), param, gradients)]
    theirs = [start, *follow(LionPytorchCautious([peer], lr=1.0), peer, gradients)]
    for step in range(40):
        moved, moved_there = ours[step + 1] - ours[step], theirs[step + 1] - theirs[step]
        survivors = (moved.abs() > 0.5).sum()
        assert torch.equal(moved.abs() > 0.5, moved_there.abs() > 0.5)
        torch.testing.assert_close(moved, moved_there * survivors / (survivors + 1), rtol=1e-12, atol=1e-12)
    assert torch.equal(momenta_of(param, CautiousLion), momenta_of(peer, LionPytorchCautious))


def momenta_of(param: Parameter, make: type[torch.optim.Optimizer]) -> Tensor:
    """The momentum after two simple gradients, without rounding."""
    optimizer = make([param], lr=1.0, betas=(0.5, 0.75))
    follow(optimizer, param, [torch.ones_like(param), torch.full_like(param, -2.0)])
    return optimizer.state[param]["exp_avg"]


def test_where_no_direction_agrees_with_its_gradient_cautious_lion_only_decays() -> None:
    param = Parameter(torch.tensor([1.0, -1.0]))
    param.grad = torch.tensor([-1.0, 1.0])
    optimizer = CautiousLion([param], lr=0.5, weight_decay=0.5)
    optimizer.state[param] = {"exp_avg": torch.tensor([1.0, -1.0])}
    optimizer.step()
    assert param.tolist() == [0.75, -0.75]


def test_a_single_element_moves_by_half_of_lr_under_cautious_lion() -> None:
    param = Parameter(torch.zeros(()))
    param.grad = torch.ones(())
    CautiousLion([param], lr=1.0).step()
    assert param.item() == -0.5


# --- Lazy Lion -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lazy_lion_is_lion_bit_for_bit_while_no_row_is_zero(dtype) -> None:
    params, peers = random_parameters(dtype=dtype), random_parameters(dtype=dtype)
    lazy, lion = (make(each, lr=1e-2, weight_decay=0.1) for make, each in ((LazyLion, params), (Lion, peers)))
    take_steps(lazy, 50)
    take_steps(lion, 50)
    assert bits(params) == bits(peers)
    assert bits(momenta(lazy)) == bits(momenta(lion))


@pytest.mark.parametrize("shape", [(6, 5), (6, 2, 3)])
def test_a_row_without_gradient_keeps_every_bit_of_weights_and_momentum(shape) -> None:
    param = float64_parameter(shape)
    with torch.no_grad():
        param[2] = torch.tensor([-0.0])
    optimizer = LazyLion([param], lr=1e-2, weight_decay=0.5)
    follow(optimizer, param, random_gradients(3, shape))
    before = param.detach().clone(), momenta(optimizer)[0].clone()
    gradients = random_gradients(3, shape, seed=9)
    for gradient in gradients:
        gradient[[1, 2]] = 0.0
        gradient[4] = -0.0
    follow(optimizer, param, gradients)
    after = param.detach(), momenta(optimizer)[0]
    for old, new in zip(before, after, strict=True):
        assert bits([new[[1, 2, 4]]]) == bits([old[[1, 2, 4]]])
        assert (new[[0, 3, 5]] != old[[0, 3, 5]]).all()


def test_lion_goes_on_moving_the_row_of_a_token_that_no_longer_occurs_and_lazy_lion_does_not() -> None:
    outcomes = {}
    for make in (Lion, LazyLion):
        embedding = torch.nn.Embedding.from_pretrained(torch.zeros(3, 2), freeze=False)
        optimizer = make(embedding.parameters(), lr=0.25)
        for token in (0, 1, 1, 1):
            optimizer.zero_grad()
            embedding(torch.tensor([token])).sum().backward()
            optimizer.step()
        outcomes[make] = embedding.weight.detach()[:, 0].tolist()
    assert outcomes == {Lion: [-1.0, -0.75, 0.0], LazyLion: [-0.25, -0.75, 0.0]}


def test_one_element_is_enough_for_a_row_to_be_updated_whole() -> None:
    theta, gradient = torch.ones(2, 3), torch.zeros(2, 3)
    gradient[1, 2] = 1e-45
    moved, momentum = lazy_lion_step(theta, gradient, torch.ones(2, 3), lr=0.5, beta1=0.5, beta2=0.5)
    assert moved.tolist() == [[1.0] * 3, [0.5] * 3]
    assert momentum.tolist() == [[1.0] * 3, [0.5] * 3]


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_vector_has_no_rows_so_lazy_lion_steps_on_as_lion(shape) -> None:
    param, peer = Parameter(torch.ones(shape)), Parameter(torch.ones(shape))
    gradients = [torch.ones(shape), torch.zeros(shape), torch.zeros(shape)]
    follow(LazyLion([param], lr=0.25, weight_decay=0.5), param, gradients)
    follow(Lion([peer], lr=0.25, weight_decay=0.5), peer, gradients)
    assert torch.equal(param, peer)
    assert (param < 0.2).all()


# --- Conventions of Lion ---------------------------------------------------------------------------------------

WEIGHT = Parameter(torch.zeros(3))
ACCUMULATION = r"Invalid accumulation_steps value: {}; pass an integer of at least 1"
CENTER = r"Invalid center value: {}; pass the value at which the weights start"


@every_variant
@pytest.mark.parametrize("case", [name for name in SAME_AS_ADAMW if name != "fused and foreach"])
def test_bad_arguments_raise_what_adamw_raises(variant, case) -> None:
    kind, params, options = SAME_AS_ADAMW[case]
    if "betas" in options and variant in WITH_ONE_BETA:
        value = next(beta for beta in options["betas"] if not 0 <= beta < 1)
        with pytest.raises(ValueError, match=rf"^Invalid beta value: {value}$"):
            variant(params, lr=0.1, beta=value)
        return
    expected = message_of(kind, lambda: torch.optim.AdamW(params, **options))
    assert message_of(kind, lambda: variant(params, **{"lr": 0.1, **options})) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [({"accumulation_steps": value}, ACCUMULATION.format(value)) for value in (0, -1, 2.0, math.nan, "4", None)]
    + [({"center": value}, CENTER.format(value)) for value in (math.nan, math.inf)],
)
def test_bad_options_of_tiger_are_named_with_what_is_allowed(options, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Tiger([WEIGHT], lr=0.1, **options)
    optimizer = Tiger([WEIGHT], lr=0.1)
    with pytest.raises(ValueError, match=f"^{message}"):
        optimizer.add_param_group({"params": [Parameter(torch.zeros(1))], **options})
    assert len(optimizer.param_groups) == 1


@every_variant
def test_bad_options_of_a_group_raise_too(variant) -> None:
    optimizer = variant([WEIGHT], lr=0.1)
    for options, message in (({"lr": -1}, "learning rate: -1"), ({"weight_decay": -2}, "weight_decay value: -2")):
        with pytest.raises(ValueError, match=f"Invalid {message}"):
            optimizer.add_param_group({"params": [Parameter(torch.zeros(1))], **options})
    assert len(optimizer.param_groups) == 1


@every_variant
def test_a_sparse_gradient_is_refused_before_anything_moves(variant) -> None:
    first, second = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2, 2))
    first.grad, second.grad = torch.ones(2, 2), torch.eye(2).to_sparse()
    with pytest.raises(RuntimeError, match=rf"^{variant.__name__} does not support sparse gradients$"):
        variant([first, second], lr=0.1).step()
    assert torch.equal(first, torch.ones(2, 2))


@every_variant
def test_a_complex_parameter_is_refused_before_anything_moves(variant) -> None:
    first, second = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2, dtype=torch.complex64))
    first.grad, second.grad = torch.ones(2, 2), torch.ones(2, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match=rf"^{variant.__name__} does not support complex parameters$"):
        variant([first, second], lr=0.1).step()
    assert torch.equal(first, torch.ones(2, 2))


@every_variant
def test_a_momentum_of_another_shape_is_refused(variant) -> None:
    param = Parameter(torch.ones(2, 3))
    param.grad = torch.ones(2, 3)
    optimizer = variant([param], lr=0.1)
    optimizer.state[param] = {"exp_avg": torch.zeros(3, 2)}
    with pytest.raises(RuntimeError, match="size of tensor"):
        optimizer.step()
    assert torch.equal(param, torch.ones(2, 3))


@every_variant
def test_a_parameter_without_gradient_is_skipped_and_gets_no_state(variant) -> None:
    idle, busy = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2, 2))
    busy.grad = torch.ones(2, 2)
    optimizer = variant([idle, busy], lr=0.1, weight_decay=0.5)
    assert optimizer.step() is None
    assert torch.equal(idle, torch.ones(2, 2))
    assert list(optimizer.state) == [busy]
    assert (busy != 1).all()


@every_variant
def test_the_closure_runs_with_gradients_and_its_loss_comes_back(variant) -> None:
    param = Parameter(torch.tensor([3.0]))
    optimizer = variant([param], lr=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert param.item() == {Signum: 2.5, Tiger: 2.75, CautiousLion: 2.75, LazyLion: 2.5}[variant]


@every_variant
def test_each_group_uses_its_own_options_and_a_tensor_serves_as_lr(variant) -> None:
    lr = torch.tensor(0.25)
    first, second = Parameter(torch.tensor([1.0])), Parameter(torch.tensor([1.0]))
    optimizer = variant([{"params": [first]}, {"params": [second], "lr": lr}], lr=0.5)
    for param in (first, second):
        param.grad = torch.ones(1)
    optimizer.step()
    lr.fill_(0.0)
    optimizer.step()
    factor = 0.5 if variant in {Tiger, CautiousLion} else 1.0
    assert [first.item(), second.item()] == [1 - 2 * 0.5 * factor, 1 - 0.25 * factor]


@every_variant
@pytest.mark.parametrize("num_steps", [10, 11])
def test_a_round_trip_of_the_state_dict_goes_on_bit_for_bit(variant, num_steps) -> None:
    options = {"accumulation_steps": 4} if variant is Tiger else {}  # 10 and 11 steps end within an accumulation
    whole = random_parameters()
    optimizer = variant(whole, lr=1e-2, weight_decay=0.1, **options)
    take_steps(optimizer, num_steps, seed=5)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed = [Parameter(param.detach().clone()) for param in whole]
    other = variant(resumed, lr=1.0)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    take_steps(optimizer, 10, seed=6)
    take_steps(other, 10, seed=6)
    assert bits(resumed) == bits(whole)


@variants_that_propagate_nan
def test_a_gradient_of_nan_makes_its_own_element_nan_and_no_other(variant) -> None:
    param = Parameter(torch.ones(2, 2))
    optimizer = variant([param], lr=0.25)
    for _ in range(2):
        param.grad = torch.tensor([[math.nan, 1.0], [1.0, 1.0]])
        optimizer.step()
    assert param.isnan().tolist() == [[True, False], [False, False]]
    assert momenta(optimizer)[0].isnan().tolist() == [[True, False], [False, False]]


@variants_that_propagate_nan
def test_lr_times_weight_decay_above_one_warns_once(variant) -> None:
    with pytest.warns(UserWarning, match=r"lr \* weight_decay = 1.0 \* 2.0 exceeds 1") as caught:
        optimizer = variant([WEIGHT], lr=1.0, weight_decay=2.0)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)
    optimizer.step()  # a second warning would be an error


@every_variant
def test_a_schedule_that_raises_lr_times_weight_decay_above_one_warns_but_for_tiger(variant) -> None:
    optimizer = variant([WEIGHT], lr=0.1, weight_decay=2.0)
    optimizer.param_groups[0]["lr"] = 0.6
    if variant is Tiger:
        optimizer.step()
        return
    with pytest.warns(UserWarning, match="exceeds 1"):
        optimizer.step()


@every_variant
def test_empty_and_zero_dimensional_tensors_and_memory_formats_survive(variant) -> None:
    channels_last = torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    params = [Parameter(each) for each in (torch.tensor(1.0), torch.empty(0), torch.empty(3, 0, 2), channels_last)]
    optimizer = variant(params, lr=0.25)
    take_steps(optimizer, 2)
    assert [param.shape for param in params] == [(), (0,), (3, 0, 2), (2, 3, 4, 5)]
    assert params[3].stride() == momenta(optimizer)[3].stride() == channels_last.stride()
    assert all(param.isfinite().all() for param in params)


@every_variant
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_parameters_keep_their_dtype_and_move(variant, dtype) -> None:
    params = random_parameters(dtype=dtype)
    optimizer = variant(params, lr=0.1)
    take_steps(optimizer, 3, scale=1e-2)
    assert {tensor.dtype for tensor in (*params, *momenta(optimizer))} == {dtype}
    assert bits(params) != bits(random_parameters(dtype=dtype))
    assert all(param.isfinite().all() for param in params)


def test_the_common_class_has_no_step_of_its_own() -> None:
    with pytest.raises(NotImplementedError):
        SignOptimizer([WEIGHT], {"lr": 0.1, "weight_decay": 0.0}).step()


@every_variant
def test_the_representation_shows_the_name_and_the_options(variant) -> None:
    assert re.match(rf"{variant.__name__} \(\n", repr(variant([WEIGHT], lr=0.125)))
    assert "lr: 0.125" in repr(variant([WEIGHT], lr=0.125))


# --- Properties ------------------------------------------------------------------------------------------------

finite = st.floats(-(2.0**100), 2.0**100, width=32)
beta = st.floats(0.0, 0.999)
triples = st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=12)
vectors = triples.map(lambda rows: torch.tensor(rows, dtype=torch.float64).T.contiguous())
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([0.0, -0.0, 1.0, -3.0]), min_size=width, max_size=width), min_size=1
    )
)


@given(vectors, beta, beta)
def test_the_cautious_direction_never_opposes_the_gradient_and_has_one_magnitude(rows, b1, b2) -> None:
    gradient, momentum, _ = rows
    direction, following = cautious_lion_update(gradient, momentum, beta1=b1, beta2=b2)
    plain, same = lion_update(gradient, momentum, beta1=b1, beta2=b2)
    assert torch.equal(following, same)
    assert (direction * gradient >= 0).all()
    num = int((plain * gradient > 0).sum())
    assert set(direction.abs().tolist()) <= {0.0, len(gradient) / (num + 1)}
    assert int(direction.count_nonzero()) == num


@given(vectors, beta)
def test_cautious_lion_masks_nothing_in_the_first_step(rows, b1) -> None:
    gradient = torch.where(rows[0] == 0, 1.0, rows[0])
    direction, _ = cautious_lion_update(gradient, torch.zeros_like(gradient), beta1=b1, beta2=0.99)
    assert torch.equal(direction, gradient.sign() * (len(gradient) / (len(gradient) + 1)))


@given(vectors, beta)
def test_signum_is_odd_in_gradient_and_momentum(rows, b) -> None:
    direction, following = signum_update(rows[0], rows[1], beta=b)
    mirrored = signum_update(-rows[0], -rows[1], beta=b)
    assert torch.equal(mirrored[0], -direction)
    assert torch.equal(mirrored[1], -following)


@settings(deadline=None)
@given(tables, beta, beta, st.floats(0, 1), st.floats(0, 1))
def test_the_other_rows_move_under_lazy_lion_as_if_the_absent_ones_were_not_there(table, b1, b2, lr, decay) -> None:
    gradient = torch.tensor(table, dtype=torch.float64)
    theta, momentum = torch.linspace(-2, 3, gradient.numel()).double().view_as(gradient), gradient.flip(0) + 0.5
    options = {"lr": lr, "beta1": b1, "beta2": b2, "weight_decay": decay}
    moved, following = lazy_lion_step(theta, gradient, momentum, **options)
    present = gradient.abs().sum(1) > 0
    alone = lazy_lion_step(theta[present], gradient[present], momentum[present], **options)
    assert bits([moved[present], following[present]]) == bits(list(alone))
    assert bits([moved[~present], following[~present]]) == bits([theta[~present], momentum[~present]])


@settings(deadline=None)
@given(vectors, beta, st.integers(1, 5), st.floats(0, 1))
def test_no_step_of_tiger_moves_a_matrix_further_than_lr_times_its_rms_and_decay(rows, b, k, decay) -> None:
    theta, gradient, momentum = (row.clamp(-1e6, 1e6).view(1, -1) for row in rows)
    options = {"lr": 0.01, "beta": b, "weight_decay": decay, "accumulation_steps": k}
    for micro_step in range(k):
        moved, momentum = tiger_step(theta, gradient, momentum, micro_step=micro_step, **options)
        assert (moved is theta) == (micro_step < k - 1)
    eta = 0.01 * theta.square().mean().sqrt()
    bound = eta * (1 + decay * theta.abs())
    assert ((moved - theta).abs() <= bound * (1 + 1e-9) + 1e-9 * theta.abs()).all()

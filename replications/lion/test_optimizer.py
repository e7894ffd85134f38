import copy
import io
import itertools
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lion_pytorch import Lion as LionPytorch
from torch import Tensor
from torch.nn import Parameter

from replications.lion import kernel as kernel_module
from replications.lion import optimizer as module
from replications.lion.optimizer import Lion, lion_update

FUSED = {"fused": True}
FOREACH = {"foreach": True}
FOR_LOOP = {"foreach": False, "fused": False}
EXACT = {"fused": FUSED, "for-loop": FOR_LOOP}  # those that round every product and sum on its own
IMPLEMENTATIONS = {**EXACT, "foreach": FOREACH}
SHAPES = [(), (0,), (3, 5), (255,), (256,), (257,), (2, 3, 4, 5), (33, 65)]
REPOSITORY = Path(__file__).parents[2]

every_implementation_of_torch = pytest.mark.parametrize("options", [FOREACH, FOR_LOOP], ids=["foreach", "for-loop"])
every_exact_implementation = pytest.mark.parametrize("options", EXACT.values(), ids=EXACT)
every_implementation = pytest.mark.parametrize("options", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_parameters(shapes=SHAPES, dtype=torch.float32, seed: int = 0) -> list[Parameter]:
    rng = np.random.default_rng(seed)  # torch's normal numbers depend on the instruction set
    return [Parameter(torch.tensor(rng.standard_normal(shape)).to(dtype)) for shape in shapes]


def take_steps(optimizer: torch.optim.Optimizer, num_steps: int, *, seed: int = 1, scale: float = 1.0) -> None:
    """Steps along random gradients of all magnitudes, with exact zeros, in the layout of each parameter."""
    rng = np.random.default_rng(seed)
    for _ in range(num_steps):
        for param in itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups):
            shape = tuple(param.shape)
            magnitude = 10 ** rng.uniform(-3, 3, shape) * (rng.random(shape) < 0.9)
            gradient = rng.standard_normal(shape) * magnitude * scale
            param.grad = torch.empty_like(param).copy_(torch.tensor(gradient))
        optimizer.step()


def run(params: list[Parameter], num_steps: int = 200, seed: int = 1, scale: float = 1.0, **options) -> Lion:
    optimizer = Lion(params, **{"lr": 1e-2, "weight_decay": 0.1, **options})
    take_steps(optimizer, num_steps, seed=seed, scale=scale)
    return optimizer


def bits(tensors: list) -> list[bytes]:
    """Values as bytes: unlike `torch.equal`, this tells 0 from -0 and finds NaN equal to itself."""
    wide = [torch.complex128 if tensor.is_complex() else torch.float64 for tensor in tensors]
    return [tensor.detach().to(dtype).numpy().tobytes() for tensor, dtype in zip(tensors, wide, strict=True)]


def momenta(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [state["exp_avg"] for state in optimizer.state.values()]


def one_step(param: list[float], grad: list[float], dtype=torch.float32, steps: int = 1, **options) -> Parameter:
    parameter = Parameter(torch.tensor(param, dtype=dtype))
    optimizer = Lion([parameter], **options)
    for _ in range(steps):
        parameter.grad = torch.tensor(grad, dtype=dtype)
        optimizer.step()
    return parameter


# --- What Lion computes ----------------------------------------------------------------------------------------


@every_implementation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_parameters_equal_those_of_lion_pytorch_after_200_steps(options, dtype, weight_decay) -> None:
    ours, theirs = random_parameters(dtype=dtype), random_parameters(dtype=dtype)
    lion = run(ours, lr=1e-3, weight_decay=weight_decay, **options)
    peer = LionPytorch(theirs, lr=1e-3, betas=(0.9, 0.99), weight_decay=weight_decay)
    take_steps(peer, 200)
    differing = sum(int((mine != its).sum()) for mine, its in zip(ours, theirs, strict=True))
    # Of 600,000 signs a few may fall within rounding of zero in float32, where the two round differently.
    assert differing <= {torch.float32: 3, torch.float64: 0}[dtype]
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-12}[dtype]  # gradients reach some thousands
    for mine, its in zip(momenta(lion), momenta(peer), strict=True):
        torch.testing.assert_close(mine, its, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.0, 0.0), (0.3, 0.2)])
@pytest.mark.parametrize("maximize", [False, True])
def test_exact_implementations_give_the_same_bits_for_200_steps(dtype, betas, maximize) -> None:
    outcomes = []
    for options in EXACT.values():
        params = random_parameters(dtype=dtype)
        lion = run(params, betas=betas, maximize=maximize, **options)
        outcomes.append((bits(params), bits(momenta(lion))))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] != bits(random_parameters(dtype=dtype))


@pytest.mark.parametrize("maximize", [False, True])
def test_foreach_differs_by_rounding_only(maximize) -> None:
    exact, rounded = random_parameters(), random_parameters()
    lions = [run(exact, maximize=maximize, **FOR_LOOP), run(rounded, maximize=maximize, **FOREACH)]
    assert sum(int((one != other).sum()) for one, other in zip(exact, rounded, strict=True)) <= 3
    for one, other in zip(*map(momenta, lions), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@every_exact_implementation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bits_are_those_of_the_formula_in_numpy(options, dtype) -> None:
    rng = np.random.default_rng(3)
    theta, m = rng.standard_normal(1000).astype(dtype), np.zeros(1000, dtype)
    param = Parameter(torch.tensor(theta))
    lion = Lion([param], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, **options)
    beta1, grad1, beta2, grad2, decay, minus_lr = (
        dtype(factor) for factor in (0.9, 1 - 0.9, 0.99, 1 - 0.99, 1 - 1e-2 * 0.1, -1e-2)
    )
    for _ in range(200):
        g = rng.standard_normal(1000).astype(dtype)
        param.grad = torch.tensor(g)
        lion.step()
        theta = theta * decay + np.sign(m * beta1 + g * grad1) * minus_lr
        m = m * beta2 + g * grad2
    assert param.detach().numpy().tobytes() == theta.tobytes()
    assert momenta(lion)[0].numpy().tobytes() == m.tobytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_updated_one_by_one_and_takes_no_kernel(dtype, monkeypatch) -> None:
    monkeypatch.setattr(kernel_module, "_load_step", lambda *_: pytest.fail("the kernel was asked for"))
    outcomes = []
    for options in ({}, FOR_LOOP):
        params = random_parameters(dtype=dtype)
        lion = run(params, num_steps=50, **options)
        assert all(momentum.dtype is dtype for momentum in momenta(lion))
        outcomes.append((bits(params), bits(momenta(lion))))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] != bits(random_parameters(dtype=dtype))


@every_implementation_of_torch
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_steps_by_the_learning_rate(options, dtype) -> None:
    param = one_step(
        [0.0, 0.0, 0.0, 0.0], [2.0**-24, -3.0, 0.0, float("nan")], dtype, lr=0.5, betas=(0, 0.9), **options
    )
    assert param.tolist()[:3] == [-0.5, 0.5, 0.0]
    assert torch.isnan(param[3])


@every_implementation_of_torch
def test_the_momentum_in_bfloat16_is_rounded_once_a_step(options) -> None:
    rng = generator(11)
    gradients = 1 + torch.randn(200, 1000, generator=rng).bfloat16()
    param = Parameter(torch.zeros(1000, dtype=torch.bfloat16))
    optimizer = Lion([param], **options)
    exact, rounded_twice = torch.zeros(1000, dtype=torch.float64), torch.zeros(1000, dtype=torch.bfloat16)
    for gradient in gradients:
        param.grad = gradient
        optimizer.step()
        exact.mul_(0.99).add_(gradient.double(), alpha=0.01)
        rounded_twice.mul_(0.99).add_(gradient.mul(0.01))
    errors = [float((m.double() - exact).norm() / exact.norm()) for m in (momenta(optimizer)[0], rounded_twice)]
    assert errors[0] < 0.015 < 0.04 < errors[1], errors


def test_bits_do_not_depend_on_fused_multiply_add_in_torch() -> None:
    program = """
import torch
from replications.lion.test_optimizer import FOR_LOOP, bits, momenta, random_parameters, run
import hashlib
params = random_parameters()
lion = run(params, **FOR_LOOP)
print(torch.backends.cpu.get_cpu_capability(), hashlib.sha256(b"".join(bits(params + momenta(lion)))).hexdigest())
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **extra},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for extra in ({"ATEN_CPU_CAPABILITY": "default"}, {})
    ]
    if outputs[0][0] == outputs[1][0]:
        pytest.skip("this CPU has one instruction set only")
    assert outputs[0][1] == outputs[1][1]


@every_exact_implementation
def test_the_optimizer_applies_lion_update(options) -> None:
    param = Parameter(torch.randn(1000, generator=generator(2)))
    optimizer = Lion([param], lr=1e-3, betas=(0.8, 0.95), weight_decay=0.5, **options)
    theta, momentum = param.detach().clone(), torch.zeros(1000)
    for step in range(20):
        param.grad = torch.randn(1000, generator=generator(step))
        direction, momentum = lion_update(param.grad, momentum, beta1=0.8, beta2=0.95)
        theta = theta * (1 - 1e-3 * 0.5) + direction * -1e-3
        optimizer.step()
        assert torch.equal(param, theta)
        assert torch.equal(momenta(optimizer)[0], momentum)


def test_lion_update_changes_neither_argument() -> None:
    gradient, momentum = torch.randn(9), torch.randn(9)
    before = gradient.clone(), momentum.clone()
    lion_update(gradient, momentum, beta1=0.9, beta2=0.99)
    assert torch.equal(gradient, before[0])
    assert torch.equal(momentum, before[1])


def test_the_direction_uses_the_momentum_from_before_the_step() -> None:
    direction, momentum = lion_update(torch.tensor([-1.0]), torch.tensor([0.2]), beta1=0.5, beta2=0.9)
    assert direction.item() == -1  # sign(0.5 * 0.2 - 0.5)
    assert momentum.item() == pytest.approx(0.08)  # its sign would be +1


@every_implementation
def test_both_betas_zero_is_sign_sgd(options) -> None:
    params, peers = random_parameters(), random_parameters()
    run(params, num_steps=20, betas=(0, 0), weight_decay=0, lr=0.5, **options)

    def take_signs(*_) -> None:
        for param in peers:
            param.grad.sign_()

    peer = torch.optim.SGD(peers, lr=0.5)
    peer.register_step_pre_hook(take_signs)
    take_steps(peer, 20)
    for param, other in zip(params, peers, strict=True):
        assert torch.equal(param, other)


@every_implementation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**7])
def test_scaling_all_gradients_by_a_power_of_two_changes_no_bit(options, dtype, scale) -> None:
    params, scaled = random_parameters(dtype=dtype), random_parameters(dtype=dtype)
    run(params, **options)
    run(scaled, scale=scale, **options)
    assert bits(params) == bits(scaled)


@every_implementation
def test_maximize_steps_along_minus_the_gradient(options) -> None:
    params, negated = random_parameters(), random_parameters()
    run(params, maximize=True, **options)
    run(negated, scale=-1.0, **options)
    assert bits(params) == bits(negated)


@every_implementation
def test_lion_reaches_a_minimum_within_a_few_learning_rates(options) -> None:
    target = torch.tensor([1.0, -2.0, 0.5])
    param = Parameter(torch.zeros(3))
    optimizer = Lion([param], lr=1e-3, **options)
    for _ in range(3000):
        param.grad = param.detach() - target
        optimizer.step()
    assert (param - target).abs().max() < 0.1


@every_implementation
def test_a_zero_gradient_from_the_start_moves_nothing_and_keeps_the_sign_of_zero(options) -> None:
    param = one_step([1.0, 0.0, -0.0], [0.0, -0.0, 0.0], lr=0.1, **options)
    assert bits([param]) == bits([torch.tensor([1.0, 0.0, -0.0])])


@every_implementation
def test_a_direction_of_minus_zero_stays_minus_zero(options) -> None:
    param = Parameter(torch.tensor([-0.0]))
    param.grad = torch.tensor([-0.0])
    optimizer = Lion([param], betas=(0.25, 0.9), **options)
    optimizer.state[param] = {"exp_avg": torch.tensor([-(2.0**-149)])}  # times 0.25 it rounds to -0
    optimizer.step()
    assert bits([param]) == bits([torch.tensor([0.0])])  # -0 - lr * (-0)


@every_exact_implementation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_smallest_subnormal_gradient_moves_by_a_full_step(options, dtype) -> None:
    tiny = {torch.float32: 2.0**-149, torch.float64: 2.0**-1074}[dtype]
    param = one_step([0.0, 0.0], [tiny, -tiny], dtype, lr=0.5, betas=(0.0, 0.99), **options)
    assert param.tolist() == [-0.5, 0.5]


def test_foreach_counts_a_direction_below_its_cut_in_proportion() -> None:
    param = one_step([0.0, 0.0], [2.0**-101, 2.0**-99], lr=0.5, betas=(0.0, 0.99), **FOREACH)
    assert param.tolist() == [-0.25, -0.5]


@every_implementation
def test_an_infinite_gradient_moves_by_a_full_step(options) -> None:
    param = one_step([0.0, 0.0], [float("inf"), -float("inf")], lr=0.5, **options)
    assert param.tolist() == [-0.5, 0.5]


@every_implementation
def test_the_state_shows_for_ever_that_a_gradient_was_infinite(options) -> None:
    param = Parameter(torch.zeros(2))
    optimizer = Lion([param], lr=0.5, **options)
    for first in (float("inf"), -1.0, -1.0):
        param.grad = torch.tensor([first, 1.0])
        optimizer.step()
    assert torch.isfinite(momenta(optimizer)[0]).tolist() == [False, True]
    if options is not FOREACH:
        assert param.tolist() == [-1.5, -1.5]  # the weight that it ruined looks like the other


@every_implementation
@pytest.mark.parametrize("steps", [1, 2])
def test_a_gradient_of_nan_makes_its_own_element_nan_and_no_other(options, steps) -> None:
    param = one_step([1.0, 1.0], [float("nan"), 1.0], steps=steps, lr=0.25, **options)
    assert torch.isnan(param).tolist() == [True, False]
    assert param[1] == 1 - 0.25 * steps


@every_implementation
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_complex_parameter_is_a_pair_of_reals(options, dtype) -> None:
    rng = generator(3)
    start = torch.randn(5, 3, dtype=dtype, generator=rng)
    gradients = [torch.randn(5, 3, dtype=dtype, generator=rng) for _ in range(10)]
    whole, pair = Parameter(start.clone()), Parameter(torch.view_as_real(start).clone())
    optimizers = [Lion([param], lr=1e-2, weight_decay=0.1, **options) for param in (whole, pair)]
    for gradient in gradients:
        whole.grad, pair.grad = gradient, torch.view_as_real(gradient)
        for optimizer in optimizers:
            optimizer.step()
    assert whole.dtype is dtype
    assert torch.equal(torch.view_as_real(whole.detach()), pair)


@every_implementation
def test_a_conjugated_or_negated_view_as_gradient_counts_with_its_value(options) -> None:
    if options is not FUSED:
        lazy = Parameter(torch.zeros(2))
        lazy.grad = torch.tensor([1 + 2j, 1 - 2j]).conj().imag
        assert lazy.grad.is_neg()
        Lion([lazy], lr=0.5, **options).step()
        assert lazy.tolist() == [0.5, -0.5]
    param = Parameter(torch.zeros(1, dtype=torch.complex64))
    param.grad = torch.tensor([1 + 2j]).conj()
    Lion([param], lr=0.5, **options).step()
    assert param.item() == -0.5 + 0.5j


# --- Shapes and memory -----------------------------------------------------------------------------------------


def channels_last(rng: torch.Generator) -> Tensor:
    return torch.randn(2, 3, 4, 5, generator=rng).contiguous(memory_format=torch.channels_last)


def transposed(rng: torch.Generator) -> Tensor:
    return torch.randn(6, 4, generator=rng).t()


def permuted_with_a_dimension_of_one(rng: torch.Generator) -> Tensor:
    return torch.randn(3, 1, 5, generator=rng).permute(2, 1, 0)


LAYOUTS = [channels_last, transposed, permuted_with_a_dimension_of_one]


@every_implementation
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dense_layouts_are_updated_as_contiguous_ones_and_keep_their_strides(options, layout) -> None:
    odd = Parameter(layout(generator()))
    plain = Parameter(odd.detach().clone(memory_format=torch.contiguous_format))
    strides = odd.stride()
    assert not odd.is_contiguous()
    lion = run([odd], num_steps=20, **options)
    run([plain], num_steps=20, **options)
    assert odd.stride() == strides == momenta(lion)[0].stride()
    assert torch.equal(odd, plain)


@pytest.mark.parametrize("options", [{}, FOREACH, FOR_LOOP], ids=["default", "foreach", "for-loop"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gradient_of_other_strides_is_matched_by_index_and_not_by_memory(options, layout) -> None:
    odd = Parameter(layout(generator()))
    plain = Parameter(odd.detach().clone(memory_format=torch.contiguous_format))
    gradient = torch.randn(odd.shape, generator=generator(4))
    assert gradient.stride() != odd.stride()
    for param in (odd, plain):
        param.grad = gradient
        Lion([param], lr=0.1, **options).step()
    assert torch.equal(odd, plain)


@pytest.mark.parametrize("options", [{}, FOREACH, FOR_LOOP], ids=["default", "foreach", "for-loop"])
@pytest.mark.parametrize("gaps_everywhere", [False, True])
def test_a_parameter_with_gaps_in_memory_leaves_the_gaps_alone(options, gaps_everywhere) -> None:
    memory = torch.zeros(4, 6)
    param = Parameter(memory[:, ::2])
    param.grad = torch.ones(4, 6)[:, ::2] if gaps_everywhere else torch.ones(4, 3)
    optimizer = Lion([param], lr=0.5, **options)
    if gaps_everywhere:
        optimizer.state[param] = {"exp_avg": torch.zeros(4, 6)[:, ::2]}
    optimizer.step()
    assert torch.equal(memory, torch.tensor([-0.5, 0.0]).repeat(4, 3))


@every_implementation
def test_nothing_beyond_the_tensor_is_written(options) -> None:
    for size in (0, 1, 255, 256, 257, 1000):
        memory = torch.zeros(size + 64)
        param = Parameter(memory[32 : 32 + size])
        param.grad = torch.ones(size)
        Lion([param], lr=1.0, **options).step()
        assert torch.equal(memory[32 : 32 + size], -torch.ones(size))
        assert not memory[:32].any()
        assert not memory[32 + size :].any()


@pytest.mark.parametrize("options", [{}, FOR_LOOP], ids=["default", "for-loop"])
@pytest.mark.parametrize("shape", [(2,), (3, 2)])
def test_a_momentum_of_another_shape_is_refused(options, shape) -> None:
    param = Parameter(torch.zeros(2, 3))
    param.grad = torch.ones(2, 3)
    optimizer = Lion([param], **options)
    optimizer.state[param] = {"exp_avg": torch.zeros(shape)}
    with pytest.raises(RuntimeError, match="size of tensor"):
        optimizer.step()


@every_implementation
def test_zero_dimensional_and_empty_tensors_are_updated(options) -> None:
    params = [Parameter(torch.tensor(1.0)), Parameter(torch.empty(0)), Parameter(torch.empty(3, 0, 2))]
    for param in params:
        param.grad = torch.ones_like(param)
    Lion(params, lr=0.25, **options).step()
    assert params[0].item() == 0.75
    assert [param.shape for param in params] == [(), (0,), (3, 0, 2)]


@every_implementation
def test_state_is_one_tensor_of_four_bytes_a_parameter(options) -> None:
    params = random_parameters()
    lion = run(params, num_steps=1, **options)
    assert {key for state in lion.state.values() for key in state} == {"exp_avg"}
    num_bytes = sum(tensor.nbytes for state in lion.state.values() for tensor in state.values())
    assert num_bytes == 4 * sum(param.numel() for param in params)


@every_implementation
def test_two_runs_are_equal_bit_for_bit(options) -> None:
    first, second = random_parameters(), random_parameters()
    run(first, num_steps=30, **options)
    run(second, num_steps=30, **options)
    assert bits(first) == bits(second)


@every_implementation
def test_a_backward_pass_through_weights_that_a_step_changed_is_an_error(options) -> None:
    weight, entry = Parameter(torch.ones(3)), torch.ones(3, requires_grad=True)
    loss = (weight * entry).sum()
    loss.backward(retain_graph=True)
    Lion([weight], **options).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- Conventions of torch.optim --------------------------------------------------------------------------------


def message_of(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


WEIGHT = Parameter(torch.zeros(3))
SAME_AS_ADAMW = {
    "negative lr": (ValueError, [WEIGHT], {"lr": -1.0}),
    "lr of NaN": (ValueError, [WEIGHT], {"lr": float("nan")}),
    "lr tensor of two": (ValueError, [WEIGHT], {"lr": torch.tensor([0.1, 0.2])}),
    "first beta of one": (ValueError, [WEIGHT], {"betas": (1.0, 0.9)}),
    "first beta negative": (ValueError, [WEIGHT], {"betas": (-0.1, 0.9)}),
    "second beta of one": (ValueError, [WEIGHT], {"betas": (0.9, 1.0)}),
    "second beta of NaN": (ValueError, [WEIGHT], {"betas": (0.9, float("nan"))}),
    "negative weight decay": (ValueError, [WEIGHT], {"weight_decay": -0.1}),
    "weight decay of NaN": (ValueError, [WEIGHT], {"weight_decay": float("nan")}),
    "fused and foreach": (RuntimeError, [WEIGHT], {"fused": True, "foreach": True}),
    "a tensor for params": (TypeError, WEIGHT, {}),
    "no parameters": (ValueError, [], {}),
    "a set": (TypeError, [{"params": {WEIGHT}}], {}),
    "no tensors": (TypeError, [1.0], {}),
    "a tensor that is no leaf": (ValueError, [WEIGHT * 2], {}),
    "a parameter in two groups": (ValueError, [{"params": [WEIGHT]}, {"params": [WEIGHT]}], {}),
}


@pytest.mark.parametrize(("kind", "params", "options"), SAME_AS_ADAMW.values(), ids=SAME_AS_ADAMW)
def test_bad_arguments_raise_what_adamw_raises(kind, params, options) -> None:
    expected = message_of(kind, lambda: torch.optim.AdamW(params, **options))
    assert message_of(kind, lambda: Lion(params, **options)) == expected


def test_bad_options_of_a_group_raise_too() -> None:
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        Lion([{"params": [WEIGHT], "lr": -1}])
    optimizer = Lion([WEIGHT])
    with pytest.raises(ValueError, match="Invalid weight_decay value: -2"):
        optimizer.add_param_group({"params": [Parameter(torch.zeros(1))], "weight_decay": -2})
    with pytest.raises(RuntimeError, match="cannot be `True` together"):
        optimizer.add_param_group({"params": [Parameter(torch.zeros(1))], "fused": True, "foreach": True})
    assert len(optimizer.param_groups) == 1
    message = message_of(TypeError, lambda: optimizer.add_param_group([WEIGHT]))  # type: ignore[arg-type]
    assert message == message_of(TypeError, lambda: torch.optim.AdamW([WEIGHT]).add_param_group([WEIGHT]))  # type: ignore[arg-type]


@every_implementation
def test_a_sparse_gradient_is_refused_before_anything_moves(options) -> None:
    first, second = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2, 2))
    first.grad = torch.ones(2, 2)
    second.grad = torch.eye(2).to_sparse()
    with pytest.raises(RuntimeError, match=r"^Lion does not support sparse gradients$"):
        Lion([first, second], **options).step()
    assert torch.equal(first, torch.ones(2, 2))


def test_a_state_dict_of_another_number_of_parameters_raises_what_adamw_raises() -> None:
    params = random_parameters([(2,), (3,)])
    messages = []
    for make in (Lion, torch.optim.AdamW):
        small = make(params[:1]).state_dict()
        messages.append(message_of(ValueError, lambda make=make, small=small: make(params).load_state_dict(small)))
    assert messages[0] == messages[1]


def test_lr_times_weight_decay_above_one_warns_once_and_flips_signs() -> None:
    param = Parameter(torch.tensor([4.0]))
    with pytest.warns(UserWarning, match=r"lr \* weight_decay = 1.0 \* 2.0 exceeds 1") as caught:
        optimizer = Lion([param], lr=1.0, weight_decay=2.0)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)
    for _ in range(3):  # a second warning would be an error
        param.grad = torch.zeros(1)
        optimizer.step()
    assert param.item() == -4.0


def test_a_schedule_that_raises_lr_times_weight_decay_above_one_warns() -> None:
    param = Parameter(torch.ones(1))
    param.grad = torch.ones(1)
    optimizer = Lion([param], lr=0.1, weight_decay=2.0)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.6
    with pytest.warns(UserWarning, match="exceeds 1"):
        optimizer.step()


def test_lr_times_weight_decay_of_exactly_one_does_not_warn() -> None:
    Lion([WEIGHT], lr=0.5, weight_decay=2.0)


@every_implementation
def test_a_parameter_without_gradient_is_skipped_and_gets_no_state(options) -> None:
    idle, busy = Parameter(torch.ones(2)), Parameter(torch.ones(2))
    busy.grad = torch.ones(2)
    optimizer = Lion([idle, busy], weight_decay=0.5, **options)
    optimizer.step()
    assert torch.equal(idle, torch.ones(2))
    assert list(optimizer.state) == [busy]


@every_implementation
def test_a_step_without_any_gradient_does_nothing(options) -> None:
    optimizer = Lion([Parameter(torch.ones(2))], **options)
    assert optimizer.step() is None
    assert not optimizer.state


@every_implementation
def test_a_round_trip_of_the_state_dict_goes_on_bit_for_bit(options) -> None:
    whole = random_parameters()
    run(whole, num_steps=0)
    optimizer = Lion(whole, lr=1e-2, weight_decay=0.1, **options)
    take_steps(optimizer, 10, seed=5)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed = [Parameter(param.detach().clone()) for param in whole]
    other = Lion(resumed)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.param_groups[0]["lr"] == 1e-2
    take_steps(optimizer, 10, seed=6)
    take_steps(other, 10, seed=6)
    assert bits(resumed) == bits(whole)


@every_implementation
def test_a_copied_optimizer_goes_on_bit_for_bit(options) -> None:
    params = random_parameters()
    optimizer = run(params, num_steps=5, **options)
    copied_params, copied = copy.deepcopy((params, optimizer))
    take_steps(optimizer, 5, seed=6)
    take_steps(copied, 5, seed=6)
    assert bits(copied_params) == bits(params)
    assert copied_params[0] is not params[0]


def test_a_state_from_before_the_keyword_options_gets_their_defaults() -> None:
    optimizer = Lion([WEIGHT])
    state = optimizer.__getstate__()
    for key in ("maximize", "foreach", "fused"):
        del state["param_groups"][0][key]
    optimizer.__setstate__(state)
    assert {key: optimizer.param_groups[0][key] for key in ("maximize", "foreach", "fused")} == {
        "maximize": False,
        "foreach": None,
        "fused": None,
    }


@every_implementation
def test_each_group_uses_its_own_options(options) -> None:
    first, second, third = (Parameter(torch.tensor([1.0])) for _ in range(3))
    optimizer = Lion([{"params": [first]}, {"params": [second], "lr": 0.5, "weight_decay": 1.0}], lr=0.25, **options)
    optimizer.add_param_group({"params": [third], "maximize": True})
    for param in (first, second, third):
        param.grad = torch.ones(1)
    optimizer.step()
    assert [param.item() for param in (first, second, third)] == [0.75, 0.0, 1.25]


def test_one_group_may_mix_dtypes_and_layouts() -> None:
    def mixed() -> list[Parameter]:
        rng = generator(7)
        tensors = [torch.randn(5, 4, generator=rng, dtype=dtype) for dtype in (torch.float32, torch.float64)]
        return [Parameter(t) for t in [*tensors, tensors[1].clone().t(), tensors[0].to(torch.cfloat)]]

    outcomes = []
    for options in ({}, FOREACH, FOR_LOOP):
        params = mixed()
        run(params, num_steps=10, **options)
        outcomes.append(bits(params))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@every_implementation
def test_the_closure_runs_with_gradients_and_its_loss_comes_back(options) -> None:
    param = Parameter(torch.tensor([3.0]))
    optimizer = Lion([param], lr=0.5, **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 9.0
        assert not torch.is_grad_enabled()
    assert param.item() == 2.5


@every_implementation
def test_a_tensor_of_one_element_serves_as_lr_and_may_change(options) -> None:
    lr = torch.tensor(0.5)
    param = Parameter(torch.zeros(1))
    optimizer = Lion([param], lr=lr, **options)
    for _ in range(2):
        param.grad = torch.ones(1)
        optimizer.step()
        lr.fill_(0.25)
    assert param.item() == -0.75


@every_implementation
def test_learning_rate_schedulers_set_the_size_of_the_step(options) -> None:
    param = Parameter(torch.zeros(1))
    optimizer = Lion([param], lr=1.0, **options)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    positions = []
    for _ in range(3):
        param.grad = torch.ones(1)
        optimizer.step()
        schedule.step()
        positions.append(param.item())
    assert positions == [-1.0, -1.5, -1.75]


@pytest.mark.parametrize("lr_of", [float, torch.tensor], ids=["float", "tensor"])
def test_a_compiled_step_follows_a_schedule_without_being_compiled_for_each_rate(lr_of) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    outcomes = []
    # Not inductor: it needs a C++ compiler, and a path without spaces.
    for transform in (partial(torch.compile, backend="aot_eager"), lambda step: step):
        params = random_parameters([(5,), (3, 4)])
        optimizer = Lion(params, lr=lr_of(0.5), weight_decay=0.1)
        step = transform(lambda optimizer=optimizer: optimizer.step())
        for seed in range(10):
            rng = generator(seed)
            for param in params:
                param.grad = torch.randn(param.shape, generator=rng)
            step()
            optimizer.param_groups[0]["lr"] *= 0.7
        outcomes.append(bits([*params, *momenta(optimizer)]))
    assert outcomes[0] == outcomes[1]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


def test_a_one_cycle_schedule_may_cycle_the_first_beta() -> None:
    param = Parameter(torch.zeros(1))
    optimizer = Lion([param], lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4)
    param.grad = torch.ones(1)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["betas"][0] != 0.9
    optimizer.step()


def test_named_parameters_and_hooks_work_as_in_torch() -> None:
    layer = torch.nn.Linear(2, 1)
    optimizer = Lion(layer.named_parameters(), lr=0.5)
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert calls == ["after"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    optimizer.zero_grad()
    assert layer.weight.grad is None


def test_the_representation_shows_the_options() -> None:
    text = repr(Lion([WEIGHT], lr=0.125))
    assert text.startswith("Lion (")
    assert "lr: 0.125" in text


# --- Which implementation runs ---------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch) -> Iterator[list[str]]:
    """Names of the implementations that ran."""
    names: list[str] = []
    for owner, name in ((kernel_module, "_step_in_numba"), (module, "_step_in_foreach"), (module, "_step_one")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, n=name, f=original: (names.append(n), f(*args)))
    kernel_module._load_step.cache_clear()
    yield names
    kernel_module._load_step.cache_clear()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "_step_in_numba"),
        ({"foreach": False}, "_step_in_numba"),
        ({"fused": True}, "_step_in_numba"),
        ({"foreach": True}, "_step_in_foreach"),
        ({"foreach": True, "fused": False}, "_step_in_foreach"),
        ({"fused": False}, "_step_one"),
        ({"foreach": False, "fused": False}, "_step_one"),
    ],
)
def test_options_choose_the_implementation_on_a_cpu(calls, options, expected) -> None:
    run([Parameter(torch.ones(3))], num_steps=1, **options)
    assert calls == [expected]


@pytest.mark.parametrize(("foreach", "expected"), [(None, "_step_in_foreach"), (False, "_step_one")])
def test_tensors_on_another_device_take_foreach_unless_told_otherwise(calls, foreach, expected) -> None:
    param = Parameter(torch.ones(3, device="meta"))
    param.grad = torch.ones(3, device="meta")
    Lion([param], foreach=foreach).step()
    assert calls == [expected]


class Subclass(Tensor):
    pass


def on_meta() -> Parameter:
    param = Parameter(torch.ones(3, device="meta"))
    param.grad = torch.ones(3, device="meta")
    return param


def of_bfloat16() -> Parameter:
    param = Parameter(torch.ones(3, dtype=torch.bfloat16))
    param.grad = torch.ones(3, dtype=torch.bfloat16)
    return param


def with_gaps() -> Parameter:
    param = Parameter(torch.ones(3, 4)[:, ::2])
    param.grad = torch.ones(3, 2)
    return param


def with_transposed_gradient() -> Parameter:
    param = Parameter(torch.ones(3, 2))
    param.grad = torch.ones(2, 3).t()
    return param


def with_negated_gradient() -> Parameter:
    param = Parameter(torch.zeros(1))
    param.grad = torch.tensor([1 + 2j]).conj().imag
    return param


def with_subclassed_gradient() -> Parameter:
    param = Parameter(torch.zeros(1))
    param.grad = torch.ones(1).as_subclass(Subclass)
    return param


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (on_meta, "runs on a CPU or on CUDA, the parameter is on meta"),
        (of_bfloat16, r"float32 and float64 parameters, this one is torch\.bfloat16"),
        (with_gaps, "dense memory"),
        (with_transposed_gradient, "equal strides"),
        (with_negated_gradient, r"stored as torch\.float32"),
        (with_subclassed_gradient, "plain tensors, these are Parameter, Subclass, Tensor"),
    ],
)
def test_fused_true_where_the_kernel_cannot_run_says_why_and_moves_nothing(make, reason) -> None:
    fine, param = Parameter(torch.ones(1)), make()
    fine.grad = torch.ones(1)
    with pytest.raises(RuntimeError, match=rf"^`fused=True` is impossible: .*{reason}.*; pass fused=None"):
        Lion([fine, param], fused=True).step()
    assert fine.item() == 1.0
    Lion([fine, param]).step()  # and by default it simply takes another way


def forget_kernels() -> None:
    for cached in (
        kernel_module._load_step,
        kernel_module._warn_of_missing_kernel,
        kernel_module._give_meaning_to_stand_ins,
    ):
        cached.cache_clear()


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    forget_kernels()
    yield
    monkeypatch.undo()
    forget_kernels()


@pytest.mark.usefixtures("without_numba")
def test_without_numba_lion_warns_once_and_gives_the_same_bits() -> None:
    params, others = random_parameters(), random_parameters()
    with pytest.warns(UserWarning, match="without its compiled cpu kernel.*numba") as caught:
        run(params, num_steps=3)
    assert len(caught) == 1
    run(random_parameters(), num_steps=3)  # a second warning would be an error
    run(others, num_steps=3, **FOR_LOOP)
    assert bits(params) == bits(others)


@pytest.mark.usefixtures("without_numba")
def test_without_numba_fused_true_is_an_error_that_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"`fused=True` is impossible: numba cannot compile.*ModuleNotFoundError"):
        run(random_parameters(), num_steps=1, **FUSED)


def test_the_kernel_compiles_where_no_cache_can_be_written(monkeypatch) -> None:
    import numba

    original = numba.njit

    def njit(**options):
        if options.pop("cache", False):
            message = "cannot cache function: no locator available"
            raise RuntimeError(message)
        return original(**options)

    monkeypatch.setattr(numba, "njit", njit)
    forget_kernels()
    params, others = random_parameters(), random_parameters()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(params, num_steps=3, **FUSED)
    forget_kernels()
    run(others, num_steps=3, **FOR_LOOP)
    assert bits(params) == bits(others)


def test_importing_the_module_and_making_an_optimizer_does_not_import_numba() -> None:
    program = """
import sys, torch
from replications.lion.optimizer import Lion
weight = torch.nn.Parameter(torch.ones(1))
optimizer = Lion([weight])
print("numba" in sys.modules)
weight.grad = torch.ones(1)
optimizer.step()
print("numba" in sys.modules)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert finished.stdout.split() == ["False", "True"]


def test_the_kernel_is_vectorised() -> None:
    import numba

    kernel_module._give_meaning_to_stand_ins()
    kernel = numba.njit(kernel_module._lion_kernel)
    kernel.compile(numba.void(numba.int64[:, ::1], numba.float32[::1]))
    assembly = "".join(kernel.inspect_asm().values())
    packed = {"x86_64": "mulps", "AMD64": "mulps", "aarch64": "fmul\tv", "arm64": "fmul\tv"}
    name = packed.get(os.uname().machine)
    if name is None:
        pytest.skip("no name of a packed product is known for this processor")
    assert name in assembly


# --- Properties ------------------------------------------------------------------------------------------------

finite = st.floats(-(2.0**100), 2.0**100, width=32)
beta = st.floats(0.0, 0.999)
vectors = st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=9).map(lambda rows: torch.tensor(rows).T)


@given(vectors, beta, beta)
def test_the_direction_is_a_sign_and_the_momentum_lies_between_its_old_value_and_the_gradient(rows, b1, b2) -> None:
    gradient, momentum, _ = rows
    direction, following = lion_update(gradient, momentum, beta1=b1, beta2=b2)
    assert set(direction.tolist()) <= {-1.0, 0.0, 1.0}
    low, high = torch.minimum(gradient, momentum), torch.maximum(gradient, momentum)
    slack = 1e-6 * (gradient.abs() + momentum.abs()) + 1e-44
    assert (following >= low - slack).all()
    assert (following <= high + slack).all()


@given(vectors, beta, beta)
def test_negating_gradient_and_momentum_negates_the_update(rows, b1, b2) -> None:
    gradient, momentum, _ = rows
    direction, following = lion_update(gradient, momentum, beta1=b1, beta2=b2)
    mirrored = lion_update(-gradient, -momentum, beta1=b1, beta2=b2)
    assert torch.equal(mirrored[0], -direction)
    assert torch.equal(mirrored[1], -following)


@settings(deadline=None)
@given(vectors, beta, beta, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_exact_implementations_give_the_same_bits_for_any_input(rows, b1, b2, lr, weight_decay, maximize) -> None:
    outcomes = []
    for options in EXACT.values():
        param = Parameter(rows[0].clone())
        optimizer = Lion([param], lr=lr, betas=(b1, b2), weight_decay=weight_decay, maximize=maximize, **options)
        for gradient in rows[1:]:
            param.grad = gradient.clone()
            optimizer.step()
        outcomes.append(bits([param, *momenta(optimizer)]))
    assert outcomes[0] == outcomes[1]


@given(st.integers(1, 40), st.floats(0, 0.99), st.floats(1e-4, 0.1))
def test_without_decay_every_coordinate_moves_by_at_most_lr_a_step(num_steps, b1, lr) -> None:
    param = Parameter(torch.zeros(17, dtype=torch.float64))
    run([param], num_steps, lr=lr, weight_decay=0.0, betas=(b1, 0.99))
    assert param.abs().max() <= num_steps * lr * (1 + np.finfo(float).eps * num_steps)

"""What Lion computes, and which implementation does; what every optimizer promises stands in test_conventions.py."""

import copy
import hashlib
import itertools
import json
import math
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
IN_TORCH = {"foreach": FOREACH, "for-loop": FOR_LOOP}
IMPLEMENTATIONS = {**EXACT, "foreach": FOREACH}
SHAPES = [(), (0,), (3, 5), (255,), (256,), (257,), (2, 3, 4, 5), (33, 65)]
REPOSITORY = Path(__file__).parents[2]


def for_each(options_by_name: dict[str, dict]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("options", options_by_name.values(), ids=options_by_name)


every_implementation = for_each(IMPLEMENTATIONS)
default_and_torch = for_each({"default": {}, **IN_TORCH})  # those that also take what has no kernel
single_and_double = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


# --- What all tests of optimizers share ------------------------------------------------------------------------


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_parameters(shapes=SHAPES, dtype=torch.float32, seed: int = 0) -> list[Parameter]:
    rng = np.random.default_rng(seed)  # torch's normal numbers depend on the instruction set
    return [Parameter(torch.tensor(rng.standard_normal(shape)).to(dtype)) for shape in shapes]


def with_gradient(start: Tensor, gradient: Tensor) -> Parameter:
    param = Parameter(start)
    param.grad = gradient
    return param


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


def follow(optimizer: torch.optim.Optimizer, param: Parameter, gradients: list[Tensor]) -> list[Tensor]:
    """The values of one parameter after each gradient."""
    values = []
    for gradient in gradients:
        param.grad = gradient
        optimizer.step()
        values.append(param.detach().clone())
    return values


def after_steps(
    make: Callable[..., torch.optim.Optimizer] = Lion,
    *,
    num_steps: int = 50,
    shapes=SHAPES,
    dtype=torch.float32,
    scale: float = 1.0,
    **options,
) -> tuple[list[Parameter], torch.optim.Optimizer]:
    """Random parameters after steps of a new optimizer."""
    params = random_parameters(shapes, dtype)
    optimizer = make(params, **{"lr": 1e-2, "weight_decay": 0.1, **options})
    take_steps(optimizer, num_steps, scale=scale)
    return params, optimizer


def momenta(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [state["exp_avg"] for state in optimizer.state.values()]


def bits(tensors: list) -> list[bytes]:
    """Values as bytes, which tell 0 from -0; each NaN is the same one, since which comes out depends on the device."""
    wide = [tensor.detach().cpu().to(torch.complex128 if tensor.is_complex() else torch.float64) for tensor in tensors]
    return [torch.where(tensor.isnan(), torch.nan, tensor).numpy().tobytes() for tensor in wide]


def bits_of(params: list[Parameter], optimizer: torch.optim.Optimizer) -> list[bytes]:
    return bits([*params, *momenta(optimizer)])


def assert_a_later_backward_pass_is_refused(make: Callable[..., torch.optim.Optimizer], num_quiet_steps: int = 0):
    """A step that moves a weight has to tell autograd so; one that does not must not."""
    weight, entry = Parameter(torch.ones(3)), torch.ones(3, requires_grad=True)
    loss = (weight * entry).sum()
    loss.backward(retain_graph=True)
    optimizer = make([weight], lr=0.1)
    for _ in range(num_quiet_steps):
        optimizer.step()
        loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- What Lion computes ----------------------------------------------------------------------------------------


@every_implementation
@single_and_double
@pytest.mark.parametrize(("weight_decay", "maximize"), [(0.0, False), (0.3, False), (0.3, True)])
def test_parameters_equal_those_of_lion_pytorch_after_50_steps(options, dtype, weight_decay, maximize) -> None:
    shared = {"dtype": dtype, "lr": 1e-3, "weight_decay": weight_decay, "betas": (0.9, 0.99)}
    ours, lion = after_steps(Lion, **shared, maximize=maximize, **options)
    theirs, peer = after_steps(LionPytorch, **shared, scale=-1.0 if maximize else 1.0)  # it has no such option
    differing = sum(int((mine != its).sum()) for mine, its in zip(ours, theirs, strict=True))
    # Of 150,000 signs a few may fall within rounding of zero in float32, where the two round differently.
    assert differing <= {torch.float32: 3, torch.float64: 0}[dtype]
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-12}[dtype]  # gradients reach some thousands
    torch.testing.assert_close(momenta(lion), momenta(peer), rtol=tolerance, atol=tolerance)


@for_each(EXACT)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lion_and_lion_update_give_the_bits_of_the_formula_in_numpy(options, dtype) -> None:
    rng = np.random.default_rng(3)
    theta, m = rng.standard_normal(1000).astype(dtype), np.zeros(1000, dtype)
    param = Parameter(torch.tensor(theta))
    lion = Lion([param], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, **options)
    beta1, grad1, beta2, grad2, decay, minus_lr = (
        dtype(factor) for factor in (0.9, 1 - 0.9, 0.99, 1 - 0.99, 1 - 1e-2 * 0.1, -1e-2)
    )
    for _ in range(100):
        g = rng.standard_normal(1000).astype(dtype)
        update = lion_update(torch.tensor(g), torch.tensor(m), beta1=0.9, beta2=0.99)
        follow(lion, param, [torch.tensor(g)])
        direction = np.sign(m * beta1 + g * grad1)
        theta = theta * decay + direction * minus_lr
        m = m * beta2 + g * grad2
        assert bits(list(update)) == bits([torch.tensor(direction), torch.tensor(m)])
    assert bits_of([param], lion) == bits([torch.tensor(theta), torch.tensor(m)])


@for_each(IN_TORCH)
def test_the_momentum_in_bfloat16_is_rounded_once_a_step(options) -> None:
    gradients = 1 + torch.randn(200, 1000, generator=generator(11)).bfloat16()
    param = Parameter(torch.zeros(1000, dtype=torch.bfloat16))
    optimizer = Lion([param], **options)
    follow(optimizer, param, list(gradients))
    exact, rounded_twice = torch.zeros(1000, dtype=torch.float64), torch.zeros(1000, dtype=torch.bfloat16)
    for gradient in gradients:
        exact.mul_(0.99).add_(gradient.double(), alpha=0.01)
        rounded_twice.mul_(0.99).add_(gradient.mul(0.01))
    errors = [float((m.double() - exact).norm() / exact.norm()) for m in (momenta(optimizer)[0], rounded_twice)]
    assert errors[0] < 0.015 < 0.04 < errors[1], errors


TINY32, TINY64 = 2.0**-149, 2.0**-1074
FRESH = {"betas": (0.0, 0.99)}  # the direction is the sign of the gradient
SINGLE_STEPS = {  # of lr 0.5: implementations, dtype; theta, m and g before; options; theta after
    "a zero gradient moves nothing and keeps the sign of zero": (
        IMPLEMENTATIONS, torch.float32, [1.0, 0.0, -0.0], [0.0, 0.0, 0.0], [0.0, -0.0, 0.0], {}, [1.0, 0.0, -0.0],
    ),
    "a direction of -0 stays -0": (  # m times 0.25 rounds to -0, and -0 - lr * (-0) is 0
        IMPLEMENTATIONS, torch.float32, [-0.0], [-TINY32], [-0.0], {"betas": (0.25, 0.9)}, [0.0],
    ),
    "an infinite gradient moves by a full step": (
        IMPLEMENTATIONS, torch.float32, [0.0, 0.0], [0.0, 0.0], [math.inf, -math.inf], {}, [-0.5, 0.5],
    ),
    "the smallest subnormal moves by a full step": (
        EXACT, torch.float32, [0.0, 0.0], [0.0, 0.0], [TINY32, -TINY32], FRESH, [-0.5, 0.5],
    ),
    "the smallest subnormal of float64 moves by a full step": (
        EXACT, torch.float64, [0.0, 0.0], [0.0, 0.0], [TINY64, -TINY64], FRESH, [-0.5, 0.5],
    ),
    "foreach counts a direction below its cut in proportion": (
        {"foreach": FOREACH}, torch.float32, [0.0, 0.0], [0.0, 0.0], [2.0**-101, 2.0**-99], FRESH, [-0.25, -0.5],
    ),
    **{
        f"numbers of {dtype} move by a full step, or not, or are NaN": (
            IN_TORCH, dtype, [0.0] * 4, [0.0] * 4, [2.0**-24, -3.0, 0.0, math.nan], FRESH, [-0.5, 0.5, 0.0, math.nan],
        )
        for dtype in (torch.bfloat16, torch.float16)
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("implementation", "case"),
    [pytest.param(name, case, id=f"{case}, {name}") for case, (names, *_) in SINGLE_STEPS.items() for name in names],
)
def test_a_single_step_is_right_to_the_sign_of_zero_and_the_smallest_number(implementation, case) -> None:
    _, dtype, *numbers, options, expected = SINGLE_STEPS[case]
    start, momentum, gradient, after = (torch.tensor(each, dtype=dtype) for each in (*numbers, expected))
    param = with_gradient(start, gradient)
    optimizer = Lion([param], lr=0.5, **options, **IMPLEMENTATIONS[implementation])
    optimizer.state[param] = {"exp_avg": momentum}
    optimizer.step()
    assert bits([param]) == bits([after])


@every_implementation
def test_the_state_shows_for_ever_that_a_gradient_was_infinite(options) -> None:
    param = Parameter(torch.zeros(2))
    optimizer = Lion([param], lr=0.5, **options)
    follow(optimizer, param, [torch.tensor([first, 1.0]) for first in (math.inf, -1.0, -1.0)])
    assert torch.isfinite(momenta(optimizer)[0]).tolist() == [False, True]
    if options is not FOREACH:
        assert param.tolist() == [-1.5, -1.5]  # the weight that it ruined looks like the other


@every_implementation
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_complex_parameter_is_a_pair_of_reals(options, dtype) -> None:
    start, *gradients = torch.randn(11, 5, 3, dtype=dtype, generator=generator(3))
    whole, pair = Parameter(start.clone()), Parameter(torch.view_as_real(start).clone())
    for param, its_gradients in ((whole, gradients), (pair, [torch.view_as_real(each) for each in gradients])):
        follow(Lion([param], lr=1e-2, weight_decay=0.1, **options), param, its_gradients)
    assert whole.dtype is dtype
    assert torch.equal(torch.view_as_real(whole.detach()), pair)


NEGATED = torch.tensor([1 + 2j, 1 - 2j]).conj().imag  # a view whose memory holds the numbers with the other sign


@every_implementation
def test_a_conjugated_or_negated_view_as_gradient_counts_with_its_value(options) -> None:
    assert NEGATED.is_neg()
    if options is not FUSED:
        lazy = with_gradient(torch.zeros(2), NEGATED)
        Lion([lazy], lr=0.5, **options).step()
        assert lazy.tolist() == [0.5, -0.5]
    param = with_gradient(torch.zeros(1, dtype=torch.complex64), torch.tensor([1 + 2j]).conj())
    Lion([param], lr=0.5, **options).step()
    assert param.item() == -0.5 + 0.5j


# --- Shapes and memory -----------------------------------------------------------------------------------------

LAYOUTS = {
    "channels last": torch.randn(2, 3, 4, 5, generator=generator()).contiguous(memory_format=torch.channels_last),
    "transposed": torch.randn(6, 4, generator=generator()).t(),
    "permuted, with a dimension of one": torch.randn(3, 1, 5, generator=generator()).permute(2, 1, 0),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def odd_and_plain(layout: Tensor) -> tuple[Parameter, Parameter]:
    return Parameter(layout.clone()), Parameter(layout.clone(memory_format=torch.contiguous_format))


@every_implementation
@every_layout
def test_dense_layouts_are_updated_as_contiguous_ones_and_keep_their_strides(options, layout) -> None:
    odd, plain = odd_and_plain(layout)
    lion = Lion([odd], lr=1e-2, weight_decay=0.1, **options)
    take_steps(lion, 20)
    take_steps(Lion([plain], lr=1e-2, weight_decay=0.1, **options), 20)
    assert odd.stride() == layout.stride() == momenta(lion)[0].stride() != plain.stride()
    assert torch.equal(odd, plain)


@default_and_torch
@every_layout
def test_a_gradient_of_other_strides_is_matched_by_index_and_not_by_memory(options, layout) -> None:
    odd, plain = odd_and_plain(layout)
    gradient = torch.randn(odd.shape, generator=generator(4))
    assert gradient.stride() != odd.stride()
    for param in (odd, plain):
        follow(Lion([param], lr=0.1, **options), param, [gradient])
    assert torch.equal(odd, plain)


@default_and_torch
@pytest.mark.parametrize("gaps_everywhere", [False, True])
def test_a_parameter_with_gaps_in_memory_leaves_the_gaps_alone(options, gaps_everywhere) -> None:
    memory = torch.zeros(4, 6)
    param = with_gradient(memory[:, ::2], torch.ones(4, 6)[:, ::2] if gaps_everywhere else torch.ones(4, 3))
    optimizer = Lion([param], lr=0.5, **options)
    if gaps_everywhere:
        optimizer.state[param] = {"exp_avg": torch.zeros(4, 6)[:, ::2]}
    optimizer.step()
    assert torch.equal(memory, torch.tensor([-0.5, 0.0]).repeat(4, 3))


@every_implementation
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000])
def test_nothing_beyond_the_tensor_is_written(options, size) -> None:
    memory = torch.zeros(size + 64)
    Lion([with_gradient(memory[32 : 32 + size], torch.ones(size))], lr=1.0, **options).step()
    assert torch.equal(memory, torch.nn.functional.pad(-torch.ones(size), (32, 32)))


def test_one_group_may_mix_dtypes_and_layouts() -> None:
    outcomes = []
    for options in ({}, FOREACH, FOR_LOOP):
        single, double = (torch.randn(5, 4, generator=generator(7), dtype=t) for t in (torch.float32, torch.float64))
        params = [Parameter(each) for each in (single, double, double.clone().t(), single.to(torch.cfloat))]
        take_steps(Lion(params, lr=1e-2, weight_decay=0.1, **options), 10)
        outcomes.append(bits(params))
    assert outcomes[0] == outcomes[1] == outcomes[2]


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
    ("device", "dtype", "options", "expected"),
    [
        ("cpu", torch.float32, {}, "_step_in_numba"),
        ("cpu", torch.float32, {"foreach": False}, "_step_in_numba"),
        ("cpu", torch.float32, {"foreach": True}, "_step_in_foreach"),
        ("cpu", torch.float32, {"fused": False}, "_step_one"),
        ("cpu", torch.float16, {}, "_step_one"),
        ("meta", torch.float32, {}, "_step_in_foreach"),
        ("meta", torch.float32, {"foreach": False}, "_step_one"),
    ],
)
def test_device_dtype_and_options_choose_the_implementation(calls, device, dtype, options, expected) -> None:
    ones = torch.ones(3, device=device, dtype=dtype)
    Lion([with_gradient(ones, ones.clone())], **options).step()
    assert calls == [expected]


class Subclass(Tensor):
    pass


WITHOUT_KERNEL = {  # theta, g, and the reason
    "meta": (torch.ones(3, device="meta"),) * 2 + ("runs on a CPU or on CUDA, the parameter is on meta",),
    "bfloat16": (torch.ones(3).bfloat16(),) * 2 + (r"float32 and float64 parameters, this one is torch\.bfloat16",),
    "gaps": (torch.ones(3, 4)[:, ::2], torch.ones(3, 2), "dense memory"),
    "transposed": (torch.ones(3, 2), torch.ones(2, 3).t(), "equal strides"),
    "negated": (torch.zeros(2), NEGATED, r"stored as torch\.float32"),
    "subclass": (
        torch.zeros(1),
        torch.ones(1).as_subclass(Subclass),
        "plain tensors, these are Parameter, Subclass, ",
    ),
}


@pytest.mark.parametrize(("start", "gradient", "reason"), WITHOUT_KERNEL.values(), ids=WITHOUT_KERNEL)
def test_fused_true_where_the_kernel_cannot_run_says_why_and_moves_nothing(start, gradient, reason) -> None:
    fine, param = with_gradient(torch.ones(1), torch.ones(1)), with_gradient(copy.deepcopy(start), gradient)
    with pytest.raises(RuntimeError, match=rf"^`fused=True` is impossible: .*{reason}.*; pass fused=None"):
        Lion([fine, param], fused=True).step()
    assert fine.item() == 1.0
    Lion([fine, param]).step()  # and by default it simply takes another way


@pytest.fixture
def no_kernel_yet(monkeypatch) -> Iterator[None]:
    """Kernels are compiled anew, in the test and after it."""
    cached = (
        kernel_module._load_step,
        kernel_module._warn_of_missing_kernel,
        kernel_module._give_meaning_to_stand_ins,
    )
    for function in cached:
        function.cache_clear()
    yield
    monkeypatch.undo()
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("no_kernel_yet")
def test_without_numba_lion_warns_once_and_gives_the_same_bits_and_fused_true_is_an_error(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.warns(UserWarning, match="without its compiled cpu kernel.*numba") as caught:
        outcome = bits_of(*after_steps(num_steps=3))
    assert len(caught) == 1
    after_steps(num_steps=3)  # a second warning would be an error
    assert outcome == bits_of(*after_steps(num_steps=3, **FOR_LOOP))
    with pytest.raises(RuntimeError, match=r"`fused=True` is impossible: numba cannot compile.*ModuleNotFoundError"):
        after_steps(num_steps=1, **FUSED)


@pytest.mark.usefixtures("no_kernel_yet")
def test_the_kernel_compiles_where_no_cache_can_be_written(monkeypatch) -> None:
    import numba

    original = numba.njit

    def njit(**options):
        if options.pop("cache", False):
            message = "cannot cache function: no locator available"
            raise RuntimeError(message)
        return original(**options)

    monkeypatch.setattr(numba, "njit", njit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = bits_of(*after_steps(num_steps=3, **FUSED))
    assert outcome == bits_of(*after_steps(num_steps=3, **FOR_LOOP))


PACKED_PRODUCT = {"x86_64": "mulps", "AMD64": "mulps", "aarch64": "fmul\tv", "arm64": "fmul\tv"}


@pytest.mark.skipif(os.uname().machine not in PACKED_PRODUCT, reason="its name of a packed product is not known")
def test_the_kernel_is_vectorised() -> None:
    import numba

    kernel_module._give_meaning_to_stand_ins()
    kernel = numba.njit(kernel_module._lion_kernel)
    kernel.compile(numba.void(numba.int64[:, ::1], numba.float32[::1]))
    assert PACKED_PRODUCT[os.uname().machine] in "".join(kernel.inspect_asm().values())


# --- In another process ----------------------------------------------------------------------------------------


def instruction_set_and_digest() -> list[str]:
    """The instruction set that torch uses, and what its plain operations make of Lion's steps."""
    outcome = bits_of(*after_steps(**FOR_LOOP))
    return [torch.backends.cpu.get_cpu_capability(), hashlib.sha256(b"".join(outcome)).hexdigest()]


@pytest.fixture(scope="module")
def in_another_process() -> dict:
    """What a new process says whose torch has no fused multiply-add."""
    program = """
import json, sys, torch
from replications.lion.optimizer import Lion
weight = torch.nn.Parameter(torch.ones(1))
optimizer = Lion([weight])
knows_numba = "numba" in sys.modules
from replications.lion.test_optimizer import instruction_set_and_digest
print(json.dumps({"knows numba": knows_numba, "set and digest": instruction_set_and_digest()}))
"""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(finished.stdout)


def test_importing_the_module_and_making_an_optimizer_does_not_import_numba(in_another_process) -> None:
    assert not in_another_process["knows numba"]


def test_bits_do_not_depend_on_fused_multiply_add_in_torch(in_another_process) -> None:
    (other_set, other_digest), (this_set, digest) = in_another_process["set and digest"], instruction_set_and_digest()
    if other_set == this_set:
        pytest.skip("this CPU has one instruction set only")
    assert other_digest == digest


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
        outcomes.append(bits_of(params, optimizer))
    assert outcomes[0] == outcomes[1]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


# --- Properties ------------------------------------------------------------------------------------------------

finite = st.floats(-(2.0**100), 2.0**100, width=32)
beta = st.floats(0.0, 0.999)
rows_of_three = st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=12)
vectors = rows_of_three.map(lambda rows: torch.tensor(rows).T)


@settings(deadline=None)
@given(vectors, beta, beta, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_exact_implementations_give_the_same_bits_for_any_input(rows, b1, b2, lr, weight_decay, maximize) -> None:
    outcomes = []
    for options in EXACT.values():
        param = Parameter(rows[0].clone())
        optimizer = Lion([param], lr=lr, betas=(b1, b2), weight_decay=weight_decay, maximize=maximize, **options)
        follow(optimizer, param, [gradient.clone() for gradient in rows[1:]])
        outcomes.append(bits_of([param], optimizer))
    assert outcomes[0] == outcomes[1]

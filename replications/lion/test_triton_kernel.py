"""The kernel for GPUs: in Triton's interpreter everywhere, and on a card where there is one."""

import re
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from replications.lion import kernel as kernel_module
from replications.lion import triton_kernel as module
from replications.lion.optimizer import Lion, _coefficients, _step_one
from replications.lion.test_optimizer import FUSED, assert_a_later_backward_pass_is_refused, bits, bits_of

triton = pytest.importorskip("triton")

BLOCK = 16  # elements, in the interpreter, which takes a millisecond a block
SHAPES = [(), (0,), (BLOCK - 1,), (BLOCK,), (BLOCK + 1,), (3, 5, 7), (0,)]
CARD_SHAPES = [(), (0,), (1,), (1023,), (1024,), (1025,), (300, 257), (2, 3, 4, 5)]
DOWN, UP = (_coefficients(1e-2, 0.9, 0.99, 0.1, maximize) for maximize in (False, True))
RATE = torch.tensor(1e-2, dtype=torch.float64)

Triple = tuple[Tensor, Tensor, Tensor]


def random_tensors(shapes: list[tuple[int, ...]], dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """Numbers of all magnitudes, with exact zeros of both signs, infinities, NaN and the smallest number."""
    rng = np.random.default_rng(seed)
    tensors = []
    for shape in shapes:
        values = rng.standard_normal(shape) * 10 ** rng.uniform(-3, 3, shape)
        rare = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 2.0**-149, 2.0**-24], shape)
        tensors.append(torch.tensor(np.where(rng.random(shape) < 0.1, rare, values)).to(dtype))
    return tensors


def random_triples(dtype: torch.dtype) -> list[Triple]:
    return list(zip(*(random_tensors(SHAPES, dtype, seed) for seed in range(3)), strict=True))


def results(triples: list[Triple]) -> list[bytes]:
    return bits([tensor for param, _, momentum in triples for tensor in (param, momentum)])


def make(device: str, dtype: torch.dtype, shapes: list[tuple[int, ...]], **options) -> tuple[list[Parameter], Lion]:
    params = [Parameter(torch.nan_to_num(tensor).to(device)) for tensor in random_tensors(shapes, dtype)]
    return params, Lion(params, **{"lr": 1e-2, "weight_decay": 0.1, **options})


def give_gradients(params: list[Parameter], seed: int) -> None:
    """Into the same memory, as a CUDA graph needs it."""
    shapes = [tuple(param.shape) for param in params]
    for param, gradient in zip(params, random_tensors(shapes, params[0].dtype, seed), strict=True):
        if param.grad is None:
            param.grad = torch.zeros_like(param)
        param.grad.copy_(torch.nan_to_num(gradient))


def take_steps(params: list[Parameter], optimizer: Lion, num_steps: int) -> list[bytes]:
    for seed in range(num_steps):
        give_gradients(params, seed)
        optimizer.step()
    return bits_of(params, optimizer)


# --- In the interpreter ----------------------------------------------------------------------------------------


def forget() -> None:
    module._compiled_kernel.cache_clear()
    module._kept_table.cache_clear()


@pytest.fixture
def interpreter(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", BLOCK)
    forget()
    yield
    forget()


@pytest.fixture
def lion_in_triton(interpreter, monkeypatch) -> None:
    """`Lion` sends tensors on the CPU to the kernel for GPUs."""
    monkeypatch.setattr(kernel_module, "_load_step", lambda *_: module.step_in_triton)
    monkeypatch.setattr(kernel_module, "CPU_DTYPES", kernel_module.CUDA_DTYPES)


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("coefficients", "as_floats"),
    [
        pytest.param(DOWN, DOWN, id="down"),
        pytest.param(UP, UP, id="up"),
        pytest.param((*DOWN[:4], 1 - RATE * 0.1, -RATE), DOWN, id="rate on the device"),
    ],
)
def test_the_kernel_gives_the_bits_of_plain_torch(dtype, coefficients, as_floats) -> None:
    triples, expected = random_triples(dtype), random_triples(dtype)
    for _ in range(3):
        module.step_in_triton(triples, coefficients)
        for triple in expected:
            _step_one(triple, as_floats)
    assert results(triples) == results(expected)
    assert results(triples) != results(random_triples(dtype))


@pytest.mark.usefixtures("interpreter")
def test_bfloat16_is_computed_in_float32_and_rounded_at_the_end() -> None:
    triples = random_triples(torch.bfloat16)
    expected = [tuple(tensor.float() for tensor in triple) for triple in triples]
    module.step_in_triton(triples, DOWN)
    for triple in expected:
        _step_one(triple, DOWN)
        for tensor in triple:  # the interpreter cuts the last 16 bits off, where a GPU rounds to the nearest
            tensor.view(torch.int32).bitwise_and_(-(2**16))
    assert results(triples) == results(expected)


@pytest.mark.usefixtures("interpreter")
def test_one_launch_updates_all_tensors(monkeypatch) -> None:
    launches, kernel = [], module._compiled_kernel()

    class Counting:
        def __getitem__(self, grid: tuple[int, ...]):
            launches.append(grid)
            return kernel[grid]

    with monkeypatch.context() as patch:
        patch.setattr(module, "_compiled_kernel", Counting)
        module.step_in_triton(random_triples(torch.float32), DOWN)
    assert launches == [(sum(-(-torch.Size(shape).numel() // BLOCK) for shape in SHAPES),)]


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("offset", [4, 5])  # in float32: at a multiple of 16 bytes, and not
@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_nothing_beyond_the_tensor_is_written(offset, size) -> None:
    memory = torch.zeros(3, 64)
    memory[1] = 1.0
    triple = tuple(row[offset : offset + size] for row in memory)
    module.step_in_triton([triple], _coefficients(1.0, 0.5, 0.5, 0.0, maximize=False))
    assert torch.equal(triple[0], -torch.ones(size))
    assert memory[0].count_nonzero() == memory[2].count_nonzero() == size


@pytest.mark.usefixtures("lion_in_triton")
def test_a_backward_pass_through_weights_that_a_step_changed_is_an_error() -> None:
    assert_a_later_backward_pass_is_refused(Lion)


def test_a_table_written_by_value_equals_one_that_is_copied() -> None:
    rows, num_blocks, aligned = module._rows((2**47 + 16, 32, 48, 2**47, 80, 96), (1500, 3))
    assert rows == [2**47 + 16, 32, 48, 1500, 0, 2**47, 80, 96, 3, 2]
    assert (num_blocks, aligned) == (3, True)
    assert module._write_by_value(rows, torch.device("cpu")).tolist() == rows
    assert not module._rows((16, 32, 52), (3,))[2]


def test_without_triton_there_is_a_reason_and_no_kernel(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    forget()
    kernel_module._load_step.cache_clear()
    reason = kernel_module._load_step(torch.device("meta"), torch.float32)
    assert re.match(r"triton cannot compile the kernel \(ModuleNotFoundError: ", str(reason))
    forget()


# --- What Triton compiles, on any machine ----------------------------------------------------------------------


def assembly(dtype: torch.dtype, alignment: int = 16, **options) -> str:
    """The kernel for an H100 as assembly."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    forget()
    kernel = module._compiled_kernel()
    floats = dict.fromkeys(("beta1", "grad1", "beta2", "grad2", "decay", "minus_lr"), "fp32")
    constants = {
        "rates": None,
        "DTYPE": module._triton_dtype(dtype),
        "ALIGNMENT": alignment,
        "BLOCK": module.BLOCK_ELEMENTS,
    }
    signature = {"table": "*i64", "num_tensors": "i32", **floats, **dict.fromkeys(constants, "constexpr")}
    signature = {name: signature[name] for name in kernel.arg_names}
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    target = GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options={**module.COMPILER_OPTIONS, **options}).asm["ptx"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_compiled_kernel_has_no_fused_multiply_add_and_keeps_subnormals(dtype) -> None:
    text = assembly(dtype)
    assert "mul" in text
    assert not re.search(r"\bfma\b|\.ftz\b", text)
    assert re.search(r"\bfma\b", assembly(dtype, enable_fp_fusion=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiled_kernel_loads_and_stores_16_bytes_at_once(dtype) -> None:
    threads = 32 * module.COMPILER_OPTIONS["num_warps"]
    accesses = module.BLOCK_ELEMENTS * dtype.itemsize // module.VECTOR_BYTES // threads  # of a thread to one array
    aligned, unaligned = assembly(dtype), assembly(dtype, alignment=1)
    for pattern, arrays in ((r"ld\.global\.v4\.b32", 3), (r"st\.global\.v4\.b32", 2)):
        assert len(re.findall(pattern, aligned)) == arrays * accesses
        assert not re.search(pattern, unaligned)


# --- On a card -------------------------------------------------------------------------------------------------

on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@on_a_card
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_50_steps_on_a_card_give_the_bits_of_the_cpu(dtype) -> None:
    on_card = take_steps(*make("cuda", dtype, CARD_SHAPES, **FUSED), num_steps=50)
    assert on_card == take_steps(*make("cpu", dtype, CARD_SHAPES), num_steps=50)


@on_a_card
@pytest.mark.parametrize("of_lr", [float, lambda lr: torch.tensor(lr, device="cuda")], ids=["float", "tensor"])
def test_a_cuda_graph_replays_the_step(of_lr) -> None:
    params, optimizer = make("cuda", torch.float32, CARD_SHAPES, lr=of_lr(1e-2))
    peers, peer = make("cpu", torch.float32, CARD_SHAPES)
    give_gradients(params, 0)
    optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    give_gradients(peers, 0)
    peer.step()
    for seed in range(1, 6):
        if isinstance(optimizer.param_groups[0]["lr"], Tensor):
            optimizer.param_groups[0]["lr"].fill_(1e-2 / seed)
            peer.param_groups[0]["lr"] = float(torch.tensor(1e-2 / seed))
        give_gradients(params, seed)
        graph.replay()
        give_gradients(peers, seed)
        peer.step()
    assert bits_of(params, optimizer) == bits_of(peers, peer)


@on_a_card
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_a_capture_before_the_first_step_is_refused() -> None:
    params, optimizer = make("cuda", torch.float32, CARD_SHAPES)
    give_gradients(params, 0)
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="take one step before the capture"), torch.cuda.graph(graph):
        optimizer.step()


@on_a_card
def test_a_step_needs_no_memory_of_the_size_of_the_parameters() -> None:
    param = Parameter(torch.zeros(10_000_000, device="cuda"))
    param.grad = torch.ones_like(param)
    optimizer = Lion([param], fused=True)
    optimizer.step()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    optimizer.step()
    assert torch.cuda.max_memory_allocated() - before < 1e-3 * param.nbytes

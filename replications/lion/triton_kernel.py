"""Lion's step as one launch over many tensors, on a GPU; the method itself is in optimizer.py.

Triton compiles `_lion_kernel` when it is first needed. A table in the device's memory says where each tensor lies, and
each program of the launch looks up in it which block of which tensor is its own: the number of launches does not grow
with the number of tensors, and nothing of their size is allocated. Contraction to fused multiply-adds is off, so the
kernel rounds as plain torch does and gives the same bits (where a result is NaN, a NaN of possibly other bits).
"""

# Triton compiles these; its stubs do not know what its constants are.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

# pyright: reportPrivateImportUsage=false
# (`torch._foreach_*` are public in all but their type stubs.)

from __future__ import annotations  # for those of the kernel, where `tl` is not imported yet

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

if TYPE_CHECKING:
    import triton.language as tl

    from replications.lion.kernel import Coefficients, TensorTriple

__all__ = ["step_in_triton"]

# Elements of one tensor that a program of the launch updates.
BLOCK_ELEMENTS = 1024
# Four warps of 32 threads share them; no product and sum may become one fused multiply-add.
COMPILER_OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}

# Addresses that are a multiple of this let a thread load and store 16 bytes at once.
VECTOR_BYTES = 16


def step_in_triton(triples: list[TensorTriple], coefficients: Coefficients) -> None:
    """One Lion step on many tensors of one device and one dtype, in place, by one launch.

    For each element: theta <- theta (1 - eta lambda) - eta sign(b1 m + (1 - b1) g), m <- b2 m + (1 - b2) g
    (arXiv 2302.06675), every product and sum rounded to float32 and the two results to the tensors' dtype.

    Args:
        triples: theta, g and m of each tensor: float32, bfloat16 or float16, dense, of equal strides.
        coefficients: b1, 1 - b1, b2, 1 - b2, 1 - eta lambda, -eta. The last two may be tensors on the device, which
            are then read there, in each replay of a CUDA graph anew.
    """
    params = [param for param, _, _ in triples]
    addresses = tuple(tensor.data_ptr() for triple in triples for tensor in triple)
    sizes = tuple(param.numel() for param in params)
    with torch.cuda.device_of(params[0]):  # on a CPU, where Triton's interpreter runs in tests, this does nothing
        table, num_blocks, aligned = _make_table(addresses, sizes, params[0].device)
        *factors, decay, minus_lr = coefficients
        rates = None
        if isinstance(decay, Tensor) and isinstance(minus_lr, Tensor):
            rates = torch.stack((decay, minus_lr)).to(params[0].device, torch.float32)
            decay = minus_lr = 0.0
        _compiled_kernel()[(num_blocks,)](
            table,
            len(triples),
            rates,
            *factors,
            decay,
            minus_lr,
            DTYPE=_triton_dtype(params[0].dtype),
            ALIGNMENT=VECTOR_BYTES if aligned else 1,
            BLOCK=BLOCK_ELEMENTS,
            **COMPILER_OPTIONS,
        )
    # The kernel writes behind autograd's back: without this a second backward would use changed weights.
    increment_version(params)


# --- The table of tensors --------------------------------------------------------------------------------------


def _make_table(addresses: tuple[int, ...], sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, int, bool]:
    """The table that the kernel reads, the number of blocks, and whether all addresses suit vectors."""
    if device.type != "cuda":
        return _kept_table(addresses, sizes, device, 0)
    if torch.cuda.is_current_stream_capturing():
        # A replay would copy again from host memory, which by then may hold something else.
        rows, num_blocks, aligned = _rows(addresses, sizes)
        return _write_by_value(rows, device), num_blocks, aligned
    return _kept_table(addresses, sizes, device, torch.cuda.current_stream(device).cuda_stream)


@functools.lru_cache(maxsize=16)
def _kept_table(
    addresses: tuple[int, ...],
    sizes: tuple[int, ...],
    device: torch.device,
    _stream: int,  # on another stream the copy might come too late
) -> tuple[Tensor, int, bool]:
    """The table, kept for later steps: gradients of a training loop mostly come back to the same addresses."""
    rows, num_blocks, aligned = _rows(addresses, sizes)
    host = torch.tensor(rows, dtype=torch.int64, pin_memory=device.type == "cuda")
    return host.to(device, non_blocking=True), num_blocks, aligned


def _write_by_value(numbers: list[int], device: torch.device) -> Tensor:
    """Numbers on the device, sent as arguments of a few launches: a CUDA graph keeps these."""
    written = torch.zeros(len(numbers), dtype=torch.int64, device=device)
    torch._foreach_add_(written.unbind(), numbers)
    return written


def _rows(addresses: Sequence[int], sizes: Sequence[int]) -> tuple[list[int], int, bool]:
    """Addresses of theta, g and m, number of elements and first block of each tensor; all blocks; whether aligned."""
    rows: list[int] = []
    num_blocks = 0
    for index, size in enumerate(sizes):
        rows += (*addresses[3 * index : 3 * index + 3], size, num_blocks)
        num_blocks += -(-size // BLOCK_ELEMENTS)
    return rows, num_blocks, not any(address % VECTOR_BYTES for address in addresses)


# --- The kernel ------------------------------------------------------------------------------------------------


@functools.cache
def _compiled_kernel() -> Any:
    """The kernel as Triton's function, which compiles it for each dtype when it is first launched."""
    # Imported here, as `tl` of this module, because Triton is not everywhere and takes a second to import.
    global tl
    import triton
    import triton.language as tl

    return triton.jit(_lion_kernel, do_not_specialize=["num_tensors"])


def _triton_dtype(dtype: torch.dtype) -> Any:
    """Triton's name of a dtype."""
    return getattr(tl, str(dtype).removeprefix("torch."))


def _lion_kernel(
    table,
    num_tensors,
    rates,
    beta1,
    grad1,
    beta2,
    grad2,
    decay,
    minus_lr,
    DTYPE: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One step on one block of one tensor; compiled by Triton, never run by Python."""
    block = tl.program_id(0)
    low = 0
    high = num_tensors
    while high - low > 1:  # the last row whose first block is not behind this one
        middle = (low + high) // 2
        if tl.load(table + middle * 5 + 4) <= block:
            low = middle
        else:
            high = middle
    row = table + low * 5
    start = (block - tl.load(row + 4)) * BLOCK
    size = tl.load(row + 3) - start
    params = tl.multiple_of(tl.load(row).to(tl.pointer_type(DTYPE)) + start, ALIGNMENT)
    gradients = tl.multiple_of(tl.load(row + 1).to(tl.pointer_type(DTYPE)) + start, ALIGNMENT)
    momenta = tl.multiple_of(tl.load(row + 2).to(tl.pointer_type(DTYPE)) + start, ALIGNMENT)
    if rates is not None:
        decay = tl.load(rates)
        minus_lr = tl.load(rates + 1)
    offsets = tl.arange(0, BLOCK)
    for is_last in tl.static_range(2):  # compiled twice, since only loads without a mask become vectors
        if (size < BLOCK) == is_last:
            mask = offsets < size if is_last else None
            p = tl.load(params + offsets, mask).to(tl.float32)
            g = tl.load(gradients + offsets, mask).to(tl.float32)
            m = tl.load(momenta + offsets, mask).to(tl.float32)
            c = m * beta1 + g * grad1
            sign = tl.where(c > 0, 1.0, tl.where(c < 0, -1.0, c))  # keeps NaN and the sign of zero
            tl.store(params + offsets, (p * decay + sign * minus_lr).to(DTYPE), mask)
            tl.store(momenta + offsets, (m * beta2 + g * grad2).to(DTYPE), mask)

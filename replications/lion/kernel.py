"""Lion's step as one compiled pass over memory; the method itself is in optimizer.py.

`split_off_kernel` says which tensors a kernel can update, and with what. The kernel for GPUs is in triton_kernel.py.
The one for CPUs is here and runs on one core: Numba compiles `_lion_kernel` for float32 and for float64 when it is
first needed. It contracts nothing to fused multiply-adds unless `fastmath` is asked for, so the kernel rounds as plain
torch does and gives the same bits.
"""

# pyright: reportPrivateImportUsage=false
# (`numba.carray` is public in all but its type stubs.)

import functools
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

__all__ = ["Coefficients", "Step", "TensorTriple", "by_device_and_dtype", "split_off_kernel"]

# Elements handled between two rounds of prefetching, and how far ahead these reach. Hardware prefetchers
# stop at every 4 KiB page; fetching 2 KiB ahead by hand saved about 10 % of the step where it was measured.
BLOCK_ELEMENTS = 256
PREFETCH_ELEMENTS = 512
CACHE_LINE_BYTES = 64

CPU_DTYPES = (torch.float32, torch.float64)
CUDA_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PLAIN_TENSOR_TYPES = ((torch.nn.Parameter, Tensor, Tensor), (Tensor, Tensor, Tensor))

TensorTriple = tuple[Tensor, Tensor, Tensor]
Coefficients = tuple[float, float, float, float, float | Tensor, float | Tensor]
Step = Callable[[list[TensorTriple], Coefficients], None]
Kernel = Callable[[np.ndarray, np.ndarray], None]


def split_off_kernel(
    triples: list[TensorTriple], *, required: bool
) -> tuple[list[tuple[Step, list[TensorTriple]]], list[TensorTriple]]:
    """Tensors that a kernel can update, with the function that does, and the others.

    A kernel takes plain, dense tensors, float32 or float64 on a CPU, float32, bfloat16 or float16 on a GPU; parameter,
    gradient and momentum of one tensor must agree in dtype, shape and strides. The function takes the tensors that
    came with it, whose addresses it does not check again, and the coefficients b1, 1 - b1, b2, 1 - b2, 1 - eta lambda,
    -eta. For each element: theta <- theta (1 - eta lambda) - eta sign(b1 m + (1 - b1) g), m <- b2 m + (1 - b2) g
    (arXiv 2302.06675). The first call for a device and a dtype compiles, or reads from a cache.

    Args:
        triples: theta, g and m of each tensor, all real.
        required: Whether a tensor without a kernel is an error; else a missing compiler is one warning.

    Returns:
        Each kernel's function with its tensors, and the tensors that no kernel can update.

    Raises:
        RuntimeError: If `required` and there are others; it says why the first of them is one.
    """
    suited, others = [], []
    for triple in triples:
        obstacle = _kernel_obstacle(*triple)
        if obstacle is None:
            suited.append(triple)
        elif required:
            _refuse_fused(obstacle)
        else:
            others.append(triple)
    in_kernel = []
    for (device, dtype), batch in by_device_and_dtype(suited).items():
        step = _load_step(device, dtype)
        if not isinstance(step, str):
            in_kernel.append((step, batch))
        elif required:
            _refuse_fused(step)
        else:
            _warn_of_missing_kernel(device.type, step)
            others += batch
    return in_kernel, others


def by_device_and_dtype(triples: list[TensorTriple]) -> dict[tuple[torch.device, torch.dtype], list[TensorTriple]]:
    """Batches of tensors that one call of a kernel, or of torch's foreach functions, can take."""
    batches: dict[tuple[torch.device, torch.dtype], list[TensorTriple]] = {}
    for triple in triples:
        batches.setdefault((triple[0].device, triple[0].dtype), []).append(triple)
    return batches


# --- Which tensors the kernel can update -----------------------------------------------------------------------


def _refuse_fused(reason: str) -> NoReturn:
    """Raise the error of `fused=True` where there is no kernel."""
    message = f"`fused=True` is impossible: {reason}; pass fused=None or fused=False"
    raise RuntimeError(message)


def _kernel_obstacle(param: Tensor, gradient: Tensor, momentum: Tensor) -> str | None:
    """Why no kernel can run on these tensors, or None if one can."""
    # Asked for each tensor in each step, because gradients are usually new tensors in each; so keep it fast.
    device, dtype = param.device, param.dtype
    if device != gradient.device or device != momentum.device or not (param.is_cpu or param.is_cuda):
        return f"a kernel runs on a CPU or on CUDA, the parameter is on {device}, its momentum on {momentum.device}"
    kernel_dtypes = CPU_DTYPES if param.is_cpu else CUDA_DTYPES
    if dtype not in kernel_dtypes:
        names = " and ".join(str(each).removeprefix("torch.") for each in kernel_dtypes)
        return f"the {device.type} kernel takes {names} parameters, this one is {dtype}"
    types = (type(param), type(gradient), type(momentum))
    if types not in PLAIN_TENSOR_TYPES:
        return f"the kernel takes plain tensors, these are {', '.join(each.__name__ for each in types)}"
    shape = param.shape
    if gradient.shape != shape or momentum.shape != shape:  # the kernel would leave the tensor's memory
        return f"shapes differ: parameter {shape}, gradient {gradient.shape}, momentum {momentum.shape}"
    if gradient.dtype is not dtype or momentum.dtype is not dtype or gradient.is_neg() or param.is_neg():
        return f"the kernel needs a gradient and a momentum stored as {dtype}, as the parameter is"
    contiguous = param.is_contiguous() and gradient.is_contiguous() and momentum.is_contiguous()
    if not contiguous and not _share_dense_layout(param, gradient, momentum):
        return "the kernel needs dense memory and equal strides of parameter, gradient and momentum"
    return None


def _share_dense_layout(*tensors: Tensor) -> bool:
    """Whether all tensors fill one block of memory each, with equal strides (of dimensions longer than 1)."""
    layouts = {
        tuple((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1)
        for tensor in tensors
    }
    extent = 1
    for stride, size in sorted(next(iter(layouts))):
        if stride != extent:
            return False
        extent *= size
    return len(layouts) == 1


# --- Compilation -----------------------------------------------------------------------------------------------


@functools.cache
def _load_step(device: torch.device, dtype: torch.dtype) -> Step | str:
    """What updates tensors of one device and dtype in a kernel, or the reason why nothing does."""
    try:
        if device.type == "cpu":
            return functools.partial(_step_in_numba, _compile_kernel(_numpy_name(dtype)))
        from replications.lion.triton_kernel import step_in_triton

        zero = torch.zeros(1, dtype=dtype, device=device)
        step_in_triton([(zero, zero, zero)], (0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    except Exception as error:  # a missing, broken or too old compiler must not stop a training run
        compiler, first_line = "numba" if device.type == "cpu" else "triton", str(error).partition("\n")[0]
        return f"{compiler} cannot compile the kernel ({type(error).__name__}: {first_line})"
    return step_in_triton


@functools.cache
def _warn_of_missing_kernel(device_type: str, failure: str) -> None:
    """Say once, per process, that the fast path is missing."""
    message = f"Lion runs without its compiled {device_type} kernel, several times slower: {failure}"
    warnings.warn(message, stacklevel=2)


# --- On a CPU --------------------------------------------------------------------------------------------------


def _step_in_numba(kernel: Kernel, triples: list[TensorTriple], coefficients: Coefficients) -> None:
    """One step on many tensors of one dtype, in place, by one call; every product and sum is rounded to that dtype."""
    table: list[int] = []
    for param, gradient, momentum in triples:
        table += (param.data_ptr(), gradient.data_ptr(), momentum.data_ptr(), param.numel())
    factors = np.array([float(factor) for factor in coefficients], dtype=_numpy_name(triples[0][0].dtype))
    kernel(np.array(table, dtype=np.int64).reshape(-1, 4), factors)
    # The kernel writes behind autograd's back: without this a second backward would use changed weights.
    increment_version([param for param, _, _ in triples])


def _numpy_name(dtype: torch.dtype) -> str:
    """Name of a dtype that NumPy and Numba know: "float32" or "float64"."""
    return str(dtype).removeprefix("torch.")


def _compile_kernel(dtype_name: str) -> Kernel:
    """Compile the kernel, or read it from Numba's cache; without a usable cache, compile in memory."""
    # Numba writes the cache beside this file or in the user's cache directory, each file by an atomic rename, so
    # processes may start together. It is imported here because its import takes longer than torch.optim's.
    import numba

    _give_meaning_to_stand_ins()
    signature = numba.void(numba.int64[:, ::1], getattr(numba, dtype_name)[::1])
    try:
        kernel = numba.njit(cache=True, nogil=True)(_lion_kernel)
        kernel.compile(signature)
    except Exception:  # no writable directory, a full disk, a damaged file: whatever it is, try without
        kernel = numba.njit(nogil=True)(_lion_kernel)
        kernel.compile(signature)
    return kernel


@functools.cache
def _give_meaning_to_stand_ins() -> None:
    """Tell Numba what `_array_at` and `_prefetch` compile to."""
    # `cgutils`, the builder and the name of LLVM's intrinsic are no public interface of Numba. Should a new version
    # change them, the kernel does not compile any more, and Lion says so and steps in plain torch.
    # Both are functions of the module, because the cache key of a closure over an intrinsic holds a random
    # identifier: the cache would fill up and never be met.
    import numba
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic, overload

    @intrinsic
    def pointer(_context: Any, _address: Any, like: Any) -> Any:
        def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(like.dtype)(types.int64, like), lower

    @intrinsic
    def prefetch(_context: Any, _address: Any) -> Any:
        def lower(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            byte_pointer, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
            function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, int32, int32, int32])
            function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
            # To read (0), keep in all caches (3), data and not instructions (1).
            builder.call(function, [builder.inttoptr(arguments[0], byte_pointer), int32(0), int32(3), int32(1)])
            return context.get_dummy_value()

        return types.void(types.int64), lower

    # No annotations here: Numba demands signatures equal to the last letter.
    @overload(_array_at, inline="always")
    def _(address, size, like):  # noqa: ARG001
        return lambda address, size, like: numba.carray(pointer(address, like), (size,))  # pyright: ignore[reportCallIssue]

    @overload(_prefetch, inline="always")
    def _(address):  # noqa: ARG001
        return lambda address: prefetch(address)  # pyright: ignore[reportCallIssue]


# --- The kernel ------------------------------------------------------------------------------------------------


def _lion_kernel(table: np.ndarray, coefficients: np.ndarray) -> None:
    """One step on the memory blocks listed in `table`; compiled by Numba, never run by Python."""
    # table: addresses of theta, g and m and the number of elements, shape (tensors, 4), int64.
    # coefficients: the six factors that `split_off_kernel` names, in the dtype of the tensors.
    beta1, grad1 = coefficients[0], coefficients[1]
    beta2, grad2 = coefficients[2], coefficients[3]
    decay, minus_lr = coefficients[4], coefficients[5]
    one = coefficients.dtype.type(1)  # a literal would make float32 arithmetic double
    width = coefficients.itemsize
    for row in range(table.shape[0]):
        param_at, gradient_at, momentum_at = table[row, 0], table[row, 1], table[row, 2]
        num_elements = table[row, 3]
        for start in range(0, num_elements, BLOCK_ELEMENTS):
            size = min(BLOCK_ELEMENTS, num_elements - start)
            offset = start * width
            ahead = offset + PREFETCH_ELEMENTS * width
            for line in range(ahead, ahead + size * width, CACHE_LINE_BYTES):
                _prefetch(param_at + line)
                _prefetch(gradient_at + line)
                _prefetch(momentum_at + line)
            param = _array_at(param_at + offset, size, coefficients)
            gradient = _array_at(gradient_at + offset, size, coefficients)
            momentum = _array_at(momentum_at + offset, size, coefficients)
            for i in range(size):
                g, m = gradient[i], momentum[i]
                c = m * beta1 + g * grad1
                sign = one if c > 0 else (-one if c < 0 else c)  # keeps NaN and the sign of zero
                param[i] = param[i] * decay + sign * minus_lr
                momentum[i] = m * beta2 + g * grad2


def _array_at(address: int, size: int, like: np.ndarray) -> np.ndarray:
    """Array over foreign memory with the dtype of `like`; exists in compiled code only."""
    raise NotImplementedError


def _prefetch(address: int) -> None:
    """Ask for the cache line at an address, which need not be valid; exists in compiled code only."""
    raise NotImplementedError

"""Lion (evolved sign momentum), the optimizer of arXiv 2302.06675 with decoupled weight decay.

Letters: theta parameter, g gradient, m momentum (exponential moving average of g, zero at the start),
eta learning rate, lambda weight decay, b1 and b2 the two betas. One step, for each tensor::

    c     = b1 m + (1 - b1) g                     interpolation, used for the direction only
    theta = (1 - eta lambda) theta - eta sign(c)  decoupled decay
    m     = b2 m + (1 - b2) g                     stored, after the direction was taken

**Rounding.** Three implementations (a compiled CPU kernel, `torch._foreach_*`, one tensor at a time) give the
same bits in float32 and float64, because every product and every sum is rounded on its own. Neither `lerp` nor
`add(alpha=...)` would do: torch evaluates them with or without fused multiply-add according to the instruction
set. The one `add(alpha=-eta)` is safe, since its factor is -1, 0 or 1 and the product is therefore exact. Numba
contracts nothing unless `fastmath` is asked for.

**Sign.** sign(+0) = +0, sign(-0) = -0, sign(subnormal) = +-1 and sign(NaN) = NaN. `torch.sign(NaN)` is 0,
which would leave finite, frozen weights behind a momentum of NaN and so hide a diverged run.
"""

# pyright: reportPrivateImportUsage=false
# (`torch._foreach_*` and `numba.carray` are public in all but their type stubs.)

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim.optimizer import Optimizer, ParamsT

__all__ = ["Lion", "lion_update"]

# Elements handled between two rounds of prefetching, and how far ahead these reach. Hardware prefetchers
# stop at every 4 KiB page; fetching 2 KiB ahead by hand saved about 10 % of the step where it was measured.
BLOCK_ELEMENTS = 256
PREFETCH_ELEMENTS = 512
CACHE_LINE_BYTES = 64

KERNEL_DTYPES = (torch.float32, torch.float64)
PLAIN_TENSOR_TYPES = ((torch.nn.Parameter, Tensor, Tensor), (Tensor, Tensor, Tensor))

TensorTriple = tuple[Tensor, Tensor, Tensor]
Kernel = Callable[[np.ndarray, np.ndarray], None]


def lion_update(gradient: Tensor, momentum: Tensor, *, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    """Direction of a Lion step and the momentum that follows it.

    Implements the update of arXiv 2302.06675: u = sign(b1 m + (1 - b1) g) and
    m' = b2 m + (1 - b2) g. The step itself is theta' = (1 - eta lambda) theta - eta u.

    Args:
        gradient: g, real, any shape.
        momentum: m, shape and dtype of `gradient`.
        beta1: b1 in [0, 1), weight of the momentum in the direction.
        beta2: b2 in [0, 1), weight of the momentum in the next momentum.

    Returns:
        The direction u, every element -1, 0, 1 or NaN, and the new momentum m'; shapes of `gradient`.

    Example:
        >>> direction, momentum = lion_update(torch.tensor([2.0, 0.0, -1e-3]), torch.zeros(3), beta1=0.9, beta2=0.5)
        >>> direction.tolist(), momentum.tolist()[0]
        ([1.0, 0.0, -1.0], 1.0)
    """
    direction = _sign_(momentum.mul(beta1).add_(gradient.mul(1 - beta1)))
    return direction, momentum.mul(beta2).add_(gradient.mul(1 - beta2))


class Lion(Optimizer):
    """Lion, with the conventions of `torch.optim` (groups, state dict, closure, error messages).

    One tensor of state, `exp_avg`, of the parameter's dtype and memory format: half of AdamW's two.
    Parameters without a gradient are skipped: no decay, no step, no state. A gradient of NaN makes the parameter NaN.

    Differences from the source: the decay factor is applied to theta before the sign step, as one product,
    which is the same in exact arithmetic; complex parameters are treated as pairs of reals.

    Args:
        params: Tensors, named tensors or dicts of groups, as for `torch.optim.AdamW`.
        lr: eta >= 0, a float or a tensor of one element. A third to a tenth of AdamW's is usual.
        betas: (b1, b2), each in [0, 1).
        weight_decay: lambda >= 0; lr * weight_decay > 1 is accepted with one warning.
        maximize: Ascend instead of descend.
        foreach: Use `torch._foreach_*`. None means: for tensors that are not on a CPU. It needs about one more
            copy of the parameters in temporaries and gains nothing on a CPU, where torch moreover rounds its factors
            to bfloat16 or float16 if the tensors are of that dtype.
        fused: Use the compiled kernel, one pass over memory on one thread whatever `torch.get_num_threads()` says.
            None means: wherever it can run (dense float32 or float64 on a CPU; parameter, gradient and momentum of
            equal strides), unless `foreach` is true. True means: or else an error.

    Raises:
        ValueError: If lr, a beta or the weight decay is outside its range, or `params` is empty.
        TypeError: If `params` is a tensor, is unordered, or holds what is no tensor.
        RuntimeError: If `fused` and `foreach` are both true; in `step`, if a gradient is sparse, or `fused` is true
            where the kernel cannot run.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
        >>> optimizer = Lion([weight], lr=0.25, fused=False)
        >>> (3 * weight).sum().backward()
        >>> optimizer.step()
        >>> weight.tolist()
        [0.75, -1.25]
    """

    _warned_of_sign_flip = False

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        """Check the options and register the parameters; the class says what each means."""
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
        }
        _check_options(defaults)
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded optimizer, filling in options that older states lack.

        Args:
            state: As made by `__getstate__`: defaults, state and param_groups.
        """
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, after checking its options as the constructor checks the defaults.

        Args:
            param_group: `params` and the options that differ from the defaults.
        """
        if isinstance(param_group, dict):  # anything else: let torch refuse it in its own words
            options = {**self.defaults, **param_group}
            _check_options(options)
            self._warn_if_decay_flips_signs(float(options["lr"]), options["weight_decay"])
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Evaluates the model again, computes gradients, and returns the loss.

        Returns:
            What `closure` returned, or None without a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        """Send each tensor of a group to the implementation that suits it."""
        lr = float(group["lr"])
        self._warn_if_decay_flips_signs(lr, group["weight_decay"])
        coefficients = _coefficients(group, lr)
        in_kernel, others = _split_off_kernel(self._gather(group), group["fused"], group["foreach"])
        foreach = group["foreach"]
        in_foreach = [triple for triple in others if foreach or (foreach is None and not triple[0].is_cpu)]
        one_by_one = [triple for triple in others if foreach is False or (foreach is None and triple[0].is_cpu)]
        for kernel, triples in in_kernel:
            _step_in_kernel(kernel, triples, coefficients)
        for (_, dtype), triples in _by_device_and_dtype(in_foreach).items():
            _step_in_foreach(dtype, triples, coefficients)
        for triple in one_by_one:
            _step_one(triple, coefficients)

    def _gather(self, group: dict[str, Any]) -> list[TensorTriple]:
        """Parameter, gradient and momentum of each tensor to update, all real; makes missing momenta."""
        triples = []
        for param in group["params"]:
            gradient = param.grad
            if gradient is None:
                continue
            if gradient.layout is not torch.strided:
                message = "Lion does not support sparse gradients"
                raise RuntimeError(message)
            state = self.state[param]
            if not state:
                state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            triple = (param, gradient, state["exp_avg"])
            triples.append(_as_real(triple) if param.is_complex() else triple)
        return triples

    def _warn_if_decay_flips_signs(self, lr: float, weight_decay: float) -> None:
        """Say once, per optimizer, that 1 - eta lambda is negative."""
        if lr * weight_decay > 1 and not self._warned_of_sign_flip:
            self._warned_of_sign_flip = True
            message = (
                f"lr * weight_decay = {lr} * {weight_decay} exceeds 1, so each step multiplies the weights by a "
                "negative number and flips their signs; lower one of the two"
            )
            warnings.warn(message, stacklevel=5)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse options outside their range, in the words of `torch.optim`; NaN fails every comparison."""
    lr, weight_decay = options["lr"], options["weight_decay"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        message = "Tensor lr must be 1-element"
        raise ValueError(message)
    if not lr >= 0.0:
        message = f"Invalid learning rate: {lr}"
        raise ValueError(message)
    for index, beta in enumerate(options["betas"]):
        if not 0.0 <= beta < 1.0:
            message = f"Invalid beta parameter at index {index}: {beta}"
            raise ValueError(message)
    if not weight_decay >= 0.0:
        message = f"Invalid weight_decay value: {weight_decay}"
        raise ValueError(message)
    if options["fused"] and options["foreach"]:
        message = "`fused` and `foreach` cannot be `True` together."
        raise RuntimeError(message)


def _coefficients(group: dict[str, Any], lr: float) -> tuple[float, float, float, float, float, float]:
    """The six factors of a step: b1, 1 - b1, b2, 1 - b2, 1 - eta lambda, -eta."""
    # To maximise is to step along -g: the two factors of g change sign, which is exact.
    beta1, beta2 = map(float, group["betas"])
    sign = -1.0 if group["maximize"] else 1.0
    return beta1, sign * (1 - beta1), beta2, sign * (1 - beta2), 1 - lr * group["weight_decay"], -lr


def _as_real(triple: TensorTriple) -> TensorTriple:
    """Views of complex tensors as pairs of reals, so that real and imaginary part each have a sign."""
    param, gradient, momentum = (torch.view_as_real(tensor.resolve_conj()) for tensor in triple)
    return param, gradient, momentum


# --- Plain torch -----------------------------------------------------------------------------------------------


def _sign_scale(dtype: torch.dtype) -> float:
    """Largest power of two of a dtype; multiplied twice it lifts the smallest subnormal above 1."""
    return 2.0 / torch.finfo(dtype).tiny


def _sign_(values: Tensor) -> Tensor:
    """Sign in place, with NaN and the sign of zero kept; `torch.sign` would turn NaN into 0."""
    scale = _sign_scale(values.dtype)
    return values.mul_(scale).mul_(scale).clamp_(-1, 1)


def _step_one(triple: TensorTriple, coefficients: tuple[float, ...]) -> None:
    """One step on one tensor, in place."""
    param, gradient, momentum = triple
    beta1, grad1, beta2, grad2, decay, minus_lr = coefficients
    direction = _sign_(momentum.mul(beta1).add_(gradient.mul(grad1)))
    param.mul_(decay).add_(direction, alpha=minus_lr)
    momentum.mul_(beta2).add_(gradient.mul(grad2))


def _by_device_and_dtype(
    triples: Iterable[TensorTriple],
) -> dict[tuple[torch.device, torch.dtype], list[TensorTriple]]:
    """Batches that one foreach call can take."""
    batches: dict[tuple[torch.device, torch.dtype], list[TensorTriple]] = {}
    for triple in triples:
        batches.setdefault((triple[0].device, triple[0].dtype), []).append(triple)
    return batches


def _step_in_foreach(dtype: torch.dtype, triples: list[TensorTriple], coefficients: tuple[float, ...]) -> None:
    """One step on many tensors of one device and dtype, in place, by one call of torch per operation."""
    beta1, grad1, beta2, grad2, decay, minus_lr = coefficients
    params, gradients, momenta = map(list, zip(*triples, strict=True))
    directions = torch._foreach_mul(momenta, beta1)
    torch._foreach_add_(directions, torch._foreach_mul(gradients, grad1))
    torch._foreach_mul_(directions, _sign_scale(dtype))
    torch._foreach_mul_(directions, _sign_scale(dtype))
    torch._foreach_clamp_min_(directions, -1)
    torch._foreach_clamp_max_(directions, 1)
    torch._foreach_mul_(params, decay)
    torch._foreach_add_(params, directions, alpha=minus_lr)
    torch._foreach_mul_(momenta, beta2)
    torch._foreach_add_(momenta, torch._foreach_mul(gradients, grad2))


# --- Compiled kernel -------------------------------------------------------------------------------------------


def _split_off_kernel(
    triples: list[TensorTriple], fused: bool | None, foreach: bool | None
) -> tuple[list[tuple[Kernel, list[TensorTriple]]], list[TensorTriple]]:
    """The tensors that kernels update, and the others; an error if there are others and `fused` is true."""
    if fused is False or (fused is None and (foreach or torch.compiler.is_compiling())):
        return [], triples
    suited: dict[torch.dtype, list[TensorTriple]] = {}
    others = []
    for triple in triples:
        obstacle = _kernel_obstacle(*triple)
        if obstacle is None:
            suited.setdefault(triple[0].dtype, []).append(triple)
        elif fused:
            _refuse_fused(obstacle)
        else:
            others.append(triple)
    in_kernel = []
    for dtype, batch in suited.items():
        kernel = _load_kernel(dtype)
        if not isinstance(kernel, str):
            in_kernel.append((kernel, batch))
        elif fused:
            _refuse_fused(kernel)
        else:
            _warn_of_missing_kernel(kernel)
            others += batch
    return in_kernel, others


def _refuse_fused(reason: str) -> NoReturn:
    """Raise the error of `fused=True` where there is no kernel."""
    message = f"`fused=True` is impossible: {reason}; pass fused=None or fused=False"
    raise RuntimeError(message)


def _kernel_obstacle(param: Tensor, gradient: Tensor, momentum: Tensor) -> str | None:
    """Why the kernel cannot run on these tensors, or None if it can."""
    # Asked for each tensor in each step, because gradients are usually new tensors in each; so keep it fast.
    dtype = param.dtype
    if dtype not in KERNEL_DTYPES:
        return f"the kernel takes float32 and float64 parameters, this one is {dtype}"
    if not (param.is_cpu and gradient.is_cpu and momentum.is_cpu):
        return f"the kernel runs on the CPU, the parameter is on {param.device}, its momentum on {momentum.device}"
    types = (type(param), type(gradient), type(momentum))
    if types not in PLAIN_TENSOR_TYPES:
        return f"the kernel takes plain tensors, these are {', '.join(each.__name__ for each in types)}"
    if gradient.shape != param.shape or momentum.shape != param.shape:  # the kernel would leave the tensor's memory
        return f"shapes differ: parameter {param.shape}, gradient {gradient.shape}, momentum {momentum.shape}"
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


def _step_in_kernel(kernel: Kernel, triples: list[TensorTriple], coefficients: tuple[float, ...]) -> None:
    """One step on many tensors of the kernel's dtype, in place, by one call."""
    table: list[int] = []
    for param, gradient, momentum in triples:
        table += (param.data_ptr(), gradient.data_ptr(), momentum.data_ptr(), param.numel())
    factors = np.array(coefficients, dtype=_numpy_name(triples[0][0].dtype))
    kernel(np.array(table, dtype=np.int64).reshape(-1, 4), factors)
    # The kernel writes behind autograd's back: without this a second backward would use changed weights.
    increment_version([param for param, _, _ in triples])


def _numpy_name(dtype: torch.dtype) -> str:
    """Name of a dtype that NumPy and Numba know: "float32" or "float64"."""
    return str(dtype).removeprefix("torch.")


@functools.cache
def _load_kernel(dtype: torch.dtype) -> Kernel | str:
    """The kernel for one dtype, or the reason why there is none."""
    try:
        return _compile_kernel(_numpy_name(dtype))
    except Exception as error:  # a missing, broken or too old compiler must not stop a training run
        first_line = str(error).partition("\n")[0]
        return f"numba cannot compile the kernel ({type(error).__name__}: {first_line})"


@functools.cache
def _warn_of_missing_kernel(failure: str) -> None:
    """Say once, per process, that the fast path is missing."""
    message = f"Lion runs without its compiled CPU kernel, several times slower: {failure}"
    warnings.warn(message, stacklevel=2)


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


def _lion_kernel(table: np.ndarray, coefficients: np.ndarray) -> None:
    """One step on the memory blocks listed in `table`; compiled by Numba, never run by Python.

    Args:
        table: Addresses of theta, g and m and the number of elements, shape (tensors, 4), int64.
        coefficients: The six factors of `_coefficients`, in the dtype of the tensors.
    """
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

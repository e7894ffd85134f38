"""Lion (evolved sign momentum), the optimizer of arXiv 2302.06675 with decoupled weight decay.

Letters: theta parameter, g gradient, m momentum (exponential moving average of g, zero at the start),
eta learning rate, lambda weight decay, b1 and b2 the two betas. One step, for each tensor::

    c     = b1 m + (1 - b1) g                     interpolation, used for the direction only
    theta = (1 - eta lambda) theta - eta sign(c)  decoupled decay
    m     = b2 m + (1 - b2) g                     stored, after the direction was taken

**Rounding.** Three implementations (the compiled kernels for CPUs in kernel.py and for GPUs in triton_kernel.py, and
plain torch, one tensor at a time) give the same bits, because every product and every sum is rounded on its own. In
bfloat16 and float16 they compute in float32 and round once, when they store. Neither `lerp` nor `add(alpha=...)`
would do: torch evaluates them with or without fused multiply-add according to the device and the instruction set. The
fourth, `torch._foreach_*`, is for GPUs without Triton, where each pass over memory counts: it uses both, and its last
bits differ.

**Sign.** sign(+0) = +0, sign(-0) = -0, sign(subnormal) = +-1 and sign(NaN) = NaN. `torch.sign(NaN)` is 0,
which would leave finite, frozen weights behind a momentum of NaN and so hide a diverged run.
"""

# pyright: reportPrivateImportUsage=false
# (`torch._foreach_*` are public in all but their type stubs.)

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from replications.lion.betas import LION_BETAS
from replications.lion.kernel import Coefficients, TensorTriple, by_device_and_dtype, split_off_kernel

__all__ = ["Lion", "SignOptimizer", "lion_update", "sign_"]


def lion_update(gradient: Tensor, momentum: Tensor, *, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    """Direction u = sign(b1 m + (1 - b1) g) of a Lion step, and the momentum m' = b2 m + (1 - b2) g that follows it.

    The update of arXiv 2302.06675. The step itself is theta' = (1 - eta lambda) theta - eta u.

    Args:
        gradient: g, real, any shape.
        momentum: m, shape and dtype of `gradient`.
        beta1: b1 in [0, 1), weight of the momentum in the direction.
        beta2: b2 in [0, 1), weight of the momentum in the next momentum.

    Returns:
        The direction u, every element -1, 0, 1 or NaN, and the new momentum m'; shapes of `gradient`.
    """
    direction = sign_(momentum.mul(beta1).add_(gradient.mul(1 - beta1)))
    return direction, momentum.mul(beta2).add_(gradient.mul(1 - beta2))


def sign_(values: Tensor) -> Tensor:
    """Sign in place, of reals of any shape, with NaN and the sign of zero kept; `torch.sign` would turn NaN into 0."""
    scale = _sign_scale(values.dtype)
    return values.mul_(scale).mul_(scale).clamp_(-1, 1)


def _sign_scale(dtype: torch.dtype) -> float:
    """Largest power of two of a dtype; multiplied twice it lifts the smallest subnormal above 1."""
    return 2.0 / torch.finfo(dtype).tiny


class SignOptimizer(Optimizer):
    """What Lion and its variants share: options, closure, one tensor of state; a subclass gives `step_group`."""

    _warned_of_sign_flip = False

    def check_options(self, options: dict[str, Any]) -> None:
        """Refuse options outside their range, in the words of `torch.optim`; NaN fails every comparison."""
        lr, weight_decay = options["lr"], options["weight_decay"]
        if isinstance(lr, Tensor) and lr.numel() != 1:
            message = "Tensor lr must be 1-element"
            raise ValueError(message)
        if not lr >= 0.0:
            message = f"Invalid learning rate: {lr}"
            raise ValueError(message)
        for index, beta in enumerate(options.get("betas", ())):
            if not 0.0 <= beta < 1.0:
                message = f"Invalid beta parameter at index {index}: {beta}"
                raise ValueError(message)
        if not 0.0 <= options.get("beta", 0.0) < 1.0:
            message = f"Invalid beta value: {options['beta']}"
            raise ValueError(message)
        if not weight_decay >= 0.0:
            message = f"Invalid weight_decay value: {weight_decay}"
            raise ValueError(message)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, after checking its options as the constructor checks the defaults."""
        if isinstance(param_group, dict):  # anything else: let torch refuse it in its own words
            options = {**self.defaults, **param_group}
            self.check_options(options)
            self.warn_if_decay_flips_signs(options)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; return what `closure`, which computes gradients, returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.step_group(group)
        return loss

    def step_group(self, group: dict[str, Any]) -> None:
        """Update every parameter of a group that has a gradient; a subclass says how."""
        raise NotImplementedError

    def gather(self, group: dict[str, Any]) -> list[TensorTriple]:
        """Parameter, gradient and momentum of each tensor that has a gradient; missing momenta are made, of zeros."""
        triples = []
        for param in group["params"]:
            gradient = param.grad
            if gradient is None:
                continue
            if gradient.layout is not torch.strided:
                message = f"{type(self).__name__} does not support sparse gradients"
                raise RuntimeError(message)
            state = self.state[param]
            if not state:
                if param.is_cuda and not torch.compiler.is_compiling() and torch.cuda.is_current_stream_capturing():
                    message = (
                        f"{type(self).__name__} has no momentum yet, and each replay of the CUDA graph would make it "
                        "zero again; take one step before the capture"
                    )
                    raise RuntimeError(message)
                state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            triples.append((param, gradient, state["exp_avg"]))
        return triples

    def warn_if_decay_flips_signs(self, options: dict[str, Any]) -> None:
        """Say once, per optimizer, that 1 - eta lambda is negative."""
        lr, weight_decay = options["lr"], options["weight_decay"]
        if isinstance(lr, Tensor):
            if lr.is_cuda or torch.compiler.is_compiling():
                return  # to look would be to wait for the device
            lr = float(lr)
        if lr * weight_decay > 1 and not self._warned_of_sign_flip:
            self._warned_of_sign_flip = True
            message = (
                f"lr * weight_decay = {lr} * {weight_decay} exceeds 1, so each step multiplies the weights by a "
                "negative number and flips their signs; lower one of the two"
            )
            warnings.warn(message, stacklevel=5)


class Lion(SignOptimizer):
    """Lion, with the conventions of `torch.optim` (groups, state dict, closure, error messages).

    One tensor of state, `exp_avg`, of the parameter's dtype and memory format: half of AdamW's two.
    Parameters without a gradient are skipped: no decay, no step, no state. A gradient of NaN makes the parameter NaN.
    A gradient of infinity does not: its momentum stays infinite for ever (`foreach`: becomes NaN) while the parameter
    drifts by eta a step and looks healthy. The state shows it: `exp_avg` is not finite.
    Under `torch.compile` the step is one opaque operator that does what it does without.

    Differences from the source: the decay factor is applied to theta before the sign step, as one product,
    which is the same in exact arithmetic; complex parameters are treated as pairs of reals.

    Args:
        params: Tensors, named tensors or dicts of groups, as for `torch.optim.AdamW`.
        lr: eta >= 0, a float or a tensor of one element. A third to a tenth of AdamW's is usual. A CUDA graph
            holds a float fast; a tensor on the GPU is read anew in each replay.
        betas: (b1, b2), each in [0, 1).
        weight_decay: lambda >= 0; lr * weight_decay > 1 is accepted with one warning.
        maximize: Ascend instead of descend.
        foreach: Use `torch._foreach_*`. None means: for tensors that are not on a CPU and have no kernel. It needs
            about one more copy of the parameters, gains nothing on a CPU, and rounds to the tensors' dtype after each
            operation. A direction below 2**-100 counts in proportion to 2**-100, not with its sign.
        fused: Use a compiled kernel, one pass over memory: on a CPU one thread, on a GPU one launch, through Triton.
            None means: wherever it can run (dense float32 or float64 on a CPU, float32, bfloat16 or float16 on a GPU;
            equal strides of parameter, gradient and momentum), unless `foreach` is true. True means: or else an error.

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

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float | Tensor, float | Tensor] = LION_BETAS,
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
        self.check_options(defaults)
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded optimizer, filling in options that older states lack."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("fused", None)

    def check_options(self, options: dict[str, Any]) -> None:
        """Refuse options outside their range, and `fused` together with `foreach`."""
        super().check_options(options)
        if options["fused"] and options["foreach"]:
            message = "`fused` and `foreach` cannot be `True` together."
            raise RuntimeError(message)

    def step_group(self, group: dict[str, Any]) -> None:
        """Send each tensor of a group to the implementation that suits it."""
        self.warn_if_decay_flips_signs(group)
        triples, lr = self.gather(group), group["lr"]
        beta1, beta2 = map(float, group["betas"])
        factors, kinds = (beta1, beta2, group["weight_decay"], group["maximize"]), (group["foreach"], group["fused"])
        if not torch.compiler.is_compiling():
            _step(triples, _coefficients(lr, *factors), *kinds)
        elif triples:
            if not isinstance(lr, Tensor):  # a product is what lets the compiler see a variable in a float
                lr = torch.ones((), dtype=torch.float64).mul(lr)
            params, gradients, momenta = map(list, zip(*triples, strict=True))
            _step_opaquely(params, gradients, momenta, lr, *factors, *kinds)


# A CUDA graph that the compiler makes would hold the rate fast; so it must leave this out.
@torch.library.custom_op(
    "replications::lion_step", mutates_args=("params", "momenta"), tags=(torch.Tag.cudagraph_unsafe,)
)
def _step_opaquely(
    params: list[Tensor],
    gradients: list[Tensor],
    momenta: list[Tensor],
    lr: Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float,
    maximize: bool,
    foreach: bool | None,
    fused: bool | None,
) -> None:
    """`_step` as an operator that `torch.compile` does not look into, so that compiled steps round as others do."""
    coefficients = _coefficients(lr, beta1, beta2, weight_decay, maximize)
    _step(list(zip(params, gradients, momenta, strict=True)), coefficients, foreach, fused)


def _step(triples: list[TensorTriple], coefficients: Coefficients, foreach: bool | None, fused: bool | None) -> None:
    """One step on the tensors of a group, each in the implementation that suits it."""
    in_kernel, others = [], [_as_real(triple) for triple in triples]
    if fused or (fused is None and not foreach):
        in_kernel, others = split_off_kernel(others, required=bool(fused))
    in_foreach = [triple for triple in others if foreach or (foreach is None and not triple[0].is_cpu)]
    one_by_one = [triple for triple in others if foreach is False or (foreach is None and triple[0].is_cpu)]
    for step, batch in in_kernel:
        step(batch, coefficients)
    for (_, dtype), batch in by_device_and_dtype(in_foreach).items():
        _step_in_foreach(dtype, batch, coefficients)
    for triple in one_by_one:
        _step_one(triple, coefficients)


def _coefficients(lr: float | Tensor, beta1: float, beta2: float, weight_decay: float, maximize: bool) -> Coefficients:
    """The six factors of a step: b1, 1 - b1, b2, 1 - b2, 1 - eta lambda, -eta; the last two where eta lies."""
    lr = lr.double().reshape(()) if isinstance(lr, Tensor) and lr.is_cuda else float(lr)
    # To maximise is to step along -g: the two factors of g change sign, which is exact.
    sign = -1.0 if maximize else 1.0
    return beta1, sign * (1 - beta1), beta2, sign * (1 - beta2), 1 - lr * weight_decay, -lr


def _as_real(triple: TensorTriple) -> TensorTriple:
    """Views of complex tensors as pairs of reals, so that real and imaginary part each have a sign."""
    if not triple[0].is_complex():
        return triple
    param, gradient, momentum = (torch.view_as_real(tensor.resolve_conj()) for tensor in triple)
    return param, gradient, momentum


# --- Plain torch -----------------------------------------------------------------------------------------------


def _step_one(triple: TensorTriple, coefficients: Coefficients) -> None:
    """One step on one tensor, in place; bfloat16 and float16 are computed in float32."""
    param, gradient, momentum = (tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in triple)
    beta1, grad1, beta2, grad2, decay, minus_lr = coefficients
    direction = sign_(momentum.mul(beta1).add_(gradient.mul(grad1)))
    # Not add_(alpha=...): it takes no tensor, and its float is one that torch.compile keeps from the first step on.
    param.mul_(decay).add_(direction.mul_(minus_lr))
    momentum.mul_(beta2).add_(gradient.mul(grad2))
    for stored, computed in ((triple[0], param), (triple[2], momentum)):
        if computed is not stored:
            stored.copy_(computed)


def _step_in_foreach(dtype: torch.dtype, triples: list[TensorTriple], coefficients: Coefficients) -> None:
    """One step on many tensors of one device and dtype, in place, by one call of torch per operation."""
    beta1, grad1, beta2, _, decay, minus_lr = map(float, coefficients)
    params, gradients, momenta = map(list, zip(*triples, strict=True))
    if grad1 < 0:
        gradients = torch._foreach_neg(gradients)
    directions = torch._foreach_lerp(momenta, gradients, 1 - beta1)
    # The sign in few passes, NaN and the sign of zero kept: all is cut to +-cut, and the rate made up for it, exactly.
    cut = 2.0**-100
    if dtype is torch.float16:  # has no such number; two factors lift its smallest one to 1
        cut = 1.0
        torch._foreach_mul_(directions, 2.0**12)
        torch._foreach_mul_(directions, 2.0**12)
    torch._foreach_clamp_min_(directions, -cut)
    torch._foreach_clamp_max_(directions, cut)
    torch._foreach_mul_(params, decay)
    torch._foreach_add_(params, directions, alpha=minus_lr / cut)
    torch._foreach_lerp_(momenta, gradients, 1 - beta2)

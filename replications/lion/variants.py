"""Relatives of Lion, each a class of its own: Signum, Tiger, cautious, lazy and bias-corrected Lion.

All but the last, which is Lion with a b2 that changes, are in plain torch, one tensor at a time.

Letters as in optimizer.py: theta parameter, g gradient, m momentum (zero at the start), eta step size, lambda weight
decay, b1 and b2 the betas (b where there is only one), u direction. The conventions are Lion's too (`SignOptimizer`),
but complex parameters are refused, because rows and root mean squares of pairs of reals would be another thing.

Every product and every sum is rounded on its own, as in optimizer.py, where the docstring says why. Only Tiger's root
mean square is a long sum, whose last bit depends on the instruction set.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from replications.lion.betas import LION_BETAS
from replications.lion.kernel import TensorTriple
from replications.lion.optimizer import Lion, SignOptimizer, lion_update, sign_

__all__ = [
    "CautiousLion",
    "CorrectedLion",
    "LazyLion",
    "Signum",
    "Tiger",
    "cautious_lion_update",
    "lazy_lion_step",
    "signum_update",
    "tiger_step",
    "tiger_step_size",
]

NAN_SHRINKAGE = 0.99  # s of Tiger's rule for gradients with NaN
VECTOR_LR_FACTOR = 0.5  # Tiger's eta / lr for biases and gains


class _OneByOne(SignOptimizer):
    """Walks over the tensors of a group and asks the subclass for the new value and momentum of each."""

    def step_group(self, group: dict[str, Any]) -> None:
        """Replace parameter and momentum of each tensor by what `stepped` gives."""
        self.warn_if_decay_flips_signs(group)
        for param, gradient, momentum in self.gather(group):
            following = self.stepped(param, gradient, momentum, group)
            for tensor, value in zip((param, momentum), following, strict=True):
                if value is not tensor:  # a copy onto itself would tell autograd of a change
                    tensor.copy_(value)

    def gather(self, group: dict[str, Any]) -> list[TensorTriple]:
        """Parameter, gradient and momentum of each tensor to update, none of them complex."""
        if any(param.is_complex() for param in group["params"]):
            message = f"{type(self).__name__} does not support complex parameters"
            raise RuntimeError(message)
        return super().gather(group)

    def stepped(
        self, param: Tensor, gradient: Tensor, momentum: Tensor, group: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """The new parameter and the new momentum; changes neither."""
        raise NotImplementedError


class _WithTwoBetas(_OneByOne):
    """Takes Lion's options."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        betas: tuple[float | Tensor, float | Tensor] = LION_BETAS,
        weight_decay: float = 0.0,
    ) -> None:
        """Check the options and register the parameters; the class says what each means."""
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        self.check_options(defaults)
        super().__init__(params, defaults)


def _moved(theta: Tensor, direction: Tensor, eta: float | Tensor, weight_decay: float) -> Tensor:
    """Value after a step with decoupled decay: (1 - eta lambda) theta - eta u."""
    return theta.mul(1 - eta * weight_decay).add_(direction.mul(-eta))


# --- Signum ----------------------------------------------------------------------------------------------------


def signum_update(gradient: Tensor, momentum: Tensor, *, beta: float) -> tuple[Tensor, Tensor]:
    """Direction u = sign(m') of a Signum step and its momentum m' = b m + (1 - b) g; this is Lion with b1 = b2.

    Implements Signum of Bernstein et al., arXiv 1802.04434.

    Args:
        gradient: g, real, any shape.
        momentum: m, shape and dtype of `gradient`.
        beta: b in [0, 1); 0 is signSGD.

    Returns:
        The direction u, every element -1, 0, 1 or NaN, and the new momentum m'; shapes of `gradient`.
    """
    following = momentum.mul(beta).add_(gradient.mul(1 - beta))
    return sign_(following.clone()), following


class Signum(_OneByOne):
    """Signum, the sign of a moving average of gradients, with decoupled weight decay.

    m = b m + (1 - b) g, then theta = (1 - eta lambda) theta - eta sign(m): the sign is that of the updated average,
    Bernstein et al., arXiv 1802.04434 (in our letters). State: `exp_avg`, one tensor.

    Differences from the source: decoupled weight decay is added (their algorithm has none); lr is constant unless a
    schedule changes it (their theorems let it fall); one machine, no majority vote.

    Options are those of `Lion`, with one beta, b in [0, 1). Raises what `Lion` does, and a RuntimeError in `step` if a
    parameter is complex.
    """

    def __init__(
        self, params: ParamsT, lr: float | Tensor, beta: float | Tensor = 0.9, weight_decay: float = 0.0
    ) -> None:
        """Check the options and register the parameters; the class says what each means."""
        defaults = {"lr": lr, "beta": beta, "weight_decay": weight_decay}
        self.check_options(defaults)
        super().__init__(params, defaults)

    def stepped(
        self, param: Tensor, gradient: Tensor, momentum: Tensor, group: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """One Signum step."""
        direction, following = signum_update(gradient, momentum, beta=float(group["beta"]))
        return _moved(param, direction, float(group["lr"]), group["weight_decay"]), following


# --- Tiger -----------------------------------------------------------------------------------------------------


def tiger_step_size(theta: Tensor, *, lr: float, row_wise_rms: bool = False) -> float | Tensor:
    """Tiger's step size: relative to the size of a matrix, absolute for a vector.

    Implements eqs. (2) and (3) of kexue.fm/archives/9512: eta = alpha RMS(theta) with RMS^2 = mean of theta_i^2 for
    matrices, eta = alpha / 2 for biases and gains.

    Args:
        theta: Parameter, real. Two dimensions or more count as a matrix, fewer as a bias or gain.
        lr: alpha >= 0, the global relative learning rate.
        row_wise_rms: Whether each row (index of the first dimension) of a matrix has an RMS of its own, as the
            source's code does for embeddings.

    Returns:
        eta >= 0: a float for a vector; for a matrix a tensor that broadcasts to it, in float32 at least (squares of
        float16 weights below 1.7e-4 would vanish). It is 0 for a matrix or row of zeros.
    """
    if theta.dim() < 2:
        return VECTOR_LR_FACTOR * lr
    squares = theta.to(torch.promote_types(theta.dtype, torch.float32)).square()
    mean = squares.mean(dim=tuple(range(1, theta.dim())), keepdim=True) if row_wise_rms else squares.mean()
    return mean.sqrt() * lr


def tiger_step(
    theta: Tensor,
    gradient: Tensor,
    momentum: Tensor,
    *,
    lr: float,
    beta: float = 0.965,
    weight_decay: float = 0.01,
    micro_step: int = 0,
    accumulation_steps: int = 1,
    row_wise_rms: bool = False,
    center: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Parameter and momentum after one micro-step of Tiger.

    Implements eqs. (1) to (5) of kexue.fm/archives/9512. With chi_first and chi_last being 1 in the first and in the
    last of k micro-steps and 0 in the others::

        m     = [(b - 1) chi_first + 1] m + (1 - b) / k g
        theta = theta - chi_last eta [sign(m) + lambda theta]

    eta is that of `tiger_step_size`; lambda is 0 for biases and gains. And eq. (6), if any element of g is NaN::

        m     = m
        theta = (theta - c) s + c                     s = 0.99

    Args:
        theta: Parameter, real, any shape.
        gradient: g of this micro-batch (mean loss), shape and dtype of `theta`.
        momentum: m, shape and dtype of `theta`.
        lr: alpha >= 0.
        beta: b in [0, 1).
        weight_decay: lambda >= 0 of matrices.
        micro_step: 0 for the first micro-step of k, k - 1 for the last.
        accumulation_steps: k >= 1.
        row_wise_rms: See `tiger_step_size`.
        center: c, the value at which theta was initialised: 1 for gains, else 0.

    Returns:
        theta itself before the last micro-step, else its new value; and the new momentum, m itself if g has a NaN.
    """
    if gradient.isnan().any():
        return theta.sub(center).mul_(NAN_SHRINKAGE).add_(center), momentum
    kept = beta if micro_step == 0 else 1.0
    following = momentum.mul(kept).add_(gradient.mul((1 - beta) / accumulation_steps))
    if micro_step + 1 < accumulation_steps:
        return theta, following
    eta = tiger_step_size(theta, lr=lr, row_wise_rms=row_wise_rms)
    moved = _moved(theta, sign_(following.clone()), eta, weight_decay if theta.dim() >= 2 else 0.0)
    return moved.to(theta.dtype), following


class Tiger(_OneByOne):
    """Tiger, "tight-fisted optimizer": Signum whose steps are relative to the weights, with built-in accumulation.

    Source: Su Jianlin, kexue.fm/archives/9512, and his code bojone/tiger at 43fb6b69. `tiger_step` has the
    equations. `step` is called once for each micro-batch, with the gradient of that one alone (`zero_grad` between
    them) of the mean loss, not divided by k. State: `exp_avg`, which serves as the buffer of accumulation as well, and
    the integer `micro_step`. In torch `.grad` could be that buffer, so memory is won only if gradients are freed.

    What to doubt:
        * A matrix of zeros (the B of LoRA) never moves, because its RMS is 0; with `row_wise_rms` neither does a
          row of zeros. The source is the same. Start such a matrix elsewhere, or use another optimizer for it.
        * A gradient of NaN shrinks its tensor, whatever lr, in any micro-step; other tensors go on. In the last
          micro-step the whole step of its tensor is lost, in the first the momentum misses its factor b. So does the
          source's code. Infinite gradients do propagate: a momentum of inf stays, and inf - inf is NaN.
        * `center` defaults to 0: without a group of their own with `center=1.0`, gains shrink towards 0.
        * Weights settle where |theta| = 1 / lambda if the sign stays, as with Lion. lr * weight_decay > 1 needs no
          warning: signs flip only if RMS(theta) > 1 / (lr * weight_decay).

    Differences from the source:
        1. Bias, gain or matrix is told by the number of dimensions, in the source's code by the variable's name
           (bias, beta, gamma). Row-wise RMS and c are options of a group. The row-wise RMS of embeddings is in the
           source's code only; eq. (2) of its text takes one RMS of the whole matrix.
        2. Micro-steps are counted for each tensor, by the gradients it received, and not once for all: a tensor
           without gradient (None) in some micro-step falls behind the others. Give it zeros to keep them together.
        3. Sparse gradients are refused. No schedule of lr is built in. s = 0.99 is no option.
        4. RMS is computed in float32 at least, and (1 - eta lambda) theta is one product.

    Args:
        params: As for `Lion`.
        lr: alpha >= 0, relative to the size of the weights: the source takes 0.001 to 0.002 at the peak.
        beta: b in [0, 1). The source advises 0.945 for vision, 0.965 for language.
        weight_decay: lambda >= 0 of matrices; biases and gains have none.
        accumulation_steps: k, integer >= 1: micro-steps for one step.
        row_wise_rms: Whether each row of a matrix has its own RMS; meant for a group of embeddings.
        center: c, finite: the value towards which a gradient of NaN shrinks the parameters of a group.

    Raises what `Lion` does, and a RuntimeError in `step` if a parameter is complex.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        beta: float | Tensor = 0.965,
        weight_decay: float = 0.01,
        accumulation_steps: int = 1,
        *,
        row_wise_rms: bool = False,
        center: float = 0.0,
    ) -> None:
        """Check the options and register the parameters; the class says what each means."""
        defaults = {
            "lr": lr,
            "beta": beta,
            "weight_decay": weight_decay,
            "accumulation_steps": accumulation_steps,
            "row_wise_rms": row_wise_rms,
            "center": center,
        }
        self.check_options(defaults)
        super().__init__(params, defaults)

    def check_options(self, options: dict[str, Any]) -> None:
        """Refuse options outside their range."""
        super().check_options(options)
        steps, center = options["accumulation_steps"], options["center"]
        if not isinstance(steps, int) or steps < 1:
            message = f"Invalid accumulation_steps value: {steps}; pass an integer of at least 1 (1: no accumulation)"
            raise ValueError(message)
        if not math.isfinite(center):
            message = f"Invalid center value: {center}; pass the value at which the weights start: 1 for gains, else 0"
            raise ValueError(message)

    def warn_if_decay_flips_signs(self, options: dict[str, Any]) -> None:
        """Say nothing: the decay of a step is lr * weight_decay * RMS(theta), not lr * weight_decay."""

    def stepped(
        self, param: Tensor, gradient: Tensor, momentum: Tensor, group: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """One micro-step of Tiger, counted."""
        state, num_steps = self.state[param], group["accumulation_steps"]
        micro_step = state.get("micro_step", 0)
        state["micro_step"] = micro_step + 1 if micro_step + 1 < num_steps else 0
        return tiger_step(
            param,
            gradient,
            momentum,
            lr=float(group["lr"]),
            beta=float(group["beta"]),
            weight_decay=group["weight_decay"],
            micro_step=micro_step,
            accumulation_steps=num_steps,
            row_wise_rms=group["row_wise_rms"],
            center=group["center"],
        )


# --- Cautious Lion ---------------------------------------------------------------------------------------------


def cautious_lion_update(gradient: Tensor, momentum: Tensor, *, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    """Direction of a cautious Lion step and the momentum that follows it.

    Implements the C-Lion of Liang et al., arXiv 2411.16085: with v = sign(b1 m + (1 - b1) g) and the mask
    k = 1[v g > 0], the direction is u = v k d / (nnz(k) + 1), d being the number of elements of this tensor; and
    m' = b2 m + (1 - b2) g.

    Args:
        gradient: g, real, any shape.
        momentum: m, shape and dtype of `gradient`.
        beta1: b1 in [0, 1).
        beta2: b2 in [0, 1).

    Returns:
        The direction u, every element 0, NaN or of the one magnitude d / (nnz(k) + 1), and the new momentum m'; shapes
        of `gradient`.
    """
    direction, following = lion_update(gradient, momentum, beta1=beta1, beta2=beta2)
    agrees = direction * gradient > 0
    scale = direction.numel() / (int(agrees.count_nonzero()) + 1)
    return direction.mul_(agrees).mul_(scale), following  # a direction of NaN stays NaN: 0 * NaN


class CautiousLion(_WithTwoBetas):
    """Lion that moves only where its direction and the gradient have the same sign, and further there.

    theta = (1 - eta lambda) theta - eta u with the u of `cautious_lion_update`: C-Lion of Liang et al.,
    arXiv 2411.16085. Decay is not masked. State: `exp_avg`, one tensor.

    What to doubt: others scale otherwise, so learning rates do not carry over exactly. The formula d / (nnz + 1) is
    also that of the authors' code kyleliang919/C-Optim; the listing in their paper divides by mean(k) + eps, timm by
    mean(k) clamped to at least 1e-3, lion-pytorch to at least 1e-5, which is d / nnz short of the clamp. So ours is
    smaller by the factor nnz / (nnz + 1): nothing in a large tensor, half in one of a single element, which moves by
    eta / 2. A survivor alone among d elements moves by eta d / 2.

    Options are those of `Lion`. Raises what `Lion` does, and a RuntimeError in `step` if a parameter is complex.
    """

    def stepped(
        self, param: Tensor, gradient: Tensor, momentum: Tensor, group: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """One cautious step."""
        beta1, beta2 = map(float, group["betas"])
        direction, following = cautious_lion_update(gradient, momentum, beta1=beta1, beta2=beta2)
        return _moved(param, direction, float(group["lr"]), group["weight_decay"]), following


# --- Lazy Lion -------------------------------------------------------------------------------------------------


def lazy_lion_step(
    theta: Tensor,
    gradient: Tensor,
    momentum: Tensor,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Parameter and momentum after one Lion step on the rows that have a gradient.

    A row is an index of the first dimension. Where all of its g is 0, theta' = theta and m' = m, bit for bit;
    elsewhere both are Lion's (arXiv 2302.06675). The lazy rows are those of kexue.fm/archives/9736.

    Args:
        theta: Parameter, real. With fewer than two dimensions it has no rows, and the step is Lion's.
        gradient: g, shape and dtype of `theta`; a row with a NaN is not zero.
        momentum: m, shape and dtype of `theta`.
        lr: eta >= 0.
        beta1: b1 in [0, 1).
        beta2: b2 in [0, 1).
        weight_decay: lambda >= 0.

    Returns:
        The new parameter and the new momentum; shapes of `theta`.
    """
    direction, following = lion_update(gradient, momentum, beta1=beta1, beta2=beta2)
    moved = _moved(theta, direction, lr, weight_decay)
    if theta.dim() < 2:
        return moved, following
    occurs = gradient.ne(0).any(dim=tuple(range(1, theta.dim())), keepdim=True)
    return torch.where(occurs, moved, theta), torch.where(occurs, following, momentum)


class LazyLion(_WithTwoBetas):
    """Lion for embeddings: a row whose gradient is entirely zero is left as it is: no decay, no step, same momentum.

    Lion goes on moving the row of a token that no longer occurs, by a full step in the direction of its last momentum,
    up to |theta| = 1 / lambda; kexue.fm/archives/9736 explains the embeddings of +-100 it found that way (lambda
    0.01). Of its three remedies (lazy updates, tied embeddings with swapped halves, Adam for embeddings) this is the
    first. State: `exp_avg`, one tensor. `lazy_lion_step` has the equations.

    What to doubt: it helps input embeddings only. Rows of an output layer, tied or not, get a gradient from every
    softmax, so nothing is lazy there. Rare rows take fewer steps, so lr may have to rise.

    Differences from the source: it does not say what becomes of momentum and decay of an absent row. In
    kexue.fm/archives/6869, to which it refers, the author's Keras code goes on updating the momentum, unlike the
    standard lazy optimizer, as he says, and cites tests that found this better; here momentum rests too, as in the
    standard one. A row counts as absent if every element of its gradient is 0: no norm that could underflow.

    Options are those of `Lion`; all matrices in `params` are lazy. Raises what `Lion` does, and a RuntimeError in
    `step` if a parameter is complex. An embedding needs `sparse=False`.
    """

    def stepped(
        self, param: Tensor, gradient: Tensor, momentum: Tensor, group: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """One lazy step."""
        beta1, beta2 = map(float, group["betas"])
        return lazy_lion_step(
            param,
            gradient,
            momentum,
            lr=float(group["lr"]),
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
        )


# --- Bias-corrected Lion ---------------------------------------------------------------------------------------


class CorrectedLion(Lion):
    """Lion whose momentum is corrected for its start at zero, as AdamW's first moment is: m / (1 - b2^t).

    Ours, to try what the missing correction costs in short runs. The corrected momentum is a mean of the gradients so
    far, and obeys m' = b m + (1 - b) g with b = 1 - (1 - b2) / (1 - b2^t) in step t: that is Lion with a b2 that rises
    from 0 to its value. The correction does not cancel in the sign, since c adds a gradient to the momentum.
    State: `exp_avg`, one tensor, the corrected momentum; the steps are counted in the group. Options: those of `Lion`.
    """

    def step_group(self, group: dict[str, Any]) -> None:
        """One step of Lion at the b2 of this step."""
        group["steps"] = group.get("steps", 0) + 1
        beta1, beta2 = map(float, group["betas"])
        super().step_group({**group, "betas": (beta1, 1 - (1 - beta2) / (1 - beta2 ** group["steps"]))})

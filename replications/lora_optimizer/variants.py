"""Relatives of LoRA as optimizers: Su's resampled projection and additive form (kexue.fm/archives/9590), and GaLore.

Letters as in optimizer.py: W a weight (m x n), G its gradient, r the rank, s the scale, eta the learning rate.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from replications.lora_optimizer.optimizer import Factors, LoRAOptimizer, State, check_options, wide

__all__ = ["AdditiveLoRA", "GaLore", "MatrixOptimizer", "ResampledProjection", "resampled_gradient"]


class AdditiveLoRA(LoRAOptimizer):
    """Su's additive form: W = W0 + s (P A + B Q) with fixed patterns P (m x r) and Q (r x n) of zeros and ones.

    Both are identities of size r, repeated: A is tiled down the outputs, B along the inputs, so that gradients are
    sums of blocks of G (rows and columns for r = 1) and nothing is multiplied. The rank is up to 2r. At r = 1 the
    half B adds a multiple of the sum of a layer's inputs, which is zero behind a LayerNorm; random signs cure it.

    Args:
        params, base: As of `LoRAOptimizer`.
        r: Divides n and m.
        random_signs: Draw a sign for each row of P and each column of Q, once.
        **options: As of `LoRAOptimizer`, without `init`: A and B start at zero. `factors()` gives [A; Q] and [P, B].

    Raises:
        ValueError: If r does not divide both dimensions, or an option is outside its range.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2, 2))
        >>> optimizer = AdditiveLoRA([weight], torch.optim.SGD, lr=1.0)
        >>> weight.grad = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> optimizer.step()
        >>> (-weight).tolist()  # sums of columns and of rows
        [[7.0, 9.0], [11.0, 13.0]]
    """

    def __init__(
        self,
        params: ParamsT,
        base: Callable[..., Optimizer] = torch.optim.AdamW,
        *,
        r: int = 1,
        random_signs: bool = False,
        **options: Any,
    ) -> None:
        """Check the options and register the parameters; the class says what each means."""
        self._random_signs = random_signs
        super().__init__(params, base, r=r, **options)

    def _start(self, group: dict[str, Any], param: Tensor) -> State:
        (rows, columns), r = param.shape, group["r"]
        if rows % r or columns % r:
            message = f"r={r} must divide both dimensions, got {(columns, rows)}"
            raise ValueError(message)
        like = {"dtype": wide(param.dtype), "device": param.device}
        state = {"A": torch.zeros(r, columns, **like), "B": torch.zeros(rows, r, **like)}
        if self._random_signs:
            device = self._generator.device if self._generator else None
            for key, size in (("signs_P", (rows, 1)), ("signs_Q", (1, columns))):
                drawn = torch.randint(2, size, generator=self._generator, device=device)
                state[key] = (2 * drawn - 1).to(**like)
        return state

    def _gradients(self, state: State, gradient: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        (rows, columns), r = gradient.shape, len(state["A"])
        of_P, of_Q = (gradient * state[key] if key in state else gradient for key in ("signs_P", "signs_Q"))
        sums = of_P.reshape(rows // r, r, columns).sum(0), of_Q.reshape(rows, columns // r, r).sum(1)
        return sums[0].mul_(scale), sums[1].mul_(scale)

    def _write(self, target: Tensor, start: Tensor, state: State, scale: float, before: State | None = None) -> None:
        """Set target = start + s (P A + B Q), or with the change of A and B since before."""
        A, B = (state[key] - before[key] if before else state[key] for key in "AB")
        tiles = {"signs_P": A.repeat(len(B) // len(A), 1), "signs_Q": B.repeat(1, A.shape[1] // B.shape[1])}
        of_A, of_B = (tile * state[key] if key in state else tile for key, tile in tiles.items())
        target.copy_((of_A + of_B).mul_(scale).add_(start))

    def _factors(self, state: State, scale: float) -> Factors:
        """Say the sum of two products as one of twice the rank."""
        A, B = state["A"], state["B"]
        eye = torch.eye(len(A), dtype=A.dtype, device=A.device)
        P, Q = eye.repeat(len(B) // len(A), 1), eye.repeat(1, A.shape[1] // B.shape[1])
        P, Q = P * state.get("signs_P", 1), Q * state.get("signs_Q", 1)
        return Factors(torch.cat([A, Q]), torch.cat([P, B], dim=1), scale)


class MatrixOptimizer(Optimizer):
    """What optimizers of matrices share: checked options and tensors, closure, a loop. A subclass gives `update`."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, after checking its options and that it has matrices alone."""
        if isinstance(param_group, dict):  # anything else: let torch refuse it in its own words
            check_options(self.defaults | param_group)
        super().add_param_group(param_group)
        for place, param in enumerate(self.param_groups[-1]["params"]):
            if param.ndim != 2:
                message = f"{type(self).__name__} needs matrices; parameter {place} has shape {tuple(param.shape)}"
                raise ValueError(message)
            if not param.is_floating_point():
                message = f"{type(self).__name__} needs weights of real floating point, got {param.dtype}"
                raise TypeError(message)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every matrix that has a gradient; return what `closure` did."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                if param.grad.layout is not torch.strided:
                    message = f"{type(self).__name__} does not support sparse gradients"
                    raise RuntimeError(message)
                self.update(param, param.grad, group)
        return loss

    def update(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Take one step with one matrix; a subclass says how."""
        raise NotImplementedError


def resampled_gradient(gradient: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The gradient seen through fresh projections of both sides, (G v'v + u u'G) / 2r, whose mean is G.

    Su's section on random projection, with two corrections: for standard normal u and v of rank r = 1 the sum has
    the mean 2G, not G, and rank r multiplies it by r. Its variance is (n + m + 2) / (4r) |G|².

    Args:
        gradient: G, shape (m, n), real.
        u: Shape (m, r), standard normal.
        v: Shape (r, n), standard normal.

    Returns:
        Shape (m, n), of rank 2r at most.

    Example:
        >>> resampled_gradient(torch.eye(2), u=torch.tensor([[1.0], [0.0]]), v=torch.tensor([[0.0, 1.0]])).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    return (gradient @ v.T @ v).add_(u @ (u.T @ gradient)).div_(2 * len(v))


class ResampledProjection(MatrixOptimizer):
    """SGD along gradients seen through projections that are drawn anew each step: W -= eta (G v'v + u u'G) / 2r.

    Args:
        params: Matrices, as for `torch.optim.SGD`.
        lr: eta >= 0. In mean square the largest stable one is about 1 + (n + m + 2) / (4r) times less than SGD's.
        r: Rank of u and of v.
        generator: Of u and v, drawn on its device in float32; its state is saved with the optimizer's. None is a new
            one on the CPU, with torch's default seed.

    Raises:
        ValueError: If lr or r is outside its range, or a parameter is no matrix.
        TypeError: If a weight is not real floating point.
        RuntimeError: In `step`, if a gradient is sparse.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(3, 2))
        >>> optimizer = ResampledProjection([weight], lr=0.1, r=1, generator=torch.Generator().manual_seed(0))
        >>> weight.grad = torch.ones(3, 2)
        >>> optimizer.step()
        >>> int(torch.linalg.matrix_rank(weight))
        2
    """

    def __init__(
        self, params: ParamsT, lr: float | Tensor = 1e-3, *, r: int = 1, generator: torch.Generator | None = None
    ) -> None:
        """Check the options and register the parameters; the class says what each means."""
        self._generator = generator or torch.Generator()
        super().__init__(params, {"lr": lr, "r": r})

    def update(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Draw u and v, and take one step."""
        gradient = gradient.to(wide(param.dtype))
        sizes = (len(param), group["r"]), (group["r"], param.shape[1])
        draw = {"generator": self._generator, "device": self._generator.device}
        u, v = (torch.randn(size, **draw).to(gradient) for size in sizes)
        param.sub_(resampled_gradient(gradient, u, v).mul_(group["lr"]))

    def state_dict(self) -> dict[str, Any]:
        """Groups as torch has them, and under "generator" its state."""
        return super().state_dict() | {"generator": self._generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another stopped, with the same draws."""
        super().load_state_dict(state_dict)
        self._generator.set_state(state_dict["generator"].cpu())


class GaLore(MatrixOptimizer):
    """AdamW in the space of the gradient's first singular vectors (Zhao et al., arXiv 2403.03507), as its code has it.

    With P the first r left singular vectors of G (right ones if m >= n), found anew every `gap` steps: the moments
    are of P'G, and W -= eta scale P AdamW(P'G). The moments are kept when P changes, though they are then of another
    basis; so what follows depends on the signs of the singular vectors, which LAPACK chooses. State per matrix: P,
    r min(n, m), and two moments, 2 r max(n, m) floats.

    Args:
        params: Matrices, as for `torch.optim.AdamW`.
        lr: eta >= 0.
        r: Rank >= 1; above min(n, m) it is min(n, m).
        gap: Steps from one P to the next, >= 1.
        scale: Factor of the step > 0.
        betas: Of the two moments, each in [0, 1).
        eps: Added to the root of the second moment, before its bias is corrected.
        weight_decay: Decoupled, of W.

    Raises:
        ValueError: If an option is outside its range, or a parameter is no matrix.
        TypeError: If a weight is not real floating point.
        RuntimeError: In `step`, if a gradient is sparse.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2, 2))
        >>> optimizer = GaLore([weight], lr=0.1, r=1, scale=1.0)
        >>> weight.grad = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> optimizer.step()
        >>> [round(number, 4) for number in weight.diag().tolist()]
        [-0.1, 0.0]
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        *,
        r: int = 128,
        gap: int = 200,
        scale: float = 0.25,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        """Check the options and register the parameters; the class says what each means."""
        if not gap >= 1:
            message = f"Invalid gap: {gap}"
            raise ValueError(message)
        own = {"r": r, "gap": gap, "scale": scale, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, **own})

    def update(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Project, take the step of AdamW, and project back."""
        state, (beta1, beta2) = self.state[param], group["betas"]
        is_right = param.shape[0] >= param.shape[1]
        if state.setdefault("step", 0) % group["gap"] == 0:
            left, _, right = torch.linalg.svd(gradient.to(wide(gradient.dtype)), full_matrices=False)
            state["P"] = (right[: group["r"]].T if is_right else left[:, : group["r"]]).to(gradient.dtype).clone()
        P = state["P"]
        low = gradient @ P if is_right else P.T @ gradient
        if state["step"] == 0:
            state |= {"exp_avg": torch.zeros_like(low), "exp_avg_sq": torch.zeros_like(low)}
        state["step"] += 1
        state["exp_avg"].mul_(beta1).add_(low, alpha=1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(low, low, value=1 - beta2)
        low = state["exp_avg"] / state["exp_avg_sq"].sqrt().add_(group["eps"])
        rate = group["lr"] * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        param.add_((low @ P.T if is_right else P @ low).mul_(group["scale"]), alpha=-rate)
        if group["weight_decay"]:
            param.mul_(1 - group["lr"] * group["weight_decay"])

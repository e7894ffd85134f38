"""The path of the weights under an optimizer whose gradients come from a table: what checks of the derivation run."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from replications.lion.betas import LION_BETAS
from replications.lion.optimizer import Lion

__all__ = ["GradientOf", "MakerOf", "given", "largest", "lion_maker", "normal", "small_network", "trajectory"]

GradientOf = Callable[[int, Tensor], Tensor]
MakerOf = Callable[[list[Parameter]], torch.optim.Optimizer]


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers in float64; NumPy's, since torch's depend on the instruction set."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def given(gradients: Tensor) -> GradientOf:
    """Gradients from a table, one row a step, whatever theta is."""
    return lambda step, _theta: gradients[step]


def trajectory(
    optimizer_of: MakerOf,
    gradient_of: GradientOf,
    start: Tensor,
    num_steps: int,
    learning_rate: Callable[[int], float] | None = None,
) -> Tensor:
    """Values of theta before, between and after the steps, shape (num_steps + 1, *start.shape)."""
    param = Parameter(start.clone())
    optimizer = optimizer_of([param])
    thetas = [start.clone()]
    for step in range(num_steps):
        if learning_rate is not None:
            optimizer.param_groups[0]["lr"] = learning_rate(step)
        param.grad = gradient_of(step, thetas[-1]).clone()
        optimizer.step()
        thetas.append(param.detach().clone())
    return torch.stack(thetas)


def lion_maker(lr: float = 1.0, betas: tuple[float, float] = LION_BETAS, weight_decay: float = 0.0) -> MakerOf:
    """Maker of a Lion optimizer; plain torch, whose bits the kernel shares, so that no check waits for a compiler."""
    return lambda params: Lion(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=False)


def small_network() -> list[Parameter]:
    """Weights of two layers, all zero: what bytes are counted on."""
    return [Parameter(torch.zeros(shape)) for shape in ((256, 64), (256,), (10, 256), (10,))]


def largest(values: Tensor) -> float:
    """Largest magnitude."""
    return float(values.abs().max())

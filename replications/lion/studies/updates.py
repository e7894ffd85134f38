"""AdamW's and Lion's updates side by side along one training run, from the same gradients; Lion's move nothing."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from paperkit.runs import Measurement
from paperkit.training import Step
from replications.lion.betas import LION_BETAS
from replications.lion.optimizer import lion_update

EARLY_STEPS = (1, 2, 3, 5, 10, 20, 30, 50, 70, 100, 140, 200)


def compare_updates(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: Iterator[Step], window: int
) -> Iterator[Measurement]:
    """Sum AdamW's and Lion's updates over windows of steps and compare their sizes."""
    # Over a window of W steps, some multiple of the momentum's memory, a coordinate's displacement is S = Σ u_t, in
    # learning rates. "update_ratio": k = √(Σ S²_Lion / Σ S²_AdamW), over all entries of the matrices, holds drift and
    # diffusion alike; the first window is left out, while both averages fill. "adamw_mean_abs": mean |u| over entries
    # that have had a gradient, at early steps. "masked_share": the share of such entries whose direction and gradient
    # are not of one sign (a zero gradient is of none). Without AdamW there is the mask alone.
    adamw = isinstance(optimizer, torch.optim.AdamW)
    # Lion's direction beside AdamW is that of its default betas; under the cautious rule, that of the run's own.
    beta1, beta2 = LION_BETAS if adamw else optimizer.param_groups[0]["betas"]
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    momenta = [torch.zeros_like(p) for p in matrices]
    sums = [torch.zeros(2, *p.shape, dtype=torch.float64) for p in matrices]
    for step in steps:
        if not math.isfinite(step.loss):
            metrics = ("update_ratio", "masked_share", "adamw_mean_abs")
            yield from (Measurement("none", step.number, metric, math.nan) for metric in metrics)
            return
        mean_abs, masked, with_gradient = 0.0, 0, 0
        for index, p in enumerate(matrices):
            assert p.grad is not None
            direction, momenta[index] = lion_update(p.grad, momenta[index], beta1=beta1, beta2=beta2)
            sums[index][0] += direction
            masked += int(((direction * p.grad <= 0) & (momenta[index] != 0)).sum())
            if adamw:
                update = _adamw_update(optimizer, p)
                sums[index][1] += update
                mean_abs += float(update.abs().sum())
            with_gradient += int((momenta[index] != 0).sum())
        if adamw and step.number in EARLY_STEPS:
            yield Measurement("none", step.number, "adamw_mean_abs", mean_abs / with_gradient)
        if step.number % window == 0:
            yield Measurement("none", step.number, "masked_share", masked / with_gradient)
            if adamw and step.number > window:
                lion_size, adamw_size = sum(
                    (s.square().sum(dim=tuple(range(1, s.ndim))) for s in sums), torch.zeros(2)
                )
                yield Measurement("none", step.number, "update_ratio", math.sqrt(lion_size / adamw_size))
            for total in sums:
                total.zero_()


def _adamw_update(optimizer: torch.optim.Optimizer, p: Tensor) -> Tensor:
    """Return m̂ / (√v̂ + ε) of the step just taken."""
    (group,) = (g for g in optimizer.param_groups if any(p is each for each in g["params"]))
    state, (beta1, beta2) = optimizer.state[p], group["betas"]
    number = float(state["step"])
    mean = state["exp_avg"] / (1 - beta1**number)
    square = state["exp_avg_sq"] / (1 - beta2**number)
    return mean / (square.sqrt() + group["eps"])

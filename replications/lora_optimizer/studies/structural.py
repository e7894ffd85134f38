"""LoRA as it is usually built, with factors inside the network: what the optimizer form is held against."""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from replications.lora_optimizer.factors import Factors
from replications.lora_optimizer.optimizer import LoRAOptimizer

LR = 1e-3


class Structural(nn.Module):
    """A linear layer with a low-rank branch beside it: x -> W0 x + s B (A x), form (2) of the post."""

    def __init__(self, linear: nn.Linear, factors: Factors) -> None:
        """Freeze the layer; the factors are what is trained."""
        super().__init__()
        self.linear, self.scale = linear.requires_grad_(False), factors.scale
        self.A, self.B = nn.Parameter(factors.A.clone()), nn.Parameter(factors.B.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer with the merged weight would."""
        return self.linear(x) + self.scale * nn.functional.linear(nn.functional.linear(x, self.A), self.B)


def equality(
    network: nn.Module,
    matrices: Iterable[tuple[str, nn.Parameter]],
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    rank: int,
    seed: int,
) -> tuple[float, float]:
    """Train both forms on the same batches with AdamW, and the usual one again without its scale.

    Returns:
        Largest difference of the weights' changes over the largest change: of both forms, and of the control.
    """
    matrices, batches = list(matrices), list(batches)
    chosen, start = {p for _, p in matrices}, {p: p.detach().clone() for _, p in matrices}
    names = {p: name for name, p in matrices}
    options = {"lr": LR, "weight_decay": 0.0}
    generator = torch.Generator().manual_seed(seed)
    ours = LoRAOptimizer(matrices, r=rank, scale=2.0, generator=generator, **options)
    at_start, others = ours.factors(), []
    for scale in (2.0, 1.0):
        usual = copy.deepcopy(network)
        for (place, module), (_, twin) in zip(list(network.named_modules()), list(usual.named_modules()), strict=True):
            if isinstance(module, nn.Linear) and module.weight in chosen:
                usual.set_submodule(place, Structural(twin, at_start[names[module.weight]]._replace(scale=scale)))
        branches = {place: m for place, m in usual.named_modules() if isinstance(m, Structural)}
        optimizer = torch.optim.AdamW([f for m in branches.values() for f in (m.A, m.B)], **options)
        _fit(usual, batches, loss, optimizer)
        others.append({place: scale * (m.B @ m.A).detach() for place, m in branches.items()})
    _fit(network, batches, loss, ours)
    modules = dict(network.named_modules())
    moved = {place: (modules[place].weight - start[modules[place].weight]).detach() for place in others[0]}
    largest = max(float(of.abs().max()) for of in moved.values())
    equal, control = (max(float((of[place] - moved[place]).abs().max()) for place in moved) / largest for of in others)
    return equal, control


def _fit(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss(network(inputs), targets).backward()
        optimizer.step()

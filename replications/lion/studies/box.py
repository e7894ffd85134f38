"""Where the weights stand in the box of half-width 1/λ, and the bound of derivation step 6 along a schedule."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from paperkit.runs import Measurement

NUM_BINS = 10


def places_in_box(model: nn.Module, weight_decay: float, step: int) -> Iterator[Measurement]:
    """Measure the share of entries of the matrices, which are what decays, in each tenth of |λ θ| in [0, 1]."""
    # A tenth is named by its lower end; the last holds the outside too. Without decay there is no box.
    if weight_decay == 0:
        return
    fractions = torch.cat([p.detach().abs().flatten() for p in model.parameters() if p.ndim >= 2]) * weight_decay
    if not fractions.isfinite().all():
        return  # diverged in the last step: the loss says so
    bins = (fractions * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    shares = torch.bincount(bins, minlength=NUM_BINS).double() / len(fractions)
    for number, share in enumerate(shares.tolist()):
        yield Measurement("none", step, f"box_share_{number / NUM_BINS:.1f}", share)


class BoxBound:
    """The bound |θ_t| ≤ Q_t |θ₀| + (1 - Q_t) / λ with Q_t = ∏ (1 - η_s λ), of matrices along a schedule; λ > 0."""

    def __init__(self, model: nn.Module, weight_decay: float) -> None:
        """Remember θ₀."""
        self.matrices = [p for p in model.parameters() if p.ndim >= 2]
        self.starts: list[Tensor] = [p.detach().abs().double() for p in self.matrices]
        self.weight_decay = weight_decay
        self.shrinkage = 1.0

    def excess(self, lr: float) -> float:
        """Advance the bound by a step at η = lr, η λ ≤ 1; return the largest λ (|θ_t| - bound): positive if broken."""
        self.shrinkage *= 1 - lr * self.weight_decay
        walls = (1 - self.shrinkage) / self.weight_decay
        beyond = (
            (p.detach().abs().double() - self.shrinkage * start).max() - walls
            for p, start in zip(self.matrices, self.starts, strict=True)
        )
        return self.weight_decay * float(max(beyond))

"""Who is compared: how each arm turns gradients into steps. An arm's name says all but its rate: "lora_4_a0"."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from paperkit.training import warmup_cosine
from replications.lora_optimizer.optimizer import LoRAOptimizer
from replications.lora_optimizer.variants import AdditiveLoRA, GaLore, ResampledProjection

Named = Sequence[tuple[str, nn.Parameter]]
BETAS = (0.9, 0.99)
# No decay: on factors it pulls to the start, in full training to zero.
ADAM: Mapping[str, Any] = {"betas": BETAS, "weight_decay": 0.0, "fused": True}
DECAY = 0.1
SERIAL = 4  # starts of a run of "serial": merge, draw anew, go on
# Of LoRA, by the last part of the name: options of the optimizer.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "a0": {"init": "A0"},
    "both": {"init": "both"},
    "ga": {"init": "ga"},
    "frozen": {"train_A": False},
    "serial": {},
    "frozen_serial": {"train_A": False},
    "decay": {"weight_decay": DECAY},
}


class Arm(NamedTuple):
    """The parts of an arm's name."""

    kind: str
    rank: int
    variant: str

    @classmethod
    def of(cls, name: str) -> "Arm":
        """Take a name apart."""
        kind, rank, variant = (*name.split("_", 2), "", "")[:3]
        return cls(kind, int(rank or 0), variant)


def _lora(weights: Named, arm: Arm, generator: torch.Generator, lr: float, alpha: float | None) -> Optimizer:
    ratio = float(arm.variant.removeprefix("ratio_")) if arm.variant.startswith("ratio_") else 1.0
    options = {**ADAM, **VARIANTS.get(arm.variant, {})}
    # The listed rate is the geometric mean of both factors' rates: of A's alone, large ratios would leave the list.
    return LoRAOptimizer(
        weights, r=arm.rank, alpha=alpha, lr=lr / math.sqrt(ratio), lr_ratio=ratio, generator=generator, **options
    )


def _additive(weights: Named, arm: Arm, generator: torch.Generator, lr: float, _: float | None) -> Optimizer:
    return AdditiveLoRA(weights, r=arm.rank, random_signs=arm.kind == "signs", lr=lr, generator=generator, **ADAM)


KINDS: Mapping[str, Callable[[Named, Arm, torch.Generator, float, float | None], Optimizer]] = {
    "full": lambda weights, _arm, _generator, lr, _alpha: AdamW([p for _, p in weights], lr=lr, **ADAM),
    "sgd": lambda weights, _arm, _generator, lr, _alpha: SGD([p for _, p in weights], lr=lr),
    "lora": _lora,
    "ones": _additive,
    "signs": _additive,
    # Its own scale and period are for runs of thousands of steps.
    "galore": lambda weights, arm, _generator, lr, _: GaLore(weights, lr, r=arm.rank, gap=50, scale=1.0, betas=BETAS),
    "resampled": lambda weights, arm, draws, lr, _: ResampledProjection(weights, lr, r=arm.rank, generator=draws),
}
WITH_SGD = ("sgd", "resampled")


class Together:
    """Optimizers that step as one, each under the same schedule: what `paperkit.training.train` asks of one."""

    def __init__(self, optimizers: list[Optimizer], steps: int) -> None:
        """Put all under a rise over a tenth of the steps, and half a cosine to zero."""
        self.optimizers, self.steps = optimizers, steps
        self.schedules = [warmup_cosine(each, steps=steps, warmup_steps=steps // 10) for each in optimizers]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for each in self.optimizers:
            each.zero_grad()

    def step(self) -> None:
        """Take a step of each."""
        for each in (*self.optimizers, *self.schedules):
            each.step()


def optimizer_of(
    arm: str, weights: Named, config: Mapping[str, Any], *, steps: int, seed: int, others: Sequence[nn.Parameter] = ()
) -> Together:
    """Make the optimizer of an arm: its own for the matrices, and its base for others, if any."""
    of = Arm.of(arm)
    own = KINDS[of.kind](weights, of, torch.Generator().manual_seed(seed), config["lr"], config.get("alpha"))
    base = KINDS["sgd" if of.kind in WITH_SGD else "full"]
    others_lr = config.get("others_lr", config["lr"])
    rest = [base([("", p) for p in others], of, torch.Generator(), others_lr, None)] if others else []
    return Together([own, *rest], steps)

"""Where a loss leads with endless data: one context, the truth known, and the expected gradient followed to rest."""

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, seeds_of
from replications.emo.loss import UnitEmbedding
from replications.emo.studies.arms import Objective, objective

ARMS = ("mle", "emo", "emo_clamped", "emo_weighted", "mle_plus_4_energy", "emo_energy", "mixce", "total_variation")
CLUSTERS, SYNONYMS, WIDTH = 8, 8, 12


class FixedPoints(StrictModel):
    """How the population's gradient is followed."""

    steps: int = Field(ge=10)
    tokens: int = Field(ge=1)  # drawn from a softmax; with one of each kind they are the truth
    num_seeds: int = Field(ge=1)

    def runs(self, seeds: list[int]) -> list[Run]:
        """List the runs: every loss on the same truths."""
        config = self.model_dump(exclude={"num_seeds"})
        return [Run("fixed_points", arm, seed, config) for seed in seeds[: self.num_seeds] for arm in ARMS]


def measure_fixed_point(run: Run) -> Iterator[Measurement]:
    """Follow the mean gradient over all targets, as often as the truth has them, from the truth itself."""
    rng = np.random.default_rng(seeds_of(run.seed)[1])
    vocabulary = CLUSTERS * SYNONYMS
    drawn = np.exp(1.5 * rng.standard_normal(vocabulary))
    counts = 1 + rng.multinomial(run.config["tokens"], drawn / drawn.sum())
    truth = torch.from_numpy(counts / counts.sum())
    targets = torch.from_numpy(np.repeat(np.arange(vocabulary), counts))
    centres = np.repeat(rng.standard_normal((CLUSTERS, WIDTH)), SYNONYMS, axis=0)
    noise = 0.5 * rng.standard_normal((vocabulary, WIDTH))
    cost, loss = UnitEmbedding(torch.from_numpy(centres + noise), torch.float64), objective(run.arm)
    logits = truth.log().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    steps = run.config["steps"]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(logits.expand(len(targets), -1), targets, cost).backward()
        optimizer.step()
        schedule.step()
    log_q = logits.detach().log_softmax(0)
    entropies = [-float((p * log_p).sum()) for p, log_p in ((log_q.exp(), log_q), (truth, truth.log()))]
    yield Measurement("none", steps, "entropy_gap_nats", entropies[0] - entropies[1])
    yield Measurement("none", steps, "kl_nats", float((truth * (truth.log() - log_q)).sum()))
    yield Measurement("none", steps, "total_variation_share", float((truth - log_q.exp()).abs().sum()) / 2)
    yield Measurement("none", steps, "gradient_ratio", _rest(logits, loss, targets, cost))


def _rest(logits: Tensor, loss: Objective, targets: Tensor, cost: UnitEmbedding) -> float:
    """Return the expected gradient's norm at the end over its norm at a uniform prediction: near 0 at rest."""
    norms = []
    for start in (logits.detach(), torch.zeros_like(logits)):
        at = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at.expand(len(targets), -1), targets, cost), at)
        norms.append(float(gradient.norm()))
    return norms[0] / norms[1]

"""How a language model's predictions are measured: loss, also after one temperature, entropy, calibration, cost."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor
from torch.nn import functional

from paperkit.runs import Measurement
from replications.emo.loss import UnitEmbedding, earth_mover_loss

# Inverse temperatures at which a loss is computed; between them it is smooth and convex, and a spline interpolates it.
BETAS = np.linspace(0.5, 1.7, 9)
BINS = 15  # of confidence, in the expected calibration error


@dataclass(frozen=True)
class Quality:
    """Means over the tokens of a split.

    Attributes:
        losses: Cross-entropy in nats at each of `BETAS`.
        loss: The same at temperature 1.
        entropy: Of the predictions, in nats.
        accuracy: Share of tokens whose most probable prediction is right.
        overconfidence: Mean largest probability minus accuracy.
        calibration_error: Mean distance of confidence to accuracy over `BINS` bins, weighted by their tokens.
        costs: Earth mover's distance to the target under each cost.
    """

    losses: np.ndarray
    loss: float
    entropy: float
    accuracy: float
    overconfidence: float
    calibration_error: float
    costs: Mapping[str, float]

    @property
    def best_beta(self) -> float:
        """Inverse temperature of least loss, within the range of `BETAS`; NaN of a model that diverged."""
        if not np.isfinite(self.losses).all():
            return math.nan
        fine = np.linspace(BETAS[0], BETAS[-1], 1401)
        return float(fine[np.argmin(CubicSpline(BETAS, self.losses)(fine))])

    def loss_at(self, beta: float) -> float:
        """Return the loss at an inverse temperature within the range of `BETAS`."""
        return math.nan if math.isnan(beta) else float(CubicSpline(BETAS, self.losses)(beta))


@torch.no_grad()
def quality(batches: Iterable[tuple[Tensor, Tensor]], costs: Mapping[str, UnitEmbedding]) -> Quality:
    """Measure predictions: pairs of logits (N, V) and targets (N,)."""
    tokens, sums = 0, np.zeros(len(BETAS) + 2)
    transport = dict.fromkeys(costs, 0.0)
    confidences, right = [], []
    for raw_NV, targets_N in batches:
        logits_NV = raw_NV.float()
        of_target = logits_NV.gather(1, targets_N[:, None])[:, 0]
        sums[: len(BETAS)] += [
            float((torch.logsumexp(logits_NV * beta, 1) - beta * of_target).sum()) for beta in BETAS.tolist()
        ]
        log_p = functional.log_softmax(logits_NV, 1)
        p = log_p.exp()
        sums[-2] -= float(log_p.gather(1, targets_N[:, None]).sum())
        sums[-1] -= float((p * log_p).sum())
        confidence, predicted = p.max(1)
        confidences.append(confidence.cpu().numpy())
        right.append((predicted == targets_N).cpu().numpy())
        for name, cost in costs.items():
            transport[name] += float(earth_mover_loss(logits_NV, targets_N, cost)) * len(targets_N)
        tokens += len(targets_N)
    confidence, correct = np.concatenate(confidences), np.concatenate(right).astype(float)
    bins = np.minimum((np.nan_to_num(confidence) * BINS).astype(int), BINS - 1)
    gaps = np.abs(np.bincount(bins, correct - confidence, BINS)).sum() / tokens
    return Quality(
        sums[: len(BETAS)] / tokens, sums[-2] / tokens, sums[-1] / tokens, float(correct.mean()),
        float(confidence.mean() - correct.mean()), float(gaps),
        {name: total / tokens for name, total in transport.items()},
    )  # fmt: skip


def select(validation: Quality, step: int) -> Iterator[Measurement]:
    """Report what may select: losses of validation, as they are and after the best temperature."""
    yield Measurement("validation", step, "loss_nats", validation.loss)
    yield Measurement("validation", step, "tempered_loss_nats", validation.loss_at(validation.best_beta))


def report(validation: Quality, test: Quality, step: int) -> Iterator[Measurement]:
    """Report what a trained model does on the test split; its one temperature is chosen on validation."""
    beta = validation.best_beta
    yield from select(validation, step)
    yield Measurement("validation", step, "temperature_ratio", 1 / beta)
    values = {
        "loss_nats": test.loss,
        "tempered_loss_nats": test.loss_at(beta),
        "entropy_nats": test.entropy,
        "accuracy_share": test.accuracy,
        "overconfidence_share": test.overconfidence,
        "calibration_error_share": test.calibration_error,
    }
    values |= {f"transport_{name}_cost": value for name, value in test.costs.items()}
    yield from (Measurement("test", step, name, value) for name, value in values.items())

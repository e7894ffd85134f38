"""The losses once more, with the whole V x V cost and autograd's gradients, and random tokens to try them on."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import ot
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from replications.emo.loss import Objective, UnitEmbedding

__all__ = [
    "World",
    "as_cost",
    "confident",
    "dense_cost",
    "drawn",
    "exact_distances",
    "gradient",
    "largest",
    "modes",
    "of_each",
    "terms",
    "without_target",
    "world",
]

TOKENS, VOCABULARY, WIDTH = 40, 30, 8


class World(NamedTuple):
    """Tokens with random predictions p, random targets of both kinds, and a random cost, twice."""

    logits: Tensor
    p: Tensor
    targets: Tensor
    hot: Tensor
    soft: Tensor
    cost: UnitEmbedding
    dense: Tensor


def drawn(seed: int, *shape: int) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def as_cost(embedding: Tensor) -> UnitEmbedding:
    """Return the library's cost in float64."""
    return UnitEmbedding(embedding, dtype=torch.float64)


def dense_cost(embedding: Tensor) -> Tensor:
    """Return 1 - cos of each pair of rows, shape (V, V)."""
    norms = embedding.norm(dim=1)
    return 1 - embedding @ embedding.T / torch.outer(norms, norms)


def world(seed: int) -> World:
    """Draw 40 tokens over a vocabulary of 30, and a cost of width 8."""
    targets = torch.from_numpy(np.random.default_rng(seed).integers(0, VOCABULARY, TOKENS))
    rows, soft = drawn(seed + 1, VOCABULARY, WIDTH), drawn(seed + 2, TOKENS, VOCABULARY).softmax(-1)
    logits, hot = 1.5 * drawn(seed + 3, TOKENS, VOCABULARY), one_hot(targets, VOCABULARY).double()
    return World(logits, logits.softmax(-1), targets, hot, soft, as_cost(rows), dense_cost(rows))


def confident(w: World, rest: float) -> tuple[Tensor, Tensor]:
    """Give all targets the probability 1 - rest; return logits, and the mean cost of the other tokens."""
    off = w.p.masked_fill(w.hot.bool(), 0)
    off /= off.sum(-1, keepdim=True)
    return (rest * off + (1 - rest) * w.hot).log(), (off * w.dense[w.targets]).sum(-1)


def terms(logits: Tensor, tau: Tensor, dense: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return m, e and d of each token; tau are distributions."""
    p = logits.softmax(-1)
    p_c_p, tau_c_tau = ((x @ dense * x).sum(-1) for x in (p, tau))
    e = (p @ dense * tau).sum(-1)
    return -(tau * logits.log_softmax(-1)).sum(-1), e, e - (p_c_p + tau_c_tau) / 2


def modes(m: Tensor, e: Tensor, epsilon: float, *, detach: bool = True) -> tuple[Tensor, Tensor]:
    """Return modes 1 and 2 of each token."""
    first, second = (x.detach() if detach else x for x in (m / (e + epsilon), e / (m + epsilon)))
    return (m + first * e) / 2, e + second * m


def without_target(logits: Tensor, targets: Tensor, cost: UnitEmbedding, *, detach: bool = True) -> Tensor:
    """Return e of each token as the original has it since November 2023: the target's probability taken out of p."""
    p = logits.softmax(-1)
    of_target = p * one_hot(targets, p.shape[-1])
    return 1 - ((p - (of_target.detach() if detach else of_target)) @ cost.rows * cost.rows[targets]).sum(-1)


def of_each(loss: Objective, logits: Tensor, targets: Tensor, cost: UnitEmbedding) -> Tensor:
    """Return the library's loss of each token."""
    return torch.stack([loss(z[None], t[None], cost) for z, t in zip(logits, targets, strict=True)])


def gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """Return each token's gradient, from a mean over tokens or from a loss of each."""
    z = logits.clone().requires_grad_()
    value = loss(z)
    return torch.autograd.grad(value.sum() if value.ndim else value * len(z), z)[0]


def largest(*differences: Tensor) -> float:
    """Return the largest absolute entry."""
    return max(float(difference.abs().max()) for difference in differences)


def exact_distances(p: Tensor, tau: Tensor, dense: Tensor) -> Tensor:
    """Solve the transport problem of each pair by POT's network simplex."""
    costs = dense.numpy()
    return torch.from_numpy(np.array([ot.emd2(*pair, costs) for pair in zip(p.numpy(), tau.numpy(), strict=True)]))

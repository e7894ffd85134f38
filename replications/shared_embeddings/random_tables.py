"""Random tables for checks of the derivation, and the losses of the bigram model that two tables make."""

import numpy as np
import torch
from torch import Tensor

from paperkit.checks import Check
from replications.shared_embeddings.embedding import rms_normalise

__all__ = ["bigram_losses", "drawn", "refuted", "relative"]


def drawn(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers in float64; NumPy's, since torch's depend on the instruction set."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def relative(value: float, expected: float) -> float:
    """Relative error."""
    return abs(value / expected - 1)


def refuted(error: float, where_right: float, tolerance: float) -> Check:
    """Outcome of a statement that is wrong as written; its control fails only if it passes where it is right."""
    return Check(error, error if where_right <= tolerance else 0.0)


def bigram_losses(table: Tensor, output: Tensor, seed: int, inputs: int) -> Tensor:
    """Losses of the bigram model at random pairs of different tokens, in nats, shape (inputs,)."""
    # log sum_k e^(z_ik) - z_ij. table: input embedding after the map P, which keeps norms, and before the norm, shape
    # (n, d); output: (n, d).
    n = len(table)
    generator = np.random.default_rng(seed)
    i = torch.from_numpy(generator.integers(n, size=inputs))
    j = (i + torch.from_numpy(generator.integers(1, n, size=inputs))) % n
    logits = rms_normalise(table[i]) @ output.T
    return torch.logsumexp(logits, dim=1) - logits.gather(1, j[:, None])[:, 0]

"""The initial loss of a bigram model, residual branches being zero, over a grid of sizes: simulated and predicted."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from paperkit.runs import Measurement, Run
from replications.shared_embeddings.embedding import (
    HEADS,
    initial_sigma,
    make_embedding,
    predicted_initial_loss,
    rms_normalise,
    source_initial_loss,
    token_cross_entropy,
)

# All heads at their own standard deviation; at a constant one the two that differ by the self-logit.
OWN_SIGMA = tuple(HEADS)
CONSTANT_SIGMA = ("tied", "untied")


def measure_initial_loss(run: Run) -> Iterator[Measurement]:
    """Measure the untrained bigram model's loss at random pairs of different tokens, and predict it, for each head."""
    # Arm "own" has each head's standard deviation, "constant" that of the configuration.
    n, d, inputs = run.config["n"], run.config["d"], run.config["inputs"]
    generator = np.random.default_rng(run.seed)
    torch.manual_seed(int(generator.integers(2**31)))
    i = torch.from_numpy(generator.integers(n, size=inputs))
    j = (i + torch.from_numpy(generator.integers(1, n, size=inputs))) % n
    embedding = make_embedding(n, d, 1.0)
    unit = embedding.weight.detach().clone()
    for name in OWN_SIGMA if run.arm == "own" else CONSTANT_SIGMA:
        sigma = initial_sigma(n, d, name) if run.arm == "own" else run.config["sigma"]
        embedding.weight.data = unit * sigma
        yield Measurement("none", 0, f"{name}_loss_nats", _loss(name, embedding, i, j))
        yield Measurement("none", 0, f"{name}_predicted_nats", predicted_initial_loss(n, d, sigma, name))
        if name == "tied":
            yield Measurement("none", 0, "source_formula_nats", source_initial_loss(n, d, sigma))


@torch.no_grad()
def _loss(name: str, embedding: torch.nn.Embedding, i: Tensor, j: Tensor) -> float:
    head = HEADS[name](embedding)
    return token_cross_entropy(head(rms_normalise(embedding(i))), j).item()

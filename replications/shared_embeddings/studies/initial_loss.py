"""The initial loss of a bigram model, residual branches being zero, over a grid of sizes: simulated and predicted."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from paperkit.config import StrictModel
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
from replications.shared_embeddings.studies.language_model import EvenWidth

# Heads of each arm: all at their own standard deviation; at a constant one the two that differ by the self-logit.
ARMS = {"own": tuple(HEADS), "constant": ("tied", "untied")}


class InitialLoss(StrictModel):
    """The grid of simulated bigram models (C2 to C4)."""

    vocabularies: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    widths: list[EvenWidth] = Field(min_length=1)
    sigmas: list[PositiveFloat]  # constant ones, beside each head's own
    inputs: PositiveInt  # pairs of tokens a model
    num_seeds: PositiveInt

    def runs(self, seeds: Sequence[int]) -> Iterator[Run]:
        """List the models, the largest first."""
        sizes = product(sorted(self.vocabularies, reverse=True), sorted(self.widths, reverse=True))
        for (n, d), seed in product(sizes, seeds[: self.num_seeds]):
            yield Run("initial_loss", "own", seed, {"n": n, "d": d, "inputs": self.inputs})
            for sigma in self.sigmas:
                yield Run("initial_loss", "constant", seed, {"n": n, "d": d, "inputs": self.inputs, "sigma": sigma})


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
    for name in ARMS[run.arm]:
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

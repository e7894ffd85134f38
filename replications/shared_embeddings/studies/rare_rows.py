"""Where rows of rare tokens go under Lion (of lion-pytorch), with and without a shared table, in a bigram model."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from lion_pytorch import Lion
from pydantic import Field, PositiveInt
from torch import nn

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run
from replications.shared_embeddings.embedding import HEADS, initial_sigma, make_embedding, token_cross_entropy

ARMS = ("tied", "half_swap", "untied")
CLASSES = ("unseen", "rare", "frequent")


class Bigram(StrictModel):
    """The made-up text and the optimizer."""

    vocabulary: int = Field(ge=16, multiple_of=8)  # n; the last eighth never occurs, the one before is rare
    width: int = Field(ge=2, multiple_of=2)
    batch: int = Field(ge=1)  # pairs a step
    steps: int = Field(ge=1)  # at a constant learning rate
    rare_probability: float = Field(gt=0, lt=0.01)  # of each rare token
    lr: float = Field(gt=0)
    weight_decay: float = Field(gt=0)  # λ; the wall stands at 1/λ


class RareRows(StrictModel):
    """Rows of rare tokens under Lion (C9)."""

    task: Bigram
    num_seeds: PositiveInt

    def runs(self, seeds: Sequence[int]) -> Iterator[Run]:
        """List the models."""
        for seed, arm in product(seeds[: self.num_seeds], ARMS):
            yield Run("rare_rows", arm, seed, self.task.model_dump())


def token_classes(vocabulary: int) -> dict[str, slice]:
    """Say which tokens are of which class: the last eighth never occurs, the one before is rare."""
    eighth = vocabulary // 8
    return {
        "frequent": slice(0, vocabulary - 2 * eighth),
        "rare": slice(vocabulary - 2 * eighth, vocabulary - eighth),
        "unseen": slice(vocabulary - eighth, vocabulary),
    }


def measure_rare_rows(run: Run) -> Iterator[Measurement]:
    """Train a bigram model with Lion and look at the entries of the rows of each class, in shares of the wall 1/λ."""
    # Input rows; for an untied head also output rows.
    task = Bigram(**run.config)
    torch.manual_seed(run.seed)
    n, generator = task.vocabulary, np.random.default_rng(run.seed)
    embedding = make_embedding(n, task.width, initial_sigma(n, task.width, run.arm))
    model = nn.Sequential(embedding, nn.LayerNorm(task.width), HEADS[run.arm](embedding))
    optimizer = Lion(model.parameters(), lr=task.lr, weight_decay=task.weight_decay, betas=(0.9, 0.99))
    follows = generator.permutation(n)
    for _ in range(task.steps):
        inputs, targets = draw_pairs(generator, task, follows)
        optimizer.zero_grad()
        token_cross_entropy(model(torch.from_numpy(inputs)), torch.from_numpy(targets)).backward()
        optimizer.step()
    tables = {"": embedding.weight} | ({"output_": model[2].weight} if run.arm == "untied" else {})
    for prefix, table in tables.items():
        for name, rows in token_classes(n).items():
            entries = task.weight_decay * table.detach()[rows].double()
            yield Measurement("none", task.steps, f"{prefix}{name}_largest", float(entries.abs().max()))
            yield Measurement("none", task.steps, f"{prefix}{name}_rms", float(entries.square().mean().sqrt()))


def draw_pairs(generator: np.random.Generator, task: Bigram, follows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw a token and the next: in half of the cases by frequency, in the others by a fixed function."""
    # follows: the fixed function, shape (vocabulary,); where it leads to an unseen token, the token itself follows.
    inputs = draw_tokens(generator, task)
    targets = np.where(generator.random(task.batch) < 0.5, draw_tokens(generator, task), follows[inputs])
    unseen = targets >= token_classes(task.vocabulary)["unseen"].start
    return inputs, np.where(unseen, inputs, targets)


def draw_tokens(generator: np.random.Generator, task: Bigram) -> np.ndarray:
    """Draw tokens: frequent ones in proportion to 1/rank, rare ones with their probability."""
    classes = token_classes(task.vocabulary)
    probability = np.zeros(task.vocabulary)
    probability[classes["frequent"]] = 1 / np.arange(1, classes["frequent"].stop + 1)
    probability[classes["rare"]] = 0
    probability *= (1 - task.rare_probability * (classes["rare"].stop - classes["rare"].start)) / probability.sum()
    probability[classes["rare"]] = task.rare_probability
    return np.searchsorted(np.cumsum(probability)[: classes["rare"].stop - 1], generator.random(task.batch))

"""The first loss of a GPT with each head, before any training (C5)."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Self

import torch
from pydantic import Field, PositiveInt, model_validator

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, seeds_of
from replications.shared_embeddings.embedding import HEADS, initial_sigma, token_cross_entropy
from replications.shared_embeddings.studies.language_model import (
    EvenWidth,
    LanguageModel,
    make_gpt,
    require_whole_heads,
)

ARMS = ("tied", "untied", "orthogonal", "half_swap", "shuffle")
GRADIENT_ARMS = ("tied", "untied", "half_swap")


class FirstLoss(StrictModel):
    """Untrained GPTs."""

    size: LanguageModel  # its width is replaced by each of `widths`
    widths: list[EvenWidth] = Field(min_length=1)
    windows: PositiveInt  # of the validation split
    gradient_windows: PositiveInt  # for the gradient's norm
    num_seeds: PositiveInt

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        require_whole_heads(self.widths, self.size)
        return self

    def runs(self, seeds: Sequence[int]) -> Iterator[Run]:
        """List the models, the widest first."""
        for width, seed in product(sorted(self.widths, reverse=True), seeds[: self.num_seeds]):
            for positions, branches in product((True, False), repeat=2):
                settings = {
                    **self.size.in_runs, "width": width, "positions": positions, "branches": branches,
                    "windows": self.windows, "gradient_windows": self.gradient_windows,
                }  # fmt: skip
                yield Run("first_loss", "all_heads", seed, settings)


def measure_first_loss(run: Run) -> Iterator[Measurement]:
    """Measure an untrained GPT with each head on the same hidden states."""
    # Validation loss of each head in nats a token, the norm of its gradient over all parameters (for some heads), and
    # the share of tokens that repeat the one before.
    size = LanguageModel.from_config(run.config)
    torch.manual_seed(seeds_of(run.seed)[0])
    sigma = initial_sigma(size.vocabulary, size.width, "tied")
    gpt = make_gpt(size, sigma=sigma, positions=run.config["positions"], branches=run.config["branches"])
    inputs, targets = size.even_windows("validation", run.config["windows"])
    heads = {name: HEADS[name](gpt.token_embedding) for name in ARMS}
    with torch.no_grad():
        hidden = gpt(inputs)
        for name, head in heads.items():
            yield Measurement("validation", 0, f"{name}_loss_nats", token_cross_entropy(head(hidden), targets).item())
    yield Measurement("validation", 0, "repeated_share", float((inputs == targets).double().mean()))
    few = slice(run.config["gradient_windows"])
    for name in GRADIENT_ARMS:
        loss = token_cross_entropy(heads[name](gpt(inputs[few])), targets[few])
        parameters = list({id(p): p for p in (*gpt.parameters(), *heads[name].parameters())}.values())
        gradients = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        yield Measurement("validation", 0, f"{name}_gradient_norm", norm)

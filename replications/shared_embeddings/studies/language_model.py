"""GPTs over a text that differ in their head; B batch, T time (context), V vocabulary n, D width d."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from paperkit.models.tiny_gpt import TinyGPT
from paperkit.texts import TextModel

EvenWidth = Annotated[int, Field(ge=2, multiple_of=2)]


class LanguageModel(TextModel):
    """Sizes of the model, the same for all heads."""

    width: EvenWidth  # d


def require_whole_heads(widths: Sequence[int], size: TextModel) -> None:
    """Refuse widths in place of the model's own that its attention heads do not divide."""
    refused = [width for width in widths if width % size.heads]
    if refused:
        message = f"widths {refused} must be multiples of heads {size.heads}"
        raise ValueError(message)


def make_gpt(size: TextModel, *, sigma: float, positions: bool, branches: bool) -> TinyGPT:
    """Make a GPT without a head: the same numbers for every sigma, from torch's global generator."""
    # Positions start at the embedding's standard deviation or at 0, residual branches at their usual size or at 0, as
    # the source assumes. The head is the identity: the model returns final hidden states.
    gpt = size.make()
    unit = gpt.token_embedding.weight.detach() * math.sqrt(size.width)
    gpt.token_embedding = nn.Embedding.from_pretrained(unit * sigma, freeze=False)
    gpt.position_embedding.weight.data.mul_(math.sqrt(size.width) * sigma if positions else 0.0)
    if not branches:
        for block in gpt.blocks:
            for output in (block.attention_output, block.mlp_output):
                output.weight.data.zero_()
    gpt.head = nn.Identity()
    return gpt


def factorised_width(vocabulary: int, width: int) -> int:
    """Return the inner width e at which two factorised tables cost no more than a shared one: 2 e (n + d) <= n d."""
    return max(1, vocabulary * width // (2 * (vocabulary + width)))


def factorise(gpt: TinyGPT, size: TextModel) -> None:
    """Give a model an input and an output table of their own, each a product of a narrow table and a projection."""
    # Entries of the product have variance 1/d, logits variance 1, as in the untied model.
    inner = factorised_width(size.vocabulary, size.width)

    def linear(into: int, out: int) -> nn.Linear:
        layer = nn.Linear(into, out, bias=False)
        nn.init.normal_(layer.weight, std=1 / math.sqrt(into))
        return layer

    table = nn.Embedding(size.vocabulary, inner)
    nn.init.normal_(table.weight, std=1 / math.sqrt(size.width))
    # TinyGPT calls both as functions of tokens and of hidden states, and asks nothing else of them.
    gpt.token_embedding = nn.Sequential(table, linear(inner, size.width))
    gpt.head = nn.Sequential(linear(size.width, inner), linear(inner, size.vocabulary))


def unigram_entropy(stream: Tensor) -> float:
    """Return the entropy of the token frequencies: the loss of the best model that ignores the context."""
    counts = torch.bincount(stream).double()
    frequencies = counts[counts > 0] / counts.sum()
    return float(-(frequencies * frequencies.log()).sum())

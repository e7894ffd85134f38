"""State of the Union speeches as one stream of tokens, and the settings of a small language model over them."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn

from paperkit.config import StrictModel
from paperkit.datasets import read_table
from paperkit.models.language_model import even_windows, mean_loss, random_windows
from paperkit.models.tiny_gpt import TinyGPT

Split = Literal["train", "validation", "test"]


@functools.cache
def token_stream(split: Split, vocabulary: int) -> Tensor:
    """Encode the speeches of a split, joined by one separator token (id 0).

    Args:
        split: Which speeches; the byte-level BPE is always trained on the training ones.
        vocabulary: Number of tokens, at least 257: one a byte, and the separator.

    Returns:
        Token ids, shape (tokens,), int64.
    """
    tokenizer = _tokenizer(vocabulary)
    # One speech at a time: what the tokenizer notes beside the ids of a whole split takes most of a gigabyte.
    return torch.cat([torch.tensor([0, *tokenizer.encode(speech).ids]) for speech in _speeches(split)])


class SpeechModel(StrictModel):
    """Sizes of a small GPT over the speeches."""

    vocabulary: int = Field(ge=257, le=65_535)  # of the byte-level BPE, trained on the training speeches
    width: int = Field(ge=1)  # a multiple of heads
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    context: int = Field(ge=1)  # tokens a window

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            message = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(message)
        return self

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Take these settings, checked, from a run's configuration, which holds others beside them."""
        return cls(**{name: config[name] for name in cls.model_fields})

    def make(self, *, tied: bool = False) -> TinyGPT:
        """Make an untrained model from torch's global generator; `tied`: its head is the matrix of its embedding."""
        return TinyGPT(
            vocabulary=self.vocabulary, width=self.width, layers=self.layers, heads=self.heads, context=self.context,
            tied=tied,
        )  # fmt: skip

    def even_windows(self, split: Split, number: int) -> tuple[Tensor, Tensor]:
        """Cut evenly spaced windows out of a split: inputs and targets, each of shape (number, context)."""
        return even_windows(token_stream(split, self.vocabulary), context=self.context, number=number)

    def loss(self, model: nn.Module, split: Split, windows: int) -> float:
        """Return the mean cross-entropy in nats a token over so many evenly spaced windows of a split."""
        return mean_loss(model, *self.even_windows(split, windows))


class SpeechTraining(SpeechModel):
    """A training run of such a model."""

    batch: int = Field(ge=1)  # windows a step
    steps: int = Field(ge=2)
    warmup_steps: int = Field(ge=0)  # of the linear rise; half a cosine follows

    @model_validator(mode="after")
    def _two_steps_after_warmup(self) -> Self:
        if self.warmup_steps > self.steps - 2:
            message = f"warmup_steps {self.warmup_steps} must be at most steps - 2 = {self.steps - 2}"
            raise ValueError(message)
        return self

    @property
    def text(self) -> Tensor:
        """Tokens of the training text, shape (tokens,)."""
        return token_stream("train", self.vocabulary)

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw inputs and targets of each step, of shape (batch, context); a seed gives every arm the same ones."""
        return random_windows(self.text, context=self.context, batch=self.batch, steps=self.steps, seed=seed)


@functools.cache
def _tokenizer(vocabulary: int) -> ByteLevelBPETokenizer:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        _speeches("train"), vocab_size=vocabulary, special_tokens=["<|speech|>"], show_progress=False
    )
    return tokenizer


def _speeches(split: Split) -> list[str]:
    return list(read_table("sotu", columns=["text"], split=split)["text"])

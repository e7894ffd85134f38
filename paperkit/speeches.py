"""State of the Union speeches as one stream of tokens: the text that small language models are trained on.

Dimension letters: B batch, T time (context).
"""

import functools
from typing import Literal

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor

from paperkit.datasets import read_table

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


def windows_at(stream: Tensor, starts: np.ndarray, context: int) -> tuple[Tensor, Tensor]:
    """Cut windows out of a stream.

    Args:
        stream: Token ids, shape (tokens,).
        starts: First token of each window, shape (B,).
        context: Tokens a window, T; the last start is at most tokens - T - 1.

    Returns:
        Inputs and targets (one token later), each of shape (B, T).

    Example:
        >>> inputs, targets = windows_at(torch.arange(10), np.array([0, 6]), context=3)
        >>> inputs.tolist(), targets.tolist()
        ([[0, 1, 2], [6, 7, 8]], [[1, 2, 3], [7, 8, 9]])
    """
    tokens = stream[torch.from_numpy(starts)[:, None] + torch.arange(context + 1)]
    return tokens[:, :-1], tokens[:, 1:]


@functools.cache
def _tokenizer(vocabulary: int) -> ByteLevelBPETokenizer:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        _speeches("train"), vocab_size=vocabulary, special_tokens=["<|speech|>"], show_progress=False
    )
    return tokenizer


def _speeches(split: Split) -> list[str]:
    return list(read_table("sotu", columns=["text"], split=split)["text"])

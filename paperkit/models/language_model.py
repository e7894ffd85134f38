"""A language model over one long stream of tokens: windows to train on and to evaluate on, and its loss.

Dimension letters: B batch, N windows, T time (context), V vocabulary.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

EVALUATED_AT_ONCE = 64  # windows


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


def random_windows(
    stream: Tensor, *, context: int, batch: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw the batches of a run uniformly with replacement; the same seed gives every arm the same ones.

    Args:
        stream: Token ids, shape (tokens,), more than `context`.
        context: Tokens a window, T.
        batch: Windows a batch, B.
        steps: Number of batches.
        seed: Of the draw.

    Yields:
        Inputs and targets, each of shape (B, T).
    """
    for starts in np.random.default_rng(seed).integers(len(stream) - context, size=(steps, batch)):
        yield windows_at(stream, starts, context)


def even_windows(stream: Tensor, *, context: int, number: int) -> tuple[Tensor, Tensor]:
    """Cut evenly spaced windows, the same ones for every run; the first starts and the last ends with the stream.

    Args:
        stream: Token ids, shape (tokens,), more than `context`.
        context: Tokens a window, T.
        number: Windows, N.

    Returns:
        Inputs and targets, each of shape (N, T).

    Example:
        >>> even_windows(torch.arange(10), context=3, number=2)[0].tolist()
        [[0, 1, 2], [6, 7, 8]]
    """
    return windows_at(stream, np.linspace(0, len(stream) - context - 1, number).astype(np.int64), context)


def next_token_loss(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats a token.

    Args:
        logits_BTV: Shape (B, T, V).
        targets_BT: Token ids, shape (B, T), int64.

    Returns:
        Scalar.
    """
    return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


@torch.no_grad()
def mean_loss(model: nn.Module, inputs_NT: Tensor, targets_NT: Tensor) -> float:
    """Return a model's mean loss over windows, and leave it in evaluation mode.

    Args:
        model: Maps token ids (B, T) to logits (B, T, V).
        inputs_NT: Token ids, shape (N, T).
        targets_NT: Token ids, shape (N, T).

    Returns:
        Cross-entropy in nats a token.
    """
    model.eval()
    device = next(model.parameters()).device
    total = 0.0
    for inputs, targets in zip(inputs_NT.split(EVALUATED_AT_ONCE), targets_NT.split(EVALUATED_AT_ONCE), strict=True):
        total += next_token_loss(model(inputs.to(device)), targets.to(device)).item() * len(inputs)
    return total / len(inputs_NT)

"""Attention whose scale is a parameter: the size of softmax's gradient, and a small GPT to train at any scale.

Letters: B batch, T time, D width, H heads, d = D / H, n scores in a row. Equation numbers are those of
kexue.fm/archives/9812.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from paperkit.models.tiny_gpt import Block, TinyGPT

__all__ = [
    "CosineBlock", "ScaledBlock", "gradient_mass", "parameter_groups", "rotated", "score_statistics", "with_blocks",
]  # fmt: skip

ROTARY_BASE = 10_000.0


def gradient_mass(scores: Tensor, scale: float) -> Tensor:
    """Return half the L1 norm of the Jacobian of p = softmax(scale · scores), equation (3): scale · (1 - Σ p²).

    1 - Σ p² is computed as (2R + R² - Q) / (1 + R)², where R and Q sum exp and exp² over all but the largest score,
    which has exp = 1: nothing cancels where one weight is nearly 1.

    Args:
        scores: Shape (..., n), float32 or float64; -inf is a masked place. A row with NaN or +inf, or all masked,
            gives NaN; equal scores give their limit, scale · (1 - 1/n).
        scale: α, positive; scale · score may be as large as the format holds.

    Returns:
        Shape (...), from 0 to scale · (1 - 1/n); differentiable.

    Raises:
        ValueError: If a row has less than two scores, the format is another, or the scale not positive and finite.

    Example:
        >>> gradient_mass(torch.tensor([0.0, -40.0], dtype=torch.float64), 1.0).item()
        8.496708...e-18
    """
    if scores.dtype not in (torch.float32, torch.float64):
        message = f"scores are {scores.dtype}; use float32 or float64"
        raise ValueError(message)
    if not scores.ndim or scores.shape[-1] < 2:
        message = f"scores have shape {tuple(scores.shape)}; a row needs at least 2"
        raise ValueError(message)
    if not 0 < scale < math.inf:
        message = f"scale is {scale}; it must be positive and finite"
        raise ValueError(message)
    top = scores.max(-1, keepdim=True)
    others = ((scores - top.values) * scale).scatter_(-1, top.indices, -math.inf).exp_()
    first, second = others.sum(-1), torch.linalg.vecdot(others, others)
    return scale * (2 * first + (first.square() - second).clamp_min(0)) / (1 + first).square()


class ScaledBlock(Block):
    """A block whose scores are scale · q·k / sqrt(d), with rotary positions and a query map of its own.

    At initialisation q·k / sqrt(d) has variance 1, so `scale` is the post's α. The query has its own map so that its
    initial weights and its learning rate can be set: the two things that a scale changes (step 16 of the derivation).

    Args:
        block: Gives the initial weights.
        scale: α.
        spread: Factor of the initial query weights.
    """

    def __init__(self, block: Block, *, scale: float, spread: float = 1.0) -> None:
        """Take over the weights of a block."""
        width = block.attention_output.in_features
        super().__init__(width, block.heads)
        self.load_state_dict(block.state_dict())
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        with torch.no_grad():
            for name in ("weight", "bias"):
                packed = getattr(self.attention_input, name)
                getattr(self.query, name).copy_(spread * packed[:width])
                getattr(self.key_value, name).copy_(packed[width:])
        del self.attention_input
        self.scale = scale

    def query_key_value(self, hidden_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (B, H, T, d); a score is the dot product of the first two."""
        batch, time, width = hidden_BTD.shape
        shape = (batch, time, self.heads, width // self.heads)
        packed = self.query(hidden_BTD), *self.key_value(hidden_BTD).split(width, dim=-1)
        query, key, value = (part.view(shape).transpose(1, 2) for part in packed)
        query, key = self._prepared(rotated(query), rotated(key))
        return query, key, value

    def _prepared(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return query * (self.scale / math.sqrt(query.shape[-1])), key

    def _attention(self, hidden_BTD: Tensor) -> Tensor:
        mixed_BHTd = functional.scaled_dot_product_attention(
            *self.query_key_value(hidden_BTD), is_causal=True, scale=1.0
        )
        return self.attention_output(mixed_BHTd.transpose(1, 2).reshape(hidden_BTD.shape))


class CosineBlock(ScaledBlock):
    """A block whose scores are scale · cos(q, k)."""

    def _prepared(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return self.scale * functional.normalize(query, dim=-1), functional.normalize(key, dim=-1)


def rotated(x_BHTd: Tensor) -> Tensor:
    """Turn each pair of coordinates by an angle that grows with the position (rotary positions); norms are kept."""
    time, size = x_BHTd.shape[-2:]
    rates = ROTARY_BASE ** (-torch.arange(0, size, 2, device=x_BHTd.device) / size)
    angles_Td = torch.arange(time, device=x_BHTd.device)[:, None] * rates.repeat(2)
    first, second = x_BHTd.chunk(2, dim=-1)
    return x_BHTd * angles_Td.cos() + torch.cat([-second, first], dim=-1) * angles_Td.sin()


def with_blocks(model: TinyGPT, kind: type[ScaledBlock], *, scale: float, spread: float = 1.0) -> TinyGPT:
    """Put such blocks in the place of a model's own, with the same initial weights."""
    model.blocks = nn.ModuleList(kind(cast("Block", block), scale=scale, spread=spread) for block in model.blocks)
    return model


def parameter_groups(model: TinyGPT, lr: float, query_rate: float) -> list[dict]:
    """Give the query maps a learning rate of their own, `query_rate` times that of all other parameters."""
    query = {id(parameter) for block in _blocks(model) for parameter in block.query.parameters()}
    of_query, others = ([p for p in model.parameters() if (id(p) in query) == wanted] for wanted in (True, False))
    return [{"params": others, "lr": lr}, {"params": of_query, "lr": query_rate * lr}]


@torch.no_grad()
def score_statistics(model: TinyGPT, tokens_BT: Tensor) -> tuple[float, float]:
    """Measure how wide the scores of a model are, and the post's objective at that width.

    Args:
        model: Its blocks are `ScaledBlock`s.
        tokens_BT: Token ids, shape (B, T).

    Returns:
        Means over heads, blocks and the rows of the second half of the context: the standard deviation of a row's
        scores with the scale in them, which is α where the scores are those that (3) assumes, and that times
        (1 - Σ p²).
    """
    hidden = model.token_embedding(tokens_BT) + model.position_embedding(torch.arange(tokens_BT.shape[1]))
    time, found = tokens_BT.shape[1], []
    for block in _blocks(model):
        query, key, _ = block.query_key_value(block.attention_norm(hidden))
        scores_BHTT = query @ key.transpose(-1, -2)
        for row in range(time // 2, time):
            scores = scores_BHTT[:, :, row, : row + 1]
            width = scores.std(-1)
            found.append(torch.stack([width, width * gradient_mass(scores, 1.0)]).flatten(1).mean(-1))
        hidden = block(hidden)
    return tuple(torch.stack(found).mean(0).tolist())


def _blocks(model: TinyGPT) -> Sequence[ScaledBlock]:
    return cast("Sequence[ScaledBlock]", model.blocks)

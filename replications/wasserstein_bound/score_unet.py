"""A small U-Net that predicts the noise in an image, after Ho et al. (2020), without attention.

Legend: B batch, S side in pixels, C channels at full resolution.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 4
# Frequencies of the features of ℓ: over its range of about 17 the slowest makes a quarter of a turn.
FREQUENCIES = torch.logspace(math.log10(0.1), math.log10(3.0), 8)


class ScoreUNet(nn.Module):
    """Two halvings of the side, a residual block on each level on the way down and up; SiLU throughout.

    It takes what `ScoreNetwork` takes, flat images with ℓ beside them, so that both are trained and measured alike.

    Args:
        side: S, a multiple of 4.
        channels: C, a multiple of 4; the lower levels have 2 C.

    Raises:
        ValueError: If a size is not a positive multiple of 4.

    Example:
        >>> ScoreUNet(side=8, channels=4)(torch.zeros(3, 65)).shape
        torch.Size([3, 64])
    """

    def __init__(self, *, side: int, channels: int) -> None:
        """Draw the weights from torch's global generator; raise ValueError for sizes that do not fit."""
        super().__init__()
        for name, size in (("side", side), ("channels", channels)):
            if size < 1 or size % 4:
                message = f"{name} is {size}; it must be a positive multiple of 4"
                raise ValueError(message)
        self.side = side
        wide, features = 2 * channels, 4 * channels
        self.register_buffer("frequencies", FREQUENCIES.clone())
        self.time = nn.Sequential(nn.Linear(2 * len(FREQUENCIES), features), nn.SiLU(), nn.Linear(features, features))
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.down = nn.ModuleList([
            _Block(channels, channels, features),
            _Block(channels, wide, features),
            _Block(wide, wide, features),
        ])
        self.up = nn.ModuleList([_Block(2 * wide, wide, features), _Block(wide + channels, channels, features)])
        self.last = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict the noise ε_θ, shape (B, S²), from flat images and, last, ℓ; shape (B, S² + 1)."""
        angles = inputs[:, -1:] * self.frequencies  # pyright: ignore[reportOperatorIssue]
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        full = self.down[0](self.first(inputs[:, :-1].unflatten(1, (1, self.side, self.side))), time)
        half = self.down[1](functional.avg_pool2d(full, 2), time)
        low = self.down[2](functional.avg_pool2d(half, 2), time)
        half = self.up[0](torch.cat([functional.interpolate(low, scale_factor=2.0), half], dim=1), time)
        full = self.up[1](torch.cat([functional.interpolate(half, scale_factor=2.0), full], dim=1), time)
        return self.last(functional.silu(full)).flatten(1)


class _Block(nn.Module):
    """x ↦ P x + conv(silu(norm(conv(silu(norm(x))) + time))), P a 1 × 1 convolution."""

    def __init__(self, ins: int, outs: int, features: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(GROUPS, ins), nn.GroupNorm(GROUPS, outs)])
        self.convolutions = nn.ModuleList([nn.Conv2d(ins, outs, 3, padding=1), nn.Conv2d(outs, outs, 3, padding=1)])
        self.shift = nn.Linear(features, outs)
        self.straight = nn.Conv2d(ins, outs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.convolutions[0](functional.silu(self.norms[0](x)))
        inner = inner + self.shift(functional.silu(time))[:, :, None, None]
        return self.straight(x) + self.convolutions[1](functional.silu(self.norms[1](inner)))

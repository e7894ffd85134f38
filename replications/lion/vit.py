"""A small Vision Transformer after Dosovitskiy et al. (2021), for images of a few dozen pixels.

Dimension letters: B batch, C channels, S side in pixels, N patches, D width, K classes.
"""

import torch
from torch import Tensor, nn


class VisionTransformer(nn.Module):
    """Pre-norm encoder over square patches with a class token and learned positions; no dropout."""

    def __init__(self, *, side: int, patch: int, width: int, layers: int, heads: int, classes: int) -> None:
        """Make the parameters from torch's global generator; raise ValueError for sizes that do not fit."""
        super().__init__()
        for whole, part, name in ((side, patch, "side {} of patch {}"), (width, heads, "width {} of heads {}")):
            if whole % part:
                message = f"{name.format(whole, part)}: the first must be a multiple of the second"
                raise ValueError(message)
        self.patches = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + (side // patch) ** 2, width))
        nn.init.normal_(self.positions, std=0.02)
        # Each block is made on its own: nn.TransformerEncoder would start all of them from one set of weights.
        self.blocks = nn.Sequential(*(_block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images_BCSS: Tensor) -> Tensor:
        """Logits, shape (B, K), of images (B, 3, S, S) centred near 0."""
        patches_BND = self.patches(images_BCSS).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(patches_BND), -1, -1), patches_BND], dim=1)
        return self.head(self.norm(self.blocks(tokens + self.positions)[:, 0]))


def _block(width: int, heads: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width, heads, dim_feedforward=4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )

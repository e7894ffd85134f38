"""A small decoder-only transformer: the language model that several replications train from scratch.

Dimension letters: B batch, T time (context), V vocabulary, D width, H heads, L layers.
"""

import math

import torch
from torch import nn
from torch.nn import functional


class TinyGPT(nn.Module):
    """Pre-norm causal transformer with learned positions, after Radford et al. (2019).

    Linear maps start at standard deviation 1/sqrt(fan_in), and the two maps that write into the residual
    stream at half of that. The customary 0.02 is tuned to D ≈ 768: at D = 64 it leaves a long plateau at the
    start, and a short run then measures the luck of leaving it.

    Args:
        vocabulary: Number of token ids V, at least 2.
        width: D, a multiple of `heads`.
        layers: L, at least 1.
        heads: H, at least 1.
        context: Longest sequence T in tokens.
        tied: Whether the output head shares the matrix of the input embedding.

    Raises:
        ValueError: If a size is out of range.

    Example:
        >>> model = TinyGPT(vocabulary=11, width=8, layers=1, heads=2, context=4)
        >>> model(torch.zeros(3, 4, dtype=torch.int64)).shape
        torch.Size([3, 4, 11])
    """

    def __init__(
        self, *, vocabulary: int, width: int, layers: int, heads: int, context: int, tied: bool = False
    ) -> None:
        """Make the parameters from torch's global generator; raise ValueError for a size out of range."""
        super().__init__()
        for name, size, least in (
            ("vocabulary", vocabulary, 2),
            ("width", width, 1),
            ("layers", layers, 1),
            ("heads", heads, 1),
            ("context", context, 1),
        ):
            if size < least:
                message = f"{name} is {size}; it must be at least {least}"
                raise ValueError(message)
        if width % heads:
            message = f"width {width} is not a multiple of heads {heads}"
            raise ValueError(message)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self._initialise()
        if tied:
            self.head.weight = self.token_embedding.weight

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Predict the next token at every position.

        Args:
            tokens_BT: Token ids, shape (B, T), int64, in [0, V), T at most `context`.

        Returns:
            Logits, shape (B, T, V); logits[b, t] predict token t + 1.
        """
        positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        hidden_BTD = self.token_embedding(tokens_BT) + self.position_embedding(positions_T)
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD)
        return self.head(self.final_norm(hidden_BTD))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.embedding_dim))
        for module in self.modules():
            if isinstance(module, Block):
                module.attention_output.weight.data.mul_(0.5)
                module.mlp_output.weight.data.mul_(0.5)


class Block(nn.Module):
    """Causal self-attention and a GELU perceptron of four widths, each added to the residual stream.

    Args:
        width: D, a multiple of `heads`.
        heads: H.
    """

    def __init__(self, width: int, heads: int) -> None:
        """Make the parameters."""
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention_input = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_input = nn.Linear(width, 4 * width)
        self.mlp_output = nn.Linear(4 * width, width)

    def forward(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        """Apply the block.

        Args:
            hidden_BTD: Residual stream, shape (B, T, D).

        Returns:
            Residual stream, shape (B, T, D).
        """
        hidden_BTD = hidden_BTD + self._attention(self.attention_norm(hidden_BTD))
        mlp_BTF = functional.gelu(self.mlp_input(self.mlp_norm(hidden_BTD)))
        return hidden_BTD + self.mlp_output(mlp_BTF)

    def _attention(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        batch, time, width = hidden_BTD.shape
        shape = (batch, time, 3, self.heads, width // self.heads)
        query, key, value = self.attention_input(hidden_BTD).view(shape).permute(2, 0, 3, 1, 4)
        mixed_BHTd = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.attention_output(mixed_BHTd.transpose(1, 2).reshape(batch, time, width))

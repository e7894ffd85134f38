r"""Small score networks for variance-preserving diffusions.

A network predicts the noise ε that was added, and the score follows from it:

    x_t = α x_0 + σ ε,   α² + σ² = 1,   ℓ = log(α² / σ²),   s(x, t) = −ε_θ(x, ℓ) / σ

ℓ, the log signal-to-noise ratio, stands for the time: it fixes α and σ, so that a network knows no schedule.
Near t = 0 the score divides by a small σ, and so do the errors of its derivative: use float64 there.

Legend: B any leading shape, d dimension of the data.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

# ℓ runs from about 7 (t = 0.005) to −10 (t = 1) for the usual schedule; divided by this it is of the size of x.
LOG_SNR_SCALE = 4.0
NoisePrediction = Callable[[Tensor], Tensor]


class ScoreNetwork(nn.Module):
    """Multi-layer perceptron ε_θ(x, ℓ) with SiLU: smooth, so its derivative in x exists everywhere.

    Weights are drawn from torch's global generator, in float32; `.double()` makes it a float64 network. Dimension d,
    width of a hidden layer and number of hidden layers are at least 1.
    """

    def __init__(self, *, dimension: int, width: int, depth: int) -> None:
        """Draw the weights; raise ValueError for a size below 1."""
        super().__init__()
        for name, size in (("dimension", dimension), ("width", width), ("depth", depth)):
            if size < 1:
                message = f"{name} is {size}; a score network needs at least 1"
                raise ValueError(message)
        widths = [dimension + 1, *[width] * depth]
        hidden = [layer for i in range(depth) for layer in (nn.Linear(widths[i], widths[i + 1]), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dimension))

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict the noise ε_θ, shape (*B, d), from x and, last, ℓ; shape (*B, d + 1)."""
        x, log_snr = inputs[..., :-1], inputs[..., -1:]
        return self.layers(torch.cat([x, log_snr / LOG_SNR_SCALE], dim=-1))


class SpectralScoreNetwork(ScoreNetwork):
    """A score network whose hidden matrices are divided by their spectral norms (Miyato et al. 2018).

    Each hidden layer has the Lipschitz constant 1 or less, and SiLU at most 1.1, so that ε_θ has at most 1.1^depth ‖W‖
    in (x, ℓ / 4), W the last matrix, which alone sets the scale: up to the error of one power iteration a step.
    """

    def __init__(self, *, dimension: int, width: int, depth: int) -> None:
        """Draw the weights; raise ValueError for a size below 1."""
        super().__init__(dimension=dimension, width=width, depth=depth)
        for layer in self.layers[:-1]:  # pyright: ignore[reportGeneralTypeIssues]
            if isinstance(layer, nn.Linear):
                parametrizations.spectral_norm(layer)


def noise_level(log_snr: Tensor) -> Tensor:
    """Return σ = (1 + exp ℓ)^(−1/2) in (0, 1), of the shape of ℓ."""
    return torch.sigmoid(-log_snr).sqrt()


def noised(x_0: Tensor, log_snr: Tensor, noise: Tensor) -> Tensor:
    """Return x_t = α x_0 + σ ε, forward diffusion in one step; x_0, ε and x_t of shape (*B, d), ℓ of shape B."""
    log_snr = log_snr[..., None]
    return noise_level(-log_snr) * x_0 + noise_level(log_snr) * noise


def joined(x: Tensor, log_snr: Tensor) -> Tensor:
    """Put ℓ, which broadcasts to B, beside x, shape (*B, d): a network's input, shape (*B, d + 1)."""
    return torch.cat([x, log_snr.expand(x.shape[:-1])[..., None]], dim=-1)


def score(network: NoisePrediction, x: Tensor, log_snr: Tensor) -> Tensor:
    """Return s = −ε_θ / σ, (*B, d), in units of 1 / x; ε_θ from `joined` inputs, ℓ of a shape that broadcasts to B."""
    return -network(joined(x, log_snr)) / noise_level(log_snr)[..., None]

r"""The exact score of a finite data set under a variance-preserving diffusion.

For p_0 = (1/n) Σ δ(x_i), the distribution that a network is really trained on, p_t is a mixture of n Gaussians:

    p_t = (1/n) Σ N(α x_i, σ² I),   ∇ log p_t(x) = (α Σ w_i(x) x_i − x) / σ²,   w = softmax(−‖x − α x_i‖² / (2σ²))

so that the score-matching error is known without a bias even for images.
"""

import torch
from torch import Tensor

from replications.wasserstein_bound.score_network import noise_level


def finite_data_score(data: Tensor, x: Tensor, log_snr: Tensor) -> Tensor:
    """Evaluate ∇ log p_t at points x, (B, d), of data x_i, (n, d), at ℓ = log(α²/σ²), (); all float64.

    Returns:
        The score, shape (B, d).

    Raises:
        ValueError: If `data` is empty or not float64: the exponent is a small difference of large squares.
    """
    if len(data) == 0 or data.dtype != torch.float64:
        message = f"data has shape {tuple(data.shape)} and type {data.dtype}; give at least one point, in float64"
        raise ValueError(message)
    signal, noise = noise_level(-log_snr), noise_level(log_snr)
    centres = signal * data
    # ‖x‖² is the same for all i and leaves the weights as they are.
    exponents = (x @ centres.T - centres.square().sum(dim=1) / 2) / noise**2
    return (exponents.softmax(dim=1) @ centres - x) / noise**2

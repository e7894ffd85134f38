"""Score networks compute the score that denoising defines."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap

from replications.wasserstein_bound.score_network import (
    ScoreNetwork,
    SpectralScoreNetwork,
    noise_level,
    noised,
    score,
)

KINDS = (ScoreNetwork, SpectralScoreNetwork)


def network_of(kind, dimension=2, seed=0):
    torch.manual_seed(seed)
    return kind(dimension=dimension, width=16, depth=3).double().eval()


def points(dimension=2, count=7):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, dimension, generator=generator, dtype=torch.float64)
    return x, torch.linspace(7, -10, count, dtype=torch.float64)


def test_noised_data_has_the_moments_of_the_forward_kernel():
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.full((200_000, 1), 3.0, dtype=torch.float64)
    log_snr = torch.full((200_000,), math.log(0.2 / 0.8), dtype=torch.float64)
    x = noised(x_0, log_snr, torch.randn(x_0.shape, generator=generator, dtype=torch.float64))
    assert x.mean().item() == pytest.approx(3 * math.sqrt(0.2), abs=0.01)
    assert x.var().item() == pytest.approx(0.8, rel=0.02)


def test_spectral_norm_bounds_the_slope_and_the_plain_network_breaks_that_bound():
    ratios = {}
    for kind in KINDS:
        network = network_of(kind)
        with torch.no_grad():
            for layer in network.layers[:-1]:
                if isinstance(layer, nn.Linear):
                    weight = layer.parametrizations.weight.original if kind is SpectralScoreNetwork else layer.weight
                    weight.mul_(20)
        network.train()
        for _ in range(50):  # power iterations
            network(torch.zeros(1, 3, dtype=torch.float64))
        network.eval()
        x, log_snr = points(count=200)
        jacobian = vmap(jacrev(functools.partial(score, network)))(3 * x, log_snr)
        jacobian = jacobian * noise_level(log_snr)[:, None, None]
        bound = 1.1**3 * torch.linalg.matrix_norm(network.layers[-1].weight, ord=2)
        ratios[kind] = (torch.linalg.matrix_norm(jacobian, ord=2).max() / bound).item()
    assert ratios[SpectralScoreNetwork] <= 1 < ratios[ScoreNetwork]

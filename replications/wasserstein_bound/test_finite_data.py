"""The score of noised finite data is the derivative of the log density of its mixture."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from replications.wasserstein_bound.finite_data import finite_data_score

DATA = np.random.default_rng(0).normal(size=(9, 3))


@pytest.mark.parametrize("log_snr", [-8.0, 0.0, 3.0, 7.0])
def test_it_is_the_slope_of_the_log_density(log_snr):
    noise = 1 / math.sqrt(1 + math.exp(log_snr))
    signal = math.sqrt(1 - noise**2)

    def log_density(x):
        return logsumexp(-((x[:, None] - signal * DATA) ** 2).sum(axis=2) / (2 * noise**2), axis=1)

    x = np.random.default_rng(1).normal(size=(20, 3))
    h = 1e-5
    expected = np.stack([(log_density(x + h * e) - log_density(x - h * e)) / (2 * h) for e in np.eye(3)], axis=1)
    found = finite_data_score(torch.from_numpy(DATA), torch.from_numpy(x), torch.tensor(log_snr, dtype=torch.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_float32_is_refused():
    with pytest.raises(ValueError, match=r"type torch\.float32"):
        finite_data_score(torch.zeros(2, 3), torch.zeros(1, 3), torch.tensor(0.0))


def test_no_data_is_refused():
    with pytest.raises(ValueError, match="at least one point"):
        finite_data_score(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(1, 3), torch.tensor(0.0))

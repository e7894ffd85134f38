"""Power iteration finds the eigenvalue that a dense solver finds, also where another one is larger in modulus."""

import functools

import pytest
import torch
from torch.func import jacrev, vmap

from replications.wasserstein_bound.power_iteration import largest_symmetric_eigenvalue, symmetric_jacobian
from replications.wasserstein_bound.score_network import ScoreNetwork, score
from replications.wasserstein_bound.score_unet import ScoreUNet

DTYPE = torch.float64
POINTS = 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def field_of(name):
    torch.manual_seed(0)
    if name == "perceptron":
        network, dimension = ScoreNetwork(dimension=6, width=16, depth=2), 6
    else:
        network, dimension = ScoreUNet(side=4, channels=4), 16
    return functools.partial(score, network.double(), log_snr=torch.zeros(POINTS, dtype=DTYPE)), dimension


@pytest.mark.parametrize("name", ["perceptron", "unet"])
def test_networks_have_the_eigenvalue_of_their_dense_jacobian(name):
    field, dimension = field_of(name)
    x = torch.randn(POINTS, dimension, generator=seeded(), dtype=DTYPE)
    one = lambda row: field(row.expand(POINTS, -1))[0]  # noqa: E731
    jacobian = vmap(jacrev(one))(x) if name == "perceptron" else torch.stack([jacrev(one)(row) for row in x])
    symmetric = (jacobian + jacobian.mT) / 2
    eigenvalues = torch.linalg.eigvalsh(symmetric)
    found = largest_symmetric_eigenvalue(field, x, iterations=200, generator=seeded(1))
    torch.testing.assert_close(found, eigenvalues[:, -1], rtol=1e-3, atol=1e-6)
    assert (jacobian - jacobian.mT).abs().max() > 1e-3  # else the symmetric part would not be tested
    direction = torch.randn(POINTS, dimension, generator=seeded(2), dtype=DTYPE)
    expected = (symmetric @ direction[..., None])[..., 0]
    torch.testing.assert_close(symmetric_jacobian(field, x)(direction), expected)


def test_a_strongly_contracting_direction_does_not_hide_the_expanding_one():
    slopes = torch.tensor([-700.0, -3.0, 12.0], dtype=DTYPE)
    field, x = (lambda x: x * slopes), torch.zeros(4, 3, dtype=DTYPE)
    found = largest_symmetric_eigenvalue(field, x, iterations=1000, generator=seeded())
    torch.testing.assert_close(found, torch.full((4,), 12.0, dtype=DTYPE), rtol=1e-6, atol=0)


def test_any_number_of_iterations_estimates_from_below():
    matrix = torch.randn(8, 8, generator=seeded(3), dtype=DTYPE)
    top = torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1].item()
    field, x = (lambda x: x @ matrix.T), torch.zeros(50, 8, dtype=DTYPE)
    errors = [
        top - largest_symmetric_eigenvalue(field, x, iterations=n, generator=seeded()).numpy() for n in (1, 10, 500)
    ]
    assert all((error > -1e-12).all() for error in errors)
    assert errors[0].max() > errors[1].max() > errors[2].max()
    assert errors[2].max() < 1e-3 * abs(top)


def test_a_constant_field_has_the_eigenvalue_zero():
    x = torch.zeros(2, 3, dtype=DTYPE)
    found = largest_symmetric_eigenvalue(lambda x: 0 * x, x, iterations=3, generator=seeded())
    assert found.tolist() == [0.0, 0.0]


def test_no_iteration_is_refused():
    with pytest.raises(ValueError, match="iterations is 0"):
        largest_symmetric_eigenvalue(lambda x: x, torch.zeros(1, 1), iterations=0, generator=seeded())

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from replications.wasserstein_bound.lipschitz import certified_score_slope, estimated_score_slope


def network(
    seed: int, activation: type[nn.Module], gain: float = 1.0, width: int = 24, depth: int = 2
) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(2, width)]
    for _ in range(depth - 1):
        layers += [activation(), nn.Linear(width, width)]
    net = nn.Sequential(*layers, activation(), nn.Linear(width, 1)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= gain
    return net


def slopes_of(net: nn.Module, x: Tensor, feature: float) -> Tensor:
    x = x.clone().requires_grad_()
    inputs = torch.stack([x, torch.full_like(x, feature)], dim=1)
    return torch.autograd.grad(net(inputs).sum(), x)[0]


@pytest.mark.parametrize("activation", [nn.SiLU, nn.Tanh])
@given(st.integers(0, 10_000), st.floats(0.5, 4), st.floats(-5, 5).filter(lambda factor: abs(factor) > 0.1))
@settings(max_examples=8, deadline=None)
def test_no_slope_exceeds_the_certificate_near_or_far_and_it_is_tight(activation, seed, gain, factor) -> None:
    net = network(seed, activation, gain)
    certificate = certified_score_slope(net, [1.0, 0.0], [0.0, 0.7], factor=factor, linear=-0.5)
    x = torch.cat([torch.linspace(-9, 9, 5_001), torch.linspace(-500, 500, 5_001)]).double()
    slopes = -0.5 + factor * slopes_of(net, x, 0.7)
    assert float(slopes.max()) <= certificate.upper + 1e-9
    # Far out, where saturation is all that is known, the enclosure need not close; nearly always it does.
    assert certificate.attained <= certificate.upper
    assert certificate.attained >= float(slopes.max()) - 2e-3 * (1 + abs(float(slopes.max())))
    at_point = -0.5 + factor * float(slopes_of(net, torch.tensor([certificate.point]).double(), 0.7))
    assert at_point == pytest.approx(certificate.attained, rel=1e-9, abs=1e-9)


def test_a_spike_between_the_probes_of_a_grid_is_not_missed() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        net[0].weight.fill_(1e4)
        net[0].bias.fill_(1e4 * 0.1234567)
        net[2].weight.fill_(1e-2)
        net[2].bias.zero_()
    x = torch.linspace(-9, 9, 2001).double().requires_grad_()
    probed = torch.autograd.grad(net(x[:, None]).sum(), x)[0].max()
    certificate = certified_score_slope(net, [1.0], [0.0])
    assert float(probed) < 50
    assert certificate.upper == pytest.approx(100, rel=2e-3)
    assert certificate.attained == pytest.approx(100, rel=2e-3)
    assert certificate.upper >= 100


def test_parametrised_weights_and_float32_are_taken_as_they_are() -> None:
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(1, 8))
    net = nn.Sequential(layer, nn.SiLU(), nn.Linear(8, 1)).eval()
    x = torch.linspace(-9, 9, 5001).requires_grad_()
    slopes = torch.autograd.grad(net(x[:, None]).sum(), x)[0]
    certificate = certified_score_slope(net, [1.0], [0.0])
    assert float(slopes.max()) <= certificate.upper + 1e-5
    assert certificate.upper - float(slopes.max()) < 0.01


def test_ascent_finds_more_than_the_probes_and_no_more_than_the_truth() -> None:
    rotation = torch.tensor([[-1.0, 4.0], [-4.0, -1.0]], dtype=torch.float64)

    def score(x: Tensor) -> Tensor:
        return x @ rotation.T + 0.5 * torch.sin(3 * x)

    estimate = estimated_score_slope(score, np.random.default_rng(0).uniform(-3, 3, (60, 2)))
    assert estimate.probe_value < estimate.value <= 0.5 + 1e-12  # -1 + 1.5; the rotation adds nothing
    assert estimate.value == pytest.approx(0.5, abs=1e-6)
    assert not estimate.at_edge


def test_an_estimate_at_the_edge_of_the_box_is_called_so() -> None:
    probes = np.random.default_rng(1).uniform(-1, 1, (50, 2))
    with pytest.warns(RuntimeWarning, match="probe a wider one"):
        estimate = estimated_score_slope(lambda x: x**3, probes)
    assert estimate.at_edge

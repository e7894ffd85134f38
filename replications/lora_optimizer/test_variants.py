"""The resampled projection, the additive form and GaLore against backpropagation, averages and GaLore's algorithm."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from replications.lora_optimizer.variants import AdditiveLoRA, GaLore, ResampledProjection, resampled_gradient

SHAPE = ROWS, COLUMNS = 12, 8


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def follow(optimizer: torch.optim.Optimizer, param: nn.Parameter, num: int) -> Tensor:
    """Return the change of a parameter by steps along gradients that are drawn."""
    start = param.detach().clone()
    for seed in range(num):
        param.grad = drawn(*param.shape, seed=seed)
        optimizer.step()
    return param.detach() - start


@pytest.mark.parametrize("r", [1, 4])
def test_resampled_gradients_have_the_gradient_as_mean_and_the_variance_of_their_docstring(r) -> None:
    gradient, num = drawn(*SHAPE), 4000
    u, v = drawn(num, ROWS, r, seed=1), drawn(num, r, COLUMNS, seed=2)
    draws = torch.stack([resampled_gradient(gradient, *pair) for pair in zip(u, v, strict=True)])
    predicted = (sum(SHAPE) + 2) / (4 * r)
    assert ((draws - gradient) ** 2).sum((1, 2)).mean() / gradient.norm() ** 2 == pytest.approx(predicted, rel=0.1)
    assert (draws.mean(0) - gradient).norm() / gradient.norm() < 2 * math.sqrt(predicted / num)


def test_a_resampled_step_is_that_of_its_formula_and_has_twice_the_rank() -> None:
    param, source = nn.Parameter(drawn(*SHAPE)), torch.Generator().manual_seed(7)
    change = follow(ResampledProjection([param], lr=0.1, r=2, generator=torch.Generator().manual_seed(7)), param, 1)
    u, v = (torch.randn(size, generator=source).double() for size in ((ROWS, 2), (2, COLUMNS)))
    torch.testing.assert_close(change, -0.1 * (param.grad @ v.T @ v + u @ u.T @ param.grad) / 4)
    assert torch.linalg.matrix_rank(change) == 4


@pytest.mark.parametrize("options", [{}, {"random_signs": True}, {"incremental": True}, {"release_gradients": True}])
@pytest.mark.parametrize("r", [1, 4])
def test_additive_steps_equal_backpropagation_through_repeated_identities(r, options) -> None:
    param, x = nn.Parameter(drawn(*SHAPE)), drawn(5, COLUMNS, seed=4)
    source = torch.Generator().manual_seed(2)
    optimizer = AdditiveLoRA([("w", param)], r=r, scale=0.5, lr=0.01, generator=source, **options)
    (A, Q), (P, B) = (matrix.split(r, dim) for matrix, dim in zip(optimizer.factors()["w"][:2], (0, 1), strict=True))
    assert torch.equal(P.abs(), torch.eye(r).double().repeat(ROWS // r, 1))
    assert torch.equal(Q.abs(), torch.eye(r).double().repeat(1, COLUMNS // r))
    assert ((P < 0).any() and (Q < 0).any()) == ("random_signs" in options)
    start, A, B = param.detach().clone(), A.clone().requires_grad_(), B.clone().requires_grad_()
    reference = torch.optim.AdamW([A, B], lr=0.01)
    for _ in range(30):
        for found, step in ((param, optimizer), (start + 0.5 * (P @ A + B @ Q), reference)):
            step.zero_grad()
            torch.tanh(x @ found.T).pow(2).sum().backward()
            step.step()
    change, learned = (param - start).detach(), optimizer.factors()["w"]
    for expected in (0.5 * (P @ A + B @ Q).detach(), learned.scale * learned.B @ learned.A):
        assert (change - expected).abs().max() <= 1e-13
    assert torch.linalg.matrix_rank(change, tol=1e-9) == 2 * r


def galore(start: np.ndarray, gradients: list[np.ndarray], *, r, gap, scale=0.25, lr=0.01, decay=0.1) -> np.ndarray:
    """The algorithm of arXiv 2403.03507 with the conventions of its code, for one matrix, in NumPy."""
    w, basis, m, v = start.copy(), np.zeros(0), 0.0, 0.0
    tall = w.shape[0] >= w.shape[1]
    for t, g in enumerate(gradients):
        if t % gap == 0:
            # Not NumPy's: the moments outlive a basis, and so the signs of its vectors matter, which LAPACK chooses.
            left, _, right = (part.numpy() for part in torch.linalg.svd(torch.tensor(g), full_matrices=False))
            basis = right[:r] if tall else left[:, :r]
        low = g @ basis.T if tall else basis.T @ g
        m, v = 0.9 * m + 0.1 * low, 0.999 * v + 0.001 * low**2
        step = math.sqrt(1 - 0.999 ** (t + 1)) / (1 - 0.9 ** (t + 1)) * m / (np.sqrt(v) + 1e-6)
        w = (w - lr * scale * (step @ basis if tall else basis @ step)) * (1 - lr * decay)
    return w


@pytest.mark.parametrize("shape", [(12, 8), (8, 12), (8, 8)])
@pytest.mark.parametrize("options", [{"r": 2, "gap": 4}, {"r": 20, "gap": 1, "scale": 1.0}], ids=str)
def test_galore_is_its_algorithm_with_moments_of_the_longer_side_and_a_basis_of_the_shorter(shape, options) -> None:
    param = nn.Parameter(drawn(*shape))
    start, optimizer = param.detach().clone(), GaLore([param], weight_decay=0.1, **options)
    found = start + follow(optimizer, param, 10)
    gradients, r = [drawn(*shape, seed=seed).numpy() for seed in range(10)], min(8, options["r"])
    for gap, is_equal in ((options["gap"], True), (7, False)):
        expected = galore(start.numpy(), gradients, **{**options, "gap": gap})
        assert (np.abs(found.numpy() - expected).max() <= 1e-12) == is_equal
    sizes = {key: value.numel() for key, value in optimizer.state[param].items() if isinstance(value, Tensor)}
    assert sizes == {"P": r * 8, "exp_avg": r * max(shape), "exp_avg_sq": r * max(shape)}

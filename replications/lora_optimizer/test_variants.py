"""The resampled projection, the additive form and GaLore against backpropagation, averages and GaLore's algorithm."""

import io
import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from replications.lora_optimizer.optimizer import LoRAOptimizer
from replications.lora_optimizer.variants import AdditiveLoRA, GaLore, ResampledProjection, resampled_gradient

SHAPE = ROWS, COLUMNS = 12, 8
MAKERS = {
    "resampled": lambda params: ResampledProjection(params, lr=0.01, r=2),
    "galore": lambda params: GaLore(params, r=3, gap=4),
    "additive ones": lambda params: AdditiveLoRA(params, r=2, lr=0.01),
    "additive signs": lambda params: AdditiveLoRA(params, r=4, random_signs=True, lr=0.01, incremental=True),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def weight(shape: tuple[int, int] = SHAPE, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(drawn(*shape, seed=3, dtype=dtype))


def follow(optimizer: torch.optim.Optimizer, param: nn.Parameter, num: int, first: int = 0) -> Tensor:
    for seed in range(first, first + num):
        param.grad = drawn(*param.shape, seed=seed, dtype=param.dtype)
        optimizer.step()
    return param.detach()


# --- The resampled projection -------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [1, 4])
def test_resampled_gradients_have_the_gradient_as_mean_and_the_variance_of_their_docstring(r) -> None:
    gradient, num, source = drawn(ROWS, COLUMNS), 4000, generator(1)
    draws = torch.stack([
        resampled_gradient(
            gradient,
            torch.randn(ROWS, r, generator=source, dtype=torch.float64),
            torch.randn(r, COLUMNS, generator=source, dtype=torch.float64),
        )
        for _ in range(num)
    ])
    predicted = (sum(SHAPE) + 2) / (4 * r)
    assert ((draws - gradient) ** 2).sum((1, 2)).mean() / gradient.norm() ** 2 == pytest.approx(predicted, rel=0.1)
    error = (draws.mean(0) - gradient).norm() / gradient.norm()
    assert error < 2 * math.sqrt(predicted / num)
    assert (2 * draws.mean(0) - gradient).norm() / gradient.norm() > 0.9  # the sum that the post writes


def test_a_resampled_step_is_that_of_its_formula_and_has_twice_the_rank() -> None:
    param = weight()
    optimizer = ResampledProjection([param], lr=0.1, r=2, generator=generator(7))
    before = param.detach().clone()
    change = follow(optimizer, param, 1) - before
    source = generator(7)
    u, v = (torch.randn(size, generator=source).double() for size in ((ROWS, 2), (2, COLUMNS)))
    torch.testing.assert_close(change, -0.1 * (param.grad @ v.T @ v + u @ u.T @ param.grad) / 4)
    assert torch.linalg.matrix_rank(change) == 4


# --- The additive form --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"random_signs": True}, {"incremental": True}, {"release_gradients": True}])
@pytest.mark.parametrize("r", [1, 4])
def test_additive_steps_equal_backpropagation_through_repeated_identities(r, options) -> None:
    param, x = weight(), drawn(5, COLUMNS, seed=4)
    optimizer = AdditiveLoRA([("w", param)], r=r, scale=0.5, lr=0.01, generator=generator(2), **options)
    (A, Q), (P, B) = (matrix.split(r, dim) for matrix, dim in zip(optimizer.factors()["w"][:2], (0, 1), strict=True))
    assert torch.equal(P.abs(), torch.eye(r, dtype=P.dtype).repeat(ROWS // r, 1))
    assert torch.equal(Q.abs(), torch.eye(r, dtype=P.dtype).repeat(1, COLUMNS // r))
    assert ((P < 0).any() and (Q < 0).any()) == ("random_signs" in options)
    start, A, B = param.detach().clone(), A.clone().requires_grad_(), B.clone().requires_grad_()
    reference = torch.optim.AdamW([A, B], lr=0.01)
    for _ in range(30):
        for found, step in ((param, optimizer), (start + 0.5 * (P @ A + B @ Q), reference)):
            step.zero_grad()
            torch.tanh(x @ found.T).pow(2).sum().backward()
            step.step()
    expected = (start + 0.5 * (P @ A + B @ Q)).detach()
    assert (param - expected).abs().max() <= 1e-13
    learned = optimizer.factors()["w"]
    torch.testing.assert_close(param.detach() - start, learned.scale * learned.B @ learned.A)
    assert torch.linalg.matrix_rank(param - start, tol=1e-9) == 2 * r


def test_an_additive_weight_changed_outside_keeps_the_change() -> None:
    param = weight()
    optimizer = AdditiveLoRA([param], r=2, random_signs=True, strict=False, lr=0.1)
    follow(optimizer, param, 3)
    with torch.no_grad():
        param.add_(1.0)
    before = param.detach().clone()
    optimizer.param_groups[0]["lr"] = 0.0
    torch.testing.assert_close(follow(optimizer, param, 1), before)


# --- GaLore -------------------------------------------------------------------------------------------------------


def galore(start: np.ndarray, gradients: list[np.ndarray], *, r, gap, scale=0.25, lr=0.01, decay=0.0) -> np.ndarray:
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
def test_galore_is_its_algorithm(shape, options) -> None:
    param = weight(shape)
    start = param.detach().numpy().copy()
    found = follow(GaLore([param], weight_decay=0.1, **options), param, 10)
    gradients = [drawn(*shape, seed=seed).numpy() for seed in range(10)]
    assert np.abs(found.numpy() - galore(start, gradients, decay=0.1, **options)).max() <= 1e-12
    assert np.abs(found.numpy() - galore(start, gradients, decay=0.1, **{**options, "gap": 7})).max() > 1e-5


@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
def test_galore_keeps_moments_of_the_longer_side_and_a_basis_of_the_shorter(shape) -> None:
    param = weight(shape)
    optimizer = GaLore([param], r=3)
    follow(optimizer, param, 1)
    sizes = {key: value.numel() for key, value in optimizer.state[param].items() if isinstance(value, Tensor)}
    assert sizes == {"P": 3 * 8, "exp_avg": 3 * 12, "exp_avg_sq": 3 * 12}


# --- What all promise ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("maker", MAKERS)
def test_a_saved_variant_goes_on_with_the_same_bits(maker, dtype) -> None:
    param, file = weight(dtype=dtype), io.BytesIO()
    optimizer = MAKERS[maker]([param])
    follow(optimizer, param, 3)
    torch.save((param.detach(), optimizer.state_dict()), file)
    expected = follow(optimizer, param, 3, first=3)
    file.seek(0)
    start, state = torch.load(file, weights_only=True)
    resumed_param = nn.Parameter(start)
    resumed = MAKERS[maker]([resumed_param])
    resumed.load_state_dict(state)
    assert torch.equal(follow(resumed, resumed_param, 3, first=3), expected)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_variant_skips_what_has_no_gradient_and_evaluates_a_closure(maker) -> None:
    param, other = weight(), weight()
    optimizer, before = MAKERS[maker]([param, other]), other.detach().clone()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert losses[2] < losses[0]
    assert torch.equal(other, before)


@pytest.mark.parametrize(
    ("maker", "options", "message"),
    [
        (AdditiveLoRA, {"r": 3}, "r=3 must divide both dimensions, got (8, 12)"),
        (ResampledProjection, {"r": 0}, "`r` should be a positive integer value but the value passed is 0"),
        (ResampledProjection, {"lr": float("nan")}, "Invalid learning rate: nan"),
        (GaLore, {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
        (GaLore, {"scale": 0.0}, "Invalid scale value: 0.0"),
        (GaLore, {"gap": 0}, "Invalid gap: 0"),
        (GaLore, {"weight_decay": -1.0}, "Invalid weight_decay value: -1.0"),
    ],
)
def test_options_of_variants_outside_their_range_are_refused(maker, options, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        maker([weight()], **options)


@pytest.mark.parametrize("maker", [GaLore, ResampledProjection])
def test_what_is_no_real_matrix_is_refused(maker) -> None:
    with pytest.raises(ValueError, match=r"needs matrices; parameter 1 has shape \(3,\)"):
        maker([weight(), torch.zeros(3)])
    with pytest.raises(TypeError, match="int64"):
        maker([torch.zeros(2, 2, dtype=torch.int64)])
    embedding = nn.Embedding(5, 4, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        maker(embedding.parameters()).step()


def test_the_additive_form_is_a_lora_optimizer_with_its_hooks_and_its_end() -> None:
    param = weight()
    optimizer = AdditiveLoRA([param], r=2, release_gradients=True, lr=0.01)
    assert isinstance(optimizer, LoRAOptimizer)
    (param**2).sum().backward()
    assert param.grad is None
    optimizer.step()
    optimizer.restart()
    assert not any(optimizer.state[param][key].any() for key in "AB")
    optimizer.merge()
    assert not optimizer.state

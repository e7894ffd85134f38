"""The derivation's steps about structure, gradients and optimizers; letters as in `checks`."""

from collections.abc import Callable

import torch
from lion_pytorch import Lion
from torch import Tensor
from torch.nn import Parameter, functional

from paperkit.checks import Check, Checks
from replications.shared_embeddings.embedding import (
    HEADS,
    ScaledHead,
    TiedHead,
    half_swap,
    make_embedding,
    rms_normalise,
    signed_swap,
)
from replications.shared_embeddings.random_tables import drawn, refuted

__all__ = ["CHECKS"]

N, D = 60, 16
EPS = 1e-5  # of torch's LayerNorm


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max())


def symmetry() -> Check:
    """Entries of Z ∓ Zᵀ, and eigenvalues of a wrong sign. The control, a random rotation, has neither symmetry."""
    # P^T = P gives Z^T = Z, P^T = -P gives Z^T = -Z. For P = I it is positive semi-definite of rank d; for half swap P
    # has d/2 eigenvalues 1 and d/2 of -1, and so (Sylvester) has Z: d/2 of each sign. Exact with the scalar s only:
    # division by RMS(w_i) scales the rows.
    table = drawn(0, N, D)
    plain, swapped, turned = (table @ table.T, half_swap(table) @ table.T, signed_swap(table) @ table.T)
    asymmetry = max(_largest(plain - plain.T), _largest(swapped - swapped.T), _largest(turned + turned.T))
    wrong = 0
    for scores, positive, negative in ((plain, D, 0), (swapped, D // 2, D // 2)):
        eigenvalues = torch.linalg.eigvalsh(scores)
        wrong += abs(int((eigenvalues > 1e-9).sum()) - positive) + abs(int((eigenvalues < -1e-9).sum()) - negative)
    rotated = table @ torch.linalg.qr(drawn(1, D, D))[0] @ table.T
    control = min(_largest(rotated - rotated.T), _largest(rotated + rotated.T))
    return Check(asymmetry + wrong, control)


def _swapped_scores(table: Tensor) -> Tensor:
    return half_swap(rms_normalise(table)) @ table.T


def split_tables_as_written() -> Check:
    """As written: the untied model of the halves. Control, where it is right: inputs without the second."""
    # z_ij = a_i . b_j / RMS(w_i) with W = (A, B).
    table = drawn(2, N, D)
    first, second = (table[:, : D // 2], table[:, D // 2 :])

    def error(inputs: Tensor) -> float:
        scale = inputs.square().mean(1).sqrt()[:, None]
        return _largest(half_swap(rms_normalise(inputs)) @ table.T - first @ second.T / scale)

    return refuted(error(table), error(torch.cat((first, 0 * second), dim=1)), 1e-12)


def split_tables() -> Check:
    """As corrected: that model symmetrised. The control counts one of the two products twice."""
    # z_ij = (a_i . b_j + b_i . a_j) / RMS(w_i) with W = (A, B).
    table = drawn(2, N, D)
    first, second = (table[:, : D // 2], table[:, D // 2 :])
    scale = table.square().mean(1).sqrt()[:, None]
    both, once = (first @ second.T + second @ first.T), 2 * first @ second.T
    scores = _swapped_scores(table)
    return Check(_largest(scores - both / scale), _largest(scores - once / scale))


def _loss(inputs: Tensor, outputs: Tensor, eps: float = 0.0) -> Tensor:
    """Bigram loss of the pairs i -> i + 1."""
    logits = rms_normalise(inputs, eps) @ outputs.T
    return functional.cross_entropy(logits, (torch.arange(len(inputs)) + 1) % len(inputs))


def gradient_parts() -> Check:
    """Input side plus output side, by automatic differentiation. The control takes one side alone."""
    # dL/dW = d/dU L(U, V) + d/dV L(U, V) at U = V = W. On the output side dL/dw_j = sum_i (p_ij - y_ij) h_i: with
    # P = I nearly all mass p_ii sits on the input token, and the row is pushed off its own direction.
    table = (0.5 * drawn(3, N, D)).requires_grad_()
    (shared,) = torch.autograd.grad(_loss(table, table), table)
    sides = (table.detach().clone().requires_grad_(), table.detach().clone().requires_grad_())
    inputs, outputs = torch.autograd.grad(_loss(*sides), sides)
    return Check(_largest(shared - inputs - outputs), min(_largest(shared - inputs), _largest(shared - outputs)))


def parameters() -> Check:
    """All heads, counted beside the embedding's n d. The control takes the untied head for a tied one."""
    counts = {}
    for name, head in HEADS.items():
        embedding = make_embedding(N, D, 1.0)
        unique = {id(p): p.numel() for p in (*embedding.parameters(), *head(embedding).parameters())}
        counts[name] = sum(unique.values()) - N * D
    own = {"untied": N * D, "orthogonal": D * D, "learnable_scale": 1}
    return Check(float(max(abs(counts[name] - own.get(name, 0)) for name in HEADS)), float(counts["untied"]))


def constant_sign() -> Check:
    """The package lion-pytorch, ten thousand steps. The control lets the gradient change its sign."""
    # theta <- (1 - lr decay) theta - lr sign has the fixed point -sign / decay.
    decay, steps = 0.1, 10_000

    def end(sign_of: Callable[[int], float]) -> float:
        theta = Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = Lion([theta], lr=0.01, weight_decay=decay)
        for step in range(steps):
            theta.grad = torch.full_like(theta, sign_of(step))
            optimizer.step()
        return theta.item()

    constant, changing = end(lambda _: 1.0), end(lambda step: (-1.0) ** (step // 200))
    return Check(abs(constant * decay + 1), abs(changing * decay + 1))


def _gradient_norm(sigma: float, eps: float = 0.0) -> float:
    table = (sigma * drawn(4, N, D)).requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(table, half_swap(table), eps), table)
    return float(gradient.norm())


def _not_proportional(large: float, small: float, eps: float) -> float:
    """Error of "the gradient's norm is proportional to s" between two values of s."""
    return abs(_gradient_norm(large, eps) / _gradient_norm(small, eps) / (large / small) - 1)


def gradient_as_written() -> Check:
    """As written, without eps: proportional to σ. Control, where it is right: with eps, below its root."""
    return refuted(_not_proportional(1e-2, 1e-4, 0.0), _not_proportional(1e-4, 1e-5, EPS), 0.05)


def gradient_in_use_as_written() -> Check:
    """As written, with eps: proportional to σ from 0.02 to 0.2. Control, where it is right: below the root of eps."""
    return refuted(_not_proportional(0.2, 0.02, EPS), _not_proportional(1e-4, 1e-5, EPS), 0.05)


def gradient_with_eps() -> Check:
    """With eps: proportional to σ below its root, as without eps from 0.02 on. The control exchanges the ranges."""
    # h = w / sqrt(RMS(w)^2 + eps), which is w / sqrt(eps) for small w: both sides of the gradient are then of order s.

    def beside_none(sigma: float) -> float:
        return abs(_gradient_norm(sigma, EPS) / _gradient_norm(sigma) - 1)

    errors = _not_proportional(1e-4, 1e-5, EPS), beside_none(0.02), beside_none(0.2)
    return Check(max(errors), min(_not_proportional(0.2, 0.02, EPS), beside_none(1e-4), beside_none(1e-5)))


def gradient_limit() -> Check:
    """As corrected: the norm is the same at two small σ. The control leaves the normalisation out."""
    # h = P w / RMS(w) does not depend on s. Output side: sum (p - y) h, with p -> 1/n as logits shrink. Input side:
    # dL/dh = sum (p - y) u is of order s, and dh/dw of order 1/s.

    def unnormalised(sigma: float) -> float:
        table = (sigma * drawn(4, N, D)).requires_grad_()
        logits = table @ half_swap(table).T
        loss = functional.cross_entropy(logits, (torch.arange(N) + 1) % N)
        return float(torch.autograd.grad(loss, table)[0].norm())

    ratio = _gradient_norm(1e-2) / _gradient_norm(1e-4)
    return Check(abs(ratio - 1), abs(unnormalised(1e-2) / unnormalised(1e-4) - 1))


def rotation() -> Check:
    """A random table, map and rotation, W -> W Q and P -> Qᵀ P Q. The control rotates the table alone."""
    table = drawn(5, N, D)
    turn, other = (torch.linalg.qr(drawn(seed, D, D))[0] for seed in (6, 7))

    def loss(rows: Tensor, matrix: Tensor) -> float:
        return float(_loss(rows @ matrix, rows))

    before = loss(table, turn)
    return Check(abs(loss(table @ other, other.T @ turn @ other) - before), abs(loss(table @ other, turn) - before))


def scaled_head() -> Check:
    """Entries of variance 1 and logits over sqrt(d), beside plain tying at 1/d. The control does not divide."""
    unit = drawn(10, N, D)
    tied, scaled = (make_embedding(N, D, 1.0).double() for _ in range(2))
    tied.weight.data, scaled.weight.data = unit / D**0.5, unit
    h = rms_normalise(scaled.weight)
    expected = TiedHead(tied)(rms_normalise(tied.weight))
    return Check(_largest(ScaledHead(scaled)(h) - expected), _largest(TiedHead(scaled)(h) - expected))


def three_factors() -> Check:
    """Fifty steps of Adam, in learning rates. The control leaves the table's learning rate as it is."""
    # Put W = r V, r = s / s0. Logits are h . r v_j and inputs r v_i; Adam (without decay, eps -> 0) moves W by lr
    # whatever the gradient's scale, that is V by lr / r. Here with an additive stream, so that the input's scale
    # counts.
    r, lr, steps = 0.6, 1e-3, 50
    stream, start = drawn(8, N, D), drawn(9, N, D)

    def trained(scale: float, step_size: float, table_scale: float) -> Tensor:
        table = Parameter(table_scale * start)
        optimizer = torch.optim.Adam([table], lr=step_size, betas=(0.9, 0.99), eps=0.0, foreach=False)
        for _ in range(steps):
            optimizer.zero_grad()
            _loss(scale * table + stream, scale * table).backward()
            optimizer.step()
        return scale * table.detach()

    small = trained(1.0, lr, r)
    factors, control = trained(r, lr / r, 1.0), trained(r, lr, 1.0)
    return Check(_largest(small - factors) / lr, _largest(small - control) / lr)


CHECKS: Checks = {
    "step_9_symmetry": symmetry,
    "step_10_as_written": split_tables_as_written,
    "step_10_split_tables": split_tables,
    "step_11_gradient_parts": gradient_parts,
    "step_13_parameters": parameters,
    "step_14_constant_sign": constant_sign,
    "step_15_as_written": gradient_as_written,
    "step_15_gradient_limit": gradient_limit,
    "step_15_in_use_as_written": gradient_in_use_as_written,
    "step_15_eps": gradient_with_eps,
    "step_17_rotation": rotation,
    "step_18_three_factors": three_factors,
    "step_19_scaled_head": scaled_head,
}

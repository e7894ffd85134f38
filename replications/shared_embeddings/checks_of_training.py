"""The derivation's steps about structure, gradients and optimizers; letters as in `checks`."""

from collections.abc import Callable

import torch
from lion_pytorch import Lion
from torch import Tensor
from torch.nn import Parameter, functional

from paperkit.checks import Check, Checks
from replications.shared_embeddings.embedding import (
    HEADS,
    half_swap,
    make_embedding,
    rms_normalise,
    signed_swap,
)
from replications.shared_embeddings.random_tables import drawn

__all__ = ["CHECKS"]

N, D = 60, 16


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


def symmetry() -> Check:
    """Z = W P^T W^T / s is symmetric for P = I and half swap, antisymmetric for signed swap."""
    # P^T = P gives Z^T = Z, P^T = -P gives Z^T = -Z. For P = I it is positive semi-definite of rank d; for half swap P
    # has d/2 eigenvalues 1 and d/2 of -1, and so (Sylvester) has Z: d/2 of each sign. Exact with the scalar s only:
    # division by RMS(w_i) scales the rows. Error: largest entry of Z -+ Z^T, plus the number of eigenvalues of a wrong
    # sign.
    # Control: a random rotation has neither symmetry.
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
    """As written: half swap is the untied bigram model of the two halves W = (A, B), z_ij = a_i . b_j / RMS(w_i)."""
    # Control: b_i . a_j / RMS(w_i), the other order.
    table = drawn(2, N, D)
    first, second = (table[:, : D // 2], table[:, D // 2 :])
    scale = table.square().mean(1).sqrt()[:, None]
    scores = _swapped_scores(table)
    return Check(_largest(scores - first @ second.T / scale), _largest(scores - second @ first.T / scale))


def split_tables() -> Check:
    """Half swap is that model symmetrised: z_ij = (a_i . b_j + b_i . a_j) / RMS(w_i)."""
    # Control: one of the two products, twice.
    table = drawn(2, N, D)
    first, second = (table[:, : D // 2], table[:, D // 2 :])
    scale = table.square().mean(1).sqrt()[:, None]
    both, once = (first @ second.T + second @ first.T), 2 * first @ second.T
    scores = _swapped_scores(table)
    return Check(_largest(scores - both / scale), _largest(scores - once / scale))


def _loss(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Bigram loss of the pairs i -> i + 1."""
    logits = rms_normalise(inputs) @ outputs.T
    return functional.cross_entropy(logits, (torch.arange(len(inputs)) + 1) % len(inputs))


def gradient_parts() -> Check:
    """The gradient of a shared table is the sum of its input side and its output side."""
    # dL/dW = d/dU L(U, V) + d/dV L(U, V) at U = V = W. On the output side dL/dw_j = sum_i (p_ij - y_ij) h_i: with
    # P = I nearly all mass p_ii sits on the input token, and the row is pushed off its own direction.
    # Control: one side alone.
    table = (0.5 * drawn(3, N, D)).requires_grad_()
    (shared,) = torch.autograd.grad(_loss(table, table), table)
    sides = (table.detach().clone().requires_grad_(), table.detach().clone().requires_grad_())
    inputs, outputs = torch.autograd.grad(_loss(*sides), sides)
    return Check(_largest(shared - inputs - outputs), min(_largest(shared - inputs), _largest(shared - outputs)))


def parameters() -> Check:
    """Tying saves n d parameters, the projection costs d^2, a learnable scale 1."""
    # Difference in parameters beside the embedding's n d. Control: the untied head counted as if it were tied.
    counts = {}
    for name, head in HEADS.items():
        embedding = make_embedding(N, D, 1.0)
        unique = {id(p): p.numel() for p in (*embedding.parameters(), *head(embedding).parameters())}
        counts[name] = sum(unique.values()) - N * D
    own = {"untied": N * D, "orthogonal": D * D, "learnable_scale": 1}
    return Check(float(max(abs(counts[name] - own.get(name, 0)) for name in HEADS)), float(counts["untied"]))


def constant_sign() -> Check:
    """Under Lion with decay a coordinate whose direction keeps its sign goes to -sign / decay."""
    # theta <- (1 - lr decay) theta - lr sign has that fixed point. lr = 0.01, decay = 0.1, 10 000 steps from 0 with a
    # gradient of constant sign, with the package lion-pytorch; relative distance from 1 / decay.
    # Control: a gradient of changing sign.
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


def _gradient_norm(sigma: float) -> float:
    table = (sigma * drawn(4, N, D)).requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(table, half_swap(table)), table)
    return float(gradient.norm())


def gradient_as_written() -> Check:
    """As written: a smaller s makes smaller gradients, that underflow; here read as norm proportional to s."""
    # Relative error of the ratio of norms between s = 1e-2 and 1e-4. Control: proportional to s^2.
    ratio = _gradient_norm(1e-2) / _gradient_norm(1e-4)
    return Check(abs(ratio / 1e2 - 1), abs(ratio / 1e4 - 1))


def gradient_limit() -> Check:
    """Behind a normalisation the gradient tends to a limit as s falls."""
    # h = P w / RMS(w) does not depend on s. Output side: sum (p - y) h, with p -> 1/n as logits shrink. Input side:
    # dL/dh = sum (p - y) u is of order s, and dh/dw of order 1/s. Error: relative difference of the norms at s = 1e-2
    # and 1e-4.
    # Control: without the normalisation the gradient does shrink with s.

    def unnormalised(sigma: float) -> float:
        table = (sigma * drawn(4, N, D)).requires_grad_()
        logits = table @ half_swap(table).T
        loss = functional.cross_entropy(logits, (torch.arange(N) + 1) % N)
        return float(torch.autograd.grad(loss, table)[0].norm())

    ratio = _gradient_norm(1e-2) / _gradient_norm(1e-4)
    return Check(abs(ratio - 1), abs(unnormalised(1e-2) / unnormalised(1e-4) - 1))


def rotation() -> Check:
    """Rotating the table, W -> W Q, and the map with it, P -> Q^T P Q, leaves the loss as it is."""
    # Control: the table alone.
    table = drawn(5, N, D)
    turn, other = (torch.linalg.qr(drawn(seed, D, D))[0] for seed in (6, 7))

    def loss(rows: Tensor, matrix: Tensor) -> float:
        return float(_loss(rows @ matrix, rows))

    before = loss(table, turn)
    return Check(abs(loss(table @ other, other.T @ turn @ other) - before), abs(loss(table @ other, turn) - before))


def three_factors() -> Check:
    """Small s under Adam is three changes to the tied model at s0: logits times r, input times r, table's step / r."""
    # Put W = r V, r = s / s0. Logits are h . r v_j and inputs r v_i; Adam (without decay, eps -> 0) moves W by lr
    # whatever the gradient's scale, that is V by lr / r. Here with an additive stream, so that the input's scale
    # counts, for 50 steps. Error: difference of r V and W, in learning rates.
    # Control: without the change of the step.
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
    "step_17_rotation": rotation,
    "step_18_three_factors": three_factors,
}

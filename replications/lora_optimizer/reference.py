"""LoRA and its relatives written once more, plainly and in float64, and random problems to try them on.

Letters as in the post: y = x w, w = w0 + s a b, a of shape (n, r), b of shape (r, m), g the gradient of w.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from math import inf, log, sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

N, M, R = 24, 20, 4
Pairs = Sequence[tuple[Tensor, Tensor]]
Base = Callable[[list[Tensor]], Optimizer]


def drawn(seed: int, *shape: int) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def factors(seed: int, n: int = N, m: int = M, r: int = R) -> tuple[Tensor, Tensor]:
    """Draw a and b with variances 1 / n and 1 / r, so that x a b is about as large as x."""
    return drawn(seed, n, r) / sqrt(n), drawn(seed + 1, r, m) / sqrt(r)


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over that of what is expected."""
    return float((found - expected).norm() / expected.norm())


def tail(matrix: Tensor, rank: int) -> float:
    """Return the singular value beyond the rank, over the largest."""
    values = torch.linalg.svdvals(matrix)
    return float(values[rank] / values[0])


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of log value on log size."""
    return float(np.polyfit([log(size) for size in sizes], [log(value) for value in values], 1)[0])


class Problem(NamedTuple):
    """Two layers, tanh(x w1) w2, and what they should answer; the pretrained w are `weights`."""

    x: Tensor
    answers: Tensor
    weights: tuple[Tensor, Tensor]

    def loss(self, layer: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Return the squared error, with `layer(h, i)` in the place of h @ w_i."""
        return (layer(layer(self.x, 0).tanh(), 1) - self.answers).square().sum() / len(self.x)

    def gradient(self, w: Tensor) -> Tensor:
        """Return the first layer's gradient where its weight is w, by autograd."""
        w = w.detach().requires_grad_()
        return torch.autograd.grad(self.loss(lambda h, i: h @ (w, self.weights[1])[i]), w)[0]


def problem(seed: int) -> Problem:
    """Draw a problem whose layers are 24 x 20 and 20 x 12."""
    weights = drawn(seed, N, M) / sqrt(N), drawn(seed + 1, M, 12) / sqrt(M)
    return Problem(drawn(seed + 2, 32, N), drawn(seed + 3, 32, 12), weights)


def train_inside(p: Problem, starts: Pairs, base: Base, *, s: float, bound: float = inf) -> list[Tensor]:
    """Train a and b in the network, y = x (w0 - s a0 b0) + s (x a) b, for 100 steps; bound is for their gradients."""
    pairs = [(a.clone().requires_grad_(), b.clone().requires_grad_()) for a, b in starts]
    fixed = [w - s * a @ b for w, (a, b) in zip(p.weights, starts, strict=True)]
    optimizer = base(list(chain(*pairs)))
    for _ in range(100):
        optimizer.zero_grad()
        p.loss(lambda h, i: h @ fixed[i] + s * (h @ pairs[i][0]) @ pairs[i][1]).backward()
        clip_grad_norm_(chain(*pairs), bound)
        optimizer.step()
    return [w + s * (a @ b).detach() for w, (a, b) in zip(fixed, pairs, strict=True)]


def train_outside(
    p: Problem, starts: Pairs, base: Base, *, s: float, bound: float = inf, of_g: float = inf, add: bool = False
) -> list[Tensor]:
    """Train the weights, 100 steps by projected gradients: LoRA as an optimizer; of_g bounds those of the weights."""
    weights = [w.clone().requires_grad_() for w in p.weights]
    pairs = [(a.clone(), b.clone()) for a, b in starts]
    optimizer = base(list(chain(*pairs)))
    for _ in range(100):
        gradients = torch.autograd.grad(p.loss(lambda h, i: h @ weights[i]), weights)
        norm = torch.stack([g.norm() for g in gradients]).norm()
        for g, (a, b) in zip(gradients, pairs, strict=True):
            clipped = g * (of_g / norm).clamp(max=1)
            a.grad, b.grad = s * clipped @ b.T, s * a.T @ clipped
        clip_grad_norm_(chain(*pairs), bound)
        before = [a @ b for a, b in pairs]
        optimizer.step()
        with torch.no_grad():
            for w, w0, (a, b), (a0, b0), old in zip(weights, p.weights, pairs, starts, before, strict=True):
                w.copy_(w + s * (a @ b - old) if add else w0 - s * a0 @ b0 + s * a @ b)
    return [w.detach() for w in weights]


class Descent(NamedTuple):
    """Where SGD on the first layer's factors ends, and the sum of its gradients on the way."""

    w: Tensor
    a: Tensor
    b: Tensor
    gradients: Tensor
    drift: Tensor


def descend(
    p: Problem, a: Tensor, b: Tensor, rates: tuple[float, float], steps: int, w: Tensor | None = None
) -> Descent:
    """Descend from w (w0 if left out) on a and b, each at its rate, with s = 1; drift is that of step 7."""
    w = p.weights[0] if w is None else w
    fixed, gradients, drift = w - a @ b, torch.zeros_like(w), torch.zeros(R, R).double()
    for _ in range(steps):
        g = p.gradient(fixed + a @ b)
        step_a, step_b = rates[0] * g @ b.T, rates[1] * a.T @ g
        a, b, gradients = a - step_a, b - step_b, gradients + g
        drift += rates[1] * step_a.T @ step_a - rates[0] * step_b @ step_b.T
    return Descent(fixed + a @ b, a, b, gradients, drift)


def gaussian_pairs(n: int, m: int, r: int) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Return matrices u (n, r), v (r, m) and a function that takes the exact mean over them as if they were normal.

    Three Gauss-Hermite nodes an entry are exact for polynomials up to degree five in each entry.
    """
    nodes = torch.tensor([-sqrt(3), 0, sqrt(3)], dtype=torch.float64)
    entries = torch.cartesian_prod(*[nodes] * (r * (n + m)))
    weights = (entries.abs() / sqrt(3) * -0.5 + 2 / 3).prod(1)  # 2/3 for the node 0, 1/6 for the others
    u, v = entries[:, : n * r].reshape(-1, n, r), entries[:, n * r :].reshape(-1, r, m)
    return u, v, lambda values: torch.tensordot(weights, values, 1)

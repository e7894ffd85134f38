r"""The largest eigenvalue of the symmetric part of a Jacobian that is too large to write down.

λ_max(½(J + Jᵀ)) is the one-sided Lipschitz constant of a field at a point; for an image of 784 pixels J is 784 × 784
at every point and time. Power iteration needs products with it only, but finds the eigenvalue of largest *modulus*,
which for a score is a negative one, about −1/σ². It therefore runs on ½(J + Jᵀ) + cI with c no smaller than that
modulus, whose largest eigenvalue is the one sought, plus c.

The Rayleigh quotient that is returned never exceeds λ_max (up to rounding), so the maximum over any number of points
is an estimate from below of the one-sided constant, not a certificate.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import grad

Field = Callable[[Tensor], Tensor]


def symmetric_jacobian(field: Field, x: Tensor) -> Field:
    """Return the map v ↦ ½(J v + Jᵀ v), J the Jacobian of a field at each of several points.

    Jᵀ v is a reverse-mode product. J v is the derivative of Jᵀ u in u: the field is evaluated once for all products.

    Args:
        field: Maps (B, d) to (B, d), each row on its own; twice differentiable.
        x: Points, shape (B, d).

    Returns:
        Linear map from (B, d) to (B, d).

    Example:
        >>> turn = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
        >>> symmetric_jacobian(lambda x: x @ turn.T, torch.zeros(1, 2))(torch.tensor([[1.0, 0.0]]))
        tensor([[0., 1.]])
    """
    x = x.detach().requires_grad_()
    values = field(x)
    covector = torch.zeros_like(values, requires_grad=True)
    (pulled,) = grad(values, x, covector, create_graph=True)

    def product(direction: Tensor) -> Tensor:
        (forward,) = grad(pulled, covector, direction, retain_graph=True)
        (backward,) = grad(values, x, direction, retain_graph=True)
        return (forward + backward) / 2

    return product


def largest_symmetric_eigenvalue(field: Field, x: Tensor, *, iterations: int, generator: torch.Generator) -> Tensor:
    """Estimate λ_max(½(J + Jᵀ)) at each point by two power iterations, without and with a shift.

    Args:
        field: Maps (B, d) to (B, d), each row on its own; twice differentiable.
        x: Points, shape (B, d).
        iterations: n, products in each of the two, at least 1. With eigenvalues λ₂ ≤ λ_max and shift c the error falls
            as ((λ₂ + c) / (λ_max + c))^2n.
        generator: Draws the starting directions, on the CPU.

    Returns:
        Rayleigh quotients, shape (B,), at most λ_max.

    Raises:
        ValueError: If `iterations` is below 1.

    Example:
        >>> slopes = torch.tensor([-9.0, 1.0])  # the largest modulus is 9, the largest eigenvalue 1
        >>> seeded = torch.Generator().manual_seed(0)
        >>> x = torch.zeros(1, 2)
        >>> found = largest_symmetric_eigenvalue(lambda x: x * slopes, x, iterations=60, generator=seeded)
        >>> round(found.item(), 4)
        1.0
    """
    if iterations < 1:
        message = f"iterations is {iterations}; power iteration needs at least 1"
        raise ValueError(message)
    product = symmetric_jacobian(field, x)
    start = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    image = start
    for _ in range(iterations):
        image = product(_unit(image))
    # The image of a unit vector is at most the largest modulus long; a tenth more makes up for what is left to go.
    shift = 1.1 * image.norm(dim=-1, keepdim=True)
    direction = _unit(start)
    for _ in range(iterations - 1):
        direction = _unit(product(direction) + shift * direction)
    return (direction * product(direction)).sum(dim=-1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)

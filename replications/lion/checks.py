"""What follows from Lion's update, derived step by step and checked in float64; the proofs stand on the page.

Letters as in `optimizer`: theta parameter, g gradient, m momentum, c the interpolation whose sign is the direction,
eta learning rate, lambda weight decay, b1 and b2 the betas, q = 1 - eta lambda. Here are steps 1 to 7, the algebra of
the update; steps 8 to 11, under noise, are in `checks_of_noise`; steps 12 to 17 in `checks_of_arithmetic`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from paperkit.checks import Check, Checks, by_name
from replications.lion import checks_of_arithmetic, checks_of_noise
from replications.lion.betas import LION_BETAS
from replications.lion.optimizer import lion_update
from replications.lion.trajectory import GradientOf, given, largest, lion_maker, normal, small_network, trajectory

__all__ = ["CHECKS", "box_bound"]

NUM_COORDINATES = 64
NUM_STEPS = 300


def _coupled(gradient_of: GradientOf, weight_decay: float) -> GradientOf:
    """Gradients with lambda theta added: decay as an L2 penalty, which Lion does not do; it serves as a control."""
    return lambda step, theta: gradient_of(step, theta) + weight_decay * theta


def step_1_magnitude() -> Check:
    """Every coordinate moves by exactly eta, apart from decay: |theta_t - q theta_{t-1}| = eta where c_t != 0."""
    # Hence the update has norm eta sqrt(d), whatever the gradients (arXiv 2302.06675).
    # Control: lambda theta is added to the gradient (coupled decay), so that q theta is never formed.
    eta, weight_decay = 1e-2, 0.5
    start, gradient_of = normal(0, NUM_COORDINATES), given(normal(1, NUM_STEPS, NUM_COORDINATES))

    def error(thetas: Tensor) -> float:
        updates = (thetas[1:] - (1 - eta * weight_decay) * thetas[:-1]) / eta
        norms = updates.norm(dim=1) / NUM_COORDINATES**0.5
        return max(largest(updates.abs() - 1), largest(norms - 1))

    decoupled = trajectory(lion_maker(eta, weight_decay=weight_decay), gradient_of, start, NUM_STEPS)
    coupled = trajectory(lion_maker(eta), _coupled(gradient_of, weight_decay), start, NUM_STEPS)
    return Check(error(decoupled), error(coupled))


def step_2_first_step() -> Check:
    """Lion's first step is -eta sign(g_1), AdamW's is -eta g_1 / (|g_1| + eps)."""
    # In Adam the bias corrections cancel the betas: mhat_1 = g_1 and vhat_1 = g_1^2. No decay.
    # Control: the second step, when the averages no longer hold one gradient alone.
    eta, eps = 1e-3, 1e-8
    gradients = normal(2, 2, 10_000)

    def adamw(params: list[Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(params, lr=eta, eps=eps, weight_decay=0.0, foreach=False)

    def error(step: int) -> float:
        g = gradients[step]
        errors = []
        for make, expected in ((lion_maker(eta), g.sign()), (adamw, g / (g.abs() + eps))):
            thetas = trajectory(make, given(gradients), torch.zeros_like(g), step + 1)
            errors.append(largest((thetas[-1] - thetas[-2]) / eta + expected))
        return max(errors)

    return Check(error(0), error(1))


def step_3_signum() -> Check:
    """With b1 = b2 = b and lambda = 0, Lion is SIGNUM: theta_t = theta_{t-1} - eta sign(m_t), bit for bit."""
    # arXiv 1802.04434, written here in NumPy. Control: b1 = 0.9, b2 = 0.99, against SIGNUM with b2.
    eta, beta = 1e-2, 0.99
    start, gradients = normal(3, NUM_COORDINATES), normal(4, NUM_STEPS, NUM_COORDINATES)
    theta, momentum, thetas = start.numpy(), np.zeros(NUM_COORDINATES), [start.numpy()]
    for g in gradients.numpy():
        momentum = beta * momentum + (1 - beta) * g
        theta = theta - eta * np.sign(momentum)
        thetas.append(theta)
    signum = torch.from_numpy(np.stack(thetas))

    def error(betas: tuple[float, float]) -> float:
        return largest(trajectory(lion_maker(eta, betas), given(gradients), start, NUM_STEPS) - signum) / eta

    return Check(error((beta, beta)), error((0.9, beta)))


def step_4_other_form() -> Check:
    """The direction in terms of the new momentum: c_t = (b1/b2) m_t + (1 - b1/b2) g_t, for b2 > 0."""
    # Checked for c and for sign(c), also with b1 > b2. Control: the old momentum m_{t-1} in place of m_t.
    gradients = normal(5, NUM_STEPS, NUM_COORDINATES)
    errors, controls = [], []
    for b1, b2 in (LION_BETAS, (0.95, 0.98), (0.99, 0.9)):
        old = torch.zeros(NUM_COORDINATES, dtype=torch.float64)
        for g in gradients:
            direction, new = lion_update(g, old, beta1=b1, beta2=b2)
            c = b1 * old + (1 - b1) * g
            for momentum, results in ((new, errors), (old, controls)):
                form = b1 / b2 * momentum + (1 - b1 / b2) * g
                results.append(max(largest(form - c), largest(form.sign() - direction)))
            old = new
    return Check(max(errors), max(controls))


def step_5_scale_invariance() -> Check:
    """Multiplying all gradients by one a > 0 changes nothing: theta_t(a g) = theta_t(g)."""
    # There is no eps to break this. With a a power of two every rounding scales too: equal bit for bit.
    # Control: a factor that changes from step to step; it reweighs the gradients within m.
    eta = 1e-2
    start, gradients = normal(6, NUM_COORDINATES), normal(7, NUM_STEPS, NUM_COORDINATES)
    exponents = torch.arange(NUM_STEPS, dtype=torch.float64)[:, None]

    def scaled(factor: Tensor | float) -> Tensor:
        return trajectory(lion_maker(eta, weight_decay=0.1), given(gradients * factor), start, NUM_STEPS)

    reference = scaled(1.0)
    error = max(largest(scaled(a) - reference) for a in (2.0**-10, 2.0**7))
    return Check(error / eta, largest(scaled(2 ** (exponents % 8)) - reference) / eta)


def box_bound(start: Tensor, steps: Tensor, *, lr: float, weight_decay: float) -> Tensor:
    """Bound of |theta_t|, element by element: q^t |theta_0| + (1 - q^t) / lambda, q = 1 - eta lambda >= 0."""
    # Shapes: start theta_0 (D,), steps t >= 0 (T,), result (T, D).
    shrinkage = (1 - lr * weight_decay) ** steps[:, None]
    return shrinkage * start.abs() + (1 - shrinkage) / weight_decay


def step_6_box_bound() -> Check:
    """For eta lambda <= 1: |theta_t| <= q^t |theta_0| + (1 - q^t) / lambda, and the bound is attained."""
    # arXiv 2310.05898. Equality needs gradients of one sign and a theta_0 that is zero or of the opposite sign.
    # Control: coupled decay; while |g| exceeds lambda |theta|, theta grows by eta a step.
    start, num_steps = 3 * normal(8, NUM_COORDINATES), 500
    steps = torch.arange(num_steps + 1, dtype=torch.float64)
    random, outward = normal(9, num_steps, NUM_COORDINATES), -start.sign().expand(num_steps, -1)
    errors, controls = [], []
    for eta, weight_decay in ((1e-2, 0.5), (0.1, 5.0), (0.5, 2.0)):
        bound = box_bound(start, steps, lr=eta, weight_decay=weight_decay)
        decayed = lion_maker(eta, weight_decay=weight_decay)
        excess = trajectory(decayed, given(random), start, num_steps).abs() - bound
        gap = trajectory(decayed, given(outward), start, num_steps).abs() - bound
        errors.append(max(float(excess.max()), largest(gap)))
        coupled = _coupled(given(1e3 * outward), weight_decay)
        controls.append(float((trajectory(lion_maker(eta), coupled, start, num_steps).abs() - bound).max()))
    return Check(max(errors), min(controls))


def step_7_constrained_optimum() -> Check:
    """With lambda > 0 Lion solves min f(x) subject to |lambda x_i| <= 1 for every i (arXiv 2310.05898)."""
    # For f(x) = |x - c|^2 / 2 the solution is clip(c, -1/lambda, 1/lambda), from inside and outside the box. With eta
    # falling linearly to 0 the oscillation of a few eta dies out.
    # Control: coupled decay; the fixed point then is c / (1 + lambda), the minimum of f + lambda |x|^2 / 2.
    target, weight_decay, num_steps = torch.linspace(-3, 3, 31, dtype=torch.float64), 1.0, 3000
    solution = target.clamp(-1 / weight_decay, 1 / weight_decay).expand(2, -1)
    start = torch.stack([torch.zeros_like(target), 5 * target.flip(0)])

    def error(decay: float, gradient_of: GradientOf) -> float:
        make = lion_maker(weight_decay=decay)
        thetas = trajectory(make, gradient_of, start, num_steps, lambda step: 0.05 * (1 - step / num_steps))
        return largest(thetas[-1] - solution)

    def slope(_step: int, theta: Tensor) -> Tensor:
        return theta - target

    return Check(error(weight_decay, slope), error(0.0, _coupled(slope, weight_decay)))


def state_bytes() -> Check:
    """Lion keeps half as many bytes of state as AdamW: one tensor the size of each parameter, not two."""
    # AdamW's step counter of 4 bytes a tensor counts. Control: SGD with momentum, whose state is as large as Lion's.

    def num_bytes(optimizer_of: Callable[[list[Parameter]], torch.optim.Optimizer]) -> int:
        params = small_network()
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer = optimizer_of(params)
        optimizer.step()
        return sum(tensor.nbytes for state in optimizer.state.values() for tensor in state.values())

    lion, adamw = num_bytes(lion_maker()), num_bytes(torch.optim.AdamW)
    sgd = num_bytes(lambda params: torch.optim.SGD(params, momentum=0.9))
    return Check(abs(lion / adamw - 0.5), abs(lion / sgd - 0.5))


CHECKS: Checks = {
    **by_name(
        step_1_magnitude,
        step_2_first_step,
        step_3_signum,
        step_4_other_form,
        step_5_scale_invariance,
        step_6_box_bound,
        step_7_constrained_optimum,
        state_bytes,
    ),
    **checks_of_noise.CHECKS,
    **checks_of_arithmetic.CHECKS,
}

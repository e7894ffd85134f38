"""Steps 14 to 17: LoRA-GA, LoRA-Pro, Flora and LoRA+, which align LoRA with full training or weigh its factors.

U and V are the singular vectors of G, P_A and P_B the projections on the columns of A and on the rows of B.
"""

from math import sqrt

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from paperkit.checks import Check, Checks, by_name
from replications.lora_optimizer.reference import M, N, R, descend, drawn, factors, problem, relative, slope, tail

__all__ = ["CHECKS"]


def step_14_lora_ga() -> Check:
    """A0 the first r columns of U, B0 the next r of V: the best rank 2 r leaves as much. Control: B0 the first r."""
    g = drawn(140, N, M)
    u, values, v = torch.linalg.svd(g)
    a, best = u[:, :R], values[2 * R :].norm()
    return Check(*(relative((a @ a.T @ g + g @ b.T @ b - g).norm(), best) for b in (v[R : 2 * R], v[:R])))


def step_15_lora_pro() -> Check:
    """H_A B + A H_B lacks (I - P_A) G (I - P_B), for any C, as least squares does. Control: H_B without I - P_B."""
    (a, b), g, c = factors(150), drawn(152, N, M), drawn(153, R, R)
    p_a, p_b = a @ torch.linalg.pinv(a), torch.linalg.pinv(b) @ b
    h_a, h_b = torch.linalg.solve(b @ b.T, g @ b.T, left=False), torch.linalg.solve(a.T @ a, a.T @ g)
    form, rest = -(g - p_a @ g) @ (torch.eye(M).double() - p_b), h_b - h_b @ p_b
    columns = torch.cat([part.reshape(N * M, -1) for part in jacobian(lambda x, y: x @ b + a @ y, (h_a, h_b))], 1)
    fitted = (columns @ torch.linalg.lstsq(columns, g.reshape(-1, 1), driver="gelsd").solution).view(N, M)
    steps = h_a @ b + a @ rest, (h_a + a @ c) @ b + a @ (rest - c @ b), fitted
    return Check(max(relative(step - g, form) for step in steps), relative(h_a @ b + a @ h_b - g, form))


def step_16_frozen_factor() -> Check:
    """A held at A0, B from 0: W - W0 is -eta A0 A0' times the sum of gradients, fifty steps. Control: A trained."""
    p, (a, b), eta = problem(160), factors(164), 0.05
    runs = [descend(p, a, 0 * b, rates, 50) for rates in ((0.0, eta), (eta, eta))]
    return Check(*(relative(run.w - p.weights[0], -eta * a @ a.T @ run.gradients) for run in runs))


def step_16_flora() -> Check:
    """With A trained too this errs, relatively, with the slope 2 on log eta. Control: B0 is not 0, slope 1."""
    p, (a, b), rates = problem(166), factors(170), (1e-4, 1e-5)

    def error(b: Tensor, eta: float) -> float:
        run = descend(p, a, b, (eta, eta), 50)
        return relative(run.w - p.weights[0], -eta * (a @ a.T @ run.gradients + run.gradients @ b.T @ b))

    return Check(*(abs(slope(rates, [error(start, eta) for eta in rates]) - 2) for start in (0 * b, b)))


def step_16_restarts() -> Check:
    """Three times ten steps, a fresh A each: the sum of the three, of rank 3 r. Control: singular values beyond r."""
    p, eta = problem(172), 0.05
    w, form = p.weights[0], torch.zeros(N, M).double()
    for a, b in map(factors, (176, 178, 180)):
        run = descend(p, a, 0 * b, (0.0, eta), 10, w)
        w, form = run.w, form - eta * a @ a.T @ run.gradients
    change = w - p.weights[0]
    return Check(max(relative(change, form), tail(change, 3 * R)), tail(change, R))


def _rates(g: Tensor, r: int) -> float:
    """Return the ratio of rates at which sign steps on A and B lower the loss equally, over 400 draws of A and B."""
    n, m = g.shape
    a, b = drawn(184, 400, n, r) / sqrt(n), drawn(185, 400, r, m) / sqrt(r)
    return float((g @ b.mT).abs().sum() / (a.mT @ g).abs().sum())


def lora_plus_as_written() -> Check:
    """The ratio of rates for equal contributions, where m is 4 n, is (n / m) sqrt(n / r). Control: without n / m."""
    n, m, r = 24, 96, 4
    return Check(*(abs(_rates(drawn(182, n, m), r) / (factor * sqrt(n / r)) - 1) for factor in (n / m, 1)))


def step_17_equal_contributions() -> Check:
    """The same ratio, of an even G and of one with uneven rows. Control: sqrt(n / r), as if G were square."""
    n, m, r = 24, 96, 4
    even, uneven = drawn(182, n, m), drawn(182, n, m) * drawn(183, n, 1).exp()
    errors = [abs(_rates(even, r) / (n / sqrt(m * r)) - 1)]
    for g in (even, uneven):
        norms = float(g.norm(dim=1).sum() / g.norm(dim=0).sum())
        errors.append(abs(_rates(g, r) / (sqrt(n / r) * norms) - 1))
    return Check(max(errors), abs(_rates(even, r) / sqrt(n / r) - 1))


def step_17_orders() -> Check:
    """Slope of the log ratio on log width: 1/2 for equal effect on the loss, 1 on the output. Control: exchanged."""
    widths, ratios = [64, 256, 1024], []
    for n in widths:
        x, d = drawn(186, 200, 1, n), drawn(187, 200, 1, n)
        a, b = drawn(188, 200, n, 8) / sqrt(n), drawn(189, 200, 8, n) / sqrt(8)
        (of_x, of_d, through_a), back = (z.abs().sum((1, 2)) for z in (x, d, x @ a)), d @ b.mT
        loss = of_x * back.abs().sum((1, 2)) / (through_a * of_d)
        output = of_x * (back.sign() @ b).norm(dim=(1, 2)) / (through_a * sqrt(n))
        ratios.append((float(loss.mean()), float(output.mean())))
    slopes = [slope(widths, values) for values in zip(*ratios, strict=True)]
    return Check(*(max(abs(x - y) for x, y in zip(slopes, forms, strict=True)) for forms in ((0.5, 1), (1, 0.5))))


CHECKS: Checks = by_name(
    step_14_lora_ga, step_15_lora_pro, step_16_frozen_factor, step_16_flora, step_16_restarts,
    lora_plus_as_written, step_17_equal_contributions, step_17_orders,
)  # fmt: skip

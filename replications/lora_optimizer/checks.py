"""The derivation as checks that run: what LoRA does to a weight when it is seen as an optimizer.

Letters as in `reference`, G is g; g_a and g_b are the gradients of the factors; in steps 14 and 15, U and V are the
singular vectors of G, P_A and P_B the projections on the columns of A and on the rows of B. All is in float64, and
independent of the library, whose tests compare it with the same formulas.
"""

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import layer_norm, rms_norm
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.flop_counter import FlopCounterMode

from paperkit.checks import Check, Checks, by_name
from replications.lora_optimizer import reference
from replications.lora_optimizer.reference import M, N, R, descend, drawn, factors, problem, relative, slope, tail

S = 2.0
ADAMW = partial(AdamW, lr=3e-3, weight_decay=0.01)
FORMS = {
    "full": lambda x, w, *_: x @ w,
    "merged": lambda x, w, a, b: x @ (w.detach() + a @ b),  # (1) of the post
    "inside": lambda x, w, a, b: x @ w.detach() + (x @ a) @ b,  # (2)
}


def _first_order(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return g @ b.T @ b + a @ a.T @ g


def step_1_factor_gradients() -> Check:
    """Autograd's gradients of X (W0 + s A B) and of X W0 + s (X A) B are s G B' and s A' G. Control: without s."""
    p, (a, b) = problem(10), factors(14)
    w0, w1 = p.weights
    g, errors, controls = p.gradient(w0 + S * a @ b), [], []
    for form in (lambda h, a, b: h @ (w0 + S * a @ b), lambda h, a, b: h @ w0 + S * (h @ a) @ b):
        leaves = a.clone().requires_grad_(), b.clone().requires_grad_()
        loss = p.loss(lambda h, i, form=form, leaves=leaves: h @ w1 if i else form(h, *leaves))
        for found, projected in zip(torch.autograd.grad(loss, leaves), (g @ b.T, a.T @ g), strict=True):
            errors.append(relative(S * projected, found))
            controls.append(relative(projected, found))
    return Check(max(errors), min(controls))


def step_2_exact_step() -> Check:
    """One SGD step on A and B, and the three terms it changes W by. Control: the sign of the second-order term."""
    (a, b), g, eta = factors(20), drawn(22, N, M), 0.1
    step = S * ((a - eta * S * g @ b.T) @ (b - eta * S * a.T @ g) - a @ b)
    first, second = -eta * S**2 * _first_order(g, a, b), eta**2 * S**3 * g @ (a @ b).T @ g
    return Check(relative(first + second, step), relative(first - second, step))


def step_3_descent() -> Check:
    """The loss's slope along a step, by autograd, is -|g_a|² - |g_b|². Control: full training's, -|G|²."""
    p, (a, b) = problem(30), factors(34)
    g = p.gradient(p.weights[0])
    fixed, g_a, g_b = p.weights[0] - S * a @ b, S * g @ b.T, S * a.T @ g
    eta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = fixed + S * (a - eta * g_a) @ (b - eta * g_b)
    found = torch.autograd.grad(p.loss(lambda h, i: h @ (moved, p.weights[1])[i]), eta)[0]
    forms = -(g * S**2 * _first_order(g, a, b)).sum(), -g_a.square().sum() - g_b.square().sum()
    return Check(max(relative(form, found) for form in forms), relative(-g.square().sum(), found))


def step_4_preconditioner() -> Check:
    """Eigenvalues of G -> G B'B + A A'G: sums of those of A A' and B'B, (n - r)(m - r) zeros. Control: A A' alone."""
    a, b = factors(40)
    units = torch.eye(N * M).double().reshape(-1, N, M)
    found = torch.linalg.eigvalsh(_first_order(units, a, b).reshape(N * M, -1))
    of_a, of_b = torch.linalg.eigvalsh(a @ a.T)[:, None], torch.linalg.eigvalsh(b.T @ b)
    sums, alone = ((of_a + scale * of_b).flatten().sort().values for scale in (1, 0))
    miscounted = abs(int((found < 1e-10).sum()) - (N - R) * (M - R))
    return Check(max(relative(sums, found), miscounted), relative(alone, found))


def step_4_ranks() -> Check:
    """Singular values of W - W0 beyond r from a zero start, else beyond 2 r. Control: beyond r there too."""
    p, (a, b), rates = problem(41), factors(45), (0.05, 0.05)
    cases = (b, 1), (b, 50), (0 * b, 50)
    one_step, many, from_zero = (descend(p, a, start, rates, steps).w - p.weights[0] for start, steps in cases)
    error = max(tail(from_zero, R), tail(one_step, 2 * R), tail(many, 2 * R))
    return Check(error, min(tail(one_step, R), tail(many, R)))


def step_5_zero_start() -> Check:
    """With B = 0 the first step is -eta A A'G, with A = 0 -eta G B'B, exactly. Control: the other one's."""
    p, (a, b), eta = problem(50), factors(54), 0.1
    g = p.gradient(p.weights[0])
    steps = [descend(p, *start, (eta, eta), 1).w - p.weights[0] for start in ((a, 0 * b), (0 * a, b))]
    forms = -eta * a @ a.T @ g, -eta * g @ b.T @ b
    error = max(relative(*pair) for pair in zip(forms, steps, strict=True))
    return Check(error, min(relative(*pair) for pair in zip(forms, steps[::-1], strict=True)))


def step_6_gauge() -> Check:
    """A Q and Q⁻¹B, Q orthogonal: the same W and step. Control: Q diagonal; Q orthogonal with Adam's first step."""
    (a, b), g = factors(60), drawn(62, N, M)
    turned, stretched = torch.linalg.qr(drawn(63, R, R))[0], torch.diag(torch.tensor([10, 1, 1, 0.1])).double()

    def changes(q: Tensor, *, adam: bool) -> tuple[float, float]:
        other, steps = (a @ q, torch.linalg.solve(q, b)), []
        for x, y in ((a, b), other):
            g_x, g_y = (d.sign() if adam else d for d in (g @ y.T, x.T @ g))
            steps.append(g_x @ y + x @ g_y)
        return relative(other[0] @ other[1], a @ b), relative(steps[1], steps[0])

    controls = changes(stretched, adam=False)[1], changes(turned, adam=True)[1]
    return Check(max(changes(turned, adam=False)), min(controls))


def step_7_conservation() -> Check:
    """What many SGD steps at eta and q eta change q A'A - B B' by, of second order. Control: A'A - B B'."""
    p, (a, b), eta, q = problem(70), factors(74), 0.02, 4
    end = descend(p, a, b, (eta, q * eta), 100)
    changes = [ratio * (end.a.T @ end.a - a.T @ a) - (end.b @ end.b.T - b @ b.T) for ratio in (q, 1)]
    return Check(*(relative(change, end.drift / eta) for change in changes))


def step_8_structural_form() -> Check:
    """Both forms, a hundred steps of SGD, momentum, AdamW; clipped; three starts. Control: G itself clipped."""
    p, (a, b), (c, d) = problem(80), factors(84), factors(86, M, 12, 3)
    bases = partial(SGD, lr=0.02), partial(SGD, lr=0.01, momentum=0.9), ADAMW
    starts = [[(a, 0 * b), (c, 0 * d)], [(0 * a, b), (0 * c, d)], [(a, b), (c, d)]]

    def error(i: int, inside: dict[str, float], outside: dict[str, float]) -> float:
        forms = (reference.train_inside, inside), (reference.train_outside, outside)
        found = [train(p, starts[i], bases[i], s=S, **options) for train, options in forms]
        return max(float((x - y).abs().max()) for x, y in zip(*found, strict=True))

    clipped, errors = {"bound": 0.1}, [error(i, {}, {"add": i == 2}) for i in (0, 1, 2)]
    return Check(max(*errors, error(0, clipped, clipped)), error(0, clipped, {"of_g": 0.1}))


def _resampled(r: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Return G, the two parts of a step with fresh u and v, its second-order term, and how to take means."""
    g, (u, v, mean) = drawn(90, 3, 2), reference.gaussian_pairs(3, 2, r)
    return g, u @ u.mT @ g / r, g @ v.mT @ v / r, g @ v.mT @ u.mT @ g / r, mean


def resampling_is_sgd_as_written() -> Check:
    """The mean of (G v'v + u u'G) / r is G. Control: the other sign of G."""
    g, left, right, _, mean = _resampled(1)
    return Check(*(relative(mean(left + right), sign * g) for sign in (1, -1)))


def step_9_mean_is_twice_sgd() -> Check:
    """The exact mean is 2 G, for r = 1 and 2, without the second-order term and with it. Control: G."""
    means = [(g, mean(x + y - eta * z)) for g, x, y, z, mean in map(_resampled, (1, 2)) for eta in (0.0, 0.5)]
    return Check(max(relative(mean, 2 * g) for g, mean in means), min(relative(mean, g) for g, mean in means))


def step_10_variance() -> Check:
    """Exact variances of a step, of one side and of both, r = 1 and 2. Control: formulas without the 1 and the 2."""
    found = {1.0: [], 0.0: []}
    for r in (1, 2):
        g, left, right, _, mean = _resampled(r)
        for centre, step, sizes, sides in ((g, left, 3, 1), (2 * g, left + right, 5, 2)):
            variance = float(mean((step - centre).square().sum((1, 2))) / centre.square().sum())
            for more, errors in found.items():
                errors.append(abs(variance / ((sizes + sides * more) / (sides**2 * r)) - 1))
    return Check(max(found[1.0]), min(found[0.0]))


def step_10_orthonormal() -> Check:
    """Exact mean and variance of n / r times projections on r of n directions. Control: the variance of normal u."""
    n, r = 6, 2
    g, q = drawn(100, n, 5), torch.linalg.qr(drawn(101, n, n))[0]
    steps = n / r * torch.stack([q[:, c] @ q[:, c].T @ g for c in torch.combinations(torch.arange(n), r)])
    found = float((steps - g).square().sum((1, 2)).mean() / g.square().sum())
    return Check(max(relative(steps.mean(0), g), abs(found / (n / r - 1) - 1)), abs(found / ((n + 1) / r) - 1))


def step_11_largest_rate() -> Check:
    """Of the loss |W|² / 2 the mean stays as it is at this rate, one side and both. Control: a rate a fifth larger."""
    found = {1.0: [], 1.2: []}
    for r in (1, 2):
        w, left, right, _, mean = _resampled(r)
        for step, variance in ((left, 4 / r), ((left + right) / 2, 7 / (4 * r))):
            for times, growth in found.items():
                after = (w - times * 2 / (1 + variance) * step).square().sum((1, 2))
                growth.append(abs(float(mean(after) / w.square().sum()) - 1))
    return Check(max(found[1.0]), min(found[1.2]))


def _tiles(r: int) -> tuple[Tensor, Tensor]:
    """Return the additive form's patterns: r x r identities below each other (n, r), and beside each other (r, m)."""
    eye = torch.eye(r).double()
    return eye.repeat(N // r, 1), eye.repeat(1, M // r)


def step_12_sums() -> Check:
    """The additive form's gradients are sums of G over blocks of columns and of rows. Control: over neighbours."""
    p, errors, controls = problem(120), [], []
    for r in (1, R):
        (f, e), leaves = _tiles(r), [x.requires_grad_() for x in factors(124, r=r)]
        w = p.weights[0] + leaves[0] @ e + f @ leaves[1]
        g = p.gradient(w)
        g_a, g_b = torch.autograd.grad(p.loss(lambda h, i, w=w: h @ (w, p.weights[1])[i]), leaves)
        errors += relative(g.view(N, -1, r).sum(1), g_a), relative(g.view(-1, r, M).sum(0), g_b)
        controls += relative(g.view(N, r, -1).sum(2), g_a), relative(g.view(r, -1, M).sum(1), g_b)
    return Check(max(errors), min(controls[2:]))  # of one block, as r = 1 has, there are no others


def step_12_fixed_projection() -> Check:
    """SGD on the additive form, fifty steps: G v'v + u u'G, u and v fixed. Control: LoRA from A = u, B = v."""
    p, (u, v), (a, b), eta = problem(128), _tiles(R), factors(132), 0.002
    w, w0 = p.weights[0], p.weights[0] - a @ v - u @ b
    for _ in range(50):
        w = w - eta * _first_order(p.gradient(w), u, v)
        g = p.gradient(w0 + a @ v + u @ b)
        a, b = a - eta * g @ v.T, b - eta * u.T @ g
    changes = [x - p.weights[0] for x in (w, w0 + a @ v + u @ b, descend(p, u, v, (eta, eta), 50).w)]
    return Check(relative(changes[1], changes[0]), relative(changes[2], changes[0]))


def step_12_rank() -> Check:
    """Singular values of the additive form beyond 2 r, r = 1 and 4. Control: beyond r, where the product has none."""
    forms = [(r, a @ _tiles(r)[1] + _tiles(r)[0] @ b) for r in (1, R) for a, b in [factors(136, r=r)]]
    return Check(max(tail(w, 2 * r) for r, w in forms), min(tail(w, r) for r, w in forms))


def step_12_free_parameters() -> Check:
    """Dimensions in which A and B move W: r (n + m - r), additive and product alike. Control: r (n + m)."""
    (f, e), pair, found = _tiles(R), factors(138), []
    for form in (lambda a, b: a @ e + f @ b, lambda a, b: a @ b):
        columns = torch.cat([part.reshape(N * M, -1) for part in jacobian(form, pair, vectorize=True)], 1)
        found.append(int(torch.linalg.matrix_rank(columns)))
    return Check(*(float(max(abs(rank - R * form) for rank in found)) for form in (N + M - R, N + M)))


def step_13_layer_norm() -> Check:
    """Of B behind LayerNorm and of A before it nothing is left, r = 1. Control: RMSNorm, a gain, random signs."""
    h, d_y, stream, gain = drawn(130, 32, N), drawn(131, 32, M), drawn(132, 32, M), 1 + 0.2 * drawn(133, N)
    a, ones, signs = drawn(134, N, 1), torch.ones(N).double(), drawn(135, N).sign()
    x = layer_norm(h, (N,))

    def of_b(x: Tensor, pattern: Tensor = ones) -> tuple[float, float]:  # in units of what random signs would do
        (acts, learns), (usual, usually) = ((x @ s, (x @ s) @ d_y) for s in (pattern, signs))
        return float(acts.norm() / usual.norm()), float(learns.norm() / usually.norm())

    def of_a(norm: Callable[..., Tensor], pattern: Tensor = ones) -> float:
        shares = [relative(norm(stream + (x @ a) * s[:M], (M,)), norm(stream, (M,))) for s in (pattern, signs)]
        return shares[0] / shares[1]

    controls = *of_b(rms_norm(h, (N,))), *of_b(gain * x), *of_b(x, signs), of_a(rms_norm), of_a(layer_norm, signs)
    return Check(max(*of_b(x), of_a(layer_norm)), min(controls))


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


def _layer(t: int, n: int, m: int, r: int, *, first: bool = False, freeze_a: bool = False) -> tuple[Tensor, ...]:
    """Draw t inputs, which need a gradient unless the layer is the first, w, a and b."""
    x, *weights = (drawn(seed, *shape) for seed, shape in enumerate([(t, n), (n, m), (n, r), (r, m)]))
    w, a, b = (weight.requires_grad_() for weight in weights)
    return x.requires_grad_(not first), w, a.requires_grad_(not freeze_a), b


def _operations(form: str, *shape: int, first: bool = False, outside: int = 0) -> int:
    """Count a step's products, forward and backward; outside is how many products a b the optimizer form makes."""
    x, w, a, b = _layer(*shape, first=first)
    with FlopCounterMode(display=False) as counter:
        FORMS[form](x, w, a, b).sum().backward()
        if outside:
            g = torch.ones_like(w)
            _ = g @ b.T, a.T @ g, [a @ b for _ in range(outside)]
    return counter.get_total_flops()


def step_18_operations() -> Check:
    """A step's products by torch's counter, seven cases. Control: 6 t n m also where the input has no gradient."""
    errors, controls = [], []
    for shape in ((48, 24, 20, 4), (16, 40, 56, 7)):
        t, n, m, r = shape
        whole, thin, square = t * n * m, t * r * (n + m), n * m * r
        cases = (
            (_operations("full", *shape), 6 * whole),
            (_operations("inside", *shape), 4 * whole + 6 * thin),
            (_operations("merged", *shape), 6 * whole + 6 * square),
            (_operations("full", *shape, outside=1), 6 * whole + 6 * square),
            (_operations("full", *shape, outside=2), 6 * whole + 8 * square),
            (_operations("full", *shape, first=True), 4 * whole),
            (_operations("inside", *shape, first=True), 2 * whole + 4 * t * n * r + 6 * t * m * r),
        )
        errors += [abs(found / form - 1) for found, form in cases]
        controls.append(abs(_operations("full", *shape, first=True) / (6 * whole) - 1))
    return Check(max(errors), min(controls))


def step_18_break_even() -> Check:
    """At r = n m / 3 (n + m) a step inside counts as much as full training. Control: at twice that rank."""

    def error(*shape: int) -> float:
        return abs(_operations("inside", *shape) / _operations("full", *shape) - 1)

    return Check(max(error(16, 48, 48, 8), error(16, 36, 18, 4)), min(error(16, 48, 48, 16), error(16, 36, 18, 8)))


def step_19_activations() -> Check:
    """Numbers kept for the backward pass: t n, inside t (n + r), with A frozen t r. Control: t r with A trained."""
    t, n, m, r = 48, 24, 20, 4

    def kept(form: str, *, freeze_a: bool = False) -> int:
        tensors: dict[int, Tensor] = {}
        with saved_tensors_hooks(lambda x: tensors.setdefault(x.data_ptr(), x), lambda x: x):
            FORMS[form](*_layer(t, n, m, r, freeze_a=freeze_a))
        return sum(x.numel() for x in tensors.values() if len(x) == t)

    found = kept("full") / (t * n), kept("inside") / (t * (n + r)), kept("inside", freeze_a=True) / (t * r)
    return Check(max(abs(ratio - 1) for ratio in found), kept("inside") / (t * r) - 1)


def step_19_memory() -> Check:
    """Numbers beside the model's weights and activations, for SGD and AdamW. Control: form (1) taken for form (2)."""
    n, m, r = 24, 20, 2  # 4 r (n + m) < n m
    square, thin, errors, controls = n * m, r * (n + m), [], []

    def numbers(optimizer: Optimizer, *tensors: Any) -> tuple[int, int]:
        optimizer.step()
        moments = sum(x.numel() for kept in optimizer.state.values() for x in kept.values() if getattr(x, "ndim", 0))
        return moments, moments + sum(x.numel() for x in tensors)

    for base, moments in ((SGD, 0), (AdamW, 2)):
        x, w, a, b = _layer(48, n, m, r)
        merged = w.detach() + a @ b
        merged.retain_grad()
        (x @ w + x @ merged).sum().backward()
        full, inside = numbers(base([w], lr=0.1), w.grad), numbers(base([a, b], lr=0.1), a, b, a.grad, b.grad)
        form_1 = numbers(base([a, b], lr=0.1), a, b, a.grad, b.grad, merged, merged.grad)[1]
        forms = moments * square, (moments + 1) * square, moments * thin, (moments + 2) * thin
        errors += [abs(x - y) for x, y in zip((*full, *inside), forms, strict=True)]
        errors.append(abs(form_1 - 2 * square - forms[-1]))
        controls.append(form_1 / inside[1] - 1)
    return Check(float(max(errors)), min(controls))


def step_20_scale() -> Check:
    """The scale s = 2 beside s = 1 with larger start and rate, SGD and AdamW, two layers. Control: the same rate."""
    p, pairs, root = problem(200), (factors(204), factors(206, M, 12, 3)), sqrt(S)
    scaled, errors, controls = [(root * a, root * b) for a, b in pairs], [], []
    for base, other in (
        (partial(SGD, lr=0.01), partial(SGD, lr=0.01 * S)),
        (ADAMW, partial(AdamW, lr=3e-3 * root, eps=1e-8 / root, weight_decay=0.01 / root)),
    ):
        w = reference.train_outside(p, pairs, base, s=S)[0]
        for found, some in ((errors, other), (controls, base)):
            found.append(float((w - reference.train_outside(p, scaled, some, s=1)[0]).abs().max()))
    return Check(max(errors), min(controls))


def step_21_decay() -> Check:
    """AdamW's decay without gradients pulls W to W0 - s A0 B0, twice as fast. Control: to 0; to W0."""
    (a, b), (a0, b0), w0 = factors(210), factors(212), drawn(214, N, M)
    leaves = [a.clone(), b.clone()]
    optimizer = AdamW(leaves, lr=0.1, weight_decay=0.2)
    for _ in range(100):
        for leaf in leaves:
            leaf.grad = torch.zeros_like(leaf)
        optimizer.step()
    start, end = (w0 - S * a0 @ b0 + S * x @ y for x, y in ((a, b), leaves))
    shrunk, centres = (1 - 0.1 * 0.2) ** 200, (w0 - S * a0 @ b0, torch.zeros(N, M).double(), w0)
    error, *controls = (relative(centre + shrunk * (start - centre), end) for centre in centres)
    return Check(error, min(controls))


CHECKS: Checks = by_name(
    step_1_factor_gradients, step_2_exact_step, step_3_descent, step_4_preconditioner, step_4_ranks,
    step_5_zero_start, step_6_gauge, step_7_conservation, step_8_structural_form, resampling_is_sgd_as_written,
    step_9_mean_is_twice_sgd, step_10_variance, step_10_orthonormal, step_11_largest_rate, step_12_sums,
    step_12_fixed_projection, step_12_rank, step_12_free_parameters, step_13_layer_norm, step_14_lora_ga,
    step_15_lora_pro, step_16_frozen_factor, step_16_flora, step_16_restarts, lora_plus_as_written,
    step_17_equal_contributions, step_17_orders, step_18_operations, step_18_break_even, step_19_activations,
    step_19_memory, step_20_scale, step_21_decay,
)  # fmt: skip

"""Why sharing the embedding makes the first loss large, and what the remedies do: derived step by step and checked.

Letters as in `embedding`: n vocabulary, d width, s = sigma, W table, w_i row, P map, z_ij = (P w_i / RMS(w_i)) . u_j
logit of token j after token i, in a model whose residual branches are zero. Steps about structure, gradients and
optimizers are in `checks_of_training`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from paperkit.checks import Check, Checks
from replications.shared_embeddings import checks_of_training
from replications.shared_embeddings.embedding import (
    crossover_width,
    half_swap,
    predicted_initial_loss,
    self_logit_moments,
    shuffle,
    shuffle_fixed_points,
    signed_swap,
    source_initial_loss,
)
from replications.shared_embeddings.random_tables import bigram_losses, drawn, refuted, relative

__all__ = ["CHECKS"]

WIDTH, DRAWS = 64, 100_000
VOCABULARY, INPUTS = 2048, 512


def squared_norm() -> Check:
    """Mean and variance of |w|², relative, for three laws. The control takes the normal one's for the uniform."""
    # Var |w|^2 = d (E w^4 - s^4): 2 d s^4 for normal entries, 4 d s^4 / 5 for uniform ones, 0 for signs.
    d = WIDTH
    normal = drawn(0, DRAWS, d)
    uniform = torch.sqrt(torch.tensor(3.0)) * torch.erf(drawn(1, DRAWS, d) / math.sqrt(2))
    squares = {name: w.square().sum(1) for name, w in (("n", normal), ("u", uniform), ("s", normal.sign()))}
    means = [relative(float(x.mean()), d) for x in squares.values()]
    variances = {name: float(x.var()) / d for name, x in squares.items()}
    errors = [relative(variances["n"], 2), relative(variances["u"], 0.8), variances["s"]]
    return Check(max(*means, *errors), relative(variances["u"], 2))


def _relative_variance(sigma: float) -> float:
    squares = (sigma * drawn(2, DRAWS, WIDTH)).square().sum(1)
    return float(squares.var() / squares.mean() ** 2)


def accuracy_of_norm_as_written() -> Check:
    """As written, read thus: the relative variance falls with σ². Control, where it does: the variance of |w|."""
    # From s = 1 to s = 0.1 it ought to fall a hundredfold: "since" Var |w|^2 = 2 d s^4 falls with s.
    ratio = _relative_variance(1.0) / _relative_variance(0.1)
    lengths = drawn(2, DRAWS, WIDTH).norm(dim=1)
    absolute = float(lengths.var() / (0.1 * lengths).var())
    return refuted(relative(ratio, 1e2), relative(absolute, 1e2), 0.02)


def accuracy_of_norm() -> Check:
    """As corrected, at three values of σ. The control halves the width."""
    # Var |w|^2 / (E |w|^2)^2 = 2 / d at every s: accuracy comes from the width alone.
    values = [_relative_variance(sigma) for sigma in (0.02, WIDTH**-0.5, 1.0)]
    return Check(max(relative(x, 2 / WIDTH) for x in values), min(relative(x, 4 / WIDTH) for x in values))


def _inner_product_variance(d: int, variance: float) -> float:
    """Var (w . v) for entries of a variance."""
    return float((drawn(3, DRAWS, d) * drawn(4, DRAWS, d)).sum(1).var()) * variance**2


def inner_product() -> Check:
    """The variance relatively, the mean in tenths of standard deviations. The control counts all d² products."""
    # E w.v = 0 and Var w.v = d s^4: by independence only d of the d^2 products survive.
    d = WIDTH
    products = (drawn(3, DRAWS, d) * drawn(4, DRAWS, d)).sum(1)
    mean = abs(float(products.mean())) / math.sqrt(d) / 10
    return Check(max(mean, relative(float(products.var()), d)), relative(float(products.var()), d**2))


def inner_product_as_written() -> Check:
    """As written, 1/d³ for σ² = 1/d. Control, where it is right: σ² = 1/d²."""
    # The sentence after equation 5.
    as_said, smaller = (relative(_inner_product_variance(WIDTH, x), WIDTH**-3) for x in (WIDTH**-1, WIDTH**-2))
    return refuted(as_said, smaller, 0.02)


def inner_product_corrected() -> Check:
    """As corrected, simulated at two widths. The control is 1/d³."""
    variances = {d: _inner_product_variance(d, 1 / d) for d in (16, 64)}
    errors = [relative(x, 1 / d) for d, x in variances.items()]
    return Check(max(errors), min(relative(x, d**-3) for d, x in variances.items()))


def uniform_reference() -> Check:
    """Fifty random distributions, and the uniform one. The control turns the divergence round."""
    # Labels that do not depend on the input: mean loss = log n + KL(uniform | p) >= log n, = for uniform p.
    n = 40
    log_p = torch.log_softmax(2 * drawn(5, 50, n), dim=1)
    losses = -log_p.mean(1) - math.log(n)
    divergence = (-math.log(n) - log_p).mean(1)
    reverse = (log_p.exp() * (log_p + math.log(n))).sum(1)
    uniform = torch.logsumexp(torch.zeros(n, dtype=torch.float64), dim=0) - math.log(n)
    return Check(float((losses - divergence).abs().max() + abs(uniform)), float((losses - reverse).abs().max()))


def _measured(head: str, d: int, sigma: float, seed: int = 0, n: int = VOCABULARY, inputs: int = INPUTS) -> float:
    """Initial loss of a simulated bigram model, plainly tied or untied."""
    table = sigma * drawn(seed, n, d)
    output = table if head == "tied" else sigma * drawn(seed + 1000, n, d)
    return float(bigram_losses(table, output, seed, inputs).mean())


def tied_loss() -> Check:
    """Simulated at four widths. The control is the source's formula at the two smallest, where the two differ."""
    # z_ii = sqrt(d) |w_i|, about d s, and z_ij ~ N(0, d s^2): loss = log(e^(d s) + (n - 1) e^(d s^2 / 2)).
    measured = {d: _measured("tied", d, d**-0.5) for d in (16, 32, 128, 512)}
    errors = [abs(x - predicted_initial_loss(VOCABULARY, d, d**-0.5, "tied")) for d, x in measured.items()]
    controls = [abs(measured[d] - source_initial_loss(VOCABULARY, d, d**-0.5)) for d in (16, 32)]
    return Check(max(errors), min(controls))


def crossover() -> Check:
    """Located by simulation in steps of 8, for two vocabularies. The control, (log n)², forgets the half."""
    # With s = 1/sqrt(d), loss > log n + d s^2 / 2 + log 2 from d* on: there e^(d s) is half the sum.
    errors, controls = [], []
    for n in (512, 4096):
        threshold = math.log(n) + 0.5 + math.log(2)
        widths = range(8 * int((math.log(n) - 1) ** 2 // 8), 8 * int((math.log(n) + 3) ** 2 // 8), 8)
        located = next(d for d in widths if _measured("tied", d, d**-0.5, seed=d, n=n, inputs=2 * INPUTS) > threshold)
        errors.append(abs(located - crossover_width(n)))
        controls.append(abs(located - math.log(n) ** 2))
    return Check(max(errors), max(controls))


def small_sigma() -> Check:
    """Widths 512 and 1024, with the exponential term. The control is log n."""
    # With s = (log n) / d, e^(d s) = n and loss = log(2 n - 1) up to d s^2 / 2 = (log n)^2 / (2 d), not log n.
    n, log_n = VOCABULARY, math.log(VOCABULARY)
    measured = {d: _measured("tied", d, log_n / d) for d in (512, 1024)}
    expected = {d: math.log(n + (n - 1) * math.exp(log_n**2 / (2 * d))) for d in measured}
    errors = [abs(measured[d] - expected[d]) for d in measured]
    return Check(max(errors), min(abs(x - log_n) for x in measured.values()))


def untied_loss() -> Check:
    """Three pairs of d and σ. The control is log n, the source's limit."""
    # Every logit is N(0, d s^2): loss = log n + d s^2 / 2, log n + 1/2 at s^2 = 1/d.
    cases = [(64, 0.125), (512, 512**-0.5), (512, 0.06)]
    measured = [_measured("untied", d, sigma) for d, sigma in cases]
    expected = [math.log(VOCABULARY) + d * sigma**2 / 2 for d, sigma in cases]
    errors = [abs(x - y) for x, y in zip(measured, expected, strict=True)]
    return Check(max(errors), min(abs(x - math.log(VOCABULARY)) for x in measured))


def _maps() -> dict[str, Callable[[Tensor], Tensor]]:
    rotation = torch.linalg.qr(drawn(6, WIDTH, WIDTH))[0]
    return {
        "identity": lambda w: w,
        "half_swap": half_swap,
        "signed_swap": signed_swap,
        "orthogonal": lambda w: w @ rotation.T,
        **{f"shuffle_{g}": lambda w, g=g: shuffle(w, g) for g in (2, 4, 8)},
    }


def trace_rule() -> Check:
    """Seven maps; means in standard deviations, variances relatively. The control leaves tr P² out."""
    # w^T P w / s has mean s tr P and variance s^2 (|P|^2 + tr P^2) for normal w.
    # The variance of a normal quadratic form is 2 s^4 |sym P|^2; signed swap, which has none, absolutely.
    sigma = WIDTH**-0.5
    w = sigma * drawn(7, DRAWS, WIDTH)
    errors, controls = [], []
    for name, apply in _maps().items():
        matrix = apply(torch.eye(WIDTH, dtype=torch.float64)).T
        trace, square = float(matrix.trace()), float((matrix @ matrix).trace())
        mean, variance = self_logit_moments(trace, float(matrix.square().sum()), square, sigma)
        values = (w * apply(w)).sum(1) / sigma
        spread = math.sqrt(max(variance, 1e-300))
        # Signed swap has no variance at all: its values must be 0.
        exact = name == "signed_swap"
        errors.append(float(values.abs().max()) if exact else abs(float(values.mean()) - mean) / spread)
        errors.append(abs(variance) if exact else relative(float(values.var()), variance))
        if name in ("identity", "half_swap"):
            controls.append(relative(float(values.var()), sigma**2 * WIDTH))
    return Check(max(errors), min(controls))


def fixed_points() -> Check:
    """All divisors of four widths, counted. The control says two for every number of groups."""
    # gcd(g - 1, d/g - 1) + 1 coordinates stay, sqrt(d) at g = sqrt(d).
    errors, controls = [], []
    for d in (64, 96, 144, 256):
        order = torch.arange(d)
        for g in (g for g in range(2, d) if d % g == 0):
            counted = int((shuffle(order, g) == order).sum())
            errors.append(abs(counted - shuffle_fixed_points(d, g)))
            controls.append(abs(counted - 2))
    return Check(float(max(errors)), float(max(controls)))


def positions() -> Check:
    """Widths 128 and 512, one position for each input. The control leaves the positions out."""
    # RMS(x) = s sqrt(2), so z_ii is about d s / sqrt(2), and z_ij ~ N(0, d s^2) as before.
    errors, controls = [], []
    for d in (128, 512):
        sigma = d**-0.5
        table = sigma * drawn(8, VOCABULARY, d)
        inputs = table + sigma * drawn(9, VOCABULARY, d)
        measured = float(bigram_losses(inputs, table, 8, INPUTS).mean())
        others = math.log(VOCABULARY - 1) + d * sigma**2 / 2
        errors.append(abs(measured - math.log(math.exp(d * sigma / math.sqrt(2)) + math.exp(others))))
        controls.append(abs(measured - predicted_initial_loss(VOCABULARY, d, sigma, "tied")))
    return Check(max(errors), min(controls))


CHECKS: Checks = {
    "step_1_norm": squared_norm,
    "step_1_as_written": accuracy_of_norm_as_written,
    "step_1_corrected": accuracy_of_norm,
    "step_2_inner_product": inner_product,
    "step_2_as_written": inner_product_as_written,
    "step_2_corrected": inner_product_corrected,
    "step_3_uniform_reference": uniform_reference,
    "step_4_tied_loss": tied_loss,
    "step_5_crossover": crossover,
    "step_6_small_sigma": small_sigma,
    "step_7_untied_loss": untied_loss,
    "step_8_trace_rule": trace_rule,
    "step_12_positions": positions,
    "step_16_fixed_points": fixed_points,
    **checks_of_training.CHECKS,
}

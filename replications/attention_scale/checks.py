"""The derivation as checks that run, in float64; numbers of equations are those of kexue.fm/archives/9812."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from mpmath import mp
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import expit, roots_gegenbauer, roots_hermitenorm, softmax

from paperkit.checks import Check, by_name
from paperkit.models.language_model import next_token_loss
from paperkit.models.tiny_gpt import TinyGPT
from replications.attention_scale.attention import ScaledBlock, gradient_mass, parameter_groups, with_blocks
from replications.attention_scale.scale import (
    annealed_mass,
    annealed_optimum,
    cosine_log_moment,
    cosine_optimum,
    entropy_slope,
    exact_means,
    expected_maximum,
    gap_density_at_zero,
)

Floats = NDArray[np.float64]
POST_LENGTHS = 40 * np.arange(1, 501)  # those of both listings of the post
LENGTHS = [2**k for k in range(7, 14)]
SOME_LENGTHS = (2, 16, 512, 8192)


def step_1_jacobian() -> Check:
    """Half the L1 norm of autograd's Jacobian is (3), for 3 to 40 scores. Control: without the factor α."""
    generator, errors = torch.Generator().manual_seed(1), []
    for n in (3, 7, 40):
        for scale in (0.3, 1.0, 2.5, 8.0):
            scores = torch.randn(n, dtype=torch.float64, generator=generator)
            jacobian = torch.autograd.functional.jacobian(lambda s, scale=scale: (scale * s).softmax(-1), scores)
            half, ours = jacobian.abs().sum() / 2, gradient_mass(scores, scale)
            errors.append([float(abs(half - ours)), float(abs(half - ours / scale))])
    return Check(*np.max(errors, axis=0).tolist())


def step_2_annealed() -> Check:
    """(6) from moments that are integrated. Control: with exp(α²/2) instead of exp(α²)."""
    errors = []
    for scale in (0.5, 1.0, 2.0, 2.5):
        one, two = (_normal_mean(lambda s, a=a: math.exp(a * s)) for a in (scale, 2 * scale))
        for n in (64, 512):
            found = scale * (1 - two / (n * one**2))
            wrong = scale * (1 - math.exp(scale**2 / 2) / n)
            errors.append([abs(found - float(annealed_mass(scale, n))), abs(found - wrong)])
    return Check(*np.max(errors, axis=0).tolist())


def _normal_mean(function: Callable[[float], float]) -> float:
    return quad(
        lambda s: function(s) * math.exp(-s * s / 2) / math.sqrt(2 * math.pi), -16, 16, epsabs=0, epsrel=1e-13
    )[0]


def step_3_closed_form() -> Check:
    """The closed form beside a bounded search, for n from 2 to a million. Control: without the half below the root."""
    errors = []
    for n in (2, 40, 512, 20_000, 1_000_000):
        found = minimize_scalar(
            lambda a, n=n: -float(annealed_mass(a, n)), bounds=(0, 6), method="bounded", options={"xatol": 1e-11}
        ).x
        ours = float(annealed_optimum(math.log(n)))
        errors.append([abs(ours - found), abs(math.sqrt(ours**2 + 0.5) - found)])
    return Check(*np.max(errors, axis=0).tolist())


def step_4_normal_fit() -> Check:
    """The least-squares constant of the root of log n against the post's, over its range. Control: n up to 400."""
    optima, roots = annealed_optimum(np.log(POST_LENGTHS)), np.sqrt(np.log(POST_LENGTHS))
    return Check(*(abs(_constant(roots[:last], optima[:last]) - 0.84) for last in (None, 10)))


def step_4_cosine_fit() -> Check:
    """The least-squares constant of log n against the post's, for its cosines. Control: n up to 400."""
    optima, logs = _cosine_optima(128), np.log(POST_LENGTHS)
    return Check(*(abs(_constant(logs[:last], optima[:last]) - 3.5) for last in (None, 10)))


@cache
def _cosine_optima(d: int) -> Floats:
    return np.array([cosine_optimum(n, d) for n in POST_LENGTHS])


def _constant(x: Floats, y: Floats) -> float:
    return float(x @ y / (x @ x))


def step_5_stein() -> Check:
    """E f = E Σ p s for 2 to 8192 normal scores. Control: two scores that are uniform on an interval."""
    exact = [exact_means(scale, n) for n in SOME_LENGTHS[1:] for scale in (0.5, 2.0, 8.0)]
    errors = [abs(means.mass - means.mean_score) for means in exact]
    for scale in (0.5, 2.0, 8.0):
        f, score = _two_scores(scale, lambda gap: math.exp(-gap * gap / 4) / math.sqrt(4 * math.pi), 16)
        errors += [abs(f - score), abs(f - exact_means(scale, 2).mass)]
    f, score = _two_scores(2.0, lambda gap: (2 - gap) / 4, 2)
    return Check(max(errors), abs(f - score))


def _two_scores(scale: float, density_of_gap: Callable[[float], float], largest: float) -> tuple[float, float]:
    """Integrate f and Σ p s of two scores with mean 0 over the gap between them, whose density is symmetric."""
    integrands = (
        lambda gap: 4 * scale * expit(scale * gap) * expit(-scale * gap) * density_of_gap(gap),
        lambda gap: 2 * (expit(scale * gap) - 0.5) * gap * density_of_gap(gap),
    )
    f, score = (quad(one, 0, largest, epsabs=1e-14, epsrel=1e-13, limit=200)[0] for one in integrands)
    return f, score


def step_6_no_optimum() -> Check:
    """E f rises with α from a quarter to 16 and stays below E max, n from 2 to 8192. Control: (6), which falls."""
    scales, violations = np.geomspace(0.25, 16, 13), []
    for n in SOME_LENGTHS:
        exact = [exact_means(scale, n).mass for scale in scales]
        violations.append([_fall([*exact, expected_maximum(n)]), _fall(annealed_mass(scales[:9], n))])
    return Check(*np.max(violations, axis=0).tolist())


def _fall(values: Sequence[float] | Floats) -> float:
    return max(0.0, -float(np.diff(values).min()))


def optimum_as_written() -> Check:
    """How far E f at twice α* exceeds E f at α*, rows of 512; at a maximum, by nothing. Control: rows of 40."""
    gains = []
    for n in (512, 40):
        optimum = float(annealed_optimum(math.log(n)))
        gains.append(max(0.0, exact_means(2 * optimum, n).mass - exact_means(optimum, n).mass))
    return Check(*gains)


def step_6_two_scales() -> Check:
    """What E f at the post's scale, less E f at 1, lacks to one half, rows of 512. Control: (6) for rows of 32."""
    exact = exact_means(2.5, 512).mass - exact_means(1.0, 512).mass
    annealed = float(annealed_mass(2.5, 32) - annealed_mass(1.0, 32))
    return Check(max(0.0, 0.5 - exact), max(0.0, 0.5 - annealed))


def step_7_freezing() -> Check:
    """E f over its limit for long rows, away from the corner, at n the fortieth power of 2. Control: no plateau."""
    n, errors = 2**40, []
    plateau = math.sqrt(2 * math.log(n))
    for share in (0.25, 0.5, 0.75, 1.5, 2.0):
        mass = exact_means(share * plateau, n).mass / plateau
        errors.append([abs(mass / min(share, 1) - 1), abs(mass / share - 1)])
    return Check(*np.max(errors, axis=0).tolist())


def step_8_common_part() -> Check:
    """E Σ p s = (1 - ρ) E f for two scores of correlation ρ, three-dimensional quadrature. Control: without 1 - ρ."""
    nodes, weights = roots_hermitenorm(60)
    z, a, b = np.meshgrid(nodes, nodes, nodes, indexing="ij")
    weight = np.einsum("i,j,k->ijk", *[weights / weights.sum()] * 3)
    errors = []
    for rho in (0.2, 0.5, 0.8):
        scores = np.sqrt(rho) * z + np.sqrt(1 - rho) * np.array([a, b])
        p = softmax(1.0 * scores, axis=0)
        score, f = (float((weight * each).sum()) for each in ((p * scores).sum(0), 1 - (p**2).sum(0)))
        errors.append([abs(score - (1 - rho) * f), abs(score - f)])
    return Check(*np.max(errors, axis=0).tolist())


def step_9_near_ties() -> Check:
    """The density of the top gap at 0 is E max, for normal scores. Control: exponential scores, where it is 1."""
    normal = [abs(gap_density_at_zero(n) / expected_maximum(n) - 1) for n in (2, 16, 512, 8192)]
    return Check(float(max(normal)), abs(1 / sum(1 / k for k in range(1, 513)) - 1))


def step_11_cosine_moment() -> Check:
    """The series beside Bessel's function to 30 digits, d from 3 to 4096. Control: two dimensions more."""
    errors = []
    for d, a in ((3, 1.0), (16, 8.0), (128, 33.0), (512, 120.0), (4096, 257.0)):
        with mp.workdps(30):
            order = mp.mpf(d) / 2 - 1
            bessel = mp.gamma(order + 1) * (2 / mp.mpf(a)) ** order * mp.besseli(order, a)
            exact = float(mp.log(bessel))
        errors.append([abs(float(cosine_log_moment(a, size)) - exact) for size in (d, d + 2)])
    return Check(*np.max(errors, axis=0).tolist())


def temperature_as_written() -> Check:
    """How far the optimum lies from 25 to 35, for 10,575 classes and d = 512. Control: d = 768 and 64 texts."""
    return Check(*(_outside(cosine_optimum(n, d), 25, 35) for n, d in ((10_575, 512), (64, 768))))


def step_11_temperature() -> Check:
    """At d = 128 it lies there for n from 700 to 20,000. Control: rows of 40."""
    inside = [_outside(cosine_optimum(n, 128), 25, 35) for n in (700, 2000, 20_000)]
    return Check(max(inside), _outside(cosine_optimum(40, 128), 25, 35))


def _outside(value: float, low: float, high: float) -> float:
    return max(0.0, low - value, value - high)


def step_12_power() -> Check:
    """At d = 128 c sqrt(log n) fits the cosine optima better than c log n does. Control: d = 8."""
    return Check(*(max(0.0, _misfit(d, 0.5) - _misfit(d, 1.0)) for d in (128, 8)))


def _misfit(d: int, power: float) -> float:
    x, optima = np.log(POST_LENGTHS) ** power, _cosine_optima(d)
    return float(np.sqrt(np.mean((optima - _constant(x, optima) * x) ** 2)))


def step_13_cosine_stein() -> Check:
    """Both sides for two cosines in 3 to 64 dimensions, by quadrature. Control: without the weight of s."""
    errors = []
    for d in (3, 16, 64):
        nodes, weights = roots_gegenbauer(100, d / 2 - 1)
        scores = np.array(np.meshgrid(nodes, nodes, indexing="ij"))
        weight = np.outer(weights, weights) / weights.sum() ** 2
        for scale in (1.0, math.sqrt(d)):
            p = softmax(scale * scores, axis=0)
            right = (d - 1) * float((weight * (p * scores).sum(0)).sum())
            lefts = [scale * float((weight * (each * p * (1 - p)).sum(0)).sum()) for each in (1 - scores**2, 1.0)]
            errors.append([abs(left / right - 1) for left in lefts])
    return Check(*np.max(errors, axis=0).tolist())


def entropy_as_written() -> Check:
    """The slope of the entropy on log n at α*, which should hardly differ from 0. Control: at α = 1."""
    return Check(
        abs(entropy_slope(lambda n: float(annealed_optimum(math.log(n))), LENGTHS)),
        abs(entropy_slope(lambda _n: 1.0, LENGTHS)),
    )


def step_14_slope() -> Check:
    """The slope is 1 - c²/2 for α = c sqrt(log n), n from 128 to 8192. Control: 1 - c²."""
    errors = []
    for c in (0.5, 0.84, 1.2):
        slope = entropy_slope(lambda n, c=c: c * math.sqrt(math.log(n)), LENGTHS)
        errors.append([abs(slope - (1 - c**2 / factor)) for factor in (2, 1)])
    return Check(*np.max(errors, axis=0).tolist())


def step_15_quadratic() -> Check:
    """What the entropy loses at the usual scale is a²/2d, a = sqrt(d), d = 128. Control: the linear law."""
    d = 128
    a = math.sqrt(d)
    slope = float(cosine_log_moment(a + 1e-4, d) - cosine_log_moment(a - 1e-4, d)) / 2e-4
    lost = a * slope - float(cosine_log_moment(a, d))
    return Check(abs(a * a / (2 * d) / lost - 1), abs(0.24 * a / lost - 1))


def step_15_log_law() -> Check:
    """The slope of the entropy at the wide scale in proportion to log n. Control: the narrow one."""
    return Check(*(abs(entropy_slope(lambda n, c=c: c * math.log(n) / math.log(512), LENGTHS)) for c in (2.5, 1.0)))


def step_16_rescaling() -> Check:
    """Scale α trains as scale 1 with α times the query weights, rates by α² (SGD) or α (Adam). Control: rates kept."""
    errors = []
    for optimizer, power in ((torch.optim.SGD, 2), (torch.optim.Adam, 1)):
        for scale in (2.0, 4.0):
            expected = _losses(optimizer, scale=scale)
            rescaled = [_losses(optimizer, spread=scale, rate=rate) for rate in (scale**power, 1.0)]
            errors.append([float(np.abs(losses - expected).max()) for losses in rescaled])
    return Check(*np.max(errors, axis=0).tolist())


def _losses(
    optimizer: type[torch.optim.Optimizer], *, scale: float = 1.0, spread: float = 1.0, rate: float = 1.0
) -> Floats:
    """Train a small model in float64 on random tokens; return the loss of each step."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(7, (30, 4, 9), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TinyGPT(vocabulary=7, width=8, layers=1, heads=2, context=8).double()
        model = with_blocks(model, ScaledBlock, scale=scale, spread=spread).double()
    is_adam = optimizer is torch.optim.Adam
    others, query = parameter_groups(model, 0.01 if is_adam else 0.1, rate)
    # Adam divides by its root plus eps, and the rescaled gradient is smaller by the spread.
    eps = {"eps": 1e-8}, {"eps": 1e-8 / spread}
    groups = [{**group, **(of_eps if is_adam else {})} for group, of_eps in zip((others, query), eps, strict=True)]
    steps, losses = optimizer(groups), []
    for batch in tokens:
        loss = next_token_loss(model(batch[:, :-1]), batch[:, 1:])
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    return np.array(losses)


def step_17_units() -> Check:
    """The gradient by α s, E (1 - Σ p²), only falls as α rises. Control: E f, which has the factor α."""
    scales, rises = np.geomspace(0.25, 16, 13), []
    for n in SOME_LENGTHS:
        mass = np.array([exact_means(scale, n).mass for scale in scales])
        rises.append([_fall(-mass / scales), _fall(-mass)])
    return Check(*np.max(rises, axis=0).tolist())


CHECKS = by_name(
    step_1_jacobian, step_2_annealed, step_3_closed_form, step_4_normal_fit, step_4_cosine_fit, step_5_stein,
    step_6_no_optimum, optimum_as_written, step_6_two_scales, step_7_freezing, step_8_common_part, step_9_near_ties,
    step_11_cosine_moment, temperature_as_written, step_11_temperature, step_12_power, step_13_cosine_stein,
    entropy_as_written, step_14_slope, step_15_quadratic, step_15_log_law, step_16_rescaling, step_17_units,
)  # fmt: skip

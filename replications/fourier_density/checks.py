"""The derivation as checks that run: each computes both sides of an equation, and again with one ingredient wrong."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from itertools import product
from typing import Any, cast

import numpy as np
from scipy.optimize import minimize
from scipy.stats import t as student

from paperkit.checks import Check, by_name
from replications.fourier_density import density
from replications.fourier_density.density import (
    ClippedMap,
    Complexes,
    Floats,
    FourierDensity,
    LineMap,
    TanhMap,
    correlation,
    objective,
    powers,
    roughness,
    series,
    spectral_factor,
)
from replications.fourier_density.mixture import Mixture
from replications.fourier_density.targets import targets

X = np.linspace(-1, 1, 801)[:-1]  # on which the midpoint rule is exact for series of degree below 800
MAPS = (TanhMap(1.3, 0.2), ClippedMap(2.0, -0.4, softness=0.3))


def _coefficients(seed: int = 0) -> Iterator[Complexes]:
    """Draw polynomials of degree 1 to 30."""
    rng = np.random.default_rng(seed)
    for degree in (1, 2, 5, 13, 30):
        yield rng.normal(size=degree + 1) + 1j * rng.normal(size=degree + 1)


def _lowered(b: Complexes, least: float) -> Complexes:
    """Return the series of |A|², lowered until its minimum is this share of what its mean was."""
    c = correlation(b)
    c[0] += least * c[0] - series(c, np.linspace(-1, 1, 100_000, endpoint=False)).min()
    return c


def over(cases: Callable[[], Iterable[Any]]) -> Callable[[Callable[..., Sequence[float]]], Callable[[], Check]]:
    """Make a check of a function that gives error and control error of one case: the largest of each."""

    def decorate(errors: Callable[..., Sequence[float]]) -> Callable[[], Check]:
        @wraps(errors)
        def check() -> Check:
            return Check(*np.max([errors(case) for case in cases()], axis=0).tolist())

        return check

    return decorate


@over(_coefficients)
def step_1_square(b: Complexes) -> list[float]:
    """The series of (12) is |A|², five degrees. Control: without the conjugate, c_n = sum a_k a_{k+n}."""
    square, n = abs(b @ powers(X, len(b) - 1)) ** 2, len(b)
    wrong = np.array([np.conj(b[: n - lag]) @ np.conj(b[lag:]) for lag in range(n)])
    return [abs(series(c, X) - square).max() / square.mean() for c in (correlation(b), wrong)]


def step_2_fejer_riesz() -> Check:
    """A series with minimum one thousandth of its mean is |B|², B from the zeros inside. Control: a negative one."""
    errors = []
    for b in _coefficients(1):
        c = _lowered(b, 1e-3)
        errors.append(abs(correlation(spectral_factor(c)) - c).max() / c[0].real)
    negative = np.array([1, 0.9], dtype=complex)
    return Check(max(errors), float(abs(correlation(spectral_factor(negative)) - negative).max()))


@over(lambda: _coefficients(2))
def step_2_touching_zero(b: Complexes) -> list[float]:
    """The same where the series touches zero. Control: coefficients conjugated, which turns x over."""
    c = _lowered(b, 0.0)
    found = density.from_series(c).coefficients
    return [abs(correlation(one) - c).max() / c[0].real for one in (found, np.conj(found))]


@over(_coefficients)
def step_3_real_and_normalised(b: Complexes) -> list[float]:
    """(5), (8), (13), (14): series of p by quadrature are c_n / (2 c_0). Control: c_{-n} = c_n, not its conjugate."""
    c, n = correlation(b), len(b)
    p = abs(b @ powers(X, n - 1)) ** 2 / (2 * c[0].real)
    by_quadrature = np.array([np.mean(p * np.exp(-1j * np.pi * lag * X)) for lag in range(1 - n, n)])
    whole = [np.concatenate([negative, c]) / (2 * c[0]) for negative in (np.conj(c[:0:-1]), c[:0:-1])]
    return [abs(by_quadrature - each).max() for each in whole]


def _distribution(b: Complexes) -> Floats:
    """Integrate p from -1 to each of X, by Gauss and Legendre on every cell."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half = (X[1] - X[0]) / 2
    points = X[:, None] + half * (1 + nodes)
    p = abs(b @ powers(points.ravel(), len(b) - 1)).reshape(points.shape) ** 2 / (2 * correlation(b)[0].real)
    return np.concatenate([[0], np.cumsum(half * p @ weights)])


@over(_coefficients)
def step_4_distribution(b: Complexes) -> list[float]:
    """The corrected distribution function against quadrature. Control: the factor 1/2 of (17) before the sum."""
    ends, identity = np.append(X, 1.0), cast("LineMap", lambda y: (y, np.zeros_like(y)))
    exact, ours = _distribution(b), FourierDensity(b, identity).cdf(ends)
    return [abs(ours - exact).max(), abs((ours + (ends + 1) / 2) / 2 - exact).max()]


@over(_coefficients)
def distribution_as_written(b: Complexes) -> list[float]:
    """(17) as written against quadrature on [-1, 1]. Control: its real part, which is wrong too."""
    x, c, n, exact = np.append(X, 1.0), correlation(b), np.arange(1, len(b)), _distribution(b)
    sums = (powers(x, len(n))[1:] - ((-1.0) ** n)[:, None]) / (1j * np.pi * n)[:, None]
    written = (x**2 - 1) / 2 + 0.5 * (c[1:] / c[0]) @ sums
    return [abs(written - exact).max(), abs(written.real - exact).max()]


@over(lambda: product(_coefficients(), MAPS))
def step_5_on_the_line(case: tuple[Complexes, LineMap]) -> list[float]:
    """(15) integrates to 1 with both maps, by quadrature on the line. Control: without dx/dy."""
    y = np.sinh(np.linspace(-6, 6, 40_001))
    middle, lengths = (y[1:] + y[:-1]) / 2, np.diff(y)
    logs, (_, slope) = FourierDensity(*case).log_pdf(middle), case[1](middle)
    return [abs(np.exp(log) @ lengths - 1) for log in (logs, logs - slope)]


def step_5_far_out() -> Check:
    """Far out the log-density falls by 2 / s (tanh) or 1 / softness a unit. Control: share that 1 - tanh² makes 0."""
    b, y, errors = np.array([1, 0.5j, 0.2]), np.array([1e3, 2e3, -1e3, -2e3]), []
    for line_map, rate in zip(MAPS, (2 / MAPS[0].scale, 1 / MAPS[1].softness), strict=True):
        logs = FourierDensity(b, line_map).log_pdf(y)
        errors += [abs((logs[i] - logs[i + 1]) / (1e3 * rate) - 1) for i in (0, 2)]
    return Check(max(errors), float(np.mean(1 - np.tanh(y) ** 2 == 0)))


def _slope(law: float, log_pdf: Callable[[Floats], Floats]) -> float:
    """Return what KL(t of `law` degrees, model) gains between 1e4 and 1e5, by log of the radius."""
    edges = np.exp(np.linspace(np.log(1e4), np.log(1e5), 20_001))
    y, lengths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    parts = [student.pdf(y, law) * (student.logpdf(y, law) - log_pdf(sign * y)) @ lengths for sign in (1, -1)]
    return float(sum(parts) / np.log(10))


def _mixtures() -> Iterator[Mixture]:
    rng = np.random.default_rng(3)
    for _ in range(5):
        yield Mixture(rng.dirichlet(np.ones(4)), rng.normal(size=4), rng.uniform(0.5, 2, 4))


@over(_mixtures)
def step_6_mixture_diverges(law: Mixture) -> list[float]:
    """Against t with two degrees a mixture's KL grows like log R over its largest variance. Control: three degrees."""
    return [abs(_slope(degrees, law.log_pdf) * law.variances.max() - 1) for degrees in (2, 3)]


@over(lambda: product(_coefficients(4), MAPS))
def step_6_fourier_converges(case: tuple[Complexes, LineMap]) -> list[float]:
    """That of the Fourier density does not grow. Control: against Cauchy's law, which has no mean."""
    return [abs(_slope(degrees, FourierDensity(*case).log_pdf)) for degrees in (2, 1)]


@over(_coefficients)
def step_7_penalty(b: Complexes) -> list[float]:
    """(16) and R against quadrature of |f'|² and |p'|², and R alone when b is doubled. Control: so (16)."""
    c, n = correlation(b), np.arange(len(b))
    slope = 2 * ((1j * np.pi * n * c) @ powers(X, len(b) - 1)).real
    written = 4 * np.pi**2 * np.sum(n**2 * abs(c) ** 2)
    quadrature = 2 * np.mean(slope**2)
    doubled = 4 * np.pi**2 * np.sum(n**2 * abs(correlation(2 * b)) ** 2)
    of_p = roughness(b) / (quadrature / (4 * c[0].real ** 2)) - 1
    gaps = written / quadrature - 1, of_p, roughness(2 * b) / roughness(b) - 1
    return [max(map(abs, gaps)), abs(doubled / written - 1)]


def _smoothing(gamma: float, *, normalised: bool) -> float:
    """Fit N = 13 to 2000 points of the claw under a fixed map, (16) for p or for f; return R(p)."""
    y, line_map, n = targets()["claw"].draw(2000, np.random.default_rng(0)), TanhMap(2.0), np.arange(14)
    start = density.start_of(13, line_map, 0)

    def value(free: Floats) -> tuple[float, Floats]:
        """Give the objective of the source where `normalised` is off: gamma times (16) of f, not of p."""
        loss, gradient = objective(np.append(free, line_map.parameters), y, 13, line_map, gamma if normalised else 0.0)
        if normalised:
            return loss, gradient[:-2]
        b = free[:14] + 1j * free[14:]
        c = correlation(b)
        both = np.concatenate([np.conj(c[:0:-1]), c]) * np.arange(-13, 14) ** 2
        of_b = 8 * np.pi**2 * gamma * np.convolve(both, b)[13:27]
        loss += 4 * np.pi**2 * gamma * np.sum(n**2 * abs(c) ** 2)
        return loss, gradient[:-2] + np.append(of_b.real, of_b.imag)

    options = {"maxiter": 3000, "maxfun": 6000, "ftol": 1e-12, "gtol": 1e-9, "maxcor": 50}
    found = minimize(value, start[:-2], method="L-BFGS-B", jac=True, options=options).x
    return roughness(found[:14] + 1j * found[14:])


def _missing(*, normalised: bool, gamma: float = 0.1) -> float:
    """Return by how much |log R(gamma) / R(0)| falls short of 1."""
    ratio = _smoothing(gamma, normalised=normalised) / _smoothing(0.0, normalised=True)
    return max(0.0, 1 - abs(float(np.log(ratio))))


def penalty_as_written() -> Check:
    """Fits to the claw with the penalty (16) on f, which has to smooth by a factor e. Control: ten times as much."""
    return Check(_missing(normalised=False), _missing(normalised=False, gamma=1.0))


def step_7_normalised_penalty_smooths() -> Check:
    """The penalty on p smooths by a factor e and more. Control: on f."""
    return Check(_missing(normalised=True), _missing(normalised=False))


def step_8_gradient() -> Check:
    """The gradient against differences, both maps, and orthogonal to b and i b. Control: without b / c_0."""
    rng, errors, wrong = np.random.default_rng(5), [], []
    y = rng.normal(size=200)
    for degree in (1, 5, 13):
        for line_map in MAPS:
            at = density.start_of(degree, line_map, degree) + 0.05 * rng.normal(size=2 * degree + 4)
            rest, small = (y, degree, line_map, 0.1), 1e-5
            _, gradient = objective(at, *rest)
            sides = [[objective(at + sign * step, *rest)[0] for sign in (1, -1)] for step in small * np.eye(len(at))]
            differences = np.subtract(*np.transpose(sides)) / (2 * small)
            b, of_b = (one[: degree + 1] + 1j * one[degree + 1 : 2 * degree + 2] for one in (at, gradient))
            part = np.vdot(b, of_b / 2 - b / np.sum(abs(b) ** 2))  # -1, as the gradient has no part along b
            errors += [abs(gradient - differences).max(), abs(np.vdot(b, of_b)), abs(part + 1)]
            wrong.append(abs(part))
    return Check(float(max(errors)), float(min(wrong)))


@over(lambda: [*_coefficients(), np.ones(7)])
def step_9_sampling(b: Complexes) -> list[float]:
    """|A|² <= (N + 1) c_0, equal for equal b; uniform proposals pass with chance 1 / (N + 1). Control: N c_0."""
    square, c_0 = abs(b @ powers(X, len(b) - 1)) ** 2, np.sum(abs(b) ** 2)
    passed = abs(np.mean(square / (len(b) * c_0)) - 1 / len(b))
    return [max(passed, square.max() / (len(b) * c_0) - 1), square.max() / ((len(b) - 1) * c_0) - 1]


CHECKS = by_name(
    step_1_square, step_2_fejer_riesz, step_2_touching_zero, step_3_real_and_normalised, step_4_distribution,
    distribution_as_written, step_5_on_the_line, step_5_far_out, step_6_mixture_diverges, step_6_fourier_converges,
    step_7_penalty, penalty_as_written, step_7_normalised_penalty_smooths, step_8_gradient, step_9_sampling,
)  # fmt: skip

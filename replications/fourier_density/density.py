"""A probability density on the line as the squared modulus of a trigonometric polynomial; NumPy and SciPy alone.

A(x) = sum_{k=0}^{N} b_k exp(i pi k x) on [-1, 1], p(x) = |A(x)|² / (2 sum |b_k|²); a map x(y) brings the line there,
and q(y) = p(x(y)) dx/dy. The source's a_k is the conjugate of b_k. Free real parameters: 2N, since phase and length
of b drop out, and those of the map.
"""

from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
BLOCK = 4096  # points evaluated together, so that they stay in the cache
MAX_STEPS = 3000
# Objectives are in nats of one point: ftol is relative to their value, gtol in nats for each unit of a coefficient.
LBFGS = {"maxiter": MAX_STEPS, "maxfun": 2 * MAX_STEPS, "ftol": 1e-9, "gtol": 1e-7, "maxcor": 50}


@dataclass(frozen=True)
class _Map:
    """What maps of the line onto (-1, 1) share: `offset` goes to 0; lengths are positive, in the unit of y."""

    scale: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        lengths = [length for name, length in vars(self).items() if name != "offset"]
        if not all(0 < length < np.inf for length in lengths):
            message = f"the lengths of a map are {lengths}; they must be positive and finite"
            raise ValueError(message)

    @property
    def parameters(self) -> Floats:
        """What is trained: offset and log scale."""
        return np.array([self.offset, np.log(self.scale)])

    def with_parameters(self, parameters: Floats) -> Self:
        """Return the map with other parameters."""
        return replace(self, offset=float(parameters[0]), scale=float(np.exp(parameters[1])))


@dataclass(frozen=True)
class TanhMap(_Map):
    """x = tanh((y - offset) / scale), the source's map; q has tails exp(-2|y| / scale)."""

    def __call__(self, y: Floats) -> tuple[Floats, Floats]:
        """Return x(y) and log dx/dy, without overflow for any y: log sech² z = 2 (log 2 - |z| - log1p(e^(-2|z|)))."""
        z = (y - self.offset) / self.scale
        return np.tanh(z), 2 * (np.log(2) - abs(z) - np.log1p(np.exp(-2 * abs(z)))) - np.log(self.scale)

    def inverse(self, x: Floats) -> Floats:
        """Return y(x) for x in (-1, 1)."""
        return self.offset + self.scale * np.arctanh(x)

    def derivatives(self, y: Floats) -> tuple[Floats, Floats]:
        """Return the derivatives of x and of log dx/dy by each parameter, both (parameters, points)."""
        z = (y - self.offset) / self.scale
        x, slope = np.tanh(z), 1 / np.cosh(np.minimum(abs(z), 300)) ** 2
        return np.array([-slope / self.scale, -z * slope]), np.array([2 * x / self.scale, 2 * z * x - 1])


@dataclass(frozen=True)
class ClippedMap(_Map):
    """x = softness (sp((u + scale) / softness) - sp((u - scale) / softness)) / scale - 1, u = y - offset.

    sp = log(1 + exp). Linear within `scale` of the offset, clipped softly beyond; q has tails exp(-|y| / softness).
    The softness is not trained: the likelihood alone would take it to 0.
    """

    softness: float = 1.0

    def _arguments(self, y: Floats) -> tuple[Floats, Floats, float]:
        """Return both arguments of sp, and twice scale over softness."""
        u, bend = (y - self.offset) / self.softness, self.scale / self.softness
        return u + bend, u - bend, 2 * bend

    def __call__(self, y: Floats) -> tuple[Floats, Floats]:
        """Return x(y) and log dx/dy, without overflow for any y."""
        upper, lower, width = self._arguments(y)
        x = self.softness / self.scale * (np.logaddexp(0, upper) - np.logaddexp(0, lower)) - 1
        log_slope = log_expit(upper) + log_expit(-lower) + np.log(-np.expm1(-width) / self.scale)
        return np.clip(x, -1, 1), log_slope

    def inverse(self, x: Floats) -> Floats:
        """Return y(x) for x in (-1, 1)."""
        left, right = ((1 + sign * x) * self.scale / self.softness for sign in (1, -1))
        bend = np.log(-np.expm1(-left)) - np.log(-np.expm1(-right))
        return self.offset + self.scale * x + self.softness * bend

    def derivatives(self, y: Floats) -> tuple[Floats, Floats]:
        """Return the derivatives of x and of log dx/dy by each parameter, both (parameters, points)."""
        upper, lower, width = self._arguments(y)
        first, second = expit(upper), expit(lower)
        of_x = [(second - first) / self.scale, first + second - self(y)[0] - 1]
        of_scale = width / 2 * (1 - first + second) + width / np.expm1(min(width, 700)) - 1
        return np.array(of_x), np.array([(first + second - 1) / self.softness, of_scale])


LineMap = TanhMap | ClippedMap


def powers(x: Floats, degree: int) -> Complexes:
    """Return exp(i pi k x) for k = 0 … degree: (degree + 1, points)."""
    waves = np.empty((degree + 1, len(x)), dtype=complex)
    waves[0], step = 1, np.exp(1j * np.pi * x)
    for k in range(degree):
        np.multiply(waves[k], step, out=waves[k + 1])
    return waves


def correlation(coefficients: ArrayLike) -> Complexes:
    """Return c_0 … c_N, c_n = sum_l b_{l+n} conj(b_l), (12) of the source: the series of |A|², see `series`."""
    b = np.asarray(coefficients, dtype=complex)
    return np.correlate(b, b, "full")[len(b) - 1 :]


def series(c: Complexes, x: Floats) -> Floats:
    """Return f(x) = c_0 + 2 Re sum_{n=1}^{N} c_n exp(i pi n x)."""
    return c[0].real + 2 * (c[1:] @ powers(x, len(c) - 1)[1:]).real


def roughness(coefficients: ArrayLike) -> float:
    """Return the integral of |p'|², pi² sum n² |c_n / c_0|²: (16) of the source, for the normalised density."""
    c = correlation(coefficients)
    return float(np.pi**2 * np.sum(np.arange(len(c)) ** 2 * abs(c / c[0]) ** 2))


@dataclass(frozen=True)
class FourierDensity:
    """The density q(y) = |A(x(y))|² / (2 c_0) · dx/dy.

    Attributes:
        coefficients: b_0 … b_N, complex, not all zero; length and phase do not matter.
        line_map: Map of the line onto (-1, 1).
    """

    coefficients: Complexes
    line_map: LineMap

    def log_pdf(self, y: ArrayLike) -> Floats:
        """Return log q, by Horner's rule in exp(i pi x).

        Args:
            y: Points, shape (n,).

        Returns:
            Logarithms, shape (n,); -inf at a zero of A, never NaN at a finite point.
        """
        points = np.asarray(y, dtype=float)
        logs = [self._log_pdf(points[start : start + BLOCK]) for start in range(0, len(points), BLOCK)]
        return np.concatenate(logs) if logs else np.empty(0)

    def _log_pdf(self, y: Floats) -> Floats:
        x, log_slope = self.line_map(y)
        step: Complexes = np.exp(1j * np.pi * x)
        amplitude: Complexes = np.full(len(x), self.coefficients[-1], dtype=np.complex128)
        for b in self.coefficients[-2::-1]:
            amplitude *= step
            amplitude += b
        with np.errstate(divide="ignore"):
            return np.log(amplitude.real**2 + amplitude.imag**2) - np.log(2 * self._norm) + log_slope

    @property
    def _norm(self) -> float:
        return float(np.sum(abs(self.coefficients) ** 2))

    def cdf(self, y: ArrayLike) -> Floats:
        """Return the distribution function, (17) of the source corrected.

        Args:
            y: Points, shape (n,).

        Returns:
            (x + 1) / 2 + Re sum_{n=1}^{N} c_n / c_0 · (exp(i pi n x) - (-1)^n) / (i pi n), from 0 to 1.
        """
        x, _ = self.line_map(np.asarray(y, dtype=float))
        c, n = correlation(self.coefficients), np.arange(1, len(self.coefficients))
        weights = c[1:] / (c[0] * 1j * np.pi * n)
        return (x + 1) / 2 + (weights @ powers(x, len(n))[1:] - weights @ (-1.0) ** n).real

    def sample(self, size: int, rng: np.random.Generator) -> Floats:
        """Draw exactly: uniform proposals x, accepted with chance |A|² / ((N + 1) c_0), need no distribution function.

        By Cauchy and Schwarz |A|² <= (N + 1) c_0, so that one of N + 1 proposals is accepted on average.

        Args:
            size: Number of points.
            rng: Source of randomness.

        Returns:
            Independent points, shape (size,).
        """
        drawn, number = np.empty(0), len(self.coefficients)
        while len(drawn) < size:
            x, level = rng.uniform(-1, 1, BLOCK), rng.uniform(0, number * self._norm, BLOCK)
            drawn = np.concatenate([drawn, x[abs(self.coefficients @ powers(x, number - 1)) ** 2 > level]])
        return self.line_map.inverse(drawn[:size])


def objective(
    parameters: Floats, y: Floats, degree: int, line_map: LineMap, gamma: float = 0.0
) -> tuple[float, Floats]:
    """Return -mean log q(y) + gamma R(p) and its gradient; parameters are Re b, Im b and those of the map."""
    real, imaginary, rest = np.split(parameters, [degree + 1, 2 * degree + 2])
    b, line_map, k = real + 1j * imaginary, line_map.with_parameters(rest), np.arange(degree + 1)
    x, log_slope = line_map(y)
    waves, c = powers(x, degree), correlation(b)
    amplitude = b @ waves
    c_0 = c[0].real
    rough = np.pi**2 * float(np.sum(k**2 * abs(c / c_0) ** 2))
    value = np.log(2 * c_0) - np.mean(np.log(abs(amplitude) ** 2) + log_slope) + gamma * rough
    # By conj b: the likelihood's part is -E[e^(-i pi k x) / conj A] + b / c_0, orthogonal to b and to i b.
    of_b = -np.conj(waves @ (1 / amplitude)) / len(y) + b / c_0
    both_sides = np.concatenate([np.conj(c[:0:-1]), c]) * np.arange(-degree, degree + 1) ** 2
    of_rough = np.convolve(both_sides, b)[degree : 2 * degree + 1] * np.pi**2 / c_0**2 - 2 * rough * b / c_0
    of_b = of_b + gamma * of_rough
    of_x, of_slope = line_map.derivatives(y)
    bend = 2 * ((1j * np.pi * k * b) @ waves / amplitude).real
    of_map = -(of_x @ bend + of_slope.sum(axis=1)) / len(y)
    return float(value), np.concatenate([2 * of_b.real, 2 * of_b.imag, of_map])


Law = TypeVar("Law")


class Fit(NamedTuple, Generic[Law]):
    """A fitted density, its objective, and whether the optimiser ended before its last step."""

    density: Law
    objective: float
    converged: bool


def fit(y: ArrayLike, degree: int, line_map: LineMap, *, gamma: float = 0.0, seed: int = 0) -> Fit[FourierDensity]:
    """Fit coefficients and map by L-BFGS from a random start.

    The matrix products are small: give BLAS one thread (OPENBLAS_NUM_THREADS=1), or threads wait for each other.

    Args:
        y: Data, shape (n,), finite and not all equal.
        degree: N, at least 1.
        line_map: Where the map starts.
        gamma: Weight of the roughness of p, at least 0.
        seed: Of the random start.

    Returns:
        The density, coefficients of length 1.

    Raises:
        ValueError: If y is empty, not finite or constant, or the degree is below 1.
    """
    data = np.asarray(y, dtype=float)
    if data.ndim != 1 or not data.size or not np.isfinite(data).all() or data.min() == data.max():
        message = "y must be a list of finite numbers, not all equal; remove what is missing, and jitter a constant"
        raise ValueError(message)
    if degree < 1:
        message = f"degree is {degree}; it must be at least 1"
        raise ValueError(message)
    start = start_of(degree, line_map, seed)
    found = minimize(objective, start, (data, degree, line_map, gamma), "L-BFGS-B", jac=True, options=LBFGS)
    real, imaginary, rest = np.split(found.x, [degree + 1, 2 * degree + 2])
    b = (real + 1j * imaginary) / np.linalg.norm(found.x[: 2 * degree + 2])
    return Fit(FourierDensity(b, line_map.with_parameters(rest)), float(found.fun), bool(found.nit < MAX_STEPS))


def start_of(degree: int, line_map: LineMap, seed: int) -> Floats:
    """Return a random start: the uniform density on (-1, 1), disturbed."""
    b = np.random.default_rng(seed).normal(0, 0.3 / np.sqrt(degree + 1), (2, degree + 1))
    b[0, 0] += 1
    return np.concatenate([b.ravel(), line_map.parameters])


def from_series(coefficients: ArrayLike, line_map: LineMap | None = None) -> FourierDensity:
    """Return the density of a series that is nowhere negative (Fejér and Riesz).

    Args:
        coefficients: c_0 … c_N of `series`; trailing zeros are allowed.
        line_map: Map of the density; None for tanh of scale 1.

    Returns:
        A density whose |A|² is f: exact to 1e-10 c_0 where f >= 1e-3 c_0, to 1e-3 c_0 where it touches 0.

    Raises:
        ValueError: If f is below -1e-9 c_0 somewhere.
    """
    c = np.asarray(coefficients, dtype=complex)
    f = series(c, np.linspace(-1, 1, 64 * len(c), endpoint=False))
    if not c[0].real > 0 or f.min() < -1e-9 * c[0].real:
        message = f"the series falls to {f.min():g}, with a mean of {c[0].real:g}; a density is nowhere negative"
        raise ValueError(message)
    lift = 1e-10 * c[0].real if f.min() < 1e-6 * c[0].real else 0.0
    return FourierDensity(spectral_factor(c, lift), line_map or TanhMap(1.0))


def spectral_factor(c: Complexes, lift: float = 0.0) -> Complexes:
    """Return b with |A|² = f from the N zeros of f inside the unit circle: (N + 1,).

    A zero of f on the circle is double, and no root finder separates it: `lift`, added to f, does.
    """
    degree = int(np.flatnonzero(abs(c) > 1e-14 * c[0].real)[-1])
    b = np.zeros(len(c), dtype=complex)
    b[0] = 1
    if degree:
        around = np.concatenate([c[degree:0:-1], [c[0] + lift], np.conj(c[1 : degree + 1])])
        roots = np.roots(around)
        b[: degree + 1] = np.poly(roots[np.argsort(abs(roots))[:degree]])[::-1]
    return b * np.sqrt(c[0].real) / np.linalg.norm(b)

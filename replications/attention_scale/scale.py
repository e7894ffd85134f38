"""The size of softmax's gradient for random scores: the post's approximation, the exact mean, and what they depend on.

A row has n independent scores s, standard normal or cosines of random directions in d dimensions, and weights
p = softmax(α s). The objective is f = α (1 - Σ p²). Equation numbers are those of kexue.fm/archives/9812.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr, logsumexp, softmax, wrightomega, xlogy

__all__ = [
    "Means", "annealed_mass", "annealed_optimum", "cosine_log_moment", "cosine_optimum", "entropy_slope",
    "exact_means", "expected_maximum", "gap_density_at_zero", "mean_mass", "row_statistics",
]  # fmt: skip

Floats = NDArray[np.float64]
STEP, TAIL = 0.05, 9.5  # of the quadratures: spacing in log t, and how far out a normal variable is looked at


def annealed_mass(scale: ArrayLike, n: ArrayLike) -> Floats:
    """Return α (1 - exp(α²)/n), equation (6): f with numerator and denominator of Σ p² averaged separately.

    Args:
        scale: α, any shape.
        n: Scores in a row, above 1, any shape that broadcasts.

    Returns:
        Their joint shape; -inf where exp(α²) leaves float64.

    Raises:
        ValueError: If n is not above 1.

    Example:
        >>> round(float(annealed_mass(2.0, 512)), 4)
        1.7867
    """
    scale, n = np.asarray(scale, dtype=float), np.asarray(n, dtype=float)
    _require(n > 1, "n", n, "above 1")
    with np.errstate(over="ignore"):
        return scale * (1 - np.exp(scale**2) / n)


def annealed_optimum(log_n: ArrayLike) -> Floats:
    """Return the α that maximises (6): sqrt(u - 1/2), where u e^u = n sqrt(e) / 2 (our closed form).

    Args:
        log_n: log n, above 0, any shape; n itself may be too large for a float.

    Returns:
        Same shape.

    Raises:
        ValueError: If log n is not above 0.

    Example:
        >>> round(float(annealed_optimum(np.log(256))), 4)
        1.8635
    """
    log_n = np.asarray(log_n, dtype=float)
    _require(log_n > 0, "log n", log_n, "above 0")
    # u = W(exp(z)) is Wright's omega of z = log n + 1/2 - log 2.
    return np.sqrt(wrightomega(log_n + 0.5 - np.log(2)) - 0.5)


class Means(NamedTuple):
    """Means over rows of n standard normal scores.

    Attributes:
        log_partition: E log Σ exp(α s).
        mean_score: E Σ p s, which Stein's lemma says is `mass`.
        mass: E α (1 - Σ p²).
        entropy: E of Shannon's entropy of p, in nats.
    """

    log_partition: float
    mean_score: float
    mass: float
    entropy: float


def exact_means(scale: float, n: int) -> Means:
    """Compute means over rows without sampling: two-dimensional trapezoid rules that converge exponentially.

    With y = exp(u + α s) and M(u) = E exp(-y) over one score, E log Z = ∫ exp(-e^u) - Mⁿ du,
    E Σ p s = n ∫ E[s y e^-y] Mⁿ⁻¹ du and E Σ p² = n ∫ E[y² e^-y] Mⁿ⁻¹ du, over all u.

    Args:
        scale: α, positive; time grows with α².
        n: Scores in a row, at least 2.

    Returns:
        The means, to about ten digits.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> round(exact_means(2.5, 512).mass, 4)
        2.2455
    """
    _require_row(scale, n)
    s = np.arange(-TAIL, TAIL, min(0.1, 0.25 / scale))
    density = np.exp(-(s**2) / 2) / np.exp(-(s**2) / 2).sum()
    u = np.arange(-TAIL * scale - 40 - np.log(n), TAIL * scale + 5, STEP)
    of_u = np.empty((4, len(u)))
    for part in np.array_split(np.arange(len(u)), 1 + len(u) * len(s) // 2_000_000):
        y = np.exp(np.minimum(u[part, None] + scale * s, 700.0))
        tail = np.exp(-y)
        of_u[:, part] = (
            -np.expm1(-y) @ density, (tail * y) @ (s * density), (tail * y * y) @ density, np.exp(-np.exp(u[part])),
        )  # fmt: skip
    missing, score, collision, start = of_u
    with np.errstate(divide="ignore"):
        power = np.exp((n - 1) * np.log1p(-np.minimum(missing, 1)))
    log_partition = STEP * (start - power * (1 - missing)).sum()
    mean_score = n * STEP * (score * power).sum()
    mass = scale * (1 - n * STEP * (collision * power).sum())
    return Means(*map(float, (log_partition, mean_score, mass, log_partition - scale * mean_score)))


def row_statistics(scores: ArrayLike, scale: float) -> dict[str, Floats]:
    """Compute what the post and its neighbours ask of rows of scores.

    Args:
        scores: Shape (..., n), finite.
        scale: α.

    Returns:
        Each of shape (...): "mass" f, "mean_score" Σ p s, "variance" of s under p, "entropy" in nats, and "renyi",
        -log Σ p².

    Raises:
        ValueError: If n is below 2, or the scale not positive and finite.
    """
    s = np.asarray(scores, dtype=float)
    _require_row(scale, s.shape[-1])
    p = softmax(scale * s, axis=-1)
    top = p.argmax(-1)[..., None]
    rest = p.copy()
    np.put_along_axis(rest, top, 0, axis=-1)
    lost = rest.sum(-1)
    # 1 - Σ p² = 2 r - r² - Σ' p² with r the weight of all but the largest: nothing cancels where r is small.
    mean = (p * s).sum(-1)
    return {
        "mass": scale * (2 * lost - lost**2 - (rest**2).sum(-1)),
        "mean_score": mean,
        "variance": (p * (s - mean[..., None]) ** 2).sum(-1),
        "entropy": -xlogy(p, p).sum(-1),
        "renyi": -np.log((p**2).sum(-1)),
    }


def mean_mass(
    scale: float, n: int, rows: int, rng: np.random.Generator, *, control_variate: bool = True
) -> tuple[float, float]:
    """Estimate E f for standard normal scores by sampling, for laws or questions that `exact_means` cannot answer.

    Σ p s has the same mean as f (Stein's lemma), so f + β (Σ p s - f) has it for every β; the β of least variance is
    estimated. At large α, where rare near-ties carry f, this has far less variance.

    Args:
        scale: α, positive.
        n: Scores in a row, at least 2.
        rows: Rows drawn, at least 2.
        rng: Draws them.
        control_variate: False averages f alone.

    Returns:
        Estimate and standard error.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> estimate, error = mean_mass(8.0, 16, 4000, np.random.default_rng(0))
        >>> abs(estimate - exact_means(8.0, 16).mass) < 4 * error
        True
    """
    _require(np.asarray(rows >= 2), "rows", rows, "at least 2")
    found = row_statistics(rng.standard_normal((rows, n)), scale)
    values, difference = found["mass"], found["mean_score"] - found["mass"]
    if control_variate:
        values = values - np.cov(values, difference)[0, 1] / difference.var(ddof=1) * difference
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(rows))


def expected_maximum(n: int) -> float:
    """Return E of the largest of n standard normal scores: the limit of E f for α to infinity."""
    x, density = _largest(n, 1)
    return float((x * density).sum())


def gap_density_at_zero(n: int) -> float:
    """Return the density at 0 of the gap between the two largest of n standard normal scores: n(n-1) ∫ φ² Φⁿ⁻²."""
    x, density = _largest(n, 2)
    return float((n - 1) * density @ np.exp(-(x**2) / 2)) / np.sqrt(2 * np.pi)


def cosine_log_moment(a: ArrayLike, d: int) -> Floats:
    """Return log E e^(a s) for the density (7) of a cosine in d dimensions, ∝ (1 - s²)^((d-3)/2).

    Summed as the series Σ (a²/4)^k / (k! (d/2)_k), which is Γ(d/2) (2/a)^ν I_ν(a) with ν = d/2 - 1: its terms are
    positive, and in logarithms nothing overflows where Bessel functions do.

    Args:
        a: Any shape, up to some thousands in size; time grows with it.
        d: Dimension, at least 3.

    Returns:
        Same shape.

    Raises:
        ValueError: If d is below 3, or a is not finite.

    Example:
        >>> round(float(cosine_log_moment(2.0, 3)), 6), round(float(np.log(np.sinh(2) / 2)), 6)
        (0.59522, 0.59522)
    """
    a = np.abs(np.asarray(a, dtype=float))
    _require(np.isfinite(a), "a", a, "finite")
    _require(np.asarray(d >= 3), "d", d, "at least 3")
    k = np.arange(1, 60 + int(np.max(a, initial=0)))
    with np.errstate(divide="ignore"):
        log_terms = np.cumsum(2 * np.log(a / 2)[..., None] - np.log(k * (d / 2 + k - 1)), axis=-1)
    return np.logaddexp(0, logsumexp(log_terms, axis=-1))


def cosine_optimum(n: float, d: int) -> float:
    """Return the α that maximises α (1 - E e^(2αs) / (n (E e^(αs))²)) for cosines, by a bounded search.

    Args:
        n: Scores in a row, above 1.
        d: Dimension, at least 3.

    Returns:
        The factor of a cosine; the optimum is below that of normal scores of the same variance by little, times √d.

    Raises:
        ValueError: If n or d is out of range.

    Example:
        >>> round(cosine_optimum(32, 32), 2)
        8.85
    """
    _require(np.asarray(n > 1), "n", n, "above 1")
    bound = 10 * np.sqrt(d * max(1.0, np.log(n)))

    def minus_mass(a: float) -> float:
        one, two = cosine_log_moment([a, 2 * a], d)
        return a * np.expm1(min(two - 2 * one - np.log(n), 600.0))

    found: Any = minimize_scalar(minus_mass, bounds=(0, bound), method="bounded", options={"xatol": 1e-9})
    return float(found.x)


def entropy_slope(scale_law: Callable[[float], float], lengths: Sequence[int]) -> float:
    """Fit the slope of the exact mean entropy on log n by least squares.

    Args:
        scale_law: From n to α.
        lengths: Numbers of scores, at least two different ones.

    Returns:
        Slope: 1 where attention spreads over all scores alike, 0 where the entropy does not depend on n.

    Raises:
        ValueError: If there are less than two lengths.
    """
    _require(np.asarray(len(set(lengths)) > 1), "lengths", lengths, "at least two different numbers")
    entropies = [exact_means(scale_law(n), n).entropy for n in lengths]
    return float(np.polyfit(np.log(lengths), entropies, 1)[0])


def _largest(n: int, below: int) -> tuple[Floats, Floats]:
    """Return places x and weights n φ(x) Φ(x)^(n - below) dx."""
    _require(np.asarray(n >= 2), "n", n, "at least 2")
    x = np.arange(-12, 12, 0.01)
    return x, n * 0.01 * np.exp(-(x**2) / 2 + (n - below) * log_ndtr(x)) / np.sqrt(2 * np.pi)


def _require_row(scale: float, n: int) -> None:
    _require(np.asarray(0 < scale < np.inf), "scale", scale, "positive and finite")
    _require(np.asarray(n >= 2), "n", n, "at least 2")


def _require(fits: NDArray[np.bool_], name: str, value: object, allowed: str) -> None:
    if not fits.all():
        message = f"{name} is {value}; it must be {allowed}"
        raise ValueError(message)

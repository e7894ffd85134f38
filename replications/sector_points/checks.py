"""The law of the longest gap, step by step as checks that run; those of tolerance 0 compute with rational numbers.

Steps 1 to 4 and 8 are the post's; 5 to 7 and 9 are ours. In each control one ingredient is wrong on purpose.
"""

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.polynomial.polynomial import polyadd, polyint, polymul, polyval
from scipy.interpolate import BSpline
from scipy.optimize import brentq, linprog

from paperkit.checks import Check, by_name
from replications.sector_points.sector import probability_gaps_below

__all__ = ["CHECKS"]


def exact_sum(n: int, x: float | Fraction, *, cut: bool = True, power: int | None = None) -> Fraction:
    """Sum (10) exactly; `cut` keeps the terms with 1 - kx > 0 only, `power` replaces n - 1."""
    top, bottom = x.as_integer_ratio()
    power = n - 1 if power is None else power
    kept = range(1, min(n, (bottom - 1) // top) + 1) if cut else range(1, n + 1)
    return Fraction(sum((-1) ** (k - 1) * math.comb(n, k) * (bottom - k * top) ** power for k in kept), bottom**power)


def textbook_sum(n: int, x: float) -> float:
    """Sum (10) in float64 as it is written, from left to right."""
    return float(sum((-1) ** (k - 1) * math.comb(n, k) * (1 - k * x) ** (n - 1) for k in range(1, n + 1) if k * x < 1))


def survival(thresholds: list[Fraction]) -> Fraction:
    """P(each gap exceeds its threshold), integrated over the n - 1 sorted points, one after another."""
    *first, last = thresholds
    placed, lowest = [Fraction(1)], Fraction(0)  # polynomial density of the latest point, and its lowest position
    for number, threshold in enumerate(first):
        if number:
            area, placed = polyint(placed), [Fraction(0)]
            for coefficient in area[::-1]:  # Horner's rule: area(v - threshold)
                placed = polyadd(polymul(placed, [-threshold, Fraction(1)]), [coefficient])
            placed = polyadd(placed, [-polyval(lowest, area)])
        lowest += threshold
    area = polyint(placed)
    return math.factorial(len(first)) * (polyval(1 - last, area) - polyval(lowest, area))


def step_1_spacings() -> Check:
    """(1)-(7): P(X_1 > c_1, …, X_n > c_n) = (1 - Σc)^(n-1), thresholds 0 included; control: exponent n - 2."""
    rng = np.random.default_rng(1)
    cases = [[Fraction(int(c), 4 * 9 * n) for c in rng.integers(0, 36, n)] for n in range(2, 9) for _ in range(8)]
    cases += [[*case[: len(case) // 2], *[Fraction(0)] * (len(case) - len(case) // 2)] for case in cases]
    found = [(survival(case), 1 - sum(case), len(case)) for case in cases]
    return Check(
        float(max(abs(p - rest ** (n - 1)) for p, rest, n in found)),
        float(max(abs(p - rest ** (n - 2)) for p, rest, n in found)),
    )


@cache
def positive_recursion(m: int, t: Fraction) -> Fraction:
    """R_m(t) of `probability_gaps_below`, exactly."""
    if t <= 1 or t >= m:
        return Fraction(int(t <= 1))
    return positive_recursion(m - 1, t) + (m - t) / t * (1 - 1 / t) ** (m - 2) * positive_recursion(m - 1, t - 1)


def step_2_longest_gap() -> Check:
    """(10) from inclusion and exclusion equals 1 - R_n(1/x); control: without the condition 1 - kx > 0."""
    rng = np.random.default_rng(2)
    cases = [(int(n), Fraction(int(a), 997)) for n, a in rng.integers([2, 1], [26, 998], (300, 2))]
    cases += [(n, Fraction(1, k)) for n in range(2, 13) for k in range(1, n + 2)]
    found = [(1 - positive_recursion(n, 1 / x), n, x) for n, x in cases]
    return Check(
        float(max(abs(p - exact_sum(n, x)) for p, n, x in found)),
        float(max(abs(p - exact_sum(n, x, cut=False)) for p, n, x in found)),
    )


def step_3_half_circle() -> Check:
    """(11) and the ducks: 1/2 for four, 5/16 for five in a half circle; control: exponent n."""
    cases = [(n, Fraction(a, 48)) for n in range(2, 16) for a in range(1, 25)]
    ducks = [abs(exact_sum(n, Fraction(1, 2)) - p) for n, p in ((4, Fraction(1, 2)), (5, Fraction(5, 16)))]
    errors = [max(abs(exact_sum(n, 1 - s) - n * s**e) for n, s in cases for e in (n - 1 + off,)) for off in (0, 1)]
    return Check(float(max(errors[0], *ducks)), float(errors[1]))


def step_4_sum_is_one() -> Check:
    """(13) for n up to 30 and x far outside [0, 1/n] too; control: exponent n, which gives 1 - n! x^n."""
    cases = [(n, Fraction(x)) for n in range(1, 31) for x in ("-2", "1/7", "7/3", "100")]
    errors = [max(abs(exact_sum(n, x, cut=False, power=n - 1 + off) - 1) for n, x in cases) for off in (0, 1)]
    return Check(float(errors[0]), float(errors[1]))


def step_5_b_spline() -> Check:
    """Q against (n-1)! x^(n-1) B_n(1/x) of SciPy, relative, n up to 40; control: the B-spline of one degree more."""

    def largest(extra: int) -> float:
        cases = [(n, t) for n in range(2, 41) for t in np.linspace(1.01, n - 0.5, 7)]
        splines = [(n, t, BSpline.basis_element(np.arange(n + extra + 1))(t)) for n, t in cases]
        scaled = [(math.factorial(n - 1) * t ** (1 - n) * b, probability_gaps_below(n, 1 / t)) for n, t, b in splines]
        return float(max(abs(b / q - 1) for b, q in scaled))

    return Check(largest(0), largest(1))


def stable_error() -> Check:
    """Relative error of Q > 1e-300, n up to 1000, against exact sums; control: 1 minus the sum (10) in float64."""
    # At kinks 1/k and the floats beside them, at the pigeon-hole 1/n and at roots of Q = 1e-280 to 1 - 1e-9.
    errors, controls = [], []
    for n in (2, 3, 10, 100, 300, 1000):
        kinks = [1 / k for k in {2, 3, n // 2 + 1}]
        places = [np.nextafter(x, side) for x in kinks for side in (0, x, 1)] + [np.nextafter(1 / n, 1), 1.001 / n]
        places += [_root(n, level) for level in (1e-280, 1e-100, 1e-9, 0.5, 1 - 1e-9)]
        for x in map(float, places):
            q = 1 - exact_sum(n, x)
            if q > Fraction(1, 10**300):
                errors.append(float(abs(Fraction(probability_gaps_below(n, x)) / q - 1)))
                controls.append(float(abs((1 - Fraction(textbook_sum(n, x))) / q - 1)) if n == 100 else 0.0)
    return Check(max(errors), max(controls))


def _root(n: int, level: float) -> float:
    """The x at which Q is this level."""
    return brentq(lambda x: probability_gaps_below(n, x) ** (1 / n) - level ** (1 / n), 0.5 / n, 1, xtol=1e-14)


def step_6_error_bound() -> Check:
    """Error of (10) in float64 over u Σ t_k [(n-1)(1+2kx)/(1-kx) + n + 3], t_k = |terms|; control: over u Σ t_k."""
    ratios, controls = [], []
    for n, y in itertools.product((5, 30, 100, 300), np.geomspace(1.002, 20, 60)):
        x = min(float(y) / n, 0.999)
        k = np.arange(1, min(n, math.ceil(1 / x) - 1) + 1)
        terms = np.array([math.comb(n, int(j)) for j in k], dtype=float) * (1 - k * x) ** (n - 1)
        error = textbook_error(n, x) / 2.0**-53
        ratios.append(error / (terms @ ((n - 1) * (1 + 2 * k * x) / (1 - k * x) + n + 3)))
        controls.append(error / terms.sum())
    return Check(float(max(ratios)), float(max(controls)))


def textbook_error(n: int, x: float) -> float:
    """Error of the float64 sum."""
    return abs(float(Fraction(textbook_sum(n, x)) - exact_sum(n, x)))


def naive_error_where_it_matters() -> Check:
    """Error of the float64 sum in P at and above the root of Q = 1e-9, n up to 300; control: of Q = 1e-80."""

    def worst(level: float) -> float:
        roots = [(n, _root(n, level)) for n in (10, 30, 100, 200, 300)]
        places = [(n, x * (1 + i * step)) for n, x in roots for step in (1e-9, 1e-2) for i in range(60)]
        return max(textbook_error(n, x) for n, x in places if x < 1)

    return Check(worst(1e-9), worst(1e-80))


def step_7_moments() -> Check:
    """∫ P dx = H_n/n and ∫ 2x P dx, the terms integrated up to their ends 1/k; control: H_(n-1)."""

    def error(n: int, upto: int) -> Fraction:
        sums = [sum(Fraction(1, k**power) for k in range(1, upto + 1)) for power in (1, 2)]
        signed = [(k, (-1) ** (k - 1) * math.comb(n, k)) for k in range(1, n + 1)]
        mean = sum(Fraction(c, k * n) for k, c in signed)
        square = sum(Fraction(2 * c, k * k * n * (n + 1)) for k, c in signed)
        return max(abs(mean - sums[0] / n), abs(square - (sums[1] + sums[0] ** 2) / (n * (n + 1))))

    return Check(float(max(error(n, n) for n in range(1, 41))), float(max(error(n, n - 1) for n in range(1, 41))))


def step_8_wendel() -> Check:
    """Of the 2^n sign flips of points in general position Wendel's share lies in a half-space; control: d + 1."""
    # A linear program looks for a direction w with (flipped p) · w >= 1 for all points.
    errors = []
    for n, d in ((5, 2), (6, 3), (7, 4), (7, 2)):
        points = np.random.default_rng(n * d).standard_normal((n, d))
        flips = (np.array(signs)[:, None] * points for signs in itertools.product((-1, 1), repeat=n))
        inside = sum(linprog(np.zeros(d), -each, -np.ones(n), bounds=(None, None)).status == 0 for each in flips)
        errors.append([abs(inside - 2 * sum(math.comb(n - 1, k) for k in range(upto))) for upto in (d, d + 1)])
    return Check(*np.max(errors, axis=0).astype(float).tolist())


def step_9_gumbel() -> Check:
    """Error of 1 - exp(-λ) at n = 10^8, relative to the largest leading term; control: as if gaps were independent."""
    # Independent gaps of survival (1 - x)^(n-1) only correct the rate: (λy - λy²/2) e^(-λ) / n.
    n, found = 10**8, []
    with localcontext() as context:
        context.prec = 60
        for rate in map(Decimal, ("0.1", "0.38", "1", "2.6", "5")):
            y = (n / rate).ln()
            p = sum((-1) ** (k - 1) * math.comb(n, k) * (1 - k * y / n) ** (n - 1) for k in range(1, 80))
            linear, quadratic = rate * y - rate * y**2 / 2, rate**2 * (y**2 + 1) / 2
            error = n * (p - 1 + (-rate).exp()) * rate.exp()
            found.append([float(error - linear - quadratic), float(error - linear), float(linear + quadratic)])
    wrong, independent, size = np.abs(found).max(axis=0)
    return Check(float(wrong / size), float(independent / size))


CHECKS = by_name(
    step_1_spacings, step_2_longest_gap, step_3_half_circle, step_4_sum_is_one, step_5_b_spline, stable_error,
    step_6_error_bound, naive_error_where_it_matters, step_7_moments, step_8_wendel, step_9_gumbel,
)  # fmt: skip

"""What the axioms of sparsity say, derived and executed; large values are dense, letters as in `indices`.

D1 Robin Hood: a transfer to a smaller entry, by less than half the gap, makes denser. D2: scale does not matter.
D3 Rising tide: adding a constant makes denser. D4: clones do not matter. P1 Bill Gates: an entry that is large enough
makes sparser as it grows. P2 Babies: appending 0 makes sparser. An index is perfect if it meets them wherever at least
two entries are not zero and not all are equal.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from mpmath import mp, mpf
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import entr, softmax

from paperkit.checks import Check, by_name
from replications.sparsity.indices import gini_density, hill_density, lorenz, power_mean_ratio, transfer_slope

__all__ = ["CHECKS"]

Floats = NDArray[np.float64]
EXPONENTS = ((0.3, 0.6), (0.5, 1.0), (0.5, 2.0), (1.0, 1.5), (1.0, 2.0), (2.0, 4.0))
TOLERANCE = 1e-12


def _vectors(count: int, seed: int = 0) -> Iterator[Floats]:
    """Draw vectors of 3 to 8 entries, every other one with a zero."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        x = rng.lognormal(size=rng.integers(3, 9))
        x[0] *= number % 2
        yield x


def _entropy(x: Floats) -> float:
    return float(entr(x / x.sum()).sum())


def _gini_and_median(x: Floats) -> float:
    """1 - Gini plus L(1/2): perfect as every strictly decreasing function of the Lorenz order is."""
    return float(gini_density(x) + np.interp(0.5, np.linspace(0, 1, len(x) + 1), lorenz(x)))


# Each index, and the axioms that it fails.
INDICES: dict[str, tuple[Callable[[Floats], float], set[str]]] = {
    "mean / max (1)": (partial(power_mean_ratio, q=1, p=np.inf), {"D1"}),
    "l1 / (n l2) (4)": (lambda x: x.sum() / (len(x) * np.linalg.norm(x)), {"D4"}),
    "l1 / l2": (lambda x: x.sum() / np.linalg.norm(x), {"D4", "P2"}),
    "S*(1, 2)": (power_mean_ratio, set()),
    "S*(1, 1.5)": (partial(power_mean_ratio, q=1, p=1.5), set()),
    "S*(.5, 1)": (partial(power_mean_ratio, q=0.5, p=1), set()),
    "S*(.5, 2)": (partial(power_mean_ratio, q=0.5, p=2), set()),
    "S*(2, 4)": (partial(power_mean_ratio, q=2, p=4), {"D1"}),
    "S*(.3, .6)": (partial(power_mean_ratio, q=0.3, p=0.6), {"D1"}),
    "1 - Gini": (gini_density, set()),
    "exp(H) / n": (hill_density, set()),
    "exp(H_2) / n": (partial(hill_density, order=2), set()),
    "1 - Gini + L(1/2)": (_gini_and_median, set()),
    "H": (_entropy, {"D4", "P2"}),
    "H / log n": (lambda x: _entropy(x) / np.log(len(x)), {"D4"}),
}
# Transfers of the first entry to the second that lower S*(2, 4) and S*(.3, .6); random vectors do not find the latter.
WITNESSES = (([0.3, 0.1, 1.0], 0.05), ([1.0, 0.9, *[0.0154] * 15], 0.02))


def _axioms(x: Floats, rng: np.random.Generator) -> Iterator[tuple[str, Floats, int]]:
    """Change x as each axiom says; 1: denser, -1: sparser, 0: neither."""
    poor, rich = np.argsort(x)[np.sort(rng.choice(len(x), 2, replace=False))]
    yield "D1", _transfer(x, rich, poor, rng.uniform(0.1, 0.45) * (x[rich] - x[poor])), 1
    yield "D2", rng.lognormal() * x, 0
    yield "D3", x + rng.lognormal(), 1
    yield "D4", np.tile(x, rng.integers(2, 4)), 0
    yield "P2", np.append(x, 0), -1


def _transfer(x: Floats, giver: int, receiver: int, amount: Any) -> Floats:
    moved = x.copy()
    moved[[giver, receiver]] += -amount, amount
    return moved


def _failed(index: Callable[[Floats], float]) -> set[str]:
    """Find the axioms that an index fails on random vectors and on the witnesses."""
    rng, failed = np.random.default_rng(1), set()
    for x in _vectors(300):
        cases = [(axiom, x, after, sign) for axiom, after, sign in _axioms(x, rng)]
        rich = x + np.eye(len(x))[0] * 2 * x.max()
        cases.append(("P1", rich, rich + np.eye(len(x))[0] * x.max(), -1))
        failed |= {axiom for axiom, before, after, sign in cases if _change(index, before, after) != sign}
    witnesses = [(np.array(x), _transfer(np.array(x), 0, 1, amount)) for x, amount in WITNESSES]
    return failed | ({"D1"} if any(_change(index, *pair) != 1 for pair in witnesses) else set())


def _change(index: Callable[[Floats], float], before: Floats, after: Floats) -> int:
    """Say whether the index rises (1), falls (-1) or stays (0)."""
    ratio = index(after) / index(before) - 1
    return 0 if abs(ratio) <= TOLERANCE else int(np.sign(ratio))


def table_of_axioms() -> Check:
    """Hold the axioms that each index fails against the table. Control: the post's table, every p > q perfect."""
    found = {name: _failed(index) for name, (index, _) in INDICES.items()}
    as_post = {name: set() if name.startswith("S*") else failed for name, (_, failed) in INDICES.items()}
    return Check(
        float(sum(len(found[name] ^ failed) for name, (_, failed) in INDICES.items())),
        float(sum(len(found[name] ^ failed) for name, failed in as_post.items())),
    )


def gini_alone() -> Check:
    """Count perfect indices beside Gini. Control: those that are perfect but for D1."""
    failed = [_failed(index) for name, (index, _) in INDICES.items() if name != "1 - Gini"]
    return Check(float(sum(not axioms for axioms in failed)), float(sum(axioms <= {"D1"} for axioms in failed)))


def step_1_scale_and_clones() -> Check:
    """S* ignores scale and clones. Control: l1 / l2, without n."""

    def error(index: Callable[[Floats], Any]) -> float:
        changes = [index(after) / index(x) - 1 for x in _vectors(200) for after in (3.7 * x, np.tile(x, 3))]
        return float(np.abs(changes).max())

    return Check(max(error(partial(power_mean_ratio, q=q, p=p)) for q, p in EXPONENTS), error(INDICES["l1 / l2"][0]))


def _has_witness(q: int, p: int) -> bool:
    """Say whether a transfer lowers S*(q/5, p/5): one of random vectors, or the one that the derivation constructs."""
    for x in (np.exp(x) for x in _vectors(20, seed=100 * q + p)):
        giver, receiver = x.max(), x.min()
        if transfer_slope(giver, receiver, ((x ** (q / 5)).sum(), (x ** (p / 5)).sum()), q / 5, p / 5) < 0:
            return True
    with mp.workdps(40):
        low, high, half = mpf(q) / 5, mpf(p) / 5, mpf(1) / 2
        size = mpf(10) ** (6 / abs(high - low))
        # One huge entry, then 10^6 / size^-p tiny ones, beside 1 and 1/2.
        for extra, count in ((size, 1), (1 / size, 10**6 * size**high)):
            sums = (1 + half**low + count * extra**low, 1 + half**high + count * extra**high)
            if transfer_slope(mpf(1), half, sums, low, high) < 0:
                return True
    return False


CELLS = list(combinations(range(1, 21), 2))


def step_2_robin_hood() -> Check:
    """D1 holds exactly for q <= 1 <= p: share of the 190 cells q < p that deviate. Control: the post's p > q > 0."""
    witnessed = [_has_witness(q, p) for q, p in CELLS]
    expected = [not q <= 5 <= p for q, p in CELLS]
    return Check(float(np.mean([a != b for a, b in zip(witnessed, expected, strict=True)])), float(np.mean(witnessed)))


def robin_hood_as_written() -> Check:
    """Share of the cells q < p in which a transfer lowers S*. Control: the exponents exchanged."""
    shares = [np.mean([_has_witness(q, p) for q, p in cells]) for cells in (CELLS, [(p, q) for q, p in CELLS])]
    return Check(*map(float, shares))


def step_3_rising_tide() -> Check:
    """The derivative of log S* along x + alpha is above 0 for all q < p. Control: the exponents exchanged."""

    def slope(y: Floats, q: float, p: float) -> float:
        return (y ** (q - 1)).sum() / (y**q).sum() - (y ** (p - 1)).sum() / (y**p).sum()

    slopes = np.array([
        [slope(x + 0.1, *pair), slope(x + 0.1, *pair[::-1])] for x in _vectors(200) for pair in EXPONENTS
    ])
    return Check(*np.maximum(0, -slopes).max(0).tolist())


def step_4_bill_gates() -> Check:
    """S* falls in x_i exactly beyond (A_p / A_q)^(1 / (p - q)), by bisection. Control: A_q / A_p."""
    errors = []
    for x in _vectors(50):
        for q, p in EXPONENTS:
            sums = (x**q).sum(), (x**p).sum()

            def slope(log_t: float, q: float = q, p: float = p, sums: tuple[float, float] = sums) -> float:
                return 1 / (1 + sums[0] * np.exp(-q * log_t)) - 1 / (1 + sums[1] * np.exp(-p * log_t))

            root, expected = brentq(slope, -6, 8, xtol=1e-14), np.log(sums[1] / sums[0]) / (p - q)
            errors.append((abs(root - expected), abs(root + expected)))
    return Check(*np.max(errors, axis=0).tolist())


def step_5_zeros_and_range() -> Check:
    """A zero multiplies S* by (n / (n + 1))^(1/q - 1/p); its ends are attained; (17). Control: n / (n + 1)."""
    errors = []
    for x in _vectors(100):
        n, y = len(x), x + 0.1
        cosine = (np.sign(y) @ y) / (np.sqrt(n) * np.linalg.norm(y))
        for q, p in EXPONENTS:
            factor = power_mean_ratio(np.append(x, 0), q, p) / power_mean_ratio(x, q, p)
            ends = (
                power_mean_ratio(np.eye(n)[0], q, p) * n ** (1 / q - 1 / p) - 1,
                power_mean_ratio(np.ones(n), q, p) - 1,
            )
            right = abs(factor - (n / (n + 1)) ** (1 / q - 1 / p))
            errors.append((max(right, *map(abs, ends), abs(cosine - power_mean_ratio(y))), abs(factor - n / (n + 1))))
    return Check(*np.max(errors, axis=0).tolist())


def _denser(x: NDArray[np.int64], y: NDArray[np.int64]) -> bool:
    """Say whether the Lorenz curve of x lies above that of y, in whole numbers: nothing is rounded."""
    curves = [np.cumsum(np.sort(np.tile(a, len(b)))) * (b.sum() * len(a)) for a, b in ((x, y), (y, x))]
    return bool((curves[0] >= curves[1]).all() and (curves[0] > curves[1]).any())


def step_6_lorenz_order() -> Check:
    """D1, D3, P1 and P2 each move the Lorenz curve one way, 2000 integer vectors. Control: P1 from any entry on."""
    rng, wrong, wrong_control = np.random.default_rng(2), 0, 0
    for _ in range(2000):
        x = rng.integers(0, 20, rng.integers(3, 7))
        x[:2] = rng.permutation(20)[:2] + 1  # two that differ and are not zero
        unit = np.eye(len(x), dtype=int)[rng.integers(len(x))]
        rich, step = x + (x.max() + 1) * unit, rng.integers(1, 9)
        moved = 4 * x + (x.max() - x.min()) * (np.arange(len(x)) == x.argmin()).astype(int)
        moved[x.argmax()] -= x.max() - x.min()
        orders = (moved, 4 * x), (x + step, x), (rich, rich + step * unit), (x, np.append(x, 0))
        wrong += sum(not _denser(*pair) for pair in orders)
        wrong_control += not _denser(x, x + step * unit)
    return Check(float(wrong), float(wrong_control))


def step_6_without_continuity() -> Check:
    """1 - Gini - 5 [equal but for zeros, at most a third] has D1, D2, D4, and not P2. Control: D1 at half the gap."""

    def index(x: NDArray[np.int64]) -> float:
        equal, zeros = len(set(x[x > 0].tolist())) == 1, (x == 0).mean()
        return float(gini_density(x)) - 5 * (equal and 0 < zeros <= 1 / 3)

    rng, wrong, half = np.random.default_rng(3), 0, 0
    for _ in range(500):
        x = 4 * rng.integers(0, 3, rng.integers(3, 7))
        x[0] = 4
        wrong += sum(abs(index(y) - index(x)) > TOLERANCE for y in (3 * x, np.tile(x, 2)))
        for i, j in np.argwhere(x[:, None] > x[None, :]):
            for amount in range(1, (x[i] - x[j]) // 2 + 1):
                moved = x.copy()
                moved[[i, j]] += -amount, amount
                violated = index(moved) <= index(x) + TOLERANCE
                wrong, half = (wrong, half + violated) if 2 * amount == x[i] - x[j] else (wrong + violated, half)
    fails_babies = index(np.array([1, 1, 0, 0])) > index(np.array([1, 1, 0]))
    return Check(float(wrong + (not fails_babies)), float(wrong + half))


def step_7_one_hot() -> Check:
    """Every perfect index stays where the only entry grows. Control: a second entry."""
    perfect = [index for index, failed in INDICES.values() if not failed]
    errors = [
        [abs(index(np.array([t, other, 0, 0])) / index(np.array([1.0, other, 0, 0])) - 1) for other in (0, 0.5)]
        for index in perfect
        for t in (0.1, 10, 1e6)
    ]
    return Check(*np.max(errors, axis=0).tolist())


def _signal_to_noise(x: Floats) -> tuple[float, float]:
    """Return the errors of (18) with its root and without."""
    ratio, index = 1 / (1 + x.var() / x.mean() ** 2), float(power_mean_ratio(x))
    return float(abs(np.sqrt(ratio) - index)), float(abs(ratio - index))


def step_8_signal_to_noise() -> Check:
    """S*(1, 2) = (1 + Var / E^2)^(-1/2). Control: without the root."""
    return Check(*np.max([_signal_to_noise(x) for x in _vectors(200)], axis=0).tolist())


def signal_to_noise_as_written() -> Check:
    """(18) as written at (1, 2, 3, 4, 7). Control: the same at (1, 0)."""
    return Check(*(_signal_to_noise(np.array(x))[1] for x in ([1.0, 2, 3, 4, 7], [1.0, 0])))


def step_9_renyi() -> Check:
    """S*(1, p) = (exp(H_p) / n)^((p - 1) / p). Control: the exponent inverted."""
    errors = [
        [abs(power_mean_ratio(x, 1, p) - hill_density(x, p) ** exponent) for exponent in ((p - 1) / p, p / (p - 1))]
        for x in _vectors(200)
        for p in (1.5, 2.0, 3.0)
    ]
    return Check(*np.max(errors, axis=0).tolist())


def step_9_orders_disagree() -> Check:
    """(.5, 4 x .125, 0) is sparser than (.55, 5 x .09) by H_1, denser by H_2. Control: beside the uniform law."""
    first = np.array([0.5, *[0.125] * 4, 0])

    def error(second: Floats) -> float:
        gaps = hill_density(first) - hill_density(second), hill_density(second, 2) - hill_density(first, 2)
        return float(sum(max(0, gap) for gap in gaps))

    return Check(error(np.array([0.55, *[0.09] * 5])), error(np.ones(6)))


def step_10_crossing() -> Check:
    """1 - Gini + c L(u), perfect, ranks crossing vectors oppositely at two u. Control: vectors that do not cross."""
    rng, agree = np.random.default_rng(4), ([], [])
    for _ in range(400):
        x, y = rng.lognormal(size=(2, 12))
        for number, pair in enumerate(((x, y), (x, x + rng.lognormal()))):
            difference = lorenz(pair[0]) - lorenz(pair[1])
            depth = min(difference.max(), -difference.min())
            if depth > 1e-3 or number:
                gap = gini_density(pair[0]) - gini_density(pair[1])
                first, second = (
                    gap + 2 / max(depth, 1e-3) * difference[u] for u in (difference.argmax(), difference.argmin())
                )
                agree[number].append(not first > 0 > second)
    return Check(*(float(np.mean(one)) for one in agree))


def step_10_temperature() -> Check:
    """softmax(beta z) becomes sparser as beta grows, along the Lorenz order. Control: two different z."""
    rng, crossed = np.random.default_rng(5), []
    for _ in range(200):
        z, other = rng.normal(size=(2, 12))
        low, high = np.sort(rng.uniform(0, 5, 2))
        pairs = ((low * z, high * z), (low * z, low * other))
        gaps = [lorenz(softmax(a)) - lorenz(softmax(b)) for a, b in pairs]
        crossed.append([max(0, -gaps[0].min()), max(0, min(gaps[1].max(), -gaps[1].min()))])
    return Check(*np.max(crossed, axis=0).tolist())


CHECKS = by_name(
    step_1_scale_and_clones, step_2_robin_hood, robin_hood_as_written, step_3_rising_tide, step_4_bill_gates,
    step_5_zeros_and_range, table_of_axioms, gini_alone, step_6_lorenz_order, step_6_without_continuity,
    step_7_one_hot, step_8_signal_to_noise, signal_to_noise_as_written, step_9_renyi, step_9_orders_disagree,
    step_10_crossing, step_10_temperature,
)  # fmt: skip

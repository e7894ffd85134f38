"""Which orders come out of each way to shuffle: every outcome is counted, with rational numbers."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations, pairwise, permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from scipy.stats import binom

from paperkit.checks import Check, by_name
from replications.bounded_shuffle import shuffle

Order = tuple[int, ...]
Law = dict[Order, Fraction]  # probability of each order, or of each sequence of labels
SHORT = [(2, 2, 1), (3, 2), (3, 3, 1), (2, 2, 2, 1)]  # chunks with a short last one


def equal_chances(outcomes: Sequence[Order]) -> Law:
    """Count outcomes that are equally likely."""
    return {order: Fraction(count, len(outcomes)) for order, count in Counter(outcomes).items()}


def of_rounds(sizes: Sequence[int], there: Sequence[Sequence[int]] | None = None) -> Law:
    """Law of the labels, when round k takes one line of each chunk of `there[k]` in random order."""
    there = there or [[c for c, size in enumerate(sizes) if size > k] for k in range(max(sizes))]
    return equal_chances([sum(orders, ()) for orders in product(*map(permutations, there))])


def with_rejection(sizes: Sequence[int], rate: Callable[[int, int], Fraction]) -> Law:
    """Law of the labels, when the last chunk takes part at a rate, given its lines left and those of another."""
    longest, law = max(sizes), Counter()

    def go_on(rounds: list[list[int]], left: int, probability: Fraction) -> None:
        k = len(rounds)
        if k == longest:  # what was always rejected comes at the end
            for labels, share in of_rounds(sizes, rounds).items():
                law[labels + (len(sizes) - 1,) * left] += probability * share
            return
        accepted, others = rate(left, longest - k) if left else Fraction(0), [*range(len(sizes) - 1)]
        for takes_part, p in ((1, accepted), (0, 1 - accepted)):
            if p:
                go_on([*rounds, others + [len(sizes) - 1] * takes_part], left - takes_part, probability * p)

    go_on([], sizes[-1], Fraction(1))
    return dict(law)


def one_by_one(sizes: Sequence[int], weight: Callable[[int], int]) -> Law:
    """Law of the labels, when each line comes from a chunk with probability in proportion to a weight of its rest."""
    law: Counter[Order] = Counter()

    def go_on(labels: Order, left: tuple[int, ...], probability: Fraction) -> None:
        weights = [weight(rest) for rest in left]
        if not sum(weights):
            law[labels] += probability
        for c, share in enumerate(weights):
            if share:
                rest = tuple(each - (other == c) for other, each in enumerate(left))
                go_on((*labels, c), rest, probability * Fraction(share, sum(weights)))

    go_on((), tuple(sizes), Fraction(1))
    return dict(law)


def orders(sizes: Sequence[int], labels: Law) -> Law:
    """Law of the orders of lines: each chunk in random order, and labels that say which chunk comes next."""
    chunks = [range(sum(sizes[:c]), sum(sizes[: c + 1])) for c in range(len(sizes))]
    law: Counter[Order] = Counter()
    ways = math.prod(map(math.factorial, sizes))
    for shuffled in product(*map(permutations, chunks)):
        for sequence, probability in labels.items():
            rest = [iter(chunk) for chunk in shuffled]
            law[tuple(next(rest[c]) for c in sequence)] += probability / ways
    return dict(law)


def distance(law: Law, lines: int) -> Fraction:
    """Total variation distance from the uniform order of so many lines."""
    even = Fraction(1, math.factorial(lines))
    return sum((abs(p - even) for p in law.values()), (math.factorial(lines) - len(law)) * even) / 2


def mean(labels: Law, value: Callable[[Order], Fraction | int]) -> Fraction:
    """Average over the law."""
    return sum((p * value(sequence) for sequence, p in labels.items()), Fraction(0))


def uniform_labels(sizes: Sequence[int]) -> Law:
    """Law of the labels of a uniform order."""
    labels = [c for c, size in enumerate(sizes) for _ in range(size)]
    return equal_chances(list(permutations(labels)))


def step_1_reachable_orders() -> Check:
    """Orders that occur, and their distance from uniform, against the formula. Control: as if all orders occurred."""
    errors, controls = [], []
    for m, n in ((2, 2), (2, 3), (3, 2)):
        law, ways = orders([n] * m, of_rounds([n] * m)), math.factorial(m) ** n * math.factorial(n) ** m
        found = distance(law, m * n)
        expected = 1 - Fraction(ways, math.factorial(m * n))
        errors += [abs(found - expected), abs(len(law) - ways), len({*law.values()}) - 1]
        controls.append(found)
    errors.append(math.factorial(4) ** 8 % 5 == 0 or math.factorial(16) % 5)  # four chunks of four, as a reader noted
    return Check(float(max(errors)), float(min(controls)))


def step_2_first_two() -> Check:
    """The first two lines are never of one chunk. Control: the uniform order, where they may be."""
    sizes = [(2, 2), (3, 3), (2, 2, 2)]
    same = lambda labels: mean(labels, lambda c: c[0] == c[1])  # noqa: E731
    uniform = [same(uniform_labels(each)) for each in sizes]
    off = [abs(p - Fraction(each[0] - 1, sum(each) - 1)) for p, each in zip(uniform, sizes, strict=True)]
    return Check(float(max(*(same(of_rounds(each)) for each in sizes), *off)), float(min(uniform)))


def step_2_neighbours() -> Check:
    """Neighbours of one chunk, over those in uniform order, minus 1/m. Control: the uniform order."""
    pairs = lambda labels: mean(labels, lambda c: sum(a == b for a, b in pairwise(c)))  # noqa: E731
    cases = [((n,) * m, m) for m, n in ((2, 2), (2, 3), (3, 2), (2, 4))]
    uniform = [pairs(uniform_labels(sizes)) for sizes, _ in cases]
    ratios = [pairs(of_rounds(sizes)) / fair - Fraction(1, m) for (sizes, m), fair in zip(cases, uniform, strict=True)]
    return Check(float(max(map(abs, ratios))), float(min(1 - Fraction(1, m) for _, m in cases)))


def place_of_last(sizes: Sequence[int]) -> Callable[[Order], Fraction]:
    """Mean place of the last chunk's lines."""
    return lambda labels: Fraction(sum(i for i, c in enumerate(labels) if c == len(sizes) - 1), sizes[-1])


def step_3_short_chunk() -> Check:
    """Mean place of the lines of a short last chunk against (rm - 1)/2. Control: against that of all lines."""
    places = [(mean(of_rounds(sizes), place_of_last(sizes)), sizes) for sizes in SHORT]
    errors = [abs(place - Fraction(sizes[-1] * len(sizes) - 1, 2)) for place, sizes in places]
    return Check(float(max(errors)), float(min(Fraction(sum(sizes) - 1, 2) - place for place, sizes in places)))


def step_4_rejection() -> Check:
    """With rejection the mean place is fair, the rounds a uniform subset. Control: a constant rate."""
    errors, controls = [], []
    for sizes in SHORT:
        n, r, fair = sizes[0], sizes[-1], Fraction(sum(sizes) - 1, 2)
        labels = with_rejection(sizes, Fraction)
        errors.append(abs(mean(labels, place_of_last(sizes)) - fair))
        even: Counter[Order] = Counter()
        for of in combinations(range(n), r):
            there = [[*range(len(sizes) - 1)] + [len(sizes) - 1] * (k in of) for k in range(n)]
            even.update({c: p / math.comb(n, r) for c, p in of_rounds(sizes, there).items()})
        errors += [abs(even[c] - p) for c, p in labels.items()]
        constant = with_rejection(sizes, lambda left, others, rate=Fraction(r, n): rate)  # noqa: ARG005
        controls.append(abs(mean(constant, place_of_last(sizes)) - fair))
    # Fair on average and not everywhere: of sizes 2, 2, 1 the last line is in the middle twice as often.
    places = with_rejection((2, 2, 1), Fraction)
    sixths = [6 * mean(places, lambda c, i=i: c[i] == 2) for i in range(5)]
    return Check(float(max(*errors, *map(abs, np.subtract(sixths, [1, 1, 2, 1, 1])))), float(min(controls)))


def step_5_proportional() -> Check:
    """Distance from uniform of draws in proportion to the lines left. Control: any chunk that is left, alike."""
    laws = [[orders(s, one_by_one(s, weight)) for s in ((2, 2, 1), (3, 2))] for weight in (int, bool)]
    found = [[distance(law, 5) for law in of_weight] for of_weight in laws]
    return Check(float(max(found[0])), float(min(found[1])))


def of_buckets(lines: int, buckets: Law) -> Law:
    """Law of the orders, when line i goes to bucket labels[i], and each bucket is put in random order."""
    law: Counter[Order] = Counter()
    for labels, probability in buckets.items():
        members = [[i for i in range(lines) if labels[i] == b] for b in sorted({*labels})]
        ways = list(product(*map(permutations, members)))
        for way in ways:
            law[sum(way, ())] += probability / len(ways)
    return dict(law)


def step_6_scatter() -> Check:
    """Distance from uniform of scattering, also to buckets of equal size. Control: a fair coin until one is full."""
    free = [of_buckets(n, equal_chances(list(product(range(b), repeat=n)))) for n, b in ((4, 2), (4, 3))]
    equal = of_buckets(4, one_by_one((2, 2), int))
    coin = of_buckets(4, one_by_one((2, 2), bool))
    return Check(float(max(distance(law, 4) for law in (*free, equal))), float(distance(coin, 4)))


def step_7_ties() -> Check:
    """Distance from uniform when keys have one bit and tied lines are shuffled. Control: they stay as they came."""
    keys = list(product(range(2), repeat=4))
    stable = equal_chances([tuple(sorted(range(4), key=lambda i, k=k: k[i])) for k in keys])
    return Check(float(distance(of_buckets(4, equal_chances(keys)), 4)), float(distance(stable, 4)))


def step_7_birthday() -> Check:
    """By how much the chance of a tie exceeds N²/2^65, up to 2^33 lines. Control: N²/2^66."""
    # 1 - Π(1 - i/K) lies above s - s²/2 and below s, for s = N(N - 1)/2K.
    sums = [(Fraction(n * (n - 1), 2**65), Fraction(n * n, 2**65)) for n in (2, 10**6, 10**9, 2**33)]
    excesses = [s - b for s, b in sums], [s - s * s / 2 - b / 2 for s, b in sums]
    return Check(*(float(max(0, *found)) for found in excesses))


def step_8_load() -> Check:
    """Excess of the chance of too large a bucket over its bound, by binomial tails. Control: without the last term."""
    errors, controls = [], []
    for mu, buckets, delta in product((1, 30, 1000, 100_000), (2, 32, 512), (1e-3, 1e-9)):
        log = math.log(buckets / delta)
        most = mu + math.sqrt(2 * mu * log)
        tails = [buckets * binom.sf(most + last, mu * buckets, 1 / buckets) for last in (log, 0)]
        errors.append(max(0.0, tails[0] / delta - 1))
        controls.append(tails[1] / delta - 1)
    return Check(float(max(errors)), float(max(controls)))


def step_9_batches() -> Check:
    """Variance of the mean of b lines against both formulas. Control: (N - b)/((N - 1) b) for the rounds, too."""
    errors, controls = [], []
    for m, n, b in ((3, 2, 2), (4, 2, 2), (4, 2, 3), (4, 2, 4)):
        centred = [Fraction(2 * c - m + 1, 2) for c in range(m)]
        variance, total = sum(v * v for v in centred) / m, m * n
        square = lambda c, b=b, centred=centred: (sum(centred[i] for i in c[:b]) / b) ** 2  # noqa: E731
        of_post, uniform = mean(of_rounds([n] * m), square), variance * Fraction(total - b, (total - 1) * b)
        of_lines = list(permutations([v for v in centred for _ in range(n)], b))
        drawn = sum((sum(some) / b) ** 2 for some in of_lines) / len(of_lines)
        errors += [abs(of_post - variance * Fraction(m - b, (m - 1) * b)), abs(drawn - uniform)]
        controls.append(abs(of_post - uniform))
    return Check(float(max(errors)), float(min(controls)))


def shuffled(seed: int, memory: int) -> str:
    """Shuffle one file of odd lines, with few buckets, so that they are split again; return a hash of the output."""
    with TemporaryDirectory() as folder, patch.multiple(shuffle, LEAST_MEMORY=1, MAX_BUCKETS=4):
        source = Path(folder, "lines")
        source.write_bytes(b"\n".join(b"%d\r\xff\0" % i * (i % 7) for i in range(3000)))
        shuffle.shuffle_lines([source], source, seed=seed, memory=memory)
        return hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest()


def same_bytes() -> Check:
    """Outputs that differ from the first, with memory for all lines or some tens of them. Control: another seed."""
    found = {shuffled(1, memory) for memory in (1 << 30, 1 << 18, 1 << 15, 1 << 13)}
    return Check(float(len(found) - 1), float(shuffled(2, 1 << 30) not in found))


def same_bytes_with_ties() -> Check:
    """The same with keys of eight bits, so that each is shared by some lines. Control: another seed."""
    draw = shuffle._draw
    with patch.object(shuffle, "_draw", lambda keys, count: draw(keys, count) & np.uint64(255 << 56)):
        return same_bytes()


CHECKS = by_name(
    step_1_reachable_orders, step_2_first_two, step_2_neighbours, step_3_short_chunk, step_4_rejection,
    step_5_proportional, step_6_scatter, step_7_ties, step_7_birthday, step_8_load, step_9_batches, same_bytes,
    same_bytes_with_ties,
)  # fmt: skip

"""The derivation, executed: Viterbi, the three published rules, the exact law, and what libraries draw instead.

Random lattices come from random vocabularies over three letters and texts of 4 to 9 letters; all laws are enumerated.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from math import ceil, e

import numpy as np
from scipy.integrate import dblquad
from scipy.special import exp1, logsumexp, softmax

from paperkit.checks import Check, by_name
from replications.token_sampling.lattice import Vocabulary, moments, segment
from replications.token_sampling.laws import (
    Lattice,
    Law,
    Path,
    backward_law,
    gibbs,
    lattice_of,
    law,
    log_partitions,
    paths,
    powered_prefixes,
    sigmoid_rule,
    total_variation,
)  # fmt: skip

ALPHA = 0.7
Case = tuple[bytes, dict[bytes, float]]

WATCHING = dict.fromkeys([b"w", b"atching", b"wat", b"ching", b"watch", b"ing"], 0.0)
UNEQUAL = WATCHING | {b"atching": float(np.log(0.4)), b"wat": float(np.log(0.3)), b"watch": float(np.log(0.3))}
FLAT = dict.fromkeys([b"a", b"b", b"c", b"ab", b"bc"], 0.0)
DEEP = {b"a": -1.0, b"b": -2.0, b"c": -0.5, b"ab": -2.5, b"bc": -1.7}


def _cases(count: int = 20, *, whole: bool = False) -> Iterator[Case]:
    """Draw texts with vocabularies; the three letters are always pieces. Whole: scores of -1, -2 or -3, with ties."""
    rng = np.random.default_rng(0)
    for number in range(count):
        letters = rng.integers(97, 100, 4 + number % 6).astype(np.uint8).tobytes()
        words = {bytes([letter]) for letter in b"abc"} | {
            letters[i:j] for i in range(len(letters)) for j in range(i + 2, len(letters) + 1) if rng.random() < 0.6
        }
        scores = rng.integers(-3, 0, len(words)) if whole else -rng.gamma(2, 2, len(words))
        yield letters, dict(zip(sorted(words), scores.astype(float).tolist(), strict=True))


def _lattices(count: int = 20) -> list[Lattice]:
    return [lattice_of(*case) for case in _cases(count)]


def _largest(pairs: Iterator[tuple[float, float]]) -> Check:
    return Check(*np.max(list(pairs), axis=0).astype(float).tolist())


def _greedy(text: bytes, scores: dict[bytes, float]) -> float:
    at, total = 0, 0.0
    while at < len(text):
        end = max(j for j in range(at + 1, len(text) + 1) if text[at:j] in scores)
        at, total = end, total + scores[text[at:end]]
    return total


def step_1_viterbi() -> Check:
    """Viterbi's score and the score of its path are the largest enumerated one. Control: greedy longest match."""

    def errors() -> Iterator[tuple[float, float]]:
        for text, scores in _cases():
            found, best = segment(text, Vocabulary(scores)), max(paths(lattice_of(text, scores)).values())
            pieces = [text[i:j] for i, j in pairwise([0, *found.ends])]
            attained = sum(scores[piece] for piece in pieces)
            yield max(abs(found.score - best), abs(attained - best)), abs(_greedy(text, scores) - best)

    return _largest(errors())


def step_2_edge_count() -> Check:
    """The count where all substrings up to m are pieces, and the bound where not. Control: the bound l m."""

    def errors() -> Iterator[tuple[float, float]]:
        for (text, scores), m in product(_cases(), (2, 3, 4)):
            size, bound = len(text), len(text) * m - m * (m - 1) // 2
            spans = [text[i:j] for i in range(size) for j in range(i + 1, min(i + m, size) + 1)]
            above = max(0, sum(span in scores for span in spans) - bound)
            yield max(abs(len(spans) - bound), above), abs(len(spans) - size * m)

    return _largest(errors())


def step_3_two_way() -> Check:
    """With two arrivals the sigmoid rule is the softmax. Control: three arrivals."""
    scores = np.random.default_rng(1).normal(size=(50, 3))
    errors = [
        [np.abs(sigmoid_rule(ALPHA, [], x) - softmax(ALPHA * x)).max() for x in (row[:2], row)] for row in scores
    ]
    return Check(*np.max(errors, axis=0).tolist())


def step_4_dilution() -> Check:
    """Two to eight equal arrivals: the last has 1/2, each one before half of the next. Control: 1/k each."""
    errors = []
    for k in range(2, 9):
        found, halves = sigmoid_rule(ALPHA, [], np.zeros(k)), 0.5 ** np.minimum(np.arange(k, 0, -1), k - 1)
        errors.append((np.abs(found - halves).max(), np.abs(found - 1 / k).max()))
    return Check(*np.max(errors, axis=0).tolist())


def watching_order() -> Check:
    """Longest first, watch|ing has 1/2 and the others 1/4. Control: the reader's example, where w|atching has 1/2."""
    found, ends = law("sigmoid", lattice_of(b"watching", WATCHING), 1.0), ((1, 8), (3, 8), (5, 8))
    laws = [dict(zip(ends, shares, strict=True)) for shares in ((0.25, 0.25, 0.5), (0.5, 0.25, 0.25))]
    return Check(*(total_variation(found, expected) for expected in laws))


def step_5_reservoir() -> Check:
    """Accepting w_i with probability w_i / (w_1 + ... + w_i) gives w_i / sum w. Control: against the held w alone."""
    errors = []
    for weights in np.random.default_rng(2).gamma(1, size=(50, 5)):
        accept = weights / np.cumsum(weights)
        held = accept * np.append(np.cumprod((1 - accept)[:0:-1])[::-1], 1.0)
        against_held = sigmoid_rule(1.0, [], np.log(weights))
        errors.append([np.abs(one - weights / weights.sum()).max() for one in (held, against_held)])
    return Check(*np.max(errors, axis=0).tolist())


def held_scores() -> Check:
    """A reservoir over held scores: 1/4, 1/4, 1/2 on abc, and right on watching. Control: a third each on abc."""
    found, flat = law("reservoir_of_scores", lattice_of(b"abc", FLAT), 1.0), lattice_of(b"watching", UNEQUAL)
    expected: Law = {(1, 2, 3): 0.25, (2, 3): 0.25, (1, 3): 0.5}
    blind = total_variation(law("reservoir_of_scores", flat, 1.0), gibbs(paths(flat), 1.0))
    return Check(max(total_variation(found, expected), blind), total_variation(found, dict.fromkeys(expected, 1 / 3)))


def step_6_partition() -> Check:
    """The recursion of Z, in logarithms, against the sum over all paths. Control: alpha multiplies the prefix too."""

    def errors() -> Iterator[tuple[float, float]]:
        for lattice in _lattices():
            expected = logsumexp(ALPHA * np.array(list(paths(lattice).values())))
            yield tuple(abs(sums(lattice, ALPHA)[-1] - expected) for sums in (log_partitions, powered_prefixes))

    return _largest(errors())


def step_7_telescoping() -> Check:
    """The product of Z(i) exp(alpha s) / Z(j) along each path. Control: exp(alpha best(i)) in place of Z(i)."""

    def errors() -> Iterator[tuple[float, float]]:
        for lattice in _lattices():
            log_z = log_partitions(lattice, ALPHA)
            best = [ALPHA * max(paths(lattice[: end + 1]).values(), default=0) for end in range(len(lattice))]
            edges = [{i: s for i, s in arrivals} for arrivals in lattice]
            for path, score in paths(lattice).items():
                steps = list(pairwise((0, *path)))
                sums = [sum(f[i] + ALPHA * edges[j][i] - log_z[j] for i, j in steps) for f in (log_z, best)]
                yield tuple(abs(one - (ALPHA * score - log_z[-1])) for one in sums)

    return _largest(errors())


def step_8_pointer_law() -> Check:
    """The one-sweep law, all joint states followed, is exp(alpha S) / Z. Control: the reservoir over held scores."""

    def errors() -> Iterator[tuple[float, float]]:
        for lattice in _lattices():
            target = gibbs(paths(lattice), ALPHA)
            laws = (law(name, lattice, ALPHA) for name in ("perfect", "reservoir_of_scores"))
            yield tuple(total_variation(one, target) for one in laws)

    return _largest(errors())


def step_9_prefixes() -> Check:
    """All pointers: each prefix holds an exact sample. Control: the last two prefixes taken as independent."""

    def errors() -> Iterator[tuple[float, float]]:
        for lattice in [one for one in _lattices() if len(one) < 8]:
            log_z = log_partitions(lattice, ALPHA)
            ends = [end for end, arrivals in enumerate(lattice) if arrivals]
            held, joint = {end: defaultdict(float) for end in ends}, defaultdict(float)
            for pointers in product(*(lattice[end] for end in ends)):
                routes: dict[int, tuple[int, ...]] = {0: ()}
                chance = 1.0
                for end, (i, s) in zip(ends, pointers, strict=True):
                    routes[end] = (*routes[i], end)
                    chance *= np.exp(log_z[i] + ALPHA * s - log_z[end])
                for end in ends:
                    held[end][routes[end]] += chance
                joint[routes[ends[-2]], routes[ends[-1]]] += chance
            pairs = product(held[ends[-2]].items(), held[ends[-1]].items())
            apart = sum(abs(joint[a, b] - p * q) for (a, p), (b, q) in pairs) / 2
            exact = [total_variation(held[end], gibbs(paths(lattice[: end + 1]), ALPHA)) for end in ends]
            yield max(exact), apart

    return _largest(errors())


def step_10_mirror() -> Check:
    """B from right to left, draws from left to right: the same law, B(0) = Z(l). Control: B one position off."""

    def errors() -> Iterator[tuple[float, float]]:
        for text, scores in _cases():
            lattice, size = lattice_of(text, scores), len(text)
            mirrored: Lattice = [[] for _ in lattice]
            for end, arrivals in enumerate(lattice):
                for i, s in arrivals:
                    mirrored[size - i].append((size - end, s))
            log_b = log_partitions(mirrored, ALPHA)
            target = gibbs(paths(mirrored), ALPHA)
            laws = [backward_law(mirrored, one, ALPHA) for one in (log_b, np.append(log_b[1:], 0.0))]
            ends = abs(log_b[-1] - log_partitions(lattice, ALPHA)[-1])
            kernel = abs(moments(text, Vocabulary(scores), ALPHA).log_partition - log_b[-1])
            back = {tuple(sorted(size - at for at in (0, *path[:-1]))): p for path, p in laws[0].items()}
            exact = total_variation(back, gibbs(paths(lattice), ALPHA))
            yield max(exact, ends, kernel), total_variation(laws[1], target)

    return _largest(errors())


def step_11_moments() -> Check:
    """E S, E K, entropy of one sweep; derivatives of log Z by a complex step. Control: the best path's S and K."""

    def errors() -> Iterator[tuple[float, float]]:
        for text, scores in _cases():
            lattice = lattice_of(text, scores)
            all_paths = paths(lattice)
            s, k, p = np.array([(s, len(path), p) for (path, s), p in zip(
                all_paths.items(), gibbs(all_paths, ALPHA).values(), strict=True)]).T  # fmt: skip
            found, best = moments(text, Vocabulary(scores), ALPHA), segment(text, Vocabulary(scores))
            z, weighted = np.zeros((2, len(lattice)), dtype=complex)
            z[0] = 1
            for end, arrivals in enumerate(lattice):
                for i, score in arrivals:
                    edge = np.exp((ALPHA + 1e-20j) * score)
                    z[end] += z[i] * edge
                    weighted[end] += (weighted[i] + score * z[i]) * edge
            first, second = np.log(z[-1]).imag / 1e-20, (weighted[-1] / z[-1]).imag / 1e-20
            mean, entropy = p @ s, -(p * np.log(p)).sum()
            right = (found.mean_score - mean, found.mean_tokens - p @ k, found.entropy - entropy, first - mean)
            variance = second / (p @ s**2 - mean**2) - 1 if len(s) > 1 else 0.0
            yield max(map(abs, (*right, variance))), max(abs(best.score - mean), abs(len(best.ids) - p @ k))

    return _largest(errors())


def step_12_limits() -> Check:
    """Alpha 0 counts the paths, alpha 60 the best ones, and P(best) has its bound. Control: a tie taken as unique."""

    def errors() -> Iterator[tuple[float, float]]:
        for case in _cases(whole=True):
            lattice = lattice_of(*case)
            scores = np.array(list(paths(lattice).values()))
            uniform, top = log_partitions(lattice, 0.0)[-1], (scores == scores.max()).sum()
            excess = log_partitions(lattice, 60.0)[-1] - 60 * scores.max()
            yield max(abs(uniform - np.log(len(scores))), abs(excess - np.log(top))), abs(excess)
        for lattice in _lattices():
            scores = np.sort(list(paths(lattice).values()))[::-1]
            if len(scores) > 1:
                bound = 1 / (1 + (len(scores) - 1) * np.exp(-ALPHA * (scores[0] - scores[1])))
                yield max(0.0, bound - softmax(ALPHA * scores)[0]), 0.0

    return _largest(errors())


def step_13_nbest() -> Check:
    """The n best leave out exactly the mass beyond them, none when n is all. Control: the mass beyond n - 1."""

    def errors() -> Iterator[tuple[float, float]]:
        for lattice in _lattices():
            target, number = gibbs(paths(lattice), ALPHA), len(paths(lattice))
            beyond = 1 - np.cumsum([0, *sorted(target.values(), reverse=True)])
            for n in {1, 2, 3, number} & set(range(1, number + 1)):
                found = total_variation(law(f"nbest_{n}", lattice, ALPHA), target)
                yield abs(found - beyond[n]), abs(found - beyond[n - 1])

    return _largest(errors())


def step_14_powered_prefix() -> Check:
    """The law of tokenizers is the target at theta 1, and on watching at 1/2. Control: on abc at 1/2."""

    def distance(lattice: Lattice, theta: float) -> float:
        return total_variation(law("powered_prefix", lattice, theta), gibbs(paths(lattice), theta))

    right = [distance(lattice, 1.0) for lattice in _lattices()] + [distance(lattice_of(b"watching", UNEQUAL), 0.5)]
    return Check(max(right), distance(lattice_of(b"abc", DEEP), 0.5))


def step_15_gompertz() -> Check:
    """Two Gumbel numbers against one, as a double integral over exponentials: e E1(1). Control: 1/2."""
    found, _ = dblquad(lambda y, x: np.exp(-x * y - x - y), 0, 60, 0, 60, epsabs=1e-13, epsrel=1e-13)
    return Check(abs(found - float(e * exp1(1))), abs(found - 0.5))


def step_16_stable_sum() -> Check:
    """Scaled linear sums against logsumexp on 10 kB, relative. Control: the same sums without a scale underflow."""
    _, scores = max(_cases(), key=lambda case: len(case[1]))
    text = np.random.default_rng(3).integers(97, 100, 10_000).astype(np.uint8).tobytes()
    longest = max(map(len, scores))
    log_z, plain = np.full(len(text) + 1, -np.inf), np.zeros(len(text) + 1)
    log_z[0], plain[0] = 0.0, 1.0
    for end in range(1, len(text) + 1):
        starts = [i for i in range(max(0, end - longest), end) if text[i:end] in scores]
        log_z[end] = logsumexp([log_z[i] + ALPHA * scores[text[i:end]] for i in starts])
        plain[end] = sum(plain[i] * np.exp(ALPHA * scores[text[i:end]]) for i in starts)
    found = moments(text, Vocabulary(scores), ALPHA).log_partition
    errors = [one / log_z[-1] - 1 for one in (found, np.log(max(plain[-1], np.nextafter(0, 1))))]
    return Check(*np.abs(errors).tolist())


def step_17_rand() -> Check:
    """Of the R + 1 values of rand(), ceil(p R) lie below p R, never all of them. Control: the share is p."""
    errors = []
    for largest, p in product((1, 7, 255), (1e-9, 0.1, 0.5, 0.9, 1.0)):
        share = np.mean([value < p * largest for value in range(largest + 1)])
        errors.append((abs(share - ceil(p * largest) / (largest + 1)), abs(share - p)))
    return Check(*np.max(errors, axis=0).tolist())


def _lead_of_others(name: str, pick: Callable[..., Path] = max) -> float:
    """Return by how much another path can be likelier than the best one (or than the one picked), 0 if never."""
    lattices = [*_lattices(), lattice_of(b"watching", UNEQUAL)]
    leads = []
    for lattice in lattices:
        scores = paths(lattice)
        best, found = pick(scores, key=scores.__getitem__), law(name, lattice, 1.0)
        leads.append(max((p for path, p in found.items() if path != best), default=0.0) - found[best])
    return max(0.0, *leads)


def argmax_kept_by_sigmoid() -> Check:
    """Largest lead of another path over the best one under the sigmoid rule. Control: over the worst one."""
    return Check(_lead_of_others("sigmoid"), _lead_of_others("sigmoid", min))


def argmax_kept_by_perfect() -> Check:
    """Largest lead of another path over the best one under the one-sweep rule. Control: under the sigmoid rule."""
    return Check(_lead_of_others("perfect"), _lead_of_others("sigmoid"))


CHECKS = by_name(
    step_1_viterbi, step_2_edge_count, step_3_two_way, step_4_dilution, watching_order, step_5_reservoir, held_scores,
    step_6_partition, step_7_telescoping, step_8_pointer_law, step_9_prefixes, step_10_mirror, step_11_moments,
    step_12_limits, step_13_nbest, step_14_powered_prefix, step_15_gompertz, step_16_stable_sum, step_17_rand,
    argmax_kept_by_sigmoid, argmax_kept_by_perfect,
)  # fmt: skip

"""Exact laws of the published sampling rules on small lattices, by enumeration; in pure Python, and without a trie.

A lattice lists for each end the arrivals (start, score) in the order of an Aho-Corasick scan: longest piece first.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp, softmax

Lattice = list[list[tuple[int, float]]]
Path = tuple[int, ...]  # ends of the pieces
Law = dict[Path, float]
Floats = NDArray[np.float64]
# From the starts of an end's arrivals and the scores of the paths that would be held, the chance that each is held.
Rule = Callable[[list[int], Floats], Floats]


def lattice_of(text: bytes, scores: Mapping[bytes, float]) -> Lattice:
    """List the arrivals at each end of a text, those left out that lie on no whole path."""
    size = len(text)
    edges = [
        (i, j, scores[text[i:j]]) for j in range(1, size + 1) for i in range(j) if text[i:j] in scores
    ]  # by end, then longest first
    forward, backward = {0}, {size}
    for i, j, _ in edges:
        forward |= {j} if i in forward else set()
    for i, j, _ in sorted(edges, reverse=True):
        backward |= {i} if j in backward else set()
    kept = [edge for edge in edges if edge[0] in forward and edge[1] in backward]
    return [[(i, s) for i, j, s in kept if j == end] for end in range(size + 1)]


def paths(lattice: Lattice, limit: int = 100_000) -> Law:
    """Enumerate all segmentations with their scores; refuse, by their number, more than the limit."""
    counts = [1]
    for arrivals in lattice[1:]:
        counts.append(sum(counts[i] for i, _ in arrivals))
    if counts[-1] > limit:
        message = f"{counts[-1]} segmentations; at most {limit}"
        raise ValueError(message)
    at: list[Law] = [{(): 0.0}]
    for end, arrivals in enumerate(lattice[1:], 1):
        at.append({(*path, end): score + s for i, s in arrivals for path, score in at[i].items()})
    return at[-1]


def gibbs(scores: Law, alpha: float) -> Law:
    """Return the target: exp(alpha S) / Z over the paths given."""
    return dict(zip(scores, softmax(alpha * np.array(list(scores.values()))).tolist(), strict=True))


def nbest(scores: Law, alpha: float, n: int) -> Law:
    """Return the law of equation (2) of 9768: softmax over the n best."""
    return gibbs(dict(sorted(scores.items(), key=lambda item: -item[1])[:n]), alpha)


def log_partitions(lattice: Lattice, alpha: float) -> Floats:
    """Return log Z of every prefix by equation (6) of 9811, -inf where a prefix has none."""
    log_z = np.full(len(lattice), -np.inf)
    log_z[0] = 0.0
    for end, arrivals in enumerate(lattice):
        if arrivals:
            log_z[end] = logsumexp([log_z[i] + alpha * s for i, s in arrivals])
    return log_z


def powered_prefixes(lattice: Lattice, theta: float) -> Floats:
    """Return what `sample` of huggingface/tokenizers sums up: theta multiplies the prefix as well."""
    sums = np.zeros(len(lattice))
    for end, arrivals in enumerate(lattice):
        if arrivals:
            sums[end] = logsumexp([theta * (s + sums[i]) for i, s in arrivals])
    return sums


def backward_law(lattice: Lattice, forward: Floats, alpha: float) -> Law:
    """Return the law of walking back from the end, an arrival being taken with weight exp(forward[i] + alpha s)."""
    at: list[Law] = [{(): 1.0}]
    for end, arrivals in enumerate(lattice[1:], 1):
        shares = softmax([forward[i] + alpha * s for i, s in arrivals]) if arrivals else []
        steps = zip(arrivals, shares, strict=True)
        at.append({(*path, end): float(p * q) for (i, _), q in steps for path, p in at[i].items()})
    return at[-1]


def sigmoid_rule(alpha: float, _starts: list[int], scores: Floats) -> Floats:
    """9768, equation (3): an arrival replaces what is held with probability sigmoid(alpha (new - held))."""
    held = np.zeros(len(scores))
    for new, score in enumerate(scores):
        accept = expit(alpha * (score - scores[:new]))
        held[new] = 1 - (held[:new] * (1 - accept)).sum()
        held[:new] *= 1 - accept
    return held


def reservoir_of_scores_rule(alpha: float, _starts: list[int], scores: Floats) -> Floats:
    """9811, the table's third column with s_i as in its first two: a reservoir over the scores of held paths."""
    return softmax(alpha * scores)


def perfect_rule(log_z: Floats, alpha: float, edges: Mapping[int, float], starts: list[int], _: Floats) -> Floats:
    """9811, equation (7): a reservoir over log Z(i) + alpha s; what is held does not enter."""
    return softmax([log_z[i] + alpha * edges[i] for i in starts])


def pointer_law(lattice: Lattice, rule: Callable[[int], Rule], limit: int = 1_000_000) -> Law:
    """Follow all that the ends can hold at the same time, and return the law of what the last one holds.

    Args:
        lattice: Arrivals by end.
        rule: Gives the rule of an end.
        limit: Most joint states to follow.

    Returns:
        Probability by path.

    Raises:
        ValueError: If there are more states; the message has their number.
    """
    last_use = {i: end for end, arrivals in enumerate(lattice) for i, _ in arrivals}
    states: dict[tuple[tuple[int, Path, float], ...], float] = {((0, (), 0.0),): 1.0}
    for end, arrivals in enumerate(lattice):
        if not arrivals:
            continue
        grown = defaultdict(float)
        for state, probability in states.items():
            held = {at: (path, score) for at, path, score in state}
            starts = [i for i, _ in arrivals]
            scores = np.array([held[i][1] + s for i, s in arrivals])
            kept = tuple(one for one in state if last_use[one[0]] > end)
            for i, score, share in zip(starts, scores.tolist(), rule(end)(starts, scores).tolist(), strict=True):
                grown[(*kept, (end, (*held[i][0], end), score))] += probability * share
        if len(grown) > limit:
            message = f"{len(grown)} joint states at end {end}; at most {limit}"
            raise ValueError(message)
        states = grown
    return {state[-1][1]: probability for state, probability in states.items()}


def law(name: str, lattice: Lattice, alpha: float) -> Law:
    """Return the exact law of a named algorithm: sigmoid, reservoir_of_scores, perfect, powered_prefix or nbest_N."""
    if name == "perfect":
        log_z = log_partitions(lattice, alpha)
        return pointer_law(lattice, lambda end: partial(perfect_rule, log_z, alpha, dict(lattice[end])))
    if name == "powered_prefix":
        return backward_law(lattice, powered_prefixes(lattice, alpha), alpha)
    if name.startswith("nbest_"):
        return nbest(paths(lattice), alpha, int(name.removeprefix("nbest_")))
    rule = {"sigmoid": sigmoid_rule, "reservoir_of_scores": reservoir_of_scores_rule}[name]
    return pointer_law(lattice, lambda _: partial(rule, alpha))


def total_variation(first: Law, second: Law) -> float:
    """Return half the sum of absolute differences."""
    return sum(abs(first.get(path, 0.0) - second.get(path, 0.0)) for path in {**first, **second}) / 2

"""The unigram lattice of a text: its best segmentation, exact samples, moments and the n best.

An edge (i, j) exists where text[i:j] is a piece of the vocabulary, with its score s, a log probability. A segmentation
w is a path from 0 to the end, S(w) the sum of its scores, and the law to sample from is exp(alpha S(w)) / Z(alpha).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import brentq

__all__ = [
    "Moments", "Segmentation", "Vocabulary", "alpha_for_inflation", "moments", "nbest", "sample", "sample_many",
    "sample_online", "segment", "segment_many",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

# A mass outside [1 / SCALE, SCALE] is stored with a power of SCALE beside it; a weight leaves room for their product.
SCALE = 2.0**256
LARGEST_LOG_WEIGHT = 700 * np.log(2)
LARGEST_TABLE_BYTES = 2**28


class Vocabulary:
    """Pieces and their scores, as a trie.

    Args:
        scores: Score of each piece in nats, any finite number.

    Attributes:
        pieces: The pieces, sorted; an id is a place in this list.
        scores: Their scores, (V,).
        max_length: Bytes of the longest piece.

    Raises:
        TypeError: If a piece is no bytes.
        ValueError: If there is no piece, one is empty, a score is not finite, or the table of the trie (at most
            1 KiB a node) would exceed 256 MiB.

    Example:
        >>> Vocabulary({b"b": -1.0, b"ab": -1.5, b"a": -1.0}).pieces
        [b'a', b'ab', b'b']
    """

    def __init__(self, scores: Mapping[bytes, float]) -> None:
        """Build the trie."""
        if not scores:
            message = "the vocabulary is empty"
            raise ValueError(message)
        for piece, score in scores.items():
            _require_bytes(piece, "piece")
            if not piece or not np.isfinite(score):
                message = f"piece {piece!r} with score {score}: a piece has a byte at least, and a finite score"
                raise ValueError(message)
        self.pieces = sorted(scores)
        self.scores: Floats = np.array([scores[piece] for piece in self.pieces])
        self._lengths: Ints = np.array([len(piece) for piece in self.pieces], dtype=np.int32)
        self.max_length = int(self._lengths.max())
        prefixes = sorted({piece[:length] for piece in self.pieces for length in range(len(piece) + 1)})
        # One column for each byte that a piece has, and one for all others: a small table stays in the cache.
        used = sorted({byte for piece in self.pieces for byte in piece})
        columns = min(len(used) + 1, 256)
        self._column = np.full(256, columns - 1, dtype=np.uint8)
        self._column[used] = np.arange(len(used))
        if (size := 4 * len(prefixes) * columns) > LARGEST_TABLE_BYTES:
            message = f"the table of {len(prefixes)} nodes needs {size >> 20} MiB; at most 256 are allowed"
            raise ValueError(message)
        nodes = {prefix: node for node, prefix in enumerate(prefixes)}
        # 0 is the root, which is nobody's child: it says that there is no child.
        self._children: Ints = np.zeros((len(prefixes), columns), dtype=np.int32)
        for prefix, node in nodes.items():
            if prefix:
                self._children[nodes[prefix[:-1]], self._column[prefix[-1]]] = node
        self._depth: Ints = np.array([len(prefix) for prefix in prefixes], dtype=np.int32)
        self._piece_of: Ints = np.full(len(prefixes), -1, dtype=np.int32)
        self._piece_of[[nodes[piece] for piece in self.pieces]] = np.arange(len(self.pieces))
        self._score: Floats = np.where(self._piece_of < 0, -np.inf, self.scores[self._piece_of])

    def _weights(self, alpha: float) -> Floats:
        """Return exp(alpha s) by node, 0 where a node is no piece."""
        _require_alpha(alpha)
        if alpha * np.abs(self.scores).max() > LARGEST_LOG_WEIGHT:
            message = f"alpha = {alpha} makes weights that float64 cannot hold; for the limit call segment"
            raise ValueError(message)
        return np.where(self._piece_of < 0, 0.0, np.exp(alpha * self.scores)[self._piece_of])


@dataclass(frozen=True)
class Segmentation:
    """A path through the lattice.

    Attributes:
        ids: Ids of the K pieces, int32.
        ends: Where each ends, in bytes, int64.
        score: Sum of their scores in nats.
    """

    ids: Ints
    ends: NDArray[np.int64]
    score: float


@dataclass(frozen=True)
class Moments:
    """What one sweep says of the law exp(alpha S) / Z.

    Attributes:
        log_partition: log Z, nats.
        mean_score: E S, nats.
        mean_tokens: E K, pieces.
        entropy: log Z - alpha E S, nats.
    """

    log_partition: float
    mean_score: float
    mean_tokens: float
    entropy: float


def segment(text: bytes, vocabulary: Vocabulary) -> Segmentation:
    """Find the best segmentation by Viterbi's algorithm: best(j) = max over edges (i, j) of best(i) + s.

    Of equal ones it keeps the first of each end, the longest last piece, as BytePiece does.

    Args:
        text: Any bytes, also none.
        vocabulary: Pieces and scores.

    Returns:
        The segmentation.

    Raises:
        TypeError: If the text is no bytes.
        ValueError: If no segmentation exists; it names the first position that no path crosses.

    Example:
        >>> segment(b"abab", Vocabulary({b"b": -1.0, b"ab": -1.5, b"a": -1.0})).ends.tolist()
        [2, 4]
    """
    return _path(segment_many([text], vocabulary)[0], vocabulary)


def segment_many(texts: Sequence[bytes], vocabulary: Vocabulary) -> tuple[Ints, NDArray[np.int64]]:
    """Segment many texts in one call, as `segment` does; text k has ids[offsets[k]:offsets[k + 1]]."""
    return _batch(_sweep_kernel, texts, vocabulary, vocabulary._score, 1.0, None)


def sample(
    text: bytes, vocabulary: Vocabulary, alpha: float, rng: np.random.Generator, num_samples: int = 1
) -> list[Segmentation]:
    """Draw segmentations with probability exp(alpha S) / Z: filter backward, then walk forward.

    B(i) = sum over edges (i, j) of exp(alpha s) B(j), and (i, j) is taken with probability exp(alpha s) B(j) / B(i):
    one uniform number a piece (Kudo's forward filtering and backward sampling, mirrored).

    Args:
        text: Any bytes, also none.
        vocabulary: Pieces and scores.
        alpha: Inverse temperature, from 0 (uniform).
        rng: Source of uniform numbers.
        num_samples: How many walks through the one filter.

    Returns:
        Independent samples.

    Raises:
        TypeError: If the text is no bytes or rng no Generator.
        ValueError: If alpha is negative, not finite or so large that a weight leaves float64, num_samples is below 1,
            or the text has no segmentation.

    Example:
        >>> drawn = sample(b"abab", Vocabulary({b"b": 0.0, b"ab": 0.0, b"a": 0.0}), 1.0, np.random.default_rng(0), 2)
        >>> [int(one.ends[-1]) for one in drawn]
        [4, 4]
    """
    if num_samples < 1:
        message = f"num_samples = {num_samples}; at least 1"
        raise ValueError(message)
    ids, offsets = sample_many([text], vocabulary, alpha, rng, num_samples)
    return [_path(one, vocabulary) for one in np.split(ids, offsets[1:-1])]


def sample_many(
    texts: Sequence[bytes], vocabulary: Vocabulary, alpha: float, rng: np.random.Generator, num_samples: int = 1
) -> tuple[Ints, NDArray[np.int64]]:
    """Sample many texts in one call, as `sample` does; the samples of a text follow one another."""
    _require_generator(rng)
    return _batch(_sample_kernel, texts, vocabulary, vocabulary._weights(alpha), rng, repeats=num_samples)


def sample_online(
    text: bytes, vocabulary: Vocabulary, alpha: float, rng: np.random.Generator, num_samples: int = 1
) -> list[Segmentation]:
    """Draw by the rule of Su (9811, equations 6 and 7): one sweep, one uniform number an edge.

    An arrival from i at j has x = log Z(i) + alpha s; log Z(j) becomes logsumexp(log Z(j), x), and the arrival
    replaces what j holds with probability exp(x - log Z(j)).

    Args:
        text: Any bytes, also none.
        vocabulary: Pieces and scores.
        alpha: Inverse temperature, from 0.
        rng: Source of uniform numbers.
        num_samples: Number of sweeps.

    Returns:
        Independent samples.

    Raises:
        TypeError: If the text is no bytes or rng no Generator.
        ValueError: If alpha is negative or not finite, or the text has no segmentation.
    """
    _require_alpha(alpha)
    _require_generator(rng)
    arguments = vocabulary._score, float(alpha), rng
    ids, offsets = _batch(_sweep_kernel, [text], vocabulary, *arguments, repeats=num_samples)
    return [_path(one, vocabulary) for one in np.split(ids, offsets[1:-1])]


def moments(text: bytes, vocabulary: Vocabulary, alpha: float) -> Moments:
    """Compute log Z, E S, E K and the entropy in one backward sweep.

    With p(i, j) = exp(alpha s) B(j) / B(i): E K(i) = sum of p (1 + E K(j)), and E S alike.

    Args:
        text: Any bytes, also none.
        vocabulary: Pieces and scores.
        alpha: Inverse temperature, from 0.

    Returns:
        The moments.

    Raises:
        TypeError: If the text is no bytes.
        ValueError: If alpha is negative, not finite or too large, or the text has no segmentation.
    """
    weights, symbols = vocabulary._weights(alpha), _symbols([text], vocabulary)
    log_partition, mean_score, mean_tokens = _moments_kernel(symbols, vocabulary._children, weights, vocabulary._score)
    if log_partition == -np.inf:
        _refuse(text, 0, vocabulary)
    return Moments(log_partition, mean_score, mean_tokens, log_partition - alpha * mean_score)


def nbest(text: bytes, vocabulary: Vocabulary, n: int) -> list[Segmentation]:
    """Find the n best segmentations exactly, by merging the n best of every suffix.

    Args:
        text: Any bytes, also none.
        vocabulary: Pieces and scores.
        n: How many; fewer come back where fewer exist.

    Returns:
        Segmentations, the best first.

    Raises:
        TypeError: If the text is no bytes.
        ValueError: If n is below 1 or the text has no segmentation.
    """
    if n < 1:
        message = f"n = {n}; at least 1"
        raise ValueError(message)
    best, choice, rank = _nbest_kernel(_symbols([text], vocabulary), vocabulary._children, vocabulary._score, n)
    if best[0, 0] == -np.inf:
        _refuse(text, 0, vocabulary)
    found = []
    for place in np.flatnonzero(best[0] > -np.inf):
        nodes, start, at = [], 0, place
        while start < len(text):
            node = choice[start, at]
            nodes.append(node)
            start, at = start + vocabulary._depth[node], rank[start, at]
        found.append(_path(vocabulary._piece_of[nodes], vocabulary))
    return found


def alpha_for_inflation(texts: Sequence[bytes], vocabulary: Vocabulary, inflation: float) -> float:
    """Find the alpha at which samples have on average (1 + inflation) times the pieces of the best segmentations.

    E K need not fall as alpha rises, so that there may be several roots; a bracket on log alpha holds one.

    Args:
        texts: Texts to average over.
        vocabulary: Pieces and scores.
        inflation: Above 0, such as 0.1.

    Returns:
        The root between 1e-3 and 30.

    Raises:
        ValueError: If no root lies there.
    """
    wanted = (1 + inflation) * len(segment_many(texts, vocabulary)[0])

    def excess(log_alpha: float) -> float:
        return sum(moments(text, vocabulary, np.exp(log_alpha)).mean_tokens for text in texts) - wanted

    root: Any = brentq(excess, np.log(1e-3), np.log(30), xtol=1e-6)
    return float(np.exp(root))


# --- what is refused -------------------------------------------------------------------------------------------------


def _require_bytes(text: Any, name: str) -> None:
    if not isinstance(text, bytes):
        message = f"{name} {text!r:.40} is {type(text).__name__}, not bytes: encode first"
        raise TypeError(message)


def _require_alpha(alpha: float) -> None:
    if not 0 <= alpha < np.inf:
        message = f"alpha = {alpha}; a finite number from 0 (0 is uniform; for the limit call segment)"
        raise ValueError(message)


def _require_generator(rng: Any) -> None:
    if not isinstance(rng, np.random.Generator):
        message = f"rng is {type(rng).__name__}, not numpy.random.Generator"
        raise TypeError(message)


def _refuse(text: bytes, number: int, vocabulary: Vocabulary) -> None:
    position = _furthest(_symbols([text], vocabulary), vocabulary._children, vocabulary._score)
    message = f"text {number} has no segmentation: no path crosses position {position}"
    raise ValueError(message)


# --- arrays in and out -----------------------------------------------------------------------------------------------


def _symbols(texts: Sequence[bytes], vocabulary: Vocabulary) -> NDArray[np.uint8]:
    """Join texts, with the columns of the trie's table in place of their bytes."""
    for text in texts:
        _require_bytes(text, "text")
    return vocabulary._column[np.frombuffer(b"".join(texts), dtype=np.uint8)]


def _batch(
    kernel: Any, texts: Sequence[bytes], vocabulary: Vocabulary, *arguments: Any, repeats: int = 1
) -> tuple[Ints, NDArray[np.int64]]:
    """Call a kernel on the joined texts."""
    symbols = _symbols(texts, vocabulary)
    starts = np.fromiter(chain([0], np.cumsum([len(text) for text in texts])), dtype=np.int64)
    ids = np.empty(len(symbols) * repeats, dtype=np.int32)
    offsets = np.zeros(len(texts) * repeats + 1, dtype=np.int64)
    tables = vocabulary._children, vocabulary._piece_of, vocabulary._depth
    failed = kernel(symbols, starts, *tables, ids, offsets, repeats, *arguments)
    if failed >= 0:
        _refuse(texts[failed], failed, vocabulary)
    return ids[: offsets[-1]].copy(), offsets


def _path(ids: Ints, vocabulary: Vocabulary) -> Segmentation:
    ends = np.cumsum(vocabulary._lengths[ids], dtype=np.int64)
    return Segmentation(ids, ends, float(vocabulary.scores[ids].sum()))


# --- kernels ---------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _furthest(symbols, children, score):
    reached = np.zeros(len(symbols) + 1, dtype=np.bool_)
    reached[0], last = True, 0
    for i in range(len(symbols)):
        node = 0
        for j in range(i, len(symbols) if reached[i] else i):
            node = children[node, symbols[j]]
            if node == 0:
                break
            if score[node] > -np.inf:
                reached[j + 1] = True
                last = max(last, j + 1)
    return last


@njit(cache=True)
def _trace(back, end, piece_of, depth, ids, count):
    """Write the path that ends here behind the others, and return how many pieces there are now."""
    first = count
    while end > 0:
        ids[count] = piece_of[back[end]]
        end -= depth[back[end]]
        count += 1
    ids[first:count] = ids[first:count][::-1].copy()
    return count


@njit(cache=True)
def _sweep_kernel(symbols, starts, children, piece_of, depth, ids, offsets, repeats, score, alpha, rng):
    """Sweep from left to right: held[j] is the best score by Viterbi where rng is None, else log Z(j) by Su's rule."""
    longest = np.diff(starts).max() if len(starts) > 1 else 0
    held, back, count = np.empty(longest + 1), np.empty(longest + 1, dtype=np.int32), 0
    for drawn in range((len(starts) - 1) * repeats):
        number = drawn // repeats
        text = symbols[starts[number] : starts[number + 1]]
        held[: len(text) + 1] = -np.inf
        held[0] = 0.0
        for i in range(len(text)):
            if held[i] == -np.inf:
                continue
            node = 0
            for j in range(i, len(text)):
                node = children[node, text[j]]
                if node == 0:
                    break
                x, z = held[i] + alpha * score[node], held[j + 1]
                if rng is None:
                    if x > z:
                        held[j + 1], back[j + 1] = x, node
                elif score[node] > -np.inf:
                    # The two-argument formula gives NaN for (-inf, -inf); here x is finite.
                    z = max(x, z) + np.log1p(np.exp(-abs(x - z)))
                    if rng.random() < np.exp(x - z):
                        back[j + 1] = node
                    held[j + 1] = z
        if held[len(text)] == -np.inf:
            return number
        count = _trace(back, len(text), piece_of, depth, ids, count)
        offsets[drawn + 1] = count
    return -1


@njit(cache=True)
def _edge_mass(weight, mass, exponent, current):
    """Return weight times mass SCALE^exponent, in units of SCALE^current; the two nearly always agree."""
    x = weight * mass
    while exponent > current:
        x, exponent = x * SCALE, exponent - 1
    while exponent < current:
        x, exponent = x / SCALE, exponent + 1
    return x


@njit(cache=True)
def _filter(text, children, weight, mass, exponent):
    """Fill B(i) = mass[i] SCALE^exponent[i]; no exp or log an edge."""
    last = len(text)
    mass[last], exponent[last] = 1.0, 0
    for i in range(last - 1, -1, -1):
        node, total, current = 0, 0.0, 0
        for j in range(i, last):
            node = children[node, text[j]]
            if node == 0:
                break
            if weight[node] > 0.0 and mass[j + 1] > 0.0:
                # In units of the largest mass so far: far ahead it may be larger than next to here by any factor.
                if total == 0.0:
                    current = exponent[j + 1]
                while current < exponent[j + 1]:
                    total, current = total / SCALE, current + 1
                total += _edge_mass(weight[node], mass[j + 1], exponent[j + 1], current)
        while total > SCALE:
            total, current = total / SCALE, current + 1
        while 0.0 < total < 1.0 / SCALE:
            total, current = total * SCALE, current - 1
        mass[i], exponent[i] = total, current


@njit(cache=True)
def _sample_kernel(symbols, starts, children, piece_of, depth, ids, offsets, repeats, weight, rng):
    longest = np.diff(starts).max() if len(starts) > 1 else 0
    mass, exponent, count = np.empty(longest + 1), np.empty(longest + 1, dtype=np.int32), 0
    for number in range(len(starts) - 1):
        text = symbols[starts[number] : starts[number + 1]]
        _filter(text, children, weight, mass, exponent)
        if mass[0] == 0.0:
            return number
        for repeat in range(repeats):
            i = 0
            while i < len(text):
                left, node, chosen = rng.random() * mass[i], 0, 0
                for j in range(i, len(text)):
                    node = children[node, text[j]]
                    if node == 0:
                        break
                    x = 0.0
                    if weight[node] > 0.0:
                        x = _edge_mass(weight[node], mass[j + 1], exponent[j + 1], exponent[i])
                    if x > 0.0:
                        chosen = node  # the last one stands where rounding leaves a remainder
                        left -= x
                        if left < 0.0:
                            break
                ids[count] = piece_of[chosen]
                count, i = count + 1, i + depth[chosen]
            offsets[number * repeats + repeat + 1] = count
    return -1


@njit(cache=True)
def _moments_kernel(text, children, weight, score):
    last = len(text)
    mass, exponent = np.empty(last + 1), np.empty(last + 1, dtype=np.int32)
    _filter(text, children, weight, mass, exponent)
    scores, tokens = np.zeros(last + 1), np.zeros(last + 1)
    for i in range(last - 1, -1, -1):
        node = 0
        for j in range(i, last if mass[i] > 0.0 else i):
            node = children[node, text[j]]
            if node == 0:
                break
            if weight[node] > 0.0:
                p = _edge_mass(weight[node], mass[j + 1], exponent[j + 1], exponent[i]) / mass[i]
                scores[i] += p * (score[node] + scores[j + 1])
                tokens[i] += p * (1.0 + tokens[j + 1])
    return np.log(mass[0]) + exponent[0] * np.log(SCALE), scores[0], tokens[0]


@njit(cache=True)
def _nbest_kernel(text, children, score, n):
    last = len(text)
    best = np.full((last + 1, n), -np.inf)
    choice, rank = np.zeros((last + 1, n), dtype=np.int32), np.zeros((last + 1, n), dtype=np.int32)
    best[last, 0] = 0.0
    ends, nodes, at = np.empty(last, np.int64), np.empty(last, np.int32), np.empty(last, np.int64)
    for i in range(last - 1, -1, -1):
        node, number = 0, 0
        for j in range(i, last):
            node = children[node, text[j]]
            if node == 0:
                break
            if score[node] > -np.inf:
                ends[number], nodes[number], at[number] = j + 1, node, 0
                number += 1
        for place in range(n):
            top, which = -np.inf, -1
            for edge in range(number):
                if at[edge] < n and score[nodes[edge]] + best[ends[edge], at[edge]] > top:
                    top, which = score[nodes[edge]] + best[ends[edge], at[edge]], edge
            if which < 0:
                break
            best[i, place], choice[i, place], rank[i, place] = top, nodes[which], at[which]
            at[which] += 1
    return best, choice, rank

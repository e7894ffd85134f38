"""Which texts of a table share passages: overlap of 13-grams, and the groups that follow from it.

A held-out text that repeats a passage of a training text measures memory, not generalisation. Two texts are *near
duplicates* when the share of common 13-grams, taken of the shorter text, reaches a threshold. Groups are the
connected components of that relation, so that a split by group never separates two near duplicates.

Symbols: N texts, M 13-grams of all texts together.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, triu
from scipy.sparse.csgraph import connected_components

NGRAM_LENGTH = 13
UNITS = ("words", "characters")

_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s+")
_PADDING = 0


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of texts that share 13-grams; entry p of each array describes pair p.

    Attributes:
        first: Index of the earlier text, shape (pairs,), in [0, N).
        second: Index of the later text, shape (pairs,), first < second < N.
        share: Common distinct 13-grams over the distinct 13-grams of the shorter text, shape (pairs,), in (0, 1].
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: NDArray[np.float64]

    def above(self, threshold: float) -> "NearDuplicates":
        """Keep the pairs whose share reaches a threshold.

        Args:
            threshold: Least share kept, in (0, 1].

        Returns:
            The pairs with `share >= threshold`, in the same order.
        """
        kept = self.share >= threshold
        return NearDuplicates(self.first[kept], self.second[kept], self.share[kept])


def near_duplicates(texts: Sequence[str], unit: str, max_texts: int | None = None) -> NearDuplicates:
    """Find all pairs of texts with at least one 13-gram in common.

    Args:
        texts: N texts. One with fewer than 13 units counts as a single 13-gram, so that it equals only itself.
        unit: "words" (runs of letters and digits, lower case) or "characters" (all but white space).
        max_texts: A 13-gram found in more texts than this is a formula of the genre (a licence header, a
            stock phrase) and is not counted as shared; None counts every one.

    Returns:
        The pairs, ordered by first and then second text.

    Raises:
        ValueError: If the unit is unknown.

    Example:
        >>> letters = "abcdefghijklmnopqrstuvwxyz"
        >>> near_duplicates([letters, letters[:13], "no letters shared here"], "characters").share.tolist()
        [1.0]
    """
    if unit not in UNITS:
        msg = f"unit is {unit!r}; allowed are {', '.join(UNITS)}"
        raise ValueError(msg)
    tokens = _word_ids(texts) if unit == "words" else _code_points(texts)
    grams, owners = _ngram_hashes(tokens)
    counts = np.bincount(owners, minlength=len(texts))
    owners, columns, repeats = _repeated_ngrams(grams, owners, len(texts))
    distinct = counts - repeats
    incidence = csr_array(
        (np.ones(len(owners), np.int32), (owners, columns)), shape=(len(texts), columns.max(initial=-1) + 1)
    )
    incidence = _without_formulas(incidence, max_texts)
    shared = coo_array(triu(incidence @ incidence.T, k=1, format="csr"))
    first, second = (index.astype(np.int64) for index in shared.coords)
    return NearDuplicates(first, second, shared.data / np.minimum(distinct[first], distinct[second]))


def groups(keys: Sequence[Hashable], pairs: NearDuplicates) -> NDArray[np.int64]:
    """Number the groups of texts that must stay together.

    Args:
        keys: One key a text; texts with equal keys (sections of one document, say) belong together.
        pairs: Near duplicates, which belong together as well.

    Returns:
        The group of each text, shape (N,); groups are numbered by their first text.

    Example:
        >>> pairs = NearDuplicates(np.array([0]), np.array([2]), np.array([0.5]))
        >>> groups(["a", "b", "c", "b"], pairs).tolist()
        [0, 1, 0, 1]
    """
    first_with_key: dict[Hashable, int] = {}
    same_key = np.array(
        [first_with_key.setdefault(key, index) for index, key in enumerate(keys)], dtype=np.int64
    )
    rows = np.concatenate([np.arange(len(keys)), pairs.first])
    columns = np.concatenate([same_key, pairs.second])
    graph = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(keys), len(keys)))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels, dtype=np.int64)


def _word_ids(texts: Iterable[str]) -> list[NDArray[np.uint64]]:
    vocabulary: dict[str, int] = {}
    return [
        np.array(
            [vocabulary.setdefault(word, len(vocabulary) + 1) for word in _WORD.findall(text.lower())],
            np.uint64,
        )
        for text in texts
    ]


def _code_points(texts: Iterable[str]) -> list[NDArray[np.uint64]]:
    return [
        np.frombuffer(_SPACE.sub("", text).encode("utf-32-le"), np.uint32).astype(np.uint64) for text in texts
    ]


def _ngram_hashes(tokens: Sequence[NDArray[np.uint64]]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hash every run of 13 tokens that lies within one text.

    The hash is a sum of mixed tokens times fixed odd multipliers, modulo 2^64: two of the 2e7 13-grams of the
    largest table collide with a probability near 1e-5.

    Returns:
        Hashes, shape (M,), and the text each comes from, shape (M,).
    """
    padded = [np.pad(ids, (0, max(0, NGRAM_LENGTH - len(ids))), constant_values=_PADDING) for ids in tokens]
    lengths = np.array([len(ids) for ids in padded], dtype=np.int64)
    stream = _mixed(np.concatenate([np.zeros(0, np.uint64), *padded]))
    multipliers = _mixed(np.arange(1, NGRAM_LENGTH + 1, dtype=np.uint64)) | np.uint64(1)
    size = max(0, len(stream) - NGRAM_LENGTH + 1)
    hashes = np.zeros(size, np.uint64)
    for offset, multiplier in enumerate(multipliers):
        hashes += stream[offset : offset + size] * multiplier
    owners = np.repeat(np.arange(len(tokens)), lengths)[:size]
    ends = np.cumsum(lengths)
    inside = np.arange(size) + NGRAM_LENGTH <= ends[owners]
    return hashes[inside], owners[inside]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64-bit integers (the finaliser of SplitMix64: Steele, Lea, Flood 2014, figure 15).

    Returns:
        One scattered integer for each given one, of the same shape.
    """
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _repeated_ngrams(
    grams: NDArray[np.uint64], owners: NDArray[np.int64], num_texts: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Keep the 13-grams that occur more than once, each once a text.

    Returns:
        Text and column of every kept (text, 13-gram), and the number of repetitions dropped within each text (N,).
    """
    ordered = np.sort(grams)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    kept = np.isin(grams, repeated)
    columns = np.searchsorted(repeated, grams[kept])
    width = max(1, len(repeated))
    cells = np.unique(owners[kept] * width + columns)
    repeats = np.bincount(owners[kept], minlength=num_texts) - np.bincount(
        cells // width, minlength=num_texts
    )
    return cells // width, cells % width, repeats


def _without_formulas(incidence: csr_array, max_texts: int | None) -> csr_array:
    if max_texts is None:
        return incidence
    return csr_array(incidence[:, np.asarray(incidence.sum(axis=0)) <= max_texts])

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

# A unit is what a 13-gram is made of. In Chinese text a run of Latin letters or digits counts as one character:
# otherwise "LibreOffice" with two neighbours would be a shared passage.
UNITS = {
    "words": re.compile(r"\w+"),
    "characters": re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+"),
}


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of texts that share 13-grams; entry p of each array, of shape (pairs,), describes pair p."""

    first: NDArray[np.int64]  # index of the earlier text
    second: NDArray[np.int64]  # of the later one: first < second < N
    share: NDArray[np.float64]  # common distinct 13-grams over those of the shorter text, in (0, 1]

    def above(self, threshold: float) -> "NearDuplicates":
        """Keep the pairs whose share reaches a threshold."""
        kept = self.share >= threshold
        return NearDuplicates(self.first[kept], self.second[kept], self.share[kept])


def near_duplicates(texts: Sequence[str], unit: str) -> NearDuplicates:
    """Find all pairs of texts with at least one 13-gram in common, ordered by first and then second text."""
    grams, owners = _ngram_hashes(*_token_ids(texts, UNITS[unit]))
    counts = np.bincount(owners, minlength=len(texts))
    owners, columns, repeats = _repeated_ngrams(grams, owners, len(texts))
    distinct = counts - repeats
    incidence = csr_array(
        (np.ones(len(owners), np.int32), (owners, columns)), shape=(len(texts), columns.max(initial=-1) + 1)
    )
    shared = coo_array(triu(incidence @ incidence.T, k=1, format="csr"))
    first, second = (index.astype(np.int64) for index in shared.coords)
    return NearDuplicates(first, second, shared.data / np.minimum(distinct[first], distinct[second]))


def groups(keys: Sequence[Hashable], pairs: NearDuplicates) -> NDArray[np.int64]:
    """Number the groups of texts (N,) that must stay together: near duplicates, and texts with equal keys."""
    first_with_key: dict[Hashable, int] = {}
    same_key = np.array([first_with_key.setdefault(key, index) for index, key in enumerate(keys)], dtype=np.int64)
    rows = np.concatenate([np.arange(len(keys)), pairs.first])
    columns = np.concatenate([same_key, pairs.second])
    graph = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(keys), len(keys)))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels, dtype=np.int64)


def _token_ids(texts: Iterable[str], token: re.Pattern[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Number the units of all texts, text after text, and count them in each text (N,)."""
    units: list[str] = []
    lengths: list[int] = []
    for text in texts:
        found = token.findall(text.lower())
        found += [""] * (NGRAM_LENGTH - len(found))  # a short text is one 13-gram, and equals only itself
        units += found
        lengths.append(len(found))
    number = {unit: index for index, unit in enumerate(dict.fromkeys(units))}
    ids = np.fromiter(map(number.__getitem__, units), np.uint64, len(units))
    return ids, np.array(lengths, dtype=np.int64)


def _ngram_hashes(ids: NDArray[np.uint64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hash every run of 13 units that lies within one text: hashes (M,), and the text each comes from (M,)."""
    # A sum of mixed numbers times fixed odd multipliers, modulo 2^64: any two of the 1e7 13-grams of the largest
    # table collide with a probability near 3e-6.
    stream = _mixed(ids)
    multipliers = _mixed(np.arange(1, NGRAM_LENGTH + 1, dtype=np.uint64)) | np.uint64(1)
    size = max(0, len(stream) - NGRAM_LENGTH + 1)
    hashes = np.zeros(size, np.uint64)
    for offset, multiplier in enumerate(multipliers):
        hashes += stream[offset : offset + size] * multiplier
    owners = np.repeat(np.arange(len(lengths)), lengths)[:size]
    inside = np.arange(size) + NGRAM_LENGTH <= np.cumsum(lengths)[owners]
    return hashes[inside], owners[inside]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64-bit integers (the finaliser of SplitMix64: Steele, Lea, Flood 2014, figure 15)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _repeated_ngrams(
    grams: NDArray[np.uint64], owners: NDArray[np.int64], num_texts: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Keep the 13-grams that occur more than once, each once a text."""
    # Returns text and column of every kept (text, 13-gram), and the repetitions dropped within each text (N,).
    ordered = np.sort(grams)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(repeated) == 0:
        return owners[:0], owners[:0], np.zeros(num_texts, np.int64)
    columns = np.minimum(np.searchsorted(repeated, grams), len(repeated) - 1)
    kept = repeated[columns] == grams
    owners, columns = owners[kept], columns[kept]
    cells = np.unique(owners * len(repeated) + columns)
    kept_owners, kept_columns = np.divmod(cells, len(repeated))
    repeats = np.bincount(owners, minlength=num_texts) - np.bincount(kept_owners, minlength=num_texts)
    return kept_owners, kept_columns, repeats

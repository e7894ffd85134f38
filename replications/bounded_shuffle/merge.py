"""Shuffling by merging shuffled chunks: the post's rounds, and draws in proportion to what is left of each chunk.

A law yields blocks of labels: from which chunk the next lines of the output come.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
BLOCK = 50_000  # lines of the output that are put in order at once


def rounds(sizes: Sequence[int], rng: np.random.Generator, *, rejection: bool = False) -> Iterator[Labels]:
    """Take one line of each chunk a round, in random order (the post's steps 3 and 4).

    Args:
        sizes: Lines of each chunk; only the last may be shorter.
        rng: Source of the orders.
        rejection: Whether the last chunk is skipped with probability 1 - (its lines left)/(lines left of another one):
            the rounds in which it takes part are then a uniform subset (step 4 of the derivation).

    Yields:
        Labels of whole rounds, shape (lines,).
    """
    there = np.arange(sizes[0])[:, None] < np.array(sizes)
    if rejection:
        there[:, -1] = rng.permutation(there[:, -1])
    for some in np.array_split(there, -(-there.size // BLOCK)):
        labels = rng.permuted(np.broadcast_to(np.arange(len(sizes)), some.shape), axis=1)
        yield labels[np.take_along_axis(some, labels, axis=1)]


def proportional(sizes: Sequence[int], rng: np.random.Generator) -> Iterator[Labels]:
    """Take each line from a chunk with probability in proportion to its lines left: uniform over all orders.

    How many of the next lines come from each chunk is drawn at once, by the multivariate hypergeometric law, and their
    labels are permuted; that is the law of the draws line by line.

    Args:
        sizes: Lines of each chunk.
        rng: Source of the draws.

    Yields:
        Labels, shape (lines,).
    """
    left = np.array(sizes)
    while total := int(left.sum()):
        counts = rng.multivariate_hypergeometric(left, min(BLOCK, total), method="marginals")
        left -= counts
        yield rng.permutation(np.repeat(np.arange(len(left)), counts))


LAWS = {"rounds": rounds, "proportional": proportional}


def merged_order(labels: Iterable[Labels], sizes: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return for each place of the output its line in the input, shape (lines,), without a file."""
    starts = np.cumsum([0, *sizes[:-1]])
    shuffled = np.concatenate([start + rng.permutation(size) for start, size in zip(starts, sizes, strict=True)])
    order = np.empty_like(shuffled)
    order[np.argsort(np.concatenate(list(labels)), kind="stable")] = shuffled
    return order


def merge_lines(source: Path, target: Path, *, lines: int, seed: int, law: str) -> None:
    """Shuffle a file by its chunks.

    Args:
        source: File; every line ends with a newline.
        target: File to write.
        lines: Of a chunk (the post's n).
        seed: Of all that is random.
        law: One of `LAWS`; "rounds" is the post's.
    """
    rng = np.random.default_rng(seed)
    with TemporaryDirectory(dir=target.parent) as folder, ExitStack() as stack, target.open("wb") as output:
        sizes = []
        with source.open("rb") as file:
            while some := list(islice(file, lines)):
                name = str(len(sizes))
                sizes.append(len(some))
                shuffled = [some[place] for place in rng.permutation(len(some)).tolist()]
                Path(folder, name).write_bytes(b"".join(shuffled))
        files = [stack.enter_context(Path(folder, str(number)).open("rb")) for number in range(len(sizes))]
        for labels in LAWS[law](sizes, rng):
            counts = np.bincount(labels, minlength=len(files)).tolist()
            taken = list(chain.from_iterable(islice(file, n) for file, n in zip(files, counts, strict=True)))
            places = np.empty_like(labels)
            places[np.argsort(labels, kind="stable")] = np.arange(len(labels))
            output.write(b"".join([taken[place] for place in places.tolist()]))

"""Pseudo-summaries: a document's own segments, split into a source and a target that resembles its summary.

S and T are the segments that are left and those that were moved to the target; LCS is the length of the longest
common subsequence in characters; join() keeps document order and adds no separator. T grows greedily from nothing by

    i* = argmax_{i in S} LCS(join(S without i), join(T with i))        the first one of equals

The original is `train.py` of ZhuiyiTechnology/t5-pegasus, with `text_segmentate` of bert4keras; the post is
kexue.fm/archives/8209. They stop differently: `pseudo_summary` is the code, `pseudo_summary_as_written` the post.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import LCSseq

log = logging.getLogger(__name__)


class PseudoSummary(NamedTuple):
    """A pair; `picked` are the indices of T, rising, and `swapped` says that T is the source."""

    source: str
    target: str
    picked: tuple[int, ...]
    swapped: bool


def segments(text: str, max_chars: int = 32, separators: str = "\n。") -> list[str]:
    """Split a text at the first separator, merge the pieces greedily, and split what is too long at the next one.

    Pieces are merged while they hold at most `max_chars` characters with their separators; a longer one is split at
    the next separator, and stays whole after the last. So a "sentence" is several short sentences, or one long one.
    Difference: the original keeps segments of white space as empty strings, and divides by zero if S has no other.

    Args:
        text: Any text; only white space at the ends of segments is lost.
        max_chars: Of a merged segment, at least 1.
        separators: Characters, the coarsest first.

    Returns:
        Segments in order, none empty.

    Raises:
        ValueError: If the text is no string, or `max_chars` is below 1.

    Example:
        >>> segments("甲乙。丙。丁戊己。", max_chars=5)
        ['甲乙。丙。', '丁戊己。']
    """
    if not isinstance(text, str) or max_chars < 1:
        message = f"text is of type {type(text).__name__}, max_chars is {max_chars}; give a string, and at least 1"
        raise ValueError(message)
    text = text.strip()
    if not text or not separators or len(text) <= max_chars:
        return [text] if text else []
    *closed, last = text.split(separators[0])
    merged, held = [], ""
    for body, end in [*((one, separators[0]) for one in closed), (last, "")]:
        # One place is kept for a separator, also at the end of the text, where there is none.
        if held and body and len(held) + len(body) + 1 > max_chars:
            merged.append(held)
            held = ""
        held += body + end
    return [part for one in [*merged, held] for part in segments(one, max_chars, separators[1:])]


def documents(pieces: Iterable[str], max_chars: int = 768) -> Iterator[list[str]]:
    """Group a text's segments into documents of at most `max_chars` characters, but of three segments at least."""
    held: list[str] = []  # the source's 768 is 1.5 times its 512 tokens; it drops a rest of fewer than three
    for piece in pieces:
        if len(held) >= 3 and sum(map(len, held)) + len(piece) > max_chars:
            yield held
            held = []
        held.append(piece)
    if len(held) >= 3:
        yield held


def pseudo_summary(pieces: Sequence[str], ratio: float = 0.25) -> PseudoSummary:
    """Return the pair of a document by the original's code: greedy by LCS, stopped by a ratio of lengths.

    Segments are moved until |join(T)| / |join(S)| > ratio, or one is left; then the longer side is the source. The
    ratio before the last move is at most `ratio`, the last move may overshoot it by far.

    Args:
        pieces: The segments of a document, in order, at least two, none empty.
        ratio: In (0, 1).

    Returns:
        The pair; each segment is on one side.

    Raises:
        ValueError: If there are fewer than two segments, one is empty or no string, or the ratio is out of range.

    Example:
        >>> pseudo_summary(["今天天气很好。", "我们去公园。", "公园很大。", "天气好公园人多。"])[:3]
        ('今天天气很好。我们去公园。公园很大。', '天气好公园人多。', (3,))
    """
    return _by_length(pieces, _greedy, ratio)


def pseudo_summary_as_written(pieces: Sequence[str], share: float = 0.25) -> PseudoSummary:
    """Return the pair of a document by the post's words: greedy by LCS, about n/4 of n sentences, and no exchange.

    "About" is the nearest whole number (a half goes to the even one), and at least one; `share` is in (0, 1).
    Arguments and errors else: see `pseudo_summary`; here the target may be the longer side.
    """
    _check(pieces, "share", share)
    return _pair(pieces, sorted(islice(_greedy(pieces), max(1, round(share * len(pieces))))))


def random_pseudo_summary(pieces: Sequence[str], generator: np.random.Generator, ratio: float = 0.25) -> PseudoSummary:
    """Return a pair as `pseudo_summary` does, but move segments in a random order: nothing chooses them."""
    return _by_length(pieces, lambda some: generator.permutation(len(some)).tolist(), ratio)


def longest_pseudo_summary(pieces: Sequence[str], ratio: float = 0.25) -> PseudoSummary:
    """Return a pair as `pseudo_summary` does, but move the longest segments first: a choice by length alone."""
    return _by_length(pieces, lambda some: sorted(range(len(some)), key=lambda i: -len(some[i])), ratio)


def pseudo_summaries(
    documents_of_texts: Iterable[Iterable[list[str]]], pair_of: Callable[[list[str]], PseudoSummary] = pseudo_summary
) -> tuple[list[PseudoSummary], list[int]]:
    """Return the pairs of many texts' `documents`, and each pair's text by number; log how many texts gave none."""
    made = [[pair_of(one) for one in some] for some in documents_of_texts]
    owners = [i for i, pairs in enumerate(made) for _ in pairs]
    if not owners:
        message = f"documents_of_texts: none of {len(made)} texts has three segments, so there is no pair"
        raise ValueError(message)
    log.info("%d pairs; %d of %d texts gave none", len(owners), len(made) - len(set(owners)), len(made))
    return [one for pairs in made for one in pairs], owners


def of_other_documents(owners: Sequence[Hashable], generator: np.random.Generator) -> list[int]:
    """Return for each item the index of one of another document, given the document of each (`owners`).

    For mismatched sources in training, exchanged sources in tests, random targets. It is a permutation, so
    mismatched training sees the same sources and targets as matched training. Documents are put in a random order,
    and all items step forward by the size of the largest one, which leaves every document.

    Raises:
        ValueError: If there is no item, or one document has more than half of them.

    Example:
        >>> of_other_documents(["a", "b"], np.random.default_rng(0))
        [1, 0]
    """
    _, document, sizes = np.unique(np.asarray(owners), return_inverse=True, return_counts=True)
    step = int(sizes.max(initial=1))
    if 2 * step > len(owners):
        message = f"owners: of {len(owners)} items one document has more than half, or there is none"
        raise ValueError(message)
    shuffled = generator.permutation(len(owners))
    place = generator.permutation(len(sizes))[document]
    order = shuffled[np.argsort(place[shuffled], kind="stable")]
    return np.roll(order, -step)[np.argsort(order)].tolist()


def _greedy(pieces: Sequence[str]) -> Iterator[int]:
    """Give all indices in the order in which they are moved."""
    left, picked = list(range(len(pieces))), []
    while left:
        best = max(left, key=partial(_overlap, pieces, picked))  # the first one of equals, as np.argmax
        left.remove(best)
        picked.append(best)
        yield best


def _overlap(pieces: Sequence[str], picked: list[int], moved: int) -> int:
    """Return the LCS after one more move."""
    pair = _pair(pieces, sorted([*picked, moved]))
    return LCSseq.similarity(pair.source, pair.target)


def _by_length(pieces: Sequence[str], order: Callable[[Sequence[str]], Iterable[int]], ratio: float) -> PseudoSummary:
    """Move segments in an order until the target is long enough, and make the longer side the source."""
    _check(pieces, "ratio", ratio)
    picked, chars = [], [len(one) for one in pieces]
    for moved in order(pieces):
        picked.append(moved)
        target = sum(chars[i] for i in picked)
        if len(picked) == len(pieces) - 1 or target / (sum(chars) - target) > ratio:
            break
    pair = _pair(pieces, sorted(picked))
    if len(pair.source) < len(pair.target):
        return PseudoSummary(pair.target, pair.source, pair.picked, True)
    return pair


def _pair(pieces: Sequence[str], picked: list[int]) -> PseudoSummary:
    source = "".join(one for i, one in enumerate(pieces) if i not in picked)
    return PseudoSummary(source, "".join(pieces[i] for i in picked), tuple(picked), False)


def _check(pieces: Sequence[str], name: str, value: float) -> None:
    if not 0 < value < 1:
        message = f"{name} is {value}; it must be in (0, 1)"
        raise ValueError(message)
    if isinstance(pieces, str) or len(pieces) < 2 or not all(isinstance(one, str) and one for one in pieces):
        message = "pieces: give at least two segments, each a string that is not empty"
        raise ValueError(message)

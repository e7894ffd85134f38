"""Span corruption, the objective of T5 that pseudo-summaries are held against."""

from collections.abc import Sequence

import numpy as np

NOISE, SPAN = 0.15, 3  # share of tokens that are taken out, and the mean length of a span


def span_corruption(
    ids: Sequence[int], sentinels: Sequence[int], generator: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Take out round(0.15 n) of n tokens in spans of 3 on average, and put a sentinel in the place of each (T5).

    As in Raffel et al. (JMLR 2020): text and noise are cut at random into as many parts, which take turns, text first.

    Args:
        ids: Tokens without start and end, at least two.
        sentinels: Ids that text does not use, one more than there are spans.
        generator: Of numpy.

    Returns:
        The text with sentinels; and sentinel, span, sentinel, span, …, one more sentinel. Neither has start or end.
    """
    n = len(ids)
    noise = min(max(round(NOISE * n), 1), n - 1)
    spans = min(max(round(noise / SPAN), 1), n - noise)
    lengths = [_composition(total, spans, generator) for total in (n - noise, noise)]
    source, target, at = [], [], 0
    for kept, taken, sentinel in zip(*lengths, sentinels, strict=False):
        source += [*ids[at : at + kept], sentinel]
        target += [sentinel, *ids[at + kept : at + kept + taken]]
        at += kept + taken
    return source, [*target, sentinels[spans]]


def _composition(total: int, parts: int, generator: np.random.Generator) -> list[int]:
    """Cut a number at random into so many positive ones, each way as likely."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff([0, *cuts, total]).tolist()

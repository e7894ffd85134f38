"""How likely each rule gives each word when the differences between seeds are normal: what a placebo is held against.

Symbols: n seeds, differences ~ N(mean, sd²), x̄ their average, s their standard deviation, m margin. Given s every word
is a set of intervals of x̄; the law of s is that of sd · χ / √(n - 1).
"""

from itertools import pairwise

import numpy as np
from scipy import integrate, stats

__all__ = ["RULES", "WORDS", "chances", "level_after_selection"]

# The words that each rule can give, "inconclusive" aside.
EFFECT = ("holds", "holds_smaller", "contradicted", "no_difference")
WORDS = {
    "greater": EFFECT,
    "less": EFFECT,
    "slope": ("holds", "contradicted"),  # "greater" without a margin
    "equivalent": ("holds", "contradicted"),
    "within": ("holds", "contradicted"),  # from -m to m
    "not_worse": ("holds", "contradicted"),  # "less" without a margin; the bound is m
}
RULES = tuple(WORDS)


def chances(
    rule: str, *, n: int, sd: float, mean: float, margin: float, selection_sd: float = 0.0
) -> dict[str, float]:
    """Return the chance of each word.

    Args:
        rule: One of `RULES`.
        n: Seeds, at least 2.
        sd: Standard deviation of a difference between seeds, positive.
        mean: What the difference truly is.
        margin: m, positive.
        selection_sd: Standard deviation of what two searches add to the difference of all seeds alike, since they
            select different settings; the interval does not see it.

    Returns:
        By word, each in [0, 1]; what is missing to 1 is inconclusive.

    Example:
        >>> {word: round(p, 3) for word, p in chances("slope", n=5, sd=1.0, mean=0.0, margin=1.0).items()}
        {'holds': 0.025, 'contradicted': 0.025}
    """
    sign = -1 if rule == "less" else 1
    of_mean = stats.norm(sign * mean, np.hypot(sd / np.sqrt(n), selection_sd))
    scale = sd / np.sqrt(n - 1)  # of s, as a multiple of χ
    wide, narrow = (stats.t.ppf(q, n - 1) / np.sqrt(n) for q in (0.975, 0.95))

    def chance(word: str) -> float:
        def given(s: float) -> float:
            parts = _intervals(rule, word, wide * s, narrow * s, margin)
            inside = sum(max(of_mean.cdf(high) - of_mean.cdf(low), 0.0) for low, high in parts)
            return float(stats.chi.pdf(s, n - 1, scale=scale) * inside)

        # A word's ends bend where an end of an interval reaches the margin.
        ends = [*stats.chi.ppf([1e-13, 1 - 1e-13], n - 1, scale=scale), margin / wide, margin / narrow]
        low, high = ends[:2]
        places = [low, *sorted(end for end in ends[2:] if low < end < high), high]
        return sum(integrate.quad(given, *piece, epsabs=1e-12)[0] for piece in pairwise(places))

    return {word: chance(word) for word in WORDS[rule]}


def _intervals(rule: str, word: str, wide: float, narrow: float, m: float) -> list[tuple[float, float]]:
    """Return the averages x̄ that give a word; a pair in the wrong order is empty."""
    if rule in ("equivalent", "within"):
        end = m - (narrow if rule == "equivalent" else wide)
        return [(-end, end)] if word == "holds" else [(-np.inf, -m - wide), (m + wide, np.inf)]
    if rule == "not_worse":
        return [(-np.inf, m - wide)] if word == "holds" else [(m + wide, np.inf)]
    end = min(wide, m - narrow)
    return {
        "holds": [(wide if rule == "slope" else max(wide, m), np.inf)],
        "holds_smaller": [(wide, m)],
        "contradicted": [(-np.inf, -wide)],
        "no_difference": [(-end, end)],
    }[word]


def differ(of_words: dict[str, float]) -> float:
    """Add up the words by which a claim of an effect says that two things differ."""
    return sum(of_words.get(word, 0.0) for word in ("holds", "holds_smaller", "contradicted"))


def level_after_selection(n: int, variance_ratio: float) -> float:
    """Return how often two equal methods are said to differ, from how far their average differences really spread.

    2 P(T_{n-1} > t_{0.975}(n - 1) / √ratio): the t of every repetition is that of a fair test times √ratio.

    Args:
        n: Seeds, at least 2.
        variance_ratio: Variance of x̄ over repetitions, tuning included, divided by sd²/n: what the interval assumes.

    Returns:
        Chance that the 95 % interval leaves out zero; 0.05 where the ratio is 1.

    Example:
        >>> round(level_after_selection(8, 1.0), 4), round(level_after_selection(8, 2.0), 4)
        (0.05, 0.1384)
    """
    return float(2 * stats.t.sf(stats.t.ppf(0.975, n - 1) / np.sqrt(variance_ratio), n - 1))

"""How near a text is to its reference, what comes as near without a model, and a counted language model.

All scores are of characters and in [0, 1]; the source (finetune.py) has means over items, times 100. ROUGE has two
conventions, two functions: `rouge_counts` counts a repeated part as often as both texts have it, as rouge-score does;
`rouge_pltrdy` takes sets, as the source's package does.
"""

import re
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from nltk.translate.bleu_score import SmoothingFunction
from nltk.translate.bleu_score import sentence_bleu as bleu_of_tokens
from rapidfuzz.distance import LCSseq

from replications.t5_pegasus.pseudo_summary import of_other_documents

DISCOUNT = 0.75  # customary; estimated from a handful of labels it would be 0 or 1
NUM_FOLDS = 5  # parts of the labels that are held out in turn


class Rouge(NamedTuple):
    """F1 of characters, of pairs of neighbours, and of the longest common subsequence, each in [0, 1]."""

    one: float
    two: float
    longest: float


def characters(text: str) -> str:
    """Return the text in lower case, without white space."""
    return "".join(text.lower().split())


def rouge_counts(hypothesis: str, reference: str) -> Rouge:
    """Return ROUGE-1, -2 and -L with clipped counts: F1 = 2 overlap / (parts of one + parts of the other).

    Args:
        hypothesis: Generated text; an empty one scores 0. White space and case do not count.
        reference: What it is held against; one of a single character has no pair, so that `two` is 0.

    Returns:
        The three F1, symmetric in the texts.

    Raises:
        ValueError: If one is no string, or the reference is empty.

    Example:
        >>> rouge_counts("中国中国发展", "中国经济发展报告中国")
        Rouge(one=0.75, two=0.42857142857142855, longest=0.5)
    """
    _check(hypothesis, reference)
    h, r = characters(hypothesis), characters(reference)
    one, two = ((Counter(zip(h, h[k:], strict=False)) & Counter(zip(r, r[k:], strict=False))).total() for k in (0, 1))
    size = len(h) + len(r)
    return Rouge(2 * one / size, 2 * two / max(size - 2, 1), 2 * LCSseq.similarity(h, r) / size)


def rouge_pltrdy(hypothesis: str, reference: str) -> Rouge:
    """Return ROUGE-1, -2 and -L as the source's package rouge 1.0.1 (pltrdy) does, peculiarities and all.

    Parts are sets, also those of the one longest common subsequence that it looks at: ROUGE-L is not symmetric,
    and "aaaa" is a perfect "a" but for its pairs. An ASCII "." ends a sentence and is dropped, two in a row leave an
    empty token, and ROUGE-L joins the sentences' subsequences. F1 has 1e-8 in its denominator. A hypothesis of ".",
    at which the package stops, scores 0. Arguments and errors else: see `rouge_counts`.

    Raises:
        ValueError: If the reference is ".".

    Example:
        >>> [round(score, 3) for score in rouge_pltrdy("中国中国发展", "中国经济发展报告中国")]
        [0.667, 0.333, 0.333]
    """
    _check(hypothesis, reference)
    # Sentences of tokens: characters with spaces between them, as the package splits them again.
    h, r = (
        [" ".join(part.split()).split(" ") for part in " ".join(text).lower().split(".") if part]
        for text in (hypothesis, reference)
    )
    if not r:
        message = 'reference is ".", which the package rouge drops'
        raise ValueError(message)
    if not h or not hypothesis.strip():
        return Rouge(0.0, 0.0, 0.0)
    h_all, r_all = list(chain(*h)), list(chain(*r))
    h_set, r_set, h_pairs, r_pairs = set(h_all), set(r_all), set(pairwise(h_all)), set(pairwise(r_all))
    common = {token for one in r for other in h for token in _common_subsequence(one, other)}
    parts = [(h_set & r_set, h_set, r_set), (h_pairs & r_pairs, h_pairs, r_pairs), (common, h_set, r_set)]
    shares = [(len(both) / max(len(one), 1), len(both) / max(len(other), 1)) for both, one, other in parts]
    return Rouge(*(2.0 * ((p * q) / (p + q + 1e-8)) for p, q in shares))


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """Return BLEU-4 of one sentence as the source has it: NLTK's, smoothing method 1 (0.1 for a count of 0).

    So fewer than four characters do not reach 1 against themselves: two have 0.316. A space in the text becomes two
    empty tokens, as in the source. Arguments and errors: see `rouge_counts`.
    """
    _check(hypothesis, reference)
    if not hypothesis.strip():
        return 0.0
    h, r = (" ".join(text).lower().split(" ") for text in (hypothesis, reference))
    return float(bleu_of_tokens([r], h, smoothing_function=SmoothingFunction().method1))  # pyright: ignore[reportArgumentType]


def lead(source: str, num_chars: int) -> str:
    """Return the source's first characters."""
    return characters(source)[:num_chars]


def oracle_clause(source: str, reference: str) -> str:
    """Return the source's clause, without its end mark, of the best ROUGE-1 by counts: the reach of extraction."""
    return max(re.split("[\n。，；：！？]", source), key=lambda clause: rouge_counts(clause, reference).one)


def random_targets(targets: Sequence[str], owners: Sequence[Hashable], generator: np.random.Generator) -> list[str]:
    """Return for each item another document's target: what the task's language alone scores."""
    return [targets[i] for i in of_other_documents(owners, generator)]


class CharacterTrigram:
    """Interpolated Kneser-Ney trigram of characters: a language model that is counted, and never sees a source.

    With D = 0.75, c() how often, N() after how many different symbols, T() before how many (Chen and Goodman 1998)::

        p(z | xy) = (max(c(xyz) - D, 0) + D T(xy) p(z | y)) / c(xy)
        p(z | y)  = (max(N(yz) - D, 0)  + D T(y) p(z))      / sum_z N(yz)       and p(z) likewise, with 1 / symbols

    Symbols are the alphabet, one for all characters outside it, and a text's end; a text begins with two marks.

    Args:
        texts: What is counted, a text each, at least one; white space and case do not count.
        alphabet: Characters that are told apart: those of the model that it is compared with.

    Raises:
        ValueError: If there is no text.

    Example:
        >>> CharacterTrigram(["天气", "天空"], "天气空").probabilities(["天气"]).round(3)
        array([0.767, 0.314, 0.646])
    """

    def __init__(self, texts: Sequence[str], alphabet: Collection[str]) -> None:
        """Count."""
        if not texts:
            message = "texts: there is none to count"
            raise ValueError(message)
        self.ids = {character: i for i, character in enumerate(sorted(alphabet))}
        self.base = len(self.ids) + 3  # unknown, end, and the mark of a beginning
        trigrams, counts = np.unique(self._trigrams(texts), return_counts=True)
        pairs, before_pairs = np.unique(trigrams % self.base**2, return_counts=True)
        singles, before_singles = np.unique(pairs % self.base, return_counts=True)
        self.orders = [(singles, before_singles), (pairs, before_pairs), (trigrams, counts)]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of each character and of each text's end, text after text, shape (symbols,)."""
        wanted = self._trigrams(texts)
        p = np.full(len(wanted), 1 / (self.base - 1))  # no text goes on with the mark of a beginning
        for k, (grams, numbers) in enumerate(self.orders, 1):
            contexts, of = np.unique(grams // self.base, return_inverse=True)
            context = wanted % self.base**k // self.base
            total = _looked_up(contexts, np.bincount(of, numbers), context)
            freed = DISCOUNT * _looked_up(contexts, np.bincount(of), context)
            mixed = _looked_up(grams, numbers - DISCOUNT, wanted % self.base**k) + freed * p
            p = np.where(total > 0, mixed / np.maximum(total, 1), p)  # a context never seen says nothing
        return p

    def _trigrams(self, texts: Sequence[str]) -> np.ndarray:
        """Number each symbol together with the two before it."""
        unknown, end, begin = range(self.base - 3, self.base)
        ids = ((begin, begin, *(self.ids.get(one, unknown) for one in characters(text)), end) for text in texts)
        x = np.fromiter(chain.from_iterable(ids), dtype=np.int64)
        return ((x[:-2] * self.base + x[1:-1]) * self.base + x[2:])[x[2:] != begin]


def trigram_nats(general: CharacterTrigram, labels: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Return texts' negative log-likelihood under (1 - w) p_general + w p_labels, with a trigram of the labels' own.

    w makes labels that are held out in turn most likely (expectation maximisation); without labels it is 0.

    Args:
        general: Counted in the text that the compared model was pretrained on.
        labels: All targets that the compared model was fine-tuned and validated on: none, or two at least.
        texts: To be judged.

    Returns:
        Nats of each text with its end, shape (texts,).

    Raises:
        ValueError: If there is one label only.
    """
    if len(labels) == 1:
        message = "labels: there is one; give none, or two at least, so that one can be held out"
        raise ValueError(message)
    p = general.probabilities(texts)
    if labels:
        held_out = [labels[k::NUM_FOLDS] for k in range(min(NUM_FOLDS, len(labels)))]
        rests = [list(chain(*(held_out[:k] + held_out[k + 1 :]))) for k in range(len(held_out))]
        own = [CharacterTrigram(rest, general.ids).probabilities(held_out[k]) for k, rest in enumerate(rests)]
        own, other, w = np.concatenate(own), general.probabilities(list(chain(*held_out))), 0.5
        for _ in range(100):
            w = (w * own / (w * own + (1 - w) * other)).mean()
        p = (1 - w) * p + w * CharacterTrigram(labels, general.ids).probabilities(texts)
    return np.add.reduceat(-np.log(p), np.cumsum([0] + [len(characters(text)) + 1 for text in texts[:-1]]))


def nats_per_character(nats: Sequence[float] | np.ndarray, texts: Sequence[str]) -> float:
    """Return sum of nats / sum of (characters + 1), the mean over characters and ends, for any model's tokens."""
    return float(np.sum(nats) / sum(len(characters(text)) + 1 for text in texts))


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the values at keys, which rise, and 0 where there is no such key."""
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0.0)


def _check(hypothesis: str, reference: str) -> None:
    for name, text in (("hypothesis", hypothesis), ("reference", reference)):
        if not isinstance(text, str) or (name == "reference" and not text.strip()):
            message = f"{name} is {text!r}; give a string, and of the reference at least one character"
            raise ValueError(message)


def _common_subsequence(reference: list[str], hypothesis: list[str]) -> list[str]:
    """Return one longest common subsequence, backwards: the one that the package's way through the table meets."""
    table = [[0] * (len(hypothesis) + 1) for _ in range(len(reference) + 1)]
    for i, x in enumerate(reference, 1):
        for j, y in enumerate(hypothesis, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else max(table[i - 1][j], table[i][j - 1])
    i, j, found = len(reference), len(hypothesis), []
    while i and j:
        if reference[i - 1] == hypothesis[j - 1]:
            i, j = i - 1, j - 1
            found.append(reference[i])
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found

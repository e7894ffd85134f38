"""Chinese texts of data/: pairs of a text and its title, windows to pretrain on, and what test texts share with these.

Modern text is `zh_docs` (section → heading) and `zh_descriptions` (long → short), classical is `poems` (body → title).
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from opencc_purepy import OpenCC

from paperkit.datasets import read_table
from paperkit.texts import Split

Table = Literal["zh_docs", "zh_descriptions", "poems"]

LABELS = (10, 50, 200, 1000)
WINDOW = 96  # characters
SOURCE = 72  # characters of a body that are read for its title
OPENING = 30  # characters of a text in which its title may stand word for word
NGRAM_LENGTH = 13
LEAKED = 0.1  # share of 13-grams above which a test text is reported apart

_NAMES = {
    "zh_docs": {"heading": "title"},
    "zh_descriptions": {"long": "body", "short": "title", "family": "document"},
    "poems": {},
}
# The only text in traditional script, and so the only one for OpenCC, which spoils simplified text (结 becomes 結).
_TRADITIONAL = "linux-doc/zh_TW"
_NUMBER = r"^(?:第 ?\d+ ?[章步]|附录 ?[A-Z]|(?:\d+|[A-Z])(?:\.\d+)*[.)）、](?!\d)|\d+(?:\.\d+)+(?=\s))[\s.：-]*"
_CLAUSE = re.compile(r"[^\n。，]*[\n。，]|[^\n。，]+$")


def pairs(table: Table, split: Split) -> pd.DataFrame:
    """List the pairs of a split: document (the unit of a test), source, body, title, verbatim (it begins the body)."""
    rows = _texts(table)
    rows = rows[(rows.split == split) & rows.clean].reset_index(drop=True)
    texts = zip(rows.title, rows.body, strict=True)
    verbatim = ["".join(title.split()) in "".join(body.split())[:OPENING] for title, body in texts]
    return rows[["document", "source", "body", "title"]].assign(verbatim=verbatim)


def training_texts(table: Table) -> pd.DataFrame:
    """List document and body of the train split, also of sections that make no clean pair, without titles."""
    rows = _texts(table)
    return rows.loc[rows.split == "train", ["document", "body"]].reset_index(drop=True)


def windows(texts: Iterable[str], size: int = WINDOW) -> list[str]:
    """Cut texts into windows of as many whole clauses as fit into `size` characters; equal windows are one."""
    found = {}
    for text in texts:
        window = ""
        for clause in _CLAUSE.findall(text):
            for piece in (clause[start : start + size] for start in range(0, len(clause), size)):
                if len(window) + len(piece) > size:
                    found[window.strip()] = None
                    window = ""
                window += piece
        found[window.strip()] = None
    return [window for window in found if window]


def label_subsets(num_pairs: int, seed: int, sizes: Sequence[int] = LABELS) -> dict[int, NDArray[np.int64]]:
    """Draw rows of the labelled pairs, nested: each subset begins with the smaller ones."""
    if max(sizes) > num_pairs:
        message = f"n_labels is {max(sizes)}; the train split has {num_pairs} pairs"
        raise ValueError(message)
    order = np.random.default_rng(seed).permutation(num_pairs)
    return {size: order[:size] for size in sizes}


def shared_ngrams(texts: Sequence[str], training: Iterable[str]) -> NDArray[np.float64]:
    """Return for each text, of 13 characters or more, the share of its distinct 13-grams that training texts have."""
    own = [_ngrams(text) for text in texts]
    wanted = set().union(*own)
    known = set()
    for text in training:
        known |= wanted & _ngrams(text)
    return np.array([len(grams & known) / len(grams) for grams in own])


def mean_over_documents(values: Sequence[float], documents: Sequence[str]) -> float:
    """Average over the texts of a document, then over documents."""
    return float(pd.Series(values).groupby(np.asarray(documents)).mean().mean())


@cache
def _texts(table: Table) -> pd.DataFrame:
    """Read a table as document, source, body, title, clean, split: in simplified script, headings without numbers."""
    texts = read_table(table).rename(columns=_NAMES[table])
    if table == "zh_docs":
        traditional = texts.source == _TRADITIONAL
        for column in ("body", "title"):
            texts.loc[traditional, column] = texts.loc[traditional, column].map(OpenCC("t2s").convert)
        return texts.assign(title=texts.title.str.replace(_NUMBER, "", regex=True))
    if table == "poems":
        texts["document"] = texts.author + "/" + texts.title
    return texts.assign(source=table, clean=True)


def _ngrams(text: str) -> set[str]:
    """Collect the runs of 13 characters of a text without its white space."""
    # Latin letters count one by one: where data/ is split they do not, and by its rule no test text shares anything.
    text = "".join(text.split())
    return {text[start : start + NGRAM_LENGTH] for start in range(len(text) - NGRAM_LENGTH + 1)}

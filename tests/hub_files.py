"""Files that a cache of the Hugging Face hub would hold, made of noise: tests need no network."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from tokenizers import ByteLevelBPETokenizer

from paperkit import texts
from paperkit.texts import HUB, Corpus, HubCorpus

WORDS = ["the", "of", "valley", "river", "church", "was", "built", "stone", "1890", ",", ".", "@-@", "Ångström"]
VOCABULARY = 290


@contextmanager
def hub_files(home: Path, *corpora: Corpus) -> Iterator[None]:
    """Let this process find the hub's files below `home`, and nowhere else: those of made-up corpora."""
    for corpus in corpora:
        _write(home, HUB[corpus])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(home))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(texts, "token_stream", cache(texts.token_stream.__wrapped__))
        yield


def _write(home: Path, corpus: HubCorpus) -> None:
    """Write a tokenizer of `VOCABULARY` tokens, and texts in the form of WikiText."""
    generator = np.random.default_rng(0)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(_paragraphs(generator), vocab_size=VOCABULARY, show_progress=False)
    for file in corpus.files:
        path = home / f"{file.kind}s--{file.repository.replace('/', '--')}" / "snapshots" / file.revision / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file == corpus.tokenizer:
            tokenizer.save(str(path))
        else:
            pq.write_table(pa.table({"text": _paragraphs(generator)}), path)


def _paragraphs(generator: np.random.Generator) -> list[str]:
    """Make up an empty row, a heading, and forty paragraphs of twelve words."""
    rows = [" ".join(generator.choice(WORDS, size=12)) for _ in range(40)]
    return ["", " = Heading = \n", *(f" {row} \n" for row in rows)]

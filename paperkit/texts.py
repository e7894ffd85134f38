"""Texts as one stream of tokens, and the settings of a small language model over them."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow.parquet as pq
import torch
from pydantic import Field, model_validator
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from torch import Tensor, nn

from paperkit.config import StrictModel
from paperkit.datasets import read_table
from paperkit.hub import HubFile
from paperkit.models.language_model import even_windows, mean_loss, random_windows
from paperkit.models.tiny_gpt import TinyGPT

Split = Literal["train", "validation", "test"]
Corpus = Literal["sotu", "sotu_and_python_docs", "wikitext_103"]

# Tables of data/ whose texts are joined; their tokenizer is trained on the training texts.
TABLES: Mapping[str, Sequence[str]] = {"sotu": ["sotu"], "sotu_and_python_docs": ["sotu", "python_docs"]}


class HubCorpus(NamedTuple):
    """A corpus of the Hugging Face hub, and the tokenizer that it is read with."""

    tokenizer: HubFile
    texts: Mapping[Split, Sequence[HubFile]]

    @property
    def files(self) -> list[HubFile]:
        """All files that it needs."""
        return [self.tokenizer, *chain.from_iterable(self.texts.values())]


def _wikitext(name: str) -> HubFile:
    revision = "b08601e04326c79dfdd32d625aee71d232d685c3"
    return HubFile("dataset", "Salesforce/wikitext", revision, f"wikitext-103-raw-v1/{name}.parquet")


HUB: Mapping[str, HubCorpus] = {
    "wikitext_103": HubCorpus(
        HubFile("model", "openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e", "tokenizer.json"),
        {
            "train": [_wikitext("train-00000-of-00002"), _wikitext("train-00001-of-00002")],
            "validation": [_wikitext("validation-00000-of-00001")],
            "test": [_wikitext("test-00000-of-00001")],
        },
    )
}


@functools.cache
def token_stream(split: Split, vocabulary: int, corpus: Corpus = "sotu") -> Tensor:
    """Encode the texts of a split, joined.

    Args:
        split: Which texts.
        vocabulary: Number of tokens. Tables are read with a byte-level BPE of that size, at least 257 (one a byte, and
            the separator, id 0, before each text); a corpus of the hub has its own.
        corpus: Tables of data/, or a corpus of the hub.

    Returns:
        Token ids, shape (tokens,), int64.
    """
    if corpus in HUB:
        return _encoded(Tokenizer.from_file(str(HUB[corpus].tokenizer.path())), HUB[corpus].texts[split])
    tokenizer = _tokenizer(vocabulary, corpus)
    # One text at a time: what the tokenizer notes beside the ids of a whole split takes most of a gigabyte.
    return torch.cat([torch.tensor([0, *tokenizer.encode(text).ids]) for text in _texts(split, corpus)])


class TextModel(StrictModel):
    """Sizes of a small GPT over texts."""

    corpus: Corpus = "sotu"
    vocabulary: int = Field(ge=257, le=65_535)  # of the byte-level BPE, or of the corpus's own tokenizer
    width: int = Field(ge=1)  # a multiple of heads
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    context: int = Field(ge=1)  # tokens a window

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            message = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(message)
        return self

    @property
    def in_runs(self) -> dict[str, Any]:
        """What a run's configuration holds of these settings: all, but for the corpus where it is the default."""
        return self.model_dump(exclude={"corpus"} if self.corpus == "sotu" else None)

    def require(self) -> None:
        """Refuse to start without the corpus; FileNotFoundError and ValueError name the file and the remedy."""
        if self.corpus not in HUB:
            return
        for file in HUB[self.corpus].files:
            file.path()
        size = Tokenizer.from_file(str(HUB[self.corpus].tokenizer.path())).get_vocab_size()
        if size != self.vocabulary:
            message = f"vocabulary {self.vocabulary}: the tokenizer of {self.corpus} has {size} tokens; set it to that"
            raise ValueError(message)

    def make(self, *, tied: bool = False) -> TinyGPT:
        """Make an untrained model from torch's global generator; `tied`: its head is the matrix of its embedding."""
        return TinyGPT(
            vocabulary=self.vocabulary, width=self.width, layers=self.layers, heads=self.heads, context=self.context,
            tied=tied,
        )  # fmt: skip

    def even_windows(self, split: Split, number: int) -> tuple[Tensor, Tensor]:
        """Cut evenly spaced windows out of a split: inputs and targets, each of shape (number, context)."""
        return even_windows(token_stream(split, self.vocabulary, self.corpus), context=self.context, number=number)

    def loss(self, model: nn.Module, split: Split, windows: int) -> float:
        """Return the mean cross-entropy in nats a token over so many evenly spaced windows of a split."""
        return mean_loss(model, *self.even_windows(split, windows))


class TextTraining(TextModel):
    """A training run of such a model."""

    batch: int = Field(ge=1)  # windows a step
    steps: int = Field(ge=2)
    warmup_steps: int = Field(ge=0)  # of the linear rise; half a cosine follows

    @model_validator(mode="after")
    def _two_steps_after_warmup(self) -> Self:
        if self.warmup_steps > self.steps - 2:
            message = f"warmup_steps {self.warmup_steps} must be at most steps - 2 = {self.steps - 2}"
            raise ValueError(message)
        return self

    @property
    def text(self) -> Tensor:
        """Tokens of the training text, shape (tokens,)."""
        return token_stream("train", self.vocabulary, self.corpus)

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw inputs and targets of each step, of shape (batch, context); a seed gives every arm the same ones."""
        return random_windows(self.text, context=self.context, batch=self.batch, steps=self.steps, seed=seed)


def _encoded(tokenizer: Tokenizer, files: Sequence[HubFile]) -> Tensor:
    """Encode the column "text" of parquet files, one row at a time."""
    # A row of WikiText is a paragraph that ends with a line break, where GPT-2's tokenizer splits in any case: the ids
    # are those of the whole text.
    parts = []
    for file in files:
        for rows in pq.ParquetFile(file.path()).iter_batches(columns=["text"], batch_size=4096):
            ids = chain.from_iterable(e.ids for e in tokenizer.encode_batch_fast(rows.column(0).to_pylist()))
            parts.append(torch.from_numpy(np.fromiter(ids, dtype=np.int64)))
    return torch.cat(parts)


@functools.cache
def _tokenizer(vocabulary: int, corpus: Corpus) -> ByteLevelBPETokenizer:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        _texts("train", corpus), vocab_size=vocabulary, special_tokens=["<|speech|>"], show_progress=False
    )
    return tokenizer


def _texts(split: Split, corpus: Corpus) -> list[str]:
    return [text for name in TABLES[corpus] for text in read_table(name, columns=["text"], split=split)["text"]]

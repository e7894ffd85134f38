"""A small T5, and what each arm makes of the same windows of text: spans to fill in, or pseudo-summaries.

Arms see equal windows in an equal order. "mismatched" has the targets of "pegasus", each beside the source of a window
of another document: what it learns is the language of targets, and not to copy.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import T5Config, T5ForConditionalGeneration

from paperkit.config import StrictModel
from paperkit.hardware import Hardware
from paperkit.training import matrices_only_decay, train
from replications.t5_pegasus.copy_head import CopyT5, untie
from replications.t5_pegasus.pseudo_summary import (
    PseudoSummary,
    longest_pseudo_summary,
    of_other_documents,
    pseudo_summary,
    random_pseudo_summary,
    segments,
)
from replications.t5_pegasus.spans import span_corruption
from replications.t5_pegasus.studies.corpus import WINDOW, Table, training_texts, windows
from replications.t5_pegasus.tokenizer import WordTokenizer, vocabulary

CLAUSE = 12  # characters up to which clauses of a window are merged; the source merges up to 32, in documents of 768
SENTINELS = 24
HEAD_WIDTH = 16  # of a head of attention
DECAY = 0.01
WARM_UP = 100  # steps of a rising rate
SIMILAR = 64  # batches whose rows are sorted by length, so that less of them is padding
MODERN: Sequence[Table] = ("zh_docs", "zh_descriptions")
TEXT: Mapping[str, Sequence[Table]] = {"modern": MODERN, "poems": ("poems",), "both": (*MODERN, "poems")}
THINNED = {"poems": 6}  # one in so many of ten million characters of poems: then both texts are about as long
RULES: Mapping[str, Callable[[Sequence[str]], PseudoSummary]] = {
    "pegasus": pseudo_summary, "longest": longest_pseudo_summary
}  # fmt: skip


class Pairs(NamedTuple):
    """Token ids with padding (0) behind: [CLS] text [SEP] of shape (N, S), and text [SEP] of shape (N, T)."""

    source: Tensor
    target: Tensor

    def rows(self, index: Sequence[int] | np.ndarray) -> "Pairs":
        """Take rows, without columns that only hold padding."""
        return Pairs(*(part[:, : int((part != 0).sum(1).max())] for part in (x[index] for x in self)))

    def batches(self, size: int, steps: int, seed: int) -> Iterator["Pairs"]:
        """Draw without replacement, and begin anew when too few are left; rows of a batch are of similar length."""
        generator, order = np.random.default_rng((seed, 2)), np.empty(0, dtype=np.int64)
        lengths = [(part != 0).sum(1).numpy() for part in self]
        size = min(size, len(self.source))
        group = min(SIMILAR, len(self.source) // size) * size
        for step in range(steps):
            at = step % (group // size)
            if at == 0:
                if len(order) < group:
                    order = generator.permutation(len(self.source))
                some, order = order[:group], order[group:]
                by_length = np.lexsort([part[some] for part in lengths])  # by target, which costs most, then by source
                some = generator.permutation(some[by_length].reshape(-1, size))
            yield self.rows(some[at])


class Task(StrictModel):
    """Model and pretraining: what a run's configuration holds beside the rates."""

    text: Literal["modern", "poems", "both"] = "modern"
    num_windows: int = Field(ge=8)  # of the text, as a seed draws them, of "both" the modern ones first
    words: int = Field(default=0, ge=0)  # of jieba's, in the vocabulary
    copying: bool = False
    width: int = Field(ge=8)
    layers: int = Field(ge=1)  # of the encoder, and of the decoder
    heads: int = Field(ge=1)
    feed_forward: int = Field(ge=8)
    batch: int = Field(ge=2)


class Seq2Seq(nn.Module):
    """A T5 with an output head of its own."""

    def __init__(self, task: Task, hardware: Hardware) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__()
        # "gated-gelu" is the same function in eight steps; and no fused attention has a bias that is learnt.
        config = T5Config(
            vocab_size=tokenizer_of(task.text, task.words).vocab_size, d_model=task.width, d_kv=HEAD_WIDTH,
            num_heads=task.heads, d_ff=task.feed_forward, num_layers=task.layers, dropout_rate=0.0,
            tie_word_embeddings=False, pad_token_id=0, decoder_start_token_id=2, eos_token_id=3,
            feed_forward_proj="gated-gelu_pytorch_tanh", attn_implementation="eager",
        )  # fmt: skip
        self.t5 = (CopyT5 if task.copying else T5ForConditionalGeneration)(config)
        untie(self.t5)
        self.hardware = hardware
        self.to(hardware.device)

    def forward(self, source: Tensor) -> Tensor:
        """Return the source: `train` predicts from inputs alone, and here the loss does both."""
        return source

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the mean over tokens of -log p(target | source)."""
        labels = target.where(target != 0, -100)
        return self.t5(input_ids=source, attention_mask=(source != 0).long(), labels=labels).loss

    @torch.no_grad()
    def nats(self, pairs: Pairs, batch: int = 64) -> np.ndarray:
        """Return -log p(target | source) of each pair, its end included, shape (N,)."""
        self.eval()
        parts = []
        for start in range(0, len(pairs.source), batch):
            some = range(start, min(start + batch, len(pairs.source)))
            source, target = (part.to(self.hardware.device) for part in pairs.rows(some))
            kept = target != 0
            log_p = self.t5(
                input_ids=source, attention_mask=(source != 0).long(), labels=target.where(kept, -100)
            ).logits
            if log_p.ndim == 3:  # without the copy head, which gives those of the labels alone
                log_p = log_p.log_softmax(-1).gather(-1, target[..., None])[..., 0]
            parts.append(-log_p.where(kept, 0.0).sum(1).cpu())
        return torch.cat(parts).double().numpy()

    @torch.no_grad()
    def generate(self, source: Tensor, *, max_tokens: int, beams: int = 1, no_repeat: int = 0) -> list[list[int]]:
        """Return the tokens of the most likely target that the search finds; a beam of 1 is greedy."""
        self.eval()
        found = []
        for some in source.to(self.hardware.device).split(64):
            options = {"num_beams": beams, "no_repeat_ngram_size": no_repeat, "do_sample": False}
            made = self.t5.generate(
                some, attention_mask=(some != 0).long(), max_new_tokens=max_tokens, **options
            )  # fmt: skip
            found += made[:, 1:].tolist()
        return found


@cache
def tokenizer_of(text: str, words: int) -> WordTokenizer:
    """Make the tokenizer: characters that are twice in the documentation to train on, or in what is pretrained on."""
    tables: list[Table] = ["zh_docs"] if text == "modern" else ["zh_docs", "poems"]
    texts = [body for table in tables for body in _training(text, table).body]
    return WordTokenizer(vocabulary(texts, words, num_unused=SENTINELS))


def _training(text: str, table: Table) -> pd.DataFrame:
    return training_texts(table)[:: THINNED.get(text, 1) if table == "poems" else 1]


@cache
def pairs_of_windows(text: str) -> tuple[list[list[str]], list[str]]:
    """Cut the training text into windows of three segments or more; return their segments, and their documents."""
    found = {}
    for table in TEXT[text]:
        bodies = _training(text, table)
        for document, body in zip(bodies.document, bodies.body, strict=True):
            found |= dict.fromkeys(windows([body], WINDOW), f"{table}/{document}")
    cut = {window: segments(window, CLAUSE, "\n。，") for window in found}
    kept = [window for window, pieces in cut.items() if len(pieces) >= 3]
    return [cut[window] for window in kept], [found[window] for window in kept]


def encode(tokenizer: WordTokenizer, source: str, target: str) -> tuple[list[int], list[int]]:
    """Turn a source into ids of [CLS] text [SEP], and its target of text [SEP]: the decoder starts with [CLS]."""
    return tokenizer.encode(source), tokenizer.encode(target)[1:]


def padded(sources: Iterable[Sequence[int]], targets: Iterable[Sequence[int]]) -> Pairs:
    """Put ids into two tensors."""
    return Pairs(*(pad_sequence([torch.tensor(ids) for ids in some], batch_first=True) for some in (sources, targets)))


@cache
def _encoded(text: str, words: int, rule: str, window: int) -> tuple[list[int], list[int]]:
    """Turn a window into ids of source and target by a rule that draws nothing; without a rule it has no target."""
    pieces = pairs_of_windows(text)[0][window]
    source, target = RULES[rule](pieces)[:2] if rule in RULES else ("".join(pieces), "")
    return encode(tokenizer_of(text, words), source, target)


def examples(task: Task, arm: str, seed: int) -> Pairs:
    """Make an arm's pairs of the windows of a seed."""
    pieces, documents = pairs_of_windows(task.text)
    order = np.random.default_rng(seed).permutation(len(pieces))
    order = np.array(sorted(order, key=lambda i: task.text == "both" and documents[i].startswith("poems/")))[
        : task.num_windows
    ]
    generator = np.random.default_rng((seed, 1))
    tokenizer = tokenizer_of(task.text, task.words)
    if arm == "random":
        ids = [encode(tokenizer, *random_pseudo_summary(pieces[i], generator)[:2]) for i in order]
    else:
        rule = "pegasus" if arm == "mismatched" else arm
        ids = [_encoded(task.text, task.words, rule, i) for i in order.tolist()]
    sources, targets = zip(*ids, strict=True)
    if arm == "span":
        cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        sentinels = tokenizer.convert_tokens_to_ids([f"[unused{k}]" for k in range(1, SENTINELS + 1)])
        made = [span_corruption(ids[1:-1], sentinels, generator) for ids in sources]
        sources, targets = [[cls, *source, sep] for source, _ in made], [[*target, sep] for _, target in made]
    if arm == "mismatched":
        sources = [sources[i] for i in of_other_documents([documents[i] for i in order], generator)]
    return padded(sources, targets)


def pretrained(
    task: Task, arm: str, lr: float | None, snapshots: Sequence[int], seeds: tuple[int, int], hardware: Hardware
) -> Iterator[Seq2Seq]:
    """Make a model and give it after so many steps, which rise; without a rate as it was drawn."""
    initialisation, data = seeds
    torch.manual_seed(initialisation)
    model = Seq2Seq(task, hardware)
    if lr is None:
        yield model
        return
    pairs = examples(task, arm, data)
    optimizer = AdamW(matrices_only_decay(model, DECAY), lr=lr, fused=True)
    # Then constant, as in the source: so every snapshot is the end of a run of its own.
    schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARM_UP))
    batches = pairs.batches(task.batch, snapshots[-1], data)
    for step in train(
        model, batches, model.loss, optimizer, schedule=schedule, max_gradient_norm=1.0, hardware=hardware
    ):
        if step.number in snapshots:
            yield model

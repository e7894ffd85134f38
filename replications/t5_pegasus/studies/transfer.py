"""Fine-tuning on few labels, and the judgement of a model: a section is to be given its heading.

Of n labels the first fifth stops the training and chooses its rate, the others train: all choices are paid for from a
procedure's own labels. With 10 labels there is nothing to choose by: rate and updates are fixed.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor
from torch.optim import AdamW

from paperkit.config import StrictModel
from paperkit.texts import Split
from paperkit.training import matrices_only_decay, train
from replications.t5_pegasus.metrics import characters, rouge_counts, rouge_pltrdy, sentence_bleu
from replications.t5_pegasus.pseudo_summary import of_other_documents
from replications.t5_pegasus.studies.corpus import (
    LEAKED,
    NGRAM_LENGTH,
    SOURCE,
    Table,
    mean_over_documents,
    pairs,
    shared_ngrams,
    training_texts,
)
from replications.t5_pegasus.studies.pretraining import DECAY, Pairs, Seq2Seq, Task, encode, padded, tokenizer_of

FIXED = 10  # labels of which none can be spared
NUM_VALIDATION = 5  # one in so many labels
TITLE_TOKENS = 24


class FineTuning(StrictModel):
    """What a run's configuration holds of it."""

    rates: list[float] = Field(min_length=1)
    more_rates: list[float] = Field(min_length=1)  # beside these, where the list is the question
    batch: int = Field(ge=2)
    patience: int = Field(ge=1)  # evaluations without a better one
    most_updates: int = Field(ge=1)
    fixed_rate: float = Field(gt=0)  # with 10 labels
    fixed_updates: int = Field(ge=1)


class Found(NamedTuple):
    """The outcome of one fine-tuning: weights, and what was chosen; no update is a choice too."""

    state: Mapping[str, Tensor]
    rate: float
    updates: int


class Titled(NamedTuple):
    """Pairs to be judged on, as ids and as texts."""

    ids: Pairs
    rows: pd.DataFrame

    def mean(self, values: np.ndarray, kept: np.ndarray | None = None) -> float:
        """Average over the titles of a document, then over documents."""
        chosen = np.ones(len(values), dtype=bool) if kept is None else kept
        return mean_over_documents(values[chosen], self.rows.document[chosen].tolist())

    def loss(self, nats: np.ndarray, kept: np.ndarray | None = None) -> float:
        """Average nats a character, a title's end counting as one."""
        return self.mean(nats / self.rows.title.map(lambda title: len(characters(title)) + 1).to_numpy(), kept)

    def exchanged(self) -> Pairs:
        """Put the source of another document beside each title, the same one for all arms and seeds."""
        other = of_other_documents(self.rows.document.tolist(), np.random.default_rng(0))
        return Pairs(self.ids.source[other], self.ids.target)

    def head(self, number: int | None) -> "Titled":
        """Take the first so many titles, or all."""
        return Titled(self.ids.rows(range(len(self.rows[:number]))), self.rows[:number])

    def first(self) -> "Titled":
        """Take the first title of each document."""
        rows = self.rows.drop_duplicates("document")
        return Titled(self.ids.rows(rows.index.tolist()), rows.reset_index(drop=True))


@cache
def titled(table: Table, split: Split, text: str, words: int) -> Titled:
    """Encode the pairs of a split."""
    rows = pairs(table, split)
    ids = [encode(tokenizer_of(text, words), *both) for both in zip(rows.body.str[:SOURCE], rows.title, strict=True)]
    return Titled(padded(*zip(*ids, strict=True)), rows)


@cache
def independent(table: Table) -> np.ndarray:
    """Tell of each test pair whether its title is not the body's beginning, nor its body in training text."""
    rows = pairs(table, "test")
    long = (rows.body.map(lambda body: len("".join(body.split()))) >= NGRAM_LENGTH).to_numpy()
    shared = np.zeros(len(rows))
    shared[long] = shared_ngrams(rows.body[long].tolist(), training_texts(table).body)
    return (shared <= LEAKED) & ~rows.verbatim.to_numpy()


def fine_tuned(model: Seq2Seq, examples: Pairs, task: FineTuning, seed: int) -> Found:
    """Fine-tune a model on labels, from its present weights at each rate; it is left as it was."""
    start, n = deepcopy(model.state_dict()), len(examples.source)
    if n <= FIXED:
        *_, updates = _updates(model, examples, task, task.fixed_rate, task.fixed_updates, seed)
        found = Found(deepcopy(model.state_dict()), task.fixed_rate, updates)
        model.load_state_dict(start)
        return found
    validation, training = examples.rows(range(n // NUM_VALIDATION)), examples.rows(range(n // NUM_VALIDATION, n))
    best, best_loss, every = Found(start, 0.0, 0), model.nats(validation).sum(), max(1, n // 50)
    for rate in task.rates:
        least, since = np.inf, 0
        for update in _updates(model, training, task, rate, task.most_updates, seed):
            if update % every:
                continue
            loss = model.nats(validation).sum()
            if loss < best_loss:
                best, best_loss = Found(deepcopy(model.state_dict()), rate, update), loss
            least, since = (loss, 0) if loss < least else (least, since + 1)
            if since == task.patience:
                break
        model.load_state_dict(start)
    return best


def _updates(model: Seq2Seq, examples: Pairs, task: FineTuning, rate: float, most: int, seed: int) -> Iterator[int]:
    optimizer = AdamW(matrices_only_decay(model, DECAY), lr=rate, fused=True)
    batches = examples.batches(task.batch, most, seed)
    for step in train(model, batches, model.loss, optimizer, max_gradient_norm=1.0, hardware=model.hardware):
        yield step.number


def copied_share(model: Seq2Seq, pairs: Pairs) -> float:
    """Return the mean of 1 - λ over the targets' tokens: the share of its probability that the copy head copies."""
    gates: list[Tensor] = []
    handle = model.t5.copy_head.register_forward_hook(lambda _module, _inputs, outputs: gates.append(outputs[1].cpu()))
    model.nats(pairs)
    handle.remove()
    shares = torch.cat([
        torch.nn.functional.pad(torch.sigmoid(-gate), (0, pairs.target.shape[1] - gate.shape[1])) for gate in gates
    ])
    return float(shares[pairs.target != 0].double().mean())


def generated(model: Seq2Seq, task: Task, source: Tensor, beams: int = 1, no_repeat: int = 0) -> list[str]:
    """Write a title for each source."""
    made = model.generate(source, max_tokens=TITLE_TOKENS, beams=beams, no_repeat=no_repeat)
    return [tokenizer_of(task.text, task.words).decode(ids, skip_special_tokens=True) for ids in made]


def rouge(hypotheses: list[str], test: Titled, *, complete: bool = False) -> dict[str, float]:
    """Return ROUGE-1, -2 and -L by counts, and where complete the source's ROUGE and BLEU, in points."""
    both = list(zip(hypotheses, test.rows.title, strict=True))
    scores = {f"rouge_{k}": [rouge_counts(*one)[i] for one in both] for i, k in enumerate("12l")}
    if complete:
        scores |= {f"pltrdy_{k}": [rouge_pltrdy(*one)[i] for one in both] for i, k in enumerate("12l")}
        scores["bleu"] = [sentence_bleu(*one) for one in both]
    return {f"{name}_points": 100 * test.mean(np.array(values)) for name, values in scores.items()}

"""The published weights, fine-tuned as finetune.py of ZhuiyiTechnology/t5-pegasus does: profile `paper`.

T5-PEGASUS had a million steps more than mT5, on Chinese alone, with another tokenizer. So mT5 also goes on for some
steps on the corpus' own training texts, with spans or with pseudo-summaries; these two differ in nothing else.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from importlib.util import find_spec
from itertools import count, islice, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from transformers import MT5ForConditionalGeneration

from paperkit.config import StrictModel
from paperkit.hardware import Hardware
from paperkit.hub import HubFile
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.texts import Split
from paperkit.training import train
from replications.t5_pegasus.metrics import nats_per_character, rouge_pltrdy, sentence_bleu
from replications.t5_pegasus.pseudo_summary import documents, pseudo_summaries, segments
from replications.t5_pegasus.published import PublishedT5, load
from replications.t5_pegasus.spans import span_corruption
from replications.t5_pegasus.studies.corpus import label_subsets
from replications.t5_pegasus.studies.pretraining import Pairs, Seq2Seq, padded

GATE = (2.0, 5.0)  # nats a token of a pseudo-summary; the post has 2.97 (base) and 3.40 (small)
WIDE = (384, 128)  # tokens of source and target in pretraining
FEW = 8  # pairs at once: mT5 has 250,000 logits a token
HUB = re.compile(r"([\w.-]+/[\w.-]+)@([\w.-]+)")  # owner/name@revision
COLUMNS = {"summary": "title", "abst": "body", "content": "body", "text": "body"}
FILES = dict.fromkeys(("t5_pegasus", "t5_pegasus_small"), ("config.json", "pytorch_model.bin", "vocab.txt"))
FILES["mt5"] = ("config.json", "pytorch_model.bin", "spiece.model", "tokenizer_config.json", "special_tokens_map.json")
Arm = Literal[
    "t5_pegasus", "t5_pegasus_small", "mt5", "mt5_in_bert4keras", "span_continued_mt5", "pegasus_continued_mt5"
]  # fmt: skip
# Weights, how they are read, and with what they go on before fine-tuning.
ARMS: Mapping[Arm, tuple[str, type, Literal["span", "pegasus"] | None]] = {
    "t5_pegasus": ("t5_pegasus", PublishedT5, None),
    "t5_pegasus_small": ("t5_pegasus_small", PublishedT5, None),
    "mt5": ("mt5", MT5ForConditionalGeneration, None),
    "mt5_in_bert4keras": ("mt5", PublishedT5, None),  # as in the source: with a scale and a bias it never had
    "span_continued_mt5": ("mt5", MT5ForConditionalGeneration, "span"),
    "pegasus_continued_mt5": ("mt5", MT5ForConditionalGeneration, "pegasus"),
}


class Task(StrictModel):
    """What a run's configuration holds beside the number of labels; the defaults are the source's."""

    corpus: Literal["csl", "lcsts"]
    folder: str  # of its three files, .tsv or JSON lines; or `owner/name@revision` of the hub, here and below
    train: str
    validation: str
    test: str
    t5_pegasus: str  # folder of the weights
    t5_pegasus_small: str
    mt5: str
    epochs: PositiveInt = 40
    lr: PositiveFloat = 2e-4
    batch: PositiveInt = 32
    source_tokens: int = Field(default=256, ge=4)
    target_tokens: int = Field(default=32, ge=4)
    beams: list[PositiveInt] = Field(default=[1, 2, 3])
    continued_steps: PositiveInt
    continued_lr: PositiveFloat = 1e-4
    num_validation: PositiveInt  # pairs, the first ones
    num_test: PositiveInt


class Paper(StrictModel):
    """The study: which arms, on which corpora, with how many labels and seeds."""

    tasks: list[Task] = Field(min_length=1)  # a corpus each
    arms: list[Arm] = Field(min_length=1)
    labels: list[PositiveInt] = Field(min_length=1)
    num_seeds: PositiveInt

    def require(self) -> None:
        """Refuse to start without weights or pairs; the error names what is missing and the remedy."""
        for task, arm in product(self.tasks, self.arms):
            _located(task.folder, "dataset", (task.train, task.validation, task.test))
            present = {path.name for path in _weights(task, arm).iterdir()}
            if not present & {"vocab.txt", "tokenizer.json"} and not find_spec("sentencepiece"):
                message = f"the vocabulary of {arm} needs the package sentencepiece: install it"
                raise FileNotFoundError(message)

    def reports(self, seeds: Sequence[int]) -> list[Run]:
        """List the runs; those that share a start follow each other."""
        return [
            Run(f"paper_{task.corpus}", arm, seed, {**task.model_dump(), "labels": n})
            for task, arm, seed, n in product(self.tasks, self.arms, seeds[: self.num_seeds], self.labels)
        ]


class Summariser(Seq2Seq):
    """Published weights with their tokenizer; padding is token 0 in both kinds."""

    def __init__(self, model: Any, tokenizer: Any, hardware: Hardware) -> None:
        """Keep them."""
        nn.Module.__init__(self)
        self.t5, self.tokenizer, self.hardware = model.to(hardware.device), tokenizer, hardware

    def pairs(self, texts: Iterable[tuple[str, str]], *longest: int) -> Pairs:
        """Encode (source, target); a text that is longer than allowed loses its last tokens, but not its end."""
        ids = [[self.tokenizer.encode(text) for text in pair] for pair in texts]
        cut = [[[*one[:-1][: n - 1], one[-1]] for one, n in zip(pair, longest, strict=True)] for pair in ids]
        start = self.t5.config.decoder_start_token_id  # only our own tokenizer puts it before a text
        return padded([source for source, _ in cut], [target[target[0] == start :] for _, target in cut])

    def scores(self, pairs: Pairs, titles: Sequence[str], tokens: int, beams: int = 1) -> dict[str, float]:
        """Write summaries, and return the source's scores of them: means over items, times 100."""
        # The sum of log p, as in bert4keras, whose beams however forget what has ended and is not the best.
        self.t5.generation_config.length_penalty = 0.0 if beams > 1 else 1.0
        made = self.generate(pairs.source, max_tokens=tokens, beams=beams)
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in made]
        rows = [(*rouge_pltrdy(h, r), sentence_bleu(h, r)) for h, r in zip(texts, titles, strict=True)]
        return dict(zip(("rouge_1", "rouge_2", "rouge_l", "bleu"), (100 * np.mean(rows, 0)).tolist(), strict=True))

    def trained(self, pairs: Pairs, batch: int, lr: float, steps: int, seed: int) -> Iterator[int]:
        """Train with Adam, every pass in a new order; yield the steps taken."""
        initialisation, data, _ = seeds_of(seed)
        torch.manual_seed(initialisation)  # dropout
        generator = np.random.default_rng((data, 1))
        passes = (generator.permutation(len(pairs.source)) for _ in count())
        rows = (order[at : at + batch] for order in passes for at in range(0, len(order), batch))
        batches, adam = (pairs.rows(some) for some in islice(rows, steps)), torch.optim.Adam(self.parameters(), lr=lr)
        for step in train(self, batches, self.loss, adam, hardware=self.hardware):
            yield step.number


def measure_paper(run: Run) -> Iterator[Measurement]:
    """Fine-tune, go back to the epoch of the best validation BLEU, and report the test split with each beam."""
    task, hardware, n = Task.from_config(run.config), Hardware.from_config(run.config), run.config["labels"]
    start = _started(run.arm, run.seed, task.model_dump_json(), hardware)
    labelled, validation, test = (read_pairs(task, split) for split in ("train", "validation", "test"))
    validation, test = validation[: task.num_validation], test[: task.num_test]
    if run.arm in ("t5_pegasus", "t5_pegasus_small"):
        yield from gate(start, [body for body, _ in validation])
    model, longest = deepcopy(start), (task.source_tokens, task.target_tokens)
    rows = label_subsets(len(labelled), run.seed, [n])[n]
    pairs = [model.pairs(some, *longest) for some in ([labelled[i] for i in rows], validation, test)]
    titles = [[title for _, title in some] for some in (validation, test)]
    an_epoch, best, taken, kept = math.ceil(n / task.batch), -1.0, 0, {}
    for step in model.trained(pairs[0], task.batch, task.lr, task.epochs * an_epoch, run.seed):
        if step % an_epoch == 0:
            bleu = model.scores(pairs[1], titles[0], task.target_tokens)["bleu"]
            if bleu > best:
                best, taken = bleu, step
                kept = {name: x.to("cpu", copy=True) for name, x in model.state_dict().items()}
    model.load_state_dict(kept)
    yield Measurement("validation", taken, "bleu_points", best)
    nats = nats_per_character(model.nats(model.pairs(test, task.source_tokens, WIDE[1]), FEW), titles[1])
    yield Measurement("test", taken, "nats_per_character", nats)
    for beams in task.beams:
        for name, value in model.scores(pairs[2], titles[1], task.target_tokens, beams).items():
            yield Measurement("test", taken, f"{name}_beam_{beams}_points", value)


def gate(model: Summariser, bodies: Sequence[str]) -> Iterator[Measurement]:
    """Report the loss of pseudo-summaries of held-out texts, and stop where weights trained on such have another."""
    made, _ = pseudo_summaries(documents(segments(body)) for body in bodies)
    pairs = model.pairs([one[:2] for one in made], *WIDE)
    nats = model.nats(pairs, FEW)
    a_token = float(nats.sum() / (pairs.target != 0).sum())
    yield Measurement("validation", 0, "pseudo_summary_nats_per_token", a_token)
    a_character = nats_per_character(nats, [one.target for one in made])
    yield Measurement("validation", 0, "pseudo_summary_nats_per_character", a_character)
    if not GATE[0] <= a_token <= GATE[1]:
        message = (
            f"held-out pseudo-summaries cost {a_token:.2f} nats a token, of T5-PEGASUS {GATE[0]:g} to {GATE[1]:g}: "
            "these are other weights, or they are read in another way (as MT5 the loss is about 80)"
        )
        raise ValueError(message)


def read_pairs(task: Task, split: Split) -> list[tuple[str, str]]:
    """Read (body, title); ValueError names the line that is no such pair."""
    (path,), found = _located(task.folder, "dataset", [getattr(task, split)]), []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            of_tsv = path.suffix == ".tsv"
            row = dict(zip(("title", "body"), line.decode().split("\t"), strict=True)) if of_tsv else json.loads(line)
            row = {COLUMNS.get(name, name): value for name, value in row.items()}
            pair = row["body"].strip(), row["title"].strip()
            if not all(pair):
                raise ValueError("empty")  # noqa: EM101
        except (ValueError, KeyError, AttributeError) as error:
            message = f"{path}, line {number}: no pair of a title and a body ({error!r})"
            raise ValueError(message) from error
        found.append(pair)
    return found


@lru_cache(maxsize=1)  # runs with other numbers of labels share it
def _started(arm: Any, seed: int, task_json: str, hardware: Hardware) -> Summariser:
    """Load an arm's model, and let it go on with the arm's objective."""
    task, (_, kind, objective) = Task.model_validate_json(task_json), ARMS[arm]
    model = Summariser(*load(_weights(task, arm), kind), hardware)
    if objective is None:
        return model
    generator, labelled = np.random.default_rng(seeds_of(seed)[1]), read_pairs(task, "train")
    bodies = [labelled[i][0] for i in generator.permutation(len(labelled))[: task.continued_steps * task.batch]]
    if objective == "pegasus":
        made, _ = pseudo_summaries(documents(segments(body)) for body in bodies)
        pairs = model.pairs([one[:2] for one in made], *WIDE)
    else:
        vocabulary = model.tokenizer.get_vocab()
        # T5's, the last one first; a tokenizer may have others behind them, which the weights do not know.
        sentinels = sorted(vocabulary[token] for token in vocabulary if "<extra_id_" in token)[:100][::-1]
        texts = [model.tokenizer.encode(body)[: WIDE[0]] for body in bodies]
        spans = [span_corruption(ids[:-1], sentinels, generator) for ids in texts]
        pairs = padded(*([[*ids, texts[0][-1]] for ids in side] for side in zip(*spans, strict=True)))
    for _ in model.trained(pairs, task.batch, task.continued_lr, task.continued_steps, seed):
        pass
    return model


def _weights(task: Task, arm: Arm) -> Path:
    name, *_ = ARMS[arm]
    return _located(getattr(task, name), "model", FILES[name])[0].parent


def _located(folder: str, kind: Literal["model", "dataset"], names: Iterable[str]) -> list[Path]:
    """Return where files lie: in a folder, or in the hub's cache, which is filled where there is network."""
    if found := HUB.fullmatch(folder):
        return [HubFile(kind, *found.groups(), name).path() for name in names]
    paths = [Path(folder) / name for name in names]
    # Of a model the first: a local one may have model.safetensors, or tokenizer.json.
    missing = [str(path) for path in (paths if kind == "dataset" else paths[:1]) if not path.is_file()]
    if missing:
        message = f"missing: {', '.join(missing)}; put files there, or name owner/name@revision of the hub"
        raise FileNotFoundError(message)
    return paths

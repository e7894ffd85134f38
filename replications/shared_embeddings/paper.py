"""Shared output embeddings at the size the source speaks of, on GPUs: the profile `paper`, through Lightning Fabric.

    python -m replications.shared_embeddings.paper --out results/shared_embeddings_paper

A GPT of twelve layers and width 768 on WikiText-103 with GPT-2's tokenizer (n = 50257, d* = 128), residual branches
zero at first, once with each of the source's heads. Each head gets the same trials of the learning rate, at the
reported horizon; fresh seeds are reported. Rows have the form of the other profiles: the same estimands judge them.

**Cost, an estimate:** a run of 5000 steps of 32 x 512 tokens is 6e16 operations, 3 minutes of an H100-class GPU at
40 % of its peak in bf16; 6 heads, 4 trials and 11 seeds make 90 runs, about 5 hours. No GPU was available to us: the
tests execute this code at a tiny size on the CPU, and nothing is measured.

**Determinism.** Initialisation and windows are drawn on the CPU from the seed of a run: the same for all heads and for
any number of devices. A killed study goes on where it was.

**Differences from the other profiles:** bf16 for the matrix products (logits and loss in float32), gradients averaged
over devices. From the card: n = 50257 instead of 32k, one width.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import pyarrow.parquet as pq
import torch
from lightning_fabric import Fabric
from pydantic import Field, model_validator
from tokenizers import Tokenizer
from torch import Tensor, nn

from paperkit import full_scale
from paperkit.full_scale import FullScaleSettings, HubFile, Session
from paperkit.models.language_model import windows_at
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.speeches import Split
from paperkit.stage import Tables
from paperkit.training import warmup_cosine
from paperkit.tuning import LogRange, Search, Tuned, draw_trials, ledger
from replications.shared_embeddings.embedding import HEADS, initial_sigma, token_cross_entropy
from replications.shared_embeddings.studies.curves import BELOW_UNIGRAM_NATS, SUMMARIES, make_optimizer, summaries
from replications.shared_embeddings.studies.language_model import (
    LanguageModel,
    make_gpt,
    unigram_entropy,
)

MODULE = "replications.shared_embeddings.paper"
ARMS = ("tied", "small_sigma", "untied", "orthogonal", "half_swap", "shuffle")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

TOKENIZER = HubFile("model", "openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e", "tokenizer.json")
TEXT: Mapping[Split, Sequence[HubFile]] = {
    split: [
        HubFile(
            "dataset",
            "Salesforce/wikitext",
            "b08601e04326c79dfdd32d625aee71d232d685c3",
            f"wikitext-103-raw-v1/{name}.parquet",
        )
        for name in names
    ]
    for split, names in (
        ("train", ["train-00000-of-00002", "train-00001-of-00002"]),
        ("validation", ["validation-00000-of-00001"]),
        ("test", ["test-00000-of-00001"]),
    )
}
FILES = (TOKENIZER, *(file for files in TEXT.values() for file in files))


class Settings(FullScaleSettings):
    """One block of paper.yaml."""

    width: int = Field(ge=2, multiple_of=2)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    context: int = Field(ge=1)  # tokens a window
    batch: int = Field(ge=1)  # windows a step, a multiple of the devices
    micro_batch: int = Field(ge=1)  # most windows a device handles at once; a batch is accumulated from these
    steps: int = Field(ge=2)
    warmup_steps: int = Field(ge=0)  # linear rise; half a cosine follows
    evaluation_windows: int = Field(ge=1)  # in an evaluation
    lr: LogRange  # peak
    num_trials: int = Field(ge=1)  # of each head, a power of two
    draw_seed: int = Field(ge=0)  # of the Sobol sequence
    run_seed: int = Field(ge=0)  # of initialisation and data order in all trials; not among the reported seeds

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.run_seed in self.seeds:
            message = f"seeds {self.seeds} must differ from run_seed {self.run_seed}"
            raise ValueError(message)
        if self.num_trials & (self.num_trials - 1):
            message = f"num_trials {self.num_trials} must be a power of two (1, 2, 4, 8, 16 …)"
            raise ValueError(message)
        self.hardware.require_equal_parts(self.batch, micro_batch=self.micro_batch)
        if self.warmup_steps > self.steps - 2:
            message = f"warmup_steps {self.warmup_steps} must be at most steps - 2 = {self.steps - 2}"
            raise ValueError(message)
        if self.width % self.heads:
            message = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(message)
        return self

    @property
    def files(self) -> Sequence[HubFile]:
        """Text and tokenizer."""
        return FILES

    def size(self, vocabulary: int) -> LanguageModel:
        """Return the sizes of the model; the vocabulary is the tokenizer's."""
        return LanguageModel(
            vocabulary=vocabulary, width=self.width, layers=self.layers, heads=self.heads, context=self.context
        )


@dataclass(frozen=True)
class Text:
    """The encoded text."""

    streams: Mapping[Split, Tensor]  # token ids, on the CPU
    vocabulary: int
    threshold: float  # loss to reach, half a nat below the entropy of the token frequencies

    @classmethod
    def load(cls) -> "Text":
        """Encode all splits with GPT-2's tokenizer."""
        tokenizer = Tokenizer.from_file(str(TOKENIZER.path()))
        streams = {split: _encoded(tokenizer, TEXT[split]) for split in SPLITS}
        threshold = unigram_entropy(streams["train"]) - BELOW_UNIGRAM_NATS
        return cls(streams, tokenizer.get_vocab_size(), threshold)


def _encoded(tokenizer: Tokenizer, files: Sequence[HubFile]) -> Tensor:
    rows = [row for file in files for row in pq.read_table(file.path(), columns=["text"])["text"].to_pylist()]
    ids = [np.array(encoding.ids) for encoding in tokenizer.encode_batch_fast(rows) if encoding.ids]
    return torch.from_numpy(np.concatenate(ids))


class Model(nn.Module):
    """A GPT and its head as one module, since Fabric wraps one."""

    def __init__(self, arm: str, size: LanguageModel) -> None:
        """Draw the parameters from torch's global generator."""
        super().__init__()
        self.gpt = make_gpt(
            size, sigma=initial_sigma(size.vocabulary, size.width, arm), positions=False, branches=False
        )
        self.gpt.head = HEADS[arm](self.gpt.token_embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of shape (B, T, n) in float32: in half precision a tied self-logit may overflow."""
        return self.gpt(tokens).float()


@dataclass(frozen=True)
class Study:
    """Trains and measures on all devices at once."""

    fabric: Fabric
    settings: Settings
    text: Text

    def measure(self, run: Run) -> Iterator[Measurement]:
        """Train from scratch; yield each split's loss at the end, and summaries of the training curve."""
        # A trial of the search never looks at the test split.
        settings, (initialisation, order, _) = self.settings, seeds_of(run.seed)
        splits: tuple[Split, ...] = ("validation",) if run.experiment.endswith("_search") else ("validation", "test")
        torch.manual_seed(initialisation)
        model = Model(run.arm, settings.size(self.text.vocabulary))
        optimizer = make_optimizer(model.gpt, run.config)
        schedule = warmup_cosine(optimizer, steps=settings.steps, warmup_steps=settings.warmup_steps)
        wrapped, optimizer = self.fabric.setup(model, optimizer)
        last = len(self.text.streams["train"]) - settings.context
        draws = np.random.default_rng(order).integers(last, size=(settings.steps, settings.batch))
        losses: list[float] = []
        for starts in draws:
            losses.append(self._step(wrapped, optimizer, starts))
            # The mean over all devices: they stop together.
            if not math.isfinite(losses[-1]):
                yield from (Measurement(split, settings.steps, "loss_nats", math.nan) for split in splits)
                if "test" in splits:
                    yield from (Measurement("train", settings.steps, name, math.nan) for name in SUMMARIES)
                return
            schedule.step()
        for split in splits:
            yield Measurement(split, settings.steps, "loss_nats", self._evaluate(wrapped, split))
        if "test" in splits:
            for name, value in summaries(np.array(losses), self.text.threshold).items():
                yield Measurement("train", settings.steps, name, value)

    def _step(self, model: Any, optimizer: torch.optim.Optimizer, starts: np.ndarray) -> float:
        """Take one step on a batch that is dealt to all devices and accumulated in equal parts; return its loss."""
        fabric = self.fabric
        own = starts.reshape(-1, fabric.world_size)[:, fabric.global_rank]
        parts = own.reshape(-1, min(self.settings.micro_batch, len(own)))
        model.train()
        optimizer.zero_grad()
        total = torch.zeros((), device=fabric.device)
        for number, part in enumerate(parts, start=1):
            inputs, targets = self._windows("train", part)
            with fabric.no_backward_sync(model, enabled=number < len(parts)):
                loss = token_cross_entropy(model(inputs), targets) / len(parts)
                fabric.backward(loss)
            total += loss.detach()
        optimizer.step()
        return float(fabric.all_reduce(total, reduce_op="mean"))

    @torch.no_grad()
    def _evaluate(self, model: Any, split: Split) -> float:
        """Return the mean loss over evenly spaced windows, dealt to all devices."""
        model.eval()
        last = len(self.text.streams[split]) - self.settings.context - 1
        starts = np.linspace(0, last, self.settings.evaluation_windows).astype(np.int64)
        own = starts[self.fabric.global_rank :: self.fabric.world_size]
        sums = torch.zeros(2, dtype=torch.float64, device=self.fabric.device)
        for part in np.array_split(own, max(1, math.ceil(len(own) / self.settings.micro_batch))):
            if len(part):
                inputs, targets = self._windows(split, part)
                loss = token_cross_entropy(model(inputs), targets).double()
                sums += torch.stack([loss * len(part), torch.full_like(loss, len(part))])
        total, count = self.fabric.all_reduce(sums, reduce_op="sum").tolist()
        return total / count

    def _windows(self, split: Split, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        inputs, targets = windows_at(self.text.streams[split], starts, self.settings.context)
        return inputs.to(self.fabric.device), targets.to(self.fabric.device)


def run(settings: Settings, session: Session) -> Tables:
    """Tune every head, and run the selected rates on fresh seeds."""
    text = Text.load()
    execute = partial(session, Study(session.fabric, settings, text).measure)
    space = {"lr": settings.lr}
    points = draw_trials(space, num_trials=settings.num_trials, seed=settings.draw_seed)
    task = settings.model_dump(
        exclude={"hardware", "lr", "num_trials", "draw_seed", "run_seed", "seeds", "micro_batch"}
    )
    task |= {"vocabulary": text.vocabulary, "precision": settings.hardware.precision}
    runs: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    for arm in ARMS:
        tried = [execute(Run("curves_search", arm, settings.run_seed, {**task, **point})) for point in points]
        runs += [row for rows in tried for row in rows]
        tuned = Tuned(points, [{settings.run_seed: _loss(rows)} for rows in tried])
        trials += ledger(Search("curves", arm, task, space, settings.num_trials, "loss_nats"), tuned, session.profile)
        report = [Run("curves", arm, seed, {**task, **tuned.best()}) for seed in settings.seeds]
        runs += [row for run in report for row in execute(run)]
    return Tables(runs, trials)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study from its command line."""
    full_scale.main(Settings, run, module=MODULE, announced=["lr"], arguments=arguments)


def _loss(rows: Sequence[Mapping[str, Any]]) -> float:
    (value,) = (row["value"] for row in rows if row["metric"] == "loss_nats")
    return math.nan if value is None else value


if __name__ == "__main__":
    main()

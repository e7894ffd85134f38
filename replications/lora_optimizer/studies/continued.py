"""A pretrained language model continued on another text: does a low rank forget less, at equal gain (C15)?

All arms go on from one checkpoint. Weights that were shipped in four bits are first repaired by maximum likelihood on
the source, so that no arm gains by that. No rate is selected: every arm runs at all of its rates.
"""

import copy
from collections.abc import Iterator, Mapping
from functools import cache, partial

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from paperkit.config import StrictModel
from paperkit.hardware import Hardware
from paperkit.models.language_model import even_windows, next_token_loss, random_windows
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.texts import Split
from paperkit.training import train, warmup_cosine
from replications.lora_optimizer.optimizer import linear_weights
from replications.lora_optimizer.studies import weights
from replications.lora_optimizer.studies.arms import optimizer_of
from replications.lora_optimizer.studies.frontier import Frontier, gained_and_lost

REPAIR_SEED = 0


class Repair(StrictModel):
    """Maximum likelihood on the source before the arms part."""

    steps: int = Field(ge=10)
    lr: PositiveFloat


class Task(StrictModel):
    """What is trained and on what."""

    model: weights.Model
    source: weights.Corpus
    target: weights.Corpus
    context: PositiveInt
    batch: PositiveInt
    steps: int = Field(ge=10)
    repair: Repair | None
    evaluation_windows: PositiveInt


class Continued(StrictModel):
    """The study."""

    task: Task
    rates: Mapping[str, list[PositiveFloat]]  # of each arm
    num_seeds: PositiveInt

    def require(self) -> None:
        """Refuse to start without weights or texts."""
        weights.require(self.task.model, (self.task.source, self.task.target))

    def forgetting(self) -> list[Frontier]:
        """List the one comparison."""
        return [Frontier("continued", self.rates, self.task.model_dump(), self.num_seeds)]


class Start:
    """The checkpoint that all arms go on from, made once in a process, and a network to train."""

    def __init__(self, task: Task, hardware: Hardware) -> None:
        """Load the weights, and repair them."""
        self.task, self.hardware = task, hardware
        self.kept = weights.language_model(task.model).to(hardware.device)
        self.kept.config.use_cache = False
        self.kept.register_forward_hook(lambda _model, _inputs, output: output.logits)  # (N, T, V), of ids (N, T)
        if task.repair:
            optimizer = torch.optim.AdamW(self.kept.parameters(), lr=task.repair.lr, weight_decay=0.0, fused=True)
            steps = task.repair.steps
            schedule = warmup_cosine(optimizer, steps=steps, warmup_steps=steps // 10)
            batches = self._batches(task.source, REPAIR_SEED, steps)
            for _ in train(self.kept, batches, next_token_loss, optimizer, schedule=schedule, hardware=hardware):
                pass
        self.network = copy.deepcopy(self.kept)
        self.matrices = matrices_of(self.network)
        taken = {p for _, p in self.matrices}
        for parameter in self.network.parameters():
            parameter.requires_grad_(parameter in taken)

    def trained(self, run: Run) -> nn.Module:
        """Train from the start with an arm."""
        self.network.load_state_dict(self.kept.state_dict())
        _, data, starts = seeds_of(run.seed)
        optimizer = optimizer_of(run.arm, self.matrices, run.config, steps=self.task.steps, seed=starts)
        batches = self._batches(self.task.target, data, self.task.steps)
        for _ in train(self.network, batches, next_token_loss, optimizer, hardware=self.hardware):
            pass
        return self.network

    def windows(self, corpus: weights.Corpus, split: Split) -> tuple[Tensor, Tensor]:
        """Cut evenly spaced windows out of a split."""
        stream = weights.stream(self.task.model, corpus, split)
        return even_windows(stream, context=self.task.context, number=self.task.evaluation_windows)

    def _batches(self, corpus: weights.Corpus, seed: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        stream = weights.stream(self.task.model, corpus, "train")
        return random_windows(stream, context=self.task.context, batch=self.task.batch, steps=steps, seed=seed)


def matrices_of(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Name the matrices of all layers but embedding and head; GPT-2's are no `nn.Linear`, and transposed."""
    return linear_weights(network) or [(n, p) for n, p in network.named_parameters() if p.ndim == 2 and ".h." in n]


def measure_continued(run: Run) -> Iterator[Measurement]:
    """Continue at one rate; report what was gained on the target, and lost on the source."""
    task = Task.from_config(run.config)
    start = _made(task.model_dump_json(), Hardware.from_config(run.config))
    target, source = partial(start.windows, task.target), partial(start.windows, task.source)
    yield from gained_and_lost(run, start.kept, start.trained(run), target, source)


@cache
def _made(task: str, hardware: Hardware) -> Start:
    return Start(Task.model_validate_json(task), hardware)

"""Lion against AdamW at the source's own scale, on GPUs: the profile `paper`, through Lightning Fabric.

    python -m replications.lion.paper --out results/lion_paper

GPT-2 small from scratch on WikiText-103, and ViT-Ti on CIFAR-100 at four batch sizes with a fixed number of samples
seen. Each arm gets the same number of trials from one box, at the reported horizon and separately at each batch size;
fresh seeds are reported. Rows have the form of the other profiles, so the same estimands judge them.

**Cost, an estimate:** about 110 hours of one A100-class GPU: 48 language runs of 1.25 h (6e17 operations at 40 % of
the peak in bf16), and 48 sweeps over the batch sizes of 1.1 h, most of it at batch 64 (131,072 steps of 20 ms). No GPU
was available to us: the tests execute this code at a tiny size on the CPU, and nothing is measured.

**Determinism.** Initialisation, batches, crops and flips are drawn on the CPU from the seed of a run, so they are the
same for both arms and for any number of devices. Kernels are the deterministic ones: the same bits on one kind of GPU
with the same `devices` and `micro_batch`. These two change rounding only, so a killed study may go on with others.

**Differences from the source:** GPT-2 small instead of its own models, initialised by fan-in (see TinyGPT); ViT-Ti on
CIFAR-100 instead of ViT-B/16 on ImageNet, with crops and flips only; no dropout, no label smoothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Annotated, Any, Literal, Self

import torch
from lightning_fabric import Fabric
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from paperkit import full_scale, tuning
from paperkit.config import StrictModel
from paperkit.full_scale import FullScaleSettings, HubFile, Session
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.stage import Tables
from paperkit.training import warmup_cosine
from paperkit.tuning import LogRange, Tuned, draw_trials, ledger
from replications.lion.studies.arms import make_optimizer
from replications.lion.studies.full_scale import FILES, LanguageModel, LanguageTask, Split, Vision, VisionTask

MODULE = "replications.lion.paper"

Arm = Literal["adamw", "lion"]
ARMS: tuple[Arm, ...] = ("adamw", "lion")
Beta = Annotated[float, Field(ge=0, lt=1)]
Task = LanguageTask | VisionTask


class Search(StrictModel):
    """The declared space and budget; the same for both arms but for the candidate pairs of betas."""

    num_trials: int = Field(ge=1)  # of each arm, a power of two
    draw_seed: int = Field(ge=0)  # of the Sobol sequence
    run_seed: int = Field(ge=0)  # of initialisation and data order in all trials; not a reported one
    lr: LogRange  # peak learning rate
    weight_decay: LogRange  # decay coefficient
    betas: Mapping[Arm, list[Annotated[list[Beta], Field(min_length=2, max_length=2)]]]

    @model_validator(mode="after")
    def _fair(self) -> Self:
        if self.num_trials & (self.num_trials - 1):
            message = f"num_trials {self.num_trials} must be a power of two (1, 2, 4, 8, 16 …)"
            raise ValueError(message)
        candidates = {arm: len(self.betas.get(arm, [])) for arm in ARMS}
        if 0 in candidates.values() or len(set(candidates.values())) > 1:
            message = f"betas gives {candidates} candidate pairs; each of {ARMS} needs the same number, at least one"
            raise ValueError(message)
        return self

    def points(self, arm: Arm) -> list[dict[str, Any]]:
        """Draw the trials of one arm: learning rate, weight decay and betas of each."""
        space = {"lr": self.lr, "weight_decay": self.weight_decay, "betas": self.betas[arm]}
        return draw_trials(space, num_trials=self.num_trials, seed=self.draw_seed)


class Settings(FullScaleSettings):
    """One block of paper.yaml."""

    language_model: LanguageModel  # the task of lm_search and lm_quality
    language_model_search: Search
    vision: Vision  # the task of batch_search and batch_sweep
    vision_search: Search  # at each batch size

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        used = {self.language_model_search.run_seed, self.vision_search.run_seed}
        if used & set(self.seeds):
            message = f"seeds {self.seeds} must differ from the run_seed {used} of the searches"
            raise ValueError(message)
        for task in (self.language_model, self.vision):
            for batch in task.batches:
                self.hardware.require_equal_parts(batch, micro_batch=task.micro_batch)
        return self

    @property
    def files(self) -> Sequence[HubFile]:
        """Text, tokenizer and images."""
        return FILES


def run(settings: Settings, session: Session) -> Tables:
    """Tune both arms and re-run the selected points on fresh seeds: language model first, then the batch sizes."""
    precision = settings.hardware.precision
    language = LanguageTask.load(settings.language_model, session.fabric.device)
    vision = VisionTask.load(settings.vision, session.fabric.device)
    parts = [
        *study(session, language, settings.language_model_search, settings.seeds, precision),
        *study(session, vision, settings.vision_search, settings.seeds, precision),
    ]
    return Tables(
        runs=list(chain.from_iterable(part.runs for part in parts)),
        trials=list(chain.from_iterable(part.trials for part in parts)),
    )


def study(session: Session, task: Task, search: Search, seeds: Sequence[int], precision: str) -> Iterator[Tables]:
    """Compare the arms at each batch size of a task, each tuned for it with the same budget; one table a batch."""
    size = task.settings.model_dump(exclude={"batches", "micro_batch"})
    execute = partial(session, partial(measure, session.fabric, task))
    for batch in task.settings.batches:
        shared = {**size, "batch": batch, "precision": precision}
        points = {arm: search.points(arm) for arm in ARMS}
        trials = {
            arm: [execute(Run(task.search, arm, search.run_seed, {**shared, **point})) for point in points[arm]]
            for arm in ARMS
        }
        space = {"lr": search.lr, "weight_decay": search.weight_decay}
        rows, best = [], {}
        for arm in ARMS:
            tuned = Tuned(
                points[arm], [{search.run_seed: _selection_loss(task, of_trial)} for of_trial in trials[arm]]
            )
            of = tuning.Search(task.report, arm, shared, space, search.num_trials, task.metrics[0], {"batch": batch})
            rows += ledger(of, tuned, session.profile)
            best[arm] = tuned.best()
        report = [execute(Run(task.report, arm, seed, {**shared, **best[arm]})) for seed in seeds for arm in ARMS]
        yield Tables(runs=list(chain(*trials["adamw"], *trials["lion"], *report)), trials=rows)


def measure(fabric: Fabric, task: Task, run: Run) -> Iterator[Measurement]:
    """Train from scratch and yield losses; a trial of a search never looks at the test split."""
    initialisation, order, _ = seeds_of(run.seed)
    torch.manual_seed(initialisation)
    model = task.new_model()
    optimizer = make_optimizer(run.arm, model, run.config)
    draws = task.draws(order, run.config["batch"])
    steps = len(draws)
    warmup_steps = int(task.settings.warmup_share * steps)
    schedule = warmup_cosine(optimizer, steps=steps, warmup_steps=warmup_steps)
    model, optimizer = fabric.setup(model, optimizer)
    splits: tuple[Split, ...] = ("validation",) if run.experiment == task.search else ("validation", "test")
    for step, rows in enumerate(draws, start=1):
        # The norm is that of the averaged gradient, the same on all devices: they stop together.
        if not math.isfinite(take_step(fabric, task, model, optimizer, rows)):
            yield from (Measurement(split, steps, metric, math.nan) for split in splits for metric in task.metrics)
            return
        schedule.step()
        if step in task.evaluated_at(steps):
            loss, _ = evaluate(fabric, task, model, "validation")
            yield Measurement("validation", step, task.metrics[0], loss)
    for split in splits:
        for metric, value in zip(task.metrics, evaluate(fabric, task, model, split), strict=False):
            yield Measurement(split, steps, metric, value)


def take_step(fabric: Fabric, task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, rows: Tensor) -> float:
    """Take a step on rows (batch, columns), dealt to devices and accumulated; return the norm before clipping."""
    part = min(task.settings.micro_batch, len(rows) // fabric.world_size)
    parts = rows.view(-1, fabric.world_size, part, rows.shape[1])[:, fabric.global_rank].to(fabric.device)
    model.train()
    optimizer.zero_grad()
    for number, own in enumerate(parts, start=1):
        inputs, targets = task.examples("train", own)
        # Devices exchange gradients once a step, in the backward pass of the last part.
        with fabric.no_backward_sync(model, enabled=number < len(parts)):
            loss = functional.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())
            fabric.backward(loss / len(parts))
    norm = fabric.clip_gradients(model, optimizer, max_norm=task.settings.max_gradient_norm, error_if_nonfinite=False)
    optimizer.step()
    return norm.item()


@torch.no_grad()
def evaluate(fabric: Fabric, task: Task, model: nn.Module, split: Split) -> tuple[float, float]:
    """Measure a whole split, dealt to all devices: mean cross-entropy in nats, and share of right predictions."""
    model.eval()
    own = task.everything(split)[fabric.global_rank :: fabric.world_size].to(fabric.device)
    sums = torch.zeros(3, dtype=torch.float64, device=fabric.device)
    for rows in own.split(task.settings.micro_batch):
        inputs, targets = task.examples(split, rows)
        logits, targets = model(inputs).flatten(0, -2), targets.flatten()
        loss = functional.cross_entropy(logits, targets, reduction="sum")
        right = (logits.argmax(dim=1) == targets).sum()
        sums += torch.stack([loss.double(), right.double(), torch.full_like(loss, len(targets)).double()])
    loss, right, count = fabric.all_reduce(sums, reduce_op="sum").tolist()
    return loss / count, right / count


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study from its command line."""
    full_scale.main(Settings, run, module=MODULE, announced=["batch"], arguments=arguments)


def _selection_loss(task: Task, rows: Sequence[Mapping[str, Any]]) -> float:
    value = next(row["value"] for row in reversed(rows) if row["metric"] == task.metrics[0])
    return math.nan if value is None else value


if __name__ == "__main__":
    main()

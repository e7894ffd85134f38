"""Rows of rare tokens in the embedding, under optimizers and remedies, at one total decay q^T (C8r, C9, X21)."""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from paperkit.config import StrictModel
from paperkit.models.language_model import next_token_loss
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, Runner, execute, seeds_of
from paperkit.stage import Tables
from paperkit.texts import Split
from paperkit.training import train
from paperkit.tuning import LogRange, Search, tune
from replications.lion.betas import LION_BETAS
from replications.lion.studies import language_model
from replications.lion.studies.arms import OPTIMIZERS
from replications.lion.studies.language_model import LanguageModel
from replications.lion.studies.search import Count, PowerOfTwo, Searches, best_points, pairs

CLASSES = {"0": (0, 0), "1_9": (1, 9), "10_29": (10, 29), "30_99": (30, 99), "100": (100, None)}
# A share of entries beyond so much of the bound, by the end of the metric's name.
BEYOND = {"share": 0.8, "half_share": 0.5}
TIMES_LONGER = 4
# What moves the embedding, whether the output head is the same matrix, and what moves everything else.
ARMS = {
    "adamw": ("adamw", None, "adamw"),
    "lion": ("lion", None, "lion"),
    "lion_lazy_rows": ("lazy_lion", None, "lion"),
    "lion_tied": ("lion", "tied", "lion"),
    "lion_half_swapped": ("lion", "half_swapped", "lion"),
    "lion_adamw_embedding": ("adamw", None, "lion"),
}


class Embedding(StrictModel):
    """The task, the decay that all arms share, and both learning rates."""

    task: LanguageModel  # a large vocabulary; the learning rate is constant
    total_decay: float = Field(gt=0)  # η λ T of every matrix
    lr: LogRange  # of everything but the embedding
    embedding_lr: LogRange
    num_trials: PowerOfTwo  # of each arm, over the two learning rates
    num_seeds: Count  # of each arm
    num_variation_seeds: Count  # of runs of four times the steps, and of AdamW at Lion's rates


def run_embedding(study: Embedding, search: Searches, seeds: Sequence[int], runner: Runner) -> Tables:
    """Tune and report every remedy at equal η λ T."""
    task = {**study.task.in_runs, "total_decay": study.total_decay}
    space = {"lr": study.lr, "embedding_lr": study.embedding_lr}
    searches = [Search("lm_embedding", arm, task, space, study.num_trials, "loss_nats") for arm in ARMS]
    tuned, trials = tune(runner, measure_embedding_trial, searches, search)
    best = best_points(searches, tuned, task)
    fresh = seeds[: study.num_variation_seeds]
    # The total decay is given, so that in a longer run at the same rates the wall is as many times farther away.
    longer = {"steps": TIMES_LONGER * study.task.steps}
    grid = [
        *pairs("lm_embedding", best, seeds[: study.num_seeds]),
        *pairs("lm_embedding_longer", {arm: {**best[arm], **longer} for arm in ("adamw", "lion")}, fresh),
        *pairs("lm_embedding_lions_rates", {"adamw": best["lion"]}, fresh),
    ]
    return Tables(execute(runner, measure_embedding, grid), trials)


def measure_embedding(run: Run) -> Iterator[Measurement]:
    """Train, and look at the rows of the token embedding and of the output head by how often their token came."""
    # Beside the losses, for each class of counts: root mean square of its rows, shares of their entries beyond 0.8 and
    # 0.5 of q^T |θ₀| + (1 - q^T) / λ; and the half-width that a row pushed one way all the time would reach.
    task, model = LanguageModel.from_config(run.config), make_model(run)
    embedding, head = model.token_embedding.weight, model.head.weight
    starts = embedding.detach().clone(), head.detach().clone()
    data = _data(run)
    diverged = yield from _losses(run, model, data, ("validation", "test"))
    if diverged:
        names = ("embedding",) if head is embedding else ("embedding", "head")
        metrics = (
            f"{name}_{label}_{measured}" for name in names for label in CLASSES for measured in ("rms", *BEYOND)
        )
        yield from (Measurement("none", task.steps, metric, math.nan) for metric in metrics)
        return
    inputs, targets = (torch.cat([pair[side].flatten() for pair in data]) for side in (0, 1))
    yield from _rows("embedding", embedding, starts[0], inputs, run, run.config["embedding_lr"])
    if head is not embedding:
        yield from _rows("head", head, starts[1], targets, run, run.config["lr"])


def measure_embedding_trial(run: Run) -> Iterator[Measurement]:
    """Train as `measure_embedding` does, and look only at what may select: never at the test split."""
    yield from _losses(run, make_model(run), _data(run), ("validation",))


def make_model(run: Run) -> TinyGPT:
    """Make the model of an arm, tied or not; with swapped halves one matrix, whose halves change places as output."""
    tying = ARMS[run.arm][1]
    model = language_model.make_model(run, tied=tying is not None)
    if tying == "half_swapped":
        # Instead of the matrix's halves, those of the head's input change places: the same product.
        model.final_norm.register_forward_hook(_swap_halves)
    return model


def make_optimizer(run: Run, model: TinyGPT) -> "OptimizerPair":
    """Make the two optimizers of an arm: of the token embedding and what is tied to it, and of everything else."""
    moves_embedding, _, moves_rest = ARMS[run.arm]
    embedding = model.token_embedding.weight
    rest = [p for p in model.parameters() if p is not embedding]
    return OptimizerPair(
        _optimizer(moves_embedding, [embedding], run.config["embedding_lr"], run),
        _optimizer(moves_rest, rest, run.config["lr"], run),
    )


def _data(run: Run) -> list[tuple[Tensor, Tensor]]:
    return list(LanguageModel.from_config(run.config).batches(seeds_of(run.seed)[1]))


def _losses(
    run: Run, model: TinyGPT, data: list[tuple[Tensor, Tensor]], splits: Sequence[Split]
) -> Generator[Measurement, None, bool]:
    """Train and yield the losses of the splits; return whether the run diverged."""
    task, optimizer = LanguageModel.from_config(run.config), make_optimizer(run, model)
    steps = train(model, data, next_token_loss, optimizer, max_gradient_norm=task.max_gradient_norm)  # pyright: ignore[reportArgumentType]
    return (yield from language_model.losses(task, model, steps, splits))


class OptimizerPair:
    """Two optimizers that step together, as `paperkit.training.train` calls them."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        """Keep them; their parameters are disjoint."""
        self.optimizers = optimizers

    def zero_grad(self) -> None:
        """Forget the gradients of both."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Step both."""
        for optimizer in self.optimizers:
            optimizer.step()


def decay_of(config: Mapping[str, Any], lr: float) -> float:
    """Return the λ that gives a learning rate the run's total decay η λ T."""
    return config["total_decay"] / (lr * config["steps"])


def _optimizer(arm: str, parameters: list[nn.Parameter], lr: float, run: Run) -> torch.optim.Optimizer:
    decay = decay_of(run.config, lr)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return OPTIMIZERS[arm](groups, lr, LION_BETAS)


def _swap_halves(_module: nn.Module, _inputs: Any, hidden_BTD: Tensor) -> Tensor:
    return hidden_BTD.roll(hidden_BTD.shape[-1] // 2, dims=-1)


def _rows(name: str, now: Tensor, start: Tensor, tokens: Tensor, run: Run, lr: float) -> Iterator[Measurement]:
    steps, decay = run.config["steps"], decay_of(run.config, lr)
    shrinkage = (1 - lr * decay) ** steps
    reach = (1 - shrinkage) / decay
    counts = torch.bincount(tokens, minlength=len(now))
    bound = shrinkage * start.abs() + reach
    for label, (least, most) in CLASSES.items():
        chosen = (counts >= least) & (counts <= (math.inf if most is None else most))
        rows = now.detach()[chosen].double()
        yield Measurement("none", steps, f"{name}_{label}_rms", math.sqrt(float(rows.square().mean())))
        for measured, part in BEYOND.items():
            beyond = rows.abs() > part * bound[chosen]
            yield Measurement("none", steps, f"{name}_{label}_{measured}", float(beyond.double().mean()))
        yield Measurement("none", steps, f"{name}_{label}_rows", float(chosen.sum()))
    yield Measurement("none", steps, f"{name}_reach", reach)

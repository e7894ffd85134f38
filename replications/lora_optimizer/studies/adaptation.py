"""A tiny GPT trained on documentation, then adapted to speeches by every arm: ranks, variants, and what is forgotten.

Both texts are read with one tokenizer, that of both. Training from scratch is the same for all arms of a seed. Then
only the matrices of the linear layers move ("others" aside), and the source is what the model was trained on first.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from paperkit.config import StrictModel
from paperkit.datasets import read_table
from paperkit.models.language_model import even_windows, mean_loss, next_token_loss, random_windows
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.texts import Split, TextModel, token_stream
from paperkit.training import train, warmup_cosine
from paperkit.tuning import Search, Tuned
from replications.lora_optimizer.optimizer import LoRAOptimizer, linear_weights
from replications.lora_optimizer.studies.arms import SERIAL, WITH_SGD, Arm, Together, optimizer_of
from replications.lora_optimizer.studies.frontier import Frontier, gained_and_lost

Domain = Literal["sotu", "python_docs"]
BOTH = "sotu_and_python_docs"
SOURCE, TARGET = "python_docs", "sotu"
LONG = 4
ALPHA = 16.0  # of the variation in which the scale is alpha / r
# Compared in claims that decide the headline; all of them again under each variation.
PRIMARY = ("sgd", "resampled_8", "lora_1", "lora_4", "ones_1", "ones_4")
SCALED = ("lora_1", "lora_4")
RATIOS = ("lora_4_ratio_1", "lora_4_ratio_4", "lora_4_ratio_16", "lora_4_ratio_64")
PENALISED = (1, 2, 4, 8, 16)  # ranks of resampled projections at a quarter of SGD's rate
STARTS = ("lora_4", "lora_4_a0", "lora_4_both", "lora_4_ga")  # held against full training's direction


class Task(TextModel):
    """The model and both of its trainings; what a run's configuration holds beside the rate."""

    batch: int = Field(ge=1)  # windows a step
    pretraining_steps: int = Field(ge=2)
    pretraining_lr: float = Field(gt=0)
    norm: Literal["layer", "rms"] = "layer"
    steps: int = Field(ge=10)
    evaluation_windows: int = Field(ge=1)
    curve_points: int = Field(default=0, ge=0, le=50)  # evaluations of the validation loss along a run


class Adaptation(StrictModel):
    """The study; each list of rates serves all its arms, and its length is a power of two."""

    task: Task
    rates: list[float] = Field(min_length=2)  # with AdamW
    sgd_rates: list[float] = Field(min_length=2)
    arms: list[str]  # with AdamW, beside the primary ones
    sgd_arms: list[str]
    frontiers: dict[str, list[str]]  # arms that are held against each other at equal loss
    num_seeds: int = Field(ge=1)  # of the primary arms and of the frontiers
    num_exploratory_seeds: int = Field(ge=1)
    num_variation_seeds: int = Field(ge=1)

    def searches(self) -> list[Search]:
        """List the searches: from one list within each experiment."""
        grids = {
            "adapt": (*(arm for arm in PRIMARY if not arm.startswith(WITH_SGD)), *self.arms),
            "adapt_sgd": (*PRIMARY[:2], *self.sgd_arms),
            "adapt_ratio": RATIOS,
            "adapt_alpha": SCALED,
            "adapt_rms": ("ones_1", "signs_1"),
        }
        changes: dict[str, dict[str, Any]] = {"adapt_alpha": {"alpha": ALPHA}, "adapt_rms": {"norm": "rms"}}
        task = self.task.model_dump() | {"corpus": BOTH, "curve_points": 0}
        return [
            Search(name, arm, task | changes.get(name, {}), {"lr": rates}, len(rates), "loss_nats")
            for name, arms in grids.items()
            for rates in (self.sgd_rates if name == "adapt_sgd" else self.rates,)
            for arm in arms
        ]

    def reports(self, tuned: Sequence[Tuned], seeds: Sequence[int]) -> list[Run]:
        """List the reported runs from the outcome of each search, heavy runs first."""
        few = seeds[: self.num_exploratory_seeds]
        points: dict[tuple[str, str], dict[str, Any]] = {}
        runs: list[Run] = []
        best_ratio = (math.inf, "")

        def add(name: str, arm: str, config: dict[str, Any], chosen: Sequence[int] = few) -> None:
            runs.extend(Run(name, arm, seed, config) for seed in chosen)

        for search, outcome in zip(self.searches(), tuned, strict=True):
            config = points[search.experiment, search.arm] = {**search.task, **outcome.best()}
            if search.experiment != "adapt_ratio":
                primary = search.arm in PRIMARY and search.experiment != "adapt_rms"
                add(search.experiment, search.arm, config, seeds[: self.num_seeds] if primary else few)
            elif search.arm != RATIOS[0]:
                losses = outcome.losses[outcome.best_trial()].values()
                best_ratio = min(best_ratio, (sum(losses) / len(losses), search.arm))
        # LoRA+'s ratio is selected on tuning seeds, and reported on others.
        for name, arm in (("equal_rates", RATIOS[0]), ("best_ratio", best_ratio[1])):
            add("adapt_ratio", name, {**points["adapt_ratio", arm], "curve_points": self.task.curve_points, "as": arm})
        for arm in STARTS:
            add("geometry", arm, {**points["adapt", arm], "full_lr": points["adapt", "full"]["lr"]})
        sgd = points["adapt_sgd", "sgd"]
        for arm in ("sgd", *(f"resampled_{r}" for r in PENALISED)):
            add("penalty", arm, {**sgd, "lr": sgd["lr"] / 4})
        return self._variations(points, seeds[: self.num_variation_seeds]) + runs

    def _variations(self, points: Mapping[tuple[str, str], dict[str, Any]], seeds: Sequence[int]) -> list[Run]:
        """List the runs under other conditions, at the rates that were selected under the usual ones."""
        changes = {f"adapt_{LONG}_times": {"steps": LONG * self.task.steps}, "adapt_all": {"others": True}}
        usual = {}
        for arm in (*PRIMARY, "full"):
            name, base, share = ("adapt_sgd", "sgd", 4) if arm.startswith(WITH_SGD) else ("adapt", "full", 1)
            # Embedding, gains and biases have no factors: they take the rate that is best for whole matrices; with SGD
            # a quarter of it, since at all of it one seed in three diverged.
            usual[arm] = {**points[name, arm], "others_lr": points[name, base]["lr"] / share}
        return [
            Run(name, arm, seed, usual[arm] | change)
            for name, change in changes.items()
            for seed in seeds
            for arm in usual
        ]

    def forgetting(self) -> list[Frontier]:
        """List the comparisons at equal gain, and the primary one under other conditions, at the gains that it has."""
        task = self.task.model_dump() | {"corpus": BOTH, "curve_points": 0}
        found = []
        for name, arms in self.frontiers.items():
            rates = self.sgd_rates if name == "sgd" else self.rates
            number = self.num_seeds if name == "sgd" else self.num_exploratory_seeds
            found.append(Frontier(f"frontier_{name}", dict.fromkeys(arms, rates), task, number))
            if name == "sgd":
                primary = dict.fromkeys(PRIMARY[:2], rates)
                for more, change in (("4_times", {"steps": LONG * self.task.steps}), ("all", {"others": True})):
                    number, config = self.num_variation_seeds, task | change
                    found.append(Frontier(f"frontier_sgd_{more}", primary, config, number, "frontier_sgd"))
        return found


def measure_adaptation(run: Run) -> Iterator[Measurement]:
    """Adapt and report: losses of both texts before and after, on the test split; of a trial only what may select."""
    if "full_lr" in run.config:
        yield from _geometry(run)
        return
    model, task, steps = _started(run), Task.from_config(run.config), run.config["steps"]
    is_trial = run.experiment.endswith("_search")
    if run.arm in ("sgd", "full") and not is_trial:  # it is that of all arms of the seed
        yield from (Measurement("test", 0, f"start_{name}", value) for name, value in _losses(model, task).items())
    curve = {round(steps * point / (task.curve_points + 1)) for point in range(1, task.curve_points + 1)}
    for step, _ in _adapted(run, model):
        if step in curve:
            yield Measurement("validation", step, "loss_nats", _loss(model, task, TARGET, "validation"))
    if curve or is_trial:
        yield Measurement("validation", steps, "loss_nats", _loss(model, task, TARGET, "validation"))
    if not is_trial:
        yield from (Measurement("test", steps, name, value) for name, value in _losses(model, task).items())


def measure_frontier(run: Run) -> Iterator[Measurement]:
    """Adapt at one rate of a frontier; report what was gained on the target, and lost on the source."""
    task, start, model = Task.from_config(run.config), _started(run), _started(run)
    for _ in _adapted(run, model):
        pass
    target, source = partial(_windows, task, TARGET), partial(_windows, task, SOURCE)
    yield from gained_and_lost(run, start, model, target, source)


def _geometry(run: Run) -> Iterator[Measurement]:
    """Hold an arm against full training on the same batches: its direction, and what its steps leave out (C5, C11)."""
    model, full = _started(run), _started(run)
    start, shares, before = _vector(model), [], None
    for _ in _adapted(Run(run.experiment, "full", run.seed, {**run.config, "lr": run.config["full_lr"]}), full):
        pass
    for step, together in _adapted(run, model):
        (optimizer,) = together.optimizers
        assert isinstance(optimizer, LoRAOptimizer), "arms of the geometry are LoRA's"
        after = optimizer.factors()
        if before and step < run.config["steps"]:  # the last rate of the schedule is zero
            for was, now in zip(before.values(), after.values(), strict=True):
                step_A, step_B = now.A - was.A, now.B - was.B
                first_order = step_B @ was.A + was.B @ step_A
                shares.append(float((step_B @ step_A).norm() / first_order.norm()))
        before = after
    moved, as_full = _vector(model) - start, _vector(full) - start
    steps = run.config["steps"]
    yield Measurement("none", steps, "second_order_share", float(np.median(shares)))
    yield Measurement("none", steps, "direction_cosine", float(functional.cosine_similarity(moved, as_full, dim=0)))


def _started(run: Run) -> TinyGPT:
    """Make the model that all arms of a seed start from; "others" aside, only its matrices are trained."""
    task = Task.from_config(run.config)
    model = _make(task)
    pretraining = task.model_dump(exclude={"steps", "evaluation_windows", "curve_points"})
    model.load_state_dict(_pretrained(run.seed, tuple(pretraining.items())))
    weights = {p for _, p in linear_weights(model)}
    for parameter in model.parameters():
        parameter.requires_grad_(run.config.get("others", False) or parameter in weights)
    return model


def _make(task: Task) -> TinyGPT:
    model = task.make(tied=True)
    if task.norm == "rms":
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.LayerNorm):
                model.set_submodule(name, nn.RMSNorm(task.width, eps=1e-5))
    return model


@lru_cache(maxsize=32)
def _pretrained(seed: int, items: tuple[tuple[str, Any], ...]) -> dict[str, Tensor]:
    """Train from scratch on the source; a worker does it once for all arms of a seed."""
    of = dict(items)
    initialisation, data, _ = seeds_of(seed)
    torch.manual_seed(initialisation)
    task, steps = Task.from_config({**of, "steps": 10, "evaluation_windows": 1}), of["pretraining_steps"]
    model = _make(task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=of["pretraining_lr"], weight_decay=0.1, fused=True)
    stream = domain_stream(SOURCE, "train", task.vocabulary)
    batches = random_windows(stream, context=task.context, batch=task.batch, steps=steps, seed=data)
    schedule = warmup_cosine(optimizer, steps=steps, warmup_steps=steps // 10)
    for _step in train(model, batches, next_token_loss, optimizer, schedule=schedule, max_gradient_norm=1.0):
        pass
    return model.state_dict()


def _adapted(run: Run, model: TinyGPT) -> Iterator[tuple[int, Together]]:
    """Adapt a model in place with the arm's optimizer; yield the steps taken, and the optimizer."""
    task, weights = Task.from_config(run.config), linear_weights(model)
    _, first_data, starts = seeds_of(run.seed)
    # Not the batches of the first training's seed: other draws, and the same ones for all arms.
    data = int(np.random.SeedSequence((first_data, 1)).generate_state(1)[0])
    stream = domain_stream(TARGET, "train", task.vocabulary)
    batches = list(random_windows(stream, context=task.context, batch=task.batch, steps=task.steps, seed=data))
    arm = run.config.get("as", run.arm)
    if Arm.of(arm).variant == "ga":
        next_token_loss(model(batches[0][0]), batches[0][1]).backward()
    taken = {p for _, p in weights}
    others = [p for p in model.parameters() if p not in taken] if run.config.get("others") else []
    optimizer = optimizer_of(arm, weights, run.config, steps=task.steps, seed=starts, others=others)
    for step in train(model, batches, next_token_loss, optimizer):
        yield step.number, optimizer
        if not math.isfinite(step.loss):  # nor are the weights now, and GaLore could not decompose their gradient
            return
        if Arm.of(arm).variant.endswith("serial") and step.number % math.ceil(task.steps / SERIAL) == 0:
            optimizer.optimizers[0].restart()


def _vector(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for _, p in linear_weights(model)])


def _windows(task: Task, domain: Domain, split: Split) -> tuple[Tensor, Tensor]:
    stream = domain_stream(domain, split, task.vocabulary)
    return even_windows(stream, context=task.context, number=task.evaluation_windows)


def _loss(model: nn.Module, task: Task, domain: Domain, split: Split) -> float:
    return mean_loss(model, *_windows(task, domain, split))


def _losses(model: nn.Module, task: Task) -> dict[str, float]:
    return {"loss_nats": _loss(model, task, TARGET, "test"), "source_loss_nats": _loss(model, task, SOURCE, "test")}


@cache
def domain_stream(domain: Domain, split: Split, vocabulary: int) -> Tensor:
    """Return the tokens of one of the two texts, read with the tokenizer of both, shape (tokens,)."""
    stream = token_stream(split, vocabulary, BOTH)
    # Before each text stands token 0, and the speeches come first.
    speeches = len(read_table("sotu", columns=["year"], split=split))
    documentation = int((stream == 0).nonzero()[speeches])
    return stream[:documentation] if domain == "sotu" else stream[documentation:]

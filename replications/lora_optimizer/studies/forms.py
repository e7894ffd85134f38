"""Equality of both forms, second order, scatter and largest rate of resampling, on random models without texts."""

from collections.abc import Iterator
from math import sqrt

import torch
from pydantic import Field
from torch import Tensor, nn

from paperkit.config import StrictModel
from paperkit.models.language_model import next_token_loss
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, seeds_of
from replications.lora_optimizer.factors import linear_weights, project_gradient
from replications.lora_optimizer.optimizer import LoRAOptimizer
from replications.lora_optimizer.studies.structural import equality
from replications.lora_optimizer.variants import ResampledProjection, resampled_gradient

VOCABULARY, WIDTH, CONTEXT, BATCH, RANK = 64, 32, 16, 8, 4
OUTPUTS, INPUTS = 24, 16  # of the matrix that is projected
HALVINGS = 12  # of the interval of rates, to a thousandth


class Forms(StrictModel):
    """The study."""

    equality_steps: list[int] = Field(min_length=1)
    sgd_steps: int = Field(ge=1)
    sgd_rates: list[float] = Field(min_length=1)
    ranks: list[int] = Field(min_length=1)
    draws: int = Field(ge=2)
    cliff_steps: int = Field(ge=1)
    num_seeds: int = Field(ge=1)

    def runs(self, seeds: list[int]) -> list[Run]:
        """List the runs of every part on the same seeds."""
        parts = [("equality", dtype, {"steps": self.equality_steps}) for dtype in ("float64", "float32")]
        parts += [("second_order", f"lr_{lr:g}", {"steps": self.sgd_steps, "lr": lr}) for lr in self.sgd_rates]
        parts += [("variance", f"resampled_{r}", {"rank": r, "draws": self.draws}) for r in self.ranks]
        parts += [("cliff", f"resampled_{r}", {"rank": r, "steps": self.cliff_steps}) for r in self.ranks]
        chosen = seeds[: self.num_seeds]
        return [Run(f"forms_{part}", arm, seed, config) for part, arm, config in parts for seed in chosen]


def measure_forms(run: Run) -> Iterator[Measurement]:
    """Measure one part on one seed."""
    parts = {"equality": _equality, "second_order": _second_order, "variance": _variance, "cliff": _cliff}
    yield from (Measurement("none", *found) for found in parts[run.experiment.removeprefix("forms_")](run))


def _made(seed: int, dtype: torch.dtype) -> tuple[nn.Module, list[tuple[str, nn.Parameter]]]:
    torch.manual_seed(seeds_of(seed)[0])
    model = TinyGPT(vocabulary=VOCABULARY, width=WIDTH, layers=2, heads=4, context=CONTEXT)
    model.to(dtype).requires_grad_(False)
    return model, [(name, weight.requires_grad_()) for name, weight in linear_weights(model)]


def _generator(run: Run) -> torch.Generator:
    return torch.Generator().manual_seed(seeds_of(run.seed)[2])


def _batches(run: Run, number: int) -> list[tuple[Tensor, Tensor]]:
    tokens = torch.randint(VOCABULARY, (number, BATCH, CONTEXT + 1), generator=_generator(run))
    return [(batch[:, :-1], batch[:, 1:]) for batch in tokens]


def _equality(run: Run) -> Iterator[tuple[int, str, float]]:
    batches = _batches(run, max(run.config["steps"]))
    for taken in run.config["steps"]:
        model, matrices = _made(run.seed, getattr(torch, run.arm))
        equal, control = equality(model, matrices, batches[:taken], next_token_loss, RANK, seeds_of(run.seed)[2])
        yield from ((taken, "difference_ratio", equal), (taken, "control_ratio", control))


def _second_order(run: Run) -> Iterator[tuple[int, str, float]]:
    lr, (model, matrices) = run.config["lr"], _made(run.seed, torch.float64)
    optimizer = LoRAOptimizer(matrices, torch.optim.SGD, r=RANK, lr=lr, generator=_generator(run))
    ((inputs, targets),) = _batches(run, 1)  # the same at every step
    for step in range(1, run.config["steps"] + 1):
        optimizer.zero_grad()
        next_token_loss(model(inputs), targets).backward()
        before, factors = [weight.detach().clone() for _, weight in matrices], optimizer.factors()
        gradients = [project_gradient(weight.grad, *factors[name]) for name, weight in matrices]
        optimizer.step()
        second = [lr**2 * of_B @ of_A for of_A, of_B in gradients]  # the scale is 1
        whole = [weight.detach() - start for (_, weight), start in zip(matrices, before, strict=True)]
        of_second, of_whole = (float(sum(part.square().sum() for part in parts)) for parts in (second, whole))
        yield step, "second_order_share", sqrt(of_second / of_whole)


def _variance(run: Run) -> Iterator[tuple[int, str, float]]:
    rank, generator = run.config["rank"], _generator(run)
    gradient = torch.randn(OUTPUTS, INPUTS, generator=generator)
    sizes, scatter = ((OUTPUTS, rank), (rank, INPUTS)), torch.zeros(2)
    for _ in range(run.config["draws"]):
        u, v = (torch.randn(size, generator=generator) for size in sizes)
        steps = gradient @ v.T @ v / rank, resampled_gradient(gradient, u, v)
        scatter += torch.stack([(step - gradient).square().sum() for step in steps])
    for side, value in zip(("one_sided", "two_sided"), scatter / run.config["draws"], strict=True):
        yield 1, f"{side}_variance_ratio", float(value / gradient.square().sum())


def _cliff(run: Run) -> Iterator[tuple[int, str, float]]:
    rank, low, high = run.config["rank"], 0.0, 4.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _stands(run, rank, middle) else (low, middle)
    yield run.config["steps"], "largest_lr", low


def _stands(run: Run, rank: int, lr: float) -> bool:
    """Say whether the weight that starts at random ends shorter; its gradient is itself."""
    generator = _generator(run)
    weight = nn.Parameter(torch.randn(OUTPUTS, INPUTS, generator=generator))
    start, optimizer = float(weight.detach().norm()), ResampledProjection([weight], lr, r=rank, generator=generator)
    for _ in range(run.config["steps"]):
        weight.grad = weight.detach().clone()
        optimizer.step()
    return float(weight.detach().norm()) < start  # not so of nan

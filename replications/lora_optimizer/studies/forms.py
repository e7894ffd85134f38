"""On random models without texts: equality of both forms, second order, scatter and largest rate of resampling.

And what a step of each form costs, counted and not timed: bytes by what holds them, and operations of a model.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import sqrt

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from paperkit.config import StrictModel
from paperkit.models.language_model import next_token_loss
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, seeds_of
from replications.lora_optimizer.optimizer import Factors, LoRAOptimizer, linear_weights, project_gradient
from replications.lora_optimizer.variants import GaLore, ResampledProjection, resampled_gradient

VOCABULARY, WIDTH, CONTEXT, BATCH, RANK = 64, 32, 16, 8, 4
OUTPUTS, INPUTS = 24, 16  # of the matrix that is projected
HALVINGS = 12  # of the interval of rates, to a thousandth
COUNTED = {"vocabulary": 512, "layers": 2, "heads": 4}  # the model whose costs are counted
OPTIONS: Mapping[str, Mapping[str, bool]] = {
    "optimizer_form": {}, "incremental": {"incremental": True},
    "released": {"incremental": True, "release_gradients": True},
}  # fmt: skip


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


class Structural(nn.Module):
    """A linear layer with a low-rank branch beside it: x -> W0 x + s B (A x), form (2) of the post."""

    def __init__(self, linear: nn.Linear, factors: Factors) -> None:
        """Freeze the layer; the factors are what is trained."""
        super().__init__()
        self.linear, self.scale = linear.requires_grad_(False), factors.scale
        self.A, self.B = nn.Parameter(factors.A.clone()), nn.Parameter(factors.B.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer with the merged weight would."""
        return self.linear(x) + self.scale * nn.functional.linear(nn.functional.linear(x, self.A), self.B)


def equality(
    network: nn.Module,
    matrices: Iterable[tuple[str, nn.Parameter]],
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    rank: int,
    seed: int,
) -> tuple[float, float]:
    """Train both forms on the same batches with AdamW, and the usual one again without its scale.

    Returns:
        Largest difference of the weights' changes over the largest change: of both forms, and of the control.
    """
    matrices, batches = list(matrices), list(batches)
    chosen, start = {p for _, p in matrices}, {p: p.detach().clone() for _, p in matrices}
    names = {p: name for name, p in matrices}
    options = {"lr": 1e-3, "weight_decay": 0.0}
    generator = torch.Generator().manual_seed(seed)
    ours = LoRAOptimizer(matrices, r=rank, scale=2.0, generator=generator, **options)
    at_start, others = ours.factors(), []

    def fit(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss(network(inputs), targets).backward()
            optimizer.step()

    for scale in (2.0, 1.0):
        usual = copy.deepcopy(network)
        for (place, module), (_, twin) in zip(list(network.named_modules()), list(usual.named_modules()), strict=True):
            if isinstance(module, nn.Linear) and module.weight in chosen:
                usual.set_submodule(place, Structural(twin, at_start[names[module.weight]]._replace(scale=scale)))
        branches = {place: m for place, m in usual.named_modules() if isinstance(m, Structural)}
        optimizer = torch.optim.AdamW([f for m in branches.values() for f in (m.A, m.B)], **options)
        fit(usual, optimizer)
        others.append({place: scale * (m.B @ m.A).detach() for place, m in branches.items()})
    fit(network, ours)
    modules = dict(network.named_modules())
    moved = {place: (modules[place].weight - start[modules[place].weight]).detach() for place in others[0]}
    largest = max(float(of.abs().max()) for of in moved.values())
    equal, control = (max(float((of[place] - moved[place]).abs().max()) for place in moved) / largest for of in others)
    return equal, control


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


class Costs(StrictModel):
    """The study."""

    widths: list[int] = Field(min_length=1)
    ranks: list[int] = Field(min_length=1)
    tokens: int = Field(ge=1)

    def runs(self) -> list[Run]:
        """List one run for each form, width and rank; what is counted has no seed."""
        return [
            Run(f"costs_{width}_{rank}", arm, 0, {"width": width, "rank": rank, "tokens": self.tokens})
            for width in self.widths
            for rank in self.ranks
            for arm in ("full", "inside", *OPTIONS, "galore")
        ]


def measure_costs(run: Run) -> Iterator[Measurement]:
    """Take one step, and count what is held for it."""
    width, rank, tokens = (run.config[name] for name in ("width", "rank", "tokens"))
    torch.manual_seed(0)
    model = TinyGPT(**COUNTED, width=width, context=tokens, tied=True)
    model.requires_grad_(False)
    weights = linear_weights(model)
    trained = _put_inside(model, rank) if run.arm == "inside" else [p.requires_grad_() for _, p in weights]
    if run.arm in OPTIONS:
        optimizer = LoRAOptimizer(weights, r=rank, lr=1e-3, **OPTIONS[run.arm])
    else:
        optimizer = GaLore(trained, r=rank) if run.arm == "galore" else torch.optim.AdamW(trained)
    released: list[int] = []
    if run.arm == "released":  # registered after the optimizer's: what is left when a gradient has been projected
        for each in trained:
            each.register_post_accumulate_grad_hook(lambda p: released.append(_bytes([p]) if p.grad is None else 0))
    inputs = torch.randint(COUNTED["vocabulary"], (1, tokens + 1))
    held = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # views of one storage count once
        return tensor

    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = next_token_loss(model(inputs[:, :-1]), inputs[:, 1:])
        loss.backward()
        gradients = max(released) if released else _bytes([p.grad for p in trained if p.grad is not None])
        optimizer.step()
    base = getattr(optimizer, "base", None)
    kept, moments = (_tensors(each.state) for each in (optimizer, base or optimizer))
    counted = {
        "flops": counter.get_total_flops(),
        "gradient_bytes": gradients,
        # Of the optimizer form, the state of the base; beside it stand factors, and the start of the weights.
        "moment_bytes": _bytes(moments),
        "factor_bytes": _bytes(kept) if base else _bytes(trained) if run.arm == "inside" else 0,
        "activation_bytes": _bytes([t for at, t in saved.items() if at not in held]),
        "moments_of_factors_bytes": 4 * 2 * rank * sum(sum(p.shape) for _, p in weights),
        "moments_of_full_bytes": 4 * 2 * sum(p.numel() for _, p in weights),
    }
    yield from (Measurement("none", 1, name, float(value)) for name, value in counted.items())


def _put_inside(model: nn.Module, rank: int) -> list[nn.Parameter]:
    trained = []
    for place, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and module is not model.head:
            m, n = module.weight.shape
            branch = Structural(module, Factors(torch.randn(rank, n), torch.zeros(m, rank), 1.0))
            model.set_submodule(place, branch)
            trained += [branch.A, branch.B]
    return trained


def _tensors(state: Mapping) -> list[Tensor]:
    return [t for of in state.values() for t in of.values() if isinstance(t, Tensor) and t.dim()]


def _bytes(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)

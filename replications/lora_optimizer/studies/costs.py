"""What a step of each form costs, counted and not timed: bytes by what holds them, and operations of a model."""

from collections.abc import Iterator, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from paperkit.config import StrictModel
from paperkit.models.language_model import next_token_loss
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run
from replications.lora_optimizer.factors import Factors, linear_weights
from replications.lora_optimizer.optimizer import LoRAOptimizer
from replications.lora_optimizer.studies.structural import Structural
from replications.lora_optimizer.variants import GaLore

LAYERS, HEADS, VOCABULARY = 2, 4, 512
OPTIONS: Mapping[str, Mapping[str, bool]] = {
    "optimizer_form": {}, "incremental": {"incremental": True},
    "released": {"incremental": True, "release_gradients": True},
}  # fmt: skip


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
    model = TinyGPT(vocabulary=VOCABULARY, width=width, layers=LAYERS, heads=HEADS, context=tokens, tied=True)
    model.requires_grad_(False)
    weights = linear_weights(model)
    trained = _put_inside(model, rank) if run.arm == "inside" else [p.requires_grad_() for _, p in weights]
    optimizer = _optimizer(run.arm, weights, trained, rank)
    released: list[int] = []
    if run.arm == "released":  # registered after the optimizer's: what is left when a gradient has been projected
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(
                lambda p: released.append(_bytes([p]) if p.grad is None else 0)
            )
    inputs = torch.randint(VOCABULARY, (1, tokens + 1))
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


def _optimizer(
    arm: str, weights: list[tuple[str, nn.Parameter]], trained: list[nn.Parameter], rank: int
) -> torch.optim.Optimizer:
    if arm in OPTIONS:
        return LoRAOptimizer(weights, r=rank, lr=1e-3, **OPTIONS[arm])
    return GaLore(trained, r=rank) if arm == "galore" else torch.optim.AdamW(trained)


def _tensors(state: Mapping) -> list[Tensor]:
    return [t for of in state.values() for t in of.values() if isinstance(t, Tensor) and t.dim()]


def _bytes(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)

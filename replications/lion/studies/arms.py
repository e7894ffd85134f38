"""The optimizers under comparison, by the name of their arm, on equal terms: matrices decay, vectors do not."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from paperkit.training import matrices_only_decay
from replications.lion.optimizer import Lion
from replications.lion.variants import CautiousLion, CorrectedLion, LazyLion, Signum, Tiger

Groups = list[dict[str, Any]]
OPTIMIZERS: dict[str, Callable[[Groups, float, tuple[float, float]], torch.optim.Optimizer]] = {
    "adamw": lambda groups, lr, betas: torch.optim.AdamW(groups, lr=lr, betas=betas, eps=1e-8, fused=True),
    "lion": Lion,
    "corrected_lion": CorrectedLion,
    "cautious_lion": CautiousLion,
    "lazy_lion": LazyLion,
    "signum": lambda groups, lr, betas: Signum(groups, lr=lr, beta=_only(betas)),
    "tiger": lambda groups, lr, betas: Tiger(groups, lr=lr, beta=_only(betas)),
}
ARMS = ("adamw", "lion")
WITH_ONE_BETA = ("signum", "tiger")
VARIANTS = (*ARMS, "cautious_lion", *WITH_ONE_BETA)


def make_optimizer(arm: str, model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Make the optimizer of an arm; an arm with one beta has it twice in the configuration."""
    groups = matrices_only_decay(model, config["weight_decay"])
    first, second = config["betas"]
    optimizer = OPTIMIZERS[arm](groups, config["lr"], (first, second))
    if isinstance(optimizer, Tiger):
        _give_embeddings_row_wise_rms(optimizer, model)
    return optimizer


def _give_embeddings_row_wise_rms(tiger: Tiger, model: nn.Module) -> None:
    """Move embeddings to a group of their own: the source's code scales their steps row by row."""
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = tiger.param_groups[0]
    matrices["params"] = [p for p in matrices["params"] if p not in embeddings]
    if embeddings:
        options = {name: value for name, value in matrices.items() if name != "params"}
        rows = [p for p in model.parameters() if p in embeddings]
        tiger.add_param_group({**options, "params": rows, "row_wise_rms": True})


def _only(betas: tuple[float, float]) -> float:
    first, second = betas
    if first != second:
        message = f"betas are {betas}; this optimizer has one beta, given twice"
        raise ValueError(message)
    return first

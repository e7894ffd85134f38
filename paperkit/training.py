"""The training loop as a generator: it takes a step and yields what happened; its caller measures."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from paperkit.hardware import ON_CPU, Hardware


@dataclass(frozen=True)
class Step:
    """One finished optimizer step.

    Attributes:
        number: Steps taken so far, from 1.
        loss: Loss of the batch before the step, in the loss function's unit.
        gradient_norm: L2 norm of all gradients before clipping; None without clipping (it costs a small model a
            quarter of its step).
    """

    number: int
    loss: float
    gradient_norm: float | None


def train(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss_function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    max_gradient_norm: float = math.inf,
    hardware: Hardware = ON_CPU,
) -> Iterator[Step]:
    """Take one optimizer step a batch and yield each.

    A diverged run is yielded like any other (its loss is NaN or infinite): the caller decides what it means.

    Args:
        model: Maps inputs to predictions; trained in place.
        batches: Pairs (inputs, targets), one a step, on any device.
        loss_function: Maps (predictions, targets) to a scalar, the mean over samples.
        optimizer: Any torch optimizer over the model's parameters.
        schedule: Advanced once after each step.
        max_gradient_norm: Gradients are scaled down to this L2 norm; infinite for no clipping.
        hardware: Device of the model, precision of its products, and the most samples in one forward pass: the
            gradient of a larger batch is accumulated, each part with its share of the samples.

    Yields:
        The step just taken.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> batch = (torch.ones(4, 1), torch.zeros(4, 1))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> losses = [step.loss for step in train(model, [batch] * 20, nn.functional.mse_loss, sgd)]
        >>> losses[-1] <= losses[0]
        True
    """
    for number, (inputs, targets) in enumerate(batches, start=1):
        # The caller may have evaluated between two steps, and left the model in evaluation mode.
        model.train()
        optimizer.zero_grad()
        samples = len(inputs)
        size = hardware.micro_batch or samples
        losses = []
        for some_inputs, some_targets in zip(inputs.split(size), targets.split(size), strict=True):
            with torch.autocast(hardware.device, torch.bfloat16, enabled=hardware.precision == "bfloat16"):
                predictions = model(some_inputs.to(hardware.device))
                loss = loss_function(predictions, some_targets.to(hardware.device)) * (len(some_inputs) / samples)
            loss.backward()
            losses.append(loss.detach())
        norm = None
        if max_gradient_norm < math.inf:
            norm = nn.utils.clip_grad_norm_(model.parameters(), max_gradient_norm).item()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        yield Step(number, torch.stack(losses).sum().item(), norm)


def warmup_cosine(
    optimizer: torch.optim.Optimizer, *, steps: int, warmup_steps: int, final_fraction: float = 0.0
) -> torch.optim.lr_scheduler.LambdaLR:
    """Scale every group's learning rate: a linear rise, then half a cosine down to the final fraction.

    Args:
        optimizer: Its groups' current learning rates are the peaks.
        steps: Steps of the whole run.
        warmup_steps: Steps of the linear rise, at most `steps` - 2: the cosine needs two points.
        final_fraction: Factor at the last step, in [0, 1].

    Returns:
        A schedule to advance once a step.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = warmup_cosine(sgd, steps=10, warmup_steps=2)
        >>> schedule.get_last_lr()
        [0.5]
    """
    if not 0 <= warmup_steps <= steps - 2:
        message = f"warmup_steps is {warmup_steps}; allowed: 0 to {steps - 2} (steps - 2)"
        raise ValueError(message)
    if not 0 <= final_fraction <= 1:
        message = f"final_fraction is {final_fraction}; allowed: 0 to 1"
        raise ValueError(message)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / (steps - 1 - warmup_steps))
        return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def matrices_only_decay(model: nn.Module, weight_decay: float) -> list[dict]:
    """Split parameters into two groups: matrices and embeddings decay, vectors (biases, norm gains) do not.

    Args:
        model: Its parameters, each once (a tied matrix too).
        weight_decay: λ of the decaying group.

    Returns:
        Two parameter groups for a torch optimizer.

    Example:
        >>> [len(group["params"]) for group in matrices_only_decay(nn.Linear(2, 3), 0.1)]
        [1, 1]
    """
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]

"""Steps 18 and 19: what a step of each form costs in one layer, counted from tensors and products that are run."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.flop_counter import FlopCounterMode

from paperkit.checks import Check, Checks, by_name
from replications.lora_optimizer.reference import drawn

__all__ = ["CHECKS"]

FORMS = {
    "full": lambda x, w, *_: x @ w,
    "merged": lambda x, w, a, b: x @ (w.detach() + a @ b),  # (1) of the post
    "inside": lambda x, w, a, b: x @ w.detach() + (x @ a) @ b,  # (2)
}


def _layer(t: int, n: int, m: int, r: int, *, first: bool = False, freeze_a: bool = False) -> tuple[Tensor, ...]:
    """Draw t inputs, which need a gradient unless the layer is the first, w, a and b."""
    x, *weights = (drawn(seed, *shape) for seed, shape in enumerate([(t, n), (n, m), (n, r), (r, m)]))
    w, a, b = (weight.requires_grad_() for weight in weights)
    return x.requires_grad_(not first), w, a.requires_grad_(not freeze_a), b


def _operations(form: str, *shape: int, first: bool = False, outside: int = 0) -> int:
    """Count a step's products, forward and backward; outside is how many products a b the optimizer form makes."""
    x, w, a, b = _layer(*shape, first=first)
    with FlopCounterMode(display=False) as counter:
        FORMS[form](x, w, a, b).sum().backward()
        if outside:
            g = torch.ones_like(w)
            _ = g @ b.T, a.T @ g, [a @ b for _ in range(outside)]
    return counter.get_total_flops()


def step_18_operations() -> Check:
    """A step's products by torch's counter, seven cases. Control: 6 t n m also where the input has no gradient."""
    errors, controls = [], []
    for shape in ((48, 24, 20, 4), (16, 40, 56, 7)):
        t, n, m, r = shape
        whole, thin, square = t * n * m, t * r * (n + m), n * m * r
        cases = (
            (_operations("full", *shape), 6 * whole),
            (_operations("inside", *shape), 4 * whole + 6 * thin),
            (_operations("merged", *shape), 6 * whole + 6 * square),
            (_operations("full", *shape, outside=1), 6 * whole + 6 * square),
            (_operations("full", *shape, outside=2), 6 * whole + 8 * square),
            (_operations("full", *shape, first=True), 4 * whole),
            (_operations("inside", *shape, first=True), 2 * whole + 4 * t * n * r + 6 * t * m * r),
        )
        errors += [abs(found / form - 1) for found, form in cases]
        controls.append(abs(_operations("full", *shape, first=True) / (6 * whole) - 1))
    return Check(max(errors), min(controls))


def step_18_break_even() -> Check:
    """At r = n m / 3 (n + m) a step inside counts as much as full training. Control: at twice that rank."""

    def error(*shape: int) -> float:
        return abs(_operations("inside", *shape) / _operations("full", *shape) - 1)

    return Check(max(error(16, 48, 48, 8), error(16, 36, 18, 4)), min(error(16, 48, 48, 16), error(16, 36, 18, 8)))


def step_19_activations() -> Check:
    """Numbers kept for the backward pass: t n, inside t (n + r), with A frozen t r. Control: t r with A trained."""
    t, n, m, r = 48, 24, 20, 4

    def kept(form: str, *, freeze_a: bool = False) -> int:
        tensors: dict[int, Tensor] = {}
        with saved_tensors_hooks(lambda x: tensors.setdefault(x.data_ptr(), x), lambda x: x):
            FORMS[form](*_layer(t, n, m, r, freeze_a=freeze_a))
        return sum(x.numel() for x in tensors.values() if len(x) == t)

    found = kept("full") / (t * n), kept("inside") / (t * (n + r)), kept("inside", freeze_a=True) / (t * r)
    return Check(max(abs(ratio - 1) for ratio in found), kept("inside") / (t * r) - 1)


def step_19_memory() -> Check:
    """Numbers beside the model's weights and activations, for SGD and AdamW. Control: form (1) taken for form (2)."""
    n, m, r = 24, 20, 2  # 4 r (n + m) < n m
    square, thin, errors, controls = n * m, r * (n + m), [], []

    def numbers(optimizer: Optimizer, *tensors: Any) -> tuple[int, int]:
        optimizer.step()
        moments = sum(x.numel() for kept in optimizer.state.values() for x in kept.values() if getattr(x, "ndim", 0))
        return moments, moments + sum(x.numel() for x in tensors)

    for base, moments in ((SGD, 0), (AdamW, 2)):
        x, w, a, b = _layer(48, n, m, r)
        merged = w.detach() + a @ b
        merged.retain_grad()
        (x @ w + x @ merged).sum().backward()
        full, inside = numbers(base([w], lr=0.1), w.grad), numbers(base([a, b], lr=0.1), a, b, a.grad, b.grad)
        form_1 = numbers(base([a, b], lr=0.1), a, b, a.grad, b.grad, merged, merged.grad)[1]
        forms = moments * square, (moments + 1) * square, moments * thin, (moments + 2) * thin
        errors += [abs(x - y) for x, y in zip((*full, *inside), forms, strict=True)]
        errors.append(abs(form_1 - 2 * square - forms[-1]))
        controls.append(form_1 / inside[1] - 1)
    return Check(float(max(errors)), min(controls))


CHECKS: Checks = by_name(step_18_operations, step_18_break_even, step_19_activations, step_19_memory)

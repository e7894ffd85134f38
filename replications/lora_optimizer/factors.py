"""The two factors of a matrix's change: their gradients, their starts, and their names in peft.

Letters, in torch's layout (the transpose of the post's): W a weight (m x n: outputs x inputs), G = dL/dW, A (r x n)
and B (m x r) the factors as in peft, s the scale: W - W0 = s B A.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Factors", "initial_factors", "linear_weights", "peft_state_dict", "project_gradient"]

State = dict[str, Tensor]


class Factors(NamedTuple):
    """What a matrix has learned: W - W0 = scale B A, with A (r, n) and B (m, r)."""

    A: Tensor
    B: Tensor
    scale: float


def wide(dtype: torch.dtype) -> torch.dtype:
    """Precision of the factors of a weight: its own, at least float32."""
    return torch.promote_types(dtype, torch.float32)


def project_gradient(gradient: Tensor, A: Tensor, B: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Gradients of the factors from that of the weight: s B'G and s G A'.

    The gradients through X (W0 + A B) of Su's post (kexue.fm/archives/9590), transposed; the same numbers as
    backpropagation through a network with factors.

    Args:
        gradient: G, shape (m, n), real.
        A: Shape (r, n), dtype of `gradient`.
        B: Shape (m, r), dtype of `gradient`.
        scale: s; LoRA's is alpha / r, rsLoRA's alpha / sqrt(r).

    Returns:
        dL/dA, shape (r, n), and dL/dB, shape (m, r).

    Example:
        >>> gradient_of_A, _ = project_gradient(torch.ones(2, 3), torch.zeros(1, 3), torch.ones(2, 1), scale=0.5)
        >>> gradient_of_A.tolist()
        [[1.0, 1.0, 1.0]]
    """
    return (B.T @ gradient).mul_(scale), (gradient @ A.T).mul_(scale)


def initial_factors(
    init: str,
    shape: tuple[int, int],
    r: int,
    *,
    generator: torch.Generator | None = None,
    gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Starts of the factors of a matrix.

    Args:
        init: "B0" (peft's: A uniform in ±1/sqrt(n), B zero), "A0" (A zero, B uniform in ±1/sqrt(r), by the same rule),
            "both" (both uniform) or "ga" (LoRA-GA, Su's 10226: A has the right singular vectors 1 to r of G, B the
            left ones r+1 to 2r; with s = 1 a small step of SGD is then along G's best approximation of rank 2r).
        shape: (m, n).
        r: Rank >= 1; "ga" needs 2r <= min(n, m).
        generator: Of the uniform numbers, which are drawn on its device in float32.
        gradient: G, shape (m, n), for "ga".

    Returns:
        A, shape (r, n), and B, shape (m, r).

    Raises:
        ValueError: If `init` is none of the four, or r too large for "ga".
        RuntimeError: If "ga" has no gradient.

    Example:
        >>> A, B = initial_factors("ga", (2, 2), 1, gradient=torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
        >>> A.abs().tolist(), B.abs().tolist()
        ([[1.0, 0.0]], [[0.0], [1.0]])
    """
    if init not in ("B0", "A0", "both", "ga"):
        message = f"Unknown initialization init={init!r}; one of 'B0', 'A0', 'both', 'ga'"
        raise ValueError(message)
    rows, columns = shape
    if init == "ga":
        if 2 * r > min(shape):
            message = f"init='ga' needs 2r <= min(n, m), got r={r} for a matrix of shape {tuple(shape)}"
            raise ValueError(message)
        if gradient is None:
            message = "init='ga' needs gradients: call backward() before constructing the optimizer"
            raise RuntimeError(message)
        left, _, right = torch.linalg.svd(gradient.to(wide(gradient.dtype)), full_matrices=False)
        # Fused optimizers walk through memory: factors are contiguous, as their gradients are.
        A, B = (factor.clone(memory_format=torch.contiguous_format) for factor in (right[:r], left[:, r : 2 * r]))
        return A, B

    def uniform(*size: int) -> Tensor:
        device = generator.device if generator else None
        return (torch.rand(size, generator=generator, device=device) * 2 - 1) / math.sqrt(size[1])  # peft's fan-in

    A = torch.zeros(r, columns) if init == "A0" else uniform(r, columns)
    return A, torch.zeros(rows, r) if init == "B0" else uniform(rows, r)


def linear_weights(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Name the weights of a model's linear layers; what an embedding shares is left out, and a tied weight is once."""
    modules = list(model.modules())
    linear = {module.weight for module in modules if isinstance(module, nn.Linear)}
    linear -= {module.weight for module in modules if isinstance(module, nn.Embedding)}
    return [(name, param) for name, param in model.named_parameters() if param in linear]


def peft_state_dict(factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    """Name `factors()` for `peft.set_peft_model_state_dict`; its `LoraConfig` has their r, lora_alpha = scale r."""
    stems = {name: f"base_model.model.{name.removesuffix('.weight')}" for name in factors}
    in_A = {f"{stems[name]}.lora_A.weight": found.A for name, found in factors.items()}
    return in_A | {f"{stems[name]}.lora_B.weight": found.B for name, found in factors.items()}


# --- What the optimizers share -----------------------------------------------------------------------------------


def stacked(state: State, before: State | None = None) -> tuple[Tensor, Tensor]:
    """Factors of B A less their product before, or else at the start if that was not zero: one product, rank 2r."""
    minus = before or ({"A": state["A0"], "B": state["B0"]} if "A0" in state else None)
    if minus is None:
        return state["A"], state["B"]
    return torch.cat([state["A"], minus["A"]]), torch.cat([state["B"], -minus["B"]], dim=1)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options outside their range, in the words of torch and peft; NaN fails every comparison."""
    r = options["r"]
    if type(r) is not int or r <= 0:
        message = f"`r` should be a positive integer value but the value passed is {r}"
        raise ValueError(message)
    given = {key: value for key, value in options.items() if value is not None}
    words = {"lr": "learning rate"} | {key: f"{key} value" for key in ("lr_ratio", "momentum", "weight_decay")}
    wrong = [(text, given[key]) for key, text in words.items() if key in given and not given[key] >= 0]
    wrong += [(f"{key} value", given[key]) for key in ("alpha", "scale") if key in given and not given[key] > 0]
    betas = enumerate(given.get("betas", ()))
    wrong += [(f"beta parameter at index {index}", beta) for index, beta in betas if not 0 <= beta < 1]
    for text, value in wrong:
        message = f"Invalid {text}: {value}"
        raise ValueError(message)


def checked_scale(given: dict[str, Any], defaults: dict[str, Any]) -> float:
    """Check the options of a group of `LoRAOptimizer`, and give its s; the group goes before the defaults."""
    options = defaults | given
    if "alpha" in given or "scale" in given:
        options |= {"alpha": given.get("alpha"), "scale": given.get("scale")}
    check_options(options)
    r, alpha, scale = options["r"], options["alpha"], options["scale"]
    if alpha is not None and scale is not None:
        message = f"give alpha or scale, not both: alpha={alpha}, scale={scale}"
        raise ValueError(message)
    return scale if scale is not None else (r if alpha is None else alpha) / r

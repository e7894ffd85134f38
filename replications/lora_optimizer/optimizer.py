"""LoRA as an optimizer of an unchanged network (Su, kexue.fm/archives/9590), with any optimizer of `torch.optim`.

Letters, in torch's layout (the transpose of the post's): W a weight (m x n: outputs x inputs), G = dL/dW, A (r x n)
and B (m x r) the factors as in peft, s the scale: W - W0 = s B A. The network holds W and knows of no factors; per
matrix, one step is

    gA = s B'G,  gB = s G A'     the gradients of the factors, projected from that of the weight
    A, B = base(A, B, gA, gB)    any optimizer; AdamW's moments are 2 r (n + m) floats, not 2 n m
    W = W0 + s B A               or W0 + s (B A - B0 A0), where A and B both start elsewhere than at zero

which is what training A and B within the network does, step by step. The price: G is computed whole.
"""

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT

__all__ = ["Factors", "LoRAOptimizer", "initial_factors", "linear_weights", "peft_state_dict", "project_gradient"]

State = dict[str, Tensor]
outside_the_compiler: Any = torch.compiler.disable  # whose type would hide that of what it wraps


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


class LoRAOptimizer(Optimizer):
    """LoRA for a network that stays as it is: the conventions of `torch.optim`, with factors and moments as state.

    Matrices get factors, a tied one once. A group may have its own `r`, `alpha` or `scale`, `init`, `lr_ratio`,
    `train_A` and options of the base; schedulers act on the groups as always. Factors of bfloat16 and float16 weights
    are float32. The network may be compiled; a compiled step does what it does without. Load the network's state
    before the optimizer's. Clip with `clip_factors`: `clip_grad_norm_` sees G. Changes of a weight through `.data`,
    `.to()` or `vector_to_parameters` go unnoticed.

    Args:
        params: Tensors, named tensors (`linear_weights(model)`) or dicts of groups.
        base: Makes the optimizer of the factors from a list of groups and `base_kwargs`: a class of `torch.optim`, or
            `lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9)`. Its weight decay is of the factors, and
            pulls W to W0 where one of them starts at zero.
        r: Rank >= 1; above min(n, m) accepted with a warning.
        alpha: Sets s = alpha / r; where neither it nor `scale` is given, s = 1.
        scale: s > 0 itself, as alpha / sqrt(r) (rsLoRA).
        init: "B0", "A0", "both" or "ga", see `initial_factors`; "ga" takes the gradients of the backward pass before.
        incremental: Keep no W0: W += s (B_1 A_1 - B_0 A_0). Drifts in bfloat16.
        release_gradients: Project each gradient as soon as backpropagation has it, and free it. Backward passes
            before a step add up. No GradScaler, no DistributedDataParallel.
        others: "frozen", or "base": the base optimizer trains what is no matrix.
        strict: Refuse to go on after others have changed a weight; False takes the change into W0.
        lr: Of A, and of B times `lr_ratio`; None is the base's default.
        lr_ratio: LoRA+'s eta_B / eta_A; 16 is its advice.
        train_A: False leaves A at its start, without moments (LoRA-FA).
        generator: Of the starts.
        **base_kwargs: Options of the base.

    Raises:
        ValueError: If an option is outside its range, or a group with its own `r` has a tensor that is no matrix.
        TypeError: If a weight is not real floating point.
        RuntimeError: If "ga" finds no gradient; in `step`, if a gradient is sparse or a weight was changed outside.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2, 2))
        >>> optimizer = LoRAOptimizer([("w", weight)], torch.optim.SGD, r=1, lr=1.0)
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> A, B, scale = optimizer.factors()["w"]
        >>> torch.equal(weight, scale * B @ A), int(torch.linalg.matrix_rank(weight))
        (True, 1)
    """

    def __init__(
        self,
        params: ParamsT,
        base: Callable[..., Optimizer] = torch.optim.AdamW,
        *,
        r: int = 8,
        alpha: float | None = None,
        scale: float | None = None,
        init: str = "B0",
        incremental: bool = False,
        release_gradients: bool = False,
        others: str = "frozen",
        strict: bool = True,
        lr: float | Tensor | None = None,
        lr_ratio: float = 1.0,
        train_A: bool = True,
        generator: torch.Generator | None = None,
        **base_kwargs: Any,
    ) -> None:
        """Check the options, register the parameters and draw the factors; the class says what each means."""
        if others not in ("frozen", "base"):
            message = f"Unknown others={others!r}; 'frozen' or 'base'"
            raise ValueError(message)
        # A stand-in lets the base check its options in its own words, and tells their defaults.
        options = base_kwargs if lr is None else {"lr": lr, **base_kwargs}
        self.base = base([nn.Parameter(torch.zeros(1, 1))], **options)
        self.base.param_groups.clear()
        self._roles: list[tuple[int, bool]] = []  # of the base's groups: which of ours, and whether lr_ratio acts
        self._incremental, self._release, self._others, self._strict = incremental, release_gradients, others, strict
        self._generator, self._projected = generator, False
        self._handles: list[Any] = []
        self._versions: dict[Tensor, int] = {}
        own = {"r": r, "alpha": alpha, "scale": scale, "init": init, "lr_ratio": lr_ratio, "train_A": train_A}
        super().__init__(params, self.base.defaults | own)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, after checking its options; its matrices get factors."""
        marked = isinstance(param_group, dict) and "r" in param_group
        if isinstance(param_group, dict):  # anything else: let torch refuse it in its own words
            param_group = param_group | {"scale": checked_scale(param_group, self.defaults)}
        super().add_param_group(param_group)
        index, group = len(self.param_groups) - 1, self.param_groups[-1]
        trained: dict[str, list[Tensor]] = {"A": [], "B": [], "others": []}
        for place, param in enumerate(group["params"]):
            if param.ndim != 2:
                if marked:
                    message = f"parameter {place} of a group with its own r is no matrix: shape {tuple(param.shape)}"
                    raise ValueError(message)
                trained["others"].append(param)
                continue
            if not param.is_floating_point():
                message = f"{type(self).__name__} needs weights of real floating point, got {param.dtype}"
                raise TypeError(message)
            kept = {} if self._incremental else {"W0": param.detach().clone()}
            self.state[param].update(self._start(group, param) | kept)
            self._versions[param] = param._version
            trained["A"].append(self.state[param]["A"])
            trained["B"].append(self.state[param]["B"])
            if self._release and param.requires_grad:
                hook = functools.partial(self._project_and_release, index)
                self._handles.append(param.register_post_accumulate_grad_hook(hook))
        wanted = {"A": group["train_A"], "B": True, "others": self._others == "base"}
        for kind, tensors in trained.items():
            if tensors and wanted[kind]:
                self.base.add_param_group({"params": tensors})
                self._roles.append((index, kind == "B"))

    @outside_the_compiler
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update factors and weight of every matrix that has a gradient; return what `closure` did."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self.param_groups:
            message = "merge() has ended this optimizer"
            raise RuntimeError(message)
        self._project_all()
        moving = [(group, param) for _, group, param in self._matrices() if self.state[param]["B"].grad is not None]
        for group, param in moving:
            self._look_for_changes(group, param)
        states = {param: self.state[param] for _, param in moving}
        before = {
            param: {key: state[key].clone() for key in "AB"} for param, state in states.items() if "W0" not in state
        }
        for (index, is_B), inner in zip(self._roles, self.base.param_groups, strict=True):
            group = self.param_groups[index]
            # alpha is ours; RMSprop has one of its own, which its factory gives.
            inner.update({key: group[key] for key in self.base.defaults if key != "alpha"})
            inner["lr"] = group["lr"] * group["lr_ratio"] if is_B else group["lr"]
        self.base.step()
        for group, param in moving:
            state = states[param]
            self._write(param, state.get("W0", param), state, group["scale"], before.get(param))
            self._versions[param] = param._version
        self._forget_gradients()
        return loss

    @torch.no_grad()
    def clip_factors(self, max_norm: float) -> Tensor:
        """Clip the norm of all gradients that the base sees, as `clip_grad_norm_` in a network with factors does."""
        self._project_all()
        self._projected = True
        return nn.utils.clip_grad_norm_([p for group in self.base.param_groups for p in group["params"]], max_norm)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of weights and factors."""
        super().zero_grad(set_to_none)
        self._forget_gradients()

    def factors(self) -> dict[str, Factors]:
        """Copy what each matrix has learned, by its name or place: [A; A0] and [B, -B0] for "both" and "ga"."""
        pairs = [(group, param) for group in self.param_groups for param in group["params"]]
        names = [name for group in self.param_groups for name in group.get("param_names", ())]
        return {
            name: self._factors(self.state[param], group["scale"])
            for (group, param), name in zip(pairs, names or map(str, range(len(pairs))), strict=True)
            if param in self.state
        }

    @torch.no_grad()
    def restart(self) -> None:
        """Take the weights for W0, with new factors and no moments: LoRA after LoRA, as a comment of Su's has it."""
        for _, group, param in self._matrices():
            state = self.state[param]
            for key, value in (self._start(group, param) | ({"W0": param} if "W0" in state else {})).items():
                state[key].copy_(value)
            for key in "AB":
                self.base.state.pop(state[key], None)

    def merge(self) -> None:
        """End: the weights hold what was learned; factors, moments, W0 and hooks are freed."""
        for handle in self._handles:
            handle.remove()
        for part in (self.state, self.param_groups, self.base.state, self.base.param_groups, self._versions):
            part.clear()

    def state_dict(self) -> dict[str, Any]:
        """Factors, W0 and groups as torch has them, and under "base" the state of the base optimizer."""
        return super().state_dict() | {"base": self.base.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another optimizer of such groups stopped, with the same bits; the weights are the network's."""
        for own, saved in zip(self.param_groups, state_dict["param_groups"], strict=False):
            if own["r"] != saved["r"]:
                message = f"the saved factors have rank r={saved['r']}, those of this optimizer r={own['r']}"
                raise ValueError(message)
        state = self.state
        super().load_state_dict(state_dict | {"state": {}})  # torch would cast the factors to the weights' dtype
        self.state = state
        keys = [key for group in state_dict["param_groups"] for key in group["params"]]
        for param, key in zip([p for group in self.param_groups for p in group["params"]], keys, strict=True):
            if param in state:
                factors = {name: state[param][name].copy_(state_dict["state"][key][name]) for name in "AB"}
                rest = {name: value.to(param.device, copy=True) for name, value in state_dict["state"][key].items()}
                state[param] = rest | factors
                self._versions[param] = param._version
        self.base.load_state_dict(state_dict["base"])

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Answer a GradScaler, which asks before its step and would find no gradient to unscale."""
        if self._release:
            message = "release_gradients=True leaves a GradScaler no gradient to unscale; use bfloat16 without one"
            raise RuntimeError(message)
        return False

    # The next four are what the additive form does otherwise.

    def _start(self, group: dict[str, Any], param: Tensor) -> State:
        """State of a matrix but W0: A, B, and their start where its product is not zero."""
        rows, columns = param.shape
        if group["r"] > min(rows, columns):
            message = f"r={group['r']} exceeds min(n, m) of a matrix of shape {(rows, columns)}: full rank is reached"
            warnings.warn(message, stacklevel=2)
        options = {"generator": self._generator, "gradient": param.grad}
        drawn = initial_factors(group["init"], (rows, columns), group["r"], **options)
        A, B = (factor.to(param.device, wide(param.dtype)) for factor in drawn)
        return {"A": A, "B": B} | ({"A0": A.clone(), "B0": B.clone()} if group["init"] in ("both", "ga") else {})

    def _gradients(self, state: State, gradient: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        return project_gradient(gradient, state["A"], state["B"], scale)

    def _write(self, target: Tensor, start: Tensor, state: State, scale: float, before: State | None = None) -> None:
        """Set target = start + s (B A - B_before A_before), one product and one rounding; see `stacked`."""
        A, B = stacked(state, before)
        if target.dtype == A.dtype:
            torch.addmm(start, B, A, alpha=scale, out=target)
        else:
            target.copy_(torch.addmm(start.to(A.dtype), B, A, alpha=scale))

    def _factors(self, state: State, scale: float) -> Factors:
        A, B = stacked(state)
        return Factors(A.clone(), B.clone(), scale)

    def _matrices(self) -> Iterator[tuple[int, dict[str, Any], Tensor]]:
        """List the weights that have factors, with their group and its place."""
        for index, group in enumerate(self.param_groups):
            yield from ((index, group, param) for param in group["params"] if param in self.state)

    def _project_all(self) -> None:
        """Project the gradients that are there, once between two steps."""
        for index, _, param in self._matrices():
            if param.grad is not None and not self._projected:
                self._project(index, param)

    @torch.no_grad()
    def _project_and_release(self, index: int, param: Tensor) -> None:
        self._project(index, param)
        param.grad = None

    def _project(self, index: int, param: Tensor) -> None:
        """Add the projections of a gradient to those of earlier backward passes."""
        gradient, group, state = param.grad, self.param_groups[index], self.state[param]
        assert gradient is not None
        if gradient.layout is not torch.strided:
            message = f"{type(self).__name__} does not support sparse gradients"
            raise RuntimeError(message)
        projected = self._gradients(state, gradient.to(state["A"].dtype), group["scale"])
        for key, found in zip("AB", projected, strict=True):
            if key == "B" or group["train_A"]:
                earlier = state[key].grad
                state[key].grad = found if earlier is None else earlier.add_(found)

    def _forget_gradients(self) -> None:
        """Free the gradients of the factors, which belong to one step."""
        self._projected = False
        for _, _, param in self._matrices():
            self.state[param]["A"].grad = self.state[param]["B"].grad = None

    def _look_for_changes(self, group: dict[str, Any], param: Tensor) -> None:
        """Refuse a weight that others have changed since the last step, or take the change into W0."""
        if param._version == self._versions[param]:
            return
        if self._strict:
            message = (
                f"a weight of shape {tuple(param.shape)} was changed outside the optimizer since its last step; load "
                "the network's state before the optimizer's, or pass strict=False to take changes into W0"
            )
            raise RuntimeError(message)
        state = self.state[param]
        if "W0" in state:
            self._write(state["W0"], param, state, -group["scale"])

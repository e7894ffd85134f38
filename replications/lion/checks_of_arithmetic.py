"""Steps 12 to 17 of the derivation: sparse gradients, and what finite memory and precision do to Lion."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import Parameter

from paperkit.checks import Check, by_name
from replications.lion.betas import ADAMW_BETAS
from replications.lion.optimizer import Lion, lion_update
from replications.lion.trajectory import MakerOf, given, largest, lion_maker, normal, small_network, trajectory
from replications.lion.variants import Tiger

__all__ = ["CHECKS", "adamw_further_update", "ballistic_path", "rounds_to_itself", "stuck_units"]

HALF_DTYPES = (torch.float16, torch.bfloat16)
ACCUMULATION_STEPS = 4

Betas = tuple[float, float]


# --- Step 12: sparse gradients -----------------------------------------------------------------------------------


def ballistic_path(start: Tensor, gradient: Tensor, steps: Tensor, *, lr: float, weight_decay: float) -> Tensor:
    """Path of Lion after one gradient and then zeros: q^t theta_0 - sign(g) (1 - q^t) / lambda, q = 1 - eta lambda."""
    # For theta_0 = 0, or of the sign of -g, this is the equality case of the box bound.
    # Shapes: start and gradient (D,), steps t >= 0 (T,), result (T, D).
    shrinkage = (1 - lr * weight_decay) ** steps[:, None]
    return shrinkage * start - gradient.sign() * (1 - shrinkage) / weight_decay


def adamw_further_update(betas: Betas) -> float:
    """Bound on all of AdamW's updates after its only gradient, that step's own not counted, in learning rates."""
    # max((1 - b1) / sqrt(1 - b2), 1) r / (1 - r), r = b1 / sqrt(b2), eps = 0; the page has the proof (step 12). If the
    # first of the two is the larger, the bound is approached as the gradient comes later: 28.6 for (0.9, 0.999).
    beta1, beta2 = betas
    ratio = beta1 / math.sqrt(beta2)
    if ratio >= 1:
        message = f"betas {betas} have b1^2 >= b2, so the updates do not decay; the bound needs b1^2 < b2"
        raise ValueError(message)
    return max((1 - beta1) / math.sqrt(1 - beta2), 1.0) * ratio / (1 - ratio)


def step_12_sparse_rows() -> Check:
    """After one gradient and then zeros Lion goes ballistically to -sign(g) / lambda, AdamW soon stops."""
    # AdamW's further update stays below `adamw_further_update`, whether the gradient comes at the first step or after
    # 100 steps, and equals it after 4000, when the bias corrections are 1 to rounding.
    # Control: the optimizers exchanged, AdamW against Lion's path, and Lion against AdamW's bound.
    eta, weight_decay, num_steps = 1e-2, 0.5, 1000
    start, gradient = normal(10, 64), normal(11, 64)
    steps = torch.arange(num_steps + 1, dtype=torch.float64)
    expected = ballistic_path(start, gradient, steps, lr=eta, weight_decay=weight_decay)

    def path_error(optimizer_of: MakerOf) -> float:
        table = torch.cat([gradient[None], torch.zeros(num_steps - 1, 64, dtype=torch.float64)])
        return weight_decay * largest(trajectory(optimizer_of, given(table), start, num_steps) - expected)

    errors = [path_error(lion_maker(eta, weight_decay=weight_decay))]
    for betas, delay in ((ADAMW_BETAS, 0), (ADAMW_BETAS, 100), ((0.9, 0.95), 0), ((0.9, 0.99), 4000)):
        excess = _further_update(_adamw(1.0, betas), gradient, delay) / adamw_further_update(betas) - 1
        errors.append(largest(excess if delay == 4000 else excess.clamp(min=0)))
    excess = _further_update(lion_maker(), gradient, 0) / adamw_further_update(ADAMW_BETAS) - 1
    return Check(max(errors), min(path_error(_adamw(eta, ADAMW_BETAS, weight_decay)), largest(excess)))


def _adamw(lr: float, betas: Betas, weight_decay: float = 0.0) -> MakerOf:
    """Maker of an AdamW whose eps only prevents 0 / 0."""
    return lambda params: torch.optim.AdamW(
        params, lr=lr, betas=betas, eps=1e-300, weight_decay=weight_decay, foreach=False
    )


def _further_update(optimizer_of: MakerOf, gradient: Tensor, delay: int) -> Tensor:
    """Distance moved in the 600 steps after the one with a gradient, which itself comes after `delay` steps."""
    table = torch.zeros(delay + 601, len(gradient), dtype=torch.float64)
    table[delay] = gradient
    thetas = trajectory(optimizer_of, given(table), torch.zeros_like(gradient), len(table))
    return (thetas[-1] - thetas[delay + 1]).abs()


# --- Step 13: momentum without gradients -------------------------------------------------------------------------


def stuck_units(beta2: float, dtype: torch.dtype) -> int:
    """Where m <- round(b2 m) stops, in units of the smallest subnormal number: floor(1 / (2 (1 - b2))), ties apart."""
    # Below the smallest normal number all numbers are multiples k of one unit, and b2 k rounds to k if
    # (1 - b2) k < 1/2. If 1 / (2 (1 - b2)) is an integer, the tie is broken by the rounding of b2 itself and then
    # towards even k: hence the model of the arithmetic here. In half precision b2 and the product are float32.
    working = torch.float32 if dtype in HALF_DTYPES else dtype
    factor = torch.tensor(beta2, dtype=working)
    exact = Fraction(factor.item())

    def is_fixed(units: int) -> bool:
        product = Fraction((factor * units).item()) if dtype in HALF_DTYPES else exact * units
        return round(product) == units  # Python rounds ties to even, as IEEE 754 does

    candidates = itertools.count(math.floor(1 / (2 * (1 - exact))) + 1, -1)
    stuck = next(units for units in candidates if is_fixed(units))
    if stuck >= 1 / torch.finfo(dtype).eps:
        message = f"beta2 = {beta2} leaves normal numbers of {dtype} unchanged as well; use a smaller beta2"
        raise ValueError(message)
    return stuck


def _momentum_units(beta2: float, dtype: torch.dtype, num_steps: int) -> tuple[int, int]:
    """Momenta after steps without gradients from 1e-5 and -1e-5, in units; times the direction Lion took last."""
    momentum = torch.tensor([1e-5, -1e-5], dtype=dtype)
    direction, gradient = torch.zeros_like(momentum), torch.zeros_like(momentum)
    for _ in range(num_steps):
        direction, momentum = lion_update(gradient, momentum, beta1=0.9, beta2=beta2)
    unit = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    first, second = (momentum.double() * direction.double() / unit).tolist()
    return int(first), int(second)


def step_13_momentum_never_zero() -> Check:
    """As written in kexue.fm/archives/9736: the sign of m stays until rounding makes m zero. Does it ever?"""
    # In exact arithmetic 1e-5 would become 4e-58, far below the smallest number of each type. Expected: 0 units.
    # Control: after 20 steps, when the momentum is far from zero in any arithmetic.
    dtypes = (torch.float32, *HALF_DTYPES)
    left = [max(_momentum_units(0.99, dtype, 12_000)) for dtype in dtypes]
    early = [min(_momentum_units(0.99, dtype, 20)) for dtype in dtypes]
    return Check(float(max(left)), float(min(early)))


def step_13_stuck_momentum() -> Check:
    """The corrected statement: m stops at `stuck_units`, sign kept."""
    # Equality is exact, over both signs. Control: the prediction for another b2 of the three.
    beta2s, dtypes = (0.99, 0.98, 0.965), (torch.float32, *HALF_DTYPES)
    errors, controls = [], []
    for (beta2, other), dtype in itertools.product(zip(beta2s, beta2s[1:] + beta2s[:1], strict=True), dtypes):
        for units in _momentum_units(beta2, dtype, round(100 / (1 - beta2))):
            errors.append(abs(units - stuck_units(beta2, dtype)))
            controls.append(abs(units - stuck_units(other, dtype)))
    return Check(float(max(errors)), float(min(controls)))


# --- Steps 14 and 15: accumulation -------------------------------------------------------------------------------


def step_14_tiger_accumulation() -> Check:
    """Tiger with accumulation over k micro-batches takes the steps of Tiger on the mean gradient."""
    # As said in kexue.fm/archives/9512: m is multiplied by b at the first micro-step of a group only, every gradient
    # enters with (1 - b) / k, and theta moves at the last. theta must agree bit for bit; m need not, the order of its
    # sum differs. Control: m multiplied by b at every micro-step.
    lr, num_groups = 1e-3, 10
    tables = [normal(seed, num_groups, ACCUMULATION_STEPS, *shape) for seed, shape in ((12, (8, 6)), (13, (6,)))]
    starts = [normal(14, 8, 6), normal(15, 6)]

    def run(accumulation_steps: int, gradients: list[Tensor], is_last: Callable[[int], bool]) -> list[Tensor]:
        params = [Parameter(start.clone()) for start in starts]
        optimizer = Tiger(params, lr=lr, accumulation_steps=accumulation_steps)
        thetas = []
        for step in range(len(gradients[0])):
            for param, table in zip(params, gradients, strict=True):
                param.grad = table[step].clone()
            optimizer.param_groups[0]["lr"] = lr if accumulation_steps > 1 or is_last(step) else 0.0
            optimizer.step()
            if is_last(step):
                thetas.append(torch.cat([param.detach().flatten() for param in params]))
        return thetas

    def ends_group(step: int) -> bool:
        return (step + 1) % ACCUMULATION_STEPS == 0

    micro = [table.flatten(0, 1) for table in tables]
    reference = torch.stack(run(1, [table.mean(dim=1) for table in tables], lambda _step: True))
    accumulated = torch.stack(run(ACCUMULATION_STEPS, micro, ends_group))
    decayed_each_time = torch.stack(run(1, micro, ends_group))
    return Check(largest(accumulated - reference) / lr, largest(decayed_each_time - reference) / lr)


def step_15_bytes_under_accumulation() -> Check:
    """Between micro-steps Tiger holds one number a parameter besides the weight, Lion two, AdamW three."""
    # Lion and AdamW need the sum of gradients, here `.grad`, beside their state; Tiger's momentum is that sum.
    # Control: no accumulation, gradients freed after each step.
    makers: dict[int, MakerOf] = {
        1: lambda params: Tiger(params, lr=1e-3, accumulation_steps=ACCUMULATION_STEPS),
        2: lion_maker(1e-3),
        3: lambda params: torch.optim.AdamW(params, lr=1e-3),
    }
    held = [_buffers_held(make, 1 if count == 1 else ACCUMULATION_STEPS) / count for count, make in makers.items()]
    freed = [_buffers_held(make, 1) / count for count, make in makers.items()]
    return Check(max(abs(ratio - 1) for ratio in held), max(abs(ratio - 1) for ratio in freed))


def _buffers_held(optimizer_of: MakerOf, steps_per_update: int) -> float:
    """Bytes of state and gradients after six micro-steps, over those of the weights; frees gradients after updates."""
    params = small_network()
    optimizer = optimizer_of(params)
    for micro_step in range(1, ACCUMULATION_STEPS + 3):
        for param in params:
            gradient = torch.ones_like(param)
            param.grad = gradient if param.grad is None else param.grad + gradient
        if micro_step % steps_per_update == 0:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    tensors = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    tensors += [param.grad for param in params if param.grad is not None]
    return sum(tensor.nbytes for tensor in tensors) / sum(param.nbytes for param in params)


# --- Step 17: weights in half precision --------------------------------------------------------------------------


def rounds_to_itself(values: Tensor, changes: Tensor, *, upwards: bool) -> Tensor:
    """Whether theta + change (or theta - change) rounds to theta, in rounding to nearest, ties to even."""
    # With u the distance from theta to its neighbour on the side of the change: if and only if change < u / 2, or
    # change = u / 2 and the last bit of theta is 0. u is the unit in the last place, but half of it below a power of
    # two (the smallest normal number excepted). values > 0 in float16 or bfloat16; changes float64, broadcastable.
    bits = values.view(torch.int16)  # positive floats are ordered as their bits are
    neighbours = (bits + (1 if upwards else -1)).view(values.dtype)
    half_gaps = (neighbours.double() - values.double()).abs() / 2
    return (changes < half_gaps) | ((changes == half_gaps) & (bits % 2 == 0))


def _unmoved(values: Tensor, *, lr: float, decay: float = 0.0, sign: int = 0) -> Tensor:
    """Entries that one step of Lion leaves as they are; `decay` is eta lambda and `sign` that of the gradient."""
    param = Parameter(values.clone())
    param.grad = torch.full_like(param, sign)
    Lion([param], lr=lr, weight_decay=decay / lr, fused=False).step()
    return param.detach() == values


def step_17_half_precision_claim() -> Check:
    """As written in kexue.fm/archives/9512: float16 weights do get updated, since eta >= 6e-8 does not underflow."""
    # The update does not, but the sum may. Expected: no entry stays as it is, whatever the gradient's sign.
    # Control: eta = 2e-8 at theta = 1 in float16, below the source's own limit.
    gain, weights = torch.ones(100, dtype=torch.float16), torch.linspace(0.016, 0.031, 100).bfloat16()

    def share(values: Tensor, lr: float) -> float:
        return float(torch.stack([_unmoved(values, lr=lr, sign=sign) for sign in (-1, 1)]).double().mean())

    return Check(max(share(gain, 1e-4), share(weights, 3e-5)), share(gain, 2e-8))


def step_17_half_precision() -> Check:
    """The corrected statement: a weight moves unless eta is below half the distance to its neighbour on that side."""
    # For all positive float16 and bfloat16 numbers but the largest; eta includes powers of two, hence ties. So too for
    # decay, done as in Lion by multiplication with 1 - eta lambda, whose change is eta lambda theta.
    # Control: the source's criterion, by which a change of 6e-8 or more always counts.
    wrong, control = [], []
    for dtype in HALF_DTYPES:
        largest_bits = torch.tensor(torch.finfo(dtype).max, dtype=dtype).view(torch.int16).item()
        values = torch.arange(1, int(largest_bits), dtype=torch.int16).view(dtype)
        for lr, sign in itertools.product((1e-3, 2.0**-12, 1e-4, 3e-5, 2.0**-17), (-1, 1)):
            unmoved, changes = _unmoved(values, lr=lr, sign=sign), torch.tensor(lr, dtype=torch.float64)
            wrong.append(unmoved != rounds_to_itself(values, changes, upwards=sign < 0))
            control.append(unmoved != (changes < 6e-8))
        for decay in (2e-4, 7e-4, 3e-3):
            unmoved, changes = _unmoved(values, lr=1e-3, decay=decay), decay * values.double()
            wrong.append(unmoved != rounds_to_itself(values, changes, upwards=False))
            control.append(unmoved != (changes < 6e-8))
    return Check(float(torch.cat(wrong).double().mean()), float(torch.cat(control).double().mean()))


CHECKS = by_name(
    step_12_sparse_rows,
    step_13_momentum_never_zero,
    step_13_stuck_momentum,
    step_14_tiger_accumulation,
    step_15_bytes_under_accumulation,
    step_17_half_precision_claim,
    step_17_half_precision,
)

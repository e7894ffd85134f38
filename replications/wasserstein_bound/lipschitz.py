"""One-sided Lipschitz constants of score networks: a certificate on the line, an estimate in d dimensions.

On the line L_s = sup_x s'(x). For a multilayer perceptron with smooth activations the supremum is enclosed cell by
cell: at its ends the derivative is known, within it s' changes by at most its length times max |s''|, and s'' is
enclosed by interval arithmetic through the layers. Cells whose enclosure could still hold the supremum are halved, the
others are done.

What is certified: the supremum over the whole line of the network with its weights as real numbers, up to the rounding
of float64 (round to nearest, not outwards: of the order of 1e-12 of the sums involved). Not certified: what lies
between two times of a grid, and the rounding of a network that is run in float32.

In d dimensions L_s is the supremum of the largest eigenvalue of the Jacobian's symmetric part. There it is sought
among probes and by ascent from the best of them: a lower bound of L_s, so that a "bound" made with it is an estimate.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import root_scalar
from torch import Tensor, nn
from torch.func import jacrev, vmap

from replications.wasserstein_bound.arguments import finite, positive, sample

FARTHEST = 1e30  # stands for infinity: endpoints of one sign are added, never subtracted, so nothing cancels
NUM_DOUBLINGS = 20  # of the interval, before the last cell that reaches to infinity
MAX_ROUNDS = 60
EDGE = 1e-3  # of the box's width


# --- Activations -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Curve:
    """A function with the points between which it is monotone."""

    function: Callable[[Tensor], Tensor]
    turning_points: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def enclosure(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Least and greatest value on [low, high]."""
        ends = self(low), self(high)
        least, greatest = torch.minimum(*ends), torch.maximum(*ends)
        for point in self.turning_points:
            value = self(torch.tensor(point, dtype=torch.float64))
            inside = (low < point) & (point < high)
            least = torch.where(inside, torch.minimum(least, value), least)
            greatest = torch.where(inside, torch.maximum(greatest, value), greatest)
        return least, greatest


def _silu_first(x: Tensor) -> Tensor:
    sigmoid = torch.sigmoid(x)
    return sigmoid + (x * sigmoid) * torch.sigmoid(-x)


def _silu_second(x: Tensor) -> Tensor:
    product = torch.sigmoid(x) * torch.sigmoid(-x)
    return 2 * product - (x * product) * torch.tanh(x / 2)


def _silu_third(x: float) -> float:
    sigmoid, tanh = 1 / (1 + np.exp(-x)), np.tanh(x / 2)
    return -sigmoid * (1 - sigmoid) * (3 * tanh + x * (1 - 3 * tanh**2) / 2)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(root_scalar(function, bracket=(low, high), xtol=1e-14).root)


# Each activation with its first two derivatives; the turning points of one are the zeros of the next.
_SILU_STEEPEST, _SILU_MOST_BENT = _root(lambda x: x * np.tanh(x / 2) - 2, 2, 3), _root(_silu_third, 2, 6)
_TANH_STEEPEST = float(np.arctanh(3**-0.5))
_SILU = (
    _Curve(nn.functional.silu, (-_root(lambda x: 1 + np.exp(-x) - x, 1, 2),)),
    _Curve(_silu_first, (-_SILU_STEEPEST, _SILU_STEEPEST)),
    _Curve(_silu_second, (-_SILU_MOST_BENT, 0.0, _SILU_MOST_BENT)),
)
_TANH = (
    _Curve(torch.tanh, ()),
    _Curve(lambda x: 1 / torch.cosh(x.clamp(-300, 300)) ** 2, (0.0,)),
    _Curve(lambda x: -2 * torch.tanh(x) / torch.cosh(x.clamp(-300, 300)) ** 2, (-_TANH_STEEPEST, _TANH_STEEPEST)),
)
_ACTIVATIONS: dict[type[nn.Module], tuple[_Curve, _Curve, _Curve]] = {nn.SiLU: _SILU, nn.Tanh: _TANH}


# --- Certificate on the line -----------------------------------------------------------------------------------

Interval = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class SlopeCertificate:
    """An enclosure, attained <= sup s' <= upper on the whole line, and the point where `attained` was evaluated."""

    upper: float
    attained: float
    point: float


def _product(first: Interval, second: Interval) -> Interval:
    corners = torch.stack([first[i] * second[j] for i in (0, 1) for j in (0, 1)])
    return corners.amin(0), corners.amax(0)


def _squared(values: Interval) -> Interval:
    ends = values[0] ** 2, values[1] ** 2
    least = torch.where((values[0] <= 0) & (values[1] >= 0), torch.zeros_like(ends[0]), torch.minimum(*ends))
    return least, torch.maximum(*ends)


def _tightened(values: Interval, ends: Interval, change: Interval, cells: Interval) -> Interval:
    """The values, cut down to what their derivative `change` allows, starting from the ends of each cell."""
    # From the lower end v(x) >= v(low) + min(0, length change), and so on. If the derivative keeps its sign, this
    # leaves exactly the values at the two ends. The far end of a cell that reaches to infinity is not used, since the
    # rounding error of v there is not small. Cells: the two ends, shape (k, 1).
    length = cells[1] - cells[0]
    fall, rise = (length * change[0]).clamp(max=0), (length * change[1]).clamp(min=0)
    least, greatest = values
    near, far = cells[0] > -FARTHEST, cells[1] < FARTHEST
    for end, down, up, used in ((ends[0], fall, rise, near), (ends[1], -rise, -fall, far)):
        least = torch.where(used, torch.maximum(least, end + down), least)
        greatest = torch.where(used, torch.minimum(greatest, end + up), greatest)
    return least, greatest


def _enclosures(
    layers: Sequence[nn.Module], direction: Tensor, offset: Tensor, low: Tensor, high: Tensor
) -> tuple[Interval, Interval]:
    """Derivative of the only output at the ends of the cells, and its enclosure on each cell; shapes (k,)."""
    cells = low[:, None], high[:, None]
    constant = direction.expand(len(low), -1)
    values = offset + cells[0] * direction, offset + cells[1] * direction  # at the ends
    slopes = constant, constant
    value = torch.minimum(*values), torch.maximum(*values)  # on the cells
    slope, curvature = (constant, constant), (torch.zeros_like(constant), torch.zeros_like(constant))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().double()
            bias = layer.bias.detach().double() if layer.bias is not None else torch.zeros(len(weight)).double()
            plus, minus = weight.clamp(min=0).T, weight.clamp(max=0).T
            values = values[0] @ weight.T + bias, values[1] @ weight.T + bias
            slopes = slopes[0] @ weight.T, slopes[1] @ weight.T
            value, slope, curvature = (
                (bounds[0] @ plus + bounds[1] @ minus, bounds[1] @ plus + bounds[0] @ minus)
                for bounds in (value, slope, curvature)
            )
            value = value[0] + bias, value[1] + bias
        else:
            function, first, second = _ACTIVATIONS[type(layer)]
            first_range, second_range = first.enclosure(*value), second.enclosure(*value)
            bent, scaled = _product(second_range, _squared(slope)), _product(first_range, curvature)
            curvature = bent[0] + scaled[0], bent[1] + scaled[1]
            slope, value = _product(first_range, slope), function.enclosure(*value)
            slopes = first(values[0]) * slopes[0], first(values[1]) * slopes[1]
            values = function(values[0]), function(values[1])
        slope = _tightened(slope, slopes, curvature, cells)
        value = _tightened(value, values, slope, cells)
    return (slopes[0][:, 0], slopes[1][:, 0]), (slope[0][:, 0], slope[1][:, 0])


def certified_score_slope(
    network: nn.Module,
    direction: ArrayLike,
    offset: ArrayLike,
    *,
    factor: float = 1.0,
    linear: float = 0.0,
    interval: tuple[float, float] = (-9.0, 9.0),
    num_cells: int = 128,
    tolerance: float = 1e-3,
) -> SlopeCertificate:
    """Upper bound of L_s = sup_x s'(x) for s(x) = linear x + factor N(offset + direction x), x on the whole line.

    A network for noise prediction has factor = -1 / noise_variance(t)^(1/2); the features of t go into `offset`.
    Beyond the interval, cells double in length 20 times, and a last one on each side reaches to 1e30, where only the
    enclosure of the saturated activations is left; it is looser, and decides when `upper` is far above `attained`.

    Args:
        network: N, an nn.Sequential of nn.Linear, nn.SiLU and nn.Tanh, with one output.
        direction: How the p inputs depend on x, shape (p,); 1 for x itself, 0 for features of t.
        offset: The inputs at x = 0, shape (p,).
        factor: Multiplies the network; not 0.
        linear: Slope of a term added to the network.
        interval: Where the first cells lie: wide enough for nearly all mass of p_t and q_t.
        num_cells: Number of first cells.
        tolerance: Cells are halved until upper - attained <= tolerance (1 + |attained|), or 60 times.

    Returns:
        The enclosure.

    Raises:
        ValueError: If a layer is of another kind, shapes do not fit, there are several outputs, or a weight is NaN.
    """
    layers = list(network) if isinstance(network, nn.Sequential) else [network]
    for layer in layers:
        if not isinstance(layer, (nn.Linear, *_ACTIVATIONS)):
            known = ", ".join(kind.__name__ for kind in _ACTIVATIONS)
            message = f"no enclosure is known for {type(layer).__name__}: use nn.Sequential of Linear and {known}"
            raise ValueError(message)
    for name, parameter in network.named_parameters():
        finite(f"network parameter {name}", parameter.detach().cpu().numpy())
    linear_layers = [layer for layer in layers if isinstance(layer, nn.Linear)]
    direction = torch.as_tensor(finite("direction", direction))
    offset = torch.as_tensor(finite("offset", offset))
    if direction.shape != offset.shape or direction.ndim != 1 or len(direction) != linear_layers[0].in_features:
        message = (
            f"direction has shape {tuple(direction.shape)}, offset {tuple(offset.shape)}: "
            f"pass one number for each of the network's {linear_layers[0].in_features} inputs"
        )
        raise ValueError(message)
    if linear_layers[-1].out_features != 1:
        message = f"the network has {linear_layers[-1].out_features} outputs: on the line it has one"
        raise ValueError(message)
    positive("tolerance", tolerance)
    positive("length of the interval", interval[1] - interval[0])
    low, high = _first_cells(interval, num_cells)
    best, point, done, unfinished = -np.inf, 0.0, -np.inf, -np.inf
    for _ in range(MAX_ROUNDS):
        slopes, slope = _enclosures(layers, direction, offset, low, high)
        at_ends = linear + factor * torch.cat(slopes)
        upper = linear + torch.maximum(factor * slope[0], factor * slope[1])
        index = int(at_ends.argmax())
        if float(at_ends[index]) > best:
            best, point = float(at_ends[index]), float(torch.cat([low, high])[index])
        open_cells = upper > max(best + tolerance * (1 + abs(best)), done)
        splits = open_cells & (high.abs() < FARTHEST) & (low.abs() < FARTHEST)
        done = max([done, *upper[~splits].tolist()])
        if not splits.any():
            break
        unfinished = float(upper[splits].max())
        low, high = low[splits], high[splits]
        middle = (low + high) / 2
        low, high = torch.cat([low, middle]), torch.cat([middle, high])
    else:
        done = max(done, unfinished)
    return SlopeCertificate(max(done, best), best, point)


def _first_cells(interval: tuple[float, float], num_cells: int) -> Interval:
    """Ends of equal cells on the interval, of cells that double beyond it, and of the two that reach to infinity."""
    inner = torch.linspace(interval[0], interval[1], num_cells + 1, dtype=torch.float64)
    steps = (interval[1] - interval[0]) * (2.0 ** torch.arange(NUM_DOUBLINGS, dtype=torch.float64) - 0.5)
    end = torch.tensor([FARTHEST], dtype=torch.float64)
    edges = torch.cat([-end, interval[0] - steps.flip(0), inner, interval[1] + steps, end])
    return edges[:-1], edges[1:]


# --- Estimate in d dimensions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlopeEstimate:
    """The largest slope found, a lower bound of L_s; that of the probes; where; whether at the edge of the box."""

    value: float
    probe_value: float
    point: np.ndarray
    at_edge: bool


def estimated_score_slope(
    score: Callable[[Tensor], Tensor], probes: ArrayLike, *, num_ascents: int = 50, num_steps: int = 40
) -> SlopeEstimate:
    """Estimate from below of L_s, the supremum of the largest eigenvalue of (J + J^T) / 2, J the score's Jacobian.

    Evaluated at the probes, (n, d), samples of p_t and q_t and of a wide box; then gradient ascent from the best of
    them, within the box that they span, with steps that double when they succeed and halve when they fail. The score,
    (n, d) -> (n, d), is differentiable, each row from the same row, in float64.

    Returns:
        The estimate; a RuntimeWarning says when it lies at the edge of the box.
    """
    points = torch.as_tensor(sample("probes", probes, 2))

    def slopes(x: Tensor) -> Tensor:
        jacobians = vmap(jacrev(lambda row: score(row[None])[0]))(x)
        return torch.linalg.eigvalsh((jacobians + jacobians.mT) / 2)[:, -1]

    values = slopes(points).detach()
    finite("the largest eigenvalues at the probes", values.numpy())
    low, high = points.amin(0), points.amax(0)
    start = values.topk(min(num_ascents, len(values)))
    x, best = points[start.indices], start.values
    step = torch.full_like(best, float((high - low).norm()) / 100)
    for _ in range(num_steps):
        x.requires_grad_(True)
        gradient = torch.autograd.grad(slopes(x).sum(), x)[0]
        x = x.detach()
        unit = gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-300)
        trial = torch.minimum(torch.maximum(x + step[:, None] * unit, low), high)
        trial_values = slopes(trial).detach()
        better = trial_values > best
        x = torch.where(better[:, None], trial, x)
        best = torch.where(better, trial_values, best)
        step = torch.where(better, 2 * step, step / 2)
    index = int(best.argmax())
    margin = EDGE * (high - low)
    at_edge = bool(((x[index] <= low + margin) | (x[index] >= high - margin)).any())
    if at_edge:
        message = f"the largest slope {float(best[index]):.4g} lies at the edge of the probes' box: probe a wider one"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return SlopeEstimate(float(best[index]), float(values.max()), x[index].numpy(), at_edge)

"""Output heads that share the input embedding, and what loss a language model starts at with each of them.

Su (2023, kexue.fm/archives/9698). Symbols, as there: n vocabulary, d width, W embedding table of shape (n, d) with
independent entries of mean 0 and standard deviation sigma, h final hidden state (behind the last normalisation), w_i
row of token i. Every head maps h of shape (..., d) to logits of shape (..., n):

    z = a (P h) W^T     with a scale a and a linear map P; u = W (tied) or a table of its own (untied)

| head            | P                             | a                | parameters of its own |
|-----------------|-------------------------------|------------------|-----------------------|
| tied            | identity                      | 1                | 0                     |
| untied          | identity, table of its own    | 1                | n d                   |
| small_sigma     | identity, sigma = (log n) / d | 1                | 0                     |
| orthogonal      | random orthogonal, trainable  | 1                | d^2                   |
| half_swap       | (x, y) -> (y, x)              | 1                | 0                     |
| signed_swap     | (x, y) -> (-y, x)             | 1                | 0                     |
| shuffle         | reshape (g, d/g), transpose   | 1                | 0                     |
| scaled          | identity                      | 1 / sqrt(d)      | 0                     |
| learnable_scale | identity                      | exp(s), 1/sqrt(d) at first | 1           |

Why the map matters: with residual branches near zero h_i = w_i / RMS(w_i), so the logit of the input token itself is
sigma d a when P is the identity: far above all others, and a text hardly ever repeats a token at once. The scaled
head has a = 1/sqrt(d), but entries of variance 1: its self-logit is the sqrt(d) of plain tying, whose logits it has.
"""

import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "HEADS",
    "HalfSwapHead",
    "Head",
    "LearnableScaleHead",
    "OrthogonalHead",
    "ScaledHead",
    "ShuffleHead",
    "SignedSwapHead",
    "TiedHead",
    "UntiedHead",
    "crossover_width",
    "half_swap",
    "initial_sigma",
    "make_embedding",
    "predicted_initial_loss",
    "rms_normalise",
    "self_logit_moments",
    "shuffle",
    "shuffle_fixed_points",
    "signed_swap",
    "source_initial_loss",
    "token_cross_entropy",
]


# --- maps of the hidden state ---------------------------------------------------------------------------------


def half_swap(h: Tensor) -> Tensor:
    """Exchange the halves of the last dimension, d even: S[w] = w[d/2:] o w[:d/2] (the source's last)."""
    first, second = _halves(h)
    return torch.cat((second, first), dim=-1)


def signed_swap(h: Tensor) -> Tensor:
    """Exchange the halves, d even, and turn one sign: (x, y) -> (-y, x) (ours), so that w . P w = 0 exactly."""
    first, second = _halves(h)
    return torch.cat((-second, first), dim=-1)


def shuffle(h: Tensor, groups: int) -> Tensor:
    """Shuffle channels as ShuffleNet does: reshape d to (g, d/g), transpose, reshape back; d/g groups undo g."""
    _check_groups(h.shape[-1], groups)
    return h.unflatten(-1, (groups, -1)).transpose(-1, -2).flatten(-2)


def shuffle_fixed_points(d: int, groups: int) -> int:
    """Count the coordinates a shuffle leaves in place: gcd(g - 1, d/g - 1) + 1 (the trace of the permutation).

    The coordinate r (d/g) + c goes to c g + r; it stays where r (d/g - 1) = c (g - 1). At g = sqrt(d) there are
    sqrt(d) of them.

    Returns:
        Fixed points, from 2 (d if g is 1 or d) to d.

    Raises:
        ValueError: If g does not divide d.
    """
    _check_groups(d, groups)
    return math.gcd(groups - 1, d // groups - 1) + 1


def rms_normalise(w: Tensor, eps: float = 0.0) -> Tensor:
    """Divide by sqrt(RMS(w)^2 + eps), RMS(w) = |w| / sqrt(d): the final norm of a model without gain.

    Returns:
        Shape (..., d) like `w`, without eps of norm sqrt(d); a row of zeros stays one.

    Raises:
        ValueError: If eps is negative or not finite; LayerNorm has 1e-5.
    """
    if not (math.isfinite(eps) and eps >= 0):
        message = f"eps is {eps}; give a finite number, 0 or above"
        raise ValueError(message)
    d, norm = w.shape[-1], w.norm(dim=-1, keepdim=True)
    if eps:
        return w / (norm.square() / d + eps).sqrt()
    return w * (math.sqrt(d) / norm.masked_fill(norm == 0, 1.0))


# --- heads ----------------------------------------------------------------------------------------------------


class Head(nn.Module):
    """Logits of every token from the final hidden state; the parameter `weight` *is* `embedding.weight`.

    A model that registers both keeps the tie through `.to`, deepcopy and `load_state_dict`; save with
    `safetensors.torch.save_model`. These untie without a word: `load_state_dict(assign=True)`, `.to("meta")`,
    `to_empty` from a meta device, conversion under `torch.__future__.set_overwrite_module_params_on_conversion(True)`,
    and an embedding that gets another `weight`. Call `tie` afterwards, and make the optimizer after that. While the
    embedding is pruned, the head multiplies by the whole table; `prune.remove` ties again.

    An embedding's `padding_idx` keeps the gradient of the input side off that row; the output side, where every row is
    in the softmax, still moves it. Set that row of the gradient to zero before each step if it has to stay.

    Raises TypeError if `embedding` has no floating-point table of two dimensions, ValueError below n = 2, d = 1.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        """Share the table."""
        super().__init__()
        self.weight = _table_of(embedding)

    def tie(self, embedding: nn.Embedding) -> None:
        """Share the embedding's table again, after what unties (see the class); refuse another kind or shape."""
        table = _table_of(embedding)
        if table.shape != self.weight.shape:
            message = f"the embedding's table has shape {tuple(table.shape)}, the head's {tuple(self.weight.shape)}"
            raise ValueError(message)
        self.weight = table

    def forward(self, h: Tensor) -> Tensor:
        """Return logits, shape (..., n), of final hidden states, shape (..., d), of the table's dtype."""
        self._check_hidden(h)
        return functional.linear(self.transformed(h), self.weight)

    def transformed(self, h: Tensor) -> Tensor:
        """Return a P h, shape (..., d): what is multiplied by the table, and what a cache must hold."""
        return h

    def _check_hidden(self, h: Tensor) -> None:
        d = self.weight.shape[1]
        if h.shape[-1] != d:
            message = (
                f"hidden states have width {h.shape[-1]} and the shared table has width {d}; project them to {d}, or "
                "use an untied head of their own width"
            )
            raise ValueError(message)


class TiedHead(Head):
    """The table itself: z = h W^T. Maps remove its self-logit, small entries lower it, the scaled head keeps it."""


class UntiedHead(Head):
    """A table of its own, drawn with the standard deviation of the embedding; n d more parameters."""

    def __init__(self, embedding: nn.Embedding) -> None:
        """Draw the second table; raise as `Head` does."""
        super().__init__(embedding)
        self.weight = nn.Parameter(torch.randn_like(embedding.weight) * embedding.weight.detach().std())

    def tie(self, embedding: nn.Embedding) -> None:
        """Refuse: TypeError."""
        del embedding
        message = "an untied head has a table of its own; make a TiedHead to share the embedding's"
        raise TypeError(message)


class OrthogonalHead(Head):
    """A trainable projection that starts orthogonal: z = (h Q) W^T; d^2 more parameters."""

    def __init__(self, embedding: nn.Embedding) -> None:
        """Draw Q uniformly (Haar measure) from torch's global generator; raise as `Head` does."""
        super().__init__(embedding)
        d = embedding.weight.shape[1]
        self.projection = nn.Parameter(nn.init.orthogonal_(embedding.weight.detach().new_empty(d, d)))

    def transformed(self, h: Tensor) -> Tensor:
        """Return h Q^T."""
        return functional.linear(h, self.projection)


class HalfSwapHead(Head):
    """Halves exchanged: z = S[h] W^T; no parameter, even width. It copies h, which is little beside the logits."""

    def __init__(self, embedding: nn.Embedding) -> None:
        """Check that d is even; raise as `Head` does."""
        super().__init__(embedding)
        _check_even(self.weight.shape[1])

    def transformed(self, h: Tensor) -> Tensor:
        """Return S[h]."""
        return half_swap(h)


class SignedSwapHead(HalfSwapHead):
    """Halves exchanged and one negated; the self-logit is 0 exactly."""

    def transformed(self, h: Tensor) -> Tensor:
        """Return (-y, x) of h = (x, y)."""
        return signed_swap(h)


class ShuffleHead(Head):
    """Channels shuffled in g groups, g a divisor of d; at g = sqrt(d), where sqrt(d) stay in place, it warns."""

    def __init__(self, embedding: nn.Embedding, groups: int = 2) -> None:
        """Check the groups."""
        super().__init__(embedding)
        d = self.weight.shape[1]
        _check_groups(d, groups)
        if groups * groups == d:
            message = (
                f"groups {groups} is the square root of d {d}: {shuffle_fixed_points(d, groups)} of the {d} "
                "coordinates stay in place; choose another divisor"
            )
            warnings.warn(message, UserWarning, stacklevel=2)
        self.groups = groups

    def transformed(self, h: Tensor) -> Tensor:
        """Return h shuffled."""
        return shuffle(h, self.groups)


class ScaledHead(Head):
    """Logits divided by sqrt(d), meant for entries of variance 1 (T5's and PaLM's way, as we remember it).

    No cure: these are the first logits of plain tying with entries of variance 1/d. In training the table moves
    sqrt(d) times less in relation to its size, unless its learning rate is sqrt(d) times as large.
    """

    def transformed(self, h: Tensor) -> Tensor:
        """Return h / sqrt(d)."""
        return h / math.sqrt(h.shape[-1])


class LearnableScaleHead(Head):
    """Logits times exp(s), which starts at 1/sqrt(d); one parameter, which weight decay must leave alone."""

    def __init__(self, embedding: nn.Embedding) -> None:
        """Start at 1/sqrt(d); raise as `Head` does."""
        super().__init__(embedding)
        self.log_scale = nn.Parameter(self.weight.detach().new_tensor(-0.5 * math.log(self.weight.shape[1])))

    def transformed(self, h: Tensor) -> Tensor:
        """Return exp(s) h."""
        return h * self.log_scale.exp()


HEADS: dict[str, type[Head]] = {
    "tied": TiedHead,
    "untied": UntiedHead,
    "small_sigma": TiedHead,
    "orthogonal": OrthogonalHead,
    "half_swap": HalfSwapHead,
    "signed_swap": SignedSwapHead,
    "shuffle": ShuffleHead,
    "scaled": ScaledHead,
    "learnable_scale": LearnableScaleHead,
}


# --- initialisation and what it predicts ----------------------------------------------------------------------


def initial_sigma(n: int, d: int, head: str) -> float:
    """Return a head's standard deviation of entries: (log n) / d for small_sigma, 1 for scaled, else 1 / sqrt(d)."""
    _check_sizes(n, d)
    _check_head(head)
    return {"small_sigma": math.log(n) / d, "scaled": 1.0}.get(head, 1 / math.sqrt(d))


def make_embedding(n: int, d: int, sigma: float) -> nn.Embedding:
    """Make an embedding of normal entries from torch's global generator: one draw, scaled, for every sigma > 0."""
    _check_sizes(n, d)
    _check_sigma(sigma)
    return nn.Embedding.from_pretrained(torch.randn(n, d) * sigma, freeze=False)


def self_logit_moments(trace: float, squared_norm: float, trace_of_square: float, sigma: float) -> tuple[float, float]:
    """Return mean and variance of w^T P w / sigma for w with independent N(0, sigma^2) entries: the trace rule.

    sigma tr P   and   sigma^2 (|P|_F^2 + tr P^2), |P|_F^2 being d for every orthogonal map.

    Returns:
        Mean and variance. Divided by RMS(w) instead of sigma, the identity's variance is d sigma^2 / 2.
    """
    _check_sigma(sigma)
    return sigma * trace, sigma**2 * (squared_norm + trace_of_square)


def source_initial_loss(n: int, d: int, sigma: float) -> float:
    """Return the tied head's initial loss as the source has it, in nats: log(e^(d sigma) + n - 1) (its equation 9)."""
    _check_sizes(n, d)
    _check_sigma(sigma)
    return _logaddexp(d * sigma, math.log(n - 1))


def predicted_initial_loss(n: int, d: int, sigma: float, head: str) -> float:
    """Return the loss at which a bigram model starts: log(e^m + (n - 1) e^(v / 2)).

    m = a sigma tr P is the self-logit and v = a^2 d sigma^2 the variance of the others; E e^z = e^(v / 2) is what the
    source neglects. Without a shared table all n logits are of the second kind: log n + v / 2. Good while the sum
    averages itself out, v below about 2 log n; beyond, its largest terms rule it and the loss is lower. The head
    "shuffle" is that of two groups.

    Returns:
        Nats a token, for next tokens that differ from the input token; no overflow at any d sigma.
    """
    _check_sizes(n, d)
    _check_sigma(sigma)
    _check_head(head)
    scale = 1 / math.sqrt(d) if head in ("scaled", "learnable_scale") else 1.0
    half_variance = scale**2 * d * sigma**2 / 2
    if head == "untied":
        return math.log(n) + half_variance
    return _logaddexp(scale * sigma * _mean_trace(d, head), math.log(n - 1) + half_variance)


def crossover_width(n: int) -> float:
    """Return (log n + 1/2)^2, where at sigma = 1/sqrt(d) both terms of the plainly tied loss are equal."""
    _check_sizes(n, 1)
    return (math.log(n) + 0.5) ** 2


def token_cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Return the mean cross-entropy in nats over the kept targets; 0, with zero gradient, if none is kept.

    Returns:
        Scalar, of logits (..., n) and int64 targets (...), each in [0, n) or `ignore_index`.

    Raises:
        IndexError: If a target is out of range: here, and not in a kernel.
    """
    n = logits.shape[-1]
    kept = targets != ignore_index
    wrong = kept & ((targets < 0) | (targets >= n))
    if wrong.any():
        message = f"token id {int(targets[wrong][0])} is not in [0, {n}) and not ignore_index {ignore_index}"
        raise IndexError(message)
    total = functional.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=ignore_index, reduction="sum"
    )
    return total / kept.sum().clamp(min=1)


# --- checks ---------------------------------------------------------------------------------------------------


def _table_of(embedding: nn.Embedding) -> nn.Parameter:
    table = getattr(embedding, "weight", None)
    if not isinstance(table, nn.Parameter) or table.ndim != 2 or not table.is_floating_point():
        found = f"{getattr(table, 'dtype', type(table).__name__)} of shape {tuple(getattr(table, 'shape', ()))}"
        message = f"the embedding's table is {found}; a head needs a floating-point parameter of shape (n, d)"
        raise TypeError(message)
    _check_sizes(*table.shape)
    return table


def _halves(h: Tensor) -> tuple[Tensor, Tensor]:
    d = h.shape[-1]
    _check_even(d)
    return h[..., : d // 2], h[..., d // 2 :]


def _check_even(d: int) -> None:
    if d % 2:
        message = f"d is {d}; exchanging halves needs an even width"
        raise ValueError(message)


def _check_groups(d: int, groups: int) -> None:
    if groups < 1 or d % groups:
        message = f"groups g is {groups} and d is {d}; g must be a divisor of d, from 1 to d"
        raise ValueError(message)


def _check_sizes(n: int, d: int) -> None:
    for name, size, least in (("n", n, 2), ("d", d, 1)):
        if size < least:
            message = f"{name} is {size}; it must be at least {least}"
            raise ValueError(message)


def _check_sigma(sigma: float) -> None:
    if not (math.isfinite(sigma) and sigma > 0):
        message = f"sigma is {sigma}; give a finite number above 0"
        raise ValueError(message)


def _check_head(head: str) -> None:
    if head not in HEADS:
        message = f"head is {head!r}; known: {', '.join(HEADS)}"
        raise ValueError(message)


def _mean_trace(d: int, head: str) -> int:
    if head == "shuffle":
        return shuffle_fixed_points(d, groups=2)
    if head in ("half_swap", "signed_swap"):
        _check_even(d)
        return 0
    # Under Haar measure the mean trace is 0.
    return 0 if head == "orthogonal" else d


def _logaddexp(x: float, y: float) -> float:
    return max(x, y) + math.log1p(math.exp(-abs(x - y)))

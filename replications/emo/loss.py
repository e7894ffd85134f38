"""EMO: earth mover's distance between a predicted distribution and its target as a loss, and the losses beside it.

Letters: N tokens, V vocabulary, D width of the cost; p = softmax(logits); tau the target's distribution, which is 1 at
the target t where targets are token ids; ê_i the unit rows of a frozen embedding; c_ij = 1 - <ê_i, ê_j> the cost of
moving probability from token i to token j. Per token,

    m = -sum_j tau_j log p_j              the negative log-likelihood (MLE)
    e = sum_ij p_i c_ij tau_j             the earth mover's distance of p to tau, if tau is at one token
    d = e - (p'Cp + tau'C tau) / 2        its debiased form, the energy distance: |ē_p - ē_tau|² / 2

with ē_p = sum_i p_i ê_i. Every loss is a mean over the tokens that are not ignored; sg() stops the gradient.
The original is the code of Ren et al., DRSY/EMO on GitHub.
"""

import functools
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = [
    "Objective",
    "UnitEmbedding",
    "earth_mover_loss",
    "emo_energy_loss",
    "emo_mle_loss",
    "emo_weighted_loss",
    "energy_loss",
    "mixce_loss",
    "mle_energy_loss",
    "total_variation_loss",
]

EPSILON = 1e-10  # the original's, in the denominators of its weights
PIECE = 1 << 19  # logits in a piece of a pass on the CPU: 2 MB of float32, which its caches hold


class UnitEmbedding:
    """The frozen cost of moving probability between tokens, c_ij = 1 - cos(e_i, e_j): a snapshot, taken once.

    A row of zeros has no direction: it gets one of its own, so that its cost to all others is 1 and to itself 0.

    Args:
        embedding: One row a token, shape (V, D); it is copied, and no gradient reaches it.
        dtype: Of the stored unit rows, and so of the matrix products, with autocast or without; all else is in the
            logits' precision, at least float32. On a GPU bfloat16 is fast (or float32 where TF32 is allowed).

    Attributes:
        rows: Unit rows, shape (V, D + number of zero rows).

    Raises:
        ValueError: If it is no matrix, or a row holds a number that is not finite.
    """

    def __init__(self, embedding: Tensor, dtype: torch.dtype = torch.float32) -> None:
        """Copy and normalise the rows; warn of zero rows."""
        if embedding.ndim != 2 or not embedding.is_floating_point():
            message = f"the embedding has shape {tuple(embedding.shape)}, {embedding.dtype}; give a real (V, D) matrix"
            raise ValueError(message)
        rows = embedding.detach().to(torch.promote_types(embedding.dtype, torch.float32), copy=True)
        if len(unsound := (~rows.isfinite().all(1)).nonzero()):
            message = f"row {int(unsound[0])} of the embedding holds a number that is not finite"
            raise ValueError(message)
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        zeros = (norms[:, 0] == 0).nonzero()[:, 0]
        rows /= norms.masked_fill(norms == 0, 1)
        if len(zeros):
            warnings.warn(
                f"{len(zeros)} rows of the embedding are zero, first {int(zeros[0])}; their cost to all others is 1",
                stacklevel=2,
            )
            own = rows.new_zeros(len(rows), len(zeros))
            own[zeros, torch.arange(len(zeros), device=rows.device)] = 1
            rows = torch.cat([rows, own], 1)
        self.rows = rows.to(dtype)

    def to(self, device: torch.device | str) -> "UnitEmbedding":
        """Return the same cost on another device."""
        moved = object.__new__(UnitEmbedding)
        moved.rows = self.rows.to(device)
        return moved

    def permuted(self, order: Tensor) -> "UnitEmbedding":
        """Return the cost in which token i has the direction of token order[i], shape (V,)."""
        moved = object.__new__(UnitEmbedding)
        moved.rows = self.rows[order]
        return moved

    def means(self, distribution: Tensor) -> Tensor:
        """Return ē = sum_i p_i ê_i of distributions of shape (N, V), shape (N, D)."""
        return _product(distribution.to(self.rows.dtype), self.rows).to(distribution.dtype)


# Mean loss of logits (..., V) and targets under a cost.
Objective = Callable[[Tensor, Tensor, UnitEmbedding], Tensor]


def earth_mover_loss(logits: Tensor, targets: Tensor, cost: UnitEmbedding, *, ignore_index: int = -100) -> Tensor:
    """Return the mean of e, the earth mover's distance to the target; kexue.fm/archives/9797.

    Args:
        logits: Shape (..., V), of any floating type. -inf masks a token out of the vocabulary.
        targets: Token ids, shape (...), or distributions, shape (..., V): then e is the product plan's upper bound.
        cost: Of V tokens.
        ignore_index: Target id of tokens that are left out.

    Returns:
        Scalar in [0, 2], float32 (float64 of float64 logits); 0 with gradient 0 where no token is left. NaN or +inf
        in a token's logits makes the gradient NaN at this token alone, but the mean over tokens as a whole. A target
        that is masked out has m = inf, as in cross-entropy: so a training that overflows is seen to diverge.

    Raises:
        TypeError: If the logits are no real numbers.
        ValueError: If shapes, ids or distributions do not fit.

    Example:
        >>> cost = UnitEmbedding(torch.eye(3))
        >>> earth_mover_loss(torch.zeros(2, 3), torch.tensor([0, 2]), cost)
        tensor(0.6667)
    """
    _, e = _Tokens(logits, targets, cost, ignore_index).transport()
    return _mean(e)


def emo_mle_loss(
    logits: Tensor, targets: Tensor, cost: UnitEmbedding, *, max_weight: float = math.inf, ignore_index: int = -100
) -> Tensor:
    """Return the mean of (m + sg(min(m / (e + ε), max_weight)) e) / 2: mode 1 of the original, "MLE emphasised".

    Its value is that of m where the weight is below its bound; the original's package has the bound 3, its language
    modelling none. Arguments, result and errors else: see `earth_mover_loss`.

    Raises:
        ValueError: If `max_weight` is not positive.
    """
    if not max_weight > 0:
        message = f"max_weight is {max_weight}; it must be positive"
        raise ValueError(message)
    m, e = _Tokens(logits, targets, cost, ignore_index).transport()
    return _mean((m + (m / (e + EPSILON)).clamp(max=max_weight).detach() * e) / 2)


def emo_weighted_loss(logits: Tensor, targets: Tensor, cost: UnitEmbedding, *, ignore_index: int = -100) -> Tensor:
    """Return the mean of e + sg(e / (m + ε)) m: mode 2 of the original, "EMO emphasised"; its value is that of 2 e.

    Arguments, result and errors: see `earth_mover_loss`.
    """
    m, e = _Tokens(logits, targets, cost, ignore_index).transport()
    return _mean(e + (e / (m + EPSILON)).detach() * m)


def energy_loss(logits: Tensor, targets: Tensor, cost: UnitEmbedding, *, ignore_index: int = -100) -> Tensor:
    """Return the mean of d = |ē_p - ē_tau|² / 2, the debiased form of e (ours): a proper score, and so unbiased.

    Arguments, result and errors: see `earth_mover_loss`.
    """
    _, _, d = _Tokens(logits, targets, cost, ignore_index).energy()
    return _mean(d)


def mle_energy_loss(
    logits: Tensor, targets: Tensor, cost: UnitEmbedding, *, weight: float = 4.0, ignore_index: int = -100
) -> Tensor:
    """Return the mean of m + weight d (ours): strictly proper. Arguments, result, errors: see `earth_mover_loss`."""
    m, _, d = _Tokens(logits, targets, cost, ignore_index).energy()
    return _mean(m + weight * d)


def emo_energy_loss(logits: Tensor, targets: Tensor, cost: UnitEmbedding, *, ignore_index: int = -100) -> Tensor:
    """Return the mean of (m + sg(m / (e + ε)) d) / 2 (ours): mode 1 with its weight, and d in the place of e.

    Arguments, result and errors: see `earth_mover_loss`.
    """
    m, e, d = _Tokens(logits, targets, cost, ignore_index).energy()
    return _mean((m + (m / (e + EPSILON)).detach() * d) / 2)


def mixce_loss(logits: Tensor, targets: Tensor, *, mixing_ratio: float = 0.5, ignore_index: int = -100) -> Tensor:
    """Return the mean of (η + (1 - η) sg(p_t)) m: MixCE as the original's code has it; η = `mixing_ratio` in [0, 1].

    Targets are token ids; arguments, result and errors else: see `earth_mover_loss`.
    """
    m, p = _nll_and_probability(logits, targets, mixing_ratio, ignore_index)
    return _mean((mixing_ratio + (1 - mixing_ratio) * p) * m)


def total_variation_loss(
    logits: Tensor, targets: Tensor, *, mixing_ratio: float = 0.5, ignore_index: int = -100
) -> Tensor:
    """Return the mean of γ m + (1 - γ) sg(clamp(p_t / (1 - γ + γ p_t), 0.2, 1)) m: "tvd" of the original's code.

    It is after TaiLr, whose weight is another: p_t / (γ + (1 - γ) p_t). γ = `mixing_ratio` in [0, 1]. Targets are
    token ids; arguments, result and errors else: see `earth_mover_loss`.
    """
    m, p = _nll_and_probability(logits, targets, mixing_ratio, ignore_index)
    weight = (p / (1 - mixing_ratio + mixing_ratio * p)).clamp(0.2, 1)
    return _mean((mixing_ratio + (1 - mixing_ratio) * weight) * m)


def _nll_and_probability(
    logits: Tensor, targets: Tensor, mixing_ratio: float, ignore_index: int
) -> tuple[Tensor, Tensor]:
    if not 0 <= mixing_ratio <= 1:
        message = f"mixing_ratio is {mixing_ratio}; it must be in [0, 1]"
        raise ValueError(message)
    if targets.is_floating_point():
        message = "this loss is of token ids, not of soft targets"
        raise TypeError(message)
    kept, ids = _kept(logits, targets, ignore_index)
    m = cross_entropy(_widened(kept), ids, reduction="none")
    return m, m.detach().neg().exp()


class _Tokens:
    """The terms m, e and d of the tokens that are kept, each of shape (tokens,)."""

    def __init__(self, logits: Tensor, targets: Tensor, cost: UnitEmbedding, ignore_index: int) -> None:
        if logits.shape[-1] != len(cost.rows):
            message = f"the logits are over {logits.shape[-1]} tokens, the embedding has {len(cost.rows)} rows"
            raise ValueError(message)
        self._logits, self._targets = _kept(logits, targets, ignore_index)
        self._rows = cost.rows

    def transport(self) -> tuple[Tensor, Tensor]:
        """Return m and e."""
        if self._targets.is_floating_point():
            return self._of_distributions()[:2]
        return _Transport.apply(self._logits, self._targets, self._rows)

    def energy(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return m, e and d; where targets are ids e has no gradient, since it is only a weight beside d."""
        if self._targets.is_floating_point():
            return self._of_distributions()
        return _Energy.apply(self._logits, self._targets, self._rows)

    def _of_distributions(self) -> tuple[Tensor, Tensor, Tensor]:
        log_p = _widened(self._logits).log_softmax(-1)
        tau, rows = self._targets.detach().to(log_p.dtype), self._rows.to(log_p.dtype)
        of_p, of_tau = _product(log_p.exp(), rows), _product(tau, rows)
        # Not tau log p alone: a token of probability 0 may have the logit -inf, and 0 inf is no number.
        m = -torch.where(tau > 0, tau * log_p, 0).sum(-1)
        return m, 1 - (of_p * of_tau).sum(-1), (of_p - of_tau).square().sum(-1) / 2


class _Transport(torch.autograd.Function):
    """m and e = sum_i p_i (1 - s_i) of each token, s_i = <ê_i, ê_t>; one product gives e and p_k (1 - s_k - e)."""

    @staticmethod
    def forward(ctx, logits_NV: Tensor, targets_N: Tensor, rows_VD: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        s_NV = _product(rows_VD[targets_N], rows_VD.T)
        # As computed, s_t is 1 up to rounding alone, and e would be off by that of it times p_t: all of a small e.
        s_NV.scatter_(1, targets_N[:, None], 1)
        m_N, e_N = _empty_terms(logits_NV), _empty_terms(logits_NV)
        _by_piece(_nll_and_transport, logits_NV, targets_N, s_NV, m_N, e_N)
        ctx.save_for_backward(logits_NV, targets_N, s_NV, m_N, e_N)
        return m_N, e_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_m_N: Tensor, of_e_N: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        logits_NV, targets_N, s_NV, m_N, e_N = ctx.saved_tensors
        of_target_N = (-m_N).exp() * (of_m_N - of_e_N * e_N) - of_m_N
        level_N = of_m_N + of_e_N * (1 - e_N)
        into_NV = torch.empty_like(logits_NV)
        return _gradient(logits_NV, targets_N, s_NV, -of_e_N, level_N, of_target_N, into_NV), None, None


class _Energy(torch.autograd.Function):
    """m, e and d of each token from the one product r = sum_{i≠t} p_i ê_i; the gradient takes a second.

    With q = sum_{i≠t} p_i, ē_p - ê_t = r - q ê_t and e = q - <r, ê_t>: neither subtracts what p_t leaves over from 1.
    The gradient is that of d, p_k (h_k - sum_i p_i h_i) with h_k = <ê_k, ē_p - ê_t>, and h_t - sum_i p_i h_i = -2 d.
    """

    @staticmethod
    def forward(ctx, logits_NV: Tensor, targets_N: Tensor, rows_VD: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        p_NV, m_N = rows_VD.new_empty(logits_NV.shape), _empty_terms(logits_NV)
        _by_piece(_nll_and_probabilities, logits_NV, targets_N, m_N, p_NV)
        p_NV.scatter_(1, targets_N[:, None], 0)
        q_N = p_NV.sum(-1, dtype=m_N.dtype)
        r_ND = _product(p_NV, rows_VD).to(m_N.dtype)
        own_ND = rows_VD[targets_N].to(m_N.dtype)
        e_N = q_N - (r_ND * own_ND).sum(-1)
        away_ND = r_ND - q_N[:, None] * own_ND
        d_N = away_ND.square().sum(-1) / 2
        ctx.save_for_backward(logits_NV, targets_N, rows_VD, m_N, d_N, away_ND)
        ctx.mark_non_differentiable(e_N)
        return m_N, e_N, d_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_m_N: Tensor, _: Tensor, of_d_N: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        logits_NV, targets_N, rows_VD, m_N, d_N, away_ND = ctx.saved_tensors
        h_NV = _product(away_ND.to(rows_VD.dtype), rows_VD.T)
        h_of_target_N = (away_ND * rows_VD[targets_N]).sum(-1)
        of_target_N = (-m_N).exp() * (of_m_N - 2 * of_d_N * d_N) - of_m_N
        level_N = of_m_N - of_d_N * (h_of_target_N + 2 * d_N)
        into_NV = h_NV if h_NV.dtype == logits_NV.dtype else torch.empty_like(logits_NV)
        return _gradient(logits_NV, targets_N, h_NV, of_d_N, level_N, of_target_N, into_NV), None, None


def _gradient(
    logits_NV: Tensor, targets_N: Tensor, s_NV: Tensor, slope_N: Tensor, level_N: Tensor, of_target_N: Tensor,
    into_NV: Tensor,
) -> Tensor:  # fmt: skip
    """Write p_k (level + slope s_k), and at the target what is given: there this form would cancel."""
    _by_piece(_linear_in_probabilities, logits_NV, s_NV, slope_N[:, None], level_N[:, None], into_NV)
    return into_NV.scatter_(1, targets_N[:, None], of_target_N[:, None].to(into_NV.dtype))


# Passes over (N, V), between the products; they write into their last arguments.
def _nll_and_transport(logits: Tensor, targets: Tensor, s: Tensor, m: Tensor, e: Tensor) -> None:
    log_p = _widened(logits).log_softmax(-1)
    m.copy_(-log_p.gather(1, targets[:, None])[:, 0])
    p = log_p.exp_()
    e.copy_(torch.addcmul(p, p, s.to(p.dtype), value=-1).sum(-1))


def _nll_and_probabilities(logits: Tensor, targets: Tensor, m: Tensor, p: Tensor) -> None:
    log_p = _widened(logits).log_softmax(-1)
    m.copy_(-log_p.gather(1, targets[:, None])[:, 0])
    p.copy_(log_p.exp_())


def _linear_in_probabilities(logits: Tensor, s: Tensor, slope: Tensor, level: Tensor, into: Tensor) -> None:
    into.copy_(_widened(logits).softmax(-1).mul_(torch.addcmul(level, slope, s.to(slope.dtype))))


def _by_piece(function: Callable[..., None], *tensors: Tensor) -> None:
    """Run a pass without temporaries of size (N, V): on a CPU piece by piece, on a GPU compiled to one kernel."""
    if tensors[0].is_cuda:
        _compiled(function)(*(tensor.detach() for tensor in tensors))  # else the compiler asks for .grad, and warns
        return
    size = max(1, PIECE // tensors[0].shape[1])
    for start in range(0, len(tensors[0]), size):
        function(*(tensor[start : start + size] for tensor in tensors))


@functools.cache
def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    return torch.compile(function)


def _product(a: Tensor, b: Tensor) -> Tensor:
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def _empty_terms(logits_NV: Tensor) -> Tensor:
    return logits_NV.new_empty(len(logits_NV), dtype=torch.promote_types(logits_NV.dtype, torch.float32))


def _kept(logits: Tensor, targets: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Flatten, check, and leave out the ignored tokens."""
    if not logits.is_floating_point():
        message = f"the logits are {logits.dtype}; they must be real numbers"
        raise TypeError(message)
    vocabulary = logits.shape[-1]
    if targets.is_floating_point():
        if targets.shape != logits.shape:
            message = f"soft targets have shape {tuple(targets.shape)}, the logits {tuple(logits.shape)}"
            raise ValueError(message)
        if (targets < 0).any() or ((targets.sum(-1) - 1).abs() > 1e-4).any():
            message = "soft targets must be distributions: not negative, of sum 1 in the last dimension"
            raise ValueError(message)
        return logits.reshape(-1, vocabulary), targets.reshape(-1, vocabulary)
    if targets.shape != logits.shape[:-1]:
        message = f"targets have shape {tuple(targets.shape)}, the logits {tuple(logits.shape)}"
        raise ValueError(message)
    flat, ids = logits.reshape(-1, vocabulary), targets.reshape(-1).long()
    if not len(ids):
        return flat, ids
    keep = ids != ignore_index
    inside = ids.where(keep, 0)
    # All that is asked of the ids at once: a GPU is waited for once.
    low, high, kept = torch.stack([inside.min(), inside.max(), keep.sum()]).tolist()
    if low < 0 or high >= vocabulary:
        message = f"targets go from {low} to {high}; allowed: 0 to {vocabulary - 1}, or {ignore_index}"
        raise ValueError(message)
    return (flat, ids) if kept == len(ids) else (flat[keep], ids[keep])


def _widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _mean(of_tokens: Tensor) -> Tensor:
    return of_tokens.mean() if len(of_tokens) else of_tokens.sum()

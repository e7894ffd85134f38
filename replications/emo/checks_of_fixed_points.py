"""Step 11 of the derivation: which predictions the losses are least at, or come to rest at, when contexts repeat.

P is the law of the next token in one context, and q a prediction of it. A loss is proper if its mean over P is least
at q = P, and strictly proper if it is least there alone.
"""

from functools import partial

import numpy as np
import torch
from scipy.optimize import brentq, linprog
from torch import Tensor
from torch.nn.functional import cross_entropy

from paperkit.checks import Check, by_name
from replications.emo.loss import (
    Objective,
    UnitEmbedding,
    earth_mover_loss,
    emo_energy_loss,
    emo_mle_loss,
    emo_weighted_loss,
    energy_loss,
    mixce_loss,
    mle_energy_loss,
    total_variation_loss,
)
from replications.emo.reference import (
    as_cost,
    dense_cost,
    drawn,
    gradient,
    largest,
    modes,
    of_each,
    terms,
    without_target,
)

__all__ = ["CHECKS", "FIXED_POINTS"]

SIZE = 200


def _law_and_cost() -> tuple[Tensor, UnitEmbedding]:
    """Draw a law of 200 tokens, and a cost of width 12 in which they are 20 groups of ten near-synonyms."""
    rows = drawn(111, 20, 12).repeat_interleave(10, 0) + 0.5 * drawn(112, SIZE, 12)
    return (1.5 * drawn(110, SIZE)).softmax(0), as_cost(rows)


def _mean(loss: Objective, q: Tensor, law: Tensor, cost: UnitEmbedding) -> float:
    """Average the library's loss of one prediction over all next tokens, each with its probability."""
    return float(law @ of_each(loss, q.log().expand(len(law), -1), torch.arange(len(law)), cost))


def _mean_gradient(loss: Objective, z: Tensor, law: Tensor, cost: UnitEmbedding) -> Tensor:
    return law @ gradient(lambda rows: loss(rows, torch.arange(len(law)), cost), z.expand(len(law), -1))


def _rest_point(loss: Objective, law: Tensor, cost: UnitEmbedding) -> Tensor:
    """Descend the mean gradient from the truth until it is zero; return logits."""
    z, relative = law.log(), torch.ones(SIZE)
    while largest(relative) > 1e-9:
        slope = _mean_gradient(loss, z, law, cost)
        relative = slope / z.softmax(0)
        z = (z - 1.5 * (slope / torch.maximum(z.softmax(0), law)).clamp(-1, 1)).log_softmax(0)
    return z


def _entropy(q: Tensor) -> float:
    return -float(torch.xlogy(q, q).sum())


def _divergence(p: Tensor, q: Tensor) -> float:
    return float(torch.xlogy(p, p / q).sum())


def _mode_2_without_target(z: Tensor, t: Tensor, cost: UnitEmbedding) -> Tensor:
    return modes(cross_entropy(z, t, reduction="none"), without_target(z, t, cost), 1e-10)[1].mean()


# Where each loss comes to rest: entropy of q, KL(P, q), and KL after one temperature, in nats; P has entropy 4.365.
FIXED_POINTS: dict[str, tuple[Objective, tuple[float, float, float]]] = {
    "m": (lambda z, t, _: cross_entropy(z, t), (4.365, 0.0, 0.0)),
    "m + 4 d": (mle_energy_loss, (4.365, 0.0, 0.0)),
    "m + e": (lambda z, t, c: cross_entropy(z, t) + earth_mover_loss(z, t, c), (4.335, 0.0026, 0.0023)),
    "mode 1": (emo_mle_loss, (4.268, 0.0478, 0.0417)),
    "mode 1, bound 3": (partial(emo_mle_loss, max_weight=3.0), (4.290, 0.0194, 0.0169)),
    "mode 1, d for e": (emo_energy_loss, (4.390, 0.0011, 0.0009)),
    "mode 2": (emo_weighted_loss, (3.522, 0.1571, 0.0154)),
    "mode 2, target taken out": (_mode_2_without_target, (1.977, 0.7396, 0.0669)),
    "MixCE": (lambda z, t, _: mixce_loss(z, t), (4.327, 0.0007, 0.0002)),
    "tvd": (lambda z, t, _: total_variation_loss(z, t, mixing_ratio=0.1), (4.365, 0.0, 0.0)),
}


def step_11_medoid() -> Check:
    """The mean of e is linear in q and least at one token, the medoid. Control: least at the truth, q = P."""
    law, cost = _law_and_cost()
    expected, q = dense_cost(cost.rows) @ law, (0.3 * drawn(113, SIZE)).softmax(0)
    least = linprog(expected.numpy(), A_eq=np.ones((1, SIZE)), b_eq=1).fun
    of_soft = float(earth_mover_loss(q.log()[None], law[None], cost))
    linear = max(abs(mean - float(q @ expected)) for mean in (of_soft, _mean(earth_mover_loss, q, law, cost)))
    return Check(max(linear, abs(least - float(expected.min()))), abs(least - float(law @ expected)))


def step_11_rest_equation() -> Check:
    """Where mode 1 rests, q_k = P_k / (1 + sum_t P_t w_t (c_kt - e_t)) with w = m / e. Control: w = 1."""
    law, cost = _law_and_cost()
    q, dense = _rest_point(emo_mle_loss, law, cost).softmax(0), dense_cost(cost.rows)
    e = dense @ q
    return Check(*(largest(law / (1 + (dense - e) @ (law * w)) / q - 1) for w in (-q.log() / e, torch.ones(SIZE))))


def step_11_fixed_points() -> Check:
    """Entropy, KL(P, q) and KL after one temperature where ten losses rest, as tabled. Control: costs permuted."""
    law, cost = _law_and_cost()

    def error(name: str, rows: UnitEmbedding) -> float:
        loss, tabled = FIXED_POINTS[name]
        z = _rest_point(loss, law, rows)
        tempered = min(_divergence(law, (z * beta).softmax(0)) for beta in np.linspace(0.3, 1.5, 241).tolist())
        found = _entropy(z.softmax(0)), _divergence(law, z.softmax(0)), tempered
        return max(abs(a - b) for a, b in zip(found, tabled, strict=True))

    permuted = cost.permuted(torch.from_numpy(np.random.default_rng(114).permutation(SIZE)))
    return Check(max(error(name, cost) for name in FIXED_POINTS), error("mode 1", permuted))


def step_11_entropy_may_rise() -> Check:
    """Beside synonyms mode 1 leaves an isolated token less, and more entropy, as stated. Control: MLE and energy."""
    synonyms = torch.cat([torch.zeros(99, 1), torch.full((99, 1), 0.8**0.5), 0.2**0.5 * torch.eye(99)], 1)
    cost = as_cost(torch.cat([torch.eye(101)[:1], synonyms]).double())

    def prediction(first: float) -> Tensor:  # the synonyms are alike, and so there is one unknown
        return torch.tensor([first] + [(1 - first) / 99] * 99, dtype=torch.float64)

    def error(loss: Objective) -> float:
        def slope(first: float) -> float:
            return float(_mean_gradient(loss, prediction(first).log(), prediction(0.4), cost)[0])

        rest = brentq(slope, 1e-3, 0.999, xtol=1e-12)
        found = rest, _entropy(prediction(0.4)), _entropy(prediction(rest))
        return max(abs(a - b) for a, b in zip(found, (0.0451, 3.430, 4.572), strict=True))

    return Check(error(emo_mle_loss), error(mle_energy_loss))


def step_11_energy_is_proper() -> Check:
    """From P to q the mean of d grows by |ē_q - ē_P|² / 2, that of MLE plus energy by KL too. Control: that of e."""
    law, cost = _law_and_cost()
    errors, controls = [], []
    for seed in (115, 116, 117):
        q = (6 * drawn(seed, SIZE)).softmax(0)
        form = float((cost.means(q[None]) - cost.means(law[None])).square().sum() / 2)
        forms = form, _divergence(law, q) + 4 * form, form
        of_d, of_sum, of_e = (
            abs(_mean(loss, q, law, cost) - _mean(loss, law, law, cost) - right)
            for loss, right in zip((energy_loss, mle_energy_loss, earth_mover_loss), forms, strict=True)
        )
        errors += [of_d, of_sum]
        controls.append(of_e)
    return Check(max(errors), max(controls))


def step_11_energy_is_not_strict() -> Check:
    """At width 12 a q with KL(P, q) > 1 has the mean d of P, at width 200 P alone. Control: the widths exchanged."""
    law, cost = _law_and_cost()

    def other(rows: Tensor) -> tuple[float, float]:
        """Find a q of the same mean, far from P if there is one: its excess of d, and its divergence."""
        sums = torch.cat([rows.T, torch.ones(1, SIZE).double()])
        corner = linprog(drawn(118, SIZE).numpy(), A_eq=sums.numpy(), b_eq=(sums @ law).numpy()).x
        q, dense = 0.9 * torch.from_numpy(corner).clamp(min=0) + 0.1 * law, dense_cost(rows)
        d = [float(terms(x.log()[None], law[None], dense)[2]) for x in (q, law)]
        return abs(d[0] - d[1]), _divergence(law, q)

    narrow, wide = other(cost.rows), other(as_cost(drawn(119, SIZE, SIZE)).rows)
    error = max(narrow[0], wide[0], 1 - narrow[1], abs(wide[1]))
    return Check(max(0.0, error), max(1 - wide[1], narrow[1]))


CHECKS = by_name(
    step_11_medoid,
    step_11_rest_equation,
    step_11_fixed_points,
    step_11_entropy_may_rise,
    step_11_energy_is_proper,
    step_11_energy_is_not_strict,
)

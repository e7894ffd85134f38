"""The derivation as checks that run: what the earth mover's distance is as a loss, and what it is not.

Letters as in `loss`: p is the prediction, tau the target's distribution, c the cost; m, e and d are a token's losses.
The library is compared with `reference`, in float64 where a check does not say otherwise. Step 11, on the predictions
at which the losses come to rest, is in `checks_of_fixed_points`; `CHECKS` names them all.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.special import rel_entr
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from paperkit.checks import Check, Checks, by_name
from replications.emo import checks_of_fixed_points
from replications.emo.loss import (
    Objective,
    UnitEmbedding,
    earth_mover_loss,
    emo_mle_loss,
    emo_weighted_loss,
    energy_loss,
    mixce_loss,
    total_variation_loss,
)
from replications.emo.reference import (
    VOCABULARY,
    WIDTH,
    World,
    as_cost,
    confident,
    dense_cost,
    drawn,
    exact_distances,
    gradient,
    largest,
    modes,
    of_each,
    terms,
    without_target,
    world,
)

__all__ = ["CHECKS"]


def _library(loss: Objective, w: World) -> Tensor:
    return gradient(lambda z: loss(z, w.targets, w.cost), w.logits)


def step_1_cross_entropy() -> Check:
    """KL(tau, p) is the cross-entropy minus the entropy of tau. Control: KL(p, tau)."""
    w = world(10)
    found = cross_entropy(w.logits, w.soft, reduction="none") + torch.xlogy(w.soft, w.soft).sum(-1)
    pairs = (w.soft.numpy(), w.p.numpy()), (w.p.numpy(), w.soft.numpy())
    return Check(*(largest(found - torch.from_numpy(rel_entr(*pair)).sum(-1)) for pair in pairs))


def step_2_transport() -> Check:
    """SciPy's linear program and POT find plans of the same cost. Control: the plan need not arrive at tau."""
    p, tau, dense = drawn(20, 10, 12).softmax(-1), drawn(21, 10, 12).softmax(-1), dense_cost(drawn(22, 12, 4))
    leaving, arriving = np.kron(np.eye(12), np.ones((1, 12))), np.kron(np.ones((1, 12)), np.eye(12))
    exact = exact_distances(p, tau, dense).numpy()

    def error(rows: np.ndarray, sides: Tensor) -> float:
        costs = [linprog(dense.numpy().ravel(), A_eq=rows, b_eq=side).fun for side in sides.numpy()]
        return float(np.abs(costs - exact).max())

    return Check(error(np.vstack([leaving, arriving]), torch.cat([p, tau], 1)), error(leaving, p))


def step_3_one_hot() -> Check:
    """Against a one-hot target e is the exact distance, with any cost. Control: a tenth of the target is elsewhere."""
    w = world(30)
    other, smooth = drawn(34, VOCABULARY, VOCABULARY).abs(), 0.9 * w.hot + 0.1 / VOCABULARY
    e, of_other = of_each(earth_mover_loss, w.logits, w.targets, w.cost), (w.p * other[:, w.targets].T).sum(-1)
    error = largest(e - exact_distances(w.p, w.hot, w.dense), of_other - exact_distances(w.p, w.hot, other))
    bound = of_each(earth_mover_loss, w.logits, smooth, w.cost)
    return Check(error, largest(bound - exact_distances(w.p, smooth, w.dense)))


def step_3_one_hot_float32() -> Check:
    """The same of the library in float32. Control: 1 - cos of the mean and the target, the mean made a unit vector."""
    w = world(30)
    exact = exact_distances(w.p, w.hot, w.dense)
    e = of_each(earth_mover_loss, w.logits.float(), w.targets, UnitEmbedding(w.cost.rows.float()))
    return Check(largest(e - exact), largest(1 - cosine_similarity(w.cost.means(w.p), w.cost.rows[w.targets]) - exact))


def step_4_upper_bound() -> Check:
    """In 1000 draws the product plan never costs less than the best. Control: 1 - cos of the two means."""
    p, tau, rows = (2 * drawn(40, 1000, 12)).softmax(-1), (2 * drawn(41, 1000, 12)).softmax(-1), drawn(42, 12, 4)
    exact, cost = exact_distances(p, tau, dense_cost(rows)), as_cost(rows)
    products = of_each(earth_mover_loss, p.log(), tau, cost), 1 - cosine_similarity(cost.means(p), cost.means(tau))
    return Check(*(max(0.0, float((exact - product).max())) for product in products))


def step_4_not_zero_at_truth() -> Check:
    """Where p is tau the bound is p'Cp, not 0, while the distance is 0. Control: the bound is taken for 0."""
    w = world(43)
    bound = of_each(earth_mover_loss, w.soft.log(), w.soft, w.cost)
    error = largest(bound - (w.soft @ w.dense * w.soft).sum(-1), exact_distances(w.soft, w.soft, w.dense))
    return Check(error, float(bound.min()))


def step_5_zero_one_cost() -> Check:
    """With the same cost for all other tokens e is 1 - p_t, the total variation. Control: each token has a synonym."""
    w, eye = world(50), torch.eye(VOCABULARY).double()
    variation = (w.p - w.hot).abs().sum(-1) / 2
    costs = as_cost(eye), as_cost(eye[torch.arange(VOCABULARY) // 2])
    return Check(*(largest(of_each(earth_mover_loss, w.logits, w.targets, cost) - variation) for cost in costs))


def step_6_contraction() -> Check:
    """The product p'C tau is 1 - <ē_p, ē_tau>, by hand and by the library. Control: rows that are not unit vectors."""
    w, raw = world(60), drawn(61, VOCABULARY, WIDTH)
    errors, controls = [], []
    for tau, targets in ((w.hot, w.targets), (w.soft, w.soft)):
        e = terms(w.logits, tau, w.dense)[1]
        by_hand, without_norms = (1 - (w.p @ rows * (tau @ rows)).sum(-1) for rows in (w.cost.rows, raw))
        errors.append(largest(by_hand - e, of_each(earth_mover_loss, w.logits, targets, w.cost) - e))
        controls.append(largest(without_norms - e))
    return Check(max(errors), min(controls))


def step_7_gradient() -> Check:
    """The gradient of e is p_k (c_kt - e): the library's, and autograd's through the dense cost. Control: p_k c_kt."""
    w = world(70)
    costs, e = w.dense[w.targets], terms(w.logits, w.hot, w.dense)[1][:, None]
    found = _library(earth_mover_loss, w), gradient(lambda z: terms(z, w.hot, w.dense)[1], w.logits)
    return Check(*(largest(*(g - form for g in found)) for form in (w.p * (costs - e), w.p * costs)))


def step_7_synonyms_rise() -> Check:
    """Share of tokens that e does not raise where c_kt < e, or lower where c_kt > e. Control: m, which raises t."""
    w = world(70)
    nearer = w.dense[w.targets] < terms(w.logits, w.hot, w.dense)[1][:, None]
    losses: tuple[Objective, Objective] = earth_mover_loss, lambda z, t, _: cross_entropy(z, t)
    return Check(*(float(((_library(loss, w) < 0) != nearer).double().mean()) for loss in losses))


def step_7_slow_start() -> Check:
    """The target's own gradient of e is -p_t e, relative, for p_t down to a millionth. Control: the gradient of m."""
    w, p = world(70), torch.tensor([0.9, 0.5, 0.1, 1e-2, 1e-4, 1e-6], dtype=torch.float64)
    z, t = w.logits[: len(p)].clone(), torch.zeros(len(p), dtype=torch.long)
    z[:, 0] = z[:, 1:].logsumexp(1) + (p / (1 - p)).log()
    found = gradient(lambda x: earth_mover_loss(x, t, w.cost), z)[:, 0]
    return Check(*(largest(form / found - 1) for form in (-p * of_each(earth_mover_loss, z, t, w.cost), p - 1)))


def step_8_values() -> Check:
    """Mode 1 has the value of m, mode 2 that of 2 e, up to epsilon. Control: mode 1 with its weight bounded by 3."""
    w = world(80)
    m, e, _ = terms(w.logits, w.hot, w.dense)
    losses = emo_mle_loss, emo_weighted_loss, partial(emo_mle_loss, max_weight=3.0)
    one, two, bounded = (of_each(loss, w.logits, w.targets, w.cost) for loss in losses)
    return Check(largest(one - m, two - 2 * e), largest(bounded - m))


def step_8_gradients() -> Check:
    """Gradients of modes 1 and 2 by library and autograd. Control: mode 1 without stopping, which has those of m."""
    w = world(80)
    one, two = (_library(loss, w) for loss in (emo_mle_loss, emo_weighted_loss))

    def by_autograd(mode: int, epsilon: float = 1e-10, *, detach: bool = True) -> Tensor:
        return gradient(lambda z: modes(*terms(z, w.hot, w.dense)[:2], epsilon, detach=detach)[mode], w.logits)

    through = by_autograd(0, epsilon=0, detach=False)
    return Check(largest(one - by_autograd(0), two - by_autograd(1), through - (w.p - w.hot)), largest(one - through))


def step_8_reweighting() -> Check:
    """Without epsilon modes 1 and 2 go along the gradient of log(m e), m / 2 and e times. Control: mode 2 m times."""
    w = world(80)

    def slope(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return gradient(lambda z: loss(*terms(z, w.hot, w.dense)[:2]), w.logits)

    m, e, _ = (term[:, None] for term in terms(w.logits, w.hot, w.dense))
    one, two = (slope(lambda m, e, i=i: modes(m, e, 0)[i]) for i in (0, 1))
    along = slope(lambda m, e: (m * e).log())
    return Check(largest(one - m / 2 * along, two - e * along, two - 2 * e / m * one), largest(two - m * along))


def step_9_target_taken_out() -> Check:
    """With the target taken out, e becomes e + p_t; its gradient stays. Control: p_t taken out with its gradient."""
    w = world(90)
    value = without_target(w.logits, w.targets, w.cost) - terms(w.logits, w.hot, w.dense)[1] - (w.p * w.hot).sum(-1)
    slopes = [_library(partial(without_target, detach=detach), w) for detach in (True, False)]
    stays, changes = (largest(slope - _library(earth_mover_loss, w)) for slope in slopes)
    return Check(max(stays, largest(value)), changes)


def step_9_weights() -> Check:
    """As p_t tends to 1, m / e tends to 1 / c̄, and m / (e + p_t) to 0. Control: the two are exchanged."""
    w = world(90)
    z, mean_cost = confident(w, 1e-6)
    m, e = terms(z, w.hot, w.dense)[0], of_each(earth_mover_loss, z, w.targets, w.cost)
    weights = m / e, m / without_target(z, w.targets, w.cost)
    return Check(*(largest(a - 1 / mean_cost, b) for a, b in (weights, weights[::-1])))


def step_10_bias() -> Check:
    """Energy distance and half the spreads of p and tau, (1 - |ē|²) / 2 each, sum to e. Control: without that of p."""
    w = world(100)
    errors, controls = [], []
    for tau, targets in ((w.hot, w.targets), (w.soft, w.soft)):
        means = w.p @ w.cost.rows, tau @ w.cost.rows
        of_p, of_tau = ((1 - mean.square().sum(-1)) / 2 for mean in means)
        form, (_, e, d) = (means[0] - means[1]).square().sum(-1) / 2, terms(w.logits, tau, w.dense)
        spread = (w.p @ w.dense * w.p).sum(-1) / 2
        library = of_each(energy_loss, w.logits, targets, w.cost)
        errors.append(largest(form + of_p + of_tau - e, form - d, library - d, spread - of_p))
        controls.append(largest(form + of_tau - e))
    return Check(max(errors), min(controls))


def step_10_energy_gradient() -> Check:
    """The gradient of d is p_k (h_k - p'h), h_k = <ê_k, ē_p - ê_t>: library, form, autograd. Control: that of e."""
    w = world(100)
    h = (w.p @ w.cost.rows - w.cost.rows[w.targets]) @ w.cost.rows.T
    form = w.p * (h - (w.p * h).sum(-1, keepdim=True))
    found = _library(energy_loss, w), gradient(lambda z: terms(z, w.hot, w.dense)[2], w.logits)
    return Check(largest(*(slope - form for slope in found)), largest(_library(earth_mover_loss, w) - form))


def step_12_not_a_metric() -> Check:
    """sqrt(2 c) is the distance of unit rows and obeys the triangle inequality; e is W2² / 2. Control: c itself."""
    w = world(120)
    chords = (w.cost.rows[:, None] - w.cost.rows[None]).square().sum(-1).sqrt()
    e = of_each(earth_mover_loss, w.logits, w.targets, w.cost)
    equalities = largest(2 * w.dense - chords**2, e - exact_distances(w.p, w.hot, chords**2) / 2)

    def violation(distance: Tensor) -> float:
        return float((distance[:, None] - distance[:, :, None] - distance[None]).amax().clamp(min=0))

    return Check(max(equalities, violation(chords)), violation(w.dense))


def step_13_invariances() -> Check:
    """Rows scaled, or all rotated, or a constant added to logits: e stays. Control: a constant added to all rows."""
    w, rows = world(130), drawn(131, VOCABULARY, WIDTH)
    e, moved = (of_each(earth_mover_loss, w.logits + shift, w.targets, w.cost) for shift in (0, 7))
    changed = rows * drawn(133, VOCABULARY, 1).exp(), rows @ torch.linalg.qr(drawn(132, WIDTH, WIDTH))[0], rows + 1
    scaled, rotated, shifted = (of_each(earth_mover_loss, w.logits, w.targets, as_cost(other)) for other in changed)
    return Check(largest(moved - e, scaled - e, rotated - e), largest(shifted - e))


def step_14_range() -> Check:
    """By how much e leaves [0, 2], or passes 1 - p_t where no cosine is negative. Control: passes 1 - p_t anywhere."""
    w, rows = world(140), drawn(141, VOCABULARY, WIDTH)
    two_poles = rows[:1] * torch.where(w.hot[0] > 0, -1, 1)[:, None]
    costs = map(as_cost, (rows, two_poles, rows.abs()))
    spread, poles, positive = (of_each(earth_mover_loss, w.logits, w.targets, cost) for cost in costs)
    rest, everywhere = 1 - (w.p * w.hot).sum(-1), torch.cat([spread, poles, positive])
    error = max(float((positive - rest).max()), float((everywhere - 2).max()), float(-everywhere.min()))
    return Check(max(0.0, error), float((spread - rest).max()))


def step_14_common_direction() -> Check:
    """If all cosines are rho, e is (1 - rho)(1 - p_t), and mode 1's gradient forgets rho. Control: e's does not."""
    w, shared, eye = world(140), torch.ones(VOCABULARY, 1).double(), torch.eye(VOCABULARY).double()
    errors, slopes = [], []
    for rho in (0.0, 0.5, 0.9):
        cost = as_cost(torch.cat([rho**0.5 * shared, (1 - rho) ** 0.5 * eye], 1))
        e = of_each(earth_mover_loss, w.logits, w.targets, cost)
        errors.append(largest(e - (1 - rho) * (1 - (w.p * w.hot).sum(-1))))
        slopes.append([_library(loss, w._replace(cost=cost)) for loss in (emo_mle_loss, earth_mover_loss)])
    of_mode_1, of_e = (largest(*(some[i] - slopes[0][i] for some in slopes)) for i in (0, 1))
    return Check(max(*errors, of_mode_1), of_e)


def step_15_tied_cost() -> Check:
    """By how much rows that are head and cost pass a mean cosine of 1/2. Control: the cost is not held constant."""

    def excess(*, detach: bool) -> float:
        contexts, head = drawn(150, 4, WIDTH).requires_grad_(), drawn(151, VOCABULARY, WIDTH).requires_grad_()
        optimizer, law = torch.optim.Adam([contexts, head], lr=0.1), (2 * drawn(152, 4, VOCABULARY)).softmax(-1)
        for _ in range(150):
            rows = normalize(head.detach() if detach else head)
            optimizer.zero_grad()
            (1 - ((contexts @ head.T).softmax(-1) @ rows * (law @ rows)).sum(-1)).mean().backward()
            optimizer.step()
        return max(0.0, float(normalize(head.detach()).mean(0).square().sum()) - 0.5)

    return Check(excess(detach=True), excess(detach=False))


def step_16_baselines() -> Check:
    """MixCE and "tvd" as the original's code has them: TaiLr's weight at 1 - gamma, mixed with 1. Control: TaiLr."""
    w = world(160)
    m, p_t = cross_entropy(w.logits, w.targets, reduction="none"), (w.p * w.hot).sum(-1)

    def tailr(gamma: float) -> Tensor:
        return (p_t / (gamma + (1 - gamma) * p_t)).clamp(0.2, 1)

    errors, controls = [], []
    for ratio in (0.1, 0.9):
        mixce, tvd = (
            of_each(lambda z, t, _, f=f, r=ratio: f(z, t, mixing_ratio=r), w.logits, w.targets, w.cost)
            for f in (mixce_loss, total_variation_loss)
        )
        weights = ratio + (1 - ratio) * p_t, ratio + (1 - ratio) * tailr(1 - ratio)
        errors.append(largest(mixce - weights[0] * m, tvd - weights[1] * m))
        controls.append(largest(tvd - tailr(ratio) * m))
    return Check(max(errors), min(controls))


def step_17_confident_in_float32() -> Check:
    """Relative error of e in float32 where 1 - p_t is a ten-millionth: library. Control: 1 - <ē_p, ê_t> in float32."""
    w = world(170)
    z, mean_cost = confident(w, 1e-7)
    single, rows, targets = z.float(), w.cost.rows.float(), w.targets
    contracted = 1 - (single.softmax(-1) @ rows * rows[targets]).sum(-1)
    found = of_each(earth_mover_loss, single, targets, UnitEmbedding(rows)), contracted
    return Check(*(largest(e / (1e-7 * mean_cost) - 1) for e in found))


CHECKS: Checks = {
    **by_name(
        step_1_cross_entropy, step_2_transport, step_3_one_hot, step_3_one_hot_float32, step_4_upper_bound,
        step_4_not_zero_at_truth, step_5_zero_one_cost, step_6_contraction, step_7_gradient, step_7_synonyms_rise,
        step_7_slow_start, step_8_values, step_8_gradients, step_8_reweighting, step_9_target_taken_out,
        step_9_weights, step_10_bias, step_10_energy_gradient,
    ),
    **checks_of_fixed_points.CHECKS,
    **by_name(
        step_12_not_a_metric, step_13_invariances, step_14_range, step_14_common_direction, step_15_tied_cost,
        step_16_baselines, step_17_confident_in_float32,
    ),
}  # fmt: skip

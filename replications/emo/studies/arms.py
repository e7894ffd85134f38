"""Who is compared: what each arm minimises, and with which cost."""

from collections.abc import Mapping
from functools import partial

from torch import Tensor
from torch.nn import functional

from replications.emo.loss import (
    Objective,
    earth_mover_loss,
    emo_energy_loss,
    emo_mle_loss,
    emo_weighted_loss,
    energy_loss,
    mixce_loss,
    mle_energy_loss,
    total_variation_loss,
)


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean negative log-likelihood of logits (..., V) and token ids (...)."""
    return functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), label_smoothing=label_smoothing)


# In every arm the term m comes with the weight that it has in the arm's name: half in mode 1, whole beside 4 d.
OBJECTIVES: Mapping[str, Objective] = {
    "mle": lambda z, t, _: cross_entropy(z, t),
    "emo": emo_mle_loss,  # mode 1, no bound: the language modelling of the original
    "emo_clamped": partial(emo_mle_loss, max_weight=3.0),  # the original's package
    "emo_weighted": emo_weighted_loss,  # mode 2
    "pure_emo": earth_mover_loss,
    "mle_plus_4_energy": mle_energy_loss,
    # Bias or geometry: {e, d} with weight 1 and with the weight m / e of mode 1 ("emo" is the fourth).
    "mle_plus_e": lambda z, t, c: (cross_entropy(z, t) + earth_mover_loss(z, t, c)) / 2,
    "mle_plus_d": lambda z, t, c: (cross_entropy(z, t) + energy_loss(z, t, c)) / 2,
    "emo_energy": emo_energy_loss,
    # Cheap competitors, and the original's baselines as its code has them.
    "label_smoothing": lambda z, t, _: cross_entropy(z, t, 0.1),
    "mixce": lambda z, t, _: mixce_loss(z, t),
    "total_variation": lambda z, t, _: total_variation_loss(z, t, mixing_ratio=0.1),
}
# Arms that differ from one of these in their cost alone: its name, before the cost's.
COSTS = ("permuted", "random", "pmi", "glove")


def objective(arm: str) -> Objective:
    """Return what an arm minimises; "emo_permuted" is "emo" with another cost."""
    name, _, cost = arm.rpartition("_")
    return OBJECTIVES[name if cost in COSTS else arm]

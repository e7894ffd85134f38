"""What the figures of the derivation show: scores of a few tokens, and self-logits of many."""

from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

from paperkit.runs import Measurement, Run
from replications.shared_embeddings.embedding import half_swap, rms_normalise, shuffle, signed_swap
from replications.shared_embeddings.random_tables import drawn

__all__ = ["MAPS", "measure_scores", "measure_self_logits"]

WIDTH, TOKENS, DRAWS = 64, 20, 20_000


def _rotated(w: Tensor) -> Tensor:
    rotation, _ = np.linalg.qr(drawn(1, WIDTH, WIDTH).numpy())
    return w @ drawn(0, 0, WIDTH).new_tensor(rotation)


MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "tied": lambda w: w,
    "half_swap": half_swap,
    "signed_swap": signed_swap,
    "orthogonal": _rotated,
    "shuffle": lambda w: shuffle(w, 2),
    "shuffle_square": lambda w: shuffle(w, 8),
}


def measure_scores(run: Run) -> Iterator[Measurement]:
    """Compute row `row` of the initial scores W P^T W^T / s at d = 64, s = 1/8, that of token j at "step" j."""
    table = drawn(2, TOKENS, WIDTH) / 8
    scores = MAPS[run.arm](table[run.config["row"]]) @ table.T * 8
    yield from (Measurement("none", j, "score", float(score)) for j, score in enumerate(scores))


def measure_self_logits(run: Run) -> Iterator[Measurement]:
    """Describe the self-logits of 20 000 tokens at d = 64, s = 1/8, with the exact norm."""
    table = drawn(3, DRAWS, WIDTH) / 8
    values = (rms_normalise(MAPS[run.arm](table)) * table).sum(1).numpy()
    yield Measurement("none", 0, "self_logit_mean", float(values.mean()))
    yield Measurement("none", 0, "self_logit_sd", float(values.std()))
    for percent in range(5, 100, 10):
        yield Measurement("none", percent, "self_logit_percentile", float(np.percentile(values, percent)))

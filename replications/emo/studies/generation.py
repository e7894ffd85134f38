"""Texts that a model writes, and how far they are from what people wrote.

The score is after MAUVE (Pillutla et al., 2021), with features of the model that training started from: continuations
of texts A are compared with texts B, none of which is one of A. The ceiling is what people wrote in A, against B.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor, nn

from paperkit.config import StrictModel
from paperkit.models.language_model import even_windows
from paperkit.runs import Measurement
from paperkit.texts import Split

C = 5  # scales divergences in the score
MIXTURES = np.linspace(0, 1, 27)[1:-1]
TEXTS_A_CLUSTER = 8
N_GRAM = 4  # of repetition
AT_ONCE = 128  # texts in one forward pass for features


class Generation(StrictModel):
    """What is written, and the settings of sampling that are tried for every arm alike."""

    arms: list[str] = Field(min_length=1)
    texts: int = Field(ge=16)  # continuations
    prefix_tokens: PositiveInt
    new_tokens: int = Field(gt=N_GRAM)
    temperatures: list[PositiveFloat] = Field(min_length=1)
    top_ps: list[PositiveFloat] = Field(min_length=1)
    clusterings: PositiveInt  # over which a score is averaged


def measure_generation(
    model: nn.Module, frozen: nn.Module, texts: Mapping[Split, Sequence[Tensor]], of: Generation, seed: int, step: int
) -> Iterator[Measurement]:
    """Choose temperature and top-p on validation; score what is written on test, so and plainly sampled."""
    a, b = _excerpts(texts["validation"], of)
    target, scores = features(frozen, b), {}
    for decoding in product(of.temperatures, of.top_ps):
        written = sample(model, a[:, : of.prefix_tokens], of.new_tokens, *decoding, seed)
        scores[decoding] = mauve_score(features(frozen, written), target, of.clusterings)
    chosen = max(scores, key=lambda decoding: scores[decoding])
    yield Measurement("validation", step, "mauve_score", scores[chosen])
    yield Measurement("none", step, "decoding_temperature_ratio", chosen[0])
    yield Measurement("none", step, "decoding_top_p_share", chosen[1])
    a, b = _excerpts(texts["test"], of)
    target, sampled = features(frozen, b), {"gold_": a[:, of.prefix_tokens :]}
    for name, decoding in {"": chosen, "plain_": (1.0, 1.0)}.items():
        sampled[name] = sample(model, a[:, : of.prefix_tokens], of.new_tokens, *decoding, seed)
    for name, written in sampled.items():
        values = {
            "mauve_score": mauve_score(features(frozen, written), target, of.clusterings),
            "unigram_divergence_nats": unigram_divergence(written, b),
            "distinct_2_share": distinct_share(written.unfold(1, 2, 1).flatten(0, 1)),
            "repetition_share": repetition_share(written),
        }
        yield from (Measurement("test", step, f"{name}{metric}", value) for metric, value in values.items())


@torch.no_grad()
def sample(model: Any, prefixes_NT: Tensor, new_tokens: int, temperature: float, top_p: float, seed: int) -> Tensor:
    """Continue prefixes, with a cache of keys and values; a seed is the same noise for all models, shape (N, new)."""
    # Not `generate`: its top-p sums in floating point, for which CUDA has no order that repeats.
    model.eval()
    tokens = prefixes_NT.to(next(model.parameters()).device)
    noise, cache, written = torch.Generator(tokens.device).manual_seed(seed), None, []
    for _ in range(new_tokens):
        output = model(tokens, cache=cache, use_cache=True, logits_to_keep=1)
        cache = output.cache
        p_NV = nucleus((output.logits[:, -1].float() / temperature).softmax(1), top_p)
        tokens = (p_NV / torch.empty_like(p_NV).exponential_(generator=noise)).argmax(1, keepdim=True)
        written.append(tokens)
    return torch.cat(written, 1).cpu()


def nucleus(p_NV: Tensor, top_p: float) -> Tensor:
    """Set to zero all but the most probable tokens that together reach top_p; not normalised."""
    if top_p >= 1:
        return p_NV
    ranked, order = p_NV.sort(dim=1, descending=True, stable=True)
    # Integers, whose sums do not depend on their order.
    parts = (ranked.double() * 2**52).long()
    before = parts.cumsum(1) - parts
    return torch.zeros_like(p_NV).scatter(1, order, ranked * (before < top_p * 2**52))


@torch.no_grad()
def features(model: Any, tokens_NT: Tensor) -> np.ndarray:
    """Return the mean of the last hidden states over each text, shape (N, D)."""
    model.eval()
    device = next(model.parameters()).device
    states = [model.base_model(some.to(device)).last_hidden_state.mean(1).cpu() for some in tokens_NT.split(AT_ONCE)]
    return torch.cat(states).numpy().astype(np.float64)


def mauve_score(model: np.ndarray, gold: np.ndarray, clusterings: int = 5) -> float:
    """Return the area below the divergence frontier of two samples of features (N, D): near 0 if apart, 1 if alike."""
    unit = np.concatenate([model, gold])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    reduced = PCA(n_components=0.9, svd_solver="full").fit_transform(unit)
    clusters = max(2, len(gold) // TEXTS_A_CLUSTER)
    areas = []
    for seed in range(clusterings):
        labels = KMeans(clusters, n_init=1, random_state=seed).fit_predict(reduced)
        # Half a text is added to every cluster.
        p, q = (np.bincount(of, minlength=clusters) + 0.5 for of in (labels[: len(model)], labels[len(model) :]))
        areas.append(_area(p / p.sum(), q / q.sum()))
    return float(np.mean(areas))


def _area(p: np.ndarray, q: np.ndarray) -> float:
    mixed = MIXTURES[:, None] * p + (1 - MIXTURES[:, None]) * q
    to_q, to_p = (np.exp(-C * (of * np.log(of / mixed)).sum(1)) for of in (q, p))
    # From (0, 1), where the mixture is p alone, to (1, 0).
    return float(np.trapezoid([1, *to_p[::-1], 0], [0, *to_q[::-1], 1]))


def unigram_divergence(model_NT: Tensor, gold_NT: Tensor) -> float:
    """Return the Jensen-Shannon divergence in nats between the frequencies of tokens."""
    size = int(max(model_NT.max(), gold_NT.max())) + 1
    p, q = (np.bincount(of.flatten().numpy(), minlength=size) / of.numel() for of in (model_NT, gold_NT))
    middle = (p + q) / 2
    return float(sum((of[of > 0] * np.log(of[of > 0] / middle[of > 0])).sum() for of in (p, q)) / 2)


def distinct_share(grams: Tensor) -> float:
    """Return the share of different ones among n-grams, shape (number, n)."""
    return len(grams.unique(dim=0)) / len(grams)


def repetition_share(tokens_NT: Tensor) -> float:
    """Return the share of n-grams that stood earlier in the same text, mean over texts."""
    return 1 - float(np.mean([distinct_share(grams) for grams in tokens_NT.unfold(1, N_GRAM, 1)]))


def _excerpts(texts: Sequence[Tensor], of: Generation) -> tuple[Tensor, Tensor]:
    """Cut evenly spaced excerpts out of every second text (A, with prefixes); of the others (B) new tokens alone."""
    long = of.prefix_tokens + of.new_tokens
    a = even_windows(torch.cat(list(texts[::2])), context=long, number=of.texts)[0]
    b = even_windows(torch.cat(list(texts[1::2])), context=long, number=of.texts)[0]
    return a, b[:, of.prefix_tokens :]

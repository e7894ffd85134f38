"""Costs beside a pretrained head: its rows permuted among tokens of about one frequency, and vectors from counts."""

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.linalg import svds
from torch import Tensor

NEIGHBOURS = 4  # tokens on either side that count as company


def within_deciles(counts_V: np.ndarray, seed: int) -> Tensor:
    """Draw a permutation of tokens that moves each within its decile of frequency, shape (V,)."""
    # It leaves how costs are distributed, and how they go with frequency, and takes away which tokens are alike.
    order = torch.arange(len(counts_V))
    rng = np.random.default_rng(seed)
    for decile in np.array_split(np.argsort(counts_V, kind="stable"), 10):
        order[torch.from_numpy(decile)] = torch.from_numpy(rng.permutation(decile))
    return order


def pmi_vectors(stream: Tensor, vocabulary: int, width: int) -> Tensor:
    """Return word vectors from a text's counts, an SVD of positive pointwise mutual information, shape (V, width)."""
    # Levy and Goldberg (2014): singular values to the power one half, contexts smoothed by the power 0.75.
    tokens = stream.numpy()
    pairs = np.concatenate([tokens[:-step] * vocabulary + tokens[step:] for step in range(1, NEIGHBOURS + 1)])
    found, numbers = np.unique(pairs, return_counts=True)
    first, second = np.divmod(found, vocabulary)
    rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
    counts = np.concatenate([numbers, numbers]).astype(float)
    of_row = np.bincount(rows, counts, vocabulary)
    of_context = np.bincount(columns, counts, vocabulary) ** 0.75
    pmi = np.log(counts * of_context.sum() / (of_row[rows] * of_context[columns]))
    positive = coo_array((np.maximum(pmi, 0), (rows, columns)), shape=(vocabulary, vocabulary)).tocsr()
    u, s, _ = svds(positive, k=width, v0=np.ones(vocabulary), random_state=0)
    return torch.from_numpy((u * np.sqrt(s)).astype(np.float32))

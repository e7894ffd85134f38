"""A made-up stream of tokens in place of the speeches: tests of training need no tokenizer."""

import numpy as np
import torch


def made_up_stream(split, vocabulary, _corpus="sotu"):
    """Tokens as frequent as words are, the k-th in proportion to 1/k, independent of each other."""
    frequency = 1 / np.arange(1, vocabulary + 1)
    draw = np.random.default_rng(len(split)).choice(vocabulary, size=3000, p=frequency / frequency.sum())
    return torch.from_numpy(draw)

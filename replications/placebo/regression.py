"""Softmax regression by plain gradient steps: the cheapest method here that is tuned, and whose seeds differ."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

__all__ = ["cross_entropy", "train"]

Floats = NDArray[np.float64]


def train(
    weights: Floats, inputs: Floats, targets: Floats, order: NDArray[np.int64], *, lr: float, decay: float
) -> Floats:
    """Take a gradient step for each batch, with a rate that falls linearly: w - lr (1 - t/T) (g + decay w).

    g is the gradient of the batch's mean cross-entropy.

    Args:
        weights: Where to start, shape (features, classes); left as they are.
        inputs: Shape (samples, features).
        targets: One-hot labels, shape (samples, classes).
        order: Samples of each of the T batches, shape (T, batch).
        lr: Learning rate of the first step, positive.
        decay: Weight decay, at least 0.

    Returns:
        The trained weights.

    Example:
        >>> inputs, targets = np.ones((2, 1)), np.eye(2)[[0, 0]]
        >>> train(np.zeros((1, 2)), inputs, targets, np.array([[0, 1]]), lr=1.0, decay=0.0).tolist()
        [[0.5, -0.5]]
    """
    weights, (steps, batch) = weights.copy(), order.shape
    for step, chosen in enumerate(order):
        of_batch = inputs[chosen]
        logits = of_batch @ weights
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        errors = raised / raised.sum(axis=1, keepdims=True) - targets[chosen]
        weights -= lr * (1 - step / steps) * (of_batch.T @ errors / batch + decay * weights)
    return weights


def cross_entropy(weights: Floats, inputs: Floats, targets: Floats) -> float:
    """Return the mean cross-entropy in nats.

    Args:
        weights: Shape (features, classes).
        inputs: Shape (samples, features).
        targets: One-hot labels, shape (samples, classes).

    Returns:
        Mean over samples of -log softmax(input · weights) at the label.

    Example:
        >>> round(cross_entropy(np.zeros((1, 4)), np.ones((3, 1)), np.eye(4)[[0, 1, 2]]), 4)
        1.3863
    """
    logits = inputs @ weights
    return float(np.mean(logsumexp(logits, axis=1) - (logits * targets).sum(axis=1)))

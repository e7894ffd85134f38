"""Numbers that a line of claims.yaml cannot say: slopes on the logarithm of a size, and the room below a ceiling."""

import re

import numpy as np
import pandas as pd

from paperkit.estimands import difference, of_arm, slopes


def size_slope(runs: pd.DataFrame) -> pd.Series:
    """Return the slope of KL(MLE) - KL(mode 1) on log N by seed, each at its best temperature."""
    return _slope(runs, r"synonyms_(\d+)_tempered", "kl_nats")


def size_slope_raw(runs: pd.DataFrame) -> pd.Series:
    """Return the same slope without a temperature."""
    return _slope(runs, r"synonyms_(\d+)", "kl_nats")


def vocabulary_slope(runs: pd.DataFrame) -> pd.Series:
    """Return the slope of the gain in cross-entropy on the logarithm of the vocabulary by seed."""
    return _slope(runs, r"continued_vocabulary_(\d+)", "loss_nats")


def mauve_headroom(runs: pd.DataFrame) -> pd.Series:
    """Return how far the texts of the MLE model are below what people wrote, both held against other texts."""
    ceiling, score = (
        of_arm(runs, "continued", "mle", metric, "test") for metric in ("gold_mauve_score", "mauve_score")
    )
    return ceiling - score


def _slope(runs: pd.DataFrame, pattern: str, metric: str) -> pd.Series:
    """Fit the gain of mode 1 over MLE, of the experiments whose name holds a size, on the size's logarithm."""
    sizes = {name: int(found[1]) for name in runs["experiment"].unique() if (found := re.fullmatch(pattern, name))}
    gains = {size: difference(runs, name, "mle", "emo", metric, "test") for name, size in sorted(sizes.items())}
    if not gains:
        return pd.Series(dtype=float)
    gain = pd.concat(gains, names=["size", "seed"])
    return slopes(np.log(gain.index.get_level_values("size").to_series(gain.index).astype(float)), gain)

"""What claims.yaml cannot say in a line: averages over the cells of {EM, L-BFGS} x {wide, k-means++}, by seed."""

from functools import partial

import pandas as pd

from paperkit.estimands import difference

METHODS, STARTS = ("em", "gradient"), ("wide", "kmeans")


def em_advantage(runs: pd.DataFrame, experiment: str = "comb25") -> pd.Series:
    """Log KL of L-BFGS minus that of EM, averaged over both starts."""
    gaps = [difference(runs, experiment, f"gradient_{start}", f"em_{start}", "kl_log") for start in STARTS]
    return (gaps[0] + gaps[1]) / 2


def start_effect(runs: pd.DataFrame, experiment: str = "comb25") -> pd.Series:
    """Log KL of the wide start minus that of k-means++, averaged over both methods."""
    gaps = [difference(runs, experiment, f"{method}_wide", f"{method}_kmeans", "kl_log") for method in METHODS]
    return (gaps[0] + gaps[1]) / 2


em_advantage_more_data = partial(em_advantage, experiment="comb25_more")
em_advantage_three_starts = partial(em_advantage, experiment="comb25_starts")
em_advantage_untuned = partial(em_advantage, experiment="comb25_untuned")
em_advantage_skewed = partial(em_advantage, experiment="skewed")
start_effect_more_data = partial(start_effect, experiment="comb25_more")
start_effect_three_starts = partial(start_effect, experiment="comb25_starts")
start_effect_untuned = partial(start_effect, experiment="comb25_untuned")
start_effect_skewed = partial(start_effect, experiment="skewed")


def _narrow(runs: pd.DataFrame, other: str, sign: int) -> pd.Series:
    """Average over methods sign times log KL from another start minus that from the narrow one."""
    gaps = [
        difference(runs, "comb25", f"{method}_{other}", f"{method}_narrow", "kl_log", minus_experiment="comb25_narrow")
        for method in METHODS
    ]
    return sign * (gaps[0] + gaps[1]) / 2


def width_effect(runs: pd.DataFrame) -> pd.Series:
    """Log KL of wide components minus that of narrow ones at the same centres."""
    return _narrow(runs, "wide", 1)


def centre_effect(runs: pd.DataFrame) -> pd.Series:
    """Log KL of narrow components at random centres minus that of k-means++."""
    return _narrow(runs, "kmeans", -1)

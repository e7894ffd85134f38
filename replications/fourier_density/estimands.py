"""What claims.yaml cannot say in a line: averages over the cells of {EM, L-BFGS} x {wide, k-means++}, by seed."""

from functools import partial

import pandas as pd

from paperkit.estimands import difference

METHODS, STARTS = ("em", "gradient"), ("wide", "kmeans")


def _mean_gap(
    runs: pd.DataFrame, pairs: list[tuple[str, str]], experiment: str, minus: str | None = None
) -> pd.Series:
    """Average over pairs log KL of the first arm minus the second's, which `minus` may take from elsewhere."""
    gaps = [difference(runs, experiment, *pair, "kl_log", minus_experiment=minus) for pair in pairs]
    return (gaps[0] + gaps[1]) / 2


def em_advantage(runs: pd.DataFrame, experiment: str = "comb25") -> pd.Series:
    """Log KL of L-BFGS minus that of EM, averaged over both starts."""
    return _mean_gap(runs, [(f"gradient_{start}", f"em_{start}") for start in STARTS], experiment)


def start_effect(runs: pd.DataFrame, experiment: str = "comb25") -> pd.Series:
    """Log KL of the wide start minus that of k-means++, averaged over both methods."""
    return _mean_gap(runs, [(f"{method}_wide", f"{method}_kmeans") for method in METHODS], experiment)


def width_effect(runs: pd.DataFrame) -> pd.Series:
    """Log KL of wide components minus that of narrow ones at the same centres."""
    pairs = [(f"{method}_wide", f"{method}_narrow") for method in METHODS]
    return _mean_gap(runs, pairs, "comb25", "comb25_narrow")


def centre_effect(runs: pd.DataFrame) -> pd.Series:
    """Log KL of narrow components at random centres minus that of k-means++."""
    pairs = [(f"{method}_narrow", f"{method}_kmeans") for method in METHODS]
    return _mean_gap(runs, pairs, "comb25_narrow", "comb25")


em_advantage_more_data = partial(em_advantage, experiment="comb25_more")
em_advantage_three_starts = partial(em_advantage, experiment="comb25_starts")
em_advantage_untuned = partial(em_advantage, experiment="comb25_untuned")
em_advantage_skewed = partial(em_advantage, experiment="skewed")
start_effect_more_data = partial(start_effect, experiment="comb25_more")
start_effect_three_starts = partial(start_effect, experiment="comb25_starts")
start_effect_untuned = partial(start_effect, experiment="comb25_untuned")
start_effect_skewed = partial(start_effect, experiment="skewed")

"""What claims.yaml cannot say in a line: slopes over lengths, and ratios of speeds within a round."""

import pandas as pd

from paperkit.estimands import of_arm, slopes

LONG_CHARACTERS = 50  # from which on a line is fitted


def _mass_slope(runs: pd.DataFrame, corpus: str, alpha: str) -> pd.Series:
    """Fit the logarithm of the mass of the 64 best against the length in characters."""
    rows = runs[(runs["experiment"] == f"mass_{corpus}") & (runs["metric"] == f"alpha_{alpha}_log_mass_nats")]
    rows = rows[rows["step"] >= LONG_CHARACTERS].set_index(["seed", "step"])
    return slopes(rows.index.get_level_values("step").to_series(rows.index).astype(float), rows["value"])


def mass_slope_english(runs: pd.DataFrame) -> pd.Series:
    """At alpha 0.1."""
    return _mass_slope(runs, "english", "0_1")


def mass_slope_english_half(runs: pd.DataFrame) -> pd.Series:
    """At alpha 0.5."""
    return _mass_slope(runs, "english", "0_5")


def mass_slope_chinese(runs: pd.DataFrame) -> pd.Series:
    """At alpha 0.1."""
    return _mass_slope(runs, "chinese", "0_1")


def _ratio(runs: pd.DataFrame, corpus: str, of: str, over: str) -> pd.Series:
    speed = [of_arm(runs, f"speed_{corpus}", arm, "bytes_per_s") for arm in (of, over)]
    return speed[0] / speed[1]


def sp_ffbs_ratio(runs: pd.DataFrame) -> pd.Series:
    """SentencePiece: sampling over deterministic, English."""
    return _ratio(runs, "english", "sp_ffbs", "sp_viterbi")


def sp_nbest_ratio(runs: pd.DataFrame) -> pd.Series:
    """SentencePiece: sampling from the 64 best over deterministic, English."""
    return _ratio(runs, "english", "sp_nbest_64", "sp_viterbi")


def online_ratio(runs: pd.DataFrame) -> pd.Series:
    """The one-sweep rule over Viterbi, both ours, English as one text."""
    return _ratio(runs, "english", "online_one", "viterbi_one")


def online_over_sp_ffbs(runs: pd.DataFrame) -> pd.Series:
    """The one-sweep rule, ours, over SentencePiece's sampling, English."""
    return _ratio(runs, "english", "online_one", "sp_ffbs")


def filter_over_sp_ffbs(runs: pd.DataFrame) -> pd.Series:
    """Filtering and walking, ours, over SentencePiece's sampling, English."""
    return _ratio(runs, "english", "filter_sample", "sp_ffbs")


def filter_over_sp_ffbs_chinese(runs: pd.DataFrame) -> pd.Series:
    """Filtering and walking, ours, over SentencePiece's sampling, Chinese."""
    return _ratio(runs, "chinese", "filter_sample", "sp_ffbs")


def filter_over_online(runs: pd.DataFrame) -> pd.Series:
    """Filtering and walking over the one-sweep rule, both ours, English as one text."""
    return _ratio(runs, "english", "filter_one", "online_one")

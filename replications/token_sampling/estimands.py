"""What claims.yaml cannot say in a line: slopes over lengths, and ratios of speeds within a round."""

from functools import partial

import pandas as pd

from paperkit.estimands import level, of_arm, slopes

LONG_CHARACTERS = 50  # from which on a line is fitted


def _mass_slope(runs: pd.DataFrame, corpus: str, alpha: str) -> pd.Series:
    """Fit the logarithm of the mass of the 64 best against the length in characters."""
    rows = runs[(runs["experiment"] == f"mass_{corpus}") & (runs["metric"] == f"alpha_{alpha}_log_mass_nats")]
    rows = rows[rows["step"] >= LONG_CHARACTERS].set_index(["seed", "step"])
    return slopes(level(rows, "step").astype(float), rows["value"])


mass_slope_english = partial(_mass_slope, corpus="english", alpha="0_1")
mass_slope_english_half = partial(_mass_slope, corpus="english", alpha="0_5")
mass_slope_chinese = partial(_mass_slope, corpus="chinese", alpha="0_1")


def _ratio(runs: pd.DataFrame, of: str, over: str, corpus: str = "english") -> pd.Series:
    """Return the speed of one sampler over that of another in the same round; "one" takes all lines as one text."""
    speed = [of_arm(runs, f"speed_{corpus}", arm, "bytes_per_s") for arm in (of, over)]
    return speed[0] / speed[1]


sp_ffbs_ratio = partial(_ratio, of="sp_ffbs", over="sp_viterbi")
sp_nbest_ratio = partial(_ratio, of="sp_nbest_64", over="sp_viterbi")
online_ratio = partial(_ratio, of="online_one", over="viterbi_one")
online_over_sp_ffbs = partial(_ratio, of="online_one", over="sp_ffbs")
filter_over_sp_ffbs = partial(_ratio, of="filter_sample", over="sp_ffbs")
filter_over_sp_ffbs_chinese = partial(_ratio, of="filter_sample", over="sp_ffbs", corpus="chinese")
filter_over_online = partial(_ratio, of="filter_one", over="online_one")

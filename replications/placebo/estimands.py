"""What claims.yaml cannot say in a line: one number a block of repetitions."""

import pandas as pd

from paperkit.estimands import of_arm
from replications.placebo.chances import level_after_selection


def _share(runs: pd.DataFrame, metric: str) -> pd.Series:
    return of_arm(runs, "placebo", "nothing_there", f"{metric}_share")


def differ_where_settings_agree(runs: pd.DataFrame) -> pd.Series:
    """Of the repetitions in which both names got the same setting: how often "differ" was said."""
    return _share(runs, "same_and_differ") / _share(runs, "same_setting")


def differ_where_settings_part(runs: pd.DataFrame) -> pd.Series:
    """Of the repetitions in which the names got different settings: how often "differ" was said."""
    apart = _share(runs, "greater_8_differ") - _share(runs, "same_and_differ")
    return apart / (1 - _share(runs, "same_setting"))


def differ_minus_predicted(runs: pd.DataFrame) -> pd.Series:
    """How often "differ" was said, minus what the spread of the average differences predicts for normal ones."""
    ratios = of_arm(runs, "placebo", "nothing_there", "variance_ratio")
    return _share(runs, "greater_8_differ") - ratios.map(lambda ratio: level_after_selection(8, ratio))

"""Ratios within a round, and the largest excess of memory: what claims.yaml cannot say in a line."""

from functools import partial

import pandas as pd

from paperkit.estimands import of_arm

FREE_MIB = 45  # taken whatever the limit is: what is read and scattered at once, and buffers


def _ratio(runs: pd.DataFrame, of: str, to: str, file: str = "long_lines", metric: str = "cpu_s") -> pd.Series:
    """Return one arm's number over another's of the same round."""
    return of_arm(runs, file, of, metric) / of_arm(runs, file, to, metric)


cpu_ratio_post = partial(_ratio, of="ours", to="post")
cpu_ratio_post_short_lines = partial(_ratio, of="ours", to="post", file="short_lines")
cpu_ratio_post_bucket_8 = partial(_ratio, of="bucket_8", to="post")
cpu_ratio_post_bucket_128 = partial(_ratio, of="bucket_128", to="post")
wall_ratio_post = partial(_ratio, of="ours", to="post", metric="wall_s")
cpu_ratio_shuf = partial(_ratio, of="ours", to="shuf")
cpu_ratio_shuf_short_lines = partial(_ratio, of="ours", to="shuf", file="short_lines")
cpu_ratio_one_bucket = partial(_ratio, of="one_bucket", to="ours")
cpu_ratio_proportional = partial(_ratio, of="proportional", to="post")


def peak_over_limit_mib(runs: pd.DataFrame) -> pd.Series:
    """Return by how much the worst file and limit exceed the limit, beside the interpreter; by round."""
    free = of_arm(runs, "memory", "interpreter", "peak_mib")
    arms = sorted({arm for arm in runs.loc[runs["experiment"] == "memory", "arm"] if "limit" in arm})
    limits = {arm: max(int(arm.rpartition("_")[2]), FREE_MIB) for arm in arms}
    over = {arm: of_arm(runs, "memory", arm, "peak_mib") - free - limit for arm, limit in limits.items()}
    return pd.DataFrame(over).max(axis=1)


def batch_variance_ratio(runs: pd.DataFrame) -> pd.Series:
    """Variance of the mean of aligned batches of half a round: the post's order over a uniform one of its seed."""
    return _ratio(runs, "rounds", "proportional", "chunks_20", "batch_variance_ratio")

"""Numbers that a line of claims.yaml cannot say: means over numbers of labels, and slopes on them."""

from functools import partial

import numpy as np
import pandas as pd

from paperkit.estimands import configured, level, of_arm, slopes

JUDGED = (50, 200, 1000)  # numbers of labels whose mean decides
LAST, ONE = 1000, 200
CHECKPOINTS = {"quarter_": 0.25, "half_": 0.5, "": 1.0}  # parts of the pretraining


def by_labels(
    runs: pd.DataFrame, experiment: str, arm: str, part: str = "", metric: str = "loss_nats"
) -> pd.DataFrame:
    """Return a test metric of an arm, seeds by numbers of labels; a model that is not pretrained has one part only."""
    part = "" if arm in ("none", "trigram") else part
    of_run = (runs["experiment"] == experiment) & (runs["arm"] == arm)
    rows = runs[of_run & (runs["split"] == "test") & (runs["metric"] == part + metric)]
    table = rows.pivot(index="seed", columns="step", values="value").astype(float)
    return table.reindex(sorted({*table.index, *runs.loc[of_run, "seed"]}))  # a run that diverged has NaN


def gains(
    runs: pd.DataFrame, over: str, experiment: str = "headings", of: str = "pegasus", own: str = "", **kwargs: str
) -> pd.DataFrame:
    """Return an arm's loss (`own`: this metric of it) minus that of `of` at the numbers of labels that decide."""
    where = "baselines" if over == "trigram" else experiment
    first = by_labels(runs, where, over, **(kwargs | ({"metric": own} if own else {})))
    second = by_labels(runs, experiment, of, **kwargs)
    seeds = first.index.intersection(second.index)
    if seeds.empty:
        return pd.DataFrame(columns=list(JUDGED), dtype=float)
    return first.loc[seeds].sub(second.loc[seeds]).reindex(columns=list(JUDGED))


def gain(runs: pd.DataFrame, over: str, **kwargs: str) -> pd.Series:
    """Return the mean gain over the numbers of labels that decide, by seed."""
    return gains(runs, over, **kwargs).mean(axis=1, skipna=False)


def gain_slope(runs: pd.DataFrame, over: str, **kwargs: str) -> pd.Series:
    """Return the slope of the gain on ln(labels), by seed: negative where most is gained with few labels."""
    return _slopes(gains(runs, over, **kwargs))


def at(
    runs: pd.DataFrame, arm: str, labels: int = ONE, part: str = "", metric: str = "loss_nats",
    experiment: str = "headings",
) -> pd.Series:  # fmt: skip
    """Return a test metric of an arm at one number of labels, by seed; NaN where that was not measured."""
    return by_labels(runs, experiment, arm, part, metric).reindex(columns=[labels])[labels]


def at_one_number(runs: pd.DataFrame, of: str, minus: str, metric: str, labels: int = ONE) -> pd.Series:
    """Return a test metric of one arm of the headings minus that of another at one number of labels, by seed."""
    first, second = (at(runs, arm, labels, metric=metric) for arm in (of, minus))
    return first.sub(second).loc[first.index.intersection(second.index)]


def use_of_source(runs: pd.DataFrame, arm: str, experiment: str = "headings") -> pd.Series:
    """Return by how much the loss rises where another document's section is the source, by seed."""
    exchanged, own = (
        by_labels(runs, experiment, arm, metric=metric).reindex(columns=list(JUDGED)).mean(axis=1, skipna=False)
        for metric in ("exchanged_loss_nats", "loss_nats")
    )
    return exchanged - own


def copied(runs: pd.DataFrame, arm: str) -> pd.Series:
    """Return the share of the probability of headings that is copied, after 1,000 labels, by seed."""
    return at(runs, arm, LAST, metric="copied_share")


def _slopes(table: pd.DataFrame) -> pd.Series:
    """Return the slope of each seed's row on the logarithm of the columns."""
    y = table.rename_axis(index="seed", columns="at").stack(future_stack=True)
    return slopes(np.log(level(y, "at").astype(float)), y)


def source_gain(runs: pd.DataFrame, part: str) -> pd.Series:
    """Return the gain over mismatched sources with 200 labels, after a part of the steps, by seed."""
    return at(runs, "mismatched", part=part) - at(runs, "pegasus", part=part)


def trend_of_source(runs: pd.DataFrame) -> pd.Series:
    """Return the slope of that gain on the binary logarithm of the steps of pretraining, by seed."""
    # Of the natural logarithm, so times ln 2 for a doubling.
    return np.log(2) * _slopes(pd.DataFrame({s: source_gain(runs, part) for part, s in CHECKPOINTS.items()}))


def share_of_language(runs: pd.DataFrame, **kwargs: str) -> pd.Series:
    """Return which share of the gain over span corruption mismatched sources reach, by seed."""
    return gain_of_mismatched(runs, **kwargs) / gain_over_span(runs, **kwargs)


def share_of_language_descriptions(runs: pd.DataFrame) -> pd.Series:
    """Return the same for descriptions of packages."""
    return 1 - gain_over_mismatched_descriptions(runs) / gain_over_span_descriptions(runs)


def slope_of_rouge_over_span(runs: pd.DataFrame) -> pd.Series:
    """Return the slope on ln(labels) of ROUGE-L of pseudo-summaries minus that of span corruption, by seed."""
    return -gain_slope(runs, "span", metric="rouge_l_points")


def last_doubling_of_source(runs: pd.DataFrame) -> pd.Series:
    """Return by how much the gain over mismatched sources with 200 labels rises from half of the steps to all."""
    return source_gain(runs, "") - source_gain(runs, "half_")


def loss_of_random_choice(runs: pd.DataFrame) -> pd.Series:
    """Return the loss with randomly chosen segments minus that with the LCS's, at half of the steps, by seed."""
    chosen, drawn = at(runs, "pegasus", part="half_"), at(runs, "random", experiment="headings_choice")
    return drawn.sub(chosen).loc[drawn.index.intersection(chosen.index)]


def below_lead(runs: pd.DataFrame) -> pd.Series:
    """Return ROUGE-L of the source's first 16 characters minus that of pseudo-summaries at 1,000 labels, by seed."""
    rows = runs[
        (runs["experiment"] == "baselines") & (runs["arm"] == "lead_16") & (runs["metric"] == "rouge_l_points")
    ]
    made = at(runs, "pegasus", LAST, metric="rouge_l_points")
    return rows["value"].astype(float).iloc[0] - made if len(rows) else pd.Series(dtype=float)


def gain_of_beams(runs: pd.DataFrame) -> pd.Series:
    """Return ROUGE-L of a beam of 3 minus that of greedy search, of pseudo-summaries at 1,000 labels, by seed."""
    return at(runs, "pegasus", LAST, metric="beam_3_rouge_l_points") - at(
        runs, "pegasus", LAST, metric="rouge_l_points"
    )


gain_over_none, gain_over_span, gain_over_mismatched, gain_over_trigram = (
    partial(gain, over=over) for over in ("none", "span", "mismatched", "trigram")
)
slope_over_span, slope_over_mismatched = (partial(gain_slope, over=over) for over in ("span", "mismatched"))
gain_of_mismatched = partial(gain, over="span", of="mismatched")

# The primary ones under other conditions.
_QUARTER, _PLAIN, _POEMS = {"part": "quarter_"}, {"experiment": "headings_plain"}, {"experiment": "headings_poems"}
_INDEPENDENT = {"metric": "independent_loss_nats"}
gain_over_none_quarter, gain_over_none_plain, gain_over_none_poems, gain_over_none_independent = (
    partial(gain_over_none, **change) for change in (_QUARTER, _PLAIN, _POEMS, _INDEPENDENT)
)
gain_over_span_quarter, gain_over_span_plain, gain_over_span_poems, gain_over_span_independent = (
    partial(gain_over_span, **change) for change in (_QUARTER, _PLAIN, _POEMS, _INDEPENDENT)
)
(
    gain_over_mismatched_quarter, gain_over_mismatched_plain, gain_over_mismatched_poems,
    gain_over_mismatched_independent,
) = (partial(gain_over_mismatched, **change) for change in (_QUARTER, _PLAIN, _POEMS, _INDEPENDENT))  # fmt: skip
slope_over_span_quarter, slope_over_span_plain, slope_over_span_poems, slope_over_span_independent = (
    partial(slope_over_span, **change) for change in (_QUARTER, _PLAIN, _POEMS, _INDEPENDENT)
)
(
    slope_over_mismatched_quarter, slope_over_mismatched_plain, slope_over_mismatched_poems,
    slope_over_mismatched_independent,
) = (partial(slope_over_mismatched, **change) for change in (_QUARTER, _PLAIN, _POEMS, _INDEPENDENT))  # fmt: skip
gain_over_none_more_rates, gain_over_span_more_rates, gain_over_mismatched_more_rates = (
    partial(at_one_number, of=over, minus="pegasus", metric="more_rates_loss_nats")
    for over in ("none", "span", "mismatched")
)
gain_over_none_descriptions, gain_over_span_descriptions, gain_over_mismatched_descriptions = (
    partial(at_one_number, of=over, minus="pegasus", metric="descriptions_loss_nats")
    for over in ("none", "span", "mismatched")
)

gain_over_mismatched_own, slope_over_mismatched_own = (
    partial(estimand, over="mismatched", own="own_copy_head_loss_nats") for estimand in (gain, gain_slope)
)
gain_over_mismatched_both_new, slope_over_mismatched_both_new = (
    partial(estimand, over="mismatched", own="loss_nats", metric="new_copy_head_loss_nats")
    for estimand in (gain, gain_slope)
)

# What is told apart.
gain_over_trigram_quarter, gain_over_trigram_plain = (
    partial(gain_over_trigram, **change) for change in (_QUARTER, _PLAIN)
)
gain_of_mismatched_plain = partial(gain_of_mismatched, **_PLAIN)
gain_of_span_over_trigram, gain_of_mismatched_over_trigram = (
    partial(gain_over_trigram, of=arm) for arm in ("span", "mismatched")
)
share_of_language_quarter, share_of_language_plain = (
    partial(share_of_language, **change) for change in (_QUARTER, _PLAIN)
)
use_by_pegasus, use_by_mismatched, use_by_span, use_by_none = (
    partial(use_of_source, arm=arm) for arm in ("pegasus", "mismatched", "span", "none")
)
use_by_pegasus_plain = partial(use_of_source, arm="pegasus", **_PLAIN)
copied_by_pegasus, copied_by_span = (partial(copied, arm=arm) for arm in ("pegasus", "span"))
rouge_over_span, rouge_over_span_no_repeat = (
    partial(at_one_number, of="pegasus", minus="span", metric=metric, labels=LAST)
    for metric in ("rouge_l_points", "no_repeat_rouge_l_points")
)


# --- counts, and the published weights -------------------------------------------------------------------------------


def overlap_over_random(runs: pd.DataFrame) -> pd.Series:
    """Return the share of the target that is common to the source, by the code's choice minus random ones, by seed."""
    chosen, drawn = (of_arm(runs, "rules", arm, "common_subsequence_share") for arm in ("pegasus", "random"))
    return chosen.iloc[0] - drawn if len(chosen) else pd.Series(dtype=float)


def published(runs: pd.DataFrame, corpus: str, arm: str, labels: int, minus: str | None = None) -> pd.Series:
    """Return ROUGE-L of fine-tuned published weights, or its difference to another arm's, by seed."""
    rows = runs[
        (runs["experiment"] == f"paper_{corpus}")
        & (runs["split"] == "test")
        & (runs["metric"] == "rouge_l_beam_1_points")
    ]
    rows = rows[configured(rows, "labels") == labels] if len(rows) else rows
    first, *second = (
        rows[rows["arm"] == name].set_index("seed")["value"].astype(float) for name in (arm, minus) if name
    )
    return first.sub(second[0]).dropna() if second else first


published_csl = partial(published, corpus="csl", arm="t5_pegasus", labels=10_000)
published_lcsts = partial(published_csl, corpus="lcsts")
published_loss_of_small = partial(published_csl, minus="t5_pegasus_small")
published_gain_10 = partial(published_csl, labels=10, minus="mt5")
continued_gain_10 = partial(published_gain_10, arm="pegasus_continued_mt5", minus="span_continued_mt5")

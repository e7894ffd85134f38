"""Lion's relatives on a smaller language model, and the learning rate off each optimum (C11, C13r, C15r, C16, X16)."""

from collections.abc import Sequence

from pydantic import Field

from paperkit.runs import Runner, execute
from paperkit.stage import Tables
from paperkit.tuning import tune
from replications.lion.studies.arms import ARMS, VARIANTS
from replications.lion.studies.language_model import (
    LanguageModel,
    measure_language_model,
    measure_language_model_trial,
    measure_language_model_updates,
)
from replications.lion.studies.search import Count, Positive, Searches, Study, best_points, pairs


class Variants(Study):
    """The task, and what is looked at."""

    task: LanguageModel
    num_seeds: Count  # of each arm
    lr_factors: list[Positive] = Field(min_length=1)  # on each arm's own best learning rate (C13), for AdamW and Lion
    window: Count  # steps between two looks at the updates


def run_variants(study: Variants, search: Searches, fresh: Sequence[int], runner: Runner) -> Tables:
    """Tune and report all relatives on the smaller model; move the learning rate off each optimum; look at updates."""
    task, seeds = study.task.in_runs, fresh[: study.num_seeds]
    searches = search.of_arms("variants", VARIANTS, {**task, "curve_points": 1}, study, "loss_nats")
    tuned, trials = tune(runner, measure_language_model_trial, searches, search)
    best = best_points(searches, tuned, task)
    grid = pairs("variants", best, seeds) + pairs("cautious_untuned", {"cautious_lion": best["lion"]}, seeds)
    for factor in study.lr_factors:
        moved = {arm: {**best[arm], "lr": factor * best[arm]["lr"]} for arm in ARMS}
        grid += pairs(f"lr_factor_{factor:g}", moved, seeds)
    looked_at = {arm: {**best[arm], "window": study.window} for arm in ("adamw", "cautious_lion")}
    updates = execute(runner, measure_language_model_updates, pairs("updates", looked_at, seeds))
    return Tables([*execute(runner, measure_language_model, grid), *updates], trials)

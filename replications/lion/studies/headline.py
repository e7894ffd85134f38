"""The language model of the headline claim (C6r), and what is asked about its verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from paperkit.runs import Rows, Run, Runner, execute
from paperkit.stage import Tables
from paperkit.tuning import Search, Tuned, tune
from replications.lion.betas import LION_BETAS
from replications.lion.studies.arms import ARMS
from replications.lion.studies.language_model import (
    LanguageModel,
    measure_language_model,
    measure_language_model_and_box,
    measure_language_model_trial,
    measure_language_model_updates,
)
from replications.lion.studies.search import (
    Betas,
    Configuration,
    Count,
    Searches,
    Study,
    best_points,
    choose_again,
    pairs,
)

TIMES_LONGER = 4


class Headline(Study):
    """The task, and what is asked about the verdict."""

    task: LanguageModel
    # Smaller budgets, at which the verdict is drawn again: the first trials of the same sequence.
    budgets: list[Count] = Field(default=[])
    num_budget_seeds: int = Field(default=0, ge=0)  # of each
    num_transfer_seeds: int = Field(default=0, ge=0)  # of Lion at AdamW's transferred point (X1r)
    window: Count = 1  # steps over which updates are summed for the measured ratio k
    num_longer_seeds: int = Field(default=0, ge=0)  # of a run of four times the steps, warm-up included
    num_variation_seeds: int = Field(default=0, ge=0)  # of each of the three variations below
    left_out: Betas | None = None  # without this pair among the choices
    warmup_steps: int = Field(default=0, ge=0)  # a warm-up of other length; the third is Lion with bias correction

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if max(self.budgets, default=0) > self.num_trials:
            message = f"budgets {self.budgets} must be at most num_trials {self.num_trials}"
            raise ValueError(message)
        if self.warmup_steps > self.task.steps - 2:
            message = f"warmup_steps {self.warmup_steps} must be at most task.steps - 2 = {self.task.steps - 2}"
            raise ValueError(message)
        return self


def run_headline(study: Headline, search: Searches, seeds: Sequence[int], runner: Runner) -> Tables:
    """Tune and report the language model; draw its verdict in other ways; transfer AdamW's point to Lion."""
    task = study.task.in_runs
    searches = search.of_arms("lm_quality", ARMS, {**task, "curve_points": 1}, study, "loss_nats")
    tuned, trials = tune(runner, measure_language_model_trial, searches, search)
    best = best_points(searches, tuned, task)
    updates: Rows = []
    grid = pairs("lm_quality", best, seeds)
    if study.num_transfer_seeds:
        # The probe first, since the transferred point depends on it; the reports then are one grid.
        probe = Run("lm_updates", "adamw", search.seeds[0], {**best["adamw"], "window": study.window})
        (updates,) = runner(measure_language_model_updates, [probe])
        ratio = float(np.median([row["value"] for row in updates if row["metric"] == "update_ratio"]))
        transferred = {"lion": {**best["adamw"], **transfer(best["adamw"], ratio)}}
        grid += pairs("lm_transfer", transferred, seeds[: study.num_transfer_seeds])
    runs = [*updates, *execute(runner, measure_language_model_and_box, grid)]
    for budget in study.budgets:
        # Under one name, since several budgets may have selected one point: it is run once.
        early = pairs("lm_budget", best_points(searches, tuned, task, budget), seeds[: study.num_budget_seeds])
        rows = execute(runner, measure_language_model, early)
        runs += [{**row, "experiment": f"lm_budget_{budget}"} for row in rows]
    if study.num_variation_seeds:
        varied = _run_variations(study, search, searches, tuned, seeds, runner)
        return Tables([*runs, *varied.runs], [*trials, *varied.trials])
    return Tables(runs, trials)


def _run_variations(
    study: Headline,
    search: Searches,
    searches: Sequence[Search],
    tuned: Sequence[Tuned],
    seeds: Sequence[int],
    runner: Runner,
) -> Tables:
    """Report the comparison at another length, from a shorter list, with bias correction and another warm-up."""
    task, fresh = study.task.in_runs, seeds[: study.num_variation_seeds]
    longer = {name: TIMES_LONGER * task[name] for name in ("steps", "warmup_steps")}
    longer_searches = [replace(of, experiment="lm_quality_longer", task={**of.task, **longer}) for of in searches]
    shorter_list = [replace(of, experiment="lm_shorter_list") for of in searches]
    (of_lion,) = (number for number, of in enumerate(searches) if of.arm == "lion")
    corrected = [replace(searches[of_lion], experiment="lm_corrected", arm="corrected_lion")]
    grid, trials = [], []
    for chosen, earlier, changed, allowed, on in (
        (longer_searches, tuned, longer, lambda _point: True, seeds[: study.num_longer_seeds]),
        (shorter_list, tuned, {}, lambda point: point["betas"] != study.left_out, fresh),
        (corrected, [tuned[of_lion]], {}, lambda _point: True, fresh),
    ):
        again, rows = choose_again(runner, measure_language_model_trial, chosen, earlier, search.seeds, allowed)
        trials += rows
        grid += pairs(chosen[0].experiment, best_points(chosen, again, {**task, **changed}), on)
    other_warmup = best_points(searches, tuned, {**task, "warmup_steps": study.warmup_steps})
    grid += pairs("lm_other_warmup", other_warmup, fresh)
    return Tables(execute(runner, measure_language_model, grid), trials)


def transfer(adamw: Mapping[str, Any], ratio: float) -> Configuration:
    """Map AdamW's tuned pair to Lion: (η / k, k λ), which keeps η λ; k says how much further Lion's updates go."""
    return {"lr": adamw["lr"] / ratio, "weight_decay": adamw["weight_decay"] * ratio, "betas": list(LION_BETAS)}

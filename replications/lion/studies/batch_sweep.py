"""Batch size against quality and learning rate, on digits (C4r, C5r, X9r, X17)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from paperkit.runs import Runner, execute
from paperkit.stage import Tables
from paperkit.tuning import LogRange, tune
from replications.lion.betas import LION_BETAS
from replications.lion.studies.arms import ARMS
from replications.lion.studies.digits import Digits, measure_digits, measure_digits_trial, measure_digits_updates
from replications.lion.studies.search import Count, Searches, Study, best_points, choose_again, pairs

TIMES_LONGER = 4


class BatchSweep(Study):
    """The task at each batch size, and the grid of learning rates."""

    task: Digits
    num_seeds: Count  # of each arm at its selected points
    rates: LogRange  # ends of the grid of learning rates, without decay, for C4r
    num_rates: Annotated[int, Field(ge=5)]  # points of that grid
    num_rate_seeds: Count  # at each of them
    window: Count  # steps over which updates are summed for the measured ratio k
    budget: Count  # trials of a smaller search, the first of the same sequence
    num_budget_seeds: Count  # of each arm at what it selects
    num_longer_seeds: Count  # with four times the samples

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.budget > self.num_trials:
            message = f"budget {self.budget} must be at most num_trials {self.num_trials}"
            raise ValueError(message)
        return self


def run_batch_sweep(study: BatchSweep, search: Searches, seeds: Sequence[int], runner: Runner) -> Tables:
    """Tune and report both arms at every batch size; learning-rate curves; the measured ratio k at each batch."""
    rates = [study.rates.at(fraction) for fraction in np.linspace(0, 1, study.num_rates).tolist()]
    rate_seeds, longer_seeds = seeds[: study.num_rate_seeds], seeds[: study.num_longer_seeds]
    grid, probes, trials = [], [], []
    for batch in study.task.batches:
        task = study.task.at(batch)
        longer = {"samples_seen": TIMES_LONGER * study.task.samples_seen}
        searches = search.of_arms("batch_sweep", ARMS, task, study, "nll_nats", batch=batch)
        longer_searches = [replace(of, experiment="batch_sweep_longer", task={**of.task, **longer}) for of in searches]
        tuned, rows = tune(runner, measure_digits_trial, searches, search)
        again, more_rows = choose_again(runner, measure_digits_trial, longer_searches, tuned, search.seeds)
        trials += rows + more_rows
        best = best_points(searches, tuned, task)
        grid += pairs("batch_sweep", best, seeds[: study.num_seeds])
        early = best_points(searches, tuned, task, study.budget)
        grid += pairs("batch_sweep_budget", early, seeds[: study.num_budget_seeds])
        grid += pairs("batch_sweep_longer", best_points(searches, again, {**task, **longer}), longer_seeds)
        of_curves = [("learning_rate_sweep", task, rates, rate_seeds)]
        if batch in (study.task.batches[0], study.task.batches[-1]):
            # Long runs are dear: every second rate, at the two ends of the sweep.
            of_curves.append(("learning_rate_sweep_longer", {**task, **longer}, rates[::2], longer_seeds))
        for name, at, of_grid, on in of_curves:
            for lr in of_grid:
                point = {**at, "lr": lr, "weight_decay": 0.0, "betas": list(LION_BETAS)}
                grid += pairs(name, dict.fromkeys(ARMS, point), on)
        probes += pairs("batch_updates", {"adamw": {**best["adamw"], "window": study.window}}, rate_seeds)
    return Tables([*execute(runner, measure_digits, grid), *execute(runner, measure_digits_updates, probes)], trials)

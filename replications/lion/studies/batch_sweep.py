"""Batch size against quality and learning rate, on digits (C4, C5, X9)."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from paperkit.runs import Runner, execute
from paperkit.stage import Tables
from paperkit.tuning import LogRange, tune
from replications.lion.betas import LION_BETAS
from replications.lion.studies.arms import ARMS
from replications.lion.studies.digits import Digits, measure_digits, measure_digits_trial, measure_digits_updates
from replications.lion.studies.search import Count, Searches, Study, best_points, pairs


class BatchSweep(Study):
    """The task at each batch size, and the grid of learning rates."""

    task: Digits
    num_seeds: Count  # of each arm at its selected points
    rates: LogRange  # ends of the grid of learning rates, without decay, for C4
    num_rates: Annotated[int, Field(ge=5)]  # points of that grid
    num_rate_seeds: Count  # at each of them
    window: Count  # steps over which updates are summed for the measured ratio k


def run_batch_sweep(study: BatchSweep, search: Searches, seeds: Sequence[int], runner: Runner) -> Tables:
    """Tune and report both arms at every batch size; learning-rate curves; the measured ratio k at each batch."""
    rates = [study.rates.at(fraction) for fraction in np.linspace(0, 1, study.num_rates).tolist()]
    rate_seeds = seeds[: study.num_rate_seeds]
    grid, probes, trials = [], [], []
    for batch in study.task.batches:
        task = study.task.at(batch)
        searches = search.of_arms("batch_sweep", ARMS, task, study, "nll_nats", batch=batch)
        tuned, rows = tune(runner, measure_digits_trial, searches, search)
        trials += rows
        best = best_points(searches, tuned, task)
        grid += pairs("batch_sweep", best, seeds[: study.num_seeds])
        for lr in rates:
            point = {**task, "lr": lr, "weight_decay": 0.0, "betas": list(LION_BETAS)}
            grid += pairs("learning_rate_sweep", dict.fromkeys(ARMS, point), rate_seeds)
        probes += pairs("batch_updates", {"adamw": {**best["adamw"], "window": study.window}}, rate_seeds)
    return Tables([*execute(runner, measure_digits, grid), *execute(runner, measure_digits_updates, probes)], trials)

"""Averages of numbers drawn with and without replacement, and how far they err."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import StageConfig, Tables, main
from replications.NAME.sampling import averages

NUMBERS = np.linspace(-1, 1, 20)  # the population; errors are measured in its variance


class Config(StageConfig):
    """One profile of params.yaml: seeds, draws of each seed, and how many numbers a draw takes."""

    seeds: Annotated[list[int], Field(min_length=1)]
    draws: Annotated[int, Field(ge=10)]
    sizes: Annotated[list[Annotated[int, Field(ge=1, le=len(NUMBERS))]], Field(min_length=1)]


def measure(run: Run) -> Iterator[Measurement]:
    """Draw, average and compare with the population: one run is one arm, one size and one seed."""
    rng, n = np.random.default_rng(run.seed), run.config["n"]
    replace = run.arm == "with_replacement"
    drawn = np.stack([rng.choice(NUMBERS, n, replace=replace) for _ in range(run.config["draws"])])
    error = float(np.mean((averages(drawn) - NUMBERS.mean()) ** 2) / NUMBERS.var())
    yield Measurement("none", 0, "squared_error", error)
    yield Measurement("none", 0, "distinct_share", float(np.mean([len(set(draw)) / n for draw in drawn])))


def run(config: Config, runner: Runner) -> Tables:
    """List who is compared, with which settings, on which seeds; arms of one seed are paired."""
    runs = [
        Run(f"draws_{n}", arm, seed, {"n": n, "draws": config.draws})
        for n in config.sizes
        for seed in config.seeds
        for arm in ("with_replacement", "without_replacement")
    ]
    return Tables(execute(runner, measure, runs))


if __name__ == "__main__":
    main(Config, run, stage="NAME", module="replications.NAME.experiment")

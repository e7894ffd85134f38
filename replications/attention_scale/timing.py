"""How long attention takes with a scale given, over how long with the default; forward and backward, one thread."""

import statistics
import time
from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import TIMING, StageConfig, Tables, main

SCALE = 2.5  # in units of 1/sqrt(d)


class Config(StageConfig):
    """One profile of timing.yaml."""

    rounds: PositiveInt
    repetitions: Annotated[int, Field(ge=3)]  # of each of the two, in turns; the median ratio is a round's number
    batch: PositiveInt
    heads: PositiveInt
    context: PositiveInt
    head_width: PositiveInt


def run(config: Config, runner: Runner) -> Tables:
    """Time both, round after round, in one process that has the machine to itself."""
    settings = config.model_dump(exclude={"hardware", "rounds"})
    return Tables(
        execute(runner, measure, [Run("scale_argument", "attention", seed, settings) for seed in range(config.rounds)])
    )


def measure(run: Run) -> Iterator[Measurement]:
    """Give the median over repetitions of the ratio of two times that lie next to each other."""
    shape = [run.config[name] for name in ("batch", "heads", "context", "head_width")]
    generator = torch.Generator().manual_seed(run.seed)
    parts = [torch.randn(shape, generator=generator).requires_grad_() for _ in range(3)]
    given, default = SCALE / shape[-1] ** 0.5, None
    for scale in (given, default):
        _seconds(parts, scale)
    ratios = []
    for number in range(run.config["repetitions"]):
        first, second = (given, default) if number % 2 else (default, given)
        times = {scale: _seconds(parts, scale) for scale in (first, second)}
        ratios.append(times[given] / times[default])
    yield Measurement("none", 0, "time_ratio", statistics.median(ratios))


def _seconds(parts: list[Tensor], scale: float | None) -> float:
    start = time.perf_counter()
    functional.scaled_dot_product_attention(*parts, is_causal=True, scale=scale).sum().backward()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(Config, run, stage="attention_scale_timing", module="replications.attention_scale.timing", kind=TIMING)

"""How long one optimizer step takes: every implementation of AdamW and Lion, in turn, on one thread.

Clock readings differ from run to run; they go to `timings.csv`, outside the byte-for-byte guarantee. A round
visits every implementation with fresh tensors, and gives one number for each, the median of its repetitions:
one round is one "seed".
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import chain

import lion_pytorch
import torch
from pydantic import Field

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, Runner
from paperkit.stage import TIMING, Tables, main
from replications.lion.optimizer import Lion

IMPLEMENTATIONS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw_for_loop": functools.partial(torch.optim.AdamW, foreach=False, fused=False),
    "adamw_foreach": functools.partial(torch.optim.AdamW, foreach=True),
    "adamw_fused": functools.partial(torch.optim.AdamW, fused=True),
    "lion_for_loop": functools.partial(Lion, foreach=False, fused=False),
    "lion_foreach": functools.partial(Lion, foreach=True),
    "lion_fused": functools.partial(Lion, fused=True),
    # Ours rounds every product and sum on its own, which costs time; the common implementation need not.
    "lion_pytorch": functools.partial(lion_pytorch.Lion, decoupled_weight_decay=False),
}


class Config(StrictModel):
    """One profile of timing.yaml.

    Attributes:
        tensors: Number of parameter tensors, all of one size.
        entries: Entries of each tensor.
        rounds: Visits of every implementation.
        warmup_steps: Steps before the clock starts (allocation of the state, compilation of the kernel).
        repetitions: Steps whose median is a round's number.
    """

    tensors: int = Field(ge=1)
    entries: int = Field(ge=1)
    rounds: int = Field(ge=1)
    warmup_steps: int = Field(ge=1)
    repetitions: int = Field(ge=1)


def run(config: Config, runner: Runner) -> Tables:
    """Time all implementations, round after round, in one process that has the machine to itself.

    Args:
        config: One profile.
        runner: Executes rounds in one worker process, in the order given.

    Returns:
        Clock readings; nothing is tuned.
    """
    settings = config.model_dump()
    visits = [Run("step_time", arm, number, settings) for number in range(config.rounds) for arm in IMPLEMENTATIONS]
    return Tables(runs=list(chain.from_iterable(runner(measure_step_time, visits))))


def measure_step_time(run: Run) -> Iterator[Measurement]:
    """Time the steps of one implementation.

    Args:
        run: Its arm names the implementation.

    Yields:
        Median time of a step in seconds.
    """
    config = Config(**run.config)
    generator = torch.Generator().manual_seed(run.seed)
    parameters = [torch.randn(config.entries, generator=generator).requires_grad_() for _ in range(config.tensors)]
    for parameter in parameters:
        parameter.grad = torch.randn(config.entries, generator=generator)
    optimizer = IMPLEMENTATIONS[run.arm](parameters, lr=1e-4, weight_decay=0.1)
    for _ in range(config.warmup_steps):
        optimizer.step()
    yield Measurement(
        "none", 0, "step_s", statistics.median(_seconds(optimizer.step) for _ in range(config.repetitions))
    )


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(Config, run, stage="lion_timing", module="replications.lion.timing", kind=TIMING)

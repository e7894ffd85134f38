"""How long a step takes, alone and within training, beside the memory bandwidth of the same minute; on one thread.

A round visits every arm of every experiment with fresh tensors, and gives one number for each, the median of its
repetitions: one round is one "seed". Memory bounds an optimizer step: no implementation can take less than its least
traffic divided by the bandwidth. Experiment "bandwidth" measures that, on arrays as many bytes long in all as those
of a Lion step. Where a cache holds them, it measures the cache, and the bound is still the right one.
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Self

import lion_pytorch
import torch
from pydantic import Field, model_validator

from paperkit.config import StrictModel
from paperkit.hardware import Hardware
from paperkit.models.language_model import next_token_loss
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, Runner
from paperkit.stage import TIMING, StageConfig, Tables, main
from paperkit.training import matrices_only_decay, train
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
TRAINED = ("adamw_fused", "lion_fused", "lion_for_loop")

FLOAT32_BYTES = 4
# What any float32 implementation must move: AdamW reads θ, g, m, v and writes θ, m, v; Lion has no v. Nothing is
# added for lines fetched only to be overwritten (write-allocate): whatever is written was read just before.
MINIMAL_BYTES_PER_PARAMETER = {"adamw": (4 + 3) * FLOAT32_BYTES, "lion": (3 + 2) * FLOAT32_BYTES}
LION_ARRAYS = 3  # θ, g, m: the memory that a Lion step and every sweep go through

Tensors = list[torch.Tensor]


def _scale(a: Tensors) -> None:
    for each in a:
        each.mul_(-1.0)  # any number of times without overflow


def _axpy(y: Tensors, x: Tensors) -> None:
    for target, source in zip(y, x, strict=True):
        target.add_(source, alpha=1e-4)


def _sgd_momentum(parameters: Tensors, gradients: Tensors, momenta: Tensors) -> None:
    torch._fused_sgd_(
        parameters, gradients, momenta, weight_decay=0.0, momentum=0.9, lr=1e-4, dampening=0.0, nesterov=False,
        maximize=False, is_first_step=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """One way to go through memory in place, once."""

    reads: int  # arrays, all of them read
    writes: int  # how many of them are written as well
    action: Callable[..., None]  # takes the arrays, each a list of tensors


# The last is another's compiled loop over the same arrays as Lion's, with the same traffic.
SWEEPS = {"scale": Sweep(1, 1, _scale), "axpy": Sweep(2, 1, _axpy), "sgd_momentum": Sweep(3, 2, _sgd_momentum)}


class OptimizerStep(StrictModel):
    """The optimizer alone, and the sweeps over as much memory."""

    tensors: int = Field(ge=1)  # parameter tensors, all of one size
    entries: int = Field(ge=1)  # of each tensor
    warmup_steps: int = Field(ge=1)  # before the clock starts: the state is allocated, the kernel compiled
    repetitions: int = Field(ge=1)  # their median is a round's number; on a GPU, which queues them, their mean


class TrainingStep(StrictModel):
    """Forward, backward, clipping and optimizer, on one sequence: the fewer tokens, the more the optimizer weighs."""

    vocabulary: int = Field(ge=2)
    width: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    context: int = Field(ge=1)  # tokens of the sequence
    max_gradient_norm: float = Field(gt=0)  # L2 norm of all gradients at which they are clipped
    warmup_steps: int = Field(ge=1)  # before the clock starts
    repetitions: int = Field(ge=1)  # their median is a round's number; on a GPU, which queues them, their mean

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % self.heads:
            message = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(message)
        return self


class Config(StageConfig):
    """One profile of timing.yaml."""

    rounds: int = Field(ge=1)  # visits of every arm
    optimizer_step: OptimizerStep  # experiments "step_time" and "bandwidth"
    training_step: TrainingStep


def run(config: Config, runner: Runner) -> Tables:
    """Time all arms, round after round, in one process that has the machine to itself."""
    alone, training = config.optimizer_step.model_dump(), config.training_step.model_dump()
    # What is compared within a round stands close together: the sweeps follow the fused Lion by one arm.
    arms = [
        *(("step_time", arm, alone) for arm in IMPLEMENTATIONS),
        *(("bandwidth", arm, alone) for arm in SWEEPS),
        *(("training_step", arm, training) for arm in TRAINED),
    ]
    visits = [Run(experiment, arm, number, how) for number in range(config.rounds) for experiment, arm, how in arms]
    return Tables(runs=list(chain.from_iterable(runner(measure, visits))))


def measure(run: Run) -> Iterator[Measurement]:
    """Make one visit: one function for all experiments, so that the runner can alternate them within a round."""
    by_experiment = {
        "bandwidth": measure_bandwidth,
        "step_time": measure_step_time,
        "training_step": measure_training_step,
    }
    return by_experiment[run.experiment](run)


def measure_bandwidth(run: Run) -> Iterator[Measurement]:
    """Time one way to go through as much memory as a Lion step does: bytes read plus bytes written, a second."""
    settings, device, sweep = (
        OptimizerStep.from_config(run.config),
        Hardware.from_config(run.config).device,
        SWEEPS[run.arm],
    )
    entries = LION_ARRAYS * settings.entries // sweep.reads
    generator = torch.Generator(device).manual_seed(run.seed)
    arrays = [_normal_tensors(settings.tensors, entries, generator) for _ in range(sweep.reads)]
    seconds = _step_seconds(lambda: sweep.action(*arrays), settings, device)
    moved = (sweep.reads + sweep.writes) * settings.tensors * entries * FLOAT32_BYTES
    yield Measurement("none", 0, "bytes_per_s", moved / seconds)


def measure_step_time(run: Run) -> Iterator[Measurement]:
    """Time the steps of one implementation; beside it the bytes that a step of this optimizer moves at least."""
    settings, device = OptimizerStep.from_config(run.config), Hardware.from_config(run.config).device
    generator = torch.Generator(device).manual_seed(run.seed)
    parameters = _normal_tensors(settings.tensors, settings.entries, generator)
    gradients = _normal_tensors(settings.tensors, settings.entries, generator)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_().grad = gradient
    optimizer = IMPLEMENTATIONS[run.arm](parameters, lr=1e-4, weight_decay=0.1)
    yield Measurement("none", 0, "step_s", _step_seconds(optimizer.step, settings, device))
    per_parameter = MINIMAL_BYTES_PER_PARAMETER[run.arm.split("_")[0]]
    yield Measurement("none", 0, "minimal_bytes", per_parameter * settings.tensors * settings.entries)


def measure_training_step(run: Run) -> Iterator[Measurement]:
    """Time whole training steps of a small GPT on one sequence of random tokens."""
    settings, hardware = TrainingStep.from_config(run.config), Hardware.from_config(run.config)
    torch.manual_seed(run.seed)
    model = TinyGPT(
        vocabulary=settings.vocabulary, width=settings.width, layers=settings.layers, heads=settings.heads,
        context=settings.context,
    ).to(hardware.device)  # fmt: skip
    tokens = torch.randint(settings.vocabulary, (1, settings.context + 1))
    steps = train(
        model, repeat((tokens[:, :-1], tokens[:, 1:])), next_token_loss,
        IMPLEMENTATIONS[run.arm](matrices_only_decay(model, 0.1), lr=1e-4),
        max_gradient_norm=settings.max_gradient_norm, hardware=hardware,
    )  # fmt: skip
    yield Measurement("none", 0, "training_step_s", _step_seconds(lambda: next(steps), settings, hardware.device))


def _normal_tensors(number: int, entries: int, generator: torch.Generator) -> Tensors:
    return [torch.randn(entries, generator=generator, device=generator.device) for _ in range(number)]


def _step_seconds(action: Callable[[], object], settings: OptimizerStep | TrainingStep, device: str) -> float:
    for _ in range(settings.warmup_steps):
        action()
    if device == "cpu":
        return statistics.median(_seconds(action) for _ in range(settings.repetitions))
    # A GPU works through a queue that Python fills. Waiting for each step would time the filling: on an H200 that made
    # a fused step of 148 tensors twice as slow, and the ratio of two of them 0.93 instead of 0.60.
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(settings.repetitions):
        action()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / settings.repetitions


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(Config, run, stage="lion_timing", module="replications.lion.timing", kind=TIMING)

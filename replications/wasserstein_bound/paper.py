"""Score networks at the authors' scale and on images, on GPUs: the profile `paper`, through Lightning Fabric.

    python -m replications.wasserstein_bound.paper --out results/wasserstein_bound_paper

Four clusters and moons as in the authors' notebook with a perceptron of their size, and MNIST with a U-Net. For each
seed and checkpoint: J against the exact score of the finite training set, the one-sided constant by power iteration on
the symmetric part of the Jacobian, the bound made with it, and the debiased W2 of samples. L_s is an estimate from
below, and so is the bound: what is found above it refutes nothing, what is found far below it shows the slack.

**Cost, an estimate:** about 45 hours of one A100-class GPU and its CPU: 10 runs of MNIST of 3 h (training 40 minutes;
the rest products with Jacobians, samples, and W2 on the CPU), and 20 runs of points of 45 minutes, nearly all of it
W2. No GPU was available to us: the tests execute this code at a tiny size on the CPU, and nothing is measured.

**Determinism.** Initialisation, batches and noise are drawn on the CPU from the seed of a run; kernels are the
deterministic ones. Training is dealt out to the devices; each of them then measures the same.

**Differences from the source:** (1) β grows linearly to T = 1, where almost no signal is left, instead of ten steps
that keep 95 % of its variance; (2) sampling starts at N(0, I), not at the noised reference batch itself; (3) exact
debiased W2 of large samples instead of sliced W2 of 128 points; (4) J is the score-matching loss itself, summed over
coordinates, not the denoising one averaged over them; (5) L_s at every checkpoint, where data and paths between them
are, not at the end of training on a square of side 0.9; (6) the time enters the network as the log signal-to-noise
ratio, not by a table of factors; (7) no ascent of the loss in the first ten epochs; (8) the learning rate falls to
zero; (9) MNIST is ours.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Self

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from paperkit import full_scale
from paperkit.full_scale import FullScaleSettings, HubFile, Session
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.stage import Tables
from paperkit.training import warmup_cosine
from replications.wasserstein_bound.score_network import joined, noised
from replications.wasserstein_bound.studies.finite_data_evaluation import SCHEDULE, Evaluation, checkpoint
from replications.wasserstein_bound.studies.full_scale import DATA_SETS, MNIST, ImageTask, PointTask, Task
from replications.wasserstein_bound.studies.score_training import WARMUP_STEPS, uniform_in_log_snr

MODULE = "replications.wasserstein_bound.paper"


class Settings(FullScaleSettings):
    """One block of paper.yaml; each task has one run a seed."""

    points: list[PointTask]
    images: list[ImageTask]
    evaluation: Evaluation

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for task in self.tasks:
            self.hardware.require_equal_parts(task.batch, of=task.data)
        return self

    @property
    def tasks(self) -> list[Task]:
        """All tasks, in order."""
        return [*self.points, *self.images]

    @property
    def files(self) -> Sequence[HubFile]:
        """The file of MNIST, where a task needs it."""
        return [MNIST] if any(task.data == "mnist" for task in self.tasks) else []


def run(settings: Settings, session: Session) -> Tables:
    """Train and measure every task on every seed."""
    shared = {"evaluation": settings.evaluation.model_dump(), "precision": settings.hardware.precision}
    rows = []
    for task in settings.tasks:
        data = torch.from_numpy(DATA_SETS[task.data]()).to(session.fabric.device)
        execute = partial(session, partial(measure, session.fabric, task, data, settings.evaluation))
        for seed in settings.seeds:
            rows += execute(Run(f"paper_{task.data}", "plain", seed, {**task.model_dump(), **shared}))
    return Tables(runs=rows)


def measure(fabric: Fabric, task: Task, data: Tensor, evaluation: Evaluation, run: Run) -> Iterator[Measurement]:
    """Train a network from scratch and measure it at every checkpoint; J alone, as NaN, if training diverges."""
    # data: points on the device, shape (n, d), float64. The seed decides initialisation, batches, noise, what is
    # measured.
    initialisation, order, measurement_seed = seeds_of(run.seed)
    torch.manual_seed(initialisation)
    network = task.new_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=task.lr, weight_decay=task.weight_decay)
    steps = task.checkpoints[-1]
    schedule = warmup_cosine(optimizer, steps=steps, warmup_steps=WARMUP_STEPS)
    model, optimizer = fabric.setup(network, optimizer)
    rng, draw = np.random.default_rng(order), uniform_in_log_snr(SCHEDULE, evaluation.t_min)
    for step in range(1, steps + 1):
        rows = torch.from_numpy(rng.integers(len(data), size=task.batch)).to(data.device)
        levels = torch.from_numpy(draw(rng, task.batch)).to(data.device)
        noise = torch.from_numpy(rng.standard_normal((task.batch, data.shape[1]))).to(data.device)
        inputs = joined(noised(data[rows], levels, noise), levels)
        norm = take_step(fabric, model, optimizer, inputs.float(), noise.float(), task.max_gradient_norm)
        # The norm is that of the averaged gradient, the same on all devices: they stop together.
        if not math.isfinite(norm):
            yield Measurement("train", steps, "score_loss", math.nan)
            return
        schedule.step()
        if step in task.checkpoints:
            network.eval()
            for metric, value in checkpoint(network, data, evaluation, measurement_seed).items():
                yield Measurement("train", step, metric, value)
            network.train()


def take_step(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    noise: Tensor,
    max_gradient_norm: float,
) -> float:
    """Take a step on a batch that is dealt to all devices; return the L2 norm of its gradient before clipping."""
    # Of the whole batch, the same on all devices: inputs of shape (batch, d + 1), noise to be predicted (batch, d).
    own = slice(fabric.global_rank, None, fabric.world_size)
    optimizer.zero_grad()
    fabric.backward(functional.mse_loss(model(inputs[own]), noise[own]))
    norm = fabric.clip_gradients(model, optimizer, max_norm=max_gradient_norm, error_if_nonfinite=False)
    optimizer.step()
    return norm.item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study from its command line."""
    full_scale.main(Settings, run, module=MODULE, arguments=arguments)


if __name__ == "__main__":
    main()

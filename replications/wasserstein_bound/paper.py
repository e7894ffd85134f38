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

import argparse
import hashlib
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from paperkit.config import StrictModel, read_profile
from paperkit.provenance import Provenance
from paperkit.results import ResultsError, read_json, write_json, write_runs
from paperkit.runs import Measurement, Run, code_hashes, import_closure, module_file, run_key
from paperkit.stage import Tables
from paperkit.training import warmup_cosine
from replications.wasserstein_bound.score_network import joined, noised
from replications.wasserstein_bound.tasks.denoising import WARMUP_STEPS, seeds_of, uniform_in_log_snr
from replications.wasserstein_bound.tasks.finite_data_evaluation import SCHEDULE, Evaluation, checkpoint
from replications.wasserstein_bound.tasks.full_scale import DATA_SETS, ImageTask, PointTask, Task, require_file

MODULE = "replications.wasserstein_bound.paper"
LOCK = Path("requirements.lock")
# What is run with the block `tiny` shows that the code works; its rows must not be judged at the paper's scale.
PROFILES = {"paper": "paper", "tiny": "smoke"}


class Hardware(StrictModel):
    """Arguments of Fabric.

    Attributes:
        accelerator: Where to compute.
        devices: Processes, one device each.
        strategy: "ddp" for several processes.
        precision: Of training; measurements are float32, exact scores float64.
    """

    accelerator: Literal["cuda", "cpu"]
    devices: int = Field(ge=1)
    strategy: Literal["auto", "ddp"]
    precision: Literal["32-true", "bf16-mixed"]


class Settings(StrictModel):
    """One block of paper.yaml.

    Attributes:
        hardware: Where to compute.
        points: Tasks in the plane.
        images: Tasks on images.
        evaluation: What is measured.
        seeds: One run of each task a seed.
    """

    hardware: Hardware
    points: list[PointTask]
    images: list[ImageTask]
    evaluation: Evaluation
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            message = f"seeds {self.seeds} must differ from each other"
            raise ValueError(message)
        for task in self.tasks:
            if task.batch % self.hardware.devices:
                message = (
                    f"batch {task.batch} of {task.data} cannot be dealt to devices {self.hardware.devices} equally"
                )
                raise ValueError(message)
        return self

    @property
    def tasks(self) -> list[Task]:
        """All tasks, in order."""
        return [*self.points, *self.images]


@dataclass(frozen=True)
class Session:
    """Executes runs, one after the other, on all devices at once, and keeps each finished one.

    Attributes:
        fabric: Launched.
        settings: One block of paper.yaml.
        profile: Written into every row.
        kept: Folder of finished runs.
        common: What the key of a kept run holds beside the run.
    """

    fabric: Fabric
    settings: Settings
    profile: str
    kept: Path
    common: Mapping[str, Any]

    def __call__(self, task: Task, data: Tensor, run: Run) -> list[dict[str, Any]]:
        """Execute a run that is not kept yet; rank 0 alone reads and writes files.

        Args:
            task: What it trains.
            data: Points on the device, shape (n, d), float64.
            run: One unit of work.

        Returns:
            Its rows of `runs.csv`.
        """
        file = self.kept / f"{run_key(run, self.common)}.json"
        measured = self.fabric.broadcast(_finished(file) if self.fabric.is_global_zero else None)
        if measured is None:
            self.fabric.print(f"{run.experiment} seed {run.seed}", flush=True)
            measured = [
                {**asdict(each), "value": each.value if math.isfinite(each.value) else None}
                for each in measure(self.fabric, task, data, self.settings.evaluation, run.seed)
            ]
            if self.fabric.is_global_zero:
                write_json(file, measured)
        head = {"profile": self.profile, **asdict(run)}
        return [{**head, **each, "status": "diverged" if each["value"] is None else "ok"} for each in measured]


def run(settings: Settings, fabric: Fabric, *, profile: str, kept: Path) -> Tables:
    """Train and measure every task on every seed.

    Args:
        settings: One block of paper.yaml.
        fabric: Launched, with the settings' hardware.
        profile: Written into every row.
        kept: Folder of finished runs.

    Returns:
        Measurements; experiments are called paper_<data set>.
    """
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    common = {"code": code_hashes(MODULE), "lock": lock, "profile": profile}
    session = Session(fabric, settings, profile, kept, common)
    shared = {"evaluation": settings.evaluation.model_dump(), "precision": settings.hardware.precision}
    rows = []
    for task in settings.tasks:
        data = torch.from_numpy(DATA_SETS[task.data]()).to(fabric.device)
        for seed in settings.seeds:
            rows += session(task, data, Run(f"paper_{task.data}", "plain", seed, {**task.model_dump(), **shared}))
    return Tables(runs=rows)


def measure(fabric: Fabric, task: Task, data: Tensor, evaluation: Evaluation, seed: int) -> Iterator[Measurement]:
    """Train a network from scratch and measure it at every checkpoint.

    Args:
        fabric: Launched.
        task: What to train.
        data: Points on the device, shape (n, d), float64.
        evaluation: What to measure.
        seed: Seed of the run.

    Yields:
        The numbers of `checkpoint` at every checkpoint; J alone, as NaN, at the end if training diverges.
    """
    initialisation, order, measurement_seed = seeds_of(seed)
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
    """Take one optimizer step on a batch that is dealt to all devices.

    Args:
        fabric: Launched.
        model: Set up by Fabric.
        optimizer: Set up by Fabric.
        inputs: Of the whole batch, the same on all devices, shape (batch, d + 1).
        noise: To be predicted, shape (batch, d).
        max_gradient_norm: Clipping threshold.

    Returns:
        L2 norm of the batch's gradient before clipping.
    """
    own = slice(fabric.global_rank, None, fabric.world_size)
    optimizer.zero_grad()
    fabric.backward(functional.mse_loss(model(inputs[own]), noise[own]))
    norm = fabric.clip_gradients(model, optimizer, max_norm=max_gradient_norm, error_if_nonfinite=False)
    optimizer.step()
    return norm.item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study from its command line (`--out`, `--settings`); several devices start copies of this process.

    Settings, devices and files are checked before anything is trained; results are written after the last run.

    Args:
        arguments: Command line; None for the process's own.

    Raises:
        SystemExit: If settings, devices or files are not there; the message names the thing and the remedy.
    """
    parser = argparse.ArgumentParser(prog="wasserstein_bound_paper", description="The bound at the authors' scale.")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument("--settings", default="paper", choices=PROFILES, help="block of paper.yaml")
    options = parser.parse_args(arguments)
    params = module_file(MODULE).with_name("paper.yaml")
    try:
        settings = read_profile(Settings, params, options.settings)
        require_devices(settings.hardware)
        if any(task.data == "mnist" for task in settings.tasks):
            require_file()
    except (ValueError, OSError) as error:
        message = f"wasserstein_bound_paper: {error}"
        raise SystemExit(message) from error
    profile, kept = PROFILES[options.settings], Path(f".paperkit/runs/wasserstein_bound_{options.settings}")
    provenance = Provenance("wasserstein_bound_paper", ["python", *sys.orig_argv[1:]], profile)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with this only
    torch.use_deterministic_algorithms(True)
    fabric = Fabric(**settings.hardware.model_dump())
    fabric.launch()
    tables = run(settings, fabric, profile=profile, kept=kept)
    if not fabric.is_global_zero:
        return
    write_runs(options.out / "runs.csv", tables.runs)
    code = [module_file(name).relative_to(Path.cwd()) for name in import_closure(MODULE)]
    provenance.write(
        options.out / "provenance.json",
        workers=fabric.world_size,
        threads=torch.get_num_threads(),
        isa={},
        lock=LOCK,
        deps=[*code, params.relative_to(Path.cwd())],
    )
    shutil.rmtree(kept)


def require_devices(hardware: Hardware) -> None:
    """Refuse to start where there are fewer GPUs than asked for.

    Args:
        hardware: What is asked for.

    Raises:
        OSError: If torch sees fewer CUDA devices.
    """
    found = torch.cuda.device_count()
    if hardware.accelerator == "cuda" and found < hardware.devices:
        message = (
            f"the settings ask for {hardware.devices} CUDA device(s), and torch {torch.__version__} sees {found}; run "
            "it where there are GPUs, with a CUDA build of torch, or pass --settings tiny to try the code on a CPU"
        )
        raise OSError(message)


def _finished(file: Path) -> list[dict[str, Any]] | None:
    """Read a finished run; a file that a crash of the machine damaged counts as missing."""
    try:
        return read_json(file)
    except ResultsError:
        return None


if __name__ == "__main__":
    main()

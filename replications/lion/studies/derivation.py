"""What the figures of the derivation show: drift under noise of several shapes (X8), paths on a quadratic."""

from collections.abc import Iterator

import torch
from pydantic import Field

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import Tables
from replications.lion.betas import LION_BETAS
from replications.lion.noise import NOISES, adamw_drift, lion_drift, simulated_drifts
from replications.lion.studies.arms import ARMS, OPTIMIZERS
from replications.lion.studies.search import Seed

# Mean over standard deviation: small enough that Lion's sign is still linear in it.
SMALL_RHO = 0.02
DRIFT_RHOS = (0.03, 0.1, 0.3, 1.0, 3.0)
# A minimum outside the box in one weight and inside it in the other.
PORTRAIT = {
    "curvatures": [1.0, 20.0],
    "minimum": [2.0, 0.5],
    "start": [-1.5, 1.8],
    "lr": 0.1,
    "weight_decay": 1.0,
    "steps": 40,
}


class Derivation(StrictModel):
    """The simulations."""

    noise_seeds: list[Seed] = Field(min_length=1)  # of each shape of the noise


def run_derivation(study: Derivation, runner: Runner) -> Tables:
    """Simulate what the figures of the derivation show."""
    shapes = [Run("noise", noise, seed, {}) for seed in study.noise_seeds for noise in NOISES]
    drifts = [Run("drift", "gaussian", 0, {"rho": rho}) for rho in DRIFT_RHOS]
    paths = [Run("portrait", arm, 0, PORTRAIT) for arm in ARMS]
    grids = ((measure_noise, shapes), (measure_drift, drifts), (measure_portrait, paths))
    return Tables([row for measure, grid in grids for row in execute(runner, measure, grid)])


def measure_noise(run: Run) -> Iterator[Measurement]:
    """Ratio of mean steps Lion / AdamW under a small constant gradient in noise, whose shape is the run's arm."""
    lion, adamw = simulated_drifts(run.arm, SMALL_RHO, num_coordinates=500, num_steps=1000, seed=run.seed)
    yield Measurement("none", 0, "drift_ratio", lion / adamw)


def measure_drift(run: Run) -> Iterator[Measurement]:
    """Hold both mean steps in Gaussian noise, in learning rates, against their formulas."""
    rho = run.config["rho"]
    simulated = simulated_drifts("gaussian", rho, num_coordinates=500, num_steps=500, seed=run.seed)
    predicted = lion_drift(rho, LION_BETAS), adamw_drift(rho)
    for arm, seen, expected in zip(("lion", "adamw"), simulated, predicted, strict=True):
        yield Measurement("none", 0, f"{arm}_simulated", seen)
        yield Measurement("none", 0, f"{arm}_predicted", float(expected))


def measure_portrait(run: Run) -> Iterator[Measurement]:
    """Follow one optimizer on f(x, y) = (a (x - x₀)² + b (y - y₀)²) / 2: both weights after each step."""
    config = run.config
    point = torch.nn.Parameter(torch.tensor(config["start"], dtype=torch.float64))
    groups = [{"params": [point], "weight_decay": config["weight_decay"]}]
    optimizer = OPTIMIZERS[run.arm](groups, config["lr"], LION_BETAS)
    curvatures, minimum = (torch.tensor(config[name], dtype=torch.float64) for name in ("curvatures", "minimum"))
    for step in range(config["steps"] + 1):
        x, y = point.tolist()
        yield Measurement("none", step, "x", x)
        yield Measurement("none", step, "y", y)
        point.grad = curvatures * (point.detach() - minimum)
        optimizer.step()

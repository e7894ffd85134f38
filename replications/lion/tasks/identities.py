"""What the figures of the derivation show: the simulated drift under noise of several shapes."""

from collections.abc import Iterator

import torch

from paperkit.runs import Measurement, Run
from replications.lion.noise import NOISES, adamw_drift, lion_drift, simulated_drifts
from replications.lion.tasks.arms import OPTIMIZERS

__all__ = ["NOISES", "measure_drift", "measure_noise", "measure_portrait"]

# Mean over standard deviation: small enough that Lion's sign is still linear in it.
SMALL_RHO = 0.02
BETAS = (0.9, 0.99)


def measure_noise(run: Run) -> Iterator[Measurement]:
    """Ratio of mean steps Lion / AdamW under a small constant gradient in noise, whose shape is the run's arm."""
    lion, adamw = simulated_drifts(run.arm, SMALL_RHO, num_coordinates=500, num_steps=1000, seed=run.seed)
    yield Measurement("none", 0, "drift_ratio", lion / adamw)


def measure_drift(run: Run) -> Iterator[Measurement]:
    """Hold both mean steps in Gaussian noise, in learning rates, against their formulas."""
    rho = run.config["rho"]
    simulated = simulated_drifts("gaussian", rho, num_coordinates=500, num_steps=500, seed=run.seed)
    predicted = lion_drift(rho, BETAS), adamw_drift(rho)
    for arm, seen, expected in zip(("lion", "adamw"), simulated, predicted, strict=True):
        yield Measurement("none", 0, f"{arm}_simulated", seen)
        yield Measurement("none", 0, f"{arm}_predicted", float(expected))


def measure_portrait(run: Run) -> Iterator[Measurement]:
    """Follow one optimizer on f(x, y) = (a (x - x₀)² + b (y - y₀)²) / 2: both weights after each step."""
    config = run.config
    point = torch.nn.Parameter(torch.tensor(config["start"], dtype=torch.float64))
    groups = [{"params": [point], "weight_decay": config["weight_decay"]}]
    optimizer = OPTIMIZERS[run.arm](groups, config["lr"], BETAS)
    curvatures, minimum = (torch.tensor(config[name], dtype=torch.float64) for name in ("curvatures", "minimum"))
    for step in range(config["steps"] + 1):
        x, y = point.tolist()
        yield Measurement("none", step, "x", x)
        yield Measurement("none", step, "y", y)
        point.grad = curvatures * (point.detach() - minimum)
        optimizer.step()

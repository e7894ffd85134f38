"""Points thrown at random and counted, and the curves of the figures."""

import math
from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize_scalar

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import StageConfig, Tables, main
from replications.sector_points.sector import probability_gaps_below, probability_in_sector

THROWN = {4: 180, 6: 240, 12: 300, 30: 330}  # degrees by number of points
BLOCK = 2000  # sets tested at once; no number depends on it


class Config(StageConfig):
    """One profile of params.yaml: seeds of the batches, sets of points in a batch, and n of the Gumbel limit."""

    seeds: Annotated[list[int], Field(min_length=1)]
    batch: Annotated[int, Field(ge=1000)]
    limits: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]


def thrown_points(rng: np.random.Generator, law: str, sets: int, n: int) -> NDArray[np.float64]:
    """Draw sets of n points, uniform in the unit disc (those of a square that lie in it) or from a round Gaussian."""
    if law == "gaussian":
        return rng.standard_normal((sets, n, 2))
    square = rng.uniform(-1, 1, (sets * n * 4 // 3 + 5000, 2))
    return square[(square**2).sum(axis=1) < 1][: sets * n].reshape(sets, n, 2)


def in_one_sector(points: NDArray[np.float64], angle: float) -> NDArray[np.bool_]:
    """Try each point of a set as first edge: do all others lie within the angle, counter-clockwise? Shape (sets,)."""
    directions = np.arctan2(points[..., 1], points[..., 0])
    found = np.zeros(len(points), dtype=bool)
    for first in range(points.shape[1]):
        turn = directions - directions[:, first : first + 1]  # in (-2π, 2π)
        found |= (((turn >= 0) & (turn <= angle)) | (turn <= angle - 2 * np.pi)).all(axis=1)
    return found


def measure_thrown(run: Run) -> Iterator[Measurement]:
    """Throw a batch and compare the share in one sector with the formula."""
    n, batch = run.config["n"], run.config["batch"]
    angle, rng = math.radians(THROWN[n]), np.random.default_rng((run.seed, n))
    blocks = (thrown_points(rng, run.arm, min(BLOCK, batch - start), n) for start in range(0, batch, BLOCK))
    share = sum(int(in_one_sector(block, angle).sum()) for block in blocks) / batch
    yield Measurement("none", 0, "share", share)
    yield Measurement("none", 0, "share_minus_formula", share - float(probability_in_sector(n, angle)))


def measure_curve(run: Run) -> Iterator[Measurement]:
    """Evaluate the probability; step: degrees."""
    degrees = range(0, 361, 8)
    values = probability_in_sector(run.config["n"], np.radians(degrees))
    yield from (Measurement("none", step, "probability", float(p)) for step, p in zip(degrees, values, strict=True))


def measure_limit(run: Run) -> Iterator[Measurement]:
    """Search the largest error of the Gumbel limit, and follow the law; step: 2 + nx - log n, in tenths."""
    n = run.config["n"]

    def error(y: float) -> float:
        return abs(probability_gaps_below(n, y / n) - math.exp(-n * math.exp(-y)))

    grid = np.linspace(1, min(n, math.log(n) + 8), 60)  # P is 1 below nx = 1
    best = max(grid, key=error)
    found = minimize_scalar(lambda y: -error(y), bounds=(max(best - 0.3, 1), best + 0.3), method="bounded")
    yield Measurement("none", 0, "gumbel_error", -float(found.fun))
    for step in range(-20, 61, 2):
        p = 1 - probability_gaps_below(n, (step / 10 + math.log(n)) / n)
        yield Measurement("none", step + 20, "probability", p)


def run(config: Config, runner: Runner) -> Tables:
    """Throw points, execute the checks, draw the curves."""
    thrown = [
        Run(f"thrown_{n}", law, seed, {"n": n, "batch": config.batch})
        for n in sorted(THROWN, reverse=True)
        for seed in config.seeds
        for law in ("disc", "gaussian")
    ]
    studies = (
        (measure_thrown, thrown),
        (measure_limit, [Run("limit", f"n_{n}", 0, {"n": n}) for n in config.limits]),
        (measure_curve, [Run("curve", f"n_{n}", 0, {"n": n}) for n in (3, 4, 6, 12, 30)]),
    )
    return Tables([row for measure, runs in studies for row in execute(runner, measure, runs)])


if __name__ == "__main__":
    main(Config, run, stage="sector_points", module="replications.sector_points.experiment")

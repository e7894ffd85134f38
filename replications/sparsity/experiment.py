"""Which penalty recovers sparse vectors, and how often two softmax rows have no order: the studies behind claims.yaml.

A seed is a draw of problems, the same for every penalty, or a block of images that no other seed has.
"""

from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from scipy.optimize import linprog
from scipy.special import softmax
from sklearn.datasets import load_digits

from paperkit.runs import Measurement, Run, Runner, execute, seeds_of
from paperkit.stage import StageConfig, Tables, main
from replications.sparsity.indices import gini_density, hill_density, lorenz, power_mean_ratio

NUM_EQUATIONS, NUM_UNKNOWNS = 40, 128
NUM_PROGRAMS = 8
NUM_DIGITS = 1797
CURVE_POINTS = 41
Floats = NDArray[np.float64]


class Config(StageConfig):
    """One profile of params.yaml."""

    seeds: list[NonNegativeInt] = Field(min_length=1)  # of the problems; also the numbers of the blocks of images
    num_problems: PositiveInt  # a seed and study
    # Numbers of non-zero entries: magnitudes over one decade (14 also with a matrix of signs), or of one magnitude.
    spread: list[PositiveInt]
    flat: list[PositiveInt]
    smoothing: dict[str, PositiveFloat]  # of each reweighted arm, in shares of the l1 solution's largest entry
    images: int = Field(ge=3)  # in a block
    scales: list[PositiveInt]  # factors of the logits

    @model_validator(mode="after")
    def _fits_the_digits(self) -> Self:
        if (max(self.seeds) + 1) * self.images > NUM_DIGITS:
            message = f"seed {max(self.seeds)} with {self.images} images a block: there are {NUM_DIGITS} images"
            raise ValueError(message)
        return self


def run(config: Config, runner: Runner) -> Tables:
    """Run every study; nothing is tuned here."""
    studies = {f"spread_{k}": {"num_nonzeros": k, "decades": 1, "signs": False} for k in config.spread}
    studies |= {f"flat_{k}": {"num_nonzeros": k, "decades": 0, "signs": False} for k in config.flat}
    studies["signs_14"] = {"num_nonzeros": 14, "decades": 1, "signs": True}
    arms = {"l1": None, "l1_over_l2": None, **config.smoothing}
    problems = [
        Run(name, arm, seed, {**study, "num_problems": config.num_problems, "smoothing": smoothing})
        for name, study in studies.items()
        for seed in config.seeds
        for arm, smoothing in arms.items()
        if name == "spread_14" or not arm.startswith("reweighted_")
    ]
    rows = {f"scale_{scale}": {"scale": scale, "diagonal": True} for scale in config.scales}
    rows["off_diagonal"] = {"scale": 4, "diagonal": False}
    grid = [
        Run("rows", arm, seed, {**row, "images": config.images}) for seed in config.seeds for arm, row in rows.items()
    ]
    return Tables([
        *execute(runner, measure_recovery, problems),
        *execute(runner, measure_rows, grid),
    ])


def measure_recovery(run: Run) -> Iterator[Measurement]:
    """Measure the share of problems that a penalty recovers, after 8 programs and after 16."""
    rng, config = np.random.default_rng(seeds_of(run.seed)[1]), run.config
    errors = np.empty((config["num_problems"], 2))
    for row in errors:
        matrix = rng.standard_normal((NUM_EQUATIONS, NUM_UNKNOWNS))
        matrix = np.sign(matrix) if config["signs"] else matrix
        truth = np.zeros(NUM_UNKNOWNS)
        places = rng.choice(NUM_UNKNOWNS, config["num_nonzeros"], replace=False)
        signs = rng.choice([-1, 1], config["num_nonzeros"])
        truth[places] = signs * 10 ** (config["decades"] * rng.random(config["num_nonzeros"]))
        found = iterates(matrix, matrix @ truth, run.arm, config["smoothing"])
        row[:] = np.linalg.norm(found - truth, axis=1) / np.linalg.norm(truth)
    shares = {"recovered": errors[:, 0] < 1e-3, "recovered_16": errors[:, 1] < 1e-3}
    for name, hits in {**shares, "nearly_recovered": errors[:, 0] < 1e-2}.items():
        yield Measurement("none", 0, f"{name}_share", float(hits.mean()))


def iterates(matrix: Floats, data: Floats, arm: str, smoothing: float | None) -> Floats:
    """Return the solutions after 8 and 16 linear programs that start from l1's; l1 alone stays there."""
    x = linear_program(matrix, data, np.ones(2 * NUM_UNKNOWNS))
    assert x is not None, "the problem has a solution"
    scale, kept = np.abs(x).max(), [x, x]
    for number in range(2 * NUM_PROGRAMS if arm != "l1" else 0):
        # Linear around x: of l1/l2 (Rahimi et al. 2019), or of sum log(|x| + smoothing) (Candes, Wakin, Boyd 2008).
        slope = np.abs(x).sum() / (x @ x) * x if smoothing is None else np.zeros_like(x)
        weight = np.ones_like(x) if smoothing is None else 1 / (np.abs(x) / scale + smoothing)
        after = linear_program(matrix, data, np.concatenate([weight - slope, weight + slope]) / weight.max())
        if after is None or np.abs(after - x).max() <= 1e-9 * scale:
            break
        x = after
        kept = [x if number < NUM_PROGRAMS else kept[0], x]
    return np.array(kept)


def linear_program(matrix: Floats, data: Floats, cost: Floats) -> Floats | None:
    """Minimise cost · (u, v) over u, v >= 0 with matrix (u - v) = data; return u - v, None if it is unbounded."""
    result = linprog(cost, A_eq=np.hstack([matrix, -matrix]), b_eq=data, method="highs")
    return result.x[:NUM_UNKNOWNS] - result.x[NUM_UNKNOWNS:] if result.status == 0 else None


def measure_rows(run: Run) -> Iterator[Measurement]:
    """Compare every two rows of softmax(scale Z Zᵀ / sqrt(64)), Z a block of digits, centred over all of them."""
    rows = similarity_rows(run.seed, **run.config)
    curves = lorenz(rows)
    first, second = np.triu_indices(len(rows), 1)
    gaps = [(curves[i] - curves[i + 1 :]) for i in range(len(rows) - 1)]
    above, below = (np.concatenate([(sign * gap).max(1) for gap in gaps]) for sign in (1, -1))
    depths = np.minimum(above, below)
    for name, depth in (("crossing", 1e-2), ("crossing_1e3", 1e-3), ("crossing_1e9", 1e-9)):
        yield Measurement("none", 0, f"{name}_share", float((depths > depth).mean()))
    exponents = ((1, 2), (1, 4), (0.5, 1), (0.5, 2))
    indices = np.array([*(power_mean_ratio(rows, q, p) for q, p in exponents), gini_density(rows), hill_density(rows)])
    votes = (indices[:, first] > indices[:, second]).sum(0)
    yield Measurement("none", 0, "disagreement_share", float(((votes > 0) & (votes < len(indices))).mean()))
    deepest, u = depths.argmax(), np.linspace(0, 1, CURVE_POINTS)
    for name, row in (("first", first[deepest]), ("second", second[deepest])):
        for step, share in enumerate(np.interp(u, np.linspace(0, 1, curves.shape[1]), curves[row])):
            yield Measurement("none", step, f"{name}_held_share", float(share))


def similarity_rows(block: int, images: int, scale: float, *, diagonal: bool) -> Floats:
    """Return the rows of one block, with or without each image's weight on itself: (images, images or one less)."""
    pixels = np.asarray(load_digits(return_X_y=True)[0], dtype=float) / 16
    shuffled = (pixels - pixels.mean(0))[np.random.default_rng(0).permutation(NUM_DIGITS)]
    z = shuffled[block * images : (block + 1) * images]
    logits = scale * z @ z.T / np.sqrt(z.shape[1])
    return softmax(logits if diagonal else logits[~np.eye(images, dtype=bool)].reshape(images, -1), axis=1)


if __name__ == "__main__":
    main(Config, run, stage="sparsity", module="replications.sparsity.experiment")

"""The source's own setting: a perceptron on its four clusters and its moons; L_s and B are estimated from below."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, SupportsFloat, get_args

import numpy as np
import torch
from pydantic import Field
from sklearn.datasets import make_moons
from torch import Tensor

from paperkit.runs import Measurement, Rows, Run, Runner, execute, seeds_of
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import wasserstein_upper_bound
from replications.wasserstein_bound.finite_data import finite_data_score
from replications.wasserstein_bound.score_network import ScoreNetwork, noised
from replications.wasserstein_bound.studies.measuring import ETA_OF
from replications.wasserstein_bound.studies.network_in_plane import BOX, PlaneMeasurement, cloud_distances, slopes
from replications.wasserstein_bound.studies.score_training import (
    SCHEDULE,
    log10,
    log_snr,
    loss_and_slopes,
    measured_training,
    network_score,
    uniform_in_log_snr,
)

DataSet = Literal["four_clusters", "moons"]
# The data sets are fixed; seeds of the runs do not change them.
DATA_SEED = 0
CLUSTER_SIZE, CLUSTER_CENTRE, CLUSTER_SD = 1000, 0.5, 0.0125
NUM_MOONS, MOON_NOISE = 5000, 0.1
MOST_POINTS = 512  # held against all points of the data at once


class FiniteSets(PlaneMeasurement):
    """Network, training and measurement of every run."""

    lr: float = Field(gt=0)  # peak, of AdamW
    weight_decay: float = Field(ge=0)
    max_gradient_norm: float = Field(gt=0)  # clipping threshold, in the L2 norm of all gradients
    num_error_points: int = Field(ge=1)  # of p_t for e(t), at each time


def run(settings: FiniteSets, seeds: Sequence[int], runner: Runner) -> Rows:
    """Train a network on each data set and seed and measure it along training."""
    names = get_args(DataSet)
    runs = [Run("finite_set", name, seed, settings.model_dump()) for seed in seeds for name in names]
    return execute(runner, measure_finite_set, runs)


def measure_finite_set(run: Run) -> Iterator[Measurement]:
    """Train a network on the data set that the arm names, and measure it at every checkpoint."""
    settings, data = FiniteSets(**run.config), torch.from_numpy(DATA_SETS[run.arm]())
    initialisation, data_seed, measurement_seed = seeds_of(run.seed)
    torch.manual_seed(initialisation)
    network = ScoreNetwork(dimension=2, width=settings.width, depth=settings.depth).double()
    exact = exact_scores(settings, data, measurement_seed)
    yield from measured_training(
        settings,
        network,
        torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay),
        lambda _step: checkpoint(settings, network, data, exact, measurement_seed),
        draw=lambda rng, count: chosen(data, count, rng).numpy(),
        draw_log_snr=uniform_in_log_snr(SCHEDULE, settings.t_min),
        seed=data_seed,
        max_gradient_norm=settings.max_gradient_norm,
    )


def checkpoint(
    settings: FiniteSets, network: ScoreNetwork, data: Tensor, exact: Sequence[tuple[Array, Array]], seed: int
) -> dict[str, SupportsFloat]:
    """Measure loss, slopes, estimated bounds and distances of a network as it is."""
    # exact: see `exact_scores`. seed: of probes and clouds: the same at every checkpoint.
    t, learned, part = settings.times, network_score(network, SCHEDULE), settings.num_probes // 3
    pairs = zip(exact, t.tolist(), strict=True)
    error = np.array([rms(known - learned(points, time)) for (points, known), time in pairs])

    def probes(rng: np.random.Generator, time: float) -> Array:
        share = torch.from_numpy(rng.uniform(size=(part, 1)))
        between = share * chosen(data, part, rng) + (1 - share) * chosen(data, part, rng)
        near = [noisy(chosen(data, part, rng), time, rng), noisy(between, time, rng)]
        return np.concatenate([*near, rng.uniform(-BOX, BOX, (part, 2))])

    slope = np.array([each.value for each in slopes(settings, probes, network, seed)])
    numbers = loss_and_slopes(settings, error, slope)
    terms = {**SCHEDULE.coefficients(t), "score_error": error, "score_slope": slope, "prior_distance": 0.0}
    for name, eta in ETA_OF.items():
        numbers[f"log10_estimated_bound_w2_{name}"] = log10(wasserstein_upper_bound(t, **terms, eta=eta))
    return numbers | cloud_distances(settings, partial(draw_noisy, data), learned, seed)


def exact_scores(settings: FiniteSets, data: Tensor, seed: int) -> list[tuple[Array, Array]]:
    """Draw points of p_t and the exact score there, at each of the settings' times, once for all checkpoints."""
    # Both of shape (num_error_points, 2).
    rng, found = np.random.default_rng(seed), []
    for time in settings.times.tolist():
        points = draw_noisy(data, rng, settings.num_error_points, time)
        parts = torch.from_numpy(points).split(MOST_POINTS)
        found.append((points, torch.cat([finite_data_score(data, part, level_at(time)) for part in parts]).numpy()))
    return found


def draw_noisy(data: Tensor, rng: np.random.Generator, count: int, t: float) -> Array:
    """Draw points of p_t, the law of the noised data set, shape (count, 2)."""
    return noisy(chosen(data, count, rng), t, rng)


def chosen(data: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Draw points of the data, with replacement."""
    return data[torch.from_numpy(rng.integers(len(data), size=count))]


def noisy(points: Tensor, t: float, rng: np.random.Generator) -> Array:
    """Carry points to t by the forward process."""
    return noised(points, level_at(t).expand(len(points)), torch.from_numpy(rng.standard_normal(points.shape))).numpy()


def level_at(t: float) -> Tensor:
    """Return ℓ(t), shape ()."""
    return torch.tensor(float(log_snr(SCHEDULE, t)), dtype=torch.float64)


def rms(vectors: Array) -> float:
    """Root of the mean squared length of vectors, shape (n, 2)."""
    return math.sqrt((vectors**2).sum(axis=1).mean())


def four_clusters() -> Array:
    """Return 1000 points around each of (±½, ±½), of standard deviation 0.0125, as in the authors' notebook."""
    rng = np.random.default_rng(DATA_SEED)
    corners = CLUSTER_CENTRE * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    return np.repeat(corners, CLUSTER_SIZE, axis=0) + CLUSTER_SD * rng.standard_normal((4 * CLUSTER_SIZE, 2))


def moons() -> Array:
    """Return 5000 points of scikit-learn's moons with noise 0.1, halved, as in the authors' notebook."""
    return make_moons(n_samples=NUM_MOONS, noise=MOON_NOISE, random_state=DATA_SEED)[0] / 2


DATA_SETS: Mapping[str, Callable[[], Array]] = {"four_clusters": four_clusters, "moons": moons}

"""Time of the distances and of a sweep of bounds, one thread: against POT's exact solver where there is one."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import ot
import pytest

from replications.wasserstein_bound.affine_cases import AffineCases, random_affine_cases
from replications.wasserstein_bound.bound import wasserstein_upper_bound
from replications.wasserstein_bound.distances import bures_distance, quantile_distance

NUM_POINTS = 4000
NUM_CASES = 800
NUM_TIMES = 4001
ROUNDS = 2
# On the line W_2 is a sort, O(n log n); the network simplex solves a transport problem with n^2 costs.
MIN_SPEEDUP_OF_SORTING = 20
MAX_SWEEP_S = 5.0


def two_samples(num_points: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, num_points)) + np.array([[0.0], [1.0]])


def network_simplex(x: np.ndarray, y: np.ndarray) -> float:
    costs = ot.dist(x[:, None], y[:, None], metric="sqeuclidean")
    return float(np.sqrt(ot.emd2([], [], costs, numItermax=10_000_000)))


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def sweep(cases: AffineCases) -> tuple[np.ndarray, np.ndarray]:
    """Exact W_2 and its bound for all cases, both samplers."""
    arguments = cases.bound_arguments
    distances = np.stack([cases.distance(eta) for eta in (0.0, 1.0)])
    bounds = np.stack([wasserstein_upper_bound(cases.t, **arguments, eta=eta).value for eta in (0.0, 1.0)])
    return distances, bounds


@pytest.mark.parametrize(
    "distance", [quantile_distance, lambda x, y: np.sqrt(ot.emd2_1d(x, y))], ids=["ours", "pot emd2_1d"]
)
def test_time_of_w2_on_the_line(benchmark, distance) -> None:
    benchmark.group = f"W2 of {NUM_POINTS} points on the line"
    benchmark(distance, *two_samples(NUM_POINTS))


@pytest.mark.parametrize("name", ["ours", "pot"])
def test_time_of_w2_between_gaussians(benchmark, name) -> None:
    benchmark.group = "W2 between Gaussians, d = 32"
    root = np.random.default_rng(1).standard_normal((32, 32))
    mean, first, second = np.zeros(32), root @ root.T + np.eye(32), np.eye(32)
    pot = ot.gaussian.bures_wasserstein_distance
    benchmark(*((bures_distance, mean, first, mean, second) if name == "ours" else (pot, mean, mean, first, second)))


def test_sorting_is_twenty_times_as_fast_as_the_network_simplex_and_gives_the_same() -> None:
    x, y = two_samples(NUM_POINTS)
    ratios = []
    for _ in range(ROUNDS):
        peer = seconds(lambda: network_simplex(x, y))
        ratios.append(peer / seconds(lambda: quantile_distance(x, y)))
    print(f"network simplex over sorting, n = {NUM_POINTS}: {[round(ratio) for ratio in ratios]}")
    assert quantile_distance(x, y) == pytest.approx(network_simplex(x, y), rel=1e-9)
    assert statistics.median(ratios) >= MIN_SPEEDUP_OF_SORTING


def test_a_sweep_of_800_cases_takes_at_most_five_seconds_of_one_core() -> None:
    start = time.process_time()
    distances, bounds = sweep(random_affine_cases(0, NUM_CASES, NUM_TIMES))
    elapsed_s = time.process_time() - start
    print(f"{NUM_CASES} cases, {NUM_TIMES} times, both samplers: {elapsed_s:.2f} s of processor time")
    assert (distances <= bounds * (1 + 1e-5)).all()
    assert elapsed_s <= MAX_SWEEP_S

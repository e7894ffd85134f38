"""Every function refuses bad input by name, value and remedy."""

import numpy as np
import pytest
import torch
from torch import nn

from replications.wasserstein_bound.bound import (
    kl_upper_bound,
    log_integral,
    ode_lemma_bound,
    score_matching_gap,
    wasserstein_corollary_bound,
    wasserstein_upper_bound,
)
from replications.wasserstein_bound.distances import (
    bures_distance,
    cell_quantiles,
    normal_levels,
    point_cloud_distance,
    quantile_distance,
    quantile_function_distance,
)
from replications.wasserstein_bound.gaussian import (
    MatrixScore,
    affine_score_error,
    constant_shift_distance,
    forward_moments,
    gaussian_distance,
    matrix_exact_score,
    matrix_forward_moments,
    matrix_reverse_moments,
    reverse_moments,
)
from replications.wasserstein_bound.lipschitz import certified_score_slope, estimated_score_slope
from replications.wasserstein_bound.mixture import Perturbation, SymmetricMixture
from replications.wasserstein_bound.samplers import coupled_paths, euler_maruyama, probability_flow, reverse_masses
from replications.wasserstein_bound.schedule import VariancePreserving, constant_rate, time_grid
from replications.wasserstein_bound.score_network import ScoreNetwork

T = np.linspace(0, 1, 201)
GOOD = {"diffusion_squared": 2.0, "score_error": 0.1, "score_slope": -0.5, "drift_slope": 1.0}
SCHEDULE = VariancePreserving()
EYE, SKEW = np.eye(2), [[1.0, 0.1], [0.0, 1.0]]
FOUR = MatrixScore(np.zeros((4, 1, 1)), np.zeros((4, 1)))
MODEL = SymmetricMixture(SCHEDULE, 1.0, 0.25).score
Z, RNG = np.linspace(-3, 3, 11), np.random.default_rng(0)
EDGES, MASSES = np.linspace(-9, 9, 101), np.full(100, 0.01)
RELU = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
NAN = nn.Linear(1, 1)
nn.init.constant_(NAN.weight, float("nan"))

REFUSED = {
    "bound": [
        (lambda: kl_upper_bound(T, diffusion_squared=1.0, score_error=1.0, eta=0.0), "eta has the value 0"),
        (lambda: score_matching_gap(0.0, score_second_moment=1.0), "noise_variance"),
        (lambda: wasserstein_corollary_bound(T, **GOOD, loss_weight=0.0), "loss_weight"),
        (lambda: log_integral(T, np.full(201, np.nan)), "NaN or"),
        (lambda: ode_lemma_bound(T, drift_error=-1.0, reverse_slope=0.0), "drift_error"),
    ],
    "schedule": [
        (lambda: VariancePreserving(horizon=0.0), "horizon has the value 0"),
        (lambda: VariancePreserving(beta_min=-0.1), "beta_min"),
        (lambda: VariancePreserving(1.0, 0.5, 3.0), "beta at the horizon"),
        (lambda: constant_rate(rate=float("nan")), "rate has the value nan"),
        (lambda: time_grid(constant_rate(), 1), "at least 2"),
        (lambda: time_grid(constant_rate(), 5, start=1.0), "before the horizon"),
    ],
    "gaussian": [
        (lambda: forward_moments(SCHEDULE, T, 0.0, -1.0), "variance has the value -1: pass numbers > 0"),
        (lambda: affine_score_error(0.0, 1.0, np.nan, 0.0), "slope has the value nan"),
        (lambda: reverse_moments(SCHEDULE, T, -1.0, np.zeros(3), prior_mean=0, prior_variance=1), "intercept"),
        (lambda: reverse_moments(SCHEDULE, T, -1.0, 0.0, prior_mean=0, prior_variance=1, eta=-1), "eta"),
        (lambda: gaussian_distance(0, 1, 0, -1), "second_variance"),
        (lambda: constant_shift_distance(SCHEDULE, 0.0, 1.0), "variance"),
        (lambda: matrix_forward_moments(SCHEDULE, T, np.zeros(2), -EYE), "eigenvalue -1"),
        (lambda: matrix_exact_score(np.zeros((1, 2)), np.zeros((1, 2, 2))), "positive definite"),
        (lambda: matrix_forward_moments(SCHEDULE, T, np.zeros(3), EYE), "mean has shape"),
        (lambda: MatrixScore(np.zeros((3, 2, 2)), np.zeros((3, 3))), r"pass \(..., n, d, d\)"),
        (lambda: matrix_reverse_moments(SCHEDULE, T[:4], FOUR, prior_mean=[0], prior_covariance=[[1]]), "odd number"),
    ],
    "mixture": [
        (lambda: SymmetricMixture(SCHEDULE, 1.0, -0.1), "variance has the value -0.1"),
        (lambda: Perturbation(shift=np.nan), "shift has the value nan"),
    ],
    "distances": [
        (lambda: quantile_distance([1.0], [1.0, 2.0]), "first has 1 points: at least 2 are needed; draw more"),
        (lambda: quantile_distance([1.0, np.nan], [1.0, 2.0]), r"first has the value nan at index \(1,\)"),
        (lambda: point_cloud_distance(EYE, np.eye(3)), "same dimension"),
        (lambda: point_cloud_distance([1.0, 2.0], EYE), r"\(n, d\)"),
        (lambda: point_cloud_distance(1.7e308 * EYE, -1.7e308 * EYE), "farther apart than float64"),
        (lambda: bures_distance([0, 0], SKEW, [0, 0], EYE), "not symmetric"),
        (lambda: bures_distance([0, 0], EYE, [0, 0], np.eye(3)), "dimensions differ"),
        (lambda: bures_distance([0, 0], [1.0, 1.0], [0, 0], EYE), "square matrices"),
        (lambda: quantile_function_distance([0, 1], [0, 1], [0.5, 0.6]), "weights sum to 1.1"),
        (lambda: quantile_function_distance([0, 1], [0, 1, 2], [0.5, 0.5]), "shapes differ"),
        (lambda: quantile_function_distance([1, 0], [0, 1], [0.5, 0.5]), "first decreases"),
        (lambda: cell_quantiles([0, 1], [0.5, 0.5], 0.0), "k cells have k"),
        (lambda: normal_levels(1), "at least 2"),
    ],
    "samplers": [
        (lambda: probability_flow(SCHEDULE, lambda x, _t: x * np.nan, Z, T), "NaN or inf"),
        (lambda: probability_flow(SCHEDULE, lambda _x, _t: np.zeros(3), Z, T), "one finite number for each"),
        (lambda: probability_flow(SCHEDULE, MODEL, Z, T[::-1]), "does not increase"),
        (lambda: reverse_masses(SCHEDULE, MODEL, EDGES, MASSES, T, eta=0.0), "eta has the value 0"),
        (lambda: reverse_masses(SCHEDULE, MODEL, EDGES**3, MASSES, T), "equally spaced"),
        (lambda: euler_maruyama(SCHEDULE, MODEL, Z, T, eta=-1.0, rng=RNG), "eta has the value -1"),
        (lambda: coupled_paths(SCHEDULE, MODEL, MODEL, Z, Z[1:], T, rng=RNG), "pairs of points have the same shape"),
    ],
    "lipschitz": [
        (lambda: certified_score_slope(RELU, [1, 0], [0, 1]), "no enclosure is known for ReLU"),
        (lambda: certified_score_slope(nn.Linear(2, 2), [1, 0], [0, 1]), "on the line it has one"),
        (lambda: certified_score_slope(nn.Linear(2, 1), [1], [0, 1]), "one number for each of the network's 2 inputs"),
        (lambda: certified_score_slope(nn.Linear(1, 1), [1], [0], tolerance=0.0), "tolerance has the value 0"),
        (lambda: certified_score_slope(NAN, [1], [0]), "network parameter weight has the value nan"),
        (lambda: estimated_score_slope(lambda x: x, [[0.0, 0.0]]), "probes has 1 points"),
        (lambda: estimated_score_slope(lambda x: x * torch.inf, np.ones((3, 2))), "largest eigenvalues"),
    ],
    "score_network": [
        (lambda: ScoreNetwork(dimension=0, width=1, depth=1), "dimension is 0; a score network needs at least 1"),
    ],
}
CASES = [pytest.param(*case, id=f"{module}: {case[1]}") for module, cases in REFUSED.items() for case in cases]


@pytest.mark.parametrize(("call", "message"), CASES)
def test_bad_input_is_refused_by_name_and_remedy(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("function", [wasserstein_upper_bound, wasserstein_corollary_bound])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score_error": -0.1}, "score_error has the value -0.1: pass numbers >= 0"),
        ({"score_slope": np.zeros(7)}, r"score_slope has shape \(7,\): its last axis must have the length of t, 201"),
        ({"score_slope": np.full(201, np.inf)}, "score_slope has the value inf at index"),
        ({"drift_slope": np.zeros((3, 5))}, "drift_slope"),
        ({"diffusion_squared": 0.0}, "diffusion_squared has the value 0: pass numbers > 0"),
        ({"eta": -1.0}, "eta has the value -1"),
        ({"prior_distance": -1.0}, "prior_distance"),
        ({"t": [0.0]}, "at least two times"),
        ({"t": [0.0, 0.5, 0.5]}, "sort it and drop repetitions"),
    ],
)
def test_the_bounds_refuse_bad_input(function, change, message) -> None:
    with pytest.raises(ValueError, match=message):
        function(**{"t": T, **GOOD, **change})

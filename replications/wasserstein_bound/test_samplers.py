import numpy as np
import pytest

from replications.wasserstein_bound.bound import wasserstein_upper_bound
from replications.wasserstein_bound.distances import cell_quantiles, normal_levels, quantile_function_distance
from replications.wasserstein_bound.gaussian import (
    exact_affine_score,
    forward_moments,
    gaussian_distance,
    reverse_moments,
)
from replications.wasserstein_bound.mixture import Perturbation, SymmetricMixture
from replications.wasserstein_bound.samplers import (
    coupled_paths,
    euler_maruyama,
    probability_flow,
    reverse_masses,
)
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid

SCHEDULE = VariancePreserving()
MIXTURE = SymmetricMixture(SCHEDULE, 1.0, 0.25)
DELTA = Perturbation(shift=0.2, amplitude=0.2, frequency=3.0)
Z, WEIGHTS = normal_levels(1001)
EDGES = np.linspace(-9, 9, 1601)
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2


def model(x, t):
    return MIXTURE.score(x, t) + DELTA(x)


def start_masses() -> np.ndarray:
    masses = np.exp(MIXTURE.log_density(CENTRES, 1.0))
    return masses / masses.sum()


def bound(eta: float, slope: np.ndarray | None = None, t: np.ndarray | None = None) -> float:
    t = time_grid(SCHEDULE, 8001) if t is None else t
    slope = MIXTURE.score_slope(t) + DELTA.slope if slope is None else slope
    known = {"score_error": DELTA.error(MIXTURE, t), "score_slope": slope}
    return float(wasserstein_upper_bound(t, **SCHEDULE.coefficients(t), **known, eta=eta).value)


def test_the_flow_of_an_affine_score_is_the_closed_form() -> None:
    t = time_grid(SCHEDULE, 401)
    end = probability_flow(SCHEDULE, lambda x, _t: 0.5 - 1.5 * x, Z, t)
    fine = time_grid(SCHEDULE, 20_001)
    mean, variance = reverse_moments(SCHEDULE, fine, -1.5, 0.5, prior_mean=0.0, prior_variance=1.0, eta=0.0)
    np.testing.assert_allclose(end, float(mean) + np.sqrt(float(variance)) * Z, atol=1e-6)


def test_the_law_of_the_sde_with_the_exact_score_is_the_data_up_to_a_floor_that_falls_with_the_steps() -> None:
    floors = []
    for num_steps in (250, 500):
        t = time_grid(SCHEDULE, num_steps + 1)
        masses = reverse_masses(SCHEDULE, MIXTURE.score, EDGES, start_masses(), t)
        assert masses.sum() == pytest.approx(1, abs=1e-9)
        assert masses.min() > -1e-15
        floors.append(quantile_function_distance(cell_quantiles(EDGES, masses, Z), MIXTURE.quantiles(Z, 0.0), WEIGHTS))
    assert floors[1] < 2e-3
    assert floors[0] / floors[1] > 1.6  # order one in the step


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_law_of_the_sde_with_an_affine_score_has_the_moments_of_the_closed_form(eta) -> None:
    t = time_grid(SCHEDULE, 1001)
    masses = np.exp(-(CENTRES**2) / 2)
    end = reverse_masses(SCHEDULE, lambda x, _t: 0.5 - 1.5 * x, EDGES, masses / masses.sum(), t, eta=eta)
    mean, variance = reverse_moments(SCHEDULE, t, -1.5, 0.5, prior_mean=0.0, prior_variance=1.0, eta=eta)
    assert end @ CENTRES == pytest.approx(float(mean), abs=2e-3)
    assert end @ CENTRES**2 - (end @ CENTRES) ** 2 == pytest.approx(float(variance), abs=2e-3)


def test_the_steps_of_euler_and_maruyama_cost_what_the_bound_does_not_see() -> None:
    def exact(x, t):
        slope, intercept = exact_affine_score(*forward_moments(SCHEDULE, np.array([t]), 1.0, 0.25))
        return slope * x + intercept

    mean_t, variance_t = forward_moments(SCHEDULE, np.array([1.0]), 1.0, 0.25)

    distances = []
    for num_steps in (10, 100):
        rng = np.random.default_rng(0)
        start = mean_t + np.sqrt(variance_t) * rng.standard_normal(200_000)
        end = euler_maruyama(SCHEDULE, exact, start, np.linspace(0, 1, num_steps + 1), rng=rng)
        distances.append(float(gaussian_distance(1.0, 0.25, end.mean(), end.var())))
    assert distances[0] > 0.05
    assert distances[1] < distances[0] / 5


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_coupling_slope_gives_a_bound_between_the_pairs_and_the_supremum(eta) -> None:
    rng = np.random.default_rng(2)
    t = time_grid(SCHEDULE, 1501)
    start = MIXTURE.draw(rng, (4000,), 1.0)
    paths = coupled_paths(SCHEDULE, MIXTURE.score, model, start, start, t, eta=eta, rng=rng)
    averaged, supremum = bound(eta, paths.slope, t), bound(eta)
    assert paths.distance[0] <= averaged * 1.02  # steps and draws
    assert averaged < supremum / 2
    assert (paths.slope <= MIXTURE.score_slope(t) + DELTA.slope + 1e-9).all()
    np.testing.assert_allclose(paths.score_error, DELTA.error(MIXTURE, t), rtol=0.1)
    assert paths.distance[0] == pytest.approx(np.sqrt(np.mean((paths.true_points - paths.model_points) ** 2)))


def test_two_equal_scores_from_one_start_stay_together_in_any_dimension() -> None:
    rng = np.random.default_rng(3)
    start = rng.standard_normal((50, 2))
    paths = coupled_paths(SCHEDULE, model, model, start, start, time_grid(SCHEDULE, 51), rng=rng)
    assert (paths.distance == 0).all()
    assert (paths.slope == 0).all()

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import approx_fprime
from threadpoolctl import threadpool_limits

from paperkit.config import read_profile
from replications.fourier_density import mixture
from replications.fourier_density.density import (
    ClippedMap,
    FourierDensity,
    TanhMap,
    correlation,
    fit,
    from_series,
    objective,
    roughness,
    start_of,
)
from replications.fourier_density.experiment import Config, changed_setting, fit_arm, space_of
from replications.fourier_density.targets import HEIGHTS, TARGETS, divergence, mode_f1, targets

MAPS = (TanhMap(1.5, 0.3), ClippedMap(2.0, -0.5, 0.2))


@pytest.fixture(autouse=True, scope="module")
def one_thread():  # the products are small, and threads of BLAS would wait for each other
    with threadpool_limits(1):
        yield


def polynomial(degree, seed=0):
    return np.random.default_rng(seed).normal(size=(2, degree + 1)).T @ np.array([1, 1j])


@pytest.mark.parametrize("line_map", MAPS)
def test_a_map_and_its_inverse_undo_each_other_and_its_slope_is_that_of_differences(line_map):
    x = np.linspace(-0.999, 0.999, 101)
    y = line_map.inverse(x)
    np.testing.assert_allclose(line_map(y)[0], x, atol=1e-12)
    slope = (line_map(y + 1e-6)[0] - line_map(y - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(np.exp(line_map(y)[1]), slope, atol=1e-8)


@pytest.mark.parametrize("line_map", MAPS)
@pytest.mark.parametrize("degree", [1, 6, 20])
def test_exact_samples_follow_the_distribution_function(line_map, degree):
    law = FourierDensity(polynomial(degree), line_map)
    drawn = law.sample(5000, np.random.default_rng(1))
    assert stats.kstest(drawn, law.cdf).pvalue > 1e-3
    assert stats.kstest(drawn, FourierDensity(polynomial(degree, 7), line_map).cdf).pvalue < 1e-6


@pytest.mark.parametrize("line_map", MAPS)
def test_the_log_density_is_finite_far_out_and_minus_infinite_at_a_zero(line_map):
    far = np.array([-1e6, 1e6])
    assert np.isfinite(FourierDensity(np.array([1, 0.5 + 0.1j]), line_map).log_pdf(far)).all()
    zero = FourierDensity(np.array([1.0 + 0j, -1.0]), line_map)  # A vanishes at x = 0
    assert zero.log_pdf(line_map.inverse(np.zeros(1)))[0] < -60
    assert zero.log_pdf(np.array([0.3]))[0] == -np.inf if line_map == MAPS[0] else True
    assert not np.isnan(zero.log_pdf(np.linspace(-5, 5, 1001))).any()
    assert zero.log_pdf([]).shape == (0,)


@given(st.integers(1, 12), st.floats(1e-3, 1e3), st.floats(0, 6))
def test_length_and_phase_of_the_coefficients_do_not_matter(degree, length, phase):
    b, y = polynomial(degree), np.linspace(-4, 4, 50)
    other = FourierDensity(length * np.exp(1j * phase) * b, MAPS[0])
    np.testing.assert_allclose(other.log_pdf(y), FourierDensity(b, MAPS[0]).log_pdf(y), atol=1e-9)
    assert roughness(other.coefficients) == pytest.approx(roughness(b), rel=1e-9)


def test_a_fit_beats_its_start_and_a_normal_fitted_to_two_modes():
    rng = np.random.default_rng(2)
    y = np.concatenate([rng.normal(-2, 0.5, 500), rng.normal(2, 0.5, 500)])
    found = fit(y, 6, TanhMap(3.0), seed=1)
    assert found.converged
    assert found.objective < objective(start_of(6, TanhMap(3.0), 1), y, 6, TanhMap(3.0))[0]
    assert found.objective < -stats.norm(y.mean(), y.std()).logpdf(y).mean() - 0.5
    assert np.linalg.norm(found.density.coefficients) == pytest.approx(1)


def test_a_large_penalty_leaves_nearly_the_uniform_density_on_the_interval():
    y = np.random.default_rng(3).normal(size=400)
    assert roughness(fit(y, 8, TanhMap(2.0), gamma=1e3).density.coefficients) < 1e-3


@pytest.mark.parametrize(
    ("call", "told"),
    [
        *[
            (lambda y=y: fit(y, 3, TanhMap(1.0)), "finite numbers, not all equal")
            for y in ([], [1.0, np.nan], [1.0, np.inf], [2.0, 2.0], [[1.0, 2.0]])
        ],
        (lambda: fit([0.0, 1.0], 0, TanhMap(1.0)), "degree is 0"),
        (lambda: TanhMap(-1.0), r"-1\.0"),
        (lambda: ClippedMap(1.0, softness=0.0), r"0\.0"),
        (lambda: from_series([1, 0.9]), r"-0\.8"),
    ],
)
def test_what_no_density_fits_is_refused_by_value(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def test_trailing_zeros_and_a_constant_are_series_too():
    c = np.append(correlation(polynomial(3)) + np.array([5, 0, 0, 0]), [0, 0])
    np.testing.assert_allclose(correlation(from_series(c).coefficients), c, atol=1e-10)
    np.testing.assert_allclose(from_series([2, 0]).coefficients, [np.sqrt(2), 0])


def test_duplicated_points_leave_the_fourier_density_smooth_and_the_mixture_at_its_floor():
    y = np.repeat([0.0, 1.0, 5.0], 100)
    assert np.isfinite(fit(y, 4, TanhMap(3.0, 2.0)).objective)
    found = mixture.fit_em(y, mixture.start_kmeans(y, 3, 1e-4, 0), 1e-4).density
    np.testing.assert_allclose(found.variances, 1e-4, rtol=1e-6)


@pytest.mark.parametrize("start", mixture.STARTS)
def test_em_and_gradient_start_alike_and_only_raise_the_likelihood(start):
    y = np.random.default_rng(4).normal(size=300) ** 3
    begin = mixture.STARTS[start](y, 4, 1e-3, 0)
    before = -begin.log_pdf(y).mean()
    assert mixture.objective(mixture.parameters_of(begin, 1e-3), y, 1e-3)[0] == pytest.approx(before, rel=1e-3)
    assert all(method(y, begin, 1e-3).objective < before for method in mixture.FITS.values())


def test_the_gradient_of_a_mixture_is_that_of_differences():
    y, at = np.random.default_rng(5).normal(size=100), np.random.default_rng(6).normal(size=9)
    differences = approx_fprime(at, lambda parameters: mixture.objective(parameters, y, 0.1)[0], 1e-7)
    np.testing.assert_allclose(mixture.objective(at, y, 0.1)[1], differences, atol=1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_a_density_and_its_samples_follow_it(name):
    target = targets()[name]
    mass = np.exp(target.log_pdf) * target.lengths
    assert mass.sum() == pytest.approx(1, abs=1e-6)
    drawn = target.draw(20_000, np.random.default_rng(0))
    below = [mass[target.points < point].sum() for point in (-1, 0, 1.5)]
    np.testing.assert_allclose([np.mean(drawn < point) for point in (-1, 0, 1.5)], below, atol=0.015)


def test_the_divergence_is_zero_from_itself_and_the_textbooks_from_a_wider_law():
    claw = targets()["claw"]
    assert divergence(claw, lambda y: np.interp(y, claw.points, claw.log_pdf)) == pytest.approx(0, abs=1e-12)
    uniform = targets()["steps"]  # against one plateau of equal mass
    assert divergence(uniform, lambda y: np.full(len(y), -np.log(5))) == pytest.approx(HEIGHTS @ np.log(5 * HEIGHTS))


def test_false_modes_cost_as_much_as_missing_ones():
    claw = targets()["claw"]
    assert mode_f1(claw, lambda y: np.interp(y, claw.points, claw.log_pdf)) == 1
    assert mode_f1(claw, lambda y: -(y**2) / 2) == pytest.approx(2 * 1 / (5 + 1))
    assert mode_f1(claw, lambda y: np.log(1.01 + np.sin(40 * y))) < 0.5


def test_arms_have_as_many_parameters_as_the_budget_allows_and_no_more():
    config = read_profile(Config, Path(__file__).with_name("params.yaml"), "cpu")
    for budget in config.parameters.values():
        degree, components = (space_of(arm, budget, config.boxes) for arm in ("fourier_linear", "em_wide"))
        assert budget - 2 <= 2 * degree["degree"][-1] + 3 <= budget
        assert budget - 2 <= 3 * components["components"][-1] - 1 <= budget
    assert space_of("adam_wide", 77, config.boxes)["components"] == [9, 17, 26]


def test_a_variation_changes_only_what_an_arm_has():
    assert changed_setting({"degree": 12}, {"degree": 37, "floor": 1e-4, "starts": 5}) == {"degree": 37, "starts": 5}


@pytest.mark.parametrize("arm", ["adam_linear", "adam_wide"])
def test_adam_ends_near_what_lbfgs_finds(arm):
    y = targets()["claw"].draw(500, np.random.default_rng(0))
    task = {"degree": 6, "half_width": 2.0, "softness": 0.1, "gamma": 0.0, "components": 3, "floor": 1e-3}
    task |= {"rate": 0.05, "steps": 500, "batch": 128}
    other = arm.replace("adam_linear", "fourier_linear").replace("adam_wide", "gradient_wide")
    losses = [-fit_arm(name, y, task, 0).density.log_pdf(y).mean() for name in (arm, other)]
    assert losses[0] == pytest.approx(losses[1], abs=0.06)

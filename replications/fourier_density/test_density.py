import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from threadpoolctl import threadpool_limits

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

MAPS = (TanhMap(1.5, 0.3), ClippedMap(2.0, 0.2, -0.5))


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


def test_no_point_gives_no_logarithm():
    assert FourierDensity(np.ones(2) + 0j, MAPS[0]).log_pdf([]).shape == (0,)


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


@pytest.mark.parametrize("y", [[], [1.0, np.nan], [1.0, np.inf], [2.0, 2.0], [[1.0, 2.0]]])
def test_data_that_no_density_fits_are_refused(y):
    with pytest.raises(ValueError, match="finite numbers, not all equal"):
        fit(y, 3, TanhMap(1.0))


def test_a_degree_or_length_that_is_not_positive_is_refused_by_value():
    with pytest.raises(ValueError, match="degree is 0"):
        fit([0.0, 1.0], 0, TanhMap(1.0))
    with pytest.raises(ValueError, match=r"-1\.0"):
        TanhMap(-1.0)
    with pytest.raises(ValueError, match=r"0\.0"):
        ClippedMap(1.0, 0.0)


def test_a_series_below_zero_is_refused_with_its_minimum():
    with pytest.raises(ValueError, match=r"-0\.8"):
        from_series([1, 0.9])


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
    differences = [
        (mixture.objective(at + step, y, 0.1)[0] - mixture.objective(at - step, y, 0.1)[0]) / 2e-6
        for step in 1e-6 * np.eye(9)
    ]
    np.testing.assert_allclose(mixture.objective(at, y, 0.1)[1], differences, atol=1e-8)

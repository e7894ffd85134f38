import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from replications.attention_scale.experiment import SCALES, peak
from replications.attention_scale.scale import (
    annealed_mass,
    annealed_optimum,
    cosine_log_moment,
    cosine_optimum,
    entropy_slope,
    exact_means,
    expected_maximum,
    gap_density_at_zero,
    mean_mass,
    row_statistics,
)

RNG = np.random.default_rng(7)


def test_the_exact_means_are_those_of_many_rows():
    rows = RNG.standard_normal((40_000, 32))
    found, exact = row_statistics(rows, 2.0), exact_means(2.0, 32)
    for name, value in (("mass", exact.mass), ("mean_score", exact.mean_score), ("entropy", exact.entropy)):
        assert found[name].mean() == pytest.approx(value, abs=5 * found[name].std() / 200)
    log_partition = np.log(np.exp(2 * rows).sum(1)).mean()
    assert log_partition == pytest.approx(exact.log_partition, abs=0.02)


def test_the_mean_score_is_the_slope_of_the_log_partition_and_the_variance_its_own():
    step = 1e-4
    slope = (exact_means(2.0 + step, 64).log_partition - exact_means(2.0 - step, 64).log_partition) / (2 * step)
    assert exact_means(2.0, 64).mean_score == pytest.approx(slope, rel=1e-7)
    rows = RNG.standard_normal((3, 9))
    scores = [row_statistics(rows, 2.0 + delta)["mean_score"] for delta in (-step, step)]
    np.testing.assert_allclose((scores[1] - scores[0]) / (2 * step), row_statistics(rows, 2.0)["variance"], rtol=1e-6)


def test_sampling_agrees_and_the_control_variate_narrows_it():
    exact = exact_means(8.0, 64).mass
    plain = mean_mass(8.0, 64, 4000, np.random.default_rng(0), control_variate=False)
    better = mean_mass(8.0, 64, 4000, np.random.default_rng(0))
    assert abs(plain[0] - exact) < 4 * plain[1]
    assert abs(better[0] - exact) < 4 * better[1]
    assert better[1] < plain[1] / 3


def test_the_optimum_maximises_the_approximation_even_where_n_is_no_float():
    for n in (2, 32, 5000):
        found = minimize_scalar(lambda a, n=n: -annealed_mass(a, n), bounds=(0, 6), method="bounded").x
        assert annealed_optimum(math.log(n)) == pytest.approx(found, abs=1e-4)
    assert annealed_optimum([1e6])[0] / 1e3 == pytest.approx(1, abs=1e-4)
    assert annealed_mass(64.0, 512) == -np.inf


def test_the_largest_of_two_and_three_scores_is_the_textbooks():
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), rel=1e-12)
    assert expected_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi), rel=1e-12)
    gaps = np.diff(np.sort(RNG.standard_normal((200_000, 16)), axis=1)[:, -2:])
    assert np.mean(gaps < 0.02) / 0.02 == pytest.approx(gap_density_at_zero(16), rel=0.1)


def test_one_row_s_entropies_are_those_of_its_weights():
    found = row_statistics(np.log([[0.5, 0.25, 0.25]]), 1.0)
    assert found["entropy"][0] == pytest.approx(1.5 * math.log(2))
    assert found["renyi"][0] == pytest.approx(-math.log(0.375))


def test_cosines_in_three_dimensions_are_uniform_and_in_many_normal():
    np.testing.assert_allclose(cosine_log_moment([0, 2.0], 3), [0, math.log(math.sinh(2) / 2)], atol=1e-14)
    d = 10**6
    assert cosine_log_moment(1.5 * math.sqrt(d), d) == pytest.approx(1.125, rel=1e-4)
    assert cosine_optimum(512, 4096) / 64 == pytest.approx(2.012, abs=1e-3)
    assert cosine_optimum(10_575, 512) == pytest.approx(59.7, abs=0.05)  # where Bessel functions underflow


def test_the_slope_is_one_where_attention_spreads_over_all():
    assert entropy_slope(lambda _n: 1e-3, [8, 64, 512]) == pytest.approx(1, abs=1e-5)


def test_a_peak_is_found_between_the_points_of_the_grid():
    assert peak(-((np.log(SCALES) - 0.7) ** 2)) == pytest.approx(math.exp(0.7))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: annealed_mass(1.0, 1), "n is 1"),
        (lambda: annealed_optimum(0.0), "log n is 0"),
        (lambda: exact_means(1.0, 1), "n is 1"),
        (lambda: exact_means(math.inf, 5), "scale is inf"),
        (lambda: row_statistics([1.0], 1.0), "n is 1"),
        (lambda: row_statistics([1.0, 2.0], 0.0), "scale is 0"),
        (lambda: mean_mass(1.0, 5, 1, np.random.default_rng(0)), "rows is 1"),
        (lambda: expected_maximum(1), "n is 1"),
        (lambda: gap_density_at_zero(1), "n is 1"),
        (lambda: cosine_log_moment(1.0, 2), "d is 2"),
        (lambda: cosine_log_moment(math.nan, 3), "a is nan"),
        (lambda: cosine_optimum(1, 3), "n is 1"),
        (lambda: entropy_slope(lambda _n: 1.0, [8, 8]), "lengths is"),
    ],
)
def test_bad_input_is_refused_by_name(call, told):
    with pytest.raises(ValueError, match=told):
        call()

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from replications.sparsity.checks import transfer_slope
from replications.sparsity.indices import compare, gini_density, hill_density, lorenz, power_mean_ratio

RNG = np.random.default_rng(5)
X = RNG.lognormal(size=(6, 9))
INDICES = [power_mean_ratio, lambda x: power_mean_ratio(x, 1, np.inf), gini_density, hill_density, lorenz]


def test_the_ratio_is_that_of_scipys_power_means():
    expected = stats.pmean(X, 0.5, axis=1) / stats.pmean(X, 3, axis=1)
    assert_allclose(power_mean_ratio(X, 0.5, 3), expected, rtol=1e-13)
    assert_allclose(power_mean_ratio(-X, 1, np.inf), X.mean(1) / X.max(1), rtol=1e-13)


def test_gini_is_the_mean_difference_of_pairs():
    differences = np.abs(X[:, :, None] - X[:, None, :]).mean((1, 2))
    assert_allclose(gini_density(X), 1 - differences / (2 * X.mean(1)), rtol=1e-13)


def test_the_entropy_is_scipys_and_its_order_is_continuous_at_one_and_infinity():
    assert_allclose(hill_density(X), np.exp(stats.entropy(X, axis=1)) / 9, rtol=1e-13)
    assert_allclose(hill_density(X, 1 + 1e-7), hill_density(X), rtol=1e-5)
    assert_allclose(hill_density(X, 2000), hill_density(X, np.inf), rtol=1e-2)
    assert hill_density([1, 0, 0, 0]) == 0.25


def test_the_lorenz_curve_has_half_of_ginis_area_below_it():
    assert_allclose(2 * np.trapezoid(lorenz(X), dx=1 / 9, axis=1), gini_density(X), rtol=1e-13)


@pytest.mark.parametrize("factor", [1e-200, 1e200])
@pytest.mark.parametrize("index", INDICES)
def test_scale_does_not_matter_even_where_powers_would_overflow(index, factor):
    assert_allclose(index(factor * X), index(X), rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        ([1, 2], [2, 4, 2, 4], "equal"),
        ([1, 0], [1, 1], "sparser"),
        ([3, 2, 2], [4, 2, 1], "denser"),
        ([5, 5, 2], [6, 3, 3], "incomparable"),
    ],
)
def test_vectors_are_compared_by_their_lorenz_curves(x, y, word):
    opposite = {"sparser": "denser", "denser": "sparser"}
    assert (compare(x, y), compare(y, x)) == (word, opposite.get(word, word))
    assert compare(x, y, depth=1) == "equal"


def test_the_slope_is_that_of_a_small_transfer_and_not_with_exponents_exchanged():
    x, step = np.array([3.0, 1.0, 0.5]), 1e-6 * np.array([-1, 1, 0])
    for q, p in ((0.5, 2), (2, 4)):
        numeric = np.log(power_mean_ratio(x + step, q, p) / power_mean_ratio(x - step, q, p)) / 2e-6
        slope = transfer_slope(3.0, 1.0, ((x**q).sum(), (x**p).sum()), q, p)
        assert slope == pytest.approx(numeric, rel=1e-7)
        assert slope != pytest.approx(transfer_slope(3.0, 1.0, ((x**p).sum(), (x**q).sum()), p, q), rel=1e-2)


@pytest.mark.parametrize("bad", [[], [0, 0], [1, np.nan], [1, np.inf], [[1, 2], [0, 0]], 1.0])
@pytest.mark.parametrize("index", INDICES)
def test_a_vector_without_sparsity_is_refused_by_name(index, bad):
    with pytest.raises(ValueError, match="empty, zero or not finite"):
        index(bad)


@pytest.mark.parametrize(("q", "p"), [(0, 1), (-1, 1), (2, 2), (2, 1), (np.nan, 2), (1, np.nan)])
def test_exponents_out_of_range_are_refused_by_name(q, p):
    with pytest.raises(ValueError, match="0 < q < p"):
        power_mean_ratio(X, q, p)


@pytest.mark.parametrize("call", [lambda: hill_density(X, 0), lambda: compare(X, X), lambda: compare([1], [1], -1)])
def test_other_bad_arguments_are_refused_by_name(call):
    with pytest.raises(ValueError, match=r"order 0|depth"):
        call()

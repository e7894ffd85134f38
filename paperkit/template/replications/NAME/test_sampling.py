import numpy as np
import pytest

from replications.NAME.sampling import averages, variance_of_average


@pytest.mark.parametrize("replace", [True, False])
def test_the_variance_is_that_of_many_draws(replace):
    rng, numbers = np.random.default_rng(1), np.arange(12.0)
    drawn = [rng.choice(numbers, 4, replace=replace) for _ in range(20_000)]
    assert averages(drawn).var() == pytest.approx(variance_of_average(numbers, 4, replace=replace), rel=0.05)


def test_all_numbers_without_replacement_leave_no_variance():
    assert variance_of_average([1.0, 2.0, 4.0], 3, replace=False) == 0


@pytest.mark.parametrize("n", [0, 4])
def test_a_size_that_does_not_fit_is_refused_by_name(n):
    with pytest.raises(ValueError, match="n must be"):
        variance_of_average([1.0, 2.0, 4.0], n, replace=True)

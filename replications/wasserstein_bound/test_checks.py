"""What the checks are made of; that each holds and its control fails is in tests/test_smoke.py."""

import numpy as np
import pytest

from replications.wasserstein_bound.errors import excess, room


def test_an_excess_is_relative_to_the_value_and_not_negative_and_room_is_what_is_left_below_the_bound() -> None:
    assert excess([2.0, 2.0, 2.0], [1.0, 3.0, 1.5], [0.0, 0.0, 0.5]).tolist() == [0.5, 0.0, 0.0]
    assert room([1.0, 1.5], [2.0, 2.0]) == 0.25
    assert room([1.0, 3.0], [2.0, 2.0]) == 0


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_value_without_a_size_is_refused(value) -> None:
    with pytest.raises(ValueError, match="value has the value"):
        excess(value, 1.0)

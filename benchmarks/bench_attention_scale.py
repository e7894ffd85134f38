"""Time of the closed-form optimum over searches, and of the gradient's size over a softmax."""

import statistics

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from benchmarks.measuring import median_ratio, times_s
from replications.attention_scale.attention import gradient_mass
from replications.attention_scale.scale import annealed_mass, annealed_optimum

ROUNDS = 15
LENGTHS = 40 * np.arange(1, 501)  # the post's
ROWS, SCORES = 2000, 512
MIN_SPEED_OVER_SEARCHES = 100
MAX_OVER_SOFTMAX = 3.0


def searches() -> list[float]:
    return [
        minimize_scalar(lambda a, n=n: -float(annealed_mass(a, n)), bounds=(0, 6), method="bounded").x for n in LENGTHS
    ]


def test_the_closed_form_against_a_search_for_each_length() -> None:
    log_n = np.log(LENGTHS)
    # A thousand calls a round: one takes microseconds.
    actions = {"search": searches, "closed form": lambda: [annealed_optimum(log_n) for _ in range(1000)]}
    times = times_s(actions, 3)
    found = 1000 * median_ratio(times["search"], times["closed form"])
    print(f"searches over the closed form: {found:.0f}")
    assert found >= MIN_SPEED_OVER_SEARCHES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_size_of_the_gradient_against_a_softmax(dtype: torch.dtype) -> None:
    scores = torch.randn(ROWS, SCORES, dtype=dtype, generator=torch.Generator().manual_seed(0))
    actions = {"mass": lambda: gradient_mass(scores, 2.5), "softmax": lambda: torch.softmax(scores * 2.5, -1)}
    times_s(actions, 2)
    times = times_s(actions, ROUNDS)
    found = median_ratio(times["mass"], times["softmax"])
    print({name: f"{1e3 * statistics.median(values):.2f} ms" for name, values in times.items()}, f"{found:.2f}")
    assert found <= MAX_OVER_SOFTMAX

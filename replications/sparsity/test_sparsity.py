from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from paperkit.config import read_profile
from paperkit.runs import Run
from replications.sparsity.experiment import Config, iterates, linear_program, measure_rows, similarity_rows
from replications.sparsity.indices import compare, power_mean_ratio

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("smoothing", [None, 0.1])
def test_a_program_never_raises_what_its_arm_minimises(smoothing):
    rng = np.random.default_rng(0)
    matrix, truth = rng.normal(size=(40, 128)), np.zeros(128)
    truth[:14] = 10 ** rng.random(14)
    start = iterates(matrix, matrix @ truth, "l1", None)[0]
    last = iterates(matrix, matrix @ truth, "any", smoothing)[1]

    def penalty(x):
        return power_mean_ratio(x) if smoothing is None else np.log(np.abs(x) / np.abs(start).max() + smoothing).sum()

    assert penalty(last) < penalty(start)
    np.testing.assert_allclose(matrix @ last, matrix @ truth, atol=1e-8)


def test_an_unbounded_program_has_no_solution():
    assert linear_program(np.ones((1, 128)), np.ones(1), np.full(256, -1.0)) is None


@pytest.mark.parametrize("diagonal", [True, False])
def test_crossings_are_those_of_compare_and_not_at_another_depth(diagonal):
    config = {"images": 20, "scale": 4, "diagonal": diagonal}
    rows = similarity_rows(0, **config)
    measured = {m.metric: m.value for m in measure_rows(Run("rows", "any", 0, config))}
    pairs = list(combinations(rows, 2))
    deep, shallow = (np.mean([compare(*pair, depth) == "incomparable" for pair in pairs]) for depth in (1e-2, 1e-3))
    assert [measured["crossing_share"], measured["crossing_1e3_share"]] == pytest.approx([deep, shallow])
    assert deep < shallow


def test_blocks_share_no_image():
    blocks = np.concatenate([similarity_rows(block, 30, 4, diagonal=False) for block in range(3)])
    assert len(np.unique(blocks.round(12), axis=0)) == 90


def test_more_images_than_there_are_is_refused_by_number():
    blocks = read_profile(Config, FOLDER / "params.yaml", "cpu").model_dump()
    with pytest.raises(ValidationError, match="1797 images"):
        Config.model_validate({**blocks, "images": 225})

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from paperkit.claims.declarations import read_claims
from paperkit.claims.rules import IdentityTest
from paperkit.config import read_profile
from paperkit.runs import Run
from replications.sparsity.checks import CHECKS
from replications.sparsity.experiment import Config, iterates, linear_program, measure_rows, similarity_rows
from replications.sparsity.indices import compare, power_mean_ratio

FOLDER = Path(__file__).parent
AS_WRITTEN = ("robin_hood_as_written", "signal_to_noise_as_written", "gini_alone")


def tolerances() -> dict[str, float]:
    claims = read_claims(FOLDER / "claims.yaml")
    tests = [test for claim in claims for test in (*claim.tests, *claim.corrected)]
    return {test.estimand: test.tolerance for test in tests if isinstance(test, IdentityTest)}


@pytest.mark.parametrize("name", CHECKS)
def test_a_statement_holds_unless_it_is_as_written_and_its_control_fails(name):
    outcome = CHECKS[name]()
    assert (outcome.max_error <= tolerances()[name]) == (name not in AS_WRITTEN)
    assert outcome.control_error > 0.09


@pytest.mark.parametrize("smoothing", [None, 0.1])
def test_a_program_never_raises_what_its_arm_minimises(smoothing):
    rng = np.random.default_rng(0)
    matrix, truth = rng.normal(size=(40, 128)), np.zeros(128)
    truth[:14] = 10 ** rng.random(14)
    start, last = (
        iterates(matrix, matrix @ truth, "l1", None)[0],
        iterates(matrix, matrix @ truth, "any", smoothing)[1],
    )

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
    shares = {depth: np.mean([compare(*pair, depth) == "incomparable" for pair in pairs]) for depth in (1e-2, 1e-3)}
    assert [measured["crossing_share"], measured["crossing_1e3_share"]] == pytest.approx(list(shares.values()))
    assert shares[1e-2] < shares[1e-3]


def test_blocks_share_no_image():
    blocks = np.concatenate([similarity_rows(block, 30, 4, diagonal=False) for block in range(3)])
    assert len(np.unique(blocks.round(12), axis=0)) == 90


def test_more_images_than_there_are_is_refused_by_number():
    blocks = read_profile(Config, FOLDER / "params.yaml", "cpu").model_dump()
    with pytest.raises(ValidationError, match="1797 images"):
        Config.model_validate({**blocks, "images": 225})

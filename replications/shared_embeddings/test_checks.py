"""Every check of the derivation holds or is refuted as claimed, and every control is caught."""

import pytest
import torch

from paperkit.claims.declarations import read_claims
from replications.shared_embeddings import checks, checks_of_training, embedding, random_tables
from replications.shared_embeddings.test_experiment import CLAIMS_FILE

TESTS = {
    test.estimand: test.tolerance
    for claim in read_claims(CLAIMS_FILE)
    for test in (*claim.tests, *claim.corrected)
    if test.rule == "identity"
}
AS_WRITTEN = {name for name in checks.CHECKS if name.endswith("as_written")}


def test_every_check_is_judged_by_a_claim_and_every_identity_is_a_check():
    assert set(TESTS) == set(checks.CHECKS)
    assert len(AS_WRITTEN) == 4


@pytest.mark.parametrize("name", checks.CHECKS)
def test_a_check_holds_exactly_if_it_is_not_the_source_s_slip_and_its_control_is_caught(name):
    found = checks.CHECKS[name]()
    assert (found.max_error > TESTS[name]) == (name in AS_WRITTEN)
    assert found.control_error > TESTS[name]


# Each break is of one ingredient of the library; the check that rests on it must see it.
BREAKS = {
    "step_4_tied_loss": (checks, "predicted_initial_loss", embedding.predicted_initial_loss, 1.2),
    "step_5_crossover": (checks, "crossover_width", embedding.crossover_width, 1.3),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_wrong_formula_is_seen(name, monkeypatch):
    module, attribute, right, factor = BREAKS[name]
    monkeypatch.setattr(module, attribute, lambda *args: factor * right(*args))
    assert checks.CHECKS[name]().max_error > TESTS[name]


def test_a_wrong_map_is_seen(monkeypatch):
    for module in (checks, checks_of_training):
        monkeypatch.setattr(module, "half_swap", lambda h: h.roll(1, dims=-1))
        monkeypatch.setattr(module, "signed_swap", lambda h: h.roll(1, dims=-1))
    assert checks.CHECKS["step_9_symmetry"]().max_error > 1
    assert checks.CHECKS["step_10_split_tables"]().max_error > 1


def test_a_wrong_count_of_fixed_points_is_seen(monkeypatch):
    monkeypatch.setattr(checks, "shuffle_fixed_points", lambda d, g: embedding.shuffle_fixed_points(d, g) + 1)
    assert checks.CHECKS["step_16_fixed_points"]().max_error == 1


def test_pairs_of_the_bigram_model_never_repeat_a_token():
    table = 30 * torch.eye(6, 8, dtype=torch.float64)
    # The logit of every other token is 0, of the input itself huge: a repeated token would cost nothing.
    losses = random_tables.bigram_losses(table, table, seed=0, inputs=200)
    assert losses.min() > 50

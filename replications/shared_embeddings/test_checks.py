"""What checks are made of; that each holds and its control fails is in tests/test_smoke.py."""

import pytest
import torch

from replications.shared_embeddings import checks, checks_of_training, random_tables


def test_pairs_of_the_bigram_model_never_repeat_a_token():
    table = 30 * torch.eye(6, 8, dtype=torch.float64)
    # The logit of every other token is 0, of the input itself huge: a repeated token would cost nothing.
    losses = random_tables.bigram_losses(table, table, seed=0, inputs=200)
    assert losses.min() > 50


@pytest.mark.parametrize("check", [check for check in checks.CHECKS if check.endswith("as_written")])
def test_a_statement_that_is_refuted_passes_where_it_is_right(check, monkeypatch):
    """So the check can pass; the case in which it does is then made a wrong one."""
    seen = []

    def recorded(error, where_right, tolerance):
        seen.append((error, where_right, tolerance))
        return random_tables.refuted(error, where_right, tolerance)

    for module in (checks, checks_of_training):
        monkeypatch.setattr(module, "refuted", recorded)
    found = checks.CHECKS[check]()
    ((error, where_right, tolerance),) = seen
    assert where_right <= tolerance < error == found.max_error == found.control_error
    assert random_tables.refuted(error, 2 * tolerance, tolerance).control_error == 0

"""The checks see a wrong ingredient of the library (tests/test_smoke.py holds them all to their tolerances)."""

import pytest
import torch

from replications.shared_embeddings import checks, checks_of_training, embedding, random_tables


def rolled(h):
    return h.roll(1, dims=-1)


@pytest.mark.parametrize(
    ("check", "name", "wrong", "tolerance"),
    [
        ("step_4_tied_loss", "predicted_initial_loss", lambda *a: 1.2 * embedding.predicted_initial_loss(*a), 0.15),
        ("step_5_crossover", "crossover_width", lambda n: 1.3 * embedding.crossover_width(n), 8.0),
        ("step_9_symmetry", "half_swap", rolled, 1.0),
        ("step_9_symmetry", "signed_swap", rolled, 1.0),
        ("step_10_split_tables", "half_swap", rolled, 1.0),
        ("step_16_fixed_points", "shuffle_fixed_points", lambda d, g: embedding.shuffle_fixed_points(d, g) + 1, 0.0),
    ],
)
def test_a_wrong_ingredient_is_seen(monkeypatch, check, name, wrong, tolerance):
    for module in (checks, checks_of_training):
        monkeypatch.setattr(module, name, wrong, raising=False)
    assert checks.CHECKS[check]().max_error > tolerance


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

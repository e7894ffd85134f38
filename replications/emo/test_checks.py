import re
from pathlib import Path

import torch

from replications.emo import checks, checks_of_fixed_points, loss
from replications.emo.checks_of_fixed_points import CHECKS as OF_FIXED_POINTS
from replications.emo.checks_of_fixed_points import FIXED_POINTS

PAGE = Path(__file__).parents[2] / "book/replications/emo/derivation.md"
NAMES_ON_THE_PAGE = {
    "$m$": "m",
    "$m + 4d$": "m + 4 d",
    "`tvd` at $\\gamma = 0.1$": "tvd",
    "$m + e$": "m + e",
    "mode 1, weight at most 3": "mode 1, bound 3",
    "mode 1 with $d$ in the place of $e$": "mode 1, d for e",
    "mode 2, taken out": "mode 2, target taken out",
}


def test_the_page_shows_the_rest_points_that_are_checked() -> None:
    shown = {}
    for names, *numbers in re.findall(
        r"^\| (.+?) " + 3 * r"\| \{constant\}`([\d.]+)` " + r"\|$",
        PAGE.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    ):
        shown |= {NAMES_ON_THE_PAGE.get(name, name): tuple(map(float, numbers)) for name in names.split("; ")}
    assert shown == {name: tabled for name, (_, tabled) in FIXED_POINTS.items()}


def test_a_loss_whose_rows_are_no_unit_vectors_fails_the_checks_that_concern_it(monkeypatch) -> None:
    def wrong(logits, targets, cost, **options):
        cost.rows = 1.1 * cost.rows / cost.rows.norm(dim=1, keepdim=True)
        return loss.earth_mover_loss(logits, targets, cost, **options)

    monkeypatch.setattr(checks, "earth_mover_loss", wrong)
    for name in ("step_3_one_hot", "step_4_not_zero_at_truth", "step_7_gradient"):
        assert checks.CHECKS[name]().max_error > 1e-3


def test_a_mode_1_whose_weight_is_not_stopped_fails_the_checks_that_concern_it(monkeypatch) -> None:
    def wrong(logits, targets, _):
        return torch.nn.functional.cross_entropy(logits, targets)

    monkeypatch.setattr(checks, "emo_mle_loss", wrong)
    monkeypatch.setattr(checks_of_fixed_points, "emo_mle_loss", wrong)
    assert checks.CHECKS["step_8_gradients"]().max_error > 1e-3
    for name in ("step_11_rest_equation", "step_11_entropy_may_rise"):
        assert OF_FIXED_POINTS[name]().max_error > 1e-3

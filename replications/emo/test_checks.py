import re
from pathlib import Path

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

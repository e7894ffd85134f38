"""What a verdict survives, in words: variations of its claim, seeds left out."""

from collections.abc import Mapping
from typing import Any

MIN_SEEDS_OF_A_VARIATION = 3  # with fewer it is shown and decides nothing


def as_test(claim: Mapping[str, Any], variation: Mapping[str, Any]) -> dict[str, Any]:
    """Give a variation what it shares with the test that it varies, so that it is written like one."""
    return {**variation, **{key: _varied(claim, variation)[key] for key in ("rule", "unit")}}


def outcome(variation: Mapping[str, Any]) -> str:
    """Say what a variation does to the word; why it is undecided the column beside it says."""
    if variation["flips"] is not None:
        return "flips" if variation["flips"] else "stands"
    if variation["n"] == 0:
        return "not run"
    return "too few seeds" if variation["n"] < MIN_SEEDS_OF_A_VARIATION else "undecided"


def share(claim: Mapping[str, Any]) -> str:
    """Count the variations under which the word of a claim stands; those that decide nothing are not counted."""
    deciding = [variation["flips"] for variation in claim["robustness"] if variation["flips"] is not None]
    return (
        f"stands under {deciding.count(False)} of {len(deciding)} variations" if deciding else "no variation decides"
    )


def conclusion(claim: Mapping[str, Any]) -> str:
    """Write the line that ends a claim's table of variations: where the word stands, what moves the estimate most."""
    counted = share(claim)
    text = f"The word {counted}" if counted.startswith("stands") else counted.capitalize()
    silent = sum(variation["flips"] is None for variation in claim["robustness"])
    if counted.startswith("stands") and silent:
        text += f" ({silent} more decided nothing)"
    movers = _movers(claim)
    return (
        f"{text}; {' and '.join(movers)} {'moves' if len(movers) == 1 else 'move'} it most." if movers else f"{text}."
    )


def seeds_left_out(flip: Mapping[str, Any]) -> str:
    """Say whether the word of a test hangs on one seed, without a full stop."""
    seeds = flip["without"]
    if not seeds:
        return "No single seed turns the word"
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"one of the seeds {', '.join(map(str, seeds))}"
    return f"Leaving out {which} turns the word"


def _varied(claim: Mapping[str, Any], variation: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(test for test in claim["tests"] if test["estimand"] == variation["of"])


def _movers(claim: Mapping[str, Any]) -> list[str]:
    """Name the variation that moves the estimate most, among those with enough seeds."""
    # One for each unit, since nats and steps do not compare.
    most: dict[str, tuple[float, str]] = {}
    for variation in claim["robustness"]:
        test = _varied(claim, variation)
        if variation["n"] >= MIN_SEEDS_OF_A_VARIATION and None not in (variation["estimate"], test["estimate"]):
            move = (abs(variation["estimate"] - test["estimate"]), variation["name"])
            most[test["unit"]] = max(most.get(test["unit"], move), move)
    return [name for _, name in most.values()]

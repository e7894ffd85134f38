"""How the numbers of a test are written, in the book and in the README: rounding follows from the interval."""

import math
from collections.abc import Mapping
from typing import Any


def has_numbers(test: Mapping[str, Any]) -> bool:
    """Tell whether a test can be written: it has been run, and has an interval."""
    return test["max_error"] is not None if test["rule"] == "identity" else None not in (test["low"], test["high"])


def measured_line(test: Mapping[str, Any]) -> str:
    """Write a whole test, or say why it has no numbers."""
    if has_numbers(test):
        return line_of(test, rounded(test))
    return f"no interval, n = {test['n']}" if test.get("n") else "not run"


def margin_note(record: Mapping[str, Any]) -> str:
    """Say that the number which contradicts a claim is smaller than the margin; nothing where it is not."""
    test = record["tests"][0]
    if not (record["verdict"] or "").startswith("contradicted") or test["rule"] not in ("greater", "less"):
        return ""
    if test["margin"] is None or abs(test["estimate"] - test["bound"]) >= test["margin"]:
        return ""
    margin = f"{test['margin']:g} {test['unit']}"
    return f"Against the claim, but by less than the margin of {margin} that was fixed beforehand."


def line_of(test: Mapping[str, Any], numbers: Mapping[str, str]) -> str:
    """Write a test from its rounded numbers: estimate, interval, unit, seeds; of an identity errors and tolerance."""
    if test["rule"] == "identity":
        return "largest error {max_error}, tolerance {tolerance}, control {control_error}".format(**numbers)
    interval = "{estimate} [{low}, {high}]".format(**numbers)
    return ", ".join([" ".join(filter(None, [interval, test["unit"]])), f"n = {numbers['n']}"])


def rounded(test: Mapping[str, Any]) -> dict[str, str]:
    """Round the numbers of a test as every page, citation and table prints them; leave out what was not measured."""
    if test["rule"] == "identity":
        if test["max_error"] is None:
            return {}
        errors = {key: _error(test[key]) for key in ("max_error", "control_error")}
        return errors | {"tolerance": f"{test['tolerance']:g}"}
    seeds = {"n": str(test["n"])} if test["n"] else {}
    if test["low"] is None or test["high"] is None:
        return seeds
    spec = spec_for(test)
    return {key: f"{test[key]:{spec}}" for key in ("estimate", "low", "high")} | seeds


def spec_for(test: Mapping[str, Any]) -> str:
    """Choose a format that shows two digits of the interval's half width."""
    half_width = (test["high"] - test["low"]) / 2
    return ".4g" if half_width < 1e-6 else f".{max(0, 1 - math.floor(math.log10(half_width)))}f"


def _error(value: float) -> str:
    """Write an error with two digits, and without an exponent where it is a plain number of units."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.2g}"

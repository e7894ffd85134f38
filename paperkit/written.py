"""How the numbers of a test are written, in the book and in the README: rounding follows from the interval."""

import math
from collections.abc import Mapping
from typing import Any

# Units of claims.yaml, whose text may not change, in a reader's words. First those of pure numbers: a table says in
# front of the number what it is, a sentence says so itself.
_PURE = {
    "ratio": "ratio",
    "share": "share",
    "share of the output": "share of the output",
    "share of the loss": "share of the loss",
    "share of the predicted excess": "share of the predicted excess",
    "share of cells": "share of the cells",
    "share of windows": "share of the windows",
    "share of pieces": "share of the pieces",
    "share of trainings": "share of the trainings",
    "share of the wall": "share of the bound 1/λ",
    "share of W2": "share of W₂",
    "share of log": "share of log(B/W₂)",
    "log": "difference of natural logarithms",
    "log ratio": "natural logarithm of a ratio",
    "log10 ratio": "decimal logarithm of a ratio",
    "log I": "natural logarithm of I",
    "log ratio a log batch": "slope of the log ratio on the log batch size",
    "log ratio a log d": "slope of the log ratio on log d",
    "log W2 a log J": "slope of log W₂ on log J",
    "log B a log J": "slope of log B on log J",
    "slope": "slope",
    "intercept": "intercept",
    "correlation": "correlation",
    "rank correlation": "rank correlation",
    "Kendall's tau": "Kendall's τ",
    "cosine": "cosine",
    "probability": "probability",
    "TV": "total variation",
    "F1": "F1 score",
    "MAUVE": "MAUVE score",
    "alpha": "α",
    "one-sided constant": "one-sided Lipschitz constant",
    "W2": "W₂",
}
_UNITS = {
    "learning rates": "times the learning rate",
    "nats a character": "nats per character",
    "nats a log width": "nats per unit of log width",
    "nats for each doubling": "nats per doubling",
    "tokens for each character": "tokens per character",
}


def unit_of(test: Mapping[str, Any]) -> str:
    """Write the unit that stands behind the numbers of a test; empty for a pure number."""
    return "" if test["unit"] in _PURE else _UNITS.get(test["unit"], test["unit"] or "")


def named(test: Mapping[str, Any], name: str = "") -> str:
    """Write what stands before the numbers of a test in a table: their name, else what a pure number is."""
    said = ", ".join(filter(None, [name, _PURE.get(test["unit"]) if has_numbers(test) else None]))
    return f"{said[:1].upper()}{said[1:]}: " if said else ""


def lead_of(words: Mapping[str, str], test: Mapping[str, Any]) -> str:
    """Write what stands before a claim's first number: its name in about.yaml, else what a pure number is."""
    name = words.get("number", "")
    return f"{name[:1].upper()}{name[1:]}: " if name else named(test)


def has_numbers(test: Mapping[str, Any]) -> bool:
    """Tell whether a test can be written: it has been run, and has an interval."""
    return test["max_error"] is not None if test["rule"] == "identity" else None not in (test["low"], test["high"])


def measured_line(test: Mapping[str, Any]) -> str:
    """Write a whole test with the unit of claims.yaml, as records keep it, or say why it has no numbers."""
    if has_numbers(test):
        return line_of(test, rounded(test), test["unit"])
    return f"no interval, n = {test['n']}" if test.get("n") else "not run"


def shown_line(test: Mapping[str, Any]) -> str:
    """Write a whole test as pages and README show it, with the unit in words; see `named` for pure numbers."""
    return line_of(test, rounded(test), unit_of(test)) if has_numbers(test) else measured_line(test)


def margin_note(record: Mapping[str, Any]) -> str:
    """Say that the number which contradicts a claim is smaller than the margin; nothing where it is not."""
    test = record["tests"][0]
    if not (record["verdict"] or "").startswith("contradicted") or test["rule"] not in ("greater", "less"):
        return ""
    if test["margin"] is None or abs(test["estimate"] - test["bound"]) >= test["margin"]:
        return ""
    margin = " ".join(filter(None, [f"{test['margin']:g}", unit_of(test)]))
    return f"Against the claim, but by less than the margin of {margin} that was fixed beforehand."


def line_of(test: Mapping[str, Any], numbers: Mapping[str, str], unit: str | None) -> str:
    """Write a test from its rounded numbers: estimate, interval, unit, seeds; of an identity errors and tolerance."""
    if test["rule"] == "identity":
        return "largest error {max_error}, tolerance {tolerance}, control {control_error}".format(**numbers)
    interval = "{estimate} [{low}, {high}]".format(**numbers)
    return ", ".join([" ".join(filter(None, [interval, unit])), f"n = {numbers['n']}"])


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

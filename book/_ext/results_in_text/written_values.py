"""How a value of the results is written: its rounding follows from its interval, its unit from its test."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paperkit.results import read_json
from results_in_text.results_files import ResultAddressError, formatted, split_address, value_at
from results_in_text.verdict_strength import as_test

_TEST = re.compile(
    r"(?P<claim>\w+)\.(?P<place>(?:(?:correction\.)?tests|robustness)\[\d+\])(?:\.(?P<key>flip\.value|\w+))?"
)
_WITH_UNIT = ("estimate", "low", "high", "low90", "high90", "bound", "margin", "flip.value")
_OTHER_FORMATS = {"low90": ".3g", "high90": ".3g", "p": ".2g", "p_holm": ".2g"}


class WrittenValue(NamedTuple):
    """One value as a page shows it."""

    address: str  # `name/file:path`
    text: str
    file: str  # the JSON file without suffix, below the results root
    claim: str  # id of the claim it belongs to; empty for a value that belongs to none
    place: str  # of its test: tests[0], correction.tests[0], or robustness[0] for a variation; empty outside a test
    test: Mapping[str, Any]  # the test's record; empty outside a test


def written_value(root: Path, address: str, spec: str | None) -> WrittenValue:
    """Look a value up and write it; a path may end at a test, which is written with its interval and n."""
    # Without a format: the rounding that the file implies, with the unit.
    file, path = split_address(address)
    content = read_json(root / f"{file}.json")
    value = value_at(content, path)
    match = _TEST.fullmatch(path)
    if match is None:
        return WrittenValue(address, formatted(value, spec), file, "", "", {})
    test = value_at(content, f"{match['claim']}.{match['place']}")
    if match["place"].startswith("robustness"):
        test = as_test(value_at(content, match["claim"]), test)
    text = written_test(test, spec) if match["key"] is None else _written_key(test, match["key"], value, spec)
    return WrittenValue(address, text, file, match["claim"], match["place"], test)


def written_test(test: Mapping[str, Any], spec: str | None = None) -> str:
    """Write a whole test: estimate, 95 % interval, unit and number of seeds; errors and tolerance of an identity."""
    if not has_numbers(test):
        message = f"{test['estimand']}: {measured_line(test)}; there is no number to print"
        raise ResultAddressError(message)
    numbers = rounded(test)
    if test["rule"] == "identity":
        return "largest error {max_error}, tolerance {tolerance}, control {control_error}".format(**numbers)
    if spec is not None:
        numbers |= {key: formatted(test[key], spec) for key in ("estimate", "low", "high")}
    interval = "{estimate} [{low}, {high}]".format(**numbers)
    return ", ".join([" ".join(filter(None, [interval, test["unit"]])), f"n = {numbers['n']}"])


def has_numbers(test: Mapping[str, Any]) -> bool:
    """Tell whether a test can be written: it has been run, and has an interval."""
    return test["max_error"] is not None if test["rule"] == "identity" else None not in (test["low"], test["high"])


def measured_line(test: Mapping[str, Any]) -> str:
    """Write a whole test, or say why it has no numbers."""
    if has_numbers(test):
        return written_test(test)
    return f"no interval, n = {test['n']}" if test.get("n") else "not run"


def measured_lines(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what we measured, one line a test; several are told apart by the names of their estimands."""
    lines = [measured_line(test) for test in tests]
    if len(tests) == 1:
        return lines
    return [f"{test['estimand'].replace('_', ' ')}: {line}" for test, line in zip(tests, lines, strict=True)]


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
    spec = _spec_for(test)
    return {key: f"{test[key]:{spec}}" for key in ("estimate", "low", "high")} | seeds


def _written_key(test: Mapping[str, Any], key: str, value: Any, spec: str | None) -> str:
    if spec is not None or not isinstance(value, float):
        return formatted(value, spec)
    default = _spec_for(test) if key == "flip.value" else _OTHER_FORMATS.get(key, "g")
    number = rounded(test).get(key) or formatted(value, default)
    return " ".join(filter(None, [number, test["unit"] if key in _WITH_UNIT else None]))


def _error(value: float) -> str:
    """Write an error with two digits, and without an exponent where it is a plain number of units."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.2g}"


def _spec_for(test: Mapping[str, Any]) -> str:
    """Choose a format that shows two digits of the interval's half width."""
    half_width = (test["high"] - test["low"]) / 2
    return ".4g" if half_width < 1e-6 else f".{max(0, 1 - math.floor(math.log10(half_width)))}f"

"""How a value of the results is written: its rounding follows from its interval, its unit from its test."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paperkit.results import read_json
from paperkit.written import has_numbers, line_of, measured_line, rounded, spec_for
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
    plain = spec is None or test["rule"] == "identity"
    formats = {} if plain else {key: formatted(test[key], spec) for key in ("estimate", "low", "high")}
    return line_of(test, rounded(test) | formats)


def measured_lines(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what we measured, one line a test; several are told apart by the names of their estimands."""
    lines = [measured_line(test) for test in tests]
    if len(tests) == 1:
        return lines
    return [f"{test['estimand'].replace('_', ' ')}: {line}" for test, line in zip(tests, lines, strict=True)]


def _written_key(test: Mapping[str, Any], key: str, value: Any, spec: str | None) -> str:
    if spec is not None or not isinstance(value, float):
        return formatted(value, spec)
    default = spec_for(test) if key == "flip.value" else _OTHER_FORMATS.get(key, "g")
    number = rounded(test).get(key) or formatted(value, default)
    return " ".join(filter(None, [number, test["unit"] if key in _WITH_UNIT else None]))

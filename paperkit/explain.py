"""One verdict, step by step, in the terminal: `python -m paperkit explain lion/C6` (`make explain CLAIM=lion/C6`).

It says nothing that the files do not hold: claims.yaml, git, runs.csv, verdicts.json and provenance.json.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill, indent
from typing import Any

from scipy import stats

from paperkit.answers import Record, read_records, word_of
from paperkit.claims.declarations import Claim, read_claims
from paperkit.claims.rules import FIRM, FRAGILE, MIN_SEEDS_OF_A_VARIATION
from paperkit.config import ConfigError
from paperkit.history import no_history, read_history
from paperkit.prediction import next_run, numbers_by_seed
from paperkit.profiles import replication_and_profile
from paperkit.results import read_json
from paperkit.written import measured_line

# What of a test can lie where its verdict would change.
_PLACES = {"estimate": "the estimate"} | {
    f"{end}{level}": f"the {side} end of the {level or 95} % interval"
    for level in ("", "90")
    for end, side in (("low", "lower"), ("high", "upper"))
}


def explain(root: Path, address: str) -> str:
    """Walk one verdict from its statement to the code that measured it.

    Args:
        root: The repository, whose packages are those that Python imports.
        address: Folder of results and claim, such as "lion/C6" or "emo_pretrained/C5".

    Returns:
        Numbered paragraphs.

    Raises:
        ConfigError: If there is no such claim, or no verdict of it in that folder.
    """
    folder, record = find_verdict(root, address)
    name, _ = replication_and_profile(folder.name)
    claims = read_claims(root / f"replications/{name}/claims.yaml")
    claim = next(claim for claim in claims if claim.id == record["id"])
    steps = {
        "Statement": _statement(record),
        "Rule": _rule(root, name, claim, record),
        "Seeds": _seeds(claims, claim, name, folder),
        "Estimate": [f"{test['estimand']}: {_measured(test)}" for _, test in tests_of(record)],
        "Word": [f"{record['verdict'] or 'none'}. {record['reason']}"],
        "What would flip it": _flips(record),
        "Measured by": _measured_by(root, claim, name, folder),
    }
    paragraphs = [f"{address}: {record['verdict'] or 'no word'}"]
    for number, (step, lines) in enumerate(steps.items(), start=1):
        body = "\n".join(fill(line, 110, subsequent_indent="  ") for line in lines)
        paragraphs.append(f"{number}. {step}\n{indent(body, '   ')}")
    return "\n\n".join(paragraphs)


def rule_text(test: Mapping[str, Any]) -> str:
    """Say what a test of verdicts.json asks of its number.

    Args:
        test: Its record.

    Returns:
        For example "lm_gap is greater than 0 by at least 0.1 nats".
    """
    subject, unit, rule = test["estimand"], f" {test['unit']}" if test["unit"] else "", test["rule"]
    if rule == "identity":
        return (
            f"{subject}: the error is at most {test['tolerance']:g}{unit}, and that of its negative control is above"
        )
    if rule == "report":
        return f"{subject} is reported, and decides nothing"
    if rule == "within":
        return "{} lies in [{:g}, {:g}]{}".format(subject, *test["range"], unit)
    if rule == "equivalent":
        return f"{subject} is within {test['margin']:g} of {test['bound']:g}{unit}"
    margin = f" by at least {test['margin']:g}" if test["margin"] is not None else ", by however little,"
    return f"{subject} is {rule} than {test['bound']:g}{margin}{unit}"


def find_verdict(root: Path, address: str) -> tuple[Path, dict[str, Any]]:
    """Find a folder of results, and in it the verdict of a claim."""
    name, _, claim_id = address.partition("/")
    folder = root / "results" / name
    if not (folder / "verdicts.json").is_file():
        there = ", ".join(sorted(path.parent.name for path in root.glob("results/*/verdicts.json")))
        message = f"{address}: results/{name} holds no verdicts; say one of {there}, a slash, and a claim: lion/C6"
        raise ConfigError(message)
    records = read_records(folder)
    if claim_id not in records:
        message = f"{address}: results/{name} has no verdict of {claim_id!r}; it has {', '.join(records)}"
        raise ConfigError(message)
    return folder, records[claim_id]


def tests_of(record: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """List the tests of a claim, then those of its correction, each with its place."""
    lists = {"tests": record["tests"], "correction.tests": record.get("correction", {"tests": []})["tests"]}
    return [(f"{key}[{place}]", test) for key, tests in lists.items() for place, test in enumerate(tests)]


def outcome(record: Record, variation: Mapping[str, Any]) -> str:
    """Say what a variation does to the word of its claim.

    Args:
        record: The claim's record.
        variation: One of its `robustness`.

    Returns:
        "flips"; "stands", with ", open" where alone it would not have decided; else why it decides nothing.
    """
    if variation["flips"] is not None:
        return "flips" if variation["flips"] else f"stands{', open' * is_open(record, variation)}"
    if variation["n"] == 0:
        return "not run"
    if variation["n"] < MIN_SEEDS_OF_A_VARIATION:
        return "too few seeds"
    word = word_of(record)
    return "undecided" if word.removesuffix(FRAGILE) in FIRM else f"nothing to flip: the claim is {word}"


def turning_point(test: Mapping[str, Any]) -> tuple[str, str]:
    """Say at which margin, bound or end of a range the verdict of a test would change, and what lies there.

    Args:
        test: Its record.

    Returns:
        The words before that number and those after it; two empty texts where no number would change the verdict.
    """
    value, threshold = test["flip"]["value"], test["flip"]["threshold"]
    if threshold is None:
        return "", ""
    centre = test["bound"] if threshold == "margin" else 0
    place = next(key for key in _PLACES if math.isclose(abs(test[key] - centre), abs(value)))
    if "range" in test:
        declared = " to ".join(f"{end:g}" for end in test["range"])
        return "it would change if the range ended at", f" ({_PLACES[place]}; declared: {declared})"
    where = _PLACES[place] if threshold == "bound" else f"the distance of {_PLACES[place]} from {centre:g}"
    return f"it would change at a {threshold} of", f" ({where}; declared: {test[threshold]:g})"


def is_open(record: Mapping[str, Any], variation: Mapping[str, Any]) -> bool:
    """Tell whether the interval of a variation lies on both sides of a number that decided the test it varies."""
    test = next(test for test in record["tests"] if test["estimand"] == variation["of"])
    bound, margin, level = test["bound"], test["margin"], 0.975
    ends = test["range"] if test["rule"] == "within" else [bound]
    if test["rule"] == "equivalent" or (test["rule"] != "within" and test["low"] <= bound <= test["high"]):
        ends = [bound - margin, bound + margin]
        # Two one-sided tests show equality, which is the 90 % interval inside.
        level = 0.95 if ends[0] < test["low90"] and test["high90"] < ends[1] else level
    estimate, shrunk = variation["estimate"], stats.t.ppf([level, 0.975], variation["n"] - 1)
    low, high = (estimate + (variation[end] - estimate) * shrunk[0] / shrunk[1] for end in ("low", "high"))
    return any(low <= end <= high for end in ends)


def _statement(record: Mapping[str, Any]) -> list[str]:
    source, reported = record["source"], record["reported"]
    lines = [record["statement"], f"Source: {source['bib'] or 'our own claim'}, {source['where']}"]
    if reported["value"] is not None:
        lines.append(f"It reports {reported['value']} {reported['unit'] or ''}".rstrip())
    if "correction" in record:
        lines.append(f"Corrected: {record['correction']['statement']}")
    return lines


def _rule(root: Path, name: str, claim: Claim, record: Mapping[str, Any]) -> list[str]:
    lines = [rule_text(test) for _, test in tests_of(record)]
    lines.append(f"At least {claim.min_seeds} seeds, at profile {claim.profile} or above.")
    if claim.is_primary:
        lines.append("A primary claim: p is corrected over all primary claims that the replication declares (Holm).")
    if reason := no_history(root):
        return [*lines, f"When it was fixed is not known: {reason}."]
    dates = read_history(root, name).dates[claim.id]
    lines.append(f"Fixed in commit {dates.rule}; first result in commit {dates.result or 'none yet'}.")
    return lines + [f"Amended: {why}" for why in dates.amended]


def _seeds(claims: tuple[Claim, ...], claim: Claim, name: str, folder: Path) -> list[str]:
    lines = []
    found = numbers_by_seed(claims, name, folder)
    for place, test in claim.numbers.items():
        if (values := found.get(f"{claim.id}.{place}")) is not None:
            seeds = ", ".join(f"{seed}: {value:.4g}" for seed, value in values.items())
            expected = next_run(values)
            lines.append(f"{test.estimand}: {seeds or 'not run'}")
            lines += ["The next run should land in [{:.4g}, {:.4g}].".format(*expected)] if expected else []
    return lines or ["None: an identity is computed, and has no seeds."]


def _measured(test: Mapping[str, Any]) -> str:
    p = f", p = {test['p']:.2g}" if test.get("p") is not None else ""
    holm = f", after Holm's correction {test['p_holm']:.2g}" if test.get("p_holm") is not None else ""
    return f"{measured_line(test)}{p}{holm}"


def _flips(record: Record) -> list[str]:
    lines = []
    for _, test in tests_of(record):
        if test["rule"] == "identity":
            lines.append(f"{test['estimand']}: an error above {test['tolerance']:g}.")
        if flip := test.get("flip"):
            without = (
                f"without seed {' or '.join(map(str, flip['without']))}" if flip["without"] else "by no single seed"
            )
            before, after = turning_point(test)
            at = f"; {before} {flip['value']:.4g}{after}" if before else ""
            lines.append(f"{test['estimand']}: the verdict changes {without}{at}.")
    lines += [f"{each['name']}: {outcome(record, each)}. {each['why']}" for each in record.get("robustness", ())]
    return lines or ["It has no word that could."]


def _measured_by(root: Path, claim: Claim, name: str, folder: Path) -> list[str]:
    code = f"replications/{name}/estimands.py"
    lines = []
    for number in claim.numbers.values():
        if number.said:
            said = ", ".join(f"{key} {value}" for key, value in number.said[1].items() if value)
            lines.append(f"{number.estimand}: said in claims.yaml ({said})")
        else:
            text = (root / code).read_text(encoding="utf-8")
            start = re.search(rf"^(def )?{number.estimand}\b", text, flags=re.MULTILINE)
            place = f", line {text[: start.start()].count(chr(10)) + 1}" if start else ""
            lines.append(f"{number.estimand}: {code}{place}")
    made = read_json(folder / f"{'timing_' if claim.kind == 'timing' else ''}provenance.json")
    device = (made["device"] or {"name": made["machine_class"]})["name"]
    lines.append(f"{made['command']}, commit {str(made['commit'])[:10]}, {made['started']}, on {device}")
    return [*lines, f"`git show {str(made['commit'])[:10]}:replications/{name}/experiment.py` is the code that ran."]

"""What lies in results/: addresses of values, verdicts, records of stages, and how their numbers are written.

An address is `name/file:path`: a JSON file below the results root without its suffix, a colon, and keys with dots and
`[i]` for a place in a list. A first key that is the id of a claim is looked up in the file's list `claims`.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from paperkit import results
from paperkit.answers import Record, word_of
from paperkit.claims.rules import MIN_SEEDS_OF_A_VARIATION
from paperkit.explain import is_open, tests_of
from paperkit.profiles import PROFILES, replication_and_profile, results_name
from paperkit.provenance import content_hash
from paperkit.results import ResultsError
from paperkit.written import has_numbers, line_of, measured_line, named, rounded, spec_for, unit_of

Facts = list[tuple[str, str]]

# What fell stands first: in this order the board is sorted by verdict.
VERDICT_ORDER = [
    "contradicted", "contradicted, fragile", "corrected", "inconclusive", "no difference, fragile", "no difference",
    "not tested at this scale", "holds, smaller, fragile", "holds, smaller", "holds, fragile", "holds", None,
]  # fmt: skip
VERDICT_CLASSES = {word: re.sub(r"\W+", "-", word) for word in reversed(VERDICT_ORDER) if word}
VERDICT_CLASSES |= {"not tested at this scale": "not-tested", None: "none"}
SHORT_COMMIT = 10
_ADDRESS = re.compile(r"(?P<file>[\w.-]+(?:/[\w.-]+)*):(?P<path>\S+)")
_PATH = re.compile(r"[\w-]+(?:\[\d+\])*(?:\.[\w-]+(?:\[\d+\])*)*")
_TEST = re.compile(
    r"(?P<claim>\w+)\.(?P<place>(?:(?:correction\.)?tests|robustness)\[\d+\])(?:\.(?P<key>flip\.value|\w+))?"
)
_NUMBERS_OF_REASON = re.compile(
    r"(?P<begins>^|(?<=\. ))?(?P<name>\w+) = \S+(?: [^,:]+)?, 95 % interval \[[^]]+\], n = \d+: "
    r"(?P<it>it (?=lies|contains|reaches))?(?P<next>.)"
)
_WITH_UNIT = ("estimate", "low", "high", "low90", "high90", "bound", "margin", "flip.value")
_OTHER_FORMATS = {"low90": ".3g", "high90": ".3g", "p": ".2g", "p_holm": ".2g"}


def stop(message: str, cause: Exception | None = None) -> NoReturn:
    """Say what is wrong with what a page prints, and what to do."""
    raise ResultsError(message) from cause


# --- files and addresses ---------------------------------------------------------------------------------------


def once_a_file(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call a function of a path once for as long as the file stays; nobody changes what it returns."""
    kept = cache(lambda _, *given: function(*given))

    def current(path: Path, *others: Any) -> Any:
        state = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None
        return kept(state, path, *others)  # of a file that is missing nothing is kept: the function raises

    return current


read_json = once_a_file(results.read_json)


def split_address(address: str) -> tuple[str, str]:
    """Split `name/file:path` into its file and its path."""
    match = _ADDRESS.fullmatch(address.strip())
    if match is None:
        stop(f"{address!r} is not an address; write name/file:path, such as lion/verdicts:C6.verdict")
    return match["file"], match["path"]


def value_at(content: Any, path: str) -> Any:
    """Return what a path names in a decoded file; never None."""
    if _PATH.fullmatch(path) is None:
        stop(f"{path!r} is not a path; write keys with dots and [i], such as C6.tests[0].estimate")
    value = content
    if isinstance(content, dict) and isinstance(content.get("claims"), list):
        value = content | {claim["id"]: claim for claim in content["claims"]}
    for key, place in re.findall(r"([\w-]+)|\[(\d+)\]", path):
        try:
            value = value[key or int(place)]
        except (KeyError, IndexError, TypeError) as error:
            shown = str(list(value) if isinstance(value, dict) else value)[:200]
            stop(f"{path!r} names nothing: no {key or int(place)!r} in {shown}", error)
    if value is None:
        stop(f"{path!r} is null: there is no number to print; remove it from the page or run its stage")
    return value


def formatted(value: Any, spec: str | None) -> str:
    """Write a number or text as the page shows it; a float needs a format, or the page would show 17 digits."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        stop(f"{value!r} is not one number or text; let the path go on to one")
    if spec is None and isinstance(value, float):
        stop(f"the float {value!r} has no format; add one after a bar, such as `| .3f`")
    try:
        return format(value, spec or "")
    except ValueError as error:
        stop(f"format {spec!r} does not fit {value!r} ({error}); use a Python format such as .3f or .1e", error)


# --- verdicts --------------------------------------------------------------------------------------------------


class Verdicts(NamedTuple):
    """The verdicts of one folder of results."""

    profile: str  # of the runs
    claims: dict[str, Record]  # by id: of verdicts.json, then of timing_verdicts.json where that exists


def page_of(folder: str) -> str:
    """Return the page, below replications/, that prints the results of a folder."""
    return replication_and_profile(folder)[0]


def judged_folders(root: Path) -> list[str]:
    """List the folders of results that have verdicts."""
    return sorted(path.parent.name for path in root.glob("*/verdicts.json"))


def read_verdicts(root: Path, folder: str) -> Verdicts:
    """Read all claims of a folder of results."""
    files = [root / folder / "verdicts.json", *(root / folder).glob("timing_verdicts.json")]
    contents = [read_json(file) for file in files]
    claims = {claim["id"]: claim for content in contents for claim in content["claims"]}
    return Verdicts(contents[0]["profile"], claims)


def folders_of(root: Path, name: str) -> list[str]:
    """List the folders of a replication's results: the committed profile's, and the others with verdicts."""
    folders = dict.fromkeys(results_name(name, profile) for profile in PROFILES)
    return [folder for folder in folders if folder == name or (root / folder / "verdicts.json").is_file()]


def claim_with_id(claims: Mapping[str, Record], claim_id: str) -> Record:
    """Find one claim."""
    if claim_id not in claims:
        stop(f"no claim {claim_id!r}; there are {', '.join(claims)}")
    return claims[claim_id]


def identities(claims: Mapping[str, Record]) -> dict[str, tuple[Record, str, dict[str, Any]]]:
    """Find executed checks by name: the claim that has it among its tests or its correction's, its place, the test."""
    return {
        test["estimand"]: (claim, place, test)
        for claim in reversed(list(claims.values()))  # the first that names it counts
        for place, test in reversed(tests_of(claim))
        if test["rule"] == "identity"
    }


def claim_address(folder: str, claim: Record) -> str:
    """Return the address of a claim's record: clock readings have a file of their own."""
    return f"{folder}/{'timing_verdicts' if claim['kind'] == 'timing' else 'verdicts'}:{claim['id']}"


def target_of(folder: str, name: str, kind: str = "claim") -> str:
    """Return the anchor of a claim's row, such as claim-lion-c6; of another kind that of its entry elsewhere."""
    return anchor(kind, folder, name)


def anchor(*parts: str) -> str:
    """Make an id for HTML: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(filter(None, parts)).lower()).strip("-")


def claim_order(claim_id: str) -> str:
    """Return a key that sorts claims by their numbers, those of the source first."""
    return re.sub(r"\d+", lambda number: number[0].zfill(4), claim_id)


def is_primary(claim: Record) -> bool:
    """Tell whether a claim decides the headline of its replication; one that is superseded does not."""
    return claim["family"] == "primary"


def verdict_words(claim: Record) -> str:
    """Say the verdict of a claim, and what would be misread without a word of its own."""
    notes = {
        # Else its "inconclusive" would read as a result.
        "not yet run": {measured_line(test) for test in claim["tests"]} == {"not run"},
        "exploratory": claim["exploratory"],
        "superseded": "superseded_by" in claim,
    }
    return ", ".join([word_of(claim), *[note for note, applies in notes.items() if applies]])


# --- records of stages -----------------------------------------------------------------------------------------


def provenance_file(root: Path, file: str) -> Path:
    """Name the record of the stage that made a results file, given without suffix: lion/timing_verdicts, say."""
    folder, _, stem = file.rpartition("/")
    return root / folder / ("timing_provenance.json" if stem.startswith("timing") else "provenance.json")


def commit_text(record: Mapping[str, Any]) -> str:
    """Name the commit of the code that ran, and say if it was not all committed."""
    if record["commit"] is None:
        return "unknown: run outside a git repository"
    return record["commit"][:SHORT_COMMIT] + (", with changes not yet committed" if record["dirty"] else "")


def code_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Take the hashes of the code that ran; data are not in git, and are dvc's to compare."""
    return {path: digest for path, digest in sorted(record["deps"].items()) if not path.startswith("data/")}


_hash_of = once_a_file(content_hash)


def current_hash(repository: Path, path: str, profile: str) -> str | None:
    """Hash a dependency as it is now, as the provenance does; None if it is not there (data are not in git)."""
    return _hash_of(repository / path, profile) if (repository / path).is_file() else None


@once_a_file
def stage_facts(path: Path) -> Facts:
    """Say where a result comes from, shortly; the facts are the same objects for all numbers of a stage."""
    record = read_json(path)
    code = code_of(record)
    together = hashlib.md5("".join(f"{path} {digest}\n" for path, digest in code.items()).encode()).hexdigest()
    inputs = [f"{path} md5 {digest[:8]}" for path, digest in sorted(record["deps"].items()) if path not in code]
    inputs.append(f"{len(code)} files of code and parameters, hash of their list {together[:8]}")
    return [
        *((key, record[key]) for key in ("profile", "stage", "command")),
        ("inputs", "; ".join(inputs)),
        ("commit", commit_text(record)),
        ("date", record["started"][:10]),
        ("machine", record["machine_class"]),
    ]


# --- how a value is written ------------------------------------------------------------------------------------


class WrittenValue(NamedTuple):
    """One value as a page shows it."""

    text: str
    file: str  # the JSON file without suffix, below the results root
    claim: str = ""  # id of the claim it belongs to; empty for a value that belongs to none
    place: str = ""  # of its test: tests[0], correction.tests[0], or robustness[0] for a variation
    test: Mapping[str, Any] = {}  # the test's record; empty outside a test


def written_value(root: Path, address: str, spec: str | None) -> WrittenValue:
    """Look a value up and write it; a path may end at a test, which is written with its interval and n."""
    # Without a format: the rounding that the file implies, with the unit.
    file, path = split_address(address)
    content = read_json(root / f"{file}.json")
    value = value_at(content, path)
    match = _TEST.fullmatch(path)
    if match is None:
        return WrittenValue(formatted(value, spec), file)
    test, key = value_at(content, f"{match['claim']}.{match['place']}"), match["key"]
    if match["place"].startswith("robustness"):
        test = as_test(value_at(content, match["claim"]), test)
    if key is None:
        text = written_test(test, spec)
    elif spec is not None or not isinstance(value, float):
        text = formatted(value, spec)
    else:
        default = spec_for(test) if key == "flip.value" else _OTHER_FORMATS.get(key, "g")
        number = rounded(test).get(key) or formatted(value, default)
        text = " ".join(filter(None, [number, unit_of(test) if key in _WITH_UNIT else None]))
    return WrittenValue(text, file, match["claim"], match["place"], test)


def written_test(test: Mapping[str, Any], spec: str | None = None) -> str:
    """Write a whole test: estimate, 95 % interval, unit and number of seeds; errors and tolerance of an identity."""
    if not has_numbers(test):
        stop(f"{test['estimand']}: {measured_line(test)}; there is no number to print")
    plain = spec is None or test["rule"] == "identity"
    formats = {} if plain else {key: formatted(test[key], spec) for key in ("estimate", "low", "high")}
    return line_of(test, rounded(test) | formats, unit_of(test))


def reason_beside(text: str, subject: str) -> str:
    """Leave out of a reason the numbers beside which it is shown, and name its subject: estimate or interval."""
    several = len(_NUMBERS_OF_REASON.findall(text)) > 1

    def shortened(match: re.Match[str]) -> str:
        name = f"{match['name'].replace('_', ' ')}: " if several else ""
        said = f"{name}{f'the {subject} ' if match['it'] else ''}{match['next']}"
        return said[0].upper() + said[1:] if match["begins"] is not None else said

    return _NUMBERS_OF_REASON.sub(shortened, text)


def measured_lines(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what we measured, one line a test."""
    return [f"{prefix}{measured_line(test)}" for prefix, test in zip(estimand_names(tests), tests, strict=True)]


def estimand_names(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the estimands of several tests, to tell their numbers apart; one needs no name."""
    return [f"{test['estimand'].replace('_', ' ')}: " if len(tests) > 1 else "" for test in tests]


def value_facts(value: WrittenValue) -> Facts:
    """Say what stands behind one value, shortly."""
    test = value.test
    if not test:
        return []
    if test["rule"] == "identity":
        return [
            ("claim", f"{value.claim}, identity {test['estimand']}"),
            ("largest error", f"{test['max_error']!r}, tolerance {test['tolerance']!r}"),
            ("control", f"{test['control_error']!r}, must exceed the tolerance"),
        ]
    estimate = f"{named(test)}{test['estimate']!r} {unit_of(test)}".strip()
    facts = [("claim", f"{value.claim}, estimand {test['estimand']}"), ("estimate", estimate)]
    if test["low"] is not None and test["high"] is not None:
        facts.append(("95 % interval", f"{test['low']:.6g} to {test['high']:.6g} {unit_of(test)}".strip()))
    seeds = ", ".join(map(str, test.get("seeds", [])))
    return [*facts, ("seeds", f"n = {test['n']}" + (f": {seeds}" if seeds else ""))]


# --- what a verdict survives -----------------------------------------------------------------------------------


def as_test(claim: Record, variation: Mapping[str, Any]) -> dict[str, Any]:
    """Give a variation what it shares with the test that it varies, so that it is written like one."""
    varied = next(test for test in claim["tests"] if test["estimand"] == variation["of"])
    return {**variation, "rule": varied["rule"], "unit": varied["unit"]}


def tests_and_variations(claim: Record) -> list[tuple[str, dict[str, Any]]]:
    """List all that was measured of a claim, with its places in the file."""
    varied = enumerate(claim.get("robustness", []))
    return [*tests_of(claim), *((f"robustness[{place}]", as_test(claim, one)) for place, one in varied)]


def share(claim: Record) -> str:
    """Count the variations under which the word of a claim stands; those that decide nothing are not counted."""
    deciding = [variation["flips"] for variation in claim["robustness"] if variation["flips"] is not None]
    return (
        f"stands under {deciding.count(False)} of {len(deciding)} variations" if deciding else "no variation decides"
    )


def conclusion(claim: Record) -> str:
    """Write the line that ends a claim's table of variations: where the verdict stands, what lies farthest from it."""
    counted = share(claim)
    text = f"The verdict {counted}" if counted.startswith("stands") else counted.capitalize()
    if unsure := sum(each["flips"] is False and is_open(claim, each) for each in claim["robustness"]):
        text += f", in {unsure} of them with an interval that alone would not decide"
    silent = sum(variation["flips"] is None for variation in claim["robustness"])
    if counted.startswith("stands") and silent:
        text += f" ({silent} more decided nothing)"
    moves = [
        (abs(variation["estimate"] - test["estimate"]), variation["name"], test["unit"])
        for variation in claim["robustness"]
        for test in claim["tests"]
        if test["estimand"] == variation["of"] and None not in (variation["estimate"], test["estimate"])
        if variation["n"] >= MIN_SEEDS_OF_A_VARIATION
    ]
    # One for each unit, since nats and steps do not compare.
    units = dict.fromkeys(unit for *_, unit in moves)
    if movers := [max(move for move in moves if move[2] == unit)[1] for unit in units]:
        text += f"; farthest from the main estimate: {'; '.join(movers)}"
    return f"{text}."

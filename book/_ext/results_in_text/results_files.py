"""Results on disk, and the paths by which a page names one value in them.

An address is `name/file:path`: a JSON file below the results root without its suffix, a colon, and a path of
keys separated by dots with `[i]` for a place in a list. A first key that is the id of a claim is looked up in
the file's list `claims`.
"""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from paperkit.profiles import PROFILES, results_name
from paperkit.results import ResultsError, read_json

_ADDRESS = re.compile(r"(?P<file>[\w.-]+(?:/[\w.-]+)*):(?P<path>\S+)")
_PATH = re.compile(r"[\w-]+(?:\[\d+\])*(?:\.[\w-]+(?:\[\d+\])*)*")
_STEP = re.compile(r"([\w-]+)|\[(\d+)\]")


class ResultAddressError(ResultsError):
    """A page names a result that is not there or cannot be printed; the message says which and what to do."""


def split_address(address: str) -> tuple[str, str]:
    """Split `name/file:path` into its file and its path."""
    match = _ADDRESS.fullmatch(address.strip())
    if match is None:
        message = f"{address!r} is not an address; write name/file:path, such as lion/verdicts:C6.verdict"
        raise ResultAddressError(message)
    return match["file"], match["path"]


def value_at(content: Any, path: str) -> Any:
    """Return what a path (keys with dots, `[i]` for a place in a list) names in a decoded file; never None."""
    if _PATH.fullmatch(path) is None:
        message = f"{path!r} is not a path; write keys with dots and [i], such as C6.tests[0].estimate"
        raise ResultAddressError(message)
    value = content
    for number, match in enumerate(_STEP.finditer(path)):
        step = match[0] if match[1] else int(match[2])
        claim = _claim_with_id(content, step) if number == 0 else None
        value = claim if claim is not None else _child(value, step, path)
    if value is None:
        message = f"{path!r} is null: there is no number to print; remove it from the page or run its stage"
        raise ResultAddressError(message)
    return value


class Verdicts(NamedTuple):
    """The verdicts of one folder of results."""

    profile: str  # of the runs
    claims: list[dict[str, Any]]  # of verdicts.json, then of timing_verdicts.json where that exists
    files: list[Path]  # both, whether or not the second exists, so that a page can depend on its appearance


def read_verdicts(root: Path, name: str) -> Verdicts:
    """Read all claims of a folder of results."""
    required, optional = (root / name / f"{stem}.json" for stem in ("verdicts", "timing_verdicts"))
    contents = [read_json(required)]
    if optional.exists():
        contents.append(read_json(optional))
    claims = [claim for content in contents for claim in value_at(content, "claims")]
    return Verdicts(value_at(contents[0], "profile"), claims, [required, optional])


def by_id(verdicts: Verdicts) -> dict[str, dict[str, Any]]:
    """Return the claims of a folder of results by their ids."""
    return {claim["id"]: claim for claim in verdicts.claims}


def read_all_verdicts(root: Path, name: str) -> dict[str, Verdicts]:
    """Read the verdicts of a replication at every profile that has some, by folder; the committed profile's first."""
    folders = dict.fromkeys(results_name(name, profile) for profile in PROFILES)
    there = (folder for folder in folders if folder == name or (root / folder / "verdicts.json").is_file())
    return {folder: read_verdicts(root, folder) for folder in there}


def claim_address(folder: str, claim: dict[str, Any]) -> str:
    """Return the address of a claim's record: clock readings have a file of their own."""
    return f"{folder}/{'timing_verdicts' if claim['kind'] == 'timing' else 'verdicts'}:{claim['id']}"


def claim_with_id(verdicts: Verdicts, claim_id: str) -> dict[str, Any]:
    """Find one claim."""
    for claim in verdicts.claims:
        if claim["id"] == claim_id:
            return claim
    known = ", ".join(claim["id"] for claim in verdicts.claims)
    message = f"no claim {claim_id!r} in {verdicts.files[0].parent}; there are {known}"
    raise ResultAddressError(message)


def formatted(value: Any, spec: str | None) -> str:
    """Write a number or text as the page shows it; a float needs a format, or the page would show 17 digits."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        message = f"{value!r} is not one number or text; let the path go on to one"
        raise ResultAddressError(message)
    if isinstance(value, float) and not math.isfinite(value):
        message = f"the file holds {value!r}, which is no result; rerun its stage"
        raise ResultAddressError(message)
    if spec is None and isinstance(value, float):
        message = f"the float {value!r} has no format; add one after a bar, such as `| .3f`"
        raise ResultAddressError(message)
    try:
        return format(value, spec or "")
    except ValueError as error:
        message = f"format {spec!r} does not fit {value!r} ({error}); use a Python format such as .3f or .1e"
        raise ResultAddressError(message) from error


def _claim_with_id(content: Any, key: str | int) -> dict[str, Any] | None:
    claims = content.get("claims") if isinstance(content, dict) else None
    if not isinstance(claims, list):
        return None
    return next((claim for claim in claims if isinstance(claim, dict) and claim.get("id") == key), None)


def _child(value: Any, step: str | int, path: str) -> Any:
    if isinstance(step, str) and isinstance(value, dict) and step in value:
        return value[step]
    if isinstance(step, int) and isinstance(value, list) and step < len(value):
        return value[step]
    there = list(value) if isinstance(value, dict) else value
    message = f"{path!r} names nothing: no {step!r} in {str(there)[:200]}"
    raise ResultAddressError(message)

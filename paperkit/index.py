"""All verdicts in one file, `results/index.json`, by claim and by post, for who compares them with others' results.

`make pipeline` writes it from what is committed; its form is book/schemas/index.schema.json.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from paperkit.config import read_yaml
from paperkit.profiles import replication_and_profile
from paperkit.results import read_json

INDEX = "results/index.json"
_MADE_BY = ("commit", "started", "machine_class", "device")
_FILES = (("verdicts.json", "provenance.json"), ("timing_verdicts.json", "timing_provenance.json"))


def index_json(root: Path) -> str:
    """Put the verdicts of all folders of results into one text.

    Args:
        root: The repository.

    Returns:
        JSON: of each claim its entry of verdicts.json, with replication, profile and what made the runs; of each post
        that a replication takes up its title, and the claims about it.
    """
    claims = dict(sorted(_claims(root)))
    parts = {"claims": claims, "posts": dict(sorted(_posts(root, claims)))}
    lines = [f"{json.dumps(name)}: {{\n{_entries(part)}\n}}" for name, part in parts.items()]
    return "{\n" + ",\n".join([*lines, '"schema": 1']) + "\n}\n"


def _entries(part: dict[str, Any]) -> str:
    """Write an entry a line, so that a difference shows what moved."""
    dumps = partial(json.dumps, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return ",\n".join(f"{dumps(key)}: {dumps(entry)}" for key, entry in part.items())


def _claims(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in root.glob("results/*/"):
        name, profile = replication_and_profile(folder.name)
        for verdicts, provenance in _FILES:
            if (folder / verdicts).is_file():
                record = read_json(folder / provenance) if (folder / provenance).is_file() else {}
                made_by = {key: record.get(key) for key in _MADE_BY}
                for claim in read_json(folder / verdicts)["claims"]:
                    yield f"{folder.name}/{claim['id']}", claim | made_by | {"replication": name, "profile": profile}


def _posts(root: Path, claims: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    taken = {path.parent.name: read_yaml(path)["posts"] for path in root.glob("replications/*/about.yaml")}
    listed = read_yaml(root / "book/posts.yaml")["posts"] if any(taken.values()) else []
    written = {post["archive"]: {key: post.get(key) for key in ("title", "date")} for post in listed}
    for name, numbers in taken.items():
        of_replication = [key for key, claim in claims.items() if claim["replication"] == name]
        yield from ((str(number), written.get(number, {}) | {"claims": of_replication}) for number in numbers)

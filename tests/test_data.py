"""The committed tables: schema, sizes, licences, duplicates, leakage between splits, and the objects of the remote."""

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from build_data.ingest import load_sources
from build_data.near_duplicates import NearDuplicates, near_duplicates
from paperkit import datasets

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
STORE = ROOT / ".dvcstore" / "files" / "md5"
SOURCES = load_sources(ROOT / "data_sources.yaml")
ROWS = {"sotu": 233, "python_docs": 474, "zh_docs": 12_239, "zh_descriptions": 1_439, "poems": 174_928}
LARGEST_REMOTE_BYTES = 25_000_000

every_table = pytest.mark.parametrize("name", datasets.TABLES)


@cache
def table_of(name: str) -> pd.DataFrame:
    return datasets.read_table(name, DATA)


@cache
def texts_of(name: str) -> pd.Series:
    first, *others = SOURCES.tables[name].text
    return table_of(name)[first].str.cat([table_of(name)[column] for column in others], sep="\n")


def crossing(pairs: NearDuplicates, splits: pd.Series) -> int:
    """Count the near duplicates that lie in two splits."""
    parts = splits.to_numpy()
    return int(np.sum(parts[pairs.first] != parts[pairs.second]))


# Content of the tables


def test_every_table_has_a_source_and_every_source_a_table():
    assert list(SOURCES.tables) == list(datasets.TABLES)


@every_table
def test_the_file_has_the_declared_columns_and_no_metadata_of_pandas(name):
    file = pq.ParquetFile(datasets.table_path(name, DATA))
    assert file.schema_arrow.remove_metadata().equals(datasets.TABLES[name])
    assert not file.metadata.metadata
    assert file.metadata.num_row_groups == 1


@every_table
def test_the_table_has_its_rows_and_no_empty_text(name):
    table = table_of(name)
    assert len(table) == ROWS[name]
    assert not table.isna().any().any()
    assert (texts_of(name).str.strip().str.len() > 0).all()


@every_table
def test_no_text_occurs_twice(name):
    assert not texts_of(name).duplicated().any()


@every_table
def test_each_held_out_split_has_about_a_tenth_of_the_characters(name):
    table = table_of(name)
    shares = texts_of(name).str.len().groupby(table.split).sum()
    shares = shares / shares.sum()
    assert set(shares.index) == set(datasets.SPLITS)
    assert shares["validation"] == pytest.approx(SOURCES.split.validation, abs=0.03)
    assert shares["test"] == pytest.approx(SOURCES.split.test, abs=0.03)


@every_table
def test_no_document_lies_in_two_splits(name):
    table = table_of(name)
    assert (table.groupby(SOURCES.tables[name].document).split.nunique() == 1).all()


@every_table
def test_no_near_duplicates_lie_in_two_splits(name):
    table = table_of(name)
    overlap = SOURCES.tables[name].overlap
    pairs = near_duplicates(list(texts_of(name)), overlap.unit).above(overlap.threshold)
    assert len(pairs.share) > 0, "a table without any near duplicate would not test the split"
    assert crossing(pairs, table.split) == 0


def test_a_copied_passage_is_seen_as_a_leak():
    table = table_of("zh_descriptions")
    train, test = table[table.split == "train"].long.iloc[0], table[table.split == "test"].long.iloc[0]
    leaked = table.assign(long=table.long.where(table.long != test, test + train[:60]))
    assert crossing(near_duplicates(list(leaked.long), "characters").above(0.01), leaked.split)


def test_the_poems_are_in_simplified_script():
    bodies = "".join(table_of("poems").body)
    assert not set("國無來時風見馬龍門長東") & set(bodies)


def test_clean_pairs_of_sections_can_be_counted_on():
    sections = table_of("zh_docs")
    clean = sections[sections.clean]
    assert len(clean) > 3_445, "fewer than the survey of the packages found"
    assert (clean.body.str.count("[一-鿿]") >= 50).all()
    assert (clean.heading.str.count("[一-鿿]") >= 2).all()


# Licences


@every_table
def test_every_archive_states_its_licence_and_notice_and_the_licence_page_names_it(name):
    page = (ROOT / "DATA_LICENSES.md").read_text(encoding="utf-8")
    assert f"## {name}" in page
    for archive in SOURCES.tables[name].archives:
        assert archive.licence.strip()
        assert archive.notice.strip()
        assert f"`{archive.package}`" in page
        assert archive.licence.split(" ")[0] in page


def test_every_row_of_the_chinese_documentation_has_the_licence_of_its_source():
    sections = datasets.read_table("zh_docs", DATA, columns=["source", "licence"])
    declared = {archive.constants["source"]: archive.licence for archive in SOURCES.tables["zh_docs"].archives}
    assert dict(sections.drop_duplicates().itertuples(index=False)) == declared


# The remote inside the repository


def test_the_remote_holds_the_tables_of_the_pointer_and_nothing_else():
    pointer = yaml.safe_load((ROOT / "data.dvc").read_text(encoding="utf-8"))["outs"][0]
    listing = STORE / pointer["md5"][:2] / pointer["md5"][2:]
    files = json.loads(listing.read_bytes())
    assert {file["relpath"] for file in files} == {f"{name}.parquet" for name in datasets.TABLES}
    for file in files:
        assert hashlib.md5((DATA / file["relpath"]).read_bytes()).hexdigest() == file["md5"]
    stored = {path.parent.name + path.name for path in STORE.glob("??/*")}
    assert stored == {pointer["md5"], *(file["md5"] for file in files)}


def test_the_remote_is_small_enough_for_a_git_repository():
    assert sum(path.stat().st_size for path in STORE.glob("??/*")) <= LARGEST_REMOTE_BYTES


# Reading


def test_a_missing_table_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"sotu\.parquet is missing; run `dvc pull` .* `make data`"):
        datasets.read_table("sotu", tmp_path)


@pytest.mark.parametrize(
    ("name", "chosen", "told"),
    [
        ("wikitext", {}, "known are sotu, python_docs, zh_docs, zh_descriptions, poems"),
        ("sotu", {"split": "dev"}, "'dev'; allowed are train, validation, test"),
        ("sotu", {"columns": ["speaker"]}, "no column 'speaker'; it has year, president, text, split"),
    ],
)
def test_an_unknown_table_split_or_column_lists_the_known_ones(name, chosen, told):
    with pytest.raises(ValueError, match=told):
        datasets.read_table(name, DATA, **chosen)


def test_a_damaged_table_is_refused_with_a_remedy(tmp_path):
    raw = (DATA / "zh_descriptions.parquet").read_bytes()
    middle = len(raw) // 2
    for name, damaged in (("cut", raw[:middle]), ("overwritten", raw[:middle] + b"\0" * 5000 + raw[middle + 5000 :])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "zh_descriptions.parquet").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is damaged .* run `dvc pull`"):
            datasets.read_table("zh_descriptions", folder)


def test_a_split_and_columns_can_be_read_alone():
    validation = datasets.read_table("sotu", DATA, columns=["year", "text"], split="validation")
    whole = table_of("sotu")
    assert list(validation.columns) == ["year", "text"]
    assert validation.year.tolist() == whole[whole.split == "validation"].year.tolist()


def test_a_row_with_other_columns_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a row of 'python_docs' has the columns"):
        datasets.write_table("python_docs", [{"path": "a", "text": "b"}], tmp_path)


def test_the_hash_of_a_table_changes_with_its_bytes(tmp_path):
    row = {"path": "a", "text": "b", "split": "train"}
    hashes = []
    for text in ("b", "b", "c"):
        datasets.write_table("python_docs", [row | {"text": text}], tmp_path)
        hashes.append(datasets.data_hash("python_docs", tmp_path))
    assert hashes[0] == hashes[1] != hashes[2]

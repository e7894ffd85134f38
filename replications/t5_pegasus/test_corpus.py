from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from paperkit.datasets import SPLITS, read_table
from replications.t5_pegasus.studies import corpus
from replications.t5_pegasus.studies.corpus import (
    LABELS,
    label_subsets,
    pairs,
    shared_ngrams,
    training_texts,
    windows,
)


def test_the_counts_are_those_that_the_page_states():
    sizes = {split: len(pairs("zh_docs", split)) for split in SPLITS}
    assert sizes == {"train": 3522, "validation": 648, "test": 632}
    assert pairs("zh_docs", "test").document.nunique() == 162
    assert len(pairs("zh_descriptions", "test")) == 97


def test_a_number_before_a_heading_is_stripped_and_other_numbers_stay():
    stripped = {
        "1.3.6. MC 内部查看器": "MC 内部查看器",
        "2.2 CPUFreq转换通知器": "CPUFreq转换通知器",
        "6.2 - 当前的能量模型": "当前的能量模型",
        "13）使用报告人": "使用报告人",
        "D.3.4.1. 创建设备文件": "创建设备文件",
        "第 4 步：等待回应": "等待回应",
        "附录A：AMBA设备": "AMBA设备",
    }
    stay = ["64位 RISC-V Linux 内核", "第二个关键字", "X/Y 误差线", "升级到 4.19. 版"]
    titles = pd.Series([*stripped, *stay]).str.replace(corpus._NUMBER, "", regex=True)
    assert titles.tolist() == [*stripped.values(), *stay]
    assert not pairs("zh_docs", "test").title.str.match(r"\d+\.").any()


def test_only_text_in_traditional_script_is_converted():
    raw, converted = read_table("zh_docs"), corpus._texts("zh_docs")
    assert not set("國無來時風見馬龍門長東結") & set("".join(converted.body[raw.source == "linux-doc/zh_TW"]))
    assert ((converted.body == raw.body) == (raw.source != "linux-doc/zh_TW")).all()
    assert "結" in corpus.OpenCC("t2s").convert("".join(raw.body[raw.source == "debian-reference"]))  # why


def test_a_title_that_begins_its_text_is_told_apart():
    rows = pairs("zh_docs", "test")
    assert 0.05 < rows.verbatim.mean() < 0.35
    assert not rows[rows.title.str.len() > corpus.OPENING].verbatim.any()


def test_few_test_texts_share_passages_with_the_training_text():
    shares = shared_ngrams(pairs("zh_docs", "test").body.tolist(), training_texts("zh_docs").body)
    assert (shares > corpus.LEAKED).sum() == 22


def test_shared_ngrams_are_distinct_runs_of_characters_within_one_text():
    text = "甲乙丙丁戊己庚辛壬癸子丑寅卯"  # two 13-grams
    assert shared_ngrams([text], [text]).tolist() == [1]
    assert shared_ngrams([text], ["前" + text[:5] + " \n" + text[5:13], "无关"]).tolist() == [0.5]
    assert shared_ngrams([text, text * 2], [text[:12], text[2:]]).tolist() == [0, 0]


def test_windows_hold_whole_clauses_of_one_text_and_each_window_once():
    assert windows(["一二三，四五六。七八九", "别的。"], 8) == ["一二三，四五六。", "七八九", "别的。"]
    assert windows(["长" * 9 + "。短\n"] * 2, 4) == ["长长长长", "长。短"]
    texts = training_texts("zh_docs").body[:100].tolist()
    whole = "".join(piece for text in texts for piece in windows([text], 10**9))
    assert set("".join(windows(texts))) - {"\n"} == set(whole) - {"\n"}
    assert max(map(len, windows(texts))) <= corpus.WINDOW


def test_subsets_of_labels_are_nested_and_differ_between_seeds():
    subsets = label_subsets(3522, seed=1)
    assert all(np.array_equal(subsets[large][:small], subsets[small]) for small, large in pairwise(LABELS))
    assert len(set(subsets[1000])) == 1000
    assert set(subsets[50]) != set(label_subsets(3522, seed=2)[50])
    with pytest.raises(ValueError, match="n_labels is 1000; the train split has 999"):
        label_subsets(999, seed=1)

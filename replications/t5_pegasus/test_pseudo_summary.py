import logging
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replications.t5_pegasus.checks import _by_hand
from replications.t5_pegasus.checks import _lcs as lcs
from replications.t5_pegasus.pseudo_summary import (
    documents,
    longest_pseudo_summary,
    of_other_documents,
    pseudo_summaries,
    pseudo_summary,
    pseudo_summary_as_written,
    random_pseudo_summary,
    segments,
)

many = settings(deadline=None, max_examples=100, derandomize=True)
texts = st.text("甲乙丙丁。\n ", max_size=60)
pieces_of_documents = st.lists(st.text("甲乙丙丁", min_size=1, max_size=8), min_size=2, max_size=7)
generator = np.random.default_rng


def originals_segments(text: str, maxlen: int, seps: str) -> list[str]:
    """Return what bert4keras' `text_segmentate` does."""
    text = text.strip()
    if not (seps and len(text) > maxlen):
        return [text]
    pieces = text.split(seps[0])
    text, found = "", []
    for i, p in enumerate(pieces):
        if text and p and len(text) + len(p) > maxlen - 1:
            found.extend(originals_segments(text, maxlen, seps[1:]))
            text = ""
        text = text + p if i + 1 == len(pieces) else text + p + seps[0]
    if text:
        found.extend(originals_segments(text, maxlen, seps[1:]))
    return found


@many
@given(texts, st.integers(1, 20))
def test_segments_are_the_originals_without_its_blank_ones_and_lose_only_white_space(text: str, size: int) -> None:
    found = segments(text, size, "\n。")
    assert found == [one for one in originals_segments(text, size, "\n。") if one]
    assert "".join("".join(found).split()) == "".join(text.split())


def test_short_sentences_are_merged_and_a_long_one_stays_whole() -> None:
    assert segments("甲" * 10 + "。" + "乙" * 20 + "。" + "丙。") == ["甲" * 10 + "。" + "乙" * 20 + "。", "丙。"]
    assert segments("甲" * 40 + "，" + "乙" * 40 + "。丙") == ["甲" * 40 + "，" + "乙" * 40 + "。", "丙"]
    assert segments(" \n ") == []


def test_the_originals_blank_segments_make_it_divide_by_zero() -> None:
    text = "甲" * 40 + "\n \n" + "乙" * 40
    assert originals_segments(text, 32, "\n。") == ["甲" * 40, "", "乙" * 40]
    assert segments(text) == ["甲" * 40, "乙" * 40]
    with pytest.raises(ZeroDivisionError):
        _by_hand(["甲", "", ""], alone=False)


@many
@given(st.lists(st.text("甲乙", min_size=1, max_size=5), max_size=20), st.integers(1, 12))
def test_documents_are_filled_have_three_segments_and_lose_at_most_two(pieces: list[str], size: int) -> None:
    found = list(documents(pieces, size))
    kept = [one for some in found for one in some]
    assert kept == pieces[: len(kept)]
    assert len(pieces) - len(kept) < 3
    assert all(len(some) == 3 or len("".join(some)) <= size for some in found)
    assert all(len("".join([*some, following[0]])) > size for some, following in pairwise(found))


@many
@given(pieces_of_documents, st.integers(0, 9))
def test_every_rule_puts_each_segment_on_one_side_and_stops_as_declared(pieces: list[str], seed: int) -> None:
    n, chars = len(pieces), [len(one) for one in pieces]
    drawn = generator(seed)
    for pair in (pseudo_summary(pieces), random_pseudo_summary(pieces, drawn), longest_pseudo_summary(pieces)):
        moved = "".join(pieces[i] for i in pair.picked)
        left = "".join(pieces[i] for i in range(n) if i not in pair.picked)
        assert pair[:2] == ((moved, left) if pair.swapped else (left, moved))
        assert pair.swapped == (len(left) < len(moved))
        assert len(pair.picked) == n - 1 or len(moved) > 0.25 * len(left)
        largest = max(chars[i] for i in pair.picked)  # without the last move, so at the latest without the largest
        assert len(moved) - largest <= 0.25 * (len(left) + largest)


def test_random_segments_have_a_shorter_lcs() -> None:
    drawn, found = generator(0), []
    for _ in range(100):
        pieces = ["".join(drawn.choice(list("甲乙丙丁戊己"), 6)) for _ in range(6)]
        pairs = [pseudo_summary(pieces, 0.4), random_pseudo_summary(pieces, drawn, 0.4)]
        assert [len(pair.picked) for pair in pairs] == [2, 2]
        found.append([lcs(*pair[:2]) for pair in pairs])
    greedy, chance = np.mean(found, 0)
    assert chance < 0.95 * greedy


def test_the_first_one_of_equals_is_moved_or_the_longest() -> None:
    assert pseudo_summary(["甲乙"] * 5).picked == (0, 1)  # 2 / 8 is not more than a quarter
    assert longest_pseudo_summary(["甲" * k for k in (3, 1, 4, 1, 5, 9, 2, 6)]).picked == (5,)


def test_code_and_post_differ_in_where_they_stop_and_in_the_exchange() -> None:
    pieces = ["甲乙丙丁戊己", "甲乙"]
    assert pseudo_summary(pieces) == ("甲乙丙丁戊己", "甲乙", (0,), True)
    assert pseudo_summary_as_written(pieces) == ("甲乙", "甲乙丙丁戊己", (0,), False)
    counts = {n: len(pseudo_summary_as_written(["甲"] * n).picked) for n in (2, 5, 8, 12, 13)}
    assert counts == {2: 1, 5: 1, 8: 2, 12: 3, 13: 3}


def test_a_text_without_three_segments_gives_no_pair_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    of_texts = [list(documents(segments(text, 3))) for text in ("", "甲乙。丙丁。", "甲乙。丙丁。甲丁。", "甲\n乙")]
    with caplog.at_level(logging.INFO):
        pairs, owners = pseudo_summaries(of_texts)
    assert (len(pairs), owners) == (1, [2])
    assert "1 pairs; 3 of 4 texts gave none" in caplog.text


@many
@given(st.lists(st.integers(0, 5), min_size=2, max_size=20), st.integers(0, 9))
def test_every_item_gets_one_of_another_document_and_none_is_lost(owners: list[int], seed: int) -> None:
    if 2 * max(map(owners.count, owners)) > len(owners):
        with pytest.raises(ValueError, match="one document has more than half"):
            of_other_documents(owners, generator(seed))
        return
    other = of_other_documents(owners, generator(seed))
    assert sorted(other) == list(range(len(owners)))
    assert all(owners[i] != owners[j] for i, j in enumerate(other))
    assert other == of_other_documents(owners, generator(seed))


def test_which_item_of_which_other_document_is_a_matter_of_chance() -> None:
    drawn, owners = generator(0), np.repeat(range(6), 2)
    assert {of_other_documents(owners, drawn)[0] for _ in range(200)} == set(range(2, 12))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: segments(b"\xe7\x94\xb2"), "text is of type bytes"),
        (lambda: segments("甲", 0), "max_chars is 0"),
        (lambda: pseudo_summary(["甲"]), "at least two segments"),
        (lambda: pseudo_summary(["甲", ""]), "not empty"),
        (lambda: pseudo_summary(["甲", 1]), "each a string"),
        (lambda: pseudo_summary(["甲", "乙"], 0), "ratio is 0"),
        (lambda: longest_pseudo_summary(["甲", "乙"], float("nan")), "ratio is nan"),
        (lambda: pseudo_summary_as_written(["甲", "乙"], 1.5), "share is 1.5"),
        (lambda: pseudo_summaries([]), "none of 0 texts"),
        (lambda: of_other_documents([], generator(0)), "of 0 items"),
    ],
)  # fmt: skip
def test_unsound_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

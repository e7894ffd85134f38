"""LCS by bits beside LCS by a compiled table, and what else a run of T5-PEGASUS spends its time on."""

from collections.abc import Callable

import numba
import numpy as np
import pytest
import torch
from rapidfuzz.distance import LCSseq
from rouge import Rouge
from transformers import T5Config, T5ForConditionalGeneration

from benchmarks.measuring import median_ratio, times_s
from replications.t5_pegasus.metrics import rouge_pltrdy
from replications.t5_pegasus.tokenizer import WordTokenizer, vocabulary

ROUNDS = 20
SIZES = [(60, 27), (200, 60), (620, 150)]  # characters of source and target; a window's, a section's, a document's
MIN_OVER_TABLE = 5


@numba.njit(cache=False)
def lcs_by_table(a: np.ndarray, b: np.ndarray) -> int:
    """Fill the table of the textbook, as pylcs does in C++."""
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=np.int32)
    for i in range(len(a)):
        for j in range(len(b)):
            table[i + 1, j + 1] = table[i, j] + 1 if a[i] == b[j] else max(table[i, j + 1], table[i + 1, j])
    return table[len(a), len(b)]


def text(size: int, seed: int) -> str:
    return "".join(map(chr, np.random.default_rng(seed).zipf(1.3, size) % 500 + 0x4E00))


def ratio(slow: Callable[[], object], fast: Callable[[], object]) -> float:
    times = times_s({"slow": slow, "fast": fast}, rounds=ROUNDS)
    return median_ratio(times["slow"], times["fast"])


@pytest.mark.parametrize("size", SIZES)
def test_the_lcs_of_rapidfuzz_is_faster_than_a_compiled_table(size: tuple[int, int]) -> None:
    source, target = (text(length, seed) for seed, length in enumerate(size))
    codes = [np.array(list(map(ord, one)), dtype=np.int32) for one in (source, target)]
    assert lcs_by_table(*codes) == LCSseq.similarity(source, target)
    found = ratio(
        lambda: [lcs_by_table(*codes) for _ in range(50)],
        lambda: [LCSseq.similarity(source, target) for _ in range(50)],
    )
    print(f"LCS of {size}: table over rapidfuzz {found:.1f}")
    assert found >= MIN_OVER_TABLE


def test_rouge_is_faster_than_the_package_that_it_equals() -> None:
    pairs = [(text(12, seed), text(15, seed + 100)) for seed in range(50)]
    package = Rouge()
    found = ratio(
        lambda: [package.get_scores(" ".join(h), " ".join(r)) for h, r in pairs],
        lambda: [rouge_pltrdy(h, r) for h, r in pairs],
    )
    print(f"ROUGE: package over ours {found:.1f}")
    assert found >= 1


def test_words_cost_time_to_find() -> None:
    texts = [text(90, seed) for seed in range(50)] + ["打开文件，保存文件。" * 9] * 50
    characters, words = (WordTokenizer(vocabulary(texts, number, min_count=1)) for number in (0, 10))
    found = ratio(lambda: [words.encode(one) for one in texts], lambda: [characters.encode(one) for one in texts])
    print(f"reading words over reading characters {found:.2f}")


def test_decoding_with_a_cache_is_faster_than_without() -> None:
    config = T5Config(
        vocab_size=2051, d_model=64, d_kv=16, num_heads=4, d_ff=128, num_layers=1, feed_forward_proj="gated-gelu",
        decoder_start_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    model, source = T5ForConditionalGeneration(config).eval(), torch.randint(5, 2051, (16, 72))
    found = ratio(
        *(
            lambda use=use: model.generate(source, max_new_tokens=24, min_new_tokens=24, use_cache=use)
            for use in (False, True)
        )
    )
    print(f"decoding without a cache over with one {found:.2f}")

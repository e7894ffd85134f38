"""The lattice against enumeration, SentencePiece and tokenizers, and what it refuses."""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
from scipy.stats import chisquare
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from replications.token_sampling.experiment import draw_paths
from replications.token_sampling.lattice import (
    Vocabulary,
    alpha_for_inflation,
    moments,
    nbest,
    sample,
    sample_many,
    sample_online,
    segment,
    segment_many,
)
from replications.token_sampling.laws import gibbs, lattice_of, law, paths
from replications.token_sampling.studies.corpora import SPACE, corpus

SCORES = {b"a": -1.0, b"b": -2.0, b"c": -0.5, b"ab": -2.5, b"bc": -1.7, b"abc": -4.0, b"ca": -1.9}
SMALL = Vocabulary(SCORES)
TEXT = b"abcabcab"


def rng():
    return np.random.default_rng(0)


def p_value(counts, chances):
    """Of a chi-square test; cells that expect fewer than 5 are one."""
    total = sum(counts.values())
    assert set(counts) <= set(chances)
    seen, expected = np.array([(counts[path], total * p) for path, p in chances.items()]).T
    large = expected >= 5
    seen, expected = (np.append(of[large], of[~large].sum()) for of in (seen, expected))
    return chisquare(seen[expected > 0], expected[expected > 0], sum_check=False).pvalue


@pytest.fixture(scope="module")
def english():
    return corpus("english", 0, 2000, 100_000)


@pytest.mark.parametrize("sampler", [sample, sample_online])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_samples_follow_the_law_and_the_test_refuses_that_of_the_sigmoid_rule(sampler, alpha):
    counts = Counter(tuple(one.ends.tolist()) for one in sampler(TEXT, SMALL, alpha, rng(), 20_000))
    lattice = lattice_of(TEXT, SCORES)
    assert p_value(counts, gibbs(paths(lattice), alpha)) > 1e-6
    assert p_value(counts, law("sigmoid", lattice, alpha)) < 1e-6


def test_many_texts_give_what_each_gives_alone():
    texts = [TEXT, b"", b"c", b"cab"]
    ids, offsets = segment_many(texts, SMALL)
    found = np.split(ids, offsets[1:-1])
    assert [one.tolist() for one in found] == [segment(text, SMALL).ids.tolist() for text in texts]
    one, other = rng(), rng()
    ids, offsets = sample_many(texts, SMALL, 0.5, one)
    alone = [sample(text, SMALL, 0.5, other)[0].ids.tolist() for text in texts]
    assert [part.tolist() for part in np.split(ids, offsets[1:-1])] == alone


def test_of_equal_segmentations_the_longest_last_piece_wins():
    flat = Vocabulary(dict.fromkeys([b"a", b"aa"], -1.0) | {b"a": -0.5})
    assert segment(b"aaa", flat).ends.tolist() == [1, 3]


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0, 10.0, 30.0])
def test_a_long_text_stays_finite(alpha, english):
    text = (english.text * 2)[:1_000_000].encode()
    found = moments(text, english.vocabulary, alpha)
    assert np.isfinite([found.log_partition, found.mean_score, found.mean_tokens]).all()
    best = segment(text, english.vocabulary)
    assert found.log_partition >= alpha * best.score
    drawn = sample(text, english.vocabulary, alpha, rng())[0]
    assert drawn.ends[-1] == len(text)
    assert drawn.score <= best.score + 1e-6


def test_a_word_whose_letters_are_far_less_likely_does_not_overflow():
    scores = {bytes([letter]): -16.0 for letter in b"abcdefgh"} | {b"abcdefgh": -1.0}
    assert moments(b"abcdefgh" * 3, Vocabulary(scores), 30.0).log_partition == pytest.approx(-90, abs=1e-9)


def test_derivatives_of_the_partition_function_are_moments():
    step = 1e-4
    at = {alpha: moments(TEXT, SMALL, alpha) for alpha in (0.5 - step, 0.5, 0.5 + step)}
    slope = (at[0.5 + step].log_partition - at[0.5 - step].log_partition) / (2 * step)
    assert slope == pytest.approx(at[0.5].mean_score, abs=1e-7)


def test_the_n_best_are_the_first_of_all():
    scores = sorted(paths(lattice_of(TEXT, SCORES)).values(), reverse=True)
    found = nbest(TEXT, SMALL, 10_000)
    assert [one.score for one in found] == pytest.approx(scores, abs=1e-12)
    assert len({tuple(one.ends.tolist()) for one in found}) == len(scores)
    assert nbest(TEXT, SMALL, 1)[0].ids.tolist() == segment(TEXT, SMALL).ids.tolist()


def test_the_best_and_the_64_best_are_those_of_sentencepiece(english):
    for line in english.windows(20, 80, 5):
        ids = english.processor.encode(line)
        pieces = [english.processor.id_to_piece(one).replace(SPACE, " ").encode() for one in ids]
        best, score = segment(line.encode(), english.vocabulary), sum(english.scores[piece] for piece in pieces)
        assert best.score == pytest.approx(score, abs=1e-3)
        peers = english.processor.nbest_encode(line, nbest_size=64)
        worst = sum(
            english.scores[english.processor.id_to_piece(one).replace(SPACE, " ").encode()] for one in peers[-1]
        )
        assert nbest(line.encode(), english.vocabulary, 64)[-1].score == pytest.approx(worst, abs=1e-3)


def test_a_seed_gives_the_same_draws_of_sentencepiece_again_and_in_another_process(english):
    drawn = partial(draw_paths, "sp_ffbs", english.windows(1, 20, 5)[0], english, 0.1, rng(), 50)
    first, other, again = drawn(1), drawn(2), drawn(1)
    assert first == again != other
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        assert process.submit(drawn, 1).result() == first


def test_the_installed_tokenizers_follow_the_law_of_their_code_and_not_the_exact_one():
    pieces = [("<unk>", -50.0), *((piece.decode(), score) for piece, score in SCORES.items())]
    tokenizer = Tokenizer(Unigram(pieces, 0, alpha=0.5))
    counts = Counter(tuple(end for _, end in tokenizer.encode(TEXT.decode()).offsets) for _ in range(40_000))
    lattice = lattice_of(TEXT, SCORES)
    assert p_value(counts, law("powered_prefix", lattice, 0.5)) > 1e-6
    assert p_value(counts, gibbs(paths(lattice), 0.5)) < 1e-6


def test_the_alpha_found_gives_the_wanted_number_of_pieces():
    alpha = alpha_for_inflation([TEXT], SMALL, 0.1)
    assert moments(TEXT, SMALL, alpha).mean_tokens == pytest.approx(1.1 * len(segment(TEXT, SMALL).ids), rel=1e-5)


def test_nothing_is_segmented_into_nothing():
    assert segment(b"", SMALL).ids.tolist() == []
    assert moments(b"", SMALL, 0.5).log_partition == 0
    assert [one.ends.tolist() for one in sample(b"", SMALL, 0.5, rng(), 2)] == [[], []]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sample(TEXT, SMALL, float("nan"), rng()), ValueError, "alpha = nan"),
        (lambda: sample(TEXT, SMALL, -0.1, rng()), ValueError, "alpha = -0.1"),
        (lambda: sample_online(TEXT, SMALL, float("inf"), rng()), ValueError, "alpha = inf"),
        (lambda: moments(TEXT, SMALL, 1e4), ValueError, "call segment"),
        (lambda: segment(b"abxab", SMALL), ValueError, "position 2"),
        (lambda: sample(b"abxab", SMALL, 1.0, rng()), ValueError, "position 2"),
        (lambda: sample_online(b"x", SMALL, 1.0, rng()), ValueError, "position 0"),
        (lambda: nbest(b"x", SMALL, 2), ValueError, "position 0"),
        (lambda: moments(b"ax", SMALL, 1.0), ValueError, "position 1"),
        (lambda: segment_many([TEXT, b"x"], SMALL), ValueError, "text 1"),
        (lambda: Vocabulary({}), ValueError, "empty"),
        (lambda: Vocabulary({b"": 0.0}), ValueError, "b''"),
        (lambda: Vocabulary({b"a": float("nan")}), ValueError, "b'a'"),
        (lambda: Vocabulary({"a": 0.0}), TypeError, "encode first"),
        (lambda: segment("abc", SMALL), TypeError, "encode first"),
        (lambda: sample(TEXT, SMALL, 1.0, rng(), 0), ValueError, "num_samples = 0"),
        (lambda: nbest(TEXT, SMALL, 0), ValueError, "n = 0"),
        (lambda: paths(lattice_of(b"abc" * 20, SCORES)), ValueError, "segmentations; at most"),
        (lambda: sample(TEXT, SMALL, 1.0, 7), TypeError, "int, not numpy.random.Generator"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rouge import Rouge as Package
from rouge_score.rouge_scorer import RougeScorer

from replications.t5_pegasus.metrics import (
    CharacterTrigram,
    characters,
    lead,
    nats_per_character,
    oracle_clause,
    random_targets,
    rouge_counts,
    rouge_pltrdy,
    sentence_bleu,
    trigram_nats,
)

many = settings(deadline=None, max_examples=150, derandomize=True)
plain = st.text("中国经济发展", min_size=1, max_size=12)
mixed = st.text("中国Aa. 。\n\u3000", max_size=10)
EXAMPLE = "中国中国发展", "中国经济发展报告中国"
ALPHABET = "中国经济"


class Characters:
    tokenize = staticmethod(lambda text: list(characters(text)))


@many
@given(mixed, mixed)
def test_pltrdy_is_the_package_as_the_source_calls_it(hypothesis: str, reference: str) -> None:
    assume(reference.strip() and reference != ".")
    found = rouge_pltrdy(hypothesis, reference)
    spaced = " ".join(hypothesis).lower()
    if not spaced.strip() or hypothesis == ".":
        assert found == (0, 0, 0)
        return
    scores = Package().get_scores(hyps=spaced, refs=" ".join(reference).lower())[0]
    assert found == tuple(scores[name]["f"] for name in ("rouge-1", "rouge-2", "rouge-l"))


@many
@given(mixed, mixed)
def test_counts_are_those_of_rouge_score_given_a_tokenizer_of_characters(hypothesis: str, reference: str) -> None:
    assume(reference.strip())
    scores = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=Characters()).score(reference, hypothesis)
    wanted = [score.fmeasure for score in scores.values()]
    assert list(rouge_counts(hypothesis, reference)) == pytest.approx(wanted, rel=1e-12)


def test_pltrdy_leaves_an_empty_token_between_two_periods_and_stops_at_a_single_one() -> None:
    assert rouge_pltrdy("1.2", "12") == pytest.approx((1, 1, 1), abs=1e-7)
    assert rouge_pltrdy("1..2", "12") == pytest.approx((0.8, 0, 0.8), abs=1e-7)
    assert rouge_counts("1.2", "12").one == pytest.approx(0.8)
    with pytest.raises(ValueError, match="Hypothesis is empty"):
        Package().get_scores(".", "1 2")


@many
@given(plain, plain)
def test_bleu_is_the_geometric_mean_of_clipped_precisions_times_the_penalty(h: str, r: str) -> None:
    logs = []
    for n in range(1, 5):
        of_h, of_r = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (h, r))
        logs.append(math.log(((of_h & of_r).total() or 0.1) / max(1, of_h.total())))
    penalty = 1 if len(h) > len(r) else math.exp(1 - len(r) / len(h))
    wanted = penalty * math.exp(sum(logs) / 4) if set(h) & set(r) else 0
    assert sentence_bleu(h, r) == pytest.approx(wanted, rel=1e-12)


def test_in_bleu_case_does_not_count_and_a_space_counts_as_two_empty_tokens() -> None:
    assert sentence_bleu("T5模型", "t5模型") == 1
    assert sentence_bleu("中国", "中国") == pytest.approx(0.1**0.5)
    assert sentence_bleu("中 国", "中 国") == 1
    assert sentence_bleu(" ", "中国") == 0


def test_the_baselines_are_the_start_the_best_clause_and_another_documents_target() -> None:
    assert lead("A b\n中国", 3) == "ab中"
    source = "天气很好，我们去公园。公园很大：人多！"
    assert [oracle_clause(source, one) for one in ("公园大", "人多呀", "无")] == ["公园很大", "人多", "天气很好"]
    assert oracle_clause("", "中") == ""
    others = random_targets(["甲", "乙", "丙", "丁"], [0, 0, 1, 1], np.random.default_rng(0))
    assert [set(others[:2]), set(others[2:])] == [{"丙", "丁"}, {"甲", "乙"}]


def test_characters_outside_the_alphabet_are_one_symbol_and_case_and_space_do_not_count() -> None:
    model = CharacterTrigram(["中发a", "国 展\nA"], "中国a")
    np.testing.assert_array_equal(model.probabilities(["中发A"]), model.probabilities(["中 发a"]))
    np.testing.assert_array_equal(model.probabilities(["中发"]), model.probabilities(["中乙"]))


def test_without_labels_texts_cost_what_the_trigram_says() -> None:
    general, texts = CharacterTrigram(["中国", "国经济"], ALPHABET), ["中", "", "国经济中"]
    wanted = [-np.log(general.probabilities([text])).sum() for text in texts]
    np.testing.assert_allclose(trigram_nats(general, [], texts), wanted, rtol=1e-12)


@pytest.mark.parametrize("num_labels", [2, 10, 50])
def test_labels_help_where_they_foretell_each_other_and_cost_nothing_where_they_do_not(num_labels: int) -> None:
    drawn = np.random.default_rng(0)
    like, unlike = (["".join(drawn.choice(list(some), 6)) for _ in range(400)] for some in ("中国", ALPHABET))
    general = CharacterTrigram(unlike[:300], ALPHABET)
    for texts, low, high in ((like, 0, 0.9), (unlike, 0.95, 1.05)):
        without, found = (trigram_nats(general, texts[300:][:n], texts[-50:]).sum() for n in (0, num_labels))
        assert low < found / without < high


def test_nats_a_character_count_the_end_and_not_the_space() -> None:
    assert nats_per_character([6.0, 2.0], ["天 气", "天"]) == 1.6
    uniform = np.log(10) * np.array([3, 5])
    assert nats_per_character(uniform, ["甲乙", "甲乙丙丁"]) == pytest.approx(np.log(10))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rouge_counts("中", ""), "reference is ''"),
        (lambda: rouge_counts(b"\xe4\xb8\xad", "中"), "hypothesis is b'"),
        (lambda: rouge_pltrdy("中", "."), 'reference is "."'),
        (lambda: rouge_pltrdy(None, "中"), "hypothesis is None"),
        (lambda: sentence_bleu("中", 1), "reference is 1"),
        (lambda: oracle_clause("中", ""), "reference is ''"),
        (lambda: random_targets(["甲"], [0], np.random.default_rng(0)), "more than half"),
        (lambda: CharacterTrigram([], ALPHABET), "none to count"),
        (lambda: trigram_nats(CharacterTrigram(["中"], "中"), ["中"], ["中"]), "there is one; give none, or two"),
    ],
)  # fmt: skip
def test_unsound_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

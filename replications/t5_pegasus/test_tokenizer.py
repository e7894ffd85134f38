import random

import jieba
import pytest

from replications.t5_pegasus.tokenizer import SPECIAL, WordTokenizer, vocabulary

TEXTS = [
    "打开文件的方法：选择“文件”菜单。",
    "Linux 内核的文件系统，X光机与4S店；c++ 和 AB型。",
    "ab超 3d打印 αβγ 1.5 a-b",
]
CHARACTERS = WordTokenizer(vocabulary(TEXTS, min_count=1))
WORDS = WordTokenizer(vocabulary(TEXTS, 20, min_count=1, num_unused=3))
both = pytest.mark.parametrize("tokenizer", [CHARACTERS, WORDS], ids=["characters", "words"])


def read(tokenizer: WordTokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True)


def test_words_are_single_tokens_and_the_rest_is_word_pieces():
    assert WORDS.tokenize("选择文件") == ["选择", "文件"]
    assert CHARACTERS.tokenize("选择文件") == ["选", "择", "文", "件"]
    assert WORDS.tokenize("Linux 龘") == ["l", "##i", "##n", "##u", "##x", "[UNK]"]


def test_a_name_that_only_a_hidden_markov_model_finds_is_no_word():
    text = "他来到了网易杭研大厦"
    assert "杭研" in jieba.lcut(text)
    assert WordTokenizer([*vocabulary([text], min_count=1), "大厦", "杭研"]).tokenize(text)[-3:] == [
        "杭",
        "研",
        "大厦",
    ]


@both
def test_a_text_begins_and_ends_as_generation_expects(tokenizer):
    batch = tokenizer(["文件", "打开文件系统"], padding=True, return_tensors="pt")
    assert set(batch) == {"input_ids", "attention_mask"}
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    for ids, mask in zip(batch.input_ids, batch.attention_mask.bool(), strict=True):
        assert (ids[mask][0], ids[mask][-1]) == ends == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert (ids[~mask] == tokenizer.pad_token_id).all()


@both
def test_lower_case_text_in_the_vocabulary_comes_back(tokenizer):
    alphabet = sorted({c for text in TEXTS for c in text.lower() if not c.isspace()})
    pieces = {*alphabet, *("##" + c for c in alphabet)} - tokenizer.get_vocab().keys()
    full = WordTokenizer([*tokenizer.get_vocab(), *sorted(pieces)])
    source = random.Random(0)
    texts = ["".join(source.choices(alphabet, k=source.randint(1, 40))) for _ in range(300)]
    for text in ["x4s店", "ab超", "1.5", "c++x", "αβ光", "a-b", *texts]:
        assert read(full, text) == text
    assert read(full, "ab x 文件 系统\n1.5") == "ab x文件系统1.5"


def test_cutting_within_a_latin_word_would_lose_whether_it_had_a_space():
    assert list(jieba.cut("x4s店", HMM=False)) == ["x", "4s店"]
    tokenizer = WordTokenizer([*SPECIAL.values(), "x", "4s店", "##4", "##s", "店"])
    assert tokenizer.tokenize("x 4s店") == ["x", "4s店"]
    assert tokenizer.tokenize("x4s店") == ["x", "##4", "##s", "店"]


@both
def test_saving_and_loading_change_nothing(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = WordTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert len(loaded) == loaded.vocab_size == len(tokenizer)
    for text in TEXTS:
        assert loaded.encode(text) == tokenizer.encode(text)
        assert read(loaded, text) == read(tokenizer, text)


def test_sentinels_are_special_tokens():
    sentinels = WORDS.convert_tokens_to_ids(["[unused1]", "[unused2]", "[unused3]"])
    assert sentinels == [5, 6, 7]
    assert WORDS.decode([*sentinels, *WORDS.encode("文件")], skip_special_tokens=True) == "文件"


def test_texts_and_vocabularies_that_cannot_be_used_are_refused():
    for texts in ([], ["", " \n"], ["文件"]):
        with pytest.raises(ValueError, match="min_count"):
            vocabulary(texts)
    with pytest.raises(ValueError, match=r"missing \['\[MASK\]'\], repeated \['文'\]"):
        WordTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "文", "文"])

"""The tokenizer of T5-PEGASUS: a Chinese BERT's vocabulary, and jieba's words in front of it.

From kexue.fm/archives/8209 and 7758; the original is bert4keras' `Tokenizer` with
`pre_tokenize=lambda s: jieba.cut(s, HMM=False)`. Letters: V the vocabulary, w a word of jieba's, c a character. A text
is put into lower case and loses accents and control characters; then each word w is

    one token                                      where w is in V,
    BERT's word pieces of w                        otherwise: Chinese characters and punctuation marks stand alone, the
                                                   rest is cut greedily, longest first, into c… ##c… ##c…

so that a vocabulary of single characters gives a character model, without another way of reading.
"""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jieba
from transformers import PreTrainedTokenizer

__all__ = ["WordTokenizer", "vocabulary"]

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
SPECIAL |= {"mask_token": "[MASK]"}
KNOWN_WORDS = 200_000  # the most frequent ones of jieba's dictionary may become tokens, in the source and here
_UNKNOWN = SPECIAL["unk_token"]
_UNUSED = re.compile(r"\[unused\d+\]")
_CONTINUES = "##"

jieba.setLogLevel(logging.WARNING)  # it reports on stderr that it builds its dictionary


def vocabulary(texts: Sequence[str], num_words: int = 0, *, min_count: int = 2, num_unused: int = 0) -> list[str]:
    """Return V: the special tokens, [unused1], …, all characters of texts, and jieba's words that are frequent.

    Within a Latin word a character is a token ##c, apart from c. The source counts characters and words together and
    keeps 50,000; among a few thousand this would drop characters, and leave unknown what a character model can read.

    Args:
        texts: To count in; each group is in the order of falling counts.
        num_words: Number of words, ≥ 0; fewer where texts have no more.
        min_count: Least number of occurrences of a character, ≥ 1.
        num_unused: Tokens without a text, for the sentinels of span corruption.

    Raises:
        ValueError: If no character of texts occurs so often.

    Example:
        >>> vocabulary(["打开文件", "保存 pdf 文件"], 1, min_count=1, num_unused=1)[5:]
        ['[unused1]', '件', '文', '##d', '##f', 'p', '保', '存', '开', '打', '文件']
    """
    characters: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text in map(_normalised, texts):
        for first, *others in _basic_words(text):
            characters.update([first, *(_CONTINUES + c for c in others)])
        if num_words:
            words.update(word for word in _words(text) if word in _known_words())
    kept = _falling(Counter({c: count for c, count in characters.items() if count >= min_count}))
    if not kept:
        message = f"texts have no character that occurs {min_count} times (min_count); give more text"
        raise ValueError(message)
    unused = [f"[unused{number}]" for number in range(1, num_unused + 1)]
    return [*SPECIAL.values(), *unused, *kept, *_falling(words)[:num_words]]


class WordTokenizer(PreTrainedTokenizer):
    """Read text as words of V where jieba finds them, and as word pieces elsewhere: [CLS] … [SEP].

    `decode(encode(s))` is s if s is in lower case, in V, and without white space; a space between two Latin words
    comes back, other white space is lost, as in BERT. Where text without a space runs on with a Latin letter or digit
    from one of jieba's words to the next ("x4s店"), both are read as one word: the original cuts there, and cannot
    tell it from "x 4s店".

    Args:
        vocab_file: Tokens in the order of their ids, or a file with one a line, such as T5-PEGASUS's `vocab.txt`.
        **kwargs: Of `PreTrainedTokenizer`.

    Raises:
        ValueError: If one of the five special tokens is missing, or a token occurs twice.

    Example:
        >>> tokenizer = WordTokenizer(vocabulary(["打开文件", "打开 pdf 文件"], 1, min_count=1))
        >>> tokenizer.tokenize("打开 PDF 文件")
        ['打开', 'p', '##d', '##f', '文', '件']
        >>> tokenizer.decode(tokenizer.encode("打开pdf文件"), skip_special_tokens=True)
        '打开pdf文件'
    """

    vocab_files_names = {"vocab_file": "vocab.txt"}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, vocab_file: str | Path | Sequence[str], **kwargs: Any) -> None:
        """Read the vocabulary."""
        if isinstance(vocab_file, str | Path):
            vocab_file = Path(vocab_file).read_text(encoding="utf-8").rstrip("\n").split("\n")
        self._tokens = list(vocab_file)
        self._ids = {token: index for index, token in enumerate(self._tokens)}
        missing = [token for token in SPECIAL.values() if token not in self._ids]
        if missing or len(self._ids) < len(self._tokens):
            repeated = [token for token, count in Counter(self._tokens).items() if count > 1]
            message = f"in the vocabulary are missing {missing}, repeated {repeated[:5]}; give each token once"
            raise ValueError(message)
        unused = [token for token in self._tokens if _UNUSED.fullmatch(token)]
        ordinary = self._ids.keys() - SPECIAL.values() - set(unused)
        self._longest = max(map(len, ordinary), default=1)
        self._has_words = any(len(token) > 1 and not token.startswith(_CONTINUES) for token in ordinary)
        # Generation starts with [CLS] and ends with [SEP]; T5's own (padding, id 1) would be wrong.
        fixed = SPECIAL | {"bos_token": SPECIAL["cls_token"], "eos_token": SPECIAL["sep_token"]}
        fixed |= {"extra_special_tokens": unused, "special_tokens_pattern": "cls_sep"}
        super().__init__(**kwargs | fixed | {"clean_up_tokenization_spaces": False})

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self._tokens)

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each token."""
        return dict(self._ids)

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Join tokens: a space stands only between two that would otherwise be read as one Latin word."""
        text = ""
        for token in tokens:
            text += " " + token if _runs_on(text, token) else token.removeprefix(_CONTINUES)
        return text

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Write the vocabulary as the constructor reads it."""
        path = Path(save_directory) / f"{filename_prefix + '-' if filename_prefix else ''}vocab.txt"
        path.write_text("".join(f"{token}\n" for token in self._tokens), encoding="utf-8")
        return (str(path),)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        text = _normalised(text)
        if not self._has_words:  # then all of jieba's words would be cut again
            return list(self._pieces(text))
        tokens = []
        for word in _words(text):
            tokens.extend([word] if word in self._ids else self._pieces(word))
        return tokens

    def _pieces(self, text: str) -> Iterator[str]:
        """Cut text into BERT's word pieces; a word with an unknown piece is unknown as a whole."""
        for word in _basic_words(text):
            pieces, start = [], 0
            while start < len(word):
                prefix = _CONTINUES if start else ""
                ends = range(min(len(word), start + self._longest), start, -1)
                piece = next((p for end in ends if (p := prefix + word[start:end]) in self._ids), None)
                if piece is None:
                    pieces = [_UNKNOWN]
                    break
                pieces.append(piece)
                start += len(piece) - len(prefix)
            yield from pieces

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, self._ids[_UNKNOWN])

    def _convert_id_to_token(self, index: int) -> str:
        return self._tokens[index]


def _falling(counts: Counter[str]) -> list[str]:
    """Order tokens by falling count, equal ones by their characters."""
    return sorted(counts, key=lambda token: (-counts[token], token))


@cache
def _known_words() -> frozenset[str]:
    """Words of jieba's dictionary that may become tokens."""
    jieba.initialize()
    frequencies = jieba.dt.FREQ  # beginnings of words are in it, with frequency 0
    ordered = sorted(frequencies, key=frequencies.__getitem__, reverse=True)
    return frozenset(word for word in ordered[:KNOWN_WORDS] if len(word) > 1)


def _normalised(text: str) -> str:
    """Put text into lower case, without accents and control characters."""
    text = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in text if c.isspace() or unicodedata.category(c) not in {"Mn", "Cc", "Cf"})


def _words(text: str) -> list[str]:
    """Cut normalised text with jieba, never within a Latin word."""
    words: list[str] = []
    for word in jieba.cut(text, HMM=False):
        if words and _runs_on(words[-1], word):
            words[-1] += word
        else:
            words.append(word)
    return words


def _runs_on(left: str, right: str) -> bool:
    """Tell whether right after left goes on with a Latin word or number."""
    return (left[-1:] + right[:1]).isascii() and left[-1:].isalnum() and right[:1].isalnum()


def _basic_words(text: str) -> list[str]:
    """Cut normalised text at white space, and around Chinese characters and punctuation marks."""
    return "".join(f" {c} " if _stands_alone(c) else c for c in text).split()


@cache
def _stands_alone(c: str) -> bool:
    """Tell Chinese characters and punctuation marks, as BERT does, from the rest."""
    code = ord(c)
    chinese = 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0xF900 <= code <= 0xFAFF
    chinese = chinese or 0x20000 <= code <= 0x2CEAF or 0x2F800 <= code <= 0x2FA1F
    return chinese or unicodedata.category(c).startswith("P") or (0x20 < code < 0x7F and not c.isalnum())

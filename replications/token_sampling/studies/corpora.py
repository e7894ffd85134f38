"""Texts to segment, and the vocabularies that SentencePiece trains for them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import sentencepiece

from paperkit.datasets import read_table
from paperkit.runs import seeds_of
from replications.token_sampling.lattice import Vocabulary, moments

SPACE = "▁"  # as which SentencePiece writes a space
MOST_PATHS = 5000  # of a window whose laws are enumerated
CHUNK_CHARACTERS = 1300  # of a training line: SentencePiece skips lines of more than 4192 bytes without a word
COLUMNS = {"english": ("sotu", "text"), "chinese": ("zh_docs", "body")}


@dataclass(frozen=True, eq=False)
class Corpus:
    """A trained vocabulary, and text to segment that its characters cover."""

    scores: Mapping[bytes, float]
    vocabulary: Vocabulary
    processor: sentencepiece.SentencePieceProcessor
    text: str

    def windows(self, number: int, characters: int, seed: int) -> list[str]:
        """Draw windows at random places."""
        rng = np.random.default_rng([seeds_of(seed)[2], characters])
        starts = rng.integers(len(self.text) - characters, size=number).tolist()
        return [self.text[start : start + characters] for start in starts]

    def small_windows(self, number: int, characters: int, seed: int) -> list[str]:
        """Keep of more windows the first that have at least 2 and at most `MOST_PATHS` segmentations."""
        drawn = self.windows(10 * number, characters, seed)
        sizes = [moments(window.encode(), self.vocabulary, 0.0).log_partition for window in drawn]
        return [window for window, size in zip(drawn, sizes, strict=True) if 0 < size <= np.log(MOST_PATHS)][:number]


@cache
def corpus(name: str, seed: int, pieces: int, training_characters: int) -> Corpus:
    """Train a vocabulary on documents that the seed draws."""
    table, column = COLUMNS[name]
    documents = {split: _cleaned(name, table, column, split) for split in ("train", "test")}
    order = np.random.default_rng(seeds_of(seed)[1]).permutation(len(documents["train"]))
    chosen = " ".join(documents["train"][place] for place in order)[:training_characters]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([
            chosen[i : i + CHUNK_CHARACTERS] for i in range(0, len(chosen), CHUNK_CHARACTERS)
        ]),
        model_writer=model, model_type="unigram", vocab_size=pieces, normalization_rule_name="identity",
        byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False, num_threads=1, minloglevel=2,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(processor.get_piece_size())
    real = [i for i in ids if not (processor.is_byte(i) or processor.is_control(i) or processor.is_unknown(i))]
    scores = {processor.id_to_piece(i).replace(SPACE, " ").encode(): processor.get_score(i) for i in real}
    known = {piece.decode() for piece in scores}
    text = "".join(character for character in " ".join(documents["test"]) if character in known)
    return Corpus(scores, Vocabulary(scores), processor, text)


def _cleaned(name: str, table: str, column: str, split: str) -> list[str]:
    texts = read_table(table, columns=[column], split=split)[column]
    if name == "english":
        texts = [text.encode("ascii", "ignore").decode() for text in texts]
    return [" ".join(text.replace(SPACE, " ").split()) for text in texts]

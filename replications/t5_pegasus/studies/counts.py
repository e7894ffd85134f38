"""What is counted without a network: lengths in tokens by vocabulary, and what a rule takes out of documents."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field
from rapidfuzz.distance import LCSseq

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, seeds_of
from replications.t5_pegasus.pseudo_summary import (
    documents,
    longest_pseudo_summary,
    pseudo_summary,
    pseudo_summary_as_written,
    random_pseudo_summary,
    segments,
)
from replications.t5_pegasus.studies.corpus import pairs, training_texts
from replications.t5_pegasus.tokenizer import WordTokenizer, vocabulary

RULES = ("pegasus", "as_written", "longest", "random")


class Counts(StrictModel):
    """The study."""

    words: list[int] = Field(min_length=1)  # added to the vocabulary of characters
    num_texts: int = Field(ge=1)  # of the documentation to train on, whose documents are taken apart

    def runs(self, seeds: list[int]) -> list[Run]:
        """List one run for each vocabulary and each rule; the random one has seeds."""
        by_words = [Run("tokens", f"words_{number}", 0, {"words": number}) for number in self.words]
        config = {"num_texts": self.num_texts}
        by_rule = [Run("rules", rule, seed, config) for rule in RULES for seed in (seeds if rule == "random" else [0])]
        return by_words + by_rule


def measure_tokens(run: Run) -> Iterator[Measurement]:
    """Count tokens of the test split's bodies and titles with so many words in the vocabulary."""
    words = run.config["words"]
    tokenizer = WordTokenizer(vocabulary(training_texts("zh_docs").body.tolist(), words))
    test = pairs("zh_docs", "test")
    yield Measurement("none", 0, "vocabulary_tokens", tokenizer.vocab_size)
    for name, texts in (("body", test.body), ("title", test.title)):
        tokens = [tokenizer.tokenize(text) for text in texts]
        characters = sum(len("".join(text.split())) for text in texts)
        yield Measurement("test", 0, f"{name}_tokens_per_character", sum(map(len, tokens)) / characters)
        unknown = sum(token == tokenizer.unk_token for some in tokens for token in some)
        yield Measurement("test", 0, f"{name}_unknown_share", unknown / sum(map(len, tokens)))


def measure_rule(run: Run) -> Iterator[Measurement]:
    """Take documents of the source's size apart by a rule: how long targets are, and what they share with the rest."""
    generator = np.random.default_rng(seeds_of(run.seed)[2])
    make = {
        "pegasus": pseudo_summary, "as_written": pseudo_summary_as_written, "longest": longest_pseudo_summary,
        "random": lambda pieces: random_pseudo_summary(pieces, generator),
    }[run.arm]  # fmt: skip
    texts = training_texts("zh_docs").body[: run.config["num_texts"]]
    found = [list(documents(segments(text))) for text in texts]
    pieces = [one for of_text in found for one in of_text]
    made = [make(one) for one in pieces]
    taken = [
        sum(len(one[i]) for i in pair.picked) / sum(map(len, one)) for one, pair in zip(pieces, made, strict=True)
    ]
    values = {
        "texts_without_pair_share": np.mean([not of_text for of_text in found]),
        "exchanged_share": np.mean([pair.swapped for pair in made]),
        "picked_characters_share": np.mean(taken),
        "picked_segments_share": np.mean([
            len(pair.picked) / len(one) for one, pair in zip(pieces, made, strict=True)
        ]),
        "target_to_source_ratio": np.mean([len(pair.target) / len(pair.source) for pair in made]),
        "common_subsequence_share": np.mean([
            LCSseq.similarity(pair.source, pair.target) / len(pair.target) for pair in made
        ]),
    }
    yield from (Measurement("train", 0, name, float(value)) for name, value in values.items())

"""What a draw costs: bytes of text a CPU second of each sampler and of its deterministic peer, on one thread.

Clock readings go to `timings.csv`, outside the byte-for-byte guarantee. A round visits every arm with other lines, and
one round is one "seed". Time is that of the process, since it shares its cores.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import chain

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from paperkit.runs import Measurement, Run, Runner
from paperkit.stage import TIMING, StageConfig, Tables, main
from replications.token_sampling.lattice import sample, sample_many, sample_online, segment, segment_many
from replications.token_sampling.studies.corpora import Corpus, corpus

ARMS = (
    "viterbi", "filter_sample", "viterbi_one", "filter_one", "online_one", "sp_viterbi", "sp_ffbs", "sp_nbest_64",
    "hf_viterbi", "hf_sample",
)  # fmt: skip


class Config(StageConfig):
    """One profile of timing.yaml."""

    rounds: PositiveInt
    vocabulary_seed: NonNegativeInt
    pieces: PositiveInt
    training_characters: PositiveInt
    corpora: list[str] = Field(min_length=1)
    lines: PositiveInt  # a call
    characters: PositiveInt  # a line
    alpha: PositiveFloat


def run(config: Config, runner: Runner) -> Tables:
    """Time all arms, round after round, in one process."""
    how = config.model_dump(exclude={"rounds", "corpora", "hardware"})
    visits = [
        Run(f"speed_{name}", arm, number, {**how, "corpus": name})
        for number in range(config.rounds)
        for name in config.corpora
        for arm in ARMS
    ]
    return Tables(runs=list(chain.from_iterable(runner(measure, visits))))


def measure(run: Run) -> Iterator[Measurement]:
    """Time one arm once, after one call that warms it."""
    how = run.config
    trained = corpus(how["corpus"], how["vocabulary_seed"], how["pieces"], how["training_characters"])
    lines = trained.windows(how["lines"], how["characters"], run.seed)
    action = actions(trained, lines, how["alpha"], hf_models(trained, how["alpha"]))[run.arm]
    action()
    start = time.process_time()
    action()
    seconds = time.process_time() - start
    yield Measurement("test", 0, "bytes_per_s", sum(len(line.encode()) for line in lines) / seconds)


@cache
def hf_models(trained: Corpus, alpha: float) -> tuple[Tokenizer, Tokenizer]:
    """Build the deterministic and the sampling model of huggingface/tokenizers from the same pieces."""
    pieces = [("<unk>", 0.0), *((piece.decode(), score) for piece, score in trained.scores.items())]
    return Tokenizer(Unigram(pieces, 0)), Tokenizer(Unigram(pieces, 0, alpha=alpha))


def actions(
    trained: Corpus, lines: list[str], alpha: float, models: tuple[Tokenizer, Tokenizer]
) -> Mapping[str, Callable[[], object]]:
    """Give each arm a call that segments all lines; those in "_one" take them joined to one text."""
    texts, vocabulary, rng = [line.encode() for line in lines], trained.vocabulary, np.random.default_rng(0)
    whole = b"".join(texts)
    encode = trained.processor.encode
    sampling = {"enable_sampling": True, "alpha": alpha, "num_threads": 1}
    return {
        "viterbi": lambda: segment_many(texts, vocabulary),
        "filter_sample": lambda: sample_many(texts, vocabulary, alpha, rng),
        "viterbi_one": lambda: segment(whole, vocabulary),
        "filter_one": lambda: sample(whole, vocabulary, alpha, rng),
        "online_one": lambda: sample_online(whole, vocabulary, alpha, rng),
        "sp_viterbi": lambda: encode(lines, num_threads=1),
        "sp_ffbs": lambda: encode(lines, nbest_size=-1, **sampling),
        "sp_nbest_64": lambda: encode(lines, nbest_size=64, **sampling),
        "hf_viterbi": lambda: [models[0].encode(line) for line in lines],
        "hf_sample": lambda: [models[1].encode(line) for line in lines],
    }


if __name__ == "__main__":
    main(
        Config, run, stage="token_sampling_timing", module="replications.token_sampling.timing",
        tables=["sotu", "zh_docs"], kind=TIMING,
    )  # fmt: skip

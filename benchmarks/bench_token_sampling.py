"""Speeds of the lattice beside SentencePiece and tokenizers: ratios of CPU times that take turns, on one thread."""

import statistics
import time

import numpy as np
import pytest

from replications.token_sampling.lattice import sample
from replications.token_sampling.studies.corpora import corpus
from replications.token_sampling.timing import actions, hf_models

ROUNDS, LINES, CHARACTERS, ALPHA = 7, 500, 400, 0.1
# What is compared, and what was aimed at on an idle machine: 1.3, 3, 8. With all cores busy the first is near 1
# in English, since the trie's table shares the cache; a bound fails only where something broke.
TARGETS = {("viterbi", "sp_viterbi"): 0.8, ("filter_sample", "sp_ffbs"): 1.5, ("filter_sample", "hf_sample"): 3.0}


def cpu_s(action) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


@pytest.mark.parametrize("name", ["english", "chinese"])
def test_the_lattice_is_faster_than_its_peers(name: str) -> None:
    trained = corpus(name, 0, 4000, 1_500_000)
    lines = trained.windows(LINES, CHARACTERS, 0)
    arms = actions(trained, lines, ALPHA, hf_models(trained, ALPHA))
    times = {arm: [cpu_s(action) for _ in range(ROUNDS + 1)][1:] for arm, action in arms.items()}
    seconds = {arm: statistics.median(of_arm) for arm, of_arm in times.items()}
    for (fast, slow), least in TARGETS.items():
        ratio = seconds[slow] / seconds[fast]
        print(f"{name}: {fast} over {slow} {ratio:.1f}")
        assert ratio >= least
    print(f"{name}: sampling over Viterbi {seconds['viterbi'] / seconds['filter_sample']:.2f}")


def test_a_hundred_samples_share_one_filter() -> None:
    trained = corpus("english", 0, 4000, 1_500_000)
    text, rng = "".join(trained.windows(20, CHARACTERS, 0)).encode(), np.random.default_rng(0)
    seconds = {
        n: min(cpu_s(lambda n=n: sample(text, trained.vocabulary, ALPHA, rng, n)) for _ in range(ROUNDS))
        for n in (1, 100)
    }
    print(f"100 samples over one: {seconds[100] / seconds[1]:.0f}")
    assert seconds[100] <= 60 * seconds[1]

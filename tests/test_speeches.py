"""The stream of tokens: every speech once, after a separator; a vocabulary from the training speeches alone."""

import numpy as np
import pytest
import torch

from paperkit import speeches


@pytest.fixture
def texts(monkeypatch):
    texts = {"train": ["the state of the union " * 30, "my fellow citizens " * 30], "test": ["the citizens ", "Ünïön"]}
    monkeypatch.setattr(speeches, "_speeches", texts.__getitem__)
    monkeypatch.setattr(speeches, "_tokenizer", speeches._tokenizer.__wrapped__)
    return texts


def test_the_stream_is_the_speeches_each_after_a_separator(texts):
    stream = speeches.token_stream.__wrapped__("test", 280).tolist()
    tokenizer = speeches._tokenizer(280)
    first, second = stream.index(0), stream.index(0, 1)
    assert first == 0
    assert stream.count(0) == len(texts["test"])
    assert [tokenizer.decode(stream[1:second]), tokenizer.decode(stream[second + 1 :])] == texts["test"]
    assert max(stream) < 280


def test_the_vocabulary_is_learnt_from_the_training_speeches_alone(texts):
    before = speeches._tokenizer(280).get_vocab()
    texts["test"][:] = ["zzzzzz " * 100]
    assert speeches._tokenizer(280).get_vocab() == before
    texts["train"][:] = ["zzzzzz " * 100]
    assert speeches._tokenizer(280).get_vocab() != before


def test_the_last_window_ends_with_the_stream_and_one_further_is_an_error():
    stream = torch.arange(20)
    inputs, targets = speeches.windows_at(stream, np.array([0, 14]), 5)
    assert inputs.shape == targets.shape == (2, 5)
    assert torch.equal(targets, inputs + 1)
    assert targets[-1, -1] == 19
    with pytest.raises(IndexError):
        speeches.windows_at(stream, np.array([15]), 5)

"""The stream of tokens: every speech once, after a separator; a vocabulary from the training speeches alone."""

import pytest
import torch

from paperkit import texts as module
from paperkit.models.language_model import mean_loss


@pytest.fixture
def texts(monkeypatch):
    texts = {"train": ["the state of the union " * 30, "my fellow citizens " * 30], "test": ["the citizens ", "Ünïön"]}
    monkeypatch.setattr(module, "_texts", lambda split, _corpus: texts[split])
    monkeypatch.setattr(module, "_tokenizer", module._tokenizer.__wrapped__)
    return texts


def test_the_stream_is_the_speeches_each_after_a_separator(texts):
    stream = module.token_stream.__wrapped__("test", 280).tolist()
    tokenizer = module._tokenizer(280, "sotu")
    first, second = stream.index(0), stream.index(0, 1)
    assert first == 0
    assert stream.count(0) == len(texts["test"])
    assert [tokenizer.decode(stream[1:second]), tokenizer.decode(stream[second + 1 :])] == texts["test"]
    assert max(stream) < 280


def test_the_vocabulary_is_learnt_from_the_training_speeches_alone(texts):
    before = module._tokenizer(280, "sotu").get_vocab()
    texts["test"][:] = ["zzzzzz " * 100]
    assert module._tokenizer(280, "sotu").get_vocab() == before
    texts["train"][:] = ["zzzzzz " * 100]
    assert module._tokenizer(280, "sotu").get_vocab() != before


def test_settings_are_read_out_of_a_run_s_and_those_that_do_not_fit_are_refused():
    sizes = {"vocabulary": 280, "width": 8, "layers": 1, "heads": 2, "context": 4}
    assert module.TextModel.from_config({**sizes, "lr": 0.1}).in_runs == sizes
    with pytest.raises(ValueError, match="width 8 must be a multiple of heads 3"):
        module.TextModel.from_config({**sizes, "heads": 3})
    horizon = {"batch": 2, "steps": 20, "warmup_steps": 19}
    with pytest.raises(ValueError, match="warmup_steps 19 must be at most steps - 2 = 18"):
        module.TextTraining.from_config({**sizes, **horizon})


def test_a_model_has_the_sizes_and_the_tie_that_it_is_made_with():
    settings = module.TextModel(vocabulary=280, width=8, layers=3, heads=2, context=4)
    for tied in (False, True):
        model = settings.make(tied=tied)
        assert model.token_embedding.weight.shape == (280, 8)
        assert model.position_embedding.weight.shape == (4, 8)
        assert [block.heads for block in model.blocks] == [2] * 3
        assert (model.head.weight is model.token_embedding.weight) == tied


def test_a_run_draws_from_the_training_speeches_and_a_split_is_evaluated_on_its_own(monkeypatch):
    streams = {"train": torch.arange(100, 200), "validation": torch.arange(10), "test": torch.arange(50, 60)}
    monkeypatch.setattr(module, "token_stream", lambda split, _vocabulary, _corpus: streams[split])
    training = module.TextTraining(
        vocabulary=280, width=8, layers=1, heads=2, context=4, batch=3, steps=5, warmup_steps=0
    )
    drawn = list(training.batches(seed=1))
    assert len(drawn) == 5
    assert all(inputs.shape == (3, 4) and inputs.min() >= 100 for inputs, _ in drawn)
    inputs, targets = training.even_windows("test", 3)
    assert (inputs.min(), targets.max()) == (50, 59)
    model = training.make()
    assert training.loss(model, "test", 3) == mean_loss(model, inputs, targets)

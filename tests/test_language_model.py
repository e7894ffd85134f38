"""Windows of a stream, and the loss over them, held against what is computed window by window."""

import numpy as np
import pytest
import torch

from paperkit.models.language_model import even_windows, mean_loss, next_token_loss, random_windows, windows_at
from paperkit.models.tiny_gpt import TinyGPT
from tests.made_up_text import made_up_stream


def test_the_last_window_ends_with_the_stream_and_one_further_is_an_error():
    stream = torch.arange(20)
    inputs, targets = windows_at(stream, np.array([0, 14]), 5)
    assert inputs.shape == targets.shape == (2, 5)
    assert torch.equal(targets, inputs + 1)
    assert targets[-1, -1] == 19
    with pytest.raises(IndexError):
        windows_at(stream, np.array([15]), 5)


def test_a_run_draws_as_many_batches_of_windows_as_it_takes_steps_from_the_whole_stream_and_by_its_seed():
    def starts(seed):
        drawn = list(random_windows(torch.arange(30), context=16, batch=4, steps=50, seed=seed))
        for inputs, targets in drawn:
            assert torch.equal(targets, inputs + 1)
            assert torch.equal(inputs, inputs[:, :1] + torch.arange(16))
        return torch.stack([inputs[:, 0] for inputs, _ in drawn])

    first = starts(0)
    assert first.shape == (50, 4)
    assert (first.min(), first.max()) == (0, 13)
    assert torch.equal(first, starts(0))
    assert not torch.equal(first, starts(1))


def test_evaluated_windows_reach_from_the_first_token_to_the_last():
    inputs, targets = even_windows(torch.arange(101), context=16, number=5)
    assert (inputs[0, 0], targets[-1, -1]) == (0, 100)
    assert inputs[:, 0].tolist() == [0, 21, 42, 63, 84]


@pytest.mark.parametrize("number", [1, 70])  # 70: more than are evaluated at once
def test_the_loss_is_the_mean_of_minus_the_log_probability_of_the_next_token_over_all_windows(number):
    model = TinyGPT(vocabulary=300, width=16, layers=1, heads=2, context=16)
    stream = made_up_stream("test", 300)
    starts = np.linspace(0, len(stream) - 17, number).astype(int)
    losses = []
    for start in starts:
        window = stream[start : start + 17]
        log_p = model(window[None, :-1]).log_softmax(-1)[0]
        losses.append(-log_p[torch.arange(16), window[1:]].mean().item())
    inputs, targets = even_windows(stream, context=16, number=number)
    assert mean_loss(model, inputs, targets) == pytest.approx(np.mean(losses), rel=1e-5)
    assert not model.training
    assert next_token_loss(model(inputs), targets).item() == pytest.approx(np.mean(losses), rel=1e-5)

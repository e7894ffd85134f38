"""paperkit.training and the tiny GPT: the loop adds nothing to a hand-written one, and the model is what it says."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from paperkit.hardware import Hardware
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.training import matrices_only_decay, train, warmup_cosine

SIZES = {"vocabulary": 31, "width": 16, "layers": 2, "heads": 4, "context": 12}


def make_model(seed: int = 0, **changes) -> TinyGPT:
    torch.manual_seed(seed)
    return TinyGPT(**{**SIZES, **changes})


def next_token_loss(logits_BTV: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


def random_tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(SIZES["vocabulary"], shape, generator=torch.Generator().manual_seed(seed))


def make_batches(steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(tokens[:, :-1], tokens[:, 1:]) for tokens in (random_tokens(3, 9, seed=step) for step in range(steps))]


def parameters_of(model: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


# The loop


@pytest.mark.parametrize("max_gradient_norm", [math.inf, 0.5])
def test_the_loop_equals_a_hand_written_loop_bit_for_bit(max_gradient_norm):
    steps, lr, warmup_steps = 8, 0.01, 2
    ours, theirs = make_model(), make_model()
    adamw = torch.optim.AdamW(ours.parameters(), lr=lr)
    schedule = warmup_cosine(adamw, steps=steps, warmup_steps=warmup_steps)
    taken = list(
        train(
            ours, make_batches(steps), next_token_loss, adamw,
            schedule=schedule, max_gradient_norm=max_gradient_norm,
        )
    )  # fmt: skip

    adamw = torch.optim.AdamW(theirs.parameters(), lr=lr)
    losses, norms = [], []
    for step, (inputs, targets) in enumerate(make_batches(steps)):
        rate = (step + 1) / warmup_steps if step < warmup_steps else (1 + math.cos(math.pi * (step - 2) / 5)) / 2
        adamw.param_groups[0]["lr"] = lr * rate
        loss = next_token_loss(theirs(inputs), targets)
        gradients = torch.autograd.grad(loss, list(theirs.parameters()))
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        factor = min(1.0, (max_gradient_norm / (norm + 1e-6)).item())
        for parameter, gradient in zip(theirs.parameters(), gradients, strict=True):
            parameter.grad = gradient * factor
        adamw.step()
        losses.append(loss.item())
        norms.append(norm.item())

    assert [step.loss for step in taken] == losses
    assert [step.gradient_norm for step in taken] == (norms if max_gradient_norm < math.inf else [None] * steps)
    assert [step.number for step in taken] == list(range(1, steps + 1))
    assert torch.equal(parameters_of(ours), parameters_of(theirs))
    assert not torch.equal(parameters_of(ours), parameters_of(make_model()))
    assert max(norms) > 0.5  # the clipped case did clip


def test_a_step_is_taken_only_when_it_is_asked_for():
    model = make_model()
    before = parameters_of(model)
    steps = train(model, make_batches(3), next_token_loss, torch.optim.SGD(model.parameters(), lr=0.1))
    assert torch.equal(parameters_of(model), before)
    assert next(steps).number == 1
    after_one = parameters_of(model)
    assert not torch.equal(after_one, before)
    next(steps)
    assert not torch.equal(parameters_of(model), after_one)


def test_an_evaluation_between_two_steps_does_not_change_the_training():
    def run(evaluate: bool) -> tuple[torch.Tensor, list[bool]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        modes = []
        model.register_forward_hook(lambda module, *_: modes.append(module.training))
        batches = [(torch.ones(2, 4), torch.zeros(2, 1))] * 5
        for _ in train(model, batches, functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1)):
            if evaluate:
                model.eval()
        return parameters_of(model), modes

    (plain, _), (evaluated, modes) = run(evaluate=False), run(evaluate=True)
    assert modes == [True] * 5
    assert torch.equal(plain, evaluated)


def test_a_diverged_step_is_yielded_and_not_raised():
    model = nn.Linear(1, 1)
    batches = [(torch.full((1, 1), math.nan), torch.zeros(1, 1))] * 2
    steps = list(train(model, batches, functional.mse_loss, torch.optim.SGD(model.parameters(), lr=0.1)))
    assert [step.number for step in steps] == [1, 2]
    assert all(math.isnan(step.loss) for step in steps)


# Schedule


def learning_rates(*, steps: int, peak: float = 1.0, **options) -> list[float]:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = warmup_cosine(sgd, steps=steps, **options)
    rates = []
    for _ in range(steps):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        schedule.step()
    return rates


def test_the_rate_rises_linearly_to_the_peak_and_falls_as_half_a_cosine():
    rates = learning_rates(steps=15, warmup_steps=4, peak=2.0, final_fraction=0.1)
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[4] == pytest.approx(2.0)
    assert rates[9] == pytest.approx((2.0 + 0.2) / 2)  # the middle of the cosine is the mean of its ends
    assert rates[14] == pytest.approx(0.2)


@given(st.integers(3, 60), st.data())
@settings(deadline=None)
def test_the_rate_rises_once_falls_once_and_stays_between_its_bounds(steps, data):
    warmup_steps = data.draw(st.integers(0, steps - 2))
    final_fraction = data.draw(st.floats(0, 1))
    rates = learning_rates(steps=steps, warmup_steps=warmup_steps, final_fraction=final_fraction)
    rise, fall = rates[:warmup_steps], rates[warmup_steps:]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(final_fraction, abs=1e-12)
    assert all(0 <= rate <= 1 for rate in rates)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"steps": 10, "warmup_steps": 10}, "warmup_steps is 10; allowed: 0 to 8"),
        ({"steps": 10, "warmup_steps": -1}, "warmup_steps is -1; allowed: 0 to 8"),
        ({"steps": 10, "warmup_steps": 9}, "warmup_steps is 9; allowed: 0 to 8"),
        ({"steps": 0, "warmup_steps": 0}, "warmup_steps is 0"),
        ({"steps": 10, "warmup_steps": 1, "final_fraction": 1.5}, "final_fraction is 1.5; allowed: 0 to 1"),
        ({"steps": 10, "warmup_steps": 1, "final_fraction": -0.1}, "final_fraction is -0.1"),
        ({"steps": 10, "warmup_steps": 1, "final_fraction": math.nan}, "final_fraction is nan"),
    ],
)
def test_a_schedule_out_of_range_is_refused_with_what_is_allowed(options, told):
    with pytest.raises(ValueError, match=told):
        warmup_cosine(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), **options)


# Weight decay


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_is_in_one_decay_group_and_a_tied_matrix_once(tied):
    model = make_model(tied=tied)
    decaying, free = matrices_only_decay(model, 0.1)
    members = [id(parameter) for group in (decaying, free) for parameter in group["params"]]
    assert len(members) == len(set(members))
    assert set(members) == {id(parameter) for parameter in model.parameters()}
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert sum(parameter is model.token_embedding.weight for parameter in decaying["params"]) == 1


def test_matrices_and_embeddings_decay_and_biases_and_norm_gains_do_not():
    model = make_model()
    decaying, _ = matrices_only_decay(model, 0.1)
    names = {name for name, parameter in model.named_parameters() if any(parameter is p for p in decaying["params"])}
    expected = {name for name, _ in model.named_parameters() if name.endswith("weight") and "norm" not in name}
    assert names == expected
    assert "blocks.0.attention_norm.weight" not in names
    assert "position_embedding.weight" in names


# Tiny GPT


@pytest.mark.parametrize("position", range(1, SIZES["context"]))
def test_a_later_token_does_not_change_earlier_logits(position):
    model = make_model().eval()
    tokens = random_tokens(2, SIZES["context"])
    changed = tokens.clone()
    changed[:, position] = (changed[:, position] + 1) % SIZES["vocabulary"]
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :position], after[:, :position])
    assert not torch.allclose(before[:, position:], after[:, position:])


def test_an_earlier_token_and_the_order_of_tokens_do_change_later_logits():
    model = make_model().eval()
    tokens = torch.tensor([[1, 2, 3, 4]])
    for other in ([[5, 2, 3, 4]], [[2, 1, 3, 4]]):
        assert not torch.allclose(model(tokens)[:, -1], model(torch.tensor(other))[:, -1])


def test_one_sequence_of_a_batch_does_not_change_another():
    model = make_model().eval()
    tokens = random_tokens(3, 8)
    torch.testing.assert_close(model(tokens)[1], model(tokens[1:2])[0])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("vocabulary", [64, 512])
def test_the_initial_loss_is_near_the_logarithm_of_the_vocabulary(tied, vocabulary):
    losses = []
    for seed in range(4):
        model = make_model(seed, vocabulary=vocabulary, width=64, context=32, tied=tied)
        tokens = torch.randint(vocabulary, (16, 33), generator=torch.Generator().manual_seed(seed))
        losses.append(next_token_loss(model(tokens[:, :-1]), tokens[:, 1:]).item())
    # Logits of variance 1 cost up to half a nat; a head twice as large would cost two.
    assert math.log(vocabulary) - 0.1 < min(losses)
    assert max(losses) < math.log(vocabulary) + 0.7


@given(
    st.integers(2, 40), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.booleans()
)  # fmt: skip
@settings(deadline=None, max_examples=30)
def test_the_number_of_parameters_follows_its_formula(vocabulary, head_width, heads, layers, context, tied):
    width = head_width * heads
    model = TinyGPT(vocabulary=vocabulary, width=width, layers=layers, heads=heads, context=context, tied=tied)
    block = 12 * width**2 + 13 * width  # maps 3+1+4+4 D², their biases 3+1+4+1 D, two norms 2·2 D
    expected = (1 if tied else 2) * vocabulary * width + context * width + layers * block + 2 * width
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert model(torch.zeros(2, context, dtype=torch.int64)).shape == (2, context, vocabulary)


@pytest.mark.parametrize("tied", [False, True])
def test_the_gradient_reaches_every_parameter(tied):
    model = make_model(tied=tied)
    tokens = random_tokens(8, SIZES["context"] + 1)
    next_token_loss(model(tokens[:, :-1]), tokens[:, 1:]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vocabulary": 1}, "vocabulary is 1; it must be at least 2"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"layers": 0}, "layers is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"heads": -2}, "heads is -2"),
        ({"context": 0}, "context is 0"),
        ({"heads": 3}, "width 16 is not a multiple of heads 3"),
    ],
)
def test_a_size_out_of_range_is_refused_by_name(changes, told):
    with pytest.raises(ValueError, match=told):
        make_model(**changes)


def losses_and_weights(hardware: Hardware, batches: list) -> tuple[list[float], list[torch.Tensor]]:
    model = make_model().double()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = [step.loss for step in train(model, batches, next_token_loss, sgd, hardware=hardware)]
    return losses, [parameter.detach() for parameter in model.parameters()]


def test_a_batch_accumulated_from_unequal_parts_gives_the_loss_and_the_step_of_the_whole_batch():
    batches = [(random_tokens(7, 12, seed=seed), random_tokens(7, 12, seed=seed + 100)) for seed in range(3)]
    losses, weights = losses_and_weights(Hardware(), batches)
    for micro_batch in (3, 4):
        part_losses, part_weights = losses_and_weights(Hardware(micro_batch=micro_batch), batches)
        assert part_losses == pytest.approx(losses, rel=1e-12)
        torch.testing.assert_close(part_weights, weights, rtol=1e-10, atol=1e-14)
    # As many samples as there are, or more, is the whole batch, to the last bit.
    for micro_batch in (7, 100):
        same_losses, same_weights = losses_and_weights(Hardware(micro_batch=micro_batch), batches)
        assert same_losses == losses
        assert all(map(torch.equal, same_weights, weights))


def test_half_precision_rounds_products_and_leaves_weights_as_they_are():
    batches = [(random_tokens(4, 12), random_tokens(4, 12, seed=1))]
    found = {}
    for precision in ("float32", "bfloat16"):
        model = make_model()
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        (step,) = train(model, batches, next_token_loss, sgd, hardware=Hardware(precision=precision))
        found[precision] = step.loss
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=1e-2)

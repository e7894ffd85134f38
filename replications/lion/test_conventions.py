"""What `torch.optim` leads one to expect: of Lion in each implementation, and of each variant."""

import copy
import io
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from replications.lion.optimizer import Lion
from replications.lion.test_optimizer import (
    IMPLEMENTATIONS,
    assert_a_later_backward_pass_is_refused,
    bits,
    bits_of,
    follow,
    momenta,
    random_parameters,
    take_steps,
    with_gradient,
)
from replications.lion.variants import CautiousLion, CorrectedLion, LazyLion, Signum, Tiger

VARIANTS = {"Signum": Signum, "Tiger": Tiger, "CautiousLion": CautiousLion, "LazyLion": LazyLion}
CLASSES = {"Lion": Lion, **VARIANTS}
OPTIMIZERS = {**{f"Lion {name}": partial(Lion, **each) for name, each in IMPLEMENTATIONS.items()}, **VARIANTS}
WITH_ONE_BETA = (Signum, Tiger)
HALVING = (Tiger, CautiousLion)  # a single number moves by half of lr

every_class = pytest.mark.parametrize("make", CLASSES.values(), ids=CLASSES)
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def without(make, table: dict[str, Callable]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "make", [pytest.param(each, id=name) for name, each in table.items() if each != make]
    )


# --- What is refused -------------------------------------------------------------------------------------------


def message_of(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


WEIGHT = Parameter(torch.zeros(3))
SAME_AS_ADAMW = {
    "negative lr": (ValueError, [WEIGHT], {"lr": -1.0}),
    "lr of NaN": (ValueError, [WEIGHT], {"lr": math.nan}),
    "lr tensor of two": (ValueError, [WEIGHT], {"lr": torch.tensor([0.1, 0.2])}),
    "first beta of one": (ValueError, [WEIGHT], {"betas": (1.0, 0.9)}),
    "first beta negative": (ValueError, [WEIGHT], {"betas": (-0.1, 0.9)}),
    "second beta of one": (ValueError, [WEIGHT], {"betas": (0.9, 1.0)}),
    "second beta of NaN": (ValueError, [WEIGHT], {"betas": (0.9, math.nan)}),
    "negative weight decay": (ValueError, [WEIGHT], {"weight_decay": -0.1}),
    "weight decay of NaN": (ValueError, [WEIGHT], {"weight_decay": math.nan}),
    "fused and foreach": (RuntimeError, [WEIGHT], {"fused": True, "foreach": True}),
    "a tensor for params": (TypeError, WEIGHT, {}),
    "no parameters": (ValueError, [], {}),
}


@pytest.mark.parametrize(
    ("make", "case"),
    [
        pytest.param(make, case, id=f"{name}, {case}")
        for name, make in CLASSES.items()
        for case in SAME_AS_ADAMW
        if make is Lion or case != "fused and foreach"
    ],
)
def test_bad_arguments_raise_what_adamw_raises(make, case) -> None:
    kind, params, options = SAME_AS_ADAMW[case]
    if "betas" in options and make in WITH_ONE_BETA:
        value = next(beta for beta in options["betas"] if not 0 <= beta < 1)
        with pytest.raises(ValueError, match=rf"^Invalid beta value: {value}$"):
            make(params, lr=0.1, beta=value)
        return
    expected = message_of(kind, lambda: torch.optim.AdamW(params, **options))
    assert message_of(kind, lambda: make(params, **{"lr": 0.1, **options})) == expected


STEPS = r"^Invalid accumulation_steps value: {}; pass an integer of at least 1"
CENTER = r"^Invalid center value: {}; pass the value at which the weights start"
BAD_IN_A_GROUP = [
    *((make, {"lr": -1}, "^Invalid learning rate: -1$") for make in CLASSES.values()),
    *((make, {"weight_decay": -2}, "^Invalid weight_decay value: -2$") for make in CLASSES.values()),
    (Lion, {"fused": True, "foreach": True}, "cannot be `True` together"),
    *((Tiger, {"accumulation_steps": each}, STEPS.format(each)) for each in (0, -1, 2.0, math.nan, "4", None)),
    *((Tiger, {"center": each}, CENTER.format(each)) for each in (math.nan, math.inf)),
]


@pytest.mark.parametrize(("make", "options", "message"), BAD_IN_A_GROUP)
def test_bad_options_are_refused_of_all_parameters_of_a_group_and_of_one_that_is_added(make, options, message) -> None:
    bad = {"params": [Parameter(torch.zeros(1))], **options}
    optimizer = make([WEIGHT], lr=0.1)
    for call in (
        lambda: make([WEIGHT], **{"lr": 0.1, **options}),
        lambda: make([bad], lr=0.1),
        lambda: optimizer.add_param_group(bad),
    ):
        with pytest.raises((ValueError, RuntimeError), match=message):
            call()
    assert len(optimizer.param_groups) == 1


def test_what_is_no_group_and_a_state_dict_that_does_not_fit_raise_what_adamw_raises() -> None:
    params = random_parameters([(2,), (3,)])
    lion, adamw = Lion(params), torch.optim.AdamW(params)
    for kind, call in (
        (TypeError, lambda optimizer: optimizer.add_param_group([WEIGHT])),
        (ValueError, lambda optimizer: optimizer.load_state_dict(type(optimizer)(params[:1]).state_dict())),
    ):
        assert message_of(kind, lambda call=call: call(lion)) == message_of(kind, lambda call=call: call(adamw))


REFUSED_GRADIENTS = {
    **{f"sparse, {name}": (make, torch.eye(2).to_sparse(), "sparse gradients") for name, make in OPTIMIZERS.items()},
    **{f"complex, {name}": (make, torch.eye(2).cfloat(), "complex parameters") for name, make in VARIANTS.items()},
}


@pytest.mark.parametrize(("make", "gradient", "what"), REFUSED_GRADIENTS.values(), ids=REFUSED_GRADIENTS)
def test_a_sparse_gradient_and_a_complex_parameter_are_refused_before_anything_moves(make, gradient, what) -> None:
    first = with_gradient(torch.ones(2, 2), torch.ones(2, 2))
    optimizer = make([first, with_gradient(torch.ones(2, 2, dtype=gradient.dtype), gradient)], lr=0.1)
    with pytest.raises(RuntimeError, match=rf"^{type(optimizer).__name__} does not support {what}$"):
        optimizer.step()
    assert torch.equal(first, torch.ones(2, 2))


@every_class
@pytest.mark.parametrize("shape", [(2,), (3, 2)])
def test_a_momentum_of_another_shape_is_refused(make, shape) -> None:
    param = with_gradient(torch.ones(2, 3), torch.ones(2, 3))
    optimizer = make([param], lr=0.1)
    optimizer.state[param] = {"exp_avg": torch.zeros(shape)}
    with pytest.raises(RuntimeError, match="size of tensor"):
        optimizer.step()
    assert torch.equal(param, torch.ones(2, 3))


@without(Tiger, CLASSES)
def test_lr_times_weight_decay_above_one_warns_once(make) -> None:
    param = with_gradient(torch.full((2,), 4.0), torch.zeros(2))
    with pytest.warns(UserWarning, match=r"lr \* weight_decay = 1.0 \* 2.0 exceeds 1") as caught:
        optimizer = make([param], lr=1.0, weight_decay=2.0)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)
    for _ in range(3):  # a second warning would be an error
        optimizer.step()
    assert param.tolist() == [-4.0, -4.0]  # it flips signs


@every_class
def test_a_schedule_that_raises_lr_times_weight_decay_above_one_warns_but_for_tiger(make) -> None:
    optimizer = make([with_gradient(torch.ones(2), torch.ones(2))], lr=0.5, weight_decay=2.0)  # just 1: no warning
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.6
    if make is Tiger:
        optimizer.step()
        return
    with pytest.warns(UserWarning, match="exceeds 1"):
        optimizer.step()


# --- What a step does ------------------------------------------------------------------------------------------


@every_optimizer
def test_a_parameter_without_gradient_is_skipped_and_gets_no_state(make) -> None:
    idle, busy = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2, 2))
    optimizer = make([idle, busy], lr=0.1, weight_decay=0.5)
    assert optimizer.step() is None
    assert not optimizer.state
    busy.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(idle, torch.ones(2, 2))
    assert list(optimizer.state) == [busy]
    assert (busy != 1).all()


@without(Tiger, OPTIMIZERS)
def test_a_gradient_of_nan_makes_its_own_element_nan_and_no_other(make) -> None:
    param = Parameter(torch.ones(2, 2))
    optimizer = make([param], lr=0.25)
    for value in (*follow(optimizer, param, 2 * [torch.tensor([[math.nan, 1.0], [1.0, 1.0]])]), *momenta(optimizer)):
        assert value.isnan().tolist() == [[True, False], [False, False]]


@every_optimizer
def test_the_closure_runs_with_gradients_and_its_loss_comes_back(make) -> None:
    param = Parameter(torch.tensor([3.0]))
    optimizer = make([param], lr=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 9.0
        assert not torch.is_grad_enabled()
    assert param.item() == (2.75 if make in HALVING else 2.5)


@every_optimizer
def test_each_group_uses_its_own_options_and_a_tensor_serves_as_lr(make) -> None:
    lr = torch.tensor(0.25)
    first, second, third = (with_gradient(torch.ones(1), torch.ones(1)) for _ in range(3))
    optimizer = make([{"params": [first]}, {"params": [second], "lr": lr}], lr=0.5, weight_decay=0.0)
    optimizer.add_param_group({"params": [third], "weight_decay": 0.5, "maximize": True})
    optimizer.step()
    lr.fill_(0.0)
    optimizer.step()
    factor = 0.5 if make in HALVING else 1.0
    assert [first.item(), second.item()] == [1 - 2 * 0.5 * factor, 1 - 0.25 * factor]
    if optimizer.defaults.get("maximize") is False:  # an option of Lion
        assert third.item() == (0.75 + 0.5) * 0.75 + 0.5


@every_optimizer
def test_a_backward_pass_through_weights_that_a_step_changed_is_an_error(make) -> None:
    assert_a_later_backward_pass_is_refused(make)


@every_optimizer
def test_empty_and_zero_dimensional_tensors_and_memory_formats_survive(make) -> None:
    channels_last = torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    params = [Parameter(each) for each in (torch.tensor(1.0), torch.empty(0), torch.empty(3, 0, 2), channels_last)]
    optimizer = make(params, lr=0.25)
    take_steps(optimizer, 2)
    assert [param.shape for param in params] == [(), (0,), (3, 0, 2), (2, 3, 4, 5)]
    assert params[3].stride() == momenta(optimizer)[3].stride() == channels_last.stride()
    assert all(param.isfinite().all() for param in params)


@without(OPTIMIZERS["Lion fused"], OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_parameters_keep_their_dtype_and_move(make, dtype) -> None:
    params = random_parameters(dtype=dtype)
    optimizer = make(params, lr=0.1)
    take_steps(optimizer, 3, scale=1e-2)
    assert {tensor.dtype for tensor in (*params, *momenta(optimizer))} == {dtype}
    assert bits(params) != bits(random_parameters(dtype=dtype))
    assert all(param.isfinite().all() for param in params)


# --- State and names -------------------------------------------------------------------------------------------


def by_a_file(make, params, optimizer):
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = [Parameter(param.detach().clone()) for param in params]
    other = make(resumed, lr=1.0)
    other.load_state_dict(torch.load(file, weights_only=True))
    return resumed, other


def by_a_copy(make, params, optimizer):
    return copy.deepcopy((params, optimizer))


ACCUMULATING = {**OPTIMIZERS, "Corrected": CorrectedLion}
ACCUMULATING["Tiger of 4"] = partial(Tiger, accumulation_steps=4)  # 5 and 6 steps end within four


@pytest.mark.parametrize("make", ACCUMULATING.values(), ids=ACCUMULATING)
@pytest.mark.parametrize("num_steps", [5, 6])
@pytest.mark.parametrize("go_on", [by_a_file, by_a_copy])
def test_a_saved_and_a_copied_optimizer_go_on_bit_for_bit(make, num_steps, go_on) -> None:
    params = random_parameters()
    optimizer = make(params, lr=1e-2, weight_decay=0.1)
    take_steps(optimizer, num_steps, seed=5)
    resumed, other = go_on(make, params, optimizer)
    assert resumed[0] is not params[0]
    assert other.param_groups[0]["lr"] == 1e-2
    for each in (optimizer, other):
        take_steps(each, 10, seed=6)
    assert bits_of(resumed, other) == bits_of(params, optimizer)

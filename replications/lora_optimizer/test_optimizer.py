"""What LoRA as an optimizer computes, against peft and backpropagation, and what every optimizer promises."""

import contextlib
import copy
import io
import math
import re
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_

from replications.lora_optimizer.factors import initial_factors, linear_weights, peft_state_dict, project_gradient
from replications.lora_optimizer.optimizer import LoRAOptimizer

BASES: dict[str, tuple[type[torch.optim.Optimizer], dict]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05}),
    "momentum": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    "adamw": (torch.optim.AdamW, {"lr": 3e-3, "weight_decay": 0.01}),
}
every_base = pytest.mark.parametrize("base", BASES)
every_init = pytest.mark.parametrize("init", ["B0", "A0", "both", "ga"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    """Two matrices, neither of them square."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(12, 20, dtype=dtype), nn.Linear(20, 7, dtype=dtype)
        with torch.no_grad():
            for param in self.parameters():
                param.copy_((torch.rand(param.shape, generator=generator(len(param))) - 0.5) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(x)))


def batches(num: int, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    drawn = torch.randn(num, 16, 19, generator=generator(5)).to(dtype)
    return [(batch[:, :12], batch[:, 12:]) for batch in drawn]


def lora(net: nn.Module, base: str = "adamw", **options) -> LoRAOptimizer:
    make, base_options = BASES[base]
    return LoRAOptimizer(linear_weights(net), make, **{"r": 3, "generator": generator(1), **base_options, **options})


def train(
    net: nn.Module, optimizer: torch.optim.Optimizer, num: int = 20, before_step: Callable = lambda: None
) -> list:
    losses = []
    for x, y in batches(num, next(net.parameters()).dtype):
        optimizer.zero_grad()
        loss = mse_loss(net(x), y)
        loss.backward()
        before_step()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained(base: str = "adamw", **options) -> tuple[Net, LoRAOptimizer]:
    net = Net()
    optimizer = lora(net, base, **options)
    train(net, optimizer)
    return net, optimizer


def weights(net: nn.Module) -> list[Tensor]:
    return [param.detach() for _, param in linear_weights(net)]


def furthest(left: list[Tensor], right: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(left, right, strict=True))


# --- The same numbers as a network with factors -----------------------------------------------------------------


def structural(net: nn.Module, r: int, alpha: float, *, rslora: bool = False) -> nn.Module:
    config = LoraConfig(r=r, lora_alpha=alpha, target_modules=["up", "down"], use_rslora=rslora)
    return get_peft_model(copy.deepcopy(net), config)


def with_deltas(peft_model: nn.Module) -> list[Tensor]:
    layers = [peft_model.base_model.model.up, peft_model.base_model.model.down]
    return [(layer.base_layer.weight + layer.get_delta_weight("default")).detach() for layer in layers]


def beside_peft(
    base, *, r=4, rslora=False, init="B0", dtype=torch.float64, max_norm=None, ratio=1.0, wrong=1.0, num=100
):
    """Largest differences of weights and of losses on the way of ours and of peft's, from one start."""
    net, alpha = Net(dtype), 8.0
    make, options = BASES[base]
    peft_model = structural(net, r, alpha, rslora=rslora)
    scale = alpha / (math.sqrt(r) if rslora else r)
    net(torch.ones(1, 12, dtype=dtype)).sin().sum().backward()  # for "ga"
    ours = lora(net, base, r=r, scale=scale * wrong, init=init, lr_ratio=ratio)
    layers = [peft_model.base_model.model.get_submodule(name) for name in ("up", "down")]
    with torch.no_grad():
        for state, layer in zip(ours.state.values(), layers, strict=True):
            layer.lora_A["default"].weight.copy_(state["A"])
            layer.lora_B["default"].weight.copy_(state["B"])
            layer.base_layer.weight.sub_(scale * state["B"] @ state["A"])
    of_A, of_B = ([layer.get_submodule(f"lora_{letter}.default").weight for layer in layers] for letter in "AB")
    theirs = make([{"params": of_A}, {"params": of_B, "lr": options["lr"] * ratio}], **options)
    difference_of_weights = difference_of_losses = 0.0
    for place, (x, y) in enumerate(batches(num, dtype)):
        losses = []
        for model, optimizer in ((net, ours), (peft_model, theirs)):
            optimizer.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()
            losses.append(loss.item())
        if max_norm:
            norms = [ours.clip_factors(max_norm), clip_grad_norm_([*of_A, *of_B], max_norm)]
            torch.testing.assert_close(*norms)
        for optimizer in (ours, theirs):
            optimizer.step()
        if place % 10 == 9:
            difference_of_weights = max(difference_of_weights, furthest(weights(net), with_deltas(peft_model)))
        difference_of_losses = max(difference_of_losses, abs(losses[0] - losses[1]))
    return difference_of_weights, difference_of_losses


@every_base
@pytest.mark.parametrize(("r", "rslora"), [(1, False), (2, True), (4, False), (7, True)])
def test_100_steps_in_float64_equal_those_of_peft(base, r, rslora) -> None:
    assert max(beside_peft(base, r=r, rslora=rslora)) <= 1e-12


@every_base
@every_init
def test_steps_from_every_start_equal_those_of_peft(init, base) -> None:
    assert max(beside_peft(base, r=3, init=init, num=20)) <= 1e-12


def test_100_steps_of_sgd_in_float32_equal_those_of_peft() -> None:
    of_weights, of_losses = beside_peft("sgd", dtype=torch.float32)
    assert of_weights <= 1e-6
    assert of_losses <= 1e-5


@every_base
def test_clipped_factors_and_a_ratio_of_rates_equal_pefts(base) -> None:
    assert max(beside_peft(base, max_norm=0.05, ratio=4.0, num=30)) <= 1e-12


def test_a_wrong_scale_shows() -> None:
    assert max(beside_peft("adamw", wrong=1.01, num=30)) > 1e-4


@pytest.mark.parametrize("init", ["B0", "both"])
@every_base
def test_incremental_steps_and_released_gradients_change_nothing(init, base) -> None:
    expected = weights(trained(base, init=init)[0])
    for incremental, release in ((True, False), (False, True), (True, True)):
        net, _ = trained(base, init=init, incremental=incremental, release_gradients=release)
        assert furthest(weights(net), expected) <= 1e-13


@pytest.mark.parametrize("release", [False, True])
def test_gradients_accumulated_over_two_backward_passes_are_those_of_their_sum(release) -> None:
    found = []
    for num_passes in (1, 2):
        net = Net()
        optimizer = lora(net, "adamw", release_gradients=release)
        for x, y in batches(10):
            for part in range(num_passes):
                loss = mse_loss(net(x[part::num_passes]), y[part::num_passes]) / num_passes
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        found.append(weights(net))
    assert furthest(*found) <= 1e-13


# --- Starts, ranks, factors ---------------------------------------------------------------------------------------


@every_init
@pytest.mark.parametrize("incremental", [False, True])
def test_what_was_learned_has_the_rank_of_its_factors_and_is_their_product(init, incremental) -> None:
    net = Net()
    mse_loss(net(batches(1)[0][0]), batches(1)[0][1]).backward()
    start, optimizer = weights(copy.deepcopy(net)), lora(net, init=init, scale=0.5, incremental=incremental)
    train(net, optimizer)
    rank = 6 if init in ("both", "ga") else 3
    for w0, w, (name, (A, B, scale)) in zip(start, weights(net), optimizer.factors().items(), strict=True):
        assert name in ("up.weight", "down.weight")
        assert (A.shape[0], B.shape[1], scale) == (rank, rank, 0.5)
        assert (w - w0 - scale * B @ A).abs().max() <= 1e-14
        assert torch.linalg.matrix_rank(w - w0, tol=1e-10) == rank


def test_a_rate_of_zero_leaves_the_weights_as_they_were() -> None:
    for init, tolerance in (("B0", 0.0), ("A0", 0.0), ("both", 1e-7)):
        net, start = Net(torch.float32), weights(Net(torch.float32))
        train(net, lora(net, init=init, lr=0.0), num=2)
        assert furthest(weights(net), start) <= tolerance


def test_the_gradient_aligned_start_steps_along_the_best_approximation_of_twice_the_rank() -> None:
    gradient = torch.randn(20, 12, generator=generator(2), dtype=torch.float64)
    A, B = initial_factors("ga", (20, 12), 3, gradient=gradient)
    of_A, of_B = project_gradient(gradient, A, B)
    singular_values = torch.linalg.svdvals(gradient)
    torch.testing.assert_close((gradient - B @ of_A - of_B @ A).norm(), singular_values[6:].norm())


@pytest.mark.parametrize(("init", "rank"), [("B0", 3), ("both", 6)])
def test_factors_load_into_peft_on_the_weights_before_training(init, rank) -> None:
    net = Net()
    peft_model = structural(net, rank, alpha=2.0 * rank)
    optimizer = lora(net, init=init, scale=2.0)
    train(net, optimizer)
    result = set_peft_model_state_dict(peft_model, peft_state_dict(optimizer.factors()))
    assert not result.unexpected_keys
    assert furthest(weights(net), with_deltas(peft_model)) <= 1e-14
    merged = peft_model.merge_and_unload()
    x = batches(1)[0][0]
    torch.testing.assert_close(merged(x), net(x))


def test_groups_have_ranks_scales_and_decays_of_their_own() -> None:
    net = Net()
    groups = [
        {"params": [net.up.weight], "r": 2, "weight_decay": 0.5},
        {"params": [net.down.weight], "r": 5, "scale": 3.0},
        {"params": [net.up.bias, net.down.bias]},
    ]
    optimizer = LoRAOptimizer(groups, r=1, alpha=4.0)
    train(net, optimizer)
    found = optimizer.factors()
    assert [(key, len(factors.A), factors.scale) for key, factors in found.items()] == [("0", 2, 2.0), ("1", 5, 3.0)]
    assert [group["weight_decay"] for group in optimizer.base.param_groups] == [0.5, 0.5, 0.01, 0.01]


def test_moments_are_two_numbers_for_each_of_the_factors() -> None:
    net, optimizer = trained(r=3)
    moments = [s[key].numel() for s in optimizer.base.state.values() for key in ("exp_avg", "exp_avg_sq")]
    assert sum(moments) == sum(2 * 3 * sum(param.shape) for _, param in linear_weights(net))


def test_a_tied_weight_has_one_pair_of_factors_and_what_an_embedding_shares_has_none() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 9), nn.Embedding(9, 6))
    net[2].weight, net[3].weight = net[0].weight, net[4].weight
    assert [name for name, _ in linear_weights(net)] == ["0.weight"]
    optimizer = lora(net, release_gradients=True)
    passes = nn.Sequential(*net[:3])
    passes(torch.ones(2, 6)).sum().backward()
    assert len(optimizer.state) == 1
    A, gradient = optimizer.state[net[0].weight]["A"], optimizer.state[net[0].weight]["B"].grad
    expected = torch.autograd.grad(passes(torch.ones(2, 6)).sum(), net[0].weight)[0] @ A.T
    torch.testing.assert_close(gradient, expected)


def test_a_frozen_input_factor_stays_and_has_no_moments() -> None:
    net = Net()
    optimizer = lora(net, train_A=False)
    start = [state["A"].clone() for state in optimizer.state.values()]
    train(net, optimizer)
    assert all(torch.equal(state["A"], A) for state, A in zip(optimizer.state.values(), start, strict=True))
    assert [len(group["params"]) for group in optimizer.base.param_groups] == [2]


def test_a_restart_goes_on_from_the_weights_with_a_new_start_and_lifts_the_limit_of_the_rank() -> None:
    net, start = Net(), weights(Net())
    optimizer = lora(net, init="both")
    train(net, optimizer)
    before = [w.clone() for w in weights(net)]
    optimizer.restart()
    assert all(factors.B.norm() > 0 for factors in optimizer.factors().values())
    train(net, optimizer, num=1)
    assert furthest(weights(net), before) < 0.1
    train(net, optimizer, num=20)
    assert torch.linalg.matrix_rank(weights(net)[0] - start[0], tol=1e-10) == 12


# --- What every optimizer promises --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", [{"init": "both"}, {"incremental": True}, {"others": "base"}], ids=str)
@every_base
def test_a_saved_optimizer_goes_on_with_the_same_bits(dtype, options, base) -> None:
    net, file = Net(dtype), io.BytesIO()
    optimizer = lora(net, base, **options)
    train(net, optimizer, num=3)
    torch.save((net.state_dict(), optimizer.state_dict()), file)
    train(net, optimizer, num=3)
    file.seek(0)
    saved_net, saved_optimizer = torch.load(file, weights_only=True)
    other = Net(dtype)
    resumed = lora(other, base, init="A0", others=options.get("others", "frozen"))  # the rest is in the state
    other.load_state_dict(saved_net)
    resumed.load_state_dict(saved_optimizer)
    train(other, resumed, num=3)
    assert all(map(torch.equal, net.parameters(), other.parameters()))
    for mine, its in zip(optimizer.state.values(), resumed.state.values(), strict=True):
        assert {key: value.dtype for key, value in mine.items()} == {key: value.dtype for key, value in its.items()}
        assert all(torch.equal(mine[key], its[key]) for key in mine)


def test_a_state_of_another_rank_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rank r=2, those of this optimizer r=3"):
        lora(Net()).load_state_dict(lora(Net(), r=2).state_dict())


def test_a_scheduler_reaches_both_factors() -> None:
    net = Net()
    optimizer = lora(net, lr_ratio=16.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    for _ in range(4):
        train(net, optimizer, num=1)
        lr, betas = optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]
        assert [group["lr"] for group in optimizer.base.param_groups] == [lr, 16 * lr]
        assert all(group["betas"] == betas for group in optimizer.base.param_groups)
        scheduler.step()


def test_released_gradients_are_never_more_than_one_layers() -> None:
    net, held = Net(), []
    named = linear_weights(net)
    for _, param in named:  # before ours
        param.register_post_accumulate_grad_hook(
            lambda _: held.append(sum(p.grad.nbytes for _, p in named if p.grad is not None))
        )
    optimizer = lora(net, release_gradients=True)
    x, y = batches(1)[0]
    mse_loss(net(x), y).backward()
    assert sorted(held) == sorted(param.nbytes for _, param in named)
    assert all(param.grad is None for _, param in named)
    optimizer.zero_grad()
    start = [w.clone() for w in weights(net)]
    optimizer.step()  # which has no gradient left
    assert all(map(torch.equal, weights(net), start))


def test_a_scaler_is_refused_where_it_finds_no_gradients_and_works_elsewhere() -> None:
    for release in (False, True):
        net = Net(torch.float32)
        optimizer, scaler = lora(net, release_gradients=release), torch.amp.GradScaler("cpu")
        scaler.scale(mse_loss(net(torch.ones(2, 12)), torch.ones(2, 7))).backward()
        with pytest.raises(RuntimeError, match="GradScaler") if release else contextlib.nullcontext():
            scaler.step(optimizer)


def test_merging_frees_all_but_the_weights() -> None:
    net, optimizer = trained(release_gradients=True)
    before = [w.clone() for w in weights(net)]
    optimizer.merge()
    assert all(map(torch.equal, weights(net), before))
    assert not optimizer.state
    assert not optimizer.base.state
    mse_loss(net(batches(1)[0][0]), batches(1)[0][1]).backward()
    assert net.up.weight.grad is not None
    with pytest.raises(RuntimeError, match="merge"):
        optimizer.step()


def test_a_weight_changed_outside_is_refused_or_taken_into_the_start() -> None:
    for strict, incremental in ((True, False), (False, False), (False, True)):
        net = Net()
        optimizer = lora(net, init="both", strict=strict, incremental=incremental)
        train(net, optimizer, num=3)
        with torch.no_grad():
            net.up.weight.add_(1.0)
        if strict:
            with pytest.raises(RuntimeError, match="changed outside"):
                train(net, optimizer, num=1)
            continue
        before = [w.clone() for w in weights(net)]
        optimizer.param_groups[0]["lr"] = 0.0
        train(net, optimizer, num=1)
        assert furthest(weights(net), before) <= 1e-14


def test_a_weight_without_a_gradient_is_left_alone() -> None:
    net = Net()
    optimizer = lora(net)
    train(net, optimizer, num=2)
    before = {key: value.clone() for key, value in optimizer.state[net.up.weight].items()}
    optimizer.zero_grad()
    net.down(torch.ones(1, 20, dtype=torch.float64)).sum().backward()
    optimizer.step()
    assert all(torch.equal(optimizer.state[net.up.weight][key], value) for key, value in before.items())


def test_what_is_no_matrix_is_frozen_or_the_bases() -> None:
    for others in ("frozen", "base"):
        net, start = Net(), Net()
        train(net, LoRAOptimizer(net.parameters(), torch.optim.SGD, lr=0.1, others=others, r=2))
        assert torch.equal(net.up.bias, start.up.bias) == (others == "frozen")
        assert not torch.equal(net.up.weight, start.up.weight)


def test_a_closure_is_evaluated_and_a_factory_may_be_any_function() -> None:
    net, (x, y) = Net(), batches(1)[0]
    # RMSprop has an alpha of its own.
    optimizer = LoRAOptimizer(net.parameters(), lambda params: torch.optim.RMSprop(params, alpha=0.5), r=2, alpha=4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mse_loss(net(x), y)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert losses[2] < losses[0]
    assert (optimizer.param_groups[0]["lr"], optimizer.base.param_groups[0]["alpha"]) == (0.01, 0.5)


def test_bfloat16_weights_have_factors_in_float32_and_are_rounded_once() -> None:
    net, start = Net(torch.bfloat16), weights(Net(torch.bfloat16))
    optimizer = lora(net)
    train(net, optimizer, num=5)
    for w0, w, (A, B, scale) in zip(start, weights(net), optimizer.factors().values(), strict=True):
        assert A.dtype == B.dtype == torch.float32
        assert torch.equal(w, torch.addmm(w0.float(), B, A, alpha=scale).bfloat16())


def test_a_compiled_network_and_a_compiled_step_do_the_same() -> None:
    expected, net = weights(trained()[0]), Net()
    optimizer = lora(net)
    optimizer.step = torch.compile(optimizer.step, backend="eager")
    train(torch.compile(net, backend="eager"), optimizer)
    assert furthest(weights(net), expected) <= 1e-12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_numbers_of_the_cpu() -> None:
    expected, net = weights(trained()[0]), Net().cuda()
    optimizer = lora(net)
    for x, y in batches(20):
        optimizer.zero_grad()
        mse_loss(net(x.cuda()), y.cuda()).backward()
        optimizer.step()
    assert furthest([w.cpu() for w in weights(net)], expected) <= 1e-11


# --- Bad input ------------------------------------------------------------------------------------------------------

NAN = float("nan")
BAD_OPTIONS = {
    "`r` should be a positive integer value but the value passed is 0": {"r": 0},
    "`r` should be a positive integer value but the value passed is 1.5": {"r": 1.5},
    "Invalid alpha value: -1": {"alpha": -1},
    "Invalid alpha value: nan": {"alpha": NAN},
    "Invalid scale value: 0.0": {"scale": 0.0},
    "give alpha or scale, not both: alpha=1, scale=2.0": {"alpha": 1, "scale": 2.0},
    "Invalid learning rate: -0.1": {"lr": -0.1},
    "Invalid learning rate: nan": {"lr": NAN, "base": torch.optim.SGD},
    "Invalid momentum value: nan": {"momentum": NAN, "base": torch.optim.SGD},
    "Invalid weight_decay value: nan": {"weight_decay": NAN},
    "Invalid beta parameter at index 1: 1.0": {"betas": (0.9, 1.0)},
    "Invalid lr_ratio value: nan": {"lr_ratio": NAN},
    "Unknown initialization init='C0'": {"init": "C0", "r": 2},
    "init='ga' needs 2r <= min(n, m), got r=4 for a matrix of shape (20, 7)": {"init": "ga", "r": 4},
    "Unknown others='all'": {"others": "all"},
}


@pytest.mark.parametrize("message", BAD_OPTIONS)
def test_options_outside_their_range_are_refused_in_the_words_of_torch_and_peft(message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LoRAOptimizer([nn.Parameter(torch.zeros(20, 7))], **BAD_OPTIONS[message])


@pytest.mark.parametrize(
    ("tensors", "options", "error", "message"),
    [
        ([{"params": [torch.zeros(2, 2), torch.zeros(3)], "r": 2}], {}, ValueError, r"parameter 1 .* shape \(3,\)"),
        ([torch.zeros(2, 2, dtype=torch.int64)], {}, TypeError, "int64"),
        ([torch.zeros(2, 2, dtype=torch.complex64)], {}, TypeError, "complex64"),
        ([torch.zeros(8, 8)], {"init": "ga", "r": 2}, RuntimeError, r"call backward\(\)"),
        (torch.zeros(2, 2), {}, TypeError, "iterable"),
        ([], {}, ValueError, "empty"),
    ],
)
def test_tensors_that_cannot_have_factors_are_refused(tensors, options, error, message) -> None:
    with pytest.raises(error, match=message):
        LoRAOptimizer(tensors, **options)


def test_a_rank_above_that_of_the_matrix_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"r=3 exceeds min\(n, m\) of a matrix of shape \(5, 2\)"):
        LoRAOptimizer([nn.Parameter(torch.zeros(5, 2))], r=3)


def test_a_sparse_gradient_is_refused() -> None:
    embedding = nn.Embedding(5, 4, sparse=True)
    optimizer = LoRAOptimizer(embedding.parameters(), r=2)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="LoRAOptimizer does not support sparse gradients"):
        optimizer.step()

"""What LoRA as an optimizer computes, against peft and backpropagation, and what every optimizer here promises."""

import contextlib
import copy
import io
import itertools
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW

from replications.lora_optimizer.optimizer import LoRAOptimizer, linear_weights, peft_state_dict
from replications.lora_optimizer.reference import drawn
from replications.lora_optimizer.variants import AdditiveLoRA, GaLore, ResampledProjection

BASES: dict[str, tuple[type[torch.optim.Optimizer], dict]] = {
    "sgd": (SGD, {"lr": 0.05}),
    "momentum": (SGD, {"lr": 0.01, "momentum": 0.9}),
    "adamw": (AdamW, {"lr": 3e-3, "weight_decay": 0.01}),
}
every_base = pytest.mark.parametrize("base", BASES)


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Two matrices, neither of them square."""
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(up=nn.Linear(12, 20), tanh=nn.Tanh(), down=nn.Linear(20, 8))).to(dtype)


def batches(num: int) -> list[tuple[Tensor, Tensor]]:
    drawn = torch.randn(num, 16, 20, generator=torch.Generator().manual_seed(5)).double()
    return [(batch[:, :12], batch[:, 12:]) for batch in drawn]


def lora(net: nn.Module, base: str = "adamw", *, kind=LoRAOptimizer, seed: int = 1, **options) -> LoRAOptimizer:
    make, base_options = BASES[base]
    tensors = net.named_parameters() if options.get("others") == "base" else linear_weights(net)
    generator = torch.Generator().manual_seed(seed)
    return kind(tensors, make, **{"r": 3, "generator": generator, **base_options, **options})


def train(net, optimizer, num: int = 20, *, clip: Callable = float, parts: int = 1) -> list[float]:
    """Take steps, each from a batch in so many parts; return every loss and what `clip` does."""
    found, like = [], next(net.parameters())
    for x, y in batches(num):
        optimizer.zero_grad()
        for part in range(parts):
            loss = mse_loss(net(x[part::parts].to(like)), y[part::parts].to(like)) / parts
            loss.backward()
        found += [loss.item(), float(clip())]
        optimizer.step()
    return found


def trained(base: str = "adamw", parts: int = 1, **options) -> tuple[nn.Module, LoRAOptimizer]:
    net = network()
    net(torch.ones(1, 12).double()).sin().sum().backward()  # for "ga"
    optimizer = lora(net, base, **options)
    train(net, optimizer, parts=parts)
    return net, optimizer


def weights(net: nn.Module) -> list[Tensor]:
    return [param.detach().clone() for _, param in linear_weights(net)]


def furthest(left: list[Tensor], right: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(left, right, strict=True))


def structural(net: nn.Module, r: int, alpha: float, *, rslora: bool = False) -> nn.Module:
    config = LoraConfig(r=r, lora_alpha=alpha, target_modules=["up", "down"], use_rslora=rslora)
    return get_peft_model(copy.deepcopy(net), config)


def beside_peft(
    base, *, r=4, rslora=False, init="B0", dtype=torch.float64, max_norm=None, ratio=1.0, wrong=1.0, num=100
):
    """Largest differences of ours and peft's from one start: of the weights, and of losses and norms on the way."""
    net, (make, options) = network(dtype), BASES[base]
    peft_model = structural(net, r, alpha=8.0, rslora=rslora)
    net(torch.ones(1, 12, dtype=dtype)).sin().sum().backward()  # for "ga"
    scale = {"scale": wrong * 8.0 / math.sqrt(r)} if rslora else {"alpha": wrong * 8.0}
    ours = lora(net, base, r=r, init=init, lr_ratio=ratio, **scale)
    layers = [peft_model.get_submodule(f"base_model.model.{name}") for name in ("up", "down")]
    of_A, of_B = ([layer.get_submodule(f"lora_{letter}.default").weight for layer in layers] for letter in "AB")
    with torch.no_grad():
        for state, layer, A, B in zip(ours.state.values(), layers, of_A, of_B, strict=True):
            A.copy_(state["A"])
            B.copy_(state["B"])
            layer.base_layer.weight.sub_(layer.get_delta_weight("default"))
    theirs = make([{"params": of_A}, {"params": of_B, "lr": options["lr"] * ratio}], **options)
    clips = float, float
    if max_norm:
        clips = partial(ours.clip_factors, max_norm), partial(clip_grad_norm_, [*of_A, *of_B], max_norm)
    numbers = train(net, ours, num, clip=clips[0]), train(peft_model, theirs, num, clip=clips[1])
    of_weights = furthest(weights(net), weights(peft_model.merge_and_unload()))
    return of_weights, max(abs(a - b) for a, b in zip(*numbers, strict=True))


@every_base
@pytest.mark.parametrize(
    "options",
    [
        *({"r": r, "rslora": r in (2, 7)} for r in (1, 2, 4, 7)),
        *({"r": 3, "init": init, "num": 20} for init in ("A0", "both", "ga")),
        {"max_norm": 0.05, "ratio": 4.0, "num": 30},
    ],
    ids=str,
)
def test_steps_in_float64_equal_those_of_peft(options, base) -> None:
    assert max(beside_peft(base, **options)) <= 1e-12


@pytest.mark.parametrize("init", ["B0", "A0", "both", "ga"])
def test_a_fused_base_takes_the_same_steps(init) -> None:
    plain, fused = (trained(init=init, fused=fused)[0] for fused in (False, True))
    assert furthest(weights(plain), weights(fused)) <= 1e-12


def test_steps_of_sgd_in_float32_equal_those_of_peft_and_a_wrong_scale_shows() -> None:
    of_weights, of_losses = beside_peft("sgd", dtype=torch.float32)
    assert of_weights <= 1e-6
    assert of_losses <= 1e-5
    assert max(beside_peft("adamw", wrong=1.01, num=30)) > 1e-4


@pytest.mark.parametrize("init", ["B0", "both"])
@every_base
def test_incremental_steps_released_gradients_and_those_of_two_backward_passes_change_nothing(init, base) -> None:
    expected = weights(trained(base, init=init)[0])
    for parts, incremental, release in itertools.product((1, 2), (False, True), (False, True)):
        net, _ = trained(base, parts, init=init, incremental=incremental, release_gradients=release)
        assert furthest(weights(net), expected) <= 1e-13


@pytest.mark.parametrize(("init", "rank"), [("B0", 3), ("A0", 3), ("both", 6), ("ga", 6)])
@pytest.mark.parametrize("incremental", [False, True])
def test_what_was_learned_is_the_product_of_its_factors_and_loads_into_peft(init, rank, incremental) -> None:
    net, (x, y) = network(), batches(1)[0]
    start, peft_model = weights(net), structural(net, rank, alpha=0.5 * rank)
    mse_loss(net(x), y).backward()
    optimizer = lora(net, init=init, scale=0.5, incremental=incremental)
    train(net, optimizer)
    found = optimizer.factors()
    assert list(found) == ["up.weight", "down.weight"]
    for w0, w, (A, B, scale) in zip(start, weights(net), found.values(), strict=True):
        assert (A.shape[0], B.shape[1], scale) == (rank, rank, 0.5)
        assert (w - w0 - scale * B @ A).abs().max() <= 1e-14
        assert torch.linalg.matrix_rank(w - w0, tol=1e-10) == rank
    assert not set_peft_model_state_dict(peft_model, peft_state_dict(found)).unexpected_keys
    merged = peft_model.merge_and_unload()
    assert furthest(weights(net), weights(merged)) <= 1e-14
    torch.testing.assert_close(merged(x), net(x))


@pytest.mark.parametrize("others", ["frozen", "base"])
def test_groups_have_options_of_their_own_and_what_is_no_matrix_is_frozen_or_the_bases(others) -> None:
    net = network()
    groups = [
        {"params": [net.up.weight], "r": 2, "weight_decay": 0.5},
        {"params": [net.down.weight], "r": 5, "scale": 3.0},
        {"params": [net.up.bias, net.down.bias]},
    ]
    optimizer = LoRAOptimizer(groups, partial(torch.optim.RMSprop, alpha=0.5), r=1, alpha=4.0, others=others)
    train(net, optimizer)
    found = optimizer.factors()
    assert [(key, len(factors.A), factors.scale) for key, factors in found.items()] == [("0", 2, 2.0), ("1", 5, 3.0)]
    options = [(of["lr"], of["alpha"], of["weight_decay"]) for of in optimizer.base.param_groups]
    assert options == [(0.01, 0.5, decay) for decay in (0.5, 0.5, 0, 0, 0)[: 5 if others == "base" else 4]]
    assert torch.equal(net.up.bias, network().up.bias) == (others == "frozen")


@pytest.mark.parametrize("train_A", [True, False])
def test_moments_are_two_numbers_for_each_of_the_trained_factors_and_a_frozen_one_stays(train_A) -> None:
    (net, optimizer), start = trained(train_A=train_A), lora(network()).state.values()
    moments = [s[key].numel() for s in optimizer.base.state.values() for key in ("exp_avg", "exp_avg_sq")]
    assert sum(moments) == sum(2 * 3 * (len(w) + train_A * w.shape[1]) for w in weights(net))
    assert len(optimizer.base.param_groups) == 1 + train_A
    for before, after in zip(start, optimizer.state.values(), strict=True):
        assert torch.equal(before["A"], after["A"]) != train_A


def test_a_tied_weight_has_one_pair_of_factors_and_what_an_embedding_shares_has_none() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 9), nn.Embedding(9, 6))
    net[2].weight, net[3].weight = net[0].weight, net[4].weight
    assert [name for name, _ in linear_weights(net)] == ["0.weight"]
    optimizer = lora(net, release_gradients=True)
    (state,) = optimizer.state.values()
    net[:3](torch.ones(2, 6)).sum().backward()
    found = state["B"].grad
    (expected,) = torch.autograd.grad(net[:3](torch.ones(2, 6)).sum(), net[0].weight)
    torch.testing.assert_close(found, expected @ state["A"].T)


def test_a_restart_goes_on_from_the_weights_with_a_new_start_and_lifts_the_limit_of_the_rank() -> None:
    net, optimizer = trained(init="both")
    before = weights(net)
    optimizer.restart()
    assert all(factors.B.norm() > 0 for factors in optimizer.factors().values())
    assert not optimizer.base.state
    train(net, optimizer, num=1)
    assert furthest(weights(net), before) < 0.1
    train(net, optimizer)
    assert torch.linalg.matrix_rank(weights(net)[0] - weights(network())[0], tol=1e-10) == 12


ADDITIVE = {"kind": AdditiveLoRA, "r": 4, "random_signs": True}
MAKERS: dict[str, Callable] = {
    "resampled": lambda net, seed=0: ResampledProjection(
        linear_weights(net), 0.01, r=2, generator=torch.Generator().manual_seed(seed)
    ),
    "galore": lambda net, **_: GaLore(linear_weights(net), r=3, gap=4),
    "additive ones": partial(lora, kind=AdditiveLoRA, r=2),
    "additive signs": partial(lora, **ADDITIVE, incremental=True),
    **{
        f"{base} {options}": partial(lora, base=base, **options)
        for base in BASES
        for options in ({"init": "both"}, {"incremental": True}, {"others": "base"})
    },
}
every_maker = pytest.mark.parametrize("maker", MAKERS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@every_maker
def test_a_saved_optimizer_goes_on_with_the_same_bits(maker, dtype) -> None:
    net, other, file = network(dtype), network(dtype), io.BytesIO()
    optimizer, resumed = MAKERS[maker](net, seed=1), MAKERS[maker](other, seed=2)
    train(net, optimizer, num=3)
    torch.save((net.state_dict(), optimizer.state_dict()), file)
    train(net, optimizer, num=3)
    file.seek(0)
    for part, state in zip((other, resumed), torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(other, resumed, num=3)
    assert all(map(torch.equal, net.parameters(), other.parameters()))
    torch.testing.assert_close(list(resumed.state.values()), list(optimizer.state.values()), rtol=0, atol=0)


@every_maker
def test_a_closure_is_evaluated_and_a_weight_without_a_gradient_left_alone(maker) -> None:
    net = network()
    optimizer = MAKERS[maker](net)
    train(net, optimizer, num=1)
    before = net.up.weight.detach().clone(), copy.deepcopy(optimizer.state[net.up.weight])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (net.down.weight**2).sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert losses[2] < losses[0]
    torch.testing.assert_close((net.up.weight.detach(), optimizer.state[net.up.weight]), before, rtol=0, atol=0)


def test_a_scheduler_reaches_both_factors() -> None:
    net = network()
    optimizer = lora(net, lr_ratio=16.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    for _ in range(4):
        train(net, optimizer, num=1)
        lr, betas = optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]
        assert [(of["lr"], of["betas"]) for of in optimizer.base.param_groups] == [(lr, betas), (16 * lr, betas)]
        scheduler.step()


def test_released_gradients_are_never_more_than_one_layers() -> None:
    net, held = network(), []
    named = linear_weights(net)
    for _, param in named:  # before ours
        param.register_post_accumulate_grad_hook(
            lambda _: held.append(sum(p.grad.nbytes for _, p in named if p.grad is not None))
        )
    optimizer, start = lora(net, release_gradients=True), weights(net)
    net(batches(1)[0][0]).sum().backward()
    assert sorted(held) == sorted(param.nbytes for _, param in named)
    assert all(param.grad is None for _, param in named)
    optimizer.zero_grad()
    optimizer.step()  # which has no gradient left
    assert all(map(torch.equal, weights(net), start))


@pytest.mark.parametrize("release", [False, True])
def test_a_scaler_is_refused_where_it_finds_no_gradients_and_works_elsewhere(release) -> None:
    net, scaler = network(torch.float32), torch.amp.GradScaler("cpu")
    optimizer = lora(net, release_gradients=release)
    scaler.scale(net(torch.ones(2, 12)).sum()).backward()
    with pytest.raises(RuntimeError, match="GradScaler") if release else contextlib.nullcontext():
        scaler.step(optimizer)


def test_merging_frees_all_but_the_weights() -> None:
    net, optimizer = trained(release_gradients=True)
    before = weights(net)
    optimizer.merge()
    assert all(map(torch.equal, weights(net), before))
    assert not optimizer.state
    assert not optimizer.base.state
    net(batches(1)[0][0]).sum().backward()
    assert net.up.weight.grad is not None
    with pytest.raises(RuntimeError, match="merge"):
        optimizer.step()


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("options", [{"init": "both"}, {"init": "both", "incremental": True}, ADDITIVE], ids=str)
def test_a_weight_changed_outside_is_refused_or_taken_into_the_start(options, strict) -> None:
    net, optimizer = trained(strict=strict, **options)
    with torch.no_grad():
        net.up.weight.add_(1.0)
    before, optimizer.param_groups[0]["lr"] = weights(net), 0.0
    with pytest.raises(RuntimeError, match="changed outside") if strict else contextlib.nullcontext():
        train(net, optimizer, num=1)
    assert furthest(weights(net), before) <= 1e-14


def test_bfloat16_weights_have_factors_in_float32_and_are_rounded_once() -> None:
    net, start = network(torch.bfloat16), weights(network(torch.bfloat16))
    optimizer = lora(net)
    train(net, optimizer, num=5)
    for w0, w, (A, B, scale) in zip(start, weights(net), optimizer.factors().values(), strict=True):
        assert A.dtype == B.dtype == torch.float32
        assert torch.equal(w, torch.addmm(w0.float(), B, A, alpha=scale).bfloat16())


def test_a_compiled_network_and_a_compiled_step_do_the_same() -> None:
    net = network()
    optimizer = lora(net)
    optimizer.step = torch.compile(optimizer.step, backend="eager")
    train(torch.compile(net, backend="eager"), optimizer)
    assert furthest(weights(net), weights(trained()[0])) <= 1e-12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_numbers_of_the_cpu() -> None:
    net = network().cuda()
    train(net, lora(net))
    assert furthest(weights(net.cpu()), weights(trained()[0])) <= 1e-11


W, NAN, NO_RANK = torch.zeros(20, 8), float("nan"), "`r` should be a positive integer value but the value passed is"
with_sgd = partial(LoRAOptimizer, base=SGD)
REFUSED = [
    (LoRAOptimizer, [W], {"r": 0}, ValueError, f"{NO_RANK} 0"),
    (LoRAOptimizer, [W], {"r": 1.5}, ValueError, f"{NO_RANK} 1.5"),
    (LoRAOptimizer, [W], {"alpha": -1}, ValueError, "Invalid alpha value: -1"),
    (LoRAOptimizer, [W], {"alpha": NAN}, ValueError, "Invalid alpha value: nan"),
    (LoRAOptimizer, [W], {"scale": 0.0}, ValueError, "Invalid scale value: 0.0"),
    (LoRAOptimizer, [W], {"alpha": 1, "scale": 2.0}, ValueError, "give alpha or scale, not both: alpha=1, scale=2.0"),
    (LoRAOptimizer, [W], {"lr": -0.1}, ValueError, "Invalid learning rate: -0.1"),
    (with_sgd, [W], {"lr": NAN}, ValueError, "Invalid learning rate: nan"),
    (with_sgd, [W], {"momentum": NAN}, ValueError, "Invalid momentum value: nan"),
    (LoRAOptimizer, [W], {"weight_decay": NAN}, ValueError, "Invalid weight_decay value: nan"),
    (LoRAOptimizer, [W], {"betas": (0.9, 1.0)}, ValueError, "Invalid beta parameter at index 1: 1.0"),
    (LoRAOptimizer, [W], {"lr_ratio": NAN}, ValueError, "Invalid lr_ratio value: nan"),
    (LoRAOptimizer, [W], {"init": "C0"}, ValueError, "Unknown initialization init='C0'"),
    (LoRAOptimizer, [W], {"init": "ga", "r": 5}, ValueError, "2r <= min(n, m), got r=5 for a matrix of shape (20, 8)"),
    (LoRAOptimizer, [W], {"init": "ga", "r": 2}, RuntimeError, "init='ga' needs gradients: call backward() before"),
    (LoRAOptimizer, [W], {"others": "all"}, ValueError, "Unknown others='all'"),
    (LoRAOptimizer, [W], {"r": 9}, UserWarning, "r=9 exceeds min(n, m) of a matrix of shape (20, 8)"),
    (LoRAOptimizer, [{"params": [W, W[0]], "r": 2}], {}, ValueError, "parameter 1 of a group with its own r is no"),
    (LoRAOptimizer, [W.long()], {}, TypeError, "int64"),
    (LoRAOptimizer, [W.to(torch.complex64)], {}, TypeError, "complex64"),
    (LoRAOptimizer, W, {}, TypeError, "iterable"),
    (LoRAOptimizer, [], {}, ValueError, "empty"),
    (lora(network()).load_state_dict, lora(network(), r=2).state_dict(), {}, ValueError, "have rank r=2, those of"),
    (AdditiveLoRA, [W], {"r": 3}, ValueError, "r=3 must divide both dimensions, got (8, 20)"),
    (ResampledProjection, [W], {"lr": NAN}, ValueError, "Invalid learning rate: nan"),
    (GaLore, [W], {"scale": 0.0}, ValueError, "Invalid scale value: 0.0"),
    (GaLore, [W], {"gap": 0}, ValueError, "Invalid gap: 0"),
    (GaLore, [W, W[0]], {}, ValueError, "GaLore needs matrices; parameter 1 has shape (8,)"),
    (GaLore, [W.long()], {}, TypeError, "int64"),
]


@pytest.mark.parametrize(("make", "tensors", "options", "error", "message"), REFUSED)
def test_bad_input_is_refused_in_the_words_of_torch_and_peft(make, tensors, options, error, message) -> None:
    with pytest.raises(error, match=re.escape(message)):  # in tests a warning is an error
        make(tensors, **options)


@pytest.mark.parametrize("make", [LoRAOptimizer, GaLore])
def test_a_sparse_gradient_is_refused(make) -> None:
    embedding = nn.Embedding(9, 8, sparse=True)
    optimizer = make(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{make.__name__} does not support sparse gradients"):
        optimizer.step()


SHAPE = ROWS, COLUMNS = 12, 8


def follow(optimizer: torch.optim.Optimizer, param: nn.Parameter, num: int) -> Tensor:
    start = param.detach().clone()
    for seed in range(num):
        param.grad = drawn(seed, *param.shape)
        optimizer.step()
    return param.detach() - start


def test_a_resampled_step_is_that_of_its_formula_and_has_twice_the_rank() -> None:
    param, source = nn.Parameter(drawn(0, *SHAPE)), torch.Generator().manual_seed(7)
    change = follow(ResampledProjection([param], lr=0.1, r=2, generator=torch.Generator().manual_seed(7)), param, 1)
    u, v = (torch.randn(size, generator=source).double() for size in ((ROWS, 2), (2, COLUMNS)))
    torch.testing.assert_close(change, -0.1 * (param.grad @ v.T @ v + u @ u.T @ param.grad) / 4)
    assert torch.linalg.matrix_rank(change) == 4


@pytest.mark.parametrize("options", [{}, {"random_signs": True}, {"incremental": True}, {"release_gradients": True}])
@pytest.mark.parametrize("r", [1, 4])
def test_additive_steps_equal_backpropagation_through_repeated_identities(r, options) -> None:
    param, x = nn.Parameter(drawn(0, *SHAPE)), drawn(4, 5, COLUMNS)
    source = torch.Generator().manual_seed(2)
    optimizer = AdditiveLoRA([("w", param)], r=r, scale=0.5, lr=0.01, generator=source, **options)
    (A, Q), (P, B) = (matrix.split(r, dim) for matrix, dim in zip(optimizer.factors()["w"][:2], (0, 1), strict=True))
    assert torch.equal(P.abs(), torch.eye(r).double().repeat(ROWS // r, 1))
    assert torch.equal(Q.abs(), torch.eye(r).double().repeat(1, COLUMNS // r))
    assert ((P < 0).any() and (Q < 0).any()) == ("random_signs" in options)
    start, A, B = param.detach().clone(), A.clone().requires_grad_(), B.clone().requires_grad_()
    reference = torch.optim.AdamW([A, B], lr=0.01)
    for _ in range(30):
        for found, step in ((param, optimizer), (start + 0.5 * (P @ A + B @ Q), reference)):
            step.zero_grad()
            torch.tanh(x @ found.T).pow(2).sum().backward()
            step.step()
    change, learned = (param - start).detach(), optimizer.factors()["w"]
    for expected in (0.5 * (P @ A + B @ Q).detach(), learned.scale * learned.B @ learned.A):
        assert (change - expected).abs().max() <= 1e-13
    assert torch.linalg.matrix_rank(change, tol=1e-9) == 2 * r


def galore(start: np.ndarray, gradients: list[np.ndarray], *, r, gap, scale=0.25, lr=0.01, decay=0.1) -> np.ndarray:
    """The algorithm of arXiv 2403.03507 with the conventions of its code, for one matrix, in NumPy."""
    w, basis, m, v = start.copy(), np.zeros(0), 0.0, 0.0
    tall = w.shape[0] >= w.shape[1]
    for t, g in enumerate(gradients):
        if t % gap == 0:
            # Not NumPy's: the moments outlive a basis, and so the signs of its vectors matter, which LAPACK chooses.
            left, _, right = (part.numpy() for part in torch.linalg.svd(torch.tensor(g), full_matrices=False))
            basis = right[:r] if tall else left[:, :r]
        low = g @ basis.T if tall else basis.T @ g
        m, v = 0.9 * m + 0.1 * low, 0.999 * v + 0.001 * low**2
        step = math.sqrt(1 - 0.999 ** (t + 1)) / (1 - 0.9 ** (t + 1)) * m / (np.sqrt(v) + 1e-6)
        w = (w - lr * scale * (step @ basis if tall else basis @ step)) * (1 - lr * decay)
    return w


@pytest.mark.parametrize("shape", [(12, 8), (8, 12), (8, 8)])
@pytest.mark.parametrize("options", [{"r": 2, "gap": 4}, {"r": 20, "gap": 1, "scale": 1.0}], ids=str)
def test_galore_is_its_algorithm_with_moments_of_the_longer_side_and_a_basis_of_the_shorter(shape, options) -> None:
    param = nn.Parameter(drawn(0, *shape))
    start, optimizer = param.detach().clone(), GaLore([param], weight_decay=0.1, **options)
    found = start + follow(optimizer, param, 10)
    gradients, r = [drawn(seed, *shape).numpy() for seed in range(10)], min(8, options["r"])
    for gap, is_equal in ((options["gap"], True), (7, False)):
        expected = galore(start.numpy(), gradients, **{**options, "gap": gap})
        assert (np.abs(found.numpy() - expected).max() <= 1e-12) == is_equal
    sizes = {key: value.numel() for key, value in optimizer.state[param].items() if isinstance(value, Tensor)}
    assert sizes == {"P": r * 8, "exp_avg": r * max(shape), "exp_avg_sq": r * max(shape)}

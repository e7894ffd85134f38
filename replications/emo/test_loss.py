import warnings
from collections import namedtuple
from collections.abc import Callable
from functools import partial

import pytest
import torch
from emo import EMOLoss
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torch.utils._python_dispatch import TorchDispatchMode

from replications.emo import loss as module
from replications.emo.loss import (
    UnitEmbedding,
    earth_mover_loss,
    emo_energy_loss,
    emo_mle_loss,
    emo_weighted_loss,
    energy_loss,
    mixce_loss,
    mle_energy_loss,
    total_variation_loss,
)

V, D = 30, 6
Terms = namedtuple("Terms", "m e d p")  # of each token; p is the target's probability


def weight(of: Terms) -> Tensor:
    return (of.m / (of.e + 1e-10)).detach()


# Each loss, and what it is of a token's terms.
LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[[Terms], Tensor]]] = {
    "pure": (earth_mover_loss, lambda of: of.e),
    "mode 1": (emo_mle_loss, lambda of: (of.m + weight(of) * of.e) / 2),
    "mode 1 bounded": (partial(emo_mle_loss, max_weight=3), lambda of: (of.m + weight(of).clamp(max=3) * of.e) / 2),
    "mode 2": (emo_weighted_loss, lambda of: of.e + (of.e / (of.m + 1e-10)).detach() * of.m),
    "energy": (energy_loss, lambda of: of.d),
    "MLE and energy": (partial(mle_energy_loss, weight=2.5), lambda of: of.m + 2.5 * of.d),
    "mode 1 with energy": (emo_energy_loss, lambda of: (of.m + weight(of) * of.d) / 2),
    "MixCE": (
        lambda z, t, _, **options: mixce_loss(z, t, mixing_ratio=0.3, **options),
        lambda of: (0.3 + 0.7 * of.p.detach()) * of.m,
    ),
    "total variation": (
        lambda z, t, _, **options: total_variation_loss(z, t, mixing_ratio=0.3, **options),
        lambda of: (0.3 + 0.7 * (of.p / (0.7 + 0.3 * of.p)).clamp(0.2, 1).detach()) * of.m,
    ),
}
GEOMETRIC = [name for name in LOSSES if name not in {"MixCE", "total variation"}]
every_loss = pytest.mark.parametrize("name", LOSSES)
every_geometric_loss = pytest.mark.parametrize("name", GEOMETRIC)
every_loss_and_kind = pytest.mark.parametrize(
    ("name", "soft"), [*((name, False) for name in LOSSES), *((name, True) for name in GEOMETRIC)]
)


def draw(
    *shape: int, scale: float = 2.0, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets and an embedding."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(V, D, generator=generator, dtype=torch.float64)
    logits = scale * torch.randn(*shape, V, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(V, shape, generator=generator), embedding.to(dtype)


def exact(embedding: Tensor) -> UnitEmbedding:
    return UnitEmbedding(embedding, torch.float64)


def value_and_gradient(function: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = function(leaf)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def loss(name: str, targets: Tensor, cost: UnitEmbedding, **options) -> Callable[[Tensor], Tensor]:
    return lambda logits: LOSSES[name][0](logits, targets, cost, **options)


def dense_terms(logits: Tensor, tau: Tensor, embedding: Tensor) -> Terms:
    """m, e, d and p_t by the (V, V) matrix of costs."""
    unit = embedding / embedding.norm(dim=1, keepdim=True)
    cost = 1 - unit @ unit.T
    p = logits.softmax(-1)
    e = torch.einsum("...i,ij,...j->...", p, cost, tau)
    spread = torch.einsum("...i,ij,...j->...", p, cost, p) + torch.einsum("...i,ij,...j->...", tau, cost, tau)
    return Terms(-(tau * logits.log_softmax(-1)).sum(-1), e, e - spread / 2, (p * tau).sum(-1))


def test_unit_embedding_is_a_snapshot_without_gradient() -> None:
    source = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, -2.0]]))
    cost = UnitEmbedding(source)
    with torch.no_grad():
        source.zero_()
    torch.testing.assert_close(cost.rows, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))
    assert not cost.rows.requires_grad
    assert torch.equal(cost.permuted(torch.tensor([1, 0])).rows, cost.rows.flip(0))
    assert torch.equal(cost.to("cpu").rows, cost.rows)
    torch.testing.assert_close(cost.means(torch.tensor([[0.5, 0.5]])), torch.tensor([[0.3, -0.1]]))


def test_rows_of_zeros_cost_one_to_all_others_and_nothing_to_themselves() -> None:
    embedding = draw(1)[2]
    embedding[[4, 7]] = 0
    with pytest.warns(UserWarning, match=r"2 rows of the embedding are zero, first 4") as record:
        cost = exact(embedding)
    assert len(record) == 1
    expected = torch.ones(V, dtype=torch.float64)
    expected[4] = 0
    torch.testing.assert_close(1 - cost.rows @ cost.rows[4], expected)


@every_loss_and_kind
def test_values_and_gradients_equal_those_by_the_matrix_of_costs(name: str, soft: bool) -> None:
    logits, targets, embedding = draw(2, 5)
    tau = one_hot(targets, V).double()
    if soft:
        tau[1:] = draw(1, 5, seed=1)[0].softmax(-1)
    found = value_and_gradient(loss(name, tau if soft else targets, exact(embedding)), logits)
    wanted = value_and_gradient(lambda z: LOSSES[name][1](dense_terms(z, tau, embedding)).mean(), logits)
    torch.testing.assert_close(found, wanted, atol=1e-14, rtol=1e-10)


@every_geometric_loss
def test_pieces_change_nothing(name: str, monkeypatch) -> None:
    logits, targets, embedding = draw(7)
    whole = value_and_gradient(loss(name, targets, exact(embedding)), logits)
    monkeypatch.setattr(module, "PIECE", 2 * V)
    pieces = value_and_gradient(loss(name, targets, exact(embedding)), logits)
    torch.testing.assert_close(pieces, whole, atol=0, rtol=1e-15)


@pytest.mark.parametrize("name", ["mode 1", "mode 1 with energy"])
def test_passes_that_a_gpu_compiles_are_one_graph_and_change_nothing(name: str, monkeypatch) -> None:
    logits, targets, embedding = draw(7)
    eager = value_and_gradient(loss(name, targets, exact(embedding)), logits)

    def by_compiled_piece(function: Callable[..., None], *tensors: Tensor) -> None:
        torch.compile(function, fullgraph=True, backend="aot_eager")(*(x.detach() for x in tensors))

    monkeypatch.setattr(module, "_by_piece", by_compiled_piece)
    compiled = value_and_gradient(loss(name, targets, exact(embedding)), logits)
    torch.testing.assert_close(compiled, eager, atol=0, rtol=1e-15)


@every_loss
def test_the_mean_is_over_the_tokens_that_are_not_ignored(name: str) -> None:
    logits, targets, embedding = draw(2, 5)
    targets[0, 1] = targets[1, 3] = -1
    logits[0, 1] = torch.nan
    cost = exact(embedding)
    value, gradient = value_and_gradient(loss(name, targets, cost, ignore_index=-1), logits)
    kept = [(i, j) for i in range(2) for j in range(5) if targets[i, j] >= 0]
    alone = [value_and_gradient(loss(name, targets[at], cost), logits[at]) for at in kept]
    torch.testing.assert_close(value, torch.stack([one for one, _ in alone]).mean())
    expected = torch.zeros_like(logits)
    for at, (_, of_token) in zip(kept, alone, strict=True):
        expected[at] = of_token / len(kept)
    torch.testing.assert_close(gradient, expected)


@every_loss
@pytest.mark.parametrize("tokens", [0, 4])
def test_without_a_token_that_counts_loss_and_gradient_are_zero(name: str, tokens: int) -> None:
    logits, _, embedding = draw(tokens)
    targets = torch.full((tokens,), -100)
    value, gradient = value_and_gradient(loss(name, targets, exact(embedding)), logits)
    assert value == 0
    assert not gradient.any()


@every_loss
@pytest.mark.parametrize("height", [50.0, -50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_saturated_logits_give_finite_values_and_gradients(name: str, height: float, dtype: torch.dtype) -> None:
    logits, targets, embedding = draw(7)
    logits.scatter_(1, targets[:, None], height)
    cost = UnitEmbedding(embedding)
    value, gradient = value_and_gradient(loss(name, targets, cost), logits.to(dtype))
    assert value.isfinite()
    assert value >= 0
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["pure", "energy"])
def test_terms_of_confident_tokens_keep_their_digits_in_float32(name: str) -> None:
    """1 - <ē_p, ê_t> would be off by about 40 % where 1 - p_t is a millionth."""
    logits, targets, embedding = draw(7, scale=0.3)
    logits = logits.scatter(1, targets[:, None], 17.0).float()
    found, gradient = value_and_gradient(loss(name, targets, UnitEmbedding(embedding)), logits)
    wanted, exact_gradient = value_and_gradient(loss(name, targets, exact(embedding)), logits.double())
    assert wanted < 2e-6
    assert abs(found / wanted - 1) < 1e-5
    torch.testing.assert_close(gradient, exact_gradient.float(), atol=0, rtol=1e-4)


@every_geometric_loss
@pytest.mark.parametrize(("dtype", "digits"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype, digits: float) -> None:
    logits, targets, embedding = draw(64, dtype=dtype)
    value, gradient = value_and_gradient(loss(name, targets, UnitEmbedding(embedding)), logits)
    wanted = value_and_gradient(loss(name, targets, exact(embedding)), logits.double())
    assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(value.double(), wanted[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), wanted[1], rtol=digits, atol=1e-7)
    product_in_half = LOSSES[name][0](logits, targets, UnitEmbedding(embedding, dtype))
    torch.testing.assert_close(product_in_half.double(), wanted[0], rtol=digits, atol=0)


@every_loss_and_kind
def test_autocast_changes_nothing(name: str, soft: bool) -> None:
    logits, targets, embedding = draw(7, dtype=torch.float32)
    function = loss(name, one_hot(targets, V).float() if soft else targets, UnitEmbedding(embedding))

    def inside(z: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return function(z)

    plain = value_and_gradient(function, logits)
    torch.testing.assert_close(value_and_gradient(inside, logits), plain, atol=0, rtol=0)
    if not soft:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(value_and_gradient(function, logits), plain, atol=0, rtol=0)


@every_loss
@pytest.mark.parametrize("unsound", [torch.nan, torch.inf])
def test_a_token_whose_logits_are_no_numbers_spoils_the_mean_and_its_own_gradient(name: str, unsound: float) -> None:
    logits, targets, embedding = draw(7)
    _, sound = value_and_gradient(loss(name, targets, exact(embedding)), logits)
    logits[2, 5] = unsound
    value, gradient = value_and_gradient(loss(name, targets, exact(embedding)), logits)
    assert value.isnan()
    assert gradient[2].isnan().any()
    others = torch.arange(7) != 2
    torch.testing.assert_close(gradient[others], sound[others])


def test_a_target_that_is_masked_out_is_infinitely_unlikely_as_in_cross_entropy() -> None:
    logits, targets, embedding = draw(7)
    logits[2, targets[2]] = -torch.inf
    assert mle_energy_loss(logits, targets, exact(embedding)) == cross_entropy(logits, targets) == torch.inf
    assert energy_loss(logits, targets, exact(embedding)).isfinite()


@every_loss_and_kind
def test_a_token_masked_out_of_the_vocabulary_counts_as_absent(name: str, soft: bool) -> None:
    logits, targets, embedding = draw(7)
    targets = targets.clamp(max=V - 2)
    logits[:, -1] = -torch.inf

    def found(size: int) -> tuple[Tensor, Tensor]:
        tau = one_hot(targets, size).double() if soft else targets
        cost = exact(embedding[:size])
        return value_and_gradient(loss(name, tau, cost), logits[:, :size])

    (value, gradient), (wanted, small) = found(V), found(V - 1)
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(gradient[:, :-1], small)
    assert not gradient[:, -1].any()


COST = exact(draw(1)[2])
Z, T, _ = draw(3)
TAU = torch.full((3, V), 1 / V)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: UnitEmbedding(torch.zeros(V)), r"shape \(30,\).* give a real \(V, D\) matrix"),
        (lambda: UnitEmbedding(torch.zeros(V, D, dtype=int)), "torch.int64; give a real"),
        (lambda: UnitEmbedding(torch.tensor([[1.0], [torch.nan]])), "row 1 of the embedding holds a number"),
        (lambda: earth_mover_loss(Z[:, 1:], T, COST), "over 29 tokens, the embedding has 30 rows"),
        (lambda: earth_mover_loss(Z.long(), T, COST), "logits are torch.int64"),
        (lambda: earth_mover_loss(Z, T[1:], COST), r"targets have shape \(2,\), the logits \(3, 30\)"),
        (lambda: earth_mover_loss(Z, torch.tensor([0, 3, V]), COST), "from 0 to 30; allowed: 0 to 29, or -100"),
        (lambda: earth_mover_loss(Z, torch.tensor([0, -1, -100]), COST), "targets go from -1 to 0"),
        (lambda: mixce_loss(Z, torch.tensor([0, 3, V])), "targets go from 0 to 30"),
        (lambda: earth_mover_loss(Z, TAU[1:], COST), r"soft targets have shape \(2, 30\)"),
        (lambda: earth_mover_loss(Z, 2 * TAU, COST), "must be distributions"),
        (lambda: earth_mover_loss(Z, torch.cat([TAU[:, :-2], -TAU[:, :1], 3 * TAU[:, :1]], 1), COST), "not negative"),
        (lambda: emo_mle_loss(Z, T, COST, max_weight=0), "max_weight is 0; it must be positive"),
        (lambda: mixce_loss(Z, T, mixing_ratio=1.5), r"mixing_ratio is 1.5; it must be in \[0, 1\]"),
        (lambda: total_variation_loss(Z, TAU), "token ids, not of soft targets"),
    ],
)  # fmt: skip
def test_unsound_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


class LargestTensor(TorchDispatchMode):
    """Keeps the largest number of elements of a result, backward included."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, Tensor)]
        self.elements = max(self.elements, *(x.numel() for x in tensors)) if tensors else self.elements
        return result


@every_loss_and_kind
def test_no_tensor_is_larger_than_the_logits(name: str, soft: bool) -> None:
    logits, targets, embedding = draw(7)
    function = loss(name, one_hot(targets, V).double() if soft else targets, exact(embedding))
    with LargestTensor() as largest:
        value_and_gradient(function, logits)
    assert largest.elements == 7 * V


def packaged(logits: Tensor, targets: Tensor, embedding: Tensor, mode: int) -> Tensor:
    """The package's loss, which shifts the labels by itself."""
    z = torch.cat([logits, logits[:1]])[None]
    return EMOLoss(z, torch.cat([targets[:1], targets])[None], embedding, mode=mode)


@pytest.mark.parametrize(("name", "mode"), [("mode 1 bounded", 1), ("mode 2", 2)])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_modes_1_and_2_are_those_of_the_originals_package(name: str, mode: int, scale: float) -> None:
    logits, targets, embedding = draw(200, scale=scale, dtype=torch.float32)
    targets[:50] = logits[:50].argmax(-1)
    targets[3] = -100
    value, gradient = value_and_gradient(loss(name, targets, UnitEmbedding(embedding)), logits)
    wanted = value_and_gradient(lambda z: packaged(z, targets, embedding, mode), logits)
    torch.testing.assert_close(value, wanted[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient, wanted[1], atol=1e-8, rtol=0)


def test_on_confident_tokens_the_package_loses_half_precision_and_ours_does_not() -> None:
    _, _, embedding = draw(1)
    targets = torch.arange(V)
    logits = 14.0 * torch.eye(V)
    half, brain = embedding.half(), embedding.bfloat16()
    assert packaged(logits.half(), targets, half, 1).isnan()
    one_by_one = [packaged(logits[[k]].bfloat16(), targets[[k]], brain, 2) for k in range(V)]
    assert min(one_by_one) < 0
    wanted = emo_weighted_loss(logits.double(), targets, exact(embedding))
    for dtype in (torch.float16, torch.bfloat16):
        found = emo_weighted_loss(logits.to(dtype), targets, UnitEmbedding(embedding))
        assert found.item() == pytest.approx(wanted.item(), rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_computes_the_same() -> None:
    logits, targets, embedding = draw(64, dtype=torch.float32)
    cost = UnitEmbedding(embedding)
    for name in GEOMETRIC:
        wanted = value_and_gradient(loss(name, targets, cost), logits)
        with warnings.catch_warnings():  # of the compiler, about the machine
            warnings.simplefilter("ignore")
            found = value_and_gradient(loss(name, targets.cuda(), cost.to("cuda")), logits.cuda())
        torch.testing.assert_close(tuple(x.cpu() for x in found), wanted, atol=1e-6, rtol=1e-4)

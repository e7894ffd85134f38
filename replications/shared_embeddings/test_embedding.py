"""The heads are what they are called, keep their tie, and start where the formulas say."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from transformers import GPT2Config, GPT2LMHeadModel

from replications.shared_embeddings import embedding
from replications.shared_embeddings.embedding import HEADS

SHARING = [name for name in HEADS if name != "untied"]
PERMUTING = ["half_swap", "signed_swap", "shuffle", "orthogonal"]


class Bigram(nn.Module):
    """The model of the derivation: embedding, exact RMS norm, head."""

    def __init__(self, name, n=50, d=8):
        super().__init__()
        self.embedding = embedding.make_embedding(n, d, embedding.initial_sigma(n, d, name)).double()
        self.head = HEADS[name](self.embedding)

    def forward(self, tokens):
        return self.head(embedding.rms_normalise(self.embedding(tokens)))


# --- Heads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_all_heads_have_one_interface_and_share_what_they_should(name):
    torch.manual_seed(0)
    model = Bigram(name)
    assert model(torch.arange(6).view(2, 3)).shape == (2, 3, 50)
    assert (model.head.weight is model.embedding.weight) == (name != "untied")


@pytest.mark.parametrize("name", HEADS)
def test_logits_are_the_product_with_a_matrix_that_is_a_scale_times_an_orthogonal_one(name):
    torch.manual_seed(0)
    model, h, unit = Bigram(name), torch.randn(5, 8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)
    matrix = model.head.transformed(unit).detach()
    expected = np.einsum("bd,de,ne->bn", h, matrix, model.head.weight.detach())
    np.testing.assert_allclose(model.head(h).detach(), expected, atol=1e-12)
    scale = 1 / math.sqrt(8) if name in ("scaled", "learnable_scale") else 1.0
    torch.testing.assert_close(matrix @ matrix.T, scale**2 * unit)
    assert torch.allclose(matrix, scale * unit) == (name not in PERMUTING)


def test_the_maps_of_four_and_six_channels_are_those_of_the_table():
    four = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert embedding.half_swap(four).tolist() == [3, 4, 1, 2]
    assert embedding.signed_swap(four).tolist() == [-3, -4, 1, 2]
    assert embedding.shuffle(torch.arange(6), groups=2).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_right(name):
    torch.manual_seed(0)
    model, tokens = Bigram(name, n=5, d=6), torch.tensor([0, 3, 4])
    parameters = dict(model.named_parameters())

    def loss(*values):  # tied names are one parameter: functional_call hands the value to both
        logits = torch.func.functional_call(model, dict(zip(parameters, values, strict=True)), (tokens,))
        return embedding.token_cross_entropy(logits, torch.tensor([1, 2, 0]))

    assert torch.autograd.gradcheck(loss, [p.detach().clone().requires_grad_() for p in parameters.values()])


# --- The tie through copies, types, files --------------------------------------------------------------------------


def is_tied(model):
    return (
        model.head.weight is model.embedding.weight
        and model.head.weight.data_ptr() == model.embedding.weight.data_ptr()
    )


@pytest.mark.parametrize("name", SHARING)
def test_the_tie_lasts_through_copies_types_and_files(name, tmp_path):
    torch.manual_seed(0)
    model = Bigram(name)
    tokens = torch.arange(10)
    logits = model(tokens)
    copied = copy.deepcopy(model)
    assert copied.head.weight is not model.head.weight
    assert all(map(is_tied, (copied, copied.to(torch.float32), copied.half().double())))
    save_model(model, str(tmp_path / "model.safetensors"))
    loaders = (
        lambda other: load_model(other, str(tmp_path / "model.safetensors")),
        lambda other: other.load_state_dict(model.state_dict()),
    )
    for load in loaders:
        other = Bigram(name)
        assert not torch.equal(other(tokens), logits)
        load(other)
        assert is_tied(other)
        assert torch.equal(other(tokens), logits)


def replaced_table(model):
    model.embedding.weight = nn.Parameter(model.embedding.weight.detach().clone())
    return model


def converted_anew(model):
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return model.float()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def assigned(model):
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    return model


UNTIES = {
    "load_state_dict(assign=True)": assigned,
    '.to("meta")': lambda model: model.to("meta"),
    "to_empty from a meta device": lambda model: model.to("meta").to_empty(device="cpu"),
    "set_overwrite_module_params_on_conversion": converted_anew,
    "another table": replaced_table,
}


@pytest.mark.parametrize("what", UNTIES)
def test_what_unties_without_a_word_is_tied_again(what):
    torch.manual_seed(0)
    model = UNTIES[what](Bigram("half_swap"))
    assert model.head.weight is not model.embedding.weight
    model.head.tie(model.embedding)
    assert model.head.weight is model.embedding.weight
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight"]
    if not model.head.weight.is_meta:
        model.embedding.weight.data = torch.randn(50, 8, dtype=model.head.weight.dtype)
        model(torch.arange(9)).sum().backward()
        assert model.head.weight.grad is model.embedding.weight.grad


def test_a_head_ties_to_a_table_of_its_shape_alone_and_an_untied_one_not_at_all():
    model = Bigram("tied")
    model.head.tie(model.embedding)
    assert is_tied(model)
    with pytest.raises(ValueError, match=r"has shape \(50, 6\), the head's \(50, 8\)"):
        model.head.tie(embedding.make_embedding(50, 6, 1.0))
    with pytest.raises(TypeError, match="untied head has a table of its own"):
        Bigram("untied").head.tie(model.embedding)


def test_a_pruned_embedding_is_tied_again_when_pruning_is_made_permanent():
    model = Bigram("tied")
    prune.random_unstructured(model.embedding, "weight", amount=0.5)
    model(torch.arange(3))
    assert (model.embedding.weight == 0).any()
    assert not (model.head.weight == 0).any()
    with pytest.raises(TypeError, match="needs a floating-point parameter"):
        model.head.tie(model.embedding)
    prune.remove(model.embedding, "weight")
    assert is_tied(model)
    assert (model.head.weight == 0).any()


def test_the_output_side_moves_a_padding_row():
    tied, untied = (Bigram(name) for name in ("tied", "untied"))
    for model in (tied, untied):
        model.embedding.padding_idx = 0
        embedding.token_cross_entropy(model(torch.arange(20)), torch.arange(1, 21)).backward()
    assert (untied.embedding.weight.grad[0] == 0).all()
    assert (tied.embedding.weight.grad[0] != 0).any()


def test_the_norm_is_that_of_torch_and_a_row_of_zeros_stays_one_with_a_finite_gradient():
    for eps in (0.0, 1e-5):
        rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
        normal = embedding.rms_normalise(rows, eps)
        normal.sum().backward()
        assert torch.equal(normal[0], torch.zeros(2))
        torch.testing.assert_close(normal[1], functional.rms_norm(rows[1], (2,), eps=eps))
        assert torch.isfinite(rows.grad).all()


def test_the_initial_spread_survives_the_making_of_the_head():
    for name in HEADS:
        model = Bigram(name, n=2000, d=32)
        sigma = embedding.initial_sigma(2000, 32, name)
        for table in (model.embedding.weight, model.head.weight):
            assert float(table.detach().std()) == pytest.approx(sigma, rel=0.02)


# --- An independent implementation ---------------------------------------------------------------------------------


def gpt2(tied):
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=97, n_positions=16, n_embd=32, n_layer=1, n_head=2, tie_word_embeddings=tied,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize(("name", "tied"), [("tied", True), ("untied", False)])
def test_transformers_gpt2_has_the_logits_and_the_initial_loss_of_our_head(name, tied):
    peer, tokens = gpt2(tied), torch.randint(97, (4, 16))
    head = HEADS[name](peer.transformer.wte)
    if not tied:
        head.weight.data.copy_(peer.lm_head.weight.data)
    with torch.no_grad():
        hidden = peer.transformer(tokens).last_hidden_state
        theirs = peer(tokens, labels=tokens)
    torch.testing.assert_close(head(hidden), theirs.logits, atol=1e-5, rtol=0)
    loss = embedding.token_cross_entropy(head(hidden)[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(loss, theirs.loss, atol=1e-5, rtol=0)
    assert (peer.lm_head.weight is peer.transformer.wte.weight) == tied


# --- What is predicted ---------------------------------------------------------------------------------------------


@given(n=st.integers(2, 10**6), half=st.integers(1, 10**5), sigma=st.floats(1e-6, 1e3))
@settings(max_examples=200)
def test_no_prediction_overflows_and_the_tied_one_is_the_largest(n, half, sigma):
    d = 2 * half
    values = {name: embedding.predicted_initial_loss(n, d, sigma, name) for name in HEADS}
    assert all(math.isfinite(value) and value >= 0 for value in values.values())
    assert values["tied"] == pytest.approx(max(values["tied"], values["half_swap"]))
    assert embedding.source_initial_loss(n, d, sigma) == pytest.approx(np.logaddexp(d * sigma, math.log(n - 1)))


# --- Bad input -----------------------------------------------------------------------------------------------------


REFUSED = [
    ("d is 7", lambda: Bigram("signed_swap", d=7)),
    ("d is 7", lambda: embedding.half_swap(torch.zeros(2, 7))),
    ("d is 7", lambda: embedding.predicted_initial_loss(10, 7, 1.0, "half_swap")),
    ("g is 3 and d is 8", lambda: embedding.ShuffleHead(embedding.make_embedding(10, 8, 1.0), 3)),
    ("g is 0 and d is 8", lambda: embedding.shuffle(torch.zeros(2, 8), 0)),
    ("g is 16 and d is 8", lambda: embedding.shuffle_fixed_points(8, 16)),
    ("n is 1", lambda: embedding.make_embedding(1, 8, 1.0)),
    ("n is 1", lambda: embedding.crossover_width(1)),
    ("n is 0", lambda: embedding.source_initial_loss(0, 8, 1.0)),
    ("d is 0", lambda: embedding.initial_sigma(10, 0, "small_sigma")),
    *((f"eps is {eps}", lambda eps=eps: embedding.rms_normalise(torch.ones(2), eps)) for eps in (-1.0, math.nan)),
    *((f"sigma is {sigma}", lambda sigma=sigma: embedding.make_embedding(10, 8, sigma)) for sigma in (0.0, math.inf)),
    ("sigma is -1.0", lambda: embedding.predicted_initial_loss(10, 8, -1.0, "tied")),
    ("sigma is nan", lambda: embedding.source_initial_loss(10, 8, math.nan)),
    ("sigma is 0.0", lambda: embedding.self_logit_moments(1.0, 1.0, 1.0, 0.0)),
    (r"'twisted'; known: tied, .*half_swap", lambda: embedding.predicted_initial_loss(10, 8, 1.0, "twisted")),
    (r"'twisted'; known: tied, .*half_swap", lambda: embedding.initial_sigma(10, 8, "twisted")),
]


@pytest.mark.parametrize(("told", "call"), REFUSED)
def test_what_is_out_of_range_is_refused_by_name(told, call):
    with pytest.raises(ValueError, match=told):
        call()


def test_a_square_shuffle_warns_with_its_fixed_points_and_others_do_not():
    table = embedding.make_embedding(10, 64, 1.0)
    with pytest.warns(UserWarning, match="8 of the 64 coordinates"):
        embedding.ShuffleHead(table, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedding.ShuffleHead(table, 4)


@pytest.mark.parametrize("table", [torch.zeros(10, 8, dtype=torch.int64), torch.zeros(2, 10, 8)])
def test_a_table_of_wrong_shape_or_type_is_refused(table):
    wrong = nn.Module()
    wrong.weight = nn.Parameter(table, requires_grad=False)
    with pytest.raises(TypeError, match="floating-point parameter of shape"):
        HEADS["tied"](wrong)


def test_hidden_states_of_another_width_are_refused():
    for name in HEADS:
        with pytest.raises(ValueError, match="width 6 and the shared table has width 8"):
            Bigram(name).head(torch.zeros(2, 6, dtype=torch.float64))


@pytest.mark.parametrize("token", [10, -1])
def test_a_token_out_of_range_is_refused_before_the_kernel(token):
    with pytest.raises(IndexError, match=rf"token id {token} is not in \[0, 10\)"):
        embedding.token_cross_entropy(torch.zeros(2, 10), torch.tensor([1, token]))


def test_ignored_targets_do_not_count_and_all_ignored_is_zero_with_zero_gradient():
    torch.manual_seed(0)
    logits = torch.randn(3, 10, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([1, -100, 4])
    torch.testing.assert_close(
        embedding.token_cross_entropy(logits, targets), functional.cross_entropy(logits, targets)
    )
    nothing = embedding.token_cross_entropy(logits, torch.full((3,), -100))
    nothing.backward()
    assert nothing.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))

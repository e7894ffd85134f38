import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

from replications.t5_pegasus.copy_head import (
    CopyHead,
    CopyMT5,
    CopyT5,
    copy_label_log_probabilities,
    copy_log_probabilities,
    untie,
)

PAD, START, END, V = 0, 2, 3, 11
SHAPE = {"vocab_size": V, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 4, "pad_token_id": PAD}
SHAPE |= {"eos_token_id": END, "decoder_start_token_id": START, "dropout_rate": 0.0}
KINDS = {
    "T5": (CopyT5, T5ForConditionalGeneration, T5Config(**SHAPE, tie_word_embeddings=False)),
    "scaled T5": (CopyT5, T5ForConditionalGeneration, T5Config(**SHAPE)),
    "MT5": (CopyMT5, MT5ForConditionalGeneration, MT5Config(**SHAPE)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
SOURCE = torch.tensor([[START, 5, 6, 5, END, PAD], [START, 7, 8, 9, 10, END]])
ENCODED = {"input_ids": SOURCE, "attention_mask": (SOURCE != PAD).long()}
LABELS = torch.tensor([[5, 6, END, -100], [10, 4, 9, END]])


def draw() -> dict[str, Tensor]:
    """Arguments of the mixture: a token that stands twice in the source, and padding."""
    torch.manual_seed(0)
    shapes = {"logits": (2, 3, 6), "scores": (2, 3, 4), "gate": (2, 3)}
    drawn = {name: torch.randn(shape, dtype=torch.float64, requires_grad=True) for name, shape in shapes.items()}
    source = torch.tensor([[3, 4, 4, PAD], [4, 5, 3, PAD]])
    return {**drawn, "source": source, "copyable": source != PAD}


def untied(kind: str, dtype: torch.dtype = torch.float64, copying: bool = True) -> CopyT5 | CopyMT5:
    torch.manual_seed(0)
    made = KINDS[kind][0 if copying else 1](KINDS[kind][2]).eval()
    untie(made)
    return made.to(dtype)


def test_probabilities_are_those_of_the_equation_and_sum_to_one():
    of = {name: value.detach() for name, value in draw().items()}
    expected = of["gate"].sigmoid()[..., None] * of["logits"].softmax(-1)
    for b, t in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        weights = of["scores"][b, t, :3].exp()  # without the padding
        for s in range(3):
            expected[b, t, of["source"][b, s]] += (-of["gate"][b, t]).sigmoid() * weights[s] / weights.sum()
    p = copy_log_probabilities(**of).exp()
    torch.testing.assert_close(p, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(p.sum(-1), torch.ones(2, 3, dtype=torch.float64), rtol=1e-12, atol=0)
    for token in range(6):
        alone = copy_label_log_probabilities(**of, labels=torch.full((2, 3), token)).exp()
        torch.testing.assert_close(alone, p[..., token], rtol=1e-12, atol=0)


def test_scores_and_gate_are_those_of_the_equations():
    torch.manual_seed(0)
    head, h, e = CopyHead(4).double(), torch.randn(1, 1, 4).double(), torch.randn(1, 3, 4).double()
    scores, gate = head(h, e, torch.tensor([[True, True, False]]))
    expected = [(h[0, 0] @ head.query) @ (e[0, s] @ head.key) / 2 for s in range(3)]
    torch.testing.assert_close(scores[0, 0], torch.stack(expected))
    context = scores[0, 0, :2].softmax(0) @ e[0, :2]
    torch.testing.assert_close(gate[0, 0], head.gate @ torch.cat([h[0, 0], context]) + 1)


def test_a_label_that_both_branches_rule_out_has_finite_gradients():
    logits, scores, gate = (
        torch.tensor([[[200.0, 0.0, -200.0]]]),
        torch.tensor([[[300.0, -300.0]]]),
        torch.full((1, 1), 90.0),
    )
    inputs = [value.requires_grad_() for value in (logits, scores, gate)]
    source = torch.tensor([[1, 1]])
    for value in (
        copy_log_probabilities(*inputs, source, source == 1),
        copy_label_log_probabilities(*inputs, source, source == 1, torch.tensor([[2]])),
    ):
        assert value.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value.sum(), inputs))


@every_kind
def test_a_closed_gate_is_the_model_without_a_copy_head(kind):
    copying, plain = untied(kind), untied(kind, copying=False)
    plain.load_state_dict(copying.state_dict(), strict=False)
    with torch.no_grad():
        copying.copy_head.bias.fill_(1e3)
    expected = plain(**ENCODED, labels=LABELS)
    log_p = copying(**ENCODED, decoder_input_ids=copying._shift_right(LABELS)).logits
    torch.testing.assert_close(log_p, expected.logits.log_softmax(-1))
    torch.testing.assert_close(copying(**ENCODED, labels=LABELS).loss, expected.loss)


@every_kind
def test_the_loss_is_the_cross_entropy_of_the_output_and_reaches_every_weight(kind):
    copying = untied(kind)
    loss = copying(**ENCODED, labels=LABELS).loss
    log_p = copying(**ENCODED, decoder_input_ids=copying._shift_right(LABELS)).logits
    torch.testing.assert_close(loss, cross_entropy(log_p.flatten(0, 1), LABELS.flatten()))
    loss.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in copying.parameters())


def test_more_padding_changes_nothing_and_only_text_is_copied():
    copying, start = untied("MT5"), torch.full((2, 1), START)
    longer = {name: torch.cat([value, torch.zeros(2, 3, dtype=torch.long)], 1) for name, value in ENCODED.items()}
    log_p = copying(**ENCODED, decoder_input_ids=start).logits
    torch.testing.assert_close(copying(**longer, decoder_input_ids=start).logits, log_p)
    with torch.no_grad():
        copying.copy_head.bias.fill_(-1e3)
    p = copying(**ENCODED, decoder_input_ids=start).logits.exp()
    assert p[0, 0, [5, 6]].sum() > 1 - 1e-9


@every_kind
def test_generation_copies_from_the_source_that_it_encoded(kind):
    copying = untied(kind)
    found = copying.generate(**ENCODED, max_new_tokens=5, do_sample=False)
    ids = torch.full((2, 1), START)
    for _ in range(found.shape[1] - 1):
        following = copying(**ENCODED, decoder_input_ids=ids).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, following.where(~(ids == END).any(1), PAD)[:, None]], 1)
    assert torch.equal(found, ids)
    assert len(copying.generate(**ENCODED, max_new_tokens=5, num_beams=3)) == 2


@every_kind
def test_a_head_of_its_own_survives_saving_and_loading(kind, tmp_path):
    kept = untied(kind, torch.float32)
    kept.save_pretrained(tmp_path)
    loaded = type(kept).from_pretrained(tmp_path).eval()
    for of in (kept, loaded):
        assert of.lm_head.weight.data_ptr() != of.shared.weight.data_ptr()
        assert all(0.2 < weight.std() < 0.3 for weight in (of.lm_head.weight, of.shared.weight))  # 1 / √16
    torch.testing.assert_close(loaded(**ENCODED, labels=LABELS).loss, kept(**ENCODED, labels=LABELS).loss)


def test_a_model_without_a_copy_head_can_be_given_one(tmp_path):
    plain = untied("MT5", copying=False)
    plain.save_pretrained(tmp_path)
    copying = CopyMT5.from_pretrained(tmp_path)
    assert torch.equal(copying.lm_head.weight, plain.lm_head.weight)
    assert copying.copy_head.bias.item() == 1
    assert 0.15 < copying.copy_head.query.std() < 0.35  # 1 / √16

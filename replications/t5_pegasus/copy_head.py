"""A copy mechanism on transformers' T5 or MT5, with an output head of its own: the correct mixture, in log space.

Letters: B batch, T target positions, S source positions, V vocabulary, d width; h_t the decoder's last state, e_s the
encoder's, x_s the source's tokens, W the head. Copied is only from the set C of source positions that hold text.

    a_ts = softmax over s in C of q(h_t)·k(e_s) / √d
    λ_t  = σ(g_t),  g_t = w·[h_t; Σ_s a_ts e_s] + b
    p(v) = λ_t softmax(W h_t)_v + (1 - λ_t) Σ_s a_ts 1[x_s = v]

It is the pointer-generator of See, Liu and Manning (ACL 2017, equations 8 and 9) with T5's states. The published port
with copying (renmada/t5-pegasus-pytorch) takes a softmax once more, of the attention that is already spread over the
vocabulary: its entries lie in [0, 1], so a token gets between 1 / (V + 2) and e / V of what is copied, and no more.
"""

# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# transformers' signatures list what no model here is given.

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid
from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration
from transformers import initialization as init
from transformers.modeling_outputs import Seq2SeqLMOutput

__all__ = ["CopyMT5", "CopyT5", "copy_label_log_probabilities", "copy_log_probabilities", "untie"]

_Model: Any = object  # a T5 or an MT5, which come behind it


def copy_log_probabilities(logits: Tensor, scores: Tensor, gate: Tensor, source: Tensor, copyable: Tensor) -> Tensor:
    """Return log p(v) for every token v: the third equation, with λ and 1 - λ as log-sigmoids.

    Args:
        logits: W h_t, shape (B, T, V).
        scores: q(h_t)·k(e_s) / √d, shape (B, T, S).
        gate: g_t, shape (B, T).
        source: x_s, shape (B, S), in [0, V).
        copyable: Whether s is in C, shape (B, S), bool; at least one position of each row.

    Returns:
        Shape (B, T, V), in the logits' precision, at least float32; every token gets a copied mass of at least the
        smallest normal number, so that none has the logarithm of zero.

    Example:
        >>> logits, scores, gate = torch.zeros(1, 1, 4), torch.zeros(1, 1, 3), torch.zeros(1, 1)
        >>> copyable = torch.tensor([[True, True, False]])
        >>> copy_log_probabilities(logits, scores, gate, torch.tensor([[2, 2, 3]]), copyable).exp()
        tensor([[[0.1250, 0.1250, 0.6250, 0.1250]]])
    """
    share, generated, copied = _branches(logits, scores, gate, copyable)
    generated = share + generated
    mass = torch.zeros_like(generated).scatter_add(-1, source[:, None].expand(copied.shape), copied.exp())
    return torch.logaddexp(generated, mass.clamp_min(torch.finfo(mass.dtype).tiny).log())


def copy_label_log_probabilities(
    logits: Tensor, scores: Tensor, gate: Tensor, source: Tensor, copyable: Tensor, labels: Tensor
) -> Tensor:
    """Return log p(label), shape (B, T), which is all that training needs: a log-sum-exp over 1 + S terms, no scatter.

    Labels have shape (B, T) and lie in [0, V); the other arguments are those of `copy_log_probabilities`.

    Example:
        >>> logits, scores, gate = torch.zeros(1, 1, 4), torch.zeros(1, 1, 3), torch.zeros(1, 1)
        >>> source, copyable = torch.tensor([[2, 2, 3]]), torch.tensor([[True, True, False]])
        >>> copy_label_log_probabilities(logits, scores, gate, source, copyable, torch.tensor([[2]])).exp()
        tensor([[0.6250]])
    """
    share, generated, copied = _branches(logits, scores, gate, copyable)
    copied = copied.masked_fill(source[:, None] != labels[..., None], -torch.inf)
    return torch.cat([share + generated.gather(-1, labels[..., None]), copied], -1).logsumexp(-1)


def _branches(logits: Tensor, scores: Tensor, gate: Tensor, copyable: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log λ, shape (B, T, 1), log softmax(W h), shape (B, T, V), and log (1 - λ) a, shape (B, T, S)."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    gate = gate.to(dtype)[..., None]
    attention = log_softmax(scores.to(dtype).masked_fill(~copyable[:, None], -torch.inf), -1)
    return logsigmoid(gate), log_softmax(logits.to(dtype), -1), logsigmoid(-gate) + attention


class CopyHead(nn.Module):
    """Scores and gate of copying, the first two equations; b begins at 1, λ near 0.73."""

    def __init__(self, width: int) -> None:
        """Make q, k and w of width d."""
        super().__init__()
        # Its own parameters, not layers: transformers would draw those anew where a checkpoint has none.
        self.query = nn.Parameter(torch.empty(width, width))
        self.key = nn.Parameter(torch.empty(width, width))
        self.gate = nn.Parameter(torch.empty(2 * width))
        self.bias = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights that make scores of unit variance from states of unit variance."""
        for weight in (self.query, self.key, self.gate):  # `init` leaves alone what a checkpoint held
            init.normal_(weight, std=len(weight) ** -0.5)
        init.constant_(self.bias, 1.0)

    def forward(self, decoder: Tensor, encoder: Tensor, copyable: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores, shape (B, T, S), and g, shape (B, T), of states of shape (B, T, d) and (B, S, d)."""
        scores = decoder @ self.query @ (encoder @ self.key).mT * decoder.shape[-1] ** -0.5
        attention = scores.masked_fill(~copyable[:, None], -torch.inf).softmax(-1)
        return scores, torch.cat([decoder, attention @ encoder], -1) @ self.gate + self.bias


class _Copying(_Model):
    """What makes T5 and MT5 copy."""

    def __init__(self, config: Any) -> None:
        """Add a copy head to the model."""
        super().__init__(config)
        self.copy_head = CopyHead(config.d_model)

    def _init_weights(self, module: nn.Module) -> None:
        module.reset_parameters() if isinstance(module, CopyHead) else super()._init_weights(module)

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        cache: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        decoder_source_ids: Tensor | None = None,
        **_: Any,  # what generation tells every model
    ) -> Seq2SeqLMOutput:
        """Return log p; where labels are given (-100 is ignored) the loss, and log p of each label alone."""
        source = input_ids if decoder_source_ids is None else decoder_source_ids
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        if labels is not None:
            decoder_input_ids = self._shift_right(labels)
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoder_outputs[0],
            encoder_attention_mask=attention_mask,
            cache=cache,
            use_cache=use_cache,
        )
        h, apart = decoded[0], [self.config.pad_token_id, self.config.decoder_start_token_id, self.config.eos_token_id]
        copyable = ~torch.isin(source, torch.tensor(apart, device=source.device))
        scale = self.model_dim**-0.5 if getattr(self.config, "scale_decoder_outputs", False) else 1.0
        scores, gate = self.copy_head(h, encoder_outputs[0], copyable)
        mixture = (self.lm_head(h * scale), scores, gate, source, copyable)
        if labels is None:
            return Seq2SeqLMOutput(logits=copy_log_probabilities(*mixture), cache=decoded.cache)
        kept = labels != -100
        log_p = copy_label_log_probabilities(*mixture, labels.where(kept, 0))
        return Seq2SeqLMOutput(loss=-log_p[kept].mean(), logits=log_p)

    def generate(self, input_ids: Tensor, **kwargs: Any) -> Any:
        """Generate as transformers does; it encodes once and passes on states, so the source goes along by name."""
        return super().generate(input_ids, decoder_source_ids=input_ids, **kwargs)


class CopyT5(_Copying, T5ForConditionalGeneration):
    """T5 with a copy head; `CopyT5.from_pretrained` of a T5 keeps its weights and draws those of the copy head.

    Without labels `logits` are log p, shape (B, T, V), which beam search and cross-entropy leave as they are. With
    labels they are log p(label), shape (B, T), and the loss is the mean of -log p(label). The configuration's padding,
    start and end tokens are not in C.

    Example:
        >>> from transformers import T5Config
        >>> shape = {"vocab_size": 9, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
        >>> config = T5Config(**shape, eos_token_id=3, decoder_start_token_id=2)
        >>> model = CopyT5(config).eval()
        >>> log_p = model(torch.tensor([[2, 5, 6, 3]]), decoder_input_ids=torch.tensor([[2, 6]])).logits
        >>> torch.allclose(log_p.exp().sum(-1), torch.ones(1, 2))
        True
    """


class CopyMT5(_Copying, MT5ForConditionalGeneration):
    """MT5 with a copy head; see `CopyT5`."""


def untie(model: T5ForConditionalGeneration | MT5ForConditionalGeneration) -> None:
    """Give a new model an output head of its own, W with variance 1 / d, and embeddings with the same.

    transformers ties both whatever the configuration says, and draws embeddings with variance 1: with such a head the
    first loss would be many times ln V. Here W h has variance 1, and it is about ln V + 1/2. Saving and loading keep
    the head; `tie_weights` would tie it again, without a word. A T5 needs `tie_word_embeddings=False` in its
    configuration, else its states are divided by √d.

    Example:
        >>> from transformers import MT5Config
        >>> model = MT5ForConditionalGeneration(MT5Config(vocab_size=9, d_model=8, num_layers=1))
        >>> untie(model)
        >>> model.lm_head.weight is model.shared.weight
        False
    """
    model.lm_head = nn.Linear(model.config.d_model, model.config.vocab_size, bias=False)
    for weight in (model.lm_head.weight, model.shared.weight):
        nn.init.normal_(weight, std=model.config.d_model**-0.5)

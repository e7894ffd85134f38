"""The published T5-PEGASUS on transformers' T5, as bert4keras 0.10.0 computes it, in which it was trained.

Letters: d width, h_t the decoder's state after its last norm, W the output head, q_t and k_s a query and a key, b an
entry of the decoder's table of relative positions. Other than in transformers' MT5:

    logits_t = d^-1/2 W h_t                                    though W is not tied to the embeddings
    a_ts     = softmax over s of q_t·k_s + b(max(t - s, 0))    in cross-attention as well, from the same table
    gelu(x)  = x Φ(x)                                          not its approximation by tanh

So has it bert4keras/models.py (`T5_Decoder`: apply_final_layers, compute_position_bias) and backend.py (`gelu_erf`).
No shape and no number of parameters tells: read as an MT5, the logits are √d = 27.7 times too large.
"""

# pyright: reportIncompatibleVariableOverride=false

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, T5Config
from transformers.models.t5.modeling_t5 import T5Block, T5ForConditionalGeneration

from replications.t5_pegasus.tokenizer import WordTokenizer

VOCABULARY = 50_000


class _FirstBlock(T5Block):
    """The decoder's first block, which owns the table; the blocks behind it get the bias of its cross-attention."""

    def forward(self, hidden_states: Tensor, *args: Any, cache: Any = None, **kwargs: Any) -> Any:
        """Give cross-attention a bias where transformers gives none."""
        mask, bias, encoded, encoded_mask, _ = args
        seen = cache.get_seq_length(0) if cache is not None else 0  # before self-attention adds to it
        own: Any = self.layer[0]
        cross = own.SelfAttention.compute_bias(hidden_states.shape[1], encoded.shape[1], past_seen_tokens=seen)
        return super().forward(hidden_states, mask, bias, encoded, encoded_mask, cross, cache=cache, **kwargs)


class PublishedT5(T5ForConditionalGeneration):
    """T5 with the equations above; it takes weights of T5 1.1, MT5 and the port of T5-PEGASUS (imxly) as they are.

    Example:
        >>> shape = {"vocab_size": 9, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
        >>> model = PublishedT5(T5Config(**shape))
        >>> model.num_parameters() == parameter_count(9, width=8, feed_forward=8, layers=1, heads=2, head_width=4)
        True
    """

    _tied_weights_keys = {f"{stack}.embed_tokens.weight": "shared.weight" for stack in ("encoder", "decoder")}  # noqa: RUF012

    def __init__(self, config: T5Config) -> None:
        """Make the model."""
        config = copy.deepcopy(config)
        config.is_gated_act, config.dense_act_fn, config.scale_decoder_outputs = True, "gelu", True
        super().__init__(config)
        self.decoder.block[0].__class__ = _FirstBlock  # the same weights, called in another way


def parameter_count(
    vocabulary: int, *, width: int, feed_forward: int, layers: int, heads: int, head_width: int = 64
) -> int:
    """Return 2Vd + L(4dh + 3df + 2d) + L(8dh + 3df + 3d) + 2d + 2·32·heads, where h = heads · head_width.

    Example:
        >>> parameter_count(50_000, width=768, feed_forward=2048, layers=12, heads=12)  # base
        275029248
        >>> parameter_count(50_000, width=512, feed_forward=1024, layers=8, heads=6)  # small
        95262080
    """
    d, h, f = width, heads * head_width, feed_forward
    return 2 * vocabulary * d + layers * (12 * d * h + 6 * d * f + 5 * d) + 2 * d + 2 * 32 * heads


def load(folder: Path, kind: type[Any] = PublishedT5) -> tuple[Any, Any]:
    """Load a model in float32 and its tokenizer, from a folder of files as the hub has them.

    With a `vocab.txt` texts are read by `WordTokenizer`, and a target starts with [CLS] and ends with [SEP]; else by
    the tokenizer that transformers finds, and a target starts with padding and ends with "</s>", as MT5's does.

    Args:
        folder: Of config.json, weights and vocabulary.
        kind: `PublishedT5`, or transformers' `MT5ForConditionalGeneration`.

    Returns:
        The model, which generates between these two tokens, and the tokenizer.

    Raises:
        ValueError: If weights are missing, the head is tied, or there is a vocab.txt without 50,000 tokens.
    """
    model, found = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    head, embedding = model.lm_head.weight, model.shared.weight
    if found["missing_keys"] or head.data_ptr() == embedding.data_ptr() or torch.equal(head, embedding):
        message = f"{folder}: the output head is tied, or weights are missing: {sorted(found['missing_keys'])}"
        raise ValueError(message)
    own = (folder / "vocab.txt").is_file()
    tokenizer = WordTokenizer(folder / "vocab.txt") if own else AutoTokenizer.from_pretrained(folder)
    if own and not len(tokenizer) == len(embedding) == VOCABULARY:
        message = f"{folder}: {len(tokenizer)} tokens in vocab.txt, {len(embedding)} in the model; not {VOCABULARY}"
        raise ValueError(message)
    start = tokenizer.cls_token_id if own else tokenizer.pad_token_id
    ends = {"pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": start}
    ends |= {"eos_token_id": tokenizer.eos_token_id}
    model.config.update(ends)
    model.generation_config = GenerationConfig(**ends)
    return model, tokenizer

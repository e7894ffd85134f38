import json
import math

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch.nn.functional import gelu, rms_norm
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5Tokenizer
from transformers.models.t5.modeling_t5 import T5LayerNorm

from paperkit.hardware import ON_CPU
from replications.t5_pegasus import published
from replications.t5_pegasus.copy_head import untie
from replications.t5_pegasus.published import PublishedT5, load
from replications.t5_pegasus.studies import paper
from replications.t5_pegasus.tokenizer import WordTokenizer, vocabulary

SHAPE = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
TITLES = [f"{word}的摘要" for word in ("词表", "注意力", "解码", "语料", "长度", "损失", "梯度", "偏置")]
BODY = "我们研究了{}的生成方法和模型的各种长处。模型在公开数据上取得了较好的结果。实验说明预训练对少量样本很有帮助。"
PAIRS = [(BODY.format(title), title) for title in TITLES]


def reference(weights, source, target, *, scale=16**-0.5, crossed=True, approximate="none"):
    """The equations of published.py and of T5 1.1 in plain torch, of a pair without padding: logits (target, V)."""

    def bias(name, rows, columns):
        table = weights[f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        buckets, found = 16 if name == "encoder" else 32, []
        for distance in (t - s for t in range(rows) for s in range(columns)):
            n, exact = abs(distance) if name == "encoder" else max(distance, 0), buckets // 2
            if n >= exact:  # 128 is the distance from which all share a bucket
                n = min(exact + int(math.log(n / exact) / math.log(128 / exact) * (buckets - exact)), buckets - 1)
            found.append(n + buckets * (name == "encoder" and distance < 0))
        return table[found].view(rows, columns, -1).permute(2, 0, 1)

    def norm(x, name):
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weights[f"{name}.weight"]

    def attention(x, y, name, added):
        q, k, v, o = (weights[f"{name}.{part}.weight"] for part in "qkvo")
        q, k, v = (z.view(len(z), len(added), -1).transpose(0, 1) for z in (x @ q.T, y @ k.T, y @ v.T))
        return ((q @ k.mT + added).softmax(-1) @ v).transpose(0, 1).flatten(1) @ o.T

    def stack(name, ids, encoded=None):
        x, added = weights["shared.weight"][ids], bias(name, len(ids), len(ids))
        if encoded is not None:
            added = added + torch.full_like(added, -torch.inf).triu(1)
            cross = bias(name, len(ids), len(encoded)) * crossed
        for layer in (f"{name}.block.{block}.layer" for block in range(SHAPE["num_layers"])):
            y = norm(x, f"{layer}.0.layer_norm")
            x, last = x + attention(y, y, f"{layer}.0.SelfAttention", added), f"{layer}.1"
            if encoded is not None:
                y = norm(x, f"{layer}.1.layer_norm")
                x, last = x + attention(y, encoded, f"{layer}.1.EncDecAttention", cross), f"{layer}.2"
            wi_0, wi_1, wo = (weights[f"{last}.DenseReluDense.{part}.weight"] for part in ("wi_0", "wi_1", "wo"))
            y = norm(x, f"{last}.layer_norm")
            x = x + (gelu(y @ wi_0.T, approximate=approximate) * (y @ wi_1.T)) @ wo.T
        return norm(x, f"{name}.final_layer_norm")

    return scale * stack("decoder", target, stack("encoder", source)) @ weights["lm_head.weight"].T


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Folders as of the hub: both kinds of model with random weights, and a corpus."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    words = WordTokenizer(vocabulary([body for body, _ in PAIRS], 5, min_count=1))
    pieces = ["<pad>", "</s>", "<unk>", "▁", *sorted({c for body, _ in PAIRS for c in body})]
    pieces += [f"<extra_id_{k}>" for k in reversed(range(100))]
    t5 = T5Tokenizer(vocab=[(piece, -1.0) for piece in pieces])
    for name, tokenizer, model in (
        ("t5_pegasus", words, PublishedT5(T5Config(**SHAPE, vocab_size=len(words)))),
        ("mt5", t5, MT5ForConditionalGeneration(MT5Config(**SHAPE, vocab_size=len(t5), tie_word_embeddings=False))),
    ):
        untie(model)
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)  # norms and tables that are seen
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    lines = {
        "train.tsv": [f"{title}\t{body}" for body, title in PAIRS],
        "test.json": [json.dumps({"title": title, "abst": body}) for body, title in PAIRS[:3]],
        "bad.tsv": [f"{TITLES[0]}\t{BODY}", "title alone"],
    }
    for name, some in lines.items():
        (folder / name).write_text("\n".join(some), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _small(hub, monkeypatch):
    monkeypatch.setattr(published, "VOCABULARY", len((hub / "t5_pegasus/vocab.txt").read_text().splitlines()))
    paper._started.cache_clear()


def study(hub, **changes):
    task = {
        "corpus": "csl", "folder": str(hub), "train": "train.tsv", "validation": "train.tsv", "test": "test.json",
        "t5_pegasus": str(hub / "t5_pegasus"), "t5_pegasus_small": str(hub / "t5_pegasus"), "mt5": str(hub / "mt5"),
        "epochs": 2, "batch": 4, "target_tokens": 8, "beams": [1, 2], "continued_steps": 3,
        "num_validation": 3, "num_test": 3,
    }  # fmt: skip
    return paper.Paper(tasks=[paper.Task(**(task | changes))], arms=list(paper.ARMS), labels=[5], num_seeds=1)


def test_logits_are_those_of_an_independent_decoder(hub, monkeypatch):
    # transformers takes the norm's variance in float32, whatever the precision.
    monkeypatch.setattr(T5LayerNorm, "forward", lambda self, x: rms_norm(x, x.shape[-1:], self.weight, 1e-6))
    model = load(hub / "t5_pegasus")[0].double()
    weights = {name: x.double() for name, x in load_file(hub / "t5_pegasus/model.safetensors").items()}
    source, target = (torch.randint(5, published.VOCABULARY, (2, n)) for n in (170, 150))
    source[1, 40:] = 0
    with torch.no_grad():
        logits = model(source, attention_mask=(source != 0).long(), decoder_input_ids=target).logits
    for row, length in ((0, 170), (1, 40)):
        pair = source[row, :length], target[row]
        assert (logits[row] - reference(weights, *pair)).abs().max() < 1e-10
        for other, apart in (({"scale": 1}, 1), ({"crossed": False}, 0.1), ({"approximate": "tanh"}, 1e-5)):
            assert (logits[row] - reference(weights, *pair, **other)).abs().max() > apart  # the controls


def test_generation_with_a_cache_takes_the_token_that_is_most_likely_without_one(hub):
    model, tokenizer = load(hub / "t5_pegasus")
    source = torch.tensor([tokenizer.encode(BODY)])
    made = model.generate(source, max_new_tokens=30, min_new_tokens=30, do_sample=False)
    with torch.no_grad():
        logits = model(source, decoder_input_ids=made[:, :-1]).logits
    logits[..., tokenizer.sep_token_id] = -torch.inf  # what min_new_tokens rules out
    assert made[0, 0] == tokenizer.cls_token_id
    assert torch.equal(logits.argmax(-1), made[:, 1:])


def test_a_tied_head_missing_weights_and_another_vocabulary_are_refused(hub, tmp_path, monkeypatch):
    model, tokenizer = load(hub / "t5_pegasus")
    assert model.generation_config.eos_token_id == tokenizer.sep_token_id
    monkeypatch.setattr(published, "VOCABULARY", 50_000)
    with pytest.raises(ValueError, match="not 50000"):
        load(hub / "t5_pegasus")
    for head, message in ((model.shared.weight.data.clone(), "head is tied"), (None, "lm_head.weight")):
        weights = {name: value for name, value in model.state_dict().items() if "embed_tokens" not in name}
        weights |= {"lm_head.weight": head}
        model.config.save_pretrained(tmp_path)
        save_file({name: x for name, x in weights.items() if x is not None}, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


def test_every_arm_reports_scores_of_each_beam(hub):
    some = study(hub)
    some.require()
    losses = set()
    for run in some.reports([3]):
        found = {row.metric: row.value for row in paper.measure_paper(run)}
        assert all(math.isfinite(value) for value in found.values())
        scores = {f"{name}_beam_{k}_points" for name in ("rouge_1", "rouge_2", "rouge_l", "bleu") for k in (1, 2)}
        gated = {f"pseudo_summary_nats_per_{of}" for of in ("token", "character") if "mt5" not in run.arm}
        assert set(found) == {"bleu_points", "nats_per_character"} | scores | gated
        losses.add(found["nats_per_character"])
    assert len(losses) == len(paper.ARMS) - 1  # base and small are the same folder here


def test_targets_that_are_learnt_by_heart_have_full_scores(hub):
    model = paper.Summariser(*load(hub / "t5_pegasus"), ON_CPU)
    pairs = model.pairs(PAIRS[:2], 64, 16)
    assert len(list(model.trained(pairs, 2, 1e-2, 150, 0))) == 150
    assert model.scores(pairs, TITLES[:2], 16, 2)["rouge_l"] > 99.9
    assert model.nats(pairs).max() < 0.5


def test_weights_that_are_no_t5_pegasus_are_stopped_before_training(hub):
    model = paper.Summariser(*load(hub / "t5_pegasus"), ON_CPU)
    model.t5.config.scale_decoder_outputs = False  # as an MT5
    model.t5.lm_head.weight.data *= 4
    with pytest.raises(ValueError, match="nats a token, of T5-PEGASUS 2 to 5"):
        list(paper.gate(model, [body for body, _ in PAIRS]))


def test_what_is_missing_is_named(hub, tmp_path, monkeypatch):
    other = study(hub, validation="bad.tsv", test="absent.json")
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        other.require()
    with pytest.raises(ValueError, match=r"bad\.tsv, line 2"):
        paper.read_pairs(other.tasks[0], "validation")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        study(hub, mt5=str(tmp_path)).require()
    (tmp_path / "config.json").touch()
    monkeypatch.setattr(paper, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="needs the package sentencepiece"):
        study(hub, mt5=str(tmp_path)).require()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="hf download imxly/t5-pegasus"):
        study(hub, t5_pegasus="imxly/t5-pegasus@main").require()

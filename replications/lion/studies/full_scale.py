"""The tasks of the profile `paper`: GPT-2 on WikiText-103 and ViT on CIFAR-100, from files of the Hugging Face hub.

A task draws a whole run beforehand as rows of whole numbers (which window; which image, crop and flip), one row a
sample. What is drawn depends on the seed alone: neither on the optimizer nor on the number of devices.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from pydantic import Field, model_validator
from tokenizers import Tokenizer
from torch import Tensor, nn

from paperkit.config import StrictModel
from paperkit.full_scale import HubFile
from paperkit.models.tiny_gpt import TinyGPT
from replications.lion.vit import VisionTransformer

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SIDE, PADDING, CLASSES = 32, 4, 100
# CIFAR-100 has no validation split: a tenth of its training images is held out, the same in every run.
VALIDATION_SHARE, SPLIT_SEED = 0.1, 0


def _wikitext(name: str) -> HubFile:
    revision = "b08601e04326c79dfdd32d625aee71d232d685c3"
    return HubFile("dataset", "Salesforce/wikitext", revision, f"wikitext-103-raw-v1/{name}.parquet")


def _cifar100(name: str) -> HubFile:
    revision = "aadb3af77e9048adbea6b47c21a81e47dd092ae5"
    return HubFile("dataset", "uoft-cs/cifar100", revision, f"cifar100/{name}.parquet")


TOKENIZER = HubFile("model", "openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e", "tokenizer.json")
TEXT: Mapping[Split, Sequence[HubFile]] = {
    "train": [_wikitext("train-00000-of-00002"), _wikitext("train-00001-of-00002")],
    "validation": [_wikitext("validation-00000-of-00001")],
    "test": [_wikitext("test-00000-of-00001")],
}
TRAIN_IMAGES, TEST_IMAGES = _cifar100("train-00000-of-00001"), _cifar100("test-00000-of-00001")
FILES = (TOKENIZER, *chain.from_iterable(TEXT.values()), TRAIN_IMAGES, TEST_IMAGES)


class Training(StrictModel):
    """What both tasks set."""

    width: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    warmup_share: float = Field(ge=0, le=0.5)  # of the steps, in the linear rise; half a cosine follows
    max_gradient_norm: float = Field(gt=0)  # L2 norm of all gradients at which they are clipped
    micro_batch: int = Field(ge=1)  # most samples a device handles at once; a batch is accumulated from these

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            message = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(message)
        return self


class LanguageModel(Training):
    """GPT-2 on WikiText-103."""

    context: int = Field(ge=1)  # tokens a window
    batch: int = Field(ge=1)  # windows a step
    steps: int = Field(ge=4)
    curve_points: int = Field(ge=1, le=50)  # evaluations on the validation split along a run, the last at its end

    @model_validator(mode="after")
    def _points_apart(self) -> Self:
        if self.curve_points > self.steps:
            message = f"curve_points {self.curve_points} must be at most steps = {self.steps}"
            raise ValueError(message)
        return self

    @property
    def batches(self) -> list[int]:
        """The batch sizes to study: one."""
        return [self.batch]


class Vision(Training):
    """A Vision Transformer on CIFAR-100."""

    patch: Literal[2, 4, 8, 16]  # side in pixels
    batches: list[Annotated[int, Field(ge=1)]] = Field(min_length=2)  # each divides samples_seen
    samples_seen: int = Field(ge=1)  # in a run, the same at every batch size

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        for batch in self.batches:
            if self.samples_seen % batch or self.samples_seen // batch < 4:
                message = f"batch {batch} must divide samples_seen {self.samples_seen} into at least 4 steps"
                raise ValueError(message)
        return self


@dataclass(frozen=True)
class LanguageTask:
    """Windows of consecutive tokens; a row of a draw is (first token)."""

    settings: LanguageModel
    vocabulary: int  # number of token ids
    tokens: Mapping[Split, Tensor]  # ids, int32, on the device
    search: ClassVar[str] = "lm_search"
    report: ClassVar[str] = "lm_quality"
    metrics: ClassVar[tuple[str, ...]] = ("loss_nats",)

    @classmethod
    def load(cls, settings: LanguageModel, device: torch.device) -> Self:
        """Encode the splits with GPT-2's tokenizer (minutes for the whole of WikiText-103)."""
        tokenizer = Tokenizer.from_file(str(TOKENIZER.path()))
        tokens = {split: encoded(tokenizer, TEXT[split]).to(device) for split in SPLITS}
        return cls(settings, tokenizer.get_vocab_size(), tokens)

    def new_model(self) -> nn.Module:
        """Make the model from torch's global generator; input and output share a matrix, as in GPT-2."""
        size = self.settings
        return TinyGPT(
            vocabulary=self.vocabulary, width=size.width, layers=size.layers, heads=size.heads, context=size.context,
            tied=True,
        )  # fmt: skip

    def evaluated_at(self, steps: int) -> set[int]:
        """Return the steps after which the validation loss is measured, but for the last."""
        return {round(steps * point / self.settings.curve_points) for point in range(1, self.settings.curve_points)}

    def draws(self, seed: int, batch: int) -> Tensor:
        """Draw the windows of a run uniformly with replacement, shape (steps, batch, 1)."""
        size = (self.settings.steps, batch, 1)
        starts = np.random.default_rng(seed).integers(len(self.tokens["train"]) - self.settings.context, size=size)
        return torch.from_numpy(starts)

    def everything(self, split: Split) -> Tensor:
        """Return all windows of a split, end to end, shape (windows, 1)."""
        return torch.arange(0, len(self.tokens[split]) - self.settings.context, self.settings.context)[:, None]

    def examples(self, split: Split, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and next tokens, each of shape (rows, context)."""
        index = rows + torch.arange(self.settings.context + 1, device=rows.device)
        windows = self.tokens[split][index].long()
        return windows[:, :-1], windows[:, 1:]


class Images(NamedTuple):
    """Images with a black border of `PADDING`, uint8 of shape (N, 40, 40, 3), and their classes, int64."""

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class VisionTask:
    """Random crops and flips of images; a row of a draw is (image, top, left, flipped)."""

    settings: Vision
    images: Mapping[Split, Images]
    search: ClassVar[str] = "batch_search"
    report: ClassVar[str] = "batch_sweep"
    metrics: ClassVar[tuple[str, ...]] = ("nll_nats", "accuracy")

    @classmethod
    def load(cls, settings: Vision, device: torch.device) -> Self:
        """Decode the images, and hold a validation split out."""
        train, test = decoded(TRAIN_IMAGES), decoded(TEST_IMAGES)
        order = torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(len(train.labels)))
        held_out = round(VALIDATION_SHARE * len(order))
        parts = {"train": order[held_out:], "validation": order[:held_out]}
        images = {split: Images(train.pixels[index], train.labels[index]) for split, index in parts.items()}
        images["test"] = test
        return cls(settings, {split: Images(*(t.to(device) for t in each)) for split, each in images.items()})

    def new_model(self) -> nn.Module:
        """Make the model from torch's global generator."""
        size = self.settings
        return VisionTransformer(
            side=SIDE, patch=size.patch, width=size.width, layers=size.layers, heads=size.heads, classes=CLASSES
        )

    def evaluated_at(self, steps: int) -> set[int]:  # noqa: ARG002
        """Return no step: only the end of a run is measured."""
        return set()

    def draws(self, seed: int, batch: int) -> Tensor:
        """Shuffle pass after pass, shape (steps, batch, 4): the same samples in the same order for every batch."""
        generator, count = np.random.default_rng(seed), self.settings.samples_seen
        images = len(self.images["train"].labels)
        order = np.concatenate([generator.permutation(images) for _ in range(-(-count // images))])[:count, None]
        corners = generator.integers(2 * PADDING + 1, size=(count, 2))
        flips = generator.integers(2, size=(count, 1))
        return torch.from_numpy(np.hstack([order, corners, flips]).astype(np.int32)).view(-1, batch, 4)

    def everything(self, split: Split) -> Tensor:
        """Return all images of a split, neither shifted nor flipped, shape (images, 4)."""
        number = torch.arange(len(self.images[split].labels))
        still = torch.full_like(number, PADDING)
        return torch.stack([number, still, still, torch.zeros_like(number)], dim=1)

    def examples(self, split: Split, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return crops in [-1, 1], shape (rows, 3, 32, 32), and classes, shape (rows,)."""
        pixels, labels = self.images[split]
        number, top, left, flipped = rows.long().T[..., None]
        along = torch.arange(SIDE, device=rows.device)
        across = left + torch.where(flipped.bool(), SIDE - 1 - along, along)
        crops = pixels[number[:, :, None], (top + along)[:, :, None], across[:, None, :]]
        return crops.permute(0, 3, 1, 2).float() / 127.5 - 1, labels[number[:, 0]]


def encoded(tokenizer: Tokenizer, files: Iterable[HubFile]) -> Tensor:
    """Encode the column "text" of parquet files, one row at a time: token ids, shape (tokens,), int32."""
    # A row of WikiText is a paragraph that ends with a line break, where GPT-2's tokenizer splits in any case: the ids
    # are those of the whole text.
    parts = []
    for file in files:
        for rows in pq.ParquetFile(file.path()).iter_batches(columns=["text"], batch_size=4096):
            ids = chain.from_iterable(e.ids for e in tokenizer.encode_batch_fast(rows.column(0).to_pylist()))
            parts.append(torch.from_numpy(np.fromiter(ids, dtype=np.int32)))
    return torch.cat(parts)


def decoded(file: HubFile) -> Images:
    """Decode the PNG images of a parquet file with the columns "img" (a structure with "bytes") and "fine_label"."""
    table = pq.read_table(file.path(), columns=["img", "fine_label"])
    images = [_pixels(image["bytes"]) for image in table["img"].to_pylist()]
    border = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))
    labels = torch.tensor(table["fine_label"].to_pylist())
    return Images(torch.from_numpy(np.pad(np.stack(images), border)), labels)


def _pixels(png: Any) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))

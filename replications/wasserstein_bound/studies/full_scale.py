"""The tasks of the profile `paper`: the authors' four clusters and moons, and MNIST, each as a finite set of points.

Networks are trained on a finite set, and its noised distribution is known (`finite_data`): the score-matching error is
exact but for the choice of points, for images too. `digits`, scikit-learn's, stands in for MNIST where the code is
tried without files.
"""

import io
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator
from sklearn.datasets import load_digits, make_moons
from torch import nn

from paperkit.config import StrictModel
from paperkit.full_scale import HubFile
from replications.wasserstein_bound.score_network import ScoreNetwork
from replications.wasserstein_bound.score_unet import ScoreUNet
from replications.wasserstein_bound.studies.score_training import WARMUP_STEPS

__all__ = ["DATA_SETS", "MNIST", "DataSet", "ImageTask", "PointTask", "Task"]

DataSet = Literal["four_clusters", "moons", "mnist", "digits"]
MNIST = HubFile(
    "dataset", "ylecun/mnist", "77f3279092a1c1579b2250db8eafed0ad422088c", "mnist/train-00000-of-00001.parquet"
)
# The data sets are fixed; seeds of the runs do not change them.
DATA_SEED = 0
CLUSTER_SIZE, CLUSTER_CENTRE, CLUSTER_SD = 1000, 0.5, 0.0125
NUM_MOONS, MOON_NOISE = 5000, 0.1


class Training(StrictModel):
    """What all tasks set."""

    data: DataSet
    batch: int = Field(ge=1)  # points a step, on all devices together
    lr: float = Field(gt=0)  # peak, of AdamW
    weight_decay: float = Field(ge=0)
    max_gradient_norm: float = Field(gt=0)  # clipping threshold, in the L2 norm of all gradients
    # Steps after which everything is measured, the last at the end of training
    checkpoints: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if sorted(set(self.checkpoints)) != self.checkpoints or self.checkpoints[-1] < WARMUP_STEPS + 2:
            message = f"checkpoints {self.checkpoints} must increase, the last to at least {WARMUP_STEPS + 2}"
            raise ValueError(message)
        return self


class PointTask(Training):
    """A multi-layer perceptron on points of the plane."""

    data: Literal["four_clusters", "moons"]
    width: int = Field(ge=1)  # units of a hidden layer
    depth: int = Field(ge=1)  # hidden layers

    def new_network(self) -> nn.Module:
        """Make the network from torch's global generator."""
        return ScoreNetwork(dimension=2, width=self.width, depth=self.depth)


class ImageTask(Training):
    """A U-Net on grey images."""

    data: Literal["mnist", "digits"]
    channels: int = Field(ge=4, multiple_of=4)  # at full resolution

    def new_network(self) -> nn.Module:
        """Make the network from torch's global generator."""
        return ScoreUNet(side={"mnist": 28, "digits": 8}[self.data], channels=self.channels)


Task = PointTask | ImageTask


def four_clusters() -> NDArray[np.float64]:
    """Return 1000 points around each of (±½, ±½), of standard deviation 0.0125, as in the authors' notebook."""
    rng = np.random.default_rng(DATA_SEED)
    corners = CLUSTER_CENTRE * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    return np.repeat(corners, CLUSTER_SIZE, axis=0) + CLUSTER_SD * rng.standard_normal((4 * CLUSTER_SIZE, 2))


def moons() -> NDArray[np.float64]:
    """Return 5000 points of scikit-learn's moons with noise 0.1, halved, as in the authors' notebook."""
    return make_moons(n_samples=NUM_MOONS, noise=MOON_NOISE, random_state=DATA_SEED)[0] / 2


def mnist() -> NDArray[np.float64]:
    """Return the training images of MNIST, flat, in [-1, 1]."""
    column = pq.read_table(MNIST.path(), columns=["image"])["image"].to_pylist()
    return np.stack([_pixels(image["bytes"]) for image in column]) / 127.5 - 1


def digits() -> NDArray[np.float64]:
    """Return scikit-learn's digits, flat, in [-1, 1]."""
    return load_digits(return_X_y=True)[0] / 8 - 1


DATA_SETS: Mapping[DataSet, Callable[[], NDArray[np.float64]]] = {
    "four_clusters": four_clusters,
    "moons": moons,
    "mnist": mnist,
    "digits": digits,
}


def _pixels(png: Any) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("L")).reshape(-1)

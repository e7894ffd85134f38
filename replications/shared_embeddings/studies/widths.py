"""Plain tying against half swap at several widths (X5): the training of `curves`."""

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from paperkit.config import StrictModel
from paperkit.tuning import LogRange, Search
from replications.shared_embeddings.studies.curves import Searches, Training
from replications.shared_embeddings.studies.language_model import EvenWidth, require_whole_heads

ARMS = ("tied", "half_swap")


class Widths(StrictModel):
    """The width sweep."""

    task: Training  # its width is replaced by each of `widths`
    widths: list[EvenWidth] = Field(min_length=2)
    lr: LogRange  # peak, the same for both arms and all widths
    num_trials: PositiveInt  # of each arm at each width, a power of two
    seeds: list[NonNegativeInt] = Field(min_length=1)  # of its report

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        require_whole_heads(self.widths, self.task)
        return self

    def searches(self) -> Searches:
        """List the arms at each width, the widest first."""
        space = {"lr": self.lr}
        for width in sorted(self.widths, reverse=True):
            task, label = {**self.task.in_runs, "width": width}, {"width": width}
            for arm in ARMS:
                yield Search("widths", arm, task, space, self.num_trials, "loss_nats", label=label), self.seeds

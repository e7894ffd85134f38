"""Several passes over a small text (C11): the training of `curves`."""

from pydantic import Field, NonNegativeInt, PositiveInt

from paperkit.config import StrictModel
from paperkit.tuning import LogRange, Search
from replications.shared_embeddings.studies.curves import Searches, Training

ARMS = ("half_swap", "untied")


class Passes(StrictModel):
    """Half swap against an untied head."""

    task: Training
    lr: LogRange
    num_trials: PositiveInt  # of each arm, a power of two
    seeds: list[NonNegativeInt] = Field(min_length=1)  # of its report

    def searches(self) -> Searches:
        """List the arms; the best loss on the way selects, not that at the end."""
        for arm in ARMS:
            search = Search("passes", arm, self.task.in_runs, {"lr": self.lr}, self.num_trials, "best_loss_nats")
            yield search, self.seeds

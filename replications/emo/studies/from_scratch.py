"""How fast each loss learns from nothing (C10), in the world of synonyms, whose cost is given from outside.

Each loss is judged by itself on held-out pairs; cross-entropy would favour MLE, and e or accuracy the loss e. Adam
hides that the gradient of e is small where the target is improbable, so plain gradient descent is looked at, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run
from paperkit.tuning import LogRange, Search
from replications.emo.loss import UnitEmbedding
from replications.emo.studies.arms import objective
from replications.emo.studies.synonyms import Setting, Task, World, logits_on_the_way, make_world

ARMS = ("mle", "emo", "pure_emo")
IMPROVEMENT = 0.9  # share of a loss's own improvement that counts as learned


class FromScratch(StrictModel):
    """The study; every loss chooses its rate by its own curve."""

    task: Setting
    pairs: int = Field(ge=2)
    cost_noise: float = Field(ge=0)
    lr: Mapping[str, LogRange]  # by optimizer
    num_trials: int = Field(ge=1)
    num_seeds: int = Field(ge=1)

    def searches(self) -> list[Search]:
        """List the searches: each loss under each optimizer."""
        task = {**self.task.model_dump(), "pairs": self.pairs, "cost_noise": self.cost_noise}
        return [
            Search(f"scratch_{name}", arm, task | {"optimizer": name}, {"lr": lr}, self.num_trials, "own_area_ratio")
            for name, lr in self.lr.items()
            for arm in ARMS
        ]

    def reports(self, points: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[Run]:
        """List the reported runs from the selected point of each search."""
        return [
            Run(search.experiment, search.arm, seed, {**search.task, **point})
            for search, point in zip(self.searches(), points, strict=True)
            for seed in seeds[: self.num_seeds]
        ]


def measure_scratch(run: Run) -> Iterator[Measurement]:
    """Report the least loss so far, at the end and as a mean along the way, and when most of it was gained."""
    steps, ratios = own_losses(run, make_world(Task.from_config(run.config), run.seed))
    least = np.minimum.accumulate(ratios)  # NaN from where a run diverges
    learned = 1 - least >= IMPROVEMENT * (1 - least[-1])
    values = {
        "own_area_ratio": least.mean(),  # selects: low soon and in the end
        "own_loss_ratio": least[-1],
        "own_improvement_steps": steps[np.argmax(learned)] if learned.any() else np.nan,
    }
    yield from (Measurement("validation", int(steps[-1]), name, float(value)) for name, value in values.items())


def own_losses(run: Run, world: World) -> tuple[np.ndarray, np.ndarray]:
    """Return steps, and at each the arm's own loss of held-out pairs over that of a uniform prediction."""
    loss, cost = objective(run.arm), UnitEmbedding(world.true)
    x, y = torch.from_numpy(world.held_out).T
    start = loss(torch.zeros(len(y), len(world.log_p)), y, cost)
    found = [(step, float(loss(logits[x], y, cost) / start)) for step, logits in logits_on_the_way(run, world)]
    return np.array([step for step, _ in found]), np.array([ratio for _, ratio in found])

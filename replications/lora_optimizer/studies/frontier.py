"""What adapting costs the text that a model knew, at equal gain on the new one: endpoints of runs at many rates.

A single rate decides nothing: a larger one gains more and forgets more. So every arm runs at every rate of its list,
to the end of its schedule, and the loss on the source is read at a gain that all arms reach. The gains are fixed on
tuning seeds: a quarter, a half and three quarters of what the arm that gains least gains at its best rate.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from paperkit.models.language_model import mean_loss
from paperkit.runs import Measurement, Rows, Run
from paperkit.texts import Split

SHARES = (0.25, 0.5, 0.75)
TARGETS = "_targets"  # behind the name: runs on tuning seeds, of which only the validation split is looked at
EVALUATED_AT_ONCE = 16  # windows
Windows = Callable[[Split], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Frontier:
    """Arms that are held against each other, with the rates of each."""

    experiment: str
    arms: Mapping[str, Sequence[float]]
    task: Mapping[str, Any]
    num_seeds: int
    gains_of: str | None = None  # the experiment that fixes the gains; None for this one

    def target_runs(self, tuning_seeds: Sequence[int]) -> list[Run]:
        """List the runs that fix the gains, if this one does."""
        if self.gains_of:
            return []
        return self._runs(self.experiment + TARGETS, tuning_seeds, {})

    def gains(self, rows_of_targets: Sequence[Rows]) -> list[float]:
        """Fix the gains, from the rows of the runs for that."""
        found: dict[str, dict[float, list[float]]] = {arm: {} for arm in self.arms}
        for rows in rows_of_targets:
            (row,) = rows
            if row["value"] is not None:
                found[row["arm"]].setdefault(row["config"]["lr"], []).append(row["value"])
        # A rate that lost a seed gains nothing.
        seeds = len(rows_of_targets) // sum(map(len, self.arms.values()))
        weakest = min(
            max((sum(of) / seeds for of in of_arm.values() if len(of) == seeds), default=0.0)
            for of_arm in found.values()
        )
        return [round(share * weakest, 4) for share in SHARES]

    def runs(self, gains: Sequence[float], seeds: Sequence[int]) -> list[Run]:
        """List the reported runs; their configuration holds the gains."""
        return self._runs(self.experiment, seeds[: self.num_seeds], {"gains": list(gains)})

    def _runs(self, name: str, seeds: Sequence[int], more: Mapping[str, Any]) -> list[Run]:
        return [
            Run(name, arm, seed, {**self.task, **more, "lr": lr})
            for seed in seeds
            for arm, rates in self.arms.items()
            for lr in rates
        ]


def gained_and_lost(
    run: Run, start: nn.Module, model: nn.Module, target: Windows, source: Windows
) -> Iterator[Measurement]:
    """Report the gain on the target and the loss on the source of a model after it was trained from the start."""
    steps = run.config["steps"]
    split: Split = "validation" if run.experiment.endswith(TARGETS) else "test"
    before, after = (mean_loss(each, *target(split)) for each in (start, model))
    yield Measurement(split, steps, "gain_nats", before - after)
    if split == "test":
        inputs, targets = source("test")
        yield Measurement("test", steps, "start_source_loss_nats", mean_loss(start, inputs, targets))
        yield Measurement("test", steps, "source_loss_nats", mean_loss(model, inputs, targets))
        yield Measurement("test", steps, "source_drift_nats", drift(start, model, inputs))
        pairs = zip(start.parameters(), model.parameters(), strict=True)
        moved = torch.stack([(after - before).detach().norm() for before, after in pairs]).norm()
        yield Measurement("none", steps, "distance_norm", float(moved))


@torch.no_grad()
def drift(start: nn.Module, model: nn.Module, inputs: Tensor) -> float:
    """Return KL(start || model) a token over windows; both in evaluation mode."""
    device, total = next(model.parameters()).device, 0.0
    for some in inputs.split(EVALUATED_AT_ONCE):
        log_p, log_q = (functional.log_softmax(each(some.to(device)), -1).flatten(0, 1) for each in (start, model))
        total += functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean").item() * len(some)
    return total / len(inputs)

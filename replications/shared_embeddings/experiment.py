"""Shared output embeddings: every study behind claims.yaml; what each trains and measures stands in `studies/`.

Every arm of a study gets the same trials of the learning rate; the validation loss at the reported horizon selects,
and the selected rate is run again on fresh seeds, paired between arms. All trials form one grid and all reported runs
another, heavy runs first, so that the workers end together.
"""

from collections.abc import Callable, Iterable
from typing import Self

from pydantic import Field, NonNegativeInt, model_validator

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import StageConfig, Tables, main
from paperkit.tuning import LogRange, Tuning, tune
from replications.shared_embeddings.studies import drawings
from replications.shared_embeddings.studies.curves import Curves, measure_curve, measure_trial
from replications.shared_embeddings.studies.first_loss import FirstLoss, measure_first_loss
from replications.shared_embeddings.studies.initial_loss import InitialLoss, measure_initial_loss
from replications.shared_embeddings.studies.passes import Passes
from replications.shared_embeddings.studies.rare_rows import RareRows, measure_rare_rows
from replications.shared_embeddings.studies.widths import Widths


class Rates(Tuning):
    """What all searches share."""

    lr: LogRange  # peak, the same for every arm; widths and passes have ranges of their own


class Config(StageConfig):
    """One profile of params.yaml; it runs the studies that it names. `hardware` is that of all language models."""

    search: Rates
    seeds: list[NonNegativeInt] = Field(min_length=1)  # fresh; studies without their own take the first so many
    initial_loss: InitialLoss | None = None
    first_loss: FirstLoss | None = None
    curves: Curves | None = None
    widths: Widths | None = None
    passes: Passes | None = None
    lion: RareRows | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        reported = {"seeds": self.seeds}
        for path in ("initial_loss", "first_loss", "curves", "widths", "passes", "lion"):
            for name, value in getattr(self, path) or ():
                if name == "seeds":
                    reported[f"{path}.seeds"] = value
                if name == "num_trials" and value & (value - 1):
                    message = f"{path}.num_trials {value} must be a power of two (1, 2, 4, 8, 16 …)"
                    raise ValueError(message)
                if name.startswith("num_") and name.endswith("seeds") and value > len(self.seeds):
                    message = f"{path}.{name} {value} must be at most the number of seeds, {len(self.seeds)}"
                    raise ValueError(message)
        self.search.refuse_shared(reported)
        return self

    def require(self) -> None:
        """Refuse a missing device, or a missing text of what is trained."""
        super().require()
        for study in (self.curves, self.widths, self.passes):
            if study:
                study.task.require()


def run(config: Config, runner: Runner) -> Tables:
    """Run every study that the profile names."""
    searches = [
        *(config.widths.searches() if config.widths else ()),
        *(config.curves.searches(config.seeds, config.search.lr) if config.curves else ()),
        *(config.passes.searches() if config.passes else ()),
    ]
    tuned, trials = tune(runner, measure_run, [search for search, _ in searches], config.search)
    best = [(of, seeds, of_arm.best()) for (of, seeds), of_arm in zip(searches, tuned, strict=True)]
    rates = {(of.experiment, of.arm): point["lr"] for of, _, point in best}
    grid = [Run(of.experiment, of.arm, seed, {**of.task, **point}) for of, seeds, point in best for seed in seeds]
    if config.curves:
        grid += config.curves.factorial(config.seeds, rates["curves", "half_swap"])
    for study in (config.first_loss, config.initial_loss, config.lion):
        if study:
            grid += study.runs(config.seeds)
    if config.initial_loss:
        grid += drawings.runs()  # what its formulas rest on
    return Tables(execute(runner, measure_run, grid), trials)


MEASURES: dict[str, Callable[[Run], Iterable[Measurement]]] = {
    **dict.fromkeys(("widths", "curves", "passes", "factorial"), measure_curve),
    "first_loss": measure_first_loss,
    "initial_loss": measure_initial_loss,
    "rare_rows": measure_rare_rows,
    "scores": drawings.measure_scores,
    "self_logits": drawings.measure_self_logits,
}


def measure_run(run: Run) -> Iterable[Measurement]:
    """Measure a run of any study, or a trial ("_search" behind its name): one function, so that all form one grid."""
    return measure_trial(run) if run.experiment.endswith("_search") else MEASURES[run.experiment](run)


if __name__ == "__main__":
    main(Config, run, stage="shared_embeddings", module="replications.shared_embeddings.experiment", tables=["sotu"])

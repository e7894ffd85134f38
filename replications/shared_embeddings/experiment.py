"""Shared output embeddings: every study behind claims.yaml, in one grid, heavy runs first."""

from collections.abc import Callable, Iterable
from typing import Self

from pydantic import Field, NonNegativeInt, model_validator

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import StageConfig, Tables, main
from paperkit.tuning import Tuning, tune
from replications.shared_embeddings.studies import drawings
from replications.shared_embeddings.studies.curves import FixedRates, Tuned, Widths, measure_curve, measure_trial
from replications.shared_embeddings.studies.first_loss import FirstLoss, measure_first_loss
from replications.shared_embeddings.studies.initial_loss import InitialLoss, measure_initial_loss
from replications.shared_embeddings.studies.rare_rows import RareRows, measure_rare_rows

AT_FIXED_RATES = ("passes", "short", "curves", "other_text")


class Config(StageConfig):
    """One profile of params.yaml; it runs the studies that it names. `hardware` is that of all language models."""

    search: Tuning
    seeds: list[NonNegativeInt] = Field(min_length=1)  # studies without seeds of their own take the first so many
    initial_loss: InitialLoss | None = None
    first_loss: FirstLoss | None = None
    long: Tuned | None = None  # C6r to C8r and what hangs on them
    short: FixedRates | None = None  # the same at the horizon of C6 to C8, and X8r
    curves: FixedRates | None = None  # C10, X7, X9
    other_text: FixedRates | None = None  # variations of C6r and C7r
    widths: Widths | None = None  # X5
    passes: FixedRates | None = None  # C11: several passes over a small text
    lion: RareRows | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        reported = {"seeds": self.seeds}
        for path in ("initial_loss", "first_loss", "long", *AT_FIXED_RATES, "widths", "lion"):
            for name, value in getattr(self, path) or ():
                if name == "seeds":
                    reported[f"{path}.seeds"] = value
                if name == "num_seeds" and value > len(self.seeds):
                    message = f"{path}.{name} {value} must be at most the number of seeds, {len(self.seeds)}"
                    raise ValueError(message)
        self.search.refuse_shared(reported)
        return self

    def require(self) -> None:
        """Refuse a missing device, or a missing text of what is trained."""
        super().require()
        for name in ("long", *AT_FIXED_RATES, "widths"):
            if study := getattr(self, name):
                study.task.require()


def run(config: Config, runner: Runner) -> Tables:
    """Run every study that the profile names."""
    searches = config.long.searches() if config.long else []
    tuned, trials = tune(runner, measure_run, searches, config.search)
    grid: list[Run] = []
    if config.long:
        selected = {of.arm: outcome.best()["lr"] for of, outcome in zip(searches, tuned, strict=True)}
        grid += config.long.runs(selected)
    if config.widths:
        grid += config.widths.runs()
    for name in AT_FIXED_RATES:
        if study := getattr(config, name):
            grid += study.runs(name)
    for study in (config.first_loss, config.initial_loss, config.lion):
        if study:
            grid += study.runs(config.seeds)
    if config.initial_loss:
        grid += drawings.runs()  # what its formulas rest on
    return Tables(execute(runner, measure_run, grid), trials)


MEASURES: dict[str, Callable[[Run], Iterable[Measurement]]] = {
    **dict.fromkeys(("long", "widths", *AT_FIXED_RATES), measure_curve),
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
    main(
        Config,
        run,
        stage="shared_embeddings",
        module="replications.shared_embeddings.experiment",
        tables=["sotu", "python_docs"],
    )

"""LoRA as an optimizer: every study behind claims.yaml; what each trains and measures stands in `studies/`.

Every arm of a study gets the same trials of the learning rate, in a race; the validation loss selects, and the
selected rate is run again on fresh seeds, paired between arms. Where forgetting is compared, nothing is selected: arms
run at all rates of the list, and are held against each other at gains that runs on tuning seeds have fixed.
"""

from collections.abc import Callable, Iterable
from typing import Self

from pydantic import Field, NonNegativeInt, model_validator

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import StageConfig, Tables, main
from paperkit.tuning import Tuning, tune
from replications.lora_optimizer.studies.adaptation import Adaptation, measure_adaptation, measure_frontier
from replications.lora_optimizer.studies.continued import Continued, measure_continued
from replications.lora_optimizer.studies.encoder import Encoder, measure_encoder
from replications.lora_optimizer.studies.forms import Costs, Forms, measure_costs, measure_forms


class Config(StageConfig):
    """One profile of params.yaml: it runs the studies that it names."""

    search: Tuning
    seeds: list[NonNegativeInt] = Field(min_length=1)  # fresh; each study takes the first so many
    adaptation: Adaptation | None = None
    costs: Costs | None = None
    encoder: Encoder | None = None
    continued: Continued | None = None
    forms: Forms | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.search.refuse_shared({"seeds": self.seeds})
        for path in ("adaptation", "encoder", "continued", "forms"):
            for name, value in getattr(self, path) or ():
                if name.startswith("num_") and value > len(self.seeds):
                    message = f"{path}.{name} {value} must be at most the number of seeds, {len(self.seeds)}"
                    raise ValueError(message)
        return self

    def require(self) -> None:
        """Refuse to start without the device, or without pretrained weights and texts."""
        super().require()
        for study in (self.encoder, self.continued):
            if study:
                study.require()


def run(config: Config, runner: Runner) -> Tables:
    """Run every study of the profile."""
    tuned_studies = [study for study in (config.encoder, config.adaptation) if study]
    searches = [study.searches() for study in tuned_studies]
    tuned, trials = tune(runner, measure_run, [search for of_study in searches for search in of_study], config.search)
    outcomes = iter(tuned)
    grid: list[Run] = []
    for study, of_study in zip(tuned_studies, searches, strict=True):
        grid += study.reports([next(outcomes) for _ in of_study], config.seeds)
    frontiers = [f for study in (config.adaptation, config.continued) if study for f in study.forgetting()]
    first = [frontier.target_runs(config.search.seeds) for frontier in frontiers]
    rows = iter(runner(measure_run, [run for of_frontier in first for run in of_frontier]))
    gains: dict[str, list[float]] = {}
    for frontier, of_frontier in zip(frontiers, first, strict=True):
        if of_frontier:
            gains[frontier.experiment] = frontier.gains([next(rows) for _ in of_frontier])
        grid += frontier.runs(gains[frontier.gains_of or frontier.experiment], config.seeds)
    grid += config.costs.runs() if config.costs else []
    grid += config.forms.runs(config.seeds) if config.forms else []
    return Tables(execute(runner, measure_run, [run for of in first for run in of] + grid), trials)


# By the first word of the experiment.
MEASURES: dict[str, Callable[[Run], Iterable[Measurement]]] = {
    "adapt": measure_adaptation,
    "geometry": measure_adaptation,
    "penalty": measure_adaptation,
    "frontier": measure_frontier,
    "continued": measure_continued,
    "encoder": measure_encoder,
    "costs": measure_costs,
    "forms": measure_forms,
}


def measure_run(run: Run) -> Iterable[Measurement]:
    """Measure a run of any study, or a trial ("_search" behind its name): one function, so that all form one grid."""
    return MEASURES[run.experiment.partition("_")[0]](run)


if __name__ == "__main__":
    main(
        Config, run, stage="lora_optimizer", module="replications.lora_optimizer.experiment",
        tables=["sotu", "python_docs"],
    )  # fmt: skip

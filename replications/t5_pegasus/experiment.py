"""T5-PEGASUS fine-tuning: every study behind claims.yaml; what each trains and measures stands in `studies/`.

Every arm of pretraining gets the same trials of its rate, in a race. Validation titles select; the selected rate runs
again on fresh seeds, paired between arms: a seed fixes first weights, windows and their order, and labels.
"""

from collections.abc import Callable, Iterable
from typing import Self

from pydantic import Field, NonNegativeInt, model_validator

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import StageConfig, Tables, main
from paperkit.tuning import Tuning, tune
from replications.t5_pegasus.studies.counts import Counts, measure_rule, measure_tokens
from replications.t5_pegasus.studies.headings import Headings, measure_baseline, measure_headings, measure_trial
from replications.t5_pegasus.studies.paper import Paper, measure_paper


class Config(StageConfig):
    """One profile of params.yaml: it runs the studies that it names."""

    search: Tuning
    seeds: list[NonNegativeInt] = Field(min_length=1)  # fresh; each study takes the first so many
    headings: Headings | None = None
    counts: Counts | None = None
    paper: Paper | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.search.refuse_shared({"seeds": self.seeds})
        for path in ("headings", "paper"):
            for name, value in getattr(self, path) or ():
                if name.endswith("_seeds") and value > len(self.seeds):
                    message = f"{path}.{name} {value} must be at most the number of seeds, {len(self.seeds)}"
                    raise ValueError(message)
        return self

    def require(self) -> None:
        """Refuse to start without the device, or without published weights and corpora."""
        super().require()
        if self.paper:
            self.paper.require()


def run(config: Config, runner: Runner) -> Tables:
    """Run every study of the profile."""
    searches = config.headings.searches() if config.headings else []
    tuned, trials = tune(runner, measure_run, searches, config.search)
    grid = config.headings.reports(tuned, config.seeds) if config.headings else []
    grid += config.counts.runs(config.seeds) if config.counts else []
    grid += config.paper.reports(config.seeds) if config.paper else []
    return Tables(execute(runner, measure_run, grid), trials)


Measure = Callable[[Run], Iterable[Measurement]]
# By the first word of the experiment.
MEASURES: dict[str, Measure] = {
    "headings": measure_headings,
    "baselines": measure_baseline,
    "tokens": measure_tokens,
    "rules": measure_rule,
    "paper": measure_paper,
}


def measure_run(run: Run) -> Iterable[Measurement]:
    """Measure a run of any study, or a trial: one function, so that all form one grid."""
    return (
        measure_trial(run) if run.experiment.endswith("_search") else MEASURES[run.experiment.partition("_")[0]](run)
    )


if __name__ == "__main__":
    main(
        Config, run, stage="t5_pegasus", module="replications.t5_pegasus.experiment",
        tables=["zh_docs", "zh_descriptions", "poems"],
    )  # fmt: skip

"""EMO against MLE: every study behind claims.yaml; what each trains and measures stands in `studies/`.

Every arm of a study gets the same trials of the learning rate, in a race; the validation loss selects, and the
selected rate is run again on fresh seeds, paired between arms. All trials form one grid and all reports another.
"""

from collections.abc import Callable, Iterable
from typing import Self

from pydantic import Field, NonNegativeInt, model_validator

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import StageConfig, Tables, main
from paperkit.tuning import Tuning, tune
from replications.emo.studies.continued import Continued, measure_continued, measure_continued_trial
from replications.emo.studies.fixed_points import FixedPoints, measure_fixed_point
from replications.emo.studies.from_scratch import FromScratch, measure_scratch
from replications.emo.studies.pretrained import Pretrained, measure_pretrained, measure_pretrained_trial
from replications.emo.studies.synonyms import Synonyms, measure_synonyms, measure_synonyms_trial


class Config(StageConfig):
    """One profile of params.yaml: it runs the studies that it names."""

    search: Tuning
    seeds: list[NonNegativeInt] = Field(min_length=1)  # fresh; each study takes the first so many
    continued: Continued | None = None
    synonyms: Synonyms | None = None
    from_scratch: FromScratch | None = None
    fixed_points: FixedPoints | None = None
    pretrained: Pretrained | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.search.refuse_shared({"seeds": self.seeds})
        for path in ("continued", "synonyms", "from_scratch", "fixed_points"):
            for name, value in getattr(self, path) or ():
                if name.startswith("num_") and name.endswith("seeds") and value > len(self.seeds):
                    message = f"{path}.{name} {value} must be at most the number of seeds, {len(self.seeds)}"
                    raise ValueError(message)
        if self.continued and self.pretrained:
            message = "continued and pretrained are one experiment at two scales; a profile has one of them"
            raise ValueError(message)
        return self

    def require(self) -> None:
        """Refuse to start without the device, or without pretrained weights and texts."""
        super().require()
        if self.pretrained:
            self.pretrained.require()


def run(config: Config, runner: Runner) -> Tables:
    """Run every study of the profile."""
    studies = [study for study in (config.pretrained, config.continued, config.synonyms, config.from_scratch) if study]
    searches = [study.searches() for study in studies]
    tuned, trials = tune(runner, measure_run, [search for of_study in searches for search in of_study], config.search)
    points = iter([of_search.best() for of_search in tuned])
    grid: list[Run] = []
    for study, of_study in zip(studies, searches, strict=True):
        grid += study.reports([next(points) for _ in of_study], config.seeds)
    if config.fixed_points:
        grid += config.fixed_points.runs(config.seeds)
    return Tables(execute(runner, measure_run, grid), trials)


Measure = Callable[[Run], Iterable[Measurement]]
# Of a report and of a trial, by the first word of the experiment.
MEASURES: dict[str, tuple[Measure, Measure]] = {
    "continued": (measure_continued, measure_continued_trial),
    "synonyms": (measure_synonyms, measure_synonyms_trial),
    "scratch": (measure_scratch, measure_scratch),
    "fixed": (measure_fixed_point, measure_fixed_point),
}


def measure_run(run: Run) -> Iterable[Measurement]:
    """Measure a run of any study, or a trial ("_search" behind its name): one function, so that all form one grid."""
    # The experiment of continued training at its two scales: only a pretrained model has a name.
    pretrained = (measure_pretrained, measure_pretrained_trial)
    report, trial = pretrained if "model" in run.config else MEASURES[run.experiment.partition("_")[0]]
    return trial(run) if run.experiment.endswith("_search") else report(run)


if __name__ == "__main__":
    main(Config, run, stage="emo", module="replications.emo.experiment", tables=["sotu", "python_docs"])

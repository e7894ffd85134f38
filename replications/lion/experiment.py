"""Lion against AdamW: every study behind claims.yaml; each has its settings and its grid in a module of `studies/`."""

from itertools import chain
from typing import Self

from pydantic import Field, model_validator

from paperkit.runs import Runner
from paperkit.stage import StageConfig, Tables, main
from replications.lion.studies.ablation import Ablation, run_ablation
from replications.lion.studies.batch_sweep import BatchSweep, run_batch_sweep
from replications.lion.studies.derivation import Derivation, run_derivation
from replications.lion.studies.embedding import Embedding, run_embedding
from replications.lion.studies.headline import Headline, run_headline
from replications.lion.studies.search import Searches, Seed
from replications.lion.studies.variants import Variants, run_variants


class Config(StageConfig):
    """One profile of params.yaml: it runs the studies that it names."""

    search: Searches
    seeds: list[Seed] = Field(min_length=1)  # fresh seeds of the headline's report
    # Fresh seeds of the other studies, each of which takes the first so many.
    study_seeds: list[Seed] = Field(default=[])
    headline: Headline
    variants: Variants | None = None
    batch_sweep: BatchSweep | None = None
    ablation: Ablation | None = None  # on the task of the batch sweep
    embedding: Embedding | None = None
    derivation: Derivation | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        noise_seeds = self.derivation.noise_seeds if self.derivation else []
        self.search.refuse_shared({
            "seeds": self.seeds,
            "study_seeds": self.study_seeds,
            "derivation.noise_seeds": noise_seeds,
        })
        shared = sorted(set(self.seeds) & set(self.study_seeds))
        if shared:
            message = f"seeds and study_seeds share {shared}; give each study seeds of its own"
            raise ValueError(message)
        batches = self.batch_sweep.task.batches if self.batch_sweep else []
        if self.ablation and self.ablation.batch not in batches:
            message = f"ablation.batch {self.ablation.batch} must be one of {batches}, those of batch_sweep"
            raise ValueError(message)
        for path in ("headline", "variants", "batch_sweep", "ablation", "embedding"):
            limit = len(self.seeds if path == "headline" else self.study_seeds)
            for name, value in getattr(self, path) or ():
                if name.startswith("num_") and name.endswith("seeds") and value > limit:
                    message = f"{path}.{name} {value} must be at most the number of seeds, {limit}"
                    raise ValueError(message)
        return self

    def require(self) -> None:
        """Refuse to start without the device, and without the text of the headline."""
        super().require()
        self.headline.task.require()


def run(config: Config, runner: Runner) -> Tables:
    """Run every study of the profile."""
    search, seeds = config.search, config.study_seeds
    tables = [run_headline(config.headline, search, config.seeds, runner)]
    if config.batch_sweep:
        tables.append(run_batch_sweep(config.batch_sweep, search, seeds, runner))
    if config.variants:
        tables.append(run_variants(config.variants, search, seeds, runner))
    if config.embedding:
        tables.append(run_embedding(config.embedding, search, seeds, runner))
    if config.ablation and config.batch_sweep:
        tables.append(run_ablation(config.ablation, config.batch_sweep.task, search, seeds, runner))
    if config.derivation:
        tables.append(run_derivation(config.derivation, runner))
    return Tables(
        runs=list(chain.from_iterable(table.runs for table in tables)),
        trials=list(chain.from_iterable(table.trials for table in tables)),
    )


if __name__ == "__main__":
    main(Config, run, stage="lion", module="replications.lion.experiment", tables=["sotu", "python_docs"])

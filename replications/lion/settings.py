"""What a profile of params.yaml says: the studies, their boxes and budgets, and what must fit together.

Every key is checked before anything is trained; what it means stands at its field.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from paperkit.config import StrictModel
from paperkit.tuning import LogRange, Tuning
from replications.lion.tasks.digits import Digits
from replications.lion.tasks.embedding import Embedding
from replications.lion.tasks.language_model import LanguageModel

VARIANTS = ("adamw", "lion", "cautious_lion", "signum", "tiger")
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[list[Beta], Field(min_length=2, max_length=2)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
PowerOfTwo = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class Box(StrictModel):
    """The declared ranges of a study; the same for all its arms."""

    lr: LogRange  # peak learning rate
    weight_decay: LogRange  # the decay coefficient λ: a step shrinks matrices by 1 - lr·λ


class Search(Tuning):
    """What all searches share."""

    betas: Mapping[str, list[Betas]]  # candidate pairs of each arm; an arm with one beta has it twice

    @model_validator(mode="after")
    def _fair(self) -> Self:
        candidates = {arm: len(self.betas.get(arm, [])) for arm in VARIANTS}
        if 0 in candidates.values() or len(set(candidates.values())) > 1:
            message = f"betas gives {candidates} candidate pairs; each arm needs the same number, at least one"
            raise ValueError(message)
        return self

    def space(self, arm: str, box: Box) -> dict[str, Any]:
        """Return what `draw_trials` searches for one arm: a range or list of choices for each hyper-parameter."""
        return {"lr": box.lr, "weight_decay": box.weight_decay, "betas": self.betas[arm]}


class Headline(StrictModel):
    """The language model of the headline claim (C6), and what is asked about its verdict."""

    task: LanguageModel
    box: Box
    num_trials: PowerOfTwo  # of each arm
    # Smaller budgets, at which the verdict is drawn again: the first trials of the same sequence.
    budgets: list[Count] = Field(min_length=1)
    num_budget_seeds: Count  # of each
    num_transfer_seeds: Count  # of Lion at AdamW's transferred point (X1)
    window: Count  # steps over which updates are summed for the measured ratio k


class Variants(StrictModel):
    """Lion's relatives on a smaller language model."""

    task: LanguageModel
    box: Box
    num_trials: PowerOfTwo  # of each arm
    num_seeds: Count  # of each arm
    lr_factors: list[Positive] = Field(min_length=1)  # on each arm's own best learning rate (C13), for AdamW and Lion
    window: Count  # steps between two looks at the updates


class BatchSweep(StrictModel):
    """Batch size against quality and learning rate, on digits (C4, C5)."""

    task: Digits
    box: Box
    num_trials: PowerOfTwo  # of each arm at each batch size
    num_seeds: Count  # of each arm at its selected points
    rates: LogRange  # ends of the grid of learning rates, without decay, for C4
    num_rates: Annotated[int, Field(ge=5)]  # points of that grid
    num_rate_seeds: Count  # at each of them
    window: Count  # steps over which updates are summed for the measured ratio k


class Ablation(StrictModel):
    """Betas, box and flatness on digits at one batch size."""

    batch: Count  # one of the sweep's
    box: Box
    num_trials: PowerOfTwo  # of each pair of betas
    num_seeds: Count  # of each pair
    betas: list[Betas] = Field(min_length=1)  # pairs compared (C12)
    box_decays: list[Positive] = Field(min_length=1)  # λ of the box (C7)
    num_box_seeds: Count  # of each λ
    train_nll: Positive  # training loss at which both arms stop before they are disturbed (C14)
    every: Count  # steps between two looks at it
    perturbations: list[Positive] = Field(min_length=1)  # relative sizes of the disturbance
    draws: Count  # disturbances averaged at each size


class EmbeddingRows(StrictModel):
    """Rows of rare tokens (C8 to C10)."""

    task: Embedding
    lr: LogRange  # of everything but the embedding
    embedding_lr: LogRange
    num_trials: PowerOfTwo  # of each arm, over the two learning rates
    num_seeds: Count  # of each arm


class Config(StrictModel):
    """One profile of params.yaml."""

    search: Search
    seeds: list[Seed] = Field(min_length=1)  # fresh seeds of the headline's report
    # Fresh seeds of the other studies, each of which takes the first so many; none of them was in the pilot run.
    study_seeds: list[Seed] = Field(min_length=1)
    headline: Headline
    variants: Variants
    batch_sweep: BatchSweep
    ablation: Ablation
    embedding: EmbeddingRows
    num_noise_seeds: Count  # of the simulated noise (X8)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.search.refuse_shared({"seeds": self.seeds, "study_seeds": self.study_seeds})
        shared = sorted(set(self.seeds) & set(self.study_seeds))
        if shared:
            message = f"seeds and study_seeds share {shared}; give each study seeds of its own"
            raise ValueError(message)
        if self.ablation.batch not in self.batch_sweep.task.batches:
            message = f"ablation.batch {self.ablation.batch} must be one of {self.batch_sweep.task.batches}"
            raise ValueError(message)
        _check_study("headline", self.headline, len(self.seeds))
        for path in ("variants", "batch_sweep", "ablation", "embedding"):
            _check_study(path, getattr(self, path), len(self.study_seeds))
        if self.num_noise_seeds > len(self.study_seeds):
            limit = len(self.study_seeds)
            message = f"num_noise_seeds {self.num_noise_seeds} must be at most the number of study_seeds, {limit}"
            raise ValueError(message)
        if max(self.headline.budgets) > self.headline.num_trials:
            message = f"headline.budgets {self.headline.budgets} must be at most num_trials {self.headline.num_trials}"
            raise ValueError(message)
        return self


def _check_study(path: str, study: StrictModel, num_seeds: int) -> None:
    for name, value in study:
        if name == "num_trials" and value & (value - 1):
            message = f"{path}.num_trials {value} must be a power of two (1, 2, 4, 8, 16 …)"
            raise ValueError(message)
        if name.startswith("num_") and name.endswith("seeds") and value > num_seeds:
            message = f"{path}.{name} {value} must be at most the number of seeds, {num_seeds}"
            raise ValueError(message)

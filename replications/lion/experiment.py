"""Lion against AdamW: every study behind claims.yaml, one function each.

What is trained and measured stands in `tasks/`; here is who is compared, tuned with which budget, on which seeds.
Every arm of a study gets the same number of trials from the same box of learning rate and weight decay; the
validation loss at the reported horizon selects; the selected point is run again on fresh seeds, paired between arms.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperkit.runs import Measure, Rows, Run, Runner, execute
from paperkit.stage import Tables, main
from paperkit.tuning import Space, draw_trials, ledger, select
from replications.lion.settings import VARIANTS, Config, Search
from replications.lion.tasks.digits import (
    measure_constraint,
    measure_digits,
    measure_digits_trial,
    measure_flatness,
)
from replications.lion.tasks.embedding import ARMS as EMBEDDING_ARMS
from replications.lion.tasks.embedding import measure_embedding, measure_embedding_trial
from replications.lion.tasks.identities import (
    CHECKS,
    NOISES,
    measure_drift,
    measure_identity,
    measure_noise,
    measure_portrait,
)
from replications.lion.tasks.language_model import (
    measure_language_model,
    measure_language_model_and_box,
    measure_language_model_trial,
)
from replications.lion.tasks.updates import LION_BETAS, measure_digits_updates, measure_language_model_updates

ARMS = ("adamw", "lion")
DRIFT_RHOS = (0.03, 0.1, 0.3, 1.0, 3.0)
# A minimum outside the box in one weight and inside it in the other.
PORTRAIT = {
    "curvatures": [1.0, 20.0],
    "minimum": [2.0, 0.5],
    "start": [-1.5, 1.8],
    "lr": 0.1,
    "weight_decay": 1.0,
    "steps": 40,
}
Configuration = dict[str, Any]
Outcomes = Sequence[tuple[Configuration, float]]


def run(config: Config, runner: Runner) -> Tables:
    """Run every study.

    Args:
        config: One profile.
        runner: Executes runs in worker processes.

    Returns:
        Measurements of all studies, and the ledgers of all searches.
    """
    studies = (
        run_headline, run_batch_sweep, run_variants, run_embedding, run_ablation,
        # Last: loky takes a worker that has grown since its first runs, here by the corpus, for one that leaks.
        run_derivation,
    )  # fmt: skip
    tables = [study(config, runner) for study in studies]
    return Tables(
        runs=[row for table in tables for row in table.runs], trials=[row for table in tables for row in table.trials]
    )


def run_headline(config: Config, runner: Runner) -> Tables:
    """Tune and report the language model; draw its verdict at smaller budgets; transfer AdamW's point to Lion.

    Args:
        config: One profile.
        runner: Executes runs in worker processes.

    Returns:
        Experiments lm_quality, lm_budget_<n>, lm_updates and lm_transfer.
    """
    study, search = config.headline, config.search
    task = study.task.model_dump()
    tuning = Tuning(runner, measure_language_model_trial, "loss_nats", search, study.num_trials)
    spaces = {arm: search.space(arm, study.box) for arm in ARMS}
    outcomes, trials = tuning.tune("lm_quality", {**task, "curve_points": 1}, spaces)
    best = {arm: {**task, **best_of(outcomes[arm])} for arm in ARMS}
    # The probe first, since the transferred point depends on it; the reports then are one grid.
    probe = Run("lm_updates", "adamw", search.run_seed, {**best["adamw"], "window": study.window})
    (updates,) = runner(measure_language_model_updates, [probe])
    ratio = float(np.median([row["value"] for row in updates if row["metric"] == "update_ratio"]))
    grid = pairs("lm_quality", best, config.seeds)
    transferred = {"lion": {**best["adamw"], **transfer(best["adamw"], ratio)}}
    grid += pairs("lm_transfer", transferred, config.seeds[: study.num_transfer_seeds])
    runs = [*updates, *execute(runner, measure_language_model_and_box, grid)]
    for budget in study.budgets:
        early = {arm: {**task, **best_of(outcomes[arm][:budget])} for arm in ARMS}
        # Under one name, since several budgets may have selected one point: it is run once.
        rows = execute(
            runner, measure_language_model, pairs("lm_budget", early, config.seeds[: study.num_budget_seeds])
        )
        runs += [{**row, "experiment": f"lm_budget_{budget}"} for row in rows]
    return Tables(runs, trials)


def transfer(adamw: Mapping[str, Any], ratio: float) -> Configuration:
    """Map AdamW's tuned pair to Lion: (η / k, k λ), which keeps η λ.

    Args:
        adamw: Holds lr η and weight_decay λ.
        ratio: k, how much further Lion's updates go.

    Returns:
        lr, weight_decay, and Lion's default betas.

    Example:
        >>> transfer({"lr": 0.01, "weight_decay": 0.1}, 5.0)
        {'lr': 0.002, 'weight_decay': 0.5, 'betas': [0.9, 0.99]}
    """
    return {"lr": adamw["lr"] / ratio, "weight_decay": adamw["weight_decay"] * ratio, "betas": list(LION_BETAS)}


def run_variants(config: Config, runner: Runner) -> Tables:
    """Tune and report all relatives on the smaller model; move the learning rate off each optimum; look at updates.

    Args:
        config: One profile.
        runner: Executes runs in worker processes.

    Returns:
        Experiments variants, cautious_untuned, lr_factor_<f> and updates.
    """
    study, search, seeds = config.variants, config.search, config.study_seeds[: config.variants.num_seeds]
    task = study.task.model_dump()
    tuning = Tuning(runner, measure_language_model_trial, "loss_nats", search, study.num_trials)
    spaces = {arm: search.space(arm, study.box) for arm in VARIANTS}
    outcomes, trials = tuning.tune("variants", {**task, "curve_points": 1}, spaces)
    best = {arm: {**task, **best_of(outcomes[arm])} for arm in VARIANTS}
    grid = pairs("variants", best, seeds) + pairs("cautious_untuned", {"cautious_lion": best["lion"]}, seeds)
    for factor in study.lr_factors:
        moved = {arm: {**best[arm], "lr": factor * best[arm]["lr"]} for arm in ARMS}
        grid += pairs(f"lr_factor_{factor:g}", moved, seeds)
    looked_at = {arm: {**best[arm], "window": study.window} for arm in ("adamw", "cautious_lion")}
    updates = execute(runner, measure_language_model_updates, pairs("updates", looked_at, seeds))
    return Tables([*execute(runner, measure_language_model, grid), *updates], trials)


def run_batch_sweep(config: Config, runner: Runner) -> Tables:
    """Tune and report both arms at every batch size; learning-rate curves; the measured ratio k at each batch.

    Args:
        config: One profile.
        runner: Executes runs in worker processes.

    Returns:
        Experiments batch_sweep, learning_rate_sweep and batch_updates.
    """
    study, search = config.batch_sweep, config.search
    tuning = Tuning(runner, measure_digits_trial, "nll_nats", search, study.num_trials)
    rates = [study.rates.at(fraction) for fraction in np.linspace(0, 1, study.num_rates).tolist()]
    rate_seeds = config.study_seeds[: study.num_rate_seeds]
    grid, probes, trials = [], [], []
    for batch in study.task.batches:
        task = study.task.at(batch)
        spaces = {arm: search.space(arm, study.box) for arm in ARMS}
        outcomes, rows = tuning.tune("batch_sweep", task, spaces, batch=batch)
        trials += rows
        best = {arm: {**task, **best_of(outcomes[arm])} for arm in ARMS}
        grid += pairs("batch_sweep", best, config.study_seeds[: study.num_seeds])
        for lr in rates:
            point = {**task, "lr": lr, "weight_decay": 0.0, "betas": list(LION_BETAS)}
            grid += pairs("learning_rate_sweep", dict.fromkeys(ARMS, point), rate_seeds)
        probes += pairs("batch_updates", {"adamw": {**best["adamw"], "window": study.window}}, rate_seeds)
    return Tables([*execute(runner, measure_digits, grid), *execute(runner, measure_digits_updates, probes)], trials)


def run_ablation(config: Config, runner: Runner) -> Tables:
    """Compare betas, each pair tuned; walk along λ with Lion's best learning rate; disturb the weights.

    Args:
        config: One profile.
        runner: Executes runs in worker processes.

    Returns:
        Experiments betas_<b1>_<b2>, constraint, constraint_control and flatness.
    """
    study, search, seeds = config.ablation, config.search, config.study_seeds[: config.ablation.num_seeds]
    task = config.batch_sweep.task.at(study.batch)
    tuning = Tuning(runner, measure_digits_trial, "nll_nats", search, study.num_trials)
    grid, trials = [], []
    for betas in study.betas:
        name = f"betas_{betas[0]:g}_{betas[1]:g}"
        outcomes, rows = tuning.tune(name, task, {"lion": {**search.space("lion", study.box), "betas": [betas]}})
        grid += pairs(name, {"lion": {**task, **best_of(outcomes["lion"])}}, seeds)
        trials += rows
    outcomes, rows = tuning.tune("flatness", task, {arm: search.space(arm, study.box) for arm in ARMS})
    best = {arm: {**task, **best_of(outcomes[arm])} for arm in ARMS}
    walls = []
    for decay in study.box_decays:
        # The control applies no decay and is held against the same box.
        for experiment, applied in (("constraint", decay), ("constraint_control", 0.0)):
            point = {**best["lion"], "weight_decay": applied, "box_decay": decay}
            walls += pairs(experiment, {"lion": point}, seeds[: study.num_box_seeds])
    disturbance = {name: getattr(study, name) for name in ("train_nll", "every", "perturbations", "draws")}
    stopped = pairs("flatness", {arm: {**best[arm], **disturbance} for arm in ARMS}, seeds)
    runs = [
        *execute(runner, measure_digits, grid),
        *execute(runner, measure_constraint, walls),
        *execute(runner, measure_flatness, stopped),
    ]
    return Tables(runs, [*trials, *rows])


def run_embedding(config: Config, runner: Runner) -> Tables:
    """Tune and report every remedy at equal η λ T.

    Args:
        config: One profile.
        runner: Executes runs in worker processes.

    Returns:
        Experiment lm_embedding.
    """
    study, search = config.embedding, config.search
    task = {**study.task.language_model.model_dump(), "total_decay": study.task.total_decay}
    tuning = Tuning(runner, measure_embedding_trial, "loss_nats", search, study.num_trials)
    space = {"lr": study.lr, "embedding_lr": study.embedding_lr}
    outcomes, trials = tuning.tune("lm_embedding", task, dict.fromkeys(EMBEDDING_ARMS, space))
    best = {arm: {**task, **best_of(outcomes[arm])} for arm in EMBEDDING_ARMS}
    grid = pairs("lm_embedding", best, config.study_seeds[: study.num_seeds])
    return Tables(execute(runner, measure_embedding, grid), trials)


def run_derivation(config: Config, runner: Runner) -> Tables:
    """Execute every check of the derivation, and simulate what its figures show.

    Args:
        config: One profile.
        runner: Executes runs in worker processes.

    Returns:
        Experiments identities, noise, drift and portrait.
    """
    checks = [Run("identities", name, 0, {}) for name in CHECKS]
    shapes = [
        Run("noise", noise, seed, {}) for seed in config.study_seeds[: config.num_noise_seeds] for noise in NOISES
    ]
    drifts = [Run("drift", "gaussian", 0, {"rho": rho}) for rho in DRIFT_RHOS]
    runs = [
        *execute(runner, measure_identity, checks),
        *execute(runner, measure_noise, shapes),
        *execute(runner, measure_drift, drifts),
        *execute(runner, measure_portrait, [Run("portrait", arm, 0, PORTRAIT) for arm in ARMS]),
    ]
    return Tables(runs)


@dataclass(frozen=True)
class Tuning:
    """A search with one budget for every arm.

    Attributes:
        runner: Executes runs in worker processes.
        measure: What a trial measures.
        metric: Name of the validation loss that selects.
        search: Seeds and ranges.
        num_trials: Trials of each arm.
    """

    runner: Runner
    measure: Measure
    metric: str
    search: Search
    num_trials: int

    def tune(
        self, experiment: str, task: Configuration, spaces: Mapping[str, Space], **label: Any
    ) -> tuple[dict[str, Outcomes], Rows]:
        """Run the trials of all arms.

        Args:
            experiment: What the search is for.
            task: Configuration that all trials share.
            spaces: What is searched, by arm.
            label: Part of the task to write into the ledger, where searches of one name differ in it.

        Returns:
            Outcomes by arm, in the order drawn, and the rows of the ledger.
        """
        seed = self.search.run_seed
        points = {
            arm: draw_trials(space, num_trials=self.num_trials, seed=self.search.draw_seed)
            for arm, space in spaces.items()
        }
        grid = [Run(f"{experiment}_search", arm, seed, {**task, **point}) for arm in spaces for point in points[arm]]
        losses = map(self._final_loss, self.runner(self.measure, grid))
        outcomes = {arm: [(point, next(losses)) for point in points[arm]] for arm in spaces}
        rows: Rows = []
        for arm, space in spaces.items():
            named = [({**point, **label}, loss) for point, loss in outcomes[arm]]
            rows += ledger(
                profile=self.runner.profile, experiment=experiment, metric=self.metric, seed=seed, space=space,
                trials={arm: named},
            )  # fmt: skip
        return outcomes, rows

    def _final_loss(self, rows: Rows) -> float:
        chosen = (row for row in rows if row["split"] == "validation" and row["metric"] == self.metric)
        last = max(chosen, key=lambda row: row["step"])
        return math.nan if last["value"] is None else last["value"]


def best_of(outcomes: Outcomes) -> Configuration:
    """Return the point with the least validation loss.

    Args:
        outcomes: Points and their losses.

    Returns:
        The point.
    """
    return outcomes[select([loss for _, loss in outcomes])][0]


def pairs(experiment: str, points: Mapping[str, Configuration], seeds: Sequence[int]) -> list[Run]:
    """List the runs of a report: all arms on the same seeds.

    Args:
        experiment: Name in runs.csv.
        points: Configuration of each arm.
        seeds: Seeds, paired between arms.

    Returns:
        One run for each arm and seed.
    """
    return [Run(experiment, arm, seed, point) for seed in seeds for arm, point in points.items()]


if __name__ == "__main__":
    main(Config, run, stage="lion", module="replications.lion.experiment", tables=["sotu"])

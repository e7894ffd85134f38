"""Lion against AdamW: every study behind claims.yaml, one function each.

What is trained and measured stands in `tasks/`; here is who is compared, tuned with which budget, on which seeds.
Every arm of a study gets the same number of trials from the same box of learning rate and weight decay; the
validation loss at the reported horizon selects; the selected point is run again on fresh seeds, paired between arms.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paperkit.runs import Run, Runner, execute
from paperkit.stage import Tables, main
from paperkit.tuning import Search, tune
from replications.lion.settings import VARIANTS, Config
from replications.lion.tasks.digits import (
    measure_constraint,
    measure_digits,
    measure_digits_trial,
    measure_flatness,
)
from replications.lion.tasks.embedding import ARMS as EMBEDDING_ARMS
from replications.lion.tasks.embedding import measure_embedding, measure_embedding_trial
from replications.lion.tasks.identities import (
    NOISES,
    measure_drift,
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


def run(config: Config, runner: Runner) -> Tables:
    """Run every study."""
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
    """Tune and report the language model; draw its verdict at smaller budgets; transfer AdamW's point to Lion."""
    study, search = config.headline, config.search
    task = study.task.model_dump()
    trial = {**task, "curve_points": 1}
    searches = [
        Search("lm_quality", arm, trial, search.space(arm, study.box), study.num_trials, "loss_nats") for arm in ARMS
    ]
    tuned, trials = tune(runner, measure_language_model_trial, searches, search)
    best = {arm: {**task, **of_arm.best()} for arm, of_arm in zip(ARMS, tuned, strict=True)}
    # The probe first, since the transferred point depends on it; the reports then are one grid.
    probe = Run("lm_updates", "adamw", search.seeds[0], {**best["adamw"], "window": study.window})
    (updates,) = runner(measure_language_model_updates, [probe])
    ratio = float(np.median([row["value"] for row in updates if row["metric"] == "update_ratio"]))
    grid = pairs("lm_quality", best, config.seeds)
    transferred = {"lion": {**best["adamw"], **transfer(best["adamw"], ratio)}}
    grid += pairs("lm_transfer", transferred, config.seeds[: study.num_transfer_seeds])
    runs = [*updates, *execute(runner, measure_language_model_and_box, grid)]
    for budget in study.budgets:
        early = {arm: {**task, **of_arm.best(budget)} for arm, of_arm in zip(ARMS, tuned, strict=True)}
        # Under one name, since several budgets may have selected one point: it is run once.
        rows = execute(
            runner, measure_language_model, pairs("lm_budget", early, config.seeds[: study.num_budget_seeds])
        )
        runs += [{**row, "experiment": f"lm_budget_{budget}"} for row in rows]
    return Tables(runs, trials)


def transfer(adamw: Mapping[str, Any], ratio: float) -> Configuration:
    """Map AdamW's tuned pair to Lion: (η / k, k λ), which keeps η λ; k says how much further Lion's updates go."""
    return {"lr": adamw["lr"] / ratio, "weight_decay": adamw["weight_decay"] * ratio, "betas": list(LION_BETAS)}


def run_variants(config: Config, runner: Runner) -> Tables:
    """Tune and report all relatives on the smaller model; move the learning rate off each optimum; look at updates."""
    study, search, seeds = config.variants, config.search, config.study_seeds[: config.variants.num_seeds]
    task = study.task.model_dump()
    trial = {**task, "curve_points": 1}
    searches = [
        Search("variants", arm, trial, search.space(arm, study.box), study.num_trials, "loss_nats") for arm in VARIANTS
    ]
    tuned, trials = tune(runner, measure_language_model_trial, searches, search)
    best = {arm: {**task, **of_arm.best()} for arm, of_arm in zip(VARIANTS, tuned, strict=True)}
    grid = pairs("variants", best, seeds) + pairs("cautious_untuned", {"cautious_lion": best["lion"]}, seeds)
    for factor in study.lr_factors:
        moved = {arm: {**best[arm], "lr": factor * best[arm]["lr"]} for arm in ARMS}
        grid += pairs(f"lr_factor_{factor:g}", moved, seeds)
    looked_at = {arm: {**best[arm], "window": study.window} for arm in ("adamw", "cautious_lion")}
    updates = execute(runner, measure_language_model_updates, pairs("updates", looked_at, seeds))
    return Tables([*execute(runner, measure_language_model, grid), *updates], trials)


def run_batch_sweep(config: Config, runner: Runner) -> Tables:
    """Tune and report both arms at every batch size; learning-rate curves; the measured ratio k at each batch."""
    study, search = config.batch_sweep, config.search
    rates = [study.rates.at(fraction) for fraction in np.linspace(0, 1, study.num_rates).tolist()]
    rate_seeds = config.study_seeds[: study.num_rate_seeds]
    grid, probes, trials = [], [], []
    for batch in study.task.batches:
        task = study.task.at(batch)
        searches = [
            Search(
                "batch_sweep", arm, task, search.space(arm, study.box), study.num_trials, "nll_nats", {"batch": batch}
            )
            for arm in ARMS
        ]
        tuned, rows = tune(runner, measure_digits_trial, searches, search)
        trials += rows
        best = {arm: {**task, **of_arm.best()} for arm, of_arm in zip(ARMS, tuned, strict=True)}
        grid += pairs("batch_sweep", best, config.study_seeds[: study.num_seeds])
        for lr in rates:
            point = {**task, "lr": lr, "weight_decay": 0.0, "betas": list(LION_BETAS)}
            grid += pairs("learning_rate_sweep", dict.fromkeys(ARMS, point), rate_seeds)
        probes += pairs("batch_updates", {"adamw": {**best["adamw"], "window": study.window}}, rate_seeds)
    return Tables([*execute(runner, measure_digits, grid), *execute(runner, measure_digits_updates, probes)], trials)


def run_ablation(config: Config, runner: Runner) -> Tables:
    """Compare betas, each pair tuned; walk along λ with Lion's best learning rate; disturb the weights."""
    study, search, seeds = config.ablation, config.search, config.study_seeds[: config.ablation.num_seeds]
    task = config.batch_sweep.task.at(study.batch)
    with_betas = [
        Search(
            f"betas_{betas[0]:g}_{betas[1]:g}", "lion", task, {**search.space("lion", study.box), "betas": [betas]},
            study.num_trials, "nll_nats",
        )
        for betas in study.betas
    ]  # fmt: skip
    of_both = [
        Search("flatness", arm, task, search.space(arm, study.box), study.num_trials, "nll_nats") for arm in ARMS
    ]
    tuned, trials = tune(runner, measure_digits_trial, [*with_betas, *of_both], search)
    grid = []
    for of, of_betas in zip(with_betas, tuned, strict=False):
        grid += pairs(of.experiment, {"lion": {**task, **of_betas.best()}}, seeds)
    best = {arm: {**task, **of_arm.best()} for arm, of_arm in zip(ARMS, tuned[len(with_betas) :], strict=True)}
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
    return Tables(runs, trials)


def run_embedding(config: Config, runner: Runner) -> Tables:
    """Tune and report every remedy at equal η λ T."""
    study, search = config.embedding, config.search
    task = {**study.task.language_model.model_dump(), "total_decay": study.task.total_decay}
    space = {"lr": study.lr, "embedding_lr": study.embedding_lr}
    searches = [Search("lm_embedding", arm, task, space, study.num_trials, "loss_nats") for arm in EMBEDDING_ARMS]
    tuned, trials = tune(runner, measure_embedding_trial, searches, search)
    best = {arm: {**task, **of_arm.best()} for arm, of_arm in zip(EMBEDDING_ARMS, tuned, strict=True)}
    grid = pairs("lm_embedding", best, config.study_seeds[: study.num_seeds])
    return Tables(execute(runner, measure_embedding, grid), trials)


def run_derivation(config: Config, runner: Runner) -> Tables:
    """Simulate what the figures of the derivation show."""
    shapes = [
        Run("noise", noise, seed, {}) for seed in config.study_seeds[: config.num_noise_seeds] for noise in NOISES
    ]
    drifts = [Run("drift", "gaussian", 0, {"rho": rho}) for rho in DRIFT_RHOS]
    runs = [
        *execute(runner, measure_noise, shapes),
        *execute(runner, measure_drift, drifts),
        *execute(runner, measure_portrait, [Run("portrait", arm, 0, PORTRAIT) for arm in ARMS]),
    ]
    return Tables(runs)


def pairs(experiment: str, points: Mapping[str, Configuration], seeds: Sequence[int]) -> list[Run]:
    """List the runs of a report: all arms on the same seeds."""
    return [Run(experiment, arm, seed, point) for seed in seeds for arm, point in points.items()]


if __name__ == "__main__":
    main(Config, run, stage="lion", module="replications.lion.experiment", tables=["sotu"])

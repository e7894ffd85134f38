"""Which density is nearest to the truth at equal numbers of parameters: the studies behind claims.yaml.

A seed is a sample of the target, the same for every arm, and the random start of each. A race selects by the exact
divergence on samples that are not reported, so no arm gains or loses by the noise of held-out data.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, Runner, execute, seeds_of
from paperkit.stage import StageConfig, Tables, main
from paperkit.tuning import LogRange, Search, Space, Tuning, tune
from replications.fourier_density import density, mixture
from replications.fourier_density.density import ClippedMap, Fit, Floats, FourierDensity, TanhMap
from replications.fourier_density.mixture import Mixture
from replications.fourier_density.targets import PICTURE, TARGETS, divergence, mode_f1, targets

SHARES = (1 / 3, 2 / 3, 1)  # of the budget, among which each arm chooses
Seeds = Annotated[list[NonNegativeInt], Field(min_length=1)]


class Study(StrictModel):
    """One target, with a race for every arm."""

    target: Literal[TARGETS]  # pyright: ignore[reportInvalidTypeForm] - a tuple of words is allowed there
    arms: list[str]
    seeds: Seeds
    num_trials: PositiveInt


class Variation(StrictModel):
    """The settings that a study selected, with something changed."""

    of: str
    arms: list[str]
    seeds: Seeds
    changed: dict[str, Any]


class Config(StageConfig):
    """One profile of params.yaml."""

    tuning: Tuning
    num_data: PositiveInt
    parameters: dict[str, Annotated[int, Field(ge=8)]]  # budget by target
    boxes: dict[str, LogRange]
    adam: dict[str, PositiveInt]  # steps, batch
    studies: dict[str, Study]
    variations: dict[str, Variation]


def is_fourier(arm: str) -> bool:
    """Tell a Fourier density from a mixture, by the map in its name."""
    return arm.endswith(("tanh", "linear"))


def space_of(arm: str, parameters: int, boxes: Mapping[str, LogRange]) -> Space:
    """Return what an arm may choose.

    N of a Fourier density with 2 N coefficients, offset, width, softness (tanh has one parameter less); K of a mixture
    with K means, K variances, K - 1 weights.
    """
    names = {"kde": ["bandwidth"], "tanh": ["scale", "gamma"], "linear": ["half_width", "softness", "gamma"]}
    space: dict[str, Any] = {name: boxes[name] for name in names.get(arm.split("_")[-1], ["floor"])}
    if arm.startswith("adam"):
        space["rate"] = boxes["rate"]
    if arm == "kde":
        return space
    size, most = ("degree", (parameters - 3) // 2) if is_fourier(arm) else ("components", (parameters + 1) // 3)
    return {size: [round(share * most) for share in SHARES], **space}


def run(config: Config, runner: Runner) -> Tables:
    """Tune every arm of every study, report it on fresh seeds, then under each variation."""
    reported = {f"seeds of {name}": part.seeds for name, part in {**config.studies, **config.variations}.items()}
    config.tuning.refuse_shared(reported)
    tasks = {
        name: {"target": of.target, "num_data": config.num_data, "starts": 1, "picture": False, **config.adam}
        for name, of in config.studies.items()
    }
    searches = [
        Search(name, arm, tasks[name], space, of.num_trials, "kl_log")
        for name, of in config.studies.items()
        for arm, space in ((arm, space_of(arm, config.parameters[of.target], config.boxes)) for arm in of.arms)
    ]
    tuned, trials = tune(runner, measure_trial, searches, config.tuning)
    settings = {(search.experiment, search.arm): found.best() for search, found in zip(searches, tuned, strict=True)}
    grid = [
        Run(name, arm, seed, {**tasks[name], **settings[name, arm]})
        for name, of in config.studies.items()
        for seed in of.seeds
        for arm in of.arms
    ]
    grid += [
        Run(name, arm, seed, {**tasks[of.of], **changed_setting(settings[of.of, arm], of.changed)})
        for name, of in config.variations.items()
        for seed in of.seeds
        for arm in of.arms
    ]
    return Tables(execute(runner, measure_report, grid), trials)


def changed_setting(setting: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Change those settings that an arm has, and those that all have."""
    shared = ("num_data", "starts", "picture")
    return {**setting, **{name: value for name, value in changed.items() if name in setting or name in shared}}


def measure_trial(run: Run) -> Iterator[Measurement]:
    """Measure what may select: log KL from the target, on a sample that is not reported."""
    return measure(run, "validation")


def measure_report(run: Run) -> Iterator[Measurement]:
    """Measure what is reported."""
    return measure(run, "test")


def measure(run: Run, split: str) -> Iterator[Measurement]:
    """Fit the arm to a sample of the target; measure divergence, modes, and whether the fit was cut short."""
    task, (start, sample, _) = run.config, seeds_of(run.seed)
    target = targets()[task["target"]]
    y = target.draw(task["num_data"], np.random.default_rng(sample))
    fits = [fit_arm(run.arm, y, task, start % 2**31 + number) for number in range(task["starts"])]
    best = min(fits, key=lambda fit: fit.objective)
    kl = divergence(target, best.density.log_pdf)
    yield Measurement(split, 0, "kl_log", float(np.log(kl)))
    if split == "test":
        yield Measurement(split, 0, "kl_nats", kl)
        yield Measurement(split, 0, "mode_f1_score", mode_f1(target, best.density.log_pdf))
        yield Measurement(split, 0, "capped_share", float(np.mean([not fit.converged for fit in fits])))
        yield Measurement(split, 0, "train_loss_nats", -float(best.density.log_pdf(y).mean()))
    if task["picture"]:
        for step, value in enumerate(np.exp(best.density.log_pdf(PICTURE))):
            yield Measurement(split, step, "picture_density", float(value))


def fit_arm(arm: str, y: Floats, task: Mapping[str, Any], seed: int) -> Fit[Mixture] | Fit[FourierDensity]:
    """Fit one arm once; lengths of the task are in standard deviations of y, bandwidths in Silverman's."""
    sd, centre = float(y.std()), float(y.mean())
    if arm == "kde":  # a mixture with a component on every point
        width = task["bandwidth"] * 0.9 * sd * len(y) ** -0.2
        return Fit(Mixture(np.full(len(y), 1 / len(y)), y, np.full(len(y), width**2)), 0.0, converged=True)
    if is_fourier(arm):
        degree, gamma = task["degree"], task["gamma"]
        line = TanhMap(task["scale"] * sd, centre) if arm.endswith("tanh") else None
        line = line or ClippedMap(task["half_width"] * sd, centre, task["softness"] * sd)
        if not arm.startswith("adam"):
            return density.fit(y, degree, line, gamma=gamma, seed=seed)

        def of_batch(parameters: Floats, batch: Floats) -> tuple[float, Floats]:
            return density.objective(parameters, batch, degree, line, gamma)

        found = adam(of_batch, density.start_of(degree, line, seed), y, task, seed)
        real, imaginary, rest = np.split(found, [degree + 1, 2 * degree + 2])
        fitted = FourierDensity(real + 1j * imaginary, line.with_parameters(rest))
        return Fit(fitted, of_batch(found, y)[0], converged=True)
    floor, (method, start) = task["floor"] * sd**2, arm.split("_")
    begin = mixture.STARTS[start](y, task["components"], floor, seed)
    if method != "adam":
        return mixture.FITS[method](y, begin, floor)
    begins = mixture.parameters_of(begin, floor)
    found = adam(lambda parameters, batch: mixture.objective(parameters, batch, floor), begins, y, task, seed)
    law = mixture.of_parameters(found, floor)
    return Fit(law, -float(law.log_pdf(y).mean()), converged=True)


Objective = Callable[[Floats, Floats], tuple[float, Floats]]


def adam(objective: Objective, start: Floats, y: Floats, task: Mapping[str, Any], seed: int) -> Floats:
    """Minimise by Adam on batches; the rate falls to zero in a line (the paper's code keeps it constant)."""
    rng, parameters, first, second = np.random.default_rng(seed), start.copy(), 0 * start, 0 * start
    for step in range(task["steps"]):
        _, gradient = objective(parameters, rng.choice(y, task["batch"]))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        scaled = first / (1 - 0.9 ** (step + 1)) / (np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8)
        parameters -= task["rate"] * (1 - step / task["steps"]) * scaled
    return parameters


if __name__ == "__main__":
    main(Config, run, stage="fourier_density", module="replications.fourier_density.experiment")

"""Score networks on the line, with nothing estimated: J against the exact p_t, certified L_s, W2 by quantiles."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, SupportsFloat

import numpy as np
import torch
from pydantic import Field
from scipy.special import ndtri

from paperkit.runs import Measurement, Run, Runner, execute, seeds_of
from paperkit.stage import Tables
from paperkit.tuning import Tuning, tune
from replications.wasserstein_bound.arguments import Array
from replications.wasserstein_bound.bound import score_loss, score_weight, wasserstein_upper_bound
from replications.wasserstein_bound.errors import excess
from replications.wasserstein_bound.lipschitz import SlopeCertificate, certified_score_slope
from replications.wasserstein_bound.samplers import Score, coupled_paths
from replications.wasserstein_bound.score_network import LOG_SNR_SCALE, ScoreNetwork
from replications.wasserstein_bound.studies.measuring import ETA_OF, REACH, sampled_distance
from replications.wasserstein_bound.studies.score_training import (
    NUM_LEVELS,
    SCHEDULE,
    MixtureTraining,
    RatesToTry,
    log10,
    log_snr,
    loss_and_slopes,
    measured_training,
    network_score,
    uniform_in_log_snr,
)

NUM_CELLS = 800
NUM_ERROR_POINTS = 361
NUM_CURVE_TIMES = 13
TOLERANCE = 0.01  # of a certificate, relative to 1 + |L_s|


class LineTask(MixtureTraining):
    """Data, network, training and measurement but for the learning rate; `checkpoints` are the lengths of training."""

    num_times: int = Field(ge=NUM_CURVE_TIMES)  # of the bound's integrals, dense near t_min
    flow_steps: int = Field(ge=1)  # Runge-Kutta steps of the ODE sampler
    diffusion_steps: int = Field(ge=1)  # of the Fokker-Planck equation and of the coupled pairs
    num_pairs: int = Field(ge=2)  # coupled pairs


class LearnedScore(LineTask):
    """All settings of one run."""

    lr: float = Field(gt=0)  # peak, of Adam


class LineStudy(LineTask, RatesToTry):
    """The task, the search for its rate, and in what the variations differ from it."""

    num_varied_seeds: int = Field(ge=1)  # of each variation, the first of the study's
    times_longer: int = Field(ge=2)
    lower_rate: float = Field(gt=0, lt=1)  # relative to the tuned one
    overlapping_variance: float = Field(gt=0)  # of each mode


def run(study: LineStudy, seeds: Sequence[int], search: Tuning, runner: Runner) -> Tables:
    """Tune the rate of the longest run, then train networks of every length on each seed, and of every variation."""
    task = study.model_dump(include=set(LineTask.model_fields))
    longest = {**task, "checkpoints": study.checkpoints[-1:]}
    (tuned,), trials = tune(runner, measure_trial, [study.search("trained", "annealed", longest)], search)
    task |= tuned.best()
    varied = {
        "longer": {"checkpoints": [study.times_longer * length for length in study.checkpoints]},
        "lower_rate": {"lr": study.lower_rate * task["lr"]},
        "overlapping": {"variance": study.overlapping_variance},
    }
    few = seeds[: study.num_varied_seeds]
    grid = [run for arm, change in varied.items() for run in of_every_length(arm, {**task, **change}, few)]
    grid += [Run("trained", "one_run", seed, task) for seed in few] + of_every_length("annealed", task, seeds)
    # The longest first, so that no worker is idle at the end.
    grid.sort(key=lambda run: -run.config["checkpoints"][-1])
    return Tables(execute(runner, measure_learned_score, grid), trials)


def of_every_length(arm: str, task: dict[str, Any], seeds: Sequence[int]) -> list[Run]:
    """Make a run of its own of each length and seed."""
    lengths = task["checkpoints"]
    return [Run("trained", arm, seed, {**task, "checkpoints": [length]}) for seed in seeds for length in lengths]


def measure_trial(run: Run) -> Iterator[Measurement]:
    """Train a network, and measure its J at the end alone."""
    settings = LearnedScore(**run.config)

    def measure(network: ScoreNetwork, _step: int) -> dict[str, SupportsFloat]:
        error = score_error(settings, network, settings.times)
        return {"score_loss": score_loss(settings.times, loss_weight=SCHEDULE.beta(settings.times), score_error=error)}

    yield from trained(settings, run.seed, measure, split="validation")


def measure_learned_score(run: Run) -> Iterator[Measurement]:
    """Train a network and measure it at every checkpoint."""
    # At the end of `one_run` also e, L_s and w I e at a few times.
    settings = LearnedScore(**run.config)
    *_, pair_seed = seeds_of(run.seed)
    floors = {name: distance(settings, settings.mixture.score, eta, from_normal=False) for name, eta in ETA_OF.items()}

    def measure(network: ScoreNetwork, step: int) -> dict[str, SupportsFloat]:
        certificates = slopes(settings, network)
        numbers = checkpoint(settings, network, certificates, floors) | averaged_bounds(settings, network, pair_seed)
        if run.arm == "one_run" and step == settings.checkpoints[-1]:
            numbers |= curves(settings, network, np.array([each.upper for each in certificates]))
        return numbers

    yield from trained(settings, run.seed, measure)


def trained(
    settings: LearnedScore,
    seed: int,
    measure: Callable[[ScoreNetwork, int], Mapping[str, SupportsFloat]],
    split: str = "none",
) -> Iterator[Measurement]:
    """Train a network, and report what is measured of it at every checkpoint."""
    initialisation, data_seed, _ = seeds_of(seed)
    torch.manual_seed(initialisation)
    network = ScoreNetwork(dimension=1, width=settings.width, depth=settings.depth).double()
    yield from measured_training(
        settings,
        network,
        torch.optim.Adam(network.parameters(), lr=settings.lr),
        partial(measure, network),
        draw=lambda rng, count: settings.mixture.draw(rng, (count, 1)),
        draw_log_snr=uniform_in_log_snr(SCHEDULE, settings.t_min),
        seed=data_seed,
        split=split,
    )


def checkpoint(
    settings: LearnedScore, network: ScoreNetwork, certificates: Sequence[SlopeCertificate], floors: dict[str, float]
) -> dict[str, SupportsFloat]:
    """Measure loss, constants, bounds and distances of a network as it is."""
    # floors: W2 of each sampler with the exact score. The control of an excess is the offset alone as the bound.
    t, upper = settings.times, np.array([each.upper for each in certificates])
    terms = bound_terms(settings, network, t) | {"score_slope": upper}
    numbers = loss_and_slopes(settings, terms["score_error"], upper)
    score = line_score(settings, network)
    for name, eta in ETA_OF.items():
        apart = distance(settings, score, eta, from_normal=True)
        bound = wasserstein_upper_bound(t, eta=eta, **terms)
        numbers |= {
            f"distance_w2_{name}": apart,
            f"log10_bound_w2_{name}": log10(bound),
            f"excess_{name}": excess(apart, bound.value, floors[name]),
            f"control_excess_{name}": excess(apart, bound.offset, floors[name]),
        }
    return numbers


def bound_terms(settings: LearnedScore, network: ScoreNetwork, t: Array) -> dict[str, Any]:
    """Return what the bound needs beside L_s and η, as keyword arguments of `wasserstein_upper_bound`."""
    known = {"score_error": score_error(settings, network, t), "prior_distance": settings.prior_distance}
    return {**settings.mixture.schedule.coefficients(t), **known}


def line_score(settings: LearnedScore, network: torch.nn.Module) -> Score:
    """The network as a score of points on the line, shape (n,)."""
    score = network_score(network, settings.mixture.schedule)
    return lambda x, t: score(x[:, None], t)[:, 0]


def score_error(settings: LearnedScore, network: torch.nn.Module, t: Array) -> Array:
    """Integrate e(t)² = ∫ p_t (∂ log p_t − s)² dx by the trapezoidal rule, very exact for smooth functions."""
    # t and e: shape (n,).
    x, score = np.linspace(-REACH, REACH, NUM_ERROR_POINTS), line_score(settings, network)
    learned = np.stack([score(x, time) for time in t])
    masses = np.exp(settings.mixture.log_density(x, t[:, None])) * (x[1] - x[0])
    return np.sqrt((masses * (settings.mixture.score(x, t[:, None]) - learned) ** 2).sum(axis=1))


def slopes(settings: LearnedScore, network: ScoreNetwork) -> list[SlopeCertificate]:
    """Certify L_s at each of the settings' times."""
    schedule = settings.mixture.schedule
    features = log_snr(schedule, settings.times) / LOG_SNR_SCALE
    factors = -1 / np.sqrt(schedule.noise_variance(settings.times))
    return [
        certified_score_slope(network.layers, [1.0, 0.0], [0.0, feature], factor=factor, tolerance=TOLERANCE)
        for feature, factor in zip(features.tolist(), factors.tolist(), strict=True)
    ]


def distance(settings: LearnedScore, score: Score, eta: float, *, from_normal: bool) -> float:
    """Return W2 between p_{t_min} and what a sampler makes of a score, from N(0, 1) or p_T, in units of x."""
    t = settings.grid((settings.diffusion_steps if eta else settings.flow_steps) + 1)
    numerics = {"num_levels": NUM_LEVELS, "num_cells": NUM_CELLS}
    return sampled_distance(settings.mixture, score, eta, t, from_normal=from_normal, **numerics)


def averaged_bounds(settings: LearnedScore, network: torch.nn.Module, seed: int) -> dict[str, float]:
    """Bound W2 with the slope averaged over coupled pairs in place of its supremum L_s; logarithms to base 10."""
    # The pairs start at equal quantiles of p_T and N(0, 1), and share the noise of the seed.
    mixture, t = settings.mixture, settings.grid(settings.diffusion_steps + 1)
    score, terms = line_score(settings, network), bound_terms(settings, network, t)
    z = ndtri((np.arange(settings.num_pairs) + 0.5) / settings.num_pairs)
    start, numbers = mixture.quantiles(z, mixture.schedule.horizon), {}
    for name, eta in ETA_OF.items():
        rng = np.random.default_rng(seed)
        paths = coupled_paths(mixture.schedule, mixture.score, score, start, z, t, eta=eta, rng=rng)
        bound = wasserstein_upper_bound(t, score_slope=paths.slope, eta=eta, **terms)
        numbers[f"log10_averaged_bound_w2_{name}"] = log10(bound)
    return numbers


def curves(settings: LearnedScore, network: ScoreNetwork, slope: Array) -> dict[str, float]:
    """Follow e, L_s, the exact score's L_s and the integrands w I e over a few times, which end the metric's name."""
    t, exact = settings.times, settings.mixture.score_slope(settings.times)
    terms = bound_terms(settings, network, t)
    integrands = {}
    for name, eta in ETA_OF.items():
        log_i = wasserstein_upper_bound(t, eta=eta, score_slope=slope, **terms).log_growth
        integrands[name] = score_weight(terms["diffusion_squared"], eta) * np.exp(log_i) * terms["score_error"]
    numbers = {}
    for i in np.linspace(0, len(t) - 1, NUM_CURVE_TIMES).astype(int):
        at = f"at_t_{t[i]:.4f}"
        numbers |= {f"error_{at}": terms["score_error"][i], f"slope_{at}": slope[i], f"exact_slope_{at}": exact[i]}
        numbers |= {f"integrand_{name}_{at}": values[i] for name, values in integrands.items()}
    return numbers

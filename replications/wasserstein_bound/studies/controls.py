"""Two negative controls of sweeps: processes that break what the sweep does not, in two cases each (C3, C11)."""

from collections.abc import Iterator

import numpy as np

from paperkit.runs import Measurement, Rows, Run, Runner, execute
from replications.wasserstein_bound.affine_cases import affine_case
from replications.wasserstein_bound.bound import log_growth, score_weight
from replications.wasserstein_bound.distances import normal_levels, quantile_function_distance
from replications.wasserstein_bound.errors import excess
from replications.wasserstein_bound.mixture import SymmetricMixture
from replications.wasserstein_bound.schedule import VariancePreserving, time_grid
from replications.wasserstein_bound.studies.measuring import ETA_OF, measured

NUM_TIMES = 40_001


def run(runner: Runner) -> Rows:
    """Run both."""
    return execute(runner, measure_control, [Run("identities", arm, 0, {}) for arm in CONTROLS])


def measure_control(run: Run) -> Iterator[Measurement]:
    """Measure by how much each of the two cases breaks the statement, like a check of the derivation."""
    return measured(0, dict(zip(("max_error", "control_error"), CONTROLS[run.arm](), strict=True)))


def kl_of_almost_an_ode() -> list[float]:
    """How far KL is above the SDE's bound for the ODE, and for η = ¼: N(0, 0.04), score shifted by 0.3."""
    schedule = VariancePreserving()
    case = affine_case(schedule, time_grid(schedule, NUM_TIMES), 0.0, 0.04, shift=0.3)
    return [float(excess(case.kl(eta), case.kl_bound(1.0))) for eta in (0.0, 0.25)]


def mixture_offset_rise() -> list[float]:
    """Relative rise of the offset between T = 0.02, 0.05 and 0.1 for modes at ±1 of variance 0.1: ODE, SDE."""
    rises = []
    for eta in ETA_OF.values():
        offsets = []
        for horizon in (0.02, 0.05, 0.1):
            schedule = VariancePreserving(horizon=horizon)
            mixture, t = SymmetricMixture(schedule, 1.0, 0.1), time_grid(schedule, NUM_TIMES)
            z, weights = normal_levels(2001)
            prior = quantile_function_distance(mixture.quantiles(z, horizon), z, weights)
            rate = schedule.drift_slope(t) + score_weight(schedule.beta(t), eta) * mixture.score_slope(t)
            offsets.append(np.exp(log_growth(t, rate)[..., -1]) * prior)
        rises.append(float(np.max(np.diff(np.squeeze(offsets)) / np.squeeze(offsets)[:-1])))
    return rises


CONTROLS = {control.__name__: control for control in (kl_of_almost_an_ode, mixture_offset_rise)}

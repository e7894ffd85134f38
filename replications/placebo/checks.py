"""What the chain says of normal differences, each chance computed twice, and again with one ingredient wrong."""

import numpy as np
from scipy import stats

from paperkit.checks import Check, by_name
from replications.placebo.chances import chances, differ, level_after_selection

NUMBERS = (3, 5, 8, 20)


def step_1_level() -> Check:
    """Rules for an effect say "differ" of equal methods in one case of twenty; control: normal quantile for t's."""
    errors = [
        abs(differ(chances(rule, n=n, sd=1.3, mean=0.0, margin=margin)) - 0.05)
        for rule in ("greater", "less", "slope")
        for n in NUMBERS
        for margin in (0.2, 1.0, 4.0)
    ]
    wrong = [abs(2 * stats.t.sf(stats.norm.ppf(0.975), n - 1) - 0.05) for n in NUMBERS]
    return Check(max(errors), min(wrong))


def step_2_power() -> Check:
    """At a true difference of one margin "holds" in both sizes has the power of the noncentral t; control: no √n."""
    errors = []
    for n in NUMBERS:
        found = chances("greater", n=n, sd=1.0, mean=1.2, margin=1.2)
        power = [stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, 1.2 * root) for root in (np.sqrt(n), 1.0)]
        errors.append([abs(found["holds"] + found["holds_smaller"] - each) for each in power])
    return Check(np.max(errors, axis=0)[0], np.min(errors, axis=0)[1])


def step_3_equal() -> Check:
    """At one margin "equal" comes in at most one case of twenty, with h in one of forty; control: nothing planted."""
    cases = [(rule, level, n, sd) for rule, level in LEVELS.items() for n in NUMBERS for sd in (0.1, 0.5, 1.0)]
    excess = [
        [max(chances(rule, n=n, sd=sd, mean=mean, margin=1.0)["holds"] - level, 0.0) for mean in (1.0, 0.0)]
        for rule, level, n, sd in cases
    ]
    return Check(*np.max(excess, axis=0).tolist())


def step_4_selection() -> Check:
    """A difference that selection adds to all seeds widens t by √(1 + n τ²/σ²); control: without the n."""
    errors = []
    for n in NUMBERS:
        for spread in (0.5, 1.0):
            found = differ(chances("slope", n=n, sd=1.0, mean=0.0, margin=1.0, selection_sd=spread))
            ratios = (1 + n * spread**2, 1 + spread**2)
            errors.append([abs(found - level_after_selection(n, ratio)) for ratio in ratios])
    return Check(np.max(errors, axis=0)[0], np.min(errors, axis=0)[1])


LEVELS = {"equivalent": 0.05, "within": 0.025, "not_worse": 0.025}
CHECKS = by_name(step_1_level, step_2_power, step_3_equal, step_4_selection)

"""paperkit.tuning: every arm gets the same points of a fair search, and every trial is written down."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperkit.config import ConfigError, parse
from paperkit.tuning import LogRange, Search, Tuning, at_edge, draw_trials, select, tune
from tests.made_up_runs import made_up_row

LR = LogRange(low=3e-4, high=3e-2)
SPACE = {"lr": LR, "weight_decay": LogRange(low=1e-2, high=3.0), "betas": [[0.9, 0.99], [0.95, 0.98]]}
POSITIVE = st.floats(1e-8, 1e8)
RANGES = st.tuples(POSITIVE, POSITIVE).map(sorted).filter(lambda ends: ends[0] < ends[1])


def log_range(ends: list[float]) -> LogRange:
    return LogRange(low=ends[0], high=ends[1])


# Drawing


def test_the_same_seed_draws_the_same_points_and_another_seed_others():
    assert draw_trials(SPACE, num_trials=16, seed=3) == draw_trials(SPACE, num_trials=16, seed=3)
    assert draw_trials(SPACE, num_trials=16, seed=3) != draw_trials(SPACE, num_trials=16, seed=4)


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 4, 8]))
@settings(deadline=None, max_examples=30)
def test_a_smaller_search_is_the_beginning_of_a_larger_one(seed, num_trials):
    larger = draw_trials(SPACE, num_trials=16, seed=seed)
    assert draw_trials(SPACE, num_trials=num_trials, seed=seed) == larger[:num_trials]


def test_arms_that_differ_in_their_choices_only_get_the_same_points_elsewhere():
    other = {**SPACE, "betas": [[0.9, 0.95], [0.9, 0.999]]}
    ours, theirs = (draw_trials(space, num_trials=8, seed=0) for space in (SPACE, other))
    for mine, yours in zip(ours, theirs, strict=True):
        assert (mine["lr"], mine["weight_decay"]) == (yours["lr"], yours["weight_decay"])
        assert SPACE["betas"].index(mine["betas"]) == other["betas"].index(yours["betas"])


@given(RANGES, st.integers(0, 1000))
@settings(deadline=None)
def test_every_point_lies_inside_the_box(ends, seed):
    for trial in draw_trials({"lr": log_range(ends), "arm": ["a", "b", "c"]}, num_trials=8, seed=seed):
        assert ends[0] <= trial["lr"] <= ends[1]
        assert trial["arm"] in {"a", "b", "c"}


@pytest.mark.parametrize("seed", range(5))
def test_a_search_of_a_power_of_two_is_balanced_in_the_logarithm(seed):
    trials = draw_trials(SPACE, num_trials=16, seed=seed)
    sixteenths = sorted(int(16 * LR.fraction(trial["lr"])) for trial in trials)
    assert sixteenths == list(range(16))  # one point in each sixteenth of the range
    assert sum(trial["betas"] == SPACE["betas"][0] for trial in trials) == 8


def test_a_drawn_number_has_four_significant_digits():
    for trial in draw_trials(SPACE, num_trials=16, seed=0):
        assert trial["lr"] == float(f"{trial['lr']:.4g}")


@pytest.mark.parametrize("num_trials", [0, -1, -4, 3, 6, 12, 15, 17])
def test_a_number_of_trials_that_is_no_power_of_two_is_refused(num_trials):
    with pytest.raises(ValueError, match=rf"num_trials is {num_trials}; it must be a power of two"):
        draw_trials(SPACE, num_trials=num_trials, seed=0)


def test_an_empty_space_is_refused():
    with pytest.raises(ValueError, match="space is empty"):
        draw_trials({}, num_trials=4, seed=0)


# Ranges


@given(RANGES, st.floats(0, 1))
@settings(deadline=None)
def test_a_fraction_of_the_way_is_found_again_up_to_the_rounding(ends, fraction):
    axis = log_range(ends)
    width = math.log(ends[1] / ends[0])
    assert axis.fraction(axis.at(fraction)) == pytest.approx(fraction, abs=6e-4 / width + 1e-9)


def test_the_middle_of_a_range_is_its_geometric_mean():
    assert LogRange(low=1e-4, high=1e-2).at(0.5) == 1e-3
    assert (LR.at(0), LR.at(1)) == (LR.low, LR.high)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"low": 0.0, "high": 1.0}, "key 'low' has value 0.0; Input should be greater than 0"),
        ({"low": -1.0, "high": 1.0}, "key 'low' has value -1.0"),
        ({"low": 1.0, "high": 1.0}, "low 1.0 must be less than high 1.0"),
        ({"low": 2.0, "high": 1.0}, "low 2.0 must be less than high 1.0"),
        ({"low": math.nan, "high": 1.0}, "key 'low' has value nan"),
        ({"low": 1.0}, "key 'high' is missing"),
    ],
)
def test_a_range_that_is_none_is_refused(content, told):
    with pytest.raises(ConfigError, match=told):
        parse(LogRange, content, source="params.yaml")


# Selection


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([3.0, 1.0, 2.0], 1),
        ([math.nan, 2.0, 1.0], 2),
        ([1.0, math.nan], 0),
        ([-math.inf, 2.0], 1),
        ([math.inf, 2.0], 1),
        ([2.0, 1.0, 1.0], 1),
        ([5.0], 0),
    ],
)
def test_the_least_finite_loss_wins_and_of_equal_ones_the_first(losses, best):
    assert select(losses) == best


@pytest.mark.parametrize("losses", [[math.nan], [math.nan, math.inf, -math.inf]])
def test_a_search_in_which_every_trial_diverged_is_refused_with_the_remedy(losses):
    with pytest.raises(ValueError, match=rf"all {len(losses)} trials diverged; move the search space"):
        select(losses)


# Edges


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, True), (0.04, True), (0.06, False), (0.5, False), (0.94, False), (0.96, True)]
)
def test_a_point_within_a_twentieth_of_an_end_is_at_the_edge(fraction, expected):
    middle = SPACE["weight_decay"].at(0.5)
    point = {"lr": LR.at(fraction), "weight_decay": middle, "betas": SPACE["betas"][0]}
    assert at_edge(point, SPACE) is expected
    assert at_edge({**point, "lr": LR.at(0.5), "weight_decay": SPACE["weight_decay"].at(fraction)}, SPACE) is expected


def test_a_list_of_choices_has_no_edge():
    assert at_edge({"betas": SPACE["betas"][0]}, {"betas": SPACE["betas"]}) is False


# The race and its ledger


class MadeUpRunner:
    """Keeps what it is asked to run; the validation loss at the end is `loss_of` the run, and all else misleads."""

    profile = "smoke"

    def __init__(self, loss_of) -> None:
        self.loss_of, self.grids = loss_of, []

    def __call__(self, _, runs):
        self.grids.append(list(runs))
        return [[made_up_row(run, *row, profile="smoke") for row in self._rows(run)] for run in runs]

    def _rows(self, run):
        loss = self.loss_of(run)
        misleading = None if loss is None else -loss
        return [
            ("validation", 1, "loss_nats", misleading), ("validation", 9, "loss_nats", loss),
            ("validation", 99, "error_share", misleading), ("test", 99, "loss_nats", misleading),
        ]  # fmt: skip


POINTS = draw_trials(SPACE, num_trials=16, seed=0)
# Of each trial on the first tuning seed, and on the others: trial 3 is lucky once, trial 5 is best on average, and
# what is not raced would look better than both.
LUCK = {3: (1.0, 99.0), 5: (2.0, 32.0), 7: (3.0, 33.0), 9: (4.0, 34.0)}


def loss_of(run):
    trial = next(n for n, point in enumerate(POINTS) if point.items() <= run.config.items())
    once, later = LUCK.get(trial, (10.0 + trial, 0.0))
    if trial == 11:
        return None
    return (once if run.seed == 1000 else later) + 0.01 * (run.arm == "adamw")


def search(arm="lion", num_trials=16, **changes) -> Search:
    return Search("quality", arm, {"steps": 9}, SPACE, num_trials, "loss_nats", **changes)


@pytest.fixture
def race():
    runner = MadeUpRunner(loss_of)
    tuned, rows = tune(runner, None, [search("adamw"), search("lion")], Tuning(draw_seed=0, seeds=[1000, 1001, 1002]))
    return runner, tuned, rows


def test_all_trials_run_on_the_first_seed_and_the_best_quarter_on_every_other(race):
    everyone, finalists = race[0].grids
    assert [(run.arm, run.seed) for run in everyone] == [(arm, 1000) for arm in ("adamw", "lion") for _ in range(16)]
    assert [run.config for run in everyone] == 2 * [{"steps": 9, **point} for point in POINTS]
    assert [(run.arm, run.config, run.seed) for run in finalists] == [
        (arm, {"steps": 9, **POINTS[trial]}, seed)
        for arm in ("adamw", "lion") for trial in (3, 5, 7, 9) for seed in (1001, 1002)
    ]  # fmt: skip
    assert {run.experiment for run in everyone + finalists} == {"quality_search"}


def test_the_mean_over_tuning_seeds_selects_and_not_the_luck_of_one(race):
    assert [of_arm.best_trial() for of_arm in race[1]] == [5, 5]
    lucky, _ = tune(MadeUpRunner(loss_of), None, [search()], Tuning(draw_seed=0, seeds=[1000]))
    assert lucky[0].best_trial() == 3


def test_a_smaller_budget_selects_among_the_first_trials_only(race):
    assert [race[1][0].best_trial(budget) for budget in (2, 4, 8, 16)] == [0, 3, 5, 5]
    assert race[1][0].best(8) == POINTS[5]


@pytest.mark.parametrize(("num_trials", "raced"), [(2, 2), (4, 4), (8, 4), (16, 4), (32, 8)])
def test_at_least_four_trials_are_raced(num_trials, raced):
    runner = MadeUpRunner(lambda run: run.config["lr"])
    tune(runner, None, [search(num_trials=num_trials)], Tuning(draw_seed=0, seeds=[1, 2, 3]))
    assert len(runner.grids[1]) == 2 * raced


def test_a_trial_that_diverges_on_any_tuning_seed_is_never_selected():
    def diverges_later(run):
        return None if run.seed != 1000 and run.config["lr"] == POINTS[5]["lr"] else loss_of(run)

    tuned, rows = tune(MadeUpRunner(diverges_later), None, [search()], Tuning(draw_seed=0, seeds=[1000, 1001]))
    assert tuned[0].best_trial() == 7
    assert [row["status"] for row in rows if row["trial"] == 5] == ["ok", "diverged"]


def test_a_search_in_which_every_trial_diverged_has_no_ledger():
    with pytest.raises(ValueError, match="all 16 trials diverged; move the search space"):
        tune(MadeUpRunner(lambda _: None), None, [search()], Tuning(draw_seed=0, seeds=[1000, 1001]))


def test_the_ledger_has_every_trial_on_every_seed_also_those_that_diverged(race):
    rows = [row for row in race[2] if row["arm"] == "lion"]
    expected = {(trial, 1000) for trial in range(16)} | {(t, s) for t in (3, 5, 7, 9) for s in (1001, 1002)}
    assert {(row["trial"], row["seed"]) for row in rows} == expected
    assert len(rows) == len(expected)
    assert {row["trial"] for row in rows if row["status"] == "diverged"} == {11}
    assert {(row["trial"], row["seed"]) for row in rows if row["selected"]} == {(5, 1000), (5, 1001), (5, 1002)}
    assert [row["at_edge"] for row in rows] == [at_edge(POINTS[row["trial"]], SPACE) for row in rows]


def test_a_label_stands_in_the_ledger_beside_the_point():
    _, rows = tune(MadeUpRunner(loss_of), None, [search(label={"batch": 20})], Tuning(draw_seed=0, seeds=[1000]))
    assert rows[5]["config"] == {**POINTS[5], "batch": 20}


@pytest.mark.parametrize(
    ("tuning", "reported", "told"),
    [
        ([1000, 1001], [0, 1001], r"seeds \[0, 1001\] must differ .* from the tuning seeds \[1000, 1001\]"),
        ([1000], [0, 0], r"seeds \[0, 0\] must differ from each other"),
    ],
)
def test_a_reported_seed_is_no_tuning_seed_and_no_seed_stands_twice(tuning, reported, told):
    with pytest.raises(ValueError, match=told):
        Tuning(draw_seed=0, seeds=tuning).refuse_shared({"seeds": reported})
    Tuning(draw_seed=0, seeds=tuning).refuse_shared({"seeds": [5, 6]})


def test_a_tuning_seed_stands_once():
    with pytest.raises(ConfigError, match=r"seeds.* 3 stands in it twice"):
        parse(Tuning, {"draw_seed": 0, "seeds": [3, 3]}, source="params.yaml")

"""paperkit.tuning: every arm gets the same points of a fair search, and every trial is written down."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paperkit.config import ConfigError, parse
from paperkit.results import read_trials, write_trials
from paperkit.tuning import LogRange, at_edge, draw_trials, ledger, select

LR = LogRange(low=3e-4, high=3e-2)
SPACE = {"lr": LR, "weight_decay": LogRange(low=1e-2, high=3.0), "betas": [[0.9, 0.99], [0.95, 0.98]]}
POSITIVE = st.floats(1e-8, 1e8)
RANGES = st.tuples(POSITIVE, POSITIVE).map(sorted).filter(lambda ends: ends[0] < ends[1])


def log_range(ends: list[float]) -> LogRange:
    return LogRange(low=ends[0], high=ends[1])


# Drawing


def test_the_same_seed_draws_the_same_points_and_another_seed_others() -> None:
    assert draw_trials(SPACE, num_trials=16, seed=3) == draw_trials(SPACE, num_trials=16, seed=3)
    assert draw_trials(SPACE, num_trials=16, seed=3) != draw_trials(SPACE, num_trials=16, seed=4)


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 4, 8]))
@settings(deadline=None, max_examples=30)
def test_a_smaller_search_is_the_beginning_of_a_larger_one(seed: int, num_trials: int) -> None:
    larger = draw_trials(SPACE, num_trials=16, seed=seed)
    assert draw_trials(SPACE, num_trials=num_trials, seed=seed) == larger[:num_trials]


def test_arms_that_differ_in_their_choices_only_get_the_same_points_elsewhere() -> None:
    other = {**SPACE, "betas": [[0.9, 0.95], [0.9, 0.999]]}
    ours, theirs = (draw_trials(space, num_trials=8, seed=0) for space in (SPACE, other))
    for mine, yours in zip(ours, theirs, strict=True):
        assert (mine["lr"], mine["weight_decay"]) == (yours["lr"], yours["weight_decay"])
        assert SPACE["betas"].index(mine["betas"]) == other["betas"].index(yours["betas"])


@given(RANGES, st.integers(0, 1000))
@settings(deadline=None)
def test_every_point_lies_inside_the_box(ends, seed: int) -> None:
    for trial in draw_trials({"lr": log_range(ends), "arm": ["a", "b", "c"]}, num_trials=8, seed=seed):
        assert ends[0] <= trial["lr"] <= ends[1]
        assert trial["arm"] in {"a", "b", "c"}


def test_points_are_uniform_in_the_logarithm() -> None:
    space = {"lr": LogRange(low=1e-5, high=1e-1)}
    drawn = [trial["lr"] for seed in range(16) for trial in draw_trials(space, num_trials=16, seed=seed)]
    assert stats.kstest(np.log10(drawn), stats.uniform(-5, 4).cdf).pvalue > 0.01
    assert stats.kstest(drawn, stats.uniform(1e-5, 1e-1).cdf).pvalue < 1e-6  # and the same test can fail


@pytest.mark.parametrize("seed", range(5))
def test_a_search_of_a_power_of_two_is_balanced(seed: int) -> None:
    trials = draw_trials(SPACE, num_trials=16, seed=seed)
    sixteenths = sorted(int(16 * LR.fraction(trial["lr"])) for trial in trials)
    assert sixteenths == list(range(16))  # one point in each sixteenth of the range
    assert sum(trial["betas"] == SPACE["betas"][0] for trial in trials) == 8


def test_a_drawn_number_has_four_significant_digits() -> None:
    for trial in draw_trials(SPACE, num_trials=16, seed=0):
        assert trial["lr"] == float(f"{trial['lr']:.4g}")


@pytest.mark.parametrize("num_trials", [0, -1, -4, 3, 6, 12, 15, 17])
def test_a_number_of_trials_that_is_no_power_of_two_is_refused(num_trials: int) -> None:
    with pytest.raises(ValueError, match=rf"num_trials is {num_trials}; it must be a power of two"):
        draw_trials(SPACE, num_trials=num_trials, seed=0)


@pytest.mark.parametrize("num_trials", [1, 2, 4, 32])
def test_a_power_of_two_gives_that_many_trials_without_a_warning(num_trials: int) -> None:
    assert len(draw_trials(SPACE, num_trials=num_trials, seed=0)) == num_trials


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(ValueError, match="space is empty"):
        draw_trials({}, num_trials=4, seed=0)


# Ranges


@given(RANGES, st.floats(0, 1))
@settings(deadline=None)
def test_a_fraction_of_the_way_is_found_again_up_to_the_rounding(ends, fraction: float) -> None:
    axis = log_range(ends)
    width = math.log(ends[1] / ends[0])
    assert axis.fraction(axis.at(fraction)) == pytest.approx(fraction, abs=6e-4 / width + 1e-9)


def test_the_middle_of_a_range_is_its_geometric_mean() -> None:
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
def test_a_range_that_is_none_is_refused(content, told) -> None:
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
def test_the_least_finite_loss_wins_and_of_equal_ones_the_first(losses, best) -> None:
    assert select(losses) == best


@given(st.lists(st.floats(), min_size=1, max_size=20).filter(lambda losses: any(map(math.isfinite, losses))))
@settings(deadline=None)
def test_the_selected_loss_is_finite_and_no_finite_one_is_less(losses) -> None:
    chosen = losses[select(losses)]
    assert math.isfinite(chosen)
    assert chosen == min(filter(math.isfinite, losses))


@pytest.mark.parametrize("losses", [[math.nan], [math.nan, math.inf, -math.inf]])
def test_a_search_in_which_every_trial_diverged_is_refused_with_the_remedy(losses) -> None:
    with pytest.raises(ValueError, match=rf"all {len(losses)} trials diverged; move the search space"):
        select(losses)


# Edges


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, True), (0.04, True), (0.06, False), (0.5, False), (0.94, False), (0.96, True)]
)
def test_a_point_within_a_twentieth_of_an_end_is_at_the_edge(fraction: float, expected: bool) -> None:
    middle = SPACE["weight_decay"].at(0.5)
    point = {"lr": LR.at(fraction), "weight_decay": middle, "betas": SPACE["betas"][0]}
    assert at_edge(point, SPACE) is expected
    assert at_edge({**point, "lr": LR.at(0.5), "weight_decay": SPACE["weight_decay"].at(fraction)}, SPACE) is expected


def test_a_wider_edge_holds_more_points() -> None:
    point = {"lr": LR.at(0.15)}
    assert not at_edge(point, {"lr": LR})
    assert at_edge(point, {"lr": LR}, share=0.2)


def test_a_list_of_choices_has_no_edge() -> None:
    assert at_edge({"betas": SPACE["betas"][0]}, {"betas": SPACE["betas"]}) is False


# Ledger


@pytest.fixture
def rows() -> list[dict]:
    points = draw_trials(SPACE, num_trials=8, seed=0)
    losses = {"adamw": [8.0, 7.0, math.nan, 5.0, 4.0, 3.0, 2.0, 9.0], "lion": [1.0, math.inf, *[2.0] * 6]}
    return ledger(
        profile="smoke", experiment="quality", metric="loss_nats", seed=1000, space=SPACE,
        trials={arm: list(zip(points, losses[arm], strict=True)) for arm in losses},
    )  # fmt: skip


def test_the_ledger_has_every_trial_of_every_arm_also_those_that_diverged(rows) -> None:
    assert [(row["arm"], row["trial"]) for row in rows] == [(arm, n) for arm in ("adamw", "lion") for n in range(8)]
    assert [(row["arm"], row["trial"]) for row in rows if row["status"] == "diverged"] == [("adamw", 2), ("lion", 1)]
    assert {row["status"] for row in rows} == {"ok", "diverged"}


def test_exactly_one_trial_of_each_arm_is_selected_and_it_is_the_best(rows) -> None:
    assert [(row["arm"], row["trial"], row["value"]) for row in rows if row["selected"]] == [
        ("adamw", 6, 2.0),
        ("lion", 0, 1.0),
    ]


def test_the_ledger_marks_points_at_the_edge_of_the_space(rows) -> None:
    assert [row["at_edge"] for row in rows] == [at_edge(row["config"], SPACE) for row in rows]
    narrow = {**SPACE, "lr": LogRange(low=rows[0]["config"]["lr"], high=1.0)}
    trials = {"lion": [(rows[0]["config"], 1.0)]}
    (row,) = ledger(profile="smoke", experiment="e", metric="m", seed=0, space=narrow, trials=trials)
    assert row["at_edge"] is True


def test_the_ledger_is_written_and_read_back(rows, tmp_path) -> None:
    write_trials(tmp_path / "trials.csv", rows)
    table = read_trials(tmp_path / "trials.csv")
    assert len(table) == 16
    assert table.groupby("arm")["selected"].sum().to_dict() == {"adamw": 1, "lion": 1}
    assert table["value"].isna().sum() == 2


def test_an_arm_whose_every_trial_diverged_has_no_ledger() -> None:
    with pytest.raises(ValueError, match="all 1 trials diverged"):
        ledger(
            profile="smoke", experiment="e", metric="m", seed=0, space=SPACE,
            trials={"lion": [(draw_trials(SPACE, num_trials=1, seed=0)[0], math.nan)]},
        )  # fmt: skip

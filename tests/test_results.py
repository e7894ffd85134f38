"""paperkit.results: equal results are equal bytes, and what does not have the fixed form is refused."""

import errno
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperkit.results import (
    RUNS_COLUMNS,
    TRIALS_COLUMNS,
    ResultsError,
    canonical_json,
    read_json,
    read_runs,
    read_trials,
    write_json,
    write_runs,
    write_trials,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def row(**changes: Any) -> dict[str, Any]:
    sound = {
        "profile": "smoke", "experiment": "quality", "arm": "lion", "seed": 0, "config": {"lr": 0.001},
        "split": "test", "step": 10, "metric": "loss_nats", "value": 2.5, "status": "ok",
    }  # fmt: skip
    return {**sound, **changes}


def trial(**changes: Any) -> dict[str, Any]:
    sound = {
        "profile": "smoke", "experiment": "quality", "arm": "lion", "trial": 0, "seed": 0, "config": {"lr": 0.001},
        "metric": "loss_nats", "value": 2.5, "status": "ok", "selected": True, "at_edge": False,
    }  # fmt: skip
    return {**sound, **changes}


GRID = [
    row(arm=arm, seed=seed, step=step, value=seed / 3 + step, config={"lr": 10.0**-seed, "betas": [0.9, 0.99]})
    for arm in ("lion", "adamw")
    for seed in (2, 10, 0)
    for step in (100, 20)
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    write_runs(path, GRID)
    return path


# Bytes


SAME = {
    "in another order": lambda rows: random.Random(0).sample(rows, len(rows)),
    "backwards": lambda rows: rows[::-1],
    "with keys in another order": lambda rows: [dict(reversed(list(one.items()))) for one in rows],
    "with canonical JSON": lambda rows: [{**one, "config": canonical_json(one["config"])} for one in rows],
    "with numbers of NumPy": lambda rows: [
        {**one, "seed": np.int64(one["seed"]), "value": np.float64(one["value"])} for one in rows
    ],
}


@pytest.mark.parametrize("written", SAME)
def test_the_same_rows_give_the_same_bytes(table, written):
    expected = table.read_bytes()
    write_runs(table, SAME[written](GRID))
    assert table.read_bytes() == expected


def test_the_formats_have_the_columns_of_the_design(table):
    assert table.read_text().splitlines()[0] == ",".join(RUNS_COLUMNS)
    assert ",".join(RUNS_COLUMNS) == "profile,experiment,arm,seed,config,split,step,metric,value,status"
    assert ",".join(TRIALS_COLUMNS) == "profile,experiment,arm,trial,seed,config,metric,value,status,selected,at_edge"


def test_lines_end_in_lf_and_the_last_one_too(table, tmp_path):
    write_json(tmp_path / "metrics.json", {"b": [1], "a": 2})
    for path in (table, tmp_path / "metrics.json"):
        content = path.read_bytes()
        assert b"\r" not in content
        assert content.endswith(b"\n")
        assert not content.endswith(b"\n\n")


def test_an_empty_ledger_is_a_header_and_is_read_back(tmp_path):
    path = tmp_path / "trials.csv"
    write_trials(path, [])
    assert path.read_text() == ",".join(TRIALS_COLUMNS) + "\n"
    empty = read_trials(path)
    assert len(empty) == 0
    assert tuple(empty.columns) == TRIALS_COLUMNS


# Round trips


@given(st.lists(NUMBERS, min_size=1, max_size=20))
@settings(deadline=None, max_examples=40)
def test_floats_are_read_back_bit_for_bit(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "floats.csv"
    write_runs(path, [row(seed=seed, value=value) for seed, value in enumerate(values)])
    back = read_runs(path)["value"].to_numpy()
    assert back.tobytes() == np.array(values, dtype=np.float64).tobytes()


@given(st.dictionaries(st.text(max_size=5), NUMBERS | st.integers() | st.text(max_size=5) | st.none(), max_size=4))
@settings(deadline=None, max_examples=40)
def test_configurations_are_read_back_equal(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "configurations.csv"
    write_runs(path, [row(config=config)])
    assert read_runs(path)["config"].tolist() == [canonical_json(config)]


@pytest.mark.parametrize("name", ["None", "NA", "nan", "null", "", "1", "True", 'a,"b"', "安"])
def test_a_name_that_looks_like_something_else_stays_a_name(tmp_path, name):
    path = tmp_path / "runs.csv"
    write_runs(path, [row(arm=name, split=name, metric=name)])
    back = read_runs(path)
    assert back[["arm", "split", "metric"]].iloc[0].tolist() == [name] * 3


def test_types_are_read_back_whatever_the_rows(table, tmp_path):
    runs = read_runs(table)
    assert (runs["seed"].dtype, runs["step"].dtype, runs["value"].dtype) == ("int64", "int64", "float64")
    write_trials(tmp_path / "trials.csv", [trial(), trial(trial=1, value=None, status="diverged", selected=False)])
    trials = read_trials(tmp_path / "trials.csv")
    assert trials["selected"].tolist() == [True, False]
    assert (trials["selected"].dtype, trials["at_edge"].dtype) == ("bool", "bool")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_a_diverged_run_is_a_row_without_a_number(tmp_path, value):
    path = tmp_path / "runs.csv"
    write_runs(path, [row(value=value, status="diverged"), row(seed=1)])
    back = read_runs(path)
    assert back["status"].tolist() == ["diverged", "ok"]
    assert back["value"].isna().tolist() == [True, False]


# Refusals


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_an_ok_row_without_a_finite_number_is_refused(tmp_path, value):
    with pytest.raises(ResultsError, match=r"in an ok row .*'seed': 7"):
        write_runs(tmp_path / "runs.csv", [row(seed=7, value=value)])
    assert not (tmp_path / "runs.csv").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({key: item for key, item in row().items() if key != "split"}, r"missing keys \['split'\]"),
        (row(unit="nats"), r"unknown keys \['unit'\]"),
        (row(status="failed"), "status 'failed' .* allowed: ok, diverged"),
        (row(seed=0.5), "seed 0.5 .* whole numbers"),
        (row(step=None), "step None .* whole numbers"),
        (row(seed=2**63), "seed 9223372036854775808 .* whole numbers of 64 bits"),
        (row(arm="a\rb"), r"arm 'a\\rb' .* without a carriage return"),
        (row(config={"lr": math.nan}), "not canonical JSON"),
        (row(config={"space": {1, 2}}), "not canonical JSON"),
    ],
)
def test_a_row_without_the_fixed_form_is_refused(table, changed, told):
    before = table.read_bytes()
    with pytest.raises(ResultsError, match=told):
        write_runs(table, [*GRID, changed])
    assert table.read_bytes() == before


def test_two_rows_that_measure_the_same_are_refused_even_with_different_values(table):
    before = table.read_bytes()
    with pytest.raises(ResultsError, match=r"1 rows measure the same thing twice.*'seed': 2"):
        write_runs(table, [*GRID, {**GRID[0], "value": 99.0}])
    assert table.read_bytes() == before


def test_a_trial_cannot_be_both_selected_and_not(tmp_path):
    with pytest.raises(ResultsError, match="measure the same thing twice"):
        write_trials(tmp_path / "trials.csv", [trial(), trial(selected=False)])


@pytest.mark.parametrize("key", ["profile", "experiment", "arm", "seed", "config", "split", "step", "metric"])
def test_rows_that_differ_in_one_key_are_both_kept(tmp_path, key):
    other = {"seed": 1, "step": 11, "config": {"lr": 0.1}}.get(key, "other")
    write_runs(tmp_path / "runs.csv", [row(), row(**{key: other})])
    assert len(read_runs(tmp_path / "runs.csv")) == 2


@pytest.mark.parametrize("content", [{"a": math.nan}, [math.inf], {"a": {1}}, {"a": object()}])
def test_json_without_a_finite_meaning_is_refused_and_the_old_file_stays(tmp_path, content):
    path = tmp_path / "metrics.json"
    write_json(path, {"loss_nats": 1.5})
    with pytest.raises(ResultsError, match="not canonical JSON"):
        write_json(path, content)
    assert read_json(path) == {"loss_nats": 1.5}


def test_canonical_json_is_one_line_that_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": [1.0, None], "a": "\n安"}) == canonical_json({"a": "\n安", "b": [1.0, None]})
    assert canonical_json({"b": [1.0, None], "a": "\n安"}) == '{"a":"\\n安","b":[1.0,null]}'


# Damaged and missing files


def test_a_table_cut_anywhere_within_a_row_is_refused(table):
    text = table.read_text()
    last = text.rstrip("\n").rindex("\n") + 1
    # From the row's second character to before its last: an empty rest is a shorter, sound table.
    for end in range(last + 1, len(text) - 1):
        table.write_text(text[:end])
        with pytest.raises(ResultsError, match=r"runs\.csv .*rerun its stage"):
            read_runs(table)
    table.write_text(text)
    assert len(read_runs(table)) == len(GRID)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:0], "cannot be read"),
        (lambda text: text.replace("seed", "sead", 1), "has columns"),
        (lambda text: text.replace("profile,experiment", "experiment,profile", 1), "has columns"),
        (lambda text: text.replace(",20,loss_nats", ",20.5,loss_nats", 1), "cannot be read"),
        (lambda text: text.replace(",ok", ",", 1), "is damaged"),
        (lambda text: text.replace(",ok", ",okay", 1), "is damaged"),
        (lambda text: text + "<<<<<<< HEAD\n", "cannot be read"),
        (lambda text: text + "smoke,e,a,0,{},test,1,loss_nats,,ok\n", "is damaged"),
        (lambda text: text + "smoke,e,a,0,{},test,1,loss_nats,1.2.3,ok\n", "cannot be read"),
        (lambda text: text + "smoke,e,a,0,{},test,1,loss_nats,1,ok,2\n", "cannot be read"),
    ],
    ids=[
        "empty", "renamed column", "swapped columns", "broken integer", "no status", "unknown status",
        "merge conflict", "ok without a value", "broken value", "extra cell",
    ],
)  # fmt: skip
def test_a_damaged_table_is_refused_by_name_with_the_remedy(table, damage, told):
    text = table.read_text()
    table.write_text(damage(text))
    assert table.read_text() != text
    with pytest.raises(ResultsError, match=rf"(?s)runs\.csv {told}.*rerun its stage"):
        read_runs(table)


def test_a_damaged_flag_of_the_ledger_is_refused(tmp_path):
    path = tmp_path / "trials.csv"
    write_trials(path, [trial()])
    path.write_text(path.read_text().replace("True", "Tru"))
    with pytest.raises(ResultsError, match=r"trials\.csv cannot be read"):
        read_trials(path)


def test_damaged_json_is_refused_by_name_with_the_remedy(tmp_path):
    path = tmp_path / "verdicts.json"
    write_json(path, {"claims": [1, 2, 3]})
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ResultsError, match=r"verdicts\.json is not JSON .*restore it with git"):
        read_json(path)


@pytest.mark.parametrize("read", [read_runs, read_trials, read_json])
def test_a_missing_file_is_refused_with_the_command_that_makes_it(tmp_path, read):
    with pytest.raises(ResultsError, match=r"absent is missing; `dvc repro` makes it"):
        read(tmp_path / "absent")


# Atomicity


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text file is cut after ten characters, as on a full disk."""
    write_text = Path.write_text

    def write_and_fail(path: Path, text: str, **options: Any) -> int:
        write_text(path, text[:10], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_and_fail)


@pytest.mark.parametrize("name", ["runs.csv", "first/runs.csv"])
def test_a_write_that_fails_leaves_the_old_table_or_none(table, full_disk, name):
    before = table.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        write_runs(table.parent / name, GRID[:3])
    assert table.read_bytes() == before
    assert not (table.parent / "first/runs.csv").exists()

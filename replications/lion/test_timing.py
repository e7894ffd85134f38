"""The clock is held to what it claims to time; no test here asserts a duration."""

import dataclasses
import math

import pytest
import torch

from paperkit.config import ConfigError, parse
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.results import read_runs, write_runs
from paperkit.runs import Run
from replications.lion import timing
from tests.made_up_runs import changed, made_up_row

ALONE = {"tensors": 3, "entries": 8, "warmup_steps": 1, "repetitions": 2}
TRAINING = {
    "vocabulary": 5, "width": 8, "layers": 1, "heads": 2, "context": 4, "max_gradient_norm": 1.0,
    "warmup_steps": 1, "repetitions": 2,
}  # fmt: skip
TINY = {"rounds": 2, "optimizer_step": ALONE, "training_step": TRAINING}
SECONDS = 2.0  # what the stopped clock says


def in_this_process(measure, visits):
    return [[made_up_row(visit, *dataclasses.astuple(measured)) for measured in measure(visit)] for visit in visits]


def stop_clock(monkeypatch, watch):
    """Replace the clock by `watch`, which gets the timed action, and by a fixed time."""

    def stopped(action, settings, device):
        watch(action)
        return SECONDS

    monkeypatch.setattr(timing, "_step_seconds", stopped)


def num_bytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def changed_by(action, tensors):
    before = [tensor.detach().clone() for tensor in tensors]
    action()
    return [tensor for tensor, old in zip(tensors, before, strict=True) if not torch.equal(tensor, old)]


ARMS = [
    *(("bandwidth", arm, "bytes_per_s") for arm in timing.SWEEPS),
    *(("step_time", arm, metric) for arm in timing.IMPLEMENTATIONS for metric in ("step_s", "minimal_bytes")),
    *(("training_step", arm, "training_step_s") for arm in timing.TRAINED),
]


def test_every_round_visits_every_arm_once_and_gives_one_positive_finite_number_for_each_metric(tmp_path):
    visited = []

    def runner(measure, visits):
        visited.extend((visit.seed, visit.experiment, visit.arm) for visit in visits)
        return in_this_process(measure, visits)

    write_runs(tmp_path / "timings.csv", timing.run(parse(timing.Config, TINY, source="test"), runner).runs)
    rows = read_runs(tmp_path / "timings.csv")
    found = sorted(zip(rows["seed"], rows["experiment"], rows["arm"], rows["metric"], strict=True))
    assert found == sorted((number, *arm) for number in (0, 1) for arm in ARMS)
    assert all(math.isfinite(value) and value > 0 for value in rows["value"])
    # A round ends before the next one begins, and all visit the arms in one order.
    first, second = ([visit[1:] for visit in visited if visit[0] == number] for number in (0, 1))
    assert visited == [*((0, *arm) for arm in first), *((1, *arm) for arm in first)]
    assert first == second
    assert len(set(first)) == len(first)


def test_warmup_is_not_timed_and_the_number_is_the_median_of_the_repetitions(monkeypatch):
    calls = []
    clock = iter([0.0, 10.0, 0.0, 1.0, 0.0, 3.0])  # starts and ends of three repetitions
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    settings = timing.OptimizerStep(**{**ALONE, "warmup_steps": 4, "repetitions": 3})
    assert timing._step_seconds(lambda: calls.append(None), settings, "cpu") == 3.0
    assert len(calls) == 4 + 3


def test_on_a_gpu_the_repetitions_are_queued_and_waited_for_once(monkeypatch):
    events = []
    clock = iter([1.0, 7.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: events.append("clock") or next(clock))
    monkeypatch.setattr(timing.torch.cuda, "synchronize", lambda: events.append("wait"))
    settings = timing.OptimizerStep(**{**ALONE, "warmup_steps": 1, "repetitions": 3})
    assert timing._step_seconds(lambda: events.append("step"), settings, "cuda") == 2.0
    assert events == ["step", "wait", "clock", "step", "step", "step", "wait", "clock"]


@pytest.mark.parametrize("arm", timing.IMPLEMENTATIONS)
def test_minimal_bytes_are_those_of_the_tensors_a_step_reads_and_changes(monkeypatch, arm):
    made, moved = [], []

    def make(*args, **kwargs):
        made.append(implementation(*args, **kwargs))
        return made[0]

    def watch(step):
        step()  # makes the state
        (group,) = made[0].param_groups
        parameters, gradients = group["params"], [parameter.grad for parameter in group["params"]]
        # AdamW also counts its steps, in one number a tensor.
        states = [each for state in made[0].state.values() for each in state.values() if torch.is_tensor(each)]
        states = [each for each in states if each.shape == parameters[0].shape]
        read = [*parameters, *gradients, *states]
        changed = changed_by(step, read)
        assert {id(each) for each in changed} == {id(each) for each in (*parameters, *states)}
        moved.append(num_bytes(read) + num_bytes(changed))

    implementation = timing.IMPLEMENTATIONS[arm]
    monkeypatch.setitem(timing.IMPLEMENTATIONS, arm, make)
    stop_clock(monkeypatch, watch)
    values = {m.metric: m.value for m in timing.measure_step_time(Run("step_time", arm, 0, ALONE))}
    assert values == {"step_s": SECONDS, "minimal_bytes": moved[0]}


@pytest.mark.parametrize("arm", timing.SWEEPS)
def test_bandwidth_counts_the_bytes_a_sweep_reads_and_changes_on_as_much_memory_as_a_lion_step(monkeypatch, arm):
    seen, moved = [], []
    sweep = timing.SWEEPS[arm]

    def watch(action):
        action()  # shows the arrays
        tensors = [tensor for array in seen[0] for tensor in array]
        moved.append(num_bytes(tensors) + num_bytes(changed_by(action, tensors)))
        assert num_bytes(tensors) == 3 * 4 * ALONE["tensors"] * ALONE["entries"]

    def action(*arrays):
        seen.append(arrays)
        sweep.action(*arrays)

    monkeypatch.setitem(timing.SWEEPS, arm, dataclasses.replace(sweep, action=action))
    stop_clock(monkeypatch, watch)
    (measured,) = timing.measure_bandwidth(Run("bandwidth", arm, 0, ALONE))
    assert measured.value == moved[0] / SECONDS


@pytest.mark.parametrize("arm", timing.TRAINED)
def test_a_training_step_clips_and_moves_every_parameter(monkeypatch, arm):
    models, norms = [], []

    def make(**sizes):
        models.append(TinyGPT(**sizes))
        return models[0]

    def watch(step):
        parameters = list(models[0].parameters())
        changed = changed_by(step, parameters)
        assert len(changed) == len(parameters)
        norms.append(math.hypot(*(parameter.grad.norm().item() for parameter in parameters)))

    monkeypatch.setattr(timing, "TinyGPT", make)
    stop_clock(monkeypatch, watch)
    run = Run("training_step", arm, 0, {**TRAINING, "max_gradient_norm": 1e-3})
    assert [m.value for m in timing.measure_training_step(run)] == [SECONDS]
    assert norms == [pytest.approx(1e-3, rel=1e-2)]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("rounds", 0, "key 'rounds' has value 0"),
        ("optimizer_step.warmup_steps", 0, "key 'optimizer_step.warmup_steps' has value 0"),
        ("training_step.heads", 3, "width 8 must be a multiple of heads 3"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(path, value, told):
    content = changed(parse(timing.Config, TINY, source="test"), path, value)
    with pytest.raises(ConfigError, match=told):
        parse(timing.Config, content, source="timing.yaml")

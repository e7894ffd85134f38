"""What benchmarks share: times of actions that take turns, so that a burst of load hits all alike, and peak memory."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.profiler import ProfilerActivity, profile


def times_s(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time each action once a round; what it needs to be warm has been done."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - start)
    return times


def median_ratio(times: Sequence[float], peer_times: Sequence[float]) -> float:
    """Return the median over rounds of the ratio within a round."""
    return statistics.median(time / peer for time, peer in zip(times, peer_times, strict=True))


def peak_bytes(step: Callable[[], object]) -> int:
    """Return what torch holds at most during a step, beyond what it holds before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = torch.tensor([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return int(held.cumsum(0).max())

"""Times of actions that take turns, so that a burst of other load hits all of a round alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence


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

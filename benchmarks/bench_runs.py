"""Two workers against one: the same CPU-bound runs through `paperkit.runs.Runner`."""

import hashlib
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paperkit.runs import Measurement, Run, Runner, available_workers

NUM_RUNS = 16
# Half a second of one core or more: workers start some tenths of a second apart, which must not count.
ITERATIONS = 3_000_000
ROUNDS = 3
LEAST_RATIO = 1.85
# A grid is timed from the start of its first run to the end of its last, as the workers read the one clock of the
# machine: each loads torch before that, once a stage, which takes as long with one worker as with two.
METRICS = ("start_s", "end_s", "pid_count")


def burn(run: Run) -> Iterator[Measurement]:
    start = time.monotonic()
    hashlib.pbkdf2_hmac("sha256", b"", run.seed.to_bytes(8), run.config["iterations"])
    yield Measurement("none", 0, "start_s", start)
    yield Measurement("none", 0, "end_s", time.monotonic())
    yield Measurement("none", 0, "pid_count", os.getpid())


@pytest.mark.skipif(available_workers() < 2, reason="needs two cores")
def test_two_workers_are_at_least_1_85_times_as_fast_as_one(tmp_path: Path) -> None:
    busy_s: dict[int, list[float]] = {1: [], 2: []}
    whole_s: dict[int, list[float]] = {1: [], 2: []}

    def execute(workers: int) -> None:
        runner = Runner("bench", "smoke", {}, workers, kept=tmp_path / "kept")
        start = time.monotonic()
        rows = runner(burn, [Run("bench", "burn", seed, {"iterations": ITERATIONS}) for seed in range(NUM_RUNS)])
        runner.close()
        whole_s[workers].append(time.monotonic() - start)
        runner.forget()
        values = {name: [row["value"] for run in rows for row in run if row["metric"] == name] for name in METRICS}
        assert len(set(values["pid_count"])) == workers
        busy_s[workers].append(max(values["end_s"]) - min(values["start_s"]))

    for _ in range(ROUNDS):  # of one worker and of two: both see the same disturbances
        execute(1)
        execute(2)
    ratio, with_start = (statistics.median(of[1]) / statistics.median(of[2]) for of in (busy_s, whole_s))
    print(f"two workers are {ratio:.2f} times as fast as one, {with_start:.2f} with their start: {busy_s}")
    assert ratio >= LEAST_RATIO

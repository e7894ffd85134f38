"""Processor time, clock and peak memory of whole commands that shuffle one file, in rounds that visit every arm.

One round is one "seed". Time is user + system of the command, with the start of its interpreter. Peak memory is the
kernel's high-water mark of the process, read until it ends; what `wait4` reports would include that of the parent.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, PositiveInt

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import TIMING, StageConfig, Tables, main
from replications.bounded_shuffle import merge, shuffle

FOLDER = Path(".paperkit/bounded_shuffle_files")  # relative, since the stage and its worker share it
MIB = 1 << 20
ALL = 1 << 40  # a bucket that holds every file
BUCKETS = {"ours": 32 * MIB, "bucket_8": 8 * MIB, "bucket_128": 128 * MIB, "one_bucket": ALL}  # memory sorted at once
LAWS = {"post": "rounds", "proportional": "proportional"}
LONG, SHORT = (*BUCKETS, *LAWS, "shuf"), ("ours", "post", "shuf")  # arms of the two files
EMPTY, LIMITS = "interpreter", "memory"


class Config(StageConfig):
    """One profile of timing.yaml."""

    rounds: PositiveInt
    lines: PositiveInt  # of the file with long lines, and of that with lines of two bytes
    chunk: PositiveInt  # lines of a chunk of the post's scheme
    contents: list[int] = Field(min_length=1)  # bytes of a line without its end, for peak memory
    held_mib: PositiveInt  # memory that each of these files would take at once
    limits_mib: list[int] = Field(min_length=1)


def write_file(path: Path, lines: int, content: int | None) -> None:
    """Write lines of letters: of log-normal length, 94 bytes on average, or all of one length."""
    rng = np.random.default_rng(0)
    lengths = np.full(lines, content) if content is not None else rng.lognormal(4.3, 0.7, lines).astype(int)
    with path.open("wb") as file:
        for some in np.array_split(lengths + 1, -(-lines // 50_000)):
            text = rng.integers(97, 123, some.sum(), dtype=np.uint8)
            text[np.cumsum(some) - 1] = ord("\n")
            file.write(text.tobytes())


def command_of(run: Run) -> list[str]:
    """Return the command of an arm, with the names of its files."""
    source, target = FOLDER / run.config.get("source", run.experiment), FOLDER / "output"
    if run.arm == "shuf":
        return ["shuf", "-o", str(target), str(source)]
    if run.arm in LAWS:
        call = f"merge_lines(*map(Path, sys.argv[1:]), lines={run.config['chunk']}, seed=1, law={LAWS[run.arm]!r})"
        return [sys.executable, "-c", f"import sys; from {merge.__name__} import *; {call}", str(source), str(target)]
    bucket = BUCKETS.get(run.arm, BUCKETS["ours"])
    memory = ALL if bucket == ALL else run.config.get("limit_mib", 256) * MIB
    options = ["--seed", "1", "--bucket", str(bucket), "--memory", str(memory), "-o", str(target)]
    return [sys.executable, "-m", shuffle.__name__, *(["--help"] if run.arm == EMPTY else [str(source), *options])]


def watched(command: Sequence[str]) -> dict[str, float]:
    """Run a command; return its times and its peak memory."""
    start, high, ended = time.perf_counter(), 0, 0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not ended:
        with Path(f"/proc/{child.pid}/status").open() as status:  # a process that has ended has no mark
            high = max([high, *(int(line.split()[1]) for line in status if line.startswith("VmHWM"))])
        time.sleep(0.002)
        ended, state, used = os.wait4(child.pid, os.WNOHANG)
    wall, child.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(state)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return {"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "peak_mib": high / 1024}


def measure(run: Run) -> Iterator[Measurement]:
    """Run one command on a file that is in the page cache."""
    yield from (Measurement("none", 0, name, value) for name, value in watched(command_of(run)).items())
    yield Measurement("none", 0, "load", os.getloadavg()[0])


def run(config: Config, runner: Runner) -> Tables:
    """Write the files, and visit all arms, round after round."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        write_file(FOLDER / "long_lines", config.lines, None)
        write_file(FOLDER / "short_lines", config.lines, 1)
        for content in config.contents:
            lines = int(config.held_mib * MIB / shuffle._cost(1, content + 1))
            write_file(FOLDER / f"content_{content}", lines, content)
        times = {"lines": config.lines, "chunk": config.chunk}
        grid = []
        for number in range(config.rounds):
            grid += [Run("long_lines", arm, number, times) for arm in LONG]
            grid += [Run("short_lines", arm, number, times) for arm in SHORT]
            grid.append(Run(LIMITS, EMPTY, number, {}))
            grid += [
                Run(LIMITS, f"content_{content}_limit_{limit}", number,
                    {"source": f"content_{content}", "limit_mib": limit, "held_mib": config.held_mib})
                for content in config.contents for limit in config.limits_mib
            ]  # fmt: skip
        return Tables(execute(runner, measure, grid))
    finally:
        shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main(Config, run, stage="bounded_shuffle_timing", module="replications.bounded_shuffle.timing", kind=TIMING)

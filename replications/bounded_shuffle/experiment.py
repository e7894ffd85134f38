"""Orders of 100,000 line numbers, by each way to shuffle: where lines of a chunk end up, and beside whom."""

from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from paperkit.runs import Measurement, Run, Runner, execute
from paperkit.stage import StageConfig, Tables, main
from replications.bounded_shuffle.merge import LAWS, merged_order, rounds
from replications.bounded_shuffle.shuffle import order_by_keys, shuffle_lines

WINDOWS = 20  # of the output, in which lines of the last chunk are counted


class Config(StageConfig):
    """One profile of params.yaml."""

    seeds: list[NonNegativeInt] = Field(min_length=1)
    chunk: int = Field(ge=WINDOWS)  # lines of a chunk (n), but for the variations of the number of chunks
    chunks: int = Field(ge=4, multiple_of=2)  # m
    other_chunks: list[PositiveInt]  # m of the variations, with as many lines in all
    times: PositiveInt  # that four lines are shuffled
    bucket: PositiveInt  # bytes of one of ours, so small that there are many


def ours(lines: int, seed: int, bucket: int) -> NDArray[np.int64]:
    """Let the tool shuffle a file of line numbers."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "lines")
        path.write_bytes(b"".join(b"%d\n" % number for number in range(lines)))
        shuffle_lines([path], path, memory=8 << 20, seed=seed, bucket=bucket)
        return np.array(path.read_bytes().split(), dtype=np.int64)


def measure(run: Run) -> Iterator[Measurement]:
    """Shuffle once; measure positions, neighbours and batches by the chunk from which a line comes."""
    m, n, last = (run.config[key] for key in ("chunks", "chunk", "last"))
    sizes, rng = [n] * (m - 1) + [last], np.random.default_rng(run.seed)
    total = sum(sizes)
    if run.arm == "ours":
        order = ours(total, run.seed, run.config["bucket"])
    else:
        law = rounds(sizes, rng, rejection=True) if run.arm == "rejection" else LAWS[run.arm](sizes, rng)
        order = merged_order(law, sizes, rng)
    chunk, places = order // n, np.arange(total)
    yield Measurement("none", 0, "position_correlation", float(np.corrcoef(order, places)[0, 1]))
    of_last = places[chunk == m - 1]
    yield Measurement("none", 0, "last_chunk_shift", float((of_last.mean() - (total - 1) / 2) / total))
    by_chance = sum(size * (size - 1) for size in sizes) / (total * (total - 1))
    for name, lag in (("neighbour", 1), ("round_apart", m)):
        yield Measurement("none", 0, f"{name}_ratio", float((chunk[lag:] == chunk[:-lag]).mean() / by_chance))
    # Batches of the first m/2 lines of each m, and a feature of the chunk, its number; 1 for uniform order.
    size, batches = m // 2, chunk[: total // m * m].reshape(-1, m)[:, : m // 2].mean(axis=1)
    yield Measurement("none", 0, "batch_variance_ratio", float(batches.var() * size / np.var(np.arange(total) // n)))
    for window, places_there in enumerate(np.array_split(places, WINDOWS)):
        share = np.isin(places_there, of_last).mean() / (last / total)
        yield Measurement("none", window, "last_chunk_density_ratio", float(share))


def measure_four_lines(run: Run) -> Iterator[Measurement]:
    """Shuffle four lines many times, two chunks of two; measure the share of each order, by its number."""
    rng, found = np.random.default_rng(run.seed), []
    for _ in range(run.config["times"]):
        if run.arm == "ours":
            found.append(order_by_keys(rng.bit_generator.random_raw(4), rng))
        else:
            found.append(merged_order(LAWS[run.arm]([2, 2], rng), [2, 2], rng))
    share = Counter(tuple(order.tolist()) for order in found)
    for step, order in enumerate(permutations(range(4))):
        yield Measurement("none", step, "order_share", share[order] / len(found))


def run(config: Config, runner: Runner) -> Tables:
    """Shuffle by every way, with equal chunks and with a last one of half their size."""
    n, m, grid = config.chunk, config.chunks, []
    for seed in config.seeds:
        for chunks in (m, *config.other_chunks):
            size = m * n // chunks
            equal = {"chunks": chunks, "chunk": size, "last": size}
            grid += [Run(f"chunks_{chunks}", law, seed, equal) for law in LAWS]
            grid.append(Run(f"chunks_{chunks}", "ours", seed, {**equal, "bucket": config.bucket}))
        short = {"chunks": m, "chunk": n, "last": n // 2, "bucket": config.bucket}
        grid += [Run("short_last", law, seed, short) for law in ("rounds", "rejection", "ours")]
    four = [Run("four_lines", law, config.seeds[0], {"times": config.times}) for law in (*LAWS, "ours")]
    return Tables([*execute(runner, measure, grid), *execute(runner, measure_four_lines, four)])


if __name__ == "__main__":
    main(Config, run, stage="bounded_shuffle", module="replications.bounded_shuffle.experiment")

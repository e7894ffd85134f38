"""Shuffle the lines of files larger than memory, every order being equally likely.

    python -m replications.bounded_shuffle.shuffle IN... -o OUT --memory 256M --seed 1

Each line gets a random key of 64 bits, and lines are sorted by their keys: first scattered to buckets by the leading
bits, then each bucket in memory. Uniform for ideal random bits; a generator of 128 bits of state has fewer states than
35 lines have orders. For systems of the POSIX kind.
"""

import argparse
import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

KEY_BITS = 64
MAX_BUCKETS = 512  # open at once
BLOCK_BYTES, BLOCK_LINES, STEP_BYTES, SAMPLE_BYTES = 1 << 20, 50_000, 128 << 10, 4 << 10
LEAST_MEMORY = 8 << 20
# What sorting a bucket takes in memory, per line (object, places in lists, keys, ranks) and per byte, while the bucket
# before it is still there. Sizes of buckets vary, so they are planned for 0.7 of the memory.
BYTES_PER_LINE, BYTES_PER_BYTE, PLANNED = 200, 2.2, 0.7

Keys = NDArray[np.uint64]
Block = tuple[list[bytes], Keys]  # lines with their ends, and a key for each


@dataclass(frozen=True)
class Shuffled:
    """What was done: lines and bytes written without headers, buckets used, and the seed that does it again."""

    lines: int
    bytes: int
    buckets: int
    seed: int


@dataclass
class Bucket:
    """A file of records, each the counts of lines and bytes, the keys, and the lines of one block."""

    file: BinaryIO
    lines: int = 0
    size: int = 0

    def add(self, lines: Sequence[bytes], keys: Keys) -> None:
        """Append a record. The file is buffered, since a write of a raw file may end early without an error."""
        body = b"".join(lines)
        self.file.write(np.array([len(lines), len(body)]).tobytes() + keys.tobytes())
        self.file.write(body)
        self.lines, self.size = self.lines + len(lines), self.size + len(body)

    def blocks(self) -> Iterator[Block]:
        """Read the records in the order in which they were written."""
        with open(self.file.name, "rb") as file:
            while counts := file.read(16):
                lines, size = np.frombuffer(counts, dtype=int)
                keys = np.frombuffer(file.read(8 * lines), dtype=np.uint64)
                yield BytesIO(file.read(size)).readlines(), keys  # bytes.splitlines would split on CR, too


def order_by_keys(keys: Keys, ties: np.random.Generator) -> NDArray[np.intp]:
    """Return for each place the line that takes it: uniform over all orders (steps 6 and 7 of the derivation).

    Args:
        keys: Independent and uniform, shape (lines,).
        ties: Puts lines of equal keys in random order, and is not touched where there are none.
    """
    order = np.argsort(keys)
    ranked = keys[order]
    edges = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1], True])
    for group in np.flatnonzero(np.diff(edges) > 1):
        tied = slice(*edges[group : group + 2])
        order[tied] = ties.permutation(np.sort(order[tied]))  # the sort is not stable
    return order


def shuffle_lines(
    sources: Sequence[Path], target: Path, *, memory: int = 256 << 20, seed: int | None = None, header: int = 0,
    lines_per_file: int | None = None, temporary: Path | None = None, bucket: int = 8 << 20, progress: bool = False,
) -> Shuffled:  # fmt: skip
    """Shuffle the lines of all sources together; target may be one of them.

    The target appears, or is replaced, in one step at the end, after its bytes are on the disk. Order and bytes depend
    on seed and sources alone. A line ends with a newline byte; one is added to a source that ends without. All other
    bytes are content. A process that is killed outright leaves a folder `.shuffle-*`, which may be deleted.

    Args:
        sources: Files, read one after another; what is no regular file (a pipe) is copied to the disk first.
        target: File to write. A symbolic link is followed; the mode of a file that is there is kept.
        memory: Bytes to be used beside the interpreter's, at least 8 MiB; 45 MB and the longest line are always taken.
        seed: Any non-negative integer; None draws one.
        header: Lines at the start of each source that stay there; they have to be the same in all.
        lines_per_file: Write NAME-00000.SUFFIX, NAME-00001.SUFFIX, ... of so many lines, each with the header.
        temporary: Folder for the buckets, which take the size of the sources and 8 bytes a line; None: the target's.
        bucket: Bytes of memory for what is sorted at once. More is slower, as it leaves the processor's cache.
        progress: Whether to show a bar on standard error.

    Returns:
        Counts, and the seed.

    Raises:
        FileExistsError: If numbered outputs are there, which would be mixed with new ones.
        OSError: If a source is missing, the target is no file, space or open files do not suffice, or a disk is full.
        ValueError: If a number is out of range, or headers differ.
    """
    for name, value, least in (
        ("memory", memory, LEAST_MEMORY), ("header", header, 0), ("bucket", bucket, 1), ("seed", seed or 0, 0),
        ("lines_per_file", lines_per_file or int(lines_per_file is None), 1),
    ):  # fmt: skip
        if value < least:
            message = f"{name} is {value}; it must be at least {least}"
            raise ValueError(message)
    target = target.resolve()
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "the target is there, and no regular file", str(target))
    stale = sorted(target.parent.glob(f"{target.stem}-*{target.suffix}")) if lines_per_file else []
    if stale := [path for path in stale if path.stem.removeprefix(f"{target.stem}-").isdigit()]:
        raise FileExistsError(errno.EEXIST, f"{len(stale)} numbered outputs are there; remove them", str(stale[0]))
    entropy = np.random.SeedSequence(seed)
    with (
        TemporaryDirectory(dir=target.parent, prefix=".shuffle-") as written,
        TemporaryDirectory(dir=temporary or target.parent, prefix=".shuffle-") as scratch,
    ):
        paths = [_regular(Path(source), Path(scratch)) for source in sources]
        size, head, mean = _survey(paths, header)
        _require_space(size, round(size * (1 + 8 / mean)), Path(scratch), Path(written))
        keys, ties = map(np.random.Generator, map(np.random.PCG64, entropy.spawn(2)))
        with tqdm(total=2 * size, unit="B", unit_scale=True, disable=not progress) as bar:
            blocks = chain.from_iterable(_blocks(path, header, keys, bar) for path in paths)
            work = _Sorting(Path(scratch), memory, min(bucket, PLANNED * memory), ties)
            ordered = work.in_order(blocks, _cost(size / mean, size), KEY_BITS)
            outputs, lines, count = _write(ordered, Path(written), head, lines_per_file, target, bar)
        for output in outputs:
            os.replace(output, target.with_name(output.name))
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return Shuffled(lines, count, work.buckets, int(entropy.entropy))  # type: ignore[arg-type]


def _regular(source: Path, scratch: Path) -> Path:
    """Copy what is no regular file, such as a pipe, since its size has to be known."""
    if source.is_file():
        return source
    copy = scratch / f"source-{len(list(scratch.iterdir()))}"
    with source.open("rb") as pipe, copy.open("wb") as file:
        shutil.copyfileobj(pipe, file)
    return copy


def _survey(paths: Sequence[Path], header: int) -> tuple[int, bytes, float]:
    """Return the size of all sources, the header that they share, and the mean length of lines that begin them."""
    head, sample = set(), []
    for path in paths:
        with path.open("rb") as file:
            head.add(b"".join(_ended(line) for line in islice(file, header)))
            sample += file.readlines(SAMPLE_BYTES)
    if len(head) > 1:
        message = "the sources begin with different headers"
        raise ValueError(message)
    mean = max(len(b"".join(sample)), 1) / max(len(sample), 1)
    return sum(path.stat().st_size for path in paths), b"".join(head), mean


def _require_space(size: int, scattered: int, scratch: Path, written: Path) -> None:
    """Refuse to begin where a disk has too little room. A bucket is removed as soon as it is written."""
    together = scratch.stat().st_dev == written.stat().st_dev
    for folder, needed in ((scratch, scattered), (written, size + together * BLOCK_BYTES)):
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, f"{needed} bytes are needed on the disk, which has less", str(folder.parent))


def _ended(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\n"


def _blocks(path: Path, header: int, keys: np.random.Generator, bar: tqdm) -> Iterator[Block]:
    """Read lines and give each a key, in the order of the input, whatever the blocks are."""
    with path.open("rb") as file:  # a block is bounded in lines, too, since a line of two bytes takes sixty in memory
        for _ in islice(file, header):
            pass
        begin = file.tell()
        while lines := file.readlines(STEP_BYTES):
            while (
                len(lines) < BLOCK_LINES and file.tell() - begin < BLOCK_BYTES and (more := file.readlines(STEP_BYTES))
            ):
                lines += more
            lines[-1] = _ended(lines[-1])
            bar.update(file.tell() - begin)
            begin = file.tell()
            yield lines, _draw(keys, len(lines))


def _draw(keys: np.random.Generator, count: int) -> Keys:
    return keys.bit_generator.random_raw(count)


def _cost(lines: float, size: float) -> float:
    """Bytes of memory that sorting takes."""
    return BYTES_PER_LINE * lines + BYTES_PER_BYTE * size


@dataclass
class _Sorting:
    """Sorts blocks of lines by their keys, of which a part is in memory."""

    scratch: Path
    memory: int
    planned: float  # bytes of memory for a bucket
    ties: np.random.Generator
    buckets: int = 0  # made so far

    def in_order(self, blocks: Iterator[Block], cost: float, bits: int) -> Iterator[Sequence[bytes]]:
        """Yield lines in the order of their keys, of which the last `bits` bits are not yet known to be equal."""
        split = 0
        while cost / (1 << split) > self.planned and 2 << split <= MAX_BUCKETS and split < bits:
            split += 1
        for bucket in self.scatter(blocks, split, bits):
            cost = _cost(bucket.lines, bucket.size)
            if cost <= self.memory or bucket.lines < 2 or bits == split:
                lines, keys = [], [np.array([], np.uint64)]
                for some, of in bucket.blocks():
                    lines += some
                    keys.append(of)
                yield [lines[place] for place in order_by_keys(np.concatenate(keys), self.ties).tolist()]
            else:
                yield from self.in_order(bucket.blocks(), cost, bits - split)
            os.unlink(bucket.file.name)

    def scatter(self, blocks: Iterator[Block], split: int, bits: int) -> list[Bucket]:
        """Write each line to the bucket that the next bits of its key name; its order within stays."""
        start, self.buckets = self.buckets, self.buckets + (1 << split)
        with ExitStack() as stack:
            paths = [self.scratch / f"bucket-{start + place}" for place in range(1 << split)]
            made = [Bucket(stack.enter_context(path.open("wb"))) for path in paths]
            for lines, keys in blocks:
                places = (keys >> np.uint64(bits - split) if split else 0 * keys).astype(np.uint16) & (
                    (1 << split) - 1
                )
                order = np.argsort(places, kind="stable")
                sorted_lines, sorted_keys = [lines[place] for place in order.tolist()], keys[order]
                ends = np.cumsum(np.bincount(places, minlength=len(made))).tolist()
                for bucket, begin, end in zip(made, [0, *ends], ends, strict=False):
                    if begin < end:
                        bucket.add(sorted_lines[begin:end], sorted_keys[begin:end])
        return made


def _write(
    ordered: Iterable[Sequence[bytes]], folder: Path, head: bytes, limit: int | None, target: Path, bar: tqdm
) -> tuple[list[Path], int, int]:
    """Write one file, or numbered ones of `limit` lines; return them, and how many lines and bytes they hold."""
    paths: list[Path] = []
    lines = size = 0
    rest = filter(None, ordered)
    some = next(rest, [])
    while some or not paths:
        paths.append(folder / (f"{target.stem}-{len(paths):05d}{target.suffix}" if limit else target.name))
        with paths[-1].open("wb") as file:
            file.write(head)
            room = limit or sys.maxsize
            while some and room:
                piece, some = some[:room], some[room:]
                body = b"".join(piece)
                file.write(body)
                bar.update(len(body))
                lines, size, room = lines + len(piece), size + len(body), room - len(piece)
                some = some or next(rest, [])
            file.flush()
            os.fsync(file.fileno())  # only what is on the disk may take another's place
        if target.exists():
            shutil.copymode(target, paths[-1])
    return paths, lines, size


def _bytes(text: str) -> int:
    """Read a size such as 256M; K, M and G are powers of 1024."""
    power = "KMG".find(text[-1:].upper()) + 1
    return int(float(text[:-1] if power else text) * 1024**power)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; where the files cannot be shuffled, it says why, and no output exists."""
    parser = argparse.ArgumentParser(prog="shuffle", description="Shuffle lines of files larger than memory.")
    add = parser.add_argument
    add("sources", nargs="+", type=Path, metavar="IN", help="files, or pipes, that are shuffled together")
    add("-o", "--output", required=True, type=Path, metavar="OUT", help="may be one of IN")
    add("--memory", type=_bytes, default=256 << 20, help="such as 64M or 2G; default 256M")
    add("--seed", type=int, help="the same seed gives the same order, whatever the memory")
    add("--header", type=int, default=0, metavar="LINES", help="lines at the start of each IN that stay at the start")
    add("--lines", type=int, help="write numbered outputs OUT-00000, ... of so many lines")
    add("--temporary", type=Path, metavar="FOLDER", help="for buckets, as large as all IN; default: where OUT is")
    add("--bucket", type=_bytes, default=8 << 20, help="memory for lines sorted at once; default 8M, more is slower")
    given = parser.parse_args(arguments)
    for name in ("SIGTERM", "SIGHUP"):  # so that folders are removed; exit statuses as shells have them
        signal.signal(getattr(signal, name), lambda number, _: sys.exit(128 + number))
    try:
        done = shuffle_lines(
            given.sources, given.output, memory=given.memory, seed=given.seed, header=given.header,
            lines_per_file=given.lines, temporary=given.temporary, bucket=given.bucket, progress=sys.stderr.isatty(),
        )  # fmt: skip
    except (OSError, ValueError) as error:
        message = f"shuffle: {error}"
        raise SystemExit(message) from error
    print(f"{done.lines} lines, {done.bytes} bytes, {done.buckets} buckets, seed {done.seed}", file=sys.stderr)


if __name__ == "__main__":
    main()

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest

from replications.bounded_shuffle import shuffle
from replications.bounded_shuffle.merge import LAWS, merge_lines, merged_order
from replications.bounded_shuffle.shuffle import main, order_by_keys, shuffle_lines

ODD = b"\n".join([b"a\r", b"", b"\xff\xff", b"nul\0", b"\xc3", b"", b"\x85\x0b\x0c", b"y" * 300_000, b"no end"])
PLAIN = b"".join(b"%d\n" % i for i in range(5000))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(PLAIN)
    return path


def lines_of(path):
    return path.read_bytes().split(b"\n")[:-1]


def test_every_byte_is_content_but_the_newline_and_a_missing_last_one_is_added(tmp_path):
    (tmp_path / "in").write_bytes(ODD)
    done = shuffle_lines([tmp_path / "in"], tmp_path / "out", seed=3)
    assert sorted(lines_of(tmp_path / "out")) == sorted(ODD.split(b"\n"))
    assert (done.lines, done.bytes, done.seed) == (9, len(ODD) + 1, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_an_empty_file_stays_empty_and_a_drawn_seed_gives_the_order_again(source, tmp_path):
    (tmp_path / "empty").touch()
    assert shuffle_lines([tmp_path / "empty"], tmp_path / "out").lines == (tmp_path / "out").stat().st_size == 0
    seed = shuffle_lines([source], tmp_path / "out").seed
    shuffle_lines([source], tmp_path / "again", seed=seed, memory=8 << 20, bucket=1 << 12)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "out").read_bytes() != PLAIN


def test_several_sources_share_one_header_and_numbered_outputs_have_it(source, tmp_path):
    for name, rest in (("a.txt", b"1\n2"), ("b.txt", b"3\n"), ("c.txt", b"")):
        (tmp_path / name).write_bytes(b"head\n" + rest)
    sources = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    shuffle_lines(sources, tmp_path / "out.txt", header=1, lines_per_file=2)
    first, second = (lines_of(tmp_path / f"out-0000{i}.txt") for i in (0, 1))
    assert (first[0], second[0], len(first)) == (b"head", b"head", 3)
    assert sorted(first[1:] + second[1:]) == [b"1", b"2", b"3"]
    with pytest.raises(FileExistsError, match="numbered"):
        shuffle_lines(sources, tmp_path / "out.txt", header=1, lines_per_file=5)
    with pytest.raises(ValueError, match="headers"):
        shuffle_lines([*sources, source], tmp_path / "out.txt", header=1)


def test_in_place_a_link_stays_a_link_and_the_mode_stays(source, tmp_path):
    source.chmod(0o640)
    (tmp_path / "link").symlink_to(source)
    shuffle_lines([tmp_path / "link"], tmp_path / "link", seed=1)
    assert (tmp_path / "link").is_symlink()
    assert source.stat().st_mode & 0o777 == 0o640
    assert sorted(lines_of(source)) == sorted(PLAIN.split(b"\n")[:-1])


def test_a_pipe_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(PLAIN,))
    writer.start()
    assert shuffle_lines([tmp_path / "pipe"], tmp_path / "out", header=1).lines == 4999
    writer.join()
    assert lines_of(tmp_path / "out")[0] == b"0"


# Dies when the output is complete: before it is on the disk, and before it takes the source's place.
DIES = """if True:
    import os, sys
    from replications.bounded_shuffle import shuffle
    def die(*_):
        os.kill(os.getpid(), {signal})
    os.{call} = die
    shuffle.main(sys.argv[1:])"""


@pytest.mark.parametrize(
    ("call", "how"),
    [
        pytest.param("fsync", signal.SIGKILL, marks=pytest.mark.soak),
        ("replace", signal.SIGKILL),
        ("replace", signal.SIGTERM),
    ],
)
def test_a_process_that_is_killed_leaves_its_source_as_it_was(source, tmp_path, call, how):
    program = DIES.format(call=call, signal=int(how))
    done = subprocess.run([sys.executable, "-c", program, str(source), "-o", str(source)], check=False)
    assert done.returncode == (-how if how == signal.SIGKILL else 128 + how)
    assert source.read_bytes() == PLAIN
    left = [path.name[:9] for path in tmp_path.iterdir() if path != source]
    assert left == ([".shuffle-"] * 2 if how == signal.SIGKILL else [])


@pytest.mark.parametrize("room", [10_000, 20_000])  # in a bucket, and in the output that has no keys beside its lines
def test_a_write_that_fails_leaves_the_source_as_it_was_and_nothing_else(source, tmp_path, room):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    options = {"memory": 8 << 20, "bucket": 1 << 20 if room == 10_000 else 1 << 16}
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            shuffle_lines([source], source, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert source.read_bytes() == PLAIN


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounts a file system")
def test_a_disk_that_fills_up_in_the_middle_leaves_the_source_as_it_was(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "none", str(tmp_path)], check=True)
    try:
        (tmp_path / "in").write_bytes(PLAIN * 60)
        before = (tmp_path / "in").read_bytes()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shuffle, "_require_space", lambda *_: None)
            with pytest.raises(OSError, match="No space"):
                shuffle_lines([tmp_path / "in"], tmp_path / "in")
        with pytest.raises(OSError, match="needed"):
            shuffle_lines([tmp_path / "in"], tmp_path / "in")
        assert [path.name for path in tmp_path.iterdir()] == ["in"]
        assert (tmp_path / "in").read_bytes() == before
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--memory", "4M"], "memory is 4194304; it must be at least 8388608"), (["--header", "-1"], "header is -1"),
        (["--lines", "0"], "lines_per_file is 0"), (["--seed", "-1"], "seed is -1"), (["missing"], "No such file"),
        (["-o", "."], "no regular file"), (["-o", "no/out"], "No such file"), (["."], "Is a directory"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_a_byte_is_written(source, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=told):
        main(["-o", "out", "in", *options])
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_too_little_room_is_refused_before_a_byte_is_written(source, tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 50_000))
    with pytest.raises(OSError, match="bytes are needed"):
        shuffle_lines([source], tmp_path / "out")


def test_tied_keys_come_in_every_order_alike():
    keys, ties = np.array([1, 0, 1, 1], np.uint64), np.random.default_rng(0)
    count = Counter(tuple(order_by_keys(keys, ties)) for _ in range(6000))
    assert {order[0] for order in count} == {1}
    assert len(count) == 6
    assert all(abs(number - 1000) < 150 for number in count.values())
    assert order_by_keys(keys[:0], ties).tolist() == []


@pytest.mark.parametrize("law", LAWS)
def test_a_merge_loses_no_line_and_is_the_order_that_is_studied(source, tmp_path, law):
    merge_lines(source, tmp_path / "out", lines=1200, seed=1, law=law)
    assert sorted(lines_of(tmp_path / "out")) == sorted(PLAIN.split(b"\n")[:-1])
    sizes, rng = [1200] * 4 + [200], np.random.default_rng(2)
    labels = list(LAWS[law](sizes, rng))
    assert sorted(merged_order(labels, sizes, rng)) == list(range(5000))
    first_round = np.concatenate(labels)[:5]
    assert (sorted(first_round) == [0, 1, 2, 3, 4]) == (law == "rounds")

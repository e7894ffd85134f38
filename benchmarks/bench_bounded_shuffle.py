"""CPU time of the shuffle over that of the post's scheme, of GNU shuf, and of sorting all at once: whole commands.

The shuffle is the tool by its defaults: it sorts 8 MiB at a time. With the 32 MiB of the claims' readings, which leave
the processor's cache, the second ratio was above its bound and the third near it.
"""

import shutil

import pytest

from benchmarks.measuring import median_ratio
from paperkit.config import read_profile
from paperkit.runs import Run
from replications.bounded_shuffle import timing

ROUNDS = 5
MAX_RATIO = {"post": 1.1, "shuf": 2.5}
MIN_RATIO_OF_ONE_BUCKET = 1.3


@pytest.fixture(scope="module")
def times():
    settings = read_profile(timing.Config, timing.Path("replications/bounded_shuffle/timing.yaml"), "cpu")
    timing.FOLDER.mkdir(parents=True, exist_ok=True)
    timing.write_file(timing.FOLDER / "long_lines", settings.lines, None)
    arms = ("bucket_8", "post", "shuf", "one_bucket")
    commands = {arm: timing.command_of(Run("long_lines", arm, 0, {"chunk": settings.chunk})) for arm in arms}
    rounds = [{arm: timing.watched(commands[arm])["cpu_s"] for arm in arms} for _ in range(ROUNDS)]
    shutil.rmtree(timing.FOLDER)
    return {arm: [each[arm] for each in rounds] for arm in arms}


@pytest.mark.parametrize("peer", MAX_RATIO)
def test_cpu_time_over_that_of_a_peer(times, peer):
    ratio = median_ratio(times["bucket_8"], times[peer])
    print(f"shuffle over {peer}: {ratio:.2f}; at most {MAX_RATIO[peer]}")
    assert ratio <= MAX_RATIO[peer]


def test_sorting_all_at_once_is_slower(times):
    ratio = median_ratio(times["one_bucket"], times["bucket_8"])
    print(f"all at once over 8 MiB: {ratio:.2f}; at least {MIN_RATIO_OF_ONE_BUCKET}")
    assert ratio >= MIN_RATIO_OF_ONE_BUCKET

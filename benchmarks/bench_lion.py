"""Time of one optimizer step on 10 million float32 parameters, one thread: Lion against its peers."""

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from lion_pytorch import Lion as LionPytorch

from replications.lion.optimizer import Lion

BLOCKS, WIDTH, VOCABULARY, CONTEXT = 12, 240, 5120, 512
GPT_BLOCK_SHAPES = [
    (WIDTH,),  # layer norm 1, gain and bias
    (WIDTH,),
    (3 * WIDTH, WIDTH),  # queries, keys, values
    (3 * WIDTH,),
    (WIDTH, WIDTH),  # attention output
    (WIDTH,),
    (WIDTH,),  # layer norm 2, gain and bias
    (WIDTH,),
    (4 * WIDTH, WIDTH),  # feed-forward
    (4 * WIDTH,),
    (WIDTH, 4 * WIDTH),
    (WIDTH,),
]
GPT_SHAPES = [(VOCABULARY, WIDTH), (CONTEXT, WIDTH), *BLOCKS * GPT_BLOCK_SHAPES]
SHAPES = {"lion-flat": [(10_000_000,)], "lion-146": GPT_SHAPES}

STEPS: dict[str, Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]] = {
    "AdamW fused": lambda params: torch.optim.AdamW(params, lr=1e-4, weight_decay=0.1, fused=True),
    "lion-pytorch": lambda params: LionPytorch(params, lr=1e-4, weight_decay=0.1),
    "Lion fused": lambda params: Lion(params, weight_decay=0.1, fused=True),
    "Lion for-loop": lambda params: Lion(params, weight_decay=0.1, foreach=False, fused=False),
    "Lion foreach": lambda params: Lion(params, weight_decay=0.1, foreach=True),
}
ROUNDS = 40
# Memory traffic bounds the time: at least 20 bytes a parameter for Lion (read theta, g, m; write theta, m), 28 for
# AdamW, hence 0.71 at best at equal bandwidth.
MAX_SHARE_OF_ADAMW = 0.75
MAX_SHARE_OF_LION_PYTORCH = 1 / 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_step(name: str, shapes: list[tuple[int, ...]]) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    step = STEPS[name](params).step
    step()  # makes the state and compiles the kernel
    return step


def interleaved_times_s(steps: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return times


def median_ratio(times: list[float], peer_times: list[float]) -> float:
    """Median over rounds of the ratio within a round, in which a burst of other load hits both alike."""
    return statistics.median(time / peer for time, peer in zip(times, peer_times, strict=True))


def test_the_small_gpt_has_146_tensors_and_ten_million_parameters() -> None:
    assert len(GPT_SHAPES) == 146
    assert sum(torch.Size(shape).numel() for shape in GPT_SHAPES) == pytest.approx(10e6, rel=0.05)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("group", SHAPES)
def test_time_of_one_step(benchmark, group: str, name: str) -> None:
    benchmark.group = group
    benchmark.pedantic(make_step(name, SHAPES[group]), rounds=ROUNDS, warmup_rounds=2)


@pytest.mark.parametrize("group", SHAPES)
def test_fused_lion_meets_its_ratio_to_adamw_and_to_lion_pytorch(group: str) -> None:
    names = ["AdamW fused", "Lion fused", "lion-pytorch"]
    times = interleaved_times_s({name: make_step(name, SHAPES[group]) for name in names})
    ratios = {name: median_ratio(times["Lion fused"], times[name]) for name in ("AdamW fused", "lion-pytorch")}
    medians_ms = {name: round(1e3 * statistics.median(values), 2) for name, values in times.items()}
    print(f"{group}: time of a fused Lion step relative to {ratios}; medians in ms {medians_ms}")
    assert ratios["AdamW fused"] <= MAX_SHARE_OF_ADAMW
    assert ratios["lion-pytorch"] <= MAX_SHARE_OF_LION_PYTORCH

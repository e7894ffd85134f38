"""Time of one optimizer step on 10 million float32 parameters, one thread, and of 100 million on a GPU."""

import statistics
from collections.abc import Callable

import pytest
import torch
from lion_pytorch import Lion as LionPytorch

from benchmarks.measuring import median_ratio, times_s
from replications.lion.optimizer import Lion


def gpt_shapes(vocabulary: int, context: int, width: int) -> list[tuple[int, ...]]:
    """The tensors of a GPT of 12 blocks, without the last layer norm."""
    block = [
        (width,),  # layer norm 1, gain and bias
        (width,),
        (3 * width, width),  # queries, keys, values
        (3 * width,),
        (width, width),  # attention output
        (width,),
        (width,),  # layer norm 2, gain and bias
        (width,),
        (4 * width, width),  # feed-forward
        (4 * width,),
        (width, 4 * width),
        (width,),
    ]
    return [(vocabulary, width), (context, width), *12 * block]


SMALL_GPT = gpt_shapes(vocabulary=5120, context=512, width=240)
GPT2_SMALL = [*gpt_shapes(vocabulary=50257, context=1024, width=768), (768,), (768,)]
SHAPES = {"lion-flat": [(10_000_000,)], "lion-146": SMALL_GPT}

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

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
GPU_SHAPES = {"flat": [(100_000_000,)], "gpt2-148": GPT2_SMALL}
MAX_SHARE_OF_ADAMW_ON_A_GPU = {"flat": 0.65, "gpt2-148": 0.85}
GPU_STEPS = 20  # in a row, as in training, where the host does not wait for the device


def make_step(name: str, shapes: list[tuple[int, ...]], device: str = "cpu") -> Callable[[], object]:
    generator = torch.Generator(device).manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator, device=device)) for shape in shapes]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator, device=device)
    step = STEPS[name](params).step
    step()  # makes the state and compiles the kernel
    return step


@pytest.mark.parametrize("group", SHAPES)
def test_fused_lion_meets_its_ratio_to_adamw_and_to_lion_pytorch(group: str) -> None:
    times = times_s({name: make_step(name, SHAPES[group]) for name in STEPS}, ROUNDS)
    ratios = {name: median_ratio(times["Lion fused"], times[name]) for name in ("AdamW fused", "lion-pytorch")}
    medians_ms = {name: round(1e3 * statistics.median(values), 2) for name, values in times.items()}
    print(f"{group}: time of a fused Lion step relative to {ratios}; medians in ms {medians_ms}")
    assert ratios["AdamW fused"] <= MAX_SHARE_OF_ADAMW
    assert ratios["lion-pytorch"] <= MAX_SHARE_OF_LION_PYTORCH


def make_queued_steps(name: str, shapes: list[tuple[int, ...]]) -> Callable[[], object]:
    step = make_step(name, shapes, device="cuda")

    def steps() -> None:
        for _ in range(GPU_STEPS):
            step()
        torch.cuda.synchronize()

    steps()
    return steps


@on_a_gpu
@pytest.mark.parametrize("group", GPU_SHAPES)
def test_lion_on_a_gpu_meets_its_ratio_to_fused_adamw(group: str) -> None:
    names = ["AdamW fused", "Lion fused", "Lion foreach", "lion-pytorch"]
    times = times_s({name: make_queued_steps(name, GPU_SHAPES[group]) for name in names}, ROUNDS)
    medians_ms = {name: round(1e3 * statistics.median(values) / GPU_STEPS, 3) for name, values in times.items()}
    ratio = median_ratio(times["Lion fused"], times["AdamW fused"])
    print(f"{group}: a fused Lion step takes {ratio:.2f} times that of AdamW; medians in ms {medians_ms}")
    assert ratio <= MAX_SHARE_OF_ADAMW_ON_A_GPU[group]


@on_a_gpu
def test_a_step_on_a_gpu_needs_no_memory_beyond_the_momentum() -> None:
    param = torch.nn.Parameter(torch.zeros(100_000_000, device="cuda"))
    param.grad = torch.ones_like(param)
    optimizer = Lion([param], fused=True)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    optimizer.step()
    assert torch.cuda.max_memory_allocated() - before <= 1.001 * param.nbytes

"""Time and memory of the EMO losses over those of cross-entropy and the original's package, forward and backward."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from emo import EMOLoss
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.measuring import median_ratio, peak_bytes, times_s
from replications.emo.loss import UnitEmbedding, earth_mover_loss, emo_mle_loss, emo_weighted_loss, energy_loss

POSITIONS, VOCABULARY, WIDTH = 512, 32_000, 768
ROUNDS = 9
LOSSES = {
    "pure": earth_mover_loss,
    "mode 1": partial(emo_mle_loss, max_weight=3.0),  # the package's bound
    "mode 2": emo_weighted_loss,
    "energy": energy_loss,
}
# The earth mover's distance takes one product beside cross-entropy, the energy two.
MAX_OVER_CROSS_ENTROPY = {"pure": 4.0, "mode 1": 4.0, "mode 2": 4.0, "energy": 6.0}
MAX_OVER_CROSS_ENTROPY_WITH_THE_HEAD = {"pure": 1.5, "mode 1": 1.5, "mode 2": 1.5}
MAX_SHARE_OF_THE_PACKAGE = 1 / 2.5
MAX_SHARE_OF_THE_PACKAGES_MEMORY = 0.6

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
GPU_POSITIONS, GPU_VOCABULARY, GPU_WIDTH = 4096, 49_152, 576
GPU_STEPS = 10  # in a row, as in training
MAX_OVER_COMPILED_CROSS_ENTROPY = 2.5
MAX_BYTES_BEYOND_THE_LOGITS = 1e9

Step = Callable[[], object]


@pytest.fixture(autouse=True, scope="module")
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def steps() -> dict[str, Step]:
    """Give a forward and backward pass of each loss, from the logits and from the hidden states of the LM head."""
    torch.manual_seed(0)
    embedding, hidden = torch.randn(VOCABULARY, WIDTH), torch.randn(POSITIONS, WIDTH, requires_grad=True)
    head = (WIDTH**-0.5 * torch.randn(VOCABULARY, WIDTH)).requires_grad_()
    # The package shifts: it drops the last position's logits and the first label. Ours get the same numbers.
    sequence = torch.randn(1, POSITIONS + 1, VOCABULARY, requires_grad=True)
    logits, labels = sequence.detach()[0, :-1].clone().requires_grad_(), torch.randint(VOCABULARY, (1, POSITIONS + 1))
    targets, cost = labels[0, 1:], UnitEmbedding(embedding)

    def of_logits(loss: Callable[[Tensor], Tensor]) -> Step:
        return lambda: torch.autograd.grad(loss(logits), logits)

    def with_head(loss: Callable[[Tensor], Tensor]) -> Step:
        return lambda: torch.autograd.grad(loss(hidden @ head.T), (hidden, head))

    def packaged(mode: int) -> Step:
        return lambda: torch.autograd.grad(EMOLoss(sequence, labels, embedding, mode=mode), sequence)

    losses = {name: partial(loss, targets=targets, cost=cost) for name, loss in LOSSES.items()}
    losses |= {"cross-entropy": partial(cross_entropy, target=targets)}
    return (
        {name: of_logits(loss) for name, loss in losses.items()}
        | {f"{name} with head": with_head(loss) for name, loss in losses.items()}
        | {f"package {mode}": packaged(mode) for mode in (1, 2)}
    )


def warm_times_s(functions: dict[str, Step]) -> dict[str, list[float]]:
    for function in functions.values():
        function()
    return times_s(functions, ROUNDS)


@pytest.fixture(scope="module")
def times() -> dict[str, list[float]]:
    taken = warm_times_s(steps())
    print({name: f"{1e3 * statistics.median(values):.0f} ms" for name, values in taken.items()})
    return taken


def ratio(times: dict[str, list[float]], name: str, peer: str) -> float:
    found = median_ratio(times[name], times[peer])
    print(f"time of {name} over that of {peer}: {found:.2f}")
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_time_over_that_of_cross_entropy(times: dict[str, list[float]], name: str) -> None:
    assert ratio(times, name, "cross-entropy") <= MAX_OVER_CROSS_ENTROPY[name]


@pytest.mark.parametrize("name", MAX_OVER_CROSS_ENTROPY_WITH_THE_HEAD)
def test_time_with_the_products_of_the_head(times: dict[str, list[float]], name: str) -> None:
    found = ratio(times, f"{name} with head", "cross-entropy with head")
    assert found <= MAX_OVER_CROSS_ENTROPY_WITH_THE_HEAD[name]


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("name", ["pure", "mode 1", "mode 2"])
def test_time_over_that_of_the_package(times: dict[str, list[float]], name: str, mode: int) -> None:
    assert ratio(times, name, f"package {mode}") <= MAX_SHARE_OF_THE_PACKAGE


def test_peak_memory_over_that_of_the_package() -> None:
    functions = steps()
    bytes_of = {name: peak_bytes(functions[name]) for name in (*LOSSES, "cross-entropy", "package 1", "package 2")}
    print({name: f"{held / 2**20:.0f} MiB" for name, held in bytes_of.items()})
    least = min(bytes_of["package 1"], bytes_of["package 2"])
    assert max(bytes_of[name] for name in LOSSES) <= MAX_SHARE_OF_THE_PACKAGES_MEMORY * least


def gpu_steps() -> tuple[dict[str, Step], Tensor]:
    """Give ten passes in a row of each loss from bfloat16 logits, with the product in bfloat16, and the logits."""
    generator = torch.Generator("cuda").manual_seed(0)
    make = partial(torch.randn, generator=generator, device="cuda")
    logits = make(GPU_POSITIONS, GPU_VOCABULARY, dtype=torch.bfloat16).requires_grad_()
    targets = torch.randint(GPU_VOCABULARY, (GPU_POSITIONS,), generator=generator, device="cuda")
    cost = UnitEmbedding(make(GPU_VOCABULARY, GPU_WIDTH), torch.bfloat16)
    losses = {name: partial(loss, targets=targets, cost=cost) for name, loss in LOSSES.items()}
    losses |= {"compiled cross-entropy": torch.compile(lambda z: cross_entropy(z.float(), targets))}

    def in_a_row(loss: Callable[[Tensor], Tensor]) -> Step:
        def step() -> None:
            for _ in range(GPU_STEPS):
                torch.autograd.grad(loss(logits), logits)
            torch.cuda.synchronize()

        return step

    return {name: in_a_row(loss) for name, loss in losses.items()}, logits


@on_a_gpu
def test_time_and_memory_on_a_gpu() -> None:
    functions, logits = gpu_steps()
    times = warm_times_s(functions)
    print({name: f"{1e3 * statistics.median(values) / GPU_STEPS:.2f} ms" for name, values in times.items()})
    beyond = {}
    for name in LOSSES:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        functions[name]()
        beyond[name] = torch.cuda.max_memory_allocated() - before
    print(f"bytes beyond logits of {logits.nbytes}: {beyond}")
    assert max(beyond.values()) <= MAX_BYTES_BEYOND_THE_LOGITS
    for name in ("pure", "mode 1", "mode 2"):
        assert ratio(times, name, "compiled cross-entropy") <= MAX_OVER_COMPILED_CROSS_ENTROPY

"""Time and memory of a training step with LoRA as an optimizer, beside full fine-tuning, peft and GaLore."""

import copy
import statistics
import time
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measuring import median_ratio, peak_bytes, times_s
from paperkit.models.tiny_gpt import TinyGPT
from replications.lora_optimizer.optimizer import LoRAOptimizer, linear_weights
from replications.lora_optimizer.variants import GaLore

WIDTH, LAYERS, VOCABULARY, BATCH, CONTEXT, RANK = 256, 2, 512, 16, 64, 8
ROUNDS = 20
MAX_OVER_FULL = 1.05
MAX_NOISE = 0.01  # of full fine-tuning against itself
LAYER_NAMES = ["attention_input", "attention_output", "mlp_input", "mlp_output"]
GPU_TOKENS, GPU_STEPS = (8, 1024), 5
GPU_LAYER_NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

Step = Callable[[], object]
Arm = tuple[Step, nn.Module, torch.optim.Optimizer]


def ours(weights: list, **options) -> LoRAOptimizer:
    return LoRAOptimizer(weights, torch.optim.AdamW, r=RANK, lr=1e-4, fused=True, **options)


def adamw(weights: list) -> torch.optim.Optimizer:
    return torch.optim.AdamW(weights, lr=1e-4, fused=True)


# Each trains the same matrices; "peft" has factors within the network.
ARMS: dict[str, Callable[[list], torch.optim.Optimizer]] = {
    "full": adamw,
    "full again": adamw,
    "ours": ours,
    "ours incremental": lambda weights: ours(weights, incremental=True),
    "ours released": lambda weights: ours(weights, release_gradients=True),
    "peft": adamw,
    "GaLore": lambda weights: GaLore(weights, lr=1e-4, r=RANK),
}


def matrices(model: nn.Module, layer_names: list[str]) -> list[tuple[str, nn.Parameter]]:
    """Freeze all but the weights of these layers."""
    chosen = [(name, weight) for name, weight in linear_weights(model) if name.split(".")[-2] in layer_names]
    model.requires_grad_(False)
    for _, weight in chosen:
        weight.requires_grad_(True)
    return chosen


def make_arm(name: str, model: nn.Module, layer_names: list[str], loss: Callable[[nn.Module], Tensor]) -> Arm:
    weights = matrices(model, layer_names)
    if name == "peft":
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layer_names))
        weights = [(key, param) for key, param in model.named_parameters() if param.requires_grad]
    optimizer = ARMS[name](weights)

    def step() -> None:
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()

    step()  # makes the state
    return step, model, optimizer


def small_arm(name: str) -> Arm:
    torch.manual_seed(0)
    model = TinyGPT(vocabulary=VOCABULARY, width=WIDTH, layers=LAYERS, heads=4, context=CONTEXT)
    tokens = torch.randint(VOCABULARY, (BATCH, CONTEXT + 1))
    return make_arm(
        name, model, LAYER_NAMES, lambda net: cross_entropy(net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    )


def held_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of state, with that of the base; factors and W0 are state."""
    base = optimizer.base.state.values() if isinstance(optimizer, LoRAOptimizer) else ()
    tensors = [value for state in (*optimizer.state.values(), *base) for value in state.values()]
    return sum(value.nbytes for value in tensors if isinstance(value, Tensor))


def test_time_of_a_training_step_over_that_of_full_fine_tuning() -> None:
    times, ratios = times_s({name: small_arm(name)[0] for name in ARMS}, ROUNDS), {}
    for name, of_arm in times.items():
        ratios[name] = median_ratio(of_arm, times["full"])
        print(f"{name}: {ratios[name]:.3f} times full fine-tuning; median {1e3 * statistics.median(of_arm):.1f} ms")
    if abs(ratios["full again"] - 1) > MAX_NOISE:
        pytest.skip(f"void: full fine-tuning takes {ratios['full again']:.3f} times as long as itself")
    assert ratios["ours"] <= MAX_OVER_FULL


def test_memory_beside_full_fine_tuning_peft_and_galore() -> None:
    for name in ARMS:
        step, _, optimizer = small_arm(name)
        optimizer.zero_grad()
        print(f"{name}: state {held_bytes(optimizer) / 1e6:.2f} MB, peak of a step {peak_bytes(step) / 1e6:.1f} MB")


@on_a_gpu
def test_time_and_memory_at_135_million_parameters_on_a_gpu() -> None:
    # The shape of SmolLM2-135M; neither time nor memory asks for its weights.
    config = LlamaConfig(
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        vocab_size=49152,
        tie_word_embeddings=True,
    )
    start = LlamaForCausalLM(config).to(torch.bfloat16)
    tokens = torch.randint(config.vocab_size, GPU_TOKENS, device="cuda")
    peaks = {}
    for name in ARMS:
        model = copy.deepcopy(start).cuda()
        step, _, _ = make_arm(name, model, GPU_LAYER_NAMES, lambda net: net(input_ids=tokens, labels=tokens).loss)
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(GPU_STEPS):
            step()
        torch.cuda.synchronize()
        taken_ms = 1e3 * (time.perf_counter() - begin) / GPU_STEPS
        peaks[name] = torch.cuda.max_memory_allocated()
        print(f"{name}: {taken_ms:.0f} ms a step, peak {peaks[name] / 1e9:.2f} GB")
        del step, model
    assert peaks["ours"] < peaks["full"]

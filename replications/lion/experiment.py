"""Lion against AdamW: the identities of the derivation, and a small language model tuned with equal budgets.

C6 is judged on the test loss of a tiny GPT over State of the Union speeches. Both optimizers share model,
initialisation, batches, schedule, clipping and decay mask; each gets the same number of trials from the same
box of learning rate and weight decay, and two candidate pairs of betas.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from tokenizers import ByteLevelBPETokenizer
from torch.nn import functional

from paperkit.config import StrictModel
from paperkit.datasets import read_table
from paperkit.models.tiny_gpt import TinyGPT
from paperkit.runs import Measurement, Run, Runner
from paperkit.stage import Tables, main
from paperkit.training import matrices_only_decay, train, warmup_cosine
from paperkit.tuning import LogRange, draw_trials, ledger, select
from replications.lion.derivation import CHECKS
from replications.lion.optimizer import Lion

Arm = Literal["adamw", "lion"]
ARMS: tuple[Arm, ...] = ("adamw", "lion")
Split = Literal["train", "validation", "test"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class LanguageModel(StrictModel):
    """The task: model, text windows, horizon. The same for both arms.

    Attributes:
        vocabulary: Size of the byte-level BPE, trained on the training speeches.
        width: Model width.
        layers: Transformer blocks.
        heads: Attention heads.
        context: Tokens a window.
        batch: Windows a step.
        steps: Optimizer steps.
        warmup_steps: Steps of the linear rise; half a cosine follows.
        max_gradient_norm: Clipping threshold, in the L2 norm of all gradients.
        evaluation_windows: Windows, evenly spaced over a split, in a final evaluation.
        curve_windows: Windows in each evaluation of the learning curve.
        curve_points: Evaluations along a run.
    """

    vocabulary: int = Field(ge=257, le=65_535)
    width: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    context: int = Field(ge=1)
    batch: int = Field(ge=1)
    steps: int = Field(ge=2)
    warmup_steps: int = Field(ge=0)
    max_gradient_norm: float = Field(gt=0)
    evaluation_windows: int = Field(ge=1)
    curve_windows: int = Field(ge=1)
    curve_points: int = Field(ge=1, le=50)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.width % self.heads:
            message = f"width {self.width} must be a multiple of heads {self.heads}"
            raise ValueError(message)
        if self.warmup_steps > self.steps - 2:
            message = f"warmup_steps {self.warmup_steps} must be at most steps - 2 = {self.steps - 2}"
            raise ValueError(message)
        if self.curve_points > self.steps:
            message = f"curve_points {self.curve_points} must be at most steps = {self.steps}"
            raise ValueError(message)
        return self


class Search(StrictModel):
    """The declared space and budget; the same for both arms but for the two candidate pairs of betas.

    Attributes:
        num_trials: Trials of each arm.
        draw_seed: Seed of the Sobol sequence.
        run_seed: Seed of initialisation and data order in all trials; not among the reported seeds.
        lr: Range of the peak learning rate.
        weight_decay: Range of the decay coefficient λ (the step shrinks matrices by 1 - lr·λ).
        betas: Candidate pairs of each arm.
    """

    num_trials: int = Field(ge=1)
    draw_seed: int = Field(ge=0)
    run_seed: int = Field(ge=0)
    lr: LogRange
    weight_decay: LogRange
    betas: Mapping[Arm, list[Annotated[list[Beta], Field(min_length=2, max_length=2)]]]

    @model_validator(mode="after")
    def _fair(self) -> Self:
        if self.num_trials & (self.num_trials - 1):
            message = f"num_trials {self.num_trials} must be a power of two (1, 2, 4, 8, 16 …)"
            raise ValueError(message)
        candidates = {arm: len(self.betas.get(arm, [])) for arm in ARMS}
        if 0 in candidates.values() or len(set(candidates.values())) > 1:
            message = f"betas gives {candidates} candidate pairs; each of {ARMS} needs the same number, at least one"
            raise ValueError(message)
        return self

    def space(self, arm: Arm) -> dict[str, Any]:
        """Return what `draw_trials` searches for one arm.

        Args:
            arm: "adamw" or "lion".

        Returns:
            A range or list of choices for each hyper-parameter.
        """
        return {"lr": self.lr, "weight_decay": self.weight_decay, "betas": self.betas[arm]}


class Config(StrictModel):
    """One profile of params.yaml.

    Attributes:
        language_model: The task of C6.
        search: How both arms are tuned.
        seeds: Fresh seeds of the report, one pair of runs each.
    """

    language_model: LanguageModel
    search: Search
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _fresh_seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds) or self.search.run_seed in self.seeds:
            message = f"seeds {self.seeds} must differ from each other and from search.run_seed {self.search.run_seed}"
            raise ValueError(message)
        return self


def run(config: Config, runner: Runner) -> Tables:
    """Tune both arms, re-run the selected points on fresh seeds, and check the identities.

    Args:
        config: One profile.
        runner: Executes runs in worker processes.

    Returns:
        Measurements and the ledger of the search.
    """
    selected, trials = tune(config, runner)
    pairs = [Run("lm_quality", arm, seed, selected[arm]) for seed in config.seeds for arm in ARMS]
    report = runner(measure_language_model, pairs)
    # Last: loky takes a worker that has grown since its first runs, here by the corpus, for one that leaks.
    identities = runner(measure_identity, [Run("identities", name, 0, {}) for name in CHECKS])
    return Tables(runs=[*chain.from_iterable(identities), *chain.from_iterable(report)], trials=trials)


def tune(config: Config, runner: Runner) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Search both arms with the same budget; the validation loss at the reported horizon selects.

    Args:
        config: One profile.
        runner: Executes runs in worker processes.

    Returns:
        The selected configuration of each arm, and the rows of the ledger.
    """
    search, task = config.search, config.language_model.model_dump()
    points = {arm: draw_trials(search.space(arm), num_trials=search.num_trials, seed=search.draw_seed) for arm in ARMS}
    grid = [Run("lm_search", arm, search.run_seed, {**task, **point}) for arm in ARMS for point in points[arm]]
    losses = map(_final_validation_loss, runner(measure_language_model, grid))
    outcomes = {arm: [(point, next(losses)) for point in points[arm]] for arm in ARMS}
    rows = ledger(
        profile=runner.profile,
        experiment="lm_quality",
        metric="loss_nats",
        seed=search.run_seed,
        space={"lr": search.lr, "weight_decay": search.weight_decay},
        trials=outcomes,
    )
    selected = {arm: {**task, **points[arm][select([loss for _, loss in outcomes[arm]])]} for arm in ARMS}
    return selected, rows


def measure_identity(run: Run) -> Iterator[Measurement]:
    """Execute one check of the derivation, and its negative control.

    Args:
        run: Its arm names the check.

    Yields:
        The check's error, and the error of the deliberately wrong variant.
    """
    check = CHECKS[run.arm]()
    yield Measurement("none", 0, "max_error", check.max_error)
    yield Measurement("none", 0, "control_error", check.control_error)


def measure_language_model(run: Run) -> Iterator[Measurement]:
    """Train a tiny GPT from scratch and measure its loss per token.

    Args:
        run: Arm, seed, and the task with its hyper-parameters.

    Yields:
        The validation loss along the run, and validation and test loss at its end, in nats a token.
    """
    task = LanguageModel(**{name: run.config[name] for name in LanguageModel.model_fields})
    initialisation, order = np.random.SeedSequence(run.seed).generate_state(2)
    torch.manual_seed(int(initialisation))
    model = TinyGPT(
        vocabulary=task.vocabulary, width=task.width, layers=task.layers, heads=task.heads, context=task.context
    )  # fmt: skip
    optimizer = make_optimizer(run.arm, model, run.config)
    steps = train(
        model, batches(token_stream("train", task.vocabulary), task, int(order)), next_token_loss, optimizer,
        schedule=warmup_cosine(optimizer, steps=task.steps, warmup_steps=task.warmup_steps),
        max_gradient_norm=task.max_gradient_norm,
    )  # fmt: skip
    curve = {round(task.steps * point / task.curve_points) for point in range(1, task.curve_points)}
    for step in steps:
        if not math.isfinite(step.loss):
            yield from (Measurement(split, task.steps, "loss_nats", math.nan) for split in ("validation", "test"))
            return
        if step.number in curve:
            loss = evaluate(model, task, "validation", task.curve_windows)
            yield Measurement("validation", step.number, "loss_nats", loss)
    for split in ("validation", "test"):
        yield Measurement(split, task.steps, "loss_nats", evaluate(model, task, split, task.evaluation_windows))


def make_optimizer(arm: str, model: torch.nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Make the optimizer of an arm; both decay matrices only.

    Args:
        arm: "adamw" or "lion".
        model: Its parameters are optimized.
        config: Holds lr, betas and weight_decay.

    Returns:
        A torch optimizer.
    """
    groups = matrices_only_decay(model, config["weight_decay"])
    first, second = config["betas"]
    if arm == "adamw":
        return torch.optim.AdamW(groups, lr=config["lr"], betas=(first, second), eps=1e-8, fused=True)
    return Lion(groups, lr=config["lr"], betas=(first, second))


def next_token_loss(logits_BTV: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy in nats a token.

    Args:
        logits_BTV: Unnormalised log-probabilities, shape (B, T, V).
        targets_BT: Next tokens, shape (B, T).

    Returns:
        Scalar.
    """
    return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


@functools.cache
def token_stream(split: Split, vocabulary: int) -> torch.Tensor:
    """Encode the speeches of a split, joined by one separator token (id 0).

    Args:
        split: Which speeches; the BPE is always trained on the training ones.
        vocabulary: Number of tokens.

    Returns:
        Token ids, shape (tokens,), int64.
    """
    tokenizer = _tokenizer(vocabulary)
    # One speech at a time: what the tokenizer notes beside the ids of a whole split takes most of a gigabyte.
    return torch.cat([torch.tensor([0, *tokenizer.encode(speech).ids]) for speech in _speeches(split)])


@functools.cache
def _tokenizer(vocabulary: int) -> ByteLevelBPETokenizer:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        _speeches("train"), vocab_size=vocabulary, special_tokens=["<|speech|>"], show_progress=False
    )
    return tokenizer


def _speeches(split: Split) -> list[str]:
    return list(read_table("sotu", columns=["text"], split=split)["text"])


def batches(stream: torch.Tensor, task: LanguageModel, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Draw windows uniformly with replacement; the same seed gives both arms the same windows.

    Args:
        stream: Token ids.
        task: Gives number of steps, windows a step, tokens a window.
        seed: Seed of the draws.

    Yields:
        Inputs and targets (one token later), each of shape (batch, context).
    """
    starts = np.random.default_rng(seed).integers(len(stream) - task.context, size=(task.steps, task.batch))
    for row in starts:
        yield _windows(stream, row, task.context)


@torch.no_grad()
def evaluate(model: torch.nn.Module, task: LanguageModel, split: Split, windows: int) -> float:
    """Return the loss over evenly spaced windows of a split, the same windows for every run.

    Args:
        model: Left in evaluation mode.
        task: Gives tokens a window and windows a batch.
        split: Which speeches.
        windows: Number of windows.

    Returns:
        Mean cross-entropy in nats a token.
    """
    model.eval()
    stream = token_stream(split, task.vocabulary)
    starts = np.linspace(0, len(stream) - task.context - 1, windows).astype(np.int64)
    total = 0.0
    for part in np.array_split(starts, math.ceil(windows / 64)):
        inputs, targets = _windows(stream, part, task.context)
        total += next_token_loss(model(inputs), targets).item() * len(part)
    return total / windows


def _windows(stream: torch.Tensor, starts: np.ndarray, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    index = torch.from_numpy(starts)[:, None] + torch.arange(context + 1)
    tokens = stream[index]
    return tokens[:, :-1], tokens[:, 1:]


def _final_validation_loss(rows: list[dict[str, Any]]) -> float:
    last = max((row for row in rows if row["split"] == "validation"), key=lambda row: row["step"])
    return math.nan if last["value"] is None else last["value"]


if __name__ == "__main__":
    main(Config, run, stage="lion", module="replications.lion.experiment", tables=["sotu"])

"""Synthetic synonyms (Tier A): a world of pairs whose truth is known, so that every distance to it is exact.

V tokens are classes times synonyms; x is uniform and P(y|x) = A[class of x, class of y] B[class of y, y]. A model with
log-bilinear probabilities sees `pairs` pairs; the first, a share `held_out_share`, are held out, and select: rate and
checkpoint by their cross-entropy ("raw"), or rate, checkpoint and temperature by their cross-entropy after it
("tempered").

The true cost is made from the classes: that a loss can use it is a positive control, not a claim about embeddings.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from scipy.interpolate import CubicSpline
from scipy.special import log_softmax
from torch import Tensor

from paperkit.config import StrictModel
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.tuning import LogRange, Search
from replications.emo.loss import UnitEmbedding
from replications.emo.studies.arms import objective

PRIMARY = ("mle", "emo", "mle_plus_4_energy", "emo_energy", "mle_plus_e", "mle_plus_d", "label_smoothing")
ARMS = (*PRIMARY, "emo_clamped", "emo_weighted", "emo_random")
EXPLORATORY = ("mixce", "total_variation")
LONG_ARMS = ("mle", "emo")  # also with a horizon times LONG and a rate divided by it
LONG = 4
SELECTIONS: Mapping[str, str] = {"raw": "loss_nats", "tempered": "tempered_loss_nats"}
METRICS = ("kl_nats", "reverse_kl_nats", "total_variation_share", "entropy_gap_nats")
# Inverse temperatures at which a loss is computed, 1 among them, and between which it is interpolated.
BETAS, FINE = np.arange(0.4, 1.81, 0.1).round(1), np.arange(0.4, 1.8001, 0.001).round(3)
AT_ONE = int(np.flatnonzero(FINE == 1)[0])
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
# Standard deviations: of log A and log B before their normalisation, and of the model's initial weights.
# Of ten times as large weights, as a prototype had, half of the gain at few pairs was that it undid them.
CLASS_LOGITS, SYNONYM_LOGITS, INITIAL = 1.5, 0.7, 0.01
# A run ends early at so many checkpoints, if it then is so many times as far as the later of the two selected ones.
LEAST_CHECKPOINTS, PATIENCE = 10, 2

Selection = Literal["raw", "tempered"]


class Setting(StrictModel):
    """World, model and training, but for what is varied."""

    classes: PositiveInt
    synonyms: PositiveInt  # in a class
    cost_width: PositiveInt
    width: PositiveInt  # of the model
    batch: PositiveInt
    steps: PositiveInt  # at most
    evaluate_every: PositiveInt  # steps between two checkpoints
    held_out_share: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _has_a_checkpoint(self) -> Self:
        if self.steps < self.evaluate_every:
            message = f"steps {self.steps} must be at least evaluate_every {self.evaluate_every}"
            raise ValueError(message)
        return self


class Task(Setting):
    """What one run trains."""

    pairs: int = Field(ge=2)  # N, held-out ones included
    cost_noise: NonNegativeFloat  # of the true cost: what is added to a token's class vector, times a normal number


class Synonyms(StrictModel):
    """The study; all arms choose their rate from one list, at every size anew."""

    task: Setting
    sizes: list[int] = Field(min_length=2)  # N
    cost_noise: NonNegativeFloat  # of all but the experiments on noise
    noises: list[NonNegativeFloat]  # others, of arm emo at the least size
    middle: int  # N of the exploratory arms and of the long horizon, one of `sizes`
    lr: LogRange
    num_trials: PositiveInt  # of each search, a power of two
    num_seeds: PositiveInt
    num_exploratory_seeds: PositiveInt  # of MixCE and total variation
    num_long_seeds: PositiveInt

    @model_validator(mode="after")
    def _middle_is_a_size(self) -> Self:
        if self.middle not in self.sizes:
            message = f"middle {self.middle} must be one of sizes {self.sizes}"
            raise ValueError(message)
        return self

    def searches(self) -> list[Search]:
        """List the searches, for each arm two: trials of both selections are the same runs, and are executed once."""
        grid = [(f"synonyms_{n}", arm, n, self.cost_noise) for n in self.sizes for arm in ARMS]
        grid += [(f"synonyms_{self.middle}", arm, self.middle, self.cost_noise) for arm in EXPLORATORY]
        grid += [(f"synonyms_noise_{noise:g}", "emo", min(self.sizes), noise) for noise in self.noises]
        return [
            Search(
                name, arm, {**self.task.model_dump(), "pairs": n, "cost_noise": noise}, {"lr": self.lr},
                self.num_trials, metric,
            )
            for name, arm, n, noise in grid
            for metric in SELECTIONS.values()
        ]  # fmt: skip

    def reports(self, points: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[Run]:
        """List the reported runs from the selected point of each search, heavy runs first."""
        usual, long = [], []
        for search, point in zip(self.searches(), points, strict=True):
            selection = next(name for name, metric in SELECTIONS.items() if metric == search.metric)
            config = {**search.task, **point, "selection": selection}
            suffix = "" if selection == "raw" else "_tempered"
            number = self.num_exploratory_seeds if search.arm in EXPLORATORY else self.num_seeds
            usual += [Run(search.experiment + suffix, search.arm, seed, config) for seed in seeds[:number]]
            if search.experiment == f"synonyms_{self.middle}" and search.arm in LONG_ARMS:
                longer = {name: config[name] * LONG for name in ("steps", "evaluate_every")}
                name, config = f"{search.experiment}_long{suffix}", {**config, **longer, "lr": config["lr"] / LONG}
                long += [Run(name, search.arm, seed, config) for seed in seeds[: self.num_long_seeds]]
        return long + usual


@dataclass(frozen=True)
class World:
    """What the arms of a seed share, letters: V tokens, D width of the cost.

    Attributes:
        log_p: log P(y|x), shape (V, V), float64.
        true: Rows of the true cost, shape (V, D).
        random: Rows of a cost that knows nothing, shape (V, D).
        held_out: Pairs (x, y), shape (held-out pairs, 2).
        training: The others.
        batches: Which training pairs make each batch, shape (steps, batch); every pass is a permutation.
    """

    log_p: np.ndarray
    true: Tensor
    random: Tensor
    held_out: np.ndarray
    training: np.ndarray
    batches: np.ndarray


def make_world(task: Task, seed: int) -> World:
    """Draw the world of a run's seed; its pairs at a small N are among those at a larger one."""
    truth, cost, draws, order = np.random.default_rng(seeds_of(seed)[1]).spawn(4)
    tokens = task.classes * task.synonyms
    class_of = np.arange(tokens) // task.synonyms
    log_a = log_softmax(CLASS_LOGITS * truth.standard_normal((task.classes, task.classes)), axis=1)
    log_b = log_softmax(SYNONYM_LOGITS * truth.standard_normal((task.classes, task.synonyms)), axis=1)
    log_p = log_a[class_of][:, class_of] + log_b.reshape(-1)
    vectors = cost.standard_normal((task.classes, task.cost_width))[class_of]
    true = vectors + task.cost_noise * cost.standard_normal(vectors.shape)
    random = cost.standard_normal(vectors.shape)
    u = draws.random((task.pairs, 2))
    x = (u[:, 0] * tokens).astype(int)
    # Beyond the last sum of a row, which rounding may leave below 1, lies no token.
    y = np.minimum((np.exp(log_p).cumsum(1)[x] < u[:, 1:]).sum(1), tokens - 1)
    pairs = np.stack([x, y], 1)
    held_out = round(task.pairs * task.held_out_share)
    rest, needed = task.pairs - held_out, task.steps * task.batch
    passes = np.concatenate([order.permutation(rest) for _ in range(math.ceil(needed / rest))])
    return World(
        log_p, torch.from_numpy(true).float(), torch.from_numpy(random).float(), pairs[:held_out], pairs[held_out:],
        passes[:needed].reshape(task.steps, task.batch),
    )  # fmt: skip


def logits_on_the_way(run: Run, world: World) -> Iterator[tuple[int, Tensor]]:
    """Train with Adam, or as the run says; yield steps taken and the table of logits, (V, V), at every checkpoint."""
    # The model is a table of inputs, one of outputs and a bias; its gradient is written out from that of the logits,
    # and all of it is one vector for Adam: at this size a step is mostly the calls that it makes.
    task, loss = Task.from_config(run.config), objective(run.arm)
    cost = UnitEmbedding(world.random if run.arm.endswith("_random") else world.true)
    tokens, table = len(world.log_p), len(world.log_p) * task.width
    initial = np.random.default_rng(seeds_of(run.seed)[0]).standard_normal(2 * table)
    weights = torch.cat([torch.from_numpy(INITIAL * initial).float(), torch.zeros(tokens)])
    weights.grad = torch.zeros_like(weights)
    inputs, outputs, bias = _parts(weights, table, task.width)
    d_inputs, d_outputs, d_bias = _parts(weights.grad, table, task.width)
    kind = OPTIMIZERS[run.config.get("optimizer", "adam")]
    optimizer = kind([weights], lr=run.config["lr"], fused=True)
    x, y = torch.from_numpy(world.training[world.batches]).unbind(-1)
    for step in range(task.steps):
        h = inputs[x[step]]
        logits = torch.addmm(bias, h, outputs.T).requires_grad_()
        (d_logits,) = torch.autograd.grad(loss(logits, y[step], cost), logits)
        d_inputs.zero_().index_add_(0, x[step], d_logits @ outputs)
        torch.mm(d_logits.T, h, out=d_outputs)
        torch.sum(d_logits, 0, out=d_bias)
        optimizer.step()
        if (step + 1) % task.evaluate_every == 0:
            yield step + 1, torch.addmm(bias, inputs, outputs.T)


def _parts(vector: Tensor, table: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return vector[:table].view(-1, width), vector[table : 2 * table].view(-1, width), vector[2 * table :]


def held_out_losses(logits: Tensor, pairs: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of pairs at each inverse temperature of `FINE`: smooth and convex, so by a spline."""
    x, y = torch.from_numpy(pairs).T
    shares = torch.bincount(x, minlength=len(logits)).float() / len(pairs)
    betas = torch.from_numpy(BETAS).float()
    normalisers = torch.logsumexp(betas[:, None, None] * logits, 2) @ shares
    return CubicSpline(BETAS, (normalisers - betas * logits[x, y].mean()).double().numpy())(FINE)


@dataclass(frozen=True)
class Selected:
    """A checkpoint, and the inverse temperature that its predictions get."""

    step: int
    logits: Tensor
    beta: float
    loss: float  # of the held-out pairs, at that temperature


def select_checkpoints(run: Run, world: World) -> dict[str, Selected] | None:
    """Train, and return the checkpoint that each selection takes; None where the run diverged."""
    best: dict[str, Selected] = {}
    for step, logits in logits_on_the_way(run, world):
        if not logits.isfinite().all():
            return None
        losses = held_out_losses(logits, world.held_out)
        for selection, at in (("raw", AT_ONE), ("tempered", int(np.argmin(losses)))):
            if selection not in best or losses[at] < best[selection].loss:
                best[selection] = Selected(step, logits, float(FINE[at]), float(losses[at]))
        last = max(selected.step for selected in best.values())
        if step >= max(PATIENCE * last, LEAST_CHECKPOINTS * run.config["evaluate_every"]):
            break
    return best


def measure_synonyms(run: Run) -> Iterator[Measurement]:
    """Train, and measure what the run's selection takes: the loss that selects, and exact distances to the truth."""
    task = Task.from_config(run.config)
    world, selection = make_world(task, run.seed), run.config["selection"]
    best = select_checkpoints(run, world)
    names = [("validation", SELECTIONS[selection]), ("none", "step_count"), ("none", "temperature_ratio")]
    names += [("test", metric) for metric in METRICS]
    values = [math.nan] * len(names)
    if best:
        of = best[selection]
        found = distances(world.log_p, of.logits.double().numpy() * of.beta)
        values = [of.loss, of.step, 1 / of.beta, *(found[metric] for metric in METRICS)]
    for (split, metric), value in zip(names, values, strict=True):
        yield Measurement(split, task.steps, metric, value)


def measure_synonyms_trial(run: Run) -> Iterator[Measurement]:
    """Train, and look only at what may select: the losses of the held-out pairs, never at the truth."""
    task = Task.from_config(run.config)
    best = select_checkpoints(run, make_world(task, run.seed))
    for selection, metric in SELECTIONS.items():
        yield Measurement("validation", task.steps, metric, best[selection].loss if best else math.nan)


def distances(log_p: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return the exact distances of predictions to the truth, means over x; both of shape (V, V)."""
    log_q = log_softmax(logits, axis=1)
    p, q = np.exp(log_p), np.exp(log_q)
    means = {
        "kl_nats": p * (log_p - log_q),
        "reverse_kl_nats": q * (log_q - log_p),
        "total_variation_share": np.abs(p - q) / 2,
        "entropy_gap_nats": p * log_p - q * log_q,  # H(Q) - H(P)
    }
    return {name: float(of_pairs.sum(1).mean()) for name, of_pairs in means.items()}

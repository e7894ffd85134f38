"""The comparison of pretraining arms: a run pretrains one model, fine-tunes it on few labels, and judges it.

The step of a measurement is the number of labels. A loss is nats a character (a title's end counts as one), averaged
over the titles of a document, then over documents. Beside it stand the loss with another document's section as the
source, and that of a counted trigram, which has the same text and the same labels and sees no source.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch.utils.flop_counter import FlopCounterMode

from paperkit.config import StrictModel
from paperkit.hardware import Hardware
from paperkit.runs import Measurement, Run, seeds_of
from paperkit.texts import Split
from paperkit.tuning import Search, Tuned
from replications.t5_pegasus.metrics import CharacterTrigram, lead, oracle_clause, random_targets, trigram_nats
from replications.t5_pegasus.studies.corpus import LABELS, SOURCE, Table, label_subsets
from replications.t5_pegasus.studies.pretraining import (
    Seq2Seq,
    Task,
    examples,
    pairs_of_windows,
    pretrained,
    tokenizer_of,
)
from replications.t5_pegasus.studies.transfer import (
    FineTuning,
    Titled,
    copied_share,
    fine_tuned,
    generated,
    independent,
    rouge,
    titled,
)

PRIMARY = ("none", "span", "pegasus", "mismatched")
TUNED = PRIMARY[1:]
QUARTER, HALF = 4, 2  # of the steps: trials and the variation in tokens, arms beside the primary comparison
JUDGED = LABELS[1:]  # numbers of labels whose mean decides
SEARCHED = 200  # labels, of trials and where one number must do
LEADS = (8, 16, 24)
COUNTED = 8  # batches over which operations are counted


class Headings(StrictModel):
    """The study."""

    task: Task
    steps: int = Field(ge=4)  # of pretraining, a multiple of four
    fine_tuning: FineTuning
    rates: list[float] = Field(min_length=2)  # of pretraining
    labels: list[int] = Field(default=list(LABELS), min_length=1)  # rising
    num_titles: int | None = Field(default=None, ge=2)  # of a split, to judge by; all where none is given
    num_seeds: int = Field(ge=1)  # of the primary arms
    num_plain_seeds: int = Field(ge=0)  # without the copy head
    num_variation_seeds: int = Field(ge=0)
    num_choice_seeds: int = Field(ge=0)

    def searches(self) -> list[Search]:
        """List the searches of the pretraining rate; rates of fine-tuning are chosen within each run."""
        task = self._config({self.steps // QUARTER: [SEARCHED]})
        return [Search("headings", arm, task, {"lr": self.rates}, len(self.rates), "loss_nats") for arm in TUNED]

    def reports(self, tuned: Sequence[Tuned], seeds: Sequence[int]) -> list[Run]:
        """List the reported runs, heavy ones first."""
        rates: dict[str, float | None] = {"none": None}
        rates |= {arm: outcome.best()["lr"] for arm, outcome in zip(TUNED, tuned, strict=True)}
        rates["random"] = rates["pegasus"]
        quarter, half, judged = self.steps // QUARTER, self.steps // HALF, [n for n in self.labels if n in JUDGED]
        whole = {quarter: judged, half: [SEARCHED], self.steps: self.labels}
        grids: list[tuple[str, Sequence[str], int, dict[int, list[int]], dict[str, Any]]] = [
            ("headings", PRIMARY, self.num_seeds, whole, {"complete": True}),
            ("headings_plain", PRIMARY, self.num_plain_seeds, {self.steps: judged}, {"copying": False}),
            ("headings_poems", PRIMARY, self.num_variation_seeds, {half: judged}, {"text": "poems"}),
            ("headings_choice", ("random",), self.num_choice_seeds, {half: [SEARCHED]}, {}),
        ]
        runs = [
            Run(name, arm, seed, {**self._config({0: labels[max(labels)]} if arm == "none" else labels), **change,
                                  "lr": rates[arm]})
            for name, arms, number, labels, change in grids
            for seed in seeds[:number]
            for arm in arms
        ]  # fmt: skip
        text, guesses = {"text": self.task.text}, (*(f"lead_{k}" for k in LEADS), "oracle_clause", "random")
        counted = {**text, "labels": [0, *self.labels]}
        runs += [Run("baselines", "trigram", seed, counted) for seed in seeds[: self.num_seeds]]
        return runs + [Run("baselines", arm, 0, text) for arm in guesses]

    def _config(self, labels: dict[int, list[int]]) -> dict[str, Any]:
        """Put the settings into a run's configuration; `labels` are those to fine-tune on after so many steps."""
        by_steps = {str(steps): numbers for steps, numbers in labels.items()}
        return {**self.task.model_dump(), "fine_tuning": self.fine_tuning.model_dump(), "labels": by_steps,
                "num_titles": self.num_titles}  # fmt: skip


def measure_headings(run: Run) -> Iterator[Measurement]:
    """Pretrain, fine-tune on each number of labels, and judge on the test split; before the end only the loss."""
    task, complete = Task.from_config(run.config), run.config.get("complete", False)
    test, descriptions = (_judges(run, task, table, "test") for table in ("zh_docs", "zh_descriptions"))
    if complete and run.arm != "none":
        yield from _seen(run, task)
    for model, steps, part in _snapshots(run, task):
        last, prefix = part == 1, {1: "", HALF: "half_", QUARTER: "quarter_"}[part]
        thorough = last and complete
        if thorough and run.arm != "none":
            yield from _judged(model, task, test, 0, thorough=True)
        numbers = run.config["labels"][str(steps)]
        for number in numbers:
            with _adapted(run, task, model, "zh_docs", number) as chosen:
                if last:
                    yield from (Measurement("none", number, name, value) for name, value in chosen.items())
                decoding = thorough and number == max(numbers)
                yield from _judged(model, task, test, number, prefix, thorough=thorough, decoding=decoding)
        if thorough:
            with _adapted(run, task, model, "zh_descriptions", SEARCHED):
                loss = descriptions.loss(model.nats(descriptions.ids))
                yield Measurement("test", SEARCHED, "descriptions_loss_nats", loss)
            other = {"mismatched": "own", "pegasus": "new"}.get(run.arm)
            for number in (n for n in numbers if n in JUDGED and other):
                with _adapted(run, task, model, "zh_docs", number, new_copy_head=other == "new"):
                    yield Measurement("test", number, f"{other}_copy_head_loss_nats", test.loss(model.nats(test.ids)))
            with _adapted(run, task, model, "zh_docs", SEARCHED, more_rates=True) as chosen:
                yield Measurement("none", SEARCHED, "more_rates_chosen_rate", chosen["chosen_rate"])
                yield Measurement("test", SEARCHED, "more_rates_loss_nats", test.loss(model.nats(test.ids)))


def measure_trial(run: Run) -> Iterator[Measurement]:
    """Pretrain and fine-tune, and look only at what may select: never at the test split."""
    task = Task.from_config(run.config)
    validation = _judges(run, task, "zh_docs", "validation")
    for model, _, _ in _snapshots(run, task):
        with _adapted(run, task, model, "zh_docs", SEARCHED):
            yield Measurement("validation", SEARCHED, "loss_nats", validation.loss(model.nats(validation.ids)))


def measure_baseline(run: Run) -> Iterator[Measurement]:
    """Judge what needs no network: the trigram, and titles that are copied or guessed."""
    text = run.config["text"]
    test, rows = (titled("zh_docs", split, text, 0) for split in ("test", "train"))
    if run.arm != "trigram":
        yield from (Measurement("test", 0, name, value) for name, value in _guessed(run.arm, test.first()).items())
        return
    # The alphabet of the models, to which any other character is unknown too.
    tokens = {token.removeprefix("##") for token in tokenizer_of(text, 0).get_vocab()}
    windows, _ = pairs_of_windows(text)
    general = CharacterTrigram(["".join(pieces) for pieces in windows], {token for token in tokens if len(token) == 1})
    for number in run.config["labels"]:
        labels = rows.rows.title.iloc[_drawn(run, len(rows.rows), number)].tolist() if number else []
        nats = trigram_nats(general, labels, test.rows.title.tolist())
        yield Measurement("test", number, "loss_nats", test.loss(nats))
        yield Measurement("test", number, "independent_loss_nats", test.loss(nats, independent("zh_docs")))


def _guessed(arm: str, test: Titled) -> dict[str, float]:
    sources, titles = test.rows.body.str[:SOURCE], test.rows.title.tolist()
    guesses: dict[str, Callable[[], list[str]]] = {
        "oracle_clause": lambda: [oracle_clause(*both) for both in zip(sources, titles, strict=True)],
        "random": lambda: random_targets(titles, test.rows.document.tolist(), np.random.default_rng(0)),
    }
    guesses |= {f"lead_{k}": lambda k=k: [lead(source, k) for source in sources] for k in LEADS}
    return rouge(guesses[arm](), test, complete=True)


def _snapshots(run: Run, task: Task) -> Iterator[tuple[Seq2Seq, int, int]]:
    """Pretrain, and give the model after each number of steps that has labels, and how often that goes into all."""
    steps = sorted(map(int, run.config["labels"]))
    first, second, _ = seeds_of(run.seed)
    made = pretrained(task, run.arm, run.config["lr"], steps, (first, second), Hardware.from_config(run.config))
    for model, step in zip(made, steps, strict=True):
        yield model, step, steps[-1] // step if step else 1


@contextmanager
def _adapted(
    run: Run,
    task: Task,
    model: Seq2Seq,
    table: Table,
    number: int,
    *,
    more_rates: bool = False,
    new_copy_head: bool | None = None,
) -> Iterator[dict[str, float]]:
    """Fine-tune on so many labels, say what was chosen, and put the old weights back behind it."""
    train = titled(table, "train", task.text, task.words).ids
    labels, tuning = (
        train.rows(_drawn(run, len(train.source), number)),
        FineTuning.from_config(run.config["fine_tuning"]),
    )
    if more_rates:
        tuning = tuning.model_copy(update={"rates": [*tuning.rates, *tuning.more_rates]})
    start = deepcopy(model.state_dict())
    if new_copy_head is None:
        # Beside other documents nothing can be copied: the gate has closed, which is not the language of targets.
        new_copy_head = run.arm == "mismatched" and task.copying
    if new_copy_head:
        torch.manual_seed(seeds_of(run.seed)[0])
        model.t5.copy_head.load_state_dict(Seq2Seq(task, Hardware()).t5.copy_head.state_dict())
    found = fine_tuned(model, labels, tuning, seeds_of(run.seed)[1])
    model.load_state_dict(found.state)
    yield {"chosen_rate": found.rate, "updates": found.updates}
    model.load_state_dict(start)


def _judges(run: Run, task: Task, table: Table, split: Split) -> Titled:
    return titled(table, split, task.text, task.words).head(run.config["num_titles"])


def _drawn(run: Run, num_pairs: int, number: int) -> np.ndarray:
    """Draw the labels of a seed, the same ones for all arms."""
    return label_subsets(num_pairs, seeds_of(run.seed)[1], [number])[number]


def _judged(
    model: Seq2Seq,
    task: Task,
    test: Titled,
    number: int,
    prefix: str = "",
    *,
    thorough: bool,
    decoding: bool = False,
) -> Iterator[Measurement]:
    nats = model.nats(test.ids)
    values = {"loss_nats": test.loss(nats)}
    if not prefix:
        values["exchanged_loss_nats"] = test.loss(model.nats(test.exchanged()))
    if thorough:
        values["independent_loss_nats"] = test.loss(nats, independent("zh_docs")[: len(nats)])
        if task.copying:
            values["copied_share"] = copied_share(model, test.ids)
        first = test.first()
        values |= rouge(generated(model, task, first.ids.source), first, complete=True)
        if decoding:
            varied = {f"beam_{beams}": generated(model, task, first.ids.source, beams) for beams in (2, 3)}
            varied["no_repeat"] = generated(model, task, first.ids.source, no_repeat=2)
            for name, titles in varied.items():
                values |= {f"{name}_{key}": value for key, value in rouge(titles, first).items()}
    yield from (Measurement("test", number, prefix + name, value) for name, value in values.items())


def _seen(run: Run, task: Task) -> Iterator[Measurement]:
    """Count what an arm sees of a window, the operations of a step, and the model's parameters."""
    data = seeds_of(run.seed)[1]
    pairs = examples(task, run.arm, data)
    for name, part in zip(("source", "target"), pairs, strict=True):
        yield Measurement("train", 0, f"{name}_tokens", float((part != 0).sum(1).double().mean()))
    model = Seq2Seq(task, Hardware())
    with FlopCounterMode(display=False) as counter:
        for source, target in pairs.batches(task.batch, COUNTED, data):
            model.loss(source, target).backward()
    yield Measurement("train", 0, "step_flops", counter.get_total_flops() / COUNTED)
    yield Measurement("none", 0, "parameters", sum(parameter.numel() for parameter in model.parameters()))

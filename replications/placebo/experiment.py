"""One method under two names through the whole chain, many times: race, selection, fresh seeds, rule and word.

A run is a block of repetitions under one condition. A repetition draws a list of trials, tunes both names on seeds of
its own by `paperkit.tuning.tune`, reports both on fresh seeds, and lets `paperkit.claims` judge the difference by each
rule. Both names share of a seed what two methods share, the start and the sample of images; the order of batches is
each one's own, for with all in common they would agree to the last bit.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.special import logsumexp
from sklearn.datasets import load_digits

from paperkit.claims.declarations import Claim
from paperkit.claims.verdicts import judge_runs
from paperkit.config import StrictModel, parse
from paperkit.runs import Measure, Measurement, Rows, Run, Runner, execute, seeds_of
from paperkit.stage import StageConfig, Tables, main
from paperkit.statistics import paired_interval
from paperkit.tuning import LogRange, Search, Tuning, tune
from replications.placebo.chances import WORDS, differ

NAMES = ("first", "second")
PARTS = ("start", "sample", "order")  # of what is random in a training, in the order of `seeds_of`
NUM_SEEDS = (3, 5, 8)  # three are judged as if three were enough
MOST = max(NUM_SEEDS)
FAMILY = 4  # primary claims that are corrected together
POOL, VALIDATION = 1000, 398  # images to draw samples from, and to select on; the remaining 399 are the test images
Floats = NDArray[np.float64]


class Setting(StrictModel):
    """What a repetition depends on: task, search, and what its condition changes."""

    images: PositiveInt  # that a seed trains on
    steps: PositiveInt
    batch: PositiveInt
    trials: PositiveInt
    tuning_seeds: int = Field(ge=1, le=10)
    lr: LogRange
    decay: LogRange
    margin: PositiveFloat  # nats
    planted: float = 0.0  # margins added to every loss of the second name
    own: list[Literal["start", "sample", "order"]] = Field(default=["order"])  # not shared by the names
    second_reports: Literal["its own", "that of the first", "the best reported"] = "its own"  # which setting
    races: int = Field(default=1, ge=1, le=MOST)  # each on other tuning seeds, and for its share of the reported ones


class Config(StageConfig):
    """One profile of params.yaml."""

    setting: Setting
    repetitions: int = Field(ge=FAMILY, le=1000)  # in a block
    blocks: list[NonNegativeInt] = Field(min_length=1)
    few_repetitions: int = Field(ge=FAMILY)  # in a block of the conditions that are not `MAIN`
    few_blocks: list[NonNegativeInt] = Field(min_length=1)
    fresh_blocks: list[NonNegativeInt] = Field(min_length=1)  # of the conditions that were judged again


MAIN = ("nothing_there", "one_margin", "one_setting")
# The conditions that were judged again, on fresh blocks, since a word that another race could turn is called fragile.
AGAIN = "again_"


def conditions(setting: Setting) -> dict[str, dict[str, Any]]:
    """List what is changed under each condition."""
    changed: dict[str, dict[str, Any]] = {
        "nothing_there": {},
        "one_margin": {"planted": 1.0},
        "one_setting": {"second_reports": "that of the first"},
        "nothing_shared": {"own": list(PARTS)},
        "one_tuning_seed": {"tuning_seeds": 1},
        "four_times_as_long": {"steps": 4 * setting.steps},
        "many_trials": {"trials": 4 * setting.trials},
        "a_race_for_each_seed": {"races": MOST},
        "one_margin_nothing_shared": {"planted": 1.0, "own": list(PARTS)},
        "one_margin_one_tuning_seed": {"planted": 1.0, "tuning_seeds": 1},
        "picked_on_reported_seeds": {"second_reports": "the best reported"},
    }
    again = ("nothing_there", "one_margin", "nothing_shared", "four_times_as_long", "many_trials")
    return changed | {f"{AGAIN}{name}": changed[name] for name in again}


def run(config: Config, runner: Runner) -> Tables:
    """Repeat the chain under every condition."""
    sizes = {True: (config.blocks, config.repetitions), False: (config.few_blocks, config.few_repetitions)}
    grid = []
    for name, changed in conditions(config.setting).items():
        blocks, repetitions = sizes[name.removeprefix(AGAIN) in MAIN]
        blocks = config.fresh_blocks if name.startswith(AGAIN) else blocks
        settings = {**config.setting.model_dump(), **changed, "repetitions": repetitions}
        grid += [Run("placebo", name, block, settings) for block in blocks]
    return Tables(execute(runner, measure, grid))


# --- the task: softmax regression on some of scikit-learn's digits ---------------------------------------------------


@cache
def digits() -> dict[str, tuple[Floats, Floats]]:
    """Return inputs, with a constant, and one-hot labels of each split; the same for all seeds."""
    pixels, labels = load_digits(return_X_y=True)
    inputs = np.column_stack([np.asarray(pixels) / 16, np.ones(len(pixels))])
    places = np.split(np.random.default_rng(0).permutation(len(inputs)), [POOL, POOL + VALIDATION])
    splits = zip(("train", "validation", "test"), places, strict=True)
    return {split: (inputs[of], np.eye(10)[labels[of]]) for split, of in splits}


def measure_loss(run: Run, split: str) -> Iterator[Measurement]:
    """Train one name with one setting on one seed; measure the loss, with what is planted in it."""
    task, (inputs, targets) = run.config, digits()["train"]
    name = 1 + NAMES.index(run.arm)
    start, sample, order = (
        np.random.default_rng([seed, name if part in task["own"] else 0])
        for part, seed in zip(PARTS, seeds_of(run.seed), strict=True)
    )
    weights = start.normal(0, 0.1, (inputs.shape[1], targets.shape[1]))
    drawn = sample.choice(POOL, task["images"], replace=False)
    batches = drawn[order.integers(task["images"], size=(task["steps"], task["batch"]))]
    for step, batch in enumerate(batches):
        of_batch = inputs[batch]
        logits = of_batch @ weights
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))  # scipy's softmax takes as long as all else
        errors = raised / raised.sum(axis=1, keepdims=True) - targets[batch]
        gradient = of_batch.T @ errors / len(batch) + task["decay"] * weights
        weights -= task["lr"] * (1 - step / len(batches)) * gradient
    inputs, targets = digits()[split]
    logits, planted = inputs @ weights, task["planted_nats"] if run.arm == NAMES[1] else 0.0
    loss = np.mean(logsumexp(logits, axis=1) - (logits * targets).sum(axis=1))
    yield Measurement(split, task["steps"], "loss_nats", float(loss + planted))


def measure_trial(run: Run) -> Iterator[Measurement]:
    """Measure what may select: the loss on the validation images."""
    return measure_loss(run, "validation")


def measure_report(run: Run) -> Iterator[Measurement]:
    """Measure what is reported: the loss on the test images."""
    return measure_loss(run, "test")


# --- one repetition of the chain -------------------------------------------------------------------------------------


class InThisProcess(Runner):
    """Executes runs where it is called: a repetition is itself a part of a run, and a worker starts no workers."""

    def __call__(self, measure: Measure, runs: Sequence[Run]) -> list[Rows]:
        """Return the rows of each run."""
        head = {"profile": self.profile, "status": "ok"}
        return [[{**head, **asdict(run), **asdict(one)} for one in measure(run)] for run in runs]


HERE = InThisProcess("placebo", "cpu", {}, 1)


def repeat(number: int, setting: Setting) -> tuple[Floats, bool, Rows]:
    """Tune and report both names.

    Returns:
        Loss of the second minus that of the first by seed, whether settings agree, and the ledger of the trials.
    """
    seeds = range(100 * number, 100 * number + 100)
    gaps, same, ledgers = np.empty(MOST), True, []
    for race in range(setting.races):
        tuning = Tuning(draw_seed=seeds[race], seeds=list(seeds[10 * race : 10 * race + setting.tuning_seeds]))
        report = seeds[90 + race : 90 + MOST : setting.races]
        tuning.refuse_shared({"report": report})
        gaps[race :: setting.races], settings_agree, trials = report_after(tuning, report, setting)
        same &= settings_agree
        ledgers += trials
    return gaps, same, ledgers


def report_after(tuning: Tuning, report: Sequence[int], setting: Setting) -> tuple[Floats, bool, Rows]:
    """Race both names once; return differences on the reported seeds, whether one setting won both, and the ledger."""
    task = setting.model_dump(include={"images", "steps", "batch", "own"})
    task["planted_nats"] = setting.planted * setting.margin
    space = {"lr": setting.lr, "decay": setting.decay}
    searches = [Search("placebo", name, task, space, setting.trials, "loss_nats") for name in NAMES]
    (first, second), ledger = tune(HERE, measure_trial, searches, tuning)

    def reported(name: str, point: Mapping[str, Any]) -> Floats:
        runs = [Run("placebo", name, seed, {**task, **point}) for seed in report]
        return np.array([row["value"] for rows in HERE(measure_report, runs) for row in rows])

    candidates = {"its own": [second.best()], "that of the first": [first.best()]}
    most = max(map(len, second.losses))  # the finalists ran on every tuning seed
    candidates["the best reported"] = [
        second.points[place] for place, on in enumerate(second.losses) if len(on) == most
    ]
    losses = min((reported(NAMES[1], point) for point in candidates[setting.second_reports]), key=np.mean)
    return losses - reported(NAMES[0], first.best()), first.best_trial() == second.best_trial(), ledger


# --- what the chain says of it ---------------------------------------------------------------------------------------


@cache
def declared(rules: tuple[str, ...], num_seeds: int, margin: float, *, primary: bool = False) -> tuple[Claim, ...]:
    """Declare a claim for each rule, as claims.yaml would; primary ones each about a repetition of its own."""
    keys: dict[str, dict[str, Any]] = {
        "greater": {"rule": "greater", "bound": 0.0, "margin": margin},
        "less": {"rule": "less", "bound": 0.0, "margin": margin},
        "slope": {"rule": "greater", "bound": 0.0, "margin": None},
        "equivalent": {"rule": "equivalent", "margin": margin},
        "within": {"rule": "within", "low": -margin, "high": margin},
        "not_worse": {"rule": "less", "bound": margin, "margin": None},
    }
    frame = {"statement": "The names differ.", "source": {"bib": None, "where": "ours"}, "min_seeds": num_seeds}
    frame["family"] = "primary" if primary else None
    arms = {"of": NAMES[1], "minus": NAMES[0], "metric": "loss_nats", "split": "test"}
    claims = []
    for place, rule in enumerate(rules):
        of = place if primary else 0
        said = {"difference": {"experiment": f"repetition_{of}", **arms}}
        test = {"estimand": f"gap_{of}", "unit": "nats", **keys[rule], **said}
        claims.append(parse(Claim, {**frame, "id": f"X{place}", "tests": [test]}, source="placebo"))
    return tuple(claims)


def judge(claims: Sequence[Claim], gaps: Sequence[Floats], ledgers: Sequence[Rows] = ()) -> list[str]:
    """Return the word of each claim, from differences to Holm's correction, as metrics name it."""
    estimands = {f"gap_{place}": lambda _, gap=gap: pd.Series(gap) for place, gap in enumerate(gaps)}
    number = sum(claim.is_primary for claim in claims)
    rows = [{**row, "experiment": f"repetition_{of}"} for of, ledger in enumerate(ledgers) for row in ledger]
    records = judge_runs(
        claims,
        pd.DataFrame({"profile": [HERE.profile]}),
        estimands,
        num_primary=number,
        trials=pd.DataFrame(rows) if rows else None,
    )
    return [record["verdict"].replace(", ", "_").replace(" ", "_") for record in records]


def measure(run: Run) -> Iterator[Measurement]:
    """Repeat the chain; measure in which share of the repetitions it gives each word."""
    setting, number = Setting.from_config(run.config), run.config["repetitions"]
    done = [repeat(1000 * run.seed + place, setting) for place in range(number)]
    gaps, same = (np.array(column) for column in zip(*[outcome[:2] for outcome in done], strict=True))
    if run.arm.startswith(AGAIN):
        shares = dict(shares_of_firm_words(gaps, [ledger for *_, ledger in done], setting.margin))
    else:
        shares = dict(shares_before(run, gaps, same, setting.margin))
    yield from (Measurement("none", 0, f"{name}_share", float(share)) for name, share in shares.items())
    within = gaps.var(axis=1, ddof=1).mean()
    yield Measurement("none", 0, "between_seeds_sd_nats", float(np.sqrt(within)))
    yield Measurement("none", 0, "variance_ratio", float(gaps.mean(axis=1).var(ddof=1) / (within / MOST)))


def shares_before(run: Run, gaps: Floats, same: Floats, margin: float) -> Iterator[tuple[str, float]]:
    """Yield how often each word is given by interval and rule alone, by broken chains, and where settings agree."""
    yield from shares_of_words(gaps, margin, tuple(WORDS) if run.arm in MAIN[:2] else ("greater", "equivalent"))
    p_values = np.array([[p_of(gap[:n]) for n in range(5, MOST + 1)] for gap in gaps])
    yield "same_setting", same.mean()
    yield "same_and_differ", (same & (p_values[:, -1] < 0.05)).mean()
    if run.arm == "nothing_there":
        yield from ((f"bootstrap_{n}_differ", broken_bootstrap(gaps[:, :n], run.seed)) for n in NUM_SEEDS)
        yield "peeking_differ", (p_values < 0.05).any(axis=1).mean()
        yield "family_differ", family_differ(gaps, [[]] * len(gaps), margin)


def shares_of_firm_words(gaps: Floats, ledgers: Sequence[Rows], margin: float) -> Iterator[tuple[str, float]]:
    """Yield how often a word is given that is not fragile; "differ" also with the fragile ones."""
    for n in NUM_SEEDS[1:]:
        for rule in ("greater", "equivalent"):
            claims = declared((rule,), n, margin, primary=True)
            count = Counter(judge(claims, [gap[:n]], [of])[0] for gap, of in zip(gaps, ledgers, strict=True))
            yield from ((f"{rule}_{n}_{word}", count[word] / len(gaps)) for word in WORDS[rule])
            if rule == "greater":
                fragile = differ({word.removesuffix("_fragile"): count[word] for word in count if "fragile" in word})
                yield f"{rule}_{n}_differ", differ(count) / len(gaps)
                yield f"{rule}_{n}_differ_or_fragile", (differ(count) + fragile) / len(gaps)
    yield "family_differ", family_differ(gaps, ledgers, margin)


def family_differ(gaps: Floats, ledgers: Sequence[Rows], margin: float) -> float:
    """Return the share of families, of `FAMILY` repetitions each, in which a name is said to differ after Holm."""
    claims, starts = declared(("greater",) * FAMILY, MOST, margin, primary=True), range(0, len(gaps), FAMILY)
    said = [
        judge(claims, gaps[at : at + FAMILY], ledgers[at : at + FAMILY]) for at in starts if at + FAMILY <= len(gaps)
    ]
    return float(np.mean([differ(Counter(words)) > 0 for words in said]))


def shares_of_words(gaps: Floats, margin: float, rules: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Yield how often each rule gave each of its words, and how often "greater" said that the names differ."""
    for n in NUM_SEEDS:
        words = [judge(declared(rules, n, margin), [gap[:n]]) for gap in gaps]
        for rule, said in zip(rules, zip(*words, strict=True), strict=True):
            count = Counter(said)
            yield from ((f"{rule}_{n}_{word}", count[word] / len(gaps)) for word in WORDS[rule])
            if rule == "greater":
                yield f"{rule}_{n}_differ", differ(count) / len(gaps)


def p_of(gap: Floats) -> float:
    """Return the two-sided p of the paired t test."""
    interval = paired_interval(gap)
    assert interval is not None, "one seed has no interval"
    return interval.p


def broken_bootstrap(gaps: Floats, block: int, resamples: int = 2000) -> float:
    """Say "differ" where the percentile interval of resampled means leaves out zero: known to be too narrow."""
    rng = np.random.default_rng([block, gaps.shape[1]])
    means = [rng.choice(gap, (resamples, len(gap))).mean(axis=1) for gap in gaps]
    low, high = np.quantile(means, (0.025, 0.975), axis=1)
    return float(np.mean((low > 0) | (high < 0)))


if __name__ == "__main__":
    main(Config, run, stage="placebo", module="replications.placebo.experiment")

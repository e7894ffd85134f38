"""How far published samplers are from exp(alpha S) / Z on real text, and what alpha does to it.

A seed draws the documents on which SentencePiece trains its vocabulary, and the windows and lines of the split "test"
that are segmented; arms of a seed share both.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import sentencepiece
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.special import logsumexp, softmax
from scipy.stats import kendalltau

from paperkit.runs import Measurement, Run, Runner, execute, seeds_of
from paperkit.stage import StageConfig, Tables, main
from replications.token_sampling.lattice import (
    alpha_for_inflation,
    moments,
    nbest,
    sample,
    sample_online,
    segment_many,
)
from replications.token_sampling.laws import Path, gibbs, lattice_of, law, paths, total_variation
from replications.token_sampling.studies.corpora import SPACE, Corpus, corpus

MULTINOMIAL_SETS = 20  # from which the distance that chance alone makes is averaged


class Config(StageConfig):
    """One profile of params.yaml."""

    seeds: list[NonNegativeInt] = Field(min_length=1)
    pieces: PositiveInt  # of the vocabulary, special ones included
    training_characters: PositiveInt
    windows: PositiveInt  # for exact laws
    window_characters: dict[str, list[PositiveInt]]  # by corpus; the first decides
    alphas: list[PositiveFloat]
    draw_windows: PositiveInt
    draws: PositiveInt  # of each sampler from each window
    draw_alphas: list[PositiveFloat]
    lines: PositiveInt
    line_characters: list[PositiveInt]
    line_alphas: list[NonNegativeFloat]
    mass_characters: list[PositiveInt]
    inflations: list[PositiveFloat]  # for which an alpha is sought


def run(config: Config, runner: Runner) -> Tables:
    """List all studies; runs of one seed and corpus stand together, since a worker keeps its vocabularies."""
    studies = []
    for seed in config.seeds:
        for name, lengths in config.window_characters.items():
            base = {"corpus": name, "pieces": config.pieces, "training_characters": config.training_characters}
            grid = []
            for length in lengths:
                study = {"characters": length, "windows": config.windows, "alphas": config.alphas}
                arms = ("sigmoid", "reservoir_of_scores", "perfect", "powered_prefix", "nbest_64")
                grid += [(f"laws_{name}_{length}", arm, study) for arm in arms]
            study = {"characters": lengths[0], "windows": config.draw_windows, "alphas": config.draw_alphas}
            study["draws"] = config.draws
            grid += [(f"draws_{name}", arm, study) for arm in ("perfect", "filter_sample", "sp_ffbs")]
            for length in config.line_characters:
                study = {"characters": length, "windows": config.lines, "alphas": config.line_alphas}
                grid += [(f"inflation_{name}_{length}", arm, study) for arm in ("perfect", "nbest_64", "nbest_512")]
            study = {"lengths": config.mass_characters, "windows": config.lines, "alphas": config.line_alphas}
            grid.append((f"mass_{name}", "nbest_64", study))
            study = {"characters": config.line_characters[0], "windows": config.lines}
            grid.append((f"alpha_{name}", "perfect", {**study, "inflations": config.inflations}))
            studies += [Run(experiment, arm, seed, {**base, **study}) for experiment, arm, study in grid]
    return Tables(execute(runner, measure, studies))


def measure(run: Run) -> Iterator[Measurement]:
    """Measure what the experiment's name begins with."""
    config, kind = run.config, run.experiment.split("_", maxsplit=1)[0]
    trained = corpus(config["corpus"], run.seed, config["pieces"], config["training_characters"])
    measures = {"laws": _laws, "draws": _draws, "inflation": _inflation, "mass": _mass, "alpha": _alpha}
    for step, name, value in measures[kind](run, trained):
        yield Measurement("test", step, name, float(value))


Named = Iterator[tuple[int, str, float]]


def tag(alpha: float) -> str:
    """Name an alpha within a metric."""
    return f"alpha_{alpha:g}".replace(".", "_")


def _laws(run: Run, trained: Corpus) -> Named:
    """Compare an algorithm's exact law with the target, averaged over windows."""
    windows = trained.small_windows(run.config["windows"], run.config["characters"], run.seed)
    for alpha in run.config["alphas"]:
        numbers = [_law_numbers(run.arm, window, trained, alpha) for window in windows]
        names = ("tv", "kendall_tau", "argmax_lost_share", "tokens_ratio")
        for name, values in zip(names, np.transpose(numbers), strict=True):
            yield 0, f"{tag(alpha)}_{name}", values.mean()


def _law_numbers(arm: str, window: str, trained: Corpus, alpha: float) -> tuple[float, float, float, float]:
    lattice = lattice_of(window.encode(), trained.scores)
    scores = paths(lattice)
    target, found = gibbs(scores, alpha), law(arm, lattice, alpha)
    # In logarithms, and rounded: equal multisets of pieces give scores that are equal up to the last bit.
    chances = np.log([max(found.get(path, 0.0), 1e-300) for path in scores])
    tau = kendalltau(np.round(list(scores.values()), 9), np.round(chances, 9)).statistic
    best = max(scores, key=scores.__getitem__)
    lost = max(found.values()) > found.get(best, 0) + 1e-12
    tokens = [sum(p * len(path) for path, p in one.items()) for one in (found, target)]
    # All scores equal (or all chances): there is no order to keep.
    return total_variation(found, target), 1.0 if np.isnan(tau) else float(tau), float(lost), tokens[0] / tokens[1]


def _draws(run: Run, trained: Corpus) -> Named:
    """Measure a sampler's distance to the target beyond what as many multinomial draws have."""
    config, rng = run.config, np.random.default_rng(seeds_of(run.seed)[2])
    windows = trained.small_windows(config["windows"], config["characters"], run.seed)
    for alpha in config["alphas"]:
        excesses, chi_squares = [], []
        for number, window in enumerate(windows):
            target = gibbs(paths(lattice_of(window.encode(), trained.scores)), alpha)
            counts = draw_paths(run.arm, window, trained, alpha, rng, config["draws"], run.seed + 1000 * number)
            chances, total = np.array(list(target.values())), config["draws"]
            floor = np.abs(rng.multinomial(total, chances, MULTINOMIAL_SETS) / total - chances).sum(1).mean() / 2
            seen = np.array([counts.pop(path, 0) for path in target])
            assert not counts, "every path that was drawn is one of the lattice"
            excesses.append(np.abs(seen / total - chances).sum() / 2 - floor)
            chi_squares.append(_chi_square_excess(seen, total * chances))
        yield 0, f"{tag(alpha)}_excess_tv", np.mean(excesses)
        yield 0, f"{tag(alpha)}_chi_square_excess", np.mean(chi_squares)


def draw_paths(
    arm: str, window: str, trained: Corpus, alpha: float, rng: np.random.Generator, draws: int, seed: int
) -> Counter[Path]:
    """Draw segmentations of a window and count them, by our samplers or by SentencePiece's."""
    if arm != "sp_ffbs":
        sampler = sample_online if arm == "perfect" else sample
        drawn = sampler(window.encode(), trained.vocabulary, alpha, rng, draws)
        return Counter(tuple(one.ends.tolist()) for one in drawn)
    # The generator belongs to a thread, and takes the seed only when the thread first draws (0.2.0). From 0.2.2 on it
    # is salted in each process, and no seed gives the same draws twice; 0.2.1 crashes beside torch.
    sentencepiece.set_random_generator_seed(seed)
    how = {"enable_sampling": True, "alpha": alpha, "nbest_size": -1}
    with ThreadPoolExecutor(1) as thread:
        drawn = thread.submit(lambda: [tuple(trained.processor.encode(window, **how)) for _ in range(draws)])
        counted = Counter(drawn.result())
    piece = trained.processor.id_to_piece
    return Counter({
        tuple(np.cumsum([len(piece(one).replace(SPACE, " ").encode()) for one in ids]).tolist()): count
        for ids, count in counted.items()
    })


def _chi_square_excess(seen: NDArray[np.int64], expected: NDArray[np.float64]) -> float:
    """Return chi-square over degrees of freedom, minus 1; cells that expect fewer than 5 are one."""
    large = expected >= 5
    pairs = [np.append(of[large], of[~large].sum()) for of in (seen, expected)]
    kept = pairs[1] > 0
    return float(((pairs[0] - pairs[1])[kept] ** 2 / pairs[1][kept]).sum() / max(1, kept.sum() - 1) - 1)


def _inflation(run: Run, trained: Corpus) -> Named:
    """Measure the expected number of pieces over that of the best segmentation, minus 1, over all lines."""
    config = run.config
    lines = [line.encode() for line in trained.windows(config["windows"], config["characters"], run.seed)]
    best = len(segment_many(lines, trained.vocabulary)[0])
    if run.arm == "perfect":
        for alpha in config["alphas"]:
            tokens = sum(moments(line, trained.vocabulary, alpha).mean_tokens for line in lines)
            yield 0, f"{tag(alpha)}_inflation", tokens / best - 1
        return
    lists = [nbest(line, trained.vocabulary, int(run.arm.removeprefix("nbest_"))) for line in lines]
    scores = [np.array([one.score for one in found]) for found in lists]
    counts = [np.array([len(one.ids) for one in found]) for found in lists]
    for alpha in config["alphas"]:
        tokens = sum(softmax(alpha * s) @ k for s, k in zip(scores, counts, strict=True))
        yield 0, f"{tag(alpha)}_inflation", tokens / best - 1


def _mass(run: Run, trained: Corpus) -> Named:
    """Measure the logarithm of the share of Z that the 64 best have, by length in characters."""
    for length in run.config["lengths"]:
        lines = [line.encode() for line in trained.windows(run.config["windows"], length, run.seed)]
        scores = [np.array([one.score for one in nbest(line, trained.vocabulary, 64)]) for line in lines]
        for alpha in run.config["alphas"]:
            mass = [
                logsumexp(alpha * s) - moments(line, trained.vocabulary, alpha).log_partition
                for line, s in zip(lines, scores, strict=True)
            ]
            yield length, f"{tag(alpha)}_log_mass_nats", np.mean(mass)


def _alpha(run: Run, trained: Corpus) -> Named:
    """Find the alpha that gives a wanted inflation."""
    windows = trained.windows(run.config["windows"], run.config["characters"], run.seed)
    lines = [line.encode() for line in windows]
    for inflation in run.config["inflations"]:
        name = f"inflation_{inflation:g}_alpha".replace(".", "_")
        yield 0, name, alpha_for_inflation(lines, trained.vocabulary, inflation)


if __name__ == "__main__":
    main(
        Config, run, stage="token_sampling", module="replications.token_sampling.experiment",
        tables=["sotu", "zh_docs"],
    )  # fmt: skip

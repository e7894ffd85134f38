"""Figures of the page, drawn from results alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paperkit.estimands import configured
from paperkit.results import read_runs, read_trials
from paperkit.statistics import paired_interval
from paperkit.style import COLOURS, NEUTRAL, drawing, folders
from replications.wasserstein_bound.estimands import ranked_wrongly, trained

COLOUR = {"ode": COLOURS[0], "sde": COLOURS[1]}
NAME = {"ode": "ODE", "sde": "SDE"}
# Root of y = 2 (1 - exp(-y)), times 2: where the two samplers are equally far in the stationary case.
CROSSING = 3.187
WAYS = {
    "annealed": "own run each",
    "one_run": "checkpoints of one run",
    "longer": "four times the steps",
    "lower_rate": "a third of the rate",
    "overlapping": "overlapping modes",
}
TECHNIQUES = {
    "plain": "plain",
    "spectral_norm": "spectral norm",
    "weight_decay": "weight decay",
    "likelihood_weight": "weight g²",
}
POINT_SETS = {"four_clusters": "four clusters", "moons": "moons"}


def draw(results: Path, figures: Path) -> None:
    """Draw the figures of the studies that have been run."""
    runs = read_runs(results / "runs.csv")
    if (runs["experiment"] == "finite_set").any():
        draw_finite_sets(runs, figures / "finite_sets.svg")
    if (runs["experiment"] == "affine").any():
        draw_counterexample(runs, figures / "counterexample.svg")
        draw_weight(runs, figures / "weight.svg")
        draw_sweep(runs, figures / "sweep.svg")
        draw_tightness(runs, figures / "tightness.svg")
        draw_mixtures(runs, figures / "mixtures.svg")
        draw_slack(runs, figures / "slack.svg")
        draw_dimensions(runs, figures / "dimensions.svg")
        draw_outside(runs, figures / "outside.svg")
        draw_training(runs, figures / "training.svg")
        draw_ranking(runs, figures / "ranking.svg")
        draw_against_loss(runs, figures / "against_loss.svg")
        draw_end_of_training(runs, figures / "end_of_training.svg")
        draw_integrand(runs, figures / "integrand.svg")
        draw_techniques(runs, figures / "techniques.svg")
        draw_search(read_trials(results / "trials.csv"), figures / "search.svg")


def draw_counterexample(runs: pd.DataFrame, path: Path) -> None:
    """Draw W2 of both samplers and both bounds in the stationary case against β T, in units of the shift."""
    rows = runs[runs["experiment"] == "stationary"]
    table = rows.pivot(index="step", columns="metric", values="value").sort_values("beta_times_horizon")
    x = table["beta_times_horizon"]
    question = "Does the bound with g² hold for the ODE, and is the SDE nearer?"
    shown = "one point a product β T; closed forms, nothing is random; dotted: β T = 3.187, where both change"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.4) as (_, (left, right)):
        left.plot(x, table["ode_w2_over_shift"], "o-", markersize=3, color=COLOUR["ode"], label="W₂ of the ODE")
        left.plot(x, table["half_weight_bound_over_shift"], "--", color="black", label="bound with g²/2")
        left.plot(x, table["full_weight_bound_over_shift"], "-", color=COLOURS[3], label="bound with g²")
        for arm in ("ode", "sde"):
            label = f"W₂ of the {NAME[arm]}"
            right.plot(x, table[f"{arm}_w2_over_shift"], "o-", markersize=3, color=COLOUR[arm], label=label)
        for axes in (left, right):
            axes.axvline(CROSSING, color=NEUTRAL, linewidth=0.8, linestyle=":")
            axes.set(xlabel="β T (no unit)", ylabel="distance / shift of the score (x²)", ylim=(0, None))
            axes.legend()


def draw_weight(runs: pd.DataFrame, path: Path) -> None:
    """Draw the weight w I of the score's error over t, for exact scores of mixtures, one panel a sampler."""
    rows = runs[runs["experiment"] == "growth"]
    rows = rows.assign(mean=configured(rows, "mean"), variance=configured(rows, "variance"))
    question = "How much does an error of the score at time t count in the bound?"
    shown = "one line a data distribution, exact score; nothing is random"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.6) as (_, panels):
        for axes, arm in zip(panels, ("sde", "ode"), strict=True):
            of_arm = rows[rows["arm"] == arm]
            number = 0
            for key, of_data in of_arm.groupby(["mean", "variance"]):
                table = of_data.pivot(index="step", columns="metric", values="value")
                if table["log10_growth"].max() > 12:
                    continue  # off the scale of everything else; its value stands in the text
                label = f"±{key[0]:g}, {key[1]:g}" if key[0] else "one Gaussian"
                axes.plot(table["t"], table["log10_weight"], color=(*COLOURS, "black")[number], label=label)
                number += 1
            axes.set(xlabel="time t of the noising (T = 1)", ylabel="log₁₀ (w I)", title=NAME[arm], ylim=(-5, None))
        panels[1].legend(title="modes, variance", fontsize=7)


def draw_sweep(runs: pd.DataFrame, path: Path) -> None:
    """Draw W2 against its bound for every random Gaussian, one panel a sampler."""
    table = _affine(runs)
    ends = [0.8 * table.min(axis=None), 1.2 * table.max(axis=None)]
    question = "Does a random Gaussian with a wrong affine score exceed the bound?"
    shown = f"one point a case, n = {len(table) // 2} for each sampler; on the line the bound is attained"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.8) as (_, panels):
        for axes, arm in zip(panels, ("sde", "ode"), strict=True):
            of_arm = table.xs(arm, level="arm")
            axes.plot(of_arm["bound_w2"], of_arm["distance_w2"], "o", markersize=2.5, alpha=0.5, color=COLOUR[arm])
            axes.plot(ends, ends, color="black", linewidth=0.8)
            axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=NAME[arm])
            axes.set(xlabel="bound B (units of x)", ylabel="W₂ of the samples (units of x)", aspect="equal")


def draw_tightness(runs: pd.DataFrame, path: Path) -> None:
    """Draw the distribution of W2 / B over random Gaussians, and the ratio of the samplers' distances."""
    table = _affine(runs)
    ratios = (table["distance_w2"] / table["bound_w2"]).unstack("arm")
    samplers = table["distance_w2"].unstack("arm")
    question = "How tight is the bound, and which sampler is nearer to the data?"
    shown = f"share of random Gaussian cases to the left of a value, n = {len(ratios)} for each sampler"
    with drawing(path, question=question, shown=shown, columns=2) as (_, (left, right)):
        for arm in ("sde", "ode"):
            _draw_distribution(left, ratios[arm], COLOUR[arm], NAME[arm])
        left.set(xlabel="W₂ / B (1: attained)", ylabel="share of cases", xlim=(0, 1.02))
        left.legend()
        _draw_distribution(right, samplers["sde"] / samplers["ode"], COLOURS[2], "")
        right.axvline(1, color=NEUTRAL, linewidth=0.8)
        right.set(xscale="log", xlabel="W₂ of the SDE / W₂ of the ODE", ylabel="share of cases")


def _draw_distribution(axes: Axes, values: pd.Series, colour: str, label: str) -> None:
    ordered = np.sort(values.to_numpy())
    axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=colour, label=label)


def draw_mixtures(runs: pd.DataFrame, path: Path) -> None:
    """Draw W2 and bound of both samplers against how far apart the clusters are, for a shifted score."""
    rows = runs[runs["experiment"] == "mixture"]
    rows = rows[rows["config"].map(lambda text: json.loads(text)["perturbation"]["amplitude"] == 0)]
    rows = rows.assign(separation=_separation(rows))
    table = rows.pivot(index=["arm", "separation"], columns="metric", values="value")
    question = "What does the distance of two modes do to the bound, and to W₂?"
    shown = "one point a mixture, score shifted by 0.2; no Monte Carlo, nothing is random"
    with drawing(path, question=question, shown=shown, height_in=3.4) as (_, (axes,)):
        for arm in ("sde", "ode"):
            of_arm = table.loc[arm]
            axes.plot(of_arm.index, of_arm["distance_w2"], "o-", color=COLOUR[arm], label=f"W₂, {NAME[arm]}")
            axes.plot(of_arm.index, 10 ** of_arm["log10_bound_w2"], "s--", color=COLOUR[arm], label=f"B, {NAME[arm]}")
        axes.set(yscale="log", xlabel="distance of the modes / standard deviation of one")
        axes.set_ylabel("W₂ and B (units of x)")
        axes.legend(ncols=2)


def draw_slack(runs: pd.DataFrame, path: Path) -> None:
    """Draw log10 (B / W2) as a stack of what supremum, Cauchy-Schwarz and coupling add, one panel a sampler."""
    rows = runs[runs["experiment"] == "slack"]
    rows = rows.assign(separation=_separation(rows))
    means = rows.groupby(["arm", "separation", "metric"])["value"].mean().unstack("metric")
    parts = (
        ("coupling", "log10_coupled_w2", "log10_distance_w2"),
        ("Cauchy-Schwarz", "log10_averaged_bound_w2", "log10_coupled_w2"),
        ("supremum in Lₛ", "log10_bound_w2", "log10_averaged_bound_w2"),
    )
    seeds = rows["seed"].nunique()
    question = "Where does the slack of the bound come from, if the score is shifted?"
    shown = f"means over {seeds} draws of coupled pairs; score shifted by 0.2; bars stack up to B / W₂"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.6) as (_, panels):
        for axes, arm in zip(panels, ("sde", "ode"), strict=True):
            of_arm = means.loc[arm]
            positions, height = np.arange(len(of_arm)), np.zeros(len(of_arm))
            for number, (label, above, below) in enumerate(parts):
                # Time steps and sampling may put a difference a little below zero where it is nothing.
                added = (of_arm[above] - of_arm[below]).clip(lower=0).to_numpy()
                axes.bar(positions, added, bottom=height, color=COLOURS[number], label=label)
                height = height + added
            axes.set_xticks(positions, [f"{value:.1f}" for value in of_arm.index])
            axes.set(xlabel="distance of the modes / std. deviation", ylabel="log₁₀ (B / W₂)", title=NAME[arm])
        panels[0].legend(loc="upper left")


def draw_dimensions(runs: pd.DataFrame, path: Path) -> None:
    """Draw B / W2 against the dimension, one point a case, and the geometric mean with a 95 % interval over seeds."""
    rows = runs[runs["experiment"] == "dimension"]
    table = rows.pivot(index=["arm", "seed", "config"], columns="metric", values="value").reset_index()
    table = table.assign(d=configured(table, "dimension"), slack=np.log(table["bound_w2"] / table["distance_w2"]))
    dimensions = sorted(table["d"].unique())
    question = "Is the bound looser in more dimensions?"
    seeds = table["seed"].nunique()
    shown = f"faint: one point a case; squares: geometric mean and 95 % interval over blocks of cases, n = {seeds}"
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        for arm, side in (("sde", 0.95), ("ode", 1.05)):
            of_arm = table[table["arm"] == arm]
            axes.plot(side * of_arm["d"], np.exp(of_arm["slack"]), "o", markersize=3, alpha=0.3, color=COLOUR[arm])
            for d in dimensions:
                blocks = of_arm[of_arm["d"] == d].groupby("seed")["slack"].mean()
                _draw_interval(axes, side * d, blocks, COLOUR[arm], label=NAME[arm] if d == dimensions[0] else None)
        axes.set(xscale="log", yscale="log", xlabel="dimension (number of coordinates)", ylabel="B / W₂ (no unit)")
        axes.set_xticks(dimensions, [f"{d:g}" for d in dimensions])
        axes.minorticks_off()
        axes.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
        axes.legend()


def _draw_interval(axes: Axes, x: float, logs: pd.Series, colour: str, label: str | None = None) -> None:
    """Draw the exponential of a mean and of its 95 % interval over seeds."""
    interval = paired_interval(logs.to_numpy())
    if interval is None:
        axes.plot([x], [np.exp(logs.iloc[0])], "s", color=colour, label=label)
        return
    middle, low, high = np.exp([interval.estimate, interval.low, interval.high])
    axes.errorbar([x], [middle], yerr=[[middle - low], [high - middle]], fmt="s", color=colour, capsize=4, label=label)


def draw_outside(runs: pd.DataFrame, path: Path) -> None:
    """Draw the offset against T, and W2 against time steps, both with the exact score."""
    offsets, steps = (runs[runs["experiment"] == name] for name in ("offset", "discretisation"))
    offsets = offsets.assign(x=configured(offsets, "horizon"))
    steps = steps.assign(x=configured(steps, "num_steps"))
    question = "What do the prior and the time steps cost, with the exact score?"
    shown = "one point a horizon or a number of steps; data N(1, ¼); closed forms, nothing is random"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.4) as (_, (left, right)):
        for arm in ("sde", "ode"):
            of_arm = offsets[offsets["arm"] == arm].pivot(index="x", columns="metric", values="value")
            bound, found = {"fillstyle": "none", "label": f"B, {NAME[arm]}"}, {"label": f"W₂, {NAME[arm]}"}
            left.plot(of_arm.index, of_arm["offset_w2"], "s--", color=COLOUR[arm], **bound)
            left.plot(of_arm.index, of_arm["distance_w2"], "o", color=COLOUR[arm], markersize=3, **found)
            of_arm = steps[steps["arm"] == arm].sort_values("x")
            right.plot(of_arm["x"], of_arm["value"], "o-", color=COLOUR[arm], label=f"W₂, {NAME[arm]}")
        left.set(yscale="log", xlabel="horizon T", ylabel="distance (units of x)", title="start from N(0, 1)")
        right.set(xscale="log", yscale="log", xlabel="number of time steps", ylabel="distance (units of x)")
        right.set_title("start from $p_T$: the bound is 0")
        left.legend()
        right.legend()


def draw_training(runs: pd.DataFrame, path: Path) -> None:
    """Draw J, the largest L_s, and W2 with its bound for both samplers against the length of training."""
    table = trained(runs)
    question = "What happens to loss, constant, distance and bound as training gets longer?"
    seeds = table.index.get_level_values("seed").nunique()
    shown = f"one point a training run with its rate annealed to zero, n = {seeds} seeds; lines: geometric means"
    with drawing(path, question=question, shown=shown, columns=3, height_in=3.6) as (_, (left, middle, right)):
        _draw_seeds(left, table["score_loss"], COLOURS[2])
        _draw_seeds(middle, table["slope_largest"], COLOURS[3])
        for arm in ("sde", "ode"):
            _draw_seeds(right, table[f"distance_w2_{arm}"], COLOUR[arm], label=f"W₂ {NAME[arm]}")
            _draw_seeds(right, 10 ** table[f"log10_bound_w2_{arm}"], COLOUR[arm], style="--", label=f"B {NAME[arm]}")
        left.set(yscale="log", ylabel="loss J (nats)")
        middle.set(yscale="symlog", ylabel="largest Lₛ(t) (x⁻²)")
        right.set(yscale="log", ylabel="W₂ and B (units of x)")
        right.legend(fontsize=7, loc="lower left")
        for axes in (left, middle, right):
            axes.set(xscale="log", xlabel="length of training (steps)")


def _draw_seeds(axes: Axes, values: pd.Series, colour: str, *, style: str = "-", label: str | None = None) -> None:
    """Draw one point a seed and the geometric mean over seeds; `values` are positive, by seed and one other level."""
    means = _means(values)
    axes.plot(values.index.get_level_values(1), values, "o", markersize=2, color=colour, alpha=0.4)
    axes.plot(means.index, means, style, color=colour, label=label)


def _means(values: pd.Series) -> pd.Series:
    return np.exp(np.log(values).groupby(level=1).mean())


def draw_ranking(runs: pd.DataFrame, path: Path) -> None:
    """Draw the share of networks whose samplers the bound ranks wrongly against the length of training."""
    question = "For how many networks does the bound rank the samplers the wrong way?"
    tables = {arm: trained(runs, arm=arm) for arm in WAYS}
    seeds = {arm: table.index.get_level_values("seed").nunique() for arm, table in tables.items()}
    shown = f"one point a length of training, {seeds['annealed']} networks each; dashed: variations"
    with drawing(path, question=question, shown=shown, height_in=3.4) as (_, (axes,)):
        for number, (arm, label) in enumerate(WAYS.items()):
            share = ranked_wrongly(tables[arm]).groupby(level="step").mean()
            style = "o-" if arm == "annealed" else "o--"
            label = f"{label}, n = {seeds[arm]}"
            axes.plot(share.index, share, style, color=COLOURS[number], markersize=4, alpha=0.8, label=label)
        axes.axhline(0.5, color=NEUTRAL, linewidth=0.8)
        axes.set(xscale="log", ylim=(-0.04, 1.04), xlabel="length of training (steps)", ylabel="share ranked wrongly")
        axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


def draw_against_loss(runs: pd.DataFrame, path: Path) -> None:
    """Draw W2 and B against J over lengths of training, one point a run, beside lines of slope one half."""
    table = trained(runs)
    question = "Do distance and bound follow the root of the loss?"
    seeds = table.index.get_level_values("seed").nunique()
    shown = f"one point a training run, n = {seeds} seeds; lines: geometric means by length, longer ones to the left"
    loss = table["score_loss"]
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.6) as (_, (left, right)):
        for arm in ("sde", "ode"):
            bounds = 10 ** table[f"log10_bound_w2_{arm}"]
            for axes, values in ((left, table[f"distance_w2_{arm}"]), (right, bounds)):
                axes.plot(loss, values, "o", markersize=3, alpha=0.5, color=COLOUR[arm])
                axes.plot(_means(loss), _means(values), color=COLOUR[arm], label=NAME[arm])
        for axes, values in ((left, table["distance_w2_sde"]), (right, 10 ** table["log10_bound_w2_sde"])):
            ends = np.array([loss.min(), loss.max()])
            middle = np.exp(np.log(values).mean() - np.log(loss).mean() / 2)
            axes.plot(ends, middle * np.sqrt(ends), color="black", linewidth=1, linestyle=":", label="slope ½")
            axes.set(xscale="log", yscale="log", xlabel="loss J (nats)")
        left.set(ylabel="W₂ (units of x)")
        right.set(ylabel="bound B (units of x)")
        left.legend()


def draw_end_of_training(runs: pd.DataFrame, path: Path) -> None:
    """Draw W2, bound with the averaged slope, and bound of the longest training: one point a seed, mean, 95 %."""
    table = trained(runs).reset_index("step")
    end = table[table["step"] == table["step"].max()]
    columns = []
    for arm in ("sde", "ode"):
        columns += [
            (arm, "W₂", np.log(end[f"distance_w2_{arm}"])),
            (arm, "B, slope\naveraged", np.log(10) * end[f"log10_averaged_bound_w2_{arm}"]),
            (arm, "B", np.log(10) * end[f"log10_bound_w2_{arm}"]),
        ]
    question = "How loose is the bound for a trained network, and why?"
    shown = f"one point a seed, n = {len(end)}; squares: geometric mean and 95 % interval"
    with drawing(path, question=question, shown=shown) as (_, (axes,)):
        for position, (arm, _, logs) in enumerate(columns):
            axes.plot(np.full(len(logs), position), np.exp(logs), "o", color=COLOUR[arm], alpha=0.4, markersize=4)
            _draw_interval(axes, position + 0.2, logs, "black")
        axes.set_xticks(range(len(columns)), [f"{name}\n{NAME[arm]}" for arm, name, _ in columns])
        axes.set(yscale="log", xlabel="quantity and sampler", ylabel="distance (units of x)")


def draw_integrand(runs: pd.DataFrame, path: Path) -> None:
    """Draw L_s and the integrand w I e over t at the end of training."""
    rows = runs[(runs["experiment"] == "trained") & runs["metric"].str.contains("_at_t_")]
    names = rows["metric"].str.split("_at_t_", expand=True).reindex(columns=[0, 1])
    rows = rows.assign(name=names[0], t=names[1].astype(float))
    table = rows.pivot(index=["seed", "t"], columns="name", values="value")
    question = "Which times make the bound of a trained network?"
    shown = f"end of training; points: seeds, n = {table.index.get_level_values('seed').nunique()}; lines: means"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.4) as (_, (left, right)):
        slopes = table["slope"].groupby(level="t").mean()
        left.plot(table.index.get_level_values("t"), table["slope"], "o", markersize=3, color=COLOURS[3], alpha=0.5)
        left.plot(slopes.index, slopes, color=COLOURS[3], label="network")
        exact = table["exact_slope"].groupby(level="t").first()
        left.plot(exact.index, exact, color="black", linewidth=1.5, label="exact score")
        for arm in ("sde", "ode"):
            _draw_seeds(right, table[f"integrand_{arm}"], COLOUR[arm], label=NAME[arm])
        left.set(xlabel="time t (T = 1)", ylabel="one-sided constant Lₛ(t) (x⁻²)", yscale="symlog")
        right.set(xlabel="time t (T = 1)", ylabel="integrand w I e (units of x)", yscale="log")
        left.legend()
        right.legend()


def draw_techniques(runs: pd.DataFrame, path: Path) -> None:
    """Draw estimated bound and debiased W2 of the SDE at the end of training in the plane, one point a seed."""
    rows = runs[runs["experiment"] == "techniques"]
    floors = rows[rows["metric"] == "floor_debiased_w2_sde"]["value"]
    end = rows[rows["step"] == rows["step"].max()]
    table = end.pivot(index="seed", columns=["metric", "arm"], values="value")
    question = "Does a technique tighten the estimated bound, at no cost in distance?"
    shown = f"SDE, end of training; one point a seed, n = {len(table)}; bars: means; dotted: exact score, same steps"
    with drawing(path, question=question, shown=shown, columns=2) as (_, (left, right)):
        for position, arm in enumerate(TECHNIQUES):
            bounds = 10 ** table[("log10_estimated_bound_w2_sde", arm)]
            for axes, values in ((left, bounds), (right, table[("debiased_w2_sde", arm)])):
                axes.plot(values, np.full(len(values), position), "o", color=COLOURS[position], alpha=0.6)
                middle = np.exp(np.log(values).mean()) if axes is left else values.mean()
                axes.plot(middle, position, "|", color="black", markersize=14)
        right.axvline(floors.mean(), color=NEUTRAL, linewidth=0.8, linestyle=":")
        left.set_yticks(range(len(TECHNIQUES)), list(TECHNIQUES.values()))
        right.set_yticks(range(len(TECHNIQUES)), [""] * len(TECHNIQUES))
        left.set(xscale="log", xlabel="estimated bound B (units of x)", ylabel="technique")
        right.set(xlabel="debiased W₂ (units of x)", ylabel="technique")


def draw_search(trials: pd.DataFrame, path: Path) -> None:
    """Draw J at the end of training against the rate, every trial on every tuning seed, the selected rates ringed."""
    trials = trials.assign(lr=configured(trials, "lr"))
    question = "Which learning rates were tried, and which were selected?"
    shown = "one point a trial and tuning seed; ringed: the selected rate; a diverged trial is not drawn"
    names = {"trained": {"annealed": "on the line"}, "techniques": TECHNIQUES}
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.4) as (_, panels):
        for axes, (experiment, arms) in zip(panels, names.items(), strict=True):
            for number, (arm, label) in enumerate(arms.items()):
                rows = trials[(trials["experiment"] == experiment) & (trials["arm"] == arm)]
                axes.plot(rows["lr"], rows["value"], "o", markersize=4, alpha=0.6, color=COLOURS[number], label=label)
                best = rows[rows["selected"]]
                axes.plot(best["lr"], best["value"], "o", markersize=9, fillstyle="none", color=COLOURS[number])
            axes.set(xscale="log", yscale="log", xlabel="peak learning rate", ylabel="loss J at the end (nats)")
            axes.legend()


def draw_finite_sets(runs: pd.DataFrame, path: Path) -> None:
    """Draw the SDE's bound, estimated from below, and its W2 along training on the source's point sets."""
    rows = runs[(runs["experiment"] == "finite_set") & (runs["status"] == "ok")]
    table = rows.pivot(index=["arm", "seed", "step"], columns="metric", values="value")
    question = "What happens to bound and distance on the source's points?"
    seeds = rows["seed"].nunique()
    shown = f"SDE, n = {seeds} seeds; W₂: geometric mean, plain, biased upwards; B: estimated from below"
    with drawing(path, question=question, shown=shown, columns=2, height_in=3.6) as (_, panels):
        for axes, (arm, title) in zip(panels, POINT_SETS.items(), strict=True):
            _draw_seeds(axes, table.loc[arm]["plain_w2_sde"], COLOURS[0], label="W₂")
            # The seeds' estimates are orders apart and cross: a mean would hide that.
            bounds = 10 ** table.loc[arm]["log10_estimated_bound_w2_sde"].unstack("seed")
            axes.plot(bounds.index, bounds, "o--", markersize=2, color=COLOURS[1], alpha=0.6)
            axes.plot([], [], "o--", markersize=2, color=COLOURS[1], label="B, estimate, one line a seed")
            axes.set(xscale="log", yscale="log", xlabel="optimizer steps", ylabel="W₂ and B (units of x)", title=title)
            axes.legend()


def _affine(runs: pd.DataFrame) -> pd.DataFrame:
    """Arrange the random Gaussians: index seed, case and arm."""
    rows = runs[(runs["experiment"] == "affine") & runs["metric"].isin(["distance_w2", "bound_w2"])]
    return rows.pivot(index=["seed", "step", "arm"], columns="metric", values="value")


def _separation(rows: pd.DataFrame) -> pd.Series:
    """Distance of the modes over the standard deviation of one."""
    return 2 * configured(rows, "mean") / np.sqrt(configured(rows, "variance"))


if __name__ == "__main__":
    draw(*folders())

"""Gaussian mixtures on the line, fitted by EM (scikit-learn) or L-BFGS from the same start."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from replications.fourier_density.density import LBFGS, MAX_STEPS, Fit, Floats

BLOCK = 512  # points evaluated together


@dataclass(frozen=True)
class Mixture:
    """sum_k w_k N(y; m_k, v_k): weights, means and variances, each (components,)."""

    weights: Floats
    means: Floats
    variances: Floats

    def log_parts(self, y: Floats) -> Floats:
        """Return log w_k N(y_i; m_k, v_k): (components, points)."""
        with np.errstate(divide="ignore"):  # a weight may vanish
            shared = np.log(self.weights) - 0.5 * np.log(2 * np.pi * self.variances)
        return shared[:, None] - 0.5 * (y - self.means[:, None]) ** 2 / self.variances[:, None]

    def log_pdf(self, y: Floats) -> Floats:
        """Return the log-density: (points,)."""
        blocks = [y[start : start + BLOCK] for start in range(0, len(y), BLOCK)]
        return np.concatenate([logsumexp(self.log_parts(block), axis=0) for block in blocks])


def start_wide(y: Floats, components: int, floor: float, seed: int) -> Mixture:
    """Start from centres uniform over the range of y, all with its standard deviation."""
    means = np.random.default_rng(seed).uniform(y.min(), y.max(), components)
    return Mixture(np.full(components, 1 / components), means, np.full(components, y.var() + floor))


def start_narrow(y: Floats, components: int, floor: float, seed: int) -> Mixture:
    """Start from the centres of `start_wide`, with half their mean distance as standard deviation."""
    wide, width = start_wide(y, components, floor, seed), (y.max() - y.min()) / (2 * components)
    return Mixture(wide.weights, wide.means, np.full(components, width**2 + floor))


def start_kmeans(y: Floats, components: int, floor: float, seed: int) -> Mixture:
    """Start from clusters of k-means (seeded by k-means++), which is scikit-learn's default."""
    found = KMeans(components, n_init=1, random_state=seed).fit(y[:, None])  # pyright: ignore[reportArgumentType]
    labels, means = np.asarray(found.labels_), np.asarray(found.cluster_centers_)[:, 0]
    counts = np.bincount(labels, minlength=components)
    squares = np.bincount(labels, (y - means[labels]) ** 2, components)
    return Mixture(counts / len(y), means, squares / counts + floor)


STARTS: dict[str, Callable[[Floats, int, float, int], Mixture]] = {
    "wide": start_wide, "narrow": start_narrow, "kmeans": start_kmeans,
}  # fmt: skip


def fit_em(y: Floats, start: Mixture, floor: float) -> Fit[Mixture]:
    """Run EM until a step adds less than 1e-8 nats a point; the floor is added to every variance of a step."""
    model = GaussianMixture(
        len(start.means), tol=1e-8, max_iter=MAX_STEPS, reg_covar=floor, weights_init=start.weights,
        means_init=start.means[:, None], precisions_init=1 / start.variances[:, None, None],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the fit says so itself
        model.fit(y[:, None])
    weights, means, variances = (np.asarray(one) for one in (model.weights_, model.means_, model.covariances_))
    found = Mixture(weights, means[:, 0], variances[:, 0, 0])
    return Fit(found, -float(model.score(y[:, None])), bool(model.converged_))


def of_parameters(parameters: Floats, floor: float) -> Mixture:
    """Read weights (by softmax), means, and variances (floor plus an exponential) from what is trained."""
    logits, means, logs = np.split(parameters, 3)
    return Mixture(softmax(logits), means, floor + np.exp(logs))


def objective(parameters: Floats, y: Floats, floor: float) -> tuple[float, Floats]:
    """Return the negative mean log-likelihood of `of_parameters`, in nats, and its gradient."""
    mixture = of_parameters(parameters, floor)
    parts = mixture.log_parts(y)
    largest = parts.max(axis=0)
    parts -= largest
    shares = np.exp(parts, out=parts)
    totals = shares.sum(axis=0)
    # Shares of the points, their means and squares, by component: (components, 3).
    shares, first, second = (shares @ (np.array([np.ones_like(y), y, y**2]) / totals).T / len(y)).T
    variances, gaps = mixture.variances, first - mixture.means * shares
    squares = second - 2 * mixture.means * first + mixture.means**2 * shares
    of_variances = 0.5 * (squares / variances - shares) / variances
    gradient = np.concatenate([shares - mixture.weights, gaps / variances, of_variances * (variances - floor)])
    return -float(np.mean(largest + np.log(totals))), -gradient


def parameters_of(start: Mixture, floor: float) -> Floats:
    """Return the parameters of a start, whose variances lie above the floor."""
    above = np.maximum(start.variances - floor, 1e-3 * start.variances)
    return np.concatenate([np.log(start.weights), start.means, np.log(above)])


def fit_gradient(y: Floats, start: Mixture, floor: float) -> Fit[Mixture]:
    """Run L-BFGS as `density.fit` does, from the start that EM gets; variances stay below the squared range of y."""
    free = [(None, None)] * (2 * len(start.means))
    bounds = free + [(None, 2 * np.log(np.ptp(y)))] * len(start.means)
    begin = parameters_of(start, floor)
    found = minimize(objective, begin, (y, floor), "L-BFGS-B", jac=True, bounds=bounds, options=LBFGS)
    return Fit(of_parameters(found.x, floor), float(found.fun), bool(found.nit < MAX_STEPS))


FITS = {"em": fit_em, "gradient": fit_gradient}

"""Checks of arguments: each returns the value as float64, or raises ValueError naming argument, value and remedy."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ROUNDING = 1e-8  # of a covariance, relative to its largest entry
SUM_TOLERANCE = 1e-6  # of probabilities, which float32 adds up to a few 1e-7


def finite(name: str, values: ArrayLike) -> Array:
    """The values, none of them NaN or infinite."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        message = f"{name} has the value {array[index]} at index {index}: remove or repair NaN and inf before the call"
        raise ValueError(message)
    return array


def positive(name: str, values: ArrayLike) -> Array:
    """The values, all > 0."""
    array = nonnegative(name, values, wanted="> 0")
    if (array == 0).any():
        message = f"{name} has the value 0: pass numbers > 0"
        raise ValueError(message)
    return array


def nonnegative(name: str, values: ArrayLike, wanted: str = ">= 0") -> Array:
    """The values, all >= 0."""
    array = finite(name, values)
    if (array < 0).any():
        message = f"{name} has the value {array.min():g}: pass numbers {wanted}"
        raise ValueError(message)
    return array


def probabilities(name: str, values: ArrayLike) -> Array:
    """Weights >= 0 whose sum is 1 but for the rounding of float32, divided by their sum."""
    weights = nonnegative(name, values)
    total = weights.sum()
    if abs(total - 1) > SUM_TOLERANCE:
        message = f"{name} sum to {total:.6g}: divide them by their sum"
        raise ValueError(message)
    return weights / total


def grid_of_times(values: ArrayLike) -> Array:
    """A strictly increasing grid of times t >= 0, shape (n,), n >= 2."""
    t = nonnegative("t", values)
    if t.ndim != 1 or len(t) < 2:
        message = f"t has shape {t.shape}: pass at least two times in one dimension, as time_grid gives them"
        raise ValueError(message)
    if not (np.diff(t) > 0).all():
        index = int(np.argmin(np.diff(t)))
        message = f"t does not increase at index {index} (value {t[index]:g}): sort it and drop repetitions"
        raise ValueError(message)
    return t


def on_grid(name: str, values: ArrayLike, t: Array) -> Array:
    """Finite values whose last axis runs over the times t; a number, or a last axis of length 1, is a constant."""
    array = finite(name, values)
    if array.ndim and array.shape[-1] not in {1, len(t)}:
        message = f"{name} has shape {array.shape}: its last axis must have the length of t, {len(t)}"
        raise ValueError(message)
    return array


def _spectrum(name: str, values: ArrayLike) -> tuple[Array, Array, Array]:
    """Check covariances; return them made exactly symmetric, their eigenvalues, none below 0, and eigenvectors."""
    matrix = finite(name, values)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        message = f"{name} has shape {matrix.shape}: pass square matrices, shape (..., d, d)"
        raise ValueError(message)
    transposed = np.swapaxes(matrix, -1, -2)
    asymmetry = np.abs(matrix - transposed).max(axis=(-2, -1), initial=0.0)
    scale = np.abs(matrix).max(axis=(-2, -1), initial=0.0)
    if (asymmetry > ROUNDING * scale).any():
        message = f"{name} is not symmetric (by {asymmetry.max():g}): pass (C + C^T) / 2"
        raise ValueError(message)
    symmetric = (matrix + transposed) / 2
    # The check and the root see the same eigenvalues: eigvalsh and eigh may round one of them to different signs.
    eigenvalues, vectors = np.linalg.eigh(symmetric)
    least = eigenvalues.min(axis=-1, initial=np.inf)
    if (least < -ROUNDING * scale).any():
        message = f"{name} has the eigenvalue {least.min():g}: pass a matrix without negative eigenvalues"
        raise ValueError(message)
    return symmetric, np.maximum(eigenvalues, 0.0), vectors


def covariance(name: str, values: ArrayLike) -> Array:
    """Symmetric matrices without negative eigenvalues but for rounding, shape (..., d, d), made exactly symmetric."""
    return _spectrum(name, values)[0]


def covariance_root(name: str, values: ArrayLike) -> Array:
    """The symmetric roots of such matrices, shape (..., d, d); eigenvalues below 0 by rounding count as 0."""
    _, eigenvalues, vectors = _spectrum(name, values)
    return (vectors * np.sqrt(eigenvalues)[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def definite_covariance(name: str, values: ArrayLike) -> Array:
    """Symmetric matrices with eigenvalues > 0, shape (..., d, d), made exactly symmetric: they have an inverse."""
    matrix, eigenvalues, _ = _spectrum(name, values)
    if (eigenvalues == 0).any():
        message = f"{name} has the eigenvalue 0: pass a positive definite matrix"
        raise ValueError(message)
    return matrix


def sample(name: str, values: ArrayLike, ndim: int, least: int = 2) -> Array:
    """A sample with its points along the first axis, `ndim` axes, at least `least` points."""
    array = finite(name, values)
    if array.ndim != ndim:
        shape = "(n,)" if ndim == 1 else "(n, d)"
        message = f"{name} has shape {array.shape}: pass an array of shape {shape}"
        raise ValueError(message)
    if len(array) < least:
        message = f"{name} has {len(array)} points: at least {least} are needed; draw more"
        raise ValueError(message)
    return array

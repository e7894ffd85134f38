"""Checks of arguments: each returns the value as float64, or raises ValueError naming argument, value and remedy.

Every public function of the method passes its arguments through one of them, and so refuses NaN, inf, numbers out of
their range and shapes that do not fit.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SYMMETRY_TOLERANCE = 1e-8  # of the largest entry


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


def covariance(name: str, values: ArrayLike) -> Array:
    """Symmetric positive definite matrices, shape (..., d, d), made exactly symmetric."""
    matrix = finite(name, values)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        message = f"{name} has shape {matrix.shape}: pass square matrices, shape (..., d, d)"
        raise ValueError(message)
    transposed = np.swapaxes(matrix, -1, -2)
    asymmetry = np.abs(matrix - transposed).max(initial=0.0)
    if asymmetry > SYMMETRY_TOLERANCE * np.abs(matrix).max(initial=0.0):
        message = f"{name} is not symmetric (by {asymmetry:g}): pass (C + C^T) / 2"
        raise ValueError(message)
    symmetric = (matrix + transposed) / 2
    least = np.linalg.eigvalsh(symmetric).min(initial=np.inf)
    if least <= 0:
        message = f"{name} has the eigenvalue {least:g}: pass a positive definite matrix"
        raise ValueError(message)
    return symmetric


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

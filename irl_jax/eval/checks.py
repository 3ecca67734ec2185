"""Arrays that a measurement can be taken on: finite, of one rank, of one length."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from irl_jax.types import InputError

F64 = NDArray[np.float64]


def finite(name: str, x: ArrayLike, ndim: int | None = None) -> F64:
    """x as f64, once it is known to be non-empty, finite and of rank ndim.

    Args:
        name: what to call x in an error.
        x: real numbers or booleans, of any dtype.
        ndim: number of axes; any number from one if None.

    Raises:
        InputError: x is empty, of another rank, or has NaN or infinite entries.
    """
    array = np.asarray(x, dtype=np.float64)
    if array.ndim == 0 or (ndim is not None and array.ndim != ndim):
        want = "at least 1" if ndim is None else str(ndim)
        raise InputError(f"{name}: expected {want} axes, got shape {list(array.shape)}")
    if array.size == 0:
        raise InputError(f"{name}: is empty, shape {list(array.shape)}")
    bad = ~np.isfinite(array)
    if bad.any():
        first = [int(i) for i in np.argwhere(bad)[0]]
        raise InputError(f"{name}: {bad.sum()} of {array.size} not finite, the first at {first}")
    return array


def same_shape(**arrays: NDArray) -> None:
    """Raises `InputError` unless the named arrays have one shape."""
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise InputError(f"shapes differ: {shapes}")


def cluster_rows(n: int, clusters: ArrayLike | None) -> list[NDArray[np.intp]]:
    """Row numbers of each cluster, in order of label; each row alone if there are none.

    Args:
        n: number of rows.
        clusters: label of each row, [n], such as the number of its prompt.

    Raises:
        InputError: the number of labels is not n.
    """
    if clusters is None:
        return list(np.arange(n)[:, None])
    labels = np.asarray(clusters)
    if labels.shape != (n,):
        raise InputError(f"clusters: expected {n} labels, got shape {list(labels.shape)}")
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])

"""Populations of annotators whose values are known: features, attributes, comparisons.

A comparison is a difference of features Δ in D dimensions. Each of K attributes is a
direction; an annotator is K weights v, and prefers by the Bradley-Terry model with
logit v · (attributes of Δ). Attributes are uncorrelated and of unit variance over the
features, so that all measures are in whitened coordinates Δ / σ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irl_jax.eval.annotator import logistic_annotator, prefers_first
from irl_jax.types import InputError

MEAN, SPREAD = 0.5, 1.0  # of an annotator's weight on each attribute, over annotators
TYPES = 4  # kinds of annotators where there are kinds

Rng = np.random.Generator


@dataclass(frozen=True)
class World:
    """A population and the features that it compares.

    Attributes:
        about: one line on what is true in it.
        scale: f64[D], standard deviation σ of each feature of a difference.
        directions: rng -> f64[K, D], the attributes in whitened coordinates, orthonormal.
        values: (rng, N annotators) -> f64[N, K], their weights on the attributes.
        draw: (rng, n, new) -> f64[n, D], differences; `new` are those of new annotators.
    """

    about: str
    scale: np.ndarray
    directions: Callable[[Rng], np.ndarray]
    values: Callable[[Rng, int], np.ndarray]
    draw: Callable[[Rng, int, bool], np.ndarray]


def orthonormal(rng: Rng, rows: int, columns: int) -> np.ndarray:
    """Random orthonormal rows, uniformly, f64[rows, columns]."""
    return np.linalg.qr(rng.standard_normal((columns, rows)))[0].T


def worlds(dims: int, attributes: int, features: Path | None) -> dict[str, World]:
    """Name -> world; the last one only where there are real features.

    Args:
        dims: D.
        attributes: K.
        features: .npy or .npz of real features f32[N, 2, F], or None.

    Raises:
        InputError: K is above D, or the features cannot be read.
    """
    if not 1 <= attributes < dims:
        raise InputError(f"attributes: expected 1 to {dims - 1} (below dims), got {attributes}")
    tail = (1.0 + np.arange(dims - attributes)) ** -0.5
    steps = np.concatenate([8.0 * 0.75 ** np.arange(attributes), tail])
    equal = np.concatenate([np.full(attributes, 4.0), tail])
    main = np.eye(attributes, dims)
    turned = lambda rng: orthonormal(rng, attributes, attributes) @ main
    anywhere = lambda rng: orthonormal(rng, attributes, dims)
    continuum = lambda rng, n: MEAN + SPREAD * rng.standard_normal((n, attributes))

    def kinds(rng: Rng, n: int) -> np.ndarray:
        return continuum(rng, TYPES)[rng.integers(TYPES, size=n)]

    def normal(about: str, variance: np.ndarray, directions: Callable, values: Callable) -> World:
        scale = np.sqrt(variance)
        draw = lambda rng, n, new: scale * rng.standard_normal((n, dims))
        return World(about, scale, directions, values, draw)

    found = {
        "main axes": normal(
            "each attribute is an axis of large variance, all different", steps,
            lambda rng: main, continuum,
        ),
        "equal variances": normal(
            "attributes span the axes of large variance, which are equal", equal,
            turned, continuum,
        ),
        "unrelated": normal(
            "attributes have nothing to do with the variance of features", steps,
            anywhere, continuum,
        ),
        "types": normal(
            f"as main axes, but annotators are of {TYPES} types", steps, lambda rng: main, kinds
        ),
    }  # fmt: skip
    if features is not None:
        found["real features"] = real(features, dims, anywhere, continuum)
    return found


def real(path: Path, dims: int, directions: Callable, values: Callable) -> World:
    """Differences of real features, on the axes of greatest variance; attributes are made up.

    Raises:
        InputError: the file is not an array f32[N, 2, F] with enough rows and features.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        array = loaded if isinstance(loaded, np.ndarray) else loaded["features"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: expected features f32[N, 2, F] in .npy, or as `features` in .npz, such as "
            "language_model.npz of a run of experiments.hh_rlhf_embedding"
        ) from error
    if array.ndim != 3 or array.shape[1] != 2 or min(array.shape[0] // 2, array.shape[2]) < dims:
        raise InputError(
            f"{path}: expected shape [N, 2, F] with N / 2 and F of at least {dims} (dims), "
            f"got {list(array.shape)}"
        )
    difference = (array[:, 0] - array[:, 1]).astype(np.float64)
    axes = np.linalg.eigh(difference.T @ difference)[1][:, ::-1][:, :dims]
    rows = difference @ axes
    half = len(rows) // 2

    def draw(rng: Rng, n: int, new: bool) -> np.ndarray:
        part = rows[half:] if new else rows[:half]
        sign = rng.choice([-1.0, 1.0], size=(n, 1))
        return sign * part[rng.integers(len(part), size=n)]

    scale = np.sqrt((rows**2).mean(0))
    about = f"differences of {len(rows)} real pairs; attributes unrelated to their variance"
    return World(about, scale, directions, values, draw)


def compare(
    world: World, rng: Rng, directions: np.ndarray, values: np.ndarray, n: int, *, new: bool
) -> np.ndarray:
    """Comparisons of annotators, chosen minus rejected, f32[A, n, D].

    Args:
        world: the features.
        rng: of the draw.
        directions: f64[K, D], attributes in whitened coordinates.
        values: f64[A, K], the annotators' weights.
        n: comparisons of each annotator.
        new: whether they are new annotators, on other features than the first.
    """
    difference = world.draw(rng, len(values) * n, new).reshape(len(values), n, -1)
    attribute = (difference / world.scale) @ directions.T
    logit = np.einsum("ank,ak->an", attribute, values)
    first = prefers_first(logit, logistic_annotator(1.0), rng)
    return np.where(first[..., None], difference, -difference).astype(np.float32)

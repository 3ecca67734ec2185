"""Ways to a reward for a new annotator from a few comparisons: what a study of them compares.

All rewards are linear in the features, and all methods have seen the same comparisons of
other annotators.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from experiments.decomposed_preferences.population import MEAN, SPREAD
from irl_jax.losses.mixture import annotator_log_likelihood, mixture_likelihood, posterior
from irl_jax.rewards.directions import map_weights, principal_directions, softmax_weights
from irl_jax.rewards.embedding import EnsembleConfig, fit_members
from irl_jax.types import AnnotatorBatch, Loss, PyTree

POPULATION, PCA, SOFTMAX = "population reward", "PCA, MAP weights", "PCA, softmax weights"
ANNOTATORS, RANDOM = "annotators' directions, MAP weights", "random directions, MAP weights"
MIXTURE, SCRATCH = "mixture", "from scratch"
TRUE_DIRECTIONS, TRUE_WEIGHTS = "true directions, MAP weights", "true weights"
METHODS = (
    POPULATION, PCA, SOFTMAX, ANNOTATORS, MIXTURE, SCRATCH, RANDOM, TRUE_DIRECTIONS, TRUE_WEIGHTS
)  # fmt: skip
REFERENCES = (POPULATION, TRUE_DIRECTIONS, TRUE_WEIGHTS)
BASES = (PCA, ANNOTATORS, RANDOM)
Method = Callable[[Array, Array], Array]
SHRINK = 0.1  # share of its diagonal in a covariance that is inverted


def reward_of(kernel: Array, z: Array) -> Array:
    """Linear rewards of both sides of differences, f32[A, C, 2, M]; that of the rejected is 0."""
    ahead = z @ kernel
    return jnp.stack([ahead, jnp.zeros_like(ahead)], axis=2)


def fit_mixture(
    z: Array, key: Array, start: Array, *, components: int, config: EnsembleConfig
) -> PyTree:
    """The best of several mixtures of linear rewards by likelihood.

    Args:
        z: chosen minus rejected, f32[A, C, D], standardised.
        key: typed PRNG key.
        start: f32[D], reward around which the components start.
        components: M.
        config: of the training; `members` is the number of restarts.

    Returns:
        {"kernel": f32[D, M], "logits": f32[M]}.
    """

    def objective(params: PyTree, rows: tuple[Array, AnnotatorBatch]) -> Loss:
        return mixture_likelihood(
            reward_of(params["kernel"], rows[0]), rows[1], logits=params["logits"]
        )

    def init(key: Array) -> PyTree:
        noise = 0.3 * jax.random.normal(key, (z.shape[-1], components))
        return {"kernel": start[:, None] + noise, "logits": jnp.zeros(components)}

    rows = (z, AnnotatorBatch(mask=jnp.ones(z.shape[:2], bool), weight=jnp.ones(len(z))))
    members, _ = fit_members(init, objective, rows, key, config=config)
    loss = jax.vmap(lambda params: objective(params, rows).mean)(members)
    return jax.tree.map(lambda x: x[jnp.argmin(loss)], members)


@partial(jax.jit, static_argnames="count")
def bases(z: Array, weight: Array, key: Array, count: int) -> dict[str, Array]:
    """Directions by each method, f32[K, D] each, of unit variance over the comparisons.

    Args:
        z: chosen minus rejected, f32[A, C, D].
        weight: f32[A], 0 for annotators that are left out.
        key: of the random directions.
        count: K.
    """
    _, c, d = z.shape
    flat, rows = z.reshape(-1, d), jnp.repeat(weight, c)
    pca, variance = principal_directions(flat, rows, count=count, centred=True)
    second = (rows[:, None] * flat).T @ flat / rows.sum()
    diagonal = jnp.diag(second)
    eigenvalues, axes = jnp.linalg.eigh((1 - SHRINK) * second + SHRINK * jnp.diag(diagonal))
    whiten = (axes / jnp.sqrt(eigenvalues)) @ axes.T
    mean = z.mean(1) @ whiten  # of each annotator; along his reward if features are normal
    theirs, _ = principal_directions(mean, weight, count=count, centred=False)
    chance = jax.random.normal(key, (count, d)) / jnp.sqrt(d * diagonal)
    return {PCA: pca / jnp.sqrt(variance)[:, None], ANNOTATORS: theirs @ whiten, RANDOM: chance}


def prior(z: Array, heads: Array) -> tuple[Array, Array]:
    """Mean f32[H] and precision f32[H, H] of annotators' weights on heads f32[H, D]."""
    zero, one = jnp.zeros(len(heads)), jnp.eye(len(heads))
    fit = lambda x: map_weights(x @ heads.T, jnp.ones(len(x)), mean=zero, precision=one)
    own = jax.vmap(fit)(z)
    covariance = jnp.cov(own.T).reshape(len(heads), -1) + 0.02 * jnp.eye(len(heads))
    return own.mean(0), jnp.linalg.inv(covariance)


def methods(
    z: Array, truth: Array, key: Array, *, count: int, components: int, config: EnsembleConfig
) -> dict[str, Method]:
    """Name -> (comparisons f32[n, D], their weights f32[n]) -> reward f32[D].

    Args:
        z: training comparisons, chosen minus rejected, f32[A, C, D].
        truth: f32[K, D], the attributes, read by `TRUE_DIRECTIONS` alone.
        key: typed PRNG key.
        count: K, directions of each basis; each also has the population reward as a head.
        components: rewards of the mixture.
        config: of the mixture's training.
    """
    a, c, d = z.shape
    flat = z.reshape(-1, d)
    scale = jnp.sqrt((flat**2).mean(0))
    shared = map_weights(flat / scale, jnp.ones(a * c), mean=jnp.zeros(d), precision=jnp.eye(d))
    population = shared / scale
    first = population / jnp.std(flat @ population)
    key, random_key = jax.random.split(key)
    found = {**bases(z, jnp.ones(a), random_key, count), TRUE_DIRECTIONS: truth}

    def fit_weights(directions: Array) -> Method:
        heads = jnp.concatenate([first[None], directions])
        mean, precision = prior(z, heads)
        return lambda x, w: map_weights(x @ heads.T, w, mean=mean, precision=precision) @ heads

    signed = jnp.concatenate([first[None], found[PCA], -found[PCA]])
    mixed = fit_mixture(z / scale, key, shared, components=components, config=config)
    kernel = mixed["kernel"] / scale[:, None]
    # The variance of a weight in whitened coordinates, known to this method alone.
    ridge = d / (count * (MEAN**2 + SPREAD**2)) * jnp.eye(d)

    def by_posterior(x: Array, w: Array) -> Array:
        evidence = annotator_log_likelihood(reward_of(kernel, x[None]), (w > 0)[None])
        return kernel @ posterior(evidence[0], mixed["logits"])

    return {
        POPULATION: lambda x, w: population,
        SOFTMAX: lambda x, w: softmax_weights(x @ signed.T, w, temperature=1.0) @ signed,
        MIXTURE: by_posterior,
        SCRATCH: lambda x, w: map_weights(x / scale, w, mean=jnp.zeros(d), precision=ridge) / scale,
        **{name: fit_weights(directions) for name, directions in found.items()},
    }


@partial(jax.jit, static_argnames=("count", "adaptation", "components", "config"))
def rewards(
    z: Array, new: Array, truth: Array, key: Array, *, adaptation: tuple[int, ...], **sizes: Any
) -> dict[str, Array]:
    """The reward that each method gives each new annotator, f32[A', N, D].

    Args:
        z: training comparisons, chosen minus rejected, f32[A, C, D].
        new: comparisons to adapt to, f32[A', n, D].
        truth: f32[K, D], the attributes.
        key: typed PRNG key.
        adaptation: N numbers of comparisons, the first of `new`, to adapt to.
        sizes: see `methods`.
    """
    seen = (jnp.arange(new.shape[1]) < jnp.array(adaptation)[:, None]).astype(jnp.float32)
    over = lambda f: jax.vmap(jax.vmap(f, in_axes=(None, 0)), in_axes=(0, None))(new, seen)
    return {name: over(method) for name, method in methods(z, truth, key, **sizes).items()}

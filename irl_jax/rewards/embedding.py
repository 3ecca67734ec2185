"""Reward models on embeddings of (prompt, completion), as an ensemble.

The language model that writes also reads: the hidden states of a completion, pooled,
are features good enough to learn a preference from in seconds. All members train in
one jitted program, vmapped.

Reference: Sun et al. 2025, "Reusing Embeddings: Reproducible Reward Model Research
in LLM Alignment without GPUs", arXiv 2502.04357; Coste et al. 2023, "Reward Model
Ensembles Help Mitigate Overoptimization", arXiv 2310.02743.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.losses.preference import bradley_terry
from irl_jax.masking import check_shape
from irl_jax.models.heads import apply_mlp, init_mlp
from irl_jax.types import Loss, Preference, PyTree, safe_divide

REACH = 4.0  # standard deviations of the training features


@flax.struct.dataclass
class EmbeddingReward:
    """An ensemble of M multilayer perceptrons on standardised features.

    Attributes:
        members: parameters of the perceptrons, every leaf with a leading axis M.
        mean: f32[F], of the training features.
        scale: f32[F], standard deviation of the training features; 1 where constant.
    """

    members: PyTree
    mean: Array
    scale: Array

    def __call__(self, features: Array) -> Array:
        """f32[..., F] -> f32[M, ...], the reward each member gives."""
        x = standardise(features, self.mean, self.scale).reshape(-1, features.shape[-1])
        reward = jax.vmap(apply_mlp, in_axes=(0, None))(self.members, x)
        return reward.reshape(-1, *features.shape[:-1])


def standardise(features: Array, mean: Array, scale: Array) -> Array:
    """(features − mean) / scale, clipped to `REACH` standard deviations.

    A policy soon writes what no comparison has covered; the clip keeps perceptrons
    from extrapolating there without bound.

    Args:
        features: f32[..., F].
        mean: f32[F].
        scale: f32[F].
    """
    return jnp.clip((features - mean) / scale, -REACH, REACH)


@dataclass(frozen=True)
class EnsembleConfig:
    """How an ensemble of reward models on embeddings is trained."""

    members: int = 5  # reward models, each with its own initialisation and data order
    widths: tuple[int, ...] = (64,)  # hidden layers of each perceptron
    steps: int = 200  # optimizer steps
    batch_size: int = 256  # pairs a step
    lr: float = 3e-4  # peak learning rate of AdamW, cosine decay to 0
    weight_decay: float = 1.0  # of AdamW


def moments(pairs: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of features, f32[F] each.

    Args:
        pairs: f32[N, 2, F].
        weight: f32[N], weight of each pair.

    Returns:
        The mean, and the standard deviation; 1 for a feature that is constant up to
        rounding, which would otherwise blow up on new data.
    """
    share = safe_divide(weight, 2 * weight.sum())[:, None, None]
    mean = (share * pairs).sum((0, 1))
    std = jnp.sqrt((share * (pairs - mean) ** 2).sum((0, 1)))
    return mean, jnp.where(std > 1e-5 * jnp.abs(mean), std, 1.0)


@partial(jax.jit, static_argnames=("config", "loss"))
def fit_ensemble(
    pairs: Array,
    weight: Array,
    key: Array,
    *,
    config: EnsembleConfig,
    loss: Callable[[Array, Preference], Loss] = bradley_terry,
) -> tuple[EmbeddingReward, Array]:
    """Reward models from pairs of embeddings, all members at once.

    To train on several splits at once, `jax.vmap` over weights and keys.

    Args:
        pairs: f32[N, 2, F], features of chosen (0) and rejected (1).
        weight: f32[N], weight of each pair, at least 0; features of weight 0 are not
            read and may be NaN.
        key: typed PRNG key.
        config: sizes and optimizer.
        loss: of rewards f32[B, 2] and their pairs; a loss of `losses.preference`.

    Returns:
        The ensemble, and the loss of each step f32[M, steps].

    Raises:
        InputError: if an array has the wrong shape.
    """
    check_shape("pairs", pairs, (None, 2, None))
    check_shape("weight", weight, pairs.shape[:1])
    n, _, f = pairs.shape
    counts = (weight > 0)[:, None, None]
    pairs = jnp.where(counts, pairs, 0.0)
    mean, scale = moments(pairs, weight)
    x = jnp.where(counts, standardise(pairs, mean, scale), 0.0)
    tx = optax.adamw(
        optax.cosine_decay_schedule(config.lr, config.steps), weight_decay=config.weight_decay
    )

    def mean_loss(params: PyTree, index: Array) -> Array:
        chosen = x[index]
        reward = apply_mlp(params, chosen.reshape(-1, f)).reshape(-1, 2)
        batch = Preference(
            context=None,
            action=chosen,
            mask=jnp.ones(reward.shape, bool),
            margin=jnp.zeros(len(index)),
            weight=weight[index],
        )
        return loss(reward, batch).mean

    def fit_one(key: Array) -> tuple[PyTree, Array]:
        init_key, data_key = jax.random.split(key)
        params = init_mlp(init_key, f, config.widths)

        def step(carry: tuple, key: Array) -> tuple[tuple, Array]:
            params, opt_state = carry
            index = jax.random.randint(key, (config.batch_size,), 0, n)
            value, grads = jax.value_and_grad(mean_loss)(params, index)
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), value

        keys = jax.random.split(data_key, config.steps)
        (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), keys)
        return params, losses

    members, losses = jax.vmap(fit_one)(jax.random.split(key, config.members))
    return EmbeddingReward(members, mean, scale), losses

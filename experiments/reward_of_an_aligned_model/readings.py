"""Rewards read from samples of a policy and of its reference, on features of the samples."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.valence.comparisons import learn, predict
from irl_jax.eval.ranking import spearman
from irl_jax.losses.divergence import discriminator_batch
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.rewards.embedding import EmbeddingReward, EnsembleConfig, fit_ensemble, moments
from irl_jax.types import PyTree

WEIGHTS = "log π/π_ref"
MARGIN, DISCRIMINATOR, COMPARED = "max-margin", "discriminator", "Bradley-Terry"
SAMPLED = (MARGIN, DISCRIMINATOR, COMPARED)  # what reads samples alone
READINGS = (WEIGHTS, *SAMPLED)


def max_margin(policy: Array, reference: Array) -> Array:
    """The linear reward of norm 1 under which a policy is furthest ahead of its reference.

    argmax of wᵀ(μ_π − μ_ref) over ‖σ ∘ w‖ ≤ 1, which is (μ_π − μ_ref)/σ² but for its scale:
    max-margin inverse RL with one other policy, on features in units of their standard
    deviations σ.

    Args:
        policy: f32[N, F], features of the policy's samples.
        reference: f32[N, F], of the reference's.

    Returns:
        w, f32[F]; the reward of a text is wᵀφ but for a constant.

    Reference: Abbeel & Ng 2004, "Apprenticeship learning via inverse reinforcement learning", ICML,
    section 3 (the margin); Joselowitz et al. 2024, arXiv 2410.12491.

    Differs: the margin is over the reference alone. It takes no best responses, which a policy
    that was held to its reference is not.
    """
    _, scale = moments(jnp.concatenate([policy, reference]), jnp.ones(2 * len(policy)))
    ahead = (policy.mean(0) - reference.mean(0)) / scale
    norm = jnp.linalg.norm(ahead)
    return ahead / jnp.where(norm > 0, norm, 1.0) / scale


@jax.jit
def furthest(features: Array, pairs: Array, judged: Array) -> Array:
    """Rewards by `max_margin` of S draws, f32[S, R].

    Args:
        features: f32[N, F], of all samples.
        pairs: i64[S, n, 2], a sample of the policy and one of the reference each.
        judged: f32[R, F].
    """
    return jax.vmap(lambda p: judged @ max_margin(*features[p.T]))(pairs)


@partial(jax.jit, static_argnames="config")
def told_apart(features: Array, pairs: Array, keys: Array, *, config: EnsembleConfig) -> PyTree:
    """Discriminators of the policy's samples from the reference's, leaves [S, ...].

    Args:
        features: f32[N, F], of all samples.
        pairs: i64[S, n, 2], a sample of the policy and one of the reference each.
        keys: typed PRNG keys [S].
        config: of the ensembles.
    """

    def one(pairs: Array, key: Array) -> EmbeddingReward:
        batch = discriminator_batch(jnp.arange(pairs.size) < len(pairs))
        rows = features[pairs.T.ravel()]
        return fit_ensemble(rows, batch, key, config=config, loss=binary_cross_entropy)[0]

    return jax.vmap(one)(pairs, keys)


def read(
    features: Array, pairs: np.ndarray, keys: Array, judged: Array, config: EnsembleConfig
) -> dict[str, np.ndarray]:
    """Each of `SAMPLED` -> rewards of the R judged texts in S draws, f32[S, R].

    Args:
        features: f32[N, F], of all samples.
        pairs: i64[S, n, 2], a sample of the policy and one of the reference to the same prompt.
        keys: typed PRNG keys [S].
        judged: f32[R, F].
        config: of the discriminator and of Bradley-Terry.
    """
    discriminator = told_apart(features, pairs, keys, config=config)
    found = {
        MARGIN: furthest(features, pairs, judged),
        DISCRIMINATOR: predict(discriminator, judged),
        COMPARED: compared(features, pairs, keys, judged, config),
    }
    return {name: np.asarray(reward) for name, reward in found.items()}


def compared(
    features: Array, pairs: np.ndarray, keys: Array, judged: Array, config: EnsembleConfig
) -> Array:
    """Rewards by Bradley-Terry of S draws, f32[S, R]; arguments as those of `read`."""
    weight = jnp.ones(pairs.shape[:2])
    return predict(learn(features, jnp.asarray(pairs), weight, keys, config=config), judged)


def shuffled(key: Array, adapter: PyTree) -> PyTree:
    """A LoRA with the same numbers in each of its matrices, in random places."""
    leaves, tree = jax.tree.flatten(adapter)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        tree,
        [
            jax.random.permutation(k, x.ravel()).reshape(x.shape)
            for k, x in zip(keys, leaves, strict=True)
        ],
    )


def orders(reward: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Spearman's correlation with gold among a prompt's answers, the mean over draws, f64[P].

    Args:
        reward: f[S, P, K], of S draws.
        gold: f64[P, K]; a prompt whose gold is the same throughout has no order and gives NaN.
    """
    return np.array(
        [
            np.mean([spearman(own, truth) for own in reward[:, p]]) if np.ptp(truth) else np.nan
            for p, truth in enumerate(gold)
        ]
    )

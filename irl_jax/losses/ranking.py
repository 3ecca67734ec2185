"""Losses of rewards from K responses that were put in order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import Link, logistic
from irl_jax.losses.reduction import weighted
from irl_jax.masking import as_float, check_shape
from irl_jax.types import InputError, Loss, Metrics, Ranking, safe_divide

_LEAST = -1e30  # reward of what was not ranked; finite, so that its gradient is


def _read(reward: Array, batch: Ranking) -> tuple[Array, Array, Array]:
    """reward f32[B, K] (0 where it does not count), ranked bool[B, K], weight f32[B].

    Rankings of fewer than two responses say nothing: their weight is 0.
    """
    reward = as_float("reward", reward, (None, None))
    b, k = reward.shape
    check_shape("batch.count", batch.count, (b,))
    if not jnp.issubdtype(jnp.result_type(batch.count), jnp.integer):
        raise InputError(
            f"batch.count: expected an integer dtype, got {jnp.result_type(batch.count)}"
        )
    weight = as_float("batch.weight", batch.weight, (b,))
    weight = jnp.where(batch.count > 1, weight, 0.0)
    ranked = (jnp.arange(k) < batch.count[:, None]) & (weight > 0)[:, None]
    return jnp.where(ranked, reward, 0.0), ranked, weight


def _metrics(reward: Array, ranked: Array, weight: Array) -> Metrics:
    """Share of a ranking's pairs in the right order, and whether its best comes first."""
    ahead = reward[:, :, None] - reward[:, None, :]
    pair = jnp.triu(ranked[:, :, None] & ranked[:, None, :], 1)
    right = jnp.where(pair, 0.5 * (1.0 + jnp.sign(ahead)), 0.0).sum((1, 2))
    others = jnp.where(ranked, reward, _LEAST)[:, 1:].max(-1, initial=_LEAST)
    return {
        "pair_accuracy": weighted(safe_divide(right, pair.sum((1, 2)).astype(right.dtype)), weight),
        "top_accuracy": weighted(0.5 * (1.0 + jnp.sign(reward[:, 0] - others)), weight),
    }


def plackett_luce(reward: Array, batch: Ranking, *, position_weight: Array | None = None) -> Loss:
    """Maximum likelihood of the Plackett-Luce model of rankings, which is ListMLE.

    L = Σₖ cₖ (log Σⱼ≥ₖ exp r(yⱼ) − r(yₖ)): the best is chosen among all, then the next
    among those left. With two responses it is Bradley-Terry.

    Args:
        reward: f32[B, K], rewards in the order of the ranking, the best first. What
            was not ranked, and rows of weight 0, may be NaN.
        batch: the rankings; those of fewer than two responses do not count.
        position_weight: cₖ, f32[K], constants; all 1 by default. (1, …, 1, 0, …, 0)
            looks at the top of the ranking alone; 2ᴷ⁻ᵏ − 1 is position-aware ListMLE.

    Returns:
        Loss a ranking (nats). Metrics: `pair_accuracy` and `top_accuracy` of a
        ranking; a tie counts one half.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Plackett 1975, "The analysis of permutations"; Xia et al. 2008, "Listwise
    approach to learning to rank" (ListMLE); Lan et al. 2014, "Position-aware ListMLE".
    """
    reward, ranked, weight = _read(reward, batch)
    scores = jnp.where(ranked, reward, _LEAST)
    left = jax.lax.cumlogsumexp(scores, axis=1, reverse=True)
    cost = jnp.where(ranked, left - reward, 0.0)
    if position_weight is not None:
        position_weight = as_float("position_weight", position_weight, reward.shape[1:])
        cost *= jax.lax.stop_gradient(position_weight)
    return Loss(*weighted(cost.sum(-1), weight), _metrics(reward, ranked, weight))


def all_pairs(reward: Array, batch: Ranking, *, link: Link = logistic) -> Loss:
    """The mean of a pairwise loss over all pairs of a ranking.

    L = 2 / (n (n − 1)) Σᵢ<ⱼ ℓ(r(yᵢ) − r(yⱼ)), n the length of the ranking: each ranking
    counts the same, however long.

    Args:
        reward: f32[B, K], rewards in the order of the ranking, the best first. What
            was not ranked, and rows of weight 0, may be NaN.
        batch: the rankings; those of fewer than two responses do not count.
        link: ℓ, from logits to losses.

    Returns:
        Loss a ranking, with the metrics of `plackett_luce`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Ouyang et al. 2022, "Training language models to follow instructions with
    human feedback", arXiv 2203.02155, eq. 1.
    """
    reward, ranked, weight = _read(reward, batch)
    pair = jnp.triu(ranked[:, :, None] & ranked[:, None, :], 1)
    cost = jnp.where(pair, link(reward[:, :, None] - reward[:, None, :]), 0.0).sum((1, 2))
    mean = safe_divide(cost, pair.sum((1, 2)).astype(cost.dtype))
    return Loss(*weighted(mean, weight), _metrics(reward, ranked, weight))

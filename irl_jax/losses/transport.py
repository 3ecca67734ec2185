"""Alignment by optimal transport: chosen rewards as a whole are to dominate rejected ones.

Not this response over that one, but every quantile of the one distribution over the same
quantile of the other (first-order stochastic dominance). On the line, optimal transport is
sorting. The quantiles are those of a (micro-)batch, so that, unlike all others, these losses
are no sums over rows: their value depends on how a batch is cut.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import Link, logistic
from irl_jax.losses.scores import log_ratio
from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import Loss, Preference, Rating, safe_divide


def transport_cost(x: Array, x_weight: Array, y: Array, y_weight: Array, link: Link) -> Array:
    """∫₀¹ ℓ(Qₓ(u) − Q_y(u)) du, Q the quantile functions of two weighted samples.

    Args:
        x: f32[N]; where its weight is 0 it does not count and may be NaN.
        x_weight: f32[N], at least 0.
        y: f32[M].
        y_weight: f32[M].
        link: ℓ.

    Returns:
        f32[]; 0 where a side has no weight.

    Example:
        >>> up, one = jnp.array([3.0, 1.0]), jnp.ones(2)
        >>> float(transport_cost(up, one, jnp.array([0.0, 2.0]), one, lambda z: z**2))
        1.0
    """
    x, x_level = _quantiles(x, x_weight)
    y, y_level = _quantiles(y, y_weight)
    level = jnp.sort(jnp.concatenate([x_level, y_level]))
    width = jnp.diff(level, prepend=0.0)
    middle = level - 0.5 * width
    at = lambda values, levels: values[
        jnp.minimum(jnp.searchsorted(levels, middle), values.shape[0] - 1)
    ]
    cost = link(at(x, x_level) - at(y, y_level))
    both = (x_weight.sum() > 0) & (y_weight.sum() > 0)
    return jnp.where(both, (width * cost).sum(), 0.0)


def _quantiles(x: Array, weight: Array) -> tuple[Array, Array]:
    """x in rising order, what does not count last, and the share of weight up to each."""
    order = jnp.argsort(jnp.where(weight > 0, x, jnp.inf))
    share = safe_divide(jnp.cumsum(weight[order]), weight.sum())
    return jnp.where(weight > 0, x, 0.0)[order], jnp.minimum(share, 1.0)


def aot(
    logp: Array, ref_logp: Array, batch: Preference, *, beta: float, link: Link = logistic
) -> Loss:
    """Alignment by optimal transport of pairs.

    L = ∫ ℓ(β Q(u) − β Q_ref(u)) du, Q the quantiles over pairs of
    log π(yʷ|x)/π(yˡ|x), and Q_ref those of log π_ref(yʷ|x)/π_ref(yˡ|x): the policy's
    margins are to dominate the reference's.

    Args:
        logp: f32[B, 2, T], log-probs of the completions under the policy (nats);
            index 0 is the chosen response. Read where `batch.mask` is true.
        ref_logp: f32[B, 2, T], the same under the reference policy; a constant.
        batch: the pairs; the margin is not read.
        beta: β > 0.
        link: ℓ, falling; convex in the paper.

    Returns:
        Loss a pair. Metric: `reward_margin`, the mean of β (Q − Q_ref).

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Melnyk et al. 2024, "Distributional Preference Alignment of LLMs via Optimal
    Transport", arXiv 2406.05882 (paired AOT).

    Differs: pairs may weigh differently; with equal weights it is the paper's sorting.
    """
    check_range("beta", beta, 0.0, exclusive=True)
    logp = as_float("logp", logp, (None, 2, None))
    ref_logp = as_float("ref_logp", ref_logp, logp.shape)
    check_mask("batch.mask", batch.mask, logp.shape)
    weight = as_float("batch.weight", batch.weight, logp.shape[:1])
    none = jnp.zeros_like(logp)
    own = log_ratio(logp, none, batch.mask)
    ref = log_ratio(none, ref_logp, batch.mask)  # −log π_ref
    margin, ref_margin = own[:, 0] - own[:, 1], ref[:, 1] - ref[:, 0]
    return _loss(beta * margin, weight, beta * ref_margin, weight, link, weight.sum())


def aot_unpaired(
    logp: Array, ref_logp: Array, batch: Rating, *, beta: float, link: Link = logistic
) -> Loss:
    """Alignment by optimal transport without pairs.

    L = ∫ ℓ(β Q_good(u) − β Q_bad(u)) du, Q the quantiles of log π(y|x)/π_ref(y|x) over good
    and over bad responses, of which there may be different numbers.

    Args:
        logp: f32[B, T], log-probs of the completions under the policy (nats).
        ref_logp: f32[B, T], the same under the reference policy; a constant.
        batch: the ratings; `score` is 1 for good, 0 for bad, or a probability between.
        beta: β > 0.
        link: ℓ, falling; convex in the paper.

    Returns:
        Loss a rating; 0 if all are good, or all bad. Metric: `reward_margin`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Melnyk et al. 2024, arXiv 2406.05882 (unpaired AOT).

    Differs: as in `aot`.
    """
    check_range("beta", beta, 0.0, exclusive=True)
    logp = as_float("logp", logp, (None, None))
    ref_logp = as_float("ref_logp", ref_logp, logp.shape)
    check_mask("batch.mask", batch.mask, logp.shape)
    score = as_float("batch.score", batch.score, logp.shape[:1])
    weight = as_float("batch.weight", batch.weight, logp.shape[:1])
    score = jnp.where(weight > 0, score, 0.0)
    reward = beta * log_ratio(logp, ref_logp, batch.mask)
    good, bad = weight * score, weight * (1.0 - score)
    return _loss(reward, good, reward, bad, link, weight.sum())


def _loss(x: Array, x_weight: Array, y: Array, y_weight: Array, link: Link, weight: Array) -> Loss:
    cost = transport_cost(x, x_weight, y, y_weight, link)
    margin = transport_cost(x, x_weight, y, y_weight, lambda z: z)
    return Loss(weight * cost, weight, {"reward_margin": (weight * margin, weight)})

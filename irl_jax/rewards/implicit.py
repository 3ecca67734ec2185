"""Rewards that are already in a policy: of its log-probs against another's, of its logits."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.returns import next_value
from irl_jax.masking import as_float, check_mask


def token_reward(logp: Array, baseline_logp: Array, mask: Array) -> Array:
    """The reward of every token that supervised fine-tuning has learned, up to shaping.

    r̂(s, a) = log π_SFT(a|s) − log π_base(a|s). If π_SFT is optimal for a reward r in
    units of its entropy, relative to π_base, then r̂(s, a) = r(s, a) + V(s') − V(s), V
    the soft value and V = 0 at the end: potential-based shaping, which changes no optimal
    policy. Summed over a completion it is r less V of the prompt, a constant a prompt.

    Args:
        logp: f32[..., T], log-probs under the fine-tuned policy (nats).
        baseline_logp: f32[..., T], log-probs of the same tokens under the baseline: the
            policy before fine-tuning, or an earlier checkpoint of it.
        mask: bool[..., T], tokens of the completion; elsewhere both may be NaN.

    Returns:
        f32[..., T], nats; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Li et al. 2025, "Beyond Imitation: Recovering Dense Rewards from
    Demonstrations", arXiv 2510.02493; Ng, Harada & Russell 1999, "Policy invariance under
    reward transformations" (shaping).

    Example:
        >>> logp, base = jnp.array([-0.5, -1.0, 0.0]), jnp.array([-1.5, -1.0, 0.0])
        >>> token_reward(logp, base, jnp.array([True, True, False])).tolist()
        [1.0, 0.0, 0.0]
    """
    logp = as_float("logp", logp, jnp.shape(mask))
    baseline_logp = as_float("baseline_logp", baseline_logp, jnp.shape(mask))
    check_mask("mask", mask, jnp.shape(mask))
    return jnp.where(mask, logp, 0.0) - jnp.where(mask, baseline_logp, 0.0)


def bellman_reward(
    q: Array,
    value: Array,
    mask: Array,
    *,
    discount: float | Array,
    final_value: Array | None = None,
) -> Array:
    """The reward for which the logits are a soft Q: r(s, a) = Q(s, a) − γ V(s′).

    Any decoder has one, by the inverse of the soft Bellman equation; V = 0 at the end. At γ = 1 the
    rewards of a completion add up to log π(o|x) + V(x). What a logit of all tokens alike adds to
    Q moves reward from one token to the next, and changes no policy: likelihood alone leaves it
    open, `losses.soft_q.iq_learn_lm` does not.

    Args:
        q: f32[..., T], the logit of each token: `models.logprob.completion_q`.
        value: f32[..., T], V of the context it was chosen in, logsumexp of the logits.
        mask: bool[..., T], tokens of the completion; elsewhere both may be NaN.
        discount: γ in [0, 1].
        final_value: f32[...], V of the state after a completion that was cut; 0 by default.

    Returns:
        f32[..., T], nats; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or γ is out of range.

    Reference: Garg et al. 2021, arXiv 2106.12142; Wulfmeier et al. 2024, arXiv 2409.01369.

    Example:
        >>> q, v, mask = jnp.array([1.0, 2.0]), jnp.array([1.5, 2.25]), jnp.ones(2, bool)
        >>> bellman_reward(q, v, mask, discount=1.0).tolist()
        [-1.25, 2.0]
    """
    following = next_value(value, mask, discount=discount, final_value=final_value)
    return jnp.where(mask, as_float("q", q, mask.shape), 0.0) - following

"""Inverse RL: the reward under which demonstrations are likely, or visited as often as they were.

A reward is planned for (`irl_jax.dynamics.planning`); the losses read what came of it. In a
deterministic process, and where the occupancies are exact, both have the same gradient. With
sampled demonstrations of a stochastic process they differ by the luck of the transitions.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.planning import cumulative_discount
from irl_jax.losses.reduction import token_mean, weighted
from irl_jax.masking import as_float, check_mask, check_range, masked_sum
from irl_jax.types import Loss, Trajectory

_REACH = 20.0  # nats; a log variance further from 0 counts as this


def causal_likelihood(logp: Array, batch: Trajectory, *, discount: float | Array) -> Loss:
    """Maximum causal entropy inverse RL, by the likelihood of the actions.

    L = −E_D Σₜ γᵗ log πₜ(aₜ | sₜ), where π is the soft policy of the reward that is learned. A
    maximum a posteriori estimate adds the prior of the reward.

    Args:
        logp: f32[B, T], log-probs of the demonstrated actions under the soft policy of the
            reward (nats); read where `batch.mask` is true.
        batch: demonstrations.
        discount: γ in [0, 1], or f32[B, T], γ after each action; 0 where the episode ends, or
            was cut (see `types.Trajectory`): what follows in the row does not count.

    Returns:
        Loss a demonstration (nats). Metrics: `nll`, nats an action, not discounted.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Ziebart 2010, "Modeling Purposeful Adaptive Behavior with the Principle of Maximum
    Causal Entropy", theorem 6.2; Gleave & Toyer 2022, "A Primer on Maximum Causal Entropy Inverse
    Reinforcement Learning", arXiv 2203.11409, section 3.

    Example:
        >>> absent, mask = None, jnp.array([[True, True, False]])
        >>> batch = Trajectory(absent, absent, mask, absent, absent, absent)
        >>> loss = causal_likelihood(jnp.array([[-1.0, -2.0, 0.0]]), batch, discount=0.5)
        >>> float(loss.mean)
        2.0
    """
    logp = as_float("logp", logp, (None, None))
    check_mask("batch.mask", batch.mask, logp.shape)
    check_range("discount", discount, 0.0, 1.0)
    after = jnp.broadcast_to(jnp.asarray(discount), logp.shape)
    cut = (after == 0) & (jnp.ndim(discount) > 0)
    after = jnp.where(batch.mask | cut, after, 1.0)
    discounts = cumulative_discount(after.astype(logp.dtype))
    cost = masked_sum(-discounts * jnp.where(batch.mask, logp, 0.0), batch.mask, axis=-1)
    total, weight = weighted(cost, batch.mask.any(-1).astype(logp.dtype))
    nll = masked_sum(-jnp.where(batch.mask, logp, 0.0), batch.mask)
    return Loss(total, weight, {"nll": (nll, batch.mask.sum().astype(logp.dtype))})


def occupancy_matching(reward: Array, policy: Array, demonstrated: Array) -> Loss:
    """Maximum causal entropy inverse RL, by the visits to states and actions.

    L = Σ_sa r(s, a) (μ_π(s, a) − μ_D(s, a)), the occupancies constant: its gradient is that of the
    dual, which is least where both agree on every feature of the reward. The value of L is none
    of the dual.

    Args:
        reward: f32[..., S, A], what is learned, a function of any features of (s, a).
        policy: f32[..., S, A], occupancy of the soft policy of the reward.
        demonstrated: f32[..., S, A], occupancy of the demonstrations.

    Returns:
        Loss of a weight of 1. Metrics: `gap`, Σ |μ_π − μ_D|, visits.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Ziebart, Bagnell & Dey 2010, "Modeling Interaction via the Principle of Maximum
    Causal Entropy", theorem 2.

    Example:
        >>> loss = occupancy_matching(
        ...     jnp.array([[2.0, 1.0]]), jnp.array([[0.5, 0.5]]), jnp.array([[0.75, 0.25]])
        ... )
        >>> float(loss.mean), float(loss.metrics["gap"][0])
        (-0.25, 0.5)
    """
    reward = as_float("reward", reward, jnp.shape(reward))
    policy = as_float("policy", policy, reward.shape)
    demonstrated = as_float("demonstrated", demonstrated, reward.shape)
    apart = jax.lax.stop_gradient(policy - demonstrated)
    one = jnp.ones((), reward.dtype)
    return Loss((reward * apart).sum(), one, {"gap": (jnp.abs(apart).sum(), one)})


def variational_reward(
    logp: Array,
    implied: Array,
    mean: Array,
    log_variance: Array,
    batch: Trajectory,
    *,
    multiplier: float | Array,
) -> Loss:
    """A posterior of the reward from demonstrations alone, by variational inference (AVRIL).

    L = E_D[−log π(a|s) + KL(q(r|s, a)‖N(0, 1)) − λ log q(Q(s, a) − γ Q(s′, a′)|s, a)], where
    q = N(m, σ²) is the posterior of the reward and π = softmax(βQ). The last term holds the reward
    that Q implies to the posterior; nothing is planned.

    Args:
        logp: f32[B, T], log-probs of the demonstrated actions under π (nats). Read where
            `batch.mask` is true, as are the others.
        implied: f32[B, T], Q(s, a) − γ Q(s′, a′): Q of the demonstrated actions less
            `dynamics.returns.next_value` of it.
        mean: f32[B, T], m of each action, in units of the prior's deviation.
        log_variance: f32[B, T], log σ²; beyond ±20 it counts as ±20.
        batch: demonstrations; its mask is read.
        multiplier: λ >= 0, of the constraint that Q and the reward agree.

    Returns:
        Loss an action (nats). Metrics: `nll`, `kl` and `consistency`, −log q of what Q implies.

    Raises:
        InputError: an array has the wrong shape or dtype, or the multiplier is negative.

    Reference: Chan & van der Schaar 2021, "Scalable Bayesian Inverse Reinforcement Learning", arXiv
    2102.06483.

    Example:
        >>> absent, mask, zeros = None, jnp.ones([1, 2], bool), jnp.zeros([1, 2])
        >>> batch = Trajectory(absent, absent, mask, absent, absent, absent)
        >>> logp = jnp.full([1, 2], -0.5)
        >>> loss = variational_reward(logp, zeros, zeros, zeros, batch, multiplier=1.0)
        >>> round(float(loss.mean), 4)  # 0.5 + ½ log 2π
        1.4189
    """
    check_range("multiplier", multiplier, 0.0)
    logp = as_float("logp", logp, (None, None))
    mask = batch.mask
    check_mask("batch.mask", mask, logp.shape)
    named = {"implied": implied, "mean": mean, "log_variance": log_variance}
    known = (as_float(name, x, logp.shape) for name, x in named.items())
    logp, implied, mean, log_variance = (jnp.where(mask, x, 0.0) for x in (logp, *known))
    log_variance = jnp.clip(log_variance, -_REACH, _REACH)
    kl = 0.5 * (jnp.exp(log_variance) + mean**2 - 1.0 - log_variance)
    square = (implied - mean) ** 2 * jnp.exp(-log_variance)
    apart = 0.5 * (math.log(2.0 * math.pi) + log_variance + square)
    metrics = {
        "nll": token_mean(-logp, mask),
        "kl": token_mean(kl, mask),
        "consistency": token_mean(apart, mask),
    }
    return Loss(*token_mean(kl - logp + multiplier * apart, mask), metrics)

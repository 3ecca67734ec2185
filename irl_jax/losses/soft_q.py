"""Imitation by a soft Q alone, of which policy and reward are both read.

Q says what to do, π = exp((Q − V)/τ) with V = τ log Σ_a exp(Q/τ), and what is rewarded: by the soft
Bellman equation r = Q − γ E V(s′), the inverse of `irl_jax.dynamics.planning`. The losses take Q
of the actions that were taken, V of their states, and `dynamics.returns.next_value` of V. For a
language model at τ = 1 these are the logit of each token and the logsumexp of its logits.

Where transitions are random, one sample of s′ stands for E V(s′): a φ that bends, or a square, then
also charges for the variance of V(s′).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from numbers import Real

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.returns import next_value
from irl_jax.losses.demonstration import nll
from irl_jax.losses.reduction import token_mean, weighted
from irl_jax.masking import as_float, check_mask, check_range, check_shape
from irl_jax.types import Demonstration, Loss, Rating, Trajectory

# φ of IQ-Learn: concave, from rewards to numbers, elementwise
Concave = Callable[[Array], Array]

STEEPEST = 30.0  # slope of a φ, ρ_π/ρ_E at the optimum; where it is steeper it goes on as a tangent


def _with_tangent(phi: Concave, least: float, x: Array) -> Array:
    """φ(x) from `least` on, where φ′ is `STEEPEST`, and below it the tangent there."""
    inside = jnp.maximum(x, least)
    return phi(inside) + STEEPEST * (x - inside)


def phi_chi_square(alpha: float | Array) -> Concave:
    """φ(x) = x − x²/4α: Pearson's χ² at α = 1, and rewards less bounded the larger α is.

    Args:
        alpha: α > 0, units of the reward.
    """
    check_range("alpha", alpha, 0.0, exclusive=True)
    return lambda x: x - x**2 / (4.0 * alpha)


def phi_total_variation(x: Array) -> Array:
    """φ(x) = min(x, ½) of total variation; below −½, where it is −∞, a line of slope `STEEPEST`."""
    return jnp.minimum(x, 0.5) + (STEEPEST - 1.0) * jnp.minimum(x + 0.5, 0.0)


def phi_forward_kl(x: Array) -> Array:
    """φ(x) = 1 + log x of KL(ρ_E‖ρ_π): rewards are positive; a tangent below 1/`STEEPEST`."""
    return _with_tangent(lambda x: 1.0 + jnp.log(x), 1.0 / STEEPEST, x)


def phi_reverse_kl(x: Array) -> Array:
    """φ(x) = −exp(−x − 1) of KL(ρ_π‖ρ_E); a tangent where it is steeper than `STEEPEST`."""
    return _with_tangent(lambda x: -jnp.exp(-x - 1.0), -1.0 - math.log(STEEPEST), x)


def phi_hellinger(x: Array) -> Array:
    """φ(x) = x/(1 + x), x > −1, of squared Hellinger; a tangent where steeper than `STEEPEST`."""
    return _with_tangent(lambda x: x / (1.0 + x), STEEPEST**-0.5 - 1.0, x)


def phi_jensen_shannon(x: Array) -> Array:
    """φ(x) = log(2 − exp(−x)), x > −log 2; a tangent where it is steeper than `STEEPEST`."""
    least = -math.log(2.0 * STEEPEST / (1.0 + STEEPEST))
    return _with_tangent(lambda x: jnp.log1p(-jnp.expm1(-x)), least, x)


def iq_learn(q: Array, value: Array, following: Array, batch: Trajectory, *, phi: Concave) -> Loss:
    """Inverse soft Q-learning from demonstrations alone.

    L = −E_E[φ(r)] + E_E[V(s) − γ V(s′)], r = Q − γ V(s′). At its least value φ′(r) = ρ_π/ρ_E, ρ the
    occupancies of the soft policy of Q and of the expert. With φ(x) = x, no penalty at all, L is
    τ times the negative log-likelihood of the actions, and the best policy is the expert's. Any
    other φ gives up some likeness for entropy: the best policy is at least as random as the
    expert. Under discounted occupancies the second term is (1 − γ) E V(s₀).

    Args:
        q: f32[B, T], Q of the actions that were taken. Read where `batch.mask` is true, as are the
            others.
        value: f32[B, T], V of the states in which they were taken.
        following: f32[B, T], γ V of the states after them: `dynamics.returns.next_value`.
        batch: demonstrations; its mask is read.
        phi: φ, such as `phi_chi_square(0.5)`; `phi_total_variation`, `phi_forward_kl`,
            `phi_reverse_kl`, `phi_hellinger`, `phi_jensen_shannon`; or x ↦ x.

    Returns:
        Loss an action (units of the reward). Metrics: `reward`, r, and `advantage`, Q − V, which is
        τ log π.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Garg et al. 2021, "IQ-Learn: Inverse soft-Q Learning for Imitation", arXiv
    2106.12142; Wulfmeier et al. 2024, "Imitating Language via Scalable Inverse Reinforcement
    Learning", arXiv 2409.01369 (language models).

    Differs: every action counts the same, however late; φ goes on as its tangent where it would be
    steeper than `STEEPEST`, as if ρ_π/ρ_E were at most that.

    Example:
        >>> absent, mask = None, jnp.ones([1, 2], bool)
        >>> batch = Trajectory(absent, absent, mask, absent, absent, absent)
        >>> q, v = jnp.array([[1.0, 2.0]]), jnp.array([[1.5, 2.25]])
        >>> after = jnp.array([[2.25, 0.0]])  # γ = 1, and the end
        >>> float(iq_learn(q, v, after, batch, phi=lambda x: x).mean)  # of V − Q
        0.375
    """
    q = as_float("q", q, (None, None))
    value = as_float("value", value, q.shape)
    following = as_float("following", following, q.shape)
    check_mask("batch.mask", batch.mask, q.shape)
    q, value, following = (jnp.where(batch.mask, x, 0.0) for x in (q, value, following))
    reward = q - following
    metrics = {
        "reward": token_mean(reward, batch.mask),
        "advantage": token_mean(q - value, batch.mask),
    }
    return Loss(*token_mean(value - following - phi(reward), batch.mask), metrics)


def iq_learn_lm(
    q: Array, value: Array, batch: Demonstration, *, lam: float | Array, discount: float | Array
) -> Loss:
    """Inverse soft Q-learning of a language model: likelihood, and rewards that stay small.

    L = E[−log π(a|s) + λ (Q(s, a) − γ V(s′))²], log π = Q − V, V = 0 after the last token. It is
    `iq_learn` with `phi_chi_square(1/4λ)`. λ = 0 is `nll` to the bit, which leaves V open: a number
    added to all logits of a context changes nothing. With λ > 0, V says how much comes after, and
    at the least value 1 − 2 λ r = ρ_π/ρ_E: the policy is the more random, the greater λ is. ρ_π is
    how often the policy comes to a context and token if it is put back onto a demonstration before
    each token with chance 1 − γ.

    Args:
        q: f32[B, T], the logits of `batch.tokens`: `models.logprob.sequence_q`. Read where
            `batch.mask` is true, as is V.
        value: f32[B, T], V of their contexts, logsumexp of the logits.
        batch: demonstrations, B rows of T tokens. What stands between two tokens to be predicted
            of one segment is part of the state in which the second is taken.
        lam: λ >= 0, 1/4α of the χ² divergence (a reward).
        discount: γ in [0, 1].

    Returns:
        Loss in nats a token. Metrics: those of `nll`, and `reward`, Q − γ V(s′).

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Wulfmeier et al. 2024, "Imitating Language via Scalable Inverse Reinforcement
    Learning", arXiv 2409.01369.

    Differs: every token counts the same, however late; a demonstration that was cut counts as
    ended.

    Example:
        >>> ones, mask = jnp.ones([1, 3], jnp.int32), jnp.array([[False, True, True]])
        >>> batch = Demonstration(tokens=ones, mask=mask, segment=ones)
        >>> q, v = jnp.array([[0.0, 1.0, 2.0]]), jnp.array([[0.0, 1.5, 2.5]])
        >>> float(iq_learn_lm(q, v, batch, lam=0.5, discount=1.0).mean)  # rewards −1.5 and 2
        2.0625
    """
    check_range("lam", lam, 0.0)
    q = as_float("q", q, (None, None))
    value = as_float("value", value, q.shape)
    check_mask("batch.mask", batch.mask, q.shape)
    check_shape("batch.segment", batch.segment, q.shape)
    q, value = (jnp.where(batch.mask, x, 0.0) for x in (q, value))
    following = next_value(value, batch.mask, discount=discount)
    later = next_value(batch.segment.astype(q.dtype), batch.mask, discount=1.0)
    reward = q - jnp.where(later == batch.segment, following, 0.0)
    likelihood = nll(q - value, batch)
    metrics = likelihood.metrics | {"reward": token_mean(reward, batch.mask)}
    if isinstance(lam, Real) and lam == 0:  # the same program, to the bit
        return replace(likelihood, metrics=metrics)
    squares, _ = token_mean(reward**2, batch.mask)
    return replace(likelihood, total=likelihood.total + lam * squares, metrics=metrics)


def iq_learn_online(
    q: Array, value: Array, following: Array, batch: Rating, *, alpha: float | Array
) -> Loss:
    """Inverse soft Q-learning from demonstrations and the policy's own samples, with χ².

    L = −E_E[r] + E_D[r²/4α] + E_D[V(s) − γ V(s′)], r = Q − γ V(s′), D half demonstrations and half
    samples. The penalty is on both: on demonstrations alone the rewards of samples are free. The
    least value has r = 2α (ρ_E − ρ_π)/ρ_D, ρ_π of the soft policy of Q; where the samples are its
    own, that is at most 4α either way.

    Args:
        q: f32[N], Q of the actions that were taken. Rows of weight 0 may be NaN, as in the others.
        value: f32[N], V of the states in which they were taken.
        following: f32[N], γ V of the states after them: `dynamics.returns.next_value`. After the
            end of a demonstration V may be 4α/(1 − γ), and of a sample −4α/(1 − γ): the bounds of
            r, for ever.
        batch: transitions; `score` is 1 for a demonstration, 0 for a sample of the policy. The
            weights of `divergence.discriminator_batch` make both sides weigh the same.
        alpha: α > 0, units of the reward.

    Returns:
        Loss a transition (units of the reward). Metrics: `reward_expert` and `reward_policy`, r of
        either side.

    Raises:
        InputError: an array has the wrong shape or dtype, or alpha is not positive.

    Reference: Garg et al. 2021, arXiv 2106.12142; Al-Hafez et al. 2023, arXiv 2303.00599 (the
    penalty on the mixture, the worth of an end).
    """
    check_range("alpha", alpha, 0.0, exclusive=True)
    (q, value, following), score, weight = _transitions(
        batch, q=q, value=value, following=following
    )
    reward = q - following
    cost = value - following + reward**2 / (4.0 * alpha) - 2.0 * score * reward
    metrics = {
        "reward_expert": weighted(reward, weight * score),
        "reward_policy": weighted(reward, weight * (1.0 - score)),
    }
    return Loss(*weighted(cost, weight), metrics)


def sqil(q: Array, following: Array, batch: Rating) -> Loss:
    """Soft Q imitation learning: soft Q-learning with a reward of 1 for what was demonstrated.

    L = Σᵢ wᵢ (Q(s, a) − s̃ᵢ − γ V(s′))² / Σᵢ wᵢ, s̃ = 1 for demonstrations and 0 for the policy's own
    samples: the squared soft Bellman error.

    Args:
        q: f32[N], Q of the actions that were taken. Rows of weight 0 may be NaN.
        following: f32[N], γ V of the states after them: `dynamics.returns.next_value`, of which
            `end_value` is a learned worth of ends. Stop its gradient, or take it from a target
            network, for soft Q-learning; the paper's gradient goes through it.
        batch: transitions; `score` is 1 for a demonstration, 0 for a sample of the policy. The
            weights of `divergence.discriminator_batch` make both sides weigh the same; λ of the
            paper is the weight of a sample to that of a demonstration.

    Returns:
        Loss a transition (squared units of the reward). Metrics: `error_expert` and `error_policy`,
        the squared error of either side.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Reddy, Dragan & Levine 2019, "SQIL: Imitation Learning via Reinforcement Learning
    with Sparse Rewards", arXiv 1905.11108.

    Example:
        >>> from irl_jax.losses.divergence import discriminator_batch
        >>> batch = discriminator_batch(jnp.array([True, False]))
        >>> float(sqil(jnp.array([2.0, 2.0]), jnp.array([1.0, 1.0]), batch).mean)
        0.5
    """
    (q, following), score, weight = _transitions(batch, q=q, following=following)
    error = (q - score - following) ** 2
    metrics = {
        "error_expert": weighted(error, weight * score),
        "error_policy": weighted(error, weight * (1.0 - score)),
    }
    return Loss(*weighted(error, weight), metrics)


def _transitions(batch: Rating, **arrays: Array) -> tuple[list[Array], Array, Array]:
    """The arrays f32[N], 0 where the weight is, and the scores and weights."""
    shape: tuple[int | None, ...] = (None,)
    known = []
    for name, x in arrays.items():
        known.append(as_float(name, x, shape))
        shape = known[0].shape
    score = as_float("batch.score", batch.score, shape)
    weight = as_float("batch.weight", batch.weight, shape)
    *known, score = (jnp.where(weight > 0, x, 0.0) for x in (*known, score))
    return known, score, weight

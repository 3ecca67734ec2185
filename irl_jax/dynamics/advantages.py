"""Advantages: how much better an action was than the policy's average."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.masking import as_float, check_mask, check_range, check_shape, masked_mean
from irl_jax.types import InputError, safe_divide


def group_advantages(reward: Array, *, scale: bool = True, eps: float = 1e-6) -> Array:
    """Rewards relative to the other completions of the same prompt.

    Aᵢ = (rᵢ − mean(r)) / (std(r) + eps), with std² = Σᵢ (rᵢ − mean(r))² / (K − 1).

    Args:
        reward: f32[B, K], rewards of K >= 2 completions of each of B prompts.
        scale: divide by the standard deviation; without it, A is in units of the
            reward.
        eps: added to the standard deviation (units of the reward).

    Returns:
        f32[B, K]; exactly 0, with a zero gradient, in a group whose rewards are all
        equal.

    Raises:
        InputError: the shape or dtype is wrong, K < 2, or eps < 0.

    Reference: Shao et al. 2024, arXiv 2402.03300, section 4.1.2; Liu et al. 2025,
    arXiv 2503.20783 (Dr. GRPO, `scale=False`).

    Differs: the paper does not say which standard deviation; this is the sample
    one (K − 1), as in the implementations in use (TRL, verl), which take
    `torch.std`. Rounding in a group of equal rewards gives 0, not noise over eps.

    Example:
        >>> group_advantages(jnp.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]), eps=0.0).tolist()
        [[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    check_range("eps", eps, 0.0)
    reward = _groups(reward)
    centred = _centred(reward)
    if not scale:
        return centred
    variance = (centred**2).sum(-1, keepdims=True) / (reward.shape[1] - 1)
    return centred / (jnp.sqrt(jnp.where(variance > 0, variance, 1.0)) + eps)


def leave_one_out(reward: Array) -> Array:
    """Rewards relative to the mean of the others of the same prompt (RLOO).

    Aᵢ = rᵢ − 1/(K − 1) Σ_{j≠i} rⱼ = K/(K − 1) (rᵢ − mean(r)).

    The baseline of a completion does not depend on it, so that the policy gradient stays
    unbiased; with `group_advantages(scale=False)` it is (K − 1)/K of this one.

    Args:
        reward: f32[B, K], rewards of K >= 2 completions of each of B prompts.

    Returns:
        f32[B, K], in units of the reward; exactly 0 in a group of equal rewards.

    Raises:
        InputError: the shape or dtype is wrong, or K < 2.

    Reference: Ahmadian et al. 2024, arXiv 2402.14740 (RLOO).

    Example:
        >>> leave_one_out(jnp.array([[1.0, 2.0, 6.0]])).tolist()
        [[-3.0, -1.5, 4.5]]
    """
    reward = _groups(reward)
    k = reward.shape[1]
    return _centred(reward) * (k / (k - 1))


def maxrl_advantages(reward: Array) -> Array:
    """Rewards relative to how often a prompt is answered right, Aᵢ = (rᵢ − mean(r)) / mean(r).

    With r in {0, 1} and p the chance of being right, the policy gradient of these ascends on
    −Σ_{k<K} (1 − p)ᵏ/k, the first K − 1 terms of log p, which is Σ_{k<K} pass@k/k but for a
    constant. So a hard prompt counts for 1/p times as much as in REINFORCE, for up to K − 1 times.
    Were the A = −1 of a group without a right answer kept, it would be K terms; the authors drop
    it, and so does this.

    Args:
        reward: f32[B, K], 0 or 1, of K >= 2 completions of each of B prompts; or any r >= 0.

    Returns:
        f32[B, K]; exactly 0 in a group of equal rewards.

    Raises:
        InputError: the shape or dtype is wrong, or K < 2.

    Reference: Tajwar et al. 2026, "Maximum Likelihood Reinforcement Learning", arXiv 2602.02710.

    Example:
        >>> maxrl_advantages(jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])).tolist()
        [[3.0, -1.0, -1.0, -1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    reward = _groups(reward)
    return safe_divide(_centred(reward), reward.mean(-1, keepdims=True))


def pass_at_k_advantages(reward: Array, *, k: int) -> Array:
    """What a completion adds to the best of k: k E[max(rᵢ, max(I)) − max(I)] over others I.

    I runs over the subsets of k − 1 of the other completions of the prompt, the mean exactly. The
    policy gradient of these is without bias that of the expected best reward of k completions:
    pass@k, if rewards are 0 and 1. A completion that is not better than k − 1 others gets nothing,
    so that a wrong answer is never pushed down for itself.

    Args:
        reward: f32[B, K], rewards of K completions of each of B prompts.
        k: attempts, 1 <= k <= K; at 1 these are `leave_one_out`.

    Returns:
        f32[B, K], in units of the reward; at k > 1 never negative.

    Raises:
        InputError: the shape or dtype is wrong, or k is not in 1..K.

    Reference: Walder & Karkhanis 2025, "Pass@K Policy Optimization: Solving Harder Reinforcement
    Learning Problems", arXiv 2505.15201 (leave-one-out − 1, eq. 33).

    Differs: times K, since `losses.policy.reinforce` is a mean over completions; at k = 1 a
    baseline is subtracted.

    Example:
        >>> pass_at_k_advantages(jnp.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), k=2).tolist()
        [[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    """
    reward = _groups(reward)
    n = reward.shape[1]
    if not 1 <= k <= n:
        raise InputError(f"k: expected 1 to {n} (completions of a prompt), got {k}")
    if k == 1:
        return leave_one_out(reward)
    ordered = jnp.sort(reward, axis=-1)
    # of an ordered one with j below it: how likely it is the best of k − 1 others of the n − 1
    best = np.array([math.comb(j, k - 2) / math.comb(n - 1, k - 1) for j in range(n)])
    gain = jnp.maximum(reward[..., None] - ordered[:, None], 0.0)
    return k * (gain * jnp.asarray(best, reward.dtype)).sum(-1)


def optimal_token_baseline(
    to_go: Array, logp: Array, log_collision: Array, mask: Array, *, eps: float = 1e-8
) -> Array:
    """Reward to go less its mean over other completions, weighted by how much they move a policy.

    Aᵢₜ = Gᵢₜ − Σ_{j≠i} Wⱼₜ Gⱼₜ / Σ_{j≠i} Wⱼₜ, Wⱼₜ = Σ_{s≤t} (1 − 2 π(oⱼₛ) + Σᵥ π(v)²): the squared
    length of the gradient of log π of a token by its logits, summed up to there. Of completions of
    one token its limit of many completions is the baseline of the least variance in logits. Of
    several tokens or few completions it may vary more than RLOO: 0.60 against 0.49 in a test. Of
    two completions it is RLOO as far as both are.

    Args:
        to_go: f32[B, K, T], G, rewards from each token on: `dynamics.returns.returns`.
        logp: f32[B, K, T], log-probs of the tokens under the policy that sampled (nats).
        log_collision: f32[B, K, T], log Σᵥ π(v)²: `models.logprob.completion_logp_collision`.
        mask: bool[B, K, T].
        eps: added to Σ W.

    Returns:
        f32[B, K, T], in units of the reward; 0 outside the mask. A token that no other completion
        is as long as has no baseline.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Li et al. 2026, "The Optimal Token Baseline: Variance Reduction for Long-Horizon
    LLM-RL", arXiv 2602.07078.

    Differs: the completion itself is left out of its baseline, so that the gradient has no bias;
    in the authors' code it is in.
    """
    check_mask("mask", mask, (None, None, None))
    arrays = {"to_go": to_go, "logp": logp, "log_collision": log_collision}
    to_go, logp, log_collision = (
        jnp.where(mask, as_float(name, x, mask.shape), 0.0) for name, x in arrays.items()
    )
    energy = jnp.where(mask, 1.0 - 2.0 * jnp.exp(logp) + jnp.exp(log_collision), 0.0)
    weight = jnp.where(mask, jnp.cumsum(energy, axis=-1), 0.0)
    others = lambda x: x.sum(1, keepdims=True) - x
    baseline = others(weight * to_go) / (others(weight) + eps)
    return jnp.where(mask, to_go - baseline, 0.0)


def baseline_advantages(reward: Array, baseline: Array) -> Array:
    """Rewards relative to a number for each prompt, Aᵢ = rᵢ − b.

    With b the reward of the greedy completion of the prompt it is ReMax
    (`train.prepare.remax`); with b the mean of a batch or of a past, REINFORCE with a baseline.

    Args:
        reward: f32[B, K].
        baseline: f32[B], b; may not depend on the completions.

    Returns:
        f32[B, K], in units of the reward.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Li et al. 2023, "ReMax: A Simple, Effective, and Efficient Reinforcement
    Learning Method for Aligning Large Language Models", arXiv 2310.10505.

    Example:
        >>> baseline_advantages(jnp.array([[1.0, 0.0]]), jnp.array([0.25])).tolist()
        [[0.75, -0.25]]
    """
    reward = as_float("reward", reward, (None, None))
    return reward - as_float("baseline", baseline, reward.shape[:1])[:, None]


def role_advantages(
    reward: Array, role: Array, baseline: Array, *, decay: float
) -> tuple[Array, Array]:
    """Rewards relative to a moving average of what their role earned before.

    Aᵢ = Rᵢ − b_r, then b_r ← α b_r + (1 − α) Rᵢ for the role r = rᵢ of i, one after the other:
    where one policy plays several games and every side of them, none is preferred for a role in
    which more is earned. What a role earned before does not depend on an action of now, so that
    the policy gradient stays unbiased; its average over 1/(1 − α) games varies by
    (1 − α)/(1 + α) of the variance of R, more than nothing where roles earn the same.

    Args:
        reward: f32[N], what a player earned in a game, in the order of the games.
        role: i32[N], in [0, R): the game and the player, numbered. Two players of one game must
            not share one: the second's b would have seen what the first earned in it.
        baseline: f32[R], b before these.
        decay: α in [0, 1].

    Returns:
        Advantages f32[N], and b after these, f32[R].

    Raises:
        InputError: an array has the wrong shape or dtype, or α is out of range.

    Reference: Liu et al. 2025, "SPIRAL: Self-Play on Zero-Sum Games Incentivizes Reasoning via
    Multi-Agent Multi-Turn Reinforcement Learning", arXiv 2506.24119 (role-conditioned advantage
    estimation).

    Differs: a reward is compared with the average before it, as in the authors' code; after it,
    the advantage would be α times as much.

    Example:
        >>> reward, role = jnp.array([1.0, -1.0, 2.0]), jnp.array([0, 1, 0])
        >>> advantage, baseline = role_advantages(reward, role, jnp.zeros(2), decay=0.5)
        >>> advantage.tolist(), baseline.tolist()
        ([1.0, -1.0, 1.5], [1.25, -0.5])
    """
    check_range("decay", decay, 0.0, 1.0)
    reward = as_float("reward", reward, (None,))
    check_shape("role", role, reward.shape)
    baseline = as_float("baseline", baseline, (None,))
    own = role[:, None] == jnp.arange(len(baseline))
    keep, add = jnp.where(own, decay, 1.0), jnp.where(own, (1 - decay) * reward[:, None], 0.0)
    after = lambda x, y: (x[0] * y[0], x[1] * y[0] + y[1])
    kept, added = jax.lax.associative_scan(after, (keep, add))
    averages = jnp.concatenate([baseline[None], kept * baseline + added])
    return reward - jnp.take_along_axis(averages[:-1], role[:, None], 1)[:, 0], averages[-1]


def nash_advantages(preference: Array, log_ratio: Array, *, tau: float | Array) -> Array:
    """What a completion wins against an opponent, less a penalty on the KL to the reference.

    Aᵢ = 1/J Σⱼ P(yᵢ ≻ y′ⱼ) − ½ − τ log π(yᵢ)/π_ref(yᵢ). Its policy gradient ascends on
    P(π ≻ π′) − τ KL(π‖π_ref) against an opponent π′ that is held fixed. Where π′ = π, it rests at
    the Nash equilibrium of the regularised game, π ∝ π_ref exp(P(y ≻ π)/τ), which need not
    come from a reward; an opponent mixed with the reference (`rollout.guide.MixtureGuide`) damps
    the play, and moves its rest by as much as it is not π.

    Args:
        preference: f32[B, K, J], P(yᵢ ≻ y′ⱼ) of K completions of π and J of the opponent.
        log_ratio: f32[B, K], log π/π_ref of whole completions (nats); a constant.
        tau: τ >= 0 (probability a nat).

    Returns:
        f32[B, K].

    Raises:
        InputError: an array has the wrong shape or dtype, or τ < 0.

    Reference: Munos et al. 2023, "Nash Learning from Human Feedback", arXiv 2312.00886
    (Nash-MD-PG).

    Differs: the mean over J opponents, of which the paper draws one.

    Example:
        >>> preference, log_ratio = jnp.array([[[0.5, 1.0]]]), jnp.array([[2.0]])
        >>> nash_advantages(preference, log_ratio, tau=0.125).tolist()
        [[0.0]]
    """
    check_range("tau", tau, 0.0)
    preference = as_float("preference", preference, (None, None, None))
    log_ratio = as_float("log_ratio", log_ratio, preference.shape[:2])
    return preference.mean(-1) - 0.5 - tau * log_ratio


def whiten(advantage: Array, mask: Array, *, centre: bool = True, eps: float = 1e-6) -> Array:
    """Advantages over the whole batch's mean and deviation: (A − mean(A)) / (std(A) + eps).

    REINFORCE++ is this of `dynamics.returns.returns` of rewards with a KL penalty;
    REINFORCE++ with a baseline is this of `group_advantages(scale=False)`, both with the mask
    of tokens: the mean and the deviation are over tokens, so that of a long completion more
    than of a short one. With a mask of completions, bool[B, K], every completion counts the
    same.

    Args:
        advantage: f32[...], of tokens or of completions. Read where the mask is true.
        mask: bool[...], same shape; or bool[..., T], tokens of the completions whose
            advantages are given.
        centre: subtract the mean.
        eps: added to the standard deviation (units of the advantage).

    Returns:
        f32 in the shape of the mask; 0 outside it, and where all are equal if they are
        centred.

    Raises:
        InputError: an array has the wrong shape or dtype, or eps < 0.

    Reference: Hu et al. 2025, "REINFORCE++: Stabilizing Critic-Free Policy Optimization
    with Global Normalization", arXiv 2501.03262.

    Example:
        >>> whiten(jnp.array([1.0, 3.0, 9.0]), jnp.array([True, True, False]), eps=0.0).tolist()
        [-1.0, 1.0, 0.0]
    """
    check_range("eps", eps, 0.0)
    check_mask("mask", mask, jnp.shape(mask))
    of_completions = jnp.ndim(advantage) == mask.ndim - 1
    advantage = as_float("advantage", advantage, mask.shape[:-1] if of_completions else mask.shape)
    advantage = jnp.where(mask, advantage[..., None] if of_completions else advantage, 0.0)
    mean = masked_mean(advantage, mask)
    low = advantage.min(where=mask, initial=jnp.inf)
    high = advantage.max(where=mask, initial=-jnp.inf)
    deviation = jnp.where(mask & (low < high), advantage - mean, 0.0)
    variance = masked_mean(deviation**2, mask)
    scale = jnp.sqrt(jnp.where(variance > 0, variance, 1.0)) + eps
    return (deviation if centre else advantage) / scale


def _groups(reward: Array) -> Array:
    """The rewards, checked."""
    reward = as_float("reward", reward, (None, None))
    if reward.shape[1] < 2:
        raise InputError(
            f"reward: a group needs at least 2 completions, got shape {list(reward.shape)}"
        )
    return reward


def _centred(reward: Array) -> Array:
    """r − mean(r) of each group; rounding in a group of equal rewards gives 0."""
    equal = reward.max(-1, keepdims=True) == reward.min(-1, keepdims=True)
    return jnp.where(equal, 0.0, reward - reward.mean(-1, keepdims=True))

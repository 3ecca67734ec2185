"""What a sample counts: stale samples, samples of an advantage, samples that are kept.

Weights multiply the advantage of `losses.policy`; what is not kept is masked, so that means
are over the rest (`select_completions`).
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import as_float, check_mask, check_range, masked_mean
from irl_jax.types import Group


def truncated_weight(
    logp: Array, behaviour_logp: Array, mask: Array, *, cap: float, whole: bool = False
) -> Array:
    """Truncated importance weights, wₜ = min(π(oₜ)/μ(oₜ), C), or w = min(π(o)/μ(o), C).

    For samples that are stale before their first update: of an earlier policy, or of a
    sampler that rounds otherwise than the learner does. Weights of tokens vary less, and
    leave a bias however large C is; those of whole completions have none as C grows.

    Args:
        logp: f32[..., T], log-probs under the policy as it is before the update (nats).
        behaviour_logp: f32[..., T], log-probs noted by what sampled.
        mask: bool[..., T].
        cap: C > 0.
        whole: one weight of all tokens of a completion, at each of them.

    Returns:
        f32[..., T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or the cap is not positive.

    Reference: Ionides 2008, "Truncated importance sampling"; Espeholt et al. 2018,
    "IMPALA", arXiv 1802.01561, section 4.1.
    """
    check_range("cap", cap, 0.0, exclusive=True)
    ratio = _log_ratio(logp, behaviour_logp, mask)
    return jnp.where(mask, jnp.exp(jnp.minimum(_of(ratio, whole), jnp.log(cap))), 0.0)


def masked_weight(
    logp: Array, behaviour_logp: Array, mask: Array, *, low: float, high: float, whole: bool = False
) -> Array:
    """Importance weights that are 0 where the two policies differ too much, w = ρ 1(α ≤ ρ ≤ β).

    What would be truncated is left out. Of tokens, ρₜ = π(oₜ)/μ(oₜ), from both sides, it is IcePop;
    of whole completions, ρ = π(o)/μ(o), with α = 0, masked importance sampling. For means over what
    is left, narrow the mask of the group to `weight > 0` too.

    Args:
        logp: f32[..., T], log-probs under the policy as it is before the update (nats).
        behaviour_logp: f32[..., T], log-probs noted by what sampled.
        mask: bool[..., T].
        low: α >= 0.
        high: β > α.
        whole: one weight of all tokens of a completion, at each of them.

    Returns:
        f32[..., T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Zhao et al. 2025, "Small Leak Can Sink a Great Ship: Boost RL Training on MoE with
    IcePop", ringtech.notion.site/icepop; Liu et al. 2025, "When Speed Kills Stability:
    Demystifying RL Collapse from the Training-Inference Mismatch" (of whole completions).

    Example:
        >>> logp = jnp.log(jnp.array([0.5, 0.25, 0.125]))
        >>> behaviour = jnp.full([3], jnp.log(0.25))
        >>> mask = jnp.array([True, True, True])
        >>> masked_weight(logp, behaviour, mask, low=0.75, high=3.0).round(6).tolist()
        [2.0, 1.0, 0.0]
    """
    check_range("low", low, 0.0)
    check_range("high", high, low, exclusive=True)
    ratio = _of(_log_ratio(logp, behaviour_logp, mask), whole)
    inside = mask & (ratio >= jnp.log(low)) & (ratio <= jnp.log(high))
    return jnp.where(inside, jnp.exp(jnp.where(inside, ratio, 0.0)), 0.0)


def staleness_mask(
    logp: Array, behaviour_logp: Array, advantage: Array, mask: Array, *, limit: float
) -> Array:
    """Which completions are near enough to learn from: 1 unless A < 0 and KL(μ‖π) > δ.

    The divergence is estimated by 1/|o| Σₜ log μ(oₜ) − log π(oₜ). Completions to be made
    likelier are kept however stale.

    Args:
        logp: f32[..., T], log-probs under the policy (nats); a constant.
        behaviour_logp: f32[..., T], log-probs under μ.
        advantage: f32[...], of whole completions.
        mask: bool[..., T].
        limit: δ, nats a token.

    Returns:
        bool[...]; a factor of the advantage.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: DeepSeek-AI 2025, "DeepSeek-V3.2: Pushing the Frontier of Open Large
    Language Models", arXiv 2512.02556.
    """
    staleness = -masked_mean(_log_ratio(logp, behaviour_logp, mask), mask, axis=-1)
    advantage = as_float("advantage", advantage, mask.shape[:-1])
    return ~((advantage < 0) & (staleness > limit))


def exponential_weight(advantage: Array, *, temperature: float, cap: float) -> Array:
    """Weights of advantage-weighted regression, w = min(exp(A/τ), C).

    Args:
        advantage: f32[...].
        temperature: τ > 0, units of the advantage: small, and only the best is imitated.
        cap: C > 0.

    Returns:
        f32[...].

    Raises:
        InputError: a number is out of range, or the dtype is wrong.

    Reference: Peng et al. 2019, "Advantage-Weighted Regression: Simple and Scalable
    Off-Policy Reinforcement Learning", arXiv 1910.00177, algorithm 1; Nair et al. 2020,
    "AWAC: Accelerating Online Reinforcement Learning with Offline Datasets", arXiv
    2006.09359, eq. 13.
    """
    check_range("temperature", temperature, 0.0, exclusive=True)
    check_range("cap", cap, 0.0, exclusive=True)
    advantage = as_float("advantage", advantage, jnp.shape(advantage))
    return jnp.exp(jnp.minimum(advantage / temperature, jnp.log(cap)))


def density_ratio(logit: Array, *, low: float, high: float) -> Array:
    """How much likelier a prompt is among one kind than among the other, w = p₁(x) / p₀(x).

    w = min(max(P(1|x) / P(0|x), low), high) = min(max(exp(logit), low), high). Examples of
    kind 0 that are weighted with it stand for prompts of kind 1: BCO weights its bad
    responses so, if good and bad ones were given to different prompts.

    Args:
        logit: f32[...], of a classifier of prompts that tells kind 1 from kind 0, and that
            learned from as much weight of either: `losses.rating.binary_cross_entropy`
            with weights 1/n₁ and 1/n₀, say. Of one that learned from unweighted rows, take
            log(n₁/n₀) away.
        low: least weight, >= 0.
        high: greatest weight, > low.

    Returns:
        f32[...]; a factor of `batch.weight`.

    Raises:
        InputError: a number is out of range, or the dtype is wrong.

    Reference: Jung et al. 2024, "Binary Classifier Optimization for Large Language Model
    Alignment", arXiv 2404.04656 (underlying distribution matching).

    Differs: the bounds are TRL's, which takes 0.5 and 10.

    Example:
        >>> density_ratio(jnp.log(jnp.array([0.25, 1.0, 40.0])), low=0.5, high=8.0).tolist()
        [0.5, 1.0, 8.0]
    """
    check_range("low", low, 0.0)
    check_range("high", high, low, exclusive=True)
    logit = as_float("logit", logit, jnp.shape(logit))
    return jnp.exp(jnp.clip(logit, jnp.log(low), jnp.log(high)))


def best(reward: Array) -> Array:
    """The best completion of each prompt, 1(i = argmaxⱼ rⱼ); the first among equals.

    Args:
        reward: f32[B, K].

    Returns:
        bool[B, K].

    Reference: Dong et al. 2023, "RAFT: Reward rAnked FineTuning for Generative Foundation
    Model Alignment", arXiv 2304.06767.

    Example:
        >>> best(jnp.array([[0.0, 2.0, 2.0]])).tolist()
        [[False, True, False]]
    """
    reward = as_float("reward", reward, (None, None))
    return jnp.arange(reward.shape[1]) == jnp.argmax(reward, -1)[:, None]


def above(reward: Array, *, threshold: float | Array) -> Array:
    """The completions that are good enough, 1(r ≥ τ).

    With r in {0, 1} and τ = 1, those that are right: STaR (without its rationalisation) and
    expert iteration; with a τ that rises from round to round, ReST.

    Args:
        reward: f32[B, K].
        threshold: τ.

    Returns:
        bool[B, K].

    Reference: Zelikman et al. 2022, "STaR: Bootstrapping Reasoning With Reasoning", arXiv
    2203.14465; Gulcehre et al. 2023, "Reinforced Self-Training (ReST) for Language
    Modeling", arXiv 2308.08998; Anthony, Tian & Barber 2017, "Thinking Fast and Slow with
    Deep Learning and Tree Search", arXiv 1705.08439.
    """
    return as_float("reward", reward, (None, None)) >= threshold


def distinct(action: Array, mask: Array) -> Array:
    """The first of completions that are the same, d = 1(oᵢ ≠ oⱼ for all j < i).

    Args:
        action: i32[B, K, T].
        mask: bool[B, K, T].

    Returns:
        bool[B, K].

    Reference: Yuan et al. 2023, "Scaling Relationship on Learning Mathematical Reasoning
    with Large Language Models", arXiv 2308.01825 (rejection-sampling fine-tuning keeps
    distinct solutions).
    """
    check_mask("mask", mask, jnp.shape(action))
    tokens = jnp.where(mask, action, -1)
    same = (tokens[:, :, None] == tokens[:, None]).all(-1)
    k = action.shape[1]
    return ~(same & (jnp.arange(k) < jnp.arange(k)[:, None])).any(-1)


def has_signal(reward: Array) -> Array:
    """The groups that teach something, u = 1(maxᵢ rᵢ > minᵢ rᵢ).

    Args:
        reward: f32[B, K]: the correctness, 0 or 1, for DAPO's 0 < |{oᵢ is right}| < K. Of a
            sum with other terms (of form, of length), groups of all right and of all wrong
            answers count, too, where these differ.

    Returns:
        bool[B].

    Reference: Yu et al. 2025, arXiv 2503.14476, eq. 11 (dynamic sampling).

    Example:
        >>> right = jnp.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
        >>> has_signal(right).tolist()
        [False, True, False]
    """
    reward = as_float("reward", reward, (None, None))
    return reward.max(-1) > reward.min(-1)


def rescale_by_signal(advantage: Array) -> Array:
    """Advantages as if the groups that teach nothing were not there, A B / (B − M).

    M groups of the batch have only advantages of 0; they would make the update smaller.

    Args:
        advantage: f32[B, K].

    Returns:
        f32[B, K]; 0 where all are.

    Reference: Chu et al. 2025, arXiv 2504.02546 (GPG).
    """
    advantage = as_float("advantage", advantage, (None, None))
    teaching = (advantage != 0).any(-1).sum()
    return advantage * (advantage.shape[0] / jnp.maximum(teaching, 1))


def select_completions(group: Group, keep: Array) -> Group:
    """The group as a weighted data set: what is not kept, w = 0, loses its mask.

    A mean over the tokens of the rest follows: `losses.policy.weighted_sft` of it is
    fine-tuning on what was selected.

    Args:
        group: K completions of each prompt.
        keep: bool[B, K]; of `best`, `above`, `distinct` or their combination.

    Returns:
        The group with masks bool[B, K, T] that are false on what is not kept.

    Raises:
        InputError: keep has another shape or dtype.

    Reference: Dong et al. 2023, arXiv 2304.06767.
    """
    check_mask("keep", keep, group.mask.shape[:2])
    return replace(group, mask=group.mask & keep[..., None])


def _log_ratio(logp: Array, behaviour_logp: Array, mask: Array) -> Array:
    """log π − log μ, a constant, f32[..., T]; 0 outside the mask."""
    check_mask("mask", mask, jnp.shape(mask))
    logp = as_float("logp", logp, mask.shape)
    behaviour_logp = as_float("behaviour_logp", behaviour_logp, mask.shape)
    difference = jnp.where(mask, logp, 0.0) - jnp.where(mask, behaviour_logp, 0.0)
    return jax.lax.stop_gradient(difference)


def _of(log_ratio: Array, whole: bool) -> Array:
    """The log-ratios of tokens, or their sum over a completion, at each of its tokens."""
    total = log_ratio.sum(-1, keepdims=True)
    return jnp.broadcast_to(total, log_ratio.shape) if whole else log_ratio

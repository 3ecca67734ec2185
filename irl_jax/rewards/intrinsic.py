"""Rewards for what is new: counts of states, a network that cannot know them, counts of answers."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.masking import as_float, check_mask, check_range, check_shape


def count_bonus(count: Array, *, scale: float | Array) -> Array:
    """The bonus of what was met n times before, β/√(n + 1).

    Args:
        count: i32[...] or f32[...], n >= 0, without this time.
        scale: β >= 0 (reward).

    Returns:
        f32[...]; β where it is met for the first time.

    Raises:
        InputError: a number is out of range.

    Reference: Strehl & Littman 2008, "An analysis of model-based Interval Estimation for Markov
    Decision Processes", section 4 (MBIE-EB, β/√n).

    Differs: n + 1, so that what is new has a bonus.

    Example:
        >>> count_bonus(jnp.array([0, 3]), scale=2.0).tolist()
        [2.0, 1.0]
    """
    check_range("scale", scale, 0.0)
    return scale / jnp.sqrt(jnp.asarray(count, jnp.float32) + 1.0)


def novelty(predicted: Array, target: Array) -> Array:
    """How wrong a network is about a random one, ‖f̂(s) − f(s)‖² (random network distillation).

    f is drawn once and never trained; f̂ is trained to be f on what was met, by this as its loss.

    Args:
        predicted: f32[..., D], f̂(s).
        target: f32[..., D], f(s); a constant.

    Returns:
        f32[...], before any normalisation.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Burda et al. 2018, "Exploration by Random Network Distillation", arXiv 1810.12894,
    section 2.2.

    Example:
        >>> novelty(jnp.array([1.0, 3.0]), jnp.array([0.0, 1.0])).tolist()
        5.0
    """
    predicted = as_float("predicted", predicted, jnp.shape(predicted))
    target = as_float("target", target, predicted.shape)
    return ((predicted - target) ** 2).sum(-1)


def historical_bonus(count: Array, *, centre: bool) -> Array:
    """The bonus of a final answer that a prompt was given N times before, min(1, 1/√N).

    Args:
        count: i32[B, K], N of the answers of K completions to each of B prompts, over the run.
        centre: less the mean of the K, so that a group earns nothing by all being new (UCB-Mean).

    Returns:
        f32[B, K].

    Raises:
        InputError: an array has the wrong shape.

    Reference: Song et al. 2025, "Outcome-based Exploration for LLM Reasoning", arXiv 2509.06941
    (historical exploration).

    Example:
        >>> historical_bonus(jnp.array([[0, 1, 4, 4]]), centre=False).tolist()
        [[1.0, 1.0, 0.5, 0.5]]
    """
    check_shape("count", count, (None, None))
    bonus = 1.0 / jnp.sqrt(jnp.maximum(jnp.asarray(count, jnp.float32), 1.0))
    return bonus - bonus.mean(-1, keepdims=True) if centre else bonus


def repetition_penalty(answer: Array, mask: Array) -> Array:
    """The share of the group that gave the same final answer, −1/K Σ_{j≠i} 1(aⱼ = aᵢ).

    Args:
        answer: i32[B, K], numbers of the answers. Read where the mask is true.
        mask: bool[B, K], completions that gave an answer.

    Returns:
        f32[B, K], at most 0; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Song et al. 2025, arXiv 2509.06941 (batch exploration).

    Example:
        >>> repetition_penalty(jnp.array([[7, 7, 8, 7]]), jnp.ones((1, 4), bool)).tolist()
        [[-0.5, -0.5, 0.0, -0.5]]
    """
    check_mask("mask", mask, (None, None))
    check_shape("answer", answer, mask.shape)
    same = (answer[:, :, None] == answer[:, None]) & mask[:, :, None] & mask[:, None]
    return jnp.where(mask, 1.0 - same.sum(-1), 0.0) / mask.shape[1]


def shifted(reward: Array, mask: Array, *, shift: float | Array) -> Array:
    """Rewards moved by a constant, r + b, which where nothing ends changes no optimal policy.

    Values of every policy move by b/(1 − γ), so that what a network says at the beginning is
    optimistic if b < 0, and is explored, and pessimistic if b > 0, and what is not in the data is
    avoided. Where episodes end a shift pays for longer or for shorter ones.

    Args:
        reward: f32[..., T]. Read where the mask is true.
        mask: bool[..., T], actions that were taken.
        shift: b (reward an action).

    Returns:
        f32[..., T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Sun et al. 2022, "Exploit Reward Shifting in Value-Based Deep-RL: Optimistic
    Curiosity-Based Exploration and Conservative Exploitation via Linear Reward Shaping", arXiv
    2209.07288.
    """
    check_mask("mask", mask, jnp.shape(mask))
    return jnp.where(mask, as_float("reward", reward, mask.shape) + shift, 0.0)

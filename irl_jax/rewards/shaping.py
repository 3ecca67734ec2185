"""Rewards made safer to optimise: bounded, centred, without what they owe to length."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import InputError, safe_divide


def overlong_penalty(mask: Array, *, limit: int, buffer: int) -> Array:
    """A penalty that grows over the last tokens before the limit, for DAPO.

    0 up to L − C tokens, (L − C − |o|)/C in the buffer, −1 beyond L: tokens, not characters.

    Args:
        mask: bool[..., T], tokens of the completions.
        limit: L, tokens of a completion, at most.
        buffer: C in [1, L], tokens over which the penalty grows.

    Returns:
        f32[...] in [−1, 0], to be added to the reward.

    Raises:
        InputError: the numbers are out of range.

    Reference: Yu et al. 2025, arXiv 2503.14476, eq. 13.

    Example:
        >>> mask = jnp.arange(8) < jnp.array([[4], [5], [6], [8]])
        >>> overlong_penalty(mask, limit=6, buffer=2).tolist()
        [0.0, -0.5, -1.0, -1.0]
    """
    check_range("limit", limit, 1)
    check_range("buffer", buffer, 1, limit)
    check_mask("mask", mask, jnp.shape(mask))
    return jnp.clip((limit - buffer - mask.sum(-1)) / buffer, -1.0, 0.0).astype(jnp.float32)


def preference_as_reward(reward: Array, reference: Array) -> Array:
    """The probability of being preferred to a reference answer, mean over σ(r − r_ref) (PAR).

    Bounded, and steep only near the reference, so that a reward model is not followed to
    where it has never been.

    Args:
        reward: f32[B, K], of a Bradley-Terry model.
        reference: f32[B, M], of M answers of the reference policy to the same prompts.

    Returns:
        f32[B, K] in (0, 1).

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Fu et al. 2025, "Reward Shaping to Mitigate Reward Hacking in RLHF", arXiv
    2502.18770.
    """
    reward = as_float("reward", reward, (None, None))
    reference = as_float("reference", reference, (reward.shape[0], None))
    return jax.nn.sigmoid(reward[:, :, None] - reference[:, None, :]).mean(-1)


def debias_length(reward: Array, length: Array) -> Array:
    """The reward less what length explains, r − b (|o| − mean |o|), b by least squares.

    Args:
        reward: f32[...], over a batch.
        length: f32[...] or i32[...], tokens; same shape.

    Returns:
        f32[...]; uncorrelated with length, of the same mean.

    Raises:
        InputError: the shapes differ.

    Reference: Huang et al. 2024, "Post-hoc Reward Calibration: A Case Study on Length
    Bias", arXiv 2409.17407.

    Differs: one line for the whole batch, where the paper fits locally.

    Example:
        >>> debias_length(jnp.array([1.0, 2.0, 4.0]), jnp.array([10, 20, 30])).round(2).tolist()
        [2.5, 2.0, 2.5]
    """
    reward = as_float("reward", reward, jnp.shape(reward))
    if jnp.shape(length) != reward.shape:
        raise InputError(
            f"length: expected shape {list(reward.shape)}, got {list(jnp.shape(length))}"
        )
    centred = jnp.asarray(length, reward.dtype) - jnp.mean(length)
    slope = safe_divide((centred * reward).sum(), (centred**2).sum())
    return reward - slope * centred

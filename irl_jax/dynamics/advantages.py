"""Advantages: how much better an action was than the policy's average."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.masking import as_float, check_range
from irl_jax.types import InputError


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
    reward = as_float("reward", reward, (None, None))
    check_range("eps", eps, 0.0)
    if reward.shape[1] < 2:
        raise InputError(
            f"reward: a group needs at least 2 completions, got shape {list(reward.shape)}"
        )
    equal = reward.max(-1, keepdims=True) == reward.min(-1, keepdims=True)
    centred = jnp.where(equal, 0.0, reward - reward.mean(-1, keepdims=True))
    if not scale:
        return centred
    variance = (centred**2).sum(-1, keepdims=True) / (reward.shape[1] - 1)
    return centred / (jnp.sqrt(jnp.where(variance > 0, variance, 1.0)) + eps)

"""What follows an action: discounted returns, and advantages over a critic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import as_float, check_mask, check_range


def returns(reward: Array, mask: Array, *, discount: float | Array) -> Array:
    """Reward to go, Gₜ = Σ_{s≥t} γ^(s−t) r_s.

    Args:
        reward: f32[..., T]. Read where the mask is true.
        mask: bool[..., T], actions that were taken; what is not one is skipped, as in `gae`.
        discount: γ in [0, 1], 1 is usual for language; or f32[..., T], as in `gae`.

    Returns:
        f32[..., T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Sutton & Barto 2018, "Reinforcement Learning: An Introduction", eq. 3.8.

    Example:
        >>> returns(jnp.array([0.0, 1.0, 4.0]), jnp.ones(3, bool), discount=0.5).tolist()
        [1.5, 3.0, 4.0]
    """
    zeros = jnp.zeros(jnp.shape(mask))
    return gae(reward, zeros, mask, discount=discount, gae_lambda=1.0)


def gae(
    reward: Array,
    value: Array,
    mask: Array,
    *,
    discount: float | Array,
    gae_lambda: float,
    final_value: Array | None = None,
) -> Array:
    """Generalised advantage estimation, Aₜ = Σ_{s≥t} (γλ)^(s−t) δ_s.

    δₜ = rₜ + γ V(sₜ₊₁) − V(sₜ). λ = 0 is the temporal difference, λ = 1 the return less the
    value. Regression targets of the critic are Aₜ + V(sₜ).

    Time is counted in actions: columns outside the mask, at the end or before, are skipped,
    as if the row were written without them. What an environment or a user wrote between two
    actions is so part of the state that the next one is taken in, and V(sₜ₊₁) is its value.

    With a discount for each column a row may hold several episodes (see `types.Trajectory`).
    γₜ = 0 ends one: nothing that follows counts. A column outside the mask with γₜ = 0 is where
    an episode was cut: its value is V(sₜ₊₁) of the action before, and no trace goes across.

    Args:
        reward: f32[..., T]. Read where the mask is true, as is the value.
        value: f32[..., T], V of the state in which each action was taken, or an episode cut.
        mask: bool[..., T], actions that were taken.
        discount: γ in [0, 1]; or f32[..., T], γ (1 − terminated) after each action.
        gae_lambda: λ in [0, 1].
        final_value: f32[...], V of the state after the last action; 0 where the episode
            ended there, and everywhere by default.

    Returns:
        f32[..., T], in units of the reward; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Schulman et al. 2015, "High-Dimensional Continuous Control Using Generalized
    Advantage Estimation", arXiv 1506.02438, eq. 16.

    Example:
        >>> r, v, mask = jnp.array([0.0, 1.0]), jnp.array([0.5, 0.25]), jnp.ones(2, bool)
        >>> gae(r, v, mask, discount=1.0, gae_lambda=0.0).tolist()
        [-0.25, 0.75]
    """
    check_range("gae_lambda", gae_lambda, 0.0, 1.0)
    gamma, counts = _episodes(mask, discount)
    reward = jnp.where(mask, as_float("reward", reward, mask.shape), 0.0)
    after = next_value(value, mask, discount=discount, final_value=final_value)
    delta = jnp.where(mask, reward + after - jnp.where(mask, value, 0.0), 0.0)
    trace = gamma * gae_lambda

    def back(advantage: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        delta, trace, counts, taken = step
        advantage = jnp.where(counts, delta + trace * advantage, advantage)
        return advantage, jnp.where(taken, advantage, 0.0)

    by_time = tuple(jnp.moveaxis(x, -1, 0) for x in (delta, trace, counts, mask))
    _, advantage = jax.lax.scan(back, jnp.zeros_like(by_time[0][0]), by_time, reverse=True)
    return jnp.moveaxis(advantage, 0, -1)


def next_value(
    value: Array,
    mask: Array,
    *,
    discount: float | Array,
    final_value: Array | None = None,
    end_value: float | Array = 0.0,
) -> Array:
    """The discounted value of the state that an action leads to, γ V(sₜ₊₁).

    Columns outside the mask are read as in `gae`: skipped, or V where an episode was cut. The soft
    Bellman equation Q = r + γ E V(s′) gives a reward to each Q: r = Q − `next_value` of V.

    Args:
        value: f32[..., T], V of the state in which each action was taken, or an episode cut.
        mask: bool[..., T], actions that were taken.
        discount: γ in [0, 1]; or f32[..., T], γ (1 − terminated) after each action.
        final_value: f32[...], V of the state after the last action; 0 by default. With γ one
            number, what an end is worth there too.
        end_value: f32[] or f32[..., T], what an end is worth, where a discount of each column
            tells it: 0, or γ V of a state in which everything stays for ever. If each step
            there is worth r, V = r/(1 − γ).

    Returns:
        f32[..., T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Al-Hafez et al. 2023, "LS-IQ: Implicit Reward Regularization for Inverse
    Reinforcement Learning", arXiv 2303.00599 (absorbing states).

    Example:
        >>> v, mask = jnp.array([1.0, 2.0, 4.0]), jnp.ones(3, bool)
        >>> gamma = jnp.array([0.5, 0.0, 0.5])
        >>> next_value(v, mask, discount=gamma, final_value=jnp.array(8.0), end_value=-1.0).tolist()
        [1.0, -1.0, 4.0]
    """
    check_mask("mask", mask, jnp.shape(mask))
    gamma, counts = _episodes(mask, discount)
    value = jnp.where(counts, as_float("value", value, mask.shape), 0.0)
    if final_value is None:
        final_value = jnp.zeros(mask.shape[:-1])
    final_value = as_float("final_value", final_value, mask.shape[:-1])
    ended = (gamma == 0) & (jnp.ndim(discount) > 0)
    after = jnp.where(ended, end_value, gamma * _after(value, counts, final_value))
    return jnp.where(mask, after, 0.0)


def _episodes(mask: Array, discount: float | Array) -> tuple[Array, Array]:
    """γ after each action, and the columns that count: actions, and where an episode was cut."""
    if jnp.ndim(discount) == 0:
        check_range("discount", discount, 0.0, 1.0)
        return jnp.broadcast_to(jnp.asarray(discount), mask.shape), mask
    discount = as_float("discount", jnp.asarray(discount), mask.shape)
    return jnp.where(mask, discount, 0.0), mask | (discount == 0)


def _after(value: Array, counts: Array, final_value: Array) -> Array:
    """The value at the next column that counts, f32[..., T]; after the last, the final one."""
    t = counts.shape[-1]
    here = jnp.where(counts, jnp.arange(t), t)
    earliest = jax.lax.cummin(here, axis=here.ndim - 1, reverse=True)
    after = jnp.concatenate([earliest[..., 1:], jnp.full_like(earliest[..., :1], t)], -1)
    known = jnp.concatenate([value, final_value[..., None]], -1)
    return jnp.take_along_axis(known, after, axis=-1)

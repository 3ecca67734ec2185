"""Pairs out of groups: how online direct alignment makes its data."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import check_shape
from irl_jax.types import Group, InputError, Preference


def best_and_worst(group: Group) -> Preference:
    """The completions of the highest and the lowest reward of each prompt, as a pair.

    With K = 2, online DPO's judge between two samples; with more, the pairs of SPPO and of
    iterative DPO. In `train.online.train_online`, `of_group(best_and_worst)` is the `prepare` of a
    `direct_objective`.

    Args:
        group: K >= 2 completions of each prompt, rewarded.

    Returns:
        One pair a prompt, of margin 0; its weight is 0 where all rewards are equal.

    Raises:
        InputError: the reward has another shape.

    Reference: Guo et al. 2024, "Direct Language Model Alignment from Online AI Feedback",
    arXiv 2402.04792.
    """
    check_shape("group.reward", group.reward, group.mask.shape[:2])
    sides = jnp.stack([group.reward.argmax(1), group.reward.argmin(1)], 1)
    take = lambda x: jnp.take_along_axis(x, sides[..., None], 1)
    spread = group.reward.max(1) - group.reward.min(1)
    return Preference(
        context=group.context,
        action=take(group.action),
        mask=take(group.mask),
        margin=jnp.zeros_like(spread),
        weight=(spread > 0).astype(spread.dtype),
    )


def in_twos(group: Group) -> Group:
    """Neighbouring completions of a prompt as groups of two: K/2 rows in place of one.

    Args:
        group: B prompts with K completions each, K even.

    Returns:
        B K/2 rows of 2 completions, those of the first prompt first.

    Raises:
        InputError: K is odd.
    """
    b, k = group.mask.shape[:2]
    if k % 2:
        raise InputError(f"group: {k} completions of a prompt are no pairs; give an even number")
    halves = lambda x: x.reshape(b * k // 2, 2, *x.shape[2:])
    paired: Group = jax.tree.map(halves, replace(group, context=None))
    return replace(
        paired, context=jax.tree.map(lambda x: jnp.repeat(x, k // 2, axis=0), group.context)
    )


def sampled_pair(group: Group, key: Array, *, beta: float = 1.0) -> Preference:
    """The first two completions of each prompt, in the order that a Bradley-Terry judge gives.

    In `train.online.train_online`, with `context.key`, it is the `prepare` of online DPO; of more
    than two completions, take those of `in_twos`.

    Args:
        group: K >= 2 completions of each prompt, rewarded.
        key: typed PRNG key.
        beta: the judge's inverse noise, as `first_wins` takes it.

    Returns:
        One pair a prompt, of margin 0 and weight 1.

    Reference: Guo et al. 2024, arXiv 2402.04792, algorithm 1.
    """
    return in_order(group, first_wins(group, key, beta=beta))


def first_wins(group: Group, key: Array, *, beta: float = 1.0) -> Array:
    """Whether a judge prefers the first completion to the second, P = σ(β (r₁ − r₂)), bool[B].

    Args:
        group: K >= 2 completions of each prompt, rewarded.
        key: typed PRNG key.
        beta: β >= 0, inverse noise, a unit of reward; infinity never errs.
    """
    check_shape("group.reward", group.reward, group.mask.shape[:2])
    ahead = group.reward[:, 0] - group.reward[:, 1]
    equal = ahead == 0  # infinity times 0 is no number
    chance = jax.nn.sigmoid(jnp.where(equal, 0.0, beta * jnp.where(equal, 1.0, ahead)))
    return jax.random.uniform(key, ahead.shape) < chance


def in_order(group: Group, first: Array) -> Preference:
    """The first two completions of each prompt as a pair, of margin 0 and weight 1.

    Args:
        group: K >= 2 completions of each prompt.
        first: bool[B], whether the first is the preferred one.
    """
    order = lambda x: jnp.where(first[:, None, None], x[:, :2], x[:, 1::-1])
    zeros = jnp.zeros(first.shape)
    return Preference(
        context=group.context,
        action=order(group.action),
        mask=order(group.mask),
        margin=zeros,
        weight=zeros + 1.0,
    )


def win_probability(reward: Array, opponents: Array) -> Array:
    """P(y ≻ y') = σ(r(y) − r(y')) of each completion and each opponent, f32[B, K, J].

    Args:
        reward: f32[B, K].
        opponents: f32[B, J], rewards of the opponents.
    """
    return jax.nn.sigmoid(reward[:, :, None] - opponents[:, None, :])


def win_rate(reward: Array) -> Array:
    """P(y ≻ π|x) of each completion of a group: its mean probability against the group.

    Args:
        reward: f32[B, K], of completions that π wrote; P(y ≻ y') = σ(r(y) − r(y')).

    Returns:
        f32[B, K]; a completion wins against itself with probability one half.

    Example:
        >>> win_rate(jnp.array([[0.0, 0.0]])).tolist()
        [[0.5, 0.5]]
    """
    return win_probability(reward, reward).mean(-1)

"""Advantages of turns: what follows a turn is credited to all of its tokens.

Time is counted in turns: `Turns.reward` and `Turns.mask` are rows of `dynamics.returns` with a
column for each turn, and what is found there is given to the tokens:

    follows = returns(turns.reward, turns.mask, discount=0.9)
    advantage = to_tokens(follows, turns.number)

For K episodes of a prompt, `credit.state_advantages` with the number of a turn as its state is GRPO
over turns of equal number, with what is known by then as its state GiGPO's; `turn_leave_one_out`
is the comparison that leaves the policy gradient without bias.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.returns import gae, returns
from irl_jax.masking import as_float, check_mask, check_shape
from irl_jax.types import Turns, safe_divide


def to_tokens(x: Array, number: Array) -> Array:
    """What each turn has, given to all of its tokens.

    Args:
        x: f32[..., N], of turns 1, 2, ..., N.
        number: i32[..., T], as in `Turns`.

    Returns:
        f32[..., T]; 0 on tokens that are of no turn.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Example:
        >>> to_tokens(jnp.array([0.5, 2.0]), jnp.array([1, 1, 0, 2])).tolist()
        [0.5, 0.5, 0.0, 2.0]
    """
    check_shape("number", number, (*jnp.shape(x)[:-1], None))
    x = as_float("x", x, jnp.shape(x))
    taken = jnp.take_along_axis(x, jnp.maximum(number - 1, 0), -1)
    return jnp.where(number > 0, taken, 0.0)


def at_first_token(x: Array, turns: Turns) -> Array:
    """What each turn has at its first token: there a critic has read all that came before it.

    Args:
        x: f32[..., T]. Read at the first token of each turn.
        turns: of the rows.

    Returns:
        f32[..., N]; 0 for a turn that was not taken.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Example:
        >>> turns = Turns(jnp.array([1, 1, 0, 2]), jnp.zeros(2))
        >>> at_first_token(jnp.array([3.0, 9.0, 9.0, 4.0]), turns).tolist()
        [3.0, 4.0]
    """
    x = as_float("x", x, jnp.shape(turns.number))
    numbers = jnp.arange(1, turns.reward.shape[-1] + 1)
    first = jnp.argmax(turns.number[..., None] == numbers, -2)  # 0 where there is none
    return jnp.where(turns.mask, jnp.take_along_axis(x, first, -1), 0.0)


def turn_gae(
    turns: Turns,
    value: Array,
    *,
    discount: float | Array,
    gae_lambda: float,
    final_value: Array | None = None,
) -> Array:
    """Generalised advantage estimation with a turn for an action, given to its tokens.

    δₙ = rₙ + γ V(sₙ₊₁) − V(sₙ), Aₙ = Σ_{m≥n} (γλ)^(m−n) δₘ. γ and λ count turns, however many
    tokens they have: λ < 1 shortens credit across turns and never within one.

    Args:
        turns: of the rows.
        value: f32[..., T], V before each token. Read at the first token of each turn.
        discount: γ in [0, 1], a turn.
        gae_lambda: λ in [0, 1], a turn.
        final_value: f32[...], V after the last turn, where the episode was cut; 0 where it ended,
            and everywhere by default.

    Returns:
        f32[..., T], in units of the reward; 0 on tokens that are of no turn.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Zhou et al. 2024, "ArCHer: Training Language Model Agents via Hierarchical Multi-Turn
    RL", arXiv 2402.19446 (values of turns); Schulman et al. 2015, arXiv 1506.02438, eq. 16.

    Example:
        >>> turns = Turns(jnp.array([1, 1, 0, 2]), jnp.array([0.0, 1.0]))
        >>> value = jnp.array([0.5, 9.0, 9.0, 0.25])
        >>> turn_gae(turns, value, discount=1.0, gae_lambda=0.0).tolist()
        [-0.25, -0.25, 0.0, 0.75]
    """
    advantage = gae(
        turns.reward,
        at_first_token(value, turns),
        turns.mask,
        discount=discount,
        gae_lambda=gae_lambda,
        final_value=final_value,
    )
    return to_tokens(advantage, turns.number)


def turn_leave_one_out(reward: Array, mask: Array, *, discount: float | Array) -> Array:
    """What follows a turn less the mean of what follows the turns of equal number of others.

    Aᵢₙ = Gᵢₙ − mean of Gⱼₙ over the other episodes j ≠ i that have a turn n, Gᵢₙ = Σ_{m≥n}
    γ^(m−n) rᵢₘ. What others earn does not depend on a turn of i, so that with γ = 1 the policy
    gradient is the exact one in expectation. Where no other episode has a turn n there is no
    baseline.

    Args:
        reward: f32[B, K, N], of the turns of K episodes of each of B prompts. Read where the mask
            is true.
        mask: bool[B, K, N], turns that were taken.
        discount: γ in [0, 1], a turn.

    Returns:
        f32[B, K, N], in units of the reward; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or γ is out of range.

    Reference: Zeng et al. 2025, "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level
    Reward Design", arXiv 2505.11821 (advantages of turns in a group); Ahmadian et al. 2024, arXiv
    2402.14740 (RLOO).

    Differs: the first paper divides by the deviation of a group, and an episode is in its own mean.

    Example:
        >>> reward = jnp.array([[[0.0, 1.0], [2.0, 2.0], [0.5, 9.0]]])
        >>> mask = jnp.array([[[True, True], [True, True], [True, False]]])
        >>> turn_leave_one_out(reward, mask, discount=1.0).tolist()
        [[[-1.25, -1.0], [3.25, 1.0], [-2.0, 0.0]]]
    """
    check_mask("mask", mask, (None, None, None))
    follows = returns(as_float("reward", reward, mask.shape), mask, discount=discount)
    others = mask.sum(1, keepdims=True) - 1
    mean = safe_divide(follows.sum(1, keepdims=True) - follows, others.astype(follows.dtype))
    return jnp.where(mask, follows - mean, 0.0)

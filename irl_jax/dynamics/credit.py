"""Credit: what each action of an episode is paid, when the reward comes only at its end.

A redistribution pays the return in parts, at the actions that brought it; an advantage says by how
much an action changed what is to be expected. Where episodes are strings of tokens the state after
an action is known, and the two meet: the redistribution by exact values is the exact advantage.
The process reward of a critic, V(sₜ₊₁) − V(sₜ), is `shaping.potential_shaped` of its values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import group_advantages
from irl_jax.dynamics.returns import gae, returns
from irl_jax.masking import as_float, check_mask, check_range, check_shape, last_index
from irl_jax.types import InputError, safe_divide

EPS = 1e-6  # added to deviations, as `group_advantages` does


def redistributed(
    total: Array, prediction: Array, mask: Array, *, initial: Array | None = None
) -> Array:
    """The return in parts, each the change of what is predicted of it.

    r̃ₜ = gₜ − gₜ₋₁, gₜ predicted from the episode up to and with action t; at the last action R
    stands for g_T, so that the sum is R − g₋₁ whatever is predicted. What follows action t is
    R − gₜ₋₁: the return less a baseline that does not know the action, with which the policy
    gradient is exact. Where gₜ is Q(sₜ, aₜ), r̃ₜ = Q(sₜ, aₜ) − Q(sₜ₋₁, aₜ₋₁), which is the
    advantage where the state after an action is certain: nothing is then to be expected later.

    Args:
        total: f32[...], R.
        prediction: f32[..., T], gₜ. Read where the mask is true.
        mask: bool[..., T], actions that were taken.
        initial: f32[...], g₋₁, what is predicted before the first action; 0 by default.

    Returns:
        f32[..., T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Arjona-Medina et al. 2018, "RUDDER: Return Decomposition for Delayed Rewards", arXiv
    1806.07857, section 3.

    Differs: what the last prediction misses is paid at the last action. Spread evenly over the
    episode it would pay early actions for later ones, and the gradient by what follows an action
    would be biased.

    Example:
        >>> g, mask = jnp.array([0.5, 0.25, 0.75]), jnp.ones(3, bool)
        >>> redistributed(jnp.array(1.0), g, mask).tolist()
        [0.5, -0.25, 0.75]
    """
    check_mask("mask", mask, jnp.shape(mask))
    total = as_float("total", total, mask.shape[:-1])
    prediction = as_float("prediction", prediction, mask.shape)
    taken = jnp.cumsum(mask, -1)
    last = taken == taken[..., -1:]
    predicted = jnp.where(mask & ~last, prediction, total[..., None])
    initial = jnp.zeros_like(total) if initial is None else initial
    initial = as_float("initial", initial, mask.shape[:-1])
    return jnp.where(mask, predicted - _shifted(predicted, mask, initial), 0.0)


def attention_credit(total: Array, attention: Array, mask: Array, *, beta: float | Array) -> Array:
    """The reward spread by the attention of the reward model, and a share of it left at the end.

    rₜ = β αₜ R + (1 − β) 1(t = T) R, α normalised over the actions.

    The sum is R. What follows action t is R (1 − β Σ_{s<t} αₛ): if αₛ is known when action s is
    taken, a policy gradient by it is the exact one, smaller in each state by that factor, and late
    actions are learned more slowly. Attention of the last token knows the future, and pays past
    actions for it: that gradient is another one.

    Args:
        total: f32[...], R.
        attention: f32[..., T], at least 0, of the reward model's last token to each action (the
            last layer, mean of the heads). Read where the mask is true.
        mask: bool[..., T], actions that were taken.
        beta: β in [0, 1].

    Returns:
        f32[..., T]; 0 outside the mask. Where no action is attended to, all falls on the last.

    Raises:
        InputError: an array has the wrong shape or dtype, or β is out of range.

    Reference: Chan et al. 2024, "Dense Reward for Free in Reinforcement Learning from Human
    Feedback", arXiv 2402.00782 (ABC).

    Example:
        >>> attention, mask = jnp.array([3.0, 1.0]), jnp.ones(2, bool)
        >>> attention_credit(jnp.array(2.0), attention, mask, beta=0.5).tolist()
        [0.75, 1.25]
    """
    check_range("beta", beta, 0.0, 1.0)
    check_mask("mask", mask, jnp.shape(mask))
    total = as_float("total", total, mask.shape[:-1])[..., None]
    attention = jnp.where(mask, as_float("attention", attention, mask.shape), 0.0)
    weight = attention.sum(-1, keepdims=True)
    at_last = jnp.arange(mask.shape[-1]) == last_index(mask)[..., None]
    share = jnp.where(weight > 0, safe_divide(attention, weight), at_last)
    return jnp.where(mask, total * (beta * share + (1 - beta) * at_last), 0.0)


def segment_advantages(
    reward: Array,
    value: Array,
    mask: Array,
    border: Array,
    *,
    final_value: Array | None = None,
) -> Array:
    """Advantages of segments, each given to all actions of its segment (SPO-chain).

    Aₖ = Σ_{t in segment k} rₜ + V(s at the end of it) − V(s at its beginning). With a border at
    each action it is `gae` with λ = 0. The policy gradient is exact if the values are, for borders
    that are placed without looking at the action that follows.

    Args:
        reward: f32[..., T]. Read where the mask is true.
        value: f32[..., T], V of the state before an action. Read at borders, and at the first
            action.
        mask: bool[..., T], actions that were taken.
        border: bool[..., T], actions that begin a segment; the first one always does.
        final_value: f32[...], V of the state after the last action; 0 by default.

    Returns:
        f32[..., T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Guo et al. 2025, "Segment Policy Optimization: Effective Segment-Level Credit
    Assignment in RL for Large Language Models", arXiv 2505.23564.

    Example:
        >>> r, v, mask = jnp.array([0.0, 0.0, 1.0]), jnp.array([0.5, 0.0, 0.25]), jnp.ones(3, bool)
        >>> segment_advantages(r, v, mask, jnp.array([True, False, True])).tolist()
        [-0.25, -0.25, 0.75]
    """
    check_mask("mask", mask, jnp.shape(mask))
    check_mask("border", border, mask.shape)
    border = mask & (border | (jnp.cumsum(mask, -1) == 1))
    value = jnp.where(border, as_float("value", value, mask.shape), 0.0)
    follows = returns(reward, mask, discount=1.0)
    # rewards of a segment: what follows its beginning less what follows its end
    advantage = gae(
        jnp.zeros_like(value),
        value - follows,
        border,
        discount=1.0,
        gae_lambda=0.0,
        final_value=final_value,
    )
    begin = jnp.where(border, jnp.arange(mask.shape[-1]), 0)
    begin = jax.lax.cummax(begin, axis=begin.ndim - 1)
    return jnp.where(mask, jnp.take_along_axis(advantage, begin, -1), 0.0)


def vine_advantages(reward: Array, rollouts: Array, mask: Array, border: Array) -> Array:
    """Advantages by Monte Carlo values of the states between segments (VinePPO).

    Aₖ = Σ rₜ + V̂(s′) − V̂(s), V̂(s) = 1/K Σ returns of K rollouts of the policy from s: unbiased,
    and without a critic. Beside the episode it costs K rollouts for each segment, all but the first
    of which are shorter than it.

    Args:
        reward: f32[..., T]. Read where the mask is true.
        rollouts: f32[..., T, K], returns of rollouts from the state before an action. Read at
            borders, and at the first action.
        mask: bool[..., T], actions that were taken, up to the end of the episode.
        border: bool[..., T], actions that begin a segment, such as a step of a solution.

    Returns:
        f32[..., T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Kazemnejad et al. 2024, "VinePPO: Refining Credit Assignment in RL Training of
    LLMs", arXiv 2410.01679, section 4.

    Example:
        >>> rollouts = jnp.array([[0.0, 1.0], [1.0, 1.0]])
        >>> both = jnp.ones(2, bool)
        >>> vine_advantages(jnp.array([0.0, 1.0]), rollouts, both, both).tolist()
        [0.5, 0.0]
    """
    rollouts = as_float("rollouts", rollouts, (*jnp.shape(mask), None))
    return segment_advantages(reward, rollouts.mean(-1), mask, border)


def cutpoint_borders(
    logp: Array, mask: Array, *, threshold: float | Array, cutpoints: int
) -> tuple[Array, Array]:
    """Segments of equally many actions that were in doubt (SPO-chain), and these actions.

    A cutpoint is an action of probability below ρ, and the segment of action t is number
    k(t) = ⌊cutpoints before t / n⌋: it ends with its n-th cutpoint, and where it begins does not
    depend on its first action.

    Args:
        logp: f32[..., T], log-probs of the actions (nats). Read where the mask is true.
        mask: bool[..., T], actions that were taken.
        threshold: ρ in (0, 1].
        cutpoints: n >= 1 of a segment; the last segment may have fewer.

    Returns:
        bool[..., T] each: the actions that begin a segment, and the cutpoints. The paper's
        probability mask learns from cutpoints alone.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Guo et al. 2025, arXiv 2505.23564 (cutpoint-based partition, probability mask).

    Example:
        >>> logp = jnp.log(jnp.array([0.9, 0.4, 0.9, 0.5, 0.9]))
        >>> border, _ = cutpoint_borders(logp, jnp.ones(5, bool), threshold=0.8, cutpoints=1)
        >>> border.tolist()
        [True, False, True, False, True]
    """
    check_range("threshold", threshold, 0.0, 1.0, exclusive=True)
    check_range("cutpoints", cutpoints, 1)
    check_mask("mask", mask, jnp.shape(mask))
    cut = mask & (as_float("logp", logp, mask.shape) < jnp.log(threshold))
    seen = jnp.cumsum(cut, -1)
    segment = (seen - cut) // cutpoints
    before = _shifted(segment, mask, jnp.full(mask.shape[:-1], -1))
    return mask & (segment != before), cut


def tree_advantages(reward: Array, *, branching: Sequence[int]) -> Array:
    """Advantages of the segments of a tree of completions over their siblings (SPO-tree).

    The value of a leaf is its reward, of another node the mean of its children, and the advantage
    of a segment that leads to a node is A = V(node) − V(parent). Those along a path add up to the
    reward less the mean of all leaves. A node is part of its parent's value: with n children the
    expected advantage is 1 − 1/n of the exact one.

    Args:
        reward: f32[..., N], of the leaves in order: N the product of the branching.
        branching: children of each node, from the root down; D numbers, at least 2.

    Returns:
        f32[..., N, D], of the segments on the way to each leaf.

    Raises:
        InputError: an array has the wrong shape or dtype, or a node has one child.

    Reference: Guo et al. 2025, arXiv 2505.23564 (tree-based advantage estimation).

    Example:
        >>> tree_advantages(jnp.array([1.0, 0.0, 0.0, 0.0]), branching=(2, 2)).tolist()
        [[0.25, 0.5], [0.25, -0.5], [-0.25, 0.0], [-0.25, 0.0]]
    """
    if not branching or min(branching) < 2:
        raise InputError(f"branching: expected at least 2 children a node, got {list(branching)}")
    reward = as_float("reward", reward, (*jnp.shape(reward)[:-1], math.prod(branching)))
    leaves = reward.shape[-1]
    values = []
    for depth in range(len(branching) + 1):
        nodes = math.prod(branching[:depth])
        mean = reward.reshape(*reward.shape[:-1], nodes, leaves // nodes).mean(-1)
        values.append(jnp.repeat(mean, leaves // nodes, -1))
    return jnp.diff(jnp.stack(values, -1), axis=-1)


def gigpo_advantages(
    reward: Array,
    state: Array,
    mask: Array,
    *,
    omega: float | Array,
    discount: float | Array,
    scale: bool,
) -> Array:
    """Episodes against each other, and actions against those in the same state (GiGPO).

    A = A_E + ω A_S. A_E compares the rewards of the K episodes of a group, as `group_advantages`
    does. A_S compares what followed an action, Gₜ = Σ_{s≥t} γ^(s−t) rₛ, with what followed the
    actions that were taken in the same state, in any episode of the group; in a state that was met
    once it is 0.

    Args:
        reward: f32[B, K, T]. Read where the mask is true.
        state: i32[B, K, T], the number of the state in which each action was taken. Read where the
            mask is true.
        mask: bool[B, K, T], actions that were taken; T may be turns.
        omega: ω >= 0.
        discount: γ in [0, 1].
        scale: divide by the deviation of each group: of episodes, and of a state.

    Returns:
        f32[B, K, T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Feng et al. 2025, "Group-in-Group Policy Optimization for LLM Agent Training", arXiv
    2505.10978, eqs. 3, 6, 7 and 8.

    Differs: the deviation is the sample one, as in `group_advantages`.

    Example:
        >>> reward = jnp.array([[[0.0, 1.0], [0.0, 0.0]]])
        >>> state, mask = jnp.array([[[0, 1], [0, 2]]]), jnp.ones((1, 2, 2), bool)
        >>> gigpo_advantages(reward, state, mask, omega=1.0, discount=0.5, scale=False).tolist()
        [[[0.75, 0.5], [-0.75, -0.5]]]
    """
    check_range("omega", omega, 0.0)
    step = state_advantages(reward, state, mask, discount=discount, scale=scale)
    reward = jnp.where(mask, as_float("reward", reward, mask.shape), 0.0)
    episode = group_advantages(reward.sum(-1), scale=scale)[..., None]
    return jnp.where(mask, episode + omega * step, 0.0)


def state_advantages(
    reward: Array, state: Array, mask: Array, *, discount: float | Array, scale: bool
) -> Array:
    """What followed an action less the mean of what followed the actions in the same state.

    A_S of `gigpo_advantages`. T may be turns, and the state of a turn its number: then turns of
    equal number of the K episodes are compared. A mean over n actions has the action itself in it,
    which makes the expected gradient there 1 − 1/n of the exact one; of one action it is 0.

    Args:
        reward: f32[B, K, T]. Read where the mask is true.
        state: i32[B, K, T], the number of the state in which each action was taken. Read where the
            mask is true.
        mask: bool[B, K, T], actions that were taken.
        discount: γ in [0, 1].
        scale: divide by the deviation of a state.

    Returns:
        f32[B, K, T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or γ is out of range.

    Reference: Feng et al. 2025, arXiv 2505.10978, eqs. 6 and 7; Ding et al. 2025, "Empowering
    Multi-Turn Tool-Integrated Reasoning with Group Turn Policy Optimization", arXiv 2511.14846
    (discounted returns of turns, normalised).

    Differs: the deviation is the sample one, as in `group_advantages`.

    Example:
        >>> reward, state = jnp.array([[[0.0, 1.0], [0.0, 0.0]]]), jnp.array([[[1, 2], [1, 2]]])
        >>> mask = jnp.ones((1, 2, 2), bool)
        >>> state_advantages(reward, state, mask, discount=0.5, scale=False).tolist()
        [[[0.25, 0.5], [-0.25, -0.5]]]
    """
    check_mask("mask", mask, (None, None, None))
    check_shape("state", state, mask.shape)
    follows = returns(as_float("reward", reward, mask.shape), mask, discount=discount)
    compare = lambda *rows: _within_states(*rows, scale=scale)
    return jnp.where(mask, jax.vmap(compare)(follows, state, mask), 0.0)


def _within_states(x: Array, state: Array, mask: Array, *, scale: bool) -> Array:
    """x less its mean over equal states, f32[K, T], over its deviation if it is scaled."""
    flat, taken, x = jnp.where(mask, state, 0).ravel(), mask.ravel(), x.ravel()
    group = jnp.searchsorted(jnp.sort(flat), flat)  # one number to equal states
    total = lambda y: jnp.zeros_like(x).at[group].add(jnp.where(taken, y, 0.0))[group]
    count = total(jnp.ones_like(x))
    low = jnp.full_like(x, jnp.inf).at[group].min(jnp.where(taken, x, jnp.inf))[group]
    high = jnp.full_like(x, -jnp.inf).at[group].max(jnp.where(taken, x, -jnp.inf))[group]
    apart = jnp.where(low < high, x - safe_divide(total(x), count), 0.0)
    if scale:
        variance = safe_divide(total(apart**2), count - 1)
        apart = apart / (jnp.sqrt(jnp.where(variance > 0, variance, 1.0)) + EPS)
    return apart.reshape(mask.shape)


def _shifted(x: Array, mask: Array, before: Array) -> Array:
    """x at the action before each, f32[..., T]; before the first one, what is given."""
    t = mask.shape[-1]
    at = jax.lax.cummax(jnp.where(mask, jnp.arange(1, t + 1), 0), axis=mask.ndim - 1)
    at = jnp.concatenate([jnp.zeros_like(at[..., :1]), at[..., :-1]], -1)
    known = jnp.concatenate([before[..., None], x], -1)
    return jnp.take_along_axis(known, at, -1)

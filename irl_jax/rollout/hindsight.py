"""Hindsight: what was done, taken for what was wanted."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.envs.exploration import Goals
from irl_jax.masking import check_mask, check_shape
from irl_jax.rollout.replay import transitions
from irl_jax.types import InputError, Trajectory


def hindsight(batch: Trajectory, key: Array, goals: Goals, *, future: bool) -> Trajectory:
    """Transitions as if what was achieved later in the episode had been the goal (HER).

    The new goal g′ of action t is what the state after action u of the same episode satisfies, u
    the last one (`final`) or any of t, t + 1, ..., the last (`future`), all equally likely.

    Args:
        batch: B rows of T actions, as `rollout.unroll` gives them. Of an episode that the unroll
            does not see the end of, the last action seen is taken for the last.
        key: typed PRNG key.
        goals: of the environment. An episode terminates by coming to its goal, and not otherwise.
        future: whether u is drawn.

    Returns:
        B · T trajectories of one action each, as `replay.transitions` makes them.

    Raises:
        InputError: the batch has no `final` or no `discount`.

    Reference: Andrychowicz et al. 2017, "Hindsight Experience Replay", arXiv 1707.01495, sections
    3.2 and 4.5.
    """
    rows = transitions(batch)
    assert batch.discount is not None
    over = lambda f: jax.vmap(jax.vmap(f))
    following = rows.final.reshape(batch.context.shape)
    ended = batch.mask & (batch.discount == 0)
    achieved = jnp.where(
        ended[..., None], over(goals.desired)(batch.context), over(goals.achieved)(following)
    )
    at = chosen_column(batch.mask, batch.discount, key if future else None)
    goal = jnp.take_along_axis(achieved, at[..., None], 1)
    reached = (achieved == goal).all(-1)
    row = lambda x: x.reshape(-1, 1, *x.shape[2:])
    going = jnp.where(batch.discount == 0, _rate(batch), batch.discount)
    return replace(
        rows,
        context=row(over(goals.given)(batch.context, goal)),
        reward=row(over(goals.reward)(reached)),
        terminated=reached.reshape(-1),
        final=row(over(goals.given)(following, goal))[:, 0],
        discount=row(jnp.where(reached, 0.0, going)),
    )


def _rate(batch: Trajectory) -> Array:
    """γ of the batch, f32[]; 0 where every action ended an episode."""
    assert batch.discount is not None
    return batch.discount.max()


def chosen_column(mask: Array, discount: Array, key: Array | None = None) -> Array:
    """The column of a later action of the same episode, for each.

    Args:
        mask: bool[B, T], actions that were taken.
        discount: f32[B, T], 0 where an episode ended or was cut.
        key: typed PRNG key, by which it is any of this and the later ones; None: the last.

    Returns:
        i32[B, T]; arbitrary outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype.
    """
    check_mask("mask", mask, (None, None))
    check_shape("discount", discount, mask.shape)
    t = mask.shape[1]
    columns = jnp.arange(t)
    here = jnp.where(discount == 0, columns, t - 1)
    end = jax.lax.cummin(here, axis=1, reverse=True)
    last = end - ~jnp.take_along_axis(mask, end, 1)
    if key is None:
        return last
    drawn = columns + jax.random.uniform(key, mask.shape) * (last - columns + 1)
    return jnp.clip(drawn.astype(jnp.int32), columns, jnp.maximum(last, columns))


def relabelled(given: Array, satisfied: Array, key: Array) -> tuple[Array, Array]:
    """The instruction that each output follows: its own, or else any other (HIR).

    Args:
        given: i32[N], numbers of the instructions that outputs were sampled for.
        satisfied: bool[N, I], which instructions each output satisfies.
        key: typed PRNG key.

    Returns:
        i32[N], the instructions, drawn evenly where an output satisfies others but not its own;
        bool[N], whether it satisfies any: the pairs to learn from.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Zhang et al. 2023, "The Wisdom of Hindsight Makes Language Models Better Instruction
    Followers", arXiv 2302.05206.

    Example:
        >>> satisfied = jnp.array([[True, True], [True, False], [False, False]])
        >>> instruction, kept = relabelled(jnp.array([1, 1, 1]), satisfied, jax.random.key(0))
        >>> instruction[:2].tolist(), kept.tolist()
        ([1, 0], [True, True, False])
    """
    check_mask("satisfied", satisfied, (None, None))
    check_shape("given", given, satisfied.shape[:1])
    if not jnp.issubdtype(jnp.result_type(given), jnp.integer):
        raise InputError(f"given: expected integers, got {jnp.result_type(given)}")
    own = jnp.take_along_axis(satisfied, given[:, None], 1)[:, 0]
    drawn = jax.random.categorical(key, jnp.where(satisfied, 0.0, -jnp.inf))
    return jnp.where(own, given, drawn), satisfied.any(-1)

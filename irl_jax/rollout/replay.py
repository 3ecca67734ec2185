"""Replay: single transitions, and a buffer of the last of them to learn from again."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import check_mask, check_range
from irl_jax.types import InputError, PyTree, Trajectory


def transitions(batch: Trajectory) -> Trajectory:
    """The actions of trajectories as rows of their own, each with the observation it led to.

    Args:
        batch: B rows of T actions, as `rollout.unroll` gives them, with `final` and `discount`.

    Returns:
        B · T trajectories of one action each. Their `final` is s′; where the action ended an
        episode it is arbitrary, and the discount 0.

    Raises:
        InputError: the batch has no `final` or no `discount`.
    """
    if batch.final is None or batch.discount is None:
        raise InputError("batch: transitions need `final` and `discount`, as unrolls have them")
    following = jnp.concatenate([batch.context[:, 1:], batch.final[:, None]], 1)
    row = lambda x: x.reshape(-1, 1, *x.shape[2:])
    return Trajectory(
        context=row(batch.context),
        action=row(batch.action),
        mask=row(batch.mask),
        logp=row(batch.logp),
        reward=row(batch.reward),
        terminated=(batch.discount == 0).reshape(-1),
        final=following.reshape(-1, *following.shape[2:]),
        discount=row(batch.discount),
    )


@flax.struct.dataclass
class Replay:
    """The last N rows that were stored.

    Attributes:
        rows: of any kind, [N, ...]; arbitrary from `size` on.
        stored: i32[], how many rows were stored altogether.
    """

    rows: PyTree
    stored: Array

    @property
    def size(self) -> Array:
        """How many rows there are, i32[]."""
        return jnp.minimum(self.stored, len(jax.tree.leaves(self.rows)[0]))


def empty_replay(rows: PyTree, capacity: int) -> Replay:
    """A buffer without a row in it.

    Args:
        rows: arrays [M, ...], or their shapes, as the rows will be.
        capacity: N.

    Raises:
        InputError: the capacity is not positive.
    """
    check_range("capacity", capacity, 1)
    zeros = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), rows)
    return Replay(zeros, jnp.zeros((), jnp.int32))


def store(replay: Replay, rows: PyTree, mask: Array) -> Replay:
    """The buffer with some rows more; as many of the oldest give way.

    Args:
        replay: of rows of this kind.
        rows: arrays [M, ...], the oldest first.
        mask: bool[M], which of them are stored.

    Raises:
        InputError: the mask has the wrong shape or dtype.
    """
    check_mask("mask", mask, jax.tree.leaves(rows)[0].shape[:1])
    capacity = len(jax.tree.leaves(replay.rows)[0])
    rank = jnp.cumsum(mask) - 1
    count = mask.sum()
    stays = mask & (rank >= count - capacity)
    at = jnp.where(stays, (replay.stored + rank) % capacity, capacity)
    put = lambda old, new: old.at[at].set(new, mode="drop")
    return Replay(jax.tree.map(put, replay.rows, rows), replay.stored + count.astype(jnp.int32))


def draw(replay: Replay, key: Array, count: int) -> PyTree:
    """Rows at random, with replacement.

    Args:
        replay: with at least one row.
        key: typed PRNG key.
        count: M, number of rows.

    Returns:
        Arrays [M, ...].
    """
    at = jax.random.randint(key, (count,), 0, replay.size)
    return jax.tree.map(lambda x: x[at], replay.rows)

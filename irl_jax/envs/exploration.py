"""Tasks that are found out only by exploring: their rewards say nothing until the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.envs.environment import Environment, Step
from irl_jax.masking import check_range
from irl_jax.types import TabularMDP


class Goals(NamedTuple):
    """How observations tell goals, in an environment whose episodes end with them.

    Attributes:
        achieved: observation f32[...] -> the goal f32[G] that it satisfies.
        desired: observation -> the goal that is wanted.
        given: (observation, goal) -> the observation, were that the goal.
        reward: bool[], whether the action came to the goal -> f32[], what it earns.
    """

    achieved: Callable[[Array], Array]
    desired: Callable[[Array], Array]
    given: Callable[[Array, Array], Array]
    reward: Callable[[Array], Array]


def deep_sea(
    size: int, *, discount: float, move_cost: float = 0.01, key: Array | None = None
) -> tuple[TabularMDP, Array]:
    """A diver sinks a row a step, one column to the left or right: DeepSea, and its reward.

    Cell (i, j) is state i · N + j. Only going right all the way finds the treasure, 1, at the
    bottom right, and each step to the right costs move_cost / N; the last row ends the episode.
    `tabular.as_environment` makes it a process to act in.

    Args:
        size: N >= 1.
        discount: γ in [0, 1] of every row but the last.
        move_cost: of N steps to the right.
        key: typed PRNG key, by which each cell draws which of the actions 0 and 1 goes right;
            None: 1 does.

    Returns:
        The process, and f32[N², 2], its rewards.

    Raises:
        InputError: a number is out of range.

    Reference: Osband et al. 2020, "Behaviour Suite for Reinforcement Learning", arXiv 1908.03568;
    Osband et al. 2019, "Deep Exploration via Randomized Value Functions", arXiv 1703.07608.
    """
    check_range("size", size, 1)
    check_range("discount", discount, 0.0, 1.0)
    cells = (size * size,)
    rightward = jnp.ones(cells, bool) if key is None else jax.random.bernoulli(key, shape=cells)
    right = jnp.arange(2) == rightward[:, None]
    row, column = np.divmod(np.arange(size * size), size)
    below = np.minimum(row + 1, size - 1) * size
    to_left, to_right = below + np.maximum(column - 1, 0), below + np.minimum(column + 1, size - 1)
    treasure = right & (column == size - 1)[:, None]
    start = jnp.zeros(size * size, float).at[0].set(1.0)
    after = jnp.where(jnp.asarray(row < size - 1), discount, 0.0)
    process = TabularMDP(
        prob=jnp.ones((size * size, 2, 1)),
        start=start,
        discount=jnp.broadcast_to(after[:, None], right.shape),
        successor=jnp.where(right, to_right[:, None], to_left[:, None])[..., None],
    )
    return process, treasure - move_cost / size * right


def bit_flip(bits: int) -> Environment:
    """Bits are flipped, one a step, until they are those of a goal that is drawn for the episode.

    Observations and states are f32[2 N], the bits and the goal; action i flips bit i. A step costs
    1 unless it comes to the goal, which ends the episode. N steps are enough, and the limit.

    Args:
        bits: N >= 1.

    Raises:
        InputError: N is out of range.

    Reference: Andrychowicz et al. 2017, "Hindsight Experience Replay", arXiv 1707.01495,
    section 3.1.

    Differs: the paper does not say that the goal ends an episode, nor when one is cut.
    """
    check_range("bits", bits, 1)

    def step(state: Array, action: Array, key: Array) -> Step:
        now, goal = state[:bits], state[bits:]
        now = jnp.where(jnp.arange(bits) == action, 1.0 - now, now)
        there = (now == goal).all()
        return Step(jnp.concatenate([now, goal]), jnp.where(there, 0.0, -1.0), there)

    reset = lambda key: jax.random.bernoulli(key, shape=(2 * bits,)).astype(float)
    return Environment(reset, step, lambda s: s, observation=(2 * bits,), action=bits,
                       time_limit=bits)  # fmt: skip


def bit_goals(bits: int) -> Goals:
    """How the observations of `bit_flip` tell goals.

    Args:
        bits: N.
    """
    return Goals(
        achieved=lambda observation: observation[:bits],
        desired=lambda observation: observation[bits:],
        given=lambda observation, goal: jnp.concatenate([observation[:bits], goal]),
        reward=lambda reached: jnp.where(reached, 0.0, -1.0),
    )

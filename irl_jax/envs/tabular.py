"""Tabular processes whose dynamics are known: grids and random ones, and to act in them."""

from __future__ import annotations

from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.dynamics.planning import check_mdp
from irl_jax.envs.environment import Environment, Step
from irl_jax.masking import as_float, check_range
from irl_jax.types import InputError, TabularMDP

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Row and column steps of a grid's four actions: up, right, down, left."""


def gridworld(
    rows: int,
    columns: int,
    *,
    discount: float,
    start: int | None = None,
    slip: float = 0.0,
    walls: Collection[int] = (),
    terminal: Collection[int] = (),
) -> TabularMDP:
    """A grid: cell (i, j) is state i · columns + j, its actions are those of `MOVES`.

    A move into a wall or off the grid stays where it is.

    Args:
        rows: at least 1.
        columns: at least 1.
        discount: γ in [0, 1].
        start: cell where an episode begins; None: any cell that is no wall and no end.
        slip: probability that a move goes in one of the four directions at random.
        walls: cells that cannot be entered.
        terminal: cells in which any action ends the episode.

    Raises:
        InputError: a cell is not on the grid, an episode has nowhere to begin, or a number is
            out of range.

    Example:
        >>> grid = gridworld(1, 3, discount=0.9, terminal=[2])
        >>> grid.successor[0].tolist()  # up, right, down, left of the left cell
        [[0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
        >>> [round(float(g), 1) for g in grid.discount[:, 1]]
        [0.9, 0.9, 0.0]
    """
    check_range("rows", rows, 1)
    check_range("columns", columns, 1)
    check_range("discount", discount, 0.0, 1.0)
    check_range("slip", slip, 0.0, 1.0)
    cells = np.arange(rows * columns)
    named = {"walls": walls, "terminal": terminal, "start": [] if start is None else [start]}
    for name, given in named.items():
        if outside := sorted(set(given) - set(cells.tolist())):
            raise InputError(
                f"{name}: cell {outside[0]} is not one of the {len(cells)} of the grid"
            )
    closed = np.isin(cells, list(walls))
    step = np.array(MOVES)
    to = np.stack([cells // columns, cells % columns], -1)[:, None] + step
    inside = ((to >= 0) & (to < [rows, columns])).all(-1)
    target = np.where(inside, to[..., 0] * columns + to[..., 1], cells[:, None])
    target = np.where(closed[target], cells[:, None], target)
    begins = ~closed & ~np.isin(cells, list(terminal)) if start is None else cells == start
    if not (begins & ~closed).any():
        raise InputError("start: an episode begins in a wall, or every cell is a wall or an end")
    chosen = (1 - slip) * np.eye(4) + slip / 4
    ends = np.where(np.isin(cells, list(terminal)), 0.0, discount)
    shape = (len(cells), 4, 4)
    return TabularMDP(
        prob=jnp.broadcast_to(jnp.asarray(chosen, float), shape),
        start=jnp.asarray(begins / begins.sum(), float),
        discount=jnp.broadcast_to(jnp.asarray(ends, float)[:, None], shape[:2]),
        successor=jnp.broadcast_to(jnp.asarray(target, jnp.int32)[:, None], shape),
    )


def random_mdp(
    key: Array, states: int, actions: int, *, discount: float, successors: int | None = None
) -> TabularMDP:
    """A process with random transitions and a random state to begin in.

    Args:
        key: typed PRNG key.
        states: S.
        actions: A.
        discount: γ in [0, 1].
        successors: K states that may follow an action, drawn with replacement, with
            probabilities of a flat Dirichlet distribution; 1 is deterministic. None: all states.

    Raises:
        InputError: a number is out of range.
    """
    check_range("states", states, 1)
    check_range("actions", actions, 1)
    check_range("discount", discount, 0.0, 1.0)
    check_range("successors", states if successors is None else successors, 1)
    to, likely, first = jax.random.split(key, 3)
    width = states if successors is None else successors
    return TabularMDP(
        prob=jax.random.dirichlet(likely, jnp.ones(width), (states, actions)),
        start=jax.random.dirichlet(first, jnp.ones(states)),
        discount=jnp.full((states, actions), discount, float),
        successor=None
        if successors is None
        else jax.random.randint(to, (states, actions, width), 0, states),
    )


def as_environment(
    mdp: TabularMDP, reward: Array | None = None, *, time_limit: int | None = None
) -> Environment:
    """A tabular process to act in; its observations are its states, i32[].

    An action whose discount is 0 ends the episode. The other discounts are those of whoever
    learns from it.

    Args:
        mdp: the process.
        reward: f[S, A]; None: 0.
        time_limit: steps after which an episode is cut; None: never.

    Raises:
        InputError: the arrays do not fit each other.
    """
    states, actions = check_mdp(mdp)
    if reward is None:
        reward = jnp.zeros((states, actions))
    reward = as_float("reward", reward, (states, actions))

    def step(state: Array, action: Array, key: Array) -> Step:
        to = _draw(key, mdp.prob[state, action])
        after = to if mdp.successor is None else mdp.successor[state, action, to]
        return Step(
            after.astype(jnp.int32), reward[state, action], mdp.discount[state, action] == 0
        )

    reset = lambda key: _draw(key, mdp.start)
    return Environment(
        reset, step, lambda s: s, observation=states, action=actions, time_limit=time_limit
    )


def _draw(key: Array, prob: Array) -> Array:
    """An index with these probabilities, i32[]."""
    return jax.random.choice(key, prob.shape[0], p=prob).astype(jnp.int32)

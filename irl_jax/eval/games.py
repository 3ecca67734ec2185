"""Games of two players, solved: every position, what a policy earns, how it can be exploited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from irl_jax.envs.games import Game
from irl_jax.eval.checks import F64, finite
from irl_jax.types import InputError


@dataclass(frozen=True)
class Level:
    """The positions after as many moves, each sequence of moves by itself.

    Attributes:
        chance: f64[N], probability of the deal.
        player: i64[N], who is to move.
        observation: of who is to move, [N, ...].
        legal: bool[N, A].
        reward: f64[N, A, 2], of each player for an action.
        child: i64[N, A], position on the next level that an action leads to; −1: the game ends,
            or the action is not legal.
    """

    chance: F64
    player: NDArray[np.int64]
    observation: NDArray
    legal: NDArray[np.bool_]
    reward: F64
    child: NDArray[np.int64]


def levels(game: Game) -> list[Level]:
    """Every sequence of moves of a game, by their number.

    Args:
        game: one that ends; tic-tac-toe has 294,778 positions to move from.

    Returns:
        The levels, that of the deals first.
    """
    every = np.arange(game.action)
    look = jax.jit(jax.vmap(lambda s: (game.player(s), game.observe(s), game.legal(s))))
    step = jax.jit(jax.vmap(jax.vmap(game.step, (None, 0)), (0, None)))
    states, chance, found = game.starts, np.asarray(game.chance, np.float64), []
    while len(chance):
        player, observation, legal = map(np.asarray, look(states))
        to = step(states, every)
        on = legal & ~np.asarray(to.terminated)
        child = np.where(on, np.cumsum(on).reshape(on.shape) - 1, -1)
        reward = np.where(legal[..., None], np.asarray(to.reward, np.float64), 0.0)
        found.append(Level(chance, player, observation, legal, reward, child))
        states = jax.tree.map(lambda x, on=on: np.asarray(x)[on], to.state)
        chance = np.broadcast_to(chance[:, None], on.shape)[on]
    return found


def expected_reward(tree: Sequence[Level], policy: ArrayLike) -> F64:
    """What both players earn, exactly.

    Args:
        tree: `levels` of a game whose observations are indices of N information sets.
        policy: f[N, A], probabilities of the actions in each, of both players.

    Returns:
        f64[2].

    Raises:
        InputError: the policy has another shape, or probabilities that do not sum to 1.
    """
    policy = _checked(tree, policy)
    value = np.zeros((0, 2))
    for level in reversed(tree):
        value = (policy[level.observation][..., None] * _after(level, value)).sum(1)
    return tree[0].chance @ value


def best_response(tree: Sequence[Level], policy: ArrayLike, player: int) -> float:
    """The most that a player can earn against the policy of the other, exactly.

    Args:
        tree: `levels` of a game whose observations are indices of N information sets; players
            recall their own moves and what they saw before.
        policy: f[N, A], of which the rows of the other player count.
        player: 0 or 1.

    Raises:
        InputError: as `expected_reward`.
    """
    policy = _checked(tree, policy)
    reach = [tree[0].chance]  # by chance and the other player
    for level in tree:
        theirs = np.where(level.player[:, None] == player, 1.0, policy[level.observation])
        reach.append((reach[-1][:, None] * theirs)[level.child >= 0])
    value = np.zeros(0)
    for level, weight in zip(reversed(tree), reversed(reach[:-1]), strict=True):
        after = _after(level, np.stack([value, value], 1))[..., player]
        score = np.zeros(policy.shape)
        np.add.at(score, level.observation, weight[:, None] * after)
        legal = np.zeros(policy.shape, bool)
        legal[level.observation] = level.legal
        best = np.where(legal, score, -np.inf).argmax(1)[level.observation]
        own = np.take_along_axis(after, best[:, None], 1)[:, 0]
        value = np.where(level.player == player, own, (policy[level.observation] * after).sum(1))
    return float(tree[0].chance @ value)


def exploitability(tree: Sequence[Level], policy: ArrayLike) -> float:
    """How far a policy is from an equilibrium of a game whose rewards sum to zero: 0 there.

    ½ Σ_i max_{π_i} u_i(π_i, π_{−i}), the mean of what each player could earn against it.

    Args:
        tree: as `best_response` takes it.
        policy: f[N, A].

    Raises:
        InputError: as `expected_reward`.

    Reference: Lanctot et al. 2019, "OpenSpiel: A Framework for Reinforcement Learning in Games",
    arXiv 1908.09453 (NashConv, which is twice as much).
    """
    return (best_response(tree, policy, 0) + best_response(tree, policy, 1)) / 2


def _after(level: Level, value: F64) -> F64:
    """What each action earns from here on, f64[N, A, 2]; `value` is of the next level, [M, 2]."""
    ended = np.zeros((1, 2))
    return level.reward + np.concatenate([value, ended])[level.child]


def _checked(tree: Sequence[Level], policy: ArrayLike) -> F64:
    if any(level.observation.ndim != 1 for level in tree):
        raise InputError("tree: its observations are no indices of information sets")
    table = finite("policy", policy, 2)
    sets, actions = 1 + max(level.observation.max() for level in tree), tree[0].legal.shape[1]
    if len(table) < sets or table.shape[1] != actions:
        raise InputError(f"policy: expected shape {[int(sets), actions]}, got {list(table.shape)}")
    if (table < 0).any() or np.abs(table.sum(1) - 1).max() > 1e-6:
        raise InputError("policy: expected probabilities that sum to 1 in each row")
    return table

"""Games of two players, played to their end by one policy for both."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.envs.games import Game
from irl_jax.masking import check_range
from irl_jax.types import Group, PyTree

# (observation, legal bool[A], typed PRNG key) -> action i32[], its log-prob f32[] (nats)
Move = Callable[[Array, Array, Array], tuple[Array, Array]]


def play(game: Game, move: Move, key: Array, *, games: int, moves: int) -> Group:
    """Plays N games; both players move by the same policy, each by what it sees.

    Args:
        game: the game.
        move: the policy, of one observation.
        key: typed PRNG key.
        games: N.
        moves: T, after which a game is cut.

    Returns:
        A group of each game: N rows of 2 players, whose actions are those of the game and whose
        masks, bool[N, 2, T], are true on a player's own; rewards f32[N, 2]. Its context is
        `(observation [N, T, ...], legal bool[N, T, A])` of who was to move; a game that was cut is
        not `terminated`.

    Raises:
        InputError: a number is below 1.
    """
    check_range("games", games, 1)
    check_range("moves", moves, 1)

    def step(at: tuple[PyTree, Array, Array], key: Array) -> tuple[tuple, tuple]:
        state, over, earned = at
        own = ~over & (jnp.arange(2) == game.player(state))
        observation, legal = game.observe(state), game.legal(state) | over
        action, logp = move(observation, legal, key)
        to = game.step(state, action)
        after = jax.tree.map(lambda old, new: jnp.where(over, old, new), state, to.state)
        earned = earned + jnp.where(over, 0.0, to.reward)
        return (after, over | to.terminated, earned), (observation, legal, action, own, logp)

    def one(key: Array) -> tuple[tuple, tuple]:
        beginning, moving = jax.random.split(key)
        start = (game.begin(beginning), jnp.zeros((), bool), jnp.zeros(2))
        return jax.lax.scan(step, start, jax.random.split(moving, moves))

    (_, over, reward), played = jax.vmap(one)(jax.random.split(key, games))
    observation, legal, action, own, logp = played
    of_both = lambda x: jnp.broadcast_to(x[:, None], (games, 2, moves))
    return Group(
        context=(observation, legal),
        action=of_both(action),
        mask=own.swapaxes(1, 2),
        logp=of_both(logp),
        reward=reward,
        terminated=jnp.broadcast_to(over[:, None], (games, 2)),
    )

"""Games of two players who move in turn, as pure functions of states.

    state = game.begin(key)
    player = game.player(state)
    state, reward, terminated = game.step(state, action)

A player sees `game.observe(state)` when it is to move, and the moves of `game.legal(state)` are
open to it. Chance acts before the first move alone, so that `game.starts` and all sequences of
moves are the whole game: `irl_jax.eval.games` solves it exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.envs.environment import Step
from irl_jax.types import PyTree, Space


@dataclass(frozen=True)
class Game:
    """A game of two players, 0 and 1.

    Attributes:
        starts: states in which a game may begin, leaves [D, ...].
        chance: f32[D], their probabilities.
        step: (state, action i32[]) -> `Step`, whose reward is f32[2], of each player; the action
            is a legal one.
        player: state -> i32[], who is to move.
        legal: state -> bool[A], the actions open to who is to move.
        observe: state -> what who is to move knows: whole states if all is open.
        observation: what observations are; a number N if they are those of N information sets.
        action: A.
    """

    starts: PyTree
    chance: Array
    step: Callable[[PyTree, Array], Step]
    player: Callable[[PyTree], Array]
    legal: Callable[[PyTree], Array]
    observe: Callable[[PyTree], Array]
    observation: Space
    action: int

    def begin(self, key: Array) -> PyTree:
        """A state in which a game begins, drawn by a typed PRNG key."""
        i = jax.random.categorical(key, jnp.log(self.chance))
        return jax.tree.map(lambda x: x[i], self.starts)


ROOT, PASSED, BET, PASSED_BET = range(4)


def kuhn_poker() -> Game:
    """Poker with three cards and one bet. Its value to the first player is −1/18.

    Each player antes 1 and is dealt one of the cards 0, 1, 2. Action 1 bets 1, or calls a bet;
    action 0 passes, or folds. The higher card wins what was staked, unless the other folded.

    States are i32[3]: both cards, and what was done: nothing, pass, bet, pass and bet. Observations
    are 4 · card + what was done, of 12 information sets, six of each player.

    Reference: Kuhn 1950, "A simplified two-person poker", Contributions to the Theory of Games 1.
    """
    deals = [[*cards, ROOT] for cards in itertools.permutations(range(3), 2)]
    first = lambda state: (state[2] == ROOT) | (state[2] == PASSED_BET)
    player = lambda state: jnp.where(first(state), 0, 1)

    def step(state: Array, action: Array) -> Step:
        done, bets = state[2], jnp.asarray(action) == 1
        opened = (done == ROOT) | ((done == PASSED) & bets)  # the other is to answer
        stake = jnp.where(bets, 2.0, 1.0)  # of a call; of a fold, or two passes
        folded = ~bets & (done >= BET)
        winner = jnp.where(folded, 1 - player(state), jnp.where(state[0] > state[1], 0, 1))
        won = jnp.where(winner == 0, stake, -stake)
        after = jnp.where(done == ROOT, jnp.where(bets, BET, PASSED), PASSED_BET)
        reward = jnp.where(opened, 0.0, jnp.stack([won, -won]))
        return Step(state.at[2].set(after), reward, ~opened)

    return Game(
        starts=jnp.array(deals, jnp.int32),
        chance=jnp.full(len(deals), 1 / len(deals)),
        step=step,
        player=player,
        legal=lambda state: jnp.ones(2, bool),
        observe=lambda state: 4 * state[player(state)] + state[2],
        observation=12,
        action=2,
    )


LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


def tic_tac_toe() -> Game:
    """Three in a row on nine squares. Its value is 0: a draw.

    States are i32[9], of each square 1 if player 0 holds it, −1 if player 1, else 0; actions are
    squares. Observations are f32[18]: the squares of who is to move, then those of the other. The
    winner has 1, the loser −1; a full board without a row is a draw.
    """
    player = lambda board: (board != 0).sum() % 2

    def step(board: Array, action: Array) -> Step:
        mark = 1 - 2 * player(board)
        board = board.at[action].set(mark)
        won = (board[jnp.array(LINES)] == mark).all(1).any()
        reward = jnp.where(won, jnp.stack([mark, -mark]), 0).astype(jnp.float32)
        return Step(board, reward, won | (board != 0).all())

    def observe(board: Array) -> Array:
        own = 1 - 2 * player(board)
        return jnp.concatenate([board == own, board == -own]).astype(jnp.float32)

    return Game(
        starts=jnp.zeros((1, 9), jnp.int32),
        chance=jnp.ones(1),
        step=step,
        player=player,
        legal=lambda board: board == 0,
        observe=observe,
        observation=(18,),
        action=9,
    )

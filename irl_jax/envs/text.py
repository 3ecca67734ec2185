"""Environments of words: what is observed is text, and what is done is text.

    observation = env.reset(seed)
    observation, reward, done = env.step(text)

They are Python objects that hold the state of one episode, and nothing else: the same seed and the
same texts give the same episode. `rollout.turns` lets a language model write in many at once; it
counts the turns, so that an episode that is cut is told apart from one that ended.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from irl_jax.envs.games import BET, PASSED, PASSED_BET, ROOT, kuhn_poker
from irl_jax.masking import check_range
from irl_jax.types import InputError

# (what a player is told, generator) -> what it answers
Opponent = Callable[[str, np.random.Generator], str]


class TextEnv(Protocol):
    """An environment of words, of one player or of two whose rewards sum to zero."""

    @property
    def player(self) -> int:
        """Who is to write next, 0 or 1; 0 where one plays alone."""

    def reset(self, seed: int) -> str:
        """Begins the episode of a seed, an integer from 0 on; what `player` is told first."""

    def step(self, text: str) -> tuple[str, float, bool]:
        """Takes what `player` wrote.

        Returns:
            What the next player is told, "" once it is over; the reward of who wrote, the other of
            two has as much less; whether the episode is over.
        """


class GuessingGame:
    """A number from 1 to N is to be guessed; each guess is answered by "higher" or "lower".

    The right guess earns 1, and every guess costs c, so that an episode of g guesses earns 1 − c g.
    What is no number from 1 to N costs as much, and tells nothing. Seed s hides 1 + s mod N.
    """

    player = 0

    def __init__(self, largest: int, *, cost: float) -> None:
        """N numbers, and c >= 0, what a guess costs.

        Raises:
            InputError: a number is out of range.
        """
        check_range("largest", largest, 1)
        check_range("cost", cost, 0.0)
        self.largest, self.cost = largest, cost
        self._hidden = 1

    def reset(self, seed: int) -> str:
        """See `TextEnv`."""
        self._hidden = 1 + seed % self.largest
        return f"guess from 1 to {self.largest}"

    def step(self, text: str) -> tuple[str, float, bool]:
        """See `TextEnv`."""
        written = re.fullmatch(r"\s*([0-9]{1,9})\s*", text)
        guess = int(written[1]) if written else 0
        if not 1 <= guess <= self.largest:
            return "unknown", -self.cost, False
        if guess == self._hidden:
            return "", 1.0 - self.cost, True
        return "higher" if guess < self._hidden else "lower", -self.cost, False


def fewest_guesses(largest: int) -> float:
    """Mean number of guesses that halving needs for a number from 1 to N, the fewest there are.

    1/N Σₖ (⌊log₂ k⌋ + 1): with guess g of any episode 2^(g − 1) numbers can be found at most.

    Args:
        largest: N >= 1.

    Raises:
        InputError: N is below 1.

    Example:
        >>> fewest_guesses(3)
        1.6666666666666667
    """
    check_range("largest", largest, 1)
    return sum(k.bit_length() for k in range(1, largest + 1)) / largest


CARDS = ("jack", "queen", "king")
MOVES = ("pass", "bet")
LOST = -2.0  # by what is no move: as much as can be lost
_HEARD = {
    ROOT: "you begin",
    PASSED: "the other passed",
    BET: "the other bet",
    PASSED_BET: "you passed and the other bet",
}


class _Kuhn(NamedTuple):
    """`envs.games.kuhn_poker` as tables: of deal and history, and of the move where one is made."""

    cards: np.ndarray  # i32[6, 2]
    player: np.ndarray  # i32[6, 4]
    after: np.ndarray  # i32[6, 4, 2]
    reward: np.ndarray  # f32[6, 4, 2, 2]
    done: np.ndarray  # bool[6, 4, 2]


@functools.cache
def _kuhn() -> _Kuhn:
    game = kuhn_poker()
    deals = len(game.chance)
    states = jnp.repeat(game.starts[:, None], len(_HEARD), 1).at[..., 2].set(jnp.arange(4))
    over = lambda f: jax.vmap(jax.vmap(f))
    moves = jnp.broadcast_to(jnp.arange(game.action), (deals, len(_HEARD), game.action))
    step = lambda state, actions: jax.vmap(lambda action: game.step(state, action))(actions)
    to = jax.jit(over(step))(states, moves)
    found = game.starts[:, :2], over(game.player)(states), to.state[..., 2], to.reward
    return _Kuhn(*map(np.asarray, (*found, to.terminated)))


class KuhnPoker:
    """Kuhn poker in words, for two players: `envs.games.kuhn_poker`.

    A player is told its card and what was done, and answers "pass" or "bet", in any case and with
    space around. Any other answer ends the game, and who gave it loses 2, as much as the worst move
    can lose. Seed s deals number s mod 6 of the six deals.
    """

    def __init__(self) -> None:
        self._deal, self._history = 0, ROOT

    @property
    def player(self) -> int:
        """See `TextEnv`."""
        return int(_kuhn().player[self._deal, self._history])

    def reset(self, seed: int) -> str:
        """See `TextEnv`."""
        self._deal, self._history = seed % len(_kuhn().cards), ROOT
        return self._told()

    def step(self, text: str) -> tuple[str, float, bool]:
        """See `TextEnv`."""
        written = text.strip().lower()
        if written not in MOVES:
            return "", LOST, True
        at, player = (self._deal, self._history, MOVES.index(written)), self.player
        rules = _kuhn()
        if rules.done[at]:
            return "", float(rules.reward[at][player]), True
        self._history = int(rules.after[at])
        return self._told(), 0.0, False

    def _told(self) -> str:
        card = CARDS[_kuhn().cards[self._deal, self.player]]
        return f"you have the {card} and {_HEARD[self._history]}"


class Against:
    """A game of two as an environment of one: the other player is given."""

    player = 0

    def __init__(self, game: TextEnv, opponent: Opponent, *, seat: int) -> None:
        """Plays seat 0 or 1 of a game; the opponent draws by the seed of the episode.

        Raises:
            InputError: there is no such seat.
        """
        if seat not in (0, 1):
            raise InputError(f"seat: expected 0 or 1, got {seat!r}")
        self.game, self.opponent, self.seat = game, opponent, seat
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int) -> str:
        """See `TextEnv`.

        Raises:
            InputError: the opponent ended the game before the first move.
        """
        self._rng = np.random.default_rng(seed)
        told, _, done = self._answered(self.game.reset(seed), 0.0, False)
        if done:
            raise InputError("opponent: its first answer ended the game; it must be a legal move")
        return told

    def step(self, text: str) -> tuple[str, float, bool]:
        """See `TextEnv`."""
        return self._answered(*self.game.step(text))

    def _answered(self, told: str, reward: float, done: bool) -> tuple[str, float, bool]:
        """Where the game is once the opponent has answered, if it is to."""
        while not done and self.game.player != self.seat:
            told, other, done = self.game.step(self.opponent(told, self._rng))
            reward -= other
        return told, reward, done

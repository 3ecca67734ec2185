"""Environments of words beside their rules: every game of Kuhn poker, every way to guess."""

import functools
import itertools
import math

import numpy as np
import pytest

from irl_jax.envs.games import kuhn_poker
from irl_jax.envs.text import (
    CARDS,
    LOST,
    MOVES,
    Against,
    GuessingGame,
    KuhnPoker,
    fewest_guesses,
)
from irl_jax.eval.games import expected_reward, levels
from irl_jax.types import InputError


def won(cards, moves):
    """What the first player wins, by the rules of the game; None if it is not over."""
    higher = 1 if cards[0] > cards[1] else -1
    return {"00": higher, "010": -1, "011": 2 * higher, "10": 1, "11": 2 * higher}.get(moves)


def play(env, seed, texts):
    """Reward of the first player, what was told, whether it is over."""
    told, total, done = [env.reset(seed)], 0.0, False
    for text in texts:
        sign = 1 - 2 * env.player
        heard, reward, done = env.step(text)
        told, total = [*told, heard], total + sign * reward
    return total, told, done


def test_every_game_of_kuhn_poker():
    heard = {"": "you begin", "0": "the other passed", "1": "the other bet",
             "01": "you passed and the other bet"}  # fmt: skip
    game, env = kuhn_poker(), KuhnPoker()
    for seed, cards in enumerate(itertools.permutations(range(3), 2)):
        assert game.starts[seed, :2].tolist() == list(cards)
        for moves in ("00", "010", "011", "10", "11"):
            total, told, done = play(env, seed, [MOVES[int(m)] for m in moves])
            assert done and total == won(cards, moves) and told[-1] == ""
            for n, line in enumerate(told[:-1]):
                card = CARDS[cards[n % 2]]
                assert line == f"you have the {card} and {heard[moves[:n]]}"
            assert play(env, seed, [MOVES[int(m)] for m in moves[:-1]])[0::2] == (0.0, False)


def test_what_is_no_move_loses_as_much_as_can_be_lost():
    env = KuhnPoker()
    for text in ("", "fold", "pass bet", "bet!", "1"):
        assert play(env, 0, [text]) == (LOST, [env.reset(0), ""], True)
        assert play(env, 0, ["pass", text])[0::2] == (-LOST, True)
    assert play(env, 3, [" PASS\n", "Bet", "bet "])[0::2] == (-2.0, True)
    worst = min(-abs(won(c, m)) for c in ((0, 1), (1, 0)) for m in ("00", "010", "011", "10", "11"))
    assert worst == LOST


def test_an_opponent_takes_the_other_seat():
    """The mean over deals and both players' mixed moves is that of the exact tree."""
    policy = np.random.default_rng(0).dirichlet([2, 2], 12)
    histories = ["you begin", "the other passed", "the other bet", "you passed and the other bet"]

    def chances(told):
        card, heard = told.removeprefix("you have the ").split(" and ", 1)
        return policy[4 * CARDS.index(card) + histories.index(heard)]

    def mixed(told, rng):
        return MOVES[int(rng.random() < chances(told)[1])]

    def value(env, seed, texts=()):
        """Expected reward of what follows, over own moves; the opponent draws by the seed."""
        told, total, done = env.reset(seed), 0.0, False
        for text in texts:
            told, reward, done = env.step(text)
            total += reward
        if done:
            return total
        return sum(
            p * value(env, seed, (*texts, m)) for m, p in zip(MOVES, chances(told), strict=True)
        )

    exact = expected_reward(levels(kuhn_poker()), policy)
    for seat in (0, 1):
        env = Against(KuhnPoker(), mixed, seat=seat)
        found = [value(env, seed) for seed in range(3000)]
        error = np.std(found) / math.sqrt(len(found))
        assert np.mean(found) == pytest.approx(exact[seat], abs=4 * error) and error < 0.03
        again = [value(env, seed) for seed in range(12)]
        assert again == found[:12]


def test_an_opponent_that_breaks_the_rules_pays():
    env = Against(KuhnPoker(), lambda told, rng: "fold", seat=0)
    env.reset(1)
    assert env.step("bet") == ("", -LOST, True)
    with pytest.raises(InputError, match="opponent: its first answer ended the game"):
        Against(KuhnPoker(), lambda told, rng: "fold", seat=1).reset(0)
    with pytest.raises(InputError, match="seat: expected 0 or 1, got 2"):
        Against(KuhnPoker(), lambda told, rng: "pass", seat=2)


def test_guesses_are_answered():
    env = GuessingGame(7, cost=0.25)
    for hidden in range(1, 8):
        assert env.reset(hidden - 1) == env.reset(hidden + 6) == "guess from 1 to 7"
        for guess in range(1, 8):
            said = env.step(f" {guess} ")
            if guess == hidden:
                assert said == ("", 0.75, True)
            else:
                assert said == ("higher" if hidden > guess else "lower", -0.25, False)
        for text in ("", "0", "8", "-1", "three", "4 4", "4.0", "9" * 30, "٣"):
            assert env.step(text) == ("unknown", -0.25, False)


@functools.cache
def least(low, high):
    """Fewest guesses for all numbers from low to high in all, by trying every first guess."""
    if low > high:
        return 0
    return (high - low + 1) + min(
        least(low, guess - 1) + least(guess + 1, high) for guess in range(low, high + 1)
    )


def test_fewest_guesses_is_the_best_of_all_ways_to_guess():
    for n in range(1, 41):
        assert fewest_guesses(n) == pytest.approx(least(1, n) / n, rel=1e-14)


def test_halving_takes_the_fewest_guesses():
    env, earned = GuessingGame(7, cost=0.125), []
    for seed in range(7):
        env.reset(seed)
        low, high, total, done = 1, 7, 0.0, False
        while not done:
            guess = (low + high) // 2
            said, reward, done = env.step(str(guess))
            total += reward
            low, high = (guess + 1, high) if said == "higher" else (low, guess - 1)
        earned.append(total)
    assert np.mean(earned) == pytest.approx(1 - 0.125 * fewest_guesses(7), rel=1e-14)


def test_bad_input():
    with pytest.raises(InputError, match="largest"):
        GuessingGame(0, cost=0.1)
    with pytest.raises(InputError, match="cost"):
        GuessingGame(3, cost=-0.1)
    with pytest.raises(InputError, match="largest"):
        fewest_guesses(0)

"""Rules of the games against their whole trees, known values and rules written out."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.envs.games import LINES, kuhn_poker, tic_tac_toe
from irl_jax.eval.games import levels

# what was done -> who wins (None: the higher card), and what
KUHN = {"00": (None, 1), "010": (1, 1), "011": (None, 2), "10": (0, 1), "11": (None, 2)}


@pytest.mark.parametrize("cards", list(itertools.permutations(range(3), 2)))
@pytest.mark.parametrize("moves", KUHN)
def test_kuhn_poker_pays_what_its_rules_say(cards, moves):
    game = kuhn_poker()
    state = jnp.array([*cards, 0], jnp.int32)
    seen = []
    for i, move in enumerate(moves):
        assert game.player(state) == i % 2
        seen.append(int(game.observe(state)))
        assert seen[-1] // 4 == cards[i % 2]
        state, reward, terminated = game.step(state, int(move))
        assert terminated == (i == len(moves) - 1)
        if not terminated:
            assert (reward == 0).all()
    winner, stake = KUHN[moves]
    winner = int(cards[1] > cards[0]) if winner is None else winner
    assert reward.tolist() == ([stake, -stake] if winner == 0 else [-stake, stake])


def test_information_sets_of_kuhn_poker_hide_the_card_of_the_other():
    sets: dict[int, set] = {}
    for number, level in enumerate(levels(kuhn_poker())):
        np.testing.assert_allclose(level.chance, 1 / 6)
        for player, seen in zip(level.player, level.observation, strict=True):
            sets.setdefault(int(seen), set()).add((number, int(player)))
    assert sorted(sets) == list(range(12)) and all(len(who) == 1 for who in sets.values())


def test_deals_are_drawn_alike():
    game = kuhn_poker()
    drawn = jax.vmap(game.begin)(jax.random.split(jax.random.key(0), 6000))
    deals, count = np.unique(np.asarray(drawn), axis=0, return_counts=True)
    assert len(deals) == 6 and (np.abs(count - 1000) < 5 * np.sqrt(1000)).all()


@pytest.fixture(scope="module")
def whole():
    return levels(tic_tac_toe())


def test_tic_tac_toe_has_as_many_games_as_it_has(whole):
    """255,168 games, of which the first player wins 131,184 and the second 77,904."""
    ends = [level.reward[level.legal & (level.child < 0)] for level in whole]
    rewards = np.concatenate(ends)
    assert (rewards.sum(1) == 0).all() and len(rewards) == 255_168
    assert np.unique(rewards[:, 0], return_counts=True)[1].tolist() == [77_904, 46_080, 131_184]
    assert sum(len(level.player) for level in whole) == 549_946 - 255_168


def test_tic_tac_toe_is_a_draw(whole):
    value = np.zeros(0)
    for level in reversed(whole):
        after = level.reward[..., 0] + np.append(value, 0.0)[level.child]
        worst = np.where(level.player[:, None] == 0, -np.inf, np.inf)
        after = np.where(level.legal, after, worst)
        value = np.where(level.player == 0, after.max(1), after.min(1))
    assert value.tolist() == [0.0]


def test_tic_tac_toe_is_seen_from_who_is_to_move():
    game = tic_tac_toe()
    board = game.starts[0]
    for square in (4, 0, 8):
        board = game.step(board, square).state
    assert game.player(board) == 1
    assert np.flatnonzero(game.observe(board)).tolist() == [0, 9 + 4, 9 + 8]
    assert not game.legal(board)[jnp.array([0, 4, 8])].any() and game.legal(board).sum() == 6
    assert {len(set(line)) for line in LINES} == {3} and len(set(LINES)) == 8

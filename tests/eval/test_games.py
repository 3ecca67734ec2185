"""Kuhn poker's equilibria, its value −1/18, and every pure policy tried."""

from __future__ import annotations

import itertools
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.envs.games import kuhn_poker
from irl_jax.eval.games import best_response, expected_reward, exploitability, levels
from irl_jax.types import InputError

GAME = kuhn_poker()
TREE = levels(GAME)
OWN = ([4 * card + done for card in range(3) for done in (0, 3)],
       [4 * card + done for card in range(3) for done in (1, 2)])  # fmt: skip


def equilibrium(alpha: float) -> np.ndarray:
    """Kuhn's, α the chance that the first player bets with the lowest card.

    Rows are of each card: nothing done, pass, bet, pass and bet.
    """
    bets = [
        [alpha, 1 / 3, 0.0, 0.0],
        [0.0, 0.0, 1 / 3, alpha + 1 / 3],
        [3 * alpha, 1.0, 1.0, 1.0],
    ]
    bet = np.ravel(bets)
    return np.stack([1 - bet, bet], 1)


def random_policy(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([1, 1], 12)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1 / 3])
def test_equilibria_earn_the_value_and_cannot_be_exploited(alpha):
    policy = equilibrium(alpha)
    np.testing.assert_allclose(expected_reward(TREE, policy), [-1 / 18, 1 / 18], atol=1e-7)
    assert exploitability(TREE, policy) == pytest.approx(0, abs=1e-7)


def test_what_is_no_equilibrium_is_exploited():
    bluffs = equilibrium(0.2)
    bluffs[0] = [0.5, 0.5]  # more than 0.2 with the lowest card, of which the highest is thrice
    assert exploitability(TREE, bluffs) > 0.01
    uniform = np.full((12, 2), 0.5)
    assert exploitability(TREE, uniform) == pytest.approx(11 / 24)  # NashConv 11/12


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("player", [0, 1])
def test_the_best_response_is_the_best_of_all_pure_ones(player, seed):
    policy = random_policy(seed)
    earned = []
    for choice in itertools.product(range(2), repeat=6):
        own = policy.copy()
        own[OWN[player]] = np.eye(2)[list(choice)]
        earned.append(expected_reward(TREE, own)[player])
    assert best_response(TREE, policy, player) == pytest.approx(max(earned), abs=1e-7)
    assert len({round(x, 9) for x in earned}) > 8


def test_rewards_are_those_of_games_that_are_played():
    policy = random_policy(3)
    total = np.zeros(2)
    for start, chance in zip(np.asarray(GAME.starts), np.asarray(GAME.chance), strict=True):
        for moves in ("00", "010", "011", "10", "11"):
            state, weight = jnp.asarray(start), float(chance)
            for move in moves:
                weight *= policy[int(GAME.observe(state)), int(move)]
                state, reward, _ = GAME.step(state, int(move))
            total += weight * np.asarray(reward)
    np.testing.assert_allclose(expected_reward(TREE, policy), total, atol=1e-7)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.ones((12, 3)), r"policy: expected shape \[12, 2\]"),
        (np.ones((11, 2)), r"policy: expected shape \[12, 2\]"),
        (np.full((12, 2), 0.4), "policy: expected probabilities"),
        (np.tile([1.5, -0.5], (12, 1)), "policy: expected probabilities"),
    ],
)
def test_what_is_no_policy(policy, message):
    with pytest.raises(InputError, match=message):
        exploitability(TREE, policy)


def test_whole_states_are_no_information_sets():
    tree = [replace(level, observation=level.observation[:, None]) for level in TREE]
    with pytest.raises(InputError, match="tree: its observations are no indices"):
        exploitability(tree, random_policy(0))

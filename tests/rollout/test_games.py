"""Games that one policy plays against itself: whose moves are whose, and where a game ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.envs.games import kuhn_poker, tic_tac_toe
from irl_jax.eval.games import expected_reward, levels
from irl_jax.rollout.games import play
from irl_jax.types import InputError

KUHN, GAMES = kuhn_poker(), 4000


@pytest.fixture(scope="module")
def policy():
    return np.random.default_rng(0).dirichlet([2, 2], 12)


@pytest.fixture(scope="module")
def group(policy):
    logp = jnp.log(jnp.asarray(policy, jnp.float32))

    def move(observation, legal, key):
        action = jax.random.categorical(key, logp[observation])
        return action, logp[observation, action]

    run = jax.jit(lambda key: play(KUHN, move, key, games=GAMES, moves=4))
    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def test_games_are_played_by_the_rules(group, policy):
    """Each game, replayed move by move from its observations, ends as it was said to."""
    observation = group.context[0]
    seen = set()
    for at in range(GAMES):
        taken = group.mask[at].any(0)
        moves = "".join(map(str, group.action[at, 0][taken]))
        assert moves in {"00", "010", "011", "10", "11"}
        owner = group.mask[at].argmax(0)[taken]
        assert owner.tolist() == [i % 2 for i in range(len(moves))]
        assert group.mask[at].sum(0).tolist() == [1] * len(moves) + [0] * (4 - len(moves))
        cards = observation[at][:2] // 4
        done = [0, 1 + int(moves[0]), 3][: len(moves)]
        assert (observation[at][taken] % 4).tolist() == done
        higher = 1 if cards[0] > cards[1] else -1
        won = {"00": higher, "010": -1, "011": 2 * higher, "10": 1, "11": 2 * higher}[moves]
        assert group.reward[at].tolist() == [won, -won]
        seen.add((*cards, moves))
    assert len(seen) == 30 and group.terminated.all()
    chosen = np.log(policy)[observation, group.action[:, 0]]
    np.testing.assert_allclose(group.logp[group.mask], np.stack([chosen] * 2, 1)[group.mask],
                               rtol=1e-5)  # fmt: skip


def test_rewards_are_those_of_the_policy(group, policy):
    error = group.reward[:, 0].std() / np.sqrt(GAMES)
    value = expected_reward(levels(KUHN), policy)[0]
    assert group.reward[:, 0].mean() == pytest.approx(value, abs=4.5 * error)


def test_legal_moves_and_a_cut():
    """Tic-tac-toe on the first free square: 0, 1, 2, ... until the first player has 2, 4, 6."""

    def first(observation, legal, key):
        return legal.argmax(), jnp.zeros(())

    game, key = tic_tac_toe(), jax.random.key(0)
    run = lambda moves: play(game, first, key, games=2, moves=moves)
    whole, cut = jax.jit(lambda: (run(9), run(6)))()
    assert whole.action[0, 0, :7].tolist() == list(range(7))
    assert whole.mask[0].sum(1).tolist() == [4, 3] and whole.reward[0].tolist() == [1.0, -1.0]
    assert whole.terminated.all() and not cut.terminated.any() and (cut.reward == 0).all()


def test_bad_input():
    with pytest.raises(InputError, match="games"):
        play(KUHN, None, jax.random.key(0), games=0, moves=3)
    with pytest.raises(InputError, match="moves"):
        play(KUHN, None, jax.random.key(0), games=1, moves=0)

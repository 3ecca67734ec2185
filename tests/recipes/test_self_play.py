"""Self-play: gradients against each other and by enumeration, and where they lead."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.envs.games import kuhn_poker
from irl_jax.eval.games import expected_reward, exploitability, levels
from irl_jax.recipes.self_play import (
    ROLE,
    SHARED,
    SelfPlayConfig,
    exact,
    sampled,
    self_play,
    table,
)
from irl_jax.types import InputError

GAME = kuhn_poker()
TREE = levels(GAME)
OWNER = np.array([0, 1, 1, 0] * 3)
EXACT = SelfPlayConfig(updates=4000, learning_rate=3.0, beta=0.3, refresh=200, snapshots=4)


def softmax(x):
    e = np.exp(np.asarray(x, np.float64))
    return e / e.sum(-1, keepdims=True)


def reach(policy):
    """How often each information set is come to, f64[12], by hand."""
    found = np.zeros(12)
    for one in range(3):
        for two in set(range(3)) - {one}:
            passed, bet = policy[4 * one] / 6
            found[4 * one] += 1 / 6
            found[4 * two + 1] += passed
            found[4 * two + 2] += bet
            found[4 * one + 3] += passed * policy[4 * two + 1, 1]
    return found


def differences(logits, reference, beta, scale=(1.0, 1.0), eps=1e-5):
    """−½ of the central difference of each own reward, and ½ β of that of the KL, f64[12, 2].

    `scale` multiplies the rewards of the two players.
    """
    weight = reach(softmax(logits))

    def divergence(x):
        return weight @ (softmax(x) * np.log(softmax(x) / softmax(reference))).sum(1)

    found = np.zeros((12, 2))
    for row, column in np.ndindex(12, 2):
        step = np.zeros((12, 2))
        step[row, column] = eps
        ahead, behind = logits + step, logits - step
        own = [expected_reward(TREE, softmax(x))[OWNER[row]] for x in (ahead, behind)]
        kl = divergence(ahead) - divergence(behind)
        found[row, column] = (beta * kl - scale[OWNER[row]] * (own[0] - own[1])) / (4 * eps)
    return found


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(size=(2, 12, 2)), jnp.float32)


def test_the_exact_gradient_is_that_of_differences(tables):
    gradient = jax.jit(exact(TREE, replace(EXACT, beta=0.7)))
    found = gradient(*tables, jnp.zeros(2), jax.random.key(0))[0]
    wanted = differences(*np.asarray(tables, np.float64), 0.7)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(wanted).max() > 0.05


@pytest.mark.parametrize("baseline", [SHARED, ROLE])
def test_the_sampled_gradient_has_the_exact_one_as_its_mean(baseline, tables):
    """Whatever the baseline, which begins far off; 60 means of 200 games each.

    A baseline that both share has seen −R of the game when the second player's R meets it.
    """
    config = SelfPlayConfig(games=200, beta=0.7, baseline=baseline, decay=0.5)
    start, keys = jnp.array([2.0, 1.0]), jax.random.split(jax.random.key(4), 60)
    one = sampled(GAME, table, config)
    gradient = jax.jit(jax.vmap(lambda key: one(*tables, start, key)))
    found, after = gradient(keys)
    error = np.std(found, 0, ddof=1) / np.sqrt(len(keys))
    scale = (1.0, 1.5 if baseline == SHARED else 1.0)
    wanted = differences(*np.asarray(tables, np.float64), 0.7, scale)
    assert (np.abs(np.mean(found, 0) - wanted) < 4.5 * error + 1e-6).all()
    moved = np.abs(after - start).min(0) > 1e-3
    assert moved.tolist() == {SHARED: [True, False], ROLE: [True, True]}[baseline]


def test_with_a_reference_exact_gradients_lead_to_an_equilibrium_and_without_they_do_not():
    def run(beta):
        config = replace(EXACT, beta=beta)
        return self_play(exact(TREE, config), jnp.zeros((12, 2)), jax.random.key(0), config)

    held, plain = (softmax(jax.jit(run, static_argnums=0)(beta)) for beta in (0.3, 0.0))
    assert held.shape == (5, 12, 2) and (held[0] == 0.5).all()
    assert exploitability(TREE, held[-1]) < 1e-3
    assert expected_reward(TREE, held[-1])[0] == pytest.approx(-1 / 18, abs=3e-4)
    assert exploitability(TREE, plain[-1]) > 0.02


def test_games_that_are_played_lead_there_too():
    config = SelfPlayConfig(
        updates=2000, games=128, learning_rate=2.0, beta=0.3, refresh=250, snapshots=2
    )
    learn = sampled(GAME, table, config)
    run = jax.jit(lambda key: self_play(learn, jnp.zeros((12, 2)), key, config))
    policies = softmax(run(jax.random.key(0)))
    assert exploitability(TREE, policies[-1]) < 0.06 < 0.4 < exploitability(TREE, policies[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "mean"}, "baseline: expected one of none, shared, role"),
        ({"updates": 5, "snapshots": 2}, "updates: expected a multiple of snapshots, 2, got 5"),
        ({"beta": -1.0}, "beta"),
        ({"decay": 2.0}, "decay"),
        ({"games": 0}, "games"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(EXACT, **change)

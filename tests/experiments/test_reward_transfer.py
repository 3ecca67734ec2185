"""Rewards of adversarial imitators, which transfer where theory says so and nowhere else."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.reward_transfer.config import CONFIG
from experiments.reward_transfer.study import main
from experiments.reward_transfer.worlds import (
    ADVANTAGE,
    AGAIN,
    CHANCE,
    COLOURED,
    CONSTANT,
    ENTROPY,
    ERROR,
    HOME,
    IMITATION,
    KINDS,
    LINKED,
    METHODS,
    MOVES,
    RATIO,
    RENAMED,
    STATES,
    airl,
    expert,
    learn,
    linked,
    make_world,
    measure,
    places_of,
)
from irl_jax.losses.adversarial import airl_logit
from irl_jax.losses.divergence import discriminator_batch
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.types import InputError, Trajectory
from tests.oracles.planning import dense

TINY = replace(CONFIG, worlds=2, states=6, actions=3, shares=(0.5, 1.0))


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def soft_policy(mdp, reward):
    """log π of 2,000 backups V = log Σ exp(r + γ E V), and V; f64[S, A] and f64[S]."""
    transition, gamma = dense(mdp), np.asarray(mdp.discount)
    value = np.zeros(len(transition))
    for _ in range(2000):
        q = np.asarray(reward) + gamma * (transition @ value)
        value = np.log(np.exp(q - q.max()).sum(-1)) + q.max()
    return q - value[:, None], value


def sets_by_hand(transition):
    """Linked states by the definition: pairs that one state leads to, and chains of pairs."""
    states = len(transition)
    tied = np.eye(states, dtype=bool)
    for row in transition.max(1) > 0:
        tied |= row[:, None] & row[None]
    for _ in range(states):
        tied = (tied.astype(int) @ tied.astype(int)) > 0
    return tied


@pytest.mark.parametrize("kind", KINDS)
def test_worlds_are_of_their_kind(kind):
    world, same, other = (make_world(TINY, kind, number) for number in (0, 0, 1))
    np.testing.assert_array_equal(world.reward, same.reward)
    assert (world.reward != other.reward).all()
    home, renamed = dense(world.places[HOME]), dense(world.places[RENAMED])
    np.testing.assert_array_equal(renamed[:, 1:], home[:, :-1])
    np.testing.assert_array_equal(renamed[:, 0], home[:, -1])
    assert ((home > 0).sum(-1) > 1).any() == (kind == CHANCE)
    assert (world.reward == world.reward[:, :1]).all() == (kind != MOVES)
    tied = sets_by_hand(home)
    np.testing.assert_array_equal(
        tied, np.equal.outer(*[linked(np.asarray(world.places[HOME].successor))] * 2)
    )
    assert len(np.unique(tied, axis=0)) == (2 if kind == COLOURED else 1)
    if kind == COLOURED:
        assert not home[::2, :, ::2].any() and not home[1::2, :, 1::2].any()
    half, all_moved = (dense(world.places[f"{100 * share:g} % moved"]) for share in TINY.shares)
    moved = (half != home).any((-1,))
    assert 0 < moved.mean() < 0.8
    np.testing.assert_array_equal(half[moved], all_moved[moved])


def test_linked_states_of_many_processes():
    rng = np.random.default_rng(0)
    for _ in range(30):
        successor = rng.integers(0, 7, (7, 2, 1))
        transition = np.eye(7)[successor].sum(2)
        found = linked(successor)
        np.testing.assert_array_equal(sets_by_hand(transition), np.equal.outer(found, found))


def test_the_discriminator_of_airl_is_at_its_least():
    """By the losses of the library, on steps as often as they are visited; and it is log 2."""
    world = make_world(TINY, LINKED, 0)
    home = world.places[HOME]
    logp, visits = expert(home, world.reward)
    np.testing.assert_allclose(logp, soft_policy(home, world.reward)[0], atol=1e-9)
    state, action = np.indices(visits.shape).reshape(2, -1)
    following = np.asarray(home.successor)[state, action, 0]
    ones = jnp.ones((len(state), 1))
    steps = Trajectory(state[:, None], action[:, None], ones > 0, *3 * (None,), discount=0.9 * ones)
    batch = discriminator_batch(jnp.arange(2 * len(state)) < len(state))
    weight = jnp.tile(visits[state, action], 2)

    def loss(both):
        g, h = both
        logit = airl_logit(
            g[state][:, None],
            h[state][:, None],
            logp[state, action][:, None],
            steps,
            final_potential=h[following],
        )
        return binary_cross_entropy(jnp.tile(logit[:, 0], 2), batch.replace(weight=weight)).mean

    value = soft_policy(home, world.reward)[1]
    g = airl(home, logp, world.start)
    np.testing.assert_allclose(g - world.reward[:, 0], (g - world.reward[:, 0]).mean(), atol=1e-7)
    constant = float((g - world.reward[:, 0]).mean())
    h = jnp.asarray(value + constant / (1 - 0.9))
    least, slope = jax.value_and_grad(loss)(jnp.stack([g, h]))
    assert float(least) == pytest.approx(np.log(2), abs=1e-12)
    np.testing.assert_allclose(slope, 0.0, atol=1e-9)
    assert float(loss(jnp.stack([g + world.start[0], h]))) > np.log(2) + 0.01


def test_where_states_are_linked_only_by_colour_another_reward_has_the_same_policy():
    """g of two starts differ by a constant for each colour, and have the expert's soft policy."""
    world = make_world(TINY, COLOURED, 0)
    home = world.places[HOME]
    logp, _ = expert(home, world.reward)
    one, other = (airl(home, logp, k * world.start) for k in (0.0, 1.0))
    colour = linked(np.asarray(home.successor)) == 0
    for g in (one, other):
        shift = np.asarray(g - world.reward[:, 0])
        assert max(np.ptp(shift[colour]), np.ptp(shift[~colour])) < 1e-8 < np.ptp(shift)
        np.testing.assert_allclose(soft_policy(home, g[:, None])[0], logp, atol=1e-8)
    assert np.abs(np.ptp(other - world.reward[:, 0]) - np.ptp(one - world.reward[:, 0])) > 0.1


@pytest.mark.parametrize("kind", [CHANCE, MOVES])
def test_the_nearest_optimum_is_learned_as_by_gradient_descent(kind):
    """Where f can be no log π, and the least of the cross-entropy is above log 2."""
    world = make_world(TINY, kind, 1)
    home = world.places[HOME]
    logp, visits = expert(home, world.reward)
    prob, successor = np.asarray(home.prob), np.asarray(home.successor)

    @jax.jit
    def loss(both):
        g, h = both
        v = g[:, None, None] + 0.9 * h[successor] - h[:, None, None] - logp[..., None]
        each = jax.nn.softplus(v) + jax.nn.softplus(-v)
        return 0.5 * (visits[..., None] * prob * each).sum()

    begin = 0.2 * world.start
    step = jax.jit(lambda both: both - 4.0 * jax.grad(loss)(both))
    both = jax.lax.fori_loop(0, 20000, lambda _, x: step(x), begin)
    np.testing.assert_allclose(airl(home, logp, begin), both[0], atol=1e-5)
    assert float(loss(both)) > np.log(2) + 1e-3


def test_methods_by_hand():
    world = make_world(TINY, LINKED, 1)
    home = world.places[HOME]
    learned = learn(world)
    assert list(learned) == list(METHODS)
    logp, _ = soft_policy(home, world.reward)
    np.testing.assert_allclose(learned[ADVANTAGE], logp, atol=1e-9)
    assert not learned[CONSTANT].any()
    transition = dense(home)

    def visits(policy):
        state, total = np.asarray(home.start), 0.0
        for t in range(600):
            total = total + 0.9**t * state[:, None] * policy
            state = np.einsum("s,sa,sat->t", state, policy, transition)
        return total

    ratio = visits(np.exp(logp)) / visits(np.full((6, 3), 1 / 3))
    np.testing.assert_allclose(learned[RATIO], np.log(ratio), atol=1e-9)
    for name in (STATES, AGAIN, ENTROPY):
        shift = learned[name] - world.reward
        np.testing.assert_allclose(shift, shift.mean(), atol=1e-5)


def test_what_transfers_is_as_theory_has_it():
    found = {
        kind: {m: measure(w, r) for m, r in learn(w).items()}
        for kind in KINDS
        for w in [make_world(replace(CONFIG, states=8), kind, 3)]
    }
    for kind, each in found.items():
        assert each[ADVANTAGE][IMITATION] < 1e-9 and each[ADVANTAGE][HOME] < 1e-6
        assert each[ADVANTAGE]["100 % moved"] > 0.01
        assert each[CONSTANT][HOME] > 0.1
        exact = max(each[STATES][ERROR], each[AGAIN][ERROR]) < 1e-6
        assert exact == (kind == LINKED)
        assert (each[STATES][IMITATION] < 1e-6) == (kind in (LINKED, COLOURED))
        assert (each[ENTROPY][ERROR] < 1e-5) == (kind in (LINKED, CHANCE))
    for place in places_of(CONFIG):
        assert found[LINKED][STATES][place] < 1e-6


def test_the_whole_in_small(tmp_path, capsys):
    config = replace(TINY, run_dir=tmp_path / "run")
    main(config)
    summary = json.loads((config.run_dir / "summary.json").read_text())
    with np.load(config.run_dir / "measures.npz") as kept:
        found = {name: kept[name] for name in kept}
    assert list(found) == [ERROR, IMITATION, HOME, RENAMED, "50 % moved", "100 % moved"]
    for name, values in found.items():
        assert values.shape == (4, 6, 2)
        for at, kind in enumerate(KINDS):
            rows = summary["measured"][kind]
            means = [row[name][0] for row in rows.values()]
            np.testing.assert_allclose(means, values[at].mean(-1), rtol=1e-9)
            more = summary["behind"][kind][RATIO][name][0]
            apart = values[at, METHODS.index(RATIO)] - values[at, METHODS.index(STATES)]
            assert more == pytest.approx(apart.mean(), abs=1e-9)
            assert len(summary["p"][kind]) == 5 * 6
    assert (config.run_dir / "report.html").read_text().count("<figure>") == 4
    capsys.readouterr()
    main(config)
    assert "this run is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worlds": 1}, "worlds"),
        ({"states": 5}, "states: expected an even number"),
        ({"shares": (0.0,)}, "shares"),
        ({"actions": 1}, "actions"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)

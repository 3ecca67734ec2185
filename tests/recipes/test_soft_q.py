"""Soft Q-learning in processes that soft planning solves exactly."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from irl_jax.dynamics.planning import infinite_horizon
from irl_jax.envs.control import pendulum
from irl_jax.envs.tabular import as_environment
from irl_jax.models.actor_critic import action_logp
from irl_jax.models.heads import apply_outputs
from irl_jax.recipes.soft_q import (
    OfflineConfig,
    SoftQConfig,
    action_values,
    half_demonstrated,
    iq_loss,
    make_iq_offline,
    make_soft_imitation,
    make_soft_q,
    soft_q_learner,
    sqil_loss,
)
from irl_jax.rollout.replay import transitions
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError, TabularMDP

DISCOUNT, TAU, STATES, ACTIONS = 0.8, 0.5, 4, 2
# a ring of four states, one step on or stay; whoever moves on from the last comes to the end
RING = TabularMDP(
    prob=jnp.ones((STATES, ACTIONS, 1)),
    start=jnp.full(STATES, 0.25),
    discount=jnp.full((STATES, ACTIONS), DISCOUNT).at[3, 1].set(0.0),
    successor=jnp.array([[[0], [1]], [[1], [2]], [[2], [3]], [[3], [0]]]),
)
REWARD = jnp.array([[0.0, 0.3], [0.2, -0.1], [0.0, 0.5], [-0.2, 1.0]])
ENV = as_environment(RING, REWARD, time_limit=6)
CONFIG = SoftQConfig(
    steps=24_000, environments=8, unroll=8, updates=4, batch_size=64, capacity=24_000,
    learning_rate=0.02, discount=DISCOUNT, temperature=TAU, target_rate=0.05, widths=(),
)  # fmt: skip


def table(params, temperature=TAU):
    """Q of every state and action, of the params that a run returns."""
    logits = apply_outputs(params["policy"], jnp.eye(STATES))
    return np.asarray(temperature * logits)


def expert_rows(steps=400):
    """Unrolls of the soft policy of the reward, episodes cut after 6 steps."""
    logp = infinite_horizon(RING, REWARD, temperature=TAU).logp

    def act(state, key):
        action = jax.random.categorical(key, logp[state])
        return action, logp[state, action]

    running = begin(ENV, jax.random.key(7), 2)
    return unroll(ENV, act, running, jax.random.key(8), steps=steps, discount=DISCOUNT)[1]


def test_values_are_those_of_soft_planning():
    """Episodes end and are cut; a cut is no end, and the target lags but comes to the same."""
    trained = jax.jit(make_soft_q(ENV, CONFIG))(jax.random.key(0))
    plan = infinite_horizon(RING, REWARD, temperature=TAU)
    np.testing.assert_allclose(table(trained.params), plan.q, atol=0.02)
    states = jnp.arange(STATES)[:, None].repeat(ACTIONS, 1)
    actions = jnp.arange(ACTIONS)[None].repeat(STATES, 0)
    logp = action_logp(trained.params, states, actions)
    np.testing.assert_allclose(logp, plan.logp, atol=0.05)
    assert trained.metrics["return"].shape == (375,)


def shares(rows):
    """The share of each transition in a batch, f64[S, A]."""
    counts = np.zeros((STATES, ACTIONS))
    taken = np.asarray(rows.mask[:, 0])
    np.add.at(counts, (np.asarray(rows.context)[taken, 0], np.asarray(rows.action)[taken, 0]), 1.0)
    return counts / counts.sum()


@pytest.fixture(scope="module")
def batches():
    """What the expert did, and what a policy did that moves on in one of three steps."""
    running = begin(ENV, jax.random.key(4), 2)
    act = lambda state, key: (jax.random.bernoulli(key, 1 / 3).astype(jnp.int32), jnp.zeros(()))
    own = unroll(ENV, act, running, jax.random.key(5), steps=400, discount=DISCOUNT)[1]
    return expert_rows(), own


def settled(loss, batches, *, rate):
    """Q after many updates on batches of which the second never changes, as in a full replay.

    The mean over the later updates, without the noise of the draws.
    """
    shown, own = batches
    config = replace(
        CONFIG,
        capacity=int(own.mask.sum()),
        updates=100,
        target_rate=rate,
        batch_size=256,
        learning_rate=0.01,
    )
    init, learner = soft_q_learner(ENV, config, loss, half_demonstrated(shown, 256))

    def again(carry, _):
        carry = learner.update(carry, own)[0]
        return carry, carry[0].params

    run = jax.jit(lambda: jax.lax.scan(again, init(jax.random.key(1)), length=60))
    (_, _, replay), networks = run()
    assert int(replay.stored) == 60 * int(own.mask.sum())
    mean = jax.tree.map(lambda x: x[30:].mean(0), networks)
    return np.asarray(action_values(mean, jnp.arange(STATES)))


def test_sqil_values_are_those_of_soft_planning_by_the_share_of_demonstrations(batches):
    """A transition that is drawn from both sides is rewarded in a share of the draws."""
    expert, own = (shares(transitions(batch)) for batch in batches)
    plan = infinite_horizon(RING, jnp.asarray(expert / (expert + own)), temperature=TAU)
    found = settled(sqil_loss, batches, rate=0.05)
    assert np.abs(expert - own).max() > 0.1
    np.testing.assert_allclose(found, plan.q, atol=0.03)


def chi_square_cost(q, expert, own, alpha):
    """L of IQ-Learn with χ², of exact shares; γ V(s′) is 0 after the end."""
    q = q.reshape(STATES, ACTIONS)
    value = TAU * scipy.special.logsumexp(q / TAU, axis=-1)
    after = np.asarray(RING.discount) * value[np.asarray(RING.successor)[..., 0]]
    reward, mixed = q - after, 0.5 * (expert + own)
    cost = mixed * (value[:, None] - after + reward**2 / (4 * alpha)) - expert * reward
    return cost.sum()


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_iq_learn_comes_to_the_least_of_its_loss(batches, alpha):
    expert, own = (shares(transitions(batch)) for batch in batches)
    cost = lambda q: chi_square_cost(q, expert, own, alpha)
    least = scipy.optimize.minimize(cost, np.zeros(STATES * ACTIONS))
    found = settled(iq_loss(alpha=alpha), batches, rate=None)
    np.testing.assert_allclose(found, least.x.reshape(STATES, ACTIONS), atol=0.04)


def test_offline_iq_learn_comes_to_the_least_of_its_loss(batches):
    expert = shares(transitions(batches[0]))
    config = OfflineConfig(
        updates=3000, batch_size=256, learning_rate=0.02, temperature=TAU, widths=()
    )
    trained = jax.jit(make_iq_offline(ENV, batches[0], config, alpha=0.5))(jax.random.key(1))
    cost = lambda q: chi_square_cost(q, expert, expert, 0.5)
    least = scipy.optimize.minimize(cost, np.zeros(STATES * ACTIONS))
    np.testing.assert_allclose(table(trained.params), least.x.reshape(STATES, ACTIONS), atol=0.04)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 10}, "^rounds"),
        ({"updates": 0}, "^updates"),
        ({"temperature": 0.0}, "^temperature"),
        ({"target_rate": 0.0}, "^target_rate"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(InputError, match=message):
        make_soft_q(ENV, replace(CONFIG, **change))


def test_bad_input():
    batch = expert_rows(2)
    with pytest.raises(InputError, match=r"^action: a soft Q"):
        make_soft_q(pendulum(), CONFIG)
    with pytest.raises(InputError, match=r"^batch: transitions"):
        make_soft_imitation(ENV, replace(batch, final=None), CONFIG, sqil_loss)
    with pytest.raises(InputError, match=r"^alpha"):
        make_iq_offline(ENV, batch, OfflineConfig(), alpha=0.0)

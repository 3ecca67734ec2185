"""Discriminators against what is known exactly of small processes, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import occupancy
from irl_jax.envs.tabular import as_environment
from irl_jax.losses.adversarial import airl_logit, gradient_penalty
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError, Rating, Trajectory
from tests.losses.tabular import DISCOUNT, A, S, expert, newton, process, ring, share

ABSENT = None


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("ends", [False, True])
def test_the_best_discriminator_is_the_log_ratio_of_occupancies(ends):
    """A logit for each state and action, trained on exact occupancies to convergence."""
    mdp = process(ends=ends)
    _, logp = expert(mdp, jax.random.normal(jax.random.key(1), (S, A)))
    other = jax.nn.log_softmax(jax.random.normal(jax.random.key(2), (S, A)))
    demonstrated, sampled = share(occupancy(mdp, logp)), share(occupancy(mdp, other))
    both = lambda x, y: jnp.concatenate([x, y])
    score = both(jnp.ones(S * A), jnp.zeros(S * A))
    batch = Rating(ABSENT, ABSENT, ABSENT, score=score, weight=both(demonstrated, sampled))
    objective = lambda v: binary_cross_entropy(both(v, v), batch).mean
    found = newton(objective, jnp.zeros(S * A))
    np.testing.assert_allclose(found, np.log(demonstrated / sampled), rtol=1e-8, atol=1e-8)


def rows(mdp):
    """Every state and action as a trajectory of one step; where it leads to."""
    state, action = (x.reshape(-1, 1) for x in jnp.mgrid[:S, :A])
    to = mdp.successor[state[:, 0], action[:, 0], 0]
    discount = mdp.discount[state, action]
    mask = jnp.ones_like(state, bool)
    return Trajectory(state, action, mask, ABSENT, ABSENT, ABSENT, to, discount)


@pytest.mark.parametrize("ends", [False, True])
def test_adversarial_inverse_rl_recovers_the_soft_advantage_and_a_reward_of_states(ends):
    """Fu et al. 2018: f = log π_E, and g = r but for a constant, which an end settles."""
    mdp, reward = ring(ends=ends), jax.random.normal(jax.random.key(1), (S, 1))
    reward = jnp.broadcast_to(reward, (S, A))
    _, logp = expert(mdp, reward)
    visits, every = share(occupancy(mdp, logp)), rows(mdp)
    own = logp[every.context, every.action]
    weight = jnp.concatenate([visits, visits])
    score = jnp.repeat(jnp.array([1.0, 0.0]), S * A)
    batch = Rating(ABSENT, ABSENT, ABSENT, score=score, weight=weight)

    def logit(x):
        g, h = x.reshape(2, S)
        final = h[every.final]
        return airl_logit(g[every.context], h[every.context], own, every, final_potential=final)

    def objective(x):
        v = logit(x)[:, 0]
        return binary_cross_entropy(jnp.concatenate([v, v]), batch).mean

    found = newton(objective, 0.1 * jax.random.normal(jax.random.key(3), (2 * S,)))
    np.testing.assert_allclose(logit(found) + own, own, atol=1e-8)
    apart = found[:S] - reward[:, 0]
    np.testing.assert_allclose(apart, 0.0 if ends else apart.mean(), atol=1e-7)


def test_the_experts_own_logits_are_0_where_an_episode_ends_is_cut_or_goes_on():
    """g = r and h = V: f = Q − V = log π_E at every action of a stream of episodes."""
    mdp = ring(ends=True)
    reward = jax.random.normal(jax.random.key(1), (S, A)) - 2.0  # an end is welcome
    value, logp = expert(mdp, reward)

    def act(state, key):
        action = jax.random.categorical(key, logp[state])
        return action, logp[state, action]

    env = as_environment(mdp, reward, time_limit=4)
    running = begin(env, jax.random.key(4), 8)
    batch = unroll(env, act, running, jax.random.key(5), steps=21, discount=DISCOUNT)[1]
    cut, ended = ~batch.mask, batch.mask & (batch.discount == 0)
    assert cut.sum() > 5 and ended.sum() > 5 and (batch.discount[:, -1] > 0).any()
    spoilt = jnp.where(batch.mask, batch.logp, jnp.nan)
    logit = airl_logit(
        batch.reward, value[batch.context], spoilt, batch, final_potential=value[batch.final]
    )
    np.testing.assert_allclose(logit, 0.0, atol=1e-9)


def test_a_discriminator_as_steep_as_its_target_is_not_penalised():
    slope = jnp.array([[0.6, 0.8], [0.0, 0.0], [3.0, 4.0]])
    weight = jnp.ones(3)
    batch = Rating(ABSENT, ABSENT, ABSENT, score=weight, weight=weight)
    assert float(gradient_penalty(slope[:1], jax.tree.map(lambda x: x[:1], batch), target=1.0).mean
                 ) == pytest.approx(0.0)  # fmt: skip
    assert float(gradient_penalty(slope, batch, target=1.0).mean) == pytest.approx(17 / 3)
    assert float(gradient_penalty(slope, batch, target=0.0).mean) == pytest.approx(26 / 3)
    gradient = jax.grad(lambda x: gradient_penalty(x, batch, target=1.0).total)(slope)
    np.testing.assert_allclose(gradient[1], 0.0)


def test_bad_input():
    batch = Trajectory(ABSENT, ABSENT, jnp.ones((1, 2), bool), ABSENT, ABSENT, ABSENT)
    zeros = jnp.zeros((1, 2))
    with pytest.raises(InputError, match=r"^batch.discount: missing"):
        airl_logit(zeros, zeros, zeros, batch)
    with pytest.raises(InputError, match=r"^logp: expected shape \[1, 2\]"):
        airl_logit(zeros, zeros, zeros[:, :1], batch.replace(discount=zeros))

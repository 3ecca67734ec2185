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


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def ratings(score, weight):
    return Rating(ABSENT, ABSENT, ABSENT, score=score, weight=weight)


@jax.jit
def visits(mdp, logp):
    """The share of each state and action in a policy's visits, f64[S A]."""
    return share(occupancy(mdp, logp))


@pytest.mark.parametrize("ends", [False, True])
def test_the_best_discriminator_is_the_log_ratio_of_occupancies(ends):
    """A logit for each state and action, trained on exact occupancies to convergence."""
    mdp, other = process(ends=ends), normal(2, S, A)
    other -= np.log(np.exp(other).sum(-1, keepdims=True))
    logp = expert(mdp, normal(1, S, A))[1]
    demonstrated, sampled = (np.asarray(visits(mdp, x)) for x in (logp, other))
    batch = ratings(np.repeat([1.0, 0.0], S * A), np.concatenate([demonstrated, sampled]))
    objective = lambda v: binary_cross_entropy(jnp.concatenate([v, v]), batch).mean
    found = newton(objective, np.zeros(S * A))
    np.testing.assert_allclose(found, np.log(demonstrated / sampled), rtol=1e-8, atol=1e-8)


def rows(mdp):
    """Every state and action as a trajectory of one step; where it leads to."""
    state, action = (x.reshape(-1, 1) for x in np.mgrid[:S, :A])
    to = np.asarray(mdp.successor)[state[:, 0], action[:, 0], 0]
    discount = np.asarray(mdp.discount)[state, action]
    mask = np.ones_like(state, bool)
    return Trajectory(state, action, mask, ABSENT, ABSENT, ABSENT, to, discount)


@pytest.mark.parametrize("ends", [False, True])
def test_adversarial_inverse_rl_recovers_the_soft_advantage_and_a_reward_of_states(ends):
    """Fu et al. 2018: f = log π_E, and g = r but for a constant, which an end settles."""
    mdp, reward = ring(ends=ends), normal(1, S, 1)
    _, logp = expert(mdp, np.tile(reward, A))
    weight, every = np.tile(visits(mdp, logp), 2), rows(mdp)
    own = np.asarray(logp)[every.context, every.action]
    batch = ratings(np.repeat([1.0, 0.0], S * A), weight)

    def logit(x):
        g, h = x.reshape(2, S)
        final = h[every.final]
        return airl_logit(g[every.context], h[every.context], own, every, final_potential=final)

    def objective(x):
        v = logit(x)[:, 0]
        return binary_cross_entropy(jnp.concatenate([v, v]), batch).mean

    found = newton(objective, 0.1 * normal(3, 2 * S))
    np.testing.assert_allclose(np.add(jax.jit(logit)(found), own), own, atol=1e-8)
    apart = np.asarray(found)[:S] - reward[:, 0]
    np.testing.assert_allclose(apart, 0.0 if ends else apart.mean(), atol=1e-7)


def test_the_experts_own_logits_are_0_where_an_episode_ends_is_cut_or_goes_on():
    """g = r and h = V: f = Q − V = log π_E at every action of a stream of episodes."""
    mdp = ring(ends=True)
    reward = normal(1, S, A) - 2.0  # an end is welcome
    value, logp = expert(mdp, reward)

    def act(state, key):
        action = jax.random.categorical(key, logp[state])
        return action, logp[state, action]

    @jax.jit
    def drawn(mdp):
        env = as_environment(mdp, jnp.asarray(reward), time_limit=4)
        running = begin(env, jax.random.key(4), 8)
        return unroll(env, act, running, jax.random.key(5), steps=21, discount=DISCOUNT)[1]

    batch = jax.device_get(drawn(mdp))
    cut, ended = ~batch.mask, batch.mask & (batch.discount == 0)
    assert cut.sum() > 5 and ended.sum() > 5 and (batch.discount[:, -1] > 0).any()
    spoilt = np.where(batch.mask, batch.logp, np.nan)
    potential, final = (np.asarray(value)[x] for x in (batch.context, batch.final))
    logit = jax.jit(airl_logit)(batch.reward, potential, spoilt, batch, final_potential=final)
    np.testing.assert_allclose(logit, 0.0, atol=1e-9)


def test_a_discriminator_as_steep_as_its_target_is_not_penalised():
    slope, one = np.array([[0.6, 0.8], [0.0, 0.0], [3.0, 4.0]]), np.ones(3)
    batch = ratings(one, one)
    mean = jax.jit(lambda x, batch, target: gradient_penalty(x, batch, target=target).mean)
    assert mean(slope[:1], ratings(one[:1], one[:1]), 1.0) == pytest.approx(0.0)
    assert mean(slope, batch, 1.0) == pytest.approx(17 / 3)
    assert mean(slope, batch, 0.0) == pytest.approx(26 / 3)
    gradient = jax.jit(jax.grad(lambda x: gradient_penalty(x, batch, target=1.0).total))(slope)
    np.testing.assert_allclose(np.asarray(gradient)[1], 0.0)


def test_bad_input():
    batch = Trajectory(ABSENT, ABSENT, np.ones((1, 2), bool), ABSENT, ABSENT, ABSENT)
    zeros = np.zeros((1, 2))
    with pytest.raises(InputError, match=r"^batch.discount: missing"):
        airl_logit(zeros, zeros, zeros, batch)
    with pytest.raises(InputError, match=r"^logp: expected shape \[1, 2\]"):
        airl_logit(zeros, zeros, zeros[:, :1], batch.replace(discount=zeros))

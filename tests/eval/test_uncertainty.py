"""Standard errors of rewards against all trajectories, and against many data sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import infinite_horizon
from irl_jax.envs.tabular import random_mdp
from irl_jax.eval.identification import projector
from irl_jax.eval.reward_distance import value_adjusted
from irl_jax.eval.uncertainty import information_covariance, sandwich_covariance
from irl_jax.losses.inverse import causal_likelihood
from irl_jax.types import Trajectory
from tests.oracles import planning as oracle

S, A, T, B = 2, 2, 4, 400
DISCOUNT = 0.7
REWARD = np.array([[0.5, -0.2], [0.0, 0.8]])


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def mdp():
    return random_mdp(jax.random.key(3), S, A, discount=DISCOUNT)


@pytest.fixture
def identified(mdp):
    return projector(lambda r: value_adjusted(mdp, r), (S, A))


def policy(mdp, reward):
    """log π of a demonstrator, who plans for ever and is seen for T steps."""
    return infinite_horizon(mdp, reward, tolerance=1e-10).logp


def every_trajectory(mdp) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States and actions i64[N, T], and how likely each is under the demonstrator."""
    logp = np.broadcast_to(np.asarray(policy(mdp, REWARD)), (T, S, A))
    states, actions, chance = [], [], []
    for path, taken, luck, _ in oracle.trajectories(mdp, T):
        states.append(path)
        actions.append(taken)
        chance.append(luck * np.exp(sum(logp[0, s, a] for s, a in zip(path, taken, strict=True))))
    return np.array(states), np.array(actions), np.array(chance)


def weights(states: np.ndarray, actions: np.ndarray, discount: float) -> np.ndarray:
    """How often each action was taken in each state, with its γᵗ, f64[N, S, A]."""
    count = np.zeros((len(states), S, A))
    for t in range(T):
        np.add.at(count, (np.arange(len(states)), states[:, t], actions[:, t]), discount**t)
    return count


def test_without_a_discount_the_information_is_fishers(mdp, identified):
    """E ∇² = E g gᵀ over all trajectories; its inverse where it has one."""
    states, actions, chance = every_trajectory(mdp)
    slope = np.asarray(jax.jacobian(lambda r: policy(mdp, r))(jnp.asarray(REWARD)))
    scores = np.einsum("nsa,sabc->nbc", weights(states, actions, 1.0), slope).reshape(-1, S * A)
    fisher = (chance[:, None] * scores).T @ scores
    values, vectors = np.linalg.eigh(fisher)
    assert (values > 1e-9).sum() == S * A - S
    expected = vectors[:, values > 1e-9] / values[values > 1e-9] @ vectors[:, values > 1e-9].T
    batch = Trajectory(states, actions, jnp.ones(states.shape, bool), None, None, None)

    def loss(reward):
        logp = policy(mdp, reward)[batch.context, batch.action]
        rows = jax.vmap(lambda row, keep: causal_likelihood(
            row[None], batch.replace(mask=keep[None]), discount=1.0).total)  # fmt: skip
        return rows(logp, batch.mask) @ chance

    found = jax.jit(lambda r: information_covariance(loss, r, identified))(jnp.asarray(REWARD))
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("discount", [1.0, DISCOUNT])
def test_intervals_cover_as_often_as_they_say(mdp, identified, discount):
    """1,000 data sets: errors as large as the covariances say, 95 % of intervals right.

    The policy can be any, so that the most likely one is that of the counts, and the least
    discounted loss is at the counts with their discounts.
    """
    states, actions, chance = every_trajectory(mdp)
    count = weights(states, actions, discount)
    rng = np.random.default_rng(0)
    drawn = count[rng.choice(len(chance), (1000, B), p=chance / chance.sum())]
    total = drawn.sum(1)
    logp = np.log(total / total.sum(-1, keepdims=True))

    @jax.jit
    @jax.vmap
    def covariances(logp, rows):
        losses = lambda r: -(rows * policy(mdp, r)).sum((-1, -2))
        summed = lambda r: losses(r).sum()
        estimate = (identified @ logp.ravel()).reshape(S, A)
        return (
            estimate.ravel(),
            jax.grad(summed)(estimate),
            information_covariance(summed, estimate, identified),
            sandwich_covariance(losses, estimate, identified),
        )

    estimate, slope, information, sandwich = map(np.asarray, covariances(logp, drawn))
    np.testing.assert_allclose(slope, 0.0, atol=1e-7)
    values, vectors = np.linalg.eigh(np.asarray(identified))
    basis = vectors[:, values > 0.5]
    errors = (estimate - np.asarray(identified) @ REWARD.ravel()) @ basis
    spread = lambda each: np.einsum("ik,nij,jk->nk", basis, each, basis)
    deviation = 4.5 / np.sqrt(2 * 1000)  # of a variance of 1,000 errors, 4.5 times
    for found, holds in ((sandwich, True), (information, discount == 1.0)):
        ratio = (errors**2).mean(0) / spread(found).mean(0)
        assert (np.abs(ratio - 1) < deviation).all() == holds, ratio
    inside = np.abs(errors) < 1.96 * np.sqrt(spread(sandwich))
    assert (np.abs(inside.mean(0) - 0.95) < 4.5 * np.sqrt(0.95 * 0.05 / 1000)).all()

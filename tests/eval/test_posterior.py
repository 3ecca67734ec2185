"""Posteriors of rewards: a grid against sums, Laplace against the grid, ranks that are flat."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from irl_jax.dynamics.planning import infinite_horizon
from irl_jax.envs.tabular import random_mdp
from irl_jax.eval.posterior import grid_posterior, laplace, log_joint, nuts
from irl_jax.losses.inverse import causal_likelihood
from irl_jax.types import InputError, Trajectory
from tests.oracles import planning as oracle

S, A, T, DISCOUNT, DEVIATION = 2, 2, 3, 0.7, 0.8
REWARD = np.array([[0.5, -0.2], [0.0, 0.8]])


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def mdp():
    return random_mdp(jax.random.key(3), S, A, discount=DISCOUNT)


def policy(mdp, reward):
    """log π of a demonstrator, who plans for ever and is seen for T steps."""
    return infinite_horizon(mdp, reward, tolerance=1e-10).logp


def every_path(mdp):
    """States and actions i64[N, T], and p₀ Π P of each, f64[N]."""
    found = [(s, a, luck) for s, a, luck, _ in oracle.trajectories(mdp, T)]
    states, actions, luck = zip(*found, strict=True)
    return np.array(states), np.array(actions), np.array(luck)


def demonstrations(mdp, count: int) -> Trajectory:
    states, actions, luck = every_path(mdp)
    logp = np.asarray(policy(mdp, REWARD))
    chance = luck * np.exp(logp[states, actions].sum(-1))
    rows = np.random.default_rng(0).choice(len(chance), count, p=chance / chance.sum())
    mask = jnp.ones((count, T), bool)
    return Trajectory(jnp.array(states[rows]), jnp.array(actions[rows]), mask, None, None, None)


def joint(mdp, batch: Trajectory):
    def loss(theta):
        logp = policy(mdp, theta.reshape(S, A))[batch.context, batch.action]
        return causal_likelihood(logp, batch, discount=1.0)

    return log_joint(loss, deviation=DEVIATION)


def test_the_joint_density_is_likelihood_and_prior(mdp):
    batch, theta = demonstrations(mdp, 5), np.array([0.3, -0.1, 0.2, 0.9])
    logp = np.asarray(policy(mdp, theta.reshape(S, A)))
    expected = logp[np.asarray(batch.context), np.asarray(batch.action)].sum()
    expected += scipy.stats.norm.logpdf(theta, 0.0, DEVIATION).sum()
    found = joint(mdp, batch)(jnp.asarray(theta))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_laplace_is_what_the_grid_says_where_there_is_much_data(mdp):
    """And where nothing is said, v(s) − γ E v(S'), both are the prior."""
    unseen = np.eye(S)[:, None] - DISCOUNT * oracle.dense(mdp)
    basis, _ = np.linalg.qr(unseen.reshape(S * A, S), mode="complete")
    of_rewards = joint(mdp, demonstrations(mdp, 150))
    density = lambda theta: of_rewards(basis @ theta)  # the prior knows no direction
    wide, fine = jnp.linspace(-4.0, 4.0, 11), jnp.linspace(-2.0, 2.0, 41)
    grid = jax.jit(lambda: grid_posterior(density, [wide] * S + [fine] * S))()
    found = jax.jit(lambda: laplace(density, jnp.zeros(4)))()
    np.testing.assert_allclose(jax.grad(density)(found.mean), 0.0, atol=1e-8)
    np.testing.assert_allclose(found.mean, grid.mean, atol=0.02)
    np.testing.assert_allclose(found.covariance, grid.covariance, atol=2e-3)
    assert float(found.log_evidence) == pytest.approx(float(grid.log_evidence), abs=0.02)
    for covariance in (found.covariance, grid.covariance):
        np.testing.assert_allclose(covariance[:S, :S], DEVIATION**2 * np.eye(S), atol=1e-3)
        assert np.diag(covariance)[S:].max() < 0.1 * DEVIATION**2


def test_the_draws_of_a_grid_are_as_often_as_probable(mdp):
    axis = jnp.linspace(-1.0, 1.0, 3)
    grid = grid_posterior(lambda theta: theta.sum(), [axis] * 2)
    drawn = np.asarray(grid.sample(jax.random.key(0), 5000)).sum(-1)
    expected = np.convolve(np.exp(axis), np.exp(axis))
    seen = np.array([(np.abs(drawn - total) < 0.5).sum() for total in range(-2, 3)])
    assert scipy.stats.chisquare(seen, 5000 * expected / expected.sum()).pvalue > 1e-3


def test_nuts_draws_what_the_grid_says(mdp):
    """In two dimensions; the means of 4,000 draws were within 0.03 deviations for six keys."""
    pytest.importorskip("blackjax", reason='needs pip install "irl_jax[bayes]"')
    taken = jnp.array([[6.0, 1.0], [0.0, 3.0]])
    planned = lambda theta: policy(mdp, jnp.stack([theta, jnp.zeros(S)], -1))
    prior = lambda theta: jax.scipy.stats.norm.logpdf(theta, 0.0, 2.0).sum()
    density = lambda theta: (taken * planned(theta)).sum() + prior(theta)
    grid = grid_posterior(density, [jnp.linspace(-10.0, 10.0, 101)] * 2)
    sampled = jax.jit(lambda key: nuts(density, jnp.zeros(2), key, warmup=300, draws=4000))
    drawn = np.asarray(sampled(jax.random.key(0)))
    deviation = np.sqrt(np.diag(grid.covariance))
    np.testing.assert_allclose((drawn.mean(0) - grid.mean) / deviation, 0.0, atol=0.1)
    found = np.cov(drawn.T) / np.outer(deviation, deviation)
    expected = np.asarray(grid.covariance) / np.outer(deviation, deviation)
    np.testing.assert_allclose(found, expected, atol=0.2)


def test_without_blackjax_nuts_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(InputError, match=r"pip install \"irl_jax\[bayes\]\""):
        nuts(lambda theta: -(theta**2).sum(), jnp.zeros(1), jax.random.key(0), warmup=1, draws=1)


@pytest.mark.parametrize(("discount", "calibrated"), [(1.0, True), (0.3, False)])
def test_ranks_of_the_truth_among_draws_are_flat(mdp, discount, calibrated):
    """Talts et al. 2018: a reward from the prior, data from the reward, draws given the data.

    A discounted likelihood, which is none, is found out: its posterior is too wide.
    """
    draws, repeats, bins, count = 15, 2000, 8, 20
    axes = [jnp.linspace(-4.5, 4.5, 13)] * S
    planned = lambda theta: policy(mdp, jnp.stack([theta, jnp.zeros(S)], -1))
    prior = grid_posterior(lambda theta: jax.scipy.stats.norm.logpdf(theta, 0.0, 1.5).sum(), axes)
    states, actions, luck = every_path(mdp)
    logp = np.asarray(jax.jit(jax.vmap(planned))(prior.points))
    chance = np.cumsum(luck * np.exp(logp[:, states, actions].sum(-1)), -1)
    rng = np.random.default_rng(0)
    truth = rng.choice(len(logp), repeats, p=np.exp(prior.logp))
    rows = np.array([np.searchsorted(chance[i], rng.uniform(size=count)) for i in truth])

    @jax.jit
    @jax.vmap
    def posterior_draws(state, action, key):
        mask = jnp.ones((count, T), bool)
        batch = Trajectory(state, action, mask, None, None, None)
        loss = lambda theta: causal_likelihood(
            planned(theta)[state, action], batch, discount=discount
        )
        return grid_posterior(log_joint(loss, deviation=1.5), axes).sample(key, draws)

    keys = jax.random.split(jax.random.key(0), repeats)
    drawn = np.asarray(posterior_draws(states[rows], actions[rows], keys))[..., 0]
    true = np.asarray(prior.points)[truth, None, 0]
    below, ties = (drawn < true - 1e-9).sum(-1), (np.abs(drawn - true) < 1e-9).sum(-1)
    rank = below + rng.integers(0, ties + 1)
    seen = np.bincount(rank * bins // (draws + 1), minlength=bins)
    p = scipy.stats.chisquare(seen).pvalue
    assert p > 1e-3 if calibrated else p < 1e-6


def test_the_mode_is_found_from_afar_and_missed_with_nan():
    """Where the density is not concave, steep, or has no mode."""
    cauchy = lambda theta: -jnp.log1p(((theta - 3.0) ** 2 / jnp.array([1.0, 1e-4])).sum())
    found = laplace(cauchy, jnp.array([-40.0, 90.0]))
    np.testing.assert_allclose(found.mean, 3.0, atol=1e-6)
    np.testing.assert_allclose(found.covariance, np.diag([0.5, 0.5e-4]), rtol=1e-5, atol=1e-9)
    overshot = lambda theta: -jnp.sqrt(1 + theta**2).sum()  # a whole step goes from x to −x³
    np.testing.assert_allclose(laplace(overshot, jnp.array([3.0])).mean, 0.0, atol=1e-6)
    for endless in (lambda theta: theta.sum(), lambda theta: jnp.log1p(theta**2).sum()):
        assert np.isnan(laplace(endless, jnp.array([2.0])).mean).all()


def test_bad_input(mdp):
    with pytest.raises(InputError, match="deviation"):
        log_joint(lambda theta: None, deviation=0.0)
    with pytest.raises(InputError, match="axes"):
        grid_posterior(lambda theta: theta.sum(), [jnp.zeros(1)])

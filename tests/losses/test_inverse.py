"""Maximum causal entropy inverse RL against all trajectories of small processes, in float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.optimize import minimize

from irl_jax.dynamics.planning import empirical_occupancy, finite_horizon, occupancy
from irl_jax.envs.tabular import random_mdp
from irl_jax.losses.inverse import causal_likelihood, occupancy_matching, variational_reward
from irl_jax.types import InputError, TabularMDP, Trajectory
from tests.oracles import planning as oracle

S, A, H = 3, 2, 4


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def process(successors: int | None) -> TabularMDP:
    mdp = random_mdp(jax.random.key(3), S, A, discount=0.8, successors=successors)
    return replace(mdp, discount=mdp.discount.at[1, 0].set(0.0))  # an end of the episode


def expert(mdp: TabularMDP) -> np.ndarray:
    """log π_E, f64[H, S, A], soft-optimal for a reward that nobody is told."""
    hidden = np.random.default_rng(1).normal(size=(S, A))
    return np.asarray(finite_horizon(mdp, hidden, horizon=H).logp)


def every_trajectory(mdp: TabularMDP, logp: np.ndarray) -> tuple[Trajectory, np.ndarray]:
    """All trajectories as a batch, to the end of their episodes, and how likely each is."""
    states, actions, chance = [], [], []
    for path, taken, luck, _ in oracle.trajectories(mdp, H):
        own = sum(logp[t, s, a] for t, (s, a) in enumerate(zip(path, taken, strict=True)))
        states.append(path)
        actions.append(taken)
        chance.append(luck * np.exp(own))
    state, action = jnp.array(states), jnp.array(actions)
    after = mdp.discount[state, action]
    alive = jnp.cumprod(jnp.concatenate([jnp.ones((len(state), 1)), after[:, :-1]], 1), 1) > 0
    absent = None
    return Trajectory(state, action, alive, absent, absent, absent), np.array(chance)


def likelihood(mdp: TabularMDP, reward, batch: Trajectory):
    """The loss of demonstrations under the soft policy of a reward."""
    policy = finite_horizon(mdp, reward, horizon=H).logp
    logp = policy[jnp.arange(H), batch.context, batch.action]
    return causal_likelihood(logp, batch, discount=mdp.discount[batch.context, batch.action])


def exact(mdp: TabularMDP, logp: np.ndarray):
    """reward -> the loss of an endless number of demonstrations: the mean over all trajectories."""
    batch, chance = every_trajectory(mdp, logp)
    rows = jax.tree.map(lambda x: x[:, None], batch)

    @jax.jit
    def loss(reward):
        return jax.vmap(lambda row: likelihood(mdp, reward, row).mean)(rows) @ chance

    return loss


@pytest.mark.parametrize("successors", [None, 2, 1])
def test_the_gradient_is_that_of_differences_and_of_visits(successors):
    """To 1e-10, under the exact occupancies of the demonstrator, where chance plays a part too."""
    mdp, reward = process(successors), jnp.asarray(np.random.default_rng(2).normal(size=(S, A)))
    teacher = expert(mdp)
    loss = exact(mdp, teacher)
    slope = np.asarray(jax.grad(loss)(reward))
    demonstrated = oracle.occupancy(mdp, teacher).sum(0)
    visits = occupancy(mdp, finite_horizon(mdp, reward, horizon=H).logp).sum(0)
    np.testing.assert_allclose(slope, visits - demonstrated, atol=1e-10)
    matched = jax.grad(lambda r: occupancy_matching(r, visits, demonstrated).total)(reward)
    np.testing.assert_allclose(matched, slope, atol=1e-10)
    eps = 1e-3
    for s in range(S):
        for a in range(A):
            at = lambda h, s=s, a=a: loss(reward.at[s, a].add(h * eps))
            difference = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * eps)
            assert abs(difference - slope[s, a]) < 1e-10


def drawn(mdp: TabularMDP, count: int) -> Trajectory:
    """A few of all trajectories, as likely as they are."""
    batch, chance = every_trajectory(mdp, expert(mdp))
    rows = np.random.default_rng(0).choice(len(chance), count, p=chance / chance.sum())
    return jax.tree.map(lambda x: x[rows], batch)


def gradients(mdp: TabularMDP, batch: Trajectory):
    """Of the likelihood of demonstrations, and of the visits that they made."""
    reward = jnp.asarray(np.random.default_rng(2).normal(size=(S, A)))
    slope = jax.grad(lambda r: likelihood(mdp, r, batch).mean)(reward)
    visits = occupancy(mdp, finite_horizon(mdp, reward, horizon=H).logp).sum(0)
    return slope, visits - empirical_occupancy(mdp, batch).sum(0)


def test_a_few_demonstrations_give_another_gradient_where_chance_plays_a_part():
    """A demonstrator who was lucky did not choose that: likelihood knows, matching visits not."""
    surely = replace(process(1), start=jnp.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(*gradients(surely, drawn(surely, 5)), atol=1e-12)
    chancy = replace(process(2), start=jnp.array([1.0, 0.0, 0.0]))
    by_likelihood, by_visits = gradients(chancy, drawn(chancy, 5))
    assert np.abs(by_likelihood - by_visits).max() > 0.02


def test_the_least_loss_has_the_demonstrators_visits():
    mdp = process(2)
    teacher = expert(mdp)
    loss = exact(mdp, teacher)
    at = lambda flat: loss(flat.reshape(S, A))
    found = minimize(at, jnp.zeros(S * A), method="BFGS").x.reshape(S, A)
    visits = occupancy(mdp, finite_horizon(mdp, found, horizon=H).logp).sum(0)
    np.testing.assert_allclose(visits, oracle.occupancy(mdp, teacher).sum(0), atol=1e-4)


def test_what_is_outside_the_mask_changes_nothing():
    rng = np.random.default_rng(0)
    logp = -rng.exponential(size=(3, 5))
    mask = np.arange(5) < np.array([5, 2, 0])[:, None]
    absent = None
    batch = Trajectory(absent, absent, jnp.asarray(mask), absent, absent, absent)
    gamma = rng.uniform(0.2, 1.0, size=(3, 5))
    expected = [
        -sum(np.prod(gamma[i, :t]) * logp[i, t] for t in range(n)) for i, n in enumerate((5, 2))
    ]
    for fill in (np.nan, np.inf, 1e30):
        spoiled = jnp.where(mask, logp, fill)
        of = lambda x, fill=fill: causal_likelihood(x, batch, discount=jnp.where(mask, gamma, fill))
        loss = of(spoiled)
        assert float(loss.mean) == pytest.approx(np.mean(expected), rel=1e-12)
        assert float(loss.weight) == 2
        total, weight = loss.metrics["nll"]
        assert float(total / weight) == pytest.approx(-logp[mask].mean(), rel=1e-12)
        slope = jax.grad(lambda x, of=of: of(x).total)(spoiled)
        np.testing.assert_array_equal(slope[~mask], 0.0)
        assert np.isfinite(slope).all()


def test_bad_input():
    absent = None
    batch = Trajectory(absent, absent, jnp.ones((2, 3), bool), absent, absent, absent)
    with pytest.raises(InputError, match=r"batch\.mask"):
        causal_likelihood(jnp.zeros((2, 4)), batch, discount=1.0)
    with pytest.raises(InputError, match="discount"):
        causal_likelihood(jnp.zeros((2, 3)), batch, discount=1.5)
    with pytest.raises(InputError, match="demonstrated: expected shape"):
        occupancy_matching(jnp.zeros((3, 2)), jnp.zeros((3, 2)), jnp.zeros((2, 3)))


def test_of_a_row_of_several_demonstrations_the_first_counts():
    logp = -jnp.arange(1.0, 6.0)[None]
    mask = jnp.array([[True, True, False, True, True]])
    absent = None
    batch = Trajectory(absent, absent, mask, absent, absent, absent)
    cut = causal_likelihood(logp, batch, discount=jnp.array([[0.5, 0.5, 0.0, 0.5, 0.5]]))
    ended = causal_likelihood(logp, batch, discount=jnp.array([[0.5, 0.0, 0.5, 0.5, 0.5]]))
    assert float(cut.mean) == float(ended.mean) == pytest.approx(1 + 0.5 * 2)
    hole = causal_likelihood(logp, batch, discount=jnp.full((1, 5), 0.5))
    assert float(hole.mean) == pytest.approx(1 + 0.5 * 2 + 0.25 * 4 + 0.125 * 5)
    late = batch.replace(mask=mask.at[0, 0].set(False))
    assert float(causal_likelihood(logp, late, discount=0.0).mean) == 2.0


# ----- the variational posterior of the reward


def posterior_loss(implied, mean, log_variance, multiplier):
    absent, one = None, lambda x: jnp.asarray(x, float).reshape(1, 1)
    batch = Trajectory(absent, absent, jnp.ones((1, 1), bool), absent, absent, absent)
    arrays = [one(x) for x in (0.0, implied, mean, log_variance)]
    return variational_reward(*arrays, batch, multiplier=multiplier)


def test_the_divergence_and_the_entropy_are_those_of_the_densities():
    """By quadrature: KL(q‖N(0, 1)), and E_q of −log q, which is the entropy of q."""
    m, deviation = 0.7, 0.6
    grid, step = np.linspace(-8.0, 8.0, 4001, retstep=True)
    normal = lambda x, m, s: np.exp(-(((x - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))
    q, prior = normal(grid, m, deviation), normal(grid, 0.0, 1.0)
    near = np.abs(grid - m) < 8 * deviation
    of = jax.jit(lambda x: posterior_loss(x, m, 2 * np.log(deviation), 1.0).metrics)
    kl = float(of(0.0)["kl"][0])
    assert kl == pytest.approx((q * np.log(q / prior))[near].sum() * step, rel=1e-8)
    apart = jax.vmap(of)(jnp.asarray(grid))["consistency"][0]
    assert float((q * apart).sum() * step) == pytest.approx(
        -(q * np.log(q))[near].sum() * step, rel=1e-8
    )


@pytest.mark.parametrize("multiplier", [0.3, 1.0])
def test_the_best_posterior_lies_between_the_prior_and_what_q_implies(multiplier):
    """m = λx/(λ + σ²); σ² = 1 − λ + λ (x − m)²/σ²."""
    implied = 1.5
    loss = jax.jit(lambda x: posterior_loss(implied, x[0], x[1], multiplier).mean)
    m, log_variance = minimize(loss, jnp.zeros(2), method="BFGS", tol=1e-8).x
    variance = float(jnp.exp(log_variance))
    assert float(m) == pytest.approx(multiplier * implied / (multiplier + variance), rel=1e-5)
    expected = 1 - multiplier + multiplier * (implied - float(m)) ** 2 / variance
    assert variance == pytest.approx(expected, rel=1e-5)

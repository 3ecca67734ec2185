"""What demonstrations cannot tell, against the null space of the conditions themselves."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import finite_horizon, infinite_horizon
from irl_jax.envs.tabular import gridworld, random_mdp
from irl_jax.eval.identification import (
    advantages_in_time,
    normalised_regret,
    project,
    projector,
    regret,
)
from irl_jax.eval.reward_distance import expected_reward, starc, value_adjusted
from irl_jax.types import InputError, TabularMDP
from tests.oracles import planning
from tests.oracles import recovery as oracle

S, A, H, GAMMA = 3, 2, 3, 0.8
SHAPES = [(S,), (S, A), (S, A, S)]


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def process(kind: str = "sparse", key: int = 3) -> TabularMDP:
    """A process of 3 states and 2 actions; of the kind "ending" an action ends the episode."""
    successors = {"dense": None, "sparse": 2, "deterministic": 1, "ending": 2}[kind]
    mdp = random_mdp(jax.random.key(key), S, A, discount=GAMMA, successors=successors)
    if kind == "ending":
        mdp = replace(mdp, discount=mdp.discount.at[1, 0].set(0.0))
    return mdp


every_kind = pytest.mark.parametrize("kind", ["dense", "sparse", "deterministic", "ending"])
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
draw = lambda seed, shape: np.random.default_rng(seed).normal(size=shape)


def soft_policy(mdp: TabularMDP, reward) -> np.ndarray:
    plan = infinite_horizon(mdp, expected_reward(mdp, jnp.asarray(reward)), tolerance=1e-12)
    return np.asarray(plan.logp)


@every_kind
@every_shape
def test_the_projector_is_orthogonal_to_all_that_cannot_be_identified(kind, shape):
    mdp = process(kind)
    found = np.asarray(jax.jit(lambda: projector(partial(value_adjusted, mdp), shape))())
    null = oracle.unidentified(mdp, shape)
    np.testing.assert_allclose(found, np.eye(len(found)) - null @ null.T, atol=1e-10)
    np.testing.assert_allclose(found @ found, found, atol=1e-12)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    counted = {(S, A): S * A - S, (S, A, S): S * A - S}  # a potential a state, and no more
    if shape in counted:
        assert found.trace() == pytest.approx(counted[shape], abs=1e-10)


@every_kind
@every_shape
def test_the_soft_policy_stays_along_the_null_space_and_nowhere_else(kind, shape):
    mdp, reward = process(kind), draw(0, shape)
    found = projector(partial(value_adjusted, mdp), shape)
    policy, step = soft_policy(mdp, reward), draw(1, shape)
    kept = np.asarray(project(found, step))
    np.testing.assert_allclose(soft_policy(mdp, reward + step - kept), policy, atol=1e-10)
    assert np.abs(soft_policy(mdp, reward + kept) - policy).max() > 1e-2
    hidden = partial(soft_policy, mdp)
    np.testing.assert_allclose(hidden(project(found, reward)), policy, atol=1e-10)


def test_shaping_is_removed_and_paying_for_luck_too():
    mdp = process("dense")
    potential, step = draw(0, S), draw(1, (S, A, S))
    shaping = GAMMA * potential - np.broadcast_to(potential[:, None, None], (S, A, S))
    luck = step - (planning.dense(mdp) * step).sum(-1, keepdims=True)
    found = projector(partial(value_adjusted, mdp), (S, A, S))
    np.testing.assert_allclose(project(found, shaping), 0.0, atol=1e-12)
    np.testing.assert_allclose(project(found, luck), 0.0, atol=1e-12)


def test_log_probs_are_a_reward_that_was_recovered_up_to_what_is_identified():
    """Cao, Cohen & Szpruch, theorem 1: τ log π + v(s) − γ E v(S') has the soft policy π."""
    mdp, hidden, temperature = process(), draw(0, (S, A)), 0.5
    plan = infinite_horizon(mdp, hidden, temperature=temperature, tolerance=1e-12)
    found = projector(partial(value_adjusted, mdp), (S, A))
    np.testing.assert_allclose(
        project(found, temperature * plan.logp), project(found, hidden), atol=1e-10
    )
    assert np.abs(temperature * np.asarray(plan.logp) - hidden).max() > 0.1


@every_kind
def test_with_a_horizon_more_is_identified(kind):
    """A reward that does not change with time is seen with 1, ..., H steps to go."""
    mdp, reward, step = process(kind), draw(0, (S, A)), draw(1, (S, A))
    found = projector(partial(advantages_in_time, mdp, horizon=H), (S, A))
    of = lambda r: np.asarray(finite_horizon(mdp, r, horizon=H).logp)
    kept = np.asarray(project(found, step))
    np.testing.assert_allclose(of(reward + step - kept), of(reward), atol=1e-10)
    value = np.zeros(S)
    for advantage in np.asarray(advantages_in_time(mdp, reward, horizon=H))[::-1]:
        q = reward + np.asarray(mdp.discount) * (planning.dense(mdp) @ value)
        value = q.mean(-1)
        np.testing.assert_allclose(advantage, q - value[:, None], atol=1e-12)
    null = oracle.unidentified(mdp, (S, A), H)
    np.testing.assert_allclose(found, np.eye(S * A) - null @ null.T, atol=1e-10)
    assert null.shape[1] < S
    values, vectors = np.linalg.eigh(np.asarray(found))
    for direction in vectors[:, values > 0.5].T:
        assert np.abs(of(reward + direction.reshape(S, A)) - of(reward)).max() > 1e-3


def test_two_processes_leave_but_a_constant():
    """Cao, Cohen & Szpruch: two discounts, or two dynamics that differ enough."""
    one, other = process("dense"), process("dense", key=8)
    slower = replace(one, discount=jnp.full((S, A), 0.5))
    for second in (other, slower):
        both = lambda r, second=second: (value_adjusted(one, r), value_adjusted(second, r))
        found = np.asarray(projector(both, (S, A)))
        np.testing.assert_allclose(found, np.eye(S * A) - 1 / (S * A), atol=1e-8)


def test_rewards_of_states_on_a_grid_are_identified_but_for_a_constant():
    """Kim et al.: a domain graph that is aperiodic; without staying put, a checkerboard more."""
    grid = gridworld(2, 3, discount=0.9)
    found = np.asarray(projector(partial(value_adjusted, grid), (6,)))
    np.testing.assert_allclose(found, np.eye(6) - 1 / 6, atol=1e-10)
    ring = TabularMDP(
        prob=jnp.ones((4, 2, 1)),
        start=jnp.full(4, 0.25),
        discount=jnp.full((4, 2), 0.9),
        successor=(jnp.arange(4)[:, None, None] + jnp.array([[1], [-1]])) % 4,
    )
    found = np.asarray(projector(partial(value_adjusted, ring), (4,)))
    for reward in (np.ones(4), np.array([1.0, -1.0, 1.0, -1.0])):
        np.testing.assert_allclose(found @ reward, 0.0, atol=1e-10)
    assert found.trace() == pytest.approx(2.0)


@every_kind
def test_regret_is_that_of_all_policies(kind):
    mdp, reward, learned = process(kind), draw(0, (S, A, S)), draw(1, (S, A, S))
    own, other = oracle.returns(mdp, reward), oracle.returns(mdp, learned)
    expected = (own.max() - own[other.argmax()]) / (own.max() - own.min())
    found = jax.jit(partial(regret, mdp, temperature=None))
    assert float(found(reward, learned)) == pytest.approx(expected, abs=1e-9)
    assert float(found(reward, reward)) == pytest.approx(0.0, abs=1e-9)
    assert float(found(reward, -reward)) == pytest.approx(1.0, abs=1e-9)
    assert float(found(np.ones((S, A, S)) if kind != "ending" else 0 * reward, learned)) == 0.0


def test_regret_of_a_soft_policy_and_elsewhere():
    mdp, reward = process(), draw(0, (S, A))
    soft = [float(regret(mdp, reward, reward, temperature=t)) for t in (1.0, 0.1, 0.01)]
    assert soft[0] > soft[1] > soft[2] >= -1e-12
    uniform = normalised_regret(mdp, reward, jnp.full((S, A), -jnp.log(2.0)))
    value = oracle.value(mdp, reward, np.full((S, A), 0.5)) @ np.asarray(mdp.start)
    own = oracle.returns(mdp, np.broadcast_to(reward[..., None], (S, A, S)))
    expected = (own.max() - value) / (own.max() - own.min())
    assert float(uniform) == pytest.approx(expected, rel=1e-9)


def test_a_reward_that_is_as_good_here_can_be_bad_elsewhere():
    """The advantages of this process order its policies, not those of another (Fu et al. 2018)."""
    here, reward = process(), np.repeat([[0.0], [0.0], [3.0]], A, axis=1)  # of a place
    learned = soft_policy(here, reward)
    assert float(starc(here, reward, learned)) < 1e-7
    assert float(regret(here, reward, learned, temperature=None)) == pytest.approx(0.0, abs=1e-9)
    there = replace(here, prob=here.prob[:, ::-1], successor=here.successor[:, ::-1])
    own = oracle.returns(there, np.broadcast_to(reward[..., None], (S, A, S)))
    other = oracle.returns(there, np.broadcast_to(learned[..., None], (S, A, S)))
    expected = (own.max() - own[other.argmax()]) / (own.max() - own.min())
    assert expected > 0.05
    found = float(regret(there, reward, learned, temperature=None))
    assert found == pytest.approx(expected, rel=1e-9)


def test_bad_input():
    mdp = process()
    with pytest.raises(InputError, match="projector: expected shape"):
        project(jnp.eye(4), jnp.zeros((S, A)))
    with pytest.raises(InputError, match="horizon"):
        advantages_in_time(mdp, jnp.zeros((S, A)), horizon=0)
    with pytest.raises(InputError, match="reward: expected shape"):
        regret(mdp, jnp.zeros((S + 1, A)), jnp.zeros((S, A)), temperature=None)

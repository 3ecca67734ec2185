"""Planning against every trajectory of small processes, one by one, in float64."""

from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import (
    empirical_occupancy,
    expected_next,
    finite_horizon,
    flow,
    infinite_horizon,
    occupancy,
)
from irl_jax.envs.tabular import random_mdp
from irl_jax.types import InputError, TabularMDP, Trajectory
from tests.oracles import planning as oracle

S, A, H = 3, 2, 4


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def process(kind: str) -> TabularMDP:
    """A process of 3 states and 2 actions; of the kind "ending" an action ends the episode."""
    successors = {"dense": None, "sparse": 2, "deterministic": 1, "ending": 2}[kind]
    mdp = random_mdp(jax.random.key(3), S, A, discount=0.8, successors=successors)
    if kind == "ending":
        mdp = replace(mdp, discount=mdp.discount.at[1, 0].set(0.0))
    return mdp


every_kind = pytest.mark.parametrize("kind", ["dense", "sparse", "deterministic", "ending"])


def rewards(seed: int = 0, *, timed: bool = False) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(H, S, A) if timed else (S, A))


@every_kind
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_soft_policy_maximises_return_and_entropy(kind, timed, temperature):
    """Its value is its return and entropy over all trajectories; other policies have less."""
    mdp, reward = process(kind), rewards(timed=timed)
    plan = jax.jit(finite_horizon, static_argnames="horizon")(
        mdp, reward, horizon=H, temperature=temperature
    )
    own, each = np.asarray(plan.logp), np.broadcast_to(reward, (H, S, A))
    np.testing.assert_allclose(np.exp(own).sum(-1), 1.0, rtol=1e-12)
    value = float(mdp.start @ plan.value[0])
    assert value == pytest.approx(oracle.soft_return(mdp, each, own, temperature), rel=1e-12)
    rng = np.random.default_rng(1)
    for size in (1e-3, 0.1, 1.0):
        moved = own + size * rng.normal(size=own.shape)
        moved -= np.log(np.exp(moved).sum(-1, keepdims=True))
        assert oracle.soft_return(mdp, each, moved, temperature) < value


def test_paths_of_a_deterministic_process_are_as_likely_as_their_reward_says():
    """Ziebart 2008: P(τ) ∝ exp Σ r(sₜ, aₜ), where nothing is left to chance."""
    start = jnp.array([1.0, 0.0, 0.0])
    mdp = replace(process("deterministic"), discount=jnp.ones((S, A)), start=start)
    reward = rewards()
    logp = np.asarray(finite_horizon(mdp, reward, horizon=H).logp)
    returns, found = [], []
    for path, taken, _, _ in oracle.trajectories(mdp, H):
        returns.append(sum(reward[s, a] for s, a in zip(path, taken, strict=True)))
        found.append(sum(logp[t, s, a] for t, (s, a) in enumerate(zip(path, taken, strict=True))))
    assert len(found) == A**H
    np.testing.assert_allclose(found, returns - np.log(np.exp(returns).sum()), rtol=1e-12)


@every_kind
def test_the_hard_policy_is_the_best_of_all(kind):
    mdp, reward, horizon = process(kind), rewards(), 2
    plan = finite_horizon(mdp, reward, horizon=horizon, temperature=None)
    each = np.broadcast_to(reward, (horizon, S, A))
    best = -np.inf
    for choice in product(range(A), repeat=horizon * S):
        taken = np.eye(A)[np.reshape(choice, (horizon, S))]
        logp = np.where(taken > 0, 0.0, -1e9)
        visits = oracle.occupancy(mdp, logp)
        best = max(best, (visits * each).sum())
    assert float(mdp.start @ plan.value[0]) == pytest.approx(best, rel=1e-12)
    soft = finite_horizon(mdp, reward, horizon=horizon, temperature=1e-3)
    np.testing.assert_allclose(soft.value, plan.value, atol=1e-2)
    np.testing.assert_allclose(jnp.exp(soft.logp), jnp.exp(plan.logp), atol=1e-6)


def test_ties_of_the_hard_policy_are_broken_at_random_and_forbidden_actions_never_taken():
    mdp = process("dense")
    plan = finite_horizon(mdp, jnp.zeros((S, A)), horizon=2, temperature=None)
    np.testing.assert_allclose(jnp.exp(plan.logp), 0.5)
    reward = jnp.zeros((S, A)).at[0, 1].set(-jnp.inf)
    for temperature in (None, 1.0):
        plan = finite_horizon(mdp, reward, horizon=2, temperature=temperature)
        assert np.isneginf(plan.logp[:, 0, 1]).all()
        np.testing.assert_array_equal(occupancy(mdp, plan.logp)[:, 0, 1], 0.0)
    value = lambda r: finite_horizon(mdp, reward.at[1:].set(r), horizon=3).value.sum()
    assert np.isfinite(jax.grad(value)(jnp.zeros((2, A)))).all()


@every_kind
def test_occupancies_are_those_of_all_trajectories(kind):
    mdp = process(kind)
    logp = np.asarray(finite_horizon(mdp, rewards(), horizon=H).logp)
    found = jax.jit(occupancy)(mdp, logp)
    np.testing.assert_allclose(found, oracle.occupancy(mdp, logp), rtol=1e-12)


@every_kind
def test_without_a_horizon_it_is_what_a_long_one_comes_to(kind):
    mdp, reward = process(kind), rewards()
    for temperature in (1.0, None):
        plan = jax.jit(infinite_horizon, static_argnames=("temperature", "tolerance"))(
            mdp, reward, temperature=temperature, tolerance=1e-12
        )
        long = finite_horizon(mdp, reward, horizon=200, temperature=temperature)
        np.testing.assert_allclose(plan.value, long.value[0], rtol=1e-10)
        again = infinite_horizon(
            mdp, reward, temperature=temperature, guess=plan.value + 0.1, max_iterations=5
        )
        np.testing.assert_allclose(again.value, plan.value, rtol=1e-8)
        np.testing.assert_allclose(jnp.exp(plan.logp), jnp.exp(long.logp[0]), rtol=1e-9)
        visits = occupancy(mdp, plan.logp)
        stationary = jnp.broadcast_to(plan.logp, (200, S, A))
        np.testing.assert_allclose(visits, occupancy(mdp, stationary).sum(0), rtol=1e-10)
        earned = float((jnp.where(visits > 0, visits * reward, 0.0)).sum())
        if temperature is None:
            assert float(mdp.start @ plan.value) == pytest.approx(earned, rel=1e-10)


@every_kind
def test_the_gradient_of_a_value_is_the_occupancy(kind):
    """Of p₀·V by the reward: the envelope theorem; by finite horizons and by the fixed point."""
    mdp = process(kind)
    short = lambda r: finite_horizon(mdp, r, horizon=H)
    solve = lambda r: infinite_horizon(mdp, r, tolerance=1e-12)

    @jax.jit
    def compared(r):
        of = lambda value: jax.grad(lambda r: mdp.start @ value(r))(r)
        visits = occupancy(mdp, short(r).logp).sum(0), occupancy(mdp, solve(r).logp)
        return (of(lambda r: short(r).value[0]), visits[0]), (
            of(lambda r: solve(r).value),
            visits[1],
        )

    for (slope, visits), rtol in zip(compared(rewards()), (1e-12, 1e-10), strict=True):
        np.testing.assert_allclose(slope, visits, rtol=rtol)


def test_the_implicit_gradient_of_a_policy_is_that_of_differences():
    mdp, reward = process("sparse"), np.asarray(rewards())
    of = lambda r: (infinite_horizon(mdp, r, tolerance=1e-12).logp * np.cos(reward)).sum()
    both, eps = jax.jit(jax.value_and_grad(of)), 1e-5
    slope = np.asarray(both(reward)[1])
    for at in product(range(S), range(A)):
        step = np.zeros((S, A))
        step[at] = eps
        (up, slope_up), (down, slope_down) = both(reward + step), both(reward - step)
        np.testing.assert_allclose(slope[at], (up - down) / (2 * eps), rtol=1e-6)
        if at == (0, 0):
            ahead = (slope_up - slope_down) / (2 * eps)
    again = jax.jit(jax.jacobian(jax.grad(of)))(reward)
    np.testing.assert_allclose(np.asarray(again)[0, 0], ahead, rtol=1e-5, atol=1e-8)


def test_what_does_not_come_to_rest_is_nan():
    mdp = replace(process("dense"), discount=jnp.ones((S, A)))
    plan = infinite_horizon(mdp, jnp.ones((S, A)), max_iterations=50)
    assert np.isnan(plan.value).all()


@every_kind
def test_flow_is_the_transpose_of_the_expectation(kind):
    mdp, rng = process(kind), np.random.default_rng(2)
    value, mass = rng.normal(size=S), rng.normal(size=(S, A))
    whole = np.asarray(mdp.discount)[..., None] * oracle.dense(mdp)
    np.testing.assert_allclose(expected_next(mdp, value), whole @ value, rtol=1e-12)
    np.testing.assert_allclose(flow(mdp, mass), np.einsum("sa,sat->t", mass, whole), rtol=1e-12)


def test_visits_of_demonstrations_are_counted_with_their_discounts():
    mdp = replace(process("dense"), discount=jnp.full((S, A), 0.5).at[1, 0].set(0.0))
    state, action = jnp.array([[0, 0, 1, 2], [2, 2, 0, 0]]), jnp.array([[1, 1, 0, 1], [0, 1, 0, 0]])
    mask = jnp.array([[True, True, True, True], [True, True, False, False]])
    absent = None
    batch = Trajectory(state, action, mask, absent, absent, absent)
    expected = np.zeros((4, S, A))
    for t, s, a, weight in (
        (0, 0, 1, 1.0), (1, 0, 1, 0.5), (2, 1, 0, 0.25), (3, 2, 1, 0.0), (0, 2, 0, 1.0),
        (1, 2, 1, 0.5),
    ):  # fmt: skip
        expected[t, s, a] += weight / 2
    np.testing.assert_allclose(empirical_occupancy(mdp, batch), expected)


def test_of_a_row_of_several_demonstrations_the_first_counts():
    mdp, absent = process("dense"), None
    state, action = jnp.array([[0, 1, 2, 0], [1, 0, 0, 2]]), jnp.zeros((2, 4), int)
    mask = jnp.array([[True, True, False, True], [True, False, True, True]])
    discount = jnp.where(mask, 0.8, 0.0)  # cut at columns 2 and 1
    batch = Trajectory(state, action, mask, absent, absent, absent, None, discount)
    first = jnp.array([[True, True, False, False], [True, False, False, False]])
    alone = Trajectory(state, action, first, absent, absent, absent)
    got, expected = empirical_occupancy(mdp, batch), empirical_occupancy(mdp, alone)
    assert float(got.sum()) == pytest.approx((1 + 0.8 + 1) / 2)
    np.testing.assert_allclose(got, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: finite_horizon(m, jnp.zeros((S, A + 1)), horizon=2), r"reward: expected shape"),
        (lambda m: finite_horizon(m, jnp.zeros((3, S, A)), horizon=2), r"reward: expected shape"),
        (lambda m: finite_horizon(m, jnp.zeros((S, A)), horizon=0), "horizon"),
        (lambda m: finite_horizon(m, jnp.zeros((S, A)), horizon=2, temperature=0.0), "temperature"),
        (lambda m: infinite_horizon(m, jnp.zeros((S, A)), tolerance=0.0), "tolerance"),
        (lambda m: occupancy(m, jnp.zeros((S, A), int)), "logp: expected a floating dtype"),
        (
            lambda m: occupancy(replace(m, prob=m.prob[..., :2]), jnp.zeros((S, A))),
            r"mdp\.prob: expected shape \[3, 2, 3\] without successors",
        ),
        (lambda m: occupancy(replace(m, start=m.start[:2]), jnp.zeros((S, A))), r"mdp\.start"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call(process("dense"))

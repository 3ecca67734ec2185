"""Unrolls against episodes replayed one step after the other."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import empirical_occupancy, finite_horizon, occupancy
from irl_jax.envs.control import mountain_car
from irl_jax.envs.environment import Environment, Step, fixed_horizon
from irl_jax.envs.exploration import deep_sea
from irl_jax.envs.tabular import as_environment, gridworld, random_mdp
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError

LIMIT, B, T = 4, 6, 40


def counting() -> Environment:
    """Episodes of 1 to 9 steps, drawn at their beginning, of which no more than 4 are taken."""
    reset = lambda key: jnp.stack([jax.random.randint(key, (), 1, 10), jnp.int32(0)])

    def step(state, action, key):
        length, done = state
        return Step(jnp.stack([length, done + 1]), 10.0 * length + action, done + 1 >= length)

    return Environment(reset, step, lambda s: s.astype(float), (2,), 3, LIMIT)


def uniform(actions):
    def act(observation, key):
        return jax.random.randint(key, (), 0, actions), -jnp.log(float(actions))

    return act


@jax.jit
def twice(key):
    """Two unrolls, the second goes on where the first stopped."""
    env, keys = counting(), jax.random.split(key, 3)
    running, parts = begin(env, keys[0], B), []
    for each in keys[1:]:
        running, *out = unroll(env, uniform(3), running, each, steps=T // 2, discount=0.9)
        parts.append(out)
    return parts


def test_a_row_is_its_episodes_one_after_the_other():
    (first, _), (second, _) = parts = twice(jax.random.key(0))
    names = ("context", "action", "mask", "reward", "discount")
    whole = {
        n: np.concatenate([getattr(first, n), getattr(second, n)], 1) for n in names
    }  # fmt: skip
    over, total, length = (
        np.concatenate([np.asarray(getattr(e, n)) for _, e in parts], 1)
        for n in ("over", "total", "length")
    )
    np.testing.assert_array_equal(first.final, second.context[:, 0])
    kinds = {"terminated": 0, "cut": 0}
    for row in range(B):
        column = 0
        while column < T:
            planned = int(whole["context"][row, column, 0])
            taken, earned = min(planned, LIMIT), 0.0
            for done in range(min(taken, T - column)):
                at = (row, column + done)
                assert whole["context"][at].tolist() == [planned, done] and whole["mask"][at]
                earned += 10.0 * planned + whole["action"][at]
                assert whole["reward"][at] == 10.0 * planned + whole["action"][at]
                ends = done + 1 == planned
                assert whole["discount"][at] == np.float32(0.0 if ends else 0.9)
                assert over[at] == (done + 1 == taken)
                if over[at]:
                    assert (total[at], length[at]) == (earned, taken)
            column += taken
            if planned > LIMIT and column < T:
                assert whole["context"][row, column].tolist() == [planned, LIMIT]
                for name in ("mask", "discount", "reward"):
                    assert whole[name][row, column] == 0
                assert not over[row, column]
                column += 1
            kinds["cut" if planned > LIMIT else "terminated"] += 1
    assert min(kinds.values()) > 10


def test_a_row_says_how_it_ends():
    ended = []
    for seed in range(4):
        for batch, _ in twice(jax.random.key(seed)):
            planned, done = np.asarray(batch.context[:, -1]).T
            going = np.asarray(batch.mask[:, -1])  # no column at which an episode was cut
            np.testing.assert_array_equal(batch.terminated, going & (done + 1 == planned))
            ended += batch.terminated.tolist()
    assert 5 < sum(ended) < len(ended) - 5


def test_seeds_are_rows_of_a_vmap_and_differ():
    keys = jax.random.split(jax.random.key(1), 3)
    many = jax.device_get(jax.jit(jax.vmap(twice))(keys))
    one = twice(keys[1])
    for got, want in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_array_equal(got[1], want)
    actions = np.asarray(many[0][0].action)
    assert len(np.unique(actions.reshape(3 * B, -1), axis=0)) == 3 * B


def test_a_car_is_stopped_where_gymnasium_stops_it():
    """200 steps, then the observation at which the episode was cut, then another beginning."""
    with jax.enable_x64(True):
        env, push = mountain_car(), lambda observation, key: (jnp.int32(2), jnp.zeros(()))
        running = begin(env, jax.random.key(0), 1)
        _, batch, episodes = jax.jit(
            lambda running: unroll(env, push, running, jax.random.key(1), steps=205, discount=1.0)
        )(running)
        theirs = gymnasium.make("MountainCar-v0")
        theirs.reset(seed=0)
        theirs.unwrapped.state = np.asarray(running.state[0])
        for t in range(200):
            seen, _, terminated, truncated, _ = theirs.step(2)
            np.testing.assert_allclose(batch.context[0, t + 1], seen, rtol=1e-5, atol=1e-6)
            assert (terminated, truncated) == (False, t == 199)
        assert np.flatnonzero(~np.asarray(batch.mask[0])).tolist() == [200]
        assert np.flatnonzero(episodes.over[0]).tolist() == [199]
        assert float(episodes.total[0, 199]) == -200.0
        assert abs(float(batch.context[0, 201, 0]) + 0.5) <= 0.1


def compared(mdp, rows, columns):
    """z-scores of sampled visits against exact ones, of a policy that is not uniform."""
    states, actions = mdp.discount.shape
    reward = np.random.default_rng(5).normal(size=(states, actions)).astype(np.float32)
    logp = jax.jit(lambda reward: finite_horizon(mdp, reward, horizon=3).logp[0])(reward)
    env = as_environment(mdp)

    def act(state, key):
        action = jax.random.categorical(key, logp[state])
        return action, logp[state, action]

    @jax.jit
    def sampled(key):
        first, second = jax.random.split(key)
        running = begin(env, first, rows)
        batch = unroll(env, act, running, second, steps=columns, discount=1.0)[1]
        return batch, empirical_occupancy(mdp, batch)

    batch, visits = jax.device_get(sampled(jax.random.key(6)))
    logp = np.asarray(logp)
    np.testing.assert_allclose(batch.logp, logp[batch.context, batch.action], rtol=1e-6)
    exact = np.asarray(jax.jit(occupancy)(mdp, np.broadcast_to(logp, (columns, *logp.shape))))
    scale = np.asarray(mdp.discount).max() ** np.arange(columns)[:, None, None]
    share = exact / scale  # of rows that are still going
    deviation = scale * np.sqrt(np.maximum(share * (1 - share), 1e-12) / rows)
    assert ((exact == 0) <= (visits == 0)).all()
    return np.where(exact > 0, (np.asarray(visits) - exact) / deviation, 0.0)


@pytest.mark.parametrize("kind", ["dense", "sparse", "grid"])
def test_sampled_visits_are_the_exact_ones_but_for_chance(kind):
    mdp = {
        "dense": lambda: random_mdp(jax.random.key(0), 4, 2, discount=0.9),
        "sparse": lambda: random_mdp(jax.random.key(1), 4, 3, discount=0.8, successors=2),
        "grid": lambda: gridworld(2, 3, discount=0.9, start=0, slip=0.3, terminal=[5]),
    }[kind]()
    z = compared(mdp, rows=4000, columns=6)
    assert np.abs(z).max() < 4.5
    assert 0.5 < z[z != 0].std() < 1.5


def test_a_treasure_is_found_by_going_right_all_the_way():
    """The optimal return is 0.99, whatever each action does in each cell; left earns nothing."""
    for key in (None, jax.random.key(3)):
        mdp, reward = deep_sea(5, discount=1.0, key=key)
        plan = finite_horizon(mdp, reward, horizon=5, temperature=None)
        assert float(plan.value[0, 0]) == pytest.approx(0.99, abs=1e-6)
        env = as_environment(mdp, reward, time_limit=50)
        reward = np.asarray(reward)
        right = np.append(reward[:24].argmin(-1), reward[24].argmax())
        for policy, wanted in ((right, 0.99), (1 - right, 0.0)):
            act = lambda state, key, policy=policy: (jnp.asarray(policy)[state], jnp.zeros(()))
            run = lambda first, second, env=env, act=act: unroll(
                env, act, begin(env, first, 2), second, steps=10, discount=1.0
            )
            _, batch, episodes = jax.device_get(jax.jit(run)(jax.random.key(0), jax.random.key(1)))
            assert np.flatnonzero(episodes.over[0]).tolist() == [4, 9] and batch.mask.all()
            np.testing.assert_allclose(episodes.total[:, 4], wanted, atol=1e-6)
    costly = np.asarray(deep_sea(5, discount=1.0, key=jax.random.key(3))[1]).argmin(-1)
    assert 4 < costly.reshape(5, 5)[:, :4].sum() < 16


def test_a_grid_of_fixed_horizon_waits_in_a_state_of_its_own():
    mdp = gridworld(1, 3, discount=0.9, start=0, terminal=[2])
    env = fixed_horizon(as_environment(mdp, jnp.ones((3, 4)), time_limit=6))
    right = lambda state, key: (jnp.int32(1), jnp.zeros(()))
    run = lambda first, second: unroll(
        env, right, begin(env, first, 1), second, steps=8, discount=0.9
    )
    _, batch, episodes = jax.device_get(jax.jit(run)(jax.random.key(0), jax.random.key(1)))
    assert env.observation == 4
    assert batch.context[0].tolist() == [0, 1, 2, 3, 3, 3, 3, 0]
    assert batch.reward[0].tolist() == [1, 1, 1, 0, 0, 0, 0, 1]
    assert batch.mask[0].tolist() == [True] * 6 + [False, True]
    np.testing.assert_allclose(batch.discount[0], [0.9] * 6 + [0.0, 0.9], rtol=1e-6)
    assert np.flatnonzero(episodes.over[0]).tolist() == [5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: begin(e, jax.random.key(0), 0), "environments"),
        (
            lambda e: unroll(e, None, begin(e, jax.random.key(0), 1), None, steps=0, discount=1.0),
            "steps",
        ),
        (lambda e: fixed_horizon(as_environment(deep_sea(2, discount=1.0)[0])), "time_limit"),
        (lambda e: as_environment(deep_sea(2, discount=1.0)[0], jnp.ones((2, 2))), "reward"),
        (lambda e: deep_sea(0, discount=1.0), "size"),
        (
            lambda e: fixed_horizon(
                Environment(e.reset, e.step, e.observe, (2, 2), e.action, time_limit=3)
            ),
            "observation: expected a vector or an index",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call(counting())
